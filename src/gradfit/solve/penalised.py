"""Least squares with a penalty: squares as further rows of the residuals, absolute values by soft thresholds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, sqrt
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import linalg, torch
from gradfit.loss import Loss
from gradfit.solve.factor import column_lengths
from gradfit.solve.lm import LM, Problem, minimise
from gradfit.solve.outcome import Outcome, Point, Status
from gradfit.solve.separable import closed_form

Array = NDArray[np.float64]
Watch = Callable[[int, float, Array], object]

SWEEPS = 2000  # of coordinate descent, before it is left to the next step
KKT = 1e-9  # by how much a gradient may miss its threshold, relative to it
ROUNDING = 1e-13  # relative rise of the cost that is none
FLAT, IDLE = 1e-14, 2  # relative drop that is none, and how many in a row end the walk
REFUSED = 40  # steps in a row that made nothing better
LITTLE = 1e-8  # share of the cost that an undamped step may still promise at a minimum
LEAST_DAMPING, FIRST_DAMPING, MOST_DAMPING = 1e-9, 1e-3, 1e20


@dataclass(frozen=True, eq=False)
class Shrink:
    """A penalty in numbers: half |squares (p - centre)|² + sum of absolute * |p - centre|, in units of the cost.

    Attributes
    ----------
    squares : (m, f)
        Rows of the quadratic part.
    absolute : (f,)
        Weights of the absolute values, 0 where there is none.
    centre : (f,)
        What the free parameters are drawn to.
    transform : (f, f), optional
        T, where the solver's parameters q give p = T q.
    """

    squares: Array
    absolute: Array
    centre: Array
    transform: Array | None = None

    def times(self, squares: float, absolute: float) -> "Shrink":
        """Return the penalty with its quadratic part and its absolute values times a factor each."""
        return replace(self, squares=sqrt(squares) * self.squares, absolute=absolute * self.absolute)

    def through(self, transform: Array) -> "Shrink":
        """Return the penalty as a function of q, where p = transform q."""
        return replace(self, transform=transform)

    def value(self, p: Array) -> float:
        """Return the penalty at free parameters (f,)."""
        away = (p if self.transform is None else self.transform @ p) - self.centre
        rows = self.squares @ away
        return 0.5 * float(rows @ rows) + float(self.absolute @ np.abs(away))

    @cached_property
    def rows(self) -> Array:
        """What the residuals are continued by, so that the sum of squares contains the quadratic part."""
        return self.squares / sqrt(2.0)

    @property
    def sharp(self) -> bool:
        """Whether it can set a parameter to its centre exactly."""
        return bool(self.absolute.any())

    def settled(self, p: Array) -> NDArray[np.bool_]:
        """Return which free parameters (f,) an absolute value holds at their centre."""
        return (self.absolute > 0) & (p == self.centre)


@dataclass(frozen=True, eq=False)
class Extended:
    """A problem whose residuals go on with the rows of a penalty: its least squares are the penalised ones."""

    problem: Problem
    shrink: Shrink

    def residual_jacobian(self, parameters: Array) -> tuple[Array, Array]:
        """Return residuals (n + m,) and Jacobian (n + m, f)."""
        r, J = self.problem.residual_jacobian(parameters)
        rows = self.shrink.rows
        return np.concatenate([r, rows @ (parameters - self.shrink.centre)]), np.vstack([J, rows])

    def precise_gradient(self, parameters: Array) -> Array | None:
        """Return Jᵀr (f,), the data's part summed in long double."""
        gradient, rows = self.problem.precise_gradient(parameters), self.shrink.rows
        return None if gradient is None else gradient + rows.T @ (rows @ (parameters - self.shrink.centre))


@dataclass(frozen=True)
class FirstRows(Loss):
    """A loss of the first rows; what follows them, a penalty, costs its square."""

    first: int = 0

    @classmethod
    def of(cls, loss: Loss, first: int) -> Loss:
        """Return the loss for `first` rows of data; squares need no distinction."""
        return cls(loss.name, loss.scale, first) if loss.robust else loss

    def cost(self, residuals: Array) -> float:
        """Return the sum over the residuals."""
        rest = residuals[self.first :]
        return super().cost(residuals[: self.first]) + float(rest @ rest)

    def curvature(self, residuals: Array) -> tuple[Array, Array]:
        """Return the first and second derivative of the cost by each residual, halved."""
        psi, slope = super().curvature(residuals[: self.first])
        rest = residuals[self.first :]
        return np.concatenate([psi, rest]), np.concatenate([slope, np.ones_like(rest)])

    def linearised(self, residuals: Array, jacobian: Array) -> tuple[Array, Array]:
        """Return (r, J) of the least-squares problem with this loss's gradient and, where positive, its curvature."""
        r, J = super().linearised(residuals[: self.first], jacobian[: self.first])
        return np.concatenate([r, residuals[self.first :]]), np.vstack([J, jacobian[self.first :]])


