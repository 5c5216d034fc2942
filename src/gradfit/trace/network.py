"""From a module of torch to its dense layers: the module runs once, and every function that meets its values is noted.

Nothing is taken from the module's form: functions are seen as they are called, with the very parameters, so that nested
and functional modules, shared and frozen parameters come out as what they do. A function that is no dense layer, no
activation and no change of shape is the reason why there is no network.
"""

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from gradfit._lazy import torch
from gradfit.native.network import LOSSES, Layer, Network, Placed

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types

_ROWS = (3, 5)  # of the two runs: what depends on their number comes out differently
_RAISED = (
    AssertionError, AttributeError, LookupError, NotImplementedError, RuntimeError, TypeError, ValueError,
)  # fmt: skip
_SELU = (1.6732632423543772848170429916717, 1.0507009873554804934193349852946)

Named = Mapping[str, Any]
Setting = tuple[str, float]  # a keyword argument, or "" for what cannot be given, and its default

#: function of torch -> activation, and its settings in the order of the function's arguments
_SETTLED: Mapping[str, tuple[str, tuple[Setting, ...]]] = {
    **{name: (name, ()) for name in ("relu", "tanh", "sigmoid", "silu", "mish", "hardsigmoid", "hardswish", "softsign")},
    **{name: (name, ()) for name in ("tanhshrink", "logsigmoid", "sin", "cos", "exp", "abs")},
    "log_sigmoid": ("logsigmoid", ()),
    "leaky_relu": ("leaky_relu", (("negative_slope", 0.01),)),
    "elu": ("elu", (("alpha", 1.0), ("", 1.0))),
    "celu": ("celu", (("alpha", 1.0),)),
    "softplus": ("softplus", (("beta", 1.0), ("threshold", 20.0))),
    "hardtanh": ("hardtanh", (("min_val", -1.0), ("max_val", 1.0))),
}  # fmt: skip
_FIXED: Mapping[str, tuple[str, tuple[float, float]]] = {
    "selu": ("elu", _SELU),
    "relu6": ("hardtanh", (0.0, 6.0)),
}
_SHAPES = frozenset(
    ["view", "reshape", "flatten", "squeeze", "unsqueeze", "contiguous", "view_as", "unflatten"]
)
_READ = frozenset(
    [
        "item",
        "tolist",
        "numpy",
        "__bool__",
        "__float__",
        "__int__",
        "__index__",
        "__array__",
        "equal",
        "allclose",
        "all",
        "any",
    ]
)
_REASONS: Mapping[str, str] = {
    "batch_norm": "batch_norm mixes rows",
    "dropout": "dropout is random",
    "alpha_dropout": "dropout is random",
    "feature_alpha_dropout": "dropout is random",
    "softmax": "softmax is no activation of single numbers",
    "log_softmax": "log_softmax is no activation of single numbers",
}


class _UnfitError(Exception):
    """The module is no row of dense layers; the message says why not."""


def network_of(module: "nn.Module", inputs: int | Sequence[int], loss: str) -> Network | str:
    """Return the dense layers that a module is, or the reason why it is none.

    Parameters
    ----------
    module : torch.nn.Module
        It is called twice, in train mode and without a graph, and stays as it is.
    inputs : int or sequence of int
        Numbers of a row, or the shape of one.
    loss : str
        By which it is trained, one of `gradfit.native.network.LOSSES`.
    """
    if loss not in LOSSES:
        return f"the compiled loop has no loss {loss}"
    shape = (inputs,) if isinstance(inputs, int) else tuple(inputs)
    try:
        with _as_it_was(module):
            traced = [_traced(module, shape, rows) for rows in _ROWS]
        network = _placed(module, traced[0], loss)
    except _UnfitError as reason:
        return str(reason)
    same = _form(traced[0]) == _form(traced[1])
    return network if same else "what it computes depends on the number of rows"


@contextmanager
def _as_it_was(module: "nn.Module") -> Generator[None]:
    """Hold every part in train mode inside; leave modes, buffers and torch's random numbers as they were."""
    modes = [(part, part.training) for part in module.modules()]
    buffers = [(tensor, tensor.clone()) for tensor in module.buffers()]
    _ = module.train()
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            yield
    finally:
        for part, was in modes:
            part.training = was
        for tensor, was in buffers:
            _ = tensor.copy_(was)


