"""The native executor: the graph as machine code, made by LLVM on this machine and kept on disk."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import Graph
from gradfit.kernel.numpy import NumpyKernel
from gradfit.native.columns import ColumnCode

Array = NDArray[np.float64]


@dataclass(frozen=True)
class NativeExecutor:
    """Runs graphs as machine code."""

    def compile(self, graph: Graph) -> "NativeKernel":
        """Return the kernel of a graph; it is compiled, or read from disk, when it is first asked for a value."""
        return NativeKernel(graph)


class NativeKernel:
    """A graph's operations as machine code; many sets of parameters at once go to NumPy."""

    name: str = "native"

    def __init__(self, graph: Graph) -> None:
        self.graph: Graph = graph

    @cached_property
    def _code(self) -> ColumnCode:
        return ColumnCode(self.graph)

    @cached_property
    def _wide(self) -> NumpyKernel:
        return NumpyKernel(self.graph)

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,) at the rows of `columns`, each (n,), for parameters (k,)."""
        if not self._fits(columns, parameters):
            return self._wide.value(columns, parameters)
        return self._code.value(columns, parameters)

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k), stored by column."""
        if not self._fits(columns, parameters):
            return self._wide.value_jacobian(columns, parameters)
        return self._code.value_jacobian(columns, parameters)

    @staticmethod
    def _fits(columns: Sequence[Array], parameters: Array) -> bool:
        return parameters.ndim == 1 and parameters.dtype != np.longdouble and len(columns) > 0
