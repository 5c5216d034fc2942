"""NumPy functions computed by torch: an object that NumPy takes for an array and that answers with tensors."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from gradfit._lazy import torch
from gradfit.trace.aten import UntraceableError

_NAMES: Mapping[str, str] = {  # NumPy's name -> torch's, where they differ
    "multiply": "mul",
    "subtract": "sub",
    "true_divide": "div",
    "divide": "div",
    "negative": "neg",
    "power": "pow",
    "float_power": "pow",
    "absolute": "abs",
    "fabs": "abs",
    "less": "lt",
    "less_equal": "le",
    "greater": "gt",
    "greater_equal": "ge",
    "equal": "eq",
    "not_equal": "ne",
    "arctan": "atan",
    "arcsin": "asin",
    "arccos": "acos",
    "arctan2": "atan2",
    "arcsinh": "asinh",
    "arccosh": "acosh",
    "arctanh": "atanh",
    "bitwise_and": "logical_and",
    "bitwise_or": "logical_or",
    "invert": "logical_not",
    "bitwise_not": "logical_not",
    "copy": "clone",
    "asarray": "clone",
    "array": "clone",
    "conjugate": "clone",
    "concatenate": "cat",
    "gammaln": "lgamma",
    "amax": "amax",
    "amin": "amin",
    "around": "round",
}
_AXIS_FUNCTIONS = frozenset("cumsum cumprod flip roll sort diff".split())


class NumpyTensor(np.lib.mixins.NDArrayOperatorsMixin):
    """Looks like an array to NumPy, holds a tensor, and remembers nothing else."""

    __array_priority__ = 1000
    dtype = np.dtype(float)

    def __init__(self, tensor: "torch.Tensor") -> None:
        self.tensor = tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(self.tensor.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions of the tensor."""
        return self.tensor.dim()

    @property
    def size(self) -> int:
        """Number of values."""
        return self.tensor.numel()

    @property
    def T(self) -> "NumpyTensor":  # noqa: N802  NumPy's name
        """Transposed; a vector is its own."""
        return NumpyTensor(self.tensor.T if self.tensor.dim() > 1 else self.tensor)

    def __len__(self) -> int:
        if self.tensor.dim() == 0:
            raise UntraceableError("the model asks for the number of rows")
        return len(self.tensor)

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *args: object, out: object = None, **named: object
    ) -> object:
        if method == "reduce" and ufunc.__name__ == "add":
            return call("sum", args, {})
        if method != "__call__":
            raise UntraceableError(f"np.{ufunc.__name__}.{method} joins rows")
        result = call(ufunc.__name__, args, named)
        if isinstance(out, tuple) and isinstance(out[0], NumpyTensor):  # y += 1: the name now means a new tensor
            out[0].tensor = result.tensor
            return out[0]
        return result

    def __array_function__(
        self, function: Callable[..., object], types: object, args: tuple[object, ...], named: dict[str, object]
    ) -> object:
        return call(function.__name__, args, named)

    def __array__(self, *args: object, **named: object) -> object:
        raise UntraceableError("the model turns its input into a plain array")

    def __bool__(self) -> bool:
        raise UntraceableError("the model asks `if` of a value; np.where can be traced")

    def __float__(self) -> float:
        raise UntraceableError("the model calls float() or a math function; NumPy's functions can be traced")

    def __setitem__(self, mask: object, value: object) -> None:
        """y[x < 0] = 0."""
        if not (isinstance(mask, NumpyTensor) and mask.tensor.dtype == torch.bool):
            raise UntraceableError("the model assigns by position")
        replacement = _tensor(value)
        if replacement.dim() and replacement.shape != self.tensor.shape:
            raise UntraceableError("the model assigns values of another length")
        self.tensor = torch.where(mask.tensor, replacement, self.tensor)

    def __getitem__(self, key: object) -> "NumpyTensor":
        if isinstance(key, NumpyTensor) and key.tensor.dtype == torch.bool:
            return NumpyTensor(self.tensor)  # x[mask] inside y[mask] = g(x[mask]): the mask is applied there
        if self.tensor.dim() == 0 and key not in ((), Ellipsis):
            raise UntraceableError("the model picks rows by position")
        return NumpyTensor(self.tensor[key])  # pyright: ignore[reportArgumentType]  # torch takes NumPy's basic keys

    def copy(self) -> "NumpyTensor":
        """Return a copy."""
        return NumpyTensor(self.tensor.clone())

    def astype(self, *args: object, **named: object) -> "NumpyTensor":  # noqa: ARG002  NumPy's signature
        """Return itself: every value is a float64."""
        return NumpyTensor(self.tensor)

    def clip(self, low: object = None, high: object = None, **named: object) -> object:
        """Return values limited to [low, high]."""
        return call("clip", (self, named.get("min", low), named.get("max", high)), {})

    def __getattr__(self, name: str) -> object:
        if name in ("sum", "mean", "max", "min", "prod", "std", "var", "cumsum", "dot"):
            return lambda *args, **named: call(name, (self, *args), named)
        raise AttributeError(name)


