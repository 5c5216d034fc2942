"""Exponential and logarithm, and what is made of them, as code.

Every operation is rounded as written, so that a result depends on neither the number of lanes nor on the neighbours.
Polynomials are interpolated in 60-digit arithmetic at Chebyshev's points of the interval named beside them.

References
----------
.. [1] Tang, ACM Trans. Math. Softw. 15, 144 (1989): reduction of exp's argument by ln 2 in two parts.
.. [2] Dekker, Numer. Math. 18, 224 (1971): sums and products of numbers in two parts.
"""

import math
from collections.abc import Callable
from functools import wraps

from gradfit.native.values import Bits, Lanes, Truth

Function = Callable[..., Lanes]

ROUNDING = {64: 6755399441055744.0, 32: 12582912.0}  # 1.5 * 2**52, 2**23: added to a number they round it
MANTISSA = {64: 52, 32: 23}  # bits of it
_ONE = {64: 0x3FF << 52, 32: 0x7F << 23}  # the bits of 1.0
_WHOLE = {64: 0x433 << 52, 32: 0x96 << 23}  # the bits of 2**52, 2**23: a small integer is put into the lowest
_ROOT_HALF = {64: 0x3FE6A09E667F3BCD, 32: 0x3F3504F3}  # the bits of sqrt(1/2)
_TINY = {64: 2.0**-1022, 32: 2.0**-126}  # the smallest number that is not subnormal
_LN2 = {
    64: (float.fromhex("0x1.62e42fefa39efp-1"), float.fromhex("0x1.abc9e3b39803fp-56")),
    32: (0.693147182464599609375, -1.904654299957768e-09),
}
_RANGE = {64: (-746.0, 710.0), 32: (-104.0, 89.0)}  # beyond, exp is 0 and infinite
_EXPM1_RANGE = {64: (-38.0, 710.0), 32: (-18.0, 89.0)}
EXP = {  # (e**r - 1 - r) / r**2, |r| < ln(2) / 2: 1.2e-16, 6.7e-8
    64: (
        0.5000000000000001,
        0.16666666666666669,
        0.04166666666662413,
        0.008333333333330062,
        0.0013888888917213717,
        0.00019841269863053618,
        2.4801521295954376e-05,
        2.7557268459997064e-06,
        2.7620088445409746e-07,
        2.510038549551032e-08,
    ),
    32: (0.5, 0.16666576266288757, 0.04166646674275398, 0.008363181725144386, 0.0013933649752289057),
}
_LOG = {  # (log(m) / s - 2) / s**2 by s**2, s = (m - 1) / (m + 1), m from sqrt(1/2) to sqrt(2): 3.2e-16, 2e-7
    64: (
        0.666666666666667,
        0.39999999999899444,
        0.2857142862600327,
        0.22222211130259878,
        0.18182889455674947,
        0.15331710618210773,
        0.14616585424888623,
    ),
    32: (0.6666668653488159, 0.3998877704143524, 0.2958005368709564),
}
_TANH = {  # (tanh(x) / x - 1) / x**2 = P / Q by x**2, |x| < 0.625: 5e-18, 1.2e-8
    64: (
        (-0.3333333333333333, -0.020498799708498872, -0.0001991780435861287),
        (1.0, 0.4614963991254931, 0.02329133187629886, 0.0002065337374875025),
    ),
    32: ((-0.333333283662796, -0.0015510664088651538), (1.0, 0.4046468138694763)),
}
_SINH = (  # (sinh(x) / x - 1) / x**2 by x**2, |x| < 1: 1.1e-17
    0.16666666666666666,
    0.008333333333333299,
    0.00019841269841324198,
    2.7557319191381816e-06,
    2.5052117695907823e-08,
    1.6057679623801638e-10,
    7.746178593018827e-13,
)
_TWO_THIRDS = (float.fromhex("0x1.5555555555555p-1"), float.fromhex("0x1.5555555555555p-55"))
_LN2_SHORT = (float.fromhex("0x1.62e42fefa38p-1"), float.fromhex("0x1.ef35793c7673p-45"))  # 11 bits free
_LOG_REST = (  # what follows 2/3 s**2 in log(m) / s - 2, over s**4, by s**2: 4e-17
    0.4,
    0.28571428571429364,
    0.22222222221655885,
    0.18181818335392802,
    0.1538459496251843,
    0.1333480469384731,
    0.11706236339491206,
    0.11723178623876518,
)


