"""First-order training: the loop of PyTorch's optimizers on the parameters of one fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import isfinite
from numbers import Real
from typing import Literal, Protocol

import numpy as np
from numpy.typing import ArrayLike

from gradfit._lazy import torch
from gradfit.errors import ModelError, OptionError
from gradfit.solve.ending import Course, Reason, ending, trail_row
from gradfit.solve.optimizers import (
    Layout,
    Recipe,
    needs_closure,
    optimizer_names,
    optimizer_recipe,
    schedule,
)
from gradfit.solve.outcome import Array, Outcome, kept_steps, round_stride
from gradfit.solve.surface import TorchSurface

__all__ = ["Descent", "Objective", "Progress", "descend", "epoch_lines", "optimizer_names"]


@dataclass(frozen=True)
class Descent:
    """First-order training with any optimizer of torch, as a value.

    Attributes
    ----------
    optimizer : str, type, torch.optim.Optimizer or callable
        Its name in torch.optim, its class, an instance (class and settings are taken, the instance itself and its
        tensors stay untouched), or a function that makes one from a list of tensors (called more than once).
    lr : float, optional
        The learning rate; torch's default of that optimizer when it is left out.
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
    lr: float | None = None
    epochs: int = 1000
    batch_size: int | None = None
    scheduler: str | Callable[..., object] | None = None
    scheduler_settings: Mapping[str, object] = field(default_factory=dict[str, object])
    settings: Mapping[str, object] = field(default_factory=dict[str, object])
    dtype: Literal["float64", "float32"] = "float64"
    seed: int = 0

    def __post_init__(self) -> None:
        if self.lr is not None and not (_is_number(self.lr) and self.lr > 0):
            raise OptionError(f"lr is {self.lr!r}.", remedy="Give a positive number, such as lr=0.01.")
        batch = 1 if self.batch_size is None else self.batch_size
        for name, value, least in (
            ("epochs", self.epochs, 1),
            ("batch_size", batch, 1),
            ("seed", self.seed, 0),
        ):
            if not (_is_number(value) and value == int(value) and value >= least):
                raise OptionError(f"{name} is {value!r}.", remedy=f"Give a whole number from {least} up.")
        if self.dtype not in ("float64", "float32"):
            raise OptionError(f"dtype is {self.dtype!r}.", remedy='Give "float64" or "float32".')
        if "lr" in self.settings:
            raise OptionError("lr is among the optimizer's settings.", remedy="Give it as lr.")


