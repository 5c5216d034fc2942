"""The error function, its complement and the Faddeeva function as code.

References
----------
.. [1] Shepherd & Laframboise, Math. Comp. 36, 249 (1981): exp(x²) erfc(x) as one polynomial in (x - K) / (x + K).
.. [2] Al Azah & Chandler-Wilde, SIAM J. Numer. Anal. 59, 2346 (2021): the Faddeeva function by sums with 12 terms.
"""

import math

from gradfit.native.elementary_exponential import (
    EXP,
    as_written,
    exp_of_sum,
    fast_sum,
    held,
    power_of_two,
    product,
    rarely,
    reduced,
    scaled,
)
from gradfit.native.elementary_trigonometric import cos, sin, turned
from gradfit.native.values import Bits, Lanes, Truth

_ERF_BREAK = {64: 1.1, 32: 1.0}
_ERF_END = {64: 6.0, 32: 4.0}  # from here on erf rounds to 1
_ERF = {  # erf(x) / x - 1 by x**2, up to the break: 4e-17, 5e-8
    64: (
        0.1283791670955126,
        -0.37612638903183715,
        0.11283791670953285,
        -0.026866170644795784,
        0.005223977622262578,
        -0.0008548326843873744,
        0.00012055326461159942,
        -1.4925491339500045e-05,
        1.6459450873633087e-06,
        -1.633504394739639e-07,
        1.4564294199234807e-08,
        -1.1029508626786603e-09,
        5.416383222039298e-11,
    ),
    32: (
        0.12837912142276764,
        -0.37612342834472656,
        0.11280316859483719,
        -0.026715055108070374,
        0.004921761807054281,
        -0.0005648059886880219,
    ),
}
_LOG_ERFC = {  # log(erfc(x)), from the break to the end; times erfc(x): 2e-17, 7e-9
    64: (
        -2.837805540523868e-06,
        -1.1283534780714928,
        -0.6367281570520218,
        -0.102489601575969,
        0.018616550756262725,
        0.0008889898679687323,
        -0.0023805339973998803,
        0.0011201660517591245,
        -0.00034121423089937715,
        7.55958907015153e-05,
        -1.2307675848869708e-05,
        1.4190737886568845e-06,
        -1.0481024135516656e-07,
        3.582374171985918e-09,
        7.058743206990199e-11,
        -7.722870894113059e-12,
    ),
    32: (
        -0.0003419623535592109,
        -1.1270889043807983,
        -0.638142466545105,
        -0.10311145335435867,
        0.021841706708073616,
        -0.002948945853859186,
        0.00018655171152204275,
    ),
}
_ERFC_BREAK = 0.47  # where erfc is still above 1/2
_ERFCX = (  # (1 + 2 x) exp(x**2) erfc(x) by (x - 4) / (x + 4), x from 0.47 to 28: 5e-17
    1.2329951186255526,
    -0.13962111684056255,
    0.015379652102619054,
    0.06809705425469646,
    -0.1010390660362556,
    0.09373283499822524,
    -0.06633036581356029,
    0.03716751553926035,
    -0.016197734038858748,
    0.005031969965481436,
    -0.0007577734444080535,
    -0.00019925665585746478,
    0.00015062247656960978,
    -2.4399188984558296e-05,
    -1.1224682694232668e-05,
    5.709104357058374e-06,
    2.9947843168558916e-07,
    -8.231962118286231e-07,
    6.709470483298725e-08,
    1.0617182476565656e-07,
    -1.2250253744777752e-08,
    -1.0639425376199402e-08,
)
_ERFCX_LOW = -4.392574645972637e-17  # what the first of them leaves


@as_written
def erf(x: Lanes) -> Lanes:
    """Return the error function."""
    real = x.code.real
    a = abs(x)
    near = a.times((a * a).polynomial(_ERF[real]), a)
    held_a = (a > _ERF_END[real]).pick(_ERF_END[real], a)
    y, n = exp_of_sum(held_a.polynomial(_LOG_ERFC[real]))
    far = y.times(-power_of_two(y, n), 1.0)
    return x.code.intrinsic("copysign", (a < _ERF_BREAK[real]).pick(near, far), x)


def _exp_in_two(x: Lanes, low: Lanes) -> tuple[Lanes, Lanes, Bits]:
    """Return y, the part it has no room for, and the bits of n: y * 2**n = exp(x + low), |low| tiny."""
    r, lost, n = reduced(x)
    r, lost = fast_sum(r, lost + low)
    high, rest = fast_sum(x.like(1.0), r)
    high, rest = fast_sum(high, rest + (r * r).times(r.polynomial(EXP[64]), lost))
    return high, rest, n


def _scaled_erfcx(a: Lanes) -> tuple[Lanes, Lanes]:
    """Return (1 + 2 a) exp(a²) erfc(a) in two parts, a from 0.47 to 28."""
    below = a + 4.0
    inverse = 1.0 / below
    part = 8.0 * inverse
    lost = (part.times(-below, 8.0) - part * (a - (below - 4.0))) * inverse
    t = (1.0 - part) - lost
    high, low = fast_sum(a.like(_ERFCX[0]), t * t.polynomial(_ERFCX[1:]))
    return high, low + _ERFCX_LOW


def _erfc_far(a: Lanes) -> Lanes:
    """Return erfc(a), a from 0.47 to 28, all factors in two parts."""
    square, square_low = product(a, a)
    y, y_low, n = _exp_in_two(-square, -square_low)
    scale, scale_low = _scaled_erfcx(a)
    top, top_low = product(y, scale)
    top_low = top_low + y.times(scale_low, y_low * scale)
    bottom = a.times(2.0, 1.0)
    bottom_low = (1.0 - bottom) + (a + a)
    inverse = 1.0 / bottom
    rough = top * inverse
    lost = rough.times(-bottom, top) + rough.times(-bottom_low, top_low)
    return scaled(lost.times(inverse, rough), n)


