"""How the answer was found: the loss on its way down, from one start or from many."""

from math import isfinite

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import count, fixed, significant, spelled
from gradfit.report.axes import Axis, counting
from gradfit.report.charts import Chart, Frame, twice
from gradfit.report.markup import Markup, tag
from gradfit.report.mathtext import prose
from gradfit.report.page import row, section, sentence_bold
from gradfit.report.subject import Subject

Array = NDArray[np.float64]
_SAME = 1.0001  # ends of two starts whose losses differ by less are one minimum
_MOST_DRAWN = 60  # starts
_LOG_FROM = 200  # epochs from which they stand on a log axis
_LONG_WIDE = Frame("wide", 736, 250, left=44, right=160, top=32, bottom=42)
_LONG_PHONE = Frame("phone", 354, 250, left=44, right=14, top=32, bottom=42)


def search(subject: Subject) -> Markup:
    """Return the section."""
    result = subject.result
    chart = loss_chart(subject, _LONG_WIDE, _LONG_PHONE)
    notes = [tag("p", sentence_bold(prose(sentence, subject.names))) for sentence in result.how]
    notes.append(tag("p", f"{result.solver}; {result.executor}; {_ends(subject)}."))
    if not chart:
        return section("search", "How it was found", headline(subject), *notes)
    return section("search", "How it was found", headline(subject), row(tag("figure", chart), *notes))


def step_name(subject: Subject) -> str:
    """Return what one step of the solver is called."""
    newton = ("levenberg", "marquardt", "closed", "projection", "newton")
    return "iteration" if any(word in subject.result.solver.lower() for word in newton) else "epoch"


def _ends(subject: Subject) -> str:
    result = subject.result
    return f"{count(result.iterations, step_name(subject))}, loss {loss_text(result.loss)}"


def loss_text(value: float) -> str:
    """Return a loss with four digits.

    >>> loss_text(2.927645), loss_text(0.0)
    ('2.928', '0')
    """
    return significant(value, 4)


def headline(subject: Subject) -> str:
    """Return how the answer was found, in one sentence."""
    result, starts = subject.result, subject.result.starts
    if not result.k:
        return "Nothing was searched for: every parameter is given."
    if starts is not None and starts.refined > 1:
        reached = "each" if starts.reached == starts.refined else spelled(starts.reached)
        tail = "; the rest stopped higher" if starts.reached < starts.refined else ""
        return f"{reached.capitalize()} of {spelled(starts.refined)} refined starts reached {'this' if result.converged else 'the same'} minimum{tail}."
    if "closed form" in result.solver:
        return "One linear solve gives the minimum."
    steps = count(result.iterations, step_name(subject))
    if step_name(subject) == "epoch":
        return f"After {steps} the loss is {loss_text(result.loss)}."
    return f"{steps[0].upper()}{steps[1:]} lead to {'the minimum' if result.converged else 'a place that is no minimum'}."


def paths(subject: Subject) -> list[tuple[Array, Array, bool]]:
    """Return the losses to draw: (steps, losses, whether this start was lost), the answer's own last."""
    result, out = subject.result, list[tuple[Array, Array, bool]]()
    if result.starts is not None and result.starts.histories:
        least = min((loss for loss in result.starts.losses if isfinite(loss)), default=result.loss)
        for losses in result.starts.histories[:_MOST_DRAWN]:
            values = np.asarray(losses, dtype=float)
            if len(values):
                lost = not values[-1] <= least * _SAME + 1e-300
                out.append((np.arange(len(values), dtype=float), values, lost))
    own = np.asarray(result.history.loss, dtype=float)
    if len(own):
        out.append((np.asarray(result.history.step, dtype=float), own, False))
    return out


def loss_chart(subject: Subject, wide: Frame, phone: Frame) -> Markup:
    """Return the losses on a log axis; empty where there was no way to go."""
    drawn = [path for path in paths(subject) if len(path[0]) > 1 and np.isfinite(path[1]).any()]
    if not drawn:
        return Markup("")
    last = int(max(steps[-1] for steps, _, _ in drawn))
    every = np.concatenate([losses for _, losses, _ in drawn])
    every = every[np.isfinite(every)]
    y_axis = _loss_axis(every)
    many = sum(1 for _ in drawn) > 1
    name = step_name(subject)
    as_log = name == "epoch" and last >= _LOG_FROM
    x_axis = Axis.decades(np.array([1.0, last]), f"{name}, log scale") if as_log else Axis(0, max(last, 1), f"{name}", at=counting(last))
    message = f"Loss by {name}: from {loss_text(float(drawn[-1][1][0]))} to {loss_text(float(drawn[-1][1][-1]))}"

    def draw(frame: Frame) -> Chart:
        axis = x_axis if as_log else Axis(0, max(last, 1), name, at=counting(last, about=4 if frame.phone or frame.width < 500 else 8))
        chart = Chart(frame, axis, y_axis, message).axes()
        for k, (steps, losses, lost) in enumerate(drawn):
            steps = np.maximum(steps, 1.0) if as_log else steps
            own = k == len(drawn) - 1
            chart.path(steps, losses, "fit" if own else "thin2" if lost else "thin")
            end = losses[np.isfinite(losses)][-1:]
            if many and len(end):
                chart.dots(steps[np.isfinite(losses)][-1:], end, f"dot {'bad' if lost else 'f'}", radius=2.8)
        _name_ends(chart, subject, drawn)
        return chart

    return twice(draw, wide, phone)


def _loss_axis(losses: Array) -> Axis:
    """Return a log axis over the losses; a descent to rounding is cut sixteen decades below the start."""
    positive = losses[losses > 0]
    top = float(positive.max()) if positive.size else 1.0
    return Axis.decades(np.maximum(losses, top * 1e-16), "loss")


def _name_ends(chart: Chart, subject: Subject, drawn: list[tuple[Array, Array, bool]]) -> None:
    """Write the losses at which the paths end, with how many do."""
    lost = sum(1 for _, _, away in drawn if away)
    kept = len(drawn) - lost
    end = drawn[-1][1][np.isfinite(drawn[-1][1])][-1:]
    if not end.size:
        return
    words = f"end at {loss_text(float(end[0]))}"
    first = f"{kept - 1} of {len(drawn) - 1} starts" if len(drawn) > 1 else "loss"
    y = float(chart.py(chart.y.clip(end))[0])
    if chart.frame.phone or chart.frame.right < 100:
        above = y - 10 if y - 10 > chart.frame.top + 14 else y + 18
        line = f"{first} {words}" if len(drawn) > 1 else words
        chart.write(chart.right, above, line, "k-fit fine halo", anchor="end")
        return
    x = chart.right + 8
    chart.write(x, y - 3, first, "k-fit").write(x, y + 13, words, "k-fit fine")
    if lost:
        worst = np.array([max(losses[np.isfinite(losses)][-1] for _, losses, away in drawn if away)])
        top = min(float(chart.py(chart.y.clip(worst))[0]), y - 36)
        chart.write(x, top - 3, f"{fixed(lost, 0)} stop higher", "k-second")

