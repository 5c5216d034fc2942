"""First-order training: the loop of PyTorch's optimizers on the parameters of one fit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from numbers import Real
from typing import Literal, Protocol, TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.solve.optimizers import (
    Recipe,
    optimizer_names,
    optimizer_recipe,
)
from gradfit.solve.outcome import Array, round_stride
from gradfit.solve.patience import Patience

__all__ = ["Descent", "Objective", "Progress", "epoch_lines", "optimizer_names"]


@dataclass(frozen=True)
class Descent:
    """First-order training with any optimizer of torch, as a value.

    Attributes
    ----------
    optimizer : str, type, torch.optim.Optimizer or callable
        Its name in torch.optim, its class, an instance (class and settings are taken, the instance itself and its
        tensors stay untouched), or a function that makes one from a list of tensors (called more than once).
    lr : float or "auto", optional
        The learning rate; torch's default of that optimizer when it is left out. "auto" finds one, by curvature or by a
        range test (`gradfit.fit` does).
    epochs : int
        How often all rows are gone through; all epochs are done unless the loss overflows or the callback stops.
    batch_size : int, optional
        Rows per update; all rows at once when it is left out. The order is drawn anew for each epoch, from `seed`.
    scheduler : str, type or callable, optional
        Changes the learning rate after each epoch: a name of torch.optim.lr_scheduler, a class, or a function of the
        optimizer. ReduceLROnPlateau gets the loss of the epoch.
    scheduler_settings : mapping
        Keyword arguments of a scheduler given by name or class.
    settings : mapping
        Keyword arguments of an optimizer given by name, class or instance: momentum, betas, weight_decay …
    dtype : {"float64", "float32"}
        Of the parameters while they are trained.
    seed : int
        Of the order of mini-batches. Torch's own random state is neither read nor changed.

    Raises
    ------
    OptionError
        If a number is out of its range. Names and settings are checked by `descend`, which asks torch.
    """

    optimizer: str | type | torch.optim.Optimizer | Callable[..., object]
    lr: float | Literal["auto"] | None = None
    epochs: int = 1000
    batch_size: int | None = None
    scheduler: str | Callable[..., object] | None = None
    scheduler_settings: Mapping[str, object] = field(default_factory=dict[str, object])
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    dtype: Literal["float64", "float32"] = "float64"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lr not in (None, "auto") and not (_is_number(self.lr) and self.lr > 0):
            raise OptionError(
                f"lr is {self.lr!r}.", remedy='Give a positive number, such as lr=0.01, or "auto".'
            )
        batch = 1 if self.batch_size is None else self.batch_size
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("batch_size", batch, 1),
            ("seed", self.seed, 0),
        ):
            if not (_is_number(value) and least <= value < 2**63 and value == int(value)):
                raise OptionError(f"{name} is {value!r}.", remedy=f"Give a whole number from {least} up.")
        if self.dtype not in ("float64", "float32"):
            raise OptionError(f"dtype is {self.dtype!r}.", remedy='Give "float64" or "float32".')
        if "lr" in self.settings:
            raise OptionError("lr is among the optimizer's settings.", remedy="Give it as lr.")

    @property
    def rate(self) -> float | None:
        """The learning rate as a number; None where torch's default, or one that is yet to be found, is meant."""
        return None if self.lr is None or isinstance(self.lr, str) else float(self.lr)


