"""The way of a solver on a figure: the fit as it was at a step, the loss over the steps, and the path over its surface."""

# matplotlib leaves the keywords of its methods untyped
# pyright: reportUnknownMemberType=false

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import OptionError
from gradfit.figures.sheet import (
    AXIS,
    FIT,
    GREY,
    INK,
    PAPER,
    RULE,
    dress_x,
    dress_y,
    new_figure,
    own_fonts,
    room_round,
    style,
)
from gradfit.figures.text import mixed, symbol
from gradfit.notation import significant
from gradfit.solve.lm import LM
from gradfit.view import GRID, scale_of, unit_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

    from gradfit.result import FitResult

Array = NDArray[np.float64]

ROWS = 2_000  # that are drawn, and that the surface is computed on
SURFACE = 72  # places along each axis of the surface
ROOM = 0.25  # of the path's extent, around it
RUNAWAY = 1e3  # times the loss at the start: beyond, a path runs away, and its first SEEN steps are drawn
SEEN = 4
LEVELS = 14


@dataclass(frozen=True, eq=False)
class Way:
    """What is drawn of a solver's way.

    Attributes
    ----------
    step : (m,) int
        Iterations or epochs done.
    loss : (m,)
        At that step.
    free : (m, f)
        The free parameters there.
    whole : (m, k)
        All parameters.
    held : (m,) or None
        The loss over held-out rows.
    word : str
        What a step is called: "epoch" or "iteration".
    """

    step: NDArray[np.int64]
    loss: Array
    free: Array
    whole: Array
    held: Array | None
    word: str


def way_of(result: "FitResult") -> Way:
    """Return the way of a fit.

    Raises
    ------
    OptionError
        If none is known: a closed form takes no steps, and a file does not keep them.
    """
    history = result.history
    if len(history.step) < 2 or result.starts.source == "not needed":
        raise OptionError(
            f"{result.formula} was solved without steps, so there is no way to draw",
            remedy='Train it, with solver="SGD", or give start values',
        )
    seen = slice(0, _tame(history.loss))
    step, free = history.step[seen], history.parameters[seen]
    whole = np.tile(result.settled.start, (len(step), 1))
    whole[:, result.settled.free] = free
    course = result.outcome.held
    held = None if course is None or len(course.step) == 0 else np.interp(step, course.step, course.loss)
    word = (
        "iteration"
        if isinstance(result.settings.get("solver", "lm"), LM) or result.solver == "lm"
        else "epoch"
    )
    return Way(step, history.loss[seen], free, whole, held, word)


def _tame(loss: Array) -> int:
    """Return how many steps are drawn: all, or those before a path runs away."""
    with np.errstate(all="ignore"):
        away = np.flatnonzero(~(loss <= RUNAWAY * max(float(loss[0]), 1e-300)))
    return max(int(away[0]), min(SEEN, len(loss))) if away.size else len(loss)


class Stage:
    """A figure on which a fit moves: the curve at the left, the loss or its surface at the right.

    Parameters
    ----------
    result : FitResult
        The fit.
    way : Way
        Its steps.

    Attributes
    ----------
    figure : Figure
        What is drawn on.
    """

    def __init__(self, result: "FitResult", way: Way) -> None:
        self.result, self.way = result, way
        with style():
            self.figure: Figure = new_figure(3.6, 8.6)
            left, right = self.figure.subplots(
                1, 2, gridspec_kw={"left": 0.075, "right": 0.975, "top": 0.8, "bottom": 0.13, "wspace": 0.22}
            )
            self._scene = Scene(left, result, way)
            self._title = self.figure.text(0.02, 0.925, "", size=11.5, weight="bold", va="baseline")
            self._track = Path(right, result, way) if way.free.shape[1] == 2 else Descent(right, way)
            own_fonts(self.figure)

    def show(self, i: int) -> None:
        """Draw the fit as it was at the i-th kept step."""
        way = self.way
        self._scene.show(i)
        self._track.show(i)
        numbers = [
            f"{symbol(name)} = {mixed(significant(float(value), 4))}"
            for name, value in zip(self.result.model.parameters, way.whole[i], strict=True)
        ][:4]
        said = f"{way.word.capitalize()} {int(way.step[i]):,}:  loss {significant(float(way.loss[i]), 4)}"
        self._title.set_text(f"{mixed(said)}    {',  '.join(numbers)}")


class Scene:
    """Readings with the curve of a step."""

    def __init__(self, axes: "Axes", result: "FitResult", way: Way) -> None:
        self._result, self._way = result, way
        chosen = np.unique(np.linspace(0, result.n - 1, min(result.n, ROWS)).astype(np.int64))
        self._columns = [result.data.columns[name][chosen] for name in result.inputs]
        self._y = result.data.y[chosen]
        self._single = len(result.inputs) == 1
        if self._single:
            x = self._columns[0]
            self._at: Array = np.linspace(float(x.min()), float(x.max()), GRID)
            name, unit = result.inputs[0], scale_of(result, result.inputs[0])
        else:
            x = self._y
            self._at = x
            name, unit = f"observed {result.response}", unit_of(result, result.response)
        axes.set_xlim(*room_round(x))
        axes.set_ylim(*room_round(self._y, 0.12))
        axes.plot(x, self._y, "o", color=INK, ms=4 if len(x) <= 100 else 2, mec=PAPER, mew=0.5, ls="none", zorder=5,
                  visible=self._single)  # fmt: skip
        if not self._single:
            axes.axline((float(x.mean()), float(x.mean())), slope=1, color=AXIS, lw=0.8)
        kind: dict[str, Any] = (
            {"ls": "-", "lw": 1.8} if self._single else {"ls": "none", "marker": "o", "ms": 3.5}
        )
        self._ghosts = [axes.plot([], [], color=FIT, alpha=0.1 + 0.05 * i, **kind)[0] for i in range(4)]
        self._curve = axes.plot([], [], color=FIT, **kind)[0]
        dress_x(axes, name, unit, most=5)
        dress_y(
            axes,
            result.response if self._single else f"fitted {result.response}",
            unit_of(result, result.response),
        )
        self._shown: list[Array] = []

    def show(self, i: int) -> None:
        """Draw the curve of a step, and faintly those before it."""
        value = self._value(self._way.whole[i])
        for ghost, old in zip(reversed(self._ghosts), reversed(self._shown[-4:]), strict=False):
            ghost.set_data(self._at, old)
        self._curve.set_data(self._at, value)
        self._shown = [*self._shown[-3:], value]

    def _value(self, parameters: Array) -> Array:
        columns = [self._at] if self._single else self._columns or [np.zeros(len(self._y))]
        with np.errstate(all="ignore"):
            value = self._result.problem.model.value(columns, parameters)
        return np.where(np.abs(value) < 1e30, value, np.nan)


