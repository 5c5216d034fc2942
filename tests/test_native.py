"""The native executor: the same numbers as the others, the same bits whatever else is in the batch, and a store it survives."""

import ctypes
import subprocess
import sys

import numpy as np
import pytest
from answers import NIST, digits

import gradfit
from gradfit.kernel import NativeKernel, NumpyKernel
from gradfit.library import MODELS
from gradfit.model import bind_formula
from gradfit.native.code import Code
from gradfit.native.compiled import library
from gradfit.native.small import SmallFit
from gradfit.solve.lockstep import native as lockstep_native
from gradfit.solve.lockstep import numpy as lockstep
from gradfit.solve.lockstep.batch import STATUS, Batch, Cost, Settings


def graph_of(formula: str, columns=("x", "y")):
    graph = bind_formula(formula, columns, None, frozenset(), "data", ()).graph
    assert graph is not None
    return graph


# ---------------------------------------------------------------------------- code


@pytest.mark.parametrize("lanes", [1, 2, 4, 8])
def test_a_function_written_on_lanes_runs(lanes):
    def write(module):
        code = Code(module, "norms", pointers=("x", "out"), numbers=("n",))
        total = code.cell(code.constant(0.0, lanes))
        with code.loop(0, code.number("n"), step=lanes) as i:
            x = code.load("x", i, lanes=lanes)
            code.store("out", i, (x > 0.0).pick(x * 2.0, 1.0 / x))
            total.set(x.times(x, total.get()))
        code.store("out", code.number("n"), code.total(total.get()))
        code.finish(7)

    built = library(f"norms on {lanes}", write)
    norms = built.function("norms", [ctypes.c_void_p] * 2 + [ctypes.c_int64])
    x = np.array([1.0, -2.0, 3.0, -4.0, 5.0, 6.0, 7.0, 8.0])
    out = np.zeros(9)
    assert norms(x.ctypes.data, out.ctypes.data, 8) == 7
    np.testing.assert_array_equal(out[:8], np.where(x > 0, 2 * x, 1 / x))
    assert out[8] == np.sum(x * x)


# ---------------------------------------------------------------------------- one model, all rows


def close(native, reference, value, within=1e-12):
    scale = np.max(np.abs(reference), axis=0) + np.max(np.abs(value)) * 1e-14
    with np.errstate(all="ignore"):
        off = np.abs(native - reference) / np.where(scale > 0, scale, 1.0)
    same = (native == reference) | (np.isnan(native) & np.isnan(reference))
    return bool(np.all(same | (off < within)))


@pytest.mark.parametrize("name", sorted(MODELS))
def test_library_models_agree_with_numpy(name):
    graph = gradfit.Model(name).bound.graph if hasattr(gradfit.Model(name), "bound") else None
    if graph is None:
        graph = graph_of(MODELS[name].formula)
    random = np.random.default_rng(0)
    columns = [random.uniform(0.1, 5, 101) for _ in graph.variables] or [np.zeros(101)]
    for _ in range(3):
        parameters = random.uniform(0.3, 3, len(graph.parameters))
        value, jacobian = NumpyKernel(graph).value_jacobian(columns, parameters)
        mine = NativeKernel(graph)
        got, slopes = mine.value_jacobian(columns, parameters)
        assert close(got, value, value)
        # in the Voigt profile's derivatives terms cancel to five digits
        assert close(slopes, jacobian, value, within=1e-10 if "voigt" in name else 1e-12)
        np.testing.assert_array_equal(mine.value(columns, parameters), got)


@pytest.mark.parametrize("case", NIST, ids=lambda c: c.name)
def test_certified_problems_agree_with_numpy(case):
    problem = gradfit.fit(case.formula, case.path, start=case.starts[0] if case.starts else None).problem
    graph = problem.model.graph
    order = [case.params.index(p) for p in graph.parameters]
    parameters = np.array(case.values, dtype=float)[order]
    value, jacobian = NumpyKernel(graph).value_jacobian(problem.columns, parameters)
    got, slopes = NativeKernel(graph).value_jacobian(problem.columns, parameters)
    with np.errstate(all="ignore"):
        scale = np.max(np.abs(jacobian * parameters), axis=1)  # Filip's terms cancel by ten digits
    assert np.all(np.abs(got - value) <= 1e-14 * np.maximum(np.abs(value), scale) * len(parameters))
    assert close(slopes, jacobian, value)


