"""Many fits: the answers of fits one by one, and of arbitrary precision; the same bits in any company."""

import json

import numpy as np
import pytest
from answers import DATA, _chosen, digits

import gradfit

GAUSS = "y = a*exp(-0.5*((x - c)/w)**2) + b"
DECAY = "y = a*exp(-t/tau) + c"
PROBLEMS = [
    p
    for p in json.loads((DATA / "real" / "answers.json").read_text())["problems"]
    if p.get("group") or p.get("responses")
]
T = np.linspace(0, 10, 40)


def peaks(m=40, seed=0, noise=0.05):
    random = np.random.default_rng(seed)
    x = np.linspace(0, 10, 25)
    a, c, w, b = (random.uniform(low, high, (m, 1)) for low, high in ((3, 8), (3, 7), (0.5, 1.5), (0, 1)))
    y = a * np.exp(-0.5 * ((x - c) / w) ** 2) + b + noise * random.normal(size=(m, 25))
    start = {
        n: (v * random.uniform(0.9, 1.1, v.shape))[:, 0] for n, v in zip("acwb", (a, c, w, b), strict=True)
    }
    return x, y, start


def decays(m=30, seed=1):
    random = np.random.default_rng(seed)
    a, tau, c = (random.uniform(low, high, (m, 1)) for low, high in ((2, 9), (1, 5), (-1, 1)))
    return a * np.exp(-T / tau) + c + 0.05 * random.normal(size=(m, len(T)))


def numbers(many):
    ends = many.ends
    return np.column_stack(
        [ends.parameters, ends.stderr, ends.rss, ends.iterations, ends.status, ends.points]
    )


# ---------------------------------------------------------------------------- right answers


@pytest.mark.parametrize("executor", ["numpy", "native"])
@pytest.mark.parametrize("case", PROBLEMS, ids=lambda p: p["name"])
def test_grouped_problems_of_measured_data(case, executor):
    table = gradfit.read(DATA / "real" / case["file"])
    for column, rule in (case["where"] or {}).items():
        table = table.keep(_chosen(table.columns[column], rule))
    if case["group"]:
        many = gradfit.fit_many(
            case["formula"], table, by=case["group"], start=case["start"], executor=executor
        )
        names = [str(key).removesuffix(".0") for key in many.keys[case["group"]].tolist()]
    else:
        names = case["responses"]
        inputs = {n: table.columns[n] for n in ("b", "gx", "gy", "gz")}
        signal = np.stack([table.columns[n] for n in names])
        many = gradfit.fit_many(
            case["formula"], {**inputs, "signal": signal}, start=case["start"], executor=executor
        )
    assert many.converged.all()
    assert set(names) == set(case["params"])
    for i, name in enumerate(names):
        for n, value in case["params"][name].items():
            off = abs(many.values[n][i] - value) / case["stderr"][name][n]
            # machine code stops at a share of the standard error: what is nearly 0 has fewer digits
            assert digits([many.values[n][i]], [value]) >= 6 or (executor == "native" and off < 1e-6)
        assert (
            digits([many.errors[n][i] for n in case["stderr"][name]], list(case["stderr"][name].values()))
            >= 4
        )
        assert digits([many.rss[i]], [case["minimum"][name]]) >= 6
        assert many.dof[i] == case["dof"][name]


CASES = {
    "given": {},
    "fixed": {"fixed": {"b": 0.5}},
    "bounds": {"bounds": {"c": (3.5, 6.0), "b": (0.3, None)}},
    "sigma": {"sigma": np.linspace(0.5, 2, 25)},
    "weights": {"weights": "1/(1 + x)"},
    "huber with a scale": {"loss": "huber:0.1"},
    "cauchy": {"loss": "cauchy"},
}


