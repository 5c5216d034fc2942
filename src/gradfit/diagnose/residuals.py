"""Tests of the residuals one by one: bad rows, scatter that grows, and whether there is any noise to test."""

from dataclasses import dataclass
from math import log, sqrt
from typing import Literal

import numpy as np

import gradfit.diagnose.laws as laws
from gradfit.diagnose.evidence import Array, Indices
from gradfit.diagnose.geometry import TINY, Geometry, Robust, power_of_two, quantile

EPS = float(np.finfo(float).eps)
OUT = 0.05  # rows with p below this go when the worst of them is an outlier
KURTOSIS = 3.0  # excess, of Laplace or Student's t with 6 degrees of freedom: what sigma may mean at most


@dataclass(frozen=True, slots=True)
class Noise:
    """What kind of noise the residuals are; tests need the ordinary kind."""

    kind: Literal["ordinary", "rounding", "steps"]
    size: float = 0.0  # rounding: residuals over the spread of y; steps: the step of y, in its unit


@dataclass(frozen=True, slots=True)
class Outliers:
    """Rows that no usual noise makes, and what they do."""

    p: float
    rows: Indices  # (m,) indices, worst first
    sizes: Array  # (m,) distance from the curve without them in standard deviations of the others, signed
    shift: Array  # (k,) change of the parameters without them
    moved: float  # the largest of these changes, in standard errors
    most: int  # the parameter it belongs to
    inflation: float  # residual standard deviation with them over that without


@dataclass(frozen=True, slots=True)
class Spread:
    """How the scatter changes along a column or the fitted values."""

    p: float
    along: str  # "" for the fitted values
    ratio: float  # standard deviation of the wide third over that of the narrow one
    grows: bool


def row_sigma(y: Array, fitted: Array, residuals: Array) -> Array:
    """Return the (n,) standard deviations by which y - fitted was divided, in the unit of y.

    Rows without a residual have the usual one.
    """
    raw = y - fitted
    used = (residuals != 0) & (raw != 0)
    sigma = np.abs(np.where(used, raw, 1.0) / np.where(used, residuals, 1.0))
    usual = float(np.median(sigma[used])) if used.any() else 1.0
    return np.where(used, sigma, usual)


def noise(y: Array, fitted: Array, sigma: Array, terms: float) -> Noise:
    """Return whether y - fitted is noise, rounding errors, or the steps in which y was recorded.

    Noise above half a step hides the steps; below it, rounding follows the curve and looks like structure.

    Parameters
    ----------
    y, fitted : (n,) arrays
        Observed and fitted values.
    sigma : (n,) array
        Standard deviations of the rows, in the unit of y, up to a factor.
    terms : float
        Size of the terms that the fitted values are a sum of, in the unit of y: x at an offset of 1e9 makes it large.
    """
    unit = power_of_two(y)
    y, raw = y / unit, (y - fitted) / unit
    size = float(np.max(np.abs(y)))
    spread, rms = float(np.std(y)), sqrt(float(raw @ raw) / len(raw))
    if rms <= 1e-9 * spread + 64 * EPS * size or rms <= 8 * EPS * terms / unit:
        return Noise("rounding", rms / (spread or size or 1.0))
    step = resolution(y, size)
    narrow = sigma / power_of_two(sigma)
    steps = step / narrow
    hidden = float(np.std(raw / narrow)) >= 0.6 * sqrt(float(steps @ steps) / len(steps))
    return Noise("ordinary") if hidden or step == 0 else Noise("steps", step * unit)


def resolution(y: Array, size: float) -> float:
    """Return the step of which all differences of y are whole multiples, 0 when there is none."""
    values = np.unique(y)
    gaps = np.diff(values)
    gaps = gaps[gaps > 64 * EPS * size]
    if len(gaps) == 0:
        return 0.0
    for part in (1, 2, 3, 4):  # the least gap that happens to occur may be several steps
        step = float(gaps.min()) / part
        multiples: Array = (values - values[0]) / step
        if bool(np.all(np.abs(multiples - np.round(multiples)) < 1e-3)):
            return step
    return 0.0


def tail(g: Geometry, fit: Robust) -> Array:
    """Return the (n,) p-values of single rows, times n.

    The tail is exponential from the median through the 90 % quantile, a Pareto law where points are few: Student's t
    and Laplace noise stay inside it, and normal theory would call their tails outliers.
    """
    middle = float(np.median(fit.size))
    shape = max(1.0, 0.75 * g.dof)
    length = max(0.62 * fit.scale, (quantile(fit.size, 0.9) - middle) / log(5)) + TINY
    return np.minimum(
        1.0, 0.5 * len(fit.size) * (1 + np.maximum(fit.size - middle, 0) / length / shape) ** -shape
    )


def outliers(g: Geometry, fit: Robust) -> Outliers | None:
    """Return the rows with p < 0.05 and what leaving them out would do; None when too few rows would remain."""
    p = tail(g, fit)
    rank = g.Q.shape[1]
    out = p < OUT
    keep = ~out
    if g.dof < 4 or int(keep.sum()) <= rank + 1:
        return None
    away = np.flatnonzero(out)[np.argsort(p[out], kind="stable")]
    step = np.linalg.lstsq(g.Q[keep], g.r[keep], rcond=None)[0] if len(away) else g.Q.T @ g.r
    rest = g.r[keep] - g.Q[keep] @ step
    s = sqrt(float(rest @ rest) / (len(rest) - rank)) + TINY
    to_parameters = g.V.T[:, :rank] / g.sv[:rank]  # (k, rank), columns of J of length 1
    change = to_parameters @ (step - g.Q.T @ g.r)
    errors: Array = np.sqrt(np.einsum("ij,ij->i", to_parameters, to_parameters)) * s
    moved = np.abs(change) / (errors + TINY)
    sizes = (g.r[away] - g.Q[away] @ step) / s
    shift = change * (g.unit / np.where(g.norm > 0, g.norm, np.inf))
    most = int(np.argmax(moved)) if len(moved) else 0
    return Outliers(float(p.min()), away, sizes, shift, float(moved.max(initial=0.0)), most, g.s / s)


def spread(fit: Robust, columns: dict[str, Array], dof: int) -> Spread:
    """Return the strongest rank correlation of |residuals| with a column, Bonferroni-corrected."""
    tested = {name: laws.spearman(fit.size, x, dof) for name, x in columns.items()}
    least = min(p for _, p in tested.values())
    along = next(
        name for name, (_, p) in tested.items() if p <= least * (1 + 1e-6)
    )  # equal but for rounding: the first
    rho, p = tested[along]
    at = laws.places(columns[along])
    low, high = (
        quantile(fit.size[part], 0.683) for part in (at <= quantile(at, 1 / 3), at >= quantile(at, 2 / 3))
    )
    ratio = max(low, high) / (min(low, high) + TINY)
    return Spread(min(1.0, p * len(columns)), along, ratio, rho > 0)


def sigma_too_small(g: Geometry) -> tuple[float, float]:
    """Return reduced chi-square and the p-value of so much scatter, with room for tails as long as Laplace's.

    The scaled law of chi-square with dof / (1 + kurtosis/2) has the variance of a mean of such squares.
    """
    s = g.s * g.unit
    reduced = s * s  # a square by ** would raise where this is infinite
    dof = g.dof / (1 + KURTOSIS / 2)
    return reduced, laws.chi2_tail(reduced * dof, dof)
