"""A Python function, bound to the columns of a table: called, traced where it can be, and held against its trace."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import NoReturn
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import ModelError
from gradfit.kernel import AutogradKernel, DifferenceKernel, Kernel, NumpyKernel
from gradfit.model.bound import BoundModel, TensorFunction
from gradfit.model.shapes import one_value_a_row
from gradfit.model.signature import Function, Names, name_of
from gradfit.trace import RAISED, UntraceableError, on_tensors, trace

Array = NDArray[np.float64]

_SAMPLE = 500  # rows on which a trace is looked at away from the start

_OTHER_ROWS = "the value at a row depends on other rows"
_OTHER_VALUE = "its trace gives other values: it rounds to float32, or depends on more than its arguments"
_OTHER_SLOPE = "the derivatives that torch gives are not those of its values"


def bind_function(  # noqa: PLR0917  one caller, by position
    function: Function, names: Names, columns: Sequence[Array], response: str, start: Array | None
) -> BoundModel:
    """Return a function bound to columns, traced where it can be, after a call on the real data.

    Parameters
    ----------
    function : callable
        Of whole columns, written with NumPy or torch functions.
    names : Names
        Which arguments are columns.
    columns : sequence of (n,)
        In the order of names.inputs.
    response : str
        The observed column, for messages.
    start : (k,) or None
        Where it is called first; somewhere when left out.

    Raises
    ------
    ModelError
        If the function fails on the data, or returns no numbers.
    ShapeError
        If it does not return one value a row.
    """
    text = f"{name_of(function)}({', '.join((*names.inputs, *names.parameters))})"
    point = _somewhere(len(names.parameters)) if start is None else start
    seen, value = _first_call(function, names, columns, point, text=text)
    value = one_value_a_row(value, len(columns[0]) if columns else 1, text, response)
    traced = _traced(seen, columns, point, value)
    kernel = traced if isinstance(traced, NumpyKernel) else None
    usable = kernel is not None or _autograd_works(seen, columns, point)
    return BoundModel(
        text,
        response,
        None,
        names.inputs,
        names.parameters,
        None if kernel is None else kernel.graph,
        function=seen.on_arrays,
        tensor_function=seen.on_tensors() if usable else None,
        defaults=names.defaults or {},
        notes=names.notes,
        fallback=traced if isinstance(traced, str) else "",
        _kernels={} if kernel is None else {"numpy": kernel},
    )


# ---------------------------------------------------------------------------- calls


@dataclass(frozen=True, eq=False)
class _Seen:
    """A function in the order (*inputs, *parameters), and the language it speaks."""

    function: Function
    names: Names
    speaks_torch: bool

    def plain(self, *values: object) -> object:
        """Return what it gives for arrays and numbers, or for tensors; it gets copies, as it may write into them."""
        k = len(self.names.inputs)
        return self.names.call(self.function, [*(_copy(v) for v in values[:k]), *values[k:]])

    def on_arrays(self, *values: object) -> object:
        """Return what it gives for arrays and numbers, as an array."""
        if not self.speaks_torch:
            return self.plain(*values)
        with torch.no_grad():
            value = self.plain(*(torch.tensor(v, dtype=torch.float64) for v in values))
        return value.to(torch.float64).cpu().numpy() if isinstance(value, torch.Tensor) else value

    def on_tensors(self) -> TensorFunction:
        """Return it as a function of tensors."""
        if not self.speaks_torch:
            return on_tensors(self.plain)
        return self.plain  # pyright: ignore[reportReturnType]  # a function that speaks torch returns tensors


def _copy(value: object) -> object:
    if isinstance(value, np.ndarray):
        return value.copy()
    return value.clone() if isinstance(value, torch.Tensor) else value


def _first_call(
    function: Function, names: Names, columns: Sequence[Array], point: Array, *, text: str
) -> tuple[_Seen, object]:
    """Return the function with the language it speaks, and its value on the data.

    Raises
    ------
    ModelError
        If it fails on arrays and on tensors.
    """
    arrays, tensors = _Seen(function, names, speaks_torch=False), _Seen(function, names, speaks_torch=True)
    try:
        with np.errstate(all="ignore"):
            value = arrays.plain(*columns, *point)
        if not type(value).__module__.startswith("torch"):
            return arrays, value
    except (TypeError, AttributeError, ValueError) as first:
        try:
            return tensors, tensors.on_arrays(*columns, *point)
        except RAISED as second:
            _refuse(text, first, second)
    except RAISED as error:
        _refuse(text, error, error)
    try:
        return tensors, tensors.on_arrays(*columns, *point)
    except RAISED as error:
        _refuse(text, error, error)


def called(function: Function, values: Sequence[object], named: Mapping[str, object]) -> Array:
    """Return what a function gives for arrays and numbers, whether it speaks NumPy or torch.

    Raises
    ------
    ModelError
        If it fails on both.
    """
    try:
        with np.errstate(all="ignore"):
            value = function(*values, **named)
    except (TypeError, AttributeError, ValueError) as first:
        try:
            with torch.no_grad():
                value = function(*map(_as_tensor, values), **{n: _as_tensor(v) for n, v in named.items()})
        except RAISED as second:
            _refuse(name_of(function), first, second)
    return np.asarray(value.detach().cpu() if isinstance(value, torch.Tensor) else value)


def _as_tensor(value: object) -> "torch.Tensor":
    return value if isinstance(value, torch.Tensor) else torch.tensor(np.asarray(value, dtype=np.float64))


def _refuse(text: str, first: Exception, second: Exception) -> NoReturn:
    """Raise the error for a function that fails on the data.

    Raises
    ------
    ModelError
        Always.
    """
    # the second call, with tensors, tells less where the function is a NumPy one
    told = second if "numpy" in str(first).lower() or "Tensor" in str(first) else first
    raise ModelError(
        f"{text} fails on the data: {type(told).__name__}: {told}",
        remedy="It is called with whole columns, one array each, and one number for each parameter",
    ) from second


def _somewhere(count: int) -> Array:
    return 0.61 + 0.137 * np.arange(count, dtype=np.float64)


# ---------------------------------------------------------------------------- traces

_Traces = dict[object, NumpyKernel | str]
_TRACES: "WeakKeyDictionary[Function, _Traces]" = WeakKeyDictionary()


def _traced(seen: _Seen, columns: Sequence[Array], point: Array, value: Array) -> NumpyKernel | str:
    """Return the trace of a function that agrees with it on the data, or why there is none.

    A trace is kept with the function; where it disagrees, the function may have changed (a global, an attribute), so it is
    made anew once.
    """
    names = seen.names
    owner = id(getattr(seen.function, "__self__", None))
    key = (names.inputs, names.parameters, names.order, names.by_name, seen.speaks_torch, owner)
    try:  # a bound method is made anew at each look; its function stays
        traces = _TRACES.setdefault(getattr(seen.function, "__func__", seen.function), {})
    except TypeError:  # cannot be hashed, or referred to weakly
        traces = _Traces()
    known = traces.get(key)
    if known is None or (
        isinstance(known, NumpyKernel) and _disagreement(known, seen, columns, point, value=value)
    ):
        known = traces[key] = _fresh_trace(seen, columns, point, value)
    return known


def _fresh_trace(seen: _Seen, columns: Sequence[Array], point: Array, value: Array) -> NumpyKernel | str:
    try:
        graph = trace(seen.on_tensors(), seen.names.inputs, seen.names.parameters)
    except UntraceableError as error:
        return error.message
    except ModelError as error:
        return str(error)
    kernel = NumpyKernel(graph)
    reason = _disagreement(kernel, seen, columns, point, value=value)
    if reason:
        return reason
    sample = _sample(columns)
    agree = any(_slopes_agree(kernel, seen, sample, place) for place in (point, 1.01 * point + 1e-3))
    return kernel if agree else _OTHER_SLOPE


def _disagreement(
    kernel: NumpyKernel, seen: _Seen, columns: Sequence[Array], point: Array, *, value: Array
) -> str:
    """Return why a trace does not speak for the function on whole columns, nothing when it does.

    They are compared on the data at the start, and beside it on rows of which no two are alike: in a constant column
    x.mean() is x.
    """
    if not _same(kernel.value(columns, point), value):
        return _why(seen, columns, point)
    moved = [_stirred(c) for c in _sample(columns)]
    for place in _places(point):
        real = _value(seen, moved, place)
        if real is None:
            continue
        if real.shape != moved[0].shape or not _same(kernel.value(moved, place), real):
            return _why(seen, moved, place)
        if np.isfinite(real).any():
            return ""
    return ""


def _places(point: Array) -> Iterator[Array]:
    """Yield places beside a start and farther off; the first does as a rule."""
    yield 1.01 * point + 1e-3
    yield _somewhere(len(point))
    yield -point
    yield np.ones(len(point))
    yield 10 * point + 1


def _same(traced: Array, real: Array) -> bool:
    sizes = np.abs(real)
    size = float(sizes[sizes.argmax()])
    if isfinite(size):
        close = np.abs(traced - real) <= 1e-9 * sizes + 1e-11 * size
        return np.count_nonzero(close) == close.size
    size = float(np.max(np.abs(real), initial=0.0, where=np.isfinite(real)))
    return bool(np.allclose(traced, real, rtol=1e-9, atol=1e-11 * size, equal_nan=True))


def _value(seen: _Seen, columns: Sequence[Array], place: Array) -> Array | None:
    """Return the function's own value, None where it raises."""
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(seen.on_arrays(*columns, *place))
    except RAISED:
        return None
    if value.dtype.kind == "c":
        return None
    value = value.astype(np.float64)
    return np.full(len(columns[0]), float(value)) if value.ndim == 0 else value


