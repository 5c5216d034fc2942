"""grow(): the size that generalises is found, said, drawn, refused and saved."""

import json

import numpy as np
import pytest
from command_line import runner
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit
from gradfit.growing.bases import Polynomial
from gradfit.growing.climb import Plan, climb
from gradfit.growing.ladder import Ground
from gradfit.splitting import folds

X = np.linspace(0, 10, 80)
CUBIC = "y ~ polynomial(x)"


def noise(seed, size, n=80):
    return np.random.default_rng(seed).normal(0, size, n)


def cubic(seed=0, size=0.3):
    return {"x": X, "y": 1 + X - 0.5 * X**2 + 0.04 * X**3 + noise(seed, size)}


def peak(x, height, place, width):
    return height * np.exp(-((x - place) ** 2) / (2 * width**2))


# ---------------------------------------------------------------------------- the true size


def polynomials(random):
    size, n = int(random.integers(0, 8)), int(random.integers(40, 120))
    z = np.sort(random.uniform(-1, 1, n))
    c = random.normal(size=size + 1)
    c[-1] = random.choice([-1, 1]) * random.uniform(0.5, 1.5)
    unit = 10.0 ** random.uniform(-6, 6)
    y = np.polynomial.chebyshev.chebval(z, c) + random.normal(0, random.uniform(0.02, 0.3), n)
    return size, {"x": unit * (z + random.choice([0, 1, 1e3])), "y": y}, CUBIC


def turns(random):
    size, n = int(random.integers(0, 6)), int(random.integers(40, 120))
    t = np.sort(random.uniform(0, 20, n))
    waves = [
        random.uniform(0.4, 1.5) * np.cos(2 * np.pi * k * t / 7 + random.uniform(0, 6))
        for k in range(1, size + 1)
    ]
    return (
        size,
        {"t": t, "y": 2 + sum(waves) + random.normal(0, random.uniform(0.05, 0.3), n)},
        "y ~ fourier(t, period=7)",
    )


@pytest.mark.parametrize("draw", [polynomials, turns])
def test_the_true_size_is_chosen_nine_times_in_ten(draw):
    right = 0
    for seed in range(50):
        size, data, model = draw(np.random.default_rng(seed))
        right += gradfit.grow(model, data, sizes=12).size == size
    assert right >= 45


@pytest.mark.parametrize(("count", "seed"), [(1, 0), (2, 1), (3, 2)])
def test_peaks_are_counted(count, seed):
    x = np.linspace(0, 10, 100)
    places, heights, widths = [2.0, 5.0, 8.0][:count], [1.0, 2.0, 1.5][:count], [0.5, 0.3, 0.6][:count]
    y = (
        sum(peak(x, *each) for each in zip(heights, places, widths, strict=True))
        + 0.2
        + noise(seed, 0.04, 100)
    )
    grown = gradfit.grow("y ~ gaussians(x)", {"x": x, "y": y}, seeds=1, sizes=count + 1)
    assert grown.size == count
    assert sorted(grown.values[f"x{j}"] for j in range(1, count + 1)) == pytest.approx(places, abs=0.1)
    assert grown.chosen.verdict == "trust"


@pytest.mark.parametrize("times", [[1.3], [0.7, 4.0]])
def test_exponentials_are_counted(times):
    t = np.linspace(0, 10, 100)
    y = sum(3 * np.exp(-t / tau) for tau in times) + 0.5 + noise(4, 0.02, 100)
    grown = gradfit.grow("y ~ exponentials(t)", {"t": t, "y": y}, seeds=1, sizes=len(times) + 1)
    assert grown.size == len(times)
    assert [grown.values[f"tau{j}"] for j in range(1, len(times) + 1)] == pytest.approx(times, rel=0.1)


@pytest.mark.parametrize(
    ("model", "y", "size"),
    [
        (CUBIC, 1 + X - X**4, 4),
        ("y ~ gaussians(x)", peak(X, 1, 3, 0.7) + peak(X, 2, 7, 1), 2),
        ("y ~ exponentials(x)", np.exp(-X) + 2 * np.exp(-X / 4), 2),
        ("y ~ fourier(x, period=5)", np.cos(4 * np.pi * X / 5), 2),
    ],
)
def test_without_noise_growing_ends_where_nothing_is_left(model, y, size):
    grown = gradfit.grow(model, {"x": X, "y": y})
    assert grown.size == size == grown.rungs[-1].size
    assert "which is rounding" in grown.sentence
    assert np.abs(grown.chosen.residuals).max() < 1e-9 * np.abs(y).max()


