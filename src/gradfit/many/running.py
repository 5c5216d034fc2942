"""All fits of one call, block by block: start values, the executor, and a second pass for those that failed."""

import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import prod

import numpy as np

from gradfit.kernel import Kernel as ColumnKernel
from gradfit.loss import Loss
from gradfit.many.executors import Executor, able, chosen
from gradfit.many.lost import Lost, Part
from gradfit.many.memory import foresee
from gradfit.many.rows import BLOCK, Array, Block, Indices, Source
from gradfit.many.searching import Candidates, candidates
from gradfit.many.second import (
    alone,
    better,
    constant,
    failed,
    missing_much,
    neighbours,
    without_effect,
    worth_care,
)
from gradfit.many.solving import Solver
from gradfit.many.starts import best_start, guessed, linear_parameters
from gradfit.model import BoundModel
from gradfit.notation import count, fixed
from gradfit.prepare import Parameters
from gradfit.solve.lockstep.batch import SINGULAR, Cost, Ends, Kernel, Settings
from gradfit.solve.lockstep.native import cores

CARE = 200  # fits that are made one by one: a second or two
COMPANY = 1_000  # fits at least that take their start from each other
NEWS = 0.01  # of the fits of a block, with a new answer: the others look once more
TURN = 400_000  # numbers of the response that one thread takes at a time


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
    points : int, optional
        Points of the whole run, where these fits are a part of one: what "auto" goes by.
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
    points: int | None = None
    how: list[str] = field(default_factory=list[str])
    found: Candidates | None = None

    def __post_init__(self) -> None:
        kernel = self.model.kernel("numpy")
        self.kernel: Kernel = kernel if self.model.graph is not None else OneByOne(kernel)
        self.linear = linear_parameters(self.model, self.parameters)
        self.executor_used = chosen(
            self.executor, self.model, self.kernel,
            points=self.source.total if self.points is None else self.points, free=self.parameters.free,
            loss=Cost("poisson" if self.counts else self.loss.name),
        )  # fmt: skip
        self.solver = Solver(
            self.executor_used, self.parameters, self.linear, self.loss, self.counts, self.settings
        )
        if self.executor_used.why:
            self.how.append(self.executor_used.why)
        if self.settings.dtype == "float32" and self.executor_used.kind == "numpy":
            self.how.append("dtype=float32 is for machine code and torch: numpy computes in float64")

    def run(self) -> tuple[Ends, Indices]:
        """Return where all fits ended, and how many points of each were dropped.

        Raises
        ------
        DataError
            If memory will not do.
        """
        m, k = prod(self.source.shape), len(self.model.parameters)
        foresee(count(m, "fit"), self._bytes(m, k), one=m == 1)
        ends, dropped, lost = Ends.blank(m, k), np.zeros(m, dtype=np.int64), Lost()
        self._look_for_starts()
        threads = self._threads

        def one(block: Block) -> None:
            part = self._block(block, self.solver if threads == 1 else self.solver.alone(), lost)
            ends.put(block.place, part)
            dropped[block.place] = block.dropped

        each(self._turns(), one, threads)
        self._again(lost, ends)
        return ends, dropped

    @property
    def _threads(self) -> int:
        """How many blocks are made at a time; few points are left to the executor's own threads."""
        if self.executor_used.kind != "native" or self.source.total < 2 * TURN:
            return 1
        return self.settings.threads or cores()

    def _bytes(self, m: int, k: int) -> float:
        """Return what is needed beside the data: results, start values as they are used, and the blocks under way."""
        columns = 1 + len(self.model.inputs)
        block = 8.0 * min(BLOCK, self.source.total) * columns
        gathered = 8.0 * self.source.total * columns if self.source.scattered else 0.0
        return m * (16.0 * k + 40.0) + gathered + 4.0 * block

    def _turns(self) -> Iterator[Block]:
        """Return blocks as threads take them: small ones, which stay in the cache, and of enough fits to learn from."""
        for block in _by_weight(self.source.blocks(self.model, drop=self.drop)):
            if self.executor_used.kind != "native":
                yield block
                continue
            step = max(1, TURN // block.batch.y.shape[1], COMPANY if self.unknown else 1)
            for first in range(0, len(block), step):
                yield block.part(slice(first, first + step))

    # ------------------------------------------------------------------ starts

    @cached_property
    def unknown(self) -> bool:
        """Whether some fit lacks a start value that no closed form gives."""
        needed = np.setdiff1d(self.parameters.free, self.linear)
        return any(bool(np.isnan(self.starts[:, j]).any()) for j in needed.tolist())

    def _look_for_starts(self) -> None:
        if not self.unknown:
            return
        if self.library:
            self.how.append("Start values are the library model's own guess")
            return
        solver = replace(self.solver, executor=self._trying)
        self.found = candidates(
            self.source, self.model, solver, starts=self.starts, executor=self._searching, seed=self.seed
        )
        few = len(self.found.values)
        best = "its answer" if few == 1 else f"the best of {count(few, 'different answer')}"
        self.how.append(
            f"Start values were searched on {count(self.found.searched, 'fit')}; each fit began at {best}"
        )

    @property
    def _searching(self) -> str:
        """What evaluates the draws of a search: machine code where these fits have it, else as in a single fit."""
        used = self.executor_used.kind
        return used if used == "native" or self.executor == "numpy" else "auto"

    @property
    def _trying(self) -> Executor:
        """What fits the sample: machine code as well where the search compiles it in any case."""
        used, free = self.executor_used, self.parameters.free
        searched = self._searching == "auto" and len(free) - len(self.linear) > 1
        return replace(used, name="native") if searched and able("native", used.graph, free, Cost()) else used

    def _starts(self, block: Block) -> Array:
        starts = self.starts[block.place]
        if not self.unknown:
            return starts
        if self.found is None:
            return guessed(self.library, self.model, self.kernel, block, starts, parameters=self.parameters)
        return best_start(
            self.kernel, block, starts, self.found.values, linear=self.linear, parameters=self.parameters
        )

    # ------------------------------------------------------------------ one block

    def _block(self, block: Block, solver: Solver, lost: Lost) -> Ends:
        starts = self._starts(block)
        ends = solver.solved(block, starts)
        if self.unknown:
            self._other_starts(block, solver, ends)
        self._judge_constant(block, ends)
        which = failed(ends)
        if len(which):
            which = which[~constant(block.part(which))]
            if len(which):
                lost.add(Part(block.part(which), starts[which], ends.rows(which)))
        _in_units(block, ends)
        return ends

    def _other_starts(self, block: Block, solver: Solver, ends: Ends) -> None:
        """Begin fits again that failed or miss much, from each answer of the search and from other fits' answers."""
        given = self.starts[block.place]
        for option in [] if self.found is None else self.found.values:
            which = failed(ends)
            if not len(which):
                break
            _try(solver, block, which, np.where(np.isnan(given), option, given), ends)
        for _ in range(2):
            which, accepted = missing_much(block, ends, len(self.parameters.free))
            which, better_starts = neighbours(
                self.kernel, block, ends, given,
                which=which, accepted=accepted, linear=self.linear, parameters=self.parameters,
            )  # fmt: skip
            if not len(which):
                return
            given_again = given.copy()
            given_again[which] = better_starts
            _try(solver, block, which, given_again, ends)
            if len(which) < NEWS * len(block):
                return

    def _judge_constant(self, block: Block, ends: Ends) -> None:
        """Call fits of a constant response singular where parameters do nothing there."""
        free = self.parameters.free
        nonlinear = np.setdiff1d(free, self.linear)
        which, nothing = without_effect(self.kernel, block, ends, free=free, nonlinear=nonlinear)
        ends.status[which] = SINGULAR
        row, column = np.nonzero(nothing)
        ends.stderr[which[row], free[column]] = np.nan

    # ------------------------------------------------------------------ those that failed

    def _again(self, lost: Lost, ends: Ends) -> None:
        """Make failed fits with the linear parameters solved at the start, then in NumPy, then with the careful solver."""
        left, parts = CARE, list(lost.together())
        if lost.count > lost.kept:
            self.how.append(
                f"Of {fixed(lost.count, 0)} fits that failed, the first {fixed(lost.kept, 0)} were tried again"
            )
        for part in parts:
            block, starts, again = part.block, part.starts, part.ends
            if len(self.linear) and not np.isnan(starts[:, self.linear]).all():
                apart = starts.copy()
                apart[:, self.linear] = np.nan
                _try(self.solver, block, np.arange(len(block)), apart, again)
            if self.executor_used.kind != "numpy":
                _try(self.solver.plain, block, failed(again), starts, again)
            if not self.counts and (not self.loss.robust or self.loss.scale is not None):
                left -= self._carefully(part, left)
            self._judge_constant(block, again)
            _in_units(block, again)
            ends.put(block.fits, again)
        if left < 0:
            self.how.append(
                f"{fixed(CARE, 0)} of the fits that failed were made again one by one, the last {fixed(-left, 0)} not"
            )

    def _carefully(self, part: Part, most: int) -> int:
        """Solve fits by orthogonal factors that squares were too coarse for, at most so many; return how many could gain."""
        block, ends = part.block, part.ends
        careful = alone(
            self.model.kernel("numpy"), block, ends, part.starts,
            parameters=self.parameters, linear=self.linear, absolute=self.settings.absolute,
        )  # fmt: skip
        late = self.settings.max_iterations >= Settings().max_iterations  # a user who gave fewer meant it
        which = worth_care(self.kernel, block, ends, self.parameters.free, late=late)
        for i in which[: max(most, 0)].tolist():
            scale = None if self.loss.scale is None else self.loss.scale * float(block.unit[i])
            _keep(np.array([i]), careful(i, replace(self.loss, scale=scale)), ends)
        return len(which)


def _by_weight(blocks: Iterable[Block]) -> Iterator[Block]:
    """Return blocks in which either no point is missing, and nothing is weighted, or some point of every fit."""
    for block in blocks:
        weight = block.batch.weight
        plain = np.zeros(0, dtype=bool) if weight is None or weight.ndim == 1 else (weight == 1).all(axis=1)
        if not plain.any():
            yield block
            continue
        some = block.part(np.flatnonzero(plain))
        yield replace(some, batch=replace(some.batch, weight=None))
        if not plain.all():
            yield block.part(np.flatnonzero(~plain))


def _in_units(block: Block, ends: Ends) -> None:
    """Bring what was made small from the units of a block to the user's."""
    with np.errstate(over="ignore"):
        ends.rss[:] = ends.rss / block.unit / block.unit


def _try(  # noqa: PLR0917  one caller
    solver: Solver, block: Block, which: Indices, starts: Array, ends: Ends
) -> None:
    """Fit some of a block again from other starts (m, k), and keep what is better."""
    if len(which):
        _keep(which, solver.solved(block.part(which), starts[which]), ends)


def _keep(which: Indices, again: Ends, ends: Ends) -> None:
    """Keep what is better of other ends of some fits."""
    won = better(again, ends.rows(which))
    ends.put(which[won], again.rows(won))


class _Shared(Iterator[Block]):
    """Blocks that several threads take in turn."""

    def __init__(self, blocks: Iterable[Block]) -> None:
        self._blocks, self._lock = iter(blocks), threading.Lock()

    def __next__(self) -> Block:
        with self._lock:
            return next(self._blocks)


def each(blocks: Iterable[Block], call: Callable[[Block], None], threads: int) -> None:
    """Call with every block, on so many threads; blocks are made as they are taken."""
    if threads == 1:
        for block in blocks:
            call(block)
        return
    shared = _Shared(blocks)

    def work() -> None:
        for block in shared:
            call(block)

    with ThreadPoolExecutor(threads) as pool:
        running = [pool.submit(work) for _ in range(threads)]
        for thread in running:
            thread.result()