def _why(seen: _Seen, columns: Sequence[Array], place: Array) -> str:
    """Return whether other rows are to blame: a row's value must not change when the rows after it are left out."""
    whole = _value(seen, columns, place)
    half = _value(seen, [c[: (len(c) + 1) // 2] for c in columns], place)
    if whole is None or half is None or half.shape != ((len(whole) + 1) // 2,):
        return _OTHER_ROWS
    return _OTHER_VALUE if _same(half, whole[: len(half)]) else _OTHER_ROWS


def _sample(columns: Sequence[Array]) -> list[Array]:
    rows = len(columns[0])
    if rows <= _SAMPLE:
        return list(columns)
    pick = np.linspace(0, rows - 1, _SAMPLE).astype(np.int64)
    return [c[pick] for c in columns]


def _stirred(column: Array) -> Array:
    """Return a column of which no two values are alike, a thousandth beside the data."""
    sizes = np.abs(column)
    return column + 1e-3 * (float(sizes[sizes.argmax()]) or 1.0) * _wave(len(column))


@lru_cache(maxsize=8)
def _wave(rows: int) -> Array:
    """Values (rows,) of 0 to 2 of which no two are alike."""
    wave = 1 + np.cos(1 + np.arange(rows))
    wave.setflags(write=False)
    return wave


# ---------------------------------------------------------------------------- derivatives


def _autograd_works(seen: _Seen, columns: Sequence[Array], point: Array) -> bool:
    """Return whether torch runs the function on whole columns, with its values and the derivatives that differences show."""
    kernel = AutogradKernel(seen.on_tensors())
    try:
        value = kernel.value(columns, point)
        real = DifferenceKernel(seen.on_arrays).value(columns, point)
        return _same(value, real) and _slopes_agree(kernel, seen, columns, point)
    except (*RAISED, NotImplementedError):
        return False


def _slopes_agree(kernel: Kernel, seen: _Seen, columns: Sequence[Array], point: Array) -> bool:
    """Return whether a kernel's derivatives are those that differences show, at nine rows in ten at least."""
    _, jacobian = kernel.value_jacobian(columns, point)
    value, slopes = DifferenceKernel(seen.on_arrays).value_jacobian(columns, point)
    finite = np.isfinite(slopes) & np.isfinite(jacobian)
    size = np.max(np.abs(slopes), axis=0, initial=0.0, where=finite)
    largest = float(np.max(np.abs(value), initial=0.0, where=np.isfinite(value)))
    rounding = 1e-10 * largest / np.where(point == 0, 1.0, np.abs(point))
    close = np.abs(jacobian - slopes) <= 1e-5 * size + rounding
    return bool((np.mean(close | ~finite, axis=0) > 0.9).all())
