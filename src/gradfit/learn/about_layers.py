"""Findings about the layers of a network: gradients that explode or vanish, units that are dead or saturated."""

import numpy as np

from gradfit._lazy import torch
from gradfit.diagnose import Finding
from gradfit.diagnose.words import percent
from gradfit.learn.spec import ACTIVATIONS
from gradfit.learn.study import LEARNED, Array, Study
from gradfit.learn.trials import Cause
from gradfit.notation import count, significant

EXPLODING = 1e3  # |gradient| / |weight| of a layer over that of the last one
VANISHING = 1e-4  # the same over that of the strongest one
HUGE = 100.0  # the very first loss over that of saying the same for every row
DEAD_SOME, DEAD_MANY = 0.10, 0.50  # of the units of a kind
FLAT = 0.99  # |tanh| beyond which its derivative is below 0.02
ALWAYS = 0.95  # of the rows on which a unit is saturated
SATURATED = 0.5  # of the units
GROWN = 30.0  # times as large as torch draws them, all layers together
DEEP = 4  # hidden layers; of more the remedy keeps two

TORCH = "Begin with torch's own initial weights"
FEWER = "Give ReLU layers, fewer of them, or a LayerNorm between them"


def initial_weights(study: Study) -> Finding | None:
    """Return what is wrong with the initial weights, where others were tried and learn: the name is that of the symptom."""
    trial = study.trials.other_weights if study.failed and cause(study) == "weights" else None
    if trial is None:
        return None
    found = symptom(study) or sized(study)
    if found is None:
        return Finding(
            "not-learned", "warning",
            f"The training loss is {significant(study.result.loss, 3)}; from other initial weights the same training learns.",
            alike(study) or TORCH, {"loss": study.result.loss, "tried": trial.loss},
        )  # fmt: skip
    severity = "error" if study.result.ending == "diverged" else "warning"
    said = f"{found.message.removesuffix('.')}; from weights as torch draws them the same training learns."
    return Finding(found.code, severity, said, alike(study) or TORCH, {**found.evidence, "tried": trial.loss})


def sized(study: Study) -> Finding | None:
    """Return that the first weights were so large or small that numbers grow or shrink from layer to layer."""
    growth = study.trials.growth
    if 1 / GROWN < growth < GROWN:
        return None
    code, way = ("exploding-gradient", "grow") if growth > 1 else ("vanishing-gradient", "shrink")
    said = (
        f"All layers together, the first weights were {significant(growth, 2)} times as large as torch draws them: numbers "
        f"{way} from layer to layer, and gradients with them."
    )
    return Finding(code, "warning", said, alike(study) or TORCH, {"growth": min(growth, 1e300)})


def symptom(study: Study) -> Finding | None:
    """Return what shows in the layers that bad initial weights would make: so do other causes, hence the trials."""
    return next(
        (f for f in (exploding(study), dead_units(study), saturated_units(study), vanishing(study)) if f),
        None,
    )


def cause(study: Study) -> Cause | None:
    """Return what the trials have shown to be the cause."""
    return study.trials.cause(weights_suspected=(symptom(study) or sized(study)) is not None)


def blamed(study: Study) -> bool:
    """Whether so little was learned, and nothing says that other weights would not have learned more."""
    trial = study.trials.other_weights if study.explained < LEARNED else None
    return study.explained < LEARNED and (trial is None or trial.better is not None)


def alike(study: Study, activation: str = "") -> str:
    """Return the network() with the same hidden layers as an argument, "" where the module is more than dense layers.

    Deep ones are cut to two hidden layers.
    """
    names = {kind: name for name, kind in ACTIVATIONS.items()}
    kinds = [type(layer).__name__ for _, layer in study.leaves]
    sizes = [int(layer.out_features) for _, layer in study.leaves if isinstance(layer, torch.nn.Linear)][:-1]
    other = {"Linear", "LayerNorm", "BatchNorm1d", "Dropout", "Flatten", "Softmax", "LogSoftmax"}
    if not sizes or any(kind not in names and kind not in other for kind in kinds):
        return ""
    hidden = sizes if len(sizes) <= DEEP else sizes[:2]
    own = next((names[kind] for kind in kinds if kind in names), "tanh")
    return f'model=gradfit.network(hidden={hidden}, activation="{activation or own}")'


