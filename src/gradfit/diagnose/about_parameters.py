"""Findings about the parameters and the way to them, in words."""

import numpy as np

import gradfit.diagnose.laws as laws
from gradfit.diagnose.evidence import ALARM, Array, Evidence, Fact, Finding, Indices, Mask
from gradfit.diagnose.geometry import Geometry
from gradfit.diagnose.parameters import Group, Together, to_fix
from gradfit.diagnose.words import (
    fix,
    literal,
    numbers,
    p_text,
    parameters_text,
    percent,
    quantity,
    rows_text,
    sentence,
    setting,
    times,
    where_is,
)
from gradfit.notation import count, fixed, listing, significant

FAR = 1.0  # confidence radii: beyond, the parameters are not even near
RAISED = ("", "", "²", "³", "⁴")
NEAR = 0.03  # converged fits end below 5e-7


def non_finite(e: Evidence) -> Finding | None:
    """Return what holds a NaN or an infinity first: an input, y, the model, its derivatives, sigma."""
    columns = {**e.inputs, e.response: e.y}
    for name, values in columns.items():
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            only_nan = bool(np.isnan(values[bad]).all())
            said = f"{name} is {'NaN' if only_nan else 'not finite'} in {rows_text(e.rows[bad])}."
            return broken(e, said, bad, 'missing="drop"' if only_nan else "")
    if not np.isfinite(e.values).all():
        lost = [name for name, v in zip(e.names, e.values, strict=True) if not np.isfinite(v)]
        return broken(
            e,
            f"The fit lost {listing(lost)}: no finite value is left.",
            np.zeros(0, np.intp),
            'start="search"',
        )
    return non_finite_model(e)


def non_finite_model(e: Evidence) -> Finding | None:
    """Return where the model, its derivatives or the weights are not finite."""
    bad = np.flatnonzero(~np.isfinite(e.fitted))
    if len(bad):
        return broken(e, f"The model is not finite in {place(e, bad)} with {parameters_text(e)}.", bad, "")
    bad = np.flatnonzero(~np.isfinite(e.residuals))
    if len(bad):
        return broken(
            e, f"The weighted residual is not finite in {place(e, bad)}; see sigma or weights there.", bad, ""
        )
    bad = np.flatnonzero(~np.isfinite(e.jacobian).all(axis=1)) if e.jacobian.size else bad
    if len(bad):
        by = [name for j, name in enumerate(e.names) if not np.isfinite(e.jacobian[:, j]).all()]
        return broken(e, f"The derivative by {listing(by)} is not finite in {place(e, bad)}.", bad, "")
    if e.status == "non-finite":
        return broken(e, e.message or "The fit stopped where the model is not finite", bad, 'start="search"')
    return None


def place(e: Evidence, bad: Indices) -> str:
    """Return rows, and the inputs of the first."""
    at = where_is(e, int(bad[0]))
    return rows_text(e.rows[bad]) + (f" ({at})" if at else "")


def broken(e: Evidence, message: str, bad: Indices, remedy: str) -> Finding:
    """Return the finding that numbers are missing; rows are left out where few enough are bad."""
    few = len(bad) <= 20 and len(e.y) - len(bad) > len(e.names)
    left_out = f"exclude={[int(row) for row in e.rows[bad]]}" if few else 'start="search"'
    facts: dict[str, Fact] = {"rows": numbers(e.rows[bad]), "count": len(bad)}
    return Finding("non-finite", "error", sentence(message), remedy or left_out, facts)


def too_few_points(e: Evidence) -> Finding | None:
    """Return the finding on n - k: an error at 0 and below, a warning at 1 and 2."""
    n, k = e.jacobian.shape
    dof = n - k
    facts: dict[str, Fact] = {"points": n, "parameters": k, "dof": dof}
    if dof > 2 or k == 0:
        return None
    remedy = fix(e, [k - 1])
    points = f"{count(n, 'point')} for {count(k, 'parameter')}"
    if dof < 0:
        return Finding("too-few-points", "error", f"{points}: too few to determine them.", remedy, facts)
    if dof == 0:
        said = f"{points}: the curve goes through every point and nothing is left to judge it by."
        return Finding("too-few-points", "error", said, remedy, facts)
    t = fixed(laws.student_quantile(dof), 1)
    said = f"{points}: 95 % intervals reach {t} standard errors to each side, and no residual can be tested."
    return Finding("too-few-points", "warning", said, remedy, facts)


def too_few_places(e: Evidence, places: int) -> Finding:
    """Return the finding that x takes fewer values than there are parameters."""
    k, x = len(e.names), listing(list(e.inputs))
    said = f"{x} takes only {count(places, 'different value')}, too few for {count(k, 'parameter')}."
    facts: dict[str, Fact] = {"places": places, "parameters": k}
    return Finding("too-few-points", "error", said, fix(e, range(places, k)), facts)


