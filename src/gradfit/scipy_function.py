"""The function that curve_fit was given, on its data: what it returns, its trace, and its differences."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import linalg
from gradfit.errors import DataError, ModelError, ShapeError
from gradfit.kernel import NumpyKernel
from gradfit.model import name_of, shape_error
from gradfit.scipy_arguments import EPS, Function
from gradfit.trace import UntraceableError, on_tensors, trace

Array = NDArray[np.float64]

_MOST_COLUMNS = 16  # of xdata (k, M) that a trace takes as variables
_MOST_TRACES = 3  # of functions with one code and other constants; a loop of such lambdas must not trace each


@dataclass(frozen=True, eq=False)
class Observed:
    """A function with its data.

    Attributes
    ----------
    f : callable
        f(x, *parameters).
    x : object
        As the function takes it.
    y : (m,)
        Observed values, as many as there are residuals.
    weight : (m,), (m, m) or None
        1/sigma, or the lower Cholesky factor of the covariance.
    first : (m,)
        What f returned at the start.
    precision : float
        Relative rounding of what f returns: that of float32 where f computes so.
    """

    f: Function
    x: Any
    y: Array
    weight: Array | None
    first: Array
    precision: float

    def value(self, parameters: Array) -> Array:
        """Return what the function gives (m,)."""
        value = _numbers(_call(self.f, self.x, parameters), self.f)
        return value if value.shape == self.y.shape else np.array(np.broadcast_to(value, self.y.shape))

    def columns(self) -> list[Array] | None:
        """Return xdata as the columns, each (m,), of a function of one row; None where it is no table of numbers."""
        x = self.x
        if not isinstance(x, np.ndarray):
            if getattr(x, "ndim", 0) != 1 or not hasattr(x, "__array__"):
                return None
            x = np.asarray(x)
        if x.dtype.kind not in "fiu" or x.ndim not in (1, 2) or x.shape[-1] != len(self.y):
            return None
        if x.ndim == 1:
            return [x.astype(np.float64, copy=False)]
        return list(x) if len(x) <= _MOST_COLUMNS else None


def observed(f: Function, x: Any, y: Array, errors: Array | None, *, start: Array) -> Observed:
    """Return the function with its data, after a look at its value at the start.

    Raises
    ------
    ShapeError
        If it returns anything else than one value a row.
    """
    first = _call(f, x, start)
    value = _numbers(first, f)
    rows = _rows(value.shape, y, f)
    y = np.array(np.broadcast_to(y.ravel(), (rows,)))
    dtype = getattr(first, "dtype", None)
    precision = float(np.finfo(dtype).eps) if dtype in (np.float32, np.float16) else EPS
    return Observed(f, x, y, _weight(errors, rows), np.array(np.broadcast_to(value, (rows,))), precision)


def remembering(
    function: Callable[[Array], Array], place: Array | None = None, value: Array | None = None
) -> Callable[[Array], Array]:
    """Return the function, which is not called again for the parameters of its last call; SciPy promises that."""
    last: list[Any] = [place, value]

    def remembered(parameters: Array) -> Array:
        if last[0] is None or not np.array_equal(last[0], parameters):
            last[:] = parameters.copy(), function(parameters)
        return last[1]

    return remembered


def _call(f: Function, x: Any, parameters: Array) -> object:
    return f(x.copy() if isinstance(x, np.ndarray) else x, *parameters)  # a copy: f may write into it


def _numbers(value: Any, f: Function) -> Array:
    array = np.asarray(value)
    if array.dtype.kind == "c":
        raise ModelError(
            f"{name_of(f)} returned complex numbers",
            remedy="Return real and imaginary parts one after the other: np.concatenate([z.real, z.imag])",
        )
    return array.astype(np.float64, copy=False)


def _rows(shape: tuple[int, ...], y: Array, f: Function) -> int:
    """Return how many residuals f - y has; a lone number on either side is repeated, (m, 1) with (m,) is refused.

    Raises
    ------
    ShapeError
        If they do not fit, with both shapes.
    """
    if y.ndim > 1:
        raise ShapeError(
            f"ydata has shape {y.shape}; it must hold one number a row",
            remedy=f"Give ydata.ravel(), and let {name_of(f)} return its values raveled, too",
        )
    if len(shape) > 1:
        refusal = shape_error(name_of(f), shape, y.size, "ydata")
        raise refusal
    try:
        return int(np.prod(np.broadcast_shapes(shape, y.shape, (1,))))
    except ValueError:
        refusal = shape_error(name_of(f), shape, y.size, "ydata")
        raise refusal from None


def _weight(errors: Array | None, rows: int) -> Array | None:
    if errors is None:
        return None
    if errors.ndim == 2 and errors.size > 1:
        try:
            return linalg.cholesky(errors, lower=True)
        except np.linalg.LinAlgError as error:
            raise DataError("`sigma` must be positive definite.") from error
    if not (np.abs(errors) > 0).all():
        raise DataError("`sigma` must not be 0 or NaN: it is the standard deviation of each value of ydata")
    return np.array(np.broadcast_to(1 / errors.ravel(), (rows,)))


# ---------------------------------------------------------------------------- traces


class _Rows:
    """Stands for xdata (k, m) while one row is traced: indexed and unpacked by predictor, and no more."""

    def __init__(self, predictors: Sequence[object]) -> None:
        self.predictors = predictors

    def __len__(self) -> int:
        return len(self.predictors)

    def __iter__(self) -> Iterator[object]:
        return iter(self.predictors)

    def __getitem__(self, key: object) -> object:
        parts = [part for part in (key if isinstance(key, tuple) else (key,)) if part is not Ellipsis]
        if not parts or not isinstance(parts[0], int) or any(part != slice(None) for part in parts[1:]):
            raise UntraceableError("the model picks rows of xdata by position")
        return self.predictors[parts[0]]


@dataclass(frozen=True, eq=False)
class Traced:
    """A function as its trace, with exact derivatives.

    Attributes
    ----------
    kernel : NumpyKernel
        Value and Jacobian.
    columns : list of (m,)
        What it is evaluated on.
    """

    kernel: NumpyKernel
    columns: list[Array]

    def agrees(self, seen: Observed, parameters: Array, value: Array) -> bool:
        """Return whether the trace gives the function's value (m,) at these parameters, but for rounding."""
        mine = self.kernel.value(self.columns, parameters)
        tolerance = max(1e-9, 64 * seen.precision)
        size = np.abs(value)
        if (np.abs(mine - value) <= tolerance * (size + 0.1 * size.max(initial=0.0))).all():
            return True
        return bool(np.allclose(mine, value, rtol=tolerance, atol=0.0, equal_nan=True))  # where there are NaN


