"""One training: what it is of, its loss, and the way through its epochs, compiled as one loop where that can be, else in torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.checkpoint import Checkpoint
from gradfit.errors import OptionError
from gradfit.graph import Graph
from gradfit.kernel import EXECUTORS
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.native.epochs import Plan
from gradfit.native.penalty import Shape, Terms
from gradfit.native.step import Step
from gradfit.notation import count
from gradfit.perturbing import Perturbing
from gradfit.solve.compiled import Loop, UnfitError, trained_course
from gradfit.solve.descent import Box, Descent, HeldOut, Objective, Progress
from gradfit.solve.ending import Course, Surface
from gradfit.solve.mean_loss import MeanLoss
from gradfit.solve.patience import Watching
from gradfit.solve.penalised import PenalisedMean, Shrink
from gradfit.solve.perturbation import Perturbation, PerturbedLoss
from gradfit.solve.problem import Model, ModelProblem
from gradfit.solve.snapshot import NOT_KEPT, Keeping
from gradfit.solve.stepping import course_by_torch
from gradfit.solve.surface import ModelSurface, TorchSurface
from gradfit.trace.slopes import slopes
from gradfit.traced_step import ready_step

Array = NDArray[np.float64]

WORTH = 300  # updates; fewer take torch less time than tracing and compiling
FEW = 8  # free parameters; of more, second derivatives take longer to trace than torch to work out
MOST = 64  # free parameters; the compiled loop is written out for each


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
    perturbing : Perturbing, optional
        Noise on the inputs and mixed rows, as they were asked for.
    perturbation : Perturbation, optional
        The same in the units of the columns, for the updates.
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
    perturbing: Perturbing | None = None
    perturbation: Perturbation | None = None

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


def rows_of(task: Task, rows: NDArray[np.int64]) -> Task:
    """Return the task of some of the rows (places), with no others held out."""
    problem = task.problem
    part = problem._replace(
        columns=[np.asarray(c)[rows] for c in problem.columns],
        y=problem.y[rows],
        weight=None if problem.weight is None else problem.weight[rows],
        small=None,
    )
    return replace(task, problem=part, watching=None, checkpoint=None)


class Ran(NamedTuple):
    """What the epochs have done, whether by a compiled loop, and why that way."""

    course: Course
    compiled: bool
    how: str


def run(
    task: Task,
    executor: str,
    callback: Callable[[Progress], object] | None = None,
    keeping: Keeping = NOT_KEPT,
) -> Ran:
    """Return what the epochs of a task have done, in its own units.

    Raises
    ------
    OptionError
        If there is no such optimizer, scheduler or setting, or a checkpoint was made on a way that is closed here.
    ModelError
        If torch cannot differentiate the model, or noise takes its inputs to where it is not finite.
    """
    box, loop = Box.of(task.start, task.lower, task.upper), loop_of(task, executor)
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
    perturbed = perturbed_of(task)
    course = course_by_torch(
        objective_of(task), task.descent, box, callback=callback, held=held, keeping=keeping,
        drawn=None if perturbed is None else perturbed.drawn,
    )  # fmt: skip
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


# ---------------------------------------------------------------------------- the loss


def surface_of(task: Task) -> Surface:
    """Return the loss with its derivatives, penalty and all."""
    return _surface(task) if task.shrink is None else TorchSurface(objective_of(task).loss, torch.float64)


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


def loop_of(task: Task, executor: str) -> Loop | str:
    """Return the loop to compile, or why there is none."""
    graph, descent = task.model.graph, task.descent
    reason = _needless(task, executor) or _unsuited(task)
    if reason or graph is None:
        return reason
    ready = ready_step(descent, len(task.start))
    if ready.step is None:
        return ready.reason
    rows, terms = len(task.problem.y), _terms(task.shrink)
    traits = _Traits(
        loss=task.cost.name,
        weighted=task.problem.weight is not None,
        batched=int(descent.batch_size or rows) < rows,
        bounded=bool(max(task.lower.max(), -task.upper.min()) > -np.inf),
        watched=task.watching is not None,
        penalty=None if terms is None else terms.shape,
    )
    plan = _plan(graph, task.free, ready.step, traits)
    if isinstance(plan, str):
        return plan
    square = float(task.cost.scale or 1.0) ** 2
    return Loop(plan, ready.make, ready.rate, ready.name, ready.title, square, terms)


def _terms(shrink: Shrink | None) -> Terms | None:
    return None if shrink is None else Terms(shrink.squares, shrink.absolute, shrink.centre, shrink.transform)


@dataclass(frozen=True)
class _Traits:
    """What the code of a loop depends on beside model and optimizer."""

    loss: str
    weighted: bool
    batched: bool
    bounded: bool
    watched: bool
    penalty: Shape | None


@lru_cache(maxsize=256)
def _plan(graph: Graph, free: tuple[int, ...], step: Step, traits: _Traits) -> Plan | str:
    if not frozenset(free) & graph.depends()[graph.value]:
        return "the model does not depend on its free parameters"
    return Plan(
        graph, free, step, traits.loss, traits.weighted, traits.batched, traits.bounded, traits.watched,
        traits.penalty,
    )  # fmt: skip


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
        (task.perturbation is not None, "the compiled loop has no noise and mixes no rows"),
        (task.descent.dtype != "float64", "the compiled loop is for float64"),
        (len(task.start) > MOST, f"the compiled loop is for {MOST} parameters at most"),
    )
    return next((reason for unsuited, reason in reasons if unsuited), "")


# ---------------------------------------------------------------------------- in torch


def objective_of(task: Task) -> Objective:
    """Return what is made small: the mean loss, and the penalty where there is one."""
    mean = _mean_loss(task)
    return mean if task.shrink is None else PenalisedMean(mean, task.shrink)


def perturbed_of(task: Task) -> PerturbedLoss | None:
    """Return the loss whose rows are perturbed for each update; None where they stay as they are."""
    if task.perturbation is None:
        return None
    return PerturbedLoss(_mean_loss(task), task.perturbation, task.shrink, int(task.descent.seed))


def _mean_loss(task: Task) -> MeanLoss:
    problem, model = task.problem, task.model
    weight = None if problem.weight is None else torch.as_tensor(problem.weight)
    columns = [torch.as_tensor(c) for c in problem.columns] if model.inputs else []
    y = torch.as_tensor(np.ascontiguousarray(problem.y))
    return MeanLoss(model.on_torch(), columns, y, weight, task.template, task.free, task.cost)
