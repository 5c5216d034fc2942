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


def structure(g: Geometry, scale: float, inputs: dict[str, Array], fitted: Array) -> Structure | None:
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
    """
    varied = {name: x for name, x in inputs.items() if has_three(x)}
    orders = dict(varied) if len(inputs) < 2 else {**varied, "": fitted}
    if g.dof < 4 or not orders:
        return None
    r = outside(g, np.clip(g.r, -CLIP * scale, CLIP * scale))
    ties = np.random.default_rng(0).permutation(len(r))  # not as filed: replicates are often filed sorted
    sorts = {name: np.lexsort((ties, x)) for name, x in orders.items()}
    neighbours = {name: durbin_watson(r, g, order) for name, order in sorts.items()}
    sharp = [sharpest_wave(r[order], g.dof) for order in sorts.values()]
    slow, left = slow_waves(r, g, np.stack([laws.places(x) for x in (varied or orders).values()], axis=1))
    p = laws.cauchy([*neighbours.values(), slow, *sharp])
    noise = min([left, *(from_neighbours(g.r[order]) for order in sorts.values())])
    along = min(varied or orders, key=lambda name: neighbours[name])
    return Structure(p, along, g.s / (noise + TINY), noise)


def has_three(x: Array) -> bool:
    """Return whether x holds more than two values."""
    low, high = x.min(), x.max()
    return bool(np.any((x != low) & (x != high)))


def outside(g: Geometry, r: Array) -> Array:
    """Return the part of r that is orthogonal to the tangent plane."""
    return r - g.Q @ (g.Q.T @ r)


def from_neighbours(r: Array) -> float:
    """Return the noise that differences of neighbours show: first ones, second ones, and the median of these."""
    first = np.diff(r)
    second = np.diff(first)
    if len(second) < 3:
        return sqrt(float(first @ first) / 2 / len(first))
    return min(
        sqrt(float(first @ first) / 2 / len(first)),
        sqrt(float(second @ second) / 6 / len(second)),
    )


def durbin_watson(r: Array, g: Geometry, order: Array) -> float:
    """Return the p-value of neighbours that agree, for residuals r outside the plane, in this order.

    References
    ----------
    .. [1] Durbin & Watson (1971), Biometrika 58, 1: beta law with the exact mean and variance for this Jacobian.
    """
    r, Q, n, dof = r[order], g.Q[order], len(r), g.dof
    steps = np.diff(Q, axis=0)
    AQ = np.zeros_like(Q)  # A: the matrix of squared differences, r'Ar = sum of (r[i+1] - r[i])^2
    AQ[:-1] -= steps
    AQ[1:] += steps
    QAQ = Q.T @ AQ
    first = 2 * (n - 1) - float(np.trace(QAQ))
    second = 6 * n - 8 - 2 * float(np.einsum("ij,ij->", AQ, AQ)) + float(np.einsum("ij,ij->", QAQ, QAQ))
    mean = first / dof / 4
    variance = (dof * second - first**2) / (8 * dof**2 * (dof + 2))
    if not variance > 0:
        return 1.0
    both = mean * (1 - mean) / variance - 1
    jumps = np.diff(r)
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


def slow_waves(r: Array, g: Geometry, at: Array) -> tuple[float, float]:
    """Return the p-value of slow cosines of the places `at` (n, columns) that the model cannot imitate.

    The second value is the standard deviation that is left without them.

    References
    ----------
    .. [1] Hart (1997), Nonparametric Smoothing and Lack-of-Fit Tests.
    """
    most = min(WAVES, g.dof // 4)
    waves = cosines(at, g.Q.shape[1] + most)
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
    """Return slow cosines (n, waves) of length 1, slowest first: of one column, or products over at most three."""
    columns = min(at.shape[1], 3)
    if columns == 1:
        waves = np.cos(np.pi * at[:, :1] * np.arange(1, most + 1))
    else:
        counts = sorted((c for c in product(range(7), repeat=columns) if 0 < sum(c) <= 6), key=sum)
        tables = [np.cos(np.pi * at[:, [j]] * np.arange(7)) for j in range(columns)]
        chosen = np.array(counts[: 4 * most]).T
        waves = np.prod([table[:, c] for table, c in zip(tables, chosen, strict=True)], axis=0)
    return waves / (np.sqrt(np.einsum("ij,ij->j", waves, waves)) + TINY)