@pytest.mark.parametrize("options", CASES.values(), ids=CASES)
def test_the_answers_of_fits_one_by_one(options):
    x, y, start = peaks(12)
    y[:, 3] += 2.0
    inside = start | {"c": np.clip(start["c"], 3.6, 5.9), "b": np.clip(start["b"], 0.31, None)}
    inside = {n: v for n, v in inside.items() if n not in options.get("fixed", {})}
    many = gradfit.fit_many(GAUSS, {"x": x, "y": y}, start=inside, **options)
    for i in range(len(many)):
        one = gradfit.fit(
            GAUSS, {"x": x, "y": y[i]}, start={n: float(v[i]) for n, v in inside.items()}, **options
        )
        error = np.array([p.stderr if np.isfinite(p.stderr) else 1.0 for p in one.params.values()])
        off = np.abs(np.array([many.values[n][i] for n in one.values]) - one.parameters)
        assert (off / error).max() < 1e-6
        assert [many.errors[n][i] for n in one.errors] == pytest.approx(
            list(one.errors.values()), rel=1e-4, nan_ok=True
        )
        assert many.points[i] == one.n
        assert many.converged[i] == one.converged


def test_counts_are_fitted_by_maximum_likelihood():
    random = np.random.default_rng(4)
    shape = 30 * np.exp(-T / 3) + 2
    y = random.poisson(np.tile(shape, (400, 1))).astype(float)
    many = gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"a": 25.0, "tau": 2.0, "c": 1.0}, loss="poisson")
    assert many.converged.all()
    for name, truth in (("a", 30), ("tau", 3), ("c", 2)):
        pull = (many.values[name] - truth) / many.errors[name]
        assert abs(pull.mean()) < 0.2
        assert 0.85 < pull.std() < 1.15
    f = (
        np.exp(-T[None, :] / many.values["tau"][:, None]) * many.values["a"][:, None]
        + many.values["c"][:, None]
    )
    score = np.sum(1 - y / f, axis=1)  # the likelihood is flat in c
    assert np.abs(score) == pytest.approx(0, abs=1e-6)


def test_a_linear_model_needs_no_start_and_no_steps():
    y = np.stack([2 * T + 1, -T + 3, 0 * T + 7])
    many = gradfit.fit_many("y = a*t + b", {"t": T, "y": y})
    assert many.values["a"] == pytest.approx([2, -1, 0], abs=1e-12)
    assert many.values["b"] == pytest.approx([1, 3, 7], abs=1e-12)
    assert many.iterations.max() <= 2
    assert many.converged.all()


def test_a_start_for_the_nonlinear_parameter_alone_is_enough():
    y = decays()
    many = gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"tau": 2.0})
    whole = gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"a": 5, "tau": 2.0, "c": 0})
    assert many.converged.all()
    assert many.values["tau"] == pytest.approx(whole.values["tau"], rel=1e-8)


def test_no_start_values_reach_what_true_ones_reach():
    x, y, start = peaks(60)
    found = gradfit.fit_many(GAUSS, {"x": x, "y": y})
    given = gradfit.fit_many(GAUSS, {"x": x, "y": y}, start=start)
    assert found.rss == pytest.approx(given.rss, rel=1e-6)
    assert "each fit began at the best of" in found.how[-1]


def test_a_library_model_guesses_for_each_fit():
    x, y, start = peaks(20)
    many = gradfit.fit_many("gaussian", {"x": x, "y": y})
    assert many.converged.all()
    assert many.values["x0"] == pytest.approx(
        gradfit.fit_many(GAUSS, {"x": x, "y": y}, start=start).values["c"]
    )


def stretched(t, a, tau):
    return a * np.exp(-np.sqrt(t / tau))


def branching(t, a, tau):
    return np.array([float(a) * np.exp(-float(v) / float(tau)) if v < 5 else 0.0 for v in t])


