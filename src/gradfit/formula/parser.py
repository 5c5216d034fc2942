"""From the words of a formula to its operations: precedence climbing, with a sentence for every slip."""

import difflib
import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NoReturn

from gradfit.formula.expression import Expression, Formula, Node, Span, operands
from gradfit.formula.tokens import SLIPS, Token, refuse, shown, tokens_of

DEEPEST = 40  # brackets inside brackets

_OF_ONE = (
    "exp log log10 log2 log1p expm1 sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh abs erf erfc "
    "lgamma gamma step sign floor ceil"
)
#: operation -> number of arguments; min and max take two or more
FUNCTIONS: Mapping[str, int] = {
    **dict.fromkeys(_OF_ONE.split(), 1),
    **dict.fromkeys(["atan2", "pow", "min", "max"], 2),
    **dict.fromkeys(["where", "voigt"], 3),
}
#: functions whose names people also give to parameters; without a bracket they are names
_ALSO_NAMES = frozenset(
    ["gamma", "lgamma", "step", "sign", "floor", "ceil", "min", "max", "where", "voigt", "power"]
)

_COMPARISONS = {"<": "lt", "<=": "le", ">": "gt", ">=": "ge", "==": "eq", "!=": "ne", "<>": "ne"}
_WORDS = frozenset(["and", "or", "not", "if", "else", "in", "for"])
_BINARY: Sequence[Mapping[str, str]] = ({"+": "add", "-": "sub"}, {"*": "mul", "/": "div"})
_REFUSED = {
    "[": "Square brackets have no meaning in a formula; every name stands for a whole column or one parameter",
    "]": "Square brackets have no meaning in a formula; every name stands for a whole column or one parameter",
    ".": "A dot has no meaning here: write exp(x), not np.exp(x), and a decimal point inside a number only",
    ",": "A comma separates the arguments of a function; the decimal mark is a point",
    "%": "% has no meaning here; for a remainder write x - m*floor(x/m)",
    "!": 'For "not" write not; for a factorial write gamma(n + 1)',
    "|": "For the absolute value write abs(x)",
    ")": "This bracket closes nothing",
}


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
    tokens = tokens_of(text)
    equals = [i for i, token in enumerate(tokens) if token.text == "="]
    for token in tokens:
        if token.text == "~":
            refuse(text, token, 'Write "=" instead of "~", and name every parameter, as in y = a*x + b')
    if len(equals) > 1:
        refuse(text, tokens[equals[1]], 'A formula has one "="; for "is equal" inside it write ==')
    if not equals:
        right = _Parser(text, tokens).whole()
        if right.nodes[-1][0] == "eq":
            twice = next(token for token in tokens if token.text == "==")
            refuse(text, twice, "Between the response and the model stands one =, as in y = a*x + b")
        return Formula(text, None, right)
    left, right = tokens[: equals[0]], tokens[equals[0] + 1 :]
    if not left or not right:
        refuse(text, tokens[equals[0]], f"Nothing stands {'before' if not left else 'after'} the =")
    return Formula(text, _left(text, left), _Parser(text, right).whole())


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
    tokens = tokens_of(text)
    for token in tokens:
        if token.text in ("=", "~"):
            refuse(text, token, 'For "is equal" write ==')
    return _Parser(text, tokens).whole()


def _left(text: str, tokens: list[Token]) -> Expression:
    """Return a left side; y(x), as a function's value is written, is y."""
    kinds = [token.kind for token in tokens]
    texts = [token.text for token in tokens]
    inside = tokens[2:-1]
    plain = kinds[0] in ("name", "quoted") and texts[1:2] == ["("] and texts[-1] == ")"
    listed = all(t.text == "," if i % 2 else t.kind in ("name", "quoted") for i, t in enumerate(inside))
    if plain and inside and listed and texts[0] not in FUNCTIONS and texts[0] not in SLIPS:
        return _Parser(text, tokens[:1]).whole(f"{''.join(texts)} was read as {texts[0]}")
    return _Parser(text, tokens).whole()


