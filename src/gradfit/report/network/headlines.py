"""Headlines on a network: what each section shows, in one sentence with the number."""

from math import isfinite

import numpy as np

from gradfit.learn.result import Held
from gradfit.networks.sentences import share
from gradfit.notation import count, fixed, reach, significant, spelled, with_unit
from gradfit.report.markup import Markup, join
from gradfit.report.mathtext import prose, short, upright
from gradfit.report.network.subject import Subject

OWN = "of their own"  # ends how rows were held out that came from elsewhere
NEARLY = 1.15  # ratio of the misses of held-out and training rows below which they are alike


def capital(words: str) -> str:
    """Return a sentence with a capital letter."""
    return words[:1].upper() + words[1:]


# ---------------------------------------------------------------------------- picture


def of_picture(subject: Subject) -> Markup:
    """Return how near predictions come to the rows."""
    judged = subject.judged
    if judged is None:
        return Markup("A loaded network holds no rows; there is nothing to draw.")
    if subject.diverged:
        return Markup("The training overflowed; this is the network that was kept.")
    if subject.classes:
        return _of_classes(subject)
    return _of_numbers(subject, judged.part.n)


def _of_numbers(subject: Subject, n: int) -> Markup:
    """Return within what most rows lie."""
    rows = count(n, "row")
    if not isfinite(subject.miss):
        return join([f"Predictions of the {rows} {subject.judged_name} are not all finite numbers."])
    off = f"95 in 100 of the {rows} {subject.judged_name} lie within {subject.amount(subject.miss)}"
    if not subject.along:
        return join([f"{off} of the prediction."])
    ends = with_unit(reach(*subject.ends), subject.unit_of(subject.along))
    return join([f"{off} of the network, for ", upright(subject.along), f" from {ends}."])


def _of_classes(subject: Subject) -> Markup:
    """Return how many rows are told right, and the mistake that is made most."""
    table, levels = subject.result.confusion, subject.result.target.levels
    if table is None or not table.sum():
        return Markup("There are no rows to compare with.")
    right = f"{share(float(np.trace(table) / table.sum()))} of the {count(int(table.sum()), 'row')} {subject.judged_name} are told right"
    wrong = table - np.diag(np.diag(table))
    if not wrong.any():
        return join([f"All {count(int(table.sum()), 'row')} {subject.judged_name} are told right."])
    is_, said = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    names = short(levels[int(is_)], 24), short(levels[int(said)], 24)
    times = f"{fixed(int(wrong[is_, said]), 0)} of {count(int(table[is_].sum()), 'row')}"
    return join([f"{right}; {names[0]} is most often taken for {names[1]}, {times}."])


# ---------------------------------------------------------------------------- measures


def of_measures(subject: Subject) -> Markup:
    """Return how held-out rows compare with those trained on."""
    held, own = subject.result.validation, subject.result.metrics
    if held is None:
        return Markup("Every row was trained on: nothing is known of new ones.")
    where = "over the folds" if held.folds else "held out"
    if subject.diverged:
        return Markup("The training overflowed: these are measures of the weights that were kept.")
    if "accuracy" in own:
        words = f"{share(held.metrics['accuracy'])} are told right {where}, {share(own['accuracy'])} of the rows trained on."
        return join([capital(words)])
    if "explained" in own:
        words = f"{share(held.metrics['explained'])} of the deviance is explained {where}, {share(own['explained'])} on rows trained on."
        return join([capital(words)])
    return join([capital(_of_misses(held, own["rmse"], where))])


def _of_misses(held: Held, trained: float, where: str) -> str:
    rows = "rows over the folds" if held.folds else "rows held out"
    ratio = held.metrics["rmse"] / trained if trained > 0 else float("inf")
    if not isfinite(held.metrics["rmse"]) or not isfinite(trained):
        return "the typical miss is not a finite number."
    if ratio < 1 / NEARLY:
        return f"{rows} are missed by less than those trained on."
    if ratio < NEARLY:
        return f"{rows} are missed by no more than those trained on."
    times = f"{significant(ratio, 2)} times" if ratio < 1e3 else "over a thousand times"
    return f"the typical miss {where} is {times} that of the rows trained on."


# ---------------------------------------------------------------------------- training, layers, data


def of_training(subject: Subject) -> Markup:
    """Return where the training ended, and which epoch was kept."""
    result, losses = subject.result, subject.losses
    done = len(result.history.epoch)
    if subject.diverged:
        return join([f"The loss overflowed in epoch {fixed(max(done, 1), 0)}."])
    if losses.kept is not None:
        lowest = int(np.nanargmin(result.history.validation)) + 1
        if losses.kept == lowest < done:
            return join(
                [
                    f"The held-out loss was lowest at epoch {fixed(lowest, 0)} of {fixed(done, 0)}; that network was kept."
                ]
            )
        if lowest == done:
            return join([f"The held-out loss was lowest at the last epoch, {fixed(done, 0)}."])
        told = f"The network of epoch {fixed(losses.kept, 0)} was kept; the held-out loss was lowest at epoch {fixed(lowest, 0)}."
        return join([told])
    return join([f"After {count(done, 'epoch')} the training loss is {significant(result.loss, 3)}."])


def of_layers(subject: Subject, weighted: int) -> Markup:
    """Return how many layers hold how many parameters, against the rows.

    Parameters
    ----------
    weighted : int
        Layers that have parameters.
    """
    result = subject.result
    layers = f"{capital(spelled(weighted))} {'layer holds' if weighted == 1 else 'layers hold'}"
    each = result.k / max(result.n, 1)
    if each >= 1:
        return join(
            [f"{layers} {count(result.k, 'parameter')}, {significant(each, 2)} for each row trained on."]
        )
    return join(
        [
            f"{layers} {count(result.k, 'parameter')}, one for every {significant(1 / each, 2)} rows trained on."
        ]
    )


def of_data(subject: Subject) -> Markup:
    """Return how rows were held out."""
    result, held = subject.result, subject.result.validation
    if held is None:
        return Markup("Every row was trained on; none was held out.")
    if held.folds:
        return prose(f"{capital(held.how)}.", subject.names)
    if held.how.endswith(OWN):
        return join([f"The rows held out are {short(held.how, 80)}."])
    were = "was" if held.n == 1 else "were"
    return join(
        [f"{fixed(held.n, 0)} of {count(result.n + held.n, 'row')} {were} held out: {short(held.how, 80)}."]
    )
