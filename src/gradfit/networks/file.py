"""A trained network as one safetensors file: the weights, and as JSON what they belong to; nothing in it is ever run."""

import json
from collections.abc import Mapping
from itertools import pairwise
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import safetensors, safetensors_numpy, torch
from gradfit._version import __version__
from gradfit.diagnose import Finding
from gradfit.errors import DataError, GradfitError
from gradfit.learn.build import built, copied, is_module
from gradfit.learn.encoding import Encoding
from gradfit.learn.result import Held, NetworkResult
from gradfit.learn.spec import NetworkSpec, network
from gradfit.learn.target import Target
from gradfit.learn.task import GradientTrail, LossHistory
from gradfit.networks.values import EXACT, finding_dict, held_dict, measures_dict, number
from gradfit.outputs import target, write_whole

if TYPE_CHECKING:
    from torch import nn  # noqa: TID251  only the name of a type

FORMAT, SCHEMA = "gradfit network", 1
_HEADER = 8  # bytes that say how long the header of a safetensors file is
_DTYPES = ("float32", "float64", "float16")


def save_network(result: NetworkResult, path: str | PathLike[str], *, force: bool = False) -> Path:
    """Write a network, whole or not at all, and return its path.

    Raises
    ------
    OptionError
        If the file is there and `force` is false, or it cannot be written.
    """
    file = target(path, force=force)
    write_whole({file: network_bytes(result)})
    return file


def network_bytes(result: NetworkResult) -> bytes:
    """Return a network as its file holds it."""
    state = result.network.state_dict()
    arrays = {f"weights/{name}": np.ascontiguousarray(_plain(tensor)) for name, tensor in state.items()}
    arrays |= {
        f"history/{name}": np.asarray(getattr(result.history, name))
        for name in ("epoch", "train", "validation", "lr")
    }
    arrays |= {
        f"trail/{name}": np.asarray(getattr(result.trail, name)) for name in ("epoch", "gradient", "weight")
    }
    encoding = result.encoding
    for name, constants in (("mean", encoding.mean), ("spread", encoding.spread)):
        arrays |= {f"{name}/{column}": values for column, values in constants.items()}
    if encoding.center is not None and encoding.scale is not None:
        arrays |= {"center": encoding.center, "scale": encoding.scale}
    metadata = {
        "format": FORMAT,
        "schema": str(SCHEMA),
        "gradfit": __version__,
        "told": json.dumps(_told(result)),
    }
    return safetensors_numpy.save(arrays, metadata)


def _plain(tensor: "torch.Tensor") -> NDArray[Any]:
    tensor = tensor.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()


def _told(result: NetworkResult) -> dict[str, object]:
    encoding, spec = result.encoding, result.spec
    weights = next(result.network.parameters())
    return {
        "module": type(result.network).__name__,
        "spec": None if spec is None else {
            "hidden": list(spec.hidden), "activation": spec.activation, "dropout": spec.dropout, "categories": spec.categories,
        },
        "dtype": str(weights.dtype).removeprefix("torch."),
        "outputs": int(list(result.network.parameters())[-1].shape[0]),
        "encoding": {
            "names": list(encoding.names), "levels": {k: list(v) for k, v in encoding.levels.items()},
            "embedded": list(encoding.embedded), "deep": list(encoding.deep), "flat": encoding.flat,
            "origins": dict(encoding.origins), "whole": sorted(encoding.whole),
        },
        "target": {"names": list(result.target.names), "aim": result.target.aim, "levels": list(result.target.levels)},
        "formula": result.formula, "loss_name": result.loss_name, "plain": result.plain, "best_epoch": result.best_epoch,
        "ending": result.ending, "message": result.message, "loss": number(result.loss),
        "metrics": measures_dict(result.metrics), "validation": held_dict(result), "solver": result.solver,
        "device": result.device, "executor": result.executor, "how": list(result.how), "n": result.n,
        "n_read": result.n_read, "source": result.source, "seconds": result.seconds, "layers": list(result.trail.layers),
        "findings": [finding_dict(finding) for finding in result.findings], "version": result.version,
    }  # fmt: skip


# ---------------------------------------------------------------------------- read


def is_network_file(path: str | PathLike[str]) -> bool:
    """Whether a file looks like safetensors: a length, then JSON."""
    try:
        with Path(fspath(path)).open("rb") as stream:
            begin = stream.read(_HEADER + 2)
    except (OSError, ValueError):
        return False
    return len(begin) == _HEADER + 2 and begin[5:_HEADER] == b"\0\0\0" and begin[_HEADER:] == b'{"'


def load_network(path: str | PathLike[str], module: object = None) -> NetworkResult:
    """Return a network that `save` wrote: a network() is built again, of a module of the caller's the weights are put back.

    Parameters
    ----------
    module : torch.nn.Module, optional
        Of the same layers; it stays as it is, and a copy of it gets the weights.

    Raises
    ------
    DataError
        If the file is damaged, is no network, or belongs to another module.
    GradfitError
        If that module has nothing to train, or the file asks for a network that cannot be.
    """
    file = fspath(path)
    arrays, metadata = _opened(file)
    if metadata.get("format") != FORMAT:
        raise DataError(f"{file} is no saved network", remedy='Make one: result.save("net.safetensors")')
    if metadata.get("schema") != str(SCHEMA):
        raise DataError(
            f"{file} was written by another version of gradfit, {metadata.get('gradfit')}",
            remedy="Run: pip install --upgrade gradfit",
        )
    try:
        return _result(arrays, json.loads(metadata["told"]), file, module)
    except GradfitError:
        raise
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise DataError(
            f"{file} is damaged: {type(error).__name__} {error}", remedy="Save the network again"
        ) from error


