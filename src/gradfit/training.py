"""Training with an optimizer of torch: as one compiled loop over the epochs where that can be, else step by step in torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.graph import Graph
from gradfit.kernel import EXECUTORS
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.native.epochs import Plan
from gradfit.native.step import Step
from gradfit.notation import count
from gradfit.solve.compiled import Loop, UnfitError, trained_course
from gradfit.solve.descent import Box, Descent, Progress, descend, recipe_of, title_of, with_rate
from gradfit.solve.ending import Surface, ending
from gradfit.solve.optimizers import Maker, needs_closure
from gradfit.solve.outcome import Outcome
from gradfit.solve.problem import Model, ModelProblem
from gradfit.solve.surface import ModelSurface, TorchSurface
from gradfit.trace import UntraceableError
from gradfit.trace.kept_steps import KnownStep, keep_step, key_of_step, recalled_step
from gradfit.trace.optimizer import trace_optimizer
from gradfit.trace.slopes import slopes

Array = NDArray[np.float64]

COMPILED = "native (one loop over all epochs)"
WORTH = 300  # updates; fewer take torch less time than tracing and compiling
FEW = 8  # free parameters; of more, second derivatives take longer to trace than torch to work out
MOST = 64  # free parameters; the compiled loop is written out for each


@dataclass(frozen=True, eq=False)
class Trained:
    """Where training ended, and which way it went.

    Attributes
    ----------
    outcome : Outcome
        Its end and its history.
    executor : str
        COMPILED, or the name of the model's kernel.
    how : str
        The same as a sentence, with the reason.
    """

    outcome: Outcome
    executor: str
    how: str


@dataclass(frozen=True, eq=False)
class Task:
    """What is to be trained.

    Attributes
    ----------
    model : BoundModel
        The model.
    problem : ModelProblem
        Its residuals on the data.
    cost : Loss
        What they cost; a robust one has its scale.
    descent : Descent
        The optimizer and its settings.
    start, lower, upper : (f,)
        Of the free parameters.
    template : (k,)
        All parameters.
    """

    model: BoundModel
    problem: ModelProblem
    cost: Loss
    descent: Descent
    start: Array
    lower: Array
    upper: Array
    template: Array

    @property
    def free(self) -> tuple[int, ...]:
        """Which parameters are free."""
        every = range(len(self.template)) if self.problem.free is None else self.problem.free.tolist()
        return tuple(every)

    @property
    def updates(self) -> int:
        """Steps of the optimizer."""
        rows = len(self.problem.y)
        return int(self.descent.epochs) * -(-rows // min(int(self.descent.batch_size or rows), rows))


def train(task: Task, executor: str, callback: Callable[[Progress], object] | None) -> Trained:
    """Return where the epochs lead.

    Parameters
    ----------
    executor : str
        "native" compiles whatever can be, "auto" where it saves time; with "numpy" and "tensor" torch makes each step.
    callback : callable, optional
        Called after each epoch; training stops when it returns True.

    Raises
    ------
    OptionError
        If there is no such optimizer, scheduler or setting.
    ModelError
        If torch cannot differentiate the model.
    """
    loop = _loop(task, executor)
    if isinstance(loop, Loop):
        try:
            return _in_one_loop(task, loop, callback)
        except UnfitError as reason:
            loop = str(reason)
    outcome = descend(
        _mean_loss(task), task.start, task.descent, callback=callback, lower=task.lower, upper=task.upper
    )
    return Trained(outcome, task.problem.model.name, f"Torch made each step: {loop}")


def _in_one_loop(task: Task, loop: Loop, callback: Callable[[Progress], object] | None) -> Trained:
    box = Box.of(task.start, task.lower, task.upper)
    course = trained_course(loop, task.problem, box, task.descent, template=task.template, callback=callback)
    how = f"One compiled loop went through all epochs, with the step of torch's {loop.name}"
    return Trained(ending(_surface(task), course), COMPILED, how)


def _surface(task: Task) -> Surface:
    """Return the loss with its derivatives: from the graph, or by torch where that is less work or the only way."""
    graph, free = task.model.graph, task.free
    few = graph is not None and not task.cost.counts and (len(free) <= FEW or set(free) <= set(graph.linear))
    graphs = slopes(graph, free) if graph is not None and few else None
    if graphs is None:
        return TorchSurface(_mean_loss(task).loss, torch.float64)
    return ModelSurface(task.problem, task.cost, _kernels(graphs))


@lru_cache(maxsize=64)
def _kernels(graphs: tuple[Graph, ...]) -> tuple[Model, ...]:
    return tuple(EXECUTORS["numpy"].compile(graph) for graph in graphs)


# ---------------------------------------------------------------------------- which way


def _loop(task: Task, executor: str) -> Loop | str:
    """Return the loop to compile, or why there is none."""
    graph, descent = task.model.graph, task.descent
    reason = _needless(task, executor) or _unsuited(task)
    if reason or graph is None:
        return reason
    ready = _ready(descent, len(task.start))
    if ready.step is None:
        return ready.reason
    rows = len(task.problem.y)
    traits = _Traits(
        loss=task.cost.name,
        weighted=task.problem.weight is not None,
        batched=int(descent.batch_size or rows) < rows,
        bounded=bool(max(task.lower.max(), -task.upper.min()) > -np.inf),
    )
    plan = _plan(graph, task.free, ready.step, traits)
    if isinstance(plan, str):
        return plan
    square = float(task.cost.scale or 1.0) ** 2
    return Loop(plan, ready.make, ready.rate, ready.name, ready.title, square)


@dataclass(frozen=True)
class _Traits:
    """What the code of a loop depends on beside model and optimizer."""

    loss: str
    weighted: bool
    batched: bool
    bounded: bool


@lru_cache(maxsize=256)
def _plan(graph: Graph, free: tuple[int, ...], step: Step, traits: _Traits) -> Plan | str:
    if not frozenset(free) & graph.depends()[graph.value]:
        return "the model does not depend on its free parameters"
    return Plan(graph, free, step, traits.loss, traits.weighted, traits.batched, traits.bounded)


def _needless(task: Task, executor: str) -> str:
    if executor in ("numpy", "tensor"):
        return f'executor="{executor}" was asked for'
    if executor == "auto" and task.updates < WORTH:
        return f"{count(task.updates, 'update')} would take longer to compile"
    return ""


def _unsuited(task: Task) -> str:
    if task.model.graph is None:
        return "the model is no expression of single rows"
    if task.cost.counts:
        return "the compiled loop has no deviance of counts"
    if task.descent.dtype != "float64":
        return "the compiled loop is for float64"
    if len(task.start) > MOST:
        return f"the compiled loop is for {MOST} parameters at most"
    return ""


@dataclass(frozen=True, eq=False)
class _Ready:
    """An optimizer, made ready: what it is called, its learning rate, and its step or why there is none."""

    make: Maker
    name: str
    title: str
    rate: float
    step: Step | None
    reason: str


@dataclass(frozen=True)
class _Chosen:
    """An optimizer by name or class, with settings that are plain values."""

    optimizer: str | type
    lr: float | None
    settings: tuple[tuple[str, object], ...]
    size: int


def _ready(descent: Descent, size: int) -> _Ready:
    kind, lr, settings = descent.optimizer, descent.lr, tuple(descent.settings.items())
    if not isinstance(kind, str | type) or not all(_is_plain(value) for _, value in settings):
        return _made_ready(descent, size)
    if lr is None or isinstance(kind, type):
        return _ready_once(_Chosen(kind, lr, settings, size))
    ready = _ready_once(_Chosen(kind, None, settings, size))  # the step is the same for every learning rate
    return replace(ready, make=_maker(descent, size), title=with_rate(ready.name, float(lr)), rate=float(lr))


def _maker(descent: Descent, size: int) -> Maker:
    """Return what makes the optimizer; it is looked up when it is called, as only schedulers need one."""
    return lambda leaf: recipe_of(descent, size).make(leaf)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(part, int | float) for part in value)
    return value is None or isinstance(value, str | int | float)


@lru_cache(maxsize=256)
def _ready_once(chosen: _Chosen) -> _Ready:
    """Return an optimizer made ready; one of torch's own that an earlier process has traced comes from the disk."""
    descent = Descent(chosen.optimizer, lr=chosen.lr, settings=dict(chosen.settings))
    if not isinstance(chosen.optimizer, str):
        return _made_ready(descent, chosen.size)
    key = key_of_step(repr(chosen))
    known = recalled_step(key)
    if known is not None:
        make = _maker(descent, chosen.size)
        return _Ready(make, chosen.optimizer, known.title, known.rate, known.step, "")
    ready = _made_ready(descent, chosen.size)
    if ready.step is not None:
        keep_step(key, KnownStep(ready.title, ready.rate, ready.step))
    return ready


