"""The graph while it grows: equal nodes are made once, constants folded, products and derivatives kept in good form."""

import math
import operator
from collections.abc import Callable, Iterable, Sequence

from gradfit.graph import COMPARE, LEAVES, LOGIC, Graph, Node, constant, is_truth, operands, reached

_VANISHING = frozenset(["mul", "neg", "abs", "sign"])  # zero where an operand is
_MOST_FACTORS = 32  # of a product in normal form; a product of more is a product of products

_OF_MATH = "exp log sqrt sin cos tan tanh atan asin acos sinh cosh asinh acosh atanh erf erfc log1p expm1 atan2 lgamma"


def _chosen(condition: bool, a: float, b: float) -> float:  # noqa: FBT001  an operand, not an option
    return a if condition else b


_OF_OPERATOR = "add sub mul pow neg abs and_ or_ not_"
_FOLD: dict[str, Callable[..., object]] = {
    "where": _chosen,
    "div": operator.__truediv__,
    **{name.removesuffix("_"): getattr(operator, name) for name in (*_OF_OPERATOR.split(), *COMPARE)},
    **{name: getattr(math, name) for name in _OF_MATH.split()},
}


class Builder:
    """Append-only list of scalar nodes: equal nodes are made once, constants folded, products kept in normal form.

    Its rules are those that keep a derivative exact where autograd's text would give 0 * inf: a factor that is zero by
    structure gives zero, a product with a mask is moved inside the mask, and a power meets the factor that tames it.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.invariant: list[bool] = []
        self._index: dict[object, int] = {}

    def put(self, *node: object) -> int:
        """Return the id of this node, an older one if it is there already."""
        key = (node[0], repr(node[1])) if node[0] == "const" else node  # repr keeps -0.0 and nan apart
        if key not in self._index:
            self._index[key] = len(self.nodes)
            self.nodes.append(node)
            leaf = node[0] in ("const", "par")
            below = node[0] != "var" and all(self.invariant[i] for i in operands(node))
            self.invariant.append(leaf or below)
        return self._index[key]

    def const(self, value: float) -> int:
        """Return the id of a constant."""
        return self.put("const", value if isinstance(value, bool) else float(value))

    def is_const(self, i: int, value: float | None = None) -> bool:
        """Return whether node i is a constant, and this one if a value is given."""
        node = self.nodes[i]
        return node[0] == "const" and (value is None or (node[1] == value and not isinstance(node[1], bool)))

    def number(self, i: int) -> int:
        """Return a truth value as 1 or 0, a number as it is."""
        return self.op("where", i, self.const(1.0), self.const(0.0)) if is_truth(self.nodes[i]) else i

    def truth(self, i: int) -> int:
        """Return a number as the truth value `i != 0`, a truth value as it is."""
        return i if is_truth(self.nodes[i]) else self.op("ne", i, self.const(0.0))

    def op(self, name: str, *args: int) -> int:
        """Return the id of an operation on nodes, simplified."""
        if name in LOGIC:
            args = tuple(self.truth(i) for i in args)
        elif name == "where":
            args = (self.truth(args[0]), self.number(args[1]), self.number(args[2]))
        else:
            args = tuple(self.number(i) for i in args)
        folded = self._fold(name, args)
        if folded is not None:
            return folded
        rule: Callable[..., int] | None = getattr(self, f"_{name}", None)
        return self.put(name, *args) if rule is None else rule(*args)

    def maximum(self, a: int, b: int) -> int:
        """Return the larger one; a nan in the one that is not constant survives."""
        a, b = (b, a) if self.is_const(b) else (a, b)
        return self.op("where", self.op("gt", a, b), a, b)

    def minimum(self, a: int, b: int) -> int:
        """Return the smaller one; a nan in the one that is not constant survives."""
        a, b = (b, a) if self.is_const(b) else (a, b)
        return self.op("where", self.op("lt", a, b), a, b)

    # ------------------------------------------------------------------ rules of single operations

    def _fold(self, name: str, args: tuple[int, ...]) -> int | None:
        operation = _FOLD.get(name)
        if operation is None or not all(self.is_const(i) for i in args):
            return None
        try:
            value = operation(*(self.nodes[i][1] for i in args))
        except (ArithmeticError, ValueError):
            return None  # 1/0, log(-1): inf and nan are run time's answer
        return self.const(value) if isinstance(value, bool | int | float) else None

    def _add(self, a: int, b: int) -> int:
        if self.is_const(a, 0):
            return b
        if self.is_const(b, 0):
            return a
        if self.nodes[b][0] == "neg":
            return self.op("sub", a, operands(self.nodes[b])[0])
        if self.nodes[a][0] == "neg":
            return self.op("sub", b, operands(self.nodes[a])[0])
        return self.put("add", *sorted((a, b)))

    def _sub(self, a: int, b: int) -> int:
        if self.is_const(b, 0):
            return a
        if self.is_const(a, 0):
            return self.op("neg", b)
        if self.nodes[b][0] == "neg":
            return self.op("add", a, operands(self.nodes[b])[0])
        return self.put("sub", a, b)

    def _mul(self, a: int, b: int) -> int:
        if self.is_const(a, 0) or self.is_const(b, 0):
            return self.const(0.0)
        for u, v in ((a, b), (b, a)):
            if self.is_const(u, 1):
                return v
            if self.is_const(u, -1):
                return self.op("neg", v)
            if self._masked(u):
                return self._push("mul", u, v)
        return self.put("mul", *sorted((a, b)))

    def _div(self, a: int, b: int) -> int:
        if self.is_const(b, 1) or self.is_const(a, 0):
            return a
        return self._push("div", a, b) if self._masked(a) else self.put("div", a, b)

    def _pow(self, a: int, b: int) -> int:
        if not self.is_const(b):
            return self.put("pow", a, b)
        exponent = constant(self.nodes[b])
        if exponent == 0:
            return self.const(1.0)
        if abs(exponent) <= 16 and exponent == int(exponent):
            return self._power(a, int(exponent))
        if exponent in (0.5, -0.5):
            root = self.op("sqrt", a)
            return root if exponent > 0 else self.op("div", self.const(1.0), root)
        return self.put("pow", a, b)

    def _power(self, i: int, n: int) -> int:
        if n < 0:
            return self.op("div", self.const(1.0), self._power(i, -n))
        if n == 1:
            return i
        half = self._power(i, n // 2)
        square = self.op("mul", half, half)
        return self.op("mul", square, i) if n % 2 else square

    def _neg(self, a: int) -> int:
        return operands(self.nodes[a])[0] if self.nodes[a][0] == "neg" else self.put("neg", a)

    def _not(self, a: int) -> int:
        return operands(self.nodes[a])[0] if self.nodes[a][0] == "not" else self.put("not", a)

    def _where(self, c: int, a: int, b: int) -> int:
        return b if a == b or self._needless(c, a, b) else self.put("where", c, a, b)

    def _masked(self, i: int) -> bool:
        node = self.nodes[i]
        return node[0] == "where" and any(self.is_const(j, 0) for j in operands(node)[1:])

    def _push(self, name: str, i: int, v: int) -> int:
        """Return where(c, u, 0) * v as where(c, u*v, 0), through masks in masks.

        At x <= 0 the derivative of where(x > 0, a*log(x), 0) is 0.
        """
        chain: list[tuple[int, bool]] = []
        while self._masked(i):
            c, a, b = operands(self.nodes[i])
            first = self.is_const(b, 0)
            chain.append((c, first))
            i = a if first else b
        out = self.op(name, i, v)
        for c, first in reversed(chain):
            zero = self.const(0.0)
            out = self.op("where", c, out, zero) if first else self.op("where", c, zero, out)
        return out

    def _needless(self, c: int, a: int, b: int) -> bool:
        """Return whether where(e == 0, 0, e*u**e) is a mask that nothing needs any more: e*u**e is 0 there by itself.

        Autograd writes it around e*u**(e - 1), which is 0*inf at u = 0.
        """
        node = self.nodes[c]
        if node[0] != "eq" or not self.is_const(a, 0):
            return False
        left, right = operands(node)
        e = left if self.is_const(right, 0) else right
        if not (self.is_const(left, 0) or self.is_const(right, 0)):
            return False
        invariant, pointwise = self.factors(b)
        there = any(e in self._atoms(i, all_of_them=True) for i in invariant)
        return there and all(self._singular(i) is None for i in pointwise)

    # ------------------------------------------------------------------ products

    def factors(self, i: int) -> tuple[list[int], list[int]]:
        """Return the invariant and the pointwise factors of node i."""
        invariant: list[int] = []
        pointwise: list[int] = []
        todo = [i]
        while todo:
            j = todo.pop()
            node = self.nodes[j]
            if self.invariant[j]:
                invariant.append(j)
            elif node[0] == "mul" and len(pointwise) + len(todo) < _MOST_FACTORS:
                todo.extend(reversed(operands(node)))
            elif node[0] == "neg":
                invariant.append(self.const(-1.0))
                todo.extend(operands(node))
            else:
                pointwise.append(j)
        return invariant, pointwise

    def product(self, ids: Iterable[int]) -> int:
        """Return the product of nodes, in the order of their ids so that equal products are shared."""
        out = self.const(1.0)
        for i in sorted(ids):
            out = self.op("mul", out, i)
        return out

    def normal(self, i: int, memo: dict[int, int], *, tame: bool) -> int:
        """Return node i with every product below it written as (invariant part) * (pointwise part).

        `memo` holds the nodes that are done. With `tame`, products are kept finite where a power is not.
        """
        stack = [i]
        while stack:
            j = stack[-1]
            if j in memo:
                stack.pop()
                continue
            node = self.nodes[j]
            if node[0] in LEAVES or self.invariant[j]:
                memo[j] = j
            elif waiting := [k for k in self._parts(j) if k not in memo]:
                stack.extend(waiting)
            else:
                memo[j] = self._rebuilt(j, memo, tame=tame)
        return memo[i]

    def _parts(self, j: int) -> list[int]:
        if self.nodes[j][0] in ("mul", "neg"):
            return [k for k in self.factors(j)[1] if k != j]
        return list(operands(self.nodes[j]))

    def _rebuilt(self, j: int, memo: dict[int, int], *, tame: bool) -> int:
        if self.nodes[j][0] in ("mul", "neg"):
            invariant, pointwise = self.factors(j)
            inside = [memo[k] for k in pointwise]
            return self.op(
                "mul", self.product(invariant), self.tamed(inside) if tame else self.product(inside)
            )
        return self.op(str(self.nodes[j][0]), *(memo[k] for k in operands(self.nodes[j])))

    # ------------------------------------------------------------------ powers in derivatives

    def tamed(self, ids: Sequence[int]) -> int:
        """Return a product of pointwise nodes, finite where a power in it is not and another factor vanishes.

        The derivative of (x/c)**b by c holds (x/c)**(b - 1) * x/c: at x = 0 and b < 1 that is inf * 0, and (x/c)**b is what
        is meant. The derivative of sqrt(a*x) by a is x/(2*sqrt(a*x)), 0/0 at x = 0 where the limit is 0.
        """
        ids, invariant, masks = self._unmasked(ids)
        while (merged := self._merged(ids)) is not None:
            ids = merged
        out, zero = self.product(ids), self.const(0.0)
        masks += [(self.op("eq", z, zero), False) for z in self._vanishing(ids)]
        out = self.op("mul", self.product(invariant), out)
        for c, first in reversed(list(dict.fromkeys(masks))):
            out = self.op("where", c, out, zero) if first else self.op("where", c, zero, out)
        return out

    def _unmasked(self, ids: Sequence[int]) -> tuple[list[int], list[int], list[tuple[int, bool]]]:
        """Return the pointwise and the invariant factors inside all masks, and the masks."""
        out: list[int] = []
        invariant: list[int] = []
        masks: list[tuple[int, bool]] = []
        todo = list(ids)
        while todo:
            i = todo.pop(0)
            if not self._masked(i):
                out.append(i)
                continue
            c, a, b = operands(self.nodes[i])
            first = self.is_const(b, 0)
            masks.append((c, first))
            constant_part, rest = self.factors(a if first else b)
            invariant += constant_part
            todo += rest
        return out, invariant, masks

    def _merged(self, ids: Sequence[int]) -> list[int] | None:
        """Return the factors after u**(e - 1) has met u/c and become u**e/c; None where no two meet."""
        for power in ids:
            u = self._singular(power)
            if u is None or self.nodes[power][0] != "pow":
                continue
            for other in ids:
                below = self._without(other, u)
                if other != power and below is not None:
                    rest = list(ids)
                    rest.remove(power)
                    rest.remove(other)
                    out = self.op("pow", u, self._raised(operands(self.nodes[power])[1]))
                    for c in below:
                        out = self.op("div", out, c)
                    return [*rest, out]
        return None

    def _without(self, i: int, u: int) -> list[int] | None:
        """Return the denominators of u/c/d..., None where node i is no such quotient."""
        below: list[int] = []
        while i != u:
            if self.nodes[i][0] != "div":
                return None
            i, c = operands(self.nodes[i])
            below.append(c)
        return below[::-1]

    def _raised(self, e: int) -> int:
        """Return an exponent plus one: e - 1 becomes e."""
        if self.is_const(e):
            return self.const(constant(self.nodes[e]) + 1)
        w, one = operands(self.nodes[e])
        return w if self.is_const(one, 1) else self.op("add", e, self.const(1.0))

    def _singular(self, i: int) -> int | None:
        """Return u where node i is u**(e - 1), u**-0.3 or 1/sqrt(u): infinite at u = 0 though u**e is not."""
        node = self.nodes[i]
        if node[0] == "pow":
            u, e = operands(node)
            lowered = self.nodes[e][0] == "sub" and self.is_const(operands(self.nodes[e])[1])
            negative = self.is_const(e) and constant(self.nodes[e]) < 0
            return u if (lowered or negative) and not self.invariant[u] else None
        if node[0] == "div":
            roots = [j for j in self._atoms(operands(node)[1]) if self.nodes[j][0] in ("sqrt", "pow")]
            return operands(self.nodes[roots[0]])[0] if roots else None
        return None

    def _vanishing(self, ids: Sequence[int]) -> list[int]:
        """Return what a power that is infinite at 0 and the rest of the product have in common as a factor."""
        out: list[int] = []
        for k, i in enumerate(ids):
            u = self._singular(i)
            if u is None:
                continue
            others = [
                *ids[:k],
                *ids[k + 1 :],
                *(operands(self.nodes[i])[:1] if self.nodes[i][0] == "div" else ()),
            ]
            shared = self._atoms(u) & frozenset[int]().union(*(self._atoms(j) for j in others))
            out += [z for z in shared if not any(z in self._atoms(whole) for whole in shared - {z})]
        return sorted(set(out))

    def _atoms(self, i: int, *, all_of_them: bool = False) -> frozenset[int]:
        """Return node i and the factors above its fraction lines, at most some thirty; the pointwise ones, or all."""
        out: set[int] = set()
        todo = [i]
        while todo and len(out) < _MOST_FACTORS:
            j = todo.pop()
            name = self.nodes[j][0]
            if j in out or (self.invariant[j] and not all_of_them):
                continue
            out.add(j)
            above = operands(self.nodes[j])
            todo.extend(above if name in _VANISHING else above[:1] if name == "div" else ())
        return frozenset(out)


def assemble(
    builder: Builder, ends: Sequence[int], variables: Sequence[str], parameters: Sequence[str]
) -> Graph:
    """Return the graph of a value and its derivatives, the nodes `ends`: in normal form, unused nodes left out."""
    memo: dict[int, int] = {}  # one memo: value and derivatives must share what is equal
    value = builder.normal(ends[0], memo, tame=False)
    scale: list[int] = []
    core: list[int] = []
    for slope in ends[1:]:
        invariant, pointwise = _split(builder, builder.normal(slope, memo, tame=True))
        scale.append(builder.product(invariant))
        core.append(builder.tamed(pointwise))
    keep = reached(builder.nodes, [value, *scale, *core])
    new = {old: k for k, old in enumerate(keep)}
    nodes = [builder.nodes[i] for i in keep]
    return Graph(
        tuple(n if n[0] in LEAVES else (n[0], *(new[j] for j in operands(n))) for n in nodes),
        new[value],
        tuple(new[i] for i in scale),
        tuple(new[i] for i in core),
        tuple(variables),
        tuple(parameters),
    )


def _split(builder: Builder, slope: int) -> tuple[list[int], list[int]]:
    """Return the invariant and the pointwise factors of a derivative, the last invariant denominator among the former.

    Only the last one, as 1/tau**2 overflows where (x/tau)/tau does not.
    """
    invariant, pointwise = builder.factors(slope)
    rest: list[int] = []
    for i in pointwise:
        if builder.nodes[i][0] == "div" and builder.invariant[operands(builder.nodes[i])[1]]:
            i, below = operands(builder.nodes[i])
            invariant.append(builder.op("div", builder.const(1.0), below))
        rest.append(i)
    return invariant, rest
