"""Residuals that follow a pattern: neighbours that agree, slow waves, one sharp wave; and the noise left without it.

Residuals of a fit are not independent: every test here knows the tangent plane.
"""

from dataclasses import dataclass
from itertools import product
from math import sqrt

import numpy as np

from gradfit.diagnose import laws
from gradfit.diagnose.evidence import Array
from gradfit.diagnose.geometry import TINY, Geometry

WAVES = 8  # slow cosines at most: more of them dilute the test
CLIP = 3.5  # robust standard deviations: one bad row is no pattern


@dataclass(frozen=True, slots=True)
class Structure:
    """How far the residuals are from noise."""

    p: float
    along: str  # the column along which the pattern shows, "" for the fitted values
    ratio: float  # residual standard deviation over the noise that is left without the pattern
    noise: float  # that noise, in Geometry.unit


def structure(
    g: Geometry, scale: float, inputs: dict[str, Array], fitted: Array, sigma: Array
) -> Structure | None:
    """Return the test of all orders together, None with fewer than 4 degrees of freedom or nothing to sort by.

    Parameters
    ----------
    g : Geometry
        Of the parameters that are free to move.
    scale : float
        Robust standard deviation of the residuals, in `g.unit`.
    inputs : dict of str to (n,) arrays
        The columns of x.
    fitted : (n,) array
        The fitted values, a further order where there are several columns.
    sigma : (n,) array
        Standard deviations of the rows, up to a factor: what a model misses is smooth in y, not in y/sigma.
    """
    varied = {name: x for name, x in inputs.items() if has_three(x)}
    orders = dict(varied) if len(inputs) < 2 else {**varied, "": fitted}
    if g.dof < 4 or not orders:
        return None
    r = outside(g, np.clip(g.r, -CLIP * scale, CLIP * scale))
    ties = np.random.default_rng(0).permutation(len(r))  # not as filed: replicates are often filed sorted
    sorts = {name: np.lexsort((ties, x)) for name, x in orders.items()}
    neighbours = {name: durbin_watson(r, g, order, sigma) for name, order in sorts.items()}
    sharp = [sharpest_wave(r[order], g.dof) for order in sorts.values()]
    at = np.stack([laws.places(x) for x in (varied or orders).values()], axis=1)
    slow, left = slow_waves(r, g, at, sigma)
    p = laws.cauchy([*neighbours.values(), slow, *sharp])
    noise = min([left, *(between_neighbours(g.r[order], sigma[order]) for order in sorts.values())])
    along = min(varied or orders, key=lambda name: neighbours[name])
    return Structure(p, along, g.s / (noise + TINY), noise)


def has_three(x: Array) -> bool:
    """Return whether x holds more than two values."""
    low, high = x.min(), x.max()
    return bool(np.any((x != low) & (x != high)))


def outside(g: Geometry, r: Array) -> Array:
    """Return the part of r that is orthogonal to the tangent plane."""
    return r - g.Q @ (g.Q.T @ r)


def between_neighbours(r: Array, sigma: Array) -> float:
    """Return the noise that neighbours show, from first or second differences of y: what is smooth cancels."""
    y, v = r * sigma, sigma * sigma
    first = np.diff(y) / np.sqrt(v[1:] + v[:-1])
    if len(first) < 4:
        return sqrt(float(first @ first) / len(first))
    second = np.diff(y, 2) / np.sqrt(v[2:] + 4 * v[1:-1] + v[:-2])
    return sqrt(min(float(first @ first) / len(first), float(second @ second) / len(second)))


