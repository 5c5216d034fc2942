"""Findings about data and loss of a network: scales, copies, targets among the inputs, a loss that does not match."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import special
from gradfit.diagnose import ALARM, Finding
from gradfit.diagnose.evidence import Fact
from gradfit.diagnose.held import copies
from gradfit.diagnose.words import p_text, percent, times
from gradfit.learn.about_layers import alike
from gradfit.learn.study import FEWEST, LEARNED, NOWHERE, Study, row_losses
from gradfit.learn.task import Samples
from gradfit.notation import count, significant

Array = NDArray[np.float64]

OFF = 10.0  # |mean| over standard deviation of an input or target
APART = 100.0  # ratio of the standard deviations of two inputs
COPIES = 0.05  # of the rows held out
SHUFFLES = 200
NO_SIGNAL = 0.003  # p above which predictions of rows held out are not told from shuffled ones: the best epoch is a lucky one
ALIKE = 0.75  # of the loss of shuffled ones: lower, and some signal is likely
ENOUGH = 40  # rows held out; of fewer a weak signal does not show
WIDEST = 32  # columns among which near rows are looked for
MOST_EXCLUDED = 1000  # rows that a remedy names
SAME = 1e-12  # 1 - |correlation| of a copy


def target_among_inputs(study: Study) -> Finding | None:
    """Return the input that is the target itself, up to a factor and an offset."""
    result = study.result
    if result.train is None or result.target.aim not in ("numbers", "counts") or len(result.target.names) > 1:
        return None
    y = np.asarray(result.train.target.values, dtype=np.float64)
    if y.ndim != 1 or len(y) < 4 or (y == y[0]).all():
        return None
    for name in result.inputs:
        x = np.asarray(result.train.rows.column(name), dtype=np.float64)
        if x.ndim != 1 or name in result.encoding.levels or (x == x[0]).all():
            continue
        with np.errstate(all="ignore"):
            r = abs(float(np.corrcoef(x, y)[0, 1]))
        if r > 1 - SAME:
            kept = [other for other in result.inputs if other != name]
            return Finding(
                "leakage", "error", f"{name} is {result.response} itself, up to a factor and an offset (correlation {r:.6g}).",
                f"inputs={kept}" if kept else "", {"input": name, "correlation": r},
            )  # fmt: skip
    return None


def copied_rows(study: Study) -> Finding | None:
    """Return how many rows held out are also among the training rows."""
    if study.task.held is None or study.result.ending == "diverged":
        return None
    train, held = _rows(study.task.train), _rows(study.task.held)
    if study.result.target.aim == "numbers" and train.shape[1] <= WIDEST:
        noise = float(np.sqrt(np.mean(study.losses(study.result.train))))
        seen, p = copies(train, held, max(noise, 1e-300))
        alike = len(seen) if p < ALARM["leakage"] else 0
    else:
        seen, p = _copied(study.task.train, study.task.held)
        alike = len(seen) if p < ALARM["leakage"] else 0
    share = alike / len(held)
    if share <= COPIES or alike < 3:
        return None
    return Finding(
        "leakage", "warning",
        f"{percent(share)} of the {count(len(held), 'row')} held out are also among the training rows: what they say of new "
        "data is too good.",
        _apart(study, seen), {"share": share, "held": len(held)},
    )  # fmt: skip


def _copied(train: Samples, held: Samples) -> tuple[NDArray[np.intp], float]:
    """Return which held-out rows are copies, where targets are classes, and the p-value: equal inputs meet by chance too."""
    inputs = [
        [row.tobytes() for row in _rows(Samples(part.inputs, part.target[:, None][:, :0]))]
        for part in (train, held)
    ]
    whole = [[row.tobytes() for row in _rows(part)] for part in (train, held)]
    times, known = Counter(inputs[0]), set(whole[0])
    same = np.array([row in times for row in inputs[1]])
    seen = np.flatnonzero([row in known for row in whole[1]])
    if not len(seen):
        return seen, 1.0
    targets = Counter(row.tobytes() for row in _rows(Samples((train.target,), train.target)))
    alike = sum((m / train.n) ** 2 for m in targets.values())
    repeats = np.mean([times[row] for row, met in zip(inputs[1], same, strict=True) if met])
    chance = min(1.0, 1.5 * (1 - (1 - alike) ** float(repeats)))
    return seen, float(special.bdtrc(len(seen) - 1, int(same.sum()), chance))


def _apart(study: Study, seen: NDArray[np.intp]) -> str:
    """Return the argument that keeps copies on one side of the split, or leaves them out."""
    held, result = study.result.held, study.result
    assert held is not None  # noqa: S101  the caller has looked
    columns = [name for name in result.inputs if name in held.rows.table.columns]
    widest = max(columns, key=lambda name: len(np.unique(held.rows.column(name))), default="")
    if not isinstance(result.settings.get("validation"), float) and result.settings.get("kfold") is None:
        rows = held.rows.table.rows[seen]
        own = result.train is not None and not np.isin(rows, result.train.rows.table.rows).any()
        if own and len(rows) < held.n and len(rows) <= MOST_EXCLUDED:
            return f"exclude={rows.tolist()}"
        return f'validation=0.2, groups="{widest}"' if widest else ""
    return f'groups="{widest}"' if widest else ""


def _rows(samples: Samples) -> Array:
    """Return inputs and target side by side, (n, k)."""
    parts = [
        part.detach().cpu().double().numpy().reshape(samples.n, -1)
        for part in (*samples.inputs, samples.target)
    ]
    return np.ascontiguousarray(np.concatenate(parts, axis=1))


# ---------------------------------------------------------------------------- scales


def unscaled(study: Study) -> Finding | None:
    """Return the input or target that is far from mean 0 and spread 1; a warning where training got nowhere."""
    result = study.result
    if result.encoding.standardised or result.train is None or _normalises(study):
        return None
    worst = _worst_scale(study)
    if worst is None:
        return None
    said, facts = worst
    trial = study.trials.scaled if study.failed else None
    bad = study.explained < LEARNED if trial is None else trial.better is not None
    return Finding("unscaled-data", "warning" if bad else "info", said, 'scale="auto"', facts)


def _normalises(study: Study) -> bool:
    """Whether the first layer takes no notice of scales."""
    norms = ("BatchNorm", "LayerNorm", "GroupNorm", "InstanceNorm", "Embedding")
    return bool(study.leaves) and type(study.leaves[0][1]).__name__.startswith(norms)


def _worst_scale(study: Study) -> tuple[str, dict[str, Fact]] | None:
    result, train = study.result, study.result.train
    assert train is not None  # noqa: S101  the caller has looked
    spreads: dict[str, float] = {}
    columns = {
        name: train.rows.column(name)
        for name in result.inputs
        if name not in result.encoding.levels and name not in result.encoding.whole
    }
    if result.target.aim == "numbers" and train.target.values.ndim == 1:
        columns[result.response] = train.target.values
    for name, values in columns.items():
        with np.errstate(all="ignore"):
            mean, spread = float(np.mean(values)), float(np.std(values))
        off = abs(mean) / spread if spread > 0 else 0.0
        if off > OFF:
            said = (
                f"{name} lies {times(off)} times its standard deviation from 0, and the network sees it so."
            )
            return said, {"column": name, "mean": mean, "sd": spread}
        if spread > 0:
            spreads[name] = spread
    inputs = {name: s for name, s in spreads.items() if name != result.response}
    widest = max(spreads, key=lambda name: abs(np.log10(spreads[name])), default="")
    if len(inputs) > 1 and max(inputs.values()) > APART * min(inputs.values()):
        high, low = max(inputs, key=inputs.__getitem__), min(inputs, key=inputs.__getitem__)
        ratio = inputs[high] / inputs[low]
        said = f"{high} spreads {times(ratio)} times as wide as {low}, so that the network hardly sees {low}."
        return said, {"wide": high, "narrow": low, "ratio": ratio}
    if widest and not 1 / APART < spreads[widest] < APART:
        s = spreads[widest]
        return f"{widest} has a standard deviation of {significant(s)}, far from 1.", {
            "column": widest,
            "sd": s,
        }
    return None


# ---------------------------------------------------------------------------- loss


def loss_mismatch(study: Study) -> Finding | None:
    """Return why the last layer does not belong to the loss, or cannot reach the target."""
    if not study.leaves:
        return None
    name, last = study.leaves[-1]
    title, loss = type(last).__name__, study.task.loss_name
    facts: dict[str, Fact] = {"layer": name, "loss": loss}
    squashed = {"bce": ("Sigmoid",), "cross-entropy": ("Softmax", "Sigmoid")}.get(loss, ())
    if title in squashed:
        k = max(len(study.result.target.levels), 2)
        most = np.e / (np.e + k - 1)  # of a logit of 1 against zeros
        said = (
            f"The last layer is {title}, and loss={loss!r} applies one itself: no class can have a probability above "
            f"{percent(float(most))}."
        )
        remedy = (
            "loss=torch.nn.BCELoss()"
            if loss == "bce"
            else alike(study) or f"Leave the {title} out of the module"
        )
        return Finding("loss-mismatch", "warning", said, remedy, {**facts, "most": float(most)})
    if loss.lower().replace("_", "").removesuffix("loss") == "nll" and title != "LogSoftmax":
        said = (
            f"loss={loss} wants logarithms of probabilities, and the last layer is {title}: the loss has no lowest value (it "
            f"ended at {significant(study.result.loss, 3)})."
        )
        return Finding(
            "loss-mismatch", "warning", said, 'loss="cross-entropy"', {**facts, "end": study.result.loss}
        )
    return _out_of_reach(study, title, facts)


def _out_of_reach(study: Study, title: str, facts: dict[str, Fact]) -> Finding | None:
    ranges = {
        "ReLU": (0, np.inf),
        "Softplus": (0, np.inf),
        "Sigmoid": (0, 1),
        "Tanh": (-1, 1),
        "Softmax": (0, 1),
    }
    if title not in ranges or study.result.target.aim != "numbers":
        return None
    low, high = ranges[title]
    y = study.task.train.target.detach().cpu().double().numpy()
    share = float(np.mean((y < low) | (y > high)))
    if share < COPIES:
        return None
    end = f"{low} to {high}" if high < np.inf else f"{low} and above"
    return Finding(
        "loss-mismatch", "warning",
        f"The last layer is {title}, which returns {end}, and {percent(share)} of {study.result.response} lies outside.",
        alike(study) or "End the module with a Linear layer", {**facts, "share": share},
    )  # fmt: skip


def no_signal(study: Study) -> Finding | None:
    """Return that predictions of rows held out fit them no better than shuffled ones."""
    held, result = study.result.held, study.result
    if held is None or held.n < FEWEST or result.ending == "diverged":
        return None
    output = result.output(held.rows)
    if not np.isfinite(output).all():
        return None
    own = float(np.mean(row_losses(output, held, study)))
    draw = np.random.default_rng(0)
    shuffled = [
        float(np.mean(row_losses(output[draw.permutation(held.n)], held, study))) for _ in range(SHUFFLES)
    ]
    if max(shuffled) == min(shuffled):  # it says the same for every row
        return None
    usual = float(np.mean(shuffled))
    p = float(special.ndtr((own - usual) / np.std(shuffled)))
    floor = study.floor(study.task.held) if study.task.held is not None else 0.0
    if p <= NO_SIGNAL or own - floor < ALIKE * (usual - floor):
        return None
    return Finding(
        "no-signal",
        "warning" if held.n >= ENOUGH else "info",
        f"On the {count(held.n, 'row')} held out the loss is {significant(own, 3)}; with the predictions shuffled it is "
        f"{significant(usual, 3)}: shuffling explains {result.response} as well ({p_text(p)}).",
        "" if study.explained > NOWHERE or study.trials.rate is not None else 'lr="auto"',
        {"loss": own, "shuffled": usual, "p": p, "trained": result.loss, "baseline": study.baseline},
    )
