"""From a result to the evidence that a diagnosis is made from."""

from dataclasses import replace

import numpy as np

from gradfit.diagnose import Diagnosis, Evidence, Finding, diagnose
from gradfit.result import FitResult
from gradfit.shrinkage import Shrinkage
from gradfit.solve.counts import rows_at_zero

#: findings that another minimum would explain: other starts are tried before they are believed
_SUSPICIOUS = frozenset(
    {
        "underfitting",
        "structured-residuals",
        "not-converged",
        "strong-correlation",
        "unidentifiable",
        "at-bound",
    }
)


def evidence_of(result: FitResult) -> Evidence:
    """Return the arrays at the end of a fit, as `diagnose` takes them."""
    settled, free = result.settled, result.settled.free
    residuals, jacobian = result.expected
    weight = result.data.weight
    every = np.ones(len(result.data.y)) if weight is None else weight
    graph = result.model.graph
    seen, held = result.seen, result.held
    bounds = settled.lower[free], settled.upper[free]
    return Evidence(
        names=tuple(result.model.parameters[j] for j in free),
        inputs=result.data.columns,
        y=result.data.y,
        fitted=result.fitted,
        residuals=-residuals,
        jacobian=jacobian,
        values=result.outcome.parameters,
        lower=bounds[0],
        upper=bounds[1],
        rows=result.data.rows,
        response=result.response,
        units=result.data.units,
        absolute=result.data.absolute,
        robust=result.loss_used.name if result.loss_used.robust else None,
        status=result.status,
        message=result.message,
        unused=graph.unused() if graph is not None else (),
        sigma=result.data.sigma_from,
        counts=every**2 if result.data.counts else None,
        at_zero=rows_at_zero(result.problem, result.outcome.parameters, bounds),
        held=None if seen is None or held is None else seen.evidence(held.data, result.inputs),
        constant=tuple(name for name, x in result.data.columns.items() if len(x) > 1 and np.ptp(x) == 0),
    )


#: findings of a penalised fit that the penalty answers, or that a residual pulled on purpose would raise
_ANSWERED = frozenset(
    {"unidentifiable", "strong-correlation", "too-few-points", "local-minimum", "not-converged"}
)


def diagnosed(result: FitResult, shrinkage: Shrinkage) -> Diagnosis:
    """Return the diagnosis of a penalised fit: of its residuals, over the parameters that it left, and what it rests on."""
    told = Finding(
        "penalised",
        "info",
        shrinkage.sentence,
        "penalty=None",
        {"strength": shrinkage.strength, "effective": shrinkage.effective, "zero": shrinkage.zero},
    )
    stopped = () if result.converged else (_unfinished(result),)
    moving = shrinkage.moving
    if result.n < np.count_nonzero(moving) + 4 or not np.isfinite(result.expected[1]).all():
        return Diagnosis((*stopped, told))
    e = evidence_of(result)
    names = tuple(name for name, moves in zip(e.names, moving.tolist(), strict=True) if moves)
    left = replace(
        e, names=names, jacobian=e.jacobian[:, moving], values=e.values[moving], lower=e.lower[moving],
        upper=e.upper[moving], held=None if e.held is None else replace(e.held, jacobian=None),
    )  # fmt: skip
    with np.errstate(all="ignore"):
        found = diagnose(left)
    kept = tuple(f for f in found.findings if f.code not in _ANSWERED)
    return replace(found, findings=(*stopped, *kept, told))


def settled_elsewhere(result: FitResult, diagnosis: Diagnosis) -> Diagnosis:
    """Return the diagnosis of a training whose updates saw perturbed rows: it was not to go to the minimum without."""
    if not result.converged:
        return diagnosis
    kept = tuple(f for f in diagnosis.findings if f.code not in ("not-converged", "local-minimum"))
    return replace(diagnosis, findings=kept)


def _unfinished(result: FitResult) -> Finding:
    remedy = "max_iterations=2000" if result.status == "max-iterations" else ""
    return Finding("not-converged", "error", result.message, remedy)


def worth_another_look(result: FitResult, diagnosis: Diagnosis) -> bool:
    """Whether a finding may be the sign of a local minimum, and the fit did not come from a search already."""
    if result.starts.source in ("search", "not needed"):
        return False
    return any(f.code in _SUSPICIOUS and f.severity != "info" for f in diagnosis.findings)
