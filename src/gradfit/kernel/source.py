"""A graph as Python code for a person to read; what runs is the kernel, and the two agree to rounding."""

import keyword
import math
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from gradfit.graph import COMPARE, LEAVES, LOGIC, Graph, operands

LONGEST = 72  # characters of an expression that stands inside another one
WIDTH = 99  # characters of a line

_SIGNS: Mapping[str, str] = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_CALLS: Mapping[str, str] = {
    "asin": "np.arcsin",
    "acos": "np.arccos",
    "atan": "np.arctan",
    "atan2": "np.arctan2",
    "asinh": "np.arcsinh",
    "acosh": "np.arccosh",
    "atanh": "np.arctanh",
    "erf": "special.erf",
    "erfc": "special.erfc",
    "pow": "np.float_power",
    "lgamma": "special.gammaln",
    "digamma": "special.psi",
    "and": "np.logical_and",
    "or": "np.logical_or",
    "not": "np.logical_not",
}
_SIMPLE = re.compile(r"[\w.]+")
_OURS = ("np", "special", "model", "value", "gradient")


def python_source(graph: Graph) -> str:
    """Return a graph as a function of NumPy arrays and numbers that gives the value and the list of its derivatives.

    A derivative that is the same for every row is a number. Names that Python does not take are changed a little.

    Examples
    --------
    >>> from gradfit.formula import parse
    >>> from gradfit.trace import trace_formula
    >>> print(python_source(trace_formula(parse("y = a*exp(-b*x)").right, ("x",), ("a", "b"))))
    import numpy as np
    <BLANKLINE>
    <BLANKLINE>
    def model(x, a, b):
        t1 = np.exp(-b * x)
        value = a * t1
        gradient = [
            t1,  # d/da
            -a * x * t1,  # d/db
        ]
        return value, gradient
    <BLANKLINE>
    """
    return _Writer(graph).module()


# ---------------------------------------------------------------------------- expressions


@dataclass(frozen=True)
class Factor:
    """A name, a call or a bracket, and the power it is raised to: a number, or the text of one that varies."""

    base: str
    power: float | str = 1.0
    place: int = 2  # in a product: parameters 0, columns 1, then what was named, then the rest

    @property
    def text(self) -> str:
        """As it is written in a product."""
        if self.power == 1:
            return self.base
        return _power(self.base, self.power if isinstance(self.power, str) else _numeral(self.power))


