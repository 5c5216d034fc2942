"""A formula as a torch function: the same operations, on tensors of any shape."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import cast

from gradfit._lazy import torch
from gradfit.formula import CONSTANTS, Expression
from gradfit.formula.expression import operands
from gradfit.trace.special import gamma, voigt

Function = Callable[..., "torch.Tensor"]

_OF_TORCH = (
    "exp log log10 log2 log1p expm1 sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc lgamma sign "
    "floor ceil neg abs add sub mul div atan2 lt le gt ge eq ne"
)


def torch_function(expression: Expression, names: Sequence[str]) -> Function:
    """Return f(*tensors) for an expression; `names` gives the order of its arguments."""
    operations = _operations()

    def function(*tensors: "torch.Tensor") -> "torch.Tensor":
        values = dict(zip(names, tensors, strict=True))
        like = tensors[0] if tensors else torch.zeros((), dtype=torch.float64)
        out: list[torch.Tensor | float] = []
        for node in expression.nodes:
            if node[0] == "const":
                out.append(cast("float", node[1]))
            elif node[0] == "name":
                name = str(node[1])
                out.append(values[name] if name in values else CONSTANTS[name])
            else:
                taken = (_number(out[i], like.dtype) for i in operands(node))
                out.append(operations[str(node[0])](*taken))
        last = _number(out[-1], like.dtype)
        return last if isinstance(last, torch.Tensor) else torch.full_like(like, last)

    return function


def _number(value: "torch.Tensor | float", dtype: "torch.dtype") -> "torch.Tensor | float":
    """Return a truth value as 1 or 0: torch would add two of them as "or", and make float32 of their product."""
    return value.to(dtype) if isinstance(value, torch.Tensor) and value.dtype == torch.bool else value


def _tensor(value: "torch.Tensor | float") -> "torch.Tensor":
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value, dtype=torch.float64)


def _on_tensors(function: Function) -> Function:
    def operation(*values: "torch.Tensor | float") -> "torch.Tensor":
        return function(*(_tensor(v) for v in values))

    return operation


def _same(value: "torch.Tensor | float") -> "torch.Tensor | float":
    return value


def _pow(base: "torch.Tensor | float", exponent: "torch.Tensor | float") -> "torch.Tensor":
    # a literal exponent stays a number: torch squares by a product
    plain = isinstance(exponent, float) and isinstance(base, torch.Tensor)
    return torch.pow(_tensor(base), exponent if plain else _tensor(exponent))


def _step(x: "torch.Tensor") -> "torch.Tensor":
    return (x >= 0).to(x.dtype)


def _where(condition: "torch.Tensor", a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    return torch.where(condition != 0, a, b)


@lru_cache(maxsize=1)
def _operations() -> Mapping[str, Callable[..., "torch.Tensor | float"]]:
    """Return the operations of formulas; made at the first use, as torch is a late import."""
    of_tensors: Mapping[str, Function] = {
        **{name: getattr(torch, name) for name in _OF_TORCH.split()},
        "min": torch.minimum,
        "max": torch.maximum,
        "and": torch.logical_and,
        "or": torch.logical_or,
        "not": torch.logical_not,
        "where": _where,
        "gamma": gamma,
        "step": _step,
        "voigt": voigt,
    }
    return {"pos": _same, "pow": _pow, **{name: _on_tensors(rule) for name, rule in of_tensors.items()}}
