"""Which rows of a fit are held out, as fit() is told, and cross-validation."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from gradfit.binding import table_of
from gradfit.checkpoint import Checkpoint, checkpoint_of
from gradfit.errors import OptionError
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.prepare import Data, assemble, attached, chosen_rows, counted
from gradfit.solve.patience import Patience, Stop
from gradfit.splitting import apart, folds_of, is_other_data, split_of
from gradfit.table import Table, read
from gradfit.validation import HeldRows


@dataclass(frozen=True, eq=False)
class Holding:
    """What fit() was told of held-out rows; see there.

    Attributes
    ----------
    validation : object
        A share, a column, row numbers, or data of their own.
    kfold : int or None
        The number of folds.
    groups, order : str or None
        Columns.
    patience : Patience
        What the validation loss decides in training.
    seed : int
        Of random splits.
    """

    validation: object
    kfold: int | None
    groups: str | None
    order: str | None
    patience: Patience
    seed: int

    @property
    def flags(self) -> tuple[str, ...]:
        """Columns that may say which rows are held out, and are no input of a model that does not name them."""
        named = [self.validation, self.groups, self.order]
        return tuple(name for name in named if isinstance(name, str))


def asked_of(
    *,
    validation: object,
    kfold: int | None,
    groups: str | None,
    order: str | None,
    patience: int | None,
    min_delta: float,
    stop: Stop | None,
    checkpoint: object,
    checkpoint_every: int | None,
    resume: object,
) -> dict[str, Any]:
    """Return those that were given, by name.

    Raises
    ------
    OptionError
        If a column is not given by its name, or a number is none.
    """
    for name, column in (("groups", groups), ("order", order)):
        if column is not None and not isinstance(column, str):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may not be typed
            raise OptionError(
                f"{name}= is {column!r}, and must be the name of a column", remedy=f'Write {name}="..."'
            )
    every = {
        "validation": validation, "kfold": kfold, "groups": groups, "order": order, "patience": patience,
        "min_delta": min_delta or None, "stop": stop, "checkpoint": checkpoint, "checkpoint_every": checkpoint_every,
        "resume": resume,
    }  # fmt: skip
    return {name: value for name, value in every.items() if value is not None}


def holding_of(asked: Mapping[str, Any], *, seed: int, trained: bool) -> Holding | None:
    """Return what fit() was told of held-out rows, None where that is nothing.

    Parameters
    ----------
    trained : bool
        Whether an optimizer of torch trains; patience has no place elsewhere.

    Raises
    ------
    OptionError
        If the arguments contradict each other.
    """
    if "validation" in asked and "kfold" in asked:
        raise OptionError("Give validation= or kfold=, not both", remedy="kfold= holds out each row once")
    _refuse_elsewhere(asked, ("patience", "stop", "min_delta"), trained=trained)
    for name in ("patience", "stop", "min_delta"):
        if name in asked and "validation" not in asked:
            raise OptionError(f"{name}= needs held-out rows", remedy="Add validation=0.2")
    for name in ("groups", "order"):
        if name in asked and not ("validation" in asked or "kfold" in asked):
            raise OptionError(
                f"{name}= says how rows are held out, and none are", remedy="Add validation=0.2"
            )
    if not ("validation" in asked or "kfold" in asked):
        return None
    wish = asked.get("stop", "best" if "patience" in asked else "last")
    patience = Patience(asked.get("patience"), asked.get("min_delta", 0.0), wish)
    validation, kfold, groups, order = (
        asked.get(name) for name in ("validation", "kfold", "groups", "order")
    )
    return Holding(validation, kfold, groups, order, patience, seed)


def checkpoint_asked(asked: Mapping[str, Any], *, trained: bool) -> Checkpoint | None:
    """Return what fit() was told of checkpoints, None where that is nothing.

    Raises
    ------
    OptionError
        If nothing is trained by epochs, or an argument makes no sense.
    """
    names = ("checkpoint", "checkpoint_every", "resume")
    _refuse_elsewhere(asked, names, trained=trained)
    return checkpoint_of(*(asked.get(name) for name in names))


def _refuse_elsewhere(asked: Mapping[str, Any], names: Sequence[str], *, trained: bool) -> None:
    for name in names:
        if name in asked and not trained:
            raise OptionError(
                f"{name}= is for optimizers of torch, and Levenberg-Marquardt goes to the minimum in a moment",
                remedy=f'Leave {name}= out, or train with solver="Adam"',
            )


class Told(NamedTuple):
    """What else fit() was told of the rows."""

    sigma: object
    weights: object
    where: str | None
    missing: str
    counts: bool


def parted(
    holding: Holding, table: Table, rows: Data, bound: BoundModel, *, told: Told
) -> tuple[Data, HeldRows | None]:
    """Return the rows to train on, and those held out; with folds all rows are trained on.

    Parameters
    ----------
    table : Table
        With all columns; its row numbers tell which of its rows can be used.
    rows : Data
        Those that can be used.

    Raises
    ------
    OptionError
        If nothing would be held out or trained on, or the arguments contradict each other.
    DataError
        If a column is missing.
    """
    if holding.validation is None:
        return rows, None
    if is_other_data(table, holding.validation):
        held = _others(holding, table, rows, bound, told=told)
        how = f"train {rows.n}, validation {held.n} rows ({held.source})"
        return rows, HeldRows(replace(held, like=rows.unit), how)
    split = split_of(
        _used(table, rows), holding.validation, groups=holding.groups, order=holding.order, response=bound.response,
        seed=holding.seed,
    )  # fmt: skip
    train, held = rows.part(split.train), rows.part(split.held)
    note = f"{count(held.n, 'row')} held out for validation ({split.how})"
    train = replace(train, left_out=(*train.left_out, note))
    return train, HeldRows(replace(held, like=train.unit), split.sentence)


def folded(
    holding: Holding, table: Table, rows: Data, bound: BoundModel
) -> tuple[tuple[Data, HeldRows], ...]:
    """Return for each fold the rows to train on and those held out.

    Raises
    ------
    OptionError
        If there are more folds than rows, groups or times.
    """
    assert holding.kfold is not None  # noqa: S101  only asked where there are folds
    splits = folds_of(
        _used(table, rows), holding.kfold, groups=holding.groups, order=holding.order, response=bound.response,
        seed=holding.seed,
    )  # fmt: skip
    parts = ((rows.part(split.train), split) for split in splits)
    return tuple(
        (train, HeldRows(replace(rows.part(split.held), like=train.unit), split.how))
        for train, split in parts
    )


def unflagged(holding: Holding, table: Table, model: object, response: str | None) -> Table:
    """Return the table without the columns that say which rows are held out, unless the model names them."""
    named = {response, *_named_by(model, holding.flags)}
    flags = [name for name in holding.flags if name in table.columns and name not in named]
    if not flags:
        return table
    return replace(table, columns={name: c for name, c in table.columns.items() if name not in flags})


def _named_by(model: object, names: Sequence[str]) -> set[str]:
    definition = getattr(model, "definition", model)
    if isinstance(definition, str):
        return {name for name in names if re.search(rf"(?<!\w){re.escape(name)}(?!\w)", definition)}
    return set(inspect.signature(definition).parameters) if callable(definition) else set()


def _used(table: Table, rows: Data) -> Table:
    return table if table.n == rows.n else table.keep(np.isin(table.rows, rows.rows))


def _others(holding: Holding, table: Table, rows: Data, bound: BoundModel, *, told: Told) -> Data:
    """Return the rows of data of their own, as those in training are understood.

    Raises
    ------
    OptionError
        If something was given for each row in training, and not for these.
    """
    given = holding.validation
    other = given if isinstance(given, Table) else table_of(read(given, origins=table.origins))
    if holding.order is not None:
        raise OptionError(
            f"order={holding.order!r} has no place beside validation data of their own",
            remedy="Leave order= out",
        )
    for name, values in (("sigma", told.sigma), ("weights", told.weights)):
        if values is not None and not isinstance(values, str | int | float):
            raise OptionError(
                f"{name}= is an array for the rows of {table.source}, and {other.source} has rows of its own",
                remedy=f"Give {name}= as a column that both have, or as an expression",
            )
    other, covariance = attached(other, told.sigma, told.weights)
    other = chosen_rows(other, told.where, None)
    for name, levels in rows.categories.items():
        if name in bound.inputs:
            other = other.coded(name, levels=levels)
    if holding.groups is not None:
        apart(_used(table, rows), other, holding.groups)
    held = assemble(other, bound, missing=told.missing, covariance=covariance, n_read=other.n)
    if told.counts:
        held = counted(held) if held.y.any() else replace(held, counts=True, absolute=True)
    return held
