"""Formulas and names as a book would set them: italics, subscripts, powers and fractions, from the formula's own tree."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from gradfit.errors import FormulaError
from gradfit.formula import Expression, parse
from gradfit.notation import MINUS
from gradfit.report.markup import Markup, join, tag, text

_SUBSCRIPT = re.compile(r"(?P<base>[^\W\d_]{1,2})_(?P<tail>\w+)|(?P<word>[^\W\d_]{1,8})_?(?P<digits>\d{1,3})")
_SUM, _PRODUCT, _POWER, _ATOM = 4, 5, 7, 8
_LOOSE = {"or": (0, " or "), "and": (1, " and ")}
_COMPARE = {"lt": " < ", "le": " ≤ ", "gt": " > ", "ge": " ≥ ", "eq": " = ", "ne": " ≠ "}
_LONGEST_TREE, _LONGEST_EXPONENT = 400, 34  # nodes; characters


def split_name(name: str) -> tuple[str, str]:
    """Return what stands on the line and what stands below it.

    >>> split_name("t_c"), split_name("t0"), split_name("signal_strength")
    (('t', 'c'), ('t', '0'), ('signal_strength', ''))
    """
    match = _SUBSCRIPT.fullmatch(name)
    if match is None:
        return name, ""
    return match["base"] or match["word"], match["tail"] or match["digits"]


def short(name: str, most: int = 32) -> str:
    """Return a name cut in the middle when it is longer than `most` characters.

    >>> short("a" * 40, 9)
    'aaaa…aaaa'
    """
    half = (most - 1) // 2
    return name if len(name) <= most else f"{name[:half]}…{name[-half:]}"


def upright(name: str, *, most: int = 32) -> Markup:
    """Return a name for running text, with its subscript.

    >>> upright("t_u"), upright("a<b")
    ('t<sub>u</sub>', 'a&lt;b')
    """
    base, below = split_name(short(name, most))
    return join([base, tag("sub", below)]) if below else text(base)


def italic(name: str) -> Markup:
    """Return a name as a symbol of a formula.

    >>> italic("t_u")
    '<i>t</i><sub>u</sub>'
    """
    base, below = split_name(short(name, 48))
    return join([tag("i", base), tag("sub", below)]) if below else tag("i", base)


def prose(sentence: str, names: tuple[str, ...]) -> Markup:
    """Return a sentence as HTML: names that have subscripts get them, `…` becomes code.

    >>> prose("fix t0 = 0 & see `a`", ("t0",))
    'fix t<sub>0</sub> = 0 &amp; see <code>a</code>'
    """
    sentence = re.sub(r"\bp ([<=]) ", "p\u00a0\\1\u00a0", sentence)
    special = [re.escape(name) for name in names if split_name(name)[1]]
    pattern = r"`[^`]+`" + "".join(rf"|(?<![\w.])(?:{name})(?![\w(])" for name in special)
    out: list[str] = []
    at = 0
    for match in re.finditer(pattern, sentence):
        found = match[0]
        out += [sentence[at : match.start()], tag("code", found[1:-1]) if found[0] == "`" else upright(found)]
        at = match.end()
    return join([*out, sentence[at:]])


@dataclass(frozen=True)
class _Set:
    """A typeset piece: its body without a leading minus, how tightly it binds, and what stands at its two ends."""

    body: Markup
    binds: int
    minus: bool = False
    first: str = "group"  # "digit", "word", "letter" or "group": decides what stands between two factors
    last: str = "group"
    length: int = 1

    @property
    def signed(self) -> Markup:
        return join([MINUS, self.body]) if self.minus else self.body

    def inside(self, binds: int) -> "_Set":
        """Return it in brackets when it binds less tightly than `binds`, or has a sign that would be in the way."""
        if self.binds >= binds and not self.minus:
            return self
        return _Set(join(["(", self.signed, ")"]), _ATOM, length=self.length + 2)


def leaf(body: Markup, kind: str, *, minus: bool = False, length: int = 1) -> _Set:
    """Return a number or a name as a typeset piece."""
    return _Set(body, _ATOM, minus, kind, kind, length)


def _constant(value: float) -> _Set:
    plain = f"{value:.12g}"
    if "e" in plain:
        mantissa, exponent = plain.split("e")
        power = join(["10", tag("sup", str(int(exponent)).replace("-", MINUS))])
        body = power if mantissa == "1" else join([mantissa, " × ", power])
        return _Set(body, _PRODUCT, first="digit", last="digit", length=len(plain))
    return leaf(text(plain.removeprefix("-")), "digit", minus=value < 0, length=len(plain))


def symbol(name: str) -> _Set:
    """Return a name as a typeset piece; pi and e are upright."""
    if name in ("pi", "e"):
        return leaf(text("π" if name == "pi" else "e"), "letter")
    base = split_name(name)[0]
    return leaf(italic(name), "letter" if len(base) == 1 else "word", length=len(name))


@dataclass(frozen=True)
class _Setter:
    """Sets one expression; `leaves` gives the piece for a name where it is not the name itself."""

    expression: Expression
    leaves: Mapping[str, _Set]

    def set(self, i: int, *, display: bool = True) -> _Set:
        """Return node i as a typeset piece; fractions are stacked only in `display`."""
        name, *rest = self.expression.nodes[i]
        if name == "const":
            return _constant(float(rest[0]))  # pyright: ignore[reportArgumentType]  # a constant's number
        if name in ("name", "text"):
            return self.leaves.get(str(rest[0])) or symbol(str(rest[0]))
        if name in ("pow", "exp", "div"):
            return self._stacked(str(name), [int(j) for j in rest], display=display)  # pyright: ignore[reportArgumentType]  # ids
        parts = [self.set(int(j), display=display) for j in rest]  # pyright: ignore[reportArgumentType]  # ids
        return self._joined(str(name), parts)

    def _joined(self, name: str, parts: list[_Set]) -> _Set:
        if name in _LOOSE:
            binds, word = _LOOSE[name]
            return _Set(join([parts[0].inside(binds).signed, word, parts[1].inside(binds).signed]), binds)
        if name in _COMPARE:
            return _Set(join([parts[0].signed, _COMPARE[name], parts[1].signed]), 3)
        if name == "pos":
            return parts[0]
        return _RULES[name](*parts) if name in _RULES else _call(name, parts)

    def _stacked(self, name: str, ids: list[int], *, display: bool) -> _Set:
        if name == "pow":
            return self._pow(ids)
        return self._exp(ids[0], display=display) if name == "exp" else self._div(ids, display=display)

    def _pow(self, ids: list[int]) -> _Set:
        base, exponent = self.set(ids[0], display=False).inside(_ATOM), self.set(ids[1], display=False)
        if exponent.length > _LONGEST_EXPONENT:
            return _call("pow", [base, exponent])
        body = join([base.body, tag("sup", exponent.signed)])
        return replace(base, body=body, binds=_POWER, length=base.length + exponent.length)

    def _exp(self, i: int, *, display: bool) -> _Set:
        exponent = self.set(i, display=False)
        if exponent.length > _LONGEST_EXPONENT or "e<sup>" in exponent.body:
            return _call("exp", [self.set(i, display=display)])
        return _Set(
            join(["e", tag("sup", exponent.signed)]), _POWER, False, "letter", "letter", 1 + exponent.length
        )

    def _div(self, ids: list[int], *, display: bool) -> _Set:
        above, below = (self.set(i, display=False) for i in ids)
        minus, length = above.minus != below.minus, above.length + below.length + 1
        above, below = replace(above, minus=False), replace(below, minus=False)
        if not display:
            body = join([above.inside(_PRODUCT).body, "\u2009/\u2009", below.inside(_POWER).body])
            return _Set(body, _PRODUCT, minus, length=length)
        body = tag("span", tag("span", above.body), tag("span", below.body), class_="frac")
        return _Set(body, 6, minus, length=max(above.length, below.length))


def _add(a: _Set, b: _Set, *, sign: bool = False) -> _Set:
    minus = b.minus != sign
    right = replace(b, minus=False).inside(_PRODUCT if sign else _SUM)
    body = join(
        [a.inside(_SUM).body if not a.minus else a.signed, f" {MINUS if minus else '+'} ", right.body]
    )
    return _Set(body, _SUM, False, a.first, right.last, a.length + right.length + 3)


def _sub(a: _Set, b: _Set) -> _Set:
    return _add(a, b, sign=True)


def _mul(a: _Set, b: _Set) -> _Set:
    minus = a.minus != b.minus
    a, b = replace(a, minus=False).inside(_PRODUCT), replace(b, minus=False).inside(_PRODUCT)
    apart = b.first == "digit" or "word" in (a.last, b.first)
    body = join([a.body, " · " if apart else "\u2009", b.body])
    return _Set(body, _PRODUCT, minus, a.first, b.last, a.length + b.length + 1)


def _neg(a: _Set) -> _Set:
    inner = replace(a, minus=False).inside(_PRODUCT)
    return replace(inner, minus=not a.minus)


def _call(name: str, parts: list[_Set]) -> _Set:
    length = sum(part.length for part in parts) + len(name) + 2
    if name == "abs":
        return _Set(join(["|", parts[0].signed, "|"]), _ATOM, length=length)
    if name == "sqrt":
        root = join(["√", tag("span", parts[0].signed, class_="root")])
        return _Set(root, _ATOM, length=length)
    head = join(["log", tag("sub", name[3:])]) if name in ("log2", "log10") else text(name)
    inner = [part.signed if k == 0 else join([", ", part.signed]) for k, part in enumerate(parts)]
    return _Set(join([head, "(", *inner, ")"]), _ATOM, False, "word", "group", length)


_RULES: Mapping[str, Callable[..., _Set]] = {"add": _add, "sub": _sub, "mul": _mul, "neg": _neg}


@dataclass(frozen=True)
class Typeset:
    """A formula ready to be set; the text itself where it has no tree, or one too large to read."""

    written: str
    response: str

    @cached_property
    def right(self) -> Expression | None:
        """The right side's tree, None where the text is not a formula or too long to set."""
        try:
            right = parse(self.written).right
        except FormulaError:
            return None  # the call of a Python function: shown as it is written
        return right if len(right.nodes) <= _LONGEST_TREE else None

    def uses(self, name: str) -> int:
        """Return how many operations use a name directly."""
        if self.right is None:
            return 0
        nodes = self.right.nodes
        places = {i for i, node in enumerate(nodes) if node == ("name", name)}
        return sum(
            node[1:].count(i) for node in nodes if node[0] not in ("const", "name", "text") for i in places
        )

    def html(self) -> Markup:
        """Return the formula as HTML."""
        if self.right is None:
            return text(self.written)
        left = parse(self.written).left
        head = _Setter(left, {}).set(len(left.nodes) - 1).signed if left else italic(self.response)
        return join([head, " = ", _Setter(self.right, {}).set(len(self.right.nodes) - 1).signed])

    def filled(self, leaf_of: Callable[[str], _Set | None]) -> Markup:
        """Return the right side with other pieces put in for names; empty when there is no tree."""
        if self.right is None:
            return Markup("")
        pieces = {name: piece for name in self.right.names if (piece := leaf_of(name)) is not None}
        return _Setter(self.right, pieces).set(len(self.right.nodes) - 1).signed
