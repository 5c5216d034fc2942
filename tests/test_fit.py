"""fit(): what it takes, what comes back, and the statistics it reports."""

import json
import pkgutil

import numpy as np
import pandas
import polars
import pyarrow
import pytest
import torch
from answers import DATA, REAL
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from scipy.optimize import curve_fit as scipy_curve_fit
from scipy.optimize import least_squares

import gradfit

T_C = [0.5, 14, 15, 28, 11, 8, 3, -4, 6, 13, 21]
T_U = [35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4]
DECAY = "y = a*exp(-x/tau) + c"


def decay_data(n=40, noise=0.05, seed=0):
    random = np.random.default_rng(seed)
    x = np.linspace(0, 5, n)
    return {"x": x, "y": 3 * np.exp(-x / 1.3) + 0.5 + random.normal(0, noise, n)}


# ---------------------------------------------------------------------------- the reference example


def test_thermometer():
    result = gradfit.fit("t_c = w*t_u + b", {"t_u": T_U, "t_c": T_C})
    assert result.values == pytest.approx({"w": 0.53677192, "b": -17.30478550}, rel=1e-8)
    assert result.errors == pytest.approx({"w": 0.03553860, "b": 1.92722726}, rel=1e-7)
    assert result.verdict == "trust"
    assert result.params["w"].interval(0.95) == pytest.approx((0.45637802, 0.61716582), rel=1e-6)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_thermometer_by_gradient_descent(dtype):
    data = {"t_un": 0.1 * np.array(T_U), "t_c": T_C}
    one = gradfit.fit("t_c = w*t_un + b", data, start=[1, 0], solver="SGD", lr=1e-2, epochs=1, dtype=dtype)
    assert list(one.values.values()) == pytest.approx([1.7761, 0.1064], abs=5e-5)
    many = gradfit.fit(
        "t_c = w*t_un + b", data, start=[1, 0], solver="SGD", lr=1e-2, epochs=5000, dtype=dtype
    )
    assert list(many.values.values()) == pytest.approx(
        [5.3671, -17.3012], abs=2e-3 if dtype == "float32" else 5e-5
    )
    assert many.loss == pytest.approx(2.9276, abs=5e-5)
    assert many.history.loss[many.history.step == 499][0] == pytest.approx(7.8601, abs=5e-5)
    raw = gradfit.fit(
        "t_c = w*t_u + b",
        {"t_u": T_U, "t_c": T_C},
        start=[1, 0],
        solver="SGD",
        lr=1e-4,
        epochs=1,
        dtype=dtype,
    )
    assert raw.history.gradient[0] == pytest.approx([4517.2969, 82.6000], abs=2e-3)


# ---------------------------------------------------------------------------- data in any container

CONTAINERS = {
    "lists": lambda d: {k: v.tolist() for k, v in d.items()},
    "tuples": lambda d: {k: tuple(v.tolist()) for k, v in d.items()},
    "float32": lambda d: {k: v.astype(np.float32) for k, v in d.items()},
    "x float32, y float64": lambda d: {"x": d["x"].astype(np.float32), "y": d["y"]},
    "columns of shape (N, 1)": lambda d: {k: v[:, None] for k, v in d.items()},
    "pandas with odd index": lambda d: pandas.DataFrame(d, index=np.arange(len(d["x"]))[::-1] * 7),
    "pandas series": lambda d: {
        k: pandas.Series(v, index=np.random.default_rng(0).permutation(len(v))) for k, v in d.items()
    },
    "polars": polars.DataFrame,
    "pyarrow": pyarrow.table,
    "torch": lambda d: {k: torch.as_tensor(v) for k, v in d.items()},
    "torch with gradient": lambda d: {k: torch.as_tensor(v).requires_grad_() for k, v in d.items()},
    "structured array": lambda d: np.rec.fromarrays([d["x"], d["y"]], names=["x", "y"]),
    "grid": lambda d: {k: v.reshape(8, 5) for k, v in d.items()},
}


