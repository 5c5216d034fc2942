"""What many fits show: arrays, frames, a summary, findings, figures."""

import numpy as np
import pytest

import gradfit
from gradfit.errors import OptionError

DECAY = "y = a*exp(-t/tau) + c"
T = np.linspace(0, 10, 20)


def decays(m=40):
    random = np.random.default_rng(1)
    a, tau, c = (random.uniform(low, high, (m, 1)) for low, high in ((2, 9), (1, 5), (-1, 1)))
    return a * np.exp(-T / tau) + c + 0.05 * random.normal(size=(m, len(T)))


@pytest.fixture(scope="module")
def good():
    return gradfit.fit_many(DECAY, {"t": T, "y": decays()}, start={"tau": 2})


@pytest.fixture(scope="module")
def mixed():
    y = decays(100)
    y[:7, 2:] = np.nan
    y[10] = 1.0
    return gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"tau": 2}, bounds={"c": (0, None)})


def test_a_frame_of_each_kind(good):
    polars, pandas, arrow = (good.to_frame(kind) for kind in ("polars", "pandas", "arrow"))
    names = [
        "fit", "a", "a_stderr", "tau", "tau_stderr", "c", "c_stderr", "rss", "points", "missing", "iterations", "status",
    ]  # fmt: skip
    assert polars.columns == list(pandas.columns) == arrow.column_names == names
    assert polars["tau"].to_numpy() == pytest.approx(good.values["tau"])
    assert len(good) == polars.height == 40
    with pytest.raises(OptionError, match="There is no frame 'excel'"):
        good.to_frame("excel")


def test_parameters_are_arrays_by_name(good):
    tau = good.params["tau"]
    low, high = tau.interval(0.95)
    assert list(good.params) == ["a", "tau", "c"]
    assert ((low < tau.value) & (tau.value < high)).all()
    wider = tau.interval(0.99)
    assert (wider[0] < low).all()
    assert not tau.at_bound.any()
    assert good.reduced_chi2 == pytest.approx(good.rss / 17)


def test_a_summary_says_what_became_of_all(good, mixed):
    assert str(good).startswith("All 40 fits converged")
    text = mixed.summary().replace("\u202f", " ")
    assert "8 of 100 fits failed: 7 of them have fewer than 3 points" in text
    assert "126 points of 7 fits were left out" in text
    assert repr(good) == f"<40 of 40 fits converged: {DECAY}>"


def test_findings_name_what_failures_have_in_common(good, mixed):
    assert good.findings == ()
    codes = {finding.code: finding for finding in mixed.findings}
    assert next(iter(codes)) == "many-too-few-points"
    assert codes["many-too-few-points"].message == "7 of 100 fits have fewer than 3 points"
    assert codes["many-singular"].message == "1 of 100 fits does not determine tau"
    assert codes["many-at-bound"].message.replace("\u202f", " ").endswith("ended on the bound 0 of c")
    assert all(finding.remedy for finding in mixed.findings if finding.severity != "info")
    stopped = gradfit.fit_many(
        DECAY, {"t": T, "y": decays(5)}, start={"a": 1, "tau": 40.0, "c": 0}, max_iterations=1
    )
    assert stopped.findings[0].message == "5 of 5 fits stopped at max_iterations=1"
    assert stopped.findings[0].severity == "error"


def test_figures(good, mixed):
    titles = [axes.get_title(loc="left") for axes in good.plot().axes]
    assert titles == ["a", "tau", "c"]
    worst = [axes for axes in mixed.plot_worst(9).axes if axes.get_visible()]
    assert len(worst) == 9
    assert worst[0].get_title(loc="left") == "fit 0: too-few-points"


def test_pixels_are_drawn_as_maps():
    signal = 10 * np.exp(-T[:, None, None] / np.linspace(1, 4, 30).reshape(5, 6))
    many = gradfit.fit_many(
        "s = a*exp(-t/tau)", {"t": T, "s": signal}, axis=0, start={"tau": 2}, fixed={"a": 10}
    )
    images = [axes.images[0] for axes in many.plot().axes if axes.images]
    assert len(images) == 1
    assert np.asarray(images[0].get_array()) == pytest.approx(many.values["tau"])


def test_a_single_fit_of_counts():
    y = np.random.default_rng(0).poisson(20 * np.exp(-T / 3) + 3, (2, 20))
    many = gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"tau": 2}, loss="poisson")
    one = many.result(1)
    assert one.deviance == pytest.approx(many.rss[1], rel=1e-9)
    assert list(one.values.values()) == pytest.approx(list(many.ends.parameters[1]), rel=1e-6)
    assert list(one.errors.values()) == pytest.approx(list(many.ends.stderr[1]), rel=1e-5)