def _made_ready(descent: Descent, size: int) -> _Ready:
    """Return the optimizer with its traced step.

    Raises
    ------
    OptionError
        If there is no such optimizer or setting.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        recipe = recipe_of(descent, size)
        shape = (size, 1) if recipe.layout == "column" else (size,)
        optimizer = recipe.make(torch.zeros(shape, dtype=torch.float64, device="cpu").requires_grad_())
        lr: object = optimizer.param_groups[0].get("lr", 0.0)
        name, title = recipe.name, title_of(recipe.name, optimizer, descent)
        step, reason = None, ""
        if recipe.layout != "vector":
            kind = "parameters in a matrix" if recipe.layout == "column" else "sparse gradients"
            reason = f"{name} is for {kind}"
        elif needs_closure(optimizer):
            reason = f"{name} computes the loss several times in each step"
        else:
            try:
                step = trace_optimizer(recipe.make, size)
            except UntraceableError as error:
                reason = f"of {name}, {error.message}"
    rate = float(lr) if isinstance(lr, int | float | torch.Tensor) else 0.0
    return _Ready(recipe.make, name, title, rate, step, reason)


# ---------------------------------------------------------------------------- in torch


@dataclass(frozen=True)
class _MeanLoss:
    """The mean loss of weighted residuals, as a torch function of the free parameters; of counts the mean deviance."""

    function: Callable[..., "torch.Tensor"]
    columns: list["torch.Tensor"]
    y: "torch.Tensor"
    weight: "torch.Tensor | None"
    template: Array
    free: tuple[int, ...]
    cost: Loss

    @property
    def rows(self) -> int:
        """Number of observations."""
        return len(self.y)

    def loss(self, parameters: "torch.Tensor", rows: "torch.Tensor | None") -> "torch.Tensor":
        """Return the mean over the rows at parameters (k,)."""
        pick = (
            (lambda t: t.to(parameters.dtype)) if rows is None else (lambda t: t[rows].to(parameters.dtype))
        )
        whole: list[object] = self.template.tolist()
        for i, j in enumerate(self.free):
            whole[j] = parameters[i]
        value = self.function(*(pick(c) for c in self.columns), *whole)
        observed = pick(self.y)
        if self.cost.counts:
            each = 2 * (value - observed + torch.special.xlogy(observed, observed / value))
            each = torch.where(value > 0, each, torch.nan)
            return (each if self.weight is None else each * pick(self.weight) ** 2).mean()
        residual = value - observed
        if self.weight is not None:
            residual = residual * pick(self.weight)
        return self._rho(residual * residual).mean()

    def _rho(self, z: "torch.Tensor") -> "torch.Tensor":
        if not self.cost.robust:
            return z
        square = float(self.cost.scale or 1.0) ** 2
        z = z / square
        rho = {
            "soft_l1": lambda: 2 * (torch.sqrt(1 + z) - 1),
            "huber": lambda: torch.where(z <= 1, z, 2 * torch.sqrt(torch.clamp(z, min=1.0)) - 1),
            "cauchy": lambda: torch.log1p(z),
            "bisquare": lambda: (1 - torch.clamp(1 - z, min=0.0) ** 3) / 3,
        }[self.cost.name]
        return square * rho()


def _mean_loss(task: Task) -> _MeanLoss:
    problem, model = task.problem, task.model
    weight = None if problem.weight is None else torch.as_tensor(problem.weight)
    columns = [torch.as_tensor(c) for c in problem.columns] if model.inputs else []
    y = torch.as_tensor(np.ascontiguousarray(problem.y))
    return _MeanLoss(model.on_torch(), columns, y, weight, task.template, task.free, task.cost)
