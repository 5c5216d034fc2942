"""The fits of a large input in portions: what is read at a time, as a source that the fits of one call are made from."""

import mmap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars
from gradfit.errors import DataError
from gradfit.formula import parse, parse_expression
from gradfit.many.arguments import Spread, source_of
from gradfit.many.feeding import (
    PORTION,
    ROW,
    Buckets,
    Feed,
    Opened,
    Runs,
    begins,
    clustered,
    dealt,
    numbers_of,
    surveyed,
)
from gradfit.many.groups import Groups
from gradfit.many.joining import FIRST
from gradfit.many.rows import BLOCK, Array, Block, Source, cleaned, even_places
from gradfit.many.stack import Stack
from gradfit.model import BoundModel
from gradfit.prepare import attached
from gradfit.table import Table, read

if TYPE_CHECKING:
    from polars import DataFrame

_FROM, _EACH = 8, 16  # portions that a sample is from, and fits of each


@dataclass(frozen=True, eq=False)
class Portion:
    """Some of the fits.

    Attributes
    ----------
    source : Source or None
        Their data, None where there are none.
    keys : DataFrame
        What tells them apart, one row a fit.
    """

    source: Source | None
    keys: "DataFrame"


class Portions(Protocol):
    """The fits of an input, some at a time."""

    @property
    def rows(self) -> Sequence[int]:
        """Points of each portion, about."""
        ...

    def sample(self) -> Source:
        """Return some of the fits, from the whole of the input; all where there is but one portion."""
        ...

    def narrowed(self, model: BoundModel, sample: Source) -> "Portions":
        """Return the portions with what this model needs, understood as in the sample."""
        ...

    def portion(self, number: int) -> Portion:
        """Return the fits of one portion."""
        ...


# ---------------------------------------------------------------------------- tables


@dataclass(frozen=True, eq=False)
class Tables:
    """Groups of the rows of a table.

    Attributes
    ----------
    model : object
        As it was given.
    feed : Feed
        Where the rows come from.
    by : tuple of str
        The key columns.
    names : tuple of str
        The columns that are numbers of the fits.
    about : str
        What it is, for sentences.
    spread : Spread
        What is known of precision.
    where : str or None
        Which rows are used.
    kept : tuple of str
        Columns that are needed whatever the model's inputs are.
    levels : mapping
        Of the columns that the formula compares with pieces of text, all pieces.
    origins : mapping
        From when dates are counted.
    """

    model: object
    feed: Feed
    by: tuple[str, ...]
    names: tuple[str, ...]
    about: str
    spread: Spread
    where: str | None
    kept: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    origins: Mapping[str, str]

    @property
    def rows(self) -> Sequence[int]:
        """Rows of each portion."""
        return self.feed.rows

    def sample(self) -> Source:
        """Return some of the groups.

        Raises
        ------
        DataError
            If no row is used.
        """
        total = len(self.rows)
        frames: list[DataFrame] = []
        first = even_places(total, _FROM)
        for number in (*first, *np.setdiff1d(np.arange(total), first)):
            frame = self._chosen(self.feed.portion(int(number)))
            if frame.height:
                frames.append(frame if total == 1 else _few(frame, self.by))
            if len(frames) == _FROM:
                break
        if not frames:
            what = f"satisfies {self.where!r}" if self.where else f"has a value in {' and '.join(self.by)}"
            raise DataError(
                f"No row of {self.about} {what}", remedy="Loosen the filter" if self.where else ""
            )
        frame = polars.concat(frames)
        table = replace(read(frame.drop(ROW, strict=False)), source=self.about)
        for name, levels in self.levels.items():
            table = table.coded(name, levels=levels)
        return source_of(
            self.model, table, by=self.by, axis=None, response=None, spread=self.spread, where=None
        )

    def _chosen(self, frame: "DataFrame") -> "DataFrame":
        if self.where is None or not frame.height:
            return frame
        return frame.filter(self._mask(frame))

    def _mask(self, frame: "DataFrame") -> NDArray[np.bool_]:
        expression = parse_expression(self.where or "")
        names = [name for name in expression.names if name in frame.columns]
        columns = numbers_of(frame, names, dict(self.origins), self.about).columns
        with np.errstate(all="ignore"):
            mask = np.asarray(expression.evaluate(columns))
        if mask.dtype != bool:
            raise DataError(f"where={self.where!r} is not a condition", remedy="Compare, as in dose > 0")
        return np.broadcast_to(mask, (frame.height,))

    def narrowed(self, model: BoundModel, sample: Source) -> "Tables":
        """Return the portions with the columns that this model needs."""
        observed = (model.response,) if model.left is None else model.left.names
        used = {*model.inputs, *observed, *self.levels, *self.kept}
        names = tuple(name for name in self.names if name in used)
        return replace(self, names=names, origins=sample.sample.origins)

    def portion(self, number: int) -> Portion:
        """Return the groups of one portion."""
        frame = self._chosen(self.feed.portion(number))
        marks = [ROW] if ROW in frame.columns else []
        if not frame.height:
            return Portion(None, frame.select([*self.by, *marks]).rename({ROW: FIRST}, strict=False))
        table = numbers_of(frame, self.names, dict(self.origins), self.about)
        for name, levels in self.levels.items():
            table = table.coded(name, levels=levels)
        table, _ = attached(table, self.spread.sigma, self.spread.weights)
        kept = next((name for name in table.columns if name.startswith("\0")), None)
        first = begins(frame, self.by)
        source = Groups(table, (), np.arange(table.n), np.append(first, table.n), kept, self.spread.absolute)
        return Portion(source, frame[first].select([*self.by, *marks]).rename({ROW: FIRST}, strict=False))


