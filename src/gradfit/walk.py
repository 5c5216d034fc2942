"""How a fit goes from its start to its end: closed form, Levenberg-Marquardt, a search, or an optimizer of torch."""

from dataclasses import dataclass, replace
from math import isfinite
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit.beginning import Starts
from gradfit.errors import ModelError
from gradfit.graph import Graph
from gradfit.loss import Loss, standard_deviation
from gradfit.model import BoundModel
from gradfit.notation import count, significant
from gradfit.prepare import Parameters, rows_text
from gradfit.shrinkage import Shrinkage
from gradfit.solve.counts import along_zero, brought_inside, rows_at_zero
from gradfit.solve.descent import Descent
from gradfit.solve.factor import Inverse
from gradfit.solve.lm import LM, minimise
from gradfit.solve.outcome import Outcome
from gradfit.solve.penalised import Shrink
from gradfit.solve.pieces import closed_in_pieces, in_pieces, suits
from gradfit.solve.problem import ModelProblem
from gradfit.solve.quick import quick, quick_closed_form
from gradfit.solve.separable import closed_form, projected
from gradfit.solve.start import Found
from gradfit.starting import Options, linear_in, searched
from gradfit.task import Task
from gradfit.training import Trained, train

Array = NDArray[np.float64]


LEVENBERG_MARQUARDT = "Levenberg-Marquardt"
PROJECTION = "variable projection, then Levenberg-Marquardt"
BY_SVD, BY_INVERSE = "closed form (QR and SVD)", "closed form (normal equations, refined)"
_CLOSED = ("Every parameter enters linearly: one solve gives the minimum",)
_NEAR = ("Every parameter enters linearly: least squares gave the start",)
_MOVED = ("At the start values the model is not positive; the fit began near them, where it is",)
GIVEN, NOT_NEEDED = Starts("given"), Starts("not needed")


@dataclass(eq=False)  # filled in on the way: by the walk, then by what called it
class Walk:
    """Where a solver ended, from where, and how that was done."""

    parameters: Parameters
    outcome: Outcome
    loss: Loss
    starts: Starts
    solver: str
    executor: str
    how: tuple[str, ...]
    shrinkage: Shrinkage | None = None
    trained: Trained | None = None


# ---------------------------------------------------------------------------- Levenberg-Marquardt


def walked(model: BoundModel, problem: ModelProblem, parameters: Parameters, options: Options) -> Walk:
    """Return a least-squares fit: in closed form, from the given start, or from the one that a search finds."""
    linear = linear_in(model, parameters)
    if len(linear) == len(parameters.free) and not options.search:
        done = _closed(model, problem, parameters, options)
        if options.loss.robust or problem.counts:
            done.loss, done.outcome = _fitted(
                model, problem, done.outcome.parameters, parameters, options=options
            )
            done.solver, done.how = LEVENBERG_MARQUARDT, _NEAR
        if not isfinite(done.outcome.loss):
            _finite_at(model, problem, done.outcome.parameters)
        return done
    if options.search or not parameters.complete:
        found = searched(model, problem, parameters, options)
        done = _from_search(found, model, problem, parameters, options=options)
        if not isfinite(done.outcome.loss):
            _finite_at(model, problem, done.outcome.parameters)
        return done
    begin = parameters.begin
    inside = brought_inside(problem, begin, parameters.bounds)
    loss, outcome = _fitted(model, problem, inside, parameters, options=options)
    if not isfinite(outcome.loss):
        _finite_at(model, problem, begin)
    how = () if inside is begin else _MOVED
    done = Walk(parameters, outcome, loss, GIVEN, LEVENBERG_MARQUARDT, outcome.by, how)
    return (
        _rescued(model, problem, parameters, options, lost=done)
        if _worth_rescuing(outcome, options)
        else done
    )


def _from_search(
    found: Found, model: BoundModel, problem: ModelProblem, parameters: Parameters, *, options: Options
) -> Walk:
    solver = PROJECTION if len(linear_in(model, parameters)) else LEVENBERG_MARQUARDT
    parameters = _with_free_start(parameters, found.parameters)
    how = (_search_sentence(found), *_rival_sentence(found, model, parameters))
    if found.interrupted:
        outcome = _stopped(problem, found.parameters)
        return Walk(parameters, outcome, options.loss, _starts_of(found), solver, "", how)
    loss, outcome = _fitted(model, problem, found.parameters, parameters, options=options)
    return Walk(parameters, outcome, loss, _starts_of(found), solver, outcome.by, how)


