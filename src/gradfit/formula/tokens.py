"""The words of a formula: names, numbers, signs, and what people type instead of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NoReturn

from gradfit.errors import FormulaError
from gradfit.formula.expression import caret

LONGEST = 20_000  # characters of a formula

SLIPS: Mapping[str, str] = {  # what people write out of habit -> what is meant
    "ln": "log",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan": "atan",
    "arctan2": "atan2",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "heaviside": "step",
    "fabs": "abs",
    "minimum": "min",
    "maximum": "max",
    "Exp": "exp",
    "Log": "log",
    "Sqrt": "sqrt",
    "EXP": "exp",
    "LOG": "log",
    "SQRT": "sqrt",
    "gammaln": "lgamma",
    "sgn": "sign",
    "power": "pow",
}

_RAISED = "⁺⁻⁰¹²³⁴⁵⁶⁷⁸⁹"
_TOKEN = re.compile(
    rf"""(?P<space>\s+)
    |(?P<number>(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+(?![\w.]))?)
    |(?P<raised>[{_RAISED}]+)
    |(?P<name>[^\W\d{_RAISED}][^\W{_RAISED}]*)
    |(?P<quoted>\{{[^{{}}]*\}}|`[^`]*`)
    |(?P<text>"[^"]*"|'[^']*')
    |(?P<sign>\*\*|<=|>=|==|!=|<>|&&|\|\||[-+*/^<>=(),~!&|%.\[\]≤≥≠])""",
    re.VERBOSE,
)
_TYPED = str.maketrans("−–‐·×∙⋅∗÷∕", "---*****//")
_PLAIN_SIGNS = {"≤": "<=", "≥": ">=", "≠": "!="}
_FROM_RAISED = str.maketrans(_RAISED, "+-0123456789")
_INSTEAD = {
    "√": "Write sqrt(x)",
    ";": "One formula at a time; a comma separates the arguments of a function",
    ":": "A colon has no meaning here; names with signs in them stand in braces: {a:b}",
    '"': "A piece of text ends with the quotation mark that it begins with",
    "'": "A piece of text ends with the quotation mark that it begins with",
    "{": "A name in braces ends with }, as in {my column}",
    "`": "A name in backticks ends with one, as in `my column`",
}


@dataclass(frozen=True, slots=True)
class Token:
    """A word of a formula, and where it stands."""

    kind: str
    text: str
    start: int
    stop: int


def refuse(text: str, token: Token, remedy: str, what: str = "") -> NoReturn:
    """Raise the error that points at a word.

    Raises
    ------
    FormulaError
        Always.
    """
    message = (
        what
        or f"The formula {shown(text)} cannot be understood at {repr(token.text) if token.text else 'its end'}"
    )
    raise FormulaError(message, remedy=remedy, excerpt=caret(text, token.start, token.stop))


def shown(text: str) -> str:
    """Return a formula for a sentence, cut when it is long."""
    return repr(text if len(text) <= 60 else text[:57] + "...")


def tokens_of(text: str) -> list[Token]:
    """Return the words of a formula.

    Raises
    ------
    FormulaError
        If it is empty or too long, or holds a sign that no formula has.
    """
    if len(text) > LONGEST:
        raise FormulaError(f"A formula of {len(text)} characters is refused; at most {LONGEST} are read")
    plain = text.translate(_TYPED)  # one sign for one, so that places stay
    out: list[Token] = []
    at = 0
    while at < len(plain):
        match = _TOKEN.match(plain, at)
        if match is None:
            remedy = _INSTEAD.get(
                plain[at], "Names with blanks or signs in them stand in braces: {my column}"
            )
            refuse(text, Token("", text[at], at, at + 1), remedy)
        if match.lastgroup == "raised":
            out += _raised(text, match[0], at)
        elif match.lastgroup in ("quoted", "text"):
            out.append(Token(match.lastgroup, text[at : match.end()], at, match.end()))
        elif match.lastgroup != "space":
            out.append(Token(str(match.lastgroup), _PLAIN_SIGNS.get(match[0], match[0]), at, match.end()))
        at = match.end()
    if not out:
        raise FormulaError("The formula is empty", remedy='Write one such as "y = a*x + b"')
    return out


def _raised(text: str, digits: str, at: int) -> list[Token]:
    """Return x² and x⁻¹ as the powers that they are."""
    number = digits.translate(_FROM_RAISED)
    stop = at + len(digits)
    if re.fullmatch(r"[+-]?[0-9]+", number) is None:
        refuse(text, Token("", digits, at, stop), "Write the power out, as in x**2")
    sign = [Token("sign", number[0], at, at + 1)] if number[0] in "+-" else []
    return [Token("sign", "**", at, stop), *sign, Token("number", number.lstrip("+-"), at, stop)]
