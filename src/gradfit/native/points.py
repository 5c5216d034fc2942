"""One fit over many points: the sums that a step needs, point by point through the cache, one lane a point.

Every block of rows has sums of its own, and these are added in one order, so that the bits of the answer depend neither
on how many threads there are nor on who took which block.
"""

import ctypes
import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import Graph
from gradfit.native.code import Code
from gradfit.native.compiled import lanes, library
from gradfit.native.evaluate import Evaluation, Value
from gradfit.native.sums import ROBUST, Sums, triangle, wanted
from gradfit.native.values import Cell, Lanes, Truth

if TYPE_CHECKING:
    from llvmlite import ir

Array = NDArray[np.float64]

BLOCK = 4096  # rows of one partial sum: so many additions in a row cost a few units of the last place
CONVERTED = (
    16 * BLOCK
)  # rows of other numbers that become ones of 64 bits at a time, in the second-level cache
MOST_FREE = 12  # sums are written out: their code grows with the square
TURNS = 2  # points of a lane in one turn of the loop, so that the latency of one hides behind the other


class _Exact:
    """Sums with twice as many digits: what rounding takes from a product or a sum is summed beside it.

    References
    ----------
    .. [1] Ogita, Rump & Oishi (2005), Accurate sum and dot product, alg. 5.3.
    """

    def __init__(self, code: Code, graph: Graph, free: Sequence[int], evaluation: Evaluation) -> None:
        self.code, self.graph, self.evaluation = code, graph, evaluation
        self.cores = list(dict.fromkeys(graph.core[j] for j in free))
        zero = code.constant(0.0, evaluation.lanes)
        count = 1 + len(self.cores) + len(triangle(len(self.cores)))
        self._high: list[Cell] = [code.cell(zero) for _ in range(count)]
        self._low: list[Cell] = [code.cell(zero) for _ in range(count)]

    def add(
        self,
        values: Mapping[int, Value],
        observed: Lanes,
        *,
        weight: Lanes | None = None,
        there: Truth | None = None,
    ) -> None:
        """Add a point in each lane."""
        number = self.evaluation.number
        with self.code.exactly():
            residual = number(values, self.graph.value) - observed
            parts = [residual, *(number(values, c) for c in self.cores)]
            if weight is not None:
                parts = [part * weight for part in parts]
            if there is not None:
                parts = [there.pick(part, 0.0) for part in parts]
            residual, *cores = parts
            pairs = [(residual, residual), *((residual, c) for c in cores)]
            pairs += [(cores[i], cores[j]) for i, j in triangle(len(cores))]
            for place, (a, b) in enumerate(pairs):
                self._grow(place, a, b)

    def _grow(self, place: int, a: Lanes, b: Lanes) -> None:
        high, low = self._high[place], self._low[place]
        product = a * b
        rest = a.times(b, -product)
        before = high.get()
        after = before + product
        taken = after - before
        rest = rest + ((before - (after - taken)) + (product - taken))
        high.set(after)
        low.set(low.get() + rest)

    def parts(self) -> list[Lanes]:
        """Return all sums, then what rounding took from them."""
        return [cell.get() for cell in (*self._high, *self._low)]


class _Writer:
    """Writes `sums` of one graph.

    sums(x0, x1, …, y, [weight,] parameters, out, rows) adds up rows in blocks of BLOCK and writes the sums of block b to
    out[b]. Behind the last row the columns must have readable numbers up to a full register.
    """

    def __init__(
        self,
        module: "ir.Module",
        graph: Graph,
        free: Sequence[int],
        *,
        weighted: bool,
        loss: str,
        precise: bool,
    ) -> None:
        self.graph, self.free, self.loss, self.precise = graph, tuple(free), loss, precise
        self.columns = [f"x{k}" for k in range(len(graph.variables))] + ["y"] + ["weight"] * weighted
        self.weighted, self.width = weighted, min(lanes(), 8)
        self.scale: Lanes | None = None  # of a robust loss
        pointers = (*self.columns, "parameters", "out")
        self.code = Code(module, "sums", pointers=pointers, numbers=("rows",))

    def write(self) -> None:
        """Write it."""
        code = self.code
        evaluation = Evaluation(code, self.graph, wanted(self.graph, self.free), self.width)
        count = len(self.graph.parameters)
        evaluation.settle([code.load("parameters", j) for j in range(count)])
        if self.loss in ROBUST:
            self.scale = code.spread(code.load("parameters", count), self.width)
        rows = code.number("rows")
        place = code.cell(code.whole_number(0))
        with code.loop(0, rows, step=BLOCK) as start:
            sums = self._begin(evaluation)
            left = code.at.sub(rows, start)
            stop = code.at.select(
                code.at.icmp_signed("<", left, code.whole_number(BLOCK)), left, code.whole_number(BLOCK)
            )
            turn = self.width * TURNS
            whole = code.at.sub(stop, code.at.srem(stop, code.whole_number(turn)))
            with code.loop(0, whole, step=turn) as i:
                for nth in range(TURNS):
                    self._add(sums, evaluation, code.plus(start, i, nth * self.width), None)
            places = code.joined([code.constant(float(k)) for k in range(self.width)])
            with code.loop(whole, stop, step=self.width) as i:
                rest = Lanes(code, code.at.sitofp(code.at.sub(stop, i), code.scalar))
                there = places < code.spread(rest, self.width)
                self._add(sums, evaluation, code.plus(start, i), there)
            place.put(self._store(sums, evaluation, place.integer()))
        code.finish()

    def _begin(self, evaluation: Evaluation) -> Sums | _Exact:
        if self.precise:
            return _Exact(self.code, self.graph, self.free, evaluation)
        return Sums(self.code, self.graph, self.free, evaluation, cost=self.loss)

    def _add(self, sums: Sums | _Exact, evaluation: Evaluation, row: "ir.Value", there: Truth | None) -> None:
        read = {name: self.code.load(name, row, lanes=self.width) for name in self.columns}
        values = evaluation.at([read[name] for name in self.columns if name not in ("y", "weight")])
        weight = read["weight"] if self.weighted else None
        if isinstance(sums, _Exact):
            sums.add(values, read["y"], weight=weight, there=there)
            return
        sums.add(values, read["y"], weight=weight, there=there, scale=self.scale)

    def _store(self, sums: Sums | _Exact, evaluation: Evaluation, place: "ir.Value") -> "ir.Value":
        """Write the sums of a block, and return where those of the next one go."""
        code = self.code
        if isinstance(sums, _Exact):
            for k, value in enumerate(sums.parts()):
                code.store("out", code.plus(place, k * self.width), value)
            return code.plus(place, len(sums.parts()) * self.width)
        numbers = sums.totals(evaluation.settled, joined=True).all()
        for k, number in enumerate(numbers):
            code.store("out", code.plus(place, k), number)
        return code.plus(place, len(numbers))