def as_written(function: Function) -> Function:
    """Return the function with every operation in it rounded by itself."""

    @wraps(function)
    def written(*values: Lanes) -> Lanes:
        with values[0].code.exactly():
            return function(*values)

    return written


def held(x: Lanes, low: float, high: float) -> Lanes:
    """Return x, or the nearer end of the range where it is outside; NaN stays."""
    x = (x > high).pick(high, x)
    return (x < low).pick(low, x)


def rarely(needed: Truth, usual: Lanes, rare: Callable[[], Lanes]) -> Lanes:
    """Return `usual`, and `rare` in the lanes that need it; it is computed only where any does."""
    code = usual.code
    cell = code.cell(usual)
    with code.at.if_then(needed.any(), likely=False):
        cell.set(needed.pick(rare(), usual))
    return cell.get()


# ---------------------------------------------------------------------------- powers of two


def power_of_two(x: Lanes, places: Bits) -> Lanes:
    """Return 2**n, n the lowest bits of the integers; n must not leave the range of normal numbers."""
    real = x.code.real
    return ((places << MANTISSA[real]) + _ONE[real]).number()


def scaled(y: Lanes, places: Bits) -> Lanes:
    """Return y * 2**n in two steps, so that n may be outside the range of normal numbers."""
    half = places >> 1
    return y * power_of_two(y, half) * power_of_two(y, places - half)


def reduced(x: Lanes) -> tuple[Lanes, Lanes, Bits]:
    """Return r and c with x = n ln 2 + r + c, |r| < ln(2) / 2, c the part that r has no room for, and n's bits."""
    real = x.code.real
    high, low = _LN2[real]
    shifted = x.times(1 / math.log(2), ROUNDING[real])
    n = shifted - ROUNDING[real]
    rough = n.times(-high, x)
    r = n.times(-low, rough)
    return r, n.times(-low, rough - r), shifted.bits()


# ---------------------------------------------------------------------------- exponential


def exp_of_sum(x: Lanes, low: Lanes | None = None) -> tuple[Lanes, Bits]:
    """Return y and the bits of n with y * 2**n = exp(x + low), |low| tiny, x within the range that n has room for."""
    real = x.code.real
    shifted = x.times(1 / math.log(2), ROUNDING[real])
    n = shifted - ROUNDING[real]
    r = n.times(-_LN2[real][0], x)
    r = n.times(-_LN2[real][1], r)
    if low is not None:
        r = r + low
    return 1.0 + (r * r).times(r.polynomial(EXP[real]), r), shifted.bits()


@as_written
def exp(x: Lanes) -> Lanes:
    """Return e**x."""
    return scaled(*exp_of_sum(held(x, *_RANGE[x.code.real])))


@as_written
def expm1(x: Lanes) -> Lanes:
    """Return e**x - 1, exact for small x."""
    real = x.code.real
    r, low, n = reduced(held(x, *_EXPM1_RANGE[real]))
    half = power_of_two(x, n - 1)  # of 2**n, which may be too large
    rest = (r * r).times(r.polynomial(EXP[real]), low)
    y = half.times(rest, half.times(r, half - 0.5))
    return (abs(x) < 2.0 ** -(MANTISSA[real] + 2)).pick(x, y + y)


@as_written
def tanh(x: Lanes) -> Lanes:
    """Return the hyperbolic tangent."""
    real = x.code.real
    top, bottom = _TANH[real]
    a = abs(x)
    small = a < 0.625
    y, n = exp_of_sum((a > 22.0).pick(44.0, a + a))
    square = x * x
    above = small.pick(a * square * square.polynomial(top), -2.0)
    below = small.pick(square.polynomial(bottom), y.times(power_of_two(y, n), 1.0))
    return x.code.intrinsic("copysign", small.pick(a, 1.0) + above / below, x)


def _half_exp(a: Lanes) -> Lanes:
    """Return exp(a) / 2 for a >= 0, which overflows later than exp(a)."""
    y, n = exp_of_sum((a > 711.0).pick(711.0, a))
    return scaled(y, n - 1)


@as_written
def sinh(x: Lanes) -> Lanes:
    """Return the hyperbolic sine."""
    a, square = abs(x), x * x
    half = _half_exp(a)
    small = (a * square).times(square.polynomial(_SINH), a)
    return x.code.intrinsic("copysign", (a < 1.0).pick(small, half - 0.25 / half), x)


@as_written
def cosh(x: Lanes) -> Lanes:
    """Return the hyperbolic cosine."""
    half = _half_exp(abs(x))
    return half + 0.25 / half


