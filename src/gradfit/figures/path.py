"""Figures against overfitting: a ladder of model sizes, and a path of penalties."""

# matplotlib leaves the keywords of its methods untyped
# pyright: reportUnknownMemberType=false

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit.figures.sheet import (
    AXIS,
    FIT,
    GREY,
    INK,
    SECOND_INK,
    dress_x,
    dress_y,
    heading,
    new_figure,
    own_fonts,
    room_round,
    style,
    wrapped,
)
from gradfit.figures.text import drawn
from gradfit.notation import count, power_of_ten, significant
from gradfit.view import ROW

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

    from gradfit.growing import GrowResult
    from gradfit.shrinkage import PenaltyPath

Array = NDArray[np.float64]

FAR = 30.0  # times the loss of the smallest model: beyond, a validation loss leaves the picture
LEAST = 1e-300
NAMED = 8  # parameters that are named at the end of their lines, the largest


def ladder_figure(grown: "GrowResult") -> "Figure":
    """Return both losses of a ladder against the number of parameters, with the spread over folds and seeds.

    The chosen size is marked; the dashed line is one standard error above the lowest validation loss.
    """
    rungs = grown.rungs
    size = np.array([r.parameters for r in rungs], dtype=float)
    train, held = _log([r.train for r in rungs]), _log([r.validation for r in rungs])
    with style():
        figure = new_figure(3.3)
        under = f"{grown.text}.  Loss is the mean squared residual of a row; ribbons span folds and seeds ({grown.splits})"
        top = heading(
            figure, wrapped(figure, grown.sentence.partition(";")[0], headline=True), wrapped(figure, under)
        )
        height = figure.get_figheight()
        axes: Axes = figure.subplots(
            gridspec_kw={
                "top": 1 - (top + 0.35) / height,
                "bottom": 0.46 / height,
                "left": 0.09,
                "right": 0.83,
            }
        )
        shown = np.concatenate(
            [train, held[held <= held[0] + np.log10(FAR)], [_log([grown.rung.validation])[0]]]
        )
        axes.set_xlim(*room_round(size))
        axes.set_ylim(*room_round(shown, 0.14))
        for values, name, color in ((train, "train_folds", GREY), (held, "folds", FIT)):
            spread = np.array([_log(getattr(r, name).reshape(-1)) for r in rungs])
            axes.fill_between(size, *_middle(spread), color=color, alpha=0.15, lw=0)
            axes.plot(size, values, "-o", color=color, ms=4)
        _mark(axes, grown)
        dress_x(axes, ROW)
        axes.set_xlabel("parameters", loc="right")
        _log_y(axes, "loss")
        last = [(held, "rows held out", FIT), (train, "rows fitted", GREY)]
        _end_labels(axes, [(float(v[-1]), name, color) for v, name, color in last])
        own_fonts(figure)
    return figure


def _mark(axes: "Axes", grown: "GrowResult") -> None:
    """Mark the chosen size, and one standard error above the lowest loss."""
    rung, best = grown.rung, grown.best
    if np.isfinite(best.stderr) and grown.rule == "one-se":
        axes.axhline(_log([best.validation + best.stderr])[0], color=AXIS, lw=0.8, ls=(0, (4, 3)))
    at = _log([rung.validation])[0]
    axes.plot([rung.parameters], [at], "o", ms=9, mfc="none", mec=INK, mew=1.3, zorder=6)
    axes.annotate(
        drawn(rung.label), (rung.parameters, at), xytext=(0, -22), textcoords="offset points", ha="center", va="top",
        fontsize=9, color=INK, weight="bold",
    )  # fmt: skip


def path_figure(path: "PenaltyPath") -> "Figure":
    """Return the validation loss along the strength of a penalty, with its standard errors, and below it the parameters."""
    strength = np.log10(np.maximum(path.strength, LEAST))
    chosen = float(strength[path.chosen])
    with style():
        figure = new_figure(4.4)
        held = f"{significant(float(path.loss[path.chosen]), 3)} ± {significant(float(path.stderr[path.chosen]))}"
        what = "lowest" if path.chosen == path.best else "within one standard error of the lowest"
        headline = f"A strength of {significant(float(path.strength[path.chosen]), 3)} has a loss on held-out rows of {held}, {what}"
        under = f"{path.kind.capitalize()} penalty, {count(len(strength), 'strength')}, {path.folds} folds. Bars are standard errors"
        top = heading(figure, wrapped(figure, headline, headline=True), wrapped(figure, under))
        height = figure.get_figheight()
        upper, lower = figure.subplots(
            2, 1, sharex=True,
            gridspec_kw={"top": 1 - (top + 0.35) / height, "bottom": 0.46 / height, "left": 0.09, "right": 0.83, "hspace": 0.3},
        )  # fmt: skip
        upper.set_xlim(*room_round(strength)[::-1])
        _losses(upper, strength, path)
        _parameters(lower, strength, path)
        for axes in (upper, lower):
            axes.axvline(chosen, color=INK, lw=0.8, ls=(0, (4, 3)))
        ticks = np.arange(np.ceil(strength.min()), np.floor(strength.max()) + 1)
        ticks = ticks[:: max(1, int(np.ceil(len(ticks) / 7)))]
        lower.set_xticks(ticks, labels=[_ten(tick) for tick in ticks])
        lower.set_xlabel("strength", loc="right")
        own_fonts(figure)
    return figure


