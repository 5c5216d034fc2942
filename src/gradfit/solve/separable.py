"""Models that are linear in some or all of their parameters: those are solved in closed form at every step."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.solve.factor import factorise
from gradfit.solve.lm import Problem, State, corrected
from gradfit.solve.outcome import Outcome, Point

Array = NDArray[np.float64]

WELL = 1e-4  # ratio of singular values down to which one solve is right to rounding
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


def closed_form(problem: Problem, start: Array) -> Outcome:
    """Return the minimum of a problem that is linear in all its parameters: one orthogonal solve, corrected once."""
    r, J = problem.residual_jacobian(start)
    points: list[Point] = [(0, float(r @ r), 2 * (r @ J), start)]
    factor = factorise(J, r) if np.isfinite(r).all() else None
    if factor is None:
        return Outcome(start, np.inf, "stalled", "The model is not finite on these data", 0, 1, points)
    h = factor.newton_step()
    r = r + J @ h
    state = State(start + h, r, J, float(r @ r), factor, 0.0)
    evaluations = 1
    if factor.s[-1] < WELL * factor.s[0]:  # a second solve wins back digits that the first one lost
        r, J = problem.residual_jacobian(state.p)
        factor = factorise(J, r)
        h = factor.newton_step()
        r = r + J @ h
        state = State(state.p + h, r, J, float(r @ r), factor, 0.0)
        evaluations = 2
    state = corrected(problem, state)
    points.append((1, state.cost, 2 * (state.r @ state.J), state.p))
    message = "Solved in closed form: every parameter enters linearly"
    return Outcome(
        state.p,
        state.cost,
        "converged",
        message,
        1,
        evaluations,
        points,
        end=(state.r, state.J),
        factor=factor,
    )
