"""What is to be predicted: numbers, counts or classes; and the loss that belongs to it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import DataError, OptionError
from gradfit.learn.rows import Rows
from gradfit.model import nearest
from gradfit.notation import count, listing

if TYPE_CHECKING:
    from torch import Tensor  # noqa: TID251  only the name of a type

Values = NDArray[Any]
Aim = Literal["numbers", "counts", "two classes", "classes"]
LossFunction = Callable[["Tensor", "Tensor"], "Tensor"]

#: name -> (function of torch.nn.functional, what the target is)
LOSSES: Mapping[str, tuple[str, Aim]] = {
    "mse": ("mse_loss", "numbers"),
    "mae": ("l1_loss", "numbers"),
    "huber": ("huber_loss", "numbers"),
    "bce": ("binary_cross_entropy_with_logits", "two classes"),
    "cross-entropy": ("cross_entropy", "classes"),
    "poisson": ("poisson_nll_loss", "counts"),
}
_ALIASES = {"bce-with-logits": "bce", "cross_entropy": "cross-entropy", "poisson-nll": "poisson", "l1": "mae"}
AUTO = ("auto", "squared")  # `fit` writes "squared" where no loss was given
FEW = 10  # whole numbers 0 … K-1 up to which they are taken for classes
SHARE = 0.05  # of the rows that each of them must have, at least; rarer ones are the tail of a count
LEAST = 20  # rows, before numbers are taken for classes


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be predicted.

    Attributes
    ----------
    names : tuple of str
        The columns.
    aim : str
        "numbers", "counts", "two classes" or "classes".
    levels : tuple of str
        The classes, in the order of their codes.
    values : (n,) or (n, ...)
        Numbers, or the codes of classes.
    """

    names: tuple[str, ...]
    aim: Aim
    levels: tuple[str, ...]
    values: Values

    @property
    def classes(self) -> bool:
        """Whether it is a class."""
        return self.aim in ("two classes", "classes")

    @property
    def text(self) -> str:
        """Its name in sentences."""
        return listing(self.names)


@dataclass(frozen=True, eq=False)
class Criterion:
    """A loss.

    Attributes
    ----------
    name : str
        Of those in LOSSES, or the name of the caller's function.
    function : callable
        Of output and target, both of the shape that torch wants; returns the mean as a scalar.
    own : bool
        Whether the caller gave the function.
    why : str
        A sentence, where nobody asked for this loss.
    plain : bool
        Whether outputs are probabilities or expected counts themselves, rather than logits or logarithms.
    """

    name: str
    function: LossFunction
    own: bool = False
    why: str = ""
    plain: bool = False


def named_loss(name: str) -> str:
    """Return a loss by its own name.

    Raises
    ------
    OptionError
        If there is none.
    """
    known = _ALIASES.get(name, name)
    if known not in LOSSES and name not in AUTO:
        raise OptionError(f"There is no loss {name!r} for a network", remedy=nearest(name, [*LOSSES]))
    return known


def target_of(rows: Rows, names: Sequence[str], loss: Any, width: int | None) -> tuple[Target, Criterion]:
    """Return the target and its loss: the one that was asked for, or the one that belongs to what the columns hold.

    Parameters
    ----------
    rows : Rows
        Without gaps in those columns.
    names : sequence of str
        The columns to predict.
    loss : str or callable
        "auto" (and "squared", which `fit` writes where none is given), a name, or a function of output and target.
    width : int, optional
        How many numbers the module returns for a row, where it is there already.

    Raises
    ------
    DataError
        If there is one class only, or a class cannot be predicted beside another target.
    OptionError
        If the loss does not match the target, or does not exist.
    """
    wanted = _wanted(loss)
    aim, why = _aim(rows, names, wanted, width)
    target = _target(rows, names, aim)
    if callable(loss):
        function: Any = loss
        return target, Criterion(_title(loss), function, own=True, plain=_plain(loss))
    name = (
        wanted
        or {"numbers": "mse", "counts": "poisson", "two classes": "bce", "classes": "cross-entropy"}[aim]
    )
    _check(target, name)
    function = getattr(torch.nn.functional, LOSSES[name][0])
    return target, Criterion(name, function, why=why if wanted is None else "")


def _wanted(loss: object) -> str | None:
    """Return the name of the loss that was asked for; of the losses of torch their name here.

    Raises
    ------
    OptionError
        If it is neither a name nor a function.
    """
    if isinstance(loss, str):
        known = named_loss(loss)
        return None if known in AUTO else known
    if not callable(loss):
        raise OptionError(
            f"loss= is {loss!r}, which is neither a name nor a function",
            remedy=f"Give one of {listing([*LOSSES], 'or')}, or a function of output and target",
        )
    title = _title(loss).lower().replace("_", "").removesuffix("loss")
    known = {
        "mse": "mse", "l1": "mae", "huber": "huber", "smoothl1": "huber", "bcewithlogits": "bce", "bce": "bce",
        "binarycrossentropywithlogits": "bce", "binarycrossentropy": "bce", "crossentropy": "cross-entropy", "nll": "cross-entropy",
        "poissonnll": "poisson",
    }  # fmt: skip
    return known.get(title, "")


