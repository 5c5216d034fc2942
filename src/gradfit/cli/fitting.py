"""gradfit fit: look at the outputs, fit, write, print."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradfit._lazy import stage
from gradfit.cli.arguments import (
    bounds_of,
    condition,
    numbers_by_name,
    optimizer_settings,
    row_numbers,
    start_of,
)
from gradfit.cli.screen import Screen
from gradfit.cli.writing import figure_bytes, targets
from gradfit.errors import GradfitError
from gradfit.fitting import fit
from gradfit.large import is_large
from gradfit.outputs import write_whole
from gradfit.result import FitResult
from gradfit.saved import saved_text, summary_dict
from gradfit.solve.descent import epoch_lines
from gradfit.table import read
from gradfit.terminal import summary


@dataclass(frozen=True)
class FitCommand:
    """What `gradfit fit` was told, as it was written; `command` is all of it."""

    command: str
    file: str
    model: str
    start: Sequence[str] | None
    bounds: Sequence[str] | None
    fix: Sequence[str] | None
    sigma: str | None
    weights: str | None
    where: Sequence[str] | None
    exclude: Sequence[str] | None
    missing: str
    response: str | None
    sheet: str | None
    loss: str
    solver: str
    lr: float | None
    epochs: int | None
    batch_size: int | None
    scheduler: str | None
    more: Sequence[str] | None
    max_iterations: int | None
    executor: str
    memory: str | None
    level: float
    seed: int
    outputs: Mapping[str, str | None]  # "report", "fit", "figure" -> name of a file
    json: bool
    quiet: bool
    verbose: bool
    force: bool

    @property
    def settings(self) -> dict[str, Any]:  # each of its own kind
        """The arguments of `gradfit.fit`, those that were given."""
        given: dict[str, Any] = {
            "start": start_of(self.start) if self.start else None,
            "bounds": bounds_of(self.bounds) if self.bounds else None,
            "fixed": numbers_by_name(self.fix, "--fix") if self.fix else None,
            "sigma": self.sigma,
            "weights": self.weights,
            "where": condition(self.where) if self.where else None,
            "exclude": row_numbers(self.exclude) if self.exclude else None,
            "response": self.response,
            "lr": self.lr,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "scheduler": self.scheduler,
            "max_iterations": self.max_iterations,
            "memory": self.memory,
            **(optimizer_settings(self.more) if self.more else {}),
        }
        return {name: value for name, value in given.items() if value is not None}


def run(told: FitCommand) -> int:
    """Return the exit code of a fit: 0, or 1 when its verdict is No.

    Raises
    ------
    GradfitError
        If anything that was told cannot be done; nothing has been written then.
    """
    files = targets(told.outputs, source=told.file, force=told.force)
    settings = told.settings
    large = told.sheet is None and (told.memory is not None or is_large(told.file))
    data = told.file if large else read(told.file, sheet=told.sheet)
    result = fit(
        told.model, data, missing=told.missing, loss=told.loss, solver=told.solver, executor=told.executor,
        level=told.level, seed=told.seed, callback=_watch(told), **settings,
    )  # fmt: skip
    if told.verbose:
        _tell_how(result)
    try:
        write_whole({file: _content(kind, result, file) for kind, file in files.items()})
    except GradfitError:
        _answer(result, told, {})
        raise
    _answer(result, told, {kind: str(told.outputs[kind]) for kind in files})
    return int(result.verdict == "no")


def _content(kind: str, result: FitResult, file: Path) -> bytes:
    if kind == "report":
        return stage("report").html(result).encode("utf-8", "backslashreplace")
    if kind == "figure":
        return figure_bytes(result.plot(), file.suffix)
    return saved_text(result).encode()


# ---------------------------------------------------------------------------- what is printed


def _answer(result: FitResult, told: FitCommand, files: Mapping[str, str]) -> None:
    screen = Screen.of("stdout")
    if told.json:
        screen.write(json.dumps({**summary_dict(result), "files": dict(files)}, indent=1, allow_nan=False))
    elif not told.quiet:
        screen.write(
            summary(
                result,
                width=screen.width,
                color=screen.color,
                unicode=screen.unicode,
                files=files,
                command=told.command,
            )
        )
    elif result.verdict != "trust":
        words = [f"{result.verdict.capitalize()}:", *result.sentences[:1]]
        Screen.of("stderr").write(" ".join(words))


def _watch(told: FitCommand) -> Callable[..., object] | None:
    if not told.verbose:
        return None
    write = Screen.of("stderr").write
    if told.solver.lower() != "lm":
        return epoch_lines(write)

    def line(step: int, loss: float, parameters: object) -> None:
        del parameters
        write(f"Step {step}, Loss {loss:{'f' if 1e-3 <= loss < 1e9 else '.6e'}}")

    return line


def _tell_how(result: FitResult) -> None:
    screen = Screen.of("stderr")
    for sentence in (*result.how, result.message):
        screen.write(sentence)
    screen.write(f"Solved by {result.solver}, executor {result.executor}")
