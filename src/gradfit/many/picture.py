"""Figures of many fits: maps or histograms of the parameters, and the fits to look at first."""

# matplotlib leaves the keywords of its methods untyped
# pyright: reportUnknownMemberType=false

from typing import TYPE_CHECKING

import numpy as np

from gradfit.errors import OptionError
from gradfit.figures.sheet import (
    FIT,
    GREY,
    INK,
    dress_x,
    dress_y,
    heading,
    new_figure,
    own_fonts,
    room_round,
    style,
    wrapped,
)
from gradfit.figures.text import drawn, formula
from gradfit.many.findings import headline
from gradfit.many.rows import Array, even_places
from gradfit.solve.lockstep.batch import CONVERGED, STATUS

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

    from gradfit.many.result import ManyResult

BINS = 40
ACROSS = 3  # panels side by side
CURVE = 300  # places along a drawn curve


def parameters_figure(many: "ManyResult") -> "Figure":
    """Return a figure of every fitted parameter: a map where the fits are pixels, else a histogram.

    Raises
    ------
    OptionError
        If none is free.
    """
    names = [name for name, p in many.params.items() if not p.fixed]
    if not names:
        raise OptionError("Every parameter is fixed: there is nothing to draw")
    maps = len(many.shape) == 2 and min(many.shape) > 1
    with style():
        figure, panels = _panels(many, len(names), 2.3 if maps else 1.7, "" if maps else "Bars count fits.")
        for axes, name in zip(panels, names, strict=True):
            values = np.where(many.converged, many.params[name].value, np.nan)
            if maps:
                _map(figure, axes, values)
            else:
                _histogram(axes, values.reshape(-1))
            axes.set_title(drawn(name), fontsize=9.5)
        own_fonts(figure)
    return figure


def worst_figure(many: "ManyResult", most: int = 10) -> "Figure":
    """Return a figure of fits with their points: failed ones first, then those with the largest scatter.

    Raises
    ------
    OptionError
        If the model has no input column to draw along, or no fit has a point.
    """
    if not many.model.inputs:
        raise OptionError("The model has no input, so there is nothing to draw along")
    chosen = worst(many, most)
    if not len(chosen):
        raise OptionError("No fit has a point to draw")
    with style():
        figure, panels = _panels(many, len(chosen), 1.6)
        for axes, fit in zip(panels, chosen.tolist(), strict=True):
            _one(axes, many, fit)
        own_fonts(figure)
    return figure


def worst(many: "ManyResult", most: int) -> "np.typing.NDArray[np.int64]":
    """Return the places of at most `most` fits with points: failed ones spread over all, then by scatter."""
    failed = np.flatnonzero((many.ends.status != CONVERGED) & (many.ends.points > 0))
    if len(failed) > most:
        return failed[even_places(len(failed), most)]
    scatter = np.where(many.ends.status == CONVERGED, many.reduced_chi2.reshape(-1), -np.inf)
    scatter = np.where(np.isfinite(scatter), scatter, -np.inf)
    order = np.argsort(-scatter, kind="stable")[: most - len(failed)]
    return np.concatenate([failed, order[scatter[order] > -np.inf]])


def _panels(many: "ManyResult", number: int, height: float, more: str = "") -> "tuple[Figure, list[Axes]]":
    across = min(ACROSS, number)
    down = -(-number // across)
    figure = new_figure(height * down)
    told = f"{formula(many.formula) or drawn(many.formula)}   {more}".rstrip()
    top = heading(figure, wrapped(figure, headline(many), headline=True), [told])
    whole = figure.get_figheight()
    grid = figure.subplots(
        down, across, squeeze=False,
        gridspec_kw={"top": 1 - (top + 0.3) / whole, "bottom": 0.45 / whole, "left": 0.07, "right": 0.93, "hspace": 0.6, "wspace": 0.3},
    )  # fmt: skip
    cells: list[Axes] = list(grid.reshape(-1))
    for axes in cells[number:]:
        axes.set_visible(False)
    return figure, cells[:number]


def _map(figure: "Figure", axes: "Axes", values: Array) -> None:
    """Draw a map; its colours span nine tenths of the values, so that a few strays do not bleach it."""
    fine = values[np.isfinite(values)]
    low, high = np.quantile(fine, [0.02, 0.98]) if fine.size else (0.0, 1.0)
    image = axes.imshow(
        values, cmap="viridis", vmin=low, vmax=high if high > low else low + 1, interpolation="nearest"
    )
    axes.grid(visible=False)
    axes.set_xticks([])
    axes.set_yticks([])
    bar = figure.colorbar(image, ax=axes, fraction=0.046, pad=0.03)
    bar.ax.tick_params(labelsize=7.5)


def _histogram(axes: "Axes", values: Array) -> None:
    """Draw how often each value occurs; the ends of the axis leave out a hundredth on both sides."""
    fine = values[np.isfinite(values) & (np.abs(values) < 1e300)]
    if fine.size:
        low, high = np.quantile(fine, [0.01, 0.99])
        inside = fine[(fine >= low) & (fine <= high)]
        axes.hist(inside, bins=min(BINS, max(5, round(2 * len(inside) ** 0.4))), color=FIT, alpha=0.85)
        axes.set_xlim(*room_round(inside))
    axes.set_ylim(0, max(axes.get_ylim()[1], 1.0))
    dress_x(axes, "", most=3)
    dress_y(axes, "", most=3)


def _one(axes: "Axes", many: "ManyResult", fit: int) -> None:
    """Draw the points of one fit and its curve along the first input."""
    batch = many.source.one(fit, many.model).batch
    used = (
        np.full(batch.y.shape[1], fill_value=True)
        if batch.weight is None
        else np.broadcast_to(batch.weight, batch.y.shape)[0] != 0
    )
    x, y = (batch.columns[0][0] if batch.columns[0].ndim == 2 else batch.columns[0])[used], batch.y[0][used]
    axes.plot(x, y, "o", color=INK, ms=3, mew=0, ls="none")
    heights = [y]
    end = many.ends.parameters[fit]
    if np.isfinite(end).all():
        columns = [(c[0] if c.ndim == 2 else c)[used] for c in batch.columns]
        order = np.argsort(x, kind="stable")
        if len(columns) == 1:
            columns = [np.linspace(x.min(), x.max(), CURVE)]
            order = np.arange(CURVE)
        curve = many.model.kernel("numpy").value(columns, end)
        axes.plot(columns[0][order], curve[order], color=FIT, ls="-", lw=1.3)
        heights.append(curve)
    axes.set_xlim(*room_round(x))
    axes.set_ylim(*room_round(np.concatenate(heights)))
    dress_x(axes, many.model.inputs[0], most=3)
    dress_y(axes, "", most=3)
    words = ", ".join(str(v[fit]).removesuffix(".0") for v in many.keys.values()) or f"fit {fit}"
    axes.set_title(drawn(f"{words}: {STATUS[many.ends.status[fit]]}"), fontsize=8.5, color=GREY)
