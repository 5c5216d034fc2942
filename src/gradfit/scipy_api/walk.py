"""From the function on its data to the minimum: SciPy's walk, with exact derivatives, and gradfit's to rounding."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import optimize
from gradfit.errors import DataError
from gradfit.kernel import NumpyKernel
from gradfit.loss import Loss
from gradfit.model import name_of
from gradfit.scipy_api.arguments import EPS, Asked
from gradfit.scipy_api.function import Differences, Observed, Supplied, remembering, traced
from gradfit.solve.factor import Factor, factorise
from gradfit.solve.lm import LM, Box, minimise
from gradfit.solve.problem import ModelProblem
from gradfit.solve.quick import FTOL, as_minpack
from gradfit.solve.separable import WELL, closed_form

Array = NDArray[np.float64]
OfParameters = Callable[[Array], Array]

#: MINPACK's reasons to end; 6 to 8 are tolerances below rounding, which is where the fit goes anyway
_ENDS = {1: 1, 2: 2, 3: 3, 4: 4, 6: 1, 7: 2, 8: 4}
_LEVEL = f"actual and predicted relative reductions in the sum of squares\n  are at most {FTOL:f}"
_SHORT = f"the relative error between two consecutive iterates is at \n  most {FTOL:f}"
_SENTENCES = {1: f"Both {_LEVEL}", 2: f"T{_SHORT[1:]}", 3: f"Both {_LEVEL} and {_SHORT}"}
_GOAL = 1e-20  # share of the cost that a last step may promise: the parameters are then right to 1e-10 standard errors
_BESIDE = 5  # as long as evaluations of so many rows take MINPACK's own copies and factors of one


@dataclass(frozen=True, eq=False)
class Found:
    """Where a fit ended.

    Attributes
    ----------
    parameters : (k,)
        popt.
    at_end : callable
        Returns residuals (m,), weighted, and their Jacobian (m, k) there.
    rows : int
        m.
    cost : float
        What was made small: the sum of squares of residuals, or of the loss.
    inverse : (k, k) or None
        (JᵀJ)⁻¹; None where it does not exist.
    ier : int
        SciPy's number for the reason to end.
    message : str
        SciPy's sentence for it.
    minpack : mapping
        fjac, ipvt and qtf, where MINPACK ran.
    """

    parameters: Array
    at_end: Callable[[], tuple[Array, Array]]
    rows: int
    cost: float
    inverse: Array | None
    evaluations: int
    ier: int
    message: str
    minpack: Mapping[str, Array] = field(default_factory=dict)

    @cached_property
    def residuals(self) -> Array:
        """Weighted residuals (m,)."""
        return self.at_end()[0]

    @cached_property
    def jacobian(self) -> Array:
        """Of the residuals (m, k)."""
        return self.at_end()[1]


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
        problem = ModelProblem(trace.kernel, trace.columns, seen.y, seen.weight, start, small=trace.small)
        found = _compiled(problem, start, asked)
        if found is None:
            found = _solved(problem, start, box, asked)
            trace.small.worked(found.evaluations, _BESIDE * len(seen.y))
        if found.inverse is None:
            found = _off_the_saddle(problem, start, box, asked, found=found)
        if trace.agrees(seen, found.parameters, seen.value(found.parameters)):
            return found
    problem = ModelProblem(_untraced(seen, start, box, asked), [seen.y], seen.y, seen.weight, start)
    return _solved(problem, start, box, asked)


def _off_the_saddle(
    problem: ModelProblem, start: Array, box: Box | None, asked: Asked, *, found: Found
) -> Found:
    """Return a better minimum, where there is one a little off the start.

    Two terms that start alike (a*exp(-b*x) + c*exp(-d*x) from ones) have equal derivatives for ever, when those are
    exact: the fit ends on a saddle. SciPy is saved by the errors of its differences.
    """
    k = len(start)
    nudge = 0.1 * np.where(start == 0, 1.0, start) * np.cos(np.arange(k))  # no two alike; 0.01 leads back
    aside = start + nudge if box is None else np.clip(start + nudge, box.lower, box.upper)
    try:
        other = _solved(problem, aside, box, asked)
    except RuntimeError:  # from there it leads nowhere: the first answer stands
        return found
    return other if other.cost < found.cost * (1 - 1e-9) else found


def _untraced(seen: Observed, start: Array, box: Box | None, asked: Asked) -> Supplied | Differences:
    """Return the function with derivatives from the caller, or by differences.

    Autograd on whole columns was measured, too: forward mode takes 720 µs for the Jacobian of two parameters and 50
    points, as long as three whole fits by SciPy, and these differences agree with it to 1e-9.
    """
    value = remembering(seen.value, start, seen.first)
    jac = asked.jac
    if jac is not None:
        return Supplied(value, remembering(lambda p: jac(seen.x, *p)))
    box = box or Box(np.full_like(start, -np.inf), np.full_like(start, np.inf))
    return Differences(value, box, seen.precision, asked.step)


# ---------------------------------------------------------------------------- walks


def _compiled(problem: ModelProblem, start: Array, asked: Asked) -> Found | None:
    """Return where MINPACK's walk ends, as one call of machine code; None where that is not worth it yet, or not enough."""
    small, n = problem.small, len(problem.y)
    usual = asked.method == "lm" and asked.plain and not asked.settings
    if not usual or n < len(start) or small is None or not small.earned(_BESIDE * n):
        return None
    ended = as_minpack(problem, start)
    if ended is None:
        return None
    end, inverse = ended
    p, reason = end.parameters, end.reason or 1
    return Found(
        p,
        lambda: problem.residual_jacobian(p),
        n,
        end.cost,
        inverse,
        end.evaluations,
        reason,
        _SENTENCES[reason],
    )