@as_written
def erfc(x: Lanes) -> Lanes:
    """Return 1 - erf(x), exact for large x."""
    a = abs(x)
    near = 1.0 - x.times((x * x).polynomial(_ERF[64]), x)
    far = _erfc_far((a > 28.0).pick(28.0, a))
    return (a < _ERFC_BREAK).pick(near, (x < 0.0).pick(2.0 - far, far))


# ---------------------------------------------------------------------------- Faddeeva

_STEP = math.sqrt(math.pi / 12)  # of the sums
_TERMS = 12
_WIDE = 1e15  # from here on, w(z) = i / (sqrt(pi) z)


def _sums(x: Lanes, y: Lanes, whole: Truth) -> tuple[Lanes, Lanes]:
    """Return the real and imaginary part of (2 i h z / pi) sum exp(-t²) / (z² - t²), x and y >= 0.

    t is at 0 (with half its weight), h, 2 h, … where `whole`, at h / 2, 3 h / 2, … elsewhere.
    """
    across, up = x.like(0.0), x.like(0.0)
    size = x.times(x, y * y)
    for k in range(_TERMS):
        on, between = k * _STEP, (k + 0.5) * _STEP
        t = whole.pick(on, between)
        weight = whole.pick(math.exp(-(on**2)) * (1.0 if k else 0.5), math.exp(-(between**2)))
        minus, plus = x - t, x + t
        below = minus.times(minus, y * y) * plus.times(plus, y * y)
        share = weight / below
        across = share.times(t.times(t, size), across)
        up = share.times(minus.times(plus, y * y), up)
    factor = 2 * _STEP / math.pi
    return factor * y * across, factor * x * up


def _residue(x: Lanes, y: Lanes, whole: Truth) -> tuple[Lanes, Lanes]:
    """Return what the sums miss, 2 exp(-z²) E / (E ± 1), E = exp(2 pi i z / h)."""
    square, square_low = product(x, x)
    rise, rise_low = product(y, y)
    power, lost = fast_sum(-square, rise)
    y_exp, n = exp_of_sum(held(power, -800.0, 40.0), (lost - square_low) + rise_low)
    size = 2.0 * scaled(y_exp, n)
    y_exp, n = exp_of_sum(held(y * (-2 * math.pi / _STEP), -800.0, 0.0))
    shrink = scaled(y_exp, n)
    angle = x * (2 * math.pi / _STEP)
    real, imag = shrink * turned(angle, 1), shrink * turned(angle, 0)
    below = whole.pick(real - 1.0, real + 1.0)
    norm = below.times(below, imag * imag)
    part, turn = (real.times(below, imag * imag)) / norm, (imag * (below - real)) / norm
    phase = -2.0 * x * y
    c, s = turned(phase, 1), turned(phase, 0)
    return size * (part * c - turn * s), size * (part * s + turn * c)


def _upper(x: Lanes, y: Lanes) -> tuple[Lanes, Lanes]:
    """Return the real and imaginary part of w(x + iy), x and y >= 0."""
    huge = (x > _WIDE) | (y > _WIDE)
    endless = x.same(math.inf) | y.same(math.inf)
    largest = (x > y).pick(x, y)
    across, up = x / largest, y / largest
    norm = math.sqrt(math.pi) * across.times(across, up * up)
    wide = up / norm / largest, across / norm / largest
    x, y = huge.pick(1.0, x), huge.pick(1.0, y)
    place = x * (1 / _STEP)
    place = place - x.code.intrinsic("floor", place)
    whole = (y < x) & (place >= 0.25) & (place <= 0.75)
    high = y >= (x > math.pi / _STEP).pick(x, math.pi / _STEP)
    near = (x > 30.0).pick(30.0, x)
    low = (y > 30.0).pick(30.0, y)
    parts = zip(_sums(x, y, whole), _residue(near, low, whole), wide, strict=True)
    real, imag = (endless.pick(0.0, huge.pick(w, high.pick(a, a + b))) for a, b, w in parts)
    return real, imag


def _faddeeva(x: Lanes, y: Lanes, part: int) -> Lanes:
    a, b = abs(x), abs(y)
    value = _upper(a, b)[part]
    below = y < 0.0

    def mirrored() -> Lanes:
        """By w(-z) = 2 exp(-z²) - w(z)."""
        square, square_low = product(a, a)
        rise, rise_low = product(b, b)
        high = (a > b).pick(-square, rise)
        power, lost = fast_sum(high, (a > b).pick(rise, -square))
        y_exp, n = exp_of_sum(held(power, -800.0, 710.0), (lost - square_low) + rise_low)
        size = 2.0 * scaled(y_exp, n)
        angle = (2.0 * a) * b
        return size * cos(angle) - value if part == 0 else size * sin(angle) + value

    out = rarely(below, value, mirrored)
    return out if part == 0 else (x < 0.0).pick(-out, out)


@as_written
def faddeeva_real(x: Lanes, y: Lanes) -> Lanes:
    """Return the real part of w(x + iy) = exp(-z²) erfc(-iz)."""
    return _faddeeva(x, y, 0)


@as_written
def faddeeva_imaginary(x: Lanes, y: Lanes) -> Lanes:
    """Return the imaginary part of w(x + iy)."""
    return _faddeeva(x, y, 1)
