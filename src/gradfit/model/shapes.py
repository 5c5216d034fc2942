"""The shape of what a model returns: one value a row, or an error that shows how it would have been broadcast."""

import numpy as np
from numpy.typing import NDArray

from gradfit.broadcasting import Operand, join, step_lines
from gradfit.errors import ModelError, ShapeError

Array = NDArray[np.float64]


def one_value_a_row(value: object, rows: int, text: str, response: str) -> Array:
    """Return the model's value as (rows,), a lone number spread over them.

    Raises
    ------
    ModelError
        If it is no number, or a complex one.
    ShapeError
        If the shape is another one; the excerpt aligns it with the data's from the back.
    """
    array = _numbers(value, text)
    if array.shape == (rows,):
        return array
    if array.ndim == 0:
        return np.full(rows, float(array))
    error = shape_error(text, array.shape, rows, response)
    raise error


def _numbers(value: object, text: str) -> Array:
    """Return what a model gave as float64.

    Raises
    ------
    ModelError
        If it is no number, or a complex one.
    """
    try:
        seen = np.asarray("None" if value is None else value)  # of None itself NumPy would make NaN
        numbers = None if seen.dtype.kind == "c" else seen.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{text} returned {_described(value)}, not numbers", remedy="Return one number for each row"
        ) from error
    if numbers is None:
        raise ModelError(f"{text} returned complex numbers", remedy="Return real ones: np.abs(z), z.real ...")
    return numbers


def _described(value: object) -> str:
    if value is None:
        return "None"
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def shape_error(text: str, seen: tuple[int, ...], rows: int, response: str) -> ShapeError:
    """Return the error for a model of the wrong shape: both shapes aligned, and the rule that would have joined them."""
    try:
        step = join([Operand("model", seen), Operand(response, (rows,))])
    except ShapeError as refused:
        message = f"{text} returned shape {seen} for {rows} rows; it must return ({rows},)"
        return ShapeError(message, excerpt=refused.excerpt, remedy="Return one value a row")
    remedy = "Return one value a row"
    if seen[-1] == 1:
        remedy = "End the model with .squeeze(-1)" if len(seen) > 1 else "Return a number, or one value a row"
    elif seen == (1, rows):
        remedy = "End the model with .squeeze(0)"
    return ShapeError(
        f"{text} returned shape {seen} for {rows} rows; it must return ({rows},). Against {response} it would silently "
        f"broadcast to {step.result}",
        excerpt="\n".join(line for kind, line in step_lines(step, "joined") if kind != "note"),
        remedy=remedy,
    )
