"""Start values where none are given: many cheap draws, the most promising of different kinds refined."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

PARENTS = 48
BLOCK = 4_000_000  # numbers in one block of draws: what fits beside the cache without paging


class Batch(Protocol):
    """Evaluates many sets of parameters at once."""

    def __call__(self, parameters: Array, /) -> tuple[Array, Array]:
        """Return residuals (m, n) and derivatives (l, m, n) by the linear parameters for draws (k, m)."""
        ...


@dataclass(frozen=True)
class Scales:
    """What the data say about the size of parameters.

    Attributes
    ----------
    low, high : float
        Range of the inputs.
    size : float
        Typical size of the response.
    """

    low: float
    high: float
    size: float

    @classmethod
    def of(cls, columns: Sequence[Array], y: Array) -> "Scales":
        """Return the scales of data; of the input that varies most relative to its size where there are several."""
        if not columns:
            return cls(0.0, 1.0, _size(y))
        ranges = [(float(c.min()), float(c.max())) for c in columns]
        low, high = max(ranges, key=lambda r: (r[1] - r[0]) / (abs(r[0]) + abs(r[1]) or 1.0))
        return cls(low, high, _size(y))


def _size(y: Array) -> float:
    return float(np.max(np.abs(y), initial=0.0)) or 1.0


def draws(scales: Scales, names: int, count: int, *, seed: int, bounds: tuple[Array, Array]) -> Array:
    """Return (names, count) draws of parameters whose roles are unknown.

    Each is a place in the range of x, a rate over its span, a power, a width, or of the size of y; a tenth are negative.
    Between two finite bounds the draw is uniform there. A Latin hypercube spreads them evenly in each coordinate (McKay,
    Beckman & Conover 1979); it finds what a Sobol sequence finds on the NIST problems, without the 0.6 s that importing
    scipy.stats costs. The seed makes the draws repeatable.
    """
    if names == 0:
        return np.empty((0, count))
    random = np.random.default_rng(seed)
    strata = random.permuted(np.tile(np.arange(count), (3 * names, 1)), axis=1)
    unit = (strata + random.random(strata.shape)) / count
    kind, place, sign = unit[:names], unit[names : 2 * names], unit[2 * names :]
    span = (scales.high - scales.low) or abs(scales.high) or 1.0
    centre = scales.low + span * place
    rate = 0.03 * 1e4**place / span
    power = 0.03 * 1e3**place
    width = 0.01 * 300**place * span
    size = scales.size * 1e-2 * 1e4**place
    values = np.choose(np.minimum((kind * 5).astype(int), 4), [centre, rate, power, width, size])
    values = np.where((sign < 0.1) & (kind >= 0.2), -values, values)
    lower, upper = bounds[0][:, None], bounds[1][:, None]
    inside = np.isfinite(lower) & np.isfinite(upper)
    between = np.where(inside, lower, 0) + np.where(inside, upper - lower, 0) * unit[names : 2 * names]
    values = np.where(inside, between, values)
    folded = np.where(values < lower, 2 * np.where(np.isfinite(lower), lower, 0) - values, values)
    folded = np.where(folded > upper, 2 * np.where(np.isfinite(upper), upper, 0) - folded, folded)
    return np.clip(folded, lower, upper)


def rank(batch: Batch, points: Array, linear: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    """Return points with their linear parameters solved (k, m), their residual sums (m,), and their residuals (m, n)."""
    residuals, basis = batch(points)
    if len(linear):
        phi = np.moveaxis(basis, 0, -1)  # (m, n, l)
        with np.errstate(all="ignore"):
            lengths = np.sqrt(np.einsum("mnl,mnl->ml", phi, phi))
            phi = phi / np.where((lengths > 0) & np.isfinite(lengths), lengths, 1.0)[:, None, :]
            gram = np.einsum("mni,mnj->mij", phi, phi) + 1e-12 * np.eye(len(linear))
            reach = np.einsum("mnl,mn->ml", phi, residuals)
        usable = np.isfinite(gram).all((1, 2)) & np.isfinite(reach).all(1)
        change = np.zeros_like(reach)
        change[usable] = np.linalg.solve(gram[usable], -reach[usable][..., None])[..., 0]
        with np.errstate(all="ignore"):
            residuals = residuals + np.einsum("mnl,ml->mn", phi, change)
            points = points.copy()
            points[linear] += (change / np.where(lengths > 0, lengths, 1.0)).T
    with np.errstate(all="ignore"):
        sums = np.einsum("mn,mn->m", residuals, residuals)
    return points, np.where(np.isfinite(sums), sums, np.inf), residuals


def different(sums: Array, residuals: Array, most: int, share: float = 0.3) -> list[int]:
    """Return the best draws that are not copies of a better one, at most `most`.

    Two draws are of one basin when their curves differ by less than `share` of what either misses; the 24 best of one
    basin would be one start.
    """
    chosen: list[int] = []
    for i in np.argsort(sums, kind="stable"):
        if not np.isfinite(sums[i]) or len(chosen) == most:
            break
        apart = residuals[chosen] - residuals[i] if chosen else np.empty((0, 1))
        if np.all(np.einsum("mn,mn->m", apart, apart) > share**2 * sums[i]):
            chosen.append(int(i))
    return chosen


@dataclass(frozen=True)
class Search:
    """How widely to look.

    Parameters
    ----------
    count : int
        Draws a generation; a power of two.
    generations : int
        Turns in which the best draws exchange some of their parameters for other draws': a sum of two peaks is found
        one peak at a time.
    most : int
        Draws that are refined in the first round.
    rounds : int
        Rounds at most. A later one begins from what the earlier ones refined, and runs while fewer than a third of the
        refined starts agree on the lowest loss.
    seed : int
        The same seed gives the same answer.
    """

    count: int = 1024
    generations: int = 6
    most: int = 32
    rounds: int = 3
    seed: int = 0

    @classmethod
    def for_unknowns(cls, unknowns: int, seed: int) -> "Search":
        """Return how widely to look for so many nonlinear parameters without a start value."""
        return cls(count=256, generations=2, most=12, seed=seed) if unknowns <= 2 else cls(seed=seed)


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Attributes
    ----------
    parameters : (k,)
        Those of the lowest loss.
    losses : (refined,)
        Where each refined start ended.
    tried : int
        Draws looked at.
    reached : int
        Refined starts that ended at the lowest loss.
    interrupted : bool
        Whether the user stopped the search.
    """

    parameters: Array
    losses: Array
    tried: int
    reached: int
    interrupted: bool = False


