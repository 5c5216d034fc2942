"""Fits of every kind that a report must show."""

from functools import cache
from pathlib import Path

import numpy as np

import gradfit

THERMOMETER = Path(__file__).parent.parent / "examples" / "thermometer.csv"
X = np.linspace(1, 10, 60)
NOISE = np.random.default_rng(1).normal(size=60)


def discharge(bump: float = 0.9) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(20)
    t = np.round(np.linspace(0, 9, 37), 2)
    y = 4.8 * np.exp(-t / 12.5) + 0.3 + rng.normal(0, 0.05, 37)
    y[23] += bump
    return {"t [s]": t, "U [V]": np.round(y, 3)}


def decay(x, a, k):
    return a * np.exp(-k * x)


def many(n: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    x = rng.uniform(0, 10, n)
    return {"x": x, "y": 5 * np.exp(-0.3 * x) + 1 + rng.normal(0, 0.3, n)}


def plane(inputs: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(4)
    columns = {f"x{i}": rng.normal(size=80) for i in range(inputs)}
    return {**columns, "z": sum(columns.values()) + rng.normal(0, 0.4, 80)}


LINE = {"x": X, "y": 3 * X + 1 + NOISE}
EVIL = "<script>alert('1')</script>"
FITS = {
    "line": lambda: gradfit.fit("t_c = w*t_u + b", THERMOMETER),
    "unidentifiable": lambda: gradfit.fit(
        "U = a*exp(-k*(t + t0)) + c", discharge(), start={"a": 4.8, "k": 0.08, "t0": 0.1, "c": 0.3}
    ),
    "outlier": lambda: gradfit.fit("U = a*exp(-k*t) + c", discharge()),
    "robust": lambda: gradfit.fit("U = a*exp(-k*t) + c", discharge(), loss="huber"),
    "pattern": lambda: gradfit.fit("y = a*x + b", {"x": X, "y": 2 * X + 2 * np.sin(X) + 0.2 * NOISE}),
    "spread": lambda: gradfit.fit("y = a*x + b", {"x": X, "y": 3 * X + NOISE * X**2 / 10}),
    "several inputs": lambda: gradfit.fit("z = a*x0 + b*x1 + c", plane(2)),
    "eight inputs": lambda: gradfit.fit("z = " + " + ".join(f"p{i}*x{i}" for i in range(8)), plane(8)),
    "no input": lambda: gradfit.fit("y = c", {"y": NOISE + 5}),
    "exact": lambda: gradfit.fit("y = a*x + b", {"x": X, "y": 3 * X + 1}),
    "all fixed": lambda: gradfit.fit("y = a*x + b", LINE, fixed={"a": 3, "b": 1}),
    "one fixed": lambda: gradfit.fit("y = a*x + b", LINE, fixed={"b": 1}),
    "at a bound": lambda: gradfit.fit(
        "y = a*exp(-k*x) + c", {"x": X, "y": 3 * np.exp(-X / 4) - 0.5 + 0.05 * NOISE},
        start={"a": 1, "k": 0.1, "c": 0.1}, bounds={"c": (0, None)},
    ),
    "sigma": lambda: gradfit.fit("y = a*x + b", {**LINE, "s": np.full(60, 1.0)}, sigma="s"),
    "weights": lambda: gradfit.fit("y = a*x + b", LINE, weights="1/y**2"),
    "two rows": lambda: gradfit.fit("y = a*x + b", {"x": [1.0, 2.0], "y": [1.0, 3.0]}),
    "three rows": lambda: gradfit.fit("y = a*x + b", {"x": [1.0, 2.0, 3.0], "y": [1.0, 3.0, 4.0]}),
    "one place": lambda: gradfit.fit("y = a*x + b", {"x": np.full(20, 3.0), "y": NOISE[:20]}),
    "log left side": lambda: gradfit.fit("log(y) = a*x + b", {"x": X, "y": np.exp(0.3 * X + 0.1 * NOISE)}),
    "function": lambda: gradfit.fit(decay, {"x": X, "y": 3 * np.exp(-X / 4) + 0.05 * NOISE}, start={"a": 1, "k": 0.1}),
    "large offset": lambda: gradfit.fit("y = a*x + b", {"x": X + 1e9, "y": 1e-7 * LINE["y"]}),
    "huge": lambda: gradfit.fit("y = a*x + b", {"x": X, "y": 1e140 * LINE["y"]}),
    "tiny": lambda: gradfit.fit("y = a*x + b", {"x": 1e-60 * X, "y": 1e-80 * LINE["y"]}),
    "decades": lambda: gradfit.fit(
        "r = low + (top - low)/(1 + (m/dose)**h)",
        {"dose": np.logspace(-9, -4, 20), "r": 10 + 80 / (1 + 4e-7 / np.logspace(-9, -4, 20)) + NOISE[:20]},
        start={"low": 5, "top": 100, "m": 1e-7, "h": 1},
    ),
    "search": lambda: gradfit.fit("y = A*sin(w*x + p)", {"x": X, "y": 2 * np.sin(1.7 * X + 0.3) + 0.2 * NOISE}),
    "descent": lambda: gradfit.fit(
        "t_c = w*t_u + b", THERMOMETER, solver="SGD", lr=1e-4, epochs=400, start={"w": 1.0, "b": 0.0}
    ),
    "900 rows": lambda: gradfit.fit("y = a*exp(-k*x) + c", many(900), start={"a": 1, "k": 1, "c": 0}),
    "20 000 rows": lambda: gradfit.fit("y = a*exp(-k*x) + c", many(20_000), start={"a": 1, "k": 1, "c": 0}),
    "evil names": lambda: gradfit.fit(f"{{a&b \"c\"}} = w*{{{EVIL}}} + b", {EVIL: X, 'a&b "c" [</style>]': LINE["y"]}),
    "long names": lambda: gradfit.fit("y = a*" + "x" * 300 + " + b", {"x" * 300: X, "y": LINE["y"]}),
    "other alphabets": lambda: gradfit.fit("глубина = наклон*時間 + b", {"時間": X, "глубина [м]": LINE["y"]}),
}  # fmt: skip


@cache
def fitted(name: str) -> gradfit.FitResult:
    return FITS[name]()
