"""Many fits of one model: arrays to results, against loops over SciPy and lmfit, and against the executor alone.

python benchmarks/run.py many            # a minute and a half
"""

import os
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))

LOOPED = {"scipy": 300, "lmfit": 30}  # fits of a loop, which takes long
LEAST = 0.4  # seconds a row is measured, where three calls take less
SIZES = (10**3, 10**4, 10**5, 10**6)


class Case(NamedTuple):
    """A model: its formula, the same for NumPy, the places of points, and ranges of the true parameters."""

    name: str
    formula: str
    function: object
    columns: dict
    ranges: dict
    fits: int

    def data(self, fits: int) -> tuple[dict, dict]:
        """The arrays, and start values a tenth off the truth."""
        random = np.random.default_rng(0)
        n = len(next(iter(self.columns.values())))
        y, start = np.empty((fits, n)), {name: np.empty(fits) for name in self.ranges}
        for first in range(0, fits, 100_000):
            part = slice(first, min(first + 100_000, fits))
            m = part.stop - part.start
            true = {k: random.uniform(low, high, (m, 1)) for k, (low, high) in self.ranges.items()}
            y[part] = self.function(*self.columns.values(), *true.values())
            y[part] += 0.05 * random.standard_normal((m, n))
            for name, values in true.items():
                start[name][part] = values[:, 0] * random.uniform(0.9, 1.1, m)
        return {**self.columns, "z": y}, start


def peak(x, a, c, w, b):
    return a * np.exp(-0.5 * ((x - c) / w) ** 2) + b


def decay(x, a, tau, b):
    return a * np.exp(-x / tau) + b


def spot(x, y, a, cx, cy, w, b):
    return a * np.exp(-0.5 * ((x - cx) ** 2 + (y - cy) ** 2) / w**2) + b


PIXELS = {"x": np.tile(np.arange(10.0), 10), "y": np.repeat(np.arange(10.0), 10)}
CASES = (
    Case(
        "peak, 25 points, 4 parameters", "z = a*exp(-0.5*((x - c)/w)**2) + b", peak, {"x": np.linspace(0, 10, 25)},
        {"a": (3, 8), "c": (3, 7), "w": (0.5, 1.5), "b": (0.2, 1)}, 200_000,
    ),
    Case(
        "decay, 50 points, 3 parameters", "z = a*exp(-x/tau) + b", decay, {"x": np.linspace(0, 10, 50)},
        {"a": (2, 9), "tau": (1, 4), "b": (0.2, 1)}, 200_000,
    ),
    Case(
        "spot of light, 10 x 10 pixels, 5 parameters", "z = a*exp(-0.5*((x - cx)**2 + (y - cy)**2)/w**2) + b", spot,
        PIXELS, {"a": (3, 8), "cx": (3, 6), "cy": (3, 6), "w": (1, 2), "b": (0.2, 1)}, 50_000,
    ),
)  # fmt: skip


def seconds(call) -> tuple[float, object]:
    """The median time of a call, warm, and what it returned."""
    times, answer, began = [], call(), time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < LEAST:
        start = time.perf_counter()
        answer = call()
        times.append(time.perf_counter() - start)
    return float(np.median(times)), answer


def bare(case: Case, arrays: dict, start: dict, threads: int):
    """The executor alone: numbers in, numbers out."""
    import gradfit
    from gradfit.solve.lockstep import native as lockstep_native
    from gradfit.solve.lockstep.batch import Batch, Cost, Settings

    few = {k: v[:2] if v.ndim == 2 else v for k, v in arrays.items()}
    graph = gradfit.fit_many(case.formula, few, start={k: v[:2] for k, v in start.items()}).model.graph
    k = len(graph.parameters)
    begin = np.stack([start[name] for name in graph.parameters], axis=1)
    batch = Batch(tuple(arrays[name] for name in graph.variables), arrays["z"])
    return lambda: lockstep_native.solve(
        graph, batch, begin, free=np.arange(k), lower=np.full(k, -np.inf), upper=np.full(k, np.inf), loss=Cost(),
        settings=Settings(threads=threads),
    )  # fmt: skip


