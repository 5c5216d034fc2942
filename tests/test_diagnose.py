import ast
import json
import re
from dataclasses import replace

import numpy as np
import pytest
from fitted_evidence import T_C, T_U, decay, evidence, fitted, line, sine

from gradfit.diagnose import Evidence, Finding, diagnose, verdict

X = np.linspace(0, 10, 40)
LONG = np.linspace(0, 10, 200)
E40, E200 = (np.random.default_rng(n).normal(size=n) for n in (40, 200))
Y = 2 * X + 1 + 0.3 * E40
THREE = np.resize([0.0, 1, 2], 40)
DECAY = 5 * np.exp(-0.5 * X) + 1 + 0.05 * E40
SLOPE, INTERCEPT = np.polyfit(X, Y, 1)
ARGUMENTS = {
    "start", "bounds", "fixed", "sigma", "weights", "where", "exclude", "missing", "level", "seed", "loss", "solver",
    "max_iterations",
}  # fmt: skip


def raised(found):
    return {finding.code for finding in found.findings if finding.severity != "info"}


def bad(y, rows, value):
    y = y.copy()
    y[rows] = value
    return y


def outlying(rows, sizes):
    y = Y.copy()
    y[rows] += sizes
    return y


def at(values, **more):
    return evidence(line, X, Y, values, "wb", **more)


def bounded_line():
    """The best line with b kept at 3, which the data would have at 1."""
    slope = fitted(lambda x, p: p[0] * x + 3, X, Y, [2], "w").values[0]
    return at([slope, 3.0], lower=np.array([-np.inf, 3.0]))


def with_weight_zero():
    w = np.ones(40)
    w[5] = 0
    e = fitted(line, X, bad(Y, 5, 1000.0), [1, 1], "wb", sigma=np.where(w == 0, 1e9, 1))
    return replace(e, residuals=e.residuals * w, jacobian=e.jacobian * w[:, None])


def times_100_noise(x):
    return 5 * x * (1 + 0.1 * E200)


