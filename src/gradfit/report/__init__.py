"""The report of one fit, or of one trained network: a single HTML file without scripts, fonts or images from elsewhere."""

from datetime import date
from os import PathLike
from pathlib import Path

from gradfit.learn import NetworkResult
from gradfit.outputs import target, write_whole
from gradfit.report import network
from gradfit.report.findings import findings
from gradfit.report.held import held
from gradfit.report.markup import Markup
from gradfit.report.page import day_text, page
from gradfit.report.parameters import parameters
from gradfit.report.penalty import penalty
from gradfit.report.picture import picture
from gradfit.report.residuals import residuals
from gradfit.report.search import search
from gradfit.report.subject import Subject
from gradfit.report.treatment import data, reproduce
from gradfit.report.verdict import answer, top
from gradfit.result import FitResult


def html(result: FitResult | NetworkResult, *, day: date | None = None) -> str:
    """Return the report as one HTML document.

    Parameters
    ----------
    result : FitResult or NetworkResult
        What `gradfit.fit` returned.
    day : date, optional
        The date in its first line; today when it is not given. The same result and date give the same text.
    """
    if isinstance(result, NetworkResult):
        return network.html(result, day or date.today())
    subject = Subject(result)
    sections: list[tuple[str, str, Markup]] = [
        ("findings", "Findings", findings(subject)),
        ("picture", "Picture", picture(subject)),
        ("parameters", "Parameters", parameters(subject)),
        ("residuals", "Residuals", residuals(subject)),
        ("held", "Held out", held(subject)),
        ("penalty", "Penalty", penalty(subject)),
        ("search", "Search", search(subject)),
        ("data", "Data", data(subject)),
        ("reproduce", "Reproduce", reproduce(subject, result.version)),
    ]
    present = [(key, name) for key, name, part in sections if part]
    made = f"gradfit {result.version} on {day_text(day or date.today())}"
    title = f"{result.verdict.capitalize()}: {result.formula}, {result.data.source}"
    body = [top(subject), *(part for _, _, part in sections)]
    return page(title, result.data.source, made, parts=present, body=body)


def write(result: FitResult | NetworkResult, path: str | PathLike[str], *, force: bool = False) -> Path:
    """Write the report of a result and return the path; the file is written whole or not at all.

    Parameters
    ----------
    result : FitResult or NetworkResult
        What `gradfit.fit` returned.
    path : str or path
        Where it goes; its folder must be there.
    force : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    OptionError
        If the file is there already and `force` is not given, or cannot be written.
    """
    file = target(path, force=force)
    write_whole({file: html(result).encode("utf-8")})
    return Path(path)


def notebook(result: FitResult) -> str:
    """Return verdict, formula, sentences and parameters as a piece of HTML for a notebook's cell."""
    return answer(Subject(result))


__all__ = ["html", "notebook", "write"]
