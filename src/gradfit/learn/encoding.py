"""How rows become the tensors that a network is called with, and its outputs numbers in the unit of the target."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import DataError
from gradfit.learn.rows import Rows
from gradfit.learn.target import Target
from gradfit.notation import significant

if TYPE_CHECKING:
    from torch import Tensor  # noqa: TID251  only the name of a type

Array = NDArray[np.float64]
Values = NDArray[Any]

MOST_ONE_HOT = 8  # levels; of more, "auto" makes an embedding


@dataclass(frozen=True, eq=False)
class Encoding:
    """The way from columns to tensors.

    Attributes
    ----------
    names : tuple of str
        The inputs, in order.
    levels : mapping of str to tuple of str
        Of inputs that are text.
    embedded : tuple of str
        Those of them that come in as codes, for an embedding; the others are one-hot.
    deep : tuple of str
        Inputs with more axes than one.
    flat : bool
        Whether those are laid out as columns of numbers too.
    mean, spread : mapping of str to arrays
        What is taken away from an input and divided by; empty where inputs are taken as they are.
    center, scale : (t,), optional
        The same of the targets; none where they are taken as they are.
    origins : mapping of str to str
        From where columns of dates are counted.
    whole : frozenset of str
        Inputs that a module wants as whole numbers.
    """

    names: tuple[str, ...]
    levels: Mapping[str, tuple[str, ...]]
    embedded: tuple[str, ...]
    deep: tuple[str, ...]
    flat: bool
    mean: Mapping[str, Array]
    spread: Mapping[str, Array]
    center: Array | None = None
    scale: Array | None = None
    origins: Mapping[str, str] = field(default_factory=dict[str, str])
    whole: frozenset[str] = frozenset()

    @property
    def standardised(self) -> bool:
        """Whether the network sees inputs of mean 0 and standard deviation 1."""
        return bool(self.mean)

    @property
    def width(self) -> int:
        """How many numbers a row has, without embeddings; -1 for deep inputs that stay as they are."""
        if self.deep and not self.flat:
            return -1
        sizes = [
            len(self.levels[n]) if n in self.levels else self.mean[n].size
            for n in self.names
            if n not in self.embedded
        ]
        return sum(sizes)

    # ------------------------------------------------------------------ inputs

    def coded(self, rows: Rows) -> Rows:
        """Return rows with finite numbers, and codes for the known levels of text.

        Raises
        ------
        DataError
            If a column is missing, a level is unknown, or a cell holds no number.
        """
        rows.require(self.names)
        for name, levels in self.levels.items():
            rows = rows.coded(name, levels)
        return rows.numeric(self.names, missing="error")

    def tensors(self, rows: Rows, dtype: "torch.dtype") -> "tuple[Tensor, ...]":
        """Return what the network is called with, each (n, ...), from rows with codes.

        Raises
        ------
        DataError
            If a number is too large for the type.
        """
        made = [self._tensor([self._values(rows, name) for name in part], dtype) for part in self._stacks()]
        if self.embedded:
            codes = np.stack([rows.column(name) for name in self.embedded], axis=1)
            made.append(torch.as_tensor(codes.astype(np.int64)))
        return tuple(made)

    def _stacks(self) -> list[list[str]]:
        """Return the inputs of each tensor: neighbouring columns are stacked, a deep input is one by itself."""
        stacks: list[list[str]] = []
        open_one = False
        for name in self.names:
            if name in self.embedded:
                continue
            alone = name in self.deep and not self.flat
            if alone or not open_one:
                stacks.append([])
            stacks[-1].append(name)
            open_one = not alone
        return stacks

    def _values(self, rows: Rows, name: str) -> Values:
        """Return one input as numbers, (n, k) but for deep ones."""
        values = rows.column(name)
        if name in self.levels:
            return np.asarray(values[:, None] == np.arange(len(self.levels[name])), dtype=np.float64)
        if name in self.whole:
            values = values.astype(np.int64)
        elif values.dtype.kind in "iu":
            values = values.astype(np.float64)
        values = values if name in self.deep and not self.flat else values.reshape(len(values), -1)
        return (values - self.mean[name]) / self.spread[name] if name in self.mean else values

    def _tensor(self, part: list[Values], dtype: "torch.dtype") -> "Tensor":
        values = part[0] if len(part) == 1 else np.concatenate(part, axis=1)
        if values.dtype.kind in "iu":
            return torch.as_tensor(values)
        with np.errstate(over="ignore"):
            made = torch.tensor(values, dtype=dtype)
        if not bool(made.isfinite().all()):
            largest = float(np.abs(values).max())
            raise DataError(
                f"The inputs hold {significant(largest)}, which is too large for {str(dtype).removeprefix('torch.')}",
                remedy='Give scale="auto", or precision="float64"',
            )
        return made

    # ------------------------------------------------------------------ targets

    def target_tensor(self, target: Target, places: NDArray[np.int64], dtype: "torch.dtype") -> "Tensor":
        """Return the target at some rows as the loss wants it: numbers (standardised), or codes as int64.

        Raises
        ------
        DataError
            If a number is too large for the type.
        """
        values = target.values[places]
        if target.aim == "classes":
            return torch.as_tensor(values.astype(np.int64))
        values = values.astype(np.float64)
        if self.center is not None and self.scale is not None:
            with np.errstate(over="ignore"):  # what is not finite is refused below
                values = (values - self.center.reshape(_broad(self.center, values))) / self.scale.reshape(
                    _broad(self.scale, values)
                )
        made = torch.tensor(values, dtype=dtype)
        if not bool(made.isfinite().all()):
            raise DataError(
                f"{target.text} holds {significant(float(np.abs(target.values).max()))}, which is too large for "
                f"{str(dtype).removeprefix('torch.')}",
                remedy='Give scale="auto", or precision="float64"',
            )
        return made

    def in_units(self, output: Array) -> Array:
        """Return outputs (n, ...) of the network in the unit of the target."""
        if self.center is None or self.scale is None:
            return output
        with np.errstate(over="ignore"):
            scaled = output * self.scale.reshape(_broad(self.scale, output))
        return scaled + self.center.reshape(_broad(self.center, output))


def _broad(constants: Array, values: Values) -> tuple[int, ...]:
    return (constants.size,) if values.ndim > 1 and constants.size > 1 else (1,) * max(values.ndim, 1)


# ---------------------------------------------------------------------------- from the training rows


def encoding_of(
    rows: Rows,
    names: Sequence[str],
    target: Target,
    train: NDArray[np.int64],
    *,
    scale: bool,
    categories: str,
    flat: bool,
    whole: frozenset[str] = frozenset(),
) -> Encoding:
    """Return the encoding whose constants come from the training rows alone.

    Parameters
    ----------
    rows : Rows
        All rows, with codes in columns of text.
    train : (m,) int
        The places of the training rows.
    scale : bool
        Whether numbers are standardised, the targets too where they are numbers.
    categories : str
        "one-hot", "embedded" or "auto".
    flat : bool
        Whether inputs with more axes are laid out as columns.
    whole : frozenset of str
        Inputs that the module wants as whole numbers.
    """
    levels = {name: rows.table.categories[name] for name in names if name in rows.table.categories}
    many = {"auto": MOST_ONE_HOT, "one-hot": np.inf, "embedded": 0}[categories]
    embedded = tuple([name for name in names if name in levels and len(levels[name]) > many])
    deep = tuple([name for name in names if name in rows.arrays])
    mean, spread = dict[str, Array](), dict[str, Array]()
    for name in names:
        if name in levels or name in whole or not (scale or flat):
            continue
        mean[name], spread[name] = _constants(
            rows.column(name)[train], scale=scale, flat=flat or name not in deep
        )
    center = spread_of = None
    if scale and target.aim == "numbers":
        center, spread_of = _constants(target.values[train], scale=True, flat=target.values.ndim <= 2)
    origins = {name: since for name, since in rows.table.origins.items() if name in names}
    return Encoding(
        tuple(names), levels, embedded, deep, flat, mean, spread, center, spread_of, origins, whole
    )


def _constants(values: Values, *, scale: bool, flat: bool) -> tuple[Array, Array]:
    """Return mean and standard deviation by column, or of all numbers together where `flat` is false."""
    columns = values.reshape(len(values), -1) if flat else values.reshape(-1, 1)
    if not scale:
        return np.zeros(columns.shape[1]), np.ones(columns.shape[1])
    columns = columns.astype(np.float64)
    size = np.maximum(np.abs(columns).max(axis=0), 1e-300)  # squares of large numbers overflow
    mean = (columns / size).mean(axis=0)
    deviation = np.sqrt(np.mean((columns / size - mean) ** 2, axis=0))
    deviation = np.where(deviation > 1e-12, deviation, 1.0)  # a constant column stays constant
    return mean * size, deviation * size
