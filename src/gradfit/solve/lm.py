"""Levenberg-Marquardt: damped Gauss-Newton steps from orthogonal factors, inside a box."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.loss import Loss
from gradfit.solve.box import boxed_step
from gradfit.solve.factor import Factor, column_lengths, factorise
from gradfit.solve.outcome import History, Outcome, Status

Array = NDArray[np.float64]
Watch = Callable[[int, float, Array], object]

SQUARED = Loss()


class Problem(Protocol):
    """Residuals f(p) - y, weighted, and their Jacobian, as a function of the free parameters.

    Where the model or a derivative is not finite the residuals are NaN, so that a step there is refused.
    """

    def residual_jacobian(self, parameters: Array) -> tuple[Array, Array]:
        """Return the residuals (n,) and their derivatives (n, k) at parameters (k,)."""
        ...

    def precise_gradient(self, parameters: Array) -> Array | None:
        """Return Jᵀr (k,), summed in a wider format; None where there is none."""
        ...


@dataclass(frozen=True)
class LM:
    """Settings of Levenberg-Marquardt.

    Parameters
    ----------
    max_iterations : int
        Steps at most, refused ones included.
    tolerance : float
        Of the relative change of the cost; below it the last, undamped steps begin, which run until rounding ends them.
    damping : float
        At the start, relative to columns of length 1.
    """

    max_iterations: int = 500
    tolerance: float = 1e-14
    damping: float = 1e-2


@dataclass(frozen=True, slots=True)
class State:
    """A point, what was computed there, and how far the linear model is trusted."""

    p: Array  # (k,) parameters
    r: Array  # (n,) residuals
    J: Array  # (n, k) dr/dp
    cost: float
    factor: Factor
    mu: float  # damping; Nielsen (1999), Damping parameter in Marquardt's method
    nu: float = 2.0  # its growth after a refused step


@dataclass(frozen=True, slots=True)
class Box:
    """Bounds of the free parameters."""

    lower: Array
    upper: Array

    @property
    def open(self) -> bool:
        """Whether there is no bound at all."""
        return bool(np.all(np.isneginf(self.lower)) and np.all(np.isposinf(self.upper)))

    def held(self, p: Array, downhill: Array) -> NDArray[np.bool_]:
        """Return which parameters (k,) sit on a bound that going `downhill` would cross."""
        return ((p <= self.lower) & (downhill < 0)) | ((p >= self.upper) & (downhill > 0))


def init(problem: Problem, p: Array, loss: Loss, damping: float) -> State:
    """Return the state at the start."""
    r, J = problem.residual_jacobian(p)
    return State(p, r, J, loss.cost(r), _factor(loss, r, J, None), damping)


def _factor(loss: Loss, r: Array, J: Array, before: Array | None) -> Factor:
    r, J = loss.linearised(r, J)
    norm = column_lengths(J)
    # Moré (1978), The Levenberg-Marquardt algorithm: scales only grow, so that a column that fades keeps its step short
    return factorise(J, r, norm if before is None else np.maximum(norm, before))


def step(problem: Problem, s: State, loss: Loss, box: Box | None) -> tuple[State, Array, float]:
    """Return the next state, the step that was tried, and the drop of the cost that the linear model promised."""
    h = s.factor.step(s.mu) if box is None else boxed_step(s.factor, s.mu, box.lower - s.p, box.upper - s.p)
    reach = s.factor.reach(h)
    promised = float(-(2 * s.factor.z + reach) @ reach)
    p = s.p + h if box is None else np.clip(s.p + h, box.lower, box.upper)  # the clip undoes rounding, no more
    r, J = problem.residual_jacobian(p)
    cost = loss.cost(r)
    drop = s.cost - cost
    if not (drop > 0 and promised > 0):  # refused, NaN included: trust the linear model less
        return replace(s, mu=s.mu * s.nu, nu=2 * s.nu), h, promised
    gain = drop / promised
    mu = s.mu * max(1 / 3, 1 - (2 * gain - 1) ** 3)
    return State(p, r, J, cost, _factor(loss, r, J, s.factor.norm), max(mu, 1e-15)), h, promised


def minimise(
    problem: Problem,
    start: Array,
    *,
    bounds: tuple[Array, Array] | None = None,
    loss: Loss = SQUARED,
    settings: LM | None = None,
    watch: Watch | None = None,
) -> Outcome:
    """Return the least cost that damped steps from `start` reach, refined until rounding ends the progress.

    Parameters
    ----------
    start : (k,)
        Inside the bounds; the residuals there must be finite.
    bounds : (lower, upper), optional
        Each (k,); infinite where there is none. A step solves the damped linear problem inside the box.
    watch : callable, optional
        Called with (iteration, cost, parameters) after each iteration; a true answer stops the fit.

    References
    ----------
    .. [1] Madsen, Nielsen & Tingleff (2004), Methods for non-linear least squares problems, Alg. 3.16.
    .. [2] Moré (1978), The Levenberg-Marquardt algorithm: implementation and theory.
    """
    settings = settings or LM()
    box = None if bounds is None else Box(*bounds)
    box = None if box is None or box.open else box
    state = init(problem, start, loss, settings.damping)
    points = [_point(0, state, loss)]
    status: Status = "max-iterations"
    done = 0
    try:
        for done in range(1, settings.max_iterations + 1):
            before = state
            state, h, promised = step(problem, state, loss, box)
            if state.p is not before.p:
                points.append(_point(done, state, loss))
            if watch is not None and watch(done, state.cost, state.p):
                status = "interrupted"
                break
            if _settled(before, state, h, promised, settings.tolerance):
                status = "converged"
                break
        if status != "interrupted":
            state, status, extra = polish(problem, state, loss, box, status)
            done += extra
            points.append(_point(done, state, loss))
    except KeyboardInterrupt:
        status = "interrupted"
    return Outcome(state.p, state.cost, status, _sentence(status, done), done, done + 1, History.of(points))


def _point(iteration: int, s: State, loss: Loss) -> tuple[int, float, Array, Array]:
    return iteration, s.cost, 2 * (loss.curvature(s.r)[0] @ s.J), s.p


def _settled(before: State, after: State, h: Array, promised: float, tolerance: float) -> bool:
    if after.cost == 0:
        return True
    small = float(np.linalg.norm(before.factor.norm * h)) <= 1e-15 * float(np.linalg.norm(before.factor.norm * before.p))
    if after.p is before.p:  # refused
        return promised <= 1e-16 * before.cost or small or before.mu > 1e20
    return (promised <= tolerance * before.cost and before.cost - after.cost <= tolerance * before.cost) or small


def polish(
    problem: Problem, s: State, loss: Loss, box: Box | None, status: Status
) -> tuple[State, Status, int]:
    """Return the state after undamped steps that keep shrinking, and whether the point is a minimum.

    The cost is flat to rounding over a square root of eps around its minimum; the length of the Gauss-Newton step is not,
    so the last digits come from it.
    """
    last = np.inf
    done = 0
    s = replace(s, factor=_factor(loss, s.r, s.J, None))  # lengths are compared: one measure for all of them
    for done in range(1, 101):
        h = _free_step(s, box)
        length = _relative(s, h)
        if not length < 0.9 * last or length <= 1e-16:
            done -= 1
            break
        p = s.p + h if box is None else np.clip(s.p + h, box.lower, box.upper)
        r, J = problem.residual_jacobian(p)
        cost = loss.cost(r)
        if not cost <= s.cost * (1 + 1e-9) + 1e-300:
            done -= 1
            break
        s = replace(s, p=p, r=r, J=J, cost=cost, factor=_factor(loss, r, J, None))
        last = length
    if box is None and not loss.robust:
        s = _corrected(problem, s)
    return s, _verdict(s, box, status), done


def _corrected(problem: Problem, s: State) -> State:
    """The digits that rounding of large residuals takes from ill-determined parameters, from a gradient in long double.

    Golub & Van Loan, Matrix Computations, 4th ed., sec. 3.5.3: iterative improvement. NIST's Wampler5, whose parameters
    are 1 with standard errors of 2e7, goes from 5.6 correct digits to 12.
    """
    k = len(s.p)
    if not len(s.r) > k or s.factor.s[-1] < 1e-7 * s.factor.s[0]:
        return s
    spread = np.sqrt(np.sum((s.factor.vt.T / s.factor.s) ** 2, axis=1)) / s.factor.norm
    lost = 1e-16 * np.sqrt(s.cost) * spread
    if not np.any(lost > 1e-10 * np.abs(s.p)):
        return s
    for _ in range(5):
        gradient = problem.precise_gradient(s.p)
        if gradient is None or not np.isfinite(gradient).all():
            return s
        inner = s.factor.vt @ (gradient / s.factor.norm)
        h = -(s.factor.vt.T @ (inner / s.factor.s**2)) / s.factor.norm
        if np.all(np.abs(h) <= 1e-15 * np.abs(s.p)):
            return s
        r, J = problem.residual_jacobian(s.p + h)
        cost = float(r @ r)
        if not cost <= s.cost * (1 + 1e-9):
            return s
        s = replace(s, p=s.p + h, r=r, J=J, cost=cost)
    return s


def _free_step(s: State, box: Box | None) -> Array:
    if box is None:
        return s.factor.newton_step()
    held = box.held(s.p, -(s.factor.norm * (s.factor.vt.T @ (s.factor.s * s.factor.z))))
    if not held.any():
        return s.factor.newton_step()
    h = np.zeros_like(s.p)
    if not held.all():
        free = ~held
        basis = s.factor.s[:, None] * s.factor.vt[:, free]
        h[free] = -np.linalg.lstsq(basis, s.factor.z, rcond=1e-13)[0] / s.factor.norm[free]
    return h


def _relative(s: State, h: Array) -> float:
    """Length of a step where each parameter is measured by what it does to the residuals."""
    whole = float(np.linalg.norm(s.factor.norm * s.p))
    return float(np.linalg.norm(s.factor.norm * h)) / (whole if whole > 0 else 1.0)


def _verdict(s: State, box: Box | None, status: Status) -> Status:
    """Converged is what the numbers say, not which test ended the loop.

    Bates & Watts (1981), A relative offset orthogonality convergence criterion: the part of the residuals that a step
    could still remove, over the part that it can not.
    """
    reach = float(np.linalg.norm(s.factor.reach(_free_step(s, box))))
    whole = float(np.sqrt(max(s.cost, 0.0)))
    if whole == 0 or reach <= 1e-4 * whole or _relative(s, _free_step(s, box)) <= 1e-8:
        return "converged"
    return "stalled" if status == "converged" else status


def _sentence(status: Status, done: int) -> str:
    steps = f"{done} step{'' if done == 1 else 's'}"
    return {
        "converged": f"Levenberg-Marquardt converged after {steps}",
        "stalled": f"No step improves the fit any more after {steps}, and yet it is no minimum",
        "interrupted": f"Stopped by the user after {steps}; these are the best parameters so far",
    }.get(status, f"Levenberg-Marquardt stopped after {steps}, its limit, before it converged")