class Objective(Protocol):
    """What a descent makes small."""

    @property
    def rows(self) -> int:
        """Number of observations."""
        ...

    def loss(self, parameters: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        """Return the mean loss, a scalar, at parameters (k,) over rows (indices), or over all rows for None."""
        ...


#: the objective of one update, drawn for the rows (indices, None: all) of that update
Drawn = Callable[["torch.Tensor | None", "torch.Generator"], Objective]


@dataclass(frozen=True, slots=True)
class Progress:
    """One epoch, as a hand-written loop sees it: the loss is that before the epoch's update.

    Attributes
    ----------
    epoch, epochs : int
        Its number, from 1, and how many there will be.
    loss : float
        At `parameters`. With mini-batches it is the mean over the epoch's batches, each before its own update,
        and so is the gradient.
    gradient, parameters : (k,)
        Before the epoch's update.
    evaluations : int
        Losses computed so far.
    validation : float
        The mean loss over the held-out rows at `parameters`; NaN where there are none.
    lr : float
        Of the epoch's updates, in the units that the loop works in.
    largest_stable : callable, optional
        Returns the largest stable learning rate at `parameters`, from the Hessian there; None where no law is known.
    """

    epoch: int
    epochs: int
    loss: float
    gradient: Array
    parameters: Array
    evaluations: int
    validation: float = nan
    lr: float = nan
    largest_stable: Callable[[], float] | None = None


@dataclass(frozen=True, eq=False)
class HeldOut:
    """Rows that are looked at before each epoch, and never trained on.

    Attributes
    ----------
    objective : Objective
        Their loss, which is never differentiated.
    patience : Patience
        When to stop for it, and which parameters to return.
    """

    objective: Objective
    patience: Patience


def epoch_lines(write: Callable[[str], object], every: int | None = None) -> Callable[[Progress], None]:
    """Return a callback that writes lines such as "Epoch 500, Loss 7.860124".

    Epochs 1, 2 and 3 are written, then every `every`-th and the last; without `every` it is a round number that gives
    about ten lines.
    """

    def line(progress: Progress) -> None:
        stride = every or round_stride(progress.epochs, 10)
        number = progress.epoch
        if number <= 3 or number % stride == 0 or number == progress.epochs:
            plain = 1e-3 <= abs(progress.loss) < 1e9 or not isfinite(progress.loss)
            held = progress.validation
            said = "" if np.isnan(held) else f", Validation {held:{'f' if plain else '.6e'}}"
            _ = write(f"Epoch {number}, Loss {progress.loss:{'f' if plain else '.6e'}}{said}")

    return line


def _is_number(value: object) -> TypeGuard[float]:
    return not isinstance(value, bool) and isinstance(value, Real) and isfinite(value)


@dataclass(frozen=True, eq=False)
class Box:
    """Where the parameters begin and between which bounds they stay, (k,) each; infinite where there is none."""

    start: Array
    lower: Array
    upper: Array

    @classmethod
    def of(cls, start: ArrayLike, lower: ArrayLike | None, upper: ArrayLike | None) -> Box:
        """Return the box in float64.

        Raises
        ------
        OptionError
            If there is no parameter, a value is not a number, or the start is not between the bounds.
        """
        begin = np.array(start, dtype=np.float64)
        if begin.ndim != 1 or not begin.size or not np.isfinite(begin).all():
            raise OptionError(
                f"The start is {start!r}.", remedy="Give a finite number for each free parameter."
            )
        low = np.full_like(begin, -np.inf) if lower is None else np.array(lower, dtype=np.float64)
        high = np.full_like(begin, np.inf) if upper is None else np.array(upper, dtype=np.float64)
        if low.shape != begin.shape or high.shape != begin.shape:
            raise OptionError(
                f"The bounds have shapes {low.shape} and {high.shape}, the start has {begin.shape}.",
                remedy="Give one bound for each parameter, infinity where there is none.",
            )
        inside = (low <= begin) & (begin <= high)
        if not inside.all():
            at = int(np.argmin(inside))
            raise OptionError(
                f"Parameter {at + 1} starts at {begin[at]:g}, outside its bounds [{low[at]:g}, {high[at]:g}].",
                remedy="Start inside the bounds.",
            )
        return cls(begin, low, high)

    def tensors(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor] | None:
        """Return the bounds for torch, None where no parameter has one."""
        if np.isinf(self.lower).all() and np.isinf(self.upper).all():
            return None
        low, high = (torch.tensor(bound, dtype=dtype, device="cpu") for bound in (self.lower, self.upper))
        return low, high


def recipe_of(descent: Descent, size: int) -> Recipe:
    """Return how a descent's optimizer is made for so many parameters.

    Raises
    ------
    OptionError
        If there is no such optimizer or setting.
    """
    return optimizer_recipe(
        descent.optimizer,
        lr=descent.rate,
        settings=descent.settings,
        size=size,
        dtype=torch.float64 if descent.dtype == "float64" else torch.float32,
    )


def sample_optimizer(descent: Descent, size: int) -> tuple[Recipe, torch.optim.Optimizer]:
    """Return how a descent's optimizer is made for so many parameters, and one of zeros.

    Raises
    ------
    OptionError
        If there is no such optimizer or setting.
    """
    recipe = recipe_of(descent, size)
    shape = (size, 1) if recipe.layout == "column" else (size,)
    return recipe, recipe.make(torch.zeros(shape, dtype=torch.float64, device="cpu").requires_grad_())


def optimizer_settings(descent: Descent, size: int) -> tuple[str, Mapping[str, object]]:
    """Return the name of a descent's optimizer and all its settings, torch's defaults among them.

    Raises
    ------
    OptionError
        If there is no such optimizer or setting.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        _, optimizer = sample_optimizer(descent, size)
    settings: Mapping[str, object] = optimizer.param_groups[0]
    return type(optimizer).__name__, {k: v for k, v in settings.items() if k != "params"}


def title_of(name: str, optimizer: torch.optim.Optimizer, descent: Descent) -> str:
    """Return the optimizer's name with its learning rate, for sentences."""
    lr: object = optimizer.param_groups[0].get("lr")
    number = lr.item() if isinstance(lr, torch.Tensor) else lr
    if not isinstance(number, Real):
        return name
    own = descent.lr is None and isinstance(descent.optimizer, str | type)
    return with_rate(name, float(number), of_torch=own)


def with_rate(name: str, rate: float, *, of_torch: bool = False) -> str:
    """Return an optimizer's name with its learning rate, given or torch's default."""
    whose = "torch's default " if of_torch else ""
    return f"{name} ({whose}lr {rate:g})"
