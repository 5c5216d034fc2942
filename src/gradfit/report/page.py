"""The page round the sections: head, style sheet, verdict marks, and the few shapes that every section has."""

from collections.abc import Iterable, Sequence
from datetime import date
from importlib.resources import files

from gradfit.notation import fixed
from gradfit.report.markup import Markup, tag

MOST_ROWS = 200  # of a table
_MARKS = {  # the verdict is a word first, a shape second, a colour last
    "trust": '<circle cx="12" cy="12" r="11"/><path class="ink" d="M6.8 12.6l3.5 3.5 7-7.6"/>',
    "caution": '<path d="M12 1.6 23.4 21.6a.9.9 0 0 1-.8 1.3H1.4a.9.9 0 0 1-.8-1.3z"/>'
    '<path class="ink" d="M12 9v6.2M12 18.6v.6"/>',
    "no": '<path d="M7.4 1h9.2L23 7.4v9.2L16.6 23H7.4L1 16.6V7.4z"/><path class="ink" d="M8 8l8 8M16 8l-8 8"/>',
}


def mark(verdict: str) -> Markup:
    """Return the shape of a verdict: circle, triangle or octagon."""
    return Markup(f'<svg class="mark" viewBox="0 0 24 24" aria-hidden="true">{_MARKS[verdict]}</svg>')


def day_text(day: date) -> str:
    """Return a date as it is read.

    >>> day_text(date(2026, 11, 23))
    '23 Nov 2026'
    """
    month = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][
        day.month - 1
    ]
    return f"{day.day} {month} {day.year}"


def page(
    title: str, source: str, made: str, *, parts: Sequence[tuple[str, str]], body: Iterable[Markup]
) -> Markup:
    """Return the whole document.

    Parameters
    ----------
    title, source : str
        For the browser, and for the line on top.
    made : str
        "gradfit 0.1.0 on 23 Nov 2026".
    parts : sequence of (id, name)
        The sections, for the navigation.
    body : iterable of Markup
        Verdict and sections.
    """
    style = files("gradfit.report").joinpath("report.css").read_text(encoding="utf-8")
    links = [tag("a", name, href=f"#{key}") for key, name in parts]
    bar = tag("span", tag("b", source), f" \u00a0fitted by {made}")
    head = [
        Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">'),
        tag("title", title),
        Markup(f"<style>\n{style}</style>"),
    ]
    written = f"Written by {made.split(' on ')[0]}. One file: no script, no network, prints on A4 and Letter."
    inner = [
        tag("div", bar, tag("nav", *links, aria_label="Sections"), class_="bar"),
        tag("main", *body),
        tag("footer", tag("span", written), tag("a", "Back to the verdict", href="#top")),
    ]
    whole = tag("html", tag("head", *head), tag("body", tag("div", *inner, class_="page")), lang="en")
    return Markup(f"<!doctype html>\n{whole}\n")


def section(key: str, name: str, lead: str, *inner: str) -> Markup:
    """Return a section: its grey name, the headline that says what it shows, its content."""
    heading = [tag("h2", name, id=f"{key}-name"), tag("p", lead, class_="lead")]
    return tag("section", *heading, *inner, id=key, aria_labelledby=f"{key}-name")


def row(main: str, *side: str) -> Markup:
    """Return content with notes in the margin."""
    return tag("div", tag("div", main), tag("aside", *side, class_="side"), class_="row")


def pre(code: str) -> Markup:
    """Return code to paste."""
    return tag("pre", tag("code", code))


def small(*words: str) -> Markup:
    """Return a paragraph of second text."""
    return tag("p", *words, class_="small")


def plain(items: Iterable[tuple[str, str]]) -> Markup:
    """Return a list of named facts."""
    return tag("ul", *(tag("li", tag("span", a), tag("span", b)) for a, b in items), class_="plain")


def facts(items: Iterable[tuple[str, str]], kind: str = "") -> Markup:
    """Return a table-like list of short facts."""
    return tag(
        "dl", *(tag("div", tag("dt", a), tag("dd", b)) for a, b in items), class_=f"facts {kind}".strip()
    )


def cut(total: int, where: str) -> str:
    """Return the sentence that says how a table was cut, empty when it was not."""
    if total <= MOST_ROWS:
        return ""
    return f"The first {MOST_ROWS} of {fixed(total, 0)} rows; all of them: {where}."


def table(name: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> Markup:
    """Return a table of numbers that scrolls on its own when it is wider than the page."""
    top = tag("thead", tag("tr", *(tag("th", cell, scope="col") for cell in head)))
    lines = [
        tag("tr", tag("th", line[0], scope="row"), *(tag("td", cell) for cell in line[1:])) for line in rows
    ]
    whole = tag("table", top, tag("tbody", *lines), class_="data")
    return tag("div", whole, class_="scroll", tabindex="0", role="region", aria_label=name)


def table_on_request(name: str, head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> Markup:
    """Return a table that opens on request, with what was cut from it."""
    return tag("details", tag("summary", name), table(name, head, rows), small(note) if note else "")


def sentence_bold(words: Markup) -> Markup:
    """Return a sentence whose first clause is bold."""
    ends = [at for mark_ in (": ", "; ", ", ", " (") if (at := words.find(mark_, 12)) > 0]
    end = min(ends, default=0)
    if not end and len(words) < 90:
        return tag("b", words)
    if not end or ("<" in words[:end] and words[:end].count("<") != words[:end].count(">")):
        return words
    return Markup(f"<b>{words[:end]}</b>{words[end:]}")
