"""Traps that other tools fall into silently, and input that must end with a sentence."""

import numpy as np
import pytest

import gradfit

X = np.linspace(0, 5, 40)
NOISE = np.random.default_rng(0).normal(0, 0.05, 40)
DATA = {"x": X, "y": 3 * np.exp(-X / 1.3) + 0.5 + NOISE}


def codes(result, least="warning"):
    return {f.code for f in result.findings if f.severity != "info" or least == "info"}


# ---------------------------------------------------------------------------- silently wrong elsewhere


def test_a_times_b_is_named():
    result = gradfit.fit("y = a*b*x + c", {"x": X, "y": 2 * X + 1 + NOISE}, start=[1, 1, 0])
    finding = result.findings[0]
    assert finding.code == "unidentifiable" and result.verdict == "no"
    assert set(finding.evidence["parameters"]) == {"a", "b"}
    assert np.isnan(result.errors["a"]) and np.isnan(result.errors["b"]) and np.isfinite(result.errors["c"])
    assert result.params["a"].interval() == (-np.inf, np.inf)
    assert result.values["a"] * result.values["b"] == pytest.approx(2, abs=0.05)
    # the curve itself is determined
    assert np.isfinite(result.predict({"x": [1.0]}).stderr).all()


@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_x_offset_gives_six_digits(offset):
    y = 2 * X + 1 + NOISE
    moved = gradfit.fit("y = a*x + b", {"x": X + offset, "y": y})
    centred = (X + offset) - (X + offset).mean()  # what the rounded x say, exactly
    assert moved.values["a"] == pytest.approx(float(centred @ y / (centred @ centred)), rel=1e-6)


def test_y_offset_gives_six_digits():
    y = 3 * np.exp(-X / 1.3) + NOISE
    moved = gradfit.fit("y = a*exp(-x/tau) + c", {"x": X, "y": y + 1e9})
    plain = gradfit.fit("y = a*exp(-x/tau) + c", {"x": X, "y": (y + 1e9) - 1e9})
    assert moved.values["tau"] == pytest.approx(plain.values["tau"], rel=1e-6)


def test_a_parameter_at_its_bound_has_no_false_error_bar():
    result = gradfit.fit("y = a*exp(-k*x) + c", DATA, bounds={"k": (0, 0.5)}, start=[1, 0.1, 0])
    assert "at-bound" in codes(result)
    assert np.isnan(result.errors["k"])
    assert all(np.isfinite(result.errors[n]) for n in ("a", "c"))


def test_constant_x_under_a_slope():
    result = gradfit.fit("y = a*x + b", {"x": np.full(9, 3.0), "y": np.arange(9.0)})
    assert result.verdict == "no" and "unidentifiable" in codes(result)
    assert "x is 3" in result.findings[0].message


def test_a_sine_started_at_a_wrong_frequency():
    random = np.random.default_rng(2)
    x = np.sort(random.uniform(0, 10, 80))
    y = 2 * np.sin(3 * x + 0.4) + random.normal(0, 0.1, 80)
    lost = gradfit.fit("y = a*sin(w*x + p)", {"x": x, "y": y}, start=[1, 4.5, 0])
    assert lost.verdict != "trust"
    assert codes(lost) & {"local-minimum", "underfitting"}
    found = gradfit.fit("y = a*sin(w*x + p)", {"x": x, "y": y})
    assert abs(found.values["w"]) == pytest.approx(3, abs=0.02) and found.verdict == "trust"


def test_a_column_vector_is_a_column():
    plain = gradfit.fit("y = a*x + b", {"x": X, "y": 2 * X + NOISE})
    column = gradfit.fit("y = a*x + b", {"x": X[:, None], "y": (2 * X + NOISE)[:, None]})
    assert column.values == plain.values


def test_a_model_that_returns_a_column_is_refused():
    with pytest.raises(gradfit.ShapeError, match=r"broadcast to \(40, 40\)") as caught:
        gradfit.fit(lambda x, a, b: (a * x + b)[:, None], {"x": X, "y": 2 * X + NOISE})
    assert ".squeeze(-1)" in caught.value.remedy
    assert caught.value.excerpt.startswith("model    40    1\ny             40\n")


def test_an_unused_parameter_is_named():
    result = gradfit.fit("y = a*x + b + 0*q", {"x": X, "y": 2 * X + NOISE})
    assert result.verdict == "no"
    assert "q" in result.findings[0].message and result.findings[0].code == "unidentifiable"
    assert np.isfinite(result.errors["a"]) and np.isnan(result.errors["q"])


