"""Counts: maximum likelihood in a single fit, its numbers, its findings, and every way to it."""

import json
import re

import numpy as np
import pytest
from answers import DATA, _chosen, digits
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.special import gammaln

import gradfit
from gradfit.diagnose.counts import quantile_residuals
from gradfit.loss import Loss, deviance_residuals

DECAY = "y = a*exp(-t/tau) + c"
T = np.linspace(0, 10, 60)
PROBLEMS = [
    p
    for p in json.loads((DATA / "real" / "answers.json").read_text())["problems"]
    if p["loss"] == "poisson"
    and not p.get("group")
    and not {"reconvolve", "voigt("} & set(re.findall(r"reconvolve|voigt\(", p["formula"]))
]


def decay(seed=0, size=30.0, level=4.0, tau=2.0):
    return {"t": T, "y": np.random.default_rng(seed).poisson(size * np.exp(-T / tau) + level)}


def codes(result):
    return {finding.code for finding in result.findings}


# ---------------------------------------------------------------------------- right answers


@pytest.mark.parametrize("start", ["given", "found"])
@pytest.mark.parametrize("case", PROBLEMS, ids=lambda p: p["name"])
def test_measured_counts(case, start):
    table = gradfit.read(DATA / "real" / case["file"])
    for column, rule in (case["where"] or {}).items():
        table = table.keep(_chosen(table.columns[column], rule))
    result = gradfit.fit(
        case["formula"],
        table,
        loss="poisson",
        start=case["start"] if start == "given" else None,
        missing="drop",
    )
    assert result.deviance == pytest.approx(case["minimum"], rel=1e-9)
    if start == "given":
        assert digits([result.values[k] for k in case["params"]], list(case["params"].values())) >= 6
        assert digits([result.errors[k] for k in case["stderr"]], list(case["stderr"].values())) >= 4


def test_the_textbook_of_glm():
    """Dobson (1990), as in R's ?glm: coefficients, standard errors, deviance and AIC as R prints them."""
    y = [18, 17, 15, 20, 10, 20, 25, 13, 12]
    second, third = (np.array([k == j for k in [1, 2, 3] * 3], float) for j in (2, 3))
    b, c = (np.repeat([k == j for k in (1, 2, 3)], 3).astype(float) for j in (2, 3))
    data = {"y": y, "o2": second, "o3": third, "t2": b, "t3": c}
    result = gradfit.fit("y = exp(b0 + b1*o2 + b2*o3 + b3*t2 + b4*t3)", data, loss="poisson")
    values, errors = list(result.values.values()), list(result.errors.values())
    assert values == pytest.approx([3.045, -0.4543, -0.2930, 0, 0], abs=6e-4)
    assert errors == pytest.approx([0.1709, 0.2022, 0.1927, 0.2, 0.2], abs=6e-5)
    assert result.deviance == pytest.approx(5.1291, abs=5e-5)
    assert result.aic == pytest.approx(56.76, abs=5e-3)
    assert result.dof == 4


def test_likelihood_and_errors_are_those_of_a_direct_minimisation():
    """For a logarithmic link the expected information is the observed one: the Hessian of the likelihood."""
    x = np.linspace(-1, 1, 25)
    y = np.random.default_rng(3).poisson(np.exp(0.5 + 1.2 * x))

    def minus_log_likelihood(p):
        mean = np.exp(p[0] + p[1] * x)
        return -float(np.sum(y * np.log(mean) - mean - gammaln(y + 1)))

    best = minimize(
        minus_log_likelihood, [0.0, 0.0], method="Nelder-Mead", options={"xatol": 1e-10, "fatol": 1e-12}
    )
    h = 1e-4 * np.eye(2)
    hessian = [
        [
            sum(s * t * minus_log_likelihood(best.x + s * h[i] + t * h[j]) for s in (1, -1) for t in (1, -1))
            / 4e-8
            for j in range(2)
        ]
        for i in range(2)
    ]
    result = gradfit.fit("y = exp(b + m*x)", {"x": x, "y": y}, loss="poisson")
    assert result.log_likelihood == pytest.approx(-best.fun, rel=1e-10)
    assert result.bic == pytest.approx(2 * best.fun + 2 * np.log(25))
    assert list(result.values.values()) == pytest.approx(best.x, abs=1e-7)
    assert result.covariance == pytest.approx(np.linalg.inv(hessian), rel=1e-4)


