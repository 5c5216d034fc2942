"""Columns: whatever holds numbers, dates or text, as one NumPy array; text understood as numbers or dates."""

import datetime
import math
import re
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import narwhals, polars
from gradfit.errors import DataError

if TYPE_CHECKING:
    from polars import Expr, Series

Array = NDArray[Any]

MISSING = frozenset(
    {"", "nan", "-nan", "+nan", "na", "n/a", "#n/a", "n.a.", "<na>", "nat"} | {"null", "none", "nil", "missing"}
    | {"-", "--", "?", "."} | {"#div/0!", "#value!", "#ref!", "#num!", "#null!"}
)  # fmt: skip
SEEN = 1000  # cells without a number whose text is remembered for each column: an excerpt shows five
EXACT = 2.0**53  # the greatest whole number up to which float64 holds them all

_SPACE = " \u00a0\u2009\u202f"
_GROUP = {".": f"[,'’{_SPACE}]", ",": f"[.'’{_SPACE}]"}  # marks between thousands, by the decimal mark
NUMBER = {
    mark: rf"^[+-]?(?:(?:[0-9]+|[0-9]{{1,3}}(?:{_GROUP[mark]}[0-9]{{3}})+)(?:[{mark}][0-9]*)?|[{mark}][0-9]+)"
    r"(?:[eEdD][+-]?[0-9]+)?$"
    for mark in (".", ",")
}
WORD = r"^[+-]?(?i:inf|infinity|nan)$"
DATE = r"^(?:\d{4}[-/]\d{1,2}[-/]\d{1,2}|\d{1,2}[./]\d{1,2}[./]\d{4})(?:[ T]\d{1,2}:\d{2}|$)"
TIME = r"^\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?$"

_DAYS = ("%Y-%m-%d", "%Y/%m/%d", "%d.%m.%Y")
_SLASHES = ("%d/%m/%Y", "%m/%d/%Y")
_CLOCKS = ("", " %H:%M", " %H:%M:%S%.f", " %H:%M%z", " %H:%M:%S%.f%z")
_TRUTH = {"true": 1.0, "false": 0.0}

_ROUNDED = "holds whole numbers above 2^53, rounded to the nearest float64"
_NOTHING = frozenset({"NAType", "NaTType"})  # pandas' own, by name: pandas may not be there
_LIBRARIES = frozenset({"pandas", "polars", "pyarrow", "narwhals", "modin", "cudf"})


@dataclass(frozen=True, slots=True)
class Cells:
    """One column as it was taken in.

    Attributes
    ----------
    values : Array
        (n,) or the shape that came in: float64, datetime64, timedelta64, or objects (text, None where empty).
    seen : Mapping[int, str]
        Place in `values` (from 0) of cells without a number, and the text that stood there; the first 1,000.
    note : str
        What was done that a reader would not expect, to be put behind the column's name.
    """

    values: Array
    seen: Mapping[int, str] = field(default_factory=dict[int, str])
    note: str = ""


def cells(name: str, held: Any) -> Cells:
    """Return the column held by an array, list, tuple, tensor, series or number: numbers always as float64.

    Raises
    ------
    DataError
        If `held` is complex, ragged, or holds anything but numbers, dates and text.
    """
    if isinstance(held, Cells):
        return held
    torch: Any = sys.modules.get("torch")  # whoever holds a tensor has imported torch
    if torch is not None and isinstance(held, torch.Tensor):
        return _array(name, _tensor(name, held))
    if type(held).__module__.partition(".")[0] in _LIBRARIES:
        return _array(name, _series(name, held))
    if torch is not None and type(held) in {list, tuple} and any(isinstance(v, torch.Tensor) for v in held):
        held = [v.tolist() if isinstance(v, torch.Tensor) else v for v in held]
    try:
        array: Array = np.asanyarray(held)
    except (ValueError, TypeError, RuntimeError, OverflowError):
        remedy = f"Give {name} one number for each row."
        raise DataError(f"{name} is no column: its parts differ in length or kind.", remedy=remedy) from None
    return _array(name, array)


def _tensor(name: str, tensor: Any) -> Array:
    """Return a torch tensor of any dtype, device and layout as an array; gradients stay behind.

    Raises
    ------
    DataError
        If it has no data.
    """
    if tensor.is_meta:
        remedy = "Pass a tensor with data."
        raise DataError(f"{name} is a meta tensor, which holds no numbers.", remedy=remedy)
    tensor = tensor.detach()
    if tensor.is_quantized:
        tensor = tensor.dequantize()
    tensor = tensor.to_dense() if tensor.layout != sys.modules["torch"].strided else tensor
    tensor = tensor.resolve_conj().resolve_neg().cpu()
    if tensor.is_floating_point():
        tensor = tensor.double()  # NumPy has no bfloat16
    return tensor.numpy()


