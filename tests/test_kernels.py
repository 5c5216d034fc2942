"""Kernels: the same numbers by every executor, whatever the rows; derivatives of models that cannot be traced."""

import math
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from gradfit.errors import ShapeError
from gradfit.formula import parse
from gradfit.graph import Graph
from gradfit.kernel import EXECUTORS, AutogradKernel, DifferenceKernel, NumpyKernel
from gradfit.kernel.faddeeva import wofz
from gradfit.kernel.numpy import CHUNK
from gradfit.library import MODELS
from gradfit.trace import torch_function, trace_formula


def traced(text: str, inputs=("x", "u")) -> Graph:
    right = parse(text).right
    used = tuple(n for n in right.names if n in inputs)
    return trace_formula(right, used, tuple(n for n in right.names if n not in (*used, "pi", "e")))


EVERY = pytest.mark.parametrize("executor", EXECUTORS.values(), ids=EXECUTORS)

# ---------------------------------------------------------------------------- rows


@pytest.mark.parametrize("rows", [2 * CHUNK + 1, 5 * CHUNK, 5 * CHUNK + 12_345])
@pytest.mark.parametrize(
    "text", ["a*exp(-b*x)*sin(x)**2", "where(x > a, x**b, tanh(u*x))", "voigt(x, a, b) + erf(x/b)", "a + b"]
)
def test_rows_in_chunks_are_the_rows_at_once(text, rows, monkeypatch):
    kernel = NumpyKernel(traced(text))
    random = np.random.default_rng(1)
    columns = [random.uniform(0.1, 5, rows) for _ in kernel.graph.variables] or [np.zeros(rows)]
    p = np.array([1.3, 0.7])
    value, jacobian = kernel.value_jacobian(columns, p)
    alone = kernel.value(columns, p)
    monkeypatch.setattr("gradfit.kernel.numpy.CHUNK", rows)
    value_at_once, jacobian_at_once = kernel.value_jacobian(columns, p)
    assert np.array_equal(value, value_at_once)
    assert np.array_equal(jacobian, jacobian_at_once)
    assert np.array_equal(alone, value)


@EVERY
@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize(
    "text", ["a*exp(b*x)", "x", "a", "a + 0*x", "3*b", "x > a", "where(x > a, 1, b)", "b*2**x"]
)
def test_few_rows_and_constant_models(executor, text, rows):
    graph = traced(text)
    x = np.linspace(0.5, 2, rows)
    p = np.array([1.5, 0.5][: len(graph.parameters)])
    value, jacobian = executor.compile(graph).value_jacobian([x] if graph.variables else [np.zeros(rows)], p)
    with np.errstate(all="ignore"):
        expected = parse(text).right.evaluate(dict(zip(graph.parameters, p, strict=True)) | {"x": x})
    assert value == pytest.approx(np.broadcast_to(np.asarray(expected, float), (rows,)))
    assert (value.dtype, jacobian.shape) == (np.float64, (rows, len(p)))


@EVERY
@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.astype(np.int64),
        lambda x: x.astype(np.float32),
        lambda x: np.stack([x, x], axis=1)[:, 0],
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.astype(">f8"),
    ],
    ids=["int64", "float32", "strided", "reversed", "big-endian"],
)
def test_columns_of_any_form(executor, form):
    x = np.array([1.0, 2.0, 3.0, 4.0])
    kernel = executor.compile(traced("a*x**b + x*x"))
    p = np.array([2.0, 0.5])
    value, jacobian = kernel.value_jacobian([form(x)], p)
    value_of_floats, jacobian_of_floats = kernel.value_jacobian([x], p)
    assert value == pytest.approx(value_of_floats, rel=1e-15)
    assert jacobian == pytest.approx(jacobian_of_floats, rel=1e-15)


@EVERY
@pytest.mark.parametrize("text", ["x", "x + 0*a", "a*x", "a*0 + 3"])
def test_columns_are_neither_written_nor_handed_out(executor, text):
    x = np.array([1.0, 2.0, 3.0])
    x.setflags(write=False)
    kernel = executor.compile(traced(text))
    p = np.ones(len(kernel.graph.parameters))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, jacobian = kernel.value_jacobian([x], p)
        again = kernel.value([x], p)
    value += 1
    jacobian += 1
    again += 1
    assert x.tolist() == [1, 2, 3]
    fresh, slopes = kernel.value_jacobian([x], p)
    assert (fresh + 1).tolist() == value.tolist() == again.tolist()
    assert (slopes + 1).tolist() == jacobian.tolist()


