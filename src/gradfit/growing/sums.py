"""Ladders of sums: Gaussians, and exponentials; each size begins with what the one below it has found."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from gradfit.growing.ladder import Array, ByRows, Ground, Rows
from gradfit.notation import exact
from gradfit.result import FitResult
from gradfit.solve.lm import LM, minimise
from gradfit.solve.penalised import without

TRIED = 3  # places from which a new term is refined
STEPS = LM(max_iterations=100)
MOST_GAUSSIANS, MOST_EXPONENTIALS = 8, 4


class Shape(Protocol):
    """One term of a sum, height times a curve of two parameters at most."""

    @property
    def stems(self) -> tuple[str, ...]:
        """Names of the parameters of a term, the height first."""
        ...

    @property
    def most(self) -> int:
        """Terms at most."""
        ...

    def label(self, size: int) -> str:
        """Return a number of terms in words."""
        ...

    def curve(self, x: Array, q: Array) -> tuple[Array, Array]:
        """Return the curve (n,) and its derivatives (n, s) by its inner parameters (s,)."""
        ...

    def candidates(self, x: Array) -> Array:
        """Return inner parameters (m, s) of which one is near to any term that these inputs can show."""
        ...

    def bounds(self, x: Array) -> tuple[Array, Array]:
        """Return limits (s,) of the inner parameters."""
        ...

    def outer(self, q: Array) -> list[float]:
        """Return the parameters of the formula for inner ones."""
        ...

    def text(self, place: str, names: Sequence[str]) -> str:
        """Return a term of the formula."""
        ...

    def apart(self, q: Array, others: Array) -> NDArray[np.bool_]:
        """Return which others (m,) are no neighbours."""
        ...


class Gaussian:
    """Height, place and standard deviation."""

    stems: tuple[str, ...] = ("a", "x", "sigma")
    most = MOST_GAUSSIANS

    def label(self, size: int) -> str:
        """Return the number of peaks."""
        return f"{size} peak{'' if size == 1 else 's'}"

    def curve(self, x: Array, q: Array) -> tuple[Array, Array]:
        """Return the curve and its derivatives by place and logarithm of the width."""
        z = (x - q[0]) / np.exp(q[1])
        value = np.exp(-0.5 * z * z)
        return value, np.column_stack([value * z / np.exp(q[1]), value * z * z])

    def candidates(self, x: Array) -> Array:
        """Return places over the span in widths from that of three points to a third of it."""
        span = float(np.ptp(x)) or 1.0
        narrow = max(span / max(len(np.unique(x)) - 1, 1), span / 200)
        widths = np.geomspace(1.2 * narrow, max(0.3 * span, 2 * narrow), 6)
        grid = [
            (place, np.log(w))
            for w in widths
            for place in np.arange(x.min(), x.max() + 1e-9 * span, max(w / 2, span / 80))
        ]
        return np.array(grid)

    def bounds(self, x: Array) -> tuple[Array, Array]:
        """Return limits of place and log width."""
        span = float(np.ptp(x)) or 1.0
        narrow = span / max(len(np.unique(x)) - 1, 1)
        low, high = float(x.min()) - 0.1 * span, float(x.max()) + 0.1 * span
        return np.array([low, np.log(0.3 * narrow)]), np.array([high, np.log(2 * span)])

    def outer(self, q: Array) -> list[float]:
        """Return place and standard deviation."""
        return [float(q[0]), float(np.exp(q[1]))]

    def text(self, place: str, names: Sequence[str]) -> str:
        """Return a term of the formula."""
        a, m, s = names
        return f"{a}*exp(-({place} - {m})**2/(2*{s}**2))"

    def apart(self, q: Array, others: Array) -> NDArray[np.bool_]:
        """Return which lie more than a width away, or differ by a factor 2 in width."""
        near = np.abs(others[:, 0] - q[0]) < np.exp(np.maximum(others[:, 1], q[1]))
        return ~(near & (np.abs(others[:, 1] - q[1]) < np.log(2)))


class Exponential:
    """Height and time constant of a decay from the first input on."""

    stems: tuple[str, ...] = ("a", "tau")
    most = MOST_EXPONENTIALS

    def label(self, size: int) -> str:
        """Return the number of exponentials."""
        return f"{size} exponential{'' if size == 1 else 's'}"

    def curve(self, x: Array, q: Array) -> tuple[Array, Array]:
        """Return the curve and its derivative by the logarithm of the time constant."""
        z = x / np.exp(q[0])
        value = np.exp(-z)
        return value, (value * z)[:, None]

    def candidates(self, x: Array) -> Array:
        """Return time constants from that of a step of x to three times the span."""
        low, high = self.bounds(x)
        return np.linspace(low[0] + 0.5, high[0], 60)[:, None]

    def bounds(self, x: Array) -> tuple[Array, Array]:
        """Return limits of the log time constant."""
        span = float(np.ptp(x)) or 1.0
        step = span / max(len(np.unique(x)) - 1, 1)
        return np.array([np.log(0.2 * step)]), np.array([np.log(5 * span)])

    def outer(self, q: Array) -> list[float]:
        """Return the time constant."""
        return [float(np.exp(q[0]))]

    def text(self, place: str, names: Sequence[str]) -> str:
        """Return a term of the formula."""
        a, tau = names
        return f"{a}*exp(-{place}/{tau})"

    def apart(self, q: Array, others: Array) -> NDArray[np.bool_]:
        """Return which differ by more than a factor 1.6."""
        return np.abs(others[:, 0] - q[0]) > np.log(1.6)


class Terms(NamedTuple):
    """A sum: a constant, heights (k,) and inner parameters (k, s)."""

    constant: float
    heights: Array
    inner: Array


@dataclass(frozen=True, eq=False)
class Sum(ByRows):
    """Sums of terms of one shape and a constant, by the number of terms."""

    ground: Ground
    shape: Shape
    origin: float = 0.0
    patience: int = 2
    seeds: int = 3
    overfull: bool = False
    known: dict[tuple[bytes, int, int], Terms] = field(default_factory=dict[tuple[bytes, int, int], Terms])

    @property
    def sizes(self) -> Sequence[int]:
        """Terms from 0; no more than the rows can determine."""
        each = len(self.shape.stems)
        return range(max(min(self.shape.most, (len(np.unique(self.ground.x)) - 2) // each), 0) + 1)

    def label(self, size: int) -> str:
        """Return the number of terms."""
        return self.shape.label(size)

    def parameters(self, size: int) -> int:
        """Return a constant and those of each term."""
        return 1 + len(self.shape.stems) * size

    def fit(self, size: int, rows: Rows, seed: int) -> Terms:
        """Return the least squares that a few starts reach; the first terms are those of the size below."""
        key = rows.tobytes(), size, seed
        if key not in self.known:
            self.known[key] = self._fitted(size, rows, seed)
        return self.known[key]

    def losses(self, fitted: object, rows: Rows) -> Array:
        """Return squared weighted residuals (m,)."""
        assert isinstance(fitted, Terms)  # noqa: S101  what fit has returned
        return ((self._value(fitted, rows) - self.ground.y[rows]) * self.ground.weight[rows]) ** 2

    def refitted(self, size: int, seed: int) -> FitResult:
        """Return the fit to all rows, begun at the best of what the seeds find."""
        ground = self.ground
        every = np.arange(len(ground.x))
        ends = [self.fit(size, every, seed + s) for s in range(self.seeds)]
        losses = [float(np.sum(self.losses(end, every))) for end in ends]
        start = self.start(size, ends[int(np.argmin(losses))])
        return ground.again(self.model(size), start=start if size else None)

    def model(self, size: int) -> str:
        """Return the formula."""
        ground = self.ground
        place = ground.since(self.origin)
        numbered = [ground.names(stem, range(1, size + 1)) for stem in self.shape.stems]
        terms = [self.shape.text(place, names) for names in zip(*numbered, strict=True)]
        return f"{ground.left} = {' + '.join([*terms, *ground.names('c', [0])])}"

    def start(self, size: int, fitted: Terms) -> dict[str, float]:
        """Return the parameters of the formula."""
        order = np.argsort(fitted.inner[:, 0]) if size else np.zeros(0, dtype=int)
        numbered = [self.ground.names(stem, range(1, size + 1)) for stem in self.shape.stems]
        unit = self.ground.rows.unit
        values = {self.ground.names("c", [0])[0]: fitted.constant / unit}
        for j, place in enumerate(order.tolist()):
            own = [float(fitted.heights[place]) / unit, *self.shape.outer(fitted.inner[place])]
            values |= {names[j]: value for names, value in zip(numbered, own, strict=True)}
        return values

    def told(self, size: int) -> str:
        """Return what the parameters of a size are."""
        del size
        if self.origin == 0:
            return f"The parameters are in the units of {self.ground.column} and of the response"
        return f"Heights are those at {self.ground.column} = {exact(self.origin)}, where the data begin"

    # ------------------------------------------------------------------ fitting

    def _at(self, rows: Rows) -> Array:
        return self.ground.x[rows] - self.origin

    def _value(self, terms: Terms, rows: Rows) -> Array:
        x = self._at(rows)
        total = np.full(len(rows), terms.constant)
        for height, q in zip(terms.heights.tolist(), terms.inner, strict=True):
            total = total + height * self.shape.curve(x, q)[0]
        return total

    def _fitted(self, size: int, rows: Rows, seed: int) -> Terms:
        if size == 0:
            w = self.ground.weight[rows] ** 2
            return Terms(
                float(w @ self.ground.y[rows] / w.sum()),
                np.zeros(0),
                np.zeros((0, len(self.shape.stems) - 1)),
            )
        below = self.fit(size - 1, rows, seed)
        problem = _SumProblem(self, rows, size)
        lower, upper = self.shape.bounds(self._at(rows))
        box = _box(size, lower, upper)
        ends: list[tuple[float, Array]] = []
        sets = [np.vstack([below.inner, q]) for q in self._new(below.inner, rows, seed, lower, upper)]
        for inner in [*sets, *self._afresh(size, rows, seed)]:
            start = np.clip(problem.solved(inner), *box)
            out = minimise(problem, start, bounds=box, settings=STEPS)
            if np.isfinite(out.loss):
                ends.append((out.loss, out.parameters))
        if not ends:
            return below._replace(
                heights=np.append(below.heights, 0.0), inner=np.vstack([below.inner, lower])
            )
        return problem.terms(min(ends, key=lambda end: end[0])[1])

    def _afresh(self, size: int, rows: Rows, seed: int) -> list[Array]:
        """Return all terms chosen one after the other without refining: where the size below is stuck, this is not."""
        lower, upper = self.shape.bounds(self._at(rows))
        inner = np.zeros((0, len(lower)))
        for _ in range(size if size > 1 else 0):
            found = self._new(inner, rows, seed, lower, upper)
            if not found:
                return []
            inner = np.vstack([inner, found[0]])
        return [inner] if size > 1 else []

    def _new(self, inner: Array, rows: Rows, seed: int, lower: Array, upper: Array) -> list[Array]:  # noqa: PLR0917  as a search has them
        """Return where a term beside others would help most, a few places apart from each other."""
        x, w = self._at(rows), self.ground.weight[rows]
        grid = self.shape.candidates(x)
        columns = np.column_stack([self.shape.curve(x, q)[0] for q in grid]) * w[:, None]
        old = np.column_stack([np.ones(len(x)), *(self.shape.curve(x, q)[0] for q in inner)]) * w[:, None]
        both = without(old, np.column_stack([columns, self.ground.y[rows] * w]))
        columns, left = both[:, :-1], both[:, -1]
        length = np.einsum("ij,ij->j", columns, columns)
        gain = np.where(length > 1e-9 * len(x), (left @ columns) ** 2 / np.maximum(length, 1e-300), 0.0)
        chance = np.random.default_rng([seed, len(inner)])
        chosen: list[Array] = []
        for j in np.argsort(-gain, kind="stable"):
            if all(self.shape.apart(q, grid[[j]])[0] for q in chosen):
                chosen.append(grid[j])
            if len(chosen) == TRIED:
                break
        moved = [q + 0.1 * chance.standard_normal(len(q)) * (upper - lower) / 10 for q in chosen]
        return [np.clip(q, lower, upper) for q in moved]


def _box(size: int, lower: Array, upper: Array) -> tuple[Array, Array]:
    free = np.full(size + 1, np.inf)
    return np.concatenate([-free, np.tile(lower, size)]), np.concatenate([free, np.tile(upper, size)])


@dataclass(frozen=True, eq=False)
class _SumProblem:
    """Weighted residuals of a sum: constant, heights, then inner parameters term by term."""

    ladder: Sum
    rows: Rows
    size: int

    def terms(self, p: Array) -> Terms:
        k = self.size
        return Terms(float(p[0]), p[1 : k + 1], p[k + 1 :].reshape(k, -1))

    def residual_jacobian(self, parameters: Array) -> tuple[Array, Array]:
        """Return residuals (n,) and their derivatives (n, k)."""
        terms, ground = self.terms(parameters), self.ladder.ground
        x = ground.x[self.rows] - self.ladder.origin
        made = [self.ladder.shape.curve(x, q) for q in terms.inner]
        values = np.column_stack([value for value, _ in made])
        slopes = [h * slope for h, (_, slope) in zip(terms.heights.tolist(), made, strict=True)]
        w = ground.weight[self.rows]
        J = np.column_stack([np.ones(len(x)), values, *slopes]) * w[:, None]
        return (terms.constant + values @ terms.heights - ground.y[self.rows]) * w, J

    def precise_gradient(self, parameters: Array) -> None:  # noqa: ARG002  a problem's signature
        """Return nothing: digits below the noise of folds are of no use."""
        return

    def solved(self, inner: Array) -> Array:
        """Return all parameters with the linear ones at their least squares."""
        p = np.concatenate([np.zeros(self.size + 1), inner.reshape(-1)])
        r, J = self.residual_jacobian(p)
        p[: self.size + 1] = -np.linalg.lstsq(J[:, : self.size + 1], r, rcond=1e-10)[0]
        return p
