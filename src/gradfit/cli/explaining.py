"""gradfit shapes and explain: what broadcasting does, and what one forward and one backward pass do."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite

from gradfit._lazy import stage
from gradfit.broadcasting import Shapes, picture
from gradfit.cli.arguments import condition, start_of
from gradfit.cli.screen import Screen
from gradfit.cli.writing import figure_bytes, targets
from gradfit.errors import OptionError
from gradfit.outputs import write_whole
from gradfit.shape_expression import shapes
from gradfit.terminal.text import Line, Page, Span, Tone, fold

RATES = (1e-2, 1e-3, 1e-4)  # where none is given

_TONES: Mapping[str, Tone] = {"result": "bold", "rule": "dim", "fact": "", "note": "second", "step": "bold"}


def shapes_shown(text: str, *, dtype: str, as_json: bool) -> int:
    """Return the exit code, after shapes were joined."""
    seen = shapes(text, dtype=dtype)
    screen = Screen.of("stdout")
    if as_json:
        screen.write(json.dumps(_plain(seen), indent=1))
        return 0
    page = Page(screen.width, screen.color, screen.unicode)
    lines: list[Line] = [(page.span(seen.text, "bold"),)]
    for kind, line in picture(seen):
        if kind in ("sizes", "rule", "result", ""):
            lines.append((page.span(line, _TONES.get(kind, "")),))
            continue
        first, *rest = fold(page.text(line.strip()), page.width - 4)
        lines.append((Span(f"  {first}", _TONES[kind]),))
        lines += [(Span(f"    {part}", _TONES[kind]),) for part in rest]
    screen.write(page.render(lines))
    return 0


def _plain(seen: Shapes) -> dict[str, object]:
    steps = [
        {
            "text": step.text,
            "operands": [{"label": operand.label, "shape": operand.shape} for operand in step.operands],
            "result": step.result,
            "dimensions": [
                {"axis": d.axis, "size": d.size, "sizes": d.sizes, "rule": d.rule} for d in step.dimensions
            ],
            "repeats": step.repeats,
        }
        for step in seen.steps
    ]
    return {
        "text": seen.text,
        "shape": seen.shape,
        "values": seen.size,
        "dtype": seen.dtype,
        "bytes": seen.bytes,
        "steps": steps,
    }


# ---------------------------------------------------------------------------- explain


@dataclass(frozen=True)
class ExplainCommand:
    """What `gradfit explain` was told, as it was written."""

    file: str
    model: str
    start: Sequence[str] | None
    lr: Sequence[str] | None
    where: Sequence[str] | None
    response: str | None
    missing: str
    sheet: str | None
    dtype: str
    plot: str | None
    json: bool
    force: bool


def explained(told: ExplainCommand) -> int:
    """Return the exit code, after one forward and one backward pass: 1 where the loss or a gradient is not finite."""
    files = targets({"figure": told.plot}, source=told.file, force=told.force)
    rates = _rates(told.lr) if told.lr else RATES
    data = stage("table").read(told.file, sheet=told.sheet)
    seen = stage("explaining").explain(
        told.model, data, start=start_of(told.start) if told.start else None, lr=rates, response=told.response,
        where=condition(told.where) if told.where else None, missing=told.missing, dtype=told.dtype,
    )  # fmt: skip
    for file in files.values():
        write_whole({file: figure_bytes(seen.plot(), file.suffix)})
    screen = Screen.of("stdout")
    if told.json:
        screen.write(json.dumps({**seen.to_dict(), "figure": told.plot}, indent=1, allow_nan=False))
    else:
        text = stage("terminal.explaining").explanation_text(
            seen, width=screen.width, color=screen.color, unicode=screen.unicode
        )
        screen.write(text + (f"\n\nfigure  {told.plot}" if told.plot else ""))
    return int(not seen.finite)


def _rates(texts: Sequence[str]) -> tuple[float, ...]:
    """Return learning rates; each option may hold several, parted by commas.

    Raises
    ------
    OptionError
        If one is no positive number.
    """
    out: list[float] = []
    for part in (part.strip() for text in texts for part in text.split(",")):
        try:
            rate = float(part)
        except ValueError:
            rate = -1.0
        if not (isfinite(rate) and rate > 0):
            raise OptionError(
                f"--lr takes positive numbers, and {part!r} is none", remedy="Write --lr 1e-2 --lr 1e-4"
            )
        out.append(rate)
    return tuple(out)
