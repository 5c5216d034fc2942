"""The store on disk: what comes back is what was kept, or nothing; and nothing that happens to the disk is an error."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradfit import store

KEY, OTHER = store.key_of("y = a*x"), store.key_of("y = a*x + b")
DATA = b"what took a second to work out" * 20


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("GRADFIT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def only_file(home: Path) -> Path:
    [file] = (path for path in home.rglob("*") if path.is_file())
    return file


# ---------------------------------------------------------------------------- what comes back


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize("data", [b"", b"\0", DATA, bytes(range(256)) * 5000], ids=len)
def test_what_was_kept_comes_back(data):
    assert store.load("trace", KEY) is None
    store.save("trace", KEY, data)
    assert store.load("trace", KEY) == data
    assert store.load("trace", OTHER) is None
    assert store.load("native", KEY) is None
    store.save("trace", KEY, b"newer")
    assert store.load("trace", KEY) == b"newer"


@given(*[st.lists(st.text(max_size=3) | st.binary(max_size=3), max_size=3)] * 2)
def test_keys_are_equal_where_the_parts_are(some, others):
    assert (store.key_of(*some) == store.key_of(*others)) == (some == others)


@pytest.mark.usefixtures("home")
@pytest.mark.parametrize(
    ("kind", "key"), [("../up", KEY), ("", KEY), ("trace", "../x"), ("trace", KEY[:-1]), ("trace", "")]
)
def test_what_could_leave_the_folder_is_refused(kind, key):
    with pytest.raises(ValueError, match=r"is none|is not"):
        store.save(kind, key, DATA)


def test_contents_and_clearing(home):
    assert (store.contents(), store.clear()) == ([], 0)
    store.save("trace", KEY, b"1")
    store.save("trace", OTHER, b"2")
    store.save("native", KEY, DATA)
    (home / "trace" / "notes.txt").write_text("somebody's own")
    (home / "README").write_text("somebody's own")
    native, trace = store.contents()
    assert (native.name, native.count, trace.name, trace.count) == ("native", 1, "trace", 2)
    assert native.size > len(DATA)
    assert abs(time.time() - trace.newest) < 60
    assert store.clear("native") == 1
    assert (store.load("native", KEY), store.load("trace", KEY)) == (None, b"1")
    assert store.clear() == 2
    assert sorted(path.name for path in home.rglob("*.*")) == ["notes.txt"]
    assert (home / "README").exists()


# ---------------------------------------------------------------------------- damage


@given(st.data())
def test_a_changed_byte_or_a_lost_end_makes_an_entry_absent(tmp_path_factory, data):
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("cache")
        patch.setenv("GRADFIT_CACHE", str(home))
        store.save("trace", KEY, DATA)
        file = only_file(home)
        whole = file.read_bytes()
        place = data.draw(st.integers(0, len(whole) - 1))
        cut = data.draw(st.booleans())
        bit = data.draw(st.integers(0, 7))
        file.write_bytes(
            whole[:place] if cut else whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :]
        )
        assert store.load("trace", KEY) is None
        store.save("trace", KEY, DATA)
        assert store.load("trace", KEY) == DATA


@pytest.mark.parametrize(
    "damage",
    [
        lambda whole: whole + b"\0",
        lambda whole: whole + whole,
        lambda whole: whole.replace(b"store 1", b"store 0"),
        lambda whole: b"\x89PNG\r\n" + whole,
        lambda whole: b"",
        lambda whole: DATA,
    ],
    ids=["longer", "twice", "older format", "foreign", "empty", "bare"],
)
def test_what_the_store_did_not_write_is_absent_and_replaced(home, damage):
    store.save("trace", KEY, DATA)
    file = only_file(home)
    file.write_bytes(damage(file.read_bytes()))
    assert store.load("trace", KEY) is None
    store.save("trace", KEY, DATA)
    assert store.load("trace", KEY) == DATA


def test_a_file_under_the_name_of_another_entry_is_absent(home):
    store.save("trace", KEY, DATA)
    file = only_file(home)
    file.rename(file.with_name(file.name.replace(KEY, OTHER)))
    assert store.load("trace", OTHER) is None
    file.with_name(file.name.replace(KEY, OTHER)).rename(file)
    file.parent.rename(home / "native")
    assert store.load("native", KEY) is None


# ---------------------------------------------------------------------------- a folder that cannot be used


def _blocked(home: Path) -> None:
    home.write_text("a file where the folder should be")


def _kind_blocked(home: Path) -> None:
    home.mkdir()
    (home / "trace").write_text("a file where a folder should be")


def _entry_blocked(home: Path) -> None:
    store.save("trace", KEY, DATA)
    file = only_file(home)
    file.unlink()
    (file / "inside").mkdir(parents=True)


def _dangling(home: Path) -> None:
    home.symlink_to(home.parent / "gone" / "far")


@pytest.mark.parametrize("block", [_blocked, _kind_blocked, _entry_blocked, _dangling])
def test_a_folder_that_cannot_be_used_costs_time_alone(home, block):
    block(home)
    store.save("trace", KEY, DATA)
    assert store.load("trace", KEY) is None
    store.contents()
    store.clear()
    assert not list(home.parent.rglob("*.part"))


@pytest.mark.parametrize("named", ["off", "OFF", " none ", "no", "0", "false"])
def test_it_can_be_switched_off(monkeypatch, tmp_path, named):
    monkeypatch.setenv("GRADFIT_CACHE", named)
    monkeypatch.chdir(tmp_path)
    store.save("trace", KEY, DATA)
    assert (store.folder(), store.load("trace", KEY), store.contents(), store.clear()) == (None, None, [], 0)
    assert not store.writable()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="the folders of Linux")
@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"GRADFIT_CACHE": "/a/b", "XDG_CACHE_HOME": "/x"}, "/a/b"),
        ({"GRADFIT_CACHE": "~/b", "HOME": "/h"}, "/h/b"),
        ({"GRADFIT_CACHE": "", "XDG_CACHE_HOME": "/x"}, "/x/gradfit"),
        ({"XDG_CACHE_HOME": "/x"}, "/x/gradfit"),
        ({"XDG_CACHE_HOME": "relative", "HOME": "/h"}, "/h/.cache/gradfit"),
        ({"HOME": "/h"}, "/h/.cache/gradfit"),
    ],
    ids=str,
)
def test_where_it_is(monkeypatch, environment, expected):
    for name in ("GRADFIT_CACHE", "XDG_CACHE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert str(store.folder()) == expected


def test_a_folder_that_may_only_be_read_serves_what_is_in_it():
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "locked").mkdir(mode=0o700)
        code = f"""
