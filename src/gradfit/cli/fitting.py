"""gradfit fit: look at the outputs, fit, write, print."""

import json
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradfit._lazy import stage
from gradfit.cli import networks
from gradfit.cli.arguments import (
    bounds_of,
    condition,
    held_out_of,
    noise_of,
    numbers_by_name,
    optimizer_settings,
    rate_of,
    row_numbers,
    start_of,
)
from gradfit.cli.screen import Screen
from gradfit.cli.writing import figure_bytes, targets
from gradfit.errors import GradfitError
from gradfit.fitting import fit
from gradfit.large import is_large
from gradfit.learn import NetworkResult, is_network
from gradfit.outputs import write_whole
from gradfit.result import FitResult
from gradfit.saved import saved_text, summary_dict
from gradfit.solve.descent import epoch_lines
from gradfit.table import read
from gradfit.terminal.answer import summary
from gradfit.terminal.live import LiveLine


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
    lr: str | None
    scale: str | None
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
    validation: str | None = None
    kfold: int | None = None
    groups: str | None = None
    order: str | None = None
    patience: int | None = None
    min_delta: float = 0.0
    stop: str | None = None
    checkpoint: str | None = None
    checkpoint_every: int | None = None
    resume: str | None = None
    penalty: str | None = None
    noise: str | None = None
    mixup: float | None = None

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
            "penalty": self.penalty,
            "lr": rate_of(self.lr) if self.lr is not None else None,
            "scale": self.scale,
            "noise": noise_of(self.noise) if self.noise is not None else None,
            "mixup": self.mixup,
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "scheduler": self.scheduler,
            "max_iterations": self.max_iterations,
            "memory": self.memory,
            "validation": held_out_of(self.validation) if self.validation else None,
            "kfold": self.kfold,
            "groups": self.groups,
            "order": self.order,
            "patience": self.patience,
            "min_delta": self.min_delta or None,
            "stop": self.stop,
            "checkpoint": self.checkpoint,
            "checkpoint_every": self.checkpoint_every,
            "resume": self.resume,
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
    large = told.sheet is None and (
        told.memory is not None or is_large(told.file) or Path(told.file).is_dir()
    )
    data = told.file if large else read(told.file, sheet=told.sheet)
    with _watching(told) as callback:
        result = fit(
            told.model, data, missing=told.missing, loss=told.loss, solver=told.solver, executor=told.executor,
            level=told.level, seed=told.seed, callback=callback, **settings,
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


def _content(kind: str, result: FitResult | NetworkResult, file: Path) -> bytes:
    if isinstance(result, NetworkResult):
        return networks.content(kind, result, file)
    if kind == "report":
        return stage("report").html(result).encode("utf-8", "backslashreplace")
    if kind == "figure":
        return figure_bytes(result.plot(), file.suffix)
    return saved_text(result).encode()


# ---------------------------------------------------------------------------- what is printed


def _answer(result: FitResult | NetworkResult, told: FitCommand, files: Mapping[str, str]) -> None:
    if isinstance(result, NetworkResult):
        networks.answer(result, told.command, files, json=told.json, quiet=told.quiet)
        return
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


@contextmanager
def _watching(told: FitCommand) -> Generator[Callable[..., object] | None]:
    """Show a training on one line of the terminal while it goes on; with --verbose, epochs or steps line by line."""
    screen, trains = Screen.of("stderr"), told.solver.lower() != "lm" or is_network(told.model)
    if told.verbose or told.quiet or told.json or not (screen.terminal and trains):
        yield _watch(told)
        return
    live = LiveLine(screen.draw, screen.width, screen.unicode)
    try:
        yield live
    finally:
        live.clear()


def _watch(told: FitCommand) -> Callable[..., object] | None:
    if not told.verbose:
        return None
    write = Screen.of("stderr").write
    if told.solver.lower() != "lm" or is_network(told.model):
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
