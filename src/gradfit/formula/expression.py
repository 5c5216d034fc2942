"""An expression as a list of operations, and its value in NumPy."""

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np

from gradfit._lazy import special
from gradfit.errors import FormulaError

Node = tuple[object, ...]  # ("const", v) | ("name", "x") | ("text", "treated") | (operation, id, ...)
Span = tuple[int, int]

CONSTANTS: Mapping[str, float] = {"pi": math.pi, "e": math.e}
LEAVES = frozenset({"const", "name", "text"})


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

    @cached_property
    def compared(self) -> Mapping[str, tuple[str, ...]]:
        """The names that are compared with pieces of text, and the pieces: state == "treated"."""
        out: dict[str, tuple[str, ...]] = {}
        for i in range(len(self.nodes)):
            if (pair := self._comparison(i)) is not None:
                out[pair[0]] = (*out.get(pair[0], ()), pair[1])
        return out

    @cached_property
    def computed(self) -> frozenset[str]:
        """The names that are used as numbers."""
        out = {str(self.nodes[-1][1])} if self.nodes[-1][0] == "name" else set[str]()
        for i, node in enumerate(self.nodes):
            if self._comparison(i) is None:
                out |= {str(self.nodes[j][1]) for j in operands(node) if self.nodes[j][0] == "name"}
        return frozenset(out)

    def _comparison(self, i: int) -> tuple[str, str] | None:
        """Return (name, text) where node i compares a name with a piece of text."""
        if self.nodes[i][0] not in ("eq", "ne"):
            return None
        sides = {str(self.nodes[j][0]): str(self.nodes[j][1]) for j in operands(self.nodes[i])}
        return (sides["name"], sides["text"]) if sides.keys() == {"name", "text"} else None

    def coded(self, levels: Mapping[str, tuple[str, ...]]) -> "Expression":
        """Return the expression for columns of codes 0, 1 ... instead of text; `levels` lists what the codes stand for.

        Raises
        ------
        FormulaError
            If a column is compared with a text that is not one of its levels.

        Examples
        --------
        >>> from gradfit.formula import parse_expression
        >>> either = parse_expression('state == "b"').coded({"state": ("a", "b")})
        >>> either.evaluate({"state": 1.0})
        np.True_
        """
        nodes: list[Node] = []
        spans: list[Span] = []
        new: list[int] = []
        for i, (node, span) in enumerate(zip(self.nodes, self.spans, strict=True)):
            if node[0] == "text":  # only comparisons use it, each with a code of its own
                new.append(-1)
                continue
            ids = tuple(new[j] for j in operands(node))
            pair = self._comparison(i)
            if pair is not None:
                nodes.append(("const", float(self._level(pair[1], pair[0], levels[pair[0]], span))))
                spans.append(span)
                ids = tuple(new[j] if self.nodes[j][0] == "name" else len(nodes) - 1 for j in operands(node))
            nodes.append(node if node[0] in LEAVES else (node[0], *ids))
            spans.append(span)
            new.append(len(nodes) - 1)
        return Expression(self.text, tuple(nodes), tuple(spans), self.notes)

    def _level(self, word: str, name: str, known: tuple[str, ...], span: Span) -> int:
        if word in known:
            return known.index(word)
        near = difflib.get_close_matches(word, known, 1)
        held = ", ".join(f'"{level}"' for level in known[:12]) + (" ..." if len(known) > 12 else "")
        raise FormulaError(
            f'No row of {name} is "{word}"',
            remedy=f"{name} holds {held}." + (f' Did you mean "{near[0]}"?' if near else ""),
            excerpt=caret(self.text, *span),
        )

    def evaluate(self, values: Mapping[str, Any]) -> Any:
        """Return the expression's value with NumPy: an array, or a number when all names are numbers.

        Raises
        ------
        FormulaError
            If a name is neither in `values` nor a constant, with the nearest one that is; if text is used as a number.
        """
        out: list[Any] = []
        for i, node in enumerate(self.nodes):
            if node[0] in LEAVES:
                out.append(self._leaf(i, values))
            elif self.compared and self._comparison(i) is not None:
                out.append(self._matches(i, out))
            else:
                out.append(_applied(str(node[0]), [out[j] for j in operands(node)]))
        return out[-1]

    def first_failure(self, values: Mapping[str, float]) -> str:
        """Return what first goes wrong at one point, such as "log(-0.3)", or nothing when all is finite.

        Examples
        --------
        >>> from gradfit.formula import parse_expression
        >>> parse_expression("a*log(x - 1)").first_failure({"a": 2.0, "x": 0.7})
        'log(-0.3) is not a number'
        """
        out: list[float] = []
        for i, node in enumerate(self.nodes):
            if node[0] in LEAVES:
                out.append(float(self._leaf(i, values)))
                continue
            taken = [out[j] for j in operands(node)]
            with np.errstate(all="ignore"):
                out.append(float(_applied(str(node[0]), taken)))
            if not math.isfinite(out[-1]):
                numbers = ", ".join(f"{number:.4g}" for number in taken)
                return f"{node[0]}({numbers}) {'is not a number' if math.isnan(out[-1]) else 'overflows'}"
        return ""

    def _leaf(self, i: int, values: Mapping[str, Any]) -> Any:
        if self.nodes[i][0] != "name":
            return self.nodes[i][1]
        name = str(self.nodes[i][1])
        if name in values:
            kind = getattr(getattr(values[name], "dtype", None), "kind", "f")
            if kind in "OSUmM" and name in self.computed:
                what = "text" if kind in "OSU" else "dates"
                raise FormulaError(
                    f"{name} holds {what}, and {self.text!r} computes with it",
                    remedy=f'Compare it with a piece of text, as in {name} == "..."'
                    if what == "text"
                    else "",
                    excerpt=caret(self.text, *self.spans[i]),
                )
            return values[name]
        if name in CONSTANTS:
            return CONSTANTS[name]
        near = difflib.get_close_matches(name, list(values), 1)
        raise FormulaError(
            f"{self.text!r} uses {name}, which is not among {', '.join(values) or 'the columns'}."
            + (f" Did you mean {near[0]}?" if near else ""),
            excerpt=caret(self.text, *self.spans[i]),
        )

    def _matches(self, i: int, out: list[Any]) -> Any:
        """Return where a column of text is, or is not, a piece of text.

        Raises
        ------
        FormulaError
            If the column holds numbers.
        """
        name, word = cast("tuple[str, str]", self._comparison(i))
        column = next(out[j] for j in operands(self.nodes[i]) if self.nodes[j][0] == "name")
        column = np.asarray(column)
        if column.dtype.kind in "biufc":
            raise FormulaError(
                f'{name} holds numbers, and is compared with the text "{word}"',
                remedy="Numbers stand without quotation marks",
                excerpt=caret(self.text, *self.spans[i]),
            )
        equal = column == word
        return equal if self.nodes[i][0] == "eq" else np.logical_not(equal)


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


