"""The residuals: what the model leaves over, looked at in three ways, and the checks that were made."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special
from gradfit.diagnose.evidence import Check
from gradfit.notation import fixed, p_value, significant, spelled, with_unit
from gradfit.report.axes import Axis, counting
from gradfit.report.charts import PANEL, Chart, Frame, twice
from gradfit.report.headlines import of_residuals
from gradfit.report.markup import Markup, join, tag, text
from gradfit.report.mathtext import prose, upright
from gradfit.report.page import section, small
from gradfit.report.subject import Subject

Array = NDArray[np.float64]
_QUANTILES = 201  # places of the quantile plot of many rows
_FEWEST = 4  # rows below which quantiles say nothing


def residuals(subject: Subject) -> Markup:
    """Return the section."""
    lead = of_residuals(subject)
    if subject.exact or subject.result.n < 2 or not subject.shown.any():
        return section("residuals", "Residuals", lead, _noted(subject))
    panels = [_along_x(subject)] if subject.result.inputs else []
    panels.append(_in_order(subject))
    if int(subject.shown.sum()) >= _FEWEST and subject.scatter > 0:
        panels.append(_quantiles(subject))
    note = _grey(subject) if subject.scatter > 0 else ""
    parts = [tag("div", *panels, class_="trio"), small(note), _checks(subject), _noted(subject)]
    return section("residuals", "Residuals", lead, *parts)


def _noted(subject: Subject) -> Markup:
    """Return what is worth knowing and was not raised."""
    noted = [finding for finding in subject.result.findings if finding.severity == "info"]
    if not noted:
        return Markup("")
    lines = [tag("p", prose(finding.message, subject.names), class_="small") for finding in noted]
    return tag("div", tag("h3", "Noted, not raised"), *lines, class_="below")


def _grey(subject: Subject) -> str:
    two = with_unit(significant(2 * subject.scatter), subject.residual_unit)
    words = f"Grey: ±\u00a02 s.d. ({two})" if not subject.weighted else "Grey: ±\u00a02 s.d. of each row"
    last = (
        f"; in the third, where {subject.level} of bell-shaped samples of this size lie"
        if subject.shown.sum() >= _FEWEST
        else ""
    )
    return f"{words}{last if subject.result.inputs else last.replace('third', 'second')}.{' Hover or press a point for its row.' if subject.hover else ''}"


def residual_axis(subject: Subject) -> Axis:
    """Return the axis that all panels share."""
    shown = subject.residuals[subject.shown]
    least = 2.2 * subject.scatter if np.isfinite(subject.scatter) else 0.0
    low, high = min(float(shown.min(initial=0.0)), -least), max(float(shown.max(initial=0.0)), least)
    room = 0.04 * (high - low) or 1.0
    return Axis(low - room, high + room, "residual", subject.residual_unit, most=4)


def residual_chart(subject: Subject, xs: Array, x_axis: Axis, *, frame: Frame = PANEL) -> Chart:
    """Return residuals over any x, with the band of ± 2 s.d.; flagged rows in the second colour."""
    message = f"Residuals against {x_axis.name.split(',')[0]}"
    chart = Chart(frame, x_axis, residual_axis(subject), message)
    if subject.scatter > 0:
        chart.slab(-2 * subject.scatter, 2 * subject.scatter)
    chart.axes().across(0.0, "zero")
    bad, good = subject.flagged & subject.shown, subject.shown & ~subject.flagged
    if subject.crowded:
        chart.hexagons(xs[subject.shown], subject.residuals[subject.shown], size=3.5)
    elif not subject.hover:
        chart.specks(xs[good], subject.residuals[good], "specks fine")
    for mask, cls in ((good, ""), (bad, " bad")):
        if (subject.hover or cls) and mask.any() and not (subject.crowded and not cls):
            chart.stems(xs[mask], np.zeros(int(mask.sum())), subject.residuals[mask], f"stem{cls}")
            titles = subject.titles_at(mask)
            chart.dots(xs[mask], subject.residuals[mask], f"dot{cls}", radius=3.5, titles=titles)
    return name_rows(chart, subject, bad, (xs, subject.residuals))


def name_rows(chart: Chart, subject: Subject, rows: NDArray[np.bool_], at: tuple[Array, Array]) -> Chart:
    """Write the row numbers beside the flagged points, of many only beside the three furthest off."""
    xs, ys = at
    flagged = np.flatnonzero(rows)
    furthest = flagged[np.argsort(-np.abs(subject.residuals[flagged]), kind="stable")]
    for i in furthest[: 5 if len(flagged) <= 5 else 3]:
        px, py = (float(v) for v in (chart.px(xs[i]), chart.py(chart.y.clip(ys[i : i + 1]))[0]))
        end = px > chart.right - 60
        words = f"row {subject.result.data.rows[i]:.0f}"
        chart.write(
            px - 9 if end else px + 9, py + 4, words, "k-second halo", anchor="end" if end else "start"
        )
    return chart


def neighbours(values: Array) -> float:
    """Return the correlation of neighbours; nan for fewer than three values."""
    centred = values - values.mean() if len(values) else values
    total = float(centred @ centred)
    return float(centred[1:] @ centred[:-1]) / total if len(values) > 2 and total > 0 else float("nan")


def _panel(title: Markup, words: str, chart: Chart) -> Markup:
    return tag("div", tag("h3", title), small(words), tag("figure", chart.svg()))


def _along(subject: Subject) -> tuple[Array, Axis]:
    """Return what residuals are drawn against: the one input, else the fitted values."""
    if len(subject.result.inputs) == 1:
        return subject.x, subject.x_axis
    fitted = subject.result.fitted
    return fitted, Axis.around(
        fitted[subject.shown], f"fitted {subject.result.response}"[:28], subject.unit, pad=0.03
    )


def against(subject: Subject, frame: Frame = PANEL) -> Chart:
    """Return the residuals against the one input, else against the fitted values."""
    xs, axis = _along(subject)
    return residual_chart(subject, xs, axis, frame=frame)


def _along_x(subject: Subject) -> Markup:
    xs, _ = _along(subject)
    ordered = subject.residuals[subject.shown][np.argsort(xs[subject.shown], kind="stable")]
    lag = neighbours(ordered)
    name = upright(subject.x_name) if len(subject.result.inputs) == 1 else text("the fitted value")
    found = (
        "a pattern is left"
        if subject.codes & {"structured-residuals", "underfitting"}
        else "no pattern raised"
    )
    said = (
        f"Neighbours correlate by {fixed(lag, 2, plus=True)}."
        if np.isfinite(lag)
        else "Too few rows for a pattern."
    )
    return _panel(join(["Against ", name, f": {found}" if np.isfinite(lag) else ""]), said, against(subject))


def _in_order(subject: Subject) -> Markup:
    n, shown = subject.result.data.n, subject.shown
    order = np.asarray(subject.result.data.rows, dtype=float)
    axis = Axis.around(order[shown], "row", pad=0.03)
    axis = replace(
        axis,
        at=tuple(
            tick for tick in counting(int(order[shown].max()), about=6 if n < 1000 else 4) if tick >= axis.low
        ),
    )
    values = subject.residuals[shown]
    drift = _rank_correlation(values)
    found = "" if n < 3 else ": no drift" if abs(drift) * (n - 1) ** 0.5 < 3.3 else ": they drift"
    said = (
        f"Rank correlation with the row: {fixed(drift, 2, plus=True)}."
        if n > 2
        else "Too few rows for a drift."
    )
    chart = residual_chart(subject, order, axis)
    return _panel(join([f"In order{found}"]), said, chart)


def _rank_correlation(values: Array) -> float:
    """Return Spearman's correlation of values with their place."""
    if len(values) < 3:
        return 0.0
    ranks = np.empty(len(values))
    ranks[np.argsort(values, kind="stable")] = np.arange(len(values))
    return float(np.corrcoef(ranks, np.arange(len(values)))[0, 1])