@dataclass(frozen=True)
class Term:
    """A product: [-] number * up / (below * down)."""

    up: tuple[Factor, ...] = ()
    down: tuple[Factor, ...] = ()
    number: float = 1.0
    below: float = 1.0
    minus: bool = False

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The text, in the pieces between which a line may break."""
        first, *rest = _factors(self.number, self.up)
        if self.minus:
            first = f"-({first})" if self.number == 1 and self.up and self.up[0].power != 1 else f"-{first}"
        out = [first, *(f"* {factor}" for factor in rest)]
        if self.down or self.below != 1:
            below = _factors(self.below, self.down)
            out.append(f"/ {below[0]}" if len(below) == 1 else f"/ ({' * '.join(below)})")
        return tuple(out)

    @cached_property
    def text(self) -> str:
        """As it is written in an expression."""
        return " ".join(self.parts)

    def negative(self) -> "Term":
        """Return the same with the other sign."""
        return replace(self, minus=not self.minus)


@dataclass(frozen=True)
class Sum:
    """Terms with their signs, added from left to right."""

    terms: tuple[Term, ...]

    @cached_property
    def parts(self) -> tuple[str, ...]:
        """The text, in the pieces between which a line may break."""
        first, *rest = self.terms
        signed = (f"- {t.negative().text}" if t.minus else f"+ {t.text}" for t in rest)
        return (first.text, *signed)

    @cached_property
    def text(self) -> str:
        """As it is written in an expression."""
        return " ".join(self.parts)


@dataclass(frozen=True)
class Condition:
    """A truth value."""

    text: str

    @property
    def parts(self) -> tuple[str, ...]:
        """The text, in one piece."""
        return (self.text,)


Code = Term | Sum | Condition


def _name(text: str, place: int = 2) -> Term:
    return Term(up=(Factor(text, 1.0, place if _SIMPLE.fullmatch(text) else 3),))


def _number(value: float) -> Term:
    if math.isnan(value):
        return _name("np.nan")
    size, minus = abs(value), value < 0
    if math.isinf(size):
        return Term(up=(Factor("np.inf"),), minus=minus)
    for times in (1.0, 2.0, 4.0):
        if size == times * math.pi:
            return Term(up=(Factor("np.pi", 1.0, 0),), number=times, minus=minus)
    return Term(number=size, minus=minus)


def _numeral(value: float) -> str:
    return f"{int(value)}" if value == int(value) and abs(value) < 1e15 else repr(float(value))


def _factors(number: float, factors: Iterable[Factor]) -> list[str]:
    written = [factor.text for factor in factors]
    return [_numeral(number), *written] if number != 1 or not written else written


def _power(base: str, exponent: str) -> str:
    tight = _SIMPLE.fullmatch(base) and re.fullmatch(r"-?[\d.e]+|[\w.]+", exponent)
    return f"{base}**{exponent}" if tight else f"{base} ** {exponent}"


def _as_term(code: Code) -> Term:
    return code if isinstance(code, Term) else _name(f"({code.text})")


def _base(code: Code) -> str:
    """Return an expression as what a power is taken of."""
    term = _as_term(code)
    whole = not term.minus and not term.down and term.below == 1
    number = not term.up
    name = len(term.up) == 1 and term.number == 1 and term.up[0].power == 1
    return term.text if whole and (number or name) else f"({term.text})"


def _product(a: Code, b: Code) -> Term:
    left, right = _as_term(a), _as_term(b)
    number, up = _multiplied(left.number, right.number)
    below, down = _multiplied(left.below, right.below)
    return Term(
        up=_merged((*up, *left.up, *right.up)),
        down=_merged((*down, *left.down, *right.down)),
        number=number,
        below=below,
        minus=left.minus != right.minus,
    )


def _multiplied(a: float, b: float) -> tuple[float, tuple[Factor, ...]]:
    """Return the product of two numbers; where it leaves the range of floats, the second one stays a factor."""
    if math.isfinite(a * b) and (a * b != 0 or a == 0 or b == 0):
        return a * b, ()
    return a, (Factor(_numeral(b), 1.0, 0),)


def _quotient(a: Code, b: Code) -> Term:
    under = _as_term(b)
    return _product(a, Term(under.down, under.up, under.below, under.number, under.minus))


def _merged(factors: Sequence[Factor]) -> tuple[Factor, ...]:
    """Equal factors become powers; names come first, as in 2 * a * x * np.exp(...)."""
    out: dict[object, Factor] = {}
    for i, factor in enumerate(factors):
        power = factor.power
        same = out.get(factor.base)
        if isinstance(power, str):
            out[i] = factor
        elif same is None:
            out[factor.base] = factor
        else:
            out[factor.base] = replace(factor, power=power + float(same.power))
    return tuple(sorted(out.values(), key=lambda factor: factor.place))


def _sum(a: Code, b: Code) -> Sum:
    """Terms stay in the order in which the kernel adds them, so that nothing cancels that does not there."""
    if isinstance(b, Sum) and not isinstance(a, Sum):
        a, b = b, a
    terms = [*(a.terms if isinstance(a, Sum) else [_as_term(a)]), _as_term(b)]
    if terms[0].minus and not terms[1].minus:
        terms[:2] = terms[1::-1]
    return Sum(tuple(terms))


def _difference(a: Code, b: Code) -> Sum:
    terms = a.terms if isinstance(a, Sum) else (_as_term(a),)
    return Sum((*terms, _as_term(b).negative()))


def _negative(code: Code) -> Code:
    if isinstance(code, Sum) and len(code.terms) == 2 and code.terms[0].minus != code.terms[1].minus:
        return Sum(tuple(term.negative() for term in reversed(code.terms)))
    return _as_term(code).negative()


# ---------------------------------------------------------------------------- the function


class _Writer:
    """Writes one graph, node after node; what is used more than once, or too long, gets a name."""

    def __init__(self, graph: Graph) -> None:
        self.graph: Graph = graph
        self.arguments: list[str] = _identifiers((*graph.variables, *graph.parameters))
        self.uses: list[int] = _uses(graph)
        self.invariant: tuple[bool, ...] = graph.invariant()
        self.codes: list[Code] = []
        self.lines: list[str] = []
        self.count: int = 0

    def module(self) -> str:
        """Return the function with the imports that it needs."""
        for i, node in enumerate(self.graph.nodes):
            self.codes.append(self._leaf(i) if node[0] in LEAVES else self._settled(i, self._operation(i)))
        self.lines += self._value()
        gradient = self._gradient()
        body = [*self.lines, "gradient = [", *gradient, "]", "return value, gradient"]
        text = "\n".join([*self._signature(), *(f"    {line}" for line in body)]) + "\n"
        imports = ["import numpy as np"] + ["from scipy import special"] * ("special." in text)
        return "\n".join([*imports, "", "", text])

    def _signature(self) -> list[str]:
        line = f"def model({', '.join(self.arguments)}):"
        if len(line) <= WIDTH:
            return [line]
        inside = f"    {', '.join(self.arguments)}"
        if len(inside) <= WIDTH:
            return ["def model(", inside, "):"]
        return ["def model(", *(f"    {argument}," for argument in self.arguments), "):"]

    def _value(self) -> list[str]:
        code = self.codes[self.graph.value]
        return [] if code == _name("value") else _assignment("value", self._broken(code))

    def _gradient(self) -> list[str]:
        out: list[str] = []
        for name, scale, core in zip(self.graph.parameters, self.graph.scale, self.graph.core, strict=True):
            one = self.graph.nodes[scale] == ("const", 1.0)
            code = self.codes[core] if one else _product(self.codes[scale], self.codes[core])
            line = f"    {code.text},  # d/d{name}"
            if len(line) > WIDTH - 4:
                line = f"    {self._named(code).text},  # d/d{name}"
            out.append(line)
        return out

    def _leaf(self, i: int) -> Code:
        kind, what = self.graph.nodes[i]
        if kind == "const":
            return Condition(f"{what}") if isinstance(what, bool) else _number(float(what))  # pyright: ignore[reportArgumentType]  # a constant's number
        place = int(what) + (len(self.graph.variables) if kind == "par" else 0)  # pyright: ignore[reportArgumentType]  # a leaf's index
        return _name(self.arguments[place], 0 if kind == "par" else 1)

    def _settled(self, i: int, code: Code) -> Code:
        """Return the code of node i where others use it: a name when it is shared or long."""
        if self.uses[i] == 0:
            return code
        if self.uses[i] > 1 and not _transparent(self.graph, i):
            return self._named(code, "value" if i == self.graph.value else "")
        return self._named(code) if len(code.text) > LONGEST and i != self.graph.value else code

    def _named(self, code: Code, name: str = "") -> Term:
        code = self._broken(code)
        while not name or name in self.arguments:
            self.count += 1
            name = f"t{self.count}"
        self.lines += _assignment(name, code)
        return _name(name)

    def _broken(self, code: Code) -> Code:
        """Return a sum that fits on a line, its longest calls as names."""
        if not isinstance(code, Sum):
            return code
        terms = list(code.terms)
        while len(Sum(tuple(terms)).text) > WIDTH - 16 and any("(" in term.text for term in terms):
            size = [("(" in term.text, len(term.text)) for term in terms]
            longest = size.index(max(size))
            term = terms[longest]
            terms[longest] = replace(self._named(replace(term, minus=False)), minus=term.minus)
        return Sum(tuple(terms))

    def _operation(self, i: int) -> Code:
        node = self.graph.nodes[i]
        name, codes = str(node[0]), [self.codes[j] for j in operands(node)]
        if name in _ARITHMETIC:
            return _ARITHMETIC[name](*codes)
        if name == "pow" and not self._complex(*operands(node)):
            return _powered(*codes)
        if name in COMPARE:
            a, b = self._short(codes)
            return Condition(f"{a} {_SIGNS[name]} {b}")
        if name.startswith("wofz"):
            inside = _sum(codes[0], _product(_name("1j"), codes[1]))
            return _name(f"special.wofz({self._short([inside])[0]}).{name.removeprefix('wofz_')}")
        call = f"{_CALLS.get(name, f'np.{name}')}({', '.join(self._short(codes, floats=name == 'where'))})"
        return Condition(call) if name in LOGIC else _name(call)

    def _complex(self, base: int, exponent: int) -> bool:
        """Whether Python could make a complex number of a power: ** of two numbers, where NumPy says NaN."""
        leaf = self.graph.nodes[base]
        positive = leaf[0] == "const" and float(leaf[1]) > 0  # pyright: ignore[reportArgumentType]  # a constant's number
        return not positive and self.invariant[base] and self.invariant[exponent]

    def _short(self, codes: Sequence[Code], *, floats: bool = False) -> list[str]:
        """Return the texts of arguments; the longest get names until all fit on a line."""
        texts = [code.text for code in codes]
        while sum(map(len, texts)) > LONGEST and max(map(len, texts)) > LONGEST // 3:
            longest = max(range(len(texts)), key=lambda j: len(texts[j]))
            texts[longest] = self._named(codes[longest]).text
        if floats:  # np.where of two integers would be integers
            texts = [f"{text}.0" if re.fullmatch(r"-?\d+", text) else text for text in texts]
        return texts


_ARITHMETIC = {"add": _sum, "sub": _difference, "mul": _product, "div": _quotient, "neg": _negative}


def _powered(base: Code, exponent: Code) -> Term:
    if isinstance(exponent, Term) and not exponent.up and not exponent.down and exponent.below == 1:
        power = -exponent.number if exponent.minus else exponent.number
        return Term(up=(Factor(_base(base), power, 3),))
    return Term(up=(Factor(_base(base), _base(exponent), 3),))


def _assignment(name: str, code: Code) -> list[str]:
    line = f"{name} = {code.text}"
    if len(line) <= WIDTH - 4 or len(code.parts) == 1:
        return [line]
    return [f"{name} = (", *(f"    {part}" for part in code.parts), ")"]


def _transparent(graph: Graph, i: int) -> bool:
    """Whether node i is as short as a name: a negative, or a square of a leaf."""
    node = graph.nodes[i]
    ids = operands(node)
    return node[0] == "neg" or (node[0] == "mul" and ids[0] == ids[1] and graph.nodes[ids[0]][0] in LEAVES)


def _uses(graph: Graph) -> list[int]:
    """Return how often each node is written in the code of another, in the value or in a derivative."""
    uses = [0] * len(graph.nodes)
    for i in (graph.value, *graph.core, *graph.scale):
        uses[i] += 1
    for i in reversed(range(len(graph.nodes))):
        times = uses[i] if _transparent(graph, i) else min(uses[i], 1)
        for j in set(operands(graph.nodes[i])):
            uses[j] += times
    return uses


def _identifiers(names: Sequence[str]) -> list[str]:
    """Return names that Python takes as arguments, all different."""
    out: list[str] = []
    for name in names:
        plain = re.sub(r"\W", "_", unicodedata.normalize("NFKC", name)) or "_"
        plain = f"_{plain}" if not plain.isidentifier() else plain
        while plain in out or plain in _OURS or keyword.iskeyword(plain):
            plain += "_"
        out.append(plain)
    return out
