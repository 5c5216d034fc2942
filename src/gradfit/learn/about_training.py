"""Findings about the way a network was trained: rates, overfitting, noise of batches, too few epochs."""

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.diagnose import Finding
from gradfit.diagnose.evidence import Fact
from gradfit.diagnose.held import larger
from gradfit.diagnose.words import percent, times
from gradfit.learn.about_layers import cause, symptom
from gradfit.learn.study import FEWEST, MEMORISED, NOWHERE, Study
from gradfit.learn.trials import MORE_ROWS, SMALL
from gradfit.notation import count, significant

Array = NDArray[np.float64]

STEADY = 0.95  # of the training loss at the best epoch: overfitting needs one that is lower at the end
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
    remedy = (
        'lr="auto"'
        if np.isfinite(lr) and study.task.choice.of_torch and study.trials.rate is None
        else "clip=1.0"
    )
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
    if trial is None or study.explained > MEMORISED:
        return None
    lr, result = study.task.choice.lr, study.result
    lost = result.ending == "diverged"
    code = "lr-too-large" if trial.rate < lr else "lr-too-small"
    if code == "lr-too-small" and _stuck(study):
        return None
    held = trial.better == "held" and result.validation is not None
    where = "rows held out" if held else "training rows"
    reached = result.validation.loss if held and result.validation is not None else result.loss
    tried = trial.loss if held else trial.train_loss
    end = (
        f"the loss overflowed in epoch {len(result.history.epoch)}"
        if lost
        else f"{where} have a loss of {significant(reached, 3)}"
    )
    said = f"With lr {significant(lr)} {end}; with {trial.rate:.2g} {where if lost else 'they'} have one of {significant(tried, 3)}."
    facts: dict[str, Fact] = {"lr": lr, "tried": trial.rate, "loss": reached, "tried_loss": tried}
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
    if study.failed and study.trials.rate is not None:  # others were tried
        return None
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
    judged = (
        held is not None and held.n >= FEWEST and not study.constant
    )  # those rows say whether there is a signal
    if study.task.penalty is not None or judged:
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
    lowest, at, end = _rise(losses)
    if not end > (1 + RISE) * lowest or _shaken(study):
        return None
    what = f"kept: epoch {at}" if best else f"kept: the last, epoch {len(losses)}"
    return Finding(
        "overfitting", "info" if best else "warning",
        f"The validation loss rises from {significant(lowest, 3)} at epoch {at} to {significant(end, 3)}; {what}.",
        "" if best else 'stop="best"', {"best": lowest, "epoch": float(at), "end": end},
    )  # fmt: skip


def _shaken(study: Study) -> bool:
    """Whether the training loss has risen too since the best epoch: then it is no overfitting, but a way that is not steady."""
    train, (lowest, at, end) = study.result.history.train, _rise(study.result.history.validation)
    tenth = max(1, len(train) // 10)
    near = train[max(0, at - 1 - tenth // 2) : at + tenth // 2]
    return bool(end > lowest and len(near) and np.median(train[-tenth:]) > STEADY * np.median(near))


def _rise(losses: Array) -> tuple[float, int, float]:
    """Return the lowest validation loss, its epoch, and the loss at the end; no rise where it was lowest at the end."""
    tenth = max(1, len(losses) // 10)
    if len(losses) < 20 or not np.isfinite(losses).any():
        return 0.0, 0, 0.0
    lowest, at = float(np.nanmin(losses)), int(np.nanargmin(losses)) + 1
    end = float(np.nanmedian(losses[-tenth:]))
    return (lowest, at, lowest) if at > len(losses) - tenth else (lowest, at, end)


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
        _against_gap(study), {"ratio": float(ratio), "p": p, "lost": lost},
    )  # fmt: skip


def _against_gap(study: Study) -> str:
    """Return what mends the gap: the weight decay that was tried and is best, else what usually does."""
    lowest, _, end = _rise(study.result.history.validation)
    keep = "" if study.task.plan.patience.stop == "best" else ', stop="best"'
    tried = study.trials.decay
    if tried is not None and np.isfinite(tried[1].loss):
        return f"weight_decay={tried[0]:g}{keep}"
    return 'stop="best"' if keep and end > (1 + RISE) * lowest else 'penalty="ridge:0.01"'


# ---------------------------------------------------------------------------- batches


def batch_noise(study: Study) -> Finding | None:
    """Return that the gradients of batches are mostly noise, while the loss no longer falls; a warning where larger ones learn.

    References
    ----------
    .. [1] McCandlish, Kaplan, Amodei et al. (2018), An Empirical Model of Large-Batch Training, arXiv:1812.06162.
    """
    task, losses = study.task, study.result.history.train
    size, n = task.plan.batch_size, task.train.n
    if size >= n:
        return None
    keep = (
        ', stop="best"' if study.result.validation is not None and task.plan.patience.stop == "last" else ""
    )
    remedy = f"batch_size={min(n, MORE_ROWS * size)}{keep}"
    trial = study.trials.larger_batch if study.failed and cause(study) == "batch" else None
    if trial is not None:
        said = (
            f"Noise rules the gradient of {count(size, 'row')}: the training loss ends at {significant(study.result.loss, 3)}, "
            f"and with batches of {min(n, MORE_ROWS * size)} at {significant(trial.train_loss, 3)}."
        )
        return Finding(
            "batch-noise", "warning", said, remedy, {"batch": float(size), "tried_loss": trial.train_loss}
        )
    if len(losses) < 8 or study.result.ending == "diverged" or task.plan.scheduler is not None:
        return None
    critical = _critical_batch(study) if _flat(losses) else None
    if critical is None or critical <= NOISE * size:
        return None
    return Finding(
        "batch-noise", "warning" if _bounces(study) else "info",
        f"Noise rules the gradient of {count(size, 'row')}: it would take batches of about {significant(critical)} to see it, and "
        "the loss no longer falls.",
        remedy, {"critical": critical, "batch": float(size)},
    )  # fmt: skip


def _flat(losses: Array) -> bool:
    """Whether the loss has not fallen over the last quarter of the epochs."""
    last = losses[-max(4, len(losses) // 4) :]
    slope = np.polyfit(np.arange(len(last)), last, 1)[0] * len(last)
    return bool(slope >= -FALLING * abs(float(np.mean(last))))


def _bounces(study: Study) -> bool:
    """Whether small batches have thrown the last state, which is kept, far off the best one."""
    lowest, _, end = _rise(study.result.history.validation)
    kept = study.task.plan.patience.stop == "last" and study.task.plan.batch_size <= SMALL
    return bool(study.result.validation is not None and kept and end > (1 + RISE) * lowest and _shaken(study))


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
