"""Measures lr="auto": epochs to a given loss, against the best of a grid of rates, for every optimizer of torch.

    python benchmarks/rates.py                  # all optimizers: about ten minutes
    python benchmarks/rates.py SGD Adam         # some

The given loss is the one at which a fit counts as converged: 0.03 confidence radii from the least that Levenberg-Marquardt
finds (0.03² k/(n - k) above it), reached and kept to the end; where no rate of the grid gets there, it is 0.1 % above the
lowest end of the grid, and lr="auto" gets up to four times the epochs. The grid is two rates a decade from 1e-7 to 1e2. A ratio
below 1 means that lr="auto" was faster than the whole grid.
"""

import statistics
import sys
from pathlib import Path

import numpy as np
import torch

import gradfit

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from objectives import OPTIMIZERS, T_C, T_U, T_UN

GRID = 10.0 ** np.arange(-7, 2.01, 0.5)
EAGER = ("LBFGS", "Muon", "SparseAdam")  # torch makes each step: fewer epochs
EPOCHS, FEW = 3000, 40


def _noisy(y, size, seed):
    return y + np.random.default_rng(seed).normal(0, size, len(y))


X = np.linspace(0, 4, 60)
WIDE = np.linspace(-5, 5, 80)
PROBLEMS = {  # formula, data, start
    "line": ("y = w*x + b", {"x": np.array(T_UN), "y": np.array(T_C)}, {"w": 1, "b": 0}),
    "line, raw": ("y = w*x + b", {"x": np.array(T_U), "y": np.array(T_C)}, {"w": 1, "b": 0}),
    "decay": (
        "y = a*exp(-k*x) + c", {"x": X, "y": _noisy(3 * np.exp(-1.3 * X) + 0.5, 0.05, 1)}, {"a": 1, "k": 1, "c": 0},
    ),
    "peak": (
        "y = a*exp(-((x - m)/s)^2/2) + c", {"x": WIDE, "y": _noisy(2 * np.exp(-((WIDE - 0.5) ** 2) / 2), 0.05, 2)},
        {"a": 1, "m": 1.5, "s": 2, "c": 0.3},
    ),
    "logistic": (
        "y = a/(1 + exp(-k*(x - m)))", {"x": WIDE, "y": _noisy(5 / (1 + np.exp(-1.7 * (WIDE - 1))), 0.1, 3)},
        {"a": 3, "k": 0.7, "m": 0},
    ),
    "wave": ("y = a*sin(f*x + p)", {"x": X, "y": _noisy(1.5 * np.sin(3 * X + 0.4), 0.1, 4)}, {"a": 1, "f": 2.8, "p": 0.1}),
    "cubic": (
        "y = a + b*x + c*x^2 + d*x^3", {"x": WIDE / 5, "y": _noisy(1 + WIDE / 5 - (WIDE / 5) ** 3, 0.05, 5)},
        dict.fromkeys("abcd", 0.1),
    ),
    "large units": (
        "y = a*exp(-k*x)", {"x": X, "y": _noisy(4e3 * np.exp(-0.8 * X), 20, 6)}, {"a": 1e3, "k": 0.3},
    ),
}  # fmt: skip


def history(name: str, lr: object, epochs: int, problem: str) -> tuple[np.ndarray, np.ndarray, object]:
    """Epochs, losses there, and the result."""
    formula, data, start = PROBLEMS[problem]
    settings = {"LBFGS": {"max_iter": 5}, "AdamW": {"weight_decay": 0.0}}.get(
        name, {}
    )  # a decay has another minimum
    with np.errstate(all="ignore"):
        result = gradfit.fit(formula, data, start=start, solver=name, lr=lr, epochs=epochs, **settings)
    way = result.history
    losses = way.loss if result.status != "diverged" else np.append(way.loss[:-1], np.inf)
    return way.step, losses, result


def arrival(step: np.ndarray, losses: np.ndarray, level: float) -> float:
    """Epochs until the loss is at the level and stays there."""
    above = np.flatnonzero(~(losses <= level))
    last = int(above[-1]) if len(above) else -1
    return float(step[last + 1]) if last + 1 < len(step) else np.inf


def measured(name: str, problem: str) -> tuple[float, str]:
    """How many times as many epochs lr="auto" needs as the best rate of the grid, and which rates those are."""
    epochs = FEW if name in EAGER else EPOCHS
    formula, data, start = PROBLEMS[problem]
    n, k = len(data["y"]), len(start)
    least = gradfit.fit(formula, data, start=start).rss / n
    ways = {rate: history(name, float(rate), epochs, problem)[:2] for rate in GRID}
    lowest = min((float(losses[-1]) for _, losses in ways.values() if np.isfinite(losses[-1])))
    level = least * (1 + 0.03**2 * k / (n - k))
    far = lowest > level
    level = max(level, 1.001 * lowest) if far else level
    needed = {rate: arrival(*way, level) for rate, way in ways.items()}
    best = min(needed, key=needed.__getitem__)
    step, losses, result = history(name, "auto", epochs, problem)
    ours = arrival(step, losses, level)
    if far and not np.isfinite(ours):
        rate = float(result.solver.split("lr=")[1].split(",")[0])
        step, losses, _ = history(name, rate, 4 * epochs, problem)
        ours = arrival(step, losses, level)
    ratio = max(ours, 1) / max(needed[best], 1)
    return (
        ratio,
        f"{result.solver.split('lr=')[1].split(',')[0]} ({ours:.0f}) : {best:.2g} ({needed[best]:.0f})",
    )


def table(names: list[str]) -> list[str]:
    """The ratios as lines of Markdown."""
    torch.set_num_threads(1)
    rows = ["| optimizer | " + " | ".join(PROBLEMS) + " | worst |", "|---|" + "--:|" * (len(PROBLEMS) + 1)]
    every: list[float] = []
    for name in names:
        found = {problem: measured(name, problem) for problem in PROBLEMS}
        ratios = [ratio for ratio, _ in found.values()]
        every += ratios
        rows.append(f"| {name} | " + " | ".join(f"{r:.2f}" for r in ratios) + f" | {max(ratios):.2f} |")
        print(rows[-1], flush=True)
        for problem, (ratio, told) in found.items():
            if ratio > 2:
                print(f"    {problem}: {told}", flush=True)
    return [*rows, "", f"Median {statistics.median(every):.2f}, worst {max(every):.2f} of {len(every)}."]


if __name__ == "__main__":
    print("\n".join(table(sys.argv[1:] or OPTIMIZERS)))
