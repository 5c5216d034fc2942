"""scale="auto": training in standard units has the same minimum to the digits, in the user's units, whatever they are."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from objectives import T_C, T_U, T_UN

import gradfit
from gradfit.errors import OptionError

RAW = {"t_u": np.array(T_U), "t_c": np.array(T_C)}
RNG = np.random.default_rng(2)
X = np.linspace(0, 4, 50)
CURVE = {
    "x": X,
    "y": 3 * np.exp(-1.3 * X) + 0.5 + RNG.normal(0, 0.05, 50),
    "s": RNG.uniform(0.03, 0.2, 50),
    "n": RNG.poisson(30 * np.exp(-0.7 * X) + 3),
}
DECAY, AT = "y = a*exp(-k*x) + c", {"a": 1.0, "k": 1.0, "c": 0.0}


def test_the_reference_numbers_stay_without_scaling():
    data = {"t_un": np.array(T_UN), "t_c": np.array(T_C)}
    one = gradfit.fit("t_c = w*t_un + b", data, start=[1, 0], solver="SGD", lr=1e-2, epochs=1)
    many = gradfit.fit("t_c = w*t_un + b", data, start=[1, 0], solver="SGD", lr=1e-2, epochs=5000)
    same = gradfit.fit(
        "t_c = w*t_un + b", data, start=[1, 0], solver="SGD", lr=1e-2, epochs=5000, scale="none"
    )
    assert [round(v, 4) for v in one.values.values()] == [1.7761, 0.1064]
    assert [round(v, 4) for v in many.values.values()] == [5.3671, -17.3012]
    assert same.values == many.values
    assert not any("scale" in sentence for sentence in many.how)


@pytest.mark.parametrize("executor", ["native", "numpy"])
def test_the_reference_example_needs_no_normalised_column(executor):
    result = gradfit.fit(
        "t_c = w*t_u + b",
        RAW,
        start=[1, 0],
        solver="SGD",
        lr=0.1,
        epochs=300,
        scale="auto",
        executor=executor,
    )
    best = gradfit.fit("t_c = w*t_u + b", RAW)
    assert_allclose(list(result.values.values()), list(best.values.values()), rtol=1e-11)
    assert_allclose(result.loss, best.rss / 11, rtol=1e-12)
    assert result.converged
    told = result.how[0].replace("\u202f", "")
    assert re.search(r"ratio of gradient sizes from 55 to \d", told)
    assert "the condition number from 34000 to 1.0" in told
    first = result.history
    assert_allclose(first.loss[0], 1763.8845, rtol=1e-6)
    assert_allclose(first.gradient[0], [4517.2964, 82.6], rtol=1e-6)
    assert_allclose(first.parameters[0], [1, 0], atol=1e-12)


CASES = {  # formula, start, options
    "decay": (DECAY, AT, {}),
    "weights": (DECAY, AT, {"sigma": "s"}),
    "one fixed": (DECAY, {"a": 1.0, "k": 1.0}, {"fixed": {"c": 0.4}}),
    "bounds": (DECAY, AT, {"bounds": {"k": (0.1, 1.1), "c": (0, None)}}),
    "huber": (DECAY, AT, {"loss": "huber:0.1"}),
    "cubic": ("y = a + b*x + c*x^2 + d*x^3", dict.fromkeys("abcd", 0.0), {}),
    "no graph": (lambda x, a, k, c: a * np.exp(-k * (x - x.min())) + c, AT, {"response": "y"}),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("executor", ["auto", "numpy"])
def test_the_same_minimum(name, executor):
    formula, start, options = CASES[name]
    if executor == "numpy" and name not in ("decay", "bounds"):
        pytest.skip("torch's own loop takes long")
    data = {key: CURVE[key] for key in (("x", "y", "s") if "sigma" in options else ("x", "y"))}
    result = gradfit.fit(
        formula, data, start=start, solver="SGD", momentum=0.9, lr=0.01, epochs=6000 if executor == "auto" else 1500,
        scale="auto", executor=executor, **options,
    )  # fmt: skip
    best = gradfit.fit(formula, data, start=start, **options)
    assert_allclose(
        list(result.values.values()), list(best.values.values()), rtol=1e-7 if executor == "auto" else 1e-3
    )
    assert result.converged


def test_counts():
    data = {"x": X, "n": CURVE["n"]}
    formula = "n = a*exp(-k*x) + c"
    start = {"a": 20.0, "k": 1.0, "c": 5.0}
    result = gradfit.fit(
        formula,
        data,
        start=start,
        loss="poisson",
        solver="SGD",
        momentum=0.9,
        lr=0.02,
        epochs=800,
        scale="auto",
    )
    best = gradfit.fit(formula, data, start=start, loss="poisson")
    assert_allclose(list(result.values.values()), list(best.values.values()), rtol=3e-2)
    assert_allclose(result.loss, best.deviance / 50, rtol=1e-5)


@given(x=st.floats(-12, 12), y=st.floats(-12, 12), offset=st.floats(-1e4, 1e4))
@settings(max_examples=15, deadline=None)
def test_units_and_offsets_change_nothing(x, y, offset):
    u, v = 10.0**x, 10.0**y

    def fit(data, start):
        return gradfit.fit("y = w*x + b", data, start=start, solver="SGD", lr=0.2, epochs=60, scale="auto")

    t, c = np.array(T_U), np.array(T_C)
    plain = fit({"x": t, "y": c}, {"w": 1.0, "b": 0.0})
    other = fit({"x": u * (t + offset), "y": v * c}, {"w": v / u, "b": -v * offset})
    w = other.values["w"] * u / v
    b = other.values["b"] / v + w * offset
    assert_allclose(w, plain.values["w"], rtol=1e-6)
    assert_allclose(b, plain.values["b"], rtol=1e-6, atol=1e-6)
    assert_allclose(other.loss, v**2 * plain.loss, rtol=1e-6)


def test_callbacks_see_the_users_units():
    seen = []
    gradfit.fit(
        "t_c = w*t_u + b",
        RAW,
        start=[1, 0],
        solver="Adam",
        lr=0.1,
        epochs=3,
        scale="auto",
        callback=seen.append,
    )
    assert_allclose(seen[0].parameters, [1, 0], atol=1e-12)
    assert_allclose(seen[0].loss, 1763.8845, rtol=1e-6)
    assert_allclose(seen[0].gradient, [4517.2964, 82.6], rtol=1e-6)


def test_validation_is_no_part_of_scaling():
    data = {"x": X, "y": CURVE["y"].copy(), "out": (np.arange(50) % 5 == 0).astype(float)}
    moved = {**data, "y": np.where(data["out"] > 0, data["y"] + 100, data["y"])}
    options = {
        "start": AT,
        "solver": "SGD",
        "lr": 0.05,
        "epochs": 400,
        "scale": "auto",
        "validation": "out",
        "stop": "last",
    }
    one, other = (gradfit.fit(DECAY, d, **options) for d in (data, moved))
    assert one.values == other.values


@pytest.mark.parametrize(
    ("data", "start"),
    [
        ({"x": np.zeros(6), "y": np.arange(6.0)}, {"a": 1.0, "b": 0.0}),  # a has no effect
        ({"x": np.arange(6.0), "y": np.zeros(6)}, {"a": 1.0, "b": 0.0}),  # no spread
        ({"x": np.ones(6), "y": np.arange(6.0)}, {"a": 1.0, "b": 0.0}),  # redundant
        ({"x": np.arange(6.0) * 1e150, "y": np.arange(6.0)}, {"a": 1e-150, "b": 0.0}),
        ({"x": np.arange(2.0), "y": np.arange(2.0)}, {"a": 0.5, "b": 0.0}),
    ],
    ids=["without effect", "constant response", "redundant", "huge", "two rows"],
)
def test_odd_data(data, start):
    result = gradfit.fit("y = a*x + b", data, start=start, solver="SGD", lr=0.1, epochs=200, scale="auto")
    least = gradfit.fit("y = a*x + b", data)
    assert np.isfinite(list(result.values.values())).all()
    assert result.rss <= least.rss + 1e-3 * (1 + least.rss)


def test_a_scale_that_is_none():
    with pytest.raises(OptionError, match=r"scale is 'yes'.\nGive scale=\"auto\" or scale=\"none\""):
        gradfit.fit("y = a*x", {"x": [1, 2], "y": [1, 2]}, scale="yes")


@pytest.mark.parametrize("scale", ["auto", "none"])
def test_levenberg_marquardt_has_its_own_scale(scale):
    assert (
        gradfit.fit(DECAY, CURVE, start=AT, scale=scale, response="y").values
        == gradfit.fit(DECAY, CURVE, start=AT).values
    )
