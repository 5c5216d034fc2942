"""Optimizers made ready for the compiled loop: the step of torch's own code as a graph, or why there is none."""

from dataclasses import dataclass, replace
from functools import lru_cache

from gradfit._lazy import torch
from gradfit.native.step import Step
from gradfit.solve.descent import Descent, recipe_of, sample_optimizer, title_of, with_rate
from gradfit.solve.optimizers import Maker, needs_closure
from gradfit.trace import UntraceableError
from gradfit.trace.kept_steps import KnownStep, keep_step, key_of_step, recalled_step
from gradfit.trace.optimizer import trace_optimizer


@dataclass(frozen=True, eq=False)
class Ready:
    """An optimizer, made ready: what it is called, its learning rate, and its step or why there is none."""

    make: Maker
    name: str
    title: str
    rate: float
    step: Step | None
    reason: str


@dataclass(frozen=True)
class _Chosen:
    """An optimizer by name or class, with settings that are plain values."""

    optimizer: str | type
    lr: float | None
    settings: tuple[tuple[str, object], ...]
    size: int


def ready_step(descent: Descent, size: int) -> Ready:
    """Return a descent's optimizer for so many parameters, made ready; known ones come from memory or from the disk.

    Raises
    ------
    OptionError
        If there is no such optimizer or setting.
    """
    kind, lr, settings = descent.optimizer, descent.rate, tuple(descent.settings.items())
    if not isinstance(kind, str | type) or not all(_is_plain(value) for _, value in settings):
        return _madeready_step(descent, size)
    if lr is None or isinstance(kind, type):
        return _ready_once(_Chosen(kind, lr, settings, size))
    ready = _ready_once(_Chosen(kind, None, settings, size))  # the step is the same for every learning rate
    return replace(ready, make=_maker(descent, size), title=with_rate(ready.name, lr), rate=lr)


def _maker(descent: Descent, size: int) -> Maker:
    """Return what makes the optimizer; it is looked up when it is called, as only schedulers need one."""
    return lambda leaf: recipe_of(descent, size).make(leaf)


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(part, int | float) for part in value)
    return value is None or isinstance(value, str | int | float)


@lru_cache(maxsize=256)
def _ready_once(chosen: _Chosen) -> Ready:
    """Return an optimizer made ready; one of torch's own that an earlier process has traced comes from the disk."""
    descent = Descent(chosen.optimizer, lr=chosen.lr, settings=dict(chosen.settings))
    if not isinstance(chosen.optimizer, str):
        return _madeready_step(descent, chosen.size)
    key = key_of_step(repr(chosen))
    known = recalled_step(key)
    if known is not None:
        make = _maker(descent, chosen.size)
        return Ready(make, chosen.optimizer, known.title, known.rate, known.step, "")
    ready = _madeready_step(descent, chosen.size)
    if ready.step is not None:
        keep_step(key, KnownStep(ready.title, ready.rate, ready.step))
    return ready


def _madeready_step(descent: Descent, size: int) -> Ready:
    """Return the optimizer with its traced step.

    Raises
    ------
    OptionError
        If there is no such optimizer or setting.
    """
    with torch.inference_mode(mode=False), torch.enable_grad():
        recipe, optimizer = sample_optimizer(descent, size)
        lr: object = optimizer.param_groups[0].get("lr", 0.0)
        name, title = recipe.name, title_of(recipe.name, optimizer, descent)
        step, reason = None, ""
        if recipe.layout != "vector":
            kind = "parameters in a matrix" if recipe.layout == "column" else "sparse gradients"
            reason = f"{name} is for {kind}"
        elif needs_closure(optimizer):
            reason = f"{name} computes the loss several times in each step"
        else:
            try:
                step = trace_optimizer(recipe.make, size)
            except UntraceableError as error:
                reason = f"of {name}, {error.message}"
    rate = float(lr) if isinstance(lr, int | float | torch.Tensor) else 0.0
    return Ready(recipe.make, name, title, rate, step, reason)