class PointSums:
    """The sums of one graph over rows, compiled.

    Parameters
    ----------
    graph : Graph
        The model.
    free : sequence of int
        Which parameters are fitted.
    weighted : bool
        Whether residuals have weights.
    loss : str
        "squared", "poisson", or the name of a robust loss.
    precise : bool
        Whether sums keep twice as many digits: then they are those of the cores of derivatives, without their scales.
    """

    def __init__(
        self,
        graph: Graph,
        free: Sequence[int],
        *,
        weighted: bool,
        loss: str = "squared",
        precise: bool = False,
    ) -> None:
        self.inputs, self.weighted = len(graph.variables), weighted
        self.width = min(lanes(), 8)
        key = json.dumps(["points", graph.to_dict(), list(free), weighted, loss, precise, BLOCK, TURNS])
        self.library = library(key, lambda module: _Writer(
            module, graph, free, weighted=weighted, loss=loss, precise=precise
        ).write())  # fmt: skip
        count = len(free)
        if precise:
            count = len(dict.fromkeys(graph.core[j] for j in free))
        self.count = 1 + count + len(triangle(count))  # sums
        self.shape = (self.count,) if not precise else (2, self.count, self.width)
        pointers = self.inputs + 1 + weighted + 2
        self._run = self.library.function("sums", [ctypes.c_void_p] * pointers + [ctypes.c_int64])

    @staticmethod
    @lru_cache(maxsize=64)
    def of(
        graph: Graph, free: tuple[int, ...], *, weighted: bool, loss: str = "squared", precise: bool = False
    ) -> "PointSums":
        """Return them; the last ones stay in memory."""
        return PointSums(graph, free, weighted=weighted, loss=loss, precise=precise)

    def __call__(self, columns: Sequence[NDArray[Any]], parameters: Array, out: Array) -> None:
        """Write the sums of each block of rows.

        Parameters
        ----------
        columns : sequence of (n,)
            Inputs, observed values and, if there are any, weights. Contiguous numbers of 64 bits are read where they lie,
            others are converted some blocks at a time.
        parameters : (k,) or (k + 1,)
            All of them; with a robust loss its scale at the end.
        out : (ceil(n / BLOCK), *shape)
            The sums: cost, gradient and the lower triangle of JᵀJ; if precise, each as (sum, what rounding took) by lanes.
        """
        parameters = np.ascontiguousarray(parameters, dtype=np.float64)
        if all(c.dtype == np.float64 and c.flags.c_contiguous and c.dtype.isnative for c in columns):
            self._add(columns, parameters, out)
            return
        for start in range(0, len(columns[-1]), CONVERTED):
            part = [np.ascontiguousarray(c[start : start + CONVERTED], dtype=np.float64) for c in columns]
            self._add(part, parameters, out[start // BLOCK :])

    def _add(self, columns: Sequence[Array], parameters: Array, out: Array) -> None:
        rows = len(columns[-1])
        whole = rows - rows % BLOCK
        address, where = parameters.ctypes.data, out.ctypes.data
        if whole:
            self._run(*(c.ctypes.data for c in columns), address, where, whole)
        if whole < rows:
            rest = np.empty((len(columns), BLOCK))
            for k, column in enumerate(columns):
                rest[k, : rows - whole] = column[whole:]
                rest[k, rows - whole :] = column[-1]
            last = out[whole // BLOCK :]
            self._run(*(r.ctypes.data for r in rest), address, last.ctypes.data, rows - whole)
