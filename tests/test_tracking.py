"""Epochs told to TensorBoard and MLflow."""

import sys
from pathlib import Path
from types import ModuleType

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import gradfit
from gradfit.errors import OptionError

DATA = {"x": [0.0, 1, 2, 3], "y": [1.1, 2.9, 5.2, 6.8]}


def _trained(callback: object) -> gradfit.FitResult:
    return gradfit.fit(
        "y = a*x + b", DATA, start={"a": 0, "b": 0}, solver="SGD", lr=0.05, epochs=25, callback=callback
    )


def test_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    fitted = _trained(gradfit.TensorBoard(tmp_path, every=10))
    read = EventAccumulator(str(tmp_path))
    read.Reload()
    told = {event.step: event.value for event in read.Scalars("loss/train")}
    assert list(told) == [0, 10, 20, 24]
    for step, loss in told.items():
        assert loss == pytest.approx(
            fitted.history.loss[step], rel=1e-6
        )  # TensorBoard keeps single precision
    assert "loss/validation" not in read.Tags()["scalars"]
    assert read.Scalars("parameter/0")[0].value == 0.0


def test_mlflow_is_told_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[tuple[int, dict[str, float]]] = []
    stand_in = ModuleType("mlflow")
    stand_in.log_metrics = lambda numbers, step: told.append((step, numbers))
    monkeypatch.setitem(sys.modules, "mlflow", stand_in)
    fitted = _trained(gradfit.MLflow(every=5))
    assert [step for step, _ in told] == [0, 5, 10, 15, 20, 24]
    assert told[1][1]["loss/train"] == fitted.history.loss[5]


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard.writer", None)
    with pytest.raises(ModuleNotFoundError, match="mlflow is not installed"):
        gradfit.MLflow()
    with pytest.raises(ModuleNotFoundError, match="tensorboard is not installed"):
        gradfit.TensorBoard(tmp_path)
    with pytest.raises(OptionError, match="every=0"):
        gradfit.MLflow(every=0)
