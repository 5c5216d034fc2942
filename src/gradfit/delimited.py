"""Delimited text as columns: encoding, delimiter, decimal mark, comments and header are found out, not asked."""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, NoReturn

import numpy as np

from gradfit._lazy import polars
from gradfit.cells import DATE, MISSING, NUMBER, TIME, WORD, Cells, understood
from gradfit.errors import DataError
from gradfit.notation import count, listing

if TYPE_CHECKING:
    from polars import Series

MAGIC = {
    b"PK\x03\x04": "a zip archive, as Excel writes",
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\x93NUMPY": "a NumPy array",
    b"\x89HDF": "HDF5",
    b"\xd0\xcf\x11\xe0": "an old Excel file",
    b"%PDF": "a PDF",
    b"\x89PNG": "a picture",
}

_DELIMITERS = "\t;,| "  # the blank stands for any run of blanks; of two that fit alike the first is taken
_ALONE = "\x1f"  # for a single column: ASCII's unit separator, which text does not hold
_HEAD, _SAMPLE, _MEASURED = 65_536, 60, 3000  # bytes, lines and cells that the layout is found out from
_SKIPPED = re.compile(rb"(?m)^[ \t]*(?:[#%][^\n]*)?\n")
_SIGNS = (b"#", b"%", b"\n", b" ", b"\t")  # a line that begins with one may be no row of data
_SIMPLE = re.compile(r"-?[0-9]{1,15}(?:\.[0-9]{1,25})?(?:[eE][+-]?[0-9]{1,2})?")
_DOT, _COMMA = re.compile(NUMBER["."]), re.compile(NUMBER[","])
_OTHER = re.compile(f"(?:{WORD})|(?:{DATE})|(?:{TIME})")


@dataclass(frozen=True, slots=True)
class Layout:
    """How a text file is laid out."""

    delimiter: str
    decimal: str
    headers: tuple[str, ...]
    start: int  # lines above the first row of data
    notes: tuple[str, ...]


def columns(data: bytes, source: str) -> tuple[list[tuple[str, Cells]], tuple[str, ...]]:
    """Return the columns of delimited text with their headers, and notes on what is unusual.

    Raises
    ------
    DataError
        If the text is empty, binary or ragged.
    """
    data, notes = _utf8(data, source)
    layout = _layout(_first_lines(data), source)
    body = data[_line_end(data, layout.start) :]
    notes += layout.notes
    if body[:1] in _SIGNS or any(sign in body and b"\n" + sign in body for sign in _SIGNS):
        comments = len(re.findall(rb"(?m)^[ \t]*[#%]", body))
        were = "was" if comments == 1 else "were"
        notes += (f"{count(comments, 'comment line')} between the rows {were} skipped",) if comments else ()
        body = _SKIPPED.sub(b"", body if body.endswith(b"\n") else body + b"\n")
    if not body or body.isspace():
        remedy = "Put rows of numbers below the header; lines that begin with # or % are comments."
        raise DataError(f"{source} has a header ({listing(layout.headers)}) but no rows.", remedy=remedy)
    if layout.delimiter == " " and b'"' not in body:
        body = _single_blanks(body)
    if (plain := _plain(body, layout)) is not None:
        return plain, notes
    texts = _fast(body, layout) or _slow(data, layout, source)
    found: list[tuple[str, Cells]] = []
    for place, (header, text) in enumerate(zip(layout.headers, texts, strict=True)):
        if header or not (text.fill_null("") == "").all():
            found.append((header or f"c{place}", understood(text, layout.decimal)))
    return found, notes


def _utf8(data: bytes, source: str) -> tuple[bytes, tuple[str, ...]]:
    """Return text in any usual encoding as UTF-8 with Unix line ends, and a note where the encoding was a guess.

    Raises
    ------
    DataError
        If the bytes are no text.
    """
    notes: tuple[str, ...] = ()
    kind = next((kind for magic, kind in MAGIC.items() if data.startswith(magic)), "")
    even, odd = data[:_HEAD:2].count(0), data[1:_HEAD:2].count(0)
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or max(even, odd) > 0.3 * len(data[:_HEAD:2]):
        unmarked = "utf-16-le" if odd > even else "utf-16-be"
        coding = "utf-16" if data[:2] in {b"\xff\xfe", b"\xfe\xff"} else unmarked
        data = data.decode(coding, "replace").encode("utf-8", "replace")
    data = data.removeprefix(b"\xef\xbb\xbf").rstrip(b"\x1a")
    if not data.isascii():
        try:
            data.decode("utf-8")
        except UnicodeDecodeError:
            data = data.decode("cp1252", "replace").encode()
            notes = ("it is not UTF-8 and was read as Windows-1252 (Latin-1)",)
    head = data[:_HEAD]
    control = len(head) - len(head.translate(None, bytes([*range(9), *range(14, 27), *range(28, 32)])))
    if kind or b"\0" in data or control > 0.01 * len(head):
        seen = f"{source} holds {kind}, not text" if kind else f"{source} holds binary data, not text"
        raise DataError(f"{seen}.", remedy="Give the file the ending of its format, or export it as CSV.")
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return data, notes


