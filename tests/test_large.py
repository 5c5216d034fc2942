"""One fit over much data: the same answer as from all rows at once, whatever they are read from, in little memory."""

import gzip

import numpy as np
import pandas
import polars
import pytest
from answers import NIST, digits
from large_fit import large

import gradfit
from gradfit.errors import DataError, GradfitError, ModelError, OptionError

N = 250_000  # more than the sample, and no multiple of anything
GAUSSIAN = "y = a*exp(-((x - c)/w)**2) + b"
START = {"a": 4.0, "c": 4.0, "w": 2.0, "b": 0.5}


def columns(n=N, seed=1):
    random = np.random.default_rng(seed)
    x = np.linspace(0, 10, n) + random.normal(0, 1e-3, n)
    u = random.uniform(0.5, 2.0, n)
    y = 5 * np.exp(-(((x - 5) / 1.6) ** 2)) + 1 + 0.15 * u * random.standard_normal(n)
    return {"x": x, "y": y, "u": 0.15 * u}


DATA = columns()


def same(result, whole, tolerance=1e-6):
    """Parameters within a millionth of their errors, errors and sums to eight digits."""
    assert result.status == whole.status == "converged"
    assert result.n == whole.n
    for name, value in whole.values.items():
        known = whole.errors[name] if np.isfinite(whole.errors[name]) else abs(value)
        assert abs(result.values[name] - value) <= tolerance * known, name
    errors = [whole.errors[name] for name in whole.values]
    np.testing.assert_allclose([result.errors[name] for name in whole.values], errors, rtol=1e-8)
    for figure in ("rss", "scatter", "r2", "aic", "bic", "reduced_chi2"):
        known = getattr(whole, figure)
        np.testing.assert_allclose(getattr(result, figure), known, rtol=1e-8, atol=1e-13, err_msg=figure)


CASES = {
    "plain": {},
    "no start": {"start": None},
    "sigma column": {"sigma": "u"},
    "sigma number": {"sigma": 0.2},
    "sigma array": {"sigma": DATA["u"]},
    "weights": {"weights": "1/u**2"},
    "fixed": {"fixed": {"b": 1.0}, "start": {"a": 4.0, "c": 4.0, "w": 2.0}},
    "bound": {"bounds": {"b": (1.2, None)}, "start": START | {"b": 1.5}},
    "open bounds": {"bounds": {"w": (0, 50)}},
    "where": {"where": "x > 2.5"},
    "exclude": {"exclude": [1, 2, 200_000]},
    "seed": {"seed": 3},
    "robust": {"loss": "huber:0.2"},
    "robust, redescending": {"loss": "bisquare:0.6"},
    "robust, cauchy": {"loss": "cauchy:0.2"},
    "robust, smooth": {"loss": "soft_l1:0.2"},
}


@pytest.mark.parametrize(
    ("case", "executor"),
    [
        *((case, "native") for case in CASES),
        *((case, "numpy") for case in ("plain", "weights", "bound", "robust")),
    ],
)
def test_is_the_fit_to_all_rows(case, executor):
    options = {"start": START} | CASES[case]
    result = large(GAUSSIAN, DATA, executor=executor, **options)
    whole = gradfit.fit(GAUSSIAN, DATA, **options)
    same(result, whole, 1e-4 if "robust" in case else 1e-6)  # a robust walk ends with its own last digits
    assert result.executor == executor
    assert any("passes over all" in line and "first steps used a sample" in line for line in result.how)


MODELS = {
    "linear": ("y = a + b*x + c*u", None),
    "transformed": ("log(y + 3) = p*x + q*x**2 + r*x**3 + s", None),
    "wave": ("y = a + b*sin(w*x + p)", {"a": 2.0, "b": 2.0, "w": 0.6, "p": -1.5}),
    "library": ("gaussian", None),
    "no input": ("y = m", None),
}


@pytest.mark.parametrize("name", MODELS)
def test_models(name):
    model, start = MODELS[name]
    data = {k: DATA[k] for k in ("x", "y")} if name == "library" else DATA
    same(large(model, data, start=start), gradfit.fit(model, data, start=start))


def test_functions_of_numpy():
    def peak(x, a, c, w, b):
        return a * np.exp(-(((x - c) / w) ** 2)) + b

    data = {k: DATA[k] for k in ("x", "y")}
    same(large(peak, data, start=START), gradfit.fit(peak, data, start=START))


