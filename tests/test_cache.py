"""What a second process finds on disk: the graphs of formulas, so that it need not import torch; and `gradfit cache`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from answers import NIST
from command_line import LINE, THERMOMETER, Run, flat, runner

import gradfit
from gradfit import store
from gradfit.formula import parse
from gradfit.library import MODELS
from gradfit.trace import trace_formula
from gradfit.trace.kept import key_of_trace, recalled

DECAY = "y = a*exp(-b*x) + c"
WHOLE = (parse(DECAY).right, ("x",), ("a", "b", "c"))


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GRADFIT_CACHE", str(tmp_path / "cache"))
    trace_formula.cache_clear()
    return tmp_path / "cache"


@pytest.fixture
def run(home, tmp_path, monkeypatch, capsys) -> Run:
    assert store.folder() == home
    (tmp_path / "work").mkdir()
    return runner(tmp_path / "work", monkeypatch, capsys)


# ---------------------------------------------------------------------------- processes

_COMMAND = """
import sys
{before}
from gradfit.cli import main
code = main(["fit", {file!r}, {model!r}, "--json", *sys.argv[1:]])
print("torch" in sys.modules, file=sys.stderr)
sys.exit(code)
"""


def process(*words: str, before: str = "", model: str = LINE) -> subprocess.Popen[str]:
    code = _COMMAND.format(before=before, file=str(THERMOMETER), model=model)
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def answer(started: subprocess.Popen[str]) -> tuple[object, bool]:
    """Return the parameters that a process found, and whether it imported torch."""
    out, told = started.communicate(timeout=120)
    assert (started.returncode, told.strip() in {"True", "False"}) == (0, True), told
    return json.loads(out)["parameters"], told.strip() == "True"


@pytest.fixture(scope="module")
def shared(tmp_path_factory):
    """A cold cache that two processes began to use at once, and what they found."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("shared")
        patch.setenv("GRADFIT_CACHE", str(folder))
        started = [process(), process()]
        return folder, [answer(each) for each in started]


@pytest.fixture
def warm(shared, home):
    """A copy of the cache that the two left, and the parameters they found."""
    folder, [(parameters, _), _] = shared
    shutil.copytree(folder, home)
    return parameters


def test_two_processes_may_share_a_cold_cache(shared):
    _, [(one, traced), (other, also_traced)] = shared
    assert one == other
    assert traced or also_traced


def test_a_later_process_imports_no_torch_and_finds_the_same(warm):
    assert answer(process()) == (warm, False)
    assert answer(process(model="t_c  =  (w * t_u) + b")) == (warm, False)  # the same, however it is written


def test_another_version_traces_for_itself(warm):
    before = "import gradfit._version; gradfit._version.__version__ = '99.0'"
    assert answer(process(before=before)) == (warm, True)


def test_a_damaged_cache_is_made_again(warm, home):
    [file] = (path for path in home.rglob("*") if path.is_file())
    file.write_bytes(file.read_bytes()[:-20])
    assert answer(process()) == (warm, True)
    assert answer(process()) == (warm, False)


# ---------------------------------------------------------------------------- graphs


FORMULAS = {
    **{model.name: model.formula for model in MODELS.values()},
    **{case.name: case.formula for case in NIST},
}


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_the_graph_that_is_read_is_the_one_that_was_traced(formula):
    expression = parse(formula).right
    parameters = tuple(name for name in expression.names if name[0] != "x")
    variables = tuple(name for name in expression.names if name not in parameters)
    traced = trace_formula(expression, variables, parameters)
    assert recalled(key_of_trace(expression, variables, parameters), variables, parameters) == traced
    [kind] = store.contents()
    assert (kind.name, kind.count) == ("trace", 1)


