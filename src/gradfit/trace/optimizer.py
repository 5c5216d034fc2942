"""From an optimizer of torch to its step as a graph: the real `step` runs on a recorded vector of parameters.

Nothing is re-written: what `step` does to parameters, gradient and state is written down, once without state (the first
step makes it) and once with it. Where it looks at a number to decide, both ways are gone and joined. Powers such as
beta**step, a constant to a count of steps, become running products. The graph is tried against the optimizer itself
before it is trusted.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.graph import Node, constant, is_truth, operands, place, reached
from gradfit.native.step import GRADIENT, PARAMETER, STATE, Step
from gradfit.trace.aten import Recorder, UntraceableError
from gradfit.trace.builder import Builder

Array = NDArray[np.float64]
Maker = Callable[["torch.Tensor"], "torch.optim.Optimizer"]
Named = Mapping[str, object]

_MOST_WAYS = 32  # through one step
_TRIED = 24  # steps; RAdam takes its other way from the sixth on
_AGREES = 1e-10  # relative
_RAISED = (
    AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError,
)  # fmt: skip


def trace_optimizer(make: Maker, size: int) -> Step:
    """Return the step of an optimizer for a vector of so many parameters in float64.

    Parameters
    ----------
    make : callable
        Returns a new optimizer for the tensor it is given; called several times.
    size : int
        k, the number of parameters.

    Raises
    ------
    UntraceableError
        If the step is more than operations on single parameters and sums over them; the message says what.
    """
    try:
        step = _traced(make, size)
        agrees = _agrees(step, make, size)
    except UntraceableError:
        raise
    except _RAISED as error:
        told = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise UntraceableError(f"its step cannot be traced: {told}") from error
    if not agrees:
        raise UntraceableError("its step depends on more than parameters, gradient and state")
    return step


# ---------------------------------------------------------------------------- recording


@dataclass(frozen=True)
class _State:
    """What an optimizer keeps for its parameter."""

    names: tuple[str, ...]
    tensors: tuple["torch.Tensor", ...]

    @classmethod
    def of(cls, optimizer: "torch.optim.Optimizer", leaf: "torch.Tensor") -> "_State":
        """Return the state of the one parameter.

        Raises
        ------
        UntraceableError
            If something in it is no tensor: it would not be written down.
        """
        kept: Mapping[str, object] = optimizer.state[leaf]
        kept = {name: value for name, value in kept.items() if value is not None}
        odd = [name for name, value in kept.items() if not isinstance(value, torch.Tensor)]
        if odd:
            raise UntraceableError(f"it keeps {odd[0]} as a {type(kept[odd[0]]).__name__}, not as a tensor")
        return cls(tuple(kept), tuple(v for v in kept.values() if isinstance(v, torch.Tensor)))


class _StepRecorder(Recorder):
    """Writes down what a step does to a vector of parameters; its decisions are given."""

    def __init__(self, builder: Builder, inputs: Sequence["torch.Tensor"], decisions: Sequence[bool]) -> None:
        super().__init__([], 0)
        self.builder = builder
        self.shape = tuple(inputs[PARAMETER].shape)
        self.asked: list[int] = []
        self._decisions: Sequence[bool] = decisions
        self._narrow: bool = False
        self._singles: set[int] = set()
        for k, tensor in enumerate(inputs):
            node = builder.put("var", k)
            self._held[id(tensor)] = (tensor, node)
            if tensor.dtype == torch.float32:
                self._singles.add(node)

    def begin(self, state: _State) -> None:
        """Take what an optimizer keeps before its first step as constants."""
        for tensor in state.tensors:
            if id(tensor) not in self._held:
                self._held[id(tensor)] = (tensor, self._operand(tensor))

    def record(self, operation: object, args: tuple[object, ...], named: Named) -> object:
        """Return what torch's operation gives, after writing it down."""
        name = str(operation).split(".")[1]
        if name == "_local_scalar_dense" and id(args[0]) in self._held:
            return self._decided(self._held[id(args[0])][1])
        result = super().record(operation, args, named)
        if isinstance(result, torch.Tensor) and result.dtype == torch.float32 and id(result) in self._held:
            self._held[id(result)] = (result, self._single(self._held[id(result)][1]))
        return result

    def norm(self, vector: "torch.Tensor") -> "torch.Tensor":
        """Return the Euclidean length of a vector of parameters, written down as the root of a total."""
        result = vector.detach().square().sum().sqrt()
        node = self._operand(vector)
        square = self.builder.put("total", self.builder.op("mul", node, node))
        self._held[id(result)] = (result, self.builder.op("sqrt", square))
        return result

    def _decided(self, node: int) -> bool:
        """Return which way to go where the step asks whether something holds.

        Raises
        ------
        UntraceableError
            If it asks for a number, or too often.
        """
        if not is_truth(self.builder.nodes[node]):
            raise UntraceableError("its step reads a value (float() or .item()) to go on with")
        if self.builder.is_const(node):
            return bool(self.builder.nodes[node][1])
        if node in self.asked:
            return self._way(self.asked.index(node))
        self.asked.append(node)
        return self._way(len(self.asked) - 1)

    def _way(self, number: int) -> bool:
        return self._decisions[number] if number < len(self._decisions) else True

    def _applied(self, name: str, args: Sequence[object], named: Named) -> int:
        first = args[0] if args else None
        self._narrow = isinstance(first, torch.Tensor) and first.dtype == torch.float32
        try:
            return super()._applied(name, args, named)
        finally:
            self._narrow = False

    def _operand(self, value: object) -> int:
        if isinstance(value, torch.Tensor) and value.dim() and id(value) not in self._held:
            value = _repeated(value)
        node = super()._operand(value)
        return self._single(node) if self._narrow else node

    def _single(self, node: int) -> int:
        """Return a node rounded to 32 bits."""
        b = self.builder
        if node in self._singles or is_truth(b.nodes[node]) or b.nodes[node][0] == "single":
            return node
        known = b.is_const(node)
        return b.const(float(np.float32(constant(b.nodes[node])))) if known else b.put("single", node)


