"""A model at new inputs, with its bands."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars

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
