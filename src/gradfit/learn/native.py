"""A module's training as machine code: small networks of dense layers, for which torch's own loop is overhead.

The module is taken apart into layers, the optimizer into operations; numbers are those of torch's loop, to rounding.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import inf, isfinite, nan
from typing import TYPE_CHECKING, Any

import numpy as np

from gradfit._lazy import torch
from gradfit.learn.jobs import (
    Array,
    Constant,
    Floats,
    Job,
    Now,
    Rates,
    Trained,
    cores,
    epoch_seconds,
    train_members,
    train_network,
)  # fmt: skip
from gradfit.learn.loop import LOOKED_AT
from gradfit.learn.target import LOSSES
from gradfit.learn.task import Choice, Course, Epoch, GradientTrail, LossHistory, Task
from gradfit.native.network import LOSSES as KNOWN
from gradfit.native.network import Network
from gradfit.native.network_step import sums_over_parameters
from gradfit.native.step import Step
from gradfit.notation import count
from gradfit.solve.optimizers import Schedule, needs_closure, schedule
from gradfit.solve.patience import Patience
from gradfit.trace.aten import UntraceableError
from gradfit.trace.network import network_of
from gradfit.trace.optimizer import trace_optimizer

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types
    from torch.optim import Optimizer  # noqa: TID251  only the names of types

Suited = tuple[Network, Step] | str  # what can be trained by machine code, or why it cannot

WORTH = 0.4  # seconds in torch, about, 800 updates: compiling takes 0.26 to 0.47 s of a core, and 0.05 to 0.1 s from the disk
MOST = 300_000  # parameters; for more, torch's products of matrices are as fast
_UPDATE, _LAYER = (
    2e-4,
    1.5e-4,
)  # seconds that torch takes for an update, and for each of its layers, however small
_TORCH = 3e10  # operations a second of torch's products


def train_native(task: Task, executor: str) -> Course | str:
    """Return the way of a training by machine code, or why it must go through torch; then nothing has been touched.

    Parameters
    ----------
    task : Task
        `task.module` is trained in place.
    executor : str
        "native" compiles whatever can be, "auto" where it saves time; with any other torch makes each step.
    """
    return train_native_members([task], executor)[0]


def train_native_members(tasks: Sequence[Task], executor: str, *, share: float = 1.0) -> list[Course | str]:
    """Return the ways of several trainings by machine code, on all cores, or for each why it must go through torch.

    Each has the numbers that it has alone; only one that is alone tells a callback.

    Parameters
    ----------
    share : float
        Of all that is to be trained with the same code: whether it saves time to compile is decided by the whole.
    """
    suited = [_ready(task, executor) for task in tasks]
    if executor == "auto":
        suited = _unless_short(tasks, suited, share)
    members = [
        _member(task, one) for task, one in zip(tasks, suited, strict=True) if not isinstance(one, str)
    ]
    try:
        done = iter(_train(tasks, members))
    except _ScheduleError as reason:
        return [one if isinstance(one, str) else str(reason) for one in suited]
    return [
        one if isinstance(one, str) else _course(task, one[0], next(done))
        for task, one in zip(tasks, suited, strict=True)
    ]


def _unless_short(tasks: Sequence[Task], suited: "list[Suited]", share: float) -> "list[Suited]":
    """Return the same, or why not where torch is done with all before the compiler is."""
    able = [task for task, one in zip(tasks, suited, strict=True) if not isinstance(one, str)]
    if sum(torch_seconds(task) for task in able) >= WORTH * share:
        return suited
    updates = count(sum(task.updates for task in able), "update")
    short = f"{updates} would take longer to compile"
    return [one if isinstance(one, str) else short for one in suited]


def _member(task: Task, suited: "tuple[Network, Step]") -> tuple[Job, Floats]:
    """Return a training as the machine code takes it, and its start."""
    plan, held, (network, step) = task.plan, task.held, suited
    patience = plan.patience if held is not None else Patience()
    job = Job(
        network, step, _numbers(task.train.inputs[0]), _numbers(task.train.target), lambda: _rates_of(task), plan.epochs,
        held=None if held is None else (_numbers(held.inputs[0]), _numbers(held.target)),
        batch_size=plan.batch_size, clip=plan.clip, patience=patience, seed=plan.seed, noted=_looked_at(plan.epochs),
    )  # fmt: skip
    return job, flat_parameters(network, task.module)


def _train(tasks: Sequence[Task], members: Sequence[tuple[Job, Floats]]) -> list[Trained]:
    if len(tasks) > 1:
        return train_members([job for job, _ in members], [start for _, start in members], threads=cores())
    callback = tasks[0].callback
    told = None if callback is None else _told(tasks[0], callback)
    return [train_network(job, start, threads=cores(), callback=told) for job, start in members]


def torch_seconds(task: Task) -> float:
    """Return how long torch takes for a training of dense layers, about: from its work, not by a clock."""
    size = min(task.plan.batch_size, task.train.n)
    sizes = [p.numel() for p in task.module.parameters() if p.ndim > 1]
    layers, weights = len(sizes), sum(sizes)
    return task.updates * (_UPDATE + _LAYER * layers + 6.0 * size * weights / _TORCH)


def native_seconds(task: Task) -> float:
    """Return how long machine code takes for a training on a core, about; infinite where torch must make it."""
    suited = _ready(task, "native")
    if isinstance(suited, str):
        return inf
    return task.plan.epochs * epoch_seconds(suited[0], task.train.n, task.updates // task.plan.epochs)


def _told(task: Task, callback: Callable[[Epoch], object]) -> Callable[[Now], object]:
    planned, held = task.plan.epochs, task.held is not None
    return lambda now: callback(
        Epoch(now.epochs, planned, now.loss, now.validation, now.rate, now.best if held else 0)
    )


def _course(task: Task, network: Network, trained: Trained) -> Course | str:
    if trained.epochs and not isfinite(trained.train[0]):
        return "the first loss is not finite"
    ending = trained.ending if np.isfinite(trained.last).all() else "diverged"
    held = task.held is not None and task.plan.patience.stop == "best"
    use_best = held or ending in ("diverged", "interrupted")
    put_back(network, task.module, trained.best if use_best else trained.last)
    epochs = np.arange(1, trained.epochs + 1, dtype=np.int64)
    history = LossHistory(epochs, trained.train, trained.validation, trained.rates)
    state = {name: tensor.detach().clone() for name, tensor in task.module.state_dict().items()}
    how = f"One compiled loop went through all epochs, with the step of torch's {task.choice.name}"
    best = trained.best_epoch if use_best else trained.epochs
    return Course(ending, history, best, state, _trail(network, task.module, trained), "native", how)


def flat_parameters(network: Network, module: "nn.Module") -> Floats:
    """Return the parameters of a module as the vector of its network (size,)."""
    named = dict(module.named_parameters())
    parts = [named[placed.name].detach().reshape(-1) for placed in network.parameters]
    return torch.cat(parts).numpy().copy()


def put_back(network: Network, module: "nn.Module", vector: Floats) -> None:
    """Write a vector of parameters (size,) into a module."""
    named = dict(module.named_parameters())
    with torch.no_grad():
        for placed in network.parameters:
            target = named[placed.name]
            values = torch.as_tensor(vector[placed.place : placed.place + target.numel()])
            _ = target.copy_(values.reshape(target.shape))


def _trail(network: Network, module: "nn.Module", trained: Trained) -> GradientTrail:
    """Return the sizes of weights and gradients on the way."""
    named = [(name, p) for name, p in module.named_parameters() if p.requires_grad and p.ndim > 1]
    placed = {one.name: one.place for one in network.parameters}
    epochs = np.array([epoch for epoch, _, _ in trained.noted], dtype=np.int64)
    gradients, weights = np.zeros((len(epochs), len(named))), np.zeros((len(epochs), len(named)))
    before = np.array([vector for _, vector, _ in trained.noted]).reshape(len(epochs), network.size)
    slopes = np.array([vector for _, _, vector in trained.noted]).reshape(len(epochs), network.trained)
    for column, (name, p) in enumerate(named):
        if name in placed:
            span = slice(placed[name], placed[name] + p.numel())
            gradients[:, column], weights[:, column] = _sizes(slopes[:, span]), _sizes(before[:, span])
        else:
            weights[:, column] = _sizes(p.detach().numpy().reshape(1, -1))
    return GradientTrail(tuple([name for name, _ in named]), epochs, gradients, weights)


def _sizes(values: Floats) -> Array:
    """Return the root mean square of each row (m,)."""
    return np.sqrt(np.mean(np.square(values, dtype=np.float64), axis=1))


def _looked_at(epochs: int) -> list[int]:
    """Return the epochs at which the sizes of gradients are noted: evenly, and on a logarithmic axis."""
    even = np.linspace(1, epochs, LOOKED_AT // 2)
    return sorted({int(e) for e in np.rint(np.concatenate([even, np.geomspace(1, epochs, LOOKED_AT // 2)]))})


def _numbers(tensor: "Tensor") -> Floats:
    """Return rows (n, ...) as numbers (n, k)."""
    return tensor.detach().reshape(len(tensor), -1).numpy()


# ---------------------------------------------------------------------------- which way


def _ready(task: Task, executor: str) -> Suited:
    """Return the network and the optimizer's step, or why there is none."""
    if executor not in ("auto", "native"):
        return f'executor="{executor}" was asked for'
    reason = _unsuited(task)
    if reason:
        return reason
    shape = tuple(task.train.inputs[0].shape[1:])
    network = network_of(task.module, shape, task.loss_name)
    if isinstance(network, str):
        return network
    reason = _unfit(task, network)
    if reason:
        return reason
    step = _step_of(task.choice)
    return step if isinstance(step, str) else (network, step)


