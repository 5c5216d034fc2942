"""Models: a formula or a function, bound to the columns of a table, traced once and checked against the real function."""

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import DataError, FormulaError, ModelError, OptionError, ShapeError
from gradfit.formula import CONSTANTS, Expression, Formula, caret, parse
from gradfit.graph import Graph
from gradfit.kernel import EXECUTORS, AutogradKernel, DifferenceKernel, Kernel
from gradfit.trace import UntraceableError, on_tensors, torch_function, trace, trace_formula

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
    defaults: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    fallback: str = ""
    _kernels: dict[str, Kernel] = field(default_factory=dict)

    def kernel(self, executor: str = "numpy") -> Kernel:
        """Return what evaluates the model.

        Raises
        ------
        OptionError
            If there is no executor of that name, with the nearest one.
        """
        if executor not in EXECUTORS:
            raise OptionError(f"There is no executor {executor!r}", remedy=nearest(executor, list(EXECUTORS)))
        if self.graph is not None:
            if executor not in self._kernels:
                self._kernels[executor] = EXECUTORS[executor].compile(self.graph)
            return self._kernels[executor]
        if self.tensor_function is not None:
            return AutogradKernel(self.tensor_function)
        if self.function is None:
            raise ModelError(f"{self.text} was saved without a graph, so it cannot be evaluated without its function")
        return DifferenceKernel(self.function)

    def on_torch(self) -> TensorFunction:
        """Return f(*inputs, *parameters) on tensors, for optimizers of torch.

        Raises
        ------
        ModelError
            If torch cannot differentiate the function.
        """
        if self.tensor_function is not None:
            return self.tensor_function
        if self.expression is not None:
            return torch_function(self.expression, (*self.inputs, *self.parameters))
        raise ModelError(
            f"{self.text} can only be evaluated, not differentiated by torch ({self.fallback}), so torch.optim cannot "
            "fit it",
            remedy='Use solver="lm", or write the function with NumPy or torch functions of whole columns',
        )


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint with the names nearest to a wrong one.

    >>> nearest("Adm", ["SGD", "Adam", "AdamW"])
    'Did you mean Adam or AdamW?'
    """
    lower = {k.lower(): k for k in known}
    close = [lower[c] for c in difflib.get_close_matches(name.lower(), list(lower), 3)]
    return f"Did you mean {' or '.join(close)}?" if close else f"Known: {', '.join(known)}"


# ---------------------------------------------------------------------------- formulas


@lru_cache(maxsize=1024)
def bind_formula(
    text: str, columns: tuple[str, ...], response: str | None, named: frozenset[str], source: str
) -> BoundModel:
    """Return a formula bound to columns.

    Parameters
    ----------
    response : str or None
        The observed column, for a formula without a left side.
    named : frozenset of str
        Names that the caller treats as parameters (start values, bounds, fixed values): pi and e are constants unless
        they are among them.

    Raises
    ------
    FormulaError
        If a column is missing, nothing is left to fit, or the response stands on both sides.
    """
    formula = parse(text)
    label, left = _left_side(formula, columns, response, source)
    names = formula.right.names
    observed = set(left.names) if left is not None else {label}
    if both := [n for n in names if n in observed]:
        raise _at(formula.right, both[0], f"{both[0]} stands on both sides of {text!r}")
    inputs = tuple(n for n in names if n in columns)
    parameters = tuple(n for n in names if n not in columns and (n not in CONSTANTS or n in named))
    if not parameters:
        unknown = f" {', '.join(names)} are columns." if names else ""
        raise FormulaError(
            f"{text!r} has nothing to fit: no name in it is a parameter.{unknown}",
            remedy="Add one, as in y = a*x + b",
        )
    if not inputs and columns:
        _no_input(formula, label, parameters, columns, source)
    if any(node[0] == "text" for node in formula.right.nodes):
        raise FormulaError(f"{text!r} holds a piece of text; compare text in where=, not in the model")
    graph = trace_formula(formula.right, inputs, parameters)
    notes = formula.notes + tuple(
        f"{n} was read as the constant {CONSTANTS[n]:.6g}; to fit it, give it a start value" for n in ("e",) if n in names and n not in parameters and n not in columns
    )  # fmt: skip
    return BoundModel(text, label, left, inputs, parameters, graph, expression=formula.right, notes=notes)


def _left_side(
    formula: Formula, columns: tuple[str, ...], response: str | None, source: str
) -> tuple[str, Expression | None]:
    if formula.left is None:
        used = {n for n in formula.right.names if n in columns}
        return observed_column(columns, used, response, formula.text, source), None
    left = formula.left
    for name in left.names:
        if name not in columns and name not in CONSTANTS:
            near = difflib.get_close_matches(name, columns, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise _at(left, name, f"There is no column {name} in {source}", f"Columns: {', '.join(columns)}.{hint}")
    if len(left.nodes) == 1 and left.nodes[0][0] == "name":
        return str(left.nodes[0][1]), None
    if not any(n in columns for n in left.names):
        raise FormulaError(f"The left side of {formula.text!r} holds no column; it must say what was observed")
    return formula.text.split("=")[0].strip(), left


def _at(expression: Expression, name: str, message: str, remedy: str = "") -> FormulaError:
    span = next(s for n, s in zip(expression.nodes, expression.spans, strict=True) if n == ("name", name))
    return FormulaError(message, remedy=remedy, excerpt=caret(expression.text, *span))


def _no_input(
    formula: Formula, label: str, parameters: tuple[str, ...], columns: tuple[str, ...], source: str
) -> None:
    """A misspelt column would silently become a parameter; a constant model (y = c) is fine."""
    others = [c for c in columns if c != label]
    for name in parameters:
        near = difflib.get_close_matches(name, others, 1, cutoff=0.6)
        if near or len(parameters) > 1:
            hint = f" Did you mean {near[0]}?" if near else ""
            raise _at(
                formula.right,
                name,
                f"{formula.text!r} uses no column of {source}, so {', '.join(parameters)} cannot be told apart",
                f"Columns: {', '.join(columns)}.{hint}",
            )


def observed_column(
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
            raise DataError(f"There is no column {response} in {source}", remedy=nearest(response, list(columns)))
        return response
    left = [c for c in columns if c not in used]
    if len(left) == 1:
        return left[0]
    seen = "no column is left" if not left else f"{', '.join(left)} could be"
    raise DataError(
        f"{text!r} does not say what was observed, and {seen} the response",
        remedy=f'Write "{left[0] if left else "y"} = ...", or give response="{left[0] if left else "y"}"',
    )


# ---------------------------------------------------------------------------- functions


@dataclass(frozen=True)
class Signature:
    """The names of a function's arguments."""

    positional: tuple[str, ...]
    keywords: tuple[str, ...]
    starred: bool
    defaults: Mapping[str, float]