def _losses(axes: "Axes", strength: Array, path: "PenaltyPath") -> None:
    """Draw both losses, their logarithms, with one standard error to both sides."""
    error = np.where(np.isfinite(path.stderr), path.stderr, 0.0)
    loss, train = _log(path.loss), _log(path.train)
    low, high = _log(np.maximum(path.loss - error, 0.3 * path.loss)), _log(path.loss + error)
    axes.set_ylim(*room_round(np.concatenate([low, high, train])))
    axes.vlines(strength, low, high, color=FIT, lw=0.8, alpha=0.6)
    axes.plot(strength, loss, "-o", color=FIT, ms=3)
    axes.plot(strength, train, "-", color=GREY)
    _log_y(axes, "loss")
    _end_labels(axes, [(float(loss[-1]), "rows held out", FIT), (float(train[-1]), "rows fitted", GREY)])


def _parameters(axes: "Axes", strength: Array, path: "PenaltyPath") -> None:
    """Draw what is penalised of each parameter, b."""
    about = np.flatnonzero(path.scale > 0)
    b = path.parameters[:, about] * path.scale[about]
    axes.axhline(0, color=AXIS, lw=0.8)
    axes.plot(strength, b, "-", color=INK, lw=1.0, alpha=0.7)
    axes.set_ylim(*room_round(b, 0.06))
    dress_y(axes, "parameters, as the penalty sees them")
    last = np.argsort(-np.abs(b[-1]), kind="stable")[:NAMED]
    _end_labels(axes, [(float(b[-1, j]), path.names[about[j]], INK) for j in last.tolist()])


# ---------------------------------------------------------------------------- axes


def _log(values: object) -> Array:
    """Return base-10 logarithms, of what is zero or infinite those of the least and largest numbers."""
    numbers = np.asarray(values, dtype=np.float64)
    return np.log10(np.clip(np.where(np.isnan(numbers), np.inf, numbers), LEAST, 1e300))


def _middle(spread: Array) -> tuple[Array, Array]:
    """Return the limits (rungs,) of nine tenths of the folds."""
    low, high = np.quantile(spread, [0.05, 0.95], axis=1)
    return low, high


def _ten(exponent: float) -> str:
    return drawn("1" if exponent == 0 else power_of_ten(round(exponent)).replace("\u202f×\u202f", ""))


def _log_y(axes: "Axes", name: str) -> None:
    low, high = axes.get_ylim()
    ticks = np.arange(np.ceil(low), np.floor(high) + 1)
    if len(ticks) < 2:
        ticks = np.array(
            [
                np.log10(m * 10.0**e)
                for e in range(int(np.floor(low)), int(np.ceil(high)) + 1)
                for m in (1, 2, 5)
            ]
        )
        ticks = ticks[(ticks >= low) & (ticks <= high)]
        axes.set_yticks(ticks, labels=[drawn(significant(10**t, 1)) for t in ticks])
    else:
        ticks = ticks[:: max(1, int(np.ceil(len(ticks) / 6)))]
        axes.set_yticks(ticks, labels=[_ten(t) for t in ticks])
    axes.annotate(
        name, (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", color=SECOND_INK, fontsize=9,
        ha="left", va="bottom", annotation_clip=False,
    )  # fmt: skip


def _end_labels(axes: "Axes", labels: list[tuple[float, str, str]]) -> None:
    """Write names at the right end of lines, apart from each other."""
    low, high = axes.get_ylim()
    apart = 0.085 * (high - low)
    below = np.inf
    for at, name, color in sorted(labels, reverse=True):
        height = min(float(np.clip(at, low, high)), below - apart)
        below = height
        axes.annotate(
            drawn(name), (1, height), xycoords=("axes fraction", "data"), xytext=(6, 0), textcoords="offset points",
            color=color, fontsize=9, va="center", annotation_clip=False,
        )  # fmt: skip
