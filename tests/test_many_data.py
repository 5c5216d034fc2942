"""What many fits take: groups of a table, arrays, images, films, memory maps; and bad input of every kind."""

import numpy as np
import polars
import pytest

import gradfit
from gradfit.errors import DataError, GradfitError, OptionError

LINE = "y = a*t + b"
DECAY = "y = a*exp(-t/tau) + c"
GAUSS = "y = a*exp(-0.5*((x - c)/w)**2) + b"
T = np.linspace(0, 10, 20)


def decays(m=12, seed=1):
    random = np.random.default_rng(seed)
    a, tau, c = (random.uniform(low, high, (m, 1)) for low, high in ((2, 9), (1, 5), (-1, 1)))
    return a * np.exp(-T / tau) + c + 0.05 * random.normal(size=(m, len(T)))


def long_table(y, **columns):
    m, n = y.shape
    return {"t": np.tile(T, m), "y": y.reshape(-1)} | {
        k: np.repeat(np.asarray(v), n) for k, v in columns.items()
    }


# ---------------------------------------------------------------------------- tables


def test_groups_come_in_the_order_of_their_first_rows():
    table = long_table(decays(4), key=["b", "a", "d", "c"])
    many = gradfit.fit_many(DECAY, table, by="key", start={"tau": 2})
    assert many.keys["key"].tolist() == ["b", "a", "d", "c"]
    assert many.to_frame().columns[:3] == ["key", "a", "a_stderr"]


def test_several_group_columns_of_text_and_numbers():
    y = decays(6)
    table = long_table(y, plate=["p", "p", "p", "q", "q", "q"], well=[1, 2, 3, 1, 2, 3])
    order = np.random.default_rng(0).permutation(len(table["t"]))
    mixed = polars.DataFrame({k: v[order] for k, v in table.items()})
    many = gradfit.fit_many(DECAY, mixed, by=["plate", "well"], start={"tau": 2})
    rows = gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"tau": 2})
    i = many.place(("q", 2.0))
    assert many.values["tau"][i] == pytest.approx(rows.values["tau"][4], rel=1e-9)
    assert many.result(("q", 2.0)).values["tau"] == pytest.approx(rows.values["tau"][4], rel=1e-7)


def test_rows_without_a_key_belong_to_no_group():
    table = long_table(decays(3), key=[1.0, np.nan, 2.0])
    many = gradfit.fit_many(DECAY, table, by="key", start={"tau": 2})
    assert many.keys["key"].tolist() == [1, 2]


def test_start_fixed_and_precision_from_columns():
    y = decays(5)
    table = long_table(y, key=np.arange(5), tau0=[2.0] * 5, level=[0.1, 0.2, 0.3, 0.4, 0.5], s=[0.05] * 5)
    many = gradfit.fit_many(
        DECAY, table, by="key", start={"tau": "tau0"}, fixed={"c": "level"}, sigma="s", where="t < 9"
    )
    assert many.values["c"] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert np.isnan(many.errors["c"]).all()
    assert (many.points == np.count_nonzero(T < 9)).all()
    one = gradfit.fit(
        DECAY, {"t": T, "y": y[2]}, start={"tau": 2, "a": 5}, fixed={"c": 0.3}, sigma=0.05, where="t < 9"
    )
    assert many.values["tau"][2] == pytest.approx(one.values["tau"], rel=1e-8)
    assert many.errors["tau"][2] == pytest.approx(one.errors["tau"], rel=1e-6)


def test_a_transformed_response_leaves_out_what_has_no_logarithm():
    y = np.exp(-0.3 * np.tile(T, (3, 1)) + 1)
    y[1, 4:6] = (0.0, -1.0)
    many = gradfit.fit_many("log(y) = a*t + b", {"t": T, "y": y})
    assert many.values["a"] == pytest.approx([-0.3] * 3)
    assert many.missing.tolist() == [0, 2, 0]


