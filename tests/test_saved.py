"""Saved fits: the same numbers to the last digit, without torch and without the user's code; damaged files get a sentence."""

import json
import math
import subprocess
import sys
import warnings
from datetime import date
from functools import lru_cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfit import DataError, FitResult, GradfitError, Loss, ModelError, OptionError, fit
from gradfit.report import html
from gradfit.saved import load, save, saved_text, summary_dict

DAY = date(2020, 1, 2)


def made(seed=1, n=25):
    rng = np.random.default_rng(seed)
    x = np.linspace(0.1, 5, n)
    y = 3 * np.exp(-0.8 * x) + 0.4 + 0.03 * rng.standard_normal(n)
    return {"x": x, "y": y, "s": np.full(n, 0.03), "w": 1 / (1 + x), "u": rng.uniform(0, 1, n)}


def numpy_function(x, a, b, c):
    return a * np.exp(-b * x) + c


def torch_function(x, a, b, c):
    import torch

    return a * torch.exp(-b * x) + c


def joins_rows(x, a, b):
    return a * np.cumsum(x) / len(x) + b


def only_numbers(x, a, b):
    return np.array([a * float(f"{v:.17g}") + b for v in x])


DECAY = "y = a*exp(-b*x) + c"
COVARIANCE = 0.03**2 * (0.6 ** np.abs(np.subtract.outer(np.arange(25), np.arange(25))))
CASES = {
    "line": ("y = a*x + b", {}),
    "constant": ("y = c", {}),
    "search": (DECAY, {}),
    "start": (DECAY, {"start": {"a": 2, "b": 1.0, "c": 0}}),
    "start as an array": (DECAY, {"start": np.array([2.0, 1.0, 0.0])}),
    "sigma column": (DECAY, {"sigma": "s", "start": [2, 1, 0]}),
    "sigma array": (DECAY, {"sigma": np.full(25, 0.03), "start": [2, 1, 0]}),
    "covariance": (DECAY, {"sigma": COVARIANCE, "start": [2, 1, 0]}),
    "weights": (DECAY, {"weights": "1/y**2", "start": [2, 1, 0]}),
    "fixed": (DECAY, {"fixed": {"c": 0.4}, "start": {"a": 2, "b": 1}}),
    "all fixed": (DECAY, {"fixed": {"a": 3, "b": 0.8, "c": 0.4}}),
    "bounds": (DECAY, {"bounds": {"a": (0, 10), "b": (0, None)}, "start": [2, 1, 0]}),
    "at a bound": (DECAY, {"bounds": {"c": (0.5, None)}, "start": [2, 1, 0.6]}),
    "huber": (DECAY, {"loss": "huber", "start": [2, 1, 0]}),
    "a loss with its scale": (DECAY, {"loss": Loss("cauchy", 1 / 30), "start": [2, 1, 0]}),
    "not identifiable": ("y = a*b*exp(-x) + c", {"start": [1, 1, 1]}),
    "a parameter without effect": ("y = a*x + b + 0*d", {}),
    "left side": ("log(y) = a*x + b", {}),
    "rows": (DECAY, {"where": "x > 0.5", "exclude": [7, 9], "start": [2, 1, 0], "level": 0.9, "seed": 4}),
    "two inputs": ("y = a*x + b*u + c", {}),
    "library": ("exponential_decay", {"response": "y"}),
    "SGD": ("y = a*x + b", {"solver": "SGD", "lr": 0.01, "epochs": 30, "momentum": 0.9, "start": [0, 0]}),
    "too few iterations": (DECAY, {"max_iterations": 1, "start": [20, 0.01, 9]}),
    "tensor": (DECAY, {"executor": "tensor", "start": [2, 1, 0]}),
    "NumPy function": (numpy_function, {"response": "y", "start": {"a": 2, "b": 1, "c": 0}}),
    "torch function": (torch_function, {"response": "y", "start": {"a": 2, "b": 1, "c": 0}}),
}
UNTRACED = {"joins rows": joins_rows, "only numbers": only_numbers}


def fitted(name) -> FitResult:
    model, options = CASES[name]
    columns = made()
    keep = (
        {"x", "y", "u"}
        if name == "two inputs"
        else {"x", "y", *(c for c in ("s", "w") if c in str(options.get("sigma", "")))}
    )
    return fit(model, {c: columns[c] for c in keep}, **options)


@pytest.fixture(scope="module", params=CASES)
def pair(request, tmp_path_factory):
    result = fitted(request.param)
    path = tmp_path_factory.mktemp("saved") / "fit.json"
    save(result, path)
    return result, load(path)


