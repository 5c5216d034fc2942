"""Findings about the residuals, in words."""

from math import sqrt

import numpy as np

from gradfit.diagnose.counts import Dispersion
from gradfit.diagnose.evidence import Array, Evidence, Fact, Finding, Severity
from gradfit.diagnose.geometry import TINY, Geometry
from gradfit.diagnose.residuals import Noise, Outliers, Spread
from gradfit.diagnose.structure import Structure
from gradfit.diagnose.words import (
    column,
    numbers,
    p_text,
    percent,
    quantity,
    rows_text,
    setting,
    times,
    where_is,
)
from gradfit.notation import count, fixed, significant

MISSES = 2.5  # residuals over noise: five sixths of the sum of squares are pattern
FAST = 8.0  # points a turn, below which a wave is told by its turn: neighbours hardly agree
LISTED = 20  # rows in a remedy
TESTABLE = 16  # degrees of freedom from which most defects of a few standard deviations show


def no_noise(e: Evidence, noise: Noise) -> Finding | None:
    """Return the info that there is no noise to test."""
    if noise.kind == "rounding":
        said = "The curve meets every point to rounding: there is no noise, and error bars mean nothing."
        if e.counts is not None:
            said = "The curve meets every point to rounding: these are no counts of events, and error bars mean nothing."
        return Finding("perfect-fit", "info", said, "", {"residual_over_spread": noise.size})
    if noise.kind == "steps":
        step = quantity(noise.size, e.units.get(e.response, ""))
        said = f"{e.response} comes in steps of {step}, wider than its scatter: residuals show the steps, and are not tested."
        return Finding("quantised-data", "info", said, "", {"step": noise.size})
    return None


def few_to_test(e: Evidence, dof: int) -> Finding | None:
    """Return the info that small defects would not be seen."""
    if dof >= TESTABLE:
        return None
    points = count(len(e.y), "point")
    if dof < 4:
        said = f"{points}: too few to test the residuals."
    else:
        said = f"{points}: a pattern below 2 times the noise, or a bad row below 20 times, would often not be seen."
    return Finding("few-points-to-test", "info", said, "", {"points": len(e.y), "dof": dof})


def structure(e: Evidence, g: Geometry, found: Structure, noise: float) -> Finding:
    """Return the finding that residuals follow a pattern: of a wrong model when most of them is pattern."""
    along = found.along or "the fitted values"
    ratio = g.s / (noise + TINY)
    facts: dict[str, Fact] = {"along": along, "ratio": min(ratio, 1e300), "p": found.p}
    if ratio > MISSES and g.dof >= 8:
        raw = e.y - e.fitted
        most = float(np.max(np.abs(raw)))
        rms = most * sqrt(float(np.mean((raw / most) ** 2)))
        miss = quantity(rms, e.units.get(e.response, ""), 2)
        said = (
            f"The curve misses {e.response} by {miss}, {times(ratio)} times the noise, in a pattern along {along}: "
            "a wrong model, or a local minimum."
        )
        return Finding("underfitting", "warning", said, 'start="search"', {**facts, "rms": rms})
    if found.wave and found.wave.turn < FAST:
        turn = fixed(found.wave.turn, 1)
        said = f"Residuals swing along {along} with a turn every {turn} points ({p_text(found.p)}): the formula lacks a wave."
        facts["points_a_turn"] = found.wave.turn
    else:
        said = (
            f"Residuals follow a pattern along {along}, {times(ratio)} times the noise between neighbours "
            f"({p_text(found.p)}): the formula lacks something."
        )
    return Finding("structured-residuals", "warning", said, 'start="search"', facts)


