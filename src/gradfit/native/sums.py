"""The sums over points that a Gauss-Newton step needs, kept while the points go by: no Jacobian is stored."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from gradfit.graph import Graph
from gradfit.native.code import Code
from gradfit.native.elementary import FUNCTIONS
from gradfit.native.evaluate import Evaluation, Value
from gradfit.native.values import Cell, Lanes, Truth


def triangle(count: int) -> list[tuple[int, int]]:
    """Return the places of a symmetric matrix's lower triangle, row by row.

    >>> triangle(2)
    [(0, 0), (1, 0), (1, 1)]
    """
    return [(i, j) for i in range(count) for j in range(i + 1)]


def wanted(graph: Graph, free: Sequence[int]) -> list[int]:
    """Return the nodes that the sums are made of."""
    return [graph.value, *(graph.core[j] for j in free), *(graph.scale[j] for j in free)]


@dataclass(frozen=True)
class Totals:
    """Cost, gradient Jᵀr (f) and the lower triangle of JᵀJ, row by row."""

    cost: Lanes
    gradient: list[Lanes]
    gram: list[Lanes]

    def all(self) -> list[Lanes]:
        """Return them in this order."""
        return [self.cost, *self.gradient, *self.gram]


@dataclass(frozen=True)
class Point:
    """What one point adds: its cost, residual * right to the gradient, left * right to JᵀJ."""

    cost: Lanes
    residual: Lanes
    left: Mapping[int, Lanes]
    right: Mapping[int, Lanes]

    def times(self, weight: Lanes, outer: Lanes) -> "Point":
        """Return the point with a weight: on both factors of a product, or `outer` on one of them."""
        left = {c: core * outer for c, core in self.left.items()}
        if outer is not weight:
            return Point(self.cost * outer, self.residual * outer, left, self.right)
        residual = self.residual * weight
        return Point(residual * residual, residual, left, left)

    def where(self, there: Truth) -> "Point":
        """Return the point in the lanes that hold one, zero in the others."""
        left = {c: there.pick(core, 0.0) for c, core in self.left.items()}
        right = left if self.right is self.left else {c: there.pick(v, 0.0) for c, v in self.right.items()}
        return Point(there.pick(self.cost, 0.0), there.pick(self.residual, 0.0), left, right)


def _squared(value: Lanes, observed: Lanes, cores: Mapping[int, Lanes]) -> Point:
    residual = value - observed
    return Point(residual * residual, residual, cores, cores)


def _poisson(value: Lanes, observed: Lanes, cores: Mapping[int, Lanes]) -> Point:
    """Return the deviance of counts, with Fisher's expected curvature; not finite where the model is not positive.

    McCullagh & Nelder (1989), Generalized Linear Models, 2nd ed., sec. 2.3 and 2.5.
    """
    mean = (value > 0.0).pick(value, float("nan"))
    inverse = 1.0 / mean
    log = FUNCTIONS["log"](observed * inverse)
    log = observed.same(0.0).pick(0.0, log)
    cost = (mean - observed + observed * log) * 2.0
    left = {c: core * inverse for c, core in cores.items()}
    return Point(cost, 1.0 - observed * inverse, left, cores)


def _robust(point: Point, rho: "Rho", scale: Lanes) -> Point:
    """Return the point of the least-squares problem with a robust cost's gradient and, where positive, its curvature.

    Triggs et al. (1999), Bundle adjustment, sec. 4.3: as `loss.Loss.linearised`.
    """
    ratio = point.residual / scale
    z = ratio * ratio
    cost, first, second = rho(z)
    bend = z.times(second * 2.0, first)
    bend = (bend > first * 0.1).pick(bend, first)
    bend = (bend > 1e-24).pick(bend, 1e-24)
    left = {c: core * bend for c, core in point.left.items()}
    return Point(cost * scale * scale, point.residual * first, left, point.right)


def _soft_l1(z: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    t = 1.0 + z
    root = 1.0 / FUNCTIONS["sqrt"](t)
    return 2.0 * z * root / (1.0 + root), root, root / t * -0.5


def _huber(z: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    inside = z <= 1.0
    root = FUNCTIONS["sqrt"](inside.pick(1.0, z))
    far = 1.0 / root
    return inside.pick(z, 2.0 * root - 1.0), inside.pick(1.0, far), inside.pick(0.0, far * far * far * -0.5)


def _cauchy(z: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    far = 1.0 / (1.0 + z)
    return FUNCTIONS["log1p"](z), far, -(far * far)


def _bisquare(z: Lanes) -> tuple[Lanes, Lanes, Lanes]:
    t = (z < 1.0).pick(1.0 - z, 0.0)
    return (1.0 - t * t * t) / 3.0, t * t, t * -2.0


Rho = Callable[[Lanes], tuple[Lanes, Lanes, Lanes]]
#: name -> rho(z) and its two derivatives, as in gradfit.loss
ROBUST: Mapping[str, Rho] = {
    "soft_l1": _soft_l1, "huber": _huber, "cauchy": _cauchy, "bisquare": _bisquare,
}  # fmt: skip


class Sums:
    """Sums under way in one function: rᵀr, and products of residuals and the cores of derivatives.

    A derivative is scale * core, and the scale is the same at every point: it multiplies the finished sum. Cores that
    are one node have their sums once.
    """

    def __init__(
        self, code: Code, graph: Graph, free: Sequence[int], evaluation: Evaluation, *, cost: str = "squared"
    ) -> None:
        self.cost = cost
        self.code, self.graph, self.free, self.evaluation = code, graph, tuple(free), evaluation
        zero = code.constant(0.0, evaluation.lanes)
        cores = [graph.core[j] for j in free]
        self._cost = code.cell(zero)
        self._first: Mapping[int, Cell] = {c: code.cell(zero) for c in dict.fromkeys(cores)}
        pairs = dict.fromkeys(_ordered(cores[i], cores[j]) for i, j in triangle(len(cores)))
        self._second: Mapping[tuple[int, int], Cell] = {pair: code.cell(zero) for pair in pairs}

    def add(
        self,
        values: Mapping[int, Value],
        observed: Lanes,
        *,
        weight: Lanes | None = None,
        there: Truth | None = None,
        scale: Lanes | None = None,
    ) -> None:
        """Add a point in each lane.

        Parameters
        ----------
        values : mapping
            What `Evaluation.at` returned.
        weight : Lanes, optional
            Multiplies the residual.
        there : Truth, optional
            Lanes that hold a point; the others add nothing, whatever is in them.
        scale : Lanes, optional
            Of a robust cost: residuals beyond it count less.
        """
        number = self.evaluation.number
        value = number(values, self.graph.value)
        cores = {c: number(values, c) for c in self._first}
        counts = self.cost == "poisson"
        point = _poisson(value, observed, cores) if counts else _squared(value, observed, cores)
        if weight is not None:
            point = point.times(weight, weight * weight if counts else weight)
        if self.cost in ROBUST and scale is not None:
            point = _robust(point, ROBUST[self.cost], scale)
        if there is not None:
            point = point.where(there)
        self._cost.set(self._cost.get() + point.cost)
        for c, cell in self._first.items():
            _grow(cell, point.residual, point.right[c])
        for (a, b), cell in self._second.items():
            _grow(cell, point.left[a], point.right[b])

    def totals(self, values: Mapping[int, Value], *, joined: bool) -> Totals:
        """Return the sums with the derivatives' scales; `joined`: over all lanes too, as single numbers."""
        code = self.code
        lanes = 1 if joined else self.evaluation.lanes

        def done(cell: Cell) -> Lanes:
            return code.total(cell.get()) if joined else cell.get()

        scale = [code.wide(_number(values[self.graph.scale[j]]), lanes) for j in self.free]
        cores = [self.graph.core[j] for j in self.free]
        first = {c: done(cell) for c, cell in self._first.items()}
        second = {pair: done(cell) for pair, cell in self._second.items()}
        gradient = [s * first[c] for s, c in zip(scale, cores, strict=True)]
        gram = [(scale[i] * scale[j]) * second[_ordered(cores[i], cores[j])] for i, j in triangle(len(cores))]
        return Totals(done(self._cost), gradient, gram)


def _ordered(a: int, b: int) -> tuple[int, int]:
    return (a, b) if a <= b else (b, a)


def _grow(cell: Cell, a: Lanes, b: Lanes) -> None:
    cell.set(a.times(b, cell.get()))


def _number(value: Value) -> Lanes:
    assert isinstance(value, Lanes)  # noqa: S101  a derivative's scale is a number
    return value
