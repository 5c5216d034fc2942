"""Factors of the scaled Jacobian: orthogonal ones for steps, statistics and rank, a Cholesky one for cheap steps."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import lapack

Array = NDArray[np.float64]

_TALL = 400  # rows from which a QR step first is cheaper than the SVD of everything
#: outside of these, squares lose digits of their own
SQUARES = 1e-280, 1e280

#: smallest diagonal of the Cholesky factor (of a unit-diagonal matrix) down to which its steps are as good as the SVD's
WELL_CONDITIONED = 3e-3
#: and down to which a solve is, where no gradient in long double betters it, as it does NIST's Wampler5
ONE_SOLVE = 3e-2


class Normal(NamedTuple):
    """The normal equations of a well-conditioned Jacobian: G u = -g in u = norm * h.

    Attributes
    ----------
    norm : (k,)
        Scale of each column.
    gram : (k, k)
        G = JᵀJ, scaled.
    gradient : (k,)
        g = Jᵀr, scaled.
    newton : (k,)
        G⁻¹ g: minus the Gauss-Newton step, scaled.
    """

    norm: Array
    gram: Array
    gradient: Array
    newton: Array

    def step(self, damping: float) -> Array:
        """Return the minimiser of |r + J h|² + damping |norm h|², in the units of the parameters."""
        damped = self.gram.copy()
        damped.flat[:: len(self.norm) + 1] += damping
        return -lapack.dposv(damped, self.gradient, overwrite_a=1)[1] / self.norm

    def newton_step(self) -> Array:
        """Return the Gauss-Newton step."""
        return -self.newton / self.norm

    def promised(self, h: Array, damping: float) -> float:
        """Return how much the linear model says that `step(damping)` lowers the sum of squares."""
        u = self.norm * h
        return float(damping * (u @ u) - self.gradient @ u)

    def removable(self) -> float:
        """Return the squared part of the residuals that a Gauss-Newton step could remove."""
        return float(self.gradient @ self.newton)

    def downhill(self) -> Array:
        """Return minus the gradient of half the sum of squares, in the units of the parameters."""
        return -self.gradient * self.norm


class Inverse(NamedTuple):
    """(JᵀJ)⁻¹ of a well-conditioned Jacobian J: what standard errors and the last steps need of it.

    Attributes
    ----------
    matrix : (k, k)
        The covariance of the parameters where residuals have a variance of 1.
    """

    matrix: Array

    @classmethod
    def of_triangle(cls, lower: Array, k: int) -> "Inverse":
        """Return the inverse whose lower triangle (k(k+1)/2,) is known, row by row."""
        return cls(lower[_square(k)])

    def half(self) -> Array:
        """Return a square root (k, k) of the matrix, which is half @ half.T."""
        return lapack.dpotrf(self.matrix, lower=1)[0]


@lru_cache(maxsize=64)
def _square(k: int) -> NDArray[np.int64]:
    """Where each element of a symmetric matrix (k, k) stands in its lower triangle.

    >>> _square(2).tolist()
    [[0, 1], [1, 2]]
    """
    i, j = np.indices((k, k))
    high, low = np.maximum(i, j), np.minimum(i, j)
    return high * (high + 1) // 2 + low


def inverse(jacobian: Array) -> Inverse | None:
    """Return (JᵀJ)⁻¹, None where it would lose digits that the SVD keeps.

    The scale of a column is in the factor as in its square, so pivots are judged by those; nothing is brought to length 1.

    References
    ----------
    .. [1] van der Sluis (1970), Condition, equilibration and pivoting in linear algebraic systems.
    """
    gram = jacobian.T.dot(jacobian)
    lower, failed = lapack.dpotrf(gram, lower=1)
    if failed:
        return None
    least, most = SQUARES
    for pivot, square in zip(lower.diagonal().tolist(), gram.diagonal().tolist(), strict=True):
        if not (least < square < most and pivot * pivot >= ONE_SOLVE**2 * square):
            return None
    half = lapack.dtrtri(lower, lower=1)[0]
    return Inverse(half.T.dot(half))


def normal(jacobian: Array, residuals: Array, before: Array | None = None) -> Normal | None:
    """Return the normal equations, None where they would lose digits that the SVD keeps.

    Zero columns, overflow and NaN make a diagonal that is not greater than the limit, so they come back as None too.

    Parameters
    ----------
    before : (k,), optional
        Least scale of each column.
    """
    gram = jacobian.T @ jacobian
    norm = np.sqrt(gram.diagonal())
    gradient = residuals @ jacobian
    unit = gram / (norm[:, None] * norm)
    scaled = gradient / norm
    cholesky, newton, _ = lapack.dposv(unit, scaled, lower=1)
    if len(norm) == 0 or not cholesky.diagonal().min() >= WELL_CONDITIONED:
        return None
    if before is not None and (before > norm).any():
        grown = np.maximum(norm, before)
        return Normal(grown, gram / (grown[:, None] * grown), gradient / grown, newton * grown / norm)
    return Normal(norm, unit, scaled, newton)


class Factor(NamedTuple):
    """J = U diag(s) Vᵀ diag(norm), with norm the lengths of J's columns, and z = Uᵀ r.

    Attributes
    ----------
    norm : (k,)
        Scale of each column; 1 for a column of zeros.
    s : (k,)
        Singular values of J / norm, falling.
    vt : (k, k)
        Right singular vectors, as rows.
    z : (k,)
        The part of the residuals that the columns can reach.
    """

    norm: Array
    s: Array
    vt: Array
    z: Array

    def rank(self, relative: float = 1e-13) -> int:
        """Return how many directions the data determine."""
        s = self.s
        if len(s) == 0 or not s[0] > 0:
            return 0
        return len(s) if s[-1] > relative * s[0] else int(np.count_nonzero(s > relative * s[0]))

    def step(self, damping: float) -> Array:
        """Return the minimiser of |r + J h|² + damping |norm h|², in the units of the parameters."""
        return -(self.vt.T @ (self.s * self.z / (self.s * self.s + damping))) / self.norm

    def newton_step(self) -> Array:
        """Return the Gauss-Newton step, with nothing along directions that the data do not determine."""
        r = self.rank()
        return -(self.vt[:r].T @ (self.z[:r] / self.s[:r])) / self.norm

    def promised(self, h: Array, damping: float) -> float:  # noqa: ARG002  the same call as Normal's
        """Return how much the linear model says that a step lowers the sum of squares."""
        reach = self.reach(h)
        return -float((2 * self.z + reach) @ reach)

    def removable(self) -> float:
        """Return the squared part of the residuals that a Gauss-Newton step could remove."""
        z = self.z[: self.rank()]
        return float(z @ z)

    def downhill(self) -> Array:
        """Return minus the gradient of half the sum of squares, in the units of the parameters."""
        return -self.norm * (self.vt.T @ (self.s * self.z))

    def reach(self, h: Array) -> Array:
        """Return Uᵀ J h: what a step does to the residuals."""
        return self.s * (self.vt @ (self.norm * h))


def factorise(jacobian: Array, residuals: Array, norm: Array | None = None) -> Factor:
    """Return the factor of a Jacobian (n, k) and residuals (n,); QR first where the Jacobian is tall.

    Parameters
    ----------
    norm : (k,), optional
        Scale of the columns; their lengths when left out.

    References
    ----------
    .. [1] Golub & Van Loan, Matrix Computations, 4th ed., sec. 5.3.3 and 8.6: QR, then the SVD of R.
    """
    if norm is None:
        norm = column_lengths(jacobian)
    n, k = jacobian.shape
    if n > max(_TALL, 4 * k):
        stacked = np.empty((n, k + 1), order="F")
        np.divide(jacobian, norm, out=stacked[:, :k])
        stacked[:, k] = residuals
        reflected = lapack.dgeqrf(stacked, overwrite_a=1)[0]
        top = np.triu(reflected[: k + 1])
        scaled, residuals = np.asfortranarray(top[:k, :k]), top[:k, k]
    else:
        scaled = jacobian / norm
    u, s, vt, failed = lapack.dgesdd(scaled, full_matrices=0)
    if failed:  # gesdd gave up (it does, on rare matrices): the slower driver does not
        u, s, vt, failed = lapack.dgesvd(scaled, full_matrices=0)
    return Factor(norm, s, vt, residuals @ u)


def column_lengths(jacobian: Array) -> Array:
    """Return the lengths (k,) of the columns, 1 where one is zero; no overflow on the way."""
    norm = np.sqrt(np.einsum("ij,ij->j", jacobian, jacobian))
    if len(norm) == 0 or (norm.min() > 1e-140 and norm.max() < np.inf):
        return norm
    top = np.max(np.abs(jacobian), axis=0, initial=0.0)
    top = np.where((top > 0) & np.isfinite(top), top, 1.0)
    part = jacobian / top
    norm = top * np.sqrt(np.einsum("ij,ij->j", part, part))
    return np.where(norm > 0, norm, 1.0)
