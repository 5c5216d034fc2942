"""gradfit many: many fits of one model, from a file of any size to a file."""

import json
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradfit._lazy import stage
from gradfit.cli.arguments import bounds_of, condition, names_in, values_of
from gradfit.cli.screen import Screen
from gradfit.cli.writing import targets
from gradfit.errors import OptionError
from gradfit.many.job import Job, Progress
from gradfit.many.kept import Kept, StoppedError
from gradfit.many.writing import SHOWN, Written, write_many
from gradfit.notation import count, duration, fixed, percent, significant
from gradfit.terminal.answer import failure
from gradfit.terminal.text import Line, Page, Span, Tone, fold, length, pad

if TYPE_CHECKING:
    from gradfit.diagnose import Finding

INTERRUPTED = 130  # as a shell counts a process that Ctrl-C has ended
_BAR = 30  # columns
_QUANTILES = (0.05, 0.5, 0.95)


@dataclass(frozen=True)
class ManyCommand:
    """What `gradfit many` was told, as it was written; `command` is all of it."""

    command: str
    file: str
    model: str
    out: str
    by: str | None
    axis: str | None
    arrays: Sequence[str] | None
    start: Sequence[str] | None
    bounds: Sequence[str] | None
    fix: Sequence[str] | None
    sigma: str | None
    weights: str | None
    where: Sequence[str] | None
    missing: str
    response: str | None
    sheet: str | None
    loss: str
    executor: str
    dtype: str
    max_iterations: int
    seed: int
    threads: int | None
    resume: bool
    json: bool
    quiet: bool
    force: bool

    @property
    def job(self) -> Job:
        """What is to be done.

        Raises
        ------
        OptionError
            If an option makes no sense.
        """
        return Job(
            self.model, self._data(), self.out, by=names_in(self.by or ""), axis=self._axis(), response=self.response,
            start=values_of(self.start, "--start") if self.start else None,
            bounds=bounds_of(self.bounds) if self.bounds else None,
            fixed=values_of(self.fix, "--fix") if self.fix else None,
            sigma=self.sigma, weights=self.weights, where=condition(self.where) if self.where else None,
            missing=self.missing, loss=self.loss, executor=self.executor, dtype=self.dtype, max_iterations=self.max_iterations,
            seed=self.seed, threads=self.threads, sheet=self.sheet,
        )  # fmt: skip

    def _axis(self) -> int | tuple[int, ...] | None:
        if self.axis is None:
            return None
        try:
            axes = tuple(int(part) for part in names_in(self.axis))
        except ValueError:
            axes = ()
        if not axes:
            raise OptionError(
                f"--axis takes numbers of axes, and {self.axis!r} is none",
                remedy="Write --axis 0, or --axis -2,-1",
            )
        return axes[0] if len(axes) == 1 else axes

    def _data(self) -> object:
        """Return the table, or the arrays by name.

        Raises
        ------
        OptionError
            If it is neither.
        """
        ending = Path(self.file).suffix.lower()
        if self.by is not None:
            return self.file
        if ending not in (".npy", ".npz"):
            raise OptionError(
                f"{self.file} is a table, and nothing says which of its rows belong together",
                remedy="Name the columns that do: --by pixel, or --by plate,well. Stacks are .npy or .npz",
            )
        if ending == ".npz":
            with np.load(self.file, allow_pickle=False) as held:
                arrays: dict[str, Any] = {name: held[name] for name in held.files}
        else:
            arrays = {self._observed(): self.file}
        for text in self.arrays or ():
            name, equals, path = text.partition("=")
            if not equals or not name or not path:
                raise OptionError(
                    f"--array takes name=file, and {text!r} is not that", remedy="Write --array t=times.npy"
                )
            arrays[name.strip()] = path.strip()
        return arrays

    def _observed(self) -> str:
        left = stage("formula").parse(self.model).left if "=" in self.model else None
        return self.response or (left.names[0] if left is not None and left.names else "y")


def run(told: ManyCommand) -> int:
    """Return the exit code: 0, or 1 when most of the fits failed, 2 when it stopped early, 130 when it was interrupted.

    Raises
    ------
    GradfitError
        If anything that was told cannot be done; nothing has been written then.
    """
    job = told.job
    targets({"table": told.out}, source=told.file, force=told.force or told.resume)
    screen = Screen.of("stderr")
    try:
        with _watching(told, screen) as watch:
            written = write_many(job, resume=told.resume, force=told.force, watch=watch)
    except StoppedError as stopped:
        screen.write(
            failure(stopped, head="Stopped", width=screen.width, color=screen.color, unicode=screen.unicode)
        )
        return 2
    except KeyboardInterrupt:
        screen.write(_interrupted(told))
        return INTERRUPTED
    if written is None:
        Screen.of("stdout").write(_whole(told))
        return 0
    _answer(written, told)
    return int(any(finding.severity == "error" for finding in written.shown.findings))


