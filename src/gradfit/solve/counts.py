"""Where the likelihood of counts has no value: a start at which the model is not positive is brought to where it is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.loss import deviance_residuals
from gradfit.solve.lm import LM, minimise
from gradfit.solve.problem import ModelProblem

Array = NDArray[np.float64]

_SHARES = (0.1, 1e-2, 1e-4)  # of a count: below, its residual goes on as a straight line, steeper and steeper
_LEVEL = 0.05  # of the mean count, that a count of zero is taken for


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
