"""Files that are written whole or not at all; several of them all, or none."""

import os
import shutil
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from gradfit.errors import OptionError


def target(path: str | os.PathLike[str], *, force: bool = False) -> Path:
    """Return the file that `path` names, after a look at whether it can be written.

    Parameters
    ----------
    path : str or path
        Where it is to go; its folder must be there. A link is followed.
    force : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    OptionError
        If it is there already and `force` is not given, is no regular file, or its folder is missing or read-only.
    """
    if not isinstance(path, str | os.PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may not be typed
        raise OptionError(f"{path!r} is no name of a file", remedy="Give one, such as fit.json")
    named = os.fspath(path)
    file = Path(named)
    if not named or "\0" in named or file.name in ("", "..", "-"):
        raise OptionError(f"{named!r} is no name of a file", remedy="Give one, such as fit.json")
    try:
        file = Path(os.path.realpath(file)) if file.is_symlink() else file
        _writable(file, named, force=force)
    except OSError as refused:
        raise OptionError(
            f"{named} cannot be written: {refused.strerror}", remedy="Name another file"
        ) from refused
    return file


def _writable(file: Path, named: str, *, force: bool) -> None:
    folder = file.parent
    if file.is_dir():
        raise OptionError(f"{named} is a folder", remedy="Give the name of a file in it")
    if file.exists() and not file.is_file():
        raise OptionError(f"{named} is no regular file", remedy="Name another one")
    if file.exists() and not force:
        raise OptionError(
            f"{named} is there already and was not overwritten",
            remedy="Name another file, or use --force (force=True)",
        )
    if not folder.is_dir():
        raise OptionError(
            f"There is no folder {folder} to write {file.name} to", remedy=f"Make it first: mkdir -p {folder}"
        )
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OptionError(
            f"Nothing can be written to the folder {folder}",
            remedy="Name a file in another one, or change its permissions",
        )


def write_whole(contents: Mapping[Path, bytes]) -> None:
    """Write files: all of them, each whole; where one fails, what was there before is there again.

    Parameters
    ----------
    contents : mapping of Path to bytes
        By the paths that `target` returned.

    Raises
    ------
    OptionError
        If one cannot be written: no room left, no permission.
    """
    parts = {file: _beside(file, "part") for file in contents}
    try:
        for file, data in contents.items():
            _put(parts[file], data)
            if file.exists():
                shutil.copymode(file, parts[file])
        _moved(parts)
    except OSError as refused:
        raise OptionError(
            f"{', '.join(str(file) for file in contents)} could not be written: {refused.strerror or refused}",
            remedy="Make room, or name another folder",
        ) from refused
    finally:
        _gone(parts.values())


def _beside(file: Path, ending: str) -> Path:
    return file.with_name(f".{file.name[:40]}.{os.getpid()}.{ending}")


def _put(file: Path, data: bytes) -> None:
    with file.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())  # else a power cut could leave the new name on an empty file


def _moved(parts: Mapping[Path, Path]) -> None:
    """Give finished files their names; a failure on the way takes back those before it.

    Raises
    ------
    OSError
        As the system said it.
    """
    old = {file: _beside(file, "old") for file in parts if len(parts) > 1 and file.exists()}
    done: list[Path] = []
    try:
        for file, kept in old.items():
            shutil.copy2(file, kept)
        for file, part in parts.items():
            part.replace(file)
            done.append(file)
    except OSError:
        for file in done:
            if file in old:
                old[file].replace(file)
            else:
                file.unlink()
        raise
    finally:
        _gone(old.values())


def _gone(files: Iterable[Path]) -> None:
    for file in files:
        with suppress(OSError):
            file.unlink(missing_ok=True)
