"""Findings about a training: a rate that is too large or too small, scales that no rate serves, epochs that are missing."""

from math import isfinite

from gradfit.diagnose.evidence import Evidence, Fact, Finding, Severity, Way
from gradfit.diagnose.words import sentence, times
from gradfit.notation import count, significant

NEAR = 0.03  # confidence radii: converged, as in about_parameters
MISSED = 0.1  # confidence radii: from here on the cause is named
FAR = 1.0  # confidence radii: beyond, the parameters are not even near
JUMPS = -0.3  # median cosine between successive gradients: the step leaps over the valley again and again
CONDITIONED = 100.0  # times; a scaling that takes away less is not worth its name
BOTH = 'lr="auto", scale="auto"'


def stopped(e: Evidence, way: Way) -> Finding | None:
    """Return why a training has not reached its minimum, the first cause only; None where it has.

    The remedies were tried, from the same start, where that took no longer than two seconds: what is offered has worked.

    References
    ----------
    .. [1] Bates & Watts (1981), Technometrics 23, 179: the distance. Cohen et al. (2021), arXiv:2103.00065: networks live at
       2/λ, so that curvature alone is no alarm.
    """
    if e.status in ("converged", "early-stopped") or way.offset <= NEAR:
        return None
    if way.offset >= MISSED:
        for cause in (too_large, gradient_scale, too_small):
            found = cause(way)
            if found is not None:
                return found
    return unfinished(e, way)


def too_large(way: Way) -> Finding | None:
    """Return that the rate is beyond what is stable, or that smaller ones were tried and arrive."""
    lost = not isfinite(way.last) or way.last > 2 * way.first
    room = None if way.limit is None else way.limit / way.rate
    better = best_rate(way)
    leaps = way.turning < JUMPS or way.last > 1.01 * way.lowest
    nearer = next((rate for rate, offset in way.tried.items() if offset < way.offset / 2), way.rate)
    smaller = (
        better < way.rate / 1.2
        if better is not None
        else leaps and nearer < way.rate / 5 and not patient(way)
    )
    least = 1.0 if way.tried else 1.1  # networks live at the limit and learn: what was tried decides
    beyond = room is not None and (room < 1.5 if lost else room < least and leaps)
    if not (beyond or smaller):
        return None
    stable = None if way.limit is None or not isfinite(way.limit) else min(way.limit, way.rate) / 2
    remedy = remedy_of(way, f"lr={stable:.2g}" if stable else 'lr="auto"')
    if room is not None and beyond:
        limit = way.limit or 0.0
        said = f"lr={way.rate:.3g} is {over(1 / room)} the largest stable step of {way.optimizer} here, {significant(limit, 3)}"
    else:
        said = f"lr={way.rate:.3g} is too large for {way.optimizer}"
        said += f": with {better:.3g} the same {count(way.epochs, 'epoch')} arrive" if better else ""
    said += (
        "; the loss grew beyond all bounds."
        if lost
        else f"; it ends {times(way.offset)} confidence radii from the minimum."
    )
    return Finding("lr-too-large", "error" if lost else severity(way), said, remedy, facts(way))


def over(ratio: float) -> str:
    """Return how a rate compares with a limit."""
    return f"{significant(ratio, 2)} times" if ratio > 1 else f"at {significant(100 * ratio, 2)} % of"


def gradient_scale(way: Way) -> Finding | None:
    """Return that one direction is so much steeper than another that no rate serves both, where scaling helps."""
    raw, standard = way.conditions
    needed = raw > CONDITIONED * standard and raw > way.epochs / 2
    arrives = way.cures.get(BOTH)
    if way.scaled or not needed or best_rate(way) is not None or (arrives is not None and arrives >= MISSED):
        return None
    said = (
        f"The loss is {times(raw)} times steeper in one direction than in another (condition number; {significant(standard, 2)} "
        f"in standard units), so that no rate serves both; {count(way.epochs, 'epoch')} end {times(way.offset)} confidence "
        f"radii from the minimum{more(way)}."
    )
    return Finding("gradient-scale", severity(way), said, BOTH, facts(way))


