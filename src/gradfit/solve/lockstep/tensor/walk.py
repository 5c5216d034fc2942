"""Levenberg-Marquardt in torch for many fits at once, which all step together.

The decisions are those of `solve.lockstep.numpy`. Numbers about fits stay on the device; the host learns once a step how many
fits have ended.
"""

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.solve.lockstep.batch import (
    CONVERGED,
    MAX_ITERATIONS,
    NON_FINITE,
    SINGULAR,
    STALLED,
    Array,
    Batch,
    Cost,
    Ends,
    Settings,
)
from gradfit.solve.lockstep.numpy import ENDED, FINISHING, OFFSET, WALKING
from gradfit.solve.lockstep.tensor.points import Model, Points, Sums, sums
from gradfit.solve.lockstep.tensor.scatter import Fitted, standard_errors
from gradfit.solve.lockstep.tensor.systems import Cholesky, dot, lengths, scaled, times, without

if TYPE_CHECKING:
    Tensor = torch.Tensor

Indices = NDArray[np.int64]


class Limits(NamedTuple):
    """What rounding hides, as squares relative to the cost or the parameters unless said otherwise.

    Attributes
    ----------
    there, roughly : float
        Share of the cost that a step may promise at a minimum; and at one where no step lowers the cost any more.
    stuck : float
        Share that a damped step promises when it is no news that it fails.
    near : float
        Squared length of a step that changes the parameters' last digits.
    end : float
        Squared length of a step below which no walk makes sense.
    rise : float
        By how much of itself the cost may grow in a step that finishes.
    offset : float
        Squared offset, in standard errors, below which a fit may end by what its steps have been.
    tolerance : float
        Least one, in standard errors.
    """

    there: float
    roughly: float
    stuck: float
    near: float
    end: float
    rise: float
    offset: float
    tolerance: float

    @classmethod
    def of(cls, dtype: "torch.dtype") -> "Limits":
        """Return the limits of a precision."""
        if dtype == torch.float64:
            return cls(1e-16, 1e-8, 1e-16, 1e-16, 1e-20, 1e-9, 1e-13, 0.0)
        return cls(1e-10, 1e-5, 1e-7, 1e-13, 1e-15, 1e-3, 1e-8, 1e-4)


@dataclass(frozen=True, eq=False)
class Task:
    """What all fits have in common; the bounds (f, 1) are those of the free parameters."""

    model: Model
    free: "Tensor"
    lower: "Tensor"
    upper: "Tensor"
    bounded: int
    loss: str
    settings: Settings
    limits: Limits

    @classmethod
    def of(cls, model: Model, lower: Array, upper: Array, loss: Cost, settings: Settings) -> "Task":  # noqa: PLR0917  what solve was given
        """Return the task on the model's device."""
        free = torch.tensor(model.free, dtype=torch.int64)
        sides = [torch.tensor(side, dtype=torch.float64)[free, None] for side in (lower, upper)]
        bounded = int((torch.isfinite(sides[0]) | torch.isfinite(sides[1])).sum())
        on = [t.to(model.device) for t in (free, *sides)]
        return cls(model, on[0], on[1], on[2], bounded, loss.name, settings, Limits.of(model.dtype))

    def inside(self, q: "Tensor") -> "Tensor":
        """Return free parameters (f, m) put back onto the bounds that they crossed."""
        return q if not self.bounded else torch.minimum(torch.maximum(q, self.lower), self.upper)

    def placed(self, p: "Tensor", q: "Tensor") -> "Tensor":
        """Return all parameters (k, m) with the free ones (f, m) replaced."""
        return p.index_copy(0, self.free, q)

    def looked(
        self, points: Points, p: "Tensor", loss: str, mend: frozenset[int] = frozenset()
    ) -> tuple[Sums, frozenset[int]]:
        """Return the sums at parameters (k, m), and whose derivatives had to be mended for that."""
        at = sums(self.model, points, p, loss=loss, mend=mend)
        odd = frozenset(i for i, seen in enumerate(at.odd.any(1).tolist()) if seen)
        return self.looked(points, p, loss, mend | odd) if odd else (at, mend)

    def begun(self, batch: Batch, start: Array, loss: Cost, fit: Indices) -> "Walk":
        """Return fits at their start; what is NaN there is solved in closed form."""
        device = self.model.device
        points = Points.of(batch, loss, device=device, dtype=self.model.dtype)
        p = torch.tensor(np.ascontiguousarray(start.T), dtype=torch.float64, device=device)
        f, m = len(self.free), len(fit)
        closed, mend = torch.zeros(m, dtype=torch.bool, device=device), frozenset[int]()
        if np.isnan(start).any():
            unknown = torch.isnan(p[self.free])
            p = self.placed(p, self.inside(p[self.free].masked_fill(unknown, 0.0)))
            at, mend = self.looked(points, p, "squared")
            p = self.placed(p, self.inside(p[self.free] + _closed_form(at, unknown)))
            if self.loss == "squared" and not self.bounded:
                closed = unknown.all(0)
        p = self.placed(p, self.inside(p[self.free]))
        now, mend = self.looked(points, p, self.loss, mend)
        zeros = torch.zeros(m, dtype=torch.float64, device=device)
        walk = Walk(
            task=self, points=points, mend=mend, fit=torch.tensor(fit, device=device),
            count=torch.tensor(batch.points(), device=device), p=p, now=now, norm=lengths(now.gram),
            mu=zeros + self.settings.damping, nu=zeros + 2, goal=zeros + OFFSET,
            phase=torch.where(closed, FINISHING, WALKING), last=zeros + torch.inf, worst=zeros,
            before=zeros.expand(f, m), relax=zeros + 1, h=zeros.expand(f, m), done=torch.zeros(m, dtype=torch.int32, device=device),
            stuck=torch.zeros(m, dtype=torch.bool, device=device),
            status=torch.full((m,), NON_FINITE, dtype=torch.int8, device=device),
        )  # fmt: skip
        walk.end(~now.finite, NON_FINITE)
        walk.aim()
        return walk