def _solved(problem: ModelProblem, start: Array, box: Box | None, asked: Asked) -> Found:
    """Return the minimum that is reached from the start.

    The walk is SciPy's, so that it ends in the same valley by the same rules: in bounded fits from random starts gradfit's
    own ended higher in 2 to 25 % of them, depending on the model. It is SciPy's differences, too, where there are no
    better derivatives, since they call the function least. From where it ends gradfit's steps go on to rounding.

    Raises
    ------
    RuntimeError
        If there is no end, derivatives are not finite, or the sum of squares is not.
    """
    model = problem.model
    if isinstance(model, NumpyKernel) and asked.method == "lm" and len(model.graph.linear) == len(start):
        found = _by_one_solve(problem, start, asked)
    elif isinstance(model, Differences) and model.precision > EPS and asked.loss is not None:
        found = _onward(problem, start, box, asked)  # SciPy's differences drown in the rounding of float32
    else:
        found = _walked(problem, start, box, asked)
    if not np.isfinite(found.jacobian).all():
        raise RuntimeError("Optimal parameters not found: f has no finite derivatives on the way from p0")
    if not np.isfinite(found.cost):
        raise RuntimeError(
            "Optimal parameters not found: the sum of squares overflows; divide ydata by a power of 10"
        )
    return found


def _walked(problem: ModelProblem, start: Array, box: Box | None, asked: Asked) -> Found:
    model = problem.model
    residual, slopes = _together(problem) if isinstance(model, NumpyKernel) else _separately(problem)
    own = isinstance(model, Differences)
    if asked.method == "lm":
        found = _by_minpack(residual, slopes, start, asked, own=own)
    else:
        found = _by_least_squares(residual, slopes, start, asked, box=box, own=own)
    if asked.loss is None or (own and asked.step is not None):
        return found
    if not asked.plain:
        return _onward(problem, found.parameters, box, asked, found=found)
    nearer, left = _further(found, residual, slopes, box=box, goal=1e-12 if own else _GOAL)
    if left <= (1e-6 if own else 1e-13):
        return nearer
    return _onward(problem, nearer.parameters, box, asked, found=nearer)


def _by_minpack(
    residual: OfParameters, slopes: OfParameters, start: Array, asked: Asked, *, own: bool
) -> Found:
    """Return where MINPACK ends, with its own differences or with the Jacobian.

    Raises
    ------
    RuntimeError
        If it does not end at a minimum.
    """
    derivatives: dict[str, Any] = {"epsfcn": asked.step and asked.step**2} if own else {"Dfun": slopes}
    settings = dict(asked.settings)
    settings["maxfev"] = settings.get("maxfev") or (200 if asked.jac is None else 100) * (len(start) + 1)
    end: Any = optimize.leastsq(residual, start, full_output=True, **derivatives, **settings)
    p, inverse, info, message, reason = end
    if reason not in _ENDS:
        raise RuntimeError(f"Optimal parameters not found: {message}")
    r, J = residual(p), slopes(p)
    if not _inverts(inverse, J):
        inverse = _inverse(J)
    cost = float(r @ r)
    return Found(p, lambda: (r, J), len(r), cost, inverse, info["nfev"], _ENDS[reason], message, info)


def _by_least_squares(
    residual: OfParameters, slopes: OfParameters, start: Array, asked: Asked, *, box: Box | None, own: bool
) -> Found:
    """Return where SciPy's trust region ends, with its own differences or with the Jacobian.

    Raises
    ------
    RuntimeError
        If it does not end at a minimum.
    """
    jac: Any = asked.scheme if own else slopes
    end: Any = optimize.least_squares(
        residual, start, jac=jac, bounds=box or (-np.inf, np.inf), method=asked.method,
        **asked.settings,
    )  # fmt: skip
    if not end.success:
        raise RuntimeError(f"Optimal parameters not found: {end.message}")
    J = slopes(end.x) if asked.plain else np.asarray(end.jac)
    r, cost = end.fun, 2 * float(end.cost)
    return Found(end.x, lambda: (r, J), len(r), cost, _inverse(J), end.nfev, end.status, end.message)