def _repeated(tensor: "torch.Tensor") -> object:
    """Return the number that all elements of an array of constants are, or the array."""
    numbers = tensor.detach().unique()
    return numbers.item() if numbers.numel() == 1 else tensor


@lru_cache(maxsize=1)
def _mode() -> Callable[[_StepRecorder], AbstractContextManager[object]]:
    """Return torch's context that answers calls on tensors before torch does; made late, as torch is a late import."""
    base: type = import_module("torch.overrides").TorchFunctionMode

    class Mode(base):  # pyright: ignore[reportUntypedBaseClass]  # torch's own has no types
        """Numbers that a step takes out of tensors stay tensors, so that what becomes of them is written down."""

        def __init__(self, recorder: _StepRecorder) -> None:
            super().__init__()  # pyright: ignore[reportUnknownMemberType]  # torch's own has no types
            self.recorder: _StepRecorder = recorder

        def __torch_function__(
            self,
            function: Any,
            types: object,
            args: tuple[Any, ...] = (),
            kwargs: dict[str, Any] | None = None,
        ) -> object:
            named = kwargs or {}
            name = getattr(function, "__name__", "")
            if name == "item" and args[0].is_floating_point():
                return args[0].to(torch.float64)
            if name == "full_like" and isinstance(args[1], torch.Tensor):
                return torch.zeros_like(args[0]) + args[1]
            if name == "norm" and args[0].dim() == 1 and (*args[1:], 2)[0] == 2:
                return self.recorder.norm(args[0])
            for factor in ("value", "alpha"):
                if isinstance(named.get(factor), torch.Tensor):
                    return _spelled_out(name, args, named[factor])
            return function(*args, **named)

    return Mode


def _spelled_out(name: str, args: tuple[Any, ...], factor: "torch.Tensor") -> "torch.Tensor":
    """Return what add, sub, addcmul and addcdiv give with a factor that is no plain number.

    Raises
    ------
    UntraceableError
        If it is another operation.
    """
    plain = name.removesuffix("_")
    if plain not in ("add", "sub", "addcmul", "addcdiv"):
        raise UntraceableError(f"its step calls {name} with a factor that changes")
    if plain == "addcdiv":
        part = factor * args[1] / args[2]
    else:
        part = factor * args[1] * args[2] if plain == "addcmul" else factor * args[1]
    result = args[0] - part if plain == "sub" else args[0] + part
    return args[0].copy_(result) if name.endswith("_") else result


# ---------------------------------------------------------------------------- the two graphs


def _traced(make: Maker, size: int) -> Step:
    state = _first_state(make, size)
    shapes = [tuple(t.shape) for t in state.tensors]
    if any(shape not in ((), (size,)) for shape in shapes):
        raise UntraceableError("it keeps more than numbers and vectors of parameters")
    builder = Builder()
    first = _joined(make, size, builder, _State(state.names, ()))
    later = _joined(make, size, builder, state)
    vector = tuple(shape == (size,) for shape in shapes)
    return _hurried(Step(tuple(builder.nodes), state.names, vector, tuple(first), tuple(later)))


def _first_state(make: Maker, size: int) -> _State:
    leaf = _somewhere(size, 0)
    optimizer = _made(make, leaf)
    leaf.grad = _somewhere(size, 1)
    _ = optimizer.step()
    return _State.of(optimizer, leaf)


