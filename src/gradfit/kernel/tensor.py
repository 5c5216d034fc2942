"""The tensor executor: the graph's operations on torch tensors, on any device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.graph import Graph, constant, operands, place
from gradfit.kernel.faddeeva import wofz

Array = NDArray[np.float64]

_OF_TORCH = (
    "add sub mul div pow neg exp log sqrt sin cos tan tanh atan asin acos sinh cosh asinh acosh atanh abs erf erfc "
    "log1p expm1 floor lgamma digamma atan2 where lt le gt ge eq ne"
)


@dataclass(frozen=True)
class TensorExecutor:
    """Runs graphs with torch, in float64.

    Parameters
    ----------
    device : str
        "cpu", "cuda", "cuda:1", ...
    """

    device: str = "cpu"

    def compile(self, graph: Graph) -> "TensorKernel":
        """Return the kernel of a graph."""
        return TensorKernel(graph, self.device)


@dataclass(frozen=True)
class TensorKernel:
    """A graph's operations as torch calls."""

    graph: Graph
    device: str = "cpu"

    @property
    def name(self) -> str:
        """The executor's name, with the device where it is not the processor."""
        return "tensor" if self.device == "cpu" else f"tensor on {self.device}"

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,) at the rows of `columns`, each (n,), for parameters (k,)."""
        with torch.no_grad():
            values = self._run(columns, parameters)
            return _column(values[self.graph.value], columns).cpu().numpy()

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k), stored by column."""
        graph = self.graph
        with torch.no_grad():
            values = self._run(columns, parameters)
            value = _column(values[graph.value], columns).cpu().numpy()
            jacobian = np.empty((len(graph.core), len(value)))
            for j, (scale, core) in enumerate(zip(graph.scale, graph.core, strict=True)):
                jacobian[j] = _column(values[scale] * values[core], columns).cpu().numpy()
        return value, jacobian.T

    def _run(self, columns: Sequence[Array], parameters: Array) -> list["torch.Tensor"]:
        functions = _functions()
        out: list[torch.Tensor] = []
        for node in self.graph.nodes:
            if node[0] == "var":
                out.append(self._input(columns[place(node)]))
            elif node[0] == "par":
                out.append(self._number(float(parameters[place(node)])))
            elif node[0] == "const":
                out.append(self._number(node[1] if isinstance(node[1], bool) else constant(node)))
            else:
                out.append(functions[str(node[0])](*(out[i] for i in operands(node))))
        return out

    def _input(self, column: Array) -> "torch.Tensor":
        column = np.ascontiguousarray(column, dtype=np.float64)
        if not column.flags.writeable:  # torch would warn that it could be written to
            column = column.copy()
        return torch.as_tensor(column, device=self.device)

    def _number(self, value: float) -> "torch.Tensor":
        dtype = torch.bool if isinstance(value, bool) else torch.float64
        return torch.tensor(value, dtype=dtype, device=self.device)


def _column(value: "torch.Tensor", columns: Sequence[Array]) -> "torch.Tensor":
    rows = len(columns[0]) if columns else 1
    return (value.expand(rows) if value.dim() == 0 else value).to(torch.float64).clone()


@lru_cache(maxsize=1)
def _functions() -> Mapping[str, Callable[..., "torch.Tensor"]]:
    """Return torch's functions for the graph's operations; made at the first use, as torch is a late import."""
    return {
        **{name: getattr(torch, name) for name in _OF_TORCH.split()},
        "and": torch.logical_and,
        "or": torch.logical_or,
        "not": torch.logical_not,
        "sign": _sign,
        "wofz_real": _wofz("real"),
        "wofz_imag": _wofz("imag"),
    }


def _sign(x: "torch.Tensor") -> "torch.Tensor":
    return torch.where(torch.isnan(x), x, torch.sign(x))  # torch's own says 0 for NaN


def _wofz(part: Literal["real", "imag"]) -> Callable[["torch.Tensor", "torch.Tensor"], "torch.Tensor"]:
    def function(x: "torch.Tensor", y: "torch.Tensor") -> "torch.Tensor":
        return torch.as_tensor(wofz(x.cpu().numpy(), y.cpu().numpy(), part), device=x.device)

    return function
