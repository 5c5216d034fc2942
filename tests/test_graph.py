"""The graph as a value: written and read again, refused when damaged, and right about what is linear."""

import copy
import json
import math

import numpy as np
import pytest
from answers import NIST
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from random_formulas import expressions

from gradfit.formula import parse
from gradfit.graph import OPERATIONS, Graph
from gradfit.kernel import NumpyKernel
from gradfit.library import MODELS
from gradfit.trace import trace_formula

FUNCTIONS = ["exp", "log", "sqrt", "abs", "floor", "sign", "step", "gamma"]
TEXTS = expressions(["a", "b", "c", "x", "u", "2", "0.5", "0"], functions=FUNCTIONS)


def traced(text: str, inputs=("x", "u")) -> Graph:
    right = parse(text).right
    used = tuple(n for n in right.names if n in inputs)
    return trace_formula(right, used, tuple(n for n in right.names if n not in (*used, "pi", "e")))


# ---------------------------------------------------------------------------- written and read


@settings(max_examples=100)
@given(TEXTS)
def test_a_graph_survives_json(text):
    graph = traced(text)
    assert Graph.from_dict(json.loads(json.dumps(graph.to_dict()))) == graph


def test_infinities_survive_json():
    graph = Graph(
        (("const", math.inf), ("const", -math.inf), ("const", True), ("par", 0)), 3, (0,), (1,), (), ("a",)
    )
    plain = json.loads(json.dumps(graph.to_dict(), allow_nan=False))
    assert Graph.from_dict(plain) == graph
    plain["nodes"][0][1] = "nan"
    assert math.isnan(Graph.from_dict(plain).nodes[0][1])


WHOLE = traced("where(x > b and x < 3, a*exp(-x*b), c)").to_dict()


def damaged(path, value):
    plain = copy.deepcopy(WHOLE)
    inside = plain
    for key in path[:-1]:
        inside = inside[key]
    if value is KeyError:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    return plain


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (["nodes"], KeyError, "nodes of the graph is missing"),
        (["scale"], KeyError, "scale of the graph is missing"),
        (["nodes"], {}, "{} is not a list"),
        (["nodes", 0], [], "node 0 of the graph is damaged: []"),
        (["nodes", 0], "var", "'var' is not a list"),
        (["nodes", 0], ["var"], "node 0 of the graph is damaged"),
        (["nodes", 0], ["var", 9], "9 is not the number of a node that can stand here"),
        (["nodes", 0], ["var", -1], "-1 is not the number"),
        (["nodes", 0], ["var", True], "True is not the number"),
        (["nodes", 0], ["par", 0.0], "0.0 is not the number"),
        (["nodes", 0], ["const", None], "None is not a number"),
        (["nodes", 0], ["const", "12"], "'12' is not a number"),
        (["nodes", 0], ["const", [1]], "[1] is not a number"),
        (["nodes", 0], ["const", 10**400], "too large for a number of 64 bits"),
        (["nodes", 0], ["const", 1.0, 2.0], "node 0 of the graph is damaged"),
        (["nodes", 2], ["exp", 5], "5 is not the number"),
        (["nodes", 2], ["exp", 2], "2 is not the number"),
        (["nodes", 2], ["exp", 0, 1], "node 2 of the graph is damaged"),
        (["nodes", 2], ["add", 0], "node 2 of the graph is damaged"),
        (["nodes", 2], ["__import__", 0], "node 2 of the graph is damaged"),
        (["nodes", 2], [["exp"], 0], "node 2 of the graph is damaged"),
        (["nodes", 2], ["where", 0, 0, 0], "takes a number for a truth value, or one for a number"),
        (["nodes", 2], ["not", 0], "takes a number for a truth value"),
        (["value"], 10_000, "10000 is not the number"),
        (["value"], "0", "'0' is not the number"),
        (["core"], [0], "3 parameters have 3 and 1 derivatives"),
        (["core", 0], None, "None is not the number"),
        (["parameters"], ["a", "b", "c", "d"], "4 parameters have 3 and 3 derivatives"),
        (["parameters", 0], 5, "parameters of the graph are not all names"),
        (["variables"], "x", "'x' is not a list"),
        (["variables"], [], "0 is not the number"),
    ],
)
def test_damage_is_told(path, value, words):
    with pytest.raises(ValueError, match=r".+") as caught:
        Graph.from_dict(damaged(path, value))
    assert words in str(caught.value)


def test_a_truth_value_is_no_model():
    place = next(i for i, node in enumerate(WHOLE["nodes"]) if node[0] == "and")
    with pytest.raises(ValueError, match=f"{place} is not the number of a node that can stand here"):
        Graph.from_dict(damaged(["value"], place))


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 50)
    | st.floats()
    | st.sampled_from([*sorted(OPERATIONS), "var", "const"]),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=400)
