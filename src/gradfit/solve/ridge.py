"""Ridge regression at many strengths from one singular value decomposition."""

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import linalg
from gradfit.solve.factor import column_lengths
from gradfit.solve.penalised import without

Array = NDArray[np.float64]


def ridge_path(r: Array, J: Array, strengths: Array, *, weight: Array, centre: Array) -> Array:
    """Return the parameters (m, f) that make |r + J p|² + s * sum of (weight * (p - centre))² least, for each strength s.

    Columns without weight are projected out first, so that the offsets of others cost no digits.

    Parameters
    ----------
    r : (n,)
        Residuals at p = 0.
    J : (n, f)
        Their derivatives.
    weight, centre : (f,)
        0 for a parameter that is not penalised.
    strengths : (m,)
        Not negative.

    References
    ----------
    .. [1] Golub & Van Loan, Matrix Computations, 4th ed., sec. 6.1.4: ridge regression by the SVD.
    """
    about = weight > 0
    rest, columns = J[:, ~about], J[:, about] / weight[about]
    target = r + J[:, about] @ centre[about]
    apart = without(rest, np.column_stack([columns, target]))
    U, s, Vt = linalg.svd(apart[:, :-1], full_matrices=False, check_finite=False)
    seen = s > 1e-14 * s.max(initial=0.0)
    U, s, Vt = U[:, seen], s[seen], Vt[seen]
    shares = s / (s * s + strengths[:, None])  # (m, rank)
    moved = -(shares * (U.T @ apart[:, -1])) @ Vt / weight[about]
    out = np.zeros((len(strengths), len(weight)))
    out[:, about] = centre[about] + moved
    if rest.shape[1]:
        length = column_lengths(rest)
        left = target[:, None] + J[:, about] @ moved.T
        out[:, ~about] = -(np.linalg.lstsq(rest / length, left, rcond=1e-13)[0].T / length)
    return out
