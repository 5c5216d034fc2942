"""Tables: files, data frames and arrays as columns of float64, the value that every later stage uses."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from math import prod
from typing import Any, NoReturn

import numpy as np

from gradfit import reading
from gradfit._lazy import polars
from gradfit.cells import SEEN, Array, Cells, ambiguous_dates, cells, elapsed, partly, understood
from gradfit.errors import DataError, OptionError
from gradfit.notation import count, listing

_FLOAT = np.dtype(np.float64)
_NONE: Mapping[str, Any] = {}  # of the columns in plain arrays none has a unit, levels, an origin or text
_CLOSING = ("]", ")")  # of a header with a unit
_SHOWN = 5  # rows in an excerpt
_KINDS = {
    "arrays",
    "list of records",
    "PyArrow table",
    "NumPy structured array",
    "NumPy array",
    "torch tensor",
}
_UNIT = re.compile(r"(?P<name>.*\S)(?:\s+\((?P<round>[^()\[\]]+)\)|\s+\[(?P<square>[^\[\]]+)\]|\[(?P<tight>[^\[\]]*[^\[\]\d][^\[\]]*)\])\s*")  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Columns of equal length with their names, and what became of the input on the way here.

    Attributes
    ----------
    columns : Mapping[str, Array]
        (n,) each: float64 for numbers, truth values and dates; objects for text (None where empty).
    units : Mapping[str, str]
        Units from headers such as "t_c [°C]", only where given.
    rows : Array
        (n,) int64, the numbers of the rows in the source, from 1 as a person counts rows of data.
    source : str
        The file, or what kind of thing in memory.
    notes : tuple[str, ...]
        Sentences on what was done that a reader would not expect.
    categories : Mapping[str, tuple[str, ...]]
        Levels of columns that hold codes.
    shape : tuple[int, ...] | None
        The shape that came in when the columns were images or grids.
    origins : Mapping[str, str]
        "days since 2020-01-01" for columns that were dates; `read(new, origins=table.origins)` counts from there again.
    seen : Mapping[str, Mapping[int, str]]
        For each column the text that stood, by row number, where there is no number: "n/a", "" for an empty cell.
    """

    columns: Mapping[str, Array]
    units: Mapping[str, str]
    rows: Array
    source: str
    notes: tuple[str, ...] = ()
    categories: Mapping[str, tuple[str, ...]] = field(default_factory=dict[str, tuple[str, ...]])
    shape: tuple[int, ...] | None = None
    origins: Mapping[str, str] = field(default_factory=dict[str, str])
    seen: Mapping[str, Mapping[int, str]] = field(default_factory=dict[str, Mapping[int, str]])

    @property
    def n(self) -> int:
        """The number of rows."""
        return len(self.rows)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the columns, in the order of the source."""
        return tuple(self.columns)

    def require(self, names: Iterable[str], *, known: Iterable[str] = ()) -> None:
        """Return when every name is a column, or is in `known`.

        Raises
        ------
        DataError
            If a name is neither; the remedy lists the columns and the nearest name.
        """
        known = frozenset(known)
        for name in names:
            if name not in self.columns and name not in known:
                near = [column for column in self.columns if column.lower() == name.lower()]
                near += get_close_matches(name, self.columns, 1)
                meant = f" Did you mean {near[0]}?" if near else ""
                remedy = f"Columns: {listing(self.names, most=20)}.{meant}"
                raise DataError(f"There is no column {name} in {_place(self.source)}.", remedy=remedy)

    def numeric(self, names: Iterable[str], *, missing: str = "error") -> "Table":
        """Return the table with finite float64 in the columns `names`; the other columns stay as they are.

        Text that reads as numbers or dates becomes float64.

        Parameters
        ----------
        names : Iterable[str]
            The columns that are going to be used.
        missing : {"error", "drop"}
            What to do with rows that have no finite number in one of them: refuse, or drop the whole row with a note.

        Raises
        ------
        DataError
            If a column does not exist or is text; if a cell is empty, NaN, infinite or text and `missing` is "error"; if
            no row is left. The excerpt shows the rows.
        OptionError
            If `missing` is another word.
        """
        if missing not in {"error", "drop"}:
            remedy = 'Use missing="error" or missing="drop".'
            raise OptionError(f"missing={missing!r} is not an option.", remedy=remedy)
        table, good, bad = self, None, list[str]()
        for name in names:
            if name not in self.columns:
                self.require((name,))
            if table.columns[name].dtype != _FLOAT:
                table = table._with_numbers(name)
            finite = np.isfinite(table.columns[name])
            if np.count_nonzero(finite) < table.n:  # a third of the cost of all()
                bad.append(name)
                good = finite if good is None else good & finite
        if good is None:
            return table
        if missing == "error" or not good.any():
            _refuse(table, bad, good)
        lost = int(np.sum(~good))
        what = f"{lost} of {count(table.n, 'row')} {'was' if lost == 1 else 'were'} dropped"
        why = f"for want of a finite number in {listing(bad, 'or')}"
        return table.keep(good, f"{what} {why}: {_row_numbers(table.rows[~good])}")

    def keep(self, mask: Array, note: str = "") -> "Table":
        """Return the rows where `mask` (n,) is true, with `note` added to the notes.

        Raises
        ------
        DataError
            If `mask` is not one truth value for each row, or none is true.
        """
        mask = np.asarray(mask)
        if mask.dtype != np.bool_ or mask.shape != (self.n,):
            seen = f"shape {mask.shape} and type {mask.dtype}"
            raise DataError(
                f"A row filter has {seen}; it must be one truth value for each of {count(self.n, 'row')}."
            )
        if not mask.any():
            raise DataError(
                f"No row of {_place(self.source)} is left: {note or 'the filter is true for none'}.",
                remedy="Widen the filter.",
            )
        return replace(
            self,
            columns={name: values[mask] for name, values in self.columns.items()},
            rows=self.rows[mask],
            notes=(*self.notes, note) if note else self.notes,
            shape=self.shape if mask.all() else None,
        )

    def with_column(self, name: str, values: object, unit: str = "") -> "Table":
        """Return the table with one more column, or with another one under this name.

        Raises
        ------
        DataError
            If `values` is not one value for each row.
        """
        taken = cells(name, values)
        size, shape = taken.values.size, taken.values.shape
        if size != self.n or (max(shape, default=0) != size and shape != self.shape):
            seen = f"{name} has shape {shape}, where the table has {count(self.n, 'row')}"
            raise DataError(f"{seen}.", remedy=f"Give {name} one value for each row.")
        column = _Column.of(name, taken, self.rows)
        categories = {key: levels for key, levels in self.categories.items() if key != name}
        return replace(self._put(column, unit), categories=categories)

    def coded(self, name: str, *, levels: tuple[str, ...] = ()) -> "Table":
        """Return the table with the column `name` as codes 0, 1 … of its sorted values, which `categories` lists.

        Parameters
        ----------
        name : str
            A column of text; one of numbers has its numbers as levels.
        levels : tuple[str, ...]
            The levels of an earlier table, whose codes are to be used again.

        Raises
        ------
        DataError
            If there is no such column, or a cell is not among `levels`.
        """
        self.require((name,))
        if name in self.categories:
            return self
        values: list[str | float | None] = [None if v != v else v for v in self.columns[name].tolist()]
        words = {
            v: v if isinstance(v, str) else repr(v).removesuffix(".0") for v in set(values) if v is not None
        }
        known = levels or tuple(words[v] for v in sorted(words))
        code = {level: float(k) for k, level in enumerate(known)}
        strange = [word for word in words.values() if word not in code]
        if strange:
            remedy = f"Levels: {listing(known, most=20)}."
            raise DataError(f'{name} holds "{strange[0]}", which is not one of its levels.', remedy=remedy)
        place = {value: code[word] for value, word in words.items()}
        codes = np.array([np.nan if v is None else place[v] for v in values])
        empty = dict.fromkeys(np.flatnonzero(np.isnan(codes))[:SEEN].tolist(), "")
        coded = self._put(_Column.of(name, Cells(codes, empty), self.rows))
        return replace(coded, categories={**self.categories, name: known})

    def _put(self, column: "_Column", unit: str = "") -> "Table":
        """Return the table with `column` under its name."""
        units = {name: known for name, known in self.units.items() if name != column.name}
        origins = {name: known for name, known in self.origins.items() if name != column.name}
        return replace(
            self,
            columns={**self.columns, column.name: column.values},
            units=units | dict.fromkeys([column.name] if column.unit or unit else [], column.unit or unit),
            notes=(*self.notes, *column.notes),
            origins=origins | dict.fromkeys([column.name] if column.origin else [], column.origin),
            seen={**self.seen, column.name: column.seen},
        )

    def _with_numbers(self, name: str) -> "Table":
        """Return the table with a text column as numbers, NaN where a cell is something else.

        Raises
        ------
        DataError
            If no cell is a number.
        """
        texts = polars.Series(self.columns[name].tolist(), dtype=polars.String)
        taken = understood(texts)
        if taken.values.dtype == object:
            taken = partly(texts)
            if np.isnan(taken.values).all():
                held = listing([f'"{text}"' for text in texts.drop_nulls().unique(maintain_order=True)[:3]])
                remedy = "Use a column of numbers; text can name groups."
                if ambiguous_dates(texts):
                    remedy = "Write dates as 2020-04-03: here the day and the month cannot be told apart."
                seen = f"{name} in {_place(self.source)} is text, such as {held}, not numbers"
                raise DataError(f"{seen}.", remedy=remedy)
        column = _Column.of(name, taken, self.rows, self.origins.get(name, ""))
        return self._put(column, self.units.get(name, ""))


@dataclass(frozen=True, slots=True)
class _Column:
    """A column that is ready for a table."""

    name: str
    values: Array  # (n,) float64, or objects
    seen: Mapping[int, str]
    notes: tuple[str, ...]
    unit: str = ""
    origin: str = ""

    @classmethod
    def of(cls, name: str, taken: Cells, rows: Array, since: str = "") -> "_Column":
        """Return cells as a column of a table with these row numbers; dates and durations become float64."""
        values = taken.values.reshape(-1)
        seen = {int(rows[place]): text for place, text in taken.seen.items()}
        notes = (f"{name} {taken.note}",) if taken.note else ()
        if values.dtype.kind not in "Mm":
            return cls(name, values, seen, notes)
        values, words = elapsed(values, since)
        unit = "days" if words.startswith("days") else "s"
        origin = words if " since " in words else ""
        return cls(name, values, seen, (*notes, f"{name} became {words}"), unit, origin)


def read(data: Any, *, sheet: str | None = None, origins: Mapping[str, str] | None = None) -> Table:
    """Return the columns of a file, a data frame, arrays or tensors as a table of float64.

    Parameters
    ----------
    data : str, Path, Mapping, data frame, array, tensor or Table
        A file (CSV and other text, Parquet, Arrow, JSON, Excel, .npy, .npz; "-" for standard input); columns by name as
        arrays, lists, series, tensors or numbers; a pandas, Polars or PyArrow table; a structured or 2-d array.
    sheet : str or None
        The sheet of an Excel file, the first one by default.
    origins : Mapping[str, str] or None
        `Table.origins` of an earlier table, so that dates are counted from the same day.

    Raises
    ------
    DataError
        If `data` cannot be understood, has no rows, or has columns of unequal length or equal names.

    Examples
    --------
    >>> table = read({"t_u": [35.7, 55.9, 58.2], "t_c [°C]": (0.5, 14, 15)})
    >>> table.names, table.n, table.units, table.columns["t_c"]
    (('t_u', 't_c'), 3, {'t_c': '°C'}, array([ 0.5, 14. , 15. ]))
    """
    if data.__class__ is dict:
        table = _plain(data)
        if table is not None:
            return table
    if data.__class__ is Table:
        return data
    if issubclass(type(data), str) or hasattr(data, "__fspath__"):
        loaded = reading.load(data, sheet)
        return _assembled(loaded.columns, loaded.source, loaded.notes, origins)
    if sheet is not None:
        raise DataError("sheet= is for Excel files.", remedy="Leave sheet away.")
    taken = reading.take(data)
    return _assembled(taken.columns, taken.source, taken.notes, origins)


def _plain(data: Mapping[Any, Any]) -> Table | None:
    """Return a table of 1-d float64 arrays of one length, None for anything that needs a closer look.

    A small fit is done in 50 µs; this way in takes 4 µs of them.
    """
    columns: dict[str, Array] = {}
    shape = None
    for name, values in data.items():
        if type(values) is not np.ndarray or values.dtype is not _FLOAT or type(name) is not str:
            return None
        if name.endswith(_CLOSING) or values.shape != (shape or values.shape):
            return None
        shape = values.shape
        columns[name] = values.copy()
    if shape is None or len(shape) != 1 or shape[0] == 0:
        return None
    return Table(columns, _NONE, np.arange(1, shape[0] + 1), "arrays", (), _NONE, None, _NONE, _NONE)


def _assembled(
    pairs: list[tuple[Any, object]], source: str, notes: tuple[str, ...], origins: Mapping[str, str] | None
) -> Table:
    """Return named columns of any kind as a table.

    Raises
    ------
    DataError
        If there are no columns, no rows, equal names or unequal lengths.
    """
    names, units = _headers([name for name, _ in pairs], source)
    taken = {name: cells(name, held) for name, (_, held) in zip(names, pairs, strict=True)}
    n, shape = _size({name: one.values.shape for name, one in taken.items()}, source)
    rows = np.arange(1, n + 1)
    columns: dict[str, _Column] = {}
    for name, one in taken.items():
        if not one.values.shape and n > 1:
            notes = (*notes, f"{name} = {one.values.item()} was repeated for all {count(n, 'row')}")
            one = Cells(
                np.full(n, one.values), dict.fromkeys(range(min(n, SEEN)), one.seen[0]) if one.seen else {}
            )
        columns[name] = _Column.of(name, one, rows, (origins or {}).get(name, ""))
    return Table(
        columns={name: column.values for name, column in columns.items()},
        units=units | {name: column.unit for name, column in columns.items() if column.unit},
        rows=rows,
        source=source,
        notes=notes + tuple(note for column in columns.values() for note in column.notes),
        shape=shape,
        origins={
            name: since for name in names if (since := columns[name].origin or (origins or {}).get(name, ""))
        },
        seen={name: column.seen for name, column in columns.items() if column.seen},
    )


def _headers(headers: list[Any], source: str) -> tuple[list[str], dict[str, str]]:
    """Return names and units of columns with headers such as "t_u [°F]" or "t_u (°F)".

    Raises
    ------
    DataError
        If two columns have one name.
    """
    full = [str(header) for header in headers]
    twice = [name for name, times in Counter(full).items() if times > 1]
    if twice:
        places = [str(i + 1) for i, name in enumerate(full) if name == twice[0]]
        raise DataError(
            f"{len(places)} columns of {_place(source)} have the name {twice[0]} (columns {listing(places)}).",
            remedy="Give every column a name of its own.",
        )
    found = [_UNIT.fullmatch(name) if name.endswith(_CLOSING) else None for name in full]
    short = [match["name"] if match else name for match, name in zip(found, full, strict=True)]
    times = Counter(short)
    names = [name if times[name] == 1 else whole for name, whole in zip(short, full, strict=True)]
    units = {
        name: match[match.lastindex or 0]
        for name, match in zip(names, found, strict=True)
        if match and times[match["name"]] == 1
    }
    return names, units


def _size(shapes: Mapping[str, tuple[int, ...]], source: str) -> tuple[int, tuple[int, ...] | None]:
    """Return the number of rows, and the shape of the columns when they are images or grids.

    Raises
    ------
    DataError
        If there are no rows, or columns differ in length or shape: nothing is broadcast.
    """
    # (N, 1) and (1, N) are N rows; a grid has two axes or more that are longer than one
    plain: dict[str, tuple[int, ...]] = {
        name: (max(shape),) if max(shape) == prod(shape) else shape for name, shape in shapes.items() if shape
    }
    sizes = set(plain.values())
    if not shapes or any(prod(size) == 0 for size in sizes):
        what = f"no rows in {_place(source)} (columns {listing(list(shapes))})"
        what = what if shapes else f"no columns in {_place(source)}"
        raise DataError(f"There are {what}.", remedy="A table needs one row at least.")
    if len(sizes) > 1:
        lengths = [
            f"{name} has {size[0] if len(size) == 1 else f'shape {size}'}" for name, size in plain.items()
        ]
        remedy = "Give every column one value for each row; nothing is broadcast."
        if any(len(size) > 1 for size in sizes):
            remedy = "Give every column the shape of the image (numpy.meshgrid does); nothing is broadcast."
        raise DataError(f"Columns of {_place(source)} differ in length: {listing(lengths)}.", remedy=remedy)
    size = sizes.pop() if sizes else (1,)
    return prod(size), size if len(size) > 1 else None


def _refuse(table: Table, names: list[str], good: Array) -> NoReturn:
    """Refuse rows (where `good` (n,) is false) without a finite number in one of `names`.

    Raises
    ------
    DataError
        With the rows, what was seen there, and the option.
    """
    bad, lost = np.flatnonzero(~good), table.n - int(good.sum())
    infinite = any(np.isinf(table.columns[name]).any() for name in names)
    rows = f"{lost} of {count(table.n, 'row')}" if lost < table.n else f"All {count(table.n, 'row')}"
    rows = "The only row" if table.n == 1 else rows
    which = f"{'row' if lost == 1 else 'rows'} {_row_numbers(table.rows[bad])}"
    kind = "no finite number" if infinite else "no number"
    left = f'To fit the other {count(table.n - lost, "row")}: missing="drop" (--missing drop).'
    raise DataError(
        f"{rows} of {_place(table.source)} {'has' if lost == 1 else 'have'} {kind} in {listing(names, 'or')} ({which}).",
        remedy=f"gradfit drops no rows unasked. {left if lost < table.n else 'No row would be left.'}",
        excerpt=_excerpt(table, names, bad[:_SHOWN]),
    )


def _excerpt(table: Table, names: list[str], places: Array) -> str:
    """Return the rows at `places` as lines: row number, some columns beside `names`, and what was seen in those."""
    others = [name for name in table.columns if name not in names]
    shown = [name for name in table.columns if name in {*names[:4], *others[: max(0, 4 - len(names))]}]
    lines = [["row", *shown]]
    lines += [[str(table.rows[i]), *(_seen_at(table, name, int(i)) for name in shown)] for i in places]
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    )


def _seen_at(table: Table, name: str, place: int) -> str:
    """Return a cell as the reader would recognise it."""
    value: Any = table.columns[name][place]
    if not isinstance(value, float):
        return value or "empty"
    if not np.isnan(value):
        return f"{value:.6g}"
    text = table.seen.get(name, {}).get(int(table.rows[place]), "NaN")
    return text if text in {"NaN", "nan", "None", "<NA>", "masked"} else f'"{text}"' if text else "empty"


def _row_numbers(rows: Array) -> str:
    first = [str(row) for row in rows[:8]]
    return listing(first) if len(rows) <= 8 else f"{', '.join(first)} and {len(rows) - 8} more"


def _place(source: str) -> str:
    """Return a source as it stands in a sentence: "the arrays", "wells.csv"."""
    return f"the {source}" if source in _KINDS or source.endswith(" data frame") else source
