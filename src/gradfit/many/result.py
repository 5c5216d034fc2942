"""The result of many fits: one array for each number that a single fit has."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import polars, special, stage
from gradfit.diagnose import Finding
from gradfit.errors import OptionError
from gradfit.fitting import fit
from gradfit.loss import Loss
from gradfit.many.rows import Array, Source
from gradfit.model import BoundModel, nearest
from gradfit.notation import count
from gradfit.parameter import checked_level
from gradfit.prepare import Parameters
from gradfit.result import FitResult
from gradfit.solve.lockstep.batch import CONVERGED, STATUS, Ends

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # noqa: TID251  only the names of types

_WORDS = np.array(STATUS)


@dataclass(frozen=True, eq=False)
class ManyParameter:
    """One parameter of all fits; arrays have one value a fit, in the layout of the fits.

    Attributes
    ----------
    name : str
        As in the formula.
    value : array
        Best values; NaN where a fit could not be made.
    stderr : array
        Standard errors; NaN for a parameter that was fixed, sits on a bound, or is not determined.
    fixed : bool
        Whether it was held at its value.
    bounds : (float, float)
        Limits, infinite where there is none.
    dof : array of int
        Degrees of freedom.
    level : float
        Of the interval when none is given.
    """

    name: str
    value: Array
    stderr: Array
    fixed: bool
    bounds: tuple[float, float]
    dof: NDArray[np.int64]
    level: float

    @property
    def at_bound(self) -> NDArray[np.bool_]:
        """Which fits ended on one of the bounds."""
        low, high = self.bounds
        width = high - low if np.isfinite(high - low) else 1 + np.abs(self.value)
        with np.errstate(invalid="ignore"):
            return ~np.array(self.fixed) & (
                (self.value - low <= 1e-9 * width) | (high - self.value <= 1e-9 * width)
            )

    def interval(self, level: float | None = None) -> tuple[Array, Array]:
        """Return both ends of the two-sided intervals by Student's t; NaN without a standard error."""
        level = checked_level(self.level if level is None else level)
        with np.errstate(invalid="ignore"):
            t = special.stdtrit(np.where(self.dof > 0, self.dof, np.nan), 0.5 + level / 2)
        return self.value - t * self.stderr, self.value + t * self.stderr


class ManyParameters(Mapping[str, ManyParameter]):
    """The parameters of many fits by name; a wrong name is answered with the right ones."""

    def __init__(self, held: Mapping[str, ManyParameter]) -> None:
        self._held = held

    def __getitem__(self, name: str) -> ManyParameter:
        if name not in self._held:
            raise KeyError(f"{name} is no parameter of these fits; they are {', '.join(self._held)}")
        return self._held[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._held)

    def __len__(self) -> int:
        return len(self._held)


