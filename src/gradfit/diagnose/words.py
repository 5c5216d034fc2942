"""How rows, parameters and arguments of fit are written in a finding."""

from collections.abc import Mapping, Sequence
from math import floor, isfinite, log10
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit.diagnose.evidence import Evidence
from gradfit.notation import THIN, fixed, listing, p_value, significant

MOST = 8  # rows or names listed in a sentence


def p_text(p: float) -> str:
    """Return p with its sign: "p = 0.012", "p < 0.001"."""
    text = p_value(p)
    return f"p {text}" if text.startswith("<") else f"p = {text}"


def times(ratio: float) -> str:
    """Return a factor with two digits; beyond a million it is only said to be more.

    >>> times(5.23), times(41.9), times(float("inf"))
    ('5.2', '42', 'over a million')
    """
    if not ratio < 1e6:
        return "over a million"
    return significant(ratio, 2)


def percent(share: float, *, plus: bool = False) -> str:
    """Return a share in per cent with two digits.

    >>> percent(-0.1042, plus=True).replace(THIN, " ")
    '−10 %'
    """
    if not abs(share) < 1e3:
        return f"over 100{THIN}000{THIN}%"
    size = abs(100 * share)
    decimals = max(0, 1 - floor(log10(size))) if 0 < size < 10 else 0
    return f"{fixed(100 * share, min(decimals, 3), plus=plus)}{THIN}%"


def quantity(value: float, unit: str, digits: int = 3) -> str:
    """Return a number with its unit, when it has one."""
    whole = value == round(value) and abs(value) < 1e6 if isfinite(value) else False
    text = fixed(value, 0) if whole else significant(value, digits)
    return f"{text}{THIN}{unit}" if unit else text


def numbers(rows: NDArray[Any]) -> tuple[float, ...]:
    """Return row numbers as plain numbers."""
    return tuple(int(row) if float(row).is_integer() else float(row) for row in rows[:1000].tolist())


def rows_text(rows: NDArray[Any]) -> str:
    """Return "row 24" or "rows 3, 17 and 24", cut after MOST."""
    names = [str(row) for row in numbers(rows)]
    hidden = len(rows) - MOST
    if hidden > 0:
        return f"rows {', '.join(names[:MOST])} and {fixed(hidden, 0)} more"
    return ("row " if len(names) == 1 else "rows ") + listing(names, most=MOST)


def literal(value: float) -> str:
    """Return a number as Python reads it, with three digits.

    >>> literal(1.0), literal(-17.3048), literal(5.3e-12)
    ('1', '-17.3', '5.3e-12')
    """
    return f"{value:.3g}" if isfinite(value) else "1"


def setting(argument: str, values: Mapping[str, str]) -> str:
    """Return an argument that maps names to values.

    >>> setting("fixed", {"b": "1"})
    'fixed={"b": 1}'
    """
    inside = ", ".join(f'"{name}": {value}' for name, value in values.items())
    return f"{argument}={{{inside}}}"


def fix(e: Evidence, members: Sequence[int]) -> str:
    """Return the argument that fixes parameters where they are."""
    return setting("fixed", {e.names[j]: literal(float(e.values[j])) for j in members})


def column(name: str) -> str:
    """Return a column as a formula names it: braces round what is no name.

    >>> column("dose"), column("dose rate"), column("log(y)")
    ('dose', '{dose rate}', '(log(y))')
    """
    if name.isidentifier():
        return name
    return f"({name})" if name.endswith(")") and "(" in name else f"{{{name}}}"


def where_is(e: Evidence, index: int) -> str:
    """Return the inputs of one row: "x = −1, t = 3 s"."""
    parts = [
        f"{name} = {quantity(float(x[index]), e.units.get(name, ''))}"
        for name, x in list(e.inputs.items())[:3]
        if np.isfinite(x[index])
    ]
    return ", ".join(parts)


def parameters_text(e: Evidence, most: int = 4) -> str:
    """Return parameters with their values: "a = 2.1 and b = 0.5"."""
    return listing(
        [f"{n} = {significant(float(v), 3)}" for n, v in zip(e.names, e.values, strict=True)], most=most
    )


def sentence(text: str) -> str:
    """Return text with a full stop at its end."""
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else text + "."
