"""Start values where none are given: many cheap draws, the most promising of different kinds refined."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

PARENTS = 48
DROP = 0.999  # of the lowest loss that is worth another generation
BASINS = 8  # refined points that a later round begins from
ALIKE = 1e-9  # relative difference of losses of one curve
MIRRORED = 1e-6  # the same where they are only some steps down
ANY = 0.2  # share of the draws that leave the unit of a parameter out of account


class Ground(Protocol):
    """What a search looks at: the model and the data, as an executor evaluates them."""

    def lowered(self, points: Array, /) -> tuple[Array, Array, Array]:
        """Return draws (k, m) with their linear parameters solved, and as far down as is cheap.

        Also their losses (m,), infinite where there is none, and residuals (m, r) that tell one curve from another.
        """
        ...

    def minima(self, points: Array, /) -> Iterator[tuple[Array, float]]:
        """Yield where fits from these starts (k, m) end (k,), and the loss there, infinite where there is none.

        Raises
        ------
        KeyboardInterrupt
            If the user stopped the fit.
        """
        ...


@dataclass(frozen=True, eq=False)
class Scales:
    """What the data say about the size of parameters.

    Attributes
    ----------
    low, span : (v,)
        Where each input begins, and over which range it varies.
    size : float
        Typical size of the response.
    units : (k, v + 1)
        Powers of the inputs' and the response's units in each parameter that is drawn; NaN where they are not known.
    turning : (k,) bool
        Parameters that an angle depends on. Where their unit is known they are drawn by that alone: a large number makes
        the model swing between any two points. Half of their rates are spread evenly up to `cycles` turns over the span.
    cycles : float
        The most that so many points can show.
    """

    low: Array
    span: Array
    size: float
    units: Array
    turning: Mask
    cycles: float = 48.0

    @classmethod
    def of(cls, columns: Sequence[Array], y: Array, units: Array, turning: Mask) -> "Scales":
        """Return the scales of data."""
        low = np.array([float(c.min()) for c in columns] or [0.0])
        high = np.array([float(c.max()) for c in columns] or [1.0])
        span = np.where(high > low, high - low, np.where(high != 0, np.abs(high), 1.0))
        size = float(np.max(np.abs(y), initial=0.0)) or 1.0
        return cls(low, span, size, units, turning, cycles=len(y) / 2)

    @property
    def main(self) -> int:
        """Which input varies most relative to its size."""
        return int(np.argmax(self.span / (np.abs(self.low) + np.abs(self.low + self.span))))


def draws(scales: Scales, count: int, *, seed: int, bounds: tuple[Array, Array]) -> Array:
    """Return (k, count) draws of parameters.

    A parameter whose unit is known is drawn as what has that unit: a place or a width, a rate over the span of x, a power,
    the size of y, or a product. Others, and a fifth of all in case the unit misleads, are any of those. A tenth are
    negative. Between two finite bounds the draw is uniform there. A Latin hypercube spreads them evenly in each coordinate
    (McKay, Beckman & Conover 1979); scipy.stats costs 0.6 s to import. The seed makes the draws repeatable.
    """
    names = len(scales.units)
    if names == 0:
        return np.empty((0, count))
    random = np.random.default_rng(seed)
    strata = random.permuted(np.tile(np.arange(count), (4 * names, 1)), axis=1)
    kind, place, sign, trust = ((strata + random.random(strata.shape)) / count).reshape(4, names, count)
    values = _of_any_kind(scales, kind, place)
    unknown = np.isnan(scales.units).any(axis=1, keepdims=True)
    by_unit = ~unknown & ((trust > ANY) | scales.turning[:, None])
    values = np.where(by_unit, _of_their_unit(scales, kind, place), values)
    places = np.where(by_unit, _is_place(scales)[:, None] & (kind < 0.5), kind < 0.2)
    values = np.where((sign < 0.1) & ~places, -values, values)
    lower, upper = bounds[0][:, None], bounds[1][:, None]
    inside = np.isfinite(lower) & np.isfinite(upper)
    between = np.where(inside, lower, 0) + np.where(inside, upper - lower, 0) * place
    values = np.where(inside, between, values)
    folded = np.where(values < lower, 2 * np.where(np.isfinite(lower), lower, 0) - values, values)
    folded = np.where(folded > upper, 2 * np.where(np.isfinite(upper), upper, 0) - folded, folded)
    return np.clip(folded, lower, upper)


def _of_any_kind(scales: Scales, kind: Array, place: Array) -> Array:
    low, span = scales.low[scales.main], scales.span[scales.main]
    centre = low + span * place
    rate = 0.03 * 1e4**place / span
    power = 0.03 * 1e3**place
    width = 0.01 * 300**place * span
    size = scales.size * 1e-2 * 1e4**place
    return np.choose(np.minimum((kind * 5).astype(int), 4), [centre, rate, power, width, size])


def _is_place(scales: Scales) -> Mask:
    """Return which parameters (k,) have the unit of one input."""
    units = scales.units
    return (np.abs(units).sum(axis=1) == 1) & (units.max(axis=1) == 1) & (units[:, -1] == 0)


def _of_their_unit(scales: Scales, kind: Array, place: Array) -> Array:
    units = np.nan_to_num(scales.units)
    with np.errstate(all="ignore"):
        scale = np.exp(units @ np.log([*scales.span, scales.size]))[:, None]
    plain = ~units.any(axis=1, keepdims=True)
    falling = units[:, :-1].min(axis=1, keepdims=True) < 0
    values = scale * np.where(
        plain, 0.03 * 1e3**place, np.where(falling, 0.03 * 1e4**place, 0.01 * 300**place)
    )
    values = np.where(units[:, -1:] != 0, scale * 1e-2 * 1e4**place, values)
    turning, turns = scales.turning[:, None], scales.cycles * place
    values = np.where(turning & plain & (kind > 0.25), 2 * np.pi * place, values)
    values = np.where(turning & falling & (kind > 0.5), scale * 2 * np.pi * turns, values)
    values = np.where(turning & _is_place(scales)[:, None] & (kind > 0.75), scale / turns, values)
    at = np.argmax(units[:, :-1], axis=1)
    centre = scales.low[at][:, None] + scales.span[at][:, None] * place
    return np.where(_is_place(scales)[:, None] & (kind < 0.5), centre, values)


def different(sums: Array, residuals: Array, most: int, share: float = 0.3) -> list[int]:
    """Return the best draws that are not copies of a better one, at most `most`.

    Two draws are of one basin when their curves differ by less than `share` of what either misses; the 24 best of one
    basin would be one start.
    """
    order = np.argsort(sums, kind="stable")
    order = order[np.isfinite(sums[order])]
    curves = residuals[order]
    own = np.einsum("mn,mn->m", curves, curves)
    left = np.isfinite(own)
    chosen: list[int] = []
    while len(chosen) < most and left.any():
        i = int(np.argmax(left))
        chosen.append(int(order[i]))
        apart = own + own[i] - 2 * (curves @ curves[i])
        left &= apart > share**2 * own
        left[i] = False
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
    share : float
        Of what a draw misses, that its curve differs from a better draw's for both to be refined.
    patience : int
        Generations without a drop of the lowest loss by a thousandth after which no more follow.
    seed : int
        The same seed gives the same answer.
    """

    count: int = 1024
    generations: int = 6
    most: int = 32
    rounds: int = 3
    share: float = 0.3
    patience: int = 1000
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Found:
    """What a search found.

    Attributes
    ----------
    parameters : (k,)
        Those of the lowest loss.
    ends : (k, refined)
        Where each refined start ended.
    losses : (refined,)
        The loss there.
    tried : int
        Draws looked at.
    interrupted : bool
        Whether the user stopped the search.
    rival : tuple of (k,) and float, optional
        The parameters of another minimum that the data hardly tell from the lowest, and its loss.
    """

    parameters: Array
    ends: Array
    losses: Array
    tried: int
    interrupted: bool = False
    rival: tuple[Array, float] | None = None

    @property
    def reached(self) -> int:
        """How many refined starts ended at the lowest loss."""
        return _reached(self.losses) if np.isfinite(self.losses).any() else 0


