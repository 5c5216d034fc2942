"""Start values where nothing is known: searches on a few of the fits, until they find nothing that the others' answers do not."""

from dataclasses import dataclass, replace

import numpy as np

from gradfit.errors import ModelError
from gradfit.loss import Loss
from gradfit.many.lost import Lost, Part
from gradfit.many.rows import Array, Block, Indices, Source, even_places
from gradfit.many.second import better, single, spread_out
from gradfit.many.solving import Solver
from gradfit.model import BoundModel
from gradfit.options import Options
from gradfit.solve.lm import LM
from gradfit.solve.lockstep.batch import TOO_FEW, Batch, Cost, Ends
from gradfit.solve.lockstep.numpy import standing
from gradfit.starting import searched

SAMPLE = 32  # fits that are looked at
SEARCHED = 8  # of them are searched at most
MOST = 16  # start values
GAIN = 0.01  # of the variation of the sample that another start value explains at least
POINTS = 200  # of a fit that start values are compared at
STEPS = 50  # of a fit that begins from another one's answer
SPREAD = 8  # ends of one search that the other fits begin from
LOWER = 0.999  # of a loss, below which it is another minimum
VAIN = 2  # searches without a lower minimum after which no more follow
MUCH = 4.0  # times what the best quarter of the fits miss, that is doubtful
ALIKE = 1e-3  # relative difference below which two answers are one start


@dataclass(frozen=True, eq=False)
class Candidates:
    """A few answers to begin from.

    Attributes
    ----------
    values : (c, k)
        Start values; NaN for parameters that are solved in closed form or given.
    searched : int
        Fits that were searched.
    """

    values: Array
    searched: int


def candidates(
    source: Source, model: BoundModel, solver: Solver, *, starts: Array, executor: str, seed: int
) -> Candidates:
    """Return different answers of a few of the fits.

    One fit is searched, and the others begin from the ends of that search, and from each other's. Then those that miss their
    points most by far, one after the other, as long as searches find lower minima than were known.

    Parameters
    ----------
    starts : (m, k)
        What is known of each fit's start.
    executor : str
        That evaluates the draws.

    Raises
    ------
    ModelError
        If no search finds a finite model.
    """
    sample = _Sample.of(source, model, solver, starts=starts, seed=seed)
    options = Options(Loss(), LM(), executor, search=False, seed=seed, callback=None)
    failure: ModelError | None = None
    count, vain = 0, 0
    while count < SEARCHED and vain < VAIN and len(sample.todo):
        fit, doubt = sample.next()
        if doubt < MUCH:
            break
        count += 1
        try:
            vain = 0 if sample.search(fit, options) else vain + 1
        except ModelError as error:
            failure = error
    answers = sample.answers()
    if not len(answers):
        raise failure or ModelError(
            f"None of the fits of {source.about} has enough points to search for start values",
            remedy="Give start values",
        )
    answers[:, solver.linear] = np.nan
    answers = _different(answers)
    return Candidates(answers[_covering(sample.left(answers))], count)


def _different(answers: Array) -> Array:
    """Return answers (c, k) that are no copies of earlier ones."""
    out: list[Array] = []
    for answer in answers:
        near = [
            (np.abs(answer - other) < ALIKE * np.abs(answer)) | (answer == other) | np.isnan(answer)
            for other in out
        ]
        if not any(same.all() for same in near):
            out.append(answer)
    return np.array(out)


def _covering(left: Array) -> list[int]:
    """Return a few columns of shares that are left (fits, answers), which together leave little of every fit.

    >>> _covering(np.array([[0.0, 0.9, 0.1], [0.9, 0.0, 0.1], [0.9, 0.9, 0.1]])), _covering(np.array([[0.5, 0.5]]))
    ([2, 0, 1], [0])
    """
    chosen = [int(np.argmin(left.sum(axis=0)))]
    now = left[:, chosen[0]]
    while len(chosen) < MOST:
        gain = np.maximum(now[:, None] - left, 0.0).mean(axis=0)
        best = int(np.argmax(gain))
        if not gain[best] > GAIN:
            break
        chosen.append(best)
        now = np.minimum(now, left[:, best])
    return chosen


