"""Traces: the value and every derivative of a model, as another arithmetic has them."""

import math
import warnings
from functools import partial

import mpmath
import numpy as np
import pytest
import torch
from answers import NIST
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_formulas import expressions
from scipy import special

from gradfit.formula import FUNCTIONS, parse
from gradfit.graph import Graph
from gradfit.kernel import EXECUTORS, AutogradKernel
from gradfit.library import MODELS
from gradfit.trace import UntraceableError, on_tensors, torch_function, trace, trace_formula

# ---------------------------------------------------------------------------- formulas in 40 digits


def _voigt(x, sigma, gamma):
    z = mpmath.mpc(x, abs(gamma)) / (abs(sigma) * mpmath.sqrt(2))
    return mpmath.re(mpmath.exp(-(z**2)) * mpmath.erfc(mpmath.mpc(0, -1) * z)) / (
        abs(sigma) * mpmath.sqrt(2 * mpmath.pi)
    )


PRECISE = {name: getattr(mpmath, name) for name in FUNCTIONS if hasattr(mpmath, name)} | {
    "voigt": _voigt,
    "abs": abs,
    "min": min,
    "max": max,
    "where": lambda c, a, b: a if c else b,
    "step": lambda x: mpmath.mpf(x >= 0),
    "log2": lambda x: mpmath.log(x, 2),
    "lgamma": mpmath.loggamma,
    "pow": lambda a, b: a**b,
    "pi": mpmath.mp.pi,
    "e": mpmath.mp.e,
}


def precise(text: str, at: dict[str, float]) -> tuple[float, dict[str, float]]:
    """The value and the derivatives by every name of a Python expression, in 40 digits."""
    code = compile(text.strip(), "<formula>", "eval")
    with mpmath.workdps(40):
        point = {name: mpmath.mpf(value) for name, value in at.items()}

        def value(**moved):
            return eval(code, {"__builtins__": {}, **PRECISE, **point, **moved})  # noqa: S307  the formulas of this file

        slopes = {
            name: float(mpmath.diff(lambda p, name=name: value(**{name: p}), point[name])) for name in point
        }
        return float(value()), slopes


def traced(text: str, inputs=("x", "u")) -> Graph:
    right = parse(text).right
    used = tuple(n for n in right.names if n in inputs)
    return trace_formula(right, used, tuple(n for n in right.names if n not in (*used, "pi", "e")))


def in_three_ways(graph: Graph, text: str, columns, parameters):
    """(value, Jacobian) by the NumPy kernel, the tensor kernel, and torch's autograd of the formula on whole columns."""
    names = (*graph.variables, *graph.parameters)
    by_autograd = AutogradKernel(torch_function(parse(text).right, names))
    kernels = [executor.compile(graph) for executor in EXECUTORS.values()]
    return [kernel.value_jacobian(columns, np.array(parameters)) for kernel in (*kernels, by_autograd)]


def examples():
    """Every formula of the library and of NIST, with points around which to look."""
    for model in MODELS.values():
        low, high = model.span
        yield model.name, model.formula, {"x": (low, high)}, model.example
    ranges = {
        "Nelson": {"x1": (1, 60), "x2": (180, 275)},
        "Longley": {f"x{i}": (10, 500) for i in range(1, 7)},
    }
    spans = {
        "Roszman1": (-4000, -1000),
        "Bennett5": (7, 13),
        "Thurber": (-3, 2),
        "Filip": (-9, -3),
        "Hahn1": (15, 850),
    }
    for case in NIST:
        if not case.name.startswith(
            ("Gauss", "Lanczos", "Wampler", "Misra1a", "Chwirut1")
        ) or case.name.endswith("1"):
            yield (
                case.name,
                case.formula,
                ranges.get(case.name, {"x": spans.get(case.name, (1, 10))}),
                dict(zip(case.params, case.values, strict=True)),
            )


