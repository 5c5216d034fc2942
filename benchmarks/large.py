"""One fit over much data: time and memory against SciPy, files, and the truth at a hundred million points.

python benchmarks/large.py                 # some minutes, 3 GB of disk for the files
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

FORMULA = "y = a*exp(-((x - c)/w)**2) + b"
TRUE = {"a": 5.0, "c": 5.0, "w": 1.6, "b": 1.0}
START = {"a": 4.0, "c": 4.0, "w": 2.0, "b": 0.5}
BLOCK = 1 << 16


def rows(start: int, stop: int, n: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Columns of rows start to stop of n."""
    x = np.arange(start, stop) * (10 / (n - 1))
    return x, 5 * np.exp(-(((x - 5) / 1.6) ** 2)) + 1 + 0.15 * random.standard_normal(stop - start)


def data(n: int) -> tuple[np.ndarray, np.ndarray]:
    """All columns."""
    x, y, random = np.empty(n), np.empty(n), np.random.default_rng(0)
    for i in range(0, n, BLOCK):
        x[i : i + BLOCK], y[i : i + BLOCK] = rows(i, min(i + BLOCK, n), n, random)
    return x, y


def megabytes(what: str) -> float:
    """A line of the process's status: VmRSS now, VmHWM at most."""
    with Path("/proc/self/status").open() as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith(what)) / 1024


def call(what: str, threads: int):
    """The call that is timed: from columns to parameters and their errors."""
    if what == "gradfit":
        from large_fit import large

        def fit(x, y):
            result = large(FORMULA, {"x": x, "y": y}, start=START, threads=threads)
            return list(result.values.values()), list(result.errors.values())

        return fit
    from scipy.optimize import curve_fit

    def f(x, a, c, w, b):
        return a * np.exp(-(((x - c) / w) ** 2)) + b

    def jacobian(x, a, c, w, b):  # noqa: ARG001  SciPy's signature
        u = (x - c) / w
        e = np.exp(-u * u)
        return np.stack([e, 2 * a * e * u / w, 2 * a * e * u * u / w, np.ones_like(x)], 1)

    def fit(x, y):
        values, covariance = curve_fit(
            f, x, y, [*START.values()], method="lm", jac=jacobian if what == "scipy, exact Jacobian" else None
        )
        return values.tolist(), np.sqrt(np.diag(covariance)).tolist()

    return fit


def child(what: str, n: int, threads: int) -> None:
    """Time and measure one way in a process of its own."""
    x, y = data(n)
    fit = call(what, threads)
    fit(x[:: max(n // 10_000, 1)], y[:: max(n // 10_000, 1)])
    Path("/proc/self/clear_refs").write_text("5")
    before, times = megabytes("VmRSS"), []
    for _ in range(1 if what != "gradfit" and n > 2e6 else 5):
        began = time.perf_counter()
        values, errors = fit(x, y)
        times.append(time.perf_counter() - began)
    memory = megabytes("VmHWM") - before
    print(
        json.dumps(
            {"seconds": statistics.median(times), "memory": memory, "values": values, "errors": errors}
        )
    )


def file_child(path: str, memory: str) -> None:
    """Fit a file and measure."""
    from large_fit import large

    formula = (
        FORMULA.replace("x", "c0").replace("ec0p", "exp").replace("y =", "c1 =")
        if path.endswith("npy")
        else FORMULA
    )
    began = time.perf_counter()
    result = large(formula, path, start=START, memory=memory or None)
    seconds = time.perf_counter() - began
    print(json.dumps({
        "seconds": seconds, "peak": megabytes("VmHWM"), "n": result.n,
        "values": [result.values[k] for k in TRUE], "errors": [result.errors[k] for k in TRUE],
    }))  # fmt: skip


def run(*arguments: object) -> dict:
    """What a child prints."""
    command = [sys.executable, __file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return json.loads(done.stdout)


def in_memory() -> list[str]:
    """Table of times and extra memory by the number of points."""
    lines = [
        f"One Gaussian, 4 parameters, {os.cpu_count()} cores; SciPy's `curve_fit` by Levenberg-Marquardt.",
        "",
        "| points | what | time | extra peak memory | SciPy : it | SciPy's memory : its | parameters agree to |",
        "|--:|---|--:|--:|--:|--:|--:|",
    ]
    for n in (10**6, 10**7):
        ways = [("scipy", 1), ("scipy, exact Jacobian", 1), ("gradfit", 1), ("gradfit", os.cpu_count())]
        first: dict = {}
        for what, threads in ways:
            found = run("memory", what, n, threads)
            first = first or found
            agree = np.max(np.abs(np.array(found["values"]) - first["values"]) / first["errors"])
            label = what if what != "gradfit" else f"gradfit, {threads} thread{'s' * (threads > 1)}"
            lines.append(
                f"| {n:,} | {label} | {found['seconds'] * 1e3:,.0f} ms | {found['memory']:,.1f} MB | "
                f"{first['seconds'] / found['seconds']:.0f} | {first['memory'] / max(found['memory'], 0.1):,.0f} | "
                f"{agree:.0e} errors |"
            )
    return lines


def written(folder: Path, kind: str, n: int) -> Path:
    """A file of n points, written block by block."""
    import polars

    path, random = folder / f"{n}.{kind}", np.random.default_rng(1)
    if kind == "npy":
        held = np.lib.format.open_memmap(path, mode="w+", dtype=np.float64, shape=(n, 2))
        for i in range(0, n, BLOCK):
            x, y = rows(i, min(i + BLOCK, n), n, random)
            held[i : i + BLOCK, 0], held[i : i + BLOCK, 1] = x, y
        held.flush()
        return path
    x, y = data(n)
    frame = polars.DataFrame({"x": x, "y": y})
    if kind == "csv":
        frame.write_csv(path)
    else:
        frame.write_parquet(path, row_group_size=1 << 20)
    return path


def files() -> list[str]:
    """Table of fits from files, and the distance from the truth."""
    lines = [
        "",
        "| file | points | size | memory= | time | peak memory | distance from the truth, in standard errors |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("npy", "parquet"):  # the formulas are traced and compiled once
            run("file", written(Path(folder), kind, 1000), "")
        for kind, n, memory in (
            ("npy", 10**7, "400MB"),
            ("parquet", 10**7, "400MB"),
            ("csv", 10**7, "400MB"),
            ("npy", 10**8, "400MB"),
        ):
            path = written(Path(folder), kind, n)
            found = run("file", path, memory)
            away = (np.array(found["values"]) - [*TRUE.values()]) / found["errors"]
            size = path.stat().st_size / 1e6
            lines.append(
                f"| .{kind} | {n:,} | {size:,.0f} MB | {memory} | {found['seconds']:.1f} s | {found['peak']:,.0f} MB | "
                f"{', '.join(f'{name} {d:+.1f}' for name, d in zip(TRUE, away, strict=True))} |"
            )
            path.unlink()
    return lines


def lines() -> list[str]:
    """The section of docs/benchmarks.md."""
    return [*in_memory(), *files()]


if __name__ == "__main__":
    if sys.argv[1:2] == ["memory"]:
        child(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
    elif sys.argv[1:2] == ["file"]:
        file_child(sys.argv[2], sys.argv[3])
    else:
        print("\n".join(lines()))
