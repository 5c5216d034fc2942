"""Training with an optimizer of torch: as one compiled loop over the epochs where that can be, else step by step in torch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.checkpoint import Identity, digest
from gradfit.errors import ModelError
from gradfit.perturbing import Rows, noise_path
from gradfit.rates import TRIALS, Bend, Ground, Rate, Trial, find_rate, forecast
from gradfit.scaling import Scaling, scaled, scaling
from gradfit.shrinkage import PenaltyPath
from gradfit.solve.compiled import Loop
from gradfit.solve.descent import Descent, Progress, optimizer_settings
from gradfit.solve.ending import Course, HeldTrail, ending
from gradfit.solve.outcome import Outcome, Point
from gradfit.solve.patience import Watching
from gradfit.solve.perturbation import PerturbedLoss
from gradfit.solve.snapshot import NOT_KEPT
from gradfit.solve.stability import Forecast, law_of
from gradfit.solve.stepping import ending_by_torch
from gradfit.solve.surface import TorchSurface
from gradfit.task import MOST, WORTH, Task, loop_of, objective_of, perturbed_of, rows_of, run, surface_of
from gradfit.telling import Telling

Array = NDArray[np.float64]

COMPILED = "native (one loop over all epochs)"
NEAR = 0.2  # confidence radii to the minimum that count as arrived where rows are perturbed: no update sees the same loss


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
    noise : PenaltyPath, optional
        The strengths of noise that were tried.
    """

    outcome: Outcome
    executor: str
    how: str
    descent: Descent
    told: tuple[str, ...]
    task: Task
    course: Course
    scaling: Scaling | None
    noise: PenaltyPath | None = None


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
    path = None
    asked, drawn = task.perturbing, task.perturbation
    if asked is not None and drawn is not None:
        path = _noise_found(replace(task, descent=inner.descent), executor) if asked.searched else None
        drawn = drawn if path is None else drawn.times(float(path.strength[path.chosen]))
        task, inner = replace(task, perturbation=drawn), replace(inner, perturbation=drawn)
        told = (*told, asked.told(path))
    keeping = NOT_KEPT
    if task.checkpoint is not None:
        keeping = task.checkpoint.keeping(_identity(task, inner.descent), int(task.descent.epochs))
    ran = run(inner, executor, _telling(task, scale, callback), keeping)
    course = ran.course if scale is None else _in_units(ran.course, scale, task)
    outcome = _judged(task, inner, scale, course, compiled=ran.compiled)
    told = told if scale is None else (scale.told, *told)
    if task.watching is not None:
        told = (*told, *filter(None, [task.watching.patience.longer_than(int(task.descent.epochs))]))
    by = COMPILED if ran.compiled else task.problem.model.name
    return Trained(outcome, by, ran.how, inner.descent, told, task, course, scale, path)


def _judged(task: Task, inner: Task, scale: Scaling | None, course: Course, *, compiled: bool) -> Outcome:
    """Return how a training has ended, in the user's units."""
    perturbed = perturbed_of(task)
    if perturbed is not None:
        return _judged_on_average(perturbed, task.descent, course)
    course = replace(course, forecast=_foreseen(inner, scale))
    return (
        ending(surface_of(task), course)
        if compiled
        else ending_by_torch(objective_of(task), task.descent, course)
    )


def _judged_on_average(perturbed: PerturbedLoss, descent: Descent, course: Course) -> Outcome:
    """Return how a training has ended whose parameters never rest, as no update sees the same rows.

    It has arrived near the minimum of the loss with noise; or within a confidence radius of it, where the average over
    the last fifth of the epochs is near. Whether the loss still falls is asked of its mean over many draws.
    """
    with_draws = replace(course, trail=_averaged(perturbed, course))
    outcome = ending_by_torch(perturbed, descent, replace(with_draws, near=NEAR))
    late = course.trail[course.trail[:, 0] >= 0.8 * course.epochs]
    if not outcome.converged and course.reason == "done" and course.held is None and len(late) > 1:
        centre = late[:, -len(course.parameters) :].mean(axis=0)
        settled = ending_by_torch(perturbed, descent, replace(with_draws, parameters=centre, near=NEAR))
        if settled.converged:
            outcome = ending_by_torch(perturbed, descent, replace(with_draws, near=1.0))
    return replace(outcome, points=lambda: _as_seen(course, outcome.points))


