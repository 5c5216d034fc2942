"""Headlines: what each section shows, in one sentence with the number, computed from the result."""

from collections.abc import Callable, Sequence

import numpy as np

from gradfit.notation import (
    count,
    fixed,
    in_full,
    listing,
    percent,
    plus_minus,
    reach,
    significant,
    spelled,
    with_unit,
)
from gradfit.parameter import ParameterResult
from gradfit.report.markup import Markup, join
from gradfit.report.mathtext import prose, upright
from gradfit.report.subject import Subject

Case = tuple[object, Callable[[], str]]  # whether it holds, and what is then said
_PATTERN = frozenset({"structured-residuals", "underfitting"})
_MOST_NAMED = 3  # parameters with their values in a headline


def _first(cases: Sequence[Case], otherwise: str) -> Markup:
    """Return what the first case says that holds."""
    return join([next((words() for holds, words in cases if holds), otherwise)])


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def of_findings(raised: int) -> str:
    """Return how many findings were raised."""
    things = "thing stands" if raised == 1 else "things stand"
    return f"{_capital(spelled(raised))} {things} between these rows and an answer to rely on."


# ---------------------------------------------------------------------------- picture


def of_picture(subject: Subject) -> Markup:
    """Return how near the rows lie to the model, or what is wrong with it."""
    result, noun = subject.result, subject.noun
    if not subject.shown.any():
        return join(["No row has only finite numbers; there is nothing to draw."])
    miss = subject.amount(float(np.abs(result.residuals[subject.shown]).max()))
    away = bool(subject.codes & {"not-converged", "local-minimum"}) or subject.moving
    cases: list[Case] = [
        (
            subject.exact,
            lambda: f"The {noun} passes through {'every row' if result.n > 1 else 'the one row'}.",
        ),
        (subject.codes & _PATTERN, lambda: f"The {noun} misses the rows in a pattern, by up to {miss}."),
        (away, lambda: f"This {noun} is not yet the best one: rows lie up to {miss} off it."),
        ("unidentifiable" in subject.codes and _banded(subject), lambda: _still_known(subject)),
        ((subject.flagged & subject.shown).any(), lambda: _without_flagged(subject)),
        (result.n > 100, lambda: _most(subject)),
    ]
    return _first(cases, _all_within(subject, miss))


def _banded(subject: Subject) -> bool:
    return bool(subject.result.inputs) and subject.curve is not None and subject.curve.banded


def _still_known(subject: Subject) -> Markup:
    """Return how well the curve is known although its parameters are not."""
    curve = subject.curve
    if curve is None:
        return Markup("")
    half = subject.amount(float(np.nanmax(curve.half(curve.band))))
    low, high = float(curve.x[0]), float(curve.x[-1])
    ends = with_unit(reach(low, high) if high > low else in_full(low), subject.unit_of(subject.x_name))
    return join(
        ["For ", upright(subject.x_name), f" of {ends} the {subject.noun} itself is known to ±\u00a0{half}."]
    )


def _flagged_rows(subject: Subject) -> str:
    rows = listing([f"{row:.0f}" for row in subject.result.data.rows[subject.flagged]], most=4)
    return f"row {rows} does not" if subject.flagged.sum() == 1 else f"rows {rows} do not"


def _without_flagged(subject: Subject) -> str:
    result, off = subject.result, subject.flagged & subject.shown
    inside = subject.amount(float(np.abs(result.residuals[subject.shown & ~off]).max(initial=0.0)))
    rows = f"{fixed(result.data.n - int(off.sum()), 0)} of {fixed(result.data.n, 0)} rows"
    return f"{rows} lie within {inside} of the {subject.noun}; {_flagged_rows(subject)}."


def _most(subject: Subject) -> str:
    inside = subject.amount(float(np.quantile(np.abs(subject.result.residuals[subject.shown]), 0.95)))
    return f"95 in 100 of {fixed(subject.result.n, 0)} rows lie within {inside} of the {subject.noun}."


