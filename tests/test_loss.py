"""Losses: SciPy's definitions to the digit, their derivatives, and their efficiency."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from scipy.optimize import least_squares
from scipy.optimize._lsq.least_squares import construct_loss_function

import gradfit
from gradfit import Loss, OptionError
from gradfit.loss import SCALED, standard_deviation

ROBUST = list(SCALED)
LOSSES = ["squared", *SCALED]
RESIDUALS = np.array([-1e6, -30.0, -2.0, -1.0, -0.3, 0.0, 1e-9, 0.5, 1.0, 1.5, 4.0, 1e3])

x = np.linspace(0, 5, 30)
y = 3 * np.exp(-x / 1.3) + 1 + 0.05 * np.sin(37 * x)
y[[4, 17]] += [2.0, -1.5]
DATA = {"x": x, "y": y}


def by_scipy(name, scale, r):
    """(cost, gradient / 2, Hessian / 2) by each residual."""
    if name == "squared":
        return np.sum(r**2), r, np.ones_like(r)
    if name == "bisquare":  # not in SciPy: Beaton & Tukey (1974)
        u = np.clip(np.abs(r / scale), 0, 1)
        cost = scale**2 / 3 * (1 - (1 - u**2) ** 3)
        return cost.sum(), r * (1 - u**2) ** 2, np.where(u < 1, (1 - u**2) * (1 - 5 * u**2), 0)
    rho = construct_loss_function(len(r), name, scale)(r)
    return rho[0].sum(), rho[1] * r, rho[1] + 2 * rho[2] * r**2


@pytest.mark.parametrize("scale", [None, 0.01, 1.0, 7.5])
@pytest.mark.parametrize("name", LOSSES)
def test_cost_and_derivatives_are_scipys(name, scale):
    loss = Loss(name, scale)
    cost, gradient, curvature = by_scipy(name, scale or 1.0, RESIDUALS)
    assert loss.cost(RESIDUALS) == pytest.approx(cost, rel=1e-14)
    first, second = loss.curvature(RESIDUALS)
    assert first == pytest.approx(gradient, rel=1e-13, abs=1e-300)
    size = np.max(np.abs(curvature))  # at |r| = scale the second derivative of huber jumps
    assert second == pytest.approx(curvature, rel=1e-12, abs=1e-13 * size)


@settings(max_examples=100)
@given(
    st.sampled_from(ROBUST),
    st.floats(0.1, 10),
    st.lists(st.floats(-50, 50), min_size=1, max_size=6),
)
def test_the_linearised_problem_has_the_gradient_of_the_loss(name, scale, residuals):
    loss, r = Loss(name, scale), np.array(residuals)
    random = np.random.default_rng(0)
    jacobian = random.normal(size=(len(r), 2))
    scaled, slopes = loss.linearised(r, jacobian)
    assert slopes.T @ scaled == pytest.approx(jacobian.T @ loss.curvature(r)[0], rel=1e-9, abs=1e-9)
    assert np.all(np.linalg.eigvalsh(slopes.T @ slopes) >= -1e-12)


@pytest.mark.parametrize("name", ROBUST)
def test_the_tuning_is_95_per_cent_efficient(name):
    loss = Loss(name, Loss(name).tuning)

    def mean(part):
        def density(r):
            return float(part(np.array([r]))[0]) * np.exp(-r * r / 2) / np.sqrt(2 * np.pi)

        return integrate.quad(density, -12, 12, limit=400, points=[-loss.scale, loss.scale])[0]

    efficiency = mean(lambda r: loss.curvature(r)[1]) ** 2 / mean(lambda r: loss.curvature(r)[0] ** 2)
    assert efficiency == pytest.approx(0.95, abs=2e-4)


def test_the_squared_loss_leaves_the_problem_alone():
    jacobian = np.ones((len(RESIDUALS), 2))
    r, J = Loss().linearised(RESIDUALS, jacobian)
    assert r is RESIDUALS
    assert J is jacobian
    assert not Loss().robust


@pytest.mark.parametrize("name", ["soft_l1", "huber", "cauchy"])
def test_fits_end_where_scipys_do(name):
    result = gradfit.fit("y = a*exp(-x/tau) + c", DATA, start=[1, 1, 0], loss=Loss(name, 0.1))
    reference = least_squares(
        lambda p: p[0] * np.exp(-x / p[1]) + p[2] - y,
        [1, 1, 0],
        loss=name,
        f_scale=0.1,
        xtol=1e-15,
        ftol=1e-15,
        gtol=1e-15,
    )
    assert list(result.values.values()) == pytest.approx(reference.x, rel=1e-6)
    assert result.loss == pytest.approx(2 * reference.cost, rel=1e-10)


@pytest.mark.parametrize("name", LOSSES)
def test_torch_sees_the_same_loss(name):
    """The mean loss that torch's optimizers minimise, at a point where a step of next to nothing leaves it."""
    loss = Loss(name, None if name == "squared" else 0.3)
    start = {"a": 2.5, "tau": 1.0, "c": 0.7}
    result = gradfit.fit(
        "y = a*exp(-x/tau) + c", DATA, start=start, loss=loss, solver="SGD", lr=1e-30, epochs=1
    )
    residuals = 2.5 * np.exp(-x / 1.0) + 0.7 - y
    assert result.loss == pytest.approx(loss.cost(residuals) / len(x), rel=1e-12)


@pytest.mark.parametrize("solver", [{"solver": "lm"}, {"solver": "LBFGS", "epochs": 200, "lr": 1.0}])
@pytest.mark.parametrize("name", LOSSES)
def test_both_families_of_solvers_end_at_one_place(name, solver):
    loss = Loss(name, None if name == "squared" else 0.3)
    reference = gradfit.fit("y = a*exp(-x/tau) + c", DATA, start=[2.5, 1, 0.7], loss=loss)
    result = gradfit.fit("y = a*exp(-x/tau) + c", DATA, start=[2.5, 1, 0.7], loss=loss, **solver)
    assert list(result.values.values()) == pytest.approx(list(reference.values.values()), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "scale", "words"),
    [
        ("hubr", None, "There is no loss 'hubr'\nDid you mean huber?"),
        ("l2", None, "There is no loss 'l2'\nKnown: squared, poisson, soft_l1, huber, cauchy, bisquare"),
        ("huber", 0.0, "The scale of a robust loss must be positive, and 0.0 was given"),
        ("huber", -1.0, "must be positive, and -1.0 was given"),
        ("huber", float("inf"), "must be positive, and inf was given"),
        ("huber", float("nan"), "must be positive, and nan was given"),
    ],
)
def test_wrong_losses(name, scale, words):
    with pytest.raises(OptionError) as caught:
        Loss(name, scale)
    assert words in str(caught.value)


def test_losses_in_words():
    assert str(Loss()) == "squared"
    assert str(Loss("huber", 0.25)) == "huber(scale=0.25)"
    assert Loss("huber", 2.0) == Loss("huber", 2.0)


def test_a_robust_standard_deviation():
    random = np.random.default_rng(4)
    r = 2.5 * random.normal(size=200_000)
    assert standard_deviation(r, 0) == pytest.approx(2.5, rel=0.01)
    r[:20_000] = 1e9  # a tenth is garbage
    assert standard_deviation(r, 0) == pytest.approx(2.5 * 1.19, rel=0.02)
    assert standard_deviation(np.array([1.0, -1.0, 1.0, -1.0]), 2) == pytest.approx(np.sqrt(2))
    assert standard_deviation(np.zeros(3), 1) == 0
    assert standard_deviation(np.ones(2), 2) == pytest.approx(np.sqrt(2))
