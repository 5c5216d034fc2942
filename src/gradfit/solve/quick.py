"""A small fit in one compiled call, where nothing needs more than that."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gradfit.native.small import End
from gradfit.solve.factor import SQUARES, Inverse
from gradfit.solve.lm import LM, ending_sentence
from gradfit.solve.outcome import Outcome, Point
from gradfit.solve.problem import ModelProblem
from gradfit.solve.separable import SOLVED

Array = NDArray[np.float64]

ROWS = 100_000  # beyond, a pass over the data is worth more than one core


def quick(
    problem: ModelProblem, start: Array, *, bounds: tuple[Array, Array] | None, settings: LM
) -> Outcome | None:
    """Return the least-squares fit that `lm.minimise` would return, None where it takes that one's means."""
    end = _end(problem, start, bounds, settings)
    if end is None or (bounds is not None and not _inside(end.parameters, bounds)):
        return None
    return _outcome(end, ending_sentence("converged", end.iterations), end.iterations)


def quick_closed_form(problem: ModelProblem, start: Array) -> Outcome | None:
    """Return the minimum of a problem that is linear in all its parameters, None where it takes `closed_form`'s means."""
    end = _end(problem, start, None, _ONE_SOLVE)
    return None if end is None else _outcome(end, SOLVED, 1, way=(0, -1))


_ONE_SOLVE = LM(max_iterations=0)


FTOL, _FACTOR, _CALLS = (
    1.49012e-8,
    100.0,
    200,
)  # what SciPy gives MINPACK: tolerances, first bound, evaluations a parameter


def as_minpack(problem: ModelProblem, start: Array) -> tuple[End, Array] | None:
    """Return where MINPACK's walk from a start leads, and (JᵀJ)⁻¹ (k, k) there; None where MINPACK itself has to walk.

    A problem that is linear in all its parameters needs no walk.
    """
    k = len(start)
    if problem.small is not None and len(problem.small.graph.linear) == k:
        end = _called(problem, start, None, most=0, tolerance=0.0, damping=0.0)
    else:
        most = _CALLS * (k + 1)
        end = _called(problem, start, None, most=most, tolerance=FTOL, damping=_FACTOR, walk="minpack")
    return None if end is None else (end, Inverse.of_triangle(end.covariance, k).matrix)


def _end(problem: ModelProblem, start: Array, bounds: tuple[Array, Array] | None, settings: LM) -> End | None:
    if len(problem.y) > ROWS:
        return None
    tolerance, damping = settings.tolerance, settings.damping
    return _called(problem, start, bounds, most=settings.max_iterations, tolerance=tolerance, damping=damping)


def _called(
    problem: ModelProblem,
    start: Array,
    bounds: tuple[Array, Array] | None,
    *,
    most: int,
    tolerance: float,
    damping: float,
    walk: str = "own",
) -> End | None:
    weight = problem.weight
    if problem.small is None or (weight is not None and weight.ndim > 1):
        return None
    free = tuple(range(len(problem.template))) if problem.free is None else tuple(problem.free.tolist())
    fit = problem.small.get(free, weighted=weight is not None, walk=walk)
    if fit is None:
        return None
    lower, upper = bounds or (None, None)
    end = fit(
        problem.columns, problem.y, weight, problem.whole(start), lower=lower, upper=upper, most=most,
        tolerance=tolerance, damping=damping,
    )  # fmt: skip
    return end if end is not None and _in_range(end) else None


def _in_range(end: End) -> bool:
    """Return whether squares neither overflowed nor lost digits of their own."""
    least, most = SQUARES
    squares = [float(end.covariance[j * (j + 3) // 2]) for j in range(len(end.parameters))]
    return (end.cost == 0 or least < end.cost < most) and least < min(squares) and max(squares) < most


def _outcome(end: End, message: str, iterations: int, way: Sequence[int] | None = None) -> Outcome:
    """Return the outcome; `way`: which points of the trail to show, as steps 0, 1 and so on."""
    factor = Inverse.of_triangle(end.covariance, len(end.parameters))
    points = partial(_points, end, way)
    return Outcome(
        end.parameters, end.cost, "converged", message, iterations, end.evaluations, points, None, factor,
        by="native",
    )  # fmt: skip


def _inside(parameters: Array, bounds: tuple[Array, Array]) -> bool:
    return bool(((parameters > bounds[0]) & (parameters < bounds[1])).all())


def _points(end: End, way: Sequence[int] | None) -> list[Point]:
    f = len(end.parameters)
    trail = end.trail if way is None else end.trail[list(way)]
    steps = trail[:, 0].astype(int).tolist() if way is None else range(len(way))
    return [
        (step, float(row[1]), row[2 : 2 + f], row[2 + f :]) for step, row in zip(steps, trail, strict=True)
    ]