def _onward(
    problem: ModelProblem, start: Array, box: Box | None, asked: Asked, *, found: Found | None = None
) -> Found:
    """Return where gradfit's walk goes from a place, if that is lower than what was found.

    Raises
    ------
    KeyboardInterrupt
        As SciPy's fit does, which has nothing to return either.
    """
    settings = LM() if found is None else LM(max_iterations=100)
    outcome = minimise(problem, start, bounds=box, loss=asked.loss or Loss(), settings=settings)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    if found is not None and not outcome.loss <= found.cost:
        return found
    r, J = outcome.end or problem.residual_jacobian(outcome.parameters)
    if not asked.plain and asked.loss is not None:  # the Gauss-Newton matrix of the loss, as in least_squares
        J = J * np.sqrt(np.maximum(asked.loss.curvature(r)[1], EPS))[:, None]
    if found is None:
        message = "`ftol` termination condition is satisfied."
        found = Found(start, lambda: (r, J), len(r), np.inf, None, 0, 2, message)
    evaluations = found.evaluations + outcome.evaluations
    return replace(
        found, parameters=outcome.parameters, at_end=lambda: (r, J), cost=outcome.loss, inverse=_inverse(J),
        evaluations=evaluations,
    )  # fmt: skip


def _by_one_solve(problem: ModelProblem, start: Array, asked: Asked) -> Found:
    """Return the minimum of a function that is linear in every parameter: one orthogonal solve."""
    r, J = problem.residual_jacobian(start)
    message = f"Both actual and predicted relative reductions in the sum of squares\n  are at most {asked.settings.get('ftol', 1.49012e-8):f}"
    factor = factorise(J, r) if np.isfinite(r).all() else None
    if factor is None or factor.s[-1] < WELL * factor.s[0]:
        outcome = closed_form(problem, start)
        r, J = outcome.end or (r, J)
        evaluations = outcome.evaluations
        return Found(
            outcome.parameters, lambda: (r, J), len(r), outcome.loss, _inverse(J), evaluations, 1, message
        )
    h = factor.newton_step()
    r = r + J @ h
    return Found(start + h, lambda: (r, J), len(r), float(r @ r), _inverse(J, factor), 1, 1, message)


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


def _further(
    found: Found, residual: OfParameters, slopes: OfParameters, *, box: Box | None, goal: float
) -> tuple[Found, float]:
    """Return the fit some undamped steps further, and the share of the cost that the last of them promised to remove.

    SciPy stops at a part in 1e8 of the cost, this near rounding. Steps end at bounds, with a share of infinity.
    """
    p, r, J, cost, inverse = found.parameters, found.residuals, found.jacobian, found.cost, found.inverse
    if inverse is None or cost == 0:
        return found, 0.0
    size = J @ p
    promise, rounding = np.inf, 1e-26 * float(size @ size)
    for turn in range(30):
        J = slopes(p) if turn else J
        slope = J.T @ r
        h = inverse @ slope
        before, promise = promise, float(slope @ h / cost)
        if _leaves(p - h, box):
            return found, np.inf
        if not promise < 0.5 * before:
            break
        if promise <= goal:  # so near that residuals follow the tangent
            p, r = p - h, r - J @ h
            break
        moved = residual(p - h)
        after = float(moved @ moved)
        if not after <= cost * (1 + 1e-13):
            break
        p, r, cost = p - h, moved, after
    if J is not found.jacobian and not _inverts(inverse, J):
        inverse = _inverse(J)
    found = replace(found, parameters=p, at_end=lambda: (r, J), cost=float(r @ r), inverse=inverse)
    return found, 0.0 if found.cost <= rounding else promise


def _leaves(p: Array, box: Box | None) -> bool:
    return box is not None and bool((p <= box.lower).any() or (p >= box.upper).any())


def _separately(problem: ModelProblem) -> tuple[OfParameters, OfParameters]:
    """Return residuals and Jacobian as functions; derivatives that cost calls are had only where MINPACK wants them."""
    return remembering(problem.residual), remembering(lambda p: problem.residual_jacobian(p)[1])


def _together(problem: ModelProblem) -> tuple[OfParameters, OfParameters]:
    """Return residuals and Jacobian as functions; a trace gives both for little more than one of them."""
    both = remembering(problem.residual_jacobian)
    return lambda p: both(p)[0], lambda p: both(p)[1]


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
