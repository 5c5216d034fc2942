"""Levenberg-Marquardt: damped Gauss-Newton steps from orthogonal factors, inside a box."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.loss import Loss
from gradfit.solve.box import boxed_step
from gradfit.solve.factor import Factor, Normal, column_lengths, factorise, normal
from gradfit.solve.outcome import Outcome, Point, Status

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
        Of the relative offset (see `offset`): once a Gauss-Newton step promises to remove no more than this share of the
        residuals, undamped steps finish the fit, until rounding ends them.
    damping : float
        At the start, relative to columns of length 1.
    """

    max_iterations: int = 500
    tolerance: float = 1e-3
    damping: float = 1e-2


DEFAULT = LM()


class State(NamedTuple):
    """A point, what was computed there, and how far the linear model is trusted."""

    p: Array  # (k,) parameters
    r: Array  # (n,) residuals
    J: Array  # (n, k) dr/dp
    cost: float
    factor: Factor | Normal
    mu: float  # damping; Nielsen (1999), Damping parameter in Marquardt's method
    nu: float = 2.0  # its growth after a refused step


class Box(NamedTuple):
    """Bounds of the free parameters."""

    lower: Array
    upper: Array

    def held(self, p: Array, downhill: Array) -> NDArray[np.bool_]:
        """Return which parameters (k,) sit on a bound that going `downhill` would cross."""
        return ((p <= self.lower) & (downhill < 0)) | ((p >= self.upper) & (downhill > 0))

    @classmethod
    def around(cls, bounds: tuple[Array, Array] | None) -> "Box | None":
        """Return the box of these bounds, None where every side is open."""
        if bounds is None or (np.isneginf(bounds[0]).all() and np.isposinf(bounds[1]).all()):
            return None
        return cls(*bounds)


def init(problem: Problem, p: Array, loss: Loss, *, box: Box | None, damping: float) -> State:
    """Return the state at the start."""
    r, J = problem.residual_jacobian(p)
    return State(p, r, J, loss.cost(r), _factor(loss, r, J, None, box=box), damping)


def _factor(loss: Loss, r: Array, J: Array, before: Array | None, *, box: Box | None) -> Factor | Normal:
    """Return the normal equations where they are as good, else the SVD; the SVD for every step inside a box.

    Moré (1978), The Levenberg-Marquardt algorithm: scales only grow, so that a column that fades keeps its step short.
    """
    if loss.robust:
        r, J = loss.linearised(r, J)
    cheap = normal(J, r, before) if box is None else None
    if cheap is not None:
        return cheap
    norm = column_lengths(J)
    return factorise(J, r, norm if before is None else np.maximum(norm, before))


def step(problem: Problem, s: State, loss: Loss, box: Box | None) -> tuple[State, float]:
    """Return the next state, and the drop of the cost that the linear model promised; the same point when refused."""
    if box is None or isinstance(s.factor, Normal):
        h = s.factor.step(s.mu)
        p = s.p + h
    else:
        h = boxed_step(s.factor, s.mu, box.lower - s.p, box.upper - s.p)
        p = np.clip(s.p + h, box.lower, box.upper)  # the clip undoes rounding, no more
    promised = s.factor.promised(h, s.mu)
    r, J = problem.residual_jacobian(p)
    cost = loss.cost(r)
    drop = s.cost - cost
    if not (drop > 0 and promised > 0):  # refused, NaN included: trust the linear model less
        return State(s.p, s.r, s.J, s.cost, s.factor, s.mu * s.nu, 2 * s.nu), promised
    gain = drop / promised
    bend = 2 * gain - 1
    mu = s.mu * max(
        1 / 3, 1 - bend * bend * bend
    )  # a power of Python would not overflow to infinity, but raise
    return State(p, r, J, cost, _factor(loss, r, J, s.factor.norm, box=box), max(mu, 1e-15)), promised


