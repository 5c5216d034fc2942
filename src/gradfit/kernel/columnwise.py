"""Models that are no scalar expression of one row: whole columns at a time, through autograd or by differences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch

Array = NDArray[np.float64]


@dataclass(frozen=True)
class AutogradKernel:
    """A torch function of whole columns; the Jacobian is forward-mode autograd's, one sweep a parameter."""

    function: Callable[..., "torch.Tensor"]
    name: str = "tensor (autograd on whole columns)"

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,) at the rows of `columns`, each (n,), for parameters (k,)."""
        with torch.no_grad():
            return self._call(columns, torch.as_tensor(parameters).unbind()).numpy()

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k)."""
        point = torch.tensor(parameters, dtype=torch.float64)

        def whole(p: "torch.Tensor") -> "torch.Tensor":
            return self._call(columns, p.unbind())

        try:
            slopes = torch.func.jacfwd(whole)(point)
        except RuntimeError:  # an operation without forward derivatives, or a branch on a value: row by row, backwards
            slopes = torch.autograd.functional.jacobian(whole, point)
        with torch.no_grad():
            return whole(point).numpy(), np.asfortranarray(slopes.detach().numpy())

    def _call(self, columns: Sequence[Array], parameters: Sequence["torch.Tensor"]) -> "torch.Tensor":
        value = self.function(*(torch.as_tensor(np.ascontiguousarray(c)) for c in columns), *parameters)
        rows = len(columns[0])
        return value.to(torch.float64).expand(rows) if value.dim() == 0 else value.to(torch.float64)


@dataclass(frozen=True)
class DifferenceKernel:
    """A function that only gives values; the Jacobian is a four-point central difference.

    Fornberg (1988), Generation of finite difference formulas, table 1: the error is of fourth order, and a step of
    eps**(1/5) of the parameter makes it about 1e-12 of the value. `lower` and `upper` are never crossed.
    """

    function: Callable[..., object]
    lower: Array | None = None
    upper: Array | None = None
    name: str = "numpy (derivatives by differences)"

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,) at the rows of `columns`, each (n,), for parameters (k,)."""
        with np.errstate(all="ignore"):
            value = np.asarray(self.function(*columns, *parameters.tolist()), np.float64)
        return np.array(np.broadcast_to(value, (len(columns[0]),))) if value.ndim == 0 else value

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k)."""
        centre = self.value(columns, parameters)
        jacobian = np.empty((len(centre), len(parameters)), order="F")
        for j in range(len(parameters)):
            jacobian[:, j] = self._slope(columns, parameters, j, centre)
        return centre, jacobian

    def _slope(self, columns: Sequence[Array], parameters: Array, j: int, centre: Array) -> Array:
        step = np.finfo(float).eps ** 0.2 * (abs(parameters[j]) or 1.0)

        def at(steps: float) -> Array:
            moved = parameters.copy()
            moved[j] += steps * step
            return self.value(columns, moved)

        room = self._room(parameters[j], j)
        if min(room) >= 2 * step:
            return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)
        side = 1.0 if room[1] >= room[0] else -1.0
        step = min(step, max(room) / 4) or step
        return side * (-25 * centre + 48 * at(side) - 36 * at(2 * side) + 16 * at(3 * side) - 3 * at(4 * side)) / (12 * step)

    def _room(self, value: float, j: int) -> tuple[float, float]:
        below = np.inf if self.lower is None else value - self.lower[j]
        above = np.inf if self.upper is None else self.upper[j] - value
        return float(below), float(above)
