"""From a graph to the units of its parameters: a rate is measured in 1/x, a height in the unit of y."""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import COMPARE, LOGIC, Graph, constant, operands, place, reached

Array = NDArray[np.float64]

#: the unit of what these operations return
_UNITS: Mapping[str, Callable[..., Array]] = {
    "neg": lambda a: a, "abs": lambda a: a, "floor": lambda a: a, "sqrt": lambda a: a / 2,
    "mul": lambda a, b: a + b, "div": lambda a, b: a - b,
}  # fmt: skip
_EQUAL = frozenset(["add", "sub", "where", "atan2", *COMPARE])  # what they are given last is measured alike
_WAVES = frozenset(["sin", "cos", "tan"])
_HALF = 0.5  # exponents are multiples of it


@lru_cache(maxsize=64)
def exponents(graph: Graph) -> Array:
    """Return the powers (k, v + 1) of each input's unit, and of the response's, in each parameter's; NaN where unknown.

    In a*exp(-k*x) the exponent is a number, so that k is measured in 1/x and a as y. A number that is added to something
    counts as one without a unit first; where that contradicts the rest, as x - 3 may, as one with any.
    """
    for strict in (True, False):
        found = _Equations(graph, strict=strict).solved()
        if found is not None:
            return found
    return np.full((len(graph.parameters), len(graph.variables) + 1), np.nan)


class _Equations:
    """Linear equations for the exponents; each node has a row of coefficients and a known part."""

    def __init__(self, graph: Graph, *, strict: bool) -> None:
        self.graph, self.strict = graph, strict
        self.order = sorted(reached(graph.nodes, [graph.value]))
        k, self.units = len(graph.parameters), len(graph.variables) + 1
        free = [
            i
            for i in self.order
            if graph.nodes[i][0] == "const" and not (strict and constant(graph.nodes[i]))
        ]
        self.column = {i: k + j for j, i in enumerate(free)}
        self.unknowns = k + len(free)
        self.rows: list[Array] = []
        self.units_of: dict[int, Array] = {}

    def solved(self) -> Array | None:
        """Return the exponents, None where the model contradicts itself."""
        for i in self.order:
            self.units_of[i] = self._of(i)
        self.rows.append(self.units_of[self.graph.value] - self._unit(self.units - 1))
        system = np.array(self.rows)
        A, B = system[:, : self.unknowns], -system[:, self.unknowns :]
        u, s, vt = np.linalg.svd(A, full_matrices=True)
        rank = int(np.count_nonzero(s > 1e-9))
        x = vt[:rank].T @ ((u[:, :rank].T @ B) / s[:rank, None])
        if np.abs(A @ x - B).max(initial=0.0) > 1e-9:
            return None
        known = np.abs(vt[rank:]).max(axis=0, initial=0.0) < 1e-9
        k = len(self.graph.parameters)
        rounded = np.round(x[:k] / _HALF) * _HALF
        plain = (np.abs(x[:k] - rounded) < 1e-9).all(axis=1)
        return np.where((known[:k] & plain)[:, None], rounded, np.nan)

    def _unit(self, which: int) -> Array:
        out = np.zeros(self.unknowns + self.units)
        out[self.unknowns + which] = 1.0
        return out

    def _of(self, i: int) -> Array:
        node = self.graph.nodes[i]
        none = np.zeros(self.unknowns + self.units)
        if node[0] == "var":
            return self._unit(place(node))
        if node[0] == "par" or i in self.column:
            none[place(node) if node[0] == "par" else self.column[i]] = 1.0
            return none
        if node[0] == "const" or node[0] in LOGIC:
            return none
        return self._operation(str(node[0]), operands(node), none)

    def _operation(self, name: str, at: tuple[int, ...], none: Array) -> Array:
        parts = [self.units_of[j] for j in at]
        if name in _UNITS:
            return _UNITS[name](*parts)
        if name == "pow":
            return self._power(at, parts)
        if name in _EQUAL:
            one, other = parts[-2:]
            self.rows.append(one - other)
            return one if name in ("add", "sub", "where") else none
        if name != "log" or self.strict:
            self.rows.extend(parts)
        return none

    def _power(self, at: tuple[int, ...], parts: list[Array]) -> Array:
        exponent = self.graph.nodes[at[1]]
        if exponent[0] == "const":
            return parts[0] * constant(exponent)
        self.rows.append(parts[1])
        return parts[0] * (
            1 + 0.1 / np.sqrt(2 + at[1])
        )  # of a parameter: some number that no other exponent is


def angles(graph: Graph) -> frozenset[int]:
    """Return the parameters that an angle depends on."""
    depends = graph.depends()
    waves = (graph.nodes[i] for i in reached(graph.nodes, [graph.value]) if graph.nodes[i][0] in _WAVES)
    return frozenset[int]().union(*(depends[operands(node)[0]] for node in waves))
