"""Findings about a trained network: causes first, and none of their consequences."""

from collections.abc import Callable

from gradfit.diagnose import Finding
from gradfit.learn.about_data import copied_rows, loss_mismatch, no_signal, target_among_inputs, unscaled
from gradfit.learn.about_layers import dead_units, exploding, initial_weights, saturated_units, vanishing
from gradfit.learn.about_training import (
    batch_noise,
    diverged,
    not_learned,
    other_rate,
    overfitting,
    rate_too_small,
    still_falling,
)
from gradfit.learn.result import NetworkResult
from gradfit.learn.study import Study, study_of
from gradfit.learn.task import Task

_ORDER = {"error": 0, "warning": 1, "info": 2}
Rule = Callable[[Study], Finding | None]

#: in each row the first that is raised silences those after it, as they are its consequences
_ABOUT_DATA: tuple[Rule, ...] = (target_among_inputs, copied_rows)
_ABOUT_TRAINING: tuple[Rule, ...] = (
    loss_mismatch, unscaled, initial_weights, batch_noise, other_rate, exploding, diverged, dead_units, vanishing,
    saturated_units, rate_too_small, not_learned,
)  # fmt: skip
_AFTER: tuple[tuple[Rule, ...], ...] = ((no_signal, overfitting), (still_falling,))


def examined(task: Task) -> Callable[[NetworkResult], tuple[Finding, ...]]:
    """Return what finds out what is wrong with the result of a training."""
    return lambda result: findings_of(study_of(task, result))


def findings_of(study: Study) -> tuple[Finding, ...]:
    """Return the findings, worst first; one that only informs silences nothing."""
    found = [*_first(study, _ABOUT_DATA), *_first(study, _ABOUT_TRAINING)]
    if all(finding.severity == "info" or finding.code == "leakage" for finding in found):
        found += [finding for rules in _AFTER for finding in _first(study, rules)]
    return tuple(sorted(found, key=lambda finding: _ORDER[finding.severity]))


def _first(study: Study, rules: tuple[Rule, ...]) -> list[Finding]:
    """Return what the rules raise, up to the first that is more than information."""
    found: list[Finding] = []
    for rule in rules:
        finding = rule(study)
        if finding is not None:
            found.append(finding)
            if finding.severity != "info":
                break
    return found
