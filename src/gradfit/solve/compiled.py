"""First-order training by a compiled loop over epochs: the same course as the loop in torch, without its overhead."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.native.epochs import Plan
from gradfit.native.penalty import Terms
from gradfit.native.train import Held, Training
from gradfit.solve.descent import Box, Descent, Progress
from gradfit.solve.ending import Course, HeldTrail, Reason, trail_row
from gradfit.solve.optimizer_state import rest
from gradfit.solve.optimizers import Maker, Schedule, schedule
from gradfit.solve.outcome import Array, kept_steps
from gradfit.solve.patience import Patience, Watched, Watching
from gradfit.solve.problem import ModelProblem
from gradfit.solve.snapshot import NOT_KEPT, Keeping, Snapshot, Told

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
    penalty : Terms, optional
        What is added to the mean loss of each update.
    """

    plan: Plan
    make: Maker
    rate: float
    name: str
    title: str
    square: float
    penalty: Terms | None = None


def trained_course(
    loop: Loop,
    problem: ModelProblem,
    box: Box,
    descent: Descent,
    *,
    template: Array,
    callback: Callable[[Progress], object] | None,
    watching: Watching | None = None,
    keeping: Keeping = NOT_KEPT,
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
    inputs = len(loop.plan.graph.variables)
    training = Training(
        loop.plan, problem.columns[:inputs], problem.y, problem.weight, box=(box.start, box.lower, box.upper),
        template=template, square=loop.square, kept=_kept(epochs), held=_held(watching, inputs),
        penalty=loop.penalty,
    )  # fmt: skip
    size = min(int(descent.batch_size or rows), rows)
    run = _Run(
        training, _Rates.of(loop, descent), _Order.of(descent, rows) if size < rows else None, epochs, size
    )
    if keeping.resume is not None:
        run.restore(keeping.resume)
    block = (
        1
        if getattr(callback, "every_epoch", callback is not None) or run.rates.wants_loss
        else _block(loop.plan, rows, size)
    )
    reason: Reason = "done"
    try:
        reason = run.through(block, callback, keeping)
        if keeping.ended(training.done, reason) and keeping.save is not None:
            _ = keeping.save(run.snapshot())
    except KeyboardInterrupt:
        reason = "interrupted"
    return _course(run, loop, box, reason=reason, patience=None if watching is None else watching.patience)


def _held(watching: Watching | None, inputs: int) -> Held | None:
    if watching is None:
        return None
    rows, patience = watching.problem, watching.patience
    return Held(rows.columns[:inputs], rows.y, rows.weight, patience.epochs, patience.min_delta)


@dataclass(frozen=True, eq=False)
class _Run:
    """A training with what it needs from epoch to epoch."""

    training: Training
    rates: "_Rates"
    shuffle: "_Order | None"
    epochs: int
    size: int

    @property
    def evaluations(self) -> int:
        """Losses computed so far."""
        return self.training.done * -(-self.training.rows // self.size)

    def through(self, block: int, callback: Callable[[Progress], object] | None, keeping: Keeping) -> Reason:
        """Go through the epochs that are left, in blocks, and return why they ended."""
        training = self.training
        while training.done < self.epochs:
            before = training.done
            count = min(block, self.epochs - before, keeping.room(before))
            order = None if self.shuffle is None else self.shuffle.draw(count)
            rates = self.rates.ahead(count)
            finite = training.run(rates, order, self.size)
            if training.done == before:
                return "patience"
            self.rates.tell(training.last[1])
            stop = callback is not None and callback(self.progress(rates[training.done - before - 1])) is True
            if not finite:
                return "diverged"
            if training.done < before + count:
                return "patience"
            if keeping.due(training.done) and keeping.save is not None:
                _ = keeping.save(self.snapshot())
            if stop:
                return "stopped"
        return "done"

    def progress(self, rate: float) -> Progress:
        """Return the last epoch as a callback sees it."""
        training = self.training
        _, loss, gradient, before = training.last
        held = training.watched.before
        return Progress(
            training.done, self.epochs, loss, gradient, before, self.evaluations, held, float(rate)
        )

    def snapshot(self) -> Snapshot:
        """Return the state after an epoch."""
        arrays: dict[str, NDArray[Any]] = {**self.training.arrays(), "told": np.array(self.rates.told.losses)}
        if self.shuffle is not None:
            arrays["shuffle"] = self.shuffle.shuffle.get_state().numpy()
        return Snapshot("native", self.training.done, arrays, {})

    def restore(self, snapshot: Snapshot) -> None:
        """Go on from a snapshot."""
        self.training.restore(snapshot.arrays, snapshot.done)
        self.rates.told.losses = snapshot.arrays["told"].tolist()
        self.rates.catch_up(snapshot.done)
        if self.shuffle is not None:
            state = torch.from_numpy(np.array(snapshot.arrays["shuffle"]))
            _ = self.shuffle.shuffle.set_state(state)


def _course(run: _Run, loop: Loop, box: Box, *, reason: Reason, patience: Patience | None) -> Course:
    training = run.training
    trail, last, width = training.trail, training.last, 2 + 2 * len(loop.plan.free)
    watch = training.watched
    losses = trail[:, width] if patience is not None else None
    trail = trail[:, :width]
    if training.done and np.isfinite(last[1]) and not (len(trail) and trail[-1, 0] == last[0]):
        trail = np.vstack([trail, trail_row(*last)])
        losses = None if losses is None else np.append(losses, watch.before)
    held = None
    if patience is not None and losses is not None:
        seen = Watched(watch.best, watch.best_step, watch.mark, watch.mark_step)
        chosen = np.clip(watch.chosen if watch.best_step >= 0 else training.parameters, box.lower, box.upper)
        held = HeldTrail(losses, watch.now, seen, chosen, patience)
    return Course(
        reason=reason,
        title=loop.title,
        rows=training.rows,
        epochs=training.done,
        planned=run.epochs,
        evaluations=run.evaluations,
        start=box.start,
        parameters=np.clip(training.parameters, box.lower, box.upper),
        lower=box.lower,
        upper=box.upper,
        best=training.best,
        trail=trail,
        held=held,
    )


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
    told: Told

    @classmethod
    def of(cls, loop: Loop, descent: Descent) -> "_Rates":
        """Return the learning rates of a descent.

        Raises
        ------
        OptionError
            If there is no such scheduler or setting.
        """
        if descent.scheduler is None and not descent.scheduler_settings:
            return cls(loop.rate, None, None, Told(wanted=False))
        leaf = torch.zeros(len(loop.plan.free), dtype=torch.float64, device="cpu", requires_grad=True)
        optimizer = loop.make(leaf)
        made = schedule(
            descent.scheduler,
            settings=descent.scheduler_settings,
            optimizer=optimizer,
            epochs=int(descent.epochs),
        )
        rest(optimizer)
        return cls(loop.rate, optimizer, made, Told(made.wants_loss))

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
            self.told.tell(loss)
            _ = self.schedule.tell(loss)

    def catch_up(self, epochs: int) -> None:
        """Tell the scheduler what one was told that has gone through so many epochs."""
        if self.schedule is not None:
            for loss in self.told.again(epochs):
                _ = self.schedule.tell(loss)


def _others(optimizer: "torch.optim.Optimizer") -> Mapping[str, object]:
    """Return the settings that are read when an optimizer steps, beside the learning rate."""
    group: Mapping[str, object] = optimizer.param_groups[0]
    ours = ("lr", "initial_lr", "max_lr", "min_lr", "params", "base_momentum", "max_momentum")
    return {name: value for name, value in group.items() if name not in ours}
