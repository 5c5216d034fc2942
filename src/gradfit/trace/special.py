"""Functions that torch lacks, as torch functions with derivatives."""

import math
from collections.abc import Callable
from functools import lru_cache

from gradfit._lazy import special, torch

Function = Callable[..., "torch.Tensor"]
Slopes = tuple["torch.Tensor", "torch.Tensor"]


def gamma(x: "torch.Tensor") -> "torch.Tensor":
    """Return the gamma function, by the reflection formula below zero."""
    reflected = math.pi / (torch.sin(math.pi * x) * torch.exp(torch.lgamma(1 - x)))
    return torch.where(x > 0, torch.exp(torch.lgamma(x)), reflected)


def voigt(x: "torch.Tensor", sigma: "torch.Tensor", gamma: "torch.Tensor") -> "torch.Tensor":
    """Return the Voigt profile: a normal of standard deviation sigma convolved with a Lorentzian of half width gamma."""
    real, _ = faddeeva()
    width = torch.abs(sigma) * math.sqrt(2)
    return real(*torch.broadcast_tensors(x / width, torch.abs(gamma) / width)) / (width * math.sqrt(math.pi))


@lru_cache(maxsize=1)
def faddeeva() -> tuple[Function, Function]:
    """Return the real and imaginary part of w(x + iy) = exp(-z²) erfc(-iz) as torch operations with derivatives.

    SciPy computes it (Steven G. Johnson's implementation); w' = -2 z w + 2i/√π gives the derivatives, in terms of the
    two functions themselves.
    """
    real, imag = _part("real"), _part("imag")

    def slopes(x: "torch.Tensor", y: "torch.Tensor") -> Slopes:
        u, v = real(x, y), imag(x, y)
        return -2 * (x * u - y * v), 2 * (x * v + y * u) - 2 / math.sqrt(math.pi)

    def real_backward(ctx: "torch.autograd.function.FunctionCtx", g: "torch.Tensor") -> Slopes:
        along, across = slopes(*_saved(ctx))
        return g * along, g * across

    def imag_backward(ctx: "torch.autograd.function.FunctionCtx", g: "torch.Tensor") -> Slopes:
        along, across = slopes(*_saved(ctx))
        return -g * across, g * along

    real.register_autograd(real_backward, setup_context=_keep)
    imag.register_autograd(imag_backward, setup_context=_keep)
    return real, imag


def _part(name: str) -> "torch.library.CustomOpDef":  # pyright: ignore[reportPrivateImportUsage]  # what custom_op returns
    def compute(x: "torch.Tensor", y: "torch.Tensor") -> "torch.Tensor":
        z = x.detach().cpu().numpy() + 1j * y.detach().cpu().numpy()
        return torch.as_tensor(getattr(special.wofz(z), name).copy(), dtype=x.dtype, device=x.device)

    schema = "(Tensor x, Tensor y) -> Tensor"
    return torch.library.custom_op(f"gradfit::wofz_{name}", compute, mutates_args=(), schema=schema)


def _keep(ctx: "torch.autograd.function.FunctionCtx", inputs: Slopes, output: "torch.Tensor") -> None:
    del output  # torch's signature
    ctx.save_for_backward(*inputs)


def _saved(ctx: "torch.autograd.function.FunctionCtx") -> Slopes:
    return ctx.saved_tensors  # pyright: ignore[reportAttributeAccessIssue]  # what _keep saved
