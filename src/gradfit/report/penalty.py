"""The penalty of a fit: how strong it is, what it left of the parameters, and the strengths that were tried."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import count, significant, spelled
from gradfit.report.axes import Axis
from gradfit.report.charts import Chart, Frame, name_ends, twice
from gradfit.report.folds import mean_text
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import prose, short
from gradfit.report.page import section, small, table_on_request
from gradfit.report.subject import Subject
from gradfit.shrinkage import PenaltyPath

Array = NDArray[np.float64]
_WIDE = Frame("wide", 486, 280, left=44, right=92, top=32, bottom=42)
_PHONE = Frame("phone", 354, 260, left=44, right=84, top=32, bottom=42)
_NAMED = 6  # parameters named at the end of their lines, the largest
_LEAST = 1e-290


def penalty(subject: Subject) -> Markup:
    """Return the section, empty for a fit without a penalty."""
    shrinkage, path = subject.result.shrinkage, subject.result.path
    if shrinkage is None:
        return Markup("")
    words = [
        tag("p", prose(f"{sentence.rstrip('.')}.", subject.names)) for sentence in shrinkage.text.split(". ")
    ]
    told = tag("div", *words, class_="words")
    if path is None:
        return section("penalty", "Penalty", of_penalty(subject), told)
    charts = [
        tag(
            "div",
            tag("h3", "Loss along the strength"),
            small(f"Bars: one standard error over {count(path.folds, 'fold')}."),
            tag("figure", _losses(path)),
        ),
        tag(
            "div",
            tag("h3", "Parameters along the strength"),
            small("In the units that the penalty sees."),
            tag("figure", _parameters(path)),
        ),
    ]
    return section(
        "penalty",
        "Penalty",
        of_penalty(subject),
        tag("div", *charts, class_="duo"),
        tag("div", told, class_="below"),
        _numbers(path),
    )


def of_penalty(subject: Subject) -> Markup:
    """Return what the penalty left of the parameters."""
    shrinkage = subject.result.shrinkage
    if shrinkage is None:
        return Markup("")
    strength = significant(shrinkage.strength, 2)
    left = (
        f"leaves an effective {significant(shrinkage.effective, 2)} of {count(subject.result.k, 'parameter')}"
    )
    zero = (
        f"; {spelled(len(shrinkage.zero))} {'is' if len(shrinkage.zero) == 1 else 'are'} set to the centre"
        if shrinkage.zero
        else ""
    )
    return join([f"A {shrinkage.kind} penalty of strength {strength} {left}{zero}."])


def _axis(path: PenaltyPath) -> Axis:
    """Return the axis of strengths, the weakest at the right, where lines are furthest apart."""
    ends = Axis.decades(np.maximum(path.strength[path.strength > 0], _LEAST), "strength")
    return replace(ends, falling=True)


def _losses(path: PenaltyPath) -> Markup:
    """Return both losses along the strength, with the one that was taken."""
    at = path.strength
    good = (at > 0) & np.isfinite(path.loss) & (path.loss > 0)
    if not good.any():
        return Markup("")
    error = np.where(np.isfinite(path.stderr), path.stderr, 0.0)[good]
    loss, train, at = path.loss[good], path.train[good], at[good]
    low, high = np.maximum(loss - error, 0.3 * loss), loss + error
    both = np.r_[low, high, train[train > 0]]
    chosen = float(path.strength[path.chosen])
    message = f"Held-out loss along the strength of the penalty; taken: {significant(chosen, 2)}, {mean_text(float(path.loss[path.chosen]), float(path.stderr[path.chosen]))}"

    def draw(frame: Frame) -> Chart:
        chart = Chart(frame, _axis(path), Axis.tight(both, "loss"), message).axes()
        chart.stems(at, low, high, "stem bad").path(at, train, "fit").path(at, loss, "second")
        _chosen(chart, path)
        end = int(np.argmin(at))
        ends = [
            (float(curve[end]), words, cls)
            for curve, words, cls in ((loss, "held out", "k-second"), (train, "trained", "k-fit"))
        ]
        marks = [(float(chart.py(chart.y.clip(np.array(value)))), [words], cls) for value, words, cls in ends]
        return name_ends(chart, marks)

    return twice(draw, _WIDE, _PHONE)


def _parameters(path: PenaltyPath) -> Markup:
    """Return what is penalised of each parameter along the strength."""
    about = np.flatnonzero(path.scale > 0)
    good = path.strength > 0
    sizes = (path.parameters[:, about] * path.scale[about])[good]
    if not sizes.size or not np.isfinite(sizes).all():
        return Markup("")
    at = path.strength[good]
    largest = np.argsort(-np.abs(sizes).max(axis=0), kind="stable")[:_NAMED]
    message = f"{count(len(about), 'parameter')} along the strength of the penalty"

    def draw(frame: Frame) -> Chart:
        chart = (
            Chart(frame, _axis(path), Axis.around(np.r_[sizes.ravel(), 0.0], "parameter"), message)
            .axes()
            .across(0.0, "zero")
        )
        for j in range(sizes.shape[1]):
            chart.path(at, sizes[:, j], "way")
        _chosen(chart, path)
        place = int(np.argmin(at))
        return name_ends(
            chart,
            [(float(chart.py(sizes[place, j])), [short(path.names[about[j]], 12)], "k-fit") for j in largest],
        )

    return twice(draw, _WIDE, _PHONE)


def _chosen(chart: Chart, path: PenaltyPath) -> None:
    """Mark the strength that was taken."""
    chosen = float(path.strength[path.chosen])
    if chosen > 0:
        chart.upright(chosen, "limit")


def _numbers(path: PenaltyPath) -> Markup:
    head = ["Strength", "held out", "± s.e.", "trained", "effective parameters"]
    rows = [
        [significant(float(value), 3) for value in line]
        for line in zip(path.strength, path.loss, path.stderr, path.train, path.effective, strict=True)
    ]
    return table_on_request("The numbers behind this picture", head, rows)
