"""Fits and networks of every kind that a report must show."""

from functools import cache
from pathlib import Path

import numpy as np
import torch

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


def bent() -> dict[str, np.ndarray]:
    return {"x": X, "y": 3 * np.exp(-X / 3) + 0.1 * NOISE}


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
    "diverged": lambda: gradfit.fit(
        "t_c = w*t_u + b", THERMOMETER, solver="SGD", lr=1e-2, epochs=400, start={"w": 1.0, "b": 0.0}
    ),
    "one epoch": lambda: gradfit.fit(
        "t_c = w*t_u + b", THERMOMETER, solver="Adam", epochs=1, start={"w": 1.0, "b": 0.0}
    ),
    "trained, huge": lambda: gradfit.fit(
        "y = a*x + b", {"x": X, "y": 1e200 * LINE["y"]}, solver="SGD", lr=0.01, epochs=50, start={"a": 0, "b": 0}
    ),
    "early stopped": lambda: gradfit.fit(
        "y = a*exp(-k*x)", bent(), solver="Adam", lr=0.05, epochs=300, start={"a": 1, "k": 1}, validation=0.25, patience=50
    ),
    "last epoch": lambda: gradfit.fit(
        "y = a*exp(-k*x)", bent(), solver="Adam", lr=0.05, epochs=60, start={"a": 1, "k": 1}, validation=0.25, stop="last"
    ),
    "validated": lambda: gradfit.fit("y = a*exp(-k*x)", bent(), start={"a": 1, "k": 1}, validation=0.25),
    "validated line": lambda: gradfit.fit("y = a*x + b", LINE, validation=[3, 4, 5, 50]),
    "validated, two inputs": lambda: gradfit.fit("z = a*x0 + b*x1 + c", plane(2), validation=0.25),
    "folds": lambda: gradfit.fit("y = a*exp(-k*x)", bent(), start={"a": 1, "k": 1}, kfold=5),
    "lasso path": lambda: gradfit.fit("y = a*x + b*x**2 + c*x**3 + d", bent(), penalty="lasso"),
    "ridge": lambda: gradfit.fit("y = a*x + b*x**2 + c", bent(), penalty="ridge:0.1", validation=0.25),
    "900 rows": lambda: gradfit.fit("y = a*exp(-k*x) + c", many(900), start={"a": 1, "k": 1, "c": 0}),
    "20 000 rows": lambda: gradfit.fit("y = a*exp(-k*x) + c", many(20_000), start={"a": 1, "k": 1, "c": 0}),
    "evil names": lambda: gradfit.fit(f"{{a&b \"c\"}} = w*{{{EVIL}}} + b", {EVIL: X, 'a&b "c" [</style>]': LINE["y"]}),
    "long names": lambda: gradfit.fit("y = a*" + "x" * 300 + " + b", {"x" * 300: X, "y": LINE["y"]}),
    "other alphabets": lambda: gradfit.fit("глубина = наклон*時間 + b", {"時間": X, "глубина [м]": LINE["y"]}),
}  # fmt: skip


@cache
def fitted(name: str) -> gradfit.FitResult:
    return FITS[name]()


# ---------------------------------------------------------------------------- networks


def mixed(n: int = 160) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(5)
    a, b = rng.normal(size=(2, n))
    c = rng.choice(["red", "green", "blue"], n)
    return {"a [mm]": a, "b": b, "c": c, "y [V]": np.sin(a) * b + (c == "red") + rng.normal(0, 0.1, n)}


def waves(n: int = 60) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(6)
    x = rng.uniform(-1, 1, n)
    return {"x [s]": x, "y [V]": np.sin(4 * x) + rng.normal(0, 0.2, n)}


def kinds(k: int, n: int = 300, name: str = "kind") -> dict[str, np.ndarray]:
    rng = np.random.default_rng(7)
    code = np.r_[np.repeat(np.arange(k), 2), rng.integers(0, k, n - 2 * k)]
    angle = 2 * np.pi * code / k
    words = np.array([f"class {i}" for i in range(k)])[code]
    return {
        "u": np.cos(angle) + rng.normal(0, 0.2, n),
        "v": np.sin(angle) + rng.normal(0, 0.2, n),
        name: words,
    }