def _first_lines(data: bytes) -> list[str]:
    """Return the comments at the head of the text and some 64 kB below them; twenty lines where lines are long."""
    first = re.search(rb"(?m)^[ \t]*[^\s#%]", data)
    least = _HEAD + (first.start() if first else 0)
    end = data.rfind(b"\n", 0, least) + 1
    if data.count(b"\n", least - _HEAD, end) < 20:
        end = _line_end(data, 20 + data.count(b"\n", 0, least - _HEAD))
    return (data if len(data) <= least else data[:end]).decode().split("\n")


def _line_end(data: bytes, lines: int) -> int:
    """Return where the line after so many lines begins."""
    end = 0
    for _ in range(lines):
        end = data.find(b"\n", end) + 1
        if end == 0:
            return len(data)
    return end


def _fields(line: str, delimiter: str) -> list[str]:
    """Return the cells of one line."""
    line = " ".join(line.split()) if delimiter == " " else line
    rows = csv.reader([line], delimiter=delimiter, skipinitialspace=True)
    return [cell.strip() for row in rows for cell in row]


def _is_number(cell: str) -> bool:
    return bool(_DOT.match(cell) or _COMMA.match(cell) or _OTHER.match(cell)) or cell.lower() in MISSING


def _layout(lines: list[str], source: str) -> Layout:
    """Return the layout that the first lines of a file show.

    Raises
    ------
    DataError
        If there is no line but comments and blanks.
    """
    used = [(i, line) for i, line in enumerate(lines) if line.strip() and line.lstrip()[0] not in "#%"]
    used = used[:_SAMPLE]
    if not used:
        seen = "holds only comments" if any(map(str.strip, lines)) else "is empty"
        raise DataError(f"{source} {seen}.", remedy="Put a header and rows of numbers into it.")
    try:
        delimiter, table = _split([line for _, line in used])
        above = [_fields(line.lstrip()[1:], delimiter) for line in lines[: used[0][0]] if line.strip()]
    except csv.Error as refused:
        _unclosed(source, refused)
    width = Counter(map(len, table)).most_common(1)[0][0]
    decimal = _decimal([cell for row in table for cell in row][:_MEASURED], delimiter)
    notes: tuple[str, ...] = ()
    if decimal == ",":
        between = {"\t": "tabs between columns and ", " ": "blanks between columns and ", _ALONE: ""}
        notes = (
            f"{between.get(delimiter, f'{delimiter} between columns and ')}the decimal comma {'was' if delimiter == _ALONE else 'were'} found",
        )
    if has_header(table):
        headers = table[0]
        if len(headers) == width - 1 and not any(row[-1] for row in table[1:] if len(row) == width):
            headers = [*headers, ""]  # each row ends with a delimiter, the header does not
        return Layout(delimiter, decimal, tuple(headers), used[0][0] + 1, notes)
    # numpy.savetxt writes "# x y"
    if above and len(above[-1]) == width and not all(map(_is_number, above[-1])):
        notes += ("the names of the columns were taken from the comment above them",)
        headers = tuple(header or "#" * (i == 0) for i, header in enumerate(above[-1]))
        return Layout(delimiter, decimal, headers, used[0][0], notes)
    notes += (no_header(width),)
    return Layout(delimiter, decimal, tuple(f"c{i}" for i in range(width)), used[0][0], notes)


def no_header(width: int) -> str:
    """Return the note for columns without names."""
    names = "c0" if width == 1 else f"c0 {'and' if width == 2 else 'to'} c{width - 1}"
    return f"there is no header, the columns are called {names}"


def _split(lines: Sequence[str]) -> tuple[str, list[list[str]]]:
    """Return the delimiter with which most lines have the same number of cells and most cells are numbers."""
    best, chosen, table = 0.0, _ALONE, [[line.strip()] for line in lines]
    if not re.search(r"[\t;,|]", lines[0]):
        best = 1 + _share(table)
    for delimiter in _DELIMITERS:
        rows = [_fields(line, delimiter) for line in lines]
        width, times = Counter(map(len, rows)).most_common(1)[0]
        score = times / len(rows) + _share(rows)
        if width > 1 and score > best + 1e-9:
            best, chosen, table = score, delimiter, rows
    return chosen, table


def _share(table: list[list[str]]) -> float:
    """Return the share of numbers among the cells below the first line."""
    cells = [cell for row in (table[1:] or table) for cell in row if cell][:_MEASURED]
    return sum(map(_is_number, cells)) / max(len(cells), 1)


