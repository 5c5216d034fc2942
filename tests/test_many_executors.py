"""What runs many fits: which executor, in which precision, from which start, on how many threads; and that it says so."""

import json
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import gradfit
from gradfit.errors import OptionError

GAUSS = "y = a*exp(-0.5*((x - c)/w)**2) + b"
X = np.linspace(0, 10, 25) + 1e-3
TRUE = {
    "peak": (GAUSS, {"a": (1, 30), "c": (2, 8), "w": (0.4, 1.5), "b": (-1, 1)}),
    "two peaks": (
        "y = a*exp(-0.5*((x - c)/w)**2) + d*exp(-0.5*((x - g)/f)**2) + b",
        {"a": (3, 8), "c": (2, 4), "w": (0.5, 0.9), "d": (3, 8), "g": (6, 8), "f": (0.5, 0.9), "b": (0, 1)},
    ),
    "decay": ("y = a*exp(-x/tau) + b", {"a": (2, 9), "tau": (1, 5), "b": (-1, 1)}),
    "two decays": ("y = a*exp(-x/s) + b*exp(-x/l)", {"a": (3, 9), "b": (3, 9), "s": (0.3, 0.8), "l": (3, 6)}),
    "wave": ("y = a*sin(om*x + ph) + b", {"a": (1, 3), "om": (1, 3), "ph": (0, 6), "b": (0, 1)}),
    "step": ("y = a/(1 + exp(-(x - c)/w)) + b", {"a": (3, 8), "c": (3, 7), "w": (0.3, 1.2), "b": (0, 1)}),
    "rational": ("y = a/(1 + (x/k)**h)", {"a": (1, 5), "k": (2, 6), "h": (1.5, 5)}),
    "line": ("y = a*x + b", {"a": (-3, 3), "b": (-5, 5)}),
}  # fmt: skip


def simulated(name, m, *, noise=0.05, seed=0):
    """Return a formula, the data of many fits, and the true parameters."""
    formula, ranges = TRUE[name]
    random = np.random.default_rng(seed)
    true = {p: random.uniform(low, high, (m, 1)) for p, (low, high) in ranges.items()}
    y = np.broadcast_to(evaluated(formula, true), (m, len(X)))
    return formula, y + noise * random.normal(size=y.shape), {p: v[:, 0] for p, v in true.items()}


def evaluated(formula, values):
    from gradfit.formula import parse_expression

    return parse_expression(formula.partition("=")[2].strip()).evaluate({**values, "x": X})


# ---------------------------------------------------------------------------- which one, and why


@pytest.mark.parametrize(
    ("options", "m", "executor", "why"),
    [
        ({}, 40, "numpy", "numpy ran the fits: for 1.000 points nothing is compiled"),
        ({}, 9000, "native", "native ran the fits: 225.000 points are worth compiling the model"),
        ({"executor": "numpy"}, 9000, "numpy", ""),
        ({"executor": "native"}, 40, "native", ""),
        ({"dtype": "float32"}, 40, "numpy", "dtype=float32 is for machine code and torch: numpy computes in float64"),
    ],
    ids=["little work", "much work", "numpy", "native", "float32 of little work"],
)  # fmt: skip
def test_the_result_says_what_ran_and_why(options, m, executor, why):
    formula, y, true = simulated("peak", m)
    many = gradfit.fit_many(formula, {"x": X, "y": y}, start=true, **options)
    assert many.executor == executor
    told = [line.replace("\u202f", ".") for line in many.how]
    assert why in told if why else told == []
    assert all(line.replace("\u202f", ".") in many.summary().replace("\u202f", ".") for line in told)


def test_a_model_that_machine_code_cannot_run_says_so():
    def steps(x, a):
        return np.array([float(a) * float(int(v)) for v in x])

    many = gradfit.fit_many(steps, {"x": X, "y": np.tile(3.0 * np.floor(X), (9000, 1))[:3]}, start={"a": 1.0})
    assert many.executor == "numpy"
    assert many.how[0].startswith("numpy calls the model for one fit after the other")


# ---------------------------------------------------------------------------- precision


def test_single_precision_gives_what_it_says():
    formula, y, true = simulated("peak", 3000)
    double = gradfit.fit_many(formula, {"x": X, "y": y}, start=true, executor="native")
    single = gradfit.fit_many(formula, {"x": X, "y": y}, start=true, executor="native", dtype="float32")
    assert single.converged.all()
    off = np.abs(single.ends.parameters - double.ends.parameters) / double.ends.stderr
    assert 0 < off.max() < 0.005
    np.testing.assert_allclose(single.ends.stderr, double.ends.stderr, rtol=1e-3)


HARD = {
    "no noise": (lambda y: y, lambda x: x, 0.0),
    "a large offset of y": (lambda y: y + 1e6, lambda x: x, 0.05),
    "a large offset of x": (lambda y: y, lambda x: x + 1e6, 0.05),
    "tiny": (lambda y: 1e-25 * y, lambda x: x, 0.05),
    "large": (lambda y: 1e25 * y, lambda x: x, 0.05),
    "x in seconds of nanoseconds": (lambda y: y, lambda x: 1e-15 * x, 0.05),
}


