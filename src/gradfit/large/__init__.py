"""One fit over much data: rows in pieces, sums instead of a Jacobian, files larger than memory."""

from gradfit.large.fit import Task, bytes_of, fit_large, is_large
from gradfit.large.result import LargeResult

__all__ = ["LargeResult", "Task", "bytes_of", "fit_large", "is_large"]