def towns(n: int = 120) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(8)
    town = rng.integers(0, 12, n)
    return {
        "town": np.array([f"town {i}" for i in range(12)])[town],
        "x": rng.normal(size=n),
        "n": rng.poisson(1 + town),
    }


def convolution() -> torch.nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return torch.nn.Sequential(
            torch.nn.Conv2d(1, 2, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(32, 2)
        )


def images(n: int = 40) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(9)
    label = rng.integers(0, 2, n)
    return {
        "image": rng.normal(size=(n, 1, 6, 6)) + label[:, None, None, None],
        "label": np.array(["no", "yes"])[label],
    }


SHORT = {"epochs": 60, "validation": 0.25}
NETWORKS = {
    "numbers": lambda: gradfit.fit("y ~ network(a, b, c)", mixed(), **SHORT, patience=10),
    "curve": lambda: gradfit.fit("y ~ network(x, hidden=[16])", waves(), **SHORT),
    "nothing held out": lambda: gradfit.fit("y ~ network(x, hidden=[16])", waves(), epochs=60),
    "three classes": lambda: gradfit.fit("kind ~ network(u, v)", kinds(3), **SHORT),
    "two classes": lambda: gradfit.fit("kind ~ network(u, v, hidden=[])", kinds(2), **SHORT),
    "fifty classes": lambda: gradfit.fit("kind ~ network(u, v)", kinds(50, 1000), **SHORT),
    "counts, embedded": lambda: gradfit.fit("n ~ network(town, x)", towns(), loss="poisson", **SHORT),
    "folds of a network": lambda: gradfit.fit("y ~ network(x, hidden=[16])", waves(), kfold=4, epochs=40),
    "two targets": lambda: gradfit.fit("a, b ~ network(y, c)", mixed(), **SHORT),
    "one epoch of a network": lambda: gradfit.fit("y ~ network(a, b, c)", mixed(), epochs=1, validation=0.25),
    "overflow": lambda: gradfit.fit("y ~ network(x)", waves(), solver="SGD", lr=1e12, epochs=20, validation=0.25),
    "no learning": lambda: gradfit.fit("y ~ network(x)", waves(), solver="SGD", lr=1e-9, epochs=60, validation=0.25),
    "schedule, dropout": lambda: gradfit.fit(
        "y ~ network(x, hidden=[16, 16], dropout=0.1)", waves(), scheduler="StepLR", scheduler_settings={"step_size": 20},
        batch_size=16, **SHORT,
    ),
    "overfitted": lambda: gradfit.fit("y ~ network(x)", waves(20), epochs=1500, validation=0.4, stop="last"),
    "images": lambda: gradfit.fit(convolution(), images(), inputs=["image"], target="label", solver="Adam", epochs=10, validation=0.25),
    "evil columns": lambda: gradfit.fit(
        f"{{{EVIL}}} ~ network({{a&b \"c\"}})", {'a&b "c" [</style>]': waves()["x [s]"], EVIL: waves()["y [V]"]}, **SHORT
    ),
    "evil classes": lambda: gradfit.fit(
        "kind ~ network(u, v)", {**kinds(2), "kind": np.where(kinds(2)["kind"] == "class 0", EVIL, "</style>")}, **SHORT
    ),
    "long columns": lambda: gradfit.fit(
        f"{'y' * 200} ~ network({'x' * 300})", {"x" * 300: waves()["x [s]"], "y" * 200: waves()["y [V]"]}, **SHORT
    ),
    "200 000 rows": lambda: gradfit.fit("y ~ network(x, hidden=[4])", waves(200_000), epochs=2, validation=0.25),
}  # fmt: skip


@cache
def trained(name: str) -> gradfit.NetworkResult:
    return NETWORKS[name]()