@pytest.mark.parametrize("case", HARD)
def test_data_beyond_single_precision_are_fitted_in_double(case):
    on_y, on_x, noise = HARD[case]
    formula, y, true = simulated("peak", 60, noise=noise)
    x, y = on_x(X), on_y(y)
    scale = (on_y(np.ones(1)) - on_y(np.zeros(1)))[0]
    unit = (on_x(np.ones(1)) - on_x(np.zeros(1)))[0]
    start = {
        "a": 1.05 * scale * true["a"], "b": scale * true["b"] + on_y(np.zeros(1))[0],
        "c": unit * true["c"] + on_x(np.zeros(1))[0], "w": unit * true["w"],
    }  # fmt: skip
    double, single = (
        gradfit.fit_many(formula, {"x": x, "y": y}, start=start, executor="native", dtype=dtype)
        for dtype in ("float64", "float32")
    )
    np.testing.assert_allclose(single.ends.parameters, double.ends.parameters, rtol=1e-9)


def test_another_precision_is_refused():
    with pytest.raises(OptionError, match="dtype='float16' is not an option"):
        gradfit.fit_many("y = a*x", {"x": X, "y": X[None]}, dtype="float16")


# ---------------------------------------------------------------------------- threads and blocks


@pytest.mark.parametrize("given", [True, False], ids=["start", "no start"])
def test_threads_and_turns_change_no_bit(monkeypatch, given):
    formula, y, true = simulated("peak", 9000)
    y[5], y[77, 3:] = np.nan, np.nan
    call = {"start": true} if given else {}
    one, two, three = (
        gradfit.fit_many(formula, {"x": X, "y": y}, executor="native", threads=n, **call).ends
        for n in (1, 2, 3)
    )
    if given:
        monkeypatch.setattr("gradfit.many.running.TURN", 20_000)
    monkeypatch.setattr("gradfit.solve.lockstep.native.WORTH", 1_000)
    many = gradfit.fit_many(formula, {"x": X, "y": y}, executor="native", threads=4, **call).ends
    for name in ("parameters", "stderr", "rss", "iterations", "status"):
        for other in (two, three, many):
            np.testing.assert_array_equal(getattr(other, name), getattr(one, name), name)


# ---------------------------------------------------------------------------- no start values


@pytest.mark.parametrize(
    ("name", "executor"), [*((name, "native") for name in TRUE), ("peak", "numpy"), ("wave", "numpy")]
)
def test_without_start_values_every_fit_is_as_good_as_from_the_truth(name, executor):
    formula, y, true = simulated(name, 400, seed=3)
    empty = np.arange(400) % 100 == 0
    y[empty] = 0.05 * np.random.default_rng(0).normal(size=(np.count_nonzero(empty), len(X)))
    found = gradfit.fit_many(formula, {"x": X, "y": y}, executor=executor)
    given = gradfit.fit_many(formula, {"x": X, "y": y}, start=true, executor=executor)
    worse = found.rss[~empty] > given.rss[~empty] * (1 + 1e-6)
    assert np.mean(worse) <= 0.005


# ---------------------------------------------------------------------------- models, and what an import does


def torch_peak(x, a, c, w, b):
    import torch

    return a * torch.exp(-0.5 * ((x - c) / w) ** 2) + b


def numpy_peak(x, a, c, w, b):
    return a * np.exp(-0.5 * ((x - c) / w) ** 2) + b


@pytest.mark.parametrize("function", [torch_peak, numpy_peak])
def test_functions_are_compiled_like_formulas(function):
    formula, y, true = simulated("peak", 200)
    written = gradfit.fit_many(formula, {"x": X, "y": y}, start=true, executor="native")
    many = gradfit.fit_many(function, {"x": X, "y": y}, start=true, executor="native")
    assert many.executor == "native"
    np.testing.assert_allclose(many.values["c"], written.values["c"], rtol=1e-9)


def test_importing_and_fitting_change_nothing_of_the_process():
    seen = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
            import json, locale, os, signal, sys, threading
            import numpy as np
            def state():
                return [dict(os.environ), np.geterr(), signal.getsignal(signal.SIGINT) is signal.default_int_handler,
                        sys.getrecursionlimit(), locale.getlocale(), threading.active_count()]
            before = state()
            import gradfit
            x = np.linspace(0, 10, 25)
            y = 3*np.exp(-x/2) + np.zeros((2000, 1))
            gradfit.fit_many("y = a*exp(-x/b)", {"x": x, "y": y}, executor="native")
            print(json.dumps([before == state(), "matplotlib" in sys.modules, "torch" in sys.modules]))
            """),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    same, drawn, _ = json.loads(seen.stdout)
    assert same
    assert not drawn


def test_precision_on_the_command_line(tmp_path, monkeypatch, capsys):
    from command_line import flat, runner

    run = runner(tmp_path, monkeypatch, capsys)
    formula, y, _ = simulated("decay", 20)
    np.savez(tmp_path / "stack.npz", x=X, y=y)
    words = (
        "many",
        "stack.npz",
        formula,
        "--start",
        "a=5,tau=2,b=0",
        "--executor",
        "native",
        "--out",
        "f.csv",
    )
    assert run(*words, "--dtype", "float32").code == 0
    seen = run(*words, "--force", "--dtype", "half")
    assert seen.code == 2
    assert "dtype='half' is not an option" in flat(seen.err)
