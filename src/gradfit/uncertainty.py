"""How well the data determine the parameters: their covariance, and what cannot be known named as such."""

from collections.abc import Callable
from functools import lru_cache
from math import inf, nan, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special
from gradfit.loss import Loss
from gradfit.solve.factor import Factor, Inverse, factorise, inverse
from gradfit.solve.outcome import Outcome

Array = NDArray[np.float64]

#: below this ratio of singular values (columns of length 1) a direction is not determined: exact redundancy gives 1e-16,
#: NIST's hardest honest design, Filip, 1.9e-10
RANK = 1e-11


class Uncertainty(NamedTuple):
    """Covariance of the free parameters and what it rests on.

    Attributes
    ----------
    covariance : (f, f)
        Of the free parameters; NaN in the rows and columns of those that the data do not determine, and of those held
        at a bound.
    stderr : (f,)
        Standard errors of the free parameters; NaN like the covariance.
    determined : (f,) bool
        False for a parameter that takes part in a direction without effect on the residuals.
    scatter : float
        Residual standard deviation of unit weight; 1 where sigma is absolute.
    half : (f, r)
        Over the determined directions covariance = scatter**2 * half @ half.T.
    nothing : (f, f - r)
        Directions, in parameters divided by their scale, that the data do not determine; empty as a rule.
    """

    covariance: Array
    stderr: Array
    determined: NDArray[np.bool_]
    scatter: float
    half: Array
    nothing: Array
    scale: Array

    def leverage(self, jacobian: Array) -> Array:
        """Return the diagonal (m,) of the hat matrix where the weighted derivatives are `jacobian` (m, f)."""
        basis = jacobian @ self.half
        return np.einsum("mr,mr->m", basis, basis)

    def band(self, jacobian: Array) -> Array:
        """Return the standard error (m,) of the model where its derivatives are `jacobian` (m, f).

        Infinite where it depends on what the data do not determine.
        """
        error = self.scatter * np.sqrt(self.leverage(jacobian))
        if self.nothing.size:
            scaled = jacobian * self.scale
            lost = np.linalg.norm(scaled @ self.nothing, axis=1) > 1e-6 * np.linalg.norm(scaled, axis=1)
            error = np.where(lost, np.inf, error)
        return error


def correlation_of(covariance: Array) -> Array:
    """Return the correlation (k, k) that belongs to a covariance; NaN where there is none."""
    errors = np.sqrt(np.diag(covariance))
    with np.errstate(all="ignore"):
        correlation = covariance / np.outer(errors, errors)
    return np.clip(correlation, -1, 1)


def band_of_counts(mean: Array, stderr: Array, half: float) -> tuple[Array, Array]:
    """Return the ends (n,) between which new counts of these means will lie, none below zero.

    Parameters
    ----------
    mean, stderr : (n,)
        The fitted mean, and its standard error.
    half : float
        Half the width of the interval in standard deviations, times the root of variance over mean (1 for counts).

    References
    ----------
    .. [1] Anscombe (1948), Biometrika 35, 246: the root of a count + 3/8 has a standard deviation of 1/2.
    """
    shifted = np.maximum(mean, 0.0) + 0.375
    middle = np.sqrt(shifted)
    reach = 0.5 * half * np.sqrt(1 + stderr * (stderr / shifted))
    low, high = np.maximum(middle - reach, 0.0) ** 2 - 0.375, (middle + reach) ** 2 - 0.375
    return np.maximum(low, 0.0), high


def well_determined(inverse: Inverse, rss: float, *, dof: int, absolute: bool) -> Uncertainty:
    """Return the uncertainty of free parameters that no bound holds, from the sum of squares at them.

    Parameters
    ----------
    inverse : Inverse
        Of the Jacobian of the weighted residuals; there is one only where it is as good as the SVD.
    rss : float
        The sum of squares of those residuals.
    dof : int
        Rows minus free parameters.
    absolute : bool
        Whether residuals are in units of known standard deviations; else the scatter is estimated from them.
    """
    scatter = 1.0 if absolute else sqrt(rss / dof) if dof > 0 else nan
    matrix = inverse.matrix
    stderr = scatter * np.sqrt(matrix.diagonal())
    with np.errstate(over="ignore", under="ignore"):
        covariance = scatter * matrix * scatter
    determined, nothing, scale = _everything(len(matrix))
    return Uncertainty(covariance, stderr, determined, scatter, inverse.half(), nothing, scale)


@lru_cache(maxsize=64)
def _everything(k: int) -> tuple[NDArray[np.bool_], Array, Array]:
    """Return `determined`, `nothing` and `scale` where every direction is determined: for every fit the same."""
    made = np.full(k, fill_value=True), np.zeros((k, 0)), np.ones(k)
    for array in made:
        array.setflags(write=False)
    return made


