"""The state of a training at the end of an epoch, as arrays and plain values, and what is done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Arrays = Mapping[str, NDArray[Any]]  # of any kind of number


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that decides how a training goes on.

    Attributes
    ----------
    way : str
        What made the steps: "torch" or "native".
    done : int
        Epochs.
    arrays : mapping of str to array
        Parameters, the optimizer's state, the history, the state of the shuffling.
    facts : mapping
        The rest, as JSON holds it.
    """

    way: str
    done: int
    arrays: Arrays
    facts: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Keeping:
    """What becomes of the states of a training.

    Attributes
    ----------
    save : callable, optional
        Takes a snapshot.
    every : int
        After how many epochs.
    resume : Snapshot, optional
        From where to go on.
    """

    save: Callable[[Snapshot], object] | None = None
    every: int = 0
    resume: Snapshot | None = None

    def room(self, done: int) -> int:
        """Return how many epochs there are until the next snapshot.

        >>> Keeping(print, 100).room(250), Keeping().room(250) > 10**9
        (50, True)
        """
        return self.every - done % self.every if self.save is not None else 2**62

    def ended(self, done: int, reason: str) -> bool:
        """Whether a snapshot is taken of the end: not of a loss that is no number, and not of one that is kept already."""
        return self.save is not None and reason != "diverged" and done % self.every != 0

    def due(self, done: int) -> bool:
        """Whether a snapshot is taken after so many epochs."""
        return self.save is not None and done % self.every == 0


NOT_KEPT = Keeping()


@dataclass(eq=False)  # filled from epoch to epoch
class Told:
    """The losses that a scheduler was told, epoch after epoch; nothing is kept for one that does not look at them."""

    wanted: bool
    losses: list[float] = field(default_factory=list[float])

    def tell(self, loss: float) -> None:
        """Keep a loss."""
        if self.wanted:
            self.losses.append(loss)

    def again(self, epochs: int) -> list[float]:
        """Return what to tell a new scheduler, to have it where the old one was after so many epochs."""
        return self.losses if self.wanted else [np.nan] * epochs
