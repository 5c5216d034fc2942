"""Laws of a diagnosis: it knows no units and no order of rows, and its tests hold the level they claim."""

from dataclasses import replace

import numpy as np
import pytest
from fitted_evidence import decay, evidence, fitted, line, sine
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from gradfit.diagnose import diagnose, laws
from gradfit.diagnose.geometry import robust, tangent
from gradfit.diagnose.residuals import spread
from gradfit.diagnose.structure import durbin_watson, rows_of, sharpest_wave, slow_waves

X = np.linspace(0.1, 10, 80)
E = np.random.default_rng(80).normal(size=80)
FITS = {
    "healthy": fitted(decay, X, 5 * np.exp(-0.5 * X) + 1 + 0.1 * E, [4, 0.6, 0.9], "akc"),
    "redundant": fitted(lambda x, p: p[0] * p[1] * x + p[2], X, 2 * X + 1 + E, [1, 1.5, 0], "abc"),
    "wrong frequency": fitted(sine, X, np.sin(5 * X) + 0.1 * E, [1, 1, 0], "Awp"),
    "a bad row": fitted(line, X, 2 * X + 1 + 0.1 * E + 5 * (np.arange(80) == 30), [1, 1], "wb"),
    "growing scatter": fitted(line, X, X * (1 + 0.1 * E), [1, 1], "wb"),
    "rounded": fitted(line, X, np.round(2 * X + 1 + 0.1 * E), [1, 1], "wb"),
    "without noise": fitted(line, X, 2 * X + 1, [1, 1], "wb"),
    "a short record": fitted(decay, X / 50, 5 * np.exp(-X / 100) + 2 + 0.01 * E, [5, 0.5, 2], "akc"),
    "sigma too small": fitted(line, X, X + E, [1, 1], "wb", sigma=0.2, absolute=True),
}


def codes(e):
    return [(finding.code, finding.severity) for finding in diagnose(e).findings]


@pytest.mark.parametrize("name", FITS)
@given(
    x=st.integers(-12, 12), y=st.integers(-12, 12), p=st.lists(st.integers(-12, 12), min_size=3, max_size=3)
)
def test_units_of_x_y_and_the_parameters_change_nothing(name, x, y, p):
    e = FITS[name]
    unit, units = 10.0**y, 10.0 ** np.array(p[: len(e.names)])
    size = 1.0 if e.absolute else unit
    moved = replace(
        e, inputs={"x": e.inputs["x"] * 10.0**x}, y=e.y * unit, fitted=e.fitted * unit, residuals=e.residuals * size,
        jacobian=e.jacobian * size / units, values=e.values * units,
    )  # fmt: skip
    assert codes(moved) == codes(e)


@pytest.mark.parametrize("name", FITS)
@given(seed=st.integers(0, 99))
def test_the_order_of_the_rows_changes_nothing(name, seed):
    e = FITS[name]
    i = np.random.default_rng(seed).permutation(len(e.y))
    mixed = replace(
        e, inputs={"x": e.inputs["x"][i]}, y=e.y[i], fitted=e.fitted[i], residuals=e.residuals[i],
        jacobian=e.jacobian[i], rows=e.rows[i],
    )  # fmt: skip
    assert codes(mixed) == codes(e)
    if name != "redundant":  # its singular value is rounding
        assert [f.message for f in diagnose(mixed).findings] == [f.message for f in diagnose(e).findings]


@given(arrays.arrays(float, st.integers(1, 30), elements=st.integers(-3, 3).map(float)))
def test_ranks_are_scipys(values):
    assert np.array_equal(laws.ranks(values), stats.rankdata(values))


@given(arrays.arrays(float, (2, 12), elements=st.integers(-4, 4).map(float)))
def test_rank_correlation_is_scipys(pair):
    rho, p = laws.spearman(pair[0], pair[1], 12)
    if np.ptp(pair[0]) == 0 or np.ptp(pair[1]) == 0:
        assert (rho, p) == (0.0, 1.0)
    else:
        expected = stats.spearmanr(pair[0], pair[1])
        assert (rho, p) == pytest.approx((expected.statistic, expected.pvalue), abs=1e-9)


@given(st.floats(0, 50), st.integers(1, 9), st.integers(1, 200))
def test_tails_are_scipys(x, m, d):
    assert laws.f_tail(x, m, d) == pytest.approx(stats.f.sf(x, m, d), abs=1e-12)
    assert laws.chi2_tail(x, d / 2) == pytest.approx(stats.chi2.sf(x, d / 2), abs=1e-12)
    assert laws.beta_cdf(x / 50, m, d / 3) == pytest.approx(stats.beta.cdf(x / 50, m, d / 3), abs=1e-12)
    assert laws.student_quantile(d) == pytest.approx(stats.t.ppf(0.975, d), rel=1e-9)