@pytest.mark.parametrize(
    ("formula", "spans", "values"), [pytest.param(*rest, id=name) for name, *rest in examples()]
)
def test_value_and_derivatives_in_40_digits(formula, spans, values):
    graph = traced(formula, spans)
    random = np.random.default_rng(7)
    right = formula.split("=", 1)[1]
    for _ in range(2):
        x = [float(random.uniform(*spans[name])) for name in graph.variables]
        p = [(values[name] or 1.0) * float(random.uniform(0.8, 1.2)) for name in graph.parameters]
        value, slopes = precise(
            right, dict(zip((*graph.variables, *graph.parameters), [*x, *p], strict=True))
        )
        expected = np.array([slopes[name] for name in graph.parameters])
        # what rounding of a parameter in its 16th digit does to the value, and so to the sums in a derivative
        rounding = 1e-13 * (abs(value) + np.max(np.abs(expected * p))) / np.abs(p)
        for seen, jacobian in in_three_ways(graph, formula, [np.array([v]) for v in x], p):
            assert seen[0] == pytest.approx(value, rel=1e-12, abs=1e-12 * np.max(np.abs(expected * p)))
            assert (np.abs(jacobian[0] - expected) <= 1e-10 * np.abs(expected) + rounding).all()


@settings(max_examples=150)
@given(
    expressions(
        ["a", "b", "c", "x", "u", "2", "0.5", "1.3"],
        functions=["exp", "sin", "atan", "tanh", "erf", "log1p"],
        smooth=True,
    ),
    st.lists(st.floats(0.2, 2.5), min_size=5, max_size=5),
)
def test_random_formulas_in_40_digits(text, numbers):
    graph = traced(text)
    at = dict(zip("abcxu", numbers, strict=True))
    at = {name: at[name] for name in (*graph.variables, *graph.parameters)}
    try:
        value, slopes = precise(text, at)
    except (TypeError, ValueError, ArithmeticError):  # complex, or a pole
        value, slopes = math.nan, {}
    assume(graph.parameters and abs(value) < 1e6 and all(abs(slope) < 1e6 for slope in slopes.values()))
    expected = np.array([slopes[name] for name in graph.parameters])
    columns = [np.array([at[name]]) for name in graph.variables]
    for seen, jacobian in in_three_ways(graph, text, columns, [at[name] for name in graph.parameters]):
        assert seen[0] == pytest.approx(value, rel=1e-9, abs=1e-9)
        assert jacobian[0] == pytest.approx(expected, rel=1e-8, abs=1e-9 * (1 + np.max(np.abs(expected))))


@settings(max_examples=200)
@given(
    expressions(
        ["a", "b", "x", "u", "0", "1", "2.5"],
        functions=["exp", "log", "sqrt", "abs", "floor", "sign", "step"],
    )
)
def test_random_formulas_with_steps_and_poles(text):
    """The two executors agree to rounding, infinities and NaN included, and give the value that NumPy gives."""
    graph = traced(text)
    columns = [np.array([-1.5, -1.0, 0.0, 0.3, 1.0, 2.5])] * len(graph.variables)
    p = np.array([0.7, -1.3][: len(graph.parameters)])
    with np.errstate(all="ignore"):
        expected = parse(text).right.evaluate(
            dict(zip((*graph.variables, *graph.parameters), [*columns, *p], strict=True))
        )
    expected = np.broadcast_to(np.asarray(expected, float), (len(columns[0]) if columns else 1,))
    (value, jacobian), (value_too, jacobian_too) = [
        EXECUTORS[name].compile(graph).value_jacobian(columns, p) for name in ("numpy", "tensor")
    ]
    assert value == pytest.approx(value_too, rel=1e-13, nan_ok=True)
    assert jacobian == pytest.approx(jacobian_too, rel=1e-12, nan_ok=True)
    finite = np.isfinite(expected)
    assert value[finite] == pytest.approx(expected[finite], rel=1e-12, abs=1e-300)


