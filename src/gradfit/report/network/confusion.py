"""Which class was taken for which: as a table of few classes, as a map of many, and class by class."""

import numpy as np
from numpy.typing import NDArray

from gradfit.networks.sentences import share
from gradfit.notation import fixed
from gradfit.report.axes import Axis
from gradfit.report.charts import Chart, Frame, twice
from gradfit.report.markup import Markup, join, number, tag
from gradfit.report.mathtext import short, upright
from gradfit.report.network.subject import Subject
from gradfit.report.page import row, small, table, table_on_request

Counts = NDArray[np.int64]
_TABLE, _MAP = 12, 100  # classes that a table, and a map, can show
_MISTAKES = 8  # that are listed
_MOST = 200  # classes in the table that opens
_SHADES = 5
_WIDE = Frame("wide", 620, 620, left=12, right=12, top=32, bottom=36)
_PHONE = Frame("phone", 354, 370, left=8, right=8, top=32, bottom=36)


def confusion(subject: Subject) -> Markup:
    """Return how often each class was taken for which, with notes in the margin."""
    counts, levels = subject.result.confusion, subject.result.target.levels
    if counts is None:
        return Markup("")
    few = len(levels) <= _TABLE
    main = _table(subject, counts) if few else _mistakes(subject, counts)
    if not few and len(levels) <= _MAP:
        main = join([tag("figure", _map(subject, counts)), tag("h3", "Taken for each other most"), main])
    where = "held out" if subject.held is not None else "trained on"
    notes = [
        tag("p", "A row of the ", tag("b", "table" if few else "map"), f" is what the rows {where} are, a column what the network said."),
        tag("p", tag("b", "Blue"), " is right, ", tag("b", "orange"), " wrong: the stronger, the larger the share of the class."),
    ]  # fmt: skip
    return join([row(main, *(notes if few or len(levels) <= _MAP else [])), _by_class(subject, counts)])


def shades(counts: Counts) -> NDArray[np.int64]:
    """Return how dark each cell is (K, K): 0 for none, 1 to 5 by its share of the row."""
    whole = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return np.where(counts > 0, 1 + np.minimum(counts * _SHADES // whole, _SHADES - 1), 0).astype(np.int64)


def _table(subject: Subject, counts: Counts) -> Markup:
    levels, shade = subject.result.target.levels, shades(counts)
    name = upright(subject.result.response)
    head = [
        tag("th", name, " is \\ said", scope="col"),
        *(tag("th", short(level, 16), scope="col") for level in levels),
    ]
    lines: list[Markup] = []
    for i, level in enumerate(levels):
        cells = [
            tag("td", fixed(int(value), 0), class_=f"{'yes' if i == j else 'not'} s{shade[i, j]}")
            for j, value in enumerate(counts[i])
        ]
        lines.append(tag("tr", tag("th", short(level, 24), scope="row"), *cells))
    whole = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *lines), class_="conf")
    return tag(
        "div",
        whole,
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label="Which class was taken for which",
    )


def _map(subject: Subject, counts: Counts) -> Markup:
    """Return the shares of each class as squares, one row for a class."""
    k, shade = len(counts), shades(counts)
    axis = Axis(0.0, float(k), at=())
    name = short(subject.result.response, 24)
    right = int(np.trace(counts))
    message = f"Which of {k} classes was taken for which: {right} of {int(counts.sum())} rows are told right"

    def draw(frame: Frame) -> Chart:
        chart = Chart(frame, axis, axis, message).axes()
        across, up = (chart.right - chart.frame.left) / k, (chart.bottom - chart.frame.top) / k
        square = f"h{number(across)}v{number(up)}h-{number(across)}z"
        for kind in ("yes", "not"):
            own = np.eye(k, dtype=bool) == (kind == "yes")
            for level in range(1, _SHADES + 1):
                corners = np.argwhere((shade == level) & own) * (up, across) + (
                    chart.frame.top,
                    chart.frame.left,
                )
                d = "".join(f"M{number(x)} {number(y)}{square}" for y, x in corners)
                chart.add(*([tag("path", class_=f"{kind} s{level}", d=d)] if d else []))
        chart.write(4, 14, f"{name} is, in the order of “Class by class”", "lab")
        return chart.write(chart.right, chart.frame.height - 10, f"{name} said", "lab", anchor="end")

    return twice(draw, _WIDE, _PHONE)


def _mistakes(subject: Subject, counts: Counts) -> Markup:
    """Return the mistakes that are made most."""
    levels = subject.result.target.levels
    wrong = counts - np.diag(np.diag(counts))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_MISTAKES]
    pairs = [np.unravel_index(int(place), wrong.shape) for place in order]
    lines = [
        [
            short(levels[int(i)], 32),
            short(levels[int(j)], 32),
            fixed(int(wrong[i, j]), 0),
            fixed(int(counts[i].sum()), 0),
        ]
        for i, j in pairs
        if wrong[i, j]
    ]
    if not lines:
        return small("No row was taken for another class.")
    return table("The mistakes that are made most", ["It is", "It was said", "rows", "of"], lines)


def _by_class(subject: Subject, counts: Counts) -> Markup:
    """Return how well each class is told, as a table that opens on request."""
    levels = subject.result.target.levels
    lines: list[list[str]] = []
    for i, level in enumerate(levels[:_MOST]):
        is_, said, right = int(counts[i].sum()), int(counts[:, i].sum()), int(counts[i, i])
        found = share(right / is_) if is_ else "no row"
        meant = share(right / said) if said else "never said"
        lines.append([short(level, 32), fixed(is_, 0), found, meant])
    note = f"The first {_MOST} of {fixed(len(levels), 0)} classes." if len(levels) > _MOST else ""
    head = ["Class", "rows", "of these told right (recall)", "right when said (precision)"]
    return table_on_request("Class by class", head, lines, note)
