"""The command line: exit codes, what goes where, files written whole or not at all, and a sentence for every slip."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars
import pytest
from hypothesis import given
from hypothesis import strategies as st

import gradfit
from gradfit import GradfitError, OptionError
from gradfit.cli import arguments, main
from gradfit.library import MODELS
from gradfit.outputs import target, write_whole
from gradfit.saved import load

THERMOMETER = Path(__file__).parents[1] / "examples" / "thermometer.csv"
LINE = "t_c = w*t_u + b"
DECAY = "y = a*exp(-b*x) + c"


@dataclass(frozen=True)
class Seen:
    """What a command left behind."""

    code: int
    out: str
    err: str


Run = Callable[..., Seen]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    """Run a command in a folder of its own, in this process: torch is imported once."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "GRADFIT_TRACEBACK"):
        monkeypatch.delenv(name, raising=False)

    def call(*words, stdin=None):
        if stdin is not None:
            monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = main([str(word) for word in words])
        seen = capsys.readouterr()
        return Seen(code, seen.out, seen.err)

    return call


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


def flat(text: str) -> str:
    """Return text in one line, with plain blanks, as a sentence that was folded reads."""
    return re.sub(r"\s+", " ", text.replace("\u202f", " "))


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


def listed(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


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


def test_a_read_only_folder_is_seen_before_the_fit(run, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    if os.access(tmp_path / "locked", os.W_OK):
        pytest.skip("this user may write anywhere")
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


# ---------------------------------------------------------------------------- bad input

GOOD = b"x,y,s\n1,1.1,0.1\n2,1.9,0.1\n3,3.2,0.1\n4,3.9,0.1\n5,5.1,0.1\n"
NEGATIVE = b"x,y,s\n1,1.1,0.1\n2,1.9,-0.1\n3,3.2,0\n"
A_LINE = "y = a*x + b"

SLIPS = {
    "missing file": (None, A_LINE, "", r"There is no file data\.csv"),
    "empty file": (b"", A_LINE, "", r"data\.csv is empty"),
    "header only": (b"x,y\n", A_LINE, "", r"data\.csv has a header \(x and y\) but no rows"),
    "binary file": (bytes(range(256)) * 8, A_LINE, "", r"data\.csv"),
    "truncated parquet": (b"PAR1\x15\x04", A_LINE, "", r"data\.csv"),
    "text in a used column": (b"x,y\n1,2\n2,n/a\n3,4\n4,5\n", A_LINE, "", r"1 of 4 rows of data\.csv has no number in y \(row 2\).*--missing drop"),
    "a column of text": (b"x,y\na,2\nb,3\nc,4\n", A_LINE, "", r"x in data\.csv is text, such as \"a\", \"b\" and \"c\""),
    "NaN in a used column": (b"x,y\n1,2\nNaN,3\n3,4\n4,5\n", A_LINE, "", r"1 of 4 rows of data\.csv has no number in x \(row 2\)"),
    "infinite": (b"x,y\n1,2\n2,inf\n3,4\n4,5\n", A_LINE, "", r"no finite number in y \(row 2\)"),
    "two columns of one name": (b"x,y,y\n1,2,3\n2,3,4\n", A_LINE, "", r"2 columns of data\.csv have the name y"),
    "unknown column": (GOOD, "z = a*x + b", "", r"There is no column z in data\.csv"),
    "unknown sigma": (GOOD, A_LINE, "--sigma q", r"There is no column q in data\.csv"),
    "unknown column in where": (GOOD, A_LINE, "--where q>1", r"There is no column q in data\.csv"),
    "where is no condition": (GOOD, A_LINE, "--where x", r"where='x' is not a condition"),
    "nothing left": (GOOD, A_LINE, "--where x>9", r"No row of data\.csv satisfies 'x>9'"),
    "unknown function": (GOOD, "y = a*foo(x) + b", "", r"foo"),
    "unknown parameter to start": (GOOD, A_LINE, "--start c=1", r"start= names c, which is no parameter of the model"),
    "unknown parameter to fix": (GOOD, A_LINE, "--fix c=1", r"names c, which is no parameter of the model"),
    "unknown solver": (GOOD, A_LINE, "--solver Adm", r"Adm.*Adam"),
    "unknown loss": (GOOD, A_LINE, "--loss hubr", r"There is no loss 'hubr'.*huber"),
    "scale of a loss": (GOOD, A_LINE, "--loss huber:x", r"The scale of loss 'huber:x' is not a positive number"),
    "unknown executor": (GOOD, A_LINE, "--executor numby", r"There is no executor 'numby'.*numpy"),
    "unknown value of missing": (GOOD, A_LINE, "--missing skip", r"missing='skip' is not an option"),
    "unknown setting": (GOOD, A_LINE, "--set momentum=1", r"momentum"),
    "level": (GOOD, A_LINE, "--level 95", r"level must lie between 0 and 1, and is 95"),
    "no iterations": (GOOD, A_LINE, "--max-iterations 0", r"max_iterations must be at least 1"),
    "no epochs": (GOOD, A_LINE, "--solver SGD --epochs 0", r"epochs is 0"),
    "learning rate": (GOOD, A_LINE, "--solver SGD --lr -1", r"lr is -1"),
    "reversed bounds": (GOOD, A_LINE, "--bounds a=5:1", r"The bounds of a are reversed: 5 to 1"),
    "start outside the bounds": (GOOD, A_LINE, "--bounds a=0:1 --start a=2", r"The start value of a, 2, lies outside its bounds 0 to 1"),
    "fixed outside the bounds": (GOOD, A_LINE, "--bounds a=0:1 --fix a=2", r"The fixed value of a, 2, lies outside its bounds"),
    "no parameters": (GOOD, "y = 2*x + 1", "", r"'y = 2\*x \+ 1' has nothing to fit"),
    "no formula": (GOOD, "", "", r"formula"),
    "brackets": (GOOD, "y = a*(x + b", "", r"\^"),
    "code": (GOOD, "y = __import__('os').system('true')", "", r"."),
    "not a library model": (GOOD, "gausian", "", r"The library has no model 'gausian'.*gaussian"),
    "which is the response": (GOOD, "a*x + b", "", r"does not say what was observed"),
    "sigma zero or negative": (NEGATIVE, A_LINE, "--sigma s", r"sigma must be positive, and is not in rows 2 and 3"),
    "negative weights": (NEGATIVE, A_LINE, "--weights s", r"weights must be positive"),
    "sigma and weights": (GOOD, A_LINE, "--sigma s --weights s", r"Give sigma= or weights=, not both"),
    "NaN at the start": (GOOD, "y = a*log(x - b)", "--start a=1,b=3", r"is not a number at the start values a = 1, b = 3 in rows 1, 2"),
    "overflow at the start": (GOOD, "y = a*exp(b*x)", "--start a=1,b=1000", r"overflows at the start values a = 1, b = 1000"),
    "a row to exclude": (GOOD, A_LINE, "--exclude 9", r"There is no row 9 to exclude; data\.csv has rows 1 to 5"),
    "start without a name": (GOOD, A_LINE, "--start a", r"--start must be a number, and is 'a'"),
    "start without a number": (GOOD, A_LINE, "--start a=one", r"--start a must be a number, and is 'one'.*--start a=1\.5"),
    "start half named": (GOOD, A_LINE, "--start a=1,2", r"--start takes name=value, and '2' is not that"),
    "start that is infinite": (GOOD, A_LINE, "--start a=inf", r"start= of a must be finite"),
    "bounds without a colon": (GOOD, A_LINE, "--bounds a=5", r"--bounds a=5 does not say between what.*--bounds a=0:10"),
    "exclude by name": (GOOD, A_LINE, "--exclude x", r"--exclude takes row numbers from 1 up, and 'x' is none"),
    "settings without a value": (GOOD, A_LINE, "--set momentum", r"--set takes name=value, and 'momentum' is not that"),
    "a sheet of a text file": (GOOD, A_LINE, "--sheet one", r"has no sheets"),
    "no such option": (GOOD, A_LINE, "--sovler lm", r"No such option: --sovler Did you mean --solver\?"),
    "no whole number": (GOOD, A_LINE, "--epochs many", r"Invalid value for '--epochs'"),
    "one argument too many": (GOOD, A_LINE, "again", r"unexpected extra argument"),
}  # fmt: skip


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_ends_with_a_sentence_and_code_2(run, tmp_path, slip):
    content, formula, options, sentence = SLIPS[slip]
    if content is not None:
        (tmp_path / "data.csv").write_bytes(content)
    before = listed(tmp_path)
    seen = run("fit", "data.csv", formula, *options.split(), "--save", "fit.json")
    assert seen.code == 2, seen.out
    assert seen.out == ""
    assert "Traceback" not in seen.err
    assert seen.err.startswith("✕ Not fitted ")
    assert re.search(sentence, flat(seen.err)), seen.err
    assert "exit status 2; nothing was written" in seen.err
    assert listed(tmp_path) == before


@pytest.mark.parametrize(
    ("rows", "formula"),
    [("1,2\n", "y = a*x + b"), ("1,2\n2,3\n", "y = a*x**2 + b*x + c"), ("1,2\n", "y = a*x")],
    ids=["one row", "fewer rows than parameters", "one row, one parameter"],
)
def test_too_few_rows_are_told(run, tmp_path, rows, formula):
    (tmp_path / "data.csv").write_text("x,y\n" + rows)
    seen = run("fit", "data.csv", formula)
    assert seen.code in (1, 2)
    assert re.search(r"row|point", seen.out + seen.err)


def test_a_line_that_can_be_run_next_is_shown(run):
    seen = run("fit", THERMOMETER, "tc = w*t_u + b")
    assert f'Run gradfit fit {THERMOMETER} "t_c = w*t_u + b"' in flat(seen.err)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["ft"], "No such command 'ft'. Did you mean fit?"),
        (["--verison"], "No such option: --verison"),
        (["fit"], "Missing argument"),
        (["fit", "data.csv", "y = a*x", "--start"], "'--start' requires an argument"),
        (["predict", "fit.json"], "Missing argument"),
        (["models", "gausian"], "The library has no model 'gausian'"),
        (["show", "q = a*z + b"], "Which names of 'q = a*z + b' are data is not known without a table"),
        (["show", "y = a*x +"], "y = a*x +"),
        (["plot", "none.csv"], "There is no file none.csv"),
        (["predict", "none.json", "none.csv"], "There is no file none.json"),
    ],
)
def test_wrong_use_of_a_command(run, words, sentence):
    seen = run(*words)
    assert (seen.code, seen.out) == (2, "")
    assert sentence in flat(seen.err).replace("' Did", "'. Did")