def envelope(n: int, places: NDArray[np.floating], level: float) -> tuple[Array, Array, Array]:
    """Return the normal quantiles at ranks `places` (from 1) of n, and the ends between which sorted samples lie.

    The i-th of n sorted uniform numbers follows a beta law with i and n + 1 - i.
    """
    middle = special.ndtri((places - 0.375) / (n + 0.25))
    tail = (1 - level) / 2
    ends = [special.ndtri(special.betaincinv(places, n + 1 - places, share)) for share in (tail, 1 - tail)]
    return middle, ends[0], ends[1]


def _quantiles(subject: Subject) -> Markup:
    """Return the sorted residuals against the normal quantiles, with the envelope of bell-shaped samples."""
    values = subject.residuals[subject.shown]
    order = np.argsort(values, kind="stable")
    n = len(values)
    at = np.arange(n) if n <= _QUANTILES else _spread(n)
    quantile, low, high = envelope(n, at + 1.0, subject.result.level)
    axis = residual_axis(subject)
    ends = float(max(2.3, np.abs(quantile).max() * 1.05))
    chart = Chart(
        PANEL, Axis(-ends, ends, "normal quantile"), axis, "Sorted residuals against normal quantiles"
    )
    scale = subject.scatter
    chart.axes().band(quantile, axis.clip(low * scale), axis.clip(high * scale), "quiet")
    chart.path(quantile, axis.clip(scale * quantile), "zero")
    rows = np.flatnonzero(subject.shown)[order[at]]
    bad = subject.flagged[rows]
    if not subject.hover:
        chart.specks(quantile[~bad], values[order[at]][~bad], "specks fine")
    for mask, cls in ((~bad & subject.hover, "dot"), (bad, "dot bad")):
        titles: list[str] = [subject.titles[i] for i in rows[mask]] if subject.hover else []
        chart.dots(quantile[mask], subject.residuals[rows[mask]], cls, radius=3.5, titles=titles)
    largest = float(np.abs(values).max()) / scale
    short, usual, long = largest_of(n, np.array([0.025, 0.5, 0.975]))
    found = "short tails" if largest < short else "long tails" if largest > long else "usual tails"
    said = f"Largest: {fixed(largest, 1)} s.d.; usual for {fixed(n, 0)} rows: {fixed(float(usual), 1)}."
    return _panel(join([f"Against a bell curve: {found}"]), said, chart)


