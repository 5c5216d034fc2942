"""The figure of a range test: loss against learning rate, with the stable limit and the rate that was chosen."""

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
    heading,
    new_figure,
    own_fonts,
    room_round,
    style,
    wrapped,
)
from gradfit.figures.text import drawn
from gradfit.notation import count, power_of_ten, significant
from gradfit.surveying import RateSurvey, survey_sentence

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

Array = NDArray[np.float64]

ABOVE = 1.5  # decades over the loss at the start: what ends higher is drawn as diverged


def rates_figure(survey: RateSurvey) -> "Figure":
    """Return loss after the trials against the learning rate, both logarithmic; rates that diverged are at the top."""
    rates, losses = np.log10(survey.rates), logarithms(survey.losses)
    top = logarithms(np.array([survey.start_loss]))[0] + ABOVE
    lost = ~(losses < top)
    with style():
        figure = new_figure(3.2)
        headline = heading(
            figure, wrapped(figure, survey_sentence(survey), headline=True), wrapped(figure, survey.told)
        )
        height = figure.get_figheight()
        axes: Axes = figure.subplots(
            gridspec_kw={
                "top": 1 - (headline + 0.35) / height,
                "bottom": 0.46 / height,
                "left": 0.09,
                "right": 0.97,
            }
        )
        kept = losses[~lost]
        axes.set_xlim(*room_round(np.append(rates, np.log10(survey.rate))))
        axes.set_ylim(
            *room_round(
                np.append(kept, top if lost.any() else logarithms(np.array([survey.start_loss]))[0]), 0.08
            )
        )
        axes.plot(rates[~lost], kept, "-o", color=FIT, ms=4)
        axes.plot(rates[lost], np.full(int(lost.sum()), top), "x", color=GREY, ms=5)
        _marks(axes, survey)
        _decades(axes)
        axes.set_xlabel("learning rate", loc="right")
        axes.annotate(
            f"loss after {count(survey.epochs, 'epoch')}" + (", × diverged" if lost.any() else ""), (0, 1),
            xycoords="axes fraction", xytext=(0, 6), textcoords="offset points", color=SECOND_INK, fontsize=9, ha="left",
            va="bottom", annotation_clip=False,
        )  # fmt: skip
        own_fonts(figure)
    return figure


def logarithms(values: Array) -> Array:
    """Return decimal logarithms; infinite where there is no number, and the least there is for zero."""
    known = np.where(np.isfinite(values), np.maximum(values, 1e-300), np.inf)
    return np.log10(known)


def _marks(axes: "Axes", survey: RateSurvey) -> None:
    """Mark the largest stable step and the rate that was chosen."""
    low, high = axes.get_ylim()
    chosen = float(np.log10(survey.rate))
    axes.axvline(chosen, color=INK, lw=0.9)
    _word(axes, (chosen, high - 0.12 * (high - low)), f"lr = {significant(survey.rate, 3)}", INK)
    if survey.limit is not None and np.isfinite(survey.limit):
        limit = float(np.log10(survey.limit))
        axes.axvline(limit, color=AXIS, lw=0.9, ls=(0, (4, 3)))
        _word(
            axes,
            (limit, high - 0.24 * (high - low)),
            f"stable up to {significant(survey.limit, 3)}",
            SECOND_INK,
        )


def _word(axes: "Axes", at: tuple[float, float], text: str, color: str) -> None:
    left, right = axes.get_xlim()
    after = at[0] < (left + right) / 2
    axes.annotate(
        drawn(text), at, xytext=(5 if after else -5, 0), textcoords="offset points", ha="left" if after else "right",
        va="center", fontsize=9, color=color,
    )  # fmt: skip


def _decades(axes: "Axes") -> None:
    """Label both axes at powers of ten, where there are at least two; else at three round numbers."""
    for span, ticks_of in ((axes.get_xlim(), axes.set_xticks), (axes.get_ylim(), axes.set_yticks)):
        ticks = np.arange(np.ceil(span[0]), np.floor(span[1]) + 1)
        if len(ticks) < 2:
            ticks = np.linspace(*span, 5)[1:-1]
            ticks_of(ticks, labels=[drawn(significant(10**t, 2)) for t in ticks])
            continue
        ticks = ticks[:: max(1, int(np.ceil(len(ticks) / 8)))]
        ticks_of(ticks, labels=[_ten(t) for t in ticks])


def _ten(exponent: float) -> str:
    return drawn("1" if exponent == 0 else power_of_ten(round(exponent)).replace("\u202f×\u202f", ""))
