"""fit_large(): one fit over any number of rows. The first steps use a sample of them, the last ones every row."""

import os
import re
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import linalg, llvm
from gradfit.diagnose import Diagnosis
from gradfit.errors import DataError, ModelError, OptionError
from gradfit.large.keeping import Scaled
from gradfit.large.result import LargeResult, Whole
from gradfit.large.rows import Facts, Wanted, looked_at, picked, views
from gradfit.large.sources import Arrays, Source, source_of
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.prepare import Data, Parameters, settled
from gradfit.result import FitResult
from gradfit.solve.condensed import carried, end_of_counts, end_rows, known_rows, minimise_rows
from gradfit.solve.lm import LM
from gradfit.solve.outcome import Outcome
from gradfit.solve.passes import Columns, Passes, Total, passes_of, scored
from gradfit.solve.pieces import closed_form_of_rows
from gradfit.solve.problem import ModelProblem
from gradfit.starting import Options
from gradfit.table import Table
from gradfit.walk import Walk

Array = NDArray[np.float64]

ROWS, BYTES = 1_000_000, 32_000_000  # from which on data count as large although no memory= was given
FIRST = 10_000  # rows of the sample that the first steps use: up to as many BLAS starts no threads for
_SIZE = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*([kmgt]?)i?b?\s*", re.IGNORECASE)
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_LEAST = 100_000_000  # bytes beside what the process holds when the fit begins
_WARM = 1e-6  # damping where the sample's minimum is the start


@dataclass(frozen=True, eq=False)
class Task:
    """What `fit` was asked, with the stages that do not depend on how many rows there are.

    Attributes
    ----------
    coded : callable
        Returns a table with codes in text columns that the formula compares.
    bind : callable
        Returns the model bound to a table's columns.
    solve : callable
        Returns how the sample was fitted: (model, data, parameters) -> Walk.
    options : Options
        Loss, solver and so on.
    executor : str
        "auto", "native" or "numpy".
    start, bounds, fixed : object
        As `fit` takes them.
    where, exclude, missing, sigma, weights : object
        As `fit` takes them.
    level : float
        Of intervals.
    told : mapping
        The arguments of the call, for the result.
    """

    coded: Callable[[Table], Table]
    bind: Callable[[Table], BoundModel]
    solve: Callable[[BoundModel, Data, Parameters], Walk]
    options: Options
    executor: str = "auto"
    start: object = None
    bounds: object = None
    fixed: Mapping[str, float] | None = None
    where: str | None = None
    exclude: Sequence[int] | None = None
    missing: str = "error"
    sigma: object = None
    weights: object = None
    level: float = 0.95
    told: Mapping[str, object] | None = None


def is_large(data: object) -> bool:
    """Return whether data are better fitted in pieces: a million rows of arrays, a large file, or a folder of files."""
    if isinstance(data, Mapping):
        first = next(iter(data.values()), None)
        return isinstance(first, np.ndarray) and first.ndim == 1 and len(first) >= ROWS
    if isinstance(data, Table):
        return data.n >= ROWS and not data.categories
    if isinstance(data, str | os.PathLike) and str(data) != "-":
        path = Path(data)
        return path.is_dir() or (path.is_file() and path.stat().st_size >= BYTES)
    return False


def bytes_of(memory: object) -> int:
    """Return a size in bytes.

    >>> bytes_of("1GB"), bytes_of("1.5 g"), bytes_of(200_000_000)
    (1000000000, 1500000000, 200000000)

    Raises
    ------
    OptionError
        If it is no size.
    """
    if (
        isinstance(memory, int | float)
        and not isinstance(memory, bool)
        and memory > 0
        and np.isfinite(memory)
    ):
        return int(memory)
    found = _SIZE.fullmatch(memory) if isinstance(memory, str) else None
    if found is None or float(found[1]) == 0:
        raise OptionError(f"memory={memory!r} is no size", remedy='Write memory="1GB"')
    return int(float(found[1]) * _UNITS[found[2].lower()])


