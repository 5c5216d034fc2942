"""A fitted parameter: its value, its uncertainty, and how it was held."""

from collections.abc import Iterable, Iterator, Mapping, Sequence, ValuesView
from math import inf, isnan, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars
from gradfit.errors import OptionError
from gradfit.prepare import Parameters
from gradfit.uncertainty import student


def checked_level(level: float) -> float:
    """Return the level of an interval.

    Raises
    ------
    OptionError
        If it does not lie between 0 and 1.
    """
    if not 0 < level < 1:
        raise OptionError(
            f"level must lie between 0 and 1, and is {level}", remedy="level=0.95 is a 95 % interval"
        )
    return level


class ParameterResult(NamedTuple):
    """One parameter of a fit.

    Attributes
    ----------
    name : str
        As in the formula.
    value : float
        Best value.
    stderr : float
        Standard error; NaN for a parameter that was fixed, sits on a bound, or is not determined by the data.
    fixed : bool
        Whether it was held at its value.
    bounds : (float, float)
        Limits, infinite where there is none.
    start : float or None
        Where the fit began; None where no start was needed.
    at_bound : bool
        Whether it ended on one of its bounds.
    determined : bool
        False when only combinations with other parameters are known.
    dof : int
        Degrees of freedom of its interval.
    level : float
        Level of the interval when none is given.
    """

    name: str
    value: float
    stderr: float
    fixed: bool
    bounds: tuple[float, float]
    start: float | None
    at_bound: bool
    determined: bool
    dof: int
    level: float
    unit: str = ""

    def interval(self, level: float | None = None) -> tuple[float, float]:
        """Return the two-sided interval by Student's t; infinite when the data do not determine the parameter.

        Examples
        --------
        >>> p = ParameterResult("w", 0.5368, 0.0355, False, (-inf, inf), None, False, True, 9, 0.95)
        >>> tuple(round(end, 3) for end in p.interval())
        (0.456, 0.617)
        """
        if self.fixed:
            return self.value, self.value
        if not self.determined or isnan(self.stderr):
            return (-inf, inf) if not self.at_bound else (nan, nan)
        half = student(checked_level(self.level if level is None else level), self.dof) * self.stderr
        return self.value - half, self.value + half


class Params(Mapping[str, ParameterResult]):
    """Parameters by name, in the model's order; a wrong name is answered with the right ones."""

    def __init__(self, parameters: Iterable[ParameterResult]) -> None:
        self._known = {p.name: p for p in parameters}

    def __getitem__(self, name: str) -> ParameterResult:
        if name not in self._known:
            raise KeyError(f"{name} is no parameter of this fit; they are {', '.join(self._known)}")
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)

    def values(self) -> ValuesView[ParameterResult]:
        """Return the parameters, in the model's order."""
        return self._known.values()

    def to_frame(self) -> "polars.DataFrame":
        """Return them as a Polars data frame, a row for each."""
        rows = [
            {
                "parameter": p.name,
                "value": p.value,
                "stderr": p.stderr,
                "low": p.interval()[0],
                "high": p.interval()[1],
                "fixed": p.fixed,
                "lower_bound": p.bounds[0],
                "upper_bound": p.bounds[1],
            }
            for p in self.values()
        ]
        return polars.DataFrame(rows)

    def __repr__(self) -> str:
        return "\n".join(f"{p.name} = {p.value:.10g} ± {p.stderr:.3g}" for p in self.values())


def described(
    names: Sequence[str],
    values: NDArray[np.float64],
    settled: Parameters,
    known: Iterable[tuple[float, bool, bool]],
    *,
    begun: bool,
    dof: int,
    level: float,
) -> Params:
    """Return the parameters of a fit by name.

    Parameters
    ----------
    values : (k,)
        Of all parameters.
    settled : Parameters
        Their start and bounds, and which are free.
    known : iterable of (float, bool, bool)
        Of the free ones: standard error, whether a bound holds it, whether the data determine it.
    begun : bool
        Whether the fit needed a start.
    """
    free, held = dict(zip(settled.free.tolist(), known, strict=True)), (nan, False, True)
    places = zip(
        names, values.tolist(), settled.lower.tolist(), settled.upper.tolist(), settled.start.tolist(), strict=True
    )  # fmt: skip
    made: list[ParameterResult] = []
    for j, (name, value, lower, upper, start) in enumerate(places):
        stderr, at_bound, determined = free.get(j, held)
        began = start if begun and not isnan(start) else None
        made.append(
            ParameterResult(
                name, value, stderr, j not in free, (lower, upper), began, at_bound, determined, dof, level
            )
        )
    return Params(made)