@dataclass(frozen=True, eq=False)
class ManyResult:
    """Many fits of one model. Arrays have one value a fit, in the layout of the fits: (m,), or (height, width) of pixels.

    Attributes
    ----------
    model : BoundModel
        The model with its names settled.
    source : Source
        Where the fits come from.
    settled : Parameters
        Bounds and what is free.
    fixed : mapping of str to (m,)
        Values of fixed parameters.
    ends : Ends
        Where each fit ended, one row a fit.
    missing : array of int
        Points of each fit that were left out because they hold no number.
    loss_used : Loss
        The loss of residuals.
    counts : bool
        Whether the deviance of counts was made small instead.
    absolute : bool
        Whether sigma was given.
    executor : str
        What ran the fits.
    how : tuple of str
        How start values were found.
    """

    model: BoundModel
    source: Source
    settled: Parameters
    fixed: Mapping[str, Array]
    ends: Ends
    missing: NDArray[np.int64]
    loss_used: Loss
    counts: bool
    absolute: bool
    level: float
    executor: str
    how: tuple[str, ...]
    max_iterations: int
    seconds: float

    def __len__(self) -> int:
        return prod(self.shape)

    @property
    def shape(self) -> tuple[int, ...]:
        """How the fits are laid out."""
        return self.source.shape

    @property
    def keys(self) -> Mapping[str, NDArray[Any]]:
        """The group columns, one value a fit; empty where fits have numbers only."""
        return self.source.keys

    @property
    def formula(self) -> str:
        """The formula as written, or the function's name and arguments."""
        return self.model.text

    def _laid_out(self, values: NDArray[Any]) -> NDArray[Any]:
        return values.reshape(self.shape)

    @cached_property
    def params(self) -> ManyParameters:
        """The parameters by name, each with arrays of one value a fit."""
        free = set(self.settled.free.tolist())
        out: dict[str, ManyParameter] = {}
        for j, name in enumerate(self.model.parameters):
            out[name] = ManyParameter(
                name=name,
                value=self._laid_out(self.ends.parameters[:, j]),
                stderr=self._laid_out(self.ends.stderr[:, j]),
                fixed=j not in free,
                bounds=(float(self.settled.lower[j]), float(self.settled.upper[j])),
                dof=self.dof,
                level=self.level,
            )
        return ManyParameters(out)

    @property
    def values(self) -> dict[str, Array]:
        """Parameter values by name."""
        return {name: p.value for name, p in self.params.items()}

    @property
    def errors(self) -> dict[str, Array]:
        """Standard errors by name."""
        return {name: p.stderr for name, p in self.params.items()}

    @cached_property
    def status(self) -> NDArray[np.str_]:
        """What became of each fit, as a word: "converged", "singular", "too-few-points" ..."""
        return self._laid_out(_WORDS[self.ends.status])

    @property
    def converged(self) -> NDArray[np.bool_]:
        """Which fits ended at a minimum that determines every parameter."""
        return self._laid_out(self.ends.status == CONVERGED)

    @property
    def rss(self) -> Array:
        """What was made small: weighted sums of squares; of counts the deviance, of a robust loss its sum."""
        return self._laid_out(self.ends.rss)

    @property
    def iterations(self) -> NDArray[np.int32]:
        """Steps of each fit, refused ones included."""
        return self._laid_out(self.ends.iterations)

    @property
    def points(self) -> NDArray[np.int32]:
        """Points of each fit that were used."""
        return self._laid_out(self.ends.points)

    @property
    def dof(self) -> NDArray[np.int64]:
        """Degrees of freedom: points minus free parameters."""
        return self.points.astype(np.int64) - len(self.settled.free)

    @property
    def reduced_chi2(self) -> Array:
        """Loss per degree of freedom; NaN without one."""
        return self.rss / np.where(self.dof > 0, self.dof, np.nan)

    def counted(self) -> dict[str, int]:
        """Return how many fits have each status, the most frequent first; those that none has are left out."""
        words, numbers = np.unique(self.status, return_counts=True)
        order = np.argsort(-numbers, kind="stable")
        return {str(words[i]): int(numbers[i]) for i in order}

    # ------------------------------------------------------------------ one of them

    def place(self, key: object) -> int:
        """Return the place of a fit among all, from its number, its pixel (row, column) or the value of its group.

        Raises
        ------
        OptionError
            If there is none.
        """
        if self.keys:
            wanted = key if isinstance(key, tuple) else (key,)
            match = np.full(len(self), len(wanted) == len(self.keys))
            for part, values in zip(wanted, self.keys.values(), strict=False):
                match &= np.array([value == part for value in values.tolist()], dtype=bool)
            if match.any():
                return int(np.argmax(match))
            names = ", ".join(self.keys)
            first = ", ".join(str(v[0]) for v in self.keys.values())
            raise OptionError(
                f"There is no group {key!r}",
                remedy=f"A group is named by {names}, as in {first}; at(0) takes numbers",
            )
        return self._number(key)

    def _number(self, key: object) -> int:
        try:
            if isinstance(key, tuple):
                return int(np.ravel_multi_index(key, self.shape))
            number = int(key)  # pyright: ignore[reportArgumentType]  # refused below where it is none
        except (TypeError, ValueError):
            number = -1
        if not 0 <= number < len(self):
            raise OptionError(
                f"There is no fit {key!r}",
                remedy=f"There are {count(len(self), 'fit')}, from 0 to {len(self) - 1}",
            )
        return number

    def result(self, key: object) -> FitResult:
        """Return one fit in full: made again from where it ended, with findings, bands and history.

        Parameters
        ----------
        key : object
            Its number, or its pixel (row, column), or for groups the value of its key (a tuple of several keys).

        Raises
        ------
        OptionError
            If there is no such fit.
        """
        return self.at(self.place(key))

    def at(self, number: int) -> FitResult:
        """Return one fit in full by its place among all.

        Raises
        ------
        OptionError
            If there is no such fit.
        """
        i = self._number(number)
        table, spread = self.source.table(i, self.model)
        end = self.ends.parameters[i]
        free = [self.model.parameters[j] for j in self.settled.free]
        start = {
            name: float(v)
            for name, v in zip(self.model.parameters, end, strict=True)
            if name in free and np.isfinite(v)
        }
        pairs = zip(self.settled.lower.tolist(), self.settled.upper.tolist(), strict=True)
        bounds = dict(zip(self.model.parameters, pairs, strict=True))
        return fit(
            self.model, table,
            start=start or None, bounds=None if self.settled.plain else bounds,
            fixed={name: float(values[i]) for name, values in self.fixed.items()} or None,
            sigma=spread if self.absolute else None, weights=None if self.absolute else spread,
            loss="poisson" if self.counts else self.loss_used, level=self.level, max_iterations=max(self.max_iterations, 500), missing="drop",
        )  # fmt: skip

    # ------------------------------------------------------------------ all of them

    def to_frame(self, kind: str = "polars") -> Any:
        """Return one row a fit: keys, each parameter with its standard error, and how the fit ended.

        Parameters
        ----------
        kind : {"polars", "pandas", "arrow"}
            Whose data frame.

        Raises
        ------
        OptionError
            If `kind` is another word.
        """
        if kind not in ("polars", "pandas", "arrow"):
            raise OptionError(
                f"There is no frame {kind!r}", remedy=nearest(kind, ["polars", "pandas", "arrow"])
            )
        frame = polars.DataFrame(self.columns())
        return {"polars": lambda: frame, "pandas": frame.to_pandas, "arrow": frame.to_arrow}[kind]()

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the columns of `to_frame`, (m,) each."""
        ends = self.ends
        out: dict[str, NDArray[Any]] = {**self.keys}
        if not out:
            places = np.indices(self.shape).reshape(len(self.shape), -1)
            names = (
                ("fit",) if len(self.shape) == 1 else ("row", "column", *(f"axis_{i}" for i in range(2, 9)))
            )
            out = dict(zip(names, places, strict=False))
        for j, name in enumerate(self.model.parameters):
            out[name] = ends.parameters[:, j]
            out[f"{name}_stderr"] = ends.stderr[:, j]
        out["rss"], out["points"], out["missing"] = ends.rss, ends.points, self.missing
        out["iterations"], out["status"] = ends.iterations, self.status.reshape(-1)
        return out

    def save(self, path: str | Path, *, force: bool = False) -> Path:
        """Write the rows of `to_frame` to a file, and return it.

        Parameters
        ----------
        path : str or path
            Its ending says how: .parquet, which also keeps the model and the options, .csv or .feather.
        force : bool
            Whether a file of that name may be replaced.

        Raises
        ------
        OptionError
            If it cannot be written, or has another ending.
        """
        return stage("many.saving").save(self, path, force=force)

    @cached_property
    def findings(self) -> tuple[Finding, ...]:
        """What failed fits have in common, worst first."""
        return stage("many.findings").found(self)

    def summary(self) -> str:
        """Return the answer as text."""
        return stage("many.text").summary(self)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        done = int(np.count_nonzero(self.ends.status == CONVERGED))
        return f"<{done:,} of {count(len(self), 'fit')} converged: {self.formula}>"

    def plot(self) -> "Figure":
        """Return a figure of the parameters: a map of each for pixels, else histograms."""
        return stage("many.picture").parameters_figure(self)

    def plot_worst(self, most: int = 10) -> "Figure":
        """Return a figure of the fits that failed or miss their points most, at most `most` of them."""
        return stage("many.picture").worst_figure(self, most)