def _stopped(problem: ModelProblem, point: Array) -> Outcome:
    residuals = problem.residual(point)
    message = "Stopped by the user during the search for start values; these are the best parameters so far"
    return Outcome(point, float(residuals @ residuals), "interrupted", message, 0, 1)


def _executor(problem: ModelProblem, options: Options) -> str:
    """Return what is to evaluate the model where there is a choice: machine code once the work has earned it."""
    if options.executor != "auto" or problem.small is None:
        return options.executor if options.executor == "native" else "numpy"
    return "native" if problem.small.earned(len(problem.y)) else "numpy"


def _taken_apart(model: BoundModel, problem: ModelProblem, options: Options) -> Graph | None:
    """Return the graph of a model whose many rows are summed in pieces, None where they are taken as a whole."""
    return model.graph if options.executor != "tensor" and suits(problem) else None


def _count(problem: ModelProblem, outcome: Outcome) -> None:
    """Count the work that NumPy did towards machine code."""
    if problem.small is not None and outcome.by != "native":
        problem.small.worked(outcome.evaluations, len(problem.y))


def _closed(model: BoundModel, problem: ModelProblem, parameters: Parameters, options: Options) -> Walk:
    """Return the least-squares fit of a linear problem; from zero, as a start of 1e20 would cost the digits of the data.

    Raises
    ------
    ModelError
        If the model is not finite on the data.
    """
    begin, problem = np.zeros(len(parameters.free)), problem.quadratic()
    executor, graph = _executor(problem, options), _taken_apart(model, problem, options)
    outcome = quick_closed_form(problem, begin) if executor == "native" else None
    if outcome is None and graph is not None:
        outcome = closed_in_pieces(problem, graph, begin, executor=executor)
    outcome = outcome or closed_form(problem, begin)
    _count(problem, outcome)
    if not isfinite(outcome.loss):
        raise ModelError(
            "The model is not finite on these data", remedy="Leave out the rows where it is not, with where="
        )
    solver = BY_INVERSE if isinstance(outcome.factor, Inverse) else BY_SVD
    return Walk(parameters, outcome, options.loss, NOT_NEEDED, solver, outcome.by, _CLOSED)


def _with_free_start(parameters: Parameters, start: Array) -> Parameters:
    whole = parameters.start.copy()
    whole[parameters.free] = start
    return replace(parameters, start=whole)


def _fitted(
    model: BoundModel, problem: ModelProblem, start: Array, parameters: Parameters, *, options: Options
) -> tuple[Loss, Outcome]:
    """Return the fit from one start; for a robust loss without a scale, in turns with the estimate of the scale."""
    bounds = None if parameters.plain else parameters.bounds
    settings = options.solver if isinstance(options.solver, LM) else LM()
    loss, graph = options.loss, _taken_apart(model, problem, options)

    def run(point: Array, loss: Loss) -> Outcome:
        executor, watch = _executor(problem, options), options.callback
        if executor == "native" and not loss.robust and watch is None:
            compiled = quick(problem, point, bounds=bounds, settings=settings)
            if compiled is not None:
                return compiled
        if graph is None:
            outcome = minimise(problem, point, bounds=bounds, loss=loss, settings=settings, watch=watch)
        else:
            outcome = in_pieces(
                problem, graph, point, bounds=bounds, loss=loss, settings=settings, watch=watch, executor=executor
            )  # fmt: skip
        _count(problem, outcome)
        return outcome

    if not loss.robust or loss.scale is not None:
        start = brought_inside(problem, start, bounds)
        return loss, _off_zero(problem, start, bounds, run(start, loss))
    outcome = run(start, Loss("squared"))
    for _ in range(20):
        deviation = standard_deviation(problem.residual(outcome.parameters), len(start))
        scale = max(loss.tuning * deviation, 1e-300)
        done = loss.scale is not None and abs(scale - loss.scale) <= 1e-6 * scale
        if done or outcome.status == "interrupted":
            break
        loss = replace(loss, scale=scale)
        outcome = run(outcome.parameters, loss)
    return loss, outcome


