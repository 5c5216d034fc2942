"""What decides the code of many small fits, its arguments, and where in memory it keeps what belongs to a lane."""

from dataclasses import dataclass

from gradfit.native.sums import triangle

FITS = 8  # in lock-step

POINTERS = (
    "shared",
    "inputs",
    "observed",
    "weights",
    "starts",
    "lower",
    "upper",
    "scales",
    "order",
    "out",
    "gram",
    "scratch",
)
NUMBERS = ("points", "fits", "stride", "first", "last", "room", "depth", "most")
REALS = ("tolerance", "damping")


@dataclass(frozen=True)
class Shape:
    """What decides the code.

    Attributes
    ----------
    free : tuple of int
        Parameters that are fitted.
    linear : tuple of int
        Places among the free ones of those that enter linearly: they are not damped.
    shared : tuple of bool
        For each input, whether all fits share it.
    weight : str
        "none", "shared" or "own"; points of weight 0 are not there.
    bounded : bool
        Whether the free parameters have bounds.
    cost : str
        "squared", "poisson" or a robust one.
    lead : bool
        Whether the first step solves the linear parameters for the others as they are.
    real : {64, 32}
        Bits of all numbers.
    """

    free: tuple[int, ...]
    linear: tuple[int, ...]
    shared: tuple[bool, ...]
    weight: str
    bounded: bool
    cost: str
    lead: bool
    real: int = 64

    @property
    def per_point(self) -> int:
        """How many numbers of a fit a point has of its own."""
        return 1 + self.shared.count(False) + (self.weight == "own")


class Rows:
    """Where in a lane's column everything stands."""

    def __init__(self, count: int, free: int) -> None:
        pairs = len(triangle(free))
        sizes = {
            "trial": count, "best": free, "gradient": free, "scale": free, "gram": pairs, "cost": 1, "promised": 1,
            "damping": 1, "growth": 1, "steps": 1, "floor": 1, "tuning": 1,
        }  # fmt: skip
        self.place: dict[str, int] = {}
        self.total = 0
        for name, size in sizes.items():
            self.place[name] = self.total
            self.total += size

    def at(self, name: str, index: int = 0) -> int:
        """Return the element where a quantity's lanes begin."""
        return (self.place[name] + index) * FITS