@pytest.mark.parametrize("size", [0.8, 5.0, 300.0])
def test_many_fits_and_single_ones_agree(size):
    y = np.stack([decay(seed, size, 0.1 * size + 0.3)["y"] for seed in range(4)])
    start = {"a": size, "tau": 2.0, "c": 0.1 * size + 0.3}
    many = gradfit.fit_many(DECAY, {"t": T, "y": y}, start=start, loss="poisson")
    for i in np.flatnonzero(many.status == "converged"):
        one = many.result(int(i))
        assert one.deviance == pytest.approx(float(many.rss[i]), rel=1e-8)
        assert one.parameters == pytest.approx(many.ends.parameters[i], rel=1e-5)
        assert list(one.errors.values()) == pytest.approx(many.ends.stderr[i], rel=1e-4)


@pytest.mark.parametrize(
    "how", [{"executor": "native"}, {"executor": "tensor"}, {"start": [20, 1, 3]}, {"start": "search"}]
)
def test_every_way_ends_at_the_same_place(how):
    expected = gradfit.fit(DECAY, decay(), loss="poisson", executor="numpy", start=[30, 2, 4])
    result = gradfit.fit(DECAY, decay(), loss=Loss("poisson"), **how)
    assert result.parameters == pytest.approx(expected.parameters, rel=1e-7)
    assert result.converged


@pytest.mark.parametrize(("solver", "lr"), [("Adam", 0.05), ("LBFGS", 1.0)])
def test_optimizers_of_torch_reach_the_maximum(solver, lr):
    expected = gradfit.fit(DECAY, decay(), loss="poisson")
    result = gradfit.fit(DECAY, decay(), loss="poisson", solver=solver, lr=lr, epochs=1500, start=[20, 3, 2])
    assert result.deviance == pytest.approx(expected.deviance, abs=1e-6)
    assert result.loss == pytest.approx(expected.deviance / 60, rel=1e-6)
    assert "no deviance of counts" in " ".join(result.how)


# ---------------------------------------------------------------------------- deviance residuals


@given(st.floats(0, 1e9), st.floats(1e-9, 1e9))
def test_residuals_are_those_of_the_deviance(y, f):
    d, slope = (float(part[0]) for part in deviance_residuals(np.array([y]), np.array([f])))
    half = f - y + (y * np.log(y / f) if y > 0 else 0.0)
    assert d * d / 2 == pytest.approx(half, rel=1e-6, abs=1e-13 * (f + y))
    assert np.sign(d) in (0, np.sign(f - y))
    if abs(f - y) > 1e-6 * y:
        assert d * slope == pytest.approx(1 - y / f, rel=1e-7)


@pytest.mark.parametrize("u", [0.0, 1e-14, -1e-9, 1e-5, 0.0999999, 0.1000001, -0.0999999, -0.1000001])
def test_no_digits_are_lost_where_mean_and_count_meet(u):
    """sqrt(y) u (1 - u/3 + 7u²/36 - 73u³/540 + ...), and no step where the series ends."""
    y = 400.0
    d, slope = (float(part[0]) for part in deviance_residuals(np.array([y]), np.array([y * (1 + u)])))
    if abs(u) < 1e-4:
        assert d == pytest.approx(20 * u * (1 - u / 3), rel=1e-7)
    beside = [
        float(deviance_residuals(np.array([y]), np.array([y * (1 + u + e)]))[0][0]) for e in (-1e-6, 1e-6)
    ]
    assert slope == pytest.approx((beside[1] - beside[0]) / (2e-6 * y), rel=1e-7)
    assert beside[0] < d < beside[1]


def test_where_the_mean_is_not_positive():
    d, slope = deviance_residuals(np.array([0.0, 1.0, 0.0, 2.0]), np.array([0.0, 0.0, -1e-9, -3.0]))
    assert d[0] == pytest.approx(0.0, abs=1e-40)
    assert np.isfinite(slope[0])
    assert np.isnan(d[1:]).all()


@settings(max_examples=20)
@given(st.floats(0.1, 10))
def test_equal_weights_change_errors_alone(weight):
    data = decay()
    plain = gradfit.fit(DECAY, data, loss="poisson", start=[30, 2, 4])
    result = gradfit.fit(DECAY, data, loss="poisson", start=[30, 2, 4], weights=weight)
    assert result.parameters == pytest.approx(plain.parameters, rel=1e-7)
    assert result.deviance == pytest.approx(weight * plain.deviance)
    assert list(result.errors.values()) == pytest.approx(np.array(list(plain.errors.values())) / weight**0.5)


def test_weights_of_two_are_rows_twice():
    data = decay()
    twice = {name: np.repeat(values, 2) for name, values in data.items()}
    one = gradfit.fit(DECAY, data, loss="poisson", weights=np.full(60, 2.0))
    two = gradfit.fit(DECAY, twice, loss="poisson")
    assert one.parameters == pytest.approx(two.parameters, rel=1e-8)
    assert one.log_likelihood == pytest.approx(two.log_likelihood)
    assert list(one.errors.values()) == pytest.approx(list(two.errors.values()))


