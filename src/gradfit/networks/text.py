"""A trained network as text for a terminal: verdict, sentences, measures, the losses, what was done."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit.networks.sentences import MEASURES, measured_text, worst
from gradfit.notation import count, duration, fixed, significant
from gradfit.shell import arguments, as_option
from gradfit.terminal.text import Line, Page, Span, Tone, cells, fold, length, packed, pad, shorten

if TYPE_CHECKING:
    from gradfit.learn import NetworkResult

_NONE: Mapping[str, str] = MappingProxyType({})
_WORDS: Mapping[str, str] = {"trust": "Trust", "caution": "Caution", "no": "No"}
_TONES: Mapping[str, Tone] = {"trust": "trust", "caution": "caution", "no": "no"}
_BLOCKS, _ASCII_BLOCKS = "▁▂▃▄▅▆▇█", "_.-=+*%#"
_LEAST, _WIDEST = 30, 60
_NOTES = 6


def summary(
    result: "NetworkResult",
    *,
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
    files: Mapping[str, str] = _NONE,
    command: str = "",
) -> str:
    """Return the answer as text: verdict, at most three sentences, measures, the losses by epoch, what was chosen.

    Parameters
    ----------
    width : int
        Columns, 30 at least.
    color, unicode : bool
        What the terminal can show.
    files : mapping of str to str
        What was written.
    command : str
        The command that was run, for the lines to run next; without one they are calls of Python.
    """
    page = Page(max(width, _LEAST), color, unicode)
    blocks = [
        _head(result, page), _said(result, command, page), _measures(result, page), _confusion(result, page),
        _losses(result, page), _done(result, page) + _files(files, page),
    ]  # fmt: skip
    lines: list[Line] = []
    for block in blocks:
        if block:
            lines += [*([()] if lines else []), *block]
    return page.render(lines)


def _head(result: "NetworkResult", page: Page) -> list[Line]:
    mark = Span(f"{page.signs.verdicts[result.verdict]} {_WORDS[result.verdict]}", _TONES[result.verdict])
    rows = count(result.n, "row")
    facts = page.span(f"{rows}, {count(result.k, 'parameter')}, {duration(result.seconds)}", "dim")
    formula = page.span(result.formula, "bold")
    lines = packed([(mark,), (formula,), (facts,)], page.width)
    if all(length(line) <= page.width for line in lines):
        return [line if i == 0 else (Span("  "), *line) for i, line in enumerate(lines)]
    folded: list[Line] = [(Span(f"  {part}", "bold"),) for part in fold(formula.text, page.width - 2)]
    told: list[Line] = [(Span(f"  {part}", "dim"),) for part in fold(facts.text, page.width - 2)]
    return [(mark,), *folded, *told]


def _said(result: "NetworkResult", command: str, page: Page) -> list[Line]:
    tone: Tone = "dim" if result.verdict == "trust" else _TONES[result.verdict]
    remedies = [finding.remedy for finding in worst(result)] if result.verdict != "trust" else []
    lines: list[Line] = []
    for i, text in enumerate(result.sentences):
        for j, part in enumerate(fold(page.text(text), page.width - 5)):
            lines.append((Span(f"  {i + 1 if j == 0 else ' '}  ", tone), Span(part)))
        if i < len(remedies) and remedies[i]:
            lines += _next(remedies[i], command, page)
    return lines


def _next(remedy: str, command: str, page: Page) -> list[Line]:
    """Return what to run for a remedy, or its words."""
    option = as_option(remedy) if command else ""
    label, text = "Try", remedy
    if option:
        label, text = "Run", f"{command} {option}"
    elif not command and arguments(remedy):
        label, text = "Run", f"gradfit.fit(…, {remedy})"
    first, *rest = fold(page.text(text), page.width - 5 - cells(label) - 2)
    lines: list[Line] = [(Span(f"     {label}  ", "dim"), Span(first))]
    return lines + [(Span(f"     {' ' * cells(label)}  {part}"),) for part in rest]


# ---------------------------------------------------------------------------- tables


def _measures(result: "NetworkResult", page: Page) -> list[Line]:
    """Return the measures of rows trained on and held out, side by side."""
    held, folded = result.validation, result.validation is not None and bool(result.validation.folds)
    loss = "" if held is None else significant(held.loss, 3)
    spread = "" if held is None or not folded else f" ± {significant(held.stderr, 2)}"
    rows = [("", "trained on", "folds" if folded else "held out" if held is not None else "")]
    rows += [
        (
            MEASURES[name],
            measured_text(name, value),
            "" if held is None else measured_text(name, held.metrics[name]),
        )
        for name, value in result.metrics.items()
    ]
    rows.append((f"loss ({result.loss_name})", significant(result.loss, 3), loss + spread))
    shown = [tuple([page.text(cell) for cell in row]) for row in rows]
    widths = [max(cells(row[j]) for row in shown) for j in range(3)]
    gap = "   " if sum(widths) + 8 <= page.width else " "
    first = max(6, min(widths[0], page.width - 2 - 2 * len(gap) - widths[1] - widths[2]))
    lines: list[Line] = []
    for i, row in enumerate(shown):
        tone: Tone = "dim" if i == 0 else ""
        name = Span(f"  {pad(shorten(row[0], first), first)}{gap}", "dim")
        own = Span(pad(row[1], widths[1], right=True), tone)
        lines.append(
            (name, own, Span(f"{gap}{pad(row[2], widths[2], right=True)}" if held is not None else "", tone))
        )
    return lines


def _confusion(result: "NetworkResult", page: Page) -> list[Line]:
    """Return how often each class was taken for which, up to eight of them."""
    table, levels = result.confusion, result.target.levels
    if table is None or len(levels) > 8:
        return []
    names = [page.text(level) for level in levels]
    cell = [[fixed(int(value), 0) for value in row] for row in table]
    size = max([cells(part) for row in cell for part in row] + [min(cells(name), 10) for name in names]) + 2
    first = max(cells("is \\ said"), *[cells(name) for name in names])
    head = "".join(pad(name[:10], size, right=True) for name in names)
    lines: list[Line] = [(Span(f"  {pad('is / said', first)}{head}", "dim"),)]
    for name, row in zip(names, cell, strict=True):
        numbers = "".join(pad(page.text(part), size, right=True) for part in row)
        lines.append((Span(f"  {pad(name, first)}", "dim"), Span(numbers)))
    return lines if length(lines[0]) <= page.width else []


# ---------------------------------------------------------------------------- losses


def _losses(result: "NetworkResult", page: Page) -> list[Line]:
    """Return both losses by epoch as rows of blocks, on one log scale, with the ends as numbers."""
    history, held = result.history, result.validation is not None
    if len(history.epoch) < 2 or (held and np.isnan(history.validation).all()):
        return []
    curves = {"trained": history.train, **({"held out": history.validation} if held else {})}
    whole = np.concatenate([curve[np.isfinite(curve)] for curve in curves.values()])
    if not len(whole) or whole.min() <= 0:
        low, high = (float(whole.min()), float(whole.max())) if len(whole) else (0.0, 1.0)
        scale = lambda values: (values - low) / (high - low or 1.0)  # noqa: E731  two scales of one use
    else:
        low, high = float(np.log(whole.min())), float(np.log(whole.max()))
        scale = lambda values: (np.log(values) - low) / (high - low or 1.0)  # noqa: E731  as above
    room = max(10, min(page.width - 34, _WIDEST))
    lines: list[Line] = []
    for name, curve in curves.items():
        blocks = (
            page.text(_blocks(scale(curve), room))
            if page.unicode
            else _blocks(scale(curve), room, _ASCII_BLOCKS)
        )
        ends = f"{significant(float(curve[0]), 2)} → {significant(float(curve[-1]), 2)}"
        tone: Tone = "fit" if name == "trained" else "second"
        lines.append((Span(f"  {pad(name, 9)} ", "dim"), Span(blocks, tone), page.span(f"  {ends}", "dim")))
    lines.append(
        (
            page.span(
                f"  {pad('epoch', 9)} 1{pad(fixed(int(history.epoch[-1]), 0), room - 1, right=True)}", "dim"
            ),
        )
    )
    return lines


def _blocks(heights: NDArray[np.float64], room: int, signs: str = _BLOCKS) -> str:
    """Return heights from 0 to 1 as a row of at most `room` signs, each the mean of its part."""
    parts = np.array_split(heights, min(room, len(heights)))
    means = [float(np.mean(part)) if np.isfinite(part).all() else float("nan") for part in parts]
    return "".join(" " if np.isnan(m) else signs[int(np.clip(round(m * 7), 0, 7))] for m in means)


# ---------------------------------------------------------------------------- what was done


def _done(result: "NetworkResult", page: Page) -> list[Line]:
    split = (
        []
        if result.validation is None
        else [f"Held out: {count(result.validation.n, 'row')} ({result.validation.how})"]
    )
    notes = [result.message, *split, *result.how]
    lines: list[Line] = []
    for note in notes[:_NOTES]:
        text = note if note.endswith(".") else f"{note}."
        lines += [(Span(f"  {part}", "dim"),) for part in fold(page.text(text), page.width - 2)]
    return lines


def _files(files: Mapping[str, str], page: Page) -> list[Line]:
    parts: list[Line] = [(page.span(f"{label}  ", "dim"), page.span(path)) for label, path in files.items()]
    return [(Span("  "), *line) for line in packed(parts, page.width - 2)]