def _off_zero(
    problem: ModelProblem, start: Array, bounds: tuple[Array, Array] | None, outcome: Outcome
) -> Outcome:
    """Return the outcome; of counts whose mean ran into zero, the least deviance along that edge."""
    if outcome.status == "interrupted" or not len(rows_at_zero(problem, outcome.parameters, bounds)):
        return outcome
    return along_zero(problem, start, bounds) or outcome


def _finite_at(model: BoundModel, problem: ModelProblem, start: Array) -> None:
    """Say which row, which parameters and which operation, where the start values make no number.

    Raises
    ------
    ModelError
        With that sentence.
    """
    residuals, _ = problem.residual_jacobian(start)
    bad = ~np.isfinite(residuals)
    if not bad.any():
        return
    whole = problem.whole(start)
    values = dict(zip(model.parameters, whole.tolist(), strict=True))
    at = ", ".join(f"{name} = {value:.6g}" for name, value in values.items())
    value = problem.model.value(problem.columns, whole)
    first = (
        int(np.flatnonzero(~np.isfinite(value))[0])
        if not np.isfinite(value).all()
        else int(np.flatnonzero(bad)[0])
    )
    inputs = ", ".join(
        f"{name} = {column[first]:.6g}" for name, column in zip(model.inputs, problem.columns, strict=False)
    )
    cause = _cause(model, problem, whole, first)
    what = (
        "overflows"
        if np.isinf(value[first])
        else "is not a number"
        if np.isnan(value[first])
        else f"is {value[first]:.4g} where the mean of a count must be above zero,"
        if problem.counts and not value[first] > 0
        else "has no finite derivative"
    )
    rows = np.flatnonzero(~np.isfinite(value)) if not np.isfinite(value).all() else np.flatnonzero(bad)
    kept = "positive" if problem.counts else "finite"
    raise ModelError(
        f"{model.text} {what} at the start values {at} in {rows_text(rows + 1)} of the data used"
        + (f", where {inputs}" if inputs else "")
        + (f": {cause}" if cause else ""),
        remedy=f"Give other start values, bounds that keep the model {kept}, or none, to have them found",
    )


def _cause(model: BoundModel, problem: ModelProblem, whole: Array, row: int) -> str:
    if model.expression is None:
        return ""
    values: dict[str, float] = dict(zip(model.parameters, whole.tolist(), strict=True))
    values |= {name: float(column[row]) for name, column in zip(model.inputs, problem.columns, strict=False)}
    return model.expression.first_failure(values)


def _worth_rescuing(outcome: Outcome, options: Options) -> bool:
    """Whether another way may be tried: not when the user stopped the fit, or gave it fewer iterations than usual."""
    limited = isinstance(options.solver, LM) and options.solver.max_iterations < LM().max_iterations
    return outcome.status == "stalled" or (outcome.status == "max-iterations" and not limited)


def _rescued(
    model: BoundModel, problem: ModelProblem, parameters: Parameters, options: Options, *, lost: Walk
) -> Walk:
    """Return what variable projection from the given start finds, or a search, where the walk ended nowhere."""
    linear = linear_in(model, parameters)
    if len(linear):
        point, _ = projected(problem.quadratic(), linear, parameters.begin, parameters.bounds, settings=LM())
        _, other = _fitted(model, problem, point, parameters, options=options)
        if other.converged and other.loss < lost.outcome.loss:
            names = count(len(linear), "linear parameter")
            told = f"{lost.outcome.message}; so {names} were solved apart (variable projection) from the same start"
            lost.outcome, lost.how, lost.solver = other, (told,), PROJECTION
            return lost
    found = searched(model, problem, parameters, options, afresh=True)
    _, other = _fitted(model, problem, found.parameters, parameters, options=options)
    if other.converged and other.loss < lost.outcome.loss:
        lost.how = (f"{lost.outcome.message}; so other starts were tried. {_search_sentence(found)}",)
        lost.outcome, lost.starts = other, _starts_of(found)
    return lost


