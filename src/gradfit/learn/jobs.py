"""Trainings of networks as machine code: one, or several at a time.

One call of the machine code goes through some epochs; between two calls a callback is told, a scheduler asked and Ctrl-C
heard.
"""

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import DataError
from gradfit.learn.task import Ending
from gradfit.native.network import Network
from gradfit.native.network_train import NetworkTraining, Rows, Settings, rows_of
from gradfit.native.step import Step
from gradfit.notation import count
from gradfit.solve.patience import Patience

Array = NDArray[np.float64]
Floats = NDArray[Any]  # of 64 or 32 bits

_SECONDS = 0.05  # between two looks for a Ctrl-C, about
_MOST_ORDER = 1_000_000  # row numbers that are drawn ahead
_OPERATIONS = 2e10  # a second, with all that is around them


class Rates(Protocol):
    """Learning rates as a scheduler gives them, for as many epochs ahead as it can tell."""

    @property
    def wants_loss(self) -> bool:
        """Whether the next rate depends on the loss."""
        ...

    def ahead(self, epochs: int) -> Array:
        """Return the rates of the next epochs (e,)."""
        ...

    def tell(self, loss: float) -> None:
        """Tell of an epoch's loss."""
        ...


@dataclass(frozen=True, eq=False)
class Constant:
    """The same learning rate in every epoch."""

    rate: float
    wants_loss: bool = False

    def ahead(self, epochs: int) -> Array:
        """Return the rates of the next epochs (e,)."""
        return np.full(epochs, self.rate)

    def tell(self, loss: float) -> None:
        """Do nothing."""


@dataclass(frozen=True, eq=False)
class Job:
    """A training of a network, but for its start.

    Attributes
    ----------
    network : Network
        What is trained.
    step : Step
        The optimizer's.
    X, Y : (n, inputs), (n, targets)
        Rows; of classes the number of each (n,).
    rates : callable
        Returns the learning rates from the first epoch on.
    epochs : int
        At most.
    weights : (n,), optional
        They multiply each row's loss, whose mean over the rows is trained.
    held : pair of arrays, optional
        Inputs and targets that only judge.
    batch_size : int, optional
        Rows of an update; all where none is given. They are drawn as torch.randperm draws them from `seed`.
    clip : float, optional
        The largest norm of a gradient.
    patience : Patience
        When to stop for want of progress of the validation, or of the training without one.
    seed : int
        Of the mini-batches.
    delta : float
        Of Huber's loss.
    noted : sequence of int
        Epochs, from 1, of which parameters and gradient are wanted.

    Raises
    ------
    DataError
        If the shapes of the arrays do not fit the network, or the number of a class is none.
    """

    network: Network
    step: Step
    X: Floats
    Y: Floats
    rates: Callable[[], Rates]
    epochs: int
    weights: Floats | None = None
    held: tuple[Floats, Floats] | None = None
    batch_size: int | None = None
    clip: float | None = None
    patience: Patience = field(default_factory=Patience)
    seed: int = 0
    delta: float = 1.0
    noted: Sequence[int] = ()

    def __post_init__(self) -> None:
        pairs = [("", self.X, self.Y), *([("held ", *self.held)] if self.held is not None else [])]
        for kind, X, Y in pairs:
            _check(self.network, kind, X, Y)
        if self.weights is not None and np.shape(self.weights) != (len(self.X),):
            raise DataError(
                f"The weights have shape {np.shape(self.weights)} for {count(len(self.X), 'row')}",
                remedy="Give one for each row",
            )


