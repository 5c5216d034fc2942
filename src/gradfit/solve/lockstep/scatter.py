"""Standard errors of many fits at their ends."""

import numpy as np
from numpy.typing import NDArray

from gradfit.loss import Loss
from gradfit.solve.lockstep.batch import (
    Array,
    Batch,
    Cost,
    Kernel,
    Mask,
    Sums,
    dots,
    residuals_jacobian,
    sums,
)
from gradfit.solve.lockstep.cholesky import NOTHING, Cholesky, lengths, scaled, without


def standard_errors(
    kernel: Kernel,
    batch: Batch,
    p: Array,
    now: Sums,
    *,
    free: NDArray[np.int64],
    lower: Array,
    upper: Array,
    loss: Cost,
    absolute: bool,
) -> tuple[Array, Mask]:
    """Return the standard errors (f, m) at parameters (k, m), and which fits (m,) leave a parameter undetermined.

    NaN for a parameter on a bound and for one that the data do not determine; the others' errors are then conditional
    on that, as in a single fit. Counts have the errors of the expected information.
    """
    gram = now.gram
    if loss.robust:
        gram = sums(kernel, batch, p, free=free, loss=Cost()).gram
    q = p[free]
    with np.errstate(invalid="ignore"):
        width = np.where(np.isfinite(upper - lower), upper - lower, 1.0)[:, None]
        width = np.where(np.isfinite(upper - lower)[:, None], width, 1 + np.abs(q))
        held: Mask = (q - lower[:, None] <= 1e-9 * width) | (upper[:, None] - q <= 1e-9 * width)
    norm = lengths(gram)
    matrix = without(scaled(gram, norm), held)
    factor = Cholesky.of(matrix)
    variance, unknown = factor.inverse_diagonal(), np.zeros(held.shape, dtype=bool)
    rank = np.count_nonzero(~held, axis=0)
    odd = np.flatnonzero(factor.singular)
    if len(odd):
        variance[:, odd], unknown[:, odd] = _deficient(matrix[:, :, odd])
        rank[odd] -= np.count_nonzero(factor.dropped[:, odd], axis=0)
    points = batch.points()
    if loss.robust:
        spread = _robust_scatter(kernel, batch, p, free=free, loss=loss, rank=rank)
    elif absolute or loss.name == "poisson":
        spread = np.ones(len(points))
    else:
        freedom = points - rank
        spread = np.sqrt(now.cost / np.where(freedom > 0, freedom, np.nan))
    errors = spread * np.sqrt(variance) / norm
    return np.where(held | unknown, np.nan, errors), np.asarray((unknown & ~held).any(axis=0))


def _deficient(matrix: Array) -> tuple[Array, Mask]:
    """Return the diagonals (f, m) of pseudo-inverses, and which parameters take part in a direction without effect."""
    stacked = np.moveaxis(matrix, -1, 0)
    sound = np.asarray(np.isfinite(stacked).all(axis=(1, 2)))
    values, vectors = np.linalg.eigh(np.where(sound[:, None, None], stacked, 0.0))
    nothing = values <= NOTHING * len(matrix) * values[:, -1:]
    inverse = np.where(nothing, 0.0, 1 / np.where(nothing, 1.0, values))
    variance = np.einsum("mij,mj->mi", vectors**2, inverse)
    share = np.einsum("mij,mj->mi", vectors**2, nothing.astype(np.float64))
    return variance.T, np.asarray((share > 1e-8) | ~sound[:, None]).T


def _robust_scatter(
    kernel: Kernel, batch: Batch, p: Array, *, free: NDArray[np.int64], loss: Cost, rank: NDArray[np.int64]
) -> Array:
    """Return Huber's scatter (m,): Robust Statistics (1981), eq. 7.6.8."""
    residuals = residuals_jacobian(kernel, batch, p, free)[1]
    used = np.ones_like(residuals)
    if batch.weight is not None:
        residuals *= batch.weight
        used *= batch.weight != 0
    scale = np.broadcast_to(np.asarray(1.0 if loss.scale is None else loss.scale), residuals.shape[:1])[
        :, None
    ]
    flat, bend = Loss(loss.name, 1.0).curvature((residuals / scale).reshape(-1))
    psi, slope = flat.reshape(residuals.shape) * scale, bend.reshape(residuals.shape)
    n = dots(used, used)
    middle = dots(slope, used) / n
    off = (slope - middle[:, None]) * used
    freedom = np.where(n - rank > 0, n - rank, np.nan)
    correction = 1 + rank / n * dots(off, off) / n / middle**2
    return np.where(middle > 0, correction * np.sqrt(dots(psi, psi) / freedom) / middle, np.nan)
