"""The losses on the way of a training: of the rows trained on, of rows held out, and the step that was kept."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import fixed, significant
from gradfit.report.axes import Axis, counting
from gradfit.report.charts import Chart, Frame, name_ends, twice
from gradfit.report.markup import Markup

Array = NDArray[np.float64]
WIDE = Frame("wide", 736, 270, left=44, right=132, top=32, bottom=42)
PHONE = Frame("phone", 354, 260, left=44, right=84, top=32, bottom=42)
BESIDE_WIDE = Frame("wide", 400, 250, left=36, right=84, top=32, bottom=42)
BESIDE_PHONE = Frame("phone", 354, 250, left=36, right=84, top=32, bottom=42)

_LOG_FROM = 50  # steps from which they stand on a log axis
_MOST = 600  # places of a curve that are drawn
_AWAY = 1e4  # times the loss at the start: a run that grows beyond leaves the picture
_DEEPEST = 1e-16  # of the largest loss: what lies below is rounding
_ONE_LINE = 120  # px right of a plot from which a label stands on one line
_ROOM = 64  # px, of a label beside an upright line


@dataclass(frozen=True, eq=False)
class Losses:
    """Losses by step.

    Attributes
    ----------
    step : (m,)
        Epochs or iterations done.
    train : (m,)
        Of the rows trained on; NaN or infinite where it was no number.
    held : (m,) or None
        Of rows held out.
    kept : int or None
        The step whose parameters were kept, where held-out rows chose it; else that with the lowest of their losses.
    word : str
        "epoch" or "iteration".
    name : str
        What stands at the axis.
    mark : str
        What is written beside `kept`, before its number: "" or "lowest: ".
    """

    step: Array
    train: Array
    held: Array | None
    kept: int | None
    word: str
    name: str = "loss"
    mark: str = ""

    @cached_property
    def curves(self) -> tuple[tuple[str, Array], ...]:
        """The curves that have a number to show, by name."""
        every = [("trained", self.train), *([("held out", self.held)] if self.held is not None else [])]
        return tuple((name, curve) for name, curve in every if np.isfinite(curve).any())

    @property
    def drawable(self) -> bool:
        """Whether there is a way to draw."""
        return len(self.step) > 1 and bool(self.curves)

    @cached_property
    def x_axis(self) -> Axis:
        """The axis of steps: a start at step 0 stands at a half where the axis is logarithmic."""
        first, last = float(self.step[0]), float(self.step[-1])
        if self.log_x:
            low = 0.5 if first < 1 else first
            axis = Axis(low, last, f"{self.word}, log scale", log=True)
            return replace(axis, at=tuple(tick for tick in axis.ticks if tick >= 1))
        most = max(int(last), 1)
        return Axis(first, most, self.word, at=tuple(tick for tick in counting(most) if tick >= first))

    @property
    def log_x(self) -> bool:
        """Whether steps stand on a logarithmic axis."""
        return bool(self.step[-1] >= _LOG_FROM)

    @cached_property
    def y_axis(self) -> Axis:
        """The axis of losses, logarithmic where all are positive."""
        seen = np.concatenate([curve[np.isfinite(curve)] for _, curve in self.curves])
        first = max(float(curve[np.isfinite(curve)][0]) for _, curve in self.curves)
        if seen.min() < 0 or not (seen > 0).any():
            return Axis.around(np.minimum(seen, seen.min() + _AWAY * (abs(first) or 1.0)), self.name)
        top = min(float(seen.max()), _AWAY * first if first > 0 else np.inf)
        return Axis.tight(np.clip(seen, max(top * _DEEPEST, 1e-290), min(top, 1e290)), self.name)

    @cached_property
    def some(self) -> NDArray[np.int64]:
        """The places that are drawn: all, or some evenly spaced along the axis."""
        m = len(self.step)
        if m <= _MOST:
            return np.arange(m)
        wanted = np.geomspace(1, m, _MOST) - 1 if self.log_x else np.linspace(0, m - 1, _MOST)
        return np.unique(np.r_[0, np.rint(wanted).astype(np.int64), m - 1])

    def shown(self, curve: Array) -> Array:
        """Return a curve as it is drawn: broken where it is no number, and ended where it leaves the picture."""
        top = self.y_axis.high
        inside = np.where(np.isposinf(curve), np.nextafter(top, np.inf), curve)
        away = np.flatnonzero(inside > top * (1 + 1e-12))
        if away.size and not (inside[away[0] :] <= top).any():
            inside = inside.copy()
            inside[away[0] + 1 :] = np.nan
        return inside

    def end_text(self, name: str, curve: Array) -> tuple[str, str]:
        """Return what stands at the end of a curve: its name and its value."""
        end, alone = last(curve), len(self.curves) == 1
        if not end <= self.y_axis.high * (1 + 1e-12):
            return "" if alone else name, "grows"
        return "ends at" if alone else name, loss_text(end)

    @property
    def message(self) -> str:
        """What the chart shows, for those who do not see it."""
        parts = [
            f"{name} from {loss_text(first(curve))} to {loss_text(last(curve))}"
            for name, curve in self.curves
        ]
        kept = "" if self.kept is None else f"; {self.mark or 'kept: '}{self.word} {self.kept}"
        return f"Loss by {self.word}, {' and '.join(parts)}{kept}"


def loss_text(value: float) -> str:
    """Return a loss in a chart.

    >>> loss_text(0.0514), loss_text(float("inf"))
    ('0.051', 'overflow')
    """
    return significant(value, 2) if np.isfinite(value) else "overflow"


def first(curve: Array) -> float:
    """Return the first finite number of a curve."""
    return float(curve[np.isfinite(curve)][0])


def last(curve: Array) -> float:
    """Return where a curve ends; infinite where it is no number there."""
    return float(curve[-1]) if np.isfinite(curve[-1]) else float("inf")


def losses_chart(losses: Losses, wide: Frame = WIDE, phone: Frame = PHONE) -> Markup:
    """Return the losses by step, on log axes where they can be; empty where there is no way to draw."""
    if not losses.drawable:
        return Markup("")

    def draw(frame: Frame) -> Chart:
        chart = Chart(frame, losses.x_axis, losses.y_axis, losses.message).axes()
        if losses.x_axis.low == 0.5:
            chart.write(chart.frame.left, chart.bottom + 17, "0", "tick", anchor="middle")
        some = losses.some
        at = np.maximum(losses.step, losses.x_axis.low) if losses.log_x else losses.step
        for name, curve in losses.curves:
            chart.path(at[some], losses.shown(curve)[some], "fit" if name == "trained" else "second")
        _keep(chart, losses)
        return _ends(chart, losses)

    return twice(draw, wide, phone)


def _keep(chart: Chart, losses: Losses) -> None:
    """Mark the step that was kept: an upright line, and a ring on the curve that chose it."""
    if losses.kept is None or losses.held is None:
        return
    place = int(np.argmin(np.abs(losses.step - losses.kept)))
    at, height = float(max(losses.kept, losses.x_axis.low)), losses.held[place]
    chart.upright(at, "limit")
    x = float(chart.px(at))
    end = x + _ROOM + 6 * len(losses.mark) > chart.right
    words = f"{losses.mark}{losses.word} {fixed(losses.kept, 0)}"
    chart.write(
        x - 6 if end else x + 6,
        chart.frame.top + 9,
        words,
        "k-second fine halo",
        anchor="end" if end else "start",
    )
    if np.isfinite(height):
        chart.dots(np.array([at]), np.array([height]), "ring", radius=4.5)


def _ends(chart: Chart, losses: Losses) -> Chart:
    """Write the names of the curves and their values at their ends, apart from each other; in little room on two lines."""
    marks: list[tuple[float, tuple[str, str], str]] = []
    for name, curve in losses.curves:
        end = last(curve)
        height = float(chart.py(chart.y.clip(np.array(end if np.isfinite(end) else chart.y.high))))
        marks.append((height, losses.end_text(name, curve), "k-fit" if name == "trained" else "k-second"))
    narrow = chart.frame.right < _ONE_LINE
    lines = [
        [word for word in words if word] if narrow else [" ".join(words).strip()] for _, words, _ in marks
    ]
    return name_ends(
        chart, [(height, line, cls) for (height, _, cls), line in zip(marks, lines, strict=True)]
    )
