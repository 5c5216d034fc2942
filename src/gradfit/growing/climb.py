"""Up a ladder until its models overfit, then down to the smallest one that is as good as the best."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np

from gradfit.growing.ladder import Array, Ladder, Rung, Shown
from gradfit.splitting import Split

EXACT = 1e-24  # mean squared residual over mean squared response that counts as no residual: 1e-12 of the response


@dataclass(frozen=True)
class Plan:
    """How to climb.

    Attributes
    ----------
    splits : sequence of (seed, sequence of Split)
        For each seed its folds.
    patience : int
        How many sizes may bring no lower validation loss before growing ends.
    rule : str
        "one-se" or "best".
    size : float
        Mean squared weighted response: what residuals are compared with.
    callback : callable, optional
        Called with each rung; a true answer ends the growing.
    """

    splits: Sequence[tuple[int, Sequence[Split]]]
    patience: int
    rule: str
    size: float
    callback: Callable[[Rung], object] | None = None


@dataclass(frozen=True, eq=False)
class Climb:
    """The rungs that were looked at, by size, and which is best and which is chosen (places among them).

    Attributes
    ----------
    ended : str
        Why growing stopped: "overfits", "exact", "sizes" (there was no larger one), "stopped".
    """

    rungs: tuple[Rung, ...]
    best: int
    chosen: int
    ended: str


def climb(ladder: Ladder, sizes: Sequence[int], plan: Plan) -> Climb:
    """Return the way up and down a ladder.

    References
    ----------
    .. [1] Breiman, Friedman, Olshen & Stone (1984), Classification and Regression Trees, sec. 3.4.3: the one-standard-error rule.
    .. [2] Hastie, Tibshirani & Friedman (2009), The Elements of Statistical Learning, 2nd ed., sec. 7.10.
    """
    rungs, ended = _up(ladder, sizes, plan)
    while ended != "stopped":  # sizes that were jumped over on the way up
        between = _between(rungs, _chosen(rungs, plan))
        if between is None:
            break
        (shown,) = ladder.shown([between], plan.splits, len(sizes))
        rungs.append(rung(ladder, between, shown, plan))
        rungs.sort(key=lambda r: r.size)
        if plan.callback is not None and plan.callback(next(r for r in rungs if r.size == between)):
            ended = "stopped"
    return Climb(tuple(rungs), _best(rungs, plan), _chosen(rungs, plan), ended)


def _up(ladder: Ladder, sizes: Sequence[int], plan: Plan) -> tuple[list[Rung], str]:
    """Return the rungs until the validation loss has risen for a while, and why the last one was the last."""
    rungs: list[Rung] = []
    best = 0
    while len(rungs) < len(sizes):
        certain = sizes[len(rungs) : best + plan.patience + 1]  # they are looked at whatever they show
        for size, shown in zip(certain, ladder.shown(certain, plan.splits, len(sizes)), strict=True):
            rungs.append(rung(ladder, size, shown, plan))
            best = _best(rungs, plan)
            if plan.callback is not None and plan.callback(rungs[-1]):
                return rungs, "stopped"
            if rungs[best].validation <= EXACT * plan.size:
                return rungs, "exact"
        if len(rungs) - 1 - best >= plan.patience:
            return rungs, "overfits"
    return rungs, "sizes"


def rung(ladder: Ladder, size: int, shown: Shown, plan: Plan) -> Rung:
    """Return what one size has shown, over all folds and seeds."""
    with np.errstate(all="ignore"):
        folds = np.array([[_mean(held) for _, held in each] for each in shown])
        train = np.array([[_mean(own) for own, _ in each] for each in shown])
    share = np.array([[len(s.held) for s in splits] for _, splits in plan.splits], dtype=float)
    share /= share.sum()
    mean = float(np.sum(share * folds))
    if folds.shape[1] > 1:
        stderr = float(np.mean(np.std(folds, axis=1, ddof=1))) / sqrt(folds.shape[1])
    else:
        stderr = float(np.mean([_error(held) for each in shown for _, held in each]))
    return Rung(
        size, ladder.label(size), ladder.parameters(size), float(np.mean(train)), mean, stderr, folds, train
    )


def _error(losses: Array) -> float:
    """Return the standard error of a mean, NaN of one number."""
    return float(np.std(losses, ddof=1)) / sqrt(len(losses)) if len(losses) > 1 else np.nan


def _mean(losses: Array) -> float:
    mean = float(np.mean(losses)) if len(losses) else np.nan
    return mean if isfinite(mean) else np.inf


def _best(rungs: Sequence[Rung], plan: Plan) -> int:
    """Return the place of the lowest validation loss; what differs by rounding alone counts as equal, and the first wins."""
    losses = np.array([r.validation for r in rungs])
    losses = np.maximum(np.where(np.isfinite(losses), losses, np.inf), EXACT * plan.size)
    return int(np.argmin(losses))


def _chosen(rungs: Sequence[Rung], plan: Plan) -> int:
    best = _best(rungs, plan)
    if plan.rule == "best":
        return best
    error = rungs[best].stderr if isfinite(rungs[best].stderr) else 0.0
    limit = max(rungs[best].validation + error, EXACT * plan.size)
    return next(i for i, r in enumerate(rungs) if r.validation <= limit or i == best)


def _between(rungs: Sequence[Rung], chosen: int) -> int | None:
    """Return a size between the chosen one and the next smaller one that was looked at; None where there is none."""
    if chosen == 0:
        return None
    low, high = rungs[chosen - 1].size, rungs[chosen].size
    return (low + high) // 2 if high - low > 1 else None
