"""Axes: the candidates for one shape (a place, width, rate, dose or power) that these data can tell apart."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradfit.library.curve import Array, Curve

LARGEST_EXPONENT = 300.0  # exp(±300) times any unit of y stays finite
_MOST = 80  # candidates on one axis, for each sign


@dataclass(frozen=True)
class Axis:
    """Candidates for one shape, and by how much neighbours differ.

    Attributes
    ----------
    values : Array
        (k,) candidates.
    step : float
        The distance of neighbours, or the logarithm of their ratio.
    ratio : bool
        Whether neighbours differ by a factor.
    limits : (float, float)
        Between which the value stays when it is moved; for factors those of its magnitude.
    """

    values: Array
    step: float
    ratio: bool
    limits: tuple[float, float] = (-np.inf, np.inf)

    def moved(self, value: Array, steps: Array) -> Array:
        """Return `value` moved by that many steps within the limits; where steps are factors it keeps its sign."""
        if self.ratio:
            return np.copysign(np.clip(np.abs(value) * np.exp(self.step * steps), *self.limits), value)
        return np.clip(value + self.step * steps, *self.limits)

    def number(self, values: Array) -> Array:
        """Return the values counted in steps."""
        return np.log(np.abs(values)) / self.step if self.ratio else values / self.step


def even(low: float, high: float, count: int, *, also: Sequence[float] = ()) -> Axis:
    """Return `count` candidates at equal distances, and some more."""
    values = np.linspace(low, high, count)
    return Axis(np.concatenate([values, also]), float(values[1] - values[0]), ratio=False)


def ratios(low: float, high: float, factor: float, *, signed: bool = False) -> Axis:
    """Return candidates from low to high, each about `factor` times the one before; `signed`: and their negatives."""
    high = max(high, low * factor)
    count = min(max(int(np.ceil(np.log(high / low) / np.log(factor))) + 1, 2), _MOST)
    values = np.geomspace(low, high, count)
    step = float(np.log(high / low) / (count - 1))
    return Axis(
        np.concatenate([-values[::-1], values]) if signed else values, step, ratio=True, limits=(low, high)
    )


def shares() -> Axis:
    """Return a share between 0 and 1 to begin with: it changes the curve too little for a choice."""
    return Axis(np.array([0.5]), 0.3, ratio=False, limits=(0.0, 1.0))


def places(curve: Curve, count: int = 40, *, beyond: float = 0.0) -> Axis:
    """Return places over the range of x (and `beyond` it, in ranges), those of the most extreme values among them."""
    return even(-beyond, 1 + beyond, count, also=_extremes(curve))


def widths(curve: Curve, widest: float = 2.0, factor: float = 1.8) -> Axis:
    """Return widths from half the distance of neighbours to `widest` ranges."""
    return ratios(min(max(curve.gap / 2, 1e-4), 0.2), widest, factor)


def rates(curve: Curve, *, signed: bool = False) -> Axis:
    """Return rates of exp(-rate*u): from nearly straight to gone after one point; none overflows at x = 0."""
    fastest = min(max(3 / curve.least, 10.0), 1e5, fastest_rate(curve))
    return ratios(min(0.03, fastest / 100), fastest, 1.5, signed=signed)


def fastest_rate(curve: Curve) -> float:
    """Return the largest rate with which exp(-rate*u) stays finite between x = 0 and the data."""
    return LARGEST_EXPONENT / max(curve.far, 1.0)


def doses(curve: Curve) -> Axis:
    """Return doses from below the smallest that is not zero to far above the largest."""
    return ratios(curve.least / 5, 30.0, 1.7)


def powers(curve: Curve) -> Axis:
    """Return exponents b of u**b, both signs; the narrower the range of log(u), the larger."""
    decay = float(-np.log(np.clip(curve.least, 1e-9, 1 - 1e-9)))
    size = abs(float(np.log(curve.x_unit)))
    return ratios(0.02, min(max(8.0, 20 / decay), LARGEST_EXPONENT / max(size, 1.0)), 1.35, signed=True)


def _extremes(curve: Curve, each: int = 5) -> Sequence[float]:
    """Return the places of the highest and the lowest values, of running medians of three where there are enough."""
    v = curve.v
    if v.size > 3 * each:
        v = np.concatenate([v[:1], np.median(np.stack([v[:-2], v[1:-1], v[2:]]), axis=0), v[-1:]])
    order = np.argsort(v, kind="stable")
    return curve.u[np.unique(np.concatenate([order[:each], order[-each:]]))].tolist()
