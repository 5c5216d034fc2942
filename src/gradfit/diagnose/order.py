"""The order of a diagnosis: a cause silences its consequences, and a test is made only where it means something."""

from dataclasses import dataclass, replace

import numpy as np

import gradfit.diagnose.about_parameters as about_parameters
import gradfit.diagnose.about_residuals as about_residuals
import gradfit.diagnose.about_training as about_training
import gradfit.diagnose.about_validation as about_validation
import gradfit.diagnose.counts as counts
import gradfit.diagnose.parameters as parameters
import gradfit.diagnose.residuals as residuals
from gradfit.diagnose.evidence import ALARM, Array, Check, Diagnosis, Evidence, Finding, Mask
from gradfit.diagnose.geometry import Geometry, Robust, lengths, power_of_two, robust, tangent, thinned
from gradfit.diagnose.residuals import Noise
from gradfit.diagnose.structure import has_three, noise_without, rows_of, structure

WORST = {"error": 0, "warning": 1, "info": 2}
SLIDING = (
    2.0  # confidence radii from the minimum: nearer, fits slide along a valley; farther, they were cut short
)
FIRST_PLACES = 4096  # rows in which enough different x are looked for before all are


def diagnose(evidence: Evidence) -> Diagnosis:
    """Return what is wrong with a fit, worst first, with the checks that were made.

    Order: non-finite, too few points, local minimum, not determined, on a bound, not converged, strongly correlated;
    residual tests only at a minimum, off bounds that cost something, and with real noise; variance only when neither
    structure nor outliers were raised. A healthy fit gets a warning or an error in about 0.4 % of all cases (docs/findings.md).

    Parameters
    ----------
    evidence : Evidence
        The arrays at the end of the fit. Nothing in it is changed.

    Returns
    -------
    Diagnosis
        Findings and checks; `info` findings change no verdict.
    """
    # extreme scales pass through infinity and back below: 1e300 squared is compared, not reported
    with np.errstate(all="ignore"):
        broken = about_parameters.non_finite(evidence)
        found = Diagnosis((broken,)) if broken else finite(weighted_rows(evidence))
        if evidence.held is not None and not broken:
            findings, checks = about_validation.about_held(evidence)
            found = Diagnosis((*found.findings, *findings), (*found.checks, *checks))
    ordered = sorted(found.findings, key=lambda finding: WORST[finding.severity])
    return replace(found, findings=tuple(ordered))


def weighted_rows(e: Evidence) -> Evidence:
    """Return the evidence without rows of weight zero, which the fit did not see."""
    silent = (e.residuals == 0) & (e.y != e.fitted)
    if not silent.any():
        return e
    keep = ~(silent & (e.jacobian == 0).all(axis=1))
    if keep.all() or not keep.any():
        return e
    inputs = {name: x[keep] for name, x in e.inputs.items()}
    arrays = (e.y, e.fitted, e.residuals, e.jacobian, e.rows)
    y, fitted, r, J, rows = (a[keep] for a in arrays)
    return replace(e, inputs=inputs, y=y, fitted=fitted, residuals=r, jacobian=J, rows=rows)


def finite(e: Evidence) -> Diagnosis:
    """Return the diagnosis of a fit without NaN and infinities."""
    few = about_parameters.too_few_points(e)
    if few and few.severity == "error":
        return gathered(few, about_parameters.unused(e, []))
    g = tangent(e.residuals, e.jacobian)
    sigma = residuals.row_sigma(e.y, e.fitted, e.residuals)
    noise = noise_of(e, sigma)
    elsewhere = lower_elsewhere(e, g, noise)
    if elsewhere:
        return gathered(few, about_parameters.unused(e, []), elsewhere)
    if len(e.at_zero):
        return gathered(few, about_parameters.unused(e, []), about_residuals.at_zero(e))
    bound, check, free = bounds(e, g)
    h = g if free.all() else tangent(e.residuals, e.jacobian[:, free])
    stopped = stop(e, h, noise)
    undetermined = determined(e, g, sigma, early=not tested(stopped) and e.status != "converged")
    ready = (
        noise.kind == "ordinary"
        and not few
        and h.dof >= 4
        and tested(bound, stopped)
        and e.status != "early-stopped"
    )
    after = residual_findings(e, looked_at(e, h, free), sigma) if ready else Tested()
    apart = (
        few or undetermined or far(stopped) or e.status == "early-stopped"
    )  # then nothing can be said of valleys
    valley = None if apart else correlation(e, h, free, after.noise)
    if (valley or undetermined) and not far(stopped) and not tested(stopped):
        stopped = None  # the fit slid along the valley: one cause
    quiet = about_residuals.few_to_test(e, h.dof) if noise.kind == "ordinary" and not few else None
    no_noise = about_residuals.no_noise(e, noise)
    found = gathered(few, *undetermined, bound, stopped, valley, *after.findings, no_noise, quiet)
    return Diagnosis(found.findings, (*((check,) if check else ()), *after.checks))