def test_a_model_that_ignores_x_is_a_constant():
    result = gradfit.fit(lambda x, c: c, {"x": X, "y": 2 + NOISE})
    assert result.fitted.shape == (40,) and result.values["c"] == pytest.approx(np.mean(2 + NOISE))


def test_float32_does_not_stand_still():
    data = {"x": X.astype(np.float32), "y": (3 * np.exp(-X / 1.3)).astype(np.float32)}
    result = gradfit.fit("y = a*exp(-x/tau)", data, start=[1, 1])
    assert result.values == pytest.approx({"a": 3, "tau": 1.3}, rel=1e-5)


def test_a_rate_in_inverse_seconds_far_from_one():
    t = np.linspace(0, 5e-9, 50)
    result = gradfit.fit(
        "v = a*exp(-k*t) + c",
        {"t": t, "v": 2e12 * np.exp(-9e8 * t) + 1e11 + 1e9 * np.random.default_rng(0).normal(size=50)},
    )
    assert result.values["k"] == pytest.approx(9e8, rel=0.01) and result.verdict == "trust"


def test_importing_changes_nothing_in_the_process():
    import os
    import subprocess
    import sys

    code = (
        "import locale, signal, warnings, os, numpy as np;"
        "state = lambda: (np.geterr(), locale.setlocale(locale.LC_ALL), signal.getsignal(2), list(warnings.filters), dict(os.environ));"
        "before = state(); import gradfit, sys; assert state() == before;"
        "heavy = {'torch', 'scipy', 'polars', 'matplotlib', 'narwhals', 'pandas'} & set(sys.modules); assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(
    "formula", ["y = a*x + b", "y = a*exp(-x/tau) + c", "y = a*exp(-((x - m)/s)**2) + b"]
)
def test_no_warning_on_a_healthy_fit(formula, seed):
    random = np.random.default_rng(seed)
    x = np.sort(random.uniform(0, 5, 50))
    truth = {
        "a*x": 2 * x + 1,
        "a*exp(-x": 3 * np.exp(-x / 1.3) + 0.5,
        "a*exp(-((": 4 * np.exp(-(((x - 2.5) / 0.8) ** 2)) + 1,
    }
    y = next(v for k, v in truth.items() if k in formula) + random.normal(0, 0.1, 50)
    assert gradfit.fit(formula, {"x": x, "y": y}).verdict == "trust"


# ---------------------------------------------------------------------------- one sentence each

