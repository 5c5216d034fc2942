"""Sheets that figures are drawn on: the style, the heading, axes without clutter, and saving them whole or not at all."""

# matplotlib leaves the keywords of its methods untyped
# pyright: reportUnknownMemberType=false

import importlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import matplotlib
from gradfit.errors import OptionError
from gradfit.figures.text import axis_title, drawn
from gradfit.notation import axis, fixed
from gradfit.outputs import target, write_whole
from gradfit.view import ROW

if TYPE_CHECKING:
    from matplotlib.axes import Axes  # noqa: TID251  only the names of types
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types
    from matplotlib.text import Text  # noqa: TID251  only the names of types

Array = NDArray[np.float64]

STYLE = Path(__file__).with_name("gradfit.mplstyle")
PAPER, INK, SECOND_INK, GREY, RULE, AXIS, FIT = (
    "#fcfcfa", "#171a1f", "#454c55", "#646b75", "#e9ece8", "#828992", "#0067a8",
)  # fmt: skip
WIDTH = 7.1  # inches, the column of a page
FORMATS = (".png", ".svg", ".pdf")
LARGEST = 1e300  # beyond, matplotlib's own arithmetic overflows

_MARGIN = 0.02  # of the width, left of a heading
_LINE = 0.21  # inches from line to line of a heading


@contextmanager
def style() -> Generator[None]:
    """Draw with the style of gradfit inside, whatever the reader has set; nothing of it stays."""
    with matplotlib.rc_context(fname=str(STYLE)):
        yield


def new_figure(height: float, width: float = WIDTH) -> "Figure":
    """Return an empty figure that is in no list of open windows; notebooks show it by themselves."""
    figures = importlib.import_module("matplotlib.figure")
    agg = importlib.import_module("matplotlib.backends.backend_agg")
    figure: Figure = figures.Figure(figsize=(width, height))
    agg.FigureCanvasAgg(figure)
    vars(figure)["_repr_png_"] = partial(figure_bytes, figure, ".png")
    return figure


def heading(figure: "Figure", headline: Sequence[str], lines: Sequence[str]) -> float:
    """Write a headline and what stands under it, make the figure that much higher; return what they take, in inches.

    Parameters
    ----------
    headline : sequence of str
        The lines that say what the figure shows.
    lines : sequence of str
        Set as they are.
    """
    taken = 0.03 + 0.23 * len(headline) + _LINE * len(lines) + 0.05
    height = figure.get_figheight() + taken
    figure.set_figheight(height)
    at = 0.03
    for part in headline:
        at += 0.23
        figure.text(_MARGIN, 1 - at / height, part, size=12, weight="bold", va="baseline")
    at += 0.02
    for line in lines:
        at += _LINE
        figure.text(_MARGIN, 1 - at / height, line, size=9.5, color=SECOND_INK, va="baseline")
    return taken


def wrapped(figure: "Figure", text: str, *, headline: bool = False, most: int = 3) -> list[str]:
    """Return running text in lines that fit the width of the figure, at most `most` of them."""
    room = figure.get_figwidth() * (1 - 2 * _MARGIN)
    size, lines = 12.0 if headline else 9.5, [""]
    for word in _parts(drawn(text)):
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and text_width(figure, longer, size=size, bold=headline) > room:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines if len(lines) <= most else [*lines[: most - 1], f"{lines[most - 1]} …"]


def _parts(text: str, most: int = 60) -> Iterator[str]:
    """Return the words of a text, those that no line would hold in pieces."""
    for word in text.split(" "):
        yield from (word[i : i + most] for i in range(0, max(len(word), 1), most))


def fitted(figure: "Figure", text: str, room: float, *, size: float, bold: bool = False) -> str:
    """Return text, cut at its end where it is wider than `room` inches."""
    text = drawn(text)
    if text_width(figure, text, size=size, bold=bold) <= room:
        return text
    while len(text) > 1 and text_width(figure, f"{text}…", size=size, bold=bold) > room:
        text = text[:-1]
    return f"{text.rstrip(' _')}…"


def text_width(figure: "Figure", text: str, *, size: float = 9.5, bold: bool = False) -> float:
    """Return the width of one line of text, in inches."""
    trial = figure.text(0, 0, text, size=size, weight="bold" if bold else "normal")
    width = trial.get_window_extent(renderer(figure)).width / figure.dpi
    trial.remove()
    return float(width)


def renderer(figure: "Figure") -> Any:
    """Return what measures text on a figure."""
    canvas: Any = figure.canvas
    return canvas.get_renderer()


