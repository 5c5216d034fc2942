"""Least squares over more rows than a Jacobian can be stored for: k + 1 rows that say the same as all of them.

A step asks of residuals r and Jacobian J for rᵀr, Jᵀr and JᵀJ alone. With JᵀJ = RᵀR and z = R⁻ᵀJᵀr the k + 1 rows
[R | z] and [0 | sqrt(rᵀr - zᵀz)] have the same three, so that every solver for residuals walks on them as it would on the
data: the same steps, the same decisions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import lapack
from gradfit.loss import Loss
from gradfit.solve.lm import LM, Watch, minimise
from gradfit.solve.outcome import Outcome

Array = NDArray[np.float64]

#: least diagonal of the factor of JᵀJ (with ones on its own) down to which sums in double precision are enough: their
#: rounding stays below a millionth of every step, and a step is corrected by the next
ENOUGH = 1e-5
#: and down to which they give standard errors to ten digits
FOR_ERRORS = 1e-3
#: squares of lengths outside of these lose digits of their own, or vanish
SQUARES = 1e-250, 1e280
_NOTHING = Decimal("1e-26")  # least square of a diagonal that sums with 32 digits tell from zero
_DIGITS = 60


@dataclass(frozen=True, eq=False)
class Sums:
    """What a step needs of all rows.

    Attributes
    ----------
    cost : float
        rᵀr, or the sum of a robust loss, or the deviance of counts.
    gradient : (k,)
        Jᵀr.
    gram : (k, k)
        JᵀJ; of counts Fisher's information.
    """

    cost: float
    gradient: Array
    gram: Array


@dataclass(frozen=True, eq=False)
class ExactSums:
    """The same with about 32 digits, each the sum of two numbers; derivatives without their scales.

    Attributes
    ----------
    cost : (2,)
        rᵀr.
    gradient : (2, m)
        Cᵀr of the m different cores C of the derivatives.
    gram : (2, m, m)
        CᵀC.
    core, scale : (k,)
        Derivative j is scale[j] times column core[j] of C.
    """

    cost: Array
    gradient: Array
    gram: Array
    core: NDArray[np.int64]
    scale: Array


class Rows(Protocol):
    """All rows of a fit, as what they add up to at parameters (k,)."""

    def sums(self, parameters: Array, loss: Loss) -> Sums:
        """Return the sums in double precision, not finite where the model is not."""
        ...

    def precise(self, parameters: Array) -> ExactSums | tuple[Array, Array]:
        """Return them with twice the digits, or rows of residuals and Jacobian with the same sums."""
        ...

    def gradient(self, parameters: Array) -> Array | None:
        """Return Jᵀr, evaluated and summed in long double; None where there is no such evaluation."""
        ...


class Condensed:
    """The k + 1 rows as a problem of `solve.lm`; for a robust loss and for counts the last one is the cost."""

    def __init__(self, rows: Rows, loss: Loss) -> None:
        self.rows, self.loss = rows, loss

    def residual_jacobian(self, parameters: Array) -> tuple[Array, Array]:
        """Return residuals (k + 1,) and derivatives (k + 1, k); NaN where the model is not finite."""
        sums = self.rows.sums(parameters, self.loss)
        k = len(parameters)
        if not np.isfinite(sums.cost):
            return np.full(k + 1, np.nan), np.full((k + 1, k), np.nan)
        small = condensed(sums)
        if carried(self.loss):
            factor, z = small or by_eigenvalues(sums)
            return np.append(z, sums.cost), np.vstack([factor, np.zeros(k)])
        if small is not None:
            return _with_rest(*small, sums.cost)
        exact = self.rows.precise(parameters)
        return condensed_exactly(exact) if isinstance(exact, ExactSums) else exact

    def precise_gradient(self, parameters: Array) -> Array | None:
        """Return Jᵀr in long double, where there is such an evaluation."""
        return None if carried(self.loss) else self.rows.gradient(parameters)


def carried(loss: Loss) -> bool:
    """Return whether the cost is no sum of the squares that a step is made from."""
    return loss.robust or loss.counts


@dataclass(frozen=True)
class Carried(Loss):
    """The cost of rows whose loss is summed up already: the last row is the cost, the others are linearised."""

    @property
    def robust(self) -> bool:
        """Whether residuals are more than their squares: the solver takes no short cut that squares would allow."""
        return True

    def cost(self, residuals: Array) -> float:
        """Return it."""
        return float(residuals[-1])

    def curvature(self, residuals: Array) -> tuple[Array, Array]:
        """Return the halved derivatives of the cost by the rows, and ones."""
        return np.append(residuals[:-1], 0.0), np.ones_like(residuals)

    def linearised(self, residuals: Array, jacobian: Array) -> tuple[Array, Array]:
        """Return the rows without the last."""
        return residuals[:-1], jacobian[:-1]


def minimise_rows(
    rows: Rows,
    start: Array,
    *,
    bounds: tuple[Array, Array] | None = None,
    loss: Loss,
    settings: LM,
    watch: Watch | None = None,
) -> Outcome:
    """Return the least cost that Levenberg-Marquardt reaches from a start, as `solve.lm.minimise` does.

    The outcome's `end` are the condensed rows, with the cost below them where the loss is robust or one of counts.
    """
    problem, own = Condensed(rows, loss), Carried() if carried(loss) else loss
    return minimise(problem, start, bounds=bounds, loss=own, settings=settings, watch=watch)


def end_rows(rows: Rows, parameters: Array) -> tuple[Array, Array]:
    """Return condensed residuals and Jacobian of the sum of squares, to as many digits as standard errors need."""
    sums = rows.sums(parameters, Loss())
    small = condensed(sums, least=FOR_ERRORS)
    if small is not None:
        return _with_rest(*small, sums.cost)
    exact = rows.precise(parameters)
    return condensed_exactly(exact) if isinstance(exact, ExactSums) else exact


def end_of_counts(rows: Rows, parameters: Array) -> tuple[Array, Array, float]:
    """Return rows with the gradient of the deviance and Fisher's information, and the deviance."""
    sums = rows.sums(parameters, Loss("poisson"))
    factor, z = condensed(sums, least=FOR_ERRORS) or by_eigenvalues(sums)
    return z, factor, sums.cost


