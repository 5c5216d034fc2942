"""Fits of more rows than a Jacobian is made for: the same answers as from one, and what evaluates the model."""

import numpy as np
import pytest

import gradfit
from gradfit.native.small import SmallFits, small_fits
from gradfit.solve import pieces
from gradfit.solve.passes import CHUNK

N = CHUNK + 700
START = {"a": 2, "tau": 1, "c": 0}
DECAY = "y = a*exp(-x/tau) + c"
CASES = {
    "plain": (DECAY, {"start": START}),
    "weights": (DECAY, {"start": START, "weights": "1/(1 + x)**2"}),
    "sigma": (DECAY, {"start": START, "sigma": "0.05*(1 + x)"}),
    "fixed": (DECAY, {"start": START, "fixed": {"c": 0.5}}),
    "at a bound": (DECAY, {"start": START, "bounds": {"c": (0, 0.4)}}),
    "robust": (DECAY, {"start": START, "loss": "huber"}),
    "no start": (DECAY, {}),
    "a line": ("y = a + b*x", {}),
    "far from zero": ("y = a + b*(x + 1e7)", {}),
    "a constant": ("y = c", {}),
    "ill-conditioned": ("y = " + " + ".join(f"b{i}*x**{i}" for i in range(8)), {}),
    "redundant": ("y = a*b*exp(-x/tau)", {"start": {"a": 1, "b": 2, "tau": 1}}),
}


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(3)
    x = np.linspace(0, 5, N)
    return {"x": x, "y": 3 * np.exp(-x / 1.3) + 0.5 + 0.05 * random.standard_normal(N)}


@pytest.mark.parametrize("executor", ["numpy", "native"])
@pytest.mark.parametrize("case", CASES)
def test_pieces_give_what_all_rows_at_once_give(case, executor, data, monkeypatch):
    formula, options = CASES[case]
    found = gradfit.fit(formula, data, executor=executor, **options)
    with monkeypatch.context() as patched:
        patched.setattr(pieces, "CHUNK", 10 * N)
        expected = gradfit.fit(formula, data, executor="numpy", **options)
    assert found.executor == executor
    assert found.converged
    assert expected.converged
    for name, error in expected.errors.items():
        assert np.isnan(found.errors[name]) == np.isnan(error)
        if not np.isnan(error):
            assert found.errors[name] == pytest.approx(error, rel=1e-6)
            assert abs(found.values[name] - expected.values[name]) <= 1e-6 * error
    assert found.rss == pytest.approx(expected.rss, rel=1e-9)
    assert len(found.residuals) == N


def test_a_walk_in_pieces_can_be_watched_and_stopped(data):
    seen = []
    result = gradfit.fit(DECAY, data, start=START, callback=lambda step, *_: seen.append(step) or step >= 2)
    assert seen == [1, 2]
    assert result.outcome.status == "interrupted"


def test_a_model_that_is_not_finite_says_where(data):
    with pytest.raises(
        gradfit.GradfitError, match=r"is not a number at the start values a = 1, b = 1 in rows 1, 2"
    ):
        gradfit.fit("y = a*log(x - b)", data, start={"a": 1, "b": 1})


def test_perfect_rows_are_fitted_to_rounding():
    x = np.linspace(0, 5, N)
    result = gradfit.fit(DECAY, {"x": x, "y": 3 * np.exp(-x / 1.3) + 0.5}, start=START)
    assert list(result.values.values()) == pytest.approx([3, 1.3, 0.5], rel=1e-13)


# ---------------------------------------------------------------------------- what evaluates the model


def graph_of(formula):
    x = np.linspace(0.1, 1, 9)
    return gradfit.fit(formula, {"x": x, "y": x}, max_iterations=1).model.graph


def fits_until_native(formula, rows):
    """Return how many fits of eight evaluations NumPy makes before machine code is worth it."""
    small = SmallFits(graph_of(formula))
    for done in range(100_000):
        if small.earned(rows):
            return done
        small.worked(8, rows)
    return None


def test_machine_code_is_earned_by_rows_times_operations():
    line, decay, wave = "y = a + b*x", "y = a*exp(-k*x)", "y = a*sin(w*x + p)*exp(-k*x)"
    assert (
        fits_until_native(decay, 20) > 100
    )  # a small fit never waits for a compiler, nor do some tens of them
    assert fits_until_native(decay, 20) > fits_until_native(decay, 20_000) > fits_until_native(decay, 200_000)
    assert fits_until_native(wave, 200_000) < fits_until_native(line, 200_000)
    assert fits_until_native(wave, 1_000_000) == 0


def test_the_choice_is_reported_and_can_be_overridden(data):
    formula = "y = a*exp(-x/tau) + c + 0.12345*x"  # of no other test
    few = {name: column[::200] for name, column in data.items()}
    assert gradfit.fit(formula, few, start=START).executor == "numpy"
    assert gradfit.fit(formula, few, start=START, executor="native").executor == "native"
    assert gradfit.fit(formula, few, start=START).executor == "numpy"  # not for what another fit compiled
    small = small_fits(gradfit.fit(formula, few, start=START).model.graph)
    small.worked(10**6, len(few["x"]))
    assert gradfit.fit(formula, few, start=START).executor == "native"
    assert gradfit.fit(formula, data, start=START).executor == "native"
    assert gradfit.fit(formula, data, start=START, executor="numpy").executor == "numpy"


def test_walks_of_one_model_do_not_pile_up():
    graph = graph_of("y = " + " + ".join(f"b{i}*x**{i}" for i in range(6)))
    small = SmallFits(graph)
    first = small.get((0,), weighted=False)
    assert small.get((0,), weighted=False) is first
    assert small.get(tuple(range(13)), weighted=False) is None
