"""gradfit grow: the ladder as it is climbed, the choice, and its files."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import gradfit.networks as networks
import gradfit.terminal.growing as terminal_growing
from gradfit._lazy import stage
from gradfit.cli.arguments import condition, row_numbers
from gradfit.cli.screen import Screen
from gradfit.cli.writing import figure_bytes, targets
from gradfit.errors import OptionError
from gradfit.growing import GrowResult, Rung, grow
from gradfit.learn import NetworkResult
from gradfit.networks import network_bytes
from gradfit.outputs import write_whole
from gradfit.saved import saved_text, summary_dict
from gradfit.saved.plain import finite
from gradfit.table import read
from gradfit.terminal.text import Page


@dataclass(frozen=True)
class GrowCommand:
    """What `gradfit grow` was told, as it was written."""

    file: str
    model: str
    sizes: str | None
    kfold: int | None
    validation: float | None
    groups: str | None
    order: str | None
    seeds: int
    rule: str
    sigma: str | None
    weights: str | None
    where: Sequence[str] | None
    exclude: Sequence[str] | None
    missing: str
    sheet: str | None
    seed: int
    outputs: Mapping[str, str | None]  # "report", "fit", "figure" -> name of a file
    json: bool
    quiet: bool
    force: bool


def run(told: GrowCommand) -> int:
    """Return the exit code: 0, or 1 when the verdict on the chosen fit is No.

    Raises
    ------
    GradfitError
        If anything that was told cannot be done; nothing has been written then.
    """
    files = targets(told.outputs, source=told.file, force=told.force)
    screen = Screen.of("stdout")
    live = screen.terminal and not (told.json or told.quiet)
    grown = grow(
        told.model, read(told.file, sheet=told.sheet), sizes=_sizes(told.sizes), kfold=told.kfold,
        validation=told.validation, groups=told.groups, order=told.order, seeds=told.seeds, rule=told.rule,
        sigma=told.sigma, weights=told.weights, where=condition(told.where) if told.where else None,
        exclude=row_numbers(told.exclude) if told.exclude else None, missing=told.missing, seed=told.seed,
        callback=_printer(screen) if live else None,
    )  # fmt: skip
    contents = {
        file: figure_bytes(grown.plot(), file.suffix) if kind == "figure" else _content(kind, grown)
        for kind, file in files.items()
    }
    write_whole(contents)
    _answer(grown, told, screen, live=live)
    return int(getattr(grown.chosen, "verdict", "trust") == "no")


def _content(kind: str, grown: GrowResult) -> bytes:
    if kind == "report":
        return stage("report").html(grown.chosen).encode("utf-8", "backslashreplace")
    if isinstance(grown.chosen, NetworkResult):
        return network_bytes(grown.chosen)
    return saved_text(grown.chosen).encode()


def _sizes(text: str | None) -> Sequence[int] | int | None:
    """Return sizes from 8, 0:8 or 1,2,4,8.

    Raises
    ------
    OptionError
        If it is none of these.
    """
    if text is None:
        return None
    try:
        if ":" in text:
            low, high = (int(part) for part in text.split(":"))
            return range(low, high + 1)
        several = [int(part) for part in text.split(",")]
    except ValueError:
        raise OptionError(
            f"--sizes takes whole numbers, and {text!r} is none", remedy="Write --sizes 0:8"
        ) from None
    return several if len(several) > 1 else several[0]


def _printer(screen: Screen) -> Callable[[Rung], None]:
    """Return what prints each size as soon as it is done."""
    page = Page(screen.width, screen.color, screen.unicode)
    seen: list[int] = []

    def line(rung: Rung) -> None:
        if not seen:
            screen.write(page.render([terminal_growing.head(page)]))
        seen.append(rung.size)
        screen.write(page.render([terminal_growing.row(rung, page)]))

    return line


def _answer(grown: GrowResult, told: GrowCommand, screen: Screen, *, live: bool) -> None:
    files = {kind: path for kind, path in told.outputs.items() if path is not None}
    if told.json:
        screen.write(json.dumps({**_facts(grown), "files": files}, indent=1, allow_nan=False))
    elif not told.quiet:
        text = terminal_growing.summary(
            grown, width=screen.width, color=screen.color, unicode=screen.unicode, files=files, table=not live
        )
        screen.write(f"\n{text}" if live else text)


def _facts(grown: GrowResult) -> dict[str, object]:
    """Return the ladder and the chosen fit as plain values."""
    rungs = [
        {
            "size": r.size, "label": r.label, "parameters": r.parameters, "train": finite(r.train),
            "validation": finite(r.validation), "stderr": finite(r.stderr),
        }
        for r in grown.rungs
    ]  # fmt: skip
    chosen = grown.chosen
    return {
        "model": grown.text, "size": grown.size, "sentence": grown.sentence, "rungs": rungs,
        "chosen": networks.summary_dict(chosen) if isinstance(chosen, NetworkResult) else summary_dict(chosen),
    }  # fmt: skip
