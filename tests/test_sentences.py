"""The sentences at the head of a report: true, at most three, with the numbers of the result."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit
from gradfit.notation import THIN, percent, significant
from gradfit.sentences import band, derivatives, more_errors, said, worst

THERMOMETER = {
    "t_u": [35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4],
    "t_c": [0.5, 14, 15, 28, 11, 8, 3, -4, 6, 13, 21],
}


def words(sentence: str) -> str:
    return sentence.replace(THIN, " ")


@pytest.fixture(scope="module")
def thermometer():
    return gradfit.fit("t_c = w*t_u + b", THERMOMETER)


def noisy(f, n=60, noise=0.1, seed=0, **columns):
    rng = np.random.default_rng(seed)
    x = columns or {"x": np.linspace(0, 9, n)}
    return {**x, "y": f(**x) + rng.normal(0, noise, n)}


def test_a_trusted_line(thermometer):
    first, second, third = (words(sentence) for sentence in said(thermometer))
    assert (
        first == "A new t_c will lie within 4.5 to 5.1 of the line, 95 times in 100, for t_u from 22 to 82."
    )
    assert (
        second == "The slope w is known to 6.6 %; five more readings at each end would bring that to 3.2 %."
    )
    assert third.startswith("Neither of two checks was raised (smallest p = ")
    assert third.endswith("with eleven rows only gross defects would show.")


def test_the_unit_goes_where_the_number_goes(tmp_path):
    rows = "\n".join(f"{x},{y}" for x, y in zip(*THERMOMETER.values(), strict=True))
    (tmp_path / "t.csv").write_text(f"t_u [°X],t_c [°C]\n{rows}\n", encoding="utf-8")
    result = gradfit.fit("t_c = w*t_u + b", tmp_path / "t.csv")
    assert words(said(result)[0]) == (
        "A new reading will lie within 4.5 to 5.1 °C of the line, 95 times in 100, for t_u from 22 to 82 °X."
    )
    assert derivatives(result).units == {"b": "°C", "w": "°C per °X"}


def test_the_band_is_that_of_predict_at_every_place_of_the_range(thermometer):
    seen = thermometer.predict({"t_u": np.linspace(21.8, 81.9, 1001)})
    half = (seen.prediction[1] - seen.prediction[0]) / 2
    width = band(thermometer)
    assert width.straight
    np.testing.assert_allclose([width.near, width.far], [half.min(), half.max()], rtol=1e-3)


def test_the_level_is_that_of_the_result(thermometer):
    first = words(said(thermometer.at_level(0.999))[0])
    assert "999 times in 1 000" in first
    assert significant(band(thermometer.at_level(0.999)).near) in first


def test_five_more_readings_are_what_they_would_bring(thermometer):
    x = np.array(THERMOMETER["t_u"])
    more = np.concatenate([x, np.repeat([x.min(), x.max()], 5)])
    J = np.column_stack([more, np.ones(len(more))])
    expected = thermometer.scatter * np.sqrt(np.diag(np.linalg.inv(J.T @ J)))
    forecast = more_errors(thermometer, derivatives(thermometer))
    np.testing.assert_allclose([forecast["w"], forecast["b"]], expected, rtol=1e-9)


def test_weighted_readings_count_as_those_at_the_ends_do():
    data = noisy(lambda x: 2 * np.exp(-0.3 * x) + 1)
    sigma = 0.05 + 0.02 * data["x"]
    result = gradfit.fit("y = a*exp(-k*x) + c", data, sigma=sigma, start={"a": 2, "k": 0.3, "c": 1})
    a, k, _ = result.values.values()
    x, s = (np.concatenate([v, np.repeat([v[0], v[-1]], 5)]) for v in (data["x"], sigma))
    J = np.column_stack([np.exp(-k * x), -a * x * np.exp(-k * x), np.ones_like(x)]) / s[:, None]
    expected = np.sqrt(np.diag(np.linalg.inv(J.T @ J)))  # sigma is known: no scatter to multiply with
    np.testing.assert_allclose(list(more_errors(result, derivatives(result)).values()), expected, rtol=1e-6)
    assert words(said(result)[0]).startswith("A new y of typical sigma will lie within ")


@pytest.mark.parametrize(
    ("formula", "data", "expected"),
    [
        ("y = c", {"y": np.random.default_rng(0).normal(12, 0.4, 20)}, r"A new y will lie within 0\.\d+ of 1\d\.\d+, 95 times in 100\."),
        (
            "y = a*x + b*z + c",
            noisy(lambda x, z: 3 * x - 2 * z + 1, x=np.linspace(0, 1, 60), z=np.cos(np.arange(60.0))),
            r"A new y will lie within 0\.\d+( to 0\.\d+)? of the fitted value, 95 times in 100, at inputs like those of the 60 rows\.",
        ),
        (
            "y = a*exp(-k*x)",
            noisy(lambda x: 5e-7 * np.exp(-0.4 * x), noise=1e-8),
            r"A new y will lie within 1\.\d × 10⁻⁸ to 2\.0 × 10⁻⁸ of the curve, 95 times in 100, for x from 0 to 9\.",
        ),
        (
            "y = a*(x - 1e9) + b",
            noisy(lambda x: 3 * (x - 1e9), x=1e9 + np.arange(60.0)),
            r".* of the line, 95 times in 100, for x from 1 000 000 000 to 1 000 000 059\.",
        ),
    ],
    ids=["no input", "several inputs", "small numbers", "far from zero"],
)  # fmt: skip
def test_what_a_new_reading_will_do(formula, data, expected):
    start = {"a": 4e-7, "k": 0.5} if "exp" in formula else None
    result = gradfit.fit(formula, data, start=start)
    assert result.verdict == "trust"
    assert re.fullmatch(expected, words(said(result)[0]))


def test_a_parameter_that_may_be_zero_is_not_given_in_per_cent():
    result = gradfit.fit("y = a*x + b", noisy(lambda x: 0 * x, noise=1.0, seed=3))
    second = words(said(result)[1])
    low, high = result.params["a"].interval()
    assert low < 0 < high
    assert second.startswith("The slope a may be zero: its 95 % interval is ")
    assert "%;" not in second.partition("interval")[2]


def test_pure_offsets_do_not_count_as_badly_known():
    data = noisy(lambda x: 2 * x + 0.001, noise=0.05)
    result = gradfit.fit("y = a*x + b", data)
    assert result.errors["b"] > abs(result.values["b"]) * 0.5
    assert words(said(result)[1]).startswith(
        f"The slope a is known to {words(percent(result.errors['a'] / 2))}"
    )


def test_without_noise_nothing_is_said_about_bands():
    x = np.arange(20.0)
    result = gradfit.fit("y = a*x + b", {"x": x, "y": 2 * x + 1})
    assert len(said(result)) == 1
    assert "rounding" in said(result)[0]


@pytest.mark.parametrize(
    ("formula", "data", "options"),
    [
        ("y = a*b*x", noisy(lambda x: 2 * x), {"start": {"a": 1, "b": 1}}),
        ("y = a*x + b", {"x": [1.0, 2.0], "y": [3.0, 4.0]}, {}),
        ("y = a*x + b", noisy(lambda x: 2 * x**2), {}),
        ("y = a*x + b", {**noisy(lambda x: 2 * x), "x": np.ones(60)}, {}),
    ],
    ids=["undetermined", "no degrees of freedom", "wrong model", "constant input"],
)
def test_doubts_are_the_worst_findings(formula, data, options):
    result = gradfit.fit(formula, data, **options)
    assert result.verdict != "trust"
    assert said(result) == tuple(finding.message for finding in worst(result))
    assert [f.severity for f in worst(result)] == sorted(f.severity for f in worst(result))
    assert all(sentence.endswith(".") for sentence in said(result))


def test_a_stopped_fit_says_so():
    data = noisy(lambda x: 2 * np.exp(-0.3 * x) + 1)
    start = {"a": 90, "k": 5, "c": -40}
    result = gradfit.fit("y = a*exp(-k*x) + c", data, start=start, solver="SGD", lr=1e-3, epochs=3)
    assert result.verdict == "no"
    assert said(result)
    assert all(sentence.endswith(".") for sentence in said(result))


@settings(max_examples=40, deadline=None)
@given(
    slope=st.floats(-1e3, 1e3),
    offset=st.floats(-1e6, 1e6),
    power=st.integers(-12, 12),
    n=st.integers(2, 40),
    seed=st.integers(0, 10**6),
)
def test_any_line_gets_at_most_three_true_sentences(slope, offset, power, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 10, n)
    y = (slope * x + offset + rng.normal(0, 1, n)) * 10.0**power
    result = gradfit.fit("y = a*x + b", {"x": x, "y": y})
    sentences = said(result)
    assert 1 <= len(sentences) <= 3
    assert all(sentence.endswith(".") and "nan" not in sentence for sentence in sentences)
    if result.verdict == "trust" and len(sentences) == 3:
        width = band(result)
        assert significant(width.near) in sentences[0]
        known = re.search(r"a is known to ([^ ;]+)", sentences[1])
        assert known is None or known[1].rstrip(".") == percent(result.errors["a"] / abs(result.values["a"]))
