"""From data to the rows that a network is trained on and those held out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError, OptionError
from gradfit.learn.asked import Asked
from gradfit.learn.result import Part
from gradfit.learn.rows import CLASS, IMAGE, Rows, rows_of
from gradfit.learn.target import Target
from gradfit.notation import listing
from gradfit.prepare import chosen_rows
from gradfit.splitting import Split, folds_of, is_other_data, split_of

Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Columns:
    """Which columns go in and which are to be predicted.

    Attributes
    ----------
    inputs, targets : tuple of str
        Names.
    """

    inputs: tuple[str, ...]
    targets: tuple[str, ...]


def gathered(data: object, asked: Asked) -> Rows:
    """Return the rows that `where` and `exclude` leave.

    Raises
    ------
    DataError
        If there are none.
    """
    rows = rows_of(data)
    if asked.where is None and asked.exclude is None:
        return rows
    table = chosen_rows(rows.table, asked.where, asked.exclude)
    mask = np.isin(rows.table.rows, table.rows)
    return Rows(table, {name: values[mask] for name, values in rows.arrays.items()})


def columns_of(rows: Rows, asked: Asked, named: Columns) -> Columns:
    """Return the columns that were named, by a formula or by inputs= and target=; else all others.

    Raises
    ------
    DataError
        If a column does not exist, or it is not clear which is to be predicted.
    OptionError
        If a column is on both sides.
    """
    targets = named.targets or asked.targets or _only_target(rows)
    given = named.inputs or _listed(asked.inputs)
    apart = {name for name in (asked.groups, asked.order, asked.validation) if isinstance(name, str)}
    inputs = given or tuple([name for name in rows.names if name not in targets and name not in apart])
    rows.require([*targets, *inputs])
    both = [name for name in inputs if name in targets]
    if both:
        raise OptionError(f"{both[0]} is an input and the target", remedy="Leave it out of inputs=")
    if not inputs:
        raise DataError(
            f"{rows.source} has no column to predict {listing(targets)} from", remedy="Name them: inputs="
        )
    return Columns(tuple(inputs), tuple(targets))


def _listed(names: Sequence[str] | str | None) -> tuple[str, ...]:
    return () if names is None else (names,) if isinstance(names, str) else tuple(names)


def _only_target(rows: Rows) -> tuple[str, ...]:
    if set(rows.names) == {IMAGE, CLASS}:
        return (CLASS,)
    if "y" in rows.names:
        return ("y",)
    raise DataError(
        "It was not said which column is to be predicted",
        remedy=f'Give target="{rows.names[-1]}", or another of {listing(rows.names)}',
    )


def usable(rows: Rows, columns: Columns, missing: str) -> Rows:
    """Return the rows with codes in columns of text, and finite numbers; those without are refused or dropped."""
    for name in (*columns.inputs, *columns.targets):
        if name not in rows.arrays and rows.table.columns[name].dtype == object:
            rows = _with_codes(rows, name)
    return rows.numeric([*columns.inputs, *columns.targets], missing=missing)


def _with_codes(rows: Rows, name: str) -> Rows:
    """Return the rows with codes in a column of objects, unless it holds dates or the like that read as numbers."""
    values = [value for value in rows.table.columns[name].tolist() if value is not None]
    return rows.coded(name) if any(isinstance(value, str) for value in values) else rows


@dataclass(frozen=True, eq=False)
class Shares:
    """Which rows are trained on, and which are held out.

    Attributes
    ----------
    rows : Rows
        All rows of the data.
    train : (m,) int
        Places of the training rows.
    held : (v,) int
        Places of those held out, in `other` where there is one.
    other : Rows, optional
        Validation data of their own.
    how : str
        How they were chosen.
    """

    rows: Rows
    train: Places
    held: Places
    other: Rows | None
    how: str


def shares_of(rows: Rows, columns: Columns, asked: Asked) -> Shares:
    """Return the training rows and those held out.

    Raises
    ------
    OptionError
        If the split leaves one side empty, or is not understood.
    DataError
        If validation data lack a column, or hold an unknown class.
    """
    every = np.arange(rows.n)
    none = np.zeros(0, dtype=np.int64)
    if asked.validation is None:
        return Shares(rows, every, none, None, "")
    if is_other_data(rows.table, asked.validation):
        other = _like(rows_of(asked.validation, origins=rows.table.origins), rows, columns)
        return Shares(rows, every, np.arange(other.n), other, f"{other.source}, {other.n} rows of their own")
    split = split_of(rows.table, asked.validation, **ties(columns, asked))
    return Shares(rows, split.train, split.held, None, split.how)


def folds(rows: Rows, columns: Columns, asked: Asked) -> tuple[Split, ...]:
    """Return the splits of a cross-validation."""
    assert asked.kfold is not None  # noqa: S101  the caller has looked
    return folds_of(rows.table, asked.kfold, **ties(columns, asked))


def ties(columns: Columns, asked: Asked) -> dict[str, Any]:
    """Return what a split has to respect, as arguments of `split_of`."""
    response = columns.targets[0] if len(columns.targets) == 1 else None
    return {"groups": asked.groups, "order": asked.order, "response": response, "seed": asked.seed}


def _like(other: Rows, rows: Rows, columns: Columns) -> Rows:
    """Return validation data with the codes of the training data, and finite numbers."""
    names = [*columns.inputs, *columns.targets]
    other.require(names)
    for name in names:
        if name in rows.table.categories:
            other = other.coded(name, rows.table.categories[name])
    return other.numeric(names, missing="error")


def parts_of(shares: Shares, target: Target) -> tuple[Part, Part | None]:
    """Return the training rows and those held out, with their targets.

    Raises
    ------
    DataError
        If there is one class only among the training rows.
    """
    whole = Part(shares.rows, target)
    train = whole.at(shares.train)
    if target.classes and len(np.unique(train.target.values)) < 2:
        only = target.levels[int(train.target.values.flat[0])]
        raise DataError(
            f"The training rows hold one class of {target.text} only, {only}",
            remedy="Split the rows otherwise, or add some",
        )
    if not len(shares.held):
        return train, None
    if shares.other is None:
        return train, whole.at(shares.held)
    other = shares.other
    values = np.stack([other.column(name) for name in target.names], axis=1)
    values = values[:, 0] if len(target.names) == 1 else values
    return train, Part(other, replace(target, values=values))
