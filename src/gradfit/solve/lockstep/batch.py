"""Many fits of one model: what every executor takes and returns, and the sums over the points that all of them need."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special
from gradfit.loss import Loss, rho

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

STATUS = (
    "converged", "max-iterations", "singular", "too-few-points", "non-finite", "stalled", "negative-counts",
)  # fmt: skip
CONVERGED, MAX_ITERATIONS, SINGULAR, TOO_FEW, NON_FINITE, STALLED, NEGATIVE = range(len(STATUS))

PIECE = (
    4096  # points summed in one go: NumPy splits longer rows at places that depend on the rows beside them
)


@dataclass(frozen=True, eq=False)
class Batch:
    """The data of m fits of one model.

    Attributes
    ----------
    columns : tuple of (n,) or (m, n)
        Inputs, in the kernel's order: shared by all fits, or one row a fit.
    y : (m, n)
        Observed values.
    weight : (n,) or (m, n), optional
        What residuals are multiplied by. 0: there is no such point (a missing one, or the end of a shorter fit); whatever
        stands in its place is not looked at, as long as it is a number.
    """

    columns: tuple[Array, ...]
    y: Array
    weight: Array | None = None

    def rows(self, which: NDArray[np.int64] | Mask | slice) -> "Batch":
        """Return the data of some of the fits."""
        weight = self.weight
        return Batch(
            tuple(c[which] if c.ndim == 2 else c for c in self.columns),
            np.ascontiguousarray(self.y[which]),
            weight[which] if weight is not None and weight.ndim == 2 else weight,
        )

    def joined(self, more: "Batch") -> "Batch":
        """Return these fits followed by others that share what these share."""
        weight = self.weight
        if weight is not None and more.weight is not None and weight.ndim == 2:
            weight = np.concatenate([weight, more.weight])
        columns = [
            np.concatenate([a, b]) if a.ndim == 2 else a
            for a, b in zip(self.columns, more.columns, strict=True)
        ]
        return Batch(tuple(columns), np.concatenate([self.y, more.y]), weight)

    def points(self) -> NDArray[np.int32]:
        """Return how many points (m,) each fit has."""
        m, n = self.y.shape
        if self.weight is None:
            return np.full(m, n, dtype=np.int32)
        used = np.count_nonzero(self.weight, axis=-1)
        return np.broadcast_to(used, (m,)).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Cost:
    """What is made small, for each fit on its own.

    Attributes
    ----------
    name : str
        "squared": the sum of squares. "poisson": the deviance 2 Σ w² (f - y + y log(y/f)) of counts, whose minimum is
        the maximum of the likelihood. Else the name of a robust loss.
    scale : float or (m,), optional
        Of a robust loss, as in `Loss`.
    """

    name: str = "squared"
    scale: float | Array | None = None

    def rows(self, which: NDArray[np.int64] | Mask | slice) -> "Cost":
        """Return the cost of some of the fits."""
        return replace(self, scale=self.scale[which]) if isinstance(self.scale, np.ndarray) else self

    def joined(self, more: "Cost") -> "Cost":
        """Return the cost of these fits followed by others."""
        if isinstance(self.scale, np.ndarray) and isinstance(more.scale, np.ndarray):
            return replace(self, scale=np.concatenate([self.scale, more.scale]))
        return self

    @property
    def robust(self) -> bool:
        """Whether large residuals count less than their square."""
        return self.name not in ("squared", "poisson")


@dataclass(frozen=True)
class Settings:
    """How many fits are solved.

    Parameters
    ----------
    max_iterations : int
        Steps at most for each fit, refused ones included.
    tolerance : float
        How far the parameters may be from the minimum, in standard errors.
    damping : float
        At the start, relative to columns of length 1.
    absolute : bool
        Whether weights are 1/sigma with sigma known, so that standard errors are not scaled by the scatter that is found.
    threads : int, optional
        At most; None leaves it to the executor.
    dtype : {"float64", "float32"}
        Of machine code's numbers, and of the model's in torch. With float32 parameters are within 0.005 standard errors of
        those with float64; fits that it leaves fewer digits are made in float64 by machine code.
    """

    max_iterations: int = 200
    tolerance: float = 1e-10
    damping: float = 1e-2
    absolute: bool = False
    threads: int | None = None
    dtype: str = "float64"


@dataclass(frozen=True, eq=False)
class Ends:
    """Where m fits ended, one row a fit.

    Attributes
    ----------
    parameters : (m, k)
        All parameters; NaN where the fit could not be made.
    stderr : (m, k)
        Standard errors; NaN for a parameter that was fixed, sits on a bound or is not determined.
    rss : (m,)
        What was made small: the weighted sum of squares, the deviance of counts, the sum of a robust loss.
    iterations : (m,) int32
        Steps, refused ones included.
    status : (m,) int8
        Index into STATUS. "singular": a minimum, but the data do not determine every parameter there.
    points : (m,) int32
        Points that were used.
    """

    parameters: Array
    stderr: Array
    rss: Array
    iterations: NDArray[np.int32]
    status: NDArray[np.int8]
    points: NDArray[np.int32]

    @classmethod
    def blank(cls, m: int, k: int) -> "Ends":
        """Return room for m fits of k parameters that no fit has been put into."""
        return cls(
            np.full((m, k), np.nan),
            np.full((m, k), np.nan),
            np.full(m, np.nan),
            np.zeros(m, dtype=np.int32),
            np.full(m, NON_FINITE, dtype=np.int8),
            np.zeros(m, dtype=np.int32),
        )

    def put(self, where: NDArray[np.int64] | Mask | slice, ends: "Ends") -> None:
        """Write other fits' ends into these rows."""
        for name in ("parameters", "stderr", "rss", "iterations", "status", "points"):
            getattr(self, name)[where] = getattr(ends, name)

    def rows(self, which: NDArray[np.int64] | Mask | slice) -> "Ends":
        """Return some of the fits."""
        return Ends(
            self.parameters[which],
            self.stderr[which],
            self.rss[which],
            self.iterations[which],
            self.status[which],
            self.points[which],
        )


