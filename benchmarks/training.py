"""Training loops: 5,000 epochs of each optimizer on the thermometer, the hand-written loop in torch against gradfit.

python benchmarks/training.py            # two minutes
"""

import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch

import gradfit
from gradfit.native.train import Training

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
from objectives import OPTIMIZERS, RICH, T_C, T_UN

EPOCHS, TIMED, PART, ROUNDS = 5000, 500, 50, 31
FORMULA, DATA = "t_c = w*t_un + b", {"t_un": np.array(T_UN), "t_c": np.array(T_C)}
LR = {
    "SGD": 1e-2,
    "Adadelta": 1.0,
    "Adagrad": 0.5,
    "Adafactor": 1e-3,
    "RMSprop": 1e-2,
    "Rprop": 1e-2,
    "ASGD": 1e-2,
}
RICHER = ("SGD", "Adam", "RMSprop", "NAdam")  # shown with more settings too


def by_hand(name: str, epochs: int, given: dict[str, object]) -> tuple[list[float], list[float]]:
    """The loop as one writes it; returns the parameters, and the seconds of each fifty epochs."""
    x, y = torch.tensor(T_UN, dtype=torch.float64), torch.tensor(T_C, dtype=torch.float64)
    w = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = getattr(torch.optim, name)([w], **given)
    times = []
    for _ in range(epochs // PART):
        began = time.perf_counter()
        for _ in range(PART):
            loss = ((w[0] * x + w[1] - y) ** 2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        times.append(time.perf_counter() - began)
    return w.tolist(), times


def public_call(given: dict[str, object]) -> float:
    """Seconds of `gradfit.fit`."""
    times = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        gradfit.fit(FORMULA, DATA, start=[1, 0], epochs=EPOCHS, **given)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def compiled_call(given: dict[str, object]) -> float:
    """Seconds of the compiled loop itself, without what is around it in `gradfit.fit`."""
    times: list[float] = []
    run = Training.run

    def timed(self, *args):
        began = time.perf_counter()
        finite = run(self, *args)
        times.append(time.perf_counter() - began)
        return finite

    Training.run = timed
    try:
        for _ in range(ROUNDS):
            gradfit.fit(FORMULA, DATA, start=[1, 0], epochs=EPOCHS, **given)
    finally:
        Training.run = run
    return statistics.median(times)


def training() -> list[str]:
    """The table as lines of Markdown."""
    torch.set_num_threads(1)
    rows = [
        f"{EPOCHS:,} epochs, 11 points, 2 parameters, float64, one thread; medians; torch: parts of {PART} epochs, times {EPOCHS // PART}.",
        "",
        "| optimizer | torch, loop by hand | compiled loop | ratio | gradfit.fit | ratio | first call | difference after 500 epochs |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name in OPTIMIZERS:
        for rich in (False, True)[: 1 + (name in RICHER)]:
            given = {"lr": LR.get(name, 0.1), **(RICH[name] if rich else {})}
            chosen = {"solver": name, **given}
            began = time.perf_counter()
            result = gradfit.fit(FORMULA, DATA, start=[1, 0], epochs=TIMED, **chosen)
            first = time.perf_counter() - began
            if "One compiled loop" not in result.how[-1]:
                rows.append(f"| {name} | – | {result.how[-1].lower()} | | | | | |")
                continue
            expected, times = by_hand(name, TIMED, given)
            eager = statistics.median(times) * EPOCHS / PART
            off = np.max(np.abs(result.outcome.parameters / np.array(expected) - 1))
            loop = compiled_call(chosen)
            public = public_call(chosen)
            settings = ", ".join(f"{key}={value}" for key, value in given.items())
            rows.append(
                f"| {name}({settings}) | {eager:.2f} s | {loop * 1e3:.3f} ms | {eager / loop:,.0f} | {public * 1e3:.2f} ms | "
                f"{eager / public:,.0f} | {first * 1e3:.0f} ms | {off:.0e} |"
            )
    return rows


if __name__ == "__main__":
    print("\n".join(training()))
