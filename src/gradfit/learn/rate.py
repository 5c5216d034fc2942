"""lr="auto": a learning rate for a module, found by trying rates on copies of it."""

import copy
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.learn.choosing import train_members
from gradfit.learn.loop import mean_loss
from gradfit.learn.native import WORTH, native_seconds, torch_seconds
from gradfit.learn.optimizer import choice_of
from gradfit.learn.task import Choice, Course, Task
from gradfit.rates import TRIALS, Ground, Trial, find_rate
from gradfit.solve.snapshot import NOT_KEPT

USUAL = 1e-3  # where an optimizer has no rate of its own
UPDATE = 1e-3  # seconds that torch takes for a small one, about


def with_rate(task: Task, executor: str) -> tuple[Task, str]:
    """Return the task with the learning rate that goes down best, and why it was chosen; the module stays as it is.

    Parameters
    ----------
    executor : str
        Of the trials: as in `train`, all of them being one piece of work.

    Raises
    ------
    OptionError
        If the optimizer has no learning rate, or is a function.
    """
    if not task.choice.of_torch and not isinstance(task.choice.solver, torch.optim.Optimizer):
        raise OptionError(
            'lr="auto" is for optimizers by name or class', remedy='Give solver="Adam", lr="auto"'
        )
    native = executor == "native" or (executor == "auto" and TRIALS * torch_seconds(task) >= WORTH)
    attempts: list[float] = []

    def attempt(rates: Sequence[float], epochs: int) -> list[Trial]:
        attempts.extend(rates)
        plan = replace(task.plan, epochs=epochs, scheduler=None, scheduler_settings={})
        bare = replace(task, held=None, plan=plan, callback=None)
        trials = [replace(bare, module=copy.deepcopy(task.module), choice=_at(task, rate)) for rate in rates]
        courses = train_members(trials, "native" if native else "tensor", [NOT_KEPT] * len(trials))
        return [_tried(one, course) for one, course in zip(trials, courses, strict=True)]

    size = sum(p.numel() for p in task.module.parameters())
    seconds = min(task.updates * UPDATE, native_seconds(task) if native else np.inf)
    usual = task.choice.lr if np.isfinite(task.choice.lr) else USUAL
    ground = Ground(
        None, usual, None, quadratic=False, rows=task.train.n, size=size, epochs=task.plan.epochs,
        updates=task.updates // task.plan.epochs, seconds=seconds, attempt=attempt,
    )  # fmt: skip
    found = find_rate(ground)
    if not any(np.isfinite(trial.final) for trial in found.trials):
        low, high = min(attempts), max(attempts)
        raise OptionError(
            f"No learning rate from {low:.2g} to {high:.2g} keeps the loss finite", remedy='Give scale="auto"'
        )
    return replace(task, choice=_at(task, found.rate)), found.told


def _tried(task: Task, course: Course) -> Trial:
    losses = course.history.train
    last = mean_loss(task, task.train) if np.isfinite(losses).all() else np.inf
    return Trial(task.choice.lr, np.arange(len(losses) + 1.0), np.append(losses, last))


def _at(task: Task, rate: float) -> Choice:
    return choice_of(task.choice.solver, rate, task.choice.settings, task.module)
