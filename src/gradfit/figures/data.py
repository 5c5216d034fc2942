"""Figures of data before any fit: two columns, one column, every pair of columns."""

# matplotlib leaves the keywords of its methods untyped
# pyright: reportUnknownMemberType=false

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError
from gradfit.figures.sheet import (
    FIT,
    INK,
    LARGEST,
    PAPER,
    density,
    dress_x,
    dress_y,
    fitted,
    heading,
    left_margin,
    new_figure,
    own_fonts,
    room_round,
    style,
    text_width,
    wrapped,
)
from gradfit.figures.text import drawn, symbol
from gradfit.notation import count, fixed, reach, significant, with_unit
from gradfit.view import MANY

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

    from gradfit.table import Table

Array = NDArray[np.float64]

MOST_COLUMNS = 6  # in a matrix of pairs
MOST_LEVELS = 12  # of a column of text
MOST_BINS = 60  # of a histogram
RANKED = 20_000  # rows that a rank correlation looks at


@dataclass(frozen=True, slots=True, eq=False)
class Column:
    """One column as a figure shows it.

    Attributes
    ----------
    name, unit : str
        What stands on the axis.
    values : (n,)
        Numbers; NaN where a cell has none, or is too large to be drawn. For text the place of its level.
    levels : tuple of str
        Of text, the most frequent first; empty for numbers.
    hidden : int
        Levels that are not shown.
    """

    name: str
    unit: str
    values: Array
    levels: tuple[str, ...] = ()
    hidden: int = 0

    @property
    def words(self) -> str:
        """What this column is, for a note."""
        return (
            f"; the {MOST_LEVELS} most frequent of {self.hidden + MOST_LEVELS} levels" if self.hidden else ""
        )


def data_figure(table: "Table", x: str | None = None, y: str | None = None) -> "Figure":
    """Return a figure of a table: y against x; of x alone its distribution; of none every pair of numeric columns.

    Above 2,000 points hexagons take the place of single ones. Columns of text are shown by their levels.

    Parameters
    ----------
    table : Table
        What `gradfit.read` returned.
    x, y : str, optional
        Columns.

    Raises
    ------
    DataError
        If there is no such column, or nothing in it that can be drawn.
    """
    table.require([name for name in (x, y) if name is not None])
    first, second = (x, y) if x is not None else (y, None)
    with style():
        if first is not None and second is not None:
            figure = _against(table, _column(table, first), _column(table, second))
        elif first is not None:
            figure = _alone(table, _column(table, first))
        else:
            figure = _every_pair(table)
        own_fonts(figure)
    return figure


def _column(table: "Table", name: str) -> Column:
    """Return a column of the table, text by its levels.

    Raises
    ------
    DataError
        If no cell of it can be drawn.
    """
    held = table.columns[name]
    unit = table.origins.get(name) or table.units.get(name, "")
    if held.dtype == object:
        column = _levels(name, [None if cell is None else str(cell) for cell in held])
    else:
        values = held.astype(np.float64)
        column = Column(name, unit, np.where(np.abs(values) <= LARGEST, values, np.nan))
    if not np.isfinite(column.values).any():
        raise DataError(
            f"{name} in {table.source} holds nothing that can be drawn.", remedy="Choose another column."
        )
    return column


def _levels(name: str, cells: Sequence[str | None]) -> Column:
    kinds, numbers = np.unique([cell for cell in cells if cell is not None], return_counts=True)
    order = np.argsort(-numbers, kind="stable")[:MOST_LEVELS]
    shown = tuple(str(kind) for kind in kinds[order])
    place = {level: float(i) for i, level in enumerate(shown)}
    values = np.array([place.get(cell, np.nan) if cell is not None else np.nan for cell in cells])
    return Column(name, "", values, shown, len(kinds) - len(shown))


# ---------------------------------------------------------------------------- two columns


def _against(table: "Table", x: Column, y: Column) -> "Figure":
    """Return y against x.

    Raises
    ------
    DataError
        If no row has both.
    """
    if y.levels and not x.levels:
        return _against(table, y, x)  # levels stand side by side along the horizontal axis
    seen = np.isfinite(x.values) & np.isfinite(y.values)
    if not seen.any():
        raise DataError(
            f"No row of {table.source} has a number in {x.name} and in {y.name}.", remedy="Choose others."
        )
    across, up = x.values[seen], y.values[seen]
    figure = new_figure(3.9)
    note = f"{table.source}: {_rows(len(seen), len(across), x, y)}{x.words}{y.words}"
    headline = _pair(x, y, across, up)
    top = heading(figure, wrapped(figure, headline, headline=True), wrapped(figure, note, most=2))
    axes = _one_panel(figure, top)
    axes.set_xlim(*(room_round(across) if not x.levels else (-0.6, len(x.levels) - 0.4)))
    axes.set_ylim(*(room_round(up) if not y.levels else (-0.6, len(y.levels) - 0.4)))
    if x.levels and y.levels:
        _counts(axes, across, up)
    elif x.levels:
        _strips(axes, across, up)
    elif len(across) > MANY:
        density(axes, across, up)
    else:
        _points(axes, across, up)
    _axes(axes, x, y)
    figure.subplots_adjust(left=left_margin(figure, [axes]))
    return figure


