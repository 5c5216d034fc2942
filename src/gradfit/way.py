"""How a training went, in the numbers that findings are made from; what would mend it is tried before it is said."""

from dataclasses import dataclass, replace
from math import isfinite, sqrt
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from gradfit.diagnose import Way
from gradfit.diagnose.about_training import BOTH, MISSED, NEAR
from gradfit.errors import GradfitError
from gradfit.rates import enough
from gradfit.solve.curvature import condition
from gradfit.solve.descent import optimizer_settings
from gradfit.solve.ending import Course, newton
from gradfit.solve.stability import Law, law_of
from gradfit.task import Task, surface_of
from gradfit.training import Trained, forecast_of, rate_found, seconds_of, train

Array = NDArray[np.float64]

TRAININGS = 60  # that trying the remedies takes, about
SOON = 2.0  # seconds, about, for all of them
MOST = 8.0  # seconds, about, for the longer ones where nothing else has helped
LONGER = 40  # times the epochs; more are not tried


def way_of(trained: Trained, executor: str) -> Way | None:
    """Return how a training went; None where it was interrupted, or its loss has no second derivatives.

    Parameters
    ----------
    trained : Trained
        The training, in the user's units.
    executor : str
        What it was told to use.
    """
    task, course, outcome = trained.task, trained.course, trained.outcome
    name, settings = optimizer_settings(trained.descent, len(task.start))
    rate = settings.get("lr")
    if outcome.status == "interrupted" or not isinstance(rate, int | float):
        return None
    offset = np.inf if outcome.status == "diverged" else offset_at(task, course, outcome.parameters)
    trail = course.trail
    if offset is None or not len(trail):
        return None
    if outcome.status == "converged":
        offset = min(offset, NEAR)
    losses = trail[:, 1]
    way = Way(
        optimizer=name, rate=float(rate), epochs=course.epochs, offset=offset, first=float(losses[0]),
        last=np.inf if outcome.status == "diverged" else outcome.loss, lowest=float(np.min(losses)), turning=turning(trail),
        gradients=_ratio(np.abs(trail[0, 2 : 2 + len(task.start)])), scaled=task.scale == "auto",
    )  # fmt: skip
    if offset < MISSED:
        return way
    law = law_of(name, settings)
    return _tried(_bent(way, trained, law), trained, executor)


def offset_at(task: Task, course: Course, parameters: Array) -> float | None:
    """Return the distance of parameters (f,) to the minimum, in radii of the confidence region of a least-squares fit.

    It is what a Newton step would gain, in units of the loss over n - k; infinite where there is no minimum nearby, None
    where the loss has no second derivatives.

    References
    ----------
    .. [1] Bates & Watts (1981), Technometrics 23, 179.
    """
    surface = surface_of(task)
    gradient, hessian = surface.derivatives(parameters, second=True)
    if hessian is None:
        return None
    loss = surface.value(parameters)
    if not (isfinite(loss) and np.isfinite(gradient).all()):
        return np.inf
    promise = newton(gradient, hessian, replace(course, parameters=parameters))
    if not promise.minimum:
        return np.inf
    share = enough(len(task.problem.y), len(parameters)) / NEAR**2
    return sqrt(max(promise.gain, 0.0) / (share * abs(loss))) if loss else 0.0