# ---------------------------------------------------------------------------- one run


@dataclass(eq=False)
class _Dense:
    """A layer as it was called."""

    weight: "Tensor"
    bias: "Tensor | None"
    activation: str = ""
    settings: tuple[float, float] = (0.0, 0.0)


def _form(layers: Sequence[_Dense]) -> list[object]:
    return [(id(layer.weight), id(layer.bias), layer.activation, layer.settings) for layer in layers]


def _traced(module: "nn.Module", shape: tuple[int, ...], rows: int) -> list[_Dense]:
    """Return the layers that a run on so many rows goes through.

    Raises
    ------
    _UnfitError
        If there is anything else.
    """
    kind = next((p.dtype for p in module.parameters()), torch.float32)
    first = torch.linspace(-1.0, 1.0, rows * prod(shape), dtype=kind).reshape(rows, *shape)
    seen = _Seen(first, rows)
    try:
        with _mode()(seen.called):
            result: object = module(first)
    except _RAISED as error:
        told = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise _UnfitError(f"it cannot be called with one tensor of rows: {told[:200]}") from error
    if result is not seen.value or not seen.layers:
        raise _UnfitError("what it returns is not the output of a dense layer")
    return seen.layers


class _Seen:
    """The value on its way through the layers, and the layers so far."""

    def __init__(self, value: "Tensor", rows: int) -> None:
        self.value, self.rows = value, rows
        self.layers: list[_Dense] = []
        self._held: dict[int, Tensor] = {id(value): value}  # so that no identity is used twice

    def called(self, function: Callable[..., object], args: tuple[object, ...], named: Named) -> object:
        """Return what a function of torch gives, after noting what it does to the value.

        Raises
        ------
        _UnfitError
            If it is none of those that a row of dense layers has.
        """
        given = [a for a in _flat([args, list(named.values())]) if id(a) in self._held]
        name = str(getattr(function, "__name__", function))
        if not given:
            return function(*args, **named)
        if name in _READ:
            raise _UnfitError("it looks at values to decide what to do")
        before = self.value
        result = function(*args, **named)
        if not isinstance(result, torch.Tensor):
            return result
        if any(a is not before for a in given) or len(given) > 1:
            raise _UnfitError(f"its layers branch: {name} takes an earlier value")
        self._note(name if name.endswith("__") else name.removesuffix("_"), (before, result), args, named)
        self.value = result
        self._held[id(result)] = result
        return result

    def _note(self, name: str, ends: "tuple[Tensor, Tensor]", args: tuple[object, ...], named: Named) -> None:
        before, after = ends
        if name == "linear":
            self._dense(before, [*args[1:], *(named[n] for n in ("weight", "bias") if n in named)])
        elif name in _SETTLED or name in _FIXED or name == "gelu":
            self._activated(*_activation(name, args, named))
        elif name in _SHAPES:
            if after.shape[0] != self.rows:
                raise _UnfitError(f"{name} mixes rows")
        elif after is not before and not _same(name, named, args):
            raise _UnfitError(_REASONS.get(name, f"it calls {name}, which the compiled loop has not"))

    def _dense(self, before: "Tensor", given: Sequence[Any]) -> None:
        weight, bias = given[0], given[1] if len(given) > 1 else None
        if before.shape != (self.rows, weight.shape[1]):
            raise _UnfitError(
                f"a dense layer takes shape {tuple(before.shape[1:])} of a row, not one row of numbers"
            )
        self.layers.append(_Dense(weight, bias))

    def _activated(self, name: str, settings: tuple[float, float]) -> None:
        if not self.layers or self.layers[-1].activation:
            raise _UnfitError(f"{name} does not follow a dense layer")
        self.layers[-1].activation, self.layers[-1].settings = name, settings


