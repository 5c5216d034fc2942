"""How long training waits for the held-out loss to fall, and which state of the parameters was the best so far."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf, isfinite
from numbers import Real
from typing import Literal

from gradfit.errors import OptionError
from gradfit.notation import count
from gradfit.solve.problem import ModelProblem

Stop = Literal["best", "last"]


@dataclass(frozen=True)
class Patience:
    """When to stop for want of progress on held-out data, and which parameters to hand back.

    Attributes
    ----------
    epochs : int, optional
        Training ends once so many epochs in a row have brought no progress; None: it never ends for that.
    min_delta : float
        Progress is a held-out loss that is lower than the best by more than this, in the unit of the loss.
    stop : {"best", "last"}
        Whether the parameters with the lowest held-out loss are handed back, or those after the last epoch.

    Raises
    ------
    OptionError
        If a number is out of its range.
    """

    epochs: int | None = None
    min_delta: float = 0.0
    stop: Stop = "best"

    def __post_init__(self) -> None:
        whole = isinstance(self.epochs, int) and not isinstance(self.epochs, bool)
        if self.epochs is not None and not (whole and self.epochs >= 1):
            raise OptionError(
                f"patience is {self.epochs!r}",
                remedy="Give the number of epochs to wait, such as patience=50, or leave it out",
            )
        if not (isinstance(self.min_delta, Real) and 0 <= self.min_delta < inf):
            raise OptionError(f"min_delta is {self.min_delta!r}", remedy="Give 0 or a small positive loss")
        if self.stop not in ("best", "last"):
            raise OptionError(
                f"stop={self.stop!r} is not understood", remedy='Give stop="best" or stop="last"'
            )

    def longer_than(self, epochs: int) -> str:
        """Return a sentence where the run is too short for the patience to end it, else nothing.

        >>> Patience(50).longer_than(20)
        'patience=50 is longer than the run of 20 epochs: it cannot end it'
        """
        if self.epochs is None or self.epochs < epochs:
            return ""
        return f"patience={self.epochs} is longer than the run of {count(epochs, 'epoch')}: it cannot end it"


@dataclass(frozen=True, eq=False)
class Watching:
    """The held-out rows as a problem of the model that is trained, and what is asked of their loss."""

    problem: ModelProblem
    patience: Patience


@dataclass(frozen=True, slots=True)
class Watched:
    """What has been seen of the held-out loss so far; a loss that is no number is never progress.

    Attributes
    ----------
    best : float
        The lowest loss so far; infinite before any.
    best_step : int
        Epochs done when it was seen; -1 before any.
    mark, mark_step : float, int
        The loss that the next progress has to undercut by `min_delta`, and when it was set.
    """

    best: float = inf
    best_step: int = -1
    mark: float = inf
    mark_step: int = 0

    def told(self, step: int, loss: float, patience: Patience) -> Watched:
        """Return what has been seen with the loss after `step` epochs.

        >>> seen = Watched().told(0, 2.0, Patience(3)).told(1, float("nan"), Patience(3))
        >>> seen.best, seen.best_step, seen.ends(2, Patience(3)), seen.ends(3, Patience(3))
        (2.0, 0, False, True)
        """
        if not isfinite(loss):
            return self
        seen = replace(self, best=loss, best_step=step) if loss < self.best else self
        if loss < self.mark - patience.min_delta:
            return replace(seen, mark=loss, mark_step=step)
        return seen

    def ends(self, step: int, patience: Patience) -> bool:
        """Whether patience has run out after `step` epochs."""
        return patience.epochs is not None and step - self.mark_step >= patience.epochs
