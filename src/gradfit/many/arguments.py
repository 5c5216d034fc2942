"""What fit_many was told, understood: where the fits come from, which names are what, how each begins."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from gradfit.binding import bind
from gradfit.errors import DataError, OptionError
from gradfit.formula import parse
from gradfit.library import MODELS
from gradfit.loss import Loss
from gradfit.many.executors import DTYPES
from gradfit.many.groups import grouped
from gradfit.many.rows import Source, even_places
from gradfit.many.stack import Stack, stacked
from gradfit.model import BoundModel
from gradfit.options import loss_of
from gradfit.prepare import attached, chosen_rows
from gradfit.table import Table, read

EXAMPLES = 1000  # of the start values that are looked at for a typical one


@dataclass(frozen=True)
class Spread:
    """What is known of the precision of points.

    Attributes
    ----------
    sigma, weights : object
        As given to fit_many; one of them at most.
    """

    sigma: object = None
    weights: object = None

    def __post_init__(self) -> None:
        if self.sigma is not None and self.weights is not None:
            raise OptionError(
                "Give sigma= or weights=, not both",
                remedy="sigma are standard deviations in the unit of the response, weights count as 1/sigma**2 up to a "
                "factor",
            )

    @property
    def absolute(self) -> bool:
        """Whether standard deviations are known."""
        return self.sigma is not None

    @property
    def given(self) -> object:
        """What was given of the two, None where nothing was."""
        return self.weights if self.sigma is None else self.sigma


def checked(
    missing: str, max_iterations: int, seed: int, threads: int | None, *, dtype: str = "float64"
) -> None:
    """Return when these options make sense.

    Raises
    ------
    OptionError
        If one does not.
    """
    if missing not in ("drop", "error"):
        raise OptionError(
            f"missing={missing!r} is not an option", remedy='Use missing="drop" or missing="error"'
        )
    if dtype not in DTYPES:
        raise OptionError(
            f"dtype={dtype!r} is not an option", remedy='Use dtype="float64" or dtype="float32"'
        )
    least = {"max_iterations": (max_iterations, 1), "seed": (seed, 0), "threads": (threads, 1)}
    for name, (value, low) in least.items():
        if value is not None and (isinstance(value, bool) or value != int(value) or value < low):
            raise OptionError(f"{name} must be a whole number from {low} up, and is {value!r}")


def cost_of(loss: str | Loss, spread: Spread) -> tuple[Loss, bool]:
    """Return the loss of residuals, and whether they are counts, which are fitted by maximum likelihood.

    Raises
    ------
    OptionError
        If there is no such loss, or sigma is given for counts.
    """
    chosen = loss_of(loss)
    if not chosen.counts:
        return chosen, False
    if spread.absolute:
        raise OptionError(
            'loss="poisson" takes the precision of counts from the model, so sigma= has no place',
            remedy="Leave sigma= out",
        )
    return Loss(), True


def source_of(
    model: object,
    data: object,
    *,
    by: str | Sequence[str] | None,
    axis: int | Sequence[int] | None,
    response: str | None,
    spread: Spread,
    where: str | None,
) -> Source:
    """Return where the fits come from.

    Raises
    ------
    DataError
        If the data cannot be understood.
    OptionError
        If an argument does not fit to the others.
    """
    if by is None:
        named = _observed(model, data) if response is None else response
        return stacked(
            data, response=named, axis=axis, spread=spread.given, absolute=spread.absolute, where=where
        )
    if axis is not None:
        raise OptionError("axis= is for arrays, and by= for tables", remedy="Leave one of them out")
    table, covariance = attached(read(data), spread.sigma, spread.weights)
    if covariance is not None:
        raise OptionError(
            "sigma= as a matrix is for one fit",
            remedy="Give a column, or one standard deviation for each row",
        )
    table = table if where is None else chosen_rows(table, where, None)
    kept = next((name for name in table.columns if name.startswith("\0")), None)
    return grouped(_coded(model, table), by, spread=kept, absolute=spread.absolute)


def _observed(model: object, data: object) -> str | None:
    """Return the array that a formula's left side names.

    Raises
    ------
    DataError
        If there is none of that name.
    """
    if not isinstance(model, str) or "=" not in model:
        return None
    left = parse(model).left
    names = [] if left is None else list(left.names)
    if not isinstance(data, Mapping):
        return names[0] if names else None
    held = [name for name in names if name in data]
    if left is not None and not held:
        raise DataError(
            f"There is no array {names[0] if names else left.text}",
            remedy=f"There are {', '.join(str(name) for name in data)}",
        )
    return held[0] if held else None


def _coded(model: object, table: Table) -> Table:
    """Return the table with codes in the text columns that a formula compares with a piece of text."""
    if isinstance(model, str) and ('"' in model or "'" in model):
        for name in parse(model).right.compared:
            table = table.coded(name) if name in table.columns else table
    return table


def bound_to(
    model: object,
    source: Source,
    response: str | None,
    *,
    start: object,
    bounds: object,
    fixed: Mapping[str, object] | None,
) -> BoundModel:
    """Return the model with its names settled on some of the rows."""
    sample = source.sample
    formula = isinstance(model, str) and not model.strip().isidentifier()
    if not formula and isinstance(source, Stack):
        response = response or source.response
    if not formula:
        unwanted = set(source.keys) | _columns_in(start) | _columns_in(fixed)
        if isinstance(model, str) and isinstance(source, Stack):
            unwanted |= {name for name, kind in source.kinds.items() if kind == "fit"}
        kept = {name: values for name, values in sample.columns.items() if name not in unwanted}
        sample = replace(sample, columns=kept)
    named: list[str] = []
    for part in (start, bounds, fixed):
        if isinstance(part, Mapping):
            named += [str(name) for name in cast("Mapping[object, object]", part)]
    return bind(
        model, sample, response, start=_example(source, start), named=frozenset(named), missing="drop"
    )


def _columns_in(values: object) -> set[str]:
    if not isinstance(values, Mapping):
        return set()
    held = cast("Mapping[object, object]", values)
    return {value for value in held.values() if isinstance(value, str)}


def _example(source: Source, start: object) -> object:
    """Return start values of one fit, for tracing a function."""
    if not isinstance(start, Mapping):
        return start
    out: dict[str, float] = {}
    for name, value in cast("Mapping[object, object]", start).items():
        values = source.of_fits(value) if isinstance(value, str) else value
        numbers = np.asarray(1.0 if values is None else values, dtype=np.float64).reshape(-1)
        numbers = numbers[even_places(len(numbers), EXAMPLES)] if len(numbers) else numbers
        fine = numbers[np.isfinite(numbers)]
        out[str(name)] = float(np.median(fine)) if fine.size else 1.0
    return out


def scalars(values: object) -> dict[str, float]:
    """Return those of the named values that are one number for all fits."""
    if not isinstance(values, Mapping):
        return {}
    held = cast("Mapping[object, object]", values)
    return {str(k): cast("float", v) for k, v in held.items() if not isinstance(v, str) and np.ndim(v) == 0}  # pyright: ignore[reportArgumentType]  # whatever was given


def library_name(model: object) -> str:
    """Return the name of the library model that was meant, empty where none was."""
    return model.strip() if isinstance(model, str) and model.strip() in MODELS else ""
