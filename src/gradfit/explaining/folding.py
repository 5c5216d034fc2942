"""A graph small enough to be read: layers become one node, then chains, then the middle."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from gradfit.explaining.values import CONSTANT, OPERATION, PARAMETER, Operation

READABLE = 30  # operations that a picture holds


def folded(operations: Sequence[Operation], most: int = READABLE) -> tuple[Operation, ...]:
    """Return a graph of at most `most` nodes with the same beginning and end; a node stands for the last one it holds."""
    out = tuple(operations)
    if len(out) <= most:
        return out
    out = _without_constants(out)
    depth = max((o.module.count(".") + 1 for o in out if o.module), default=0)
    for level in range(depth, 0, -1):
        if len(out) > most:
            out = _layers(out, level)
    while len(out) > most:
        shorter = _one_chain(out)
        if len(shorter) == len(out):
            break
        out = shorter
    return out if len(out) <= most else _middle(out, most)


def _joined(
    operations: Sequence[Operation], home: Mapping[int, int], names: Mapping[int, str]
) -> tuple[Operation, ...]:
    """Return the graph with each node put into its home, which comes last of those it holds."""
    kept = [i for i in range(len(operations)) if home.get(i, i) == i]
    place = {old: new for new, old in enumerate(kept)}
    taken: dict[int, list[int]] = {i: [] for i in kept}
    for i, o in enumerate(operations):
        target = home.get(i, i)
        for j in o.operands:
            source = home.get(j, j)
            if source != target and place[source] not in taken[target]:
                taken[target].append(place[source])
    out: list[Operation] = []
    for i in kept:
        o = replace(operations[i], operands=tuple(sorted(taken[i])))
        out.append(replace(o, symbol=names[i].rpartition(" ")[0], text=names[i]) if i in names else o)
    return tuple(out)


def _without_constants(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    users = _users(operations)
    home = {i: users[i][0] for i, o in enumerate(operations) if o.kind == CONSTANT and len(users[i]) == 1}
    return _joined(operations, home, {})


def _users(operations: Sequence[Operation]) -> list[list[int]]:
    users: list[list[int]] = [[] for _ in operations]
    for i, o in enumerate(operations):
        for j in o.operands:
            users[j].append(i)
    return users


def _layers(operations: tuple[Operation, ...], level: int) -> tuple[Operation, ...]:
    """Return the graph with the operations of each layer, down to `level` names of its path, and its weights, in one node."""
    users = _users(operations)
    home: dict[int, int] = {}
    names: dict[int, str] = {}
    run: list[int] = []
    path = ""
    steps = [i for i, o in enumerate(operations) if o.operands]
    for i in [*steps, -1]:
        here = ".".join(operations[i].module.split(".")[:level]) if i >= 0 else ""
        if run and here != path:
            home.update(dict.fromkeys(run, run[-1]))
            if len(run) > 1:
                names[run[-1]] = f"{operations[run[-1]].layers[path.count('.')]} {path}"
            run = []
        path = here
        if here:
            run.append(i)
    for i, o in enumerate(operations):
        goals = {home.get(j, j) for j in users[i]}
        if o.kind == PARAMETER and len(goals) == 1 and users[i][0] in home:
            home[i] = goals.pop()
    return _joined(operations, home, names)


def _one_chain(operations: tuple[Operation, ...]) -> tuple[Operation, ...]:
    """Return the graph with one operation put into the only one that uses it, the one with the fewest operands first."""
    users = _users(operations)
    alone = [
        i
        for i, o in enumerate(operations)
        if o.kind == OPERATION and len(users[i]) == 1 and len(o.operands) <= 1
    ]
    alone = [i for i in alone if operations[users[i][0]].kind == OPERATION]
    if not alone:
        return operations
    return _joined(operations, {alone[0]: users[alone[0]][0]}, {})


def _middle(operations: tuple[Operation, ...], most: int) -> tuple[Operation, ...]:
    """Return the graph with the operations in its middle, and what only they use, in one node."""
    users = _users(operations)
    steps = [i for i, o in enumerate(operations) if o.operands]
    for end in range(2, len(steps)):
        middle = set(steps[1:end])
        last = max(middle)
        home = dict.fromkeys(middle, last)
        home.update(
            {
                i: last
                for i, o in enumerate(operations)
                if not o.operands and users[i] and set(users[i]) <= middle
            }
        )
        if len(operations) - len(home) + 1 <= most:
            return _joined(operations, home, {last: f"{len(middle)} steps (folded)"})
    return operations
