"""How an optimizer of torch trained a fit: the path over the level lines of its loss, and its learning rate."""

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import OptionError
from gradfit.figures.way import LEVELS, ROOM, SURFACE, Way, loss_surface, way_of
from gradfit.notation import significant
from gradfit.report.axes import Axis
from gradfit.report.charts import Chart, Frame, twice
from gradfit.report.contours import level_lines
from gradfit.report.headlines import step_name
from gradfit.report.markup import Markup, join, tag
from gradfit.report.page import small
from gradfit.report.subject import Subject
from gradfit.solve.stability import law_of

Array = NDArray[np.float64]
_PATH_WIDE = Frame("wide", 486, 330, left=38, right=14, top=30, bottom=42)
_PATH_PHONE = Frame("phone", 354, 300, left=38, right=14, top=30, bottom=42)
_RATE_WIDE = Frame("wide", 486, 150, left=16, right=16, top=52, bottom=42)
_RATE_PHONE = Frame("phone", 354, 150, left=16, right=16, top=52, bottom=42)
_RATE = re.compile(r"\blr=([\d.]+(?:e[+-]?\d+)?)")


def panels(subject: Subject) -> Markup:
    """Return the path and the learning rate side by side; empty where neither is known."""
    if step_name(subject) != "epoch":
        return Markup("")
    parts = [part for part in (_path(subject), _rate(subject)) if part]
    return tag("div", tag("div", *parts, class_="duo"), class_="below") if parts else Markup("")


# ---------------------------------------------------------------------------- the path


def _path(subject: Subject) -> Markup:
    """Return the way over the level lines of the loss; empty but for two free parameters."""
    result = subject.result
    if result.k != 2:
        return Markup("")
    try:
        way = way_of(result)
    except OptionError:  # a fit without steps, or one that was loaded
        return Markup("")
    spans = np.ptp(way.free, axis=0)
    if len(way.step) < 2 or not np.isfinite(way.free).all() or not (spans > 0).all():
        return Markup("")
    away = " The run leaves this picture." if len(way.step) < len(result.history.step) else ""
    text = f"Each thin line joins pairs of one loss; the path goes from the ring to the point.{away}"
    return tag(
        "div", tag("h3", "The way over the loss"), small(text), tag("figure", _path_chart(subject, way))
    )


def _path_chart(subject: Subject, way: Way) -> Markup:
    result = subject.result
    names = [result.model.parameters[j] for j in result.settled.free]
    axes = [
        Axis.around(way.free[:, j], name, subject.parameter_unit(result.params[name]), pad=ROOM)
        for j, name in enumerate(names)
    ]
    across, up = (np.linspace(axis.low, axis.high, SURFACE) for axis in axes)
    heights = loss_surface(result, across, up)
    finite = heights[np.isfinite(heights)]
    levels = (
        np.unique(np.quantile(finite, np.linspace(0, 1, LEVELS)[1:-1] ** 2)) if finite.size else np.zeros(0)
    )
    lines = [line for level in levels for line in level_lines(across, up, heights, float(level))]
    message = f"The way of {names[0]} and {names[1]} over the level lines of the loss"

    def draw(frame: Frame) -> Chart:
        chart = Chart(frame, axes[0], axes[1], message).axes()
        for line in lines:
            chart.path(*line, "level")
        chart.path(way.free[:, 0], way.free[:, 1], "way")
        chart.dots(way.free[:1, 0], way.free[:1, 1], "dot open", radius=4.5, titles=("The start",))
        end = f"After {way.word} {int(way.step[-1])}"
        return chart.dots(way.free[-1:, 0], way.free[-1:, 1], "dot f", radius=5, titles=(end,))

    return twice(draw, _PATH_WIDE, _PATH_PHONE)


# ---------------------------------------------------------------------------- the rate


@dataclass(frozen=True)
class Rate:
    """A learning rate beside the largest stable one; `plain` where that is 2/λ, as it is without momentum."""

    rate: float
    limit: float
    plain: bool


def rate_of(subject: Subject) -> Rate | None:
    """Return the learning rate and the largest stable one in the units of the fit; None where no law is known.

    It is the limit that a finding names, else that at the end, by the Gauss-Newton Hessian of the mean squared loss.
    """
    result = subject.result
    plain = not (result.settings.get("momentum") or result.settings.get("weight_decay"))
    for finding in result.findings:
        lr, limit = finding.evidence.get("lr"), finding.evidence.get("limit")
        if isinstance(lr, float) and isinstance(limit, float):
            return Rate(lr, limit, plain)
    given = _RATE.search(result.solver)
    usual = (
        result.loss_name == "squared" and result.shrinkage is None and result.settings.get("scale") != "auto"
    )
    law = law_of(result.solver.split("(")[0], result.settings) if given and usual else None
    if given is None or law is None or law.adaptive:
        return None
    _, jacobian = result.at_end
    if not np.isfinite(jacobian).all() or not jacobian.size:
        return None
    with np.errstate(all="ignore"):
        steepest = (
            2 * float(np.linalg.norm(jacobian, 2)) ** 2 / result.n / result.data.unit / result.data.unit
        )
    limit = law.limit(steepest)
    rate = float(given[1])
    return Rate(rate, limit, plain) if np.isfinite(limit) and limit > 0 and rate > 0 else None


def _rate(subject: Subject) -> Markup:
    """Return the learning rate and the largest stable one on one axis."""
    known = rate_of(subject)
    if known is None:
        return Markup("")
    rate, limit = known.rate, known.limit
    share = significant(rate / limit, 2)
    verdict = (
        "every step overshoots, and the loss grows" if rate > limit else "the steepest direction shrinks"
    )
    law = [", 2/λ", tag("sub", "max"), ","] if known.plain else [","]
    words = join(
        [
            f"The rate {significant(rate, 2)} is {share} times the largest stable one",
            *law,
            f" {significant(limit, 2)}: {verdict}.",
        ]
    )
    axis = Axis.decades(np.array([rate / 3, rate * 3, limit / 3, limit * 3]), "learning rate")
    message = f"Learning rate {significant(rate, 2)} beside the largest stable one, {significant(limit, 2)}"

    def draw(frame: Frame) -> Chart:
        chart = Chart(frame, axis, Axis(0.0, 1.0, at=()), message).axes(upright_grid=True)
        chart.upright(limit, "limit")
        at = float(chart.px(limit))
        chart.write(at - 6, 44, "shrinks", "mute fine", anchor="end").write(
            at + 6, 44, "grows", "k-second fine"
        )
        chart.dots(np.array([rate]), np.array([0.5]), "dot bad" if rate > limit else "dot f", radius=6)
        x = float(np.clip(chart.px(rate), chart.frame.left + 40, chart.right - 40))
        return chart.write(
            x,
            24,
            f"lr {significant(rate, 2)}",
            "k-second fine" if rate > limit else "k-fit fine",
            anchor="middle",
        )

    return tag(
        "div",
        tag("h3", "The learning rate"),
        small(words),
        tag("figure", twice(draw, _RATE_WIDE, _RATE_PHONE)),
    )
