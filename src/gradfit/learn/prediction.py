"""What a network says of new rows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars, special
from gradfit.learn.encoding import Encoding
from gradfit.learn.target import Aim, Target

Array = NDArray[np.float64]
Values = NDArray[Any]


@dataclass(frozen=True, eq=False)
class NetworkPrediction:
    """Predictions of a network.

    Attributes
    ----------
    value : (n,) or (n, t)
        Numbers in the unit of the target, expected counts, or the names of the likeliest classes.
    probabilities : (n, K), optional
        Of each class.
    levels : tuple of str
        The classes, in the order of the columns of `probabilities`.
    output : (n, ...)
        What the network returned: standardised numbers, logarithms of expected counts, logits.
    names : tuple of str
        The targets.
    """

    value: Values
    probabilities: Array | None
    levels: tuple[str, ...]
    output: Array
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.value)

    def to_frame(self) -> "polars.DataFrame":
        """Return the predictions as a Polars data frame, with a column for the probability of each class."""
        columns: dict[str, object] = {}
        if self.value.ndim == 1:
            columns[self.names[0]] = self.value.tolist() if self.value.dtype == object else self.value
        else:
            flat = self.value.reshape(len(self.value), -1)
            several = len(self.names) == flat.shape[1]
            for j in range(flat.shape[1]):
                columns[self.names[j] if several else f"{self.names[0]}_{j}"] = flat[:, j]
        if self.probabilities is not None and self.probabilities.ndim == 2:
            for j, level in enumerate(self.levels):
                columns[f"p({level})"] = self.probabilities[:, j]
        return polars.DataFrame(columns)


def prediction_of(output: Array, target: Target, encoding: Encoding, *, plain: bool) -> NetworkPrediction:
    """Return what outputs (n, ...) mean: numbers in units, expected counts, or classes with their probabilities.

    Parameters
    ----------
    plain : bool
        Whether outputs are probabilities or expected counts themselves, rather than logits or logarithms.
    """
    aim, levels, names = target.aim, target.levels, target.names
    if aim == "numbers":
        value = encoding.in_units(output)
        return NetworkPrediction(_narrow(value), None, (), output, names)
    if aim == "counts":
        with np.errstate(over="ignore"):
            return NetworkPrediction(_narrow(output if plain else np.exp(output)), None, (), output, names)
    if aim == "two classes":
        second = _narrow(output) if plain else special.expit(_narrow(output))
        chances = np.stack([1 - second, second], axis=-1)
    else:
        chances = np.moveaxis(special.softmax(output, axis=1), 1, -1)
    words = np.array(levels, dtype=object)
    return NetworkPrediction(words[chances.argmax(axis=-1)], chances, levels, output, names)


def _narrow(values: Array) -> Array:
    """Return (n, 1) as (n,)."""
    return values[:, 0] if values.ndim == 2 and values.shape[1] == 1 else values


def measures(prediction: NetworkPrediction, observed: Values, aim: Aim) -> Mapping[str, float]:
    """Return how well predictions fit what was observed: numbers, or codes of classes.

    Numbers: rmse, mae (in the unit of the target) and r2. Counts: the mean deviance and the share of it that is explained.
    Classes: accuracy, log_loss (mean, natural logarithm) and the accuracy of always saying the most frequent class.
    """
    if prediction.probabilities is not None:
        return _of_classes(prediction.probabilities, observed.astype(np.int64))
    y, f = observed.astype(np.float64), prediction.value.reshape(observed.shape).astype(np.float64)
    with np.errstate(all="ignore"):
        if aim == "counts":
            return _of_counts(y, f)
        miss = np.abs(y - f)
        size = float(miss.max()) or 1.0
        rmse = size * float(np.sqrt(np.mean((miss / size) ** 2)))
        total = np.sum(((y - y.mean(axis=0)) / size) ** 2)
        r2 = float(1 - np.sum((miss / size) ** 2) / total) if total > 0 else float("nan")
        return {"rmse": rmse, "mae": float(miss.mean()), "r2": r2}


def _of_classes(chances: Array, codes: NDArray[np.int64]) -> Mapping[str, float]:
    flat, seen = chances.reshape(-1, chances.shape[-1]), codes.reshape(-1)
    own = flat[np.arange(len(seen)), seen]
    smallest = float(np.finfo(np.float64).tiny)
    often = np.bincount(seen, minlength=flat.shape[1]).max() / len(seen)
    return {
        "accuracy": float((flat.argmax(axis=1) == seen).mean()),
        "log_loss": float(-np.log(np.maximum(own, smallest)).mean()),
        "most_frequent": float(often),
    }


def _of_counts(y: Array, mean: Array) -> Mapping[str, float]:
    deviance = 2 * np.mean(special.xlogy(y, y / mean) - (y - mean))
    none = 2 * np.mean(special.xlogy(y, y / y.mean()) - (y - y.mean()))
    return {
        "deviance": float(deviance),
        "explained": float(1 - deviance / none) if none > 0 else float("nan"),
    }


def confusion_of(prediction: NetworkPrediction, observed: Values) -> NDArray[np.int64]:
    """Return how often each class (row) was taken for which (column), (K, K)."""
    assert prediction.probabilities is not None  # noqa: S101  asked for classes only
    k = prediction.probabilities.shape[-1]
    said = prediction.probabilities.argmax(axis=-1).reshape(-1)
    seen = observed.astype(np.int64).reshape(-1)
    return np.bincount(seen * k + said, minlength=k * k).reshape(k, k)
