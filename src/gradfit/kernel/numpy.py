"""The numpy executor: the graph's operations one after the other, each a NumPy call. Nothing to compile: it is instant."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradfit._lazy import special
from gradfit.graph import LEAVES, Graph, Node, operands, place, reached
from gradfit.kernel.faddeeva import wofz
from gradfit.kernel.source import python_source

Array = NDArray[np.float64]
Step = tuple[int, Callable[..., Any], int, int, int]  # node, function, its operands (-1: none)

CHUNK = 16_384  # rows at a time: a dozen intermediate columns of this length stay in the second-level cache


@dataclass(frozen=True)
class NumpyExecutor:
    """Runs graphs with NumPy."""

    def compile(self, graph: Graph) -> "NumpyKernel":
        """Return the kernel of a graph."""
        return NumpyKernel(graph)


class NumpyKernel:
    """A graph's operations in order, once for the value alone and once for value and derivatives."""

    name: str = "numpy"

    def __init__(self, graph: Graph) -> None:
        self.graph: Graph = graph
        self._value_steps: list[Step] = _steps(graph, [graph.value])
        self._all_steps: list[Step] = _steps(graph, [graph.value, *graph.scale, *graph.core])
        self._blank: list[Any] = [node[1] if node[0] == "const" else None for node in graph.nodes]
        leaves = [(i, node) for i, node in enumerate(graph.nodes) if node[0] in ("var", "par")]
        self._leaves: list[tuple[int, str, int]] = [(i, str(node[0]), place(node)) for i, node in leaves]
        self._unit: list[bool] = [graph.nodes[s] == ("const", 1.0) for s in graph.scale]
        self._own: bool = graph.nodes[graph.value][0] not in ("var", "par")  # the value is a fresh array

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,) at the rows of `columns`, each (n,), for parameters (k,).

        With parameters (k, m, 1), many sets at once, the result is (m, n); a column may be (m, n) then, one row a set.
        """
        rows = _rows(columns)
        if parameters.ndim == 1 and rows > 2 * CHUNK:
            return np.concatenate([self.value(part, parameters) for part in _chunks(columns, rows)])
        with np.errstate(all="ignore"):
            values = self._run(self._value_steps, columns, parameters)
        return self._spread(values[self.graph.value], columns, parameters)

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k), stored by column.

        With parameters (k, m, 1), many sets at once, the shapes are (m, n) and (k, m, n); a column may be (m, n) then.
        """
        rows = _rows(columns)
        shape = (rows,) if parameters.ndim == 1 else (parameters.shape[1], rows)
        jacobian = np.empty((len(self.graph.core), *shape), dtype=parameters.dtype)
        if parameters.ndim == 1 and rows > 2 * CHUNK:
            out = np.empty(rows, dtype=parameters.dtype)
            for start, part in zip(range(0, rows, CHUNK), _chunks(columns, rows), strict=True):
                out[start : start + CHUNK] = self._fill(part, parameters, jacobian[:, start : start + CHUNK])
        else:
            out = self._fill(columns, parameters, jacobian)
        return out, jacobian.T if parameters.ndim == 1 else jacobian

    @cached_property
    def source(self) -> str:
        """The graph as Python code for a person to read; running it gives what the kernel gives."""
        return python_source(self.graph)

    def _fill(self, columns: Sequence[Array], parameters: Array, jacobian: Array) -> Array:
        graph = self.graph
        with np.errstate(all="ignore"):
            values = self._run(self._all_steps, columns, parameters)
            for j, (scale, core) in enumerate(zip(graph.scale, graph.core, strict=True)):
                if self._unit[j]:
                    jacobian[j] = values[core]
                else:
                    np.multiply(values[scale], values[core], out=jacobian[j])
        return self._spread(values[graph.value], columns, parameters)

    def _run(self, steps: Sequence[Step], columns: Sequence[Array], parameters: Array) -> list[Any]:
        values = self._blank.copy()
        scalars = parameters.tolist() if parameters.ndim == 1 else parameters
        for i, kind, k in self._leaves:
            values[i] = scalars[k] if kind == "par" else _wide(columns[k], parameters.dtype)
        for i, function, a, b, c in steps:
            if b < 0:
                values[i] = function(values[a])
            elif c < 0:
                values[i] = function(values[a], values[b])
            else:
                values[i] = function(values[a], values[b], values[c])
        return values

    def _spread(self, value: Any, columns: Sequence[Array], parameters: Array) -> Array:
        rows = _rows(columns)
        shape = (rows,) if parameters.ndim == 1 else (parameters.shape[1], rows)
        if (
            self._own
            and isinstance(value, np.ndarray)
            and value.shape == shape
            and value.dtype == parameters.dtype
        ):
            return value
        return np.array(np.broadcast_to(np.asarray(value, parameters.dtype), shape))


def _rows(columns: Sequence[Array]) -> int:
    return columns[0].shape[-1] if columns else 1


def _wide(column: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Return a column in the precision of the parameters: the squares of float32 and of integers lose digits."""
    return column if column.dtype == dtype else column.astype(dtype)


def _chunks(columns: Sequence[Array], rows: int) -> list[list[Array]]:
    return [[c[i : i + CHUNK] for c in columns] for i in range(0, rows, CHUNK)]


def _steps(graph: Graph, wanted: Sequence[int]) -> list[Step]:
    nodes = graph.nodes
    invariant = graph.invariant()
    steps: list[Step] = []
    for i in reached(nodes, wanted):
        if nodes[i][0] not in LEAVES:
            a, b, c = (*operands(nodes[i]), -1, -1)[:3]
            plain = _ON_NUMBERS.get(str(nodes[i][0])) if invariant[i] else None
            steps.append((i, plain or _function(nodes[i]), a, b, c))
    return steps


def _function(node: Node) -> Callable[..., Any]:
    name = str(node[0])
    return FUNCTIONS[name] if name in FUNCTIONS else getattr(special, _SPECIAL[name])


def _wofz_real(x: ArrayLike, y: ArrayLike) -> Array:
    return wofz(x, y, "real")


def _wofz_imag(x: ArrayLike, y: ArrayLike) -> Array:
    return wofz(x, y, "imag")


_OWN_NAMES = "exp log sqrt sin cos tan tanh sinh cosh log1p expm1 floor sign"  # and NumPy's
#: nodes without a row are single numbers, where Python's own arithmetic costs a tenth of a NumPy call
_ON_NUMBERS: Mapping[str, Callable[..., Any]] = {
    "add": operator.add,
    "sub": operator.sub,
    "mul": operator.mul,
    "neg": operator.neg,
}
FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.true_divide,
    "pow": np.float_power,
    "neg": np.negative,
    "abs": np.abs,
    "atan2": np.arctan2,
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "asinh": np.arcsinh,
    "acosh": np.arccosh,
    "atanh": np.arctanh,
    "where": np.where,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
    "and": np.logical_and,
    "or": np.logical_or,
    "not": np.logical_not,
    "wofz_real": _wofz_real,
    "wofz_imag": _wofz_imag,
    **{name: getattr(np, name) for name in _OWN_NAMES.split()},
}
_SPECIAL = {"erf": "erf", "erfc": "erfc", "lgamma": "gammaln", "digamma": "psi"}
