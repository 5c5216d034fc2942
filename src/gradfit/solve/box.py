"""The damped linear problem inside a box: the step of a bounded fit."""

import numpy as np
from numpy.typing import NDArray

from gradfit.solve.factor import Factor

Array = NDArray[np.float64]


def boxed_step(factor: Factor, damping: float, lower: Array, upper: Array) -> Array:
    """Return the h that minimises |r + J h|² + damping |norm h|² with lower <= h <= upper, 0 inside them.

    An active set that is exact after finitely many turns: variables that would leave are held at their bound, and let
    go when that lowers the sum.

    References
    ----------
    .. [1] Stark & Parker (1995), Bounded-variable least squares: an algorithm and applications.
    """
    free_step = factor.step(damping)
    if np.all((free_step >= lower) & (free_step <= upper)):
        return free_step
    k = len(free_step)
    M = np.vstack([factor.s[:, None] * factor.vt, np.sqrt(damping) * np.eye(k)])  # in u = norm * h
    b = np.concatenate([-factor.z, np.zeros(k)])
    low, high = lower * factor.norm, upper * factor.norm
    u = np.zeros(k)
    free = (low < 0) & (high > 0)
    for _ in range(10 * k + 10):
        u, free = _descend(M, b, low, high, u=u, free=free)
        pull = M.T @ (b - M @ u)  # where the sum would fall
        wrong = np.where(u <= low, pull, -pull)  # held at a bound, and drawn back inside
        wrong = np.where(free | (low == high), -np.inf, wrong)
        worst = int(np.argmax(wrong))
        if not wrong[worst] > 1e-12 * float(np.abs(b).max(initial=0.0)):
            break
        free[worst] = True
    return u / factor.norm


def _descend(
    M: Array, b: Array, low: Array, high: Array, *, u: Array, free: NDArray[np.bool_]
) -> tuple[Array, NDArray[np.bool_]]:
    """Minimum over the free variables; those that would leave the box are stopped at their bound, one at a time."""
    free = free.copy()
    while free.any():
        target = u.copy()
        target[free] = np.linalg.lstsq(M[:, free], b - M[:, ~free] @ u[~free], rcond=None)[0]
        move = target - u
        with np.errstate(divide="ignore", invalid="ignore"):
            room = np.where(move > 0, (high - u) / move, np.where(move < 0, (low - u) / move, np.inf))
        room = np.where(free, room, np.inf)
        first = int(np.argmin(room))
        if room[first] >= 1:
            return target, free
        u = u + max(float(room[first]), 0.0) * move
        u[first] = high[first] if move[first] > 0 else low[first]
        free[first] = False
    return u, free
