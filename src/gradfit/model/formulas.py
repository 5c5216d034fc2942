"""A formula, bound to the columns of a table."""

import difflib
from functools import lru_cache
from typing import NoReturn

from gradfit.errors import FormulaError
from gradfit.formula import CONSTANTS, Expression, Formula, caret, parse
from gradfit.model.bound import BoundModel, observed_column
from gradfit.trace import trace_formula

Levels = tuple[tuple[str, tuple[str, ...]], ...]


@lru_cache(maxsize=1024)
def bind_formula(  # noqa: PLR0917  the key of the cache: a call by name costs more than the look-up
    text: str,
    columns: tuple[str, ...],
    response: str | None,
    named: frozenset[str],
    source: str,
    levels: Levels = (),
) -> BoundModel:
    """Return a formula bound to columns.

    Parameters
    ----------
    text : str
        The formula.
    columns : tuple of str
        Names that are data.
    response : str or None
        The observed column, for a formula without a left side.
    named : frozenset of str
        Names that the caller treats as parameters (start values, bounds, fixed values): pi and e are constants unless
        they are among them.
    source : str
        Where the columns come from, for messages.
    levels : tuple of (str, tuple of str)
        Columns of codes, and the texts that the codes 0, 1 ... stand for.

    Raises
    ------
    FormulaError
        If a column is missing, nothing is left to fit, or the response stands on both sides.
    """
    formula = parse(text)
    label, left = _left_side(formula, columns, response, source)
    names = formula.right.names
    observed = set(left.names) if left is not None else {label}
    if both := [n for n in names if n in observed]:
        _refuse(formula.right, both[0], f"{both[0]} stands on both sides of {text!r}")
    inputs = tuple(n for n in names if n in columns)
    parameters = tuple(n for n in names if n not in columns and (n not in CONSTANTS or n in named))
    if not parameters:
        unknown = f" {', '.join(names)} are columns." if names else ""
        raise FormulaError(
            f"{text!r} has nothing to fit: no name in it is a parameter.{unknown}",
            remedy="Add one, as in y = a*x + b",
        )
    if not inputs and columns:
        _refuse_without_input(formula, parameters, [c for c in columns if c != label], source=source)
    right = _coded(formula.right, columns, dict(levels), source) if formula.right.compared else formula.right
    graph = trace_formula(right, inputs, parameters)
    notes = (*formula.notes, *_notes(names, columns, parameters))
    return BoundModel(text, label, left, inputs, parameters, graph, expression=right, notes=notes)


def _left_side(
    formula: Formula, columns: tuple[str, ...], response: str | None, source: str
) -> tuple[str, Expression | None]:
    if formula.left is None:
        used = {n for n in formula.right.names if n in columns}
        return observed_column(columns, used, response, formula.text, source), None
    left = formula.left
    for name in left.names:
        if name not in columns and name not in CONSTANTS:
            near = difflib.get_close_matches(name, columns, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            remedy = f"Columns: {', '.join(columns)}.{hint}"
            _refuse(left, name, f"There is no column {name} in {source}", remedy)
    if not any(n in columns for n in left.names):
        raise FormulaError(
            f"The left side of {formula.text!r} holds no column; it must say what was observed"
        )
    if response is not None and response not in left.names:
        raise FormulaError(
            f"response= names {response}, and the left side of {formula.text!r} does not",
            remedy="Leave one of them out",
        )
    if len(left.nodes) == 1:
        return str(left.nodes[0][1]), None
    return formula.text.split("=")[0].strip(), left


def _refuse(expression: Expression, name: str, message: str, remedy: str = "") -> NoReturn:
    """Raise the error that points at a name.

    Raises
    ------
    FormulaError
        Always.
    """
    span = next(s for n, s in zip(expression.nodes, expression.spans, strict=True) if n == ("name", name))
    raise FormulaError(message, remedy=remedy, excerpt=caret(expression.text, *span))


def _refuse_without_input(
    formula: Formula, parameters: tuple[str, ...], others: list[str], *, source: str
) -> None:
    """Refuse a formula without columns: a misspelt one would silently be a parameter. A constant, y = c, is fine."""
    near = [(name, near) for name in parameters for near in difflib.get_close_matches(name, others, 1)]
    if near or len(parameters) > 1:
        name, hint = (near[0][0], f" Did you mean {near[0][1]}?") if near else (parameters[0], "")
        message = (
            f"{formula.text!r} uses no column of {source}, so {', '.join(parameters)} cannot be told apart"
        )
        _refuse(formula.right, name, message, f"Columns: {', '.join(others)}.{hint}")


def _coded(
    right: Expression, columns: tuple[str, ...], levels: dict[str, tuple[str, ...]], source: str
) -> Expression:
    """Return a right side that compares columns with text, for columns of codes."""
    for name, words in right.compared.items():
        if name not in columns:
            near = difflib.get_close_matches(name, columns, 1)
            hint = f" Did you mean {near[0]}?" if near else ""
            message = f"{name} is compared with a piece of text, and is no column of {source}"
            _refuse(right, name, message, f"Columns: {', '.join(columns)}.{hint}")
        if name in right.computed:
            _refuse(
                right, name, f"{name} is compared with a piece of text, and computed with as a number as well"
            )
        levels.setdefault(
            name, tuple(sorted(set(words)))
        )  # no table: the texts of the formula are all there are
    return right.coded(levels)


def _notes(names: tuple[str, ...], columns: tuple[str, ...], parameters: tuple[str, ...]) -> list[str]:
    notes: list[str] = []
    if "e" in names and "e" not in parameters and "e" not in columns:
        notes.append(f"e was read as the constant {CONSTANTS['e']:.6g}; to fit it, give it a start value")
    folded = {c.casefold(): c for c in columns}
    alike = [(p, folded[p.casefold()]) for p in parameters if p.casefold() in folded]
    return notes + [f"{p} was read as a parameter; the column is {c}" for p, c in alike]