def unused(e: Evidence, dead: list[int]) -> Finding | None:
    """Return the finding that parameters do nothing: the model does not hold them, or no point feels them."""
    never = [name for name in e.unused if name in e.names]  # what is fixed may stay unused
    without = [e.names[j] for j in dead if e.names[j] not in never]
    if not never and not without:
        return None
    parts = [f"the model never uses {listing(never)}"] if never else []
    parts += [f"no point moves when {listing(without, 'or')} does"] if without else []
    text = " and ".join(parts)
    known = dict(zip(e.names, (literal(float(v)) for v in e.values), strict=True))
    remedy = setting("fixed", {name: known.get(name, "0") for name in [*never, *without]})
    value = "any value" if len(never) + len(without) == 1 else "any values"
    said = f"{text[0].upper()}{text[1:]}: {value} would give the same curve."
    return Finding("unidentifiable", "error", said, remedy, {"parameters": (*never, *without)})


def unidentifiable(e: Evidence, g: Geometry, group: Group) -> Finding:
    """Return the finding that only a combination of the group is determined, naming it where it has a name."""
    names = [e.names[j] for j in group.members]
    left = len(names) - group.free
    product = product_of(names, group.slope * e.values[list(group.members)]) if left == 1 else ""
    total = sum_of(names, group.slope) if left == 1 else ""
    known = line_of(e, names, group.slope) if len(names) == 2 else ""
    known = known or (product or total if not (product and total) else "")  # at a = b the two look alike
    what = f"only {known or 'one combination of them'} is determined"
    if left > 1:
        what = f"only {left} combinations of them are determined"
    at = {product: "1", total: "0"}.get(known) if known else None
    fixes = to_fix(group, g)
    remedy = setting("fixed", {e.names[j]: at for j in fixes}) if at else fix(e, fixes)
    facts: dict[str, Fact] = {"parameters": tuple(names), "determined": known, "singular_ratio": group.ratio}
    cause = "" if known and known == product else still_column(e)
    if cause:
        facts["constant"] = tuple(still_columns(e))
        said = f"{cause}, so {listing(names)} cannot be told apart: {what}."
        return Finding("unidentifiable", "error", said, remedy, facts)
    ratio = significant(group.ratio, 1)
    said = f"{listing(names)} cannot be told apart: {what} (smallest singular value {ratio} of the largest)."
    return Finding("unidentifiable", "error", said, remedy, facts)


def still_columns(e: Evidence) -> list[str]:
    """Return the inputs that hold one value, or hardly vary beside their size."""
    still = [name for name, x in e.inputs.items() if float(np.ptp(x)) <= 1e-9 * float(np.max(np.abs(x)))]
    return [*e.constant, *(name for name in still if name not in e.constant)]


def still_column(e: Evidence) -> str:
    """Return the words for the first such column, "" when every column varies."""
    for name in still_columns(e):
        x = e.inputs.get(name)
        if x is None or float(np.ptp(x)) == 0:
            value = f" {quantity(float(x[0]), e.units.get(name, ''))}" if x is not None else " the same"
            return f"{name} is{value} in all {fixed(len(e.y), 0)} rows"
        return (
            f"{name} varies by only {significant(float(np.ptp(x)) / float(np.max(np.abs(x))), 1)} of its size"
        )
    return ""


def product_of(names: list[str], weights: Array) -> str:
    """Return the product of small powers that moves by these relative amounts, "" when there is none.

    >>> product_of(["a", "b", "c"], np.array([3.0, -3.0, 6.0]))
    'a·c²/b'
    """
    powers = whole(weights)
    if powers is None:
        return ""
    above = [name + RAISED[abs(p)] for name, p in zip(names, powers, strict=True) if p > 0]
    below = [name + RAISED[abs(p)] for name, p in zip(names, powers, strict=True) if p < 0]
    under = "·".join(below)
    return "·".join(above) + ("/" if below else "") + (f"({under})" if len(below) > 1 else under)


def sum_of(names: list[str], weights: Array) -> str:
    """Return the sum of small multiples that moves by these amounts, "" when there is none.

    >>> sum_of(["a", "b", "c"], np.array([3.0, -3.0, 6.0]))
    'a − b + 2·c'
    """
    parts = [
        (" + " if c > 0 else " − ") + (f"{abs(c)}·" if abs(c) > 1 else "") + name
        for name, c in zip(names, whole(weights) or [], strict=False)
    ]
    return "".join(parts)[3:]


def line_of(e: Evidence, names: list[str], slope: Array) -> str:
    """Return the value of a line at an input that holds one value, "5·w + b" at 5; "" where that is not it."""
    for name in still_columns(e):
        at = float(e.inputs[name][0]) if name in e.inputs else 0.0
        for i, j in ((0, 1), (1, 0)):
            if at and abs(float(slope[i] / slope[j]) / at - 1) < 1e-9:
                return f"{quantity(at, '')}·{names[i]} + {names[j]}"
    return ""


def whole(weights: Array) -> list[int] | None:
    """Return the weights as small whole numbers, the first one positive; None when they are not multiples."""
    least = float(np.min(np.abs(weights), initial=np.inf))
    if not 0 < least < np.inf:
        return None
    exact = weights / least * np.sign(weights[0])
    near: Array = np.rint(exact)
    fits = bool(np.all(np.abs(exact - near) < 1e-6) and np.max(np.abs(near)) <= 4)
    return [int(c) for c in near] if fits else None