def turning(trail: Array) -> float:
    """Return the median cosine between gradients of successive epochs in the last quarter of a trail (m, 2 + 2k)."""
    k = (trail.shape[1] - 2) // 2
    late = trail[3 * len(trail) // 4 :]
    one, other = late[:-1], late[1:]
    beside = other[:, 0] - one[:, 0] == 1
    g, h = one[beside, 2 : 2 + k], other[beside, 2 : 2 + k]
    lengths = np.linalg.norm(g, axis=1) * np.linalg.norm(h, axis=1)
    known = lengths > 0
    return float(np.median(np.sum(g * h, axis=1)[known] / lengths[known])) if known.any() else 0.0


def _ratio(sizes: Array) -> float:
    return float(sizes.max() / sizes.min()) if sizes.size and sizes.min() > 0 else np.inf


def _bent(way: Way, trained: Trained, law: Law | None) -> Way:
    """Return the way with what the curvature says: the stable limit, condition numbers, epochs that are missing."""
    task, outcome = trained.task, trained.outcome
    T = (
        np.eye(len(task.start))
        if trained.scaling is None
        else trained.scaling.transform / trained.scaling.unit
    )
    surface, bends = surface_of(task), list[tuple[Array, Array]]()
    for parameters in (task.start, outcome.parameters):
        gradient, hessian = surface.derivatives(parameters, second=True)
        if hessian is not None and np.isfinite(gradient).all():
            bends.append((T.T @ gradient, T.T @ hessian @ T))
    _, jacobian = task.problem.residual_jacobian(outcome.parameters)
    if np.isfinite(jacobian).all():
        lengths = np.linalg.norm(jacobian, axis=0)
        standard = condition(jacobian / np.where(lengths > 0, lengths, 1.0))
        way = replace(way, conditions=(condition(jacobian @ T), standard))
    if law is None or law.adaptive or not bends:
        return way
    way = replace(way, limit=min(law.limit(float(np.linalg.eigvalsh(H)[-1])) for _, H in bends))
    return replace(way, needed=_needed(trained))


def _needed(trained: Trained) -> float:
    """Return the epochs that the slowest direction still needs; infinite where none are enough, or nobody knows."""
    outcome = trained.outcome
    forecast = forecast_of(replace(trained.task, descent=trained.descent), trained.scaling)
    gradient, hessian = surface_of(trained.task).derivatives(outcome.parameters, second=True)
    if hessian is None or forecast is None or outcome.status == "diverged" or not np.isfinite(gradient).all():
        return np.inf
    return forecast.epochs(gradient, hessian, outcome.loss)


# ---------------------------------------------------------------------------- what would mend it


def _tried(way: Way, trained: Trained, executor: str) -> Way:
    """Return the way with the remedies that were tried, where that is soon done."""
    task = replace(trained.task, watching=None, checkpoint=None)
    one = seconds_of(task, executor)
    if task.descent.scheduler is not None or TRAININGS * one > SOON:
        return way
    bench = _Bench(task, executor)
    best = _best_rate(task, executor)
    tried: dict[float, float] = {}
    cures: dict[str, float] = {}
    for rate in [] if best is None else [best, float(f"{best / 2:.3g}")]:  # the best one may be on the edge
        done = bench.trained(lr=rate)
        tried[rate] = cures[f"lr={rate:.3g}"] = bench.end(done)
        if tried[rate] < NEAR:
            return replace(way, tried={rate: tried[rate]}, cures=cures)
        epochs = bench.enough(done)
        if epochs is not None:
            cures[f"lr={rate:.3g}, epochs={epochs}"] = bench.end(bench.trained(lr=rate, epochs=epochs))
    cures |= bench.longer(trained, way.rate)
    for factor in (1, 10, 100):
        if factor * TRAININGS * one > MOST or (factor > 1 and min(cures.values()) < NEAR):
            break
        longer = factor * int(task.descent.epochs)
        text = BOTH if factor == 1 else f"{BOTH}, epochs={longer}"
        cures[text] = bench.end(bench.trained(lr="auto", epochs=longer, scale="auto"))
    return replace(way, tried=dict(sorted(tried.items(), key=lambda item: item[1])), cures=cures)


@dataclass(frozen=True, eq=False)
class _Bench:
    """Where remedies are tried: the training, from its start."""

    task: Task
    executor: str

    def trained(
        self, *, lr: float | Literal["auto"], epochs: int | None = None, scale: str | None = None
    ) -> Trained:
        """Return the training with other settings."""
        task = self.task
        descent = replace(task.descent, lr=lr, epochs=epochs or task.descent.epochs)
        return train(replace(task, descent=descent, scale=scale or task.scale), self.executor, None)

    def end(self, done: Trained) -> float:
        """Return how far from the minimum a training ended."""
        if done.outcome.status in ("diverged", "converged"):
            return np.inf if done.outcome.status == "diverged" else 0.0
        offset = offset_at(self.task, done.course, done.outcome.parameters)
        return np.inf if offset is None else offset

    def enough(self, done: Trained) -> int | None:
        """Return how many epochs such a training needs in all, with a quarter to spare; None where that is far too many."""
        epochs = int(done.descent.epochs)
        if forecast_of(replace(done.task, descent=done.descent), done.scaling) is None:
            return 8 * epochs
        needed = _needed(done)
        return epochs + int(1.25 * needed) + 1 if needed < LONGER * epochs else None

    def longer(self, done: Trained, rate: float) -> dict[str, float]:
        """Return how far from the minimum the training ends with more epochs at its own rate."""
        first = None if done.outcome.status == "diverged" else self.enough(done)
        out: dict[str, float] = {}
        for epochs in () if first is None else (first, 5 * first):
            if epochs > LONGER * done.course.epochs or min(out.values(), default=np.inf) < NEAR:
                break
            out[f"epochs={epochs}"] = self.end(self.trained(lr=rate, epochs=epochs))
        return out


def _best_rate(task: Task, executor: str) -> float | None:
    try:
        found = rate_found(task, executor)
    except GradfitError:  # an optimizer that a function makes has its own rate
        return None
    return float(f"{found.rate:.3g}")
