"""From torch's operations to the graph: one rule for each operation that a scalar model can meet."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import lru_cache
from importlib import import_module
from typing import TypeGuard, cast

from gradfit._lazy import torch
from gradfit.errors import ModelError
from gradfit.trace.builder import Builder

Rule = Callable[..., int]
Record = Callable[[object, tuple[object, ...], Mapping[str, object]], object]


class UntraceableError(ModelError):
    """A model that is no scalar expression of its inputs; the message says which part is not."""


# ---------------------------------------------------------------------------- rules


def _same(name: str) -> Rule:
    def rule(b: Builder, *ids: int) -> int:
        return b.op(name, *ids)

    return rule


def _times(b: Builder, factor: int | None, i: int) -> int:
    return i if factor is None else b.op("mul", factor, i)


def _add(b: Builder, x: int, y: int, alpha: int | None = None) -> int:
    return b.op("add", x, _times(b, alpha, y))


def _sub(b: Builder, x: int, y: int, alpha: int | None = None) -> int:
    return b.op("sub", x, _times(b, alpha, y))


def _rsub(b: Builder, x: int, y: int, alpha: int | None = None) -> int:
    return b.op("sub", y, _times(b, alpha, x))


def _div(b: Builder, x: int, y: int, rounding_mode: str | None = None) -> int:
    ratio = b.op("div", x, y)
    if rounding_mode == "floor":
        return b.op("floor", ratio)
    return ratio if rounding_mode is None else _trunc(b, ratio)


def _trunc(b: Builder, x: int) -> int:
    return b.op("where", b.op("lt", x, b.const(0.0)), _ceil(b, x), b.op("floor", x))


def _ceil(b: Builder, x: int) -> int:
    return b.op("neg", b.op("floor", b.op("neg", x)))


def _round(b: Builder, x: int) -> int:
    """Return the nearest whole number, of two the even one."""
    half = b.const(0.5)
    up = b.op("floor", b.op("add", x, half))
    odd = b.op("ne", b.op("floor", b.op("mul", up, half)), b.op("mul", up, half))
    tie = b.op("eq", b.op("sub", up, x), half)
    return b.op("where", b.op("and", tie, odd), b.op("sub", up, b.const(1.0)), up)


def _remainder(b: Builder, x: int, y: int) -> int:
    return b.op("sub", x, b.op("mul", y, b.op("floor", b.op("div", x, y))))


def _fmod(b: Builder, x: int, y: int) -> int:
    return b.op("sub", x, b.op("mul", y, _trunc(b, b.op("div", x, y))))


def _sigmoid(b: Builder, x: int) -> int:
    one = b.const(1.0)
    return b.op("div", one, b.op("add", one, b.op("exp", b.op("neg", x))))


def _clamp(b: Builder, x: int, low: int | None = None, high: int | None = None) -> int:
    x = x if low is None else b.maximum(x, low)
    return x if high is None else b.minimum(x, high)


def _clamp_max(b: Builder, x: int, high: int) -> int:
    return b.minimum(x, high)


def _tanh_backward(b: Builder, g: int, y: int) -> int:
    return b.op("mul", g, b.op("sub", b.const(1.0), b.op("mul", y, y)))


def _sigmoid_backward(b: Builder, g: int, y: int) -> int:
    return b.op("mul", g, b.op("mul", y, b.op("sub", b.const(1.0), y)))


def _threshold_backward(b: Builder, g: int, x: int, t: int) -> int:
    return b.op("where", b.op("le", x, t), b.const(0.0), g)


def _masked_fill(b: Builder, x: int, mask: int, value: int) -> int:
    return b.op("where", mask, value, x)


def _index_put(b: Builder, x: int, mask: Sequence[int], *value: int) -> int:
    return b.op("where", mask[0], value[0], x)


def _lerp(b: Builder, x: int, y: int, w: int) -> int:
    return b.op("add", x, b.op("mul", w, b.op("sub", y, x)))


def _addcmul(b: Builder, x: int, *factors: int, value: int | None = None) -> int:
    return b.op("add", x, _times(b, value, b.op("mul", *factors)))


def _addcdiv(b: Builder, x: int, *parts: int, value: int | None = None) -> int:
    return b.op("add", x, _times(b, value, b.op("div", *parts)))


_OF_ONE: Mapping[str, Callable[[Builder, int], int]] = {
    "sigmoid": _sigmoid,
    "reciprocal": lambda b, x: b.op("div", b.const(1.0), x),
    "rsqrt": lambda b, x: b.op("div", b.const(1.0), b.op("sqrt", x)),
    "exp2": lambda b, x: b.op("exp", b.op("mul", x, b.const(math.log(2)))),
    "log2": lambda b, x: b.op("mul", b.op("log", x), b.const(1 / math.log(2))),
    "log10": lambda b, x: b.op("mul", b.op("log", x), b.const(1 / math.log(10))),
    "ceil": _ceil,
    "trunc": _trunc,
    "round": _round,
    "relu": lambda b, x: b.maximum(x, b.const(0.0)),
    "isnan": lambda b, x: b.op("ne", x, x),
}
_OF_TWO: Mapping[str, Callable[[Builder, int, int], int]] = {
    "maximum": lambda b, x, y: b.maximum(x, y),
    "minimum": lambda b, x, y: b.minimum(x, y),
    "fmax": lambda b, x, y: b.maximum(x, y),
    "fmin": lambda b, x, y: b.minimum(x, y),
    "hypot": lambda b, x, y: b.op("sqrt", b.op("add", b.op("mul", x, x), b.op("mul", y, y))),
    "floor_divide": lambda b, x, y: b.op("floor", b.op("div", x, y)),
    "remainder": _remainder,
    "fmod": _fmod,
}
_SAME = (
    "neg exp log sqrt sin cos tan tanh atan asin acos sinh cosh asinh acosh atanh abs erf erfc log1p expm1 floor "
    "sign lgamma digamma mul pow atan2 lt le gt ge eq ne where wofz_real wofz_imag"
)
_RULES: Mapping[str, Rule] = {
    **{name: _same(name) for name in _SAME.split()},
    **_OF_ONE,
    **_OF_TWO,
    "add": _add,
    "div": _div,
    "sub": _sub,
    "rsub": _rsub,
    "sgn": _same("sign"),
    "clamp": _clamp,
    "clamp_min": _clamp,
    "clamp_max": _clamp_max,
    "masked_fill": _masked_fill,
    "index_put": _index_put,
    "lerp": _lerp,
    "addcmul": _addcmul,
    "addcdiv": _addcdiv,
    "tanh_backward": _tanh_backward,
    "sigmoid_backward": _sigmoid_backward,
    "threshold_backward": _threshold_backward,
    **{name: _same(word) for word in ("and", "or", "not") for name in (f"logical_{word}", f"bitwise_{word}")},
}

_PASSED_ON = (
    "to clone detach lift_fresh_copy lift_fresh alias view reshape expand contiguous squeeze unsqueeze permute "
    "_to_copy convert_element_type sum mean positive"
)
#: operations that give one of their arguments, and which one
_GIVEN: Mapping[str, int] = {
    **dict.fromkeys(_PASSED_ON.split(), 0),
    **dict.fromkeys(["copy", "fill", "full", "full_like"], 1),
    "scalar_tensor": 0,
    "new_full": 2,
}
#: operations that give a number, whatever their arguments
_FILLED: Mapping[str, float] = {
    **dict.fromkeys(["zeros_like", "new_zeros", "zeros", "zero", "empty_like", "new_empty", "empty"], 0.0),
    **dict.fromkeys(["ones_like", "new_ones", "ones"], 1.0),
}
_SILENT = frozenset(["_assert_tensor_metadata", "_record_function_enter_new", "_record_function_exit"])
_KNOWN = _RULES.keys() | _GIVEN.keys() | _FILLED.keys() | _SILENT
_IGNORED = frozenset(
    ["dtype", "layout", "device", "pin_memory", "memory_format", "out", "implicit", "non_blocking"]
)


# ---------------------------------------------------------------------------- the recorder


class Recorder:
    """Writes down, as nodes of a graph, every operation that torch dispatches: the model's and autograd's own.

    Values are 0-dimensional tensors, known by identity; they are held, so that no identity is used twice.

    Attributes
    ----------
    builder : Builder
        The graph as far as it is written.
    shape : tuple of int
        The one shape that values may have beside (), where each of its elements is treated alike.
    """

    shape: tuple[int, ...] = ()

    def __init__(self, inputs: Sequence["torch.Tensor"], variables: int) -> None:
        self.builder: Builder = Builder()
        self._held: dict[int, tuple[object, int]] = {}
        for k, tensor in enumerate(inputs):
            leaf = ("var", k) if k < variables else ("par", k - variables)
            self._held[id(tensor)] = (tensor, self.builder.put(*leaf))

    def recording(self) -> AbstractContextManager[object]:
        """Return the context in which every operation of torch is written down."""
        return _mode()(self.record)

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
            raise UntraceableError(
                "the model looks at a value (an `if`, float() or .item()) to decide what to do"
            )
        plain = name if name in _KNOWN else name.removesuffix("_")
        if plain not in _KNOWN:
            return self._taken_apart(operation, name, args, named)
        result = _called(operation, args, named)
        if not isinstance(result, torch.Tensor):
            return result
        if result.dim() and not any(id(a) in self._held for a in _flat(args)):
            return result  # an array of constants; whether it meets a value is seen there
        if result.dim() and result.shape != self.shape:
            raise UntraceableError(f"the model makes shape {tuple(result.shape)} of single values")
        # add_ gives its own argument back
        self._held[id(result)] = (result, self._applied(plain, args, named))
        return result

    def _taken_apart(
        self, operation: object, name: str, args: tuple[object, ...], named: Mapping[str, object]
    ) -> object:
        """Return what an operation without a rule gives, written down as torch's own decomposition into simpler ones.

        Raises
        ------
        UntraceableError
            If torch has none.
        """
        if not any(id(a) in self._held for a in _flat([args, list(named.values())])):
            return _called(operation, args, named)
        with self.recording():
            result = _called(_decomposition(operation), args, named)
        if result is NotImplemented:
            raise UntraceableError(f"{name} is no operation on single values")
        return result

    def _applied(self, name: str, args: Sequence[object], named: Mapping[str, object]) -> int:
        if name in _FILLED:
            return self.builder.const(_FILLED[name])
        if name in _GIVEN:
            return self._operand(args[_GIVEN[name]])
        extra = {key: self._argument(value) for key, value in named.items() if key not in _IGNORED}
        return _RULES[name](self.builder, *(self._argument(a) for a in args), **extra)

    def _argument(self, value: object) -> object:
        if _is_sequence(value):
            return [self._argument(v) for v in value]
        return self._operand(value) if isinstance(value, torch.Tensor | bool | int | float) else value

    def _operand(self, value: object) -> int:
        if isinstance(value, torch.Tensor):
            if id(value) in self._held:
                return self._held[id(value)][1]
            if value.numel() != 1:
                raise UntraceableError(f"the model holds an array of {value.numel()} constants")
            value = value.item()
        if not isinstance(value, bool | int | float):
            raise UntraceableError(f"the model returns {type(value).__name__}, not a number")
        return self.builder.const(value)


@lru_cache(maxsize=1)
def _decompositions() -> Mapping[object, object]:
    """Return torch's operations as simpler ones; it takes 0.3 s to import, and few models need it."""
    import_module("torch._decomp.decompositions")  # fills the table
    return import_module("torch._decomp").decomposition_table