# ---------------------------------------------------------------------------- one small fit


def walk(graph, columns, y, start, weight=None, free=None, **bounds):
    free = range(len(graph.parameters)) if free is None else free
    fit = SmallFit(graph, free, weighted=weight is not None)
    limits = {"lower": None, "upper": None, **bounds}
    start = np.array([start[p] for p in graph.parameters], dtype=float)
    return fit(columns, y, weight, start, **limits, most=500, tolerance=1e-3, damping=1e-2)


@pytest.mark.parametrize("case", [c for c in NIST if not c.linear], ids=lambda c: c.name)
def test_a_compiled_walk_ends_at_the_certified_digits_or_says_that_it_cannot(case):
    problem = gradfit.fit(case.formula, case.path, start=case.starts[1], max_iterations=1).problem
    graph = problem.model.graph
    end = walk(graph, problem.columns, problem.y, case.starts[1], problem.weight)
    if end is None:
        assert case.name in {"Bennett5", "Hahn1", "Lanczos1", "Lanczos2", "Lanczos3", "MGH10"}
    else:
        order = [graph.parameters.index(p) for p in case.params]
        assert digits(end.parameters[order], case.values) > 9.5


def test_fixed_parameters_and_weights_in_a_compiled_walk():
    graph = graph_of("y = a*exp(-x/tau) + c")
    x = np.linspace(0, 5, 33)
    weight = np.linspace(0.5, 2, 33)
    y = 3 * np.exp(-x / 1.3) + 0.4 + 0.05 * np.cos(7 * x)
    start = {"a": 2.0, "tau": 1.0, "c": 0.5}
    end = walk(graph, [x], y, start, weight=weight, free=[0, 1])
    plain = gradfit.fit(
        "y = a*exp(-x/tau) + c", {"x": x, "y": y, "w": weight**2}, start=start, fixed={"c": 0.5}, weights="w"
    )
    assert end is not None
    np.testing.assert_allclose(end.parameters, plain.parameters[:2], rtol=1e-10)
    errors = np.sqrt(np.array([end.covariance[0], end.covariance[2]]) * end.cost / 31)
    np.testing.assert_allclose(errors, [plain.params["a"].stderr, plain.params["tau"].stderr], rtol=1e-7)


def test_a_walk_that_meets_a_bound_is_left_to_the_solver_that_walks_along_it():
    graph = graph_of("y = a*exp(-x/tau) + c")
    x = np.linspace(0, 5, 33)
    y = 3 * np.exp(-x / 1.3) + 0.4 + 0.05 * np.cos(7 * x)
    start = {"a": 2.0, "tau": 1.0, "c": 0.5}
    wide = {"lower": np.array([0.0, 0.1, 0.0]), "upper": np.array([9.0, 9.0, 9.0])}
    assert walk(graph, [x], y, start, **wide) is not None
    assert walk(graph, [x], y, start, lower=wide["lower"], upper=np.array([9.0, 1.2, 9.0])) is None


@pytest.mark.parametrize("y", [np.full(9, np.nan), np.full(9, np.inf), np.full(9, 1e300)])
def test_a_compiled_walk_over_hopeless_data_says_so(y):
    graph = graph_of("y = a*exp(-x/tau) + c")
    assert walk(graph, [np.linspace(0, 5, 9)], y, {"a": 2.0, "tau": 1.0, "c": 0.5}) is None


# ---------------------------------------------------------------------------- many fits

