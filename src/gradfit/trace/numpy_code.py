"""NumPy functions computed by torch: an object that NumPy takes for an array and that answers with tensors."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TypeGuard, cast

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.trace.aten import UntraceableError
from gradfit.trace.special import gamma, voigt

_NAMES: Mapping[str, str] = {  # NumPy's or SciPy's name -> torch's, where they differ
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
    "bitwise_xor": "logical_xor",
    "invert": "logical_not",
    "bitwise_not": "logical_not",
    "copy": "clone",
    "conjugate": "clone",
    "concatenate": "cat",
    "gammaln": "lgamma",
    "psi": "digamma",
    "rint": "round",
    "degrees": "rad2deg",
    "radians": "deg2rad",
}
_JOINING = frozenset(["sum", "mean", "max", "min", "amax", "amin", "prod", "std", "var"])
_ALONG = frozenset(["cumsum", "cumprod", "flip", "roll", "sort", "diff"])
_ARITHMETIC = frozenset(["add", "subtract", "negative", "positive", "absolute"])
_SHAPING = frozenset(["ravel", "flatten", "squeeze", "atleast_1d"])
_OF_OBJECTS = (  # what NumPy asks an object for when it is to compute np.exp of it
    "exp exp2 expm1 log log2 log10 log1p sqrt cbrt sin cos tan arcsin arccos arctan sinh cosh tanh arcsinh arccosh arctanh "
    "rint"
)
_METHODS = _JOINING | _ALONG | _SHAPING | {"dot", "round", *_OF_OBJECTS.split()}
_FLOATS = (float, np.float64, np.bool_, bool, "float", "float64", "d", None)


class NumpyTensor(np.lib.mixins.NDArrayOperatorsMixin):
    """Looks like an array to NumPy, holds a tensor, and remembers nothing else."""

    __array_priority__: float = 1000
    dtype: np.dtype[np.float64] = np.dtype(np.float64)

    def __init__(self, tensor: "torch.Tensor") -> None:
        self.tensor: torch.Tensor = tensor

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
    ) -> "NumpyTensor":
        if method == "reduce" and ufunc.__name__ == "add":
            return call("sum", args, named)
        if method != "__call__":
            raise UntraceableError(f"np.{ufunc.__name__}.{method} joins rows")
        result = call(ufunc.__name__, args, named)
        if isinstance(out, tuple) and isinstance(out[0], NumpyTensor):
            out[0].tensor = result.tensor  # y += 1: the name now means a new tensor
            return out[0]
        return result

    def __array_function__(
        self,
        function: Callable[..., object],
        types: object,
        args: tuple[object, ...],
        named: dict[str, object],
    ) -> "NumpyTensor":
        return call(function.__name__, args, named)

    def __array__(self, dtype: object = None, *args: object, **named: object) -> NDArray[np.object_]:
        """Return a single value as an array that holds this object, for np.asarray(x) and np.sum([...], axis=0).

        NumPy computes with such arrays by the operators and methods of what they hold.

        Raises
        ------
        UntraceableError
            If it is a whole column, or is to become numbers.
        """
        del args, named  # NumPy's signature
        if dtype not in (None, object) or self.tensor.dim():
            raise UntraceableError("the model turns its input into a plain array")
        holder = np.empty((), dtype=np.object_)
        holder[()] = self
        return holder

    def __bool__(self) -> bool:
        raise UntraceableError("the model asks `if` of a value; np.where can be traced")

    def __float__(self) -> float:
        raise UntraceableError("the model calls float() or a math function; NumPy's functions can be traced")

    def __setitem__(self, key: object, value: object) -> None:
        """Take the values of another array, everywhere or where a mask holds: y[x < 0] = 0.

        Raises
        ------
        UntraceableError
            If the places are given by number, or the value has another length.
        """
        replacement = _tensor(value)
        if replacement.dim() and replacement.shape != self.tensor.shape:
            raise UntraceableError("the model assigns values of another length")
        if isinstance(key, NumpyTensor) and key.tensor.dtype == torch.bool:
            self.tensor = torch.where(key.tensor, replacement, self.tensor)
        elif key is Ellipsis or (isinstance(key, slice) and key == slice(None)):
            self.tensor = replacement.expand(self.tensor.shape)
        else:
            raise UntraceableError("the model assigns by position")

    def __getitem__(self, key: object) -> "NumpyTensor":
        if isinstance(key, NumpyTensor) and key.tensor.dtype == torch.bool:
            return NumpyTensor(self.tensor)  # x[mask] inside y[mask] = g(x[mask]): the mask is applied there
        everything = key in ((), Ellipsis) or (isinstance(key, slice) and key == slice(None))
        if self.tensor.dim() == 0 and not everything:
            raise UntraceableError("the model picks rows by position")
        return NumpyTensor(self.tensor if everything else self.tensor[cast("slice", key)])

    def copy(self) -> "NumpyTensor":
        """Return a copy."""
        return NumpyTensor(self.tensor.clone())

    def astype(self, dtype: object, **named: object) -> "NumpyTensor":
        """Return itself, as every value is a float64.

        Raises
        ------
        UntraceableError
            If it is to become something else, whole numbers or float32.
        """
        del named  # NumPy's signature
        if dtype not in _FLOATS:
            raise UntraceableError(f"the model rounds its values to {dtype}")
        return NumpyTensor(self.tensor)

    def reshape(self, *shape: object) -> "NumpyTensor":
        """Return itself for reshape(-1).

        Raises
        ------
        UntraceableError
            If another shape is wanted.
        """
        if shape not in ((-1,), ((-1,),)) or self.tensor.dim() > 1:
            raise UntraceableError("the model gives its values another shape")
        return NumpyTensor(self.tensor)

    def clip(self, *limits: object, **named: object) -> "NumpyTensor":
        """Return values limited to [low, high]."""
        return call("clip", (self, *limits), named)

    def __getattr__(self, name: str) -> Callable[..., "NumpyTensor"]:
        if name in _METHODS:
            return lambda *args, **named: call(name, (self, *args), named)
        raise AttributeError(name)


def plain(value: object) -> object:
    """Return the tensor inside, or the value itself."""
    if isinstance(value, np.ndarray) and value.dtype == np.object_ and value.ndim == 0:
        value = value.item()
    return value.tensor if isinstance(value, NumpyTensor) else value


def call(name: str, args: Sequence[object], named: Mapping[str, object]) -> NumpyTensor:
    """Return what NumPy's function `name` gives, computed by torch.

    Raises
    ------
    UntraceableError
        If torch has no function that does the same.
    """
    own = _own().get(name)
    if own is not None:
        return NumpyTensor(own(*args, **named))
    if name in _SHAPING and isinstance(args[0], NumpyTensor):
        return args[0].reshape(-1)
    word = _NAMES.get(name, name)
    function = getattr(torch, word, None) or getattr(torch.special, word, None)
    if not callable(function):
        raise UntraceableError(f"np.{name} has no counterpart in torch")
    if name in _JOINING | _ALONG:
        return NumpyTensor(_joined(name, args, named))
    if named and not named.keys() <= {"dtype", "casting", "order", "copy", "subok"}:
        raise UntraceableError(f"np.{name} with {', '.join(named)} has no counterpart in torch")
    convert = _number if name in _ARITHMETIC else _argument
    return NumpyTensor(_tensor(function(*(convert(a) for a in args))))


# ---------------------------------------------------------------------------- arguments


def _tensor(value: object) -> "torch.Tensor":
    value = plain(value)
    if isinstance(value, torch.Tensor):
        return value
    dtype = torch.bool if isinstance(value, bool | np.bool_) else torch.float64
    if isinstance(value, np.ndarray) and value.dtype == np.bool_:
        dtype = torch.bool
    return torch.as_tensor(np.array(value), dtype=dtype)


def _number(value: object) -> "torch.Tensor":
    """Return a truth value as 1 or 0, as NumPy's arithmetic with a number would."""
    tensor = _tensor(value)
    return tensor.to(torch.float64) if tensor.dtype == torch.bool else tensor


