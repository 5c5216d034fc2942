"""A graph's operations on lanes: the model and its derivatives at one point, or at several side by side."""

from collections.abc import Mapping, Sequence

from gradfit.graph import COMPARE, Graph, Node, constant, is_truth, operands, place, reached
from gradfit.native.code import Code
from gradfit.native.elementary import FUNCTIONS
from gradfit.native.values import Lanes, Truth

Value = Lanes | Truth | bool

_SIGNS = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}


class Evaluation:
    """The code of one graph in one function.

    What depends on parameters alone is written once, by `settle`; the rest for each point, by `at`.

    Parameters
    ----------
    code : Code
        The function that is being written.
    graph : Graph
        What is evaluated.
    wanted : sequence of int
        The nodes that are asked for.
    lanes : int
        How many points, or fits, side by side.
    """

    def __init__(self, code: Code, graph: Graph, wanted: Sequence[int], lanes: int) -> None:
        self.code, self.graph, self.lanes = code, graph, lanes
        self._order = reached(graph.nodes, wanted)
        self._fixed = graph.invariant()
        self.settled: dict[int, Value] = {}

    def settle(self, parameters: Sequence[Lanes]) -> None:
        """Write all that depends on parameters alone; they come as single numbers or as one for each lane."""
        values: dict[int, Value] = {}
        for i in self._order:
            if self._fixed[i]:
                values[i] = self._node(i, values, (), parameters)
        self.settled = values

    def at(self, columns: Sequence[Lanes]) -> Mapping[int, Value]:
        """Write the rest at one row of the columns, and return every node's value."""
        values = dict(self.settled)
        for i in self._order:
            if not self._fixed[i]:
                values[i] = self._node(i, values, columns, ())
        return values

    def number(self, values: Mapping[int, Value], i: int) -> Lanes:
        """Return a node's value in all lanes."""
        value = values[i]
        assert isinstance(value, Lanes)  # noqa: S101  a graph's value and derivatives are numbers
        return self.code.wide(value, self.lanes)

    def _node(
        self, i: int, values: Mapping[int, Value], columns: Sequence[Lanes], parameters: Sequence[Lanes]
    ) -> Value:
        node = self.graph.nodes[i]
        if node[0] == "const":
            return bool(node[1]) if is_truth(node) else self.code.constant(constant(node))
        if node[0] == "var":
            return columns[place(node)]
        if node[0] == "par":
            return parameters[place(node)]
        return self._operation(node, [values[a] for a in operands(node)])

    def _operation(self, node: Node, values: Sequence[Value]) -> Value:
        name = str(node[0])
        if name in ("and", "or", "not"):
            return _logic(self.code, name, [self._truth(v) for v in values])
        if name == "where":
            lanes = max(v.lanes for v in values if not isinstance(v, bool))
            yes, no = (self.code.wide(_lanes(v), lanes) for v in values[1:])
            condition = self._truth(values[0])
            if condition.lanes != lanes:
                lanes = max(lanes, condition.lanes)
                yes, no = self.code.wide(yes, lanes), self.code.wide(no, lanes)
                condition = self._truth_wide(condition, lanes)
            return condition.pick(yes, no)
        lanes = max(_lanes(v).lanes for v in values)
        numbers = [self.code.wide(_lanes(v), lanes) for v in values]
        if name in COMPARE:
            return self.code.compared(_SIGNS[name], numbers[0], numbers[1])
        return FUNCTIONS[name](*numbers)

    def _truth(self, value: Value) -> Truth:
        if isinstance(value, bool):
            return self.code.constant(1.0).same(1.0 if value else 0.0)
        assert isinstance(value, Truth)  # noqa: S101  Graph's own check: a truth value stands where one is taken
        return value

    def _truth_wide(self, condition: Truth, lanes: int) -> Truth:
        number = condition.pick(1.0, 0.0)
        return self.code.spread(number, lanes) > 0.5


def _lanes(value: Value) -> Lanes:
    assert isinstance(value, Lanes)  # noqa: S101  Graph's own check: a number stands where one is taken
    return value


def _logic(code: Code, name: str, values: Sequence[Truth]) -> Truth:
    if name == "not":
        return ~values[0]
    wide = max(v.lanes for v in values)
    numbers = [code.spread(v.pick(1.0, 0.0), wide) > 0.5 if v.lanes < wide else v for v in values]
    return numbers[0] & numbers[1] if name == "and" else numbers[0] | numbers[1]
