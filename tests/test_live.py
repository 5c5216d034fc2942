"""The line that a terminal shows while a training goes on."""

from dataclasses import dataclass
from math import inf, nan

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradfit
from gradfit.terminal.live import CLEAR, LiveLine


@dataclass
class Epoch:
    epoch: int
    epochs: int
    loss: float
    validation: float = nan
    lr: float = nan
    limit: float = nan

    def largest_stable(self) -> float:
        return self.limit


class Clock:
    def __init__(self, step: float) -> None:
        self.now, self.step = 0.0, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def _lines(epochs: list[Epoch], *, step: float = 1.0, **settings: object) -> list[str]:
    written: list[str] = []
    live = LiveLine(written.append, clock=Clock(step), **settings)
    for epoch in epochs:
        live(epoch)
    return written


def test_it_tells_epoch_both_losses_rate_and_the_time_that_is_left() -> None:
    epochs = [Epoch(i, 100, 10.0 / i, 4.0 + abs(i - 3), 0.01, 0.02) for i in range(1, 6)]
    line = _lines(epochs, width=200)[-1]
    assert line.startswith(CLEAR)
    for part in (
        "epoch 5 of 100",
        "loss 2.000",
        "validation 6.000 (best 4.000 at 3)",
        "lr 0.01, 0.5 of the largest stable",
        "76 s left",
    ):
        assert part in line


def test_it_draws_ten_times_a_second_at_most_and_the_last_epoch_always() -> None:
    assert len(_lines([Epoch(i, 1000, 1.0) for i in range(1, 1001)], step=0.001)) == 11


@pytest.mark.parametrize("rising", ["█", "#"])
def test_the_sparkline_falls_with_the_loss_and_marks_what_is_no_number(rising: str) -> None:
    unicode = rising == "█"
    losses = [100.0, 10.0, 1.0, nan, inf, 0.1]
    spark = _lines([Epoch(i, 9, loss) for i, loss in enumerate(losses, 1)], unicode=unicode, width=200)[-1]
    shown = spark.removeprefix(CLEAR)[:24].strip()
    assert shown[0] == rising
    assert shown[3:5] == "!!"
    assert unicode or spark.removeprefix(CLEAR).isascii()


@given(st.lists(st.floats(), min_size=1, max_size=600), st.integers(40, 200))
def test_no_line_is_wider_than_the_terminal(losses: list[float], width: int) -> None:
    epochs = [Epoch(i, len(losses), loss, loss, 0.1, 1e-300) for i, loss in enumerate(losses, 1)]
    for line in _lines(epochs, width=width):
        assert len(line.removeprefix(CLEAR)) < width


T_C = [0.5, 14, 15, 28, 11, 8, 3, -4, 6, 13, 21]
T_U = [35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4]


@pytest.mark.parametrize("executor", ["native", "tensor"])
@pytest.mark.parametrize(
    ("settings", "factor"),
    [({}, 1.0), ({"momentum": 0.9}, 1.9), ({"momentum": 0.9, "nesterov": True}, 1.9 / 2.8)],
)
def test_a_callback_is_told_the_rate_and_the_largest_stable_one(
    executor: str, settings: dict[str, float], factor: float
) -> None:
    told: list[tuple[float, float]] = []

    def watch(now: object) -> None:
        told.append((now.lr, now.largest_stable()))

    gradfit.fit(
        "t_c = w*t_u + b", {"t_u": T_U, "t_c": T_C}, start={"w": 1, "b": 0}, executor=executor, solver="SGD",
        lr=1e-5, epochs=3, callback=watch, **settings,
    )  # fmt: skip
    design = np.column_stack([T_U, np.ones(11)])
    largest = np.linalg.eigvalsh(2 / 11 * design.T @ design)[-1]
    assert told == [(1e-5, pytest.approx(factor * 2 / largest, rel=1e-9))] * 3


def test_a_schedule_shows_in_the_rate_and_an_adaptive_optimizer_has_no_limit() -> None:
    told: list[object] = []
    for solver in ("SGD", "Adam"):
        gradfit.fit(
            "t_c = w*t_u + b", {"t_u": T_U, "t_c": T_C}, start={"w": 1, "b": 0}, solver=solver, lr=1e-5, epochs=4,
            scheduler="StepLR", scheduler_settings={"step_size": 2, "gamma": 0.1}, callback=told.append,
        )  # fmt: skip
    assert [now.lr for now in told[:4]] == pytest.approx([1e-5, 1e-5, 1e-6, 1e-6])
    assert told[-1].largest_stable is None
