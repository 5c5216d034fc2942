"""Start values and bounds, in every form that callers write them, as arrays."""

from collections.abc import Mapping, Sequence
from math import isfinite, nan

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import OptionError
from gradfit.model import nearest
from gradfit.notation import count

Array = NDArray[np.float64]


def place_of(names: Sequence[str], name: str, argument: str) -> int:
    """Return the place of a parameter.

    Raises
    ------
    OptionError
        If the model has none of that name; `argument` is what named it.
    """
    if name not in names:
        raise OptionError(
            f"{argument}= names {name}, which is no parameter of the model", remedy=nearest(name, list(names))
        )
    return list(names).index(name)


def number(value: object, name: str, argument: str) -> float:
    """Return the value that was given for a parameter.

    Raises
    ------
    OptionError
        If it is no finite number.
    """
    if type(value) is float and isfinite(value):
        return value
    if isinstance(value, bool | str) or not hasattr(value, "__float__"):
        raise OptionError(f"{argument}= of {name} must be a number, and is {value!r}")
    number = float(value)  # pyright: ignore[reportArgumentType]  # has __float__
    if not isfinite(number):
        raise OptionError(f"{argument}= of {name} must be finite, and is {number}")
    return number


def start_values(names: Sequence[str], start: object, defaults: Mapping[str, float]) -> Array:
    """Return start values (k,), NaN where there is none.

    Raises
    ------
    OptionError
        If a name is no parameter, a value no finite number, or their number is wrong.
    """
    if start is None or isinstance(start, str):
        return np.array([defaults.get(name, nan) for name in names])
    if isinstance(start, Mapping):
        values = {**dict.fromkeys(names, nan), **defaults}
        for name, value in start.items():
            if name not in values:
                name = names[place_of(names, str(name), "start")]
            values[name] = number(value, name, "start")
        return np.array(list(values.values()))
    given = np.atleast_1d(np.asarray(start, dtype=np.float64))
    if given.shape != (len(names),):
        raise OptionError(
            f"start= has {given.size} values, and the model has {count(len(names), 'parameter')}: {', '.join(names)}"
        )
    return np.array([number(v, n, "start") for n, v in zip(names, given, strict=True)])


def bounds_of(names: Sequence[str], bounds: object) -> tuple[Array, Array]:
    """Return lower and upper bounds, (k,) each, infinite where there is none.

    Raises
    ------
    OptionError
        If a name is no parameter, or bounds are reversed or not understood.
    """
    k = len(names)
    lower, upper = np.full(k, -np.inf), np.full(k, np.inf)
    if bounds is None:
        return lower, upper
    if isinstance(bounds, Mapping):
        for name, pair in bounds.items():
            j = place_of(names, str(name), "bounds")
            lower[j], upper[j] = _pair(pair, str(name))
    else:
        lower, upper = _sequences(names, bounds)
    for name, low, high in zip(names, lower, upper, strict=True):
        if np.isnan(low) or np.isnan(high) or low > high:
            raise OptionError(
                f"The bounds of {name} are reversed: {low:g} to {high:g}",
                remedy="Write them as (lower, upper)",
            )
    return lower, upper


def _pair(pair: object, name: str) -> tuple[float, float]:
    if pair is None:
        return -np.inf, np.inf
    ends = list(pair) if isinstance(pair, Sequence | np.ndarray) and not isinstance(pair, str) else []
    if len(ends) != 2:
        raise OptionError(
            f"bounds= of {name} must be (lower, upper), with None for an open end, and is {pair!r}"
        )
    low, high = ends
    return (-np.inf if low is None else float(low)), (np.inf if high is None else float(high))


def _sequences(names: Sequence[str], bounds: object) -> tuple[Array, Array]:
    """Return bounds in either of SciPy's forms: ([lower, ...], [upper, ...]) and [(lower, upper), ...].

    Raises
    ------
    OptionError
        If it is neither.
    """
    k = len(names)
    parts = list(bounds) if isinstance(bounds, Sequence | np.ndarray) else []
    pairs = len(parts) == k and all(isinstance(p, Sequence | np.ndarray) and len(p) == 2 for p in parts)
    if pairs and not (k == 2 and not isinstance(bounds, list)):
        both = [_pair(p, n) for p, n in zip(parts, names, strict=True)]
        return np.array([b[0] for b in both]), np.array([b[1] for b in both])
    if len(parts) == 2:
        try:
            return tuple(np.broadcast_to(np.asarray(p, dtype=np.float64), (k,)).copy() for p in parts)  # pyright: ignore[reportReturnType]  # two
        except ValueError:
            pass
    raise OptionError(
        f"bounds= does not fit the {count(k, 'parameter')} {', '.join(names)}",
        remedy='Write bounds={"a": (0, None)}, or ([lower, ...], [upper, ...])',
    )


def put_inside(
    names: Sequence[str], values: Array, lower: Array, upper: Array, *, held: NDArray[np.bool_]
) -> None:
    """Put values (k,), in place, that are outside their bounds by no more than rounding back onto them.

    Raises
    ------
    OptionError
        If one is further outside; `held` says which are no start values but fixed.
    """
    slack = 1e-12 * np.maximum(1.0, np.abs(values))
    for j, name in enumerate(names):
        if np.isnan(values[j]):
            continue
        if values[j] < lower[j] - slack[j] or values[j] > upper[j] + slack[j]:
            what = "fixed value" if held[j] else "start value"
            raise OptionError(
                f"The {what} of {name}, {values[j]:g}, lies outside its bounds {lower[j]:g} to {upper[j]:g}",
                remedy="Move the start inside, or widen the bounds",
            )
    inside = ~np.isnan(values)
    values[inside] = np.clip(values[inside], lower[inside], upper[inside])