def test_groups_of_many_lengths_keep_their_places():
    random = np.random.default_rng(5)
    lengths = random.integers(2, 70, 200)
    key = np.repeat(np.arange(200), lengths)
    t = random.uniform(0, 10, len(key))
    many = gradfit.fit_many(LINE, {"key": key, "t": t, "y": key * t + 1}, by="key")
    assert many.values["a"] == pytest.approx(np.arange(200), abs=1e-8)
    assert many.points.tolist() == lengths.tolist()


# ---------------------------------------------------------------------------- arrays


def test_each_fit_may_have_its_own_x_start_and_precision():
    y = decays(4)
    own = np.tile(T, (4, 1))
    sigma = np.full_like(y, 0.05)
    shared = gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"tau": 2.0}, sigma=0.05)
    each = gradfit.fit_many(DECAY, {"t": own, "y": y}, start={"tau": [2.0] * 4}, sigma=sigma)
    np.testing.assert_array_equal(shared.values["tau"], each.values["tau"])
    np.testing.assert_array_equal(shared.errors["tau"], each.errors["tau"])


def test_a_value_for_each_fit_is_an_input_like_any_other():
    dose = np.array([1.0, 2.0, 4.0])
    y = dose[:, None] * 3 * T + 1
    many = gradfit.fit_many("y = a*dose*t + b", {"t": T, "y": y, "dose": dose})
    assert many.values["a"] == pytest.approx([3, 3, 3])


def film():
    random = np.random.default_rng(8)
    tau = random.uniform(1, 4, (5, 7))
    return 10 * np.exp(-T[:, None, None] / tau) + 0.01 * random.normal(size=(20, 5, 7)), tau


def test_pixels_of_a_film_are_followed_through_time():
    signal, tau = film()
    many = gradfit.fit_many("signal = a*exp(-t/tau)", {"t": T, "signal": signal}, axis=0, start={"tau": 2})
    assert many.params["tau"].value.shape == many.status.shape == (5, 7) == many.shape
    assert many.values["tau"] == pytest.approx(tau, rel=0.02)
    assert many.result((4, 2)).values["tau"] == pytest.approx(many.values["tau"][4, 2])
    frame = many.to_frame()
    assert frame.filter((frame["row"] == 4) & (frame["column"] == 2))["tau"][0] == many.values["tau"][4, 2]


def test_images_have_the_places_of_their_pixels():
    yy, xx = np.mgrid[:9, :8]
    centres = np.array([[3.2, 4.1], [4.4, 3.3], [2.8, 5.0]])
    spots = np.stack([50 * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 4.5) + 5 for x, y in centres])
    model = "n = a*exp(-((x - x0)**2 + (y - y0)**2)/(2*s**2)) + b"
    many = gradfit.fit_many(model, {"n": spots}, start={"x0": 3.5, "y0": 4, "s": 2})
    assert many.values["x0"] == pytest.approx(centres[:, 0])
    assert many.values["y0"] == pytest.approx(centres[:, 1])
    assert many.values["s"] == pytest.approx([1.5] * 3)


def test_memory_maps_are_read_in_blocks(tmp_path, monkeypatch):
    signal, _ = film()
    np.save(tmp_path / "film.npy", signal)
    monkeypatch.setattr("gradfit.many.stack.BLOCK", 100)
    model = "signal = a*exp(-t/tau)"
    mapped = gradfit.fit_many(model, {"t": T, "signal": tmp_path / "film.npy"}, axis=0, start={"tau": 2})
    monkeypatch.undo()
    whole = gradfit.fit_many(model, {"t": T, "signal": signal}, axis=0, start={"tau": 2})
    np.testing.assert_array_equal(mapped.values["tau"], whole.values["tau"])


