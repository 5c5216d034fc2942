"""What the data say about the parameters: which are determined, which sit on a bound, how far the minimum is."""

from dataclasses import dataclass
from math import sqrt

import numpy as np

import gradfit.diagnose.laws as laws
from gradfit.diagnose.evidence import Array, Mask
from gradfit.diagnose.geometry import TINY, Geometry

REDUNDANT = 1e-11  # exact redundancy gives about 1e-16; the hardest honest design of NIST, Filip, 1.9e-10
SHARED = 1e-6  # weight in the undetermined directions below which a parameter has no part in them
INFLATED = 100.0  # variance inflation from which parameters are known only together
OF_NO_USE = 0.4  # standard error over the value, of one of them
OF_LITTLE_USE = 0.3  # of at least one other
NO_EFFECT = 1e-25  # of the fitted values: less than rounding squared


@dataclass(frozen=True, slots=True)
class Group:
    """Parameters of which only some combinations are determined."""

    members: tuple[int, ...]
    free: int  # how many of them can take any value
    ratio: float  # smallest singular value over the largest
    slope: Array  # (members,) derivative of the one determined combination, when free = members - 1


def without_effect(g: Geometry, values: Array, fitted: float) -> list[int]:
    """Return the parameters that move no point.

    Parameters
    ----------
    g : Geometry
        Of all free parameters.
    values : (k,) array
        The parameters.
    fitted : float
        Length of the fitted values, divided as the residuals are.
    """
    effect = g.norm * np.abs(values)
    return [int(j) for j in np.flatnonzero((g.norm == 0) | ((effect > 0) & (effect < NO_EFFECT * fitted)))]


def redundant(g: Geometry, J: Array, dead: list[int]) -> list[Group]:
    """Return the groups of parameters that cannot be told apart, those without effect aside."""
    if not len(g.sv) or g.ratio >= REDUNDANT:
        return []
    null = g.V[g.sv < REDUNDANT * g.sv[0]].T
    shared = np.abs(null @ null.T)
    left = [j for j in range(len(shared)) if j not in dead and shared[j, j] > SHARED]
    groups: list[Group] = []
    while left:
        members = connected(left, shared)
        left = [j for j in left if j not in members]
        free = max(1, round(float(sum(shared[j, j] for j in members))))
        if len(members) > 1:
            groups.append(Group(tuple(members), free, g.ratio, slope(g, J, members)))
    return groups


def connected(left: list[int], shared: Array) -> list[int]:
    """Return, sorted, the parameters that share an undetermined direction with the first of `left`."""
    members, edge = {left[0]}, [left[0]]
    while edge:
        near = [j for j in left if j not in members and shared[edge[-1], j] > SHARED]
        edge.pop()
        members.update(near)
        edge.extend(near)
    return sorted(members)


def slope(g: Geometry, J: Array, members: list[int]) -> Array:
    """Return the signed lengths of columns that are all multiples of one: how each moves what is determined."""
    lead = J[:, members[0]] / g.norm[members[0]]
    signs = [1.0 if float(lead @ (J[:, j] / g.norm[j])) >= 0 else -1.0 for j in members]
    return g.norm[list(members)] * np.array(signs)


def to_fix(group: Group, g: Geometry) -> list[int]:
    """Return the parameters of a group, last first, that leave the rest determined once they are fixed."""
    null = g.V[g.sv < REDUNDANT * g.sv[0]].T
    chosen: list[int] = []
    for j in reversed(group.members):
        if len(chosen) < group.free and np.linalg.matrix_rank(null[[*chosen, j]], tol=1e-3) > len(chosen):
            chosen.append(j)
    return sorted(chosen)


@dataclass(frozen=True, slots=True)
class Together:
    """Parameters that only a narrow valley joins, each of no use alone."""

    members: tuple[int, ...]
    worst: int  # the one known least
    correlation: float  # of two; of more the multiple correlation of the worst with all others
    relative: float  # least of the relative standard errors


def strong_correlation(g: Geometry, values: Array, noise: float) -> Together | None:
    """Return the parameters that are known only together and to no useful accuracy, None when fewer than two are.

    Parameters
    ----------
    g : Geometry
        Of the parameters off their bounds.
    values : (k,) array
        The parameters.
    noise : float
        Standard deviation of the weighted residuals.

    References
    ----------
    .. [1] Belsley, Kuh & Welsch (1980), Regression Diagnostics: variance inflation, columns of length 1.
    """
    if not len(g.sv) or g.ratio < REDUNDANT:
        return None
    half = g.V.T / g.sv
    covariance = half @ half.T
    inflation = np.diagonal(covariance)
    stretch = laws.student_quantile(max(g.dof, 1)) / 2
    relative = noise * stretch * np.sqrt(inflation) / g.norm / np.abs(values)
    members = np.flatnonzero((inflation > INFLATED) & ~(relative <= OF_LITTLE_USE))
    if len(members) < 2 or not bool(np.any(~(relative[members] <= OF_NO_USE))):
        return None
    worst = int(members[int(np.argmax(np.where(np.isnan(relative), np.inf, relative)[members]))])
    known = sqrt(1 - 1 / float(inflation[worst]))
    if len(members) == 2:
        i, j = members
        known = float(covariance[i, j]) / sqrt(float(inflation[i]) * float(inflation[j]))
    return Together(tuple(members.tolist()), worst, known, float(np.nanmin(relative[members])))


def on_bound(g: Geometry, values: Array, lower: Array, upper: Array) -> Mask:
    """Return the (k,) mask of parameters whose bound is nearer than a thousandth of the noise could show."""
    gap = np.minimum(values - lower, upper - values)
    near = np.maximum(1e-13 * np.abs(values), 1e-3 * g.s * g.unit / np.where(g.norm > 0, g.norm, np.inf))
    return gap <= near


def release(r: Array, J: Array, free: Mask) -> tuple[float, float]:
    """Return F and its p-value for the drop of the RSS that letting go of the bounds would give.

    Parameters
    ----------
    r : (n,) array
        Residuals, of any size.
    J : (n, k) array
        Jacobian with columns of length 1.
    free : (k,) array of bool
        The parameters off their bounds.
    """
    every, some = (float(np.sum((np.linalg.qr(A)[0].T @ r) ** 2)) for A in (J, J[:, free]))
    m, dof = int((~free).sum()), max(len(r) - len(free), 1)
    left = max(float(r @ r) - every, 0.0) / dof
    ratio = max(every - some, 0.0) / m / (left + TINY)
    return ratio, laws.f_tail(ratio, m, dof)


def relative_offset(g: Geometry) -> float:
    """Return the distance to the minimum in radii of the confidence region.

    References
    ----------
    .. [1] Bates & Watts (1981), Technometrics 23, 179.
    """
    along = g.Q.T @ g.r
    across = g.r - g.Q @ along
    inside = sqrt(float(along @ along) / max(len(along), 1))
    return inside / (sqrt(float(across @ across) / max(g.dof, 1)) + TINY)


def lower_elsewhere(g: Geometry, other: float, parameters: int) -> tuple[float, float]:
    """Return F of what another start gained over this RSS, and how many times lower it ended."""
    other = other / g.unit / g.unit
    rss, dof = float(g.r @ g.r), max(len(g.r) - parameters, 1)
    return (rss - other) / (other / dof + TINY), rss / max(other, TINY)
