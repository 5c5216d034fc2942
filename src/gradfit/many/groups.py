"""Fits that are groups of the rows of a table: one key column or several, rows in any order, groups of any length."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars
from gradfit.errors import DataError
from gradfit.many.rows import BLOCK, Array, Block, Indices, Raw, cleaned, even_places
from gradfit.model import BoundModel
from gradfit.table import Table

SAMPLE = 2_000  # rows looked at to learn what is what


@dataclass(frozen=True, eq=False)
class Groups:
    """A table and which of its rows belong together, in the order in which the groups first appear.

    Attributes
    ----------
    whole : Table
        All rows; sigma or weights may be among the columns.
    by : tuple of str
        The key columns.
    order : (r,) int
        Rows, group after group; rows without a key are left out.
    first : (m + 1,) int
        Where in `order` each group begins, and where the last one ends.
    spread : str, optional
        The column of standard deviations or weights.
    absolute : bool
        Whether they are standard deviations.
    """

    whole: Table
    by: tuple[str, ...]
    order: Indices
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

    @property
    def lengths(self) -> Indices:
        """Rows of each group (m,)."""
        return np.diff(self.first)

    @property
    def keys(self) -> Mapping[str, NDArray[Any]]:
        """The key columns, one value a group."""
        rows = self.order[self.first[:-1]]
        return {name: self.whole.columns[name][rows] for name in self.by}

    @property
    def sample(self) -> Table:
        """Some of the rows."""
        mask = np.zeros(self.whole.n, dtype=bool)
        mask[self.order[even_places(len(self.order), SAMPLE)]] = True
        return self.whole.keep(mask)

    def of_fits(self, name: str) -> Array | None:
        """Return a column's value in the first row of each group (m,), None where there is no such column."""
        if name not in self.whole.columns:
            return None
        return numbers(self.whole, name)[self.order[self.first[:-1]]]

    def blocks(self, model: BoundModel, *, drop: bool) -> Iterator[Block]:
        """Return all groups in blocks of nearly equal length.

        A group's rows are padded to a length that depends on its own alone, so that its sums are made in the same order
        whatever stands beside it.

        Raises
        ------
        DataError
            If a value is missing and `drop` is false.
        """
        held = self._numbers(model)
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
        raw = self._raw(self._numbers(model), fits, int(padded_length(self.lengths[fits])[0]))
        return cleaned(fits, raw, absolute=self.absolute, drop=True, about=self.about)

    def _raw(self, held: tuple[list[Array], Array, Array | None], fits: Indices, length: int) -> Raw:
        columns, y, spread = held
        places = self.first[fits][:, None] + np.arange(length)
        beyond = places >= self.first[fits + 1][:, None]
        rows = self.order[np.where(beyond, self.first[fits][:, None], places)]
        return Raw(
            [_shared(c[rows]) for c in columns],
            y[rows],
            None if spread is None else spread[rows],
            beyond if beyond.any() else None,
        )

    def _numbers(self, model: BoundModel) -> tuple[list[Array], Array, Array | None]:
        table = self.whole
        columns = [numbers(table, name) for name in model.inputs] or [np.zeros(table.n)]
        if model.left is None:
            y = numbers(table, model.response)
        else:
            held = {n: numbers(table, n) for n in model.left.names if n in table.columns}
            with np.errstate(all="ignore"):
                y = np.broadcast_to(np.asarray(model.left.evaluate(held), dtype=np.float64), (table.n,))
        return columns, y, None if self.spread is None else numbers(table, self.spread)

    def table(self, fit: int, model: BoundModel) -> tuple[Table, Array | None]:
        """Return the rows of one group that were used, and their sigma or weights."""
        rows = self.order[self.first[fit] : self.first[fit + 1]]
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
    same = len(column) > 1 and bool((column == column[:1]).all())
    return np.ascontiguousarray(column[0]) if same else column


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
    if not names:
        raise DataError("by= names no column", remedy=f"Columns: {', '.join(table.names)}")
    known = np.ones(table.n, dtype=bool)
    for name in names:
        column = table.columns[name]
        known &= (
            ~np.isnan(column) if column.dtype == np.float64 else np.array([v is not None for v in column])
        )
    rows = np.flatnonzero(known)
    if not len(rows):
        raise DataError(f"No row of {table.source} has a value in {' and '.join(names)}")
    order, first = _runs(table, names, rows)
    return Groups(table, names, order, first, spread, absolute)


def _runs(table: Table, names: tuple[str, ...], rows: Indices) -> tuple[Indices, Indices]:
    """Return the rows group after group, and where each group begins; as they are where every group is in one piece."""
    keys = {name: table.columns[name][rows] for name in names}
    new = np.ones(len(rows), dtype=bool)
    new[1:] = False
    for values in keys.values():
        new[1:] |= np.asarray(values[1:] != values[:-1], dtype=bool)
    begins = np.flatnonzero(new)
    pieces = polars.DataFrame({name: _series(values[begins]) for name, values in keys.items()})
    if pieces.n_unique() == len(begins):
        return rows, np.append(begins, len(rows))
    parts = (
        polars.DataFrame({name: _series(values) for name, values in keys.items()})
        .with_columns(polars.Series("\0row", rows))
        .group_by(list(names), maintain_order=True)
        .agg(polars.col("\0row"))
    )
    held = parts["\0row"]
    first = np.concatenate([[0], np.cumsum(held.list.len().to_numpy().astype(np.int64))])
    return held.explode().to_numpy().astype(np.int64), first


def _series(column: NDArray[Any]) -> Any:
    return (
        polars.Series(column)
        if column.dtype == np.float64
        else polars.Series(column.tolist(), dtype=polars.String)
    )