def known_rows(outcome: Outcome) -> tuple[Array, Array] | None:
    """Return the condensed rows at which a walk ended, None where they have too few digits for standard errors."""
    if outcome.end is None:
        return None
    r, J = outcome.end
    small = condensed(Sums(float(r @ r), r @ J, J.T @ J), least=FOR_ERRORS)
    return (r, J) if small is not None and np.isfinite(r).all() else None


def _with_rest(factor: Array, z: Array, cost: float) -> tuple[Array, Array]:
    rest = np.sqrt(max(cost - float(z @ z), 0.0))
    return np.append(z, rest), np.vstack([factor, np.zeros(len(z))])


def condensed(sums: Sums, least: float = ENOUGH) -> tuple[Array, Array] | None:
    """Return R (k, k) and z (k,) with RᵀR = JᵀJ and Rᵀz = Jᵀr; None where they would lose too many digits."""
    squares = sums.gram.diagonal()
    if len(squares) == 0:
        return np.zeros((0, 0)), np.zeros(0)
    if not ((squares > SQUARES[0]) & (squares < SQUARES[1])).all():
        return None
    norm = np.sqrt(squares)
    lower, failed = lapack.dpotrf(sums.gram / norm[:, None] / norm, lower=1, clean=1)
    if failed or not (lower.diagonal() >= least).all():
        return None
    z, _ = lapack.dtrtrs(lower, sums.gradient / norm, lower=1)
    return lower.T * norm, z


def by_eigenvalues(sums: Sums) -> tuple[Array, Array]:
    """Return R and z of any sums; directions that rounding cannot tell from none are left out."""
    norm = np.sqrt(sums.gram.diagonal())
    own = np.where(norm > 0, norm, 1.0)
    unit = sums.gram / own[:, None] / own
    if not np.isfinite(unit).all():
        return np.full_like(unit, np.nan), np.full_like(norm, np.nan)
    values, vectors = np.linalg.eigh(unit)
    roots = np.sqrt(np.where(values > 1e-13 * values.max(initial=0.0), values, 0.0))
    inverse = np.where(roots > 0, 1 / np.where(roots > 0, roots, 1.0), 0.0)
    return (roots[:, None] * vectors.T) * own, inverse * (vectors.T @ (sums.gradient / own))


def condensed_exactly(sums: ExactSums) -> tuple[Array, Array]:
    """Return the rows (k + 1) and (k + 1, k) from sums with 32 digits, whose factor keeps 16 of them.

    The normal equations square the condition number; with twice the digits they lose as little as an orthogonal factor.
    """
    with localcontext() as context:
        context.prec = _DIGITS
        size = sums.gradient.shape[1]
        flat = _decimals(sums.gram.reshape(2, -1))
        gram = [flat[i * size : (i + 1) * size] for i in range(size)]
        lower, z = _cholesky(gram, _decimals(sums.gradient))
        left = _decimals(sums.cost[:, None])[0] - sum((part * part for part in z), Decimal(0))
        rest = float(max(left, Decimal(0)).sqrt())
        factor = np.array([[float(v) for v in row] for row in lower])  # of C; J is C with columns scaled
        residuals = np.array([float(v) for v in z])
    m = len(residuals)
    R = factor.T.reshape(m, m)[:, sums.core] * sums.scale
    return np.append(residuals, rest), np.vstack([R, np.zeros(len(sums.scale))])


def _decimals(pair: Array) -> list[Decimal]:
    """Return numbers (2, n) that are each the sum of two."""
    return [Decimal(high) + Decimal(low) for high, low in zip(*pair.tolist(), strict=True)]


def _cholesky(
    gram: Sequence[Sequence[Decimal]], right: Sequence[Decimal]
) -> tuple[list[list[Decimal]], list[Decimal]]:
    """Return L and L⁻¹ right; a column that those before it span has a zero row from its diagonal on."""
    size, zero = len(gram), Decimal(0)
    low = [[zero] * size for _ in range(size)]
    z: list[Decimal] = []
    for i in range(size):
        for j in range(i):
            rest = gram[i][j] - sum((low[i][k] * low[j][k] for k in range(j)), zero)
            low[i][j] = rest / low[j][j] if low[j][j] else zero
        rest = gram[i][i] - sum((low[i][k] ** 2 for k in range(i)), zero)
        low[i][i] = rest.sqrt() if rest > _NOTHING * gram[i][i] else zero
        rest = right[i] - sum((low[i][k] * z[k] for k in range(i)), zero)
        z.append(rest / low[i][i] if low[i][i] else zero)
    return low, z
