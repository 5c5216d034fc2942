"""Which rows are trained on and which are held out: by a share, a column, row numbers, groups, time, or in folds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError, OptionError
from gradfit.notation import count, listing
from gradfit.table import Table

Rows = NDArray[np.int64]
Values = NDArray[np.generic]

MOST_CLASSES = 20  # distinct values of a response up to which a split keeps their shares
LEAST_OF_A_CLASS = 5  # rows of each class on average, at least


@dataclass(frozen=True, eq=False)
class Split:
    """Rows to train on and rows to hold out, as places from 0.

    Attributes
    ----------
    train, held : (n,), (m,) int
        In ascending order; none is in both, and neither is empty.
    how : str
        How they were chosen: "at random, seed 0", "whole groups of plate, seed 0", "the last by day".
    """

    train: Rows
    held: Rows
    how: str

    @property
    def sentence(self) -> str:
        """How many rows are on either side, and how they were chosen.

        >>> held_out(100, 0.2).sentence
        'train 80, validation 20 rows (at random, seed 0)'
        """
        return f"train {len(self.train)}, validation {len(self.held)} rows ({self.how})"


@dataclass(frozen=True, eq=False)
class Ties:
    """What a split has to respect: at most one of groups that stay together, an order in time, and shares of classes.

    Attributes
    ----------
    groups, order, classes : (n,), optional
        A value for each row.
    name : str
        Of the column of groups or order, for sentences.
    """

    groups: Values | None = None
    order: Values | None = None
    classes: Values | None = None
    name: str = ""


FREE = Ties()


# ---------------------------------------------------------------------------- of n rows


def held_out(n: int, share: float, *, seed: int = 0, ties: Ties = FREE) -> Split:
    """Return a split that holds out about `share` of n rows.

    At random; with groups only whole ones; with an order the last rows, where equal times stay together; with classes
    the same share of each.

    Raises
    ------
    OptionError
        If the share is not between 0 and 1, or nothing would be held out or trained on.
    DataError
        If there are fewer than two groups or times.
    """
    if not 0 < share < 1:
        raise OptionError(
            f"validation={share!r} is not a share of the rows",
            remedy="Give a number between 0 and 1, as validation=0.2",
        )
    _two_at_least(n)
    wanted = round(n * share)
    if ties.groups is not None:
        return _of_groups(ties, n * share, seed)
    if ties.order is not None:
        return _of_time(ties, n * share)
    if not 0 < wanted < n:
        what = "holds out none" if wanted == 0 else "leaves none to train on"
        least = 1 / n if wanted == 0 else 1 - 1 / n
        side = "least" if wanted == 0 else "most"
        raise OptionError(
            f"validation={share:g} of {count(n, 'row')} {what}", remedy=f"Give at {side} {least:.3g}"
        )
    draw = np.random.default_rng(seed)
    if ties.classes is not None:
        return _split(_of_classes(ties.classes, wanted, draw), n, f"each class in its share, seed {seed}")
    return _split(draw.permutation(n)[:wanted], n, f"at random, seed {seed}")


def folds(n: int, k: int, *, seed: int = 0, ties: Ties = FREE) -> tuple[Split, ...]:
    """Return k splits of n rows for cross-validation.

    Each row is held out once. With an order the rows are cut into k + 1 spans of time: each of the last k is held out
    once, and trained on is what came before it.

    Raises
    ------
    OptionError
        If there are fewer than two folds, or more than rows, groups or times.
    """
    if isinstance(k, bool) or k != int(k) or k < 2:
        raise OptionError(f"kfold={k!r} is not understood", remedy="Give the number of folds, as kfold=5")
    k = int(k)
    _two_at_least(n)
    if ties.order is not None:
        return _folds_of_time(ties, k)
    if ties.groups is not None:
        fold, how = _folds_of_groups(ties, k, seed), f"whole groups of {ties.name}, seed {seed}"
    else:
        if k > n:
            raise OptionError(
                f"kfold={k} is more folds than {count(n, 'row')}", remedy=f"Give kfold={n} or less"
            )
        how = f"at random, seed {seed}"
        fold = np.empty(n, dtype=np.int64)
        dealt = np.random.default_rng(seed).permutation(n)
        if ties.classes is not None:
            how = f"each class in its share, seed {seed}"
            dealt = dealt[np.argsort(_codes(ties.classes)[dealt], kind="stable")]
        fold[dealt] = np.arange(n) % k
    return tuple(_split(np.flatnonzero(fold == j), n, f"fold {j + 1} of {k}, {how}") for j in range(k))


def few_classes(values: Values) -> bool:
    """Whether values are so few that a split had better keep their shares: whole numbers, truth values or words.

    >>> few_classes(np.array([0.0, 1.0] * 10)), few_classes(np.arange(20.0))
    (True, False)
    """
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        return False
    distinct = len(set(values.tolist()))
    return 1 < distinct <= MOST_CLASSES and len(values) >= LEAST_OF_A_CLASS * distinct


def _two_at_least(n: int) -> None:
    if n < 2:
        raise DataError(
            f"{count(n, 'row')} cannot be split into training and validation", remedy="Give at least two rows"
        )


def _split(held: Rows, n: int, how: str) -> Split:
    mask = np.zeros(n, dtype=bool)
    mask[held] = True
    return Split(np.flatnonzero(~mask), np.flatnonzero(mask), how)


def _codes(values: Values) -> Rows:
    """Return each value's number among the distinct ones (n,), in the order of their first appearance."""
    known: dict[object, int] = {}
    return np.array([known.setdefault(value, len(known)) for value in values.tolist()], dtype=np.int64)


