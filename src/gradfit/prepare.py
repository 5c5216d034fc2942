"""From a table and options to the numbers of one fit: rows, response, weights, start values, bounds."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from math import isnan

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import linalg
from gradfit.errors import DataError, FormulaError, OptionError
from gradfit.formula import parse_expression
from gradfit.limits import bounds_of, number, place_of, put_inside, start_values
from gradfit.model import BoundModel
from gradfit.notation import count, listing
from gradfit.table import Table

Array = NDArray[np.float64]

_OWN = _SIGMA, _WEIGHTS = "\0sigma", "\0weights"  # columns of our own, so that one row mask serves all


@dataclass(frozen=True, eq=False)
class Data:
    """The rows of one fit.

    Attributes
    ----------
    columns : mapping of str to (n,)
        The model's inputs.
    y : (n,)
        The response, transformed where the left side of the formula says so.
    rows : (n,) int
        Row numbers in the source, from 1.
    sigma : (n,) or None
        Standard deviations, or 1/sqrt(weights); None where all rows count alike.
    absolute : bool
        Whether sigma is a known standard deviation; else it is known up to a factor. Of counts always: the model says it.
    cholesky : (n, n) or None
        Lower factor of the covariance, where errors are correlated.
    units : mapping of str to str
        By column name.
    source : str
        The file, or the kind of thing in memory.
    n_read : int
        Rows that were read.
    notes, left_out : tuple of str
        What was done to the data, and which rows are not used.
    sigma_from : str
        The column or expression that sigma or weights came from, empty for numbers.
    origins : mapping of str to str
        Since when dates count, by column; new data count from there too.
    categories : mapping of str to tuple of str
        Levels of text columns that are used as codes.
    counts : bool
        Whether the response counts events, so that its variance is the mean that the model gives (over the weight).
    like : float or None
        The unit of the rows that these belong to, where they were held out of them.
    """

    columns: Mapping[str, Array]
    y: Array
    rows: NDArray[np.int64]
    sigma: Array | None
    absolute: bool
    cholesky: Array | None
    units: Mapping[str, str]
    source: str
    n_read: int
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    sigma_from: str = ""
    origins: Mapping[str, str] = field(default_factory=dict[str, str])
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    counts: bool = False
    like: float | None = None

    @property
    def even(self) -> bool:
        """Whether all rows are taken to scatter alike."""
        return self.sigma is None and self.cholesky is None and not self.counts

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.y)

    @cached_property
    def unit(self) -> float:
        """A power of two that brings a response whose squares would overflow or vanish to size 1; 1 for all others.

        Weighted residuals are multiplied by it; sums of squares are divided by its square.
        """
        if self.like is not None:
            return self.like
        if self.absolute or self.cholesky is not None:
            return 1.0
        y = self.y
        size = max(float(y[y.argmax()]), -float(y[y.argmin()]))  # a third of the cost of max() and min()
        if size == 0 or 1e-100 < size < 1e100:
            return 1.0
        return float(
            2.0 ** -float(np.clip(np.frexp(size)[1], -1000, 1000))
        )  # a power that is a number itself

    @property
    def weight(self) -> Array | None:
        """What residuals are multiplied by: 1/sigma, or the Cholesky factor to divide by."""
        if self.cholesky is not None:
            return self.cholesky
        if self.sigma is not None:
            return self.unit / self.sigma
        return None if self.unit == 1.0 else np.full(self.n, self.unit)

    @property
    def typical_sigma(self) -> float:
        """The root mean square of sigma; 1 where there is none."""
        if self.cholesky is not None:
            return float(np.sqrt(np.mean(np.sum(self.cholesky**2, axis=1))))
        return 1.0 if self.sigma is None else float(np.sqrt(np.mean(self.sigma**2)))

    def digest(self, response: str) -> str:
        """Return the SHA-256 of the columns, with the name that the response has."""
        digest = hashlib.sha256()
        for name, values in (*self.columns.items(), (response, self.y)):
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(values).tobytes())
        return digest.hexdigest()

    def part(self, places: NDArray[np.int64]) -> "Data":
        """Return the rows at these places (m,), from 0."""
        cholesky = self.cholesky
        if cholesky is not None:
            cholesky = linalg.cholesky(cholesky[places] @ cholesky[places].T, lower=True)
        return replace(
            self,
            columns={name: values[places] for name, values in self.columns.items()},
            y=self.y[places],
            rows=self.rows[places],
            sigma=None if self.sigma is None else self.sigma[places],
            cholesky=cholesky,
        )


# ---------------------------------------------------------------------------- rows


def chosen_rows(table: Table, where: str | None, exclude: Sequence[int] | None) -> Table:
    """Return the rows that `where` accepts and `exclude` does not name.

    Raises
    ------
    DataError
        If none is left.
    OptionError
        If a row to exclude does not exist.
    """
    if where is not None:
        mask = condition(table, where)
        kept = int(np.count_nonzero(mask))
        if kept == 0:
            raise DataError(f"No row of {table.source} satisfies {where!r}", remedy="Loosen the filter")
        table = table.keep(mask, f"{count(table.n - kept, 'row')} left out by where={where!r}")
    if exclude is None or len(exclude) == 0:
        return table
    unwanted = np.atleast_1d(np.asarray(exclude))
    if unwanted.dtype == bool:
        raise OptionError("exclude= takes row numbers, from 1 as findings print them, not a mask")
    missing = np.setdiff1d(unwanted, table.rows)
    if len(missing):
        raise OptionError(
            f"There is no row {missing[0]} to exclude; {table.source} has rows {table.rows.min()} to {table.rows.max()}"
        )
    names = listing([f"{r}" for r in unwanted])
    return table.keep(
        ~np.isin(table.rows, unwanted), f"row{'s' * (len(unwanted) > 1)} {names} left out by exclude="
    )


def condition(table: Table, where: str) -> NDArray[np.bool_]:
    """Return for which rows (n,) a condition holds.

    Raises
    ------
    FormulaError
        If the expression is no condition, or asks for a column that is not there.
    """
    expression = parse_expression(where)
    table.require([n for n in expression.names if n not in ("pi", "e")])
    with np.errstate(all="ignore"):
        mask = np.asarray(expression.evaluate(table.columns))
    if mask.dtype != bool:
        raise FormulaError(f"where={where!r} is not a condition", remedy="Compare, as in dose > 0")
    return np.broadcast_to(mask, (table.n,))


def attached(table: Table, sigma: object, weights: object) -> tuple[Table, Array | None]:
    """Return the table with sigma or weights as a column, and their covariance matrix if that is what was given.

    Raises
    ------
    OptionError
        If both are given, or their length is not that of the table.
    """
    if sigma is not None and weights is not None:
        raise OptionError(
            "Give sigma= or weights=, not both",
            remedy="sigma are standard deviations in the unit of the response, weights count as 1/sigma**2 up to a factor",
        )
    for name, given, column in (("sigma", sigma, _SIGMA), ("weights", weights, _WEIGHTS)):
        if given is None:
            continue
        if isinstance(given, str):
            return _from_text(table, name, given, column), None
        values = np.asarray(given, dtype=np.float64)
        if name == "sigma" and values.ndim == 2 and values.shape[0] == values.shape[1] == table.n:
            return table, values
        values = values.reshape(-1) if values.size == table.n else values
        if values.ndim > 1 or (values.ndim == 1 and len(values) != table.n):
            raise OptionError(f"{name}= has shape {values.shape}, and the data have {count(table.n, 'row')}")
        return table.with_column(column, np.broadcast_to(values, (table.n,)).copy()), None
    return table, None


def _from_text(table: Table, name: str, text: str, column: str) -> Table:
    if text in table.columns:
        return table.with_column(column, table.columns[text])
    expression = parse_expression(text)
    table.require([n for n in expression.names if n not in ("pi", "e")])
    with np.errstate(all="ignore"):
        values = np.asarray(expression.evaluate(table.columns), dtype=np.float64)
    filled = np.broadcast_to(values, (table.n,)).copy()
    used = np.ones(table.n, dtype=bool)
    for known in expression.names:
        if known in table.columns:
            used &= np.isfinite(np.asarray(table.columns[known], dtype=np.float64))
    bad = used & ~np.isfinite(filled)
    if bad.any():
        raise DataError(
            f"{name}={text!r} is not finite in {rows_text(table.rows[bad])}",
            remedy="Leave those rows out with where=",
        )
    return table.with_column(column, filled)


def rows_text(rows: NDArray[np.int64]) -> str:
    """Return row numbers for a sentence: "row 3", "rows 1, 2 and 5".

    >>> rows_text(np.array([1, 2, 5]))
    'rows 1, 2 and 5'
    """
    return ("row " if len(rows) == 1 else "rows ") + listing([f"{r}" for r in rows], most=6)


def assemble(
    table: Table,
    model: BoundModel,
    *,
    missing: str,
    covariance: Array | None = None,
    n_read: int,
    sigma_from: str = "",
) -> Data:
    """Return the rows of the fit as numbers.

    Raises
    ------
    DataError
        If a used column holds no number somewhere, the response is not finite, or sigma is not positive.
    """
    columns = table.columns
    observed = [n for n in model.left.names if n in columns] if model.left else [model.response]
    before = table.rows
    table = _readable(table, [*model.inputs, *observed, *[c for c in _OWN if c in columns]], missing)
    if table.n == 0:
        raise DataError(f"No row of {table.source} is left to fit")
    y = table.columns[model.response] if model.left is None else _transformed(model, table)
    sigma, absolute, table, y, dropped = _sigma(table, y)
    cholesky = None if covariance is None else _cholesky(covariance, before, table.rows)
    notes, left_out = model.notes, dropped
    if table.notes:
        notes = (*notes, *(n for n in table.notes if not _is_about_rows(n)))
        left_out = (*(n for n in table.notes if _is_about_rows(n)), *dropped)
    return Data(
        {name: table.columns[name] for name in model.inputs},
        y, table.rows, sigma, absolute or covariance is not None, cholesky, table.units, table.source, n_read,
        notes, left_out, sigma_from, table.origins, table.categories,
    )  # fmt: skip


def counted(data: Data) -> Data:
    """Return the rows as counts of events, with a note where they are not whole numbers.

    Raises
    ------
    DataError
        If one is below zero, or all are zero.
    OptionError
        If sigma is given.
    """
    if data.absolute:
        raise OptionError(
            'loss="poisson" takes the precision of counts from the model, so sigma= has no place',
            remedy="Leave sigma= out",
        )
    negative = data.y < 0
    if negative.any():
        raise DataError(
            f'loss="poisson" is for counts, and the response is below zero in {rows_text(data.rows[negative])}',
            remedy="Fit the counts as they were recorded, with the background in the model and not subtracted",
        )
    if not data.y.any():
        raise DataError(
            f"All {count(data.n, 'count')} are zero: they tell no mean, but only that it is small",
            remedy=f"Give an upper limit instead: a mean of {3.0 / data.n:.2g} would leave no event in 5 % of such data",
        )
    broken = int(np.count_nonzero(data.y != np.rint(data.y)))
    note = (
        f"{count(broken, 'count')} of {data.n} {'is' if broken == 1 else 'are'} no whole number: standard errors hold for "
        "recorded counts, not for rates or means"
    )
    return replace(data, counts=True, absolute=True, notes=(*data.notes, note) if broken else data.notes)


def _is_about_rows(note: str) -> bool:
    return "left out" in note or "dropped" in note


def _readable(table: Table, used: list[str], missing: str) -> Table:
    try:
        return table.numeric(used, missing=missing)
    except DataError as error:
        named = error.message.replace(_SIGMA, "sigma").replace(_WEIGHTS, "weights")
        raise DataError(named, remedy=error.remedy, excerpt=error.excerpt.replace("\0", "")) from None


def _transformed(model: BoundModel, table: Table) -> Array:
    if model.left is None:
        return table.columns[model.response]
    with np.errstate(all="ignore"):
        y = np.asarray(model.left.evaluate(table.columns), dtype=np.float64)
    y = np.broadcast_to(y, (table.n,))
    bad = ~np.isfinite(y)
    if bad.any():
        raise DataError(
            f"{model.response} is not finite in {rows_text(table.rows[bad])} of {table.source}",
            remedy=f'Leave them out, as in where="{next(n for n in model.left.names if n in table.columns)} > 0"',
        )
    return y


def _sigma(table: Table, y: Array) -> tuple[Array | None, bool, Table, Array, tuple[str, ...]]:
    if _SIGMA in table.columns:
        sigma = table.columns[_SIGMA]
        if not (sigma > 0).all():
            raise DataError(
                f"sigma must be positive, and is not in {rows_text(table.rows[~(sigma > 0)])}",
                remedy="It is the standard deviation of each observation; leave out rows without one, with where=",
            )
        return sigma, True, table, y, ()
    if _WEIGHTS not in table.columns:
        return None, False, table, y, ()
    weights = table.columns[_WEIGHTS]
    if not (weights >= 0).all() or not (weights > 0).any():
        raise DataError(f"weights must be positive, and are not in {rows_text(table.rows[~(weights > 0)])}")
    if (weights == 0).any():
        zero = weights == 0
        dropped = f"{count(int(zero.sum()), 'row')} left out: the weight is 0"
        table, y, weights = table.keep(~zero), y[~zero], weights[~zero]
        return 1 / np.sqrt(weights), False, table, y, (dropped,)
    return 1 / np.sqrt(weights), False, table, y, ()


def _cholesky(covariance: Array, before: NDArray[np.int64], rows: NDArray[np.int64]) -> Array:
    place = np.flatnonzero(np.isin(before, rows))
    part = covariance[np.ix_(place, place)]
    if not np.isfinite(part).all() or not np.allclose(part, part.T, rtol=1e-8):
        raise OptionError("sigma= as a matrix must be the symmetric covariance of the observations")
    try:
        return linalg.cholesky(part, lower=True)
    except np.linalg.LinAlgError as error:
        raise OptionError(
            "sigma= as a matrix must be positive definite: some combination of errors has no variance"
        ) from error


# ---------------------------------------------------------------------------- parameters


@dataclass(frozen=True, eq=False)
class Parameters:
    """What the caller says of the parameters.

    Attributes
    ----------
    start : (k,)
        Start values, NaN where none is given; fixed parameters have their value.
    lower, upper : (k,)
        Bounds, infinite where there is none.
    free : (f,) int
        Those to fit.
    notes : tuple of str
        Equal bounds that fixed a parameter.
    plain : bool
        Whether there is no bound and nothing fixed.
    """

    start: Array
    lower: Array
    upper: Array
    free: NDArray[np.int64]
    notes: tuple[str, ...] = ()
    plain: bool = False

    @property
    def begin(self) -> Array:
        """Start values (f,) of the free parameters."""
        return self.start if self.plain else self.start[self.free]

    @property
    def complete(self) -> bool:
        """Whether every parameter has a start value."""
        return not isnan(self.start.dot(self.start))

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Lower and upper bounds (f,) of the free parameters."""
        return (self.lower, self.upper) if self.plain else (self.lower[self.free], self.upper[self.free])

    def whole(self, free: Array) -> Array:
        """Return all parameters (k,) for the free ones (f,)."""
        if self.plain:
            return free.copy()
        whole = self.start.copy()
        whole[self.free] = free
        return whole

    def widened(self, matrix: Array) -> Array:
        """Return a matrix (k, k) over all parameters, zero for those that are not free, for one over the free (f, f)."""
        k = len(self.start)
        if len(self.free) == k:
            return matrix
        whole = np.zeros((k, k))
        whole[np.ix_(self.free, self.free)] = matrix
        return whole

    def on_bounds(self, free: Array) -> NDArray[np.bool_]:
        """Return which of the free parameters (f,) sit on one of their bounds."""
        if self.plain:
            return np.zeros(len(free), dtype=np.bool_)
        lower, upper = self.bounds
        width = np.where(np.isfinite(upper - lower), upper - lower, 1 + np.abs(free))
        return (free - lower <= 1e-9 * width) | (upper - free <= 1e-9 * width)