# what is wrong, what the finding says, what to paste
SICK = {
    "a times b": (
        lambda: fitted(lambda x, p: p[0] * p[1] * x + p[2], X, Y, [1, 1.5, 0], "abc"),
        "unidentifiable", "error", "a and b cannot be told apart: only a·b is determined", 'fixed={"b": 1}',
    ),
    "a over b": (
        lambda: fitted(lambda x, p: p[0] / p[1] * x + p[2], X, Y, [1, 1.5, 0], "abc"),
        "unidentifiable", "error", "only a/b is determined", 'fixed={"b": 1}',
    ),
    "a times b squared": (
        lambda: fitted(lambda x, p: p[0] * p[1] ** 2 * x + p[2], X, Y, [1, 1.5, 0], "abc"),
        "unidentifiable", "error", "only a·b² is determined", 'fixed={"b": 1}',
    ),
    "three factors": (
        lambda: fitted(lambda x, p: p[0] * p[1] * p[2] * x + p[3], X, Y, [1, 1.5, 2, 0], "abcd"),
        "unidentifiable", "error", "a, b and c cannot be told apart: only a·b·c is determined", 'fixed={"b": 1, "c": 1}',
    ),
    "a minus twice b": (
        lambda: fitted(lambda x, p: p[0] - 2 * p[1] + p[2] * x, X, Y, [1, 1.5, 2], "abc"),
        "unidentifiable", "error", "only a − 2·b is determined", 'fixed={"b": 0}',
    ),
    "a shift and an amplitude": (
        lambda: fitted(lambda x, p: decay(x + p[3], p), X, DECAY, [4, 0.6, 0.9, 0.1], ["a", "k", "c", "t0"]),
        "unidentifiable", "error", "a and t0 cannot be told apart: only one combination of them is determined", "",
    ),
    "two sums of five": (
        lambda: fitted(
            lambda x, p: (p[0] + p[1] + p[2]) * x + (p[1] + 2 * p[0]), X, Y, [1.0, 2.5, 0.3], "abc"
        ),
        "unidentifiable", "error", "a, b and c cannot be told apart: only 2 combinations of them are determined", "",
    ),
    "a parameter the model never uses": (
        lambda: fitted(lambda x, p: line(x, p) + 0 * p[2], X, Y, [1, 1, 2], "wbd", unused=("d",)),
        "unidentifiable", "error", "The model never uses d: any value would give the same curve.", 'fixed={"d": 2}',
    ),
    "a parameter without effect": (
        lambda: fitted(lambda x, p: line(x, p) + np.where(x > 90, p[2], 0), X, Y, [1, 1, 2], "wbd"),
        "unidentifiable", "error", "No point moves when d does", 'fixed={"d": 2}',
    ),
    "constant x": (
        lambda: evidence(line, 0 * X + 5, Y, [1, Y.mean() - 5], "wb", constant=("x",), units={"x": "°F"}),
        "unidentifiable", "error",
        "x is 5\u202f°F in all 40 rows, so w and b cannot be told apart: only 5·w + b is determined.", "fixed=",
    ),
    "x hardly varies": (
        lambda: evidence(line, 1e13 + X, Y, [SLOPE, INTERCEPT - SLOPE * 1e13], "wb"),
        "unidentifiable", "error",
        "x varies by only 1\u202f×\u202f10⁻¹² of its size, so w and b cannot be told apart: only 1.00\u202f×\u202f10¹³·w + b is",
        "fixed=",
    ),
    "three places of x for four parameters": (
        lambda: evidence(
            lambda x, p: p[0] + p[1] * x + p[2] * x**2 + p[3] * x**3, THREE, E40, [*np.polyfit(THREE, E40, 2)[::-1], 0], "abcd"
        ),
        "too-few-points", "error", "x takes only 3 different values, too few for 4 parameters.", 'fixed={"d": 0}',
    ),
    "a bound in the way": (
        bounded_line, "at-bound", "warning", "b sits on its bound 3; freeing it lowers the sum of squares by",
        'bounds={"b": (None, None)}',
    ),
    "a tenth of a decay": (
        lambda: fitted(decay, X / 50, 5 * np.exp(-X / 100) + 2 + 0.01 * E40, [5, 0.5, 2], "akc"),
        "strong-correlation", "warning", "are known only together", "fixed=",
    ),
    "sine at a wrong frequency": (
        lambda: fitted(sine, LONG, 2 * np.sin(5 * LONG) + 0.1 * E200, [1, 1, 0], "Awp", response="U", units={"U": "V"}),
        "underfitting", "warning", "The curve misses U by 1.4\u202fV, 13 times the noise, in a pattern along x", 'start="search"',
    ),
    "five points a turn": (
        lambda: fitted(sine, X, 2 * np.sin(5 * X) + 0.1 * E40, [1, 1, 0], "Awp"),
        "underfitting", "warning", "in a pattern along x: a wrong model, or a local minimum", 'start="search"',
    ),
    "another start ended lower": (
        lambda: fitted(
            sine, LONG, 2 * np.sin(5 * LONG) + 0.1 * E200, [1, 1, 0], "Awp", other_rss=2.0,
            other_values={"A": 2.0, "w": 5.0, "p": 0.0},
        ),
        "local-minimum", "warning", "Another start reaches a sum of squares 200 times lower, at A = 2.00, w = 5.00 and p = 0.",
        'start={"A": 2, "w": 5, "p": 0}',
    ),
    "a slow wave left over": (
        lambda: fitted(line, LONG, LONG + np.cos(LONG) + 0.7 * E200, [1, 1], "wb"),
        "structured-residuals", "warning", "Residuals follow a pattern along x, 1.", 'start="search"',
    ),
    "a fast wave left over": (
        lambda: fitted(line, LONG, LONG + np.cos(40 * LONG) + 0.7 * E200, [1, 1], "wb"),
        "structured-residuals", "warning", "Residuals swing along x with a turn every 3.1 points", 'start="search"',
    ),
    "two bad rows": (
        lambda: fitted(line, X, outlying([3, 20], [5, -6]), [1, 1], "wb"),
        "outliers", "warning", "2 rows of 40 lie at least 23 s.d. off the curve (rows 4 and 21); without them w moves by +3.4",
        'loss="bisquare"',
    ),
    "one bad row": (
        lambda: fitted(line, X, outlying([39], [9.0]), [1, 1], "wb"), "outliers", "warning", "Row 40 lies 37 s.d. off the curve; without it w moves by −6.1", 'loss="bisquare"',
    ),
    "scatter that grows": (
        lambda: fitted(line, LONG + 1, times_100_noise(LONG + 1), [1, 1], "wb", response="dose rate"),
        "unequal-variance", "warning", "Scatter at the high end of", 'weights="1/{dose rate}**2"',
    ),
    "scatter that grows about zero": (
        lambda: fitted(line, LONG - 5, (LONG + 0.3) * E200, [1, 1], "wb"),
        "unequal-variance", "warning", "give each row its standard deviation sd.", "sigma=sd",
    ),
    "sigma too small": (
        lambda: fitted(line, X, Y, [1, 1], "wb", sigma=0.1, absolute=True, sigma_column="err"),
        "sigma-too-small", "warning", "times what sigma says (reduced chi-square", 'weights="1/err**2"',
    ),
    "as many points as parameters": (
        lambda: evidence(line, X[:2], Y[:2], [1, 1], "wb"),
        "too-few-points", "error", "2 points for 2 parameters: the curve goes through every point", 'fixed={"b": 1}',
    ),
    "fewer points than parameters": (
        lambda: evidence(decay, X[:1], Y[:1], [1, 1, 1], "akc"),
        "too-few-points", "error", "1 point for 3 parameters: too few to determine them.", 'fixed={"c": 1}',
    ),
    "one degree of freedom": (
        lambda: fitted(line, X[:3], Y[:3], [1, 1], "wb"),
        "too-few-points", "warning", "95 % intervals reach 12.7 standard errors to each side", "fixed=",
    ),
    "out of iterations": (
        lambda: at([1.9, 1.2], status="max-iterations"),
        "not-converged", "error", "The fit stopped at its last allowed iteration,", "max_iterations=10000",
    ),
    "interrupted": (
        lambda: at([1.9, 1.2], status="interrupted"),
        "not-converged", "error", "The fit stopped when it was interrupted,", 'start={"w": 1.9, "b": 1.2}',
    ),
    "said to have converged": (
        lambda: at([1.99, 1.2]), "not-converged", "error", "confidence radii from the minimum.", 'start="search"',
    ),
    "diverged": (
        lambda: at([1.9, 1.2], status="diverged", message="The step grew without limit"),
        "not-converged", "error", "The step grew without limit.", 'start="search"',
    ),
    "NaN in y": (
        lambda: evidence(line, X, bad(Y, [3, 7], np.nan), [2, 1], "wb", response="t_c"),
        "non-finite", "error", "t_c is NaN in rows 4 and 8.", 'missing="drop"',
    ),
    "infinite x": (
        lambda: evidence(line, bad(X, 0, np.inf), Y, [2, 1], "wb"),
        "non-finite", "error", "x is not finite in row 1.", "exclude=[1]",
    ),
    "logarithm of zero": (
        lambda: evidence(lambda x, p: p[0] * np.log(x) + p[1], X, Y, [2, 1], "ab"),
        "non-finite", "error", "The model is not finite in row 1 (x = 0) with a = 2.00 and b = 1.00.", "exclude=[1]",
    ),
    "a derivative that is NaN": (
        lambda: replace(at([2, 1]), jacobian=np.where(np.arange(40)[:, None] == 2, np.nan, at([2, 1]).jacobian)),
        "non-finite", "error", "The derivative by w and b is not finite in row 3 (x = 0.513).", "exclude=[3]",
    ),
    "sigma of zero": (
        lambda: replace(at([2, 1]), residuals=bad(Y, 5, np.inf)),
        "non-finite", "error", "The weighted residual is not finite in row 6", "exclude=[6]",
    ),
    "a parameter that is lost": (
        lambda: replace(at([2, 1]), values=np.array([2, np.nan])),
        "non-finite", "error", "The fit lost b: no finite value is left.", 'start="search"',
    ),
    "a solver that met infinity": (
        lambda: at([2, 1], status="non-finite"),
        "non-finite", "error", "The fit stopped where the model is not finite.", 'start="search"',
    ),
}  # fmt: skip