# ---------------------------------------------------------------------------- logarithm


def parted(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return k and m with x = 2**k m, m from sqrt(1/2) to sqrt(2), for normal x > 0."""
    real = x.code.real
    places, bias = MANTISSA[real], 1 << (real - MANTISSA[real] - 2)
    moved = x.bits() + ((bias << places) - _ROOT_HALF[real])
    k = ((moved >> places) | _WHOLE[real]).number() - (2.0**places + bias)
    m = ((moved & ((1 << places) - 1)) + _ROOT_HALF[real]).number()
    return k, m


def _log_of_parts(k: Lanes, m: Lanes, low: Lanes | float = 0.0) -> Lanes:
    """Return log(2**k m) + low, |low| tiny."""
    real = k.code.real
    f = m - 1.0
    s = f / (f + 2.0)
    square = s * s
    rest = square * square.polynomial(_LOG[real])  # log(m) = 2 s + s rest = f - s (f - rest)
    tail = (rest - f).times(s, k.times(_LN2[real][1], low))
    return k.times(_LN2[real][0], f + tail)


@as_written
def log(x: Lanes) -> Lanes:
    """Return the natural logarithm."""
    real = x.code.real
    tiny, lift = x < _TINY[real], MANTISSA[real] + 1
    k, m = parted(tiny.pick(x * 2.0**lift, x))
    y = _log_of_parts(tiny.pick(k - lift, k), m)
    y = (x > 0.0).pick(y, x.same(0.0).pick(-math.inf, math.nan))
    return x.same(math.inf).pick(x, y)


@as_written
def log1p(x: Lanes) -> Lanes:
    """Return log(1 + x), exact for small x."""
    above = 1.0 + x
    back = above - 1.0
    lost = (1.0 - (above - back)) + (x - back)
    y = _log_of_parts(*parted(above), lost / above)
    y = (x > -1.0).pick(y, x.same(-1.0).pick(-math.inf, math.nan))
    y = x.same(math.inf).pick(x, y)
    return (abs(x) < 2.0 ** -(MANTISSA[x.code.real] + 2)).pick(x, y)


# ---------------------------------------------------------------------------- power


def product(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """Return a * b in two parts: rounded, and what the rounding lost."""
    high = a * b
    return high, a.times(b, -high)


def fast_sum(a: Lanes, b: Lanes) -> tuple[Lanes, Lanes]:
    """Return a + b in two parts, for |a| >= |b|."""
    high = a + b
    return high, b - (high - a)


def _log_in_two(x: Lanes) -> tuple[Lanes, Lanes]:
    """Return log(x), x > 0 and normal, in two parts that are good to 66 bits together."""
    k, m = parted(x)
    f, d = m - 1.0, m + 1.0
    inverse = 1.0 / d
    s = f * inverse
    s_low = (s.times(-d, f) - s * (m - (d - 1.0))) * inverse
    z, z_low = product(s, s)
    z_low = (s + s).times(s_low, z_low)
    third, third_low = product(z, z.like(_TWO_THIRDS[0]))
    third_low = z.times(_TWO_THIRDS[1], z_low.times(_TWO_THIRDS[0], third_low))
    factor, lost = fast_sum(z.like(2.0), third)  # log(m) = s (2 + 2/3 z + ...)
    factor_low = lost + (z * z).times(z.polynomial(_LOG_REST), third_low)
    y, y_low = product(s, factor)
    y_low = s.times(factor_low, s_low.times(factor, y_low))
    high, lost = fast_sum(k * _LN2_SHORT[0], y)
    return fast_sum(high, lost + k.times(_LN2_SHORT[1], y_low))


def _positive_power(x: Lanes, y: Lanes) -> Lanes:
    """Return x**y for normal x > 0 and finite y."""
    log_high, log_low = _log_in_two(x)
    high, low = product(y, log_high)
    low = y.times(log_low, low)
    inside = abs(high) < 750.0
    return scaled(*exp_of_sum(held(high, *_RANGE[64]), inside.pick(low, 0.0)))


@as_written
def power(x: Lanes, y: Lanes) -> Lanes:
    """Return x**y by the rules of C.

    Bases that are zero, negative, subnormal or not finite, and exponents that are not finite, are left to the C library.
    """
    code = x.code
    usual = (x >= _TINY[64]) & (x < math.inf) & (abs(y) < math.inf)
    return rarely(~usual, _positive_power(x, y), lambda: code.library("pow", x, y))