def at_end(
    expected: Callable[[], tuple[Array, Array]],
    outcome: Outcome,
    *,
    held: NDArray[np.bool_],
    plain: bool,
    loss: Loss,
    dof: int,
    absolute: bool,
    counts: bool,
) -> Uncertainty:
    """Return the uncertainty of the free parameters where a fit has ended: from what the solver has, as far as that goes.

    Parameters
    ----------
    expected : callable
        Returns residuals (n,) over the standard deviations that are taken for true, and their Jacobian (n, f).
    held : (f,) bool
        Parameters that sit on a bound.
    plain : bool
        Whether there are no bounds.
    """
    factor = outcome.factor
    if isinstance(factor, Inverse):
        if plain or not held.any():
            return well_determined(factor, outcome.loss, dof=dof, absolute=absolute)
        factor = None
    if counts:
        factor = None
    r, J = expected()
    if factor is None and plain and not loss.robust:
        with np.errstate(all="ignore"):
            known, rss = inverse(J), float(r.dot(r))
        if known is not None:
            return well_determined(known, rss, dof=dof, absolute=absolute)
    if factor is None and not (np.isfinite(r).all() and np.isfinite(J).all()):
        J = np.zeros_like(J)
    return uncertainty(r, J, held=held, loss=loss, absolute=absolute, factor=factor)


def uncertainty(
    residuals: Array,
    jacobian: Array,
    *,
    held: NDArray[np.bool_],
    loss: Loss,
    absolute: bool,
    factor: Factor | None = None,
) -> Uncertainty:
    """Return the uncertainty of the free parameters from weighted residuals (n,) and their Jacobian (n, f).

    Parameters
    ----------
    held : (f,) bool
        Parameters that sit on a bound: their neighbours' errors are conditional on that, they have none.
    absolute : bool
        Whether residuals are in units of known standard deviations; else the scatter is estimated from them.
    factor : Factor, optional
        Of the Jacobian, where the solver has it.

    References
    ----------
    .. [1] Golub & Van Loan, Matrix Computations, 4th ed., sec. 5.5: SVD, not an inverted normal matrix.
    .. [2] Huber (1981), Robust Statistics, eq. 7.6.8: the covariance for robust losses.
    """
    n, k = jacobian.shape
    moving = np.arange(k) if not held.any() else np.flatnonzero(~held)
    if len(moving) < k or factor is None:
        part = jacobian if len(moving) == k else jacobian[:, moving]
        factor = factorise(part, residuals) if len(moving) else None
    rank = factor.rank(RANK) if factor is not None else 0
    scatter = _scatter(residuals, n - rank, loss, absolute)
    if factor is not None and rank == k:
        half = (factor.vt.T / factor.s) / factor.norm[:, None]
        covariance, stderr = _products(scatter * half)
        return Uncertainty(
            covariance, stderr, np.full(k, fill_value=True), scatter, half, np.zeros((k, 0)), 1 / factor.norm
        )
    half, nothing, scale = np.zeros((k, rank)), np.zeros((k, 0)), np.ones(k)
    if factor is not None:
        scale[moving] = 1 / factor.norm
        half[moving] = (factor.vt[:rank].T / factor.s[:rank]) / factor.norm[:, None]
        nothing = np.zeros((k, len(moving) - rank))
        nothing[moving] = factor.vt[rank:].T
    determined = np.einsum("kj,kj->k", nothing, nothing) <= 1e-8
    covariance, stderr = _products(scatter * half)
    unknown = held | ~determined
    covariance[unknown] = np.nan
    covariance[:, unknown] = np.nan
    stderr[unknown] = np.nan
    return Uncertainty(covariance, stderr, determined, scatter, half, nothing, scale)


def _products(half: Array) -> tuple[Array, Array]:
    """Covariance half @ half.T, and the roots of its diagonal, also where that cannot hold them: a variance of 1e±320."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        covariance = half.dot(half.T)
        stderr = np.sqrt(covariance.diagonal())
        errors = stderr.tolist()
        if not (min(errors, default=1) > 1e-150 and max(errors, default=1) < inf):
            stderr = _lengths(half)
    return covariance, stderr


def _lengths(rows: Array) -> Array:
    """Lengths of rows whose squares may overflow or vanish."""
    top = np.max(np.abs(rows), axis=1, initial=0.0)
    safe = np.where((top > 0) & np.isfinite(top), top, 1.0)[:, None]
    return np.sqrt(np.sum((rows / safe) ** 2, axis=1)) * safe[:, 0]


def _scatter(residuals: Array, dof: int, loss: Loss, absolute: bool) -> float:  # noqa: FBT001  a fact, not a switch
    if not loss.robust:
        if absolute:
            return 1.0
        if dof <= 0:
            return nan
        with np.errstate(over="ignore"):
            total = float(residuals.dot(residuals))
        return sqrt(total / dof) if total < inf else float(_lengths(residuals[None, :])[0]) / sqrt(dof)
    psi, slope = loss.curvature(residuals)
    n = len(residuals)
    middle = float(np.mean(slope))
    if dof <= 0 or middle <= 0:
        return float("nan")
    correction = 1 + (n - dof) / n * float(np.var(slope)) / middle**2
    return correction * float(np.sqrt(psi @ psi / dof)) / middle


def student(level: float, dof: int) -> float:
    """Return the half width, in standard errors, of a two-sided interval by Student's t; infinite without freedom.

    >>> round(student(0.95, 9), 3)
    2.262
    """
    if dof <= 0:
        return float("inf")
    return (
        float(special.stdtrit(dof, 0.5 + level / 2)) if dof < 1e6 else float(special.ndtri(0.5 + level / 2))
    )
