"""Small fits, reading and start-up, side by side with peers in one run; writes docs/benchmarks.md.

python benchmarks/small_fits.py            # a few minutes
"""

import platform
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import lmfit
import numpy as np
import pandas
from scipy.optimize import curve_fit as scipy_curve_fit

import gradfit

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))
from answers import NIST, digits

PAGE = ROOT / "docs" / "benchmarks.md"


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


def line(x, w, b):
    return w * x + b


def gauss(x, a, c, w, b):
    return a * np.exp(-(((x - c) / w) ** 2)) + b


def decay(x, a, tau, c):
    return a * np.exp(-x / tau) + c


def small_fits() -> list[str]:
    random = np.random.default_rng(0)
    x = np.linspace(0, 10, 11)
    xg = np.linspace(-3, 3, 25)
    xd = np.linspace(0, 5, 50)
    cases = {
        "line, 11 points, 2 parameters": (line, "y = w*x + b", x, line(x, 2, 1) + random.normal(0, 0.3, 11), [1, 0]),
        "Gaussian, 25 points, 4 parameters": (
            gauss, "y = a*exp(-((x - c)/w)**2) + b", xg, gauss(xg, 5, 0.3, 1.1, 1) + random.normal(0, 0.15, 25), [4, 0, 1.3, 0.8],
        ),
        "decay, 50 points, 3 parameters": (
            decay, "y = a*exp(-x/tau) + c", xd, decay(xd, 3, 1.3, 0.5) + random.normal(0, 0.05, 50), [2, 1, 0],
        ),
    }  # fmt: skip
    rows = [
        "| fit | gradfit, formula | gradfit, function | the same, findings too | gradfit.curve_fit | SciPy curve_fit | lmfit | SciPy : gradfit | lmfit : gradfit |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, (function, formula, x, y, start) in cases.items():
        data = {"x": x, "y": y}
        model = lmfit.Model(function)
        names = model.param_names
        guess = dict(zip(names, start, strict=True))
        times = interleaved(
            {
                "formula": lambda: _numbers(gradfit.fit(formula, data, start=guess)),  # noqa: B023  called at once
                "function": lambda: _numbers(gradfit.fit(function, data, start=guess)),  # noqa: B023
                "findings": lambda: gradfit.fit(formula, data, start=guess).verdict,  # noqa: B023
                "twin": lambda: gradfit.curve_fit(function, x, y, start),  # noqa: B023
                "scipy": lambda: scipy_curve_fit(function, x, y, start),  # noqa: B023
                "lmfit": lambda: model.fit(y, x=x, **guess),  # noqa: B023
            },
            number=200,
        )
        middle = {k: statistics.median(v) * 1e6 for k, v in times.items()}
        ratio = statistics.median(s / g for s, g in zip(times["scipy"], times["formula"], strict=True))
        other = statistics.median(s / g for s, g in zip(times["lmfit"], times["formula"], strict=True))
        cells = " | ".join(
            f"{middle[k]:,.0f} µs" for k in ("formula", "function", "findings", "twin", "scipy", "lmfit")
        )
        rows.append(f"| {name} | {cells} | {ratio:.2f} | {other:.1f} |")
    return rows


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


def main() -> None:
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "scipy", "torch", "lmfit", "polars"))
    text = [
        "# Benchmarks",
        "",
        "Written by `make bench` (`benchmarks/small_fits.py`). Medians; peers take turns with gradfit in one process, and the",
        "ratio columns are medians of the ratios round by round, so that a slow moment of the machine hits both.",
        "",
        f"Machine: {platform.machine()}, {platform.system()}, Python {platform.python_version()}, {packages}.",
        "",
        "## Small fits, warm",
        "",
        "Each call converts data, fits, and gives parameters with standard errors and the covariance. gradfit also gives findings,",
        "on request, at the cost in the fourth column.",
        "",
        *small_fits(),
        "",
        "## Reading",
        "",
        *reading(),
        "",
        "## Start-up",
        "",
        *start_up(),
        "",
        "## Digits",
        "",
        *certified(),
        "",
    ]
    PAGE.write_text("\n".join(text))
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