@settings(max_examples=25)
@given(
    expressions(
        ["a", "b", "x", "u", "0", "1", "2.5"],
        functions=["exp", "log", "sqrt", "abs", "floor", "sign", "step"],
    )
)
def test_random_formulas_as_machine_code(text):
    graph = traced(text)
    columns = [np.array([-1.5, -1.0, 0.0, 0.3, 1.0, 2.5, 1e300, np.nan, 0.1])] * len(graph.variables)
    p = np.array([0.7, -1.3][: len(graph.parameters)])
    (value, jacobian), (value_too, jacobian_too) = [
        EXECUTORS[name].compile(graph).value_jacobian(columns, p) for name in ("numpy", "native")
    ]
    assert value_too == pytest.approx(value, rel=1e-13, nan_ok=True)
    assert jacobian_too == pytest.approx(jacobian, rel=1e-12, nan_ok=True)


# ---------------------------------------------------------------------------- functions of arrays

X = np.array(
    [-2.5, -1.7, -0.5, -0.4, 0.0, 0.3, 0.5, 1.0, 1.5, 2.6]
)  # 0 and 1 are where many of these have their corner
SMOOTH = np.array([-1.7, -0.4, 0.35, 0.8, 2.6])
P = (1.3, 0.7)


def _assigned(x, a, b):
    y = np.zeros_like(x)
    y[x < 0] = a * x[x < 0]
    y[x >= 1] = b
    return y


def _in_place(x, a, b):
    y = a * x
    y += b
    y *= x
    y[...] = y - 1
    y[x > 1] += a
    return y


def _terms(x, a, b):
    y = 0
    for k in range(1, 6):
        y = y + a * np.sin(k * b * x) / k
    return y


def _series(x, a, b):
    return sum(a * b**k * x**k / math.factorial(k) for k in range(6))


def _stacked(x, a, b):
    return np.sum([a * np.exp(-k * b * x) for k in (1, 2, 3)], axis=0) + np.array([x, a * x]).sum(axis=0)


def _with_default(x, a, b, scale=2.0):
    return scale * a * np.tanh(b * x)


def _defined_inside(x, a, b):
    def inner(t):
        return np.exp(-((t / b) ** 2))

    return a * inner(x) + inner(x - 1)