def _few(frame: "DataFrame", by: Sequence[str]) -> "DataFrame":
    """Return the rows of a few of the groups."""
    first = begins(frame, by)
    mean = frame.height / len(first)
    pick = even_places(len(first), int(np.clip(PORTION / _FROM / mean, 1, _EACH)))
    ends = [*first.tolist(), frame.height]
    return frame[np.concatenate([np.arange(ends[i], ends[i + 1]) for i in pick.tolist()])]


def names_in(text: str, columns: Sequence[str]) -> list[str]:
    """Return the columns that a name of one, or an expression, names."""
    return [text] if text in columns else [n for n in parse_expression(text).names if n in columns]


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are asked for.

    Attributes
    ----------
    model : object
        A formula, or what takes any column.
    by : tuple of str
        The key columns.
    others : tuple of str
        Names of columns, expressions and conditions.
    response : str or None
        The observed column.
    """

    model: object
    by: tuple[str, ...]
    others: tuple[str, ...]
    response: str | None

    @property
    def formula(self) -> bool:
        """Whether the model names its columns."""
        return isinstance(self.model, str) and not self.model.strip().isidentifier()

    def of(self, opened: Opened) -> list[str]:
        """Return those that numbers are taken from.

        Raises
        ------
        DataError
            If one does not exist.
        """
        columns = opened.names
        opened.require([*self.by, *([] if self.response is None else [self.response])])
        wanted: set[str] = set()
        for text in self.others:
            named = names_in(text, columns) or list(parse_expression(text).names)
            opened.require([n for n in named if n not in ("pi", "e")])
            wanted.update(named)
        if not self.formula:
            return [name for name in columns if name not in self.by or name in wanted]
        formula = parse(str(self.model))
        if formula.left is not None:
            opened.require([n for n in formula.left.names if n not in ("pi", "e")])
            wanted.update(formula.left.names)
        if not set(formula.right.names) & set(
            columns
        ):  # a constant, or a slip whose answer names all columns
            return columns
        wanted.update(formula.right.names)
        wanted.update([] if self.response is None else [self.response])
        return [name for name in columns if name in wanted]

    def always(self, opened: Opened) -> tuple[str, ...]:
        """Return those that are needed whatever the model's inputs are."""
        return tuple(name for text in self.others for name in names_in(text, opened.names))

    def levels(self, opened: Opened) -> dict[str, tuple[str, ...]]:
        """Return all pieces of text in the columns that the formula compares with some."""
        if not self.formula:
            return {}
        out: dict[str, tuple[str, ...]] = {}
        for name in parse(str(self.model)).right.compared:
            if name in opened.names:
                column = opened.collected(opened.frame.select(polars.col(name).unique()))[name].drop_nulls()
                words = column.cast(polars.String).to_list()
                out[name] = tuple(sorted(words))
        return out


def cut(
    opened: Opened, by: tuple[str, ...], names: Sequence[str], folder: Path
) -> tuple[Feed, list[int], int | None]:
    """Return where portions come from, how they are known again, and how many groups there are where that is known.

    Rows of a file in any order are dealt to files in the folder.
    """
    some = _some(opened, by, names)
    survey = surveyed(some, by)
    if survey is None and opened.held:
        frame = clustered(some.frame.collect(), by)
        some = replace(some, frame=frame.lazy())
        survey = surveyed(some, by)
    if survey is not None:
        return Runs(some, by, survey.cuts), list(survey.cuts), survey.groups
    buckets = dealt(some, by, folder)
    return buckets, list(buckets.rows), None


