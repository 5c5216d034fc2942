"""A table of any size in portions of whole groups: each is small, and stands at the same place whenever it is asked for."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars
from gradfit.errors import DataError
from gradfit.many.rows import Array
from gradfit.prepare import chosen_rows
from gradfit.reading import load
from gradfit.table import Table, read

if TYPE_CHECKING:
    from polars import DataFrame, Expr, LazyFrame

PORTION = 1 << 18  # rows of a portion, or the rows of one group where that has more
MOST_BUCKETS = 1024  # files that rows in any order are dealt to
ROW = "\0row"  # a row's place in the input
_SCANNED = (".parquet", ".arrow", ".feather", ".ipc")
_SEED = 20  # of the hash that deals rows


@dataclass(frozen=True, eq=False)
class Opened:
    """A table that has been opened, and not been read where it is a file that need not be.

    Attributes
    ----------
    frame : LazyFrame
        All rows and columns, under the names that formulas use.
    about : str
        What it is, for sentences.
    files : tuple of Path
        Its files; empty for what is in memory.
    held : bool
        Whether it is in memory.
    """

    frame: "LazyFrame"
    about: str
    files: tuple[Path, ...]
    held: bool

    @property
    def names(self) -> list[str]:
        """The columns."""
        return self.frame.collect_schema().names()

    def collected(self, frame: "LazyFrame") -> "DataFrame":
        """Return what a part of it holds.

        Raises
        ------
        DataError
            If a file is damaged, gone, or not of one kind with the others.
        """
        try:
            return frame.collect()
        except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as refused:
            _unreadable(self.about, refused)

    def require(self, names: Sequence[str]) -> None:
        """Return when all of these are columns.

        Raises
        ------
        DataError
            If one is not.
        """
        Table(dict.fromkeys(self.names, np.zeros(0)), {}, np.zeros(0), self.about).require(names)


def opened(data: object, *, sheet: str | None = None, where: str | None = None) -> Opened:
    """Return a table that is to be read in portions: Parquet and Arrow files, folders of them; others are read whole.

    Parameters
    ----------
    where : str, optional
        Rows to take of what is read whole.

    Raises
    ------
    DataError
        If there is nothing to read.
    """
    if isinstance(data, str | os.PathLike) and str(data) != "-":
        path = Path(data)
        if path.is_dir():
            return _scanned(sorted(p for p in path.rglob("*.parquet") if p.is_file()), str(data))
        if path.suffix.lower() in _SCANNED and path.is_file():
            return _scanned([path], str(data))
    table = read(data, sheet=sheet)
    table = table if where is None else chosen_rows(table, where, None)
    columns = {name: _series(values) for name, values in table.columns.items()}
    files = (Path(data),) if isinstance(data, str | os.PathLike) and str(data) != "-" else ()
    return Opened(polars.DataFrame(columns).lazy(), table.source, files, held=True)


def _series(values: NDArray[np.generic]) -> object:
    if values.dtype == np.float64:
        return polars.Series(values, nan_to_null=True)
    return polars.Series(values.tolist(), dtype=polars.String)


def _scanned(files: list[Path], about: str) -> Opened:
    if not files:
        raise DataError(
            f"{about} is a folder without Parquet files", remedy="Name a file, or a folder of .parquet files"
        )
    parquet = files[0].suffix.lower() == ".parquet"
    try:
        frame = polars.scan_parquet(files, glob=False) if parquet else polars.scan_ipc(files, glob=False)
        headers = frame.collect_schema().names()
        names = read(frame.head(8).collect()).names if headers else ()
    except (polars.exceptions.PolarsError, polars.exceptions.PanicException, OSError) as refused:
        if len(files) == 1:
            load(files[0])  # the sentence that every command says of such a file
        _unreadable(about, refused)
    return Opened(frame.rename(dict(zip(headers, names, strict=True))), about, tuple(files), held=False)


def _unreadable(about: str, refused: BaseException) -> NoReturn:
    why = (str(refused).strip().splitlines() or [type(refused).__name__])[0].rstrip(".")
    raise DataError(
        f"{about} cannot be read: {why[:160]}",
        remedy="Write or copy the file again; files of a folder need the same columns",
    ) from refused


# ---------------------------------------------------------------------------- portions


class Feed(Protocol):
    """Where portions come from."""

    @property
    def rows(self) -> Sequence[int]:
        """Rows of each portion."""
        ...

    def portion(self, number: int) -> "DataFrame":
        """Return the rows of whole groups, group after group in the order in which they first appear."""
        ...


@dataclass(frozen=True, eq=False)
class Runs:
    """A table in which the rows of each group stand together.

    Attributes
    ----------
    opened : Opened
        The table, with the columns that are needed.
    by : tuple of str
        The key columns.
    cuts : tuple of int
        The row at which each portion begins, and the number of all rows.
    """

    opened: Opened
    by: tuple[str, ...]
    cuts: tuple[int, ...]

    @property
    def rows(self) -> Sequence[int]:
        """Rows of each portion."""
        return np.diff(self.cuts).tolist()

    def portion(self, number: int) -> "DataFrame":
        """Return the rows of whole groups."""
        first, last = self.cuts[number], self.cuts[number + 1]
        return self.opened.collected(self.opened.frame.slice(first, last - first)).filter(
            _known(self.opened, self.by)
        )


@dataclass(frozen=True, eq=False)
class Buckets:
    """Rows that stood in any order, dealt to files so that the rows of a group are in one of them.

    Attributes
    ----------
    files : tuple of Path
        A portion each.
    by : tuple of str
        The key columns.
    rows : sequence of int
        Rows of each.
    """

    files: tuple[Path, ...]
    by: tuple[str, ...]
    rows: Sequence[int]

    def portion(self, number: int) -> "DataFrame":
        """Return the rows of whole groups, with their places in the input."""
        return clustered(polars.concat(_pieces(self.files[number])), self.by)


def _known(opened: Opened, by: Sequence[str]) -> "Expr":
    """Return what is true where a row has a key."""
    schema = opened.frame.collect_schema()
    return polars.all_horizontal(
        [
            polars.col(n).is_not_null() & (polars.col(n).is_not_nan() if schema[n].is_float() else True)
            for n in by
        ]
    )


def begins(frame: "DataFrame", by: Sequence[str]) -> NDArray[np.int64]:
    """Return the places (m,) where a group begins in rows that stand group after group."""
    changed = frame.select(
        polars.any_horizontal([polars.col(n).ne_missing(polars.col(n).shift()) for n in by]).arg_true()
    ).to_series()
    places = changed.to_numpy().astype(np.int64)
    return places if not frame.height or (len(places) and places[0] == 0) else np.concatenate([[0], places])


def clustered(frame: "DataFrame", by: Sequence[str]) -> "DataFrame":
    """Return the rows group after group, in the order in which groups first appear."""
    place = "\0place"
    parts = (
        frame.select(by).with_row_index(place).group_by(list(by), maintain_order=True).agg(polars.col(place))
    )
    return frame[parts[place].explode()]


@dataclass(frozen=True, eq=False)
class Survey:
    """What a look at the key columns has shown.

    Attributes
    ----------
    cuts : tuple of int
        Rows at which portions of whole groups begin, and the number of all rows.
    groups : int
        How many groups there are.
    """

    cuts: tuple[int, ...]
    groups: int


def surveyed(opened: Opened, by: Sequence[str]) -> Survey | None:
    """Return where the table can be cut, None where rows of one group stand apart.

    Keys that ascend prove it by themselves; in another order, each group is remembered by a number of 8 bytes.
    """
    total = int(opened.collected(opened.frame.select(polars.len())).item())
    cuts, groups, ascending = [0], 0, True
    for keys, places in _runs(opened, by, total):
        if keys.n_unique() < keys.height:
            return None
        ascending = ascending and keys.equals(keys.sort(list(by)))
        new = places[places >= 0]
        groups += len(new)
        while len(new) and new[-1] >= cuts[-1] + PORTION:
            cuts.append(int(new[np.searchsorted(new, cuts[-1] + PORTION)]))
    if not ascending:
        seen = np.concatenate(
            [keys.hash_rows(_SEED).to_numpy()[places >= 0] for keys, places in _runs(opened, by, total)]
        )
        if len(np.unique(seen)) < len(seen):
            return None
    return Survey((*cuts, total), groups)


def _runs(opened: Opened, by: Sequence[str], total: int) -> Iterator[tuple["DataFrame", NDArray[np.int64]]]:
    """Yield the keys of runs of rows with one key, and where these begin; first, at -1, the last key of the piece before."""
    known, last = _known(opened, by), None
    for first in range(0, total, PORTION):
        piece = opened.collected(opened.frame.select(by).slice(first, PORTION))
        piece = (
            piece.with_row_index(ROW, first).with_columns(polars.col(ROW).cast(polars.Int64)).filter(known)
        )
        if last is not None:
            piece = polars.concat([last, piece])
        if piece.height:
            runs = piece[begins(piece, by)]
            yield runs.select(by), runs[ROW].to_numpy()
            last = (
                piece.tail(1)
                .with_columns(polars.lit(-1, dtype=polars.Int64).alias(ROW))
                .select(piece.columns)
            )


# ---------------------------------------------------------------------------- rows in any order


def dealt(opened: Opened, by: Sequence[str], folder: Path) -> Buckets:
    """Return the rows dealt to files in a folder: a group's rows are in one file, in the order of the input.

    Raises
    ------
    OSError
        If there is no room for them.
    """
    total = int(opened.collected(opened.frame.select(polars.len())).item())
    number = min(-(-total // PORTION), MOST_BUCKETS)
    files = [folder / f"{i:06d}.rows" for i in range(number)]
    sizes = np.zeros(number, dtype=np.int64)
    none = opened.collected(opened.frame.head(0)).with_row_index(ROW)
    for file in files:
        file.unlink(missing_ok=True)
        _append(file, none)
    for first in range(0, total, PORTION):
        piece = (
            opened.collected(opened.frame.slice(first, PORTION))
            .with_row_index(ROW, first)
            .filter(_known(opened, by))
        )
        bucket = (piece.select(by).hash_rows(_SEED) % number).to_numpy().astype(np.int64)
        order = np.argsort(bucket, kind="stable")
        ends = np.searchsorted(bucket[order], np.arange(number + 1))
        sizes += np.diff(ends)
        piece = piece[order]
        for i in np.flatnonzero(np.diff(ends)).tolist():
            _append(files[i], piece[ends[i] : ends[i + 1]])
    return Buckets(tuple(files), tuple(by), sizes.tolist())


def _append(file: Path, frame: "DataFrame") -> None:
    data = frame.rechunk().write_ipc_stream(None, compression="lz4").getvalue()
    with file.open("ab") as stream:
        stream.write(len(data).to_bytes(8, "little"))
        stream.write(data)


def _pieces(file: Path) -> list["DataFrame"]:
    out: list[DataFrame] = []
    with file.open("rb") as stream:
        while size := int.from_bytes(stream.read(8), "little"):
            out.append(polars.read_ipc_stream(stream.read(size)))
    return out


# ---------------------------------------------------------------------------- numbers


def numbers_of(frame: "DataFrame", names: Sequence[str], origins: dict[str, str], about: str) -> Table:
    """Return columns of a portion as a table of float64, NaN where there is no number.

    Parameters
    ----------
    names : sequence of str
        The columns that are used.
    origins : dict of str to str
        From when dates are counted.
    """
    plain: dict[str, Array] = {}
    others = [n for n in names if not (frame.schema[n].is_numeric() or frame.schema[n] == polars.Boolean)]
    for name in names:
        if name not in others:
            plain[name] = np.ascontiguousarray(frame[name].cast(polars.Float64).to_numpy())
    rows = np.arange(1, frame.height + 1)
    if not others:
        return Table(plain, {}, rows, about)
    short = {name: f"c{i}" for i, name in enumerate(others)}  # a header "t [s]" would lose its unit
    table = read(
        frame.select(others).rename(short), origins={short[n]: o for n, o in origins.items() if n in short}
    )
    held = {name: table.columns[short[name]] for name in others}
    return replace(
        table, columns={name: plain.get(name, held.get(name, rows)) for name in names}, source=about
    )


def content(opened: Opened) -> str:
    """Return a number for what a table in memory holds."""
    return hashlib.blake2b(
        opened.frame.collect().hash_rows(_SEED).to_numpy().tobytes(), digest_size=16
    ).hexdigest()
