"""What to expect of a model: `gradfit bench`, the flops of a model, the peak, simulated data, and the page of benchmarks."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from command_line import Run, flat, listed, runner

import gradfit
from gradfit.bench import bench
from gradfit.errors import GradfitError, ModelError, OptionError
from gradfit.formula import parse
from gradfit.library import MODELS
from gradfit.native.compiled import lanes
from gradfit.native.peak import flops, peak
from gradfit.simulation import simulation
from gradfit.trace import trace_formula

PEAK = "y = a*exp(-((x - c)/w)**2) + b"
TINY = {"points": 12, "fits": 30, "rows": 500, "seconds": 0.001}
WIDE = "y = " + " + ".join(f"a{k}*cos({k}*x)" for k in range(1, 26))


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    return runner(tmp_path, monkeypatch, capsys)


# ---------------------------------------------------------------------------- flops and the peak


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (
            "y = a + x",
            1 + 1 + 2 + 2 + 2,
        ),  # model, residual, cost, gradient, curvature; d/da is the constant 1
        ("y = a*x + b", 2 + 1 + 2 + 2 * 2 + 3 * 2),
        ("y = a*x/2", 2 + 1 + 2 + 2 + 2 + 1),
    ],
)
def test_flops_are_those_of_pencil_and_paper(text, count):
    formula = parse(text)
    names = tuple(name for name in formula.right.names if name != "x")
    graph = trace_formula(formula.right, ("x",), names)
    assert abs(flops(graph, range(len(names))) - count) <= 1


def test_an_exp_has_tens_of_flops_and_what_depends_on_parameters_alone_none():
    def of(text):
        graph = trace_formula(parse(text).right, ("x",), ("a", "b"))
        return flops(graph, (0, 1))

    assert 20 < of("y = exp(a*x) + b") - of("y = a*x + b") < 60
    assert of("y = exp(a)*x + b") == of("y = a*x + b")
    assert of("y = lgamma(x) + a*x + b") < of("y = exp(x) + a*x + b")  # a call of the C library is one
    assert flops(trace_formula(parse("y = a*x + b").right, ("x",), ("a", "b")), (0,)) < of("y = a*x + b")


def test_the_peak_is_that_of_a_processor():
    found = peak(0.02)
    assert math.isfinite(found)
    assert 0.05 < found < 100 * lanes()  # a slow emulator, and no processor that exists


# ---------------------------------------------------------------------------- simulated data


@pytest.mark.parametrize(
    "text",
    [
        PEAK, "y = w*x + b", "y = a*exp(-x/tau) + c", "y = a*sin(w*x + p)", "y = a*x**b", "y = a*log(b*x)",
        "y = a/(1 + exp(-k*(x - m)))", "y = a*exp(-b*x) + c*exp(-d*x)",
    ],
)  # fmt: skip
def test_parameters_are_found_that_the_data_give_back(text):
    data = simulation(text, ("x", "y"), points=40)
    result = gradfit.fit(text, data.table(40), start=data.begin)
    assert result.converged
    for value, p in zip(data.truth, result.params.values(), strict=True):
        assert abs(p.value - value) < 5 * p.stderr
        assert p.stderr < abs(value)


def test_given_parameters_and_range_are_kept_and_noise_goes_with_them():
    data = simulation(PEAK, ("x", "y"), points=25, start={"c": 550.0, "w": 20.0}, span=(400.0, 700.0))
    truth = dict(zip(data.model.parameters, data.truth, strict=True))
    assert (truth["c"], truth["w"]) == (550.0, 20.0)
    arrays = data.many(7, 25)
    assert arrays["y"].shape == (7, 25)
    assert (arrays["x"][0], arrays["x"][-1]) == (400.0, 700.0)
    assert np.ptp(arrays["y"].mean(axis=0)) > 10 * data.noise
    assert np.array_equal(data.many(7, 25)["y"], arrays["y"])


@pytest.mark.parametrize("name", ["gaussian", "antoine", "arrhenius", "quintic"])
def test_a_library_model_has_its_own_example(name):
    data = simulation(name, ("x", "y"), points=30)
    assert dict(zip(data.model.parameters, data.truth, strict=True)) == MODELS[name].example
    assert data.span == MODELS[name].span


def test_several_inputs_are_drawn():
    data = simulation("y = a*x1 + b*x2 + c", ("x1", "x2", "y"), points=20)
    columns = data.table(20)
    assert list(columns) == ["x1", "x2", "y"]
    assert abs(np.corrcoef(columns["x1"], columns["x2"])[0, 1]) < 0.9


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("log(y) = a*x + b", {}, "more than a column"),
        (PEAK, {"start": {"q": 1.0}}, "q is no parameter"),
        (PEAK, {"points": 4}, "4 points cannot determine 4 parameters"),
        ("y = log(a - x)", {"start": {"a": 1.0}}, "not finite everywhere between"),
        ("y = (a + b)*x", {}, "No parameters were found that 25 simulated points determine"),
        ("y = sqrt(-1 - (a*x)**2)", {}, "No parameters were found"),
    ],
)
def test_what_cannot_be_simulated_is_refused(text, options, sentence):
    with pytest.raises((OptionError, ModelError)) as caught:
        simulation(text, ("x", "y"), **{"points": 25, **options})
    assert sentence in caught.value.message
    assert caught.value.remedy


# ---------------------------------------------------------------------------- the measurement


def test_every_way_of_fitting_is_measured():
    found = bench(PEAK, ("x", "y"), threads=1, **TINY)
    assert found.native is not None
    assert (found.native.executor, found.numpy.executor, found.scipy.executor) == ("native", "numpy", "scipy")
    for speed in (found.small, found.scipy, found.numpy, found.native, found.large):
        assert speed.seconds > 0
        assert speed.rate > 0
        assert speed.converged > 0.9
    assert (found.small.size, found.native.size, found.large.size) == (1, 30, 500)
    assert found.native.gflops is not None
    assert 0 < found.share(found.native) < 1
    assert found.share(found.scipy) is None
    assert found.chosen is found.numpy  # 360 points are not worth compiling
    assert found.seconds == pytest.approx(30 / found.numpy.rate)


def test_what_was_compiled_is_read_the_second_time(tmp_path, monkeypatch):
    monkeypatch.setenv("GRADFIT_CACHE", str(tmp_path / "cache"))
    text = "y = a*exp(-x/tau)**1.5 + c"
    assert bench(text, ("x", "y"), **TINY).compiled
    monkeypatch.setenv("GRADFIT_CACHE", "off")
    assert bench(text.replace("1.5", "2.5"), ("x", "y"), **TINY).compiled


def test_a_model_without_machine_code_says_so(run):
    start = ",".join(f"a{k}=1" for k in range(1, 26))
    words = ("bench", WIDE, "--start", start, "--points", 60, "--fits", 20, "--rows", 400)
    seen = run(*words)
    assert (seen.code, seen.err) == (0, "")
    assert "native has no code for 25 free parameters" in flat(seen.out)
    assert "fit_many, native" not in seen.out
    told = json.loads(run(*words, "--json").out)
    assert told["speeds"]["native"] is None
    assert told["estimate"]["executor"] == "numpy"
    assert "25 free parameters" in told["why"]


# ---------------------------------------------------------------------------- the command


QUICK = ("--points", "12", "--fits", "3e5", "--rows", "600")


def test_the_command_shows_a_table_and_writes_nothing(run, tmp_path):
    seen = run("bench", PEAK, *QUICK, "--threads", "1")
    assert (seen.code, seen.err) == (0, "")
    text = flat(seen.out)
    for part in (
        "300 000 fits of 12 points:", "native, 1 thread", PEAK, "gradfit.fit", "scipy curve_fit", "fit_many, numpy",
        "fit_many, native", "one fit of 600 points", "GFLOP/s", "of peak", "flops an evaluation", "Simulated: a = ",
    ):  # fmt: skip
        assert part in text
    assert max(len(line) for line in seen.out.splitlines()) <= 100
    assert listed(tmp_path) == {}


def test_json_has_every_number(run):
    seen = (
        run("bench", "decay", *QUICK, "--json")
        if "decay" in MODELS
        else run("bench", "gaussian", *QUICK, "--json")
    )
    told = json.loads(seen.out)
    assert told["gradfit"] == gradfit.__version__
    assert (told["points"], told["fits"]) == (12, 300_000)
    assert set(told["machine"]) == {"processor", "cores", "memory"}
    assert set(told["speeds"]) == {"small", "scipy", "numpy", "native", "large"}
    for speed in told["speeds"].values():
        assert set(speed) == {"executor", "size", "seconds", "spread", "converged", "gflops", "rate", "share"}
    assert set(told["estimate"]) == {"executor", "seconds", "bytes", "scipy_seconds"}
    assert told["estimate"]["bytes"] == 8 * 300_000 * (12 + 2 * len(told["truth"]) + 3)
    assert told["flops"] > 10
    assert told["peak"] > 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((PEAK, "--points", "0"), "--points takes a whole number from 1 up, and '0' is none"),
        ((PEAK, "--fits", "1e99"), "--fits takes a whole number"),
        ((PEAK, "--rows", "2.5"), "--rows takes a whole number"),
        ((PEAK, "--rows", "nan"), "--rows takes a whole number"),
        ((PEAK, "--rows", "1e12"), "would take"),
        ((PEAK, "--x", "5:3"), "--x takes a range from low to high"),
        ((PEAK, "--x", "nan:1"), "--x takes a range from low to high"),
        ((PEAK, "--start", "a"), "--start takes name=value"),
        (("z = a*u + b",), "Which names of 'z = a*u + b' are data"),
        (("gausian",), "gausian"),
    ],
)
def test_bad_use_is_refused_in_a_sentence(run, words, sentence):
    seen = run("bench", *words)
    assert (seen.code, seen.out) == (2, "")
    assert sentence in flat(seen.err)
    assert "Not measured" in seen.err


def test_a_function_refuses_numbers_that_make_no_sense():
    with pytest.raises(GradfitError, match="fits must be at least 1, and is 0"):
        bench(PEAK, ("x", "y"), fits=0)


# ---------------------------------------------------------------------------- the page


@pytest.fixture(scope="module")
def page_maker():
    place = Path(__file__).parents[1] / "benchmarks" / "run.py"
    spec = importlib.util.spec_from_file_location("benchmarks_run", place)
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before


def test_sections_that_are_not_measured_again_stay(page_maker, tmp_path):
    page = tmp_path / "benchmarks.md"
    page_maker.written(page, "training", "## Training\n\nold")
    page_maker.written(page, "small", "## Small fits, warm\n\nfirst")
    assert page_maker.parts(page.read_text()) == {
        "small": "## Small fits, warm\n\nfirst", "training": "## Training\n\nold",
    }  # fmt: skip
    assert page_maker.main(["--page", str(page), "machine"]) == 0
    parts = page_maker.parts(page.read_text())
    assert list(parts) == ["machine", "small", "training"]
    assert parts["training"] == "## Training\n\nold"
    assert "GFLOP/s a core" in parts["machine"]
    assert "Measured 20" in parts["machine"]
    assert listed(tmp_path).keys() == {"benchmarks.md"}


def test_a_section_that_is_not_there_is_named_and_what_the_page_had_stays(
    page_maker, tmp_path, monkeypatch, capsys
):
    page = tmp_path / "benchmarks.md"
    page_maker.written(page, "many", "## Many fits\n\nkept")
    monkeypatch.setitem(page_maker.SECTIONS, "many", page_maker.Section("Many fits", "absent", (("lines",),)))
    assert page_maker.main(["--page", str(page), "many"]) == 1
    assert "many: benchmarks/absent.py is not there" in capsys.readouterr().err
    assert page_maker.parts(page.read_text())["many"] == "## Many fits\n\nkept"