def search(
    batch: Batch,
    refine: Callable[[Array], tuple[Array, float]],
    *,
    scales: Scales,
    bounds: tuple[Array, Array],
    linear: NDArray[np.int64],
    given: Array,
    settings: Search | None = None,
) -> Found:
    """Return the lowest minimum that many starts reach, from draws that need no start values.

    Parameters
    ----------
    batch : callable
        Residuals and derivatives by the parameters `linear` of many draws at once.
    refine : callable
        From a start (k,) to the minimum (k,) below it, and its loss. A KeyboardInterrupt from it ends the search, with
        the best so far.
    bounds : (lower, upper)
        Each (k,).
    linear : (l,) int
        Parameters to solve in closed form at each draw; none may be bounded or given.
    given : (k,)
        Start values that the user gave; NaN where there is none.
    """
    settings = settings or Search()
    pool = _Pool(batch, scales, bounds=bounds, linear=linear, given=given, settings=settings)
    pool.draw()
    ends: list[Array] = []
    losses: list[float] = []
    interrupted = False
    try:
        for turn in range(settings.rounds):
            if turn:
                order = np.argsort(losses, kind="stable")[:8]
                pool.cross(np.stack([ends[i] for i in order], axis=1))
            for start in pool.best(settings.most if turn == 0 else settings.most // 2):
                end, loss = refine(start)
                ends.append(end)
                losses.append(loss if np.isfinite(loss) else np.inf)
            if not losses or 3 * _reached(losses) >= len(losses):
                break
    except KeyboardInterrupt:
        interrupted = True
    if not losses or not np.isfinite(min(losses)):
        return Found(pool.points[:, 0], np.array(losses), pool.tried, 0, interrupted)
    return Found(ends[int(np.argmin(losses))], np.array(losses), pool.tried, _reached(losses), interrupted)


def _reached(losses: Sequence[float]) -> int:
    lowest = min(losses)
    return int(np.count_nonzero(np.array(losses) <= lowest * (1 + 1e-6) + 1e-300))


class _Pool:
    """Draws of one search, ranked; every generation keeps the best."""

    def __init__(
        self,
        batch: Batch,
        scales: Scales,
        *,
        bounds: tuple[Array, Array],
        linear: NDArray[np.int64],
        given: Array,
        settings: Search,
    ) -> None:
        known = np.isfinite(given)
        self.batch, self.given, self.known, self.settings = batch, given, known, settings
        self.linear = linear
        self.drawn = np.setdiff1d(np.flatnonzero(~known), linear)
        self.random = np.random.default_rng(settings.seed)
        limits = (bounds[0][self.drawn], bounds[1][self.drawn])
        self.fresh = draws(scales, len(self.drawn), settings.count, seed=settings.seed, bounds=limits)
        self.tried = 0
        self.points, self.sums, self.residuals = self.evaluated(self.fresh)

    def draw(self) -> None:
        for _ in range(self.settings.generations if len(self.drawn) > 1 else 0):
            parents = self.points[:, different(self.sums, self.residuals, PARENTS)]
            if parents.shape[1] == 0:
                return
            self.keep(self.evaluated(self.crossed(parents)))

    def cross(self, parents: Array) -> None:
        """Begin again from refined points."""
        if len(self.drawn) == 0:
            return
        self.points, self.sums, self.residuals = self.evaluated(self.crossed(parents))

    def best(self, most: int) -> Array:
        return self.points[:, different(self.sums, self.residuals, most)].T

    def crossed(self, parents: Array) -> Array:
        count = self.settings.count
        children = parents[self.drawn][:, self.random.integers(parents.shape[1], size=count)]
        swapped = self.random.random(children.shape) < 1 / len(self.drawn) ** 0.5
        return np.where(swapped, self.fresh[:, self.random.permutation(count)], children)

    def keep(self, more: tuple[Array, Array, Array]) -> None:
        sums = np.concatenate([self.sums, more[1]])
        order = np.argsort(sums, kind="stable")[: self.settings.count]
        self.points = np.concatenate([self.points, more[0]], axis=1)[:, order]
        self.residuals = np.concatenate([self.residuals, more[2]])[order]
        self.sums = sums[order]

    def evaluated(self, values: Array) -> tuple[Array, Array, Array]:
        points = np.zeros((len(self.given), values.shape[1]))
        points[self.drawn] = values
        points[self.known] = self.given[self.known, None]
        self.tried += values.shape[1]
        return _in_blocks(self.batch, points, self.linear)


def _in_blocks(batch: Batch, points: Array, linear: NDArray[np.int64]) -> tuple[Array, Array, Array]:
    first = rank(batch, points[:, :1], linear)
    width = max(1, min(points.shape[1], BLOCK // (first[2].size * max(1, len(points)))))
    parts = [rank(batch, points[:, i : i + width], linear) for i in range(0, points.shape[1], width)]
    return (
        np.concatenate([p[0] for p in parts], axis=1),
        np.concatenate([p[1] for p in parts]),
        np.concatenate([p[2] for p in parts]),
    )
