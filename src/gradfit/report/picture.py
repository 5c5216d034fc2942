"""The picture: the data, what the model makes of them, and how sure that is."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import (
    count,
    fixed,
    in_full,
    listing,
    plus_minus,
    spelled,
    with_unit,
)
from gradfit.report.axes import Axis
from gradfit.report.charts import PHONE, SPECKS_FROM, WIDE, Chart, Frame, quiet_corner, twice
from gradfit.report.headlines import of_picture
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import short, upright
from gradfit.report.page import cut, facts, row, section, small, table_on_request
from gradfit.report.residuals import name_rows
from gradfit.report.subject import Curve, Subject

Array = NDArray[np.float64]
_MOST_INPUTS = 6  # small pictures, one for each
_LONGEST_READING = 34  # characters that fit in the margin
_APART = 36  # px between the labels at the end of the curve


def picture(subject: Subject) -> Markup:
    """Return the section."""
    chart = _against_fitted(subject) if len(subject.result.inputs) > 1 else _curve(subject)
    main = join([tag("figure", chart), _numbers(subject)])
    notes = _notes_of_plane(subject) if len(subject.result.inputs) > 1 else _notes_of_curve(subject)
    more = _each_input(subject) if len(subject.result.inputs) > 1 else Markup("")
    return section("picture", "Picture", of_picture(subject), row(main, *notes), more)


def _limits(subject: Subject, curve: Curve | None) -> Axis:
    """Return the axis of y: data and curve, and the bands as far as they are not wider than the data."""
    own = subject.result.data.y[subject.shown], subject.result.fitted[subject.shown]
    rows = np.r_[own[0], own[1], subject.held_rows[1]]
    core = Axis.around(rows, pad=0.0)
    if curve is None:
        return Axis.around(rows, subject.result.response, subject.unit)
    span = core.high / 2 - core.low / 2
    ends = np.r_[curve.mean, *curve.readings, *curve.band]
    ends = ends[np.isfinite(ends)]
    return Axis.around(
        np.r_[rows, np.clip(ends, core.low - span, core.high + span)], subject.result.response, subject.unit
    )


def _curve(subject: Subject) -> Markup:
    curve = subject.curve
    y_axis = _limits(subject, curve)
    bands = (
        f", with its {subject.level} band and the band of new readings"
        if curve is not None and curve.banded
        else ""
    )
    message = (
        f"{count(subject.result.n, 'row')} of {subject.result.response} and the fitted {subject.noun}{bands}"
    )

    def draw(frame: Frame) -> Chart:
        chart = Chart(frame, subject.x_axis, y_axis, message).axes()
        _draw_bands(chart, curve)
        if subject.crowded:
            chart.hexagons(
                subject.x[subject.shown], subject.result.data.y[subject.shown], size=4 if frame.phone else 5
            )
            _draw_edges(chart, curve)
        if curve is not None:
            chart.path(curve.x, curve.mean, "fit")
        if not subject.crowded:
            _draw_rows(chart, subject)
        if curve is not None:
            (_name_inside if frame.phone else _name_at_end)(chart, subject, curve)
        return chart

    return twice(draw)


def _draw_bands(chart: Chart, curve: Curve | None) -> None:
    if curve is None or not curve.banded:
        return
    chart.band(curve.x, *curve.readings, "bp")
    for edge in curve.readings:
        chart.path(curve.x, edge, "edge")
    chart.band(curve.x, *curve.band, "bc")


def _draw_edges(chart: Chart, curve: Curve | None) -> None:
    """Add what the hexagons would hide: the edges of the bands, and a clear line under the curve."""
    if curve is None:
        return
    if curve.banded:
        for edge in curve.readings:
            chart.path(curve.x, edge, "edge")
    chart.path(curve.x, curve.mean, "under-fit")


def _draw_rows(chart: Chart, subject: Subject) -> None:
    """Add each row's point and its stem to the curve; flagged rows in the second colour with their number."""
    data, shown, flagged = subject.result.data, subject.shown, subject.flagged & subject.shown
    if not subject.hover:
        chart.specks(subject.x[shown & ~flagged], data.y[shown & ~flagged])
    else:
        for mask, cls in ((shown & ~flagged, "stem"), (flagged, "stem bad")):
            chart.stems(subject.x[mask], data.y[mask], subject.result.fitted[mask], cls)
    for mask, cls in ((shown & ~flagged & subject.hover, "dot"), (flagged, "dot bad")):
        chart.dots(subject.x[mask], data.y[mask], cls, radius=4.25, titles=subject.titles_at(mask))
    _draw_held(chart, subject)
    name_rows(chart, subject, flagged, (subject.x, data.y))


def _draw_held(chart: Chart, subject: Subject) -> None:
    """Add the rows that were held out: open points, of many orange specks."""
    xs, ys = subject.held_rows
    if subject.hover and len(xs) <= SPECKS_FROM:
        chart.dots(xs, ys, "dot open")
    else:
        chart.specks(xs, ys, "specks fine b")


