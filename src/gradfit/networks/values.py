"""A trained network as plain values: for JSON on a terminal, and for its file."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradfit.diagnose import Finding

if TYPE_CHECKING:
    from gradfit.learn import NetworkResult

EXACT = {"inf": math.inf, "-inf": -math.inf}


def number(value: float) -> float | None:
    """Return a number, None where it is not finite."""
    return float(value) if math.isfinite(value) else None


def numbers(values: NDArray[np.float64]) -> list[float | None]:
    """Return numbers, None where one is not finite."""
    return [number(value) for value in values.tolist()]


def measures_dict(measures: Mapping[str, float]) -> dict[str, float | None]:
    """Return measures by name."""
    return {name: number(value) for name, value in measures.items()}


def finding_dict(finding: Finding) -> dict[str, object]:
    """Return a finding."""
    facts = {
        name: number(fact) if isinstance(fact, float) else fact for name, fact in finding.evidence.items()
    }
    return {
        "code": finding.code, "severity": finding.severity, "message": finding.message, "remedy": finding.remedy,
        "evidence": facts,
    }  # fmt: skip


def held_dict(result: "NetworkResult") -> dict[str, object] | None:
    """Return what is known of rows held out."""
    held = result.validation
    if held is None:
        return None
    return {
        "rows": held.n, "loss": number(held.loss), "metrics": measures_dict(held.metrics), "how": held.how,
        "folds": [number(loss) for loss in held.folds], "stderr": number(held.stderr),
    }  # fmt: skip


def summary_dict(result: "NetworkResult") -> dict[str, object]:
    """Return the answer as JSON holds it: verdict, sentences, findings, measures, losses."""
    history = result.history
    return {
        "formula": result.formula, "verdict": result.verdict, "sentences": list(result.sentences),
        "findings": [finding_dict(finding) for finding in result.findings], "loss": {"name": result.loss_name, "value": number(result.loss)},
        "metrics": measures_dict(result.metrics), "validation": held_dict(result), "best_epoch": result.best_epoch,
        "epochs": len(history.epoch), "history": {"train": numbers(history.train), "validation": numbers(history.validation)},
        "parameters": result.k, "rows": result.n, "source": result.source, "solver": result.solver, "device": result.device,
        "executor": result.executor, "how": list(result.how), "message": result.message, "seconds": result.seconds,
    }  # fmt: skip
