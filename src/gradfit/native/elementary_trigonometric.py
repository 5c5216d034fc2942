"""Sine, cosine and tangent as code.

References
----------
.. [1] Cody & Waite, Software Manual for the Elementary Functions (1980): pi / 2 subtracted in parts.
"""

import math

from gradfit.native.elementary_exponential import ROUNDING, as_written, fast_sum, product, rarely
from gradfit.native.values import Bits, Lanes

_HALF_PI = {
    64: tuple(
        map(float.fromhex, ("0x1.921fb54442d18p+0", "0x1.1a62633145c07p-54", "-0x1.f1976b7ed8fbcp-110"))
    ),
    32: tuple(map(float.fromhex, ("0x1.921fb6p+0", "-0x1.777a5cp-25", "-0x1.ee59dap-50"))),
}
_FAR = {64: 2.0**30, 32: 2.0**16}  # from here on the parts of pi / 2 may be too few
_SIN = {  # (sin(r) / r - 1) / r**2 by r**2, |r| < pi / 4: 3.2e-17, 2.5e-8
    64: (
        -0.16666666666666666,
        0.008333333333330945,
        -0.00019841269836751364,
        2.7557316098812687e-06,
        -2.505113106573605e-08,
        1.5918073162923074e-10,
    ),
    32: (-0.166666641831398, 0.008332747966051102, -0.000195877903024666),
}
_COS = {  # (cos(r) - 1 + r**2 / 2) / r**4 by r**2, |r| < pi / 4: 2.3e-18, 2.5e-9
    64: (
        0.041666666666666664,
        -0.0013888888888887393,
        2.4801587298761176e-05,
        -2.755731726939027e-07,
        2.0876145780903544e-09,
        -1.1382597309861877e-11,
    ),
    32: (0.0416666641831398, -0.001388830249197781, 2.454784043948166e-05),
}
_ATAN_BREAKS = (math.sqrt(2) - 1, math.sqrt(2) + 1)  # the tangents of pi / 8 and 3 pi / 8
_STEEPEST = 2.0**64  # from here on atan rounds to pi / 2
_ATAN = (  # (atan(t) / t - 1) / t**2 by t**2, |t| < tan(pi / 8): 4.5e-17
    -0.3333333333333333,
    0.1999999999999552,
    -0.14285714284666542,
    0.11111111015256361,
    -0.09090904578123903,
    0.07692183190826087,
    -0.06664511447381948,
    0.0585814891280221,
    -0.0508544973794026,
    0.03923165829558719,
    -0.01917688711906226,
)


def _quarters(x: Lanes) -> tuple[Lanes, Bits, Lanes]:
    """Return the number n of pi / 2 next to x, its bits, and x less n times pi / 2's first part, which is exact."""
    real = x.code.real
    shifted = x.times(2 / math.pi, ROUNDING[real])
    n = shifted - ROUNDING[real]
    return n, shifted.bits(), n.times(-_HALF_PI[real][0], x)


def turned(x: Lanes, quarters: int) -> Lanes:
    """Return sin(x + quarters pi / 2) for moderate x."""
    real = x.code.real
    _, second, third = _HALF_PI[real]
    n, places, rest = _quarters(x)
    r = n.times(-third, n.times(-second, rest))
    square = r * r
    sine = (r * square).times(square.polynomial(_SIN[real]), r)
    cosine = (square * square).times(square.polynomial(_COS[real]), square.times(-0.5, 1.0))
    places = places + quarters
    y = (places & 1).same(0).pick(sine, cosine)
    return (y.bits() ^ ((places & 2) << (real - 2))).number()


@as_written
def sin(x: Lanes) -> Lanes:
    """Return the sine; the C library's from 2**30 on (2**16 for 32 bits)."""
    far = ~(abs(x) < _FAR[x.code.real])
    y = rarely(far, turned(x, 0), lambda: x.code.library("sin", x))
    return x.same(0.0).pick(x, y)


@as_written
def cos(x: Lanes) -> Lanes:
    """Return the cosine; the C library's from 2**30 on (2**16 for 32 bits)."""
    far = ~(abs(x) < _FAR[x.code.real])
    return rarely(far, turned(x, 1), lambda: x.code.library("cos", x))


@as_written
def tan(x: Lanes) -> Lanes:
    """Return the tangent, a quotient of sums in two parts; the C library's from 2**30 on."""
    _, second, third = _HALF_PI[64]
    n, places, rest = _quarters(x)
    part, lost = product(n, n.like(second))
    r = rest - part
    low = n.times(-third, ((rest - r) - part) - lost)
    square = r * r
    sine = fast_sum(r, (r * square).times(square.polynomial(_SIN[64]), low))
    half = 0.5 * square
    near = 1.0 - half
    lost = ((1.0 - near) - half) - r * low
    cosine = fast_sum(near, (square * square).times(square.polynomial(_COS[64]), lost))
    even = (places & 1).same(0)
    top, top_low = (even.pick(s, -c) for s, c in zip(sine, cosine, strict=True))
    bottom, bottom_low = (even.pick(c, s) for s, c in zip(sine, cosine, strict=True))
    inverse = 1.0 / bottom
    y = top * inverse
    y = (y.times(-bottom, top) + y.times(-bottom_low, top_low)).times(inverse, y)
    far = ~(abs(x) < _FAR[64])
    return x.same(0.0).pick(x, rarely(far, y, lambda: x.code.library("tan", x)))


@as_written
def atan(x: Lanes) -> Lanes:
    """Return the arc tangent."""
    a = abs(x)
    a = (a > _STEEPEST).pick(_STEEPEST, a)
    steep, flat = a > _ATAN_BREAKS[1], a < _ATAN_BREAKS[0]
    top = flat.pick(a, steep.pick(-1.0, a - 1.0))
    bottom = flat.pick(1.0, steep.pick(a, a + 1.0))
    start, start_low = (flat.pick(0.0, steep.pick(p, p / 2)) for p in _HALF_PI[64][:2])
    lost = (flat | steep).pick(0.0, a - (bottom - 1.0))
    inverse = 1.0 / bottom
    t = top * inverse
    t_low = (t.times(-bottom, top) - t * lost) * inverse
    square = t * t
    y, y_low = fast_sum(start, t)
    y = y + (t * square).times(square.polynomial(_ATAN), (y_low + t_low) + start_low)
    return x.code.intrinsic("copysign", y, x)
