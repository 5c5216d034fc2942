"""Trainings made again with one thing changed: what would have worked is the cause of a failure, and its remedy."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import isfinite, sqrt
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import GradfitError
from gradfit.learn.choosing import train
from gradfit.learn.loop import mean_loss
from gradfit.learn.optimizer import choice_of
from gradfit.learn.result import NetworkResult
from gradfit.learn.task import Samples, Task
from gradfit.solve.snapshot import NOT_KEPT

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types

Array = NDArray[np.float64]
Cause = Literal["weights", "batch", "rate"]

BETTER = 0.6  # a training that has learned less than this share of what a trial learns has a remedy
LEAST = 0.1  # of what there is to learn, that a trial must have learned
SURE = 2.0  # standard errors by which the trial is better
BLOCKS = 10  # of rows, from which that error comes
MOST_BLOCKS = 8  # in which it is better: then one with a few huge losses does not matter
SOON = 4.0  # seconds, about, for all trials together
TRAININGS = 12  # that they are, about
UPDATE = 1e-3  # seconds that torch takes for a small one, about
RATES = (0.1, 10.0, 0.01, 100.0, 1e-3, 1e3)  # times the one that was asked for
BETWEEN = 10**0.5
NEARLY = 0.9  # of what the best trial learns
MORE_ROWS = 8  # times the batch


@dataclass(frozen=True, eq=False)
class Trial:
    """One training with one thing changed.

    Attributes
    ----------
    rate : float
        Its learning rate.
    blocks : (b,)
        Mean losses of blocks of rows, those held out where there are any.
    better : bool
        Whether it learned so much more that the thing changed was the cause.
    """

    rate: float
    blocks: Array
    better: bool

    @property
    def loss(self) -> float:
        """The mean loss, infinite where it is no number."""
        mean = float(self.blocks.mean())
        return mean if isfinite(mean) else np.inf


@dataclass(frozen=True, eq=False)
class Trials:
    """The trainings that are tried once one has failed.

    They begin from weights as torch draws them, since those that the failed one began from are gone; so weights that were
    set to something else are seen as a cause too.

    Attributes
    ----------
    task : Task
        As it was trained.
    result : NetworkResult
        What came of it.
    baseline, floor : float
        The loss of saying the same for every row, and that of perfect predictions.
    """

    task: Task
    result: NetworkResult
    baseline: float
    floor: float

    @cached_property
    def affordable(self) -> bool:
        """Whether all of them are over soon."""
        epochs, done = self.task.plan.epochs, max(len(self.result.history.epoch), 1)
        usual = UPDATE / 10 if self.result.executor == "native" else UPDATE
        seconds = min(self.result.seconds * epochs / done, self.task.updates * usual)
        return bool(self.task.choice.of_torch and seconds * TRAININGS < SOON)

    def cause(self, *, weights_suspected: bool) -> Cause | None:
        """Return what the trials have shown to be the cause; of several that learn about as much the first in this order.

        Parameters
        ----------
        weights_suspected : bool
            Whether units or gradients look like those of bad initial weights; these are then named once others learn.
        """
        made: dict[Cause, Trial | None] = {
            "weights": self.other_weights,
            "batch": self.larger_batch,
            "rate": self.rate,
        }
        better = {name: trial for name, trial in made.items() if trial is not None and trial.better}
        if weights_suspected and "weights" in better:
            return "weights"
        most = max((self.baseline - trial.loss for trial in better.values()), default=0.0)
        return next((name for name, trial in better.items() if self.baseline - trial.loss > NEARLY * most), None)

    @cached_property
    def _now(self) -> Array:
        """What the training has reached, in blocks."""
        lost = self.result.ending == "diverged"
        return np.full(BLOCKS, np.inf) if lost else self._blocks(self.task, self._rows(self.task))

    @staticmethod
    def _rows(task: Task) -> Samples:
        return task.train if task.held is None else task.held

    def _blocks(self, task: Task, rows: Samples) -> Array:
        parts = np.array_split(np.random.default_rng(0).permutation(rows.n), min(BLOCKS, rows.n))
        return np.array([mean_loss(task, rows.at(torch.as_tensor(part))) for part in parts])

    @cached_property
    def fresh(self) -> "nn.Module | None":
        """The module with weights as torch draws them; None where a layer does not know how to draw its own."""
        module = copy.deepcopy(self.task.module)
        with torch.random.fork_rng(devices=[]):
            _ = torch.manual_seed(self.task.plan.seed)
            for layer in module.modules():
                draw: Callable[[], object] | None = getattr(layer, "reset_parameters", None)
                if draw is not None:
                    _ = draw()
                elif next(layer.parameters(recurse=False), None) is not None:
                    return None
        return module

    # ------------------------------------------------------------------ what is changed

    @cached_property
    def other_weights(self) -> Trial | None:
        """The same from other weights."""
        return self._tried(self.task)

    @cached_property
    def scaled(self) -> Trial | None:
        """The same with inputs of mean 0 and spread 1, and with targets so where they are numbers."""
        task = self.task
        if len(task.train.inputs) != 1 or task.train.inputs[0].ndim != 2 or not task.train.inputs[0].is_floating_point():
            return None
        numbers = self.result.target.aim == "numbers"
        (mean, spread), (center, scale) = _standard(task.train.inputs[0]), _standard(task.train.target.double())

        def changed(samples: Samples) -> Samples:
            y = samples.target
            y = ((y - center) / scale).to(y.dtype) if numbers else y
            return Samples(((samples.inputs[0] - mean) / spread,), y)

        held = None if task.held is None else changed(task.held)
        unit = 1.0 if not numbers else _unit(task.train.target, task.loss_name)
        return self._tried(replace(task, train=changed(task.train), held=held), unit=unit)

    @cached_property
    def rate(self) -> Trial | None:
        """The best of other learning rates."""
        lr = self.task.choice.lr
        if not isfinite(lr) or self.result.settings.get("lr") == "auto":
            return None
        coarse = [self._at(lr * factor) for factor in RATES]
        best = _best(coarse)
        if best is None or not best.better:
            return best
        return _best([best, self._at(best.rate * BETWEEN), self._at(best.rate / BETWEEN)])

    @cached_property
    def larger_batch(self) -> Trial | None:
        """The same with larger batches; None where all rows are used at once."""
        plan = self.task.plan
        if plan.batch_size >= self.task.train.n:
            return None
        size = min(MORE_ROWS * plan.batch_size, self.task.train.n)
        return self._tried(replace(self.task, plan=replace(plan, batch_size=size)))

    # ------------------------------------------------------------------ how it is tried

    def _at(self, rate: float) -> Trial | None:
        task = self.task
        choice = choice_of(task.choice.solver, rate, task.choice.settings, task.module)
        return self._tried(replace(task, choice=choice))

    def _tried(self, task: Task, *, unit: float = 1.0) -> Trial | None:
        """Return how a training goes from fresh weights; None where it cannot be, or would take too long."""
        if self.fresh is None or not self.affordable:
            return None
        own = replace(task, module=copy.deepcopy(self.fresh).to(task.plan.device), callback=None)
        executor = "native" if self.result.executor == "native" else "tensor"
        try:
            course = train(own, executor, NOT_KEPT)
        except GradfitError:  # the first loss is no number: nothing is better that way
            return None
        lost = course.ending == "diverged"
        blocks = np.full(BLOCKS, np.inf) if lost else self._blocks(own, self._rows(own)) * unit
        return Trial(own.choice.lr, blocks, self._better(blocks))

    def _better(self, blocks: Array) -> bool:
        """Whether these losses say that the trial has learned far more, and not by chance."""
        gain = self.baseline - float(blocks.mean())
        if not (isfinite(gain) and gain > LEAST * (self.baseline - self.floor)):
            return False
        if not np.isfinite(self._now).all():
            return True
        lower = self._now - blocks
        error = float(lower.std(ddof=1)) / sqrt(len(lower)) if len(lower) > 1 else np.inf
        sure = float(lower.mean()) > SURE * error or np.count_nonzero(lower > 0) >= MOST_BLOCKS
        return self.baseline - float(self._now.mean()) < BETTER * gain and sure


def _best(trials: list[Trial | None]) -> Trial | None:
    made = [trial for trial in trials if trial is not None]
    return min(made, key=lambda trial: trial.loss, default=None)


def _standard(values: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return mean and spread of each column (k,); a constant one has spread 1."""
    spread = values.std(dim=0, correction=0)
    return values.mean(dim=0), torch.where(spread > 0, spread, torch.ones_like(spread))


def _unit(target: "Tensor", loss: str) -> float:
    """Return by what losses of standardised targets are multiplied to be those of the targets."""
    spread = float(_standard(target.double())[1].square().mean().sqrt())
    return spread if loss == "mae" else spread * spread
