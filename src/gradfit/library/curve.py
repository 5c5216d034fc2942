"""Curve: the points in the order of x, few enough to scan, measured in units of their own range."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MOST = 300  # points that a scan looks at; more are averaged in groups of neighbours
_ENOUGH = 20  # points from which on noise can be told from a spike
_LONE = 7.0  # medians of the bend, which is 0.83 standard deviations of the noise: six of these
_SMALL, _LARGE = 1e-290, 1e290  # a unit outside could over- or underflow in the parameters


@dataclass(frozen=True, slots=True)
class Curve:
    """Points with x = x_zero + x_unit*u and y = y_zero + y_unit*v, so that u and v are of size one.

    Guesses are made from u and v alone; that is why a change of units changes only the units of a guess.

    Attributes
    ----------
    u, v : Array
        (m,) positions in ascending order, and values.
    x_zero, x_unit, y_zero, y_unit : float
        The frame; the units are positive.
    """

    u: Array
    v: Array
    x_zero: np.float64
    x_unit: np.float64
    y_zero: np.float64
    y_unit: np.float64

    @staticmethod
    def of(x: Array, y: Array, *, x_shifts: bool, y_shifts: bool, most: int = MOST) -> "Curve":
        """Return the finite points of x (n,) and y (n,) in their own frame, at most `most` of them.

        Parameters
        ----------
        x, y : Array
            (n,) in any order.
        x_shifts, y_shifts : bool
            Whether the model can follow a shift of x (of y). If it can, u runs from 0 to 1 (v from -½ to ½);
            if not, zero stays zero and the largest magnitude is 1.
        most : int
            More points are replaced by means of groups of neighbours.
        """
        x, y = np.ravel(np.asarray(x, np.float64)), np.ravel(np.asarray(y, np.float64))
        seen = np.isfinite(x) & np.isfinite(y)
        order = np.argsort(x[seen], kind="stable")
        x, y = x[seen][order], y[seen][order]
        if x.size == 0:
            x = y = np.zeros(1)
        y = without_spikes(y)
        u, x_zero, x_unit = _framed(x, place=0.0 if x_shifts else None)
        v, y_zero, y_unit = _framed(y, place=0.5 if y_shifts else None)
        return Curve(_thinned(u, most), _thinned(v, most), x_zero, x_unit, y_zero, y_unit)

    @property
    def least(self) -> float:
        """The smallest positive distance from u = 0, at least 1e-9: nothing faster shows in the data."""
        ahead = self.u[self.u > 1e-9]
        return float(ahead[0]) if ahead.size else 1.0

    @property
    def gap(self) -> float:
        """The median distance of neighbours at different places, 1 when there is one place."""
        gaps = np.diff(self.u)
        gaps = gaps[gaps > 1e-9]
        return float(np.median(gaps)) if gaps.size else 1.0

    @property
    def far(self) -> float:
        """The largest |x| in units of x: what a rate is multiplied with when x = 0 lies outside the data."""
        return float(np.max(np.abs(self.x_zero / self.x_unit + self.u)))

    def place(self, u: float) -> np.float64:
        """Return the x of a position."""
        return self.x_zero + self.x_unit * u

    def level(self, v: float) -> np.float64:
        """Return the y of a value."""
        return self.y_zero + self.y_unit * v


def without_spikes(y: Array) -> Array:
    """Return y (n,) with each lone point put back to its nearer neighbour: far off, where the four around it are not.

    One outlier pulls a peak or a fast decay onto itself; a start value should not depend on it. A peak of three points
    or more, an edge and an oscillation stay as they are.
    """
    if y.size < _ENOUGH:
        return y
    z = y / 64  # 1e308 - -1e308 would overflow
    noise = np.median(np.abs(z[1:-1] - z[:-2] / 2 - z[2:] / 2))
    around = np.stack([z[:-4], z[1:-3], z[3:-1], z[4:]])  # two on each side
    quiet = np.max(around, axis=0) - np.min(around, axis=0) <= 2 * _LONE * noise
    middle = np.median(np.stack([z[1:-3], z[2:-2], z[3:-1]]), axis=0)
    lone = quiet & (np.abs(z[2:-2] - middle) > _LONE * noise)
    return np.concatenate([y[:2], np.where(lone, 64 * middle, y[2:-2]), y[-2:]])


def _framed(values: Array, *, place: float | None) -> tuple[Array, np.float64, np.float64]:
    """Return (values in their frame, zero, unit); `place` is where in the range zero lies, None: at 0."""
    largest = np.max(np.abs(values))
    if largest == 0:
        return values, np.float64(0), np.float64(1)
    scaled = values / largest  # 1e308 - -1e308 would overflow
    low, high = np.min(scaled), np.max(scaled)
    if place is None:
        return scaled, np.float64(0), np.clip(largest, _SMALL, _LARGE)
    zero = low + place * (high - low)
    unit = high - low if high > low else np.float64(1)
    with np.errstate(over="ignore"):
        return (scaled - zero) / unit, zero * largest, np.clip(unit * largest, _SMALL, _LARGE)


def _thinned(values: Array, most: int) -> Array:
    """Return means of at most `most` groups of neighbours, of equal size up to one."""
    n = values.size
    if n <= most:
        return values
    edges = np.arange(most) * n // most
    return np.add.reduceat(values, edges) / np.diff(np.append(edges, n))
