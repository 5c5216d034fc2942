"""The model library: ready-made models, each with a good guess of its start values."""

import difflib
from collections.abc import Mapping

from gradfit.errors import OptionError
from gradfit.library import growth, kinetics, lines, oscillations, peaks, sigmoids, steps
from gradfit.library.model import GROUPS, LibraryModel

_ROOMS = (lines, growth, peaks, sigmoids, kinetics, oscillations, steps)

#: name -> model, in the order of the groups
MODELS: Mapping[str, LibraryModel] = {model.name: model for room in _ROOMS for model in room.MODELS}


def find(name: str) -> LibraryModel:
    """Return the model of that name.

    Raises
    ------
    OptionError
        If there is none; with the nearest names.

    >>> find("line").formula
    'y = slope*x + intercept'
    """
    if name in MODELS:
        return MODELS[name]
    near = difflib.get_close_matches(str(name), list(MODELS), 3, cutoff=0.5)
    hint = f"The nearest are {', '.join(near)}" if near else f"There are {', '.join(MODELS)}"
    raise OptionError(f"The library has no model {name!r}.", remedy=hint)


__all__ = ["GROUPS", "MODELS", "LibraryModel", "find"]
