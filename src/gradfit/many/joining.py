"""The output of a large run, made from its parts: written under another name, which becomes the output's when it is whole."""

import os
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from gradfit._lazy import polars
from gradfit.errors import OptionError
from gradfit.many.kept import Kept
from gradfit.notation import listing

if TYPE_CHECKING:
    from polars import LazyFrame

FORMATS = (".parquet", ".csv", ".feather", ".arrow", ".jsonl")
FIRST = "\0first"  # the row at which a group first appears
_SLICE = 1 << 19  # rows of the output that are sorted at a time
_EVERY = 1000


def ending(out: Path) -> str:
    """Return the ending of an output.

    Raises
    ------
    OptionError
        If no such file can be written.
    """
    found = out.suffix.lower()
    if found not in FORMATS:
        raise OptionError(
            f"{out.name} does not end in {listing(list(FORMATS), 'or')}", remedy=f"Name it {out.stem}.parquet"
        )
    return found


def joined(kept: Kept, portions: int, *, dealt: bool, key: str) -> None:
    """Write the output from all parts: to another name, which becomes the output's when it is whole.

    Parameters
    ----------
    dealt : bool
        Whether the parts are to be brought into the order in which groups first appear.
    key : str
        What tells this run from others, kept in a Parquet file.

    Raises
    ------
    StoppedError
        If it cannot be written.
    """
    parts = [kept.part(i) for i in range(portions)]
    temporary = kept.folder / f"whole{kept.out.suffix}"
    try:
        files = _ordered(parts, kept.folder) if dealt else parts
        frame = polars.scan_parquet(files, glob=False)
        match ending(kept.out):
            case ".parquet":
                frame.sink_parquet(temporary, row_group_size=1 << 17, metadata={"gradfit": key})
            case ".csv":
                frame.sink_csv(temporary)
            case ".jsonl":
                frame.sink_ndjson(temporary)
            case _:
                frame.sink_ipc(temporary)
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        temporary.replace(kept.out)
    except (OSError, polars.exceptions.PolarsError, polars.exceptions.PanicException) as refused:
        temporary.unlink(missing_ok=True)
        kept.stopped(refused)


def _ordered(parts: list[Path], folder: Path) -> list[Path]:
    """Return files with all rows by their group's first appearance; each part is sorted by it."""
    frame = polars.scan_parquet(parts, glob=False)
    places = polars.concat(
        [polars.scan_parquet(part, glob=False).select(FIRST).gather_every(_EVERY).collect() for part in parts]
    )[FIRST].sort()
    step = max(_SLICE // _EVERY, 1)
    cuts = [None, *dict.fromkeys(places.gather_every(step, step).to_list()), None]
    files: list[Path] = []
    for low, high in pairwise(cuts):
        some = frame if low is None else frame.filter(polars.col(FIRST) >= low)
        some = some if high is None else some.filter(polars.col(FIRST) < high)
        files.append(folder / f"{len(files):06d}.ordered")
        some.collect().sort(FIRST).drop(FIRST).write_parquet(files[-1])
    return files


def key_in(out: Path) -> str:
    """Return what a Parquet output says of the run that wrote it, empty where it says nothing."""
    if ending(out) != ".parquet":
        return ""
    try:
        return str(polars.read_parquet_metadata(out).get("gradfit", ""))
    except (OSError, polars.exceptions.PolarsError):
        return ""


def scanned(out: Path) -> "LazyFrame":
    """Return an output as it can be read in parts."""
    readers = {".parquet": polars.scan_parquet, ".csv": polars.scan_csv, ".jsonl": polars.scan_ndjson}
    return readers.get(ending(out), polars.scan_ipc)(out)
