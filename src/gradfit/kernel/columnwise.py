"""Models that are no scalar expression of one row: whole columns at a time, through autograd or by differences."""

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import ShapeError

Array = NDArray[np.float64]
OfParameters = Callable[["torch.Tensor"], "torch.Tensor"]
Way = Callable[[OfParameters, "torch.Tensor"], "torch.Tensor"]

# ---------------------------------------------------------------------------- autograd


@dataclass(frozen=True)
class AutogradKernel:
    """A torch function of whole columns; the Jacobian is autograd's.

    Forward mode costs one sweep a parameter. It is silently zero behind a custom autograd function, so the first Jacobian
    is held against one product in reverse mode, and where they differ reverse mode is used: twice, which costs two sweeps
    a parameter, or where that is impossible row by row.
    """

    function: Callable[..., "torch.Tensor"]
    name: str = "tensor (autograd on whole columns)"
    _proved: list[Way] = field(default_factory=list, repr=False, compare=False)

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,) at the rows of `columns`, each (n,), for parameters (k,)."""
        with torch.no_grad():
            return self._call(columns, torch.tensor(parameters, dtype=torch.float64)).numpy()

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k), stored by column."""
        point = torch.tensor(parameters, dtype=torch.float64)

        def whole(p: "torch.Tensor") -> "torch.Tensor":
            return self._call(columns, p)

        with warnings.catch_warnings():  # vmap tells that it loops where an operation has no batched form
            warnings.simplefilter("ignore", UserWarning)
            slopes = self._jacobian(whole, point)
        return self.value(columns, parameters), np.asfortranarray(slopes.detach().numpy())

    def _jacobian(self, whole: OfParameters, point: "torch.Tensor") -> "torch.Tensor":
        for way in (*self._proved, _forward, _backward_twice):
            try:
                slopes = way(whole, point)
            except (
                RuntimeError,
                NotImplementedError,
            ):  # an operation without such derivatives, a branch on a value
                continue
            if way in self._proved:
                return slopes
            agreed = _agrees(slopes, whole, point)
            if agreed:
                self._proved.append(way)
            if agreed is not False:
                return slopes
        return _row_by_row(whole, point)

    def _call(self, columns: Sequence[Array], parameters: "torch.Tensor") -> "torch.Tensor":
        inputs = (
            torch.tensor(np.ascontiguousarray(c)) for c in columns
        )  # copies: the function may write into them
        value = self.function(*inputs, *parameters.unbind())
        return _one_a_row(value, len(columns[0]) if columns else 1)


def _one_a_row(value: "torch.Tensor", rows: int) -> "torch.Tensor":
    if value.dim() == 0:
        value = value.expand(rows)
    if value.shape != (rows,):
        raise ShapeError(f"the model returned shape {tuple(value.shape)} for {rows} rows")
    return value.to(torch.float64)


def _forward(whole: OfParameters, point: "torch.Tensor") -> "torch.Tensor":
    return torch.func.jacfwd(whole)(point)


def _backward_twice(whole: OfParameters, point: "torch.Tensor") -> "torch.Tensor":
    """Return the Jacobian column by column: vᵀJ is linear in v, and its derivative by v is J."""
    p = point.clone().requires_grad_()
    value = whole(p)
    v = torch.zeros_like(value, requires_grad=True)
    (product,) = torch.autograd.grad(value, p, v, create_graph=True)
    return torch.stack(
        [torch.autograd.grad(part, v, retain_graph=True)[0] for part in product.unbind()], dim=1
    )


def _row_by_row(whole: OfParameters, point: "torch.Tensor") -> "torch.Tensor":
    jacobian = torch.autograd.functional.jacobian(whole, point)
    return jacobian if isinstance(jacobian, torch.Tensor) else jacobian[0]


def _agrees(slopes: "torch.Tensor", whole: OfParameters, point: "torch.Tensor") -> bool | None:
    """Return whether a Jacobian is that of reverse mode, in one product vᵀJ; None where that is not finite."""
    p = point.clone().requires_grad_()
    value = whole(p)
    rows = torch.arange(len(value), dtype=torch.float64)
    v = torch.where(torch.isfinite(slopes).all(dim=1), 1.5 + torch.cos(rows), 0.0)
    if not value.requires_grad:
        return not slopes.any()
    (product,) = torch.autograd.grad(value, p, v, materialize_grads=True)
    if not torch.isfinite(product).all():
        return None
    slopes = torch.nan_to_num(slopes, nan=0.0, posinf=0.0, neginf=0.0)
    return bool((torch.abs(v @ slopes - product) <= 1e-8 * (v @ torch.abs(slopes)) + 1e-300).all())


# ---------------------------------------------------------------------------- differences


@dataclass(frozen=True)
class DifferenceKernel:
    """A function that only gives values; the Jacobian is a four-point central difference.

    The error is of fourth order [1]_, and a step of half of eps**(1/5) of the parameter makes it about 1e-12 of the value.
    `lower` and `upper` are never crossed: beside them the difference is a one-sided one of five points.

    References
    ----------
    .. [1] Fornberg (1988), Generation of finite difference formulas on arbitrarily spaced grids, tables 1 and 3.
    """

    function: Callable[..., object]
    lower: Array | None = None
    upper: Array | None = None
    name: str = "numpy (derivatives by differences)"

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,) at the rows of `columns`, each (n,), for parameters (k,); NaN where it raises.

        Raises
        ------
        ShapeError
            If the function does not return one value a row.
        """
        rows = len(columns[0]) if columns else 1
        try:
            with np.errstate(all="ignore"):
                value = np.asarray(self.function(*(c.copy() for c in columns), *parameters))
        except (ArithmeticError, ValueError):  # math.exp overflows, math.log(-1): no place for a fit to go to
            return np.full(rows, np.nan)
        if value.dtype.kind == "c":
            value = np.where(np.imag(value) == 0, np.real(value), np.nan)
        value = value.astype(np.float64)
        if value.ndim == 0:
            value = np.full(rows, value)
        if value.shape != (rows,):
            raise ShapeError(f"the model returned shape {value.shape} for {rows} rows")
        return value

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives by the parameters (n, k), stored by column."""
        centre = self.value(columns, parameters)
        jacobian = np.empty((len(centre), len(parameters)), order="F")
        for j in range(len(parameters)):
            jacobian[:, j] = self._slope(columns, parameters, j, centre)
        return centre, jacobian

    def _slope(self, columns: Sequence[Array], parameters: Array, j: int, centre: Array) -> Array:
        here = float(parameters[j])
        below, above = self._room(here, j)
        step = 0.5 * np.finfo(float).eps ** 0.2 * (abs(here) or 1.0)
        side = 1.0 if above >= below else -1.0
        central = min(below, above) >= 2 * step
        if not central:
            step = min(0.5 * step, max(below, above) * (0.25 - 1e-9))
        step = abs((here + side * step) - here)  # really added: nothing where the bounds leave no room

        def at(steps: float) -> Array:
            moved = parameters.copy()
            moved[j] = here + steps * step
            return self.value(columns, moved)

        if step == 0:
            return np.zeros_like(centre)
        with np.errstate(all="ignore"):
            if central:
                return (8 * (at(1) - at(-1)) - (at(2) - at(-2))) / (12 * step)
            forward = 48 * at(side) - 36 * at(2 * side) + 16 * at(3 * side) - 3 * at(4 * side)
            return side * (forward - 25 * centre) / (12 * step)

    def _room(self, value: float, j: int) -> tuple[float, float]:
        below = np.inf if self.lower is None else value - self.lower[j]
        above = np.inf if self.upper is None else self.upper[j] - value
        return float(below), float(above)