@pytest.mark.parametrize("container", CONTAINERS)
def test_every_container_gives_the_same_answer(container):
    data = {k: np.round(v * 8) / 8 for k, v in decay_data().items()}  # exact in float32
    plain = gradfit.fit(DECAY, data, start=[3, 1, 0])
    other = gradfit.fit(DECAY, CONTAINERS[container](data), start=[3, 1, 0])
    assert other.values == plain.values
    assert other.errors == plain.errors


def test_integers_are_numbers():
    x, y = [0, 1, 2, 3, 4], [1, 3, 4, 8, 9]
    as_int = gradfit.fit("y = a*x + b", {"x": np.array(x), "y": np.array(y, dtype=np.int16)})
    as_float = gradfit.fit("y = a*x + b", {"x": np.array(x, float), "y": np.array(y, float)})
    assert as_int.values == as_float.values


def test_two_dimensional_inputs_are_a_long_table():
    xx, yy = np.meshgrid(np.linspace(-1, 1, 9), np.linspace(-1, 1, 7))
    z = 2 * np.exp(-((xx - 0.1) ** 2 + (yy + 0.2) ** 2) / 0.5)
    z += np.random.default_rng(0).normal(0, 0.01, z.shape)
    result = gradfit.fit("z = a*exp(-((u - p)**2 + (v - q)**2)/w)", {"u": xx, "v": yy, "z": z})
    assert result.values == pytest.approx({"a": 2, "p": 0.1, "q": -0.2, "w": 0.5}, abs=0.03)


# ---------------------------------------------------------------------------- weights


def test_sigma_is_absolute_and_weights_are_relative():
    data = decay_data()
    sigma = np.linspace(0.03, 0.08, 40)
    known = gradfit.fit(DECAY, data, sigma=sigma, start=[3, 1, 0])
    tenfold = gradfit.fit(DECAY, data, sigma=10 * sigma, start=[3, 1, 0])
    relative = gradfit.fit(DECAY, data, weights=1 / sigma**2, start=[3, 1, 0])
    for name in known.values:
        assert tenfold.values[name] == pytest.approx(known.values[name], rel=1e-9)
        assert tenfold.errors[name] == pytest.approx(10 * known.errors[name], rel=1e-8)
        assert relative.values[name] == pytest.approx(known.values[name], rel=1e-9)
        assert relative.errors[name] == pytest.approx(
            known.errors[name] * np.sqrt(known.reduced_chi2), rel=1e-8
        )


@pytest.mark.parametrize("absolute", [True, False])
def test_errors_agree_with_scipy(absolute):
    data, sigma = decay_data(), np.linspace(0.03, 0.08, 40)
    p, cov = scipy_curve_fit(
        lambda x, a, tau, c: a * np.exp(-x / tau) + c,
        data["x"],
        data["y"],
        [3, 1, 0],
        sigma,
        absolute,
        xtol=1e-14,
        ftol=1e-14,
        gtol=1e-14,
    )
    ours = gradfit.fit(
        DECAY, data, start=[3, 1, 0], **({"sigma": sigma} if absolute else {"weights": 1 / sigma**2})
    )
    assert list(ours.values.values()) == pytest.approx(p, rel=1e-6)
    assert ours.covariance == pytest.approx(cov, rel=1e-5)


def test_weights_as_column_expression_and_array_agree():
    data = decay_data() | {"w": 1 / decay_data()["y"] ** 2}
    ways = [gradfit.fit(DECAY, data, weights=w, start=[3, 1, 0]).values for w in ("w", "1/y**2", data["w"])]
    assert ways[0] == pytest.approx(ways[1], rel=1e-12)
    assert ways[0] == pytest.approx(ways[2], rel=1e-12)