def _of_classes(classes: Values, wanted: int, draw: np.random.Generator) -> Rows:
    """Return rows to hold out, of each class its share, by largest remainders."""
    codes = _codes(classes)
    sizes = np.bincount(codes)
    exact = sizes * (wanted / len(codes))
    taken = np.floor(exact).astype(np.int64)
    short = np.argsort(-(exact - taken), kind="stable")[: wanted - int(taken.sum())]
    taken[short] += 1
    chosen = [draw.permutation(np.flatnonzero(codes == c))[: taken[c]] for c in range(len(sizes))]
    return np.concatenate(chosen)


def _of_groups(ties: Ties, wanted: float, seed: int) -> Split:
    assert ties.groups is not None  # noqa: S101  the caller has looked
    codes = _codes(ties.groups)
    sizes = np.bincount(codes)
    if len(sizes) < 2:
        raise DataError(
            f"All rows belong to one group of {ties.name}, and a group is not split",
            remedy="Leave groups= out, or name a column with several groups",
        )
    held: list[int] = []
    total = 0
    for group in np.random.default_rng(seed).permutation(len(sizes)).tolist():
        nearer = abs(total + sizes[group] - wanted) < abs(total - wanted)
        if nearer and len(held) < len(sizes) - 1:
            held.append(group)
            total += int(sizes[group])
    held = held or [int(np.argmin(sizes))]
    how = f"{len(held)} of {len(sizes)} whole groups of {ties.name}, seed {seed}"
    return _split(np.flatnonzero(np.isin(codes, held)), len(codes), how)


def _of_time(ties: Ties, wanted: float) -> Split:
    assert ties.order is not None  # noqa: S101  the caller has looked
    times, places = np.unique(ties.order, return_inverse=True)
    if len(times) < 2:
        raise DataError(
            f"All rows have the same {ties.name}, so that none of them is the last",
            remedy="Leave order= out, or name a column in which the rows differ",
        )
    after = np.cumsum(np.bincount(places)[::-1])[:-1]  # rows from the last time, the last two … on
    spans = int(np.argmin(np.abs(after - wanted))) + 1
    return _split(np.flatnonzero(places >= len(times) - spans), len(places), f"the last by {ties.name}")


def _folds_of_groups(ties: Ties, k: int, seed: int) -> Rows:
    assert ties.groups is not None  # noqa: S101  the caller has looked
    codes = _codes(ties.groups)
    sizes = np.bincount(codes)
    if k > len(sizes):
        raise OptionError(
            f"kfold={k} is more folds than {count(len(sizes), 'group')} of {ties.name}",
            remedy=f"Give kfold={len(sizes)} or less" if len(sizes) > 1 else "Leave groups= out",
        )
    shuffled = np.random.default_rng(seed).permutation(len(sizes))
    fold, filled = np.empty(len(sizes), dtype=np.int64), np.zeros(k, dtype=np.int64)
    for group in shuffled[np.argsort(-sizes[shuffled], kind="stable")].tolist():  # the large ones first
        fold[group] = np.argmin(filled)
        filled[fold[group]] += sizes[group]
    return fold[codes]


