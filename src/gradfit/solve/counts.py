"""Where the likelihood of counts has no value: a start at which the model is not positive is brought to where it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.loss import deviance_residuals
from gradfit.solve.lm import LM, minimise
from gradfit.solve.outcome import Outcome
from gradfit.solve.problem import ModelProblem

Array = NDArray[np.float64]

_SHARES = (0.1, 1e-2, 1e-4)  # of a count: below, its residual goes on as a straight line, steeper and steeper
_LEVEL = 0.05  # of the mean count, that a count of zero is taken for
_ZERO = 1e-4  # of the mean count: a fitted mean that has run into zero
_STILL = 1e-6  # of its terms: what rounding leaves of a gradient at a minimum
_PARTS = (0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)  # of the mean count, that rows without one are given


@dataclass(frozen=True, eq=False)
class _Extended:
    """Deviance residuals that go on as straight lines where the model is small or negative.

    Attributes
    ----------
    problem : ModelProblem
        Of counts.
    counts, least : (n,)
        The counts, none of them zero, and from where on down the residual is a straight line.
    """

    problem: ModelProblem
    counts: Array
    least: Array

    @classmethod
    def of(cls, problem: ModelProblem, share: float) -> "_Extended":
        """Return the problem with lines below that share of each count."""
        counts = np.maximum(problem.y, _LEVEL * (float(problem.y.mean()) or 1.0))
        return cls(problem, counts, share * counts)

    def residual_jacobian(self, parameters: Array) -> tuple[Array, Array]:
        """Return the residuals (n,) and their derivatives (n, f)."""
        problem = self.problem
        plain, jacobian = problem._replace(counts=False, weight=None).residual_jacobian(parameters)
        value = plain + problem.y
        residuals, slope = deviance_residuals(self.counts, np.maximum(value, self.least))
        residuals = residuals + slope * np.minimum(value - self.least, 0.0)
        weight = slope if problem.weight is None else slope * problem.weight
        return problem.weighted(residuals), jacobian * weight[:, None]

    def precise_gradient(self, parameters: Array) -> None:  # noqa: ARG002  a problem's signature
        """Return nothing: this is only the way to a start."""
        return


def brought_inside(problem: ModelProblem, start: Array, bounds: tuple[Array, Array] | None) -> Array:
    """Return a point near the minimum where the model of counts is positive; the start itself where it is, or if none is found.

    Parameters
    ----------
    start : (f,)
        Inside the bounds.

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the fit.
    """
    if not problem.counts or np.isfinite(problem.residual(start)).all():
        return start
    point = start
    for share in _SHARES:
        extended = _Extended.of(problem, share)
        done = minimise(extended, point, bounds=bounds, settings=LM(max_iterations=100))
        if done.status == "interrupted":
            raise KeyboardInterrupt
        point = done.parameters
        if np.isfinite(problem.residual(point)).all():
            return point
    return start


def rows_at_zero(problem: ModelProblem, point: Array, bounds: tuple[Array, Array] | None) -> NDArray[np.intp]:
    """Return the rows (m,) without a count whose mean has run into zero, where the likelihood would still rise beyond.

    Empty where the point is a minimum of the deviance inside the bounds.
    """
    none = np.zeros(0, dtype=np.intp)
    if not problem.counts:
        return none
    mean = problem.model.value(problem.columns, problem.whole(point))
    rows = np.flatnonzero((problem.y == 0) & (mean <= _ZERO * float(problem.y.mean())))
    r, J = problem.residual_jacobian(point)
    if not len(rows) or not np.isfinite(r).all():
        return none
    gradient, size = r @ J, np.abs(r) @ np.abs(J)
    moving = np.abs(gradient) > _STILL * size
    if bounds is not None:
        moving &= ~((point <= bounds[0]) & (gradient > 0)) & ~((point >= bounds[1]) & (gradient < 0))
    return rows[(J[rows][:, moving] != 0).any(axis=1)]


def along_zero(problem: ModelProblem, start: Array, bounds: tuple[Array, Array] | None) -> Outcome | None:
    """Return the least deviance of a model that is positive in every row, where that lies on the edge; None if not found.

    Rows without a count are given ever smaller parts of one, which keeps their mean above zero: a barrier.

    Parameters
    ----------
    start : (f,)
        Where the model is positive.

    References
    ----------
    .. [1] Nocedal & Wright (2006), Numerical Optimization, 2nd ed., sec. 19.6: the logarithmic barrier.
    """
    settings = LM(max_iterations=100)
    done = minimise(_Extended.of(problem, _SHARES[1]), start, bounds=bounds, settings=settings)
    point = done.parameters if np.isfinite(problem.residual(done.parameters)).all() else start
    steps, looks = done.iterations, done.evaluations
    for share in _PARTS:
        if done.status == "interrupted":
            break
        part = problem._replace(y=np.maximum(problem.y, share * float(problem.y.mean())))
        done = minimise(part, point, bounds=bounds, settings=settings)
        point, steps, looks = done.parameters, steps + done.iterations, looks + done.evaluations
    r, J = problem.residual_jacobian(point)
    if not np.isfinite(r).all():
        return None
    loss = float(r @ r)
    if done.status == "interrupted":
        return Outcome(point, loss, done.status, done.message, steps, looks, done.points, end=(r, J))
    message = f"Levenberg-Marquardt converged after {steps} steps, where the mean of a row reaches zero"
    return Outcome(point, loss, "converged", message, steps, looks, done.points, end=(r, J))
