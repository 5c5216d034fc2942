"""At most three sentences at the head of a report: what the fit is good for, or what stands against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import (
    dated,
    fixed,
    interval_text,
    level_percent,
    listing,
    near_one,
    p_value,
    percent,
    places,
    plus_minus,
    reach,
    significant,
    spelled,
    times_in,
    with_unit,
)
from gradfit.view import scale_of, straight, unit_of

if TYPE_CHECKING:
    from gradfit.diagnose import Finding
    from gradfit.parameter import ParameterResult
    from gradfit.result import FitResult

Array = NDArray[np.float64]

MORE = 5  # further readings at each end, in the forecast
GRID = 200  # places between the ends of the input where the band is looked at
_ORDER = {"error": 0, "warning": 1, "info": 2}
_NO_NOISE = "perfect-fit"  # bands and error bars are rounding errors then
_EXPECTED = "few-points-to-test"  # true of every small fit: the third sentence is not for it


def said(result: "FitResult") -> tuple[str, ...]:
    """Return at most three sentences on a fit, worst first; every number in them is computed from the result.

    Trust: what a new reading will do, how well the parameters are known, which checks were made. Caution and No: what
    the worst findings say.
    """
    if result.verdict != "trust":
        return tuple(sentence(finding.message) for finding in worst(result)) or (_stopped(result),)
    noted = [f for f in result.findings if f.severity == "info" and f.code != _EXPECTED]
    if any(finding.code == _NO_NOISE for finding in noted):
        return (sentence(noted[0].message),)
    middle = sentence(noted[0].message) if noted else _known(result)
    return tuple(part for part in (_reading(result), middle, _checked(result)) if part)


def worst(result: "FitResult") -> tuple["Finding", ...]:
    """Return the at most three findings that the verdict rests on, errors first."""
    bad = [finding for finding in result.findings if finding.severity != "info"]
    return tuple(sorted(bad, key=lambda finding: _ORDER[finding.severity])[:3])


def sentence(text: str) -> str:
    """Return text with a full stop at its end, unless it has one.

    >>> sentence("Row 24 lies off the curve")
    'Row 24 lies off the curve.'
    """
    text = text.strip()
    return text if text.endswith((".", "!", "?")) else f"{text}."


def _stopped(result: "FitResult") -> str:
    """Return why the fit is not to be trusted when no finding says it."""
    return sentence(result.message or f"The fit stopped before its minimum: {result.status}")


@dataclass(frozen=True, slots=True)
class Band:
    """Half the width of the band of new readings, where the data are.

    Attributes
    ----------
    near, far : float
        The least and the greatest.
    straight : bool
        Whether the curve is a straight line.
    """

    near: float
    far: float
    straight: bool


def band(result: "FitResult") -> Band | None:
    """Return how far new readings scatter within the measured range, None when that is not known."""
    if result.dof <= 0 or result.n == 0:
        return None
    at = None
    if len(result.inputs) == 1:
        name = result.inputs[0]
        x = result.data.columns[name]
        where: Array = np.linspace(float(x.min()), float(x.max()), GRID)
        at = {name: where}
    # a band that overflows is not told about
    with np.errstate(all="ignore"):
        seen = result.predict(at)
        low, high = seen.prediction
        half = high / 2 - low / 2
    if not np.isfinite(half).all():
        return None
    return Band(float(half.min()), float(half.max()), at is not None and straight(seen.value))


def _reading(result: "FitResult") -> str:
    """Return what a new reading will do."""
    width = band(result)
    if width is None or width.far == 0:
        return ""
    unit = unit_of(result, result.response)
    subject = "A new reading" if unit else f"A new {result.response}"
    subject += _typical(result)
    often = times_in(result.level)
    return f"{subject} will lie within {_widths(width, unit)} of {_target(result, width)}, {often}{_where(result)}."


def _typical(result: "FitResult") -> str:
    """Return for which readings the band holds, where they scatter differently."""
    sigma = result.data.sigma
    if result.data.cholesky is not None:
        return " of typical variance"
    if sigma is None or np.ptp(sigma) <= 1e-9 * sigma.max():
        return ""
    known = result.data.absolute and not result.data.counts
    return " of typical sigma" if known else " of typical weight"


def _widths(width: Band, unit: str) -> str:
    """Return half the band's width as one number, or as a range where it changes."""
    near, far = significant(width.near), significant(width.far)
    if "10" not in near + far:
        decimals = max(places(width.near), 0) if width.far < 30 * width.near else -1
        far = fixed(width.far, decimals) if decimals > 0 else far
    return with_unit(near if near == far else f"{near} to {far}", unit)