def _as_seen(course: Course, points: Sequence[Point] | Callable[[], Sequence[Point]]) -> list[Point]:
    """Return the points of a history with the losses that the updates saw."""
    seen = dict(zip(course.trail[:, 0].astype(int).tolist(), course.trail[:, 1].tolist(), strict=True))
    every = points() if callable(points) else points
    return [(step, seen.get(step, loss), gradient, parameters) for step, loss, gradient, parameters in every]


def _averaged(perturbed: PerturbedLoss, course: Course) -> Array:
    """Return the trail with losses that are means over the same draws, where it begins and a tenth before its end."""
    trail = course.trail.copy()
    if len(trail):
        for row in {0, int(np.searchsorted(trail[:, 0], 0.9 * course.epochs, side="right")) - 1}:
            with torch.no_grad():
                at = torch.tensor(trail[row, -len(course.parameters) :], dtype=torch.float64, device="cpu")
                trail[row, 1] = perturbed.loss(at, None).item()
    return trail


def _noise_found(task: Task, executor: str) -> PenaltyPath:
    """Return which strengths of the noise were tried, with the same training on the rows of each fold."""

    def trained(strength: float, rows: Rows) -> Array:
        part, asked = rows_of(task, rows), task.perturbing
        drawn = None if asked is None else asked.over(task.model.inputs, part.problem.columns)
        part = replace(part, perturbation=None if drawn is None else drawn.times(strength))
        scale = _scaling(part) if task.scale == "auto" else None
        try:
            course = run(part if scale is None else _in_scale(part, scale), executor).course
        except ModelError:  # noise takes inputs to where the model is not finite: too much of it
            return np.full(len(task.start), np.nan)
        if course.reason == "interrupted":
            raise KeyboardInterrupt
        turned = course.parameters if scale is None else scale.transform @ course.parameters
        return np.clip(turned, task.lower, task.upper)

    def loss(parameters: Array, rows: Rows) -> float:
        residuals = rows_of(task, rows).problem.residual(parameters)
        return task.cost.cost(residuals) / len(rows)

    names = tuple(task.model.parameters[j] for j in task.free)
    return noise_path(len(task.problem.y), names, trained=trained, loss=loss, seed=int(task.descent.seed))


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
        "noise": "none" if task.perturbation is None else digest(task.perturbation.noise, np.array(task.perturbation.mixup)),
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
        seconds=seconds_of(task, executor), attempt=lambda rates, epochs: [_trial(task, executor, rate, epochs) for rate in rates],
        own_step=name == "LBFGS",
    )  # fmt: skip


def seconds_of(task: Task, executor: str) -> float:
    """Return about how long a training takes: from its work, not by a clock, so that the same is decided everywhere."""
    epochs, rows, graph = int(task.descent.epochs), len(task.problem.y), task.model.graph
    native = _executor_of_trials(task, executor) == "native"
    if native and graph is not None and isinstance(loop_of(task, "native"), Loop):
        return 1e-9 * (epochs * rows * len(graph.nodes) + 100 * task.updates)
    name = optimizer_settings(task.descent, len(task.start))[0]
    return (20 if name == "LBFGS" else 1) * (3e-4 * task.updates + 1e-8 * epochs * rows)


def _is_quadratic(task: Task) -> bool:
    """Return whether the loss is a quadratic of which every step sees all: then its curvature says everything."""
    graph, descent = task.model.graph, task.descent
    linear = graph is not None and set(task.free) <= set(graph.linear)
    plain = task.cost.name == "squared" and task.shrink is None and task.perturbation is None
    unbounded = bool(np.isinf(task.lower).all() and np.isinf(task.upper).all())
    return (
        linear and plain and unbounded and descent.scheduler is None and task.updates == int(descent.epochs)
    )


def _trial(task: Task, executor: str, rate: float, epochs: int) -> Trial:
    descent = replace(task.descent, lr=rate, epochs=epochs)
    course = run(replace(task, descent=descent, watching=None), executor).course
    final = np.inf if course.reason == "diverged" else _loss_at(task, course.parameters)
    steps = np.append(course.trail[:, 0], float(epochs))
    return Trial(rate, steps, np.append(course.trail[:, 1], final))


def _loss_at(task: Task, parameters: Array) -> float:
    if task.cost.counts or task.shrink is not None:
        return TorchSurface(objective_of(task).loss, torch.float64).value(parameters)
    residuals = task.problem.residual(parameters)
    return task.cost.cost(residuals) / len(residuals)
