"""From what a caller hands over as model and data to a model bound to the columns of a table."""

from collections.abc import Callable, Mapping

import numpy as np

from gradfit.errors import DataError, OptionError
from gradfit.formula import parse
from gradfit.library import MODELS, find
from gradfit.model import BoundModel, bind_formula, bind_function, observed_column, settle_names
from gradfit.prepare import Data
from gradfit.table import Table, read


def named_in(start: object, bounds: object, fixed: Mapping[str, float] | None) -> frozenset[str]:
    """Return the names of parameters that start, bounds and fixed speak of."""
    given: list[str] = []
    for part in (start, bounds, fixed):
        if part is not None and isinstance(part, Mapping):
            given += map(str, part)
    return frozenset(given)


def table_of(data: object) -> Table:
    """Return the table that data are read into.

    Raises
    ------
    DataError
        If there are no data, or no rows.
    """
    if data is None:
        raise DataError(
            "fit() needs data", remedy='Give a file or columns: fit("y = a*x + b", {"x": x, "y": y})'
        )
    table = read(data)
    if table.n == 0:
        raise DataError(f"{table.source} has no rows")
    return table


def with_codes(model: object, table: Table) -> Table:
    """Return the table with codes in the text columns that a formula compares with a piece of text."""
    model = _definition(model)
    if not isinstance(model, str) or not ('"' in model or "'" in model):
        return table
    for name in parse(model).right.compared:
        if name in table.columns:
            table = table.coded(name)
    return table


def bind(
    model: object,
    table: Table,
    response: str | None = None,
    *,
    start: object = None,
    named: frozenset[str] = frozenset(),
    missing: str = "error",
) -> BoundModel:
    """Return the model bound to a table's columns.

    Raises
    ------
    OptionError
        If it is neither a formula, nor a library model's name, nor a function.
    """
    columns = tuple([name for name in table.columns if name[:1] != "\0"])
    model = _definition(model)
    if isinstance(model, BoundModel):
        return model
    if isinstance(model, str):
        text = model.strip()
        if text.isidentifier() and text not in columns:
            text = _library_formula(text, columns, response)
        levels = tuple(table.categories.items())
        return bind_formula(text, columns, response, named, table.source, levels)
    if not callable(model):
        raise OptionError(f"A model is a formula or a function, and {type(model).__name__} is neither")
    numbers = [c for c in columns if table.columns[c].dtype != object]
    count = (
        None if start is None or isinstance(start, str | Mapping) else len(np.atleast_1d(np.asarray(start)))
    )
    names = settle_names(model, numbers, response, list(start) if isinstance(start, Mapping) else count)
    observed = observed_column(
        numbers, set(names.inputs), response, getattr(model, "__name__", "the model"), table.source
    )
    clean = table.numeric([*names.inputs, observed], missing=missing)
    point = None if count is None else np.asarray(start, dtype=np.float64)
    if isinstance(start, Mapping) and set(names.parameters) <= set(start):
        point = np.array([float(start[n]) for n in names.parameters])
    return bind_function(model, names, [clean.columns[n] for n in names.inputs], observed, point)


def _definition(model: object) -> object:
    """Return the formula or function inside a gradfit.Model, and any other model as it is."""
    return model if isinstance(model, str) else getattr(model, "definition", model)


def _library_formula(name: str, columns: tuple[str, ...], response: str | None) -> str:
    formula = find(name).formula
    if response is None and "y" not in columns:
        others = [c for c in columns if c != "x"]
        response = others[-1] if len(columns) == 2 else None
        if response is None:
            raise DataError(
                f"{name} needs to know which column was observed", remedy=f'Give response="{columns[-1]}"'
            )
    response = response or "y"
    rest = [c for c in columns if c != response]
    if "x" not in rest and len(rest) != 1:
        raise DataError(
            f"{name} is a function of one column, and {', '.join(rest) or 'none'} could be meant",
            remedy=f'Write the formula out: "{formula}"',
        )
    x = "x" if "x" in rest else rest[0]
    left, right = formula.split("=", 1)
    del left
    words = {"x": _quoted(x)}
    return f"{_quoted(response)} ={_renamed(right, words)}"


def _quoted(name: str) -> str:
    return name if name.isidentifier() else f"{{{name}}}"


def _renamed(text: str, words: Mapping[str, str]) -> str:
    out, word = [], ""
    for character in text + "\0":
        if character.isalnum() or character == "_":
            word += character
            continue
        out.append(words.get(word, word))
        word = ""
        if character != "\0":
            out.append(character)
    return "".join(out)


def guess_of(model: object, rows: Data, start: object) -> Callable[[], dict[str, float]] | None:
    """Return the library model's own guess, where the model is one."""
    model = _definition(model)
    if not isinstance(model, str) or model.strip() not in MODELS or isinstance(start, str):
        return None
    guess = MODELS[model.strip()].guess
    columns = list(rows.columns.values())
    return lambda: guess(columns[0], rows.y)
