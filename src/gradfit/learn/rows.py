"""What a network is fitted to: the columns of a table, arrays with more axes than one, a folder of images."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import DataError
from gradfit.notation import count, listing
from gradfit.table import Table, read

Values = NDArray[Any]

IMAGE, CLASS = "image", "class"  # the columns of a folder of images
IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp")
_NONE = "\0none"  # the column of a table that has none: no name in a formula begins so


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of data.

    Attributes
    ----------
    table : Table
        The columns with one value a row, and the numbers of the rows.
    arrays : mapping of str to (n, ...) arrays
        The columns with more: images, vectors.
    """

    table: Table
    arrays: Mapping[str, Values] = field(default_factory=dict[str, Values])

    @property
    def n(self) -> int:
        """Number of rows."""
        return self.table.n

    @property
    def source(self) -> str:
        """Where they come from."""
        return self.table.source

    @property
    def names(self) -> tuple[str, ...]:
        """All columns."""
        return tuple([name for name in self.table.names if name != _NONE]) + tuple(self.arrays)

    def require(self, names: Sequence[str]) -> None:
        """Return when every name is a column.

        Raises
        ------
        DataError
            If one is not; the remedy names the nearest.
        """
        self.table.require(names, known=self.arrays)

    def numeric(self, names: Sequence[str], *, missing: str) -> "Rows":
        """Return the rows with finite numbers in those columns; rows without are refused or dropped.

        Raises
        ------
        DataError
            If there is no such column, it is text, or a number is missing and `missing` is "error".
        """
        self.require(names)
        lacking = [name for name in names if name in self.arrays and _holes(self.arrays[name]).any()]
        whole = self
        for name in lacking:
            holes = _holes(whole.arrays[name])
            if missing != "drop" or holes.all():
                raise DataError(
                    f"{name} has no finite number in {count(int(holes.sum()), 'row')} of {count(self.n, 'row')}",
                    remedy='Mend them, or leave those rows out: missing="drop"',
                )
            note = f"{count(int(holes.sum()), 'row')} dropped for want of a finite number in {name}"
            whole = whole.keep(~holes, note)
        table = whole.table.numeric([name for name in names if name not in self.arrays], missing=missing)
        mask = np.isin(whole.table.rows, table.rows)
        return Rows(table, {name: values[mask] for name, values in whole.arrays.items()})

    def keep(self, mask: NDArray[np.bool_], note: str = "") -> "Rows":
        """Return the rows where the mask (n,) is true."""
        arrays = {name: values[mask] for name, values in self.arrays.items()}
        return Rows(self.table.keep(mask, note), arrays)

    def column(self, name: str) -> Values:
        """Return the values of a column (n, ...)."""
        return self.arrays[name] if name in self.arrays else self.table.columns[name]

    def coded(self, name: str, levels: tuple[str, ...] = ()) -> "Rows":
        """Return the rows with codes in a column of text, see `Table.coded`."""
        return replace(self, table=self.table.coded(name, levels=levels))


def _holes(values: Values) -> NDArray[np.bool_]:
    return np.asarray(~np.isfinite(values.reshape(len(values), -1)).all(axis=1))


def rows_of(data: object, *, origins: Mapping[str, str] | None = None) -> Rows:
    """Return rows from whatever `gradfit.read` takes, a mapping of arrays and tensors, or a folder of images.

    Raises
    ------
    DataError
        If there are no data or no rows, lengths differ, or a folder holds no classes of images.
    """
    if data is None:
        raise DataError(
            "fit() needs data", remedy='Give a file or columns: fit(module, {"x": x, "y": y}, target="y")'
        )
    if isinstance(data, Rows):
        return data
    if isinstance(data, str | PathLike) and Path(fspath(data)).is_dir():
        return _images(Path(fspath(data)))
    if isinstance(data, Mapping) and _several_axes(data):
        return _of_arrays(data)
    table = read(data, origins=origins)
    if table.n == 0:
        raise DataError(f"{table.source} has no rows")
    return Rows(table)