def test_a_defect_is_one_sentence_and_a_traceback_on_request(run, monkeypatch):
    def fails(*_, **__):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("gradfit.cli.fitting.fit", fails)
    seen = run("fit", THERMOMETER, LINE)
    assert (seen.code, seen.out) == (2, "")
    assert "ZeroDivisionError: division by zero" in seen.err
    assert "GRADFIT_TRACEBACK=1" in flat(seen.err)
    assert "Traceback" not in seen.err
    monkeypatch.setenv("GRADFIT_TRACEBACK", "1")
    assert "Traceback" in run("fit", THERMOMETER, LINE).err


@pytest.mark.parametrize(
    ("parse", "right"),
    [
        (arguments.start_of, "a=1"),
        (partial(arguments.numbers_by_name, option="--fix"), "a=1"),
        (arguments.bounds_of, "a=0:1"),
        (arguments.row_numbers, "3"),
        (arguments.optimizer_settings, "a=1"),
    ],
    ids=["start", "fix", "bounds", "exclude", "set"],
)
@given(text=st.text(alphabet="ab=,:.-1e5 ∞²٣−nif", max_size=12) | st.text(max_size=8))
def test_any_text_of_an_option_is_understood_or_refused(parse, right, text):
    assert len(parse([right])) == 1
    try:
        parse([text])
    except OptionError as error:
        assert error.remedy.startswith("Write --")  # noqa: PT017  most texts are fine, and only the others have an error