def same(a, b):
    assert np.array_equal(np.asarray(a, dtype=float), np.asarray(b, dtype=float), equal_nan=True)


def test_the_numbers_are_the_same_to_the_last_digit(pair):
    result, again = pair
    assert isinstance(again, FitResult)
    assert summary_dict(again) == summary_dict(result)
    same(again.covariance, result.covariance)
    for name, p in result.params.items():
        q = again.params[name]
        same(
            [p.value, p.stderr, *p.bounds, *p.interval(), *p.interval(0.5)],
            [q.value, q.stderr, *q.bounds, *q.interval(), *q.interval(0.5)],
        )
        assert (p.fixed, p.at_bound, p.determined, p.start) == (q.fixed, q.at_bound, q.determined, q.start)
    for name in ("fitted", "residuals", "weighted_residuals", "leverage"):
        same(getattr(again, name), getattr(result, name))
    for name in ("step", "loss", "gradient", "parameters"):
        same(getattr(again.history, name), getattr(result.history, name))


def test_predictions_and_words_are_the_same(pair):
    result, again = pair
    new = {"x": np.linspace(-1, 8, 7), "u": np.linspace(0, 2, 7)}
    for level in (None, 0.5):
        p, q = result.predict(new, level=level), again.predict(new, level=level)
        same(
            [p.value, p.stderr, *p.confidence, *p.prediction],
            [q.value, q.stderr, *q.confidence, *q.prediction],
        )
    assert again.verdict == result.verdict
    assert again.findings == result.findings
    assert again.checks == result.checks
    assert again.summary() == result.summary()
    assert html(again, day=DAY) == html(result, day=DAY)


def test_another_level_is_judged_anew(tmp_path):
    result = fitted("search")
    save(result, tmp_path / "fit.json")
    again = load(tmp_path / "fit.json").at_level(0.5)
    assert again.sentences == result.at_level(0.5).sentences != result.sentences


def test_a_loaded_fit_can_be_saved_again(pair, tmp_path):
    result, again = pair
    save(again, tmp_path / "again.json")
    assert saved_text(load(tmp_path / "again.json")) == saved_text(result)


def test_the_file_is_strict_json_without_code(pair):
    def refuse(constant):
        raise AssertionError(constant)

    plain = json.loads(saved_text(pair[0]), parse_constant=refuse)
    assert plain["format"] == "gradfit fit"
    assert plain["schema"] == 1
    json.dumps(summary_dict(pair[0]), allow_nan=False)


# ---------------------------------------------------------------------------- without torch, without the function