STYLES = {
    "arithmetic": lambda x, a, b: -a * x**2 + b / (2 + x) - (x - 3) ** 3 // 1 * 0 + +x,
    "square of a negative": lambda x, a, b: (a * x) ** 2 + np.square(b * x) + np.power(x, 3),
    "integer powers": lambda x, a, b: x**0 + a * x**-2 + b * x**5 + (x + 3) ** 0.5,
    "clip": lambda x, a, b: (
        np.clip(a * x, -0.9, 0.9) + (b * x).clip(0.2, None) + np.clip(x, a_min=None, a_max=b)
    ),
    "where": lambda x, a, b: np.where(x > 0, a * x, b * np.exp(x)),
    "assignment by mask": _assigned,
    "in place": _in_place,
    "piecewise": lambda x, a, b: np.piecewise(x, [x < 0, x > -1], [lambda t: a * t, lambda t: b * t**2]),
    "select": lambda x, a, b: np.select([x < 0, x < 2], [a * x, b * x**2], default=7.0),
    "heaviside": lambda x, a, b: a * np.heaviside(x, 0.5) * x + b,
    "polyval": lambda x, a, b: np.polyval([a, b, 2.0], x),
    "maximum": lambda x, a, b: np.maximum(a * x, b) + np.minimum(x, 0.5) + np.fmax(a, x),
    "sinc": lambda x, a, b: a * np.sinc(b * x),
    "sum over terms": _terms,
    "series": _series,
    "sum of a list": _stacked,
    "default argument": _with_default,
    "inner function": _defined_inside,
    "partial": partial(lambda x, a, b, c: a * np.exp(b * x) + c, c=2.0),
    "sign and abs": lambda x, a, b: a * np.sign(x) * np.abs(x) ** b + np.absolute(x) + abs(x),
    "cube root": lambda x, a, b: np.cbrt(a * x) + b,
    "hypot": lambda x, a, b: np.hypot(a, x) + np.logaddexp(a * x, b),
    "exp2": lambda x, a, b: (
        a * np.exp2(b * x) + np.log2(3 + x) + np.log10(3 + x) + np.log1p(x**2) + np.expm1(b * x)
    ),
    "inverse functions": lambda x, a, b: (
        a * np.arctan(b * x) + np.arctan2(x, b) + np.arcsinh(x) + np.arcsin(x / 3) + np.arccos(x / 3)
    ),
    "hyperbolic": lambda x, a, b: (
        a * np.tanh(x) + b / np.cosh(x) + np.sinh(b * x) + np.arctanh(x / 3) + np.arccosh(3 + x)
    ),
    "logic": lambda x, a, b: (
        np.where((x > 0) & (x < 2) | ~(x > -1), a, b * x) + np.where(np.logical_and(x > 0, a > 0), 1.0, x)
    ),
    "counting": lambda x, a, b: a * ((x > 0) * 1.0 + (x > 1)) + b * (x <= 0),
    "modulo": lambda x, a, b: a * (x % 0.77) + np.mod(x, 0.53) + np.floor(x / 0.7) + b * (x // 0.6),
    "scipy.special": lambda x, a, b: (
        a * special.erf(b * x) + special.erfc(x) + special.expit(a * x) + special.gammaln(3 + b * x)
    ),
    "gamma": lambda x, a, b: (
        special.gamma(a * x + 0.31) + special.voigt_profile(x, a, b) + special.psi(3 + x)
    ),
    "asarray": lambda x, a, b: (
        a * np.exp(np.asarray(x)) + np.sqrt(4 - np.asarray(b * x) ** 2) / np.asarray(3 + x)
    ),
    "constants": lambda x, a, b: np.pi * a * x + np.float32(2) * b + np.array(1.5) * x + np.int64(3),
    "like": lambda x, a, b: (
        np.ones_like(x) * a + np.full_like(x, b) * x + np.zeros_like(x) + np.empty_like(x) * 0
    ),
    "shapes of one row": lambda x, a, b: (
        np.ravel(a * x) + np.squeeze(x).reshape(-1) + x.ravel() * b + np.atleast_1d(x)[:]
    ),
    "astype": lambda x, a, b: (a * x).astype(float) + x.copy() * np.copy(b),
    "rounding to even": lambda x, a, b: a * x + np.round(b) * x + np.rint(x),
    "degrees": lambda x, a, b: a * np.sin(np.deg2rad(30 * x)) + np.radians(b * x) + np.degrees(x),
    "nan_to_num": lambda x, a, b: np.nan_to_num(a * x) + b * np.isfinite(x),
}


@pytest.mark.parametrize("style", STYLES)
def test_numpy_functions_are_traced(style):
    function = STYLES[style]
    graph = trace(on_tensors(function), ["x"], ["a", "b"])
    for x in (X, SMOOTH):
        with np.errstate(all="ignore"):
            expected = function(x.copy(), *map(np.float64, P))
        expected = np.broadcast_to(expected, x.shape)
        for executor in EXECUTORS.values():
            value, _ = executor.compile(graph).value_jacobian([x], np.array(P))
            assert value == pytest.approx(expected, rel=1e-13, abs=1e-14, nan_ok=True)
    _, jacobian = EXECUTORS["numpy"].compile(graph).value_jacobian([SMOOTH], np.array(P))
    assert jacobian == pytest.approx(central(function, SMOOTH, P), rel=1e-8, abs=1e-9)


def central(function, x, p):
    """Derivatives (n, k) by Richardson's extrapolation of central differences."""
    out = []
    for j, step in enumerate(2e-3 * np.abs(p)):

        def at(h, j=j):
            return np.broadcast_to(
                function(x.copy(), *(np.float64(v + h * (i == j)) for i, v in enumerate(p))), x.shape
            )

        def slope(h, at=at):
            return (at(h) - at(-h)) / (2 * h)

        out.append((64 * slope(step / 4) - 20 * slope(step / 2) + slope(step)) / 45)
    return np.stack(out, axis=1)


class Callable:
    def __init__(self, c):
        self.c = c

    def __call__(self, x, a, b):
        return a * np.exp(-b * x) + self.c

    def method(self, x, a, b):
        return a * x**b + self.c


def _torch_in_place(x, a, b):
    y = (a * x).clone()
    y.masked_fill_(x < 0, 0.5)
    y.add_(b)
    y.mul_(2.0)
    y.clamp_(max=4.0)
    return y


F = torch.nn.functional
TORCH = {
    "functions": lambda x, a, b: (
        a * torch.exp(-b * x) + torch.sigmoid(x) + torch.rsqrt(3 + x) + torch.reciprocal(3 + a * x)
    ),
    "where": lambda x, a, b: torch.where(x > 0, a * x, b * torch.ones_like(x)),
    "clamp": lambda x, a, b: torch.clamp(a * x, -0.9, 0.9) + torch.clamp(x, min=b) + torch.clamp(x, max=0.31),
    "in place": _torch_in_place,
    "softplus": lambda x, a, b: F.softplus(a * x) + F.softplus(b * x, beta=2.0, threshold=1.0),
    "activations": lambda x, a, b: (
        F.relu(a * x)
        + F.gelu(b * x)
        + F.silu(x * a)
        + F.elu(b * x)
        + F.leaky_relu(a * x, 0.1)
        + torch.tanh(b * x)
    ),
    "hard activations": lambda x, a, b: (
        F.hardtanh(a * x) + F.logsigmoid(b * x) + F.mish(a * x) + F.softsign(b * x)
    ),
    "fused": lambda x, a, b: (
        torch.addcmul(x, a, x, value=2.0)
        + torch.addcdiv(x, b, 3 + x, value=0.5)
        + torch.lerp(a * x, b * x, 0.3)
    ),
    "alpha": lambda x, a, b: torch.add(x, a * x, alpha=2) - torch.sub(x, b, alpha=3) + torch.rsub(x, a),
    "powers": lambda x, a, b: (
        torch.pow(a * x, 3)
        + torch.pow(2.0, b * x)
        + torch.pow(x + 3, a)
        + torch.square(x)
        + torch.sqrt(x + 3)
    ),
    "extremes": lambda x, a, b: torch.maximum(a * x, b) + torch.minimum(x, b) + torch.fmin(x, a),
    "special": lambda x, a, b: (
        torch.special.expit(a * x)
        + torch.erf(b * x)
        + torch.special.ndtr(x)
        + torch.lgamma(3 + b * x)
        + torch.sinc(x)
    ),
    "shapes": lambda x, a, b: (
        (a * x).view(-1)[:].squeeze() * 1 if x.dim() else (a * x).view(()).squeeze() + 0 * b
    ),
    "dtypes": lambda x, a, b: (a * x).to(torch.float64) + b.double() * (x > 0).double() + (x > 1),
    "masked_fill": lambda x, a, b: (a * x).masked_fill(x < 0, 0.5) + torch.full_like(x, 2.0) * b,
    "constants": lambda x, a, b: (
        a * x * torch.pi + torch.tensor(2.0, dtype=torch.float64) * b + torch.tensor([1.5]).item()
    ),
    "hypot": lambda x, a, b: (
        torch.hypot(a, x) + torch.logaddexp(a * x, b) + torch.atan2(x, b) + torch.xlogy(a, x + 3)
    ),
}


@pytest.mark.parametrize("style", TORCH)
def test_torch_functions_are_traced(style):
    function = TORCH[style]

    def on_arrays(x, *p):
        return function(torch.tensor(x), *(torch.tensor(v, dtype=torch.float64) for v in p)).double().numpy()

    graph = trace(function, ["x"], ["a", "b"])
    for executor in EXECUTORS.values():
        value, jacobian = executor.compile(graph).value_jacobian([SMOOTH], np.array(P))
        assert value == pytest.approx(on_arrays(SMOOTH, *P), rel=1e-12, abs=1e-13)
        assert jacobian == pytest.approx(central(on_arrays, SMOOTH, P), rel=1e-8, abs=1e-9)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, a: a * np.interp(x, [0, 1], [0, 1]), "np.interp has no counterpart in torch"),
        (lambda x, a: a * math.exp(x), "the model calls float() or a math function"),
        (lambda x, a: a * x if a > 0 else x, "the model asks `if` of a value; np.where can be traced"),
        (lambda x, a: a * (x - x.mean()), "np.mean joins rows"),
        (lambda x, a: a * np.cumsum(x), "np.cumsum joins rows"),
        (lambda x, a: a * np.convolve(x, [1, 2]), "np.convolve has no counterpart in torch"),
        (lambda x, a: a * x / len(x), "the model asks for the number of rows"),
        (lambda x, a: a * x[::-1], "the model picks rows by position"),
        (lambda x, a: a * x[0], "the model picks rows by position"),
        (lambda x, a: a * np.sort(x), "np.sort joins rows"),
        (lambda x, a: a * x.max(), "np.max joins rows"),
        (lambda x, a: np.add.reduce(a * x), "np.sum joins rows"),
        (lambda x, a: np.add.accumulate(a * x), "np.add.accumulate joins rows"),
        (lambda x, a: a * np.asarray(x, dtype=float), "the model calls float() or a math function"),
        (lambda x, a: a * x.astype(int), "the model rounds its values to <class 'int'>"),
        (lambda x, a: a * x.reshape(-1, 1), "the model gives its values another shape"),
        (lambda x, a: a * np.array([1.0, 2.0]) * x, "the model makes shape (2,) of single values"),
        (lambda x, a: a * np.log(x, where=x > 0), "np.log with where has no counterpart in torch"),
        (lambda x, a: np.where(a * x > 1), "the model asks np.where for positions"),
        (lambda x, a: a * x.real, "does not run on single values"),
        (lambda x, a: a * x / 0, "does not run on single values: float division by zero"),
        (lambda x, a: {}["a"], "does not run on single values"),
        (lambda x, a: "text", "does not run on single values"),
        (lambda x, a: None, "does not run on single values"),
    ],
)
def test_what_cannot_be_traced_says_why(function, reason):
    if "division" in reason:
        function = lambda x, a: a * x + 1.0 / 0  # noqa: E731
    with pytest.raises(UntraceableError) as caught:
        trace(on_tensors(function), ["x"], ["a"])
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda x, a: a * x if a > 0 else x, "the model looks at a value"),
        (lambda x, a: a.item() * x, "the model looks at a value"),
        (lambda x, a: a * torch.sort(x)[0], "is no operation on single values"),
        (lambda x, a: a * x.unsqueeze(-1), "the model makes shape (1,) of single values"),
        (lambda x, a: a * x * torch.tensor([1.0, 2.0]), "the model makes shape (2,) of single values"),
    ],
)
def test_what_torch_functions_cannot_be_traced(function, reason):
    with pytest.raises(UntraceableError) as caught:
        trace(function, ["x"], ["a"])
    assert reason in str(caught.value)


