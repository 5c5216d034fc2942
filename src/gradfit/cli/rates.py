"""gradfit lr: which learning rate an optimizer should take, and what others do."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradfit._lazy import stage
from gradfit.cli.arguments import (
    bounds_of,
    condition,
    numbers_by_name,
    optimizer_settings,
    start_of,
)
from gradfit.cli.screen import Screen
from gradfit.cli.writing import figure_bytes, targets
from gradfit.notation import count, significant
from gradfit.outputs import write_whole
from gradfit.shell import command_line
from gradfit.surveying import RateSurvey, learning_rate, survey_sentence
from gradfit.terminal.drawing import Canvas, frame
from gradfit.terminal.text import Line, Page, fold

ABOVE = 1.5  # decades over the loss at the start; what ends higher is drawn there


@dataclass(frozen=True)
class RateCommand:
    """What `gradfit lr` was told, as it was written."""

    file: str
    model: str
    solver: str
    epochs: int
    batch_size: int | None
    more: Sequence[str] | None
    start: Sequence[str] | None
    bounds: Sequence[str] | None
    fix: Sequence[str] | None
    sigma: str | None
    where: Sequence[str] | None
    missing: str
    response: str | None
    sheet: str | None
    loss: str
    scale: str
    seed: int
    plot: str | None
    json: bool
    force: bool


def surveyed(told: RateCommand) -> int:
    """Return the exit code, after rates were tried."""
    files = targets({"figure": told.plot}, source=told.file, force=told.force)
    settings: dict[str, Any] = {} if told.batch_size is None else {"batch_size": told.batch_size}
    settings |= optimizer_settings(told.more) if told.more else {}
    survey = learning_rate(
        told.model, stage("table").read(told.file, sheet=told.sheet), solver=told.solver, response=told.response,
        start=start_of(told.start) if told.start else None, bounds=bounds_of(told.bounds) if told.bounds else None,
        fixed=numbers_by_name(told.fix, "--fix") if told.fix else None, sigma=told.sigma,
        where=condition(told.where) if told.where else None, missing=told.missing, loss=told.loss, scale=told.scale,
        seed=told.seed, epochs=told.epochs, **settings,
    )  # fmt: skip
    for file in files.values():
        write_whole({file: figure_bytes(survey.plot(), file.suffix)})
    screen = Screen.of("stdout")
    if told.json:
        screen.write(json.dumps({**survey.to_dict(), "figure": told.plot}, indent=1, allow_nan=False))
        return 0
    page = Page(screen.width, screen.color, screen.unicode)
    screen.write(f"{page.render(_lines(survey, page))}\n\n{_next(survey, told)}")
    if told.plot:
        screen.write(f"figure  {told.plot}")
    return 0


def _next(survey: RateSurvey, told: RateCommand) -> str:
    """Return the command that fits with the rate; a shell takes it however long it is."""
    words = ["gradfit", "fit", told.file, told.model, "--solver", told.solver, "--lr", f"{survey.rate:.3g}"]
    words += ["--epochs", str(told.epochs)]
    words += [part for start in told.start or () for part in ("--start", start)]
    words += [part for setting in told.more or () for part in ("--set", setting)]
    return command_line([*words, *(["--scale", told.scale] if told.scale != "none" else [])])


def _lines(survey: RateSurvey, page: Page) -> list[Line]:
    lines: list[Line] = [(page.span(survey_sentence(survey), "bold"),), ()]
    lines += [(page.span(part, "second"),) for part in fold(page.text(survey.told), page.width)]
    return [*lines, (), *_curve(survey, page)]


def _curve(survey: RateSurvey, page: Page) -> list[Line]:
    """Return the logarithm of the loss against that of the rate; rates that diverged at the top."""
    top = np.log10(max(survey.start_loss, 1e-300)) + ABOVE
    losses = np.where(np.isfinite(survey.losses), np.maximum(survey.losses, 1e-300), np.inf)
    y, x = np.minimum(np.log10(losses), top), np.log10(survey.rates)
    axes = ("log10 of the rate", "", f"log10 of the loss after {count(survey.epochs, 'epoch')}", "")
    placed = frame(x, y, axes, (page.width - 1, 12))
    if placed is None:
        return [(page.span(f"the loss ends at {significant(float(np.min(survey.losses)), 3)}", "dim"),)]
    canvas = Canvas(placed, page.signs, braille=page.unicode)
    canvas.curve(x, y)
    canvas.points(x, y)
    return canvas.lines(page)
