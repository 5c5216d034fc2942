"""Fits that lie side by side in arrays: a row, an image, or the course of a pixel in time each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError, FormulaError, OptionError
from gradfit.formula import CONSTANTS, Expression, parse_expression
from gradfit.many.rows import BLOCK, Array, Block, Mask, Raw, cleaned, even_places
from gradfit.model import BoundModel
from gradfit.notation import count
from gradfit.table import Table, read

SAMPLE = 2_000  # points looked at to learn what is what


@dataclass(frozen=True, eq=False)
class Stack:
    """Arrays in which some axes run over the points of a fit and the others over the fits.

    Attributes
    ----------
    arrays : mapping of str to array
        As they were given: one value a point, one a fit, or one for each point of each fit. Memory maps are read block by
        block.
    response : str
        The array that holds the observations.
    inner : tuple of int
        Its axes over the points of one fit; the first ones, or the last ones.
    spread : str or array, optional
        Standard deviations or weights: a name, an expression or numbers.
    absolute : bool
        Whether they are standard deviations.
    where : str, optional
        Which points to use.
    """

    arrays: Mapping[str, NDArray[Any]]
    response: str
    inner: tuple[int, ...]
    spread: object = None
    absolute: bool = False
    where: str | None = None

    @property
    def about(self) -> str:
        """What it is, for sentences."""
        return f"the array {self.response}"

    @property
    def keys(self) -> Mapping[str, Array]:
        """Nothing: these fits have numbers, not names."""
        return {}

    @property
    def shape(self) -> tuple[int, ...]:
        """How the fits are laid out."""
        y = self.arrays[self.response]
        return tuple(size for axis, size in enumerate(y.shape) if axis not in self.inner)

    @property
    def grid(self) -> tuple[int, ...]:
        """How the points of a fit are laid out."""
        y = self.arrays[self.response]
        return tuple(y.shape[axis] for axis in self.inner)

    @property
    def count(self) -> int:
        """Number of fits."""
        return prod(self.shape)

    @property
    def points(self) -> int:
        """Number of points of each."""
        return prod(self.grid)

    @property
    def total(self) -> int:
        """Points of all fits."""
        return self.count * self.points

    @property
    def scattered(self) -> bool:
        """False: what is no matrix already is copied block by block."""
        return False

    @cached_property
    def kinds(self) -> Mapping[str, str]:
        """Return for each array whether it has a value a "point", a "fit", or for each point of each fit ("both").

        Raises
        ------
        DataError
            If its shape is none of these.
        """
        both = self.arrays[self.response].shape
        out: dict[str, str] = {}
        for name, array in self.arrays.items():
            if array.shape in (both, (self.count, self.points)):
                out[name] = "both"
            elif array.shape in (self.grid, (self.points,), ()):
                out[name] = "point"
            elif array.shape in (self.shape, (self.count,), (self.count, 1)):
                out[name] = "fit"
            else:
                raise DataError(
                    f"{name} has shape {array.shape}, where {self.response} holds {count(self.count, 'fit')} of "
                    f"{count(self.points, 'point')}: {both}",
                    remedy=f"Give it shape ({self.points},), one value for each point, ({self.count},), one for each fit, "
                    "or the shape of both",
                )
        return out

    @property
    def sample(self) -> Table:
        """Some of the points of some of the fits."""
        fits = even_places(self.count, 8)
        pick = even_places(len(fits) * self.points, SAMPLE)
        numbers = [n for n in self.arrays if self.arrays[n].dtype.kind in "fiub"]
        columns = {
            n: np.broadcast_to(self.part(n, fits), (len(fits), self.points)).reshape(-1)[pick]
            for n in numbers
        }
        return read(columns)

    def part(self, name: str, fits: slice | NDArray[np.int64]) -> Array:
        """Return an array for some of the fits: (n,), or (m, n) in float64."""
        array, kind = self.arrays[name], self.kinds[name]
        if kind == "point":
            return np.broadcast_to(np.asarray(array, dtype=np.float64).reshape(-1), (self.points,))
        if kind == "fit":
            own = np.asarray(array.reshape(-1)[fits], dtype=np.float64)
            return np.repeat(own[:, None], self.points, axis=1)
        if array.shape == (self.count, self.points) or self.inner[-1] == array.ndim - 1:
            return np.ascontiguousarray(array.reshape(self.count, self.points)[fits], dtype=np.float64)
        return np.ascontiguousarray(array.reshape(self.points, self.count)[:, fits].T, dtype=np.float64)

    def of_fits(self, name: str) -> Array | None:
        """Return one value a fit (m,) of an array, None where there is no such array."""
        if self.kinds.get(name) != "fit":
            return None
        return np.asarray(self.arrays[name], dtype=np.float64).reshape(-1)

    def blocks(self, model: BoundModel, *, drop: bool) -> Iterator[Block]:
        """Return all fits in blocks.

        Raises
        ------
        DataError
            If a value is missing and `drop` is false.
        """
        size = max(1, BLOCK // self.points)
        for first in range(0, self.count, size):
            fits = np.arange(first, min(first + size, self.count))
            raw = self.raw(model, slice(first, first + size), len(fits))
            yield cleaned(fits, raw, absolute=self.absolute, drop=drop, about=self.about)

    def raw(self, model: BoundModel, fits: slice, m: int) -> Raw:
        """Return the numbers of some of the fits."""
        columns = [self.part(name, fits) for name in model.inputs] or [np.zeros(self.points)]
        y = self.part(model.response, fits) if model.left is None else self.value(model.left, fits)
        y = np.broadcast_to(y, (m, self.points))
        spread = None if self.spread is None else self._spread(fits)
        beyond = None if self.where is None else ~self._chosen(fits, m)
        return Raw(columns, y, spread, beyond)

    def value(self, expression: Expression, fits: slice) -> Array:
        """Return an expression of the arrays for some of the fits.

        Raises
        ------
        DataError
            If a name in it is no array.
        """
        names = [name for name in expression.names if name not in CONSTANTS or name in self.arrays]
        for name in names:
            if name not in self.arrays:
                raise DataError(f"There is no array {name}", remedy=f"There are {', '.join(self.arrays)}")
        with np.errstate(all="ignore"):
            return np.asarray(expression.evaluate({name: self.part(name, fits) for name in names}))

    def _spread(self, fits: slice) -> Array:
        if isinstance(self.spread, str):
            return np.asarray(
                self.part(self.spread, fits)
                if self.spread in self.arrays
                else self.value(parse_expression(self.spread), fits),
                dtype=np.float64,
            )
        name = "\0spread"
        held = Stack(
            {**self.arrays, name: np.asarray(self.spread, dtype=np.float64)}, self.response, self.inner
        )
        return held.part(name, fits)

    def _chosen(self, fits: slice, m: int) -> Mask:
        mask = self.value(parse_expression(self.where or ""), fits)
        if mask.dtype != bool:
            raise FormulaError(f"where={self.where!r} is not a condition", remedy="Compare, as in dose > 0")
        return np.broadcast_to(mask.astype(np.bool_), (m, self.points))

    def one(self, fit: int, model: BoundModel) -> Block:
        """Return one fit alone."""
        raw = self.raw(model, slice(fit, fit + 1), 1)
        return cleaned(np.array([fit]), raw, absolute=self.absolute, drop=True, about=self.about)

    def table(self, fit: int, model: BoundModel) -> tuple[Table, Array | None]:
        """Return the points of one fit that were used, and their sigma or weights."""
        weight = self.one(fit, model).batch.weight
        used = (
            np.full(self.points, fill_value=True)
            if weight is None
            else np.broadcast_to(weight != 0, (1, self.points))[0]
        )
        observed = (
            [model.response] if model.left is None else [n for n in model.left.names if n in self.arrays]
        )
        fits = slice(fit, fit + 1)
        columns = {n: self._row(self.part(n, fits)) for n in dict.fromkeys([*model.inputs, *observed])}
        spread = None if self.spread is None else self._row(self._spread(fits))[used]
        return read(columns).keep(used), spread

    def _row(self, part: Array) -> Array:
        return np.broadcast_to(part, (1, self.points))[0]


def stacked(
    data: object,
    *,
    response: str | None,
    axis: int | Sequence[int] | None,
    spread: object,
    absolute: bool,
    where: str | None,
) -> Stack:
    """Return arrays as a stack of fits.

    Parameters
    ----------
    data : mapping of str to array, or array
        Names of .npy files stand for memory maps of them. Images get columns x and y, their pixels' places, unless these
        names are taken.
    axis : int or tuple of int, optional
        Axes of the response over the points of one fit; the last one, of three the last two.

    Raises
    ------
    DataError
        If no array holds several fits.
    OptionError
        If the axes are not the first or the last ones.
    """
    arrays = {str(k): _array(v) for k, v in _named(data, response).items()}
    response = _response(arrays, response)
    y = arrays[response]
    if y.ndim < 2:
        raise DataError(
            f"{response} has shape {y.shape}, which is one fit",
            remedy='Name the group columns with by="..." for a table, or give it shape (n_fits, n_points)',
        )
    if y.size == 0:
        raise DataError(f"{response} has shape {y.shape}: there is nothing to fit")
    inner = _inner(y.ndim, axis)
    if len(inner) == 2:
        height, width = (y.shape[i] for i in inner)
        places = {"x": np.tile(np.arange(width), height), "y": np.repeat(np.arange(height), width)}
        arrays = {**{name: place for name, place in places.items() if name not in arrays}, **arrays}
    stack = Stack(arrays, response, inner, spread, absolute, where)
    _ = stack.kinds
    return stack


def _named(data: object, response: str | None) -> Mapping[object, object]:
    if isinstance(data, Mapping):
        return data
    if isinstance(data, str | Path) or hasattr(data, "__array__"):
        return {response or "y": data}
    raise DataError(
        f"Many fits are a table with by=, or arrays by name, and {type(data).__name__} is neither",
        remedy='Give fit_many(model, {"x": x, "y": Y}) with Y of shape (n_fits, n_points)',
    )


def _array(value: object) -> NDArray[Any]:
    if isinstance(value, str | Path):
        if not str(value).endswith(".npy"):
            raise DataError(
                f"{value} is no .npy file", remedy="An array of a stack is given as numbers or as .npy"
            )
        try:
            value = np.load(value, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise DataError(f"{value} cannot be opened as an array: {error}") from error
    if isinstance(value, np.ma.MaskedArray):
        value = np.where(np.ma.getmaskarray(value), np.nan, np.ma.getdata(value))
    array = value if isinstance(value, np.ndarray) else np.asarray(value)
    if array.dtype.kind not in "fiub":
        raise DataError(
            f"An array of type {array.dtype} holds no real numbers", remedy="Give float or integer arrays"
        )
    return array


def _response(arrays: Mapping[str, NDArray[Any]], response: str | None) -> str:
    if response is not None and response in arrays:
        return response
    many = [name for name, array in arrays.items() if array.ndim >= 2]
    if response is None and len(many) == 1:
        return many[0]
    raise DataError(
        f"There is no array {response}" if response else "It is not clear which array was observed",
        remedy=f'There are {", ".join(arrays)}; name one with response="..."',
    )


def _inner(ndim: int, axis: int | Sequence[int] | None) -> tuple[int, ...]:
    if axis is None:
        return (ndim - 1,) if ndim == 2 else (ndim - 2, ndim - 1)
    given = [axis] if isinstance(axis, int) else list(axis)
    inner = tuple(sorted({a % ndim for a in given if -ndim <= a < ndim}))
    ends = (tuple(range(len(inner))), tuple(range(ndim - len(inner), ndim)))
    if not 0 < len(inner) == len(given) < ndim or inner not in ends:
        raise OptionError(
            f"axis={axis!r} does not fit an array of {ndim} axes",
            remedy="It names the axes that run over the points of one fit: the first ones or the last ones. axis=0 "
            "follows each pixel of a film through time",
        )
    return inner
