"""An optimizer's step over a vector of any length, as code: numbers once in 64 bits, the rest in the vector's own."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

from gradfit._lazy import ir
from gradfit.graph import Graph, Node, constant, is_truth, operands, place
from gradfit.native.code import Code
from gradfit.native.compiled import Library, lanes, library
from gradfit.native.evaluate import Evaluation, Value
from gradfit.native.step import GRADIENT, PARAMETER, RATE, STATE, Step
from gradfit.native.values import Lanes

NAME = "step"
POINTERS, NUMBERS, REALS = (
    ("parameters", "gradient", "own", "scalars"),
    ("count", "stride", "again"),
    ("rate",),
)


def sums_over_parameters(step: Step) -> bool:
    """Return whether a step looks at all parameters of a tensor at once, as Adafactor does."""
    return any(node[0] == "total" for node in step.nodes)


def write_step(module: "ir.Module", step: Step, *, real: int, lanes: int) -> None:
    """Add `step(parameters, gradient, own, scalars, count, stride, again, rate)` to a module.

    `own` holds the optimizer's vectors, `stride` numbers each, `scalars` its single numbers in 64 bits; `again` is 0 in the
    first step. `count` is a multiple of the lanes.
    """
    code = Code(module, NAME, pointers=POINTERS, numbers=NUMBERS, reals=REALS, real=real)
    again = code.at.icmp_signed("!=", code.number("again"), code.whole_number(0))
    with code.at.if_else(again) as (later, first):
        with later:
            _Step(code, step, step.later, lanes).write()
        with first:
            _Step(code, step, step.first, lanes).write()
    code.finish()


class _Step(Evaluation):
    """One of a step's two graphs: what is the same for all parameters before the loop over them, the rest in it."""

    def __init__(self, code: Code, step: Step, ends: Sequence[int], lanes: int) -> None:
        super().__init__(code, Graph(step.nodes, 0, (), (), ("", "", "", *step.names), ()), ends, lanes)
        self._ends = ends
        numbers = [s for s, vector in enumerate(step.vector) if not vector]
        vectors = [s for s, vector in enumerate(step.vector) if vector]
        self._number_of = {STATE + s: k for k, s in enumerate(numbers)}
        self._vector_of = {STATE + s: k for k, s in enumerate(vectors)}
        self._each: set[int] = set()
        for i in self._order:
            node = step.nodes[i]
            own = node[0] == "var" and (
                place(node) in (PARAMETER, GRADIENT) or place(node) in self._vector_of
            )
            if own or any(j in self._each for j in operands(node)):
                self._each.add(i)

    def write(self) -> None:
        """Write the step."""
        code = self.code
        with code.in_double():
            numbers: dict[int, Value] = {}
            for i in self._order:
                if i not in self._each:
                    numbers[i] = self._once(i, numbers)
        shared = {i: self._narrow(value) for i, value in numbers.items()}
        with code.loop(0, code.number("count"), step=self.lanes) as at:
            values = dict(shared)
            for i in self._order:
                if i in self._each:
                    values[i] = self._at(i, values, at)
            code.store("parameters", at, self.number(values, self._ends[0]))
            for variable, k in self._vector_of.items():
                end = self._ends[1 + variable - STATE]
                code.store("own", self._own(k, at), self.number(values, end))
        with code.in_double():
            for variable, k in self._number_of.items():
                value = numbers[self._ends[1 + variable - STATE]]
                assert isinstance(value, Lanes)  # noqa: S101  what a step keeps is a number
                code.store("scalars", k, value)

    def _own(self, k: int, at: "ir.Value") -> "ir.Value":
        return self.code.plus(self.code.product(self.code.number("stride"), k), at)

    def _narrow(self, value: Value) -> Value:
        narrow = isinstance(value, Lanes) and self.code.real == 32
        return self.code.narrowed(value) if narrow and isinstance(value, Lanes) else value

    def _once(self, i: int, values: Mapping[int, Value]) -> Value:
        node = self.graph.nodes[i]
        if node[0] == "const":
            return bool(node[1]) if is_truth(node) else self.code.constant(constant(node))
        if node[0] != "var":
            return self._operation(node, [values[j] for j in operands(node)])
        if place(node) == RATE:
            return self.code.argument("rate")
        return self.code.load("scalars", self._number_of[place(node)])

    def _at(self, i: int, values: Mapping[int, Value], at: "ir.Value") -> Value:
        node, code = self.graph.nodes[i], self.code
        if node[0] != "var":
            return self._operation(node, [values[j] for j in operands(node)])
        if place(node) in (PARAMETER, GRADIENT):
            return code.load(("parameters", "gradient")[place(node)], at, lanes=self.lanes)
        return code.load("own", self._own(self._vector_of[place(node)], at), lanes=self.lanes)

    def _operation(self, node: Node, values: Sequence[Value]) -> Value:
        first = values[0]
        if node[0] == "single" and isinstance(first, Lanes):
            return first if self.code.real == 32 else _rounded(self.code, first)
        return super()._operation(node, values)


def _rounded(code: Code, value: Lanes) -> Lanes:
    kind = ir.FloatType() if value.lanes == 1 else ir.VectorType(ir.FloatType(), value.lanes)
    return Lanes(code, code.at.fpext(code.at.fptrunc(value.raw, kind), code.kind(value.lanes)))


@lru_cache(maxsize=64)
def step_code(step: Step, real: int) -> Library:
    """Return the machine code of a step."""
    wide = lanes(real)
    return library(
        f"step {step!r} {real} {wide}", lambda module: write_step(module, step, real=real, lanes=wide)
    )
