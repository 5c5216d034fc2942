"""At most three sentences on a trained network."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from gradfit.notation import THIN, count, fixed, near_one, significant

if TYPE_CHECKING:
    from gradfit.diagnose import Finding
    from gradfit.learn import NetworkResult

_ORDER = {"error": 0, "warning": 1, "info": 2}
#: measure -> its name for people
MEASURES: Mapping[str, str] = {
    "rmse": "rmse", "mae": "mean absolute error", "r2": "r²", "deviance": "mean deviance", "explained": "deviance explained",
    "accuracy": "accuracy", "log_loss": "log loss", "most_frequent": "most frequent class",
}  # fmt: skip


def worst(result: "NetworkResult") -> tuple["Finding", ...]:
    """Return the at most three findings that the verdict rests on, errors first."""
    bad = [finding for finding in result.findings if finding.severity != "info"]
    return tuple(sorted(bad, key=lambda finding: _ORDER[finding.severity])[:3])


def said(result: "NetworkResult") -> tuple[str, ...]:
    """Return at most three sentences, worst first: what is wrong, or how well new rows are predicted and what was kept."""
    if result.verdict != "trust":
        return tuple([finding.message for finding in worst(result)]) or (f"{result.message}.",)
    noted = [finding.message for finding in result.findings if finding.severity == "info"]
    return _quality(result), noted[0] if noted else f"{result.message}."


def _quality(result: "NetworkResult") -> str:
    held = result.validation
    if held is None:
        where = f"On the {count(result.n, 'row')} that it was trained on"
        return f"{where} {_miss(result, result.metrics)}; without rows held out nothing is known of new ones."
    where = "Over the folds" if held.folds else f"On {count(held.n, 'row')} held out"
    return f"{where} {_miss(result, held.metrics)}."


def _miss(result: "NetworkResult", metrics: Mapping[str, float]) -> str:
    """Return how far predictions are off, as a part of a sentence."""
    if "accuracy" in metrics:
        often = share(metrics["most_frequent"])
        return (
            f"{share(metrics['accuracy'])} are told right; always saying the most frequent class gets {often}"
        )
    if "explained" in metrics:
        return f"the expected counts explain {share(metrics['explained'])} of the deviance"
    return f"predictions of {result.response} miss by {significant(metrics['rmse'], 2)} (rmse), r² {near_one(metrics['r2'], 3)}"


def share(value: float) -> str:
    r"""Return a share in per cent.

    >>> share(0.9175)
    '91.8\u202f%'
    """
    if not np.isfinite(value):
        return "an unknown share"
    return f"{fixed(100 * value, 1 if abs(value) < 0.9995 or value > 1 else 0)}{THIN}%"


def measured_text(name: str, value: float) -> str:
    """Return a measure for a table."""
    if name in ("accuracy", "most_frequent", "explained"):
        return share(value)
    return near_one(value, 3) if name == "r2" else significant(value, 3)