# ---------------------------------------------------------------------------- predict


@pytest.fixture
def fit_file(run) -> str:
    assert run("fit", THERMOMETER, LINE, "--save", "fit.json").code == 0
    Path("new.csv").write_text("t_u,other\n20,a\n50,b\n90,c\n")
    return "fit.json"


def test_predictions_in_a_pipe_are_csv_in_full(run, fit_file):
    seen = run("predict", fit_file, "new.csv")
    assert (seen.code, seen.err) == (0, "")
    table = polars.read_csv(io.StringIO(seen.out))
    expected = gradfit.fit(LINE, THERMOMETER).predict({"t_u": [20, 50, 90]})
    assert table.columns == [
        "t_u",
        "t_c",
        "stderr",
        "confidence_low",
        "confidence_high",
        "prediction_low",
        "prediction_high",
    ]
    assert table["t_c"].to_list() == expected.value.tolist()
    assert table["prediction_high"].to_list() == expected.prediction[1].tolist()


@pytest.mark.parametrize(
    ("name", "read"), [("p.csv", polars.read_csv), ("p.parquet", polars.read_parquet), ("p.json", json.loads)]
)
def test_predictions_go_to_a_file_at_another_level(run, fit_file, name, read):
    assert run("predict", fit_file, "new.csv", "--level", "0.5", "--out", name).code == 0
    table = read(Path(name).read_text()) if name.endswith("json") else read(name)
    expected = gradfit.fit(LINE, THERMOMETER).predict({"t_u": [20, 50, 90]}, level=0.5)
    assert list(table["confidence_low"]) == expected.confidence[0].tolist()
    seen = run("predict", fit_file, "new.csv", "--out", name)
    assert seen.code == 2
    assert f"{name} is there already and was not overwritten" in flat(seen.err)


