"""Penalties on the weights of a module, as a function that is added to its loss."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.penalty import penalty_of

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types


def shrinking(given: Any) -> "Callable[[nn.Module], Tensor] | None":
    """Return the penalty that is added to the loss of a module: of its weights, not of its biases.

    With weights w it is strength times half the sum of w² (ridge), the sum of |w| (lasso), or both in their ratio.

    Raises
    ------
    OptionError
        If there is no such penalty for a network, or it has no strength.
    """
    if callable(given):
        function: Any = given
        return function
    penalty = penalty_of(given)
    if penalty is None:
        return None
    if penalty.kind == "smooth" or penalty.parameters is not None:
        raise OptionError(
            "The weights of a network have no order and no names to penalise by",
            remedy='Give penalty="ridge:0.01"',
        )
    if not isinstance(penalty.strength, int | float):
        raise OptionError(
            f'penalty="{penalty.kind}" of a network needs a strength',
            remedy=f'Give penalty="{penalty.kind}:0.01"',
        )
    strength = float(penalty.strength)
    lasso = penalty.share

    def value(module: "nn.Module") -> "Tensor":
        weights = [p for p in module.parameters() if p.requires_grad and p.ndim > 1]
        total = (
            torch.zeros((), device=weights[0].device, dtype=weights[0].dtype) if weights else torch.zeros(())
        )
        for w in weights:
            total = total + lasso * w.abs().sum() + (1 - lasso) / 2 * (w * w).sum()
        return strength * total

    return value