@pytest.mark.parametrize("kind", ["float32", "int32", "uint16", "masked", "list"])
def test_numbers_of_any_type(kind):
    y = np.round(100 * np.exp(-T / 3) * np.array([[1.0], [2.0]]))
    given = {"masked": np.ma.masked_array(y, y < 0), "list": y.tolist()}.get(kind, y)
    given = y.astype(kind) if kind not in ("masked", "list") else given
    many = gradfit.fit_many(DECAY, {"t": T, "y": given}, start={"tau": 2})
    plain = gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"tau": 2})
    np.testing.assert_array_equal(many.values["tau"], plain.values["tau"])


# ---------------------------------------------------------------------------- bad fits


def bad_rows():
    x = np.linspace(0, 10, 20)
    good = 5 * np.exp(-0.5 * (x - 5) ** 2) + 1 + 0.05 * np.random.default_rng(0).normal(size=20)
    bad = {
        "all NaN": np.full(20, np.nan),
        "one point": np.where(np.arange(20) == 9, good, np.nan),
        "constant": np.full(20, 2.0),
        "zeros": np.zeros(20),
        "infinite": np.where(np.arange(20) == 3, np.inf, good),
        "all infinite": np.full(20, -np.inf),
        "large": 1e30 * good,
        "huge": 1e250 * good,
        "tiny": 1e-250 * good,
        "offset": good + 1e9,
    }
    return x, good, bad


WANTED = {
    "all NaN": "too-few-points",
    "one point": "too-few-points",
    "constant": "singular",
    "zeros": "singular",
    "infinite": "converged",
    "all infinite": "too-few-points",
    "large": "converged",
    "huge": "converged",
    "tiny": "converged",
    "offset": "converged",
}


def test_every_bad_fit_has_a_status_and_no_other_one_notices():
    x, good, bad = bad_rows()
    y = np.stack([good, *bad.values(), good])
    start = {"c": 4.5, "w": 1.5}
    many = gradfit.fit_many(GAUSS, {"x": x, "y": y}, start=start)
    alone = gradfit.fit_many(GAUSS, {"x": x, "y": good[None]}, start=start)
    assert dict(zip(bad, many.status[1:-1].tolist(), strict=True)) == WANTED
    for name in "acwb":
        assert many.values[name][0] == many.values[name][-1] == alone.values[name][0]
        assert many.errors[name][0] == many.errors[name][-1] == alone.errors[name][0]
    for name, unit in (("large", 1e30), ("huge", 1e250), ("tiny", 1e-250)):
        i = 1 + list(bad).index(name)
        assert many.values["a"][i] / unit == pytest.approx(many.values["a"][0], rel=1e-8)
        assert many.values["c"][i] == pytest.approx(many.values["c"][0], rel=1e-8)
        assert many.errors["c"][i] == pytest.approx(many.errors["c"][0], rel=1e-6)


def test_x_repeated_and_unsorted():
    x = np.array([[3, 1, 2, 1, 3, 2.0], [2, 2, 2, 2, 2, 2]])
    many = gradfit.fit_many("y = a*x + b", {"x": x, "y": 2 * x + 1})
    assert many.status.tolist() == ["converged", "singular"]
    assert many.values["a"][0] == pytest.approx(2)
    assert np.isnan(many.errors["a"][1])


def test_a_model_that_is_not_finite_at_the_start():
    many = gradfit.fit_many("y = a*log(t - t0)", {"t": T, "y": decays(3)}, start={"t0": 5})
    assert many.status.tolist() == ["non-finite"] * 3


def test_counts_below_zero_have_a_status():
    y = np.random.default_rng(0).poisson(20 * np.exp(-T / 3) + 3, (3, 20)).astype(float)
    y[1, 5] = -1
    many = gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"tau": 2}, loss="poisson")
    assert many.status.tolist() == ["converged", "negative-counts", "converged"]


def test_missing_points_are_counted_or_refused():
    y = decays(3)
    y[1, 2:5] = np.nan
    many = gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"tau": 2})
    assert many.missing.tolist() == [0, 3, 0]
    assert many.points.tolist() == [20, 17, 20]
    with pytest.raises(DataError, match="3 points of the array y have no number, the first in fit 1"):
        gradfit.fit_many(DECAY, {"t": T, "y": y}, start={"tau": 2}, missing="error")