def test_noise_alone_is_a_constant():
    grown = gradfit.grow(CUBIC, {"x": X, "y": noise(1, 1)})
    assert (grown.size, grown.chosen.formula) == (0, "y = c0")
    assert "nothing-to-find" in [f.code for f in grown.findings]


# ---------------------------------------------------------------------------- what comes back


def test_the_chosen_fit_is_that_of_all_rows():
    data = cubic()
    grown = gradfit.grow(CUBIC, data)
    assert grown.size == 3
    assert grown.chosen.n == 80
    assert list(grown.values.values()) == pytest.approx(
        np.polynomial.polynomial.polyfit(X, data["y"], 3), rel=1e-8
    )
    assert grown.predict({"x": [1.0]}).value == pytest.approx(grown.chosen.predict({"x": [1.0]}).value)


def test_the_losses_are_those_of_the_folds():
    data = cubic(3)
    grown = gradfit.grow(CUBIC, data, seeds=1, seed=7, sizes=[2])
    held, train = [], []
    for split in folds(80, 5, seed=7):
        c = np.polynomial.polynomial.polyfit(X[split.train], data["y"][split.train], 2)
        miss = (data["y"] - np.polynomial.polynomial.polyval(X, c)) ** 2
        held.append(miss[split.held].mean())
        train.append(miss[split.train].mean())
    rung = grown.rungs[0]
    assert (rung.validation, rung.train) == pytest.approx((np.mean(held), np.mean(train)), rel=1e-9)
    assert rung.stderr == pytest.approx(np.std(held, ddof=1) / np.sqrt(5), rel=1e-9)


def test_rows_that_are_held_out_take_no_part():
    data = cubic()
    split = folds(80, 5, seed=0)[0]

    def ladder(y):
        return Polynomial(Ground(None, X, y, np.ones(80), "y", "x", frozenset(), None))

    changed = data["y"].copy()
    changed[split.held] += 1e6
    one, other = (ladder(y).fit(5, split.train, 0).coefficients for y in (data["y"], changed))
    assert (one == other).all()


@pytest.mark.parametrize("rule", ["one-se", "best"])
def test_the_rule(rule):
    for seed in range(8):
        grown = gradfit.grow(CUBIC, cubic(seed, 2.0), rule=rule)
        losses = [r.validation for r in grown.rungs]
        best = int(np.argmin(losses))
        limit = losses[best] + (grown.rungs[best].stderr if rule == "one-se" else 0)
        smallest = next(r for r in grown.rungs if r.validation <= limit)
        assert (grown.rung, grown.best) == (smallest, grown.rungs[best])


def test_degree_20_costs_no_digits():
    x = np.linspace(1000, 1010, 200)
    c = np.random.default_rng(0).normal(size=21)
    y = np.polynomial.chebyshev.chebval((x - 1005) / 5, c)
    grown = gradfit.grow(CUBIC, {"x": x, "y": y}, sizes=20)
    assert grown.size == 20
    assert np.abs(grown.chosen.residuals).max() < 1e-11
    assert "Chebyshev polynomials of (x - 1005)/5" in grown.told.replace("\u202f", "")


@pytest.mark.parametrize("offset", [1e9, -1e9])
@pytest.mark.parametrize(
    ("model", "y", "size"),
    [
        (CUBIC, 1 + X - 0.5 * X**2, 2),
        ("y ~ gaussians(x)", peak(X, 1, 4, 0.8), 1),
        ("y ~ exponentials(x)", 3 * np.exp(-X / 2), 1),
        ("y ~ fourier(x, period=5)", np.sin(2 * np.pi * X / 5), 1),
    ],
)
def test_an_offset_of_the_input_changes_nothing(model, y, size, offset):
    grown = gradfit.grow(model, {"x": X + offset, "y": y + noise(2, 0.02)}, sizes=size + 1, seeds=1)
    assert grown.size == size
    assert grown.chosen.converged