def settled(
    model: BoundModel, start: object, bounds: object, fixed: Mapping[str, float] | None
) -> Parameters:
    """Return start values, bounds and what is fixed, checked against each other.

    Raises
    ------
    OptionError
        If a name is no parameter, a number is not finite, bounds are reversed or a start lies outside them.
    """
    names = model.parameters
    values = start_values(names, start, model.defaults)
    if bounds is None and not fixed:
        return Parameters(values, *_open(len(names)), plain=True)
    lower, upper = bounds_of(names, bounds)
    held = np.zeros(len(names), dtype=bool)
    notes: list[str] = []
    for j, name in enumerate(names):
        if lower[j] == upper[j]:
            held[j], values[j] = True, lower[j]
            notes.append(f"{name} is fixed at {lower[j]:g}: its bounds are equal")
    for name, value in (fixed or {}).items():
        j = place_of(names, name, "fixed")
        held[j], values[j] = True, number(value, name, "fixed")
    put_inside(names, values, lower, upper, held=held)
    return Parameters(values, lower, upper, np.flatnonzero(~held), tuple(notes))


@lru_cache(maxsize=64)
def _open(k: int) -> tuple[Array, Array, NDArray[np.int64]]:
    """Lower and upper bounds of k parameters without any, and the places of the free ones: all. For every fit the same."""
    made = np.full(k, -np.inf), np.full(k, np.inf), np.arange(k)
    for array in made:
        array.setflags(write=False)
    return made
