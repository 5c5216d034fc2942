"""A figure of the library: the curve of each model, small and side by side."""

# matplotlib leaves the keywords of its methods untyped
# pyright: reportUnknownMemberType=false

from collections.abc import Iterable
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit.figures.sheet import (
    FIT,
    GREY,
    SECOND_INK,
    fitted,
    heading,
    new_figure,
    own_fonts,
    room_round,
    style,
    text_width,
    wrapped,
)
from gradfit.figures.text import formula
from gradfit.formula import parse
from gradfit.notation import count, listing

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

    from gradfit.library import LibraryModel

Array = NDArray[np.float64]

ACROSS = 5  # models side by side


def models_figure(models: Iterable["LibraryModel"]) -> "Figure":
    """Return the curve of each library model at its example, small and side by side, with name and formula."""
    models = list(models)
    down = max(ceil(len(models) / ACROSS), 1)
    with style():
        figure = new_figure(1.32 * down + 0.1)
        headline = f"{count(len(models), 'library model')}, each at its example"
        groups = listing(tuple(dict.fromkeys(model.group for model in models)))
        top = heading(figure, wrapped(figure, headline, headline=True), wrapped(figure, groups.capitalize()))
        height = figure.get_figheight()
        grid: Any = figure.subplots(
            down, ACROSS, squeeze=False,
            gridspec_kw={
                "top": 1 - (top + 0.42) / height, "bottom": 0.1 / height, "left": 0.02, "right": 0.98,
                "hspace": 0.62, "wspace": 0.12,
            },
        )  # fmt: skip
        for i, axes in enumerate(grid.flat):
            axes.set_axis_off()
            if i < len(models):
                _small(figure, axes, models[i])
        own_fonts(figure)
    return figure


def _small(figure: "Figure", axes: "Axes", model: "LibraryModel") -> None:
    """Draw one model over its span."""
    x: Array = np.linspace(*model.span, 300)
    with np.errstate(all="ignore"):
        y = np.broadcast_to(parse(model.formula).right.evaluate({**model.example, "x": x}), x.shape)
    axes.set_xlim(*model.span)
    axes.set_ylim(*room_round(y, 0.08))
    axes.axhline(axes.get_ylim()[0], color=GREY, lw=0.8)
    axes.plot(x, y, color=FIT, ls="-")
    room = figure.get_figwidth() * 0.96 / ACROSS - 0.08
    written = formula(model.formula)
    size = next(
        (size for size in (7.5, 6.5) if written and text_width(figure, written, size=size) <= room), 0.0
    )
    name = next((s for s in (8.5, 7.5) if text_width(figure, model.name, size=s, bold=True) <= room), 6.5)
    under = written if size else fitted(figure, model.title, room, size=7)
    axes.text(
        0, 1.24, fitted(figure, model.name, room, size=name, bold=True), transform=axes.transAxes,
        va="bottom", fontsize=name, weight="bold",
    )  # fmt: skip
    axes.text(
        0, 1.06, under, transform=axes.transAxes, va="bottom", fontsize=size or 7, color=SECOND_INK,
    )  # fmt: skip
