"""Rows as an update sees them: with noise on their inputs, and mixed with other rows."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special, torch
from gradfit.solve.descent import Objective
from gradfit.solve.mean_loss import MeanLoss
from gradfit.solve.outcome import Array
from gradfit.solve.penalised import PenalisedMean, Shrink

DRAWS = 32  # over which the loss with noise is averaged, to judge where a training has ended


@dataclass(frozen=True, eq=False)
class Perturbation:
    """What is done to the rows of an update; drawn anew for each.

    Attributes
    ----------
    noise : (c,)
        Standard deviation of what is added to each input column, in its unit; 0 leaves it alone.
    mixup : float
        Both parameters of the beta distribution from which the share of another row is drawn; 0 mixes none.
    numbers : (c,) bool
        Which columns are measured, and no codes of classes: only these are mixed.

    References
    ----------
    .. [1] Bishop (1995), Neural Computation 7, 108: noise on the inputs acts as a penalty on slopes.
    .. [2] Zhang, Cissé, Dauphin & Lopez-Paz (2018), mixup: beyond empirical risk minimization, ICLR.
    """

    noise: Array
    mixup: float
    numbers: NDArray[np.bool_]

    def times(self, strength: float) -> Perturbation:
        """Return the perturbation with so many times the noise."""
        return replace(self, noise=strength * self.noise)

    def drawn(self, mean: MeanLoss, rows: torch.Tensor | None, draw: torch.Generator) -> Objective:
        """Return the mean loss over rows (indices; None: all) that are perturbed."""
        own = mean if rows is None else mean.of(rows)
        columns = [
            column + size * torch.randn(column.shape, generator=draw, dtype=column.dtype) if size else column
            for column, size in zip(own.columns, self.noise.tolist(), strict=True)
        ]
        if not self.mixup:
            return replace(own, columns=columns)
        level = torch.rand((), generator=draw, dtype=torch.float64).item()
        share = float(special.betaincinv(self.mixup, self.mixup, level))
        order = torch.randperm(own.rows, generator=draw)
        columns = [
            share * column + (1 - share) * column[order] if number else column
            for column, number in zip(columns, self.numbers.tolist(), strict=True)
        ]
        return _Mixed(replace(own, columns=columns), replace(own.of(order), columns=columns), share)


@dataclass(frozen=True, eq=False)
class _Mixed:
    """Mixed inputs compared with what was observed in each of their two rows, by the share of each."""

    own: MeanLoss
    other: MeanLoss
    share: float

    @property
    def rows(self) -> int:
        """Number of observations."""
        return self.own.rows

    def loss(self, parameters: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        """Return the mean over the rows at parameters (k,)."""
        one, other = self.own.loss(parameters, rows), self.other.loss(parameters, rows)
        return self.share * one + (1 - self.share) * other


@dataclass(frozen=True, eq=False)
class PerturbedLoss:
    """A mean loss whose rows are perturbed for each update, with the penalty where there is one.

    As an objective it is the mean over draws that stay the same: what the updates make small on average.
    """

    mean: MeanLoss
    perturbation: Perturbation
    shrink: Shrink | None
    seed: int

    @property
    def rows(self) -> int:
        """Number of observations."""
        return self.mean.rows

    def drawn(self, rows: torch.Tensor | None, draw: torch.Generator) -> Objective:
        """Return the loss of one update."""
        mean = self.perturbation.drawn(self.mean, rows, draw)
        return mean if self.shrink is None else PenalisedMean(mean, self.shrink)

    def loss(self, parameters: torch.Tensor, rows: torch.Tensor | None) -> torch.Tensor:
        """Return the mean over the draws at parameters (k,)."""
        draw = torch.Generator(device="cpu").manual_seed(self.seed)
        each = [self.drawn(rows, draw).loss(parameters, None) for _ in range(DRAWS)]
        return torch.stack(each).mean()
