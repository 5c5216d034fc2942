"""Values as JSON has them, and back.

A summary writes null for what is no finite number: an error bar that does not exist, an open bound, an interval without
an end. A saved fit must tell them apart: there null is NaN, and "inf" and "-inf" are the infinities.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, is_dataclass
from numbers import Integral, Real
from typing import TypeGuard

import numpy as np
from numpy.typing import ArrayLike

from gradfit.loss import Loss
from gradfit.saved.json_parts import is_list, is_object

FEW = 100  # values of an array that are kept among the settings
ARRAY, LOSS, UNSAVED = "NumPy array", "gradfit loss", "not saved"  # blanks: no parameter has such a name

#: what fit takes when an argument is left out
DEFAULTS: Mapping[str, object] = {
    "missing": "error", "loss": "squared", "solver": "lm", "executor": "auto", "level": 0.95, "seed": 0,
}  # fmt: skip


def is_several(value: object) -> TypeGuard[Sequence[object]]:
    """Whether a value is a sequence of values."""
    return isinstance(value, Sequence | np.ndarray)


def is_mapping(value: object) -> TypeGuard[Mapping[object, object]]:
    """Whether a value maps names to values."""
    return isinstance(value, Mapping)


def finite(value: float) -> float | None:
    """Return a number, None where it is not finite.

    >>> finite(2.5), finite(float("inf"))
    (2.5, None)
    """
    return float(value) if math.isfinite(value) else None


def finite_rows(array: ArrayLike) -> list[object]:
    """Return an array as nested lists with None for what is not finite."""
    values = np.asarray(array, dtype=np.float64)
    plain = values.astype(object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


def exact(value: float) -> float | str | None:
    """Return a number as a saved fit writes it.

    >>> exact(2.5), exact(float("nan")), exact(-float("inf"))
    (2.5, None, '-inf')
    """
    if math.isnan(value):
        return None
    return float(value) if math.isfinite(value) else str(float(value))


def exact_rows(array: ArrayLike) -> list[object]:
    """Return an array as nested lists, each number as `exact` writes it; whole numbers and truth values as they are."""
    values = np.asarray(array)
    if values.dtype.kind != "f" or np.isfinite(values).all():
        return values.tolist()
    plain = values.astype(object)
    plain[np.isnan(values)] = None
    plain[np.isposinf(values)] = "inf"
    plain[np.isneginf(values)] = "-inf"
    return plain.tolist()


def evidence(facts: Mapping[str, object], *, lossless: bool) -> dict[str, object]:
    """Return the numbers behind a finding."""
    number = exact if lossless else finite

    def plain(fact: object) -> object:
        if isinstance(fact, bool | str | int) or fact is None:
            return fact
        if isinstance(fact, Real):
            return number(float(fact))
        return [plain(part) for part in fact] if is_several(fact) else str(fact)

    return {name: plain(fact) for name, fact in facts.items()}


# ---------------------------------------------------------------------------- the arguments of fit


@dataclass(frozen=True)
class Unsaved:
    """Stands for an argument that a file does not hold: a long array, a function, an optimizer.

    Attributes
    ----------
    text : str
        What it was.
    """

    text: str


def given(settings: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments of fit that were given and are not the defaults."""
    return {
        name: value
        for name, value in settings.items()
        if value is not None
        and name != "callback"
        and not (isinstance(value, str | int | float) and DEFAULTS.get(name) == value)
    }


def setting(value: object, *, lossless: bool) -> object:
    """Return an argument of fit as JSON; what is no number, text, mapping or short list is described.

    With `lossless`, what would look like something else when it is read again is tagged.
    """
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return (exact if lossless else finite)(float(value))
    return _composed(value, lossless=lossless)


def _composed(value: object, *, lossless: bool) -> object:
    if is_mapping(value):
        return {str(name): setting(part, lossless=lossless) for name, part in value.items()}
    if isinstance(value, Loss):
        return {LOSS: value.name, "scale": value.scale} if lossless else str(value)
    if isinstance(value, np.ndarray) and value.size <= FEW and value.dtype.kind in "fiub":
        numbers = value.astype(np.float64)
        return {ARRAY: exact_rows(numbers)} if lossless else finite_rows(numbers)
    if is_several(value) and len(value) <= FEW:
        return [setting(part, lossless=lossless) for part in value]
    return {UNSAVED: _described(value)} if lossless else _described(value)


def _described(value: object) -> str:
    if isinstance(value, Unsaved):
        return value.text
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    name = getattr(value, "__name__", "")
    text = repr(value) if is_dataclass(value) else ""
    return name or (text if 0 < len(text) <= FEW else f"a value of type {type(value).__name__}")


def setting_again(plain: object) -> object:
    """Return an argument of fit from what `setting` wrote without loss."""
    if is_list(plain):
        return tuple(setting_again(part) for part in plain)
    if is_object(plain):
        return _tagged(plain)
    return float(str(plain)) if plain in ("inf", "-inf") else plain


def _tagged(tagged: dict[str, object]) -> object:
    if UNSAVED in tagged:
        return Unsaved(str(tagged[UNSAVED]))
    if ARRAY in tagged:
        return np.array(tagged[ARRAY], dtype=np.float64)
    if LOSS in tagged:
        scale = tagged.get("scale")
        return Loss(str(tagged[LOSS]), float(scale) if isinstance(scale, int | float) else None)
    return {name: setting_again(part) for name, part in tagged.items()}
