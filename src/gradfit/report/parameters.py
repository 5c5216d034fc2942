"""The parameters: values with errors, intervals on one scale, and how the parameters hang together."""

from math import isfinite, log

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special
from gradfit.notation import (
    MINUS,
    THIN,
    fixed,
    in_full,
    interval_text,
    percent,
    plus_minus,
    significant,
)
from gradfit.parameter import ParameterResult
from gradfit.report.axes import Axis
from gradfit.report.charts import Chart, Frame, twice
from gradfit.report.headlines import bare, of_parameters
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import italic, prose, upright
from gradfit.report.page import section, small, table_on_request
from gradfit.report.subject import Subject

Array = NDArray[np.float64]
_WIDEST = 40.0  # per cent: the largest scale of the interval bars
_MOST_NAMED = 3  # parameters in a headline
_MOST_CORRELATED = 12  # parameters in a table of correlations
_JOINT_WIDE = Frame("wide", 486, 300, left=38, right=14, top=30, bottom=42)
_JOINT_PHONE = Frame("phone", 354, 300, left=38, right=14, top=30, bottom=42)


def parameters(subject: Subject) -> Markup:
    """Return the section."""
    every = list(subject.result.params.values())
    if not every:
        return section("parameters", "Parameters", of_parameters(subject))
    parts = [_table(subject, every), small(*_note(subject, every))]
    measured = [p for p in every if subject.known(p)]
    if (pair := most_correlated(subject)) is not None:
        parts.append(_together(subject, pair))
    if len(measured) > 2:
        parts.append(_correlations(subject, measured))
    return section("parameters", "Parameters", of_parameters(subject), *parts)


def _note(subject: Subject, every: list[ParameterResult]) -> list[str]:
    result = subject.result
    if not any(subject.known(p) for p in every):
        return ["No parameter has a standard error here."]
    law = f"Student’s t with {fixed(result.dof, 0)} degrees of freedom"
    if result.data.absolute:
        given = "the model says how counts scatter" if result.data.counts else "sigma was given"
        law = f"the normal law, as {given}"
    words = [
        f"± is one standard error; intervals use {law}. The thick part of a bar is one standard error, the thin part {subject.level}."
    ]
    if any(not p.determined for p in every):
        words.append(" A parameter that is not determined has no number, because none was measured.")
    return words


def _table(subject: Subject, every: list[ParameterResult]) -> Markup:
    units = any(subject.parameter_unit(p) for p in every)
    starts = any(p.start is not None for p in every)
    span = bar_span(subject, every)
    axis = tag("span", "Interval, per cent of the value")
    head = [tag("th", "Parameter", scope="col"), tag("th", "Value ± s.e.", scope="col")]
    head += [tag("th", "Unit", scope="col", class_="l")] if units else []
    head += [
        tag("th", f"{subject.level} interval", scope="col"),
        tag("th", axis, _bar_axis(span), scope="col", class_="barcell l"),
    ]
    head += [tag("th", "Start", scope="col")] if starts else []
    rows = [_row(subject, p, span, units=units, starts=starts) for p in every]
    whole = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *rows), class_="ptab")
    return tag("div", whole, class_="scroll")


def _row(subject: Subject, p: ParameterResult, span: float, *, units: bool, starts: bool) -> Markup:
    value, interval = cells(subject, p)
    row = [tag("th", tag("span", italic(p.name), class_="eq"), scope="row"), value]
    if units:
        unit = prose(subject.parameter_unit(p), subject.names)
        row.append(tag("td", tag("span", unit, class_="unit"), class_="l"))
    row += [interval, tag("td", _bar(subject, p, span), class_="barcell l")]
    if starts:
        row.append(tag("td", _start(subject, p), class_="start"))
    return tag("tr", *row)


def _start(subject: Subject, p: ParameterResult) -> str:
    if p.fixed:
        return "given"
    if subject.result.starts.source == "search":
        return "searched"
    return "not needed" if p.start is None else in_full(float(f"{p.start:.3g}"))


def cells(subject: Subject, p: ParameterResult) -> tuple[Markup, Markup]:
    """Return the cells of the value and of the interval."""
    if not p.fixed and not p.determined:
        return tag("td", "not determined", class_="no-val"), _interval_cell(subject, "any")
    if not subject.known(p):
        why = "fixed" if p.fixed else "at its bound" if p.at_bound else "exact" if subject.exact else "none"
        return tag("td", tag("span", bare(p.value), class_="val")), _interval_cell(subject, why)
    text, error, power = plus_minus(p.value, p.stderr)
    low, high = p.interval(subject.result.level)
    value = tag("span", text, class_="val")
    inner = ["(", value, f"\u00a0±\u00a0{error})", power] if power else [value, f"\u00a0±\u00a0{error}"]
    ends = interval_text(low, high, p.value, p.stderr) if isfinite(low + high) else "any"
    return tag("td", *inner), _interval_cell(subject, ends)


