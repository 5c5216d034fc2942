"""Least squares on one or two columns and a constant, for many candidates at once."""

from collections.abc import Mapping, Sequence

import numpy as np

from gradfit.library.curve import Array

Columns = tuple[Array, ...]
Pair = tuple[Array, Array]

_ALIKE = 1e-9  # 1 - r² below which two columns count as one


def centred(columns: Columns, v: Array, *, offset: bool) -> tuple[Columns, Array]:
    """Return the columns (g, m) and v (m,) without their means if a constant is fitted too, else as they are."""
    if not offset:
        return columns, v
    return tuple(column - column.mean(axis=-1, keepdims=True) for column in columns), v - v.mean()


def coefficients(columns: Columns, v: Array) -> Columns:
    """Return the coefficients (g,) of least squares of v (m,) on one or two columns (g, m)."""
    seen = [column @ v for column in columns]
    size = [np.einsum("gm,gm->g", column, column) for column in columns]
    if len(columns) == 1:
        return (np.where(size[0] > 0, seen[0] / size[0], 0.0),)
    cross = np.einsum("gm,gm->g", columns[0], columns[1])
    return two_coefficients((size[0], size[1]), cross, (seen[0], seen[1]), alike=_ALIKE)


def two_coefficients(size: Pair, cross: Array, seen: Pair, *, alike: float) -> Pair:
    """Return the coefficients of two columns from inner products; of the first alone when the columns are alike.

    Parameters
    ----------
    size : (Array, Array)
        (g,) products of each column with itself.
    cross : Array
        (g,) products of the two.
    seen : (Array, Array)
        (g,) products of each with v.
    alike : float
        The least 1 - r² of the two.
    """
    determinant = size[0] * size[1] - cross**2
    apart = determinant > alike * size[0] * size[1]
    first = (seen[0] * size[1] - seen[1] * cross) / determinant
    second = (seen[1] * size[0] - seen[0] * cross) / determinant
    alone = np.where(size[0] > 0, seen[0] / size[0], 0.0)
    return np.where(apart, first, alone), np.where(apart, second, 0.0)


def losses(columns: Columns, v: Array, *, offset: bool) -> Array:
    """Return the residual sums (g,) of v (m,) on the columns (g, m), infinite where a column is not finite."""
    columns, v = centred(columns, v, offset=offset)
    explained = np.zeros(len(columns[0]))
    for c, column in zip(coefficients(columns, v), columns, strict=True):
        explained += c * (column @ v)
    loss = v @ v - explained
    return np.where(np.isfinite(loss), loss, np.inf)


def misfits(columns: Columns, v: Array, *, offset: bool) -> Array:
    """Return the residuals (g, m) of v (m,) on the columns (g, m)."""
    columns, v = centred(columns, v, offset=offset)
    out = v
    for c, column in zip(coefficients(columns, v), columns, strict=True):
        out = out - c[:, None] * column
    return out


def solved(columns: Sequence[Array], v: Array, *, offset: bool) -> Array:
    """Return the coefficients of v (m,) on the columns (m,), then the constant; the shortest if many are as good."""
    matrix = np.stack([*columns, np.ones_like(v)] if offset else columns, axis=1)
    size = np.linalg.norm(matrix, axis=0)
    size = np.where((size > 0) & np.isfinite(size), size, 1.0)
    matrix = np.nan_to_num(matrix / size, posinf=0.0, neginf=0.0)
    return np.linalg.lstsq(matrix, v, rcond=None)[0] / size


def finite(values: Mapping[str, float]) -> dict[str, float]:
    """Return the values as floats, those beyond 1e300 as ±1e300 and those that are no number as 0."""
    return {name: float(np.nan_to_num(np.clip(value, -1e300, 1e300))) for name, value in values.items()}
