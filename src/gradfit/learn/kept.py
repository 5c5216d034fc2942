"""The state of a network's training for a checkpoint, and back, to the bit: weights, optimizer, scheduler, random numbers."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.checkpoint import checkpoint_of, digest
from gradfit.learn.asked import Asked
from gradfit.learn.task import Epoch, Samples, Task
from gradfit.solve.optimizer_state import put_state, state_of
from gradfit.solve.optimizers import needs_closure
from gradfit.solve.patience import Watched
from gradfit.solve.snapshot import NOT_KEPT, Keeping, Snapshot

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types
    from torch.optim import Optimizer  # noqa: TID251  only the names of types

WAY = "torch network"


def keeping(task: Task, asked: Asked) -> Keeping:
    """Return what becomes of the states of a training: nothing, or a file, and where it goes on from.

    Raises
    ------
    DataError, OptionError
        If the checkpoint to go on from cannot be read, or belongs to another training.
    """
    told = checkpoint_of(asked.checkpoint, asked.checkpoint_every, asked.resume)
    return NOT_KEPT if told is None else told.keeping(_identity(task), task.plan.epochs)


def _identity(task: Task) -> Mapping[str, str]:
    """Return what a training is, by the names of its parts."""
    shapes = [
        f"{name}{tuple(tensor.shape)}{tensor.dtype}" for name, tensor in task.module.state_dict().items()
    ]
    plan = task.plan
    return {
        "the module": f"#{hashlib.sha256(repr([type(task.module).__name__, *shapes]).encode()).hexdigest()[:16]}",
        "the training data": _digest(task.train),
        "the validation data": "none" if task.held is None else _digest(task.held),
        "loss": task.loss_name,
        "solver": task.choice.name,
        "the optimizer's settings": repr(sorted(task.choice.settings.items(), key=str)),
        "lr": repr(task.choice.lr),
        "batch_size": str(plan.batch_size),
        "scheduler": str(getattr(plan.scheduler, "__name__", plan.scheduler)),
        "clip": repr(plan.clip),
        "noise": repr(plan.noise),
        "mixup": repr(plan.mixup),
        "precision": plan.precision,
        "seed": str(plan.seed),
        "penalty": "none" if task.penalty is None else "given",
    }


def _digest(samples: Samples) -> str:
    return digest(*[part.cpu().numpy() for part in (*samples.inputs, samples.target)])


@dataclass(frozen=True, eq=False)
class Moment:
    """A training between two epochs.

    Attributes
    ----------
    epochs : sequence of Epoch
        Those done.
    seen : Watched
        Of the loss that is watched.
    best : mapping of str to tensors
        The best state so far.
    best_epoch : int
        When it was.
    told : tuple of float
        What the scheduler was told.
    """

    epochs: Sequence[Epoch]
    seen: Watched
    best: "Mapping[str, Tensor]"
    best_epoch: int
    told: tuple[float, ...]


def snapshot_of(
    module: "nn.Module", optimizer: "Optimizer", shuffle: "torch.Generator", now: Moment, *, device: str
) -> Snapshot:
    """Return all that decides how a training goes on."""
    arrays: dict[str, NDArray[Any]] = {}
    for name, tensor in module.state_dict().items():
        arrays[f"now/{name}"] = _array(tensor)
        arrays[f"best/{name}"] = _array(now.best[name])
    plain: list[object] = []
    for i, p in enumerate(_parameters(optimizer)):
        tensors, rest = state_of(optimizer, p)
        arrays |= {f"{i}/{name}": values for name, values in tensors.items()}
        plain.append(rest)
    arrays["shuffle"] = _array(shuffle.get_state())
    arrays["random"] = _array(torch.get_rng_state())
    if device.startswith("cuda"):
        arrays["random on device"] = _array(torch.cuda.get_rng_state(device))
    rows = [[e.epoch, e.loss, e.validation, e.lr, e.best_epoch] for e in now.epochs]
    arrays["epochs"] = np.array(rows, dtype=np.float64).reshape(len(rows), 5)
    arrays["told"] = np.array(now.told, dtype=np.float64)
    arrays["seen"] = np.array(list(asdict(now.seen).values()), dtype=np.float64)
    facts = {"optimizer": plain, "best_epoch": now.best_epoch}
    return Snapshot(WAY, len(now.epochs), arrays, facts)


def put_back(
    snapshot: Snapshot,
    module: "nn.Module",
    optimizer: "Optimizer",
    shuffle: "torch.Generator",
    *,
    device: str,
) -> Moment:
    """Bring a training to where a snapshot was taken; return the rest of it."""
    arrays = snapshot.arrays
    state = {name: torch.from_numpy(np.array(arrays[f"now/{name}"])) for name in module.state_dict()}
    _ = module.load_state_dict(state)
    best = {name: torch.from_numpy(np.array(arrays[f"best/{name}"])).to(device) for name in state}
    for i, (p, plain) in enumerate(zip(_parameters(optimizer), snapshot.facts["optimizer"], strict=True)):
        own = {name.partition("/")[2]: values for name, values in arrays.items() if name.startswith(f"{i}/")}
        put_state(optimizer, p, own, plain)
        _on_device(optimizer, p)
    shuffle.set_state(torch.from_numpy(np.array(arrays["shuffle"])))
    torch.set_rng_state(torch.from_numpy(np.array(arrays["random"])))
    if "random on device" in arrays and device.startswith("cuda"):
        torch.cuda.set_rng_state(torch.from_numpy(np.array(arrays["random on device"])), device)
    planned = 0
    epochs = [
        Epoch(int(e), planned, loss, held, lr, int(at)) for e, loss, held, lr, at in arrays["epochs"].tolist()
    ]
    best_loss, best_step, mark, mark_step = arrays["seen"].tolist()
    seen = Watched(best_loss, int(best_step), mark, int(mark_step))
    return Moment(epochs, seen, best, int(snapshot.facts["best_epoch"]), tuple(arrays["told"].tolist()))


def rest(optimizer: "Optimizer") -> None:
    """Let an optimizer make a step without gradients, which does nothing: schedulers warn where none came before theirs."""
    for p in _parameters(optimizer):
        p.grad = None
    _ = optimizer.step(lambda: 0.0) if needs_closure(optimizer) else optimizer.step()


def _parameters(optimizer: "Optimizer") -> "list[Tensor]":
    return [p for group in optimizer.param_groups for p in group["params"]]


def _on_device(optimizer: "Optimizer", p: "Tensor") -> None:
    state: dict[str, Any] = optimizer.state.get(p, {})
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and value.shape == p.shape:
            state[name] = value.to(p.device)


def _array(tensor: "Tensor") -> NDArray[Any]:
    return tensor.detach().cpu().numpy().copy()
