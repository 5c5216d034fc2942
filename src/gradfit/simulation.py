"""Data of a formula for which nobody has any: parameters that points determine, and noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit.errors import ModelError, OptionError
from gradfit.formula import parse
from gradfit.kernel import NumpyKernel
from gradfit.library import MODELS
from gradfit.model import BoundModel, bind_formula, nearest
from gradfit.solve.lockstep import numpy as lockstep
from gradfit.solve.lockstep.batch import CONVERGED, Batch, Cost, Settings

Array = NDArray[np.float64]

NOISE = 0.02  # of the range of y
OFF = 0.1  # how far start values are from the truth at most, relative; the truths of many fits half as far
MOVED = 0.2  # of the range of y, by which a start value changes the curve at most
RANGE = (0.0, 10.0)  # of x; its lower end is left out, for logarithms and powers
DRAWN = 4096  # sets of parameters that are looked at
TRIED = 24  # of them that are fitted
POINTS = 200  # that are looked at for this, at most
FITS = 32  # by which a set of parameters is tried
ENOUGH = 0.9  # of these have to end at the truth
PRIOR = 1e-4  # precision that all have, so that nothing is singular
FAR = 1.5  # decades from one; beyond, none is less plain
_BLOCK = 4096  # fits simulated at a time


@dataclass(frozen=True, eq=False)
class Simulation:
    """What data are made of.

    Attributes
    ----------
    model : BoundModel
        The formula with its names settled.
    truth, off : (k,)
        Parameters, and how far from them fits begin.
    noise : float
        Standard deviation.
    span : (float, float)
        Range of the inputs.
    """

    model: BoundModel
    truth: Array
    off: Array
    noise: float
    span: tuple[float, float]

    @property
    def start(self) -> Array:
        """Where fits begin (k,)."""
        return self.truth + self.off

    @property
    def begin(self) -> dict[str, float]:
        """The start values by name."""
        return dict(zip(self.model.parameters, self.start.tolist(), strict=True))

    def table(self, rows: int, seed: int = 0) -> dict[str, Array]:
        """Return the columns of one fit."""
        random = np.random.default_rng(seed)
        columns = inputs(self.model, rows, self.span)
        y = _kernel(self.model).value(columns, self.truth)
        y = y + self.noise * random.standard_normal(rows)
        return dict(zip((*self.model.inputs, self.model.response), (*columns, y), strict=True))

    def many(self, fits: int, points: int, seed: int = 0) -> dict[str, Array]:
        """Return the arrays of many fits: inputs (n,) that they share, and the response (m, n)."""
        random = np.random.default_rng(seed)
        columns = inputs(self.model, points, self.span)
        y = _observed(
            self.model, columns, self.truth, off=self.off, fits=fits, noise=self.noise, random=random
        )
        return dict(zip((*self.model.inputs, self.model.response), (*columns, y), strict=True))


def inputs(model: BoundModel, rows: int, span: tuple[float, float]) -> list[Array]:
    """Return the input columns, each (n,): evenly spaced one, several at random."""
    low, high = span
    if len(model.inputs) == 1:
        even = np.linspace(low, high, rows + (span == RANGE))
        return [even[-rows:].copy()]
    random = np.random.default_rng(1)
    return [random.uniform(low, high, rows) for _ in model.inputs]


def simulation(
    formula: str,
    columns: Sequence[str],
    *,
    points: int,
    start: Mapping[str, float] | None = None,
    span: tuple[float, float] | None = None,
    seed: int = 0,
) -> Simulation:
    """Return what data of a formula are made of.

    Parameters
    ----------
    formula : str
        As in `fit`, or the name of a library model: then its example's parameters, unless a range is given.
    columns : sequence of str
        Names in it that are data; the last one is observed where the formula has no left side.
    points : int
        Of a fit.
    start : mapping, optional
        True values of some parameters, or of all. The others are those that the points determine best, among draws as
        they are made for a search; near one where that leaves a choice.
    span : (float, float), optional
        Range of the inputs.
    seed : int
        Of the draws.

    Raises
    ------
    ModelError
        If no parameters are found that such data determine.
    OptionError
        If a value is given for what is no parameter, there are too few points, or the left side is more than a column.
    """
    known = MODELS.get(formula.strip())
    if known is not None:
        formula = known.formula
        if span is None:
            start, span = {**known.example, **(start or {})}, known.span
    model = _bound(formula, tuple(columns), points, start or {})
    given = np.array([(start or {}).get(name, np.nan) for name in model.parameters])
    span = RANGE if span is None else span
    seen = inputs(model, min(points, POINTS), span)
    if not np.isnan(given).any():
        return Simulation(model, given, *_scales(model, seen, given), span)
    for truth in _candidates(model, seen, given, span=span, seed=seed):
        made = Simulation(model, truth, *_scales(model, seen, truth), span)
        if _found_again(made, seen):
            return made
    raise ModelError(
        f"No parameters were found that {points} simulated points determine in {formula!r}",
        remedy=f"Give them: --start {','.join(f'{name}=1' for name in model.parameters)}, "
        "and the range of the inputs: --x 0:10",
    )


def _bound(formula: str, columns: tuple[str, ...], points: int, start: Mapping[str, float]) -> BoundModel:
    model = bind_formula(
        formula, columns, None if parse(formula).left else columns[-1], frozenset(start), "--columns"
    )
    if model.left is not None:
        raise OptionError(
            f"What is observed is simulated, and {model.response!r} is more than a column",
            remedy="Write the formula with the column alone on its left: y = exp(...), not log(y) = ...",
        )
    for name in start:
        if name not in model.parameters:
            raise OptionError(
                f"{name} is no parameter of {formula!r}", remedy=nearest(name, list(model.parameters))
            )
    if points <= len(model.parameters):
        raise OptionError(
            f"{points} points cannot determine {len(model.parameters)} parameters",
            remedy=f"Give --points {len(model.parameters) + 1} or more",
        )
    return model


def _kernel(model: BoundModel) -> NumpyKernel:
    kernel = model.kernel("numpy")
    assert isinstance(kernel, NumpyKernel)  # noqa: S101  every formula has a graph
    return kernel


def _scales(model: BoundModel, columns: list[Array], truth: Array) -> tuple[Array, float]:
    """Return how far off starts are (k,), and the noise, that go with these parameters.

    Raises
    ------
    ModelError
        If the model is not finite there.
    """
    with np.errstate(all="ignore"):
        y, jacobian = _kernel(model).value_jacobian(columns, truth)
        steepest = np.abs(jacobian).max(axis=0)
    if not (np.isfinite(y).all() and np.isfinite(steepest).all()):
        at = ", ".join(f"{n} = {v:g}" for n, v in zip(model.parameters, truth.tolist(), strict=True))
        low, high = min(c.min() for c in columns), max(c.max() for c in columns)
        raise ModelError(
            f"{model.text} is not finite everywhere between {low:g} and {high:g} at {at}",
            remedy="Give other values with --start, or another range with --x 1:5",
        )
    size = float(np.ptp(y) or np.abs(y).max() or 1.0)
    reach = np.divide(MOVED * size, steepest, out=np.full(len(truth), np.inf), where=steepest > 0)
    return np.minimum(OFF * np.abs(truth), reach), NOISE * size


def _candidates(
    model: BoundModel, columns: list[Array], given: Array, *, span: tuple[float, float], seed: int
) -> list[Array]:
    """Return sets of parameters of two digits, those first that the points determine best."""
    k = len(given)
    points = _drawn(k, span, seed)
    points[~np.isnan(given)] = given[~np.isnan(given), None]
    with np.errstate(all="ignore"):
        value, jacobian = _kernel(model).value_jacobian(columns, points[:, :, None])
        value = np.broadcast_to(value, (DRAWN, len(columns[0])))
        size = np.ptp(value, axis=1)
        slopes = np.moveaxis(np.broadcast_to(jacobian, (k, *value.shape)), 0, -1)
        unit = np.minimum(np.abs(points.T), size[:, None] / np.abs(slopes).max(axis=1))
        slopes = slopes * unit[:, None, :] / (NOISE * size)[:, None, None]
        gram = np.einsum("mni,mnj->mij", slopes, slopes)
        fine = np.isfinite(gram).all((1, 2)) & (size > 0)
        gram[~fine] = 0.0
        spread = np.linalg.inv(gram + PRIOR * np.eye(k))
        error = np.sqrt(np.diagonal(spread, axis1=1, axis2=2)).max(axis=1)
        plain = (np.abs(np.log10(np.abs(points))).clip(max=FAR) + (points < 0)).mean(axis=0)
        score = np.where(fine & (error > 0), np.log10(np.maximum(error, NOISE)) + plain / 3, np.inf)
    order = np.argsort(score, kind="stable")[:TRIED]
    return [points[:, i].copy() for i in order if np.isfinite(score[i])]


def _drawn(count: int, span: tuple[float, float], seed: int) -> Array:
    """Return parameters (k, m) whose roles are unknown: places, rates, widths, powers and sizes; a tenth negative.

    They have two digits, places of their distance from the lower end.
    """
    random = np.random.default_rng(seed)
    low, width = span[0], span[1] - span[0]
    size = (count, DRAWN)
    kinds = np.stack([
        low + _two_digits(width * random.random(size)),
        _two_digits(10 ** random.uniform(-0.5, 2, size) / width),
        _two_digits(10 ** random.uniform(-1.5, 0.5, size) * width),
        _two_digits(10 ** random.uniform(-0.5, 1, size)),
    ])  # fmt: skip
    values = np.take_along_axis(kinds, random.integers(len(kinds), size=(1, *size)), axis=0)[0]
    return np.where(random.random(size) < 0.1, -values, values)


def _two_digits(values: Array) -> Array:
    rounded = [float(f"{value:.2g}") for value in values.ravel().tolist()]
    return np.array(rounded).reshape(values.shape)


def _found_again(made: Simulation, columns: list[Array]) -> bool:
    """Return whether nearly all of a few fits end near the truth, and the data determine it."""
    truth, random = made.truth, np.random.default_rng(0)
    k = len(truth)
    y = _observed(made.model, columns, truth, off=made.off, fits=FITS, noise=made.noise, random=random)
    with np.errstate(all="ignore"):
        ends = lockstep.solve(
            _kernel(made.model), Batch(tuple(columns), y), np.repeat(made.start[None, :], FITS, axis=0),
            free=np.arange(k), lower=np.full(k, -np.inf), upper=np.full(k, np.inf), loss=Cost(), settings=Settings(),
        )  # fmt: skip
        near = np.abs(ends.parameters - truth) < 6 * ends.stderr + made.off
        known = ends.stderr < np.abs(truth)
    good = (ends.status == CONVERGED) & (near & known).all(axis=1)
    return float(good.mean()) >= ENOUGH


def _observed(
    model: BoundModel,
    columns: list[Array],
    truth: Array,
    *,
    off: Array,
    fits: int,
    noise: float,
    random: np.random.Generator,
) -> Array:
    """Return responses (m, n) of fits each of which has parameters of its own, nearer to the truth than starts are."""
    kernel, y = _kernel(model), np.empty((fits, len(columns[0])))
    for first in range(0, fits, _BLOCK):
        part = y[first : first + _BLOCK]
        own = truth[:, None] + off[:, None] * random.uniform(-0.5, 0.5, (len(truth), len(part)))
        with np.errstate(all="ignore"):
            part[:] = kernel.value(columns, own[:, :, None])
        part += np.float64(noise) * random.standard_normal(part.shape, dtype=np.float32)
    return y