def lower_elsewhere(e: Evidence, g: Geometry, noise: Noise) -> Finding | None:
    """Return the finding that another start ended lower by more than the noise of one parameter."""
    if e.other_rss is None or noise.kind == "rounding":
        return None
    gain, lower = parameters.lower_elsewhere(g, e.other_rss, len(e.names))
    if (
        e.counts is not None
    ):  # chance alone is their noise, also where a few rare events leave hardly any deviance
        gain = min(gain, float(e.residuals @ e.residuals) - e.other_rss)
    return about_parameters.local_minimum(e, gain, lower) if gain > 4 and lower > 1.0001 else None


def gathered(*found: Finding | None) -> Diagnosis:
    """Return the diagnosis of those findings that there are."""
    return Diagnosis(tuple(finding for finding in found if finding))


def noise_of(e: Evidence, sigma: Array) -> Noise:
    """Return the kind of noise; the Jacobian tells how large the terms are that the fitted values are a sum of."""
    terms = float(np.max((np.abs(e.jacobian) @ np.abs(e.values)) * sigma, initial=0.0))
    noise = residuals.noise(e.y, e.fitted, sigma, terms if np.isfinite(terms) else 0.0)
    return (
        noise if e.counts is None or noise.kind != "steps" else Noise("ordinary")
    )  # counts come in steps of one


def looked_at(e: Evidence, g: Geometry, free: Mask) -> Geometry:
    """Return the geometry that residual tests look at: of counts that of residuals which are normal on a healthy fit."""
    if e.counts is None:
        return g
    return counts.geometry(e.counts * e.y, e.counts * e.fitted, e.residuals, e.jacobian[:, free])


def determined(e: Evidence, g: Geometry, sigma: Array, *, early: bool) -> tuple[Finding, ...]:
    """Return the findings on parameters without effect and on those that cannot be told apart.

    Parameters
    ----------
    e, g
        The evidence, and its geometry with all parameters.
    sigma : (n,) array
        By which the rows of the residuals were divided.
    early : bool
        Whether the fit stopped far from a minimum; what has no effect there may have one elsewhere.
    """
    dead = parameters.without_effect(g, e.values, float(lengths((e.fitted / sigma)[:, None])[0]))
    groups = parameters.redundant(g, e.jacobian, dead)
    nothing = about_parameters.unused(e, [] if early else dead)
    found = [nothing] if nothing else []
    if groups and not e.constant and not dead:
        places = different(e, len(e.names))
        if 1 < places < len(e.names):
            return (*found, about_parameters.too_few_places(e, places))
    return (*found, *(about_parameters.unidentifiable(e, g, group) for group in groups))


def different(e: Evidence, enough: int) -> int:
    """Return how many different rows x has, or `enough` when there are that many."""
    columns = list(e.inputs.values())
    if not columns:
        return enough
    for rows in (slice(FIRST_PLACES), slice(None)):
        seen = len(np.unique(np.column_stack([x[rows] for x in columns]), axis=0))
        if seen >= enough:
            return enough
    return seen


def bounds(e: Evidence, g: Geometry) -> tuple[Finding | None, Check | None, Mask]:
    """Return the finding on active bounds, its check, and the (k,) mask of parameters off their bounds."""
    on = parameters.on_bound(g, e.values, e.lower, e.upper)
    if not on.any():
        return None, None, ~on
    r = g.r
    if e.robust:  # its gradient is not that of plain residuals; clipped ones are nearer
        limit = 2 * robust(g).scale
        r = np.clip(r, -limit, limit)
    unit_columns = e.jacobian / np.where(g.norm > 0, g.norm, 1.0)
    ratio, p = parameters.release(r, unit_columns, ~on)
    found = about_parameters.at_bound(e, on, ratio, p)
    raised = found.severity != "info"
    return found, Check("Held by a bound", "F test of freeing it", p, ALARM["at-bound"], raised), ~on


def stop(e: Evidence, g: Geometry, noise: Noise) -> Finding | None:
    """Return the finding that the fit is not at its minimum; of a training the reason."""
    if e.status == "early-stopped":
        return about_validation.stopped_early(e)
    if e.way is not None:
        return about_training.stopped(e, e.way)
    meaningless = e.robust is not None or noise.kind == "rounding"
    return about_parameters.not_converged(e, None if meaningless else parameters.relative_offset(g))


def far(stopped: Finding | None) -> bool:
    """Return whether the fit stopped so far from a minimum that its parameters mean nothing."""
    if stopped is None or stopped.severity != "error":
        return False
    offset = stopped.evidence.get("offset")
    return not isinstance(offset, float) or offset > SLIDING


def tested(*causes: Finding | None) -> bool:
    """Return whether residual tests mean something: none of the causes was raised."""
    return all(cause is None or cause.severity == "info" for cause in causes)