def _opened(file: str) -> tuple[dict[str, NDArray[Any]], Mapping[str, str]]:
    try:
        with safetensors.safe_open(file, framework="np") as opened:
            return {name: opened.get_tensor(name) for name in opened.keys()}, opened.metadata() or {}  # noqa: SIM118  no mapping
    except (safetensors.SafetensorError, OSError) as error:
        first = str(error).splitlines()[0][:100]
        raise DataError(f"{file} is torn or damaged: {first}", remedy="Save the network again") from error


def _result(
    arrays: dict[str, NDArray[Any]], told: dict[str, Any], file: str, module: object
) -> NetworkResult:
    encoding, levels = _encoding(arrays, told["encoding"]), tuple(told["target"]["levels"])
    names = tuple(told["target"]["names"])
    spec = _spec(told["spec"])
    findings = tuple([Finding(**finding) for finding in told["findings"]])
    held = told["validation"]
    return NetworkResult(
        network=_network(arrays, told, spec, encoding, file, module), spec=spec, formula=told["formula"], encoding=encoding,
        target=Target(names, told["target"]["aim"], levels, np.zeros(0)), loss_name=told["loss_name"], plain=told["plain"],
        history=LossHistory(*[arrays[f"history/{name}"] for name in ("epoch", "train", "validation", "lr")]),
        best_epoch=told["best_epoch"], ending=told["ending"], message=told["message"], loss=_number(told["loss"]),
        metrics=_measures(told["metrics"]), validation=None if held is None else Held(
            held["rows"], _number(held["loss"]), _measures(held["metrics"]), held["how"],
            tuple([_number(loss) for loss in held["folds"]]), _number(held["stderr"]),
        ),
        solver=told["solver"], device=told["device"], executor=told["executor"], how=tuple(told["how"]), n=told["n"],
        n_read=told["n_read"], source=told["source"], seconds=told["seconds"], settings={},
        trail=GradientTrail(tuple(told["layers"]), *[arrays[f"trail/{name}"] for name in ("epoch", "gradient", "weight")]),
        examine=lambda _result: findings, version=told["version"],
    )  # fmt: skip


def _spec(told: dict[str, Any] | None) -> NetworkSpec | None:
    if told is None:
        return None
    return network(
        hidden=told["hidden"], activation=told["activation"], dropout=told["dropout"], categories=told["categories"]
    )  # fmt: skip


def _number(value: float | str | None) -> float:
    if isinstance(value, str):
        return EXACT[value]
    return float("nan") if value is None else float(value)


def _measures(told: Mapping[str, float | None]) -> dict[str, float]:
    return {name: _number(value) for name, value in told.items()}


def _encoding(arrays: dict[str, NDArray[Any]], told: dict[str, Any]) -> Encoding:
    constants = {
        kind: {
            name.partition("/")[2]: values for name, values in arrays.items() if name.startswith(f"{kind}/")
        }
        for kind in ("mean", "spread")
    }
    return Encoding(
        tuple(told["names"]), {name: tuple(levels) for name, levels in told["levels"].items()}, tuple(told["embedded"]),
        tuple(told["deep"]), bool(told["flat"]), constants["mean"], constants["spread"], arrays.get("center"),
        arrays.get("scale"), dict(told["origins"]), frozenset(told["whole"]),
    )  # fmt: skip


def _as_large(spec: NetworkSpec, arrays: dict[str, NDArray[Any]], file: str) -> None:
    """Check that the weights are as many as the layers want, before memory is taken for them.

    Raises
    ------
    DataError
        If they are fewer.
    """
    there = sum(values.size for name, values in arrays.items() if name.startswith("weights/"))
    wanted = sum(one * other for one, other in pairwise((1, *spec.hidden)))
    if wanted > there:
        raise DataError(
            f"{file} is damaged: it lacks weights of {spec.text}", remedy="Save the network again"
        )


def _network(  # noqa: PLR0917  what a file holds, and what the caller gave
    arrays: dict[str, NDArray[Any]],
    told: dict[str, Any],
    spec: NetworkSpec | None,
    encoding: Encoding,
    file: str,
    module: object,
) -> "nn.Module":
    if spec is not None and module is None:
        dtype = getattr(torch, told["dtype"] if told["dtype"] in _DTYPES else "float32")
        _as_large(spec, arrays, file)
        made = built(spec, encoding, int(told["outputs"]), seed=0, dtype=dtype)
    elif is_module(module):
        made = copied(module).to("cpu")  # pyright: ignore[reportArgumentType]  # is_module has looked
    else:
        raise DataError(
            f"{file} holds the weights of {told['module']}, and not its code",
            remedy="Give an instance: gradfit.load(path, module=...)",
        )
    state = {
        name.partition("/")[2]: torch.from_numpy(np.array(v))
        for name, v in arrays.items()
        if name.startswith("weights/")
    }
    try:
        _ = made.load_state_dict(state)
    except RuntimeError as error:
        line = str(error).splitlines()[1:2] or [""]
        raise DataError(
            f"{file} belongs to another module than {type(made).__name__}: {line[0].strip()[:200]}",
            remedy=f"Give the {told['module']} that was fitted, with the same sizes",
        ) from error
    return made.eval()
