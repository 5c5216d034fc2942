"""What the fits of one call are made of: blocks of rows of equal length, cleaned of what is no number."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.solve.batch import Batch
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
    y = raw.y
    bad = ~np.isfinite(y)
    for column in raw.columns:
        bad |= ~np.isfinite(column)
    weight = None
    if raw.spread is not None:
        with np.errstate(all="ignore"):
            weight = 1 / raw.spread if absolute else np.sqrt(raw.spread)
        bad |= ~(np.isfinite(weight) & (raw.spread > 0 if absolute else raw.spread >= 0))
    lost = bad if raw.beyond is None else bad & ~raw.beyond
    dropped = np.count_nonzero(lost, axis=1)
    if not drop and dropped.any():
        first = int(fits[np.flatnonzero(dropped)[0]])
        raise DataError(
            f"{count(int(dropped.sum()), 'point')} of {about} {'has' if dropped.sum() == 1 else 'have'} no number, the "
            f"first in fit {first}",
            remedy='missing="drop" leaves such points out of their fits, and counts them',
        )
    hole = bad if raw.beyond is None else bad | raw.beyond
    columns = tuple(raw.columns)
    if hole.any():
        weight = np.where(hole, 0.0, 1.0 if weight is None else weight)
        y = np.where(hole, 0.0, y)
        columns = tuple(_filled(c, hole) for c in columns)
    unit = np.ones(len(y)) if absolute else _units(y)
    if (unit != 1).any():
        weight = (1.0 if weight is None else weight) * np.broadcast_to(unit[:, None], y.shape)
    return Block(fits, Batch(columns, np.ascontiguousarray(y), weight), dropped, unit)


def _filled(column: Array, hole: Mask) -> Array:
    """Return a column with a value of the same fit's own where it is not looked at."""
    if column.ndim == 1:
        fine = np.isfinite(column)
        return column if fine.all() else np.where(fine, column, column[fine][:1] if fine.any() else 0.0)
    first = np.argmin(hole, axis=1)
    own = np.where(hole[np.arange(len(hole)), first], 0.0, column[np.arange(len(hole)), first])
    return np.where(hole, own[:, None], column)


def _units(y: Array) -> Array:
    size = np.max(np.abs(y), axis=1, initial=0.0)
    plain = (size == 0) | ((size > 1e-100) & (size < 1e100))
    if plain.all():
        return np.ones(len(y))
    return np.where(plain, 1.0, 2.0 ** -np.frexp(np.where(plain, 1.0, size))[1].astype(np.float64))


def even_places(total: int, most: int) -> Indices:
    """Return at most `most` places, evenly spread over `total`."""
    return np.unique(np.linspace(0, total - 1, min(total, most)).astype(np.int64))