def outliers(e: Evidence, found: Outliers) -> Finding:
    """Return the finding that rows lie off the curve: info where they change nothing, or a robust loss has them."""
    rows, m = e.rows[found.rows], len(found.rows)
    nearest = float(np.min(np.abs(found.sizes)))
    lie = (
        f"{rows_text(rows).capitalize()} lies" if m == 1 else f"{count(m, 'row')} of {fixed(len(e.y), 0)} lie"
    )
    least = "" if m == 1 else "at least "
    listed = "" if m == 1 else f" ({rows_text(rows)})"
    without = "it" if m == 1 else "them"
    changes = found.moved > 1 or found.inflation > 1.1
    severity: Severity = "warning" if changes and not e.robust else "info"
    if e.robust:
        effect = f"the {e.robust} loss holds {without} down"
    elif found.moved > 1:
        effect = f"without {without} {moved(e, found)}"
    elif changes:
        effect = f"without {without} the scatter falls by {percent(1 - 1 / found.inflation)}"
    else:
        effect = f"without {without} nothing changes by more than {fixed(max(found.moved, 0.1), 1)} standard errors"
    said = f"{lie} {least}{times(nearest)} s.d. off the curve{listed}; {effect}."
    facts: dict[str, Fact] = {
        "rows": numbers(rows),
        "count": m,
        "p": found.p,
        "sizes": tuple(round(float(size), 2) for size in found.sizes[:1000]),
        "moved": found.moved,
        "inflation": found.inflation,
    }
    remedy = 'loss="bisquare"' if e.counts is None else f"exclude={[int(row) for row in rows[:LISTED]]}"
    return Finding("outliers", severity, said, remedy if severity == "warning" else "", facts)


def moved(e: Evidence, found: Outliers) -> str:
    """Return what happens to the parameter that moves most: "k moves by −10 % (1.8 standard errors)"."""
    value, shift = float(e.values[found.most]), float(found.shift[found.most])
    errors = f"{times(found.moved)} standard errors"
    if value == 0 or not abs(shift / value) < 1:
        return f"{e.names[found.most]} moves by {errors}"
    return f"{e.names[found.most]} moves by {percent(shift / value, plus=True)} ({errors})"


def spread(e: Evidence, found: Spread, sizes: Array) -> Finding:
    """Return the finding that scatter changes along a column."""
    along = found.along or f"the fitted {e.response}"
    end = "high" if found.grows else "low"
    said = f"Scatter at the {end} end of {along} is {times(found.ratio)} times that at the other ({p_text(found.p)})"
    remedy = weights(e, found, sizes)
    said += "; give each row its standard deviation sd." if remedy.startswith("sigma") else "."
    facts: dict[str, Fact] = {"along": along, "ratio": min(found.ratio, 1e300), "p": found.p}
    return Finding("unequal-variance", "warning", said, remedy, facts)


def weights(e: Evidence, found: Spread, sizes: Array) -> str:
    """Return the weights that even the scatter out: a power of y or of a column that is nowhere near zero.

    Where there is none, the reader has to give each row its own sigma.
    """
    usable = bool(np.all(e.y > 0) and np.all(e.y > e.fitted / 3))
    candidates = {e.response: e.fitted} if usable else {}
    candidates |= {name: x for name, x in e.inputs.items() if float(x.min()) > 1e-3 * float(x.max())}
    if found.along in candidates:
        candidates = {found.along: candidates[found.along], **candidates}
    for name, x in candidates.items():
        power = exponent(np.maximum(x, e.y / 3) if name == e.response else x, sizes)
        if power:
            return written(column(name), power)
    return "sigma=sd"


def exponent(x: Array, sizes: Array) -> int:
    """Return twice the power with which the scatter grows with x, from -2 to 2: a line through logarithms."""
    log_x = np.log(x) - float(np.mean(np.log(x)))
    spread = float(log_x @ log_x)
    if not spread > 0:
        return 0
    floor = 0.1 * float(np.median(sizes)) + TINY
    slope = float(log_x @ np.log(np.maximum(sizes, floor))) / spread
    return int(np.clip(np.rint(2 * slope), -2, 2))


