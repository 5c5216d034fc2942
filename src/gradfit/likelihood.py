"""How likely the observations are under a fit, and how much of their variation the model explains."""

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import linalg, special
from gradfit.loss import deviance_residuals
from gradfit.prepare import Data

Array = NDArray[np.float64]


def normal_log_likelihood(data: Data, residuals: Array) -> float:
    """Return the logarithm of the normal likelihood with its constants, from weighted residuals (n,)."""
    n = data.n
    if data.cholesky is not None:
        log_sigma = float(np.sum(np.log(np.diag(data.cholesky))))
    else:
        log_sigma = 0.0 if data.sigma is None else float(np.sum(np.log(data.sigma)))
    square = float(residuals @ residuals)
    if data.absolute:
        return -0.5 * (square + n * float(np.log(2 * np.pi))) - log_sigma
    with np.errstate(divide="ignore"):
        log_rss = float(np.log(square)) - 2 * float(np.log(data.unit))
    return -0.5 * n * (float(np.log(2 * np.pi / n)) + log_rss + 1) - log_sigma


def counts_log_likelihood(data: Data, mean: Array) -> float:
    """Return the logarithm of Poisson's likelihood of counts with its constants, from their fitted mean (n,)."""
    each = special.xlogy(data.y, mean) - mean - special.gammaln(data.y + 1)
    return float(np.sum(each if data.weight is None else data.weight**2 * each))


def explained_variance(data: Data, residuals: Array) -> float:
    """Return the share of the weighted variance of the response that weighted residuals (n,) leave explained."""
    if data.cholesky is not None:
        one, y = (
            linalg.solve_triangular(data.cholesky, v, lower=True, check_finite=False)
            for v in (np.ones(data.n), data.y)
        )
        y = y - one * (one @ y) / (one @ one)
        total = float(y @ y)
    else:
        w = np.ones(data.n) if data.sigma is None else data.sigma**-2
        y = data.y * data.unit
        total = float(w @ (y - w @ y / w.sum()) ** 2)
    with np.errstate(over="ignore"):
        left = float(residuals @ residuals)
    return 1 - left / total if total > 0 else float("nan")


def explained_deviance(data: Data, deviance: float) -> float:
    """Return the share of the deviance of a constant mean that is gone in the deviance of a fit of counts.

    References
    ----------
    .. [1] Cameron & Windmeijer (1996), J. Bus. Econ. Stat. 14, 209.
    """
    w = np.ones(data.n) if data.weight is None else data.weight**2
    mean = np.full(data.n, float(w @ data.y) / float(w.sum()))
    total = float(w @ deviance_residuals(data.y, mean)[0] ** 2)
    return 1 - deviance / total if total > 0 else float("nan")


def pearson(data: Data, mean: Array, jacobian: Array) -> tuple[Array, Array]:
    """Return Pearson's residuals f - y over sqrt(f) (n,) of counts, and their Jacobian, which gives Fisher's information.

    Parameters
    ----------
    mean : (n,)
        f. Where it and the count are zero, the variance is taken to be 1.
    jacobian : (n, k)
        Of the deviance residuals.
    """
    with np.errstate(all="ignore"):
        slope = deviance_residuals(data.y, mean)[1]
        root = np.sqrt(np.where(mean > 0, mean, 1.0))
        residuals = (mean - data.y) / root
        return residuals if data.weight is None else data.weight * residuals, jacobian / (slope * root)[
            :, None
        ]