def test_predictions_as_json_with_null_for_what_is_not_known(run, tmp_path):
    (tmp_path / "data.csv").write_text("x,y\n1,1\n2,2.1\n3,2.9\n")
    run("fit", "data.csv", "y = a*b*x + c", "--save", "fit.json")
    seen = run("predict", "fit.json", "data.csv", "--json")
    assert json.loads(seen.out)["y"][0] == pytest.approx(1.05)
    (tmp_path / "wide.csv").write_text("x,y\n1,1\n1,2.1\n1,2.9\n")
    run("fit", "wide.csv", "y = a*x + b", "--save", "wide.json")
    assert json.loads(run("predict", "wide.json", "data.csv", "--json").out)["stderr"][2] is None


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["new.csv", "new.csv"], "new.csv is no saved fit"),
        (["fit.json", "other.csv"], "other.csv has no column t_u"),
        (["fit.json", "new.csv", "--out", "p.txt"], "p.txt does not end in .csv, .parquet or .json"),
        (["fit.json", "new.csv", "--out", "new.csv", "--force"], "new.csv is the file that is read"),
        (["fit.json", "new.csv", "--level", "2"], "level must lie between 0 and 1"),
        (["fit.json", "gaps.csv"], "has no number in t_u (row 2)"),
    ],
)
@pytest.mark.usefixtures("fit_file")
def test_what_cannot_be_predicted(run, words, sentence):
    Path("other.csv").write_text("x\n1\n")
    Path("gaps.csv").write_text("t_u\n1\nn/a\n3\n")
    seen = run("predict", *words)
    assert (seen.code, seen.out) == (2, "")
    assert sentence in flat(seen.err)
    assert seen.err.startswith("✕ Not predicted")


def test_rows_without_a_number_can_be_dropped(run, fit_file):
    Path("gaps.csv").write_text("t_u\n1\nn/a\n3\n")
    seen = run("predict", fit_file, "gaps.csv", "--missing", "drop")
    assert len(seen.out.splitlines()) == 3
    assert "1 of 3 rows was dropped" in flat(seen.err)


def test_dates_count_from_the_day_of_the_fit(run, tmp_path):
    days = [f"2024-03-{day:02d}" for day in range(1, 9)]
    (tmp_path / "days.csv").write_text(
        "day,y\n" + "".join(f"{day},{2 * i + 0.1 * (-1) ** i}\n" for i, day in enumerate(days))
    )
    assert run("fit", "days.csv", "y = a*day + b", "--save", "fit.json").code == 0
    (tmp_path / "later.csv").write_text("day\n2024-03-21\n2024-03-31\n")
    table = polars.read_csv(io.StringIO(run("predict", "fit.json", "later.csv").out))
    assert table["y"].to_list() == pytest.approx([40, 60], abs=0.5)


# ---------------------------------------------------------------------------- plot, models, show


def test_data_are_drawn_in_text_and_to_a_file(run, data):
    seen = run("plot", data, "x", "y")
    assert seen.code == 0
    assert "30 points" in flat(seen.out)
    everything = run("plot", data)
    assert re.search(r"decay\.csv 30 rows", flat(everything.out))
    assert re.search(r"x 0\.1 to 5", flat(everything.out))
    written = run("plot", data, "--out", "all.svg", "--where", "x > 1")
    assert (written.code, flat(written.out).strip()) == (0, "figure all.svg")
    assert "<svg" in Path("all.svg").read_text()


def test_a_wrong_column_is_answered_with_the_nearest(run, data):
    seen = run("plot", data, "xx", "y")
    assert (seen.code, seen.out) == (2, "")
    assert seen.err.startswith("✕ Not plotted")
    assert "There is no column xx in" in flat(seen.err)


def test_text_and_gaps_do_not_stop_a_first_look(run, tmp_path):
    (tmp_path / "mixed.csv").write_text("who,x,y\na,1,2\nb,,3\nc,3,n/a\nd,4,4\n")
    seen = run("plot", "mixed.csv")
    assert seen.code == 0
    assert "who text" in flat(seen.out)
    assert "1 row without a number" in flat(seen.out)