def _check(network: Network, kind: str, X: Floats, Y: Floats) -> None:
    """Check that rows are some, and of the network's form.

    Raises
    ------
    DataError
        If they are not.
    """
    n = len(X)
    if n == 0 or np.shape(X) != (n, network.inputs):
        raise DataError(
            f"The {kind}inputs have shape {np.shape(X)}, and the network takes (n, {network.inputs})",
            remedy="Give a row for each case, with a number for each input",
        )
    if len(Y) != n or np.size(Y) != n * network.targets:
        raise DataError(
            f"The {kind}targets have shape {np.shape(Y)}, and the network gives ({n}, {network.targets})",
            remedy="Give a row for each row of the inputs",
        )
    classes = network.loss == "cross-entropy"
    if classes and not np.isin(Y, np.arange(network.outputs)).all():
        raise DataError(
            f"The {kind}targets hold numbers that are no class",
            remedy=f"Give whole numbers from 0 to {network.outputs - 1}",
        )


@dataclass(frozen=True, slots=True)
class Now:
    """How far a training has come: epochs done, the last one's losses (of validation NaN without), its learning rate."""

    epochs: int
    loss: float
    validation: float
    rate: float
    best: int


@dataclass(frozen=True, eq=False)
class Trained:
    """What a training has led to.

    Attributes
    ----------
    last, best : (size,)
        The vector of parameters after the last epoch, and where the loss (of validation, if there is one) was lowest.
    best_epoch : int
        How many epochs led there; 0 for the start.
    train, validation : (m,)
        Losses by epoch: the mean over its updates, each before its own; after the epoch, NaN without rows held out.
    rates : (m,)
        Learning rates.
    ending : str
        "epochs-done", "patience", "diverged", "stopped" or "interrupted".
    noted : tuple of (int, (size,), (trained,))
        Of the epochs that were asked for, the parameters and the gradient at their first update.
    """

    last: Floats
    best: Floats
    best_epoch: int
    train: Array
    validation: Array
    rates: Array
    ending: Ending
    noted: tuple[tuple[int, Floats, Floats], ...]

    @property
    def epochs(self) -> int:
        """How many were done."""
        return len(self.train)


def train_network(
    job: Job,
    start: Floats,
    *,
    threads: int = 1,
    callback: Callable[[Now], object] | None = None,
) -> Trained:
    """Return where the epochs lead from a vector of parameters (size,); a Ctrl-C ends them within a tenth of a second.

    Parameters
    ----------
    threads : int
        That share an update of many rows, where that turns out to be faster; the numbers do not depend on it.
    callback : callable, optional
        Called after each epoch; True stops.
    """
    rows, checked = _data(job)
    run = _Run(job, rows, checked, start, threads=threads)
    try:
        run.go(callback, None)
    except KeyboardInterrupt:
        run.ending = "interrupted"
    return run.done()


def train_members(jobs: Sequence[Job], starts: Sequence[Floats], *, threads: int) -> list[Trained]:
    """Return where several trainings lead, `threads` of them at a time, each on one core: seeds, folds, sizes.

    Each has the numbers that it has alone. A Ctrl-C ends them all.
    """
    stop = threading.Event()
    shared: dict[tuple[int, int, object, object], tuple[Rows, Rows | None]] = {}
    runs: list[_Run] = []
    for job, start in zip(jobs, starts, strict=True):
        key = (id(job.X), id(job.Y), job.network.layers, job.batch_size)
        if key not in shared or job.held is not None or job.weights is not None:
            shared[key] = _data(job)
        runs.append(_Run(job, *shared[key], start, threads=1))
    with (
        ThreadPoolExecutor(max(1, threads)) as pool,
        suppress(KeyboardInterrupt),
    ):  # each tells how it has ended
        waiting = [pool.submit(run.go, None, stop) for run in runs]
        try:
            for one in waiting:
                one.result()
        finally:
            stop.set()
    return [run.done() for run in runs]


def cores() -> int:
    """Return how many cores this process may use, and torch with it."""
    mine = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(mine, torch.get_num_threads())


def _data(job: Job) -> tuple[Rows, Rows | None]:
    rows = rows_of(job.network, job.X, job.Y, job.weights, batch=_batch(job))
    if job.held is None:
        return rows, None
    return rows, rows_of(job.network, *job.held, None, batch=None, like=rows)


