"""What was worked out before, on disk: bytes by kind and key, in the user's cache folder.

A file is named by its key, written whole or not at all, and read only if it is what was written: anything else (damaged,
cut off, another format, a folder that cannot be written) counts as absent. So the worst that a cache can do is to cost the
time that it would have saved. GRADFIT_CACHE names another folder, or is "off".
"""

import hashlib
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MOST_BYTES = 256_000_000  # of all kinds together; above, what was used longest ago goes
_KEPT = 0.75  # of them, so that the next save does not look again
_LARGE = 1_000_000  # bytes; after such a save, and after one of 32 others, the sizes are added up
_ONE_OF_32 = ("00", "20", "40", "60", "80", "a0", "c0", "e0")  # how its key begins
_BLOCK = 4096  # bytes that a small file takes on disk
_DAY = 86400.0  # seconds

_TAG = b"gradfit store 1\n"
_CHECK = 16  # bytes
_KEY = re.compile(r"[0-9a-f]{40}")
_OURS = re.compile(r"[0-9a-f]{40}\.(kept|[0-9a-f]{16}\.part)")
_OFF = frozenset(["off", "no", "none", "false", "0"])


@dataclass(frozen=True, slots=True)
class Kind:
    """What is kept of one kind.

    Attributes
    ----------
    name : str
        As `save` was told.
    count : int
        Entries.
    size : int
        Bytes.
    newest : float
        When the last of them was written or used, in seconds since 1970.
    """

    name: str
    count: int
    size: int
    newest: float


def folder() -> Path | None:
    """Return where the entries are; the folder need not be there. None where the cache is switched off."""
    named = os.environ.get("GRADFIT_CACHE", "").strip()
    if named.lower() in _OFF:
        return None
    try:
        return Path(named).expanduser().absolute() if named else _usual()
    except (RuntimeError, OSError):  # no home, or a working folder that is gone
        return None


def writable() -> bool:
    """Return whether entries can be kept, as far as can be seen without writing one."""
    home = folder()
    try:
        while home is not None and not home.exists() and home != home.parent:
            home = home.parent
        return home is not None and home.is_dir() and os.access(home, os.W_OK | os.X_OK)
    except OSError:  # a folder that may not be looked into
        return False


def key_of(*parts: str | bytes) -> str:
    """Return the key of an entry that depends on these parts and on nothing else.

    >>> key_of("ab", "c") == key_of("a", "bc"), key_of("a") == key_of(b"a")
    (False, False)
    """
    digest = hashlib.blake2b(digest_size=20)
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        digest.update(f"{type(part).__name__} {len(data)} ".encode())
        digest.update(data)
    return digest.hexdigest()


def load(kind: str, key: str) -> bytes | None:
    """Return the bytes that were saved, or None if there are none that are whole."""
    file = _file(kind, key)
    if file is None:
        return None
    try:
        with file.open("rb") as stream:
            if stream.read(len(_TAG)) != _TAG:
                return None
            check, data = stream.read(_CHECK), stream.read()
            unused = time.time() - os.fstat(stream.fileno()).st_mtime
    except (OSError, MemoryError):
        return None
    if check != _check(kind, key, data):
        return None
    if unused > _DAY:  # what is used stays; a day, as a look should not cost a write
        with suppress(OSError):
            os.utime(file)
    return data


def save(kind: str, key: str, data: bytes) -> None:
    """Keep bytes for later processes; where nothing can be written, nothing happens.

    Parameters
    ----------
    kind : str
        What it is, a name such as "trace".
    key : str
        As `key_of` gave it.
    data : bytes
        What `load` will return.
    """
    file = _file(kind, key)
    if file is None:
        return
    part = file.with_name(f"{key}.{os.urandom(8).hex()}.part")
    try:
        _make(file.parent)
        with part.open("xb") as stream:
            stream.write(_TAG + _check(kind, key, data))
            stream.write(data)
        part.replace(file)  # whoever reads meanwhile has the old file or the new one, each whole
    except OSError:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        return
    if len(data) >= _LARGE or key.startswith(_ONE_OF_32):
        _trim()


def contents() -> list[Kind]:
    """Return what is kept, a record for each kind, the largest first."""
    found: dict[str, list[os.stat_result]] = {}
    for file, about in _entries():
        found.setdefault(file.parent.name, []).append(about)
    kinds = [
        Kind(name, len(some), sum(s.st_size for s in some), max(s.st_mtime for s in some))
        for name, some in found.items()
    ]
    return sorted(kinds, key=lambda kind: (-kind.size, kind.name))


def clear(kind: str | None = None) -> int:
    """Return how many entries were removed, of one kind or of all; files that are not the store's own stay."""
    removed = 0
    for file, _ in _entries():
        if kind in (None, file.parent.name):
            with suppress(OSError):
                file.unlink()
                removed += 1
    return removed


# ---------------------------------------------------------------------------- folders and files


def _usual() -> Path:
    """Return the folder that the system has for caches.

    Raises
    ------
    RuntimeError
        If there is no home.
    """
    named = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if named.is_absolute():  # a relative one does not count, says its specification
        return named / "gradfit"
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA")
        return (Path(local) if local else Path.home() / "AppData" / "Local") / "gradfit" / "Cache"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "gradfit"
    return Path.home() / ".cache" / "gradfit"


def _file(kind: str, key: str) -> Path | None:
    """Return the file of an entry.

    Raises
    ------
    ValueError
        If the kind or the key could not be a file's name everywhere.
    """
    if not (kind.isidentifier() and kind.isascii()):
        raise ValueError(f"A kind of entry is a name, and {kind!r} is none")
    if not _KEY.fullmatch(key):
        raise ValueError(f"A key is what key_of returns, and {key!r} is not")
    root = folder()
    return None if root is None else root / kind / f"{key}.kept"


def _make(home: Path) -> None:
    if not home.is_dir():
        home.parent.mkdir(mode=0o700, parents=True, exist_ok=True)  # nobody else's to write: it may hold code
        home.mkdir(mode=0o700, exist_ok=True)


def _check(kind: str, key: str, data: bytes) -> bytes:
    digest = hashlib.blake2b(
        f"{kind} {key} ".encode(), digest_size=_CHECK
    )  # so that a file moved elsewhere is no entry
    digest.update(data)
    return digest.digest()


def _entries() -> Iterator[tuple[Path, os.stat_result]]:
    """Yield the store's own files, unfinished ones too; one that goes while we look is passed over."""
    root = folder()
    for home in _listed(root) if root is not None else ():
        if not home.name.isidentifier():
            continue
        for entry in _listed(home):
            if _OURS.fullmatch(entry.name):
                with suppress(OSError):
                    yield Path(entry.path), entry.stat(follow_symlinks=False)


def _listed(home: "Path | os.DirEntry[str]") -> "list[os.DirEntry[str]]":
    try:
        with os.scandir(home) as entries:
            return list(entries)
    except OSError:
        return []


def _trim() -> None:
    """Remove what was used longest ago until the rest is well below the most that is kept."""
    now = time.time()
    found = [(about.st_mtime, -(-about.st_size // _BLOCK) * _BLOCK, file) for file, about in _entries()]
    total = sum(size for _, size, _ in found)
    full = total > MOST_BYTES
    for used, size, file in sorted(found):
        unfinished = file.suffix == ".part" and now - used > _DAY  # its process was killed
        if unfinished or (full and total > _KEPT * MOST_BYTES):
            with suppress(OSError):
                file.unlink()
                total -= size
