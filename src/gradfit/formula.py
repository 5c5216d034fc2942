"""Formulas: "t_c = w*t_u + b" becomes a list of operations from a fixed table; nothing is ever evaluated as code."""

import difflib
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special
from gradfit.errors import FormulaError

Node = tuple[object, ...]  # ("const", v) | ("name", "x") | ("text", "treated") | (operation, id, ...)
Span = tuple[int, int]

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}
LONGEST = 20_000  # characters of a formula
DEEPEST = 40  # brackets inside brackets

#: operation -> number of arguments; min and max take two or more
FUNCTIONS: Mapping[str, int] = {
    **dict.fromkeys(
        "exp log log10 log2 log1p expm1 sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh abs erf erfc "
        "lgamma gamma step sign floor ceil".split(),
        1,
    ),
    **dict.fromkeys(["atan2", "min", "max"], 2),
    **dict.fromkeys(["where", "voigt"], 3),
}
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
}

#: functions whose names people also give to parameters; without a bracket they are names
_ALSO_NAMES = frozenset("gamma lgamma step sign floor ceil min max where voigt".split())

_TOKEN = re.compile(
    r"""(?P<space>\s+)
    |(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+(?![\w.]))?)
    |(?P<name>[^\W\d]\w*)
    |(?P<quoted>\{[^{}]*\}|`[^`]*`)
    |(?P<text>"[^"]*"|'[^']*')
    |(?P<sign>\*\*|<=|>=|==|!=|<>|&&|\|\||[-+*/^<>=(),~!&|%.\[\]])""",
    re.VERBOSE,
)
_TYPED = str.maketrans({"−": "-", "–": "-", "·": "*", "×": "*", "÷": "/", "≤": "<", "≥": ">"})
_COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne", "<>": "ne"}


