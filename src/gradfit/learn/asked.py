"""What a caller asks of the fit of a network, as one checked value."""

from collections.abc import Callable, Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields
from math import isfinite
from numbers import Real
from typing import Any

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.model import nearest
from gradfit.solve.patience import Patience

PRECISIONS = ("float32", "float64", "mixed")
EXECUTORS = ("auto", "numpy", "native", "tensor")


@dataclass(frozen=True, eq=False)
class Asked:
    """The arguments of `fit` that a network takes, as they were given; None where one was left out.

    Attributes
    ----------
    settings : mapping of str to object
        All others: the optimizer's own.
    """

    inputs: Sequence[str] | str | None = None
    target: Sequence[str] | str | None = None
    response: str | None = None
    where: str | None = None
    exclude: Sequence[int] | None = None
    missing: str = "error"
    loss: object = "auto"
    solver: object = "lm"
    lr: float | str | None = None
    epochs: int | None = None
    batch_size: int | None = None
    scheduler: object = None
    scheduler_settings: Mapping[str, object] = field(default_factory=dict[str, object])
    clip: float | None = None
    device: str = "auto"
    precision: str | None = None
    dtype: str | None = None
    seed: int = 0
    noise: float | None = None
    mixup: float | None = None
    validation: object = None
    groups: str | None = None
    order: str | None = None
    kfold: int | None = None
    patience: int | None = None
    min_delta: float = 0.0
    stop: str = "best"
    checkpoint: object = None
    checkpoint_every: int | None = None
    resume: object = None
    callback: Callable[..., object] | None = None
    scale: str | None = None
    penalty: object = None
    executor: str = "auto"
    settings: Mapping[str, object] = field(default_factory=dict[str, object])

    @property
    def targets(self) -> tuple[str, ...]:
        """The columns to predict, none where they were not named."""
        named = self.target if self.target is not None else self.response
        return () if named is None else (named,) if isinstance(named, str) else tuple(named)

    @property
    def waiting(self) -> Patience:
        """When to stop, and which state to keep."""
        return Patience(self.patience, self.min_delta, self.stop)  # pyright: ignore[reportArgumentType]  # checked there


_FOR_FORMULAS = {
    "start": "A network has no start values by name",
    "bounds": "A network has no bounds",
    "fixed": "A network has no fixed parameters; set requires_grad_(False) on layers that are to stay",
    "sigma": "A network takes no sigma",
    "weights": "A network takes no weights",
    "max_iterations": "A network is trained for epochs=",
    "memory": "A network is trained on rows in memory; memory= is for formulas",
    "threads": "threads= is for formulas over large data",
}
_UNUSED = ("level",)  # of intervals, which a network has not; it always has a value


def asked_of(told: Mapping[str, Any]) -> Asked:
    """Return the arguments of a network among all those of `fit`.

    Raises
    ------
    OptionError
        If one is for formulas only, or has a value that makes no sense.
    """
    names = {one.name for one in fields(Asked)} - {"settings"}
    for name, why in _FOR_FORMULAS.items():
        if told.get(name) is not None:
            raise OptionError(f"{why}: {name}= was given", remedy=f"Leave {name}= out")
    known = {name: value for name, value in told.items() if name in names and value is not None}
    skip = {*names, *_FOR_FORMULAS, *_UNUSED}
    rest = {name: value for name, value in told.items() if name not in skip and value is not None}
    asked = Asked(**known, settings=rest)
    _check(asked)
    return asked


def _check(asked: Asked) -> None:
    """Check the numbers and words of what was asked.

    Raises
    ------
    OptionError
        If one makes no sense.
    """
    for name, least in (("epochs", 1), ("batch_size", 1), ("seed", 0)):
        value = getattr(asked, name)
        if value is not None and not (_number(value) and value == int(value) and least <= value < 2**63):
            raise OptionError(f"{name} is {value!r}", remedy=f"Give a whole number from {least} up")
    for name, least in (("clip", 1e-300), ("noise", 0), ("mixup", 0)):
        value = getattr(asked, name)
        if value is not None and not (_number(value) and value >= least):
            raise OptionError(f"{name} is {value!r}", remedy=f"Give a positive number, such as {name}=1.0")
    lr = asked.lr
    if not (lr is None or lr == "auto" or (_number(lr) and float(lr) > 0)):
        raise OptionError(f"lr is {lr!r}", remedy='Give a positive number, such as lr=0.01, or lr="auto"')
    for name in ("inputs", "target", "response"):
        _check_names(name, getattr(asked, name))
    _check_words(asked)


def _check_names(option: str, given: object) -> None:
    """Check that columns are named, in an order and each once.

    Raises
    ------
    OptionError
        If they are not.
    """
    if given is None or isinstance(given, str):
        return
    names: list[object] = [] if isinstance(given, Set) or not isinstance(given, Collection) else [*given]
    if not names or not all(isinstance(name, str) for name in names):
        raise OptionError(
            f"{option}= is {given!r}, and names no columns in an order", remedy=f'Give {option}=["x1", "x2"]'
        )
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise OptionError(f"{option}= names {twice} twice", remedy="Name it once")


def _check_words(asked: Asked) -> None:
    words = {
        "precision": (asked.precision or asked.dtype or "float32", PRECISIONS),
        "scale": (asked.scale or "none", ("auto", "none")),
        "executor": (asked.executor, EXECUTORS),
    }
    for name, (value, known) in words.items():
        if value not in known:
            raise OptionError(f"{name} is {value!r}", remedy=nearest(str(value), known))
    if asked.kfold is not None and asked.validation is not None:
        raise OptionError("kfold= and validation= were both given", remedy="Leave one out")
    held = asked.validation is not None or asked.kfold is not None
    for name in ("patience", "groups", "order"):
        if getattr(asked, name) is not None and not held:
            raise OptionError(f"{name}= needs rows that are held out", remedy="Give validation=0.2")


def _number(value: Any) -> bool:
    return value is not True and value is not False and isinstance(value, Real) and isfinite(value)


def device_of(name: str) -> str:
    """Return the device of torch that a name stands for; "auto" is a GPU where there is one.

    Raises
    ------
    OptionError
        If there is no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        _ = torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, AttributeError) as refused:
        raise OptionError(
            f"There is no device {name!r} here",
            remedy='Give device="auto", "cpu" or "cuda"',
        ) from refused
    if device.type == "meta":
        raise OptionError("device='meta' holds no numbers", remedy='Give device="auto"')
    return str(device)
