"""What a run over a large input keeps beside its output until it is whole: what was asked, and the parts that are done."""

import errno
import hashlib
import json
import os
import re
import shutil
import sys
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from gradfit._version import __version__
from gradfit.errors import GradfitError, OptionError
from gradfit.notation import count

if TYPE_CHECKING:
    from polars import DataFrame

ENDS = 1 << 16  # bytes at either end of a file that are looked at
_MANIFEST, _LOCK = "run.json", "lock"
_AS_TEXT = {".csv": 3, ".jsonl": 6}  # bytes for one of a part
_UNITS = ("bytes", "kB", "MB", "GB", "TB")


class StoppedError(GradfitError):
    """A run that ended early; what it has done is kept, and goes on with resume."""


@dataclass(frozen=True)
class Print:
    """How a file, or something in memory, is known again.

    Attributes
    ----------
    name : str
        As it was given.
    size : int
        Bytes.
    written : int
        When, in nanoseconds since 1970; 0 of what is in memory.
    hash : str
        Of both ends of a file, of all that is in memory.
    """

    name: str
    size: int
    written: int
    hash: str

    @classmethod
    def of(cls, file: Path) -> "Print":
        """Return a file's."""
        with file.open("rb") as stream:
            stat = os.fstat(stream.fileno())
            digest = hashlib.blake2b(stream.read(ENDS), digest_size=16)
            stream.seek(max(stat.st_size - ENDS, 0))
            digest.update(stream.read(ENDS))
        return cls(str(file), stat.st_size, stat.st_mtime_ns, digest.hexdigest())

    def told(self) -> str:
        """Return size and time in words."""
        when = (
            time.strftime(" of %Y-%m-%d %H:%M:%S", time.localtime(self.written / 1e9)) if self.written else ""
        )
        return f"{size_text(self.size)}{when}"


@dataclass(frozen=True)
class Plan:
    """What a run was asked, and what it decided before its first fit; a run that goes on does all the same.

    Attributes
    ----------
    asked : mapping
        Model and options that decide results.
    inputs : sequence of Print
        What is read.
    cuts : sequence of int
        Where portions begin; of rows that were dealt, the size of each portion.
    dealt : bool
        Whether rows stood in any order and were dealt to files.
    fits : int or None
        How many there will be, where that is known.
    starts : sequence or None
        Start values that were searched, None where none were needed.
    searched : int
        On how many fits.
    how : sequence of str
        How start values were found, in sentences.
    version : str
        Of gradfit.
    """

    asked: Mapping[str, Any]
    inputs: Sequence[Print]
    cuts: Sequence[int]
    dealt: bool
    fits: int | None
    starts: Sequence[Sequence[float | None]] | None
    searched: int
    how: Sequence[str] = ()
    version: str = __version__

    @classmethod
    def read(cls, text: str) -> "Plan":
        """Return what was written.

        Raises
        ------
        ValueError, TypeError, KeyError
            If it was not.
        """
        held: dict[str, Any] = json.loads(text)
        held["inputs"] = [Print(**one) for one in held["inputs"]]
        return cls(**held)

    @property
    def text(self) -> str:
        """As JSON."""
        return json.dumps({**asdict(self), "asked": dict(self.asked)}, indent=1, allow_nan=False)

    def check(self, asked: Mapping[str, Any], inputs: Sequence[Print], where: str) -> None:
        """Return when a run that goes on is asked the same of the same input.

        Raises
        ------
        OptionError
            If not; it names what differs.
        """
        if self.version != __version__:
            _refuse(where, f"was begun by gradfit {self.version}, and this is {__version__}")
        for name, value in asked.items():
            old, new = _shown(self.asked.get(name)), _shown(value)
            if old != new:
                _refuse(where, f"was begun with {name} {old}, and now it is {new}")
        if len(self.inputs) != len(inputs):
            _refuse(where, f"was begun on {count(len(self.inputs), 'file')}, and now there are {len(inputs)}")
        for old, new in zip(self.inputs, inputs, strict=True):
            if (old.size, old.written, old.hash) != (new.size, new.written, new.hash):
                _refuse(where, f"was begun on other data: {new.name} was {old.told()} and is {new.told()}")


def _shown(value: object) -> str:
    return "not given" if value is None else json.dumps(value, ensure_ascii=False)


def _refuse(where: str, why: str) -> NoReturn:
    raise OptionError(
        f"The run in {where} {why}",
        remedy="Give what it was begun with, or begin anew with --force (force=True)",
    )


