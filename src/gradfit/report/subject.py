"""What several sections show of one result: the columns to draw, the residuals in the unit they are judged in, the curve."""

from dataclasses import dataclass
from functools import cached_property
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import GradfitError
from gradfit.formula import parse
from gradfit.notation import (
    THIN,
    common_exponent,
    fixed,
    in_full,
    level_percent,
    places,
    power_of_ten,
    significant,
    with_unit,
)
from gradfit.parameter import ParameterResult
from gradfit.report.axes import Axis
from gradfit.report.charts import CELLS_FROM, SPECKS_FROM
from gradfit.report.mathtext import Typeset
from gradfit.report.units import parameter_units
from gradfit.result import FitResult

Array = NDArray[np.float64]
_ROUNDING = 1e-13  # of a value: an error below it is none
_GRID = 401  # places at which a curve is drawn
_DECADES = 300.0  # from this ratio of largest to smallest x an axis may be logarithmic


@dataclass(frozen=True, eq=False)
class Curve:
    """The model along its one input, with its bands; all arrays (m,)."""

    x: Array
    mean: Array
    stderr: Array
    band: tuple[Array, Array]
    readings: tuple[Array, Array]

    @property
    def banded(self) -> bool:
        """Whether the bands are finite somewhere."""
        return bool(np.isfinite(self.band[0]).any() and np.isfinite(self.band[1]).any())

    def half(self, ends: tuple[Array, Array]) -> Array:
        """Return half the width of a band."""
        return ends[1] / 2 - ends[0] / 2


@dataclass(frozen=True)
class Figures:
    """How the numbers of one column are written: a power of ten in common, and decimals."""

    exponent: int
    decimals: int

    @classmethod
    def of(cls, values: Array, error: float) -> "Figures":
        """Return figures that show `error` with two digits, or three digits of the values where there is no error."""
        finite = np.abs(values[np.isfinite(values)])
        largest = float(finite.max()) if finite.size else 0.0
        known = error > 1e-12 * largest and np.isfinite(error)
        exponent = common_exponent(largest, error if known else 0.0)
        shown = error if known else 1e-2 * largest
        return cls(exponent, min(max(places(shown / 10.0**exponent), 0), 12))

    def text(self, value: float, *, plus: bool = False) -> str:
        """Return one value with its power of ten."""
        return self.bare(value, plus=plus) + (power_of_ten(self.exponent) if self.exponent else "")

    def bare(self, value: float, *, plus: bool = False) -> str:
        """Return one value, its power of ten left to the head of the column."""
        return fixed(float(value) / 10.0**self.exponent, self.decimals, plus=plus)

    def head(self, unit: str) -> str:
        """Return what stands behind the name at the head of the column: ", 10⁻⁹ V"."""
        power = f"{power_of_ten(self.exponent)[3:]}" if self.exponent else ""
        both = f"{power}{THIN}{unit}" if power and unit else power or unit
        return f", {both}" if both else ""


