"""Options of the command line as arguments of `gradfit.fit`."""

from collections.abc import Sequence
from math import isnan

from gradfit.errors import OptionError

Pair = tuple[float | None, float | None]
_WORDS = {"true": True, "false": False, "none": None}
_MINUS = str.maketrans({"−": "-", "–": "-"})


def start_of(texts: Sequence[str]) -> str | dict[str, float] | list[float]:
    """Return start values: by name, in order, or "search".

    Raises
    ------
    OptionError
        If one is neither name=number nor a number.

    Examples
    --------
    >>> start_of(["a=1,b=2e-3"]), start_of(["1,2"]), start_of(["a=1", "search"])
    ({'a': 1.0, 'b': 0.002}, [1.0, 2.0], 'search')
    """
    if texts[-1].strip() == "search":
        return "search"
    parts = [part for part in _parts(texts) if part != "search"]
    if not any("=" in part for part in parts):
        return [_number(part, "--start", "--start a=1,b=2, or --start search") for part in parts]
    return numbers_by_name(parts, "--start")


def numbers_by_name(texts: Sequence[str], option: str) -> dict[str, float]:
    """Return numbers by name.

    Raises
    ------
    OptionError
        If one is not name=number.

    Examples
    --------
    >>> numbers_by_name(["a=1,b=-2", "a=3"], "--fix")
    {'a': 3.0, 'b': -2.0}
    """
    return {
        name: _number(value, f"{option} {name}", f"{option} {name}=1.5")
        for name, value in _pairs(texts, option)
    }


def values_of(texts: Sequence[str], option: str) -> dict[str, float | str]:
    """Return by name a number, or what may be the name of a column.

    Raises
    ------
    OptionError
        If one is not name=value.

    Examples
    --------
    >>> values_of(["a=1,b=height"], "--start")
    {'a': 1.0, 'b': 'height'}
    """
    return {
        name: value if value.isidentifier() else _number(value, f"{option} {name}", f"{option} {name}=1.5")
        for name, value in _pairs(texts, option)
    }


def bounds_of(texts: Sequence[str]) -> dict[str, Pair]:
    """Return bounds by name, None for an open end.

    Raises
    ------
    OptionError
        If one is not name=lower:upper.

    Examples
    --------
    >>> bounds_of(["a=0:10,b=:5", "c=:"])
    {'a': (0.0, 10.0), 'b': (None, 5.0), 'c': (None, None)}
    """
    out: dict[str, Pair] = {}
    for name, value in _pairs(texts, "--bounds"):
        ends = value.split(":")
        if len(ends) != 2:
            raise OptionError(
                f"--bounds {name}={value} does not say between what",
                remedy=f"Write --bounds {name}=0:10, {name}=0: or {name}=:10",
            )
        low, high = (
            _number(end, f"--bounds {name}", f"--bounds {name}=0:10") if end.strip() else None for end in ends
        )
        out[name] = (low, high)
    return out


def row_numbers(texts: Sequence[str]) -> list[int]:
    """Return row numbers.

    Raises
    ------
    OptionError
        If one is no whole number from 1 up.

    Examples
    --------
    >>> row_numbers(["3,17", "4"])
    [3, 17, 4]
    """
    out: list[int] = []
    for part in _parts(texts):
        if not part.isdecimal() or len(part) > 15 or int(part) < 1:
            raise OptionError(
                f"--exclude takes row numbers from 1 up, and {part!r} is none", remedy="Write --exclude 3,17"
            )
        out.append(int(part))
    return out


def held_out_of(text: str) -> float | str | list[int]:
    """Return which rows to hold out: a share, row numbers, or what names a column or a file.

    Examples
    --------
    >>> held_out_of("0.2"), held_out_of("3,17"), held_out_of("test.csv")
    (0.2, [3, 17], 'test.csv')
    """
    parts = _parts([text])
    if len(parts) > 1 and all(part.isdecimal() for part in parts):
        return [int(part) for part in parts]
    try:
        return float(text.translate(_MINUS))
    except ValueError:
        return text