def test_what_decides_the_graph_is_in_the_key():
    one = key_of_trace(*WHOLE)
    others = [
        key_of_trace(parse("y = a*exp(-b*x) - c").right, ("x",), ("a", "b", "c")),
        key_of_trace(WHOLE[0], ("x",), ("b", "a", "c")),
        key_of_trace(WHOLE[0], ("x", "a"), ("b", "c")),
        key_of_trace(parse("y = a*exp(-b*x) + 2").right, ("x",), ("a", "b")),
        key_of_trace(parse("y = a*exp(-b*x) + 2.0000000000000004").right, ("x",), ("a", "b")),
    ]
    assert len({one, *others}) == 6
    assert key_of_trace(parse("y=(a * exp(-b * x)) + c").right, *WHOLE[1:]) == one


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"nodes": [["var", 0]], "value": 0, "scale": [], "core": [], "variables": ["x"], "parameters": []}',
        b'{"nodes": [["system", 0]], "value": 0, "scale": [0,0,0], "core": [0,0,0], "variables": ["x"], "parameters": ["a","b","c"]}',
    ],
    ids=["empty", "list", "null", "no parts", "no text", "deep", "other names", "no operation"],
)
def test_an_entry_that_is_no_graph_of_this_formula_is_traced_again(data):
    key = key_of_trace(*WHOLE)
    store.save("trace", key, data)
    graph = trace_formula(*WHOLE)
    assert (graph.variables, graph.parameters, graph.linear) == (("x",), ("a", "b", "c"), (0, 2))
    assert recalled(key, *WHOLE[1:]) == graph


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("named", ["off", os.devnull])
def test_without_a_cache_a_formula_is_traced(monkeypatch, named):
    expected = trace_formula(*WHOLE)
    monkeypatch.setenv("GRADFIT_CACHE", named)
    trace_formula.cache_clear()
    assert trace_formula(*WHOLE) == expected


@pytest.mark.usefixtures("home")
def test_functions_are_not_kept():
    x = np.linspace(0, 3, 20)
    gradfit.fit(lambda x, a, b: a * np.exp(-b * x), {"x": x, "y": 2 * np.exp(-x)}, start={"a": 1, "b": 1})
    assert store.contents() == []


# ---------------------------------------------------------------------------- gradfit cache


def test_the_command_shows_what_is_kept_and_clears_it(run, home):
    run(
        "fit", THERMOMETER, "t_c = slope_here*t_u + offset_here"
    )  # that no other test has traced in this process
    store.save("native", store.key_of("a"), bytes(45_678))
    shown = run("cache")
    assert (shown.code, shown.err) == (0, "")
    words = flat(shown.out)
    assert shown.out.replace("\n", "").startswith(f"{home}4")  # a long path is folded
    assert "kB of at most 256 MB" in words
    assert "compiled models 1 45.7 kB last used 20" in words
    assert "graphs of formulas 1 " in words
    assert "gradfit cache --clear removes it" in words
    cleared = run("cache", "--clear")
    assert (cleared.code, cleared.err) == (0, "")
    assert flat(cleared.out).startswith("Removed 2 entries of 4")
    assert store.contents() == []
    assert "empty" in run("cache").out
    assert "Nothing is kept in" in run("cache", "--clear").out


@pytest.mark.parametrize(
    ("named", "told"),
    [
        ("off", "The cache is switched off by GRADFIT_CACHE=off"),
        (
            os.devnull,
            "Nothing can be written there, so that each process starts afresh; GRADFIT_CACHE=FOLDER names another",
        ),
    ],
)
def test_the_command_says_why_nothing_is_kept(run, monkeypatch, named, told):
    monkeypatch.setenv("GRADFIT_CACHE", named)
    seen = run("cache")
    assert (seen.code, told in flat(seen.out)) == (0, True)
    assert run("cache", "--clear").code == 0


@pytest.mark.parametrize("width", [40, 100])
def test_no_line_is_wider_than_the_screen(run, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    store.save("trace", store.key_of("a"), bytes(45_678))
    assert max(map(len, run("cache").out.splitlines())) <= width


def test_a_wrong_word_is_answered(run):
    seen = run("cache", "clear")
    assert (seen.code, "See: gradfit cache --help" in flat(seen.err)) == (2, True)
