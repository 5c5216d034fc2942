"""The graph of a model: scalar operations that give its value and every derivative, and their simplification."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

Node = tuple[object, ...]  # ("const", v) | ("var", i) | ("par", j) | (operation, id, ...); ids point backwards

LEAVES = frozenset({"const", "var", "par"})
COMPARE = frozenset({"lt", "le", "gt", "ge", "eq", "ne"})
LOGIC = frozenset({"and", "or", "not"})
UNARY = frozenset(
    "neg exp log sqrt sin cos tan tanh atan asin acos sinh cosh asinh acosh atanh abs erf erfc log1p expm1 "
    "floor sign lgamma digamma".split()
)
BINARY = frozenset("add sub mul div pow atan2 wofz_real wofz_imag".split())
OPERATIONS = UNARY | BINARY | COMPARE | LOGIC | {"where"}


@dataclass(frozen=True)
class Graph:
    """A model as a list of scalar operations: nodes[value] is the model, the derivatives are products of two nodes.

    The derivative with respect to parameter j is nodes[scale[j]] * nodes[core[j]]; the scale depends on parameters only,
    so that a sum over points can be made of the cores alone and scaled once.
    """

    nodes: tuple[Node, ...]
    value: int
    scale: tuple[int, ...]
    core: tuple[int, ...]
    variables: tuple[str, ...]
    parameters: tuple[str, ...]

    def invariant(self) -> tuple[bool, ...]:
        """Return for each node whether it depends on constants and parameters only."""
        out: list[bool] = []
        for node in self.nodes:
            out.append(node[0] in ("const", "par") or (node[0] != "var" and all(out[i] for i in operands(node))))
        return tuple(out)

    def depends(self) -> tuple[frozenset[int], ...]:
        """Return for each node the indices of the parameters it depends on."""
        out: list[frozenset[int]] = []
        for node in self.nodes:
            if node[0] == "par":
                out.append(frozenset({int(node[1])}))  # pyright: ignore[reportArgumentType]  # a leaf's index
            elif node[0] in LEAVES:
                out.append(frozenset())
            else:
                out.append(frozenset[int]().union(*(out[i] for i in operands(node))))
        return tuple(out)

    @cached_property
    def linear(self) -> tuple[int, ...]:
        """A set of parameters in which the model is jointly linear, found from the derivatives.

        Parameters i and j exclude each other when the derivative by one depends on the other.
        """
        depends = self.depends()
        slopes = [depends[s] | depends[c] for s, c in zip(self.scale, self.core, strict=True)]
        flat = {j for j, c in enumerate(self.core) if self.nodes[c] == ("const", 0.0)}
        chosen: set[int] = {j for j, d in enumerate(slopes) if j not in d} - flat
        while True:
            rivals = {j: len((slopes[j] & chosen) | {i for i in chosen if j in slopes[i]}) for j in chosen}
            worst = max(rivals, key=lambda j: (rivals[j], j), default=-1)
            if worst < 0 or rivals[worst] == 0:
                return tuple(sorted(chosen))
            chosen.discard(worst)

    def unused(self) -> tuple[str, ...]:
        """Return the parameters that the model's value never uses."""
        used = self.depends()[self.value]
        return tuple(name for j, name in enumerate(self.parameters) if j not in used)

    def to_dict(self) -> dict[str, object]:
        """Return the graph as plain lists, for JSON; infinities and NaN are written as text."""
        return {
            "nodes": [[_plain(part) for part in node] for node in self.nodes],
            "value": self.value,
            "scale": list(self.scale),
            "core": list(self.core),
            "variables": list(self.variables),
            "parameters": list(self.parameters),
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, object]) -> "Graph":
        """Return the graph that `to_dict` wrote.

        Raises
        ------
        ValueError
            If an operation is unknown or an id does not point backwards.
        """
        nodes: list[Node] = []
        for i, raw in enumerate(_sequence(plain["nodes"])):
            name, *rest = _sequence(raw)
            if name == "const":
                nodes.append(("const", _constant(rest[0])))
            elif name in LEAVES:
                nodes.append((str(name), _whole(rest[0])))
            else:
                ids = tuple(_whole(part) for part in rest)
                if name not in OPERATIONS or not all(0 <= j < i for j in ids):
                    raise ValueError(f"node {i} of the graph is damaged: {raw}")
                nodes.append((str(name), *ids))
        return cls(
            nodes=tuple(nodes),
            value=_whole(plain["value"]),
            scale=tuple(_whole(i) for i in _sequence(plain["scale"])),
            core=tuple(_whole(i) for i in _sequence(plain["core"])),
            variables=tuple(str(v) for v in _sequence(plain["variables"])),
            parameters=tuple(str(v) for v in _sequence(plain["parameters"])),
        )


