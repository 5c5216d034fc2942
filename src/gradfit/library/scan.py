"""Scan: start values from a look at the whole range of the parameters that enter nonlinearly.

For given shapes (places, widths, rates, powers) a model is linear in its other parameters, which least squares gives in
closed form [1]_. So a guess is: try a grid of shapes, take the best few, and improve each by a few Gauss-Newton steps.
The grid needs no smoothness, no order, no sign and little data, and noise is averaged by the fit itself.

References
----------
.. [1] Golub & Pereyra (2003), Separable nonlinear least squares: the variable projection method and its applications,
   Inverse Problems 19, R1.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from gradfit.library.axes import Axis
from gradfit.library.curve import Array, Curve
from gradfit.library.projection import Columns, centred, finite, losses, misfits, solved, two_coefficients

_BLOCK = 1_000_000  # numbers in one block of the scan
_BASINS = 3  # candidates of each sign that are followed further, for each term
_NEAR = 2.0  # steps within which candidates count as one
_RANKED = 200  # pairs among which the best are sought
_ROUNDS = 6  # of Gauss-Newton
_NUDGE = 1e-4  # steps of the axes over which derivatives are taken
_CLOSE = 0.01  # steps of the axes: nearer than that is the solver's work
_FLAT = 1e-12  # weight of the middle of the grid: it decides where the data cannot (constant y)
_ALIKE = 1e-4  # 1 - r² below which two terms of a grid count as one


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
    sketch : Callable, optional
        A basis that is nearly the same and quicker, for the grid.
    """

    axes: Callable[[Curve], Sequence[Axis]]
    basis: Callable[..., Columns]
    values: Callable[[Curve, Sequence[float], Sequence[float]], Mapping[str, float]]
    offset: bool = True
    x_shifts: bool = True
    pairs: bool = False
    sketch: Callable[..., Columns] | None = None

    def __call__(self, x: Array, y: Array) -> dict[str, float]:
        """Return start values, finite whatever the data are."""
        curve = Curve.of(x, y, x_shifts=self.x_shifts, y_shifts=self.offset)
        with np.errstate(all="ignore"):
            search = Search(curve, tuple(self.axes(curve)), self.basis, self.offset)
            shapes = search.narrowed(replace(search, basis=self.sketch or self.basis).best_of_grid())
            if self.pairs:
                shapes = search.best_pair(shapes)
                search = search.doubled()
            columns = [column[0] for column in search.columns(shapes[None])]
            linear = solved(columns, curve.v, offset=self.offset)
            return finite(self.values(curve, shapes.tolist(), linear.tolist()))