def test_correlated_errors_equal_a_whitened_problem():
    data = decay_data()
    lag = np.abs(np.subtract.outer(np.arange(40), np.arange(40)))
    covariance = 0.05**2 * 0.6**lag
    result = gradfit.fit(DECAY, data, sigma=covariance, start=[3, 1, 0])
    white = np.linalg.inv(np.linalg.cholesky(covariance))

    def residual(p):
        return white @ (p[0] * np.exp(-data["x"] / p[1]) + p[2] - data["y"])

    reference = least_squares(residual, [3, 1, 0], xtol=1e-15, ftol=1e-15, gtol=1e-15)
    assert list(result.values.values()) == pytest.approx(reference.x, rel=1e-6)
    errors = np.sqrt(np.diag(np.linalg.inv(reference.jac.T @ reference.jac)))
    assert list(result.errors.values()) == pytest.approx(errors, rel=1e-5)
    assert result.chi2 == pytest.approx(2 * reference.cost, rel=1e-9)


def test_rows_drop_together_with_their_sigma():
    data, sigma = decay_data(), np.linspace(0.03, 0.08, 40)
    holes = {k: v.copy() for k, v in data.items()}
    holes["y"][[3, 17]] = np.nan
    keep = np.delete(np.arange(40), [3, 17])
    dropped = gradfit.fit(DECAY, holes, sigma=sigma, missing="drop", start=[3, 1, 0])
    by_hand = gradfit.fit(DECAY, {k: v[keep] for k, v in data.items()}, sigma=sigma[keep], start=[3, 1, 0])
    assert dropped.values == by_hand.values
    assert dropped.n == 38
    assert any("2 of 40 rows" in line for line in dropped.data.left_out)


def test_where_and_exclude_leave_out_the_same_rows():
    data = decay_data()
    where = gradfit.fit(DECAY, data, where="x > 0.3 and x < 4", start=[3, 1, 0])
    mask = (data["x"] > 0.3) & (data["x"] < 4)
    exclude = gradfit.fit(DECAY, data, exclude=(np.flatnonzero(~mask) + 1).tolist(), start=[3, 1, 0])
    assert where.values == exclude.values
    assert where.n == int(mask.sum())


# ---------------------------------------------------------------------------- bounds, fixed, start


def test_an_active_bound_gives_the_constrained_minimum():
    data = decay_data()
    bounded = gradfit.fit(DECAY, data, bounds={"tau": (1.5, 4)}, start=[3, 2, 0])
    on_it = gradfit.fit(DECAY, data, fixed={"tau": 1.5})
    assert bounded.values == pytest.approx(on_it.values, rel=1e-8)
    assert bounded.params["tau"].at_bound
    assert np.isnan(bounded.params["tau"].stderr)
    assert bounded.errors["a"] == pytest.approx(on_it.errors["a"], rel=0.02)  # one degree of freedom apart
    assert bounded.findings[0].code == "at-bound"
    assert bounded.verdict == "caution"


@given(st.lists(st.tuples(st.floats(-2, 2), st.floats(0.0, 3.0)), min_size=3, max_size=3), st.integers(0, 99))
def test_bounded_fits_are_minima_to_scipy(edges, seed):
    data = decay_data(noise=0.3, seed=seed)
    low = np.array([2 + edges[0][0], 0.3 + abs(edges[1][0]), edges[2][0]])
    high = low + np.array([e[1] for e in edges]) + 0.05
    start = (low + high) / 2

    def residual(p):
        return p[0] * np.exp(-data["x"] / p[1]) + p[2] - data["y"]

    ours = gradfit.fit(DECAY, data, start=start.tolist(), bounds=(low, high))
    point = np.array(list(ours.values.values()))
    assert all(low <= point) and all(point <= high)
    inside = np.clip(point, low + 1e-9, high - 1e-9)  # SciPy's method starts inside
    further = least_squares(
        residual, inside, bounds=(low, high), xtol=1e-15, ftol=1e-15, gtol=1e-15, max_nfev=2000
    )
    assert ours.rss <= 2 * further.cost * (1 + 1e-7)  # nothing lower in this basin