class Kernel(Protocol):
    """What evaluates a model for many sets of parameters."""

    def value(self, columns: Sequence[Array], parameters: Array) -> Array:
        """Return the model (m, n) for parameters (k, m, 1)."""
        ...

    def value_jacobian(self, columns: Sequence[Array], parameters: Array) -> tuple[Array, Array]:
        """Return the model (m, n) and its derivatives (k, m, n)."""
        ...


class Solve(Protocol):
    """The call that every executor of many fits answers."""

    def __call__(
        self,
        kernel: Kernel,
        batch: Batch,
        start: Array,
        *,
        free: NDArray[np.int64],
        lower: Array,
        upper: Array,
        loss: Cost,
        settings: Settings,
    ) -> Ends:
        """Return where each fit ended; no fit raises an error or changes another one's bits.

        Executors of graphs take the graph in the kernel's place.

        Parameters
        ----------
        kernel : Kernel
            The model; `kernel.graph` holds its graph where it was traced.
        batch : Batch
            The data, finite throughout.
        start : (m, k) or (1, k)
            All parameters, the fixed ones at their values. NaN: a free parameter that enters linearly, and is first solved
            in closed form for the others.
        free : (f,) int
            Which parameters are fitted.
        lower, upper : (k,)
            Bounds, infinite where there is none.
        """
        ...


# ---------------------------------------------------------------------------- sums over points


@dataclass(frozen=True, eq=False)
class Sums:
    """What a step needs of m fits: sums over their points.

    Attributes
    ----------
    cost : (m,)
        Infinite or NaN where the model is not finite.
    gram : (f, f, m)
        JᵀJ, of the least-squares problem with the cost's gradient and curvature.
    gradient : (f, m)
        Jᵀr of it: half the gradient of the cost.
    """

    cost: Array
    gram: Array
    gradient: Array

    @property
    def finite(self) -> Mask:
        """Whether everything is a number (m,)."""
        whole = np.isfinite(self.cost)
        for i in range(len(self.gradient)):
            whole &= np.isfinite(self.gradient[i])
            for j in range(i + 1):
                whole &= np.isfinite(self.gram[i, j])
        return whole

    def rows(self, which: NDArray[np.int64] | Mask) -> "Sums":
        """Return the sums of some of the fits."""
        return Sums(self.cost[which], self.gram[:, :, which], self.gradient[:, which])

    def joined(self, more: "Sums") -> "Sums":
        """Return these sums followed by others."""
        return Sums(
            np.concatenate([self.cost, more.cost]),
            np.concatenate([self.gram, more.gram], axis=2),
            np.concatenate([self.gradient, more.gradient], axis=1),
        )

    def chosen(self, mask: Mask, other: "Sums") -> "Sums":
        """Return the other's sums where the mask holds, these elsewhere."""
        return Sums(
            np.where(mask, other.cost, self.cost),
            np.where(mask, other.gram, self.gram),
            np.where(mask, other.gradient, self.gradient),
        )


def dots(a: Array, b: Array) -> Array:
    """Return the sums (m,) of products of rows (m, n), with bits that do not depend on the other rows."""
    total = np.einsum("mn,mn->m", a[:, :PIECE], b[:, :PIECE])
    for i in range(PIECE, a.shape[1], PIECE):
        total += np.einsum("mn,mn->m", a[:, i : i + PIECE], b[:, i : i + PIECE])
    return total