def too_small(way: Way) -> Finding | None:
    """Return that a larger rate arrives, or that there is much room below the stable limit."""
    if way.tried:
        rate, offset = next(iter(way.tried.items()))
        near = offset < way.offset / 2 and not patient(way)
        larger = rate > 1.2 * way.rate if offset < NEAR else rate > 5 * way.rate and near
    else:
        rate = 0.0 if way.limit is None or not isfinite(way.limit) else way.limit / 2
        larger = rate > 2.5 * way.rate
    if not larger:
        return None
    said = (
        f"lr={way.rate:.3g} could be {times(rate / way.rate)} times larger: {count(way.epochs, 'epoch')} end "
        f"{times(way.offset)} confidence radii from the minimum{more(way)}."
    )
    return Finding("lr-too-small", severity(way), said, remedy_of(way, f"lr={rate:.2g}"), facts(way))


def unfinished(e: Evidence, way: Way) -> Finding:
    """Return that the training ended on its way, with the epochs that are missing."""
    said = f"{count(way.epochs, 'epoch')} of {way.optimizer} (lr={way.rate:.3g}) end {times(way.offset)} confidence radii "
    if not isfinite(way.offset):
        return Finding(
            "not-converged", severity(way), sentence(e.message), remedy_of(way, 'lr="auto"'), facts(way)
        )
    said += f"from the minimum{more(way)}"
    best = f"epochs={int(1.25 * way.needed) + way.epochs + 1}" if way.needed < 100 * way.epochs else BOTH
    return Finding("not-converged", severity(way), f"{said}.", remedy_of(way, best, "epochs="), facts(way))


def more(way: Way) -> str:
    """Return how many epochs the slowest direction still needs, where that is known."""
    if not isfinite(way.needed):
        return ""
    needed = float(f"{way.needed:.2g}")
    epochs = count(max(int(needed), 1), "epoch") if needed < 1e6 else f"{significant(needed, 2)} epochs"
    return f"; at this rate the slowest direction needs about {epochs} more"


def remedy_of(way: Way, untried: str, first: str = "lr=") -> str:
    """Return an argument that arrived when it was tried, best one that begins so; the nearest; else one that was not tried."""
    arrived = [cure for cure, offset in way.cures.items() if offset < NEAR]
    if arrived:
        return next((cure for cure in arrived if cure.startswith(first)), arrived[0])
    nearest = min(way.cures, key=lambda cure: way.cures[cure], default="")
    return nearest if nearest and way.cures[nearest] < way.offset / 2 else untried


def best_rate(way: Way) -> float | None:
    """Return the rate that arrives soonest among those that were tried, None where none does."""
    arrived = [rate for rate, offset in way.tried.items() if offset < NEAR]
    return arrived[0] if arrived else None


def patient(way: Way) -> bool:
    """Return whether more epochs were tried at the same rate, and arrive."""
    return any(cure.startswith("epochs=") and offset < NEAR for cure, offset in way.cures.items())


def severity(way: Way) -> Severity:
    """Return "error" where the parameters are not even near the minimum."""
    return "error" if way.offset > FAR else "warning"


def facts(way: Way) -> dict[str, Fact]:
    """Return the numbers behind the sentence."""
    out: dict[str, Fact] = {"lr": way.rate, "epochs": way.epochs, "offset": min(way.offset, 1e300)}
    numbers = {
        "limit": way.limit, "needed": way.needed, "condition": way.conditions[0], "scaled_condition": way.conditions[1],
        "gradient_ratio": way.gradients, "turning": way.turning,
    }  # fmt: skip
    return {
        **out,
        **{name: value for name, value in numbers.items() if value is not None and isfinite(value)},
    }
