"""Findings: what is wrong with a fit, in one sentence with the number and the argument that mends it."""

from gradfit.diagnose.evidence import ALARM, Check, Diagnosis, Evidence, Finding, Way, verdict
from gradfit.diagnose.order import diagnose

__all__ = ["ALARM", "Check", "Diagnosis", "Evidence", "Finding", "Way", "diagnose", "verdict"]
