"""Standard errors of many fits on a device: `solve.lockstep.scatter` in torch."""

from typing import TYPE_CHECKING, NamedTuple

from gradfit._lazy import torch
from gradfit.solve.lockstep.tensor.points import Model, Points, Sums, psi_slope, row_sums, sums
from gradfit.solve.lockstep.tensor.systems import Cholesky, deficient, lengths, scaled, without

if TYPE_CHECKING:
    Tensor = torch.Tensor


class Fitted(NamedTuple):
    """Fits at their ends.

    Attributes
    ----------
    model : Model
    points : Points
    p : (k, m)
        All parameters.
    now : Sums
    size : (m,)
        How many points each fit has.
    mend : frozenset of int
        Free parameters whose derivatives are no number at some points.
    """

    model: Model
    points: Points
    p: "Tensor"
    now: Sums
    size: "Tensor"
    mend: frozenset[int]


def standard_errors(
    fitted: Fitted, *, lower: "Tensor", upper: "Tensor", loss: str, absolute: bool
) -> tuple["Tensor", "Tensor"]:
    """Return the standard errors (f, m), and which fits (m,) leave a parameter undetermined.

    NaN for a parameter on a bound (lower, upper: (f, 1)) and for one that the data do not determine.
    """
    robust = loss not in ("squared", "poisson")
    gram = fitted.now.gram
    if robust:
        gram = sums(fitted.model, fitted.points, fitted.p, loss="squared", mend=fitted.mend).gram
    q = fitted.p[list(fitted.model.free)]
    width = torch.where(torch.isfinite(upper - lower), upper - lower, 1 + q.abs())
    held = (q - lower <= 1e-9 * width) | (upper - q <= 1e-9 * width)
    norm = lengths(gram)
    matrix = without(scaled(gram, norm), held)
    factor = Cholesky.of(matrix)
    variance, unknown = factor.inverse_diagonal(), torch.zeros_like(held)
    rank = (~(held | factor.dropped)).sum(0)
    odd = torch.nonzero(factor.dropped.any(0)).squeeze(1)
    if len(odd):
        variance[:, odd], unknown[:, odd] = deficient(matrix[:, :, odd])
    freedom = (fitted.size - rank).double()
    freedom = torch.where(freedom > 0, freedom, torch.nan)
    if robust:
        spread = _robust_scatter(fitted, loss, rank, freedom)
    elif absolute or loss == "poisson":
        spread = torch.ones_like(freedom)
    else:
        spread = (fitted.now.cost / freedom).sqrt()
    errors = spread * variance.sqrt() / norm
    return errors.masked_fill(held | unknown, torch.nan), (unknown & ~held).any(0)


def _robust_scatter(fitted: Fitted, loss: str, rank: "Tensor", freedom: "Tensor") -> "Tensor":
    """Return Huber's scatter (m,): Robust Statistics (1981), eq. 7.6.8."""
    points = fitted.points
    residuals = fitted.model.value(points, fitted.p) - points.y
    used = torch.ones_like(residuals)
    if points.weight is not None:
        residuals = torch.where(points.weight == 0, 0.0, residuals * points.weight)
        used = used * (points.weight != 0)
    psi, slope = psi_slope(points, loss, residuals)
    n = row_sums(used)
    middle = row_sums(slope * used) / n
    off = (slope - middle[:, None]) * used
    correction = 1 + rank / n * row_sums(off * off) / n / middle**2
    scatter = correction * (row_sums(psi * psi) / freedom).sqrt() / middle
    return torch.where(middle > 0, scatter, torch.nan)
