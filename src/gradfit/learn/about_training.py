"""Findings about the way a network was trained: rates, overfitting, noise of batches, too few epochs."""

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.diagnose import Finding
from gradfit.diagnose.evidence import Fact
from gradfit.diagnose.held import larger
from gradfit.diagnose.words import percent, times
from gradfit.learn.about_layers import cause, symptom
from gradfit.learn.study import FEWEST, NOWHERE, Study
from gradfit.learn.trials import MORE_ROWS
from gradfit.notation import count, significant

Array = NDArray[np.float64]

RISE = 0.10  # of the validation loss above its best
GAP = 2.0  # validation loss over training loss
WORSE = 0.05  # of r2 or accuracy, lost from training to validation
SURE = 1e-3  # p of the comparison of the losses of single rows
FALLING = 0.10  # of the loss, over the last tenth of the epochs
STILL = 1e-3  # of the loss: less is no fall at all
HALF_WAY = 0.4  # of the loss of saying the same for every row is explained
NOISE = 10.0  # critical batch over batch
BATCHES = 24  # that the noise of gradients is estimated from


def diverged(study: Study) -> Finding | None:
    """Return that the loss overflowed, or ended far above where it began."""
    history, lr = study.result.history, study.task.choice.lr
    facts = {"lr": lr, "epochs": float(len(history.epoch))}
    remedy = f"lr={lr / 10:.3g}" if np.isfinite(lr) else "clip=1.0"
    if study.result.ending == "diverged":
        said = f"With lr {significant(lr)} the loss overflowed in epoch {len(history.epoch)}."
        return Finding("lr-too-large", "error", said, remedy, facts)
    first, last = (
        float(history.train[0]),
        float(np.median(history.train[-max(1, len(history.train) // 10) :])),
    )
    if len(history.train) >= 10 and last > 2 * abs(first) and last > 2 * study.baseline:
        said = f"With lr {significant(lr)} the loss rose from {significant(first)} to {significant(last)}."
        return Finding("lr-too-large", "error", said, remedy, {**facts, "first": first, "last": last})
    return None


def other_rate(study: Study) -> Finding | None:
    """Return that another learning rate was tried and learns."""
    trial = study.trials.rate if study.failed and cause(study) == "rate" else None
    if trial is None:
        return None
    lr, result = study.task.choice.lr, study.result
    lost = result.ending == "diverged"
    code = "lr-too-large" if trial.rate < lr else "lr-too-small"
    if code == "lr-too-small" and _stuck(study):
        return None
    where = "training rows" if result.validation is None else "rows held out"
    reached = result.loss if result.validation is None else result.validation.loss
    end = f"the loss overflowed in epoch {len(result.history.epoch)}" if lost else f"{where} have a loss of {significant(reached, 3)}"
    said = f"With lr {significant(lr)} {end}; with {trial.rate:.2g} {where if lost else 'they'} have one of {significant(trial.loss, 3)}."
    facts: dict[str, Fact] = {"lr": lr, "tried": trial.rate, "loss": reached, "tried_loss": trial.loss}
    if lost:
        del facts["loss"]
    return Finding(code, "error" if lost else "warning", said, f"lr={trial.rate:.2g}", facts)


def _stuck(study: Study) -> bool:
    """Whether units or gradients stand still, so that a larger rate is only the way round them."""
    found = symptom(study)
    return found is not None and found.severity != "info"


def rate_too_small(study: Study) -> Finding | None:
    """Return that the loss still falls in a straight line, far from where it could be."""
    train, lr = study.result.history.train, study.task.choice.lr
    if len(train) < 20 or not np.isfinite(lr) or study.task.plan.scheduler is not None:
        return None
    total = float(train[0] - train[-1]) / abs(float(train[0]) or 1.0)
    over = study.result.validation is not None and study.result.best_epoch < 0.9 * len(train)
    if over or study.explained > HALF_WAY or not (_straight(train) or abs(total) < STILL):
        return None
    return Finding(
        "lr-too-small", "warning",
        f"With lr {significant(lr)} the loss has fallen by {percent(max(total, 0.0))} in {count(len(train), 'epoch')}, "
        "in a straight line.",
        f"lr={10 * lr:.3g}", {"lr": lr, "first": float(train[0]), "last": float(train[-1])},
    )  # fmt: skip


def _straight(train: Array) -> bool:
    """Whether the loss has not halved, and falls at the end nearly as fast as at the beginning."""
    tenth = len(train) // 10
    late, early = train[-tenth - 1] - train[-1], train[0] - train[tenth]
    return bool(0 < train[0] - train[-1] < 0.5 * abs(train[0]) and late > 0.5 * early)


def not_learned(study: Study) -> Finding | None:
    """Return that the network does no better than saying the same for every row."""
    loss, baseline = study.result.loss, study.baseline
    if study.task.updates < 20 or not study.explained < NOWHERE:
        return None
    held, train = study.result.held, study.result.history.train
    if study.task.penalty is not None or (
        held is not None and held.n >= FEWEST
    ):  # those say whether there is a signal
        return None
    if float(np.median(train[-max(1, len(train) // 10) :])) < baseline - 0.1 * abs(baseline):
        return None
    return Finding(
        "not-learned", "warning",
        f"The training loss is {significant(loss, 3)}, where saying the same for every row has {significant(baseline, 3)}: the "
        f"network has learned nothing about {study.result.response}.",
        'lr="auto"', {"loss": loss, "baseline": baseline},
    )  # fmt: skip


def still_falling(study: Study) -> Finding | None:
    """Return that the loss was still falling when the epochs were over."""
    history = study.result.history
    if study.result.ending != "epochs-done" or len(history.epoch) < 20:
        return None
    losses = history.train if study.result.validation is None else history.validation
    if not np.isfinite(losses).all() or (study.result.best_epoch < 0.95 * len(losses)):
        return None
    tenth = max(2, len(losses) // 10)
    now, before = float(np.median(losses[-tenth:])), float(np.median(losses[-2 * tenth : -tenth]))
    loss = abs(now)
    if not before - now > FALLING * loss or now < 1e-3 * study.baseline:
        return None
    more = 2 * len(losses)
    return Finding(
        "not-converged", "info",
        f"The loss was still falling, by {percent((before - now) / loss)} over the last tenth of {count(len(losses), 'epoch')}.",
        f"epochs={more}", {"before": before, "now": now},
    )  # fmt: skip


# ---------------------------------------------------------------------------- overfitting


def overfitting(study: Study) -> Finding | None:
    """Return that rows held out are fitted much worse than those trained on, or got worse while training went on."""
    result = study.result
    if result.validation is None or result.held is None:
        return None
    gap = _gap(study)
    if gap is not None:
        return gap
    losses, best = result.history.validation, study.task.plan.patience.stop == "best"
    tenth = max(1, len(losses) // 10)
    if len(losses) < 20 or not np.isfinite(losses).any():
        return None
    lowest, at = float(np.nanmin(losses)), int(np.nanargmin(losses)) + 1
    end = float(np.nanmedian(losses[-tenth:]))
    rise = (end - lowest) / abs(lowest) if lowest else 0.0
    if rise <= RISE or at > len(losses) - tenth:
        return None
    what = f"kept: epoch {at}" if best else f"kept: the last, epoch {len(losses)}"
    return Finding(
        "overfitting", "info" if best else "warning",
        f"The validation loss rises from {significant(lowest, 3)} at epoch {at} to {significant(end, 3)}; {what}.",
        "" if best else 'stop="best"', {"best": lowest, "epoch": float(at), "end": end},
    )  # fmt: skip


def _gap(study: Study) -> Finding | None:
    """Return that the losses of rows held out are larger than those of training rows, by row and in what they mean."""
    result = study.result
    assert result.validation is not None  # noqa: S101  the caller has looked
    measure = "r2" if "r2" in result.metrics else "explained" if "explained" in result.metrics else "accuracy"
    lost = result.metrics[measure] - result.validation.metrics[measure]
    ratio = result.validation.loss / result.loss if result.loss > 0 else np.inf
    if not (ratio > GAP and lost > WORSE):
        return None
    train, held = study.losses(result.train), study.losses(result.held)
    p = larger(held, GAP * train) if np.isfinite(train).all() and np.isfinite(held).all() else 1.0
    if not p < SURE:
        return None
    return Finding(
        "overfitting", "warning",
        f"The validation loss is {times(float(ratio))} times the training loss ({measure} "
        f"{significant(result.validation.metrics[measure], 2)} against {significant(result.metrics[measure], 2)}).",
        'penalty="ridge:0.001"', {"ratio": float(ratio), "p": p, "lost": lost},
    )  # fmt: skip


# ---------------------------------------------------------------------------- batches


def batch_noise(study: Study) -> Finding | None:
    """Return that the gradients of batches are mostly noise, while the loss no longer falls; a warning where larger ones learn.

    References
    ----------
    .. [1] McCandlish, Kaplan, Amodei et al. (2018), An Empirical Model of Large-Batch Training, arXiv:1812.06162.
    """
    task, losses = study.task, study.result.history.train
    size, n = task.plan.batch_size, task.train.n
    if size >= n or len(losses) < 8 or study.result.ending == "diverged" or task.plan.scheduler is not None:
        return None
    last = losses[-max(4, len(losses) // 4) :]
    slope = np.polyfit(np.arange(len(last)), last, 1)[0] * len(last)
    if slope < -FALLING * abs(float(np.mean(last))):
        return None
    critical = _critical_batch(study)
    if critical is None or critical <= NOISE * size:
        return None
    return Finding(
        "batch-noise", "warning" if study.failed and cause(study) == "batch" else "info",
        f"Noise rules the gradient of {count(size, 'row')}: it would take batches of about {significant(critical)} to see it, and "
        "the loss no longer falls.",
        f"batch_size={min(n, MORE_ROWS * size)}", {"critical": critical, "batch": float(size)},
    )  # fmt: skip


def _critical_batch(study: Study) -> float | None:
    """Return tr(S)/|g|², the batch at which noise and gradient are of one size."""
    task, module = study.task, study.module
    train, size = task.train.to("cpu"), task.plan.batch_size
    places = torch.as_tensor(np.random.default_rng(0).permutation(train.n)[: BATCHES * size])
    parameters = [p for p in module.parameters() if p.requires_grad]
    found: list[Array] = []
    with torch.enable_grad():
        for part in torch.split(places, size):
            if len(part) < size:
                continue
            batch = train.at(part)
            loss = task.loss(module.eval()(*batch.inputs), batch.target)
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            found.append(np.concatenate([g.double().numpy().ravel() for g in gradients]))
    if len(found) < 2:
        return None
    each = np.array(found)
    mean = each.mean(axis=0)
    scatter = float(np.sum((each - mean) ** 2)) / (len(each) - 1)  # of a batch
    square = float(mean @ mean) - scatter / len(each)
    return size * scatter / square if square > 0 else float(train.n * size)