def test_loading_and_predicting_imports_no_torch_and_needs_no_code(tmp_path):
    numbers = {}
    for name in ("search", "NumPy function"):
        result = fitted(name)
        save(result, tmp_path / f"{name}.json")
        numbers[name] = result.predict({"x": [1.0, 2.0]}).prediction[1].tolist()
    code = (
        "import json, sys\n"
        "from gradfit.saved import load\n"
        "out = {}\n"
        "for name in ('search', 'NumPy function'):\n"
        "    fit = load(f'{sys.argv[1]}/{name}.json')\n"
        "    out[name] = fit.predict({'x': [1.0, 2.0]}).prediction[1].tolist()\n"
        "    fit.verdict, fit.params['a'].interval(), fit.residuals, fit.to_dict()\n"
        "print(json.dumps([out, 'torch' in sys.modules, 'matplotlib' in sys.modules]))\n"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert json.loads(seen.stdout) == [numbers, False, False]


@pytest.mark.parametrize("name", UNTRACED)
def test_a_function_that_was_not_traced_keeps_its_numbers(name, tmp_path):
    columns = made()
    result = fit(UNTRACED[name], {"x": columns["x"], "y": columns["y"]}, start={"a": 1, "b": 0})
    save(result, tmp_path / "fit.json")
    again = load(tmp_path / "fit.json")
    assert summary_dict(again) == summary_dict(result)
    for attribute in ("residuals", "weighted_residuals", "covariance"):
        same(getattr(again, attribute), getattr(result, attribute))
    with pytest.raises(
        ModelError,
        match=r"could not be traced, so the file holds its numbers but not the function, which predict needs",
    ):
        again.predict({"x": [1.0]})


# ---------------------------------------------------------------------------- long columns


def test_long_columns_are_left_out_and_that_is_said(tmp_path):
    rng = np.random.default_rng(3)
    x = np.linspace(0, 1, 100_001)
    result = fit("y = a*x + b", {"x": x, "y": 2 * x + 1 + 0.1 * rng.standard_normal(len(x))}, sigma=0.1)
    path = save(result, tmp_path / "fit.json")
    assert path.stat().st_size < 20_000
    again = load(path)
    assert summary_dict(again) == summary_dict(result)
    assert (again.n, again.dof) == (result.n, result.dof)
    same(again.predict({"x": [0.5, 3]}).prediction[0], result.predict({"x": [0.5, 3]}).prediction[0])
    assert again.verdict == result.verdict
    for ask in (
        lambda: again.residuals, lambda: again.weighted_residuals, lambda: again.leverage, lambda: again.fitted,
        lambda: again.data.y, lambda: again.predict(), lambda: html(again),
    ):  # fmt: skip
        with pytest.raises(
            DataError,
            match=r"The 100.001 rows of this fit are not in its file, which holds up to 100.000 rows",
        ):
            ask()
    save(again, tmp_path / "again.json")
    assert saved_text(load(tmp_path / "again.json")) == saved_text(again) == saved_text(result)


def test_at_the_limit_the_rows_are_kept(tmp_path):
    x = np.linspace(0, 1, 100_000)
    result = fit("y = a*x + b", {"x": x, "y": 2 * x + np.sin(900 * x)})
    same(load(save(result, tmp_path / "fit.json")).residuals, result.residuals)


# ---------------------------------------------------------------------------- the file


def test_an_existing_file_is_kept_unless_forced(tmp_path):
    result, file = fitted("line"), tmp_path / "fit.json"
    file.write_text("mine")
    with pytest.raises(OptionError, match=r"fit\.json is there already and was not overwritten"):
        save(result, file)
    assert file.read_text() == "mine"
    assert save(result, file, force=True) == file
    assert load(file).values == result.values
    assert [p.name for p in tmp_path.iterdir()] == ["fit.json"]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("", r"'' is no name of a file"),
        ("nowhere/fit.json", r"There is no folder .*nowhere to write fit\.json to"),
        (".", r"is a folder"),
        ("a\0b", r"is no name of a file"),
        ("x" * 300 + ".json", r"cannot be written: File name too long"),
    ],
)
def test_a_place_that_cannot_be_written(tmp_path, name, sentence):
    with pytest.raises(OptionError, match=sentence):
        save(fitted("line"), f"{tmp_path}/{name}" if name else name)
    assert list(tmp_path.iterdir()) == []


def test_a_link_is_followed_and_permissions_stay(tmp_path):
    real, link = tmp_path / "real.json", tmp_path / "link.json"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    save(fitted("line"), link, force=True)
    assert link.is_symlink()
    assert load(real).converged
    assert real.stat().st_mode & 0o777 == 0o640


@lru_cache(maxsize=1)
def text() -> str:
    return saved_text(fitted("at a bound"))


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, r"There is no file .*fit\.json"),
        (b"", r"fit\.json is empty"),
        (b" \n", r"fit\.json is empty"),
        (b"x,y\n1,2\n", r"fit\.json is no saved fit"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", r"fit\.json is no saved fit"),
        (b"[" * 100_000, r"fit\.json is no saved fit: it is nested too deeply"),
        (b"[1, 2]", r"fit\.json is no saved fit"),
        (b'{"format": "other"}', r"fit\.json is no saved fit"),
        (b'{"format": "gradfit fit"}', r"fit\.json is damaged: schema is missing"),
        (
            b'{"format": "gradfit fit", "schema": 2}',
            r"was written by a newer gradfit: it has schema 2, and gradfit .* reads up to 1",
        ),
        (b'{"format": "gradfit fit", "schema": "1"}', r"schema is '1', and should be a whole number"),
    ],
)
def test_a_file_that_is_no_saved_fit(tmp_path, content, sentence):
    file = tmp_path / "fit.json"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(DataError, match=sentence):
        load(file)