def signature_of(function: Callable[..., object]) -> Signature:
    """Return the argument names of a function, and the numbers among their defaults.

    Raises
    ------
    ModelError
        If the function does not tell its arguments.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ModelError(f"{function!r} does not tell its arguments; wrap it in a def with named ones") from error
    plain = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    numbers = {p.name: float(p.default) for p in parameters if isinstance(p.default, int | float | np.number)}
    return Signature(
        tuple(p.name for p in parameters if p.kind in plain),
        tuple(p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY and p.name in numbers | {}),
        any(p.kind is inspect.Parameter.VAR_POSITIONAL for p in parameters),
        numbers,
    )


@dataclass(frozen=True)
class Names:
    """Which arguments of a function are columns and which are parameters."""

    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    order: tuple[int, ...]  # argument i of the function is value order[i] of (*inputs, *parameters)
    notes: tuple[str, ...] = ()


def settle_names(
    function: Callable[..., object], columns: Sequence[str], response: str | None, starts: Sequence[str] | int | None
) -> Names:
    """Return the names of a function's columns and parameters.

    Arguments named like columns are data, the rest are parameters. Where none is, the first is, as SciPy has it.
    `starts` gives the names, or the number, of the parameters of f(x, *params).

    Raises
    ------
    ModelError
        If the number of parameters cannot be known, or no column is left for the first argument.
    """
    signature = signature_of(function)
    arguments = list(signature.positional)
    if signature.starred:
        arguments += _starred(function, signature, starts)
    inputs = [a for a in arguments if a in columns and a != response]
    notes: tuple[str, ...] = ()
    renamed = dict.fromkeys(arguments, "")
    if not inputs and arguments:
        others = [c for c in columns if c != response]
        if len(others) > 1 and response is None:
            others = others[:-1]
        if len(others) != 1:
            raise ModelError(
                f"No argument of {name_of(function)}({', '.join(arguments)}) is named like a column, and "
                f"{', '.join(others) or 'no column'} could be meant by {arguments[0]}",
                remedy=f"Name the arguments that are data like their columns: {', '.join(columns)}",
            )
        renamed[arguments[0]] = others[0]
        inputs = [arguments[0]]
        notes = (f"{arguments[0]} of {name_of(function)} is the column {others[0]}",) if arguments[0] != others[0] else ()
    parameters = [a for a in arguments if a not in inputs]
    if not parameters:
        raise ModelError(f"{name_of(function)} has no parameters: all its arguments are columns")
    values = inputs + parameters
    order = tuple(values.index(a) for a in arguments)
    return Names(tuple(renamed[a] or a for a in inputs), tuple(parameters), order, notes)


def _starred(function: Callable[..., object], signature: Signature, starts: Sequence[str] | int | None) -> list[str]:
    if starts is None:
        raise ModelError(
            f"{name_of(function)} takes *{'params'}, so the number of its parameters is not known",
            remedy="Give start values, as many as it has parameters",
        )
    named = max(len(signature.positional) - 1, 0)  # the first argument is the data
    if isinstance(starts, int):
        return [f"p{i}" for i in range(max(starts - named, 0))]
    return [s for s in starts if s not in signature.positional]


def name_of(function: Callable[..., object]) -> str:
    """Return the name of a function for sentences."""
    return getattr(function, "__name__", type(function).__name__)


_TRACES: "WeakKeyDictionary[Callable[..., object], dict[tuple[int, tuple[int, ...]], Graph | str]]" = WeakKeyDictionary()


def bind_function(
    function: Callable[..., object], names: Names, columns: Sequence[Array], response: str, start: Array | None
) -> BoundModel:
    """Return a function bound to columns, traced where it can be, after a call on the real data.

    Raises
    ------
    ModelError
        If the function fails on the data.
    ShapeError
        If it does not return one value a row.
    """
    text = f"{name_of(function)}({', '.join((*names.inputs, *names.parameters))})"
    plain, style, value = _first_call(function, names, columns, start, text)
    value = one_value_a_row(value, len(columns[0]) if columns else 1, text, response)
    tensor = plain if style == "torch" else on_tensors(plain)
    graph = _traced(function, tensor, names)
    reason = graph if isinstance(graph, str) else ""
    if isinstance(graph, Graph):
        reason = _disagreement(graph, plain, style, columns, start, len(names.parameters))
    defaults = {k: v for k, v in signature_of(function).defaults.items() if k in names.parameters}
    common = {"defaults": defaults, "notes": names.notes, "function": _numpy_view(plain, style)}
    if isinstance(graph, Graph) and not reason:
        return BoundModel(
            text, response, None, names.inputs, names.parameters, _named(graph, names), tensor_function=tensor, **common
        )
    usable = _autograd_works(tensor, plain, style, columns, _somewhere(start, len(names.parameters)))
    return BoundModel(
        text, response, None, names.inputs, names.parameters, None,
        tensor_function=tensor if usable else None, fallback=reason, **common,
    )  # fmt: skip


def _named(graph: Graph, names: Names) -> Graph:
    return Graph(graph.nodes, graph.value, graph.scale, graph.core, names.inputs, names.parameters)


def _numpy_view(plain: Callable[..., object], style: str) -> Callable[..., object]:
    if style == "numpy":
        return plain

    def on_arrays(*values: object) -> object:
        with torch.no_grad():
            return plain(*(torch.as_tensor(v, dtype=torch.float64) for v in values)).numpy()  # pyright: ignore[reportAttributeAccessIssue]  # a tensor

    return on_arrays


def _first_call(
    function: Callable[..., object], names: Names, columns: Sequence[Array], start: Array | None, text: str
) -> tuple[Callable[..., object], str, object]:
    """The function in the order (*inputs, *parameters), whether it speaks NumPy or torch, and its value on the data."""

    def plain(*values: object) -> object:
        return function(*(values[i] for i in names.order))

    point = _somewhere(start, len(names.parameters))
    try:
        with np.errstate(all="ignore"):
            value = plain(*(c.copy() for c in columns), *point.tolist())
        if not type(value).__module__.startswith("torch"):
            return plain, "numpy", value
    except (TypeError, AttributeError, ValueError) as first:
        try:
            return plain, "torch", _on_torch(plain, columns, point)
        except (TypeError, AttributeError, ValueError, RuntimeError, IndexError) as second:
            raise _failed(text, first, second) from second
    except (ArithmeticError, IndexError, KeyError, RuntimeError, NameError) as error:
        raise _failed(text, error, error) from error
    return plain, "torch", _on_torch(plain, columns, point)


def _failed(text: str, first: Exception, second: Exception) -> ModelError:
    # the second call, with tensors, tells less where the function is a NumPy one
    told = second if "numpy" in str(first).lower() or "Tensor" in str(first) else first
    return ModelError(
        f"{text} fails on the data: {type(told).__name__}: {told}",
        remedy="It is called with whole columns, one array each, and one number for each parameter",
    )


def _on_torch(plain: Callable[..., object], columns: Sequence[Array], point: Array) -> object:
    with torch.no_grad():
        tensors = [torch.as_tensor(c.copy()) for c in columns]
        value = plain(*tensors, *torch.as_tensor(point).unbind())
    return value.numpy() if isinstance(value, torch.Tensor) else value


def _somewhere(start: Array | None, count: int) -> Array:
    return 0.61 + 0.137 * np.arange(count) if start is None else start


def one_value_a_row(value: object, rows: int, text: str, response: str) -> Array:
    """Return the model's value as (rows,), a lone number spread over them.

    Raises
    ------
    ShapeError
        If the shape is another one; the excerpt aligns it with the data's from the back.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(f"{text} returned {type(value).__name__}, not numbers") from error
    if array.shape == (rows,):
        return array
    if array.ndim == 0:
        return np.full(rows, float(array))
    raise shape_error(text, array.shape, rows, response)


