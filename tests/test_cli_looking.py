"""gradfit predict, plot, models and show, and commands as processes of their own."""

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars
import pytest
from command_line import LINE, THERMOMETER, Run, flat, runner

import gradfit
from gradfit.library import MODELS
from gradfit.saved import load


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    return runner(tmp_path, monkeypatch, capsys)


@pytest.fixture
def data(tmp_path) -> Path:
    x = np.linspace(0.1, 5, 30).round(6)
    path = tmp_path / "decay.csv"
    polars.DataFrame({"x": x, "y": (3 * np.exp(-0.8 * x)).round(6), "w": 1 + x}).write_csv(path)
    return path


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
