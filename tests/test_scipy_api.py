"""curve_fit in SciPy's place: SciPy's own tests, the same numbers, and right answers where SciPy's are wrong."""

import functools
import inspect
import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas
import polars
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, special
from scipy.optimize import OptimizeWarning
from scipy.optimize.tests import test_minpack

import gradfit

X = np.linspace(0.1, 5, 40)
EXACT = {"method": "trf", "jac": "3-point", "ftol": 1e-15, "xtol": 1e-15, "gtol": 1e-15, "x_scale": "jac"}
TIGHT = {"ftol": 1e-13, "xtol": 1e-13, "gtol": 1e-13}


def decay(x, a, b, c):
    return a * np.exp(-b * x) + c


def peak(x, a, c, w):
    return a * np.exp(-(((x - c) / w) ** 2))


def surface(x, a, b, c):
    return a * x[0] * np.exp(-b * x[1]) + c


def two_columns(x, a, b, c):
    u, v = x
    return a * u[:] / (b + v) + c


def noise(n=40, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, n)


DECAY = decay(X, 2.5, 1.3, 0.5) + noise()
PEAK = peak(X, 3, 2.5, 0.8) + noise(seed=1)
TWO = np.array([X, np.sqrt(X[::-1])])
CORRELATED = 0.01 * np.exp(-np.abs(X[:, None] - X) / 0.5)


def agree(ours, theirs, parameters=1e-6, covariance=1e-6):
    """popt to `parameters` of itself and of its error; pcov to `covariance` of the product of two errors."""
    errors = np.sqrt(np.diag(theirs[1]))
    assert (np.abs(ours[0] - theirs[0]) <= parameters * (np.abs(theirs[0]) + errors)).all(), (
        ours[0],
        theirs[0],
    )
    np.testing.assert_allclose(
        ours[1] / np.outer(errors, errors), theirs[1] / np.outer(errors, errors), rtol=0, atol=covariance
    )


# ---------------------------------------------------------------------------- SciPy's own tests


class TestSciPysOwn(test_minpack.TestCurveFit):
    """SciPy's test class with gradfit's function in place of theirs; a case that calls another one fails."""

    @pytest.fixture(autouse=True)
    def in_place_of_theirs(self, monkeypatch):
        calls = []

        def ours(*args, **named):
            calls.append(args)
            return gradfit.curve_fit(*args, **named)

        monkeypatch.setattr(test_minpack, "curve_fit", ours)
        monkeypatch.setattr(test_minpack.optimize, "curve_fit", ours)
        yield
        assert calls


def test_scipys_class_has_46_cases():
    def cases(method):
        return math.prod(
            len(mark.args[1]) for mark in getattr(method, "pytestmark", []) if mark.name == "parametrize"
        )

    methods = [
        m for name, m in inspect.getmembers(TestSciPysOwn, inspect.isfunction) if name.startswith("test")
    ]
    assert sum(map(cases, methods)) == 46


def test_signature_is_scipys():
    ours, theirs = (inspect.signature(f).parameters.values() for f in (gradfit.curve_fit, optimize.curve_fit))
    assert [(p.name, p.default, p.kind) for p in ours][:-1] == [(p.name, p.default, p.kind) for p in theirs][
        :-1
    ]


# ---------------------------------------------------------------------------- the same numbers

