"""From torch's operations to the graph: one rule for each operation that a scalar model can meet."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence

from gradfit._lazy import torch
from gradfit.errors import ModelError
from gradfit.graph import Builder

Rule = Callable[..., object]


class UntraceableError(ModelError):
    """A model that is no scalar expression of its inputs; the message says which part is not."""


def _times(b: Builder, factor: object, i: int) -> int:
    return i if factor is None else b.op("mul", int(factor), i)  # pyright: ignore[reportArgumentType]  # a node id


def _fill(value: float) -> Rule:
    return lambda b, *a, **k: b.const(value)


def _same(name: str) -> Rule:
    return lambda b, *ids: b.op(name, *ids)


def _alias(b: Builder, x: int, *_rest: object, **_named: object) -> int:
    return x


def _sigmoid(b: Builder, x: int) -> int:
    one = b.const(1.0)
    return b.op("div", one, b.op("add", one, b.op("exp", b.op("neg", x))))


def _clamp(b: Builder, x: int, low: int | None = None, high: int | None = None) -> int:
    x = x if low is None else b.maximum(x, low)
    return x if high is None else b.minimum(x, high)


def _pow(b: Builder, x: int, exponent: int) -> int:
    return b.op("pow", x, exponent)


def _one_minus_square(b: Builder, y: int) -> int:
    return b.op("sub", b.const(1.0), b.op("mul", y, y))


def _softplus(b: Builder, x: int, *_rest: object) -> int:
    return b.op("log1p", b.op("exp", x))


_SAME = (
    "neg exp log sqrt sin cos tan tanh atan asin acos sinh cosh asinh acosh atanh abs erf erfc log1p expm1 floor "
    "lgamma digamma mul div atan2 lt le gt ge eq ne where wofz_real wofz_imag"
).split()
_ALIASES = (
    "to clone detach lift_fresh_copy lift_fresh alias view reshape expand contiguous squeeze unsqueeze permute "
    "_to_copy convert_element_type sum mean positive"
).split()

RULES: dict[str, Rule] = {
    **{name: _same(name) for name in _SAME},
    **dict.fromkeys(_ALIASES, _alias),
    **dict.fromkeys(["zeros_like", "new_zeros", "zeros", "zero"], _fill(0.0)),
    **dict.fromkeys(["ones_like", "new_ones", "ones"], _fill(1.0)),
    "add": lambda b, x, y, alpha=None: b.op("add", x, _times(b, alpha, y)),
    "sub": lambda b, x, y, alpha=None: b.op("sub", x, _times(b, alpha, y)),
    "rsub": lambda b, x, y, alpha=None: b.op("sub", y, _times(b, alpha, x)),
    "pow": _pow,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "reciprocal": lambda b, x: b.op("div", b.const(1.0), x),
    "rsqrt": lambda b, x: b.op("div", b.const(1.0), b.op("sqrt", x)),
    "exp2": lambda b, x: b.op("exp", b.op("mul", x, b.const(math.log(2)))),
    "log2": lambda b, x: b.op("mul", b.op("log", x), b.const(1 / math.log(2))),
    "log10": lambda b, x: b.op("mul", b.op("log", x), b.const(1 / math.log(10))),
    "sign": _same("sign"),
    "sgn": _same("sign"),
    "ceil": lambda b, x: b.op("neg", b.op("floor", b.op("neg", x))),
    "relu": lambda b, x: b.maximum(x, b.const(0.0)),
    "maximum": lambda b, x, y: b.maximum(x, y),
    "minimum": lambda b, x, y: b.minimum(x, y),
    "fmax": lambda b, x, y: b.maximum(x, y),
    "fmin": lambda b, x, y: b.minimum(x, y),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": lambda b, x, high: _clamp(b, x, None, high),
    "masked_fill": lambda b, x, mask, value: b.op("where", mask, value, x),
    "copy": lambda b, x, y, *rest: y,
    "fill": lambda b, x, value: value,
    "index_put": lambda b, x, mask, value, *rest: b.op("where", mask[0], value, x),
    "lerp": lambda b, x, y, w: b.op("add", x, b.op("mul", w, b.op("sub", y, x))),
    "addcmul": lambda b, x, y, z, value=None: b.op("add", x, _times(b, value, b.op("mul", y, z))),
    "addcdiv": lambda b, x, y, z, value=None: b.op("add", x, _times(b, value, b.op("div", y, z))),
    "full_like": lambda b, x, value, **k: value,
    "full": lambda b, size, value, **k: value,
    "new_full": lambda b, x, size, value, **k: value,
    "scalar_tensor": lambda b, value, **k: value,
    "tanh_backward": lambda b, g, y: b.op("mul", g, _one_minus_square(b, y)),
    "sigmoid_backward": lambda b, g, y: b.op("mul", g, b.op("mul", y, b.op("sub", b.const(1.0), y))),
    "threshold_backward": lambda b, g, x, t: b.op("where", b.op("le", x, t), b.const(0.0), g),
    "logical_and": _same("and"),
    "bitwise_and": _same("and"),
    "logical_or": _same("or"),
    "bitwise_or": _same("or"),
    "logical_not": _same("not"),
    "bitwise_not": _same("not"),
    "isnan": lambda b, x: b.op("ne", x, x),
    **dict.fromkeys(
        ["_assert_tensor_metadata", "_record_function_enter_new", "_record_function_exit"], lambda b, *a, **k: None
    ),
}
# sizes and dimensions: plain numbers, not nodes of the graph
_SIZES = frozenset(_ALIASES) | {"full", "new_full", "zeros", "ones", "new_zeros", "new_ones"}
_IGNORED = frozenset({"dtype", "layout", "device", "pin_memory", "memory_format", "out", "implicit", "non_blocking"})


class Recorder:
    """Writes down, as nodes of a graph, every operation that torch dispatches: the model's and autograd's own.

    Values are 0-dimensional tensors, known by identity; they are held, so that no identity is used twice.
    """

    def __init__(self, inputs: Sequence["torch.Tensor"], variables: int) -> None:
        self.builder = Builder()
        self._held: dict[int, tuple[object, int]] = {}
        for k, tensor in enumerate(inputs):
            leaf = ("var", k) if k < variables else ("par", k - variables)
            self._held[id(tensor)] = (tensor, self.builder.put(*leaf))

    def run(self, function: Callable[..., object], *inputs: "torch.Tensor") -> object:
        """Return function(*inputs), with every operation on the way written down."""
        record = self.record

        class Mode(torch.utils._python_dispatch.TorchDispatchMode):  # noqa: SLF001  torch's only door to its dispatcher
            @classmethod
            def _should_skip_dynamo(cls) -> bool:
                return False  # no torch.compile here; the wrapper against it costs 1.3 s of imports

            def __torch_dispatch__(
                self, operation: object, types: object, args: tuple[object, ...] = (), kwargs: object = None
            ) -> object:
                return record(operation, args, kwargs or {})

        with Mode() as self._mode:
            return function(*inputs)

    def node(self, value: object) -> int:
        """Return the node of a value that the model returned."""
        return self.builder.number(self._operand(value))

    def record(self, operation: object, args: tuple[object, ...], named: Mapping[str, object]) -> object:
        """Return what torch's operation gives, after writing it down.

        Raises
        ------
        UntraceableError
            If the operation has no scalar rule, or the model looks at a value to decide what to do.
        """
        name = str(operation).split(".")[1]
        if name == "_local_scalar_dense" and id(args[0]) in self._held:
            raise UntraceableError("the model looks at a value (an `if`, float() or .item()) to decide what to do")
        if name not in RULES and name.removesuffix("_") not in RULES:
            return self._taken_apart(operation, name, args, named)
        result = operation(*args, **named)  # pyright: ignore[reportCallIssue]  # an overload of torch.ops
        if not isinstance(result, torch.Tensor):
            return result
        if result.dim() and not any(id(a) in self._held for a in _flat(args)):
            return result  # an array of constants; whether it meets a value is seen there
        if result.dim():
            raise UntraceableError(f"the model makes shape {tuple(result.shape)} of single values")
        self._held[id(result)] = (result, self._applied(name, args, named))
        if name.endswith("_") and isinstance(args[0], torch.Tensor):
            self._held[id(args[0])] = (args[0], self._held[id(result)][1])
        return result

    def _taken_apart(
        self, operation: object, name: str, args: tuple[object, ...], named: Mapping[str, object]
    ) -> object:
        """An operation without a rule, written down as torch's own decomposition into simpler ones."""
        if not any(id(a) in self._held for a in _flat([args, list(named.values())])):
            return operation(*args, **named)  # pyright: ignore[reportCallIssue]  # an overload of torch.ops
        from torch._decomp import decomposition_table, decompositions  # noqa: F401, PLC0415, TID251  0.3 s, few need it

        simpler = decomposition_table.get(operation)  # pyright: ignore[reportArgumentType, reportCallIssue]  # keyed by overloads
        if simpler is None:
            raise UntraceableError(f"{name} is no operation on single values")
        with self._mode:
            return simpler(*args, **named)

    def _applied(self, name: str, args: tuple[object, ...], named: Mapping[str, object]) -> int:
        rule = RULES.get(name) or RULES[name.removesuffix("_")]
        sizes = name in _SIZES and name not in ("full", "new_full")
        operands = [a if sizes and not isinstance(a, torch.Tensor) else self._argument(a) for a in args]
        extra = {key: self._argument(value) for key, value in named.items() if key not in _IGNORED}
        return int(rule(self.builder, *operands, **extra))  # pyright: ignore[reportArgumentType]  # a node id

    def _argument(self, value: object) -> object:
        if isinstance(value, list | tuple):
            return [self._argument(v) for v in value]
        return self._operand(value) if isinstance(value, torch.Tensor | bool | int | float) else value

    def _operand(self, value: object) -> int:
        if isinstance(value, torch.Tensor):
            if id(value) in self._held:
                return self._held[id(value)][1]
            if value.numel() != 1:
                raise UntraceableError(f"the model holds an array of {value.numel()} constants")
            value = value.item()
        return self.builder.const(value)  # pyright: ignore[reportArgumentType]  # a number


def _flat(args: object) -> Iterator[object]:
    if isinstance(args, list | tuple):
        for part in args:
            yield from _flat(part)
    else:
        yield args