def strong_correlation(e: Evidence, found: Together) -> Finding:
    """Return the finding that parameters are known only together."""
    names = [e.names[j] for j in found.members]
    kind, none = ("correlation", "neither") if len(names) == 2 else ("multiple correlation", "none")
    relative = percent(found.relative) if found.relative < 1 else "within its own size"
    said = (
        f"{listing(names)} are known only together ({kind} {correlation_text(found.correlation)}), "
        f"{none} of them to {relative}."
    )
    facts: dict[str, Fact] = {"parameters": tuple(names), "correlation": found.correlation}
    if np.isfinite(found.relative):
        facts["relative_error"] = found.relative
    return Finding("strong-correlation", "warning", said, fix(e, [found.worst]), facts)


def correlation_text(r: float) -> str:
    """Return a correlation with enough digits to tell it from 1."""
    decimals = next((d for d in range(3, 12) if abs(round(r, d)) < 1), 12)
    return fixed(r, decimals, plus=False)


def at_bound(e: Evidence, on: Mask, ratio: float, p: float) -> Finding:
    """Return the finding on the parameters `on` (k,) their bounds."""
    members = [int(j) for j in np.flatnonzero(on)]
    names = [e.names[j] for j in members]
    low = [e.values[j] - e.lower[j] <= e.upper[j] - e.values[j] for j in members]
    bounds = [float(e.lower[j] if at_low else e.upper[j]) for j, at_low in zip(members, low, strict=True)]
    sits = "sits on its bound" if len(names) == 1 else "sit on their bounds"
    said = f"{listing(names)} {sits} {listing([quantity(b, '') for b in bounds])}"
    facts: dict[str, Fact] = {"parameters": tuple(names), "bounds": tuple(bounds), "F": ratio, "p": p}
    it = "it" if len(names) == 1 else "them"
    if not p < ALARM["at-bound"]:
        its = "its error bar does" if len(names) == 1 else "their error bars do"
        said += f", where the data leave {it} ({p_text(p)}); {its} not cross the bound."
        return Finding("at-bound", "info", said, "", facts)
    gain = ratio * len(names)
    said += f"; freeing {it} lowers the sum of squares by {times(gain)} noise variances ({p_text(p)})."
    freed = {
        e.names[j]: f"(None, {side(e.upper[j])})" if at_low else f"({side(e.lower[j])}, None)"
        for j, at_low in zip(members, low, strict=True)
    }
    return Finding("at-bound", "warning", said, setting("bounds", freed), facts)


def side(bound: float) -> str:
    """Return one bound as Python writes it in `bounds`."""
    return literal(bound) if np.isfinite(bound) else "None"


def not_converged(e: Evidence, offset: float | None) -> Finding | None:
    """Return the finding that the fit is not at its minimum; without an offset the solver's word counts.

    Parameters
    ----------
    e : Evidence
        With the status, and the solver's message.
    offset : float or None
        Distance to the minimum in confidence radii; None where it means nothing (robust loss, no noise).
    """
    why = {"max-iterations": " at its last allowed iteration,", "interrupted": " when it was interrupted,"}
    stopped = "The fit stopped" + why.get(e.status, "")
    facts: dict[str, Fact] = {"status": e.status}
    lost = e.status in ("diverged", "singular")
    if offset is None or lost:
        if e.status == "converged":
            return None
        said = e.message or f"{stopped.rstrip(',')} before it reached a minimum"
        return Finding("not-converged", "error" if lost else "warning", sentence(said), onward(e), facts)
    facts["offset"] = min(offset, 1e300)
    if offset > NEAR:
        said = f"{stopped} {times(offset)} confidence radii from the minimum."
        return Finding("not-converged", "error" if offset > FAR else "warning", said, onward(e), facts)
    if e.status == "converged":
        return None
    said = f"{stopped.rstrip(',')}, and it is at the minimum: {significant(offset, 1)} confidence radii are left."
    return Finding("not-converged", "info", said, "", facts)


def onward(e: Evidence) -> str:
    """Return the argument that takes a stopped fit to its end."""
    if e.status == "max-iterations":
        return "max_iterations=10000"
    if e.status == "interrupted" and 0 < len(e.names) <= 8:
        return setting("start", {name: repr(float(v)) for name, v in zip(e.names, e.values, strict=True)})
    return 'start="search"'


def local_minimum(e: Evidence, ratio: float, lower: float) -> Finding:
    """Return the finding that another start ended lower."""
    other = e.other_values or {}
    shown = listing([f"{name} = {significant(value, 3)}" for name, value in other.items()], most=4)
    what = "a sum of squares" if e.counts is None else "a chi-square"
    said = f"Another start reaches {what} {times(lower)} times lower" + (f", at {shown}." if other else ".")
    remedy = 'start="search"'
    if 0 < len(other) <= 8:
        remedy = setting("start", {name: f"{value:.6g}" for name, value in other.items()})
    facts: dict[str, Fact] = {"F": min(ratio, 1e300), "times_lower": min(lower, 1e300)}
    return Finding("local-minimum", "warning", said, remedy, facts)