def correlation(e: Evidence, g: Geometry, free: Mask, noise: float) -> Finding | None:
    """Return the finding on parameters known only together, judged by the noise and not by a wrong model's misses."""
    values = e.values[free]
    scatter = 1.0 if e.absolute else (noise or g.s) * g.unit
    found = parameters.strong_correlation(g, values, scatter)
    if not found:
        return None
    place = [int(j) for j in np.flatnonzero(free)]
    members = tuple(place[j] for j in found.members)
    return about_parameters.strong_correlation(e, replace(found, members=members, worst=place[found.worst]))


@dataclass(frozen=True, slots=True)
class Tested:
    """What residual tests found, and the noise that is left without a pattern (0: not known)."""

    findings: tuple[Finding, ...] = ()
    checks: tuple[Check, ...] = ()
    noise: float = 0.0

    def __add__(self, other: "Tested") -> "Tested":
        """Return both together."""
        return Tested(self.findings + other.findings, self.checks + other.checks, self.noise or other.noise)


def residual_findings(e: Evidence, g: Geometry, sigma: Array) -> Tested:
    """Return the findings of the residual tests, at a minimum and with real noise."""
    fit = robust(g)
    found = patterns(e, g, fit, sigma)
    found += bad_rows(e, g, fit, found)
    if e.counts is not None:
        return found + against_chance(e, g) if tested(*found.findings) else found
    if tested(*found.findings) and g.dof >= 12:
        found += scatter(e, g, fit, sigma)
    if tested(*found.findings) and e.absolute:
        found += against_sigma(e, g)
    return found


def checked(name: str, statistic: str, p: float, code: str) -> Check:
    """Return the check, raised when p is below the line of its code."""
    return Check(name, statistic, p, ALARM[code], p < ALARM[code])


def patterns(e: Evidence, g: Geometry, fit: Robust, sigma: Array) -> Tested:
    """Return the test for patterns, on a random part of the rows where there are many."""
    some = thinned(len(g.r))
    part = g if some is None else tangent(g.r[some], g.Q[some])
    share = 1.0 if some is None else part.unit
    inputs = {name: x if some is None else x[some] for name, x in e.inputs.items()}
    fitted, usual = (a if some is None else a[some] for a in (e.fitted, sigma / power_of_two(sigma)))
    rows = rows_of(inputs, fitted, usual)
    if rows is None:
        return Tested()
    result = structure(part, fit.scale / share, rows)
    check = checked(
        "Curve left over", "Durbin–Watson, slow and sharp waves", result.p, "structured-residuals"
    )
    if not check.raised:
        return Tested((), (check,))
    noise = noise_without(part, rows, result.wave) * share
    return Tested((about_residuals.structure(e, g, result, noise),), (check,), noise)


def bad_rows(e: Evidence, g: Geometry, fit: Robust, before: Tested) -> Tested:
    """Return the test for rows that no usual noise makes; a curve that misses most of them makes them itself."""
    result = residuals.outliers(g, fit)
    if result is None:
        return Tested()
    misses = any(finding.code == "underfitting" for finding in before.findings)
    below = result.p < ALARM["outliers"] and not misses
    found = (about_residuals.outliers(e, result),) if below else ()
    check = checked("Rows off the curve", "bisquare fit, long-tailed law", result.p, "outliers")
    return Tested(found, (replace(check, raised=not tested(*found)),))


def scatter(e: Evidence, g: Geometry, fit: Robust, sigma: Array) -> Tested:
    """Return the test for scatter that changes along a column or the fitted values."""
    columns = {"": e.fitted} | {name: x for name, x in e.inputs.items() if has_three(x)}
    result = residuals.spread(fit, columns, g.dof)
    check = checked("Scatter that changes", "rank correlation of |residual|", result.p, "unequal-variance")
    found = (
        (about_residuals.spread(e, result, fit.size * (sigma / power_of_two(sigma))),) if check.raised else ()
    )
    return Tested(found, (check,))


def against_sigma(e: Evidence, g: Geometry) -> Tested:
    """Return the comparison of the scatter with the given sigma."""
    reduced, p = residuals.sigma_too_small(g)
    check = checked("Scatter above sigma", "chi-square", p, "sigma-too-small")
    short = check.raised and reduced > 1.5
    found = (about_residuals.sigma(e, g, reduced, p),) if short or reduced < 0.5 else ()
    return Tested(found, (replace(check, raised=short),))


def against_chance(e: Evidence, g: Geometry) -> Tested:
    """Return the comparison of the scatter of counts with that of chance."""
    seen = counts.dispersion(g, e.residuals)
    check = checked("Scatter above chance", "chi-square of quantile residuals", seen.p, "overdispersion")
    more = check.raised and seen.value > counts.RAISED
    less = 1 - seen.p < ALARM["overdispersion"] and seen.value < counts.LOW
    found = (about_residuals.dispersion(e, g, seen),) if more or less else ()
    return Tested(found, (replace(check, raised=more),))
