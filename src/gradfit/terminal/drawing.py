"""Drawings for a terminal: readings as dots, curves in Braille cells of 2 x 4 points, whole rows between ticks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import axis, count, fixed, level_percent, significant
from gradfit.terminal.text import Line, Page, Signs, Span, Tone, cells, clip, cut, pad
from gradfit.view import MANY, ROW, View, view

if TYPE_CHECKING:
    from gradfit.result import FitResult

Array = NDArray[np.float64]

LABELS = 16  # columns right of the plot for the names of curve and band
NARROW = 60  # below this width the names are left out
LEAST = 12  # columns that a plot needs
_DOTS = np.array(
    [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]]
)  # of a Braille cell, by row and column
_STEPS = (0.1, 0.45)  # shares of the fullest cell, between few, some and many
_LARGEST = 1e300


@dataclass(frozen=True, slots=True)
class Frame:
    """Where values stand among the cells of a plot.

    Attributes
    ----------
    low, high : float
        The values at the left and the right edge.
    columns, rows : int
        The size in cells.
    base, step : float
        Row i (from the top) holds the values base + (top - i ± ½)*step.
    top : int
        See `step`.
    x_ticks, y_ticks : sequence of (float, str)
        Ticks with their labels.
    x_title, y_title : str
        Names and units of the axes.
    """

    low: float
    high: float
    columns: int
    rows: int
    base: float
    step: float
    top: int
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    x_title: str
    y_title: str

    def across(self, x: Array) -> Array:
        """Return the distance from the left edge, in columns."""
        return (x - self.low) / (self.high - self.low) * self.columns

    def down(self, y: Array) -> Array:
        """Return the distance from the upper edge, in rows."""
        return self.top + 0.5 - (y - self.base) / self.step

    def column(self, x: float) -> int:
        """Return the column in which x lies."""
        return int(np.clip(self.across(np.array(x)), 0, self.columns - 1))

    def row(self, y: float) -> int:
        """Return the row in which y lies."""
        return int(np.clip(self.down(np.array(y)), 0, self.rows - 1))

    @property
    def margin(self) -> int:
        """The columns that the labels of the vertical axis take."""
        return max(4, *(cells(label) for _, label in self.y_ticks)) if self.y_ticks else 4


def limits(values: Array, margin: float) -> tuple[float, float]:
    """Return the least and the greatest value with a margin; a single value gets room around it."""
    low, high = float(values.min()), float(values.max())
    room = margin * (high - low)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        room = 0.05 * max(abs(low), abs(high)) or 1.0
    return low - room, high + room


def frame(x: Array, y: Array, names: tuple[str, str, str, str], size: tuple[int, int]) -> Frame | None:
    """Return the frame for points x (n,), y (m,), None where there is no room for it.

    Parameters
    ----------
    names : (str, str, str, str)
        Name and unit of x, name and unit of y.
    size : (int, int)
        Columns and rows that there are at most.
    """
    width, most = size
    largest = max(float(np.abs(x).max(initial=0.0)), float(np.abs(y).max(initial=0.0)))
    if not x.size or not y.size or largest > _LARGEST:
        return None
    bottom, height = limits(y, 0.0)
    ticks, labels, y_title = axis(bottom, height, names[2], names[3])
    base, step, top, rows = _rows(ticks, bottom, height, most)
    low, high = limits(x, 0.04)
    margin = max([4, *(cells(label) for label in labels)])
    columns = width - margin - 4
    if columns < LEAST:
        return None
    most = min(max(2, columns // 9), 7)
    places, shown, x_title = axis(low, high, names[0], names[1], most=most)
    if names[0] == ROW:
        places, shown = whole(places, shown)
    x_ticks, y_ticks = list(zip(places, shown, strict=True)), list(zip(ticks, labels, strict=True))
    return Frame(low, high, columns, rows, base, step, top, x_ticks, y_ticks, x_title, y_title)


def whole(ticks: Sequence[float], labels: Sequence[str]) -> tuple[list[float], list[str]]:
    """Return the ticks that are whole numbers, with labels to match."""
    kept = [tick for tick in ticks if tick == round(tick)]
    return kept, [fixed(tick, 0) for tick in kept] if len(kept) < len(ticks) else list(labels)


def _rows(ticks: Sequence[float], low: float, high: float, most: int) -> tuple[float, float, int, int]:
    """Return (base, step, top, rows) with a whole number of rows between ticks."""
    base, apart = (ticks[0], ticks[1] - ticks[0]) if len(ticks) > 1 else (low, high - low)
    between = most
    while between > 1 and _span(base, apart / between, low, high)[1] > most:
        between -= 1
    top, rows = _span(base, apart / between, low, high)
    return base, apart / between, top, rows


def _span(base: float, step: float, low: float, high: float) -> tuple[int, int]:
    """Return the number of the top row and how many rows there are, when one row is `step` high."""
    first, last = floor((low - base) / step + 0.5), ceil((high - base) / step - 0.5)
    return last, last - first + 1


class Canvas:
    """The cells of a plot, drawn over one another."""

    def __init__(self, frame: Frame, signs: Signs, *, braille: bool) -> None:
        self.frame = frame
        self.signs = signs
        self.braille = braille
        self.cells: dict[tuple[int, int], Span] = {}
        self.labels: dict[int, Span] = {}

    def points(self, x: Array, y: Array) -> None:
        """Draw readings; above MANY their number in each cell decides between few, some and many."""
        frame = self.frame
        seen = np.isfinite(x) & np.isfinite(y)
        column = np.clip(frame.across(x[seen]), 0, frame.columns - 1).astype(int)
        row = np.clip(frame.down(y[seen]), 0, frame.rows - 1).astype(int)
        number = np.bincount(row * frame.columns + column, minlength=frame.rows * frame.columns)
        dense = len(x) > MANY
        share = number / max(float(number.max(initial=1)), 1.0)
        for place in np.flatnonzero(number).tolist():
            step = sum(float(share[place]) > limit for limit in _STEPS)
            sign = self.signs.steps[step] if dense else self.signs.point
            self.cells[divmod(place, frame.columns)] = Span(sign, "" if dense else "bold")

    def edge(self, at: Array, values: Array) -> None:
        """Draw one side of a band where nothing stands."""
        for column, row in self._steps(at, values, across=1, down=1):
            self.cells.setdefault((row[0], column), Span(self.signs.band, "dim"))

    def curve(self, at: Array, values: Array) -> None:
        """Draw a curve over what stands there."""
        if not self.braille:
            for column, rows in self._steps(at, values, across=1, down=1):
                for row in rows:
                    self.cells[row, column] = Span("+", "fit")
            return
        dots: dict[tuple[int, int], int] = {}
        for column, rows in self._steps(at, values, across=2, down=4):
            for row in rows:
                place = (row // 4, column // 2)
                dots[place] = dots.get(place, 0) | int(_DOTS[row % 4, column % 2])
        for place, bits in dots.items():
            self.cells[place] = Span(chr(0x2800 + bits), "fit")

    def _steps(self, at: Array, values: Array, *, across: int, down: int) -> list[tuple[int, range]]:
        """Return the columns that a curve crosses, in parts of a cell, with the rows from the last column's to its own."""
        frame = self.frame
        columns = np.arange(frame.columns * across)
        x = frame.low + (columns + 0.5) / len(columns) * (frame.high - frame.low)
        half = (frame.high - frame.low) / len(columns) / 2
        inside = (x >= at[0] - half) & (x <= at[-1] + half)
        y = np.interp(x[inside], at, values)
        rows = np.floor(frame.down(np.where(np.isfinite(y), y, 0.0)) * down)
        steps = list[tuple[int, range]]()
        before = None
        for column, row, height in zip(columns[inside].tolist(), rows.tolist(), y.tolist(), strict=True):
            if not np.isfinite(height) or not 0 <= row < frame.rows * down:
                before = None
                continue
            here = int(row)
            start = here if before is None else before + (here > before) - (here < before)
            steps.append((column, range(min(start, here), max(start, here) + 1)))
            before = here
        return steps

    def name(self, y: float, tone: Tone, *texts: str) -> None:
        """Write words beside the plot at the height of y, or in the nearest free rows."""
        rows = self.frame.rows
        starts = sorted(range(rows - len(texts) + 1), key=lambda row: abs(row - self.frame.row(y)))
        free = (row for row in starts if not any(row + i in self.labels for i in range(len(texts))))
        start = next(free, None)
        if start is not None:
            self.labels |= {start + i: Span(text, tone) for i, text in enumerate(texts)}

    def lines(self, page: Page) -> list[Line]:
        """Return the plot with its axes."""
        frame, signs = self.frame, self.signs
        marks = {frame.row(tick): label for tick, label in frame.y_ticks}
        lines: list[Line] = [(page.span(f"  {frame.y_title}", "dim"),)]
        for row in range(frame.rows):
            label = pad(page.text(marks.get(row, "")), frame.margin, right=True)
            side = Span(f"  {label} {signs.tick if row in marks else signs.axis}", "dim")
            line = (side, *merged([self.cells.get((row, i), Span(" ")) for i in range(frame.columns)]))
            lines.append((*line, Span(" "), self.labels[row]) if row in self.labels else line)
        return [*lines, *self._foot(page)]

    def _foot(self, page: Page) -> list[Line]:
        """Return the horizontal axis, its labels, and its name behind them, or below when there is no room."""
        frame, signs = self.frame, self.signs
        floor = [signs.floor] * frame.columns
        left = frame.margin + 4
        numbers = ""
        for tick, label in frame.x_ticks:
            column = frame.column(tick)
            text = page.text(label)
            start = left + column - (cells(text) - 1) // 2
            floor[column] = signs.foot
            if start > cells(numbers) or not numbers:
                numbers = pad(numbers, start) + text
        base = Span(f"  {' ' * frame.margin} {signs.corner}{''.join(floor)}", "dim")
        title = page.text(frame.x_title)
        room = page.width - 3
        if cells(numbers) + 3 + cells(title) <= page.width:
            return [(base,), (Span(f"{numbers}   {title}", "dim"),)]
        below = pad(clip(title, room), min(left + frame.columns, room), right=True)
        return [(base,), (Span(numbers, "dim"),), (Span(below, "dim"),)]