@pytest.fixture(scope="module", params=SICK)
def sick(request):
    made, code, severity, message, remedy = SICK[request.param]
    return diagnose(made()), code, severity, message, remedy


def test_the_defect_is_named_alone_with_its_number_and_its_remedy(sick):
    found, code, severity, message, remedy = sick
    assert raised(found) == {code}
    first = found.findings[0]
    assert (first.code, first.severity) == (code, severity)
    assert message in first.message
    assert first.remedy.startswith(remedy)


def test_a_message_is_one_sentence_and_its_facts_are_json(sick):
    for finding in sick[0].findings:
        assert finding.message.endswith(".")
        assert not re.search(r"[.!?] [A-Z]|\n|e[-+]\d\d|\bnan\b|'|please", finding.message)
        assert json.loads(json.dumps(dict(finding.evidence), allow_nan=False)) is not None


def test_a_remedy_is_an_argument_of_fit(sick):
    for finding in sick[0].findings:
        if finding.severity != "info":
            call = ast.parse(f"fit({finding.remedy})", mode="eval").body
            assert next(keyword.arg for keyword in call.keywords) in ARGUMENTS
            assert not call.args


def test_the_verdict_is_as_bad_as_the_worst_finding(sick):
    found, _, severity, _, _ = sick
    assert verdict(found.findings, converged=True) == {"warning": "caution", "error": "no"}[severity]
    assert [finding.severity for finding in found.findings] == sorted(
        (finding.severity for finding in found.findings), key=["error", "warning", "info"].index
    )


