"""Where the nodes of a graph stand in a picture: columns from left to right, the main line straight, branches beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from gradfit.explaining.values import Operation


@dataclass(frozen=True, slots=True)
class Place:
    """Where a node stands: columns count from the left, lanes from the main line down; negative ones are above it."""

    column: int
    lane: int


def places(operations: Sequence[Operation]) -> list[Place]:
    """Return the place of each node; what a node is made of stands left of it.

    The last node ends the main line. Each node hands its lane to the operand with the longest way behind it; the others get
    the nearest lane that is free from where they stand to where they enter.
    """
    depth = _depths(operations)
    columns = _columns(operations, depth)
    lanes: dict[int, int] = {}
    taken: set[tuple[int, int]] = set()
    for i in reversed(range(len(operations))):
        if i not in lanes:
            lanes[i] = _settled(taken, range(columns[i], columns[i] + 1), 0)
        for j in sorted(operations[i].operands, key=lambda j: (-depth[j], j)):
            if j not in lanes:
                lanes[j] = _settled(taken, range(columns[j], columns[i]), lanes[i])
    return [Place(columns[i], lanes[i]) for i in range(len(operations))]


def beside_their_use(operations: Sequence[Operation]) -> tuple[tuple[Operation, ...], frozenset[int]]:
    """Return the graph with what it begins with drawn again where it enters far from its place, and which nodes those are.

    A parameter that enters everywhere would otherwise send lines across the whole picture.
    """
    columns = _columns(operations, _depths(operations))
    more: list[Operation] = []
    instead: dict[tuple[int, int], int] = {}
    for j, leaf in enumerate(operations):
        entered = (
            sorted({columns[i] for i, o in enumerate(operations) if j in o.operands})
            if not leaf.operands
            else []
        )
        for column in entered[1:]:
            instead[j, column] = len(operations) + len(more)
            more.append(leaf)
    shift = len(more)
    # what a node is made of comes before it
    place = {
        i: i + shift if i < len(operations) else i - len(operations) for i in range(len(operations) + shift)
    }
    moved = [
        replace(o, operands=tuple(place[instead.get((j, columns[i]), j)] for j in o.operands))
        for i, o in enumerate(operations)
    ]
    return (*more, *moved), frozenset(range(shift))


def _depths(operations: Sequence[Operation]) -> list[int]:
    out: list[int] = []
    for o in operations:
        out.append(1 + max((out[i] for i in o.operands), default=-1))
    return out


def _columns(operations: Sequence[Operation], depth: Sequence[int]) -> list[int]:
    """Return columns as far right as what uses a node allows: a parameter stands beside where it enters."""
    last = max(depth, default=0)
    out = [last] * len(operations)
    used: set[int] = set()
    for i in reversed(range(len(operations))):
        for j in operations[i].operands:
            out[j] = min(out[j], out[i] - 1)
            used.add(j)
    return [
        column if i in used or o.operands else 0
        for i, (o, column) in enumerate(zip(operations, out, strict=True))
    ]


def _settled(taken: set[tuple[int, int]], columns: range, near: int) -> int:
    """Return the nearest lane that is free in some columns, of two the lower one; it is taken then."""
    lanes = (lane for k in range(len(taken) + 1) for lane in (near + k, near - k))
    lane = next(lane for lane in lanes if not any((column, lane) in taken for column in columns))
    taken.update((column, lane) for column in columns)
    return lane
