"""What several sections show of one trained network: its rows with their predictions, the units, the losses."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradfit.learn import NetworkResult
from gradfit.learn.prediction import NetworkPrediction
from gradfit.learn.result import Part
from gradfit.notation import significant, with_unit
from gradfit.report.charts import CELLS_FROM, SPECKS_FROM
from gradfit.report.losses import Losses

Array = NDArray[np.float64]
GRID = 401  # places of the curve over one input


@dataclass(frozen=True, eq=False)
class Told:
    """Rows with what the network says of them.

    Attributes
    ----------
    part : Part
        The rows.
    prediction : NetworkPrediction
        Of each.
    """

    part: Part
    prediction: NetworkPrediction

    @cached_property
    def observed(self) -> Array:
        """Observed numbers (n, t); of targets with more axes all in one column."""
        return self._columns(self.part.target.values)

    @cached_property
    def predicted(self) -> Array:
        """Predicted numbers (n, t)."""
        return self._columns(self.prediction.value)

    def _columns(self, values: NDArray[np.generic]) -> Array:
        flat = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        return flat if flat.shape[1] == len(self.part.target.names) else flat.reshape(-1, 1)


@dataclass(frozen=True, eq=False)
class Subject:
    """A trained network as the sections look at it."""

    result: NetworkResult

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names that occur in sentences."""
        return (*self.result.inputs, *self.result.target.names)

    def unit_of(self, column: str) -> str:
        """Return the unit of a column, empty where there is none."""
        train = self.result.train
        return "" if train is None else train.rows.table.units.get(column, "")

    def amount(self, value: float) -> str:
        """Return a value of the target with its unit."""
        names = self.result.target.names
        return with_unit(significant(value, 2), self.unit_of(names[0]) if len(names) == 1 else "")

    @property
    def classes(self) -> bool:
        """Whether a class is predicted."""
        return self.result.target.classes

    @property
    def diverged(self) -> bool:
        """Whether the training ended in an overflow."""
        return self.result.ending == "diverged"

    @cached_property
    def trained(self) -> Told | None:
        """The rows trained on; none in a result that was loaded."""
        return self._told(self.result.train)

    @cached_property
    def held(self) -> Told | None:
        """The rows held out, where there are any."""
        return self._told(self.result.held)

    @property
    def judged(self) -> Told | None:
        """The rows that predictions are judged by: those held out, else those trained on."""
        return self.held if self.held is not None else self.trained

    @property
    def judged_name(self) -> str:
        """What they are called."""
        return "held out" if self.held is not None else "trained on"

    def _told(self, part: Part | None) -> Told | None:
        if part is None:
            return None
        with np.errstate(all="ignore"):
            return Told(part, self.result.predict(part.rows))

    @property
    def along(self) -> str:
        """The one input along which the network can be drawn as a curve; empty where there is none."""
        result = self.result
        if len(result.inputs) != 1 or self.classes or len(result.target.names) != 1 or result.train is None:
            return ""
        name, encoding = result.inputs[0], result.encoding
        plain = name not in encoding.levels and name not in encoding.deep and name not in encoding.whole
        return name if plain and result.train.target.values.ndim == 1 else ""

    @cached_property
    def curve(self) -> tuple[Array, Array]:
        """The network along its one input: places and values (m,), from the least to the largest row trained on."""
        assert self.result.train is not None  # noqa: S101  there is a curve only with rows
        x = np.asarray(self.result.train.rows.column(self.along), dtype=np.float64)
        grid = np.unique(np.linspace(float(x.min()), float(x.max()), GRID))
        with np.errstate(all="ignore"):
            return grid, np.asarray(self.result.predict({self.along: grid}).value, dtype=np.float64)

    @property
    def ends(self) -> tuple[float, float]:
        """The least and the largest place of the curve."""
        return float(self.curve[0][0]), float(self.curve[0][-1])

    @cached_property
    def miss(self) -> float:
        """How far off 95 in 100 predictions of the judged rows lie at most; NaN for classes, or without rows."""
        if self.classes or self.judged is None:
            return float("nan")
        off = np.abs(self.judged.observed - self.judged.predicted)
        return float(np.quantile(off, 0.95)) if np.isfinite(off).all() else float("nan")

    @property
    def hover(self) -> bool:
        """Whether points answer the pointer."""
        return self.judged is not None and self.judged.part.n <= SPECKS_FROM

    @cached_property
    def losses(self) -> Losses:
        """The losses by epoch, with the epoch that was kept."""
        history = self.result.history
        held = history.validation if np.isfinite(history.validation).any() else None
        kept = self.result.best_epoch if held is not None and self.result.best_epoch > 0 else None
        name = f"loss ({self.result.loss_name})"
        return Losses(history.epoch.astype(np.float64), history.train, held, kept, "epoch", name)

    @property
    def rows_held(self) -> int:
        """How many rows were held out of the training; 0 with folds, where each is held out once."""
        held = self.result.validation
        return 0 if held is None or held.folds else held.n


def crowded(n: int) -> bool:
    """Return whether so many rows are counted in hexagons instead of drawn."""
    return n > CELLS_FROM
