"""Figures for files, pages and notebooks: a fit with its residuals, data alone, models of the library."""

# matplotlib leaves the keywords of its methods untyped
# pyright: reportUnknownMemberType=false

from dataclasses import dataclass
from typing import TYPE_CHECKING, overload

import numpy as np
from numpy.typing import NDArray

from gradfit.figures.sheet import (
    AXIS,
    FIT,
    GREY,
    INK,
    PAPER,
    density,
    dress_x,
    dress_y,
    heading,
    left_margin,
    new_figure,
    own_fonts,
    room_round,
    style,
    text_width,
    wrapped,
)
from gradfit.figures.text import drawn, formula, mixed, symbol
from gradfit.notation import (
    MINUS,
    axis,
    count,
    exact,
    level_percent,
    places,
    plus_minus,
    significant,
    spelled,
    with_unit,
)
from gradfit.sentences import derivatives, sentence
from gradfit.view import View, unit_of, view

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

    from gradfit.parameter import ParameterResult
    from gradfit.result import FitResult

Array = NDArray[np.float64]

ALL = 30  # readings up to which a headline speaks of all of them
STEMS = 300  # readings up to which each is joined to its curve
NAMED = 4  # parameters up to which their values are put into the formula
BINS = 40  # groups of neighbours whose quantiles are drawn


@overload
def fit_figure(result: "FitResult", *, ax: None = None) -> "Figure": ...
@overload
def fit_figure(result: "FitResult", *, ax: "Axes") -> "Axes": ...
def fit_figure(result: "FitResult", *, ax: "Axes | None" = None) -> "Figure | Axes":
    """Return a figure of a fit: readings, curve, bands and residuals, with a headline; with `ax`, draw the first there.

    Parameters
    ----------
    ax : matplotlib Axes, optional
        Where readings, curve and bands are drawn, without headline and residuals; it is returned.
    """
    shown = view(result)
    with style():
        if ax is not None:
            _panel(ax, shown)
            dress_x(ax, shown.x_name, shown.x_unit)
            dress_y(ax, shown.y_name, shown.y_unit)
            return ax
        figure = new_figure(3.9)
        top = heading(figure, wrapped(figure, _headline(shown), headline=True), _under(figure, result))
        height = figure.get_figheight()
        upper, lower = figure.subplots(
            2, 1, sharex=True, height_ratios=[3.4, 1],
            gridspec_kw={"hspace": 0.16, "top": 1 - (top + 0.3) / height, "bottom": 0.46 / height},
        )  # fmt: skip
        _panel(upper, shown)
        _residual_panel(lower, result, shown)
        left_over = _dress(upper, lower, result, shown)
        _name(figure, (upper, lower), _ends(result, shown), left_over)
        own_fonts(figure)
    return figure


# ---------------------------------------------------------------------------- words


def _headline(shown: View) -> str:
    """Return what the figure shows: how near the readings lie."""
    misses = np.abs(shown.y - shown.fitted)
    misses = misses[np.isfinite(misses)]
    target = {"line": "a straight line", "curve": "the curve"}.get(shown.label, "the fitted value")
    if not misses.size:
        return "No reading could be compared with the model"
    unit = shown.y_unit
    if misses.size <= ALL:
        one = misses.size == 1
        head = f"{spelled(misses.size).capitalize()} reading{' lies' if one else 's lie'}"
        if float(misses.max()) <= 1e-12 * float(np.abs(shown.y).max()):
            return f"{head} on {target}"
        return f"{head} within {with_unit(_upwards(float(misses.max())), unit)} of {target}"
    near = with_unit(_upwards(float(np.quantile(misses, 0.95, method="higher"))), unit)
    return f"95\u00a0% of {count(misses.size, 'reading')} lie within {near} of {target}"


def _upwards(value: float) -> str:
    """Return a limit with two digits, never below `value`."""
    if not 1e-300 < value < 1e300:
        return significant(value)
    shown = places(value)
    step = 10.0**-shown
    above = np.ceil(value / step - 1e-9) * step
    return significant(float(above))


def _under(figure: "Figure", result: "FitResult") -> list[str]:
    """Return the lines under the headline: the formula with its numbers, how much data, the verdict and its reason."""
    spread = f", {_scatter(result)}" if np.isfinite(result.scatter) else ""
    facts = drawn(f"{count(result.n, 'row')}{spread}.  Verdict: {result.verdict.capitalize()}")
    room = figure.get_figwidth() * 0.96
    lines = _equation(figure, result, room)
    if lines and text_width(figure, f"{lines[-1]}.  {facts}") <= room:
        lines[-1] = f"{lines[-1]}.  {facts}"
    else:
        lines.append(facts)
    reason = result.sentences[0] if result.verdict != "trust" and result.sentences else ""
    return [*lines, *(wrapped(figure, sentence(reason), most=2) if reason else [])]


def _scatter(result: "FitResult") -> str:
    if result.data.counts:
        return f"deviance {significant(result.deviance, 3)} for {result.dof} degrees of freedom"
    unit = unit_of(result, result.response) if result.data.sigma is None else ""
    return f"scatter {with_unit(significant(result.scatter), unit)}"


