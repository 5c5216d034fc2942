"""A figure of a forward and a backward pass: the operations from left to right, values above them, gradients below."""

# matplotlib leaves the keywords of its methods untyped
# pyright: reportUnknownMemberType=false

import importlib
from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from gradfit.broadcasting import text_of
from gradfit.explaining.folding import READABLE, folded
from gradfit.explaining.values import INPUT, LOSS, OBSERVED, PARAMETER, Operation, Spread
from gradfit.explaining.words import given, range_text, receives
from gradfit.figures.graph import beside_their_use, places
from gradfit.figures.sheet import (
    AXIS,
    FIT,
    GREY,
    INK,
    PAPER,
    WIDTH,
    fitted,
    heading,
    new_figure,
    own_fonts,
    style,
    text_width,
    wrapped,
)
from gradfit.figures.text import drawn, mixed, symbol
from gradfit.notation import count, exact, listing, significant, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

    from gradfit.explaining import Explanation

SECOND = "#b34700"  # the other series, as the style sheet has it
PITCH = 1.16  # inches from column to column
LANE = 1.02  # inches from lane to lane
BOX = (0.76, 0.36)  # inches; wider where the columns are
COLUMNS = 12  # side by side; longer chains are folded
_AGAIN = {
    "boxstyle": "round,pad=0.35",
    "facecolor": PAPER,
    "edgecolor": AXIS,
    "linewidth": 0.7,
    "linestyle": ":",
}
_APART = 0.045  # inches between the way forward and the way back
_MARGIN = 0.14


def explanation_figure(explanation: "Explanation") -> "Figure":
    """Return a figure of a pass: each operation with its value above and the gradient that comes back below."""
    shown, again = beside_their_use(_short_enough(explanation.operations))
    at = places(shown)
    columns = 1 + max(place.column for place in at)
    low, high = min(place.lane for place in at), max(place.lane for place in at)
    width = max(WIDTH, columns * PITCH + 2 * _MARGIN)
    with style():
        figure = new_figure((high - low + 1) * LANE + 0.30, width)
        top = heading(
            figure,
            wrapped(figure, _headline(explanation), headline=True),
            _under(figure, explanation, len(explanation.operations) - len(shown) + len(again)),
        )
        height = figure.get_figheight()
        axes = figure.add_axes((0, 0, 1, 1 - (top + 0.30) / height))
        axes.set_axis_off()
        axes.set_xlim(0, width)
        axes.set_ylim(0, height - top - 0.30)
        _key(figure, 1 - (top + 0.14) / height)
        pitch = (width - 2 * _MARGIN) / columns
        centres = [(_MARGIN + (p.column + 0.5) * pitch, (high - p.lane + 0.5) * LANE) for p in at]
        _draw(figure, axes, shown, centres, again=again, width=min(pitch - 0.34, 1.1))
        own_fonts(figure)
    return figure


def _short_enough(operations: Sequence[Operation]) -> tuple[Operation, ...]:
    """Return a graph that is neither too long nor too wide to be read."""
    most = READABLE
    while True:
        shown = folded(operations, most)
        if most <= 8 or max(place.column for place in places(shown)) < COLUMNS:
            return shown
        most -= 1 + (len(shown) < most)


# ---------------------------------------------------------------------------- words


def _headline(e: "Explanation") -> str:
    bad = e.first_not_finite
    if bad is not None:
        return f"{bad.text} is the first value that is not finite"
    bad = e.first_gradient_not_finite
    if bad is not None:
        return f"The loss is finite, and the derivative of {bad.text} is not"
    loss = f"The loss is {with_unit(significant(e.loss, 4), e.loss_unit)}"
    sized = sorted((p for p in e.parameters if p.size > 0), key=lambda p: p.size)
    if len(sized) < 2:
        return loss
    high, low = sized[-1].name, sized[0].name
    return f"{loss}, and the gradient of {high} is {significant(e.ratio)} times that of {low}"


def _under(figure: "Figure", e: "Explanation", folds: int) -> list[str]:
    """Return the model, the point, and what a step would do."""
    told = [f"{p.name} = {given(float(p.value))}" for p in e.parameters if p.value.ndim == 0]
    point = f" at {listing(told, most=6)}" if told else ""
    note = f"; {count(folds, 'operation')} more are folded into these" if folds else ""
    lines = wrapped(figure, f"{e.model}{point}.  {count(e.rows, 'row')}, {e.loss_name}{note}", most=2)
    steps = [
        f"lr {exact(s.lr)} → {significant(s.loss, 4) if isfinite(s.loss) else 'not finite'}"
        for s in e.steps[:4]
    ]
    return [*lines, mixed(f"Loss after one step:  {',   '.join(steps)}")] if steps else lines


def _key(figure: "Figure", height: float) -> None:
    """Say once what stands above and below a node."""
    left = 0.02  # as the heading's
    above = "above a box: its values, forward →"
    figure.text(left, height, above, size=9, color=FIT, va="center")
    room = text_width(figure, above, size=9) + 0.25
    figure.text(
        left + room / figure.get_figwidth(), height, "below: the gradient of the loss, coming back ←", size=9, color=SECOND,
        va="center",
    )  # fmt: skip


