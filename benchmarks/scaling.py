"""How time and memory grow: many fits from 1e3 to 1e7, and one fit over 1e2 to 1e7 points, each size in a process of its own.

python benchmarks/run.py scaling            # two minutes, 4 GB of memory for the largest
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

FORMULA = "y = a*exp(-((x - c)/w)**2) + b"
TRUE = {"a": 5.0, "c": 0.3, "w": 1.1, "b": 1.0}
POINTS = 25  # of each of many fits
SIZES = (10**3, 10**4, 10**5, 10**6, 10**7)
BESIDE = (
    10**2,
    3 * 10**5,
)  # points of one fit, beside these: few, and as many as are many for one way and few for another
SCIPY = {"fits": 10**3, "points": 10**6}  # beyond it would take too long
WARM = 1.0  # seconds of fits before the first that counts
LEAST = 0.5  # seconds a size is measured, where three calls take less
BYTES = {"fits": 8 * (2 * POINTS + 40), "points": 8 * 6}  # of memory, for each of them, generously


def megabytes(what: str) -> float:
    """A line of the process's status: VmRSS now, VmHWM at most; NaN where the system has none."""
    place = Path("/proc/self/status")
    lines = place.read_text().splitlines() if place.exists() else []
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(what)), float("nan"))


def child(kind: str, tool: str, n: int) -> dict[str, object]:
    """Time and measure one size."""
    from gradfit.native.peak import flops
    from gradfit.simulation import simulation

    data = simulation(FORMULA, ("x", "y"), points=POINTS, start=TRUE, span=(-3, 3))
    arrays = data.many(n, POINTS) if kind == "fits" else data.table(n)
    call = CALLS[kind, tool](arrays, data)
    few = data.many(min(n, 20_000), POINTS) if kind == "fits" else data.table(min(n, 2_000_000))
    if tool == "gradfit":
        warm = CALLS[kind, tool](few, data)
        began = time.perf_counter()
        while time.perf_counter() - began < WARM:
            warm()  # a model earns its machine code by work
    del few
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")
    before, times, told = megabytes("VmRSS"), [], (0, "")
    began = time.perf_counter()
    while len(times) < 3 or time.perf_counter() - began < LEAST:
        start = time.perf_counter()
        told = call()
        times.append(time.perf_counter() - start)
        if tool == "scipy" or times[0] > 20:
            break
    low, middle, high = np.quantile(times, (0.25, 0.5, 0.75)).tolist()
    evaluations, executor = told
    points = evaluations * (POINTS if kind == "fits" else n)
    return {
        "seconds": middle, "spread": (high - low) / middle, "executor": executor,
        "memory": megabytes("VmHWM") - before, "data": sum(a.nbytes for a in arrays.values()) / 1e6,
        "gflops": points * flops(data.model.graph, range(len(TRUE))) / middle / 1e9,
    }  # fmt: skip


def _many(arrays, data):
    import gradfit

    def call():
        many = gradfit.fit_many(FORMULA, arrays, start=data.begin)
        return int(many.iterations.sum()) + len(many), many.executor

    return call


def _one(arrays, data):
    import gradfit

    def call():
        result = gradfit.fit(FORMULA, arrays, start=data.begin)
        return result.outcome.evaluations, result.executor

    return call


def gauss(x, a, c, w, b):
    return a * np.exp(-(((x - c) / w) ** 2)) + b


def _scipy_many(arrays, data):
    from scipy.optimize import curve_fit

    def call():
        for y in arrays["y"]:
            curve_fit(gauss, arrays["x"], y, data.start)
        return 0, "scipy"

    return call


def _scipy_one(arrays, data):
    from scipy.optimize import curve_fit

    def call():
        curve_fit(gauss, arrays["x"], arrays["y"], data.start)
        return 0, "scipy"

    return call


CALLS = {
    ("fits", "gradfit"): _many, ("points", "gradfit"): _one, ("fits", "scipy"): _scipy_many, ("points", "scipy"): _scipy_one,
}  # fmt: skip


def measured(kind: str, tool: str, n: int) -> dict:
    """What a process of its own says."""
    command = [sys.executable, __file__, kind, tool, str(n)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout)


def lines(sizes: tuple[int, ...] = SIZES) -> list[str]:
    """The section of docs/benchmarks.md."""
    from gradfit.native.peak import peak

    cores = os.cpu_count() or 1
    most = peak(0.3) * cores
    out = [
        f"A Gaussian with 4 parameters through the public calls, arrays to results, {cores} cores. GFLOP/s are those of the sums over",
        f"points alone (`gradfit.native.peak.flops`); the peak of the cores together is {most:.0f} GFLOP/s. Memory is what the call took",
        "at most beyond its data.",
    ]
    more = tuple(sorted((*sizes, *BESIDE))) if sizes is SIZES else sizes
    for kind, title, those in (
        ("fits", f"fits of {POINTS} points", sizes),
        ("points", "points of one fit", more),
    ):
        out += ["", *_table(kind, title, those, most)]
    return out


def _table(kind: str, title: str, sizes: tuple[int, ...], most: float) -> list[str]:
    rows = [
        f"| {title} | executor | time | spread | {kind} a second | GFLOP/s | of the peak | data | memory | SciPy : it | SciPy's memory |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    scipy: dict = {}
    for n in sizes:
        if n * BYTES[kind] > _memory() / 2:
            rows.append(f"| {n:,} | left out: this machine's memory is too small | | | | | | | | | |")
            continue
        found = measured(kind, "gradfit", n)
        scipy = measured(kind, "scipy", n) | {"n": n} if n <= SCIPY[kind] else scipy
        ratio = scipy["seconds"] / scipy["n"] * n / found["seconds"]
        theirs = f"{scipy['memory']:,.0f} MB" if scipy["n"] == n else "not run"
        rows.append(
            f"| {n:,} | {found['executor']} | {told(found['seconds'])} | {found['spread']:.0%} | {n / found['seconds']:,.0f} | "
            f"{found['gflops']:.2g} | {found['gflops'] / most:.1%} | {found['data']:,.3g} MB | {found['memory']:,.0f} MB | {ratio:,.3g} | "
            f"{theirs} |"
        )
    return rows


def told(seconds: float) -> str:
    """A time with three digits."""
    for least, factor, unit in ((1, 1, "s"), (1e-3, 1e3, "ms"), (0, 1e6, "µs")):
        if seconds >= least:
            return f"{seconds * factor:.3g} {unit}"
    return "not measured"


def _memory() -> float:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(child(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
