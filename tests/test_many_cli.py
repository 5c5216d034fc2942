"""gradfit many: real processes that are killed, refused and stopped; what they leave equals an undisturbed run's."""

import errno
import json
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars
import pytest
from answers import DATA, digits
from command_line import flat, runner

import gradfit
from gradfit.many.feeding import PORTION
from gradfit.many.kept import Plan
from gradfit.many.writing import Job, write_many

DECAY = "y = a*exp(-t/tau) + c"
START = {"a": 5.0, "tau": 3.0, "c": 0.0}
POINTS = 32
FITS = 3 * PORTION // POINTS  # three parts


def decays(m, points=POINTS, seed=0):
    """Return the columns of m decays, group after group."""
    random = np.random.default_rng(seed)
    t = np.linspace(0, 10, points)
    a, tau, c = (random.uniform(low, high, (m, 1)) for low, high in ((2, 9), (1, 5), (-1, 1)))
    y = a * np.exp(-t / tau) + c + 0.05 * random.normal(size=(m, points))
    return {"pixel": np.repeat(np.arange(m), points), "t": np.tile(t, m), "y": y.ravel()}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    return runner(tmp_path, monkeypatch, capsys)


@pytest.fixture(scope="session")
def large(tmp_path_factory):
    """A folder with an input of three parts and the output of a run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("many")
    columns = decays(FITS)
    columns["y"][: 3 * POINTS : 2] = np.nan  # a few fits lose points
    columns["y"][5 * POINTS : 6 * POINTS] = np.nan
    polars.DataFrame(columns).write_parquet(folder / "stack.parquet", row_group_size=100_000)
    assert finished(begun(folder, "whole.parquet")).returncode == 0
    return folder


def begun(folder, out, *more, data="stack.parquet", **settings):
    """Return the process of a run."""
    start = [sys.executable, "-c", "import sys; from gradfit.cli import main; sys.exit(main())"]
    words = ["many", data, DECAY, "--by", "pixel", "--out", out, "--executor", "numpy"]
    return subprocess.Popen(
        [*start, *words, *more],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **settings,
    )


def finished(process):
    """Return a process after its end, with what it wrote."""
    process.out, process.err = process.communicate(timeout=120)
    return process


def until(process, condition):
    """Wait for something, as long as the process runs."""
    while process.poll() is None and not condition():
        time.sleep(0.002)


def parts(folder, out):
    return sorted(file.name for file in (folder / f"{out}.parts").glob("??????.parquet"))


def content(file):
    """Return all bytes of all values of a table."""
    frame = polars.read_parquet(file)
    return {
        name: frame[name].to_numpy().tobytes() if frame[name].dtype.is_numeric() else frame[name].to_list()
        for name in frame.columns
    }


# ---------------------------------------------------------------------------- the answer


@pytest.mark.parametrize("ending", ["parquet", "csv", "feather", "arrow", "jsonl"])
def test_every_format_holds_what_fit_many_returns(run, tmp_path, ending):
    polars.DataFrame(decays(40)).write_csv(tmp_path / "stack.csv")
    seen = run("many", "stack.csv", DECAY, "--by", "pixel", "--out", f"fits.{ending}")
    assert (seen.code, seen.err) == (0, "")
    readers = {"parquet": polars.read_parquet, "csv": polars.read_csv, "jsonl": polars.read_ndjson}
    frame = readers.get(ending, polars.read_ipc)(tmp_path / f"fits.{ending}")
    expected = gradfit.fit_many(DECAY, tmp_path / "stack.csv", by="pixel").to_frame()
    assert frame.columns == expected.columns
    assert frame["status"].to_list() == expected["status"].to_list()
    for name in set(frame.columns) - {"status"}:
        np.testing.assert_array_equal(frame[name].to_numpy(), expected[name].to_numpy())
    assert [file.name for file in tmp_path.iterdir() if "parts" in file.name] == []


SOURCES = {
    "rows in any order": (lambda c: polars.DataFrame(c).sample(fraction=1, shuffle=True, seed=3), {}),
    "two keys, of text and numbers": (
        lambda c: polars.DataFrame(c).with_columns(plate=polars.format("p{}", polars.col("pixel") // 7)), {"by": ("plate", "pixel")},
    ),
    "keys of text": (lambda c: polars.DataFrame(c).with_columns(pixel=polars.format("p{}", polars.col("pixel"))), {}),
    "keys that descend": (lambda c: polars.DataFrame(c).with_columns(-polars.col("pixel")), {}),
    "rows without a key": (
        lambda c: polars.DataFrame(c).with_columns(polars.when(polars.col("pixel") % 3 > 0).then("pixel")), {},
    ),
    "a filter": (lambda c: polars.DataFrame(c), {"where": "t > 2 and pixel < 30"}),
    "sigma": (lambda c: polars.DataFrame(c).with_columns(u=0.05 + polars.col("t") / 100), {"sigma": "u"}),
    "start and fixed columns": (
        lambda c: polars.DataFrame(c).with_columns(k=2.0 + polars.col("pixel") / 99, c0=polars.lit(0.5)),
        {"start": {"tau": "k"}, "fixed": {"c": "c0"}},
    ),
    "ragged groups": (lambda c: polars.DataFrame(c).filter(polars.col("t") < 3 + polars.col("pixel") % 7), {}),
    "holes": (lambda c: polars.DataFrame(c).with_columns(polars.when(polars.col("y") > 0).then("y")), {}),
    "text that is compared": (
        lambda c: polars.DataFrame(c).with_columns(kind=polars.when(polars.col("t") > 5).then(polars.lit("b")).otherwise(polars.lit("a"))),
        {"model": 'y = a*exp(-t/tau) + c*(kind == "b")'},
    ),
    "counts": (
        lambda c: polars.DataFrame(c).with_columns((polars.col("y") * 20 + 40).round().clip(0)), {"loss": "poisson"},
    ),
    "a library model, and a search": (lambda c: polars.DataFrame(c), {"model": "exponential_decay"}),
}  # fmt: skip


@pytest.mark.parametrize("case", SOURCES)
def test_a_file_in_portions_gives_what_fit_many_gives(tmp_path, case):
    make, options = SOURCES[case]
    make(decays(60)).write_parquet(tmp_path / "stack.parquet")
    start = {} if "library" in case else {"start": START}  # a search takes a third of a second
    told = {"model": DECAY, "by": ("pixel",), **start, **options}
    write_many(Job(data=str(tmp_path / "stack.parquet"), out=str(tmp_path / "fits.parquet"), **told))
    expected = gradfit.fit_many(told.pop("model"), tmp_path / "stack.parquet", **told).to_frame()
    seen = polars.read_parquet(tmp_path / "fits.parquet")
    assert seen.columns == expected.columns
    for name in seen.columns:
        values = seen[name] if seen[name].dtype == polars.String else seen[name].cast(polars.Float64)
        assert values.equals(expected[name].cast(values.dtype)), name


@pytest.mark.parametrize(
    "case", ["rows in any order", "two keys, of text and numbers", "keys that descend", "ragged groups"]
)
@pytest.mark.parametrize("held", [False, True], ids=["scanned", "in memory"])
def test_where_portions_are_cut_changes_nothing(tmp_path, monkeypatch, case, held):
    make, options = SOURCES[case]
    frame = make(decays(60))
    file = tmp_path / ("stack.csv" if held else "stack.parquet")
    (frame.write_csv if held else frame.write_parquet)(file)
    told = {"by": ("pixel",), "start": START, **options}
    expected = gradfit.fit_many(DECAY, file, **told).to_frame()
    monkeypatch.setattr("gradfit.many.feeding.PORTION", 100)
    seen = []
    write_many(Job(DECAY, str(file), str(tmp_path / "fits.csv"), **told), watch=seen.append)
    assert (seen[-1].parts, seen[-1].share, seen[-1].fits) == (seen[-1].of, 1.0, 60)
    assert seen[-1].of > 5
    frame = polars.read_csv(tmp_path / "fits.csv")
    for name in set(expected.columns) - {"status", "plate"}:
        np.testing.assert_array_equal(frame[name].to_numpy(), expected[name].to_numpy(), err_msg=name)


def test_rows_that_were_dealt_first_are_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr("gradfit.many.feeding.PORTION", 100)
    file = tmp_path / "stack.parquet"
    polars.DataFrame(decays(30)).sort("t").write_parquet(file)
    written = write_many(Job(DECAY, str(file), str(tmp_path / "fits.parquet"), by=("pixel",)))
    assert "stood apart" in written.shown.how[0]
    assert "dealt to 10 files first" in written.shown.how[0]
    assert polars.read_parquet(tmp_path / "fits.parquet")["pixel"].to_list() == list(range(30))


def test_a_folder_of_files(tmp_path):
    frame = polars.DataFrame(decays(30))
    (tmp_path / "days").mkdir()
    for i in range(3):  # groups run on from one file to the next
        frame[i * 325 : (i + 1) * 325].write_parquet(tmp_path / "days" / f"{i}.parquet")
    write_many(Job(DECAY, str(tmp_path / "days"), str(tmp_path / "fits.parquet"), by=("pixel",)))
    expected = gradfit.fit_many(DECAY, frame, by="pixel").to_frame()
    seen = polars.read_parquet(tmp_path / "fits.parquet")
    assert seen.with_columns(polars.col("pixel").cast(polars.Float64)).equals(expected)


def test_pixels_of_a_film(run, tmp_path):
    columns = decays(12)
    film = np.ascontiguousarray(columns["y"].reshape(3, 4, POINTS).transpose(2, 0, 1))
    np.save(tmp_path / "film.npy", film)
    np.save(tmp_path / "t.npy", columns["t"][:POINTS])
    seen = run("many", "film.npy", DECAY, "--axis", "0", "--array", "t=t.npy", "--out", "fits.parquet")
    assert (seen.code, seen.err) == (0, "")
    expected = gradfit.fit_many(DECAY, {"y": film, "t": columns["t"][:POINTS]}, axis=0).to_frame()
    assert polars.read_parquet(tmp_path / "fits.parquet").equals(expected)


VOXELS = [
    p for p in json.loads((DATA / "real" / "answers.json").read_text())["problems"] if p.get("responses")
]


@pytest.mark.parametrize("case", VOXELS, ids=lambda p: p["name"])
def test_voxels_of_a_stack_of_images(run, tmp_path, case):
    table = polars.read_csv(DATA / "real" / case["file"])
    signal = table.select(polars.selectors.matches(r"^v\d+$")).to_numpy()
    np.save(tmp_path / "stack.npy", signal.reshape(65, 10, 10, 10).astype(np.int16))
    words = []
    for name in ("b", "gx", "gy", "gz"):
        np.save(tmp_path / f"{name}.npy", table[name].to_numpy())
        words += ["--array", f"{name}={name}.npy"]
    start = ",".join(f"{name}={value}" for name, value in case["start"].items())
    seen = run(
        "many", "stack.npy", case["formula"], "--axis", 0, *words, "--start", start, "--out", "fits.parquet"
    )
    assert (seen.code, seen.err) == (0, "")
    fits = polars.read_parquet(tmp_path / "fits.parquet").with_row_index()
    assert fits.columns[1:4] == ["row", "column", "axis_2"]
    assert len(fits) == 1000
    for name, wanted in case["params"].items():
        fit = fits.row(int(name[1:]), named=True)
        assert fit["status"] == "converged"
        assert digits([fit[p] for p in wanted], list(wanted.values())) >= 6
        assert digits([fit["rss"]], [case["minimum"][name]]) >= 6


def test_json_holds_counts_quantiles_and_findings(run, tmp_path):
    columns = decays(40)
    columns["y"][: 4 * POINTS] = np.nan
    polars.DataFrame(columns).write_parquet(tmp_path / "stack.parquet")
    seen = run("many", "stack.parquet", DECAY, "--by", "pixel", "--out", "fits.parquet", "--json")
    told = json.loads(seen.out)
    assert told["status"] == {"converged": 36, "too-few-points": 4}
    assert 1 < told["parameters"]["tau"]["quantiles"]["0.5"] < 5
    assert [f["code"] for f in told["findings"]] == ["many-too-few-points", "many-missing"]


def test_summary_for_a_person(run, tmp_path):
    columns = decays(40)
    columns["y"][: 30 * POINTS] = np.nan
    polars.DataFrame(columns).write_parquet(tmp_path / "stack.parquet")
    seen = run("many", "stack.parquet", DECAY, "--by", "pixel", "--out", "fits.parquet")
    assert seen.code == 1  # most failed
    assert "10 of 40 fits converged" in flat(seen.out)
    assert "too-few-points 30 75 %" in flat(seen.out)
    assert "1 30 of 40 fits have fewer than 3 points" in flat(seen.out)


# ---------------------------------------------------------------------------- killed, and gone on


def test_killed_at_any_moment_and_resumed(large):
    random = np.random.default_rng(0)
    kills = 0
    while kills < 20:
        before = parts(large, "killed.parquet")
        process = begun(large, "killed.parquet", "--resume")
        until(process, lambda before=before: parts(large, "killed.parquet") != before)
        time.sleep(random.uniform(0, 0.15))
        process.send_signal(signal.SIGKILL)
        if finished(process).returncode == 0:
            break
        kills += 1
        assert set(before) <= set(parts(large, "killed.parquet")) or (large / "killed.parquet").exists()
    assert kills
    assert content(large / "killed.parquet") == content(large / "whole.parquet")
    assert not (large / "killed.parquet.parts").exists()


def test_killed_at_the_end(large, tmp_path):
    """After the last part, and after the output got its name but before the parts were gone."""
    out, copy = tmp_path / "fits.parquet", tmp_path / "copy"

    def stop(now):
        if now.parts == now.of:
            raise KeyboardInterrupt

    job = Job(DECAY, str(large / "stack.parquet"), str(out), by=("pixel",), executor="numpy")
    with pytest.raises(KeyboardInterrupt):
        write_many(job, watch=stop)
    shutil.copytree(tmp_path / "fits.parquet.parts", copy)
    write_many(job, resume=True)
    assert content(out) == content(large / "whole.parquet")
    copy.rename(tmp_path / "fits.parquet.parts")
    (tmp_path / ".fits.parquet.parts.1.gone").mkdir()
    assert write_many(job, resume=True).new == 0
    assert content(out) == content(large / "whole.parquet")
    assert [file.name for file in tmp_path.iterdir()] == ["fits.parquet"]
    assert write_many(job, resume=True) is None


def test_interrupted_says_how_to_go_on(large, tmp_path):
    process = begun(large, str(tmp_path / "fits.csv"))
    until(process, lambda: parts(tmp_path, "fits.csv"))
    process.send_signal(signal.SIGINT)
    assert finished(process).returncode == 130
    assert re.search(r"Interrupted; \d parts? of the results kept in .*fits.csv.parts", flat(process.err))
    assert "--resume" in process.err
    assert "Traceback" not in process.err
    assert not (tmp_path / "fits.csv").exists()


def test_two_runs_at_once(large, run, tmp_path):
    out = tmp_path / "fits.parquet"
    process = begun(large, str(out))
    until(process, lambda: (tmp_path / "fits.parquet.parts" / "run.json").exists())
    for option in ("--resume", "--force"):
        seen = run("many", large / "stack.parquet", DECAY, "--by", "pixel", "--out", out, option)
        assert seen.code == 2
        assert "Another run is writing" in flat(seen.err)
    assert finished(process).returncode == 0
    assert content(out) == content(large / "whole.parquet")


# ---------------------------------------------------------------------------- refused


@pytest.fixture
def stopped(tmp_path, monkeypatch):
    """A run of three parts that was stopped after the first."""
    monkeypatch.setattr("gradfit.many.feeding.PORTION", 100)
    polars.DataFrame(decays(20)).write_parquet(tmp_path / "stack.parquet")

    def stop(_):
        raise KeyboardInterrupt

    job = Job(DECAY, str(tmp_path / "stack.parquet"), str(tmp_path / "fits.parquet"), by=("pixel",))
    with pytest.raises(KeyboardInterrupt):
        write_many(job, watch=stop)
    return tmp_path


RUN = ("many", "stack.parquet", DECAY, "--by", "pixel", "--out", "fits.parquet")
REFUSED = {
    "no word of what is there": (RUN, "fits.parquet.parts holds a run that did not end Go on with --resume"),
    "another model": (
        ("many", "stack.parquet", "y = a*exp(-t/tau)", *RUN[3:], "--resume"),
        'begun with model "y = a*exp(-t/tau) + c", and now it is "y = a*exp(-t/tau)"',
    ),
    "another option": (
        (*RUN, "--resume", "--start", "tau=3"), 'begun with start not given, and now it is {"tau": 3.0}',
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_a_run_goes_on_as_it_began_or_not_at_all(run, stopped, monkeypatch, case):
    monkeypatch.chdir(stopped)
    job_file = stopped / "fits.parquet.parts" / "run.json"
    before = job_file.read_bytes()
    words, sentence = REFUSED[case]
    seen = run(*words)
    assert seen.code == 2
    assert sentence in flat(seen.err).replace("/", "/")
    assert job_file.read_bytes() == before


def test_an_input_that_changed_in_between_is_noticed(run, stopped):
    columns = decays(20)
    columns["y"][7] += 1e-9
    polars.DataFrame(columns).write_parquet(stopped / "stack.parquet")
    seen = run(*RUN, "--resume")
    assert seen.code == 2
    assert re.search("was begun on other data: stack.parquet was .* and is", flat(seen.err))
    assert "begin anew with --force" in flat(seen.err)
    assert run(*RUN, "--force").code == 0


def test_an_input_that_changes_while_it_is_read_is_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr("gradfit.many.feeding.PORTION", 100)
    file = tmp_path / "stack.parquet"
    polars.DataFrame(decays(40)).write_parquet(file)

    def change(now):
        if now.parts == 1:
            os.utime(file, ns=(1, 1))

    with pytest.raises(gradfit.GradfitError, match="begun on other data"):
        write_many(Job(DECAY, str(file), str(tmp_path / "fits.parquet"), by=("pixel",)), watch=change)
    assert not (tmp_path / "fits.parquet").exists()


def test_another_version_is_refused(run, stopped):
    file = stopped / "fits.parquet.parts" / "run.json"
    file.write_text(file.read_text().replace(f'"version": "{gradfit.__version__}"', '"version": "0.0.1"'))
    seen = run(*RUN, "--resume")
    assert f"was begun by gradfit 0.0.1, and this is {gradfit.__version__}" in flat(seen.err)


def test_a_damaged_note_of_the_run_is_refused(run, stopped):
    (stopped / "fits.parquet.parts" / "run.json").write_text("{")
    seen = run(*RUN, "--resume")
    assert seen.code == 2
    assert "run.json cannot be read Begin anew with --force" in flat(seen.err)


def test_a_start_that_was_searched_is_kept(stopped):
    plan = Plan.read((stopped / "fits.parquet.parts" / "run.json").read_text())
    assert plan.searched >= 1
    assert plan.starts[0][0] is None  # solved in closed form
    assert 1 < plan.starts[0][1] < 5


def test_a_whole_output_of_another_run_is_refused(run, tmp_path):
    polars.DataFrame(decays(20)).write_parquet(tmp_path / "stack.parquet")
    assert run(*RUN).code == 0
    assert "is whole already" in run(*RUN, "--resume").out
    assert "there already" in run(*RUN).err
    seen = run(*RUN, "--resume", "--bounds", "a=0:")
    assert seen.code == 2
    assert "is the whole output of a run with other options" in flat(seen.err)


WRONG = {
    "no keys": (("many", "stack.parquet", DECAY, "--out", "f.parquet"), "Name the columns that do: --by pixel"),
    "no such key": (
        ("many", "stack.parquet", DECAY, "--by", "pixl", "--out", "f.parquet"), "Did you mean pixel?",
    ),
    "no such file": (("many", "stak.parquet", DECAY, "--by", "pixel", "--out", "f.parquet"), "Did you mean stack.parquet?"),
    "no such column": (
        ("many", "stack.parquet", DECAY, "--by", "pixel", "--out", "f.parquet", "--sigma", "u"), "There is no column u",
    ),
    "a format that is not written": (
        ("many", "stack.parquet", DECAY, "--by", "pixel", "--out", "f.xlsx"), "f.xlsx does not end in .parquet",
    ),
    "the input itself": (
        ("many", "stack.parquet", DECAY, "--by", "pixel", "--out", "stack.parquet", "--force"), "is the file that is read",
    ),
    "a model without input": (
        ("many", "stack.parquet", "y = a*exp(-T/tau)", "--by", "pixel", "--out", "f.parquet"), "uses no column of stack.parquet",
    ),
    "a filter that leaves nothing": (
        ("many", "stack.parquet", DECAY, "--by", "pixel", "--out", "f.parquet", "--where", "t > 99"), "No row of",
    ),
    "an executor that is none": (
        ("many", "stack.parquet", DECAY, "--by", "pixel", "--out", "f.parquet", "--executor", "nump"), "There is no executor",
    ),
    "a damaged file": (("many", "bad.parquet", DECAY, "--by", "pixel", "--out", "f.parquet"), "bad.parquet cannot be read"),
    "a key named like a result": (
        ("many", "stack.parquet", DECAY, "--by", "status", "--out", "f.parquet"),
        "The key column status has the name of a column of the results",
    ),
    "a stack without times": (
        ("many", "film.npy", DECAY, "--axis", "0", "--out", "f.parquet"),
        "uses no column",
    ),
    "points that are missing": (
        ("many", "stack.parquet", DECAY, "--by", "pixel", "--out", "f.parquet", "--missing", "error"),
        "have no number, the first in fit 2, counted from pixel 0",
    ),
    "an empty folder": (("many", "empty", DECAY, "--by", "pixel", "--out", "f.parquet"), "without Parquet files"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_wrong_use_is_answered_and_leaves_nothing(run, tmp_path, case):
    words, sentence = WRONG[case]
    columns = decays(5)
    columns["y"][2 * POINTS : 2 * POINTS + 3] = np.nan
    polars.DataFrame(columns).with_columns(status="pixel").write_parquet(tmp_path / "stack.parquet")
    np.save(tmp_path / "film.npy", columns["y"].reshape(5, POINTS).T)
    (tmp_path / "bad.parquet").write_bytes(b"PAR1 or not")
    (tmp_path / "empty").mkdir()
    before = sorted(file.name for file in tmp_path.iterdir())
    seen = run(*words)
    assert seen.code == 2
    assert sentence in flat(seen.err)
    assert sorted(file.name for file in tmp_path.iterdir()) == before


# ---------------------------------------------------------------------------- room


def test_a_full_disk_is_said_and_the_run_goes_on(large, tmp_path):
    data = str(large / "stack.parquet")
    limit = (300_000, 300_000)  # bytes of a file
    limited = begun(
        tmp_path,
        "fits.parquet",
        data=data,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limit),
    )
    process = finished(limited)
    told = flat(process.err)
    assert process.returncode == 2
    assert re.search(
        r"The next \d+ kB of fits.parquet are more than a file may hold here; 0 parts are kept", told
    )
    assert re.search(r"Raise the limit .*, then go on with --resume", told)
    assert "Traceback" not in told
    assert not (tmp_path / "fits.parquet").exists()
    assert finished(begun(tmp_path, "fits.parquet", "--resume", data=data)).returncode == 0
    assert content(tmp_path / "fits.parquet") == content(large / "whole.parquet")


def test_no_room_names_what_is_needed(stopped, monkeypatch, run):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    seen = run(*RUN, "--resume")
    assert seen.code == 2
    assert re.search(
        r"There is no room for the next [\d.]+ (?:kB|bytes) of fits.parquet in .*, where .* are free",
        flat(seen.err),
    )
    assert re.search(
        r"1 part is kept in .* Make room for about \d+ kB, then go on with --resume", flat(seen.err)
    )
    monkeypatch.undo()
    monkeypatch.chdir(stopped)
    assert run(*RUN, "--resume").code == 0


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="only Linux tells a process's peak like this"
)
def test_memory_is_flat(tmp_path):
    peaks = []
    for m in (2 * PORTION // POINTS, 20 * PORTION // POINTS):
        file = tmp_path / "stack.parquet"
        polars.DataFrame(decays(m)).write_parquet(file, row_group_size=100_000)
        words = ("--fix", "tau=3", "--force", "--quiet")  # what is left is linear, and fast
        process = begun(tmp_path, "fits.parquet", *words)
        seen = [0]

        def look(process=process, seen=seen):
            found = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())
            seen[0] = int(found[1]) if found else seen[0]  # none in the moment between end and wait

        until(process, look)
        assert finished(process).returncode == 0
        peaks.append(seen[0])
    assert peaks[1] < peaks[0] + 60_000  # kB; the rows are 126 MB
