"""gradfit fit: exit codes, what goes where, options, and files written whole or not at all."""

import json
import os
import re
from pathlib import Path

import numpy as np
import polars
import pytest
from command_line import LINE, THERMOMETER, Run, Seen, flat, listed, runner

import gradfit
from gradfit import GradfitError
from gradfit.outputs import target, write_whole
from gradfit.saved import load

DECAY = "y = a*exp(-b*x) + c"


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    return runner(tmp_path, monkeypatch, capsys)


@pytest.fixture
def data(tmp_path) -> Path:
    """A decay with noise, standard deviations, weights and a second input."""
    rng = np.random.default_rng(5)
    x = np.linspace(0.1, 5, 30)
    columns = {
        "x": x,
        "y": 3 * np.exp(-0.8 * x) + 0.4 + 0.03 * rng.standard_normal(30),
        "s": 0.03,
        "w": 1 + x,
    }
    path = tmp_path / "decay.csv"
    polars.DataFrame({name: np.broadcast_to(v, 30).round(6) for name, v in columns.items()}).write_csv(path)
    return path


# ---------------------------------------------------------------------------- fit


def test_the_answer_is_printed_and_nothing_else(run, tmp_path):
    seen = run("fit", THERMOMETER, LINE)
    assert seen.code == 0
    assert seen.err == ""
    assert "✓ Trust" in seen.out
    assert "0.537 ± 0.036" in seen.out
    assert "\x1b" not in seen.out
    assert list(tmp_path.iterdir()) == []


def test_json_stands_alone_on_standard_output(run):
    seen = run("fit", THERMOMETER, LINE, "--json")
    plain = json.loads(seen.out)
    assert seen.err == ""
    assert plain["parameters"]["w"]["value"] == pytest.approx(0.5367719209075442, rel=1e-12)
    assert plain["verdict"] == "trust"
    assert plain["files"] == {}
    again = gradfit.fit(LINE, THERMOMETER).to_dict()
    same = ("formula", "parameters", "covariance", "statistics", "findings", "data")
    assert {name: plain[name] for name in same} == json.loads(
        json.dumps({name: again[name] for name in same})
    )


def test_standard_input(run):
    seen = run("fit", "-", LINE, "--json", stdin=THERMOMETER.read_bytes())
    assert json.loads(seen.out)["parameters"]["b"]["value"] == pytest.approx(-17.304785503)
    assert json.loads(seen.out)["data"]["source"] == "<stdin>"