def _pieces(x, a, b):
    y = a * x
    for k in range(300):
        y = np.where(x > k, y + b, y)
    return y


def _squares(x, a, b):
    y = a * x + b
    for _ in range(40):
        y = y * y
    return y


def _factors(x, a, b):
    y = a + b * x
    for _ in range(3000):
        y = y * x
    return y


@pytest.mark.parametrize(
    ("function", "slopes"),
    [
        (_pieces, [[0.5, 1], [1, 1]]),
        (_squares, [[0, 0], [2.0**40, 2.0**40]]),
        (_factors, [[0, 0], [1, 1]]),
    ],
)
def test_long_loops_stay_small(function, slopes):
    graph = trace(on_tensors(function), ["x"], ["a", "b"])
    assert len(graph.nodes) < 4000
    x = np.array([0.5, 1.0])
    value, jacobian = EXECUTORS["numpy"].compile(graph).value_jacobian([x], np.array([1.0, 0.0]))
    assert value == pytest.approx(function(x, 1.0, 0.0), rel=1e-12, abs=1e-300)
    assert jacobian == pytest.approx(np.array(slopes), rel=1e-12, abs=1e-300)


# ---------------------------------------------------------------------------- traps of derivatives

TRAPS = [
    # formula, x, parameters in order of appearance, the derivatives that calculus gives
    ("where(x > 0, a*log(x), 0)", [-1, 0, 1, 2], [2.0], [[0], [0], [0], [math.log(2)]]),
    ("where(x > 0, log(a*x), 0)", [-1, 0, 2], [2.0], [[0], [0], [0.5]]),
    ("where(x > 0, x**b, 0)", [-1, 0, 2], [0.5], [[0], [0], [math.sqrt(2) * math.log(2)]]),
    ("where(x > 0, sqrt(a*x), c)", [-4, 0, 4], [4.0, 1.0], [[0, 1], [0, 1], [0.5, 0]]),
    ("(x/c)**b", [0, 2], [2.0, 0.5], [[0, 0], [-0.25, 0]]),
    ("(x/c)**b", [0, 2], [2.0, 1.5], [[0, 0], [-0.75, 0]]),
    ("a*(x/c)**0.3", [0, 2], [1.0, 2.0], [[0, 0], [1, -0.15]]),
    ("((x - 1)/c)**b", [1, 3], [2.0, 0.5], [[0, 0], [-0.25, 0]]),
    ("(a*x)**b", [0, 1], [2.0, 0.5], [[0, 0], [0.5 / math.sqrt(2), math.sqrt(2) * math.log(2)]]),
    ("exp(-(x/tau)**beta)", [0, 1], [1.0, 0.5], [[0, 0], [0.5 / math.e, 0]]),
    ("a*(1 - exp(-(x/s)**k))", [0], [2.0, 1.0, 0.7], [[0, 0, 0]]),
    ("v*(x/k)**n/(1 + (x/k)**n)", [0, 1], [2.0, 1.0, 0.5], [[0, 0, 0], [0.5, -0.25, 0]]),
    ("v*x**n/(k**n + x**n)", [0, 1], [2.0, 0.5, 1.0], [[0, 0, 0], [0.5, 0, -0.25]]),
    ("((x/c)**b)**d", [0, 1], [1.0, 0.5, 0.5], [[0, 0, 0], [-0.25, 0, 0]]),
    ("sqrt(a*x)", [0, 4], [1.0], [[0], [1]]),
    ("sqrt(x/a)", [0, 4], [1.0], [[0], [-1]]),
    ("c*sqrt((x - a)**2)", [1, 3], [2.0, 1.0], [[0, 0], [2, -2]]),
    ("abs(x - a)", [1, 2], [1.0], [[0], [-1]]),
    ("0**b + x*b", [1], [1.0], [[1]]),
    ("x**b", [0], [2.0], [[0]]),
    ("max(a*x, b)", [1, 2, 0.5], [1.0, 1.0], [[0.5, 0.5], [2, 0], [0, 1]]),  # a tie is shared
    ("min(a, x)", [0, 1, 2], [1.0], [[0], [0.5], [1]]),
    (
        "erfc(a*x)",
        [5, 20],
        [1.0],
        [[-5 * 2 / math.sqrt(math.pi) * math.exp(-25)], [-20 * 2 / math.sqrt(math.pi) * math.exp(-400)]],
    ),
    ("erf(a*x)", [1e-20], [1.0], [[2e-20 / math.sqrt(math.pi)]]),
    (
        "gamma(a*x)",
        [-1.5, -0.5],
        [1.0],
        [[-1.5 * special.gamma(-1.5) * special.psi(-1.5)], [-0.5 * special.gamma(-0.5) * special.psi(-0.5)]],
    ),
    ("gamma(a*x)", [1, 2, 5], [1.0], [[special.psi(1)], [2 * special.psi(2)], [120 * special.psi(5)]]),
    ("lgamma(a*x)", [-1.5, 3], [1.0], [[-1.5 * special.psi(-1.5)], [3 * special.psi(3)]]),
    ("log1p(a*x)", [1e-20, 1e-9], [1.0], [[1e-20], [1e-9 / (1 + 1e-9)]]),
    ("expm1(a*x)", [1e-20, 1e-9], [1.0], [[1e-20], [1e-9 * math.exp(1e-9)]]),
    ("a*exp(b*x)", [1000, -1000], [1.0, 1.0], [[math.inf, math.inf], [0, 0]]),
    ("a/x", [0, 1], [1.0], [[math.inf], [1]]),
    ("tanh(a*x)", [400, -400], [1.0], [[0], [0]]),
    ("atan2(x, a)", [0, 1], [1.0], [[0], [-0.5]]),
    ("a*(x > b)", [0, 1, 2], [2.0, 1.0], [[0, 0], [0, 0], [1, 0]]),
    ("where(x < 0, a*exp(x), a*exp(-x))", [-800, 800], [1.0], [[0], [0]]),
    ("a*sign(x)*abs(x)**b", [0, -1], [2.0, 0.5], [[0, 0], [-1, 0]]),
    ("where(b == 0, 0, a*x)", [2], [0.0, 1.0], [[0, 0]]),
    ("where(b == 0, 0, a*x)", [2], [1.0, 1.0], [[0, 2]]),
    ("a*x + step(x - b)", [1, 3], [1.0, 2.0], [[1, 0], [3, 0]]),
]


