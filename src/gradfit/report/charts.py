"""Charts as inline SVG: colours are CSS classes, so that dark mode and print follow."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradfit.report.axes import Axis
from gradfit.report.markup import Markup, join, number, tag

Array = NDArray[np.float64]
SPECKS_FROM, CELLS_FROM = 150, 2000  # rows from which points have no hover text, and are counted in hexagons
_OFF = 1 / 15  # px
_LINE = 14  # px from one line of a label to the next
_LETTER = 6.7  # px, a digit of the tick labels


@dataclass(frozen=True)
class Frame:
    """The size of a drawing and the margins round its plot area, in px; `cls` says on which screens it is shown."""

    cls: str
    width: float
    height: float
    left: float = 34
    right: float = 14
    top: float = 32
    bottom: float = 44

    @property
    def phone(self) -> bool:
        """Whether this is the drawing for a narrow screen."""
        return self.cls == "phone"


WIDE = Frame("wide", 736, 430, right=132)
PHONE = Frame("phone", 354, 350)
PANEL = Frame("", 318, 220, right=8, top=30, bottom=40)


def twice(draw: Callable[[Frame], "Chart"], wide: Frame = WIDE, phone: Frame = PHONE) -> Markup:
    """Return a chart drawn for wide and for narrow screens; the style sheet shows one of them."""
    return join([draw(wide).svg(), draw(phone).svg()])


class Chart:
    """One SVG. The methods add marks in data coordinates and return the chart."""

    def __init__(self, frame: Frame, x: Axis, y: Axis, message: str) -> None:
        most = max(2, int((frame.width - frame.left - frame.right) / 85))
        self.x = replace(x, most=min(x.most, most)) if x.at is None else x
        self.y, self.message = y, message
        widest = max((len(text) for text in y.labels), default=0) if y.name or y.unit or y.at != () else 0
        self.frame = replace(frame, left=max(frame.left, 13 + _LETTER * widest))
        self.parts: list[Markup] = []

    @property
    def right(self) -> float:
        """The right end of the plot area, px."""
        return self.frame.width - self.frame.right

    @property
    def bottom(self) -> float:
        """The lower end of the plot area, px."""
        return self.frame.height - self.frame.bottom

    def px(self, values: float | Array) -> Array:
        """Return px from the left."""
        return self.frame.left + self.x.place(values) * (self.right - self.frame.left)

    def py(self, values: float | Array) -> Array:
        """Return px from the top."""
        return self.bottom - self.y.place(values) * (self.bottom - self.frame.top)

    def add(self, *parts: Markup) -> "Chart":
        """Add marks that are SVG already."""
        self.parts += parts
        return self

    def write(self, x: float, y: float, words: str, cls: str = "", *, anchor: str = "start") -> "Chart":
        """Add a text at px coordinates."""
        return self.add(
            tag(
                "text", words, x=x, y=y, class_=cls or None, text_anchor=anchor if anchor != "start" else None
            )
        )

    def axes(self, *, upright_grid: bool = False) -> "Chart":
        """Add grid, ticks, axis line and the names at the ends of the axes."""
        left, right, bottom = self.frame.left, self.right, self.bottom
        for value, words in zip(self.y.ticks, self.y.labels, strict=True):
            at = float(self.py(value))
            self.add(tag("line", class_="grid", x1=left, x2=right, y1=at, y2=at))
            self.write(left - 7, at + 4, words, "tick", anchor="end")
        for value, words in zip(self.x.ticks, self.x.labels, strict=True):
            at = float(self.px(value))
            if upright_grid:
                self.add(tag("line", class_="grid", x1=at, x2=at, y1=self.frame.top, y2=bottom))
            self.add(tag("line", class_="axis", x1=at, x2=at, y1=bottom, y2=bottom + 4))
            self.write(at, bottom + 17, words, "tick", anchor="middle")
        if self.x.ticks:
            self.add(tag("line", class_="axis", x1=left, x2=right, y1=bottom, y2=bottom))
        if self.x.name:
            self.write(right, self.frame.height - 4, self.x.title, "lab", anchor="end")
        if self.y.name:
            self.write(4, 14, self.y.title, "lab")
        return self

    def points(self, xs: Array, ys: Array) -> tuple[Array, Array]:
        """Return px coordinates, values beyond the limits put onto them."""
        return self.px(self.x.clip(xs)), self.py(self.y.clip(ys))

    def path(self, xs: Array, ys: Array, cls: str) -> "Chart":
        """Add a line; it is broken where a value is not finite."""
        good = np.isfinite(xs) & np.isfinite(ys)
        px, py = self.points(np.where(good, xs, self.x.low), np.where(good, ys, self.y.low))
        runs = np.split(np.arange(len(xs)), np.flatnonzero(np.diff(good)) + 1)
        runs = [needed(px[run], py[run]) for run in runs if len(run) and good[run[0]]]
        d = "".join("M" + "L".join(map(_pair, *run)) for run in runs)
        return self.add(tag("path", class_=cls, d=d)) if d else self

    def band(self, xs: Array, low: Array, high: Array, cls: str) -> "Chart":
        """Add a filled band."""
        good = np.isfinite(xs) & np.isfinite(low) & np.isfinite(high)
        xs, low, high = xs[good], low[good], high[good]
        if len(xs) < 2:
            return self
        above, below = (needed(*self.points(xs, edge)) for edge in (high, low))
        px, py = (np.r_[a, b[::-1]] for a, b in zip(above, below, strict=True))
        return self.add(tag("path", class_=cls, d="M" + "L".join(map(_pair, px, py)) + "Z"))

    def shape(self, xs: Array, ys: Array, cls: str) -> "Chart":
        """Add a closed shape."""
        px, py = self.points(xs, ys)
        return self.add(tag("path", class_=cls, d="M" + "L".join(map(_pair, px, py)) + "Z"))

    def stems(self, xs: Array, foot: Array, head: Array, cls: str) -> "Chart":
        """Add thin upright lines from foot to head."""
        px, y0 = self.points(xs, foot)
        y1 = self.py(self.y.clip(head))
        d = "".join(f"M{number(x)} {number(a)}V{number(b)}" for x, a, b in zip(px, y0, y1, strict=True))
        return self.add(tag("path", class_=cls, d=d)) if d else self

    def across(self, y: float, cls: str) -> "Chart":
        """Add a level line over the whole width."""
        at = float(self.py(y))
        return self.add(tag("line", class_=cls, x1=self.frame.left, x2=self.right, y1=at, y2=at))

    def upright(self, x: float, cls: str) -> "Chart":
        """Add an upright line over the whole height."""
        at = float(self.px(x))
        return self.add(tag("line", class_=cls, x1=at, x2=at, y1=self.frame.top, y2=self.bottom))

    def slab(self, low: float, high: float, cls: str = "quiet") -> "Chart":
        """Add a level band over the whole width."""
        y0, y1 = (float(self.py(self.y.clip(np.array(v)))) for v in (high, low))
        x0 = self.frame.left
        return self.add(tag("rect", class_=cls, x=x0, y=y0, width=self.right - x0, height=y1 - y0))

    def dots(
        self, xs: Array, ys: Array, cls: str = "dot", *, radius: float = 4, titles: Sequence[str] = ()
    ) -> "Chart":
        """Add points; with titles each one answers the pointer within 10 px."""
        px, py = self.points(xs, ys)
        for i, (x, y) in enumerate(zip(px, py, strict=True)):
            dot = tag("circle", class_=cls, cx=float(x), cy=float(y), r=radius)
            if not titles:
                self.add(dot)
                continue
            hit = tag("circle", class_="hit", cx=float(x), cy=float(y), r=10)
            self.add(tag("g", tag("title", titles[i]), hit, dot, class_="pt"))
        return self

    def specks(self, xs: Array, ys: Array, cls: str = "specks") -> "Chart":
        """Add many small points as one path."""
        px, py = self.points(xs, ys)
        d = "".join(f"M{number(x)} {number(y)}h0" for x, y in zip(px, py, strict=True))
        return self.add(tag("path", class_=cls, d=d)) if d else self

    def hexagons(self, xs: Array, ys: Array, *, size: float = 5) -> "Chart":
        """Add counts in hexagons of that radius in px: the darker, the more rows."""
        px, py = self.points(xs, ys)
        centres, counts = _hexagons(px, py, size)
        level = np.minimum((5 * np.sqrt(counts / counts.max())).astype(int), 4)
        for k in range(5):
            d = "".join(_hexagon(x, y, size) for x, y in centres[level == k])
            if d:
                self.add(tag("path", class_=f"hex h{k + 1}", d=d))
        return self

    def svg(self) -> Markup:
        """Return the SVG; its label is the message."""
        width, height = number(self.frame.width), number(self.frame.height)
        head = f'<svg class="{f"chart {self.frame.cls}".strip()}" viewBox="0 0 {width} {height}"'
        size = f' width="{width}" height="{height}" role="img"'
        return Markup(f'{head}{size} aria-label="{join([self.message])}">{join(self.parts)}</svg>')


def _pair(x: float, y: float) -> str:
    return f"{number(x)} {number(y)}"


def needed(px: Array, py: Array) -> tuple[Array, Array]:
    """Return those points of a line that are more than a fifteenth of a pixel off the straight way past them.

    >>> [part.tolist() for part in needed(np.array([0.0, 1.0, 2.0, 3.0]), np.array([0.0, 1.0, 2.0, 0.0]))]
    [[0.0, 2.0, 3.0], [0.0, 2.0, 0.0]]
    """
    kept = [0]
    for i in range(1, len(px) - 1):
        first, skipped = kept[-1], slice(kept[-1] + 1, i + 1)
        dx, dy = px[i + 1] - px[first], py[i + 1] - py[first]
        off = np.abs(dx * (py[skipped] - py[first]) - dy * (px[skipped] - px[first]))
        if off.max() > _OFF * max(float(np.hypot(dx, dy)), 1e-9):
            kept.append(i)
    kept.append(len(px) - 1)
    return px[kept], py[kept]


def _hexagons(px: Array, py: Array, size: float) -> tuple[Array, Array]:
    """Return the centres (m, 2) and counts (m,) of the hexagons that hold points: the nearer of two lattices' cells."""
    step = np.array([3**0.5 * size, 3 * size])
    points = np.stack([px, py], 1) / step
    near = np.rint(points), np.rint(points - 0.5) + 0.5
    far = [(((points - cell) * step) ** 2).sum(1) for cell in near]
    halves = np.rint(2 * np.where((far[0] <= far[1])[:, None], *near)).astype(np.int64)
    first = halves.min(axis=0)
    wide, high = (int(size) for size in halves.max(axis=0) - first + 1)
    counts = np.bincount((halves - first) @ np.array([high, 1]), minlength=wide * high)
    filled = np.flatnonzero(counts)
    centres = (np.stack([filled // high, filled % high], 1) + first) / 2 * step
    return centres, counts[filled].astype(np.float64)


def _hexagon(x: float, y: float, size: float) -> str:
    half = np.sqrt(3) / 2 * size
    a, b, c = number(half), number(size / 2), number(size)
    return f"M{number(x)} {number(y - size)}l{a} {b}v{c}l-{a} {b}l-{a} -{b}v-{c}z"


def name_ends(chart: Chart, marks: Sequence[tuple[float, Sequence[str], str]]) -> Chart:
    """Write names right of the plot at heights in px, each of one or more lines, apart from each other.

    Parameters
    ----------
    marks : sequence of (height, lines, class)
        The ends of curves.
    """
    tallest = max((len(lines) for _, lines, _ in marks), default=1)
    apart, below = _LINE * tallest + 3, -np.inf
    for k, (height, lines, cls) in enumerate(sorted(marks, key=lambda mark: mark[0])):
        room = chart.bottom + 4 - apart * (len(marks) - 1 - k) - _LINE * (tallest - 1)
        below = max(min(height + 4, room), below + apart)
        for line, words in enumerate(lines):
            chart.write(chart.right + 8, below + _LINE * line, words, f"{cls} fine")
    return chart


def quiet_corner(
    chart: Chart, xs: Array, ys: Array, *, width: float, height: float = 16
) -> tuple[float, float]:
    """Return the px place (left, baseline) of a label of that size which is furthest from all points xs, ys in px."""
    lefts = np.linspace(chart.frame.left + 6, chart.right - width - 4, 9)
    tops = np.linspace(chart.frame.top + 4, chart.bottom - height - 6, 9)
    best, place = -1.0, (float(lefts[0]), float(tops[0]))
    for left in lefts:
        for top in tops:
            aside = np.maximum(np.maximum(left - xs, xs - left - width), 0)
            above = np.maximum(np.maximum(top - ys, ys - top - height), 0)
            free = float(np.hypot(aside, above).min()) if len(xs) else 0.0
            if free > best:
                best, place = free, (float(left), float(top))
    return place[0], place[1] + height - 4
