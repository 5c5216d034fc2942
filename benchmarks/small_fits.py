"""Small fits, reading, start-up and NIST's digits, side by side with peers: sections of docs/benchmarks.md.

python benchmarks/run.py small reading start-up digits
"""

import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas
from scipy.optimize import curve_fit as scipy_curve_fit

import gradfit

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from answers import NIST, digits
from peers import installed


def interleaved(
    calls: dict[str, Callable[[], object]], rounds: int = 15, number: int = 20
) -> dict[str, list[float]]:
    """Seconds a call, one list entry a round; the calls take turns, so that a slow moment hits all of them."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for call in calls.values():
        call()
    for _ in range(rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            for _ in range(number):
                call()
            times[name].append((time.perf_counter() - began) / number)
    return times


def line(exp):  # noqa: ARG001  as the others: written once for NumPy and JAX
    def f(x, w, b):
        return w * x + b

    return f


def gauss(exp):
    def f(x, a, c, w, b):
        return a * exp(-(((x - c) / w) ** 2)) + b

    return f


def decay(exp):
    def f(x, a, tau, c):
        return a * exp(-x / tau) + c

    return f


CASES = {  # name -> model, formula, x, truth, noise, start
    "line, 11 points, 2 parameters": (
        line, "y = w*x + b", np.linspace(0, 10, 11), (2, 1), 0.3, {"w": 1, "b": 0},
    ),
    "Gaussian, 25 points, 4 parameters": (
        gauss, "y = a*exp(-((x - c)/w)**2) + b", np.linspace(-3, 3, 25), (5, 0.3, 1.1, 1), 0.15,
        {"a": 4, "c": 0, "w": 1.3, "b": 0.8},
    ),
    "decay, 50 points, 3 parameters": (
        decay, "y = a*exp(-x/tau) + c", np.linspace(0, 5, 50), (3, 1.3, 0.5), 0.05, {"a": 2, "tau": 1, "c": 0},
    ),
}  # fmt: skip


def small_fits(rounds: int = 15, number: int = 100) -> list[str]:
    """Table of times of one warm fit, gradfit's ways and its peers' in turns."""
    rows = [
        f"Medians of {rounds} rounds of {number} calls; the spread is that of the middle half of the rounds. Last column: median of",
        "the ratios round by round to the first line of each fit.",
        "",
        "| fit | what | a fit | spread | times gradfit's |",
        "|---|---|--:|--:|--:|",
    ]
    random = np.random.default_rng(0)
    for name, (written, formula, x, truth, noise, start) in CASES.items():
        y = written(np.exp)(x, *truth) + random.normal(0, noise, len(x))
        for label, seconds, first in _in_turns(written, formula, x, y, start, rounds, number):
            low, middle, high = np.quantile(seconds, (0.25, 0.5, 0.75))
            ratio = statistics.median(s / g for s, g in zip(seconds, first, strict=True))
            rows.append(
                f"| {name} | {label} | {middle * 1e6:,.0f} µs | {(high - low) / middle:.0%} | {ratio:.3g} |"
            )
    return rows


def _in_turns(written, formula, x, y, start, rounds, number):
    """What was measured, its seconds round by round, and those of the first."""
    data, function = {"x": x, "y": y}, written(np.exp)
    model = gradfit.Model(formula)
    calls = {
        "gradfit.fit, formula": lambda: _numbers(gradfit.fit(formula, data, start=start)),
        "gradfit.fit, function": lambda: _numbers(gradfit.fit(function, data, start=start)),
        "gradfit.fit with findings": lambda: gradfit.fit(formula, data, start=start).verdict,
        "gradfit.Model.fit": lambda: _numbers(model.fit(data, start=start)),
        "gradfit.curve_fit": lambda: gradfit.curve_fit(function, x, y, list(start.values())),
        **{peer.label: peer.make(written, x, y, start) for peer in installed()},
    }
    _earned(calls)
    times = interleaved(calls, rounds, number)
    return [(label, seconds, times["gradfit.fit, formula"]) for label, seconds in times.items()]


def _earned(calls: dict[str, Callable[[], object]]) -> None:
    """Call each so often that compiled code, where a tool has some, is there."""
    for label, call in calls.items():
        began = time.perf_counter()
        for _ in range(2000 if label.startswith("gradfit") else 3):
            call()
            if time.perf_counter() - began > 2:
                break


def _numbers(result: gradfit.FitResult) -> object:
    return [(p.value, p.stderr) for p in result.params.values()], result.covariance


def reading() -> list[str]:
    rows = ["| reading 1,000,000 rows x 3 columns of CSV | seconds, median of 5 |", "|---|--:|"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.csv"
        random = np.random.default_rng(0)
        pandas.DataFrame(random.normal(size=(1_000_000, 3)), columns=["x", "y", "z"]).to_csv(
            path, index=False
        )
        calls = {
            "gradfit.read": lambda: gradfit.read(path).columns["y"].sum(),
            "pandas.read_csv": lambda: pandas.read_csv(path)["y"].sum(),
        }
        for name, seconds in interleaved(calls, rounds=5, number=1).items():
            rows.append(f"| {name} | {statistics.median(seconds):.2f} |")
        table = gradfit.read(path)
        fit = interleaved({"fit": lambda: gradfit.fit("y = a*x + b", table).rss}, rounds=5, number=1)["fit"]
        rows.append(f"| a line through the 1,000,000 rows, once read | {statistics.median(fit):.2f} |")
    return rows


def start_up() -> list[str]:
    rows = ["| whole process | seconds, median of 7 |", "|---|--:|"]
    program = str(Path(sys.executable).parent / "gradfit")
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "gradfit --help": [program, "--help"],
        "python -c 'import gradfit'": [sys.executable, "-c", "import gradfit"],
        "gradfit fit examples/thermometer.csv": [
            program,
            "fit",
            str(ROOT / "examples/thermometer.csv"),
            "t_c = w*t_u + b",
        ],
    }
    for name, command in commands.items():
        seconds = []
        for _ in range(7):
            began = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
        rows.append(f"| {name} | {statistics.median(seconds):.2f} |")
    return rows


def certified() -> list[str]:
    ours, theirs, total = 0, 0, 0
    worst = []
    for case in NIST:
        for start in case.starts:
            total += 1
            result = gradfit.fit(case.formula, case.path, start=start)
            correct = digits([result.values[p] for p in case.params], case.values)
            ours += correct >= 8
            worst.append((correct, case.name))
            theirs += _scipy_digits(case, start) >= 8
    found = sum(gradfit.fit(c.formula, c.path).rss <= c.rss * 1.0001 + 1e-20 for c in NIST if not c.linear)
    return [
        "| NIST StRD, nonlinear: 27 sets | gradfit | SciPy curve_fit, defaults |",
        "|---|--:|--:|",
        f"| fits from both published starts with 8 correct digits in every parameter | {ours} of {total} | {theirs} of {total} |",
        f"| fewest correct digits | {min(worst)[0]:.1f} ({min(worst)[1]}) | |",
        f"| sets whose certified minimum is reached with no start value | {found} of 27 | |",
    ]


def _scipy_digits(case, start) -> float:
    bound = gradfit.fit(case.formula, case.path, start=start, max_iterations=1).problem

    def model(_, *p):
        return bound.model.value(bound.columns, np.array(p))

    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            p, _ = scipy_curve_fit(model, bound.columns[0], bound.y, list(start.values()))
    except RuntimeError:
        return 0.0
    return digits(p, case.values)
