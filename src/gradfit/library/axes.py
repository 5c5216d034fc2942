"""Where to look for places, widths, rates and doses: the candidates that these data can tell apart."""

import numpy as np

from gradfit.library.curve import Array, Curve
from gradfit.library.scan import Axis, even, ratios

LARGEST_EXPONENT = 300.0  # exp(±300) times any unit of y stays finite


def places(curve: Curve, count: int = 40, *, beyond: float = 0.0) -> Axis:
    """Return places over the range of x (and `beyond` it, in ranges), those of the most extreme values among them."""
    return even(-beyond, 1 + beyond, count, _extremes(curve).tolist())


def widths(curve: Curve, widest: float = 2.0, factor: float = 1.8) -> Axis:
    """Return widths from half the distance of neighbours to `widest` ranges."""
    return ratios(min(max(curve.gap / 2, 1e-4), 0.2), widest, factor)


def rates(curve: Curve, *, signed: bool = False) -> Axis:
    """Return rates of exp(-rate*u): from nearly straight to gone after one point; none overflows at x = 0."""
    limit = LARGEST_EXPONENT / max(curve.far, 1.0)
    fastest = min(max(3 / curve.least, 10.0), 1e5, limit)
    return ratios(min(0.03, fastest / 100), fastest, 1.5, signed=signed)


def doses(curve: Curve) -> Axis:
    """Return doses from below the smallest that is not zero to far above the largest."""
    return ratios(curve.least / 5, 30.0, 1.7)


def powers(curve: Curve) -> Axis:
    """Return exponents b of u**b, both signs; the narrower the range of log(u), the larger."""
    decay = float(-np.log(np.clip(curve.least, 1e-9, 1 - 1e-9)))
    size = abs(float(np.log(curve.x_unit)))
    return ratios(0.02, min(max(8.0, 20 / decay), LARGEST_EXPONENT / max(size, 1.0)), 1.35, signed=True)


def _extremes(curve: Curve, each: int = 5) -> Array:
    """Return the places of the highest and the lowest values, of running medians of three where there are enough."""
    v = curve.v
    if v.size > 3 * each:
        v = np.concatenate([v[:1], np.median(np.stack([v[:-2], v[1:-1], v[2:]]), axis=0), v[-1:]])
    order = np.argsort(v, kind="stable")
    return curve.u[np.unique(np.concatenate([order[:each], order[-each:]]))]
