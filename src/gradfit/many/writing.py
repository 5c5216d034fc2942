"""Many fits from an input of any size to a file: portion by portion, each kept when it is done, so that a killed run goes on."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradfit._lazy import polars
from gradfit.errors import DataError, OptionError
from gradfit.many.arguments import bound_to, checked, cost_of, library_name, scalars, source_of
from gradfit.many.feeding import Buckets, Opened, content, opened
from gradfit.many.groups import Groups
from gradfit.many.job import Job, Progress
from gradfit.many.joining import ending, joined, key_in, scanned
from gradfit.many.kept import Kept, Plan, Print
from gradfit.many.portions import Portion, Portions, Stacks, Tables, cut, cut_again
from gradfit.many.result import ManyResult
from gradfit.many.rows import Array, Indices, Source
from gradfit.many.running import Task
from gradfit.many.searching import Candidates
from gradfit.many.stack import Stack
from gradfit.many.starts import given_starts, one_per_fit
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.outputs import target
from gradfit.prepare import Parameters, settled
from gradfit.solve.lockstep.batch import STATUS, Ends, Settings

if TYPE_CHECKING:
    from polars import DataFrame

RESULTS = ("rss", "points", "missing", "iterations", "status")  # columns beside keys and parameters
WATCHED = 16  # files that are looked at again before each portion; of more, before the end
SHOWN = 1 << 18  # fits that findings and quantiles are made from, evenly chosen among more


@dataclass(frozen=True, eq=False)
class Written:
    """A file of many fits.

    Attributes
    ----------
    out : Path
        The file.
    fits : int
        How many.
    counted : mapping
        How many have each status, the most frequent first.
    shown : ManyResult
        All of them, or some evenly chosen of more than a quarter of a million.
    new : int
        Fits that this process made.
    seconds : float
        That it took.
    """

    out: Path
    fits: int
    counted: Mapping[str, int]
    shown: ManyResult
    new: int
    seconds: float


def write_many(
    job: Job, *, resume: bool = False, force: bool = False, watch: Callable[[Progress], None] | None = None
) -> Written | None:
    """Return what was written, after all fits are in the file; None where that was whole already.

    Results are kept in a folder beside it until all are there. The file of a run that was killed, in whatever moment, and
    went on with `resume` equals that of a run that was not.

    Parameters
    ----------
    resume : bool
        Whether to go on with what an earlier run has kept; where there is nothing, to begin.
    force : bool
        Whether a file that is there, and what an earlier run has kept, may be replaced.
    watch : callable, optional
        Is told how far it has come.

    Raises
    ------
    StoppedError
        If the disk is full; what is done is kept.
    OptionError
        If the run that is to go on was asked something else, or on other data; or another process writes the file.
    GradfitError
        If an argument or the data cannot be used.
    """
    began = time.perf_counter()
    job = replace(job, by=tuple(dict.fromkeys(job.by)))
    checked(job.missing, job.max_iterations, job.seed, job.threads, dtype=job.dtype)
    kept = Kept(target(job.out, force=force or resume))
    ending(kept.out)
    if kept.folder.exists() and not (resume or force):
        raise OptionError(
            f"{kept.folder} holds a run that did not end",
            remedy="Go on with --resume, or begin anew with --force",
        )
    table = _opened(job)
    inputs = _inputs(job, table)
    key = hashlib.blake2b(
        json.dumps([job.asked, [(i.size, i.hash) for i in inputs]]).encode(), digest_size=16
    ).hexdigest()
    if resume and not force and kept.out.exists() and not kept.folder.exists():
        _check_same(kept.out, key)
        return None
    with kept.locked():
        kept.swept()
        plan = kept.plan() if resume and not force and kept.begun else None
        if plan is None:
            kept.cleared()
        else:
            plan.check(job.asked, inputs, str(kept.folder))
        run = Run.of(job, table, kept, inputs=inputs, plan=plan)
        kept.begin(run.plan)
        new = run.all_parts(watch)
        run.check_inputs()
        joined(kept, len(run.portions.rows), dealt=run.plan.dealt, key=key)
        written = _written(run, new, began)
        kept.finish()
    return written


def _check_same(out: Path, key: str) -> None:
    """Refuse a whole file of another run.

    Raises
    ------
    OptionError
        If it was asked something else, or on other data.
    """
    if key_in(out) not in ("", key):
        raise OptionError(
            f"{out} is the whole output of a run with other options or on other data",
            remedy="Name another file, or write it anew with --force (force=True)",
        )


def _opened(job: Job) -> Opened | Stack:
    if job.by:
        if job.axis is not None:
            raise OptionError("--axis is for arrays, and --by for tables", remedy="Leave one of them out")
        return opened(job.data, sheet=job.sheet, where=job.where)
    source = source_of(
        job.model, job.data, by=None, axis=job.axis, response=job.response, spread=job.spread, where=job.where
    )
    if not isinstance(source, Stack):
        raise DataError(f"{source.about} is no array")
    return source


def _inputs(job: Job, table: Opened | Stack) -> list[Print]:
    """Return how the input is known again."""
    if isinstance(table, Opened):
        if table.files:
            return [Print.of(file) for file in table.files]
        return [Print(table.about, int(table.frame.select(polars.len()).collect().item()), 0, content(table))]
    held = job.data if isinstance(job.data, Mapping) else {table.response: job.data}
    return [
        Print.of(Path(value)) if isinstance(value, str | Path) else _print_of(str(name), np.asarray(value))
        for name, value in held.items()
    ]


def _print_of(name: str, array: Array) -> Print:
    data = np.ascontiguousarray(array)
    return Print(name, data.nbytes, 0, hashlib.blake2b(data.tobytes(), digest_size=16).hexdigest())


# ---------------------------------------------------------------------------- the run


class Part(Task):
    """The fits of a portion, whose start values were searched before the first of them."""

    def search(self) -> Candidates | None:
        """Return the answers that the fits of this part would begin at."""
        super()._look_for_starts()
        return self.found

    def _look_for_starts(self) -> None:
        """Do nothing: a run searches once, on a sample of the whole input."""


@dataclass(frozen=True, eq=False)
class Run:
    """All fits of a job, ready to be made.

    Attributes
    ----------
    job : Job
        What was asked.
    kept : Kept
        Where it goes.
    inputs : list of Print
        What is read.
    portions : Portions
        The fits.
    plan : Plan
        What was decided before the first of them.
    sample : Part
        Some of them, with the model bound to its columns and its parameters settled.
    """

    job: Job
    kept: Kept
    inputs: list[Print]
    portions: Portions
    plan: Plan
    sample: Part

    @classmethod
    def of(
        cls, job: Job, table: Opened | Stack, kept: Kept, *, inputs: list[Print], plan: Plan | None
    ) -> "Run":
        """Return a run that begins, or goes on by its plan."""
        portions, layout = _portions(job, table, kept, plan)
        source = portions.sample()
        model = bound_to(job.model, source, job.response, start=job.start, bounds=job.bounds, fixed=job.fixed)
        own = {
            k: one_per_fit(source, k, v, source.shape[0], argument="fixed")
            for k, v in (job.fixed or {}).items()
        }
        fixed = {name: float(values[0]) for name, values in own.items()}
        parameters = settled(model, scalars(job.start), job.bounds, fixed)
        _check_names(job.by, model.parameters)
        start = scalars(job.start) if isinstance(job.start, Mapping) else job.start
        sample = _part(job, source, model, parameters, start=start, points=sum(portions.rows))
        if plan is None:
            found = sample.search()
            starts = None if found is None else [_plain(row) for row in found.values]
            plan = replace(
                layout,
                asked=job.asked,
                inputs=inputs,
                starts=starts,
                searched=0 if found is None else found.searched,
                how=[*layout.how, *sample.how],
            )
        elif plan.starts is not None:
            sample.found = Candidates(np.array(plan.starts, dtype=np.float64), plan.searched)
        return cls(job, kept, inputs, portions.narrowed(model, source), plan, sample)

    @property
    def executor(self) -> str:
        """What runs the fits."""
        return self.sample.executor_used.name

    def all_parts(self, watch: Callable[[Progress], None] | None) -> int:
        """Return how many fits were made, after every portion has its part.

        The next portion is read, and the last one's results are written, while one is fitted.
        """
        done = set(self.kept.done())
        todo = [i for i in range(len(self.portions.rows)) if i not in done]
        before = self._fits(sorted(done))
        new = 0
        with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
            ahead: Future[Portion] | None = reader.submit(self._read, todo[0]) if todo else None
            behind: Future[None] | None = None
            for place, number in enumerate(todo):
                assert ahead is not None  # noqa: S101  there is one as long as something is to do
                portion = ahead.result()
                ahead = reader.submit(self._read, todo[place + 1]) if place + 1 < len(todo) else None
                frame = self._fitted(portion)
                if behind is not None:
                    behind.result()
                behind = writer.submit(self.kept.put_part, number, frame)
                done.add(number)
                new += frame.height
                if watch is not None:
                    watch(self._progress(done, before + new, new))
            if behind is not None:
                behind.result()
        return new

    def _progress(self, done: set[int], fits: int, new: int) -> Progress:
        rows = self.portions.rows
        share = sum(rows[i] for i in done) / max(sum(rows), 1)
        return Progress(share, fits, new, self.plan.fits, len(done), len(rows), self.executor)

    def _fits(self, parts: Sequence[int]) -> int:
        if not parts:
            return 0
        files = [self.kept.part(i) for i in parts]
        return int(polars.scan_parquet(files, glob=False).select(polars.len()).collect().item())

    def _read(self, number: int) -> Portion:
        try:
            portion = self.portions.portion(number)
        except DataError:
            self.check_inputs()
            raise
        if len(self.inputs) <= WATCHED:
            self.check_inputs()
        return portion

    def check_inputs(self) -> None:
        """Return when the input is what it was.

        Raises
        ------
        OptionError
            If it was changed in between.
        """
        files = [Print.of(Path(i.name)) if i.written else i for i in self.inputs]
        self.plan.check(self.job.asked, files, str(self.kept.folder))

    def _fitted(self, portion: Portion) -> "DataFrame":
        sample, source = self.sample, portion.source
        names = sample.model.parameters
        if source is None:
            return _rows(portion.keys, Ends.blank(0, len(names)), np.zeros(0, dtype=np.int64), names)
        part = _part(
            self.job, source, sample.model, sample.parameters, start=self.job.start, points=sample.points or 0
        )
        part.found = sample.found
        try:
            ends, dropped = part.run()
        except DataError as refused:
            begin = " and ".join(f"{name} {value}" for name, value in portion.keys.row(0, named=True).items())
            told = refused.message.removesuffix(".")
            raise DataError(f"{told}, counted from {begin}", remedy=refused.remedy) from refused
        if isinstance(self.portions, Stacks):
            self.portions.release()
        return _rows(portion.keys, ends, dropped, names)


def _portions(job: Job, table: Opened | Stack, kept: Kept, plan: Plan | None) -> tuple[Portions, Plan]:
    """Return the fits in portions, and a plan that says how they are."""
    empty = Plan({}, [], [], dealt=False, fits=None, starts=None, searched=0)
    if isinstance(table, Stack):
        stacks = Stacks(table)
        return stacks, replace(empty, cuts=[0, *np.cumsum(stacks.rows).tolist()], fits=table.count)
    columns = job.columns
    names = columns.of(table)
    if plan is None:
        try:
            feed, cuts, fits = cut(table, job.by, names, kept.folder)
        except OSError as refused:
            kept.stopped(refused, needed=sum(file.stat().st_size for file in table.files))
        layout = replace(empty, cuts=cuts, dealt=isinstance(feed, Buckets), fits=fits)
        if layout.dealt:
            told = f"Rows of one group stood apart in {table.about}, so all rows were dealt to {count(len(cuts), 'file')} first"
            layout = replace(layout, how=[told])
    else:
        feed = cut_again(table, job.by, names, kept.folder, cuts=plan.cuts, dealt_before=plan.dealt)
        layout = plan
    where = None if table.held else job.where
    tables = Tables(
        job.model, feed, job.by, tuple(names), table.about, job.spread, where, columns.always(table),
        columns.levels(table), {},
    )  # fmt: skip
    return tables, layout


def _part(
    job: Job, source: Source, model: BoundModel, parameters: Parameters, *, start: object, points: int
) -> Part:
    """Return the fits of a source, before any is made."""
    m = prod(source.shape)
    cost, counts = cost_of(job.loss, job.spread)
    starts = given_starts(source, model, parameters, start=start, m=m)
    for name, value in (job.fixed or {}).items():
        starts[:, model.parameters.index(name)] = one_per_fit(source, name, value, m, argument="fixed")
    return Part(
        source=source, model=model, parameters=parameters, starts=starts, loss=cost, counts=counts, executor=job.executor,
        settings=Settings(max_iterations=job.max_iterations, absolute=job.spread.absolute, threads=job.threads, dtype=job.dtype),
        drop=job.missing == "drop", seed=job.seed, library=library_name(job.model), points=points,
    )  # fmt: skip


def _check_names(by: Sequence[str], parameters: Sequence[str]) -> None:
    """Refuse keys that have the name of a result.

    Raises
    ------
    OptionError
        If one has.
    """
    results = {*RESULTS, *parameters, *(f"{name}_stderr" for name in parameters)}
    for name in by:
        if name in results:
            raise OptionError(
                f"The key column {name} has the name of a column of the results",
                remedy="Rename it in the input",
            )


def _plain(row: Array) -> list[float | None]:
    return [None if np.isnan(value) else float(value) for value in row]


def _rows(keys: "DataFrame", ends: Ends, dropped: Indices, names: Sequence[str]) -> "DataFrame":
    """Return one row a fit, with the columns of `ManyResult.to_frame`."""
    numbers: dict[str, Any] = {}
    for j, name in enumerate(names):
        numbers[name] = ends.parameters[:, j]
        numbers[f"{name}_stderr"] = ends.stderr[:, j]
    numbers |= {"rss": ends.rss, "points": ends.points, "missing": dropped, "iterations": ends.iterations}
    status = polars.Series("status", STATUS)[ends.status.astype(np.int64)]
    return polars.concat([keys, polars.DataFrame(numbers), status.to_frame()], how="horizontal")


# ---------------------------------------------------------------------------- what was written


def _written(run: Run, new: int, began: float) -> Written:
    frame = scanned(run.kept.out)
    words = frame.group_by("status").len().sort("len", descending=True).collect()
    counted = dict(zip(words["status"].to_list(), words["len"].to_list(), strict=True))
    total = sum(counted.values())
    shown = frame.gather_every(-(-total // SHOWN)).collect() if total > SHOWN else frame.collect()
    seconds = time.perf_counter() - began
    return Written(run.kept.out, total, counted, _result(run, shown, seconds), new, seconds)


def _result(run: Run, frame: "DataFrame", seconds: float) -> ManyResult:
    """Return rows of the output as a result, without their data."""
    sample, m = run.sample, frame.height
    names = sample.model.parameters
    number = {word: i for i, word in enumerate(STATUS)}

    def column(name: str) -> Array:
        return np.array(frame[name].cast(polars.Float64).to_numpy())

    ends = Ends(
        np.stack([column(name) for name in names], axis=1),
        np.stack([column(f"{name}_stderr") for name in names], axis=1),
        column("rss"),
        column("iterations").astype(np.int32),
        frame["status"].replace_strict(number, return_dtype=polars.Int8).to_numpy(),
        column("points").astype(np.int32),
    )
    table = replace(sample.source.sample, source=sample.source.about)
    return ManyResult(
        model=sample.model, source=Groups(table, (), np.arange(m), np.arange(m + 1)), settled=sample.parameters, fixed={},
        ends=ends, missing=column("missing").astype(np.int64), loss_used=sample.loss, counts=sample.counts,
        absolute=run.job.spread.absolute, level=0.95, executor=run.executor, how=tuple(run.plan.how),
        max_iterations=run.job.max_iterations, seconds=seconds,
    )  # fmt: skip
