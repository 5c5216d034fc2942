"""Training as one compiled loop: the arrays that it reads and writes, and what it leaves behind."""

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.native.compiled import Library, lanes, library
from gradfit.native.epochs import ARRAYS, NAME, NUMBERS, Plan, places, write_training
from gradfit.native.penalty import Terms

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
    box : tuple of (f,)
        Start of the free parameters, and the lowest and the highest that each may have.
    template : (k,)
        All parameters; the fixed ones stay as they are here.
    square : float
        The squared scale of a robust loss.
    kept : (m,) int
        Which epochs the history keeps, by the number of epochs before each.
    held : Held, optional
        The rows that are held out, for a plan that watches them.
    penalty : Terms, optional
        The numbers of the plan's penalty.
    """

    def __init__(
        self,
        plan: Plan,
        columns: Sequence[Array],
        y: Array,
        weight: Array | None,
        *,
        box: tuple[Array, Array, Array],
        template: Array,
        square: float,
        kept: NDArray[np.int64],
        held: "Held | None" = None,
        penalty: Terms | None = None,
    ) -> None:
        code = _loaded(plan)
        self._run, self._at = code.run, code.places
        self._free, self._width = len(plan.free), plan.width
        self.rows = len(y)
        self._data = _padded([*columns, y, *([] if weight is None else [weight])])
        self._state = np.zeros(self._at["size"])
        self._kept = np.append(kept.astype(np.float64), np.inf)
        self._trail = np.empty((len(kept), plan.trail_width))
        self._filled = 0
        self.done = 0
        for name, values in (
            ("parameters", box[0]),
            ("lower", box[1]),
            ("upper", box[2]),
            ("fixed", template),
            *({} if penalty is None else penalty.numbers(plan.width)).items(),
        ):
            self._state[self._at[name] : self._at[name] + len(values)] = values
        self._state[self._at["square"]] = square
        self._state[self._at["best"] + 1] = np.inf
        self._held = _padded([np.zeros(0)] if held is None else held.parts)
        self._held_rows = 0 if held is None else len(held.y)
        self._state[self._at["watch"] : self._at["watch"] + 8] = (
            np.nan,
            np.nan,
            np.inf,
            -1.0,
            np.inf,
            0.0,
            np.inf,
            0.0,
        )
        if held is not None:
            wait = np.inf if held.patience is None else float(held.patience)
            self._state[self._at["watch"] + 6 : self._at["watch"] + 8] = wait, held.least
            self._state[self._at["chosen"] : self._at["chosen"] + self._free] = box[0]

    def run(self, rates: Array, order: NDArray[np.int64] | None = None, size: int = 0) -> bool:
        """Go through as many epochs as there are learning rates; return whether the loss stayed finite.

        Fewer are done where the loss did not, and where patience has run out.

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
        arrays = (self._data, self._state, np.ascontiguousarray(rates), kept, trail, order, self._held)
        strides = self._data.shape[1], self._held.shape[1]
        epochs = len(rates)
        did = self._run(
            *(a.ctypes.data for a in arrays), self.rows, strides[0], size, epochs, self.done, self._held_rows, strides[1]
        )  # fmt: skip
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

    @property
    def watched(self) -> "Watch":
        """What is known of the held-out loss."""
        at = self._at["watch"]
        now, before, best, best_step, mark, mark_step = self._state[at : at + 6].tolist()
        return Watch(
            now, before, best, int(best_step), mark, int(mark_step), self._vector(self._at["chosen"])
        )

    def arrays(self) -> dict[str, Array]:
        """Return copies of all that changes from epoch to epoch, for `restore`."""
        return {"state": self._state.copy(), "trail": self.trail.copy()}

    def restore(self, arrays: Mapping[str, Array], done: int) -> None:
        """Go on after so many epochs from what `arrays` returned."""
        trail = arrays["trail"]
        kept = self._kept[self._kept >= done]
        self.done, self._filled, self._state = done, len(trail), np.array(arrays["state"])
        self._kept = np.concatenate([trail[:, 0], kept])
        self._trail = np.vstack([trail, np.empty((len(kept) - 1, self._trail.shape[1]))])

    def _vector(self, place: int) -> Array:
        return self._state[place : place + self._free].copy()

    def _epoch(self, name: str) -> Epoch:
        at = self._at[name]
        gradient, before = self._vector(at + 2), self._vector(at + 2 + self._width)
        return int(self._state[at]), float(self._state[at + 1]), gradient, before


@dataclass(frozen=True, eq=False)
class Held:
    """Rows that are looked at before each epoch: inputs, observed values and weights, as those that are trained on.

    Attributes
    ----------
    patience : int or None
        How many epochs without progress end the training.
    least : float
        Progress is a loss lower than the lowest by more than this.
    """

    columns: Sequence[Array]
    y: Array
    weight: Array | None
    patience: int | None
    least: float

    @property
    def parts(self) -> list[Array]:
        """The columns in the order of the code."""
        return [*self.columns, self.y, *([] if self.weight is None else [self.weight])]


@dataclass(frozen=True, eq=False)
class Watch:
    """The held-out loss at the parameters and before the last epoch; its lowest and its mark, with the epochs before each."""

    now: float
    before: float
    best: float
    best_step: int
    mark: float
    mark_step: int
    chosen: Array  # (f,) the parameters where it was lowest


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
