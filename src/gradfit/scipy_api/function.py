"""The function that curve_fit was given, on its data: what it returns, its trace, and its differences."""

import inspect
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import linalg
from gradfit.errors import DataError, ModelError, ShapeError
from gradfit.kernel import NumpyKernel
from gradfit.model import name_of, shape_error
from gradfit.native.small import SmallFits, small_fits
from gradfit.scipy_api.arguments import EPS, Function
from gradfit.solve.lm import Box
from gradfit.trace import UntraceableError, on_tensors, trace

Array = NDArray[np.float64]

_MOST_COLUMNS = 16  # of xdata (k, M) that a trace takes as variables
_FEW = 10_000  # numbers whose product OpenBLAS does not share out
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
    first = np.asarray(_call(f, x, start))
    value = _numbers(first, f)
    if value.ndim == 1 and value.shape == y.shape:
        rows = len(y)
    else:
        rows = _rows(value.shape, y, f)
        value, y = (np.array(np.broadcast_to(part, (rows,))) for part in (value, y))
    narrow = first.dtype.kind == "f" and first.dtype.itemsize < 8
    precision = float(np.finfo(first.dtype).eps) if narrow else EPS
    return Observed(f, x, y, _weight(errors, rows), value, precision)


def remembering(
    function: Callable[[Array], Any], place: Array | None = None, value: object = None
) -> Callable[[Array], Any]:
    """Return the function, which is not called again for the parameters of its last call; SciPy promises that."""
    last: list[Any] = [None if place is None else place.tobytes(), value]

    def remembered(parameters: Array) -> Any:
        here = parameters.tobytes()
        if last[0] != here:
            last[:] = here, function(parameters)
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
    return array.astype(np.float64)  # a copy: f may use the same memory again


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
    small : SmallFits
        What fits it in one compiled call.
    """

    kernel: NumpyKernel
    columns: list[Array]
    small: SmallFits

    def agrees(self, seen: Observed, parameters: Array, value: Array) -> bool:
        """Return whether the trace gives the function's value (m,) at these parameters, but for rounding."""
        mine = self.kernel.value(self.columns, parameters)
        tolerance = max(1e-10, 64 * seen.precision)
        size = _square(value)
        if 0 < size < np.inf:
            return _square(mine - value) <= tolerance**2 * size
        most = float(np.max(np.abs(value), initial=0.0, where=np.isfinite(value)))
        return np.allclose(mine, value, rtol=tolerance, atol=tolerance * most, equal_nan=True)


def _square(v: Array) -> float:
    """Return vᵀv; of many numbers not by BLAS, whose threads wait for one another where other programs run."""
    return float(v @ v) if len(v) <= _FEW else float(np.einsum("i,i->", v, v))


@dataclass(frozen=True, eq=False)
class _Known:
    """A trace, and how often the function behind its code turned out to be another one."""

    kernel: NumpyKernel | None
    changes: int = 0

    @cached_property
    def small(self) -> SmallFits | None:
        """What fits it in one compiled call."""
        return None if self.kernel is None else small_fits(self.kernel.graph)

    def on(self, columns: list[Array]) -> "Traced | None":
        """Return it with data."""
        return None if self.kernel is None or self.small is None else Traced(self.kernel, columns, self.small)


#: by code, not by function: a lambda that is made anew for every fit keeps its code, and every trace is checked anyway
_TRACES: "WeakKeyDictionary[object, dict[tuple[int, int], _Known]]" = WeakKeyDictionary()


def traced(seen: Observed, start: Array, box: Box | None) -> Traced | None:
    """Return the trace of the function where both agree on the data; None where they do not, or there is none.

    They are compared beside the start, where no parameter has a special value; the caller compares them at the end.
    """
    columns = seen.columns()
    if columns is None:
        return None
    traces, key = _traces(seen.f), (len(columns) if np.ndim(seen.x) > 1 else 0, len(start))
    known = traces.get(key)
    if known is None:
        known = traces[key] = _Known(_trace(seen.f, *key))
    found = known.on(columns)
    if found is None:
        return None
    place = _beside(start, box)
    try:
        real = seen.value(place)
    except Exception:  # noqa: BLE001  the caller's function, at a place the caller did not choose: it may raise anything
        return None
    if found.agrees(seen, place, real):
        return found
    if known.changes < _MOST_TRACES:  # it may be that of an older function with this code and other constants
        traces[key] = _Known(_trace(seen.f, *key) or known.kernel, known.changes + 1)
        found = traces[key].on(columns)
    return found if found is not None and found.agrees(seen, place, real) else None


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