def _somewhere(size: int, seed: int) -> "torch.Tensor":
    return torch.tensor(np.random.default_rng(seed).uniform(0.3, 1.7, size), dtype=torch.float64)


def _made(make: Maker, leaf: "torch.Tensor") -> "torch.optim.Optimizer":
    optimizer = make(leaf)
    for group in optimizer.param_groups:
        group.update({name: False for name in ("foreach", "fused") if name in group})
    return optimizer


def _joined(make: Maker, size: int, builder: Builder, state: _State) -> list[int]:
    """Return the nodes of new parameters and new state, all ways through the step joined where they part.

    Raises
    ------
    UntraceableError
        If there are too many ways.
    """
    ways = 0

    def go(decisions: list[bool]) -> list[int]:
        nonlocal ways
        ways += 1
        if ways > _MOST_WAYS:
            raise UntraceableError("its step has too many ways to go")
        ends, asked = _one_way(make, size, builder, state, decisions=decisions)
        for number in reversed(range(len(decisions), len(asked))):
            otherwise = go([*decisions, *[True] * (number - len(decisions)), False])
            ends = [builder.op("where", asked[number], a, b) for a, b in zip(ends, otherwise, strict=True)]
        return ends

    return go([])


def _one_way(
    make: Maker, size: int, builder: Builder, state: _State, *, decisions: Sequence[bool]
) -> tuple[list[int], list[int]]:
    """Return the nodes after one step that decides so, and what it asked.

    Raises
    ------
    UntraceableError
        If the step keeps other things than the first one did.
    """
    leaf, gradient = _somewhere(size, 2), _somewhere(size, 3)
    rate = torch.tensor(0.0137, dtype=torch.float64)
    kept = [tensor.clone() for tensor in state.tensors]
    optimizer = _made(make, leaf)
    leaf.grad = gradient
    optimizer.param_groups[0]["lr"] = rate
    if kept:
        optimizer.state[leaf].update(zip(state.names, kept, strict=True))
    recorder = _StepRecorder(builder, [leaf, gradient, rate, *kept], decisions)
    recorder.begin(_State.of(optimizer, leaf))
    with recorder.recording(), _mode()(recorder):
        _ = optimizer.step()
    found = _State.of(optimizer, leaf)
    if set(found.names) != set(state.names):
        raise UntraceableError("it keeps other things after the second step than after the first")
    tensors = dict(zip(found.names, found.tensors, strict=True))
    return [recorder.node(t) for t in (leaf, *(tensors[n] for n in state.names))], recorder.asked


# ---------------------------------------------------------------------------- running products


def _hurried(step: Step) -> Step:
    """Return the step with less to wait for: powers as products that are kept, quotients by early numbers as products."""
    b = Builder()
    new: dict[int, int] = {}
    powers: list[tuple[float, float, int]] = []  # first value, factor, variable
    counts = {STATE + s: _count(step, s) for s in range(len(step.names))}
    later = set(reached(step.nodes, step.later))
    waiting = _waiting(step.nodes)
    for i in reached(step.nodes, [*step.first, *step.later]):
        node = step.nodes[i]
        product = _product(step.nodes, i, counts) if i in later else None
        if product is not None:
            variable = STATE + len(step.names) + len(powers)
            powers.append((*product, variable))
            new[i] = b.put("var", variable)
        elif node[0] in ("const", "var"):
            new[i] = b.put(*node)
        elif node[0] == "div" and (i in waiting, *(j in waiting for j in operands(node))) == (
            True,
            True,
            False,
        ):
            above, below = operands(node)  # known early: a product is all that waits for the gradient
            new[i] = b.op("mul", new[above], b.op("div", b.const(1.0), new[below]))
        else:
            new[i] = b.op(str(node[0]), *(new[j] for j in operands(node)))
    first = [*(new[i] for i in step.first), *(b.const(value) for value, _, _ in powers)]
    after = [b.op("mul", b.put("var", v), b.const(factor)) for _, factor, v in powers]
    return Step(
        tuple(b.nodes),
        (*step.names, *(f"power{k}" for k in range(len(powers)))),
        (*step.vector, *(False for _ in powers)),
        tuple(first),
        (*(new[i] for i in step.later), *after),
    )


def _waiting(nodes: Sequence[Node]) -> set[int]:
    """Return the nodes that depend on the gradient, by way of it or of what is kept for each parameter."""
    out: set[int] = set()
    for i, node in enumerate(nodes):
        if node == ("var", GRADIENT) or any(j in out for j in operands(node)):
            out.add(i)
    return out