@pytest.mark.parametrize(
    ("options", "arguments"),
    [
        ("--start a=2,b=1,c=0", {"start": {"a": 2, "b": 1, "c": 0}}),
        ("--start a=2 --start b=1,c=0", {"start": {"a": 2, "b": 1, "c": 0}}),
        ("--start 2,1,0", {"start": [2, 1, 0]}),
        ("--start search --seed 3", {"start": "search", "seed": 3}),
        ("--bounds a=0:10,b=:5 --bounds c=0:", {"bounds": {"a": (0, 10), "b": (None, 5), "c": (0, None)}}),
        ("--fix c=0.4 --start a=−2,b=1", {"fixed": {"c": 0.4}, "start": {"a": -2, "b": 1}}),
        ("--sigma s", {"sigma": "s"}),
        ("--sigma 0.03*y", {"sigma": "0.03*y"}),
        ("--weights 1/w", {"weights": "1/w"}),
        ("--where x>0.5", {"where": "x > 0.5"}),
        ("--where x>0.5 --where x<4", {"where": "(x > 0.5) and (x < 4)"}),
        ("--exclude 3,17 --exclude 5", {"exclude": [3, 17, 5]}),
        ("--loss huber", {"loss": "huber"}),
        ("--loss cauchy:0.05", {"loss": "cauchy:0.05"}),
        ("--level 0.68", {"level": 0.68}),
        ("--max-iterations 3 --start 2,1,0", {"max_iterations": 3, "start": [2, 1, 0]}),
        ("--executor tensor --start 2,1,0", {"executor": "tensor", "start": [2, 1, 0]}),
        ("--missing drop", {"missing": "drop"}),
        (
            "--solver SGD --lr 0.01 --epochs 40 --start 2,1,0 --set momentum=0.9,nesterov=true",
            {"solver": "SGD", "lr": 0.01, "epochs": 40, "start": [2, 1, 0], "momentum": 0.9, "nesterov": True},
        ),
        (
            "--solver Adam --lr 0.1 --epochs 9 --start 2,1,0 --batch-size 7 --set betas=0.8:0.9",
            {"solver": "Adam", "lr": 0.1, "epochs": 9, "start": [2, 1, 0], "batch_size": 7, "betas": (0.8, 0.9)},
        ),
        (
            "--solver SGD --lr 0.1 --epochs 9 --start 2,1,0 --scheduler StepLR --set scheduler.step_size=2",
            {"solver": "SGD", "lr": 0.1, "epochs": 9, "start": [2, 1, 0], "scheduler": "StepLR", "scheduler_settings": {"step_size": 2}},
        ),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)  # fmt: skip
def test_an_option_is_the_argument_of_the_same_name(run, data, options, arguments):
    seen = run("fit", data, DECAY, *options.split(), "--json")
    plain = json.loads(seen.out)
    with np.errstate(all="ignore"):
        expected = gradfit.fit(DECAY, data, **arguments)
    assert {name: p["value"] for name, p in plain["parameters"].items()} == expected.values
    assert plain["sentences"] == list(expected.sentences)
    assert seen.code == int(expected.verdict == "no")


def test_the_response_and_a_library_model(run, data):
    seen = run("fit", data, "exponential_decay", "--response", "y", "--json")
    assert seen.code == 0
    assert json.loads(seen.out)["parameters"]["a"]["value"] == pytest.approx(3, abs=0.1)


def test_a_sheet_of_an_excel_file(run, tmp_path):
    xlsxwriter = pytest.importorskip("xlsxwriter")
    book = xlsxwriter.Workbook(tmp_path / "book.xlsx")
    for name, slope in (("one", 1.0), ("two", 2.0)):
        sheet = book.add_worksheet(name)
        for i, row in enumerate([("x", "y"), *((float(x), slope * x + 0.01 * (-1) ** x) for x in range(8))]):
            sheet.write_row(i, 0, row)
    book.close()
    seen = run("fit", "book.xlsx", "y = a*x + b", "--sheet", "two", "--json")
    assert json.loads(seen.out)["parameters"]["a"]["value"] == pytest.approx(2, abs=0.01)


@pytest.mark.parametrize(
    ("formula", "rows", "code", "verdict"),
    [
        ("y = a*x + b", "1,1.1\n2,1.9\n3,3.2\n4,3.9\n5,5.1\n", 0, "trust"),
        ("y = a*x + b", "1,1.1\n1,1.9\n1,3.2\n1,3.9\n1,5.1\n", 1, "no"),  # constant x under a slope
        ("y = a*b*x + c", "1,1.1\n2,1.9\n3,3.2\n4,3.9\n5,5.1\n", 1, "no"),
    ],
    ids=["line", "constant x", "a times b"],
)
def test_exit_code_1_is_for_a_fit_that_is_not_to_be_trusted(run, tmp_path, formula, rows, code, verdict):
    (tmp_path / "data.csv").write_text("x,y\n" + rows)
    seen = run("fit", "data.csv", formula)
    assert seen.code == code
    assert seen.err == ""
    assert ("exit status 1: fitted, verdict No" in seen.out) == (verdict == "no")
    assert ("not determined" in seen.out) == (verdict == "no")


def test_quiet_prints_nothing_but_a_doubt(run, tmp_path):
    assert run("fit", THERMOMETER, LINE, "--quiet") == Seen(0, "", "")
    (tmp_path / "flat.csv").write_text("x,y\n1,1\n1,2\n1,4\n")
    seen = run("fit", "flat.csv", "y = a*x + b", "--quiet")
    assert (seen.code, seen.out) == (1, "")
    assert seen.err.startswith("No: ")
    assert seen.err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ("--start 2,1,0", r"^Step 1, Loss \d+\.\d{6}$"),
        ("--solver SGD --lr 0.01 --epochs 500 --start 2,1,0", r"^Epoch 500, Loss 0\.\d{6}$"),
        ("", r"^Start values were found by a search"),
    ],
)
def test_verbose_tells_the_way_on_standard_error(run, data, options, line):
    seen = run("fit", data, DECAY, *options.split(), "--verbose", "--json")
    assert re.search(line, seen.err, re.MULTILINE), seen.err
    assert json.loads(seen.out)["converged"] is not None


# ---------------------------------------------------------------------------- files

OUTPUTS = {"--save": "fit.json", "--report": "report.html", "--plot": "figure.png"}


def words_for(outputs=OUTPUTS):
    return [word for pair in outputs.items() for word in pair]


