"""A network's training as machine code: the arrays that it reads and writes, and what it leaves behind."""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from gradfit.native import network_activation, network_loss, network_step
from gradfit.native.compiled import Library, lanes, library
from gradfit.native.network import Layer, Network
from gradfit.native.network_chunk import FIELDS
from gradfit.native.network_epochs import GROUPS, LINE, MARKS, NAME, PLAN, REALS, write_epochs
from gradfit.native.network_tiles import Shape
from gradfit.native.step import Step

Array = NDArray[np.float64]
Floats = NDArray[Any]  # of 64 or 32 bits
_CACHE = 256 * 1024  # bytes of a chunk's values and slopes that stay near the core
_MOST_ROWS = 1024  # of a chunk
_LEAST = (
    8  # registers of rows of a chunk: with fewer, reading the weights takes longer than multiplying by them
)
_LINE_BYTES = 64


def _aligned(count: int, kind: Any) -> Floats:
    """Return zeros that begin where a cache line does; a register across two lines costs double."""
    size = np.dtype(kind).itemsize
    raw = np.zeros(count * size + _LINE_BYTES, np.uint8)
    begin = -raw.ctypes.data % _LINE_BYTES
    return raw[begin : begin + count * size].view(kind)


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


@dataclass(frozen=True, eq=False)
class Rows:
    """Data made ready for networks of one form: rows as they are, and in chunks where one epoch is one update.

    Attributes
    ----------
    count : int
        Rows.
    loose : (n * columns,)
        Inputs, targets and weight of each row; empty where only chunks are wanted.
    packed : (c * columns * stride,)
        The same in chunks, feature by feature; empty where there are mini-batches.
    chunk, stride : int
        Rows of a chunk, and numbers from a feature's rows to the next one's.
    """

    count: int
    loose: Floats
    packed: Floats
    chunk: int
    stride: int


def rows_of(
    network: Network,
    X: Array,
    Y: Array,
    weights: Array | None,
    *,
    batch: int | None,
    like: Rows | None = None,
) -> Rows:
    """Return data (n, inputs), (n, targets) and (n,) made ready for a network.

    Parameters
    ----------
    batch : int or None
        Rows of a mini-batch; None where all rows make one update.
    like : Rows, optional
        The data that are trained on, for those that only judge: their chunks have its form.
    """
    kind = np.dtype(f"float{network.real}")
    n = len(X)
    whole = np.ones((n, network.inputs + network.targets + 1), kind)
    whole[:, : network.inputs] = X
    whole[:, network.inputs : -1] = Y.reshape(n, -1)
    if weights is not None:
        whole[:, -1] = weights
    chunk = _chunk(network, n if batch is None else min(batch, n)) if like is None else like.chunk
    stride = _stride(chunk, kind.itemsize)
    if batch is not None and batch < n:
        return Rows(n, whole.ravel(), _aligned(0, kind), chunk, stride)
    return Rows(n, np.zeros(0, kind), _in_chunks(whole, chunk, stride), chunk, stride)


