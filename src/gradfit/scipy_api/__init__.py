"""curve_fit() as SciPy has it."""

from gradfit.scipy_api.fit import curve_fit

__all__ = ["curve_fit"]
