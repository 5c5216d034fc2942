"""Where the rows of a large fit come from: arrays and memory maps, or a file that is read piece by piece."""

import gzip
import io
import mmap
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit import delimited
from gradfit._lazy import polars
from gradfit.errors import DataError
from gradfit.large.passes import PIECE
from gradfit.notation import count
from gradfit.table import Table, read

Array = NDArray[Any]

_HEAD, _BLOCK = 1 << 16, 4 << 20  # bytes of text that show its layout, and that are read at a time
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

    A file is read in pieces where it is text, Parquet, Arrow or .npy; other data are read at once.

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
    if path.is_file():
        if ending in (".parquet", ".arrow", ".feather", ".ipc"):
            return Scanned(path, Unchanged.of(path))
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


@dataclass(frozen=True)
class Unchanged:
    """A file as it was when the fit began.

    Attributes
    ----------
    path : Path
        The file.
    seen : tuple
        Which file it is, its size and when it was written.
    """

    path: Path
    seen: tuple[int, int, int]

    @classmethod
    def of(cls, path: Path) -> "Unchanged":
        """Return it as it is now."""
        return cls(path, _seen(path))

    def check(self) -> None:
        """Return where it is the same still.

        Raises
        ------
        DataError
            If it is gone or was written to.
        """
        if _seen(self.path) != self.seen:
            raise DataError(
                f"{self.path} changed while it was read, so its rows do not belong together",
                remedy="Fit again when nothing writes to it any more",
            )


def _seen(path: Path) -> tuple[int, int, int]:
    try:
        stat = path.stat()
    except OSError as error:
        raise DataError(
            f"{path} disappeared while it was read ({error.strerror})", remedy="Put it back, then fit again"
        ) from None
    return stat.st_ino, stat.st_size, stat.st_mtime_ns


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
        return _numbered(table, start, self.name)


def _map_of(column: Array) -> mmap.mmap | None:
    """Return the memory map that an array lies in; not one whose pages were written to and are nowhere else."""
    private = isinstance(column, np.memmap) and column.mode == "c"
    held: Any = column
    while isinstance(held, np.ndarray):
        held = held.base
    return held if isinstance(held, mmap.mmap) and not private else None


def _numbered(table: Table, before: int, name: str) -> Table:
    """Return a table of a piece with its rows numbered in the whole."""
    rows = np.arange(before + 1, before + table.n + 1)
    seen = {
        column: {row + before: text for row, text in texts.items()} for column, texts in table.seen.items()
    }
    return replace(table, rows=rows, source=name, seen=seen)


@dataclass(frozen=True, eq=False)
class Scanned:
    """A Parquet or Arrow file, of which Polars reads the row groups that are asked for."""

    path: Path
    unchanged: Unchanged

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.path)

    @property
    def _frame(self) -> "polars.LazyFrame":
        return (
            polars.scan_parquet(self.path)
            if self.path.suffix.lower() == ".parquet"
            else polars.scan_ipc(self.path)
        )

    @cached_property
    def rows(self) -> int:
        """How many."""
        return int(self._read(self._frame.select(polars.len())).item())

    @property
    def sizes(self) -> tuple[int, int]:
        """Rows and bytes."""
        return self.rows, self.unchanged.seen[1]

    def head(self) -> Table:
        """Return the first rows."""
        return _numbered(read(self._read(self._frame.head(PIECE))), 0, self.name)

    def tables(self, names: Sequence[str], origins: Mapping[str, str]) -> Iterator[Table]:
        """Return all rows of some columns."""
        headers = self._headers
        wanted = [headers[name] for name in names]
        for start in range(0, self.rows, PIECE):
            frame = self._read(self._frame.select(wanted).slice(start, PIECE))
            self.unchanged.check()
            yield _numbered(read(frame, origins=origins), start, self.name)
        self.unchanged.check()

    @cached_property
    def _headers(self) -> Mapping[str, str]:
        """The columns' names in the file, by those of the table, which leave units out."""
        names = self._frame.collect_schema().names()
        return dict(zip(self.head().names, names, strict=True))

    def _read(self, frame: "polars.LazyFrame") -> "polars.DataFrame":
        try:
            return frame.collect()
        except (polars.exceptions.PolarsError, OSError) as refused:
            self.unchanged.check()
            why = (str(refused).strip().splitlines() or [type(refused).__name__])[0]
            raise DataError(
                f"{self.path} cannot be read: it is cut short, damaged or of another format ({why[:120]})",
                remedy="Write or copy the file again",
            ) from None