def _equation(figure: "Figure", result: "FitResult", room: float) -> list[str]:
    """Return the formula with the values in it, or the formula with the values behind or below it."""
    moves = derivatives(result)
    known = {name: p for name, p in result.params.items() if np.isfinite(p.stderr) and np.isfinite(p.value)}
    numbers = {name: plus_minus(p.value, p.stderr) for name, p in known.items()}
    if len(known) == len(result.params) and len(known) <= NAMED:
        filled = formula(result.formula, numbers)
        if filled and moves.slope and result.formula.rstrip().endswith(tuple(moves.offsets)):
            filled = f"{filled} {drawn(moves.units.get(next(iter(moves.offsets)), ''))}".rstrip()
        if filled and text_width(figure, filled) <= room:
            return [filled]
    plain = formula(result.formula) or drawn(result.formula)
    if text_width(figure, plain) > room:
        plain = wrapped(figure, result.formula, most=1)[0]
    values = [
        f"{symbol(name)} = {_value(numbers[name], moves.units.get(name, ''))}"
        if name in numbers
        else f"{symbol(name)} {_words(p)}"
        for name, p in result.params.items()
    ]
    together = f"{plain}:  {',  '.join(values)}"
    if text_width(figure, together) <= room:
        return [together]
    return [plain, *_rows(figure, values, room * 0.9)]


def _rows(figure: "Figure", values: list[str], room: float) -> list[str]:
    """Return values side by side in two lines at most, the rest of them counted."""
    lines = [values[0]]
    for i, value in enumerate(values[1:], 1):
        longer = f"{lines[-1]},  {value}"
        if text_width(figure, longer) <= room:
            lines[-1] = longer
        elif len(lines) < 2:
            lines.append(value)
        else:
            lines[-1] += f" and {len(values) - i} more"
            break
    return lines


def _value(numbers: tuple[str, str, str], unit: str) -> str:
    value, error, power = numbers
    text = f"({value} ± {error}){power}" if power else f"{value} ± {error}"
    return mixed(with_unit(text, unit))


def _words(parameter: "ParameterResult") -> str:
    """Return what is said of a parameter without a standard error."""
    if not parameter.determined:
        return "not determined"
    said = " (fixed)" if parameter.fixed else " (on its bound)" if parameter.at_bound else ""
    shown = exact(parameter.value) if said else significant(parameter.value, 4)
    return f"= {mixed(shown)}{said}"


# ---------------------------------------------------------------------------- panels


def _panel(axes: "Axes", shown: View) -> None:
    """Draw bands, curve and readings, the readings last."""
    axes.set_xlim(*room_round(np.concatenate([shown.x, shown.at])))
    axes.set_ylim(*room_round(shown.heights))
    if shown.many:
        density(axes, shown.x, shown.y)
    if shown.outer:
        axes.fill_between(shown.at, *shown.outer, color=FIT, alpha=0.075, lw=0, zorder=1)
        for edge in shown.outer:
            axes.plot(shown.at, edge, color=FIT, lw=1.1 if shown.many else 0.7, ls=(0, (1.5, 2.5)), alpha=0.8)
    if shown.inner:
        axes.fill_between(shown.at, *shown.inner, color=FIT, alpha=0.2, lw=0, zorder=1.8)
    axes.plot(shown.at, shown.curve, color=FIT, ls="-", label=shown.label)
    if shown.many:
        return
    if len(shown.x) <= STEMS:
        axes.vlines(shown.x, shown.fitted, shown.y, color=INK, lw=0.8, alpha=0.5)
    _points(axes, shown.x, shown.y)


def _points(axes: "Axes", x: Array, y: Array) -> None:
    """Draw readings, smaller where there are many."""
    size = 5.0 if len(x) <= 100 else max(2.0, 5 - 1.5 * float(np.log10(len(x) / 100)))
    edge = 0.8 if len(x) <= 100 else 0.3
    axes.plot(x, y, "o", color=INK, ms=size, mec=PAPER, mew=edge, ls="none", zorder=5)


def _residual_panel(axes: "Axes", result: "FitResult", shown: View) -> None:
    """Draw what the fit leaves over, with twice its standard deviation in grey."""
    left = result.residuals if result.data.even else result.weighted_residuals
    spread = 2 * result.scatter if np.isfinite(result.scatter) else 0.0
    low, high = room_round(np.concatenate([left, [-spread, spread]]), 0.12)
    half = max(abs(low), abs(high))
    axes.set_ylim(-half, half)
    axes.axhspan(-spread, spread, color=INK, alpha=0.045, lw=0)
    axes.axhline(0, color=AXIS, lw=0.8)
    if shown.many:
        _ribbons(axes, shown.x, left)
        return
    if len(shown.x) <= STEMS:
        axes.vlines(shown.x, 0, left, color=INK, lw=0.8, alpha=0.5)
    _points(axes, shown.x, left)