def operands(node: Node) -> tuple[int, ...]:
    """Return the ids a node is computed from; none for a leaf."""
    return () if node[0] in LEAVES else cast("tuple[int, ...]", node[1:])


def caret(text: str, start: int, stop: int) -> str:
    """Return the text with a line under it that points at the place; long texts are cut around it.

    >>> print(caret("y = a*(x", 6, 7))
    y = a*(x
          ^
    """
    if len(text) > 100:
        first = max(0, start - 40)
        text, start, stop = text[first : first + 100], start - first, stop - first
    shown = "".join(" " if c.isspace() or not c.isprintable() else c for c in text)
    return f"{shown}\n{' ' * start}{'^' * max(1, min(stop, len(text) + 1) - start)}"


# ---------------------------------------------------------------------------- NumPy's operations


def _applied(name: str, values: Sequence[Any]) -> Any:
    plain = _NUMPY.get(name)
    operation = plain if plain is not None else getattr(special, _SPECIAL[name])
    return operation(*(_number(value) for value in values))


def _number(value: Any) -> Any:
    """Return a truth value as 1 or 0: NumPy would add two of them as "or", and subtract none."""
    return value * 1.0 if getattr(value, "dtype", None) == np.bool_ else value


def _same(a: Any) -> Any:
    return a


def _pow(a: Any, b: Any) -> Any:
    return np.power(np.asarray(a, np.float64), b)


def _step(x: Any) -> Any:
    return np.where(np.asarray(x) >= 0, 1.0, 0.0)


def _voigt(x: Any, sigma: Any, gamma: Any) -> Any:
    return special.voigt_profile(x, np.abs(sigma), np.abs(gamma))


_OWN_NAMES = "exp log log10 log2 log1p expm1 sqrt sin cos tan sinh cosh tanh sign floor ceil"  # and NumPy's
_NUMPY: Mapping[str, Callable[..., Any]] = {
    "pos": _same,
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "pow": _pow,
    "neg": np.negative,
    "abs": np.abs,
    "min": np.minimum,
    "max": np.maximum,
    "where": np.where,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
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
    "step": _step,
    "voigt": _voigt,
    **{name: getattr(np, name) for name in _OWN_NAMES.split()},
}
_SPECIAL = {"erf": "erf", "erfc": "erfc", "lgamma": "gammaln", "gamma": "gamma"}
