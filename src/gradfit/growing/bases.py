"""Ladders that are linear in their parameters: polynomials, and Fourier terms."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.polynomial import chebyshev

from gradfit.growing.ladder import Array, ByRows, Ground, Rows
from gradfit.notation import exact
from gradfit.result import FitResult

PLAIN = 1e3  # condition of the powers of x (columns of length 1) up to which they are the answer
EVERY = (
    1000  # sizes without a lower loss: all are looked at, as a wave needs many terms before any of them helps
)
HIGHEST, MOST_TERMS = 20, 12  # degree, pairs of Fourier terms


class Fitted(NamedTuple):
    """Coefficients of a basis."""

    size: int
    coefficients: Array


@dataclass(frozen=True, eq=False)
class Polynomial(ByRows):
    """Polynomials of x by degree, in Chebyshev polynomials of x brought to -1 … 1: degree 20 costs no digits."""

    ground: Ground
    most: int = HIGHEST
    patience: int = EVERY
    seeds: int = 3
    overfull: bool = False

    @property
    def sizes(self) -> Sequence[int]:
        """Degrees from 0; no more than different x can tell apart."""
        return range(min(self.most, len(np.unique(self.ground.x)) - 1, len(self.ground.x) - 2) + 1)

    def label(self, size: int) -> str:
        """Return the degree."""
        return f"degree {size}"

    def parameters(self, size: int) -> int:
        """Return degree + 1."""
        return size + 1

    def fit(self, size: int, rows: Rows, seed: int) -> Fitted:
        """Return the least-squares polynomial."""
        del seed
        return Fitted(size, _solved(self.basis(size, rows), self.ground, rows))

    def losses(self, fitted: object, rows: Rows) -> Array:
        """Return squared weighted residuals (m,)."""
        assert isinstance(fitted, Fitted)  # noqa: S101  what fit has returned
        return _squares(self.basis(fitted.size, rows) @ fitted.coefficients, self.ground, rows)

    def basis(self, size: int, rows: Rows) -> Array:
        """Return the Chebyshev polynomials (m, size + 1)."""
        middle, half = self.frame
        z = (self.ground.x[rows] - middle) / half
        return np.asarray(chebyshev.chebvander(z, size), dtype=np.float64)

    @cached_property
    def frame(self) -> tuple[float, float]:
        """Middle and half width of x in few digits; it spans the same polynomials whatever it is."""
        x = self.ground.x
        middle, half = float(x.min() / 2 + x.max() / 2), self.ground.span / 2
        digits = -int(np.floor(np.log10(half))) + 1
        short = float(round(middle, digits))
        return (short if abs(short - middle) < 0.1 * half else middle), float(f"{half:.2g}") or half

    def plain(self, size: int) -> bool:
        """Whether the powers of x themselves are a well-conditioned basis."""
        with np.errstate(all="ignore"):
            powers = np.vander(self.ground.x, size + 1)
            length = np.sqrt(np.einsum("ij,ij->j", powers, powers))
        if not (np.isfinite(length).all() and (length > 0).all()):
            return False
        return float(np.linalg.cond(powers / length)) < PLAIN

    def refitted(self, size: int, seed: int) -> FitResult:
        """Return the fit to all rows."""
        del seed
        model = self.model(size)
        again, left = self.ground.again, self.ground.left
        return again(model) if isinstance(model, str) else again(model, response=left)

    def model(self, size: int) -> str | Callable[..., object]:
        """Return the formula in powers of x, or where these are nearly dependent a function by Chebyshev polynomials."""
        ground, names = self.ground, self.ground.names("c", range(size + 1))
        if size == 0 or self.plain(size):
            powers = ["", f"*{ground.column}", *(f"*{ground.column}**{d}" for d in range(2, size + 1))]
            return f"{ground.left} = {' + '.join(n + p for n, p in zip(names, powers, strict=False))}"
        if ground.column.isidentifier():
            return _chebyshev_sum(ground.column, names, *self.frame)
        return f"{ground.left} = {_chebyshev_text(ground.column, names, *self.frame)}"

    def told(self, size: int) -> str:
        """Return what the parameters of a size are."""
        column = self.ground.column
        if size == 0 or self.plain(size):
            return f"The parameters are the coefficients of powers of {column}, in its own unit"
        middle, half = self.frame
        return (
            f"The parameters are those of Chebyshev polynomials of ({column} - {exact(middle)})/{exact(half)}, as powers of "
            f"{column} itself are nearly dependent here: predict with them"
        )


def _chebyshev_sum(column: str, names: Sequence[str], middle: float, half: float) -> Callable[..., object]:
    """Return a function of the column and the coefficients, with those names."""

    def polynomial(x: float, *c: float) -> float:
        z = (x - middle) / half
        before, now = 1.0, z
        total = c[0] + c[1] * z
        for k in c[2:]:
            before, now = now, 2.0 * z * now - before
            total = total + k * now
        return total

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    polynomial.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in (column, *names)])  # pyright: ignore[reportFunctionMemberAccess]  # what inspect looks for
    return polynomial


def _chebyshev_text(column: str, names: Sequence[str], middle: float, half: float) -> str:
    """Return the same as a formula, for a column whose name no argument can have; degree 20 loses six digits by this."""
    z = f"(({column} - {middle!r})/{half!r})"
    terms: list[str] = []
    for k, name in enumerate(names):
        powers = chebyshev.cheb2poly([0] * k + [1])
        parts = [f"{c:.0f}{f'*{z}**{d}' if d else ''}" for d, c in enumerate(powers) if c]
        terms.append(name if k == 0 else f"{name}*({' + '.join(parts)})")
    return " + ".join(terms)


@dataclass(frozen=True, eq=False)
class Fourier(ByRows):
    """A constant and pairs of cosine and sine of 1, 2, 3 … turns in a period."""

    ground: Ground
    period: float
    most: int = MOST_TERMS
    patience: int = EVERY
    seeds: int = 3
    overfull: bool = False

    @property
    def sizes(self) -> Sequence[int]:
        """Pairs from 0; no more than the rows can tell apart."""
        return range(min(self.most, (len(np.unique(self.ground.x % self.period)) - 2) // 2) + 1)

    def label(self, size: int) -> str:
        """Return the number of pairs."""
        return f"{size} pair{'' if size == 1 else 's'}"

    def parameters(self, size: int) -> int:
        """Return 2 * pairs + 1."""
        return 2 * size + 1

    def fit(self, size: int, rows: Rows, seed: int) -> Fitted:
        """Return the least-squares sum."""
        del seed
        return Fitted(size, _solved(self.basis(size, rows), self.ground, rows))

    def losses(self, fitted: object, rows: Rows) -> Array:
        """Return squared weighted residuals (m,)."""
        assert isinstance(fitted, Fitted)  # noqa: S101  what fit has returned
        return _squares(self.basis(fitted.size, rows) @ fitted.coefficients, self.ground, rows)

    def basis(self, size: int, rows: Rows) -> Array:
        """Return a constant and the pairs (m, 2 size + 1)."""
        turns = (
            2 * np.pi * np.outer((self.ground.x[rows] - self.origin) / self.period, np.arange(1, size + 1))
        )
        return np.column_stack([np.ones(len(rows)), np.cos(turns), np.sin(turns)])

    @cached_property
    def origin(self) -> float:
        """Where the phase is 0: 0, unless x is so far from it that turns would lose digits."""
        first = float(self.ground.x.min())
        return 0.0 if abs(first) <= 1e3 * self.period else first

    def refitted(self, size: int, seed: int) -> FitResult:
        """Return the fit to all rows."""
        del seed
        return self.ground.again(self.model(size))

    def model(self, size: int) -> str:
        """Return the formula."""
        ground = self.ground
        place = ground.since(self.origin)
        names = [ground.names(stem, range(1, size + 1)) for stem in ("a", "b")]
        terms = ground.names("c", [0])
        for k, (a, b) in enumerate(zip(*names, strict=True), 1):
            turn = f"{2 * k}*pi*{place}/{self.period!r}"
            terms += [f"{a}*cos({turn})", f"{b}*sin({turn})"]
        return f"{ground.left} = {' + '.join(terms)}"

    def told(self, size: int) -> str:
        """Return what the parameters of a size are."""
        del size
        return f"The period is {exact(self.period)}, in the unit of {self.ground.column}"


def _solved(basis: Array, ground: Ground, rows: Rows) -> Array:
    w = ground.weight[rows]
    found = np.linalg.lstsq(basis * w[:, None], ground.y[rows] * w, rcond=1e-14)[0]
    return np.asarray(found, dtype=np.float64)


def _squares(value: Array, ground: Ground, rows: Rows) -> Array:
    return ((value - ground.y[rows]) * ground.weight[rows]) ** 2