def written(name: str, power: int) -> str:
    """Return weights as an expression: scatter that grows as y to the power/2 has weight y to the -power.

    >>> written("y", 2), written("y", 1), written("t", -1)
    ('weights="1/y**2"', 'weights="1/y"', 'weights="t"')
    """
    body = name if abs(power) == 1 else f"{name}**{abs(power)}"
    return f'weights="{f"1/{body}" if power > 0 else body}"'


def sigma(e: Evidence, g: Geometry, reduced: float, p: float) -> Finding:
    """Return the finding that the given sigma is not the scatter: a warning when it is too small."""
    factor = sqrt(reduced) if reduced < np.inf else float("inf")
    facts: dict[str, Fact] = {"reduced_chi2": min(reduced, 1e300), "dof": g.dof, "p": p}
    chi2 = f"reduced chi-square {significant(reduced, 2)} with {count(g.dof, 'degree')} of freedom"
    weights = f'weights="1/{column(e.sigma)}**2"' if e.sigma else "weights=1/sigma**2"
    if reduced > 1:
        said = f"The scatter is {times(factor)} times what sigma says ({chi2}): error bars are that much too short."
        return Finding("sigma-too-small", "warning", said, weights, facts)
    said = f"The scatter is only {times(factor)} times what sigma says ({chi2}): error bars are longer than need be."
    return Finding("sigma-too-large", "info", said, weights, facts)


def dispersion(e: Evidence, g: Geometry, seen: Dispersion) -> Finding:
    """Return the finding that counts do not scatter as chance makes them: a warning when they scatter more."""
    value = significant(seen.value, 2)
    measured = f"Pearson's chi-square {value} per degree of freedom, of {fixed(g.dof, 0)}; {p_text(seen.p)}"
    facts: dict[str, Fact] = {"dispersion": min(seen.value, 1e300), "dof": g.dof, "p": seen.p}
    factor = sqrt(seen.value)
    if seen.value > 1:
        said = f"Counts scatter {times(factor)} times as far as chance takes them ({measured}): error bars are that much too short."
        return Finding("overdispersion", "warning", said, quasi(e, seen.value), facts)
    measured = measured.partition(";")[0]
    said = (
        f"Counts scatter only {times(factor)} times as far as chance takes them ({measured}): they may be means or rates "
        "and not counts as recorded, and error bars are longer than need be."
    )
    return Finding("underdispersion", "info", said, quasi(e, seen.value), facts)


def quasi(e: Evidence, value: float) -> str:
    """Return the weights under which counts of that dispersion have the errors of their scatter (quasi-likelihood)."""
    if e.counts is None or float(np.ptp(e.counts)) > 1e-9 * float(e.counts.max()):
        return f"weights=weights/{value:.3g}"
    return f'weights="{float(e.counts[0]) / value:.3g}"'


def at_zero(e: Evidence) -> Finding:
    """Return the finding that the fitted mean of counts has run into zero."""
    rows = e.rows[e.at_zero]
    inputs = where_is(e, int(e.at_zero[0]))
    place = rows_text(rows) + (f" ({inputs})" if inputs and len(rows) == 1 else "")
    said = (
        f"The fitted mean of {e.response} runs into zero in {place}, where nothing was counted, and the likelihood would "
        "still rise beyond: error bars hold only for a model that stops there."
    )
    slopes = e.jacobian * np.sqrt(np.maximum(e.fitted, 0.0))[:, None]
    level = 1e-3 * float(np.mean(e.y))
    offsets = [
        name
        for name, value, column in zip(e.names, e.values.tolist(), slopes.T, strict=True)
        if value <= level
        and e.counts is not None
        and np.ptp(column / np.sqrt(e.counts)) <= 1e-6 * column.max()
    ]
    remedy = setting("bounds", dict.fromkeys(offsets, "(0, None)")) if offsets else ""
    return Finding("mean-at-zero", "warning", said, remedy, {"rows": numbers(rows), "count": len(rows)})
