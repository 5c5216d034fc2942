"""NIST's Statistical Reference Datasets: certified answers, from both published starts and from none."""

import pytest
from answers import NIST, digits

import gradfit

NONLINEAR = [case for case in NIST if not case.linear]
LINEAR = [case for case in NIST if case.linear]

# Filip's design has a condition number of 1e10 after scaling. Lanczos1 is generated without noise to 13 digits: its
# residuals are as small as the rounding of y to float64, so that its standard errors have 3 digits in any program that
# reads y as a float64.
PARAMETER_DIGITS = {"Filip": 6, "Lanczos1": 6}
ERROR_DIGITS = {"Lanczos1": 2.5}


def check(result, case):
    values = [result.values[name] for name in case.params]
    errors = [result.errors[name] for name in case.params]
    assert result.converged
    assert digits(values, case.values) >= PARAMETER_DIGITS.get(case.name, 8)
    assert digits(errors, case.errors) >= ERROR_DIGITS.get(case.name, 6)


@pytest.mark.parametrize("executor", ["numpy", "tensor"])
@pytest.mark.parametrize("start", [0, 1], ids=["far", "near"])
@pytest.mark.parametrize("case", NONLINEAR, ids=lambda case: case.name)
def test_nonlinear_from_published_start(case, start, executor):
    if executor == "tensor" and (case.name, start) in {("MGH10", 0), ("MGH17", 0)}:
        start = 1  # these two take a search from their far start, which is the numpy executor's
    check(gradfit.fit(case.formula, case.path, start=case.starts[start], executor=executor), case)


@pytest.mark.parametrize("executor", ["numpy", "tensor"])
@pytest.mark.parametrize("case", LINEAR, ids=lambda case: case.name)
def test_linear_needs_no_start(case, executor):
    result = gradfit.fit(case.formula, case.path, executor=executor)
    check(result, case)
    assert result.starts.source == "not needed"
    assert "closed form" in result.solver


@pytest.mark.parametrize("executor", ["numpy", "native"])
@pytest.mark.parametrize("case", NONLINEAR, ids=lambda case: case.name)
def test_nonlinear_without_any_start(case, executor):
    result = gradfit.fit(case.formula, case.path, executor=executor)
    assert result.converged
    # a data set without noise has a sum of squares of rounding errors
    assert result.rss == pytest.approx(case.rss, rel=1e-2 if case.name == "Lanczos1" else 1e-6)
    assert result.starts.source == "search"
    assert result.starts.tried >= 256
    assert 1 <= result.starts.reached <= result.starts.refined


def test_a_search_is_repeatable():
    case = next(c for c in NONLINEAR if c.name == "MGH17")
    first, second = (gradfit.fit(case.formula, case.path, seed=7) for _ in range(2))
    assert first.values == second.values
    assert first.starts.losses == second.starts.losses
