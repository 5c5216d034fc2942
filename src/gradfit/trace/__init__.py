"""From a model to its graph: the model runs once on scalars under torch, with autograd's derivatives."""

from collections.abc import Callable, Sequence
from functools import lru_cache

from gradfit._lazy import torch
from gradfit.errors import ModelError
from gradfit.formula import Expression
from gradfit.graph import Graph
from gradfit.trace.aten import Recorder, UntraceableError
from gradfit.trace.builder import assemble
from gradfit.trace.formula_code import torch_function
from gradfit.trace.graph_code import torch_graph
from gradfit.trace.kept import keep, key_of_trace, recalled
from gradfit.trace.numpy_code import NumpyTensor, plain

Function = Callable[..., "torch.Tensor"]

__all__ = [
    "RAISED",
    "UntraceableError",
    "on_tensors",
    "torch_function",
    "torch_graph",
    "trace",
    "trace_formula",
]

#: what a model may raise when it meets single tensors instead of columns
RAISED = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    NameError,
    RuntimeError,
    TypeError,
    ValueError,
)


@lru_cache(maxsize=1024)
def trace_formula(expression: Expression, variables: tuple[str, ...], parameters: tuple[str, ...]) -> Graph:
    """Return the graph of a formula's right side; a formula is pointwise by construction.

    One that an earlier process has traced comes from the disk, and torch is not imported for it.

    Examples
    --------
    >>> from gradfit.formula import parse
    >>> graph = trace_formula(parse("y = a*exp(-b*x)").right, ("x",), ("a", "b"))
    >>> graph.linear
    (0,)
    """
    key = key_of_trace(expression, variables, parameters)
    graph = recalled(key, variables, parameters)
    if graph is None:
        graph = trace(torch_function(expression, (*variables, *parameters)), variables, parameters)
        keep(key, graph)
    return graph


def trace(function: Function, variables: Sequence[str], parameters: Sequence[str]) -> Graph:
    """Return the graph of f(*variables, *parameters), a function of torch tensors.

    The function runs once, on 0-dimensional float64 tensors, while every operation that torch dispatches is written
    down, those of `torch.autograd.grad` included. Whether the graph speaks for whole columns too (a pointwise model) is
    the caller's to check, on the real data.

    Raises
    ------
    UntraceableError
        If the function joins rows, branches on a value, or uses an operation without a scalar rule.
    ModelError
        If the function itself raises one.
    """
    # odd places, so that no comparison in the model is decided by an accident (0, 1, equal values)
    places = [0.61 + 0.137 * k for k in range(len(variables) + len(parameters))]
    inputs = [torch.tensor(p, dtype=torch.float64) for p in places]
    leaves = [p.requires_grad_() for p in inputs[len(variables) :]]
    recorder = Recorder(inputs, len(variables))
    try:
        with recorder.recording(), torch.enable_grad():
            value = function(*inputs)
            slopes = _slopes(value, leaves)
        ends = [recorder.node(part) for part in (value, *slopes)]
    except ModelError:
        raise
    except RAISED as error:
        raise UntraceableError(_told(error)) from error
    return assemble(recorder.builder, ends, variables, parameters)


def _told(error: BaseException) -> str:
    """Return why a model does not run on single values; NumPy may have wrapped what we said ourselves."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, UntraceableError):
            return cause.message
        cause = cause.__cause__ or cause.__context__
    first = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return f"the model does not run on single values: {first}"


def _slopes(value: "torch.Tensor", leaves: Sequence["torch.Tensor"]) -> list["torch.Tensor | float"]:
    """Return the derivatives of a value by the leaves; 0 where it does not depend on one.

    Raises
    ------
    UntraceableError
        If the value is no single number.
    """
    if value.dim() != 0:
        raise UntraceableError(f"the model makes shape {tuple(value.shape)} of single values")
    if not value.requires_grad:
        return [0.0] * len(leaves)
    return list(torch.autograd.grad(value.to(torch.float64), leaves, materialize_grads=True))


def on_tensors(function: Callable[..., object]) -> Function:
    """Return a NumPy function as a torch function: NumPy's calls are answered by torch's.

    Examples
    --------
    >>> import numpy as np, torch
    >>> float(on_tensors(lambda x, a: a * np.exp(x))(torch.tensor(0.0), torch.tensor(2.0)))
    2.0
    """

    def wrapped(*tensors: "torch.Tensor") -> "torch.Tensor":
        result = plain(function(*(NumpyTensor(t) for t in tensors)))
        if isinstance(result, torch.Tensor):
            return result
        return torch.as_tensor(result, dtype=torch.float64)

    return wrapped
