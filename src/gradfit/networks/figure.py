"""Figures of a trained network: its losses, and the fit, observed over predicted, or the confusion of classes."""

# matplotlib leaves the keywords of its methods untyped
# pyright: reportUnknownMemberType=false

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit.figures.sheet import (
    FIT,
    GREY,
    INK,
    LARGEST,
    PAPER,
    density,
    dress_x,
    dress_y,
    heading,
    new_figure,
    own_fonts,
    room_round,
    style,
    wrapped,
)  # fmt: skip
from gradfit.figures.text import drawn
from gradfit.learn.result import NetworkResult, Part
from gradfit.networks.sentences import said
from gradfit.notation import count, fixed, significant

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

Array = NDArray[np.float64]

SECOND = "#b34700"  # of what was held out
MANY = 2000  # points from which hexagons are drawn
GRID = 300  # places of the curve over one input
MOST_CLASSES = 20


def network_figure(result: NetworkResult) -> "Figure":
    """Return a figure: the losses by epoch, and beside them what the network does with its rows."""
    with style():
        figure = new_figure(2.9)
        lines = wrapped(figure, drawn(said(result)[0]), headline=True)
        facts = f"{count(result.n, 'row')}, {count(result.k, 'parameter')}.  Verdict: {result.verdict.capitalize()}"
        top = heading(figure, lines, [drawn(facts)])
        height = figure.get_figheight()
        several = result.train is not None
        axes = figure.subplots(
            1, 2 if several else 1, squeeze=False,
            gridspec_kw={"wspace": 0.42, "left": 0.08, "right": 0.97, "top": 1 - (top + 0.35) / height, "bottom": 0.5 / height},
        )[0]  # fmt: skip
        _losses(axes[0], result)
        if several:
            _rows(axes[1], result)
        own_fonts(figure)
    return figure


def _losses(axes: "Axes", result: NetworkResult) -> None:
    """Draw both losses, on log axes where they can be; the kept epoch is a ring."""
    history = result.history
    curves = [(history.train, FIT, "-", "trained"), (history.validation, SECOND, "--", "held out")]
    finite = np.concatenate([curve[np.isfinite(curve)] for curve, *_ in curves])
    if len(finite) and finite.min() > 0:
        axes.set_yscale("log")
    if len(history.epoch) > 20:
        axes.set_xscale("log")
    shown = [(curve, name) for curve, _, _, name in curves if np.isfinite(curve).any()]
    upper = max(shown, key=lambda one: float(one[0][np.isfinite(one[0])][-1]), default=(history.train, ""))[1]
    for curve, color, line, name in curves:
        seen = np.isfinite(curve) & (np.abs(curve) < LARGEST)
        if not seen.any():
            continue
        axes.plot(history.epoch[seen], curve[seen], line, color=color, linewidth=1.5)
        axes.annotate(
            name, (history.epoch[seen][-1], curve[seen][-1]), xytext=(6, 0), textcoords="offset points", color=color,
            va="bottom" if name == upper else "top", fontsize=9, annotation_clip=False,
        )  # fmt: skip
    _ring(axes, result)
    _plain_ticks(axes)
    axes.set_xlabel("epoch", loc="right")
    axes.set_title(f"loss ({result.loss_name})", loc="left", fontsize=9, color=GREY, fontweight="normal")


def _ring(axes: "Axes", result: NetworkResult) -> None:
    """Mark the epoch whose parameters were kept."""
    kept, history = result.best_epoch - 1, result.history
    curve = history.train if np.isnan(history.validation).all() else history.validation
    if 0 <= kept < len(curve) and np.isfinite(curve[kept]):
        color = FIT if curve is history.train else SECOND
        axes.plot(history.epoch[kept], curve[kept], "o", color=color, markerfacecolor=PAPER, markersize=6)


