"""Tests of held-out rows: overfitting, copies across the split, a copied target."""

from collections.abc import Mapping
from math import nan, pi, sqrt

import numpy as np
from numpy.typing import NDArray

import gradfit.diagnose.laws as laws
from gradfit._lazy import spatial, special
from gradfit.diagnose.geometry import RANK, lengths

Array = NDArray[np.float64]

LEAST = 5  # held-out rows; of fewer nothing can be said
LEAST_OF_A_HISTORY = 10
DOUBLE = 2.0  # honest fits have (1 + k/n)/(1 - k/n), which is less while k < n/3
RISE = 1.05
FREE = 1.5  # noise variances that errors of the parameters add to a prediction: its variance is 2.5 times what it need be
SAME, CLOSE = 1e-6, 0.02  # of a column's spread; of the usual distance between rows of the training
MOST_COMPARED = 200_000  # rows among which near copies are looked for


# ---------------------------------------------------------------------------- overfitting


def larger(a: Array, b: Array) -> float:
    """Return the p-value of Mann and Whitney that values of a are larger than those of b, with ties.

    >>> round(larger(np.arange(5.0) + 9, np.arange(5.0)), 4)
    0.0061
    """
    m, n = len(a), len(b)
    place = laws.ranks(np.concatenate([a, b]))
    _, times = np.unique(place, return_counts=True)
    total = m + n
    ties = float(np.sum(times.astype(np.float64) ** 3 - times)) / (total * (total - 1)) if total > 1 else 0.0
    spread = sqrt(max(m * n / 12 * (total + 1 - ties), 0.0))
    if spread == 0:
        return 1.0
    above = float(place[:m].sum()) - m * (m + 1) / 2 - m * n / 2 - 0.5
    return float(special.ndtr(-above / spread))


def doubled(held: Array, trained: Array) -> tuple[float, float]:
    """Return the ratio of the mean squares of held-out and trained residuals, and the p-value that it is above two.

    By ranks, so that tails do not matter. (nan, 1) for fewer than five held-out rows.
    """
    if len(held) < LEAST or not len(trained):
        return nan, 1.0
    mean = float(np.mean(trained**2))
    ratio = float(np.mean(held**2)) / mean if mean > 0 else np.inf
    return ratio, larger(np.abs(held) / sqrt(DOUBLE), np.abs(trained))


def as_good(held: Array, trained: Array) -> float:
    """Return the p-value that held-out rows scatter less than twice as much as those that were trained on."""
    return larger(np.abs(trained), np.abs(held) / 2) if len(held) >= LEAST else 1.0


def risen(losses: Array, returned: int) -> tuple[float, float]:
    """Return by how much the held-out loss has risen since its best epoch, as a ratio, with its p-value.

    The best epoch of either half of the rows is judged on the other half: the lowest of many is low by luck too.

    Parameters
    ----------
    losses : (s, m)
        Of each row after each of some epochs.
    returned : int
        The epoch in question.
    """
    n = losses.shape[1]
    if n < LEAST_OF_A_HISTORY or not np.isfinite(losses).all():
        return nan, 1.0
    half = np.random.default_rng(0).permutation(n) % 2 == 0
    more, least = np.empty(n), np.empty(n)
    for part in (half, ~half):
        best = int(losses[:, ~part].mean(axis=1).argmin())
        more[part], least[part] = losses[returned, part] - losses[best, part], losses[best, part]
    mean = float(least.mean())
    ratio = 1 + float(more.mean()) / mean if mean > 0 else np.inf
    if not more.any() or not np.isfinite(ratio):
        return ratio, 1.0
    roots = np.sqrt(least + more) - np.sqrt(
        least
    )  # of squares they are misses: a few huge ones do not hide the others
    return ratio, laws.cauchy([above_zero(more), signed_ranks(more), above_zero(roots)], [2, 1, 1])


def above_zero(values: Array) -> float:
    """Return the p-value of Student's t that the mean lies above zero, the outermost 2 % at each end pulled in."""
    n = len(values)
    clipped = np.clip(values, *np.quantile(values, [0.02, 0.98]))
    error = float(clipped.std(ddof=1)) / sqrt(n)
    return float(special.stdtr(n - 1, -float(clipped.mean()) / error)) if error > 0 else 1.0