@dataclass(frozen=True)
class _Known:
    """A trace, and how often the function behind its code turned out to be another one."""

    kernel: NumpyKernel | None
    changes: int = 0


#: by code, not by function: a lambda that is made anew for every fit keeps its code, and every trace is checked anyway
_TRACES: "WeakKeyDictionary[object, dict[tuple[int, int], _Known]]" = WeakKeyDictionary()


def traced(seen: Observed, start: Array, place: Array) -> Traced | None:
    """Return the trace of the function where both agree on the data; None where they do not, or there is none.

    They are compared at the start, where the value is known, and at a place beside it; the caller compares them at the
    end. A known trace may be that of an older function with the same code and other constants: then the function is
    traced again.
    """
    columns = seen.columns()
    if columns is None:
        return None
    traces, key = _traces(seen.f), (len(columns) if np.ndim(seen.x) > 1 else 0, len(start))
    known = traces.get(key)
    if known is not None:
        found = known.kernel and Traced(known.kernel, columns)
        if found is None or _agree(found, seen, start, place):
            return found
        if known.changes == _MOST_TRACES:
            return None
    kernel = _trace(seen.f, *key)
    traces[key] = _Known(kernel, 0 if known is None else known.changes + 1)
    found = kernel and Traced(kernel, columns)
    return found if found and _agree(found, seen, start, place) else None


def _agree(found: Traced, seen: Observed, start: Array, place: Array) -> bool:
    if not found.agrees(seen, start, seen.first):
        return False
    try:
        return found.agrees(seen, place, seen.value(place))
    except Exception:  # noqa: BLE001  the caller's function, at a place the caller did not choose: it may raise anything
        return False


def _traces(f: Any) -> dict[tuple[int, int], _Known]:
    f = getattr(f, "__func__", f)  # a bound method is a new object each time
    f = f.func if isinstance(f, partial) else f
    code = getattr(inspect.unwrap(f) if hasattr(f, "__wrapped__") else f, "__code__", f)
    try:
        return _TRACES.setdefault(code, {})
    except TypeError:  # nothing to refer to weakly: no memory
        return {}


def _trace(f: Function, predictors: int, k: int) -> NumpyKernel | None:
    def of_one_row(*values: object) -> object:
        return f(_Rows(values[:predictors]), *values[predictors:])

    function = on_tensors(of_one_row if predictors else f)
    variables, parameters = [f"x{i}" for i in range(predictors or 1)], [f"p{j}" for j in range(k)]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return NumpyKernel(trace(function, variables, parameters))
    except Exception:  # noqa: BLE001  the caller's function, on stand-ins for numbers: it may raise anything
        return None


