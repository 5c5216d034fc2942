"""All fits of one call, block by block: start values, the executor, and a second pass for those that failed."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from math import prod

import numpy as np

from gradfit.kernel import Kernel as ColumnKernel
from gradfit.loss import Loss, standard_deviation
from gradfit.many.executors import Executor
from gradfit.many.rows import Array, Block, Indices, Source
from gradfit.many.second import (
    alone,
    better,
    failed,
    missing_much,
    neighbours,
    part,
    single,
    without_effect,
    worth_care,
)
from gradfit.many.starts import Candidates, best_start, candidates, guessed, linear_parameters
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.prepare import Parameters
from gradfit.solve.batch import (
    NON_FINITE,
    SINGULAR,
    Cost,
    Ends,
    Kernel,
    Settings,
    residuals_jacobian,
)
from gradfit.solve.problem import ModelProblem


@dataclass(frozen=True)
class OneByOne:
    """A model without a graph as a kernel of many sets: one after the other."""

    kernel: ColumnKernel

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (m, n) for parameters (k, m, 1)."""
        return np.stack(
            [self.kernel.value(_of(columns, i), parameters[:, i, 0]) for i in range(parameters.shape[1])]
        )

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (m, n) and its derivatives (k, m, n)."""
        both = [
            self.kernel.value_jacobian(_of(columns, i), parameters[:, i, 0])
            for i in range(parameters.shape[1])
        ]
        return np.stack([v for v, _ in both]), np.stack([j.T for _, j in both], axis=1)


def _of(columns: Sequence[Array], fit: int) -> list[Array]:
    return [np.ascontiguousarray(c[fit]) if c.ndim == 2 else c for c in columns]


@dataclass(eq=False)  # what was found for starts, and sentences on it, are noted on the way
class Task:
    """The fits of one call.

    Attributes
    ----------
    starts : (m, k)
        What is known of each fit's start; NaN elsewhere, fixed parameters at their values.
    counts : bool
        Whether observations are counts.
    library : str
        The library model whose guess is used, empty for none.
    """

    source: Source
    model: BoundModel
    parameters: Parameters
    starts: Array
    loss: Loss
    counts: bool
    executor: str
    settings: Settings
    drop: bool
    seed: int
    library: str
    how: list[str] = field(default_factory=list[str])
    found: Candidates | None = None

    def __post_init__(self) -> None:
        kernel = self.model.kernel("numpy")
        self.kernel: Kernel = kernel if self.model.graph is not None else OneByOne(kernel)
        self.executor_used = Executor.named(self.executor, self.kernel, self.model.graph)
        self.linear = linear_parameters(self.model, self.parameters)

    def run(self) -> tuple[Ends, Indices]:
        """Return where all fits ended, and how many points of each were dropped."""
        m = prod(self.source.shape)
        ends, dropped = Ends.blank(m, len(self.model.parameters)), np.zeros(m, dtype=np.int64)
        self._look_for_starts()
        for block in self.source.blocks(self.model, drop=self.drop):
            ends.put(block.fits, self._block(block))
            dropped[block.fits] = block.dropped
        return ends, dropped

    # ------------------------------------------------------------------ starts

    @property
    def unknown(self) -> bool:
        """Whether some fit lacks a start value that no closed form gives."""
        needed = np.setdiff1d(self.parameters.free, self.linear)
        return bool(np.isnan(self.starts[:, needed]).any())

    def _look_for_starts(self) -> None:
        if not self.unknown:
            return
        if self.library:
            self.how.append("Start values are the library model's own guess for each fit")
            return
        self.found = candidates(
            self.source, self.model, self.parameters, self._problem, starts=self.starts, seed=self.seed
        )
        self.how.append(
            f"Start values were searched on {count(self.found.searched, 'fit')}; each fit began at the best of the "
            f"{count(len(self.found.values), 'different answer')}"
        )

    def _problem(self, fit: int) -> ModelProblem | None:
        """Return one fit's residuals for the search; None where it has too few points."""
        batch, free = self.source.one(fit, self.model).batch, self.parameters.free
        problem = single(self.model.kernel("numpy"), batch, 0, template=self.starts[fit], free=free)
        return problem if len(problem.y) > len(free) else None

    def _starts(self, block: Block) -> Array:
        starts = self.starts[block.fits]
        if self.library and self.unknown:
            return guessed(self.library, self.model, block, starts)
        if self.found is None:
            return starts
        return best_start(
            self.kernel, block.batch, starts, self.found.values, parameters=self.parameters, loss=Cost()
        )[0]

    # ------------------------------------------------------------------ one block

    def _block(self, block: Block) -> Ends:
        starts = self._starts(block)
        ends = self._solved(block, starts)
        self._apart(block, starts, ends)
        if self.unknown:
            self._other_starts(block, ends)
        if not self.counts and (not self.loss.robust or self.loss.scale is not None):
            self._carefully(block, starts, ends)
        self._judge_constant(block, ends)
        with np.errstate(over="ignore"):
            ends.rss[:] = ends.rss / block.unit / block.unit
        return ends

    def _apart(self, block: Block, starts: Array, ends: Ends) -> None:
        """Begin failed fits again at the same place, with the linear parameters solved there."""
        if len(self.linear) and not np.isnan(starts[:, self.linear]).all():
            starts = starts.copy()
            starts[:, self.linear] = np.nan
            self._try(block, failed(ends), starts, ends)

    def _other_starts(self, block: Block, ends: Ends) -> None:
        """Begin fits again that failed or miss much, from each answer of the search and from other fits' answers."""
        given = self.starts[block.fits]
        for option in [] if self.found is None else self.found.values:
            self._try(block, failed(ends), np.where(np.isnan(given), option, given), ends)
        for _ in range(2):
            which = missing_much(block, ends, len(self.parameters.free))
            which, better_starts = neighbours(
                self.kernel, block, ends, given, which=which, linear=self.linear, parameters=self.parameters
            )
            if not len(which):
                return
            given_again = given.copy()
            given_again[which] = better_starts
            self._try(block, which, given_again, ends)

    def _carefully(self, block: Block, starts: Array, ends: Ends) -> None:
        """Solve the fits by orthogonal factors that squares were too coarse for."""
        careful = alone(
            self.model.kernel("numpy"), block, ends, starts,
            parameters=self.parameters, linear=self.linear, absolute=self.settings.absolute,
        )  # fmt: skip
        late = self.settings.max_iterations >= Settings().max_iterations  # a user who gave fewer meant it
        which = worth_care(self.kernel, block, ends, self.parameters.free, late=late)
        for i in which.tolist():
            scale = None if self.loss.scale is None else self.loss.scale * float(block.unit[i])
            self._keep(np.array([i]), careful(i, replace(self.loss, scale=scale)), ends)

    def _judge_constant(self, block: Block, ends: Ends) -> None:
        """Call fits of a constant response singular where parameters do nothing there."""
        free = self.parameters.free
        nonlinear = np.setdiff1d(free, self.linear)
        which, nothing = without_effect(self.kernel, block, ends, free=free, nonlinear=nonlinear)
        ends.status[which] = SINGULAR
        for row, lost in zip(which.tolist(), nothing, strict=True):
            ends.stderr[row, free[lost]] = np.nan

    def _try(self, block: Block, which: Indices, starts: Array, ends: Ends) -> None:
        """Fit some of a block again from other starts (m, k), and keep what is better."""
        if len(which):
            self._keep(which, self._solved(part(block, which), starts[which]), ends)

    def _keep(self, which: Indices, again: Ends, ends: Ends) -> None:
        """Keep what is better of other ends of some fits."""
        won = better(again, ends.rows(which))
        ends.put(which[won], again.rows(won))

    # ------------------------------------------------------------------ losses

    def _solved(self, block: Block, starts: Array) -> Ends:
        if self.counts:
            return self._counted(block, starts)
        if not self.loss.robust:
            return self._solve(block, starts, Cost())
        if self.loss.scale is not None:
            return self._solve(block, starts, Cost(self.loss.name, self.loss.scale * block.unit))
        ends = self._solve(block, starts, Cost())
        scale, todo = np.full(len(starts), np.nan), np.flatnonzero(np.isfinite(ends.parameters).all(axis=1))
        for _ in range(20):
            new = np.maximum(
                self.loss.tuning * self._deviation(part(block, todo), ends.parameters[todo]), 1e-300
            )
            moved = ~(np.abs(new - scale[todo]) <= 1e-6 * new)
            scale[todo] = new
            todo = todo[moved]
            if not len(todo):
                break
            robust = Cost(self.loss.name, scale[todo])
            ends.put(todo, self._solve(part(block, todo), ends.parameters[todo], robust))
            todo = todo[np.isfinite(ends.parameters[todo]).all(axis=1)]
        return ends

    def _deviation(self, block: Block, parameters: Array) -> Array:
        """Return the robust standard deviation (m,) of the weighted residuals, as a single fit estimates it."""
        batch, free = block.batch, self.parameters.free
        residuals = residuals_jacobian(self.kernel, batch, parameters.T.copy(), free)[1]
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
        lost_block = part(block, lost)
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
        return self.executor_used.solve(
            block.batch, starts, parameters=known, loss=loss, settings=self.settings
        )
