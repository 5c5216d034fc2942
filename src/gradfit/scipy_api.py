"""curve_fit() with SciPy's signature, defaults, returns and exceptions; gradfit's derivatives and solver inside."""

import inspect
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradfit._lazy import linalg, optimize
from gradfit.errors import DataError
from gradfit.model import name_of
from gradfit.scipy_arguments import EPS, Asked, clean, settled, starting
from gradfit.scipy_function import Differences, Observed, Supplied, beside, observed, remembering, traced
from gradfit.solve.factor import factorise
from gradfit.solve.lm import LM, Box, minimise
from gradfit.solve.outcome import Outcome
from gradfit.solve.problem import ModelProblem
from gradfit.solve.separable import closed_form

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
    bounds: object = (-np.inf, np.inf),
    method: str | None = None,
    jac: Function | str | None = None,
    *,
    full_output: bool = False,
    nan_policy: str | None = None,
    **settings: object,
) -> tuple[Any, ...]:
    """Return (popt, pcov) of a least-squares fit of f(x, *parameters), as scipy.optimize.curve_fit does.

    A function of NumPy calls is traced once and has exact derivatives from then on; the trace is compared with f on the
    data in every call, at the start, beside it and at the end, so that it never changes the answer. Other functions
    are differentiated by differences whose steps fit the function. Everything is computed in float64.

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
        Decides which settings are known, as in SciPy; gradfit's Levenberg-Marquardt runs in every case, with the bounds.
    jac : callable or str, optional
        jac(x, a, b, ...) -> (M, N). SciPy's names of difference schemes are accepted and not needed.
    full_output : bool
        Whether to return (popt, pcov, infodict, mesg, ier).
    nan_policy : {"raise", "omit"}, optional
        What happens to missing values in xdata and ydata.
    **settings
        Of scipy.optimize.leastsq for "lm", of scipy.optimize.least_squares else. Tolerances are met: the fit goes on to
        rounding. `maxfev`, `max_nfev`, `loss`, `f_scale` and `callback` mean what they mean there; with `epsfcn` or
        `diff_step` f is differentiated by differences of that relative step. `x_scale`, `factor`, `diag` and the like
        are not needed.

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
    start, lower, upper = starting(f, p0, bounds)
    bounded = bool((lower > -np.inf).any() or (upper < np.inf).any())
    x, y, errors = clean(xdata, ydata, sigma, check_finite=check_finite, nan_policy=nan_policy)
    asked = settled(method, jac, settings, len(start), bounded=bounded)
    if asked.method == "lm" and y.size != 1 and len(start) > y.size:
        raise TypeError(
            f"The number of func parameters={len(start)} must not exceed the number of data points={y.size}"
        )
    if absolute_sigma and sigma is None:
        warnings.warn(
            "absolute_sigma=True without sigma takes the error of every point to be 1", stacklevel=2
        )
    with np.errstate(
        all="ignore"
    ):  # a step into overflow is refused; no warning from inside is the caller's business
        seen = observed(f, x, y, errors, start=start)
        found = _fitted(seen, start, (lower, upper), asked)
        pcov = _covariance(found, seen, asked, absolute=absolute_sigma)
    if not np.isfinite(pcov).all():
        warnings.warn(
            "Covariance of the parameters could not be estimated", optimize.OptimizeWarning, stacklevel=2
        )
    if not full_output:
        return found.parameters, pcov
    return found.parameters, pcov, _details(found, asked), found.message, found.ier


# ---------------------------------------------------------------------------- solving


@dataclass(frozen=True, eq=False)
class _Found:
    """Where a fit ended.

    Attributes
    ----------
    parameters : (k,)
        popt.
    residuals : (m,)
        Weighted, there.
    cost : float
        What was made small: their sum of squares, or of the loss.
    jacobian : (m, k) or (k, k)
        Of the residuals, or the R of its QR factors, for the covariance.
    minpack : mapping
        fjac, ipvt and qtf, where MINPACK ran.
    """

    parameters: Array
    residuals: Array
    cost: float
    jacobian: Array
    evaluations: int
    message: str
    ier: int
    minpack: Mapping[str, Array]


def _fitted(seen: Observed, start: Array, bounds: tuple[Array, Array], asked: Asked) -> _Found:
    """Return the minimum, found with exact derivatives where the function can be traced.

    Raises
    ------
    RuntimeError
        With "lm", if the function is not finite at the start.
    DataError
        With the other methods.
    """
    if not np.isfinite(seen.first - seen.y).all():
        _refuse(seen, start, asked)
    trace = traced(seen, start, beside(start, *bounds)) if asked.jac is None and asked.step is None else None
    if trace is not None:
        problem = ModelProblem(trace.kernel, trace.columns, seen.y, seen.weight, start)
        found = _solved(problem, start, bounds, asked, linear=len(trace.kernel.graph.linear) == len(start))
        if trace.agrees(seen, found.parameters, seen.value(found.parameters)):
            return found
    kernel, calls = _untraced(seen, start, bounds, asked)
    problem = ModelProblem(kernel, [seen.y], seen.y, seen.weight, start)
    return _solved(problem, start, bounds, asked, calls=calls)


def _untraced(
    seen: Observed, start: Array, bounds: tuple[Array, Array], asked: Asked
) -> tuple[Supplied | Differences, int]:
    """Return the function with derivatives from the caller or by differences, and how many calls MINPACK would count.

    Autograd on whole columns was measured, too: forward mode takes 720 µs for the Jacobian of two parameters and 50
    points, as long as three whole fits by SciPy, and these differences agree with it to 1e-9.
    """
    value = remembering(seen.value, start, seen.first)
    jac = asked.jac
    if jac is not None:
        return Supplied(value, remembering(lambda p: jac(seen.x, *p))), 1
    return Differences(value, *bounds, seen.precision, asked.step), 1 + len(start)


def _solved(
    problem: ModelProblem,
    start: Array,
    bounds: tuple[Array, Array],
    asked: Asked,
    *,
    calls: int = 1,
    linear: bool = False,
) -> _Found:
    """Return the minimum that a solver reaches from the start.

    Raises
    ------
    RuntimeError
        If derivatives are not finite.
    """
    plain = not asked.loss.robust and Box.around(bounds) is None
    if linear and plain:
        found = _of(problem, closed_form(problem, start), asked)
    elif asked.method == "lm":
        found = _refined(problem, _by_minpack(problem, start, asked, calls))
    else:
        found = _by_gradfit(problem, start, bounds, asked)
    if not (np.isfinite(found.cost) and np.isfinite(found.jacobian).all()):
        raise RuntimeError("Optimal parameters not found: f has no finite derivatives on the way from p0")
    return found


def _by_minpack(problem: ModelProblem, start: Array, asked: Asked, calls: int) -> _Found:
    """Return where MINPACK's walk ends, as SciPy's does: in the same valley, by the same rules, with better derivatives.

    gradfit's own walk may end in another minimum, which a stand-in for SciPy must not; and SciPy's tests compare pcov with
    that of MINPACK's last Jacobian to 2e-7, while its fit stops 1.6e-6 away from the minimum.

    Raises
    ------
    RuntimeError
        If it does not end at a minimum.
    """
    residual = remembering(problem.residual)
    slopes = remembering(lambda p: problem.residual_jacobian(p)[1])
    most = max(asked.limit // calls, 1)
    p, _, info, message, ier = optimize.leastsq(
        residual, start, Dfun=slopes, full_output=True, maxfev=most, **asked.minpack
    )
    if ier == 5:
        raise RuntimeError(asked.exhausted)
    if ier not in _ENDS:
        raise RuntimeError(f"Optimal parameters not found: {message}")
    k = len(p)
    R = np.empty((k, k))
    R[:, info["ipvt"]] = np.triu(info["fjac"].T[:k])
    r = info["fvec"]
    return _Found(p, r, float(r @ r), R, calls * info["nfev"], message, _ENDS[ier], info)


#: MINPACK's reasons to end; 6 to 8 are tolerances below rounding, which is where the fit goes anyway
_ENDS = {1: 1, 2: 2, 3: 3, 4: 4, 6: 1, 7: 2, 8: 4}


def _refined(problem: ModelProblem, found: _Found) -> _Found:
    """Return the fit after one undamped step: from a part in 1e8 to rounding, where it was almost there."""
    r, J = problem.residual_jacobian(found.parameters)
    if not np.isfinite(r).all() or not np.isfinite(J).all():
        return found
    p = found.parameters + factorise(J, r).newton_step()
    r = problem.residual(p)
    cost = float(r @ r)
    if not cost <= found.cost * (1 + 1e-12):
        return found
    return replace(found, parameters=p, residuals=r, cost=cost, evaluations=found.evaluations + 1)


def _by_gradfit(problem: ModelProblem, start: Array, bounds: tuple[Array, Array], asked: Asked) -> _Found:
    """Return where gradfit's Levenberg-Marquardt ends, inside the bounds.

    Raises
    ------
    RuntimeError
        If the limit is reached first.
    KeyboardInterrupt
        As SciPy's fit does, which has nothing to return either.
    """
    settings = LM(max_iterations=asked.limit)
    outcome = minimise(problem, start, bounds=bounds, loss=asked.loss, settings=settings, watch=_watch(asked))
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    if outcome.status == "max-iterations":
        raise RuntimeError(asked.exhausted)
    return _of(problem, outcome, asked)


def _of(problem: ModelProblem, outcome: Outcome, asked: Asked) -> _Found:
    r, J = outcome.end if outcome.end is not None else problem.residual_jacobian(outcome.parameters)
    if asked.method == "lm":
        message = f"Both actual and predicted relative reductions in the sum of squares\n  are at most {asked.ftol:f}"
        ier = 1
    else:
        ier = 2 if outcome.converged else 3
        message = f"`{'ftol' if ier == 2 else 'xtol'}` termination condition is satisfied."
    return _Found(outcome.parameters, r, outcome.loss, J, outcome.evaluations, message, ier, {})


def _watch(asked: Asked) -> Callable[[int, float, Array], bool]:
    """Return what ends a fit that exceeds its limit, or whose callback says so.

    Raises
    ------
    RuntimeError
        In either case.
    """
    callback = asked.callback
    whole = callback is not None and list(inspect.signature(callback).parameters) == ["intermediate_result"]

    def stopped(done: int, cost: float, parameters: Array) -> bool:
        if callback is None:
            return False
        try:
            if whole:
                state = optimize.OptimizeResult(x=parameters.copy(), cost=cost / 2, nit=done)
                return bool(callback(intermediate_result=state))
            return bool(callback(parameters.copy()))
        except StopIteration:
            return True

    def watch(done: int, cost: float, parameters: Array) -> bool:
        if done >= asked.limit:
            raise RuntimeError(asked.exhausted)
        if stopped(done, cost, parameters):
            raise RuntimeError(
                "Optimal parameters not found: Stopped because `callback` function raised `StopIteration` or returned `True`"
            )
        return False

    return watch


def _refuse(seen: Observed, start: Array, asked: Asked) -> NoReturn:
    """Say whether the data or the function are not finite, and where.

    Raises
    ------
    RuntimeError
        With "lm", which in SciPy returns the start as the answer.
    DataError
        With the other methods.
    """
    bad = np.flatnonzero(~np.isfinite(seen.first))
    what, remedy = f"{name_of(seen.f)} at p0 = {start.tolist()}", "Give other start values"
    if not len(bad):
        bad = np.flatnonzero(~np.isfinite(seen.y))
        what, remedy = "ydata", 'nan_policy="omit" leaves out rows with NaN'
    where = f"{what} is not finite in {len(bad)} of {len(seen.y)} rows, first in row {bad[0] + 1}"
    if asked.method == "lm":
        raise RuntimeError(f"Optimal parameters not found: {where}. {remedy}")
    raise DataError(f"Residuals are not finite in the initial point. {where}", remedy=remedy)


# ---------------------------------------------------------------------------- what comes back


def _covariance(found: _Found, seen: Observed, asked: Asked, *, absolute: bool) -> Array:
    """Return SciPy's pcov (k, k), infinite where it is not known.

    References
    ----------
    .. [1] Golub & Van Loan, Matrix Computations, 4th ed., sec. 5.5: SVD of scaled columns, not an inverted J.T @ J.
    """
    jacobian = found.jacobian
    if asked.loss.robust:  # the Gauss-Newton matrix of the loss, as in least_squares
        jacobian = jacobian * np.sqrt(np.maximum(asked.loss.curvature(found.residuals)[1], EPS))[:, None]
    n, k = len(seen.y), len(found.parameters)
    factor = factorise(jacobian, jacobian[:, 0])
    if factor.rank() == k:
        half = (factor.vt.T / factor.s) / factor.norm[:, None]
        pcov = half @ half.T
    elif asked.method == "lm":
        return np.full((k, k), np.inf)
    else:  # SciPy's choice for the other methods: the Moore-Penrose inverse
        _, s, vt = np.linalg.svd(jacobian, full_matrices=False)
        kept = s > EPS * max(n, k) * s[0]
        pcov = (vt[kept].T / s[kept] ** 2) @ vt[kept]
    if not absolute:
        pcov = pcov * (found.cost / (n - k)) if n > k else np.full((k, k), np.inf)
    return pcov if np.isfinite(pcov).all() else np.full((k, k), np.inf)


def _details(found: _Found, asked: Asked) -> dict[str, object]:
    """Return SciPy's infodict: evaluations and residuals, and with "lm" the factors of the Jacobian."""
    details: dict[str, object] = {"fvec": found.residuals, "nfev": found.evaluations}
    if asked.method != "lm":
        return details
    if found.minpack:
        return details | {name: found.minpack[name] for name in ("fjac", "ipvt", "qtf")}
    Q, R, order = linalg.qr(found.jacobian, mode="economic", pivoting=True)
    fjac = np.zeros(found.jacobian.T.shape)
    fjac[:, : len(R)] = R.T
    return details | {"fjac": fjac, "ipvt": order, "qtf": Q.T @ found.residuals}
