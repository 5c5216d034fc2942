"""gradfit fits any function to data by gradients, and shows whether to trust the answer."""

from importlib import import_module
from typing import TYPE_CHECKING

from gradfit._version import __version__

if TYPE_CHECKING:
    from gradfit.errors import DataError, FormulaError, GradfitError, ModelError, OptionError, ShapeError
    from gradfit.fitting import fit
    from gradfit.loss import Loss
    from gradfit.many import ManyResult, fit_many
    from gradfit.result import FitResult
    from gradfit.reusable import Model
    from gradfit.saved import load
    from gradfit.scipy_api import curve_fit
    from gradfit.solve.descent import Descent
    from gradfit.solve.lm import LM
    from gradfit.table import Table, read

# Each name is imported when it is first asked for: `gradfit --help` must not wait 0.3 s for NumPy and sixty modules.
# No name is also a module's: `gradfit.fit` would be the module once anything had imported it.
_HOMES = {
    "DataError": "errors",
    "FormulaError": "errors",
    "GradfitError": "errors",
    "ModelError": "errors",
    "OptionError": "errors",
    "ShapeError": "errors",
    "fit": "fitting",
    "Loss": "loss",
    "ManyResult": "many",
    "fit_many": "many",
    "FitResult": "result",
    "Model": "reusable",
    "load": "saved",
    "curve_fit": "scipy_api",
    "Descent": "solve.descent",
    "LM": "solve.lm",
    "Table": "table",
    "read": "table",
}

__all__ = [
    "LM",
    "DataError",
    "Descent",
    "FitResult",
    "FormulaError",
    "GradfitError",
    "Loss",
    "ManyResult",
    "Model",
    "ModelError",
    "OptionError",
    "ShapeError",
    "Table",
    "__version__",
    "curve_fit",
    "fit",
    "fit_many",
    "load",
    "read",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"gradfit has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f"gradfit.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