@pytest.mark.parametrize(
    "bounds",
    [
        {"tau": (None, 4)},
        {"tau": [0, 4]},
        [(None, None), (0, 4), (None, None)],
        ([-np.inf, 0, -np.inf], [np.inf, 4, np.inf]),
    ],
)
def test_every_form_of_bounds(bounds):
    result = gradfit.fit(DECAY, decay_data(), start=[3, 1, 0], bounds=bounds)
    assert result.params["tau"].bounds[1] == 4
    assert result.params["a"].bounds == (-np.inf, np.inf)


def test_a_start_on_a_bound_can_leave_it():
    result = gradfit.fit(DECAY, decay_data(), start=[3, 0.5, 0], bounds={"tau": (0.5, 5), "c": (0, 1)})
    assert result.converged and result.values["tau"] == pytest.approx(1.2557, abs=1e-3)


def test_equal_bounds_fix_a_parameter():
    result = gradfit.fit(DECAY, decay_data(), bounds={"c": (0.5, 0.5)}, start=[3, 1, 0.5])
    assert result.params["c"].fixed and result.values["c"] == 0.5
    assert result.values == pytest.approx(gradfit.fit(DECAY, decay_data(), fixed={"c": 0.5}).values, rel=1e-9)


def test_fixed_parameters_have_no_error():
    result = gradfit.fit(DECAY, decay_data(), fixed={"c": 0.5})
    assert result.params["c"].fixed and np.isnan(result.params["c"].stderr)
    assert result.params["c"].interval() == (0.5, 0.5)
    assert result.k == 2 and result.dof == 38
    assert (result.covariance[2] == 0).all()


def test_all_parameters_fixed_is_an_evaluation():
    result = gradfit.fit(DECAY, decay_data(), fixed={"a": 3, "tau": 1.3, "c": 0.5})
    assert result.k == 0 and result.converged
    assert result.rss == pytest.approx(float(np.sum(result.residuals**2)))


def test_a_partial_start_is_completed():
    result = gradfit.fit(DECAY, decay_data(), start={"tau": 1.0})
    assert result.values["tau"] == pytest.approx(1.2557, abs=1e-3)


def test_the_start_is_obeyed_and_echoed():
    x = np.linspace(0, 6, 60)
    data = {"x": x, "y": np.sin(5 * x) + np.random.default_rng(0).normal(0, 0.02, 60)}
    near = gradfit.fit("y = sin(w*x)", data, start={"w": 4.9})
    assert near.params["w"].start == 4.9 and near.values["w"] == pytest.approx(5, abs=0.01)


# ---------------------------------------------------------------------------- statistics


def test_statistics_of_a_line_are_the_textbook_ones():
    result = gradfit.fit("t_c = w*t_u + b", {"t_u": T_U, "t_c": T_C})
    x, y = np.array(T_U), np.array(T_C)
    reference = stats.linregress(x, y)
    assert result.r2 == pytest.approx(reference.rvalue**2)
    assert result.errors["w"] == pytest.approx(reference.stderr)
    assert result.errors["b"] == pytest.approx(reference.intercept_stderr)
    assert result.dof == 9 and result.n == 11 and result.k == 2
    assert result.scatter == pytest.approx(np.sqrt(result.rss / 9))
    assert result.reduced_chi2 == pytest.approx(result.rss / 9)
    # R: AIC(lm(t_c ~ t_u)), BIC(...)
    n, rss = 11, result.rss
    loglik = -n / 2 * (np.log(2 * np.pi * rss / n) + 1)
    assert result.aic == pytest.approx(2 * 3 - 2 * loglik)
    assert result.bic == pytest.approx(np.log(n) * 3 - 2 * loglik)
    assert result.aicc == pytest.approx(result.aic + 2 * 3 * 4 / (n - 4))
    hat = np.c_[x, np.ones(n)] @ np.linalg.pinv(np.c_[x, np.ones(n)])
    assert result.leverage == pytest.approx(np.diag(hat))
    assert result.residuals == pytest.approx(y - result.fitted)
    assert result.correlation[0, 1] == pytest.approx(
        result.covariance[0, 1] / (result.errors["w"] * result.errors["b"])
    )


