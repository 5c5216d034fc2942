"""What was done to the rows of a network and to their columns, and how to train it again."""

import numpy as np
from numpy.typing import NDArray

from gradfit.learn.build import dtype_of, embedding_size
from gradfit.learn.encoding import Encoding
from gradfit.notation import count, fixed, in_full, listing, reach, significant, with_unit
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import prose, short, upright
from gradfit.report.network.again import program, shell
from gradfit.report.network.headlines import of_data
from gradfit.report.network.subject import Subject
from gradfit.report.page import plain, pre, section, small, table

Array = NDArray[np.float64]
_MOST_COLUMNS, _MOST_LEVELS, _MOST_ROWS = 40, 4, 24


def data(subject: Subject) -> Markup:
    """Return the section on the data."""
    result = subject.result
    inputs = listing([short(name, 32) for name in result.inputs], most=8)
    used = [
        f"{count(result.n, 'row')} to train on; ",
        prose(short(result.response, 80), subject.names),
        " is predicted from ",
        prose(inputs, subject.names),
    ]
    items: list[tuple[str, str]] = [
        ("Read", f"{result.source}, {count(result.n_read, 'row')}"),
        ("Used", join(used)),
    ]
    if words := _held(subject):
        items.append(("Held out", words))
    items.append(("Left out", count(_lost(subject), "row")))
    notes = () if result.train is None else result.train.rows.table.notes
    if notes:
        items.append(
            ("Understood", join([tag("span", prose(note, subject.names), class_="line") for note in notes]))
        )
    return section("data", "What was done to the data", of_data(subject), plain(items), _columns(subject))


def _held(subject: Subject) -> str:
    held, part = subject.result.validation, subject.result.held
    if held is None:
        return ""
    if held.folds:
        return held.how
    rows = (
        ""
        if part is None or held.n > _MOST_ROWS
        else f": rows {listing([f'{row:.0f}' for row in part.rows.table.rows], most=_MOST_ROWS)}"
    )
    return f"{count(held.n, 'row')}, {held.how}{rows}"


def _lost(subject: Subject) -> int:
    held, result = subject.result.validation, subject.result
    other = held is None or held.folds or held.how.endswith("of their own")
    return max(result.n_read - result.n - (0 if other or held is None else held.n), 0)


def _columns(subject: Subject) -> Markup:
    """Return what each column is, and what the network sees of it."""
    result = subject.result
    inputs = result.inputs[:_MOST_COLUMNS]
    rows = [[upright(name), _range(subject, name), _seen(subject, name)] for name in inputs]
    for j, name in enumerate(result.target.names[:_MOST_COLUMNS]):
        rows.append([join([upright(name), " (target)"]), _target_range(subject, j), _target_seen(subject, j)])
    head = ["Column", "In the rows trained on", "What the network sees"]
    words = "Every constant comes from the rows trained on, never from those held out; predictions come back in the unit of the target."
    left = len(result.inputs) - len(inputs)
    words = f"{words} {fixed(left, 0)} more columns are not listed." if left > 0 else words
    whole = tag("div", table("What was done to the columns", head, rows), class_="columns")
    return tag("div", whole, small(words), class_="below")


def _range(subject: Subject, name: str) -> str:
    encoding, train = subject.result.encoding, subject.result.train
    if name in encoding.levels:
        levels = encoding.levels[name]
        some = ", ".join(short(level, 16) for level in levels[:_MOST_LEVELS])
        return f"text, {count(len(levels), 'level')}: {some}{' …' if len(levels) > _MOST_LEVELS else ''}"
    if train is None:
        return "numbers"
    values = np.asarray(train.rows.column(name), dtype=np.float64)
    ends = with_unit(_ends(values), subject.unit_of(name))
    return f"{' × '.join(map(str, values.shape[1:]))} numbers, {ends}" if values.ndim > 1 else ends


def _ends(values: Array) -> str:
    if not values.size:
        return "no number"
    low, high = float(values.min()), float(values.max())
    return reach(low, high) if high > low else f"{in_full(float(f'{low:.6g}'))} in every row"


def _seen(subject: Subject, name: str) -> str:
    encoding = subject.result.encoding
    if name in encoding.levels:
        levels = len(encoding.levels[name])
        if name in encoding.embedded:
            return f"{fixed(embedding_size(levels), 0)} numbers for each level, which are learned"
        return f"one-hot: {count(levels, 'column')} of 0 and 1"
    return _as_number(encoding, name)


def _as_number(encoding: Encoding, name: str) -> str:
    if name not in encoding.mean or _as_it_is(encoding.mean[name], encoding.spread[name]):
        return "as it is, whole numbers" if name in encoding.whole else "as it is"
    mean, spread = encoding.mean[name], encoding.spread[name]
    if mean.size > 1:
        return f"{count(mean.size, 'number')}, each less its mean, over its standard deviation"
    return _standard(float(mean[0]), float(spread[0]))


def _as_it_is(mean: Array, spread: Array) -> bool:
    return not mean.any() and bool((spread == 1).all())


def _standard(mean: float, spread: float) -> str:
    return f"standardised: less {significant(mean, 3)}, over {significant(spread, 3)}"


def _target_range(subject: Subject, j: int) -> str:
    target, train = subject.result.target, subject.result.train
    if target.classes:
        some = ", ".join(short(level, 16) for level in target.levels[:_MOST_LEVELS])
        return f"{fixed(len(target.levels), 0)} classes: {some}{' …' if len(target.levels) > _MOST_LEVELS else ''}"
    if train is None:
        return "numbers"
    values = np.asarray(train.target.values, dtype=np.float64)
    values = values[:, j] if values.ndim > 1 and values.shape[1] == len(target.names) else values
    return with_unit(_ends(values), subject.unit_of(target.names[j]))


def _target_seen(subject: Subject, j: int) -> str:
    result, encoding = subject.result, subject.result.encoding
    if result.target.classes:
        return "a number for each class" if result.target.aim == "classes" else "0 and 1"
    if result.target.aim == "counts":
        return "expected counts" if result.plain else "the logarithm of the expected count"
    if encoding.center is None or encoding.scale is None:
        return "as it is"
    at = j if encoding.center.size > j else 0
    return _standard(float(encoding.center[at]), float(encoding.scale[at]))


# ---------------------------------------------------------------------------- again


def reproduce(subject: Subject) -> Markup:
    """Return the section with the commands."""
    result = subject.result
    line = shell(result, {})
    parts = [tag("h3", "Shell"), pre(line)] if line else []
    parts += [tag("h3", "Python"), pre(program(result))]
    precision = str(dtype_of(result.network)).removeprefix("torch.")
    facts = [
        ("Random draws", f"seed {result.settings.get('seed', 0)}: initial weights, batches, the split"),
        ("Trained", f"{result.solver} on {result.device}, {result.executor}, {precision}"),
        ("Version", f"gradfit {result.version}"),
    ]
    lead = "The same training in one line." if line else "The same training from Python."
    return section("reproduce", "Reproduce", lead, *parts, plain(facts))
