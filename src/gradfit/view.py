"""What every drawing of a fit shows: readings, curve and bands on two named axes."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from gradfit.result import FitResult

Array = NDArray[np.float64]

MANY = 2000  # points above which single ones are no longer drawn
GRID = 400  # places at which a curve is drawn
ROW = "row"  # the horizontal axis of a fit without input


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """A fit as a drawing shows it.

    Attributes
    ----------
    x, y, fitted : (n,)
        Where the readings stand, and the fit there. x is the input; the number of the row without input; the fitted
        value with several inputs.
    at, curve : (m,)
        The curve over the range of x.
    inner, outer : pair of (m,), or None
        The bands of the curve and of new readings, where they are known.
    x_name, x_unit, y_name, y_unit : str
        What the axes show.
    label : str
        What the curve is: "line", "curve", "fitted value", "fitted = observed".
    """

    x: Array
    y: Array
    fitted: Array
    at: Array
    curve: Array
    inner: tuple[Array, Array] | None
    outer: tuple[Array, Array] | None
    x_name: str
    x_unit: str
    y_name: str
    y_unit: str
    label: str

    @property
    def many(self) -> bool:
        """Whether there are too many readings to draw each of them."""
        return len(self.x) > MANY

    @property
    def heights(self) -> Array:
        """All finite values that the vertical axis has to hold."""
        parts = [self.y, self.curve, *(self.outer or ())]
        values = np.concatenate(parts)
        return values[np.isfinite(values)]


def unit_of(result: "FitResult", name: str) -> str:
    """Return the unit of a column, "days" or "seconds" for dates; empty when it is not known."""
    return result.data.units.get(name) or result.data.origins.get(name, "").partition(" ")[0]


def scale_of(result: "FitResult", name: str) -> str:
    """Return the unit of a column as an axis names it: dates are "days since 2020-01-01"."""
    return result.data.origins.get(name) or result.data.units.get(name, "")


def view(result: "FitResult") -> View:
    """Return what a drawing of `result` shows."""
    y_name, y_unit = result.response, unit_of(result, result.response)
    if len(result.inputs) > 1:
        ends = np.array([np.min(result.fitted), np.max(result.fitted)]) if result.n else np.zeros(2)
        return View(
            result.fitted, result.data.y, result.fitted, ends, ends, None, None,
            f"fitted {y_name}", y_unit, f"observed {y_name}", y_unit, "fitted = observed",
        )  # fmt: skip
    x = result.data.columns[result.inputs[0]] if result.inputs else result.data.rows.astype(np.float64)
    at: Array = np.linspace(float(x.min()), float(x.max()), GRID)
    # a curve may overflow or leave its domain between two readings: there it is not drawn
    with np.errstate(all="ignore"):
        seen = result.predict({result.inputs[0]: at} if result.inputs else None)
    curve = _over(seen.value, at)
    x_name = result.inputs[0] if result.inputs else ROW
    label = "fitted value" if not result.inputs else "line" if straight(curve) else "curve"
    inner, outer = _band(seen.confidence, at), _band(seen.prediction, at)
    return View(
        x, result.data.y, result.fitted, at, curve, inner, outer,
        x_name, scale_of(result, x_name), y_name, y_unit, label,
    )  # fmt: skip


def _over(values: Array, at: Array) -> Array:
    """Return values (m,) for each place; those of a fit without input, (n,), are all the same."""
    return values if len(values) == len(at) else np.full(len(at), float(values[0]))


def _band(edges: tuple[Array, Array], at: Array) -> tuple[Array, Array] | None:
    low, high = edges
    known = bool(np.isfinite(low).all() and np.isfinite(high).all())
    return (_over(low, at), _over(high, at)) if known else None


def straight(curve: Array) -> bool:
    """Return whether a curve at evenly spaced places is a straight line, to a millionth of its range."""
    with np.errstate(all="ignore"):
        chord = np.linspace(float(curve[0]), float(curve[-1]), len(curve))
        bend = float(np.abs(curve - chord).max(initial=0.0))
        room = 1e-6 * float(np.ptp(curve)) + 1e-14 * float(np.abs(curve).max())
    return bend <= room