def _decomposition(operation: object) -> object:
    """Return an operation as simpler ones; what comes back gives NotImplemented where there are none."""
    return _decompositions().get(operation) or operation.decompose  # pyright: ignore[reportAttributeAccessIssue]  # torch's


@lru_cache(maxsize=1)
def _mode() -> Callable[[Record], AbstractContextManager[object]]:
    """Return torch's context that hands every operation to a function; made at the first trace, as torch is a late import."""
    base: type = import_module(
        "torch.utils._python_dispatch"
    ).TorchDispatchMode  # torch's only door to its dispatcher

    class Mode(base):  # pyright: ignore[reportUntypedBaseClass]  # torch's own has no types
        def __init__(self, record: Record) -> None:
            super().__init__()  # pyright: ignore[reportUnknownMemberType]  # torch's own has no types
            self.record: Record = record

        @classmethod
        def _should_skip_dynamo(cls) -> bool:
            return False  # no torch.compile here; the wrapper against it costs 1.3 s of imports

        def __torch_dispatch__(
            self,
            operation: object,
            types: object,
            args: tuple[object, ...] = (),
            kwargs: dict[str, object] | None = None,
        ) -> object:
            return self.record(operation, args, kwargs or {})

    return Mode


def _called(operation: object, args: Sequence[object], named: Mapping[str, object]) -> object:
    return cast("Callable[..., object]", operation)(*args, **named)


def _is_sequence(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def _flat(args: object) -> Iterator[object]:
    if _is_sequence(args):
        for part in args:
            yield from _flat(part)
    else:
        yield args