@dataclass(frozen=True)
class Kept:
    """The folder beside an output in which a run keeps what is done, until the output is whole.

    Attributes
    ----------
    out : Path
        The output.
    """

    out: Path

    @property
    def folder(self) -> Path:
        """Where it is."""
        return self.out.with_name(f"{self.out.name}.parts")

    def part(self, number: int) -> Path:
        """Return where the results of a portion are."""
        return self.folder / f"{number:06d}.parquet"

    @property
    def begun(self) -> bool:
        """Whether a run is kept there."""
        return (self.folder / _MANIFEST).is_file()

    def done(self) -> list[int]:
        """Return which portions are done: each part is whole, as it got its name when it was."""
        names = (file.name for file in self.folder.iterdir())
        return sorted(int(name[:6]) for name in names if re.fullmatch(r"\d{6}\.parquet", name))

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the folder for this process alone, however another one ended.

        Raises
        ------
        OptionError
            If another run is writing the same output.
        GradfitError
            Whatever is raised meanwhile; when nothing is done by then, nothing is left.
        """
        try:
            self.folder.mkdir(exist_ok=True)
            stream = (self.folder / _LOCK).open("a+b")
        except OSError as refused:
            self.stopped(refused)
        with stream:
            if not _lock(stream) or not (self.folder / _LOCK).exists():
                raise OptionError(
                    f"Another run is writing {self.out}", remedy="Wait for it to end, or name another file"
                )
            try:
                yield
            except GradfitError as refused:
                if not (isinstance(refused, StoppedError) or self.done()):
                    shutil.rmtree(self.folder, ignore_errors=True)  # there is nothing to go on with
                raise

    def plan(self) -> Plan:
        """Return what the run was asked.

        Raises
        ------
        OptionError
            If it cannot be read.
        """
        try:
            return Plan.read((self.folder / _MANIFEST).read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError, KeyError):
            raise OptionError(
                f"{self.folder / _MANIFEST} cannot be read", remedy="Begin anew with --force (force=True)"
            ) from None

    def begin(self, plan: Plan) -> None:
        """Keep what the run was asked."""
        self.put(self.folder / _MANIFEST, plan.text.encode())

    def cleared(self) -> None:
        """Remove what an earlier run left, but for the lock."""
        for file in sorted(self.folder.iterdir(), key=lambda file: file.name != _MANIFEST):
            if file.name != _LOCK:
                file.unlink()

    def put(self, file: Path, data: bytes) -> None:
        """Write a file in the folder whole or not at all.

        Raises
        ------
        StoppedError
            If it cannot be written.
        """
        temporary = file.with_suffix(".tmp")
        try:
            with temporary.open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(file)
        except OSError as refused:
            self.stopped(refused, needed=len(data))

    def put_part(self, number: int, frame: "DataFrame") -> None:
        """Write the results of a portion."""
        held = BytesIO()
        frame.write_parquet(held, row_group_size=1 << 17)
        self.put(self.part(number), held.getvalue())

    def stopped(self, refused: BaseException, *, needed: int = 0) -> NoReturn:
        """Say why nothing more could be written.

        Raises
        ------
        StoppedError
            Always.
        """
        done = len(self.done()) if self.folder.is_dir() else 0
        keeps = f"{count(done, 'part')} {'is' if done == 1 else 'are'} kept in {self.folder}"
        number = refused.errno if isinstance(refused, OSError) else None
        told = re.search(r"os error (\d+)", str(refused))
        number = number or (int(told[1]) if told else 0)
        what = f"the next {size_text(needed)} of {self.out}" if needed else f"the whole of {self.out}"
        if number == errno.EFBIG:
            raise StoppedError(
                f"{what[0].upper()}{what[1:]} are more than a file may hold here; {keeps}",
                remedy="Raise the limit of the system or shell (ulimit -f), then go on with --resume",
            ) from refused
        if number not in (errno.ENOSPC, errno.EDQUOT):
            why = getattr(refused, "strerror", None) or str(refused).partition("\n")[0]
            raise StoppedError(
                f"{self.out} cannot be written: {why}; {keeps}", remedy="--resume goes on"
            ) from refused
        free = size_text(shutil.disk_usage(self.out.parent).free)
        raise StoppedError(
            f"There is no room for {what} in {self.out.parent.resolve()}, where {free} are free; {keeps}",
            remedy=f"Make room for about {size_text(self.missing(needed))}, then go on with --resume",
        ) from refused

    def missing(self, needed: int) -> int:
        """Return about how many bytes are still to be written: the rest of the parts, and the output from them."""
        files = list(self.folder.glob("*.parquet")) if self.folder.is_dir() else []
        done = sum(file.stat().st_size for file in files)
        try:
            plan = self.plan()
        except OptionError:
            return max(needed, 1)
        portions = len(plan.cuts) - (not plan.dealt)
        each = done / len(files) if files else needed
        return int(each * portions * (1 + _AS_TEXT.get(self.out.suffix.lower(), 1)) - done)

    def finish(self) -> None:
        """Take the folder out of the way at once, then remove it."""
        gone = self.folder.with_name(f".{self.folder.name}.{os.getpid()}.gone")
        self.folder.rename(gone)
        shutil.rmtree(gone, ignore_errors=True)

    def swept(self) -> None:
        """Remove what was left of folders that were taken out of the way."""
        for folder in self.out.parent.glob(f".{self.folder.name}.*.gone"):
            shutil.rmtree(folder, ignore_errors=True)


def _lock(stream: BinaryIO) -> bool:
    """Return whether the file is now locked by this process; the system takes the lock back when it ends."""
    try:
        if sys.platform == "win32":
            import msvcrt  # noqa: PLC0415  each system has one of the two

            msvcrt.locking(stream.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl  # noqa: PLC0415

            fcntl.flock(stream.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def size_text(size: float) -> str:
    """Return bytes in words.

    >>> size_text(12), size_text(34_567), size_text(2.5e9)
    ('12 bytes', '35 kB', '2.5 GB')
    """
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.{0 if unit == 0 or size >= 9.95 else 1}f} {_UNITS[unit]}"