def minimise_penalised(
    problem: Problem,
    start: Array,
    shrink: Shrink,
    *,
    linear: bool,
    bounds: tuple[Array, Array] | None = None,
    loss: Loss,
    settings: LM,
    watch: Watch | None = None,
) -> Outcome:
    """Return the least of cost plus penalty that is reached from a start; its loss is that sum.

    Parameters
    ----------
    start : (f,)
        Inside the bounds.
    linear : bool
        Whether residuals are linear in the parameters: without bounds, absolute values and a robust loss that is one solve.
    bounds : (lower, upper), optional
        Each (f,).
    """
    extended = Extended(problem, shrink)
    n = len(problem.residual_jacobian(start)[0])
    whole = FirstRows.of(loss, n)
    if shrink.sharp:
        open_ = np.full(len(start), np.inf)
        return _Sharp(extended, whole, shrink, bounds or (-open_, open_)).run(start, settings, watch)
    if linear and bounds is None and not loss.robust:
        outcome = closed_form(extended, start)
    else:
        outcome = minimise(extended, start, bounds=bounds, loss=whole, settings=settings, watch=watch)
    return Outcome(
        outcome.parameters, outcome.loss, outcome.status, outcome.message, outcome.iterations,
        outcome.evaluations, outcome.points,
    )  # fmt: skip


# ---------------------------------------------------------------------------- in torch


class Objective(Protocol):
    """A mean loss in torch."""

    @property
    def rows(self) -> int:
        """Number of observations."""
        ...

    def loss(self, parameters: "torch.Tensor", rows: "torch.Tensor | None") -> "torch.Tensor":
        """Return the mean loss at parameters (k,) over rows, or over all for None."""
        ...


@dataclass(frozen=True, eq=False)
class PenalisedMean:
    """A mean loss and a penalty on its parameters; of an absolute value the slope at its centre is 0."""

    mean: Objective
    shrink: Shrink

    @property
    def rows(self) -> int:
        """Number of observations."""
        return self.mean.rows

    def loss(self, parameters: "torch.Tensor", rows: "torch.Tensor | None") -> "torch.Tensor":
        """Return the mean loss over the rows plus the whole penalty."""
        transform, squares, absolute, centre = (t.to(parameters.dtype) for t in self._tensors)
        away = transform @ parameters - centre
        bent = squares @ away
        return self.mean.loss(parameters, rows) + 0.5 * (bent @ bent) + absolute @ away.abs()

    @cached_property
    def _tensors(self) -> "tuple[torch.Tensor, ...]":
        shrink = self.shrink
        turn = np.eye(len(shrink.centre)) if shrink.transform is None else shrink.transform
        parts = (turn, shrink.squares, shrink.absolute, shrink.centre)
        return tuple(torch.tensor(part, dtype=torch.float64, device="cpu") for part in parts)


# ---------------------------------------------------------------------------- absolute values


class _Point(NamedTuple):
    """A place with what was computed there, and how far the linear model is trusted."""

    p: Array
    r: Array
    J: Array
    cost: float
    norm: Array  # (f,) the longest that each column has been
    damping: float = 0.0
    growth: float = 2.0  # of the damping after a refused step


