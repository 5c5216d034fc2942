"""gradfit fits any function to data by gradients, and shows whether to trust the answer."""

from gradfit._version import __version__
from gradfit.errors import DataError, FormulaError, GradfitError, ModelError, OptionError, ShapeError
from gradfit.fit import fit
from gradfit.loss import Loss
from gradfit.result import FitResult
from gradfit.reusable import Model
from gradfit.solve.descent import Descent
from gradfit.solve.lm import LM
from gradfit.table import Table, read

__all__ = [
    "LM",
    "DataError",
    "Descent",
    "FitResult",
    "FormulaError",
    "GradfitError",
    "Loss",
    "Model",
    "ModelError",
    "OptionError",
    "ShapeError",
    "Table",
    "__version__",
    "fit",
    "read",
]
