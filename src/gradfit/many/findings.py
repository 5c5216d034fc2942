"""What many fits have in common where they failed: plain sentences with a number and a remedy."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit.diagnose import Finding
from gradfit.notation import count, fixed, listing, percent
from gradfit.solve.lockstep.batch import (
    CONVERGED,
    MAX_ITERATIONS,
    NEGATIVE,
    NON_FINITE,
    SINGULAR,
    STALLED,
    STATUS,
    TOO_FEW,
)  # fmt: skip

if TYPE_CHECKING:
    from gradfit.many.result import ManyResult

Mask = NDArray[np.bool_]

MOST = 0.5  # share of the fits from which on a kind of failure is an error
ON_BOUND = 0.2  # share of the fits on one bound from which on that is told


def found(many: "ManyResult") -> tuple[Finding, ...]:
    """Return the findings on many fits, the most frequent first."""
    status = many.ends.status
    out = [
        _failure(many, kind) for kind in range(len(STATUS)) if kind != CONVERGED and (status == kind).any()
    ]
    out.sort(key=lambda finding: -float(str(finding.evidence["fits"])))
    return (*out, *_on_bounds(many), *_missing(many))


def headline(many: "ManyResult") -> str:
    """Return how many fits converged, and of the others what most have in common."""
    total, done = len(many), int(np.count_nonzero(many.ends.status == CONVERGED))
    if done == total:
        return f"All {count(total, 'fit')} converged" if total > 1 else "The fit converged"
    lost = total - done
    numbers = np.bincount(many.ends.status, minlength=len(STATUS))
    numbers[CONVERGED] = 0
    kind = int(np.argmax(numbers))
    share = "they" if numbers[kind] == lost else f"{fixed(int(numbers[kind]), 0)} of them"
    return f"{fixed(lost, 0)} of {count(total, 'fit')} failed: {share} {_what(many, kind)}"


def _what(many: "ManyResult", kind: int) -> str:
    """Return what is wrong with fits of a status, after "they"."""
    unknowns = len(many.settled.free)
    if kind == TOO_FEW:
        return f"have fewer than {count(max(unknowns, 2), 'point')}"
    if kind == SINGULAR:
        names = _undetermined(many)
        return f"do not determine {listing(names) if names else 'every parameter'}"
    return {
        MAX_ITERATIONS: f"stopped at max_iterations={many.max_iterations}",
        NON_FINITE: "begin where the model is not finite",
        STALLED: "ended where no step improves the fit, and yet it is no minimum",
        NEGATIVE: "hold counts below zero",
    }[kind]


def _undetermined(many: "ManyResult") -> list[str]:
    """Return the parameters without a standard error in half of the singular fits or more, not counting those on a bound."""
    which = many.ends.status == SINGULAR
    out: list[str] = []
    for j in many.settled.free.tolist():
        name = many.model.parameters[j]
        open_ = np.isnan(many.ends.stderr[which, j]) & ~many.params[name].at_bound.reshape(-1)[which]
        if np.mean(open_) >= 0.5:
            out.append(name)
    return out


_REMEDY = {
    TOO_FEW: "fixed= leaves fewer parameters to find; where= leaves such groups out",
    SINGULAR: "Fix what is not determined with fixed=, or take a simpler model",
    MAX_ITERATIONS: "max_iterations=1000, or start values nearer by",
    NON_FINITE: "Other start values, or bounds= that keep the model finite",
    STALLED: "Other start values; a model with a kink has no smooth minimum there",
    NEGATIVE: 'loss="squared" takes them',
}


def _failure(many: "ManyResult", kind: int) -> Finding:
    which = many.ends.status == kind
    number, total = int(np.count_nonzero(which)), len(many)
    text = f"{fixed(number, 0)} of {count(total, 'fit')} {_one(_what(many, kind), number)}"
    severity = "error" if number > MOST * total else "warning"
    first = np.flatnonzero(which)[:10].astype(float)
    return Finding(
        f"many-{STATUS[kind]}", severity, text, _REMEDY[kind],
        {"fits": float(number), "of": float(total), "first": tuple(first.tolist())},
    )  # fmt: skip


def _one(words: str, number: int) -> str:
    """Return the words with the verb of one thing where there is one."""
    if number != 1:
        return words
    verb, _, rest = words.partition(" ")
    singular = {"have": "has", "do": "does", "begin": "begins", "hold": "holds"}
    return f"{singular.get(verb, verb)} {rest}"


def _on_bounds(many: "ManyResult") -> list[Finding]:
    out: list[Finding] = []
    usable = np.isfinite(many.ends.parameters).all(axis=1)
    if not usable.any():
        return out
    for name, parameter in many.params.items():
        stuck = parameter.at_bound.reshape(-1) & usable
        number, total = int(np.count_nonzero(stuck)), int(np.count_nonzero(usable))
        if parameter.fixed or number < max(ON_BOUND * total, 1):
            continue
        low = float(np.mean(np.abs(parameter.value.reshape(-1)[stuck] - parameter.bounds[0])))
        high = float(np.mean(np.abs(parameter.value.reshape(-1)[stuck] - parameter.bounds[1])))
        end = parameter.bounds[0] if low < high else parameter.bounds[1]
        out.append(
            Finding(
                "many-at-bound", "warning",
                f"{fixed(number, 0)} of {count(total, 'fit')} ({percent(number / total)}) ended on the bound {end:g} of "
                f"{name}",
                f"Widen bounds= of {name}, or see whether the model needs it",
                {"fits": float(number), "of": float(total), "parameter": name},
            )
        )  # fmt: skip
    return out


def _missing(many: "ManyResult") -> list[Finding]:
    lost, fits = int(many.missing.sum()), int(np.count_nonzero(many.missing))
    if not lost:
        return []
    text = f"{count(lost, 'point')} of {count(fits, 'fit')} {'was' if lost == 1 else 'were'} left out: no number there"
    return [Finding("many-missing", "info", text, "", {"points": float(lost), "fits": float(fits)})]
