"""Modules: the one that a network() stands for, and the copy of the caller's that is trained."""

import copy
from functools import lru_cache
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from gradfit._lazy import torch
from gradfit.errors import ModelError
from gradfit.learn.encoding import Encoding
from gradfit.learn.spec import ACTIVATIONS, NetworkSpec

if TYPE_CHECKING:
    from torch import nn  # noqa: TID251  only the names of types


def is_module(model: object) -> bool:
    """Whether a model is a torch.nn.Module, or a class of such; torch is not imported to find out."""
    kind = model if isinstance(model, type) else type(model)
    return any(one.__module__ == "torch.nn.modules.module" for one in kind.__mro__)


def built(
    spec: NetworkSpec, encoding: Encoding, outputs: int, *, seed: int, dtype: "torch.dtype"
) -> "nn.Module":
    """Return the module of a network() for columns, with weights drawn from `seed`; torch's own state stays as it is."""
    sizes = [embedding_size(len(encoding.levels[name])) for name in encoding.embedded]
    with torch.random.fork_rng(devices=[]):
        _ = torch.manual_seed(seed)
        layers = _layers(spec, encoding.width + sum(sizes), outputs)
        if not encoding.embedded:
            return torch.nn.Sequential(*layers).to(dtype)
        tables = [
            torch.nn.Embedding(len(encoding.levels[name]), size)
            for name, size in zip(encoding.embedded, sizes, strict=True)
        ]
        return _embedding_class()(tables, layers).to(dtype)


def embedding_size(levels: int) -> int:
    """Return how many numbers stand for one level of many.

    >>> embedding_size(9), embedding_size(1000)
    (3, 32)
    """
    return min(ceil(levels**0.5), 50)


def _layers(spec: NetworkSpec, inputs: int, outputs: int) -> "list[nn.Module]":
    layers: list[nn.Module] = []
    size = inputs
    for units in spec.hidden:
        layers += [torch.nn.Linear(size, units), getattr(torch.nn, ACTIVATIONS[spec.activation])()]
        layers += [torch.nn.Dropout(spec.dropout)] if spec.dropout else []
        size = units
    return [*layers, torch.nn.Linear(size, outputs)]


@lru_cache(maxsize=1)
def _embedding_class() -> Any:
    """Return the class of networks with embeddings; torch is imported when one is asked for."""

    class Embedded(torch.nn.Module):
        """Dense layers over numbers (n, k) and the embeddings of codes (n, e)."""

        def __init__(self, tables: "list[nn.Embedding]", layers: "list[nn.Module]") -> None:
            super().__init__()
            self.tables: Any = torch.nn.ModuleList(tables)
            self.layers: Any = torch.nn.Sequential(*layers)

        def forward(self, *parts: "torch.Tensor") -> "torch.Tensor":
            codes = parts[-1]
            found = [table(codes[:, j]) for j, table in enumerate(self.tables)]
            return self.layers(torch.cat([*parts[:-1], *found], dim=1))

    return Embedded


def copied(module: "nn.Module") -> "nn.Module":
    """Return a copy of a module with the same weights, so that the caller's stays as it is.

    Raises
    ------
    ModelError
        If it cannot be copied, or has nothing to train.
    """
    try:
        made = copy.deepcopy(module)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError) as refused:
        raise ModelError(
            f"{type(module).__name__} cannot be copied: {str(refused).splitlines()[0][:200]}",
            remedy="Run lazy layers once on some rows, and keep tensors with a graph out of the module",
        ) from refused
    lazy = [
        name
        for name, p in made.named_parameters()
        if isinstance(p, torch.nn.parameter.UninitializedParameter)
    ]
    if lazy:
        raise ModelError(
            f"{type(module).__name__} has layers without a shape yet ({lazy[0]})",
            remedy="Run it once on some rows before fitting, or give the sizes",
        )
    hollow = next((name for name, p in made.named_parameters() if p.is_meta), None)
    if hollow is not None:
        raise ModelError(
            f"{type(module).__name__} has weights without numbers ({hollow} is on the device meta)",
            remedy="Make the module on a real device, such as cpu",
        )
    if not any(p.requires_grad for p in made.parameters()):
        some = next(made.parameters(), None) is not None
        what = "only parameters that are frozen" if some else "no parameters"
        raise ModelError(
            f"{type(module).__name__} has {what}: there is nothing to train",
            remedy="Set requires_grad_(True)"
            if some
            else "Give it layers with weights, such as torch.nn.Linear",
        )
    return made


def dtype_of(module: "nn.Module") -> "torch.dtype":
    """Return the type of a module's parameters."""
    return next((p.dtype for p in module.parameters() if p.is_floating_point()), torch.float32)


@lru_cache(maxsize=1)
def _standard_class() -> Any:
    """Return the class of modules in the user's units around a network in standard units."""

    class Standardised(torch.nn.Module):
        """A network with the constants that bring its inputs to mean 0 and spread 1, and its output back."""

        def __init__(self, network: "nn.Module", constants: "dict[str, torch.Tensor]") -> None:
            super().__init__()
            self.network: Any = network
            for name, tensor in constants.items():
                self.register_buffer(name, tensor)

        def forward(self, *parts: "torch.Tensor") -> "torch.Tensor":
            known: Any = self
            first = (parts[0] - known.mean) / known.spread
            output = self.network(first.to(self.kind), *parts[1:])
            return output * known.scale + known.center

        @property
        def kind(self) -> "torch.dtype":
            """The type of the network's weights."""
            return dtype_of(self.network)

    return Standardised


def in_units(network: "nn.Module", encoding: Encoding) -> "nn.Module":
    """Return a module that takes columns and returns the target in the user's units; the network itself where it does so."""
    if not encoding.standardised or (encoding.deep and not encoding.flat):
        return network
    means, spreads = list[Any](), list[Any]()
    for name in encoding.names:
        if name in encoding.embedded:
            continue
        if name in encoding.levels:
            k = len(encoding.levels[name])
            means.append(np.zeros(k))
            spreads.append(np.ones(k))
        else:
            means.append(encoding.mean[name])
            spreads.append(encoding.spread[name])
    zero, one = np.zeros(1), np.ones(1)
    constants = {
        "mean": np.concatenate(means) if means else zero,
        "spread": np.concatenate(spreads) if spreads else one,
        "center": zero if encoding.center is None else encoding.center,
        "scale": one if encoding.scale is None else encoding.scale,
    }
    dtype = dtype_of(network)
    tensors = {
        name: torch.as_tensor(values).to(torch.float64 if name in ("mean", "spread") else dtype)
        for name, values in constants.items()
    }
    return _standard_class()(network, tensors).eval()
