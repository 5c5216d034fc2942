"""SciPy's arguments of curve_fit, checked as SciPy checks them: start, bounds, data, and the settings of its solvers."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradfit.errors import DataError, OptionError
from gradfit.loss import Loss
from gradfit.solve.lm import Box

Array = NDArray[np.float64]
Function = Callable[..., object]

EPS = float(np.finfo(np.float64).eps)
OPEN = (-np.inf, np.inf)  # SciPy's default bounds


# ---------------------------------------------------------------------------- start and bounds


def _parameter_names(f: Function) -> tuple[str, ...]:
    if (
        isinstance(f, FunctionType) and not f.__dict__
    ):  # nothing is wrapped: its code tells, ten times as fast
        return f.__code__.co_varnames[1 : f.__code__.co_argcount]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return tuple(p.name for p in inspect.signature(f).parameters.values() if p.kind in kinds)[1:]


def starting(f: Function, p0: ArrayLike | None, bounds: Any) -> tuple[Array, Box | None]:
    """Return the start values (k,) and the bounds, None where every side is open.

    Raises
    ------
    OptionError
        If their number cannot be known, bounds do not fit or are reversed, or the start lies outside them.
    """
    given = None if p0 is None else np.asarray(p0)
    if given is not None and given.dtype.kind == "c":
        raise OptionError("`x0` must be real: p0 holds complex numbers")
    start = np.ones(len(_parameter_names(f))) if given is None else given.astype(np.float64).ravel()
    if len(start) == 0:
        raise OptionError(
            "Unable to determine number of fit parameters.", remedy="Give start values: p0=[1, 1]"
        )
    if not np.isfinite(start).all():
        raise OptionError(f"`p0` must be finite, and is {start.tolist()}")
    box = None if bounds is OPEN else _box(bounds, len(start))
    if box is None:
        return start, None
    return (_feasible(box) if given is None else _inside(f, start, box)), box


def _box(bounds: Any, k: int) -> Box | None:
    """Return the bounds of SciPy's pair, or of its Bounds; None where every side is open.

    Raises
    ------
    OptionError
        If they do not fit k parameters, or are reversed.
    """
    lower, upper = (bounds.lb, bounds.ub) if hasattr(bounds, "lb") else bounds
    lower, upper = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
    if lower.shape not in ((), (k,)) or upper.shape not in ((), (k,)):
        raise OptionError(
            f"Inconsistent shapes between bounds and `x0`: {lower.shape} and {upper.shape} for {k} parameters"
        )
    if not (lower < upper).all():
        raise OptionError("Each lower bound must be strictly less than each upper bound.")
    if lower.max() == -np.inf and upper.min() == np.inf:
        return None
    return Box(np.array(np.broadcast_to(lower, (k,))), np.array(np.broadcast_to(upper, (k,))))


def _feasible(box: Box) -> Array:
    """Return SciPy's start without p0: the middle of the bounds, one beyond the only bound, or 1."""
    lower, upper = box
    low, high = np.isfinite(lower), np.isfinite(upper)
    start = np.ones_like(lower)
    start[low & high] = 0.5 * lower[low & high] + 0.5 * upper[low & high]
    start[low & ~high] = lower[low & ~high] + 1
    start[high & ~low] = upper[high & ~low] - 1
    return start


def _inside(f: Function, start: Array, box: Box) -> Array:
    slack = 1e-12 * np.maximum(1.0, np.abs(start))  # what only rounding puts outside is meant to be inside
    outside = (start < box.lower - slack) | (start > box.upper + slack)
    if outside.any():
        j = int(np.argmax(outside))
        names = _parameter_names(f)
        name = f" ({names[j]})" if j < len(names) else ""
        raise OptionError(
            "Initial guess is outside of provided bounds: `x0` is infeasible, for "
            f"p0[{j}]{name} = {start[j]:g} does not lie within {box.lower[j]:g} to {box.upper[j]:g}",
            remedy="Move it inside, or widen the bounds",
        )
    return np.clip(start, box.lower, box.upper)


# ---------------------------------------------------------------------------- data


def clean(
    xdata: Any,
    ydata: ArrayLike,
    sigma: ArrayLike | None,
    *,
    check_finite: bool | None,
    nan_policy: str | None,
) -> tuple[Any, Array, Array | None]:
    """Return x, y and sigma as SciPy hands them on, without the rows that nan_policy="omit" leaves out.

    Raises
    ------
    DataError
        If values are missing or infinite, there are none, or sigma has another shape.
    """
    check = nan_policy is None if check_finite is None else check_finite
    y = np.asarray(ydata, dtype=np.float64)
    x = (
        np.asarray(xdata, dtype=np.float64)
        if isinstance(xdata, list | tuple | np.ndarray)
        else _widened(xdata)
    )
    if check:
        _refuse_missing("ydata", y)
        _refuse_missing("xdata", x)
    if y.size == 0:
        raise DataError("`ydata` must not be empty!")
    errors = None if sigma is None else np.asarray(sigma, dtype=np.float64)
    if not check and nan_policy is not None:
        x, y, errors = _without_missing(x, y, errors, nan_policy)
    if errors is not None and errors.size != 1 and errors.shape not in ((y.size,), (y.size, y.size)):
        raise DataError(f"`sigma` has incorrect shape: {errors.shape} for {y.size} data")
    return x, y, errors


def _widened(x: Any) -> Any:
    """Return a Series of float32 as one of float64: f would compute in float32, where small differences vanish."""
    narrow = getattr(x, "dtype", None) in (np.float32, np.float16)
    return x.astype(np.float64) if narrow and hasattr(x, "astype") else x


