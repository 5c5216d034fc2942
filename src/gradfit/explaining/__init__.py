"""explain(): one forward and one backward pass, looked at operation by operation."""

from gradfit.explaining.passes import explain
from gradfit.explaining.values import Conditioning, Explanation, Operation, ParameterPass, RateStep, Spread

__all__ = ["Conditioning", "Explanation", "Operation", "ParameterPass", "RateStep", "Spread", "explain"]