def plain(value: object) -> object:
    """Return the tensor inside, or the value itself."""
    return value.tensor if isinstance(value, NumpyTensor) else value


def _tensor(value: object) -> "torch.Tensor":
    value = plain(value)
    if isinstance(value, torch.Tensor):
        return value
    return torch.as_tensor(value, dtype=None if isinstance(value, bool) else torch.float64)


def _argument(value: object) -> object:
    if isinstance(value, NumpyTensor | int | float | bool | np.number | np.ndarray):
        return _tensor(value)
    if isinstance(value, list | tuple) and any(isinstance(v, NumpyTensor) for v in value):
        return [_tensor(v) for v in value]
    return value


def call(name: str, args: Sequence[object], named: Mapping[str, object]) -> NumpyTensor:
    """Return what NumPy's function `name` gives, computed by torch.

    Raises
    ------
    UntraceableError
        If torch has no function that does the same.
    """
    special = _SPECIAL.get(name)
    if special is not None:
        return NumpyTensor(special(*args, **named))
    function = getattr(torch, _NAMES.get(name, name), None)
    if function is None:
        function = getattr(torch.special, name, None)
    if function is None or not callable(function):
        raise UntraceableError(f"np.{name} has no counterpart in torch")
    if name in ("sum", "mean", "max", "min", "prod", "std", "var") or name in _AXIS_FUNCTIONS:
        return _reduction(name, args, named)
    if named and not set(named) <= {"dtype", "casting", "order", "copy"}:
        raise UntraceableError(f"np.{name} with {', '.join(named)} has no counterpart in torch")
    return NumpyTensor(function(*(_argument(a) for a in args)))


def _reduction(name: str, args: Sequence[object], named: Mapping[str, object]) -> NumpyTensor:
    values = _tensor(args[0])
    if values.dim() == 0:
        raise UntraceableError(f"np.{name} joins rows")
    axis = named.get("axis", args[1] if len(args) > 1 else None)
    extra = {"correction": named.get("ddof", 0)} if name in ("std", "var") else {}
    if name in ("max", "min"):
        function = getattr(torch, "a" + name)
    elif name in _AXIS_FUNCTIONS:
        axis = -1 if axis is None else axis
        function = getattr(torch, name)
    else:
        function = getattr(torch, name)
    return NumpyTensor(function(values, **extra) if axis is None else function(values, dim=axis, **extra))


def _clip(
    x: object, low: object = None, high: object = None, *, min: object = None, max: object = None  # noqa: A002  NumPy's names
) -> "torch.Tensor":
    low, high = (min if low is None else low), (max if high is None else high)
    limits = (None if limit is None else _tensor(limit) for limit in (low, high))
    return torch.clamp(_tensor(x), *limits)


def _heaviside(x: object, at_zero: object) -> "torch.Tensor":
    x = _tensor(x)
    return torch.where(x > 0, 1.0, torch.where(x < 0, 0.0, _tensor(at_zero)))


def _select(conditions: Sequence[object], choices: Sequence[object], default: object = 0.0) -> "torch.Tensor":
    out = _tensor(default)
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        out = torch.where(_tensor(condition), _tensor(choice).to(torch.float64), out)
    return out


def _piecewise(x: object, conditions: Sequence[object], functions: Sequence[object]) -> "torch.Tensor":
    choices = [f(x) if callable(f) else f for f in functions]
    default = choices[len(conditions)] if len(choices) > len(conditions) else 0.0
    return _select(conditions, choices[: len(conditions)], default)


_SPECIAL: Mapping[str, Callable[..., "torch.Tensor"]] = {
    "clip": _clip,
    "heaviside": _heaviside,
    "select": _select,
    "piecewise": _piecewise,
    "positive": _tensor,
    "square": lambda x: _tensor(x) * _tensor(x),
    "reciprocal": lambda x: 1.0 / _tensor(x),
    "cbrt": lambda x: torch.sign(_tensor(x)) * torch.abs(_tensor(x)) ** (1 / 3),
    "sinc": lambda x: torch.sinc(_tensor(x)),
    "where": lambda c, a, b: torch.where(_tensor(c).to(torch.bool), _tensor(a), _tensor(b)),
    "zeros_like": lambda x, **named: torch.zeros_like(_tensor(x)),
    "ones_like": lambda x, **named: torch.ones_like(_tensor(x)),
    "full_like": lambda x, value, **named: torch.zeros_like(_tensor(x)) + _tensor(value),
    "logaddexp": lambda a, b: torch.logaddexp(_tensor(a), _tensor(b)),
    "polyval": lambda coefficients, x: _horner(coefficients, _tensor(x)),
}


def _horner(coefficients: Sequence[object], x: "torch.Tensor") -> "torch.Tensor":
    out = torch.zeros_like(x)
    for coefficient in coefficients:
        out = out * x + _tensor(coefficient)
    return out