@dataclass(frozen=True, eq=False)
class Text:
    """Delimited text, parsed some megabytes at a time below the first lines, which show how it is laid out."""

    path: Path
    unchanged: Unchanged
    packed: bool = False
    _known: dict[str, Table] = field(default_factory=dict[str, Table])

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.path)

    @property
    def sizes(self) -> tuple[int, int]:
        """A guess of the rows from the first of them, and bytes."""
        size = self.unchanged.seen[1] * (4 if self.packed else 1)
        first = self._lines()
        return max(self.head().n, int(size / max(len(first), 1) * self.head().n)), size

    def head(self) -> Table:
        """Return the first rows."""
        if "head" not in self._known:
            self._known["head"] = self._table(self._lines(), {})
        return self._known["head"]

    def tables(self, names: Sequence[str], origins: Mapping[str, str]) -> Iterator[Table]:
        """Return all rows of some columns."""
        first, head = self._lines(), self.head()
        plain = _Plain.of(first, head, names)
        yield _only(head, names)
        done = head.n
        for block in self._blocks(len(first)):
            self.unchanged.check()
            columns = None if plain is None else plain.columns(block)
            table = _below(self._table(first + block, origins), head.n) if columns is None else read(columns)
            if table.n:
                yield _numbered(_only(table, names), done, self.name)
            done += table.n
        self.unchanged.check()

    def _table(self, text: bytes, origins: Mapping[str, str]) -> Table:
        columns, notes = delimited.columns(text, self.name)
        table = read(dict(columns), origins=origins)
        return replace(_numbered(table, 0, self.name), notes=(*notes, *table.notes))

    def _lines(self) -> bytes:
        """Return the first lines, whole ones, of which there is one row at least below the header."""
        with self._opened() as opened:
            text = opened.read(_HEAD)
            while text.count(b"\n") < 3 and (more := opened.read(_HEAD)):
                text += more
        end = text.rfind(b"\n") + 1
        return text[:end] if end else text + b"\n"

    def _blocks(self, done: int) -> Iterator[bytes]:
        """Return the text behind its first bytes, cut at ends of lines.

        Raises
        ------
        DataError
            If it ends too soon, as a damaged archive does.
        """
        rest = b""
        with self._opened() as opened:
            opened.seek(done)
            while True:
                try:
                    more = opened.read(_BLOCK)
                except (OSError, EOFError, zlib.error) as refused:
                    raise DataError(
                        f"{self.path} cannot be read to its end: {refused}",
                        remedy="Write or copy the file again",
                    ) from None
                text = rest + more
                end = text.rfind(b"\n") + 1 if more else len(text)
                rest = text[end:]
                if end and not text[:end].isspace():
                    yield text[:end]
                if not more:
                    return

    def _opened(self) -> io.BufferedIOBase:
        self.unchanged.check()
        return gzip.open(self.path, "rb") if self.packed else self.path.open("rb")


@dataclass(frozen=True)
class _Plain:
    """Text whose columns are plain numbers, which Polars reads several times as fast as cells of any kind are understood.

    Attributes
    ----------
    separator : str
        Between cells.
    places : mapping of str to int
        Where the wanted columns stand.
    width : int
        Cells of a row.
    """

    separator: str
    places: Mapping[str, int]
    width: int

    @classmethod
    def of(cls, first: bytes, head: Table, names: Sequence[str]) -> "_Plain | None":
        """Return how the first lines are laid out, None where they are not so plain."""
        places = {name: list(head.columns).index(name) for name in names}
        lines = first.split(b"\n")
        below = b"\n".join(lines[len(lines) - 1 - head.n :])
        for separator in ",;\t":
            plain = cls(separator, places, len(head.columns))
            found = plain.columns(below)
            if found is not None and all(
                np.array_equal(found[n], head.columns[n], equal_nan=True) for n in names
            ):
                return plain
        return None

    def columns(self, text: bytes) -> "dict[str, Array] | None":
        """Return the columns of some rows; None where a cell is no number, or a row may have more or fewer cells."""
        own = {name: str(place) for name, place in self.places.items()}
        last = str(self.width - 1)
        numbers = dict.fromkeys(own.values(), polars.Float64)
        header = self.separator.join(map(str, range(self.width))).encode()
        try:
            frame = polars.read_csv(
                header + b"\n" + text, separator=self.separator, columns=list(dict.fromkeys([*numbers, last])),
                infer_schema=False, schema_overrides=numbers,
            )  # fmt: skip
        except polars.exceptions.PolarsError:
            return None
        if frame[last].null_count():  # Polars fills short rows
            return None
        return {name: np.array(frame[column].fill_null(np.nan).to_numpy()) for name, column in own.items()}


def _only(table: Table, names: Sequence[str]) -> Table:
    missing = [name for name in names if name not in table.columns]
    table.require(missing)
    return replace(table, columns={name: table.columns[name] for name in names})


def _below(table: Table, rows: int) -> Table:
    """Return a table without its first rows, and its numbers beginning with 1."""
    seen = {
        name: {row - rows: text for row, text in texts.items() if row > rows}
        for name, texts in table.seen.items()
    }
    cut = {name: values[rows:] for name, values in table.columns.items()}
    return replace(table, columns=cut, rows=table.rows[: table.n - rows], seen=seen)


def about(source: Source) -> str:
    """Return how large a source is, for sentences."""
    rows, size = source.sizes
    return (
        f"{count(rows, 'row')}, {size / 1e9:.1f} GB"
        if size > 1e9
        else f"{count(rows, 'row')}, {size / 1e6:.0f} MB"
    )
