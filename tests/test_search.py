"""The search for start values: the units of parameters, the draws, rivals of the minimum, and what cannot be compiled."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradfit
from gradfit.formula import parse
from gradfit.solve.dimensions import angles, exponents
from gradfit.solve.start import Scales, different, draws, plainest
from gradfit.trace import trace_formula

OPEN = np.array([-np.inf]), np.array([np.inf])


def traced(formula, inputs, names):
    return trace_formula(parse(formula).right, inputs, names)


# ---------------------------------------------------------------------------- units


@pytest.mark.parametrize(
    ("formula", "units"),
    [
        ("y = a*exp(-k*x) + c", {"a": (0, 1), "k": (-1, 0), "c": (0, 1)}),
        ("y = a*exp(-((x - m)/w)**2)", {"a": (0, 1), "m": (1, 0), "w": (1, 0)}),
        ("y = a*x**n/(k**n + x**n)", {"a": (0, 1), "n": (0, 0), "k": (1, 0)}),
        ("y = (a + b*x)/(1 + c*x + d*x**2)", {"a": (0, 1), "b": (-1, 1), "c": (-1, 0), "d": (-2, 0)}),
        ("y = sqrt(a + b*x)", {"a": (0, 2), "b": (-1, 2)}),
        ("y = a*sin(w*x + p)", {"a": (0, 1), "w": (-1, 0), "p": (0, 0)}),
        ("y = a*x**b", {"a": None, "b": (0, 0)}),  # its unit depends on b
        ("y = a*exp(-((x - 3)/w)**2)", {"a": (0, 1), "w": (1, 0)}),  # 3 has the unit of x
        ("y = a*b*x", {"a": None, "b": None}),
        ("y = exp(x) + a*x", {"a": None}),  # x has no unit, or the formula makes no sense
        ("y = where(x < m, a, b*x)", {"m": (1, 0), "a": (0, 1), "b": (-1, 1)}),
    ],
)
def test_units_follow_from_the_formula(formula, units):
    found = exponents(traced(formula, ("x",), tuple(units)))
    for row, expected in zip(found, units.values(), strict=True):
        if expected is None:
            assert np.isnan(row).all()
        else:
            assert row.tolist() == list(expected)


def test_each_input_has_its_own_unit():
    graph = traced("z = a*exp(-k*x)*sin(w*t + p)", ("x", "t"), ("a", "k", "w", "p"))
    assert exponents(graph).tolist() == [[0, 0, 1], [-1, 0, 0], [0, -1, 0], [0, 0, 0]]
    assert angles(graph) == {2, 3}


# ---------------------------------------------------------------------------- draws


@given(
    st.floats(1e-12, 1e12),
    st.floats(1e-12, 1e12),
    st.sampled_from([(1, 0), (-1, 0), (0, 1), (-1, 1), (0, 0)]),
)
def test_draws_grow_with_the_units(s, t, unit):
    def drawn(span, size):
        scales = Scales(np.zeros(1), np.array([span]), size, np.array([unit], float), np.array([True]))
        return draws(scales, 64, seed=3, bounds=OPEN)

    assert drawn(s, t) == pytest.approx(drawn(1.0, 1.0) * s ** unit[0] * t ** unit[1], rel=1e-9)


@pytest.mark.parametrize("unit", [(1.0, 0.0), (np.nan, np.nan)], ids=["known", "unknown"])
@pytest.mark.parametrize(("low", "high"), [(-1.0, 2.0), (0.5, np.inf), (-np.inf, -3.0)])
def test_draws_stay_inside_bounds(low, high, unit):
    scales = Scales(np.zeros(1), np.ones(1), 1.0, np.array([unit]), np.array([False]))
    values = draws(scales, 256, seed=0, bounds=(np.array([low]), np.array([high])))
    assert ((values >= low) & (values <= high)).all()
    assert len(np.unique(values)) > 200


def test_the_best_of_each_kind_are_chosen():
    curves = np.array([[1.0, 0, 0], [1.001, 0, 0], [0, 1.5, 0], [np.nan, 0, 0], [0, 0, 2.0]])
    sums = np.array([1.0, 1.002, 2.25, np.inf, 4.0])
    assert different(sums, curves, 5) == [0, 2, 4]
    assert different(sums, curves, 2) == [0, 2]


def test_of_equal_ends_the_plainest_is_told():
    ends = [np.array(p, float) for p in ([2, 5, -1], [2, 1, 5], [1, 2, 5], [1, 1, 1])]
    assert plainest(ends, [1.0, 1.0 + 1e-12, 1.0, 1.1]).tolist() == [1, 2, 5]


# ---------------------------------------------------------------------------- fits


def bursts(seed):
    """Return a wave seen twice, with a long gap: how many waves there are in between is hard to tell."""
    random = np.random.default_rng(seed)
    x = np.concatenate([np.linspace(0, 1, 15), np.linspace(20, 21, 15)])
    return {"x": x, "y": 2 * np.sin(3.1 * x + 0.5) + random.normal(0, 0.5, 30)}


@pytest.mark.parametrize("executor", ["numpy", "native"])
def test_a_rival_minimum_is_told(executor):
    result = gradfit.fit("y = a*sin(w*x + p)", bursts(3), executor=executor)
    assert any("Another minimum, with a loss only" in told for told in result.how)
    assert any("these data hardly tell the two apart" in told for told in result.how)


def test_two_peaks_the_other_way_round_are_no_rival():
    random = np.random.default_rng(0)
    x = np.linspace(0, 10, 120)
    y = (
        3 * np.exp(-(((x - 3) / 0.7) ** 2))
        + 2 * np.exp(-(((x - 6) / 1.1) ** 2))
        + random.normal(0, 0.05, 120)
    )
    result = gradfit.fit("y = a*exp(-((x - m)/w)**2) + b*exp(-((x - n)/v)**2)", {"x": x, "y": y})
    assert result.rss < 0.5
    assert len(result.how) == 1


def test_a_known_start_leaves_nothing_to_search():
    data = {"x": np.linspace(0, 5, 30), "y": 2 * np.exp(-np.linspace(0, 5, 30)) + 1}
    result = gradfit.fit("y = a*exp(-x/tau) + c", data, start={"tau": 0.3})
    assert result.starts.tried == 1
    assert result.values == pytest.approx({"a": 2, "tau": 1, "c": 1})


@pytest.mark.parametrize("executor", ["auto", "numpy", "native"])
@pytest.mark.parametrize(("x_unit", "y_unit"), [(1.0, 1e-300), (1.0, 1e300), (1e-300, 1.0), (1e-12, 1e12)])
def test_extreme_units(executor, x_unit, y_unit):
    random = np.random.default_rng(0)
    x = np.linspace(0, 5, 40)
    y = 3 * np.exp(-(((x - 2) / 0.5) ** 2)) + 1 + random.normal(0, 0.05, 40)
    result = gradfit.fit(
        "y = a*exp(-((x - m)/w)**2) + c", {"x": x * x_unit, "y": y * y_unit}, executor=executor
    )
    assert result.values["m"] / x_unit == pytest.approx(2, abs=0.02)
    assert result.values["a"] / y_unit == pytest.approx(3, abs=0.1)


def test_a_function_that_cannot_be_traced_is_searched_one_draw_at_a_time():
    def peak(x, a, m, w):
        return a * np.exp(-(((x - float(m)) / w) ** 2))

    x = np.linspace(0, 5, 40)
    result = gradfit.fit(peak, {"x": x, "y": 3 * np.exp(-(((x - 2) / 0.5) ** 2))}, executor="native")
    assert result.values["m"] == pytest.approx(2)


def test_bounds_and_fixed_parameters_are_kept():
    random = np.random.default_rng(0)
    x = np.linspace(0, 5, 60)
    y = 3 * np.exp(-(((x - 2) / 0.5) ** 2)) + 2 * np.exp(-(((x - 4) / 0.3) ** 2)) + random.normal(0, 0.05, 60)
    result = gradfit.fit(
        "y = a*exp(-((x - m)/w)**2) + c",
        {"x": x, "y": y},
        bounds={"m": (3, 5), "w": (0.1, 0.4)},
        fixed={"c": 0.0},
    )
    assert result.values["m"] == pytest.approx(4, abs=0.05)
    assert result.values["c"] == 0


def test_many_rows_are_thinned_for_the_search_only():
    random = np.random.default_rng(0)
    x = np.linspace(0, 1, 20_000)
    y = (
        3 * np.exp(-(((x - 0.37) / 0.01) ** 2))
        + 2 * np.exp(-(((x - 0.7) / 0.02) ** 2))
        + random.normal(0, 0.05, len(x))
    )
    result = gradfit.fit("y = a*exp(-((x - m)/w)**2) + b*exp(-((x - n)/v)**2) + c", {"x": x, "y": y})
    assert sorted((result.values["m"], result.values["n"])) == pytest.approx([0.37, 0.7], abs=1e-3)
    assert result.rss == pytest.approx(0.05**2 * len(x), rel=0.05)


def bell(rows, noise):
    x = np.linspace(0, 10, rows)
    y = 5 * np.exp(-(((x - 4) / 1.5) ** 2)) + 1
    return {"x": x, "y": y + noise * np.random.default_rng(1).normal(size=rows)}


@pytest.mark.parametrize("executor", ["numpy", "native"])
@pytest.mark.parametrize("rows", [300, 20_000])
def test_the_minimum_of_many_rows_without_noise_is_kept(rows, executor):
    result = gradfit.fit("y = a*exp(-((x - c)/w)**2) + b", bell(rows, 0), executor=executor)
    assert result.values == pytest.approx({"a": 5, "c": 4, "w": 1.5, "b": 1}, rel=1e-12)


@pytest.mark.parametrize("executor", ["auto", "numpy", "native"])
def test_what_enters_only_squared_is_positive(executor):
    """All refined starts of this search end at the negative width."""
    result = gradfit.fit("y = a*exp(-((x - c)/w)**2) + b", bell(20_000, 0.05), seed=1, executor=executor)
    assert result.values["w"] == pytest.approx(1.5, abs=0.01)


def test_a_sign_that_changes_the_curve_stays():
    data = bell(40, 0)
    result = gradfit.fit("y = a*exp(-b*x)", data | {"y": 2 * np.exp(0.2 * data["x"])})
    assert result.values == pytest.approx({"a": 2, "b": -0.2})
    bounded = gradfit.fit("y = a*exp(-((x - c)/w)**2) + b", data, bounds={"w": (None, 0)})
    assert bounded.values["w"] == pytest.approx(-1.5)
