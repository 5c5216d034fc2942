"""Findings on held-out rows: overfitting, and rows or targets that leaked into the training."""

import numpy as np

import gradfit.diagnose.laws as laws
from gradfit.diagnose.evidence import ALARM, Check, Evidence, Fact, Finding, HeldEvidence
from gradfit.diagnose.held import (
    DOUBLE,
    FREE,
    LEAST,
    RISE,
    copied_target,
    copies,
    doubled,
    freedom,
    risen,
    twins,
)
from gradfit.diagnose.words import numbers, p_text, percent, rows_text, sentence, times
from gradfit.notation import count

MOST_EXCLUDED = 1000  # rows that a remedy names


def about_held(e: Evidence) -> tuple[tuple[Finding, ...], tuple[Check, ...]]:
    """Return what the held-out rows of a fit say, and the tests that were made; nothing where none were held out."""
    held = e.held
    if held is None or not (np.isfinite(held.residuals).all() and np.isfinite(e.residuals).all()):
        return (), ()
    parts = (leaked_target(e, held), *leaked_rows(e, held), *overfitted(e, held))
    findings = tuple(part for part in parts if isinstance(part, Finding))
    return findings, tuple(part for part in parts if isinstance(part, Check))


def overfitted(e: Evidence, held: HeldEvidence) -> tuple[Finding | None, Check | None]:
    """Return the finding that held-out rows are missed by more than chance allows, and its check."""
    if len(held.residuals) < LEAST:
        return None, None
    free = of_freedom(e, held)
    if free is not None:
        return free
    ratio, p_ratio = doubled(held.residuals, e.residuals)
    rise, p_rise = np.nan, 1.0
    if held.losses is not None and len(held.losses) > 2:
        rise, p_rise = risen(held.losses, held.returned)
    is_rise = bool(rise > RISE)
    ps = [p_ratio] if held.losses is None else [p_ratio, p_rise if is_rise else 0.5]
    p = laws.cauchy(ps, [1.0, 3.0][: len(ps)])  # the way tells more than its end
    raised = p < ALARM["overfitting"] and (ratio > 1 or is_rise)
    check = Check("Held-out rows", "rank sums against training", p, ALARM["overfitting"], raised)
    if not raised:
        return None, check
    facts: dict[str, Fact] = {"ratio": min(ratio, 1e300), "p": p, "rows": len(held.residuals)}
    if not (is_rise and p_rise < p_ratio) or held.losses is None:
        said = (
            f"The mean squared residual of {count(len(held.residuals), 'held-out row')} is {times(ratio)} times that of "
            f"the rows in training ({p_text(p)})."
        )
        return Finding("overfitting", "warning", said, 'penalty="ridge"', facts), check
    best = int(np.argmin(held.losses.mean(axis=1)))
    epoch = int(held.step[best])
    facts |= {"rise": rise, "epoch": epoch}
    said = f"The validation loss is {percent(rise - 1)} above its best, that after {count(epoch, 'epoch')} ({p_text(p)})."
    return Finding("overfitting", "warning", said, 'stop="best"', facts), check


def of_freedom(e: Evidence, held: HeldEvidence) -> tuple[Finding, Check] | None:
    """Return the finding that there are too many parameters for the rows, and its check; None where there are not."""
    n, k = e.jacobian.shape
    direct = e.way is None and not e.robust and e.status == "converged"
    if not direct or held.jacobian is None or held.jacobian.shape[1] != k or n <= k:
        return None
    spread, missed = freedom(e.jacobian, e.residuals, held.jacobian, held.residuals)
    if not (spread > FREE and missed > DOUBLE):
        return None
    ratio = doubled(held.residuals, e.residuals)[0]
    said = (
        f"{count(k, 'parameter')} on {count(n, 'row')}: their errors alone make predictions of rows left out scatter "
        f"{times(float(np.sqrt(1 + spread)))} times as far as the noise; the mean squared residual of those held out is "
        f"{times(ratio)} times that in training."
    )
    facts: dict[str, Fact] = {
        "ratio": min(ratio, 1e300),
        "spread": min(spread, 1e300),
        "rows": len(held.residuals),
    }
    check = Check("Held-out rows", "leverage of rows left out", 0.0, ALARM["overfitting"], raised=True)
    return Finding("overfitting", "warning", said, 'penalty="ridge"', facts), check


def leaked_rows(e: Evidence, held: HeldEvidence) -> tuple[Finding | None, Check | None]:
    """Return the finding that held-out rows are copies of rows in training, and its check."""
    if not e.inputs or set(e.inputs) != set(held.inputs):
        return None, None
    trained = np.column_stack([*e.inputs.values(), e.y])
    others = np.column_stack([*(held.inputs[name] for name in e.inputs), held.y])
    dof = max(len(e.y) - len(e.names), 1)
    noise = float(np.sqrt(np.sum((e.y - e.fitted) ** 2) / dof))
    seen, p = copies(trained, others, noise)
    raised = p < ALARM["leakage"]
    check = Check("Copies across the split", "Poisson or binomial law", p, ALARM["leakage"], raised)
    if not raised:
        return None, check
    rows, share = held.rows[seen], len(seen) / len(held.y)
    said = (
        f"{percent(share)} of the held-out rows are in training too, or nearly so ({rows_text(rows)}; {p_text(p)}): "
        "what they say of new data is too good."
    )
    apart = not np.isin(held.rows, e.rows).any()  # else they are rows of another table, and have its numbers
    out = rows if apart and len(seen) < len(held.y) else e.rows[twins(trained, others[seen])]
    widest = max(e.inputs, key=lambda name: len(np.unique(e.inputs[name])))
    remedy = f"exclude={[int(row) for row in out]}" if len(out) <= MOST_EXCLUDED else f'groups="{widest}"'
    facts: dict[str, Fact] = {"share": share, "p": p, "rows": numbers(rows)}
    return Finding("leakage", "warning", said, remedy, facts), check


def leaked_target(e: Evidence, held: HeldEvidence) -> Finding | None:
    """Return the finding that an input is the response itself."""
    inputs = {
        name: np.concatenate([x, held.inputs[name]]) for name, x in e.inputs.items() if name in held.inputs
    }
    y = np.concatenate([e.y, held.y])
    name = copied_target(inputs, y)
    if not name:
        return None
    said = (
        f"{name} equals {e.response} in all {count(len(y), 'row')}: the model is told what it should find out; leave {name} out of "
        "the formula."
    )
    return Finding("leakage", "warning", said, "", {"input": name})


def stopped_early(e: Evidence) -> Finding:
    """Return the note that the parameters were chosen by held-out rows, and are no minimum of the training loss."""
    return Finding("early-stopped", "info", sentence(e.message), "", {"status": e.status})
