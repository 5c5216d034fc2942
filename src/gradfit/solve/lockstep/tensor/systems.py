"""Many small symmetric systems at once on a device: `solve.lockstep.cholesky` in torch, with the same order of operations."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradfit._lazy import torch
from gradfit.solve.lockstep.cholesky import NOTHING

if TYPE_CHECKING:
    Tensor = torch.Tensor


@dataclass(frozen=True, eq=False)
class Cholesky:
    """Lower factors of m matrices with a diagonal near one.

    torch.linalg.cholesky_ex gives up at the first direction that is spanned already; here it is left out.

    Attributes
    ----------
    lower : (f, f, m)
        L of A = L Lᵀ. The diagonal of a direction that was left out is infinite, and its unknown comes out as zero.
    dropped : (f, m) bool
        Which those are.
    """

    lower: "Tensor"
    dropped: "Tensor"

    @classmethod
    def of(cls, matrix: "Tensor") -> "Cholesky":
        """Return the factors of symmetric matrices (f, f, m); NaN goes through to the answers."""
        rest, lower = matrix.clone(), torch.zeros_like(matrix)
        dropped = torch.zeros_like(matrix[0], dtype=torch.bool)
        for j in range(len(matrix)):
            torch.le(rest[j, j], NOTHING, out=dropped[j])
            root = torch.sqrt(rest[j, j].masked_fill(dropped[j], torch.inf))
            lower[j, j] = root
            column = torch.div(rest[j + 1 :, j], root, out=lower[j + 1 :, j])
            rest[j + 1 :, j + 1 :] -= column[:, None] * column[None]
        return cls(lower, dropped)

    def solve(self, right: "Tensor") -> "Tensor":
        """Return the unknowns (f, m) for right sides (f, m)."""
        out = self._forward(right)
        for j in reversed(range(len(out))):
            out[j] /= self.lower[j, j]
            out[:j] -= self.lower[j, :j] * out[j]
        return out

    def inverse_diagonal(self) -> "Tensor":
        """Return the diagonals (f, m) of the inverses."""
        total = torch.zeros_like(self.lower[0])
        for j in range(len(total)):
            unit = torch.zeros_like(total)
            unit[j] = 1.0
            column = self._forward(unit)[j:]
            total[j] = dot(column, column)
        return total

    def _forward(self, right: "Tensor") -> "Tensor":
        out = right.clone()
        for j in range(len(out)):
            out[j] /= self.lower[j, j]
            out[j + 1 :] -= self.lower[j + 1 :, j] * out[j]
        return out


def dot(a: "Tensor", b: "Tensor") -> "Tensor":
    """Return the sums (...,) of products over the first axis, in an order that does not depend on the other ones."""
    total = a[0] * b[0]
    for i in range(1, len(a)):
        total += a[i] * b[i]
    return total


def times(gram: "Tensor", step: "Tensor") -> "Tensor":
    """Return the products (f, m) of symmetric matrices (f, f, m) and vectors (f, m)."""
    return dot(gram, step[:, None])


def lengths(gram: "Tensor") -> "Tensor":
    """Return the lengths (f, m) of the columns whose products are `gram` (f, f, m); 1 for a column of zeros."""
    out = torch.sqrt(gram.diagonal(dim1=0, dim2=1).T)
    return torch.where(out > 0, out, 1.0)


def scaled(gram: "Tensor", norm: "Tensor") -> "Tensor":
    """Return products of columns (f, f, m) that are divided by `norm` (f, m)."""
    return gram / norm[:, None] / norm[None]


def without(matrix: "Tensor", out: "Tensor") -> "Tensor":
    """Return matrices (f, f, m) in which the unknowns `out` (f, m) stand alone, with a diagonal of 1."""
    matrix = matrix.masked_fill(out[:, None] | out[None], 0.0)
    matrix.diagonal(dim1=0, dim2=1).T.masked_fill_(out, 1.0)
    return matrix


def deficient(matrix: "Tensor") -> tuple["Tensor", "Tensor"]:
    """Return the diagonals (f, m) of pseudo-inverses, and which parameters take part in a direction without effect."""
    stacked = matrix.movedim(-1, 0)
    sound = torch.isfinite(stacked).flatten(1).all(1)
    values, vectors = torch.linalg.eigh(torch.where(sound[:, None, None], stacked, 0.0))
    nothing = values <= NOTHING * len(matrix) * values[:, -1:]
    inverse = torch.where(nothing, 0.0, 1 / torch.where(nothing, 1.0, values))
    squares = vectors * vectors
    variance = (squares * inverse[:, None]).sum(2)
    unknown = (squares * nothing[:, None]).sum(2) > 1e-8
    return variance.T, (unknown | ~sound[:, None]).T
