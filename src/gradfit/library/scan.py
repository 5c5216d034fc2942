"""Scan: start values from a look at the whole range of the parameters that enter nonlinearly.

For given shapes (places, widths, rates, powers) a model is linear in its other parameters, which least squares gives in
closed form [1]_. So a guess is: try a grid of shapes, take the best, and narrow the grid around it. That needs no
smoothness, no order, no sign and little data, and noise is averaged by the fit itself.

References
----------
.. [1] Golub & Pereyra (2003), Separable nonlinear least squares: the variable projection method and its applications,
   Inverse Problems 19, R1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gradfit.library.curve import Array, Curve

Columns = tuple[Array, ...]

_BLOCK = 1_000_000  # numbers in one block of the scan
_BASINS = 3  # candidates of each sign that are followed further, for each term
_NEAR = 2.0  # steps within which candidates count as one
_OTHER_SIGN = 1e6  # steps between the signs of a rate
_RANKED = 200  # pairs among which these are sought
_ROUNDS = 6  # of the search around each
_CLOSE = 0.01  # steps of the axes: nearer than that is the solver's work
_NUDGE = 1e-4  # steps of the axes over which derivatives are taken
_FLAT = 1e-12  # weight of the middle of the grid: it decides where the data cannot (constant y)
_ALIKE = 1e-9  # 1 - r² below which two columns count as one


@dataclass(frozen=True)
class Axis:
    """Candidates for one shape, and by how much neighbours differ.

    Attributes
    ----------
    values : Array
        (k,) candidates.
    step : float
        The distance of neighbours, or the logarithm of their ratio.
    ratio : bool
        Whether neighbours differ by a factor.
    limits : (float, float)
        Between which the value stays when it is moved; for factors those of its magnitude.
    """

    values: Array
    step: float
    ratio: bool
    limits: tuple[float, float] = (-np.inf, np.inf)

    def moved(self, value: Array, steps: Array) -> Array:
        """Return `value` moved by that many steps, but not beyond the limits; it keeps its sign where steps are factors."""
        if self.ratio:
            return np.copysign(np.clip(np.abs(value) * np.exp(self.step * steps), *self.limits), value)
        return np.clip(value + self.step * steps, *self.limits)

    def number(self, values: Array) -> Array:
        """Return the values counted in steps; values of different sign are far apart if they differ by factors."""
        return (
            np.log(np.abs(values)) / self.step + _OTHER_SIGN * (values < 0)
            if self.ratio
            else values / self.step
        )


def even(low: float, high: float, count: int, also: Sequence[float] = ()) -> Axis:
    """Return `count` candidates at equal distances, and some more."""
    values = np.linspace(low, high, count)
    return Axis(np.concatenate([values, also]), float(values[1] - values[0]), ratio=False)


def ratios(low: float, high: float, factor: float, *, signed: bool = False) -> Axis:
    """Return candidates from low to high, each about `factor` times the one before; `signed`: and their negatives."""
    high = max(high, low * factor)
    count = min(max(int(np.ceil(np.log(high / low) / np.log(factor))) + 1, 2), 80)
    values = np.geomspace(low, high, count)
    step = float(np.log(high / low) / (count - 1))
    return Axis(
        np.concatenate([-values[::-1], values]) if signed else values, step, ratio=True, limits=(low, high)
    )


@dataclass(frozen=True)
class Scan:
    """A guess by a scan; call it with x (n,) and y (n,).

    Attributes
    ----------
    axes : Callable
        Curve -> the candidates for each shape.
    basis : Callable
        (u (m,), shapes (g, 1), ...) -> one or two columns (g, m).
    values : Callable
        (curve, shapes, coefficients) -> parameters in the user's units; an offset is the last coefficient.
    offset : bool
        Whether a constant is added to the columns.
    x_shifts : bool
        Whether the model can follow a shift of x.
    pairs : bool
        Whether the model is a sum of two terms with the same (single-column) basis.
    """

    axes: Callable[[Curve], Sequence[Axis]]
    basis: Callable[..., Columns]
    values: Callable[[Curve, Sequence[float], Sequence[float]], Mapping[str, float]]
    offset: bool = True
    x_shifts: bool = True
    pairs: bool = False

    def __call__(self, x: Array, y: Array) -> dict[str, float]:
        """Return start values, finite whatever the data are."""
        curve = Curve.of(x, y, x_shifts=self.x_shifts, y_shifts=self.offset)
        with np.errstate(all="ignore"):
            search = Search(curve, tuple(self.axes(curve)), self.basis, self.offset)
            shapes = search.best()
            if self.pairs:
                search, shapes = search.doubled(), search.doubled().best_pair(search, shapes)
            coefficients = solved(
                [column[0] for column in search.columns(shapes[None])], curve.v, offset=self.offset
            )
            return finite(self.values(curve, shapes.tolist(), coefficients.tolist()))


@dataclass(frozen=True)
class Search:
    """The best shapes for one curve: of a grid, then around its best candidates.

    Attributes
    ----------
    curve : Curve
    axes : tuple of Axis
        One for each shape.
    basis, offset
        As in Scan.
    terms : int
        How many terms of one basis the columns are.
    """

    curve: Curve
    axes: tuple[Axis, ...]
    basis: Callable[..., Columns]
    offset: bool
    terms: int = 1

    def columns(self, shapes: Array) -> Columns:
        """Return the columns (g, m) of candidates (g, d)."""
        return self.basis(self.curve.u, *(shapes[:, i, None] for i in range(shapes.shape[1])))

    def losses(self, shapes: Array) -> Array:
        """Return the residual sums (g,) of candidates (g, d), infinite where one cannot be evaluated."""
        block = max(_BLOCK // self.curve.u.size, 1)
        parts = [shapes[at : at + block] for at in range(0, len(shapes), block)]
        return np.concatenate(
            [residual(self.columns(part), self.curve.v, offset=self.offset) for part in parts]
        )

    def best(self) -> Array:
        """Return the best shapes (d,), the middle of the grid if all are alike."""
        shapes, away = grid(self.axes)
        return self.narrowed(self.apart(shapes, self.losses(shapes) + _FLAT * self.curve.u.size * away))

    def apart(self, shapes: Array, losses: Array) -> Array:
        """Return the best few (b, d) of the candidates (g, d) that are no neighbours of each other, of every sign."""
        numbers = np.stack([axis.number(shapes[:, i]) for i, axis in enumerate(self.axes)], axis=1)
        signs = np.sum(numbers >= _OTHER_SIGN / 2, axis=1)
        kept: list[int] = []
        for sign in np.unique(signs):
            left = np.where(signs == sign, losses, np.inf)
            for _ in range(_BASINS * self.terms):
                kept.append(int(np.argmin(left)))
                left[np.max(np.abs(numbers - numbers[kept[-1]]), axis=1) <= _NEAR] = np.inf
        return shapes[kept]

    def narrowed(self, shapes: Array) -> Array:
        """Return the best shapes (d,) after a few damped Gauss-Newton steps, counted in steps of the axes, from (b, d)."""
        v, d = self.curve.v, len(self.axes)
        t, damping = np.zeros_like(shapes), np.full(len(shapes), 1e-2)
        misfit = self.misfits(shapes)
        nudges = _NUDGE * np.eye(d)
        for _ in range(_ROUNDS):
            nudged = self.misfits(self.moved(shapes[:, None], t[:, None] + nudges).reshape(-1, d))
            J = (nudged.reshape(len(t), d, -1) - misfit[:, None]) / _NUDGE
            normal, gradient = J @ J.transpose(0, 2, 1), np.einsum("bdm,bm->bd", J, misfit)
            size = np.einsum("bdd->bd", normal) + 1e-12 * (v @ v) + 1e-30
            damped = normal + damping[:, None, None] * size[:, None] * np.eye(d)
            step = np.clip(np.linalg.solve(damped, -gradient[..., None])[..., 0], -1, 1)
            tried = self.misfits(self.moved(shapes, t + step))
            better = np.sum(tried**2, axis=1) < np.sum(misfit**2, axis=1)
            t, misfit = np.where(better[:, None], t + step, t), np.where(better[:, None], tried, misfit)
            damping = np.where(better, damping / 5, damping * 10)
            if np.max(np.abs(step)) < _CLOSE:
                break
        return self.moved(shapes, t)[np.argmin(np.sum(misfit**2, axis=1))]

    def moved(self, shapes: Array, steps: Array) -> Array:
        """Return the shapes (..., d) moved by steps (..., d)."""
        return np.stack(
            [axis.moved(shapes[..., i], steps[..., i]) for i, axis in enumerate(self.axes)], axis=-1
        )

    def misfits(self, shapes: Array) -> Array:
        """Return the residuals (g, m) of candidates (g, d)."""
        columns, v = self.columns(shapes), self.curve.v
        if self.offset:
            columns, v = [column - column.mean(axis=1, keepdims=True) for column in columns], v - v.mean()
        return v - sum(
            c[:, None] * column for c, column in zip(coefficients(columns, v), columns, strict=True)
        )

    def doubled(self) -> "Search":
        """Return the search for two terms of this basis."""
        d, basis = len(self.axes), self.basis
        return Search(
            self.curve, self.axes * 2, lambda u, *s: basis(u, *s[:d]) + basis(u, *s[d:]), self.offset, 2
        )

    def best_pair(self, single: "Search", alone: Array) -> Array:
        """Return the shapes (2d,) of the best two terms, from the inner products of the terms of the grid.

        Parameters
        ----------
        single : Search
            For one term.
        alone : Array
            (d,) its best shapes: the larger of two terms that are far apart is seldom met by the grid so well.
        """
        shapes, away = grid(single.axes)
        shapes, away = np.vstack([alone, shapes]), np.append(0.0, away)
        (terms,) = single.columns(shapes)
        v = self.curve.v
        if self.offset:
            terms, v = terms - terms.mean(axis=1, keepdims=True), v - v.mean()
        first, second = np.triu_indices(len(terms), 1)
        gram, seen = terms @ terms.T, terms @ v
        size = np.diag(gram)
        products = size[first], size[second], gram[first, second], seen[first], seen[second]
        one, other = _two_coefficients(*products, alike=1e-4)
        explained = one * seen[first] + other * seen[second]
        losses = _FLAT * v.size * (away[first] + away[second]) - np.where(
            np.isfinite(explained), explained, -np.inf
        )
        ranked = np.argpartition(losses, min(_RANKED, losses.size - 1))[:_RANKED]
        pairs = np.hstack([shapes[first[ranked]], shapes[second[ranked]]])
        return self.narrowed(self.apart(pairs, losses[ranked]))


def grid(axes: Sequence[Axis]) -> tuple[Array, Array]:
    """Return all combinations (g, d), and how far each is from the middle, from 0 to d."""
    shapes = np.stack(np.meshgrid(*(axis.values for axis in axes), indexing="ij"), axis=-1)
    away = [np.linspace(-1, 1, axis.values.size) ** 2 for axis in axes]
    total = np.sum(np.stack(np.meshgrid(*away, indexing="ij"), axis=-1), axis=-1)
    return shapes.reshape(-1, len(axes)), total.ravel()


def residual(columns: Columns, v: Array, *, offset: bool) -> Array:
    """Return the residual sums (g,) of least squares of v (m,) on one or two columns (g, m) and perhaps a constant."""
    if offset:
        columns, v = [column - column.mean(axis=1, keepdims=True) for column in columns], v - v.mean()
    explained = sum(c * (column @ v) for c, column in zip(coefficients(columns, v), columns, strict=True))
    loss = v @ v - explained
    return np.where(np.isfinite(loss), loss, np.inf)


def coefficients(columns: Columns, v: Array) -> Columns:
    """Return the coefficients (g,) of least squares of v (m,) on one or two columns (g, m)."""
    seen = [column @ v for column in columns]
    size = [np.einsum("gm,gm->g", column, column) for column in columns]
    if len(columns) == 1:
        return (np.where(size[0] > 0, seen[0] / size[0], 0.0),)
    return _two_coefficients(*size, np.einsum("gm,gm->g", *columns), *seen, alike=_ALIKE)


def _two_coefficients(aa: Array, bb: Array, ab: Array, av: Array, bv: Array, *, alike: float) -> Columns:  # noqa: PLR0917 -- products
    """Return the coefficients of two columns a, b from inner products; of the first alone when they are alike."""
    determinant = aa * bb - ab**2
    apart = determinant > alike * aa * bb
    alone = np.where(aa > 0, av / aa, 0.0)
    return np.where(apart, (av * bb - bv * ab) / determinant, alone), np.where(
        apart, (bv * aa - av * ab) / determinant, 0.0
    )


def solved(columns: Columns, v: Array, *, offset: bool) -> Array:
    """Return the coefficients of v (m,) on the columns (m,) by least squares, the shortest if many are as good."""
    matrix = np.stack([*columns, np.ones_like(v)] if offset else columns, axis=1)
    size = np.linalg.norm(matrix, axis=0)
    size = np.where((size > 0) & np.isfinite(size), size, 1.0)
    matrix = np.nan_to_num(matrix / size, posinf=0.0, neginf=0.0)
    return np.linalg.lstsq(matrix, v, rcond=None)[0] / size


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values as floats, those beyond 1e300 as ±1e300 and those that are no number as 0."""
    return {name: float(np.nan_to_num(np.clip(value, -1e300, 1e300))) for name, value in values.items()}