def residuals_jacobian(
    kernel: Kernel, batch: Batch, parameters: Array, free: NDArray[np.int64]
) -> tuple[Array, Array, Array]:
    """Return the model (m, n), the plain residuals f - y (m, n) and derivatives (f, m, n), for parameters (k, m).

    Points of weight 0 have residuals and derivatives of 0. A derivative that is no number although the model is one,
    0 * inf as in (x/c)**b at x = 0, is replaced by a difference.
    """
    value, whole = kernel.value_jacobian(batch.columns, parameters[:, :, None])
    jacobian = whole if len(free) == len(whole) else whole[free]
    residuals = value - batch.y
    if batch.weight is not None:
        hole = np.broadcast_to(batch.weight == 0, residuals.shape)
        if hole.any():
            residuals[hole] = 0.0
            jacobian[:, hole] = 0.0
    if not np.isfinite(np.sum(jacobian)):
        _mend(kernel, batch, parameters, free, jacobian)
    return value, residuals, jacobian


def _mend(  # noqa: PLR0917  one caller, which has these by name
    kernel: Kernel, batch: Batch, parameters: Array, free: NDArray[np.int64], jacobian: Array
) -> None:
    for i, j in enumerate(free):
        bad = ~np.isfinite(jacobian[i])
        which = np.flatnonzero(bad.any(axis=1))
        if not len(which):
            continue
        rows, p = batch.rows(which), parameters[:, which]
        step = 6e-6 * np.where(p[j] == 0, 1.0, np.abs(p[j]))
        sides = list[Array]()
        for sign in (1, -1):
            moved = p.copy()
            moved[j] += sign * step
            sides.append(kernel.value(rows.columns, moved[:, :, None]))
        with np.errstate(all="ignore"):
            slope = (sides[0] - sides[1]) / (2 * step)[:, None]
        part = jacobian[i, which]
        part[bad[which]] = slope[bad[which]]
        jacobian[i, which] = part


def sums(kernel: Kernel, batch: Batch, parameters: Array, *, free: NDArray[np.int64], loss: Cost) -> Sums:
    """Return the sums over the points of each fit at parameters (k, m)."""
    value, residuals, jacobian = residuals_jacobian(kernel, batch, parameters, free)
    if loss.name == "poisson":
        total, residuals = _counts(batch, value, residuals, jacobian)
    else:
        if batch.weight is not None:
            residuals *= batch.weight
            jacobian *= batch.weight
        total = dots(residuals, residuals)
        if loss.robust:
            total, residuals = _robust(loss, residuals, jacobian)
    f = len(free)
    gram, gradient = np.empty((f, f, len(total))), np.empty((f, len(total)))
    for i in range(f):
        gradient[i] = dots(jacobian[i], residuals)
        for j in range(i + 1):
            gram[i, j] = dots(jacobian[i], jacobian[j])
            gram[j, i] = gram[i, j]
    return Sums(total, gram, gradient)


def _counts(batch: Batch, value: Array, residuals: Array, jacobian: Array) -> tuple[Array, Array]:
    """Return the deviance (m,) and residuals of its quadratic model; the Jacobian is scaled in place.

    Fisher scoring: the curvature is the expected one, 1/f at each point.
    """
    weight = np.ones(value.shape[1]) if batch.weight is None else batch.weight
    safe = np.where(weight == 0, 1.0, value)
    usable = safe > 0
    safe = np.where(usable, safe, 1.0)
    y = np.where(weight == 0, 0.0, batch.y)
    deviance = residuals + special.xlogy(y, y / safe)
    lost = ~usable & ~((safe == 0) & (y == 0))
    total = 2 * dots(weight * weight + np.zeros_like(deviance), np.where(weight == 0, 0.0, deviance))
    scale = weight / np.sqrt(safe)
    jacobian *= scale
    return np.where(lost.any(axis=1), np.inf, np.maximum(total, 0.0)), residuals * scale


def _robust(cost: Cost, residuals: Array, jacobian: Array) -> tuple[Array, Array]:
    """Return the robust cost (m,) and the residuals of its quadratic model; the Jacobian is scaled in place."""
    scale = np.broadcast_to(np.asarray(1.0 if cost.scale is None else cost.scale), residuals.shape[:1])[
        :, None
    ]
    u = residuals / scale
    each = rho(cost.name, u * u)[0]
    total = scale[:, 0] ** 2 * dots(each, np.ones_like(each))
    flat, weight = Loss(cost.name, 1.0).linearised(u.reshape(-1), np.ones((u.size, 1)))
    jacobian *= weight.reshape(u.shape)
    return total, flat.reshape(u.shape) * scale