def test_a_law_without_degrees_of_freedom_never_alarms():
    assert laws.f_tail(10.0, 0, 5) == laws.f_tail(10.0, 3, 0) == laws.f_tail(np.nan, 3, 5) == 1.0
    assert laws.beta_cdf(0.1, -1.0, 2.0) == laws.beta_cdf(0.1, np.nan, 2.0) == 1.0
    assert laws.f_tail(np.inf, 3, 5) == 0.0


@pytest.mark.parametrize("p", [1e-12, 1e-6, 1e-3])
def test_one_small_p_is_not_outvoted(p):
    assert laws.cauchy([p, 1.0, 0.5], [1, 1, 0.5]) == pytest.approx(2.5 * p, rel=0.1)


def p_values(n, sigma):
    """p of each residual test on 400 fits of a parabola to normal noise."""
    g = np.random.default_rng(n)
    x = np.sort(g.uniform(0, 1, n))
    J = np.vander(x, 3) / sigma[:, None]
    found = {"neighbours": [], "slow": [], "sharp": [], "spread": []}
    for e in g.normal(size=(400, n)):
        geometry = tangent(e - J @ np.linalg.lstsq(J, e, rcond=None)[0], J)
        rows, order = rows_of({"x": x}, x, sigma), np.arange(n)
        found["neighbours"].append(durbin_watson(geometry.r, geometry, order, sigma))
        found["slow"].append(slow_waves(geometry.r, geometry, rows))
        found["sharp"].append(sharpest_wave(geometry.r, geometry.dof).p)
        found["spread"].append(spread(robust(geometry), {"x": x}, geometry.dof).p)
    return found


@pytest.mark.parametrize("n", [12, 60])
@pytest.mark.parametrize("weighted", [False, True], ids=["even", "weighted"])
def test_no_test_alarms_more_often_than_it_says(n, weighted):
    sigma = np.exp(np.random.default_rng(1).normal(size=n)) if weighted else np.ones(n)
    for test, p in p_values(n, sigma).items():
        for level in (0.01, 0.05, 0.2):  # a binomial count that chance exceeds once in 10,000
            most = stats.binom.isf(1e-4, len(p), level)
            assert np.sum(np.array(p) < level) <= most, test


def test_the_law_of_neighbours_has_the_exact_mean_and_variance():
    """Against the matrices written out: d = r'Ar / r'r with r = Me."""
    g = np.random.default_rng(5)
    n, sigma = 15, np.exp(np.random.default_rng(6).normal(size=15))
    J = np.vander(np.linspace(0, 1, n), 3) / sigma[:, None]
    geometry = tangent(g.normal(size=n), J)
    D = np.zeros((n - 1, n))
    for i in range(n - 1):
        size = np.sqrt((sigma[i] ** 2 + sigma[i + 1] ** 2) / 2)
        D[i, i], D[i, i + 1] = -sigma[i] / size, sigma[i + 1] / size
    M = np.eye(n) - geometry.Q @ geometry.Q.T
    MA = M @ D.T @ D
    dof, first, second = n - 3, np.trace(MA), np.trace(MA @ MA)
    mean, variance = first / dof / 4, (dof * second - first**2) / (8 * dof**2 * (dof + 2))
    r = M @ geometry.r
    d = np.sum((D @ r) ** 2) / (r @ r)
    both = mean * (1 - mean) / variance - 1
    expected = stats.beta.cdf(d / 4, mean * both, (1 - mean) * both)
    assert durbin_watson(r, geometry, np.arange(n), sigma) == pytest.approx(expected, rel=1e-9)


@given(st.integers(1, 7), st.integers(0, 7), st.sampled_from([0.0, 1e-300, 1.0, 1e300]), st.integers(0, 999))
def test_any_arrays_get_a_diagnosis(n, k, size, seed):
    g = np.random.default_rng(seed)
    holes = g.choice([0.0, 1.0], (n, k)) * g.choice([1.0, 1e200, 1e-200], k)
    r = size * g.normal(size=n)
    e = evidence(line, g.integers(0, 3, n).astype(float), r, [0, 0], "wb")
    bounds = g.choice([0.0, -np.inf], k)
    e = replace(
        e, names=tuple("abcdefg"[:k]), residuals=r, jacobian=g.normal(size=(n, k)) * holes,
        values=np.maximum(g.normal(size=k), bounds), lower=bounds, upper=np.full(k, np.inf),
    )  # fmt: skip
    for finding in diagnose(e).findings:
        assert finding.message.endswith(".")
        assert "nan" not in finding.message.lower().split()