def _batch(job: Job) -> int | None:
    return None if job.batch_size is None or job.batch_size >= len(job.X) else job.batch_size


class _Run:
    """One training under way, a few epochs at a time."""

    def __init__(self, job: Job, rows: Rows, checked: Rows | None, start: Floats, *, threads: int) -> None:
        if np.shape(start) != (job.network.size,):
            raise DataError(
                f"The start has shape {np.shape(start)}, and the network {count(job.network.size, 'parameter')}",
                remedy="Give flat_parameters(network, module)",
            )
        waits = job.patience.epochs or 0
        settings = Settings(_batch(job), job.clip or 0.0, waits, job.patience.min_delta, job.delta)
        self.job = job
        self.ending: Ending = "epochs-done"
        self.training = NetworkTraining(
            job.network, job.step, rows, start=start, settings=settings, checked=checked, threads=threads
        )
        self._rates = job.rates()
        self._shuffle = torch.Generator(device="cpu").manual_seed(job.seed)
        self._noted: list[tuple[int, Floats, Floats]] = []
        self._wanted = sorted({epoch for epoch in job.noted if 1 <= epoch <= job.epochs})
        self._paces: dict[int, float] = {}

    def go(self, callback: "Callable[[Now], object] | None", stop: "threading.Event | None") -> None:
        """Go through the epochs, until something ends them."""
        job, training = self.job, self.training
        block = 1 if callback is not None or self._rates.wants_loss else _block(job)
        while training.done < job.epochs:
            ahead = [epoch for epoch in self._wanted if epoch > training.done][:1]
            epochs = min([block, job.epochs - training.done, *(epoch - training.done for epoch in ahead)])
            self._some(epochs)
            if training.done in self._wanted:
                self._noted.append((training.done, *training.noted))
            stopped = callback is not None and callback(self._now()) is True
            if training.stopped or stopped:
                self.ending = training.stopped or "stopped"
                return
            if stop is not None and stop.is_set() and training.done < job.epochs:
                self.ending = "interrupted"
                return

    def _some(self, epochs: int) -> None:
        """Go through some epochs, with the number of threads that has been the fastest."""
        rates = self._rates.ahead(epochs)
        order = None
        if _batch(self.job) is not None:
            drawn = [torch.randperm(len(self.job.X), generator=self._shuffle, device="cpu") for _ in rates]
            order = torch.cat(drawn).numpy()
        most = self.training.threads
        untried = [threads for threads in (most, 1) if threads not in self._paces]
        threads = untried[0] if untried else min(self._paces, key=lambda one: self._paces[one])
        began = time.perf_counter()
        self.training.run(rates, order, threads=threads)
        self._paces[threads] = (time.perf_counter() - began) / epochs
        if self._rates.wants_loss:
            now = self._now()
            self._rates.tell(now.loss if self.job.held is None else now.validation)

    def _now(self) -> Now:
        return Now(self.training.done, *self.training.last, self.training.best[0])

    def done(self) -> Trained:
        """Return what it has led to."""
        epoch, _, best = self.training.best
        last, noted = self.training.parameters, tuple(self._noted)
        return Trained(last, best, epoch, *self.training.history, self.ending, noted)


def operations(network: Network, rows: int) -> float:
    """Return how many operations an epoch's gradient takes, about."""
    return 6.0 * rows * sum(layer.inputs * layer.outputs for layer in network.layers)


def epoch_seconds(network: Network, rows: int, updates: int) -> float:
    """Return how long an epoch takes on a core, about: from its work, not by a clock."""
    return operations(network, rows) / _OPERATIONS + rows * 1e-8 + updates * (1e-6 + network.trained * 1e-9)


def _block(job: Job) -> int:
    """Return how many epochs go by between two looks for a Ctrl-C."""
    n = len(job.X)
    updates = -(-n // (_batch(job) or n))
    seconds = epoch_seconds(job.network, n, updates)
    most = _MOST_ORDER // n if updates > 1 else 100_000
    return max(1, min(int(_SECONDS / seconds), most))
