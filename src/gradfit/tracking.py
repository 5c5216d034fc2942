"""What happens in each epoch, told to TensorBoard or MLflow: callbacks for `gradfit.fit`."""

import importlib
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import Any

from gradfit.errors import OptionError
from gradfit.solve.descent import Progress


class TensorBoard:
    """Writes each epoch's losses, gradient and parameters where TensorBoard finds them.

    Parameters
    ----------
    folder : str or Path
        Of the run; it is made where it is missing.
    every : int
        Epochs between two entries; the first and the last epoch are always written.

    Raises
    ------
    OptionError
        If `every` is not positive, or the folder cannot be written.
    ModuleNotFoundError
        If tensorboard is not installed: pip install 'gradfit[track]'.

    Examples
    --------
    >>> import gradfit, tempfile
    >>> watch = gradfit.TensorBoard(tempfile.mkdtemp(), every=10)
    >>> result = gradfit.fit("y = a*x + b", {"x": [0, 1, 2], "y": [1.1, 2.9, 5.2]}, start={"a": 0, "b": 0},
    ...                      solver="SGD", lr=0.1, epochs=50, callback=watch)
    """

    def __init__(self, folder: str | Path, *, every: int = 1) -> None:
        self._every = _checked(every)
        try:
            module = importlib.import_module("torch.utils.tensorboard.writer")
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                "tensorboard is not installed; run: pip install 'gradfit[track]'", name=missing.name
            ) from missing
        try:
            self._writer: Any = module.SummaryWriter(str(folder))
        except OSError as refused:
            raise OptionError(
                f"TensorBoard's folder {folder} cannot be written: {refused.strerror}",
                remedy="Name a folder that can be",
            ) from refused

    def __call__(self, now: Progress) -> None:
        """Write an epoch."""
        if not _due(now, self._every):
            return
        for name, value in _numbers(now):
            self._writer.add_scalar(name, value, now.epoch - 1)
        self._writer.flush()


class MLflow:
    """Logs each epoch's losses, gradient and parameters to the active run of MLflow, which starts one where there is none.

    Parameters
    ----------
    every : int
        Epochs between two entries; the first and the last epoch are always logged.

    Raises
    ------
    OptionError
        If `every` is not positive.
    ModuleNotFoundError
        If mlflow is not installed: pip install mlflow.
    """

    def __init__(self, *, every: int = 1) -> None:
        self._every = _checked(every)
        try:
            self._mlflow: Any = importlib.import_module("mlflow")
        except ModuleNotFoundError as missing:
            raise ModuleNotFoundError(
                "mlflow is not installed; run: pip install mlflow", name=missing.name
            ) from missing

    def __call__(self, now: Progress) -> None:
        """Log an epoch."""
        if _due(now, self._every):
            self._mlflow.log_metrics(dict(_numbers(now)), step=now.epoch - 1)


def _checked(every: int) -> int:
    if every < 1:
        raise OptionError(f"every={every} epochs makes no sense", remedy="Give 1 or more")
    return every


def _due(now: Progress, every: int) -> bool:
    return (now.epoch - 1) % every == 0 or now.epoch == now.epochs or not isfinite(now.loss)


def _numbers(now: Progress) -> Iterator[tuple[str, float]]:
    """Yield what an epoch has to tell: all of it at the parameters before its update."""
    yield "loss/train", float(now.loss)
    if isfinite(now.validation):
        yield "loss/validation", float(now.validation)
    for j, (value, slope) in enumerate(zip(now.parameters, now.gradient, strict=True)):
        yield f"parameter/{j}", float(value)
        yield f"gradient/{j}", float(slope)