def _closed_form(at: Sums, unknown: "Tensor") -> "Tensor":
    """Return by how much (f, m) the unknown linear parameters move to their least squares; 0 for the others."""
    norm = lengths(at.gram)
    factor = Cholesky.of(without(scaled(at.gram, norm), ~unknown))
    change = -factor.solve((at.gradient / norm).masked_fill(~unknown, 0.0)) / norm
    return torch.where(torch.isfinite(change), change, 0.0)


# ---------------------------------------------------------------------------- fits under way


class _Newton(NamedTuple):
    """The undamped step of m fits: the attributes are those of `solve.lockstep.numpy`."""

    h: "Tensor"
    held: "Tensor"
    removable: "Tensor"
    share: "Tensor"
    there: "Tensor"
    roughly: "Tensor"


@dataclass(eq=False)  # the state of a walk: its tensors are replaced as the fits advance
class Walk:
    """Fits under way, along the last axis of every tensor, with the step `h` that each will try next.

    What is meant by the tensors is said in `solve.lockstep.numpy`. Fits that have ended stay until they are an eighth of all.
    """

    task: Task
    points: Points
    mend: frozenset[int]
    fit: "Tensor"
    count: "Tensor"
    p: "Tensor"
    now: Sums
    norm: "Tensor"
    mu: "Tensor"
    nu: "Tensor"
    goal: "Tensor"
    phase: "Tensor"
    last: "Tensor"
    worst: "Tensor"
    before: "Tensor"
    relax: "Tensor"
    h: "Tensor"
    done: "Tensor"
    stuck: "Tensor"
    status: "Tensor"

    def turn(self, ends: Ends) -> "Walk | None":
        """Return the fits that go on, one step further; the others are written into `ends`."""
        walk = replace(self)
        odd = walk.step()
        walk.aim()
        ended, *seen = torch.cat([(walk.phase == ENDED).sum()[None], odd]).tolist()  # the host waits here
        if any(seen):
            return replace(self, mend=self.mend | {i for i, s in enumerate(seen) if s}).turn(ends)
        return walk if 8 * ended < len(self.fit) else walk.sieved(ends)

    def end(self, which: "Tensor", status: "Tensor | int") -> None:
        """Let fits rest where they are."""
        self.status = torch.where(which, status, self.status).to(torch.int8)
        self.phase = torch.where(which, ENDED, self.phase)

    # ------------------------------------------------------------------ directions

    def aim(self) -> None:
        """Set the step that each fit tries next, or its end."""
        newton = self._newton()
        self._finish(newton)
        late = (self.phase != ENDED) & (self.done >= self.task.settings.max_iterations)
        self.end(late, torch.where(newton.roughly, CONVERGED, MAX_ITERATIONS))
        self.h = torch.where(self.phase == WALKING, self._damped(newton.held), self.h)

    def _newton(self) -> _Newton:
        task, now, limits = self.task, self.now, self.task.limits
        p, downhill = self.p[task.free], -now.gradient
        held = ((p <= task.lower) & (downhill < 0)) | ((p >= task.upper) & (downhill > 0))
        norm = lengths(now.gram)
        matrix, gradient = without(scaled(now.gram, norm), held), (now.gradient / norm).masked_fill(held, 0.0)
        step = Cholesky.of(matrix).solve(gradient)
        removable = dot(gradient, step)
        h = -step / norm
        u, size = self.norm * h, self.norm * p
        share = dot(u, u) / dot(size, size).clamp_min(1e-300)
        near = (now.cost == 0) | (share <= limits.near)
        there, roughly = removable <= limits.there * now.cost, removable <= limits.roughly * now.cost
        return _Newton(h, held, removable, share, there | near, roughly | near)

    def _damped(self, held: "Tensor") -> "Tensor":
        """Return the damped steps (f, m), which stay inside the bounds.

        A parameter whose step would cross its bound goes to the bound, and the others are solved again for that.
        """
        task, now = self.task, self.now
        matrix, gradient = scaled(now.gram, self.norm), now.gradient / self.norm
        matrix.diagonal(dim1=0, dim2=1).T.add_(self.mu)
        if not task.bounded:
            return -Cholesky.of(matrix).solve(gradient) / self.norm
        p = self.p[task.free]
        least, most = (task.lower - p) * self.norm, (task.upper - p) * self.norm
        stopped, u = held, torch.zeros_like(p)
        for _ in range(task.bounded + 1):
            pull = gradient + times(matrix, u.masked_fill(~stopped, 0.0))
            step = -Cholesky.of(without(matrix, stopped)).solve(pull.masked_fill(stopped, 0.0))
            u = torch.where(stopped, u, step)
            stopped = stopped | (u < least) | (u > most)
            u = torch.minimum(torch.maximum(u, least), most)
        return u / self.norm

    # ------------------------------------------------------------------ ends

    def _finish(self, newton: _Newton) -> None:
        """Set the undamped steps to try; fits whose last digits are reached end, others go back to damped steps."""
        limits = self.task.limits
        enter = (newton.removable <= self.goal * self.now.cost) | self.stuck | (newton.share <= limits.end)
        enter &= self.phase == WALKING
        self.phase = torch.where(enter, FINISHING, self.phase)
        self.last, self.worst = self.last.masked_fill(enter, torch.inf), self.worst.masked_fill(enter, 0.0)
        self.relax = self.relax.masked_fill(enter, 1.0)
        finishing = self.phase == FINISHING
        length, u = newton.share.sqrt(), self.norm * newton.h
        again = self.last < torch.inf
        ratio = torch.where(again, dot(u, self.before) / dot(self.before, self.before), 0.0)
        overshot = again & (self.relax == 1) & (ratio < 0)
        shrinks = ((length < 0.9 * self.last) | overshot) & (length > 1e-16)
        worst = torch.maximum(self.worst, length / self.last)
        self.worst = torch.where(again & ~overshot, worst, self.worst)
        self.relax = torch.where(ratio < 0.9, (self.relax / (1 - ratio)).clamp(0.01, 10.0), self.relax)
        self.h = newton.h * self.relax
        self._end_near(newton, finishing & shrinks, again)
        over = finishing & ~shrinks
        there = newton.there | (self.stuck & newton.roughly)
        self.end(over & there, CONVERGED)
        self.end(over & ~there & self.stuck, STALLED)
        back = over & (self.phase == FINISHING)
        lower = torch.minimum(self.goal * 1e-2, 1e-2 * newton.removable / self.now.cost)
        self.goal = torch.where(back, lower, self.goal)
        self.phase = torch.where(back, WALKING, self.phase)
        self.last, self.before = torch.where(finishing, length, self.last), u

    def _end_near(self, newton: _Newton, which: "Tensor", again: "Tensor") -> None:
        """End fits whose next step leaves nothing to be seen: it is made without looking."""
        task, now = self.task, self.now
        variance = now.cost / (self.count - len(task.free)).clamp_min(1)
        if task.settings.absolute or task.loss == "poisson":
            variance = variance.clamp_max(1.0)
        error = newton.removable / variance  # squared, in standard errors
        wanted = max(task.settings.tolerance, task.limits.tolerance) ** 2
        small = (error <= wanted) | (again & (self.worst * self.worst * error <= wanted))
        near = which & (error <= task.limits.offset) & small
        self.end(near, CONVERGED)
        q = self.p[task.free]
        self.p = task.placed(self.p, torch.where(near, task.inside(q + self.h), q))
        self.now = now._replace(cost=torch.where(near, now.cost - newton.removable, now.cost))

    def sieved(self, ends: Ends) -> "Walk | None":
        """Return the fits that go on; the others are written into `ends`."""
        over = self.phase == ENDED
        self.rows(torch.nonzero(over).squeeze(1)).write(ends)
        going = torch.nonzero(~over).squeeze(1)
        return self.rows(going) if len(going) else None

    def write(self, ends: Ends) -> None:
        """Write the fits into their places."""
        task, k = self.task, len(self.p)
        errors, unknown = standard_errors(
            Fitted(task.model, self.points, self.p, self.now, self.count, self.mend),
            lower=task.lower, upper=task.upper, loss=task.loss, absolute=task.settings.absolute,
        )  # fmt: skip
        status = torch.where(unknown & (self.status == CONVERGED), SINGULAR, self.status)
        rows = [self.fit, self.done, status, self.now.cost]
        told = torch.cat([torch.stack([row.double() for row in rows]), self.p, errors]).cpu().numpy()
        fit = told[0].astype(np.int64)
        ends.iterations[fit], ends.status[fit] = told[1], told[2]
        known = told[2] != NON_FINITE
        fit, told = fit[known], told[:, known]
        ends.rss[fit] = told[3]
        ends.parameters[fit] = told[4 : 4 + k].T
        ends.stderr[np.ix_(fit, task.model.free)] = told[4 + k :].T

    # ------------------------------------------------------------------ steps

    def step(self) -> "Tensor":
        """Try the steps, each fit takes its own if that is good for it; return the odd derivatives (f,) that were met."""
        task, now, active = self.task, self.now, self.phase != ENDED
        q = self.p[task.free]
        inside = task.inside(q + self.h)
        trial, h = task.placed(self.p, inside), inside - q
        new = sums(task.model, self.points, trial, loss=task.loss, mend=self.mend)
        promised = -dot(2 * now.gradient + times(now.gram, h), h)
        drop = torch.where(new.finite, now.cost - new.cost, -torch.inf)
        walking = self.phase == WALKING
        allowed = drop >= -task.limits.rise * now.cost - 1e-300
        taken = active & torch.where(walking, (drop > 0) & (promised > 0), allowed)
        bend = 2 * drop / promised - 1
        easier = self.mu * (1 - bend * bend * bend).clamp_min(1 / 3)
        refused = walking & ~taken
        nothing = refused & ((promised <= task.limits.stuck * now.cost) | (self.mu > 1e20))
        self.stuck = torch.where(walking, nothing, self.stuck)
        moved = torch.where(taken, easier.clamp_min(1e-15), self.mu * self.nu)
        self.mu = torch.where(walking, moved, self.mu)
        self.nu = torch.where(refused, 2 * self.nu, torch.where(walking, 2.0, self.nu))
        self.last = self.last.masked_fill(
            ~walking & ~taken, 0.0
        )  # no shorter step can follow: finishing is over
        self.p, self.now = torch.where(taken, trial, self.p), now.chosen(taken, new)
        longest = torch.maximum(self.norm, lengths(self.now.gram))
        self.norm = torch.where(walking & taken, longest, self.norm)
        self.done = self.done + active.int()
        return (new.odd & active).any(1)

    # ------------------------------------------------------------------ company

    def rows(self, which: "Tensor") -> "Walk":
        """Return some of the fits."""
        own = {name: getattr(self, name)[..., which] for name in self._tensors()}
        return replace(self, points=self.points.rows(which), now=self.now.rows(which), **own)

    def joined(self, more: "Walk") -> "Walk":
        """Return these fits together with others of the same task."""
        own = {name: torch.cat([getattr(self, name), getattr(more, name)], -1) for name in self._tensors()}
        points, now = self.points.joined(more.points), self.now.joined(more.now)
        return replace(self, points=points, now=now, mend=self.mend | more.mend, **own)

    def _tensors(self) -> list[str]:
        return [f.name for f in fields(self) if f.name not in ("task", "points", "mend", "now")]
