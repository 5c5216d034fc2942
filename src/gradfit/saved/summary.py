"""summary_dict: a fit as plain numbers and text, for `--json`, result.to_dict() and other programs."""

import platform
from collections.abc import Mapping

import numpy as np

from gradfit.parameter import ParameterResult
from gradfit.result import FitResult
from gradfit.saved.held import held_summary
from gradfit.saved.plain import evidence, finite, finite_rows, given, setting
from gradfit.saved.recalled import SavedResult
from gradfit.saved.shrunk import penalty_summary

STATISTICS = (
    "n", "k", "dof", "rss", "chi2", "reduced_chi2", "r2", "aic", "aicc", "bic", "log_likelihood", "loss", "scatter",
    "deviance", "dispersion",
)  # fmt: skip


def summary_dict(result: FitResult) -> dict[str, object]:
    """Return a fit as numbers, text, lists and dicts that JSON can hold.

    null stands for what is no finite number: the error of a fixed or undetermined parameter, an open bound, the end of
    an interval that has none, a statistic that these data do not give. Covariance and correlation are (k, k), in the
    order of the parameters.
    """
    return {
        "formula": result.formula,
        "response": result.response,
        "inputs": list(result.inputs),
        "verdict": result.verdict,
        "sentences": list(result.sentences),
        "parameters": {name: _parameter(p) for name, p in result.params.items()},
        "covariance": finite_rows(result.covariance),
        "correlation": finite_rows(result.correlation),
        "level": result.level,
        "statistics": statistics(result),
        "findings": findings(result, lossless=False),
        "checks": checks(result),
        "converged": result.converged,
        "status": result.status,
        "message": result.message,
        "solver": result.solver,
        "executor": result.executor,
        "loss": result.loss_name,
        "iterations": result.iterations,
        "evaluations": result.evaluations,
        "seconds": finite(result.seconds),
        "how": list(result.how),
        "starts": {
            "source": result.starts.source,
            "tried": result.starts.tried,
            "refined": result.starts.refined,
            "reached": result.starts.reached,
            "losses": finite_rows(result.starts.losses),
        },
        "data": {
            "source": result.data.source,
            "rows_read": result.data.n_read,
            "rows_used": result.n,
            "left_out": list(result.data.left_out),
            "notes": list(result.data.notes),
            "units": dict(result.data.units),
            "sha256": result.data_hash,
        },
        "settings": {name: setting(value, lossless=False) for name, value in given(result.settings).items()},
        "versions": versions(result),
        **held_summary(result),
        **penalty_summary(result),
    }


def _parameter(p: ParameterResult) -> dict[str, object]:
    return {
        "value": finite(p.value),
        "stderr": finite(p.stderr),
        "interval": [finite(end) for end in p.interval()],
        "unit": p.unit,
        "fixed": p.fixed,
        "bounds": [finite(end) for end in p.bounds],
        "start": None if p.start is None else finite(p.start),
        "at_bound": p.at_bound,
        "determined": p.determined,
    }


def statistics(result: FitResult) -> dict[str, object]:
    """Return the numbers of a fit by name, None for those that are not finite."""
    return {name: _number(getattr(result, name)) for name in STATISTICS}


def _number(value: float) -> float | None:
    return value if isinstance(value, int) else finite(value)


def findings(result: FitResult, *, lossless: bool) -> list[dict[str, object]]:
    """Return what is wrong or noteworthy, worst first."""
    return [
        {
            "code": f.code,
            "severity": f.severity,
            "message": f.message,
            "remedy": f.remedy,
            "evidence": evidence(f.evidence, lossless=lossless),
        }
        for f in result.findings
    ]


def checks(result: FitResult) -> list[dict[str, object]]:
    """Return the tests that were made."""
    return [
        {
            "name": c.name,
            "statistic": c.statistic,
            "p": finite(c.p),
            "alarm": finite(c.alarm),
            "raised": bool(c.raised),
        }
        for c in result.checks
    ]


def versions(result: FitResult) -> Mapping[str, str]:
    """Return the versions that made the fit; a fit from a file still has its own."""
    if isinstance(result, SavedResult):
        return result.kept.versions
    return {"gradfit": result.version, "python": platform.python_version(), "numpy": np.__version__}
