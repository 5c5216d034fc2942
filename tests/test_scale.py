"""One answer in any unit: multiplying x or y changes the units of the answer and nothing else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit
from gradfit.library import MODELS

FACTORS = st.sampled_from([1e-12, 1e-9, 1e-3, 1.0, 1e3, 1e9, 1e12])


def simulated(model):
    random = np.random.default_rng(len(model.name))
    x = np.linspace(*model.span, 60)
    values = gradfit.Model(model.formula)(x=x, **model.example)
    return x, values + 0.01 * np.ptp(values) * random.normal(size=60)


@pytest.mark.parametrize("name", MODELS)
def test_every_library_model_in_any_unit_of_y(name):
    x, y = simulated(MODELS[name])
    plain = gradfit.fit(name, {"x": x, "y": y})

    @settings(max_examples=4)
    @given(FACTORS)
    def holds(factor):
        scaled = gradfit.fit(name, {"x": x, "y": y * factor})
        assert scaled.rss == pytest.approx(plain.rss * factor**2, rel=1e-6)
        assert scaled.verdict == plain.verdict
        assert scaled.fitted == pytest.approx(plain.fitted * factor, rel=1e-5, abs=1e-5 * factor * np.ptp(y))

    holds()


@pytest.mark.parametrize("name", MODELS)
def test_every_library_model_in_any_unit_of_x(name):
    model = MODELS[name]
    x, y = simulated(model)
    plain = gradfit.fit(name, {"x": x, "y": y})

    @settings(max_examples=4)
    @given(FACTORS)
    def holds(factor):
        scaled = gradfit.fit(name, {"x": x * factor, "y": y})
        assert scaled.rss == pytest.approx(plain.rss, rel=1e-5)
        assert scaled.fitted == pytest.approx(plain.fitted, rel=1e-4, abs=1e-4 * np.ptp(y))

    holds()


@settings(max_examples=20)
@given(FACTORS, FACTORS)
def test_parameters_and_errors_scale_with_their_units(ux, uy):
    x = np.linspace(0, 5, 40)
    y = 3 * np.exp(-x / 1.3) + 0.5 + np.random.default_rng(0).normal(0, 0.05, 40)
    plain = gradfit.fit("y = a*exp(-x/tau) + c", {"x": x, "y": y})
    scaled = gradfit.fit("y = a*exp(-x/tau) + c", {"x": x * ux, "y": y * uy})
    for name, unit in {"a": uy, "tau": ux, "c": uy}.items():
        assert scaled.values[name] == pytest.approx(plain.values[name] * unit, rel=1e-9)
        assert scaled.errors[name] == pytest.approx(plain.errors[name] * unit, rel=1e-6)
