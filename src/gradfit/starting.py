"""From a model and data to start values: a search in which the linear parameters are solved apart."""

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.checkpoint import Checkpoint
from gradfit.errors import ModelError
from gradfit.loss import Loss
from gradfit.model import BoundModel
from gradfit.perturbing import Perturbing
from gradfit.prepare import Parameters
from gradfit.solve.descent import Descent
from gradfit.solve.dimensions import angles, exponents
from gradfit.solve.grounds import AllAtOnce, Compiled, OneByOne, thinned
from gradfit.solve.lm import LM, minimise
from gradfit.solve.patience import Watching
from gradfit.solve.problem import ModelProblem
from gradfit.solve.start import Found, Scales, Search, search

Array = NDArray[np.float64]
SAME = 1e-2  # squared distance of two curves, in variances, below which they are one
ROUNDING = 1e-10  # of the response: what misses no more than that is without noise
RIVALS = 3  # other curves of nearly the lowest loss that are looked at closely
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
    def scale(self) -> str: ...  # noqa: D102  the units that an optimizer of torch works in
    @property
    def callback(self) -> Callable[..., object] | None: ...  # noqa: D102  called after each step
    @property
    def watching(self) -> Watching | None: ...  # noqa: D102  held-out rows that training looks at
    @property
    def checkpoint(self) -> Checkpoint | None: ...  # noqa: D102  where the state of a training is kept
    @property
    def perturbing(self) -> Perturbing | None: ...  # noqa: D102  noise on the inputs of a training, and mixed rows


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
    linear = linear_in(model, parameters)
    given = np.full(len(parameters.free), np.nan) if options.search or quick or afresh else parameters.begin
    linear = linear[np.isnan(given[linear])] if model.graph is not None else linear[:0]
    unknowns = int(np.count_nonzero(np.isnan(given))) - len(linear)
    ground = _ground(model, problem, parameters, linear, compiled=_worth_compiling(unknowns, options))
    scales = _scales(model, ground.problem, parameters)
    plan = _plan(ground, unknowns, options.seed, turning=bool(scales.turning.any()))
    if quick:
        plan = replace(plan, rounds=1, most=12)
    found = search(
        ground, scales=scales, bounds=parameters.bounds, linear=linear, given=given,
        settings=plan,
    )  # fmt: skip
    if not np.isfinite(found.losses).any() and not found.interrupted:
        raise ModelError(
            f"{model.text} is finite at none of {found.tried} starts that were tried",
            remedy="Give start values, or bounds that keep the model finite",
        )
    return replace(found, rival=_rival(ground, found))


def _worth_compiling(unknowns: int, options: Options) -> bool:
    """Return whether machine code is worth its compilation: a line of draws takes NumPy less time than that."""
    return options.executor == "native" or (options.executor == "auto" and unknowns > 1)


def _ground(
    model: BoundModel,
    problem: ModelProblem,
    parameters: Parameters,
    linear: NDArray[np.int64],
    *,
    compiled: bool,
) -> OneByOne:
    if model.graph is None or (problem.weight is not None and problem.weight.ndim == 2):
        return OneByOne(problem, linear[:0], *parameters.bounds)
    rows = thinned(problem._replace(model=model.kernel("numpy")), MANY_ROWS)
    if compiled and Compiled.can_search(model.graph, rows, parameters.free):
        return Compiled(rows, linear, *parameters.bounds, model.graph)
    return AllAtOnce(rows, linear, *parameters.bounds)


def _plan(ground: OneByOne, unknowns: int, seed: int, *, turning: bool) -> Search:
    """Return how widely to look for so many nonlinear parameters without a start value."""
    if unknowns == 0:
        return Search(count=1, generations=0, most=1, rounds=1, seed=seed)
    if isinstance(ground, Compiled):
        return Search(generations=12, patience=3, most=64, rounds=1, share=0.05, seed=seed)
    if not isinstance(ground, AllAtOnce):
        return Search(count=64, generations=2, most=12, rounds=2, seed=seed)
    if unknowns <= 2:
        return Search(count=1024 if unknowns == 1 or turning else 256, generations=2, most=12, seed=seed)
    return Search(seed=seed)


def _scales(model: BoundModel, problem: ModelProblem, parameters: Parameters) -> Scales:
    columns, free = problem.columns if model.inputs else [], parameters.free
    if model.graph is None:
        units, turning = np.full((len(free), len(columns) + 1), np.nan), np.zeros(len(free), dtype=bool)
    else:
        units = exponents(model.graph)[free]
        turning = np.isin(free, sorted(angles(model.graph)))
    return Scales.of(columns, problem.y, units, turning)


def _rival(ground: OneByOne, found: Found) -> tuple[Array, float] | None:
    """Return another minimum that the data hardly tell from the lowest: within two standard errors of one parameter.

    Parameters that draw the same curve, such as those of two peaks the other way round, are no other minimum.
    """
    n, k = len(ground.rows.y), len(found.parameters)
    if n <= k or not np.isfinite(found.losses).any() or found.interrupted:
        return None
    order = np.argsort(found.losses, kind="stable")
    lowest = float(found.losses[order[0]])
    variance = lowest / (n - k)
    seen = [ground.rows.residual(found.parameters)]
    at_zero = ground.rows.weighted(ground.rows.y)
    if lowest <= ROUNDING**2 * float(at_zero @ at_zero):
        return None
    for i in order[1:]:
        if not found.losses[i] < lowest + 4 * variance or len(seen) > RIVALS:
            break
        there = found.ends[:, i]
        if _seen(ground.rows.residual(there), seen, variance):
            continue
        end = minimise(ground.rows, there, bounds=(ground.lower, ground.upper))
        residuals = ground.rows.residual(end.parameters)
        if end.converged and not _seen(residuals, seen, variance):
            return end.parameters, end.loss
        seen.append(ground.rows.residual(there))
    return None


def _seen(residuals: Array, others: list[Array], variance: float) -> bool:
    """Return whether one of the other curves is this one, as far as anybody could tell."""
    return any(float((residuals - other) @ (residuals - other)) <= SAME * variance for other in others)
