"""Errors: each names the input, what was seen, and the remedy.

GradfitError(ValueError)
├── DataError      a file, a column, a row
├── FormulaError   the text of a formula, with the place
├── ShapeError     what a model returned against what was observed
├── OptionError    an argument or option
└── ModelError     a function that cannot be evaluated or differentiated here
"""


class GradfitError(ValueError):
    """One sentence that names the input and what was seen; `remedy` says what to do about it.

    Attributes
    ----------
    message : str
        The sentence.
    remedy : str
        What to change, empty when the message says it all.
    excerpt : str
        Lines that show the place (a formula with a caret, rows of a table), empty when there is none.
    """

    def __init__(self, message: str, *, remedy: str = "", excerpt: str = "") -> None:
        self.message = message
        self.remedy = remedy
        self.excerpt = excerpt
        super().__init__(message)

    def __str__(self) -> str:
        parts = [self.message, self.excerpt, self.remedy]
        return "\n".join(part for part in parts if part)


class DataError(GradfitError):
    """A file, a column or a row that cannot be used as it is."""


class FormulaError(GradfitError):
    """A formula that cannot be understood; the excerpt points at the place."""


class ShapeError(GradfitError):
    """A model whose result would broadcast against the data."""


class OptionError(GradfitError):
    """An argument or option with a value that makes no sense here."""


class ModelError(GradfitError):
    """A model that cannot be evaluated or differentiated at the point in question."""