def dress_x(axes: "Axes", name: str, unit: str = "", *, most: int = 6) -> None:
    """Give an axis round ticks with plain labels, and its name at the right end; none where it is empty."""
    ticks, labels, title = axis(*axes.get_xlim(), name, unit, most=most)
    if name == ROW:
        ticks = [tick for tick in ticks if tick == round(tick)]
        labels = [fixed(tick, 0) for tick in ticks]
    axes.set_xticks(ticks, labels=[drawn(label) for label in labels])
    if name:
        axes.set_xlabel(axis_title(title, name), loc="right")


def dress_y(axes: "Axes", name: str, unit: str = "", *, most: int = 5) -> None:
    """Give an axis round ticks with plain labels, and its name level at the top; none where it is empty."""
    ticks, labels, title = axis(*axes.get_ylim(), name, unit, most=most)
    axes.set_yticks(ticks, labels=[drawn(label) for label in labels])
    if name:
        axes.annotate(
            axis_title(title, name), (0, 1), xycoords="axes fraction", xytext=(0, 6), textcoords="offset points",
            color=SECOND_INK, fontsize=9, ha="left", va="bottom", annotation_clip=False,
        )  # fmt: skip


def room_round(values: Array, margin: float = 0.04) -> tuple[float, float]:
    """Return limits for an axis with a margin; a single value gets room around it, and none gets 0 to 1."""
    values = values[np.isfinite(values) & (np.abs(values) <= LARGEST)]
    if not values.size:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    room = margin * (high - low)
    if high - low <= 1e-12 * max(abs(low), abs(high)):
        room = 0.05 * max(abs(low), abs(high)) or 1.0
    return low - room, high + room


def left_margin(figure: "Figure", axes: Sequence["Axes"]) -> float:
    """Return the room that the labels of the vertical axes need, as a share of the width."""
    measure = renderer(figure)
    labels: list[Text] = [label for one in axes for label in one.get_yticklabels()]
    widest = max((label.get_window_extent(measure).width for label in labels), default=0.0)
    return float(widest / figure.dpi + 0.16) / figure.get_figwidth()


def density(axes: "Axes", x: Array, y: Array, across: int = 72) -> None:
    """Draw many points as hexagons, the darker the more of them."""
    colors = importlib.import_module("matplotlib.colors")
    tones = colors.LinearSegmentedColormap.from_list("ink", ["#e1e4e2", "#9ba0a6", "#3d434b"])
    low, high = axes.get_position().height, axes.get_position().width
    shape: Any = axes.figure
    ratio = low * shape.get_figheight() / (high * shape.get_figwidth())
    grid = (across, max(4, round(across * ratio / 3**0.5)))
    extent = (*axes.get_xlim(), *axes.get_ylim())
    axes.hexbin(
        x,
        y,
        gridsize=grid,
        extent=extent,
        cmap=tones,
        norm=colors.PowerNorm(0.5),
        mincnt=1,
        linewidths=0.1,
        zorder=1.5,
    )


def own_fonts(figure: "Figure") -> None:
    """Name the fonts in every text, so that a later savefig outside the style keeps them."""
    fonts = importlib.import_module("matplotlib.font_manager")
    texts = importlib.import_module("matplotlib.text")
    there = set(fonts.fontManager.get_font_names())
    family = [name for name in matplotlib.rcParams["font.sans-serif"] if name in there]
    for text in figure.findobj(texts.Text):
        text.set(fontfamily=family or ["sans-serif"])


def save(figure: "Figure", path: str | Path, *, force: bool = False) -> Path:
    """Write a figure as PNG, SVG or PDF, by the end of the name, and return the path; whole, or not at all.

    Parameters
    ----------
    force : bool
        Whether an existing file is overwritten.

    Raises
    ------
    OptionError
        If the file exists and `force` is false, its name ends otherwise, or the folder cannot be written to.
    """
    ending = Path(path).suffix.lower()
    if ending not in FORMATS:
        seen = f"ends in {ending!r}" if ending else "has no ending"
        remedy = f"Name it {Path(path).stem}.png"
        raise OptionError(f"{path} {seen}, and a figure is .png, .svg or .pdf", remedy=remedy)
    file = target(path, force=force)
    write_whole({file: figure_bytes(figure, ending)})
    return file


def figure_bytes(figure: "Figure", ending: str) -> bytes:
    """Return a figure as a file with this ending (".png", ".svg", ".pdf") holds it; the same bytes each time."""
    stamps: dict[str, dict[str, None]] = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}}
    held = BytesIO()
    with style():
        matplotlib.rcParams["svg.hashsalt"] = "gradfit"
        figure.savefig(held, format=ending[1:], metadata=stamps.get(ending))
    return held.getvalue()