def _one_panel(figure: "Figure", top: float) -> "Axes":
    height = figure.get_figheight()
    return figure.subplots(
        gridspec_kw={"top": 1 - (top + 0.3) / height, "bottom": 0.5 / height, "right": 0.97}
    )


def _axes(axes: "Axes", x: Column, y: Column) -> None:
    """Give both axes ticks and names."""
    if x.levels:
        axes.set_xticks(range(len(x.levels)), labels=[drawn(_short(level)) for level in x.levels])
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel(symbol(x.name), loc="right")
        _turn_crowded(axes)
    else:
        dress_x(axes, x.name, x.unit)
    dress_y(axes, y.name, y.unit)
    if y.levels:
        axes.set_yticks(range(len(y.levels)), labels=[drawn(_short(level)) for level in y.levels])


def _turn_crowded(axes: "Axes") -> None:
    """Put every second label a line lower where they would touch."""
    labels = axes.get_xticklabels()
    shape: Any = axes.figure
    room = shape.get_figwidth() * 0.85 / max(len(labels), 1)
    widest = max(text_width(shape, label.get_text(), size=8.5) for label in labels)
    if widest > room - 0.08:
        axes.set_xticks(
            axes.get_xticks(),
            labels=[("\n" if i % 2 else "") + label.get_text() for i, label in enumerate(labels)],
        )


def _short(level: str, most: int = 14) -> str:
    level = level.replace("\n", " ").strip() or "(empty)"
    return level if len(level) <= most else f"{level[: most - 1]}…"


def _points(axes: "Axes", x: Array, y: Array, size: float = 5.0) -> None:
    size = size if len(x) <= 100 else max(2.0, size - 1.5 * float(np.log10(len(x) / 100)))
    edge = 0.8 if len(x) <= 100 else 0.3
    axes.plot(x, y, "o", color=INK, ms=size, mec=PAPER, mew=edge, ls="none", zorder=5)


def _strips(axes: "Axes", level: Array, y: Array) -> None:
    """Draw each level's points side by side in a strip, with its median; quantiles where there are many."""
    for place in np.unique(level):
        values = np.sort(y[level == place])
        if len(values) <= MANY:
            spread = (np.arange(len(values)) * 0.618034 % 1 - 0.5) * min(0.5, 0.05 * len(values))
            _points(axes, place + spread, values, 4.0)
        else:
            low, first, third, high = np.quantile(values, [0.05, 0.25, 0.75, 0.95])
            axes.vlines(place, low, high, color=INK, lw=1)
            axes.vlines(place, first, third, color=INK, lw=7, alpha=0.6)
        axes.hlines(float(np.median(values)), place - 0.34, place + 0.34, color=FIT, lw=1.8, zorder=6)


def _counts(axes: "Axes", x: Array, y: Array) -> None:
    """Write how many rows have each pair of levels, in circles of that size."""
    places, numbers = np.unique(np.column_stack([x, y]), axis=0, return_counts=True)
    most = float(numbers.max())
    for (across, up), number in zip(places.tolist(), numbers.tolist(), strict=True):
        axes.plot([across], [up], "o", color=INK, alpha=0.12, ms=6 + 22 * (number / most) ** 0.5, mew=0)
        axes.text(across, up, fixed(number, 0), ha="center", va="center", fontsize=8.5)


def _rows(read: int, used: int, *columns: Column) -> str:
    """Return how many rows are drawn, and why not all."""
    if read == used:
        return count(read, "row")
    names = " or ".join(dict.fromkeys(column.name for column in columns))
    rest = "that can be drawn" if any(column.levels for column in columns) else "number"
    return f"{fixed(used, 0)} of {count(read, 'row')}; the others have no {'value ' if rest != 'number' else ''}{rest} in {names}"


