"""Counts of events: residuals that are normal on a healthy fit however few events there are, and how far counts scatter."""

from dataclasses import dataclass

import numpy as np

import gradfit.diagnose.laws as laws
from gradfit._lazy import special
from gradfit.diagnose.evidence import Array
from gradfit.diagnose.geometry import TINY, Geometry, tangent

SURE = (
    8.0  # Pearson's residual from which a probability may be no number any more, and the sign is what counts
)
RAISED = 1.25  # dispersion: standard errors an eighth too short
LOW = 0.5  # and three tenths too long


@dataclass(frozen=True, slots=True)
class Dispersion:
    """How far counts scatter, over what chance alone does."""

    value: float  # Pearson's chi-square over the degrees of freedom
    p: float  # of so much scatter, on a healthy fit


def quantile_residuals(counts: Array, mean: Array, pearson: Array) -> Array:
    """Return (n,) residuals that are standard normal where counts follow Poisson's law about their mean.

    A count is a step of its distribution; which point of the step is taken is drawn, the same at each call. Where the
    probabilities are no numbers any more, Pearson's residual stands, no larger than their rounding.

    References
    ----------
    .. [1] Dunn & Smyth (1996), J. Comput. Graph. Stat. 5, 236.
    """
    drawn = np.random.default_rng(len(counts)).random(len(counts))
    y, f = np.maximum(counts, 0.0), np.maximum(mean, TINY)
    high = y > f
    # from the side that is the smaller, as 1 - 1e-20 is 1
    ends = [np.where(high, special.gammainc(a, f), special.gammaincc(a, f)) for a in (y, y + 1)]
    between = ends[0] + drawn * (ends[1] - ends[0])
    q = np.where(high, -1.0, 1.0) * special.ndtri(between)
    return np.where(np.isfinite(q), q, np.clip(pearson, -SURE, SURE))


def geometry(counts: Array, mean: Array, pearson: Array, jacobian: Array) -> Geometry:
    """Return the geometry of the quantile residuals: what the parameters can still imitate of them is taken away.

    Parameters
    ----------
    counts, mean : (n,) arrays
        Observed and fitted, times the weights where there are any.
    pearson : (n,) array
        Pearson's residuals.
    jacobian : (n, k) array
        Theirs.
    """
    q = quantile_residuals(counts, mean, pearson)
    Q = tangent(q, jacobian).Q
    return tangent(q - Q @ (Q.T @ q), jacobian)


def dispersion(g: Geometry, pearson: Array) -> Dispersion:
    """Return how far counts scatter, and the p-value of the quantile residuals' chi-square."""
    s = g.s * g.unit
    return Dispersion(float(pearson @ pearson) / max(g.dof, 1), laws.chi2_tail(s * s * g.dof, g.dof))
