"""Training with an optimizer of torch: as one compiled loop over the epochs where that can be, else step by step in torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.checkpoint import Checkpoint, Identity, digest
from gradfit.errors import OptionError
from gradfit.graph import Graph
from gradfit.kernel import EXECUTORS
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.native.epochs import Plan
from gradfit.native.step import Step
from gradfit.notation import count
from gradfit.rates import TRIALS, Bend, Ground, Rate, Trial, find_rate, forecast
from gradfit.scaling import Scaling, scaled, scaling
from gradfit.solve.compiled import Loop, UnfitError, trained_course
from gradfit.solve.descent import (
    Box,
    Descent,
    HeldOut,
    Objective,
    Progress,
    optimizer_settings,
)
from gradfit.solve.ending import Course, HeldTrail, Surface, ending
from gradfit.solve.mean_loss import MeanLoss
from gradfit.solve.outcome import Outcome
from gradfit.solve.patience import Watching
from gradfit.solve.penalised import PenalisedMean, Shrink
from gradfit.solve.problem import Model, ModelProblem
from gradfit.solve.snapshot import NOT_KEPT, Keeping
from gradfit.solve.stability import Forecast, law_of
from gradfit.solve.stepping import course_by_torch, ending_by_torch
from gradfit.solve.surface import ModelSurface, TorchSurface
from gradfit.telling import Telling
from gradfit.trace.slopes import slopes
from gradfit.traced_step import ready_step

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
    descent : Descent
        The optimizer and its settings, the learning rate as it was chosen.
    told : tuple of str
        What was chosen and why: scaling, learning rate.
    task : Task
        What was to be trained.
    course : Course
        The way there, in the user's units.
    scaling : Scaling, optional
        The units in which it was trained.
    """

    outcome: Outcome
    executor: str
    how: str
    descent: Descent
    told: tuple[str, ...]
    task: "Task"
    course: Course
    scaling: Scaling | None


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
    scale : str
        "auto" trains in standard units, "none" in the user's.
    shrink : Shrink, optional
        A penalty, in units of the mean loss.
    watching : Watching, optional
        The held-out rows, and what their loss decides.
    checkpoint : Checkpoint, optional
        Where the state is kept.
    """

    model: BoundModel
    problem: ModelProblem
    cost: Loss
    descent: Descent
    start: Array
    lower: Array
    upper: Array
    template: Array
    scale: str = "none"
    shrink: Shrink | None = None
    watching: Watching | None = None
    checkpoint: Checkpoint | None = None

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
        If there is no such optimizer, scheduler or setting, or a checkpoint belongs to another training.
    DataError
        If a checkpoint cannot be read.
    ModelError
        If torch cannot differentiate the model.
    """
    scale = _scaling(task) if task.scale == "auto" else None
    inner, told = task if scale is None else _in_scale(task, scale), ()
    if task.descent.lr == "auto":
        trying = _executor_of_trials(inner, executor)
        found = find_rate(_ground(inner, trying, _bend(task, scale)))
        executor = trying if found.trials else executor
        inner, told = replace(inner, descent=replace(inner.descent, lr=found.rate)), (found.told,)
    keeping = NOT_KEPT
    if task.checkpoint is not None:
        keeping = task.checkpoint.keeping(_identity(task, inner.descent), int(task.descent.epochs))
    ran = _run(inner, executor, _telling(task, scale, callback), keeping)
    course = ran.course if scale is None else _in_units(ran.course, scale, task)
    course = replace(course, forecast=_foreseen(inner, scale))
    if ran.compiled:
        outcome = ending(_surface(task), course)
    else:
        outcome = ending_by_torch(_objective(task), task.descent, course)
    told = told if scale is None else (scale.told, *told)
    if task.watching is not None:
        told = (*told, *filter(None, [task.watching.patience.longer_than(int(task.descent.epochs))]))
    by = COMPILED if ran.compiled else task.problem.model.name
    return Trained(outcome, by, ran.how, inner.descent, told, task, course, scale)


class Ran(NamedTuple):
    """What the epochs have done, whether by a compiled loop, and why that way."""

    course: Course
    compiled: bool
    how: str


