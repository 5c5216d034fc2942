"""What many fits take in memory, foreseen, against what the machine has left."""

import os
from pathlib import Path

from gradfit.errors import DataError
from gradfit.notation import fixed

_CGROUP = Path("/sys/fs/cgroup")
_SPARE = 0.95  # of what is there


def free_bytes() -> float:
    """Return how many bytes this process can still have: of the machine, and of its control group."""
    left = [_of_group(_CGROUP), _of_group(_own_group())]
    meminfo = Path("/proc/meminfo")
    if meminfo.exists():
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        if "MemAvailable" in lines:
            left.append(1024.0 * float(lines["MemAvailable"].split()[0]))
    elif "SC_PHYS_PAGES" in os.sysconf_names:
        left.append(float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE"))
    return min(left)


def _own_group() -> Path:
    own = Path("/proc/self/cgroup")
    if not own.exists():
        return _CGROUP
    lines = own.read_text().splitlines()
    unified = next((line[3:] for line in lines if line.startswith("0::")), "/")
    return _CGROUP / unified.lstrip("/")


def _of_group(folder: Path) -> float:
    """Return what a control group has left; infinite where it has no limit."""
    try:
        limit, used = (folder / "memory.max").read_text().strip(), (folder / "memory.current").read_text()
        return float("inf") if limit == "max" else float(limit) - float(used)
    except OSError:  # no such group, or none of our business
        return float("inf")


def foresee(what: str, needed: float, *, one: bool = False) -> None:
    """Return when that many bytes can be had for `what`, which is one thing or several.

    Raises
    ------
    DataError
        If they cannot.
    """
    left = _SPARE * free_bytes()
    if needed > left:
        raise DataError(
            f"{what} {'needs' if one else 'need'} about {_size(needed)} of memory, and {_size(left)} are left",
            remedy="Fit fewer at once, or let `gradfit many` read, fit and write them in portions",
        )


def _size(size: float) -> str:
    return f"{fixed(size / 1e9, 1)} GB" if size >= 1e9 else f"{fixed(size / 1e6, 0)} MB"