@pytest.mark.parametrize("function", [stretched, branching])
def test_a_function_is_a_model_too(function):
    y = np.stack([function(T, 3.0, 2.0), function(T, 5.0, 3.0)])
    many = gradfit.fit_many(function, {"t": T, "y": y}, start={"a": [2.5, 4.0], "tau": 2.5})
    assert many.values["a"] == pytest.approx([3, 5], rel=1e-6)
    assert many.values["tau"] == pytest.approx([2, 3], rel=1e-6)


# ---------------------------------------------------------------------------- the same bits in any company


def ragged(y, seed=2):
    """Return a table of fits of different lengths with holes, rows in any order."""
    random = np.random.default_rng(seed)
    rows = [
        (f"fit {i}", t, v)
        for i, row in enumerate(y)
        for t, v in zip(T, row, strict=True)
        if random.random() < 0.7
    ]
    order = random.permutation(len(rows))
    key, t, v = (np.array(column)[order] for column in zip(*rows, strict=True))
    v = v.astype(float)
    v[::29] = np.nan
    return {"key": key, "t": t.astype(float), "y": v}


def test_a_fit_alone_has_the_bits_it_has_in_company():
    x, y, start = peaks(300)
    y[7], y[11, :3], y[13] = np.nan, np.inf, 1e30 * y[13]
    whole = numbers(gradfit.fit_many(GAUSS, {"x": x, "y": y}, start=start))
    for i in (0, 7, 11, 13, 150, 299):
        own = {n: v[i] for n, v in start.items()}
        alone = numbers(gradfit.fit_many(GAUSS, {"x": x, "y": y[i : i + 1]}, start=own))
        np.testing.assert_array_equal(alone[0], whole[i])
    order = np.random.default_rng(0).permutation(300)
    mixed = gradfit.fit_many(GAUSS, {"x": x, "y": y[order]}, start={n: v[order] for n, v in start.items()})
    np.testing.assert_array_equal(numbers(mixed), whole[order])


def test_a_ragged_group_alone_has_the_bits_it_has_in_company():
    table = ragged(decays())
    whole = gradfit.fit_many(DECAY, table, by="key", start={"tau": 2.0})
    for i in (0, 5, 29):
        key = whole.keys["key"][i]
        mine = {n: v[table["key"] == key] for n, v in table.items()}
        alone = gradfit.fit_many(DECAY, mine, by="key", start={"tau": 2.0})
        np.testing.assert_array_equal(numbers(alone)[0], numbers(whole)[i])


# ---------------------------------------------------------------------------- one in full


def test_one_of_them_in_full_agrees():
    table = ragged(decays())
    many = gradfit.fit_many(DECAY, table, by="key", start={"tau": 2.0})
    for key in ("fit 3", "fit 17"):
        i, one = many.place(key), many.result(key)
        assert one.converged
        assert [many.values[n][i] for n in one.values] == pytest.approx(list(one.values.values()), rel=1e-7)
        assert [many.errors[n][i] for n in one.errors] == pytest.approx(list(one.errors.values()), rel=1e-6)
        assert many.rss[i] == pytest.approx(one.rss)
        assert (many.points[i], many.dof[i]) == (one.n, one.dof)
        assert many.reduced_chi2[i] == pytest.approx(one.reduced_chi2)
        assert many.params["tau"].interval()[0][i] == pytest.approx(one.params["tau"].interval()[0])


@pytest.mark.parametrize(
    "options", [{"sigma": 0.05}, {"weights": "1/(1 + t)"}, {"fixed": {"c": 0.1}}, {"bounds": {"c": (0, 2)}}]
)
def test_one_of_them_in_full_agrees_with_options(options):
    many = gradfit.fit_many(DECAY, {"t": T, "y": decays(5)}, start={"a": 5, "tau": 2.0, "c": 0.5}, **options)
    one = many.result(3)
    assert [many.values[n][3] for n in one.values] == pytest.approx(list(one.values.values()), rel=1e-6)
    assert [many.errors[n][3] for n in one.errors] == pytest.approx(
        list(one.errors.values()), rel=1e-5, nan_ok=True
    )
