"""What the fits of one call are made of: blocks of rows of equal length, cleaned of what is no number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.solve.lockstep.batch import Batch
from gradfit.table import Table

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]
Indices = NDArray[np.int64]

BLOCK = 4_000_000  # numbers of the response in one block: 32 MB


@dataclass(frozen=True, eq=False)
class Block:
    """Some of the fits, ready for an executor.

    Attributes
    ----------
    fits : (m,) int
        Which ones, by their place among all.
    batch : Batch
        Their data.
    dropped : (m,) int
        Points of each that were left out because something in them is no number.
    unit : (m,)
        A power of two in the weights that keeps squares of extreme responses in range; 1 for all others.
    """

    fits: Indices
    batch: Batch
    dropped: Indices
    unit: Array

    def __len__(self) -> int:
        return len(self.fits)

    @property
    def place(self) -> slice | Indices:
        """Where its fits stand among all: a slice where they are neighbours."""
        first, last = int(self.fits[0]), int(self.fits[-1]) + 1
        return slice(first, last) if last - first == len(self.fits) else self.fits

    def part(self, which: Indices | slice) -> "Block":
        """Return some of the fits; those of a slice are not copied."""
        return Block(self.fits[which], self.batch.rows(which), self.dropped[which], self.unit[which])


class Source(Protocol):
    """Where the fits come from."""

    @property
    def shape(self) -> tuple[int, ...]:
        """How the fits are laid out: (m,) for a list of them, (height, width) for pixels."""
        ...

    @property
    def keys(self) -> Mapping[str, NDArray[Any]]:
        """The group columns, one value a fit; empty where fits have no names."""
        ...

    @property
    def total(self) -> int:
        """Points of all fits."""
        ...

    @property
    def scattered(self) -> bool:
        """Whether a fit's points stand apart, so that all of them are gathered first."""
        ...

    @property
    def about(self) -> str:
        """What it is, for sentences."""
        ...

    @property
    def sample(self) -> Table:
        """Some of the rows, with all columns."""
        ...

    def of_fits(self, name: str) -> Array | None:
        """Return one value a fit (m,) of a column, None where there is no such column."""
        ...

    def blocks(self, model: BoundModel, *, drop: bool) -> Iterator[Block]:
        """Return all fits in blocks; a missing value is an error unless `drop` is true."""
        ...

    def one(self, fit: int, model: BoundModel) -> Block:
        """Return one fit alone."""
        ...

    def table(self, fit: int, model: BoundModel) -> tuple[Table, Array | None]:
        """Return the rows of one fit that were used, and their sigma or weights."""
        ...


@dataclass(frozen=True, eq=False)
class Raw:
    """Values of some fits as they came.

    Attributes
    ----------
    columns : sequence of (n,) or (m, n)
        The model's inputs.
    y : (m, n)
        The response.
    spread : (n,) or (m, n), optional
        Standard deviations, or weights.
    beyond : (m, n), optional
        True beyond the end of a shorter fit, and where a filter left a point out: no point, and nothing lost.
    """

    columns: Sequence[Array]
    y: Array
    spread: Array | None = None
    beyond: Mask | None = None


def cleaned(fits: Indices, raw: Raw, *, absolute: bool, drop: bool, about: str) -> Block:
    """Return the block; points without a number get weight 0, and a number that is not looked at.

    Parameters
    ----------
    absolute : bool
        Whether `raw.spread` are standard deviations; else they are weights.

    Raises
    ------
    DataError
        If something is missing and `drop` is false.
    """
    y, m = raw.y, len(raw.y)
    size = _size(y)
    bad = _holes(raw, size, absolute=absolute)
    weight = None if raw.spread is None else _weights(raw.spread, absolute=absolute)
    dropped = np.zeros(m, dtype=np.int64)
    if bad is not None:
        lost = bad if raw.beyond is None else bad & ~raw.beyond
        dropped = np.count_nonzero(lost, axis=1)
    if not drop and dropped.any():
        first = int(fits[np.flatnonzero(dropped)[0]])
        raise DataError(
            f"{count(int(dropped.sum()), 'point')} of {about} {'has' if dropped.sum() == 1 else 'have'} no number, the "
            f"first in fit {first}",
            remedy='missing="drop" leaves such points out of their fits, and counts them',
        )
    hole = bad if raw.beyond is None else raw.beyond if bad is None else bad | raw.beyond
    columns = tuple(raw.columns)
    if hole is not None and hole.any():
        weight = np.where(hole, 0.0, 1.0 if weight is None else weight)
        y = np.where(hole, 0.0, y)
        columns = tuple(_filled(c, hole) for c in columns)
        size = _size(y)
    unit = np.ones(m) if absolute else _units(y, size)
    if (unit != 1).any():
        weight = (1.0 if weight is None else weight) * np.broadcast_to(unit[:, None], y.shape)
    return Block(fits, Batch(columns, np.ascontiguousarray(y), weight), dropped, unit)


def _size(y: Array) -> Array:
    """Return the sum of squares (m,) of each response: in one pass a number that shows what is not finite, or extreme."""
    with np.errstate(all="ignore"):
        return np.einsum("mn,mn->m", y, y)


def _weights(spread: Array, *, absolute: bool) -> Array:
    with np.errstate(all="ignore"):
        return 1 / spread if absolute else np.sqrt(spread)


def _holes(raw: Raw, size: Array, *, absolute: bool) -> Mask | None:
    """Return which points (m, n) hold something that is no number; None where none does."""
    bad: Mask | None = None
    shape = raw.y.shape
    for values in (raw.y, *raw.columns):
        with np.errstate(all="ignore"):
            total = size.sum() if values is raw.y else values.sum()
        if np.isfinite(total):  # what is not finite shows in the sum; the reverse need not be true
            continue
        gone = ~np.isfinite(values)
        if gone.any():
            bad = np.broadcast_to(gone, shape) if bad is None else bad | gone
    if raw.spread is not None:
        weight = _weights(raw.spread, absolute=absolute)
        gone = ~(np.isfinite(weight) & (raw.spread > 0 if absolute else raw.spread >= 0))
        if gone.any():
            bad = np.broadcast_to(gone, shape) if bad is None else bad | gone
    return bad


def _filled(column: Array, hole: Mask) -> Array:
    """Return a column with a value of the same fit's own where it is not looked at."""
    if column.ndim == 1:
        fine = np.isfinite(column)
        return column if fine.all() else np.where(fine, column, column[fine][:1] if fine.any() else 0.0)
    first = np.argmin(hole, axis=1)
    own = np.where(hole[np.arange(len(hole)), first], 0.0, column[np.arange(len(hole)), first])
    return np.where(hole, own[:, None], column)


def _units(y: Array, size: Array) -> Array:
    """Return the powers of two (m,) that bring responses of extreme size, known by their squares, to size 1."""
    unit = np.ones(len(y))
    which = np.flatnonzero(~((size > 1e-200) & (size < 1e200)))
    most = np.max(np.abs(y[which]), axis=1, initial=0.0)
    extreme = ~((most == 0) | ((most > 1e-100) & (most < 1e100)))
    unit[which[extreme]] = 2.0 ** -np.frexp(most[extreme])[1].astype(np.float64)
    return unit


def even_places(total: int, most: int) -> Indices:
    """Return at most `most` places, evenly spread over `total`."""
    return np.unique(np.linspace(0, total - 1, min(total, most)).astype(np.int64))
