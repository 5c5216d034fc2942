"""Many small symmetric systems at once: every operation is one array operation over all of them.

A system's answer has the same bits whatever stands beside it, and 1,000 systems of four unknowns take 0.1 ms.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

#: least square of a diagonal element, where the matrix has a diagonal of ones, that rounding does not make up
NOTHING = 1e-14


@dataclass(frozen=True, eq=False)
class Cholesky:
    """Lower factors of m matrices with a diagonal near one.

    Attributes
    ----------
    lower : (f, f, m)
        L of A = L Lᵀ. A direction that the columns before it already span is left out: its diagonal is infinite, its
        unknown comes out as zero.
    dropped : (f, m) bool
        Which those are.
    """

    lower: Array
    dropped: Mask

    @classmethod
    def of(cls, matrix: Array) -> "Cholesky":
        """Return the factors of symmetric matrices (f, f, m); NaN goes through to the answers."""
        size = len(matrix)
        lower, dropped = np.zeros_like(matrix), np.zeros(matrix.shape[1:], dtype=bool)
        for j in range(size):
            pivot = matrix[j, j].copy()
            for i in range(j):
                pivot -= lower[j, i] * lower[j, i]
            dropped[j] = pivot <= NOTHING
            root = np.sqrt(np.where(dropped[j], np.inf, pivot))
            lower[j, j] = root
            for i in range(j + 1, size):
                rest = matrix[i, j].copy()
                for k in range(j):
                    rest -= lower[i, k] * lower[j, k]
                lower[i, j] = rest / root
        return cls(lower, dropped)

    @property
    def singular(self) -> Mask:
        """Whether a direction was left out (m,)."""
        return np.asarray(self.dropped.any(axis=0))

    def solve(self, right: Array) -> Array:
        """Return the unknowns (f, m) for right sides (f, m)."""
        return self._backward(self._forward(right))

    def _forward(self, right: Array) -> Array:
        out = right.copy()
        for j in range(len(out)):
            for i in range(j):
                out[j] -= self.lower[j, i] * out[i]
            out[j] /= self.lower[j, j]
        return out

    def _backward(self, right: Array) -> Array:
        out = right.copy()
        for j in reversed(range(len(out))):
            for i in range(j + 1, len(out)):
                out[j] -= self.lower[i, j] * out[i]
            out[j] /= self.lower[j, j]
        return out

    def inverse_diagonal(self) -> Array:
        """Return the diagonals (f, m) of the inverses."""
        size, count = len(self.lower), self.lower.shape[2]
        out = np.zeros((size, count))
        for j in range(size):
            unit = np.zeros((size, count))
            unit[j] = 1.0
            column = self._forward(unit)
            for i in range(j, size):
                out[j] += column[i] * column[i]
        return out


def dot(a: Array, b: Array) -> Array:
    """Return the sums (...,) of products over the first axis, in an order that does not depend on the other ones."""
    total = a[0] * b[0]
    for i in range(1, len(a)):
        total += a[i] * b[i]
    return total


def lengths(gram: Array) -> Array:
    """Return the lengths (f, m) of the columns whose products are `gram` (f, f, m); 1 for a column of zeros."""
    out = np.sqrt(np.stack([gram[i, i] for i in range(len(gram))])) if len(gram) else gram[:, 0]
    return np.where(out > 0, out, 1.0)


def scaled(gram: Array, norm: Array) -> Array:
    """Return products of columns (f, f, m) that are divided by `norm` (f, m)."""
    return gram / norm[:, None] / norm[None, :]


def without(matrix: Array, out: Mask) -> Array:
    """Return matrices (f, f, m) in which the unknowns `out` (f, m) stand alone, with a diagonal of 1."""
    matrix = np.where(out[:, None] | out[None, :], 0.0, matrix)
    for i in range(len(matrix)):
        matrix[i, i] = np.where(out[i], 1.0, matrix[i, i])
    return matrix