def rank_correlation(x: Array, y: Array) -> float:
    """Return the rank correlation (Spearman) of x and y (n,), of a part of the rows where there are many; NaN without one."""
    stride = max(1, len(x) // RANKED)
    ranks = [_ranks(values[::stride]) for values in (x, y)]
    a, b = (rank - rank.mean() for rank in ranks)
    size = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / size if size > 0 else float("nan")


def _ranks(values: Array) -> Array:
    """Return ranks (n,), those of equal values their mean."""
    _, place, number = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(number)
    return (last - (number - 1) / 2)[place]


def _pair(x: Column, y: Column, across: Array, up: Array) -> str:
    """Return what a plot of y against x shows."""
    if y.levels:
        return f"{y.name} against {x.name}, in {count(len(across), 'row')}"
    if x.levels:
        return _by_level(x, y, across, up)
    rank = rank_correlation(across, up)
    if not np.isfinite(rank) or len(across) < 3:
        return f"{y.name} against {x.name}"
    shown = fixed(rank, 2)
    if 0.3 <= abs(rank) < _clear(len(across)):
        return f"{y.name} against {x.name}: rank correlation {shown} in {count(len(across), 'row')}"
    how = "rises with" if rank > 0 else "falls with"
    how = how if abs(rank) >= 0.3 else "neither rises nor falls steadily with"
    return f"{y.name} {how} {x.name} (rank correlation {shown})"


def _by_level(x: Column, y: Column, across: Array, up: Array) -> str:
    """Return for which level y is highest and lowest."""
    medians = {int(place): float(np.median(up[across == place])) for place in np.unique(across)}
    top, bottom = max(medians, key=lambda k: medians[k]), min(medians, key=lambda k: medians[k])
    if top == bottom:
        return f"{y.name} of {x.levels[top]}"
    return f"The median of {y.name} is highest for {_short(x.levels[top])}, lowest for {_short(x.levels[bottom])}"


def _clear(rows: int) -> float:
    """Return the rank correlation that chance alone hardly reaches: two and a half standard errors."""
    return max(0.3, 2.5 / rows**0.5)


# ---------------------------------------------------------------------------- one column


def _alone(table: "Table", x: Column) -> "Figure":
    """Return the distribution of one column."""
    values = x.values[np.isfinite(x.values)]
    figure = new_figure(3.4)
    note = f"{table.source}: {_rows(len(x.values), len(values), x)}{x.words}"
    top = heading(
        figure, wrapped(figure, _distribution(x, values), headline=True), wrapped(figure, note, most=2)
    )
    axes = _one_panel(figure, top)
    if x.levels:
        number = np.bincount(values.astype(int), minlength=len(x.levels))
        axes.bar(range(len(x.levels)), number, width=0.7, color=INK, alpha=0.72, lw=0)
        axes.set_xlim(-0.6, len(x.levels) - 0.4)
    else:
        axes.set_xlim(*room_round(values))
        number, edges = _bins(values)
        _bars(axes, number, edges)
        axes.set_ylim(0, 1.06 * float(number.max()))
    _axes(axes, x, Column("rows", "", values))
    axes.set_yticks([tick for tick in axes.get_yticks() if tick == round(tick)])
    figure.subplots_adjust(left=left_margin(figure, [axes]))
    return figure


def _distribution(x: Column, values: Array) -> str:
    """Return what the distribution of one column shows."""
    if x.levels:
        number = np.bincount(values.astype(int))
        share = with_unit(significant(100 * float(number.max()) / len(values)), "%")
        return f"{_short(x.levels[int(number.argmax())])} is the most frequent {x.name}, {share} of the rows"
    low, first, third, high = np.quantile(values, [0, 0.25, 0.75, 1])
    if low == high:
        return f"{x.name} is {with_unit(significant(float(low), 4), x.unit)} in every row"
    ends, middle = (with_unit(reach(float(a), float(b)), x.unit) for a, b in ((low, high), (first, third)))
    return f"{x.name} runs from {ends}; the middle half lies from {middle}"


def _bins(values: Array) -> tuple[Array, Array]:
    """Return how many values lie between which edges; bins as wide as Freedman and Diaconis advise, 60 at most."""
    low, high = float(values.min()), float(values.max())
    first, third = np.quantile(values, [0.25, 0.75])
    width = 2 * float(third - first) / len(values) ** (1 / 3)
    bins = ceil((high - low) / width) if width > (high - low) / MOST_BINS else MOST_BINS
    bins = (
        max(bins, min(5, len(values)))
        if len(values) > 2 and high - low > 1e-12 * max(abs(low), abs(high))
        else 1
    )
    number, edges = np.histogram(values, bins=bins)
    return number.astype(np.float64), edges


def _bars(axes: "Axes", number: Array, edges: Array, floor: float = 0.0) -> None:
    axes.bar(
        edges[:-1], number, width=np.diff(edges), bottom=floor, align="edge", color=INK, alpha=0.72, ec=PAPER,
        lw=0.6 if len(number) <= 24 else 0.2,
    )  # fmt: skip


# ---------------------------------------------------------------------------- every pair


def _every_pair(table: "Table") -> "Figure":
    """Return every pair of numeric columns, with the distribution of each on the diagonal.

    Raises
    ------
    DataError
        If the table has no column that can be drawn.
    """
    usable = [
        name for name, held in table.columns.items() if held.dtype != object and np.isfinite(held).any()
    ]
    if len(usable) < 2:
        rest = usable or [
            name for name, held in table.columns.items() if any(cell is not None for cell in held)
        ]
        if not rest:
            raise DataError(f"{table.source} holds nothing that can be drawn.", remedy="Choose another file.")
        return _alone(table, _column(table, rest[0]))
    columns = [_column(table, name) for name in usable[:MOST_COLUMNS]]
    k = len(columns)
    figure = new_figure(7.1 * (0.72 if k == 2 else 0.92))
    note = f"{table.source}: {count(table.n, 'row')}, {_shown(usable, len(table.columns))}"
    top = heading(figure, wrapped(figure, _strongest(columns), headline=True), wrapped(figure, note, most=2))
    height = figure.get_figheight()
    grid: Any = figure.subplots(
        k, k, squeeze=False,
        gridspec_kw={"top": 1 - (top + 0.12) / height, "bottom": 0.42 / height, "right": 0.985, "hspace": 0.12, "wspace": 0.1},
    )  # fmt: skip
    for i, up in enumerate(columns):
        for j, across in enumerate(columns):
            _cell(grid[i][j], across, up, outer=(j == 0, i == k - 1), room=5.9 / k)
    figure.subplots_adjust(left=left_margin(figure, [row[0] for row in grid]) + 0.01)
    return figure


def _shown(usable: Sequence[str], columns: int) -> str:
    """Return which columns are drawn, and which are not."""
    text = columns - len(usable)
    left = f"; {count(text, 'column')} of text or without numbers left out" if text else ""
    if len(usable) > MOST_COLUMNS:
        return f"the first {MOST_COLUMNS} of {len(usable)} numeric columns; name two to see others{left}"
    return f"{count(len(usable), 'numeric column')}{left}"


def _strongest(columns: Sequence[Column]) -> str:
    """Return which pair goes together most."""
    best, who, enough = 0.0, (columns[0], columns[1]), 1.0
    for i, a in enumerate(columns):
        for b in columns[i + 1 :]:
            seen = np.isfinite(a.values) & np.isfinite(b.values)
            rank = rank_correlation(a.values[seen], b.values[seen]) if seen.sum() > 2 else 0.0
            if abs(rank) > abs(best):
                best, who, enough = rank, (a, b), _clear(int(seen.sum()))
    if abs(best) < enough:
        limit = fixed(abs(best) + 0.005, 2)
        return f"No two columns clearly rise or fall together (rank correlations within ±{limit})"
    return f"{who[0].name} and {who[1].name} go together most (rank correlation {fixed(best, 2)})"


def _labels(axes: "Axes") -> list[tuple[float, str]]:
    """Return the ticks of the horizontal axis with their labels."""
    return [
        (float(tick), label.get_text())
        for tick, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True)
    ]