def _unsuited(task: Task) -> str:
    """Return what the compiled loop has not, whatever the module is; nothing where all is well."""
    plan, inputs = task.plan, task.train.inputs
    of_torch = isinstance(task.choice.solver, str | type | torch.optim.Optimizer)
    answers = (
        (plan.device != "cpu", f"the compiled loop is for the processor, not {plan.device}"),
        (plan.precision == "mixed", "the compiled loop is for one precision"),
        (task.penalty is not None, "the compiled loop has no penalties"),
        (bool(plan.noise or plan.mixup), "the compiled loop has no noise and mixes no rows"),
        (not _known(task), f"the compiled loop has no loss {task.loss_name}"),
        (
            len(inputs) != 1 or not inputs[0].is_floating_point(),
            "the compiled loop is for one tensor of numbers",
        ),
        (not of_torch, "the optimizer is made by a function, which may treat tensors differently"),
    )
    return next((reason for wrong, reason in answers if wrong), "")


def _known(task: Task) -> bool:
    """Whether the loss is one of torch's own that the compiled loop has, with its usual settings."""
    function = LOSSES.get(task.loss_name, ("",))[0]
    return task.loss_name in KNOWN and task.loss is getattr(torch.nn.functional, function)


def _unfit(task: Task, network: Network) -> str:
    if network.size > MOST:
        return f"the compiled loop is for {MOST} parameters at most"
    with torch.no_grad():
        shape = task.module(task.train.inputs[0][:2]).shape[1:]
    mine = task.train.target.shape[1:]
    if (mine and task.loss_name == "cross-entropy") or (mine != shape and task.loss_name != "cross-entropy"):
        return f"its output has shape {tuple(shape)} of a row, the target {tuple(mine)}"
    if task.loss_name == "cross-entropy" and len(shape) != 1:
        return "classes are told apart in more places than one"
    types = (
        {task.train.inputs[0].dtype, task.train.target.dtype}
        if task.loss_name != "cross-entropy"
        else set[Any]()
    )
    if not types <= {torch.float64 if network.real == 64 else torch.float32}:
        return "data and parameters are of different types"
    return ""


