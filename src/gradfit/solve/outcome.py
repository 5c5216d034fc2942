"""What a solver hands back: where it ended, why it stopped, and the way it went."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradfit.solve.factor import Factor, Inverse

Array = NDArray[np.float64]
Status = Literal[
    "converged", "max-iterations", "epochs-done", "early-stopped", "interrupted", "diverged", "stalled", "singular"
]  # fmt: skip
Point = tuple[int, float, ArrayLike, ArrayLike]  # step, loss, its gradient (k,), parameters (k,)


def round_stride(total: int, most: int) -> int:
    """Return the least of 1, 2, 5, 10, 20, 50 … that divides `total` steps into at most `most` strides.

    >>> round_stride(5000, 10), round_stride(999, 10), round_stride(3, 10)
    (500, 100, 1)
    """
    needed, decade = max(ceil(total / most), 1), 1
    while True:
        for digit in (1, 2, 5):
            if digit * decade >= needed:
                return digit * decade
        decade *= 10


def kept_steps(total: int) -> NDArray[np.int64]:
    """Return which of the steps 0 … `total` a history keeps: all up to 1,000, else fewer than 1,000.

    A long run keeps 300 steps evenly spaced on a log axis, where the early fall of a loss is seen, and every step at
    a round number together with the one before it, so that changes from step to step stay visible to the end.

    >>> len(kept_steps(1000)), len(kept_steps(5000)), len(kept_steps(10**7))
    (1001, 695, 663)
    """
    if total <= 1000:
        return np.arange(total + 1)
    even = np.arange(0, total + 1, round_stride(total, 350))
    log = np.rint(np.geomspace(1, total, 300)).astype(np.int64)
    return np.unique(np.concatenate([even, even[1:] - 1, log, [total]]))


@dataclass(frozen=True, eq=False)
class History:
    """The way a solver went: at each kept step the loss, its gradient and the parameters, all at the same point.

    Attributes
    ----------
    step : (m,) int
        Iterations or epochs done: 0 is the start. What a hand-written training loop prints as the loss of epoch n
        is the loss before that epoch's update, so it stands at step n - 1.
    loss : (m,)
        The loss there.
    gradient : (m, k)
        Of the loss with respect to the free parameters.
    parameters : (m, k)
        The free parameters.
    """

    step: NDArray[np.int64]
    loss: Array
    gradient: Array
    parameters: Array

    @classmethod
    def of(cls, points: Sequence[Point]) -> "History":
        """Return the history of points in order of their steps; over 1,001 are thinned to `kept_steps`."""
        if not points:
            empty = np.zeros((0, 0))
            return cls(np.zeros(0, dtype=np.int64), np.zeros(0), empty, empty)
        step = np.array([step for step, _, _, _ in points], dtype=np.int64)
        loss = np.array([loss for _, loss, _, _ in points], dtype=np.float64)
        gradient = np.array([gradient for _, _, gradient, _ in points], dtype=np.float64)
        parameters = np.array([parameters for _, _, _, parameters in points], dtype=np.float64)
        if len(points) <= 1001:
            return cls(step, loss, gradient, parameters)
        kept = np.isin(step, kept_steps(points[-1][0]))
        kept[0] = True
        return cls(step[kept], loss[kept], gradient[kept], parameters[kept])


@dataclass(frozen=True, eq=False)
class HeldCourse:
    """What the mean loss over held-out rows was on the way of a training.

    Attributes
    ----------
    step : (m,) int
        Epochs done: those that the history keeps, and the last.
    loss : (m,)
        Over the held-out rows, at the parameters of that step.
    best_step : int
        The step with the lowest loss of all, kept or not; -1 where none was finite.
    best_loss : float
        That loss.
    best : (k,)
        The free parameters there; those of the last step where there is none.
    last : (k,)
        The free parameters after the last epoch.
    returned : int
        Epochs done at the parameters that the outcome has.
    stopped : bool
        Whether patience ended the run.
    """

    step: NDArray[np.int64]
    loss: Array
    best_step: int
    best_loss: float
    best: Array
    last: Array
    returned: int
    stopped: bool


@dataclass(frozen=True, eq=False)
class Outcome:
    """Where a solver ended and why.

    Attributes
    ----------
    parameters : (k,)
        The free parameters.
    loss : float
        The loss at them, over all rows.
    status : str
        Why the solver stopped: "converged", "max-iterations", "epochs-done", "early-stopped" (at the parameters with the
        lowest loss over held-out rows), "interrupted", "diverged", "stalled" or "singular".
    message : str
        The same as one sentence with its numbers.
    iterations : int
        Iterations or epochs done.
    evaluations : int
        How often the loss was computed.
    points : sequence of (step, loss, gradient, parameters), or what returns it
        The way there; a callable is asked when somebody wants to see it.
    end : (residuals, Jacobian), optional
        Weighted, (n,) and (n, k), at the parameters, where the solver has them at no cost.
    factor : Factor or Inverse, optional
        Of that Jacobian, scaled by its own column lengths. An `Inverse` says as well that `loss` is the sum of squares at
        the parameters: errors follow from these two alone.
    held : HeldCourse, optional
        The loss over held-out rows on the way, where training looked at it.
    by : str
        What evaluated the model, empty for the problem's own kernel.
    """

    parameters: Array
    loss: float
    status: Status
    message: str
    iterations: int
    evaluations: int
    points: Sequence[Point] | Callable[[], Sequence[Point]] = ()
    end: tuple[Array, Array] | None = None
    factor: Factor | Inverse | None = None
    held: HeldCourse | None = None
    by: str = ""

    @cached_property
    def history(self) -> History:
        """The way there, thinned."""
        return History.of(self.points() if callable(self.points) else self.points)

    @property
    def converged(self) -> bool:
        """Whether the parameters are those of a minimum."""
        return self.status == "converged"
