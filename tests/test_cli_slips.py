"""Every slip on the command line ends with a sentence and code 2; no traceback, nothing written."""

import re
from functools import partial

import pytest
from command_line import LINE, THERMOMETER, Run, flat, listed, runner
from hypothesis import given
from hypothesis import strategies as st

from gradfit import OptionError
from gradfit.cli import arguments


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    return runner(tmp_path, monkeypatch, capsys)


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
    "negative seed": (GOOD, A_LINE, "--seed -1", r"Invalid value for '--seed'"),
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
