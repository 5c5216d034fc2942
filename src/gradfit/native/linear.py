"""Small symmetric systems: Cholesky's factor of JᵀJ, and steps from it; written out, or as loops where they are larger."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from gradfit.native.code import Code
from gradfit.native.sums import triangle
from gradfit.native.values import Lanes

if TYPE_CHECKING:
    from llvmlite import ir

Term = Callable[["ir.Value"], tuple[Lanes, Lanes]]
Triangle = dict[tuple[int, int], Lanes]  # the lower one, with i >= j


def by_place(flat: Sequence[Lanes], count: int) -> Triangle:
    """Return the lower triangle, row by row, by its places."""
    return dict(zip(triangle(count), flat, strict=True))


def cholesky(code: Code, matrix: Triangle, count: int) -> tuple[Triangle, list[Lanes]]:
    """Return L and the reciprocals of its diagonal, with matrix = L Lᵀ; NaN where it is not positive definite.

    References
    ----------
    .. [1] Golub & Van Loan, Matrix Computations, 4th ed., sec. 4.2.5.
    """
    low: Triangle = {}
    inverse: list[Lanes] = []
    for i in range(count):
        for j in range(i):
            rest = matrix[i, j]
            for k in range(j):
                rest = (-low[i, k]).times(low[j, k], rest)
            low[i, j] = rest * inverse[j]
        rest = matrix[i, i]
        for k in range(i):
            rest = (-low[i, k]).times(low[i, k], rest)
        low[i, i] = code.intrinsic("sqrt", rest)
        inverse.append(1.0 / low[i, i])
    return low, inverse


def solved(low: Triangle, inverse: Sequence[Lanes], right: Sequence[Lanes]) -> list[Lanes]:
    """Return x with L Lᵀ x = right."""
    count = len(right)
    x = forward(low, inverse, right)
    for i in reversed(range(count)):
        rest = x[i]
        for k in range(i + 1, count):
            rest = (-low[k, i]).times(x[k], rest)
        x[i] = rest * inverse[i]
    return x


def forward(low: Triangle, inverse: Sequence[Lanes], right: Sequence[Lanes]) -> list[Lanes]:
    """Return y with L y = right."""
    y: list[Lanes] = []
    for i, rest in enumerate(right):
        for k in range(i):
            rest = (-low[i, k]).times(y[k], rest)
        y.append(rest * inverse[i])
    return y


def inverted(low: Triangle, inverse: Sequence[Lanes]) -> Triangle:
    """Return the lower triangle of (L Lᵀ)⁻¹."""
    count = len(inverse)
    half: Triangle = {}  # L⁻¹
    for j in range(count):
        half[j, j] = inverse[j]
        for i in range(j + 1, count):
            rest = (-low[i, j]) * half[j, j]
            for k in range(j + 1, i):
                rest = (-low[i, k]).times(half[k, j], rest)
            half[i, j] = rest * inverse[i]
    out: Triangle = {}
    for i, j in triangle(count):
        rest = half[count - 1, i] * half[count - 1, j]
        for k in range(i, count - 1):
            rest = half[k, i].times(half[k, j], rest)
        out[i, j] = rest
    return out


# ---------------------------------------------------------------------------- either way

WRITTEN_OUT = 12  # unknowns; the code of a solve grows with their cube


def solution(code: Code, matrix: Triangle, right: Sequence[Lanes]) -> list[Lanes]:
    """Return x with matrix x = right; NaN where the matrix is not positive definite."""
    count = len(right)
    if count <= WRITTEN_OUT:
        return solved(*cholesky(code, matrix, count), right)
    loops = _Loops(code, matrix, count)
    return loops.solved(right)


def inverse_diagonal(code: Code, matrix: Triangle, count: int) -> list[Lanes]:
    """Return the diagonal of the inverse matrix."""
    if count <= WRITTEN_OUT:
        whole = inverted(*cholesky(code, matrix, count))
        return [whole[j, j] for j in range(count)]
    return _Loops(code, matrix, count).inverse_diagonal()


class _Loops:
    """Cholesky's factor in memory, element (i, j) at row i of `count`; the diagonal holds the reciprocals of L's."""

    def __init__(self, code: Code, matrix: Triangle, count: int) -> None:
        self.code, self.count = code, count
        self.lanes = matrix[0, 0].lanes
        self.low, self.x = code.room(count * count * self.lanes), code.room(count * self.lanes)
        for (i, j), value in matrix.items():
            self._store(self.low, code.whole_number(i * count + j), value)
        self._factorise()

    def _load(self, array: "ir.Value", place: "ir.Value") -> Lanes:
        return self.code.load(array, self.code.product(place, self.lanes), lanes=self.lanes)

    def _store(self, array: "ir.Value", place: "ir.Value", value: Lanes) -> None:
        self.code.store(array, self.code.product(place, self.lanes), value)

    def _place(self, i: "ir.Value", j: "ir.Value") -> "ir.Value":
        return self.code.plus(self.code.product(i, self.count), j)

    def _less(self, start: Lanes, first: "ir.Value | int", last: "ir.Value", term: "Term") -> Lanes:
        """Return start minus the products that `term` names for k = first … last - 1."""
        total = self.code.cell(start)
        with self.code.loop(first, last) as k:
            a, b = term(k)
            total.set((-a).times(b, total.get()))
        return total.get()

    def _factorise(self) -> None:
        code = self.code
        with code.loop(0, self.count) as i:
            with code.loop(0, i) as j:
                place = self._place(i, j)
                rest = self._less(self._load(self.low, place), 0, j, lambda k: self._pair(i, j, k))
                self._store(self.low, place, rest * self._load(self.low, self._place(j, j)))
            place = self._place(i, i)
            rest = self._less(self._load(self.low, place), 0, i, lambda k: self._pair(i, i, k))
            self._store(self.low, place, 1.0 / code.intrinsic("sqrt", rest))

    def _pair(self, i: "ir.Value", j: "ir.Value", k: "ir.Value") -> tuple[Lanes, Lanes]:
        return self._load(self.low, self._place(i, k)), self._load(self.low, self._place(j, k))

    def _with_x(self, row: "ir.Value", column: "ir.Value", k: "ir.Value") -> tuple[Lanes, Lanes]:
        return self._load(self.low, self._place(row, column)), self._load(self.x, k)

    def solved(self, right: Sequence[Lanes]) -> list[Lanes]:
        """Return x with L Lᵀ x = right."""
        code, count = self.code, self.count
        for place, value in enumerate(right):
            self._store(self.x, code.whole_number(place), value)
        with code.loop(0, count) as i:
            rest = self._less(self._load(self.x, i), 0, i, lambda k: self._with_x(i, k, k))
            self._store(self.x, i, rest * self._load(self.low, self._place(i, i)))
        with code.loop(0, count) as back:
            i = code.at.sub(code.whole_number(count - 1), back)
            rest = self._less(
                self._load(self.x, i),
                code.plus(i, 1),
                code.whole_number(count),
                lambda k: self._with_x(k, i, k),
            )
            self._store(self.x, i, rest * self._load(self.low, self._place(i, i)))
        return [self._load(self.x, code.whole_number(place)) for place in range(count)]

    def inverse_diagonal(self) -> list[Lanes]:
        """Return the squared lengths of the columns of L⁻¹."""
        code, count = self.code, self.count
        out = code.room(count * self.lanes)
        with code.loop(0, count) as j:
            first = self._load(self.low, self._place(j, j))
            self._store(self.x, j, first)
            total = code.cell(first * first)
            with code.loop(code.plus(j, 1), count) as i:
                rest = self._less(code.constant(0.0, self.lanes), j, i, lambda k: self._with_x(i, k, k))
                value = rest * self._load(self.low, self._place(i, i))
                self._store(self.x, i, value)
                total.set(value.times(value, total.get()))
            self._store(out, j, total.get())
        return [self._load(out, code.whole_number(j)) for j in range(count)]
