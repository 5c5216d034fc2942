"""Judges where first-order training has ended: in a minimum, on the way, stuck, or nowhere."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np

from gradfit._lazy import torch
from gradfit.notation import count, significant
from gradfit.solve.outcome import Array, Outcome, Point, Status

RADII = (
    0.03  # distance to the minimum, in radii of the confidence region, that counts as arrived (Bates & Watts)
)
DIGITS = 1e-6  # relative Newton step that counts as none where the loss has no noise to compare with
MOST_CURVATURE = 50  # parameters up to which the Hessian is formed; it costs about as much as 4 k epochs
SMALL = 2_000_000  # rows times parameters up to which nobody feels that

Reason = Literal["done", "stopped", "diverged", "interrupted"]
Loss = Callable[["torch.Tensor", "torch.Tensor | None"], "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class Course:
    """What training has done, before it is judged.

    Attributes
    ----------
    reason : str
        Why it stopped: all epochs "done", "stopped" by the callback, "diverged" or "interrupted".
    title : str
        Optimizer and learning rate, for sentences.
    dtype : torch.dtype
        In which it was trained.
    rows, epochs, planned, evaluations : int
        Observations; epochs done and asked for; losses computed.
    start, parameters : (k,)
        Before the first and after the last update.
    lower, upper : (k,)
        Bounds, infinite where there is none.
    best : Point or None
        The lowest loss seen; None when not a single one was finite.
    points : list of Point
        For the history, up to the last epoch's start.
    """

    reason: Reason
    title: str
    dtype: torch.dtype
    rows: int
    epochs: int
    planned: int
    evaluations: int
    start: Array
    parameters: Array
    lower: Array
    upper: Array
    best: Point | None
    points: list[Point]


class Newton(NamedTuple):
    """What one Newton step from the last parameters promises."""

    gain: float  # of loss
    step: Array  # (k,), zero where a bound holds
    minimum: bool  # whether the loss bends upwards, so that there is a minimum to go to


def ending(loss: Loss, course: Course) -> Outcome:
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

    References
    ----------
    .. [1] Bates & Watts, Technometrics 23 (1981) 179: a relative offset convergence criterion.
    """
    if course.reason == "interrupted":
        return _best(loss, course, "interrupted", _interrupted(course))
    if course.reason == "diverged":
        where = f"in epoch {course.epochs}" if course.best else "at the start"
        return _best(loss, course, "diverged", f"The loss is not finite {where} of {course.title}")
    try:
        return _judged(loss, course)
    except KeyboardInterrupt:
        return _best(loss, course, "interrupted", _interrupted(course))


def _interrupted(course: Course) -> str:
    return f"Interrupted after {course.epochs} of {count(course.planned, 'epoch')} of {course.title}"


def _judged(loss: Loss, course: Course) -> Outcome:
    final = _value(loss, course.parameters, course.dtype)
    done = f"{count(course.epochs, 'epoch')} of {course.title}"
    if not (np.isfinite(final) and np.isfinite(course.parameters).all()):
        return _best(loss, course, "diverged", f"The loss is not finite after {done}")
    k = len(course.parameters)
    affordable = k <= MOST_CURVATURE and (k * course.rows <= SMALL or 5 * k <= course.epochs)
    gradient = _slope(loss, course.parameters)
    hessian = _hessian(loss, course.parameters) if affordable else None
    points = [*course.points, (course.epochs, final, gradient, course.parameters)]
    if hessian is None or not np.isfinite(gradient).all():
        status, verdict = _by_change(points, course)
    else:
        status, verdict = _by_newton(newton(gradient, hessian, course), course, points)
    first = points[0][1]
    if status != "converged" and final - first > abs(first):
        grown = f"The loss grew from {significant(first, 5)} to {significant(final, 5)} in {done}"
        course = replace(course, evaluations=course.evaluations + 3, points=points)
        return _best(loss, course, "diverged", grown)
    before = "Stopped by the callback: after" if course.reason == "stopped" else "After"
    message = f"{before} {done} the loss is {significant(final, 5)}, {verdict}."
    return Outcome(course.parameters, final, status, message, course.epochs, course.evaluations + 3, points)


def _best(loss: Loss, course: Course, status: Status, happened: str) -> Outcome:
    """Return the best parameters seen, with their loss over all rows."""
    if course.best is None:
        parameters, what = course.start, "the start is returned"
    else:
        parameters = np.asarray(course.best[3], dtype=np.float64)
        what = f"the best parameters seen are returned, those after {count(course.best[0], 'epoch')}"
    remedy = "; lower lr or scale the columns" if status == "diverged" and course.best else ""
    found = _value(loss, parameters, course.dtype)
    points = course.points or [(0, found, np.full_like(parameters, np.nan), parameters)]
    message = f"{happened}: {what}{remedy}."
    return Outcome(parameters, found, status, message, course.epochs, course.evaluations + 1, points)