def _chunk(network: Network, rows: int) -> int:
    """Return how many rows go through a network at once: about as many as stay in the second-level cache."""
    wide = lanes(network.real)
    numbers = network.inputs + 2 + 2 * sum(layer.outputs for layer in network.layers)
    most = _CACHE // (numbers * network.real // 8)
    most = max(_LEAST * wide, min(most, _MOST_ROWS) // wide * wide)
    pieces = -(-rows // most)
    return _up(-(-rows // pieces), wide)


def _stride(chunk: int, size: int) -> int:
    """Return an odd number of cache lines, lest all features fall into the same sets of the cache."""
    line = _LINE_BYTES // size
    lines = -(-chunk // line)
    return (lines + 1 - lines % 2) * line


def _in_chunks(whole: Floats, chunk: int, stride: int) -> Floats:
    n, columns = whole.shape
    count = -(-n // chunk)
    out = _aligned(count * columns * stride, whole.dtype).reshape(count, columns, stride)
    for c in range(count):
        part = whole[c * chunk : (c + 1) * chunk]
        out[c, :, : len(part)] = part.T
    return out.ravel()


@dataclass(frozen=True)
class Settings:
    """How a network is trained.

    Attributes
    ----------
    batch : int or None
        Rows of a mini-batch; None for all.
    clip : float
        The largest norm of a gradient; 0 for any.
    patience : int
        Epochs without progress after which to stop; 0 for never.
    min_delta : float
        Progress is a loss that is lower by more than this.
    delta : float
        Of Huber's loss.
    """

    batch: int | None = None
    clip: float = 0.0
    patience: int = 0
    min_delta: float = 0.0
    delta: float = 1.0


class NetworkTraining:
    """One training under way: everything that changes from epoch to epoch.

    Parameters
    ----------
    network : Network
        What is trained.
    step : Step
        The optimizer's.
    rows, checked : Rows, and Rows or None
        The data, and the data that only judge.
    start : (size,)
        The vector of parameters.
    settings : Settings
        How.
    threads : int
        That share the chunks of an update.
    """

    def __init__(
        self,
        network: Network,
        step: Step,
        rows: Rows,
        *,
        start: Floats,
        settings: Settings,
        checked: Rows | None = None,
        threads: int = 1,
    ) -> None:
        self.network, self.rows, self._checked = network, rows, checked
        self._kind = np.dtype(f"float{network.real}")
        self._code = _code(network.real)
        self._held = (rows, checked, step)
        self._parts: list[tuple[Array, Array, Array]] = []
        self._padded = _up(max(network.trained, 1), lanes(network.real))
        batch = rows.count if settings.batch is None else min(settings.batch, rows.count)
        self.threads = max(1, min(threads, GROUPS, -(-batch // rows.chunk)))
        self._mini = batch < rows.count
        self._arrays = self._made(step, start)
        self._arrays["reals"][:] = (settings.delta, settings.clip, np.inf, np.inf, settings.min_delta)
        self._functions = _functions(network, step)
        self._plan = self._planned(batch, settings.patience)

    # ------------------------------------------------------------------ arrays

    def _made(self, step: Step, start: Floats) -> dict[str, Any]:
        kind, network, n = self._kind, self.network, self.network
        self._span = _up(self._behind + n.size - n.trained, _LINE_BYTES) + max(x.outputs for x in n.layers)
        self._span = _up(self._span, _LINE_BYTES)
        vectors = sum(step.vector)
        arrays: dict[str, Any] = {
            "parameters": _aligned(self._span, kind), "gradient": _aligned(GROUPS * self._span, kind),
            "own": _aligned(max(vectors, 1) * self._span, kind), "scalars": _aligned(len(step.vector) + 1, np.float64),
            **{name: _aligned(self._span, kind) for name in ("best", "before", "noted")},
            "lost": _aligned(GROUPS * LINE, np.float64), "sync": _aligned(2 * LINE, np.int64),
            "marks": _aligned(len(MARKS), np.int64), "reals": _aligned(len(REALS), np.float64),
        }  # fmt: skip
        self._put(arrays["parameters"], start)
        self._put(arrays["best"], start)
        width = 2 * sum(layer.outputs for layer in network.layers)
        columns = network.inputs + network.targets + 1
        self._room = _up(max(width, columns) * self.rows.stride, _LINE_BYTES)
        arrays["work"] = _aligned(self.threads * self._room, kind)
        arrays["taken"] = _aligned(self.threads * self._room, kind)
        arrays["table"], arrays["settings"] = self._table()
        return arrays

    @property
    def _behind(self) -> int:
        """Where the parameters that are not trained begin: no step may touch them."""
        return self._padded

    def _put(self, vector: Floats, values: Floats) -> None:
        trained = self.network.trained
        vector[:trained] = values[:trained]
        vector[self._behind : self._behind + len(values) - trained] = values[trained:]

    def _got(self, vector: Floats) -> Floats:
        n = self.network
        return np.concatenate([vector[: n.trained], vector[self._behind : self._behind + n.size - n.trained]])

    def _moved(self, place: int) -> int:
        trained = self.network.trained
        return place if place < trained else place - trained + self._behind

    def _table(self) -> tuple[Any, Any]:
        layers, trained = self.network.layers, self.network.trained
        table = np.zeros((len(layers), len(FIELDS)), np.int64)
        below = False  # whether anything further down is trained
        row = 0
        nothing = self._span - max(layer.outputs for layer in layers)
        for line, layer in zip(table, layers, strict=True):
            bias = nothing if layer.bias is None else self._moved(layer.bias)
            learns, shifts = layer.weight < trained, layer.bias is not None and layer.bias < trained
            address = _activation(layer, self.network.real)
            line[:] = (
                layer.inputs, layer.outputs, self._moved(layer.weight), bias, address, row, row + layer.outputs,
                learns, shifts, below,
            )  # fmt: skip
            row += 2 * layer.outputs
            below = below or learns or shifts
        return table.ravel(), np.array([layer.settings for layer in layers], np.float64).ravel()

    def _planned(self, batch: int, patience: int) -> dict[str, int]:
        network, rows, checked = self.network, self.rows, self._checked
        plan = {name: int(array.ctypes.data) for name, array in self._arrays.items()}
        plan |= {"rows": rows.loose.ctypes.data, "packed": rows.packed.ctypes.data}
        plan |= {"checked": checked.packed.ctypes.data if checked else 0, "rest": _rest()}
        plan |= {"lose": self._functions.lose, "step": self._functions.step}
        plan |= {
            "layers": len(network.layers), "inputs": network.inputs, "targets": network.targets,
            "terms": 1 if network.loss == "cross-entropy" else network.outputs, "count": rows.count, "batch": batch,
            "chunk": rows.chunk, "stride": rows.stride, "span": self._span, "padded": self._padded,
            "room": self._room, "checked_count": checked.count if checked else 0,
            "checked_chunk": checked.chunk if checked else 1, "patience": patience,
        }  # fmt: skip
        return plan

    # ------------------------------------------------------------------ running

    def run(self, rates: Array, order: NDArray[np.int64] | None = None, *, threads: int = 0) -> None:
        """Go through as many epochs as there are learning rates, or fewer if something stops them.

        Parameters
        ----------
        rates : (e,)
            The learning rate of each epoch.
        order : (e * n,), optional
            The rows of each epoch in the order of its mini-batches.
        threads : int
            How many of this training's threads share the work now; 0 for all. The numbers are the same.
        """
        threads = min(threads, self.threads) or self.threads
        rates = np.ascontiguousarray(rates, np.float64)
        order = np.zeros(1, np.int64) if order is None else np.ascontiguousarray(order, np.int64)
        losses, checks = np.zeros(len(rates)), np.zeros(len(rates))
        arrays = {"rates": rates, "order": order, "losses": losses, "checks": checks}
        plan = self._plan | {name: array.ctypes.data for name, array in arrays.items()}
        plan |= {"epochs": len(rates), "done": self.done, "threads": threads}
        told = np.array([plan[name] for name in PLAN], np.int64)
        self._parts.append(
            (losses, checks, rates)
        )  # before, so that an interrupted call has told what it did
        if threads == 1:
            _ = self._code.run(told.ctypes.data, 0)
            return
        with ThreadPoolExecutor(threads) as pool:
            for job in [pool.submit(self._code.run, told.ctypes.data, t) for t in range(threads)]:
                _ = job.result()

    @property
    def done(self) -> int:
        """How many epochs were done."""
        return self._mark("epochs")

    @property
    def history(self) -> tuple[Array, Array, Array]:
        """The losses of training and of validation, and the learning rates, of each epoch that was done."""
        nothing = np.zeros(0)
        columns = [np.concatenate([nothing, *part])[: self.done] for part in zip(*self._parts, strict=True)]
        train, checks, rates = columns or [nothing] * 3
        return train, checks if self._checked is not None else np.full(len(train), np.nan), rates

    @property
    def last(self) -> tuple[float, float, float]:
        """The losses of training and of validation, and the learning rate, of the last epoch."""
        part = self._parts[-1]
        at = self.done - sum(len(rates) for _, _, rates in self._parts[:-1]) - 1
        loss, check, rate = (float(column[at]) for column in part)
        return loss, check if self._checked is not None else np.nan, rate

    @property
    def parameters(self) -> Floats:
        """A copy of the vector of parameters as it is now (size,)."""
        return self._got(self._arrays["parameters"])

    @property
    def best(self) -> tuple[int, float, Floats]:
        """After how many epochs the loss was lowest, of validation if there is one, the loss, and a copy of the parameters."""
        best = self._got(self._arrays["best"])
        return self._mark("best"), float(self._arrays["reals"][REALS.index("best")]), best

    @property
    def noted(self) -> tuple[Floats, Floats]:
        """Copies of the parameters (size,) and of the gradient (trained,) at the first update of the last epoch, not clipped."""
        return self._got(self._arrays["before"]), self._arrays["noted"][: self.network.trained].copy()

    @property
    def stopped(self) -> Literal["", "patience", "diverged"]:
        """Why it stopped: "patience", "diverged", or "" where it did not."""
        reasons: tuple[Literal["", "patience", "diverged"], ...] = ("", "patience", "diverged")
        return reasons[self._mark("stop")]

    def _mark(self, name: str) -> int:
        return int(self._arrays["marks"][MARKS.index(name)])


# ---------------------------------------------------------------------------- machine code


@dataclass(frozen=True, eq=False)
class _Loaded:
    """Machine code in memory: it must be held as long as its function is called."""

    library: Library
    run: Callable[..., int]


@lru_cache(maxsize=2)
def _code(real: int) -> _Loaded:
    """Return the code that trains networks of any sizes."""
    shape = Shape.of(real, lanes(real))
    made = library(f"network {shape!r}", lambda module: write_epochs(module, shape))
    return _Loaded(made, made.function(NAME, [ctypes.c_void_p, ctypes.c_int64]))


@dataclass(frozen=True, eq=False)
class _Functions:
    """Where the code of loss and step begins, and what must be held as long as it is called."""

    held: Sequence[Library]
    lose: int
    step: int


def _functions(network: Network, step: Step) -> _Functions:
    lose = network_loss.loss_code(network.loss, network.real)
    stepped = network_step.step_code(step, network.real)
    held = [network_activation.activation_code(layer.activation, network.real) for layer in network.layers]
    return _Functions(
        [lose, stepped, *held], _address(lose, network_loss.NAME), _address(stepped, network_step.NAME)
    )


def _activation(layer: Layer, real: int) -> int:
    return _address(network_activation.activation_code(layer.activation, real), network_activation.NAME)


def _address(made: Library, name: str) -> int:
    return int(made.engine.get_function_address(name))


@lru_cache(maxsize=1)
def _rest() -> int:
    """Return the address of the C library's sched_yield, 0 where there is none."""
    function = getattr(ctypes.CDLL(None), "sched_yield", None)
    return 0 if function is None else ctypes.cast(function, ctypes.c_void_p).value or 0