def _folds_of_time(ties: Ties, k: int) -> tuple[Split, ...]:
    assert ties.order is not None  # noqa: S101  the caller has looked
    times, places = np.unique(ties.order, return_inverse=True)
    if k + 1 > len(times):
        raise OptionError(
            f"kfold={k} by {ties.name} needs {k + 1} different times, and there are {len(times)}",
            remedy=f"Give kfold={len(times) - 1} or less" if len(times) > 2 else "Leave order= out",
        )
    edges = _even_edges(np.cumsum(np.bincount(places)), k + 1)
    span = np.searchsorted(edges, places, side="left")
    return tuple(
        Split(
            np.flatnonzero(span < j),
            np.flatnonzero(span == j),
            f"fold {j} of {k}, trained on what came before by {ties.name}",
        )
        for j in range(1, k + 1)
    )


def _even_edges(rows: Rows, spans: int) -> Rows:
    """Return the last time of each span, from the rows up to each time, so that each has one time at least."""
    wanted = rows[-1] * np.arange(1, spans) / spans
    edges = np.abs(rows[:, None] - wanted).argmin(axis=0)
    for j in range(spans - 1):  # one time for each span before, and for each one after
        least = edges[j - 1] + 1 if j else 0
        edges[j] = min(max(edges[j], least), len(rows) - spans + j)
    return edges


# ---------------------------------------------------------------------------- of a table


def is_other_data(table: Table, validation: object) -> bool:
    """Whether `validation` is data of its own (a file, a table, columns), rather than a choice of the table's rows."""
    if isinstance(validation, str):
        return validation not in table.columns and Path(validation).exists()
    if isinstance(validation, Sequence):
        return len(validation) > 0 and isinstance(validation[0], Mapping)
    return isinstance(validation, Path | Mapping | Table) or not _is_number_or_array(validation)


def _is_number_or_array(value: object) -> bool:
    kinds = (bool, int, float, np.generic, range)
    return value is None or isinstance(value, kinds) or (isinstance(value, np.ndarray) and value.ndim <= 1)


def split_of(
    table: Table,
    validation: object,
    *,
    groups: str | None = None,
    order: str | None = None,
    response: str | None = None,
    seed: int = 0,
) -> Split:
    """Return the split of a table's rows that `validation` asks for.

    Parameters
    ----------
    table : Table
        The rows that can be used.
    validation : float, str, or sequence of int or bool
        A share of the rows; a column that is true (1, yes, validation) for rows to hold out; row numbers, from 1 as findings print
        them; a truth value for each row.
    groups, order : str, optional
        Columns, see `held_out`.
    response : str, optional
        Where it has few different values, a random split keeps their shares.

    Raises
    ------
    OptionError
        If that is none of these, nothing would be held out or trained on, or a group would be in both parts.
    DataError
        If there is no such column.
    """
    if isinstance(validation, int | float) and not isinstance(validation, bool):
        ties = ties_of(table, groups=groups, order=order, response=response)
        return held_out(table.n, float(validation), seed=seed, ties=ties)
    held, how = _flagged(table, validation) if isinstance(validation, str) else _named(table, validation)
    if order is not None:
        raise OptionError(
            f"order={order!r} has no place where validation= names the rows",
            remedy="Give a share, as validation=0.2",
        )
    inside = int(np.count_nonzero(held))
    if inside in (0, table.n):
        what = "none" if inside == 0 else f"all {count(table.n, 'row')}"
        rest = "" if inside == 0 else ", and leaves none to train on"
        raise OptionError(
            f"validation= ({how}) holds out {what} of {table.source}{rest}",
            remedy="Hold out some rows, and leave some to train on",
        )
    split = Split(np.flatnonzero(~held), np.flatnonzero(held), how)
    if groups is not None:
        _whole_groups(_group_values(table, groups), split, groups)
    return split


def folds_of(
    table: Table,
    k: int,
    *,
    groups: str | None = None,
    order: str | None = None,
    response: str | None = None,
    seed: int = 0,
) -> tuple[Split, ...]:
    """Return the k splits of a table's rows for cross-validation, see `folds`."""
    return folds(table.n, k, seed=seed, ties=ties_of(table, groups=groups, order=order, response=response))


