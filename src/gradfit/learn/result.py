"""The result of fitting a network: losses, measures, predictions, the trained module, findings and a verdict."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import stage, torch
from gradfit._version import __version__
from gradfit.diagnose import Finding
from gradfit.diagnose import verdict as verdict_of
from gradfit.errors import DataError
from gradfit.learn.build import dtype_of, in_units
from gradfit.learn.encoding import Encoding
from gradfit.learn.loop import WHOLE
from gradfit.learn.prediction import NetworkPrediction, confusion_of, measures, prediction_of
from gradfit.learn.rows import Rows, rows_of
from gradfit.learn.spec import NetworkSpec
from gradfit.learn.target import Target
from gradfit.learn.task import GradientTrail, LossHistory

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types

Array = NDArray[np.float64]
Places = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Part:
    """Rows with their targets.

    Attributes
    ----------
    rows : Rows
        With codes in columns of text.
    target : Target
        Of the same rows.
    """

    rows: Rows
    target: Target

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.rows.n

    def at(self, places: Places) -> "Part":
        """Return some of the rows."""
        mask = np.zeros(self.n, dtype=np.bool_)
        mask[places] = True
        if mask.all():
            return self
        values = self.target.values[mask]
        t = self.target
        return Part(self.rows.keep(mask), Target(t.names, t.aim, t.levels, values))


@dataclass(frozen=True, eq=False)
class Held:
    """How well the network does on rows that it was not trained on.

    Attributes
    ----------
    n : int
        Rows held out.
    loss : float
        Their mean loss at the parameters that were kept; the mean over the folds with kfold=.
    metrics : mapping of str to float
        As `NetworkResult.metrics`, on those rows.
    how : str
        How they were chosen.
    folds : tuple of float
        The loss of each fold.
    stderr : float
        Standard error of the mean over the folds; NaN without folds.
    """

    n: int
    loss: float
    metrics: Mapping[str, float]
    how: str
    folds: tuple[float, ...] = ()
    stderr: float = float("nan")


@dataclass(frozen=True, eq=False)
class NetworkResult:
    """A trained network.

    Attributes
    ----------
    network : torch.nn.Module
        As it was trained, in eval mode, on the CPU. The module that was handed to `fit` is another object and untouched.
    spec : NetworkSpec, optional
        Of a network() built here; none for a module of the caller's.
    formula : str
        As it was written, or the module's class and columns.
    encoding : Encoding
        From columns to the tensors that it is called with.
    target : Target
        What it predicts, without values.
    loss_name : str
        The loss that was made small.
    plain : bool
        Whether the network returns probabilities or expected counts themselves, rather than logits or logarithms.
    history : LossHistory
        Losses by epoch.
    best_epoch : int
        Of the parameters that were kept.
    ending, message : str
        Why training ended, as a word and as a sentence.
    loss : float
        Of the training rows at the parameters that were kept, in eval mode.
    metrics : mapping of str to float
        On the training rows: rmse, mae and r2; deviance; or accuracy and log_loss.
    validation : Held, optional
        The same on rows held out.
    solver, device, executor : str
        What trained it, where.
    how : tuple of str
        What was chosen, as sentences.
    n, n_read : int
        Rows used for training, and read.
    source : str
        Where they came from.
    seconds : float
        Of training.
    settings : mapping of str to object
        What `fit` was told.
    trail : GradientTrail
        Sizes of gradients on the way.
    train, held : Part, optional
        The rows themselves; none in a result that was loaded.
    examine : callable
        Returns the findings.
    """

    network: "nn.Module"
    spec: NetworkSpec | None
    formula: str
    encoding: Encoding
    target: Target
    loss_name: str
    plain: bool
    history: LossHistory
    best_epoch: int
    ending: str
    message: str
    loss: float
    metrics: Mapping[str, float]
    validation: Held | None
    solver: str
    device: str
    executor: str
    how: tuple[str, ...]
    n: int
    n_read: int
    source: str
    seconds: float
    settings: Mapping[str, object]
    trail: GradientTrail
    examine: "Callable[[NetworkResult], tuple[Finding, ...]]"
    train: Part | None = None
    held: Part | None = None
    version: str = field(default=__version__)

    # ------------------------------------------------------------------ the module

    @cached_property
    def module(self) -> "nn.Module":
        """The trained network as a module in the user's units, in eval mode: columns in, the target (or logits) out."""
        return in_units(self.network, self.encoding)

    @property
    def inputs(self) -> tuple[str, ...]:
        """The input columns."""
        return self.encoding.names

    @property
    def response(self) -> str:
        """The target."""
        return self.target.text

    @property
    def k(self) -> int:
        """Number of parameters."""
        return sum(p.numel() for p in self.network.parameters())

    # ------------------------------------------------------------------ use

    def predict(self, data: object = None) -> NetworkPrediction:
        """Return predictions: numbers in the unit of the target, expected counts, or classes with probabilities.

        Parameters
        ----------
        data : anything that `fit` takes, optional
            Must hold the inputs. Left out: the rows that were trained on.

        Raises
        ------
        DataError
            If an input is missing, or the result was loaded and no data are given.
        """
        if data is None and self.train is None:
            raise DataError("A loaded fit holds no rows", remedy="Give data: result.predict(data)")
        rows = self._rows(data) if data is not None else self._own_rows()
        output = self.output(rows)
        return prediction_of(output, self.target, self.encoding, plain=self.plain)

    def _own_rows(self) -> Rows:
        assert self.train is not None  # noqa: S101  the caller has looked
        return self.train.rows

    def _rows(self, data: object) -> Rows:
        if not isinstance(data, Rows):
            data = rows_of(_named(data, self.encoding.names), origins=self.encoding.origins)
        return self.encoding.coded(data)

    def output(self, rows: Rows) -> Array:
        """Return what the network returns for rows with codes, (n, ...), in eval mode and without a graph."""
        inputs = self.encoding.tensors(rows, dtype_of(self.network))
        return evaluated(self.network, inputs)

    @cached_property
    def confusion(self) -> NDArray[np.int64] | None:
        """How often each class (row) was taken for which (column): on rows held out, else on those trained on."""
        part = self.held if self.held is not None else self.train
        if part is None or not self.target.classes:
            return None
        return confusion_of(self.predict(part.rows), part.target.values)

    # ------------------------------------------------------------------ judgement

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What is wrong or noteworthy, worst first."""
        with torch.random.fork_rng(devices=[]):  # a module may draw in eval mode too
            return self.examine(self)

    @property
    def verdict(self) -> str:
        """Return "trust", "caution" (a warning) or "no" (an error, or no finite loss)."""
        return verdict_of(self.findings, self.ending != "diverged")

    @cached_property
    def sentences(self) -> tuple[str, ...]:
        """At most three sentences that say what the verdict rests on."""
        return stage("networks").said(self)

    def summary(self, width: int = 80) -> str:
        """Return the answer as text for a terminal."""
        return stage("networks").summary(self, width=width)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<{self.verdict}: {self.formula}; {self.loss_name} {self.loss:.6g}>"

    def plot(self) -> object:
        """Return a figure: the losses by epoch, and the fit over one input, observed over predicted, or the confusion."""
        return stage("networks").network_figure(self)

    def report(self, path: str | PathLike[str], *, force: bool = False) -> Path:
        """Write the report, one self-contained HTML file, and return its path.

        An existing file is not overwritten unless `force` is true.
        """
        return stage("report").write(self, path, force=force)

    def save(self, path: str | PathLike[str], *, force: bool = False) -> Path:
        """Write the network as one safetensors file with its description as JSON, and return its path.

        `gradfit.load(path)` returns it; a module of the caller's own is needed again then: `gradfit.load(path, module=...)`.

        Parameters
        ----------
        force : bool
            Whether a file that is there may be replaced.

        Raises
        ------
        OptionError
            If the file is there and `force` is false, or cannot be written.
        """
        return stage("networks").save_network(self, path, force=force)


def _named(data: object, names: tuple[str, ...]) -> object:
    """Return data under the names of the inputs where a plain array or tensor was given for the only one."""
    if len(names) == 1 and (isinstance(data, np.ndarray) or _is_tensor(data)):
        return {names[0]: data}
    return data


def _is_tensor(data: object) -> bool:
    return type(data).__module__.startswith("torch") and isinstance(data, torch.Tensor)


def evaluated(network: "nn.Module", inputs: "tuple[Tensor, ...]", device: str = "cpu") -> Array:
    """Return a network's output (n, ...) in float64, in eval mode and without a graph; it is in the same mode after."""
    was = network.training
    _ = network.eval()
    try:
        with torch.random.fork_rng(devices=[]), torch.no_grad():  # a module may draw in eval mode too
            n = len(inputs[0])
            parts = [
                network(*[part[first : first + WHOLE].to(device) for part in inputs]).detach().double().cpu()
                for first in range(0, n, WHOLE)
            ]
    finally:
        _ = network.train(was)
    return np.asarray(torch.cat(parts).numpy(), dtype=np.float64)


def measured(result: NetworkResult, part: Part) -> Mapping[str, float]:
    """Return how well a result does on rows."""
    return measures(result.predict(part.rows), part.target.values, result.target.aim)


def no_values(target: Target) -> Target:
    """Return a target without its values."""
    return Target(
        target.names, target.aim, target.levels, np.zeros((0, *target.values.shape[1:]), dtype=np.float64)
    )