def merged(spans: Sequence[Span]) -> list[Span]:
    """Return spans with neighbours of one tone joined, blanks joined to whatever stands before them."""
    joined = list[Span]()
    for span in spans:
        if joined and (joined[-1].tone == span.tone or span.text == " "):
            joined[-1] = Span(joined[-1].text + span.text, joined[-1].tone)
        else:
            joined.append(span)
    return joined


def fit_plot(result: "FitResult", page: Page) -> list[Line]:
    """Return the readings, the curve and the band of new readings; one line of words where they cannot be drawn."""
    shown = view(result)
    names = page.width >= NARROW
    seen = np.isfinite(shown.x) & np.isfinite(shown.y)
    room = page.width - (LABELS if names else 1)
    axes = (shown.x_name, shown.x_unit, shown.y_name, shown.y_unit)
    placed = frame(shown.x[seen], shown.heights, axes, (room, 18 if page.width >= 100 else 14))
    if placed is None:
        return [(page.span("  no room for a plot, or numbers too large to draw", "dim"),)]
    canvas = Canvas(placed, page.signs, braille=page.unicode)
    _draw(canvas, shown)
    if names:
        _name(canvas, shown, level_percent(result.level), page)
    return [cut(line, page.width) for line in canvas.lines(page)]


def _draw(canvas: Canvas, shown: View) -> None:
    if shown.many:  # the cloud of points shows what the band would
        canvas.points(shown.x, shown.y)
        canvas.curve(shown.at, shown.curve)
        return
    canvas.curve(shown.at, shown.curve)
    for edge in shown.outer if shown.outer and _wide(canvas, shown) else ():
        canvas.edge(shown.at, edge)
    canvas.points(shown.x, shown.y)