def test_files_are_written_and_named(run, tmp_path):
    seen = run("fit", THERMOMETER, LINE, *words_for())
    assert seen.code == 0
    assert set(listed(tmp_path)) == set(OUTPUTS.values())
    assert re.search(r"report  report\.html\s+fit  fit\.json\s+figure  figure\.png", seen.out)
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "<html" in (tmp_path / "report.html").read_text()
    assert load("fit.json").verdict == "trust"
    plain = json.loads(run("fit", THERMOMETER, LINE, *words_for(), "--json", "--force").out)
    assert plain["files"] == {"report": "report.html", "fit": "fit.json", "figure": "figure.png"}


def test_a_file_whose_name_is_no_unicode(run, tmp_path):
    name = os.fsdecode(b"thermo\xff.csv")
    (tmp_path / name).write_bytes(THERMOMETER.read_bytes())
    assert run("fit", name, LINE, *words_for()).code == 0
    assert load("fit.json").data.source == name
    assert json.loads(run("fit", name, LINE, "--json").out)["data"]["source"] == name


@pytest.mark.parametrize("existing", OUTPUTS.values())
def test_an_existing_file_stops_everything_before_the_fit(run, tmp_path, existing):
    (tmp_path / existing).write_text("mine")
    seen = run("fit", "no-such-data.csv", LINE, *words_for())
    assert seen.code == 2
    assert f"{existing} is there already and was not overwritten" in flat(seen.err)
    assert listed(tmp_path) == {existing: b"mine"}
    assert run("fit", THERMOMETER, LINE, *words_for(), "--force").code == 0
    assert (tmp_path / existing).read_bytes() != b"mine"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--report", "nowhere/report.html"], "There is no folder nowhere to write report.html to"),
        (["--save", "."], "'.' is no name of a file"),
        (["--save", ".."], "'..' is no name of a file"),
        (["--save", "-"], "'-' is no name of a file"),
        (["--save", "folder"], "folder is a folder"),
        (["--plot", "figure.docx"], "figure.docx ends in '.docx', and a figure is .png, .svg or .pdf"),
        (["--plot", "figure"], "figure has no ending"),
        (["--report", "a.html", "--save", "./a.html"], "./a.html is named for two outputs"),
        (["--save", "data.csv", "--force"], "data.csv is the file that is read, and would be overwritten"),
        (["--save", "link.csv", "--force"], "link.csv is the file that is read, and would be overwritten"),
        (["--save", "/dev/null", "--force"], "/dev/null is no regular file"),
        (["--save", "x" * 300 + ".json"], "cannot be written: File name too long"),
    ],
)
def test_a_file_that_cannot_be_written_stops_everything(run, tmp_path, words, sentence):
    (tmp_path / "data.csv").write_bytes(THERMOMETER.read_bytes())
    (tmp_path / "link.csv").symlink_to(tmp_path / "data.csv")
    (tmp_path / "folder").mkdir()
    before = sorted(path.name for path in tmp_path.iterdir())
    seen = run("fit", "data.csv", LINE, *words)
    assert (seen.code, seen.out) == (2, "")
    assert sentence in flat(seen.err)
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert (tmp_path / "data.csv").read_bytes() == THERMOMETER.read_bytes()


def test_a_read_only_folder_is_seen_before_the_fit(run, tmp_path, monkeypatch):
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(
        "gradfit.outputs.os.access", lambda *_: False
    )  # whoever runs the tests may write anywhere
    seen = run("fit", "no-such-data.csv", LINE, "--save", "locked/fit.json")
    assert "Nothing can be written to the folder locked" in flat(seen.err)


def test_the_answer_is_shown_and_no_file_is_left_when_one_cannot_be_made(run, tmp_path, monkeypatch):
    def fails(_):
        raise GradfitError("the report cannot be made")

    monkeypatch.setattr("gradfit.report.html", fails)
    seen = run("fit", THERMOMETER, LINE, *words_for())
    assert seen.code == 2
    assert "0.537 ± 0.036" in seen.out
    assert "the report cannot be made" in seen.err
    assert listed(tmp_path) == {}


def test_several_files_are_written_all_or_none(tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    first.write_text("old")
    third.mkdir()  # taken in the meantime: a folder cannot be replaced by a file
    with pytest.raises(GradfitError, match="could not be written"):
        write_whole({first: b"new", second: b"new", third: b"new"})
    assert first.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "third"]
    third.rmdir()
    write_whole({first: b"new", second: b"new", third: b"new"})
    assert listed(tmp_path) == dict.fromkeys(("first", "second", "third"), b"new")


def test_a_name_that_is_free_can_be_written(tmp_path):
    assert target(tmp_path / "fit.json") == tmp_path / "fit.json"
