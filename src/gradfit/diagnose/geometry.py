"""The fit near its end: tangent plane, leverage, and a robust fit inside that plane."""

from dataclasses import dataclass
from math import frexp, ldexp, sqrt

import numpy as np

from gradfit.diagnose.evidence import Array, Indices

RANK = 1e-13  # singular values below this share of the largest are rounding
ENOUGH = 50_000  # rows that determine a robust plane, or show a pattern, as well as all do
TINY = 1e-300


@dataclass(frozen=True, slots=True)
class Geometry:
    """Residuals and tangent plane in orthonormal coordinates, free of all units."""

    r: Array  # (n,) residuals / unit
    unit: float  # a power of two near the largest residual
    Q: Array  # (n, rank) basis of the tangent plane
    sv: Array  # (k,) singular values of J with columns of length 1, largest first
    V: Array  # (k, k) right singular vectors, rows
    norm: Array  # (k,) lengths of the columns of J
    leverage: Array  # (n,)
    dof: int
    s: float  # residual standard deviation, in `unit`

    @property
    def ratio(self) -> float:
        """Smallest singular value over the largest."""
        return float(self.sv[-1] / self.sv[0]) if len(self.sv) else 1.0


@dataclass(frozen=True, slots=True)
class Robust:
    """A bisquare fit in the tangent plane: what the residuals would be if no row could pull the curve."""

    residuals: Array  # (n,), in Geometry.unit
    scale: float  # their standard deviation
    size: Array  # (n,) |residuals| / sqrt(1 - leverage)


def power_of_two(values: Array) -> float:
    """Return a power of two within a factor 2 of the largest |value|, or 1: dividing by it rounds nothing."""
    most = float(np.max(np.abs(values), initial=0.0))
    return ldexp(1.0, min(max(frexp(most)[1], -1021), 1023)) if 0 < most < np.inf else 1.0


def lengths(J: Array) -> Array:
    """Return the (k,) lengths of the columns, safe from overflow and underflow of their squares."""
    most = np.max(np.abs(J), axis=0, initial=0.0)
    safe = np.where(most > 0, most, 1.0)
    return most * np.sqrt(np.einsum("ij,ij->j", J / safe, J / safe))


def tangent(residuals: Array, J: Array) -> Geometry:
    """Return the geometry of residuals (n,) and Jacobian (n, k), n >= 1, k >= 0."""
    n, k = J.shape
    unit = power_of_two(residuals)
    r: Array = residuals / unit
    norm = lengths(J)
    if k == 0:
        s = sqrt(float(r @ r) / n)
        none = np.zeros(0)
        return Geometry(r, unit, J, none, np.zeros((0, 0)), none, np.zeros_like(r), n, s)
    basis, R = np.linalg.qr(J / np.where(norm > 0, norm, 1.0))
    U, sv, V = np.linalg.svd(R, full_matrices=False)
    Q: Array = basis @ U[:, sv > RANK * float(sv[0])]
    leverage = np.minimum(np.einsum("ij,ij->i", Q, Q), 1.0)
    dof = n - int(Q.shape[1])
    return Geometry(r, unit, Q, sv, V, norm, leverage, dof, sqrt(float(r @ r) / max(dof, 1)))


def thinned(n: int) -> Indices | None:
    """Return which of n rows to look at, a random ENOUGH of them in order, the same at each call; None: all."""
    if n <= ENOUGH:
        return None
    return np.sort(np.random.default_rng(n).choice(n, ENOUGH, replace=False))


def robust(g: Geometry) -> Robust:
    """Return residuals of an L1 start followed by Tukey's bisquare in the tangent plane, and their scale.

    References
    ----------
    .. [1] Motulsky & Brown (2006), BMC Bioinformatics 7, 123: the 68.27 % quantile as scale.
    """
    some = thinned(len(g.r))
    r, Q = (g.r, g.Q) if some is None else (g.r[some], g.Q[some])
    share = sqrt(len(g.r) / max(g.dof, 1))
    step = np.zeros(Q.shape[1])
    for turn in range(30 if Q.shape[1] else 0):
        e = np.abs(r - Q @ step)
        u = e / (quantile(e, 0.6827) * share + TINY)
        w = 1 / np.maximum(u, 1e-2) if turn < 10 else np.maximum(1 - (u / 6) ** 2, 0.0) ** 2
        last, step = step, weighted(Q, w, r)
        if turn > 10 and np.max(np.abs(step - last)) <= 1e-6 * np.max(np.abs(step)):
            break
    e = g.r - g.Q @ step
    scale = quantile(np.abs(e), 0.6827) * share
    return Robust(e, scale, np.abs(e) / np.sqrt(np.maximum(1 - g.leverage, 0.05)))


def weighted(Q: Array, w: Array, r: Array) -> Array:
    """Return the step that least squares with weights w takes in the plane Q."""
    normal = (Q * w[:, None]).T
    try:  # Q is orthonormal: the normal equations lose nothing unless the weights leave too few rows
        return np.asarray(np.linalg.solve(normal @ Q, normal @ r), np.float64)
    except np.linalg.LinAlgError:
        root = np.sqrt(w)
        return np.asarray(np.linalg.lstsq(Q * root[:, None], root * r, rcond=None)[0], np.float64)


def quantile(values: Array, share: float) -> float:
    """Return the quantile of unsorted values, linear between two (numpy's own takes ten times as long on few)."""
    place = share * (len(values) - 1)
    low = int(place)
    if low + 1 >= len(values):
        return float(values.max())
    part = np.partition(values, (low, low + 1))
    return float(part[low] + (place - low) * (part[low + 1] - part[low]))