def cut_again(
    opened: Opened,
    by: tuple[str, ...],
    names: Sequence[str],
    folder: Path,
    *,
    cuts: Sequence[int],
    dealt_before: bool,
) -> Feed:
    """Return where portions come from, for a run that goes on."""
    if dealt_before:
        return Buckets(tuple(folder / f"{i:06d}.rows" for i in range(len(cuts))), by, list(cuts))
    some = _some(opened, by, names)
    if opened.held:
        some = replace(some, frame=clustered(some.frame.collect(), by).lazy())
    return Runs(some, by, tuple(cuts))


def _some(opened: Opened, by: Sequence[str], names: Sequence[str]) -> Opened:
    """Return the table with the columns that are needed; keys that were read as float64 are whole numbers again."""
    frame = opened.frame.select(list(dict.fromkeys([*by, *names])))
    if not opened.held:
        return replace(opened, frame=frame)
    held = frame.collect()
    for name in by:
        column = held[name]
        if column.dtype == polars.Float64:
            whole = column.drop_nulls()
            if ((whole == whole.round()) & (whole.abs() < 2.0**53)).all():
                held = held.with_columns(column.cast(polars.Int64))
    known = held.filter(polars.all_horizontal(polars.col(list(by)).is_not_null()))
    return replace(opened, frame=known.lazy())


# ---------------------------------------------------------------------------- arrays


@dataclass(frozen=True, eq=False)
class Stacks:
    """Fits that lie side by side in arrays."""

    stack: Stack

    @property
    def size(self) -> int:
        """Fits of a portion."""
        return max(1, PORTION // max(self.stack.points, 1))

    @property
    def rows(self) -> Sequence[int]:
        """Points of each portion."""
        first = np.arange(0, self.stack.count, self.size)
        return (np.diff(np.append(first, self.stack.count)) * self.stack.points).tolist()

    def sample(self) -> Source:
        """Return some of the fits."""
        return Side(
            self.stack, even_places(self.stack.count, self.size if len(self.rows) == 1 else _FROM * _EACH)
        )

    def narrowed(self, model: BoundModel, sample: Source) -> "Stacks":
        """Return the same: arrays are not read before they are needed."""
        del model, sample
        return self

    def portion(self, number: int) -> Portion:
        """Return the fits of one portion."""
        fits = np.arange(number * self.size, min((number + 1) * self.size, self.stack.count))
        shape = self.stack.shape
        names = ("fit",) if len(shape) == 1 else ("row", "column", *(f"axis_{i}" for i in range(2, 9)))
        places = zip(names, np.unravel_index(fits, shape), strict=False)
        return Portion(Side(self.stack, fits), polars.DataFrame(dict(places)))

    def release(self) -> None:
        """Let the pages of memory maps go; what was read of them stays in the system's cache."""
        for array in self.stack.arrays.values():
            held = array.base
            if isinstance(held, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
                held.madvise(mmap.MADV_DONTNEED)


@dataclass(frozen=True, eq=False)
class Side:
    """Some of the fits of a stack.

    Attributes
    ----------
    stack : Stack
        All of them.
    fits : (m,) int
        Which ones, ascending; for `blocks` without a gap.
    """

    stack: Stack
    fits: NDArray[np.int64]

    @property
    def shape(self) -> tuple[int, ...]:
        """How many there are."""
        return (len(self.fits),)

    @property
    def total(self) -> int:
        """Points of all of them."""
        return len(self.fits) * self.stack.points

    @property
    def scattered(self) -> bool:
        """False: they are read as they stand."""
        return False

    @property
    def keys(self) -> Mapping[str, NDArray[Any]]:
        """Nothing: these fits have numbers, not names."""
        return {}

    @property
    def about(self) -> str:
        """What it is, for sentences."""
        return self.stack.about

    @property
    def sample(self) -> Table:
        """Some of the points."""
        return self.stack.sample

    def of_fits(self, name: str) -> Array | None:
        """Return one value a fit of an array."""
        held = self.stack.of_fits(name)
        return None if held is None else held[self.fits]

    def blocks(self, model: BoundModel, *, drop: bool) -> Iterator[Block]:
        """Return the fits in blocks."""
        begin, m = int(self.fits[0]), len(self.fits)
        size = max(1, BLOCK // max(self.stack.points, 1))
        for first in range(0, m, size):
            places = np.arange(first, min(first + size, m))
            raw = self.stack.raw(model, slice(begin + first, begin + first + len(places)), len(places))
            yield cleaned(places, raw, absolute=self.stack.absolute, drop=drop, about=self.about)

    def one(self, fit: int, model: BoundModel) -> Block:
        """Return one fit alone."""
        return self.stack.one(int(self.fits[fit]), model)

    def table(self, fit: int, model: BoundModel) -> tuple[Table, Array | None]:
        """Return the points of one fit that were used, and their sigma or weights."""
        return self.stack.table(int(self.fits[fit]), model)
