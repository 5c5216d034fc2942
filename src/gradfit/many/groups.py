"""Fits that are groups of the rows of a table: one key column or several, rows in any order, groups of any length."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars
from gradfit.errors import DataError
from gradfit.many.memory import foresee
from gradfit.many.rows import BLOCK, Array, Block, Indices, Raw, cleaned, even_places
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.table import Table

SAMPLE = 2_000  # rows looked at to learn what is what
SORTING = 32.0  # bytes a row, at most, while rows out of order are put into groups


@dataclass(frozen=True, eq=False)
class Groups:
    """A table and which of its rows belong together, in the order in which the groups first appear.

    Attributes
    ----------
    whole : Table
        All rows; sigma or weights may be among the columns.
    by : tuple of str
        The key columns.
    order : (r,) int, optional
        Rows, group after group; rows without a key are left out. None: all rows, as they stand.
    first : (m + 1,) int
        Where in `order` each group begins, and where the last one ends.
    spread : str, optional
        The column of standard deviations or weights.
    absolute : bool
        Whether they are standard deviations.
    """

    whole: Table
    by: tuple[str, ...]
    order: Indices | None
    first: Indices
    spread: str | None = None
    absolute: bool = False

    @property
    def about(self) -> str:
        """What it is, for sentences."""
        return self.whole.source

    @property
    def shape(self) -> tuple[int, ...]:
        """How many groups there are."""
        return (len(self.first) - 1,)

    @cached_property
    def lengths(self) -> Indices:
        """Rows of each group (m,)."""
        return np.diff(self.first)

    @property
    def total(self) -> int:
        """Points of all groups."""
        return int(self.first[-1])

    @property
    def scattered(self) -> bool:
        """Whether the rows of a group stand apart in the table."""
        return not isinstance(self._standing, slice)

    @cached_property
    def _standing(self) -> slice | Indices:
        """The rows in the order of the groups: a slice where they stand so in the table, and nothing need be gathered."""
        if self.order is None:
            return slice(0, self.total)
        begin, end = int(self.order[0]), int(self.order[-1]) + 1
        together = end - begin == len(self.order) and bool((self.order[1:] > self.order[:-1]).all())
        return slice(begin, end) if together else self.order

    def _rows(self, places: slice | Indices) -> Indices:
        """Return the rows at places among all rows of the groups."""
        if self.order is not None:
            return self.order[places]
        return np.arange(places.start, places.stop) if isinstance(places, slice) else places

    @property
    def keys(self) -> Mapping[str, NDArray[Any]]:
        """The key columns, one value a group."""
        rows = self._rows(self.first[:-1])
        return {name: self.whole.columns[name][rows] for name in self.by}

    @property
    def sample(self) -> Table:
        """Some of the rows."""
        mask = np.zeros(self.whole.n, dtype=bool)
        mask[self._rows(even_places(self.total, SAMPLE))] = True
        return self.whole.keep(mask)

    def of_fits(self, name: str) -> Array | None:
        """Return a column's value in the first row of each group (m,), None where there is no such column."""
        if name not in self.whole.columns:
            return None
        return numbers(self.whole, name)[self._rows(self.first[:-1])]

    def blocks(self, model: BoundModel, *, drop: bool) -> Iterator[Block]:
        """Return all groups in blocks of nearly equal length.

        A group's rows are padded to a length that depends on its own alone, so that its sums are made in the same order
        whatever stands beside it.

        Raises
        ------
        DataError
            If a value is missing and `drop` is false.
        """
        held = self._numbers(model, self._standing)
        padded = padded_length(self.lengths)
        for length in np.unique(padded):
            alike = np.flatnonzero(padded == length)
            size = max(1, BLOCK // int(length))
            for i in range(0, len(alike), size):
                raw = self._raw(held, alike[i : i + size], int(length))
                yield cleaned(alike[i : i + size], raw, absolute=self.absolute, drop=drop, about=self.about)

    def one(self, fit: int, model: BoundModel) -> Block:
        """Return one group alone."""
        fits = np.array([fit])
        rows = self._rows(slice(self.first[fit], self.first[fit + 1]))
        alone = replace(self, order=None, first=np.array([0, len(rows)]))
        length = int(padded_length(self.lengths[fits])[0])
        raw = alone._raw(self._numbers(model, rows), np.array([0]), length)  # noqa: SLF001  its own kind
        return cleaned(fits, raw, absolute=self.absolute, drop=True, about=self.about)

    def _raw(self, held: tuple[list[Array], Array, Array | None], fits: Indices, length: int) -> Raw:
        """Return some of the groups from columns in the order of the groups; they are not copied where they fill a block."""
        columns, y, spread = held
        lengths, m = self.lengths[fits], len(fits)
        begin, end, own = int(self.first[fits[0]]), int(self.first[fits[-1] + 1]), int(lengths[0])
        if end - begin == m * own and (lengths == own).all():

            def matrix(values: Array) -> Array:
                rows = values[begin:end].reshape(m, own)
                return (
                    rows if own == length else np.hstack([rows, np.repeat(rows[:, :1], length - own, axis=1)])
                )

            beyond = None if own == length else np.broadcast_to(np.arange(length) >= own, (m, length))
            precision = None if spread is None else matrix(spread)
            return Raw([_shared(matrix(c)) for c in columns], matrix(y), precision, beyond)
        places = self.first[fits][:, None] + np.arange(length)
        beyond = np.arange(length) >= lengths[:, None]
        places = np.where(beyond, self.first[fits][:, None], places)
        return Raw(
            [_shared(c[places]) for c in columns],
            y[places],
            None if spread is None else spread[places],
            beyond if beyond.any() else None,
        )

    def _numbers(self, model: BoundModel, rows: slice | Indices) -> tuple[list[Array], Array, Array | None]:
        """Return the inputs, the response and its precision at some of the rows."""
        table = self.whole

        def of(name: str) -> Array:
            return numbers(table, name)[rows]

        spread = None if self.spread is None else of(self.spread)
        if model.left is None:
            y = of(model.response)
        else:
            held = {n: of(n) for n in model.left.names if n in table.columns}
            with np.errstate(all="ignore"):
                y = np.asarray(model.left.evaluate(held), dtype=np.float64)
            y = np.broadcast_to(y, np.arange(table.n)[rows].shape)
        return [of(name) for name in model.inputs] or [np.zeros(len(y))], y, spread

    def table(self, fit: int, model: BoundModel) -> tuple[Table, Array | None]:
        """Return the rows of one group that were used, and their sigma or weights."""
        rows = self._rows(slice(self.first[fit], self.first[fit + 1]))
        weight = self.one(fit, model).batch.weight
        if weight is not None:
            rows = rows[weight[0, : len(rows)] != 0]
        mask = np.zeros(self.whole.n, dtype=bool)
        mask[rows] = True
        return self.whole.keep(mask), None if self.spread is None else numbers(self.whole, self.spread)[rows]


def padded_length(lengths: Indices) -> Indices:
    """Return the next length with at most five significant binary digits: at most a sixteenth is padding.

    >>> padded_length(np.array([3, 16, 31, 33, 100])).tolist()
    [3, 16, 31, 34, 100]
    """
    step = 2 ** np.maximum(np.frexp(np.maximum(lengths, 1).astype(np.float64))[1].astype(np.int64) - 5, 0)
    return -(-lengths // step) * step


def _shared(column: Array) -> Array:
    """Return one row (n,) where all fits have the same values."""
    if len(column) < 2 or not (column[[1, -1]] == column[0]).all():
        return column
    return np.ascontiguousarray(column[0]) if (column == column[:1]).all() else column


def numbers(table: Table, name: str) -> Array:
    """Return a column as float64, NaN where a cell is no number.

    Raises
    ------
    DataError
        If there is no such column, or no number in it.
    """
    if name in table.columns and table.columns[name].dtype == np.float64:
        return table.columns[name]
    read = table.numeric([name], missing="drop")
    out = np.full(table.n, np.nan)
    out[np.isin(table.rows, read.rows)] = read.columns[name]
    return out


def grouped(
    table: Table, by: str | Sequence[str], *, spread: str | None = None, absolute: bool = False
) -> Groups:
    """Return the groups of a table's rows. A row without a key belongs to none.

    Raises
    ------
    DataError
        If a key column does not exist, or no row has a key.
    """
    names = (by,) if isinstance(by, str) else tuple(by)
    table.require(names)
    foresee(f"{count(table.n, 'row')} in groups", SORTING * table.n)
    if not names:
        raise DataError("by= names no column", remedy=f"Columns: {', '.join(table.names)}")
    known = np.ones(table.n, dtype=bool)
    for name in names:
        column = table.columns[name]
        known &= (
            ~np.isnan(column) if column.dtype == np.float64 else np.array([v is not None for v in column])
        )
    rows = None if known.all() else np.flatnonzero(known)
    if rows is not None and not len(rows):
        raise DataError(f"No row of {table.source} has a value in {' and '.join(names)}")
    keys = [table.columns[name] if rows is None else table.columns[name][rows] for name in names]
    order, first = _runs(keys)
    if rows is not None:
        order = rows if order is None else rows[order]
    return Groups(table, names, order, first, spread, absolute)


def _runs(keys: Sequence[NDArray[Any]]) -> tuple[Indices | None, Indices]:
    """Return the rows group after group, and where each group begins; None where every group is in one piece."""
    n = len(keys[0])
    new = np.zeros(n, dtype=bool)
    new[0] = True
    for values in keys:
        new[1:] |= np.asarray(values[1:] != values[:-1], dtype=bool)
    lengths = None
    if np.count_nonzero(new) <= n // 2:
        begins = np.flatnonzero(new)
        keys, lengths = [values[begins] for values in keys], np.diff(np.append(begins, n))
    group = ranked(keys)
    groups = int(group.max()) + 1
    if groups == len(group):
        return None, np.append(0, np.cumsum(np.ones(n, dtype=np.int64) if lengths is None else lengths))
    row = group if lengths is None else np.repeat(group, lengths)
    first = np.zeros(groups + 1, dtype=np.int64)
    np.cumsum(np.bincount(row, minlength=groups), out=first[1:])
    return _counting_order(row, groups), first


def ranked(keys: Sequence[NDArray[Any]]) -> Indices:
    """Return the number (n,) of each row's group, in the order in which the groups first appear.

    >>> ranked([np.array([7.0, 3.0, 7.0, 5.0])]).tolist()
    [0, 1, 0, 2]
    """
    code, size = _codes(keys[0])
    for values in keys[1:]:
        other, more = _codes(values)
        code, size = code.astype(np.int64) * more + other, size * more
        if size > 4 * len(code):  # rare combinations: only those that occur are numbered
            code, size = _dense(code)
    kind = np.int32 if max(size, len(code)) < 2**31 - 1 else np.int64
    nowhere, code = len(code), code.astype(kind, copy=False)
    first = np.full(size, nowhere, dtype=kind)
    first[code[::-1]] = np.arange(nowhere - 1, -1, -1, dtype=kind)  # written last stays: the first appearance
    rank = np.empty(size, dtype=kind)
    rank[np.argsort(first, kind="stable")] = np.arange(size, dtype=kind)
    return rank[code].astype(np.int64, copy=False)


def _codes(values: NDArray[Any]) -> tuple[Indices, int]:
    """Return a whole number from 0 up for each different value, and how many numbers are in use at most."""
    if values.dtype != np.float64:
        texts = polars.DataFrame(
            {"text": polars.Series(values.tolist(), dtype=polars.String)}
        ).with_row_index()
        values = texts.select(polars.col("index").first().over("text"))["index"].to_numpy().astype(np.float64)
    low, high = float(values.min()), float(values.max())
    if high - low < max(4 * len(values), 1 << 16) and max(abs(low), abs(high)) < 2**53:
        kind = np.int32 if high - low < 2**31 - 1 else np.int64
        code = values.astype(kind) if low == 0 else (values - low).astype(kind)
        if (code == (values if low == 0 else values - low)).all():
            return code.astype(np.int64, copy=False), int(high - low) + 1
    return _dense(values)


def _dense(values: NDArray[Any]) -> tuple[Indices, int]:
    code = polars.Series(values).rank("dense").to_numpy().astype(np.int64) - 1
    return code, int(code.max()) + 1


def _counting_order(group: Indices, groups: int) -> Indices:
    """Return the rows group after group, each group's in their order: a counting sort, which SciPy's matrices make.

    A quarter of the time of sorting.
    """
    sparse = import_module("scipy.sparse")  # 0.1 s, for a table out of order only
    n = len(group)
    kind = np.int32 if n < 2**31 - 1 else np.int64
    ends = np.arange(n + 1, dtype=kind)
    values = (np.empty(n, dtype=np.int8), group.astype(kind, copy=False), ends)
    by_row = sparse.csc_array(values, shape=(groups, n))
    return by_row.tocsr().indices.astype(np.int64)
