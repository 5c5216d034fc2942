"""Axes of charts: limits, ticks at round places, and a title that says what was taken out of their labels."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import ceil, floor, log10

import numpy as np
from numpy.typing import NDArray

from gradfit import notation
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import short, split_name

Array = NDArray[np.float64]
_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_LARGEST = 1.7e308
_FEW_DECADES = 2  # whole ones on a logarithmic axis: with fewer it has ticks at 2 and 5 too


def ten_to(exponent: int) -> str:
    """Return 10ⁿ.

    >>> ten_to(-6)
    '10⁻⁶'
    """
    return f"10{str(exponent).translate(_SUPERSCRIPT)}"


def label(name: str, rest: str = "") -> Markup:
    """Return the name of a quantity for an SVG text, its subscript lowered, and what follows it."""
    base, below = split_name(short(name, 44))
    if not below:
        return join([base, rest])
    return join([base, tag("tspan", below, class_="sub", dy="3"), tag("tspan", f"\u200b{rest}", dy="-3")])


@dataclass(frozen=True)
class Axis:
    """One direction of a chart.

    Attributes
    ----------
    low, high : float
        The limits.
    name, unit : str
        What stands at the end of the axis.
    log : bool
        Whether it is logarithmic.
    most : int
        About how many ticks it should have.
    at : tuple of float
        The ticks, where they are not to be found.
    falling : bool
        Whether it runs from the high end to the low one.
    """

    low: float
    high: float
    name: str = ""
    unit: str = ""
    log: bool = False
    most: int = 5
    at: tuple[float, ...] | None = None
    falling: bool = False

    @classmethod
    def around(
        cls,
        values: Sequence[float] | Array,
        name: str = "",
        unit: str = "",
        *,
        pad: float = 0.04,
        log: bool = False,
    ) -> "Axis":
        """Return an axis that holds all finite values, with a margin; round a single value it is made wide enough."""
        finite = np.asarray(values, dtype=float)
        finite = finite[np.isfinite(finite)]
        if log:
            ends = cls.around(np.log10(finite), pad=pad)
            return cls(10.0**ends.low, 10.0**ends.high, name, unit, log=True)
        low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
        size = max(abs(low), abs(high))
        room = pad * (high / 2 - low / 2) * 2
        if high - low <= 1e-12 * size:
            room = 0.05 * size or 1.0
        return cls(max(low - room, -_LARGEST), min(high + room, _LARGEST), name, unit)

    @classmethod
    def tight(cls, values: Array, name: str = "", unit: str = "") -> "Axis":
        """Return a logarithmic axis from the round number (1, 2 or 5 × 10ⁿ) below the least value to that above the largest."""
        low, high = float(values.min()), float(values.max())
        every = [m * 10.0**e for e in range(floor(log10(low)) - 1, ceil(log10(high)) + 1) for m in (1, 2, 5)]
        below = max((end for end in every if end <= low * (1 + 1e-9)), default=low)
        above = min((end for end in every if end >= high * (1 - 1e-9)), default=high)
        return cls(below, above if above > below else 10 * below, name, unit, log=True)

    @classmethod
    def decades(cls, values: Array, name: str = "", unit: str = "") -> "Axis":
        """Return a logarithmic axis from the power of ten below the least positive value to that above the largest."""
        positive = values[np.isfinite(values) & (values > 0)]
        if not positive.size:
            return cls(0.1, 1.0, name, unit, log=True)
        top = ceil(log10(float(positive.max())) - 1e-9)
        bottom = min(floor(log10(float(positive.min())) + 1e-9), top - 1)
        return cls(10.0 ** max(bottom, -307), 10.0 ** min(top, 307), name, unit, log=True)

    def place(self, values: float | Array) -> Array:
        """Return where values stand between the ends of the axis, 0 to 1; halves keep 1e308 from overflowing."""
        values = np.asarray(values, dtype=float)
        if self.log:
            low, high = log10(self.low), log10(self.high)
            share = (np.log10(np.maximum(values, self.low)) - low) / (high - low)
        else:
            share = (values / 2 - self.low / 2) / (self.high / 2 - self.low / 2)
        return 1 - share if self.falling else share

    def clip(self, values: Array) -> Array:
        """Return values no further out than the ends of the axis."""
        return np.clip(values, self.low, self.high)

    @cached_property
    def _linear(self) -> tuple[list[float], list[str], str]:
        if self.at is not None:
            whole = all(tick == round(tick) for tick in self.at)
            labels = [
                notation.fixed(t, 0) if whole else notation.tick_text(t, list(self.at)) for t in self.at
            ]
            return list(self.at), labels, f", {self.unit}" if self.unit else ""
        return notation.axis(self.low, self.high, "", short(self.unit, 24), most=self.most)

    @property
    def ticks(self) -> list[float]:
        """The places of the ticks."""
        if not self.log or self.at is not None:
            return self._linear[0]
        low, high = ceil(log10(self.low) - 1e-9), floor(log10(self.high) + 1e-9)
        if high - low < _FEW_DECADES:
            parts = [m * 10.0**e for e in range(low - 1, high + 1) for m in (1, 2, 5)]
            return [tick for tick in parts if self.low * (1 - 1e-9) <= tick <= self.high * (1 + 1e-9)]
        return [10.0**e for e in range(low, high + 1, max(1, ceil((high - low) / (self.most + 1))))]

    @property
    def labels(self) -> list[str]:
        """The text at each tick."""
        if not self.log or self.at is not None:
            return self._linear[1]
        return [_power(tick) for tick in self.ticks]

    @property
    def title(self) -> Markup:
        """The name and unit, with what was taken out of the labels."""
        return label(self.name, self._linear[2] if not self.log else f", {self.unit}" if self.unit else "")


def _power(tick: float) -> str:
    exponent = floor(log10(tick) + 1e-9)
    if -3 <= exponent < 5:
        return notation.fixed(tick, max(0, -exponent))
    times = round(tick / 10.0**exponent)
    return ten_to(exponent) if times == 1 else f"{times} × {ten_to(exponent)}"


def counting(most: int, *, about: int = 8) -> tuple[float, ...]:
    """Return whole ticks from 0 to `most`.

    >>> counting(16)
    (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 12.0, 14.0, 16.0)
    """
    step = next(m * 10**e for e in range(19) for m in (1, 2, 5) if most <= about * m * 10**e)
    return tuple(float(k) for k in range(0, most + 1, step))
