"""The report of a trained network, made of the same parts as that of a fit."""

from datetime import date

from gradfit.learn import NetworkResult
from gradfit.report.markup import Markup
from gradfit.report.network.data import data, reproduce
from gradfit.report.network.findings import findings
from gradfit.report.network.layers import layers
from gradfit.report.network.measures import measures
from gradfit.report.network.picture import picture
from gradfit.report.network.subject import Subject
from gradfit.report.network.top import top
from gradfit.report.network.training import training
from gradfit.report.page import day_text, page


def html(result: NetworkResult, day: date) -> str:
    """Return the report of a network as one HTML document.

    Parameters
    ----------
    day : date
        The date in its first line.
    """
    subject = Subject(result)
    sections: list[tuple[str, str, Markup]] = [
        ("findings", "Findings", findings(subject)),
        ("picture", "Picture", picture(subject)),
        ("measures", "Measures", measures(subject)),
        ("training", "Training", training(subject)),
        ("layers", "Layers", layers(subject)),
        ("data", "Data", data(subject)),
        ("reproduce", "Reproduce", reproduce(subject)),
    ]
    present = [(key, name) for key, name, part in sections if part]
    made = f"gradfit {result.version} on {day_text(day)}"
    body = [top(subject), *(part for _, _, part in sections)]
    return page(
        f"{result.verdict.capitalize()}: {result.formula}, {result.source}",
        result.source,
        made,
        parts=present,
        body=body,
    )


__all__ = ["html"]
