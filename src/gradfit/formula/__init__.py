"""Formulas: "t_c = w*t_u + b" becomes a list of operations from a fixed table; nothing is ever evaluated as code."""

from gradfit.formula.expression import CONSTANTS, Expression, Formula, Node, Span, caret
from gradfit.formula.parser import DEEPEST, FUNCTIONS, parse, parse_expression
from gradfit.formula.tokens import LONGEST, SLIPS

__all__ = [
    "CONSTANTS", "DEEPEST", "FUNCTIONS", "LONGEST", "SLIPS", "Expression", "Formula", "Node", "Span", "caret", "parse",
    "parse_expression",
]  # fmt: skip
