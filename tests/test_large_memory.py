"""The memory that a fit in pieces takes, measured in processes of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars
import pytest

CHILD = """
import sys
from large_fit import large
formula = "y = a*exp(-((x - c)/w)**2) + b"
result = large(formula, sys.argv[1], start={"a": 4.0, "c": 4.0, "w": 2.0, "b": 0.5}, memory=sys.argv[2])
peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(int(peak.split()[1]) * 1024, result.n, "|".join(result.how))
"""


def run(path, memory, cache):
    tests = str(Path(__file__).parent)
    environment = os.environ | {"PYTHONPATH": tests, "GRADFIT_CACHE": str(cache)}
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(path), memory],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
@pytest.mark.parametrize("kind", ["parquet", "csv", "npy"])
def test_memory_stays_under_the_budget(tmp_path, kind):
    n, random = 2_000_000, np.random.default_rng(0)
    x = np.linspace(0, 10, n)
    y = np.float32(5 * np.exp(-(((x - 5) / 1.6) ** 2)) + 1 + 0.15 * random.standard_normal(n))
    path = tmp_path / f"d.{kind}"
    if kind == "npy":
        np.save(path, np.rec.fromarrays([x, y.astype(float)], names="x,y"))
    else:
        getattr(polars.DataFrame({"x": x.astype(np.float32), "y": y}), f"write_{kind}")(path)
    small = tmp_path / f"small.{kind}"
    small.write_bytes(path.read_bytes()) if kind == "npy" else polars.DataFrame(
        {"x": x[::100].astype(np.float32), "y": y[::100]}
    ).__getattribute__(f"write_{kind}")(small)
    run(small, "4GB", tmp_path / "cache")  # traced and compiled once: torch is not in the way of the next
    refused = run(small, "1MB", tmp_path / "cache")
    budget = re.search(r'memory="(\d+)MB"', refused.stderr)
    assert budget, refused.stderr
    done = run(path, budget[1] + "MB", tmp_path / "cache")
    assert done.returncode == 0, done.stderr
    peak, rows, how = done.stdout.split(" ", 2)
    assert int(rows) == n
    assert int(peak) < int(budget[1]) * 1e6
    assert ("scratch file" in how) == (kind != "npy")
