"""Many fits of one model in one call."""

from gradfit.many.fitting import fit_many
from gradfit.many.result import ManyParameter, ManyParameters, ManyResult

__all__ = ["ManyParameter", "ManyParameters", "ManyResult", "fit_many"]