def _beside(start: Array, box: Box | None) -> Array:
    """Return a place (k,) near the start and inside the bounds, where no parameter keeps a value that may be special."""
    step = 0.01 * start + 1e-3 * (start == 0)
    if box is None:
        return start + step
    below, above = start - box.lower, box.upper - start
    step = np.minimum(np.abs(step), 0.5 * np.maximum(below, above))
    return start + np.where(above >= below, step, -step)


# ---------------------------------------------------------------------------- without a trace


@dataclass(frozen=True, eq=False)
class Supplied:
    """A function with the Jacobian that the caller supplies, both of the parameters alone."""

    function: Callable[[Array], Array]
    jac: Callable[[Array], Any]
    name: str = "numpy (derivatives from the caller)"

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
        slopes: Any = self.jac(np.asarray(parameters, dtype=np.float64))
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
    box : Box
        Never left.
    precision : float
        Relative rounding of the function.
    step : float or None
        Share of the parameter that the caller wants; it is not adapted.
    """

    function: Callable[[Array], Array]
    box: Box
    precision: float
    step: float | None = None
    name: str = "numpy (derivatives by differences)"

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:  # noqa: ARG002  a kernel's signature
        """Return the model (n,) for parameters (k,)."""
        return self.function(np.asarray(parameters, dtype=np.float64))

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k)."""
        p = np.asarray(parameters, dtype=np.float64)
        centre = self.value(columns, p)
        best = float(np.cbrt(self.precision))
        h = (self.step or best) * np.where(p == 0, 1.0, np.abs(p))
        slopes, bends = self._parabolas(p, np.arange(len(p)), h, centre)
        for _ in range(_MOST_STEPS if self.step is None else 0):
            longer = self._longer(h, slopes, bends, centre)
            wrong = np.flatnonzero(longer != 1)
            if not len(wrong):
                break
            h = h * longer
            slopes[wrong], bends[wrong] = self._parabolas(p, wrong, h[wrong], centre)
        return centre, slopes.T

    def _longer(self, h: Array, slopes: Array, bends: Array, centre: Array) -> Array:
        """Return by what factors (k,) the steps should be longer, from what they do to the value: straight, by bending."""
        best = float(np.cbrt(self.precision))
        spread = centre - centre.mean()
        size = np.sqrt(spread @ spread) + 1e-4 * np.sqrt(centre @ centre) or 1.0
        change = h / size * np.sqrt(np.einsum("kn,kn->k", slopes, slopes))
        curve = h * h / size * np.sqrt(np.einsum("kn,kn->k", bends, bends))
        longer = np.where(change < 1e-3 * best, 1e3, 1.0)
        longer = np.where(curve > 100 * best**2, np.maximum(best / np.sqrt(curve), 1e-6), longer)
        return np.where(np.isfinite(change), longer, 1e-2)

    def _parabolas(self, p: Array, which: NDArray[np.int64], h: Array, centre: Array) -> tuple[Array, Array]:
        """Return the first and half the second derivatives (k, n) by some parameters; all points lie inside the bounds."""
        u, v = self._offsets(p, which, h)
        moved = np.empty((2, len(which), len(centre)))
        for row, offsets in zip(moved, (u, v), strict=True):
            for i, j in enumerate(which):
                q = p.copy()
                q[j] += offsets[i]
                row[i] = self.function(q)
        slope_u, slope_v = (moved[0] - centre) / u[:, None], (moved[1] - centre) / v[:, None]
        bend = (slope_v - slope_u) / (v - u)[:, None]
        return slope_u - u[:, None] * bend, bend

    def _offsets(self, p: Array, which: NDArray[np.int64], h: Array) -> tuple[Array, Array]:
        """Return two offsets (k,) each, on both sides where there is room, as they are after rounding."""
        at = p[which]
        below, above = at - self.box.lower[which], self.box.upper[which] - at
        h = np.maximum(h, 8 * np.spacing(np.abs(at)))
        near = np.minimum(below, above) < h
        h = np.where(near, np.minimum(h, 0.5 * np.maximum(below, above)), h)
        u = np.where(near & (below > above), -h, h)
        v = np.where(near, 2 * u, -u)
        return (at + u) - at, (at + v) - at