def _cell(axes: "Axes", x: Column, y: Column, *, outer: tuple[bool, bool], room: float) -> None:
    """Draw one pair; ticks only at the left edge and at the foot, names on the diagonal and at the foot.

    The bars of the diagonal stand on the scale of their row, whose ticks hold for its other cells.
    """
    seen = np.isfinite(x.values) & np.isfinite(y.values)
    figure: Any = axes.figure
    axes.set_xlim(*room_round(x.values))
    low, high = room_round(y.values)
    axes.set_ylim(low, high)
    if x is y:
        number, edges = _bins(x.values[seen])
        _bars(axes, 0.76 * (high - low) * number / number.max(), edges, low)
        named = fitted(figure, x.name, room, size=9, bold=True)
        axes.text(0.03, 0.97, named, transform=axes.transAxes, va="top", weight="bold", fontsize=9)
    elif seen.sum() > MANY:
        density(axes, x.values[seen], y.values[seen], across=24)
    elif seen.any():
        _points(axes, x.values[seen], y.values[seen], 3.5)
    dress_y(axes, "", y.unit, most=3)
    dress_x(axes, x.name if outer[1] else "", x.unit, most=3 if room > 1.2 else 2)
    left, right = axes.get_xlim()
    inner = [label if tick < right - 0.1 * (right - left) else "" for tick, label in _labels(axes)]
    axes.set_xticks(axes.get_xticks(), labels=inner)
    axes.tick_params(labelbottom=outer[1], labelleft=outer[0], labelsize=7.5)
    axes.set_xlabel(axes.get_xlabel(), loc="right", fontsize=8)
    if text_width(figure, axes.get_xlabel(), size=8) > room:
        axes.set_xlabel(fitted(figure, x.name, room, size=8), loc="right", fontsize=8)
