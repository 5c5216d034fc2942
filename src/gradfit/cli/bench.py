"""gradfit bench: what to expect of a model on this machine, as a table or as JSON."""

import json as writer
from collections.abc import Sequence

from gradfit import store
from gradfit._lazy import stage
from gradfit.bench import Bench, Speed
from gradfit.cli.arguments import names_in, numbers_by_name
from gradfit.cli.looking import usual_columns
from gradfit.cli.screen import Screen
from gradfit.errors import OptionError
from gradfit.formula import parse
from gradfit.library import find
from gradfit.notation import THIN, count, duration, in_full, percent, significant
from gradfit.simulation import NOISE, OFF
from gradfit.terminal.text import Line, Page, Span, fold, packed, pad

_MOST = 10**12  # of anything that is counted
_LARGE = 1e300  # no input is beyond
_HOURS = 2 * 3600  # seconds; longer times are not told in minutes


def measured(
    model: str,
    *,
    points: str,
    fits: str,
    rows: str,
    start: Sequence[str] | None,
    x: str | None,
    columns: str | None,
    threads: int | None,
    json: bool,
) -> int:
    """Return the exit code, after a model was measured."""
    text = find(model).formula if model.strip().isidentifier() else model
    names = names_in(columns) if columns is not None else usual_columns(parse(text))
    bench: Bench = stage("bench").bench(
        model, names, points=_whole(points, "--points"), fits=_whole(fits, "--fits"), rows=_whole(rows, "--rows"),
        threads=threads, start=numbers_by_name(start, "--start") if start else None, span=_span(x),
    )  # fmt: skip
    screen = Screen.of("stdout")
    if json:
        screen.write(writer.dumps(bench.to_dict(), indent=1, allow_nan=False))
        return 0
    page = Page(screen.width, screen.color, screen.unicode)
    screen.write(page.render(_lines(bench, page)))
    return 0


def _whole(text: str, option: str) -> int:
    """Return a whole number, also of a text such as 1e6.

    Raises
    ------
    OptionError
        If it is none from 1 up.
    """
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not (1 <= number <= _MOST and number == int(number)):
        raise OptionError(
            f"{option} takes a whole number from 1 up, and {text!r} is none", remedy=f"Write {option} 1e6"
        )
    return int(number)


def _span(text: str | None) -> tuple[float, float] | None:
    """Return the range of the inputs.

    Raises
    ------
    OptionError
        If it is none.
    """
    if text is None:
        return None
    low, colon, high = text.partition(":")
    try:
        ends = float(low), float(high)
    except ValueError:
        ends = 0.0, 0.0
    if not colon or not -_LARGE < ends[0] < ends[1] < _LARGE:
        raise OptionError(
            f"--x takes a range from low to high, and {text!r} is none", remedy="Write --x 0:10"
        )
    return ends


# ---------------------------------------------------------------------------- for a terminal


def _lines(bench: Bench, page: Page) -> list[Line]:
    planned = f"{count(bench.fits, 'fit')} of {count(bench.points, 'point')}: {_time(bench.seconds)}"
    cores = "" if bench.chosen.executor == "numpy" else f", {count(bench.threads, 'thread')}"
    facts = f"{bench.chosen.executor}{cores}, data and results {_bytes(bench.bytes)}"
    head = packed([(page.span(planned, "bold"),), (page.span(facts, "dim"),)], page.width)
    head += [(Span(f"  {part}", "bold"),) for part in fold(page.text(bench.formula), page.width - 2)]
    return [*head, (), *_table(bench, page), (), *_notes(bench, page)]


def _table(bench: Bench, page: Page) -> list[Line]:
    """Return the ways of fitting with their times and rates; what converged less than always says so."""
    large = bench.large
    groups: list[tuple[str, list[tuple[str, Speed | None, str]]]] = [
        ("one small fit", [("gradfit.fit", bench.small, "fits"), ("scipy curve_fit", bench.scipy, "fits")]),
        ("many fits", [("fit_many", bench.numpy, "fits"), ("fit_many", bench.native, "fits")]),
        (f"one fit of {count(large.size, 'point')}", [("gradfit.fit", large, "points")]),
    ]
    heads = ["", "a fit", "a second", "GFLOP/s", "of peak", ""]
    rows = [_cells(bench, name, speed, noun) for _, ways in groups for name, speed, noun in ways if speed]
    columns = _fitting([[page.text(row[j]) for row in (heads, *rows)] for j in range(len(heads))], page.width)
    shown = zip(*columns, strict=True)
    lines: list[Line] = [(Span("  " + "   ".join(next(shown)), "dim"),)]
    for title, ways in groups:
        lines.append((page.span(f"  {title}", "bold"),))
        lines += [(Span("  " + "   ".join(next(shown))),) for _, speed, _ in ways if speed]
    return lines


