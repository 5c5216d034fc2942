"""Sums over many rows, and the few rows that say the same: laws."""

from fractions import Fraction

import numpy as np
import pytest
from answers import NIST, digits
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from gradfit import read
from gradfit.binding import bind
from gradfit.loss import Loss
from gradfit.native.points import BLOCK
from gradfit.solve.condensed import Condensed, ExactSums, condensed_exactly, minimise_rows
from gradfit.solve.lm import LM
from gradfit.solve.passes import Passes, Total, in_order, passes_of, two_sum
from gradfit.solve.problem import ModelProblem

NUMBERS = st.floats(-1e6, 1e6).map(lambda v: v if abs(v) > 1e-50 else 0.0)  # whose squares do not underflow


class Rows:
    """Columns in pieces of so many rows."""

    def __init__(self, columns, size):
        self.columns, self.size = columns, size

    def parts(self):
        for start in range(0, len(self.columns[-1]), self.size):
            yield lambda start=start: [
                np.ascontiguousarray(c[start : start + self.size]) for c in self.columns
            ]


def passes(formula, columns, executor, *, size=7, weighted=False, threads=1) -> Passes:
    table = read({f"x{i}": c for i, c in enumerate(columns)})
    model = bind(formula, table)
    chosen = [table.columns[name] for name in (*model.inputs, model.response)]
    chosen += [table.columns[f"x{len(columns) - 1}"]] if weighted else []
    kernel = model.kernel("numpy")
    problem = ModelProblem(kernel, [], np.zeros(0), None, np.zeros(len(model.parameters)), None, kernel)
    return passes_of(
        Rows(chosen, size), problem, model.graph, weighted=weighted, threads=threads, executor=executor
    )


# ---------------------------------------------------------------------------- digits


@pytest.mark.parametrize("executor", ["native", "numpy"])
@pytest.mark.parametrize("case", [c for c in NIST if c.starts], ids=lambda case: case.name)
def test_walks_on_sums_reach_the_certified_minimum(case, executor):
    table = read(case.path)
    model = bind(case.formula, table, named=frozenset(case.params))
    y = table.columns[model.response] if model.left is None else model.left.evaluate(table.columns)
    kernel = model.kernel("numpy")
    problem = ModelProblem(kernel, [], np.zeros(0), None, np.zeros(len(model.parameters)), None, kernel)
    rows = Rows([*(table.columns[name] for name in model.inputs), y], 50)
    over = passes_of(rows, problem, model.graph, weighted=False, threads=1, executor=executor)
    start = np.array([case.starts[1][name] for name in model.parameters])
    with np.errstate(all="ignore"):
        outcome = minimise_rows(over, start, loss=Loss(), settings=LM())
    assert outcome.converged
    found = dict(zip(model.parameters, outcome.parameters.tolist(), strict=True))
    assert digits([found[name] for name in case.params], case.values) >= 9.5


# ---------------------------------------------------------------------------- sums


@pytest.mark.parametrize("loss", ["squared", "soft_l1", "huber", "cauchy", "bisquare"])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n", [1, 3, BLOCK - 1, BLOCK, 2 * BLOCK + 5])
def test_machine_code_and_numpy_agree(n, weighted, loss):
    random = np.random.default_rng(n)
    columns = [random.normal(0, 1, n), random.normal(0, 1, n), random.uniform(0.5, 2, n)]
    formula = "x1 = a*exp(-((x0 - c)/w)**2) + b"
    point, loss = np.array([1.3, 0.2, 0.9, 0.1]), Loss(loss, None if loss == "squared" else 0.7)
    made = [
        passes(formula, columns, executor, size=3 * BLOCK, weighted=weighted).sums(point, loss)
        for executor in ("native", "numpy")
    ]
    assert made[0].cost == pytest.approx(made[1].cost, rel=1e-13)
    scale = np.sqrt(np.outer(made[1].gram.diagonal(), made[1].gram.diagonal()))
    assert np.all(np.abs(made[0].gram - made[1].gram) <= 1e-12 * scale + 1e-300)
    reach = np.sqrt(made[1].cost * made[1].gram.diagonal())
    assert np.all(np.abs(made[0].gradient - made[1].gradient) <= 3e-12 * reach + 1e-300)