def _value(loss: Loss, parameters: Array, dtype: torch.dtype) -> float:
    with torch.no_grad():
        return loss(torch.tensor(parameters, dtype=dtype, device="cpu"), None).item()


def _slope(loss: Loss, parameters: Array) -> Array:
    leaf = torch.tensor(parameters, dtype=torch.float64, device="cpu", requires_grad=True)
    (slope,) = torch.autograd.grad(loss(leaf, None), leaf)
    return slope.numpy()


def _hessian(loss: Loss, parameters: Array) -> Array | None:
    """Return the Hessian (k, k) in float64, None where torch has no second derivative."""
    leaf = torch.tensor(parameters, dtype=torch.float64, device="cpu", requires_grad=True)
    try:
        (slope,) = torch.autograd.grad(loss(leaf, None), leaf, create_graph=True)
        rows = [torch.autograd.grad(part, leaf, retain_graph=True)[0] for part in slope]
    except RuntimeError:  # torch's answer where a derivative has none itself; the change decides then
        return None
    hessian = torch.stack(rows).numpy()
    return hessian if np.isfinite(hessian).all() else None


def newton(gradient: Array, hessian: Array, course: Course) -> Newton:
    """Return what a Newton step promises along the parameters that no bound holds and the loss depends on."""
    below = (course.parameters <= course.lower) & (gradient > 0)
    above = (course.parameters >= course.upper) & (gradient < 0)
    flat = (gradient == 0) & ~hessian.any(axis=0)
    free = np.flatnonzero(~(below | above | flat))
    step = np.zeros_like(gradient)
    g, H = gradient[free], hessian[np.ix_(free, free)]
    diagonal = H.diagonal()
    if not free.size or (diagonal <= 0).any():
        return Newton(0.0, step, minimum=free.size == 0)
    scale = np.sqrt(diagonal)  # makes the answer independent of units
    bends, directions = np.linalg.eigh(H / np.outer(scale, scale))
    along = directions.T @ (g / scale)
    inverse = along / np.maximum(bends, 1e-12 * bends[-1])
    step[free] = -(directions @ inverse) / scale
    return Newton(0.5 * float(along @ inverse), step, minimum=bool(bends[0] > -1e-10 * bends[-1]))


def _by_newton(promise: Newton, course: Course, points: list[Point]) -> tuple[Status, str]:
    final, k = points[-1][1], len(promise.step)
    tolerance = RADII**2 * k / max(course.rows - k, 1) * abs(final)
    reach = np.maximum(np.abs(course.parameters), np.abs(course.parameters - course.start))
    still = bool((np.abs(promise.step) <= DIGITS * reach).all())
    if promise.minimum and (promise.gain <= tolerance or still):
        return "converged", f"and {_gain(promise)}"
    return _on_the_way(promise, course, points)


def _gain(promise: Newton) -> str:
    return f"a Newton step would lower it by {significant(promise.gain)}"


def _on_the_way(promise: Newton, course: Course, points: list[Point]) -> tuple[Status, str]:
    gain = _gain(promise)
    fallen, span = _lately(points, course)
    if fallen < 0:
        return "stalled", "which no longer falls but is not the least; lower lr or scale the columns"
    if not promise.minimum:
        return "epochs-done", "and there is no minimum nearby; give more epochs or another start"
    if fallen == 0:
        return "stalled", f"which hardly falls, though {gain}; raise lr or scale the columns"
    needed = promise.gain / fallen * span
    about = count(max(round(needed), 1), "epoch") if needed < 1e6 else f"{significant(needed)} epochs"
    if needed > 3 * course.epochs:
        pace = f"{gain}, at this pace the work of {about}"
        return "stalled", f"which hardly falls: {pace}; raise lr or scale the columns"
    return "epochs-done", f"and still falls: {gain}, at this pace the work of {about}; give more epochs"


def _by_change(points: list[Point], course: Course) -> tuple[Status, str]:
    final = points[-1][1]
    fallen, _ = _lately(points, course)
    if not np.isfinite(points[-1][2]).all():
        return "stalled", "where its gradient is not finite; start elsewhere or bound the parameters"
    steepest = np.max([np.abs(gradient) for _, _, gradient, _ in points], axis=0)
    if abs(fallen) > 1e-6 * abs(final):
        return "epochs-done", "and still changes; give more epochs"
    if (np.abs(points[-1][2]) <= 1e-3 * steepest).all():
        return "converged", "and neither it nor the gradient changes any more"
    return "stalled", "which hardly changes, though its gradient is not small; change lr or scale the columns"


def _lately(points: list[Point], course: Course) -> tuple[float, int]:
    """Return by how much the loss has fallen over the last tenth of the epochs, 0 within rounding, and their number."""
    last, final = points[-1][:2]
    step, loss = next((step, loss) for step, loss, _, _ in reversed(points) if step <= 0.9 * last)
    rounding = 4 * torch.finfo(course.dtype).eps * abs(final)
    return 0.0 if abs(loss - final) <= rounding else loss - final, last - step