def fit_large(
    task: Task, data: object, *, memory: object = None, threads: int | None = None
) -> LargeResult | None:
    """Return the fit of a model to any number of rows, None where only the ordinary way leads to one.

    The rows are looked at once, and kept as numbers: where they lie, in memory, or in a scratch file. A sample is fitted as
    any other data are. From there Levenberg-Marquardt goes on with sums over all rows, so that nothing is stored that
    grows with them.

    Parameters
    ----------
    memory : str or int, optional
        What the process may hold at most: "1GB". Left out, half of what is free.
    threads : int, optional
        How many work at once; the bits of the result do not depend on it.

    Raises
    ------
    OptionError
        If the budget is too small, or `memory` is given and something else asks for all rows at once.
    ModelError
        If the model is not finite somewhere.
    """
    why = _unsuited(task)
    if why:
        return _refused(why, data, memory)
    counts = task.options.loss.counts
    if counts and task.sigma is not None:
        raise OptionError(
            'loss="poisson" takes the precision of counts from the model, so sigma= has no place',
            remedy="Leave sigma= out",
        )
    source, wanted_text = _with_sigma(source_of(data), task)
    head = source.head()
    levels = _levels(source, task.coded(head))
    for name, known in levels.items():
        head = head.coded(name, levels=known)
    model = task.bind(head)
    if model.graph is None:
        return _refused(f"{model.text} could not be traced ({model.fallback})", data, memory)
    threads = threads or _cores()
    wanted = Wanted(
        model,
        task.where,
        tuple(task.exclude or ()),
        task.missing == "drop",
        *wanted_text,
        levels or None,
        counts,
    )
    if isinstance(source, Arrays):
        source.release()  # pages of memory maps are not held: the system takes them back when it likes
    room = _room(memory)
    seed = task.options.seed
    with np.errstate(all="ignore"):  # how a response of 1e300 varies is not known; its fit is
        facts = views(source, wanted, head, seed=seed, threads=threads, release=memory is not None)
        facts = facts or looked_at(source, wanted, head, room=room, seed=seed)
    return _fitted(task, model, facts, threads)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _refused(why: str, data: object, memory: object) -> None:
    if isinstance(data, str | os.PathLike) and Path(data).is_dir():
        raise OptionError(
            f"The files of the folder {data} are read in pieces, but {why}",
            remedy="Name one file, or read them all and give the columns",
        )
    if memory is not None:
        raise OptionError(
            f"memory= needs rows that can be taken in pieces, but {why}", remedy="Leave memory= away"
        )


def _unsuited(task: Task) -> str:
    """Return why a fit needs all rows at once, empty where it does not."""
    if not isinstance(task.options.solver, LM):
        return "an optimizer of torch holds all of them"
    if task.executor == "tensor":
        return 'executor="tensor" holds all of them'
    if np.ndim(task.sigma) == 2:  # pyright: ignore[reportArgumentType]  # anything has a number of axes
        return "sigma= is a covariance"
    return ""


def _room(memory: object) -> float:
    """Return how many bytes numbers may take in memory.

    Raises
    ------
    OptionError
        If the budget leaves nothing.
    """
    if memory is None:
        return 0.5 * os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    for module, name in ((linalg, "qr"), (llvm, "parse_assembly")):
        getattr(module, name)  # imported now, so that what they take is known
    budget, held = bytes_of(memory), held_bytes()
    if budget < held + _LEAST:
        raise OptionError(
            f"memory={memory!r} is too little: Python and its libraries hold {held / 1e6:.0f} MB already",
            remedy=f'Give memory="{(held + 1.5 * _LEAST) / 1e6:.0f}MB" or more',
        )
    return max(0.0, 0.5 * (budget - held - _LEAST))