@pytest.mark.parametrize("dtype", ["float32", "int64", "int16", "uint8", "bool", ">f8", "float16"])
def test_numbers_of_any_type_count_as_those_of_64_bits(dtype):
    x = (DATA["x"] * 10).astype(dtype)
    data = {"x": x, "y": DATA["y"]}
    same(large("y = a + b*x", data), gradfit.fit("y = a + b*x", {"x": x.astype(float), "y": DATA["y"]}))


def test_strided_columns():
    table = np.column_stack([DATA["x"], DATA["y"]])
    data = {"x": table[::-1, 0], "y": table[::-1, 1]}
    same(large(GAUSSIAN, data, start=START), gradfit.fit(GAUSSIAN, DATA, start=START))


@pytest.mark.parametrize("loss", ["squared", "cauchy:0.3"])
def test_threads_do_not_change_a_bit(loss):
    results = [large(GAUSSIAN, DATA, start=START, threads=t, loss=loss) for t in (1, 2, 3)]
    assert len({(*r.parameters.tolist(), r.rss) for r in results}) == 1


# ---------------------------------------------------------------------------- digits


@pytest.mark.parametrize("case", NIST, ids=lambda case: case.name)
def test_certified(case):
    for start in case.starts or (None,):
        result = large(case.formula, str(case.path), start=start)
        least = {"Filip": 6.5}.get(case.name, 8.5)
        assert digits([result.values[name] for name in case.params], case.values) >= least
        if case.name != "Lanczos1":  # its residuals are the rounding of its data
            assert digits([result.errors[name] for name in case.params], case.errors) >= min(least, 8)
            assert digits(result.rss, case.rss) >= min(least, 8)


# ---------------------------------------------------------------------------- sources


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("large")
    frame = polars.DataFrame({"x [m]": DATA["x"], "y": DATA["y"], "u": DATA["u"], "name": ["ab, c"] * N})
    frame.write_parquet(folder / "d.parquet", row_group_size=50_000)
    frame.write_ipc(folder / "d.arrow")
    frame.write_csv(folder / "d.csv")
    frame.drop("name").write_csv(folder / "tabs.tsv", separator="\t")
    frame.drop("name").write_csv(folder / "comma.csv", separator=";", decimal_comma=True)
    (folder / "d.csv.gz").write_bytes(gzip.compress((folder / "d.csv").read_bytes(), 1))
    frame.select(x="x [m]", y="y", u="u").to_pandas().to_json(
        folder / "d.json", orient="records", double_precision=15
    )
    np.save(folder / "d.npy", np.rec.fromarrays([DATA["x"], DATA["y"]], names="x,y"))
    np.savez(folder / "d.npz", x=DATA["x"], y=DATA["y"])
    return folder


@pytest.fixture(scope="module")
def answer():
    return large(GAUSSIAN, DATA, start=START)


FILES = ["d.parquet", "d.arrow", "d.csv", "tabs.tsv", "comma.csv", "d.csv.gz", "d.json", "d.npy", "d.npz"]


@pytest.mark.parametrize("name", FILES)
def test_files(folder, answer, name):
    result = large(GAUSSIAN, str(folder / name), start=START, memory="4GB")
    np.testing.assert_allclose(result.parameters, answer.parameters, rtol=1e-10)
    assert result.data.source == str(folder / name)
    assert result.data.n_read == result.n == N
    rows = result.data.rows
    np.testing.assert_allclose(DATA["y"][rows - 1], result.data.y, rtol=1e-9)  # JSON has ten digits


def test_frames_and_maps(folder, answer):
    frame = pandas.DataFrame({k: DATA[k] for k in ("x", "y")})
    mapped = np.memmap(folder / "map.bin", dtype=np.float64, mode="w+", shape=(2, N))
    mapped[:] = DATA["x"], DATA["y"]
    for data in (frame, polars.DataFrame(frame), {"x": mapped[0], "y": mapped[1]}):
        result = large(GAUSSIAN, data, start=START, memory="4GB")
        np.testing.assert_allclose(result.parameters, answer.parameters, rtol=1e-12)
    assert mapped[1, -1] == DATA["y"][-1]


