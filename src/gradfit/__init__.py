"""gradfit fits any function to data by gradients, and shows whether to trust the answer."""

from importlib import import_module
from typing import TYPE_CHECKING

from gradfit._version import __version__

if TYPE_CHECKING:
    from gradfit.errors import DataError, FormulaError, GradfitError, ModelError, OptionError, ShapeError
    from gradfit.explaining import Explanation, explain
    from gradfit.fitting import fit
    from gradfit.growing import GrowResult, grow
    from gradfit.learn import NetworkResult, network
    from gradfit.loss import Loss
    from gradfit.many import ManyResult, fit_many
    from gradfit.penalty import Penalty
    from gradfit.result import FitResult
    from gradfit.reusable import Model
    from gradfit.saved import load
    from gradfit.scipy_api.fit import curve_fit
    from gradfit.shape_expression import shapes
    from gradfit.solve.descent import Descent
    from gradfit.solve.lm import LM
    from gradfit.surveying import RateSurvey, learning_rate
    from gradfit.table import Table, read
    from gradfit.tracking import MLflow, TensorBoard

# Each name is imported when it is first asked for: `gradfit --help` must not wait 0.3 s for NumPy and sixty modules.
# No name is also a module's: `gradfit.fit` would be the module once anything had imported it.
_HOMES = {
    "DataError": "errors",
    "FormulaError": "errors",
    "GradfitError": "errors",
    "ModelError": "errors",
    "OptionError": "errors",
    "ShapeError": "errors",
    "Explanation": "explaining",
    "explain": "explaining",
    "fit": "fitting",
    "GrowResult": "growing",
    "grow": "growing",
    "NetworkResult": "learn",
    "network": "learn",
    "Loss": "loss",
    "ManyResult": "many",
    "fit_many": "many",
    "Penalty": "penalty",
    "FitResult": "result",
    "Model": "reusable",
    "load": "saved",
    "curve_fit": "scipy_api",
    "shapes": "shape_expression",
    "Descent": "solve.descent",
    "LM": "solve.lm",
    "RateSurvey": "surveying",
    "learning_rate": "surveying",
    "Table": "table",
    "read": "table",
    "MLflow": "tracking",
    "TensorBoard": "tracking",
}

__all__ = [
    "LM",
    "DataError",
    "Descent",
    "Explanation",
    "FitResult",
    "FormulaError",
    "GradfitError",
    "GrowResult",
    "Loss",
    "MLflow",
    "ManyResult",
    "Model",
    "ModelError",
    "NetworkResult",
    "OptionError",
    "Penalty",
    "RateSurvey",
    "ShapeError",
    "Table",
    "TensorBoard",
    "__version__",
    "curve_fit",
    "explain",
    "fit",
    "fit_many",
    "grow",
    "learning_rate",
    "load",
    "network",
    "read",
    "shapes",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"gradfit has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"gradfit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
