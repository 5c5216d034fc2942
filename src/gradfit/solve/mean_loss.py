"""The mean loss of a model's residuals as a torch function of its free parameters."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gradfit._lazy import torch
from gradfit.loss import Loss
from gradfit.solve.outcome import Array


@dataclass(frozen=True)
class MeanLoss:
    """The mean loss of weighted residuals, as a torch function of the free parameters; of counts the mean deviance."""

    function: Callable[..., torch.Tensor]
    columns: list[torch.Tensor]
    y: torch.Tensor
    weight: torch.Tensor | None
    template: Array
    free: tuple[int, ...]
    cost: Loss

    @property
    def rows(self) -> int:
        """Number of observations."""
        return len(self.y)

    def of(self, rows: torch.Tensor) -> MeanLoss:
        """Return the loss of these rows (indices) alone."""
        weight = None if self.weight is None else self.weight[rows]
        return replace(self, columns=[c[rows] for c in self.columns], y=self.y[rows], weight=weight)

    def loss(self, parameters: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        """Return the mean over the rows at parameters (k,)."""
        pick = (
            (lambda t: t.to(parameters.dtype)) if rows is None else (lambda t: t[rows].to(parameters.dtype))
        )
        whole: list[object] = self.template.tolist()
        for i, j in enumerate(self.free):
            whole[j] = parameters[i]
        value = self.function(*(pick(c) for c in self.columns), *whole)
        observed = pick(self.y)
        if self.cost.counts:
            above = torch.where(observed > 0, observed, 1.0)  # the slope of xlogy(0, 0/f) is no number
            each = 2 * (value - observed + torch.special.xlogy(observed, above / value))
            each = torch.where(value > 0, each, torch.nan)
            return (each if self.weight is None else each * pick(self.weight) ** 2).mean()
        residual = value - observed
        if self.weight is not None:
            residual = residual * pick(self.weight)
        return self._rho(residual * residual).mean()

    def _rho(self, z: torch.Tensor) -> torch.Tensor:
        if not self.cost.robust:
            return z
        square = float(self.cost.scale or 1.0) ** 2
        z = z / square
        rho = {
            "soft_l1": lambda: 2 * (torch.sqrt(1 + z) - 1),
            "huber": lambda: torch.where(z <= 1, z, 2 * torch.sqrt(torch.clamp(z, min=1.0)) - 1),
            "cauchy": lambda: torch.log1p(z),
            "bisquare": lambda: (1 - torch.clamp(1 - z, min=0.0) ** 3) / 3,
        }[self.cost.name]
        return square * rho()
