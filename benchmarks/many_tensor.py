"""Many fits in torch: fits a second on a device, beside the numpy executor and with the distance of their answers.

python benchmarks/many_tensor.py            # on the processor, and on the GPU where there is one
"""

import platform
import statistics
import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from gradfit.formula import parse
from gradfit.kernel import NumpyKernel
from gradfit.solve.lockstep import numpy as lockstep
from gradfit.solve.lockstep.batch import Batch, Cost, Ends, Settings
from gradfit.solve.lockstep.tensor import solve as tensor_lockstep
from gradfit.trace import trace_formula

MODELS = {
    "decay": ("y = a*exp(-b*x) + c", (5.0, 1.0, 0.5), (3.0, 0.5, 0.0)),
    "peak": ("y = a*exp(-((x - b)/c)**2) + d", (3.0, 2.5, 0.8, 1.0), (2.0, 2.2, 1.0, 0.0)),
}


def data(text: str, truth: tuple[float, ...], fits: int, points: int):
    """Return the graph of a model and simulated data of many fits, 2 % of noise."""
    names = tuple("abcd"[: len(truth)])
    graph = trace_formula(parse(text).right, ("x",), names)
    random = np.random.default_rng(0)
    x = np.linspace(0, 5, points)
    p = np.array(truth) * random.uniform(0.8, 1.2, (fits, len(truth)))
    y = np.empty((fits, points))
    for i in range(0, fits, 4096):
        y[i : i + 4096] = NumpyKernel(graph).value([x], p[i : i + 4096].T[:, :, None])
    y += 0.1 * random.standard_normal(y.shape, dtype=np.float32)
    return graph, Batch((x,), y)


def measured(run: Callable[[], Ends], rounds: int) -> tuple[float, float, Ends]:
    """Return the median and the spread of the seconds that a call takes, and what it returns."""
    ends = run()
    seconds = []
    for _ in range(rounds):
        began = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds), max(seconds) - min(seconds), ends


def many_tensor(fits: int, points: int = 25, rounds: int = 3) -> list[str]:
    """Return lines of a table: fits a second by each device and precision, for each model."""
    lines = [
        "| model | executor | fits/s | spread | converged | farthest from numpy, standard errors |",
        "|---|---|---|---|---|---|",
    ]
    ways = [("cpu", "float64"), ("cpu", "float32")]
    if torch.cuda.is_available():
        ways += [("cuda", "float64"), ("cuda", "float32")]
    for name, (text, truth, start) in MODELS.items():
        graph, batch = data(text, truth, fits, points)
        k = len(truth)
        options = {
            "free": np.arange(k), "lower": np.full(k, -np.inf), "upper": np.full(k, np.inf), "loss": Cost(), "settings": Settings(),
        }  # fmt: skip
        first = slice(0, 20_000)
        begin = np.array([start])
        in_numpy = partial(lockstep.solve, NumpyKernel(graph), batch.rows(first), begin, **options)
        second, spread, expected = measured(in_numpy, rounds)
        share = min(fits, 20_000) / second
        lines.append(
            f"| {name} | numpy | {share:,.0f} | {spread / second:.0%} | {np.mean(expected.status == 0):.2%} | |"
        )
        for device, dtype in ways:
            part = batch if device != "cpu" else batch.rows(slice(0, 100_000))
            in_torch = partial(
                tensor_lockstep.solve, graph, part, begin, device=device, dtype=dtype, **options
            )
            second, spread, ends = measured(in_torch, rounds)
            off = np.abs(ends.rows(first).parameters - expected.parameters) / expected.stderr
            rate = len(part.y) / second
            lines.append(
                f"| {name} | tensor, {device}, {dtype} | {rate:,.0f} | {spread / second:.0%} | {np.mean(ends.status == 0):.2%} "
                f"| {np.nanmax(off):.1e} |"
            )
    return lines


if __name__ == "__main__":
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, {gpu}; torch {torch.__version__}\n"
    )
    print("\n".join(many_tensor(4_000_000 if torch.cuda.is_available() else 100_000)))
