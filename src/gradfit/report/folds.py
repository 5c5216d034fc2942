"""The losses of the folds of a cross-validation: each fold a point, their mean with its standard error a band."""

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import plus_minus, significant
from gradfit.report.axes import Axis, counting
from gradfit.report.charts import Chart, Frame, name_ends, twice
from gradfit.report.markup import Markup

Array = NDArray[np.float64]
_WIDE = Frame("wide", 486, 250, left=40, right=120, top=32, bottom=42)
_PHONE = Frame("phone", 354, 250, left=40, right=96, top=32, bottom=42)


def mean_text(mean: float, stderr: float) -> str:
    """Return the mean of the folds with its standard error.

    >>> mean_text(0.0088, 0.0013)
    '0.0088\u00a0±\u00a00.0013'
    """
    if not np.isfinite([mean, stderr]).all():
        return "not finite"
    value, error, power = plus_minus(mean, stderr)
    return f"({value}\u00a0±\u00a0{error}){power}" if power else f"{value}\u00a0±\u00a0{error}"


def folds_chart(losses: Array, mean: float, stderr: float, trained: float) -> Markup:
    """Return the loss of each fold, the band of one standard error round their mean, and the loss in training.

    Parameters
    ----------
    losses : (k,)
        Of the rows of each fold, when the others were trained on.
    mean, stderr : float
        Of them.
    trained : float
        Loss of rows trained on.
    """
    if not np.isfinite([*losses, mean, stderr, trained]).all():
        return Markup("")
    k = len(losses)
    y_axis = Axis.around(np.r_[losses, mean - stderr, mean + stderr, trained, 0.0], "loss")
    message = (
        f"Losses of {k} held-out folds, mean {significant(mean, 3)}; in training {significant(trained, 3)}"
    )

    def draw(frame: Frame) -> Chart:
        ticks = tuple(tick for tick in counting(k) if tick)
        chart = Chart(frame, Axis(0.3, k + 0.7, "fold", at=ticks), y_axis, message)
        chart.slab(mean - stderr, mean + stderr).axes().across(mean, "held-line").across(trained, "fit")
        chart.dots(np.arange(1.0, k + 1), losses, "dot bad", radius=4.5)
        ends = ((mean, "held out", "k-second"), (trained, "trained", "k-fit"))
        return name_ends(chart, [(float(chart.py(value)), [words], cls) for value, words, cls in ends])

    return twice(draw, _WIDE, _PHONE)