def _starts_of(found: Found) -> Starts:
    return Starts("search", found.tried, len(found.losses), found.reached, tuple(found.losses.tolist()))


def _search_sentence(found: Found) -> str:
    return (
        f"Start values were found by a search: {count(found.tried, 'draw')}, {len(found.losses)} refined, "
        f"{found.reached} of those reached this minimum"
    )


def _rival_sentence(found: Found, model: BoundModel, parameters: Parameters) -> tuple[str, ...]:
    """Return that there is another minimum, where there is one that the data hardly tell from the lowest."""
    if found.rival is None:
        return ()
    there, loss = found.rival
    more = loss / float(np.min(found.losses)) - 1
    higher = "" if more < 1e-4 else f" only {significant(100 * more, 2)} %"
    names = [model.parameters[j] for j in parameters.free]
    at = ", ".join(f"{name} = {value:.4g}" for name, value in zip(names, there, strict=True))
    told = f"with a loss{higher} higher" if higher else "with the same loss"
    return (f"Another minimum, {told}, lies at {at}: these data hardly tell the two apart",)


# ---------------------------------------------------------------------------- torch.optim


def trained(
    model: BoundModel,
    problem: ModelProblem,
    parameters: Parameters,
    options: Options,
    *,
    shrink: Shrink | None = None,
) -> Walk:
    """Return a fit by an optimizer of torch, from the given start or the one a search finds.

    Parameters
    ----------
    shrink : Shrink, optional
        A penalty, in units of the mean loss.

    Raises
    ------
    ModelError
        If errors are correlated, or torch cannot differentiate the model.
    """
    begun = task_of(model, problem, parameters, options, shrink=shrink)
    task = begun.task
    done = train(task, options.executor, options.callback)
    how = (*begun.how, *done.told, done.how)
    return Walk(
        begun.parameters, done.outcome, task.cost, begun.starts, _title(done.descent), done.executor, how, trained=done
    )  # fmt: skip


class Begun(NamedTuple):
    """A training before its first epoch: what is to be trained, from where, and what was decided on the way."""

    task: Task
    parameters: Parameters
    starts: Starts
    how: tuple[str, ...]


def task_of(
    model: BoundModel,
    problem: ModelProblem,
    parameters: Parameters,
    options: Options,
    *,
    shrink: Shrink | None = None,
) -> Begun:
    """Return what an optimizer of torch is to train.

    Raises
    ------
    ModelError
        If errors are correlated, or the model is not finite at the start.
    """
    assert isinstance(options.solver, Descent)  # noqa: S101  solve() chose this walk by the solver's type
    if problem.weight is not None and problem.weight.ndim == 2:
        raise ModelError("Correlated errors need Levenberg-Marquardt", remedy='Use solver="lm"')
    start, starts, how = parameters.begin, GIVEN, ()
    if options.search or not parameters.complete:
        found = searched(model, problem, parameters, options)
        start, starts, how = found.parameters, _starts_of(found), (_search_sentence(found),)
    _finite_at(model, problem, start)
    parameters = _with_free_start(parameters, start)
    loss = options.loss
    if loss.robust and loss.scale is None:
        deviation = standard_deviation(problem.residual(start), len(start))
        loss = replace(loss, scale=max(loss.tuning * deviation, 1e-300))
        how = (*how, f"The scale of the loss, {loss.scale:.4g}, is that of the residuals at the start")
    asked = options.perturbing
    task = Task(
        model, problem, loss, options.solver, start, *parameters.bounds, template=parameters.start,
        scale=options.scale, shrink=shrink, watching=options.watching, checkpoint=options.checkpoint, perturbing=asked,
        perturbation=None if asked is None else asked.over(model.inputs, problem.columns),
    )  # fmt: skip
    return Begun(task, parameters, starts, how)


def _title(descent: Descent) -> str:
    name = (
        descent.optimizer
        if isinstance(descent.optimizer, str)
        else getattr(descent.optimizer, "__name__", type(descent.optimizer).__name__)
    )
    rate = "" if descent.rate is None else f"lr={descent.rate:g}, "
    return f"{name}({rate}epochs={descent.epochs})"
