"""What a search for start values looks at, for each way to evaluate a model: one draw at a time, many, in machine code."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import Graph
from gradfit.solve.counts import brought_inside
from gradfit.solve.lm import LM, minimise
from gradfit.solve.lockstep import native as lockstep_native
from gradfit.solve.lockstep.batch import CONVERGED, Batch, Cost, Ends, Settings
from gradfit.solve.problem import ModelProblem
from gradfit.solve.separable import projected
from gradfit.solve.start import different

Array = NDArray[np.float64]

BLOCK = 4_000_000  # numbers in one block of draws: what fits beside the cache without paging
STEPS = 10  # of a draw in machine code: enough to tell a promising one
FAR = 200  # steps of a refined one
LOOKED_AT = 100  # rows that tell one curve from another
FEW_ROWS = 500  # that a draw is walked on
FAR_OUT = 1e60  # size of numbers beyond which machine code, which works with squares, is no use
POLISHED = 8  # ends of different kinds that are finished with all means


@dataclass(frozen=True, eq=False)
class OneByOne:
    """A model that is evaluated for one set of parameters at a time.

    Counts are searched by the least-squares problem that is like theirs, and each refinement ends at the likelihood.

    Attributes
    ----------
    rows : ModelProblem
        What is fitted.
    linear : (l,) int
        Free parameters that are solved in closed form at each draw.
    lower, upper : (f,)
        Bounds.
    """

    rows: ModelProblem
    linear: NDArray[np.int64]
    lower: Array
    upper: Array

    @cached_property
    def problem(self) -> ModelProblem:
        """The least-squares problem."""
        return self.rows.quadratic()

    @cached_property
    def free(self) -> NDArray[np.int64]:
        """Places of the free parameters."""
        free = self.problem.free
        return np.arange(len(self.problem.template)) if free is None else free

    def lowered(self, points: Array, /) -> tuple[Array, Array, Array]:
        """Return draws (f, m) as they are, their sums of squares (m,) and residuals (m, n)."""
        residuals = np.stack([self.problem.residual(p) for p in points.T])
        return points, _sums(residuals), residuals

    def minima(self, points: Array, /) -> Iterator[tuple[Array, float]]:
        """Yield where fits from these starts (f, m) end, and the loss there."""
        for start in points.T:
            yield self.refined(start)

    def refined(self, start: Array) -> tuple[Array, float]:
        """Return the minimum below a start, and its loss; infinite where the model is not finite.

        Raises
        ------
        KeyboardInterrupt
            If the user stopped the fit.
        """
        point, loss = self._squared(start)
        if not self.rows.counts or not np.isfinite(loss):
            return point, loss
        bounds = self.lower, self.upper
        point = brought_inside(self.rows, point, bounds)
        done = minimise(self.rows, point, bounds=bounds, settings=LM(max_iterations=100))
        if done.status == "interrupted":
            raise KeyboardInterrupt
        return done.parameters, done.loss if np.isfinite(done.loss) else np.inf

    def _squared(self, start: Array) -> tuple[Array, float]:
        if not np.isfinite(self.problem.residual(start)).all():
            return start, np.inf
        bounds, settings = (self.lower, self.upper), LM(max_iterations=100)
        if len(self.linear):
            point, loss = projected(self.problem, self.linear, start, bounds, settings=settings)
            if np.isfinite(loss):
                return point, loss
        done = minimise(self.problem, start, bounds=bounds, settings=settings)
        if done.status == "interrupted":
            raise KeyboardInterrupt
        return done.parameters, done.loss


class AllAtOnce(OneByOne):
    """A graph that NumPy evaluates for many sets of parameters at a time."""

    def lowered(self, points: Array, /) -> tuple[Array, Array, Array]:
        """Return draws (f, m) with their linear parameters solved, their sums of squares (m,) and residuals (m, n)."""
        width = max(1, BLOCK // (len(self.problem.y) * max(1, len(points))))
        parts = [self._solved(points[:, i : i + width]) for i in range(0, points.shape[1], width)]
        return (
            np.concatenate([p[0] for p in parts], axis=1),
            np.concatenate([p[1] for p in parts]),
            np.concatenate([p[2] for p in parts]),
        )

    def _solved(self, points: Array) -> tuple[Array, Array, Array]:
        problem = self.problem
        value, jacobian = problem.model.value_jacobian(problem.columns, self.whole(points)[:, :, None])
        residuals, basis = value - problem.y, jacobian[self.free[self.linear]]
        if problem.weight is not None:
            residuals, basis = residuals * problem.weight, basis * problem.weight
        if len(basis):
            change = _closed_form(residuals, basis)
            with np.errstate(all="ignore"):
                residuals = residuals + np.einsum("lmn,lm->mn", basis, change)
            points = points.copy()
            points[self.linear] += change
        return points, _sums(residuals), residuals

    def whole(self, points: Array) -> Array:
        """Return all parameters (k, m) for the free ones (f, m)."""
        whole = np.repeat(np.nan_to_num(self.problem.template)[:, None], points.shape[1], axis=1)
        whole[self.free] = points
        return whole


def _closed_form(residuals: Array, basis: Array) -> Array:
    """Return by how much (l, m) linear parameters with derivatives (l, m, n) move to the least squares."""
    with np.errstate(all="ignore"):
        lengths = np.abs(basis).max(axis=2)  # of very large or small ones no squares can be taken
        lengths *= np.sqrt(((basis / lengths[:, :, None]) ** 2).sum(axis=2))
        lengths = np.where((lengths > 0) & np.isfinite(lengths), lengths, 1.0)
        unit = basis / lengths[:, :, None]
        gram = np.einsum("imn,jmn->mij", unit, unit) + 1e-12 * np.eye(len(basis))
        reach = np.einsum("lmn,mn->ml", unit, residuals)
    usable = np.isfinite(gram).all((1, 2)) & np.isfinite(reach).all(1)
    change = np.zeros_like(reach)
    change[usable] = np.linalg.solve(gram[usable], -reach[usable][..., None])[..., 0]
    return change.T / lengths


def _sums(residuals: Array) -> Array:
    with np.errstate(all="ignore"):
        sums = np.einsum("mn,mn->m", residuals, residuals)
    return np.where(np.isfinite(sums), sums, np.inf)


@dataclass(frozen=True, eq=False)
class Compiled(AllAtOnce):
    """A graph in machine code: each draw goes some steps downhill, so that a valley shows how deep it is."""

    graph: Graph

    @staticmethod
    def can_search(graph: Graph | None, rows: ModelProblem, free: NDArray[np.int64]) -> bool:
        """Return whether there is machine code for such a search."""
        sizes = [
            np.abs(part).max(initial=0.0) for part in (*rows.columns, rows.y, rows.weight) if part is not None
        ]
        squares = all(size == 0 or 1 / FAR_OUT < size < FAR_OUT for size in sizes)
        return squares and len(rows.y) > len(free) and lockstep_native.can_solve(graph, free, Cost())

    def lowered(self, points: Array, /) -> tuple[Array, Array, Array]:
        """Return draws (f, m) some steps on, their sums of squares (m,), and residuals (m, r) at a few of the rows."""
        ends = self._walked(thinned(self.problem, FEW_ROWS), points, STEPS)
        points = np.where(
            np.isfinite(ends.parameters[:, self.free].T), ends.parameters[:, self.free].T, points
        )
        residuals = self._residuals(points)
        usable = np.isfinite(ends.rss) & np.isfinite(residuals).all(axis=1)
        return points, np.where(usable, ends.rss, np.inf), residuals

    def minima(self, points: Array, /) -> Iterator[tuple[Array, float]]:
        """Yield where fits from these starts (f, m) end, and the loss there; the best that need it are finished with care."""
        ends = self._walked(self.problem, points, FAR)
        found = np.where(
            np.isfinite(ends.parameters[:, self.free].T), ends.parameters[:, self.free].T, points
        )
        losses = np.where(np.isfinite(ends.rss), ends.rss, np.inf)
        best = different(losses, self._residuals(found), POLISHED)
        care = {i for i in best if self.rows.counts or ends.status[i] != CONVERGED}
        for i in best if self.rows.counts else range(len(losses)):
            yield self._lower(found[:, i], float(losses[i])) if i in care else (found[:, i], float(losses[i]))

    def _lower(self, point: Array, loss: float) -> tuple[Array, float]:
        end, lower = self.refined(point)
        return (end, lower) if self.rows.counts or lower < loss else (point, loss)

    def _walked(self, problem: ModelProblem, points: Array, steps: int) -> Ends:
        k, n = len(problem.template), len(problem.y)
        start = self.whole(points).T
        start[:, self.free[self.linear]] = np.nan
        lower, upper = np.full(k, -np.inf), np.full(k, np.inf)
        lower[self.free], upper[self.free] = self.lower, self.upper
        ends = Ends.blank(len(start), k)
        width = max(1, BLOCK // n)
        for i in range(0, len(start), width):
            part = slice(i, i + width)
            y = np.broadcast_to(problem.y, (len(start[part]), n))
            ends.put(part, lockstep_native.solve(
                self.graph, Batch(tuple(problem.columns), y, problem.weight), start[part], free=self.free,
                lower=lower, upper=upper, loss=Cost(), settings=Settings(max_iterations=steps),
            ))  # fmt: skip
        return ends

    def _residuals(self, points: Array) -> Array:
        few = thinned(self.problem, LOOKED_AT)
        residuals = few.model.value(few.columns, self.whole(points)[:, :, None]) - few.y
        return residuals if few.weight is None else residuals * few.weight


def thinned(problem: ModelProblem, most: int) -> ModelProblem:
    """Return the problem on at most so many of its rows, each from its own stretch; evenly spaced ones would hide waves."""
    rows = len(problem.y)
    if rows <= most:
        return problem
    pick = ((np.arange(most) + np.random.default_rng(0).random(most)) * (rows / most)).astype(int)
    weight = None if problem.weight is None else problem.weight[pick]
    return problem._replace(columns=[c[pick] for c in problem.columns], y=problem.y[pick], weight=weight)
