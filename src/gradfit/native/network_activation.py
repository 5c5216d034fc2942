"""The activations of a network as code: each gives the value and the slope at once."""

import math
from collections.abc import Callable, Mapping
from functools import lru_cache

from gradfit._lazy import ir
from gradfit.native.code import Code
from gradfit.native.compiled import Library, lanes, library
from gradfit.native.elementary import FUNCTIONS, sign
from gradfit.native.elementary_exponential import exp, expm1, log1p, tanh
from gradfit.native.values import Lanes

NAME = "activate"
POINTERS, NUMBERS, REALS = ("values", "slopes"), ("features", "stride", "vectors"), ("alpha", "beta")
Both = tuple[Lanes, Lanes]
_ROOT_TWO_OVER_PI = math.sqrt(2 / math.pi)


def logistic(x: Lanes) -> Lanes:
    """Return 1 / (1 + exp(-x))."""
    return 1.0 / (1.0 + exp(-x))


def _identity(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    return x, x.like(1.0)


def _relu(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    below = x <= 0.0  # NaN is not, and stays
    return below.pick(0.0, x), below.pick(0.0, x.like(1.0))


def _leaky_relu(x: Lanes, alpha: Lanes, _beta: Lanes) -> Both:
    above = x > 0.0
    return above.pick(x, x * alpha), above.pick(1.0, alpha)


def _elu(x: Lanes, alpha: Lanes, beta: Lanes) -> Both:
    above = x > 0.0
    return above.pick(x * beta, expm1(x) * (alpha * beta)), above.pick(beta, exp(x) * (alpha * beta))


def _celu(x: Lanes, alpha: Lanes, beta: Lanes) -> Both:
    above = x > 0.0
    return above.pick(x, alpha * expm1(x / alpha)), above.pick(1.0, alpha * beta * exp(x * beta))


def _tanh(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    y = tanh(x)
    return y, 1.0 - y * y


def _sigmoid(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    y = logistic(x)
    return y, (1.0 - y) * y


def _silu(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    y = logistic(x)
    return x * y, y * (1.0 + x * (1.0 - y))


def _softplus_of(x: Lanes) -> Lanes:
    """Return log(1 + exp(x)), which does not overflow."""
    return (x > 0.0).pick(x, 0.0) + log1p(exp(-abs(x)))


def _softplus(x: Lanes, alpha: Lanes, beta: Lanes) -> Both:
    part = x * alpha
    above = part > beta
    return above.pick(x, _softplus_of(part) / alpha), above.pick(1.0, logistic(part))


def _mish(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    y = tanh(_softplus_of(x))
    return x * y, y + x * logistic(x) * (1.0 - y * y)


def _gelu(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    share = 0.5 * (1.0 + FUNCTIONS["erf"](x * math.sqrt(0.5)))
    density = exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
    return x * share, share + (density <= 0.0).pick(0.0, x * density)


def _gelu_tanh(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    square = x * x
    y = tanh(_ROOT_TWO_OVER_PI * (x + 0.044715 * square * x))
    inner = _ROOT_TWO_OVER_PI * (1.0 + 3 * 0.044715 * square)
    rest = (1.0 - y * y) * 0.5
    return 0.5 * x * (1.0 + y), 0.5 * (1.0 + y) + (rest <= 0.0).pick(0.0, x * rest * inner)


def _hardtanh(x: Lanes, alpha: Lanes, beta: Lanes) -> Both:
    low, high = x <= alpha, x >= beta
    return high.pick(beta, low.pick(alpha, x)), (low | high).pick(0.0, x.like(1.0))


def _hardsigmoid(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    low, high = x <= -3.0, x >= 3.0
    return high.pick(1.0, low.pick(0.0, (x + 3.0) / 6.0)), (low | high).pick(0.0, x.like(1 / 6))


def _hardswish(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    low, high = x <= -3.0, x >= 3.0
    return high.pick(x, low.pick(0.0, x * (x + 3.0) / 6.0)), high.pick(1.0, low.pick(0.0, x / 3.0 + 0.5))


def _softsign(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    below = 1.0 + abs(x)
    return x / below, 1.0 / (below * below)


def _tanhshrink(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    y = tanh(x)
    return x - y, y * y


def _logsigmoid(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    return -_softplus_of(-x), logistic(-x)


def _sin(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    return FUNCTIONS["sin"](x), FUNCTIONS["cos"](x)


def _cos(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    return FUNCTIONS["cos"](x), -FUNCTIONS["sin"](x)


def _exp(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    y = exp(x)
    return y, y


def _abs(x: Lanes, _alpha: Lanes, _beta: Lanes) -> Both:
    return abs(x), sign(x)


ACTIVATIONS: Mapping[str, Callable[[Lanes, Lanes, Lanes], Both]] = {
    "identity": _identity, "relu": _relu, "leaky_relu": _leaky_relu, "elu": _elu, "celu": _celu, "tanh": _tanh,
    "sigmoid": _sigmoid, "silu": _silu, "softplus": _softplus, "mish": _mish, "gelu": _gelu, "gelu_tanh": _gelu_tanh,
    "hardtanh": _hardtanh, "hardsigmoid": _hardsigmoid, "hardswish": _hardswish, "softsign": _softsign,
    "tanhshrink": _tanhshrink, "logsigmoid": _logsigmoid, "sin": _sin, "cos": _cos, "exp": _exp, "abs": _abs,
}  # fmt: skip


def write_activation(module: "ir.Module", name: str, *, real: int, lanes: int) -> None:
    """Add `activate(values, slopes, features, stride, vectors, alpha, beta)` to a module.

    It replaces the values of so many registers of rows, of all features, by the activation's, and writes its slopes.
    """
    code = Code(module, NAME, pointers=POINTERS, numbers=NUMBERS, reals=REALS, real=real)
    alpha, beta = code.argument("alpha", lanes), code.argument("beta", lanes)
    with code.exactly(), code.loop(0, code.number("features")) as feature:
        row = code.at.mul(feature, code.number("stride"))
        with code.loop(0, code.number("vectors")) as vector:
            place = code.plus(row, code.product(vector, lanes))
            value, slope = ACTIVATIONS[name](code.load("values", place, lanes=lanes), alpha, beta)
            code.store("values", place, value)
            code.store("slopes", place, slope)
    code.finish()


@lru_cache(maxsize=128)
def activation_code(name: str, real: int) -> Library:
    """Return the machine code of an activation."""
    wide = lanes(real)
    key = f"activation {name} {real} {wide}"
    return library(key, lambda module: write_activation(module, name, real=real, lanes=wide))
