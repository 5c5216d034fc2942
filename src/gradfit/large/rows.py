"""The rows of a large fit as numbers: filtered, transformed, checked, and kept where every pass finds them again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError
from gradfit.formula import parse_expression
from gradfit.large.counts import Tally, as_counts, noted
from gradfit.large.keeping import Kept, Memory, Scratch, Views
from gradfit.large.sources import Arrays, Source
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.prepare import Data, assemble, attached, condition
from gradfit.solve.passes import PIECE, Columns, Part, Total, in_order
from gradfit.table import Table

Array = NDArray[np.float64]

_CACHED = 16_384  # rows of a column that a look leaves in the cache for the next
SAMPLE = 100_000  # rows that are looked at as a whole: by the search, the first steps, and the findings


@dataclass(frozen=True, eq=False)
class Wanted:
    """Which rows, and what of them.

    Attributes
    ----------
    model : BoundModel
        Its inputs and its response.
    where : str, optional
        Condition that rows fulfil.
    exclude : sequence of int
        Numbers of rows to leave out.
    drop : bool
        Whether rows without a number are left out; else they are an error.
    sigma, weights : str, optional
        Column or expression of standard deviations or weights.
    levels : mapping of str to tuple of str
        Of text columns that stand for codes.
    counts : bool
        Whether the response counts events.
    """

    model: BoundModel
    where: str | None = None
    exclude: Sequence[int] = ()
    drop: bool = False
    sigma: str | None = None
    weights: str | None = None
    levels: Mapping[str, tuple[str, ...]] | None = None
    counts: bool = False

    def columns(self, known: Sequence[str]) -> tuple[str, ...]:
        """Return the columns that are read, of those there are."""
        model = self.model
        names = [*model.inputs, *(model.left.names if model.left else (model.response,))]
        for text in (self.where, self.sigma, self.weights):
            if text is not None:
                names += [text] if text in known else parse_expression(text).names
        return tuple(dict.fromkeys(name for name in names if name in known))

    @property
    def plain(self) -> bool:
        """Whether columns are used as they are."""
        return self.where is None and not len(self.exclude) and self.model.left is None and not self.levels

    def numbers(self, table: Table) -> tuple[Data | None, int, int]:
        """Return the rows of a piece that are used, None without any; how many `where` and `exclude` left out, and for want of numbers.

        Raises
        ------
        DataError
            If something is no number, and such rows are not to be dropped.
        """
        read = table.n
        table, _ = attached(table, self.sigma, self.weights)
        keep = np.ones(read, dtype=bool)
        if self.where is not None:
            keep &= condition(table, self.where)
        if len(self.exclude):
            keep &= ~np.isin(table.rows, np.asarray(self.exclude))
        chosen = int(np.count_nonzero(keep))
        if self.drop and chosen:
            keep &= self._finite(table)
        used = int(np.count_nonzero(keep))
        if used == 0:
            return None, read - chosen, chosen
        for name, levels in (self.levels or {}).items():
            table = table.coded(name, levels=levels)
        table = table if used == read else table.keep(keep)
        data = assemble(
            table, self.model, missing="error", n_read=read, sigma_from=self.sigma or self.weights or ""
        )
        data = as_counts(data) if self.counts else data
        return data, read - chosen, chosen - data.n

    def _finite(self, table: Table) -> NDArray[np.bool_]:
        """Return the rows (n,) that have a number in every used column."""
        fine = np.ones(table.n, dtype=bool)
        for name, values in table.columns.items():
            if values.dtype != object:
                fine &= np.isfinite(values)
            elif name not in (self.levels or {}):
                fine &= np.isfinite(table.numeric([name], missing="error").columns[name])
            else:
                fine &= np.array([value is not None for value in values.tolist()])
        return fine


# ---------------------------------------------------------------------------- one look at everything


@dataclass(frozen=True)
class Spread:
    """How a response varies, weighted.

    Attributes
    ----------
    weight : float
        Sum of the weights' squares.
    mean : float
        Weighted mean.
    squares : float
        Weighted sum of squared distances from the mean.
    largest : float
        The largest response, without its sign.
    """

    weight: float = 0.0
    mean: float = 0.0
    squares: float = 0.0
    largest: float = 0.0

    @classmethod
    def of(cls, y: Array, weight: Array | None) -> "Spread":
        """Return that of some rows."""
        largest = max(float(y.max()), -float(y.min()))
        if weight is None:
            mean = float(np.add.reduce(y)) / len(y)
            y = y - mean
            return cls(float(len(y)), mean, _square(y), largest)
        square = weight * weight
        total = float(np.add.reduce(square))
        mean = float(np.add.reduce(square * y)) / total
        y = (y - mean) * weight
        return cls(total, mean, _square(y), largest)

    def joined(self, other: "Spread") -> "Spread":
        """Return that of these rows and others.

        References
        ----------
        .. [1] Chan, Golub & LeVeque (1979), Updating formulae and a pairwise algorithm for computing sample variances.
        """
        weight = self.weight + other.weight
        step = other.mean - self.mean
        share = other.weight / weight
        squares = self.squares + other.squares + step * step * self.weight * share
        return Spread(weight, self.mean + step * share, squares, max(self.largest, other.largest))


def _square(y: Array) -> float:
    """Return yᵀy; not by BLAS, whose own threads get in the way of ours."""
    return float(np.einsum("i,i->", y, y))


@dataclass(frozen=True, eq=False)
class Facts:
    """What is known of all rows, and some of them.

    Attributes
    ----------
    sample : Data
        At most 2 * SAMPLE rows, evenly spread; all rows where there are no more.
    n : int
        Rows that are used.
    kept : Kept
        The numbers of all rows: inputs, response and, if there are any, weights.
    weighted : bool
        Whether there are weights.
    log_sigma : float
        Sum of the logarithms of the standard deviations.
    spread : Spread
        How the response varies.
    where : str
        Where the numbers are, for the result's own words.
    tally : Tally, optional
        What is known of counts.
    """

    sample: Data
    n: int
    kept: Kept
    weighted: bool
    log_sigma: float
    spread: Spread
    where: str
    tally: Tally | None = None


class _Gathered:
    """Rows evenly spread over a length that is not known before: when there are too many, every other one goes."""

    def __init__(self, seed: int) -> None:
        self._stride, self._next = 1, 0
        self._random = np.random.default_rng(seed)
        self.pieces: list[Data] = []
        self.count = 0
        self._seen = 0

    def add(self, data: Data) -> None:
        """Take some rows of the next piece."""
        ends = np.arange(self._next, self._seen + data.n, self._stride)
        places = ends + self._random.integers(0, self._stride, len(ends)) - self._seen
        places = np.minimum(places, data.n - 1)
        self._seen += data.n
        if len(ends):
            self._next = int(ends[-1]) + self._stride
            self.pieces.append(picked(data, places))
            self.count += len(places)
        while self.count > 2 * SAMPLE:
            self._stride *= 2
            self._next += self._stride // 2 * (self.count % 2)
            whole = joined(self.pieces)
            self.pieces = [picked(whole, np.arange(0, whole.n, 2))]
            self.count = self.pieces[0].n


def picked(data: Data, places: NDArray[np.int64]) -> Data:
    """Return some rows."""
    return replace(
        data,
        columns={name: column[places] for name, column in data.columns.items()},
        y=data.y[places],
        rows=data.rows[places],
        sigma=None if data.sigma is None else data.sigma[places],
    )


def joined(pieces: Sequence[Data]) -> Data:
    """Return the rows of all pieces."""
    first = pieces[0]
    if len(pieces) == 1:
        return first
    sigma = None if first.sigma is None else np.concatenate([p.sigma for p in pieces if p.sigma is not None])
    return replace(
        first,
        columns={name: np.concatenate([p.columns[name] for p in pieces]) for name in first.columns},
        y=np.concatenate([p.y for p in pieces]),
        rows=np.concatenate([p.rows for p in pieces]),
        sigma=sigma,
    )


def looked_at(source: Source, wanted: Wanted, head: Table, *, room: float, seed: int) -> Facts:
    """Return the facts of all rows, in one pass over the source.

    Parameters
    ----------
    head : Table
        Its first rows, which the model was bound to.
    room : float
        Bytes of memory that the numbers may take; beyond, they go to a scratch file.

    Raises
    ------
    DataError
        If a row is no good, no row is left, or the source changes.
    """
    names = wanted.columns(head.names)
    kept: Memory | Scratch = Memory()
    gathered = _Gathered(seed)
    n_read, unchosen, lost, log_sigma, spread, tally = 0, 0, 0, Total(), Spread(), Tally()
    for table in source.tables(names, head.origins):
        data, left, without = wanted.numbers(replace(table, notes=()))
        n_read, unchosen, lost = n_read + table.n, unchosen + left, lost + without
        if data is None:
            continue
        columns = [np.ascontiguousarray(c) for c in (*data.columns.values(), data.y)]
        if data.sigma is not None:
            columns.append(1 / data.sigma)
            log_sigma.add(float(np.sum(np.log(data.sigma))))
        weight = None if data.sigma is None else columns[-1]
        spread = spread.joined(Spread.of(data.y, weight))
        tally = tally.joined(Tally.of(data.y, weight)) if wanted.counts else tally
        gathered.add(data)
        if isinstance(kept, Memory) and kept.bytes + sum(c.nbytes for c in columns) > room:
            kept = _moved(kept)
        kept.add(columns)
    if not gathered.pieces:
        why = f"satisfies {wanted.where!r}" if lost == 0 else "has a number in every column that is used"
        raise DataError(f"No row of {source.name} {why}", remedy="Loosen the filter, or name other columns")
    sample = joined(gathered.pieces)
    sample = replace(
        sample, n_read=n_read, left_out=_left_out(wanted, unchosen, lost), notes=(*sample.notes, *head.notes)
    )
    n = n_read - unchosen - lost
    where = "kept in memory" if isinstance(kept, Memory) else "kept in a scratch file"
    facts = Facts(sample, n, kept, sample.sigma is not None, float(log_sigma.value()), spread, where)
    return _of_counts(facts, tally) if wanted.counts else facts


def _of_counts(facts: Facts, tally: Tally) -> Facts:
    return replace(facts, sample=noted(facts.sample, tally, facts.n), tally=tally)


def _moved(kept: Memory) -> Scratch:
    scratch = Scratch()
    for part in kept.parts():
        scratch.add(part())
    return scratch


def _left_out(wanted: Wanted, unchosen: int, lost: int) -> tuple[str, ...]:
    notes: list[str] = []
    if unchosen:
        by = f"where={wanted.where!r}" if wanted.where is not None else "exclude="
        notes.append(f"{count(unchosen, 'row')} left out by {by}")
    if lost:
        notes.append(f"{count(lost, 'row')} dropped for want of a finite number, or with a weight of 0")
    return tuple(notes)


def views(
    source: Source, wanted: Wanted, head: Table, *, seed: int, threads: int, release: bool
) -> Facts | None:
    """Return the facts of arrays that are used as they are, without a copy; None where that is not so."""
    names = [*wanted.model.inputs, wanted.model.response]
    if (
        not isinstance(source, Arrays)
        or not wanted.plain
        or wanted.sigma is not None
        or wanted.weights is not None
    ):
        return None
    columns = [source.columns.get(name) for name in names]
    if any(c is None or c.dtype.kind not in "fiub" for c in columns):
        return None
    kept = Views(source, [c for c in columns if c is not None], release)
    n = source.rows
    stride = -(-n // SAMPLE)
    starts = np.arange(0, n, stride)
    places = np.minimum(starts + np.random.default_rng(seed).integers(0, stride, len(starts)), n - 1)
    edges = np.searchsorted(places, np.arange(0, n + PIECE, PIECE))
    within = [places[low:high] % PIECE for low, high in pairwise(edges.tolist())]
    looks = (
        partial(_looked, part, chosen, counts=wanted.counts)
        for part, chosen in zip(kept.parts(), within, strict=False)
    )
    spread, tally, sample = Spread(), Tally(), list[Columns]()
    for look in in_order(lambda look: look(), looks, threads):
        if look is None:
            return None  # something is no number: looked at row by row
        spread, tally = spread.joined(look[0]), tally.joined(look[1])
        sample.append(look[2])
    numbers = [np.concatenate(parts) for parts in zip(*sample, strict=True)]
    table = replace(
        head, columns=dict(zip(names, numbers, strict=True)), rows=places + 1, shape=None, seen={}
    )
    data = assemble(table, wanted.model, missing="error", n_read=n)
    facts = Facts(
        as_counts(data) if wanted.counts else data, n, kept, False, 0.0, spread, "read where they lie"
    )
    return _of_counts(facts, tally) if wanted.counts else facts


def _looked(part: Part, chosen: NDArray[np.int64], *, counts: bool) -> tuple[Spread, Tally, Columns] | None:
    """Return how the response of a part varies, and some of its rows; None where something is no number, or no count."""
    columns = part()
    *inputs, y = columns
    spread, tally, total, least = Spread(), Tally(), 0.0, 0.0
    with np.errstate(all="ignore"):
        for start in range(0, len(y), _CACHED):
            near = slice(start, start + _CACHED)
            observed = np.asarray(y[near], dtype=np.float64)
            spread = spread.joined(Spread.of(observed, None))
            total += sum(float(np.add.reduce(c[near], dtype=np.float64)) for c in inputs)
            if counts:
                tally, least = tally.joined(Tally.of(observed, None)), min(least, float(observed.min()))
    fine = np.isfinite(spread.squares) and np.isfinite(total) and least >= 0
    return (spread, tally, [np.asarray(c[chosen], dtype=np.float64) for c in columns]) if fine else None
