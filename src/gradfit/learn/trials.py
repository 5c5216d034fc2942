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
from gradfit.learn.spec import ACTIVATIONS
from gradfit.learn.task import Samples, Task
from gradfit.solve.snapshot import NOT_KEPT

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types

Array = NDArray[np.float64]
Cause = Literal["weights", "batch", "rate"]

BETTER = 0.6  # a training that has learned less than this share of what a trial learns has a remedy
SLOWER = 0.75  # the same of a trial at a smaller rate, which memorises no more
LEAST = 0.1  # of what there is to learn, that a trial must have learned
SURE = 2.0  # standard errors by which the trial is better
BLOCKS = 10  # of rows, from which that error comes
MOST_BLOCKS = 8  # in which it is better: then one with a few huge losses does not matter
SOON = 4.0  # seconds, about, for all trials together
TRAININGS = 12  # that they are, about
UPDATE, COMPILED = 5e-4, 1e-5  # seconds that an update takes in torch, and compiled
WORK = 3e-10  # seconds a row and parameter
RATES = (0.1, 10.0, 0.01, 100.0, 1e-3, 1e3)  # times the one that was asked for
BETWEEN = 10**0.5
NEARLY = 0.9  # of what the best trial learns
MORE_ROWS = 8  # times the batch
SMALL = 8  # rows of a batch: where larger ones learn, its noise is the cause, though a smaller rate may do as well
DECAYS = (1e-3, 1e-2, 3e-2, 0.1)  # for a loss and inputs of size 1


@dataclass(frozen=True, eq=False)
class Trial:
    """One training with one thing changed.

    Attributes
    ----------
    rate : float
        Its learning rate.
    loss : float
        The mean loss, of rows held out where there are any; infinite where it is no number.
    train_loss : float
        That of the rows in training.
    better : "held", "train" or None
        On which rows it learned so much more that the thing changed was the cause.
    """

    rate: float
    loss: float
    train_loss: float
    better: Literal["held", "train"] | None