def minimise(
    problem: Problem,
    start: Array,
    *,
    bounds: tuple[Array, Array] | None = None,
    loss: Loss = SQUARED,
    settings: LM = DEFAULT,
    watch: Watch | None = None,
) -> Outcome:
    """Return the least cost that damped steps from `start` reach, refined until rounding ends the progress.

    Parameters
    ----------
    start : (k,)
        Inside the bounds. Where the residuals are not finite there, the outcome's loss is not either.
    bounds : (lower, upper), optional
        Each (k,); infinite where there is none. A step solves the damped linear problem inside the box.
    watch : callable, optional
        Called with (iteration, cost, parameters) after each iteration; a true answer stops the fit.

    References
    ----------
    .. [1] Madsen, Nielsen & Tingleff (2004), Methods for non-linear least squares problems, Alg. 3.16.
    .. [2] Moré (1978), The Levenberg-Marquardt algorithm: implementation and theory.
    """
    box = Box.around(bounds)
    with np.errstate(all="ignore"):  # a step into overflow is refused; its warnings are nobody's business
        state = init(problem, start, loss, box=box, damping=settings.damping)
        walk = _Walk(problem, loss, box, state, watch=watch)
        try:
            status = walk.run(settings) if isfinite(state.cost) else "singular"
        except KeyboardInterrupt:
            status = "interrupted"
    s = walk.state
    message = ending_sentence(status, walk.done)
    factor = s.factor if walk.polished and not loss.robust and isinstance(s.factor, Factor) else None
    return Outcome(
        s.p, s.cost, status, message, walk.done, walk.evaluations, walk.points, end=(s.r, s.J), factor=factor
    )


class _Walk:
    """One fit under way; it holds the best state, so that an interrupt at any place loses nothing."""

    def __init__(
        self, problem: Problem, loss: Loss, box: Box | None, state: State, *, watch: Watch | None
    ) -> None:
        self.problem, self.loss, self.box, self.state, self.watch = problem, loss, box, state, watch
        self.done, self.evaluations = 0, 1
        self.points: list[Point] = []
        self.polished = False  # whether the factor is scaled by its own columns, not by the largest so far
        self.keep()

    def keep(self) -> None:
        s = self.state
        psi = self.loss.curvature(s.r)[0] if self.loss.robust else s.r
        self.points.append((self.done, s.cost, 2 * (psi @ s.J), s.p))

    def run(self, settings: LM) -> Status:
        goal = settings.tolerance**2
        while self.done < settings.max_iterations:
            before = self.state
            self.done += 1
            self.evaluations += 1
            self.state, promised = step(self.problem, before, self.loss, self.box)
            moved = self.state.p is not before.p
            if moved:
                self.keep()
            if self.watch is not None and self.watch(self.done, self.state.cost, self.state.p):
                return "interrupted"
            stuck = not moved and (promised <= 1e-16 * before.cost or before.mu > 1e20)
            if stuck or offset_squared(self.state, self.box) <= goal * self.state.cost:
                self.polish()
                if self.at_minimum(loosely=stuck):
                    return "converged"
                if stuck:
                    return "stalled"
                goal = min(
                    goal * 1e-2, 1e-2 * offset_squared(self.state, self.box) / (self.state.cost or 1.0)
                )
        self.polish()
        return "converged" if self.at_minimum(loosely=True) else "max-iterations"

    def polish(self) -> None:
        """Undamped steps that keep shrinking.

        The cost is flat to rounding over a square root of eps around its minimum; the length of the Gauss-Newton step is
        not, so the last digits come from it. The steps shrink by a constant ratio, so that their sum is known from two
        of them (Aitken's extrapolation).
        """
        before, last, ratio, worst = self.state.p, np.inf, 0.0, 1.0
        norm = self.state.factor.norm
        size = sqrt(_dot(norm * before)) or 1.0
        for _ in range(100):
            s = self.state
            h = free_step(s, self.box)
            u = norm * h  # one measure for all lengths, or they could not be compared
            length = sqrt(_dot(u)) / size
            if not length < 0.9 * last or length <= 1e-16:
                return self.correct()
            if last < np.inf:
                ratio = float(u @ before) / _dot(before)
                worst = length / last if worst == 1.0 else max(worst, length / last)
                h = h / (1 - ratio) if abs(ratio) < 0.9 else h
            if length < 1e-6 and worst * length < 2e-12 and self.simple():  # the rest is below rounding
                self.state = State(s.p + h, s.r + s.J @ h, s.J, s.cost, s.factor, s.mu)
                return self.correct()
            if not self.advanced(h):
                return self.correct()
            before, last = u, length
        return self.correct()

    def simple(self) -> bool:
        """Whether residuals follow the parameters without a box or a changing weight."""
        return self.box is None and not self.loss.robust

    def advanced(self, h: Array) -> bool:
        """Whether the undamped step was taken: the cost does not grow beyond rounding."""
        s = self.state
        p = s.p + h if self.box is None else np.clip(s.p + h, *self.box)
        self.evaluations += 1
        r, J = self.problem.residual_jacobian(p)
        cost = self.loss.cost(r)
        if not cost <= s.cost * (1 + 1e-9) + 1e-300:
            return False
        self.state = State(p, r, J, cost, _factor(self.loss, r, J, None, box=self.box), s.mu)
        self.polished = True
        self.done += 1
        self.keep()
        return True

    def correct(self) -> None:
        if self.simple():
            self.state = corrected(self.problem, self.state)

    def at_minimum(self, *, loosely: bool) -> bool:
        """Converged is what the numbers say, not which test ended the loop."""
        s = self.state
        if s.cost == 0 or offset_squared(s, self.box) <= (1e-8 if loosely else 1e-16) * s.cost:
            return True
        h = free_step(s, self.box)
        return _dot(s.factor.norm * h) <= 1e-16 * _dot(s.factor.norm * s.p)