import os
from pathlib import Path
from gradfit import store
os.environ["GRADFIT_CACHE"] = {folder!r}
store.save("trace", {KEY!r}, b"kept")
for path in Path({folder!r}, "trace").iterdir():
    path.chmod(0o644)
Path({folder!r}, "trace").chmod(0o555)
Path({folder!r}, "locked").chmod(0)
Path({folder!r}).chmod(0o555)
if os.geteuid() == 0:
    os.setuid(65534)
store.save("trace", {KEY!r}, b"new")
store.save("trace", {OTHER!r}, b"new")
store.save("native", {KEY!r}, b"new")
print(store.writable(), store.load("trace", {KEY!r}), store.load("trace", {OTHER!r}), store.clear(), store.contents()[0].count)
os.environ["GRADFIT_CACHE"] = {str(Path(folder) / "locked" / "deep" / "down")!r}
store.save("trace", {KEY!r}, b"new")
print(store.writable(), store.load("trace", {KEY!r}), store.contents(), store.clear())
"""
        seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        for path in (folder, f"{folder}/trace", f"{folder}/locked"):
            Path(path).chmod(0o755)
    assert (seen.stdout, seen.stderr) == ("False b'kept' None 0 1\nFalse None [] 0\n", "")


@pytest.mark.skipif(sys.platform == "win32", reason="limits of POSIX")
def test_a_full_disk_leaves_nothing_behind(home):
    code = f"""
import resource
from gradfit import store
store.save("trace", {KEY!r}, b"small")
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
store.save("trace", {KEY!r}, bytes(1_000_000))
store.save("trace", {OTHER!r}, bytes(1_000_000))
print(store.load("trace", {KEY!r}), store.load("trace", {OTHER!r}))
"""
    seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert seen.stdout == "b'small' None\n"
    assert only_file(home).stat().st_size < 1000


# ---------------------------------------------------------------------------- size


def _grown(file: Path, megabytes: int, age: float) -> None:
    """Make a file large without writing it, and old."""
    os.truncate(file, megabytes * 1_000_000)
    os.utime(file, (time.time() - age,) * 2)


@pytest.mark.parametrize(("megabytes", "left"), [(50, 4), (84, 2), (130, 1), (300, 0)])
def test_what_was_used_longest_ago_goes_first(home, megabytes, left):
    keys = [store.key_of(str(k)) for k in range(4)]
    for age, key in enumerate(keys):
        store.save("native", key, DATA)
        [file] = home.rglob(f"{key}.*")
        _grown(file, megabytes, 1e6 * (age + 1))
    store.save("trace", KEY, bytes(1_000_000))
    assert store.load("trace", KEY) == bytes(1_000_000)
    kept = [key for key in keys if list(home.rglob(f"{key}.*"))]
    assert kept == keys[:left]


def test_many_small_entries_are_counted_too(home):
    old = store.key_of("old")
    store.save("native", old, DATA)
    _grown(only_file(home), 300, 1e6)
    for k in range(400):
        store.save("trace", store.key_of("small", str(k)), b"")
    assert [(kind.name, kind.count) for kind in store.contents()] == [("trace", 400)]


def test_what_is_used_is_not_old(home):
    store.save("trace", KEY, DATA)
    file = only_file(home)
    os.utime(file, (0, 0))
    assert store.load("trace", KEY) == DATA
    assert time.time() - store.contents()[0].newest < 60


# ---------------------------------------------------------------------------- several processes

_WRITER = """
import sys
from gradfit import store
key, name, times = sys.argv[1], sys.argv[2], int(sys.argv[3])
mine = name.encode() * 300_000
store.save("native", key, mine)
print("begun", flush=True)
for _ in range(times):
    store.save("native", key, mine)
    seen = store.load("native", key)
    assert seen is not None and len(set(seen)) == 1 and len(seen) == 300_000, seen and len(seen)
"""


def _writer(name: str, times: int) -> subprocess.Popen[str]:
    words = [sys.executable, "-c", _WRITER, KEY, name, str(times)]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_processes_that_write_one_entry_at_once(home):
    writers = [_writer(name, 100) for name in "abc"]
    assert [writer.communicate()[1] for writer in writers] == ["", "", ""]
    assert store.load("native", KEY) in [name * 300_000 for name in (b"a", b"b", b"c")]
    assert only_file(home)


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_process_that_is_killed_while_it_writes(home):
    for pause in (0.003, 0.006, 0.01, 0.015):
        writer = _writer("a", 1_000_000)
        assert writer.stdout is not None
        writer.stdout.readline()
        time.sleep(pause)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        assert store.load("native", KEY) == b"a" * 300_000
    for left in home.rglob("*.part"):  # what the killed one had begun goes after a day
        os.utime(left, (time.time() - 1e6,) * 2)
    store.save("trace", KEY, bytes(1_000_000))
    assert not list(home.rglob("*.part"))
