"""From the function on its data to the minimum: MINPACK's walk and a little further, or gradfit's inside bounds."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import optimize
from gradfit.errors import DataError
from gradfit.kernel import NumpyKernel
from gradfit.model import name_of
from gradfit.scipy_arguments import EPS, Asked
from gradfit.scipy_function import Differences, Observed, Supplied, remembering, traced
from gradfit.solve.factor import Factor, factorise
from gradfit.solve.lm import LM, Box, minimise
from gradfit.solve.outcome import Outcome
from gradfit.solve.problem import ModelProblem
from gradfit.solve.separable import WELL, closed_form

Array = NDArray[np.float64]
OfParameters = Callable[[Array], Array]

#: MINPACK's reasons to end; 6 to 8 are tolerances below rounding, which is where the fit goes anyway
_ENDS = {1: 1, 2: 2, 3: 3, 4: 4, 6: 1, 7: 2, 8: 4}


@dataclass(frozen=True, eq=False)
class Found:
    """Where a fit ended.

    Attributes
    ----------
    parameters : (k,)
        popt.
    residuals : (m,)
        Weighted, there.
    cost : float
        What was made small: their sum of squares, or of the loss.
    jacobian : (m, k)
        Of the residuals.
    inverse : (k, k) or None
        (JᵀJ)⁻¹; None where it does not exist.
    ier : int
        SciPy's number for the reason to end.
    minpack : mapping
        fjac, ipvt and qtf, where MINPACK ran.
    """

    parameters: Array
    residuals: Array
    cost: float
    jacobian: Array
    inverse: Array | None
    evaluations: int
    ier: int
    minpack: Mapping[str, Array] = field(default_factory=dict)


def fitted(seen: Observed, start: Array, box: Box | None, asked: Asked) -> Found:
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
    trace = traced(seen, start, box) if asked.jac is None and asked.step is None else None
    if trace is not None:
        problem = ModelProblem(trace.kernel, trace.columns, seen.y, seen.weight, start)
        found = _solved(problem, start, box, asked, linear=len(trace.kernel.graph.linear) == len(start))
        if trace.agrees(seen, found.parameters, seen.value(found.parameters)):
            return found
    problem = ModelProblem(_untraced(seen, start, box, asked), [seen.y], seen.y, seen.weight, start)
    return _solved(problem, start, box, asked)


def _untraced(seen: Observed, start: Array, box: Box | None, asked: Asked) -> Supplied | Differences:
    """Return the function with derivatives from the caller, or by differences.

    Autograd on whole columns was measured, too: forward mode takes 720 µs for the Jacobian of two parameters and 50
    points, as long as three whole fits by SciPy, and these differences agree with it to 1e-9.
    """
    value = remembering(seen.value, start, seen.first)
    jac = asked.jac
    if jac is not None:
        return Supplied(value, remembering(lambda p: jac(seen.x, *p)))
    return Differences(
        value,
        box or Box(np.full_like(start, -np.inf), np.full_like(start, np.inf)),
        seen.precision,
        asked.step,
    )


def _solved(
    problem: ModelProblem, start: Array, box: Box | None, asked: Asked, *, linear: bool = False
) -> Found:
    """Return the minimum that a solver reaches from the start.

    Raises
    ------
    RuntimeError
        If derivatives are not finite, or the sum of squares is not.
    """
    if linear and box is None and not asked.loss.robust:
        found = _by_one_solve(problem, start, asked)
    elif asked.method == "lm":
        found = _by_minpack(problem, start, asked)
    else:
        found = _by_gradfit(problem, start, box, asked)
    if not np.isfinite(found.jacobian).all():
        raise RuntimeError("Optimal parameters not found: f has no finite derivatives on the way from p0")
    if not np.isfinite(found.cost):
        raise RuntimeError(
            "Optimal parameters not found: the sum of squares overflows; divide ydata by a power of 10"
        )
    return found


def _by_one_solve(problem: ModelProblem, start: Array, asked: Asked) -> Found:
    """Return the minimum of a function that is linear in every parameter."""
    r, J = problem.residual_jacobian(start)
    ier = 1 if asked.method == "lm" else 2
    factor = factorise(J, r) if np.isfinite(r).all() else None
    if factor is None or factor.s[-1] < WELL * factor.s[0]:
        outcome = closed_form(problem, start)
        r, J = outcome.end or (r, J)
        return Found(outcome.parameters, r, outcome.loss, J, _inverse(J), outcome.evaluations, ier)
    h = factor.newton_step()
    r = r + J @ h
    return Found(start + h, r, float(r @ r), J, _inverse(J, factor), 1, ier)


def _by_minpack(problem: ModelProblem, start: Array, asked: Asked) -> Found:
    """Return where MINPACK's walk ends, as SciPy's does, and a little further.

    By the same rules it ends in the same valley; gradfit's own walk may end in another, which a stand-in for SciPy must
    not. Without exact derivatives MINPACK makes its own differences, which call the function least. Where it stopped on
    the way (deceived by its differences when f computes in float32, by its tolerance when a parameter is about 1e9),
    gradfit's walk goes on from there.
    """
    model = problem.model
    residual, slopes = _together(problem) if isinstance(model, NumpyKernel) else _separately(problem)
    if not isinstance(model, Differences):
        found = _walked(residual, slopes, start, asked, own=False)
        found, left = _further(found, residual, slopes, goal=1e-14)
        return found if left <= 1e-13 else _onward(problem, found, asked)
    if asked.step is not None:
        return _walked(residual, slopes, start, asked, own=True)
    if model.precision > EPS:
        return _by_gradfit(problem, start, None, asked)
    found, left = _further(_walked(residual, slopes, start, asked, own=True), residual, slopes, goal=1e-12)
    return found if left <= 1e-6 else _onward(problem, found, asked)


def _onward(problem: ModelProblem, found: Found, asked: Asked) -> Found:
    """Return where gradfit's walk goes from a place where MINPACK's ended.

    Raises
    ------
    KeyboardInterrupt
        As SciPy's fit does, which has nothing to return either.
    """
    outcome = minimise(problem, found.parameters)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    return _ended(problem, outcome, asked) if outcome.loss < found.cost else found


def _walked(residual: OfParameters, slopes: OfParameters, start: Array, asked: Asked, *, own: bool) -> Found:
    """Return where MINPACK ends, with its own differences or with the Jacobian.

    Raises
    ------
    RuntimeError
        If it does not end at a minimum.
    """
    derivatives: dict[str, Any] = {"epsfcn": asked.step and asked.step**2} if own else {"Dfun": slopes}
    end: Any = optimize.leastsq(
        residual, start, full_output=True, maxfev=asked.limit, **derivatives, **asked.minpack
    )
    p, inverse, info, message, reason = end
    if reason == 5:
        raise RuntimeError(asked.exhausted)
    if reason not in _ENDS:
        raise RuntimeError(f"Optimal parameters not found: {message}")
    r, J = residual(p), slopes(p)
    if not _inverts(inverse, J):
        inverse = _inverse(J)
    return Found(p, r, float(r @ r), J, inverse, info["nfev"], _ENDS[reason], info)


def _inverts(inverse: Array | None, J: Array) -> bool:
    """Return whether MINPACK's (JᵀJ)⁻¹, which is that of its last step but one, is right to 5e-6 at the end.

    It saves a factorisation. SciPy's tests compare pcov with MINPACK's to 2e-7 in a case where it is wrong by 4e-6 on
    this measure: no sharper one will do.
    """
    if inverse is None:
        return False
    error = np.sqrt(inverse.diagonal())
    unit = J * error
    product = (inverse / error / error[:, None]) @ (unit.T @ unit)
    return bool(np.abs(product - np.eye(len(error))).max() <= 5e-6)


def _further(found: Found, residual: OfParameters, slopes: OfParameters, goal: float) -> tuple[Found, float]:
    """Return the fit some undamped steps further, and the share of the cost that the last of them promised to remove.

    MINPACK stops at a part in 1e8 of the cost, this near rounding.
    """
    p, r, J, cost, inverse = found.parameters, found.residuals, found.jacobian, found.cost, found.inverse
    if inverse is None or not cost > 0:
        return found, 0.0
    promise = np.inf
    for turn in range(30):
        J = slopes(p) if turn else J
        slope = J.T @ r
        h = inverse @ slope
        before, promise = promise, float(slope @ h) / cost
        if not promise < 0.5 * before:
            break
        if promise <= goal:  # so near that residuals follow the tangent
            p, r = p - h, r - J @ h
            break
        moved = residual(p - h)
        if not float(moved @ moved) <= cost * (1 + 1e-13):
            break
        p, r, cost = p - h, moved, float(moved @ moved)
    if J is not found.jacobian and not _inverts(inverse, J):
        inverse = _inverse(J)
    return replace(found, parameters=p, residuals=r, cost=float(r @ r), jacobian=J, inverse=inverse), promise


def _separately(problem: ModelProblem) -> tuple[OfParameters, OfParameters]:
    """Return residuals and Jacobian as functions; derivatives that cost calls are had only where MINPACK wants them."""
    return remembering(problem.residual), remembering(lambda p: problem.residual_jacobian(p)[1])


def _together(problem: ModelProblem) -> tuple[OfParameters, OfParameters]:
    """Return residuals and Jacobian as functions; a trace gives both for little more than one of them."""
    both = remembering(problem.residual_jacobian)
    return lambda p: both(p)[0], lambda p: both(p)[1]


def _by_gradfit(problem: ModelProblem, start: Array, box: Box | None, asked: Asked) -> Found:
    """Return where gradfit's Levenberg-Marquardt ends, inside the bounds.

    Raises
    ------
    RuntimeError
        If the limit is reached first.
    KeyboardInterrupt
        As SciPy's fit does, which has nothing to return either.
    """
    settings = LM(max_iterations=asked.limit)
    outcome = minimise(problem, start, bounds=box, loss=asked.loss, settings=settings, watch=_watch(asked))
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    if outcome.status == "max-iterations":
        raise RuntimeError(asked.exhausted)
    return _ended(problem, outcome, asked)


def _ended(problem: ModelProblem, outcome: Outcome, asked: Asked) -> Found:
    r, J = outcome.end or problem.residual_jacobian(outcome.parameters)
    if asked.loss.robust:  # the Gauss-Newton matrix of the loss, as in least_squares
        J = J * np.sqrt(np.maximum(asked.loss.curvature(r)[1], EPS))[:, None]
    ier = 2 if outcome.converged else 3
    return Found(outcome.parameters, r, outcome.loss, J, _inverse(J), outcome.evaluations, ier)


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


def _inverse(J: Array, factor: Factor | None = None) -> Array | None:
    """Return (JᵀJ)⁻¹ (k, k), None where it does not exist.

    References
    ----------
    .. [1] Golub & Van Loan, Matrix Computations, 4th ed., sec. 5.5: SVD of scaled columns, not an inverted J.T @ J.
    """
    if not np.isfinite(J).all():
        return None
    factor = factor or factorise(J, J[:, 0])
    if factor.rank() < J.shape[1]:
        return None
    half = (factor.vt.T / factor.s) / factor.norm[:, None]
    return half @ half.T


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
