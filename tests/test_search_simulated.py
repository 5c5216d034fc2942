"""A search without start values on simulated curves of many kinds, in any units; benchmarks/search.py runs hundreds more."""

import numpy as np
import pytest
from simulated import KINDS, found, simulated

import gradfit

IN_NUMPY = ["gaussian", "two lorentzians", "two decays", "logistic", "damped sine", "rational 2/2"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_minimum_is_found_without_start_values(kind):
    case = simulated(kind, 1)
    result = gradfit.fit(case.formula, case.data)
    assert result.starts.source == "search"
    assert found(case, result)


@pytest.mark.parametrize("kind", IN_NUMPY)
def test_executors_find_the_same_curve(kind):
    case = simulated(kind, 1)
    ways = [gradfit.fit(case.formula, case.data, executor=executor) for executor in ("numpy", "native")]
    assert ways[0].rss == pytest.approx(ways[1].rss, rel=1e-9)
    assert ways[0].fitted == pytest.approx(ways[1].fitted, rel=1e-6, abs=1e-6 * np.ptp(case.data["y"]))


@pytest.mark.parametrize("kind", ["gaussian", "rise and decay", "sine", "hill"])
def test_units_change_numbers_and_nothing_else(kind):
    case = simulated(kind, 0)
    scaled = {"x": case.data["x"] * 2.0**40, "y": case.data["y"] * 2.0**-40}
    plain, other = (gradfit.fit(case.formula, data) for data in (case.data, scaled))
    assert other.rss == pytest.approx(plain.rss * 2.0**-80, rel=1e-9)
    assert other.starts.tried == plain.starts.tried