RANDOM = np.random.default_rng(1)
M = 300
X = np.linspace(-3, 3, 25)
TRUE = np.stack(
    [RANDOM.uniform(3, 8, M), RANDOM.uniform(-1, 1, M), RANDOM.uniform(0.7, 1.5, M), RANDOM.uniform(0, 2, M)],
    1,
)
CLEAN = TRUE[:, :1] * np.exp(-(((X - TRUE[:, 1:2]) / TRUE[:, 2:3]) ** 2)) + TRUE[:, 3:]
Y = CLEAN + 0.03 * TRUE[:, :1] * RANDOM.normal(size=CLEAN.shape)
START = TRUE * RANDOM.uniform(0.75, 1.25, TRUE.shape) + [0, 0.2, 0, 0]
WEIGHT = RANDOM.uniform(0.5, 2, Y.shape)
HOLES = WEIGHT * (RANDOM.random(Y.shape) > 0.3)
HOLES[:3] = 0
UNKNOWN = np.where([True, False, False, True], np.nan, START)
OUTLIERS = Y + 5 * (RANDOM.random(Y.shape) < 0.05)
OPEN = np.full(4, np.inf)
PEAK = "y = a*exp(-((x - c)/w)**2) + b"

CASES = {
    "plain": (Batch((X,), Y), START, {}),
    "one start for all": (Batch((X,), Y), np.array([[5.0, 0.1, 1.0, 1.0]]), {}),
    "weights": (Batch((X,), Y, WEIGHT), START, {"settings": Settings(absolute=True)}),
    "shared weights": (Batch((X,), Y, WEIGHT[0]), START, {}),
    "missing points": (Batch((X,), np.where(HOLES == 0, 1e30, Y), HOLES), START, {}),
    "own x": (Batch((X + RANDOM.normal(0, 0.1, Y.shape),), Y), START, {}),
    "fixed": (Batch((X,), Y), START, {"free": np.array([0, 1, 3])}),
    "bounds": (
        Batch((X,), Y),
        np.clip(START, [-9, -9, 0.9, 0.2], [6, 9, 1.3, 9]),
        {"lower": np.array([-np.inf, -np.inf, 0.9, 0.2]), "upper": np.array([6, np.inf, 1.3, np.inf])},
    ),
    "linear ones unknown": (Batch((X,), Y), UNKNOWN, {}),
    "counts": (
        Batch((X,), RANDOM.poisson(8 * CLEAN + 8).astype(float)),
        START * [8, 1, 1, 8] + [0, 0, 0, 8],
        {"loss": Cost("poisson")},
    ),
    **{
        name: (Batch((X,), OUTLIERS, WEIGHT), START, {"loss": Cost(name, 1.5)})
        for name in ("soft_l1", "huber", "cauchy", "bisquare")
    },
    "a scale for each": (Batch((X,), OUTLIERS), START, {"loss": Cost("huber", RANDOM.uniform(1, 2, M))}),
}  # fmt: skip


def settings_of(options):
    return {
        "free": np.arange(4), "lower": -OPEN, "upper": OPEN, "loss": Cost(), "settings": Settings(), **options,
    }  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_many_fits_agree_with_the_numpy_executor(name):
    batch, start, options = CASES[name]
    options = settings_of(options)
    graph = graph_of(PEAK)
    mine = lockstep_native.solve(graph, batch, start, **options)
    reference = lockstep.solve(NumpyKernel(graph), batch, start, **options)
    both = (mine.status == 0) & (reference.status == 0)
    assert np.count_nonzero(both) >= 0.98 * M
    assert np.count_nonzero(mine.status == 0) >= np.count_nonzero(reference.status == 0) - 1
    free = options["free"]
    off = np.abs(mine.parameters - reference.parameters)[both]
    # on a bound there is no standard error, and the parameter is the bound
    error = np.where(np.isnan(reference.stderr[both]), 1e-9, reference.stderr[both])
    flipped = off[:, 2] > 1  # the peak of width -w
    assert np.all(off[~flipped][:, free] <= 1e-6 * error[~flipped][:, free])
    assert np.count_nonzero(flipped) <= 0.01 * M
    np.testing.assert_allclose(mine.stderr[both], reference.stderr[both], rtol=1e-4)
    np.testing.assert_allclose(mine.rss[both], reference.rss[both], rtol=1e-9)
    np.testing.assert_array_equal(mine.points, reference.points)


@pytest.mark.parametrize("name", CASES)
def test_bits_depend_neither_on_neighbours_nor_on_threads(name):
    batch, start, options = CASES[name]
    options = settings_of(options)
    graph = graph_of(PEAK)
    whole = lockstep_native.solve(graph, batch, start, **options)
    some = np.array([250, 3, 4, 17, 18, 19, 77, 211, 5, 6, 290])
    options["loss"] = options["loss"].rows(some)
    part = lockstep_native.solve(graph, batch.rows(some), start[some] if len(start) > 1 else start, **options)
    for quantity in ("parameters", "stderr", "rss", "iterations", "status", "points"):
        np.testing.assert_array_equal(getattr(whole, quantity)[some], getattr(part, quantity), quantity)


