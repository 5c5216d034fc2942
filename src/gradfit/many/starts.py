"""Start values of many fits: what was given, the library model's guess, or the best of several."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from gradfit.errors import OptionError
from gradfit.library import MODELS
from gradfit.many.projection import projection, shapes_of
from gradfit.many.rows import Array, Block, Indices, Source, even_places
from gradfit.model import BoundModel, nearest
from gradfit.notation import count
from gradfit.prepare import Parameters
from gradfit.solve.lockstep.batch import Batch, Cost, Kernel
from gradfit.solve.lockstep.numpy import standing

ALONE, FEW = 200, 32  # fits of a block that are guessed one by one; how many of more


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


# ---------------------------------------------------------------------------- guesses of the library


def guessed(  # noqa: PLR0917  one caller, in the order of what depends on what
    name: str, model: BoundModel, kernel: Kernel, block: Block, starts: Array, *, parameters: Parameters
) -> Array:
    """Return start values (m, k) of a block with a library model's guess where there are none.

    Fits at the same places are guessed together: each begins at the best of the shapes that the guess looks at. Of many
    fits at places of their own a few are guessed, and the others begin at the best of those.
    """
    linear, batch = linear_parameters(model, parameters), block.batch
    if batch.columns[0].ndim == 1 and batch.weight is None:
        shapes = shapes_of(name, model, batch.columns[0]) if parameters.plain else None
        if shapes is not None:
            return best_start(kernel, block, starts, shapes, linear=linear, parameters=parameters)
    one = partial(_alone, name, model, kernel, block, starts, parameters)
    if len(block) <= ALONE:
        return np.concatenate([one(i) for i in range(len(block))])
    some = even_places(len(block), FEW).tolist()
    options = np.concatenate([one(i) for i in some])
    options[:, linear] = np.nan
    options = options[np.isfinite(np.delete(options, linear, axis=1)).all(axis=1)]
    if not len(options):
        return starts
    return best_start(kernel, block, starts, options, linear=linear, parameters=parameters)


def _alone(  # noqa: PLR0917  one caller, which fixes all but the last
    name: str,
    model: BoundModel,
    kernel: Kernel,
    block: Block,
    starts: Array,
    parameters: Parameters,
    fit: int,
) -> Array:
    """Return the start (1, k) of one fit; what is guessed where nothing is known."""
    batch = block.batch.rows(np.array([fit]))
    used = slice(None) if batch.weight is None else np.broadcast_to(batch.weight, batch.y.shape)[0] != 0
    x, y = np.broadcast_to(batch.columns[0], batch.y.shape)[0][used], batch.y[0][used]
    own = starts[fit : fit + 1]
    if not len(y):
        return own
    shapes = shapes_of(name, model, x) if parameters.plain else None
    if shapes is not None:
        bare = replace(block.part(np.array([fit])), batch=Batch((x,), y[None]))
        linear = linear_parameters(model, parameters)
        return best_start(kernel, bare, own, shapes, linear=linear, parameters=parameters)
    known = MODELS[name].guess(x, y)
    guess = np.array([known.get(parameter, np.nan) for parameter in model.parameters])
    return np.where(np.isnan(own), guess, own)


# ---------------------------------------------------------------------------- the best of several


def best_start(
    kernel: Kernel, block: Block, starts: Array, options: Array, *, linear: Indices, parameters: Parameters
) -> Array:
    """Return for each fit the candidate of the least cost (m, k), what was given left as it is."""
    best, _ = judged(kernel, block, starts, options, linear=linear, parameters=parameters)
    return np.where(np.isnan(starts), options[best], starts)


def judged(
    kernel: Kernel, block: Block, starts: Array, options: Array, *, linear: Indices, parameters: Parameters
) -> tuple[Indices, Array]:
    """Return which candidate (c, k) leaves least of each fit (m,), where it has no start (m, k) of its own, and how much."""
    others = np.setdiff1d(np.arange(starts.shape[1]), linear)
    known = starts[:, others]
    if np.array_equal(known, np.broadcast_to(known[:1], known.shape), equal_nan=True):
        merged = np.where(np.isnan(starts[0]), options, starts[0])
        together = projection(kernel, block, merged, linear=linear, parameters=parameters)
        if together is not None:
            return together.best(block.batch.y)
    best, lowest = np.zeros(len(starts), dtype=np.int64), np.full(len(starts), np.inf)
    for i, option in enumerate(options):
        left = standing(
            kernel, block.batch, np.where(np.isnan(starts), option, starts),
            free=parameters.free, lower=parameters.lower, upper=parameters.upper, loss=Cost(),
        )[1]  # fmt: skip
        won = left < lowest
        best[won], lowest[won] = i, left[won]
    return best, lowest