@pytest.mark.parametrize("model", MODELS.values(), ids=lambda model: model.name)
def test_many_sets_of_parameters_at_once(model):
    kernel = NumpyKernel(traced(model.formula))
    random = np.random.default_rng(2)
    x = np.linspace(*model.span, 7)
    centre = np.array([model.example[name] for name in kernel.graph.parameters])
    sets = centre[:, None] * random.uniform(0.8, 1.2, (len(centre), 5))
    value, jacobian = kernel.value_jacobian([x], sets[:, :, None])
    assert np.array_equal(kernel.value([x], sets[:, :, None]), value)
    for i, p in enumerate(sets.T):
        one, slopes = kernel.value_jacobian([x], p)
        assert value[i] == pytest.approx(one, rel=1e-13, abs=1e-300)
        assert jacobian[:, i] == pytest.approx(slopes.T, rel=1e-12, abs=1e-300)


@EVERY
def test_threads_share_a_kernel(executor):
    kernel = executor.compile(traced("a*exp(-b*x) + voigt(x, a, b)"))
    x = np.linspace(0, 3, 2000)
    places = [np.array([1 + k / 50, 0.5]) for k in range(40)]
    expected = [kernel.value_jacobian([x], p) for p in places]
    with ThreadPoolExecutor(4) as pool:
        seen = list(pool.map(lambda p: kernel.value_jacobian([x], p), places))
    for (value, jacobian), (value_alone, jacobian_alone) in zip(seen, expected, strict=True):
        assert np.array_equal(value, value_alone)
        assert np.array_equal(jacobian, jacobian_alone)


def test_long_double():
    x, p = np.linspace(0.1, 2, 5), np.array([1.3, 0.7])
    kernel = NumpyKernel(traced("a*exp(-b*x) + sqrt(x)**b"))
    value, jacobian = kernel.value_jacobian([x.astype(np.longdouble)], p.astype(np.longdouble))
    plain, slopes = kernel.value_jacobian([x], p)
    assert value.dtype == jacobian.dtype == np.longdouble
    assert value.astype(float) == pytest.approx(plain, rel=1e-15)
    assert jacobian.astype(float) == pytest.approx(slopes, rel=1e-15)
    for text in ("erf(a*x)", "voigt(x, a, b)", "lgamma(a*x)"):
        with pytest.raises(TypeError):
            NumpyKernel(traced(text)).value([x.astype(np.longdouble)], p.astype(np.longdouble))


