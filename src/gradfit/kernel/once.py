"""Parts of a model that depend on its inputs alone: computed once for a fit, not in every evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import BINARY, UNARY, Graph, Node, is_truth, operands, reached
from gradfit.kernel.numpy import NumpyKernel

Array = NDArray[np.float64]

#: operations that cost less than the memory of their results
_CHEAP = frozenset(["add", "sub", "mul", "div", "neg", "abs", "floor", "sign"])
_DEAR = (UNARY | BINARY) - _CHEAP


@dataclass(frozen=True, eq=False)
class Once:
    """A graph without such parts, and what computes them.

    Attributes
    ----------
    graph : Graph
        With a variable more for each of them.
    parts : tuple of NumpyKernel
        They, as functions of the model's own variables.
    """

    graph: Graph
    parts: tuple[NumpyKernel, ...]

    def columns(self, columns: Sequence[Array]) -> list[Array]:
        """Return the model's columns, each (n,), and those of its parts."""
        nothing = np.zeros(0)
        own = list(columns[: len(self.graph.variables) - len(self.parts)])
        return [*own, *(part.value(own, nothing) for part in self.parts)]


@lru_cache(maxsize=256)
def once(graph: Graph) -> Once | None:
    """Return the graph without the parts that are worth a column; None where it has none."""
    nodes = graph.nodes
    ends = (graph.value, *graph.scale, *graph.core)
    alone = _alone(nodes)
    used = set(ends).union(*(operands(nodes[i]) for i in reached(nodes, ends) if not alone[i]))
    chosen = [i for i in sorted(used) if alone[i] and _is_dear(nodes, i)]
    if not chosen:
        return None
    count = len(graph.variables)
    short = [("var", count + chosen.index(i)) if i in chosen else node for i, node in enumerate(nodes)]
    names = (*graph.variables, *(f"part {k + 1}" for k in range(len(chosen))))
    parts = (_packed(replace(graph, value=i, scale=(), core=(), parameters=())) for i in chosen)
    return Once(
        _packed(replace(graph, nodes=tuple(short), variables=names)), tuple(NumpyKernel(p) for p in parts)
    )


def _alone(nodes: Sequence[Node]) -> list[bool]:
    """Return which nodes are numbers that depend on variables and on no parameter."""
    varies: list[bool] = []
    free: list[bool] = []
    for node in nodes:
        below = operands(node)
        varies.append(node[0] == "var" or any(varies[i] for i in below))
        free.append(node[0] != "par" and all(free[i] for i in below))
    return [v and f and not is_truth(node) for v, f, node in zip(varies, free, nodes, strict=True)]


def _is_dear(nodes: Sequence[Node], i: int) -> bool:
    return any(nodes[j][0] in _DEAR for j in reached(nodes, [i]))


def _packed(graph: Graph) -> Graph:
    """Return the graph without nodes that nothing is made of."""
    kept = reached(graph.nodes, (graph.value, *graph.scale, *graph.core))
    place = {old: new for new, old in enumerate(kept)}
    nodes = tuple(
        (graph.nodes[i][0], *(place[j] for j in operands(graph.nodes[i])))
        if operands(graph.nodes[i])
        else graph.nodes[i]
        for i in kept
    )
    scale, core = tuple(place[i] for i in graph.scale), tuple(place[i] for i in graph.core)
    return replace(graph, nodes=nodes, value=place[graph.value], scale=scale, core=core)
