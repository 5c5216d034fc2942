"""A fit of many rows in memory as sums over pieces of them, which stay in the cache: no Jacobian of all rows is made."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import Graph
from gradfit.loss import Loss
from gradfit.solve.condensed import Condensed, known_rows, minimise_rows
from gradfit.solve.factor import inverse
from gradfit.solve.lm import LM, Watch
from gradfit.solve.outcome import Outcome, Point
from gradfit.solve.passes import CHUNK, PIECE, Columns, Part, Passes, passes_of
from gradfit.solve.problem import ModelProblem
from gradfit.solve.separable import closed_form

Array = NDArray[np.float64]

_SHARE = 250_000  # rows that are worth a thread


@dataclass(frozen=True, eq=False)
class _Cuts:
    """Columns (n,) in memory."""

    columns: Sequence[Array]

    def parts(self) -> Iterator[Part]:
        for start in range(0, len(self.columns[-1]), PIECE):
            yield partial(self._cut, slice(start, start + PIECE))

    def _cut(self, rows: slice) -> Columns:
        return [column[rows] for column in self.columns]


def suits(problem: ModelProblem) -> bool:
    """Return whether a problem is better fitted in pieces: many rows whose errors do not know of each other."""
    correlated = problem.weight is not None and problem.weight.ndim > 1
    return len(problem.y) > CHUNK and not correlated and not problem.counts


def in_pieces(
    problem: ModelProblem,
    graph: Graph,
    start: Array,
    *,
    bounds: tuple[Array, Array] | None,
    loss: Loss,
    settings: LM,
    watch: Watch | None,
    executor: str,
) -> Outcome:
    """Return where `lm.minimise` ends, by the same decisions.

    Parameters
    ----------
    problem : ModelProblem
        Whose model is the graph, in NumPy.
    executor : str
        "native" or "numpy": what sums.
    """
    passes = _passes(problem, graph, executor)
    outcome = minimise_rows(passes, start, bounds=bounds, loss=loss, settings=settings, watch=watch)
    return _of_all_rows(outcome, passes, loss)


def closed_in_pieces(problem: ModelProblem, graph: Graph, start: Array, *, executor: str) -> Outcome:
    """Return the least squares of a problem that is linear in all its parameters.

    The sum of squares at a start of zero is that of the data, which leaves few digits to the residuals': so there are two
    solves, the second from where the first ends.
    """
    passes = _passes(problem, graph, executor)
    first = closed_form_of_rows(passes, start)
    if not np.isfinite(first.loss):
        return _of_all_rows(first, passes, Loss())
    last = closed_form_of_rows(passes, first.parameters)
    evaluations = first.evaluations + last.evaluations
    points = partial(_ends, first, last)
    return _of_all_rows(replace(last, points=points, evaluations=evaluations), passes, Loss())


def _ends(first: Outcome, last: Outcome) -> list[Point]:
    """Return where one way began and where the other ended."""
    begun, ended = (done.points() if callable(done.points) else done.points for done in (first, last))
    return [begun[0], ended[-1]]


def closed_form_of_rows(passes: Passes, start: Array) -> Outcome:
    """Return the minimum of a linear problem; where it is ill-conditioned a second solve wins back digits."""
    problem = Condensed(passes, Loss())
    outcome = closed_form(problem, start)
    if not np.isfinite(outcome.loss) or known_rows(outcome) is not None:
        return outcome
    again = closed_form(problem, outcome.parameters)
    return replace(again, evaluations=outcome.evaluations + again.evaluations)


def _passes(problem: ModelProblem, graph: Graph, executor: str) -> Passes:
    weighted = problem.weight is not None
    columns = [*problem.columns[: len(graph.variables)], problem.y]
    columns += [problem.weight] if problem.weight is not None else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = min(cores, 1 + len(problem.y) // _SHARE) if executor == "native" else 1
    return passes_of(_Cuts(columns), problem, graph, weighted=weighted, threads=threads, executor=executor)


def _of_all_rows(outcome: Outcome, passes: Passes, loss: Loss) -> Outcome:
    """Return an outcome without the condensed rows, which are not the data's; where squares suffice, their inverse."""
    rows = None if loss.robust else known_rows(outcome)
    factor = None if rows is None else inverse(rows[1])
    return replace(outcome, end=None, factor=factor, by=passes.name)
