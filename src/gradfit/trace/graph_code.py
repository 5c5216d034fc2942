"""A graph as a torch function: what was traced, on tensors of any shape, with autograd's derivatives."""

from collections.abc import Callable, Mapping
from functools import lru_cache

from gradfit._lazy import torch
from gradfit.graph import Graph, constant, operands, place
from gradfit.trace.special import faddeeva

Function = Callable[..., "torch.Tensor"]

_OF_TORCH = (
    "add sub mul div pow neg exp log sqrt sin cos tan tanh atan asin acos sinh cosh asinh acosh atanh abs erf erfc "
    "log1p expm1 floor sign lgamma digamma atan2 where lt le gt ge eq ne logical_and logical_or logical_not"
)


def torch_graph(graph: Graph) -> Function:
    """Return f(*variables, *parameters) on tensors."""
    operations = _operations()

    def function(*tensors: "torch.Tensor") -> "torch.Tensor":
        like = tensors[0]
        out: list[torch.Tensor] = []
        for node in graph.nodes[: graph.value + 1]:
            if node[0] == "const":
                dtype = torch.bool if isinstance(node[1], bool) else like.dtype
                out.append(torch.tensor(constant(node), dtype=dtype, device=like.device))
            elif node[0] in ("var", "par"):
                out.append(tensors[place(node) + (len(graph.variables) if node[0] == "par" else 0)])
            else:
                out.append(operations[str(node[0])](*(out[i] for i in operands(node))))
        return out[graph.value]

    return function


@lru_cache(maxsize=1)
def _operations() -> Mapping[str, Function]:
    """Return torch's functions for the graph's operations; made at the first use, as torch is a late import."""
    real, imag = faddeeva()
    named = {name.removeprefix("logical_"): getattr(torch, name) for name in _OF_TORCH.split()}
    return {**named, "wofz_real": _joined(real), "wofz_imag": _joined(imag)}


def _joined(function: Function) -> Function:
    def of_one_shape(*values: "torch.Tensor") -> "torch.Tensor":
        return function(*torch.broadcast_tensors(*values))

    return of_one_shape
