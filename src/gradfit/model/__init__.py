"""Models: a formula or a function, bound to the columns of a table, traced once and checked against the real function."""

from gradfit.model.bound import BoundModel, nearest, observed_column
from gradfit.model.formulas import bind_formula
from gradfit.model.functions import bind_function, called
from gradfit.model.shapes import one_value_a_row, shape_error
from gradfit.model.signature import Names, Signature, name_of, settle_names, signature_of

__all__ = [
    "BoundModel", "Names", "Signature", "bind_formula", "bind_function", "called", "name_of", "nearest", "observed_column",
    "one_value_a_row", "settle_names", "shape_error", "signature_of",
]  # fmt: skip
