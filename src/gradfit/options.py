"""The options of a fit as values: its loss, its solver, what evaluates the model."""

from collections.abc import Callable, Mapping
from functools import lru_cache
from numbers import Integral
from typing import NamedTuple

from gradfit.checkpoint import Checkpoint
from gradfit.errors import OptionError
from gradfit.loss import LOSSES, Loss
from gradfit.model import nearest
from gradfit.penalty import Penalty
from gradfit.perturbing import Perturbing
from gradfit.scaling import scale_of
from gradfit.solve.descent import Descent
from gradfit.solve.lm import DEFAULT, LM
from gradfit.solve.patience import Watching

_EXECUTORS = ("auto", "numpy", "native", "tensor")


class Options(NamedTuple):
    """How to solve: what `fit` was told beside data and model."""

    loss: Loss
    solver: LM | Descent
    executor: str
    search: bool
    seed: int
    callback: Callable[..., object] | None
    scale: str = "none"
    penalty: Penalty | None = None
    watching: Watching | None = None
    checkpoint: Checkpoint | None = None
    perturbing: Perturbing | None = None


def options_of(
    loss: str | Loss,
    solver: object,
    executor: str,
    *,
    start: object,
    seed: int,
    max_iterations: int | None,
    callback: Callable[..., object] | None,
    optimizer: Mapping[str, object],
    scale: object = "none",
) -> Options:
    """Return the checked options of a fit.

    Raises
    ------
    OptionError
        If one of them makes no sense.
    """
    if not isinstance(seed, Integral) or not 0 <= seed < 2**63:
        raise OptionError(f"seed is {seed!r}", remedy="Give a whole number from 0 up")
    search = isinstance(start, str)
    if search and start != "search":
        raise OptionError(
            f"start={start!r} is not understood", remedy='Give {"a": 1}, a list of numbers, or "search"'
        )
    if executor not in _EXECUTORS:
        raise OptionError(f"There is no executor {executor!r}", remedy=nearest(executor, _EXECUTORS))
    return Options(
        loss=loss_of(loss),
        solver=solver_of(solver, seed, max_iterations, optimizer),
        executor=executor,
        search=search,
        seed=seed,
        callback=callback,
        scale=scale_of(scale),
    )


def watcher(
    callback: Callable[..., object] | None, on_epoch: Callable[..., object] | None, *, trained: bool
) -> Callable[..., object] | None:
    """Return what is called as a fit goes on.

    Raises
    ------
    OptionError
        If there are two, or no epochs, or one cannot be called.
    """
    for name, given in (("callback", callback), ("on_epoch", on_epoch)):
        if given is not None and not callable(given):
            raise OptionError(
                f"{name}= is {given!r}, which cannot be called", remedy="Give a function of one argument"
            )
    if on_epoch is None:
        return callback
    if callback is not None:
        raise OptionError("callback= and on_epoch= were both given", remedy="Leave one out")
    if not trained:
        raise OptionError(
            "on_epoch= is for trainings, and Levenberg-Marquardt has no epochs",
            remedy='Give callback=, which is called after each iteration, or train with solver="Adam"',
        )
    return on_epoch


def is_lm(solver: object) -> bool:
    """Whether a solver, as `fit` takes it, is Levenberg-Marquardt."""
    return isinstance(solver, LM) or (isinstance(solver, str) and solver.lower() == "lm")


def loss_of(loss: str | Loss) -> Loss:
    """Return the loss of that name; a scale may follow a colon, as in "huber:0.3".

    Raises
    ------
    OptionError
        If there is none, with the nearest names.
    """
    return loss if isinstance(loss, Loss) else _named_loss(str(loss))


@lru_cache(maxsize=64)
def _named_loss(loss: str) -> Loss:
    name, _, scale = loss.partition(":")
    if name not in LOSSES:
        raise OptionError(f"There is no loss {name!r}", remedy=nearest(name, LOSSES))
    if not scale or name == "poisson":
        return Loss(name, float("nan") if scale else None)
    try:
        return Loss(name, float(scale))
    except ValueError as error:
        raise OptionError(
            f"The scale of loss {loss!r} is not a positive number", remedy='Write "huber:0.3"'
        ) from error


_OWN_SETTINGS = ("lr", "epochs", "batch_size", "scheduler", "scheduler_settings", "dtype")
_ARGUMENTS = [
    "response", "start", "bounds", "fixed", "sigma", "weights", "where", "exclude", "missing", "loss", "solver",
    "executor", "level", "seed", "max_iterations", "callback", "on_epoch", "memory", "threads", "noise", "mixup",
]  # fmt: skip


def solver_of(
    solver: object, seed: int, max_iterations: int | None, optimizer: Mapping[str, object]
) -> LM | Descent:
    """Return the solver's value for a name, an instance, a factory or the value itself.

    Raises
    ------
    OptionError
        If a setting belongs to no optimizer, or to another solver.
    """
    if is_lm(solver) or isinstance(solver, LM | Descent):
        if optimizer:
            name = next(iter(optimizer))
            remedy = nearest(name, [*_ARGUMENTS, *_OWN_SETTINGS])
            if name in _OWN_SETTINGS:
                remedy = f'{name}= is a setting of torch\'s optimizers: add solver="SGD" or another one'
            raise OptionError(f"fit() has no argument {name!r} for Levenberg-Marquardt", remedy=remedy)
        if isinstance(solver, LM | Descent):
            return solver
        if max_iterations is not None and max_iterations < 1:
            raise OptionError(f"max_iterations must be at least 1, and is {max_iterations}")
        return DEFAULT if max_iterations is None else LM(max_iterations=max_iterations)
    own = {k: v for k, v in optimizer.items() if k in _OWN_SETTINGS}
    rest = {k: v for k, v in optimizer.items() if k not in _OWN_SETTINGS}
    if max_iterations is not None:
        raise OptionError(
            "max_iterations= is for Levenberg-Marquardt", remedy="Optimizers of torch take epochs="
        )
    return Descent(solver, settings=rest, seed=seed, **own)  # pyright: ignore[reportArgumentType]  # checked by Descent
