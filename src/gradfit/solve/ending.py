"""Judges where first-order training has ended: in a minimum, on the way, stuck, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import numpy as np

from gradfit.notation import count, significant
from gradfit.solve.outcome import Array, HeldCourse, Outcome, Point, Status
from gradfit.solve.patience import Patience, Watched

RADII = (
    0.03  # distance to the minimum, in radii of the confidence region, that counts as arrived (Bates & Watts)
)
DIGITS = 1e-6  # relative Newton step that counts as none where the loss has no noise to compare with
MOST_CURVATURE = 50  # parameters up to which the Hessian is formed; it costs about as much as 4 k epochs
SMALL = 2_000_000  # rows times parameters up to which nobody feels that

Reason = Literal["done", "patience", "stopped", "diverged", "interrupted"]


class Surface(Protocol):
    """The loss over all rows as a function of the parameters."""

    @property
    def rounding(self) -> float:
        """The relative distance between neighbouring numbers in which the loss is computed."""
        ...

    def value(self, parameters: Array) -> float:
        """Return the loss."""
        ...

    def derivatives(self, parameters: Array, *, second: bool) -> tuple[Array, Array | None]:
        """Return its gradient (k,) and, where wanted and where there are any, the second derivatives (k, k), in float64."""
        ...


@dataclass(frozen=True, eq=False)
class HeldTrail:
    """What the held-out rows said on the way.

    Attributes
    ----------
    losses : (m,)
        Their mean loss at each row of the trail.
    last : float
        At the last parameters.
    seen : Watched
        The lowest of all epochs.
    best : (k,)
        The parameters there.
    patience : Patience
        What was asked.
    """

    losses: Array
    last: float
    seen: Watched
    best: Array
    patience: Patience


@dataclass(frozen=True, eq=False)
class Course:
    """What training has done, before it is judged.

    Attributes
    ----------
    reason : str
        Why it stopped: all epochs "done", "patience" ran out, "stopped" by the callback, "diverged" or "interrupted".
    title : str
        Optimizer and learning rate, for sentences.
    rows, epochs, planned, evaluations : int
        Observations; epochs done and asked for; losses computed.
    start, parameters : (k,)
        Before the first and after the last update.
    lower, upper : (k,)
        Bounds, infinite where there is none.
    best : Point or None
        The lowest loss seen; None when not a single one was finite.
    trail : (m, 2 + 2k)
        For the history, up to the last epoch's start: epochs before, loss, gradient and parameters in each row.
    held : HeldTrail, optional
        What the held-out rows said.
    forecast : callable, optional
        Returns, from gradient (k,), Hessian (k, k) and loss at the end, how many epochs the slowest direction still needs
        at this learning rate; None where no law of the optimizer says so.
    near : float
        Distance to the minimum, in radii of the confidence region, that counts as arrived.
    """

    reason: Reason
    title: str
    rows: int
    epochs: int
    planned: int
    evaluations: int
    start: Array
    parameters: Array
    lower: Array
    upper: Array
    best: Point | None
    trail: Array
    held: HeldTrail | None = None
    forecast: Callable[[Array, Array, float], float | None] | None = None
    near: float = RADII


class Newton(NamedTuple):
    """What one Newton step from the last parameters promises."""

    gain: float  # of loss
    step: Array  # (k,), zero where a bound holds
    minimum: bool  # whether the loss bends upwards, so that there is a minimum to go to
    needed: float | None = None  # epochs to it in the slowest direction, where a law of the optimizer tells


def trail_row(step: int, loss: float, gradient: Array, parameters: Array) -> Array:
    """Return a row of a course's trail (2 + 2k,)."""
    return np.concatenate([[step, loss], gradient, parameters])


