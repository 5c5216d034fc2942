"""Optimizers of torch for all tensors of a module: by name, class, instance or function, as for formulas."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.learn.task import Choice
from gradfit.solve.optimizers import optimizer_recipe

if TYPE_CHECKING:
    from torch import nn  # noqa: TID251  only the names of types
    from torch.optim import Optimizer  # noqa: TID251  only the names of types

_REFUSALS = (AssertionError, RuntimeError, TypeError, ValueError)


def choice_of(
    solver: object, lr: float | None, settings: Mapping[str, object], module: "nn.Module"
) -> Choice:
    """Return the optimizer that was asked for, once it has been made for the module's parameters.

    Raises
    ------
    OptionError
        If there is no such optimizer or setting, or it is not for these parameters.
    """
    parameters = [p for p in module.parameters() if p.requires_grad]
    recipe = optimizer_recipe(solver, lr=lr, settings=settings, size=2, dtype=torch.float32)
    if recipe.layout == "sparse":
        raise OptionError(
            f"{recipe.name} is for sparse gradients, which these layers have not", remedy='Give solver="Adam"'
        )
    shape = (2, 1) if recipe.layout == "column" else (2,)
    probe = recipe.make(torch.zeros(shape).requires_grad_())
    make = _maker(solver, probe, {**settings, **({} if lr is None else {"lr": lr})})
    try:
        made = make(parameters)
    except _REFUSALS as refused:
        raise OptionError(
            f"{recipe.name} cannot train this module: {str(refused).splitlines()[0][:200]}",
            remedy='Give another optimizer, such as solver="AdamW"',
        ) from refused
    named = isinstance(solver, str | type)
    return Choice(recipe.name, make, named, rate_of(made), settings, solver)


def _maker(
    solver: object, probe: "Optimizer", given: Mapping[str, object]
) -> "Callable[[list[nn.Parameter]], Optimizer]":
    if isinstance(solver, torch.optim.Optimizer):
        groups: dict[str, Any] = probe.param_groups[0]
        kept = {name: value for name, value in groups.items() if name in probe.defaults}
        kind: Any = type(probe)
        return lambda parameters: kind(parameters, **kept)
    if isinstance(solver, str | type):
        made: Any = type(probe)
        return lambda parameters: made(parameters, **given)
    function: Any = solver  # the recipe has refused what is none
    return function


def rate_of(optimizer: "Optimizer") -> float:
    """Return the learning rate of an optimizer's first group, NaN where it has none."""
    lr: object = optimizer.param_groups[0].get("lr")
    if isinstance(lr, torch.Tensor):
        return float(lr.item())
    return float(lr) if isinstance(lr, int | float) else float("nan")
