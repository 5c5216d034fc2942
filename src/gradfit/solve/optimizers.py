"""Optimizers and schedulers of torch, by name, class, instance or function, made ready for one vector of parameters."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.notation import listing

Layout = Literal["vector", "column", "sparse"]
LAYOUTS: tuple[Layout, ...] = ("vector", "column", "sparse")
Maker = Callable[["torch.Tensor"], "torch.optim.Optimizer"]
_REFUSALS = (
    AssertionError,
    RuntimeError,
    TypeError,
    ValueError,
)  # what torch raises for a setting it does not take


@dataclass(frozen=True)
class Recipe:
    """How an optimizer is made for a tensor, and which form of the parameters it works on.

    Attributes
    ----------
    name : str
        Of its class.
    make : callable
        Returns a new optimizer for the tensor it is given.
    layout : str
        "vector": parameters (k,). "column": (k, 1), for optimizers of matrices such as Muon. "sparse": (k,) with a
        sparse gradient, for SparseAdam.
    """

    name: str
    make: Maker
    layout: Layout


class Schedule(NamedTuple):
    """What is called with the loss after every epoch to change the learning rate, and whether it looks at that loss."""

    tell: Callable[[float], object]
    wants_loss: bool


def optimizer_names() -> tuple[str, ...]:
    """Return the name of every optimizer class of the installed torch.optim."""
    return tuple(sorted(_classes(vars(torch.optim).values(), torch.optim.Optimizer)))


def scheduler_names() -> tuple[str, ...]:
    """Return the name of every class of torch.optim.lr_scheduler that needs an optimizer and plain settings."""
    module = torch.optim.lr_scheduler
    found = _classes(vars(module).values(), module.LRScheduler)
    plain = {name for name, kind in found.items() if "schedulers" not in inspect.signature(kind).parameters}
    return tuple(sorted(name for name in plain if not name.startswith("_")))


def optimizer_recipe(
    optimizer: object, *, lr: float | None, settings: Mapping[str, object], size: int, dtype: torch.dtype
) -> Recipe:
    """Return how to make the optimizer that a name, class, instance or function stands for.

    Which layout it takes is tried on a throw-away tensor, so that wrong settings are refused before the first loss.

    Parameters
    ----------
    optimizer : str, type, torch.optim.Optimizer or callable
        Of an instance the class and the settings are taken; it and its tensors stay as they are. A function gets a
        list with one tensor, more than once, and returns a new optimizer each time.
    lr : float or None
        The learning rate; None leaves it to the optimizer.
    settings : mapping
        The optimizer's other keyword arguments.
    size : int
        k, the number of parameters.
    dtype : torch.dtype
        Of the parameters.

    Raises
    ------
    OptionError
        If there is no such optimizer or setting, or torch refuses the settings.
    """
    given = dict(settings) if lr is None else {**settings, "lr": lr}
    if isinstance(optimizer, str):
        kind = _named(optimizer, "optimizer", optimizer_names(), torch.optim)
        name, make = optimizer, _class_maker(kind, given)
    elif isinstance(optimizer, torch.optim.Optimizer):
        name, make = (
            type(optimizer).__name__,
            _class_maker(type(optimizer), {**_settings_of(optimizer), **given}),
        )
    elif isinstance(optimizer, type):
        name, make = optimizer.__name__, _class_maker(optimizer, given)
    elif callable(optimizer):
        name, make = getattr(optimizer, "__name__", "optimizer"), _function_maker(optimizer, given)
    else:
        raise OptionError(
            f"The optimizer is {optimizer!r}, which is not a name, class, instance or function.",
            remedy=f"Give one of {listing(optimizer_names(), 'or', 20)}.",
        )
    return _tried(name, make, size, dtype)


def needs_closure(optimizer: torch.optim.Optimizer) -> bool:
    """Return whether `step` must be given a function that computes the loss anew, as LBFGS does."""
    closure = inspect.signature(optimizer.step).parameters.get("closure")
    return closure is not None and _required(closure)


def schedule(
    scheduler: object, *, settings: Mapping[str, object], optimizer: torch.optim.Optimizer, epochs: int
) -> Schedule:
    """Return what changes the learning rate after every epoch.

    Parameters
    ----------
    scheduler : None, str, type or callable
        A name of torch.optim.lr_scheduler, a class, or a function of the optimizer. A scheduler whose `step` asks
        for a metric (ReduceLROnPlateau) gets the loss.
    settings : mapping
        The scheduler's keyword arguments, for a name or a class.
    optimizer : torch.optim.Optimizer
        Whose learning rate it sets.
    epochs : int
        How often it will be called.

    Raises
    ------
    OptionError
        If there is no such scheduler or setting, torch refuses the settings, or it ends before the last epoch.
    """
    if scheduler is None:
        if settings:
            raise OptionError(
                f"scheduler_settings has {listing(tuple(settings))}, but there is no scheduler.",
                remedy='Name one, such as scheduler="ExponentialLR".',
            )
        return Schedule(lambda _loss: None, wants_loss=False)
    made = _scheduler(scheduler, settings, optimizer)
    total = getattr(made, "total_steps", None)
    if isinstance(total, int) and total < epochs:
        raise OptionError(
            f"{type(made).__name__} ends after {total} steps, before the last of {epochs} epochs.",
            remedy=f"Give total_steps={epochs}.",
        )
    step = getattr(made, "step", None)
    if not callable(step):
        raise OptionError(
            f"The scheduler function returned {type(made).__name__}, which has no step().",
            remedy="Return a scheduler of torch.optim.lr_scheduler.",
        )
    asked = inspect.signature(step).parameters.values()
    wants_loss = any(_required(argument) for argument in asked)
    return Schedule(step if wants_loss else lambda _loss: step(), wants_loss)


def _scheduler(scheduler: object, settings: Mapping[str, object], optimizer: torch.optim.Optimizer) -> object:
    kind = scheduler
    if isinstance(scheduler, str):
        kind = _named(scheduler, "scheduler", scheduler_names(), torch.optim.lr_scheduler)
    if isinstance(kind, type):
        _check_settings(kind, settings)
    elif settings:
        raise OptionError(
            f"scheduler_settings has {listing(tuple(settings))}, but the scheduler is a function.",
            remedy="Let the function set them, for example by functools.partial.",
        )
    if not callable(kind):
        raise OptionError(
            f"The scheduler is {scheduler!r}, which is not a name, class or function.",
            remedy=f"Give one of {listing(scheduler_names(), 'or', 20)}.",
        )
    try:
        return kind(optimizer, **settings)
    except _REFUSALS as refusal:
        name = getattr(kind, "__name__", "The scheduler")
        raise OptionError(
            f"{name} cannot be made with {_written(settings)}: {refusal}",
            remedy=_known_settings(kind, "scheduler_settings"),
        ) from refusal


def _classes(values: Iterable[object], base: type) -> dict[str, type]:
    return {v.__name__: v for v in values if isinstance(v, type) and issubclass(v, base) and v is not base}


def _named(name: str, noun: str, names: tuple[str, ...], module: object) -> type:
    found: object = getattr(module, name) if name in names else None
    if isinstance(found, type):
        return found
    raise OptionError(f"There is no {noun} {name!r} in this torch.", remedy=_nearest(name, names))


def _nearest(name: str, names: Iterable[str]) -> str:
    lowered = {n.lower(): n for n in names}
    close = difflib.get_close_matches(name.lower(), lowered, 3, 0.5)
    near = [lowered[n] for n in close if n == name.lower()] or [lowered[n] for n in close]
    if near:
        return f"Did you mean {listing(near, 'or')}?"
    return f"There are {listing(tuple(lowered.values()), most=20)}." if lowered else ""


def _required(parameter: inspect.Parameter) -> bool:
    several = parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    return parameter.default is parameter.empty and not several


def _settings_taken(kind: object) -> tuple[dict[str, inspect.Parameter], bool]:
    """Return the keyword arguments after the first one, and whether any other is taken too."""
    parameters = list(inspect.signature(kind).parameters.values())[1:] if callable(kind) else []
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters)
    return {p.name: p for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}, anything


def _known_settings(kind: object, argument: str) -> str:
    known, _ = _settings_taken(kind)
    missing = [name for name, parameter in known.items() if _required(parameter)]
    needed = f"; {listing(missing)} must be given" if missing else ""
    return f"Its {argument} are {listing(tuple(known), most=20)}{needed}." if known else ""


def _check_settings(kind: type, settings: Mapping[str, object]) -> None:
    known, anything = _settings_taken(kind)
    unknown = [name for name in settings if name not in known]
    if unknown and not anything:
        raise OptionError(
            f"{kind.__name__} has no setting {unknown[0]!r}.", remedy=_nearest(unknown[0], known)
        )


def _written(settings: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items()) or "its own settings"


def _settings_of(optimizer: torch.optim.Optimizer) -> dict[str, object]:
    """Return the settings of an instance; tensors among them are copied, because a scheduler writes into lr.

    Raises
    ------
    OptionError
        If it has more than one group of parameters.
    """
    groups: list[dict[str, object]] = optimizer.param_groups
    if len(groups) != 1:
        raise OptionError(
            f"The {type(optimizer).__name__} given has {len(groups)} parameter groups, but a fit has one.",
            remedy="Give an optimizer with one group, or a function that makes one.",
        )
    known, _ = _settings_taken(type(optimizer))
    found = {name: groups[0][name] for name in known if name in groups[0]}
    return {
        name: value.clone() if isinstance(value, torch.Tensor) else value for name, value in found.items()
    }


def _class_maker(kind: type, settings: Mapping[str, object]) -> Maker:
    construct: Callable[..., torch.optim.Optimizer] = kind
    if not issubclass(kind, torch.optim.Optimizer) or kind is torch.optim.Optimizer:
        raise OptionError(
            f"The class {kind.__name__} is not an optimizer of torch.",
            remedy=f"Give one of {listing(optimizer_names(), 'or', 20)}, or a subclass of torch.optim.Optimizer.",
        )
    _check_settings(kind, settings)

    def make(tensor: torch.Tensor) -> torch.optim.Optimizer:
        try:
            return construct([tensor], **settings)
        except _REFUSALS as refusal:
            raise OptionError(
                f"{kind.__name__} cannot be made with {_written(settings)}: {refusal}",
                remedy=_known_settings(kind, "settings"),
            ) from refusal

    return make


def _function_maker(function: Callable[..., object], settings: Mapping[str, object]) -> Maker:
    if settings:
        raise OptionError(
            f"{_written(settings)} is given beside a function that makes the optimizer.",
            remedy="Let the function set it, for example functools.partial(torch.optim.SGD, lr=0.01).",
        )

    def make(tensor: torch.Tensor) -> torch.optim.Optimizer:
        made = function([tensor])
        if not isinstance(made, torch.optim.Optimizer):
            raise OptionError(
                f"The function given as optimizer returned {type(made).__name__}, not an optimizer of torch.",
                remedy="Return one made from the list of tensors it is given.",
            )
        own: list[object] = [used for group in made.param_groups for used in group["params"]]
        if not any(used is tensor for used in own):
            raise OptionError(
                f"The function given as optimizer made {type(made).__name__} for other tensors than the fit's.",
                remedy="Make it from the list of tensors that the function is given.",
            )
        return made

    return make


def _tried(name: str, make: Maker, size: int, dtype: torch.dtype) -> Recipe:
    """Return the recipe with the first layout in which a step with a gradient of zero succeeds."""
    first: OptionError | None = None
    for layout in LAYOUTS:
        try:
            return Recipe(_step_once(make, layout, size, dtype), make, layout)
        except OptionError as refusal:
            first = first or refusal
    raise first or OptionError(f"{name} cannot be used.")


def _step_once(make: Maker, layout: Layout, size: int, dtype: torch.dtype) -> str:
    """Return the name of the class of the optimizer made, once a step of it has gone through.

    Raises
    ------
    OptionError
        If it climbs instead of descending, or cannot make a step.
    """
    tensor = torch.zeros((size, 1) if layout == "column" else (size,), dtype=dtype, device="cpu")
    optimizer = make(tensor.requires_grad_())
    name = type(optimizer).__name__
    if any(group.get("maximize") for group in optimizer.param_groups):
        raise OptionError(
            f"{name} is told to maximize, but a fit makes the loss small.", remedy="Leave maximize out."
        )

    def no_slope() -> float:
        gradient = torch.zeros_like(tensor)
        tensor.grad = gradient.to_sparse() if layout == "sparse" else gradient
        return 0.0

    try:
        if needs_closure(optimizer):
            _ = optimizer.step(no_slope)
        else:
            _ = no_slope()
            optimizer.step()
    except _REFUSALS as refusal:
        raise OptionError(f"{name} cannot make a step: {refusal}", remedy="Change its settings.") from refusal
    return name