def operands(node: Node) -> tuple[int, ...]:
    """Return the ids a node is computed from; none for a leaf."""
    return () if node[0] in LEAVES else node[1:]  # pyright: ignore[reportReturnType]  # operations hold ids only


def _plain(part: object) -> object:
    return str(part) if isinstance(part, float) and not math.isfinite(part) else part


def _constant(part: object) -> bool | float:
    return part if isinstance(part, bool) else float(part)  # pyright: ignore[reportArgumentType]  # number or "inf"


def _whole(part: object) -> int:
    if not isinstance(part, int):
        raise ValueError(f"{part!r} is not a whole number")  # noqa: TRY004  a damaged file, not a wrong call
    return part


def _sequence(part: object) -> Sequence[object]:
    if not isinstance(part, list):
        raise ValueError(f"{part!r} is not a list")  # noqa: TRY004  a damaged file, not a wrong call
    return part  # pyright: ignore[reportUnknownVariableType]  # elements are checked one by one


def assemble(
    builder: "Builder", value: int, slopes: Iterable[int], variables: Sequence[str], parameters: Sequence[str]
) -> Graph:
    """Return the graph of a value and its derivatives: products in normal form, unused nodes left out."""
    memo: dict[int, int] = {}  # one memo: value and derivatives must share what is equal
    value = builder.normal(value, memo)
    scale, core = [], []
    for slope in slopes:
        invariant, pointwise = builder.factors(builder.normal(slope, memo))
        scale.append(builder.product(invariant))
        core.append(builder.product(pointwise))
    keep: set[int] = set()
    todo = [value, *scale, *core]
    while todo:
        i = todo.pop()
        if i not in keep:
            keep.add(i)
            todo.extend(operands(builder.nodes[i]))
    new = {old: k for k, old in enumerate(sorted(keep))}
    nodes = tuple(
        n if n[0] in LEAVES else (n[0], *(new[j] for j in operands(n)))
        for n in (builder.nodes[i] for i in sorted(keep))
    )
    return Graph(
        nodes,
        new[value],
        tuple(new[i] for i in scale),
        tuple(new[i] for i in core),
        tuple(variables),
        tuple(parameters),
    )


_FOLD: dict[str, object] = {
    "add": lambda a, b: a + b,
    "sub": lambda a, b: a - b,
    "mul": lambda a, b: a * b,
    "div": lambda a, b: a / b,
    "pow": lambda a, b: a**b,
    "neg": lambda a: -a,
    "abs": abs,
    "where": lambda c, a, b: a if c else b,
    "lt": lambda a, b: a < b,
    "le": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "ge": lambda a, b: a >= b,
    "eq": lambda a, b: a == b,
    "ne": lambda a, b: a != b,
    "and": lambda a, b: a and b,
    "or": lambda a, b: a or b,
    "not": lambda a: not a,
    **{
        name: getattr(math, name)
        for name in "exp log sqrt sin cos tan tanh atan asin acos sinh cosh asinh acosh atanh erf erfc log1p expm1 "
        "atan2 lgamma".split()
    },
}