class Objective(Protocol):
    """What a descent makes small."""

    @property
    def rows(self) -> int:
        """Number of observations."""
        ...

    def loss(self, parameters: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        """Return the mean loss, a scalar, at parameters (k,) over rows (indices), or over all rows for None."""
        ...


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
    """

    epoch: int
    epochs: int
    loss: float
    gradient: Array
    parameters: Array
    evaluations: int


def descend(
    objective: Objective,
    start: ArrayLike,
    descent: Descent,
    *,
    callback: Callable[[Progress], object] | None = None,
    lower: ArrayLike | None = None,
    upper: ArrayLike | None = None,
) -> Outcome:
    """Return where the optimizer has gone from `start`, with the way there.

    Each epoch is what a careful hand-written loop does: the gradient is zeroed, the loss is differentiated, the
    optimizer makes its step without a graph, the scheduler is told. The outcome's parameters are those after the last
    epoch; only a run that diverged or was interrupted returns the best parameters that it has seen.

    `converged` is not a matter of how little the loss still changes, for a step that is too small changes nothing
    either. It is said when one Newton step from the last parameters would win next to nothing: see `ending`.

    Parameters
    ----------
    objective : Objective
        Gives the number of rows and the loss.
    start : (k,)
        Where to begin.
    descent : Descent
        The optimizer and its settings.
    callback : callable, optional
        Called after each epoch; the descent stops when it returns True.
    lower, upper : (k,), optional
        Bounds. After each step the parameters that left them are put back onto them, without a graph (projection);
        an optimizer that evaluates several points within one step, such as LBFGS, may look beyond them on the way.

    Raises
    ------
    OptionError
        If there is no such optimizer, scheduler or setting, or the start is not inside the bounds.
    ModelError
        If the loss does not depend on the parameters through torch.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():  # whatever the caller has switched off
        training = _Training.begin(objective, descent, Box.of(start, lower, upper))
        return ending(TorchSurface(objective.loss, training.leaf.dtype), _run(training, callback))


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
            _ = write(f"Epoch {number}, Loss {progress.loss:{'f' if plain else '.6e'}}")

    return line


def _is_number(value: object) -> bool:
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


@dataclass(frozen=True, eq=False)
class _Training:
    """Everything that an epoch needs; the tensor and the optimizer in it change in place, as torch wants it."""

    objective: Objective
    descent: Descent
    box: Box
    title: str
    layout: Layout
    leaf: torch.Tensor  # (k,) or (k, 1)
    optimizer: torch.optim.Optimizer
    with_closure: bool
    tell: Callable[[float], object]  # the scheduler, how large the loss is
    shuffle: torch.Generator
    bounds: tuple[torch.Tensor, torch.Tensor] | None

    @classmethod
    def begin(cls, objective: Objective, descent: Descent, box: Box) -> _Training:
        """Return the training at its start.

        Raises
        ------
        OptionError
            If optimizer, scheduler or their settings are wrong, or the start is too large for the dtype.
        """
        dtype = torch.float64 if descent.dtype == "float64" else torch.float32
        size, epochs = box.start.size, int(descent.epochs)
        recipe = recipe_of(descent, size)
        start = torch.tensor(box.start, dtype=dtype, device="cpu")
        if not start.isfinite().all():
            raise OptionError(
                f"The start {box.start} is too large for {descent.dtype}.", remedy="Use float64."
            )
        leaf = (start[:, None] if recipe.layout == "column" else start).requires_grad_()
        optimizer = recipe.make(leaf)
        title = title_of(recipe.name, optimizer, descent)  # before the scheduler, which may change lr at once
        return cls(
            objective=objective,
            descent=descent,
            box=box,
            title=title,
            layout=recipe.layout,
            leaf=leaf,
            optimizer=optimizer,
            with_closure=needs_closure(optimizer),
            tell=schedule(
                descent.scheduler, settings=descent.scheduler_settings, optimizer=optimizer, epochs=epochs
            ).tell,
            shuffle=torch.Generator(device="cpu").manual_seed(int(descent.seed)),
            bounds=box.tensors(dtype),
        )

    def parameters(self) -> Array:
        """Return a copy of the parameters (k,) as they are now, in float64."""
        return _copied(self.leaf)

    def epochs(self) -> Iterator[Progress]:
        """Yield each epoch after its updates, with the loss and the parameters before them."""
        evaluations, epochs, rows = 0, int(self.descent.epochs), self.objective.rows
        size = int(self.descent.batch_size or rows)
        for epoch in range(1, epochs + 1):
            before = self.parameters()
            loss, gradient, used = self._batches(rows, size) if size < rows else self._update(None)
            _ = self.tell(loss)
            evaluations += used
            yield Progress(epoch, epochs, loss, gradient, before, evaluations)

    def _batches(self, rows: int, size: int) -> tuple[float, Array, int]:
        """Return loss and gradient as means over the batches, and the number of losses computed."""
        order = torch.randperm(rows, generator=self.shuffle, device="cpu")
        total, slope, evaluations = 0.0, np.zeros(self.leaf.numel()), 0
        for batch in torch.split(order, size):
            loss, gradient, used = self._update(batch)
            share = len(batch) / rows
            total, slope, evaluations = total + share * loss, slope + share * gradient, evaluations + used
        return total, slope, evaluations

    def _update(self, rows: torch.Tensor | None) -> tuple[float, Array, int]:
        """Make one step; return loss and gradient before it, and how many losses it took."""
        seen: list[tuple[float, Array]] = []

        def closure() -> float:
            seen.append(self._differentiated(rows))
            return seen[-1][0]

        if self.with_closure:
            _ = self.optimizer.step(closure)
        else:
            _ = closure()
            self.optimizer.step()
        if self.bounds is not None:
            _ = self.leaf.detach().view(-1).clamp_(*self.bounds)
        return *seen[0], len(seen)

    def _differentiated(self, rows: torch.Tensor | None) -> tuple[float, Array]:
        """Return the loss and its gradient, and leave the gradient where the optimizer looks for it.

        Raises
        ------
        ModelError
            If the loss has no gradient with respect to the parameters.
        """
        self.optimizer.zero_grad()
        loss = self.objective.loss(self.leaf[:, 0] if self.layout == "column" else self.leaf, rows)
        if loss.requires_grad:
            torch.autograd.backward(loss)
        gradient = self.leaf.grad
        if gradient is None:
            raise ModelError(
                "The loss does not depend on the parameters in a way that torch can differentiate.",
                remedy="Use the parameters in the model, by torch functions.",
            )
        if self.layout == "sparse":
            self.leaf.grad = gradient.to_sparse()
        return loss.item(), _copied(gradient)


def _copied(tensor: torch.Tensor) -> Array:
    return tensor.detach().view(-1).numpy().astype(np.float64)


def recipe_of(descent: Descent, size: int) -> Recipe:
    """Return how a descent's optimizer is made for so many parameters.

    Raises
    ------
    OptionError
        If there is no such optimizer or setting.
    """
    return optimizer_recipe(
        descent.optimizer,
        lr=None if descent.lr is None else float(descent.lr),
        settings=descent.settings,
        size=size,
        dtype=torch.float64 if descent.dtype == "float64" else torch.float32,
    )


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


def _run(training: _Training, callback: Callable[[Progress], object] | None) -> Course:
    """Return what the epochs have done; a Ctrl-C at any time ends them."""
    box, planned = training.box, int(training.descent.epochs)
    kept = set(map(int, kept_steps(planned)))
    rows: list[Array] = []
    last = best = None
    reason: Reason = "done"
    try:
        for now in training.epochs():
            last, stop = now, callback is not None and callback(now) is True
            if not isfinite(now.loss):
                reason = "diverged"
                break
            if best is None or now.loss < best.loss:
                best = now
            if now.epoch - 1 in kept:
                rows.append(trail_row(*_point(now)))
            if stop:
                reason = "stopped"
                break
    except KeyboardInterrupt:
        reason = "interrupted"
    if last is not None and isfinite(last.loss) and last.epoch - 1 not in kept:
        rows.append(trail_row(*_point(last)))
    return Course(
        reason=reason,
        title=training.title,
        rows=training.objective.rows,
        epochs=0 if last is None else last.epoch,
        planned=planned,
        evaluations=0 if last is None else last.evaluations,
        start=box.start,
        parameters=np.clip(training.parameters(), box.lower, box.upper),
        lower=box.lower,
        upper=box.upper,
        best=None if best is None else _point(best),
        trail=np.array(rows).reshape(len(rows), 2 + 2 * box.start.size),
    )


def _point(now: Progress) -> tuple[int, float, Array, Array]:
    return now.epoch - 1, now.loss, now.gradient, now.parameters