def test_every_model_is_listed_and_explained(run):
    listing = run("models")
    assert listing.code == 0
    for model in MODELS.values():
        assert re.search(rf"^  {model.name} +y = ", listing.out, re.MULTILINE)
    seen = run("models", "michaelis_menten", "--plot", "model.png")
    model = MODELS["michaelis_menten"]
    assert seen.code == 0
    for words in (model.formula, model.title, model.about, *model.meaning.values()):
        assert flat(words) in flat(seen.out)
    assert Path("model.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("words", "facts"),
    [
        (
            ["y = a*exp(-b*x)"],
            ["observed y", "data x", "parameters a and b", "linear a:", "-a * x * t1, # d/db"],
        ),
        (["gaussian"], ["data x", "parameters a, x0, sigma and c"]),
        (
            ["q = s*z + b", "--columns", "z,q"],
            ["observed q", "data z", "parameters s and b", "solved in closed form"],
        ),
        (["y = 2x^2 + c"], ["2x was read as 2*x", "^ was read as **, a power"]),
        (["v = a*t + b"], ["observed v", "data t"]),
        (["y = a*x1 + b*x2"], ["data x1 and x2"]),
        (["a*x + b"], ["observed y"]),
        (["y = exp(a*x)"], ["linear none"]),
    ],
)
def test_show_tells_what_was_understood_and_prints_the_code(run, words, facts):
    seen = run("show", *words)
    assert (seen.code, seen.err) == (0, "")
    assert "def model(" in seen.out
    for fact in facts:
        assert fact in flat(seen.out)


def test_the_version_and_help(run):
    assert run("--version").out == f"gradfit {gradfit.__version__}\n"
    assert "Commands:" in run("--help").out == run().out
    for command in ("fit", "plot", "predict", "models", "show"):
        assert f"Usage: gradfit {command}" in run(command, "--help").out


# ---------------------------------------------------------------------------- real processes

COMMAND = [sys.executable, "-c", "import sys; from gradfit.cli import main; sys.exit(main())"]


def test_help_imports_no_heavy_library():
    code = "import sys; from gradfit.cli import main; main(['fit', '--help']); print(*sys.modules, file=sys.stderr)"
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(seen.stderr.split())
    assert loaded & {"torch", "scipy", "polars", "matplotlib", "narwhals", "rich"} == set()
    assert "--solver" in seen.stdout


def test_a_reader_who_leaves_is_no_error():
    shell = f'{sys.executable} -c "{COMMAND[2]}" models | head -n 1; echo "${{PIPESTATUS[0]}}"'
    seen = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=True)
    assert seen.stderr == ""
    assert seen.stdout.splitlines()[-1] == "0"


def test_ctrl_c_gives_the_best_fit_so_far(tmp_path):
    words = [
        "fit",
        str(THERMOMETER),
        LINE,
        "--solver",
        "SGD",
        "--lr",
        "1e-4",
        "--epochs",
        "100000000",
        "--start",
        "1,0",
    ]
    process = subprocess.Popen(
        [*COMMAND, *words, "--verbose", "--save", str(tmp_path / "fit.json")],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8",
    )  # fmt: skip
    assert process.stderr is not None
    while not process.stderr.readline().startswith("Epoch 3,"):
        pass
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "✕ No" in out
    assert re.search("interrupted|Stopped by the user", out + err)
    assert load(tmp_path / "fit.json").status == "interrupted"


@pytest.mark.parametrize(
    ("environment", "colour"),
    [({"TERM": "xterm"}, True), ({"TERM": "xterm", "NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)],
)
def test_a_terminal_has_colours_unless_it_asks_for_none(environment, colour):
    reader, writer = pty.openpty()
    inherited = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    process = subprocess.Popen(
        [*COMMAND, "models"], stdout=writer, stderr=writer, env={**inherited, "COLUMNS": "90", **environment}
    )
    os.close(writer)
    seen = b""
    while part := _read(reader):
        seen += part
    os.close(reader)
    assert process.wait() == 0
    assert (b"\x1b[" in seen) == colour
    assert b"michaelis_menten" in seen
    assert max(len(re.sub(r"\x1b\[[\d;]*m", "", line)) for line in seen.decode().splitlines()) <= 90


def _read(reader: int) -> bytes:
    try:
        return os.read(reader, 65536)
    except OSError:  # the other end is closed
        return b""
