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
    box = _box(bounds, len(start))
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
_LEAST_SQUARES = frozenset(
    [
        "ftol",
        "xtol",
        "gtol",
        "x_scale",
        "loss",
        "f_scale",
        "diff_step",
        "tr_solver",
        "tr_options",
        "jac_sparsity",
        "max_nfev",
        "verbose",
        "callback",
        "workers",
    ]
)


@dataclass(frozen=True)
class Asked:
    """What method, jac and the settings of SciPy's solvers come to.

    Attributes
    ----------
    method : str
        "lm", "trf" or "dogbox".
    limit : int
        Evaluations of f at most; with "lm" those for differences count, too.
    loss : Loss
        What residuals cost.
    jac : callable or None
        The Jacobian of f.
    step : float or None
        Relative step of differences, where the caller wants differences.
    callback : callable or None
        Called after each step with the parameters, or with an OptimizeResult.
    minpack : mapping
        Settings that MINPACK takes as they are.
    ftol : float
        For the message.
    """

    method: str
    limit: int
    loss: Loss
    jac: Function | None
    step: float | None
    callback: Function | None
    minpack: Mapping[str, Any]
    ftol: float

    @property
    def exhausted(self) -> str:
        """What SciPy says when the limit is reached."""
        if self.method == "lm":
            return f"Optimal parameters not found: Number of calls to function has reached maxfev = {self.limit}."
        return "Optimal parameters not found: The maximum number of function evaluations is exceeded."


def settled(
    method: str | None, jac: Function | str | None, settings: Mapping[str, object], k: int, *, bounded: bool
) -> Asked:
    """Return what the settings for k parameters come to.

    Raises
    ------
    OptionError
        If a value makes no sense, or "lm" is asked for with bounds.
    TypeError
        If SciPy's solver of that method has no such setting.
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
    settings = dict(settings)
    if method != "lm" and "max_nfev" not in settings:
        settings["max_nfev"] = settings.pop("maxfev", None)
    known, solver = (_LEASTSQ, "leastsq") if method == "lm" else (_LEAST_SQUARES, "least_squares")
    for name in settings:
        if name not in known:
            raise TypeError(f"{solver}() got an unexpected keyword argument {name!r}")
    return _leastsq(jac, settings, k) if method == "lm" else _least_squares(method, jac, settings, k)


def _leastsq(jac: Function | str | None, settings: Mapping[str, Any], k: int) -> Asked:
    if isinstance(jac, str):
        raise TypeError(f"jac={jac!r} is for methods 'trf' and 'dogbox'; 'lm' takes a callable")
    by_column: Any = jac
    slopes: Function | None = (
        (lambda *given: by_column(*given).T) if jac and settings.get("col_deriv") else jac
    )
    epsfcn = settings.get("epsfcn")
    return Asked(
        method="lm",
        limit=settings.get("maxfev") or (200 if jac is None else 100) * (k + 1),
        loss=Loss(),
        jac=slopes,
        step=None if epsfcn is None else float(np.sqrt(max(epsfcn, EPS))),
        callback=None,
        minpack={
            name: settings[name] for name in ("ftol", "xtol", "gtol", "factor", "diag") if name in settings
        },
        ftol=settings.get("ftol", 1.49012e-8),
    )


def _least_squares(method: str, jac: Function | str | None, settings: Mapping[str, Any], k: int) -> Asked:
    if jac is not None and not callable(jac) and jac not in ("2-point", "3-point", "cs"):
        raise OptionError("`jac` must be '2-point', '3-point', 'cs' or callable.")
    limit, step, scale = settings.get("max_nfev"), settings.get("diff_step"), settings.get("x_scale")
    if limit is not None and limit <= 0:
        raise OptionError("`max_nfev` must be None or positive integer.")
    tolerances = [settings.get(name, 1e-8) or 0.0 for name in ("ftol", "xtol", "gtol")]
    if max(tolerances) < EPS:
        raise OptionError(f"At least one of the tolerances must be higher than machine epsilon ({EPS:.2e}).")
    if scale is not None and not (isinstance(scale, str) and scale == "jac") and not _positive(scale):
        raise OptionError("`x_scale` must be 'jac' or array_like with positive numbers.")
    return Asked(
        method=method,
        limit=limit or 100 * k,
        loss=_loss(settings.get("loss", "linear"), float(settings.get("f_scale", 1.0))),
        jac=jac if callable(jac) else None,
        step=None if step is None else float(np.max(np.abs(step))),
        callback=settings.get("callback"),
        minpack={},
        ftol=tolerances[0],
    )


def _positive(scale: Any) -> bool:
    try:
        numbers = np.asarray(scale, dtype=np.float64)
    except (TypeError, ValueError):
        return False
    return bool(np.all(numbers > 0) and np.isfinite(numbers).all())


# ---------------------------------------------------------------------------- losses


def _arctan(z: Array) -> Array:
    t = 1 + z**2
    return np.array([np.arctan(z), 1 / t, -2 * z / t**2])


@dataclass(frozen=True)
class OtherLoss(Loss):
    """SciPy's losses that gradfit has no name for: arctan, and any function z -> (rho, rho', rho'')."""

    rho: Callable[[Array], Array] = _arctan

    def __post_init__(self) -> None:
        Loss("huber", self.scale)  # checks the scale

    def _terms(self, residuals: Array) -> tuple[Array, Array, Array]:
        z = (residuals / (self.scale or 1.0)) ** 2
        rho, first, second = np.asarray(self.rho(z), dtype=np.float64)
        return rho, first, first + 2 * second * z

    def cost(self, residuals: Array) -> float:
        """Return the sum over the residuals."""
        return float((self.scale or 1.0) ** 2 * np.sum(self._terms(residuals)[0]))

    def curvature(self, residuals: Array) -> tuple[Array, Array]:
        """Return the first and second derivative of the cost by each residual, halved: psi and psi' (n,)."""
        _, first, slope = self._terms(residuals)
        return first * residuals, slope

    def linearised(self, residuals: Array, jacobian: Array) -> tuple[Array, Array]:
        """Return (r, J) of the least-squares problem with this loss's gradient; see `Loss.linearised`."""
        _, first, slope = self._terms(residuals)
        weight = np.maximum(np.sqrt(np.where(slope > 0.1 * first, slope, first)), 1e-12)
        return first / weight * residuals, jacobian * weight[:, None]


def _loss(loss: Any, scale: float) -> Loss:
    if callable(loss):
        rho: Any = loss
        return OtherLoss("callable", scale, rho)
    if loss == "linear":
        return Loss()
    if loss == "arctan":
        return OtherLoss("arctan", scale)
    if loss in ("huber", "soft_l1", "cauchy"):
        return Loss(loss, scale)
    raise OptionError(
        f"`loss` must be one of linear, huber, soft_l1, cauchy, arctan or a callable, and is {loss!r}"
    )