def _target(result: "FitResult", width: Band) -> str:
    if not result.inputs:
        shown, _, power = plus_minus(float(result.fitted[0]), width.near)
        return with_unit(f"{shown}{power}", unit_of(result, result.response))
    if len(result.inputs) > 1:
        return "the fitted value"
    return "the line" if width.straight else "the curve"


def _where(result: "FitResult") -> str:
    """Return the range that the band was computed for."""
    if not result.inputs:
        return ""
    if len(result.inputs) > 1:
        return f", at inputs like those of the {spelled(result.n)} rows"
    name = next(iter(result.inputs))
    x = result.data.columns[name]
    ends = with_unit(dated(reach(float(x.min()), float(x.max())), name), scale_of(result, name))
    return f", for {name} from {ends}" if " to " in ends else f", at {name} = {ends}"


def _known(result: "FitResult") -> str:
    """Return how well the parameters are known, and what would bring more."""
    moves = derivatives(result)
    known = sorted(_telling(result, moves), key=_relative, reverse=True)
    if not known:
        return ""
    first = known[0]
    start = f"The slope {first.name}" if moves.slope == first.name else first.name
    low, high = first.interval(result.level)
    after = more_errors(result, moves).get(first.name, np.inf)
    more = f"; {spelled(MORE)} more readings at each end would bring" if after < 0.9 * first.stderr else ""
    if low <= 0 <= high:
        unit = first.unit or moves.units.get(first.name, "")
        ends = with_unit(interval_text(low, high, first.value, first.stderr), unit)
        start += f" may be zero: its {level_percent(result.level)} interval is {ends}"
        return (
            f"{start}{more} its standard error to {with_unit(significant(after), unit)}."
            if more
            else f"{start}."
        )
    start += f" is known to {percent(_relative(first))}{_better(known[1:])}"
    if not more:
        return start + _partner(result, first) + "."
    return (
        f"{start}{more} {'that' if len(known) == 1 else first.name} to {percent(after / abs(first.value))}."
    )


def _relative(parameter: "ParameterResult") -> float:
    return parameter.stderr / abs(parameter.value) if parameter.value else np.inf


def _better(others: list["ParameterResult"]) -> str:
    """Return how the parameters are known that are known better than the first."""
    if len(others) == 1:
        return f" and {others[0].name} to {percent(_relative(others[0]))}"
    if len(others) > 3:
        return f", {spelled(len(others))} others better"
    return f", {listing([p.name for p in others])} better" if others else ""


def _telling(result: "FitResult", moves: "Derivatives") -> list["ParameterResult"]:
    """Return the parameters whose relative error means something: pure offsets are left out unless they are all."""
    sure = [p for p in result.params.values() if p.stderr > 0 and np.isfinite(p.stderr)]
    return [p for p in sure if p.name not in moves.offsets] or sure


@dataclass(frozen=True, slots=True, eq=False)
class Derivatives:
    """How the fitted values move with each free parameter.

    Attributes
    ----------
    columns : Mapping[str, Array]
        (n,) derivatives of the fitted values; empty where one of them is not finite.
    offsets : frozenset of str
        Parameters that only shift the curve up and down.
    slope : str
        The parameter that is the slope of a straight line with an offset, empty when there is none.
    units : Mapping[str, str]
        Units of the offsets and the slope, where the columns have some.
    """

    columns: Mapping[str, Array]
    offsets: frozenset[str] = frozenset()
    slope: str = ""
    units: Mapping[str, str] = field(default_factory=dict[str, str])