def freedom(J: Array, residuals: Array, held_J: Array, held: Array) -> tuple[float, float]:
    """Return how far errors of the parameters spoil predictions, and how far these are missed, both in noise variances.

    Means over all rows that had no part in their own prediction: those held out, and each row in training left out in its
    turn. The row that the others tell least about is dropped: one point that stands alone is no overfitting.

    Parameters
    ----------
    J, residuals : (n, k), (n,)
        Derivatives by the parameters, and residuals, of the rows in training, n > k.
    held_J, held : (m, k), (m,)
        Of those held out.

    References
    ----------
    .. [1] Allen (1974), Technometrics 16, 125: rows left out one by one, from the leverage alone.
    """
    norm = lengths(J)
    if J.shape[1] == 0 or not (norm > 0).all() or not np.isfinite(held_J).all():
        return 0.0, 0.0
    U, sv, V = np.linalg.svd(J / norm, full_matrices=False)
    known = sv > RANK * sv[0]
    own = np.minimum(np.einsum("ij,ij->i", U[:, known], U[:, known]), 1 - 1e-9)
    spread = (held_J / norm) @ V[known].T / sv[known]
    leverage = np.append(own / (1 - own), np.einsum("ij,ij->i", spread, spread))
    missed = np.append(residuals / (1 - own), held) ** 2
    rest = np.argsort(leverage)[:-1]
    noise = float(residuals @ residuals) / (len(residuals) - int(known.sum()))
    return float(leverage[rest].mean()), float(missed[rest].mean()) / noise if noise > 0 else 0.0


def signed_ranks(values: Array) -> float:
    """Return the p-value of Wilcoxon's signed ranks that values lie above zero."""
    values = values[values != 0]
    n = len(values)
    if n == 0:
        return 1.0
    place = laws.ranks(np.abs(values))
    spread = sqrt(float(place @ place)) / 2
    above = float(place[values > 0].sum()) - n * (n + 1) / 4
    return float(special.ndtr(-above / spread))


# ---------------------------------------------------------------------------- leakage


def copies(trained: Array, held: Array, noise: float) -> tuple[NDArray[np.intp], float]:
    """Return which held-out rows (columns x..., y) are in the training too, and the p-value that chance made so many.

    Gridded x and rounded y collide by chance: pairs of equal x share a y that is rounded to `step` with probability
    step / (2 sqrt(pi) noise). Where no row is the same, rows that are nearer than 2 % of the usual distance count, against
    what the training has of such among its own.
    """
    both = np.vstack([trained, held])
    unit = both.std(axis=0)
    unit[unit == 0] = 1.0
    keys = _keys(np.round(both / unit / SAME))
    mine, theirs = keys[: len(trained)], keys[len(trained) :]
    same = np.flatnonzero(np.isin(theirs, mine))
    places = _keys(np.round(both[:, :-1] / unit[:-1] / SAME))
    times = np.bincount(places[: len(trained)], minlength=int(places.max()) + 1)
    pairs = float(times[places[len(trained) :]].sum())
    values = np.unique(both[:, -1])
    step = float(np.diff(values).min()) if len(values) > 1 else 0.0
    by_chance = min(1.0, step / (2 * sqrt(pi) * noise) if noise > 0 else 1.0) * pairs * 1.5 + 1e-12
    p = float(special.gammainc(len(same), by_chance)) if len(same) else 1.0
    if len(same) > 1 or len(both) > MOST_COMPARED or len(trained) < 3:
        return same, p if len(same) > 1 else 1.0
    return near(trained / unit, held / unit)


def near(trained: Array, held: Array) -> tuple[NDArray[np.intp], float]:
    """Return which held-out rows lie closer to one of the training than 2 % of the usual distance, and the p-value."""
    tree = spatial.KDTree(trained)
    inner = np.asarray(tree.query(trained, k=2)[0])[:, 1]
    outer = np.asarray(tree.query(held, k=1)[0])
    limit = CLOSE * float(np.median(inner))
    seen, rate = np.flatnonzero(outer < limit), (int((inner < limit).sum()) + 1) / (len(trained) + 1)
    if len(seen) < 3:
        return seen, 1.0
    return seen, float(special.bdtrc(len(seen) - 1, len(held), min(1.0, 1.5 * rate)))


def twins(trained: Array, held: Array) -> NDArray[np.intp]:
    """Return which rows of the training are those that these held-out rows are copies of."""
    both = np.vstack([trained, held])
    unit = both.std(axis=0)
    unit[unit == 0] = 1.0
    distance, _ = spatial.KDTree(held / unit).query(trained / unit, k=1)
    limit = 2 * float(np.max(spatial.KDTree(trained / unit).query(held / unit, k=1)[0])) + SAME
    return np.flatnonzero(np.asarray(distance) <= limit)


def copied_target(inputs: Mapping[str, Array], y: Array) -> str:
    """Return the input that holds the response itself, "" where there is none.

    It must agree in every row, with at least ten rows and values that are not a few steps: an instrument that reads to the
    degree may agree with another one.
    """
    if len(y) < 2 * LEAST or 2 * len(np.unique(y)) < len(y):
        return ""
    slack = 1e-12 * float(np.max(np.abs(y)))
    return next((name for name, x in inputs.items() if np.all(np.abs(x - y) <= slack)), "")


def _keys(rounded: Array) -> NDArray[np.intp]:
    """Return the number of each row (n,) among the different ones."""
    if rounded.shape[1] == 0:
        return np.zeros(len(rounded), dtype=np.intp)
    return np.unique(rounded, axis=0, return_inverse=True)[1].reshape(-1)