# ---------------------------------------------------------------------------- what the result says


def test_the_numbers_of_a_result():
    data = decay()
    result = gradfit.fit(DECAY, data, loss="poisson")
    mean = result.fitted
    assert result.residuals == pytest.approx(data["y"] - mean)
    assert float(result.weighted_residuals @ result.weighted_residuals) == pytest.approx(result.deviance)
    assert np.sign(result.weighted_residuals) == pytest.approx(np.sign(result.residuals))
    assert result.reduced_chi2 == pytest.approx(result.deviance / 57)
    assert result.dispersion == pytest.approx(float(np.sum((data["y"] - mean) ** 2 / mean)) / 57)
    constant = gradfit.fit("y = m + 0*t", data, loss="poisson")
    assert result.r2 == pytest.approx(1 - result.deviance / constant.deviance)
    assert result.leverage.sum() == pytest.approx(3)
    assert result.aic == pytest.approx(6 - 2 * result.log_likelihood)


def test_text_report_and_file_speak_of_the_deviance(tmp_path):
    result = gradfit.fit(DECAY, decay(), loss="poisson")
    text = result.summary()
    assert f"deviance {result.deviance:.1f} for 57 degrees of freedom" in text
    assert "deviance explained" in text
    assert "r²" not in text
    page = result.report(tmp_path / "fit.html").read_text()
    assert "Deviance" in page
    assert "r²" not in page
    assert "the model says how counts scatter" in page
    again = gradfit.load(result.save(tmp_path / "fit.json"))
    assert again.to_dict() == result.to_dict()
    assert again.predict({"t": [3.0]}).prediction == result.predict({"t": [3.0]}).prediction
    assert (again.deviance, again.dispersion, again.loss_name) == (
        result.deviance,
        result.dispersion,
        "poisson",
    )


@pytest.mark.parametrize("mean", [0.3, 1.0, 2.0, 3.3, 7.0, 40.0, 2500.0])
def test_the_band_of_new_readings_holds_them(mean):
    random = np.random.default_rng(5)
    result = gradfit.fit(
        "y = m + 0*x", {"x": np.arange(400.0), "y": random.poisson(mean, 400)}, loss="poisson"
    )
    low, high = (float(end[0]) for end in result.predict({"x": [0.0]}).prediction)
    new = random.poisson(mean, 200_000)
    assert low >= 0
    assert 0.93 < np.mean((new >= low) & (new <= high)) <= 1.0


# ---------------------------------------------------------------------------- findings


@pytest.mark.parametrize("mean", [0.02, 0.3, 2.0, 50.0, 1e6])
def test_quantile_residuals_are_normal(mean):
    y = np.random.default_rng(8).poisson(mean, 20_000).astype(float)
    q = quantile_residuals(y, np.full_like(y, mean), (y - mean) / mean**0.5)
    assert q.mean() == pytest.approx(0, abs=0.03)
    assert q.std() == pytest.approx(1, abs=0.02)
    assert np.mean(np.abs(q) > 2.5758) == pytest.approx(0.01, abs=0.003)


def test_healthy_counts_are_seldom_blamed():
    blamed = 0
    for seed in range(300):
        size = float(10 ** np.random.default_rng(seed).uniform(1.3, 4))
        result = gradfit.fit(
            DECAY, decay(seed, size, 0.2 * size), loss="poisson", start=[size, 2, 0.2 * size]
        )
        blamed += any(f.severity != "info" for f in result.findings)
    assert blamed <= 5  # 1 or 2 are expected


def test_scatter_above_chance_is_found_and_its_remedy_mends_it():
    random = np.random.default_rng(2)
    mean = 60 * np.exp(-T / 3) + 20
    data = {"t": T, "y": random.poisson(random.gamma(mean / 2, 2))}  # variance 3 times the mean
    result = gradfit.fit(DECAY, data, loss="poisson")
    (found,) = (f for f in result.findings if f.code == "overdispersion")
    assert result.verdict == "caution"
    assert "times as far as chance takes them" in found.message
    assert found.evidence["dispersion"] == pytest.approx(result.dispersion)
    weights = re.fullmatch(r'weights="([\d.]+)"', found.remedy)
    mended = gradfit.fit(DECAY, data, loss="poisson", weights=weights[1])
    assert mended.verdict == "trust"
    assert mended.dispersion == pytest.approx(1, rel=5e-3)
    assert mended.errors["a"] == pytest.approx(result.errors["a"] * result.dispersion**0.5, rel=5e-3)