@pytest.mark.parametrize("size", [1e-200, 1e300])
def test_a_response_of_any_size(size):
    grown = gradfit.grow(CUBIC, {"x": X, "y": size * cubic()["y"]})
    assert grown.size == 3
    assert grown.chosen.r2 > 0.9


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 10**6), st.integers(4, 12))
def test_few_rows_never_break(seed, n):
    random = np.random.default_rng(seed)
    x = np.round(random.uniform(0, 5, n))
    x[0], x[1] = 0, 5
    grown = gradfit.grow(CUBIC, {"x": x, "y": random.normal(size=n)}, seeds=1)
    assert all(r.parameters < n for r in grown.rungs)
    assert np.isfinite(grown.rung.validation)


@pytest.mark.parametrize(
    "asked",
    [
        {"validation": 0.25},
        {"kfold": 3},
        {"groups": "g"},
        {"sigma": 0.3},
        {"weights": "1/(1 + x)"},
        {"where": "x > 1"},
    ],
    ids=lambda asked: next(iter(asked)),
)
def test_ways_of_holding_out_and_weighing(asked):
    data = cubic() | {"g": np.tile(np.arange(8), 10)}
    grown = gradfit.grow(CUBIC, data, **asked)
    assert grown.size == 3


def test_by_order_the_future_is_held_out():
    grown = gradfit.grow(CUBIC, cubic(), order="x", sizes=4)
    assert "5 folds" in grown.splits
    assert (
        grown.rungs[4].validation > grown.rungs[4].train * 10
    )  # a degree too many goes wrong beyond the data


def test_a_callback_sees_each_size_and_can_stop():
    seen = []
    grown = gradfit.grow(CUBIC, cubic(), callback=lambda rung: seen.append(rung.size) or rung.size == 2)
    assert seen == [0, 1, 2] == [r.size for r in grown.rungs]


def test_names_of_columns_are_kept_apart_from_parameters():
    data = cubic()
    grown = gradfit.grow("y ~ polynomial(c0)", {"c0": X, "y": data["y"], "c1": X * 0})
    assert list(grown.values) == ["c_0", "c_1", "c_2", "c_3"]
    odd = gradfit.grow("y ~ polynomial({dose in mg})", {"dose in mg": X, "y": np.cos(X) + noise(0, 0.01)})
    assert odd.size > 6
    assert odd.chosen.scatter < 0.02
    logs = gradfit.grow("log(y) ~ polynomial(x)", {"x": X, "y": np.exp(data["y"] / 5)})
    assert logs.size == 3


def test_sizes_that_were_jumped_over_are_filled_in():
    class Steps:
        sizes, patience, seeds, overfull = (1, 2, 4, 8, 16), 2, 1, True

        def label(self, size):
            return f"size {size}"

        def parameters(self, size):
            return size

        def shown(self, sizes, dealt, _):
            for size in sizes:
                loss = 1.0 - 0.01 * size if size < 5 else 0.1 + 0.02 * (size - 5)
                each = np.full(10, 0.05), np.full(10, loss) + 0.001 * np.arange(10)
                yield [[each for _ in splits] for _, splits in dealt]

    splits = [(0, folds(40, 2, seed=0))]
    way = climb(Steps(), Steps.sizes, Plan(splits, 2, "one-se", 1.0))
    assert way.rungs[way.chosen].size == 5
    assert [r.size for r in way.rungs] == [1, 2, 4, 5, 6, 8, 16]


def test_a_network_grows():
    random = np.random.default_rng(0)
    x = random.uniform(-2, 2, size=(60, 2))
    y = np.tanh(2 * x[:, 0]) + random.normal(0, 0.05, 60)
    seen = gradfit.grow(
        "y ~ network(a, b)",
        {"a": x[:, 0], "b": x[:, 1], "y": y},
        sizes=[1, 4],
        seeds=1,
        validation=0.3,
        epochs=200,
    )
    assert seen.rungs[0].label == "1 hidden unit"
    assert seen.rungs[0].parameters < seen.rungs[-1].parameters
    assert isinstance(seen.chosen, gradfit.NetworkResult)
    assert seen.chosen.k == seen.rung.parameters
    assert "hidden unit" in seen.summary()