@dataclass(frozen=True, eq=False)
class Subject:
    """A result as the sections look at it."""

    result: FitResult

    @cached_property
    def names(self) -> tuple[str, ...]:
        """All names that occur in sentences."""
        return (*self.result.params, *self.result.inputs, self.result.response)

    @cached_property
    def typeset(self) -> Typeset:
        """The formula, ready to be set."""
        return Typeset(self.result.formula, self.result.response)

    @property
    def moving(self) -> bool:
        """Whether the parameters may still move: they are no minimum, and no held-out rows chose them."""
        result = self.result
        return not result.converged and result.status != "early-stopped"

    @property
    def unit(self) -> str:
        """The unit of the response, empty where there is none."""
        return self.result.data.units.get(self.result.response, "")

    def unit_of(self, column: str) -> str:
        """Return the unit of a column, empty where there is none."""
        return self.result.data.units.get(column, "")

    @cached_property
    def _derived(self) -> dict[str, str]:
        result, right = self.result, self.typeset.right
        if right is None or result.response not in (parse(result.formula).left or right).names:
            return {}
        columns = {name: self.unit_of(name) for name in result.inputs}
        return parameter_units(right, columns, self.unit, list(result.params))

    def parameter_unit(self, parameter: ParameterResult) -> str:
        """Return the unit of a parameter, where the units of the columns leave no choice."""
        return parameter.unit or self._derived.get(parameter.name, "")

    @cached_property
    def x_name(self) -> str:
        """What runs along the charts: the one input, else the row number."""
        return self.result.inputs[0] if len(self.result.inputs) == 1 else "row"

    @cached_property
    def x(self) -> Array:
        """The one input, else the row numbers (n,)."""
        if len(self.result.inputs) == 1:
            return self.result.data.columns[self.result.inputs[0]]
        return np.asarray(self.result.data.rows, dtype=float)

    @cached_property
    def shown(self) -> NDArray[np.bool_]:
        """The rows (n,) that can be drawn: all finite."""
        data = self.result.data
        columns = [data.y, self.result.fitted, *(data.columns[name] for name in self.result.inputs)]
        shown = np.ones(len(data.y), dtype=bool)
        for column in columns:
            shown &= np.isfinite(column)
        return shown

    @cached_property
    def held_rows(self) -> tuple[Array, Array]:
        """Input and response (m,) of rows that were held out, for a model of one input; none of many."""
        none = np.zeros(0)
        held = self.result.held
        if held is None or len(self.result.inputs) != 1 or self.crowded or held.data.n > CELLS_FROM:
            return none, none
        x, y = held.data.columns[self.result.inputs[0]], held.data.y
        good = np.isfinite(x) & np.isfinite(y)
        return x[good], y[good]

    @cached_property
    def hover(self) -> bool:
        """Whether points are drawn one by one."""
        return self.result.data.n <= SPECKS_FROM

    @cached_property
    def crowded(self) -> bool:
        """Whether rows are counted in hexagons instead of drawn."""
        return self.result.data.n > CELLS_FROM

    @cached_property
    def weighted(self) -> bool:
        """Whether rows count differently, so that residuals are judged in standard deviations."""
        return self.result.data.weight is not None or self.result.data.counts

    @cached_property
    def scatter(self) -> float:
        """One standard deviation of the residuals that are shown."""
        if not self.weighted:
            return float(self.result.scatter)
        return 1.0

    @cached_property
    def residuals(self) -> Array:
        """The residuals (n,) in the unit they are judged in: that of the response, or standard deviations."""
        if not self.weighted:
            return self.result.residuals
        unit = 1.0 if self.result.data.absolute else self.result.scatter
        return self.result.weighted_residuals / (unit if unit > 0 else 1.0)

    @property
    def residual_unit(self) -> str:
        """The unit of `residuals`."""
        return "s.d." if self.weighted else self.unit

    @cached_property
    def standard(self) -> Array:
        """Residuals (n,) over their own standard deviations, sqrt(1 - leverage) of the scatter; nan where that is zero."""
        room = np.sqrt(np.clip(1 - self.result.leverage, 0, 1)) * self.scatter
        return np.divide(
            self.residuals, room, out=np.full(len(room), np.nan), where=room > 1e-9 * self.scatter
        )

    @cached_property
    def exact(self) -> bool:
        """Whether nothing but rounding is left over."""
        size = float(np.max(np.abs(self.result.data.y), initial=0.0))
        return bool(np.all(np.abs(self.result.residuals) <= 1e-12 * size))

    def known(self, parameter: ParameterResult) -> bool:
        """Return whether a parameter has a standard error that is more than rounding."""
        if parameter.fixed or not parameter.determined or not isfinite(parameter.stderr) or self.exact:
            return False
        return parameter.stderr > _ROUNDING * abs(parameter.value)

    @cached_property
    def flagged(self) -> NDArray[np.bool_]:
        """The rows (n,) that a finding on outliers names."""
        rows: list[float] = []
        for finding in self.result.findings:
            if finding.code == "outliers":
                named = finding.evidence.get("rows", ())
                rows += [float(row) for row in named] if isinstance(named, tuple) else []
        return np.isin(np.asarray(self.result.data.rows, dtype=float), rows)

    @cached_property
    def log_x(self) -> bool:
        """Whether x is spread evenly over decades, as doses are."""
        x = self.x[self.shown]
        if len(self.result.inputs) != 1 or not x.size or not x.min() > 0 or x.max() / x.min() < _DECADES:
            return False
        return bool(np.median(x) < 0.1 * x.max())

    @cached_property
    def x_axis(self) -> Axis:
        """The axis of x."""
        x, unit = np.r_[self.x[self.shown], self.held_rows[0]], self.unit_of(self.x_name)
        return Axis.around(x, self.x_name, unit, pad=0.03, log=self.log_x)

    @cached_property
    def curve(self) -> Curve | None:
        """The model along its one input; None for several inputs, or where the model cannot be drawn between rows."""
        x = self.x[self.shown]
        if len(self.result.inputs) > 1 or not x.size:
            return None
        ends = float(x.min()), float(x.max())
        grid = np.geomspace(*ends, _GRID) if self.log_x else np.linspace(*ends, _GRID)
        grid = np.unique(np.r_[grid, x]) if self.hover else np.unique(grid)
        try:
            at = self.result.predict({self.x_name: grid} if self.result.inputs else None)
        except GradfitError:
            return None
        parts = (at.value, at.stderr, *at.confidence, *at.prediction)
        if self.exact:  # rounding is no scatter
            parts = (parts[0], *(np.full(len(part), np.nan) for part in parts[1:]))
        if not self.result.inputs:  # a level: one value at every row
            parts = tuple(np.full(len(grid), np.asarray(part)[0]) for part in parts)
        mean, stderr, *ends_of = (np.asarray(part, dtype=float) for part in parts)
        return Curve(grid, mean, stderr, (ends_of[0], ends_of[1]), (ends_of[2], ends_of[3]))

    @cached_property
    def noun(self) -> str:
        """What the model looks like: "line", "curve", "level", or "model" for several inputs."""
        if len(self.result.inputs) > 1:
            return "model"
        if not self.result.inputs:
            return "level"
        curve = self.curve
        if curve is None or len(curve.x) < 3 or not np.isfinite(curve.mean).all():
            return "curve"
        straight = np.interp(curve.x, curve.x[[0, -1]], curve.mean[[0, -1]])
        room = 1e-9 * float(np.ptp(curve.mean)) + 1e-12 * float(np.abs(curve.mean).max())
        return "line" if float(np.abs(curve.mean - straight).max()) <= room else "curve"

    @cached_property
    def codes(self) -> frozenset[str]:
        """The codes of the findings that were raised."""
        return frozenset(finding.code for finding in self.result.findings if finding.severity != "info")

    def amount(self, value: float, digits: int = 2) -> str:
        """Return a value of the response with its unit."""
        return with_unit(significant(value, digits), self.unit)

    @cached_property
    def figures(self) -> Figures:
        """How values of the response are written: with the decimals that show the scatter."""
        return Figures.of(self.result.data.y, float(self.result.scatter))

    @cached_property
    def _resolved(self) -> dict[str, int]:
        """The decimals that tell a ten thousandth of each input's range apart."""
        spans = {
            name: float(np.ptp(x[self.shown])) if self.shown.any() else 0.0
            for name, x in self._inputs.items()
        }
        return {name: places(1e-4 * span, 1) if span > 0 else 9 for name, span in spans.items()}

    @cached_property
    def _inputs(self) -> dict[str, Array]:
        return {name: self.result.data.columns[name] for name in self.result.inputs}

    def input_text(self, name: str, value: float) -> str:
        """Return a value of an input with the digits that tell it from its neighbours."""
        if not isfinite(value):
            return in_full(value)
        near = round(value, self._resolved[name]), float(f"{value:.4g}")
        return in_full(min(near, key=lambda rounded: abs(rounded - value)))

    def response_text(self, value: float) -> str:
        """Return a value of the response with the digits that tell a ten thousandth of its range apart."""
        y = self.result.data.y[self.shown]
        span = float(np.ptp(y)) if y.size else 0.0
        return in_full(round(value, places(1e-4 * span, 1)) if span > 0 and isfinite(value) else value)

    def title(self, i: int) -> str:
        """Return what the pointer reads at row i: its number, values and residual."""
        result, data = self.result, self.result.data
        write = self.figures.text
        inputs = [
            f"{name} {with_unit(self.input_text(name, float(data.columns[name][i])), self.unit_of(name))}"
            for name in result.inputs[:4]
        ]
        observed = f"{result.response} {with_unit(write(data.y[i]), self.unit)}"
        fitted = f"{self.noun} {with_unit(write(result.fitted[i]), self.unit)}"
        left = f"residual {with_unit(write(result.residuals[i], plus=True), self.unit)}"
        return f"Row {data.rows[i]:.0f}: {'; '.join([', '.join([*inputs, observed]), fitted, left])}"

    @cached_property
    def titles(self) -> list[str]:
        """What the pointer reads at each row; empty where there are too many rows."""
        return [self.title(i) for i in range(self.result.data.n)] if self.hover else []

    def titles_at(self, rows: NDArray[np.bool_]) -> list[str]:
        """Return what the pointer reads at some of the rows; empty where there are too many rows in all."""
        return [self.titles[i] for i in np.flatnonzero(rows)] if self.hover else []

    @property
    def level(self) -> str:
        """The level of intervals: "95 %"."""
        return level_percent(self.result.level)