def _run(
    task: Task,
    executor: str,
    callback: Callable[[Progress], object] | None = None,
    keeping: Keeping = NOT_KEPT,
) -> Ran:
    box, loop = Box.of(task.start, task.lower, task.upper), _loop(task, executor)
    loop = _same_way(loop, keeping)
    if isinstance(loop, Loop):
        try:
            course = trained_course(
                loop, task.problem, box, task.descent, template=task.template, callback=callback,
                watching=task.watching, keeping=keeping,
            )  # fmt: skip
            told = f"One compiled loop went through all epochs, with the step of torch's {loop.name}"
            return Ran(course, True, told)
        except UnfitError as reason:
            loop, keeping = (
                str(reason),
                replace(keeping, resume=None),
            )  # what a loop has kept is none of torch's
    held = None
    if task.watching is not None:
        rows = replace(task, problem=task.watching.problem)
        held = HeldOut(_mean_loss(rows), task.watching.patience)
    course = course_by_torch(
        _objective(task), task.descent, box, callback=callback, held=held, keeping=keeping
    )
    return Ran(course, False, f"Torch made each step: {loop}")


def _same_way(loop: Loop | str, keeping: Keeping) -> Loop | str:
    """Return the way that a checkpoint was made on, as another one has other last digits.

    Raises
    ------
    OptionError
        If that one is closed here.
    """
    way = "" if keeping.resume is None else keeping.resume.way
    if way == "torch":
        return "the checkpoint was made by torch"
    if way == "native" and isinstance(loop, str):
        raise OptionError(
            f"The checkpoint was made by the compiled loop, which is not used here: {loop}",
            remedy="Give the same executor= and settings, or leave resume= out to start anew",
        )
    return loop


def _identity(task: Task, descent: Descent) -> Identity:
    """Return what decides the numbers of a training, by the names of its parts."""
    problem, watching = task.problem, task.watching
    name, settings = optimizer_settings(descent, len(task.start))
    scheduler: object = descent.scheduler
    held = None if watching is None else watching.problem
    return {
        "model": task.model.text,
        "the model's graph": digest(np.frombuffer(repr(task.model.graph).encode(), dtype=np.uint8)),
        "the data": digest(*problem.columns, problem.y, problem.weight),
        "the validation data": "absent" if held is None else digest(*held.columns, held.y, held.weight),
        "loss": str(task.cost),
        "optimizer": name,
        "lr": repr(settings.get("lr")),
        "its settings": ", ".join(f"{key}={value!r}" for key, value in settings.items() if key != "lr"),
        "batch_size": str(descent.batch_size),
        "scheduler": str(getattr(scheduler, "__qualname__", scheduler)),
        "scheduler_settings": ", ".join(
            f"{key}={getattr(value, '__qualname__', value)!r}" for key, value in descent.scheduler_settings.items()
        ),
        "epochs": "any" if scheduler is None else str(descent.epochs),
        "dtype": descent.dtype,
        "seed": str(descent.seed),
        "start": digest(task.start, task.template[list(set(range(len(task.template))) - set(task.free))]),
        "bounds": digest(task.lower, task.upper),
        "penalty": "none" if task.shrink is None else digest(np.frombuffer(repr(task.shrink).encode(), dtype=np.uint8)),
        "patience": "none" if watching is None else repr(watching.patience),
        "scale": task.scale,
    }  # fmt: skip


def _in_units(course: Course, scale: Scaling, task: Task) -> Course:
    """Return a course in the user's units."""
    made = scale.course(course, task.lower, task.upper)
    held, watching = course.held, task.watching
    if held is None or watching is None:
        return made
    square = scale.unit**2
    seen = replace(held.seen, best=held.seen.best * square, mark=held.seen.mark * square)
    best = np.clip(scale.transform @ held.best, task.lower, task.upper)
    return replace(
        made, held=HeldTrail(held.losses * square, held.last * square, seen, best, watching.patience)
    )


# ---------------------------------------------------------------------------- in standard units, at a rate that is found


def _scaling(task: Task) -> Scaling:
    linear = [] if task.model.graph is None else task.model.graph.linear
    free = np.isneginf(task.lower) & np.isposinf(task.upper)
    places = [i for i, j in enumerate(task.free) if j in linear and free[i]]
    return scaling(task.problem, task.start, np.array(places, dtype=np.int64))