def _activation(name: str, args: tuple[object, ...], named: Named) -> tuple[str, tuple[float, float]]:
    """Return an activation and its settings.

    Raises
    ------
    _UnfitError
        If a setting is no number.
    """
    if name == "gelu":
        approximate = named.get("approximate", args[1] if len(args) > 1 else "none")
        return ("gelu_tanh" if approximate == "tanh" else "gelu"), (0.0, 0.0)
    if name in _FIXED:
        return _FIXED[name]
    plain, settings = _SETTLED[name]
    if len(args) > 3 or not named.keys() <= {"input", "inplace", *(setting for setting, _ in settings)}:
        raise _UnfitError(f"it calls {name} with settings that the compiled loop has not")
    values: list[float] = []
    for place, (setting, default) in enumerate(settings, start=1):
        given = named.get(setting, args[place] if len(args) > place else default)
        if not isinstance(given, int | float):
            raise _UnfitError(f"{setting} of {name} is no number")
        values.append(default if isinstance(given, bool) else float(given))
    if plain == "celu":  # torch's slope takes the inverse in 32 bits
        values.append(1.0 / float(np.float32(values[0])))
    first, second, *_ = [*values, 0.0, 0.0]
    return plain, (first, second)


def _same(name: str, named: Named, args: tuple[object, ...]) -> bool:
    """Whether a function gives the value back as it is."""
    if name == "dropout":
        share = named.get("p", args[1] if len(args) > 1 else 0.5)
        return share == 0.0
    return name in ("clone", "contiguous")


def _flat(parts: object) -> Iterator[object]:
    if isinstance(parts, list | tuple):
        for part in parts:
            yield from _flat(part)
    else:
        yield parts


@lru_cache(maxsize=1)
def _mode() -> Callable[..., Any]:
    """Return torch's context that hands every function call to ours; made late, as torch is a late import."""
    base: type = import_module("torch.overrides").TorchFunctionMode

    class Mode(base):  # pyright: ignore[reportUntypedBaseClass]  # torch's own has no types
        def __init__(self, called: Callable[..., object]) -> None:
            super().__init__()  # pyright: ignore[reportUnknownMemberType]  # torch's own has no types
            self.called: Callable[..., object] = called

        def __torch_function__(
            self,
            function: Callable[..., object],
            types: object,
            args: tuple[object, ...] = (),
            kwargs: dict[str, object] | None = None,
        ) -> object:
            return self.called(function, args, kwargs or {})

    return Mode


# ---------------------------------------------------------------------------- the vector of parameters


def _placed(module: "nn.Module", layers: Sequence[_Dense], loss: str) -> Network:
    """Return the network with a place for each parameter: those that are trained first.

    Raises
    ------
    _UnfitError
        If a layer's numbers are no parameters of the module, or they are not for this loop.
    """
    names = {id(p): (name, p) for name, p in module.named_parameters()}
    used = {id(t) for layer in layers for t in (layer.weight, layer.bias) if t is not None}
    if not used <= names.keys():
        raise _UnfitError("a layer's weights are computed, or no parameters of the module")
    mine = [(name, p) for key, (name, p) in names.items() if key in used]
    real = _real([p for _, p in mine])
    parameters: list[Placed] = []
    places: dict[int, int] = {}
    end = trained = 0
    for learns in (True, False):
        for name, p in mine:
            if p.requires_grad == learns:
                parameters.append(Placed(name, tuple(p.shape), end))
                places[id(p)] = end
                end += p.numel()
        trained = end if learns else trained
    if not trained:
        raise _UnfitError("none of its parameters is trained")
    made = [_layer(layer, places) for layer in layers]
    return Network(tuple(made), trained, tuple(parameters), loss, real)


def _layer(layer: _Dense, places: Mapping[int, int]) -> Layer:
    outputs, inputs = layer.weight.shape
    if layer.bias is not None and tuple(layer.bias.shape) != (outputs,):
        raise _UnfitError(f"a bias has shape {tuple(layer.bias.shape)} for {outputs} outputs")
    bias = None if layer.bias is None else places[id(layer.bias)]
    return Layer(
        inputs, outputs, places[id(layer.weight)], bias, layer.activation or "identity", layer.settings
    )


def _real(parameters: "Sequence[Tensor]") -> int:
    """Return the bits of the parameters' numbers.

    Raises
    ------
    _UnfitError
        If they are of several types, of one that the loop has not, or not in this machine's memory.
    """
    kinds = {p.dtype for p in parameters}
    if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
        raise _UnfitError("the compiled loop is for parameters that are all float32 or all float64")
    if any(p.device.type != "cpu" for p in parameters):
        raise _UnfitError("the compiled loop is for parameters in this machine's memory")
    return 64 if torch.float64 in kinds else 32
