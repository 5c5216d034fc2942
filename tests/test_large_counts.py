"""Counts in one fit over much data, and folders of files: the numbers of all rows at once."""

from itertools import pairwise

import numpy as np
import polars
import pytest
from large_fit import large

import gradfit
from gradfit.errors import DataError, GradfitError, OptionError

N = 60_000
DECAY = "y = a*exp(-t/tau) + c"
START = {"a": 20, "tau": 5, "c": 3}
FIGURES = ("rss", "r2", "log_likelihood", "aic", "bic", "dispersion", "scatter", "reduced_chi2")


def counted(seed=2):
    t = np.linspace(0, 60, N)
    return {"t": t, "y": np.random.default_rng(seed).poisson(30 * np.exp(-t / 9) + 2)}


CASES = {
    "plain": {},
    "no start": {"start": None},
    "weights": {"weights": "1 + t/60"},
    "at a bound": {"bounds": {"c": (2.5, None)}},
    "fixed": {"fixed": {"c": 2}},
    "where": {"where": "t > 5"},
}


@pytest.mark.parametrize("executor", ["native", "numpy"])
@pytest.mark.parametrize("case", CASES)
def test_counts_in_pieces_are_the_counts_of_all_rows(case, executor):
    options = {"start": START, "loss": "poisson"} | CASES[case]
    found = large(DECAY, counted(), executor=executor, **options)
    whole = gradfit.fit(DECAY, counted(), **options)
    assert found.executor == executor
    assert found.status == whole.status == "converged"
    for name, error in whole.errors.items():
        assert found.errors[name] == pytest.approx(error, rel=1e-8, nan_ok=True)
        assert abs(found.values[name] - whole.values[name]) <= (1e-6 * error if error > 0 else 1e-12)
    for figure in FIGURES:
        assert getattr(found, figure) == pytest.approx(getattr(whole, figure), rel=1e-9), figure


def test_dispersion_is_that_of_all_rows():
    rows = {"t": np.linspace(0, 1, 250_000), "y": np.random.default_rng(0).normal(size=250_000)}
    assert large("y = a + b*t", rows).dispersion == pytest.approx(gradfit.fit("y = a + b*t", rows).dispersion)


def test_a_linear_mean_of_counts():
    rows = {name: column[:20_000] for name, column in counted().items()}
    found = large("y = a + b*t + c*t**2", rows, loss="poisson")
    whole = gradfit.fit("y = a + b*t + c*t**2", rows, loss="poisson")
    assert list(found.values.values()) == pytest.approx(list(whole.values.values()), rel=1e-8)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda y: y - 1, {}, "is for counts, and the response is below zero in rows"),
        (lambda y: 0 * y, {}, "All 60\u202f000 counts are zero"),
        (lambda y: y, {"sigma": 0.1}, "takes the precision of counts from the model, so sigma= has no place"),
    ],
    ids=["below zero", "all zero", "sigma"],
)
def test_what_is_no_count_is_refused(change, options, message):
    data = counted()
    with pytest.raises(GradfitError, match=message):
        large(DECAY, data | {"y": change(data["y"])}, start=START, loss="poisson", **options)


def test_rates_are_fitted_with_a_note():
    data = counted()
    result = large(DECAY, data | {"y": data["y"] + 0.5}, start=START, loss="poisson")
    assert any("no whole number" in note for note in result.data.notes)


def test_a_mean_that_is_not_positive_in_a_row_says_where():
    t = np.arange(float(N))
    y = np.where(t == N // 2 + 1, 0, 5.0)
    with pytest.raises(
        GradfitError, match=r"is not above zero, as the mean of a count must be, where t = 30001"
    ):
        large("y = m + where(t == 30001, -9, 0)", {"t": t, "y": y}, loss="poisson", start={"m": 5}, seed=1)


# ---------------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    random, n = np.random.default_rng(0), 50_000
    x = random.uniform(0, 10, n)
    frame = polars.DataFrame(
        {"x": x, "y": 2 * x + 1 + random.normal(size=n), "g": random.choice(["u", "v"], n)}
    )
    edges = [0, 5, 5, 1000, 30_000, n]  # an empty file among them
    for i, (first, last) in enumerate(pairwise(edges)):
        (tmp_path / "all" / f"part {i % 2}").mkdir(parents=True, exist_ok=True)
        frame[first:last].write_parquet(tmp_path / "all" / f"part {i % 2}" / f"{i}.parquet")
    return tmp_path / "all", frame


@pytest.mark.parametrize(
    "options", [{}, {"where": "x > 5"}, {"weights": "1 + x"}], ids=["all", "where", "weights"]
)
@pytest.mark.parametrize("formula", ["y = a*x + b", "y = a*x + b*(g == 'u') + c"])
def test_a_folder_of_parquet_is_one_table(folder, formula, options):
    found = gradfit.fit(formula, folder[0], **options)
    whole = gradfit.fit(formula, folder[1], **options)
    assert found.n == whole.n
    assert list(found.values.values()) == pytest.approx(list(whole.values.values()), rel=1e-9)
    assert list(found.errors.values()) == pytest.approx(list(whole.errors.values()), rel=1e-7)


def spoilt(folder, kind):
    bad = folder[0] / "part 0" / "zz.parquet"
    if kind == "junk":
        bad.write_bytes(b"PAR1 and no more")
    else:
        folder[1][:10].rename({"x": "other"}).write_parquet(bad)


@pytest.mark.parametrize("kind", ["junk", "other columns"])
def test_a_file_that_does_not_belong_is_named(folder, kind):
    spoilt(folder, kind)
    with pytest.raises(DataError, match=r"cannot be read: .*\n?.*files of a folder need the same columns"):
        gradfit.fit("y = a*x + b", folder[0])


def test_a_folder_without_files_and_one_that_must_be_held_are_refused(folder, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="is a folder without Parquet files"):
        gradfit.fit("y = a*x + b", tmp_path / "empty")
    with pytest.raises(OptionError, match="are read in pieces, but an optimizer of torch holds all of them"):
        gradfit.fit("y = a*x + b", folder[0], solver="SGD")
