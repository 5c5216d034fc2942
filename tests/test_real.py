"""Measured data sets with answers from Newton's method in 40 digits."""

import pytest
from answers import REAL, digits

import gradfit


def test_all_of_them_are_here():
    assert len(REAL) == 35


@pytest.mark.parametrize("case", REAL, ids=lambda case: case.name)
def test_answer(case):
    result = gradfit.fit(case.formula, case.table(), start=case.start, sigma=case.sigma, missing="drop")
    assert digits([result.values[k] for k in case.params], list(case.params.values())) >= 6
    assert digits([result.errors[k] for k in case.errors], list(case.errors.values())) >= 4


@pytest.mark.parametrize(
    "case",
    [c for c in REAL if "ryegrass" not in c.name and "theophylline" not in c.name],
    ids=lambda case: case.name,
)
def test_no_start_reaches_the_same_minimum(case):
    given = gradfit.fit(case.formula, case.table(), start=case.start, sigma=case.sigma, missing="drop")
    found = gradfit.fit(case.formula, case.table(), sigma=case.sigma, missing="drop")
    assert found.rss <= given.rss * (1 + 1e-6)
