"""Files of every usual format, data frames and arrays, as named columns."""

import gzip
import importlib
import io
import json
import os
import re
import struct
import sys
import tokenize
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from gradfit import delimited
from gradfit._lazy import narwhals, polars
from gradfit.cells import SEEN, Array, Cells, cells, understood
from gradfit.errors import DataError
from gradfit.notation import listing

if TYPE_CHECKING:
    from polars import DataFrame, Series

# what NumPy raises for a file that is cut short or changed, from the header, the zip archive or the array
_NUMPY_REFUSES = (
    ValueError, OSError, EOFError, zipfile.BadZipFile, zlib.error, struct.error, tokenize.TokenError, KeyError,
    SyntaxError, TypeError, MemoryError, OverflowError, NotImplementedError, RuntimeError,
)  # fmt: skip


_FRAMES = {"pandas": "pandas data frame", "polars": "Polars data frame", "pyarrow": "PyArrow table"}


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was handed in: columns by name, not yet checked against each other."""

    columns: list[tuple[Any, object]]
    source: str
    notes: tuple[str, ...] = ()


def load(path: str | os.PathLike[str], sheet: str | None = None) -> Loaded:
    """Return the columns of a file; "-" is standard input.

    Raises
    ------
    DataError
        If the file is missing, empty, cut short, of an unknown format, or not what its ending says.
    """
    source = os.fspath(path)
    if source == "-":
        data, source, ending = sys.stdin.buffer.read(), "<stdin>", ""
    else:
        data, ending = _bytes(Path(source), source), _ending(source)
    if data.startswith(b"\x1f\x8b"):
        data = _unzipped(data, source)
    reader = FORMATS.get(ending)
    if reader is None:
        known = listing([known for known in FORMATS if known], most=30)
        raise DataError(
            f'{source} ends in "{ending}", a format that gradfit does not read.',
            remedy=f"Export it as CSV. gradfit reads {known}.",
        )
    if sheet is not None and reader is not _excel:
        raise DataError(f"{source} has no sheets.", remedy="sheet= is for Excel files.")
    if not data or data.isspace():
        raise DataError(f"{source} is empty.", remedy="Put a header and rows of numbers into it.")
    return _excel(data, source, sheet) if reader is _excel else reader(data, source)


def _ending(source: str) -> str:
    """Return the ending that tells the format, "" where there is none as in run.001; .gz does not count."""
    name = Path(source).name.lower().removesuffix(".gz")
    found = re.search(r"\.[a-z]\w*$", name)
    return found[0] if found else ""


def _bytes(path: Path, source: str) -> bytes:
    """Return the bytes of a file.

    Raises
    ------
    DataError
        If there is no such file or it cannot be opened.
    """
    shown = source if len(source) <= 120 else f"...{source[-117:]}"  # the end is what a person knows it by
    shown = repr(shown) if "\n" in shown else shown
    try:
        return path.read_bytes()
    except FileNotFoundError:
        remedy = _nearest(path)
    except IsADirectoryError:
        inside = [entry.name for entry in islice(path.iterdir(), 1000)]
        names = sorted(name for name in inside if _ending(name) and _ending(name) in FORMATS)
        remedy = f"Name a file in it: {listing(names)}." if names else "Name a file."
        raise DataError(f"{shown} is a folder, not a file.", remedy=remedy) from None
    except (OSError, ValueError) as refused:
        why = refused.strerror if isinstance(refused, OSError) and refused.strerror else str(refused)
        raise DataError(f"{shown!r} cannot be opened: {why}.", remedy="Give the name of a file.") from None
    raise DataError(f"There is no file {shown}.", remedy=remedy)


def _nearest(path: Path) -> str:
    """Return what the name of a missing file may have been meant for."""
    folder = path.parent
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    if folder != path.parent:
        return f"There is no folder {path.parent}."
    names = [entry.name for entry in islice(folder.iterdir(), 10_000)] if os.access(folder, os.R_OK) else []
    near = get_close_matches(path.name, names, 1)
    return f"Did you mean {folder / near[0]}?" if near else f"The folder is {folder.resolve()}."


def _unzipped(data: bytes, source: str) -> bytes:
    """Return what a gzip file holds.

    Raises
    ------
    DataError
        If it is cut short or damaged.
    """
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as refused:
        raise DataError(
            f"{source} cannot be unpacked: {refused}.", remedy="Write or copy the file again."
        ) from None


def _unreadable(source: str, kind: str, refused: BaseException) -> NoReturn:
    """Refuse a file that is not what its ending says.

    Raises
    ------
    DataError
        With the first line of what the library that reads the format had to say.
    """
    why = (str(refused).strip().splitlines() or [type(refused).__name__])[0].rstrip(".")
    raise DataError(
        f"{source} cannot be read as {kind}: it is cut short, damaged or of another format ({why[:120]}).",
        remedy="Write or copy the file again, or give it the ending of its true format.",
    ) from None


def _text(data: bytes, source: str) -> Loaded:
    """Return delimited text; on standard input also JSON."""
    if source == "<stdin>" and data.lstrip()[:1] in {b"{", b"["}:
        return _json(data, source)
    columns, notes = delimited.columns(data, source)
    return Loaded([*columns], source, notes)


def _polars(kind: str, *readers: str) -> Callable[[bytes, str], Loaded]:
    """Return a reader of files that Polars reads; the first of its functions that takes the file is used."""

    def read(data: bytes, source: str) -> Loaded:
        refusals: list[BaseException] = []
        for reader in readers:
            try:
                frame = getattr(polars, reader)(data)
            except (
                polars.exceptions.PolarsError,
                polars.exceptions.PanicException,
                OSError,
                ValueError,
            ) as refused:
                refusals.append(refused)
            else:
                return Loaded([(series.name, series) for series in frame.get_columns()], source)
        if isinstance(refusals[0], polars.exceptions.DuplicateError) or "more than one occurrence" in str(
            refusals[0]
        ):
            seen = f"{source} has columns of one name ({refusals[0]})"
            raise DataError(f"{seen}.", remedy="Give every column a name of its own.")
        _unreadable(source, kind, refusals[0])

    return read


def _json(data: bytes, source: str) -> Loaded:
    """Return a list of records, a dict of columns, or a record on each line.

    Raises
    ------
    DataError
        If it is not JSON, or holds no columns; names the line.
    """
    try:
        text = data.decode("utf-8-sig")
        try:
            held: Any = json.loads(text)
        except json.JSONDecodeError:
            held = _json_lines(text, source)
        _check_first_object(text, source)
    except DataError:
        raise
    except (ValueError, RecursionError) as refused:
        _unreadable(source, "JSON", refused)
    if _are_records(held):
        return Loaded([(name, _loosely(values)) for name, values in records(held)], source)
    if issubclass(type(held), dict):  # pandas writes the rows of each column as a dict, too
        columns = [(name, [*v.values()] if issubclass(type(v), dict) else v) for name, v in held.items()]
        return Loaded([(name, _loosely(values)) for name, values in columns], source)
    try:
        array = np.array(held, dtype=np.float64)
    except (ValueError, TypeError, OverflowError):
        array = np.zeros(())
    if array.ndim not in {1, 2} or not array.size:
        raise DataError(
            f"{source} holds no columns.",
            remedy='Write records ([{"x": 1, "y": 2}]) or columns ({"x": [1], "y": [2]}).',
        )
    columns, note = numbered(array)
    return Loaded(columns, source, (note,))


def _json_lines(text: str, source: str) -> list[Any]:
    """Return the values of JSON lines.

    Raises
    ------
    DataError
        If a line is no JSON.
    """
    lines = text.split("\n")
    try:
        return json.loads(
            f"[{','.join(line for line in lines if line.strip())}]"
        )  # one call is three times as fast
    except json.JSONDecodeError as refused:
        number, why = next(_faults(lines), (1, refused))
        seen = f"Line {number} of {source} is not JSON: {why.msg} at character {why.colno}"
        raise DataError(f"{seen}.", remedy="Write one record on each line, or one list of records.") from None


def _faults(lines: list[str]) -> Iterator[tuple[int, json.JSONDecodeError]]:
    """Yield the lines that are no JSON by number, from 1."""
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                json.loads(line)
            except json.JSONDecodeError as refused:
                yield number, refused


def _check_first_object(text: str, source: str) -> None:
    """Return when no name is there twice in the first object: all columns, or the first record.

    Raises
    ------
    DataError
        If one is.
    """

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        (name, times), *_ = [*Counter(name for name, _ in pairs).most_common(1), ("", 0)]
        if times > 1:
            seen = f"{source} has the name {name} {times} times in one object"
            raise DataError(f"{seen}.", remedy="Give every column a name of its own.")
        return dict(pairs)

    if "{" in text:
        json.JSONDecoder(object_pairs_hook=once).raw_decode(text, text.index("{"))


def _loosely(values: Any) -> object:
    """Return a column of JSON: one with text in it is understood as text in a CSV file is."""
    if issubclass(type(values), list) and any(isinstance(v, str) for v in values):
        return understood(polars.Series([None if v is None else str(v) for v in values], dtype=polars.String))
    return values


def take(data: Any) -> Loaded:
    """Return the columns of something in memory: a mapping, records, a data frame, an array or a tensor.

    Raises
    ------
    DataError
        If it is nothing with columns.
    """
    if issubclass(type(data), Mapping):
        return Loaded(list(data.items()), "arrays")
    if _are_records(data):
        return Loaded(records(data), "list of records")
    root = type(data).__module__.partition(".")[0]
    if hasattr(data, "collect"):  # a lazy frame
        data = data.collect()
    if hasattr(data, "columns") or hasattr(data, "schema"):
        return Loaded(_frame(data), _FRAMES.get(root, f"{root} data frame"))
    array: Array = data if issubclass(type(data), np.ndarray) else np.zeros(())
    if root == "torch":
        array = cells("data", data).values
    if array.ndim not in {1, 2}:
        kind = f"array with {array.ndim} axes" if array.ndim else type(data).__name__
        remedy = 'Pass a file name, columns by name ({"x": x, "y": y}), a data frame or a 2-d array.'
        raise DataError(f"Data of type {kind} cannot be read as a table.", remedy=remedy)
    if array.dtype.names:
        return Loaded([(name, array[name]) for name in array.dtype.names], "NumPy structured array")
    columns, note = numbered(array)
    return Loaded(columns, "torch tensor" if root == "torch" else "NumPy array", (note,))


def _frame(data: Any) -> list[tuple[Any, object]]:
    """Return the columns of a data frame by name; of pandas also the index, where it has a name."""
    index: Any = getattr(data, "index", None)
    pairs = [
        (name, index.get_level_values(name))
        for name in getattr(index, "names", ())
        if name is not None and name not in data.columns
    ]
    names = list(data.schema.names if type(data).__module__.startswith("pyarrow") else data.columns)
    if len(set(names)) < len(names):
        return [(name, ()) for name in names]  # narwhals takes no such frame; who reads the names refuses it
    frame = narwhals.from_native(data, eager_only=True, pass_through=True)
    if not isinstance(frame, narwhals.DataFrame):
        frame = narwhals.from_native(polars.DataFrame(data), eager_only=True)  # whatever else speaks Arrow
    return pairs + [(name, frame.get_column(name)) for name in frame.columns]


def _are_records(held: Any) -> bool:
    return (
        issubclass(type(held), list)
        and bool(held)
        and all(issubclass(type(record), Mapping) for record in held)
    )


def records(held: Sequence[Mapping[Any, Any]]) -> list[tuple[Any, object]]:
    """Return records as columns; a record without a name has None there."""
    names = dict.fromkeys(name for record in held for name in record)
    return [(name, [record.get(name) for record in held]) for name in names]


def numbered(array: Array) -> tuple[list[tuple[Any, object]], str]:
    """Return the columns of a (n,) or (n, k) array as c0, c1 …, and the note that says so."""
    array = array.reshape(len(array), -1) if array.size else array.reshape(0, 1)
    return [(f"c{i}", array[:, i]) for i in range(array.shape[1])], delimited.no_header(array.shape[1])


def _numpy(data: bytes, source: str) -> Loaded:
    """Return the columns of .npy (structured, or one or two axes) or .npz (columns by name).

    Raises
    ------
    DataError
        If the file is damaged, holds Python objects, or an array with more axes.
    """
    try:
        held = np.load(io.BytesIO(data), allow_pickle=False)
        if not isinstance(held, np.ndarray):
            return Loaded([(name, np.asarray(held[name])) for name in held.files], source)
    except _NUMPY_REFUSES as refused:
        if "pickle" not in str(refused):
            _unreadable(source, "NumPy's .npy or .npz", refused)
        if not data.startswith((b"\x93NUMPY", b"PK")):
            _unreadable(source, "NumPy's .npy or .npz", ValueError("it begins otherwise"))
        seen = f"{source} holds Python objects, which are not read because they can run code"
        raise DataError(f"{seen}.", remedy="Save numbers: array.astype(float).") from None
    if held.dtype.names:
        return Loaded([(name, held[name]) for name in held.dtype.names], source)
    if held.ndim not in {1, 2}:
        seen = f"{source} holds an array of shape {held.shape}"
        raise DataError(
            f"{seen}, where columns need one or two axes.", remedy="Save columns by name with numpy.savez."
        )
    columns, note = numbered(held)
    return Loaded(columns, source, (note,))


def _excel(data: bytes, source: str, sheet: str | None = None) -> Loaded:
    """Return the columns of one sheet.

    Raises
    ------
    DataError
        If the file is damaged, or has no such sheet or no rows in it.
    """
    fastexcel: Any = importlib.import_module("fastexcel")  # 30 ms that only Excel files have to pay
    panic = polars.exceptions.PanicException
    refuses = (fastexcel.FastExcelError, polars.exceptions.PolarsError, panic, ValueError)
    try:
        book = fastexcel.read_excel(data)
        sheets: list[str] = book.sheet_names
    except refuses as refused:
        _unreadable(source, "Excel", refused)
    if not sheets:
        _unreadable(source, "Excel", ValueError("it has no sheets"))
    name = sheet or sheets[0]
    if name not in sheets:
        near = get_close_matches(name, sheets, 1)
        remedy = f"Sheets: {listing(sheets)}." + (f" Did you mean {near[0]}?" if near else "")
        raise DataError(f"There is no sheet {name} in {source}.", remedy=remedy)
    try:  # as text 1e-12 is "0", as numbers text is nothing: both are needed
        texts = book.load_sheet(name, header_row=None, dtypes="string").to_polars()
        numbers = book.load_sheet(name, header_row=None, dtypes="float").to_polars()
    except refuses as refused:
        _unreadable(source, "Excel", refused)
    first = "" if sheet else f", the first of {len(sheets)}"
    return _sheet(texts, numbers, source, (f"the sheet {name} was read{first}",) if len(sheets) > 1 else ())


def _sheet(texts: "DataFrame", numbers: "DataFrame", source: str, notes: tuple[str, ...]) -> Loaded:
    """Return the columns of a sheet that was read as text and as numbers; rows that are all empty are left away.

    Raises
    ------
    DataError
        If no rows are left.
    """
    if texts.width:
        used = ~texts.select(polars.all_horizontal(polars.all().is_null())).to_series()
        texts, numbers = texts.filter(used), numbers.filter(used)
    head = [[(cell or "").strip() for cell in row] for row in texts.head(60).rows()]
    named = bool(head) and delimited.has_header(head)
    if len(head) <= named:
        seen = f"has a header ({listing(head[0])}) but no rows" if head else "is empty"
        remedy = "Put rows of numbers below the header, or name another sheet."
        raise DataError(f"{source} {seen}.", remedy=remedy)
    headers = head[0] if named else [f"c{i}" for i in range(len(head[0]))]
    notes += () if named else (delimited.no_header(len(headers)),)
    columns: list[tuple[Any, object]] = []
    for i, header in enumerate(headers):
        text, number = texts[int(named) :, i], numbers[int(named) :, i]
        if header or text.count():
            columns.append((header or f"c{i}", _sheet_column(text, number)))
    return Loaded(columns, source, notes)


def _sheet_column(texts: "Series", numbers: "Series") -> Cells:
    """Return a column of a sheet: its numbers, and where a cell is none, its text."""
    if not (numbers.is_null() & texts.is_not_null()).any():
        values = np.array(numbers.to_numpy(), dtype=np.float64)
        return Cells(values, dict.fromkeys(np.flatnonzero(np.isnan(values))[:SEEN].tolist(), ""))
    frame = polars.DataFrame({"t": texts, "n": numbers})
    exact = polars.col("n").cast(polars.String).str.replace(r"\.0$", "")
    return understood(frame.select(polars.when(polars.col("n").is_null()).then("t").otherwise(exact))["t"])


FORMATS: dict[str, Callable[..., Loaded]] = {
    **dict.fromkeys((".csv", ".tsv", ".txt", ".dat", ".tab", ".asc", ".xy", ""), _text),
    ".parquet": _polars("Parquet", "read_parquet"),
    **dict.fromkeys((".arrow", ".feather", ".ipc"), _polars("Arrow", "read_ipc", "read_ipc_stream")),
    **dict.fromkeys((".json", ".jsonl", ".ndjson"), _json),
    **dict.fromkeys((".xlsx", ".xlsm"), _excel),
    **dict.fromkeys((".npy", ".npz"), _numpy),
}
