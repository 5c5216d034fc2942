"""A ladder of models of growing size, and what one rung of it has shown."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.prepare import Data
from gradfit.splitting import Split

Array = NDArray[np.float64]
Rows = NDArray[np.int64]
Dealt = Sequence[tuple[int, Sequence[Split]]]  # for each seed its folds
#: by seed and fold what each row costs that was fitted, and each that was held out; or their means as one number
Shown = Sequence[Sequence[tuple[Array, Array]]]


class Ladder(Protocol):
    """Models of one kind in growing size."""

    @property
    def sizes(self) -> Sequence[int]:
        """The sizes to try, rising."""
        ...

    @property
    def patience(self) -> int:
        """How many sizes may bring no lower validation loss before growing ends, where nobody says."""
        ...

    @property
    def seeds(self) -> int:
        """How often each size is fitted anew, where nobody says."""
        ...

    @property
    def overfull(self) -> bool:
        """Whether a size may have more parameters than there are rows."""
        ...

    def label(self, size: int) -> str:
        """Return a size in words, as "degree 3"."""
        ...

    def parameters(self, size: int) -> int:
        """Return how many parameters a size has."""
        ...

    def shown(self, sizes: Sequence[int], dealt: Dealt, planned: int) -> Iterator[Shown]:
        """Yield what each size shows, for each seed in each of its folds.

        The rows that are held out take no part in a fit, nor in its scaling.

        Parameters
        ----------
        sizes : sequence of int
            That are looked at in any case, unless a smaller one leaves nothing.
        dealt : sequence of (seed, sequence of Split)
            Seeds, and the folds of each.
        planned : int
            How many sizes there will be at most, with those that come later.
        """
        ...

    def refitted(self, size: int, seed: int) -> Any:
        """Return the result of a size on all rows."""
        ...

    def told(self, size: int) -> str:
        """Return what the parameters of a size are, as a sentence."""
        ...


class ByRows(ABC):
    """A ladder whose fits are given rows, and whose losses are those of rows."""

    @abstractmethod
    def fit(self, size: int, rows: Rows, seed: int) -> object:
        """Return the model of a size, fitted to these rows alone."""

    @abstractmethod
    def losses(self, fitted: object, rows: Rows) -> Array:
        """Return the squared weighted residual of each of these rows (m,)."""

    def shown(self, sizes: Sequence[int], dealt: Dealt, planned: int) -> Iterator[Shown]:
        """Yield what each size shows, one after the other."""
        del planned
        for size in sizes:
            with np.errstate(all="ignore"):
                losses = [[self._losses(size, split, seed) for split in splits] for seed, splits in dealt]
            yield losses

    def _losses(self, size: int, split: Split, seed: int) -> tuple[Array, Array]:
        fitted = self.fit(size, split.train, seed)
        return self.losses(fitted, split.train), self.losses(fitted, split.held)


@dataclass(frozen=True, eq=False)
class Ground:
    """What ladders stand on.

    Attributes
    ----------
    rows : Data
        The rows of the fit.
    x, y : (n,)
        Input and response.
    weight : (n,)
        What residuals are multiplied by: 1/sigma, the root of the weights, or 1.
    left, column : str
        The left side, and the input, as a formula writes them.
    taken : frozenset of str
        Names that no parameter may have: the columns.
    again : callable
        `gradfit.fit` of a model to all rows.
    """

    rows: Data
    x: Array
    y: Array
    weight: Array
    left: str
    column: str
    taken: frozenset[str]
    again: Callable[..., Any]

    def names(self, stem: str, numbers: Sequence[int]) -> list[str]:
        """Return names of parameters, such as c0, c1, c2, none of which is a column."""
        while any(f"{stem}{j}" in self.taken for j in numbers):
            stem += "_"
        return [f"{stem}{j}" for j in numbers]

    def since(self, origin: float) -> str:
        """Return the input counted from an origin, as a formula writes it."""
        if origin == 0:
            return self.column
        return f"({self.column} {'-' if origin > 0 else '+'} {abs(origin)!r})"

    @property
    def span(self) -> float:
        """From the least to the largest input; 1 where all are the same."""
        return float(np.ptp(self.x)) or 1.0


@dataclass(frozen=True, eq=False)
class Rung:
    """One size of a ladder.

    Attributes
    ----------
    size : int
        Degree, or number of terms or hidden units.
    label : str
        The same in words.
    parameters : int
        How many.
    train, validation : float
        Mean loss per row, of rows that were fitted and of rows that were held out; the mean over folds and seeds.
    stderr : float
        Standard error of the validation loss: of the mean over folds, or over rows where one part is held out.
    folds : (seeds, folds)
        Validation loss of each.
    train_folds : (seeds, folds)
        Training loss of each.
    """

    size: int
    label: str
    parameters: int
    train: float
    validation: float
    stderr: float
    folds: Array
    train_folds: Array