class _Parser:
    """Precedence climbing over the tokens; nodes are appended as they are understood."""

    def __init__(self, text: str, tokens: list[Token]) -> None:
        self.text: str = text
        self.tokens: list[Token] = tokens
        self.at: int = 0
        self.depth: int = 0
        self.nodes: list[Node] = []
        self.spans: list[Span] = []
        self.notes: list[str] = []
        self.index: dict[Node, int] = {}

    def whole(self, *notes: str) -> Expression:
        last = self.alternatives()
        if self.at < len(self.tokens):
            self.unexpected(self.take())
        if last != len(self.nodes) - 1:  # a lone name or number that is an older node
            self.nodes.append(("pos", last))
            self.spans.append(self.spans[last])
        self.text_is_compared(last)
        told = tuple(dict.fromkeys((*notes, *self.notes)))
        return Expression(self.text, tuple(self.nodes), tuple(self.spans), told)

    def text_is_compared(self, last: int) -> None:
        """Refuse a piece of text that is anything else than compared with a column."""
        for i, node in enumerate(self.nodes):
            kinds = [self.nodes[j][0] for j in operands(node)]
            compared = node[0] in ("eq", "ne") and "name" in kinds
            if i == last and node[0] == "text":
                kinds = ["text"]
            if "text" in kinds and not compared:
                token = Token("text", self.text[slice(*self.spans[i])], *self.spans[i])
                remedy = 'Write a column, == or !=, and the text: state == "treated"'
                refuse(
                    self.text,
                    token,
                    remedy,
                    f"A piece of text is not compared with a column in {shown(self.text)}",
                )

    def peek(self) -> Token:
        end = len(self.text)
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "", end, end + 1)

    def take(self) -> Token:
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

    def since(self, start: int) -> Span:
        """Return the span from a place to the end of the token that was taken last."""
        return start, self.tokens[self.at - 1].stop

    def alternatives(self) -> int:
        start = self.peek().start
        left = self.both()
        while self.peek().text in ("or", "|", "||"):
            self.take()
            right = self.both()
            left = self.put(self.since(start), "or", left, right)
        return left

    def both(self) -> int:
        start = self.peek().start
        left = self.negation()
        while self.peek().text in ("and", "&", "&&"):
            self.take()
            right = self.negation()
            left = self.put(self.since(start), "and", left, right)
        return left

    def negation(self) -> int:
        if self.peek().text in ("not", "!"):
            self.deeper(self.peek())
            token = self.take()
            inner = self.negation()
            self.depth -= 1
            return self.put(self.since(token.start), "not", inner)
        return self.comparison()

    def comparison(self) -> int:
        start = self.peek().start
        left = self.binary(0)
        out = -1
        while self.peek().text in _COMPARISONS:
            sign = _COMPARISONS[self.take().text]
            right = self.binary(0)
            one = self.put(self.since(start), sign, left, right)
            out = one if out < 0 else self.put(self.since(start), "and", out, one)  # 0 < x < 5
            left = right
        return left if out < 0 else out

    def binary(self, level: int) -> int:
        if level == len(_BINARY):
            return self.unary()
        start = self.peek().start
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
            left = self.put(self.since(start), name, left, right)

    def is_product(self, token: Token) -> bool:
        """Return whether a number stands right before a name or bracket: 2x, 2(x + 1)."""
        before = self.tokens[self.at - 1]
        if before.kind != "number" or not (token.kind in ("name", "quoted") or token.text == "("):
            return False
        if token.text in _WORDS:
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
        return inner if token.text == "+" else self.put(self.since(token.start), "neg", inner)

    def power(self) -> int:
        start = self.peek().start
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
        return self.put(self.since(start), "pow", base, exponent)

    def atom(self) -> int:
        token = self.take()
        span = (token.start, token.stop)
        if token.kind == "number":
            return self.put(span, "const", self.number(token))
        if token.kind == "text":
            return self.put(span, "text", token.text[1:-1])
        if token.kind == "quoted":
            return self.put(span, "name", self.quoted(token))
        if token.kind == "name":
            return self.call(token) if self.peek().text == "(" else self.name(token)
        return self.bracket(token) if token.text == "(" else self.unexpected(token)

    def number(self, token: Token) -> float:
        number = float(token.text)
        nothing = number == 0 and any(digit in "123456789" for digit in token.text.lower().split("e")[0])
        if math.isinf(number) or nothing:
            what = f"{token.text} is too {'small' if nothing else 'large'} for a number of 64 bits"
            refuse(self.text, token, "They reach from 1e-308 to 1e308", what)
        return number

    def quoted(self, token: Token) -> str:
        name = token.text[1:-1].strip()
        if not name:
            refuse(
                self.text,
                token,
                "Write the name of a column, as in {my column}",
                "No name stands in the braces",
            )
        return name

    def name(self, token: Token) -> int:
        if token.text in _WORDS:
            self.unexpected(token)
        if SLIPS.get(token.text, token.text) in FUNCTIONS and token.text not in _ALSO_NAMES:
            what = f"{token.text} is a function here and stands without its argument in {shown(self.text)}"
            refuse(self.text, token, f"Write {token.text}(...), or give the parameter another name", what)
        return self.put((token.start, token.stop), "name", "pi" if token.text == "π" else token.text)

    def bracket(self, token: Token) -> int:
        self.deeper(token)
        inner = self.alternatives()
        self.closed(token, "A bracket")
        self.depth -= 1
        return inner

    def closed(self, opening: Token, what: str) -> Token:
        closing = self.take()
        if closing.kind == "end":
            refuse(self.text, opening, "Close it with )", f"{what} is not closed in {shown(self.text)}")
        if closing.text != ")":
            self.unexpected(closing)
        return closing

    def call(self, token: Token) -> int:
        name = SLIPS.get(token.text, token.text)
        if name != token.text:
            self.notes.append(f"{token.text} was read as {name}")
        if name not in FUNCTIONS:
            self.unknown_function(token)
        self.deeper(token)
        self.take()
        arguments: list[int] = [] if self.peek().text == ")" else [self.alternatives()]
        while self.peek().text == ",":
            self.take()
            arguments.append(self.alternatives())
        closing = self.closed(token, f"The bracket of {token.text}(")
        self.depth -= 1
        return self.applied(name, arguments, (token.start, closing.stop))

    def applied(self, name: str, arguments: list[int], span: Span) -> int:
        wanted = FUNCTIONS[name]
        if name in ("min", "max") and len(arguments) >= 2:
            out = arguments[0]
            for other in arguments[1:]:
                out = self.put(span, name, out, other)
            return out
        if len(arguments) != wanted:
            given = f"{len(arguments)} {'stands' if len(arguments) == 1 else 'stand'}"
            what = f"{name} takes {wanted} argument{'s' * (wanted > 1)}, and {given} in {shown(self.text)}"
            refuse(self.text, Token("", "", *span), "", what)
        return self.put(span, name, *arguments)

    def unknown_function(self, token: Token) -> NoReturn:
        near = difflib.get_close_matches(token.text, [*FUNCTIONS, *SLIPS], 1)
        hint = f"Did you mean {near[0]}(...)? " if near else ""
        remedy = f"{hint}For a product write {token.text}*(...). Functions: {', '.join(FUNCTIONS)}"
        what = f"{token.text} is not a function that formulas know, in {shown(self.text)}"
        refuse(self.text, token, remedy, what)

    def deeper(self, token: Token) -> None:
        self.depth += 1
        if self.depth > DEEPEST:
            what = f"The formula nests more than {DEEPEST} brackets or signs"
            refuse(self.text, token, "Write it with fewer levels", what)

    def unexpected(self, token: Token) -> NoReturn:
        """Refuse the token that was taken last."""
        before = self.tokens[self.at - 2] if 2 <= self.at <= len(self.tokens) else None
        remedy = _REFUSED.get(token.text, "")
        if token.kind == "end":
            remedy = "Something is missing at the end"
        elif token.kind in ("name", "number", "quoted", "text") or token.text == "(":
            remedy = "Between two names or numbers write the operation, as in a*x"
        elif not remedy and before is not None and before.kind == "sign":
            remedy = f"Two signs stand side by side: {before.text} {token.text}"
        refuse(self.text, token, remedy)