def test_a_copy_on_write_map_keeps_what_was_written_to_it(folder):
    np.save(folder / "two.npy", np.column_stack([DATA["x"], DATA["y"]]))
    mapped = np.load(folder / "two.npy", mmap_mode="c")
    mapped[:, 1] += 1
    result = large(GAUSSIAN, {"x": mapped[:, 0], "y": mapped[:, 1]}, start=START, memory="4GB")
    assert abs(result.values["b"] - 2) < 0.01
    assert mapped[0, 1] == DATA["y"][0] + 1


@pytest.mark.parametrize("name", ["holes.csv", "holes.parquet"])
def test_missing_values(folder, name):
    y = DATA["y"].copy()
    y[7::1000] = np.nan
    y[200_000:202_000] = np.nan
    y[3], y[-1] = np.inf, -np.inf
    frame = polars.DataFrame({"x": DATA["x"], "y": y}).with_columns(polars.col("y").fill_nan(None))
    getattr(frame, f"write_{name.split('.')[1]}")(folder / name)
    with pytest.raises(DataError, match=r"no finite number in y \(rows 4, 8(,| and) 1008"):
        large(GAUSSIAN, str(folder / name), start=START)
    result = large(GAUSSIAN, str(folder / name), start=START, missing="drop")
    whole = gradfit.fit(GAUSSIAN, {"x": DATA["x"], "y": y}, start=START, missing="drop")
    same(result, whole)
    lost = N - int(np.isfinite(y).sum())
    assert result.data.left_out[0].replace("\u202f", "").startswith(f"{lost} rows dropped")
    both = large(GAUSSIAN, str(folder / name), start=START, missing="drop", where="x < 8")
    assert [note.split(" ")[-1] for note in both.data.left_out] == ["where='x", "0"] or len(
        both.data.left_out
    ) == 2
    assert both.n == int((np.isfinite(y) & (DATA["x"] < 8)).sum())


def test_text_that_decides(folder):
    group = np.where(np.arange(N) < N - 10, "left", "right")  # a word that the first rows do not hold
    y = DATA["y"] + 3.0 * (group == "right")
    polars.DataFrame({"x": DATA["x"], "y": y, "side": group}).write_parquet(folder / "text.parquet")
    formula = 'y = a*exp(-((x - c)/w)**2) + b + d*(side == "right")'
    result = large(formula, str(folder / "text.parquet"), start=START | {"d": 1.0})
    assert abs(result.values["d"] - 3) < 5 * result.errors["d"]
    assert result.n == N


def test_an_exact_excerpt_of_a_file_that_is_not_plain(folder):
    text = [f"{x!r},{y!r}" for x, y in zip(DATA["x"].tolist(), DATA["y"].tolist(), strict=True)]
    text[180_000] = "# the instrument was restarted"
    text[190_000] = '"3.25","n/a"'
    path = folder / "odd.csv"
    path.write_text("x,y\n" + "\n".join(text) + "\n")
    result = large(GAUSSIAN, path, start=START, missing="drop")
    assert result.n == N - 2
    assert result.data.n_read == N - 1


# ---------------------------------------------------------------------------- refusals


def test_a_file_that_changes_or_goes(folder, tmp_path):
    for verb in ("changed", "disappeared"):
        path = tmp_path / "d.parquet"
        path.write_bytes((folder / "d.parquet").read_bytes())
        source = gradfit.large.sources.source_of(path)
        pieces = source.tables(["x", "y"], {})
        next(pieces)
        if verb == "changed":
            path.write_bytes((folder / "d.parquet").read_bytes() + b"x")
        else:
            path.unlink()
        with pytest.raises(DataError, match=f"d.parquet {verb} while it was read"):
            list(pieces)


BAD = {
    "memory='much'": (OptionError, "memory='much' is no size", {"memory": "much"}),
    "memory=0": (OptionError, "memory=0 is no size", {"memory": 0}),
    "tiny memory": (OptionError, "Python and its libraries hold .* MB already", {"memory": "1MB"}),
    "an optimizer": (
        OptionError,
        "memory= needs rows .* optimizer of torch",
        {"memory": "4GB", "solver": "SGD"},
    ),
    "a covariance": (OptionError, "sigma= is a covariance", {"memory": "4GB", "sigma": np.eye(3)}),
    "both": (OptionError, "sigma= or weights=, not both", {"sigma": 1.0, "weights": "u"}),
    "short sigma": (OptionError, "sigma= has 3 values", {"sigma": np.ones(3)}),
    "no row": (DataError, "No row of arrays satisfies 'x > 99'", {"where": "x > 99"}),
    "no condition": (GradfitError, "is not a condition", {"where": "x + 1"}),
    "negative sigma": (DataError, "sigma must be positive", {"sigma": "x - 5"}),
    "no column": (DataError, "no column", {"sigma": "nothing"}),
}


