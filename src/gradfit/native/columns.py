"""A model's value and derivatives at every row of columns."""

import ctypes
import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit.graph import Graph
from gradfit.native.code import Code
from gradfit.native.compiled import LOADED, Library, lanes, library
from gradfit.native.evaluate import Evaluation, Value
from gradfit.native.values import Lanes

if TYPE_CHECKING:
    from llvmlite import ir

Array = NDArray[np.float64]


class ColumnCode:
    """The compiled functions of one graph: `value` and `jacobian`."""

    def __init__(self, graph: Graph) -> None:
        self.graph, self.width = graph, lanes()

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,)."""
        rows = len(columns[0])
        out = np.empty(rows)
        self._call("value", columns, parameters, out=out, more=out)
        return out

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives (n, k), stored by column."""
        rows = len(columns[0])
        out, jacobian = np.empty(rows), np.empty((len(self.graph.core), rows))
        self._call("jacobian", columns, parameters, out=out, more=jacobian)
        return out, jacobian.T

    def _call(
        self, name: str, columns: Sequence[Array], parameters: Array, *, out: Array, more: Array
    ) -> None:
        used = [
            np.ascontiguousarray(c, dtype=np.float64) for c in columns[: max(len(self.graph.variables), 1)]
        ]
        parameters = np.ascontiguousarray(parameters, dtype=np.float64)
        arrays = [*used, parameters, out, more]
        loaded = _loaded(self)
        loaded.functions[name](*(a.ctypes.data for a in arrays), len(out))

    def write(self, module: "ir.Module") -> None:
        """Write both functions."""
        for name, wanted in (("value", []), ("jacobian", [*self.graph.core, *self.graph.scale])):
            self._write_one(module, name, [self.graph.value, *wanted])

    def _write_one(self, module: "ir.Module", name: str, wanted: Sequence[int]) -> None:
        graph = self.graph
        inputs = [f"x{k}" for k in range(max(len(graph.variables), 1))]
        code = Code(module, name, pointers=(*inputs, "parameters", "out", "derivatives"), numbers=("rows",))
        rows = code.number("rows")
        whole = code.at.sub(rows, code.at.srem(rows, code.whole_number(self.width)))
        for width, first, last in ((self.width, code.whole_number(0), whole), (1, whole, rows)):
            evaluation = Evaluation(code, graph, wanted, width)
            with code.exactly():
                evaluation.settle([code.load("parameters", j) for j in range(len(graph.parameters))])
            with code.exactly(), code.loop(first, last, step=width) as i:  # rounded as NumPy does
                values = evaluation.at([code.load(x, i, lanes=width) for x in inputs[: len(graph.variables)]])
                code.store("out", i, evaluation.number(values, graph.value))
                if name == "jacobian":
                    self._store_derivatives(code, evaluation, values, i)
        code.finish()

    def _store_derivatives(
        self, code: Code, evaluation: Evaluation, values: Mapping[int, Value], i: "ir.Value"
    ) -> None:
        rows = code.number("rows")
        for j, (scale, core) in enumerate(zip(self.graph.scale, self.graph.core, strict=True)):
            slope: Lanes = evaluation.number(values, core)
            if self.graph.nodes[scale] != ("const", 1.0):
                slope = evaluation.number(values, scale) * slope
            code.store("derivatives", code.plus(code.product(rows, j), i), slope)


class _Loaded(NamedTuple):
    library: Library  # as long as it is there, so is the code
    functions: Mapping[str, Callable[..., int]]


@lru_cache(maxsize=LOADED)
def _loaded(code: ColumnCode) -> _Loaded:
    made = library(key(code.graph), code.write)
    pointers = [ctypes.c_void_p] * (max(len(code.graph.variables), 1) + 3)
    names = ("value", "jacobian")
    return _Loaded(made, {name: made.function(name, [*pointers, ctypes.c_int64]) for name in names})


def key(graph: Graph) -> str:
    """Return what decides the code."""
    return json.dumps(["columns", graph.to_dict()])
