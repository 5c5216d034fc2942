"""The loss over all rows with its derivatives: by torch's autograd, or from a kernel and second derivatives of its graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np

from gradfit._lazy import torch
from gradfit.loss import Loss
from gradfit.solve.outcome import Array
from gradfit.solve.problem import Model, ModelProblem

TorchLoss = Callable[["torch.Tensor", "torch.Tensor | None"], "torch.Tensor"]


@dataclass(frozen=True, eq=False)
class TorchSurface:
    """A loss written in torch, computed in its dtype; its derivatives in float64."""

    loss: TorchLoss
    dtype: torch.dtype

    @property
    def rounding(self) -> float:
        """The relative distance between neighbouring numbers."""
        return torch.finfo(self.dtype).eps

    def value(self, parameters: Array) -> float:
        """Return the loss."""
        with torch.no_grad():
            return self.loss(torch.tensor(parameters, dtype=self.dtype, device="cpu"), None).item()

    def derivatives(self, parameters: Array, *, second: bool) -> tuple[Array, Array | None]:
        """Return its gradient (k,) and second derivatives (k, k), None where torch has none."""
        with torch.inference_mode(mode=False), torch.enable_grad():
            leaf = torch.tensor(parameters, dtype=torch.float64, device="cpu", requires_grad=True)
            (slope,) = torch.autograd.grad(self.loss(leaf, None), leaf)
            return slope.numpy(), self._second(parameters) if second else None

    def _second(self, parameters: Array) -> Array | None:
        leaf = torch.tensor(parameters, dtype=torch.float64, device="cpu", requires_grad=True)
        try:
            (slope,) = torch.autograd.grad(self.loss(leaf, None), leaf, create_graph=True)
            rows = [torch.autograd.grad(part, leaf, retain_graph=True)[0] for part in slope]
        except RuntimeError:  # torch's answer where a derivative has none itself; the change decides then
            return None
        hessian = torch.stack(rows).numpy()
        return hessian if np.isfinite(hessian).all() else None


@dataclass(frozen=True, eq=False)
class ModelSurface:
    """The mean loss of a problem's residuals.

    Attributes
    ----------
    problem : ModelProblem
        Its residuals and their derivatives.
    cost : Loss
        What a residual costs.
    slopes : sequence of Model
        For each free parameter the kernel of the model's derivative by it; nothing where the model is linear in all.
    """

    problem: ModelProblem
    cost: Loss
    slopes: Sequence[Model]
    rounding: float = float(np.finfo(np.float64).eps)

    def value(self, parameters: Array) -> float:
        """Return the loss."""
        residuals = self.problem.residual(parameters)
        return self.cost.cost(residuals) / len(residuals)

    def derivatives(self, parameters: Array, *, second: bool) -> tuple[Array, Array | None]:
        """Return its gradient (k,) and second derivatives (k, k)."""
        residuals, jacobian = self.problem.residual_jacobian(parameters)
        slope, bend = self.cost.curvature(residuals)
        share = 2 / len(residuals)
        gradient = share * (jacobian.T @ slope)
        if not second:
            return gradient, None
        hessian = jacobian.T @ (bend[:, None] * jacobian if self.cost.robust else jacobian)
        if self.slopes:
            hessian += self._bends(slope, parameters)
        hessian *= share
        return gradient, hessian if isfinite(float(hessian.sum())) else None

    def _bends(self, slope: Array, parameters: Array) -> Array:
        """Return the sum over the rows of each residual's slope times the model's second derivatives (k, k)."""
        problem = self.problem
        slope = slope if problem.weight is None else slope * problem.weight
        whole = problem.whole(parameters)
        free = slice(None) if problem.free is None else problem.free
        return np.array([slope @ k.value_jacobian(problem.columns, whole)[1][:, free] for k in self.slopes])