@EVERY
def test_a_voigt_profile_far_away(executor):
    kernel = executor.compile(traced("voigt(x, s, g)"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, _ = kernel.value_jacobian([np.array([0.0, 1e3, 1e200, np.inf])], np.array([1.0, 0.5]))
        wide, _ = kernel.value_jacobian([np.array([0.0])], np.array([1.0, 1e308]))
    assert value == pytest.approx(special.voigt_profile([0.0, 1e3, 1e200, np.inf], 1.0, 0.5), rel=1e-12)
    assert wide == pytest.approx([1 / math.pi / 1e308], rel=1e-9)


def test_the_faddeeva_function_at_its_ends():
    assert wofz([0.0, 1.0, np.inf], [np.inf, np.inf, 1.0], "real").tolist() == [0, 0, 0]
    assert wofz(0.0, 0.0, "real") == 1


# ---------------------------------------------------------------------------- autograd on whole columns


class Doubled(torch.autograd.Function):
    """2x with a derivative of its own, and none in forward mode."""

    @staticmethod
    def forward(_ctx, x):
        return 2 * x

    @staticmethod
    def backward(_ctx, g):
        return 2 * g


class Once(torch.autograd.Function):
    """exp, whose derivative cannot be differentiated again."""

    @staticmethod
    def forward(ctx, x):
        y = torch.exp(x)
        ctx.save_for_backward(y)
        return y

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, g):
        return g * ctx.saved_tensors[0]


def _branch(x, a, b):
    return a * x**2 if a > 0 else b * x


def _in_place(x, a, b):
    x[x < 0.6] = 0.0
    x *= 2
    return a * x + b


def _by_mask(x, a, b):
    y = torch.zeros_like(x)
    y[x < 0.6] = a * x[x < 0.6]
    y[x >= 0.6] = b
    return y


COLUMNWISE = {
    "mean": (lambda x, a, b: a * (x - x.mean()) + b, lambda x, a, b: [x - x.mean(), 1 + 0 * x]),
    "largest": (lambda x, a, b: a * x / x.max() + b**2, lambda x, a, b: [x / x.max(), 2 * b + 0 * x]),
    "cumsum": (
        lambda x, a, b: torch.cumsum(a * x, 0) * b,
        lambda x, a, b: [np.cumsum(x) * b, np.cumsum(a * x)],
    ),
    "custom function": (lambda x, a, b: Doubled.apply(a) * x + b, lambda x, a, b: [2 * x, 1 + 0 * x]),
    "custom function of columns": (
        lambda x, a, b: Doubled.apply(a * x + b),
        lambda x, a, b: [2 * x, 2 + 0 * x],
    ),
    "not differentiable twice": (
        lambda x, a, b: Once.apply(a * x) + b,
        lambda x, a, b: [x * np.exp(a * x), 1 + 0 * x],
    ),
    "branch": (_branch, lambda x, a, b: [x**2, 0 * x]),
    "in place": (_in_place, lambda x, a, b: [np.where(x < 0.6, 0, 2 * x), 1 + 0 * x]),
    "by mask": (_by_mask, lambda x, a, b: [np.where(x < 0.6, x, 0), (x >= 0.6) * 1.0]),
    "one number": (lambda x, a, b: a * b, lambda x, a, b: [b + 0 * x, a + 0 * x]),
    "no parameter": (lambda x, a, b: x * 2, lambda x, a, b: [0 * x, 0 * x]),
    "float32": (lambda x, a, b: (a * x).float() + b, lambda x, a, b: [x, 1 + 0 * x]),
    "voigt": (
        torch_function(parse("voigt(x, a, b)").right, ("x", "a", "b")),
        lambda x, a, b: NumpyKernel(traced("voigt(x, a, b)")).value_jacobian([x], np.array([a, b]))[1].T,
    ),
}


@pytest.mark.parametrize("name", COLUMNWISE)
def test_autograd_on_whole_columns(name):
    function, slopes = COLUMNWISE[name]
    kernel = AutogradKernel(function)
    x, p = np.array([0.3, 0.5, 1.0, 2.5]), np.array([1.3, 0.7])
    for _ in range(2):  # the second call uses what the first has learned
        value, jacobian = kernel.value_jacobian([x], p)
        assert jacobian == pytest.approx(
            np.stack(slopes(x, *p), axis=1), rel=1e-6 if name == "float32" else 1e-12, abs=1e-14
        )
        assert np.array_equal(kernel.value([x], p), value)
    assert x.tolist() == [0.3, 0.5, 1.0, 2.5]


def test_autograd_takes_few_sweeps_behind_a_custom_function():
    class Counted(Doubled):
        sweeps = 0

        @staticmethod
        def backward(_ctx, g):
            Counted.sweeps += 1
            return 2 * g

    kernel = AutogradKernel(lambda x, a, b: Counted.apply(a * x + b))
    kernel.value_jacobian([np.linspace(0, 1, 500)], np.ones(2))
    assert 1 <= Counted.sweeps < 10


def test_autograd_where_rows_are_not_finite():
    kernel = AutogradKernel(lambda x, a, b: torch.sqrt(a * x - b) * torch.exp(x))
    _, jacobian = kernel.value_jacobian([np.array([-1.0, 0.5, 4.0, 2000.0])], np.array([1.0, 0.5]))
    assert np.isfinite(jacobian).all(axis=1).tolist() == [False, False, True, False]
    assert jacobian[2, 0] == pytest.approx(2 / math.sqrt(3.5) * math.exp(4))


def test_autograd_refuses_another_shape():
    kernel = AutogradKernel(lambda x, a: (a * x)[:, None])
    with pytest.raises(ShapeError, match=r"the model returned shape \(3, 1\) for 3 rows"):
        kernel.value([np.ones(3)], np.ones(1))


# ---------------------------------------------------------------------------- differences

X = np.linspace(0.2, 2.5, 9)


@pytest.mark.parametrize(
    ("function", "slopes"),
    [
        (lambda x, a, b: a * np.exp(-b * x), lambda x, a, b: [np.exp(-b * x), -a * x * np.exp(-b * x)]),
        (lambda x, a, b: np.sin(a * x) / b, lambda x, a, b: [x * np.cos(a * x) / b, -np.sin(a * x) / b**2]),
        (lambda x, a, b: x**a + np.log(b * x), lambda x, a, b: [x**a * np.log(x), 1 / b + 0 * x]),
        (lambda x, a, b: a / (1 + np.exp(-(x - b) * 3)), lambda x, a, b: _logistic_slopes(x, a, b)),
    ],
)
@pytest.mark.parametrize("p", [(1.3, 0.7), (3e-4, 2.0), (-2.0, 5.0)])
@pytest.mark.parametrize("room", [None, 0.0, 1e-5, 0.3])
@pytest.mark.parametrize("side", ["lower", "upper"])
def test_differences(function, slopes, p, room, side):
    bounds = {} if room is None else {side: np.array(p) + (room if side == "upper" else -room) * np.abs(p)}
    seen = []

    def watched(x, a, b):
        seen.append((a, b))
        return function(x, a, b)

    _, jacobian = DifferenceKernel(watched, **bounds).value_jacobian([X], np.array(p))
    expected = np.stack(slopes(X, *p), axis=1)
    size = np.max(np.abs(expected), axis=0) + np.max(np.abs(function(X, *p))) / np.abs(p)
    assert (np.abs(jacobian - expected) <= 1e-9 * size).all()
    if bounds:
        excess = (np.array(seen) - bounds[side]) * (1 if side == "upper" else -1)
        assert np.max(excess) <= 0


def _logistic_slopes(x, a, b):
    s = 1 / (1 + np.exp(-(x - b) * 3))
    return [s, -3 * a * s * (1 - s)]


@pytest.mark.parametrize("p", [1e-300, -1e-300, 1e300, 1e-12, 1e12, 1e150])
def test_differences_of_extreme_parameters(p):
    _, jacobian = DifferenceKernel(lambda x, a: a * x).value_jacobian([X], np.array([p]))
    assert jacobian[:, 0] == pytest.approx(X, rel=1e-9)


def test_differences_at_zero():
    _, jacobian = DifferenceKernel(lambda x, a: np.sin(a * x) + x).value_jacobian([X], np.zeros(1))
    assert jacobian[:, 0] == pytest.approx(X, rel=1e-9)


@settings(max_examples=200)
@given(st.floats(-1e3, 1e3), st.floats(0, 10), st.floats(0, 10))
def test_differences_stay_inside(value, below, above):
    low, high = value - below, value + above
    seen = []

    def watched(x, a):
        seen.append(float(a))
        return a**3 + 0 * x

    kernel = DifferenceKernel(watched, np.array([low]), np.array([high]))
    _, jacobian = kernel.value_jacobian([X], np.array([value]))
    assert low <= min(seen) <= max(seen) <= high
    if below + above > 1e-3 * (1 + abs(value)):
        assert jacobian[:, 0] == pytest.approx(3 * value**2, rel=1e-7, abs=1e-7)
    assert np.isfinite(jacobian).all()


def _raising(x, a):
    if a > 1:
        return math.exp(1000 * a) * x
    return math.log(a) * x


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (_raising, 2.0),  # OverflowError
        (_raising, -1.0),  # ValueError
        (lambda x, a: a**0.5 * x, -1.0),  # a number that is no Python float: NaN, not complex
        (lambda x, a: (a + 0j) ** 0.5 * x, -1.0),
        (lambda x, a: x / (a - a), 1.0),
    ],
)
def test_no_number_is_no_error(function, value):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        seen, jacobian = DifferenceKernel(function).value_jacobian([X], np.array([value]))
    assert not np.isfinite(seen).any()
    assert not np.isfinite(jacobian).any()
    assert seen.dtype == jacobian.dtype == np.float64


def test_differences_hand_out_copies():
    def writing(x, a):
        x -= 0.5
        return a * x

    x = X.copy()
    _, jacobian = DifferenceKernel(writing).value_jacobian([x], np.ones(1))
    assert np.array_equal(x, X)
    assert jacobian[:, 0] == pytest.approx(X - 0.5, rel=1e-9)


def test_differences_refuse_another_shape():
    with pytest.raises(ShapeError, match=r"the model returned shape \(9, 1\) for 9 rows"):
        DifferenceKernel(lambda x, a: (a * x)[:, None]).value([X], np.ones(1))
