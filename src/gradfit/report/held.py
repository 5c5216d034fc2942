"""What rows that were held out say of a fit: both losses, the verdict on them, and the folds of a cross-validation."""

import numpy as np
from numpy.typing import NDArray

from gradfit.notation import count, fixed, significant, spelled
from gradfit.report.folds import folds_chart, mean_text
from gradfit.report.headlines import loss_text, step_name
from gradfit.report.losses import Losses, losses_chart
from gradfit.report.markup import Markup, join, tag
from gradfit.report.mathtext import prose
from gradfit.report.page import facts, row, section, small
from gradfit.report.subject import Subject
from gradfit.validation import Folds, Validation

Array = NDArray[np.float64]
_NUMBERS = ": validation loss"  # begins the numbers of a sentence on held-out rows


def held(subject: Subject) -> Markup:
    """Return the section, empty where no row was held out."""
    seen, folds = subject.result.validation, subject.result.folds
    if seen is None and folds is None:
        return Markup("")
    parts = [part for part in (_validated(subject, seen), _folded(folds)) if part]
    return section("held", "Held-out rows", of_held(subject), *parts)


def of_held(subject: Subject) -> Markup:
    """Return the verdict on held-out rows as a headline."""
    seen, folds = subject.result.validation, subject.result.folds
    if seen is not None:
        verdict, numbers, _ = seen.sentence.rpartition(_NUMBERS)
        return prose(f"{verdict if numbers else seen.sentence.rstrip('.')}.", subject.names)
    if folds is None:
        return Markup("")
    trained = significant(float(folds.train_losses.mean()), 3)
    known = mean_text(folds.mean, folds.stderr)
    return join(
        [f"Over {spelled(len(folds.losses))} folds the held-out loss is {known}, in training {trained}."]
    )


# ---------------------------------------------------------------------------- rows held out


def losses_of(subject: Subject) -> Losses | None:
    """Return both losses on the way, with the epoch that was kept; None where no row was held out."""
    seen = subject.result.validation
    if seen is None:
        return None
    word, history = step_name(subject), seen.history
    mark, kept = "", None
    if word == "epoch" and seen.best_step >= 0:
        kept = seen.best_step
        mark = "" if subject.result.values == dict(seen.best_values) else "lowest: "
    return Losses(history.step.astype(np.float64), history.train, history.validation, kept, word, mark=mark)


def drawn(subject: Subject) -> bool:
    """Return whether this section draws the losses, so that no other does."""
    losses = losses_of(subject)
    return losses is not None and losses.drawable


def _validated(subject: Subject, seen: Validation | None) -> Markup:
    losses = losses_of(subject)
    if seen is None or losses is None:
        return Markup("")
    numbers = [
        ("Rows held out", fixed(seen.rows, 0)),
        ("Rows trained on", fixed(seen.train_rows, 0)),
        ("Held-out loss", loss_text(seen.loss)),
        ("Training loss", loss_text(seen.train_loss)),
    ]
    if losses.kept is not None:
        numbers.append((f"Lowest at {losses.word}", fixed(losses.kept, 0)))
    words = [tag("p", prose(_how(subject, seen), subject.names))]
    chart = losses_chart(losses)
    side = [facts(numbers), *words]
    return row(tag("figure", chart), *side) if chart else tag("div", facts(numbers), *words, class_="words")


def _how(subject: Subject, seen: Validation) -> str:
    """Return how the rows were chosen, and what their loss decided."""
    inside = seen.split.partition("(")[2].rstrip(")") or seen.split
    words = f"Held out {inside}; no gradient came from these rows."
    if step_name(subject) == "epoch" and subject.result.values == dict(seen.best_values):
        words += " They chose the epoch that was kept, so their loss flatters a little."
    return words


# ---------------------------------------------------------------------------- folds


def _folded(folds: Folds | None) -> Markup:
    if folds is None:
        return Markup("")
    chart = folds_chart(folds.losses, folds.mean, folds.stderr, float(folds.train_losses.mean()))
    rows = sorted(folds.rows)
    each = (
        count(rows[0], "row") if rows[0] == rows[-1] else f"{fixed(rows[0], 0)} to {count(rows[-1], 'row')}"
    )
    words = [
        tag("p", f"Each of the {count(len(folds.losses), 'fold')} of {each} was held out once and predicted by a fit to the others."),
        tag("p", "The grey band is one standard error of the mean, from the scatter of the folds."),
        tag("p", f"Drawn {folds.how}." if folds.how.startswith("at random") else f"Folds: {folds.how}."),
    ]  # fmt: skip
    if not chart:
        return small("The loss of a fold is not a finite number.")
    return tag("div", tag("figure", chart), tag("div", *words, class_="words"), class_="duo")
