"""Training as one compiled loop: the arrays that it reads and writes, and what it leaves behind."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.native.compiled import Library, lanes, library
from gradfit.native.epochs import ARRAYS, NAME, NUMBERS, Plan, places, write_training

Array = NDArray[np.float64]
FEW = 4  # lanes: the sum over eight takes longer, and every epoch waits for it
Epoch = tuple[int, float, Array, Array]  # epochs before it, loss, gradient (f,), parameters before it (f,)


class Training:
    """One training under way: its data, and everything that changes from epoch to epoch.

    Parameters
    ----------
    plan : Plan
        What the code was made for.
    columns : sequence of (n,)
        Inputs of the model.
    y : (n,)
        Observed values.
    weight : (n,) or None
        Multiplies the residuals.
    start, lower, upper : (f,)
        Of the free parameters.
    template : (k,)
        All parameters; the fixed ones stay as they are here.
    square : float
        The squared scale of a robust loss.
    kept : (m,) int
        Which epochs the history keeps, by the number of epochs before each.
    """

    def __init__(
        self,
        plan: Plan,
        columns: Sequence[Array],
        y: Array,
        weight: Array | None,
        *,
        start: Array,
        lower: Array,
        upper: Array,
        template: Array,
        square: float,
        kept: NDArray[np.int64],
    ) -> None:
        code = _loaded(plan)
        self._run, self._at = code.run, code.places
        self._free, self._width = len(plan.free), plan.width
        self.rows = len(y)
        self._data = _padded([*columns, y, *([] if weight is None else [weight])])
        self._state = np.zeros(self._at["size"])
        self._kept = np.append(kept.astype(np.float64), np.inf)
        self._trail = np.empty((len(kept), 2 + 2 * self._free))
        self._filled = 0
        self.done = 0
        for name, values in (("parameters", start), ("lower", lower), ("upper", upper), ("fixed", template)):
            self._state[self._at[name] : self._at[name] + len(values)] = values
        self._state[self._at["square"]] = square
        self._state[self._at["best"] + 1] = np.inf

    def run(self, rates: Array, order: NDArray[np.int64] | None = None, size: int = 0) -> bool:
        """Go through as many epochs as there are learning rates; return whether the loss stayed finite.

        Parameters
        ----------
        rates : (e,)
            The learning rate of each.
        order : (e * n,), optional
            The rows of each epoch in the order of its mini-batches.
        size : int
            Rows of a mini-batch.
        """
        order = (
            np.zeros(1, dtype=np.int64) if order is None else np.append(order, np.zeros(lanes(), np.int64))
        )
        kept, trail = self._kept[self._filled :], self._trail[self._filled :]
        arrays = (self._data, self._state, np.ascontiguousarray(rates), kept, trail, order)
        stride = self._data.shape[1]
        epochs = len(rates)
        did = self._run(*(a.ctypes.data for a in arrays), self.rows, stride, size, epochs, self.done)
        self.done += did
        self._filled += int(self._state[self._at["kept"]])
        return bool(np.isfinite(self._state[self._at["last"] + 1]))

    @property
    def parameters(self) -> Array:
        """A copy of the free parameters as they are now."""
        return self._vector(self._at["parameters"])

    @property
    def last(self) -> Epoch:
        """The last epoch that was done."""
        return self._epoch("last")

    @property
    def best(self) -> Epoch | None:
        """The epoch with the lowest loss; None if none was finite."""
        best = self._epoch("best")
        return best if np.isfinite(best[1]) else None

    @property
    def trail(self) -> Array:
        """The epochs of the history so far (m, 2 + 2f): epochs before, loss, gradient and parameters in each row."""
        return self._trail[: self._filled]

    def _vector(self, place: int) -> Array:
        return self._state[place : place + self._free].copy()

    def _epoch(self, name: str) -> Epoch:
        at = self._at[name]
        gradient, before = self._vector(at + 2), self._vector(at + 2 + self._width)
        return int(self._state[at]), float(self._state[at + 1]), gradient, before


def _padded(parts: Sequence[Array]) -> Array:
    """Return columns (c, n + lanes) with room for a whole register behind the last row."""
    n = len(parts[-1])
    out = np.zeros((len(parts), n + lanes()))
    for row, part in zip(out, parts, strict=True):
        row[:n] = part
    return out


@dataclass(frozen=True, eq=False)
class _Loaded:
    """Machine code in memory: it must be held as long as its function is called."""

    library: Library
    run: Callable[..., int]
    places: Mapping[str, int]


_KNOWN: dict[str, _Loaded] = {}


def _loaded(plan: Plan) -> _Loaded:
    if plan.key not in _KNOWN:
        made = library(plan.key, lambda module: write_training(module, plan, lanes=min(lanes(), FEW)))
        kinds = [ctypes.c_void_p] * len(ARRAYS) + [ctypes.c_int64] * len(NUMBERS)
        _KNOWN[plan.key] = _Loaded(made, made.function(NAME, kinds), places(plan))
    return _KNOWN[plan.key]