def shape_error(text: str, seen: tuple[int, ...], rows: int, response: str) -> ShapeError:
    """Return the error for a model of the wrong shape: both shapes aligned, and the rule that would have joined them."""
    width = max(len(f"{d}") for d in (*seen, rows)) + 2
    dims = max(len(seen), 1)
    lines = [
        f"{'model':>12}  " + "".join(f"{d:>{width}}" for d in seen),
        f"{response:>12}  " + " " * (width * (dims - 1)) + f"{rows:>{width}}",
    ]
    try:
        joined = np.broadcast_shapes(seen, (rows,))
    except ValueError:
        message = f"{text} returned shape {seen} for {rows} rows; it must return ({rows},)"
        return ShapeError(message, excerpt="\n".join([*lines, f"{'':>12}  the last sizes differ: they cannot be joined"]))
    rule = "a size of 1 is repeated, a missing one is added in front"
    lines.append(f"{'joined':>12}  " + "".join(f"{d:>{width}}" for d in joined) + f"   ({rule})")
    remedy = "End the model with .squeeze(-1)" if seen and seen[-1] == 1 else "Return one value a row"
    return ShapeError(
        f"{text} returned shape {seen} for {rows} rows; it must return ({rows},). Against {response} it would silently "
        f"broadcast to {joined}",
        excerpt="\n".join(lines),
        remedy=remedy,
    )


