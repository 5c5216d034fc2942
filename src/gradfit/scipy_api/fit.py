"""curve_fit() with SciPy's signature, defaults, returns and exceptions; gradfit's derivatives and solver inside."""

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradfit._lazy import linalg, optimize
from gradfit.scipy_api.arguments import EPS, OPEN, Asked, clean, settled, starting
from gradfit.scipy_api.function import observed
from gradfit.scipy_api.walk import Found, fitted

Array = NDArray[np.float64]
Function = Callable[..., object]


def curve_fit(
    f: Function,
    xdata: object,
    ydata: ArrayLike,
    p0: ArrayLike | None = None,
    sigma: ArrayLike | None = None,
    absolute_sigma: bool = False,
    check_finite: bool | None = None,
    bounds: object = OPEN,
    method: str | None = None,
    jac: Function | str | None = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    **settings: object,
) -> tuple[Any, ...]:
    """Return (popt, pcov) of a least-squares fit of f(x, *parameters), as scipy.optimize.curve_fit does.

    A function of NumPy calls is traced once and has exact derivatives from then on; the trace is compared with f on the
    data in every call, near the start and at the end, so that it never changes the answer. Other functions are
    differentiated by differences. Everything is computed in float64. Without bounds the fit ends in the same valley as
    SciPy's, nearer to the minimum.

    Parameters
    ----------
    f : callable
        f(x, a, b, ...), with x as it was given.
    xdata : array_like or object
        (M,) or (k, M); lists, tuples and arrays become float64 arrays, anything else is handed to f as it is.
    ydata : array_like
        (M,).
    p0 : array_like, optional
        Start values (N,); ones, or the middle of the bounds, when left out.
    sigma : scalar, (M,) or (M, M), optional
        Standard deviations of ydata, or its covariance.
    absolute_sigma : bool
        Whether sigma is in the unit of ydata; else only its proportions count, and the scatter of the residuals scales
        pcov.
    check_finite : bool, optional
        Whether infinite and missing data are an error; True unless `nan_policy` is given.
    bounds : (lower, upper) or scipy.optimize.Bounds
        Numbers, or one for each parameter.
    method : {"lm", "trf", "dogbox"}, optional
        "lm" is MINPACK's walk with exact derivatives, the default without bounds. The two others are gradfit's
        Levenberg-Marquardt inside the bounds; they differ in nothing here.
    jac : callable or str, optional
        jac(x, a, b, ...) -> (M, N). SciPy's names of difference schemes are accepted and not needed.
    full_output : bool
        Whether to return (popt, pcov, infodict, mesg, ier).
    nan_policy : {"raise", "omit"}, optional
        What happens to missing values in xdata and ydata.
    **settings
        Of scipy.optimize.leastsq for "lm", of scipy.optimize.least_squares else. `ftol`, `xtol`, `gtol`, `maxfev`,
        `factor` and `diag` are MINPACK's; `max_nfev`, `loss`, `f_scale` and `callback` mean what they mean in SciPy. With
        `epsfcn` or `diff_step` f is differentiated by differences of that step. Tolerances of the other methods are
        met in any case, and `x_scale`, `tr_solver`, `verbose` and the like have nothing to do.

    Raises
    ------
    ValueError
        If data or options are wrong. What SciPy returns silently for errors of 0 is an error, too.
    TypeError
        If an option belongs to the other method, or "lm" has fewer data than parameters.
    RuntimeError
        If the limit of evaluations is reached, or f is not finite at the start.

    Warns
    -----
    OptimizeWarning
        If the data do not determine the covariance.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.linspace(0, 4, 9)
    >>> popt, pcov = curve_fit(lambda x, a, b: a * np.exp(-b * x), x, 2.5 * np.exp(-1.3 * x))
    >>> popt.round(6).tolist()
    [2.5, 1.3]
    """
    start, box = starting(f, p0, bounds)
    x, y, errors = clean(xdata, ydata, sigma, check_finite=check_finite, nan_policy=nan_policy)
    asked = settled(method, jac, settings, bounded=box is not None)
    if asked.method == "lm" and y.size != 1 and len(start) > y.size:
        raise TypeError(
            f"The number of func parameters={len(start)} must not exceed the number of data points={y.size}"
        )
    if absolute_sigma and sigma is None:
        warnings.warn(
            "absolute_sigma=True without sigma takes the error of every point to be 1", stacklevel=2
        )
    with np.errstate(all="ignore"):  # a step into overflow is refused: nothing the caller should be warned of
        seen = observed(f, x, y, errors, start=start)
        found = fitted(seen, start, box, asked)
        pcov = _covariance(found, asked, absolute=absolute_sigma)
    if not np.isfinite(pcov).all():
        warnings.warn(
            "Covariance of the parameters could not be estimated", optimize.OptimizeWarning, stacklevel=2
        )
    if not full_output:
        return found.parameters, pcov
    return found.parameters, pcov, _details(found, asked), found.message, found.ier


# ---------------------------------------------------------------------------- what comes back


def _covariance(found: Found, asked: Asked, *, absolute: bool) -> Array:
    """Return SciPy's pcov (k, k), infinite where it is not known."""
    n, k = found.rows, len(found.parameters)
    inverse = found.inverse
    if inverse is None and asked.method != "lm":  # SciPy's choice then: the Moore-Penrose inverse
        _, s, vt = np.linalg.svd(found.jacobian, full_matrices=False)
        kept = s > EPS * max(n, k) * s[0]
        inverse = (vt[kept].T / s[kept] ** 2) @ vt[kept]
    if inverse is None or (not absolute and n <= k):
        return np.full((k, k), np.inf)
    pcov = inverse if absolute else inverse * (found.cost / (n - k))
    return pcov if np.isfinite(pcov).all() else np.full((k, k), np.inf)


def _details(found: Found, asked: Asked) -> dict[str, object]:
    """Return SciPy's infodict: evaluations and residuals, and with "lm" the factors of the Jacobian."""
    details: dict[str, object] = {"fvec": found.residuals, "nfev": found.evaluations}
    if asked.method != "lm":
        return details
    if found.minpack:
        return details | {name: found.minpack[name] for name in ("fjac", "ipvt", "qtf")}
    factors: Any = linalg.qr(found.jacobian, mode="economic", pivoting=True)
    Q, R, order = factors
    fjac = np.zeros(found.jacobian.T.shape)
    fjac[:, : len(R)] = R.T
    return details | {"fjac": fjac, "ipvt": order, "qtf": Q.T @ found.residuals}