PROBLEMS = {
    "decay": (decay, X, DECAY, {}),
    "peak": (peak, X, PEAK, {"p0": [2, 2, 1]}),
    "line": (lambda x, a, b: a * x + b, X, DECAY, {}),
    "constant": (lambda x, c: c, X, DECAY, {}),
    "power": (lambda x, a, b: a * x**b, X, 2 * X**1.4 + noise(), {}),
    "logistic": (
        lambda x, top, slope, middle: top / (1 + np.exp(-slope * (x - middle))),
        X,
        3 * special.expit(2 * (X - 2)) + noise(),
        {"p0": [2, 1, 2]},
    ),
    "scalar sigma": (decay, X, DECAY, {"sigma": 0.1, "absolute_sigma": True}),
    "sigma": (decay, X, DECAY, {"sigma": 0.1 + 0.05 * X}),
    "absolute sigma": (decay, X, DECAY, {"sigma": 0.1 + 0.05 * X, "absolute_sigma": True}),
    "covariance": (decay, X, DECAY, {"sigma": CORRELATED}),
    "absolute covariance": (decay, X, DECAY, {"sigma": CORRELATED, "absolute_sigma": True}),
    "negative sigma": (decay, X, DECAY, {"sigma": np.where(X > 4, -0.1, 0.1)}),
    "infinite sigma": (decay, X, DECAY, {"sigma": np.where(X > 4, np.inf, 0.1)}),
    "open bounds": (decay, X, DECAY, {"bounds": (0, [5, 3, 2])}),
    "Bounds": (decay, X, DECAY, {"bounds": optimize.Bounds([0, 0, 0], [5, 3, 2])}),
    "a bound holds": (decay, X, DECAY, {"bounds": (0, [2, 3, 2])}),
    "two bounds hold": (decay, X, DECAY, {"bounds": ([0, 0, 0.7], [5, 1, 2])}),
    "a bound and sigma": (decay, X, DECAY, {"bounds": (0, [5, 1, 2]), "sigma": 0.1 + 0.05 * X}),
    "start on the bounds": (decay, X, DECAY, {"p0": [0, 0, 0], "bounds": (0, [5, 3, 2])}),
    "start on upper bounds": (decay, X, DECAY, {"p0": [5, 3, 2], "bounds": (0, [5, 3, 2])}),
    "columns": (surface, TWO, surface(TWO, 2, 0.3, 1) + noise(), {}),
    "unpacked": (two_columns, TWO, two_columns(TWO, 2, 0.5, 1) + noise(), {}),
    "soft_l1": (decay, X, DECAY, {"loss": "soft_l1", "f_scale": 0.1, "method": "trf"}),
    "huber": (decay, X, DECAY, {"loss": "huber", "f_scale": 0.1, "method": "trf"}),
    "cauchy": (decay, X, DECAY, {"loss": "cauchy", "f_scale": 0.1, "method": "dogbox"}),
    "arctan": (decay, X, DECAY, {"loss": "arctan", "f_scale": 0.3, "method": "trf", **TIGHT}),
    "own loss": (
        decay, X, DECAY,
        {"loss": lambda z: np.array([np.log1p(z), 1 / (1 + z), -1 / (1 + z) ** 2]), "f_scale": 0.1, "method": "trf", **TIGHT},
    ),
}  # fmt: skip


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())
def test_scipys_numbers(problem):
    f, x, y, named = problem
    agree(
        gradfit.curve_fit(f, x, y, **named),
        optimize.curve_fit(f, x, y, **{**EXACT, **named}),
        covariance=1e-5,
    )


@pytest.mark.parametrize("method", ["lm", "trf", "dogbox"])
@pytest.mark.parametrize("f", [decay, lambda x, *p: decay(x, *p)], ids=["named", "starred"])
def test_every_method(f, method):
    agree(
        gradfit.curve_fit(f, X, DECAY, p0=[1, 1, 1], method=method, **TIGHT),
        optimize.curve_fit(f, X, DECAY, p0=[1, 1, 1], **EXACT),
    )


# ---------------------------------------------------------------------------- whatever container, whatever width

NARROW = DECAY.astype(np.float32)
CONTAINERS = {
    "float32": (X.astype("f4"), NARROW),
    "float32 and float64": (X.astype("f4"), DECAY),
    "float64 and float32": (X, NARROW),
    "lists": (X.tolist(), DECAY.tolist()),
    "tuples": (tuple(X), tuple(DECAY)),
    "Series, odd index": (
        pandas.Series(X, index=np.arange(40)[::-1] * 3), pandas.Series(DECAY, index=list("abcdefghij" * 4))
    ),
    "Series of float32": (pandas.Series(X.astype("f4")), pandas.Series(NARROW)),
    "Polars": (polars.Series(X), polars.Series(DECAY)),
    "read-only": (np.broadcast_to(X, X.shape), np.broadcast_to(DECAY, DECAY.shape)),
    "strided": (np.repeat(X, 2)[::2], np.repeat(DECAY, 2)[::2]),
}  # fmt: skip