def _refuse_missing(name: str, values: Any) -> None:
    if isinstance(values, np.ndarray) and not np.isfinite(values).all():
        bad = ~np.isfinite(np.atleast_1d(values))
        rows = np.flatnonzero(bad.any(axis=tuple(range(bad.ndim - 1)))) + 1
        raise DataError(
            f"array must not contain infs or NaNs: {name} does in {len(rows)} of {bad.shape[-1]} rows, first in row "
            f"{rows[0]}",
            remedy='nan_policy="omit" leaves out rows with NaN',
        )


def _without_missing(x: Any, y: Array, errors: Array | None, policy: str) -> tuple[Any, Array, Array | None]:
    if policy == "propagate":
        raise OptionError("`nan_policy='propagate'` is not supported by this function.")
    if policy not in ("raise", "omit"):
        raise OptionError("nan_policy must be one of {None, 'raise', 'omit'}")
    missing = np.isnan(y)
    if x is not None:
        absent = np.isnan(np.asarray(x, dtype=np.float64))
        missing = missing | absent.any(axis=tuple(range(absent.ndim - 1)))
    if not missing.any():
        return x, y, errors
    if policy == "raise":
        raise DataError("The input contains nan values", remedy='nan_policy="omit" leaves them out')
    if errors is not None and errors.size > 1:
        errors = errors[np.ix_(*[~missing] * errors.ndim)]
    if x is not None:
        x = x[..., ~missing] if isinstance(x, np.ndarray) else x[~missing]
    return x, y[~missing], errors


# ---------------------------------------------------------------------------- settings of SciPy's solvers

_LEASTSQ = frozenset(["ftol", "xtol", "gtol", "maxfev", "epsfcn", "factor", "diag", "col_deriv"])


@dataclass(frozen=True)
class Asked:
    """What method, jac and the settings of SciPy's solvers come to.

    Attributes
    ----------
    method : str
        "lm", "trf" or "dogbox".
    loss : Loss or None
        What residuals cost; None where it is one that only SciPy has.
    jac : callable or None
        The Jacobian of f.
    scheme : str
        SciPy's differences for "trf" and "dogbox".
    step : float or None
        Share of a parameter for differences, where the caller wants differences.
    settings : mapping
        What SciPy's solver is called with; for "lm" all but those that concern derivatives.
    """

    method: str
    loss: Loss | None
    jac: Function | None
    scheme: str
    step: float | None
    settings: Mapping[str, Any]

    @property
    def plain(self) -> bool:
        """Whether residuals cost their squares."""
        return self.loss is not None and not self.loss.robust


def settled(
    method: str | None, jac: Function | str | None, settings: Mapping[str, Any], *, bounded: bool
) -> Asked:
    """Return what the settings come to; those of least_squares are left to its own checks.

    Raises
    ------
    OptionError
        If "lm" is asked for with bounds, the method is unknown, or `args` are given.
    TypeError
        If MINPACK has no such setting.
    """
    method = ("trf" if bounded else "lm") if method is None else method
    if method == "lm" and bounded:
        raise OptionError("Method 'lm' only works for unconstrained problems. Use 'trf' or 'dogbox' instead.")
    if method not in ("lm", "trf", "dogbox"):
        raise OptionError(f"`method` must be 'trf', 'dogbox' or 'lm', and is {method!r}")
    if "args" in settings:
        raise OptionError(
            "'args' is not a supported keyword argument.", remedy="Use functools.partial or a lambda"
        )
    return _for_minpack(jac, settings) if method == "lm" else _for_least_squares(method, jac, settings)


def _for_minpack(jac: Function | str | None, settings: Mapping[str, Any]) -> Asked:
    for name in settings:
        if name not in _LEASTSQ:
            raise TypeError(f"leastsq() got an unexpected keyword argument {name!r}")
    if isinstance(jac, str):
        raise TypeError(f"jac={jac!r} is for methods 'trf' and 'dogbox'; 'lm' takes a callable")
    by_column: Any = jac
    slopes: Function | None = (
        (lambda *given: by_column(*given).T) if jac and settings.get("col_deriv") else jac
    )
    epsfcn = settings.get("epsfcn")
    step = None if epsfcn is None else float(np.sqrt(max(epsfcn, EPS)))
    rest = {name: value for name, value in settings.items() if name not in ("epsfcn", "col_deriv")}
    return Asked("lm", Loss(), slopes, "2-point", step, rest)


def _for_least_squares(method: str, jac: Function | str | None, settings: Mapping[str, Any]) -> Asked:
    settings = dict(settings)
    if "max_nfev" not in settings:
        settings["max_nfev"] = settings.pop("maxfev", None)
    if jac is not None and not callable(jac) and jac not in ("2-point", "3-point", "cs"):
        raise OptionError("`jac` must be '2-point', '3-point', 'cs' or callable.")
    name, step = settings.get("loss", "linear"), settings.get("diff_step")
    loss = Loss() if name == "linear" else None
    if name in ("soft_l1", "huber", "cauchy"):
        loss = Loss(name, float(settings.get("f_scale", 1.0)))
    scheme = "2-point" if jac in (None, "2-point") else "3-point"  # "cs" would call f with complex numbers
    return Asked(
        method, loss, jac if callable(jac) else None, scheme,
        None if step is None else float(np.max(np.abs(step))), settings,
    )  # fmt: skip
