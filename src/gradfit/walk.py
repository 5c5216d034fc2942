"""How a fit goes from its start to its end: closed form, Levenberg-Marquardt, a search, or an optimizer of torch."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import ModelError
from gradfit.kernel import NumpyKernel
from gradfit.loss import Loss, standard_deviation
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.prepare import Parameters, rows_text
from gradfit.result import Starts
from gradfit.solve.descent import Descent, descend
from gradfit.solve.lm import LM, minimise
from gradfit.solve.outcome import Outcome
from gradfit.solve.problem import ModelProblem
from gradfit.solve.separable import Separable, closed_form
from gradfit.solve.start import Found, Scales, Search, search

Array = NDArray[np.float64]
MANY_ROWS = 2_000  # a search looks at so many rows at most; the fit that follows uses all


class Options(Protocol):
    """The options that a walk reads."""

    @property
    def loss(self) -> Loss: ...  # noqa: D102  what residuals cost
    @property
    def solver(self) -> LM | Descent: ...  # noqa: D102  the solver and its settings
    @property
    def search(self) -> bool: ...  # noqa: D102  whether to search although a start is known
    @property
    def seed(self) -> int: ...  # noqa: D102  of everything random
    @property
    def callback(self) -> Callable[..., object] | None: ...  # noqa: D102  called after each step


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


# ---------------------------------------------------------------------------- Levenberg-Marquardt


def walked(model: BoundModel, problem: ModelProblem, parameters: Parameters, options: Options) -> Walk:
    """Return a least-squares fit.

    Raises
    ------
    ModelError
        If the model is not finite at the start values that were given.
    """
    linear = linear_in(model, parameters)
    start = parameters.start[parameters.free]
    stopped = False
    if len(linear) == len(start) and not options.search:
        start, starts, how = np.where(np.isnan(start), 0.0, start), Starts("not needed"), ("Every parameter enters linearly: one orthogonal solve gives the minimum",)
        first = _closed(problem, start)
        if not options.loss.robust:
            return Walk(parameters, first, options.loss, starts, "closed form (QR and SVD)", "", how)
        start = first.parameters
    elif np.isnan(start).any() or options.search:
        found = searched(model, problem, parameters, options)
        start, starts, how = found.parameters, _starts_of(found), (_search_sentence(found),)
        stopped = found.interrupted
    else:
        starts, how = Starts("given"), ()
        _finite_at(model, problem, parameters, start)
    parameters = _with_free_start(parameters, start)
    if stopped:
        return Walk(parameters, _stopped(problem, start), options.loss, starts, "search, stopped by the user", "", how)
    loss, outcome = _fitted(problem, start, parameters, options)
    solver = "Levenberg-Marquardt"
    if starts.source == "given" and _worth_rescuing(outcome, options):
        outcome, solver, how, starts = _rescued(model, problem, parameters, options, outcome, starts)
    if starts.source == "search" and len(linear):
        solver = "variable projection, then Levenberg-Marquardt"
    return Walk(parameters, outcome, loss, starts, solver, "", how)


def _stopped(problem: ModelProblem, point: Array) -> Outcome:
    residuals = problem.residual(point)
    message = "Stopped by the user during the search for start values; these are the best parameters so far"
    return Outcome(point, float(residuals @ residuals), "interrupted", message, 0, 1)


def linear_in(model: BoundModel, parameters: Parameters) -> NDArray[np.int64]:
    """Return which free parameters (positions among the free ones) enter linearly and have no bound."""
    if model.graph is None:
        return np.empty(0, dtype=np.int64)
    if parameters.plain:
        return np.array(model.graph.linear, dtype=np.int64)
    free = {int(j): i for i, j in enumerate(parameters.free)}
    open_ = np.isneginf(parameters.lower) & np.isposinf(parameters.upper)
    return np.array([free[j] for j in model.graph.linear if j in free and open_[j]], dtype=np.int64)


def _closed(problem: ModelProblem, start: Array) -> Outcome:
    """The minimum of a linear problem, with its rounding corrected once."""
    outcome = closed_form(problem, start)
    if not np.isfinite(outcome.loss):
        raise ModelError("The model is not finite on these data", remedy="Leave out the rows where it is not, with where=")
    return outcome


def _with_free_start(parameters: Parameters, start: Array) -> Parameters:
    whole = parameters.start.copy()
    whole[parameters.free] = start
    return replace(parameters, start=whole)


def _fitted(problem: ModelProblem, start: Array, parameters: Parameters, options: Options) -> tuple[Loss, Outcome]:
    """The fit from one start; for a robust loss without a scale, in turns with the estimate of the scale."""
    free = parameters.free
    bounds = (parameters.lower[free], parameters.upper[free])
    settings = options.solver if isinstance(options.solver, LM) else LM()
    loss = options.loss

    def run(point: Array, loss: Loss) -> Outcome:
        return minimise(problem, point, bounds=bounds, loss=loss, settings=settings, watch=options.callback)

    if not loss.robust or loss.scale is not None:
        return loss, run(start, loss)
    outcome = run(start, Loss("squared"))
    for _ in range(20):
        deviation = standard_deviation(problem.residual(outcome.parameters), len(free))
        scale = max(loss.tuning * deviation, 1e-300)
        done = loss.scale is not None and abs(scale - loss.scale) <= 1e-6 * scale
        if done or outcome.status == "interrupted":
            break
        loss = replace(loss, scale=scale)
        outcome = run(outcome.parameters, loss)
    return loss, outcome


def _finite_at(model: BoundModel, problem: ModelProblem, parameters: Parameters, start: Array) -> None:
    """Say which row, which parameters and which operation, where the start values make no number."""
    residuals, _ = problem.residual_jacobian(start)
    bad = ~np.isfinite(residuals)
    if not bad.any():
        return
    whole = problem.whole(start)
    values = dict(zip(model.parameters, whole.tolist(), strict=True))
    at = ", ".join(f"{name} = {value:.6g}" for name, value in values.items())
    value = problem.model.value(problem.columns, whole)
    first = int(np.flatnonzero(~np.isfinite(value))[0]) if not np.isfinite(value).all() else int(np.flatnonzero(bad)[0])
    inputs = ", ".join(f"{name} = {column[first]:.6g}" for name, column in zip(model.inputs, problem.columns, strict=False))
    cause = _cause(model, problem, whole, first)
    what = "overflows" if np.isinf(value[first]) else "is not a number" if np.isnan(value[first]) else "has no finite derivative"
    rows = np.flatnonzero(~np.isfinite(value)) if not np.isfinite(value).all() else np.flatnonzero(bad)
    raise ModelError(
        f"{model.text} {what} at the start values {at} in {rows_text(rows + 1)} of the data used"
        + (f", where {inputs}" if inputs else "")
        + (f": {cause}" if cause else ""),
        remedy="Give other start values, bounds that keep the model finite, or none, to have them found",
    )


def _cause(model: BoundModel, problem: ModelProblem, whole: Array, row: int) -> str:
    if model.expression is None:
        return ""
    values: dict[str, object] = dict(zip(model.parameters, whole.tolist(), strict=True))
    values |= {name: float(column[row]) for name, column in zip(model.inputs, problem.columns, strict=False)}
    return model.expression.first_failure(values)


def _worth_rescuing(outcome: Outcome, options: Options) -> bool:
    """Whether another way may be tried: not when the user stopped the fit, or gave it fewer iterations than usual."""
    limited = isinstance(options.solver, LM) and options.solver.max_iterations < LM().max_iterations
    return outcome.status == "stalled" or (outcome.status == "max-iterations" and not limited)


def _rescued(
    model: BoundModel, problem: ModelProblem, parameters: Parameters, options: Options, outcome: Outcome, starts: Starts
) -> tuple[Outcome, str, tuple[str, ...], Starts]:
    """The walk from the given start did not end at a minimum: variable projection from there, then a search."""
    before = f"{outcome.message}; so "
    linear = linear_in(model, parameters)
    start = parameters.start[parameters.free]
    if len(linear):
        point, _ = _projected(problem, linear, parameters, start, LM())
        _, other = _fitted(problem, point, parameters, options)
        if other.converged and other.loss < outcome.loss:
            how = (before + f"{count(len(linear), 'linear parameter')} were solved apart (variable projection) from the same start",)
            return other, "variable projection, then Levenberg-Marquardt", how, starts
    found = searched(model, problem, parameters, options, afresh=True)
    _, other = _fitted(problem, found.parameters, parameters, options)
    if other.loss < outcome.loss and other.converged:
        return other, "Levenberg-Marquardt", (before + _search_sentence(found).lower(),), _starts_of(found)
    return outcome, "Levenberg-Marquardt", (), starts


# ---------------------------------------------------------------------------- search


def searched(
    model: BoundModel, problem: ModelProblem, parameters: Parameters, options: Options, *, quick: bool = False, afresh: bool = False
) -> Found:
    """Return the lowest minimum that many starts reach; on at most a few thousand of the rows."""
    thin = _thinned(problem)
    linear = linear_in(model, parameters)
    free = parameters.free
    bounds = (parameters.lower[free], parameters.upper[free])
    given = parameters.start[free]
    if options.search or quick or afresh:
        given = np.full(len(free), np.nan)
    linear = linear[np.isnan(given[linear])]
    settings = LM(max_iterations=100)

    def refine(start: Array) -> tuple[Array, float]:
        if not np.isfinite(thin.residual(start)).all():
            return start, np.inf
        if len(linear):
            point, loss = _projected(thin, linear, parameters, start, settings)
            if np.isfinite(loss):
                return point, loss
        done = minimise(thin, start, bounds=bounds, settings=settings)
        if done.status == "interrupted":
            raise KeyboardInterrupt
        return done.parameters, done.loss

    traced = isinstance(problem.model, NumpyKernel)
    batch = _batch(thin, linear) if traced else _one_by_one(thin)
    unknowns = int(np.count_nonzero(np.isnan(given))) - len(linear)
    plan = Search.for_unknowns(unknowns, options.seed)
    if not traced:
        plan = replace(plan, count=64, generations=2, most=12, rounds=2)
    if quick:
        plan = replace(plan, rounds=1, most=12)
    scales = Scales.of(thin.columns if model.inputs else [], thin.y)
    found = search(batch, refine, scales=scales, bounds=bounds, linear=linear, given=given, settings=plan)
    if not np.isfinite(found.losses).any() and not found.interrupted:
        raise ModelError(
            f"{model.text} is finite at none of {found.tried} starts that were tried",
            remedy="Give start values, or bounds that keep the model finite",
        )
    return found


def _thinned(problem: ModelProblem) -> ModelProblem:
    rows = len(problem.y)
    if rows <= MANY_ROWS or (problem.weight is not None and problem.weight.ndim == 2) or not isinstance(problem.model, NumpyKernel):
        return problem
    pick = np.unique(np.linspace(0, rows - 1, MANY_ROWS).astype(int))
    weight = None if problem.weight is None else problem.weight[pick]
    return replace(problem, columns=[c[pick] for c in problem.columns], y=problem.y[pick], weight=weight)


def _batch(problem: ModelProblem, linear: NDArray[np.int64]) -> Callable[[Array], tuple[Array, Array]]:
    free = np.arange(len(problem.template)) if problem.free is None else problem.free

    def batch(points: Array) -> tuple[Array, Array]:
        whole = np.repeat(np.nan_to_num(problem.template)[:, None], points.shape[1], axis=1)
        whole[free] = points
        value, jacobian = problem.model.value_jacobian(problem.columns, whole[:, :, None])
        weight = problem.weight
        basis = jacobian[free[linear]]
        if weight is not None and weight.ndim == 1:
            return (value - problem.y) * weight, basis * weight
        return value - problem.y, basis

    return batch


def _one_by_one(problem: ModelProblem) -> Callable[[Array], tuple[Array, Array]]:
    def batch(points: Array) -> tuple[Array, Array]:
        residuals = np.stack([problem.residual(p) for p in points.T])
        return residuals, np.empty((0, *residuals.shape))

    return batch


def _projected(
    problem: ModelProblem, linear: NDArray[np.int64], parameters: Parameters, start: Array, settings: LM
) -> tuple[Array, float]:
    """Variable projection from a start: all parameters at its end, and the sum of squares there."""
    nonlinear = np.setdiff1d(np.arange(len(start)), linear)
    if len(nonlinear) == 0:
        outcome = closed_form(problem, np.nan_to_num(start))
        return outcome.parameters, outcome.loss
    apart = Separable(problem, linear, nonlinear, np.nan_to_num(start))
    free = parameters.free[nonlinear]
    bounds = (parameters.lower[free], parameters.upper[free])
    outcome = minimise(apart, apart.latest[nonlinear], bounds=bounds, settings=settings)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    point, residuals, _ = apart.solved(outcome.parameters)
    if not np.isfinite(residuals).all():
        return apart.latest, outcome.loss
    return point, outcome.loss


def _starts_of(found: Found) -> Starts:
    return Starts("search", found.tried, len(found.losses), found.reached, tuple(found.losses.tolist()))


def _search_sentence(found: Found) -> str:
    return (
        f"Start values were found by a search: {count(found.tried, 'draw')}, {len(found.losses)} refined, "
        f"{found.reached} of those reached this minimum"
    )


# ---------------------------------------------------------------------------- torch.optim


@dataclass(frozen=True)
class _MeanLoss:
    """The mean loss of weighted residuals, as a torch function of the free parameters."""

    function: Callable[..., "torch.Tensor"]
    columns: list["torch.Tensor"]
    y: "torch.Tensor"
    weight: "torch.Tensor | None"
    template: Array
    free: NDArray[np.int64]
    cost: Loss

    @property
    def rows(self) -> int:
        """Number of observations."""
        return len(self.y)

    def loss(self, parameters: "torch.Tensor", rows: "torch.Tensor | None") -> "torch.Tensor":
        """Return the mean over the rows at parameters (k,)."""
        pick = (lambda t: t.to(parameters.dtype)) if rows is None else (lambda t: t[rows].to(parameters.dtype))
        whole: list[object] = self.template.tolist()
        for i, j in enumerate(self.free):
            whole[j] = parameters[i]
        value = self.function(*(pick(c) for c in self.columns), *whole)
        residual = value - pick(self.y)
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


def trained(model: BoundModel, problem: ModelProblem, parameters: Parameters, options: Options) -> Walk:
    """Return a fit by an optimizer of torch, from the given start or the one a search finds."""
    assert isinstance(options.solver, Descent)  # noqa: S101  solve() chose this walk by the solver's type
    if problem.weight is not None and problem.weight.ndim == 2:
        raise ModelError("Correlated errors need Levenberg-Marquardt", remedy='Use solver="lm"')
    start, starts, how = parameters.start[parameters.free], Starts("given"), ()
    if np.isnan(start).any() or options.search:
        found = searched(model, problem, parameters, options)
        start, starts, how = found.parameters, _starts_of(found), (_search_sentence(found),)
    _finite_at(model, problem, parameters, start)
    parameters = _with_free_start(parameters, start)
    loss = options.loss
    if loss.robust and loss.scale is None:
        deviation = standard_deviation(problem.residual(start), len(start))
        loss = replace(loss, scale=max(loss.tuning * deviation, 1e-300))
        how = (*how, f"The scale of the loss, {loss.scale:.4g}, is that of the residuals at the start")
    weight = None if problem.weight is None else torch.as_tensor(problem.weight)
    objective = _MeanLoss(
        model.on_torch(), [torch.as_tensor(c) for c in problem.columns] if model.inputs else [],
        torch.as_tensor(np.ascontiguousarray(problem.y)), weight, parameters.start, parameters.free, loss,
    )  # fmt: skip
    free = parameters.free
    outcome = descend(
        objective, start, options.solver, callback=options.callback, lower=parameters.lower[free], upper=parameters.upper[free]
    )
    return Walk(parameters, outcome, loss, starts, _title(options.solver), "", how)


def _title(descent: Descent) -> str:
    name = descent.optimizer if isinstance(descent.optimizer, str) else getattr(descent.optimizer, "__name__", type(descent.optimizer).__name__)
    rate = "" if descent.lr is None else f"lr={descent.lr:g}, "
    return f"{name}({rate}epochs={descent.epochs})"