def _name_at_end(chart: Chart, subject: Subject, curve: Curve) -> None:
    """Add the labels of curve and bands at their right ends."""
    end = curve.mean[np.isfinite(curve.mean)][-1:]
    if not end.size:
        return
    x, y = chart.right + 10, float(chart.py(chart.y.clip(end))[0])
    half, new = (float(curve.half(ends)[-1]) for ends in (curve.band, curve.readings))
    banded = curve.banded and np.isfinite([half, new]).all() and new > 0
    below = max(y + _APART, float(chart.py(chart.y.clip(np.array(end[0] - new)))) + 4) if banded else y
    over = max(0.0, below + 16 - chart.bottom)
    y, below = min(y, chart.bottom - 16 - _APART) if over and below - y <= _APART else y, below - over
    y = min(y, below - _APART) if banded else y
    chart.write(x, y - 4, subject.noun, "k-fit")
    if banded:
        chart.write(x, y + 11, f"±\u00a0{subject.amount(half)}", "k-fit fine")
        chart.write(x, below, f"{subject.level} of new", "mute fine")
        chart.write(x, below + 15, f"readings, ±\u00a0{subject.amount(new)}", "mute fine")


def _name_inside(chart: Chart, subject: Subject, curve: Curve) -> None:
    """Add one label with a leader where the plot is emptiest, as a phone has no margin."""
    good = np.isfinite(curve.mean)
    if not good.any():
        return
    px, py = chart.points(curve.x[good], curve.mean[good])
    shown = (
        subject.shown if not subject.crowded else subject.shown & (np.arange(subject.result.data.n) % 97 == 0)
    )
    rows = chart.points(subject.x[shown], subject.result.data.y[shown])
    words = f"{subject.noun}, {subject.level} band" if curve.banded else subject.noun
    width = 7.0 * len(words)
    left, base = quiet_corner(chart, np.r_[px, rows[0]], np.r_[py, rows[1]], width=width)
    middle = left + width / 2
    nearest = int(np.argmin(np.hypot(px - middle, py - base + 4)))
    edge = base + 4 if py[nearest] > base else base - 13
    if abs(py[nearest] - edge) > 6:
        lead = f"M{middle:.1f} {edge:.1f}L{px[nearest]:.1f} {py[nearest]:.1f}"
        chart.add(tag("path", class_="lead-line", d=lead))
    chart.write(left, base, words, "k-fit fine halo")


def _notes_of_curve(subject: Subject) -> list[Markup]:
    curve = subject.curve
    notes: list[Markup] = []
    if curve is not None and curve.banded:
        along = join([" for one ", upright(subject.x_name), " at a time"]) if subject.result.inputs else ""
        words = f"The <b>inner band</b> holds the {subject.noun}, the <b>outer band</b> a new reading, each at {subject.level}"
        notes.append(tag("p", Markup(words), along, "."))
    elif curve is not None:
        why = (
            "there is no scatter"
            if subject.exact
            else f"the rows do not say how far the {subject.noun} may lie off"
        )
        notes.append(tag("p", f"No band is drawn: {why}."))
    else:
        notes.append(tag("p", "The model is known at the rows only; it is not drawn between them."))
    if subject.crowded:
        notes.append(
            tag("p", "Rows are counted in ", tag("b", "hexagons"), ": the darker, the more of them.")
        )
    if len(subject.held_rows[0]):
        one_by_one = subject.hover and len(subject.held_rows[0]) <= SPECKS_FROM
        kind = "Open" if one_by_one else "Orange"
        notes.append(tag("p", tag("b", kind), " points were held out and did not move the curve."))
    if subject.result.inputs:
        notes.append(tag("p", "Nothing is drawn outside the measured range."))
    if lost := subject.result.data.n - int(subject.shown.sum()):
        notes.append(
            tag("p", f"{count(lost, 'row')} {'is' if lost == 1 else 'are'} not finite and not drawn.")
        )
    return [*notes, _readings(subject, curve)]