class _Sample:
    """Some of the fits, and the lowest minimum of each that is known."""

    def __init__(self, model: BoundModel, solver: Solver, parts: list[Part], order: Indices) -> None:
        self.model, self.solver, self.parts = model, solver, parts
        self.fits = order  # in which they are searched at random
        self.todo = order.tolist()

    @classmethod
    def of(cls, source: Source, model: BoundModel, solver: Solver, *, starts: Array, seed: int) -> "_Sample":
        """Return a sample of fits that have more points than unknowns."""
        free, lost, fits = len(solver.parameters.free), Lost(), list[int]()
        for fit in np.random.default_rng(seed).permutation(even_places(len(starts), 4 * SAMPLE)).tolist():
            block = replace(source.one(fit, model), fits=np.array([fit]))
            if block.batch.points()[0] > free:
                fits.append(fit)
                lost.add(Part(block, starts[[fit]], Ends.blank(1, starts.shape[1])))
            if len(fits) == SAMPLE:
                break
        settings = replace(solver.settings, max_iterations=min(STEPS, solver.settings.max_iterations))
        squares = replace(solver, loss=Loss(), counts=False, settings=settings)
        return cls(model, squares, list(lost.together()), np.array(fits, dtype=np.int64))

    def next(self) -> tuple[int, float]:
        """Return the fit to search next, and how many times it misses what the best quarter do; infinite where it was not made.

        Both of its points' variation and for each point: much of noise alone is always missed, and of a high peak little.
        """
        share = np.concatenate([p.ends.rss / self._variation(p) for p in self.parts])
        size = np.concatenate([p.ends.rss / np.maximum(p.ends.points, 1) for p in self.parts])
        fits = np.concatenate([p.block.fits for p in self.parts])
        doubt = np.where(np.isfinite(size), 0.0, np.inf)
        known = np.isfinite(share) & np.isfinite(size)
        if known.any():
            ratios = [v[known] / max(float(np.quantile(v[known], 0.25)), 1e-300) for v in (share, size)]
            doubt[known] = np.minimum(*ratios)
        of = dict(zip(fits.tolist(), doubt.tolist(), strict=True))
        fit = max(self.todo, key=of.__getitem__)  # the first of equals
        self.todo.remove(fit)
        return fit, of[fit]

    @staticmethod
    def _variation(part: Part) -> Array:
        spread = spread_out(part.block)
        return np.where(spread > 0, spread, np.nan)

    def search(self, fit: int, options: Options) -> bool:
        """Search one fit, begin the others from what is found, and return whether that is lower than what was known.

        Raises
        ------
        ModelError
            If the model is finite at none of the starts.
        """
        part = next(p for p in self.parts if fit in p.block.fits)
        i = int(np.flatnonzero(part.block.fits == fit)[0])
        parameters = self.solver.parameters
        problem = single(
            self.model.kernel("numpy"), part.block.batch, i, template=part.starts[i], free=parameters.free
        )
        known = replace(parameters, start=part.starts[i], plain=False)
        with np.errstate(all="ignore"):
            found = searched(self.model, problem, known, options)
        order = np.argsort(found.losses, kind="stable")
        ends = [found.parameters, *found.ends.T[order[np.isfinite(found.losses[order])]]]
        free = _different(np.array(ends[: 4 * SPREAD]))[:SPREAD]
        before = part.ends.rss[i]
        for other in self.parts:
            self._begin(other, free)
        near = _different(self.answers()[:, self.solver.parameters.free])[:SPREAD]
        for other in self.parts:
            self._begin(other, near)
        return not part.ends.rss[i] >= LOWER * before

    def _begin(self, part: Part, free: Array) -> None:
        """Begin all fits of a part from free parameters (c, f), and keep what is better."""
        m, c = len(part.block), len(free)
        starts = np.repeat(part.starts, c, axis=0)
        unknown = np.isnan(starts)
        starts[:, self.solver.parameters.free] = np.tile(free, (m, 1))
        starts[:, self.solver.linear] = np.nan
        starts = np.where(unknown, starts, np.repeat(part.starts, c, axis=0))
        new = self.solver.solved(part.block.part(np.repeat(np.arange(m), c)), starts)
        loss = np.where(np.isfinite(new.rss), new.rss, np.inf).reshape(m, c)
        best = new.rows(np.arange(m) * c + np.argmin(loss, axis=1))
        won = better(best, part.ends)
        part.ends.put(won, best.rows(won))

    def answers(self) -> Array:
        """Return the answers (c, k), in the order of the fits."""
        known: dict[int, Array] = {}
        for part in self.parts:
            fine = np.isfinite(part.ends.parameters).all(axis=1) & (part.ends.status != TOO_FEW)
            known |= dict(zip(part.block.fits[fine].tolist(), part.ends.parameters[fine], strict=True))
        return np.array([known[fit] for fit in self.fits.tolist() if fit in known])

    def left(self, answers: Array) -> Array:
        """Return the share (fits, c) of each fit's variation that is left at answers (c, k), linear parameters solved."""
        known, c = self.solver.parameters, len(answers)
        out: list[Array] = []
        for part in self.parts:
            block = _thinned(part.block)
            m = len(block)
            starts = np.where(np.isnan(part.starts[:, None, :]), answers, part.starts[:, None, :])
            _, cost = standing(
                self.solver.executor.kernel, block.batch.rows(np.repeat(np.arange(m), c)), starts.reshape(m * c, -1),
                free=known.free, lower=known.lower, upper=known.upper, loss=Cost(),
            )  # fmt: skip
            with np.errstate(all="ignore"):
                share = cost.reshape(m, c) / spread_out(block)[:, None]
            out.append(np.where(np.isfinite(share), np.clip(share, 0.0, 1.0), 1.0))
        return np.concatenate(out)


def _thinned(block: Block) -> Block:
    """Return the fits on a few of their points."""
    batch, n = block.batch, block.batch.y.shape[1]
    if n <= POINTS:
        return block
    pick = np.sort(np.random.default_rng(0).choice(n, POINTS, replace=False))
    columns = tuple(np.ascontiguousarray(c[..., pick]) for c in batch.columns)
    weight = None if batch.weight is None else np.ascontiguousarray(batch.weight[..., pick])
    return replace(block, batch=Batch(columns, np.ascontiguousarray(batch.y[:, pick]), weight))
