"""Small networks: loops by hand in torch against the compiled loop, in one process, taking turns.

python benchmarks/network.py            # four minutes
"""

import copy
import statistics
import sys
import time
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

import gradfit
from gradfit.learn.jobs import Constant, Job, train_members, train_network
from gradfit.learn.native import flat_parameters
from gradfit.trace.network import network_of
from gradfit.trace.optimizer import trace_optimizer

RATE, MEMBERS = 1e-3, 10
LADDER = (16, 24, 32, 40, 48, 56, 64, 72, 80, 96)


class Case(NamedTuple):
    """A network and how long it is trained: by the compiled loop, and by hand a part of it."""

    name: str
    sizes: tuple[int, ...]
    activation: type
    rows: int
    batch: int | None
    epochs: int
    by_hand: int
    dtype: torch.dtype = torch.float32


CASES = [
    Case("1-64-64-1 tanh, 2,000 rows at once", (1, 64, 64, 1), nn.Tanh, 2000, None, 1000, 100),
    Case("the same in float64", (1, 64, 64, 1), nn.Tanh, 2000, None, 1000, 50, torch.float64),
    Case("8-32-32-1 relu, 5,000 rows, batches of 64", (8, 32, 32, 1), nn.ReLU, 5000, 64, 100, 3),
    Case("1-16-1 tanh, 50 rows at once", (1, 16, 1), nn.Tanh, 50, None, 5000, 300),
    Case("16-256-256-1 relu, 2,000 rows, batches of 128", (16, 256, 256, 1), nn.ReLU, 2000, 128, 20, 5),
]


def data(case: Case) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and targets."""
    draw = torch.Generator().manual_seed(0)
    X = torch.randn(case.rows, case.sizes[0], generator=draw, dtype=torch.float64)
    Y = torch.sin(2 * X.sum(1, keepdim=True)) + 0.1 * torch.randn(
        case.rows, 1, generator=draw, dtype=torch.float64
    )
    return X.to(case.dtype), Y.to(case.dtype)


def module(case: Case, seed: int = 0) -> nn.Module:
    """The network, with weights from a seed."""
    torch.manual_seed(seed)
    layers: list[nn.Module] = []
    for inputs, outputs in zip(case.sizes, case.sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), case.activation()]
    return nn.Sequential(*layers[:-1]).to(case.dtype)


def by_hand(case: Case, net: nn.Module, epochs: int) -> float:
    """Seconds of the loop as one writes it."""
    X, Y = data(case)
    optimizer = torch.optim.Adam(net.parameters(), lr=RATE)
    shuffle = torch.Generator().manual_seed(0)
    began = time.perf_counter()
    for _ in range(epochs):
        order = (
            torch.randperm(case.rows, generator=shuffle).split(case.batch) if case.batch else [slice(None)]
        )
        for part in order:
            optimizer.zero_grad()
            loss = ((net(X[part]) - Y[part]) ** 2).mean()
            loss.backward()
            optimizer.step()
    return time.perf_counter() - began


def job(case: Case, net: nn.Module, epochs: int) -> tuple[Job, np.ndarray]:
    """The same training for the compiled loop, and its start."""
    X, Y = data(case)
    network = network_of(net, case.sizes[0], "mse")
    assert not isinstance(network, str), network
    step = trace_optimizer(lambda leaf: torch.optim.Adam([leaf], lr=RATE), 3)
    given = Job(network, step, X.numpy(), Y.numpy(), lambda: Constant(RATE), epochs, batch_size=case.batch)
    return given, flat_parameters(network, net)


def operations(case: Case) -> float:
    """Operations of an epoch: forward, weights' slopes, and slopes of all inputs but the data."""
    products = [a * b for a, b in zip(case.sizes, case.sizes[1:], strict=False)]
    return 2.0 * case.rows * (3 * sum(products) - products[0])