def _readings(subject: Subject, curve: Curve | None) -> Markup:
    """Return three values read from the curve, at round places."""
    if curve is None or not subject.result.inputs or not np.isfinite(curve.stderr).all() or subject.exact:
        return Markup("")
    ticks = [tick for tick in subject.x_axis.ticks if curve.x[0] <= tick <= curve.x[-1]]
    step = max(1, (len(ticks) - 1) // 2)
    chosen = ticks[::step][:3]
    items: list[tuple[str, str]] = []
    for tick in chosen:
        mean, error = (float(np.interp(tick, curve.x, part)) for part in (curve.mean, curve.stderr))
        value, pm, power = plus_minus(mean, error)
        both = f"({value}\u00a0±\u00a0{pm}){power}" if power else f"{value}\u00a0±\u00a0{pm}"
        at = f" = {with_unit(in_full(tick), subject.unit_of(subject.x_name))}"
        items.append((join([upright(subject.x_name), at]), with_unit(both, subject.unit)))
    if not items or max(len(written) for _, written in items) > _LONGEST_READING:
        return Markup("")
    return join(
        [
            tag("h3", f"Read from the {subject.noun}"),
            facts(items, "reads"),
            tag("p", f"± one standard error of the {subject.noun}."),
        ]
    )


def _against_fitted(subject: Subject) -> Markup:
    """Return observed against fitted values, for models of several inputs."""
    data, fitted, shown = subject.result.data, subject.result.fitted, subject.shown
    both = Axis.around(np.r_[data.y[shown], fitted[shown]])
    x_axis = Axis(both.low, both.high, f"fitted {short(subject.result.response, 20)}", subject.unit)
    y_axis = Axis(both.low, both.high, f"observed {short(subject.result.response, 20)}", subject.unit)
    message = f"Observed against fitted {subject.result.response}; points on the line are fitted exactly"

    def draw(frame: Frame) -> Chart:
        chart = Chart(frame, x_axis, y_axis, message).axes()
        ends = np.array([both.low, both.high])
        if subject.crowded:
            chart.hexagons(fitted[shown], data.y[shown], size=4 if frame.phone else 5)
        if subject.crowded:
            chart.path(ends, ends, "under-fit")
        chart.path(ends, ends, "fit")
        if not subject.crowded:
            _cloud(chart, subject)
        if not frame.phone:
            chart.write(chart.right + 10, float(chart.py(both.high)) + 4, "observed = fitted", "k-fit")
        return chart

    return twice(draw, WIDE, PHONE)


def _cloud(chart: Chart, subject: Subject) -> None:
    xs, ys, bad = subject.result.fitted, subject.result.data.y, subject.flagged & subject.shown
    if not subject.hover:
        chart.specks(xs[subject.shown & ~bad], ys[subject.shown & ~bad])
    for mask, cls in ((subject.shown & ~bad & subject.hover, "dot"), (bad, "dot bad")):
        chart.dots(xs[mask], ys[mask], cls, titles=subject.titles_at(mask))
    name_rows(chart, subject, bad, (xs, ys))


def _notes_of_plane(subject: Subject) -> list[Markup]:
    number = len(subject.result.inputs)
    names = join(join([", " if k else "", upright(name)]) for k, name in enumerate(subject.result.inputs[:4]))
    more = f" and {number - 4} more" if number > 4 else ""
    said = f" is fitted exactly. The model has {spelled(number)} inputs: "
    notes = [tag("p", "A row ", tag("b", "on the line"), said, names, f"{more}.")]
    if subject.crowded:
        notes.append(
            tag("p", "Rows are counted in ", tag("b", "hexagons"), ": the darker, the more of them.")
        )
    return notes


def _each_input(subject: Subject) -> Markup:
    """Return what the rows look like along each input: observed in ink, fitted in blue."""
    panels: list[Markup] = []
    data, shown = subject.result.data, subject.shown
    y_axis = Axis.around(
        np.r_[data.y[shown], subject.result.fitted[shown]], subject.result.response, subject.unit
    )
    for name in subject.result.inputs[:_MOST_INPUTS]:
        x = data.columns[name]
        message = f"{subject.result.response} against {name}: observed and fitted"
        chart = Chart(
            Frame("", 318, 220, right=8, top=30, bottom=40),
            Axis.around(x[shown], name, subject.unit_of(name)),
            y_axis,
            message,
        ).axes()
        if subject.crowded:
            chart.hexagons(x[shown], data.y[shown], size=4)
        else:
            chart.specks(x[shown], data.y[shown])
            chart.specks(x[shown], subject.result.fitted[shown], "specks f")
        panels.append(tag("div", tag("h3", "Against ", upright(name)), tag("figure", chart.svg())))
    left = len(subject.result.inputs) - _MOST_INPUTS
    note = f" The other {left} inputs are not drawn." if left > 0 else ""
    key = "Dark: observed." if subject.crowded else "Dark: observed; blue: fitted, at the same inputs."
    return tag("div", tag("div", *panels, class_="trio"), small(key + note), class_="below")


def _numbers(subject: Subject) -> Markup:
    """Return the numbers behind the picture, as a table that opens on request."""
    result, data = subject.result, subject.result.data
    figures, leverage = subject.figures, result.leverage
    unit = figures.head(subject.unit)
    inputs = list(result.inputs[:6])
    head: Sequence[str] = [
        "Row",
        *(
            join([upright(name), f", {subject.unit_of(name)}" if subject.unit_of(name) else ""])
            for name in inputs
        ),
        join([upright(result.response), unit]),
        f"{subject.noun}{unit}",
        f"residual{unit}",
        "in s.d.",
        "leverage",
    ]
    most = min(result.data.n, 200)
    rows = [
        [
            f"{data.rows[i]:.0f}",
            *(subject.input_text(name, float(data.columns[name][i])) for name in inputs),
            figures.bare(data.y[i]),
            figures.bare(result.fitted[i]),
            figures.bare(result.residuals[i], plus=True),
            fixed(subject.standard[i], 1, plus=True) if np.isfinite(subject.standard[i]) else "none",
            fixed(float(leverage[i]), 2),
        ]
        for i in range(most)
    ]
    words = cut(result.n, "result.fitted and result.residuals")
    if len(result.inputs) > len(inputs):
        words += f" Inputs beyond the sixth are left out: {listing(result.inputs[6:])}."
    return table_on_request("The numbers behind this picture", head, rows, words)