def held_bytes() -> int:
    """Return how much memory the process holds now."""
    place = Path("/proc/self/statm")
    if place.exists():
        return int(place.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def _with_sigma(source: Source, task: Task) -> tuple[Source, tuple[str | None, str | None]]:
    """Return the source with sigma or weights as a column, and the texts by which they are read.

    Raises
    ------
    OptionError
        If both are given, or an array of another length than the data.
    """
    if task.sigma is not None and task.weights is not None:
        raise OptionError("Give sigma= or weights=, not both")
    texts: list[str | None] = []
    for name, given in (("sigma", task.sigma), ("weights", task.weights)):
        if given is None or isinstance(given, str):
            texts.append(given)
        elif np.ndim(given) == 0:  # pyright: ignore[reportArgumentType]  # anything has a number of axes
            texts.append(repr(float(given)))  # pyright: ignore[reportArgumentType]  # a number, or float() says what it is
        else:
            values: NDArray[Any] = np.asarray(given).reshape(-1)
            rows, _ = source.sizes
            if not isinstance(source, Arrays) or source.table is not None or len(values) != rows:
                raise OptionError(
                    f"{name}= has {count(len(values), 'value')}, and {source.name} {count(rows, 'row')} that are read in pieces",
                    remedy=f'Put them into a column and give its name: {name}="u"',
                )
            source = replace(source, columns={**source.columns, f"{name} given": values})
            texts.append(f"{name} given")
    return source, (texts[0], texts[1])


def _levels(source: Source, head: Table) -> dict[str, tuple[str, ...]]:
    """Return all the texts that stand in the columns which are compared with one."""
    out: dict[str, tuple[str, ...]] = {}
    for name in head.categories:
        words: set[str] = set()
        for table in source.tables([name], head.origins):
            words.update(table.coded(name).categories[name])
        out[name] = tuple(sorted(words))
    return out


# ---------------------------------------------------------------------------- the fit


def _fitted(task: Task, model: BoundModel, facts: Facts, threads: int) -> LargeResult:
    parameters = settled(model, task.start, task.bounds, task.fixed)
    if facts.n < max(len(parameters.free), 2):
        raise DataError(
            f"{count(facts.n, 'row')} of {facts.sample.source} cannot determine {count(len(parameters.free), 'parameter')}"
        )
    began = time.perf_counter()
    options = task.options
    with np.errstate(all="ignore"):
        few = _few(facts.sample, options.loss)
        walk = task.solve(model, few, parameters)
        passes = _passes(model, facts, walk.parameters, executor=task.executor, threads=threads)
        steps = walk.outcome.iterations
        outcome = _finished(walk, passes, options)
        whole = _whole(facts, passes, outcome, walk)
    if not np.isfinite(whole.rss):
        raise ModelError(_not_finite(model, facts, passes, outcome))
    how = (*walk.how, *_said(facts, outcome, few.n if steps else 0, walk))

    def examine(result: FitResult) -> Diagnosis:
        assert isinstance(result, LargeResult)  # noqa: S101  it is made below
        return result.judged(options)

    return LargeResult(
        model=model, data=facts.sample, settled=walk.parameters, outcome=replace(outcome, end=None, factor=None),
        loss_used=walk.loss, starts=walk.starts, solver=walk.solver, executor=passes.name, how=how, level=task.level,
        seconds=time.perf_counter() - began, settings=dict(task.told or {}), examine=examine, whole=whole,
    )  # fmt: skip


def _few(sample: Data, loss: Loss) -> Data:
    """Return the rows that the first steps use: enough to come near, all of them where they also give a loss its scale."""
    if sample.n <= FIRST or (loss.robust and loss.scale is None):
        return sample
    return picked(sample, np.arange(0, sample.n, -(-sample.n // FIRST)))


def _passes(
    model: BoundModel, facts: Facts, parameters: Parameters, *, executor: str, threads: int
) -> Passes:
    unit = facts.sample.unit
    kept = facts.kept if unit == 1.0 else Scaled(facts.kept, unit, facts.weighted)
    free = None if len(parameters.free) == len(parameters.start) else parameters.free
    kernel = model.kernel("numpy")
    nothing = np.zeros(0)
    problem = ModelProblem(
        kernel, [], nothing, None, parameters.start, free, kernel, counts=facts.tally is not None
    )
    weighted = facts.weighted or unit != 1.0
    return passes_of(kept, problem, model.graph, weighted=weighted, threads=threads, executor=executor)


def _finished(walk: Walk, passes: Passes, options: Options) -> Outcome:
    """Return where the walk over all rows ends that begins at the sample's minimum."""
    begun, parameters = walk.outcome, walk.parameters
    settings = options.solver if isinstance(options.solver, LM) else LM()
    if begun.status == "interrupted" or len(parameters.free) == 0:
        return replace(begun, end=None, factor=None)  # they are the sample's
    if walk.starts.source == "not needed" and not carried(walk.loss):
        return closed_form_of_rows(passes, begun.parameters)
    warm = replace(settings, damping=_WARM) if begun.converged else settings
    bounds = (parameters.lower[parameters.free], parameters.upper[parameters.free])

    def run(start: Array, settings: LM) -> Outcome:
        return minimise_rows(
            passes, start, bounds=bounds, loss=walk.loss, settings=settings, watch=options.callback
        )

    if settings.max_iterations < LM().max_iterations and parameters.complete:
        return run(parameters.begin, settings)  # all of the few steps that were asked for see all rows
    outcome = run(begun.parameters, warm)
    if walk.starts.source != "given" or (begun.converged and not walk.how):
        return outcome
    other = run(
        parameters.begin, settings
    )  # the sample needed more than steps from the start: all rows may not
    return other if other.converged and not other.loss > outcome.loss else outcome


def _whole(facts: Facts, passes: Passes, outcome: Outcome, walk: Walk) -> Whole:
    p = outcome.parameters
    if walk.loss.counts:
        r, J, deviance = end_of_counts(passes, p)
        chi2 = sum(passes.mapped(lambda columns: _pearson(passes, columns, p)))
        return Whole(facts, passes, r, J, deviance, chi2=chi2)
    r, J = (None if walk.loss.robust else known_rows(outcome)) or end_rows(passes, p)
    rss = float(r @ r)
    if not walk.loss.robust:
        return Whole(facts, passes, r, J, rss)
    total = Total((3,))
    for part in passes.mapped(lambda columns: _psi(passes, columns, p, walk.loss)):
        total.add(part)
    square, slope, slopes = total.value().tolist()
    return Whole(facts, passes, r, J, rss, (square, slope, slopes))


def _psi(passes: Passes, columns: Columns, parameters: Array, loss: Loss) -> Array:
    out = np.zeros(3)
    for problem in passes.over(columns):
        psi, slope = loss.curvature(problem.residual(parameters))
        out += [psi @ psi, slope.sum(), slope @ slope]
    return out


def _pearson(passes: Passes, columns: Columns, parameters: Array) -> float:
    """Return Pearson's chi-square of some counts."""
    return sum(float(r @ r) for _, r, _ in (scored(part, parameters) for part in passes.over(columns)))


def _not_finite(model: BoundModel, facts: Facts, passes: Passes, outcome: Outcome) -> str:
    """Return the sentence that names values at which the model is not finite."""
    whole = passes.problem.whole(outcome.parameters)
    at = ", ".join(
        f"{name} = {value:.6g}" for name, value in zip(model.parameters, whole.tolist(), strict=True)
    )
    where, counts = "somewhere", facts.tally is not None
    for part in passes.rows.parts():
        columns = part()
        inputs = columns[: len(model.inputs)]
        value = passes.problem.model.value(inputs or [columns[0]], whole)
        bad = np.flatnonzero(~(np.isfinite(value) & (value > 0)) if counts else ~np.isfinite(value))
        if len(bad):
            where = "where " + ", ".join(
                f"{n} = {c[bad[0]]:.6g}" for n, c in zip(model.inputs, inputs, strict=True)
            )
            break
    what = "is not above zero, as the mean of a count must be," if counts else "is not finite"
    return f"{model.text} {what} {where} at {at}, which fit a sample of {count(facts.sample.n, 'row')}"


def _said(facts: Facts, outcome: Outcome, first: int, walk: Walk) -> tuple[str, ...]:
    """Return the sentences on which rows were used for what.

    Parameters
    ----------
    first : int
        Rows that the first steps used, 0 where there were no such steps.
    """
    rows, sample = count(facts.n, "row"), count(facts.sample.n, "row")
    told = [f"{outcome.evaluations} pass{'es' * (outcome.evaluations != 1)} over all {rows}, {facts.where}"]
    if 0 < first < facts.n:
        told = [f"The first steps used a sample of {count(first, 'row')}; {told[0]}, finished the fit"]
    if facts.sample.n < facts.n:
        told.append(f"Findings and figures are those of a sample of {sample}")
        if walk.loss.robust and walk.loss.scale is not None:
            told.append("The scale of the loss is that of the sample's residuals")
    return tuple(told)
