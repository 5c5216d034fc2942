"""gradfit predict: a saved fit at new inputs, with bands."""

import io
import json as json_text
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from gradfit.cli import networks
from gradfit.cli.screen import Screen
from gradfit.cli.writing import targets
from gradfit.errors import OptionError
from gradfit.learn import NetworkResult
from gradfit.notation import count, exact, interval_text, level_percent, plus_minus, significant
from gradfit.outputs import write_whole
from gradfit.result import FitResult, Prediction
from gradfit.saved import load
from gradfit.saved.plain import finite_rows
from gradfit.table import Table, read
from gradfit.terminal.text import Line, Page, Span, pad

MOST = 40  # rows shown to a person


def predicted(
    fit: str,
    file: str,
    *,
    level: float | None,
    out: str | None,
    missing: str,
    sheet: str | None,
    json: bool,
    force: bool,
) -> int:
    """Return the exit code, after predictions were printed or written.

    Raises
    ------
    OptionError
        If the file to write has an ending that tables do not have.
    """
    ending = Path(out).suffix.lower() if out else ""
    if out and ending not in _WRITERS:
        raise OptionError(
            f"{out} does not end in .csv, .parquet or .json", remedy=f"Name it {Path(out).stem}.csv"
        )
    files = targets({"table": out}, source=file, force=force)
    result: FitResult | NetworkResult = load(fit)
    if isinstance(result, NetworkResult):
        table = read(file, sheet=sheet, origins=result.encoding.origins)
        return networks.predicted(result, table, files, json=json)
    table = read(file, sheet=sheet, origins=result.data.origins)
    numbers = [name for name in result.inputs if name in table.columns and name not in result.data.categories]
    clean = table.numeric(numbers, missing=missing)
    made = result.predict(clean, level=level)
    write_whole({path: _WRITERS[ending](made) for path in files.values()})
    for note in clean.notes:
        Screen.of("stderr").write(note)
    screen = Screen.of("stdout")
    if json:
        screen.write(_json(made).decode())
    elif out:
        screen.write(f"{count(len(made.value), 'row')} written to {out}")
    else:
        screen.write(_for_a_person(result, made, clean, screen) if screen.terminal else _csv(made).decode())
    return 0


# ---------------------------------------------------------------------------- files


def _json(made: Prediction) -> bytes:
    """Return columns of numbers, null where one is not finite."""
    columns = {name: finite_rows(values) for name, values in made.to_dict().items()}
    return (json_text.dumps({"level": made.level, **columns}, allow_nan=False) + "\n").encode()


def _csv(made: Prediction) -> bytes:
    return made.to_frame().write_csv().encode()


def _parquet(made: Prediction) -> bytes:
    held = io.BytesIO()
    made.to_frame().write_parquet(held)
    return held.getvalue()


_WRITERS: Mapping[str, Callable[[Prediction], bytes]] = {".csv": _csv, ".parquet": _parquet, ".json": _json}


# ---------------------------------------------------------------------------- a terminal


def _for_a_person(result: FitResult, made: Prediction, table: Table, screen: Screen) -> str:
    page = Page(screen.width, screen.color, screen.unicode)
    level = level_percent(made.level)
    heads = [*made.columns, f"{made.response} ± s.e.", f"{level} of the curve", f"{level} of new readings"]
    shown = min(len(made.value), MOST)
    rows = [[*(exact(float(v[i])) for v in made.columns.values()), *_answer(made, i)] for i in range(shown)]
    cells = [[page.text(text) for text in row] for row in (heads, *rows)]
    widths = [max(len(row[j]) for row in cells) for j in range(len(heads))]
    lines: list[Line] = [
        (
            Span("  "),
            Span(
                "   ".join(pad(text, width, right=True) for text, width in zip(row, widths, strict=True)),
                "" if i else "dim",
            ),
        )
        for i, row in enumerate(cells)
    ]
    rest = len(made.value) - shown
    end = f"and {count(rest, 'row')} more; --out FILE.csv, or a pipe, gives all" if rest else ""
    head = page.span(f"{result.formula}, {count(table.n, 'row')} of {table.source}", "bold")
    return page.render([(head,), (), *lines, *([(page.span(f"  {end}", "dim"),)] if end else [])])


def _answer(made: Prediction, i: int) -> tuple[str, str, str]:
    value, error = float(made.value[i]), float(made.stderr[i])
    if not np.isfinite(error):
        return significant(value, 6), "any", "any"
    shown, spread, power = plus_minus(value, error)
    bands = (made.confidence, made.prediction)
    inner, outer = (interval_text(float(band[0][i]), float(band[1][i]), value, error) for band in bands)
    return (f"({shown} ± {spread}){power}" if power else f"{shown} ± {spread}"), inner, outer
