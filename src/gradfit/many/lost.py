"""Fits that failed, set aside with their data until all others are done, and then tried again together."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from threading import Lock

import numpy as np

from gradfit.many.rows import Array, Block
from gradfit.solve.lockstep.batch import Batch, Ends

MOST = 20_000  # fits that are tried again: seconds where each takes all its steps
NUMBERS = (
    20_000_000  # of their responses, which are held until then: 160 MB, and as much for an input of their own
)


@dataclass(frozen=True, eq=False)
class Part:
    """Some fits that failed.

    Attributes
    ----------
    block : Block
        Their data.
    starts : (m, k)
        Where they began.
    ends : Ends
        Where they ended.
    """

    block: Block
    starts: Array
    ends: Ends

    def rows(self, which: "np.typing.NDArray[np.int64]") -> "Part":
        """Return some of them."""
        return Part(self.block.part(which), self.starts[which], self.ends.rows(which))


@dataclass(eq=False)  # parts come in while the other fits are made
class Lost:
    """The failed fits of a call. Of more than there is room for, those with the lowest numbers are kept, in whatever order they come."""

    parts: list[Part] = field(default_factory=list[Part])
    count: int = 0
    _lock: Lock = field(default_factory=Lock)

    def add(self, part: Part) -> None:
        """Take some in."""
        with self._lock:
            self.count += len(part.block)
            self.parts.append(part)
            if self.kept > 2 * MOST or sum(p.block.batch.y.size for p in self.parts) > 2 * NUMBERS:
                self._prune()

    @property
    def kept(self) -> int:
        """How many there are still."""
        return sum(len(p.block) for p in self.parts)

    def _prune(self) -> None:
        fits = np.concatenate([p.block.fits for p in self.parts])
        sizes = np.concatenate([np.full(len(p.block), p.block.batch.y.shape[1]) for p in self.parts])
        order = np.argsort(fits)
        room = int(np.searchsorted(np.cumsum(sizes[order]), NUMBERS, side="right"))
        room = min(max(room, 1), MOST)
        if len(fits) <= room:
            return
        last = fits[order[room - 1]]
        kept = [p.rows(np.flatnonzero(p.block.fits <= last)) for p in self.parts]
        self.parts = [p for p in kept if len(p.block)]

    def together(self) -> Iterator[Part]:
        """Return all of them, those of one length in one part, in the order of their numbers."""
        if self.parts:
            self._prune()
        for length in sorted({p.block.batch.y.shape[1] for p in self.parts}):
            alike = [p for p in self.parts if p.block.batch.y.shape[1] == length]
            whole = _joined(alike)
            yield whole.rows(np.argsort(whole.block.fits))


def _joined(parts: list[Part]) -> Part:
    blocks = [p.block for p in parts]
    shape = (sum(len(b) for b in blocks), blocks[0].batch.y.shape[1])
    columns: list[Array] = []
    for i in range(len(blocks[0].batch.columns)):
        held = [b.batch.columns[i] for b in blocks]
        shared = all(c.ndim == 1 and np.array_equal(c, held[0]) for c in held)
        columns.append(held[0] if shared else _stacked(held, blocks))
    weights = [b.batch.weight for b in blocks]
    weight = None
    if any(w is not None for w in weights):
        weight = _stacked([np.ones(shape[1]) if w is None else w for w in weights], blocks)
    block = Block(
        np.concatenate([b.fits for b in blocks]),
        Batch(tuple(columns), np.concatenate([b.batch.y for b in blocks]), weight),
        np.concatenate([b.dropped for b in blocks]),
        np.concatenate([b.unit for b in blocks]),
    )
    starts = np.concatenate([p.starts for p in parts])
    ends = Ends.blank(shape[0], starts.shape[1])
    first = 0
    for p in parts:
        ends.put(slice(first, first + len(p.block)), p.ends)
        first += len(p.block)
    return Part(block, starts, ends)


def _stacked(columns: list[Array], blocks: list[Block]) -> Array:
    return np.concatenate([np.broadcast_to(c, b.batch.y.shape) for c, b in zip(columns, blocks, strict=True)])
