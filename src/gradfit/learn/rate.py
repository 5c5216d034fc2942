"""lr="auto": a learning rate for a module, found by trying rates on copies of it."""

import copy
from dataclasses import replace

import numpy as np

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.learn.loop import mean_loss, train_torch
from gradfit.learn.optimizer import choice_of
from gradfit.learn.task import Choice, Task
from gradfit.rates import Ground, Trial, find_rate

USUAL = 1e-3  # where an optimizer has no rate of its own
UPDATE = 1e-3  # seconds that torch takes for a small one, about


def with_rate(task: Task) -> tuple[Task, str]:
    """Return the task with the learning rate that goes down best, and why it was chosen; the module stays as it is.

    Raises
    ------
    OptionError
        If the optimizer has no learning rate, or is a function.
    """
    if not task.choice.of_torch and not isinstance(task.choice.solver, torch.optim.Optimizer):
        raise OptionError(
            'lr="auto" is for optimizers by name or class', remedy='Give solver="Adam", lr="auto"'
        )
    attempts: list[float] = []

    def attempt(rate: float, epochs: int) -> Trial:
        attempts.append(rate)
        module = copy.deepcopy(task.module)
        plan = replace(task.plan, epochs=epochs, scheduler=None, scheduler_settings={})
        trial = replace(task, module=module, held=None, plan=plan, choice=_at(task, rate), callback=None)
        losses = train_torch(trial).history.train
        last = mean_loss(trial, task.train) if np.isfinite(losses).all() else np.inf
        return Trial(rate, np.arange(len(losses) + 1.0), np.append(losses, last))

    size = sum(p.numel() for p in task.module.parameters())
    usual = task.choice.lr if np.isfinite(task.choice.lr) else USUAL
    ground = Ground(
        None, usual, None, quadratic=False, rows=task.train.n, size=size, epochs=task.plan.epochs,
        updates=task.updates // task.plan.epochs, seconds=task.updates * UPDATE, attempt=attempt,
    )  # fmt: skip
    found = find_rate(ground)
    if not any(np.isfinite(trial.final) for trial in found.trials):
        low, high = min(attempts), max(attempts)
        raise OptionError(
            f"No learning rate from {low:.2g} to {high:.2g} keeps the loss finite", remedy='Give scale="auto"'
        )
    return replace(task, choice=_at(task, found.rate)), found.told


def _at(task: Task, rate: float) -> Choice:
    return choice_of(task.choice.solver, rate, task.choice.settings, task.module)