def _whole(told: ManyCommand) -> str:
    if told.json:
        return json.dumps({"file": told.out, "new_fits": 0})
    return f"{told.out} is whole already; nothing was left to do"


def _interrupted(told: ManyCommand) -> str:
    kept = Kept(Path(told.out))
    if not kept.begun:
        return "Interrupted before the first fit; nothing was written"
    again = told.command if told.resume else f"{told.command} --resume"
    again = again.replace(" --force", "")
    return (
        f"Interrupted; {count(len(kept.done()), 'part')} of the results kept in {kept.folder}\nRun  {again}"
    )


# ---------------------------------------------------------------------------- while it runs


@contextmanager
def _watching(told: ManyCommand, screen: Screen) -> Generator[Callable[[Progress], None] | None]:
    """Yield what shows progress; on a terminal only."""
    if not screen.terminal or told.quiet or told.json:
        yield None
        return
    progress = _bar(screen)
    label = told.by or "fits"
    with progress:
        task = progress.add_task(label, total=1.0, rate="", fits="", left="", executor="")
        began = time.monotonic()
        first: list[float] = []

        def show(now: Progress) -> None:
            seconds = time.monotonic() - began
            first.append(now.share)
            progress.update(task, completed=now.share, **_words(now, seconds, now.share - first[0], screen))

        yield show


def _bar(screen: Screen) -> Any:
    """Return a bar of rich in the look of the other output."""
    import rich.console  # noqa: PLC0415  0.1 s that only a terminal has to pay
    import rich.progress  # noqa: PLC0415

    columns = [
        rich.progress.TextColumn("  {task.description}"),
        rich.progress.BarColumn(46, style="dim", complete_style="bright_blue", finished_style="bright_blue"),
        rich.progress.TextColumn(
            "{task.percentage:>3.0f} %  {task.fields[fits]}{task.fields[rate]}{task.fields[left]}"
        ),
        rich.progress.TextColumn("[dim]{task.fields[executor]}[/]"),
    ]
    console = rich.console.Console(stderr=True, width=screen.width, no_color=not screen.color)
    return rich.progress.Progress(*columns, console=console, transient=True)


def _words(now: Progress, seconds: float, gained: float, screen: Screen) -> Mapping[str, str]:
    page = Page(screen.width, screen.color, screen.unicode)
    total = "" if now.total is None else f" of {fixed(now.total, 0)}"
    rate = now.new / max(seconds, 1e-9)
    left = (
        f"   {duration(max(seconds * (1 - now.share) / gained, 1.0))} left"
        if gained > 0 and now.share < 1
        else ""
    )
    return {
        "fits": page.text(f"{fixed(now.fits, 0)}{total}"),
        "rate": page.text(f"   {fixed(rate, 0)} fits/s"),
        "left": page.text(left),
        "executor": now.executor,
    }


# ---------------------------------------------------------------------------- at the end


def _answer(written: Written, told: ManyCommand) -> None:
    screen = Screen.of("stdout")
    if told.json:
        screen.write(json.dumps(_facts(written), indent=1, allow_nan=False))
    elif not told.quiet:
        screen.write(_text(written, Page(screen.width, screen.color, screen.unicode)))


def _facts(written: Written) -> dict[str, object]:
    """Return the answer as JSON has it."""
    shown = written.shown
    parameters: dict[str, object] = {}
    for name, p in shown.params.items():
        low, middle, high, error = _spread(written, name)
        parameters[name] = {
            "fixed": p.fixed, "quantiles": {"0.05": low, "0.5": middle, "0.95": high}, "stderr_median": error
        }  # fmt: skip
    findings = [
        {"code": f.code, "severity": f.severity, "message": f.message, "remedy": f.remedy}
        for f in shown.findings
    ]
    return {
        "formula": shown.formula, "file": str(written.out), "fits": written.fits, "status": dict(written.counted),
        "parameters": parameters, "findings": findings, "how": list(shown.how), "executor": shown.executor,
        "new_fits": written.new, "seconds": written.seconds,
    }  # fmt: skip