def _all_within(subject: Subject, miss: str) -> str:
    n = int(subject.shown.sum())
    rows = f"{_capital(spelled(n))} {'row lies' if n == 1 else 'rows lie'}"
    shapes = {
        "line": "on a straight line, within",
        "level": "on one level, within",
        "curve": "on the curve, within",
    }
    if subject.noun in shapes:
        return f"{rows} {shapes[subject.noun]} {miss}."
    return f"{rows} within {miss} of the fitted values."


# ---------------------------------------------------------------------------- parameters


def value_text(subject: Subject, parameter: ParameterResult) -> str:
    """Return "0.537 ± 0.036" with the unit."""
    if not subject.known(parameter):
        return with_unit(bare(parameter.value), subject.parameter_unit(parameter))
    value, error, power = plus_minus(parameter.value, parameter.stderr)
    both = f"({value}\u00a0±\u00a0{error}){power}" if power else f"{value}\u00a0±\u00a0{error}"
    return with_unit(both, subject.parameter_unit(parameter))


def bare(value: float) -> str:
    """Return a value that has no error, with six digits at most."""
    return in_full(float(f"{value:.6g}"))


def commas(parts: Sequence[str], last: str = " and ") -> Markup:
    """Return names in a sentence."""
    return join(
        join(["" if k == 0 else last if k == len(parts) - 1 else ", ", part]) for k, part in enumerate(parts)
    )


def of_parameters(subject: Subject) -> Markup:
    """Return the values of few parameters, how well many are known, or which are not determined."""
    every = list(subject.result.params.values())
    free = [p for p in every if not p.fixed]
    lost = [p for p in free if not p.determined]
    given = "The parameter was" if len(every) == 1 else f"All {spelled(len(every))} parameters were"
    cases: list[Case] = [
        (not every, lambda: "The model has no parameters; nothing was estimated."),
        (not free, lambda: f"{given} given, not fitted."),
        (lost, lambda: _not_determined(free, lost)),
        (len(free) <= _MOST_NAMED, lambda: _values(subject, free)),
    ]
    return _first(cases, _best_and_worst(subject, free))


def _not_determined(free: list[ParameterResult], lost: list[ParameterResult]) -> Markup:
    if len(lost) == len(free):
        none = f"None of the {spelled(len(free))} parameters is"
        who = {1: "The one parameter is not", 2: "Neither of the two parameters is"}.get(len(free), none)
        return join([f"{who} determined by these rows."])
    kept = [p for p in free if p.determined]
    has, are = "has a value" if len(kept) == 1 else "have values", "is" if len(lost) == 1 else "are"
    return join(["Only ", _named(kept), f" {has}; ", _named(lost), f" {are} not determined."])


def _named(parameters: list[ParameterResult]) -> Markup:
    names = [upright(p.name) for p in parameters[:6]]
    more = len(parameters) - len(names)
    return join([commas(names, ", "), f" and {more} more"]) if more else commas(names)


def _values(subject: Subject, free: list[ParameterResult]) -> Markup:
    said = commas(
        [join([upright(p.name), " is ", prose(value_text(subject, p), subject.names)]) for p in free]
    )
    return join([said, "." if any(subject.known(p) for p in free) else ", without an error."])


def _best_and_worst(subject: Subject, free: list[ParameterResult]) -> Markup:
    known = sorted((p.stderr / abs(p.value), p.name) for p in free if subject.known(p) and p.value != 0)
    if not known:
        return join([f"{_capital(spelled(len(free)))} parameters were fitted; none has an error."])
    (low, best), (high, worst) = known[0], known[-1]
    if best == worst:
        return join([upright(best), f" is known to {percent(low)}."])
    last = ", which may be zero" if high >= 1 else f", to {percent(high)}"
    return join(["Best known is ", upright(best), f", to {percent(low)}; least ", upright(worst), f"{last}."])


# ---------------------------------------------------------------------------- residuals