def optimizer_settings(texts: Sequence[str]) -> dict[str, object]:
    """Return settings of an optimizer by torch's names, those of its scheduler among them.

    Raises
    ------
    OptionError
        If one is not name=value.

    Examples
    --------
    >>> optimizer_settings(["momentum=0.9,nesterov=true", "betas=0.9:0.99", "scheduler.step_size=100"])
    {'momentum': 0.9, 'nesterov': True, 'betas': (0.9, 0.99), 'scheduler_settings': {'step_size': 100}}
    """
    out: dict[str, object] = {}
    schedule: dict[str, object] = {}
    for name, value in _pairs(texts, "--set"):
        parts = [_value(part.strip()) for part in value.split(":")]
        whole = parts[0] if len(parts) == 1 else tuple(parts)
        if name.startswith("scheduler."):
            schedule[name.removeprefix("scheduler.")] = whole
        else:
            out[name] = whole
    return {**out, "scheduler_settings": schedule} if schedule else out


def rate_of(text: str) -> float | str:
    """Return a learning rate as a number, or "auto".

    Raises
    ------
    OptionError
        If it is neither.

    Examples
    --------
    >>> rate_of("1e-3"), rate_of("auto")
    (0.001, 'auto')
    """
    return text if text == "auto" else _number(text, "--lr", "--lr 0.01, or --lr auto")


def noise_of(text: str) -> float | str | dict[str, float]:
    """Return noise on the inputs: a number for all, numbers by name, or "auto".

    Raises
    ------
    OptionError
        If it is none of these.

    Examples
    --------
    >>> noise_of("0.1"), noise_of("x=0.1,z=0.2"), noise_of("auto")
    (0.1, {'x': 0.1, 'z': 0.2}, 'auto')
    """
    if "=" in text:
        return numbers_by_name([text], "--noise")
    return text if text == "auto" else _number(text, "--noise", "--noise 0.1, --noise x=0.1 or --noise auto")


def condition(texts: Sequence[str]) -> str:
    """Return several row filters as one.

    >>> condition(["x > 0"]), condition(["x > 0", "y < 9 or z == 1"])
    ('x > 0', '(x > 0) and (y < 9 or z == 1)')
    """
    return texts[0] if len(texts) == 1 else " and ".join(f"({text})" for text in texts)


def names_in(text: str) -> tuple[str, ...]:
    """Return names that commas part.

    >>> names_in("x, y")
    ('x', 'y')
    """
    return tuple(_parts([text]))


def _parts(texts: Sequence[str]) -> list[str]:
    return [part.strip() for text in texts for part in text.split(",") if part.strip()]


def _pairs(texts: Sequence[str], option: str) -> list[tuple[str, str]]:
    out: list[tuple[str, str]] = []
    for part in _parts(texts):
        name, equals, value = part.partition("=")
        if not equals or not name.strip() or not value.strip():
            raise OptionError(
                f"{option} takes name=value, and {part!r} is not that", remedy=f"Write {_EXAMPLES[option]}"
            )
        out.append((name.strip(), value.strip()))
    return out


_EXAMPLES = {
    "--start": "--start a=1,b=2, or --start search",
    "--fix": "--fix c=3",
    "--noise": "--noise 0.1, --noise x=0.1,z=0.2, or --noise auto",
    "--bounds": "--bounds a=0:10,b=:5",
    "--set": "--set momentum=0.9,weight_decay=1e-3",
}


def _number(text: str, what: str, example: str) -> float:
    try:
        number = float(text.translate(_MINUS))
    except ValueError:
        number = float("nan")
    if isnan(number):
        raise OptionError(f"{what} must be a number, and is {text!r}", remedy=f"Write {example}")
    return number


def _value(text: str) -> object:
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text.translate(_MINUS))
        except ValueError:
            continue
    return text