def test_means_are_no_counts():
    data = {"t": T, "y": 60 * np.exp(-T / 3) + 20 + 0.3 * np.random.default_rng(0).normal(size=60)}
    result = gradfit.fit(DECAY, data, loss="poisson")
    assert "underdispersion" in codes(result)
    assert any("60 counts of 60 are no whole number" in note for note in result.data.notes)


def test_a_bad_row_is_left_out_not_weighed_down():
    data = decay(size=300.0, level=40.0)
    data["y"][7] += 200
    (found,) = (f for f in gradfit.fit(DECAY, data, loss="poisson").findings if f.code == "outliers")
    assert found.remedy == "exclude=[8]"


def test_a_wrong_model_is_found():
    data = {"t": T, "y": np.random.default_rng(1).poisson(80 + 40 * np.sin(T))}
    assert codes(gradfit.fit("y = a + b*t", data, loss="poisson")) & {"underfitting", "structured-residuals"}


# ---------------------------------------------------------------------------- means at and below zero


def test_a_start_below_zero_is_brought_to_where_the_model_is_positive():
    result = gradfit.fit(DECAY, decay(), loss="poisson", start=[-5, 3, 1])
    expected = gradfit.fit(DECAY, decay(), loss="poisson")
    assert result.parameters == pytest.approx(expected.parameters, rel=1e-6)
    assert "not positive" in result.how[0]


def test_a_line_whose_least_squares_run_below_zero():
    x = np.linspace(0, 10, 40)
    for seed in range(5):
        y = np.random.default_rng(seed).poisson(np.maximum(10 - 1.05 * x, 0.01))
        result = gradfit.fit("y = a*x + b", {"x": x, "y": y}, loss="poisson")

        def deviance(a, y=y):  # the mean is zero at the last row
            mean = a * (10 - x[:-1])
            return 2 * np.sum(
                mean - y[:-1] + np.where(y[:-1] > 0, y[:-1] * np.log(np.maximum(y[:-1], 1) / mean), 0)
            )

        a = y[:-1].sum() / np.sum(10 - x[:-1])
        if "mean-at-zero" in codes(result):
            assert result.deviance == pytest.approx(deviance(a), abs=1e-3)
            assert result.verdict == "caution"
    assert "mean-at-zero" in codes(result)


def test_an_offset_that_runs_below_zero_gets_a_bound():
    data = {"t": T, "y": np.random.default_rng(1).poisson(20 * np.exp(-T))}
    result = gradfit.fit(DECAY, data, loss="poisson")
    (found,) = (f for f in result.findings if f.code == "mean-at-zero")
    assert found.remedy == 'bounds={"c": (0, None)}'
    held = gradfit.fit(DECAY, data, loss="poisson", bounds={"c": (0, None)})
    assert (held.verdict, held.values["c"]) == ("trust", 0.0)


@pytest.mark.parametrize("size", [1e-200, 1e-6, 1e15, 1e200])
def test_any_size_of_counts(size):
    y = size * (np.exp(-T / 3) + 0.1)
    result = gradfit.fit("y = a*exp(-t/tau) + c", {"t": T, "y": y}, loss="poisson")
    assert list(result.values.values()) == pytest.approx([size, 3.0, 0.1 * size], rel=1e-6)


# ---------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"sigma": 1.0}, "so sigma= has no place\nLeave sigma= out"),
        ({"sigma": np.eye(60)}, "so sigma= has no place"),
        ({"loss": "poisson:2"}, 'loss="poisson" has no scale'),
        ({"loss": "poison"}, "There is no loss 'poison'\nDid you mean poisson"),
    ],
)
def test_wrong_options(options, said):
    with pytest.raises(gradfit.GradfitError) as error:
        gradfit.fit(DECAY, decay(), **{"loss": "poisson", **options})
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("model", "y", "said"),
    [
        (
            "y = a + 0*t",
            np.where(T > 9, -1.0, 5.0),
            "the response is below zero in rows 55, 56, 57, 58, 59 and 60",
        ),
        ("y = a + 0*t", np.zeros(60), "All 60 counts are zero"),
        ("y = a*t", np.ones(60), "y = a*t is 0 where the mean of a count must be above zero"),
        ("y = -a**2*(t + 1)", np.ones(60), "is finite at none of"),
    ],
)
def test_wrong_data(model, y, said):
    with pytest.raises(gradfit.GradfitError, match=re.escape(said)):
        gradfit.fit(model, {"t": T, "y": y}, loss="poisson")
