"""The model library: every model is described, and its guess leads to the best fit whatever the units and the rows."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares

from gradfit.errors import OptionError
from gradfit.formula import parse
from gradfit.library import GROUPS, MODELS, find

EVERY = pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
QUIET = settings(deadline=None, derandomize=True, database=None)

#: models whose curves keep their family under a shift of x, in either direction of x
MOVES = {
    "line", "quadratic", "cubic", "quartic", "quintic", "broken_line", "rational",
    "gaussian", "two_gaussians", "lorentzian", "voigt", "pseudo_voigt",
    "logistic3", "logistic4", "logistic5", "sine", "erf_step", "tanh_step",
}  # fmt: skip
#: models with a free level
RISES = {
    "line", "quadratic", "cubic", "quartic", "quintic", "broken_line", "rational", "logarithm", "power_offset",
    "exponential_decay", "two_phase_decay", "stretched_exponential",
    "gaussian", "two_gaussians", "lorentzian", "voigt", "pseudo_voigt", "lognormal_peak",
    "logistic4", "logistic5", "dose_response", "total_binding", "sine", "damped_sine", "erf_step", "tanh_step",
}  # fmt: skip
#: models whose flanks are so steep at a hundred points that a spike on them is not told from the curve
STEEP = {"two_gaussians", "sine"}
ONE_SIGN = {"antoine"}  # a power of ten


def curve(model, x, parameters):
    """Return the (n,) values of the formula."""
    with np.errstate(all="ignore"):
        return np.asarray(parse(model.formula).right.evaluate({"x": x, **parameters}), float) + 0 * x


def measured(model, rng, *, n, noise, factor=2.0):
    """Return (parameters, x, y): typical parameters varied up to `factor`, places spaced in one of four ways."""
    low, high = model.span
    spacings = [
        np.linspace(low, high, n),
        rng.uniform(low, high, n),
        np.repeat(np.linspace(low, high, n // 3 + 1), 3)[:n],
        low + (high - low) * np.geomspace(0.01, 1, n),
    ]
    x = rng.permutation(spacings[rng.integers(4)])
    factor = 1.3 if model.name in ("arrhenius", "antoine") else factor
    parameters = {name: value * factor ** rng.uniform(-1, 1) for name, value in model.example.items()}
    if model.name == "two_gaussians":  # resolved, and inside the data
        parameters |= {"x1": rng.uniform(1.5, 4.5), "x2": rng.uniform(5.5, 8.5)}
    if model.name == "pseudo_voigt":
        parameters["eta"] = min(parameters["eta"], 0.95)
    true = curve(model, x, parameters)
    return parameters, x, true + noise * np.ptp(true) * rng.normal(size=n)


def fitted(model, x, y, start):
    """Return the least sum of squares, relative to the range of y, that Levenberg-Marquardt reaches from `start`."""
    first = np.array(list(start.values()))
    unit = np.where(first == 0, 1.0, np.abs(first))

    def residual(z):
        r = (curve(model, x, dict(zip(start, z * unit, strict=True))) - y) / np.ptp(y)
        return np.where(np.isfinite(r) & (np.abs(r) < 1e75), r, 1e75)

    tight = {"xtol": 1e-12, "ftol": 1e-12, "gtol": 1e-12, "max_nfev": 4000}
    return 2 * least_squares(residual, first / unit, x_scale="jac", method="lm", **tight).cost


def other_units(model, rng, x, y):
    """Return x and y in random other units, shifted and turned round where the model can follow."""
    shift = rng.uniform(-3, 3) * np.ptp(x) if model.name in MOVES else 0.0
    level = rng.uniform(-10, 10) * np.ptp(y) if model.name in RISES else 0.0
    x_sign = rng.choice([-1, 1]) if model.name in MOVES else 1
    y_sign = 1 if model.name in ONE_SIGN else rng.choice([-1, 1])
    return x_sign * 10 ** rng.uniform(-9, 9) * (x + shift), y_sign * 10 ** rng.uniform(-9, 9) * (y + level)


@EVERY
def test_described(model):
    formula = parse(model.formula)
    names = set(formula.right.names) - {"x", "pi", "e"}
    low, high = model.span
    x = np.linspace(low, high, 101)
    assert formula.left is not None
    assert formula.left.names == ("y",)
    assert not formula.notes
    assert names == set(model.meaning) == set(model.example)
    assert set(model.guess(x, curve(model, x, model.example))) == names
    assert model.group in GROUPS
    assert model.title[0].isupper()
    assert model.about.endswith(".")
    assert all("(" in said and said.endswith(")") for said in model.meaning.values())
    assert np.all(np.isfinite(curve(model, x, model.example)))
    assert np.ptp(curve(model, x, model.example)) > 0


def test_listed_by_group():
    groups = [model.group for model in MODELS.values()]
    assert tuple(dict.fromkeys(groups)) == GROUPS
    assert groups == sorted(groups, key=GROUPS.index)
    assert all(name == model.name for name, model in MODELS.items())


def test_page_is_up_to_date():
    script = runpy.run_path(str(Path(__file__).parents[1] / "docs" / "make_models.py"))
    assert script["PAGE"].read_text(encoding="utf-8") == script["page"](), "run: python docs/make_models.py"


def test_unknown_name():
    with pytest.raises(OptionError) as caught:
        find("gausian")
    assert str(caught.value) == (
        "The library has no model 'gausian'.\nThe nearest are gaussian, two_gaussians, sine"
    )
    with pytest.raises(OptionError, match="There are line, proportional, quadratic"):
        find("?")
    assert find("gaussian") is MODELS["gaussian"]


@EVERY
def test_leads_to_the_best_fit(model):
    for seed in range(8):
        rng = np.random.default_rng([seed, *model.name.encode()])
        parameters, x, y = measured(model, rng, n=int(rng.integers(20, 201)), noise=rng.uniform(0.01, 0.05))
        best = fitted(model, x, y, parameters)
        x, y = other_units(model, rng, x, y)
        assert fitted(model, x, y, model.guess(x, y)) <= best * (1 + 1e-3), seed


@EVERY
def test_noise_of_a_fifth(model):
    rng = np.random.default_rng(list(model.name.encode()))
    for _ in range(3):
        _, x, y = measured(model, rng, n=120, noise=0.2, factor=1.3)
        guessed = np.sum((curve(model, x, model.guess(x, y)) - y) ** 2)
        best = fitted(model, x, y, model.guess(x, y)) * np.ptp(y) ** 2
        assert best * (1 - 1e-9) <= guessed <= 1.1 * best


@EVERY
@settings(QUIET, max_examples=15)
@given(st.integers(0, 10**6), st.integers(-12, 12), st.integers(-12, 12))
def test_a_change_of_units_changes_only_the_units(model, seed, x_power, y_power):
    _, x, y = measured(model, np.random.default_rng(seed), n=30, noise=0.03, factor=1.5)
    x_unit, y_unit = 10.0**x_power, 10.0**y_power * (1 if model.name in ONE_SIGN else -1)
    here, there = model.guess(x, y), model.guess(x * x_unit, y * y_unit)
    there = curve(model, x * x_unit, there) / y_unit
    assert np.max(np.abs(there - curve(model, x, here))) <= 1e-3 * np.ptp(y)


@pytest.mark.parametrize(
    "model", [MODELS[name] for name in sorted(MOVES & RISES)], ids=lambda model: model.name
)
def test_offsets_of_a_million(model):
    _, x, y = measured(model, np.random.default_rng(1), n=60, noise=0.03, factor=1.1)
    here = curve(model, x, model.guess(x, y))
    raised = curve(model, x, model.guess(x, y + 1e6)) - 1e6
    assert np.max(np.abs(raised - here)) <= 1e-3 * np.ptp(y)
    if model.name not in (
        "cubic",
        "quartic",
        "quintic",
        "rational",
    ):  # (1e6)³ leaves no digits to their coefficients
        moved = curve(model, x + 1e6, model.guess(x + 1e6, y))
        assert np.max(np.abs(moved - here)) <= 2e-3 * np.ptp(y)


@EVERY
def test_order_of_the_rows_does_not_matter(model):
    rng = np.random.default_rng(3)
    x = rng.uniform(*model.span, 40)
    y = curve(model, x, model.example)
    order = rng.permutation(40)
    assert model.guess(x[order], y[order]) == model.guess(x, y)


@EVERY
@settings(QUIET, max_examples=25)
@given(
    st.lists(
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False) | st.integers(-3, 3).map(float)] * 2),
        max_size=12,
    )
)
def test_always_finite(model, rows):
    x, y = np.array(rows, float).reshape(-1, 2).T
    guess = model.guess(x, y)
    assert set(guess) == set(model.meaning)
    assert all(type(value) is float and np.isfinite(value) for value in guess.values())


POOR = {
    "constant x": lambda x, y: (0 * x + 3, y),
    "constant y": lambda x, y: (x, 0 * y + 3),
    "one point many times": lambda x, y: (0 * x - 3, 0 * y + 7),
    "zeros": lambda x, y: (0 * x, 0 * y),
    "huge": lambda x, y: (x * 3e307, 1.7e308 * np.sign(y)),
    "tiny": lambda x, y: (x * 1e-309, y * 5e-324),
    "negative x": lambda x, y: (-1 - np.abs(x), y),
    "whole numbers": lambda x, y: (np.arange(x.size), np.arange(y.size) ** 2),
    "lists of float32": lambda x, y: (list(x.astype(np.float32)), list(y.astype(np.float32))),
    "columns": lambda x, y: (x[:, None], y[:, None]),
}


@EVERY
@pytest.mark.parametrize("poor", POOR.values(), ids=POOR)
def test_poor_data(model, poor):
    for n in (1, 2, 3, 5, 40):
        guess = model.guess(*poor(*np.random.default_rng(n).normal(size=(2, n))))
        assert set(guess) == set(model.meaning)
        assert all(np.isfinite(value) for value in guess.values())


@EVERY
@settings(QUIET, max_examples=25)
@given(st.lists(st.tuples(st.floats(0.1, 10), st.floats(-10, 10)), min_size=2, max_size=15))
def test_never_worse_than_no_curve_at_all(model, rows):
    x, y = np.array(rows).T
    level = y.mean() if model.name in RISES else 0.0
    guessed = np.sum((curve(model, x, model.guess(x, y)) - y) ** 2)
    assert guessed <= np.sum((y - level) ** 2) * 1.01 + 1e-9


@EVERY
def test_rows_without_numbers_are_passed_over(model):
    x = np.linspace(*model.span, 30)[1:]
    y = curve(model, x, model.example)
    with_gaps = model.guess(np.append(x, [np.nan, 1.0, np.inf]), np.append(y, [1.0, np.nan, 1.0]))
    assert with_gaps == model.guess(x, y)


@pytest.mark.parametrize(
    "model", [MODELS[name] for name in MODELS if name not in STEEP], ids=lambda model: model.name
)
def test_lone_outliers_hardly_move_a_guess(model):
    _, x, y = measured(model, np.random.default_rng(2), n=100, noise=0.02, factor=1.2)
    order = np.argsort(x, kind="stable")[[10, 30, 50, 70, 90]]
    spoiled = y.copy()
    spoiled[order] += np.ptp(y) * np.array([2.0, -3.0, 5.0, -2.0, 3.0])
    moved = curve(model, x, model.guess(x, spoiled)) - curve(model, x, model.guess(x, y))
    assert np.max(np.abs(moved)) <= 0.05 * np.ptp(y)


@EVERY
def test_a_hundred_thousand_rows(model):
    parameters, x, y = measured(model, np.random.default_rng(5), n=100_000, noise=0.1, factor=1.2)
    true = np.sum((y - curve(model, x, parameters)) ** 2)
    assert np.sum((y - curve(model, x, model.guess(x, y))) ** 2) <= 1.02 * true


@pytest.mark.parametrize("name", ["gaussian", "lorentzian", "voigt", "pseudo_voigt"])
@pytest.mark.parametrize("sign", [1, -1], ids=["up", "down"])
@pytest.mark.parametrize("n", [200, 20_000])
def test_a_peak_of_few_points(name, sign, n):
    model = MODELS[name]
    wide = 3 * 10.0 / n  # of three points
    x = np.linspace(0, 10, n)
    true = {**model.example, "x0": 7.3, "c": 40.0}
    true |= {key: wide for key in ("sigma", "gamma", "w") if key in true}
    true |= {"area": 5.0 * sign * wide} if name == "voigt" else {"a": 5.0 * sign}
    y = curve(model, x, true)
    guess = model.guess(x, y + 0.02 * np.ptp(y) * np.random.default_rng(0).normal(size=n))
    assert guess["x0"] == pytest.approx(7.3, abs=3 * wide)
    assert np.sign(guess["area" if name == "voigt" else "a"]) == sign


@pytest.mark.parametrize(("n", "frequency"), [(40, 1.83), (2000, 87.0), (300_000, 9_001.0)])
@pytest.mark.parametrize("spacing", ["even", "uneven"])
def test_a_high_frequency_is_found(n, frequency, spacing):
    rng = np.random.default_rng(7)
    x = np.linspace(0, 10, n) if spacing == "even" else np.sort(rng.uniform(0, 10, n))
    y = 3 + 2 * np.sin(2 * np.pi * frequency * x + 1) + 0.5 * rng.normal(size=n)
    guess = MODELS["sine"].guess(x, y)
    assert guess["f"] == pytest.approx(frequency, abs=0.01)
    assert guess["a"] == pytest.approx(2, abs=0.4)


def test_dose_zero_asks_for_a_positive_slope():
    model = MODELS["dose_response"]
    falling = {"Top": 1.0, "Bottom": 6.0, "EC50": 2.0, "HillSlope": 1.5}
    dose = np.array([0.0, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 50.0])
    assert model.guess(dose, curve(model, dose, falling)) == pytest.approx(falling, rel=0.05)
    told_as_a_fall = {"Top": 6.0, "Bottom": 1.0, "EC50": 2.0, "HillSlope": -1.5}
    assert model.guess(dose[1:], curve(model, dose[1:], falling)) == pytest.approx(told_as_a_fall, rel=0.05)
