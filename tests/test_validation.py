"""Held-out rows: they change nothing, training is looked at from outside, and what they show is said."""

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

import gradfit
from gradfit.diagnose.held import as_good, copied_target, copies, doubled, risen
from gradfit.errors import GradfitError
from gradfit.training import COMPILED

RNG = np.random.default_rng(11)
X = np.sort(RNG.uniform(0, 4, 60))
Y = 3 * np.exp(-1.3 * X) + 0.5 + RNG.normal(0, 0.1, 60)
HELD = np.arange(60) % 4 == 1
DATA = {"x": X, "y": Y, "s": RNG.uniform(0.5, 2, 60), "held": HELD.astype(float), "day": np.arange(60) // 6}
MODEL, START = "y = a*exp(-b*x) + c", {"a": 1.0, "b": 1.0, "c": 0.0}
ADAM = {"solver": "Adam", "lr": 0.05, "epochs": 400}
WAYS = {
    "lm": {},
    "search": {"start": None},
    "robust": {"loss": "huber"},
    "weights": {"sigma": "s"},
    "covariance": {"sigma": np.diag(DATA["s"]) + 0.1},
    "ridge": {"penalty": "ridge"},
    "eager": {**ADAM, "executor": "numpy", "epochs": 15},
    "compiled": {**ADAM, "executor": "native"},
    "compiled robust": {**ADAM, "executor": "native", "loss": "cauchy", "sigma": "s"},
    "batches": {**ADAM, "executor": "native", "batch_size": 8, "epochs": 20},
    "scaled": {**ADAM, "executor": "native", "scale": "auto"},
    "eager scaled": {**ADAM, "executor": "numpy", "scale": "auto", "epochs": 15},
    "rate": {**ADAM, "executor": "native", "lr": "auto"},
}


def fitted(data=DATA, model=MODEL, **options):
    return gradfit.fit(model, data, **{"start": START, "validation": "held", **options})


# ---------------------------------------------------------------------------- they change nothing


@pytest.mark.parametrize("way", WAYS)
def test_validation_targets_change_no_bit_of_the_fit(way):
    options = WAYS[way]
    wild = {**DATA, "y": np.where(HELD, RNG.normal(0, 1e6, 60), Y)}
    one, other = fitted(**options), fitted(wild, **options)
    assert_array_equal(one.parameters, other.parameters)
    assert_array_equal(one.history.loss, other.history.loss)
    assert_array_equal(one.covariance, other.covariance)
    assert one.loss_used == other.loss_used
    assert one.how == other.how
    assert other.validation.loss > 1e3 * one.validation.loss


@pytest.mark.parametrize("way", sorted(set(WAYS) - {"search", "covariance"}))
def test_the_fit_is_that_of_the_rows_in_training(way):
    options = WAYS[way]
    alone = {name: column[~HELD] for name, column in DATA.items()}
    one, other = fitted(**options), fitted(alone, **options, validation=None)
    assert_allclose(one.parameters, other.parameters, rtol=1e-12)
    assert_allclose(one.residuals, other.residuals, rtol=1e-9, atol=1e-12)
    assert one.n == 45
    assert one.validation.rows == 15


def test_no_graph_is_made_of_held_out_rows():
    seen = []

    def model(x, a, b, c):  # its rows mix, so that it runs as it is
        value = a * torch.exp(-b * x) + c + 0 * torch.cumsum(x, 0)
        if len(x) == 15:
            seen.append((value.requires_grad, torch.is_grad_enabled(), value.grad_fn))
        return value

    result = fitted(model=model, response="y", **{**ADAM, "epochs": 20})
    assert result.validation.rows == 15
    assert len(seen) >= 21, "each epoch looks at them, and so does the end"
    trained = [one for one in seen if one[1]]
    assert not [one for one in trained if one[0] or one[2] is not None]
    assert len(seen) - len(trained) >= 21


def test_torch_is_left_as_it_was():
    with torch.enable_grad():
        before = torch.random.get_rng_state()
        fitted(**{**ADAM, "executor": "numpy", "epochs": 20, "patience": 5, "batch_size": 7})
        assert torch.is_grad_enabled()
        assert torch.equal(before, torch.random.get_rng_state())


# ---------------------------------------------------------------------------- their loss


@pytest.mark.parametrize("way", ["lm", "weights", "compiled", "eager"])
def test_the_losses_are_means_over_the_rows(way):
    result, weight = fitted(**WAYS[way]), 1 / DATA["s"] if way == "weights" else np.ones(60)
    a, b, c = result.parameters
    miss = (Y - a * np.exp(-b * X) - c) * weight
    assert_allclose(result.validation.loss, np.mean(miss[HELD] ** 2))
    assert_allclose(result.validation.train_loss, np.mean(miss[~HELD] ** 2))
    assert_allclose(result.validation.residuals * weight[HELD], miss[HELD], rtol=1e-9)
    history = result.validation.history
    assert_allclose(history.validation[-1], result.validation.loss, rtol=1e-9)
    assert_allclose(history.train[-1], result.validation.train_loss, rtol=1e-9)
    for step, loss in zip(history.step, history.validation, strict=True):
        (row,) = np.flatnonzero(result.history.step == step)
        a, b, c = result.history.parameters[row]
        assert_allclose(loss, np.mean(((Y - a * np.exp(-b * X) - c) * weight)[HELD] ** 2), rtol=1e-9)


def test_counts_have_a_mean_deviance():
    counts = {**DATA, "y": RNG.poisson(20 * np.exp(-X) + 5).astype(float)}
    for options in ({}, {**ADAM, "epochs": 30}):
        result = fitted(counts, loss="poisson", start={"a": 20, "b": 1, "c": 5}, **options)
        mean, y = result.validation.residuals, counts["y"][HELD]
        f = y - mean
        log = np.where(y > 0, y * np.log(np.where(y > 0, y, 1) / f), 0)
        assert_allclose(result.validation.loss, np.mean(2 * (f - y + log)), rtol=1e-9)


@pytest.mark.parametrize("size", [1e-150, 1.0, 1e150])
def test_units_do_not_matter(size):
    data = {**DATA, "y": Y * size}
    start = {"a": size, "b": 1.0, "c": 0.0}
    one, other = fitted(data, start=start).validation, fitted().validation
    assert_allclose(one.loss / size / size, other.loss, rtol=1e-6)
    assert_allclose(one.train_loss / size / size, other.train_loss, rtol=1e-6)
    assert one.verdict == other.verdict


# ---------------------------------------------------------------------------- early stopping

WIGGLY = {
    "x": (x := np.linspace(-1, 1, 40)),
    "y": np.sin(2 * x) + np.random.default_rng(9).normal(0, 0.4, 40),
    "held": (np.arange(40) % 2).astype(float),
}
STEEP = "y = p0 + " + " + ".join(f"p{i}*cos({i}*x) + q{i}*sin({i}*x)" for i in range(1, 9))
FROM_ZERO = {"p0": 0.0} | {name: 0.0 for i in range(1, 9) for name in (f"p{i}", f"q{i}")}


def overfitted(**options):
    chosen = {
        "start": FROM_ZERO,
        "solver": "SGD",
        "lr": 0.05,
        "epochs": 3000,
        "validation": "held",
        **options,
    }
    return gradfit.fit(STEEP, WIGGLY, **chosen)


def by_hand(patience, *, epochs=3000):
    """Early stopping as a careful loop in torch writes it."""
    x, y, held = (torch.tensor(WIGGLY[name]) for name in ("x", "y", "held"))
    waves = [part for i in range(1, 9) for part in (torch.cos(i * x), torch.sin(i * x))]
    columns = torch.stack([torch.ones_like(x), *waves], 1)
    p = torch.zeros(17, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([p], lr=0.05)
    best, state, waited, losses = np.inf, None, 0, []
    for _ in range(epochs + 1):
        with torch.no_grad():
            loss = ((columns @ p - y)[held == 1] ** 2).mean().item()
        losses.append(loss)
        best, state, waited = (loss, p.detach().clone(), 0) if loss < best else (best, state, waited + 1)
        if waited >= patience:
            break
        optimizer.zero_grad()
        ((columns @ p - y)[held == 0] ** 2).mean().backward()
        optimizer.step()
    return np.array(losses), state.numpy()


@pytest.mark.parametrize("executor", ["native", "numpy"])
@pytest.mark.parametrize("patience", [1, 7, 60])
def test_early_stopping_is_that_of_a_loop_by_hand(patience, executor):
    losses, state = by_hand(patience)
    result = overfitted(patience=patience, executor=executor)
    assert (result.executor == COMPILED) == (executor == "native")
    assert result.iterations == len(losses) - 1
    assert result.validation.stopped == (len(losses) <= 3000)
    assert result.validation.best_step == losses.argmin()
    assert_allclose([result.values[name] for name in FROM_ZERO], state, rtol=1e-9, atol=1e-12)
    seen = result.validation.history
    assert_allclose(seen.validation, losses[seen.step], rtol=1e-9)
    assert result.status == "early-stopped"
    assert result.verdict != "no", result.findings
    assert f"{patience} epoch" in result.message


@pytest.mark.parametrize("executor", ["native", "numpy"])
def test_best_and_last_are_both_kept(executor):
    best, last = (overfitted(stop=stop, executor=executor, epochs=400) for stop in ("best", "last"))
    assert best.validation.best_step == last.validation.best_step < 400
    assert best.validation.best_values == last.validation.best_values == best.values
    assert best.validation.last_values == last.validation.last_values == last.values
    assert best.validation.loss < last.validation.loss
    assert_allclose(best.validation.loss, best.validation.history.validation.min(), rtol=1e-9)
    plain = overfitted(executor=executor, epochs=400)
    assert_array_equal(plain.parameters, last.parameters)  # nothing is chosen unasked


def test_min_delta_does_not_prolong_the_wait():
    eager, compiled = (overfitted(patience=20, min_delta=0.003, executor=e) for e in ("numpy", "native"))
    assert compiled.iterations == eager.iterations < overfitted(patience=20).iterations
    assert_allclose(compiled.parameters, eager.parameters, rtol=1e-9)


def test_patience_longer_than_the_run_is_said():
    result = overfitted(patience=500, epochs=400)
    assert "patience=500 is longer than the run of 400 epochs: it cannot end it" in result.how
    assert not result.validation.stopped


@pytest.mark.parametrize("executor", ["native", "numpy"])
def test_a_validation_loss_that_is_no_number_is_no_progress(executor):
    # beyond x = 1 the root has no value: it is NaN from epoch 1 on, for the held-out rows alone
    data = {
        "x": [0.0, 0.2, 0.4, 0.6, 3.0, 4.0],
        "y": [1.0, 0.9, 0.8, 0.6, 0.0, 0.0],
        "held": [0, 0, 0, 0, 1, 1],
    }
    result = gradfit.fit(
        "y = a*sqrt(1 - x) + b", data, start=[1, 0], solver="SGD", lr=0.01, epochs=400, validation="held",
        patience=30, executor=executor,
    )  # fmt: skip
    assert result.iterations == 30
    assert result.validation.best_step == -1
    assert np.isnan(result.validation.history.validation).all()
    assert result.validation.verdict == "undecided"
    assert "never a finite number" in result.message
    assert np.isfinite(result.parameters).all()


@pytest.mark.parametrize("executor", ["native", "numpy"])
def test_a_run_that_diverges_hands_back_the_best_state(executor):
    result = overfitted(lr=5.0, stop="best", executor=executor, epochs=2000)
    assert result.status == "diverged"
    assert np.isfinite(result.parameters).all()
    assert result.verdict == "no"


def test_a_callback_sees_both_losses_and_can_stop():
    for executor in ("native", "numpy"):
        seen = []

        def watch(now, seen=seen):
            seen.append((now.loss, now.validation))
            return now.epoch == 9

        result = overfitted(callback=watch, executor=executor)
        assert result.iterations == 9
        assert_allclose([v for _, v in seen], result.validation.history.validation[:9], rtol=1e-12)
        assert_allclose([t for t, _ in seen], result.validation.history.train[:9], rtol=1e-12)


# ---------------------------------------------------------------------------- ways to hold out


@pytest.mark.parametrize(
    ("options", "rows", "words"),
    [
        ({"validation": 0.2}, 12, "train 48, validation 12 rows (at random, seed 0)"),
        ({"validation": 0.2, "seed": 5}, 12, "seed 5"),
        ({"validation": "held"}, 15, "column held"),
        ({"validation": [1, 2, 60]}, 3, "rows as given"),
        ({"validation": 0.2, "order": "day"}, 12, "the last by day"),
        ({"validation": 0.2, "groups": "day"}, 12, "2 of 10 whole groups of day"),
        ({"validation": {"x": [1.0, 2.0], "y": [1.3, 0.7]}}, 2, "validation 2 rows"),
    ],
)
def test_every_way_says_what_it_did(options, rows, words):
    result = fitted(**options)
    assert result.validation.rows == rows
    assert words in result.validation.split
    assert result.n == 60 - (
        rows if "others" not in options and not isinstance(options["validation"], dict) else 0
    )


def test_a_second_file_is_understood_as_the_first(tmp_path):
    one, two = tmp_path / "one.csv", tmp_path / "two.csv"
    one.write_text(
        "t,kind,y\n" + "".join(f"2024-01-{d:02},{'ab'[d % 2]},{d * 0.5 + d % 2}\n" for d in range(1, 29))
    )
    two.write_text("t,kind,y\n2024-02-01,a,16\n2024-02-02,b,17.5\n")
    result = gradfit.fit('y = k*t + m + d*(kind == "b")', str(one), validation=str(two))
    assert_allclose(result.validation.residuals, [0, 0], atol=1e-6)
    assert result.n == 28


def test_flags_are_no_inputs_of_the_model():
    bare = {"x": X, "y": Y, "plate": np.arange(60) // 4}
    result = gradfit.fit("a*exp(-b*x) + c", bare, validation=0.2, groups="plate", start=START)
    assert (result.response, result.inputs) == ("y", ("x",))
    named = gradfit.fit(
        "y = a*exp(-b*x) + c + k*day", DATA, validation=0.2, groups="day", start={**START, "k": 0}
    )
    assert named.inputs == ("x", "day")


def test_folds_hold_out_each_row_once_and_the_fit_has_all():
    result = fitted(validation=None, kfold=6)
    assert_array_equal(result.parameters, fitted(validation=None).parameters)
    assert result.validation is None
    assert sum(result.folds.rows) == 60
    assert len(result.folds.losses) == 6
    assert_allclose(result.folds.mean, result.folds.losses.mean())
    assert_allclose(result.folds.stderr, result.folds.losses.std(ddof=1) / np.sqrt(6))
    assert 0.005 < result.folds.mean < 0.02
    assert (result.folds.train_losses < 0.012).all()


@pytest.mark.parametrize("way", ["search", "robust", "weights", "compiled", "eager"])
def test_folds_of_every_way(way):
    result = fitted(validation=None, kfold=3, **WAYS[way])
    assert np.isfinite(result.folds.losses).all()
    assert "3 held-out folds" in result.folds.sentence


def test_folds_in_time_train_on_what_came_before():
    trend = {**DATA, "y": DATA["day"] ** 2.0}
    result = gradfit.fit("y = a*day + b", trend, kfold=3, order="day")
    assert (result.folds.losses > result.folds.train_losses).all()
    assert "what came before by day" in result.folds.how


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"validation": 0.2, "kfold": 5}, "not both"),
        ({"kfold": 100}, "more folds than 60 rows"),
        ({"kfold": 2, "groups": "held", "order": "day"}, "not both"),
        ({"groups": "day"}, "none are"),
        ({"order": "day"}, "none are"),
        ({"patience": 5}, "patience= is for optimizers of torch"),
        ({"stop": "best"}, "stop= is for optimizers of torch"),
        ({**ADAM, "patience": 5}, "patience= needs held-out rows"),
        ({**ADAM, "patience": 0, "validation": 0.2}, "patience is 0"),
        ({**ADAM, "patience": 2.5, "validation": 0.2}, "patience is 2.5"),
        ({**ADAM, "stop": "first", "validation": 0.2}, "first"),
        ({"validation": 0.999}, "leaves none"),
        ({"validation": np.ones(60, dtype=bool)}, "holds out all 60 rows"),
        ({"validation": list(range(1, 59))}, "2 rows of arrays cannot determine 3 parameters"),
        ({"validation": "nothing.csv"}, "no column nothing.csv"),
        ({"validation": {"x": [1.0]}}, "no column y"),
        ({"validation": {"x": [1.0], "y": [float("nan")]}}, "no finite number|no number"),
        ({"validation": {"x": [], "y": []}}, "no rows"),
        ({"validation": {"x": [1.0], "y": [1.0]}, "sigma": np.ones(60)}, "sigma= is an array for the rows of"),
        ({"validation": {"x": [1.0], "y": [1.0]}, "order": "day"}, "order='day' has no place"),
        ({"validation": 0.2, "memory": "1GB"}, "memory= has no place"),
        ({"validation": [1, 2], "groups": "day"}, "day 0 has rows in both"),
        ({"validation": {**DATA}, "groups": "day"}, "have rows in both"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_sentence(options, words):
    with pytest.raises(GradfitError, match=words):
        fitted(**{"validation": None, **options})


def test_a_target_that_is_missing_is_a_sentence_or_is_dropped():
    holes = {**DATA, "y": np.where(np.arange(60) == 1, np.nan, Y)}  # row 2 is held out
    with pytest.raises(GradfitError, match="row 2"):
        fitted(holes)
    assert fitted(holes, missing="drop").validation.rows == 14


def test_one_held_out_row_decides_nothing():
    result = fitted(validation=[7])
    assert result.validation.rows == 1
    assert result.validation.verdict == "undecided"
    assert "1 held-out row" in result.validation.sentence
    assert not any(f.code == "overfitting" for f in result.findings)


# ---------------------------------------------------------------------------- verdicts


LONG_X = np.linspace(0, 4, 240)
LONG = {"x": LONG_X, "y": 3 * np.exp(-1.3 * LONG_X) + 0.5 + np.random.default_rng(2).normal(0, 0.1, 240)}


def test_a_good_fit_is_good():
    for options in ({}, ADAM):
        result = fitted(LONG, validation=0.25, **options)
        assert result.validation.verdict == "good", result.validation.sentence
        assert result.verdict == "trust"


def test_a_direct_fit_that_overfits_is_named_and_cured():
    rng = np.random.default_rng(0)
    x = np.sort(rng.uniform(-1, 1, 80))
    data = {"x": x, "y": np.sin(2 * x) + rng.normal(0, 0.3, 80)}
    powers = "y = " + " + ".join(f"c{i}*x**{i}" for i in range(15))
    result = gradfit.fit(powers, data, validation=0.75)
    assert result.validation.verdict == "overfitting", result.validation.sentence
    assert "overfitting" in [f.code for f in result.findings]
    lean = gradfit.fit("y = a*sin(b*x)", data, start=[1, 2], validation=0.5)
    assert lean.validation.verdict == "good"


def test_a_training_that_overfits_names_the_epoch_and_the_remedy_cures_it():
    rng = np.random.default_rng(4)
    x = np.linspace(-1, 1, 320)
    data = {
        "x": x,
        "y": np.sin(2 * x) + rng.normal(0, 0.5, 320),
        "held": (np.arange(320) % 16 != 0).astype(float),
    }
    result = gradfit.fit(STEEP, data, start=FROM_ZERO, solver="SGD", lr=0.1, epochs=4000, validation="held")
    (finding,) = [f for f in result.findings if f.code == "overfitting"]
    assert result.validation.verdict == "overfitting"
    assert f"from epoch {finding.evidence['epoch']} on" in result.validation.sentence
    assert finding.remedy == 'stop="best"'
    cured = gradfit.fit(
        STEEP, data, start=FROM_ZERO, solver="SGD", lr=0.1, epochs=4000, validation="held", stop="best"
    )
    assert "overfitting" not in [f.code for f in cured.findings]
    assert cured.validation.loss < result.validation.loss


def test_an_unfinished_training_underfits():
    result = fitted(**{**ADAM, "lr": 1e-3, "epochs": 50})
    assert result.validation.verdict == "underfitting"
    assert "still falls" in result.validation.sentence


def test_a_line_through_a_curve_underfits():
    assert fitted(model="y = a*x + c", start=None).validation.verdict == "underfitting"


def test_rows_in_both_parts_are_leakage_and_the_remedy_cures_it():
    twice = {name: np.concatenate([column, column[:6]]) for name, column in DATA.items()}
    twice["held"] = np.concatenate([np.zeros(50), np.ones(16)])
    result = fitted(twice)
    (finding,) = [f for f in result.findings if f.code == "leakage"]
    assert finding.severity == "warning"
    assert "rows 61, 62, 63, 64, 65 and 66" in finding.message
    assert finding.remedy == "exclude=[61, 62, 63, 64, 65, 66]"
    assert result.validation.verdict == "undecided"
    assert "leaked" in result.validation.sentence
    cured = fitted(twice, exclude=[61, 62, 63, 64, 65, 66])
    assert "leakage" not in [f.code for f in cured.findings]


def test_a_target_among_the_inputs_is_leakage():
    rng = np.random.default_rng(4)
    data = {"x": rng.normal(size=50), "copy": (y := rng.normal(size=50)), "y": y}
    result = gradfit.fit("y = a*x + b*copy + c", data, validation=0.2)
    (finding,) = [f for f in result.findings if f.code == "leakage"]
    assert "copy equals y in all 50 rows" in finding.message


def test_gridded_and_rounded_data_are_no_leakage():
    rng = np.random.default_rng(8)
    for seed in range(20):
        x = rng.integers(0, 8, 120).astype(float)
        data = {"x": x, "y": np.round(2 * x + 1 + rng.normal(0, 1, 120))}
        result = gradfit.fit("y = a*x + b", data, validation=0.25, seed=seed)
        assert "leakage" not in [f.code for f in result.findings]


# ---------------------------------------------------------------------------- the tests behind them


def test_false_alarms_of_the_tests_are_as_rare_as_they_say():
    rng = np.random.default_rng(0)
    alarms = {"doubled": 0, "risen": 0, "copies": 0}
    for _ in range(400):
        m, n = rng.integers(5, 60), rng.integers(20, 200)
        noise = rng.standard_t(6, m + n)
        alarms["doubled"] += doubled(noise[:m], noise[m:])[1] < 1e-3
        losses = (rng.normal(0, 1, (1, m + 10)) + np.cumsum(rng.normal(0, 0.02, (50, m + 10)), axis=0)) ** 2
        alarms["risen"] += risen(losses, -1)[1] < 1e-3
        rows = rng.normal(size=(m + n, 2))
        alarms["copies"] += copies(rows[m:], rows[:m], 1.0)[1] < 5e-4
    assert max(alarms.values()) <= 2, alarms


def test_power_of_the_tests():
    rng = np.random.default_rng(0)
    found = {"doubled": 0, "as_good": 0, "risen": 0, "copies": 0}
    for _ in range(100):
        noise = rng.normal(size=140)
        found["doubled"] += doubled(4 * noise[:40], noise[40:])[1] < 1e-3
        found["as_good"] += as_good(noise[:40], noise[40:]) < 0.05
        base, slope = rng.normal(size=80), rng.normal(0.5, 1, 80)
        way = np.abs(np.linspace(-1, 1.5, 50))[:, None]
        found["risen"] += risen((base + slope * way) ** 2 + 0.4 * way, -1)[1] < 1e-3
        rows = rng.normal(size=(100, 2))
        held = np.vstack([rows[:6] + 1e-5, rng.normal(size=(14, 2))])
        found["copies"] += copies(rows, held, 1.0)[1] < 5e-4
    assert min(found.values()) >= 90, found


def test_a_copy_is_told_from_an_instrument_that_agrees():
    y = np.linspace(0, 1, 40)
    assert copied_target({"x": y**2, "z": y.copy()}, y) == "z"
    assert copied_target({"z": y + 1e-9}, y) == ""
    assert copied_target({"z": np.round(10 * y)}, np.round(10 * y)) == ""  # both read in steps
    assert copied_target({"z": y[:8]}, y[:8]) == ""


# ---------------------------------------------------------------------------- what is kept and shown


def test_a_saved_fit_keeps_what_held_out_rows_said(tmp_path):
    for name, result in (
        ("a", fitted()),
        ("b", fitted(**ADAM, patience=20)),
        ("c", fitted(validation=None, kfold=4)),
    ):
        again = gradfit.load(result.save(tmp_path / f"{name}.json"))
        if result.validation is not None:
            one, other = result.validation, again.validation
            for part in (
                "loss",
                "train_loss",
                "rows",
                "split",
                "best_step",
                "best_values",
                "verdict",
                "sentence",
            ):
                assert getattr(one, part) == getattr(other, part)
            assert_array_equal(one.residuals, other.residuals)
            for part in ("step", "train", "validation"):
                assert_array_equal(getattr(one.history, part), getattr(other.history, part))
        else:
            assert_array_equal(result.folds.losses, again.folds.losses)
            assert result.folds.sentence == again.folds.sentence
        assert again.verdict == result.verdict
        assert gradfit.load(again.save(tmp_path / f"{name}{name}.json")).summary() == again.summary()


def test_the_terminal_shows_both_losses_and_the_verdict():
    text = fitted(LONG, validation=np.arange(2, 240, 16)).summary()
    assert "validation loss" in text
    assert ": good" in text
    assert "15 rows held out for validation (rows as given)" in " ".join(text.split())
    assert "loss of 4 folds" in fitted(validation=None, kfold=4).summary()


def test_the_command_line_has_all_of_it(tmp_path, monkeypatch, capfd):
    from gradfit.cli import main

    monkeypatch.chdir(tmp_path)
    rows = "".join(f"{x},{y},{h:g},{d}\n" for x, y, h, d in zip(X, Y, DATA["held"], DATA["day"], strict=True))
    (tmp_path / "d.csv").write_text("x,y,held,day\n" + rows)
    start = ["--start", "a=1,b=1,c=0"]
    adam = ["--solver", "Adam", "--lr", "0.05", "--epochs", "400"]
    for options, words in (
        (["--validation", "0.2"], "on 12 rows"),
        (["--validation", "held"], "on 15 rows"),
        (["--validation", "3,17,20"], "on 3 rows"),
        (["--validation", "0.2", "--order", "day"], "the last by day"),
        (["--validation", "0.2", "--groups", "day"], "whole groups of day"),
        (["--kfold", "5"], "loss of 5 folds"),
        ([*adam, "--validation", "held", "--patience", "20", "--checkpoint", "run.ckpt"], "on 15 rows"),
        ([*adam, "--validation", "held", "--patience", "20", "--resume", "run.ckpt"], "on 15 rows"),
        ([*adam, "--validation", "held", "--stop", "best"], "on 15 rows"),
    ):
        assert main(["fit", "d.csv", MODEL, *start, *options]) == 0
        assert words in " ".join(capfd.readouterr().out.split())
    assert main(["fit", "d.csv", MODEL, "--validation", "0.001"]) == 2
    assert "holds out none" in " ".join(capfd.readouterr().err.split())