def _decimal(cells: list[str], delimiter: str) -> str:
    """Return the decimal mark: "1,5" shows a comma, "1.5" a point; "1,234" alone, not between commas, is 1.234."""
    comma = sum("," in cell and bool(_COMMA.match(cell)) and not _DOT.match(cell) for cell in cells)
    dot = sum("." in cell and bool(_DOT.match(cell)) and not _COMMA.match(cell) for cell in cells)
    either = delimiter != "," and any("," in cell and _COMMA.match(cell) for cell in cells)
    return "," if comma > dot or (either and not dot) else "."


def has_header(table: Sequence[Sequence[str]]) -> bool:
    """Return whether the first row names the columns.

    It does not when it holds only numbers, or a number above numbers; but three or more rising numbers beside text are
    the wavelengths of a spectrum.
    """
    first = table[0]
    if all(not cell or _is_number(cell) for cell in first):
        return False
    places = [j for j, cell in enumerate(first) if _DOT.match(cell)]
    values = [float(cell) for cell in first if re.fullmatch(r"[0-9]+\.?[0-9]*", cell)]
    if len(values) >= 3 and len(values) == len(first) - 1 and all(a < b for a, b in pairwise(values)):
        return True
    below = [row for row in table[1:] if len(row) == len(first)]
    return not any(below and all(not row[j] or _is_number(row[j]) for row in below) for j in places)


def _single_blanks(body: bytes) -> bytes:
    """Return lines whose cells are parted by one blank."""
    if body[:1] != b" " and not any(blanks in body for blanks in (b"  ", b"\t", b"\n ", b" \n")):
        return body.removesuffix(b" ")
    return b"\n".join(b" ".join(line.split()) for line in body.split(b"\n"))


def _plain(body: bytes, layout: Layout) -> list[tuple[str, Cells]] | None:
    """Return the columns of a small file in which every cell is a number as programs write it, None for all others.

    Polars reads the same numbers, and takes 0.2 s to import.
    """
    if len(body) > _HEAD or layout.decimal != "." or not body.isascii():
        return None
    rows = [line.split(layout.delimiter) for line in body.decode().removesuffix("\n").split("\n")]
    width = len(layout.headers)
    if not all(len(row) == width and all(map(_SIMPLE.fullmatch, row)) for row in rows):
        return None
    names = (header or f"c{place}" for place, header in enumerate(layout.headers))
    columns = np.array([[float(cell) for cell in row] for row in rows]).T.copy()
    return [(name, Cells(values)) for name, values in zip(names, columns, strict=True)]


def _fast(body: bytes, layout: Layout) -> "list[Series] | None":
    """Return the columns as text through Polars, None where lines may differ in their number of cells."""
    try:
        frame = polars.read_csv(body, separator=layout.delimiter, has_header=False, infer_schema=False)
        if frame.width != len(layout.headers):
            return None
        if not frame[:, -1].null_count() or frame.width == 1:
            return frame.get_columns()
        if b'"' in body:
            return None
        # Polars fills short lines with nulls, so count the delimiters
        lines = polars.read_csv(
            body, separator=_ALONE, has_header=False, infer_schema=False, quote_char=None
        )[:, 0]
        even = (lines.str.count_matches(layout.delimiter, literal=True) == frame.width - 1).all()
    except polars.exceptions.PolarsError:
        return None  # a quote inside a cell, or a line with too many of them: told or read line by line
    return frame.get_columns() if even else None


def _slow(data: bytes, layout: Layout, source: str) -> "list[Series]":
    """Return the columns as text, line by line.

    Raises
    ------
    DataError
        If a line has more or fewer cells than there are columns; names the line.
    """
    width, rows = len(layout.headers), list[list[str]]()
    try:
        for number, row in _rows(data, layout):
            if len(row) == width + 1 and not row[-1]:
                row = row[:-1]
            if len(row) != width:
                seen = f"Line {number} of {source} has {count(len(row), 'cell')}, the lines above it {width}"
                raise DataError(f"{seen}.", remedy="Put every row on one line, with a cell for each column.")
            rows.append(row)
    except csv.Error as refused:
        _unclosed(source, refused)
    return [polars.Series(list(column), dtype=polars.String) for column in zip(*rows, strict=True)]


def _unclosed(source: str, refused: csv.Error) -> NoReturn:
    """Refuse text that Python's csv does not take.

    Raises
    ------
    DataError
        With what csv had to say.
    """
    raise DataError(
        f"{source} cannot be read as a table: {refused}.", remedy="Look for an unclosed quote."
    ) from None


def _rows(data: bytes, layout: Layout) -> Iterator[tuple[int, list[str]]]:
    """Return the cells of each row with the number of the line where it ends, from 1."""
    at = 0

    def lines() -> Iterator[str]:
        nonlocal at
        for at, line in enumerate(io.BytesIO(data), 1):
            text = line.decode()
            if at > layout.start and text.strip() and text.lstrip()[0] not in "#%":
                yield " ".join(text.split()) if layout.delimiter == " " else text

    for row in csv.reader(lines(), delimiter=layout.delimiter, skipinitialspace=True):
        yield at, row