def durbin_watson(r: Array, g: Geometry, order: Array, sigma: Array) -> float:
    """Return the p-value of neighbours that agree, for residuals r outside the plane, in this order.

    References
    ----------
    .. [1] Durbin & Watson (1971), Biometrika 58, 1: beta law with the exact mean and variance for this Jacobian.
    """
    r, Q, sigma, dof = r[order], g.Q[order], sigma[order], g.dof
    size = np.sqrt((sigma[1:] ** 2 + sigma[:-1] ** 2) / 2)
    left, right = sigma[:-1] / size, sigma[1:] / size  # row i of D: difference of y, of variance 2
    diagonal = np.zeros(len(r))  # of A = D'D
    diagonal[:-1] += left**2
    diagonal[1:] += right**2
    DQ = right[:, None] * Q[1:] - left[:, None] * Q[:-1]
    AQ = np.zeros_like(Q)
    AQ[:-1] -= left[:, None] * DQ
    AQ[1:] += right[:, None] * DQ
    QAQ = DQ.T @ DQ
    first = float(diagonal.sum()) - float(np.trace(QAQ))  # tr(MA), M = I - QQ'
    squared = float(diagonal @ diagonal) + 2 * float(np.sum((left * right) ** 2))  # tr(AA)
    second = squared - 2 * float(np.einsum("ij,ij->", AQ, AQ)) + float(np.einsum("ij,ij->", QAQ, QAQ))
    mean = first / dof / 4
    variance = (dof * second - first**2) / (8 * dof**2 * (dof + 2))
    if not variance > 0:
        return 1.0
    both = mean * (1 - mean) / variance - 1
    jumps = right * r[1:] - left * r[:-1]
    d = float(jumps @ jumps) / (float(r @ r) + TINY)
    return laws.beta_cdf(d / 4, mean * both, (1 - mean) * both)


def sharpest_wave(r: Array, dof: int) -> float:
    """Return the p-value of the largest share that one frequency has of ordered residuals r.

    References
    ----------
    .. [1] Fisher (1929), Proc. R. Soc. A 125, 54; the first term, which is an upper bound.
    """
    power = np.abs(np.fft.rfft(r)[1 : (len(r) + 1) // 2]) ** 2
    share = 2 * float(power.max(initial=0.0)) / (len(r) * float(r @ r) + TINY)
    return min(1.0, len(power) * max(1 - share, 0.0) ** (dof / 2 - 1))


def slow_waves(r: Array, g: Geometry, at: Array, sigma: Array) -> tuple[float, float]:
    """Return the p-value of slow cosines of the places `at` (n, columns) that the model cannot imitate.

    The second value is the standard deviation that is left without them.

    References
    ----------
    .. [1] Hart (1997), Nonparametric Smoothing and Lack-of-Fit Tests.
    """
    most = min(WAVES, g.dof // 4)
    waves = cosines(at, g.Q.shape[1] + most) / sigma[:, None]
    waves = waves / (np.sqrt(np.einsum("ij,ij->j", waves, waves)) + TINY)
    for _ in range(2):  # twice is enough (Kahan): once leaves what rounding put back
        waves = waves - g.Q @ (g.Q.T @ waves)
    basis, R = np.linalg.qr(waves)
    kept = basis[:, np.abs(np.diagonal(R)) > 0.3][:, :most]
    m = kept.shape[1]
    if m == 0:
        return 1.0, g.s
    total, part = float(r @ r), float(np.sum((kept.T @ r) ** 2))
    left = max(total - part, 0.0) / (g.dof - m)
    return laws.f_tail(part / m / (left + TINY), m, g.dof - m), sqrt(left)


def cosines(at: Array, most: int) -> Array:
    """Return slow cosines (n, waves), slowest first: of one column, or products over at most three."""
    columns = min(at.shape[1], 3)
    if columns == 1:
        return np.cos(np.pi * at[:, :1] * np.arange(1, most + 1))
    counts = sorted((c for c in product(range(7), repeat=columns) if 0 < sum(c) <= 6), key=sum)
    tables = [np.cos(np.pi * at[:, [j]] * np.arange(7)) for j in range(columns)]
    chosen = np.array(counts[: 4 * most]).T
    return np.prod([table[:, c] for table, c in zip(tables, chosen, strict=True)], axis=0)