def _wide(canvas: Canvas, shown: View) -> bool:
    """Return whether the band is anywhere more than a row away from the curve, to be told from it."""
    low, high = shown.outer or (shown.curve, shown.curve)
    return bool(((high - low) / 2 > canvas.frame.step).any())


def _name(canvas: Canvas, shown: View, level: str, page: Page) -> None:
    """Write the names of the curve and the band at their ends."""
    ends = [float(v) for v in shown.curve[np.isfinite(shown.curve)][-1:]]
    if ends:
        canvas.name(ends[0], "fit", *(["fitted", "= observed"] if "=" in shown.label else [shown.label]))
    if shown.outer and not shown.many and _wide(canvas, shown):
        canvas.name(float(shown.outer[0][-1]), "dim", page.text(f"{level} of new"), "readings")


def data_plot(
    x: Array,
    y: Array,
    *,
    names: tuple[str, str] = ("x", "y"),
    units: Mapping[str, str] | None = None,
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
) -> str:
    """Return the points of x (n,) and y (n,) as text; above 2,000 their density in three steps.

    Parameters
    ----------
    names : (str, str)
        Of x and y.
    units : Mapping[str, str]
        Units by name.
    width : int
        Columns; no line is wider.
    color, unicode : bool
        Whether the colours of the terminal's theme, and signs beyond ASCII, may be used.
    """
    page, units = Page(width, color, unicode), units or {}
    seen = np.isfinite(x) & np.isfinite(y)
    axes = (names[0], units.get(names[0], ""), names[1], units.get(names[1], ""))
    placed = frame(x[seen], y[seen], axes, (width - 1, 22 if width >= 100 else 18))
    if placed is None:
        return page.render([(page.span("no room for a plot, or no numbers that can be drawn", "dim"),)])
    canvas = Canvas(placed, page.signs, braille=unicode)
    canvas.points(x[seen], y[seen])
    said = count(int(seen.sum()), "point")
    if not seen.all():
        said += f"; {count(int((~seen).sum()), 'row')} without a number left out"
    if seen.sum() > MANY:
        few, some, most = page.signs.steps
        said += f"; in a cell {few} few, {some} some, {most} most"
    return page.render([*canvas.lines(page), (), (page.span(f"  {said}", "dim"),)])