@dataclass(frozen=True, eq=False)
class _Sharp:
    """Levenberg-Marquardt whose steps solve the linear problem with its absolute values: parameters end at exact zeros.

    References
    ----------
    .. [1] Lee, Sun & Saunders (2014), Proximal Newton-type methods for minimizing composite functions, Alg. 1.
    .. [2] Nielsen (1999), Damping parameter in Marquardt's method.
    """

    problem: Extended
    loss: Loss
    shrink: Shrink
    box: tuple[Array, Array]

    def run(self, start: Array, settings: LM, watch: Watch | None) -> Outcome:
        """Return where the steps from a start lead."""
        way: list[_Point] = []
        status: Status = "max-iterations"
        done = 0
        with np.errstate(all="ignore"):
            r, J = self.problem.residual_jacobian(start)
            way.append(_Point(start, r, J, self.cost(r, start), column_lengths(J)))
            if not isfinite(way[0].cost):
                return self._outcome(way, "singular", 0)
            try:
                for done, status in self._steps(way, settings):
                    if status != "max-iterations":
                        break
                    if watch is not None and watch(done, way[-1].cost, way[-1].p):
                        status = "interrupted"
                        break
            except KeyboardInterrupt:
                status = "interrupted"
            return self._outcome(way, status, done)

    def _steps(self, way: list[_Point], settings: LM) -> Iterator[tuple[int, Status]]:
        """Yield after each step how many were done and whether that was the end; points that are better go to `way`."""
        refused = idle = 0
        now = way[0]
        for done in range(1, settings.max_iterations + 1):
            new = self.moved(now)
            gain = now.cost - new.cost
            if gain >= -ROUNDING * now.cost and new.damping <= MOST_DAMPING:
                refused, idle = 0, idle + 1 if gain <= FLAT * now.cost else 0
                now = new
                way.append(new)
            else:
                refused += 1
                now = now._replace(
                    damping=max(now.damping, FIRST_DAMPING) * now.growth, growth=2 * now.growth
                )
            over = idle >= IDLE or refused > REFUSED or now.damping > MOST_DAMPING
            yield done, self._verdict(now) if over else "max-iterations"

    def _verdict(self, now: _Point) -> Status:
        """Converged is what an undamped step promises: next to nothing."""
        r, J = self.loss.linearised(now.r, now.J)
        step = self._step(now._replace(damping=0.0))
        ahead = r + J @ step
        promised = float(r @ r - ahead @ ahead) + self._sharp(now.p) - self._sharp(now.p + step)
        return "converged" if promised <= LITTLE * now.cost else "stalled"

    def _sharp(self, p: Array) -> float:
        return float(self.shrink.absolute @ np.abs(p - self.shrink.centre))

    def cost(self, r: Array, p: Array) -> float:
        """Return loss, squares and absolute values."""
        return self.loss.cost(r) + self._sharp(p)

    def moved(self, now: _Point) -> _Point:
        """Return the point that a step leads to; what it sets to its centre is there exactly."""
        step, centre = self._step(now), self.shrink.centre
        p = np.where(step == centre - now.p, centre, np.clip(now.p + step, *self.box))
        r, J = self.problem.residual_jacobian(p)
        norm = np.maximum(now.norm, column_lengths(J))
        eased = now.damping / 5 if now.damping > LEAST_DAMPING else 0.0
        return _Point(p, r, J, self.cost(r, p), norm, eased)

    def _step(self, now: _Point) -> Array:
        r, J = self.loss.linearised(now.r, now.J)
        if now.damping > 0:
            J = np.vstack([J, np.diag(sqrt(now.damping) * now.norm)])
            r = np.concatenate([r, np.zeros(len(now.p))])
        box = (self.box[0] - now.p, self.box[1] - now.p)
        return soft_least_squares(J, r, 0.5 * self.shrink.absolute, now.p - self.shrink.centre, box=box)

    def _outcome(self, way: list[_Point], status: Status, done: int) -> Outcome:
        steps = f"{done} step{'' if done == 1 else 's'}"
        message = {
            "converged": f"Levenberg-Marquardt with soft thresholds converged after {steps}",
            "stalled": f"No step improves the penalised fit any more after {steps}, and yet it is no minimum",
            "interrupted": f"Stopped by the user after {steps}; these are the best parameters so far",
            "singular": "The model is not finite at the start",
        }.get(
            status,
            f"Levenberg-Marquardt with soft thresholds stopped after {steps}, its limit, before it converged",
        )
        end = way[-1]
        points: list[Point] = [(i, at.cost, self._slope(at), at.p) for i, at in enumerate(way)]
        return Outcome(end.p, end.cost, status, message, done, done + 1, points)

    def _slope(self, at: _Point) -> Array:
        r, J = self.loss.linearised(at.r, at.J)
        return 2 * (r @ J) + self.shrink.absolute * np.sign(at.p - self.shrink.centre)


def soft_least_squares(A: Array, b: Array, weight: Array, at: Array, *, box: tuple[Array, Array]) -> Array:
    """Return the d that makes half |A d + b|² + sum of weight * |at + d| least inside a box.

    Columns without weight or bound are projected out first (for an intercept: the others are centred), so that an offset
    of 1e9 in a column costs no digits. The rest is coordinate descent with soft thresholds, and then, for the signs that it
    has found, one solve; that is kept when it keeps the signs.

    Parameters
    ----------
    A : (m, f)
        The matrix.
    b : (m,)
        Its right side, with this sign.
    weight : (f,)
        0 where there is no absolute value.
    at : (f,)
        Where d begins: the absolute values are zero at d = -at.
    box : (lower, upper), each (f,)
        Limits of d.

    References
    ----------
    .. [1] Friedman, Hastie & Tibshirani (2010), J. Stat. Softw. 33(1), sec. 2: coordinate descent.
    .. [2] Osborne, Presnell & Turlach (2000), IMA J. Numer. Anal. 20, 389: the solve for known signs.
    """
    zero = -at
    open_ = np.isneginf(box[0]) & np.isposinf(box[1]) & (weight == 0)
    norm = column_lengths(A)
    A = A / norm
    weight, at, low, high = weight / norm, at * norm, box[0] * norm, box[1] * norm
    d = np.zeros(A.shape[1])
    rest = np.flatnonzero(~open_)
    basis, inner, target = A[:, open_], A[:, rest], b
    if basis.shape[1] and len(rest):
        both = without(basis, np.column_stack([inner, b]))
        inner, target = both[:, :-1], both[:, -1]
    if len(rest):
        d[rest] = _Coordinates(inner, target, weight[rest], at[rest], low[rest], high[rest]).solved()
    if basis.shape[1]:
        d[open_] = -np.linalg.lstsq(basis, b + A[:, rest] @ d[rest], rcond=1e-13)[0]
    return np.where(d == -at, zero, np.clip(d / norm, *box))