def _title(loss: object) -> str:
    return str(getattr(loss, "__name__", type(loss).__name__))


def _plain(loss: object) -> bool:
    """Whether a function of torch takes probabilities or expected counts, not logits or logarithms."""
    title = _title(loss).lower().replace("_", "").removesuffix("loss")
    return title in ("bce", "binarycrossentropy") or getattr(loss, "log_input", True) is False


def _aim(rows: Rows, names: Sequence[str], wanted: str | None, width: int | None) -> tuple[Aim, str]:
    """Return what the target is, and a sentence on the loss that was chosen for it.

    Raises
    ------
    DataError
        If text is to be predicted beside another target.
    """
    texts = [name for name in names if rows.column(name).dtype == object or name in rows.table.categories]
    if texts and len(names) > 1:
        raise DataError(
            f"{texts[0]} is text, and cannot be predicted together with {listing([n for n in names if n != texts[0]])}",
            remedy="Fit a network for each target",
        )
    if wanted:
        return LOSSES[wanted][1], ""
    values = rows.column(names[0])
    if not texts and (len(names) > 1 or wanted == ""):
        return "numbers", f"{listing(tuple(names))} are numbers: the mean squared error"
    if texts:
        return _class_aim(len({v for v in values.tolist() if v is not None}), width, names[0], "text")
    if len(values.shape) > 1:
        return "numbers", f"{names[0]} holds numbers: the mean squared error"
    return _aim_of_numbers(values, width, names[0])


def _class_aim(levels: int, width: int | None, name: str, kind: str) -> tuple[Aim, str]:
    if levels == 2 and width != 2:
        return "two classes", f"{name} holds two classes: the binary cross-entropy of logits (bce)"
    return (
        "classes",
        f"{name} is {kind}, {count(levels, 'class').replace('classs', 'classes')}: the cross-entropy",
    )


def _aim_of_numbers(values: Values, width: int | None, name: str) -> tuple[Aim, str]:
    """Return what a column of numbers is: whole numbers 0 … K-1 or 1 … K, each of them often, are classes."""
    levels, times = np.unique(values, return_counts=True)
    plain = f"{name} holds numbers: the mean squared error"
    if len(levels) == 2 and levels.tolist() == [0, 1] and width in (None, 1):
        return "two classes", f"{name} is 0 or 1: the binary cross-entropy of logits (bce)"
    whole = 2 <= len(levels) <= FEW and float(levels[0]) in (0.0, 1.0)
    if not whole or not np.array_equal(levels - levels[0], np.arange(len(levels))):
        return "numbers", plain
    often = len(values) >= LEAST and times.min() >= SHARE * len(values)
    if width in (None, len(levels)) and len(levels) > (2 if width is None else 1) and (often or width):
        return "classes", f"{name} holds the numbers of {len(levels)} classes: the cross-entropy"
    return "numbers", plain


def _target(rows: Rows, names: Sequence[str], aim: Aim) -> Target:
    """Return the target with its values as numbers.

    Raises
    ------
    DataError
        If there is one class only.
    OptionError
        If words are to be predicted as numbers.
    """
    first = rows.column(names[0])
    if aim in ("two classes", "classes"):
        if names[0] in rows.arrays:  # a class for each place of an image
            return Target(tuple(names), aim, _levels(first), first)
        coded = rows.coded(names[0])
        levels = coded.table.categories[names[0]]
        if len(levels) < 2:
            raise DataError(
                f"{names[0]} holds one class only, {levels[0] if levels else 'none'}: nothing can be told apart",
                remedy="Add rows of another class, or give another target",
            )
        return Target(tuple(names), aim, levels, coded.column(names[0]))
    for name in names:
        if name in rows.table.categories:
            raise OptionError(
                f"{name} is text, and its loss is for numbers",
                remedy='Leave loss= out, or give loss="cross-entropy"',
            )
    if len(names) == 1:
        return Target(tuple(names), aim, (), first)
    return Target(tuple(names), aim, (), np.stack([rows.column(name) for name in names], axis=1))


def _levels(values: Values) -> tuple[str, ...]:
    return tuple(str(int(v)) for v in range(int(values.max()) + 1))


def _check(target: Target, name: str) -> None:
    """Check that a loss can be had of a target.

    Raises
    ------
    OptionError
        If it cannot.
    """
    values, k = target.values, len(target.levels)
    if target.aim == "two classes" and target.levels and k != 2:
        raise OptionError(
            f"loss={name!r} is for two classes, and {target.text} holds {k}",
            remedy='Give loss="cross-entropy"',
        )
    if target.aim == "classes" and k > max(FEW, len(values) // 2):
        raise OptionError(
            f"loss={name!r} is for classes, and {target.text} holds {k} different values in {count(len(values), 'row')}",
            remedy='Give loss="mse"',
        )
    if target.aim == "counts" and ((values < 0).any() or (values != np.rint(values)).any()):
        seen = float(values[(values < 0) | (values != np.rint(values))].flat[0])
        raise OptionError(
            f'loss="poisson" is for counts, and {target.text} holds {seen:g}', remedy='Give loss="mse"'
        )