@dataclass(frozen=True, eq=False)
class Reached:
    """Mean losses of blocks of rows.

    Attributes
    ----------
    train, held : (b,)
        Of the rows in training, and of those held out; of the same where none are.
    """

    train: Array
    held: Array


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
    baseline : callable
        Returns the loss of saying the same for every row of some, and that of perfect predictions.
    """

    task: Task
    result: NetworkResult
    baseline: Callable[[Samples], tuple[float, float]]

    @cached_property
    def affordable(self) -> bool:
        """Whether all of them are over soon, by the work that they are: what is found must not hang on the clock."""
        task = self.task
        size = sum(p.numel() for p in task.module.parameters())
        work = WORK * min(task.plan.batch_size, task.train.n) * size
        update = work + (COMPILED if self._compiled else UPDATE)
        return bool(task.choice.of_torch and task.updates * update * TRAININGS < SOON)

    @cached_property
    def _compiled(self) -> bool:
        """Whether the compiled loop takes them: then they are no matter of time."""
        known = {"Linear", *ACTIVATIONS.values()}
        leaves = [type(layer).__name__ for layer in self.task.module.modules() if not list(layer.children())]
        return self.result.executor == "native" or (
            self.result.settings.get("executor") == "native"
            and known.issuperset(leaves)
            and self.task.plan.device == "cpu"
        )

    def cause(self, *, weights_suspected: bool) -> Cause | None:
        """Return what the trials have shown to be the cause; of several that learn about as much the first in this order.

        Parameters
        ----------
        weights_suspected : bool
            Whether units, gradients or weights look like those of bad initial weights; these are then named once others
            learn, and else only where nothing helps but luck.
        """
        made: dict[Cause, Trial | None] = {
            "batch": self.larger_batch,
            "rate": self.rate,
            "weights": self.other_weights,
        }
        better: dict[Cause, Trial] = {
            name: trial for name, trial in made.items() if trial is not None and trial.better
        }
        if weights_suspected and "weights" in better:
            return "weights"
        if "batch" in better and self.task.plan.batch_size <= SMALL:
            return "batch"
        base = self.baseline(self.task.train if self.task.held is None else self.task.held)[0]
        most = max((base - trial.loss for trial in better.values()), default=0.0)
        names: list[Cause] = [name for name, trial in better.items() if base - trial.loss >= NEARLY * most]
        return names[0] if names else None

    @cached_property
    def growth(self) -> float:
        """How many times as large as torch draws them the weights were at first, all layers together; 1 if unknown."""
        trail = self.result.trail
        if self.fresh is None or not len(trail.weight):
            return 1.0
        drawn = {
            name: float(p.detach().double().square().mean().sqrt())
            for name, p in self.fresh.named_parameters()
        }
        ratios = [
            was / drawn[name]
            for name, was in zip(trail.layers, trail.weight[0].tolist(), strict=True)
            if drawn.get(name)
        ]
        return float(np.prod(ratios))

    @cached_property
    def decay(self) -> tuple[float, Trial] | None:
        """The weight decay under which rows held out are met best; None where none could be tried."""
        task, made = self.task, list[tuple[float, Trial]]()
        unit = (
            10.0 if task.choice.name in ("AdamW", "Muon") else 1.0
        )  # theirs is multiplied by the rate, not added to the slope
        plan = replace(task.plan, patience=replace(task.plan.patience, stop="best"))
        for strength in DECAYS:
            try:
                choice = choice_of(
                    task.choice.solver,
                    task.choice.lr,
                    {**task.choice.settings, "weight_decay": strength * unit},
                    task.module,
                )
            except GradfitError:  # an optimizer without such a setting
                return None
            trial = self._tried(replace(task, choice=choice, plan=plan))
            made += [(strength * unit, trial)] if trial is not None else []
        return min(made, key=lambda one: one[1].loss, default=None)

    @cached_property
    def _now(self) -> Reached:
        """What the training has reached."""
        return self._reached(self.task, lost=self.result.ending == "diverged")

    def _reached(self, task: Task, *, lost: bool = False, unit: float = 1.0) -> Reached:
        infinite = np.full(BLOCKS, np.inf)
        parts = [
            infinite if lost else _blocks(task, part) * unit
            for part in (task.train, task.held)
            if part is not None
        ]
        return Reached(parts[0], parts[-1])

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
        if (
            len(task.train.inputs) != 1
            or task.train.inputs[0].ndim != 2
            or not task.train.inputs[0].is_floating_point()
        ):
            return None
        numbers = self.result.target.aim == "numbers"
        (mean, spread), (center, scale) = (
            _standard(task.train.inputs[0]),
            _standard(task.train.target.double()),
        )

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
        executor = "native" if self._compiled else "tensor"
        try:
            course = train(own, executor, NOT_KEPT)
        except GradfitError:  # the first loss is no number: nothing is better that way
            return None
        reached = self._reached(own, lost=course.ending == "diverged", unit=unit)
        losses = [float(part.mean()) for part in (reached.held, reached.train)]
        held, trained = (loss if isfinite(loss) else np.inf for loss in losses)
        return Trial(own.choice.lr, held, trained, self._better(reached, own.choice.lr))

    def _better(self, reached: Reached, rate: float) -> Literal["held", "train"] | None:
        """Return where a trial has learned far more: on rows held out, or on those in training and no less on those held out."""
        now, task = self._now, self.task
        share = SLOWER if rate < task.choice.lr else BETTER
        if self._far_better(now.held, reached.held, task.held or task.train, share):
            return "train" if task.held is None else "held"
        base, floor = self.baseline(task.held or task.train)
        no_less = bool(reached.held.mean() < min(float(now.held.mean()), base - LEAST * (base - floor)))
        if rate > task.choice.lr or not no_less:  # a larger one memorises more: that is no learning
            return None
        return "train" if self._far_better(now.train, reached.train, task.train, share) else None

    def _far_better(self, now: Array, blocks: Array, rows: Samples, share: float) -> bool:
        """Whether these losses say so, and not by chance."""
        base, floor = self.baseline(rows)
        gain = base - float(blocks.mean())
        if not (isfinite(gain) and gain > LEAST * (base - floor)):
            return False
        if not np.isfinite(now).all():
            return True
        lower = now - blocks
        error = float(lower.std(ddof=1)) / sqrt(len(lower)) if len(lower) > 1 else np.inf
        sure = float(lower.mean()) > SURE * error or int(np.count_nonzero(lower > 0)) >= MOST_BLOCKS
        return bool(base - float(now.mean()) < share * gain and sure)


def _blocks(task: Task, rows: Samples) -> Array:
    """Return the mean losses of blocks of rows (b,)."""
    parts = np.array_split(np.random.default_rng(0).permutation(rows.n), min(BLOCKS, rows.n))
    return np.array([mean_loss(task, rows.at(torch.as_tensor(part))) for part in parts])


def _best(trials: list[Trial | None]) -> Trial | None:
    made = [trial for trial in trials if trial is not None]
    return min(made, key=lambda trial: (trial.better is None, trial.loss), default=None)


def _standard(values: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return mean and spread of each column (k,); a constant one has spread 1."""
    spread = values.std(dim=0, correction=0)
    return values.mean(dim=0), torch.where(spread > 0, spread, torch.ones_like(spread))


def _unit(target: "Tensor", loss: str) -> float:
    """Return by what losses of standardised targets are multiplied to be those of the targets."""
    spread = float(_standard(target.double())[1].square().mean().sqrt())
    return spread if loss == "mae" else spread * spread