def looped(case: Case, arrays: dict, start: dict, tool: str) -> float:
    """Fits a second of a loop over a peer."""
    m = LOOPED[tool]
    begin = np.stack([start[name] for name in case.ranges], axis=1)
    if tool == "scipy":
        from scipy.optimize import curve_fit

        places = np.stack(list(case.columns.values()))

        def call(i):
            curve_fit(lambda at, *p: case.function(*at, *p), places, arrays["z"][i], begin[i])
    else:
        import lmfit

        model = lmfit.Model(case.function, independent_vars=list(case.columns))
        names = list(case.ranges)

        def call(i):
            model.fit(arrays["z"][i], **case.columns, **dict(zip(names, begin[i].tolist(), strict=True)))

    call(0)
    began = time.perf_counter()
    for i in range(m):
        call(i)
    return m / (time.perf_counter() - began)


def rates(case: Case) -> list[str]:
    """The table of one model."""
    import gradfit
    from gradfit.native.peak import flops, peak

    arrays, start = case.data(case.fits)
    cores = os.cpu_count() or 1
    fixed = {name: float(np.median(values)) for name, values in start.items()}

    def call(**options):
        return lambda: gradfit.fit_many(case.formula, arrays, **options)

    rows = {
        "fit_many, a start for each fit": call(start=start),
        "the same on one thread": call(start=start, threads=1),
        "the same in float32": call(start=start, dtype="float32"),
        "fit_many, one start for all": call(start=fixed),
        "fit_many, no start": call(),
        "machine code alone": bare(case, arrays, start, cores),
        "machine code alone, one thread": bare(case, arrays, start, 1),
    }
    loops = {tool: looped(case, arrays, start, tool) for tool in LOOPED if find_spec(tool) is not None}
    out = [
        f"**{case.name}**, {case.fits:,} fits:",
        "",
        "| | fits a second | : SciPy | : lmfit | GFLOP/s | of the peak | converged |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    graph = gradfit.fit_many(case.formula, {**case.columns, "z": arrays["z"][:2]}, start=fixed).model.graph
    most, n, work = peak(0.2), arrays["z"].shape[1], flops(graph, range(len(case.ranges)))
    for label, run in rows.items():
        took, answer = seconds(run)
        ends = getattr(answer, "ends", answer)
        rate = case.fits / took
        gflops = (float(ends.iterations.sum()) + case.fits) * n * work / took / 1e9
        available = most * (1 if "one thread" in label else cores)
        ratios = [f"{rate / loops[tool]:,.0f}" if tool in loops else "not installed" for tool in LOOPED]
        share = "" if "float32" in label else f"{gflops / available:.0%}"
        good = np.mean(ends.status == 0)
        out.append(f"| {label} | {rate:,.0f} | {' | '.join(ratios)} | {gflops:.1f} | {share} | {good:.1%} |")
    for tool, rate in loops.items():
        out.append(f"| loop over {tool}, {LOOPED[tool]} fits | {rate:,.0f} | | | | | |")
    return out


def growth() -> list[str]:
    """How the rate follows from the number of fits."""
    import gradfit

    case = CASES[0]
    out = [
        f"{case.name}, as the number of fits grows:",
        "",
        "| fits | with starts | fits a second | no start | fits a second | executor |",
        "|--:|--:|--:|--:|--:|---|",
    ]
    for m in SIZES:
        arrays, start = case.data(m)
        given, many = seconds(lambda a=arrays, s=start: gradfit.fit_many(case.formula, a, start=s))
        none, _ = seconds(lambda a=arrays: gradfit.fit_many(case.formula, a))
        out.append(
            f"| {m:,} | {given * 1e3:,.3g} ms | {m / given:,.0f} | {none * 1e3:,.3g} ms | {m / none:,.0f} | {many.executor} |"
        )
    return out


def lines() -> list[str]:
    """The section of docs/benchmarks.md."""
    out = [
        "From arrays to parameters, standard errors and a status for each fit, through the public call. Starts are a tenth off the",
        "truth. GFLOP/s count the sums over points alone, and the peak is that of the cores in use. Loops are on one core.",
    ]
    for case in CASES:
        out += ["", *rates(case)]
    return [*out, "", *growth()]


if __name__ == "__main__":
    print("\n".join(lines()))