def ending(surface: Surface, course: Course) -> Outcome:
    """Return the outcome of a course.

    "converged" when one Newton step from the last parameters, along those that no bound holds, either would lower the
    loss by less than 0.03² k / (n - k) of it, which is 0.03 radii of the confidence region of a least-squares fit
    [1]_, or would move every parameter by less than a millionth of itself or of its way from the start. The Hessian is
    exact, by differentiating the gradient in float64.

    "stalled" when that step promises more, but the loss no longer falls, or so slowly over the last tenth of the
    epochs that the rest would take over three times as many; "epochs-done" when it still falls well. "diverged" when
    the loss has overflowed, or ends at more than twice that of the start; then, as after an interrupt, the best
    parameters seen are returned.

    With over 50 parameters, or more rows than so few epochs are worth, or where torch has no second derivative,
    "converged" asks that the loss has changed by less than a millionth of itself over the last tenth of the epochs
    while each component of the gradient has fallen below a thousandth of its largest value: a step that is too small
    does the first, but not the second.

    "early-stopped" when the parameters with the lowest loss over held-out rows were asked for, and the run went on
    beyond them: they are no minimum of the loss that was trained, and are not meant to be.

    References
    ----------
    .. [1] Bates & Watts, Technometrics 23 (1981) 179: a relative offset convergence criterion.
    """
    outcome = _ended(surface, course)
    return outcome if course.held is None else _with_held(outcome, surface, course, course.held)


def _with_held(outcome: Outcome, surface: Surface, course: Course, held: HeldTrail) -> Outcome:
    """Return the outcome with what the held-out rows said, at the parameters that they liked best where that was asked."""
    seen, steps = held.seen, course.trail[:, 0].astype(np.int64)
    complete = not len(steps) or steps[-1] < course.epochs
    told = HeldCourse(
        step=np.append(steps, course.epochs) if complete else steps,
        loss=np.append(held.losses, held.last) if complete else held.losses,
        best_step=seen.best_step,
        best_loss=seen.best,
        best=held.best,
        last=course.parameters,
        returned=course.epochs
        if outcome.parameters is course.parameters or course.best is None
        else course.best[0],
        stopped=course.reason == "patience",
    )
    if seen.best_step < 0:
        said = "The validation loss was never a finite number, so that it could choose nothing."
        return replace(outcome, held=told, message=f"{outcome.message} {said}")
    lost = outcome.status in ("diverged", "interrupted")
    at_best = outcome if lost else _ended(surface, replace(course, parameters=held.best))
    if held.patience.stop == "last" or (seen.best_step == course.epochs and not lost):
        return replace(outcome, held=told, message=f"{_patience_sentence(course, held)}{outcome.message}")
    back = f"Returned are the parameters after {count(seen.best_step, 'epoch')}, where the validation loss was least: "
    best, end = significant(seen.best, 4), significant(held.last, 4)
    at_end = f" (at the end {end})" if np.isfinite(held.last) and end != best else ""
    done = f"After {count(course.epochs, 'epoch')} of {course.title}: " if course.reason == "done" else ""
    first = f"{outcome.message} " if lost else _patience_sentence(course, held) or done
    return replace(
        outcome,
        parameters=held.best,
        loss=surface.value(held.best),
        status=outcome.status if lost else "converged" if at_best.converged else "early-stopped",
        message=f"{first}{_small(back) if first.endswith(': ') else back}{best}{at_end}.",
        evaluations=outcome.evaluations + 1,
        held=replace(told, returned=seen.best_step),
    )


def _patience_sentence(course: Course, held: HeldTrail) -> str:
    if course.reason != "patience":
        return ""
    done = f"{course.epochs} of {count(course.planned, 'epoch')} of {course.title}"
    waited = count(course.epochs - held.seen.mark_step, "epoch")
    return f"Stopped early after {done}: the validation loss had not fallen for {waited}. "


def _small(text: str) -> str:
    return text[0].lower() + text[1:]