# ---------------------------------------------------------------------------- nodes and edges


def _draw(
    figure: "Figure",
    axes: "Axes",
    shown: Sequence[Operation],
    centres: list[tuple[float, float]],
    *,
    again: frozenset[int],
    width: float,
) -> None:
    receivers = receives(shown)
    for i, o in enumerate(shown):
        for j in o.operands:
            _edge(axes, centres[j], centres[i], width, back=shown[j].gradient is not None)
    for i, (o, centre) in enumerate(zip(shown, centres, strict=True)):
        _node(figure, axes, o, centre, width=width, receiver=receivers[i], again=i in again)


def _edge(
    axes: "Axes", start: tuple[float, float], end: tuple[float, float], width: float, *, back: bool
) -> None:
    """Draw the way forward, and beside it the way back where a gradient takes it."""
    left, right = (start[0] + width / 2, start[1]), (end[0] - width / 2, end[1])
    shift = _APART if back else 0.0
    _arrow(axes, (left[0], left[1] + shift), (right[0], right[1] + shift), FIT, line="-")
    if back:
        _arrow(axes, (right[0], right[1] - shift), (left[0], left[1] - shift), SECOND, line=(0, (3, 1.5)))


def _arrow(
    axes: "Axes", start: tuple[float, float], end: tuple[float, float], color: str, *, line: object
) -> None:
    patches = importlib.import_module("matplotlib.patches")
    paths = importlib.import_module("matplotlib.path")
    middle = (start[0] + end[0]) / 2
    path = paths.Path([start, (middle, start[1]), (middle, end[1]), end], [1, 4, 4, 4])
    arrow: Any = patches.FancyArrowPatch(
        path=path, arrowstyle="-|>", mutation_scale=6, color=color, lw=1.0, ls=line, shrinkA=0, shrinkB=0, zorder=1,
        capstyle="butt", joinstyle="miter",
    )  # fmt: skip
    axes.add_patch(arrow)


def _node(
    figure: "Figure",
    axes: "Axes",
    o: Operation,
    centre: tuple[float, float],
    *,
    width: float,
    receiver: bool,
    again: bool,
) -> None:
    patches = importlib.import_module("matplotlib.patches")
    x, y = centre
    height = BOX[1]
    if again:
        axes.text(
            x + width / 2 - 0.05,
            y,
            symbol(o.symbol),
            size=9,
            color=GREY,
            ha="right",
            va="center",
            zorder=3,
            bbox=_AGAIN,
        )
        return
    sick = not o.value.finite or (o.gradient is not None and not o.gradient.finite)
    leaf = o.kind in (INPUT, OBSERVED, PARAMETER)
    edge = SECOND if sick else FIT if o.kind == PARAMETER else INK if o.kind == LOSS else AXIS
    box: Any = patches.FancyBboxPatch(
        (x - width / 2, y - height / 2), width, height, boxstyle=f"round,pad=0,rounding_size={0.17 if leaf else 0.04}",
        facecolor=PAPER, edgecolor=edge, lw=1.6 if o.kind in (PARAMETER, LOSS) or sick else 0.9, zorder=2,
    )  # fmt: skip
    axes.add_patch(box)
    name = symbol(o.symbol) if leaf else drawn(o.symbol)
    size = next((s for s in (10, 9, 8, 7) if text_width(figure, name, size=s) <= width - 0.08), 0)
    if not size:
        name, size = fitted(figure, o.symbol, width - 0.08, size=7), 7
    shape = text_of(o.shape)
    axes.text(
        x, y + 0.065, name, size=size, weight="normal" if leaf else "bold", ha="center", va="center", zorder=3
    )
    axes.text(
        x,
        y - 0.105,
        fitted(figure, shape, width - 0.06, size=6.5),
        size=6.5,
        color=GREY,
        ha="center",
        va="center",
        zorder=3,
    )
    value = f"loss {_range(o.value)}" if o.kind == LOSS else _range(o.value)
    axes.text(
        x,
        y + height / 2 + 0.04,
        value,
        size=7.5,
        color=FIT,
        ha="center",
        va="bottom",
        zorder=3,
        linespacing=1.15,
    )
    if o.gradient is not None or receiver:
        back = _range(o.gradient) if o.gradient is not None else "none comes"
        axes.text(
            x,
            y - height / 2 - 0.05,
            back,
            size=7.5,
            color=SECOND,
            ha="center",
            va="top",
            zorder=3,
            linespacing=1.15,
        )


def _range(spread: Spread) -> str:
    """Return a range in one line, or in two where it is long."""
    if not spread.finite and spread.low == spread.low:
        return f"{spread.lost} not finite"
    text = range_text(spread)
    if len(text) > 15:
        text = text.replace(" to ", "\nto ", 1).replace(", ", "\n", 1)
    return "\n".join(mixed(line) for line in text.split("\n"))
