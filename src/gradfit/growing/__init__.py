"""Growing a model until it fits and no further."""

from gradfit.growing.grow import grow
from gradfit.growing.ladder import Ladder, Rung
from gradfit.growing.result import GrowResult

__all__ = ["GrowResult", "Ladder", "Rung", "grow"]
