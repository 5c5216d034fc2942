"""Models that are linear in some or all of their parameters: those are solved in closed form at every step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.solve.factor import factorise
from gradfit.solve.lm import Problem

Array = NDArray[np.float64]

_SAME = 1e-7  # a change of the linear part this small leaves the other derivatives as they are


@dataclass
class Separable:
    """The problem in the nonlinear parameters alone; the linear ones are at their optimum for each.

    Attributes
    ----------
    problem : Problem
        In all free parameters.
    linear, nonlinear : (l,), (k - l,) int
        Which of them enter linearly, and which do not.
    latest : (k,)
        All parameters at the last point that was evaluated; where the next one begins.

    References
    ----------
    .. [1] Golub & Pereyra (1973), The differentiation of pseudo-inverses and nonlinear least squares problems whose
       variables separate.
    .. [2] Kaufman (1975), A variable projection method for solving separable nonlinear least squares problems: the
       Jacobian used here.
    """

    problem: Problem
    linear: NDArray[np.int64]
    nonlinear: NDArray[np.int64]
    latest: Array

    def solved(self, q: Array) -> tuple[Array, Array, Array]:
        """Return all parameters (k,) at nonlinear ones q, with the residuals (n,) and the Jacobian (n, k) there."""
        p = self.latest.copy()
        p[self.nonlinear] = q
        r, J = self.problem.residual_jacobian(p)
        basis = J[:, self.linear]
        if not (np.isfinite(basis).all() and np.isfinite(r).all()):
            return p, np.full_like(r, np.nan), J
        change = factorise(basis, r).newton_step()
        p[self.linear] += change
        if not np.all(np.abs(change) <= _SAME * np.abs(p[self.linear])):
            r, J = self.problem.residual_jacobian(p)
        else:
            r = r + basis @ change
        return p, r, J

    def residual_jacobian(self, parameters: Array) -> tuple[Array, Array]:
        """Return the residuals (n,) and Kaufman's Jacobian (n, k - l) at the nonlinear parameters."""
        p, r, J = self.solved(parameters)
        if not (np.isfinite(r).all() and np.isfinite(J).all()):
            return r, np.full((len(r), len(parameters)), np.nan)
        self.latest = p
        basis = J[:, self.linear]
        lengths = np.sqrt(np.einsum("ij,ij->j", basis, basis))
        Q = np.linalg.qr(basis / np.where(lengths > 0, lengths, 1.0))[0]
        rest = J[:, self.nonlinear]
        return r - Q @ (Q.T @ r), rest - Q @ (Q.T @ rest)


    def precise_gradient(self, parameters: Array) -> None:  # noqa: ARG002  a problem's signature
        """Return nothing: the last digits are found with all parameters."""
        return


def closed_form(problem: Problem, start: Array) -> Array:
    """Return the minimum (k,) of a problem that is linear in all its parameters: one orthogonal solve."""
    r, J = problem.residual_jacobian(start)
    return start + factorise(J, r).newton_step()