def _interval_cell(subject: Subject, words: str) -> Markup:
    return tag("td", words, class_="ci", data_level=subject.level)


def half_percent(subject: Subject, p: ParameterResult) -> float:
    """Return half an interval in per cent of the value; nan where there is none."""
    if not subject.known(p) or p.value == 0:
        return float("nan")
    low, high = p.interval(subject.result.level)
    return 100 * (high - low) / 2 / abs(p.value)


def bar_span(subject: Subject, every: list[ParameterResult]) -> float:
    """Return the per cent at the ends of the bars: the widest interval fits, unless it is wider than its value."""
    widths = [width for p in every if isfinite(width := half_percent(subject, p)) and 0 < width < 100]
    if not widths:
        return _WIDEST
    tenth = 10.0 ** np.floor(np.log10(max(widths)))
    return float(min(_WIDEST, next(m * tenth for m in (1.6, 3.2, 4, 8, 16) if m * tenth >= max(widths))))


def _bar_axis(span: float) -> Markup:
    ends = 0.625 * span
    marks = [
        tag(
            "text",
            f"{sign}{in_full(ends)}{THIN}%" if sign else "0",
            x=x,
            y=11,
            text_anchor="middle",
            class_="tick",
        )
        for x, sign in ((42.5, MINUS), (105, ""), (167.5, "+"))
    ]
    return Markup(
        f'<svg class="chart" viewBox="0 0 210 14" width="210" height="14" aria-hidden="true">{join(marks)}</svg>'
    )


def _bar(subject: Subject, p: ParameterResult, span: float) -> Markup:
    """Return the bar of one interval: 100 px to either side are `span` per cent of the value."""
    grid = join(tag("line", class_="grid", x1=x, x2=x, y1=-9, y2=31) for x in (42.5, 105, 167.5))
    arrows = tag("path", class_="arrow", d="M2 11l8-4.5v9zM208 11l-8-4.5v9z")
    wide = half_percent(subject, p)
    if not p.fixed and not p.determined:
        line = Markup('<line class="whisk bad" x1="8" x2="202" y1="11" y2="11" stroke-dasharray="3 4"/>')
        return _bar_svg("not determined", grid, line, arrows)
    if not isfinite(wide):
        return Markup("")
    error = 100 * p.stderr / abs(p.value)
    bad = " bad" if wide > span else ""
    w, e = (min(part / span * 100, 100) for part in (wide, error))
    marks = [
        tag("line", class_=f"whisk{bad}", x1=105 - w, x2=105 + w, y1=11, y2=11),
        tag("line", class_=f"thick{bad}", x1=max(105 - e, 14), x2=min(105 + e, 196), y1=11, y2=11),
        arrows if bad else Markup(""),
        tag("circle", class_="dot", cx=105, cy=11, r=4.5),
    ]
    message = (
        f"Interval: ±{significant(wide)}{THIN}% of the value; standard error: ±{significant(error)}{THIN}%"
    )
    return _bar_svg(message, tag("title", message), grid, *marks)


def _bar_svg(message: str, *marks: Markup) -> Markup:
    head = '<svg class="chart" viewBox="0 0 210 22" width="210" height="22" role="img"'
    return Markup(f'{head} aria-label="{join([message])}">{join(marks)}</svg>')


def most_correlated(subject: Subject) -> tuple[int, int] | None:
    """Return the places of the two known parameters with the strongest correlation; None where no two have one."""
    every = list(subject.result.params.values())
    places = [i for i, p in enumerate(every) if subject.known(p)]
    if len(places) < 2:
        return None
    among = np.abs(np.asarray(subject.result.correlation)[np.ix_(places, places)])
    among = np.where(np.isfinite(among), among, 0) - 2 * np.eye(len(places))
    i, j = np.unravel_index(int(np.argmax(among)), among.shape)
    first, second = sorted((places[int(i)], places[int(j)]))
    return (first, second) if isfinite(subject.result.correlation[first, second]) else None


def joint_radius(level: float, dof: float) -> float:
    """Return how many standard errors the joint region of two parameters reaches to each side of one of them.

    >>> round(joint_radius(0.95, float("inf")), 3), round(joint_radius(0.95, 9), 3)
    (2.448, 2.918)
    """
    if not isfinite(dof):
        return (-2 * log(1 - level)) ** 0.5
    return float((2 * special.fdtri(2, dof, level)) ** 0.5)


