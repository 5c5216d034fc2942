"""The parameters as a table for a terminal: values aligned at their points, intervals, and bars on one scale."""

import re
from dataclasses import dataclass
from math import isfinite, isnan
from typing import TYPE_CHECKING

from gradfit.notation import (
    THIN,
    exact,
    fixed,
    interval_text,
    level_percent,
    plus_minus,
    significant,
)
from gradfit.sentences import derivatives
from gradfit.terminal.text import Line, Page, Span, Tone, cells, pad, shorten

if TYPE_CHECKING:
    from gradfit.parameter import ParameterResult
    from gradfit.result import FitResult

_WIDE = 100  # columns from which bars grow
_HALVES = (16, 12, 8)  # columns from the middle of a bar to its end
_LONGEST = 24  # columns for the name of a parameter


@dataclass(frozen=True, slots=True)
class Row:
    """One parameter as the table shows it.

    Attributes
    ----------
    name : str
        Of the parameter.
    value, error : str
        Numbers, to be aligned at their points; `error` is empty where there is none.
    words : str
        What stands instead of a standard error, or of everything.
    unit, interval : str
        What follows.
    reach : (float, float)
        Half a standard error's and half the interval's width over the value; infinite without an end, NaN without a bar.
    """

    name: str
    value: str
    error: str
    words: str
    unit: str
    interval: str
    reach: tuple[float, float]


def _words(p: "ParameterResult") -> str:
    """Return what stands beside or instead of a value without a standard error, empty where there is one."""
    cases = (
        (p.fixed, "fixed"),
        (not p.determined, "not determined"),
        (not isfinite(p.value), "not finite"),
        (p.at_bound, "on its bound"),
        (not isfinite(p.stderr), "no error bar"),
    )
    return next((words for holds, words in cases if holds), "")


def _row(p: "ParameterResult", unit: str) -> Row:
    """Return one parameter as the table shows it."""
    words = _words(p)
    if words in ("not determined", "not finite"):
        end = float("inf") if words == "not determined" else float("nan")
        return Row(p.name, "", "", words, unit, "any" if words == "not determined" else "", (end, end))
    if words:
        value = significant(p.value, 4) if words == "no error bar" else exact(p.value)
        return Row(p.name, value, "", words, unit, "", (float("nan"), float("nan")))
    value, error, power = plus_minus(p.value, p.stderr)
    low, high = p.interval()
    interval = interval_text(low, high, p.value, p.stderr) if isfinite(high - low) else "any"
    size = abs(p.value) or 1e-300
    reach = (p.stderr / size, (high / 2 - low / 2) / size)
    if power:
        value, error = f"({value}", f"{error}){power}"
    return Row(p.name, value, error, "", unit, interval, reach)


def parameter_table(result: "FitResult", page: Page) -> list[Line]:
    """Return the parameters with their intervals, and bars of these in per cent of the values where there is room."""
    units = derivatives(result).units
    rows = [_row(p, p.unit or units.get(p.name, "")) for p in result.params.values()]
    names = _column([page.text(row.name) for row in rows], _LONGEST)
    level = page.text(f"{level_percent(result.level)} interval")
    columns = [
        _headed("value ± s.e.", _values(rows, page), page),
        _headed("unit", [page.text(row.unit) for row in rows], page) if any(row.unit for row in rows) else [],
        _headed(level, [page.text(row.interval) for row in rows], page)
        if any(row.interval for row in rows)
        else [],
    ]
    kept, room = _kept([["", *names], *(column for column in columns if column)], page)
    bars = _bars(rows, room - 3, page) if result.verdict != "no" else []
    return _laid_out(kept, rows, bars)


def _column(texts: list[str], most: int) -> list[str]:
    texts = [shorten(text, most) for text in texts]
    wide = max((cells(text) for text in texts), default=0)
    return [pad(text, wide) for text in texts]


def _headed(head: str, texts: list[str], page: Page) -> list[str]:
    head = page.text(head)
    wide = max(cells(text) for text in (head, *texts))
    return [pad(text, wide) for text in (head, *texts)]