def _ended(surface: Surface, course: Course) -> Outcome:
    if course.reason == "interrupted":
        return _best(surface, course, "interrupted", _interrupted(course))
    if course.reason == "diverged":
        where = f"in epoch {course.epochs}" if course.best else "at the start"
        return _best(surface, course, "diverged", f"The loss is not finite {where} of {course.title}")
    try:
        return _judged(surface, course)
    except KeyboardInterrupt:
        return _best(surface, course, "interrupted", _interrupted(course))


def _interrupted(course: Course) -> str:
    return f"Interrupted after {course.epochs} of {count(course.planned, 'epoch')} of {course.title}"


def _judged(surface: Surface, course: Course) -> Outcome:
    final = surface.value(course.parameters)
    done = f"{count(course.epochs, 'epoch')} of {course.title}"
    if not (np.isfinite(final) and np.isfinite(course.parameters).all()):
        return _best(surface, course, "diverged", f"The loss is not finite after {done}")
    k = len(course.parameters)
    affordable = k <= MOST_CURVATURE and (k * course.rows <= SMALL or 5 * k <= course.epochs)
    gradient, hessian = surface.derivatives(course.parameters, second=affordable)
    trail = np.vstack([course.trail, trail_row(course.epochs, final, gradient, course.parameters)])
    if hessian is None or not np.isfinite(gradient).all():
        status, verdict = _by_change(trail, surface)
    else:
        promise = newton(gradient, hessian, course)
        if course.forecast is not None and promise.minimum:
            promise = promise._replace(needed=course.forecast(gradient, hessian, final))
        status, verdict = _by_newton(promise, course, _Lately.of(trail, surface))
    first = trail[0, 1]
    if status != "converged" and final - first > abs(first):
        grown = f"The loss grew from {significant(first, 5)} to {significant(final, 5)} in {done}"
        course = replace(course, evaluations=course.evaluations + 3, trail=trail)
        return _best(surface, course, "diverged", grown)
    before = "Stopped by the callback: after" if course.reason == "stopped" else "After"
    message = f"{before} {done} the loss is {significant(final, 5)}, {verdict}."
    evaluations = course.evaluations + 3
    return Outcome(
        course.parameters, final, status, message, course.epochs, evaluations, lambda: _points(trail)
    )


def _best(surface: Surface, course: Course, status: Status, happened: str) -> Outcome:
    """Return the best parameters seen, with their loss over all rows."""
    if course.best is None:
        parameters, what = course.start, "the start is returned"
    else:
        parameters = np.asarray(course.best[3], dtype=np.float64)
        what = f"the best parameters seen are returned, those after {count(course.best[0], 'epoch')}"
    remedy = "; lower lr or scale the columns" if status == "diverged" and course.best else ""
    found = surface.value(parameters)
    trail = course.trail
    if not len(trail):
        trail = trail_row(0, found, np.full_like(parameters, np.nan), parameters)[None]
    message = f"{happened}: {what}{remedy}."
    evaluations = course.evaluations + 1
    return Outcome(parameters, found, status, message, course.epochs, evaluations, lambda: _points(trail))


def _points(trail: Array) -> list[Point]:
    k = (trail.shape[1] - 2) // 2
    return [(int(row[0]), float(row[1]), row[2 : 2 + k], row[2 + k :]) for row in trail]


def newton(gradient: Array, hessian: Array, course: Course) -> Newton:
    """Return what a Newton step promises along the parameters that no bound holds and the loss depends on."""
    below = (course.parameters <= course.lower) & (gradient > 0)
    above = (course.parameters >= course.upper) & (gradient < 0)
    flat = (gradient == 0) & ~hessian.any(axis=0)
    free = np.flatnonzero(~(below | above | flat))
    step = np.zeros_like(gradient)
    g, H = (
        (gradient, hessian) if free.size == gradient.size else (gradient[free], hessian[np.ix_(free, free)])
    )
    diagonal = H.diagonal()
    if not free.size or min(diagonal.tolist()) <= 0:
        return Newton(0.0, step, minimum=free.size == 0)
    scale = np.sqrt(diagonal)  # makes the answer independent of units
    bends, directions = np.linalg.eigh(H / (scale[:, None] * scale))
    along = directions.T @ (g / scale)
    inverse = along / np.maximum(bends, 1e-12 * bends[-1])
    step[free] = -(directions @ inverse) / scale
    return Newton(0.5 * float(along @ inverse), step, minimum=bool(bends[0] > -1e-10 * bends[-1]))