def without(basis: Array, A: Array) -> Array:
    """Return what is left of A (n, k) orthogonal to a basis (n, m), its columns of any length."""
    if not basis.shape[1]:
        return A
    U, s, _ = linalg.svd(basis / column_lengths(basis), full_matrices=False, check_finite=False)
    Q = U[:, s > 1e-13 * s[0]]
    A = A - Q @ (Q.T @ A)
    return A - Q @ (Q.T @ A)  # twice, as once leaves rounding of what was taken away


class _Coordinates:
    """Coordinate descent on half |A d + b|² + sum of weight * |at + d|, in v = at + d, and the solve for its signs."""

    def __init__(self, A: Array, b: Array, weight: Array, at: Array, low: Array, high: Array) -> None:  # noqa: PLR0917  as the problem is written
        self.A, self.b, self.weight, self.at = A, b, weight, at
        self.low, self.high = low + at, high + at
        self.gram = A.T @ A
        self.scale = np.maximum(np.abs(A.T @ (b - A @ at)), weight) + 1e-300

    def solved(self) -> Array:
        """Return d."""
        v = np.clip(self.at, self.low, self.high)
        slope = self.A.T @ (self.b + self.A @ (v - self.at))
        for sweep in range(SWEEPS):
            largest = self._sweep(v, slope)
            if sweep % 10 == 9 or largest == 0:
                better = self._for_signs(v)
                if better is not None:
                    return self._steps(better)
                slope = self.A.T @ (self.b + self.A @ (v - self.at))  # sums of changes drift
            if largest <= 1e-15 * float(np.max(np.abs(v), initial=0.0)):
                break
        return self._steps(v)

    def _steps(self, v: Array) -> Array:
        return np.where(v == 0, -self.at, v - self.at)

    def _sweep(self, v: Array, slope: Array) -> float:
        """Move each coordinate to its own least, in place; return the largest move."""
        largest = 0.0
        curve = self.gram.diagonal()
        for j in range(len(v)):
            if not curve[j] > 1e-26:
                new = 0.0 if self.weight[j] > 0 else v[j]
            else:
                free = v[j] - slope[j] / curve[j]
                cut = self.weight[j] / curve[j]
                new = free - cut if free > cut else free + cut if free < -cut else 0.0
            new = min(max(new, self.low[j]), self.high[j])
            change = new - v[j]
            if change != 0:
                v[j] = new
                slope += change * self.gram[j]
                largest = max(largest, abs(change))
        return largest

    def _for_signs(self, v: Array) -> Array | None:
        """Return the exact least for the signs and bounds of v, None where it would have others."""
        sign = np.where(self.weight > 0, np.sign(v), 0.0)
        moving = (v > self.low) & (v < self.high) & ((self.weight == 0) | (v != 0))
        out = np.where(moving, 0.0, v)
        if moving.any():
            part = self.A[:, moving]
            target = self.b + self.A @ (out - self.at)
            factors: Any = linalg.qr(part, mode="economic", check_finite=False)
            Q, R = factors
            size = np.abs(R.diagonal())
            if len(size) < part.shape[1] or not size.min() > 1e-12 * size.max():
                return None
            pull = linalg.solve_triangular(R, (self.weight * sign)[moving], trans=1, check_finite=False)
            out[moving] = -linalg.solve_triangular(R, Q.T @ target + pull, check_finite=False)
        kept = (np.sign(out) == np.sign(v)) | (self.weight == 0)
        inside = (out >= self.low) & (out <= self.high)
        return out if (kept & inside).all() and self._optimal(out, sign, moving) else None

    def _optimal(self, v: Array, sign: Array, moving: NDArray[np.bool_]) -> bool:
        """Whether no coordinate at rest would move (Karush-Kuhn-Tucker)."""
        slope = self.A.T @ (self.b + self.A @ (v - self.at)) + self.weight * sign
        slack = KKT * self.scale
        zero = ~moving & (v == 0) & (self.weight > 0)
        held_low = ~moving & ~zero & (v <= self.low)
        held_high = ~moving & ~zero & (v >= self.high)
        fine = moving | (zero & (np.abs(slope) <= self.weight + slack))
        fine |= (held_low & (slope >= -slack)) | (held_high & (slope <= slack))
        return bool(fine.all())
