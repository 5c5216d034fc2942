"""A second look at fits that failed or miss their points by much: other starts, and the careful solver of a single fit."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from gradfit.loss import Loss
from gradfit.many.rows import Array, Block, Indices, even_places
from gradfit.many.starts import judged
from gradfit.prepare import Parameters
from gradfit.solve.lm import LM, minimise
from gradfit.solve.lockstep.batch import (
    CONVERGED,
    MAX_ITERATIONS,
    NEGATIVE,
    NON_FINITE,
    SINGULAR,
    STALLED,
    TOO_FEW,
    Batch,
    Ends,
    Kernel,
    dots,
    residuals_jacobian,
)  # fmt: skip
from gradfit.solve.problem import Model, ModelProblem
from gradfit.solve.separable import projected
from gradfit.uncertainty import RANK, uncertainty

ACCEPTED = 48  # accepted answers that are tried on fits which miss their points by much
MUCH = 2.0  # times the median, of what is missed
APART = 50  # steps with the linear parameters apart, which only look for the way
SAME = 1e-14  # range of a response, relative to its size, that is rounding


def failed(ends: Ends) -> Indices:
    """Return the fits that another start may help."""
    return np.flatnonzero(~np.isin(ends.status, (CONVERGED, TOO_FEW, NEGATIVE)))


def better(new: Ends, old: Ends) -> NDArray[np.bool_]:
    """Return which of the new ends are better: a lower loss, or as low and converged."""
    new_loss, old_loss = (np.where(np.isfinite(e.rss), e.rss, np.inf) for e in (new, old))
    with np.errstate(invalid="ignore"):
        same = np.abs(new_loss - old_loss) <= 1e-9 * np.abs(old_loss)
    rescued = (new.status == CONVERGED) & (old.status != CONVERGED)
    return np.where(same | (new_loss == old_loss), rescued, new_loss < old_loss)


def constant(block: Block) -> NDArray[np.bool_]:
    """Return which responses (m,) are the same everywhere, to rounding."""
    y, weight = block.batch.y, block.batch.weight
    used = None if weight is None or weight.all() else np.broadcast_to(weight != 0, y.shape)
    maybe = _same(y[:, 0], y[:, -1], 4 * SAME) & _same(y[:, 0], y[:, y.shape[1] // 2], 4 * SAME)
    if used is not None:  # the first, middle and last points are no points everywhere
        maybe |= ~(used[:, 0] & used[:, -1] & used[:, y.shape[1] // 2])
    which = np.flatnonzero(maybe)
    low = high = y[which]
    if used is not None:
        low, high = np.where(used[which], low, np.inf), np.where(used[which], high, -np.inf)
    maybe[which] = _same(low.min(axis=1), high.max(axis=1), SAME)
    return maybe


def _same(a: Array, b: Array, within: float) -> NDArray[np.bool_]:
    with np.errstate(over="ignore", invalid="ignore"):
        return np.abs(b - a) <= within * np.maximum(np.abs(a), np.abs(b))


def spread_out(block: Block) -> Array:
    """Return the weighted squares (m,) of each response around its mean."""
    y = block.batch.y
    with np.errstate(all="ignore"):
        if block.batch.weight is None:
            off = y - y.mean(axis=1, keepdims=True)
            return dots(off, off)
        weight = np.broadcast_to(block.batch.weight, y.shape)
        top = np.max(weight, axis=1, initial=0.0, keepdims=True)
        top = np.where(top > 0, top, 1.0)
        weight, y = weight / top, y * top  # a response of 1e250 comes with weights of 1e-250
        mean = dots(weight * weight, y) / dots(weight, weight)
        off = weight * (y - mean[:, None])
        return dots(off, off)


def without_effect(
    kernel: Kernel, block: Block, ends: Ends, *, free: Indices, nonlinear: Indices
) -> tuple[Indices, NDArray[np.bool_]]:
    """Return fits of a constant response, and which free parameters (m, f) do nothing there that rounding does not.

    The height of a peak that is fitted to 2, 2, 2 … comes out as 1e-17, and its place as anything.
    """
    which = np.flatnonzero((ends.status == CONVERGED) & constant(block))
    if not len(which) or not len(nonlinear):
        return which[:0], np.empty((0, len(free)), dtype=bool)
    batch, p = block.batch.rows(which), ends.parameters[which]
    with np.errstate(all="ignore"):
        jacobian = residuals_jacobian(kernel, batch, p.T.copy(), free)[2]
        effect = np.stack([np.sqrt(dots(j, j)) for j in jacobian], axis=1) * np.abs(p[:, free])
        size = np.sqrt(dots(batch.y, batch.y))[:, None]
    nothing = np.isin(free, nonlinear) & (effect <= 1e-12 * size)
    some = nothing.any(axis=1)
    return which[some], nothing[some]


def missing_much(block: Block, ends: Ends, free: int) -> tuple[Indices, Indices]:
    """Return the fits that miss more than others do, of their response or for each degree of freedom; and those that do not.

    Of the others are also those that miss more in one way alone: of a flat response much is missed, of a high one little.
    """
    with np.errstate(all="ignore"):
        share = ends.rss / spread_out(block)
        scatter = ends.rss / np.maximum(ends.points - free, 1)
    share, scatter = (np.where(np.isfinite(v), v, np.nan) for v in (share, scatter))
    if not np.isfinite(share).any():
        return np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    more = share > MUCH * np.nanmedian(share), scatter > MUCH * np.nanmedian(scatter)
    accepted = (ends.status == CONVERGED) & ~(more[0] & more[1])
    odd = (more[0] | more[1]) & ~np.isin(ends.status, (TOO_FEW, NEGATIVE))
    return np.flatnonzero(odd), np.flatnonzero(accepted)


def neighbours(
    kernel: Kernel,
    block: Block,
    ends: Ends,
    given: Array,
    *,
    which: Indices,
    accepted: Indices,
    linear: Indices,
    parameters: Parameters,
) -> tuple[Indices, Array]:
    """Return those of the fits `which` that an accepted answer of another one explains better than their own, and it.

    Parameters
    ----------
    given : (m, k)
        What is known of each start; NaN elsewhere.
    accepted : (a,) int
        The fits whose answers are tried.
    linear : (l,) int
        Parameters that are solved anew for each fit.
    """
    nothing = np.empty(0, dtype=np.int64), np.empty((0, given.shape[1]))
    if not len(accepted) or not len(which):
        return nothing
    answers = ends.parameters[accepted[even_places(len(accepted), ACCEPTED)]]
    answers[:, linear] = np.nan
    known = given[which]
    best, left = judged(kernel, block.part(which), known, answers, linear=linear, parameters=parameters)
    won = left < np.where(np.isfinite(ends.rss[which]), ends.rss[which], np.inf)
    start = np.where(np.isnan(known), answers[best], known)
    return which[won], start[won]


# ---------------------------------------------------------------------------- one at a time


def worth_care(kernel: Kernel, block: Block, ends: Ends, free: Indices, *, late: bool) -> Indices:
    """Return the fits that the careful solver may save: stalled ones, and singular ones that only squares make so.

    `late`: also those that used up their steps.

    A response without variation determines nothing, and squares of a response beyond 1e100 leave the range of numbers.
    """
    lost = np.isin(ends.status, (STALLED, SINGULAR, MAX_ITERATIONS) if late else (STALLED, SINGULAR))
    lost |= (ends.status == NON_FINITE) & (block.unit != 1)
    which = np.flatnonzero(lost)
    which = which[~constant(block.part(which))] if len(which) else which
    plain = which[(ends.status[which] == SINGULAR) & (block.unit[which] == 1)]
    if not len(plain):
        return which
    jacobian = _jacobian(kernel, block.batch.rows(plain), ends.parameters[plain], free)
    values = np.linalg.svd(jacobian, compute_uv=False)
    truly = plain[~(values[:, -1] > RANK * values[:, 0])]
    return np.setdiff1d(which, truly)


def _jacobian(kernel: Kernel, batch: Batch, parameters: Array, free: Indices) -> Array:
    """Return weighted Jacobians (m, n, f) with columns of length 1."""
    with np.errstate(all="ignore"):
        jacobian = residuals_jacobian(kernel, batch, parameters.T.copy(), free)[2]
        jacobian = jacobian if batch.weight is None else jacobian * batch.weight
        length = np.sqrt(np.stack([dots(j, j) for j in jacobian]))[:, :, None]
        scaled = jacobian / np.where(length > 0, length, 1.0)
    return np.moveaxis(np.where(np.isfinite(scaled), scaled, 0.0), 0, -1)


def alone(
    model: Model,
    block: Block,
    ends: Ends,
    start: Array,
    *,
    parameters: Parameters,
    linear: Indices,
    absolute: bool,
) -> Callable[[int, Loss], Ends]:
    """Return a call that makes one fit of a block with the solver of a single fit, from orthogonal factors."""
    free = parameters.free
    bounds = (parameters.lower[free], parameters.upper[free])
    places = np.flatnonzero(np.isin(free, linear))

    def run(i: int, loss: Loss) -> Ends:
        problem = single(model, block.batch, i, template=start[i], free=free)
        again = (
            block.unit[i] != 1 or ends.status[i] != SINGULAR
        )  # from its start, with the linear parameters apart
        begin, out = start[i, free] if again else ends.parameters[i, free], ends.rows(np.array([i]))
        with np.errstate(all="ignore"):
            if again and len(places):
                begin = projected(
                    problem, places, np.nan_to_num(begin), bounds, settings=LM(max_iterations=APART)
                )[0]
            begin = np.where(np.isfinite(begin), begin, ends.parameters[i, free])
            outcome = minimise(problem, np.clip(begin, *bounds), bounds=bounds, loss=loss)
            r, J = problem.residual_jacobian(outcome.parameters)
            if not (np.isfinite(r).all() and np.isfinite(J).all()):
                return out
            width = np.where(
                np.isfinite(bounds[1] - bounds[0]), bounds[1] - bounds[0], 1 + np.abs(outcome.parameters)
            )
            held = (outcome.parameters - bounds[0] <= 1e-9 * width) | (
                bounds[1] - outcome.parameters <= 1e-9 * width
            )
            known = uncertainty(r, J, held=held, loss=loss, absolute=absolute)
        out.parameters[0, free], out.stderr[0, free] = outcome.parameters, known.stderr
        out.rss[0], out.iterations[0] = outcome.loss, out.iterations[0] + outcome.iterations
        whole = bool((known.determined | held).all())
        out.status[0] = (CONVERGED if whole else SINGULAR) if outcome.converged else STALLED
        return out

    return run


def single(model: Model, batch: Batch, fit: int, *, template: Array, free: Indices) -> ModelProblem:
    """Return the residuals of one fit of a batch, without the points of weight 0."""
    y = batch.y[fit]
    weight = np.ones_like(y)
    if batch.weight is not None:
        weight = np.broadcast_to(batch.weight, batch.y.shape)[fit]
    used = weight != 0
    columns = [np.ascontiguousarray((c[fit] if c.ndim == 2 else c)[used]) for c in batch.columns]
    return ModelProblem(model, columns, y[used], weight[used].copy(), template, free)
