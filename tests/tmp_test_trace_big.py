"""Traces: the value and every derivative of a model, as another arithmetic has them."""

import math
import warnings
from functools import partial

import mpmath
import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import special

from answers import NIST
from gradfit.formula import FUNCTIONS, parse
from gradfit.graph import Graph
from gradfit.kernel import EXECUTORS, AutogradKernel
from gradfit.library import MODELS
from gradfit.trace import UntraceableError, on_tensors, torch_function, trace, trace_formula
from random_formulas import expressions

# ---------------------------------------------------------------------------- formulas in 40 digits


def _voigt(x, sigma, gamma):
    z = mpmath.mpc(x, abs(gamma)) / (abs(sigma) * mpmath.sqrt(2))
    return mpmath.re(mpmath.exp(-(z**2)) * mpmath.erfc(mpmath.mpc(0, -1) * z)) / (abs(sigma) * mpmath.sqrt(2 * mpmath.pi))


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

        slopes = {name: float(mpmath.diff(lambda p, name=name: value(**{name: p}), point[name])) for name in point}
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
    ranges = {"Nelson": {"x1": (1, 60), "x2": (180, 275)}, "Longley": {f"x{i}": (10, 500) for i in range(1, 7)}}
    spans = {"Roszman1": (-4000, -1000), "Bennett5": (7, 13), "Thurber": (-3, 2), "Filip": (-9, -3), "Hahn1": (15, 850)}
    for case in NIST:
        if not case.name.startswith(("Gauss", "Lanczos", "Wampler", "Misra1a", "Chwirut1")) or case.name.endswith("1"):
            yield case.name, case.formula, ranges.get(case.name, {"x": spans.get(case.name, (1, 10))}), dict(
                zip(case.params, case.values, strict=True)
            )


@pytest.mark.parametrize(("formula", "spans", "values"), [pytest.param(*rest, id=name) for name, *rest in examples()])
def test_value_and_derivatives_in_40_digits(formula, spans, values):
    graph = traced(formula, spans)
    random = np.random.default_rng(7)
    right = formula.split("=", 1)[1]
    for _ in range(2):
        x = [float(random.uniform(*spans[name])) for name in graph.variables]
        p = [(values[name] or 1.0) * float(random.uniform(0.8, 1.2)) for name in graph.parameters]
        value, slopes = precise(right, dict(zip((*graph.variables, *graph.parameters), [*x, *p], strict=True)))
        expected = np.array([slopes[name] for name in graph.parameters])
        # what rounding of a parameter in its 16th digit does to the value, and so to the sums in a derivative
        rounding = 1e-13 * (abs(value) + np.max(np.abs(expected * p))) / np.abs(p)
        for seen, jacobian in in_three_ways(graph, formula, [np.array([v]) for v in x], p):
            assert seen[0] == pytest.approx(value, rel=1e-12, abs=1e-12 * np.max(np.abs(expected * p)))
            assert (np.abs(jacobian[0] - expected) <= 1e-10 * np.abs(expected) + rounding).all()


@settings(derandomize=False, database=None, max_examples=4000)
@given(
    expressions(["a", "b", "c", "x", "u", "2", "0.5", "1.3"], functions=["exp", "sin", "atan", "tanh", "erf", "log1p"], smooth=True),
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


@settings(derandomize=False, database=None, max_examples=6000)
@given(expressions(["a", "b", "x", "u", "0", "1", "2.5"], functions=["exp", "log", "sqrt", "abs", "floor", "sign", "step"]))
def test_random_formulas_with_steps_and_poles(text):
    """The two executors agree to rounding, infinities and NaN included, and give the value that NumPy gives."""
    graph = traced(text)
    columns = [np.array([-1.5, -1.0, 0.0, 0.3, 1.0, 2.5])] * len(graph.variables)
    p = np.array([0.7, -1.3][: len(graph.parameters)])
    with np.errstate(all="ignore"):
        expected = parse(text).right.evaluate(dict(zip((*graph.variables, *graph.parameters), [*columns, *p], strict=True)))
    expected = np.broadcast_to(np.asarray(expected, float), (len(columns[0]) if columns else 1,))
    (value, jacobian), (value_too, jacobian_too) = [
        executor.compile(graph).value_jacobian(columns, p) for executor in EXECUTORS.values()
    ]
    assert value == pytest.approx(value_too, rel=1e-13, nan_ok=True)
    assert jacobian == pytest.approx(jacobian_too, rel=1e-12, nan_ok=True)
    finite = np.isfinite(expected)
    assert value[finite] == pytest.approx(expected[finite], rel=1e-12, abs=1e-300)
