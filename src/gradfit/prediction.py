"""A model at new inputs, with its bands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars
from gradfit.errors import DataError
from gradfit.prepare import Data
from gradfit.table import Table, read
from gradfit.uncertainty import band_of_counts

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Prediction:
    """The model at new inputs.

    Attributes
    ----------
    value, stderr : (m,)
        The curve and its standard error; infinite where it depends on what the data did not determine.
    confidence : (lower, upper), each (m,)
        Where the curve lies.
    prediction : (lower, upper), each (m,)
        Where one new reading lies.
    columns : mapping of str to (m,)
        The inputs.
    level : float
        Of both bands.
    response : str
        What is predicted.
    """

    value: Array
    stderr: Array
    confidence: tuple[Array, Array]
    prediction: tuple[Array, Array]
    columns: Mapping[str, Array]
    level: float
    response: str

    def to_dict(self) -> dict[str, list[float]]:
        """Return inputs, value and bands as columns."""
        return {
            **{name: values.tolist() for name, values in self.columns.items()},
            self.response: self.value.tolist(),
            "stderr": self.stderr.tolist(),
            "confidence_low": self.confidence[0].tolist(),
            "confidence_high": self.confidence[1].tolist(),
            "prediction_low": self.prediction[0].tolist(),
            "prediction_high": self.prediction[1].tolist(),
        }

    def to_frame(self) -> "polars.DataFrame":
        """Return the same as a Polars data frame."""
        return polars.DataFrame(self.to_dict())


def new_inputs(
    known: Data, data: object, names: Sequence[str], formula: str
) -> tuple[Mapping[str, Array], int]:
    """Return the input columns (m,) of new data, coded as those that were fitted, and m; of None those that were.

    Raises
    ------
    DataError
        If one is missing.
    """
    if data is None:
        return known.columns, known.n
    table = data if isinstance(data, Table) else read(data, origins=known.origins)
    missing = [name for name in names if name not in table.columns]
    if missing:
        raise DataError(
            f"{table.source} has no column {missing[0]}, an input of {formula}",
            remedy=f"It has {', '.join(table.names)}",
        )
    for name, levels in known.categories.items():
        if name in names:
            table = table.coded(name, levels=levels)
    table = table.numeric(names)
    return {name: table.columns[name] for name in names}, table.n


def bands(
    value: Array, stderr: Array, t: float, reading: float, *, counts: bool
) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Return where the curve lies, and where one new reading does: lower and upper ends (m,) of each.

    Parameters
    ----------
    t : float
        Half the width of an interval in standard errors.
    reading : float
        Standard deviation of one reading; of counts as a multiple of the root of their mean.
    """
    spread = np.hypot(stderr, reading)
    new = band_of_counts(value, stderr, t * reading) if counts else (value - t * spread, value + t * spread)
    return (value - t * stderr, value + t * stderr), new