@given(arrays(np.float64, (11, 3), elements=NUMBERS))
def test_precise_sums_are_exact_to_thirty_digits(data):
    x, z, y = np.vstack(
        [data, [1.0, 2.0, 3.0]]
    ).T.copy()  # no column of zeros, which is left to orthogonal factors
    sums = passes("x2 = a*x0 + b*x1", [x, z, y], "native", size=5).precise(np.zeros(2))
    assert isinstance(sums, ExactSums)
    for place, (one, other) in {(0, 0): (x, x), (0, 1): (x, z), (1, 1): (z, z)}.items():
        exact = sum(Fraction(a) * Fraction(b) for a, b in zip(one.tolist(), other.tolist(), strict=True))
        absolute = sum(
            abs(Fraction(a) * Fraction(b)) for a, b in zip(one.tolist(), other.tolist(), strict=True)
        )
        found = sum(map(Fraction, sums.gram[:, place[0], place[1]].tolist()))
        assert abs(found - exact) <= absolute * Fraction(1, 10**30)


@given(arrays(np.float64, (9, 3), elements=NUMBERS))
def test_condensed_rows_have_the_sums_of_all_rows(data):
    x, z, y = data.T.copy()
    point = np.array([0.5, -0.25])
    for executor in ("native", "numpy"):
        over = passes("x2 = a*x0 + b*x1", [x, z, y], executor, size=4)
        r, J = Condensed(over, Loss()).residual_jacobian(point)
        whole, A = 0.5 * x - 0.25 * z - y, np.column_stack([x, z])
        size = max(float(whole @ whole), 1e-200)
        assert float(r @ r) == pytest.approx(float(whole @ whole), rel=1e-12, abs=1e-200)
        lengths = np.sqrt(np.einsum("ij,ij->j", A, A))
        np.testing.assert_array_less(np.abs(J.T @ J - A.T @ A), 1e-11 * np.outer(lengths, lengths) + 1e-200)
        np.testing.assert_array_less(np.abs(r @ J - whole @ A), 1e-11 * np.sqrt(size) * lengths + 1e-200)


def test_a_singular_matrix_keeps_its_rank():
    gram = np.array([[1.0, 2.0], [2.0, 4.0]])
    exact = ExactSums(
        np.array([9.0, 0.0]),
        np.array([[1.0, 2.0], [0, 0]]),
        np.stack([gram, 0 * gram]),
        np.array([0, 1]),
        np.ones(2),
    )
    r, J = condensed_exactly(exact)
    np.testing.assert_allclose(J.T @ J, gram, atol=1e-15)
    assert np.linalg.matrix_rank(J) == 1
    assert float(r @ r) == pytest.approx(9.0)


@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=50))
def test_a_total_keeps_what_rounding_takes(numbers):
    total = Total()
    for number in numbers:
        total.add(number)
    exact = sum(map(Fraction, numbers))
    largest = max(abs(Fraction(number)) for number in numbers)
    if abs(exact) < Fraction(10) ** 307:
        assert abs(Fraction(float(total.value())) - exact) <= abs(exact) * Fraction(
            2, 2**53
        ) + largest * Fraction(100, 2**104) + Fraction(1, 2**1070)


@given(NUMBERS, NUMBERS)
def test_two_sum_is_exact(a, b):
    high, low = two_sum(np.float64(a), np.float64(b))
    assert Fraction(float(high)) + Fraction(float(low)) == Fraction(a) + Fraction(b)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_parts_come_in_order_and_an_error_comes_through(threads):
    parts = [lambda i=i: i for i in range(40)]
    assert list(in_order(lambda part: part(), parts, threads)) == list(range(40))

    def third():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(in_order(lambda part: part(), [*parts[:3], third, *parts], threads))
