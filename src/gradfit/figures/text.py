"""Names, numbers and formulas as matplotlib sets them: symbols in italics with subscripts, powers raised."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace

from gradfit.errors import FormulaError
from gradfit.formula import Expression, parse
from gradfit.notation import MINUS, THIN

_GREEK = "alpha|beta|gamma|delta|epsilon|zeta|eta|theta|kappa|lambda|mu|nu|xi|rho|sigma|tau|phi|chi|psi|omega"
_SYMBOL = re.compile(rf"(?P<base>[A-Za-z]|{_GREEK})(?:_(?P<tail>[A-Za-z0-9]{{1,8}})|(?P<digits>\d{{1,2}}))?")
_POWER = re.compile("10(?P<raised>[⁻⁰¹²³⁴⁵⁶⁷⁸⁹]+)")
_RAISED = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")
_WORD = re.compile(r"[\w ]+")
_LOW, _BLANK = r"\_", r"\ "
_SUM, _PRODUCT, _POW, _ATOM = 1, 2, 3, 4
_INFIX = {
    "lt": "<",
    "le": r"\leq",
    "gt": ">",
    "ge": r"\geq",
    "eq": "=",
    "ne": r"\neq",
    "and": "and",
    "or": "or",
}
LONGEST = 60  # nodes of a formula that is set; longer ones are shown as they were written


def drawn(text: str) -> str:
    r"""Return running text for matplotlib: a dollar sign stays one, and blanks are those that every font has.

    >>> drawn("3 US$")
    '3 US\\$'
    """
    return text.replace("\\", "/").replace("$", r"\$").replace(THIN, "\u00a0")


def mixed(text: str) -> str:
    r"""Return running text that is to stand beside symbols: powers of ten are raised as theirs are.

    >>> mixed("3 × 10⁻⁶")
    '3 × $10^{-6}$'
    """
    return _POWER.sub(lambda match: f"$10^{{{match['raised'].translate(_RAISED)}}}$", drawn(text))


def symbol(name: str) -> str:
    r"""Return a name for running text: a letter with its subscript in italics, a word as it is.

    >>> symbol("t_c"), symbol("b1"), symbol("signal")
    ('$t_\\mathrm{c}$', '$b_\\mathrm{1}$', 'signal')
    """
    return f"${_math(name)}$" if _SYMBOL.fullmatch(name) else drawn(name)


def short(name: str, most: int = 36) -> str:
    """Return a name with its middle left out when it is longer than `most` characters.

    >>> short("response_of_the_left_detector", 13)
    'respon…tector'
    """
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def axis_title(title: str, name: str) -> str:
    """Return the name of an axis, which begins with the name of a column; a long one is cut in its middle."""
    rest, name = title.removeprefix(name), short(name)
    return symbol(name) + (mixed(rest) if symbol(name).startswith("$") else drawn(rest))


def _math(name: str) -> str:
    """Return a name inside a formula."""
    match = _SYMBOL.fullmatch(name)
    if match is None:
        return rf"\mathrm{{{name.replace('_', _LOW).replace(' ', _BLANK)}}}"
    base = match["base"] if len(match["base"]) == 1 else rf"\{match['base']}"
    below = match["tail"] or match["digits"]
    return rf"{base}_\mathrm{{{below}}}" if below else base


@dataclass(frozen=True, slots=True)
class Piece:
    """A typeset piece: its body without a leading minus, how tightly it binds, and whether it is a number."""

    body: str
    binds: int = _ATOM
    minus: bool = False
    number: bool = False

    @property
    def signed(self) -> str:
        """The body with its sign."""
        return f"-{self.body}" if self.minus else self.body

    def inside(self, binds: int) -> "Piece":
        """Return the same in brackets when it binds less tightly than `binds`, or has a sign."""
        if self.binds >= binds and not self.minus:
            return self
        return Piece(rf"({self.signed})")


def formula(text: str, values: Mapping[str, tuple[str, str, str]] | None = None) -> str:
    r"""Return a formula typeset, empty where it is none, or too long to be read when typeset.

    Parameters
    ----------
    text : str
        "t_c = w*t_u + b".
    values : mapping of str to (value, error, power)
        What `notation.plus_minus` returns for parameters; put in for their names.

    Examples
    --------
    >>> formula("t_c = w*t_u + b")
    '$t_\\mathrm{c} = w\\,t_\\mathrm{u} + b$'
    >>> formula("y = a*x + b", {"b": ("−17.3", "1.9", "")})
    '$y = a\\,x - (17.3 \\pm 1.9)$'
    """
    try:
        read = parse(text)
    except FormulaError:
        return ""
    names = (*read.right.names, *(read.left.names if read.left else ()))
    if len(read.right.nodes) > LONGEST or not all(_WORD.fullmatch(name) for name in names):
        return ""
    given = {name: _quantity(*parts) for name, parts in (values or {}).items()}
    left = _set(read.left, {}).signed if read.left else ""
    return f"${left} = {_set(read.right, given).signed}$" if left else f"${_set(read.right, given).signed}$"


def _quantity(value: str, error: str, power: str) -> Piece:
    """Return value ± error in brackets, its sign before them."""
    raised = _POWER.search(power)
    times = rf" \times 10^{{{raised['raised'].translate(_RAISED)}}}" if raised else ""
    size, spread = (_figures(number.removeprefix(MINUS)) for number in (value, error))
    body = rf"({size} \pm {spread}){times}"
    return Piece(body, _PRODUCT if times else _ATOM, value.startswith(MINUS))


def _figures(number: str) -> str:
    """Return a number inside a formula, its power of ten raised."""
    raised = _POWER.sub(lambda match: f"10^{{{match['raised'].translate(_RAISED)}}}", number)
    return raised.replace(f"{THIN}×{THIN}", r" \times ").replace(THIN, r"\,")


def _set(expression: Expression, given: Mapping[str, Piece]) -> Piece:
    """Return the last node of an expression, all others inside it."""
    out = list[Piece]()
    for node in expression.nodes:
        kind, rest = str(node[0]), node[1:]
        if kind == "const":
            out.append(_constant(float(str(rest[0]))))
        elif kind in ("name", "text"):
            name = str(rest[0])
            out.append(given.get(name) or Piece({"pi": r"\pi", "e": r"\mathrm{e}"}.get(name) or _math(name)))
        else:
            out.append(_operation(kind, [out[int(str(i))] for i in rest]))
    return out[-1]


def _constant(value: float) -> Piece:
    plain = f"{abs(value):.12g}"
    minus = value < 0
    if "e" not in plain:
        return Piece(plain, _ATOM, minus, number=True)
    mantissa, exponent = plain.split("e")
    head = "" if mantissa == "1" else rf"{mantissa} \times "
    return Piece(rf"{head}10^{{{int(exponent)}}}", _PRODUCT, minus, number=True)


def _operation(kind: str, parts: list[Piece]) -> Piece:
    rules = {"add": _add, "sub": _sub, "mul": _mul, "div": _div, "pow": _pow, "neg": _neg}
    if kind in rules:
        return rules[kind](*parts)
    if kind in _INFIX:
        sign = _INFIX[kind]
        word = rf"\ \mathrm{{{sign}}}\ " if sign.isalpha() else f" {sign} "
        return Piece(word.join(part.signed for part in parts), 0)
    return _call(kind, parts)


def _call(kind: str, parts: list[Piece]) -> Piece:
    inside = ", ".join(part.signed for part in parts)
    if kind == "exp" and len(inside) <= 60 and "^" not in inside:
        return Piece(rf"\mathrm{{e}}^{{{inside}}}", _POW)
    names = {"abs": f"|{inside}|", "sqrt": rf"\sqrt{{{inside}}}", "pos": inside}
    names |= {f"log{base}": rf"\log_{{{base}}}({inside})" for base in (2, 10)}
    return Piece(names.get(kind, rf"\mathrm{{{kind}}}({inside})"))


def _add(a: Piece, b: Piece) -> Piece:
    return Piece(
        f"{a.inside(_SUM).body if not a.minus else a.signed} {'-' if b.minus else '+'} {_right(b)}", _SUM
    )


def _sub(a: Piece, b: Piece) -> Piece:
    whole = b if b.binds >= _PRODUCT else Piece(f"({b.signed})")
    return _add(a, replace(whole, minus=not whole.minus))


def _right(b: Piece) -> str:
    return replace(b, minus=False).inside(_SUM).body


def _mul(a: Piece, b: Piece) -> Piece:
    minus = a.minus != b.minus
    a, b = replace(a, minus=False).inside(_PRODUCT), replace(b, minus=False).inside(_PRODUCT)
    sign = r" \cdot " if b.number else r"\,"
    return Piece(f"{a.body}{sign}{b.body}", _PRODUCT, minus)


def _div(a: Piece, b: Piece) -> Piece:
    minus = a.minus != b.minus
    a, b = replace(a, minus=False).inside(_PRODUCT), replace(b, minus=False).inside(_POW)
    return Piece(f"{a.body}/{b.body}", _PRODUCT, minus)


def _pow(a: Piece, b: Piece) -> Piece:
    return Piece(f"{{{a.inside(_ATOM).body}}}^{{{b.signed}}}", _POW)


def _neg(a: Piece) -> Piece:
    inner = a if a.binds >= _PRODUCT else Piece(f"({a.signed})")
    return replace(inner, minus=not inner.minus)