def _step_of(choice: Choice) -> Step | str:
    plain = all(isinstance(v, str | int | float | tuple | None) for v in choice.settings.values())
    if not choice.of_torch or not plain:
        return _traced_step(_Making(choice, object()))
    return _traced_step(_Making(choice, (choice.solver, tuple(sorted(choice.settings.items())))))


@dataclass(frozen=True, eq=False)
class _Making:
    """An optimizer, and what two of them have in common that step alike."""

    choice: Choice
    key: object

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Making) and self.key == other.key


@lru_cache(maxsize=64)
def _traced_step(making: _Making) -> Step | str:
    """Return the step of an optimizer for single parameters, or why there is none."""
    choice = making.choice

    def make(leaf: "Tensor") -> "Optimizer":
        return choice.make([leaf])  # pyright: ignore[reportArgumentType]  # any tensor can be trained

    with torch.inference_mode(mode=False), torch.enable_grad():
        probe = make(torch.zeros(2, dtype=torch.float64, requires_grad=True))
        if needs_closure(probe):
            return f"{choice.name} computes the loss several times in each step"
        try:
            step = trace_optimizer(make, 3)
        except UntraceableError as error:
            return f"of {choice.name}, {error.message}"
    return f"{choice.name} looks at all numbers of a tensor at once" if sums_over_parameters(step) else step


class _ScheduleError(Exception):
    """A scheduler changes more than the learning rate; the message says what."""


@dataclass(frozen=True, eq=False)
class _Scheduled:
    """The learning rates of a scheduler, which is told of an optimizer that trains nothing."""

    optimizer: "Optimizer"
    schedule: Schedule

    @property
    def wants_loss(self) -> bool:
        return self.schedule.wants_loss

    def ahead(self, epochs: int) -> Array:
        """Return the learning rates of the next epochs (e,).

        Raises
        ------
        _ScheduleError
            If something else changes with them.
        """
        out = np.empty(epochs)
        before = _others(self.optimizer)
        for epoch in range(epochs):
            out[epoch] = float(self.optimizer.param_groups[0]["lr"])
            if not self.wants_loss:
                _ = self.schedule.tell(nan)
        changed = [name for name, value in _others(self.optimizer).items() if before[name] != value]
        if changed:
            raise _ScheduleError(f"the scheduler changes {changed[0]} too")
        return out

    def tell(self, loss: float) -> None:
        if self.wants_loss:
            _ = self.schedule.tell(loss)


def _rates_of(task: Task) -> Rates:
    plan, choice = task.plan, task.choice
    if plan.scheduler is None and not plan.scheduler_settings:
        return Constant(choice.lr if isfinite(choice.lr) else 0.0)
    leaf = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    optimizer = choice.make([leaf])  # pyright: ignore[reportArgumentType]  # any tensor can be trained
    made = schedule(plan.scheduler, settings=plan.scheduler_settings, optimizer=optimizer, epochs=plan.epochs)
    _ = (
        optimizer.step()
    )  # without a gradient it does nothing; schedulers warn where no step came before theirs
    return _Scheduled(optimizer, made)


def _others(optimizer: "Optimizer") -> dict[str, object]:
    """Return the settings that are read when an optimizer steps, beside the learning rate."""
    ours = ("lr", "initial_lr", "max_lr", "min_lr", "params", "base_momentum", "max_momentum")
    return {name: value for name, value in optimizer.param_groups[0].items() if name not in ours}