def test_fifteen_parameters():
    random = np.random.default_rng(3)
    x = np.linspace(0, 20, 120)
    true = np.concatenate(
        [
            [
                random.uniform(3, 8, 40),
                2 + 4 * i + random.uniform(-0.3, 0.3, 40),
                random.uniform(0.7, 1.2, 40),
            ]
            for i in range(5)
        ]
    ).T
    y = sum(
        true[:, 3 * i, None] * np.exp(-(((x - true[:, 3 * i + 1, None]) / true[:, 3 * i + 2, None]) ** 2))
        for i in range(5)
    )
    graph = graph_of("y = " + " + ".join(f"a{i}*exp(-((x - c{i})/w{i})**2)" for i in range(5)))
    batch = Batch((x,), y + random.normal(0, 0.1, y.shape))
    options = {
        "free": np.arange(15), "lower": np.full(15, -np.inf), "upper": np.full(15, np.inf), "loss": Cost(), "settings": Settings(),
    }  # fmt: skip
    start = true * random.uniform(0.95, 1.05, true.shape)
    mine = lockstep_native.solve(graph, batch, start, **options)
    reference = lockstep.solve(NumpyKernel(graph), batch, start, **options)
    assert (mine.status == 0).all()
    assert np.all(np.abs(mine.parameters - reference.parameters) <= 1e-6 * reference.stderr)
    np.testing.assert_allclose(mine.stderr, reference.stderr, rtol=1e-5)


def test_single_precision_keeps_the_digits_it_says():
    graph = graph_of(PEAK)
    options = settings_of({})
    double = lockstep_native.solve(graph, Batch((X,), Y), START, **options)
    options["settings"] = Settings(dtype="float32")
    single = lockstep_native.solve(graph, Batch((X,), Y), START, **options)
    assert (single.status == 0).all()
    off = np.abs(single.parameters - double.parameters)
    assert np.all(off <= 0.005 * double.stderr)
    assert np.any(off > 1e-9 * np.abs(double.parameters))
    np.testing.assert_allclose(single.stderr, double.stderr, rtol=1e-2)


def test_bad_fits_get_a_status_and_leave_the_others_alone():
    bad = Y.copy()
    bad[::10] = 1e30
    bad[1::10] = np.where(X > 0, 3.0, 1e30)
    bad[2::10] = 3.0
    graph = graph_of(PEAK)
    options = settings_of({})
    clean = lockstep_native.solve(graph, Batch((X,), Y), START, **options)
    mixed = lockstep_native.solve(graph, Batch((X,), bad), START, **options)
    good = np.arange(M) % 10 > 2
    np.testing.assert_array_equal(mixed.parameters[good], clean.parameters[good])
    np.testing.assert_array_equal(mixed.rss[2::10], 0.0)
    assert np.isfinite(mixed.parameters).all()


def test_too_few_points_are_said():
    weight = np.ones(Y.shape)
    weight[7, 3:] = 0
    ends = lockstep_native.solve(graph_of(PEAK), Batch((X,), Y, weight), START, **settings_of({}))
    assert STATUS[ends.status[7]] == "too-few-points"
    assert np.isnan(ends.stderr[7]).all()


# ---------------------------------------------------------------------------- the store


def test_a_second_process_compiles_nothing(tmp_path, monkeypatch):
    program = (
        "from gradfit.model import bind_formula\n"
        "from gradfit.native.small import SmallFit\n"
        "g = bind_formula('y = a*exp(-x/tau) + c', ('x', 'y'), None, frozenset(), 'd', ()).graph\n"
        "print(SmallFit(g, range(3), weighted=False).library.from_disk)\n"
    )
    monkeypatch.setenv("GRADFIT_CACHE", str(tmp_path / "cache"))
    said = [
        subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True
        ).stdout.strip()
        for _ in range(2)
    ]
    assert said == ["False", "True"]