class Builder:
    """Append-only list of scalar nodes: equal nodes are made once, constants folded, products kept in normal form.

    Its rules are those that keep a derivative exact where autograd's text would give 0 * inf: a factor that is zero by
    structure gives zero, and a product with a mask is moved inside the mask.
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
            self.invariant.append(leaf or (node[0] != "var" and all(self.invariant[i] for i in operands(node))))
        return self._index[key]

    def const(self, value: float) -> int:
        """Return the id of a constant."""
        return self.put("const", value if isinstance(value, bool) else float(value))

    def is_const(self, i: int, value: float | None = None) -> bool:
        """Return whether node i is a constant, and this one if a value is given."""
        node = self.nodes[i]
        return node[0] == "const" and (value is None or (node[1] == value and not isinstance(node[1], bool)))

    def is_bool(self, i: int) -> bool:
        """Return whether node i is a truth value."""
        node = self.nodes[i]
        return node[0] in COMPARE or node[0] in LOGIC or (node[0] == "const" and isinstance(node[1], bool))

    def number(self, i: int) -> int:
        """Return a truth value as 1 or 0, a number as it is."""
        return self.op("where", i, self.const(1.0), self.const(0.0)) if self.is_bool(i) else i

    def truth(self, i: int) -> int:
        """Return a number as the truth value `i != 0`, a truth value as it is."""
        return i if self.is_bool(i) else self.op("ne", i, self.const(0.0))

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
        rule = getattr(self, f"_{name}", None)
        return self.put(name, *args) if rule is None else rule(*args)

    def _fold(self, name: str, args: tuple[int, ...]) -> int | None:
        operation = _FOLD.get(name)
        if operation is None or not all(self.is_const(i) for i in args):
            return None
        try:
            value = operation(*(self.nodes[i][1] for i in args))  # pyright: ignore[reportCallIssue]  # a table of functions
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
        if self._masked(a):
            return self._push("div", a, b)
        return self.put("div", a, b)

    def _pow(self, a: int, b: int) -> int:
        if not self.is_const(b):
            return self.put("pow", a, b)
        exponent = float(self.nodes[b][1])  # pyright: ignore[reportArgumentType]  # a constant's number
        if exponent == 0:
            return self.const(1.0)
        if exponent == int(exponent) and abs(exponent) <= 16:
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
        return a if a == b else self.put("where", c, a, b)

    def _masked(self, i: int) -> bool:
        node = self.nodes[i]
        return node[0] == "where" and any(self.is_const(j, 0) for j in operands(node)[1:])

    def _push(self, name: str, i: int, v: int) -> int:
        """where(c, u, 0) * v -> where(c, u*v, 0): at x <= 0 the derivative of where(x > 0, a*log(x), 0) is 0."""
        c, a, b = operands(self.nodes[i])
        return self.op("where", c, self.op(name, a, v), self.op(name, b, v))

    def maximum(self, a: int, b: int) -> int:
        """Return the larger one; a nan in the one that is not constant survives."""
        a, b = (b, a) if self.is_const(b) else (a, b)
        return self.op("where", self.op("gt", a, b), a, b)

    def minimum(self, a: int, b: int) -> int:
        """Return the smaller one; a nan in the one that is not constant survives."""
        a, b = (b, a) if self.is_const(b) else (a, b)
        return self.op("where", self.op("lt", a, b), a, b)

    def factors(self, i: int) -> tuple[list[int], list[int]]:
        """Return the invariant and the pointwise factors of node i."""
        node = self.nodes[i]
        if self.invariant[i]:
            return [i], []
        if node[0] == "mul":
            (a, b), (c, d) = (self.factors(j) for j in operands(node))
            return a + c, b + d
        if node[0] == "neg":
            inner, point = self.factors(operands(node)[0])
            return [*inner, self.const(-1.0)], point
        return [], [i]

    def product(self, ids: Iterable[int]) -> int:
        """Return the product of nodes, in the order of their ids so that equal products are shared."""
        out = self.const(1.0)
        for i in sorted(ids):
            out = self.op("mul", out, i)
        return out

    def normal(self, i: int, memo: dict[int, int]) -> int:
        """Return node i with every product below it written as (invariant part) * (pointwise part)."""
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
                memo[j] = self._rebuilt(j, memo)
        return memo[i]

    def _parts(self, j: int) -> list[int]:
        if self.nodes[j][0] in ("mul", "neg"):
            return [k for k in self.factors(j)[1] if k != j]
        return list(operands(self.nodes[j]))

    def _rebuilt(self, j: int, memo: dict[int, int]) -> int:
        if self.nodes[j][0] in ("mul", "neg"):
            invariant, pointwise = self.factors(j)
            return self.op("mul", self.product(invariant), self.product(memo[k] for k in pointwise))
        return self.op(str(self.nodes[j][0]), *(memo[k] for k in operands(self.nodes[j])))
