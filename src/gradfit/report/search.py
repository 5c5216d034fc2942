"""How the answer was found: the loss on its way down, from one start or from many."""

from math import isfinite

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import count, fixed
from gradfit.report.axes import Axis, counting
from gradfit.report.charts import Chart, Frame, twice
from gradfit.report.headlines import loss_text, of_search, step_name
from gradfit.report.held import drawn, losses_of
from gradfit.report.losses import PHONE, WIDE, Losses, losses_chart
from gradfit.report.markup import Markup, tag
from gradfit.report.mathtext import prose
from gradfit.report.page import row, section, sentence_bold
from gradfit.report.subject import Subject
from gradfit.report.training import panels

Array = NDArray[np.float64]
_SAME = 1.0001  # ends of two starts whose losses differ by less are one minimum
_LONG_WIDE = Frame("wide", 736, 250, left=44, right=160, top=32, bottom=42)
_LONG_PHONE = Frame("phone", 354, 250, left=44, right=14, top=32, bottom=42)


def search(subject: Subject) -> Markup:
    """Return the section."""
    result = subject.result
    closed = result.starts.source == "not needed" and not (result.loss_used.robust or result.data.counts)
    chart = Markup("") if closed else starts_chart(subject)
    if not (closed or chart or drawn(subject)):
        chart = loss_chart(subject, WIDE, PHONE)
    notes = [
        tag("p", sentence_bold(prose(sentence.rstrip(".") + ".", subject.names)))
        for sentence in result.how
        if result.shrinkage is None or sentence != result.shrinkage.text
    ]
    if result.message and not closed:
        notes.append(tag("p", prose(result.message.rstrip(".") + ".", subject.names)))
    if result.k:
        words = f"{_capital(result.solver)}; loss {loss_text(result.loss)} after {_looks(subject)}."
        notes.append(tag("p", words))
    lead = of_search(subject)
    return section(
        "search",
        "How it was found",
        lead,
        row(tag("figure", chart), *notes) if chart else tag("div", *notes, class_="words"),
        panels(subject),
    )


def _looks(subject: Subject) -> str:
    result = subject.result
    by = f", by {result.executor}" if result.executor else ""
    return f"{count(result.iterations, step_name(subject))}, {count(result.evaluations, 'evaluation')} of the model{by}"


def _capital(words: str) -> str:
    return words[:1].upper() + words[1:]


def starts_chart(subject: Subject) -> Markup:
    """Return where the refined starts ended, lowest first; empty where all ended at one loss."""
    losses = np.sort(np.array([loss for loss in subject.result.starts.losses if isfinite(loss)]))
    if len(losses) < 2:
        return Markup("")
    y_axis = _loss_axis(losses)
    same = losses <= losses[0] * _SAME + 1e-300
    places = np.arange(1.0, len(losses) + 1)
    lost = int((~same).sum())
    if not lost:
        return Markup("")
    message = f"{int(same.sum())} of {len(losses)} starts ended at loss {loss_text(float(losses[0]))}, {lost} higher"

    def draw(frame: Frame) -> Chart:
        ticks = tuple(t for t in counting(len(losses), about=4 if frame.phone else 8) if t)
        chart = Chart(
            frame, Axis(0.2, len(losses) + 0.8, "start, lowest first", at=ticks), y_axis, message
        ).axes()
        for mask, cls in ((same, "dot f"), (~same, "dot bad")):
            chart.dots(places[mask], losses[mask], cls, radius=4)
        words = f"{int(same.sum())} of {len(losses)} end at {loss_text(float(losses[0]))}"
        y = float(chart.py(losses[0]))
        if frame.phone:
            return chart.write(
                frame.left + 4, y + 20 if y + 24 < chart.bottom else y - 12, words, "k-fit fine halo"
            )
        chart.write(chart.right + 8, y + 4, words, "k-fit")
        if lost:
            top = min(float(chart.py(losses[-1])) + 4, y - 16)
            chart.write(chart.right + 8, top, f"{fixed(lost, 0)} stop higher", "k-second")
        return chart

    return twice(draw, _LONG_WIDE, _LONG_PHONE)


def loss_chart(subject: Subject, wide: Frame, phone: Frame) -> Markup:
    """Return the loss on its way down, beside that of held-out rows; empty where there was no way to go."""
    losses = losses_of(subject)
    if losses is None:
        history, word, unit = subject.result.history, step_name(subject), subject.result.data.unit
        with np.errstate(over="ignore"):
            loss = history.loss / unit / unit
        losses = Losses(history.step.astype(np.float64), loss, None, None, word)
    return losses_chart(losses, wide, phone)


def _loss_axis(losses: Array) -> Axis:
    """Return a log axis over the losses; a descent to rounding is cut sixteen decades below the start."""
    positive = losses[losses > 0]
    top = float(positive.max()) if positive.size else 1.0
    return Axis.decades(np.maximum(losses, top * 1e-16), "loss")
