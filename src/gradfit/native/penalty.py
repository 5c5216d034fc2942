"""A penalty in the code of a training: its value and gradient at the parameters, which every update adds to those of its rows."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.native.code import Code
from gradfit.native.values import Lanes

Array = NDArray[np.float64]
Load = Callable[[str, int, int], Lanes]  # of a part of the state: from a number on, so many


def power_of_two(number: int) -> int:
    """Return the least power of two that is no less."""
    return 1 << max(number - 1, 0).bit_length()


@dataclass(frozen=True)
class Shape:
    """What the code of a penalty depends on; its numbers are read when it runs.

    Attributes
    ----------
    squares, absolute : int
        Rows of its two parts where they join several parameters; None where each parameter stands for itself.
    """

    squares: int | None = None
    absolute: int | None = None

    def parts(self, width: int, free: int) -> dict[str, int]:
        """Return the arrays of the state that it reads, with their lengths; `width` lanes hold the `free` parameters."""
        if self.squares is None or self.absolute is None:
            return dict.fromkeys(("turn", "centre", "squares", "absolute"), width)
        out: dict[str, int] = {}
        for name, rows in (("squares", self.squares), ("absolute", self.absolute)):
            lanes = power_of_two(rows)
            out |= {
                f"{name} by row": rows * width,
                f"{name} by column": free * lanes,
                f"{name} at centre": lanes,
            }
        return out


@dataclass(frozen=True, eq=False)
class Terms:
    """A penalty in numbers: half |squares (T p - centre)|² + sum of absolute * |T p - centre|.

    Attributes
    ----------
    squares : (m, f)
        Rows of the quadratic part.
    absolute, centre : (f,)
        Weights of the absolute values, and what is drawn to.
    transform : (f, f) or None
        T.
    """

    squares: Array
    absolute: Array
    centre: Array
    transform: Array | None

    @property
    def turn(self) -> Array:
        """T as a matrix (f, f)."""
        return np.eye(len(self.centre)) if self.transform is None else self.transform

    @property
    def shape(self) -> Shape:
        """What code it takes."""
        rows, turn = self.squares != 0, self.turn
        alone = (rows.sum(axis=0) <= 1).all() and (rows.sum(axis=1) <= 1).all()
        if alone and not (turn - np.diag(turn.diagonal())).any():
            return Shape()
        return Shape(len(self.squares), int(np.count_nonzero(self.absolute)))

    def numbers(self, width: int) -> Mapping[str, Array]:
        """Return the arrays of the state, for `width` lanes of parameters."""
        turn, shape, used = self.turn, self.shape, np.flatnonzero(self.absolute)
        if shape.squares is None:
            weights = np.sqrt((self.squares**2).sum(axis=0))  # one in each column at most
            own = {
                "turn": turn.diagonal(),
                "centre": self.centre,
                "squares": weights,
                "absolute": self.absolute,
            }
            return {name: _padded(values, width) for name, values in own.items()}
        out: dict[str, Array] = {}
        weighted = self.absolute[used, None]
        for name, rows, centre in (
            ("squares", self.squares @ turn, self.squares @ self.centre),
            ("absolute", weighted * turn[used], self.absolute[used] * self.centre[used]),
        ):
            lanes = power_of_two(len(rows))
            out |= {
                f"{name} by row": np.concatenate([_padded(row, width) for row in rows] or [np.zeros(0)]),
                f"{name} by column": np.concatenate([_padded(column, lanes) for column in rows.T]),
                f"{name} at centre": _padded(centre, lanes),
            }
        return out


def _padded(values: Array, lanes: int) -> Array:
    out = np.zeros(lanes)
    out[: len(values)] = values
    return out


def value_slope(code: Code, shape: Shape, load: Load, parameters: Lanes, *, free: int) -> tuple[Lanes, Lanes]:
    """Write a penalty's value, and its gradient with a lane for each of the `free` parameters."""
    width = parameters.lanes
    if shape.squares is None or shape.absolute is None:
        turn, centre, weight, absolute = (
            load(name, 0, width) for name in ("turn", "centre", "squares", "absolute")
        )
        away = turn * parameters - centre
        bent = weight * away
        value = 0.5 * code.total(bent * bent) + code.total(absolute * abs(away))
        return value, turn * (weight * bent + absolute * _sign(away))
    value, slope = code.constant(0.0), code.constant(0.0, width)
    for name, rows in (("squares", shape.squares), ("absolute", shape.absolute)):
        if not rows:
            continue
        lanes = power_of_two(rows)
        away = -load(f"{name} at centre", 0, lanes)
        for j in range(free):
            column = load(f"{name} by column", j * lanes, lanes)
            away = away + column * code.spread(code.lane(parameters, j), lanes)
        value = value + (0.5 * code.total(away * away) if name == "squares" else code.total(abs(away)))
        pull = away if name == "squares" else _sign(away)
        for i in range(rows):
            row = load(f"{name} by row", i * width, width)
            slope = slope + row * code.spread(code.lane(pull, i), width)
    return value, slope


def _sign(x: Lanes) -> Lanes:
    """Write 1, -1, or 0 at 0, as torch's slope of an absolute value."""
    return (x > 0.0).pick(1.0, (x < 0.0).pick(-1.0, 0.0))
