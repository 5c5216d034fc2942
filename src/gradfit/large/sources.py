"""Where the rows of a large fit come from: arrays and memory maps, or files that are read piece by piece."""

import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError
from gradfit.large.files import Scanned, Text, Unchanged, numbered
from gradfit.solve.passes import PIECE
from gradfit.table import Table, read

Array = NDArray[Any]

_TEXT = (".csv", ".tsv", ".txt", ".dat", ".tab", ".asc", ".xy", "")
_GZIP, _WIDE = b"\x1f\x8b", (b"\xff\xfe", b"\xfe\xff")


class Source(Protocol):
    """A table that is handed out in pieces."""

    @property
    def name(self) -> str:
        """What it is, for sentences."""
        ...

    @property
    def sizes(self) -> tuple[int, int]:
        """Rows, or a guess of them, and bytes."""
        ...

    def head(self) -> Table:
        """Return the first rows with all columns."""
        ...

    def tables(self, names: Sequence[str], origins: Mapping[str, str]) -> Iterator[Table]:
        """Return all rows of some columns, piece after piece, with their numbers in the source.

        Raises
        ------
        DataError
            If the source changes meanwhile, is gone, or cannot be read.
        """
        ...


def source_of(data: object) -> Source:
    """Return the source that some data are.

    A file is read in pieces where it is text, Parquet, Arrow or .npy, and so is a folder of Parquet; other data are read at
    once.

    Raises
    ------
    DataError
        If there is no such file, or it cannot be read.
    """
    if isinstance(data, str | os.PathLike) and str(data) != "-":
        return _file(Path(data))
    if isinstance(data, Mapping):
        arrays = {str(name): column for name, column in data.items()}
        if all(_plain(column) for column in arrays.values()) and len({c.shape for c in arrays.values()}) == 1:
            return Arrays(arrays, "arrays")
    table = read(data)
    return Arrays(dict(table.columns), table.source, table)


def _plain(column: object) -> bool:
    return (
        isinstance(column, np.ndarray)
        and column.ndim == 1
        and column.dtype.kind in "fiub"
        and len(column) > 0
    )


def _file(path: Path) -> Source:
    name = path.name.lower()
    ending = Path(name.removesuffix(".gz")).suffix
    if path.is_dir():
        return _folder(path)
    if path.is_file():
        if ending in (".parquet", ".arrow", ".feather", ".ipc"):
            return Scanned((Unchanged.of(path),), str(path))
        if ending == ".npy":
            return _mapped(path)
        with path.open("rb") as opened:
            start = opened.read(4)
        if ending in _TEXT and not start.startswith(_WIDE) and b"\0" not in start:
            return Text(path, Unchanged.of(path), packed=start.startswith(_GZIP))
    table = read(path)
    return Arrays(dict(table.columns), table.source, table)


def _mapped(path: Path) -> Source:
    """Return the columns of a .npy file, which stays on disk.

    Raises
    ------
    DataError
        If it is damaged or holds something else than columns of numbers.
    """
    try:
        held = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError):
        held = None
    if (
        not isinstance(held, np.memmap)
        or held.size == 0
        or not (held.dtype.names or held.dtype.kind in "fiub")
    ):
        table = read(path)  # it says what is wrong, or reads what cannot be mapped
        return Arrays(dict(table.columns), table.source, table)
    if held.dtype.names:
        columns = {name: held[name] for name in held.dtype.names}
    elif held.ndim <= 2:
        flat = held.reshape(len(held), -1)
        columns = {f"c{i}": flat[:, i] for i in range(flat.shape[1])}
    else:
        read(path)  # refuses it
        columns = {}
    return Arrays(columns, str(path), unchanged=Unchanged.of(path))


@dataclass(frozen=True, eq=False)
class Arrays:
    """Columns in memory, or in memory maps.

    Attributes
    ----------
    columns : mapping of str to (n,)
        As they were given.
    name : str
        What they are.
    table : Table, optional
        The table that they are, with units and notes.
    unchanged : Unchanged, optional
        The file behind them.
    """

    columns: Mapping[str, Array]
    name: str
    table: Table | None = None
    unchanged: Unchanged | None = None

    @property
    def rows(self) -> int:
        """How many."""
        return len(next(iter(self.columns.values())))

    @property
    def sizes(self) -> tuple[int, int]:
        """Rows and bytes."""
        return self.rows, sum(column.nbytes for column in self.columns.values())

    def head(self) -> Table:
        """Return the first rows."""
        return self._cut(0, PIECE, list(self.columns), {})

    def tables(self, names: Sequence[str], origins: Mapping[str, str]) -> Iterator[Table]:
        """Return all rows of some columns."""
        for start in range(0, self.rows, PIECE):
            table = self._cut(start, start + PIECE, names, origins)
            self.check()
            yield table
            self.release()

    def check(self) -> None:
        """Return where the file behind the arrays is as it was.

        Raises
        ------
        DataError
            If it is not.
        """
        if self.unchanged is not None:
            self.unchanged.check()

    def release(self) -> None:
        """Let the pages of memory maps go; what was read of them stays in the system's cache."""
        for held in self._maps:
            held.madvise(mmap.MADV_DONTNEED)

    @cached_property
    def _maps(self) -> tuple[mmap.mmap, ...]:
        found = {id(m): m for m in map(_map_of, self.columns.values()) if m is not None}
        return tuple(found.values())

    def _cut(self, start: int, stop: int, names: Sequence[str], origins: Mapping[str, str]) -> Table:
        if self.table is not None:
            own = self.table
            cut = {name: own.columns[name][start:stop] for name in names}
            return replace(own, columns=cut, rows=own.rows[start:stop], shape=None, seen={})
        table = read({name: np.array(self.columns[name][start:stop]) for name in names}, origins=origins)
        return numbered(table, start, self.name)


def _map_of(column: Array) -> mmap.mmap | None:
    """Return the memory map that an array lies in; not one whose pages were written to and are nowhere else."""
    private = isinstance(column, np.memmap) and column.mode == "c"
    held: Any = column
    while isinstance(held, np.ndarray):
        held = held.base
    return held if isinstance(held, mmap.mmap) and not private else None


def _folder(path: Path) -> Scanned:
    """Return the Parquet files in a folder and the folders below, in order of their names.

    Raises
    ------
    DataError
        If there is none.
    """
    files = sorted(file for file in path.rglob("*.parquet") if file.is_file())
    if not files:
        raise DataError(
            f"{path} is a folder without Parquet files", remedy="Name a file, or a folder of .parquet files"
        )
    return Scanned(tuple(Unchanged.of(file) for file in files), str(path))