def test_bands_are_the_textbook_ones():
    result = gradfit.fit("t_c = w*t_u + b", {"t_u": T_U, "t_c": T_C})
    new = np.array([20.0, 50.0, 100.0])
    x = np.array(T_U)
    band = result.scatter * np.sqrt(1 / 11 + (new - x.mean()) ** 2 / np.sum((x - x.mean()) ** 2))
    t = stats.t.ppf(0.95, 9)
    predicted = result.predict({"t_u": new}, level=0.9)
    assert predicted.stderr == pytest.approx(band)
    assert predicted.confidence[1] - predicted.value == pytest.approx(t * band)
    assert predicted.prediction[1] - predicted.value == pytest.approx(t * np.hypot(band, result.scatter))
    assert predicted.to_frame().columns[:3] == ["t_u", "t_c", "stderr"]


def test_bands_cover_what_they_say():
    """A 95 % interval, confidence band and prediction band hold 95 % of the time: 400 repeats, binomial bounds of 4 s.d."""
    x = np.linspace(0, 5, 30)
    truth = 3 * np.exp(-x / 1.3) + 0.5
    model, random = gradfit.Model(DECAY), np.random.default_rng(1)
    inside = np.zeros(3)
    for _ in range(400):
        result = model.fit({"x": x, "y": truth + random.normal(0, 0.2, 30)}, start=[3, 1.3, 0.5])
        low, high = result.params["tau"].interval()
        at = result.predict({"x": [1.7]})
        value = 3 * np.exp(-1.7 / 1.3) + 0.5
        reading = value + random.normal(0, 0.2)
        inside += [
            low < 1.3 < high,
            at.confidence[0][0] < value < at.confidence[1][0],
            at.prediction[0][0] < reading < at.prediction[1][0],
        ]
    assert np.all(np.abs(inside / 400 - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 400))


def test_variances_are_the_diagonal():
    result = gradfit.fit(DECAY, decay_data(), start=[3, 1, 0])
    assert np.sqrt(np.diag(result.covariance)) == pytest.approx(list(result.errors.values()))


def test_level_changes_intervals_only():
    result = gradfit.fit(DECAY, decay_data(), start=[3, 1, 0])
    narrow = result.at_level(0.5)
    assert narrow.values == result.values
    assert np.ptp(narrow.params["a"].interval()) < np.ptp(result.params["a"].interval())
    assert result.level == 0.95


# ---------------------------------------------------------------------------- robust losses


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy"])
def test_robust_minimum_is_scipys(loss):
    data = decay_data()
    data["y"][[5, 20, 33]] += [1.5, -2, 1]

    def residual(p):
        return p[0] * np.exp(-data["x"] / p[1]) + p[2] - data["y"]

    reference = least_squares(
        residual, [3, 1, 0], loss=loss, f_scale=0.1, xtol=1e-15, ftol=1e-15, gtol=1e-12, max_nfev=5000
    )
    ours = gradfit.fit(DECAY, data, loss=gradfit.Loss(loss, 0.1), start=[3, 1, 0])
    assert ours.loss == pytest.approx(2 * reference.cost, rel=1e-9)
    assert list(ours.values.values()) == pytest.approx(reference.x, rel=1e-4)
    assert gradfit.fit(DECAY, data, loss=f"{loss}:0.1", start=[3, 1, 0]).values == ours.values


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "bisquare"])
def test_robust_fit_with_its_own_scale_ignores_outliers(loss):
    clean, data = decay_data(), decay_data()
    data["y"][[5, 20, 33]] += [15, -20, 10]
    truth = gradfit.fit(DECAY, clean, start=[3, 1, 0])
    robust = gradfit.fit(DECAY, data, loss=loss, start=[3, 1, 0])
    for name in truth.values:
        assert abs(robust.values[name] - truth.values[name]) < 2 * truth.errors[name]
    assert "scale=" in robust.loss_name