def _count(step: Step, s: int) -> tuple[float, float] | None:
    """Return at what a state starts and how much is added to it in each step; None where it is no such count."""
    nodes = step.nodes
    begin, end = nodes[step.first[1 + s]], nodes[_wide(nodes, step.later[1 + s])]
    if step.vector[s] or begin[0] != "const" or end[0] != "add":
        return None
    parts = [nodes[i] for i in operands(end)]
    added = [constant(n) for n in parts if n[0] == "const"]
    return (constant(begin), added[0]) if ("var", STATE + s) in parts and added else None


def _wide(nodes: Sequence[Node], i: int) -> int:
    """Return what is rounded: counts are whole numbers."""
    return operands(nodes[i])[0] if nodes[i][0] == "single" else i


def _product(
    nodes: Sequence[Node], i: int, counts: Mapping[int, tuple[float, float] | None]
) -> tuple[float, float] | None:
    """Return the first value and the factor of a power of a constant to a count; None where the node is none."""
    node = nodes[i]
    if node[0] != "pow" or nodes[operands(node)[0]][0] != "const":
        return None
    base = constant(nodes[operands(node)[0]])
    line = _line(nodes, operands(node)[1], counts)
    if line is None or base <= 0:
        return None
    variable, slope, offset = line
    count = counts.get(variable)
    if count is None:
        return None
    begin, added = count
    return base ** (slope * begin + offset), base ** (slope * added)


def _line(
    nodes: Sequence[Node], i: int, counts: Mapping[int, tuple[float, float] | None]
) -> tuple[int, float, float] | None:
    """Return (variable, slope, offset) of a node that is linear in one count; variable -1 for a constant."""
    node = nodes[_wide(nodes, i)]
    if node[0] == "const":
        return (-1, 0.0, constant(node))
    if node[0] == "var":
        return (place(node), 1.0, 0.0) if counts.get(place(node)) else None
    parts = [_line(nodes, j, counts) for j in operands(node)]
    known = [part for part in parts if part is not None]
    if node[0] not in ("add", "sub", "mul") or len(known) < len(parts) or min(known)[0] >= 0:
        return None
    fixed, line = sorted(known)  # a constant and what it is joined with
    if node[0] == "mul":
        return (line[0], line[1] * fixed[2], line[2] * fixed[2])
    left, right = known
    sign = -1.0 if node[0] == "sub" else 1.0
    return (line[0], left[1] + sign * right[1], left[2] + sign * right[2])


# ---------------------------------------------------------------------------- trial

_NUMPY: Mapping[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "pow": np.power, "neg": np.negative,
    "exp": np.exp, "log": np.log, "sqrt": np.sqrt, "abs": np.abs, "sign": np.sign, "floor": np.floor, "where": np.where,
    "sin": np.sin, "cos": np.cos, "tanh": np.tanh, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "eq": np.equal, "ne": np.not_equal, "and": np.logical_and, "or": np.logical_or, "not": np.logical_not,
    "single": lambda x: np.float64(np.float32(x)) if np.ndim(x) == 0 else x.astype(np.float32).astype(np.float64),
    "total": np.sum,
}  # fmt: skip


def _agrees(step: Step, make: Maker, size: int) -> bool:
    """Return whether some steps of the graph go where those of the optimizer itself go.

    Raises
    ------
    UntraceableError
        If there is an operation in it that is not for steps.
    """
    rng = np.random.default_rng(4)
    leaf = _somewhere(size, 5)
    optimizer = _made(make, leaf)
    point, state = leaf.numpy().copy(), [np.float64(0.0)] * len(step.names)
    for number in range(_TRIED):
        gradient, rate = rng.normal(size=size), 0.01 * (1 + number % 3)
        optimizer.param_groups[0]["lr"] = rate
        leaf.grad = torch.tensor(gradient)
        _ = optimizer.step()
        inputs = [point, gradient, np.float64(rate), *state]
        point, *state = _stepped(step.nodes, step.later if number else step.first, inputs)
        point = np.broadcast_to(point, (size,))
        if not np.allclose(point, leaf.numpy(), rtol=_AGREES, atol=_AGREES * 1e-2):
            return False
    return True


def _stepped(nodes: Sequence[Node], ends: Sequence[int], inputs: Sequence[Any]) -> list[Any]:
    values: dict[int, Any] = {}
    with np.errstate(all="ignore"):
        for i in reached(nodes, ends):
            node = nodes[i]
            if node[0] == "const":
                values[i] = bool(node[1]) if is_truth(node) else np.float64(constant(node))
            elif node[0] == "var":
                values[i] = inputs[place(node)]
            elif str(node[0]) not in _NUMPY:
                raise UntraceableError(f"its step calls {node[0]}")
            else:
                values[i] = _NUMPY[str(node[0])](*(values[j] for j in operands(node)))
    return [values[i] for i in ends]
