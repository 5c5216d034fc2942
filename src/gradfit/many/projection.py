"""What many starts leave of many fits at the same places x, with the linear parameters solved: two products of matrices."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.library import MODELS
from gradfit.library.axes import Axis
from gradfit.library.curve import Curve
from gradfit.library.scan import Scan, grid
from gradfit.many.rows import Array, Block, Indices
from gradfit.model import BoundModel
from gradfit.prepare import Parameters
from gradfit.solve.lockstep.batch import Kernel

_PRODUCT = (
    800_000  # multiplications of one product: more are worth threads to BLAS, and these fits have theirs
)
_MOST = 4_000_000  # numbers in the columns of all starts
_RANK = 1e-10  # of a column's length, below which what is left of it beside the others is rounding


@dataclass(frozen=True, eq=False)
class Projection:
    """The columns of the linear parameters at some starts, made orthonormal.

    Attributes
    ----------
    rest : (c, n)
        The model where the linear parameters are 0.
    columns : (c, l, n)
        Orthonormal for each start, 0 for what the others explain.
    usable : (c,) bool
        Whether they are finite.
    weight : (n,) or None
        Of the points.
    """

    rest: Array
    columns: Array
    usable: NDArray[np.bool_]
    weight: Array | None

    def best(self, y: Array) -> tuple[Indices, Array]:
        """Return for each response (m, n) the start (m,) that leaves least, and its weighted squares (m,).

        They are known to rounding of the response's own squares.
        """
        fine = np.flatnonzero(self.usable)
        best, lowest = np.zeros(len(y), dtype=np.int64), np.full(len(y), np.inf)
        if not len(fine):
            return best, lowest
        c, n = len(fine), y.shape[1]
        matrices, seen = self._matrices(fine)
        bare, turned = not self.rest[fine].any(), np.ascontiguousarray(self.rest[fine].T)
        own = np.einsum("cn,cn->c", self.rest[fine], self.rest[fine])
        # filled up with zeros, so that the bits of a fit do not depend on the number of fits
        size = int(np.clip(_PRODUCT // (n * c), 32, 2048))
        rows, left, explained = np.zeros((size, n)), np.empty((size, c)), np.empty((size, c))
        for first in range(0, len(y), size):
            part = y[first : first + size]
            rows[: len(part)] = part if self.weight is None else part * self.weight
            rows[len(part) :] = 0.0
            left[:] = np.einsum("mn,mn->m", rows, rows)[:, None]
            if not bare:
                left += own - 2 * (rows @ turned)
            for matrix, known in zip(matrices, seen, strict=True):
                by = np.matmul(rows, matrix, out=explained[:, : matrix.shape[1]])
                by = by if bare else by - known
                left -= np.square(by, out=by)
            which = np.argmin(left, axis=1)[: len(part)]
            best[first : first + size] = fine[which]
            lowest[first : first + size] = left[np.arange(len(part)), which]
        return best, np.maximum(lowest, 0.0)

    def _matrices(self, fine: Indices) -> tuple[list[Array], list[Array]]:
        """Return for each linear parameter its columns (n, c), or (n, 1) where all starts share them, and their share of the rest."""
        matrices: list[Array] = []
        seen: list[Array] = []
        for j in range(self.columns.shape[1]):
            columns = self.columns[fine, j]
            shared = (columns == columns[:1]).all()
            matrices.append(np.ascontiguousarray((columns[:1] if shared else columns).T))
            seen.append(np.einsum("cn,cn->c", columns, self.rest[fine]))
        return matrices, seen


def projection(
    kernel: Kernel, block: Block, starts: Array, *, linear: Indices, parameters: Parameters
) -> Projection | None:
    """Return what judges starts (c, k) for all fits of a block; None where their columns are not the same for all.

    The places and weights must be shared, and linear parameters without bounds.
    """
    batch, free = block.batch, parameters.free
    c, n = len(starts), batch.y.shape[1]
    shared = all(column.ndim == 1 for column in batch.columns) and (
        batch.weight is None or batch.weight.ndim == 1
    )
    bounded = np.isfinite(parameters.lower[linear]).any() or np.isfinite(parameters.upper[linear]).any()
    fixed = np.setdiff1d(np.arange(starts.shape[1]), free)
    if not shared or bounded or not len(linear) or len(fixed) or c * n * len(linear) > _MOST:
        return None
    p = starts.T.copy()
    p[linear] = 0.0
    with np.errstate(all="ignore"):
        rest, jacobian = kernel.value_jacobian(batch.columns, p[:, :, None])
        rest, columns = np.broadcast_to(rest, (c, n)), np.moveaxis(jacobian[linear], 0, 1)
        if batch.weight is not None:
            rest, columns = rest * batch.weight, columns * batch.weight
        order = np.argsort(
            [(columns[:, j] != columns[:1, j]).any() for j in range(len(linear))], kind="stable"
        )
        columns = columns[:, order]  # what is the same for all starts first: it stays so
        usable = np.asarray(np.isfinite(rest).all(axis=1) & np.isfinite(columns).all(axis=(1, 2)))
        rest, columns = (np.where(np.isfinite(v), v, 0.0) for v in (rest, columns))
        return Projection(rest, _orthonormal(columns), usable, batch.weight)


def _orthonormal(columns: Array) -> Array:
    """Return (c, l, n) columns made orthonormal, twice by Gram and Schmidt, 0 for those that others explain."""
    out = columns.copy()
    for j in range(columns.shape[1]):
        length = np.sqrt(np.einsum("cn,cn->c", out[:, j], out[:, j]))
        for _ in range(2):
            for i in range(j):
                out[:, j] -= np.einsum("cn,cn->c", out[:, i], out[:, j])[:, None] * out[:, i]
        left = np.sqrt(np.einsum("cn,cn->c", out[:, j], out[:, j]))
        fine = (left > _RANK * length) & (left > 0)
        out[:, j] *= np.where(fine, 1 / np.where(fine, left, 1.0), 0.0)[:, None]
    return out


def shapes_of(name: str, model: BoundModel, x: Array) -> Array | None:
    """Return the starts (c, k) that a library model's guess looks at for points at x (n,); NaN for linear parameters.

    None where its guess is made in another way.
    """
    guess = MODELS[name].guess
    if model.graph is None or not isinstance(guess, Scan) or guess.pairs:
        return None
    curve = Curve.of(x, np.zeros_like(x), x_shifts=guess.x_shifts, y_shifts=guess.offset)
    axes: list[Axis] = list(guess.axes(curve))
    shapes, _ = grid(axes)
    nonlinear = [j for j in range(len(model.parameters)) if j not in model.graph.linear]
    out = np.full((len(shapes), len(model.parameters)), np.nan)
    for i, shape in enumerate(shapes.tolist()):
        one, other = (guess.values(curve, shape, [height, 0.5, 0.25]) for height in (1.0, -2.0))
        for j in nonlinear:
            parameter = model.parameters[j]
            if one[parameter] != other[parameter]:  # it follows from the linear ones, as a phase does
                return None
            out[i, j] = one[parameter]
    return out[np.isfinite(out[:, nonlinear]).all(axis=1)]
