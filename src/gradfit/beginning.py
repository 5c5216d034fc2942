"""Where a fit began."""

from dataclasses import dataclass


@dataclass(frozen=True, eq=False)
class Starts:
    """Where the fit began.

    Attributes
    ----------
    source : str
        "given", "library", "search" or "not needed" (a closed form).
    tried : int
        Draws looked at, 1 where the start was given.
    refined : int
        Draws from which a fit was begun.
    reached : int
        How many of those ended at this minimum.
    losses : (refined,)
        Where each ended.
    """

    source: str
    tried: int = 1
    refined: int = 1
    reached: int = 1
    losses: tuple[float, ...] = ()
