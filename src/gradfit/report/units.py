"""Units of parameters, from those of the columns: what the formula's own operations allow and nothing more."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction

from gradfit.formula import Expression

Unit = Mapping[str, Fraction]  # symbol -> power; empty: a plain number
_PLAIN: Unit = {}
_NO_UNIT = "\0"  # begins the symbol of a column that has no unit: "one of whatever t_u is counted in"
_SYMBOL = re.compile(
    r"(?P<name>[^\W\d_¹²³⁴]+|[°%µΩ′″][^\W\d_¹²³⁴]*)(?:\^?(?P<power>-?\d)|(?P<sign>⁻?)(?P<small>[¹²³⁴]))?"
)
_SMALL = {"¹": 1, "²": 2, "³": 3, "⁴": 4}
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

_SAME = frozenset(
    {"add", "sub", "min", "max", "neg", "pos", "abs", "floor", "ceil", "where"}
)  # all alike, and the result
_ALIKE = frozenset({"lt", "le", "gt", "ge", "eq", "ne", "atan2"})  # all alike, the result a plain number
_FREE = frozenset({"step", "sign", "and", "or", "not", "voigt"})  # say nothing


class _ConflictError(Exception):
    """Two operations ask for different units."""


def read_unit(text: str) -> Unit:
    """Return the powers of the symbols in a unit; a text that is not understood is one symbol.

    >>> write_unit(read_unit("m/s^2")), list(read_unit("counts/m/s"))
    ('m/s²', ['counts/m/s'])
    """
    above, _, below = text.partition("/")
    out: dict[str, Fraction] = {}
    for part, sign in ((above, 1), (below, -1)):
        for word in re.split(r"[·*\s\u202f]+", part.strip().strip("()")):
            match = _SYMBOL.fullmatch(word)
            if word in ("", "1"):
                continue
            if match is None or "/" in below:
                return {text: Fraction(1)}
            small = _SMALL.get(match["small"] or "", 1) * (-1 if match["sign"] else 1)
            power = int(match["power"]) if match["power"] else small
            out[match["name"]] = out.get(match["name"], Fraction(0)) + sign * power
    return {name: power for name, power in out.items() if power}


def write_unit(unit: Unit) -> str:
    """Return a unit as it is read; empty for a plain number, and where a power is not whole.

    >>> write_unit({"V": Fraction(1), "s": Fraction(-2)}), write_unit({"s": Fraction(-1)})
    ('V/s²', '1/s')
    """
    if any(power.denominator != 1 for power in unit.values()):
        return ""
    named = {name: int(power) for name, power in unit.items() if not name.startswith(_NO_UNIT)}
    above = "·".join(_powered(name, power) for name, power in named.items() if power > 0)
    below = [_powered(name, -power) for name, power in named.items() if power < 0]
    text = above or ("1" if below else "")
    if below:
        text += f"/{below[0]}" if len(below) == 1 else f"/({'·'.join(below)})"
    for name, power in unit.items():
        if name.startswith(_NO_UNIT):
            if power != -1:
                return ""
            text = f"{text or '1'} per unit of {name[1:]}"
    return text


def _powered(name: str, power: int) -> str:
    return name if power == 1 else f"{name}{str(power).translate(_SUPERSCRIPT)}"


def parameter_units(
    expression: Expression, columns: Mapping[str, str], response: str, parameters: Iterable[str]
) -> dict[str, str]:
    """Return the units of those parameters for which the formula leaves no choice.

    Parameters
    ----------
    expression : Expression
        The right side.
    columns : mapping of str to str
        Units of its input columns, empty where there is none.
    response : str
        Unit of the left side, empty where there is none.
    parameters : iterable of str
        The other names.

    Examples
    --------
    >>> from gradfit.formula import parse_expression
    >>> parameter_units(parse_expression("a*exp(-k*t)"), {"t": "s"}, "V", ["a", "k"])
    {'a': 'V', 'k': '1/s'}
    """
    if not response and not any(columns.values()):
        return {}
    nodes = expression.nodes
    sought = frozenset(parameters)
    known = [_leaf(node, columns, sought) for node in nodes]
    known[-1] = read_unit(response) if response else {_NO_UNIT: Fraction(1)}
    try:
        _settle(nodes, known)
        _plain_bases(nodes, known)
        _settle(nodes, known)
    except _ConflictError:
        return {}
    found = {
        str(node[1]): known[i] for i, node in enumerate(nodes) if node[0] == "name" and node[1] in sought
    }
    return {
        name: text
        for name, unit in found.items()
        if unit and _NO_UNIT not in unit and (text := write_unit(unit))
    }


def _leaf(node: tuple[object, ...], columns: Mapping[str, str], sought: frozenset[str]) -> Unit | None:
    name = str(node[1])
    if node[0] != "name" or name in sought:
        return None
    if name not in columns:  # pi, e
        return _PLAIN
    return read_unit(columns[name]) if columns[name] else {_NO_UNIT + name: Fraction(1)}


def _plain_bases(nodes: Sequence[tuple[object, ...]], known: list[Unit | None]) -> None:
    """Take what is raised to a fitted power for a plain number, where nothing else is known: (dose/ec50)**h."""
    for node in nodes:
        if node[0] == "pow" and _exponent(nodes, int(node[2])) is None and known[int(node[1])] is None:  # pyright: ignore[reportArgumentType]  # ids
            known[int(node[1])] = _PLAIN  # pyright: ignore[reportArgumentType]  # an id


def _settle(nodes: Sequence[tuple[object, ...]], known: list[Unit | None]) -> None:
    """Let every operation tell its neighbours their units, until nothing new is said."""
    for _ in range(len(nodes) + 1):
        before = sum(unit is not None for unit in known)
        for i in reversed(range(len(nodes))):
            if nodes[i][0] not in ("const", "name", "text"):
                _say(nodes, known, i)
        if sum(unit is not None for unit in known) == before:
            return


def _say(nodes: Sequence[tuple[object, ...]], known: list[Unit | None], i: int) -> None:
    name, *rest = nodes[i]
    ids = [int(j) for j in rest]  # pyright: ignore[reportArgumentType]  # operations hold ids
    varying = [j for j in ids if nodes[j][0] != "const"]
    if name in _SAME:
        _all_alike(known, [i, *(varying[1:] if name == "where" else varying)])
    elif name in _ALIKE:
        _all_alike(known, varying)
        _set(known, i, _PLAIN)
    elif name in ("mul", "div"):
        _product(
            known,
            i,
            [
                (j, -1 if name == "div" and j == ids[1] and k else 1)
                for k, j in enumerate(ids)
                if j in varying
            ],
        )
    elif name in ("pow", "sqrt"):
        _power(nodes, known, i, ids)
    elif name not in _FREE:
        for j in (i, *varying):
            _set(known, j, _PLAIN)


def _set(known: list[Unit | None], i: int, unit: Unit) -> None:
    old = known[i]
    if old is not None and dict(old) != dict(unit):
        raise _ConflictError
    known[i] = unit


def _all_alike(known: list[Unit | None], ids: Sequence[int]) -> None:
    unit = next((known[j] for j in ids if known[j] is not None), None)
    if unit is not None:
        for j in ids:
            _set(known, j, unit)


def _product(known: list[Unit | None], i: int, factors: Sequence[tuple[int, int]]) -> None:
    """Settle the one unknown of result = product of factors to the power 1 or -1.

    Raises
    ------
    _ConflictError
        If nothing is unknown and the units do not agree.
    """
    terms = [(i, -1), *factors]
    unknown = [(j, sign) for j, sign in terms if known[j] is None]
    if len(unknown) > 1:
        return
    total = _combined((unit, sign) for j, sign in terms if (unit := known[j]) is not None)
    if unknown:
        j, sign = unknown[0]
        _set(known, j, _combined([(total, -sign)]))
    elif total:
        raise _ConflictError


def _combined(parts: Iterable[tuple[Unit, Fraction | int]]) -> Unit:
    out: dict[str, Fraction] = {}
    for unit, times in parts:
        for name, power in unit.items():
            out[name] = out.get(name, Fraction(0)) + power * times
    return {name: power for name, power in out.items() if power}


def _power(nodes: Sequence[tuple[object, ...]], known: list[Unit | None], i: int, ids: Sequence[int]) -> None:
    base = ids[0]
    exponent = Fraction(1, 2) if len(ids) == 1 else _exponent(nodes, ids[1])
    if exponent is None:  # a power that is fitted: of a plain number it is one, else its unit has no name
        _set(known, ids[1], _PLAIN)
        if known[base] is not None and not known[base]:
            _set(known, i, _PLAIN)
        return
    above, below = known[base], known[i]
    if above is not None and nodes[base][0] != "const":
        _set(known, i, _combined([(above, exponent)]))
    elif below is not None and exponent:
        _set(known, base, _combined([(below, 1 / exponent)]))


def _exponent(nodes: Sequence[tuple[object, ...]], i: int) -> Fraction | None:
    """Return the value of an exponent that is a number."""
    kind, what = nodes[i][0], nodes[i][1]
    if kind == "const" and isinstance(what, float | int):
        return Fraction(what).limit_denominator(12)
    if kind == "neg" and isinstance(what, int) and (inner := _exponent(nodes, what)) is not None:
        return -inner
    return None