def ties_of(
    table: Table, *, groups: str | None = None, order: str | None = None, response: str | None = None
) -> Ties:
    """Return what a split of a table has to respect.

    Raises
    ------
    OptionError
        If both groups and order are given.
    DataError
        If there is no such column, or a row has no value in it.
    """
    if groups is not None and order is not None:
        raise OptionError(
            "Give groups= or order=, not both",
            remedy="With order= the last rows are held out, whichever group they are in",
        )
    if groups is not None:
        return Ties(groups=_group_values(table, groups), name=groups)
    if order is not None:
        table.require([order])
        return Ties(order=table.numeric([order]).columns[order], name=order)
    if response is not None and response in table.columns and few_classes(table.columns[response]):
        return Ties(classes=table.columns[response], name=response)
    return FREE


def apart(one: Table, other: Table, groups: str) -> None:
    """Check that two tables share no group.

    Raises
    ------
    OptionError
        If one is in both.
    """
    both = set(_group_values(one, groups).tolist()) & set(_group_values(other, groups).tolist())
    if both:
        _refuse_shared(both, groups)


def _group_values(table: Table, groups: str) -> Values:
    table.require([groups])
    values = table.columns[groups]
    empty = np.array([v is None or v != v for v in values.tolist()])
    if empty.any():
        rows = listing([str(r) for r in table.rows[empty]], most=6)
        raise DataError(
            f"{groups} is empty in row{'s' * (int(empty.sum()) > 1)} {rows} of {table.source}",
            remedy="Name the group of each row, or leave those rows out with where= or exclude=",
        )
    return values


def _whole_groups(values: Values, split: Split, groups: str) -> None:
    both = set(values[split.train].tolist()) & set(values[split.held].tolist())
    if both:
        _refuse_shared(both, groups)


def _refuse_shared(both: set[object], groups: str) -> None:
    have = "has" if len(both) == 1 else "have"
    names = sorted(f"{value:g}" if isinstance(value, float) else str(value) for value in both)
    raise OptionError(
        f"{groups} {listing(names, most=4)} {have} rows in both training and validation",
        remedy=f"Hold out whole groups, as validation=0.2 with groups={groups!r} does",
    )


def _flagged(table: Table, column: str) -> tuple[NDArray[np.bool_], str]:
    if column not in table.columns and Path(column).suffix:
        raise DataError(
            f"There is no column {column} in {table.source}, and no file of that name",
            remedy=f"Give a share, as validation=0.2, a file, or one of {listing(table.names, most=20)}",
        )
    table.require([column])
    values = table.columns[column].tolist()
    unknown = [str(row) for row, v in zip(table.rows, values, strict=True) if v is None or v != v]
    if unknown:
        raise DataError(
            f"{column} is empty in row{'s' * (len(unknown) > 1)} {listing(unknown, most=6)} of {table.source}",
            remedy="Write 1 for rows to hold out and 0 for the others",
        )
    return np.array([_truth(v, column) for v in values], dtype=bool), f"column {column}"


_WORDS: Mapping[str, bool] = {
    **dict.fromkeys(("true", "yes", "1", "validation", "valid", "val", "test", "held out"), True),
    **dict.fromkeys(("false", "no", "0", "train", "training", ""), False),
}


def _truth(value: object, column: str) -> bool:
    known = _WORDS.get(value.strip().lower()) if isinstance(value, str) else bool(value)
    if known is None or not (isinstance(value, str) or value in (0, 1)):
        shown = f'"{value}"' if isinstance(value, str) else value
        raise OptionError(
            f"{column} holds {shown}, and says not which rows to hold out",
            remedy='Write 1 and 0, "yes" and "no", or "validation" and "train"',
        )
    return known


def _named(table: Table, validation: object) -> tuple[NDArray[np.bool_], str]:
    given = np.asarray(validation)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iub"):
        raise OptionError(
            f"validation={validation!r} is not understood",
            remedy="Give a share (0.2), a column, a second file or table, or row numbers from 1",
        )
    if given.dtype.kind == "b":
        if len(given) != table.n:
            raise OptionError(
                f"validation= has {len(given)} truth values, and there are {count(table.n, 'row')}",
                remedy="Give one for each row that is used",
            )
        return given, "as given"
    missing = np.setdiff1d(given, table.rows)
    if len(missing):
        raise OptionError(
            f"There is no row {missing[0]} to hold out; {table.source} has rows {table.rows.min()} to {table.rows.max()}",
            remedy="Rows are counted from 1",
        )
    return np.isin(table.rows, given), "rows as given"