def test_a_file_that_was_cut_short(tmp_path):
    whole = text()
    for share in (0.02, 0.5, 0.999):
        (tmp_path / "fit.json").write_text(whole[: int(share * len(whole))])
        with pytest.raises(DataError, match=r"fit\.json is cut short or damaged"):
            load(tmp_path / "fit.json")


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ('"level": 0.95', '"level": 2', r"level is 2, and should be between 0 and 1"),
        ('["par", 0]', '["par", 7]', r"is damaged: model\.graph"),
        ('"exp"', '"system"', r"is damaged: model\.graph"),
        ('"inputs": ["x"]', '"inputs": ["x", "x"]', r"should be names, each once"),
        ('"severity": "warning"', '"severity": "bad"', r"should be info, warning or error"),
        ('"status": "converged"', '"status": "fine"', r"outcome\.status is 'fine'"),
        ('"rows_used": 25', '"rows_used": 24', r"data\.columns\.x is .*should be numbers of shape \(24,\)"),
        ('"name": "squared"', '"name": "exec"', r"loss\.name is 'exec'"),
        (f'"formula": "{DECAY}"', '"formula": "y = __import__(1)"', r"formula is .*should be a formula"),
        (f'"formula": "{DECAY}"', '"formula": "y = a*z"', r"should be a formula of x, a, b, c"),
    ],
)
def test_a_file_that_was_changed_by_hand(tmp_path, old, new, sentence):
    assert old in text()
    (tmp_path / "fit.json").write_text(text().replace(old, new))
    with pytest.raises(DataError, match=sentence):
        load(tmp_path / "fit.json")


def test_a_folder_is_no_saved_fit(tmp_path):
    with pytest.raises(DataError, match=r"cannot be opened: Is a directory"):
        load(tmp_path)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 40), st.just(10**400), st.floats(), st.text(max_size=5),
    st.sampled_from(["inf", "-inf", "mul", "where", [], {}, [[]], [None], {"not saved": 1}, {"NumPy array": "x"}, {"gradfit loss": 3}]),
)  # fmt: skip


def places(part, path=()):
    yield path
    inside = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, value in inside:
        yield from places(value, (*path, key))


PLACES = st.deferred(lambda: st.sampled_from(list(places(json.loads(text())))))


@settings(max_examples=400, deadline=None)
@given(
    st.lists(
        st.tuples(PLACES, st.sampled_from(["set", "drop", "twice"]), LEAVES),
        min_size=1,
        max_size=3,
    )
)
def test_a_changed_file_gives_a_result_or_a_sentence(tmp_path_factory, changes):
    plain = json.loads(text())
    for path, what, value in changes:
        _change(plain, path, what, value)
    file = tmp_path_factory.getbasetemp() / "changed.json"
    file.write_text(json.dumps(plain))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # numbers were made absurd on purpose
        try:
            again = load(file)
            again.predict({name: [1.0, 2.0] for name in again.inputs})
            assert isinstance(again, FitResult)
            assert all(isinstance(value, float) for value in again.values.values())
            json.dumps(summary_dict(again), allow_nan=False)
        except GradfitError as error:
            assert str(file) in str(error) or "finite" in str(error) or "column" in str(error), error  # noqa: PT017  a mutation may do no harm


def _change(part, path, what, value):
    for key in path[:-1]:
        if not (isinstance(part, dict) and key in part) and not (
            isinstance(part, list) and isinstance(key, int) and key < len(part)
        ):
            return
        part = part[key]
    key = path[-1] if path else None
    if isinstance(part, dict) and key in part:
        if what == "drop":
            del part[key]
        else:
            part[key] = value
    elif isinstance(part, list) and isinstance(key, int) and key < len(part):
        if what == "set":
            part[key] = value
        else:
            part[key : key + 1] = [] if what == "drop" else [part[key], part[key]]


# ---------------------------------------------------------------------------- summary_dict


def test_the_summary_holds_the_numbers_and_null_where_there_is_none():
    plain = summary_dict(fitted("at a bound"))
    c = plain["parameters"]["c"]
    assert c["value"] == pytest.approx(0.5)
    assert (c["stderr"], c["interval"], c["bounds"], c["at_bound"]) == (None, [None, None], [0.5, None], True)
    assert plain["covariance"][2] == [None, None, None]
    assert plain["statistics"]["n"] == 25
    assert plain["data"]["rows_used"] == 25
    assert plain["verdict"] in ("caution", "no")
    assert plain["settings"] == {"start": [2, 1, 0.6], "bounds": {"c": [0.5, None]}}


def test_settings_are_described_when_they_are_no_plain_values():
    plain = summary_dict(
        fit("y = a*x + b", {"x": np.arange(300.0), "y": np.arange(300.0) ** 1.1}, sigma=np.full(300, 0.5))
    )
    assert plain["settings"] == {"sigma": "an array of shape (300,)"}
    assert all(math.isfinite(value) for value in plain["statistics"].values())