def _traced(function: Callable[..., object], tensor: TensorFunction, names: Names) -> Graph | str:
    key = (len(names.inputs), names.order)
    try:
        known = _TRACES.setdefault(function, {})
    except TypeError:  # cannot be referred to weakly
        known = {}
    if key not in known:
        inputs = tuple(f"x{i}" for i in range(len(names.inputs)))
        try:
            known[key] = trace(tensor, inputs, names.parameters)
        except UntraceableError as error:
            known[key] = error.message
    return known[key]


def _disagreement(
    graph: Graph, plain: Callable[..., object], style: str, columns: Sequence[Array], start: Array | None, count: int
) -> str:
    """Why the trace does not speak for the function on whole columns, empty when it does."""
    kernel = EXECUTORS["numpy"].compile(graph)
    places = [_somewhere(None, count)] + ([start, 1.01 * start + 1e-3] if start is not None else [])
    for place in places:
        with np.errstate(all="ignore"):
            try:
                real = _on_torch(plain, columns, place) if style == "torch" else plain(*(c.copy() for c in columns), *place.tolist())
            except (ArithmeticError, ValueError):
                continue
        real = np.broadcast_to(np.asarray(real, dtype=np.float64), (len(columns[0]),) if columns else (1,))
        traced = kernel.value(columns, place)
        size = float(np.max(np.abs(real), initial=0.0, where=np.isfinite(real)))
        if not np.allclose(traced, real, rtol=1e-9, atol=1e-11 * size, equal_nan=True):
            return "the value at a row depends on other rows"
    return ""


def _autograd_works(
    tensor: TensorFunction, plain: Callable[..., object], style: str, columns: Sequence[Array], point: Array
) -> bool:
    """Whether torch runs the function on whole columns, with its values and with the derivatives that differences show."""
    kernel = AutogradKernel(tensor)
    reference = DifferenceKernel(_numpy_view(plain, style))
    try:
        value, jacobian = kernel.value_jacobian(columns, point)
        real, slopes = reference.value_jacobian(columns, point)
    except (RuntimeError, TypeError, ValueError, AttributeError, IndexError):
        return False
    if value.shape != real.shape or not np.allclose(value, real, rtol=1e-9, atol=1e-12, equal_nan=True):
        return False
    size = np.max(np.abs(slopes), axis=0, initial=0.0)
    close = np.abs(jacobian - slopes) <= 1e-5 * size + 1e-9
    return bool(np.mean(close | ~np.isfinite(slopes)) > 0.9)