def _in_scale(task: Task, scale: Scaling) -> Task:
    inside = scaled(task.model, task.problem, task.cost, scale)
    lower, upper = scale.inward_bounds(task.lower, task.upper)
    watching = task.watching
    if watching is not None:
        patience = replace(watching.patience, min_delta=watching.patience.min_delta / scale.unit**2)
        held = scaled(task.model, watching.problem, task.cost, scale).problem
        watching = Watching(held, patience)
    return replace(
        task, watching=watching, model=inside.model, problem=inside.problem, cost=inside.cost, start=scale.inward(task.start),
        lower=lower, upper=upper, template=inside.problem.template, scale="none",
        shrink=None if task.shrink is None else task.shrink.through(scale.transform).times(scale.unit**-2, scale.unit**-2),
    )  # fmt: skip


def _telling(
    task: Task, scale: Scaling | None, callback: Callable[[Progress], object] | None
) -> Telling | None:
    if callback is None:
        return None
    law = law_of(*optimizer_settings(task.descent, len(task.start)))
    if law is None or law.adaptive or len(task.start) > MOST:
        return Telling(callback, scale, None)

    def limit(parameters: Array) -> float:
        bend = _bend(replace(task, start=parameters), scale)
        return np.nan if bend is None else law.limit(bend.largest)

    return Telling(callback, scale, limit)


def rate_found(task: Task, executor: str, *, survey: bool = False) -> Rate:
    """Return a learning rate for the task, in standard units where it says so; nothing of it changes.

    Parameters
    ----------
    survey : bool
        Whether to try rates although the curvature decides.
    """
    scale = _scaling(task) if task.scale == "auto" else None
    inner = task if scale is None else _in_scale(task, scale)
    return find_rate(_ground(inner, _executor_of_trials(inner, executor), _bend(task, scale)), survey=survey)


def _bend(task: Task, scale: Scaling | None) -> Bend | None:
    """Return the loss at the start with its derivatives, in the units of the optimizer; None where that is too much."""
    if len(task.start) > MOST:
        return None
    surface = surface_of(task)
    gradient, hessian = surface.derivatives(task.start, second=True)
    if hessian is None or not np.isfinite(gradient).all():
        return None
    bend = Bend(surface.value(task.start), gradient, hessian)
    return bend if scale is None else bend.through(scale.transform, scale.unit)


def forecast_of(task: Task, scale: Scaling | None) -> Forecast | None:
    """Return what foresees the epochs that a training still needs; None where no law of its optimizer is known."""
    units, unit = (np.eye(len(task.start)), 1.0) if scale is None else (scale.transform, scale.unit)
    return forecast(task.descent, units, unit, rows=len(task.problem.y), updates=task.updates)


def _foreseen(task: Task, scale: Scaling | None) -> Callable[[Array, Array, float], float | None] | None:
    """Return the forecast as a course asks for it, of SGD and its kin at a rate that stays."""
    name = str(getattr(task.descent.optimizer, "__name__", task.descent.optimizer))
    if name not in ("SGD", "ASGD") or task.descent.scheduler is not None:
        return None

    def epochs(gradient: Array, hessian: Array, loss: float) -> float | None:
        known = forecast_of(task, scale)
        return None if known is None else known.epochs(gradient, hessian, loss)

    return epochs


def _executor_of_trials(task: Task, executor: str) -> str:
    return "native" if executor == "auto" and TRIALS * task.updates >= WORTH else executor


def _ground(task: Task, executor: str, bend: Bend | None) -> Ground:
    """Return what a learning rate is found from."""
    name, settings = optimizer_settings(task.descent, len(task.start))
    usual, epochs = settings.get("lr"), int(task.descent.epochs)
    return Ground(
        law=law_of(name, settings), usual=float(usual) if isinstance(usual, int | float) else 0.0, bend=bend,
        quadratic=_is_quadratic(task), rows=len(task.problem.y), size=len(task.start), epochs=epochs, updates=task.updates // epochs,
        seconds=seconds_of(task, executor), attempt=lambda rate, epochs: _trial(task, executor, rate, epochs),
        own_step=name == "LBFGS",
    )  # fmt: skip


