"""Passes over all rows of a large fit: what they add up to at given parameters, by machine code or by NumPy."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import COMPARE, LOGIC, Graph
from gradfit.kernel import NumpyKernel
from gradfit.loss import Loss
from gradfit.native.elementary import FUNCTIONS
from gradfit.native.points import BLOCK, MOST_FREE, PointSums
from gradfit.native.sums import triangle
from gradfit.solve.condensed import SQUARES, ExactSums, Sums
from gradfit.solve.problem import ModelProblem

Array = NDArray[np.float64]
Columns = list[NDArray[Any]]  # inputs, observed values and, if there are any, weights: (n,) each
Part = Callable[[], Columns]
_P = TypeVar("_P")
_T = TypeVar("_T")

PIECE = 64 * BLOCK  # rows that one thread takes at a time
CHUNK = 8192  # rows that NumPy works on: their Jacobian stays in the cache, and BLAS wakes no threads for its columns


class Parts(Protocol):
    """The rows, PIECE after PIECE."""

    def parts(self) -> Iterator[Part]:
        """Return the pieces in order; each is called in a thread, and gives its columns."""
        ...


def in_order(function: Callable[[_P], _T], parts: Iterable[_P], threads: int) -> Iterator[_T]:
    """Return what the function makes of each part, in order; no more of them are in memory than threads and some."""
    if threads == 1:
        yield from map(function, parts)
        return
    with ThreadPoolExecutor(threads) as pool:
        waiting: deque[Future[_T]] = deque()
        for part in parts:
            waiting.append(pool.submit(function, part))
            if len(waiting) > threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


class Total:
    """A sum of arrays that keeps what rounding takes from it.

    References
    ----------
    .. [1] Knuth, The Art of Computer Programming 2, sec. 4.2.2, theorem B.
    """

    def __init__(self, shape: Sequence[int] = ()) -> None:
        self.high, self.low = np.zeros(shape), np.zeros(shape)

    def add(self, value: Array | float) -> None:
        """Add one more."""
        self.high, rest = two_sum(self.high, np.asarray(value))
        self.low = self.low + rest

    def value(self) -> Array:
        """Return the sum; not a number where something in it was none."""
        return np.where(np.isfinite(self.high), self.high + self.low, self.high)


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """Return a + b, and what rounding took from it."""
    after = a + b
    taken = after - a
    return after, (a - (after - taken)) + (b - taken)


@dataclass(frozen=True, eq=False)
class Passes:
    """All rows of one fit, in NumPy; `NativePasses` is the fast one.

    Attributes
    ----------
    rows : Parts
        The data.
    problem : ModelProblem
        The model, its parameters and which of them are free; it has rows of its own, which are not looked at.
    weighted : bool
        Whether the last column is a weight.
    threads : int
        How many work at once.
    """

    rows: Parts
    problem: ModelProblem
    weighted: bool
    threads: int

    @property
    def name(self) -> str:
        """What runs it."""
        return self.problem.model.name

    @property
    def free(self) -> tuple[int, ...]:
        """Places of the free parameters."""
        free = self.problem.free
        return tuple(range(len(self.problem.template)) if free is None else free.tolist())

    def mapped(self, function: Callable[[Columns], _T]) -> Iterator[_T]:
        """Return what the function makes of the columns of each part, in order."""

        def of(part: Part) -> _T:
            with np.errstate(all="ignore"):  # of the thread: a step into overflow is refused
                return function(part())

        return in_order(of, self.rows.parts(), self.threads)

    def sums(self, parameters: Array, loss: Loss) -> Sums:
        """Return cost, gradient and JᵀJ."""
        k = len(parameters)
        total = Total((1 + k + k * k,))
        for part in self.mapped(lambda columns: self._added(columns, parameters, loss)):
            total.add(part)
        out = total.value()
        return Sums(float(out[0]), out[1 : 1 + k], out[1 + k :].reshape(k, k))

    def precise(self, parameters: Array) -> ExactSums | tuple[Array, Array]:
        """Return residuals and Jacobian of k + 1 rows, from an orthogonal factor of all of them.

        References
        ----------
        .. [1] Demmel, Grigori, Hoemmen & Langou (2012), Communication-optimal parallel and sequential QR and LU.
        """
        k = len(parameters)
        top = np.zeros((k + 1, k + 1))
        for part in self.mapped(lambda columns: self._factor(columns, parameters)):
            top = _triangular(np.vstack([top, part]))
        return top[:, k].copy(), top[:, :k].copy()

    def gradient(self, parameters: Array) -> Array | None:
        """Return Jᵀr in long double, None where there is no such evaluation."""
        total = Total((len(parameters),))
        for part in self.mapped(lambda columns: self._precise_gradient(columns, parameters)):
            if part is None:
                return None
            total.add(part)
        return total.value()

    def over(self, columns: Columns) -> Iterator[ModelProblem]:
        """Return the problem over some rows of a part after the other."""
        one = self.problem
        inputs = len(columns) - 1 - self.weighted
        for start in range(0, len(columns[-1]), CHUNK):
            cut = [np.ascontiguousarray(c[start : start + CHUNK], dtype=np.float64) for c in columns]
            weight = cut[-1] if self.weighted else None
            y = cut[inputs]
            yield ModelProblem(
                one.model, cut[:inputs] or [np.zeros(len(y))], y, weight, one.template, one.free, one.wide,
                counts=one.counts,
            )  # fmt: skip

    def _added(self, columns: Columns, parameters: Array, loss: Loss) -> Array:
        out: list[Array] = []
        for problem in self.over(columns):
            if problem.counts:
                out.append(_products(*scored(problem, parameters)))
                continue
            r, J = problem.residual_jacobian(parameters)
            out.append(_products(loss.cost(r), *loss.linearised(r, J)))
        return np.sum(out, axis=0)

    def _factor(self, columns: Columns, parameters: Array) -> Array:
        parts: list[Array] = []
        for problem in self.over(columns):
            r, J = problem.residual_jacobian(parameters)
            parts.append(_triangular(np.column_stack([J, r])))
        return _triangular(np.vstack(parts))

    def _precise_gradient(self, columns: Columns, parameters: Array) -> Array | None:
        total = Total((len(parameters),))
        for problem in self.over(columns):
            part = problem.precise_gradient(parameters)
            if part is None:
                return None
            total.add(part)
        return total.value()


def scored(problem: ModelProblem, parameters: Array) -> tuple[float, Array, Array]:
    """Return the deviance of counts, and rows with its gradient and the curvature that is expected: Fisher's scoring.

    References
    ----------
    .. [1] McCullagh & Nelder (1989), Generalized Linear Models, 2nd ed., sec. 2.5.
    """
    deviance = problem.residual(parameters)
    miss, J = problem._replace(counts=False, weight=None).residual_jacobian(parameters)
    mean = miss + problem.y
    weight = 1 / np.sqrt(np.where(mean > 0, mean, 1.0))
    weight = weight if problem.weight is None else weight * problem.weight
    return float(deviance @ deviance), miss * weight, J * weight[:, None]


def _products(cost: float, r: Array, J: Array) -> Array:
    """Return cost, Jᵀr and JᵀJ (1 + k + k²,) column by column: BLAS takes whole matrices to threads of its own.

    Where other programs run, too, those wait milliseconds for one another.
    """
    columns = np.ascontiguousarray(J.T)
    k = len(columns)
    out = np.empty(1 + k + k * k)
    out[0], gram = cost, out[1 + k :].reshape(k, k)
    for i, column in enumerate(columns):
        out[1 + i] = column @ r
        for j in range(i + 1):
            gram[i, j] = gram[j, i] = column @ columns[j]
    return out


def _triangular(rows: Array) -> Array:
    """Return R (k, k) with RᵀR = rowsᵀ rows (n, k), NaN where a row is no number."""
    k = rows.shape[1]
    if not np.isfinite(rows).all():
        return np.full((k, k), np.nan)
    tall = rows if len(rows) >= k else np.vstack([rows, np.zeros((k - len(rows), k))])
    return np.asarray(np.linalg.qr(tall, mode="r"))


@dataclass(frozen=True, eq=False)
class NativePasses(Passes):
    """The same by machine code; where a derivative is no number although the model is, by NumPy."""

    graph: Graph

    @property
    def name(self) -> str:
        """What runs it."""
        return "native"

    def sums(self, parameters: Array, loss: Loss) -> Sums:
        """Return cost, gradient and JᵀJ."""
        f = len(parameters)
        code = PointSums.of(self.graph, self.free, weighted=self.weighted, loss=loss.name)
        whole = self.problem.whole(parameters)
        if loss.robust:
            whole = np.append(whole, loss.scale or 1.0)
        total = Total(code.shape)
        for part in self.mapped(lambda columns: _added(code, columns, whole)):
            total.add(part)
        out = total.value()
        gram = np.empty((f, f))
        for value, (i, j) in zip(out[1 + f :], triangle(f), strict=True):
            gram[i, j] = gram[j, i] = value
        if np.isfinite(out[0]) and not np.isfinite(gram).all():
            return super().sums(parameters, loss)
        return Sums(float(out[0]), out[1 : 1 + f], gram)

    def precise(self, parameters: Array) -> ExactSums | tuple[Array, Array]:
        """Return the sums with 32 digits."""
        graph, free = self.graph, self.free
        code = PointSums.of(graph, free, weighted=self.weighted, precise=True)
        whole = self.problem.whole(parameters)
        total = np.zeros((2, code.count))
        for part in self.mapped(lambda columns: _added_exactly(code, columns, whole)):
            total = _joined(np.stack([total, part]))
        cores = list(dict.fromkeys(graph.core[j] for j in free))
        m = len(cores)
        gram = np.empty((2, m, m))
        for value, (i, j) in zip(total[:, 1 + m :].T, triangle(m), strict=True):
            gram[:, i, j] = gram[:, j, i] = value
        squares = gram[0].diagonal()
        if not (np.isfinite(total).all() and ((squares > SQUARES[0]) & (squares < SQUARES[1])).all()):
            return super().precise(parameters)
        core = np.array([cores.index(graph.core[j]) for j in free])
        return ExactSums(total[:, 0], total[:, 1 : 1 + m], gram, core, self._scales(whole))

    def _scales(self, whole: Array) -> Array:
        """Return the factors (f,) of the free derivatives that are the same in every row."""
        graph, anywhere = self.graph, [np.zeros(1)] * len(self.graph.variables)
        alone = [replace(graph, value=graph.scale[j], scale=(), core=()) for j in self.free]
        return np.array([NumpyKernel(part).value(anywhere, whole)[0] for part in alone])


def _added(code: PointSums, columns: Columns, whole: Array) -> Array:
    out = np.empty((-(-len(columns[-1]) // BLOCK), *code.shape))
    code(columns, whole, out)
    return np.ascontiguousarray(out.T).sum(axis=1)  # of neighbours NumPy adds pairs, and pairs of pairs


def _added_exactly(code: PointSums, columns: Columns, whole: Array) -> Array:
    blocks = -(-len(columns[-1]) // BLOCK)
    out = np.empty((blocks, *code.shape))
    code(columns, whole, out)
    parts = out.transpose(0, 3, 1, 2).reshape(-1, 2, code.count)
    return _joined(parts)


def _joined(parts: Array) -> Array:
    """Return the sum (2, m) of numbers (n, 2, m) that are each the sum of two, halves added to halves."""
    while len(parts) > 1:
        half = len(parts) // 2
        high, rest = two_sum(parts[:half, 0], parts[half : 2 * half, 0])
        low = rest + (parts[:half, 1] + parts[half : 2 * half, 1])
        top = high + low
        pairs = np.stack([top, low - (top - high)], axis=1)
        parts = np.concatenate([pairs, parts[2 * half :]])
    return parts[0]


def passes_of(
    rows: Parts,
    problem: ModelProblem,
    graph: Graph | None,
    *,
    weighted: bool,
    threads: int,
    executor: str = "auto",
) -> Passes:
    """Return what makes passes over the rows: machine code where there is one for the model."""
    free = len(problem.template) if problem.free is None else len(problem.free)
    if executor in ("auto", "native") and graph is not None and has_code(graph, free):
        return NativePasses(rows, problem, weighted, threads, graph)
    return Passes(rows, problem, weighted, threads)


def has_code(graph: Graph, free: int) -> bool:
    """Return whether there is machine code for the sums of a graph with so many free parameters."""
    known = {*FUNCTIONS, *COMPARE, *LOGIC, "where", "const", "var", "par"}
    return 0 < free <= MOST_FREE and all(node[0] in known for node in graph.nodes)