def _is_list(value: object) -> TypeGuard[Sequence[object]]:
    return isinstance(value, list | tuple)


def _argument(value: object) -> object:
    if isinstance(value, NumpyTensor | int | float | bool | np.number | np.ndarray):
        return _tensor(value)
    if _is_list(value) and any(isinstance(v, NumpyTensor) for v in value):
        return [_tensor(v) for v in value]
    return value


# ---------------------------------------------------------------------------- functions that join rows


def _joined(name: str, args: Sequence[object], named: Mapping[str, object]) -> "torch.Tensor":
    """Return a sum, a mean ... over rows.

    Raises
    ------
    UntraceableError
        If single values are asked for what only columns have.
    """
    axis = named.get("axis", args[1] if len(args) > 1 else None)
    tensor = _number(args[0])
    if tensor.dim() == 0:
        raise UntraceableError(f"np.{name} joins rows")
    if name in _ALONG:
        return getattr(torch, name)(tensor, dim=-1 if axis is None else axis)
    function = getattr(torch, {"max": "amax", "min": "amin"}.get(name, name))
    extra = {"correction": named.get("ddof", 0)} if name in ("std", "var") else {}
    return function(tensor, **extra) if axis is None else function(tensor, dim=axis, **extra)


# ---------------------------------------------------------------------------- functions that torch has otherwise