@pytest.mark.parametrize("loss", ["soft_l1", "huber", "cauchy", "bisquare"])
def test_robust_errors_hold(loss):
    """Standard errors against the scatter of 300 repeats with 5 % wild readings: within 25 %."""
    x, random = np.linspace(0, 5, 60), np.random.default_rng(3)
    estimates, errors = [], []
    model = gradfit.Model("y = a*x + b")
    for _ in range(300):
        y = (
            2 * x
            + 1
            + random.normal(0, 0.2, 60)
            + np.where(random.random(60) < 0.05, random.normal(0, 4, 60), 0)
        )
        result = model.fit({"x": x, "y": y}, loss=loss)
        estimates.append(result.values["a"])
        errors.append(result.errors["a"])
    assert np.median(errors) == pytest.approx(np.std(estimates), rel=0.25)


def test_robust_efficiency_on_clean_data_is_what_the_scale_promises():
    result = gradfit.fit(DECAY, decay_data(n=400), loss="bisquare", start=[3, 1, 0])
    plain = gradfit.fit(DECAY, decay_data(n=400), start=[3, 1, 0])
    for name in plain.errors:
        assert result.errors[name] == pytest.approx(plain.errors[name], rel=0.1)


# ---------------------------------------------------------------------------- functions


def numpy_decay(x, a, tau, c):
    return a * np.exp(-x / tau) + c


def torch_decay(x, a, tau, c):
    return a * torch.exp(-x / tau) + c


def starred(x, *params):
    a, tau, c = params
    return a * np.exp(-x / tau) + c


def other_name(abscissa, a, tau, c):
    return a * np.exp(-abscissa / tau) + c


@pytest.mark.parametrize(
    "function", [numpy_decay, torch_decay, starred, other_name], ids=lambda f: f.__name__
)
def test_functions_give_the_formulas_answer(function):
    formula = gradfit.fit(DECAY, decay_data(), start=[3, 1, 0])
    result = gradfit.fit(function, decay_data(), start=[3, 1, 0], response="y")
    assert list(result.values.values()) == pytest.approx(list(formula.values.values()), rel=1e-10)
    assert list(result.errors.values()) == pytest.approx(list(formula.errors.values()), rel=1e-8)
    assert result.executor in {"numpy", "native"}


def test_what_cannot_be_traced_says_so_and_still_fits():
    import math

    def slow(x, a, tau, c):
        return [a * math.exp(-v / tau) + c for v in x]

    formula = gradfit.fit(DECAY, decay_data(), start=[3, 1, 0])
    result = gradfit.fit(slow, decay_data(), start=[3, 1, 0])
    assert "differences" in result.executor
    assert any("could not be traced" in line for line in result.how)
    assert list(result.values.values()) == pytest.approx(list(formula.values.values()), rel=1e-8)
    assert list(result.errors.values()) == pytest.approx(list(formula.errors.values()), rel=1e-6)


def test_library_models_by_name():
    result = gradfit.fit("exponential_decay", {"time": decay_data()["x"], "volts": decay_data()["y"]})
    assert result.starts.source == "library"
    assert result.values["tau"] == pytest.approx(1.2557, abs=1e-3)


# ---------------------------------------------------------------------------- results


def test_rivals_names_are_answered_with_ours():
    result = gradfit.fit(DECAY, decay_data(), start=[3, 1, 0])
    for name, hint in {
        "redchi": "reduced_chi2",
        "best_fit": "fitted",
        "popt": "values",
        "covar": "covariance",
    }.items():
        with pytest.raises(AttributeError, match=hint):
            getattr(result, name)


