"""Which steps of an optimizer are stable, and how fast each direction of a quadratic shrinks under it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.solve.curvature import Extremes, extremes_by_products, hessian_product, joined

Array = NDArray[np.float64]

FOREVER = 1e15  # epochs; more is said to be without end


@dataclass(frozen=True)
class Law:
    """How an optimizer moves along a direction of curvature λ: a recursion of two terms, as it is for those of the SGD family.

    Attributes
    ----------
    momentum : float
        β, the share of the last step that is kept; of Adam and its kin β1.
    dampening : float
        The share of the gradient that is left out of the momentum; of Adam and its kin β1 as well.
    nesterov : bool
        Whether the gradient is taken ahead.
    decay : float
        L2 decay of the weights, which adds to every curvature.
    adaptive : bool
        Whether the gradient is divided by its size so far: then λ is a curvature of the Hessian that is divided so on both
        sides, and the law holds while that size hardly changes (a frozen preconditioner).
    """

    momentum: float = 0.0
    dampening: float = 0.0
    nesterov: bool = False
    decay: float = 0.0
    adaptive: bool = False

    def limit(self, curvature: float) -> float:
        """Return the largest stable learning rate: 2(1+β)/λ, with Nesterov's gradient 2(1+β)/((1+2β)λ).

        Infinite where nothing bends upwards.

        References
        ----------
        .. [1] Polyak (1964): the heavy ball. Cohen et al. (2022), arXiv:2207.14484: 2(1+β1)/((1-β1)λ) of Adam.

        Examples
        --------
        >>> Law().limit(4.0), Law(momentum=0.5).limit(4.0), Law(momentum=0.5, nesterov=True).limit(4.0)
        (0.5, 0.75, 0.375)
        >>> round(Law(momentum=0.9, dampening=0.9, adaptive=True).limit(1.0), 9)
        38.0
        """
        bend = curvature + self.decay
        if not bend > 0:
            return np.inf
        ahead = 1 + 2 * self.momentum if self.nesterov else 1 - self.dampening
        return 2 * (1 + self.momentum) / ahead / bend

    def shrinkage(self, steps: Array) -> Array:
        """Return by what factor a direction's distance changes in each update, in the long run; above 1 it grows.

        Parameters
        ----------
        steps : (k,)
            Learning rate times curvature of each direction.
        """
        beta = self.momentum
        x = np.asarray(steps, dtype=np.float64) * (1 if self.nesterov else 1 - self.dampening)
        sum_, product = (1 + beta - x, np.full_like(x, beta))
        if self.nesterov:
            sum_, product = (1 + beta) * (1 - x), beta * (1 - x)
        root = np.sqrt((sum_ * sum_ / 4 - product).astype(np.complex128))  # of z² - sum z + product = 0
        return np.maximum(np.abs(sum_ / 2 + root), np.abs(sum_ / 2 - root))

    def epochs(
        self, gains: Array, curvatures: Array, rate: float, *, tolerance: float, updates: int = 1
    ) -> float:
        """Return how many epochs are left until the loss is within a tolerance of the minimum; infinite if it never is.

        Parameters
        ----------
        gains : (k,)
            What each eigendirection of the Hessian has left to gain, (v·g)²/(2λ).
        curvatures : (k,)
            Its λ.
        rate : float
            Learning rate.
        tolerance : float
            Of the loss.
        updates : int
            In one epoch.
        """
        logs = 2 * updates * np.log(np.maximum(self.shrinkage(rate * (curvatures + self.decay)), 1e-300))
        left = gains[logs >= 0].sum()
        if not tolerance > 0 or not left < tolerance:
            return np.inf

        def over(epochs: float) -> bool:
            return float(np.sum(gains * np.exp(logs * epochs))) > tolerance

        low, high = 0.0, 1.0
        while over(high):
            low, high = high, 2 * high
            if high > FOREVER:
                return np.inf
        for _ in range(50):
            middle = (low + high) / 2
            low, high = (middle, high) if over(middle) else (low, middle)
        return high if over(0.0) else 0.0


@dataclass(frozen=True, eq=False)
class Forecast:
    """How many epochs an optimizer still needs where a loss is nearly a quadratic.

    Attributes
    ----------
    law : Law
        Of the optimizer.
    rate : float
        Its learning rate.
    units : (k, k)
        What takes a gradient into the units that the optimizer works in.
    unit : float
        By which residuals are divided there.
    enough : float
        How far above its minimum, relative to it, a loss counts as converged.
    updates : int
        Steps in an epoch.
    """

    law: Law
    rate: float
    units: Array
    unit: float
    enough: float
    updates: int

    def epochs(self, gradient: Array, hessian: Array, loss: float) -> float:
        """Return them from gradient (k,), Hessian (k, k) and loss; infinite where there is no minimum or no way to it."""
        T, loss = self.units / self.unit, loss / self.unit**2
        values, vectors = np.linalg.eigh(T.T @ hessian @ T)
        if not values[0] > 0:
            return np.inf
        gains = (vectors.T @ (T.T @ gradient)) ** 2 / (2 * values)
        near = max(self.enough * (loss - float(gains.sum())), 1e-12 * loss)
        return self.law.epochs(gains, values, self.rate, tolerance=near, updates=self.updates)


_MOMENTA = ("SGD", "ASGD", "RMSprop")
_BETAS = ("Adam", "AdamW", "Adamax", "NAdam", "RAdam")
_ADAPTIVE = ("RMSprop", "Adagrad", *_BETAS)


def law_of(name: str, settings: Mapping[str, object]) -> Law | None:
    """Return the law of an optimizer of torch; None where none is known, such as for Rprop, Adadelta or LBFGS.

    Parameters
    ----------
    name : str
        Of its class.
    settings : mapping
        Its settings, by torch's names; what is left out is torch's default.
    """
    if name not in (*_MOMENTA, *_ADAPTIVE):
        return None
    beta, dampening = _number(settings.get("momentum")), _number(settings.get("dampening"))
    if name in _BETAS:
        betas = settings.get("betas", (0.9, 0.999))
        beta = dampening = _number(betas[0]) if isinstance(betas, Sequence) else 0.9
    decay = 0.0 if name == "AdamW" else _number(settings.get("weight_decay"))
    adaptive = name in _ADAPTIVE
    return Law(beta, dampening, bool(settings.get("nesterov")), 0.0 if adaptive else decay, adaptive)


def _number(value: object) -> float:
    if isinstance(value, torch.Tensor):
        return float(value)
    return float(value) if isinstance(value, int | float) else 0.0


@dataclass(frozen=True)
class StableStep:
    """The largest stable step of an optimizer where a torch loss is now.

    Attributes
    ----------
    limit : float
        The learning rate beyond which the steepest direction grows; infinite where nothing bends upwards.
    extremes : Extremes
        The ends of the spectrum, preconditioned as the optimizer does it.
    law : Law
        Of the optimizer.
    """

    limit: float
    extremes: Extremes
    law: Law


def stable_step(
    loss: Callable[[], torch.Tensor],
    optimizer: torch.optim.Optimizer,
    *,
    seed: int = 0,
) -> StableStep | None:
    """Return the largest stable step of an optimizer on a torch loss, by Hessian-vector products at the present weights.

    An adaptive optimizer's own averages are read: before its first step there are none, and the answer is None, as where
    no law is known, or torch cannot differentiate the loss twice. Weights, gradients and the optimizer stay as they are.

    Parameters
    ----------
    loss : callable
        Returns the scalar loss, over all rows or one batch.
    optimizer : torch.optim.Optimizer
        Whose parameters the loss depends on.
    seed : int
        Of Lanczos' first vector.
    """
    group: dict[str, Any] = optimizer.param_groups[0]
    law = law_of(type(optimizer).__name__, group)
    tensors: list[torch.Tensor] = [t for g in optimizer.param_groups for t in g["params"] if t.requires_grad]
    divisor = None if law is None else _divisor(optimizer, tensors) if law.adaptive else np.ones(1)
    if law is None or divisor is None:
        return None
    half = 1 / np.sqrt(divisor)
    try:
        product = hessian_product(loss, tensors)
        size = sum(t.numel() for t in tensors)
        ends = extremes_by_products(lambda v: half * product(half * v), size, seed=seed)
    except (RuntimeError, np.linalg.LinAlgError):  # no second derivative, or it is not finite
        return None
    return StableStep(law.limit(ends.largest), ends, law) if np.isfinite(ends.largest) else None


def _divisor(optimizer: torch.optim.Optimizer, tensors: Sequence[torch.Tensor]) -> Array | None:
    """Return what an adaptive optimizer divides the gradient by now (k,), None before its first step."""
    parts: list[Array] = []
    for tensor in tensors:
        state: Mapping[str, Any] = optimizer.state.get(tensor) or {}
        group: Mapping[str, Any] = next(
            g for g in optimizer.param_groups if any(t is tensor for t in g["params"])
        )
        part = _divisor_of(state, group)
        if part is None:
            return None
        parts.append(part)
    return np.maximum(np.concatenate(parts), 1e-300)


def _divisor_of(state: Mapping[str, Any], group: Mapping[str, Any]) -> Array | None:
    eps = float(group.get("eps", 0.0))
    if "exp_inf" in state:
        return joined([state["exp_inf"]])
    for name in ("max_exp_avg_sq", "exp_avg_sq", "square_avg", "sum"):
        if name in state:
            square = joined([state[name]])
            correction = 1.0
            if "exp_avg_sq" in state:
                correction = 1 - float(group["betas"][1]) ** _number(state["step"])
            if group.get("centered"):
                square = square - joined([state["grad_avg"]]) ** 2
            return np.sqrt(np.maximum(square, 0.0) / correction) + eps
    return None
