"""Small fits by machine code: the arrays that one call reads and writes, and when it is worth compiling."""

import ctypes
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import LEAVES, Graph
from gradfit.native import one
from gradfit.native.compiled import LOADED, lanes, library
from gradfit.native.trust import TrustFit

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
    reason : int
        MINPACK's number for the test that ended its walk, else 0.
    """

    parameters: Array
    cost: float
    covariance: Array
    iterations: int
    evaluations: int
    trail: Array
    reason: int = 0


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
    walk : str
        "own", as `solve.lm` goes, or "minpack".
    """

    def __init__(self, graph: Graph, free: Sequence[int], *, weighted: bool, walk: str = "own") -> None:
        self.free, self.weighted, self.walk = tuple(free), weighted, walk
        self.inputs = len(graph.variables)
        self.width = min(lanes(), 8)
        self.layout = one.Layout(len(graph.parameters), len(self.free))
        self._size = self.layout.size
        self._places = {name: getattr(self.layout, name) for name, _ in self.layout.parts()}
        self.library = library(key(graph, self.free, weighted=weighted, walk=walk), lambda module: _WALKS[walk](
            module, graph, self.free, weighted=weighted, lanes=self.width
        ).write())  # fmt: skip
        pointer, whole, real = ctypes.c_void_p, ctypes.c_int64, ctypes.c_double
        self._run = self.library.function("fit", [pointer] * 3 + [whole] * 3 + [real] * 2)

    def _goal(self, tolerance: float) -> float:
        return tolerance if self.walk == "minpack" else tolerance**2

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
        tolerance, damping : float
            As in `solve.lm.LM`; for MINPACK's walk its tolerances, and the factor of its first bound.
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
            data.ctypes.data,
            state.ctypes.data,
            trail.ctypes.data,
            rows,
            stride,
            most,
            self._goal(tolerance),
            damping,
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
            int(out[at["reason"]]),
        )


_WALKS = {"own": one.OneFit, "minpack": TrustFit}


#: nanoseconds: of NumPy for one row of an operation, for a call of one, and what a step of the solver takes beside
ROW, SLOW_ROW, CALL, STEP = 1, 20, 800, 40_000
_SLOW = frozenset(["sin", "cos", "pow", "erf", "erfc", "lgamma", "digamma", "wofz_real", "wofz_imag"])
#: and of compiling a walk, for any graph and for each of its operations
COMPILING, EACH = 30_000_000, 4_000_000
USUAL = 8  # evaluations of a fit from given start values


class SmallFits:
    """The compiled walks of one graph, made once the work in NumPy has earned them.

    Only the work counts, rows times operations, neither the clock nor what the disk already holds, so that a program gives
    the same bits each time it runs.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        operations = [str(node[0]) for node in graph.nodes if node[0] not in LEAVES]
        self._calls = len(operations) + len(graph.core)
        self._a_row = ROW * self._calls + (SLOW_ROW - ROW) * sum(name in _SLOW for name in operations)
        self._price = COMPILING + EACH * self._calls
        self._work = 0

    def worked(self, evaluations: int, rows: int) -> None:
        """Count what NumPy did."""
        self._work += evaluations * self._cost(rows)

    def earned(self, rows: int) -> bool:
        """Return whether compiling is worth the work that was done, and that of a fit of so many rows."""
        return self._work + USUAL * self._cost(rows) >= self._price

    def _cost(self, rows: int) -> int:
        """Return the nanoseconds, about, that NumPy takes for an evaluation and the step from it."""
        return STEP + CALL * self._calls + self._a_row * rows

    def get(self, free: tuple[int, ...], *, weighted: bool, walk: str = "own") -> SmallFit | None:
        """Return the walk for these free parameters; None where it is too large."""
        if not 0 < len(free) <= one.MOST:
            return None
        return _walk(self, free, weighted=weighted, walk=walk)


@lru_cache(maxsize=LOADED)
def _walk(fits: SmallFits, free: tuple[int, ...], *, weighted: bool, walk: str) -> SmallFit:
    return SmallFit(fits.graph, free, weighted=weighted, walk=walk)


@lru_cache(maxsize=256)
def small_fits(graph: Graph) -> SmallFits:
    """Return the compiled walks of a graph; equal graphs share theirs, whatever formula or function they come from."""
    return SmallFits(graph)


def key(graph: Graph, free: Sequence[int], *, weighted: bool, walk: str = "own") -> str:
    """Return what decides the code of a small fit."""
    return json.dumps(["one", walk, graph.to_dict(), list(free), weighted])
