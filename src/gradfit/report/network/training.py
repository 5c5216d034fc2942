"""How a network was trained: its losses by epoch, the learning rate where it changed, the sizes of gradients by layer."""

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import fixed, significant
from gradfit.report.axes import Axis, counting
from gradfit.report.charts import Chart, Frame, name_ends, twice
from gradfit.report.losses import losses_chart
from gradfit.report.markup import Markup, tag
from gradfit.report.mathtext import prose, short
from gradfit.report.network.headlines import of_training
from gradfit.report.network.subject import Subject
from gradfit.report.page import row, section, sentence_bold, small, table_on_request

Array = NDArray[np.float64]
HALF_WIDE = Frame("wide", 486, 230, left=46, right=96, top=32, bottom=42)
HALF_PHONE = Frame("phone", 354, 240, left=46, right=92, top=32, bottom=42)
_LOG_FROM = 50  # epochs
_LEAST = 1e-30  # of a gradient that is drawn on a log axis


def training(subject: Subject) -> Markup:
    """Return the section."""
    result = subject.result
    chart = losses_chart(subject.losses)
    notes = [
        tag("p", sentence_bold(prose(f"{words.rstrip('.')}.", subject.names)))
        for words in (result.message, *result.how)
    ]
    first = row(tag("figure", chart), *notes) if chart else tag("div", *notes, class_="words")
    panels = [panel for panel in (_gradients(subject), _rates(subject)) if panel]
    below = tag("div", tag("div", *panels, class_="duo"), class_="below") if panels else ""
    return section("training", "How it was trained", of_training(subject), first, below, _numbers(subject))


def _epochs(last: int, *, narrow: bool) -> Axis:
    if last >= _LOG_FROM:
        return Axis(1.0, float(last), "epoch, log scale", log=True)
    ticks = counting(max(last, 2), about=4 if narrow else 8)
    return Axis(1.0, max(last, 2), "epoch", at=tuple(tick for tick in ticks if tick >= 1))


def _panel(title: str, words: str, chart: Markup) -> Markup:
    return tag("div", tag("h3", title), small(words), tag("figure", chart))


def gradients_chart(subject: Subject) -> Markup:
    """Return the root mean square gradient of each layer by epoch, the first and the last named; empty where none is known."""
    trail = subject.result.trail
    sizes = np.where(
        np.isfinite(trail.gradient) & (trail.gradient > 0), np.maximum(trail.gradient, _LEAST), np.nan
    )
    named = [j for j in range(len(trail.layers)) if np.isfinite(sizes[:, j]).any()] if sizes.size else []
    if len(trail.epoch) < 2 or not named:
        return Markup("")
    epochs = trail.epoch.astype(np.float64)
    seen = sizes[np.isfinite(sizes)]
    ends = {named[0]: "fit", named[-1]: "second"} if len(named) > 1 else {named[0]: "fit"}
    message = f"Gradient by epoch of {len(named)} layers, from {significant(float(seen.max()), 2)} to {significant(float(seen.min()), 2)}"

    def draw(frame: Frame) -> Chart:
        chart = Chart(
            frame, _epochs(int(epochs[-1]), narrow=frame.width < 400),
            Axis.tight(seen, "gradient, root mean square"), message,
        ).axes()  # fmt: skip
        for j in named:
            chart.path(epochs, sizes[:, j], ends.get(j, "thin"))
        marks = [
            (_end(chart, sizes[:, j]), [short(trail.layers[j], 13)], "k-fit" if cls == "fit" else "k-second")
            for j, cls in ends.items()
        ]
        return name_ends(chart, marks)

    return twice(draw, HALF_WIDE, HALF_PHONE)


def _end(chart: Chart, sizes: Array) -> float:
    return float(chart.py(sizes[np.isfinite(sizes)][-1]))


def _gradients(subject: Subject) -> Markup:
    chart = gradients_chart(subject)
    if not chart:
        return Markup("")
    layers = len(subject.result.trail.layers)
    middle = "; thin lines: the layers between them" if layers > 2 else ""
    return _panel("Gradients by layer", f"At the first update of some epochs{middle}.", chart)


def _rates(subject: Subject) -> Markup:
    """Return the learning rate by epoch where a schedule changed it."""
    history = subject.result.history
    rates = np.where(np.isfinite(history.lr) & (history.lr > 0), history.lr, np.nan)
    seen = rates[np.isfinite(rates)]
    if len(seen) < 2 or seen.max() <= seen.min() * (1 + 1e-9):
        return Markup("")
    epochs = history.epoch.astype(np.float64)
    ends = f"from {significant(float(seen[0]), 2)} to {significant(float(seen[-1]), 2)}"

    def draw(frame: Frame) -> Chart:
        axis = _epochs(int(epochs[-1]), narrow=frame.width < 400)
        chart = Chart(
            frame, axis, Axis.tight(seen, "learning rate"), f"Learning rate by epoch, {ends}"
        ).axes()
        return chart.path(epochs, rates, "fit")

    return _panel("Learning rate", f"It went {ends}.", twice(draw, HALF_WIDE, HALF_PHONE))


def _numbers(subject: Subject) -> Markup:
    """Return the losses at some epochs, as a table that opens on request."""
    history, held = subject.result.history, subject.losses.held
    done = len(history.epoch)
    if not done:
        return Markup("")
    some = {m * 10**e for e in range(9) for m in (1, 2, 5)} | {done, subject.losses.kept or done}
    places = sorted(epoch - 1 for epoch in some if 1 <= epoch <= done)
    head = ["Epoch", "trained", *(["held out"] if held is not None else []), "learning rate"]
    rows = [
        [
            fixed(int(history.epoch[i]), 0),
            _number(history.train[i]),
            *([_number(held[i])] if held is not None else []),
            _number(history.lr[i]),
        ]
        for i in places
    ]
    return table_on_request("The numbers behind this picture", head, rows)


def _number(value: float) -> str:
    return significant(float(value), 4) if np.isfinite(value) else "not finite"