def test_a_derivative_that_is_no_number_where_the_model_is_one():
    dose = np.array([0, 0.1, 0.3, 1, 3, 10, 30.0])
    y = np.stack([a / (1 + (dose / e) ** b) for a, b, e in ((2, 0.8, 1.5), (3, 1.2, 2.0))])
    many = gradfit.fit_many("y = d/(1 + (dose/k)**h)", {"dose": dose, "y": y}, start={"d": 2, "k": 1, "h": 1})
    assert many.values["h"] == pytest.approx([0.8, 1.2], rel=1e-6)


# ---------------------------------------------------------------------------- wrong calls

Y = decays(3)
WRONG = [
    ({"data": {"t": T, "y": Y[0]}}, DataError, r"y has shape \(20,\), which is one fit"),
    ({"data": {"t": T[:7], "y": Y}}, DataError, r"t has shape \(7,\), where y holds 3 fits of 20 points"),
    ({"data": {"t": T, "z": Y}}, DataError, "There is no array y"),
    ({"data": {"t": T, "y": Y.astype(str)}}, DataError, "holds no real numbers"),
    ({"data": 3.0}, DataError, "float is neither"),
    ({"data": {"t": T, "y": "nowhere.npy"}}, DataError, "nowhere.npy cannot be opened"),
    ({"data": {"t": T, "y": np.empty((0, 20))}}, DataError, "there is nothing to fit"),
    ({"start": {"tua": 1}}, OptionError, "start= names tua, which is no parameter"),
    ({"start": {"tau": [1, 2]}}, OptionError, "start= of tau has 2 values, and there are 3 fits"),
    ({"start": {"tau": "nothing"}}, OptionError, "start= of tau names nothing"),
    ({"start": [1, 2]}, OptionError, "start= has 2 values"),
    ({"start": {"tau": 9.0}, "bounds": {"tau": (0, 5)}}, OptionError, "lies outside its bounds"),
    ({"bounds": {"tau": (5, 0)}}, OptionError, "reversed"),
    ({"axis": 5}, OptionError, "axis=5 does not fit an array of 2 axes"),
    ({"by": "key"}, DataError, "There is no column key"),
    ({"loss": "poissn"}, OptionError, "Did you mean poisson"),
    ({"loss": "poisson", "sigma": 1.0}, OptionError, "sigma= has no place"),
    ({"sigma": 1.0, "weights": 1.0}, OptionError, "not both"),
    ({"missing": "ignore"}, OptionError, "missing='ignore' is not an option"),
    ({"executor": "abacus"}, OptionError, "no executor 'abacus'"),
    ({"max_iterations": 0}, OptionError, "max_iterations must be a whole number from 1 up"),
    ({"level": 2}, OptionError, "level must lie between 0 and 1"),
    ({"where": "t + 1"}, GradfitError, "is not a condition"),
]


@pytest.mark.parametrize(
    ("options", "kind", "words"), WRONG, ids=[str(next(iter(o.items())))[:40] for o, _, _ in WRONG]
)
def test_a_wrong_call_is_told_what_is_wrong(options, kind, words):
    call = {"data": {"t": T, "y": Y}} | options
    if call.get("by"):
        call["data"] = long_table(Y)
    with pytest.raises(kind, match=words):
        gradfit.fit_many(DECAY, **call)


def test_a_fit_that_does_not_exist():
    many = gradfit.fit_many(LINE, {"t": T, "y": Y})
    with pytest.raises(OptionError, match="There is no fit 3"):
        many.result(3)
    groups = gradfit.fit_many(LINE, long_table(Y, key=["a", "b", "c"]), by="key")
    with pytest.raises(OptionError, match="There is no group 'z'"):
        groups.result("z")
    with pytest.raises(KeyError, match="slope is no parameter"):
        many.params["slope"]