def _fitting(columns: list[list[str]], width: int) -> list[list[str]]:
    """Return the columns with cells of one width each, those that there is room for: the share of the peak goes first."""
    names, *numbers, words = columns
    wide = [max(map(len, column)) for column in columns]
    while len(numbers) > 1 and sum(w + 3 for w in (*wide[: len(numbers) + 1], wide[-1])) > width + 1:
        numbers.pop()
    right = [[cell.rjust(w) for cell in column] for column, w in zip(numbers, wide[1:], strict=False)]
    return [[pad(name, wide[0]) for name in names], *right, words]


def _cells(bench: Bench, name: str, speed: Speed, noun: str) -> list[str]:
    by = f"  {name}" if speed.executor == "scipy" else f"  {name}, {speed.executor}"
    one = speed.seconds if noun == "points" else 1 / speed.rate
    share = bench.share(speed)
    cells = [by, _time(one), f"{_rounded(speed.rate)} {noun}"]
    cells += (
        ["", ""] if speed.gflops is None or share is None else [significant(speed.gflops), percent(share)]
    )
    return [*cells, "" if speed.converged == 1 else f"{percent(speed.converged)} converged"]


def _notes(bench: Bench, page: Page) -> list[Line]:
    ratio = bench.chosen.rate / bench.scipy.rate
    loop = _time(bench.fits * bench.scipy.seconds)
    values = ", ".join(f"{name} = {in_full(value)}" for name, value in bench.truth.items())
    low, high = bench.span
    machine = bench.machine
    memory = f", {_bytes(machine.memory)}" if machine.memory else ""
    notes = [
        f"A loop over SciPy's curve_fit would take {loop}: {_rounded(ratio)} times as long",
        _code(bench),
        f"A point of this model takes {bench.flops} flops an evaluation; the peak is {significant(bench.peak)} GFLOP/s a core, "
        "fused multiply-adds in registers",
        f"Simulated: {values}; inputs from {in_full(low)} to {in_full(high)}, noise {percent(NOISE)} of the range of y, "
        f"starts up to {percent(OFF)} off",
        f"{machine.processor}, {count(machine.cores, 'core')}{memory}; medians, at a quiet moment they are better",
    ]
    return [(Span(f"  {part}", "dim"),) for note in notes for part in fold(page.text(note), page.width - 2)]


def _code(bench: Bench) -> str:
    if bench.native is None:
        return bench.why
    if bench.compiled:
        kept = (
            "; it is kept on disk"
            if store.writable()
            else ", as in each process: nothing can be kept on disk"
        )
        return f"Machine code for many fits was compiled in {_time(bench.ready)}{kept}"
    return f"Machine code for many fits was there already, and read in {_time(bench.ready)}"


def _time(seconds: float) -> str:
    r"""Return a time span of any length.

    >>> _time(7.3e-5), _time(0.0123), _time(1.31), _time(10_000), _time(1e6)
    ('73\u202fµs', '12\u202fms', '1.3\u202fs', '2.8\u202fhours', '12\u202fdays')
    """
    if seconds < 1e-3:
        small = seconds >= 1e-6
        return f"{significant(seconds * (1e6 if small else 1e9))}{THIN}{'µs' if small else 'ns'}"
    if seconds <= _HOURS:
        return duration(seconds)
    hours = seconds / 3600
    return f"{significant(hours)}{THIN}hours" if hours < 48 else f"{significant(hours / 24)}{THIN}days"


def _rounded(number: float) -> str:
    r"""Return a rate with three digits and no power of ten.

    >>> _rounded(597_072), _rounded(32_095_048), _rounded(3.14159)
    ('597\u202f000', '32.1\u202fmillion', '3.14')
    """
    for size, word in ((1e9, "billion"), (1e6, "million")):
        if number >= size:
            return f"{significant(number / size, 3)}{THIN}{word}"
    return significant(number, 3)


def _bytes(size: float) -> str:
    r"""Return bytes in words.

    >>> _bytes(2.88e8), _bytes(25.3e9)
    ('290\u202fMB', '25\u202fGB')
    """
    for unit, word in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= unit:
            return f"{significant(size / unit)}{THIN}{word}"
    return f"{significant(size / 1e3)}{THIN}kB"
