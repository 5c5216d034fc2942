"""A formula as a torch function: the same operations, on tensors of any shape."""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache

from gradfit._lazy import special, torch
from gradfit.formula import CONSTANTS, Expression

Function = Callable[..., "torch.Tensor"]


def torch_function(expression: Expression, names: Sequence[str]) -> Function:
    """Return f(*tensors) for an expression; `names` gives the order of its arguments."""
    operations = _operations()

    def function(*tensors: "torch.Tensor") -> "torch.Tensor":
        values = dict(zip(names, tensors, strict=True))
        like = tensors[0] if tensors else torch.zeros((), dtype=torch.float64)
        out: list[object] = []
        for node in expression.nodes:
            if node[0] == "const":
                out.append(node[1])
            elif node[0] == "name":
                name = str(node[1])
                out.append(values[name] if name in values else CONSTANTS[name])
            else:
                out.append(operations[str(node[0])](*(out[int(i)] for i in node[1:])))  # pyright: ignore[reportArgumentType]  # ids
        last = out[-1]
        return last if isinstance(last, torch.Tensor) else torch.full_like(like, float(last))  # pyright: ignore[reportArgumentType]  # a number

    return function


def _tensor(value: object) -> "torch.Tensor":
    return value if isinstance(value, torch.Tensor) else torch.as_tensor(value, dtype=torch.float64)


def _on_tensors(function: Function) -> Function:
    return lambda *values: function(*(_tensor(v) for v in values))


def _pow(base: object, exponent: object) -> "torch.Tensor":
    if isinstance(base, torch.Tensor):
        return torch.pow(base, exponent)  # pyright: ignore[reportCallIssue, reportArgumentType]  # a literal exponent stays a number: x**2 at x < 0
    return torch.pow(_tensor(base), _tensor(exponent))


def _gamma(x: "torch.Tensor") -> "torch.Tensor":
    reflected = math.pi / (torch.sin(math.pi * x) * torch.exp(torch.lgamma(1 - x)))
    return torch.where(x > 0, torch.exp(torch.lgamma(x)), reflected)


def _step(x: "torch.Tensor") -> "torch.Tensor":
    return torch.where(x >= 0, 1.0, 0.0)


def _voigt(x: "torch.Tensor", sigma: "torch.Tensor", gamma: "torch.Tensor") -> "torch.Tensor":
    real, _ = faddeeva()
    width = torch.abs(sigma) * math.sqrt(2)
    return real(*torch.broadcast_tensors(x / width, torch.abs(gamma) / width)) / (width * math.sqrt(math.pi))


def _where(condition: "torch.Tensor", a: "torch.Tensor", b: "torch.Tensor") -> "torch.Tensor":
    return torch.where(condition if condition.dtype == torch.bool else condition != 0, a, b)


@lru_cache(maxsize=1)
def _operations() -> Mapping[str, Function]:
    plain = "exp log log10 log2 log1p expm1 sqrt sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc "
    names = plain + "lgamma sign floor ceil atan2 lt le gt ge eq ne neg abs"
    table: dict[str, Function] = {
        **{name: _on_tensors(getattr(torch, name)) for name in names.split()},
        "pos": lambda a: a,
        "pow": _pow,
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": _on_tensors(torch.div),
        "min": _on_tensors(torch.minimum),
        "max": _on_tensors(torch.maximum),
        "and": _on_tensors(torch.logical_and),
        "or": _on_tensors(torch.logical_or),
        "not": _on_tensors(torch.logical_not),
        "where": _on_tensors(_where),
        "gamma": _on_tensors(_gamma),
        "step": _on_tensors(_step),
        "voigt": _on_tensors(_voigt),
    }
    return table


@lru_cache(maxsize=1)
def faddeeva() -> tuple[Function, Function]:
    """Return the real and imaginary part of w(x + iy) = exp(-z²) erfc(-iz) as torch operations with derivatives.

    SciPy computes it (Steven G. Johnson's implementation); w' = -2 z w + 2i/√π gives the derivatives, in terms of the
    two functions themselves.
    """

    def part(name: str) -> Function:
        def compute(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            z = x.detach().cpu().numpy() + 1j * y.detach().cpu().numpy()
            return torch.as_tensor(getattr(special.wofz(z), name).copy(), dtype=x.dtype, device=x.device)

        return torch.library.custom_op(
            f"gradfit::wofz_{name}", compute, mutates_args=(), schema="(Tensor x, Tensor y) -> Tensor"
        )

    real, imag = part("real"), part("imag")
    slope_at_zero = 2 / math.sqrt(math.pi)

    def keep(ctx: "torch.autograd.function.FunctionCtx", inputs: tuple["torch.Tensor", ...], output: object) -> None:  # noqa: ARG001  torch's signature
        ctx.save_for_backward(*inputs)

    def slopes(x: "torch.Tensor", y: "torch.Tensor") -> tuple["torch.Tensor", "torch.Tensor"]:
        u, v = real(x, y), imag(x, y)
        return -2 * (x * u - y * v), 2 * (x * v + y * u) - slope_at_zero

    def real_backward(ctx: "torch.autograd.function.FunctionCtx", g: "torch.Tensor") -> tuple["torch.Tensor", ...]:
        along, across = slopes(*ctx.saved_tensors)  # pyright: ignore[reportAttributeAccessIssue]  # set by keep
        return g * along, g * across

    def imag_backward(ctx: "torch.autograd.function.FunctionCtx", g: "torch.Tensor") -> tuple["torch.Tensor", ...]:
        along, across = slopes(*ctx.saved_tensors)  # pyright: ignore[reportAttributeAccessIssue]  # set by keep
        return -g * across, g * along

    real.register_autograd(real_backward, setup_context=keep)  # pyright: ignore[reportFunctionMemberAccess]  # a CustomOpDef
    imag.register_autograd(imag_backward, setup_context=keep)  # pyright: ignore[reportFunctionMemberAccess]  # a CustomOpDef
    return real, imag