def test_a_wrong_parameter_name_is_answered_with_the_right_ones():
    result = gradfit.fit(DECAY, decay_data(), start=[3, 1, 0])
    with pytest.raises(KeyError, match="a, tau, c"):
        result.params["b"]


def test_a_callback_stops_the_fit():
    seen = []
    result = gradfit.fit(
        DECAY, decay_data(), start=[30, 9, 4], callback=lambda i, cost, p: seen.append(i) or i == 2
    )
    assert seen == [1, 2] and result.status == "interrupted" and result.verdict == "no"


def test_an_interrupt_returns_the_best_so_far():
    calls = []

    def impatient(i, cost, _):
        calls.append(cost)
        if i == 3:
            raise KeyboardInterrupt

    result = gradfit.fit(DECAY, decay_data(), start=[30, 9, 4], callback=impatient)
    assert result.status == "interrupted" and not result.converged
    assert result.loss == min(calls)
    assert "best parameters so far" in result.message


def test_out_of_iterations_returns_the_best_in_user_units():
    result = gradfit.fit(DECAY, decay_data(), start=[30, 9, 4], max_iterations=2, bounds={"tau": (0.1, 20)})
    assert not result.converged and result.verdict == "no"
    assert 0.1 <= result.values["tau"] <= 20
    assert result.rss == pytest.approx(float(np.sum(result.residuals**2)))


def test_model_is_reusable_and_immutable():
    model = gradfit.Model(DECAY)
    assert model.parameters == ("a", "tau", "c")
    assert model(x=0.0, a=1, tau=1, c=2) == 3
    first, second = (model.fit(decay_data(seed=s), start=[3, 1, 0]) for s in (0, 1))
    assert first.model is second.model  # nothing is traced twice
    with pytest.raises(AttributeError):
        model.definition = "y = x"
    guess = model.guess(decay_data())
    assert guess["tau"] == pytest.approx(1.26, abs=0.1)


def test_saved_numbers_are_json():
    result = gradfit.fit(DECAY, decay_data(), start=[3, 1, 0])
    again = json.loads(json.dumps(result.to_dict()))
    assert again["parameters"]["tau"]["value"] == result.values["tau"]


def test_a_step_may_gain_far_more_than_it_promised():
    model = "y = 1e60*(a < 0.5)*(x < 0.5) + a*(x > 0.5)"
    result = gradfit.fit(
        model, {"x": [0, 1, 2, 3], "y": [0, 1, 1.5, 0.5]}, start={"a": 0.0}, executor="numpy"
    )
    assert result.values["a"] == pytest.approx(1.0)


def test_every_public_name_is_there_and_none_is_a_module_too():
    modules = {module.name for module in pkgutil.iter_modules(gradfit.__path__)}
    assert not modules & set(gradfit.__all__)
    assert set(dir(gradfit)) == set(gradfit.__all__)
    for name in set(gradfit.__all__) - {"__version__"}:
        assert getattr(gradfit, name).__module__.startswith("gradfit."), name


def test_a_text_column_is_compared_inside_a_model():
    case = next(c for c in REAL if c.name == "puromycin_shared_K")
    path = DATA / "real" / "puromycin.csv"
    result = gradfit.fit('rate = (Vm + dV*(state == "treated"))*conc/(K + conc)', path)
    assert result.values == pytest.approx(case.params, rel=1e-8)
    both = result.predict({"conc": [0.5, 0.5], "state": ["treated", "untreated"]}).value
    vm, dv, k = (case.params[n] for n in ("Vm", "dV", "K"))
    assert both == pytest.approx([(vm + dv) * 0.5 / (k + 0.5), vm * 0.5 / (k + 0.5)], rel=1e-8)