@pytest.mark.parametrize(("text", "x", "p", "expected"), TRAPS, ids=[trap[0] for trap in TRAPS])
def test_derivatives_where_their_text_is_not_a_number(text, x, p, expected):
    graph = traced(text)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for executor in EXECUTORS.values():
            value, jacobian = executor.compile(graph).value_jacobian([np.array(x, float)], np.array(p))
            assert jacobian.tolist() == [pytest.approx(row, rel=1e-13, abs=1e-300) for row in expected]
            assert value.dtype == jacobian.dtype == np.float64


@pytest.mark.parametrize(
    "text", ["a*(x/c)**b", "exp(-(x/c)**b)", "a*(x/c)**b/(1 + (x/c)**b)", "a*((x - 1)/c)**b"]
)
def test_a_power_is_taken_once(text):
    """The derivatives of (x/c)**b are made of it, not of another power nor of a mask for b = 0."""
    graph = traced(text)
    assert [node[0] for node in graph.nodes].count("pow") <= 1 + ("x - 1" in text)
    _, c_slope = graph.scale[graph.parameters.index("c")], graph.core[graph.parameters.index("c")]
    assert graph.nodes[c_slope][0] != "where"


TRUTHS = [
    "a*((x > 1) + (x > 2))",
    "a*(x > 1) - (x > 2)*b",
    "-(x > 1)*a + b",
    "a*abs(x > 1)",
    "exp(a*(x > 1)) + 2**(x > 1)",
    "max(x > 1, x > 2)*a",
    "a*step(x - 1)*exp(b)",
    "where(x > 1, a*1.1, b)",
    "min(a, x > 1)",
]


