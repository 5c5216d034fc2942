"""Many fits by Levenberg-Marquardt in NumPy: all of them step together, each with its own damping and its own end."""

from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit.solve.lockstep.batch import (
    CONVERGED,
    MAX_ITERATIONS,
    NEGATIVE,
    NON_FINITE,
    SINGULAR,
    STALLED,
    TOO_FEW,
    Array,
    Batch,
    Cost,
    Ends,
    Kernel,
    Mask,
    Settings,
    Sums,
    sums,
)
from gradfit.solve.lockstep.cholesky import Cholesky, dot, lengths, scaled, without
from gradfit.solve.lockstep.scatter import standard_errors

Indices = NDArray[np.int64]

POINTS = 32_768  # points of all fits under way: what they need stays in the cache
OFFSET = 1e-6  # squared share of the residuals that a Gauss-Newton step may promise to remove when undamped steps begin
WALKING, FINISHING, ENDED = range(3)


def solve(
    kernel: Kernel,
    batch: Batch,
    start: Array,
    *,
    free: Indices,
    lower: Array,
    upper: Array,
    loss: Cost,
    settings: Settings,
) -> Ends:
    """Return where each fit ended: see `gradfit.solve.lockstep.batch.Solve`. Fits that have ended make room for others.

    References
    ----------
    .. [1] Madsen, Nielsen & Tingleff (2004), Methods for non-linear least squares problems, Alg. 3.16.
    .. [2] Moré (1978), The Levenberg-Marquardt algorithm: implementation and theory.
    """
    m, n = batch.y.shape
    start = np.broadcast_to(start, (m, start.shape[1]))
    task = _Task(kernel, free, lower[free], upper[free], loss, settings)
    ends = Ends.blank(m, start.shape[1])
    ends.points[:] = batch.points()
    fixed = np.setdiff1d(np.arange(start.shape[1]), free)
    ends.parameters[:, fixed] = start[:, fixed]
    known = hopeless(batch, ends.points, len(free), loss)
    ends.status[:] = np.where(known >= 0, known, NON_FINITE)
    queue = np.flatnonzero(known < 0)
    room = max(8, POINTS // max(n, 1))
    walk: _Walk | None = None
    with np.errstate(all="ignore"):
        while len(queue) or walk is not None:
            if len(queue) and (walk is None or 4 * len(walk.fit) < 3 * room):
                more, queue = np.split(queue, [room - (0 if walk is None else len(walk.fit))])
                fresh = task.begun(batch.rows(more), start[more].T.copy(), loss.rows(more), more)
                walk = fresh if walk is None else walk.joined(fresh)
            walk = walk.turn(ends) if walk is not None else None
    return ends


def standing(
    kernel: Kernel, batch: Batch, start: Array, *, free: Indices, lower: Array, upper: Array, loss: Cost
) -> tuple[Array, Array]:
    """Return the start (m, k) of each fit, what is NaN there solved in closed form, and the cost (m,) there."""
    task = _Task(kernel, free, lower[free], upper[free], loss, Settings())
    m, n = batch.y.shape
    room, out, at = max(8, POINTS // max(n, 1)), np.empty(m), np.empty((m, start.shape[1]))
    with np.errstate(all="ignore"):
        for i in range(0, m, room):
            fits = np.arange(i, min(i + room, m))
            walk = task.begun(batch.rows(fits), start[fits].T.copy(), loss.rows(fits), fits)
            at[fits], out[fits] = walk.p.T, walk.now.cost
    return at, out


def hopeless(batch: Batch, points: NDArray[np.int32], unknowns: int, loss: Cost) -> NDArray[np.int8]:
    """Return the status (m,) of fits that need no attempt, -1 for the others."""
    out = np.full(len(points), -1, dtype=np.int8)
    if loss.name == "poisson":
        seen = batch.y if batch.weight is None else np.where(batch.weight == 0, 0.0, batch.y)
        out[(seen < 0).any(axis=1)] = NEGATIVE
    out[(points < unknowns) | (points < min(unknowns, 1) + 1)] = TOO_FEW
    return out


@dataclass(frozen=True, eq=False)
class _Task:
    """What all fits have in common; the bounds are those of the free parameters."""

    kernel: Kernel
    free: Indices
    lower: Array
    upper: Array
    loss: Cost
    settings: Settings

    @property
    def open(self) -> bool:
        """Whether no free parameter has a bound."""
        return bool(np.isneginf(self.lower).all() and np.isposinf(self.upper).all())

    def inside(self, q: Array) -> Array:
        """Return free parameters (f, m) put back onto the bounds that they crossed."""
        return q if self.open else np.clip(q, self.lower[:, None], self.upper[:, None])

    def sums(self, batch: Batch, p: Array, loss: Cost) -> Sums:
        """Return the sums over the points at parameters (k, m)."""
        return sums(self.kernel, batch, p, free=self.free, loss=loss)

    def begun(self, batch: Batch, p: Array, loss: Cost, fit: Indices) -> "_Walk":
        """Return fits at their start; what is NaN there is solved in closed form."""
        unknown = np.isnan(p[self.free])
        p[self.free] = self.inside(np.where(unknown, 0.0, p[self.free]))
        closed = np.zeros(len(fit), dtype=bool)
        if unknown.any():
            p[self.free] = self.inside(p[self.free] + self._closed_form(batch, p, unknown))
            closed |= unknown.all(axis=0) & (loss.name == "squared") & self.open
        now = self.sums(batch, p, loss)
        f, m = len(self.free), len(fit)
        walk = _Walk(
            task=self, batch=batch, loss=loss, fit=fit, points=batch.points(), p=p, now=now, norm=lengths(now.gram),
            mu=np.full(m, self.settings.damping), nu=np.full(m, 2.0), goal=np.full(m, OFFSET),
            phase=np.where(closed, FINISHING, WALKING), last=np.full(m, np.inf), worst=np.zeros(m),
            before=np.zeros((f, m)), relax=np.ones(m), h=np.zeros((f, m)), done=np.zeros(m, dtype=np.int32), stuck=np.zeros(m, dtype=bool),
            status=np.full(m, NON_FINITE, dtype=np.int8),
        )  # fmt: skip
        walk.end(~now.finite, NON_FINITE)
        return walk

    def _closed_form(self, batch: Batch, p: Array, unknown: Mask) -> Array:
        """Return by how much (f, m) the unknown linear parameters move to their least squares; 0 for the others."""
        at = self.sums(batch, p, Cost())
        norm = lengths(at.gram)
        factor = Cholesky.of(without(scaled(at.gram, norm), ~unknown))
        change = -factor.solve(np.where(unknown, at.gradient / norm, 0.0)) / norm
        return np.where(np.isfinite(change), change, 0.0)


class _Newton(NamedTuple):
    """The undamped step of m fits.

    Attributes
    ----------
    h : (f, m)
        The step, 0 for what a bound holds and for what the data do not determine.
    held : (f, m) bool or None
        Which parameters sit on a bound that going downhill would cross.
    removable : (m,)
        How much of the cost the step promises to remove.
    share : (m,)
        Its squared length over that of the parameters, each in units of its scale.
    there : (m,) bool
        Whether the numbers say that this is a minimum.
    roughly : (m,) bool
        Whether they say so where no step lowers the cost any more.
    """

    h: Array
    held: Mask | None
    removable: Array
    share: Array
    there: Mask
    roughly: Mask


@dataclass(eq=False)  # the state of a walk: its arrays are replaced as the fits advance
class _Walk:
    """Fits under way, along the last axis of every array.

    `phase` is WALKING, damped steps that must lower the cost; FINISHING, undamped ones that must keep shrinking; ENDED.
    """

    task: _Task
    batch: Batch
    loss: Cost
    fit: Indices  # places among all fits
    points: NDArray[np.int32]
    p: Array  # (k, m) parameters
    now: Sums
    norm: Array  # (f, m) scale of the parameters: the longest that their columns have been
    mu: Array  # damping, and its growth after a refused step
    nu: Array
    goal: Array  # squared relative offset at which finishing begins
    phase: NDArray[np.int64]
    last: Array  # relative length of the last undamped step, the worst ratio of two in a row, and that step (f, m)
    worst: Array
    before: Array
    relax: Array  # by how much undamped steps are longer: they shrink by a constant ratio (Aitken's extrapolation)
    h: Array  # (f, m) the step to try
    done: NDArray[np.int32]
    stuck: Mask  # whether no damped step lowers the cost any more
    status: NDArray[np.int8]

    def turn(self, ends: Ends) -> "_Walk | None":
        """Return the fits that go on, one step further; the others are written into `ends`."""
        newton = self._newton()
        self._finish(newton)
        self._stop_late(newton)
        walking = self.phase == WALKING
        if walking.any():
            self.h = np.where(walking, self._damped(newton.held), self.h)
        over = self.phase == ENDED
        if not over.any():
            self._step()
            return self
        self._rows(np.flatnonzero(over))._write(ends)  # noqa: SLF001  its own kind
        if over.all():
            return None
        going = self._rows(np.flatnonzero(~over))
        going._step()  # noqa: SLF001  its own kind
        return going

    def end(self, which: Mask, status: NDArray[np.int64] | int) -> None:
        """Let fits rest where they are."""
        self.status = np.where(which, status, self.status).astype(np.int8)
        self.phase = np.where(which, ENDED, self.phase)

    # ------------------------------------------------------------------ directions

    def _newton(self) -> _Newton:
        held = None
        p, now, task = self.p[self.task.free], self.now, self.task
        if not task.open:
            downhill = -now.gradient
            held = ((p <= task.lower[:, None]) & (downhill < 0)) | (
                (p >= task.upper[:, None]) & (downhill > 0)
            )
        norm = lengths(now.gram)
        matrix, gradient = scaled(now.gram, norm), now.gradient / norm
        if held is not None:
            matrix, gradient = without(matrix, held), np.where(held, 0.0, gradient)
        step = Cholesky.of(matrix).solve(gradient)
        removable = dot(gradient, step)
        h = -step / norm
        u, size = self.norm * h, self.norm * p
        share = dot(u, u) / np.maximum(dot(size, size), 1e-300)
        near = (now.cost == 0) | (share <= 1e-16)
        there, roughly = removable <= 1e-16 * now.cost, removable <= 1e-8 * now.cost
        return _Newton(h, held, removable, share, there | near, roughly | near)

    def _damped(self, held: Mask | None) -> Array:
        """Return the damped steps (f, m), which stay inside the bounds.

        A parameter whose step would cross its bound goes to the bound, and the others are solved again for that.
        """
        task, now = self.task, self.now
        matrix, gradient = scaled(now.gram, self.norm), now.gradient / self.norm
        for i in range(len(matrix)):
            matrix[i, i] += self.mu
        if held is None:
            return -Cholesky.of(matrix).solve(gradient) / self.norm
        p = self.p[task.free]
        least, most = (task.lower[:, None] - p) * self.norm, (task.upper[:, None] - p) * self.norm
        stopped, u = held, np.zeros_like(p)
        for _ in range(len(p) + 1):
            pull = gradient + np.stack([dot(row, np.where(stopped, u, 0.0)) for row in matrix])
            free = -Cholesky.of(without(matrix, stopped)).solve(np.where(stopped, 0.0, pull))
            u = np.where(stopped, u, free)
            beyond = ~stopped & ((u < least) | (u > most))
            if not beyond.any():
                break
            u, stopped = np.clip(u, least, most), stopped | beyond
        return np.clip(u, least, most) / self.norm

    # ------------------------------------------------------------------ ends

    def _finish(self, newton: _Newton) -> None:
        """Set the undamped steps to try; fits whose last digits are reached end, others go back to damped steps."""
        enter = (newton.removable <= self.goal * self.now.cost) | self.stuck | (newton.share <= 1e-20)
        enter &= self.phase == WALKING
        self.phase = np.where(enter, FINISHING, self.phase)
        self.last, self.worst = np.where(enter, np.inf, self.last), np.where(enter, 0.0, self.worst)
        self.relax = np.where(enter, 1.0, self.relax)
        finishing = self.phase == FINISHING
        length, u = np.sqrt(newton.share), self.norm * newton.h
        again = self.last < np.inf
        ratio = np.where(again, dot(u, self.before) / dot(self.before, self.before), 0.0)
        overshot = (
            again & (self.relax == 1) & (ratio < 0)
        )  # the first step went too far: the next ones are shorter
        shrinks = ((length < 0.9 * self.last) | overshot) & (length > 1e-16)
        self.worst = np.where(again & ~overshot, np.maximum(self.worst, length / self.last), self.worst)
        relaxed = np.clip(self.relax / (1 - ratio), 0.01, 10.0)
        self.relax = np.where(ratio < 0.9, relaxed, self.relax)
        self.h = newton.h * self.relax
        self._end_near(newton, finishing & shrinks, again)
        over = finishing & ~shrinks
        there = newton.there | (self.stuck & newton.roughly)
        self.end(over & there, CONVERGED)
        self.end(over & ~there & self.stuck, STALLED)
        back = over & (self.phase == FINISHING)
        self.goal = np.where(
            back, np.minimum(self.goal * 1e-2, 1e-2 * newton.removable / self.now.cost), self.goal
        )
        self.phase = np.where(back, WALKING, self.phase)
        self.last, self.before = np.where(finishing, length, self.last), u

    def _end_near(self, newton: _Newton, which: Mask, again: Mask) -> None:
        """End fits whose next step leaves nothing to be seen: it is made without looking."""
        variance = self.now.cost / np.maximum(self.points - len(self.h), 1)
        known = self.task.settings.absolute or self.loss.name == "poisson"
        error = newton.removable / (
            np.minimum(variance, 1.0) if known else variance
        )  # squared, in standard errors
        wanted = self.task.settings.tolerance**2
        near = which & (error <= 1e-13) & ((error <= wanted) | (again & (self.worst**2 * error <= wanted)))
        self.end(near, CONVERGED)
        free = self.task.free
        self.p[free] = np.where(near, self.task.inside(self.p[free] + self.h), self.p[free])
        self.now = replace(self.now, cost=np.where(near, self.now.cost - newton.removable, self.now.cost))

    def _stop_late(self, newton: _Newton) -> None:
        late = (self.phase != ENDED) & (self.done >= self.task.settings.max_iterations)
        self.end(late, np.where(newton.roughly, CONVERGED, MAX_ITERATIONS))

    def _write(self, ends: Ends) -> None:
        """Write the fits into their places."""
        ends.iterations[self.fit] = self.done
        ends.status[self.fit] = self.status
        told = np.flatnonzero(self.status != NON_FINITE)
        if not len(told):
            return
        kept = self if len(told) == len(self.fit) else self._rows(told)
        task = self.task
        errors, unknown = standard_errors(
            task.kernel, kept.batch, kept.p, kept.now,
            free=task.free, lower=task.lower, upper=task.upper, loss=kept.loss, absolute=task.settings.absolute,
        )  # fmt: skip
        ends.parameters[kept.fit] = kept.p.T
        ends.stderr[np.ix_(kept.fit, task.free)] = errors.T
        ends.rss[kept.fit] = kept.now.cost
        ends.status[kept.fit] = np.where(unknown & (kept.status == CONVERGED), SINGULAR, kept.status)

    # ------------------------------------------------------------------ steps

    def _step(self) -> None:
        """Try the steps; each fit takes its own if that is good for it."""
        task, now = self.task, self.now
        trial = self.p.copy()
        trial[task.free] = task.inside(trial[task.free] + self.h)
        h = trial[task.free] - self.p[task.free]
        new = task.sums(self.batch, trial, self.loss)
        promised = -dot(2 * now.gradient + np.stack([dot(row, h) for row in now.gram]), h)
        drop = np.where(new.finite, now.cost - new.cost, -np.inf)
        walking = self.phase == WALKING
        taken = np.where(walking, (drop > 0) & (promised > 0), drop >= -1e-9 * now.cost - 1e-300)
        bend = 2 * drop / promised - 1
        easier = np.maximum(self.mu * np.maximum(1 / 3, 1 - bend * bend * bend), 1e-15)
        refused = walking & ~taken
        nothing = refused & ((promised <= 1e-16 * now.cost) | (self.mu > 1e20))
        self.stuck = np.where(walking, nothing, self.stuck)
        self.mu = np.where(walking, np.where(taken, easier, self.mu * self.nu), self.mu)
        self.nu = np.where(refused, 2 * self.nu, np.where(walking, 2.0, self.nu))
        self.last = np.where(
            ~walking & ~taken, 0.0, self.last
        )  # no shorter step can follow: finishing is over
        self.p, self.now = np.where(taken, trial, self.p), now.chosen(taken, new)
        self.norm = np.where(walking & taken, np.maximum(self.norm, lengths(self.now.gram)), self.norm)
        self.done = self.done + np.int32(1)

    # ------------------------------------------------------------------ company

    def _rows(self, which: Indices) -> "_Walk":
        """Return some of the fits."""
        own = {name: getattr(self, name)[..., which] for name in _ARRAYS}
        return replace(
            self, batch=self.batch.rows(which), loss=self.loss.rows(which), now=self.now.rows(which), **own
        )

    def joined(self, more: "_Walk") -> "_Walk":
        """Return these fits together with others of the same task."""
        own = {name: np.concatenate([getattr(self, name), getattr(more, name)], axis=-1) for name in _ARRAYS}
        return replace(
            self,
            batch=self.batch.joined(more.batch),
            loss=self.loss.joined(more.loss),
            now=self.now.joined(more.now),
            **own,
        )


#: what a walk holds for each fit, apart from its data and sums
_ARRAYS = (
    "fit", "points", "p", "norm", "mu", "nu", "goal", "phase", "last", "worst", "before", "relax", "h", "done", "stuck", "status",
)  # fmt: skip
