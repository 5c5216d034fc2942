"""Elementary functions as code: lanes in, lanes out, by the names of the graph's operations."""

import math
from collections.abc import Callable, Mapping
from functools import wraps

from gradfit.native.elementary_error import erf, erfc, faddeeva_imaginary, faddeeva_real
from gradfit.native.elementary_exponential import (
    as_written,
    cosh,
    exp,
    expm1,
    log,
    log1p,
    power,
    sinh,
    tanh,
)
from gradfit.native.elementary_trigonometric import atan, cos, sin, tan
from gradfit.native.values import Lanes

_DIGAMMA = (
    1 / 12,
    -1 / 120,
    1 / 252,
    -1 / 240,
    1 / 132,
    -691 / 32760,
    1 / 12,
)  # Bernoulli's numbers B(2k) / (2 k)


def _lanewise(name: str) -> Callable[..., Lanes]:
    """Return a function of the C library, called for each lane."""

    def called(*values: Lanes) -> Lanes:
        return values[0].code.library(name, *values)

    return called


def through_double(function: Callable[..., Lanes]) -> Callable[..., Lanes]:
    """Return the function, computed in 64 bits also where the lanes have 32."""

    @wraps(function)
    def wide(*values: Lanes) -> Lanes:
        code = values[0].code
        if code.real == 64:
            return function(*values)
        widened = [code.widened(value) for value in values]
        with code.in_double():
            out = function(*widened)
        return code.narrowed(out)

    return wide


def floor(x: Lanes) -> Lanes:
    """Return the largest integer not above x."""
    return x.code.intrinsic("floor", x)


def sqrt(x: Lanes) -> Lanes:
    """Return the square root."""
    return x.code.intrinsic("sqrt", x)


def sign(x: Lanes) -> Lanes:
    """Return -1, 0 or 1; NaN for NaN."""
    return (x > 0.0).pick(1.0, (x < 0.0).pick(-1.0, x + 0.0))


def absolute(x: Lanes) -> Lanes:
    """Return the absolute value."""
    return abs(x)


def negative(x: Lanes) -> Lanes:
    """Return -x."""
    return -x


def add(x: Lanes, y: Lanes) -> Lanes:
    """Return x + y."""
    return x + y


def subtract(x: Lanes, y: Lanes) -> Lanes:
    """Return x - y."""
    return x - y


def multiply(x: Lanes, y: Lanes) -> Lanes:
    """Return x * y."""
    return x * y


def divide(x: Lanes, y: Lanes) -> Lanes:
    """Return x / y."""
    return x / y


@as_written
def digamma(x: Lanes) -> Lanes:
    """Return the logarithmic derivative of the gamma function, to 2e-15 of the larger of itself and 1.

    References
    ----------
    .. [1] Bernardo, Applied Statistics 25, 315 (1976), algorithm AS 103, here with seven terms from 10 on.
    """
    low = x < 0.5
    at = low.pick(1.0 - x, x)
    steps = x.like(0.0)
    for _ in range(10):
        small = at < 10.0
        steps = small.pick(steps + 1.0 / at, steps)
        at = small.pick(at + 1.0, at)
    square = 1.0 / (at * at)
    y = (log(at) - (0.5 / at + square * square.polynomial(_DIGAMMA))) - steps
    past = x.same(0.0).pick(x, x - x.code.intrinsic("rint", x))
    pole = past.same(0.0) & (x < 0.0)
    reflected = y - math.pi / tan(math.pi * past)
    return pole.pick(math.nan, low.pick(reflected, y))


FUNCTIONS: Mapping[str, Callable[..., Lanes]] = {
    "neg": negative,
    "abs": absolute,
    "floor": floor,
    "sign": sign,
    "sqrt": sqrt,
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
    "exp": exp,
    "log": log,
    "sin": sin,
    "cos": cos,
    "tanh": tanh,
    "erf": erf,
    "erfc": through_double(erfc),
    "atan": through_double(atan),
    "wofz_real": through_double(faddeeva_real),
    "wofz_imag": through_double(faddeeva_imaginary),
    "tan": through_double(tan),
    "expm1": through_double(expm1),
    "log1p": through_double(log1p),
    "sinh": through_double(sinh),
    "cosh": through_double(cosh),
    "pow": through_double(power),
    "digamma": through_double(digamma),
    **{name: _lanewise(name) for name in ["asin", "acos", "asinh", "acosh", "atanh", "atan2", "lgamma"]},
}
