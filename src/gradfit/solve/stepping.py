"""The loop of training in torch: epoch after epoch as a careful hand-written loop makes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import isfinite, isnan

import numpy as np
from numpy.typing import ArrayLike

from gradfit._lazy import torch
from gradfit.errors import ModelError, OptionError
from gradfit.solve.descent import (
    Box,
    Descent,
    Drawn,
    HeldOut,
    Objective,
    Progress,
    recipe_of,
    title_of,
)
from gradfit.solve.ending import Course, Reason, ending
from gradfit.solve.optimizer_state import put_state, rest, state_of
from gradfit.solve.optimizers import Layout, Schedule, needs_closure, schedule
from gradfit.solve.outcome import Array, Outcome
from gradfit.solve.record import Record
from gradfit.solve.snapshot import NOT_KEPT, Keeping, Snapshot, Told
from gradfit.solve.surface import TorchSurface


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
    box = Box.of(start, lower, upper)
    return ending_by_torch(objective, descent, course_by_torch(objective, descent, box, callback=callback))


def course_by_torch(
    objective: Objective,
    descent: Descent,
    box: Box,
    *,
    callback: Callable[[Progress], object] | None = None,
    held: HeldOut | None = None,
    keeping: Keeping = NOT_KEPT,
    drawn: Drawn | None = None,
) -> Course:
    """Return what the epochs of `descend` have done, not yet judged.

    Parameters
    ----------
    drawn : callable, optional
        Returns the objective of one update, where it is drawn for each.

    Raises
    ------
    OptionError
        If there is no such optimizer, scheduler or setting.
    ModelError
        If the loss does not depend on the parameters through torch.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():  # whatever the caller has switched off
        training = replace(_Training.begin(objective, descent, box, held), drawn=drawn)
        return _run(training, callback, keeping)


def ending_by_torch(objective: Objective, descent: Descent, course: Course) -> Outcome:
    """Return the outcome of a course by the derivatives of a torch loss."""
    dtype = torch.float64 if descent.dtype == "float64" else torch.float32
    with torch.inference_mode(mode=False), torch.enable_grad():
        return ending(TorchSurface(objective.loss, dtype), course)


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
    schedule: Schedule
    shuffle: torch.Generator
    bounds: tuple[torch.Tensor, torch.Tensor] | None
    held: HeldOut | None = None
    drawn: Drawn | None = None

    @classmethod
    def begin(
        cls, objective: Objective, descent: Descent, box: Box, held: HeldOut | None = None
    ) -> _Training:
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
            schedule=schedule(
                descent.scheduler, settings=descent.scheduler_settings, optimizer=optimizer, epochs=epochs
            ),
            shuffle=torch.Generator(device="cpu").manual_seed(int(descent.seed)),
            bounds=box.tensors(dtype),
            held=held,
        )

    def parameters(self) -> Array:
        """Return a copy of the parameters (k,) as they are now, in float64."""
        return _copied(self.leaf)

    @property
    def rate(self) -> float:
        """The learning rate of the next epoch; NaN where the optimizer has none."""
        lr: object = self.optimizer.param_groups[0].get("lr")
        return float(lr) if isinstance(lr, int | float | torch.Tensor) else float("nan")

    def epoch(self) -> tuple[float, Array, int]:
        """Make the updates of one epoch; return loss and gradient before them, and how many losses that took."""
        rows = self.objective.rows
        size = int(self.descent.batch_size or rows)
        loss, gradient, used = self._batches(rows, size) if size < rows else self._update(None)
        _ = self.schedule.tell(loss)
        return loss, gradient, used

    def held_loss(self) -> float:
        """Return the mean loss over the held-out rows; torch makes no graph of it."""
        assert self.held is not None  # noqa: S101  only asked where rows are held out
        with torch.no_grad():
            return self.held.objective.loss(self._vector, None).item()

    @property
    def _vector(self) -> torch.Tensor:
        return self.leaf[:, 0] if self.layout == "column" else self.leaf

    def snapshot(self, record: Record) -> Snapshot:
        """Return the state after an epoch."""
        tensors, optimizer = state_of(self.optimizer, self.leaf)
        arrays = {
            "parameters": self.leaf.detach().numpy().copy(),
            "shuffle": self.shuffle.get_state().numpy(),
            **tensors,
            **record.arrays(),
        }
        return Snapshot("torch", record.epochs, arrays, {"optimizer": optimizer, **record.facts()})

    def restore(self, snapshot: Snapshot, record: Record) -> None:
        """Go on from a snapshot."""
        record.restore(snapshot.arrays, snapshot.facts)
        if self.descent.scheduler is not None:
            rest(self.optimizer)
        for loss in record.told.again(snapshot.done):
            _ = self.schedule.tell(loss)
        with torch.no_grad():
            _ = self.leaf.copy_(torch.from_numpy(np.array(snapshot.arrays["parameters"])))
        put_state(self.optimizer, self.leaf, snapshot.arrays, snapshot.facts["optimizer"])
        _ = self.shuffle.set_state(torch.from_numpy(np.array(snapshot.arrays["shuffle"])))

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
        objective, part = self.objective, rows
        if self.drawn is not None:
            objective, part = self.drawn(rows, self.shuffle), None

        def closure() -> float:
            seen.append(self._differentiated(objective, part))
            return seen[-1][0]

        if self.with_closure:
            _ = self.optimizer.step(closure)
        else:
            _ = closure()
            self.optimizer.step()
        if self.bounds is not None:
            _ = self.leaf.detach().view(-1).clamp_(*self.bounds)
        return *seen[0], len(seen)

    def _differentiated(self, objective: Objective, rows: torch.Tensor | None) -> tuple[float, Array]:
        """Return the loss and its gradient, and leave the gradient where the optimizer looks for it.

        Raises
        ------
        ModelError
            If the loss has no gradient with respect to the parameters, or is a number only where rows are as they are.
        """
        self.optimizer.zero_grad()
        loss = objective.loss(self._vector, rows)
        if self.drawn is not None and isnan(loss.item()):
            self._check_inside()
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

    def _check_inside(self) -> None:
        """Look whether it is the perturbation that takes inputs to where the model is no number.

        Raises
        ------
        ModelError
            If so.
        """
        with torch.no_grad():
            plain = self.objective.loss(self._vector, None)
        if plain.isfinite():
            raise ModelError(
                "With noise on its inputs the model is not finite, and without it is",
                remedy='Give less noise=, or name the columns that may have it: noise={"x": 0.05}',
            )


