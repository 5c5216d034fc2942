"""The graph of a model: scalar operations that give its value and every derivative."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeGuard, cast

Node = tuple[
    object, ...
]  # ("const", v) | ("var", i) | ("par", j) | (operation, id, ...); ids point backwards

_UNARY = (
    "neg exp log sqrt sin cos tan tanh atan asin acos sinh cosh asinh acosh atanh abs erf erfc log1p expm1 "
    "floor sign lgamma digamma"
)
LEAVES = frozenset(["const", "var", "par"])
COMPARE = frozenset(["lt", "le", "gt", "ge", "eq", "ne"])
LOGIC = frozenset(["and", "or", "not"])
UNARY = frozenset(_UNARY.split())
BINARY = frozenset(["add", "sub", "mul", "div", "pow", "atan2", "wofz_real", "wofz_imag"])
OPERATIONS = UNARY | BINARY | COMPARE | LOGIC | {"where"}

_STEPS = COMPARE | {"floor", "sign"}  # their derivative is zero, and yet what they are made of matters
_NOT_FINITE = frozenset(["inf", "-inf", "nan"])


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
            leaf = node[0] in ("const", "par")
            out.append(leaf or (node[0] != "var" and all(out[i] for i in operands(node))))
        return tuple(out)

    def depends(self) -> tuple[frozenset[int], ...]:
        """Return for each node the indices of the parameters it depends on."""
        out: list[frozenset[int]] = []
        for node in self.nodes:
            if node[0] == "par":
                out.append(frozenset({place(node)}))
            else:
                out.append(frozenset[int]().union(*(out[i] for i in operands(node))))
        return tuple(out)

    @cached_property
    def linear(self) -> tuple[int, ...]:
        """A set of parameters in which the model is jointly linear, found from the derivatives.

        Parameters i and j exclude each other when the derivative by one depends on the other. One that decides a comparison
        or is rounded is in no such set: there the model has steps that no derivative shows.
        """
        depends = self.depends()
        slopes = [depends[s] | depends[c] for s, c in zip(self.scale, self.core, strict=True)]
        zero = ("const", 0.0)
        parts = enumerate(zip(self.scale, self.core, strict=True))
        flat = {j for j, (s, c) in parts if zero in (self.nodes[s], self.nodes[c])}
        stepped = frozenset[int]().union(
            *(depends[i] for i in reached(self.nodes, [self.value]) if self.nodes[i][0] in _STEPS)
        )
        chosen: set[int] = {j for j, d in enumerate(slopes) if j not in d} - flat - stepped
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
            If a part is missing or of another kind, an operation is unknown or does not have the operands it needs, or an
            id does not point backwards.
        """
        variables, parameters = _names(plain, "variables"), _names(plain, "parameters")
        room = {"var": len(variables), "par": len(parameters)}
        nodes: list[Node] = []
        truths: list[bool] = []
        for raw in _sequence(_part(plain, "nodes")):
            nodes.append(_node(_sequence(raw), truths, room))
            truths.append(is_truth(nodes[-1]))
        numbers = [i for i, truth in enumerate(truths) if not truth]
        scale, core = _ids(plain, "scale", numbers), _ids(plain, "core", numbers)
        if not len(scale) == len(core) == len(parameters):
            raise ValueError(f"{len(parameters)} parameters have {len(scale)} and {len(core)} derivatives")
        value = _id(_part(plain, "value"), numbers)
        return cls(tuple(nodes), value, scale, core, variables, parameters)


def operands(node: Node) -> tuple[int, ...]:
    """Return the ids a node is computed from; none for a leaf."""
    return () if node[0] in LEAVES else cast("tuple[int, ...]", node[1:])


def place(node: Node) -> int:
    """Return which variable or parameter a leaf stands for."""
    return cast("int", node[1])


def constant(node: Node) -> float:
    """Return a constant's number; a truth value is 1 or 0."""
    return float(cast("float", node[1]))


def is_truth(node: Node) -> bool:
    """Return whether a node is a truth value."""
    return node[0] in COMPARE or node[0] in LOGIC or (node[0] == "const" and isinstance(node[1], bool))


def reached(nodes: Sequence[Node], ends: Sequence[int]) -> list[int]:
    """Return the ids of all that the ends are computed from, and theirs, in order."""
    out: set[int] = set()
    todo = list(ends)
    while todo:
        i = todo.pop()
        if i not in out:
            out.add(i)
            todo.extend(operands(nodes[i]))
    return sorted(out)


# ---------------------------------------------------------------------------- plain lists


def _plain(part: object) -> object:
    return str(part) if isinstance(part, float) and not math.isfinite(part) else part


def _part(plain: Mapping[str, object], key: str) -> object:
    if key not in plain:
        raise ValueError(f"{key} of the graph is missing")
    return plain[key]


def _is_list(part: object) -> TypeGuard[list[object]]:
    return isinstance(part, list)


def _sequence(part: object) -> list[object]:
    if not _is_list(part):
        raise ValueError(f"{part!r} is not a list")
    return part


def _names(plain: Mapping[str, object], key: str) -> tuple[str, ...]:
    names = _sequence(_part(plain, key))
    if not all(isinstance(name, str) for name in names):
        raise ValueError(f"{key} of the graph are not all names: {names}")
    return tuple(str(name) for name in names)


def _ids(plain: Mapping[str, object], key: str, known: Sequence[int]) -> tuple[int, ...]:
    return tuple(_id(part, known) for part in _sequence(_part(plain, key)))


def _id(part: object, known: Sequence[int]) -> int:
    if isinstance(part, bool) or not isinstance(part, int) or part not in known:
        raise ValueError(f"{part!r} is not the number of a node that can stand here")
    return part


def _node(raw: list[object], truths: Sequence[bool], room: Mapping[str, int]) -> Node:
    """Return a node after a look at all its parts; `truths` tells of the nodes before it which are truth values.

    Raises
    ------
    ValueError
        If a part is missing, or is not what the operation takes.
    """
    name, rest = (str(raw[0]), raw[1:]) if raw else ("", [])
    if name == "const" and len(rest) == 1:
        return ("const", _constant(rest[0]))
    if name in LEAVES and len(rest) == 1:
        return (name, _id(rest[0], range(room.get(name, 0))))
    wanted = _wanted(name)
    if name not in OPERATIONS or len(rest) != len(wanted):
        raise ValueError(f"node {len(truths)} of the graph is damaged: {raw}")
    ids = tuple(_id(part, range(len(truths))) for part in rest)
    if tuple(truths[i] for i in ids) != wanted:
        raise ValueError(
            f"node {len(truths)} of the graph takes a number for a truth value, or one for a number"
        )
    return (name, *ids)


def _wanted(name: str) -> tuple[bool, ...]:
    """Return for each operand of an operation whether it is a truth value."""
    if name == "where":
        return (True, False, False)
    if name in LOGIC:
        return (True,) if name == "not" else (True, True)
    return (False,) if name in UNARY else (False, False)


def _constant(part: object) -> bool | float:
    if isinstance(part, bool):
        return part
    if (isinstance(part, str) and part in _NOT_FINITE) or isinstance(part, int | float):
        try:
            return float(part)
        except OverflowError as error:
            raise ValueError(f"{part!r:.40} is too large for a number of 64 bits") from error
    raise ValueError(f"{part!r} is not a number")
