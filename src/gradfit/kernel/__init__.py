"""Executors: a graph becomes something that runs. All of them agree to rounding."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import Graph
from gradfit.kernel.columnwise import AutogradKernel, DifferenceKernel
from gradfit.kernel.native import NativeExecutor, NativeKernel
from gradfit.kernel.numpy import NumpyExecutor, NumpyKernel
from gradfit.kernel.tensor import TensorExecutor, TensorKernel

Array = NDArray[np.float64]


class Kernel(Protocol):
    """A compiled model: its value and its Jacobian at every row."""

    @property
    def name(self) -> str:
        """What ran it: "numpy", "tensor", ..."""
        ...

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,) at the rows of `columns`, each (n,), for parameters (k,)."""
        ...

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k)."""
        ...


class Executor(Protocol):
    """Makes kernels of graphs."""

    def compile(self, graph: Graph) -> Kernel:
        """Return the kernel of a graph."""
        ...


EXECUTORS: dict[str, Executor] = {
    "numpy": NumpyExecutor(),
    "native": NativeExecutor(),
    "tensor": TensorExecutor(),
}

__all__ = [
    "EXECUTORS", "AutogradKernel", "DifferenceKernel", "Executor", "Kernel", "NativeExecutor", "NativeKernel",
    "NumpyExecutor", "NumpyKernel", "TensorExecutor", "TensorKernel",
]  # fmt: skip
