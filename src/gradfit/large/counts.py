"""What is known of counts, many of them: whether they are counts, and how likely they could be at most."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special
from gradfit.errors import DataError
from gradfit.notation import count
from gradfit.prepare import Data, rows_text

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Tally:
    """Sums over counts y with weights w, the squares of those of residuals.

    Attributes
    ----------
    weight, total : float
        Of w, and of w y.
    logs : float
        Of w y log y.
    likelihood : float
        Of w (y log y - y - log y!), the log-likelihood where each count is its own mean.
    broken : int
        How many are no whole numbers.
    """

    weight: float = 0.0
    total: float = 0.0
    logs: float = 0.0
    likelihood: float = 0.0
    broken: int = 0

    @classmethod
    def of(cls, y: Array, weight: Array | None) -> "Tally":
        """Return that of some rows."""
        square = np.ones(len(y)) if weight is None else weight * weight
        logs = special.xlogy(y, y)
        summed, total, of_logs, likely = (
            float(np.add.reduce(square * part)) for part in (1.0, y, logs, logs - y - special.gammaln(y + 1))
        )
        return cls(summed, total, of_logs, likely, int(np.count_nonzero(y != np.rint(y))))

    def joined(self, other: "Tally") -> "Tally":
        """Return that of these rows and others."""
        return Tally(
            self.weight + other.weight,
            self.total + other.total,
            self.logs + other.logs,
            self.likelihood + other.likelihood,
            self.broken + other.broken,
        )

    @property
    def deviance(self) -> float:
        """That of one mean for all."""
        return 2 * (self.logs - self.total * float(np.log(self.total / self.weight)))


def as_counts(data: Data) -> Data:
    """Return some of the rows as counts.

    Raises
    ------
    DataError
        If one is below zero.
    """
    negative = data.y < 0
    if negative.any():
        raise DataError(
            f'loss="poisson" is for counts, and the response is below zero in {rows_text(data.rows[negative])}',
            remedy="Fit the counts as they were recorded, with the background in the model and not subtracted",
        )
    return replace(data, counts=True, absolute=True)


def noted(sample: Data, tally: Tally, n: int) -> Data:
    """Return the sample of n counts, with a note where some of all are no whole numbers.

    Raises
    ------
    DataError
        If all of them are zero.
    """
    if tally.total == 0:
        raise DataError(
            f"All {count(n, 'count')} are zero: they tell no mean, but only that it is small",
            remedy=f"Give an upper limit instead: a mean of {3.0 / n:.2g} would leave no event in 5 % of such data",
        )
    if not tally.broken:
        return sample
    note = (
        f"{count(tally.broken, 'count')} of {n} {'is' if tally.broken == 1 else 'are'} no whole number: standard errors "
        "hold for recorded counts, not for rates or means"
    )
    return replace(sample, notes=(*sample.notes, note))
