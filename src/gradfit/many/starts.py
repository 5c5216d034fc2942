"""Start values of many fits: what was given, the library model's guess, or the best of a few searched answers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradfit.errors import ModelError, OptionError
from gradfit.fitting import Options
from gradfit.library import MODELS
from gradfit.loss import Loss
from gradfit.many.rows import Array, Block, Indices, Source, even_places
from gradfit.model import BoundModel, nearest
from gradfit.notation import count
from gradfit.prepare import Parameters
from gradfit.solve.batch import Batch, Cost, Kernel
from gradfit.solve.lm import LM
from gradfit.solve.lockstep import standing
from gradfit.solve.problem import ModelProblem
from gradfit.starting import searched

SEARCHED = 8  # fits that are searched when nothing is known of the start
ALIKE = 1e-3  # relative difference below which two answers are one start


def given_starts(
    source: Source, model: BoundModel, parameters: Parameters, *, start: object, m: int
) -> Array:
    """Return start values (m, k) as they were given; NaN where they were not.

    Parameters
    ----------
    start : mapping, sequence or None
        By parameter: a number, one value a fit, or the name of a column. Or one number for each parameter.

    Raises
    ------
    OptionError
        If a name is no parameter, or there is not one value for each fit.
    """
    out = np.repeat(parameters.start[None, :], m, axis=0)
    if start is None:
        return out
    names = model.parameters
    if not isinstance(start, Mapping):
        values = (
            list(start) if isinstance(start, Sequence | np.ndarray) and not isinstance(start, str) else []
        )
        if len(values) != len(names):
            raise OptionError(
                f"start= has {len(values)} values, and the model has {count(len(names), 'parameter')}: {', '.join(names)}",
                remedy=f'Write start={{"{names[0]}": 1.0}}, with a number, one value a fit, or the name of a column',
            )
        start = dict(zip(names, values, strict=True))
    free = set(parameters.free.tolist())
    for name, value in start.items():
        if name not in names:
            raise OptionError(
                f"start= names {name}, which is no parameter of the model",
                remedy=nearest(str(name), list(names)),
            )
        j = names.index(str(name))
        if j in free:
            column = one_per_fit(source, str(name), value, m, argument="start")
            out[:, j] = np.clip(column, parameters.lower[j], parameters.upper[j])
    return out


def one_per_fit(source: Source, name: str, value: object, m: int, *, argument: str) -> Array:
    """Return one value a fit (m,) from a number, an array or the name of a column.

    Raises
    ------
    OptionError
        If it is neither.
    """
    if isinstance(value, str):
        held = source.of_fits(value)
        if held is None:
            raise OptionError(
                f"{argument}= of {name} names {value}, and {source.about} has no such value for each fit",
                remedy=f"Columns: {', '.join(n for n in source.sample.names if n[:1] != chr(0))}",
            )
        return held
    try:
        values = np.asarray(value, dtype=np.float64).reshape(-1)
    except (TypeError, ValueError):
        raise OptionError(f"{argument}= of {name} is {value!r}, which is no number") from None
    if len(values) not in (1, m):
        raise OptionError(
            f"{argument}= of {name} has {count(len(values), 'value')}, and there are {count(m, 'fit')}",
            remedy="Give one number for all, or one for each fit",
        )
    if np.isinf(values).any():
        raise OptionError(f"{argument}= of {name} must be finite, and is not for all fits")
    return np.broadcast_to(values, (m,)).copy()


def linear_parameters(model: BoundModel, parameters: Parameters) -> Indices:
    """Return which free parameters (of all) enter linearly: a closed form starts them, inside their bounds."""
    if model.graph is None:
        return np.empty(0, dtype=np.int64)
    free = set(parameters.free.tolist())
    return np.array([j for j in model.graph.linear if j in free], dtype=np.int64)


def guessed(name: str, model: BoundModel, block: Block, starts: Array) -> Array:
    """Return start values (m, k) of a block with a library model's guess where there are none."""
    guess, batch = MODELS[name].guess, block.batch
    out = starts.copy()
    x = np.broadcast_to(batch.columns[0], batch.y.shape)
    weight = None if batch.weight is None else np.broadcast_to(batch.weight, batch.y.shape)
    for i in np.flatnonzero(np.isnan(starts).any(axis=1)):
        used = slice(None) if weight is None else weight[i] != 0
        if weight is not None and not weight[i].any():
            continue
        known = guess(x[i][used], batch.y[i][used])
        for j, parameter in enumerate(model.parameters):
            if np.isnan(out[i, j]):
                out[i, j] = known.get(parameter, np.nan)
    return out


# ---------------------------------------------------------------------------- a search on a few fits


@dataclass(frozen=True, eq=False)
class Candidates:
    """A few answers to begin from.

    Attributes
    ----------
    values : (c, k)
        Start values, those of the most fits first; NaN for parameters that are solved in closed form or given.
    searched : int
        Fits that were searched.
    """

    values: Array
    searched: int


def candidates(
    source: Source,
    model: BoundModel,
    parameters: Parameters,
    problem_of: Callable[[int], ModelProblem | None],
    *,
    starts: Array,
    seed: int,
) -> Candidates:
    """Return the different answers that searches on a few of the fits give.

    Parameters
    ----------
    problem_of : callable
        Place of a fit -> its residuals; None where it has too few points.
    starts : (m, k)
        What is known of each fit's start.

    Raises
    ------
    ModelError
        If no search finds a finite model.
    """
    ends: list[Array] = []
    options = Options(Loss(), LM(), "numpy", search=False, seed=seed, callback=None)
    failure: ModelError | None = None
    order = np.random.default_rng(seed).permutation(even_places(len(starts), 16 * SEARCHED))
    for fit in order:
        problem = problem_of(int(fit))
        if problem is None:
            continue
        known = replace(parameters, start=starts[fit], plain=False)
        try:
            with np.errstate(all="ignore"):
                found = searched(model, problem, known, options)
        except ModelError as error:
            failure = error
            continue
        whole = starts[fit].copy()
        whole[parameters.free] = found.parameters
        ends.append(whole)
        if len(ends) == SEARCHED:
            break
    if not ends:
        raise failure or ModelError(
            f"None of the fits of {source.about} has enough points to search for start values",
            remedy="Give start values",
        )
    linear = linear_parameters(model, parameters)
    different: list[Array] = []
    for end in ends:
        end[linear] = np.nan
        near = [np.abs(end - other) < ALIKE * np.abs(end) for other in different]
        if not any(
            (same | (end == other) | np.isnan(end)).all() for same, other in zip(near, different, strict=True)
        ):
            different.append(end)
    return Candidates(np.array(different), len(ends))


def best_start(
    kernel: Kernel,
    batch: Batch,
    starts: Array,
    options: Array,
    *,
    parameters: Parameters,
    loss: Cost,
) -> tuple[Array, Array]:
    """Return for each fit the candidate of the least cost (m, k), what was given left as it is, and all costs (c, m)."""
    tried = [np.where(np.isnan(starts), option[None, :], starts) for option in options]
    free = parameters.free
    losses = np.stack(
        [
            standing(
                kernel, batch, start, free=free, lower=parameters.lower, upper=parameters.upper, loss=loss
            )[1]
            for start in tried
        ]
    )
    losses = np.where(np.isfinite(losses), losses, np.inf)
    best = np.argmin(losses, axis=0)
    return np.stack(tried)[best, np.arange(len(starts))], losses