@given(st.sampled_from(sorted(WHOLE)), st.integers(0, 40), JSON)
def test_any_damage_is_a_value_error_or_runs(key, place, value):
    plain = copy.deepcopy(WHOLE)
    if isinstance(plain[key], list) and plain[key]:
        plain[key][place % len(plain[key])] = value
    else:
        plain[key] = value
    try:
        graph = Graph.from_dict(plain)
    except ValueError:
        return
    value, jacobian = NumpyKernel(graph).value_jacobian([np.array([0.5, 2.0])], np.array([0.3, 0.7, 1.0]))
    assert value.shape == (2,)
    assert jacobian.shape == (2, 3)


# ---------------------------------------------------------------------------- what is linear


@pytest.mark.parametrize(
    ("text", "linear"),
    [
        ("a*x + b", "ab"),
        ("a*exp(-b*x) + c", "ac"),
        ("a*b*x", "a"),
        ("a*(b + c*x)", "bc"),
        ("(a + b*x)/(1 + c*x)", "ab"),
        ("exp(a*x)", ""),
        ("a*x**2 + b*x + c", "abc"),
        ("a/b + c", "ac"),
        ("where(x > 0, a*x, b)", "ab"),
        ("where(x > b, a*x, c)", "ac"),
        ("max(a*x, b)", ""),
        ("abs(a)*x + b", "b"),
        ("a*x + step(a)*x + b", "b"),  # the derivative by a is x, and yet it jumps at 0
        ("a*x + floor(a)", ""),
        ("a*x + sign(a - x)", ""),
        ("a*x + (a > 1)", ""),
        ("a*floor(x) + b*sign(x)", "ab"),
        ("a*x + 0*b", "a"),
        ("a*x + b - b", "a"),
        ("a*x - a*x + b*x", "b"),
        ("log(a)*x + b", "b"),
        ("sqrt(a**2)*x", ""),
    ],
)
def test_linear_parameters(text, linear):
    graph = traced(text)
    assert {graph.parameters[j] for j in graph.linear} == set(linear)


def bends(graph: Graph, which, random) -> float:
    """The largest second difference along random lines in these parameters, over the size of the value."""
    columns = [random.uniform(0.3, 3, 8) for _ in graph.variables] or [np.zeros(8)]
    kernel, worst = NumpyKernel(graph), 0.0
    for _ in range(12):
        p = random.uniform(0.3, 2, len(graph.parameters))
        along = np.zeros(len(p))
        along[list(which)] = random.uniform(-0.25, 0.25, len(which))
        values = [kernel.value(columns, p + k * along) for k in range(3)]
        size = np.max(np.abs(values), axis=0)
        with np.errstate(invalid="ignore"):
            second = np.abs(values[0] - 2 * values[1] + values[2])
        good = np.isfinite(values).all(axis=0) & (size > 1e-290) & (size < 1e290)
        worst = max(worst, float(np.max(np.where(good, second, 0) / np.where(good, size, 1), initial=0.0)))
    return worst


@settings(max_examples=200)
@given(TEXTS)
def test_linear_parameters_have_no_second_derivative(text):
    graph = traced(text)
    assume(graph.linear)
    assert bends(graph, graph.linear, np.random.default_rng(3)) < 1e-12


@pytest.mark.parametrize(
    "formula",
    [pytest.param(m.formula, id=m.name) for m in MODELS.values()]
    + [pytest.param(c.formula, id=c.name) for c in NIST if c.name not in ("Nelson", "Longley")],
)
def test_no_further_parameter_is_linear(formula):
    graph = traced(formula, ("x",))
    random = np.random.default_rng(5)
    assert bends(graph, graph.linear, random) < 1e-11
    for j in set(range(len(graph.parameters))) - set(graph.linear):
        assert bends(graph, (*graph.linear, j), random) > 1e-9


def test_what_depends_on_what():
    graph = traced("a*exp(b*x) + 0*c + sqrt(b)")
    assert graph.unused() == ("c",)
    assert graph.depends()[graph.value] == {0, 1}
    invariant = graph.invariant()
    kinds = {node[0]: invariant[i] for i, node in enumerate(graph.nodes)}
    assert kinds["sqrt"] is True
    assert kinds["exp"] is False


@settings(max_examples=100)
@given(TEXTS)
def test_scales_depend_on_no_row(text):
    graph = traced(text)
    invariant = graph.invariant()
    assert all(invariant[i] for i in graph.scale)
    assert len({repr(node) for node in graph.nodes}) == len(graph.nodes)  # nothing is computed twice
