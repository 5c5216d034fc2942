"""Small symmetric systems, written out: Cholesky's factor of JᵀJ with a unit diagonal, and steps from it."""

from collections.abc import Sequence

from gradfit.native.code import Code, Lanes
from gradfit.native.sums import triangle

Triangle = dict[tuple[int, int], Lanes]  # the lower one, with i >= j


def by_place(flat: Sequence[Lanes], count: int) -> Triangle:
    """Return the lower triangle, row by row, by its places."""
    return dict(zip(triangle(count), flat, strict=True))


def cholesky(code: Code, matrix: Triangle, count: int) -> tuple[Triangle, list[Lanes]]:
    """Return L and the reciprocals of its diagonal, with matrix = L Lᵀ; NaN where it is not positive definite.

    References
    ----------
    .. [1] Golub & Van Loan, Matrix Computations, 4th ed., sec. 4.2.5.
    """
    low: Triangle = {}
    inverse: list[Lanes] = []
    for i in range(count):
        for j in range(i):
            rest = matrix[i, j]
            for k in range(j):
                rest = (-low[i, k]).times(low[j, k], rest)
            low[i, j] = rest * inverse[j]
        rest = matrix[i, i]
        for k in range(i):
            rest = (-low[i, k]).times(low[i, k], rest)
        low[i, i] = code.intrinsic("sqrt", rest)
        inverse.append(1.0 / low[i, i])
    return low, inverse


def solved(low: Triangle, inverse: Sequence[Lanes], right: Sequence[Lanes]) -> list[Lanes]:
    """Return x with L Lᵀ x = right."""
    count = len(right)
    y: list[Lanes] = []
    for i in range(count):
        rest = right[i]
        for k in range(i):
            rest = (-low[i, k]).times(y[k], rest)
        y.append(rest * inverse[i])
    x = list(y)
    for i in reversed(range(count)):
        rest = x[i]
        for k in range(i + 1, count):
            rest = (-low[k, i]).times(x[k], rest)
        x[i] = rest * inverse[i]
    return x


def inverted(low: Triangle, inverse: Sequence[Lanes]) -> Triangle:
    """Return the lower triangle of (L Lᵀ)⁻¹."""
    count = len(inverse)
    half: Triangle = {}  # L⁻¹
    for j in range(count):
        half[j, j] = inverse[j]
        for i in range(j + 1, count):
            rest = (-low[i, j]) * half[j, j]
            for k in range(j + 1, i):
                rest = (-low[i, k]).times(half[k, j], rest)
            half[i, j] = rest * inverse[i]
    out: Triangle = {}
    for i, j in triangle(count):
        rest = half[count - 1, i] * half[count - 1, j]
        for k in range(i, count - 1):
            rest = half[k, i].times(half[k, j], rest)
        out[i, j] = rest
    return out