def of_residuals(subject: Subject) -> Markup:
    """Return whether what is left over looks like noise."""
    result, codes, noun = subject.result, subject.codes, subject.noun
    rows = f"{_capital(spelled(result.n))} {'row' if result.n == 1 else 'rows'} for {spelled(result.k)}"
    parameters = "parameter" if result.k == 1 else "parameters"
    away = "not-converged" in codes or subject.moving
    cases: list[Case] = [
        ("non-finite" in codes or not subject.shown.all(), lambda: "Some residuals are not finite numbers."),
        (result.dof <= 0, lambda: f"{rows} {parameters} leave nothing to judge the fit by."),
        (subject.exact, lambda: f"Nothing is left over but rounding: the {noun} passes through every row."),
        (codes & _PATTERN, lambda: f"What the {noun} leaves over follows a pattern."),
        ("outliers" in codes and subject.flagged.any(), lambda: _unlike_noise(subject)),
        ("overdispersion" in codes, lambda: "The counts scatter more than chance makes them."),
        ("unequal-variance" in codes, lambda: "The scatter is not the same everywhere."),
        (away, lambda: f"The {noun} may still move: these residuals are not those of a minimum."),
        (not result.checks and result.dof < 4, lambda: "Too few rows to tell the residuals from noise."),
        (not result.checks, lambda: "The residuals were not tested."),
    ]
    return _first(cases, f"What the {noun} leaves over looks like noise.")


def _unlike_noise(subject: Subject) -> str:
    left = fixed(subject.result.data.n - int(subject.flagged.sum()), 0)
    return f"{left} rows look like noise; {_flagged_rows(subject)}."


# ---------------------------------------------------------------------------- the way, and the data


def step_name(subject: Subject) -> str:
    """Return what one step of the solver is called."""
    newton = ("levenberg", "closed", "projection", "none")
    return "iteration" if any(word in subject.result.solver.lower() for word in newton) else "epoch"


def loss_text(value: float) -> str:
    """Return a loss with four digits.

    >>> loss_text(2.927645), loss_text(0.0)
    ('2.928', '0')
    """
    return significant(value, 4)


def of_search(subject: Subject) -> Markup:
    """Return how the answer was found."""
    result = subject.result
    steps = count(result.iterations, step_name(subject))
    lead = f"{steps} {'leads' if result.iterations == 1 else 'lead'} to"
    cases: list[Case] = [
        (result.status == "diverged", lambda: f"The loss grew beyond all bounds, after {steps}."),
        (not result.k, lambda: "Nothing was searched for: every parameter is given."),
        (result.starts.refined > 1, lambda: _starts(subject)),
        ("closed form" in result.solver, lambda: "One linear solve gives the minimum."),
        (step_name(subject) == "epoch", lambda: f"After {steps} the loss is {loss_text(result.loss)}."),
        (result.converged, lambda: f"{lead} the minimum."),
    ]
    return _first(cases, f"{lead} a place that is not known to be a minimum.")


def _starts(subject: Subject) -> str:
    starts = subject.result.starts
    where = "this minimum" if subject.result.converged else "the same place"
    if starts.reached == starts.refined:
        return f"All {spelled(starts.refined)} starts that were refined reached {where}."
    reached = _capital(spelled(starts.reached))
    return f"{reached} of {spelled(starts.refined)} starts that were refined reached {where}; the rest stopped higher."


def of_data(subject: Subject) -> str:
    """Return how many rows were held out, or left out."""
    used, held = subject.result.data, subject.result.validation
    lost = used.n_read - subject.result.n
    if held is not None and 0 < held.rows == lost:
        were = "was" if lost == 1 else "were"
        return f"{_capital(spelled(lost))} of {spelled(used.n_read)} rows {were} held out of the fit."
    if lost > 0:
        were = "was" if lost == 1 else "were"
        return f"{_capital(spelled(lost))} of {spelled(used.n_read)} rows {were} left out."
    return "No row was lost." if used.left_out else "Nothing was dropped, filled or clipped."