@pytest.mark.parametrize("bounds", [(-np.inf, np.inf), (0, 10)], ids=["open", "bounds"])
@pytest.mark.parametrize("pair", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_containers_and_widths(pair, bounds):
    popt, pcov = gradfit.curve_fit(decay, *pair, bounds=bounds)
    reference = optimize.curve_fit(decay, *(np.asarray(d, dtype=float) for d in pair), **EXACT)
    agree((popt, pcov), reference, covariance=1e-5)
    assert popt.dtype == pcov.dtype == np.float64


@pytest.mark.parametrize("kind", ["i4", "i8", "u2", bool])
def test_whole_numbers(kind):
    x, y = np.arange(2), np.array([0, 1])
    popt, _ = gradfit.curve_fit(
        lambda x, a: a * x**-1.0, (x + 1).astype(kind), y.astype(kind), p0=np.array([2])
    )
    assert popt == pytest.approx(np.array([2 / 5 if kind is not bool else 1 / 2]))


@pytest.mark.parametrize("f", [
    lambda x, a, b, c: decay(x, a, b, c).astype(np.float32),
    lambda x, *p: [np.float32(decay(float(t), *p)) for t in x],
    lambda x, a, b, c: np.array([math.exp(-b * t) * a + c for t in x], dtype=np.float32),
], ids=["traced", "list", "array"])  # fmt: skip
def test_a_function_that_computes_in_float32(f):
    popt, pcov = gradfit.curve_fit(f, X, DECAY, p0=[1, 1, 1])
    agree((popt, pcov), optimize.curve_fit(decay, X, DECAY, **EXACT), parameters=1e-5, covariance=1e-3)


def test_torch_functions_of_a_tensor():
    popt, _ = gradfit.curve_fit(lambda x, a, b: a * torch.exp(-b * x), torch.tensor(X), 2 * np.exp(-0.7 * X))
    assert popt == pytest.approx(np.array([2, 0.7]))


def test_frames_and_mappings_are_handed_on_as_they_are():
    reference = np.polyfit(X, DECAY, 1)
    for table in (pandas.DataFrame({"u": X}), {"u": X}, polars.DataFrame({"u": X})):
        popt, _ = gradfit.curve_fit(lambda t, a, b: a * np.asarray(t["u"]) + b, table, DECAY)
        assert popt == pytest.approx(reference)


def test_no_x_at_all():
    popt, _ = gradfit.curve_fit(lambda _, a: a * np.arange(10), None, 2 * np.arange(10))
    assert popt == pytest.approx([2])


# ---------------------------------------------------------------------------- whatever function


class Instrument:
    def __init__(self, gain):
        self.gain = gain

    def response(self, x, a, b):
        return self.gain * a * np.exp(-b * x)

    def __call__(self, x, a, b):
        return self.gain * a * np.exp(-b * x)


def branching(x, a, b, c):
    return decay(x, a, b, c) if a > 0 else np.full_like(x, 1e3)


def looping(x, a, b, c):
    return np.array([a * math.exp(-b * t) + c for t in x])


def appending(x, a, b, c):
    return [a * math.exp(-b * t) + c for t in x]


def overwriting(x, a, b, c):
    x *= -b
    np.exp(x, out=x)
    x *= a
    x += c
    return x


BUFFER = np.empty_like(X)


def reusing(x, a, b, c):
    np.copyto(BUFFER, looping(x, a, b, c))
    return BUFFER


GRID = np.linspace(0, 12, 400)
FUNCTIONS = {
    "if": (branching, {}),
    "loop": (looping, {}),
    "list": (appending, {}),
    "writes into x": (overwriting, {}),
    "reuses its memory": (reusing, {}),
    "partial": (functools.partial(decay, c=0.5), {"p0": [1, 1]}),
    "partial, keywords": (functools.partial(decay, c=0.5), {}),
    "method": (Instrument(2.0).response, {}),
    "callable": (Instrument(2.0), {}),
    "decorated": (functools.wraps(decay)(lambda *args: decay(*args)), {}),
    "interp": (lambda x, a, s: a * np.interp(s * x, GRID, np.cos(GRID / 4)), {}),
    "convolve": (lambda x, a, b: np.convolve(a * np.exp(-b * x), np.exp(-np.arange(9) / 3), "same"), {}),
    "cumsum": (lambda x, a, b: a - np.cumsum(np.exp(-b * x)) / 9, {"p0": [3, 1]}),
    "mean": (lambda x, a, b: a * (x - x.mean()) + b, {}),
    "special": (lambda x, a, b, c: a * special.erfc(b * x) + c, {}),
    "Bessel": (lambda x, a, s: a * special.jv(0, s * x), {}),
    "piecewise": (
        lambda x, a, k, c: np.piecewise(x, [x < c], [lambda t: a + k * (t - c), a]),
        {"p0": [1, -1, 2]},
    ),
    "clip": (lambda x, a, b: np.clip(a - b * x, 0.4, None), {"p0": [2, 1]}),
    "array of constants": (lambda x, a, b: a * GRID[:40] + b * x**2 + 1, {}),
    "random numbers, unused": (lambda x, a, b: a * x + b + 0 * np.random.default_rng().random(), {}),
}


@pytest.mark.parametrize("case", FUNCTIONS.values(), ids=FUNCTIONS.keys())
def test_functions_that_can_be_traced_and_those_that_cannot(case):
    f, named = case
    agree(
        gradfit.curve_fit(f, X, DECAY, **named),
        optimize.curve_fit(f, X.copy(), DECAY, **named, **EXACT) if f is not overwriting
        else optimize.curve_fit(decay, X, DECAY, **EXACT),
        parameters=2e-6, covariance=1e-4,
    )  # fmt: skip


def test_a_trace_follows_the_constants_of_its_function():
    def model(power):
        return lambda x, a, b, c: a + b * x + power * c * x**2  # a power of 0 hides c at its start

    for power in (0.0, 5.0, 5.0, 2.0, 1.0, 7.0, 3.0):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", OptimizeWarning)
            popt, _ = gradfit.curve_fit(model(power), X, DECAY, p0=[1, 1, 0])
        if power:
            assert popt * [1, 1, power] == pytest.approx(np.polyfit(X, DECAY, 2)[::-1])


def test_a_trace_follows_the_attributes_of_an_object():
    for gain in (1.0, 4.0, 0.5):
        popt, _ = gradfit.curve_fit(Instrument(gain).response, X, 2 * np.exp(-0.7 * X))
        assert popt == pytest.approx(np.array([2 / gain, 0.7]))


def test_a_trace_of_other_data_is_not_believed():
    def model(x, a, b):
        return a * x**2 + b if len(x) > 20 else a * x + b

    popt, _ = gradfit.curve_fit(model, X, 3 * X**2 + 1)
    assert popt == pytest.approx(np.array([3, 1]))
    popt, _ = gradfit.curve_fit(model, X[:10], 3 * X[:10] + 1)
    assert popt == pytest.approx(np.array([3, 1]))


def test_a_function_that_fails_beside_the_start():
    def fragile(x, a, b):
        if a not in (1.0, 2.0):
            raise ZeroDivisionError(f"{a} is none of my places")
        return b * x

    with pytest.raises(ZeroDivisionError):  # as from SciPy
        gradfit.curve_fit(fragile, X, DECAY)


def test_the_function_is_not_called_twice_in_a_row_for_the_same_parameters():
    last = []

    def model(x, *p):
        assert not last or not np.array_equal(last[-1], p)
        last.append(np.array(p))
        return np.array([p[0] * math.exp(-p[1] * t) for t in x])

    gradfit.curve_fit(model, X, 2 * np.exp(-0.7 * X) + noise(), p0=[1, 1])
    assert len(last) > 5


def test_bounds_are_never_crossed():
    seen = []

    def model(x, a, b):
        seen.append((a, b))
        return np.array([a * math.sqrt(b * t) for t in x])  # fails for b < 0

    popt, _ = gradfit.curve_fit(model, X, -np.sqrt(X), p0=[1, 1e-9], bounds=([-3, 0], [3, 1]))
    assert popt[0] * np.sqrt(popt[1]) == pytest.approx(-1)
    places = np.array([p for p in seen if isinstance(p[0], float)])  # without the stand-ins of the trace
    assert places.min(axis=0)[1] >= 0
    assert places.max(axis=0)[1] <= 1


def test_exact_derivatives_need_no_calls():
    calls = []

    def model(x, *p):
        calls.append(p)
        return p[0] * np.exp(-p[1] * x)

    gradfit.curve_fit(model, X, 2 * np.exp(-0.7 * X) + noise(), p0=[1, 1])
    calls.clear()
    gradfit.curve_fit(model, X, 2 * np.exp(-0.7 * X) + noise(seed=3), p0=[1, 1])
    assert len(calls) == 3  # at the start, beside it, at the end


def test_threads():
    def model(x, a, b):
        return a * np.tanh(b * x)

    def fitted(gain):
        return gradfit.curve_fit(model, X, gain * np.tanh(0.7 * X))[0]

    with ThreadPoolExecutor(4) as pool:
        for gain, popt in zip(range(1, 13), pool.map(fitted, range(1, 13)), strict=True):
            assert popt == pytest.approx(np.array([gain, 0.7]))


# ---------------------------------------------------------------------------- right where SciPy is wrong


@pytest.mark.parametrize("offset", [1e6, 1e9])
def test_line_far_from_zero(offset):
    popt, pcov = gradfit.curve_fit(lambda x, a, b: a * x + b, X + offset, 2 * X + noise())
    (slope, _), covariance = np.polyfit((X + offset) - offset, 2 * X + noise(), 1, cov=True)
    assert popt[0] == pytest.approx(slope, rel=1e-6)
    assert pcov[0, 0] == pytest.approx(covariance[0, 0], rel=1e-5)


@pytest.mark.parametrize("f", [peak, lambda x, a, c, w: [a * math.exp(-(((t - c) / w) ** 2)) for t in x]])
def test_peak_far_from_zero(f):
    there, here = (X + 1e9) - 1e9, gradfit.curve_fit(peak, (X + 1e9) - 1e9, PEAK, p0=[2, 2, 1])
    assert there == pytest.approx(X, abs=1e-6)
    popt, pcov = gradfit.curve_fit(f, X + 1e9, PEAK, p0=[2, 2 + 1e9, 1])
    assert popt - [0, 1e9, 0] == pytest.approx(here[0], rel=1e-5)
    assert np.sqrt(np.diag(pcov)) == pytest.approx(np.sqrt(np.diag(here[1])), rel=1e-3)


@given(st.integers(-12, 12), st.integers(-12, 12))
def test_units_only_change_the_units(ten_x, ten_y):
    u, v = 10.0**ten_x, 10.0**ten_y
    popt, pcov = gradfit.curve_fit(decay, X * u, DECAY * v, p0=[v, 1 / u, v])
    reference = gradfit.curve_fit(decay, X, DECAY, p0=[1, 1, 1])
    unit = np.array([v, 1 / u, v])
    agree((popt / unit, pcov / np.outer(unit, unit)), reference, covariance=2e-5)


def test_terms_that_start_alike_part():
    def double(x, a, b, c, d):
        return a * np.exp(-b * x) + c * np.exp(-d * x)

    y = double(X, 3, 0.4, 2, 3) + 0.1 * noise()
    for named in ({}, {"bounds": (0, np.inf)}, {"method": "trf"}):
        popt, pcov = gradfit.curve_fit(double, X, y, **named)
        order = np.argsort(popt[[1, 3]])
        assert popt.reshape(2, 2)[order].ravel() == pytest.approx([3, 0.4, 2, 3], rel=0.1)
        assert np.isfinite(pcov).all()


def test_a_narrow_peak_between_differences():
    x = 574 + X / 50
    y = 3 * np.exp(-(((x - 574.05) / 0.01) ** 2)) + 0.1 * noise()
    popt, _ = gradfit.curve_fit(
        lambda x, a, c, w: [peak(t, a, c, w) for t in x], x, y, p0=[2, 574.048, 0.012]
    )
    assert popt == pytest.approx(gradfit.curve_fit(peak, x, y, p0=[2, 574.048, 0.012])[0], rel=1e-7)


@pytest.mark.parametrize("problem", PROBLEMS.values(), ids=PROBLEMS.keys())
def test_popt_is_a_minimum(problem):
    f, x, y, named = problem
    if "bounds" in named or "loss" in named:
        return
    named = {name: value for name, value in named.items() if name != "p0"}
    popt, _ = gradfit.curve_fit(f, x, y, p0=problem[3].get("p0"), **named)
    again, _ = gradfit.curve_fit(f, x, y, p0=popt * (1 + 1e-4), **named)
    assert again == pytest.approx(popt, rel=1e-8)


def test_a_start_that_only_rounding_puts_outside():
    popt, _ = gradfit.curve_fit(decay, X, DECAY, p0=[5 * (1 + 1e-15), 1, 1], bounds=(0, 5))
    assert popt == pytest.approx(optimize.curve_fit(decay, X, DECAY)[0], rel=1e-6)


# ---------------------------------------------------------------------------- missing values


@given(st.sets(st.integers(0, 39), max_size=10), st.sets(st.integers(0, 39), max_size=10), st.integers(0, 2))
def test_omit_has_one_mask_for_all(in_x, in_y, dimension):
    sigma = [0.1, 0.1 + 0.05 * X, CORRELATED][dimension]
    x, y = X.copy(), DECAY.copy()
    x[list(in_x)], y[list(in_y)] = np.nan, np.nan
    keep = np.setdiff1d(np.arange(40), list(in_x | in_y))
    rest = sigma if dimension == 0 else sigma[keep] if dimension == 1 else sigma[np.ix_(keep, keep)]
    ours = gradfit.curve_fit(decay, x, y, sigma=sigma, nan_policy="omit")
    theirs = gradfit.curve_fit(decay, X[keep], DECAY[keep], sigma=rest)
    agree(
        ours, theirs, 1e-10, 1e-5
    )  # one of the two may be the first in machine code, whose covariance is MINPACK's no more


def test_omit_keeps_a_series():
    x = pandas.Series(np.where(X > 4, np.nan, X), index=np.arange(40) * 2)
    popt, _ = gradfit.curve_fit(lambda x, a, b: (a * x + b).rename("y"), x, DECAY, nan_policy="omit")
    assert popt == pytest.approx(np.polyfit(X[X <= 4], DECAY[X <= 4], 1))


# ---------------------------------------------------------------------------- full output


@pytest.mark.parametrize(
    "f", [decay, looping, lambda x, a, b, c: a + b * x + c * x**2], ids=["traced", "not", "linear"]
)
def test_infodict_gives_pcov_as_scipys_page_says(f):
    popt, pcov, info, message, ier = gradfit.curve_fit(f, X, DECAY, sigma=0.1 + 0.05 * X, full_output=True)
    residuals = (np.array(f(X, *popt)) - DECAY) / (0.1 + 0.05 * X)
    assert info["fvec"] == pytest.approx(residuals, abs=1e-7)
    R = np.triu(info["fjac"].T[:3])
    inverse = np.empty((3, 3))
    inverse[np.ix_(info["ipvt"], info["ipvt"])] = np.linalg.inv(R.T @ R)
    scaled = inverse * (residuals @ residuals) / 37
    errors = np.sqrt(np.diag(pcov))
    np.testing.assert_allclose(scaled / np.outer(errors, errors), pcov / np.outer(errors, errors), atol=1e-4)
    assert info["qtf"].shape == (3,)
    assert info["nfev"] >= 1
    assert ier in (1, 2, 3, 4)
    assert message


@pytest.mark.parametrize("method", ["trf", "dogbox"])
def test_full_output_of_the_other_methods(method):
    _, _, info, message, ier = gradfit.curve_fit(decay, X, DECAY, method=method, full_output=True)
    assert set(info) == {"nfev", "fvec"}
    assert ier in (1, 2, 3, 4)
    assert "termination condition is satisfied" in message


# ---------------------------------------------------------------------------- derivatives from the caller


def slopes(x, a, b, c):  # noqa: ARG001  a Jacobian's signature
    e = np.exp(-b * x)
    return np.stack([e, -a * x * e, np.ones_like(x)]).T


@pytest.mark.parametrize("method", ["lm", "trf"])
@pytest.mark.parametrize("sigma", [None, 0.1 + 0.05 * X, CORRELATED], ids=["plain", "sigma", "covariance"])
def test_a_given_jacobian_is_used(sigma, method):
    calls = []

    def jac(x, *p):
        calls.append(p)
        return slopes(x, *p)

    agree(
        gradfit.curve_fit(decay, X, DECAY, sigma=sigma, jac=jac, method=method),
        optimize.curve_fit(decay, X, DECAY, sigma=sigma, **EXACT),
        covariance=1e-5,
    )
    assert calls


def test_a_jacobian_by_columns():
    agree(
        gradfit.curve_fit(decay, X, DECAY, jac=lambda x, *p: slopes(x, *p).T, col_deriv=True),
        optimize.curve_fit(decay, X, DECAY, **EXACT),
        covariance=1e-5,
    )


@pytest.mark.parametrize("f", [decay, looping], ids=["traced", "not"])
@pytest.mark.parametrize("scheme", ["2-point", "3-point", "cs"])
def test_schemes_of_differences_are_accepted(scheme, f):
    agree(
        gradfit.curve_fit(f, X, DECAY, jac=scheme, method="trf"),
        optimize.curve_fit(decay, X, DECAY, **EXACT),
        covariance=1e-5,
    )


@pytest.mark.parametrize(
    "named", [{"epsfcn": 1e-6}, {"diff_step": 1e-3, "method": "trf"}], ids=["epsfcn", "diff_step"]
)
def test_a_step_that_is_asked_for_is_taken(named):
    seen = []

    def model(x, *p):
        seen.append(p)
        return decay(x, *p)

    popt, _ = gradfit.curve_fit(model, X, DECAY, p0=[2, 1, 1], **named)
    assert (2 * 1.001, 1, 1) in [tuple(np.round(p, 9)) for p in seen]
    assert popt == pytest.approx(optimize.curve_fit(decay, X, DECAY)[0], rel=1e-2)


# ---------------------------------------------------------------------------- what is refused, and how


def bad_start(x, a, b):
    return a * np.log(x - b)


REFUSED = {
    "values missing": ((decay, X, np.where(X > 4, np.nan, DECAY)), {}, ValueError, "must not contain infs or NaNs: ydata .* row 33"),
    "x infinite": ((decay, np.where(X > 4, np.inf, X), DECAY), {}, ValueError, "infs or NaNs: xdata"),
    "unchecked": ((decay, X, np.where(X > 4, np.nan, DECAY)), {"check_finite": False}, RuntimeError, "ydata is not finite in 8"),
    "unchecked, trf": (
        (decay, X, np.where(X > 4, np.nan, DECAY)), {"check_finite": False, "method": "trf"}, ValueError,
        "Residuals are not finite in the initial point.*ydata",
    ),
    "nothing": ((decay, [], []), {}, ValueError, "`ydata` must not be empty!"),
    "text": ((decay, ["a", "b"], [1, 2]), {}, ValueError, "could not convert"),
    "not finite at the start": ((bad_start, X, DECAY), {}, RuntimeError, r"bad_start at p0 = \[1.0, 1.0\] is not finite in 8 of 40 rows"),
    "not finite, trf": ((bad_start, X, DECAY), {"method": "trf"}, ValueError, "not finite in the initial point. bad_start"),
    "fewer rows than parameters": ((decay, X[:2], DECAY[:2]), {}, TypeError, "parameters=3 must not exceed the number of data points=2"),
    "no parameters": ((lambda x: x, X, DECAY), {}, ValueError, "Unable to determine number of fit parameters"),
    "starred": ((lambda x, *p: x, X, DECAY), {}, ValueError, "Unable to determine"),
    "start outside": ((decay, X, DECAY), {"p0": [6, 1, 1], "bounds": (0, 5)}, ValueError, r"outside of provided bounds.*p0\[0\] \(a\) = 6"),
    "start not a number": ((decay, X, DECAY), {"p0": [1, np.nan, 1]}, ValueError, "`p0` must be finite"),
    "start complex": ((decay, X, DECAY), {"p0": [1, 1j, 1]}, ValueError, "must be real"),
    "bounds reversed": ((decay, X, DECAY), {"bounds": (5, 0)}, ValueError, "lower bound must be strictly less"),
    "bounds equal": ((decay, X, DECAY), {"bounds": ([0, 1, 0], [2, 1, 2])}, ValueError, "lower bound must be strictly less"),
    "bounds of two": ((decay, X, DECAY), {"bounds": ([0, 0], [1, 1])}, ValueError, "Inconsistent shapes"),
    "lm with bounds": ((decay, X, DECAY), {"bounds": (0, 5), "method": "lm"}, ValueError, "only works for unconstrained"),
    "method": ((decay, X, DECAY), {"method": "newton"}, ValueError, "`method` must be"),
    "(n, 1)": ((lambda x, a: a * x[:, None], X, DECAY), {}, ValueError, r"returned shape \(40, 1\) for 40 rows.*broadcast to \(40, 40\)"),
    "too few values": ((lambda x, a: a * x[:3], X, DECAY), {}, ValueError, r"returned shape \(3,\) for 40 rows"),
    "complex": ((lambda x, a: a * x * 1j, X, DECAY), {}, ValueError, "returned complex numbers"),
    "y of two dimensions": ((lambda x, a: a * x, X, DECAY.reshape(4, 10)), {}, ValueError, r"ydata has shape \(4, 10\)"),
    "sigma of another length": ((decay, X, DECAY), {"sigma": np.ones(3)}, ValueError, "`sigma` has incorrect shape"),
    "sigma of 0": ((decay, X, DECAY), {"sigma": np.zeros(40)}, ValueError, "`sigma` must not be 0"),
    "covariance indefinite": ((decay, X, DECAY), {"sigma": -np.eye(40)}, ValueError, "`sigma` must be positive definite"),
    "nan_policy propagate": ((decay, X, DECAY), {"nan_policy": "propagate"}, ValueError, "is not supported by this function"),
    "nan_policy unknown": ((decay, X, DECAY), {"nan_policy": "hi"}, ValueError, "nan_policy must be one of"),
    "nan_policy raise": ((decay, X, np.where(X > 4, np.nan, DECAY)), {"nan_policy": "raise"}, ValueError, "The input contains nan values"),
    "jac of another shape": ((decay, X, DECAY), {"jac": lambda x, *p: slopes(x, *p).T}, ValueError, r"expected \(40, 3\), actual \(3, 40\)"),
    "jac by name, lm": ((decay, X, DECAY), {"jac": "2-point"}, TypeError, "'lm' takes a callable"),
    "jac by a wrong name": ((decay, X, DECAY), {"jac": "4-point", "method": "trf"}, ValueError, "`jac` must be"),
    "args": ((decay, X, DECAY), {"args": (1,)}, ValueError, "'args' is not a supported keyword argument"),
    "a setting of trf": ((decay, X, DECAY), {"max_nfev": 9}, TypeError, r"leastsq\(\) got an unexpected keyword argument 'max_nfev'"),
    "a setting of lm": ((decay, X, DECAY), {"epsfcn": 9, "method": "trf"}, TypeError, r"least_squares\(\) got an unexpected"),
    "loss": ((decay, X, DECAY), {"loss": "l3", "method": "trf"}, ValueError, "`loss` must be one of"),
    "f_scale": ((decay, X, DECAY), {"loss": "huber", "f_scale": 0, "method": "trf"}, ValueError, "must be positive"),
    "x_scale": ((decay, X, DECAY), {"x_scale": "x", "method": "trf"}, ValueError, "`x_scale` must be"),
    "max_nfev of 0": ((decay, X, DECAY), {"max_nfev": 0, "method": "trf"}, ValueError, "must be None or positive"),
    "no tolerance": ((decay, X, DECAY), {**dict.fromkeys(TIGHT), "method": "trf"}, ValueError, "At least one of the tolerances"),
    "maxfev": ((decay, X, DECAY), {"maxfev": 4}, RuntimeError, "Optimal parameters not found: Number of calls to function has reached maxfev = 4"),
    "maxfev without a trace": ((looping, X, DECAY), {"maxfev": 9}, RuntimeError, "has reached maxfev = 9"),
    "max_nfev": ((decay, X, DECAY), {"max_nfev": 2, "method": "trf"}, RuntimeError, "The maximum number of function evaluations is exceeded"),
    "maxfev with bounds": ((decay, X, DECAY), {"maxfev": 2, "bounds": (0, 5)}, RuntimeError, "function evaluations is exceeded"),
    "squares overflow": ((lambda x, a, b: a * x + b, X, DECAY * 1e300), {}, RuntimeError, "the sum of squares overflows"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED.keys())
def test_refused(case):
    args, named, error, sentence = case
    with pytest.raises(error, match=f"(?s){sentence}"):
        gradfit.curve_fit(*args, **named)


@pytest.mark.parametrize("case", ["whole", "plain", "stops"])
def test_callback(case):
    seen = []
    callbacks = {
        "whole": lambda intermediate_result: seen.append(intermediate_result.x),
        "plain": lambda x: seen.append(x),
        "stops": lambda x: next(iter(())),  # StopIteration
    }
    if case == "stops":
        with pytest.raises(RuntimeError, match="Stopped because `callback`"):
            gradfit.curve_fit(decay, X, DECAY, method="trf", callback=callbacks[case])
        return
    popt, _ = gradfit.curve_fit(decay, X, DECAY, method="trf", callback=callbacks[case])
    assert seen[-1] == pytest.approx(popt, rel=1e-3)


# ---------------------------------------------------------------------------- covariance that cannot be had

UNKNOWN = {
    "unused parameter": (lambda x, a, b: a * x, X, DECAY, {}),
    "redundant parameters": (lambda x, a, b: a * b * x, X, DECAY, {}),
    "sum of parameters": (lambda x, a, b: (a + b) * x, X, DECAY, {}),
    "constant x": (lambda x, a, b: a * x + b, np.full(40, 3.0), DECAY, {}),
    "no freedom": (lambda x, a, b: a * x + b, X[:2], DECAY[:2], {}),
    "no freedom, trf": (lambda x, a, b: a * x + b, X[:2], DECAY[:2], {"method": "trf"}),
    "fewer rows than parameters, trf": (decay, X[:2], DECAY[:2], {"method": "trf"}),
    "one row": (lambda x, a: a * x, [2.0], [3.0], {}),
}


@pytest.mark.parametrize("case", UNKNOWN.values(), ids=UNKNOWN.keys())
def test_infinite_covariance_comes_with_a_warning(case):
    f, x, y, named = case
    with pytest.warns(OptimizeWarning, match="Covariance of the parameters could not be estimated"):
        popt, pcov = gradfit.curve_fit(f, x, y, **named)
    assert np.isposinf(pcov).all()
    assert np.isfinite(popt).all()
    residuals = f(np.asarray(x), *popt) - y
    assert residuals @ residuals <= optimize.least_squares(
        lambda p: f(np.asarray(x), *p) - y, np.ones(len(popt)), ftol=1e-12, xtol=1e-12
    ).cost * 2 * (1 + 1e-9) + 1e-12  # fmt: skip


@pytest.mark.parametrize("case", ["unused parameter", "redundant parameters"])
def test_the_other_methods_use_the_pseudo_inverse(case):
    f, x, y, _ = UNKNOWN[case]
    _, pcov = gradfit.curve_fit(f, x, y, method="trf")
    assert np.isfinite(pcov).all()


def test_unused_parameter_keeps_its_start():
    with pytest.warns(OptimizeWarning):
        popt, _ = gradfit.curve_fit(lambda x, a, b: a * x, X, DECAY, p0=[1, 7])
    assert popt[1] == 7


def test_absolute_sigma_without_sigma_is_told():
    with pytest.warns(UserWarning, match="takes the error of every point to be 1"):
        _, pcov = gradfit.curve_fit(decay, X, DECAY, absolute_sigma=True)
    agree(
        (np.ones(1), pcov), (np.ones(1), gradfit.curve_fit(decay, X, DECAY, sigma=1, absolute_sigma=True)[1])
    )


def test_importing_costs_neither_scipy_nor_torch():
    import subprocess
    import sys

    code = "import sys, gradfit; gradfit.curve_fit; print(sorted({m.split('.')[0] for m in sys.modules} & {'scipy', 'torch'}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