@dataclass(frozen=True)
class Expression:
    """An expression as a list of operations; the last node is its value.

    Attributes
    ----------
    text : str
        As it was written.
    nodes : tuple of Node
        Leaves and operations; the ids in an operation point backwards.
    spans : tuple of (int, int)
        Where in the text each node stands, for messages.
    notes : tuple of str
        What was understood although it was written otherwise ("^ was read as **").
    """

    text: str
    nodes: tuple[Node, ...]
    spans: tuple[Span, ...]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names in the order in which they first appear; pi and e among them."""
        return tuple(dict.fromkeys(str(node[1]) for node in self.nodes if node[0] == "name"))

    def evaluate(self, values: Mapping[str, object]) -> NDArray[np.float64]:
        """Return the expression's value with NumPy; names that are not in `values` must be constants.

        Raises
        ------
        FormulaError
            If a name is in neither, with the nearest one that is.
        """
        out: list[object] = []
        for node, span in zip(self.nodes, self.spans, strict=True):
            if node[0] in ("const", "text"):
                out.append(node[1])
            elif node[0] == "name":
                out.append(self._look_up(str(node[1]), values, span))
            else:
                out.append(_numpy_operation(str(node[0]))(*(out[i] for i in node[1:])))  # pyright: ignore[reportArgumentType, reportCallIssue]  # ids
        return out[-1]  # pyright: ignore[reportReturnType]  # an array or a number, as the names are

    def first_failure(self, values: Mapping[str, float]) -> str:
        """Return what first goes wrong at one point, such as "log(-0.3)", or nothing when all is finite.

        Examples
        --------
        >>> parse_expression("a*log(x - 1)").first_failure({"a": 2.0, "x": 0.7})
        'log(-0.3) is not a number'
        """
        out: list[object] = []
        for node, span in zip(self.nodes, self.spans, strict=True):
            if node[0] in ("const", "text"):
                out.append(node[1])
            elif node[0] == "name":
                out.append(self._look_up(str(node[1]), values, span))
            else:
                taken = [out[i] for i in node[1:]]  # pyright: ignore[reportArgumentType, reportCallIssue]  # ids
                with np.errstate(all="ignore"):
                    out.append(_numpy_operation(str(node[0]))(*taken))
                if not np.all(np.isfinite(np.asarray(out[-1], dtype=float))):
                    numbers = ", ".join(f"{float(t):.4g}" for t in taken)  # pyright: ignore[reportArgumentType]  # numbers
                    what = "is not a number" if np.isnan(np.asarray(out[-1], dtype=float)) else "overflows"
                    return f"{node[0]}({numbers}) {what}"
        return ""

    def _look_up(self, name: str, values: Mapping[str, object], span: Span) -> object:
        if name in values:
            return values[name]
        if name in CONSTANTS:
            return CONSTANTS[name]
        near = difflib.get_close_matches(name, list(values), 1)
        raise FormulaError(
            f"{self.text!r} uses {name}, which is not among {', '.join(values) or 'the columns'}."
            + (f" Did you mean {near[0]}?" if near else ""),
            excerpt=caret(self.text, *span),
        )


@dataclass(frozen=True)
class Formula:
    """A left side, which is a column or a function of one, and a right side, which is the model.

    `left` is None when the text has no "=": the response is then found from the data, or named by the caller.
    """

    text: str
    left: Expression | None
    right: Expression

    @property
    def notes(self) -> tuple[str, ...]:
        """What was understood although it was written otherwise."""
        return tuple(dict.fromkeys((self.left.notes if self.left else ()) + self.right.notes))


def caret(text: str, start: int, stop: int) -> str:
    """Return the text with a line under it that points at the place; long texts are cut around it."""
    if len(text) > 100:
        first = max(0, start - 40)
        text, start, stop = text[first : first + 100], start - first, stop - first
    return f"{text}\n{' ' * start}{'^' * max(1, min(stop, len(text) + 1) - start)}"


@lru_cache(maxsize=4096)
def parse(text: str) -> Formula:
    """Return the formula that `text` writes: "y = a*exp(-b*x) + c".

    Raises
    ------
    FormulaError
        If it cannot be understood; the excerpt points at the place and the remedy says what to write.

    Examples
    --------
    >>> parse("t_c = w*t_u + b").right.names
    ('w', 't_u', 'b')
    >>> parse("y = 2x^2").notes
    ('2x was read as 2*x', '^ was read as **, a power')
    """
    tokens = _tokens(text)
    equals = [i for i, token in enumerate(tokens) if token.text == "="]
    tildes = [token for token in tokens if token.text == "~"]
    if tildes:
        raise _error(text, tildes[0], 'Write "=" instead of "~", and name every parameter, as in y = a*x + b')
    if len(equals) > 1:
        raise _error(text, tokens[equals[1]], 'A formula has one "="; for "is equal" inside it write ==')
    if not equals:
        return Formula(text, None, _Parser(text, tokens).whole())
    left, right = tokens[: equals[0]], tokens[equals[0] + 1 :]
    if not left or not right:
        raise _error(text, tokens[equals[0]], f"Nothing stands {'before' if not left else 'after'} the =")
    return Formula(text, _Parser(text, left).whole(), _Parser(text, right).whole())


@lru_cache(maxsize=4096)
def parse_expression(text: str) -> Expression:
    """Return an expression without "=": a weight such as "1/y**2" or a row filter such as 'dose > 0'.

    Raises
    ------
    FormulaError
        If it cannot be understood.

    Examples
    --------
    >>> float(parse_expression("1/y**2").evaluate({"y": 2.0}))
    0.25
    """
    tokens = _tokens(text)
    for token in tokens:
        if token.text in ("=", "~"):
            raise _error(text, token, 'For "is equal" write ==')
    return _Parser(text, tokens).whole()


@dataclass(frozen=True, slots=True)
class _Token:
    kind: str
    text: str
    start: int
    stop: int


def _error(text: str, token: _Token, remedy: str, what: str = "") -> FormulaError:
    message = what or f"The formula {_shown(text)} cannot be understood at {token.text or 'its end'!r}"
    return FormulaError(message, remedy=remedy, excerpt=caret(text, token.start, token.stop))


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def _tokens(text: str) -> list[_Token]:
    if len(text) > LONGEST:
        raise FormulaError(f"A formula of {len(text)} characters is refused; at most {LONGEST} are read")
    plain = text.translate(_TYPED).replace("²", "\x02").replace("³", "\x03")
    out: list[_Token] = []
    at = 0
    while at < len(plain):
        if plain[at] in "\x02\x03":
            out += [_Token("sign", "**", at, at + 1), _Token("number", "2" if plain[at] == "\x02" else "3", at, at + 1)]
            at += 1
            continue
        match = _TOKEN.match(plain, at)
        if match is None:
            remedy = "Names with blanks or signs in them stand in braces: {my column}"
            raise _error(text, _Token("", text[at], at, at + 1), remedy)
        if match.lastgroup != "space":
            out.append(_Token(str(match.lastgroup), match[0], at, match.end()))
        at = match.end()
    if not out:
        raise FormulaError("The formula is empty", remedy='Write one such as "y = a*x + b"')
    return out


_BINARY: Sequence[Mapping[str, str]] = ({"+": "add", "-": "sub"}, {"*": "mul", "/": "div"})
_REFUSED = {
    "[": "Square brackets have no meaning in a formula; every name stands for a whole column or one parameter",
    "]": "Square brackets have no meaning in a formula; every name stands for a whole column or one parameter",
    ".": "A dot has no meaning here: write exp(x), not np.exp(x), and a decimal point inside a number only",
    ",": "A comma separates the arguments of a function; the decimal mark is a point",
    "%": "% has no meaning here; for a remainder write x - m*floor(x/m)",
    "!": 'For "not" write not; for a factorial write gamma(n + 1)',
    ")": "This bracket closes nothing",
}


class _Parser:
    """Precedence climbing over the tokens; nodes are appended as they are understood."""

    def __init__(self, text: str, tokens: list[_Token]) -> None:
        self.text, self.tokens, self.at, self.depth = text, tokens, 0, 0
        self.nodes: list[Node] = []
        self.spans: list[Span] = []
        self.notes: list[str] = []
        self.index: dict[Node, int] = {}

    def whole(self) -> Expression:
        last = self.alternatives()
        if self.at < len(self.tokens):
            raise self.unexpected(self.tokens[self.at])
        nodes = list(self.nodes)
        if last != len(nodes) - 1:  # a lone name or number that is an older node
            nodes.append(("pos", last))
            self.spans.append(self.spans[last])
        return Expression(self.text, tuple(nodes), tuple(self.spans), tuple(dict.fromkeys(self.notes)))

    def peek(self) -> _Token:
        end = len(self.text)
        return self.tokens[self.at] if self.at < len(self.tokens) else _Token("end", "", end, end + 1)

    def take(self) -> _Token:
        token = self.peek()
        self.at += 1
        return token

    def put(self, span: Span, *node: object) -> int:
        key = node if node[0] != "const" else ("const", repr(node[1]))
        if key not in self.index:
            self.index[key] = len(self.nodes)
            self.nodes.append(node)
            self.spans.append(span)
        return self.index[key]

    def joined(self, first: int, last: int) -> Span:
        return (self.spans[first][0], self.spans[last][1])

    def alternatives(self) -> int:
        left = self.both()
        while self.peek().text in ("or", "|", "||"):
            self.take()
            right = self.both()
            left = self.put(self.joined(left, right), "or", left, right)
        return left

    def both(self) -> int:
        left = self.negation()
        while self.peek().text in ("and", "&", "&&"):
            self.take()
            right = self.negation()
            left = self.put(self.joined(left, right), "and", left, right)
        return left

    def negation(self) -> int:
        if self.peek().text in ("not", "!"):
            self.deeper(self.peek())
            token = self.take()
            inner = self.negation()
            self.depth -= 1
            return self.put((token.start, token.stop), "not", inner)
        return self.comparison()

    def comparison(self) -> int:
        left = self.binary(0)
        out = -1
        while self.peek().text in _COMPARISONS:
            sign = _COMPARISONS[self.take().text]
            right = self.binary(0)
            one = self.put(self.joined(left, right), sign, left, right)
            out = one if out < 0 else self.put(self.joined(out, one), "and", out, one)  # 0 < x < 5
            left = right
        return left if out < 0 else out

    def binary(self, level: int) -> int:
        if level == len(_BINARY):
            return self.unary()
        left = self.binary(level + 1)
        while True:
            token = self.peek()
            if token.text in _BINARY[level]:
                self.take()
                name = _BINARY[level][token.text]
            elif level == 1 and self.is_product(token):
                name = "mul"
            else:
                return left
            right = self.binary(level + 1)
            left = self.put(self.joined(left, right), name, left, right)

    def is_product(self, token: _Token) -> bool:
        """Whether a number stands right before a name or bracket: 2x, 2(x + 1)."""
        before = self.tokens[self.at - 1]
        if before.kind != "number" or not (token.kind in ("name", "quoted") or token.text == "("):
            return False
        if token.text in ("and", "or", "not"):
            return False
        self.notes.append(f"{before.text}{token.text} was read as {before.text}*{token.text}")
        return True

    def unary(self) -> int:
        token = self.peek()
        if token.text not in ("-", "+"):
            return self.power()
        self.deeper(token)
        self.take()
        inner = self.unary()
        self.depth -= 1
        return inner if token.text == "+" else self.put((token.start, self.spans[inner][1]), "neg", inner)

    def power(self) -> int:
        base = self.atom()
        token = self.peek()
        if token.text not in ("**", "^"):
            return base
        if token.text == "^":
            self.notes.append("^ was read as **, a power")
        self.deeper(token)
        self.take()
        exponent = self.unary()  # right to left: a**b**c is a**(b**c); and 2**-x
        self.depth -= 1
        return self.put(self.joined(base, exponent), "pow", base, exponent)

    def atom(self) -> int:
        token = self.take()
        span = (token.start, token.stop)
        if token.kind == "number":
            return self.put(span, "const", float(token.text))
        if token.kind == "text":
            return self.put(span, "text", token.text[1:-1])
        if token.kind == "quoted":
            return self.put(span, "name", token.text[1:-1].strip())
        if token.kind == "name":
            return self.call(token) if self.peek().text == "(" else self.name(token)
        if token.text == "(":
            return self.bracket(token)
        raise self.unexpected(token)

    def name(self, token: _Token) -> int:
        name = SLIPS.get(token.text, token.text)
        if name in ("and", "or", "not", "if", "else", "in", "lambda", "for") and name != "lambda":
            raise self.unexpected(token)
        if name in FUNCTIONS and name not in _ALSO_NAMES:
            what = f"{token.text} is a function here and stands without its argument in {_shown(self.text)}"
            remedy = f"Write {token.text}(...), or give the parameter another name"
            raise _error(self.text, token, remedy, what)
        return self.put((token.start, token.stop), "name", token.text)

    def bracket(self, token: _Token) -> int:
        self.deeper(token)
        inner = self.alternatives()
        closing = self.take()
        if closing.text != ")":
            if closing.kind == "end":
                raise _error(self.text, token, "Close it with )", f"A bracket is not closed in {_shown(self.text)}")
            raise self.unexpected(closing)
        self.depth -= 1
        return inner

    def call(self, token: _Token) -> int:
        name = SLIPS.get(token.text, token.text)
        if name != token.text:
            self.notes.append(f"{token.text} was read as {name}")
        if name not in FUNCTIONS:
            raise self.unknown_function(token)
        self.deeper(token)
        self.take()
        arguments: list[int] = [] if self.peek().text == ")" else [self.alternatives()]
        while self.peek().text == ",":
            self.take()
            arguments.append(self.alternatives())
        closing = self.take()
        if closing.text != ")":
            what = f"The bracket of {token.text}( is not closed in {_shown(self.text)}"
            raise (_error(self.text, token, "Close it with )", what) if closing.kind == "end" else self.unexpected(closing))
        self.depth -= 1
        return self.applied(token, name, arguments, closing)

    def applied(self, token: _Token, name: str, arguments: list[int], closing: _Token) -> int:
        wanted = FUNCTIONS[name]
        span = (token.start, closing.stop)
        if name in ("min", "max") and len(arguments) >= 2:
            out = arguments[0]
            for other in arguments[1:]:
                out = self.put(span, name, out, other)
            return out
        if len(arguments) != wanted:
            what = f"{name} takes {wanted} argument{'s' * (wanted > 1)}, and {len(arguments)} stand in {_shown(self.text)}"
            raise _error(self.text, _Token("", "", *span), "", what)
        return self.put(span, name, *arguments)

    def unknown_function(self, token: _Token) -> FormulaError:
        near = difflib.get_close_matches(token.text, [*FUNCTIONS, *SLIPS], 1)
        hint = f"Did you mean {near[0]}(...)? " if near else ""
        return _error(
            self.text,
            token,
            f"{hint}For a product write {token.text}*(...). Functions: {', '.join(FUNCTIONS)}",
            f"{token.text} is not a function that formulas know, in {_shown(self.text)}",
        )

    def deeper(self, token: _Token) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            what = f"The formula nests more than {DEEPEST} brackets or signs"
            raise _error(self.text, token, "Write it with fewer levels", what)

    def unexpected(self, token: _Token) -> FormulaError:
        before = self.tokens[self.at - 2] if self.at >= 2 and self.at <= len(self.tokens) + 1 else None
        remedy = _REFUSED.get(token.text, "")
        if token.kind == "end":
            remedy = "Something is missing at the end"
        elif token.kind in ("name", "number", "quoted") or token.text == "(":
            remedy = "Between two names or numbers write the operation, as in a*x"
        elif not remedy and before is not None and before.kind == "sign":
            remedy = f"Two signs stand side by side: {before.text} {token.text}"
        return _error(self.text, token, remedy)


def _numpy_operation(name: str) -> Callable[..., object]:
    plain = _NUMPY.get(name)
    return plain if plain is not None else getattr(special, _SPECIAL[name])


def _equal(a: object, b: object) -> object:
    return np.asarray(a) == np.asarray(b)


def _voigt(x: object, sigma: object, gamma: object) -> object:
    return special.voigt_profile(x, np.abs(sigma), np.abs(gamma))  # pyright: ignore[reportArgumentType, reportCallIssue]  # numbers


_NUMPY: Mapping[str, Callable[..., object]] = {
    "pos": lambda a: a,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "pow": lambda a, b: np.power(np.asarray(a, float), b),
    "neg": np.negative,
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
    "where": np.where,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": _equal,
    "ne": lambda a, b: np.logical_not(_equal(a, b)),
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "step": lambda x: np.where(np.asarray(x) >= 0, 1.0, 0.0),
    "voigt": _voigt,
    **{
        name: getattr(np, name)
        for name in "exp log log10 log2 log1p expm1 sqrt sin cos tan sinh cosh tanh sign floor ceil".split()
    },
}
_SPECIAL = {"erf": "erf", "erfc": "erfc", "lgamma": "gammaln", "gamma": "gamma"}