def beside(start: Array, lower: Array, upper: Array) -> Array:
    """Return a place (k,) near the start and inside the bounds, where no parameter keeps a value that may be special."""
    below, above = start - lower, upper - start
    step = np.minimum(np.where(start == 0, 1e-3, 0.01 * np.abs(start)), np.maximum(above, below) / 2)
    return start + np.where(above >= below, step, -step)


# ---------------------------------------------------------------------------- without a trace


@dataclass(frozen=True, eq=False)
class Supplied:
    """A function with the Jacobian that the caller supplies, both of the parameters alone."""

    function: Callable[[Array], Array]
    jac: Callable[[Array], Any]

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:  # noqa: ARG002  a kernel's signature
        """Return the model (n,) for parameters (k,)."""
        return self.function(np.asarray(parameters, dtype=np.float64))

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k).

        Raises
        ------
        ShapeError
            If the derivatives have another shape.
        """
        value = self.value(columns, parameters)
        slopes = self.jac(np.asarray(parameters, dtype=np.float64))
        slopes = np.asarray(slopes.toarray() if hasattr(slopes, "toarray") else slopes, dtype=np.float64)
        expected = (len(value), len(parameters))
        if slopes.shape != expected:
            raise ShapeError(
                f"The return value of `jac` has wrong shape: expected {expected}, actual {slopes.shape}."
            )
        return value, slopes


_MOST_STEPS = 4


@dataclass(frozen=True, eq=False)
class Differences:
    """A function that only gives values; its derivatives are those of the parabola through three points.

    The step follows the function: bending may change the value by a part in 1e10, and the slope must not drown in
    rounding. A share of the parameter, as SciPy takes it, is too coarse for a peak of width 0.01 at 574, and too fine
    where f computes in float32.

    Attributes
    ----------
    function : callable
        Parameters (k,) -> values (n,).
    lower, upper : (k,)
        Never crossed.
    precision : float
        Relative rounding of the function.
    step : float or None
        Share of the parameter that the caller wants; it is not adapted.
    """

    function: Callable[[Array], Array]
    lower: Array
    upper: Array
    precision: float
    step: float | None = None

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:  # noqa: ARG002  a kernel's signature
        """Return the model (n,) for parameters (k,)."""
        return self.function(np.asarray(parameters, dtype=np.float64))

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k)."""
        p = np.asarray(parameters, dtype=np.float64)
        centre = self.value(columns, p)
        return centre, np.stack([self._slope(p, j, centre) for j in range(len(p))]).T

    def _slope(self, p: Array, j: int, centre: Array) -> Array:
        size = (float(np.linalg.norm(centre - centre.mean())) + 1e-4 * float(np.linalg.norm(centre))) or 1.0
        h = (self.step or float(np.cbrt(self.precision))) * (abs(float(p[j])) or 1.0)
        slope, bend = self._parabola(p, j, h, centre)
        for _ in range(_MOST_STEPS if self.step is None else 0):
            longer = self._longer(
                float(np.linalg.norm(slope)) * h / size, float(np.linalg.norm(bend)) * h * h / size
            )
            if longer == 1:
                break
            h *= longer
            slope, bend = self._parabola(p, j, h, centre)
        return slope

    def _longer(self, change: float, curve: float) -> float:
        """By what factor to change a step that moves the value by these shares of its size, straight and by bending."""
        best = float(np.cbrt(self.precision))
        if not np.isfinite(change):
            return 1e-2
        if curve > 100 * best**2:
            return max(best / float(np.sqrt(curve)), 1e-6)
        return 1e3 if change < 1e-3 * best else 1.0

    def _parabola(self, p: Array, j: int, h: float, centre: Array) -> tuple[Array, Array]:
        """First derivative at p and half the second, by parameter j; both points inside the bounds."""
        u, v = self._offsets(float(p[j]), j, h)
        slope_u, slope_v = ((self._moved(p, j, t) - centre) / t for t in (u, v))
        bend = (slope_v - slope_u) / (v - u)
        return slope_u - u * bend, bend

    def _moved(self, p: Array, j: int, by: float) -> Array:
        p = p.copy()
        p[j] += by
        return self.function(p)

    def _offsets(self, at: float, j: int, h: float) -> tuple[float, float]:
        below, above = at - self.lower[j], self.upper[j] - at
        h = max(h, 8 * float(np.spacing(abs(at))))
        if min(below, above) >= h:
            u, v = h, -h
        else:
            h = min(h, max(below, above) / 2)
            u, v = (h, 2 * h) if above >= below else (-h, -2 * h)
        return (at + u) - at, (at + v) - at  # as they are after rounding
