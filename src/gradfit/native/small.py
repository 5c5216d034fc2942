"""Small fits by machine code: the arrays that one call reads and writes, and when it is worth compiling."""

import ctypes
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import Graph
from gradfit.native import one
from gradfit.native.compiled import lanes, library

Array = NDArray[np.float64]

TRAIL = 256  # points of the way that are kept; a walk with more is left to the solver with all means


@dataclass(frozen=True, eq=False)
class End:
    """Where a walk ended, and what was summed there.

    Attributes
    ----------
    parameters : (f,)
        The free ones.
    cost : float
        Sum of squared weighted residuals.
    covariance : (f(f+1)/2,)
        Lower triangle of (JᵀJ)⁻¹, row by row.
    trail : (m, 2 + 2f)
        Step, cost, its gradient and the free parameters, at each point of the way.
    """

    parameters: Array
    cost: float
    covariance: Array
    iterations: int
    evaluations: int
    trail: Array


class SmallFit:
    """A graph's walk for one small fit, compiled.

    Parameters
    ----------
    graph : Graph
        The model.
    free : sequence of int
        Which parameters are fitted.
    weighted : bool
        Whether residuals have weights.
    """

    def __init__(self, graph: Graph, free: Sequence[int], *, weighted: bool) -> None:
        self.free, self.weighted = tuple(free), weighted
        self.inputs = len(graph.variables)
        self.width = min(lanes(), 8)
        self.layout = one.Layout(len(graph.parameters), len(self.free))
        self._size = self.layout.size
        self._places = {name: getattr(self.layout, name) for name, _ in self.layout.parts()}
        self.library = library(key(graph, self.free, weighted=weighted), lambda module: one.OneFit(
            module, graph, self.free, weighted=weighted, lanes=self.width
        ).write())  # fmt: skip
        pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
        self._run = self.library.function("fit", [pointer] * 3 + [whole] * 3 + [real] * 2)

    def __call__(
        self,
        columns: Sequence[Array],
        y: Array,
        weight: Array | None,
        parameters: Array,
        *,
        lower: Array | None,
        upper: Array | None,
        most: int,
        tolerance: float,
        damping: float,
    ) -> End | None:
        """Return the minimum, None where the walk needs means that it does not have.

        Parameters
        ----------
        columns, y, weight : (n,)
            As `solve.problem` holds them.
        parameters : (k,)
            All parameters, the free ones at their start.
        lower, upper : (f,), optional
            Bounds; a walk that meets one is left to the solver that can walk along it.
        most : int
            Iterations; 0 for a model that is linear in its free parameters.
        """
        rows, f, at = len(y), len(self.free), self._places
        stride = -(-rows // self.width) * self.width
        data = np.empty((self.inputs + 1 + self.weighted, stride))
        for k in range(self.inputs):
            data[k, :rows] = columns[k]
        data[self.inputs, :rows] = y
        if weight is not None:
            data[-1, :rows] = weight
        data[:, rows:] = data[:, rows - 1 : rows]
        state, trail = np.zeros(self._size), np.empty((TRAIL, 2 + 2 * f))
        state[: len(parameters)] = parameters
        state[at["lower"] : at["upper"]] = -np.inf if lower is None else lower
        state[at["upper"] : at["room"]] = np.inf if upper is None else upper
        state[at["room"]] = TRAIL
        status = self._run(
            data.ctypes.data, state.ctypes.data, trail.ctypes.data, rows, stride, most, tolerance**2, damping
        )
        if status != one.CONVERGED:
            return None
        out = state.tolist()
        return End(
            state[list(self.free)],
            out[at["cost"]],
            state[at["covariance"] : at["done"]],
            int(out[at["done"]]),
            int(out[at["evaluations"]]),
            trail[: int(out[at["points"]])],
        )


EARNED = 2000  # evaluations of some tens of rows in NumPy take as long as compiling does


class SmallFits:
    """The compiled walks of one graph, made once the work in NumPy has earned them.

    Only the work counts, neither the clock nor what the disk already holds, so that a program gives the same bits each
    time it runs.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self._work = 0.0
        self._ready: dict[tuple[tuple[int, ...], bool], SmallFit] = {}

    def worked(self, evaluations: int, rows: int) -> None:
        """Count what NumPy did."""
        self._work += evaluations * (1 + rows / 1000)

    def get(self, free: tuple[int, ...], *, weighted: bool, now: bool) -> SmallFit | None:
        """Return the walk for these free parameters; None while it is not worth compiling, or where it is too large.

        Parameters
        ----------
        now : bool
            Whether to compile whatever the work.
        """
        if not 0 < len(free) <= one.MOST or not (now or self._work >= EARNED):
            return None
        known = self._ready.get((free, weighted))
        if known is None:
            known = self._ready[free, weighted] = SmallFit(self.graph, free, weighted=weighted)
        return known


@lru_cache(maxsize=256)
def small_fits(graph: Graph) -> SmallFits:
    """Return the compiled walks of a graph; equal graphs share theirs, whatever formula or function they come from."""
    return SmallFits(graph)


def key(graph: Graph, free: Sequence[int], *, weighted: bool) -> str:
    """Return what decides the code of a small fit."""
    return json.dumps(["one", graph.to_dict(), list(free), weighted])