@pytest.mark.parametrize("text", TRUTHS)
def test_truth_values_are_numbers_in_every_way(text):
    graph = traced(text)
    x, p = np.array([0.5, 1.5, 2.5]), np.array([1.3, 0.7][: len(graph.parameters)])
    expected = parse(text).right.evaluate({"x": x, "a": 1.3, "b": 0.7})
    for value, jacobian in in_three_ways(graph, text, [x], p):
        assert value == pytest.approx(expected)
        assert jacobian == pytest.approx(
            central(
                lambda x, *p: parse(text).right.evaluate(
                    dict(zip(graph.parameters, p, strict=True)) | {"x": x}
                ),
                x,
                p,
            ),
            abs=1e-9,
        )


def test_a_value_that_is_not_a_number_stays_so():
    """What tames derivatives leaves the value alone: x*(a*x)**-0.5 is 0*inf at 0 for everyone."""
    value, _ = EXECUTORS["numpy"].compile(traced("x*(a*x)**(-0.5)")).value_jacobian([np.zeros(1)], np.ones(1))
    assert np.isnan(value[0])


def test_extreme_units():
    """(x/tau)/tau neither overflows nor vanishes where 1/tau**2 does."""
    graph = traced("a*exp(-x/tau)")
    for unit in (1e-200, 1e200):
        _, jacobian = (
            EXECUTORS["numpy"].compile(graph).value_jacobian([np.array([unit])], np.array([2.0, unit]))
        )
        assert jacobian[0] == pytest.approx([math.exp(-1), 2 * math.exp(-1) / unit], rel=1e-14)
