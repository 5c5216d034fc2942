"""Errors from the normal equations are those of the SVD, and where they would not be, the SVD is asked."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradfit
from gradfit.loss import Loss
from gradfit.solve.factor import Inverse, inverse
from gradfit.uncertainty import uncertainty, well_determined

X = np.linspace(0, 10, 11)
Y = 2 * X + 1 + np.random.default_rng(0).normal(0, 0.3, 11)


@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 6),
    alike=st.floats(0, 0.999),
    powers=st.lists(st.integers(-40, 40), min_size=6, max_size=6),
    absolute=st.booleans(),
)
def test_errors_are_those_of_the_svd(seed, k, alike, powers, absolute):
    random = np.random.default_rng(seed)
    J = random.normal(size=(20, k)) + alike / (1 - alike) * random.normal(size=(20, 1))
    J = np.asfortranarray(J * 10.0 ** np.array(powers[:k]))
    r = random.normal(size=20)
    known = inverse(J)
    if known is None:
        return
    fast = well_determined(known, float(r @ r), dof=20 - k, absolute=absolute)
    slow = uncertainty(r, J, held=np.zeros(k, dtype=bool), loss=Loss(), absolute=absolute)
    size = np.outer(slow.stderr, slow.stderr)
    np.testing.assert_allclose(fast.stderr, slow.stderr, rtol=1e-10)
    np.testing.assert_allclose(fast.covariance / size, slow.covariance / size, atol=1e-10)
    np.testing.assert_allclose(fast.leverage(J), slow.leverage(J), atol=1e-10)
    np.testing.assert_allclose(fast.band(J), slow.band(J), rtol=1e-9)
    assert fast.determined.all()


@pytest.mark.parametrize(
    "columns",
    [
        [X, X],
        [X, X + 1e-3 * np.cos(X)],
        [1e9 + X, np.ones(11)],
        [X, np.zeros(11)],
        [X, np.where(X == 3, np.nan, 1.0)],
        [X, np.where(X == 3, np.inf, 1.0)],
        [X * 1e200, np.ones(11)],
        [X * 1e-200, np.ones(11)],
        [X[:2], np.ones(2), np.array([1.0, 3.0])],
    ],
    ids=["equal", "alike", "far off", "zero", "nan", "inf", "huge", "tiny", "too few rows"],
)
def test_what_loses_digits_is_left_to_the_svd(columns):
    with np.errstate(all="ignore"):
        assert inverse(np.array(columns).T) is None


def test_an_inverse_is_known_by_its_lower_triangle():
    matrix = np.array([[4.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 2.0]])
    known = Inverse.of_triangle(matrix[np.tril_indices(3)], 3)
    np.testing.assert_array_equal(known.matrix, matrix)
    np.testing.assert_allclose(known.half() @ known.half().T, matrix, rtol=1e-14)


@pytest.mark.parametrize("start", [{"a": 1e6}, {"a": 1e20, "b": -1e20}, {"a": -1e300, "b": 1e300}])
@pytest.mark.parametrize("x", [X, X + 1e6], ids=["normal equations", "svd"])
def test_a_closed_form_does_not_depend_on_the_start(start, x):
    data = {"x": x, "y": Y}
    plain, begun = gradfit.fit("y = a*x + b", data), gradfit.fit("y = a*x + b", data, start=start)
    assert begun.values == plain.values
    assert begun.errors == plain.errors
    assert begun.starts.source == "not needed"


def test_the_way_of_a_closed_form_ends_at_the_minimum():
    result = gradfit.fit("y = a*x + b", {"x": X, "y": Y})
    assert result.history.step.tolist() == [0, 1]
    assert result.history.loss[-1] == pytest.approx(result.rss, rel=1e-12)
    np.testing.assert_allclose(result.history.gradient[-1], 0, atol=1e-10)
    np.testing.assert_array_equal(result.history.parameters[-1], list(result.values.values()))


@pytest.mark.parametrize("unit", [1e-300, 1e-160, 1.0, 1e160, 1e300])
def test_errors_hold_where_variances_do_not(unit):
    plain = gradfit.fit("y = a*x + b", {"x": X, "y": Y})
    result = gradfit.fit("y = a*x + b", {"x": X, "y": Y * unit})
    for name, error in plain.errors.items():
        assert result.errors[name] / unit == pytest.approx(error, rel=1e-9)