def search(
    ground: Ground,
    *,
    scales: Scales,
    bounds: tuple[Array, Array],
    linear: NDArray[np.int64],
    given: Array,
    settings: Search,
) -> Found:
    """Return the lowest minimum that many starts reach, from draws that need no start values.

    A KeyboardInterrupt ends the search, with the best so far.

    Parameters
    ----------
    bounds : (lower, upper)
        Each (k,).
    linear : (l,) int
        Parameters that are solved in closed form at each draw; none may be bounded or given.
    given : (k,)
        Start values that the user gave; NaN where there is none.
    """
    pool = _Pool(ground, scales, bounds=bounds, linear=linear, given=given, settings=settings)
    ends: list[Array] = []
    losses: list[float] = []
    interrupted = False
    try:
        pool.draw()
        for turn in range(settings.rounds):
            if turn:
                pool.cross(np.array(ends).T)
            for end, loss in ground.minima(pool.best(settings.most if turn == 0 else settings.most // 2)):
                ends.append(end)
                losses.append(loss if np.isfinite(loss) else np.inf)
            if not losses or 3 * _reached(np.array(losses)) >= len(losses):
                break
    except KeyboardInterrupt:
        interrupted = True
    nowhere = not losses or not np.isfinite(min(losses))
    best = pool.points[:, 0] if nowhere else _without_mirrors(pool, ends, losses, bounds)
    return Found(best, np.array(ends).T, np.array(losses), pool.tried, interrupted)


def plainest(ends: Sequence[Array], losses: Sequence[float]) -> Array:
    """Return that of the lowest ends which reads best: few minus signs, small numbers, and those in ascending order.

    A width may be negative, a phase larger by a turn, and two peaks may change places, all without changing the curve.
    """
    most = min(losses) * (1 + ALIKE)
    lowest = [end for end, loss in zip(ends, losses, strict=True) if loss <= most]
    with np.errstate(divide="ignore"):
        return min(
            lowest, key=lambda p: (int((p < 0).sum()), round(float(np.log(np.abs(p)).sum()), 6), p.tolist())
        )


def _without_mirrors(
    pool: "_Pool", ends: Sequence[Array], losses: Sequence[float], bounds: tuple[Array, Array]
) -> Array:
    """Return the plainest of the lowest ends, and of those that differ from it by the sign of a drawn parameter."""
    ends, losses = list(ends), list(losses)
    best = plainest(ends, losses)
    for j in pool.drawn[best[pool.drawn] < 0]:
        mirrored = np.where(np.arange(len(best)) == j, -best, best)
        if not bounds[0][j] <= mirrored[j] <= bounds[1][j]:
            continue
        here, there = pool.ground.lowered(np.column_stack([best, mirrored]))[1]
        if there <= here * (1 + MIRRORED):
            end, loss = next(iter(pool.ground.minima(mirrored[:, None])))
            ends.append(end)
            losses.append(loss)
            best = plainest(ends, losses)
    return best


def _reached(losses: Array) -> int:
    return int(np.count_nonzero(losses <= losses.min() * (1 + 1e-6) + 1e-300))


class _Pool:
    """Draws of one search, ranked; every generation keeps the best."""

    def __init__(
        self,
        ground: Ground,
        scales: Scales,
        *,
        bounds: tuple[Array, Array],
        linear: NDArray[np.int64],
        given: Array,
        settings: Search,
    ) -> None:
        known = np.isfinite(given)
        self.ground, self.given, self.known, self.settings = ground, given, known, settings
        self.drawn = np.setdiff1d(np.flatnonzero(~known), linear)
        self.random = np.random.default_rng(settings.seed)
        limits = (bounds[0][self.drawn], bounds[1][self.drawn])
        scales = replace(scales, units=scales.units[self.drawn], turning=scales.turning[self.drawn])
        self.fresh = draws(scales, settings.count, seed=settings.seed, bounds=limits)
        self.tried = 0
        self.points, self.sums, self.residuals = self.evaluated(self.fresh)

    def draw(self) -> None:
        lowest = [np.min(self.sums)]
        for _ in range(self.settings.generations if len(self.drawn) > 1 else 0):
            parents = self.points[:, different(self.sums, self.residuals, PARENTS)]
            if parents.shape[1] == 0:
                return
            self.keep(self.evaluated(self.crossed(parents)))
            lowest.append(self.sums[0])
            if (
                len(lowest) > self.settings.patience
                and not lowest[-1] < DROP * lowest[-1 - self.settings.patience]
            ):
                return

    def cross(self, parents: Array) -> None:
        """Begin again from refined points of different basins."""
        if len(self.drawn) == 0:
            return
        points, sums, residuals = self.ground.lowered(parents)
        chosen = different(sums, residuals, BASINS)
        if not chosen:
            return
        parents = points[:, chosen]
        self.points, self.sums, self.residuals = self.evaluated(self.crossed(parents))

    def best(self, most: int) -> Array:
        return self.points[:, different(self.sums, self.residuals, most, self.settings.share)]

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
        return self.ground.lowered(points)