BAD = {
    "no such column": (lambda: gradfit.fit("z = a*x", DATA), "There is no column z"),
    "misspelt input": (lambda: gradfit.fit("y = a*xx + b", DATA), "uses no column"),
    "no parameter": (lambda: gradfit.fit("y = 3*x", DATA), "nothing to fit"),
    "response on both sides": (lambda: gradfit.fit("y = a*y + x", DATA), "stands on both sides"),
    "one row": (lambda: gradfit.fit("y = a*x", {"x": [1.0], "y": [2.0]}), "1 row"),
    "fewer rows than parameters": (lambda: gradfit.fit("y = a*x + b + c*x**2", {"x": [1, 2], "y": [2, 3]}), "cannot determine 3 parameters"),
    "NaN": (lambda: gradfit.fit("y = a*x", {"x": X, "y": np.where(X > 4, np.nan, X)}), "no number in y"),
    "infinite": (lambda: gradfit.fit("y = a*x", {"x": X, "y": np.where(X > 4, np.inf, X)}), "y"),
    "text": (lambda: gradfit.fit("y = a*x", {"x": X, "y": ["a"] * 40}), "y"),
    "unknown parameter in start": (lambda: gradfit.fit("y = a*x", DATA, start={"b": 1}), "b, which is no parameter"),
    "start of wrong length": (lambda: gradfit.fit("y = a*x", DATA, start=[1, 2]), "2 values"),
    "start not finite": (lambda: gradfit.fit("y = a*x", DATA, start=[np.nan]), "must be finite"),
    "bounds reversed": (lambda: gradfit.fit("y = a*x", DATA, bounds={"a": (3, 1)}), "reversed: 3 to 1"),
    "start outside": (lambda: gradfit.fit("y = a*x", DATA, bounds={"a": (0, 1)}, start=[5]), "lies outside its bounds 0 to 1"),
    "fixed outside": (lambda: gradfit.fit("y = a*x + b", DATA, bounds={"a": (0, 1)}, fixed={"a": 5}), "fixed value of a"),
    "bounds of wrong length": (lambda: gradfit.fit("y = a*x", DATA, bounds=[(0, 1), (0, 1), (0, 1)]), "bounds="),
    "sigma zero": (lambda: gradfit.fit("y = a*x", DATA, sigma=0), "sigma must be positive"),
    "sigma negative": (lambda: gradfit.fit("y = a*x", DATA, sigma=np.where(X > 4, -1, 1)), "in rows 33, 34"),
    "sigma and weights": (lambda: gradfit.fit("y = a*x", DATA, sigma=1, weights=1), "not both"),
    "sigma of wrong length": (lambda: gradfit.fit("y = a*x", DATA, sigma=[1, 2, 3]), "shape (3,)"),
    "weights not finite": (lambda: gradfit.fit("y = a*x", DATA, weights="1/x"), "not finite in row 1"),
    "log of a negative response": (lambda: gradfit.fit("log(y) = a*x", {"x": X, "y": X - 1}), "log(y) is not finite in rows"),
    "NaN at the start": (lambda: gradfit.fit("y = a*log(b*x - 5)", DATA, start=[1, 1]), "log(-5) is not a number"),
    "overflow at the start": (lambda: gradfit.fit("y = exp(a*x)", DATA, start=[1000]), "overflows"),
    "unknown solver": (lambda: gradfit.fit("y = a*x", DATA, solver="Adm"), "There is no optimizer 'Adm'"),
    "unknown loss": (lambda: gradfit.fit("y = a*x", DATA, loss="hubr"), "There is no loss 'hubr'"),
    "unknown executor": (lambda: gradfit.fit("y = a*x", DATA, executor="gpu"), "There is no executor 'gpu'"),
    "unknown option": (lambda: gradfit.fit("y = a*x", DATA, bound={"a": (0, 1)}), "no argument 'bound'"),
    "unknown missing": (lambda: gradfit.fit("y = a*x", DATA, missing="mean"), "missing="),
    "level": (lambda: gradfit.fit("y = a*x", DATA, level=95), "between 0 and 1"),
    "lr without an optimizer": (lambda: gradfit.fit("y = a*x", DATA, lr=0.1), "torch's optimizers"),
    "where is no condition": (lambda: gradfit.fit("y = a*x", DATA, where="x + 1"), "is not a condition"),
    "where leaves nothing": (lambda: gradfit.fit("y = a*x", DATA, where="x > 99"), "No row"),
    "row to exclude": (lambda: gradfit.fit("y = a*x", DATA, exclude=[99]), "no row 99"),
    "no data": (lambda: gradfit.fit("y = a*x"), "needs data"),
    "not a model": (lambda: gradfit.fit(3, DATA), "formula or a function"),
    "function that fails": (lambda: gradfit.fit(lambda x, a: undefined_name * x, DATA), "undefined_name"),  # noqa: F821  the point of it
    "function of columns only": (lambda: gradfit.fit(lambda x: x, DATA), "no parameters"),
    "covariance not positive": (lambda: gradfit.fit("y = a*x", DATA, sigma=-np.eye(40)), "positive definite"),
    "library model": (lambda: gradfit.fit("gausian", DATA), "gaussian"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_ends_with_a_sentence(case):
    call, sentence = BAD[case]
    with pytest.raises(gradfit.GradfitError) as caught:
        call()
    assert sentence in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("x", "y"), [(1e300, 1.0), (1.0, 1e300), (1e-300, 1.0), (1.0, 1e-300), (1e150, 1e-150)]
)
def test_extreme_values_are_right(x, y):
    result = gradfit.fit("y = a*x + b", {"x": X * x, "y": (2 * X + 1 + NOISE) * y})
    plain = gradfit.fit("y = a*x + b", {"x": X, "y": 2 * X + 1 + NOISE})
    assert result.values["a"] * x / y == pytest.approx(plain.values["a"], rel=1e-9)
    assert result.values["b"] / y == pytest.approx(plain.values["b"], rel=1e-9)
    assert result.errors["a"] * x / y == pytest.approx(plain.errors["a"], rel=1e-6)
    assert result.verdict == "trust"
