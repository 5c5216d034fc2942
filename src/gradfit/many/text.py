"""Many fits as text for a terminal."""

from typing import TYPE_CHECKING

import numpy as np

from gradfit.many.findings import headline
from gradfit.many.rows import Array
from gradfit.notation import count, duration, fixed, significant
from gradfit.solve.lockstep.batch import CONVERGED

if TYPE_CHECKING:
    from gradfit.many.result import ManyResult

_QUANTILES = (0.05, 0.5, 0.95)


def summary(many: "ManyResult") -> str:
    """Return the model, what became of the fits, each parameter's spread over them, and the findings."""
    fits = "" if len(many) == 1 else f", {fixed(len(many) / max(many.seconds, 1e-6), 0)} a second"
    lines = [
        headline(many),
        f"{many.formula}  ({many.executor}, {duration(many.seconds)}{fits})",
        "",
        *_table(many),
        "",
        f"Points {_range(many.points)}, steps {_range(many.iterations)}, scatter {_scatter(many)}",
    ]
    told = [f"{finding.message}. {finding.remedy}".rstrip() for finding in many.findings]
    return "\n".join([*lines, *(["", *told] if told else []), *(["", *many.how] if many.how else [])])


def _table(many: "ManyResult") -> list[str]:
    """Return quantiles of the parameters over the fits that converged, as aligned lines."""
    good = many.ends.status == CONVERGED
    rows = [["", *(f"{100 * q:g} %" for q in _QUANTILES), "standard error, median"]]
    for name, parameter in many.params.items():
        values, errors = parameter.value.reshape(-1)[good], parameter.stderr.reshape(-1)[good]
        shown = [significant(q, 4) for q in _quantiles(values)]
        middle = _quantiles(errors)[1]
        last = "fixed" if parameter.fixed else significant(middle) if np.isfinite(middle) else "none"
        rows.append([name, *shown, last])
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]


def _quantiles(values: Array) -> list[float]:
    fine = values[np.isfinite(values)]
    return [float(q) for q in np.quantile(fine, _QUANTILES)] if fine.size else [float("nan")] * 3


def _range(numbers: "np.typing.NDArray[np.int32]") -> str:
    low, high = int(numbers.min()), int(numbers.max())
    return fixed(low, 0) if low == high else f"{fixed(low, 0)} to {fixed(high, 0)}"


def _scatter(many: "ManyResult") -> str:
    with np.errstate(invalid="ignore"):
        scatter = np.sqrt(many.reduced_chi2.reshape(-1)[many.ends.status == CONVERGED])
    low, middle, high = _quantiles(scatter)
    if not np.isfinite(middle):
        return f"unknown ({count(0, 'degree')} of freedom)"
    return f"{significant(middle)} ({significant(low)} to {significant(high)} in nine of ten fits)"