def _together(subject: Subject, pair: tuple[int, int]) -> Markup:
    """Return the joint region of two parameters beside what it says."""
    a, b = (list(subject.result.params.values())[k] for k in pair)
    rho = float(np.asarray(subject.result.correlation)[pair])
    chart = joint_region(subject, pair, _JOINT_WIDE, _JOINT_PHONE)
    caption = tag("figcaption", "Ellipse: both together. Cross: each interval alone.")
    narrow = f"It is narrow because the two move {'together' if rho > 0 else 'against each other'}: "
    gain = 1 - (1 - rho**2) ** 0.5
    fall = f"by {percent(gain)}" if gain < 0.995 else f"by over 99{THIN}%"
    said = [
        "Any pair of ", upright(a.name), " and ", upright(b.name),
        f" inside the ellipse fits the rows ({subject.level}). {narrow if abs(rho) > 0.9 else 'Their '}correlation",
        f"{' ' if abs(rho) > 0.9 else ' is '}{_correlation(rho)}. Were one of them known, the error of the other would fall {fall}.",
    ]  # fmt: skip
    of = "the two most correlated" if len(subject.result.params) > 2 else "both at once"
    left = tag("div", tag("h3", of.capitalize()), small(*said))
    return tag("div", left, tag("figure", chart, caption), class_="duo below")


def joint_region(subject: Subject, pair: tuple[int, int], wide: Frame, phone: Frame) -> Markup:
    """Return the joint confidence region of two parameters, with the interval of each alone as a cross."""
    result = subject.result
    a, b = (list(result.params.values())[k] for k in pair)
    rho = float(np.clip(np.asarray(result.correlation)[pair], -1, 1))
    radius = joint_radius(result.level, float("inf") if result.data.absolute else result.dof)
    angle = np.linspace(0, 2 * np.pi, 121)
    xs = a.value + radius * a.stderr * np.cos(angle)
    ys = b.value + radius * b.stderr * (rho * np.cos(angle) + (1 - rho**2) ** 0.5 * np.sin(angle))
    message = (
        f"Joint {subject.level} region of {a.name} and {b.name}: an ellipse, correlation {fixed(rho, 2)}"
    )
    x_axis, y_axis = (
        Axis.around(xs, a.name, subject.parameter_unit(a), pad=0.08),
        Axis.around(ys, b.name, subject.parameter_unit(b), pad=0.08),
    )

    def draw(frame: Frame) -> Chart:
        chart = Chart(frame, x_axis, y_axis, message).axes().shape(xs, ys, "bc").path(xs, ys, "fit")
        (x0, x1), (y0, y1) = a.interval(result.level), b.interval(result.level)
        chart.path(np.array([x0, x1]), np.array([b.value, b.value]), "lead-line")
        chart.path(np.array([a.value, a.value]), np.array([y0, y1]), "lead-line")
        title = f"fit: {a.name} = {significant(a.value, 4)}, {b.name} = {significant(b.value, 4)}"
        chart.dots(np.array([a.value]), np.array([b.value]), "dot", radius=4.5, titles=[title])
        px, py = float(chart.px(a.value)), float(chart.py(b.value))
        return chart.write(
            px - 8 if rho < 0 else px + 8, py - 8, "fit", "k-ink halo", anchor="end" if rho < 0 else "start"
        )

    return twice(draw, wide, phone)


def _correlations(subject: Subject, measured: list[ParameterResult]) -> Markup:
    """Return the correlations of all pairs: a table, or the strongest when there are too many."""
    names = list(subject.result.params)
    correlation = np.asarray(subject.result.correlation)
    if len(measured) > _MOST_CORRELATED:
        pairs = [
            (names.index(a.name), names.index(b.name))
            for k, a in enumerate(measured)
            for b in measured[k + 1 :]
        ]
        strongest = sorted(pairs, key=lambda at: -abs(correlation[at]))[:10]
        rows = [
            [join([upright(names[i]), ", ", upright(names[j])]), _correlation(correlation[i, j])]
            for i, j in strongest
        ]
        return table_on_request("The ten strongest correlations", ["Pair", "correlation"], rows)
    at = [names.index(p.name) for p in measured]
    rows = [
        [
            upright(names[i]),
            *(_correlation(correlation[i, j]) if j < i else "1" if i == j else "" for j in at),
        ]
        for i in at
    ]
    return table_on_request("All correlations", ["", *(upright(names[i]) for i in at)], rows)


def _correlation(value: float) -> str:
    """Return a correlation with two decimals; with more where two would say one."""
    if not isfinite(value):
        return "none"
    gap = 1 - abs(float(value))
    return fixed(float(value), 2 if gap > 0.01 else 4 if gap > 1e-4 else 6)
