"""Files that are read piece by piece: Parquet and Arrow by Polars, delimited text some megabytes at a time."""

import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit import delimited
from gradfit._lazy import polars
from gradfit.errors import DataError
from gradfit.solve.passes import PIECE
from gradfit.table import Table, read

Array = NDArray[Any]

_HEAD, _BLOCK = 1 << 16, 4 << 20  # bytes of text that show its layout, and that are read at a time


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


def numbered(table: Table, before: int, name: str) -> Table:
    """Return a table of a piece with its rows numbered in the whole."""
    rows = np.arange(before + 1, before + table.n + 1)
    seen = {
        column: {row + before: text for row, text in texts.items()} for column, texts in table.seen.items()
    }
    return replace(table, rows=rows, source=name, seen=seen)


@dataclass(frozen=True, eq=False)
class Scanned:
    """Parquet files or an Arrow file, of which Polars reads the row groups that are asked for.

    Attributes
    ----------
    files : tuple of Unchanged
        One after the other.
    name : str
        The file, or the folder of them.
    """

    files: tuple[Unchanged, ...]
    name: str

    @cached_property
    def _lengths(self) -> tuple[int, ...]:
        """Rows of each file."""
        return tuple(int(self._read(_scan([f]).select(polars.len()), [f]).item()) for f in self.files)

    @property
    def sizes(self) -> tuple[int, int]:
        """Rows and bytes."""
        return sum(self._lengths), sum(file.seen[1] for file in self.files)

    def head(self) -> Table:
        """Return the first rows."""
        first = next(
            (file for file, rows in zip(self.files, self._lengths, strict=True) if rows), self.files[0]
        )
        return numbered(read(self._read(_scan([first]).head(PIECE), [first])), 0, self.name)

    def tables(self, names: Sequence[str], origins: Mapping[str, str]) -> Iterator[Table]:
        """Return all rows of some columns."""
        headers, done = self._headers, 0
        wanted = [headers[name] for name in names]
        for files, rows in self._batches():
            for start in range(0, rows, PIECE):
                frame = self._read(_scan(files).select(wanted).slice(start, PIECE), files)
                for file in files:
                    file.check()
                yield numbered(read(frame, origins=origins), done + start, self.name)
            done += rows
        for file in self.files:
            file.check()

    def _batches(self) -> Iterator[tuple[list[Unchanged], int]]:
        """Return files, so many small ones together that they make a piece, with their rows."""
        files, rows = list[Unchanged](), 0
        for file, more in zip(self.files, self._lengths, strict=True):
            if files and rows + more > PIECE:
                yield files, rows
                files, rows = [], 0
            files, rows = [*files, file], rows + more
        yield files, rows

    @cached_property
    def _headers(self) -> Mapping[str, str]:
        """The columns' names in the file, by those of the table, which leave units out."""
        names = _scan(self.files[:1]).collect_schema().names()
        return dict(zip(self.head().names, names, strict=True))

    def _read(self, frame: "polars.LazyFrame", files: Sequence[Unchanged]) -> "polars.DataFrame":
        try:
            return frame.collect()
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as refused:
            for file in files:
                file.check()
            why = (str(refused).strip().splitlines() or [type(refused).__name__])[0]
            which = files[0].path if len(files) == 1 else self.name
            raise DataError(
                f"{which} cannot be read: it is cut short, damaged or of another format ({why[:120]})",
                remedy="Write or copy the file again"
                + ("; files of a folder need the same columns" if len(self.files) > 1 else ""),
            ) from None


def _scan(files: Sequence[Unchanged]) -> "polars.LazyFrame":
    paths = [file.path for file in files]
    parquet = paths[0].suffix.lower() == ".parquet"
    return polars.scan_parquet(paths, glob=False) if parquet else polars.scan_ipc(paths, glob=False)


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
                yield numbered(_only(table, names), done, self.name)
            done += table.n
        self.unchanged.check()

    def _table(self, text: bytes, origins: Mapping[str, str]) -> Table:
        columns, notes = delimited.columns(text, self.name)
        table = read(dict(columns), origins=origins)
        return replace(numbered(table, 0, self.name), notes=(*notes, *table.notes))

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