def _series(name: str, held: Any) -> Array:
    """Return a pandas, Polars or PyArrow column as an array, by position: an index never aligns anything.

    Raises
    ------
    DataError
        If each of its cells holds several values.
    """
    series = narwhals.from_native(held, series_only=True, allow_series=True, pass_through=True)
    if not isinstance(series, narwhals.Series):
        return np.asarray(held)  # a pandas index, a PyArrow array without chunks
    if series.dtype.is_nested():
        remedy = f"Give {name} one number for each row."
        raise DataError(f"{name} holds {series.dtype}, where a column holds real numbers.", remedy=remedy)
    if series.dtype == narwhals.Enum or series.dtype == narwhals.Categorical:
        return np.array(series.to_list(), dtype=object)
    values = series.to_numpy()
    if values.dtype.kind in "fiubcMm" or not series.dtype.is_numeric():
        return values
    return series.cast(narwhals.Float64).to_numpy()


def _array(name: str, array: Array) -> Cells:
    """Return an array as a column of its own: float64 copy, dates, or text.

    Raises
    ------
    DataError
        If it is complex, structured or raw.
    """
    kind = array.dtype.kind
    if isinstance(array, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(array)
        if kind in "fiub":
            values = np.where(mask, np.nan, _floats(np.asarray(array)).values)
            return Cells(values, dict.fromkeys(_places(values), "masked"))
        array = np.asarray(array).astype(object)
        array[mask] = None
        return _array(name, array)
    if kind == "O":
        return _objects(name, array)
    if kind in "MmUST":
        if kind == "S":
            array = np.char.decode(array, "latin-1")
        return Cells(array.copy() if kind in "Mm" else _text(array.astype(object)))
    if kind in "fiub":
        return _floats(array)
    what, remedy = f"NumPy's {array.dtype}", "Pass one column for each field."
    if kind == "c":
        what, remedy = "complex numbers", f"Pass {name}.real and {name}.imag as two columns."
    raise DataError(f"{name} holds {what}, where a column holds real numbers.", remedy=remedy)


def _floats(array: Array) -> Cells:
    """Return any real array as a float64 copy, with a note where whole numbers were too long for it."""
    with np.errstate(over="ignore"):  # 1e4000 in long double is infinite here, and found as such later
        values = np.array(array, dtype=np.float64, order="C", subok=False)
    exact = array.dtype.kind not in "iu" or array.dtype.itemsize < 8 or not np.any(np.abs(values) >= EXACT)
    return Cells(values, note="" if exact else _ROUNDED)


def _text(texts: Array) -> Array:
    """Return stripped text, None where nothing is written."""
    stripped = [str(t).strip() or None if t is not None else None for t in texts.ravel().tolist()]
    return np.array(stripped, dtype=object).reshape(texts.shape)


def _is_nothing(value: Any) -> bool:
    """Return whether a Python object stands for no value: None, pandas' NA and NaT, a NaN."""
    if issubclass(type(value), float | np.floating):
        return math.isnan(value)
    return value is None or type(value).__name__ in _NOTHING


def _objects(name: str, array: Array) -> Cells:
    """Return a column of Python objects: numbers, dates and times, durations or text."""
    flat: list[Any] = array.ravel().tolist()
    kinds: set[type] = {type(v) for v in flat if v is not None and type(v).__name__ not in _NOTHING}
    if any(issubclass(k, str | bytes) for k in kinds):
        texts = [None if _is_nothing(v) else v.decode("latin-1") if isinstance(v, bytes) else v for v in flat]
        return Cells(_text(np.array(texts, dtype=object).reshape(array.shape)))
    if kinds and all(issubclass(k, datetime.date | np.datetime64) for k in kinds):
        moments = [None if _is_nothing(v) else _naive(v) for v in flat]
        return Cells(np.array(moments, dtype="M8[us]").reshape(array.shape))
    if kinds and all(issubclass(k, datetime.timedelta | np.timedelta64) for k in kinds):
        spans = [None if _is_nothing(v) else v for v in flat]
        return Cells(np.array(spans, dtype="m8[us]").reshape(array.shape))
    if kinds == {datetime.time}:
        spans = [None if _is_nothing(v) else _since_midnight(v) for v in flat]
        return Cells(np.array(spans, dtype="m8[us]").reshape(array.shape))
    values = np.array([_number(name, v) for v in flat], dtype=np.float64)
    seen = {i: str(flat[i]) for i in _places(values)}
    return Cells(values.reshape(array.shape), seen)


def _since_midnight(time: datetime.time) -> datetime.timedelta:
    seconds = 3600 * time.hour + 60 * time.minute + time.second
    return datetime.timedelta(seconds=seconds, microseconds=time.microsecond)


def _naive(moment: Any) -> Any:
    """Return a date or time without its zone: zoned ones in UTC."""
    if getattr(moment, "tzinfo", None) is None:
        return moment
    return moment.astimezone(datetime.UTC).replace(tzinfo=None)


def _number(name: str, value: Any) -> float:
    """Return one Python object as float64.

    Raises
    ------
    DataError
        If it is no real number.
    """
    if value is None or type(value).__name__ in _NOTHING:
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    except (TypeError, ValueError, RuntimeError):
        is_complex = isinstance(value, complex | np.complexfloating)
        what = "complex numbers" if is_complex else f"{type(value).__name__} objects"
        remedy = f"Give {name} one number for each row."
        raise DataError(f"{name} holds {what}, where a column holds real numbers.", remedy=remedy) from None


def _places(values: Array) -> list[int]:
    """Return the places of the first cells that hold no number."""
    return np.flatnonzero(np.isnan(values))[:SEEN].tolist()


def understood(texts: "Series", decimal: str = ".") -> Cells:
    """Return a column of text as numbers, dates or times, where every cell that is not missing is one; else as text.

    Parameters
    ----------
    texts : polars.Series
        (n,) strings.
    decimal : str
        The decimal mark that the rest of the file has; the other one is tried for columns where it does not fit.
    """
    for mark in (decimal, "," if decimal == "." else "."):
        numbers, grouped = _numbers(texts, mark)
        if numbers is not None:
            values = np.array(numbers.to_numpy())
            long = bool(np.any(np.abs(values) >= EXACT))
            notes = {
                f"was read with a decimal {'comma' if mark == ',' else 'point'}": mark != decimal,
                "was read with marks between thousands": grouped,
                _ROUNDED: long and texts.str.contains(r"^\s*-?[0-9]{16,}\s*$").any(),
            }
            return _seen(values, texts, " and ".join(note for note, holds in notes.items() if holds))
    tidy = texts.str.strip_chars()
    tidy = tidy.set(tidy.str.to_lowercase().is_in(MISSING), None)
    first = str(tidy.drop_nulls()[0])
    if first.lower() in _TRUTH:
        truth = tidy.str.to_lowercase().replace_strict(_TRUTH, default=None, return_dtype=polars.Float64)
        if truth.null_count() == tidy.null_count():
            return _seen(np.array(truth.to_numpy()), texts)
    moments = _moments(tidy, first)
    return Cells(_text(texts.to_numpy())) if moments is None else _seen(moments, texts)


def _seen(values: Array, texts: "Series", note: str = "") -> Cells:
    """Return numbers or dates (n,) with the text of the cells that hold none."""
    places = _places(values)
    found = texts.gather(places).to_list() if places else ()
    return Cells(values, {i: (t or "").strip() for i, t in zip(places, found, strict=True)}, note)


def _numbers(texts: "Series", mark: str) -> tuple["Series | None", bool]:
    """Return the numbers when every cell is one or is missing, and whether thousands were grouped."""
    if mark == "." or not texts.str.contains(".", literal=True).any():
        usual = texts if mark == "." else texts.str.replace(",", ".", literal=True)
        plain = usual.cast(polars.Float64, strict=False)
        if plain.null_count() == texts.null_count():
            return plain, False
    frame, t = texts.alias("t").to_frame(), _tidy()
    is_number = t.str.contains(NUMBER[mark])
    fits = is_number | t.str.contains(WORD) | t.str.to_lowercase().is_in(MISSING) | t.is_null()
    if not (frame[:1000].select(fits.all()).item() and frame.select(fits.all()).item()):
        return None, False
    numbers = frame.select(_plain(mark).cast(polars.Float64, strict=False))["t"]
    grouped = frame.select((is_number & t.str.contains(f"[0-9]{_GROUP[mark]}[0-9]")).any()).item()
    return numbers, bool(grouped)


def _tidy() -> "Expr":
    return polars.col("t").str.strip_chars().str.replace("\u2212", "-", literal=True)


def _plain(mark: str) -> "Expr":
    """Return cells as programs write numbers: no marks between thousands, a decimal point, e for the exponent."""
    bare = _tidy().str.replace_all(_GROUP[mark], "").str.replace_all("[dD]", "e")
    return bare.str.replace(mark, ".", literal=True)


def partly(texts: "Series") -> Cells:
    """Return the numbers of a column that is text here and there: NaN elsewhere, and the text of those cells."""
    frame, t = texts.alias("t").to_frame(), _tidy()
    word = polars.when(t.str.contains(WORD)).then(t)
    readings = [
        polars.coalesce(polars.when(t.str.contains(NUMBER[mark])).then(_plain(mark)), word).alias(mark)
        for mark in (".", ",")
    ]
    numbers = frame.select(readings).cast(polars.Float64, strict=False)
    most = min(numbers["."], numbers[","], key=lambda column: column.null_count())
    return _seen(np.array(most.to_numpy()), texts)


def _moments(tidy: "Series", first: str) -> Array | None:
    """Return dates (datetime64) or times of day (timedelta64), None when a cell is neither."""
    if re.match(TIME, first):
        form = "%H:%M:%S%.f" if first.count(":") == 2 else "%H:%M"
        return _whole(tidy, tidy.str.replace(",", ".").str.to_time(form, strict=False), "m8[ns]")
    if not re.match(DATE, first):
        return None
    tidy = tidy.str.replace(r"(\d)T(\d)", "$1 $2").str.replace("Z$", "+00:00").str.replace(",", ".")
    for day, clock in product(_DAYS, _CLOCKS):
        found = _dates(tidy, day + clock)
        if found is not None:
            return found
    readings = [f for clock in _CLOCKS for day in _SLASHES if (f := _dates(tidy, day + clock)) is not None]
    return readings[0] if len(readings) == 1 else None  # 03/04/2020 may be in March or in April


def _dates(texts: "Series", form: str) -> Array | None:
    first = texts.drop_nulls().head(1).str.to_datetime(form, strict=False, time_unit="us")
    if first.null_count():
        return None
    return _whole(texts, texts.str.to_datetime(form, strict=False, time_unit="us"), "M8[us]")


def _whole(texts: "Series", read: "Series", dtype: str) -> Array | None:
    """Return what was read as an array if no cell was lost."""
    if read.null_count() != texts.null_count():
        return None
    nothing = np.iinfo(np.int64).min  # NumPy's NaT
    return np.array(read.to_physical().fill_null(nothing).to_numpy(), dtype=np.int64).view(dtype)


def ambiguous_dates(texts: Iterable[str | None]) -> bool:
    """Return whether text looks like 03/04/2020, whose day and month cannot be told apart."""
    written = polars.Series([t for t in texts if t], dtype=polars.String)
    return bool(len(written)) and bool(written.str.contains(r"^\d{1,2}/\d{1,2}/\d{4}").all())


def elapsed(moments: Array, since: str = "") -> tuple[Array, str]:
    """Return dates as float64 days since the earliest (seconds when all lie within two days), and how to say so.

    `since` is what an earlier call said ("days since 2020-01-01"): the same origin and unit are then used again.
    Durations become seconds.

    >>> values, words = elapsed(np.array(["2020-01-03", "2020-01-01", "2020-02-01"], dtype="M8[D]"))
    >>> values.tolist(), words
    ([2.0, 0.0, 31.0], 'days since 2020-01-01')
    """
    step = np.datetime_data(moments.dtype)[0]
    if moments.dtype.kind == "m":
        seconds = moments.astype("m8[s]") if step in {"Y", "M", "generic"} else moments
        return seconds / np.timedelta64(1, "s"), "seconds"
    if step in {"Y", "M", "W", "D", "generic"}:
        moments = moments.astype("M8[s]")
    known = moments[~np.isnat(moments)]
    if since:
        unit, _, text = since.partition(" since ")
        origin = np.datetime64(text)
    else:
        origin = known.min() if known.size else np.datetime64(0, "s")
        span = known.max() - origin if known.size else np.timedelta64(0, "s")
        unit = "days" if span >= np.timedelta64(2, "D") else "seconds"
    first = np.datetime_as_string(origin, unit="auto").replace("T", " ")
    return (moments - origin) / np.timedelta64(1, "D" if unit == "days" else "s"), f"{unit} since {first}"