def _ribbons(axes: "Axes", x: Array, y: Array) -> None:
    """Draw quantiles of groups of neighbours: the middle half and nine tenths as ribbons, the median as a line."""
    order = np.argsort(x, kind="stable")
    groups = [group for group in np.array_split(order, BINS) if len(group)]
    at = np.array([float(np.median(x[group])) for group in groups])
    quantiles = np.array([np.quantile(y[group], [0.05, 0.25, 0.5, 0.75, 0.95]) for group in groups]).T
    axes.fill_between(at, quantiles[0], quantiles[4], color=INK, alpha=0.14, lw=0)
    axes.fill_between(at, quantiles[1], quantiles[3], color=INK, alpha=0.28, lw=0)
    axes.plot(at, quantiles[2], color=INK, lw=1.2, ls="-")


# ---------------------------------------------------------------------------- axes and names at the ends


def _dress(upper: "Axes", lower: "Axes", result: "FitResult", shown: View) -> str:
    """Give both panels their ticks, and return what the lower one shows; the horizontal axis stands under it."""
    dress_y(upper, shown.y_name, shown.y_unit)
    dress_x(lower, shown.x_name, shown.x_unit)
    upper.spines.bottom.set_visible(False)
    upper.tick_params(axis="x", length=0, labelbottom=False)
    plain, scaled = result.data.even, "deviance residual" if result.data.counts else "residual / sigma"
    name, unit = ("residual", shown.y_unit) if plain else (scaled, "")
    ticks, labels, title = axis(0, 0.95 * lower.get_ylim()[1], name, unit, most=2)
    lower.set_yticks([-ticks[-1], 0, ticks[-1]], labels=[f"{MINUS}{labels[-1]}", "0", labels[-1]])
    ribbons = ["ribbons of 50 %\nand 90 % of them"] if shown.many else []
    grey = ["± 2 s.d. in grey"] if np.isfinite(result.scatter) else []
    return ",\n".join([drawn(title), *ribbons, *grey])


@dataclass(frozen=True, slots=True)
class End:
    """Words at the right end of a curve, at its height; `own` where they are the name of the curve itself."""

    height: float
    text: str
    own: bool = False


def _ends(result: "FitResult", shown: View) -> list[End]:
    """Return what stands at the right end of the curve and its bands."""
    heights = shown.curve[np.isfinite(shown.curve)]
    if not heights.size:
        return []
    name = shown.label.replace(" =", "\n=")
    if shown.inner:
        name += f"\n± {with_unit(significant(_half(shown.inner)), shown.y_unit)}"
    ends = [End(float(heights[-1]), drawn(name), own=True)]
    if shown.outer:
        width = with_unit(significant(_half(shown.outer)), shown.y_unit)
        words = f"{level_percent(result.level)} of new\nreadings, ± {width}"
        ends.append(End(float(shown.outer[0][-1]), drawn(words)))
    return ends


def _half(band: tuple[Array, Array]) -> float:
    return float(band[1][-1] / 2 - band[0][-1] / 2)


def _name(figure: "Figure", panels: "tuple[Axes, Axes]", ends: list[End], below: str) -> None:
    """Write beside both panels what they show, in a margin as wide as the words need."""
    upper, lower = panels
    lines = [line for text in (*(end.text for end in ends), below) for line in text.split("\n")]
    room = max(text_width(figure, line, size=9, bold=True) for line in lines) + 0.2
    right = max(1 - room / figure.get_figwidth(), 0.6)
    figure.subplots_adjust(left=left_margin(figure, panels), right=right)
    _beside(lower, below, 0.0)
    for end, shift in zip(ends, _apart(upper, figure.dpi / 72, ends), strict=True):
        _beside(upper, end.text, end.height, shift, own=end.own)


def _beside(axes: "Axes", text: str, height: float, shift: float = 0.0, *, own: bool = False) -> None:
    """Write text right of the axes at a height, `shift` points above it; the curve's own name in its colour."""
    axes.annotate(
        text, (1, height), (9, shift), xycoords=("axes fraction", "data"), textcoords="offset points",
        annotation_clip=False, fontsize=9, va="center", color=FIT if own else GREY, weight="bold" if own else "normal",
    )  # fmt: skip


def _apart(axes: "Axes", scale: float, ends: list[End]) -> list[float]:
    """Return by how many points each text is moved up so that none stands on another or below the axes."""
    pixels = [float(axes.transData.transform((0.0, end.height))[1]) / scale for end in ends]
    sizes = [11.5 * (end.text.count("\n") + 1) + 3 for end in ends]
    floor = float(axes.transAxes.transform((0, 0))[1]) / scale
    centres = list[float]()
    for i, (pixel, size) in enumerate(zip(pixels, sizes, strict=True)):
        below = centres[i - 1] - sizes[i - 1] / 2 - size / 2 if i else pixel
        centres.append(min(pixel, below))
    for i in reversed(range(len(centres))):
        least = (
            floor + sizes[i] / 2
            if i == len(centres) - 1
            else centres[i + 1] + sizes[i + 1] / 2 + sizes[i] / 2
        )
        centres[i] = max(centres[i], least)
    return [centre - pixel for centre, pixel in zip(centres, pixels, strict=True)]
