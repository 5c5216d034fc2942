"""One block of fits by any executor: least squares, robust losses with a scale of their own, counts."""

from dataclasses import dataclass, replace

import numpy as np

from gradfit.loss import Loss, standard_deviation
from gradfit.many.executors import Executor
from gradfit.many.rows import Array, Block, Indices
from gradfit.prepare import Parameters
from gradfit.solve.lockstep.batch import NON_FINITE, Cost, Ends, Settings, residuals_jacobian

_SCALES = 20  # rounds in which a robust loss finds its scale


@dataclass(frozen=True, eq=False)
class Solver:
    """What the fits of one call have in common.

    Attributes
    ----------
    executor : Executor
        What runs them.
    parameters : Parameters
        Bounds and what is free.
    linear : (l,) int
        Parameters that enter linearly.
    loss : Loss
        Of residuals.
    counts : bool
        Whether observations are counts, whose deviance is made small.
    settings : Settings
        Of the solver.
    """

    executor: Executor
    parameters: Parameters
    linear: Indices
    loss: Loss
    counts: bool
    settings: Settings

    @property
    def plain(self) -> "Solver":
        """The same in NumPy."""
        return replace(self, executor=self.executor.plain)

    def alone(self) -> "Solver":
        """Return the same on one thread."""
        return replace(self, settings=replace(self.settings, threads=1))

    def solved(self, block: Block, starts: Array) -> Ends:
        """Return where the fits of a block end from starts (m, k)."""
        if self.counts:
            return self._counted(block, starts)
        if not self.loss.robust:
            return self._solve(block, starts, Cost())
        if self.loss.scale is not None:
            return self._solve(block, starts, Cost(self.loss.name, self.loss.scale * block.unit))
        return self._scaled(block, starts)

    def _scaled(self, block: Block, starts: Array) -> Ends:
        """Return fits by a robust loss whose scale follows from the residuals."""
        ends = self._solve(block, starts, Cost())
        scale, todo = np.full(len(starts), np.nan), np.flatnonzero(np.isfinite(ends.parameters).all(axis=1))
        for _ in range(_SCALES):
            new = np.maximum(
                self.loss.tuning * self._deviation(block.part(todo), ends.parameters[todo]), 1e-300
            )
            moved = ~(np.abs(new - scale[todo]) <= 1e-6 * new)
            scale[todo] = new
            todo = todo[moved]
            if not len(todo):
                break
            robust = Cost(self.loss.name, scale[todo])
            ends.put(todo, self._solve(block.part(todo), ends.parameters[todo], robust))
            todo = todo[np.isfinite(ends.parameters[todo]).all(axis=1)]
        return ends

    def _deviation(self, block: Block, parameters: Array) -> Array:
        """Return the robust standard deviation (m,) of the weighted residuals, as a single fit estimates it."""
        batch, free = block.batch, self.parameters.free
        residuals = residuals_jacobian(self.executor.kernel, batch, parameters.T.copy(), free)[1]
        used = np.ones(residuals.shape, dtype=bool)
        if batch.weight is not None:
            residuals, used = residuals * batch.weight, np.broadcast_to(batch.weight != 0, used.shape)
        return np.array(
            [standard_deviation(row[keep], len(free)) for row, keep in zip(residuals, used, strict=True)]
        )

    def _counted(self, block: Block, starts: Array) -> Ends:
        """Return maximum-likelihood fits; where the model is not positive at the start, it is brought there first."""
        ends = self._solve(block, starts, Cost("poisson"))
        lost = np.flatnonzero(ends.status == NON_FINITE)
        if not len(lost):
            return ends
        lost_block = block.part(lost)
        floor = replace(self.parameters, lower=self.parameters.lower.copy())
        floor.lower[self.linear] = np.maximum(floor.lower[self.linear], 0.0)
        squares = self._solve(lost_block, starts[lost], Cost(), floor)
        level = np.maximum(1e-3 * np.mean(lost_block.batch.y, axis=1), 1e-6)[:, None]
        near = squares.parameters.copy()
        near[:, self.linear] = np.maximum(near[:, self.linear], level)
        ends.put(lost, self._solve(lost_block, near, Cost("poisson")))
        return ends

    def _solve(self, block: Block, starts: Array, loss: Cost, parameters: Parameters | None = None) -> Ends:
        known = self.parameters if parameters is None else parameters
        return self.executor.solve(block.batch, starts, parameters=known, loss=loss, settings=self.settings)
