"""Many fits in machine code on all cores: ranges of fits go to threads, each fit's result stands at its own place."""

import ctypes
import json
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import Graph
from gradfit.kernel import NumpyKernel
from gradfit.native.compiled import lanes, library
from gradfit.native.layout import FITS, NUMBERS, POINTERS, REALS, Shape
from gradfit.native.many import ManyFits
from gradfit.native.sums import ROBUST, triangle
from gradfit.solve.lockstep.batch import (
    CONVERGED,
    SINGULAR,
    STALLED,
    Array,
    Batch,
    Cost,
    Ends,
    Settings,
    dots,
    sums,
)
from gradfit.solve.lockstep.numpy import POINTS, hopeless
from gradfit.solve.lockstep.scatter import standard_errors

Indices = NDArray[np.int64]

#: of the cost that the last step may promise: it is taken, and leaves far less to go
SHARE = {64: 1e-14, 32: 1e-6}
UNKNOWN = {64: 1e-14, 32: 1e-5}  # share of a column's square, which is rounding
SLOWER = 1e-3  # of that where a cost's curvature is only roughly known, and each step leaves a good part of the way
RANGE = 4096  # fits a call at most: their results stay in the second-level cache
WORTH = 25_000  # numbers of the response that are worth a thread: a third of a millisecond, twice what it takes to begin
PIECES = 4  # ranges a thread, where there is work for so many: fits take different times
MOST_SINGLE, FAR_SINGLE = (
    1e12,
    16.0,
)  # size of numbers that go into float32, and how far from 0 beside their range
LEAST_SINGLE = 3e4  # times the scatter that a response's length may be there
MOST_FREE = 24  # sums are written out: their code grows with the square


def can_solve(graph: Graph | None, free: Indices, loss: Cost) -> bool:
    """Return whether there is machine code for such fits."""
    return graph is not None and 0 < len(free) <= MOST_FREE and loss.name in ("squared", "poisson", *ROBUST)


def solve(
    graph: Graph,
    batch: Batch,
    start: Array,
    *,
    free: Indices,
    lower: Array,
    upper: Array,
    loss: Cost,
    settings: Settings,
) -> Ends:
    """Return where each fit ended: see `gradfit.solve.lockstep.batch.Solve`. Eight fits advance in lock-step on each core.

    The last bit of a fit depends neither on the number of threads nor on the other fits. With float32, fits whose data or
    ends that leaves too few digits of are made in float64.
    """
    call = partial(_solved, graph, free=free, lower=lower, upper=upper)
    if settings.dtype == "float64":
        return call(batch, start, loss=loss, settings=settings)
    size, wide = _size(batch), replace(settings, dtype="float64")
    fine = _suits(batch, size)
    if fine.all():
        ends = call(batch, start, loss=loss, settings=settings)
    else:
        ends = Ends.blank(len(batch.y), start.shape[1])
        if fine.any():
            ends.put(fine, call(batch.rows(fine), _of(start, fine), loss=loss.rows(fine), settings=settings))
    again = np.flatnonzero(~(fine & _shows(ends, size, len(free))))
    if len(again):
        ends.put(again, call(batch.rows(again), _of(start, again), loss=loss.rows(again), settings=wide))
    return ends


def _of(start: Array, which: Indices | NDArray[np.bool_]) -> Array:
    return start[which] if len(start) > 1 else start


def _size(batch: Batch) -> Array:
    """Return the length (m,) of each weighted response, which no number in it exceeds."""
    y = batch.y if batch.weight is None else batch.y * batch.weight
    with np.errstate(over="ignore"):
        return np.sqrt(dots(y, y))


def _suits(batch: Batch, size: Array) -> NDArray[np.bool_]:
    """Return which fits (m,) hold numbers that float32 tells apart, and whose squares it holds."""
    out = (size < MOST_SINGLE) & ((size > 1 / MOST_SINGLE) | (size == 0))
    for column in batch.columns:
        low, high = column.min(axis=-1), column.max(axis=-1)
        far = np.maximum(np.abs(low), np.abs(high))
        out &= (far <= FAR_SINGLE * (high - low)) | (high == low)
        out &= (far < MOST_SINGLE) & ((far > 1 / MOST_SINGLE) | (far == 0))
    return out


def _shows(ends: Ends, size: Array, unknowns: int) -> NDArray[np.bool_]:
    """Return which fits (m,) converged, to residuals that are large beside the rounding of their data."""
    with np.errstate(all="ignore"):
        scatter = np.sqrt(ends.rss / np.maximum(ends.points - unknowns, 1))
        return (ends.status == CONVERGED) & (scatter * LEAST_SINGLE > size)