@dataclass(frozen=True, slots=True)
class _Lately:
    """The last tenth of the epochs: the loss at its end, by how much it has fallen, 0 within rounding, and how many."""

    final: float
    fallen: float
    span: int

    @classmethod
    def of(cls, trail: Array, surface: Surface) -> _Lately:
        """Return it for a trail that ends with the last parameters."""
        last, final = trail[-1, :2]
        earlier = trail[np.searchsorted(trail[:, 0], 0.9 * last, side="right") - 1]
        rounding = 4 * surface.rounding * abs(final)
        fallen = float(earlier[1] - final)
        return cls(float(final), 0.0 if abs(fallen) <= rounding else fallen, int(last - earlier[0]))


def _by_newton(promise: Newton, course: Course, lately: _Lately) -> tuple[Status, str]:
    k = len(promise.step)
    tolerance = course.near**2 * k / max(course.rows - k, 1) * abs(lately.final)
    reach = np.maximum(np.abs(course.parameters), np.abs(course.parameters - course.start))
    still = bool((np.abs(promise.step) <= DIGITS * reach).all())
    if promise.minimum and (promise.gain <= tolerance or still):
        return "converged", f"and {_gain(promise)}"
    return _on_the_way(promise, course, lately)


def _gain(promise: Newton) -> str:
    return f"a Newton step would lower it by {significant(promise.gain)}"


def _on_the_way(promise: Newton, course: Course, lately: _Lately) -> tuple[Status, str]:
    gain, fallen = _gain(promise), lately.fallen
    if fallen < 0:
        return "stalled", "which no longer falls but is not the least; lower lr or scale the columns"
    if not promise.minimum:
        return "epochs-done", "and there is no minimum nearby; give more epochs or another start"
    if fallen == 0:
        slow = "" if promise.needed is None else f", and {_slowest(promise.needed)}"
        return "stalled", f"which hardly falls, though {gain}{slow}; raise lr or scale the columns"
    needed = promise.gain / fallen * lately.span
    pace = f"at this pace the work of {_epochs(needed)}"
    pace = pace if promise.needed is None else _slowest(promise.needed)
    if needed > 3 * course.epochs:
        return "stalled", f"which hardly falls: {gain}, {pace}; raise lr or scale the columns"
    return "epochs-done", f"and still falls: {gain}, {pace}; give more epochs"


def _epochs(number: float) -> str:
    return count(max(round(number), 1), "epoch") if number < 1e6 else f"{significant(number)} epochs"


def _slowest(needed: float) -> str:
    """Return how long the slowest direction still takes."""
    if not needed < np.inf:
        return "to which this lr never leads"
    return f"for which the slowest direction needs about {_epochs(float(f'{needed:.2g}'))} more"


def _by_change(trail: Array, surface: Surface) -> tuple[Status, str]:
    gradients = np.abs(trail[:, 2 : 2 + (trail.shape[1] - 2) // 2])
    lately = _Lately.of(trail, surface)
    if not np.isfinite(gradients[-1]).all():
        return "stalled", "where its gradient is not finite; start elsewhere or bound the parameters"
    if abs(lately.fallen) > 1e-6 * abs(lately.final):
        return "epochs-done", "and still changes; give more epochs"
    if (gradients[-1] <= 1e-3 * np.max(gradients, axis=0)).all():
        return "converged", "and neither it nor the gradient changes any more"
    return "stalled", "which hardly changes, though its gradient is not small; change lr or scale the columns"
