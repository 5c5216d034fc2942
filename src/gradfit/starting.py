"""From a model and data to start values: a search in which the linear parameters are solved apart."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import ModelError
from gradfit.kernel import NumpyKernel
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.prepare import Parameters
from gradfit.solve.counts import brought_inside
from gradfit.solve.descent import Descent
from gradfit.solve.lm import LM, minimise
from gradfit.solve.problem import ModelProblem
from gradfit.solve.separable import Separable, closed_form
from gradfit.solve.start import Batch, Found, Scales, Search, search

Array = NDArray[np.float64]
MANY_ROWS = 2_000  # a search looks at so many rows at most; the fit that follows uses all


class Options(Protocol):
    """The options that a walk reads."""

    @property
    def loss(self) -> Loss: ...  # noqa: D102  what residuals cost
    @property
    def solver(self) -> LM | Descent: ...  # noqa: D102  the solver and its settings
    @property
    def executor(self) -> str: ...  # noqa: D102  what evaluates the model
    @property
    def search(self) -> bool: ...  # noqa: D102  whether to search although a start is known
    @property
    def seed(self) -> int: ...  # noqa: D102  of everything random
    @property
    def callback(self) -> Callable[..., object] | None: ...  # noqa: D102  called after each step


def linear_in(model: BoundModel, parameters: Parameters) -> NDArray[np.int64]:
    """Return which free parameters (positions among the free ones) enter linearly and have no bound."""
    if model.graph is None:
        return np.empty(0, dtype=np.int64)
    if parameters.plain:
        return _places(model.graph.linear)
    free = {int(j): i for i, j in enumerate(parameters.free)}
    open_ = np.isneginf(parameters.lower) & np.isposinf(parameters.upper)
    return np.array([free[j] for j in model.graph.linear if j in free and open_[j]], dtype=np.int64)


@lru_cache(maxsize=64)
def _places(linear: tuple[int, ...]) -> NDArray[np.int64]:
    places = np.array(linear, dtype=np.int64)
    places.setflags(write=False)
    return places


@dataclass(frozen=True, eq=False)
class _Ground:
    """What a search looks at: the rows, which parameters are free and known, which are solved apart.

    Counts are searched by the least-squares problem that is like theirs, and each refinement ends at the likelihood.
    """

    rows: ModelProblem
    problem: ModelProblem
    linear: NDArray[np.int64]
    lower: Array
    upper: Array
    given: Array

    def refined(self, start: Array) -> tuple[Array, float]:
        """Return the minimum below a start, and its sum of squares; infinite where the model is not finite.

        Raises
        ------
        KeyboardInterrupt
            If the user stopped the fit.
        """
        point, loss = self._squared(start)
        if not self.rows.counts or not np.isfinite(loss):
            return point, loss
        bounds = self.lower, self.upper
        point = brought_inside(self.rows, point, bounds)
        done = minimise(self.rows, point, bounds=bounds, settings=LM(max_iterations=100))
        if done.status == "interrupted":
            raise KeyboardInterrupt
        return done.parameters, done.loss if np.isfinite(done.loss) else np.inf

    def _squared(self, start: Array) -> tuple[Array, float]:
        """Return the least-squares minimum below a start, and its sum of squares.

        Raises
        ------
        KeyboardInterrupt
            If the user stopped the fit.
        """
        if not np.isfinite(self.problem.residual(start)).all():
            return start, np.inf
        settings = LM(max_iterations=100)
        if len(self.linear):
            point, loss = projected(
                self.problem, self.linear, start, (self.lower, self.upper), settings=settings
            )
            if np.isfinite(loss):
                return point, loss
        done = minimise(self.problem, start, bounds=(self.lower, self.upper), settings=settings)
        if done.status == "interrupted":
            raise KeyboardInterrupt
        return done.parameters, done.loss


def searched(
    model: BoundModel,
    problem: ModelProblem,
    parameters: Parameters,
    options: Options,
    *,
    quick: bool = False,
    afresh: bool = False,
) -> Found:
    """Return the lowest minimum that many starts reach; on at most a few thousand of the rows.

    Parameters
    ----------
    quick : bool
        Look once, from fewer starts.
    afresh : bool
        Leave start values that were given out of account.

    Raises
    ------
    ModelError
        If the model is finite at none of the starts.
    """
    free = parameters.free
    linear = linear_in(model, parameters)
    given = np.full(len(free), np.nan) if options.search or quick or afresh else parameters.begin
    traced = isinstance(problem.model, NumpyKernel)
    linear = linear[np.isnan(given[linear])] if traced else linear[:0]
    rows = _thinned(problem)
    ground = _Ground(rows, rows.quadratic(), linear, *parameters.bounds, given)
    rows = ground.problem
    plan = Search.for_unknowns(int(np.count_nonzero(np.isnan(given))) - len(linear), options.seed)
    if not traced:
        plan = replace(plan, count=64, generations=2, most=12, rounds=2)
    if quick:
        plan = replace(plan, rounds=1, most=12)
    found = search(
        _batch(rows, linear) if traced else _one_by_one(rows),
        ground.refined,
        scales=Scales.of(rows.columns if model.inputs else [], rows.y),
        bounds=(ground.lower, ground.upper),
        linear=linear,
        given=given,
        settings=plan,
    )
    if not np.isfinite(found.losses).any() and not found.interrupted:
        raise ModelError(
            f"{model.text} is finite at none of {found.tried} starts that were tried",
            remedy="Give start values, or bounds that keep the model finite",
        )
    return found


def _thinned(problem: ModelProblem) -> ModelProblem:
    rows = len(problem.y)
    if (
        rows <= MANY_ROWS
        or (problem.weight is not None and problem.weight.ndim == 2)
        or not isinstance(problem.model, NumpyKernel)
    ):
        return problem
    pick = np.unique(np.linspace(0, rows - 1, MANY_ROWS).astype(int))
    weight = None if problem.weight is None else problem.weight[pick]
    return problem._replace(columns=[c[pick] for c in problem.columns], y=problem.y[pick], weight=weight)


def _batch(problem: ModelProblem, linear: NDArray[np.int64]) -> Batch:
    free = np.arange(len(problem.template)) if problem.free is None else problem.free

    def batch(points: Array, /) -> tuple[Array, Array]:
        whole = np.repeat(np.nan_to_num(problem.template)[:, None], points.shape[1], axis=1)
        whole[free] = points
        value, jacobian = problem.model.value_jacobian(problem.columns, whole[:, :, None])
        weight = problem.weight
        basis = jacobian[free[linear]]
        if weight is not None and weight.ndim == 1:
            return (value - problem.y) * weight, basis * weight
        return value - problem.y, basis

    return batch


def _one_by_one(problem: ModelProblem) -> Batch:
    def batch(points: Array, /) -> tuple[Array, Array]:
        residuals = np.stack([problem.residual(p) for p in points.T])
        return residuals, np.empty((0, *residuals.shape))

    return batch


def projected(
    problem: ModelProblem,
    linear: NDArray[np.int64],
    start: Array,
    bounds: tuple[Array, Array],
    *,
    settings: LM,
) -> tuple[Array, float]:
    """Return where variable projection from a start ends, all parameters, and the sum of squares there.

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the fit.
    """
    nonlinear = np.setdiff1d(np.arange(len(start)), linear)
    if len(nonlinear) == 0:
        outcome = closed_form(problem, np.nan_to_num(start))
        return outcome.parameters, outcome.loss
    apart = Separable(problem, linear, nonlinear, np.nan_to_num(start))
    inner = (bounds[0][nonlinear], bounds[1][nonlinear])
    outcome = minimise(apart, apart.latest[nonlinear], bounds=inner, settings=settings)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    point, residuals, _ = apart.solved(outcome.parameters)
    if not np.isfinite(residuals).all():
        point = apart.latest
    # what the model really misses there: two nearly equal columns can cancel on paper and not in floating point
    residuals = problem.residual(point)
    return point, float(residuals @ residuals)