HEALTHY = {
    "the thermometer": lambda: fitted(line, T_U, T_C, [1, 1], "wb"),
    "a line": lambda: fitted(line, X, Y, [1, 1], "wb"),
    "a decay": lambda: fitted(decay, X, DECAY, [4, 0.6, 0.9], "akc"),
    "x at 1e9": lambda: evidence(
        line, 1e9 + X, Y, [SLOPE, INTERCEPT - SLOPE * 1e9], "wb"
    ),
    "y at 1e9, without noise": lambda: fitted(line, X, 2 * X + 1e9, [2, 1e9], "wb"),
    "x at 1e9, without noise": lambda: evidence(line, 1e9 + X, 2 * (1e9 + X) + 1, [2 * (1 + 1e-16), 1.0], "wb"),
    "no noise at all": lambda: evidence(line, X, 2 * X + 1, [2.0, 1.0], "wb"),
    "all zero": lambda: evidence(line, X, 0 * X, [0.0, 0.0], "wb"),
    "a constant": lambda: fitted(lambda x, p: p[0] + 0 * x, X, 1 + E40, [1], "c"),
    "nothing free": lambda: evidence(lambda x, _: 2 * x + 1, X, Y, [], ""),
    "one point, nothing free": lambda: evidence(lambda x, _: 0 * x + 1, X[:1], Y[:1], [], ""),
    "no input": lambda: fitted(lambda x, p: p[0] + 0 * x, X, 1 + E40, [1], "c", inputs={}),
    "replicates, filed sorted": lambda: fitted(
        line, np.repeat(np.arange(8.0), 5), np.repeat(np.arange(8.0), 5) + np.sort(E40.reshape(8, 5)).ravel(), [1, 1], "wb"
    ),
    "rounded to three times the noise": lambda: fitted(line, X, np.round(2 * X + 1 + 0.3 * E40), [1, 1], "wb"),
    "sigma as it is": lambda: fitted(line, X, Y, [1, 1], "wb", sigma=0.3, absolute=True),
    "truth on the bound": lambda: replace(
        fitted(line, X, Y, [1, 1], "wb"), lower=fitted(line, X, Y, [1, 1], "wb").values
    ),
    "wide bounds": lambda: at([SLOPE, INTERCEPT], lower=np.array([0.0, 0.0]), upper=np.array([1e9, 1e9])),
    "stalled at the minimum": lambda: fitted(line, X, Y, [1, 1], "wb", status="stalled"),
    "bad rows under a robust loss": lambda: fitted(line, X, outlying([3, 20], [5, -6]), [1, 1], "wb", robust="huber"),
    "a row of weight zero": with_weight_zero,
    "a fixed parameter that is not used": lambda: fitted(line, X, Y, [1, 1], "wb", unused=("d",)),
    "another start that ended alike": lambda: fitted(line, X, Y, [1, 1], "wb", other_rss=3.0),
    "a row beyond the tail that moves nothing": lambda: fitted(
        line, np.linspace(0, 10, 4000), np.linspace(0, 10, 4000) + bad(np.random.default_rng(4).normal(size=4000), 2000, 16.0), [1, 1], "wb"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_fit_has_neither_warning_nor_error(name):
    found = diagnose(HEALTHY[name]())
    assert [finding.message for finding in found.findings if finding.severity != "info"] == []
    assert verdict(found.findings, converged=True) == "trust"


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("the thermometer", "few-points-to-test", "11 points: a pattern below 2 times the noise"),
        ("x at 1e9, without noise", "perfect-fit", "The curve meets every point to rounding"),
        ("y at 1e9, without noise", "perfect-fit", "there is no noise, and error bars mean nothing."),
        (
            "rounded to three times the noise",
            "quantised-data",
            "y comes in steps of 1, wider than its scatter",
        ),
        ("truth on the bound", "at-bound", "w and b sit on their bounds 2.0"),
        ("stalled at the minimum", "not-converged", "The fit stopped, and it is at the minimum"),
        ("bad rows under a robust loss", "outliers", "the huber loss holds them down."),
        ("a row beyond the tail that moves nothing", "outliers", "Row 2001 lies 1"),
    ],
)
def test_what_is_only_worth_knowing_is_said_as_info(name, code, message):
    said = [finding.message for finding in diagnose(HEALTHY[name]()).findings if finding.code == code]
    assert len(said) == 1
    assert message in said[0]


