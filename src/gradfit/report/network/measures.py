"""How well a network does: on rows trained on, on rows held out, fold by fold."""

import numpy as np

from gradfit.networks.sentences import MEASURES, measured_text
from gradfit.notation import count, fixed, significant, with_unit
from gradfit.report.folds import folds_chart, mean_text
from gradfit.report.markup import Markup, join, tag
from gradfit.report.network.findings import noted
from gradfit.report.network.headlines import of_measures
from gradfit.report.network.picture import BESIDE_PHONE, BESIDE_WIDE, against
from gradfit.report.network.subject import Subject
from gradfit.report.page import section, small

_LOST = -10.0  # r² below which decimals say nothing
_UNITS = ("rmse", "mae")  # measures in the unit of the target


def measures(subject: Subject) -> Markup:
    """Return the section."""
    words = tag("div", _table(subject), small(_note(subject)))
    figure = _figure(subject)
    parts = (
        [tag("div", words, tag("figure", figure), class_="duo")]
        if figure
        else [tag("div", words, class_="words")]
    )
    return section("measures", "How well it does", of_measures(subject), *parts, noted(subject))


def _table(subject: Subject) -> Markup:
    result, held = subject.result, subject.result.validation
    where = [] if held is None else ["over the folds" if held.folds else "held out"]
    head = [tag("th", words, scope="col") for words in ("Measure", "trained on", *where)]
    rows = [
        [
            MEASURES[name],
            _text(subject, name, value),
            *([] if held is None else [_text(subject, name, held.metrics[name])]),
        ]
        for name, value in result.metrics.items()
    ]
    loss = (
        []
        if held is None
        else [mean_text(held.loss, held.stderr) if held.folds else significant(held.loss, 3)]
    )
    rows.append([f"loss ({result.loss_name})", significant(result.loss, 3), *loss])
    counts = [] if held is None else [fixed(held.n, 0)]
    rows.append(["rows", fixed(result.n, 0), *counts])
    lines = [
        tag("tr", tag("th", line[0], scope="row"), *(tag("td", cell) for cell in line[1:])) for line in rows
    ]
    whole = tag("table", tag("thead", tag("tr", *head)), tag("tbody", *lines))
    return tag("div", whole, class_="scroll")


def _text(subject: Subject, name: str, value: float) -> str:
    if not np.isfinite(value):
        return "not finite"
    unit = subject.unit_of(subject.result.target.names[0]) if len(subject.result.target.names) == 1 else ""
    text = significant(value, 2) if name == "r2" and value < _LOST else measured_text(name, value)
    return with_unit(text, unit) if name in _UNITS else text


def _note(subject: Subject) -> str:
    held, result = subject.result.validation, subject.result
    if held is None:
        return "To learn how it does on new rows, hold some out: validation=0.2."
    if held.folds:
        return f"Each of the {count(len(held.folds), 'fold')} was held out once, and the mean is given; ± is one standard error. The network itself was trained on all rows."
    words = (
        f"Rows held out {held.how}." if not held.how.endswith("of their own") else f"Held out: {held.how}."
    )
    chosen = (
        " They chose the epoch that was kept, so their loss flatters a little." if subject.losses.kept else ""
    )
    scaled = " The loss is that of the standardised target." if result.encoding.scale is not None else ""
    return words + chosen + scaled


def _figure(subject: Subject) -> Markup:
    """Return the folds, or observed over predicted rows where the picture above was another."""
    result = subject.result
    held = result.validation
    if held is not None and held.folds:
        return folds_chart(np.array(held.folds), held.loss, held.stderr, result.loss)
    if subject.along and subject.judged is not None:
        where = tag("figcaption", f"Rows {subject.judged_name}; on the line they are predicted exactly.")
        return join([against(subject, BESIDE_WIDE, BESIDE_PHONE), where])
    return Markup("")
