"""Residuals that follow a pattern: neighbours that agree, slow waves, one sharp wave; and the noise left without it.

Residuals of a fit are not independent: every test here knows the tangent plane.
"""

from dataclasses import dataclass
from itertools import product
from math import sqrt

import numpy as np

import gradfit.diagnose.laws as laws
from gradfit.diagnose.evidence import Array, Indices
from gradfit.diagnose.geometry import TINY, Geometry

WAVES = 8  # slow cosines at most: more of them dilute the test
RARE = 0.25  # weight of sharp waves: at 1 they cost a tenth of the power for slow patterns in 30 points
CLIP = 3.5  # robust standard deviations: one bad row is no pattern


@dataclass(frozen=True, slots=True)
class Rows:
    """What the tests need to know of each row, once more than two values of some column give an order."""

    columns: dict[str, Array]  # (n,) each, those with more than two values
    orders: dict[str, Indices]  # by column; "" by the fitted values, where there are several columns
    at: Array  # (n, columns) ranks as quantiles
    sigma: (
        Array  # (n,) standard deviations, up to a factor: what a model misses is smooth in y, not in y/sigma
    )


def rows_of(inputs: dict[str, Array], fitted: Array, sigma: Array) -> Rows | None:
    """Return what the tests need to know of the rows, None when nothing puts them into an order."""
    varied = {name: x for name, x in inputs.items() if has_three(x)}
    sortable = varied if len(inputs) < 2 else {**varied, "": fitted}
    if not sortable:
        return None
    ties = np.random.default_rng(0).permutation(
        len(fitted)
    )  # not as filed: replicates are often filed sorted
    orders = {name: np.lexsort((ties, x)) for name, x in sortable.items()}
    at = np.stack([laws.places(x) for x in (varied or sortable).values()], axis=1)
    return Rows(varied, orders, at, sigma)


@dataclass(frozen=True, slots=True)
class Wave:
    """The one frequency that ordered residuals hold most of."""

    p: float  # of so large a share
    turn: float  # points to one turn
    share: float  # of the sum of squares


@dataclass(frozen=True, slots=True)
class Structure:
    """How far the residuals are from noise."""

    p: float
    along: str  # the column along which the pattern shows, "" for the fitted values
    wave: Wave | None  # where one frequency shows it best, and not slow waves or neighbours


def structure(g: Geometry, scale: float, rows: Rows) -> Structure:
    """Return the test of all orders together, for 4 degrees of freedom or more.

    Parameters
    ----------
    g : Geometry
        Of the parameters that are free to move.
    scale : float
        Robust standard deviation of the residuals, in `g.unit`.
    rows : Rows
        Their orders.
    """
    r = outside(g, np.clip(g.r, -CLIP * scale, CLIP * scale))
    neighbours = {name: durbin_watson(r, g, order, rows.sigma) for name, order in rows.orders.items()}
    waves = {name: sharpest_wave(r[order], g.dof) for name, order in rows.orders.items()}
    slow = slow_waves(r, g, rows)
    ps = [*neighbours.values(), slow, *(wave.p for wave in waves.values())]
    p = laws.cauchy(ps, [1.0] * (len(neighbours) + 1) + [RARE] * len(waves))
    columns = rows.columns or rows.orders
    sharp = min(columns, key=lambda name: waves[name].p)
    along = min(columns, key=lambda name: neighbours[name])
    if waves[sharp].p < min(slow, *neighbours.values()):
        return Structure(p, sharp, waves[sharp])
    return Structure(p, along, None)


def noise_without(g: Geometry, rows: Rows, wave: Wave | None) -> float:
    """Return the standard deviation without the pattern, in `g.unit`.

    It is the least of what neighbours show, of what the one sharp wave leaves, and of what remains beside the model and a
    third as many smooth waves as there are degrees of freedom: a sharp pattern along one column shows in the first, a fast
    one in the second, a smooth one along several columns in the last.
    """
    apart = [between_neighbours(g.r[order], rows.sigma[order]) for order in rows.orders.values()]
    if wave and g.dof > 2:
        apart.append(g.s * sqrt(max(1 - wave.share, 0.0) * g.dof / (g.dof - 2)))
    most = min(g.dof // 3, 10 * WAVES)
    if most >= 1:
        basis = np.linalg.qr(np.column_stack([g.Q, cosines(rows.at, most)[:, :most] / rows.sigma[:, None]]))[
            0
        ]
        rest = g.r - basis @ (basis.T @ g.r)
        apart.append(sqrt(float(rest @ rest) / (len(rest) - basis.shape[1])))
    return min(apart)


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


def durbin_watson(r: Array, g: Geometry, order: Indices, sigma: Array) -> float:
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


def sharpest_wave(r: Array, dof: int) -> Wave:
    """Return the frequency that has the largest share of ordered residuals r.

    References
    ----------
    .. [1] Fisher (1929), Proc. R. Soc. A 125, 54; the first term, which is an upper bound.
    """
    power = np.abs(np.fft.rfft(r)[1 : (len(r) + 1) // 2]) ** 2
    if len(power) == 0:
        return Wave(1.0, 0.0, 0.0)
    best = int(np.argmax(power))
    share = 2 * float(power[best]) / (len(r) * float(r @ r) + TINY)
    p = min(1.0, len(power) * max(1 - share, 0.0) ** (dof / 2 - 1))
    return Wave(p, len(r) / (best + 1), share)


def slow_waves(r: Array, g: Geometry, rows: Rows) -> float:
    """Return the p-value of slow cosines along the columns that the model cannot imitate.

    References
    ----------
    .. [1] Hart (1997), Nonparametric Smoothing and Lack-of-Fit Tests.
    """
    most = min(WAVES, g.dof // 4)
    waves = cosines(rows.at, g.Q.shape[1] + most) / rows.sigma[:, None]
    waves = waves / (np.sqrt(np.einsum("ij,ij->j", waves, waves)) + TINY)
    for _ in range(2):  # twice is enough (Kahan): once leaves what rounding put back
        waves = waves - g.Q @ (g.Q.T @ waves)
    basis, R = np.linalg.qr(waves)
    kept = basis[:, np.abs(np.diagonal(R)) > 0.3][:, :most]
    m = kept.shape[1]
    total, part = float(r @ r), float(np.sum((kept.T @ r) ** 2))
    left = max(total - part, 0.0) / max(g.dof - m, 1)
    return laws.f_tail(part / max(m, 1) / (left + TINY), m, g.dof - m)


def cosines(at: Array, most: int) -> Array:
    """Return slow cosines (n, waves), slowest first: `most` of one column, or up to 4 most products over three."""
    columns = min(at.shape[1], 3)
    if columns == 1:
        return np.cos(np.pi * at[:, :1] * np.arange(1, most + 1))
    top = 6 if most < 4 * WAVES else 12
    counts = sorted((c for c in product(range(top + 1), repeat=columns) if 0 < sum(c) <= top), key=sum)
    tables = [np.cos(np.pi * at[:, [j]] * np.arange(top + 1)) for j in range(columns)]
    chosen = np.array(counts[: 4 * most]).T
    return np.prod([table[:, c] for table, c in zip(tables, chosen, strict=True)], axis=0)