def histogram_plot(
    values: Array,
    *,
    name: str = "x",
    unit: str = "",
    width: int = 80,
    color: bool = False,
    unicode: bool = True,
) -> str:
    """Return how many of `values` (n,) lie where, as bars of text, one line for each bin.

    Parameters
    ----------
    name, unit : str
        Of what is counted.
    width, color, unicode
        As for `data_plot`.
    """
    page = Page(width, color, unicode)
    seen = values[np.isfinite(values) & (np.abs(values) <= _LARGEST)]
    if not seen.size:
        return page.render([(page.span(f"  {name} holds no numbers that can be drawn", "dim"),)])
    number, labels, title = _binned(seen, name, unit)
    labels = [page.text(label) for label in labels]
    wide = max(cells(label) for label in labels)
    counts = [page.text(fixed(n, 0)) for n in number]
    room = max(width - wide - 8 - max(len(text) for text in counts), 1)
    lines: list[Line] = [(page.span(f"  {title}", "dim"),)]
    for n, text, label in zip(number, counts, labels, strict=True):
        bar = ("█" if unicode else "#") * max(round(room * n / max(number)), int(n > 0))
        side = Span(f"  {pad(label, wide, right=True)} {page.signs.axis}", "dim")
        lines.append((side, Span(bar), page.span(f" {text}", "dim")))
    left = len(values) - seen.size
    said = count(seen.size, "value") + (f"; {count(left, 'row')} without a number left out" if left else "")
    return page.render([*lines, (), (page.span(f"  {said}; a label is the lower end of its bar", "dim"),)])


def _binned(values: Array, name: str, unit: str) -> tuple[list[int], list[str], str]:
    """Return (numbers, labels, title) of bins between round values; one bin for one value."""
    low, high = float(values.min()), float(values.max())
    ticks, labels, title = axis(low, high, name, unit, most=12)
    if len(ticks) < 2 or high - low <= 1e-12 * max(abs(low), abs(high)):
        return [len(values)], [significant(low, 4)], f"{name}, {unit}" if unit else name
    step = ticks[1] - ticks[0]
    first = ticks[0] - step * (low < ticks[0])
    bins = np.clip(np.floor((values - first) / step + 1e-9), 0, None).astype(int)
    if low < ticks[0]:
        labels = ["", *labels]
    number = np.bincount(bins, minlength=len(labels)).tolist()
    return number, [*labels, *[""] * (len(number) - len(labels))], title
