"""The generated code that `gradfit show` prints: it runs, it says what the kernel says, and it is laid out well."""

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from gradfit.errors import FormulaError
from gradfit.formula import parse
from gradfit.graph import Graph
from gradfit.kernel import NumpyKernel
from gradfit.kernel.source import python_source
from gradfit.library import MODELS
from gradfit.trace import trace_formula

COLUMNS = ("x", "u")


def traced(formula: str, columns: tuple[str, ...] = COLUMNS) -> Graph:
    right = parse(formula).right
    inputs = tuple(name for name in right.names if name in columns)
    return trace_formula(right, inputs, tuple(n for n in right.names if n not in (*columns, "pi", "e")))


def run(source: str):
    space: dict[str, object] = {"np": np}
    exec(compile(source, "<generated>", "exec"), space)  # noqa: S102  that the printed code runs is what is tested
    return space["model"]


def both(graph: Graph, columns, parameters):
    rows = len(columns[0]) if columns else 1
    with np.errstate(all="ignore"):
        value, gradient = run(python_source(graph))(*columns, *parameters)
    kernel = NumpyKernel(graph).value_jacobian(columns, np.array(parameters))
    ours = np.stack([np.broadcast_to(np.asarray(g, float), (rows,)) for g in gradient], axis=1)
    return (np.broadcast_to(np.asarray(value, float), (rows,)), ours), kernel


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda m: m.name)
def test_the_code_of_a_library_model_gives_the_kernel_s_numbers(model):
    graph = traced(model.formula)
    x = np.linspace(*model.span, 23)
    (value, gradient), (expected, jacobian) = both(graph, [x], [model.example[p] for p in graph.parameters])
    assert_allclose(value, expected, rtol=1e-12, atol=1e-12 * np.nanmax(np.abs(expected)))
    assert_allclose(gradient, jacobian, rtol=1e-9, atol=1e-12 * np.nanmax(np.abs(jacobian)))


LONG = "y = " + " + ".join(f"amplitude_{i}*exp(-rate_{i}*x)/(offset_{i} + x**2)" for i in range(12))
AWKWARD = [
    "y = a",
    "y = x + 0*a",
    "y = a*2**x + b*x**-2",
    "y = -a**2*x - (b - x)**3",
    "y = (-a)**2.5 + x**1.5 + (a*x)**b",
    "y = a - (b - (c - x))",
    "y = a/(b/(x/(2*pi)))",
    "y = -(a - x)/-(b*x)",
    "y = 2*a*(3*b)*x + 1e-300*a*x*1e-300",
    "y = where(x > a and not (x > 2 or u < b), a*x, b) + max(x, a) + min(x, u, b)",
    "y = a*erf(x) + b*erfc(x) + lgamma(x + 3) + atan2(x, a) + voigt(x, a, b) + gamma(x + 2)",
    "y = lambda*x + class*x**2 + np + value*special + t1*x*t2",
    "y = {my column}*a + {2nd}*b",
    "y = abs(x)**a + sign(x - b) + floor(x) + step(x - a)",
    LONG,
    "y = " + " + ".join(f"p{i}*x**{i}" for i in range(15)),
]


@pytest.mark.parametrize("formula", AWKWARD)
def test_awkward_formulas_too(formula):
    columns = (*COLUMNS, "my column", "2nd")
    graph = traced(formula, columns)
    grid = np.linspace(0.3, 2.9, 14)
    inputs = [grid + 0.1 * i for i in range(len(graph.variables))]
    start = [0.7 + 0.11 * i for i in range(len(graph.parameters))]
    (value, gradient), (expected, jacobian) = both(graph, inputs, start)
    assert_allclose(value, expected, rtol=1e-12)
    assert_allclose(gradient, jacobian, rtol=1e-11, atol=1e-12)


def test_the_layout_is_ruff_s_and_no_line_is_long(tmp_path):
    formulas = [*(m.formula for m in MODELS.values()), *AWKWARD]
    texts = [python_source(traced(f, (*COLUMNS, "my column", "2nd"))) for f in formulas]
    for i, text in enumerate(texts):
        (tmp_path / f"model_{i}.py").write_text(text, encoding="utf-8")
    seen = subprocess.run(
        [sys.executable, "-m", "ruff", "format", "--isolated", "--line-length", "99", "--diff", str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert seen.returncode == 0, seen.stdout
    assert max(len(line) for text in texts for line in text.splitlines()) < 100


@pytest.mark.parametrize(
    ("formula", "line"),
    [
        ("y = a*exp(-b*x)", "        -a * x * t1,  # d/db"),
        ("y = a*x**2 + b", "    value = b + a * x**2"),
        ("y = a*x**3*x", "    value = a * t1"),
        ("y = a*sin(2*pi*x)", "    t1 = np.sin(2 * np.pi * x)"),
        ("y = -a*x + b", "    value = b - a * x"),
        ("y = lambda*x", "def model(x, lambda_):"),
        ("y = a + {my column}", "def model(my_column, a):"),
        ("y = (x - a)**2", "    value = t1**2"),
    ],
)
def test_it_reads_as_a_person_would_write_it(formula, line):
    assert line in python_source(traced(formula, (*COLUMNS, "my column"))).splitlines()


def formulas(leaves=("a", "b", "c", "x", "u", "2", "0.5", "3")):
    unary = st.sampled_from(
        ["exp({})", "sin({})", "tanh({})", "-({})", "abs({})", "({})**2", "sqrt(abs({}) + 1)"]
    )
    binary = st.sampled_from(
        ["({} + {})", "({} - {})", "({}*{})", "({}/(2 + {}**2))", "where({} > {}, a, x)", "max({}, {})"]
    )
    return st.recursive(
        st.sampled_from(leaves),
        lambda inner: st.one_of(
            st.builds(str.format, unary, inner), st.builds(str.format, binary, inner, inner)
        ),
        max_leaves=14,
    )


@settings(max_examples=120, deadline=None)
@given(formulas())
def test_any_formula_s_code_gives_the_kernel_s_numbers(formula):
    try:
        graph = traced(f"y = {formula} + a")
    except FormulaError:  # too many brackets
        return
    x = np.linspace(-1.7, 2.3, 9)
    values = {"a": 0.83, "b": -1.21, "c": 0.37}
    inputs = [x if name == "x" else x**2 - 0.6 for name in graph.variables]
    (value, gradient), (expected, jacobian) = both(graph, inputs, [values[p] for p in graph.parameters])
    finite = np.isfinite(expected) & (np.abs(expected) < 1e12)
    size = np.max(np.abs(expected), where=finite, initial=1.0)
    assert_allclose(value[finite], expected[finite], rtol=1e-9, atol=1e-9 * size)
    slopes = finite[:, None] & np.isfinite(jacobian) & (np.abs(jacobian) < 1e9)
    assert_allclose(gradient[slopes], jacobian[slopes], rtol=1e-7, atol=1e-7)