def _spread(written: Written, name: str) -> tuple[float | None, ...]:
    """Return three quantiles of a parameter over the fits that converged, and the median of its standard errors."""
    shown = written.shown
    good = shown.converged.reshape(-1)
    p = shown.params[name]
    values, errors = p.value.reshape(-1)[good], p.stderr.reshape(-1)[good]
    values, errors = values[np.isfinite(values)], errors[np.isfinite(errors)]
    three = np.quantile(values, _QUANTILES).tolist() if values.size else [None] * 3
    return (*three, float(np.median(errors)) if errors.size else None)


def _text(written: Written, page: Page) -> str:
    shown, converged = written.shown, written.counted.get("converged", 0)
    bad = any(f.severity == "error" for f in shown.findings)
    tone: Tone = "no" if bad else "trust" if converged == written.fits else "caution"
    said = "All" if converged == written.fits and converged > 1 else f"{fixed(converged, 0)} of"
    mark = page.span(f"{page.signs.verdicts[tone]} {said} {count(written.fits, 'fit')} converged", tone)
    rate = f", {fixed(written.new / max(written.seconds, 1e-9), 0)} a second" if written.new else ""
    facts = page.span(f"{duration(written.seconds)}{rate}, {shown.executor}", "dim")
    head: list[Line] = [(mark, Span("   "), facts)]
    head += [(Span("  "), Span(part, "bold")) for part in fold(page.text(shown.formula), page.width - 2)]
    blocks = [
        head,
        _statuses(written, page),
        _parameters(written, page),
        _findings(shown.findings, page),
        _end(written, page),
    ]
    lines: list[Line] = []
    for block in blocks:
        if block:
            lines += [*([()] if lines else []), *block]
    return page.render(lines)


def _statuses(written: Written, page: Page) -> list[Line]:
    """Return how many fits have each status, where there are several."""
    if len(written.counted) < 2:
        return []
    rows = [
        (word, page.text(fixed(n, 0)), page.text(percent(n / written.fits)), n)
        for word, n in written.counted.items()
    ]
    widths = [
        max(len(word) for word, *_ in rows),
        max(len(row[1]) for row in rows),
        max(len(row[2]) for row in rows),
    ]
    lines: list[Line] = []
    for word, number, share, n in rows:
        bar = page.signs.thick * max(round(_BAR * n / written.fits), 1)
        text = f"  {pad(word, widths[0])}   {number.rjust(widths[1])}   {share.rjust(widths[2])}   "
        lines.append((Span(text), Span(bar, "fit" if word == "converged" else "second")))
    return lines


def _parameters(written: Written, page: Page) -> list[Line]:
    """Return quantiles of each parameter over the fits that converged."""
    if not written.counted.get("converged"):
        return []
    heads = ["", "5 %", "median", "95 %", "s.e., median"]
    rows = [[page.text(text) for text in heads]]
    for name, p in written.shown.params.items():
        *three, error = _spread(written, name)
        cells = ["" if v is None else significant(v, 4) for v in three]
        last = "fixed" if p.fixed else "none" if error is None else significant(error)
        rows.append([page.text(cell) for cell in (name, *cells, last)])
    widths = [max(len(row[j]) for row in rows) for j in range(len(heads))]
    lines: list[Line] = []
    for i, row in enumerate(rows):
        rest = "".join(f"   {cell.rjust(width)}" for cell, width in zip(row[1:], widths[1:], strict=True))
        lines.append((Span(f"  {pad(row[0], widths[0])}", "bold"), Span(rest, "" if i else "dim")))
    return lines


def _findings(findings: Sequence["Finding"], page: Page) -> list[Line]:
    lines: list[Line] = []
    for i, finding in enumerate(findings, 1):
        text = f"{finding.message}. {finding.remedy}".rstrip()
        for j, part in enumerate(fold(page.text(text), page.width - 5)):
            lines.append(
                (
                    Span(f"  {i if j == 0 else ' '}  ", "no" if finding.severity == "error" else "caution"),
                    Span(part),
                )
            )
    return lines


def _end(written: Written, page: Page) -> list[Line]:
    """Return how starts were found, what numbers are of a sample, and the file."""
    notes = [*written.shown.how]
    if written.fits > SHOWN:
        notes.append(f"Quantiles and findings are of {count(len(written.shown), 'fit')}, evenly chosen")
    lines: list[Line] = [
        (Span(f"  {part}", "dim"),) for note in notes for part in fold(page.text(note), page.width - 2)
    ]
    label = page.span("  out  ", "dim")
    first, *rest = fold(page.text(str(written.out)), page.width - length((label,)))
    return [*lines, (label, Span(first)), *((Span(f"       {part}"),) for part in rest)]