def _values(rows: list[Row], page: Page) -> list[str]:
    """Return value ± s.e. of each row, aligned at the points of both."""
    ends = [("", "", "", "") if row.words else (*_halves(row.value), *_halves(row.error)) for row in rows]
    wide = [max((len(end[i]) for end in ends), default=0) for i in range(4)]
    texts = list[str]()
    for row, (a, b, c, d) in zip(rows, ends, strict=True):
        if row.error:
            value = a.rjust(wide[0]) + b.ljust(wide[1])
            texts.append(page.text(f"{value} ± {c.rjust(wide[2])}{d}"))
        else:
            whole, rest = _halves(row.value)
            value = (whole.rjust(wide[0]) + rest).ljust(wide[0] + wide[1])
            texts.append(page.text(f"{value} {row.words}" if row.value else row.words))
    return texts


def _halves(number: str) -> tuple[str, str]:
    """Return a number's text before and from its decimal point."""
    before, point, after = number.partition(".")
    if point:
        return before, point + after
    end = re.match(
        r"[^)\u202f]*[^)]?(?:\u202f\d+)*", number
    )  # thousands stay before, a bracket and a power go behind
    place = end.end() if end else len(number)
    return number[:place], number[place:]


def _kept(columns: list[list[str]], page: Page) -> tuple[list[list[str]], int]:
    """Return the columns that there is room for, from the left, and the room that is left; units give way first."""
    names, *others = columns
    kept, room = [names], page.width - 2 - max(cells(name) for name in names)
    for i, column in enumerate(others):
        gap = 1 if i == 0 else 3
        if cells(column[0]) + gap <= room:
            room -= cells(column[0]) + gap
            kept.append(column)
    return kept, room


def _laid_out(columns: list[list[str]], rows: list[Row], bars: list[str]) -> list[Line]:
    """Return the lines of the table: names, values, the other columns, bars where there are some."""
    names, *others = columns
    wide = max(cells(name) for name in names)
    lines = list[Line]()
    for i in range(len(rows) + 1):
        line = [Span(f"  {pad(names[i], wide)}", "bold" if i else "dim")]
        for j, column in enumerate(others):
            bad = i > 0 and j == 0 and rows[i - 1].words in ("not determined", "not finite")
            tone: Tone = "dim" if i == 0 else "second" if bad else ""
            line.append(Span((" " if j == 0 else "   ") + column[i], tone))
        if bars:
            line.append(Span(f"   {bars[i]}", "fit" if i else "dim"))
        lines.append(tuple(line))
    return lines


_STEPS = tuple(digit * 10.0**power for power in range(-3, 3) for digit in (1.0, 2.5, 5.0))
_EXACT = 1e-5  # of the value: narrower intervals have nothing to show


def _bars(rows: list[Row], room: int, page: Page) -> list[str]:
    """Return a scale and bars of the intervals in per cent of the values, all on that scale; none where none has an end."""
    ends = [row.reach[1] for row in rows if isfinite(row.reach[1])]
    widest = max((end for end in ends if end <= 1.0), default=1.0)
    step = next((s for s in _STEPS if 1.6 * s >= 100 * widest), 100.0)
    text = page.text(f"{fixed(step, 4, plus=True).rstrip('0').rstrip('.')}{THIN}%")
    fits = (h for h in _HALVES if 2 * h + 1 <= room and (h < _HALVES[0] or page.width >= _WIDE))
    half = next((h for h in fits if round(h / 1.6) > len(text) // 2 + 1), 0)
    if not ends or not half or widest < _EXACT:
        return []
    scale = [" "] * (2 * half + 1 + len(text))
    for at, label in (
        (-1, page.text(fixed(-step, 4).rstrip("0").rstrip(".") + f"{THIN}%")),
        (0, "0"),
        (1, text),
    ):
        start = half + round(at * half / 1.6) - (len(label) - 1) // 2
        scale[start : start + len(label)] = label
    return ["".join(scale).rstrip(), *(_bar(row.reach, 1.6 * step / 100, half, page) for row in rows)]


def _bar(reach: tuple[float, float], span: float, half: int, page: Page) -> str:
    """Return one bar: thick over a standard error, thin over the interval, arrows where it leaves the scale."""
    if isnan(reach[1]):
        return ""
    signs = page.signs
    error, whole = (round(min(end / span, 2.0) * half) for end in reach)
    shown = min(whole, half)
    bar = [signs.thin] * (2 * shown + 1)
    if isfinite(reach[0]):
        thick = min(error, shown)
        bar[shown - thick : shown + thick + 1] = [signs.thick] * (2 * thick + 1)
        bar[shown] = signs.point
    if shown > 0:
        beyond = whole > half
        bar[0], bar[-1] = (signs.back, signs.on) if beyond else (signs.left, signs.right)
    return " " * (half - shown) + "".join(bar)