@pytest.mark.parametrize("case", BAD)
def test_refusals(case):
    error, sentence, options = BAD[case]
    with pytest.raises(error, match=sentence):
        large(GAUSSIAN, DATA, start=START, **options)


def test_a_model_that_is_not_finite_in_a_row_beyond_the_sample():
    x = DATA["x"].copy() + 1
    x[77_776] = -2.0
    with pytest.raises(ModelError, match=r"not finite where x = -2 at .*fit a sample of"):
        large("y = a*log(x) + b*x**c", {"x": x, "y": DATA["y"]}, start={"a": 1.0, "b": 0.1, "c": 1.1})


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_one_bad_number_in_arrays(value):
    y = DATA["y"].copy()
    y[123_456] = value
    with pytest.raises(DataError, match=r"number in y .*123457"):
        large(GAUSSIAN, {"x": DATA["x"], "y": y}, start=START)
    result = large(GAUSSIAN, {"x": DATA["x"], "y": y}, start=START, missing="drop")
    assert result.n == N - 1
    assert "1 row dropped" in result.data.left_out[0]


# ---------------------------------------------------------------------------- extremes


@pytest.mark.parametrize("n", [2, 3, 5, 63, 4095, 4096, 4097, 8193])
def test_any_number_of_rows(n):
    random = np.random.default_rng(n)
    data = {"x": np.arange(n) + 0.0, "y": np.arange(n) * 2.0 + random.normal(0, 0.1, n)}
    same(large("y = a + b*x", data), gradfit.fit("y = a + b*x", data)) if n > 2 else large(
        "y = a + b*x", data
    )


@pytest.mark.parametrize("scale", [1e-150, 1e-30, 1e9, 1e140])
def test_units(scale):
    data = {"x": DATA["x"], "y": DATA["y"] * scale}
    result = large("y = a + b*x", data)
    whole = gradfit.fit("y = a + b*x", data)
    np.testing.assert_allclose(result.parameters, whole.parameters, rtol=1e-10)
    np.testing.assert_allclose([*result.errors.values()], [*whole.errors.values()], rtol=1e-9)


def test_an_offset_of_a_billion():
    shifted, plain = large("y = a + b*x", {"x": DATA["x"] + 1e9, "y": DATA["y"]}), large("y = a + b*x", DATA)
    assert shifted.values["b"] == pytest.approx(plain.values["b"], abs=1e-3 * plain.errors["b"])
    assert shifted.errors["b"] == pytest.approx(plain.errors["b"], rel=1e-6)


def test_a_constant_column_is_named():
    data = {"x": np.full(N, 2.0), "y": DATA["y"]}
    result = large("y = a + b*x", data)
    assert any(finding.code == "unidentifiable" for finding in result.findings)
    assert np.isnan(result.errors["a"])


def test_one_row():
    with pytest.raises(DataError, match="1 row of arrays cannot determine 2 parameters"):
        large("y = a + b*x", {"x": np.ones(1), "y": np.ones(1)})


# ---------------------------------------------------------------------------- the result


def test_findings_of_a_sample():
    result = large(GAUSSIAN, DATA, start=START, sigma="u")
    assert result.verdict == "trust", result.findings
    assert "sample" in result.how[-1]
    assert result.summary()
    assert len(result.data.y) == len(result.fitted) == len(result.residuals) == len(result.leverage) < N
    assert result.predict({"x": [5.0]}).value[0] == pytest.approx(6, abs=0.01)
    wrong = large("y = a + b*x", DATA)
    assert wrong.verdict != "trust"


def test_a_short_walk_is_told():
    result = large(GAUSSIAN, DATA, start=START, max_iterations=1)
    assert result.status == "max-iterations"
    assert any(finding.code == "not-converged" for finding in result.findings)


def test_a_fit_that_is_stopped_returns_the_best_so_far():
    result = large(GAUSSIAN, DATA, start=START, callback=lambda *_: True)
    assert result.status == "interrupted"
    assert np.isfinite(result.rss)
