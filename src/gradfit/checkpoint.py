"""Checkpoints: the state of a training in a safetensors file, written whole or not at all, and read back to the bit."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import safetensors, safetensors_numpy
from gradfit.errors import DataError, OptionError
from gradfit.outputs import write_whole
from gradfit.solve.outcome import round_stride
from gradfit.solve.snapshot import Arrays, Keeping, Snapshot

FORMAT, SCHEMA = "gradfit checkpoint", "1"
ABOUT = 10  # checkpoints of a run, where nothing else is said

Identity = Mapping[
    str, str
]  # what a training is, by the names of its parts; "#..." is the digest of many numbers


@dataclass(frozen=True)
class Checkpoint:
    """Where the state of a training is kept, how often, and from where it goes on.

    Attributes
    ----------
    path : Path, optional
        The file; it is replaced each time.
    every : int, optional
        After how many epochs; a round number that gives about ten in a run, when it is left out.
    resume : Path, optional
        A checkpoint of the same training.

    Raises
    ------
    OptionError
        If `every` is no number of epochs, or is given without a file.
    """

    path: Path | None = None
    every: int | None = None
    resume: Path | None = None

    def __post_init__(self) -> None:
        if self.every is None:
            return
        whole = not isinstance(self.every, bool) and self.every == int(self.every)
        if not whole or self.every < 1:
            raise OptionError(
                f"checkpoint_every is {self.every!r}",
                remedy="Give a number of epochs, as checkpoint_every=100",
            )
        if self.path is None:
            raise OptionError(
                "checkpoint_every= says how often, but there is no file", remedy='Give checkpoint="run.ckpt"'
            )

    def keeping(self, identity: Identity, epochs: int) -> Keeping:
        """Return what becomes of the states of a training of so many epochs.

        Raises
        ------
        DataError
            If the checkpoint to go on from cannot be read.
        OptionError
            If it belongs to another training, or there is no folder for the file.
        """
        resume = None if self.resume is None else read_checkpoint(self.resume, identity, epochs)
        if self.path is None:
            return Keeping(resume=resume)
        file = self.path
        if not file.parent.is_dir():
            raise OptionError(f"There is no folder {file.parent} for the checkpoint", remedy="Make it first")
        every = self.every or round_stride(epochs, ABOUT)
        return Keeping(lambda snapshot: write_checkpoint(file, snapshot, identity), int(every), resume)


def checkpoint_of(path: object, every: int | None, resume: object) -> Checkpoint | None:
    """Return what `fit` was told of checkpoints, None where that is nothing.

    Raises
    ------
    OptionError
        If a name is no name of a file.
    """
    if path is None and every is None and resume is None:
        return None
    return Checkpoint(_file(path, "checkpoint"), every, _file(resume, "resume"))


def _file(name: object, argument: str) -> Path | None:
    if name is None:
        return None
    file = Path(name) if isinstance(name, str | Path) else None
    if file is None or file.name in ("", ".."):
        raise OptionError(f"{argument}={name!r} is no name of a file", remedy=f'Write {argument}="run.ckpt"')
    return file


def digest(*arrays: NDArray[Any] | None) -> str:
    """Return a short text that tells arrays apart by their bits."""
    found = hashlib.sha256()
    for array in arrays:
        if array is None:
            found.update(b"none")
            continue
        found.update(f"{array.dtype}{array.shape}".encode())
        found.update(np.ascontiguousarray(array).tobytes())
    return f"#{found.hexdigest()[:16]}"


def write_checkpoint(file: Path, snapshot: Snapshot, identity: Identity) -> None:
    """Write a snapshot; the old file stays as it was until the new one is whole.

    Raises
    ------
    OptionError
        If the file cannot be written.
    """
    arrays = {name: np.asarray(values, order="C") for name, values in snapshot.arrays.items()}
    facts = json.dumps(snapshot.facts)
    metadata = {
        "format": FORMAT,
        "schema": SCHEMA,
        "way": snapshot.way,
        "done": str(snapshot.done),
        "facts": facts,
        "identity": json.dumps(dict(identity)),
        "sha256": _checksum(arrays, facts),
    }
    write_whole({file: safetensors_numpy.save(arrays, metadata)})


def read_checkpoint(file: Path, identity: Identity, epochs: int) -> Snapshot:
    """Return the snapshot in a file.

    Raises
    ------
    DataError
        If there is none, or it is torn or damaged.
    OptionError
        If it belongs to another training.
    """
    arrays, told = _opened(file)
    if told.get("format") != FORMAT:
        raise DataError(
            f"{file} is no checkpoint of gradfit", remedy='Write one: fit(..., checkpoint="run.ckpt")'
        )
    if told.get("schema") != SCHEMA:
        raise DataError(
            f"{file} was written by another version of gradfit", remedy="Start anew: leave resume= out"
        )
    if told.get("sha256") != _checksum(arrays, told.get("facts", "")):
        _refuse(file, "its checksum does not agree")
    _same(file, json.loads(told["identity"]), identity)
    done = int(told["done"])
    if done > epochs:
        raise OptionError(
            f"{file} holds the state after {done} epochs, and epochs={epochs} asks for fewer",
            remedy=f"Give epochs={done} or more",
        )
    return Snapshot(told["way"], done, arrays, json.loads(told["facts"]))


def _opened(file: Path) -> tuple[Arrays, Mapping[str, str]]:
    if not file.is_file():
        what = "is a folder" if file.is_dir() else "does not exist"
        raise DataError(f"The checkpoint {file} {what}", remedy="Leave resume= out to start anew")
    try:
        with safetensors.safe_open(file, framework="np") as opened:
            arrays = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118  no mapping
            return arrays, opened.metadata() or {}
    except safetensors.SafetensorError as error:
        _refuse(file, str(error).splitlines()[0][:100])
    except OSError as error:
        raise DataError(f"{file} cannot be read: {error.strerror or error}") from error


def _refuse(file: Path, why: str) -> NoReturn:
    """Say that a file is damaged.

    Raises
    ------
    DataError
        Always.
    """
    raise DataError(
        f"{file} is torn or damaged, and no checkpoint that training could go on from ({why})",
        remedy="Take an earlier copy, or leave resume= out to start anew",
    )


def _checksum(arrays: Arrays, facts: str) -> str:
    named = sorted(arrays)
    return digest(
        *(arrays[name] for name in named), np.frombuffer(f"{named}{facts}".encode(), dtype=np.uint8)
    )


def _same(file: Path, theirs: Identity, ours: Identity) -> None:
    for name in {**ours, **theirs}:
        mine, other = ours.get(name, "absent"), theirs.get(name, "absent")
        if mine == other:
            continue
        seen = f"{name} differs" if "#" in mine + other else f"{name} is {other} there, and {mine} here"
        raise OptionError(
            f"{file} belongs to another training: {seen}",
            remedy="Give the same model, data and settings, or leave resume= out to start anew",
        )
