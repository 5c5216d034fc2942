"""A model whose names are settled: which are columns, which are parameters."""

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import DataError, ModelError, OptionError
from gradfit.formula import Expression
from gradfit.graph import Graph
from gradfit.kernel import EXECUTORS, AutogradKernel, DifferenceKernel, Kernel
from gradfit.native.small import SmallFits, small_fits
from gradfit.trace import UntraceableError, torch_function, torch_graph

Array = NDArray[np.float64]
TensorFunction = Callable[..., "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class BoundModel:
    """A model whose names are settled: which are columns, which are parameters.

    Attributes
    ----------
    text : str
        The formula as written, or the function's name and arguments.
    response : str
        The observed column, or the text of the left side that transforms it.
    left : Expression or None
        The left side, where it is more than a column.
    inputs, parameters : tuple of str
        In the order in which the model takes them.
    graph : Graph or None
        The traced model; None where it is no scalar expression of one row.
    expression : Expression or None
        The right side of a formula, with codes for pieces of text.
    function, tensor_function : callable or None
        f(*inputs, *parameters) on arrays, and on tensors where torch can differentiate it.
    defaults : mapping
        Start values that the function's own signature gives.
    notes : tuple of str
        How names were understood.
    fallback : str
        Why the graph is missing, empty where it is not.
    """

    text: str
    response: str
    left: Expression | None
    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    graph: Graph | None
    expression: Expression | None = None
    function: Callable[..., object] | None = None
    tensor_function: TensorFunction | None = None
    defaults: Mapping[str, float] = field(default_factory=dict[str, float])
    notes: tuple[str, ...] = ()
    fallback: str = ""
    _kernels: dict[str, Kernel] = field(default_factory=dict[str, Kernel])

    def kernel(
        self, executor: str = "numpy", *, lower: Array | None = None, upper: Array | None = None
    ) -> Kernel:
        """Return what evaluates the model.

        Parameters
        ----------
        executor : str
            Which one, where the model was traced.
        lower, upper : (k,), optional
            Bounds that differences do not cross, where there is no other way to a derivative.

        Raises
        ------
        OptionError
            If there is no executor of that name, with the nearest one.
        ModelError
            If the model was loaded from a file that could not hold its function.
        """
        if executor not in EXECUTORS:
            raise OptionError(f"There is no executor {executor!r}", remedy=nearest(executor, list(EXECUTORS)))
        if self.graph is None and self.tensor_function is None:
            if self.function is None:
                raise ModelError(
                    f"{self.text} was saved without a graph, so it cannot be evaluated without its function"
                )
            return DifferenceKernel(self.function, lower, upper)
        if executor not in self._kernels:
            self._kernels[executor] = self._compiled(executor)
        return self._kernels[executor]

    @cached_property
    def small(self) -> SmallFits | None:
        """The compiled walks of small fits; None where the model was not traced."""
        return None if self.graph is None else small_fits(self.graph)

    def _compiled(self, executor: str) -> Kernel:
        return EXECUTORS[executor].compile(self.graph) if self.graph else AutogradKernel(self.on_torch())

    def on_torch(self) -> TensorFunction:
        """Return f(*inputs, *parameters) on tensors, for optimizers of torch.

        Raises
        ------
        ModelError
            If torch cannot differentiate the function.
        """
        if self.expression is not None:
            return torch_function(self.expression, (*self.inputs, *self.parameters))
        if self.tensor_function is not None:
            return self.tensor_function if self.graph is None else _either(self.tensor_function, self.graph)
        if self.graph is not None:
            return torch_graph(self.graph)
        raise ModelError(
            f"{self.text} can only be evaluated, not differentiated by torch ({self.fallback}), so torch.optim cannot "
            "fit it",
            remedy='Use solver="lm", or write the function with NumPy or torch functions of whole columns',
        )


def _either(function: TensorFunction, graph: Graph) -> TensorFunction:
    """Return a function as it was written, or as its graph where it takes single values alone: np.asarray(x)."""
    traced = torch_graph(graph)

    def of_tensors(*tensors: "torch.Tensor") -> "torch.Tensor":
        try:
            return function(*tensors)
        except UntraceableError:
            return traced(*tensors)

    return of_tensors


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint with the names nearest to a wrong one.

    >>> nearest("Adm", ["SGD", "Adam", "AdamW"])
    'Did you mean Adam or AdamW?'
    """
    lower = {k.lower(): k for k in known}
    close = [lower[c] for c in difflib.get_close_matches(name.lower(), list(lower), 3)]
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}"


def observed_column(  # noqa: PLR0917  two callers, both by position
    columns: Sequence[str], used: set[str], response: str | None, text: str, source: str
) -> str:
    """Return the observed column: the one named, or the only one that the model does not use.

    Raises
    ------
    DataError
        If the one named is missing, or several could be meant.
    """
    if response is not None:
        if response not in columns:
            raise DataError(
                f"There is no column {response} in {source}", remedy=nearest(response, list(columns))
            )
        return response
    left = [c for c in columns if c not in used]
    if len(left) == 1:
        return left[0]
    seen = "no column is left to be" if not left else f"{', '.join(left)} could be"
    raise DataError(
        f"{text!r} does not say what was observed, and {seen} the response",
        remedy=f'Write "{left[0] if left else "y"} = ...", or give response="{left[0] if left else "y"}"',
    )
