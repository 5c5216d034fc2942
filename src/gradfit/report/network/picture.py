"""The picture of a network: its curve through the rows, predictions beside observations, or which class was taken for which."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import count, fixed, in_full, significant, with_unit
from gradfit.report.axes import Axis
from gradfit.report.charts import PHONE, WIDE, Chart, Frame, twice
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import short, upright
from gradfit.report.network.confusion import confusion
from gradfit.report.network.headlines import of_picture
from gradfit.report.network.subject import Subject, Told, crowded
from gradfit.report.page import MOST_ROWS, cut, row, section, small, table_on_request

Array = NDArray[np.float64]
PANEL = Frame("", 318, 260, left=40, right=10, top=30, bottom=42)
BESIDE_WIDE, BESIDE_PHONE = Frame("wide", 486, 330, right=14), Frame("phone", 354, 320, right=14)
_MOST_TARGETS, _MOST_INPUTS = 6, 6
_WILD = 1e300  # what is larger is drawn at the edge


def picture(subject: Subject) -> Markup:
    """Return the section."""
    lead = of_picture(subject)
    if subject.judged is None:
        return section("picture", "Picture", lead)
    if subject.classes:
        return section("picture", "Picture", lead, confusion(subject), _numbers(subject))
    if subject.along:
        main = join([tag("figure", _curve(subject)), _numbers(subject)])
        return section("picture", "Picture", lead, row(main, *_notes(subject)))
    if subject.judged.observed.shape[1] == 1:
        main = join([tag("figure", against(subject, WIDE, PHONE)), _numbers(subject)])
        return section("picture", "Picture", lead, row(main, *_notes_against(subject)))
    return section("picture", "Picture", lead, _each_target(subject), _numbers(subject))


# ---------------------------------------------------------------------------- the curve


def _curve(subject: Subject) -> Markup:
    trained, held, name = subject.trained, subject.held, subject.along
    assert trained is not None  # noqa: S101  there is a curve only with rows
    x, mean = subject.curve
    rows = [_plane(subject, told) for told in (trained, held) if told is not None]
    y = np.concatenate([ys for _, ys in rows])
    x_axis = Axis.around(np.concatenate([xs for xs, _ in rows]), name, subject.unit_of(name), pad=0.03)
    y_axis = Axis.around(np.r_[y, np.clip(_finite(mean), *_wide(y))], subject.result.response, _unit(subject))
    many = crowded(trained.part.n)
    message = f"{count(trained.part.n, 'row')} of {subject.result.response} and the network"

    def draw(frame: Frame) -> Chart:
        chart = Chart(frame, x_axis, y_axis, message).axes()
        if many:
            chart.hexagons(*rows[0], size=4 if frame.phone else 5).path(x, mean, "under-fit")
        chart.path(x, mean, "fit")
        if not many:
            _rows(chart, subject, rows)
        if frame.phone:
            return chart
        end = float(chart.py(chart.y.clip(_finite(mean)[-1:]))[0])
        return chart.write(chart.right + 10, end + 4, "network", "k-fit")

    return twice(draw)


def _rows(chart: Chart, subject: Subject, rows: Sequence[tuple[Array, Array]]) -> None:
    """Draw rows trained on filled, and rows held out open."""
    for (xs, ys), cls in zip(rows, ("dot", "dot open"), strict=False):
        told = subject.trained if cls == "dot" else subject.held
        if told is None or crowded(len(xs)):
            continue
        if len(xs) > 150:
            chart.specks(xs, ys, "specks fine" if cls == "dot" else "specks fine b")
        else:
            chart.dots(xs, ys, cls, titles=_titles(subject, told) if subject.hover else ())


def _wide(y: Array) -> tuple[float, float]:
    """Return the range of the rows, as wide again to both sides: no further is a curve followed."""
    low, high = float(y.min()), float(y.max())
    return max(low - (high - low), -_WILD), min(high + (high - low), _WILD)


def _plane(subject: Subject, told: Told) -> tuple[Array, Array]:
    x = np.asarray(told.part.rows.column(subject.along), dtype=np.float64)
    return x, told.observed[:, 0]


def _finite(values: Array) -> Array:
    return np.clip(np.nan_to_num(values, nan=0.0, posinf=_WILD, neginf=-_WILD), -_WILD, _WILD)


def _unit(subject: Subject) -> str:
    names = subject.result.target.names
    return subject.unit_of(names[0]) if len(names) == 1 else ""


def _notes(subject: Subject) -> list[Markup]:
    trained, held = subject.trained, subject.held
    notes = list[Markup]()
    if trained is not None and crowded(trained.part.n):
        notes.append(
            tag(
                "p",
                "Rows trained on are counted in ",
                tag("b", "hexagons"),
                ": the darker, the more of them.",
            )
        )
    elif held is not None and trained is not None and trained.part.n > 150:
        notes.append(
            tag(
                "p",
                tag("b", "Dark"),
                " rows were trained on, ",
                tag("b", "orange"),
                " ones held out: no gradient ever came from them, nor any scaling constant.",
            )
        )
    elif held is not None:
        words = " rows were held out: no gradient ever came from them, nor any scaling constant."
        notes.append(tag("p", tag("b", "Filled"), " rows were trained on. ", tag("b", "Open"), words))
    return [*notes, tag("p", "Nothing is drawn outside the measured range.")]


# ---------------------------------------------------------------------------- predicted and observed


def against(subject: Subject, wide: Frame, phone: Frame) -> Markup:
    """Return observed over predicted values of the first target, of the rows that judge the network."""
    assert subject.judged is not None  # noqa: S101  the caller has looked
    return twice(lambda frame: _against(subject, 0, frame), wide, phone)


def _against(subject: Subject, j: int, frame: Frame) -> Chart:
    told = subject.judged
    assert told is not None  # noqa: S101  the caller has looked
    observed, predicted = told.observed[:, j], _finite(told.predicted[:, j])
    name = subject.result.target.names[j] if told.observed.shape[1] > 1 else subject.result.response
    low, high = _wide(observed)
    shown = np.clip(predicted, low, high)
    both = Axis.around(np.r_[observed, shown])
    unit = subject.unit_of(name)
    x_axis = Axis(both.low, both.high, f"predicted {short(name, 20)}", unit)
    y_axis = Axis(both.low, both.high, f"observed {short(name, 20)}", unit)
    message = f"Observed over predicted {short(name, 60)}, rows {subject.judged_name}; points on the line are predicted exactly"
    chart = Chart(frame, x_axis, y_axis, message).axes()
    ends = np.array([both.low, both.high])
    if crowded(told.part.n):
        chart.hexagons(shown, observed, size=4 if frame.width < 500 else 5).path(ends, ends, "under-fit")
    chart.path(ends, ends, "fit")
    if told.part.n <= 150:
        chart.dots(
            shown, observed, "dot", radius=4 if frame.width > 400 else 3.5, titles=_titles(subject, told)
        )
    elif not crowded(told.part.n):
        chart.specks(shown, observed, "specks fine")
    if frame.right >= 100:
        chart.write(chart.right + 10, float(chart.py(both.high)) + 4, "exact", "k-fit")
    return chart


def _notes_against(subject: Subject) -> list[Markup]:
    where = "rows held out" if subject.held is not None else "rows trained on"
    assert subject.judged is not None  # noqa: S101  the caller has looked
    notes = [tag("p", "A row ", tag("b", "on the line"), f" is predicted exactly. Shown are the {where}.")]
    if crowded(subject.judged.part.n):
        notes.append(
            tag("p", "Rows are counted in ", tag("b", "hexagons"), ": the darker, the more of them.")
        )
    return notes


def _each_target(subject: Subject) -> Markup:
    """Return observed over predicted values of each target."""
    names = subject.result.target.names
    panels = [
        tag("div", tag("h3", upright(name)), tag("figure", _against(subject, j, PANEL).svg()))
        for j, name in enumerate(names[:_MOST_TARGETS])
    ]
    left = len(names) - _MOST_TARGETS
    note = f" The other {left} targets are not drawn." if left > 0 else ""
    words = f"A row on the line is predicted exactly; shown are the rows {subject.judged_name}.{note}"
    return join([tag("div", *panels, class_="trio"), small(words)])


# ---------------------------------------------------------------------------- the numbers behind it


def _cell(subject: Subject, told: Told, name: str, i: int) -> str:
    """Return the value of an input in one row, for people."""
    value, levels = told.part.rows.column(name)[i], subject.result.encoding.levels.get(name)
    if np.ndim(value):
        return " × ".join(str(size) for size in np.shape(value))
    if levels is not None:
        return short(levels[int(value)], 24)
    return in_full(float(f"{float(value):.6g}"))


def _titles(subject: Subject, told: Told) -> list[str]:
    """Return what the pointer reads at each row."""
    rows = told.part.rows.table.rows
    name, unit = short(subject.result.response, 24), _unit(subject)
    parts: list[str] = []
    for i, row_number in enumerate(rows):
        inputs = [f"{short(n, 24)} {_cell(subject, told, n, i)}" for n in subject.result.inputs[:4]]
        values = [with_unit(significant(float(v[i, 0]), 4), unit) for v in (told.observed, told.predicted)]
        parts.append(f"Row {row_number:.0f}: {', '.join(inputs)}; {name} {values[0]}; network {values[1]}")
    return parts


def _numbers(subject: Subject) -> Markup:
    """Return the rows that judge the network with their predictions, as a table that opens on request."""
    told, result = subject.judged, subject.result
    assert told is not None  # noqa: S101  the caller has looked
    inputs = result.inputs[:_MOST_INPUTS]
    outputs = _outputs(subject, told)
    head = ["Row", *(upright(name) for name in inputs), *(name for name, _ in outputs)]
    rows = [
        [
            f"{told.part.rows.table.rows[i]:.0f}",
            *(_cell(subject, told, name, i) for name in inputs),
            *(cells[i] for _, cells in outputs),
        ]
        for i in range(min(told.part.n, MOST_ROWS))
    ]
    words = f"Rows {subject.judged_name}. {cut(told.part.n, 'result.predict(data)')}"
    if len(result.inputs) > len(inputs):
        words += f" {fixed(len(result.inputs) - len(inputs), 0)} more inputs are left out."
    return table_on_request("The numbers behind this picture", head, rows, words.strip())


def _outputs(subject: Subject, told: Told) -> list[tuple[Markup, list[str]]]:
    """Return the columns of observed and predicted targets, and of the probability of the class that was said."""
    most = slice(0, MOST_ROWS)
    if not subject.classes:
        several = told.observed.shape[1] > 1
        names = subject.result.target.names[:_MOST_TARGETS] if several else (subject.result.response,)
        columns = list[tuple[Markup, list[str]]]()
        for j, name in enumerate(names):
            for word, values in (("", told.observed), (", predicted", told.predicted)):
                columns.append(
                    (join([upright(name), word]), [significant(float(v), 4) for v in values[most, j]])
                )
        return columns
    chances = told.prediction.probabilities
    if chances is None or chances.ndim != 2:
        return []
    levels = subject.result.target.levels
    observed = [short(levels[int(code)], 24) for code in told.part.target.values[most].reshape(-1)]
    said = [short(levels[int(k)], 24) for k in chances[most].argmax(axis=1)]
    sure = [fixed(float(p), 3) for p in chances[most].max(axis=1)]
    name = upright(subject.result.response)
    return [(name, observed), (join([name, ", said"]), said), (Markup("its probability"), sure)]