# ---------------------------------------------------------------------------- arrays


def _several_axes(data: Mapping[Any, Any]) -> bool:
    """Whether a column has more axes than rows, so that columns are no grid of readings."""
    shapes = {tuple(shape) for values in data.values() if len(shape := np.shape(_array(values))) > 1}
    alike = len({np.shape(_array(values)) for values in data.values()}) == 1
    return bool(shapes) and not (alike and len(data) > 1)


def _array(values: object) -> Values:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().numpy() if values.dtype is not torch.bfloat16 else values.float().numpy()
    return np.asarray(values)


def _of_arrays(data: Mapping[Any, Any]) -> Rows:
    arrays = {str(name): _array(values) for name, values in data.items()}
    lengths = {name: len(values) for name, values in arrays.items() if values.ndim}
    if len(set(lengths.values())) != 1:
        seen = listing([f"{name} has {count(n, 'row')}" for name, n in lengths.items()])
        raise DataError(
            f"The arrays differ in their first axis: {seen}", remedy="Give every array one entry for each row"
        )
    n = next(iter(lengths.values()))
    if n == 0:
        raise DataError("The arrays have no rows", remedy="A fit needs one row at least")
    flat = {name: values for name, values in arrays.items() if values.ndim <= 1}
    table = read(flat or {_NONE: np.arange(n, dtype=np.float64)})
    deep = {name: _numbers(name, values) for name, values in arrays.items() if values.ndim > 1}
    return Rows(table, deep)


def _numbers(name: str, values: Values) -> Values:
    """Return an array of numbers: floats as they are, whole numbers as int64, what fits in a byte as float32.

    Raises
    ------
    DataError
        If it holds anything else.
    """
    if values.dtype.kind == "f":
        return values if values.dtype.itemsize in (4, 8) else values.astype(np.float32)
    if values.dtype == np.uint8 or values.dtype.kind == "b":
        return values.astype(np.float32)
    if values.dtype.kind in "iu":
        return values.astype(np.int64)
    raise DataError(
        f"{name} is an array of shape {values.shape} that holds {values.dtype}, which are no numbers",
        remedy="Give numbers",
    )


# ---------------------------------------------------------------------------- images


def _images(folder: Path) -> Rows:
    """Return the images (n, channels, height, width), 0 to 1, of a folder with a folder for each class.

    Raises
    ------
    DataError
        If there is no class, or images differ in size.
    """
    inside = {path.name: _files(path) for path in sorted(folder.iterdir()) if path.is_dir()}
    named = [(name, file) for name, files in inside.items() for file in files]
    if not named:
        raise DataError(
            f"{folder} holds no folders with images ({listing(IMAGES, 'or', 20)})",
            remedy="Put the images of each class into a folder of its name",
        )
    pictures = [_image(file) for _, file in named]
    for (_, file), picture in zip(named, pictures, strict=True):
        if picture.shape != pictures[0].shape:
            raise DataError(
                f"{file} is an image of shape {picture.shape}, and {named[0][1]} one of {pictures[0].shape}",
                remedy="Bring all images to one size and the same channels",
            )
    classes = np.array([name for name, _ in named], dtype=object)
    table = replace(read({CLASS: classes}), source=str(folder))
    return Rows(table, {IMAGE: np.stack(pictures)})


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGES)


def _image(file: Path) -> Values:
    """Return an image as (channels, height, width), float32 from 0 to 1.

    Raises
    ------
    DataError
        If it cannot be read.
    """
    try:
        pixels = np.asarray(importlib.import_module("matplotlib.image").imread(file))
    except (OSError, ValueError, SyntaxError) as refused:
        raise DataError(f"{file} cannot be read as an image: {str(refused)[:200]}") from refused
    plain = pixels if pixels.dtype.kind == "f" else pixels / np.iinfo(pixels.dtype).max
    plain = plain[None] if plain.ndim == 2 else np.moveaxis(plain, -1, 0)
    return np.ascontiguousarray(plain, dtype=np.float32)