def _solved(
    graph: Graph,
    batch: Batch,
    start: Array,
    *,
    free: Indices,
    lower: Array,
    upper: Array,
    loss: Cost,
    settings: Settings,
) -> Ends:
    """Return where each fit ended, all of them in the precision of the settings."""
    m, k = len(batch.y), len(graph.parameters)
    points = batch.points()
    status = hopeless(batch, points, len(free), loss)
    order = np.flatnonzero(status < 0)
    task = _Task(graph, free, lower[free], upper[free], loss, settings)
    run = _Run(task, batch, np.ascontiguousarray(start, dtype=np.float64), order)
    _each(run, settings.threads)
    out = run.out[:, : len(order)].astype(np.float64, copy=False)
    done = Ends(
        out[:k].T, np.full((len(order), k), np.nan), out[k], out[k + 1].astype(np.int32),
        out[k + 2].astype(np.int8), points[order],
    )  # fmt: skip
    if loss.robust:
        task.judge_robust(done, batch, order)
    else:
        task.judge(done, run.variance[:, : len(order)].T.astype(np.float64, copy=False))
    if len(order) == m:
        return done
    ends = Ends.blank(m, k)
    ends.points[:], ends.status[:] = points, status
    ends.put(order, done)
    return ends


@dataclass(frozen=True, eq=False)
class _Task:
    """What all fits have in common; the bounds are those of the free parameters."""

    graph: Graph
    free: Indices
    lower: Array
    upper: Array
    loss: Cost
    settings: Settings

    def shape(self, batch: Batch, *, lead: bool) -> Shape:
        """Return what decides the code."""
        linear = set(self.graph.linear) if self.loss.name == "squared" else set[int]()
        open_ = np.isinf(self.lower) & np.isinf(self.upper)
        return Shape(
            free=tuple(self.free.tolist()),
            linear=tuple(i for i, j in enumerate(self.free.tolist()) if j in linear and open_[i]),
            shared=tuple(c.ndim == 1 for c in batch.columns),
            weight="none" if batch.weight is None else "own" if batch.weight.ndim == 2 else "shared",
            bounded=not open_.all(),
            cost=self.loss.name,
            lead=lead,
            real=32 if self.settings.dtype == "float32" else 64,
        )

    def judge(self, ends: Ends, variance: Array) -> None:
        """Put in standard errors from the diagonals (m, f) of (JᵀJ)⁻¹; what is not determined makes a fit singular.

        A parameter on a bound has no standard error, and those of the others are conditional on it.
        """
        known = self.settings.absolute or self.loss.name == "poisson"
        p = ends.parameters[:, self.free]
        held = (p <= self.lower) | (p >= self.upper)
        freedom = ends.points - np.count_nonzero(~held, axis=1)
        with np.errstate(all="ignore"):
            scatter = np.where(freedom > 0, ends.rss / np.maximum(freedom, 1), np.nan)
            errors = np.sqrt(variance if known else variance * scatter[:, None])
        lost = ~np.isfinite(errors) & ~held & (known | (freedom > 0))[:, None]
        ended = (ends.status == CONVERGED) | (ends.status == STALLED)
        ends.status[ended & lost.any(axis=1)] = SINGULAR
        ends.stderr[:, self.free] = np.where(held | ~np.isfinite(errors), np.nan, errors)

    def judge_robust(self, ends: Ends, batch: Batch, order: Indices) -> None:
        """Put in standard errors by the formula for robust losses, whose sums take another pass in NumPy."""
        kernel, room = NumpyKernel(self.graph), max(1, POINTS // batch.y.shape[1])
        for i in range(0, len(order), room):
            part = slice(i, i + room)
            data, p = batch.rows(order[part]), np.ascontiguousarray(ends.parameters[part].T)
            with np.errstate(all="ignore"):
                now = sums(kernel, data, p, free=self.free, loss=Cost())
                errors, lost = standard_errors(
                    kernel, data, p, now, free=self.free, lower=self.lower, upper=self.upper,
                    loss=self.loss.rows(order[part]), absolute=self.settings.absolute,
                )  # fmt: skip
            ends.stderr[part, self.free] = errors.T
            status = ends.status[part]
            status[lost & ((status == CONVERGED) | (status == STALLED))] = SINGULAR


class _Compiled:
    """The machine code of one graph and shape."""

    def __init__(self, graph: Graph, shape: Shape) -> None:
        self.shape, self.count = shape, len(graph.parameters)
        width = min(lanes(shape.real), FITS)
        text = json.dumps(["many", graph.to_dict(), repr(shape), width])
        written = library(text, lambda module: ManyFits(module, graph, shape, width=width).write())
        self.scratch = ManyFits.sizes(graph, shape)
        pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
        kinds = [pointer] * len(POINTERS) + [whole] * len(NUMBERS) + [real] * len(REALS)
        self.fit_range = written.function("fit_range", kinds)
        self.errors = written.function("errors", [pointer] * 2 + [whole] * 3)
        self._library = written  # the functions live as long as it does

    @staticmethod
    @lru_cache(maxsize=64)
    def of(graph: Graph, shape: Shape) -> "_Compiled":
        """Return it; the last ones stay in memory."""
        return _Compiled(graph, shape)


class _Run:
    """One call's arrays. Results go to `out`: the k parameters, cost, steps and status; and to `variance` (f)."""

    def __init__(self, task: _Task, batch: Batch, start: Array, order: Indices) -> None:
        lead = bool(np.isnan(start).any())
        self.order = order
        self.code = code = _Compiled.of(task.graph, task.shape(batch, lead=lead))
        self.fits, self.points = batch.y.shape
        self.stride = code.count if len(start) > 1 else 0
        most = task.settings.max_iterations
        damping = 1e-8 if len(code.shape.linear) == len(code.shape.free) else task.settings.damping
        share = SHARE[code.shape.real] * (1.0 if task.loss.name == "squared" else SLOWER)
        self.last_arguments = (most, share, damping)
        own = [c for c in batch.columns if c.ndim == 2]
        shared = [c for c in batch.columns if c.ndim == 1]
        none = np.zeros(1)
        arrays = [
            np.stack(shared) if shared else none,
            none if not own else own[0] if len(own) == 1 else np.stack(own),
            batch.y,
            none if batch.weight is None else batch.weight,
            np.nan_to_num(start) if lead else start,
            task.lower,
            task.upper,
            np.broadcast_to(1.0 if task.loss.scale is None else task.loss.scale, self.fits),
        ]
        self.dtype: np.dtype[Any] = np.dtype(np.float64 if code.shape.real == 64 else np.float32)
        self.arrays = [np.ascontiguousarray(a, dtype=self.dtype) for a in arrays]
        room = -(-len(order) // FITS) * FITS
        self.out = np.empty((code.count + 3, room), dtype=self.dtype)
        self.variance = np.empty((len(code.shape.free), room), dtype=self.dtype)

    def __call__(self, first: int, step: int) -> None:
        """Fit so many of the order from there."""
        code, room = self.code, self.out.shape[1]
        last = min(first + step, len(self.order))
        depth = -(-(last - first) // FITS) * FITS
        f = len(code.shape.free)
        gram = np.ones((f * (f + 1) // 2, depth), dtype=self.dtype)
        scratch = np.empty(code.scratch(self.points), dtype=self.dtype)
        offset = self.dtype.itemsize * first
        inputs = [a.ctypes.data for a in (*self.arrays, self.order)]
        code.fit_range(
            *inputs, self.out.ctypes.data + offset, gram.ctypes.data, scratch.ctypes.data,
            self.points, self.fits, self.stride, first, last, room, depth, *self.last_arguments,
        )  # fmt: skip
        code.errors(gram.ctypes.data, self.variance.ctypes.data + offset, depth, room, depth)
        self._forget(gram, self.variance[:, first:last])

    def _forget(self, gram: Array, variance: Array) -> None:
        """Make variances (f, m) infinite whose column of the Jacobian is nothing, to rounding, beside the others."""
        least = UNKNOWN[self.code.shape.real] * len(variance)
        squares = gram[[k for k, (i, j) in enumerate(triangle(len(variance))) if i == j], : variance.shape[1]]
        with np.errstate(all="ignore"):
            variance[variance * squares * least >= 1] = np.inf


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def step_of(fits: int, points: int, workers: int) -> int:
    """Return how many fits of so many points a range has: as many as go through the lanes in whole rounds.

    >>> step_of(1000, 25, 2), step_of(1000, 100, 2), step_of(1_000_000, 25, 2)
    (4096, 256, 4096)
    """
    worth = min(PIECES * workers, fits * points // WORTH) if workers > 1 else 1
    share = -(-fits // max(worth, 1))
    return RANGE if worth <= 1 else min(RANGE, -(-share // FITS) * FITS)


def _each(run: _Run, threads: int | None) -> None:
    """Run all ranges; the compiled code lets other threads run."""
    workers, fits = threads or cores(), len(run.order)
    step = step_of(fits, run.points, workers)
    firsts = range(0, fits, step)
    workers = max(1, min(workers, len(firsts)))

    def work(turn: int) -> None:
        for first in firsts[turn::workers]:
            run(first, step)

    if workers <= 1:
        work(0)
        return
    with ThreadPoolExecutor(workers - 1) as pool:
        others = [pool.submit(work, turn) for turn in range(1, workers)]
        work(0)
        for other in others:
            other.result()