def _clip(x: object, *limits: object, **named: object) -> "torch.Tensor":
    low, high = [*limits, None, None][:2]
    low = named.get("min", named.get("a_min", low))
    high = named.get("max", named.get("a_max", high))
    bounds = (None if limit is None else _tensor(limit) for limit in (low, high))
    return torch.clamp(_tensor(x), *bounds)


def _heaviside(x: object, at_zero: object) -> "torch.Tensor":
    tensor = _tensor(x)
    step = torch.where(tensor > 0, 1.0, torch.where(tensor < 0, 0.0, _tensor(at_zero)))
    return torch.where(torch.isnan(tensor), tensor, step)


def _select(conditions: Sequence[object], choices: Sequence[object], default: object = 0.0) -> "torch.Tensor":
    out = _number(default)
    for condition, choice in zip(reversed(conditions), reversed(choices), strict=True):
        out = torch.where(_tensor(condition), _number(choice), out)
    return out


def _piecewise(x: object, conditions: Sequence[object], functions: Sequence[object]) -> "torch.Tensor":
    choices = [f(x) if callable(f) else f for f in functions]
    default = choices[len(conditions)] if len(choices) > len(conditions) else 0.0
    # where several hold, NumPy takes the last
    return _select(conditions[::-1], choices[: len(conditions)][::-1], default)


def _where(condition: object, *values: object) -> "torch.Tensor":
    if len(values) != 2:
        raise UntraceableError("the model asks np.where for positions")
    return torch.where(_tensor(condition).to(torch.bool), *(_number(v) for v in values))


def _polyval(coefficients: object, x: object) -> "torch.Tensor":
    if not isinstance(coefficients, list | tuple | np.ndarray):
        raise UntraceableError("np.polyval of coefficients in one array has no counterpart in torch")
    tensor = _tensor(x)
    out = torch.zeros_like(tensor)
    for coefficient in coefficients:
        out = out * tensor + _tensor(coefficient)
    return out


def _filled(value: float) -> Callable[..., "torch.Tensor"]:
    def like(x: object, *args: object, **named: object) -> "torch.Tensor":
        del args, named  # NumPy's signature: a dtype, an order
        return torch.full_like(_number(x), value)

    return like


def _full_like(x: object, value: object, **named: object) -> "torch.Tensor":
    del named  # NumPy's signature
    return torch.zeros_like(_number(x)) + _number(value)


def _cbrt(x: object) -> "torch.Tensor":
    tensor = _tensor(x)
    return torch.sign(tensor) * torch.abs(tensor) ** (1 / 3)


def _square(x: object) -> "torch.Tensor":
    return _tensor(x) * _tensor(x)


def _reciprocal(x: object) -> "torch.Tensor":
    return 1.0 / _number(x)


def _of_tensors(function: Callable[..., "torch.Tensor"]) -> Callable[..., "torch.Tensor"]:
    def of_arrays(*values: object) -> "torch.Tensor":
        return function(*(_number(v) for v in values))

    return of_arrays


@lru_cache(maxsize=1)
def _own() -> Mapping[str, Callable[..., "torch.Tensor"]]:
    """Return NumPy's functions that torch has under another signature; made at the first use, as torch is a late import."""
    return {
        "clip": _clip,
        "heaviside": _heaviside,
        "select": _select,
        "piecewise": _piecewise,
        "positive": _number,
        "square": _square,
        "reciprocal": _reciprocal,
        "cbrt": _cbrt,
        "where": _where,
        "zeros_like": _filled(0.0),
        "empty_like": _filled(0.0),
        "ones_like": _filled(1.0),
        "full_like": _full_like,
        "polyval": _polyval,
        "gamma": _of_tensors(gamma),
        "voigt_profile": _of_tensors(voigt),
    }