def _plain_ticks(axes: "Axes") -> None:
    """Write the ticks of log axes as plain numbers: 1, 2 and 5 times powers of ten where they span little."""
    for scale, ends, put in (
        (axes.get_yscale(), axes.get_ylim(), axes.set_yticks), (axes.get_xscale(), axes.get_xlim(), axes.set_xticks),
    ):  # fmt: skip
        if scale != "log":
            continue
        low, high = np.log10(ends)
        if not np.isfinite(high - low):
            continue
        decades = np.arange(np.floor(low), np.ceil(high) + 1)
        parts = (1, 2, 5) if high - low < 2.5 else (1,)
        every = max(1, round((high - low) / 5))
        ticks = [part * 10.0**k for k in decades[::every] for part in parts]
        ticks = [tick for tick in ticks if ends[0] <= tick <= ends[1]]
        put(ticks, labels=[drawn(significant(tick, 1)) for tick in ticks])
        put([], minor=True)


def _rows(axes: "Axes", result: NetworkResult) -> None:
    if result.target.classes:
        _confusion(axes, result)
        return
    part = result.held if result.held is not None else result.train
    assert part is not None  # noqa: S101  the caller has looked
    one = (
        len(result.inputs) == 1
        and result.inputs[0] not in result.encoding.levels
        and not result.encoding.deep
    )
    if one and part.target.values.ndim == 1 and result.train is not None:
        _curve(axes, result, result.train)
    else:
        _against(axes, result, part)


def _curve(axes: "Axes", result: NetworkResult, part: Part) -> None:
    """Draw the readings and the curve over the only input."""
    name = result.inputs[0]
    x, y = part.rows.column(name), part.target.values
    grid = np.linspace(float(x.min()), float(x.max()), GRID)
    curve = result.predict({name: grid}).value
    axes.set_xlim(*room_round(x))
    axes.set_ylim(*room_round(np.concatenate([y, curve])))
    _points(axes, x, y)
    axes.plot(grid, curve, color=FIT, linewidth=2)
    dress_x(axes, name)
    dress_y(axes, result.response)


def _against(axes: "Axes", result: NetworkResult, part: Part) -> None:
    """Draw observed over predicted, with the diagonal."""
    predicted = np.asarray(result.predict(part.rows).value, dtype=np.float64).reshape(-1)
    observed = np.asarray(part.target.values, dtype=np.float64).reshape(-1)
    seen = np.isfinite(predicted) & (np.abs(predicted) < 1e300)
    ends = room_round(np.concatenate([predicted[seen], observed]))
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.plot(ends, ends, color=FIT, linewidth=1.5)
    _points(axes, predicted[seen], observed[seen])
    dress_x(axes, "predicted")
    dress_y(axes, f"{result.response}, {'held out' if part is result.held else 'trained on'}")


def _points(axes: "Axes", x: Array, y: Array) -> None:
    if len(x) > MANY:
        density(axes, x, y)
    else:
        axes.plot(x, y, "o", color=INK, markersize=3 if len(x) < 200 else 1.8, markeredgewidth=0, zorder=3)


def _confusion(axes: "Axes", result: NetworkResult) -> None:
    """Draw how often each class was taken for which, as shares of the class, with the counts in the cells."""
    table = result.confusion
    assert table is not None  # noqa: S101  classes have one while their rows are there
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1.6, aspect="auto")
    axes.grid(visible=False)
    places = np.arange(len(table))
    few = len(table) <= MOST_CLASSES
    labels = [drawn(level[:12]) for level in result.target.levels] if few else []
    axes.set_xticks(places if few else [], labels=labels)
    axes.set_yticks(places if few else [], labels=labels)
    for i, row in enumerate(table if few and len(table) <= 10 else []):
        for j, value in enumerate(row):
            axes.text(j, i, fixed(int(value), 0), ha="center", va="center", color=INK, fontsize=9)
    axes.set_xlabel("said", loc="right")
    axes.set_title(
        drawn(f"{result.response}, {'held out' if result.held is not None else 'trained on'}"),
        loc="left",
        fontsize=9,
        color=GREY,
        fontweight="normal",
    )
