"""The derivatives of a graph as graphs of their own, which have derivatives again."""

from functools import lru_cache

from gradfit import store
from gradfit._lazy import torch
from gradfit.graph import Graph
from gradfit.trace import trace
from gradfit.trace.aten import UntraceableError
from gradfit.trace.graph_code import torch_graph
from gradfit.trace.kept import VERSIONS, keep, recalled


@lru_cache(maxsize=64)
def slopes(graph: Graph, free: tuple[int, ...]) -> tuple[Graph, ...] | None:
    """Return the graph of the derivative by each of these parameters.

    None where torch has no second derivatives; no graph at all where the model is linear in all of them, so that all
    second derivatives are zero.
    """
    if set(free) <= set(graph.linear):
        return ()
    try:
        return tuple(_slope(graph, j) for j in free)
    except UntraceableError:
        return None


def _slope(graph: Graph, j: int) -> Graph:
    """Return the derivative by one parameter, traced, or as an earlier process has traced it."""
    key = store.key_of(f"slope {j} of {graph!r}", *VERSIONS)
    kept = recalled(key, graph.variables, graph.parameters)
    if kept is None:
        kept = _traced(graph, j)
        keep(key, kept)
    return kept


def _traced(graph: Graph, j: int) -> Graph:
    function = torch_graph(graph)

    def slope(*tensors: "torch.Tensor") -> "torch.Tensor":
        by = tensors[len(graph.variables) + j]
        value = function(*tensors)
        if not value.requires_grad:
            return torch.zeros_like(by)
        return torch.autograd.grad(value, by, create_graph=True, materialize_grads=True)[0]

    return trace(slope, graph.variables, graph.parameters)
