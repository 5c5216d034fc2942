"""The state of a torch optimizer as arrays and plain values, and back, to the bit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.solve.optimizers import needs_closure
from gradfit.solve.snapshot import Arrays

_PLAIN = (bool, int, float, str, type(None))


def state_of(optimizer: torch.optim.Optimizer, leaf: torch.Tensor) -> tuple[dict[str, Any], object]:
    """Return the tensors of the state by name, and the rest with the settings as JSON holds it.

    Raises
    ------
    OptionError
        If something in it is neither a tensor nor a plain value.
    """
    tensors: dict[str, Any] = {}
    state: Mapping[str, object] = optimizer.state.get(leaf, {})
    group: Mapping[str, object] = optimizer.param_groups[0]
    settings = {name: value for name, value in group.items() if name != "params"}
    name = type(optimizer).__name__
    return tensors, [_plain(dict(state), tensors, name), _plain(settings, tensors, name)]


def put_state(optimizer: torch.optim.Optimizer, leaf: torch.Tensor, arrays: Arrays, plain: Any) -> None:
    """Give an optimizer the state that `state_of` returned; not by load_state_dict, which rounds to the parameters' dtype."""
    state, settings = (_again(part, arrays) for part in plain)
    if state:
        optimizer.state[leaf] = state
    optimizer.param_groups[0].update(settings)


def rest(optimizer: torch.optim.Optimizer) -> None:
    """Let an optimizer make a step without gradients, which does nothing: schedulers warn where none came before theirs."""
    _ = optimizer.step(lambda: 0.0) if needs_closure(optimizer) else optimizer.step()


def _plain(value: object, tensors: dict[str, Any], optimizer: str) -> object:
    if isinstance(value, torch.Tensor):
        name = f"optimizer.{len(tensors)}"
        tensors[name] = value.detach().cpu().numpy().copy()
        return {"tensor": name}
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, dict):
        return {"dict": [[key, _plain(part, tensors, optimizer)] for key, part in value.items()]}
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_plain(part, tensors, optimizer) for part in value]}
    raise OptionError(
        f"A checkpoint cannot hold the state of {optimizer}: there is a {type(value).__name__} in it",
        remedy="Leave checkpoint= out, or take an optimizer whose state is tensors and numbers",
    )


def _again(plain: Any, arrays: Arrays) -> Any:
    if not isinstance(plain, dict):
        return plain
    ((kind, inside),) = plain.items()
    if kind == "tensor":
        return torch.from_numpy(np.array(arrays[inside]))
    if kind == "dict":
        return {key: _again(part, arrays) for key, part in inside}
    parts = [_again(part, arrays) for part in inside]
    return parts if kind == "list" else tuple(parts)
