"""gradfit plot, models and show: looking at data, at the library, at a formula."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import stage
from gradfit.cli.arguments import condition, names_in
from gradfit.cli.screen import Screen
from gradfit.cli.writing import figure_bytes, targets
from gradfit.errors import DataError
from gradfit.formula import CONSTANTS, Formula, parse
from gradfit.kernel.source import python_source
from gradfit.library import GROUPS, MODELS, LibraryModel, find
from gradfit.model import bind_formula
from gradfit.notation import count, exact, listing, with_unit
from gradfit.outputs import write_whole
from gradfit.prepare import chosen_rows
from gradfit.table import Table, read
from gradfit.terminal.drawing import Canvas, data_plot, frame
from gradfit.terminal.text import Line, Page, Span, fold, pad

Array = NDArray[np.float64]
MOST_PLOTS = 3  # pairs of columns drawn one below the other

# ---------------------------------------------------------------------------- plot


def look(
    file: str,
    x: str | None,
    y: str | None,
    *,
    out: str | None,
    where: Sequence[str],
    sheet: str | None,
    force: bool,
) -> int:
    """Return the exit code, after data were drawn."""
    files = targets({"figure": out}, source=file, force=force)
    table = read(file, sheet=sheet)
    table = chosen_rows(table, condition(where), None) if where else table
    if x is not None:
        wanted = [name for name in (x, y) if name is not None]
        table.require(wanted)
    screen = Screen.of("stdout")
    drawn = _drawn(table, x, y, screen) if screen.terminal or out is None else ""
    for target in files.values():
        write_whole({target: figure_bytes(stage("figures").data_figure(table, x, y), target.suffix)})
    screen.write("\n\n".join(part for part in (drawn, f"figure  {out}" if out else "") if part))
    return 0


def _drawn(table: Table, x: str | None, y: str | None, screen: Screen) -> str:
    """Return the columns as a list, and the plots of those named or of the first few."""
    numbers = _numeric(table, [x] if x and not y else [x, y] if x and y else list(table.columns))
    plots = [_one_plot(numbers, pair, screen) for pair in _pairs(numbers, x, y)]
    page = Page(screen.width, screen.color, screen.unicode)
    about = [] if x else [page.render(_columns(table, numbers, page))]
    return "\n\n".join([*about, *plots])


def _numeric(table: Table, names: Sequence[str]) -> Table:
    """Return the table with those columns as numbers that can be; a column that was named must be.

    Raises
    ------
    DataError
        If there is none.
    """
    good: dict[str, Array] = {}
    for name in names:
        values = table.columns[name]
        if values.dtype != object:
            good[name] = values
        elif len(names) <= 2 and len(table.columns) > 2:
            good[name] = table.numeric([name], missing="drop").columns[name]
    if not good:
        raise DataError(
            f"{table.source} has no column of numbers to draw", remedy=f"Columns: {listing(table.names)}"
        )
    return Table(good, table.units, table.rows, table.source)


def _pairs(table: Table, x: str | None, y: str | None) -> list[tuple[str, str]]:
    if x is not None:
        return [(x, y) if y is not None else ("row", x)]
    *others, last = table.columns
    return [(name, last) for name in others[:MOST_PLOTS]] or [("row", last)]


def _one_plot(table: Table, pair: tuple[str, str], screen: Screen) -> str:
    x, y = pair
    across = table.columns[x] if x in table.columns else table.rows.astype(np.float64)
    return data_plot(
        across,
        table.columns[y],
        names=pair,
        units=table.units,
        width=screen.width,
        color=screen.color,
        unicode=screen.unicode,
    )


def _columns(table: Table, numbers: Table, page: Page) -> list[Line]:
    """Return a line for each column: name, unit, range, how many cells have no number."""
    names = [
        with_unit(name, f"[{table.units[name]}]") if name in table.units else name for name in table.columns
    ]
    width = max(len(page.text(name)) for name in names)
    lines: list[Line] = [
        (page.span(table.source, "bold"), page.span(f"   {count(table.n, 'row')}", "dim")),
        (),
    ]
    for name, shown in zip(table.columns, names, strict=True):
        words = _range(numbers.columns[name]) if name in numbers.columns else "text"
        lines.append((Span("  "), Span(pad(page.text(shown), width)), page.span(f"   {words}", "dim")))
    return [*lines, *((page.span(f"  {note}", "dim"),) for note in table.notes)]


def _range(values: Array) -> str:
    known = values[np.isfinite(values)]
    lost = len(values) - len(known)
    missing = f", {count(lost, 'row')} without a number" if lost else ""
    if not len(known):
        return f"no numbers{missing}"
    return f"{exact(float(known.min()))} to {exact(float(known.max()))}{missing}"


# ---------------------------------------------------------------------------- models


def models_shown(name: str | None, *, plot: str | None, force: bool) -> int:
    """Return the exit code, after the library, or one model of it, was shown."""
    files = targets({"figure": plot}, source="-", force=force)
    screen = Screen.of("stdout")
    page = Page(screen.width, screen.color, screen.unicode)
    chosen = [find(name)] if name is not None else list(MODELS.values())
    for target in files.values():
        write_whole({target: figure_bytes(stage("figures").models_figure(chosen), target.suffix)})
    text = page.render(_library(page)) if name is None else _one_model(chosen[0], page)
    screen.write(text + (f"\n\nfigure  {plot}" if plot else ""))
    return 0


def _library(page: Page) -> list[Line]:
    width = max(len(name) for name in MODELS)
    lines: list[Line] = []
    for group in GROUPS:
        lines += [*([()] if lines else []), (page.span(group, "dim"),)]
        for model in MODELS.values():
            if model.group != group:
                continue
            first, *rest = fold(page.text(model.formula), max(page.width - width - 5, 20))
            lines.append((Span("  "), page.span(pad(model.name, width), "bold"), Span(f"   {first}")))
            lines += [(Span(" " * (width + 5)), Span(part)) for part in rest]
    end = "gradfit models NAME tells what a model is for; gradfit fit FILE NAME fits it"
    return [*lines, (), *((Span(part, "dim"),) for part in fold(end, page.width))]


def _one_model(model: LibraryModel, page: Page) -> str:
    width = max(len(name) for name in model.meaning)
    lines: list[Line] = [
        (page.span(model.name, "bold"), page.span(f"   {model.title}")),
        (),
        (page.span(f"  {model.formula}"),),
        (),
    ]
    lines += [(page.span(f"  {part}", "dim"),) for part in fold(page.text(model.about), page.width - 2)]
    lines.append(())
    for name, meaning in model.meaning.items():
        first, *rest = fold(page.text(meaning), page.width - width - 5)
        lines.append((Span("  "), page.span(pad(name, width), "bold"), Span(f"   {first}")))
        lines += [(Span(" " * (width + 5)), Span(part)) for part in rest]
    values = ", ".join(f"{name} = {exact(value)}" for name, value in model.example.items())
    lines += [(), *_example(model, page), (), (page.span(f"  with {values}", "dim"),)]
    return page.render(lines)


def _example(model: LibraryModel, page: Page) -> list[Line]:
    """Return the curve of a model at its example."""
    x = np.linspace(*model.span, 400)
    with np.errstate(all="ignore"):
        y = np.asarray(parse(model.formula).right.evaluate({**model.example, "x": x}))
    y = np.broadcast_to(y, x.shape)
    placed = frame(x, y, ("x", "", "y", ""), (page.width - 1, 14))
    if placed is None:
        return []
    canvas = Canvas(placed, page.signs, braille=page.unicode)
    canvas.curve(x, y)
    return canvas.lines(page)


# ---------------------------------------------------------------------------- show


def shown(model: str, columns: str | None) -> int:
    """Return the exit code, after a formula was explained.

    Raises
    ------
    DataError
        If it is not known which names are data.
    """
    text = find(model).formula if model.strip().isidentifier() else model
    formula = parse(text)
    names = names_in(columns) if columns is not None else usual_columns(formula)
    bound = bind_formula(text, names, None if formula.left else names[-1], frozenset[str](), "--columns")
    if bound.graph is None:
        raise DataError(f"{text!r} has no graph")
    linear = [bound.parameters[j] for j in bound.graph.linear]
    screen = Screen.of("stdout")
    page = Page(screen.width, screen.color, screen.unicode)
    facts = [
        ("observed", bound.response),
        ("data", listing(bound.inputs)),
        ("parameters", listing(bound.parameters)),
        ("linear", f"{listing(linear)}{_closed(len(linear) == len(bound.parameters))}" if linear else "none"),
    ]
    lines: list[Line] = [(page.span(text, "bold"),), ()]
    lines += [(page.span(f"  {name:<10}  ", "dim"), page.span(value)) for name, value in facts]
    lines += [(page.span(f"  {note}", "dim"),) for note in bound.notes]
    screen.write(f"{page.render(lines)}\n\n{python_source(bound.graph)}")
    return 0


def _closed(all_linear: bool) -> str:  # noqa: FBT001  a fact, not a switch
    return ": solved in closed form" if all_linear else ": solved apart in a search for start values"


def usual_columns(formula: Formula) -> tuple[str, ...]:
    """Return the names that are data by custom: x, x1, x2 ..., or t, and the left side.

    Raises
    ------
    DataError
        If there is no such name.
    """
    right = [name for name in formula.right.names if name not in CONSTANTS]
    left = [name for name in formula.left.names if name not in CONSTANTS] if formula.left else []
    numbered = [name for name in right if name[0] == "x" and name[1:].isdigit()]
    custom = next((names for names in (["x"], numbered, ["t"]) if names and set(names) <= set(right)), [])
    if not custom:
        raise DataError(
            f"Which names of {formula.text!r} are data is not known without a table",
            remedy=f"Say so: --columns {','.join([*right[:1], *(left or ['y'])])}",
        )
    return (*custom, *(left or ["y"]))
