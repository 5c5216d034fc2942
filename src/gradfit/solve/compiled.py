"""First-order training by a compiled loop over epochs: the same course as the loop in torch, without its overhead."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.native.epochs import Plan
from gradfit.native.train import Training
from gradfit.solve.descent import Box, Descent, Progress
from gradfit.solve.ending import Course, Reason, trail_row
from gradfit.solve.optimizers import Maker, Schedule, schedule
from gradfit.solve.outcome import Array, kept_steps
from gradfit.solve.problem import ModelProblem

SECONDS = 0.05  # between looks for a Ctrl-C, about
_MOST_ORDER = 1_000_000  # row numbers that are drawn ahead


class UnfitError(Exception):
    """A scheduler changes more than the learning rate, which the compiled loop holds fixed; the message says what."""


@dataclass(frozen=True, eq=False)
class Loop:
    """A loop and what it is called with.

    Attributes
    ----------
    plan : Plan
        Of the code.
    make : callable
        Returns a new optimizer for a tensor: schedulers set its learning rate.
    rate : float
        The learning rate at the start.
    name, title : str
        The optimizer, alone and with its learning rate, for sentences.
    square : float
        The squared scale of a robust loss.
    """

    plan: Plan
    make: Maker
    rate: float
    name: str
    title: str
    square: float


def trained_course(
    loop: Loop,
    problem: ModelProblem,
    box: Box,
    descent: Descent,
    *,
    template: Array,
    callback: Callable[[Progress], object] | None,
) -> Course:
    """Return what the epochs have done; a Ctrl-C ends them within a tenth of a second.

    Raises
    ------
    UnfitError
        If the scheduler changes other settings than the learning rate.
    OptionError
        If there is no such scheduler or setting.
    """
    epochs, rows = int(descent.epochs), len(problem.y)
    rates = _Rates.of(loop, descent)
    inputs = len(loop.plan.graph.variables)
    training = Training(
        loop.plan, problem.columns[:inputs], problem.y, problem.weight, start=box.start, lower=box.lower, upper=box.upper,
        template=template, square=loop.square, kept=_kept(epochs),
    )  # fmt: skip
    size = min(int(descent.batch_size or rows), rows)
    shuffle = _Order.of(descent, rows) if size < rows else None
    block = 1 if callback is not None or rates.wants_loss else _block(loop.plan, rows, size)
    reason: Reason = "done"
    try:
        while training.done < epochs:
            count = min(block, epochs - training.done)
            order = None if shuffle is None else shuffle.draw(count)
            if not training.run(rates.ahead(count), order, size):
                reason = "diverged"
            rates.tell(training.last[1])
            stop = callback is not None and callback(_progress(training, epochs, rows, size)) is True
            if stop or reason == "diverged":
                reason = "diverged" if reason == "diverged" else "stopped"
                break
    except KeyboardInterrupt:
        reason = "interrupted"
    return _course(training, loop, box, epochs, reason=reason, evaluations=training.done * -(-rows // size))


def _course(
    training: Training, loop: Loop, box: Box, planned: int, *, reason: Reason, evaluations: int
) -> Course:
    trail, last = training.trail, training.last
    if training.done and np.isfinite(last[1]) and not (len(trail) and trail[-1, 0] == last[0]):
        trail = np.vstack([trail, trail_row(*last)])
    return Course(
        reason=reason,
        title=loop.title,
        rows=training.rows,
        epochs=training.done,
        planned=planned,
        evaluations=evaluations,
        start=box.start,
        parameters=np.clip(training.parameters, box.lower, box.upper),
        lower=box.lower,
        upper=box.upper,
        best=training.best,
        trail=trail,
    )


def _progress(training: Training, epochs: int, rows: int, size: int) -> Progress:
    _, loss, gradient, before = training.last
    return Progress(training.done, epochs, loss, gradient, before, training.done * -(-rows // size))


def _block(plan: Plan, rows: int, size: int) -> int:
    """Return how many epochs go by between two looks for a Ctrl-C."""
    updates = -(-rows // size)
    nanoseconds = 2 * rows * len(plan.graph.nodes) + updates * (50 + len(plan.step.nodes))  # generous
    most = _MOST_ORDER // rows if size < rows else 10**6
    return max(1, min(int(SECONDS * 1e9 / nanoseconds), most))


@lru_cache(maxsize=8)
def _kept(epochs: int) -> NDArray[np.int64]:
    return kept_steps(epochs)


@dataclass(frozen=True, eq=False)
class _Order:
    """The rows in the order of the mini-batches, drawn anew for each epoch as the loop in torch draws them."""

    rows: int
    shuffle: "torch.Generator"

    @classmethod
    def of(cls, descent: Descent, rows: int) -> "_Order":
        """Return the order of a descent's seed."""
        return cls(rows, torch.Generator(device="cpu").manual_seed(int(descent.seed)))

    def draw(self, epochs: int) -> NDArray[np.int64]:
        """Return the rows of the next epochs, one after the other (epochs * n,)."""
        orders = [torch.randperm(self.rows, generator=self.shuffle, device="cpu") for _ in range(epochs)]
        return torch.cat(orders).numpy()


@dataclass(frozen=True, eq=False)
class _Rates:
    """The learning rate of each epoch, from the scheduler itself, which is told of an optimizer that trains nothing."""

    rate: float
    optimizer: "torch.optim.Optimizer | None"
    schedule: Schedule | None

    @classmethod
    def of(cls, loop: Loop, descent: Descent) -> "_Rates":
        """Return the learning rates of a descent.

        Raises
        ------
        OptionError
            If there is no such scheduler or setting.
        """
        if descent.scheduler is None and not descent.scheduler_settings:
            return cls(loop.rate, None, None)
        leaf = torch.zeros(len(loop.plan.free), dtype=torch.float64, device="cpu", requires_grad=True)
        optimizer = loop.make(leaf)
        made = schedule(
            descent.scheduler,
            settings=descent.scheduler_settings,
            optimizer=optimizer,
            epochs=int(descent.epochs),
        )
        _ = (
            optimizer.step()
        )  # without a gradient it does nothing; schedulers warn where no step came before theirs
        return cls(loop.rate, optimizer, made)

    @property
    def wants_loss(self) -> bool:
        """Whether the next learning rate depends on the loss."""
        return self.schedule is not None and self.schedule.wants_loss

    def ahead(self, epochs: int) -> Array:
        """Return the learning rates of the next epochs (e,).

        Raises
        ------
        UnfitError
            If something else changes with them.
        """
        if self.optimizer is None or self.schedule is None:
            return np.full(epochs, self.rate)
        out = np.empty(epochs)
        before = _others(self.optimizer)
        for epoch in range(epochs):
            out[epoch] = float(self.optimizer.param_groups[0]["lr"])
            if not self.wants_loss:
                _ = self.schedule.tell(np.nan)
        after = _others(self.optimizer)
        changed = [name for name, value in after.items() if before[name] != value]
        if changed:
            raise UnfitError(f"the scheduler changes {changed[0]} too")
        return out

    def tell(self, loss: float) -> None:
        """Tell the scheduler of an epoch's loss, where it wants to know."""
        if self.schedule is not None and self.wants_loss:
            _ = self.schedule.tell(loss)


def _others(optimizer: "torch.optim.Optimizer") -> Mapping[str, object]:
    """Return the settings that are read when an optimizer steps, beside the learning rate."""
    group: Mapping[str, object] = optimizer.param_groups[0]
    ours = ("lr", "initial_lr", "max_lr", "min_lr", "params", "base_momentum", "max_momentum")
    return {name: value for name, value in group.items() if name not in ours}