def timed(call) -> float:
    """Seconds of a call."""
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def cases(rounds: int = 5) -> list[str]:
    """The table of single trainings as lines of Markdown."""
    torch.set_num_threads(1)
    rows = [
        f"Adam, medians of {rounds} rounds in turns, torch with one thread; the loop by hand runs a part of the epochs.",
        "",
        "| network | by hand, an epoch | compiled, an epoch | ratio | GFLOP/s | two threads | first call | difference after the part |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for case in CASES:
        net = module(case)
        full, start = job(case, net, case.epochs)
        part, _ = job(case, net, case.by_hand)
        first = timed(lambda part=part, start=start: train_network(part, start))
        turns = []
        for _ in range(rounds):
            trained = copy.deepcopy(net)
            hand = by_hand(case, trained, case.by_hand) / case.by_hand
            one = timed(lambda full=full, start=start: train_network(full, start)) / case.epochs
            two = timed(lambda full=full, start=start: train_network(full, start, threads=2)) / case.epochs
            turns.append((hand, one, two))
        hand, one, two = (statistics.median(column) for column in zip(*turns, strict=True))
        ratio = statistics.median(a / b for a, b, _ in turns)
        expected = torch.cat([p.detach().reshape(-1) for p in trained.parameters()]).numpy()
        off = np.linalg.norm(train_network(part, start).last - expected) / np.linalg.norm(expected)
        rows.append(
            f"| {case.name} | {hand * 1e3:.2f} ms | {one * 1e3:.3f} ms | {ratio:.1f} | {operations(case) / one / 1e9:.0f} | "
            f"{two * 1e3:.3f} ms | {first:.2f} s | {off:.0e} |"
        )
    return rows


def members(rounds: int = 5) -> list[str]:
    """The tables of several trainings as lines of Markdown: seeds, and a ladder of sizes."""
    torch.set_num_threads(1)
    seeds = [CASES[0]] * MEMBERS
    ladder = [CASES[0]._replace(sizes=(1, hidden, hidden, 1)) for hidden in LADDER]
    rows = [
        "| members, 200 epochs | by hand, one after the other | one thread | two threads | ratio |",
        "|---|--:|--:|--:|--:|",
    ]
    for name, some in (
        (f"{MEMBERS} seeds of the first", seeds),
        (f"its hidden layers of {LADDER[0]} to {LADDER[-1]}", ladder),
    ):
        nets = [module(case, seed) for seed, case in enumerate(some)]
        jobs, starts = zip(*[job(case, net, 200) for case, net in zip(some, nets, strict=True)], strict=True)
        turns = []
        for _ in range(rounds):
            hand = (
                sum(by_hand(case, copy.deepcopy(net), 5) for case, net in zip(some, nets, strict=True)) * 40
            )
            one, two = (
                timed(lambda t=threads, jobs=jobs, starts=starts: train_members(jobs, starts, threads=t))
                for threads in (1, 2)
            )
            turns.append((hand, one, two))
        hand, one, two = (statistics.median(column) for column in zip(*turns, strict=True))
        ratio = statistics.median(a / min(b, c) for a, b, c in turns)
        rows.append(f"| {name} | {hand:.2f} s | {one:.2f} s | {two:.2f} s | {ratio:.1f} |")
    return rows


def whole_calls(rounds: int = 3) -> list[str]:
    """The table of what a user calls, with all that is around the training, as lines of Markdown."""
    draw = np.random.default_rng(0)
    x = draw.uniform(-2, 2, size=(200, 2))
    data = {"x1": x[:, 0], "x2": x[:, 1], "y": np.sin(3 * x[:, 0]) + draw.normal(0, 0.1, 200)}
    model = "y ~ network(x1, x2, hidden=[16])"
    calls = {
        "`fit`, 1,000 epochs": lambda how: gradfit.fit(model, data, epochs=1000, executor=how),
        "`fit` with `kfold=5`": lambda how: gradfit.fit(model, data, epochs=1000, kfold=5, executor=how),
        "`grow` to 8 units, 3 folds, 2 seeds": lambda how: gradfit.grow(
            "y ~ network(x1, x2)", data, sizes=8, kfold=3, epochs=1000, executor=how
        ),
    }
    rows = ['| call, 200 rows | `executor="tensor"` | `executor="native"` | ratio |', "|---|--:|--:|--:|"]
    torch.set_num_threads(2)
    for name, call in calls.items():
        call("native")
        turns = [
            (timed(lambda c=call: c("tensor")), timed(lambda c=call: c("native"))) for _ in range(rounds)
        ]
        eager, native = (statistics.median(column) for column in zip(*turns, strict=True))
        rows.append(
            f"| {name} | {eager:.2f} s | {native:.2f} s | {statistics.median(a / b for a, b in turns):.0f} |"
        )
    return rows


def network(rounds: int = 5) -> list[str]:
    """All tables."""
    return [*cases(rounds), "", *members(rounds), "", *whole_calls(min(rounds, 3))]


if __name__ == "__main__":
    print("\n".join(network(*map(int, sys.argv[1:2]))))
