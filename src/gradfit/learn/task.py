"""One training as a value, the way that it went, and what is told of each epoch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gradfit.learn.target import LossFunction
from gradfit.solve.patience import Patience

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types
    from torch.optim import Optimizer  # noqa: TID251  only the names of types

Array = NDArray[np.float64]
State = Mapping[str, "Tensor"]
Ending = Literal["epochs-done", "patience", "stopped", "interrupted", "diverged"]


@dataclass(frozen=True, eq=False)
class Samples:
    """Rows as tensors.

    Attributes
    ----------
    inputs : tuple of (n, ...)
        What the module is called with.
    target : (n, ...)
        What its output is compared with, of the same shape, or codes of classes (n,).
    """

    inputs: "tuple[Tensor, ...]"
    target: "Tensor"

    @property
    def n(self) -> int:
        """Number of rows."""
        return len(self.target)

    def at(self, places: "Tensor | slice") -> "Samples":
        """Return some of the rows."""
        return Samples(tuple([part[places] for part in self.inputs]), self.target[places])

    def to(self, device: str) -> "Samples":
        """Return the rows on a device."""
        return Samples(tuple([part.to(device) for part in self.inputs]), self.target.to(device))


@dataclass(frozen=True, eq=False)
class Choice:
    """An optimizer of torch for the parameters of a module.

    Attributes
    ----------
    name : str
        Of its class.
    make : callable
        Returns a new one for a list of parameters.
    of_torch : bool
        Whether it is known by name or class, with plain settings.
    lr : float
        The learning rate it begins with.
    settings : mapping of str to object
        The others that were given.
    solver : str, type, optimizer or callable
        What was given.
    """

    name: str
    make: "Callable[[list[nn.Parameter]], Optimizer]"
    of_torch: bool
    lr: float
    settings: Mapping[str, object]
    solver: object


@dataclass(frozen=True, eq=False)
class Plan:
    """How to train.

    Attributes
    ----------
    epochs : int
        How often all rows are gone through, at most.
    batch_size : int
        Rows of each update; at least all rows for the full batch.
    scheduler, scheduler_settings
        Of torch.optim.lr_scheduler.
    clip : float, optional
        The largest norm of a gradient.
    noise : float
        Added to the inputs, in standard deviations of each.
    mixup : float
        Both parameters of the beta distribution from which the share of another row is drawn; 0 mixes none.
    patience : Patience
        When to stop, and which state to keep.
    precision : str
        "float32", "float64" or "mixed".
    device : str
        Of torch.
    seed : int
        Of batches, dropout, noise and mixup.
    """

    epochs: int
    batch_size: int
    scheduler: object = None
    scheduler_settings: Mapping[str, object] = field(default_factory=dict[str, object])
    clip: float | None = None
    noise: float = 0.0
    mixup: float = 0.0
    patience: Patience = field(default_factory=Patience)
    precision: str = "float32"
    device: str = "cpu"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Epoch:
    """What a callback is told after each epoch.

    Attributes
    ----------
    epoch, epochs : int
        Its number, from 1, and how many there will be at most.
    loss : float
        Mean over its batches, each before its own update.
    validation : float
        After the epoch, on the rows held out; NaN without any.
    lr : float
        Of the epoch's updates.
    best_epoch : int
        With the lowest validation loss so far; 0 without validation.
    """

    epoch: int
    epochs: int
    loss: float
    validation: float
    lr: float
    best_epoch: int


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be trained, and how.

    Attributes
    ----------
    module : torch.nn.Module
        A copy of our own, on its device; it is trained in place.
    train, held : Samples
        Rows to train on, and rows held out.
    loss : callable
        Of output and target; the mean.
    loss_name : str
        Of LOSSES, or of the caller's function.
    choice : Choice
        The optimizer.
    plan : Plan
        The rest.
    callback : callable, optional
        Called with each Epoch; True stops.
    penalty : callable, optional
        Of the module; added to the loss of each update.
    """

    module: "nn.Module"
    train: Samples
    held: Samples | None
    loss: LossFunction
    loss_name: str
    choice: Choice
    plan: Plan
    callback: Callable[[Epoch], object] | None = None
    penalty: "Callable[[nn.Module], Tensor] | None" = None

    @property
    def updates(self) -> int:
        """Updates that the epochs would make."""
        return self.plan.epochs * -(-self.train.n // min(self.plan.batch_size, self.train.n))


@dataclass(frozen=True, eq=False)
class LossHistory:
    """The losses by epoch.

    Attributes
    ----------
    epoch : (m,) int
        From 1.
    train : (m,)
        Mean over the epoch's batches, each before its own update, as a hand-written loop prints it.
    validation : (m,)
        After the epoch, in eval mode; NaN without rows held out.
    lr : (m,)
        Learning rate of the epoch's updates.
    """

    epoch: NDArray[np.int64]
    train: Array
    validation: Array
    lr: Array

    @classmethod
    def of(cls, epochs: "list[Epoch]") -> "LossHistory":
        """Return the history of epochs."""
        return cls(
            np.array([e.epoch for e in epochs], dtype=np.int64),
            np.array([e.loss for e in epochs], dtype=np.float64),
            np.array([e.validation for e in epochs], dtype=np.float64),
            np.array([e.lr for e in epochs], dtype=np.float64),
        )


@dataclass(frozen=True, eq=False)
class GradientTrail:
    """Sizes of weights and of their gradients on the way, at the first update of some epochs.

    Attributes
    ----------
    layers : tuple of str, (l,)
        Names of the weights, in the module's order.
    epoch : (m,) int
        When.
    gradient, weight : (m, l)
        Root mean squares.
    """

    layers: tuple[str, ...]
    epoch: NDArray[np.int64]
    gradient: Array
    weight: Array


@dataclass(frozen=True, eq=False)
class Course:
    """The way that a training went.

    Attributes
    ----------
    ending : str
        "epochs-done", "patience", "stopped", "interrupted" or "diverged".
    history : LossHistory
        By epoch.
    best_epoch : int
        Of the state handed back, 0 for the start.
    state : mapping of str to tensors
        The state handed back.
    trail : GradientTrail
        Sizes of gradients.
    executor, how : str
        Which way it went, as a word and as a sentence.
    """

    ending: Ending
    history: LossHistory
    best_epoch: int
    state: State
    trail: GradientTrail
    executor: str
    how: str