def exploding(study: Study) -> Finding | None:
    """Return that numbers or gradients grow from layer to layer beyond any size."""
    trail, result = study.result.trail, study.result
    first = float(result.history.train[0]) if len(result.history.train) else 0.0
    whole = (
        study.task.plan.batch_size >= study.task.train.n
    )  # else updates have been made before the first loss is told
    if whole and first > HUGE * abs(study.baseline) and study.explained < LEARNED:
        return Finding(
            "exploding-gradient", "error" if result.ending == "diverged" else "warning",
            f"The very first loss is {significant(first)}, where saying the same for every row has "
            f"{significant(study.baseline)}: numbers grow from layer to layer, and gradients with them.",
            alike(study) or TORCH, {"first": first, "baseline": study.baseline},
        )  # fmt: skip
    ratios = _ratios(study)
    if ratios is None or result.ending == "diverged":
        return None
    middle = np.median(ratios / ratios[:, -1:], axis=0)
    layer = int(np.argmax(middle))
    if not middle[layer] > EXPLODING:
        return None
    return Finding(
        "exploding-gradient", "warning",
        f"The gradient of {trail.layers[layer]} is {significant(float(middle[layer]))} times as large, for its weights, as "
        f"that of the last layer, {trail.layers[-1]}.",
        "clip=1.0", {"layer": trail.layers[layer], "ratio": float(middle[layer])},
    )  # fmt: skip


def vanishing(study: Study) -> Finding | None:
    """Return the layer whose gradient is next to nothing for a whole quarter of the run."""
    ratios, trail = _ratios(study), study.result.trail
    if ratios is None or study.result.ending == "diverged":
        return None
    ratios = ratios / ratios.max(axis=1, keepdims=True)
    quarters = np.array_split(ratios, 4) if len(ratios) >= 8 else [ratios]
    least = np.min([quarter.max(axis=0) for quarter in quarters], axis=0)
    layer = int(np.argmin(least))
    if not least[layer] < VANISHING:
        return None
    return Finding(
        "vanishing-gradient", "warning",
        f"The gradient of {trail.layers[layer]} is {significant(float(least[layer]))} of that of the strongest layer, for its "
        "weights, over a quarter of the run: it hardly learns.",
        alike(study, "relu") or FEWER,
        {"layer": trail.layers[layer], "ratio": float(least[layer])},
    )  # fmt: skip


def _ratios(study: Study) -> Array | None:
    """Return |gradient| / |weight| of each layer (m, l); None without three layers that are trained."""
    trail = study.result.trail
    finite = np.isfinite(trail.gradient).all(axis=1) & np.isfinite(trail.weight).all(axis=1)
    gradient, weight = trail.gradient[finite], trail.weight[finite]
    used = (weight > 1e-12).all(axis=0)
    if not len(gradient) or used.sum() < 3:
        return None
    own = gradient[:, used] / weight[:, used]
    moving = (own > 0).all(axis=1)
    return own[moving] if moving.any() else None


def dead_units(study: Study) -> Finding | None:
    """Return the share of ReLU units that are zero on every training row."""
    layers = study.outputs(torch.nn.ReLU, torch.nn.ReLU6)
    if not layers:
        return None
    dead = [
        (name, (output == 0).all(dim=0).double().mean().item(), output.shape[1]) for name, output in layers
    ]
    units = sum(size for _, _, size in dead)
    share = sum(part * size for _, part, size in dead) / units
    name, worst, _ = max(dead, key=lambda one: one[1])
    share = max(share, worst if worst > DEAD_MANY else 0.0)
    if share <= DEAD_SOME:
        return None
    return Finding(
        "dead-units", "warning" if share > DEAD_MANY and blamed(study) else "info",
        f"{percent(worst)} of the units behind {name} are zero on all {count(study.some.n, 'training row')}: they learn nothing.",
        alike(study, "leaky_relu") or TORCH, {"layer": name, "share": worst, "all": share},
    )  # fmt: skip


def saturated_units(study: Study) -> Finding | None:
    """Return the share of tanh and sigmoid units that are flat on nearly every training row."""
    flat: list[Array] = []
    for _, output in study.outputs(torch.nn.Tanh):
        flat.append((output.abs() > FLAT).double().mean(dim=0).numpy())
    for _, output in study.outputs(torch.nn.Sigmoid):
        flat.append(((2 * output - 1).abs() > FLAT).double().mean(dim=0).numpy())
    if not flat:
        return None
    shares = [float((one >= ALWAYS).mean()) for one in flat]
    worst = int(np.argmax(shares))
    if shares[worst] <= SATURATED:
        return None
    return Finding(
        "saturated-units", "warning" if blamed(study) else "info",
        f"{percent(shares[worst])} of the units of an activation are saturated on {percent(ALWAYS)} of the training rows or "
        "more: hardly any gradient passes them.",
        alike(study) or TORCH, {"share": shares[worst]},
    )  # fmt: skip