def largest_of(n: int, shares: Array) -> Array:
    """Return quantiles of the largest absolute value among n standard normal numbers.

    >>> [round(float(largest), 2) for largest in largest_of(11, np.array([0.5]))]
    [1.87]
    """
    return special.ndtri((1 + shares ** (1 / n)) / 2)


def _spread(n: int) -> NDArray[np.int64]:
    """Return ranks (from 0) of n that are even on the normal scale, the ends among them."""
    ends = float(special.ndtri((n - 0.375) / (n + 0.25)))
    shares = special.ndtr(np.linspace(-ends, ends, _QUANTILES))
    return np.unique(np.clip(np.rint(shares * (n + 0.25) + 0.375 - 1), 0, n - 1).astype(np.int64))


def _checks(subject: Subject) -> Markup:
    """Return the p-values of all checks on one axis, with the lines of alarm."""
    checks = subject.result.checks
    if not checks:
        return Markup("")
    same = len({check.alarm for check in checks}) == 1
    where = f"its dashed line (p below {significant(checks[0].alarm, 1)})" if same else "its dashed line"
    words = f"A finding is raised left of {where}; the lines share one false-alarm rate, so that a sound fit is seldom blamed."
    title = (
        f"{spelled(len(checks)).capitalize()} checks, one false-alarm rate"
        if len(checks) > 1
        else "One check was made"
    )
    wide = Frame("wide", 1024, 60.0 + 30 * len(checks), left=440, right=56, top=20, bottom=26)
    phone = Frame("phone", 354, 64.0 + 44 * len(checks), left=24, right=12, top=20, bottom=26)
    chart = twice(lambda frame: _checks_chart(checks, frame), wide, phone)
    return tag("div", tag("h3", title), small(words), tag("figure", chart), class_="below")


def _checks_chart(checks: tuple[Check, ...], frame: Frame) -> Chart:
    least = min(1e-4, 10.0 ** np.floor(np.log10(min(check.alarm for check in checks)) - 0.5))
    axis = Axis(float(least), 1.0, log=True, most=6)
    message = "; ".join(f"{check.name}: p {p_value(check.p)}" for check in checks)
    chart = Chart(frame, axis, Axis(0, 1, at=()), message)
    for tick, label in zip(axis.ticks, axis.labels, strict=True):
        chart.upright(tick, "grid")
        words = f"≤ {label}" if tick == axis.ticks[0] else label
        chart.write(float(chart.px(tick)), frame.height - 8, words, "tick", anchor="middle")
    for k, check in enumerate(checks):
        _draw_check(chart, check, 56 + 44 * k if frame.phone else 42 + 30 * k)
    at = float(chart.px(max(check.alarm for check in checks)))
    chart.write(at - 5, 12, "raised", "k-second fine", anchor="end")
    return chart.write(at + 5, 12, "quiet", "mute fine")


def _draw_check(chart: Chart, check: Check, y: float) -> None:
    """Add one check: its name, its p on the axis, its line; on a phone the name stands above the axis."""
    phone, bad = chart.frame.phone, check.raised
    x = float(chart.px(np.clip(check.p, chart.x.low, 1.0))) if np.isfinite(check.p) else chart.right
    alarm = float(chart.px(max(check.alarm, chart.x.low)))
    words = y - 14 if phone else y + 4
    chart.add(
        tag(
            "line",
            class_="limit",
            x1=alarm,
            x2=alarm,
            y1=y - (11 if phone else 15),
            y2=y + (11 if phone else 15),
        )
    )
    chart.write(0, words, check.name, "k-second halo" if bad else "k-ink halo")
    if not phone:
        chart.write(190, words, check.statistic, "mute fine")
    spoken = f"{check.name}, {check.statistic}: p {p_value(check.p)}, line at {significant(check.alarm, 1)}"
    chart.add(tag("circle", tag("title", spoken), class_="dot bad" if bad else "dot", cx=x, cy=y, r=5))
    chart.write(
        chart.frame.width, words, f"p {p_value(check.p)}", "k-second halo" if bad else "halo", anchor="end"
    )