def seconds_of(task: Task, executor: str) -> float:
    """Return about how long a training takes: from its work, not by a clock, so that the same is decided everywhere."""
    epochs, rows, graph = int(task.descent.epochs), len(task.problem.y), task.model.graph
    native = _executor_of_trials(task, executor) == "native"
    if native and graph is not None and isinstance(_loop(task, "native"), Loop):
        return 1e-9 * (epochs * rows * len(graph.nodes) + 100 * task.updates)
    name = optimizer_settings(task.descent, len(task.start))[0]
    return (20 if name == "LBFGS" else 1) * (3e-4 * task.updates + 1e-8 * epochs * rows)


def surface_of(task: Task) -> Surface:
    """Return the loss with its derivatives, penalty and all."""
    return _surface(task) if task.shrink is None else TorchSurface(_objective(task).loss, torch.float64)


def _is_quadratic(task: Task) -> bool:
    """Return whether the loss is a quadratic of which every step sees all: then its curvature says everything."""
    graph, descent = task.model.graph, task.descent
    linear = graph is not None and set(task.free) <= set(graph.linear)
    plain = task.cost.name == "squared" and task.shrink is None and descent.scheduler is None
    unbounded = bool(np.isinf(task.lower).all() and np.isinf(task.upper).all())
    return linear and plain and unbounded and task.updates == int(descent.epochs)


def _trial(task: Task, executor: str, rate: float, epochs: int) -> Trial:
    descent = replace(task.descent, lr=rate, epochs=epochs)
    course = _run(replace(task, descent=descent, watching=None), executor).course
    final = np.inf if course.reason == "diverged" else _loss_at(task, course.parameters)
    steps = np.append(course.trail[:, 0], float(epochs))
    return Trial(rate, steps, np.append(course.trail[:, 1], final))


def _loss_at(task: Task, parameters: Array) -> float:
    if task.cost.counts or task.shrink is not None:
        return TorchSurface(_objective(task).loss, torch.float64).value(parameters)
    residuals = task.problem.residual(parameters)
    return task.cost.cost(residuals) / len(residuals)


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
    ready = ready_step(descent, len(task.start))
    if ready.step is None:
        return ready.reason
    rows = len(task.problem.y)
    traits = _Traits(
        loss=task.cost.name,
        weighted=task.problem.weight is not None,
        batched=int(descent.batch_size or rows) < rows,
        bounded=bool(max(task.lower.max(), -task.upper.min()) > -np.inf),
        watched=task.watching is not None,
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
    watched: bool


@lru_cache(maxsize=256)
def _plan(graph: Graph, free: tuple[int, ...], step: Step, traits: _Traits) -> Plan | str:
    if not frozenset(free) & graph.depends()[graph.value]:
        return "the model does not depend on its free parameters"
    return Plan(
        graph, free, step, traits.loss, traits.weighted, traits.batched, traits.bounded, traits.watched
    )


def _needless(task: Task, executor: str) -> str:
    if executor in ("numpy", "tensor"):
        return f'executor="{executor}" was asked for'
    if executor == "auto" and task.updates < WORTH:
        return f"{count(task.updates, 'update')} would take longer to compile"
    return ""


def _unsuited(task: Task) -> str:
    reasons = (
        (task.model.graph is None, "the model is no expression of single rows"),
        (task.cost.counts, "the compiled loop has no deviance of counts"),
        (task.shrink is not None, "the compiled loop has no penalty"),
        (task.descent.dtype != "float64", "the compiled loop is for float64"),
        (len(task.start) > MOST, f"the compiled loop is for {MOST} parameters at most"),
    )
    return next((reason for unsuited, reason in reasons if unsuited), "")


# ---------------------------------------------------------------------------- in torch


def _objective(task: Task) -> Objective:
    """Return what is made small: the mean loss, and the penalty where there is one."""
    mean = _mean_loss(task)
    return mean if task.shrink is None else PenalisedMean(mean, task.shrink)


def _mean_loss(task: Task) -> MeanLoss:
    problem, model = task.problem, task.model
    weight = None if problem.weight is None else torch.as_tensor(problem.weight)
    columns = [torch.as_tensor(c) for c in problem.columns] if model.inputs else []
    y = torch.as_tensor(np.ascontiguousarray(problem.y))
    return MeanLoss(model.on_torch(), columns, y, weight, task.template, task.free, task.cost)
