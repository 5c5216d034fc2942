"""The tensor executor: the graph's operations on torch tensors, on any device."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special, torch
from gradfit.graph import LEAVES, Graph, operands

Array = NDArray[np.float64]


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
            return self._column(values[self.graph.value], columns).cpu().numpy()

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k)."""
        graph = self.graph
        with torch.no_grad():
            values = self._run(columns, parameters)
            slopes = [
                self._column(values[s] * values[c], columns) for s, c in zip(graph.scale, graph.core, strict=True)
            ]
            value = self._column(values[graph.value], columns).cpu().numpy()
        rows = len(value)
        return value, torch.stack(slopes).cpu().numpy().T if slopes else np.empty((rows, 0))

    def _run(self, columns: Sequence[Array], parameters: Array) -> list["torch.Tensor"]:
        functions = _functions()
        out: list[torch.Tensor] = []
        for node in self.graph.nodes:
            if node[0] == "var":
                out.append(torch.as_tensor(np.ascontiguousarray(columns[int(node[1])]), device=self.device))  # pyright: ignore[reportArgumentType]  # a leaf's index
            elif node[0] == "par":
                out.append(torch.tensor(float(parameters[int(node[1])]), dtype=torch.float64, device=self.device))  # pyright: ignore[reportArgumentType]  # a leaf's index
            elif node[0] in LEAVES:
                kind = torch.bool if isinstance(node[1], bool) else torch.float64
                out.append(torch.tensor(node[1], dtype=kind, device=self.device))
            else:
                out.append(functions[str(node[0])](*(out[i] for i in operands(node))))
        return out

    def _column(self, value: "torch.Tensor", columns: Sequence[Array]) -> "torch.Tensor":
        rows = len(columns[0]) if columns else 1
        return value.to(torch.float64).expand(rows).clone() if value.dim() == 0 else value.to(torch.float64).clone()


@lru_cache(maxsize=1)
def _functions() -> Mapping[str, Callable[..., "torch.Tensor"]]:
    names = "add sub mul div pow neg exp log sqrt sin cos tan tanh atan asin acos sinh cosh asinh acosh atanh abs erf erfc "
    names += "log1p expm1 floor sign lgamma digamma atan2 where lt le gt ge eq ne"
    return {
        **{name: getattr(torch, name) for name in names.split()},
        "and": torch.logical_and,
        "or": torch.logical_or,
        "not": torch.logical_not,
        "wofz_real": lambda x, y: _wofz(x, y, "real"),
        "wofz_imag": lambda x, y: _wofz(x, y, "imag"),
    }


def _wofz(x: "torch.Tensor", y: "torch.Tensor", part: str) -> "torch.Tensor":
    """torch has no Faddeeva function: SciPy's, on the processor."""
    z = x.cpu().numpy() + 1j * y.cpu().numpy()
    return torch.as_tensor(np.ascontiguousarray(getattr(special.wofz(z), part)), device=x.device)