def test_sigma_given_too_large_is_said_and_does_not_alarm():
    found = diagnose(fitted(line, X, Y, [1, 1], "wb", sigma=2.0, absolute=True))
    assert raised(found) == set()
    assert "The scatter is only 0.1" in next(f.message for f in found.findings if f.code == "sigma-too-large")


def test_checks_carry_the_line_they_are_judged_by():
    checks = {check.name: check for check in diagnose(HEALTHY["sigma as it is"]()).checks}
    assert set(checks) == {
        "Curve left over",
        "Rows off the curve",
        "Scatter that changes",
        "Scatter above sigma",
    }
    assert all(check.alarm < check.p <= 1 and not check.raised for check in checks.values())
    wave = {check.name: check for check in diagnose(SICK["a slow wave left over"][0]()).checks}[
        "Curve left over"
    ]
    assert wave.raised
    assert wave.p < wave.alarm


def test_the_thermometer_raises_none_of_its_checks():
    found = diagnose(HEALTHY["the thermometer"]())
    assert found.checks
    assert not any(check.raised for check in found.checks)


@pytest.mark.parametrize("scale", [1e-300, 1e-150, 1e150, 1e300])
@pytest.mark.parametrize("case", ["two bad rows", "a slow wave left over", "a times b"])
def test_extreme_sizes_change_nothing(case, scale):
    e = SICK[case][0]()
    far = replace(
        e, y=e.y * scale, fitted=e.fitted * scale, residuals=e.residuals * scale, jacobian=e.jacobian * scale
    )
    assert raised(diagnose(far)) == {SICK[case][1]}


def test_a_million_rows_are_tested_and_their_one_bad_row_is_named():
    x = np.linspace(0, 10, 1_000_000)
    y = 2 * x + 1 + np.random.default_rng(1).normal(size=len(x))
    y[123_456] += 5000
    found = diagnose(evidence(line, x, y, np.polyfit(x, y, 1), "wb"))
    assert raised(found) == {"outliers"}
    assert found.findings[0].evidence["rows"] == (123_457,)
    assert {check.name for check in found.checks} == {"Curve left over", "Rows off the curve"}


def test_a_long_list_of_rows_is_cut():
    rows = np.arange(0, 200, 20)
    y = LONG + 0.1 * E200
    y[rows] += 30
    found = diagnose(fitted(line, LONG, y, [1, 1], "wb"))
    message = next(finding.message for finding in found.findings if finding.code == "outliers")
    assert re.search(r"\(rows (\d+, ){7}\d+ and 2 more\)", message)


def test_the_evidence_is_not_changed():
    e = SICK["two bad rows"][0]()
    before = {
        name: getattr(e, name).copy() for name in ("y", "fitted", "residuals", "jacobian", "values", "rows")
    }
    for array in before:
        getattr(e, array).flags.writeable = False
    diagnose(e)
    assert all(np.array_equal(before[name], getattr(e, name)) for name in before)


def test_a_pattern_in_weighted_rows_is_seen_through_the_weights():
    """What the model misses is smooth in y; divided by a sigma that jumps from row to row it looks like noise."""
    sigma = np.exp(np.random.default_rng(3).normal(size=200))
    y = LONG + 6 * np.cos(LONG) + sigma * E200
    found = diagnose(fitted(line, LONG, y, [1, 1], "wb", sigma=sigma))
    assert raised(found) == {"underfitting"}


def test_verdict_without_convergence_is_no():
    assert verdict([], converged=False) == "no"
    assert verdict([Finding("outliers", "warning", "Row 3 lies off.")], converged=True) == "caution"


def test_a_fit_cut_short_is_not_blamed_on_its_parameters():
    """Four iterations from far away: whatever seems to be redundant or correlated there is a consequence."""
    e = evidence(decay, X, DECAY, [40.0, 30.0, 9.0], "akc", status="max-iterations")
    assert raised(diagnose(e)) == {"not-converged"}


def test_the_defaults_of_evidence_are_those_of_a_plain_fit():
    e = at([2, 1])
    assert isinstance(e, Evidence)
    assert (e.response, e.absolute, e.robust, e.status, e.unused, e.constant) == (
        "y",
        False,
        None,
        "converged",
        (),
        (),
    )
