"""The report of one fit: a single HTML file without scripts, fonts or images from elsewhere."""

import os
from datetime import date
from os import PathLike
from pathlib import Path

from gradfit.errors import OptionError
from gradfit.report.findings import findings
from gradfit.report.markup import Markup
from gradfit.report.page import day_text, page
from gradfit.report.parameters import parameters
from gradfit.report.picture import picture
from gradfit.report.residuals import residuals
from gradfit.report.search import search
from gradfit.report.subject import Subject
from gradfit.report.treatment import data, reproduce
from gradfit.report.verdict import top
from gradfit.result import FitResult


def html(result: FitResult, *, day: date | None = None) -> str:
    """Return the report as one HTML document.

    Parameters
    ----------
    result : FitResult
        What `gradfit.fit` returned.
    day : date, optional
        The date in its first line; today when it is not given. The same result and date give the same text.
    """
    subject = Subject(result)
    sections: list[tuple[str, str, Markup]] = [
        ("findings", "Findings", findings(subject)),
        ("picture", "Picture", picture(subject)),
        ("parameters", "Parameters", parameters(subject)),
        ("residuals", "Residuals", residuals(subject)),
        ("search", "Search", search(subject)),
        ("data", "Data", data(subject)),
        ("reproduce", "Reproduce", reproduce(subject, result.version)),
    ]
    present = [(key, name) for key, name, part in sections if part]
    made = f"gradfit {result.version} on {day_text(day or date.today())}"
    title = f"{result.verdict.capitalize()}: {result.formula}, {result.data.source}"
    body = [top(subject), *(part for _, _, part in sections)]
    return page(title, result.data.source, made, parts=present, body=body)


def write(result: FitResult, path: str | PathLike[str], *, force: bool = False) -> Path:
    """Write the report of a result and return the path; the file is written whole or not at all.

    Parameters
    ----------
    result : FitResult
        What `gradfit.fit` returned.
    path : str or path
        Where it goes; its folder must be there.
    force : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    OptionError
        If the file is there already and `force` is not given, or the folder is not there.
    """
    target = Path(path)
    if target.is_dir():
        raise OptionError(
            f"{target} is a folder; the report needs the name of a file",
            remedy=f"Name one: {target / 'report.html'}",
        )
    if target.exists() and not force:
        raise OptionError(
            f"{target} is there already and was not overwritten",
            remedy="Name another file, or use --force (force=True)",
        )
    if not target.parent.is_dir():
        raise OptionError(
            f"There is no folder {target.parent} to write {target.name} to",
            remedy=f"Make it first: mkdir -p {target.parent}",
        )
    words = html(result).encode("utf-8")
    part = target.with_name(f".{target.name[:60]}.{os.getpid()}.part")
    try:
        part.write_bytes(words)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)
    return target


__all__ = ["html", "write"]
