"""What was done to the data, and how to repeat the fit."""

import numpy as np

from gradfit.notation import count, fixed, in_full, listing, significant, with_unit
from gradfit.report.commands import is_file, python, scipy_twin, settings_of, shell
from gradfit.report.headlines import of_data
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import prose, upright
from gradfit.report.page import plain, pre, section
from gradfit.report.subject import Subject

_MOST_COLUMNS = 12


def data(subject: Subject) -> Markup:
    """Return the section on the data."""
    result = subject.result
    used = result.data
    inputs = listing([str(name) for name in result.inputs], most=_MOST_COLUMNS)
    role = (
        f"{inputs} {'is the input' if len(result.inputs) == 1 else 'are the inputs'}"
        if result.inputs
        else "no input"
    )
    items: list[tuple[str, str]] = [
        ("Read", f"{used.source}, {count(used.n_read, 'row')}"),
        (
            "Used",
            join(
                [
                    f"{count(result.n, 'row')}; ",
                    upright(result.response),
                    " is fitted, ",
                    prose(role, subject.names),
                ]
            ),
        ),
        ("Left out", join(_lines(subject, used.left_out)) if used.left_out else _nothing_left_out(subject)),
        ("Weights", _weights(subject)),
    ]
    if used.notes:
        items.append(("Understood", join(_lines(subject, used.notes))))
    items += [
        (join(["Range of ", upright(name)]), _range(subject, name)) for name in result.inputs[:_MOST_COLUMNS]
    ]
    items.append((join(["Range of ", upright(result.response)]), _range(subject, "")))
    return section("data", "What was done to the data", of_data(subject), plain(items))


def _lines(subject: Subject, sentences: tuple[str, ...]) -> list[Markup]:
    return [tag("span", prose(sentence, subject.names), class_="line") for sentence in sentences]


def _nothing_left_out(subject: Subject) -> str:
    lost = subject.result.data.n_read - subject.result.n
    return count(max(lost, 0), "row")


def _weights(subject: Subject) -> str:
    used = subject.result.data
    if used.counts:
        own = "" if used.sigma is None else ", over the weights given"
        return f"those of counts: the variance of each row is the mean that the model gives{own}"
    if used.sigma is None:
        return "all 1; one scatter for all rows, estimated from the residuals"
    sigma = used.sigma[np.isfinite(used.sigma)]
    ends = (
        f"from {significant(float(sigma.min()), 3)} to {significant(float(sigma.max()), 3)}"
        if sigma.size
        else ""
    )
    if used.absolute:
        return f"sigma given as known standard deviations, {ends}; error bars are not rescaled"
    return (
        f"relative, of standard deviations in proportion {ends}; their size is estimated from the residuals"
    )


def _range(subject: Subject, name: str) -> str:
    used = subject.result.data
    values = used.columns[name] if name else used.y
    unit = subject.unit_of(name) if name else subject.unit
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no finite value"
    low, high = float(finite.min()), float(finite.max())
    if low == high:
        return f"{with_unit(in_full(low), unit)} in every row"
    ends = [subject.input_text(name, end) if name else subject.response_text(end) for end in (low, high)]
    return with_unit(" to ".join(ends), unit)


def reproduce(subject: Subject, version: str) -> Markup:
    """Return the section with the commands."""
    result = subject.result
    settings = settings_of(result)
    line, twin = shell(result, settings), scipy_twin(result)
    parts = [tag("h3", "Shell"), pre(line)] if line else []
    head = "import gradfit as gf\n\n"
    source = "" if is_file(result.data.source) else f"# data: the {result.data.source} of this fit\n"
    tail = f"\nresult.report({_target(result.data.source)})"
    parts += [tag("h3", "Python"), pre(f"{head}{source}{python(result, settings)}{tail}")]
    parts += [tag("h3", "SciPy, to check"), pre(twin)] if twin else []
    facts = [
        ("Data", tag("code", f"sha256 {result.data_hash[:16]}…")),
        ("Random draws", _draws(subject)),
        ("Versions", f"gradfit {version}; {result.executor}; float64"),
    ]
    lead = "The same fit in one line." if line else "The same fit from Python."
    return section("reproduce", "Reproduce", lead, *parts, plain(facts))


def _target(source: str) -> str:
    stem = source.rsplit("/", 1)[-1].rsplit(".", 1)[0] if is_file(source) else "fit"
    return f'"{stem or "fit"}.html"'.replace("\\", "_")


def _draws(subject: Subject) -> str:
    result = subject.result
    seed = result.settings.get("seed", 0)
    if result.starts.tried > 1:
        return f"{fixed(result.starts.tried, 0)} start values, seed {seed}"
    return f"seed {seed}" if "batch_size" in result.settings else "none"
