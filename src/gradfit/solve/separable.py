"""Models that are linear in some or all of their parameters: those are solved in closed form at every step."""

from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from gradfit.solve.factor import Inverse, factorise, inverse
from gradfit.solve.lm import LM, Problem, State, corrected, minimise
from gradfit.solve.outcome import Outcome, Point
from gradfit.solve.problem import ModelProblem

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


SOLVED = "Solved in closed form: every parameter enters linearly"


def closed_form(problem: Problem, start: Array) -> Outcome:
    """Return the minimum of a problem that is linear in all its parameters: one solve, corrected once.

    The normal equations serve where they keep the digits, the SVD of the Jacobian everywhere else.
    """
    r, J = problem.residual_jacobian(start)
    solver = inverse(J)
    return _by_svd(problem, start, r, J) if solver is None else _by_inverse(start, r, J, solver)


def _by_inverse(start: Array, r: Array, J: Array, solver: Inverse) -> Outcome:
    h = solver.matrix.dot(r.dot(J))
    rest = r - J.dot(h)
    correction = solver.matrix.dot(rest.dot(J))  # wins back what the squares lost
    p = start - h - correction
    rest -= J.dot(correction)
    cost = float(rest.dot(rest))

    def points() -> list[Point]:
        return [(0, float(r @ r), 2 * (r @ J), start), (1, cost, 2 * (rest @ J), p)]

    if not isfinite(cost):
        return _nowhere(start, r, J)
    return Outcome(p, cost, "converged", SOLVED, 1, 1, points, (rest, J), solver)


def _nowhere(start: Array, r: Array, J: Array) -> Outcome:
    point = 0, float(r @ r), 2 * (r @ J), start
    return Outcome(start, np.inf, "stalled", "The model is not finite on these data", 0, 1, [point])


def _by_svd(problem: Problem, start: Array, r: Array, J: Array) -> Outcome:
    if not (np.isfinite(r).all() and np.isfinite(J).all()):
        return _nowhere(start, r, J)
    points: list[Point] = [(0, float(r @ r), 2 * (r @ J), start)]
    factor = factorise(J, r)
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
    return Outcome(
        state.p, state.cost, "converged", SOLVED, 1, evaluations, points, (state.r, state.J), factor
    )


def projected(
    problem: ModelProblem,
    linear: NDArray[np.int64],
    start: Array,
    bounds: tuple[Array, Array],
    *,
    settings: LM,
) -> tuple[Array, float]:
    """Return where variable projection from a start ends, all parameters, and the sum of squares there.

    Raises
    ------
    KeyboardInterrupt
        If the user stopped the fit.
    """
    nonlinear = np.setdiff1d(np.arange(len(start)), linear)
    if len(nonlinear) == 0:
        outcome = closed_form(problem, np.nan_to_num(start))
        return outcome.parameters, outcome.loss
    apart = Separable(problem, linear, nonlinear, np.nan_to_num(start))
    inner = (bounds[0][nonlinear], bounds[1][nonlinear])
    outcome = minimise(apart, apart.latest[nonlinear], bounds=inner, settings=settings)
    if outcome.status == "interrupted":
        raise KeyboardInterrupt
    point, residuals, _ = apart.solved(outcome.parameters)
    if not np.isfinite(residuals).all():
        point = apart.latest
    # what the model really misses there: two nearly equal columns can cancel on paper and not in floating point
    residuals = problem.residual(point)
    return point, float(residuals @ residuals)