def _copied(tensor: torch.Tensor) -> Array:
    return tensor.detach().view(-1).numpy().astype(np.float64)


def _run(
    training: _Training, callback: Callable[[Progress], object] | None, keeping: Keeping = NOT_KEPT
) -> Course:
    """Return what the epochs have done; a Ctrl-C at any time ends them."""
    box, held = training.box, training.held
    told = Told(training.schedule.wants_loss)
    record = Record(
        int(training.descent.epochs), box.start.size, None if held is None else held.patience, told
    )
    if keeping.resume is not None:
        training.restore(keeping.resume, record)
    try:
        reason = _through(training, record, callback, keeping)
        if held is not None and reason != "patience":
            _ = record.look(record.epochs, training.held_loss(), training.parameters())
        if keeping.ended(record.epochs, reason) and keeping.save is not None:
            _ = keeping.save(training.snapshot(record))
    except KeyboardInterrupt:
        reason = "interrupted"
    record.close()
    parameters = np.clip(training.parameters(), box.lower, box.upper)
    return Course(
        reason=reason,
        title=training.title,
        rows=training.objective.rows,
        epochs=record.epochs,
        planned=record.planned,
        evaluations=record.evaluations,
        start=box.start,
        parameters=parameters,
        lower=box.lower,
        upper=box.upper,
        best=record.best_point,
        trail=record.trail,
        held=record.held_trail(parameters),
    )


def _through(
    training: _Training, record: Record, callback: Callable[[Progress], object] | None, keeping: Keeping
) -> Reason:
    """Go through the epochs that are left, and return why they ended."""
    while record.epochs < record.planned:
        before, step = training.parameters(), record.epochs
        if training.held is not None and record.look(step, training.held_loss(), before):
            return "patience"
        rate = training.rate
        loss, gradient, used = training.epoch()
        record.told.tell(loss)
        record.evaluations += used
        record.add(step, loss, gradient, before)
        now = Progress(step + 1, record.planned, loss, gradient, before, record.evaluations, record.now, rate)
        stop = callback is not None and callback(now) is True
        if not isfinite(loss):
            return "diverged"
        if keeping.due(record.epochs) and keeping.save is not None:
            _ = keeping.save(training.snapshot(record))
        if stop:
            return "stopped"
    return "done"
