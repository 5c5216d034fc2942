"""The problem that solvers see: weighted residuals of a compiled model, as a function of its free parameters."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import linalg
from gradfit.loss import deviance_residuals
from gradfit.native.small import SmallFits

Array = NDArray[np.float64]


class Model(Protocol):
    """What a kernel offers here."""

    @property
    def name(self) -> str:
        """What runs it."""
        ...

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (n,)."""
        ...

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (n,) and its derivatives (n, k)."""
        ...


class ModelProblem(NamedTuple):
    """Residuals (f - y) * weight, or L⁻¹(f - y) for errors with covariance L Lᵀ; of counts the deviance residuals.

    Attributes
    ----------
    model : Model
        The kernel.
    columns : sequence of (n,)
        Inputs, in the kernel's order.
    y : (n,)
        Observed values.
    weight : (n,), (n, n) or None
        1/sigma or the square root of the weights; for correlated errors the lower Cholesky factor of their covariance.
    template : (k,)
        All parameters; the fixed ones stay as they are here.
    free : (f,) int or None
        Which of them are free; None: all.
    wide : Model or None
        What evaluates the model in long double, where there is such a kernel.
    small : SmallFits or None
        What fits it in one compiled call, where that is allowed.
    counts : bool
        Whether y counts events with mean f: residuals are then weight * sign(f - y) sqrt(2 (f - y + y log(y/f))), whose
        squares add up to the deviance, and no number where f is not positive.
    """

    model: Model
    columns: Sequence[Array]
    y: Array
    weight: Array | None
    template: Array
    free: NDArray[np.int64] | None = None
    wide: Model | None = None
    small: SmallFits | None = None
    counts: bool = False

    def quadratic(self) -> "ModelProblem":
        """Return the least-squares problem that is like this one: counts as if their variance were max(y, 1)."""
        if not self.counts:
            return self
        size = 1 / np.sqrt(np.maximum(self.y, 1.0))
        return self._replace(weight=size if self.weight is None else self.weight * size, counts=False)

    def whole(self, parameters: Array) -> Array:
        """Return all parameters (k,) for the free ones (f,)."""
        if self.free is None:
            return parameters
        whole = self.template.copy()
        whole[self.free] = parameters
        return whole

    def residual_jacobian(self, parameters: Array) -> tuple[Array, Array]:
        """Return the weighted residuals (n,) and their derivatives (n, f); NaN where no derivative can be had."""
        whole = self.whole(parameters)
        value, jacobian = self.model.value_jacobian(self.columns, whole)
        if self.free is not None:
            jacobian = jacobian[:, self.free]
        residuals = value - self.y
        if np.count_nonzero(np.isfinite(jacobian)) < jacobian.size:  # a third of the cost of all()
            jacobian = self._mended(value, jacobian, parameters)
            if not np.isfinite(jacobian).all():
                return np.full_like(residuals, np.nan), jacobian
        if self.counts:
            residuals, slope = deviance_residuals(self.y, value)
            jacobian = jacobian * slope[:, None]
        return self.weighted(residuals), self._weighted_columns(jacobian)

    def precise_gradient(self, parameters: Array) -> Array | None:
        """Return Jᵀr (f,) evaluated and summed in long double; None where the model has no such evaluation."""
        if self.wide is None or self.counts or (self.weight is not None and self.weight.ndim > 1):
            return None
        try:
            wide = [np.asarray(c, dtype=np.longdouble) for c in self.columns]
            value, jacobian = self.wide.value_jacobian(wide, self.whole(parameters).astype(np.longdouble))  # pyright: ignore[reportArgumentType]  # wider floats
        except TypeError:  # a special function without long double
            return None
        if value.dtype != np.longdouble:
            return None
        residuals = value - self.y
        if self.weight is not None:
            residuals = residuals * self.weight.astype(np.longdouble) ** 2
        jacobian = jacobian if self.free is None else jacobian[:, self.free]
        return np.asarray(jacobian.T @ residuals, dtype=np.float64)

    def residual(self, parameters: Array) -> Array:
        """Return the weighted residuals (n,)."""
        value = self.model.value(self.columns, self.whole(parameters))
        return self.weighted(deviance_residuals(self.y, value)[0] if self.counts else value - self.y)

    def weighted(self, residuals: Array) -> Array:
        """Return residuals in units of their standard deviation; with correlated errors, made independent."""
        if self.weight is None:
            return residuals
        if self.weight.ndim == 1:
            return residuals * self.weight
        return linalg.solve_triangular(self.weight, residuals, lower=True, check_finite=False)

    def _weighted_columns(self, jacobian: Array) -> Array:
        if self.weight is None:
            return jacobian
        if self.weight.ndim == 1:
            return jacobian * self.weight[:, None]
        return np.asfortranarray(
            linalg.solve_triangular(self.weight, jacobian, lower=True, check_finite=False)
        )

    def _mended(self, value: Array, jacobian: Array, parameters: Array) -> Array:
        """Return differences for derivatives that read 0 * inf or inf - inf although the model is finite.

        (x/c)**b at x = 0 with b < 1 is one: its derivative by c is 0, its text is 0 * inf.
        """
        if not np.isfinite(value).all():
            return jacobian
        jacobian = jacobian.copy(order="F")
        for j in np.flatnonzero(~np.isfinite(jacobian).all(axis=0)):
            bad = ~np.isfinite(jacobian[:, j])
            step = 6e-6 * (abs(parameters[j]) or 1.0)
            sides = []
            for sign in (1, -1):
                moved = parameters.copy()
                moved[j] += sign * step
                sides.append(self.model.value(self.columns, self.whole(moved))[bad])
            jacobian[bad, j] = (sides[0] - sides[1]) / (2 * step)
        return jacobian