def _dot(v: Array) -> float:
    return float(v @ v)


def offset_squared(s: State, box: Box | None) -> float:
    """Return the squared part of the residuals that a Gauss-Newton step could still remove.

    References
    ----------
    .. [1] Bates & Watts (1981), A relative offset orthogonality convergence criterion for nonlinear least squares.
    """
    if box is None or isinstance(s.factor, Normal):
        return s.factor.removable()
    return _dot(s.factor.reach(free_step(s, box)))


def free_step(s: State, box: Box | None) -> Array:
    """Return the Gauss-Newton step of the parameters that no bound holds."""
    if box is None or isinstance(s.factor, Normal):
        return s.factor.newton_step()
    held = box.held(s.p, s.factor.downhill())
    if not held.any():
        return s.factor.newton_step()
    h = np.zeros_like(s.p)
    if not held.all():
        free = ~held
        basis = s.factor.s[:, None] * s.factor.vt[:, free]
        h[free] = -np.linalg.lstsq(basis, s.factor.z, rcond=1e-13)[0] / s.factor.norm[free]
    return h


def corrected(problem: Problem, s: State) -> State:
    """Return the state with the digits that rounding of large residuals took from ill-determined parameters.

    They come from a gradient in long double. Golub & Van Loan, Matrix Computations, 4th ed., sec. 3.5.3: iterative
    improvement. NIST's Wampler5, whose parameters are 1 with standard errors of 2e7, goes from 5.6 correct digits to 10.
    """
    factor = s.factor
    if isinstance(factor, Normal) or not loses_digits(s, factor):
        return s
    for _ in range(5):
        gradient = problem.precise_gradient(s.p)
        if gradient is None or not np.isfinite(gradient).all():
            break
        inner = factor.vt @ (gradient / factor.norm)
        h = -(factor.vt.T @ (inner / factor.s**2)) / factor.norm
        r, J = problem.residual_jacobian(s.p + h)
        cost = float(r @ r)
        if np.all(np.abs(h) <= 1e-15 * np.abs(s.p)) or not cost <= s.cost * (1 + 1e-9):
            break
        s = State(s.p + h, r, J, cost, factor, s.mu)
    return s


def loses_digits(s: State, factor: Factor) -> bool:
    """Return whether rounding of the residuals shows in a parameter, in a problem whose gradient can repair that."""
    ratio = float(factor.s[-1] / factor.s[0]) if len(factor.s) and factor.s[0] > 0 else 1.0
    if len(s.r) <= len(s.p) or not 1e-7 < ratio < 1e-2:
        return False
    spread = np.sqrt(np.sum((factor.vt.T / factor.s) ** 2, axis=1)) / factor.norm
    lost = 1e-16 * np.sqrt(s.cost) * spread
    return bool(np.any(lost > 1e-12 * np.abs(s.p)))  # the loss seen is up to 300 times this estimate


def ending_sentence(status: Status, done: int) -> str:
    """Return why a walk of so many steps stopped."""
    steps = f"{done} step{'' if done == 1 else 's'}"
    return {
        "converged": f"Levenberg-Marquardt converged after {steps}",
        "singular": "The model is not finite at the start",
        "stalled": f"No step improves the fit any more after {steps}, and yet it is no minimum",
        "interrupted": f"Stopped by the user after {steps}; these are the best parameters so far",
    }.get(status, f"Levenberg-Marquardt stopped after {steps}, its limit, before it converged")