def derivatives(result: "FitResult") -> Derivatives:
    """Return how the fitted values move with each free parameter, and what that says about its meaning."""
    _, J = result.problem.model.value_jacobian(result.problem.columns, result.parameters)
    free = [(i, p.name) for i, p in enumerate(result.params.values()) if not p.fixed]
    if not np.isfinite(J).all() or not free:
        return Derivatives({})
    columns = {name: J[:, i] for i, name in free}
    offsets = frozenset(name for name, column in columns.items() if _same(column, np.ones(result.data.n)))
    unit = unit_of(result, result.response)
    units = dict.fromkeys(offsets, unit) if unit else {}
    if len(result.inputs) != 1 or len(free) != 2 or len(offsets) != 1:
        return Derivatives(columns, offsets, "", units)
    x = result.inputs[0]
    (slope,) = (name for name in columns if name not in offsets)
    if not _same(columns[slope], result.data.columns[x]):
        return Derivatives(columns, offsets, "", units)
    if unit:
        units[slope] = f"{unit} per {unit_of(result, x) or 'unit'}"
    return Derivatives(columns, offsets, slope, units)


def _same(column: Array, other: Array) -> bool:
    return bool(np.all(np.abs(column - other) <= 1e-9 * np.abs(other).max(initial=0.0)))


def more_errors(result: "FitResult", moves: Derivatives, more: int = MORE) -> dict[str, float]:
    """Return the standard errors after `more` further readings at each end of the one input, from the Jacobian.

    The readings are taken to scatter as those there did. Empty where there is not exactly one input.
    """
    known = {name: J for name, J in moves.columns.items() if np.isfinite(result.params[name].stderr)}
    if len(result.inputs) != 1 or not known or result.data.cholesky is not None:
        return {}
    x, sigma = result.data.columns[result.inputs[0]], result.data.sigma
    weight = np.ones(result.data.n) if sigma is None else sigma.min() / sigma
    if result.data.counts:
        weight = weight / np.sqrt(np.where(result.fitted > 0, result.fitted, 1.0))
    J = np.column_stack([weight * (column / np.abs(column).max(initial=1e-300)) for column in known.values()])
    ends = np.repeat(J[[int(x.argmin()), int(x.argmax())]], more, axis=0)
    before, after = _inverse_lengths(J), _inverse_lengths(np.vstack([J, ends]))
    if before is None or after is None:
        return {}
    return {
        name: result.params[name].stderr * float(shrink)
        for name, shrink in zip(known, after / before, strict=True)
    }


def _inverse_lengths(J: Array) -> Array | None:
    """Return the square roots of the diagonal of the inverse of J'J, None when that does not exist."""
    if not np.isfinite(J).all():
        return None
    R = np.linalg.qr(J, mode="r")
    try:
        inverse = np.linalg.inv(R)
    except np.linalg.LinAlgError:
        return None
    with np.errstate(all="ignore"):  # what cannot be told apart overflows here, and is not told about
        lengths = np.sqrt(np.sum(inverse**2, axis=1))
    return lengths if np.isfinite(lengths).all() else None


def _partner(result: "FitResult", parameter: "ParameterResult") -> str:
    """Return the parameter that limits this one by moving with it, if there is one."""
    names = list(result.params)
    row = np.abs(np.nan_to_num(result.correlation[names.index(parameter.name)]))
    row[names.index(parameter.name)] = 0.0
    if row.max(initial=0.0) < 0.95:
        return ""
    other = int(row.argmax())
    value = near_one(float(result.correlation[names.index(parameter.name), other]), 2)
    return f"; it moves with {names[other]} (correlation {value})"


def _checked(result: "FitResult") -> str:
    """Return which checks were made."""
    made = [check for check in result.checks if np.isfinite(check.p)]
    if not made:
        return (
            ""
            if result.dof <= 0
            else f"No check of the residuals was made on these {spelled(result.n)} rows."
        )
    least = min(check.p for check in made)
    p = f"p {p_value(least)}" if least < 1e-3 else f"p = {p_value(least)}"
    if len(made) == 1:
        return f"The one check made was not raised ({p}){_caveat(result)}."
    none = "Neither of two checks" if len(made) == 2 else f"None of {spelled(len(made))} checks"
    return f"{none} was raised (smallest {p}){_caveat(result)}."


def _caveat(result: "FitResult") -> str:
    """Return what the checks cannot see, or that no row needs to go where they could have seen it."""
    noted = {finding.code for finding in result.findings}
    if _EXPECTED in noted:
        return f"; with {spelled(result.n)} rows only gross defects would show"
    looked = any("row" in check.name.lower() for check in result.checks)
    return "; no row needs to go" if looked and not noted else ""
