"""Where the numbers of a large fit are kept: as they lie, in memory, or in a scratch file."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import DataError
from gradfit.large.sources import Arrays
from gradfit.solve.passes import PIECE, Columns, Part


class Kept(Protocol):
    """Columns of numbers, part after part."""

    def parts(self) -> Iterator[Part]:
        """Return them."""
        ...


@dataclass(frozen=True, eq=False)
class Views:
    """Arrays that hold the numbers already, of whatever type."""

    source: Arrays
    columns: Sequence[NDArray[Any]]
    release: bool = False

    def parts(self) -> Iterator[Part]:
        """Return them as they lie."""
        for nth, start in enumerate(range(0, len(self.columns[-1]), PIECE)):
            if self.release and nth % 8 == 0:
                self.source.check()
                self.source.release()
            yield partial(self._cut, start)

    def _cut(self, start: int) -> Columns:
        return [c[start : start + PIECE] for c in self.columns]


class Memory:
    """Parts in memory."""

    def __init__(self) -> None:
        self._parts: list[Columns] = []
        self.bytes = 0

    def add(self, columns: Columns) -> None:
        """Keep one more."""
        self._parts.append(columns)
        self.bytes += sum(c.nbytes for c in columns)

    def parts(self) -> Iterator[Part]:
        """Return them."""
        for columns in self._parts:
            yield partial(list, columns)


class Scratch:
    """Parts in a nameless file, which is gone with the process, however that ends."""

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115  it lives as long as this does
        self._places: list[tuple[int, int, int]] = []  # offset, columns, rows

    def add(self, columns: Columns) -> None:
        """Keep one more.

        Raises
        ------
        DataError
            If the disk is full.
        """
        self._places.append((self._file.tell(), len(columns), len(columns[0])))
        try:
            for column in columns:
                self._file.write(np.ascontiguousarray(column).data)
            self._file.flush()
        except OSError as error:
            raise DataError(
                f"The numbers read so far do not fit into {tempfile.gettempdir()} ({error.strerror})",
                remedy="Name another folder in TMPDIR, or give more memory=",
            ) from None

    def parts(self) -> Iterator[Part]:
        """Return them, read when they are asked for."""
        for place in self._places:
            yield partial(self._read, *place)

    def _read(self, offset: int, width: int, rows: int) -> Columns:
        held = np.empty((width, rows))
        done = os.preadv(self._file.fileno(), [held.data], offset)
        if done != held.nbytes:
            raise DataError("The scratch file of this fit was cut short", remedy="Fit again")
        return list(held)


@dataclass(frozen=True, eq=False)
class Scaled:
    """Parts whose residuals are multiplied by a power of two, so that squares of extreme responses stay in range."""

    kept: Kept
    unit: float
    weighted: bool

    def parts(self) -> Iterator[Part]:
        """Return them with the factor in their weights."""
        for part in self.kept.parts():
            yield partial(self._scaled, part)

    def _scaled(self, part: Part) -> Columns:
        columns = part()
        if self.weighted:
            return [*columns[:-1], columns[-1] * self.unit]
        return [*columns, np.full(len(columns[0]), self.unit)]
