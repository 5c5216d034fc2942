"""From a result to the evidence that a diagnosis is made from."""

import numpy as np

from gradfit.diagnose import Diagnosis, Evidence
from gradfit.result import FitResult
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
    every = np.ones(result.n) if weight is None else weight
    graph = result.model.graph
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
        constant=tuple(name for name, x in result.data.columns.items() if len(x) > 1 and np.ptp(x) == 0),
    )


def worth_another_look(result: FitResult, diagnosis: Diagnosis) -> bool:
    """Whether a finding may be the sign of a local minimum, and the fit did not come from a search already."""
    if result.starts.source in ("search", "not needed"):
        return False
    return any(f.code in _SUSPICIOUS and f.severity != "info" for f in diagnosis.findings)