class Descent:
    """The loss over the steps, on logarithmic axes."""

    def __init__(self, axes: "Axes", way: Way) -> None:
        self._way = way
        shown = np.isfinite(way.loss) & (way.loss > 0)
        axes.set_xscale("symlog", linthresh=1.0)
        if shown.any():
            axes.set_yscale("log")
        axes.plot(way.step, np.where(shown, way.loss, np.nan), color=RULE, lw=1.6, ls="-")
        self._line = axes.plot([], [], color=FIT, lw=1.6, ls="-")[0]
        self._dot = axes.plot([], [], "o", color=FIT, ms=6, mec=PAPER)[0]
        self._held = None
        if way.held is not None:
            axes.plot(way.step, way.held, color=RULE, lw=1.2, ls=(0, (3, 2)))
            self._held = axes.plot([], [], color=INK, lw=1.2, ls=(0, (3, 2)))[0]
        words = f"loss over {way.word}s" + (", held-out rows dashed" if way.held is not None else "")
        axes.set_title(words, loc="left", size=9, color=GREY, weight="normal")

    def show(self, i: int) -> None:
        """Draw the losses up to a step."""
        way, upto = self._way, slice(0, i + 1)
        self._line.set_data(way.step[upto], way.loss[upto])
        self._dot.set_data([way.step[i]], [way.loss[i]])
        if self._held is not None and way.held is not None:
            self._held.set_data(way.step[upto], way.held[upto])


class Path:
    """The way over the surface of the loss of two parameters."""

    def __init__(self, axes: "Axes", result: "FitResult", way: Way) -> None:
        self._way = way
        names = [result.model.parameters[j] for j in result.settled.free]
        a, b = (room_round(way.free[:, j], ROOM) for j in range(2))
        across, up = np.linspace(*a, SURFACE), np.linspace(*b, SURFACE)
        height = loss_surface(result, across, up)
        axes.set_xlim(*a)
        axes.set_ylim(*b)
        finite = height[np.isfinite(height)]
        if finite.size and float(np.ptp(finite)) > 0:
            levels = np.quantile(finite, np.linspace(0, 1, LEVELS) ** 2)
            axes.contour(
                across,
                up,
                height,
                levels=np.unique(levels),
                colors=[AXIS],
                linewidths=0.6,
                alpha=0.7,
                linestyles="-",
            )
        self._line = axes.plot([], [], color=FIT, lw=1.4, ls="-", marker="o", ms=2.2)[0]
        self._dot = axes.plot([], [], "o", color=FIT, ms=7, mec=PAPER, zorder=6)[0]
        axes.plot(*way.free[0], "o", color=PAPER, mec=INK, ms=5, zorder=5)
        dress_x(axes, names[0], most=5)
        dress_y(axes, names[1])
        axes.set_title("level lines of the loss", loc="right", size=9, color=GREY, weight="normal")

    def show(self, i: int) -> None:
        """Draw the path up to a step."""
        free = self._way.free
        self._line.set_data(free[: i + 1, 0], free[: i + 1, 1])
        self._dot.set_data([free[i, 0]], [free[i, 1]])


def loss_surface(result: "FitResult", across: Array, up: Array) -> Array:
    """Return the logarithm of the loss (SURFACE, SURFACE) on a grid of the two free parameters, over at most ROWS rows."""
    problem = result.problem
    if result.n > ROWS and (problem.weight is None or problem.weight.ndim == 1):
        pick = np.linspace(0, result.n - 1, ROWS).astype(np.int64)
        weight = None if problem.weight is None else problem.weight[pick]
        problem = problem._replace(
            columns=[c[pick] for c in problem.columns], y=problem.y[pick], weight=weight
        )
    out = np.empty((len(up), len(across)))
    with np.errstate(all="ignore"):
        for i, second in enumerate(up):
            for j, first in enumerate(across):
                out[i, j] = result.loss_used.cost(problem.residual(np.array([first, second])))
        return np.log(out)


def way_figure(result: "FitResult") -> "Figure":
    """Return a figure of where the solver went: the fit at its end, and the loss over the steps or its surface.

    Raises
    ------
    OptionError
        If the fit took no steps.
    """
    way = way_of(result)
    stage = Stage(result, way)
    last = len(way.step) - 1
    for i in np.unique(np.linspace(0, last, 5).astype(np.int64)):
        stage.show(int(i))
    return stage.figure
