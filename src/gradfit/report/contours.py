"""Level lines of a surface given on a grid, by marching squares."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Edge = tuple[int, int, int]  # row and column of its lower end, and 0 for an edge along x, 1 along y
#: which edges of a cell a level crosses, for each pattern of corners above it: bottom, right, top, left
_CROSSED: tuple[tuple[tuple[int, int], ...], ...] = (
    (), ((3, 0),), ((0, 1),), ((3, 1),), ((1, 2),), ((3, 0), (1, 2)), ((0, 2),), ((3, 2),),
    ((2, 3),), ((0, 2),), ((0, 1), (2, 3)), ((1, 2),), ((1, 3),), ((0, 1),), ((3, 0),), (),
)  # fmt: skip


def level_lines(xs: Array, ys: Array, heights: Array, level: float) -> list[tuple[Array, Array]]:
    """Return the lines on which a surface has a level, each as places (m,) and (m,); cells that are not finite have none.

    Parameters
    ----------
    xs, ys : (k,), (l,)
        The grid.
    heights : (l, k)
        The surface.

    References
    ----------
    .. [1] Lorensen & Cline (1987), Computer Graphics 21, 163; in the plane.
    """
    above = heights > level
    finite = np.isfinite(heights)
    whole = finite[:-1, :-1] & finite[:-1, 1:] & finite[1:, :-1] & finite[1:, 1:]
    corners = (above[:-1, :-1], above[:-1, 1:], above[1:, 1:], above[1:, :-1])
    pattern = np.sum([corner.astype(np.int64) << k for k, corner in enumerate(corners)], axis=0)
    places = np.argwhere(whole & (pattern > 0) & (pattern < 15))
    pairs: list[tuple[Edge, Edge]] = []
    for i, j in places.tolist():
        edges = ((i, j, 0), (i, j + 1, 1), (i + 1, j, 0), (i, j, 1))
        pairs += [(edges[a], edges[b]) for a, b in _CROSSED[int(pattern[i, j])]]
    return [_placed(chain, (xs, ys), heights, level) for chain in _chains(pairs)]


def _chains(pairs: Iterable[tuple[Edge, Edge]]) -> list[list[Edge]]:
    """Return pieces of line joined end to end: open ones from their ends, then rings."""
    beside: dict[Edge, list[Edge]] = {}
    for a, b in pairs:
        beside.setdefault(a, []).append(b)
        beside.setdefault(b, []).append(a)
    chains: list[list[Edge]] = []
    for begin in [*(edge for edge, near in beside.items() if len(near) == 1), *beside]:
        if not beside[begin]:
            continue
        chain = [begin]
        while beside[chain[-1]]:
            after = beside[chain[-1]].pop()
            beside[after].remove(chain[-1])
            chain.append(after)
        chains.append(chain)
    return chains


def _placed(
    chain: list[Edge], grid: tuple[Array, Array], heights: Array, level: float
) -> tuple[Array, Array]:
    """Return where the edges of a chain are crossed, by linear interpolation."""
    xs, ys = grid
    i, j, upright = np.array(chain).T
    k, m = i + upright, j + (1 - upright)
    low, high = heights[i, j], heights[k, m]
    share = np.divide(level - low, high - low, out=np.full(len(low), 0.5), where=high != low)
    return xs[j] + share * (xs[m] - xs[j]), ys[i] + share * (ys[k] - ys[i])