@dataclass(frozen=True)
class Search:
    """The best shapes for one curve: of a grid, then around its best candidates.

    Attributes
    ----------
    curve : Curve
        What the columns are compared with.
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

    def misfits(self, shapes: Array) -> Array:
        """Return the residuals (g, m) of candidates (g, d)."""
        return misfits(self.columns(shapes), self.curve.v, offset=self.offset)

    def best_of_grid(self) -> Array:
        """Return the best few shapes (b, d), the middle of the grid if all are alike."""
        shapes, away = grid(self.axes)
        block = max(_BLOCK // self.curve.u.size, 1)
        parts = [self.columns(shapes[at : at + block]) for at in range(0, len(shapes), block)]
        loss = np.concatenate([losses(part, self.curve.v, offset=self.offset) for part in parts])
        return self.apart(shapes, loss + _FLAT * self.curve.u.size * away)

    def apart(self, shapes: Array, loss: Array) -> Array:
        """Return the best few (b, d) of the candidates (g, d) that are no neighbours of each other, of every sign."""
        numbers = np.stack([axis.number(shapes[:, i]) for i, axis in enumerate(self.axes)], axis=1)
        negative = np.sum([axis.ratio * (shapes[:, i] < 0) for i, axis in enumerate(self.axes)], axis=0)
        kept = [int(np.argmin(loss))]
        for sign in np.unique(negative):
            left = np.where(negative == sign, loss, np.inf)
            for _ in range(_BASINS * self.terms):
                best = int(np.argmin(left))
                if not np.isfinite(left[best]):
                    break
                kept.append(best)
                left[np.max(np.abs(numbers - numbers[best]), axis=1) <= _NEAR] = np.inf
        return shapes[np.unique(kept)]

    def narrowed(self, shapes: Array) -> Array:
        """Return the best shapes (d,) after a few damped Gauss-Newton steps from each of (b, d), counted in axis steps."""
        v, d = self.curve.v, len(self.axes)
        t, damping = np.zeros_like(shapes), np.full(len(shapes), 1e-2)
        misfit = self.misfits(shapes)
        for _ in range(_ROUNDS):
            nudged = self.misfits(self.moved(shapes[:, None], t[:, None] + _NUDGE * np.eye(d)).reshape(-1, d))
            J = (nudged.reshape(len(t), d, -1) - misfit[:, None]) / _NUDGE
            normal: Array = J @ J.transpose(0, 2, 1)
            gradient: Array = np.einsum("bdm,bm->bd", J, misfit)
            size = np.einsum("bdd->bd", normal) + 1e-12 * (v @ v) + 1e-30
            damped: Array = normal + damping[:, None, None] * size[:, None] * np.eye(d)
            newton = np.linalg.solve(damped, -gradient[..., None])[..., 0]
            step = np.clip(newton, -1, 1).astype(np.float64)
            tried = self.misfits(self.moved(shapes, t + step))
            better = np.sum(tried**2, axis=1) < np.sum(misfit**2, axis=1)
            t, misfit = np.where(better[:, None], t + step, t), np.where(better[:, None], tried, misfit)
            damping = np.where(better, damping / 5, damping * 10)
            if np.max(np.abs(step)) < _CLOSE:
                break
        loss = np.sum(misfit**2, axis=1)
        return self.moved(shapes, t)[np.argmin(np.where(np.isfinite(loss), loss, np.inf))]

    def moved(self, shapes: Array, steps: Array) -> Array:
        """Return the shapes (..., d) moved by steps (..., d)."""
        return np.stack(
            [axis.moved(shapes[..., i], steps[..., i]) for i, axis in enumerate(self.axes)], axis=-1
        )

    def doubled(self) -> "Search":
        """Return the search for two terms of this basis."""
        d = len(self.axes)

        def both(u: Array, *shapes: Array) -> Columns:
            return self.basis(u, *shapes[:d]) + self.basis(u, *shapes[d:])

        return Search(self.curve, self.axes * 2, both, self.offset, terms=2)

    def best_pair(self, alone: Array) -> Array:
        """Return the shapes (2d,) of the best two terms, from the inner products of the terms of the grid.

        Parameters
        ----------
        alone : Array
            (d,) The best shapes of one term: of two terms that are far apart the grid seldom has the larger so well.
        """
        shapes, away = grid(self.axes)
        shapes, away = np.vstack([alone, shapes]), np.append(0.0, away)
        (terms,), v = centred(self.columns(shapes), self.curve.v, offset=self.offset)
        i, j = np.triu_indices(len(terms), 1)
        gram, seen = terms @ terms.T, terms @ v
        size = np.diag(gram)
        one, other = two_coefficients((size[i], size[j]), gram[i, j], (seen[i], seen[j]), alike=_ALIKE)
        explained = one * seen[i] + other * seen[j]
        loss = _FLAT * v.size * (away[i] + away[j]) - np.where(np.isfinite(explained), explained, -np.inf)
        ranked = np.argpartition(loss, min(_RANKED, loss.size - 1))[:_RANKED]
        double = self.doubled()
        return double.narrowed(double.apart(np.hstack([shapes[i[ranked]], shapes[j[ranked]]]), loss[ranked]))


def grid(axes: Sequence[Axis]) -> tuple[Array, Array]:
    """Return all combinations (g, d), and how far each is from the middle, from 0 to d."""
    shapes = np.stack(np.meshgrid(*(axis.values for axis in axes), indexing="ij"), axis=-1)
    away = [np.linspace(-1, 1, axis.values.size) ** 2 for axis in axes]
    total = np.sum(np.stack(np.meshgrid(*away, indexing="ij"), axis=-1), axis=-1)
    return shapes.reshape(-1, len(axes)), total.ravel()