# ---------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("y = polynomial(x)", "does not say what to grow"),
        ("y ~ polynom(x)", "Did you mean polynomial"),
        ("y ~ polynomial()", "names no input"),
        ("y ~ polynomial(z)", "no column z"),
        ("z ~ polynomial(x)", "no column z"),
        ("y ~ polynomial(x, w)", "takes one input"),
        ("y ~ polynomial(w)", "w is 1 in all rows"),
        ("y ~ fourier(x, period=a)", "no positive number"),
        ("y ~ fourier(x, phase=2)", "no setting 'phase'"),
        (3, "does not say what to grow"),
    ],
)
def test_a_request_that_makes_no_sense(model, said):
    with pytest.raises(gradfit.GradfitError, match=said):
        gradfit.grow(model, cubic() | {"w": np.ones(80)})


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"epochs": 3}, "epochs= is for networks"),
        ({"kfold": 5, "validation": 0.2}, "both given"),
        ({"kfold": 81}, "more folds than 80 rows"),
        ({"sizes": [-1, 2]}, "a size is 0 or more"),
        ({"sizes": [100]}, "has fewer parameters than the 64 rows"),
        ({"rule": "min"}, "no rule 'min'"),
        ({"seeds": 0}, "seeds=0"),
        ({"sigma": np.eye(80)}, "correlated errors"),
        ({"groups": "g"}, "no column g"),
    ],
)
def test_options_that_make_no_sense(asked, said):
    with pytest.raises(gradfit.GradfitError, match=said):
        gradfit.grow(CUBIC, cubic(), **asked)


def test_data_that_cannot_grow():
    with pytest.raises(gradfit.DataError, match="3 rows of arrays cannot show"):
        gradfit.grow(CUBIC, {"x": [1, 2, 3], "y": [1, 2, 4]})
    with pytest.raises(gradfit.DataError, match="no number in y"):
        gradfit.grow(CUBIC, {"x": X, "y": np.where(X > 9, np.nan, X)})
    dropped = gradfit.grow(CUBIC, {"x": X, "y": np.where(X > 9, np.nan, 1 + X)}, missing="drop")
    assert (dropped.size, dropped.rows) == (1, 72)


# ---------------------------------------------------------------------------- shown


def test_it_is_told_tabled_and_drawn(tmp_path):
    grown = gradfit.grow(CUBIC, cubic(), sizes=6)
    assert grown.sentence.startswith(
        "With degree 3 the loss on rows that were held out is 0.0905, within one standard"
    )
    frame = grown.to_frame()
    assert frame["size"].to_list() == list(range(7))
    assert frame.filter(frame["chosen"])["size"].to_list() == [3]
    text = grown.summary()
    assert text.startswith("degree 3   y ~ polynomial(x)")
    assert all(f"degree {d}" in text for d in range(7))
    figure = grown.plot(tmp_path / "ladder.png")
    assert (tmp_path / "ladder.png").stat().st_size > 5000
    words = [t.get_text() for t in figure.findobj(lambda item: hasattr(item, "get_text"))]
    assert "degree 3" in words
    with pytest.raises(gradfit.OptionError, match="is there already"):
        grown.plot(tmp_path / "ladder.png")


def test_the_largest_size_is_said_to_be_too_small():
    grown = gradfit.grow(CUBIC, cubic(size=0.1), sizes=3)
    found = {f.code: f for f in grown.findings}
    assert found["still-growing"].remedy == "sizes=range(0, 7)"


def test_from_the_command_line(tmp_path, monkeypatch, capsys):
    run = runner(tmp_path, monkeypatch, capsys)
    data = cubic()
    np.savetxt(tmp_path / "d.csv", np.column_stack([X, data["y"]]), delimiter=",", header="x,y", comments="")
    seen = run("grow", "d.csv", CUBIC, "--sizes", "0:5", "--plot", "ladder.svg", "--save", "fit.json")
    assert seen.code == 0
    assert "With degree 3" in seen.out
    assert gradfit.load(tmp_path / "fit.json").formula == "y = c0 + c1*x + c2*x**2 + c3*x**3"
    plain = json.loads(run("grow", "d.csv", CUBIC, "--sizes", "1,2,3", "--json").out)
    assert [r["size"] for r in plain["rungs"]] == [1, 2, 3]
    assert plain["size"] == 3
    wrong = run("grow", "d.csv", CUBIC, "--sizes", "many")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--sizes takes whole numbers" in wrong.err
