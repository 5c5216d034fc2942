"""Penalties: the answers of ridge, lasso, elastic net and smoothing, by formula and by the conditions of a minimum."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit
import gradfit.cli
import gradfit.splitting
from gradfit import Penalty
from gradfit.solve.penalised import soft_least_squares
from gradfit.training import COMPILED

N = 60
COLUMNS = [f"x{j}" for j in range(6)]
LINE = "y = " + " + ".join(f"b{j}*{name}" for j, name in enumerate(COLUMNS)) + " + c"
BETA = [f"b{j}" for j in range(6)]


def table(n=N, seed=0, units=(1, 10, 1e-3, 1, 1, 1)):
    random = np.random.default_rng(seed)
    X = random.normal(size=(n, 6)) * units
    y = X @ (np.array([2, 3, 0, 0, -1, 0]) / units) + 5 + random.normal(0, 0.5, n)
    return {name: X[:, j] for j, name in enumerate(COLUMNS)} | {"y": y}


def centred(data):
    """Inputs in standard deviations and the response, without their means."""
    X = np.column_stack([data[name] for name in COLUMNS])
    return (X - X.mean(0)) / X.std(0), data["y"] - data["y"].mean(), X.std(0)


def standardised(result, data):
    return np.array([result.values[name] for name in BETA]) * centred(data)[2]


# ---------------------------------------------------------------------------- the answers


@pytest.mark.parametrize("strength", [1e-6, 0.1, 30.0])
def test_ridge_is_the_formula_of_hoerl_and_kennard(strength):
    data = table()
    Z, y, _ = centred(data)
    result = gradfit.fit(LINE, data, penalty=Penalty("ridge", strength))
    expected = np.linalg.solve(Z.T @ Z + N * strength / 2 * np.eye(6), Z.T @ y)
    assert standardised(result, data) == pytest.approx(expected, rel=1e-9)
    assert result.loss == pytest.approx(result.rss + N * strength / 2 * expected @ expected, rel=1e-12)
    assert result.shrinkage.value == pytest.approx(strength / 2 * expected @ expected, rel=1e-9)


@pytest.mark.parametrize("kind", ["lasso", "elastic-net"])
@pytest.mark.parametrize("strength", [1e-3, 0.1, 0.5, 2.0, 20.0])
def test_absolute_values_satisfy_the_conditions_of_karush_kuhn_and_tucker(kind, strength):
    data = table()
    Z, y, _ = centred(data)
    result = gradfit.fit(LINE, data, penalty=Penalty(kind, strength, ratio=0.7))
    b, ratio = standardised(result, data), 1.0 if kind == "lasso" else 0.7
    slope = 2 / N * Z.T @ (Z @ b - y) + strength * (1 - ratio) * b
    zero = b == 0
    assert (np.abs(slope[zero]) <= strength * ratio + 1e-9).all()
    assert slope[~zero] == pytest.approx(-strength * ratio * np.sign(b[~zero]), abs=1e-9)
    assert result.shrinkage.zero == tuple(name for name, z in zip(BETA, zero, strict=True) if z)
    assert result.converged


def test_a_lasso_on_orthogonal_columns_is_a_soft_threshold():
    Q = np.linalg.qr(np.random.default_rng(1).normal(size=(40, 3)))[0] * np.sqrt(40)
    y = Q @ [2.0, 0.3, -1.0]
    result = gradfit.fit(
        "y = a*u + b*v + c*w", {"u": Q[:, 0], "v": Q[:, 1], "w": Q[:, 2], "y": y},
        penalty=Penalty("lasso", 1.0, scale="none"),
    )  # fmt: skip
    assert list(result.values.values()) == pytest.approx([1.5, 0.0, -0.5], abs=1e-12)
    assert result.values["b"] == 0


def test_smoothing_is_the_formula_of_whittaker():
    x = np.repeat(np.arange(8.0), 3)
    y = np.sin(x) + np.random.default_rng(2).normal(0, 0.2, 24)
    formula = "y = " + " + ".join(f"c{j}*(1 - min(abs(x - {j}), 1))" for j in range(8))
    result = gradfit.fit(
        formula.replace("min(", "minimum("), {"x": x, "y": y}, penalty=Penalty("smooth", 0.5)
    )
    B, D = np.eye(8)[x.astype(int)], np.diff(np.eye(8), 2, axis=0)
    expected = np.linalg.solve(B.T @ B + 24 * 0.5 / 2 * D.T @ D, B.T @ y)
    assert list(result.values.values()) == pytest.approx(expected, rel=1e-9)
    stiff = gradfit.fit(formula.replace("min(", "minimum("), {"x": x, "y": y}, penalty=Penalty("smooth", 1e9))
    assert np.diff(list(stiff.values.values()), 2) == pytest.approx(np.zeros(6), abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 10**6), st.integers(2, 25), st.integers(1, 12), st.floats(0.01, 3))
def test_soft_least_squares_is_a_minimum(seed, n, f, size):
    random = np.random.default_rng(seed)
    A, b, at = random.normal(size=(n, f)), random.normal(size=n), random.normal(size=f)
    weight = size * random.choice([0.0, 1.0], f, p=[0.2, 0.8])
    low, high = np.where(random.random(f) < 0.2, -0.1, -np.inf), np.where(random.random(f) < 0.2, 0.2, np.inf)
    d = soft_least_squares(A, b, weight, at, box=(low, high))

    def cost(d):
        return 0.5 * np.sum((A @ d + b) ** 2) + weight @ np.abs(at + d)

    assert ((d >= low) & (d <= high)).all()
    for _ in range(20):
        other = np.clip(d + random.normal(size=f) * 10.0 ** random.uniform(-6, 0), low, high)
        assert cost(d) <= cost(other) * (1 + 1e-10) + 1e-12


@pytest.mark.parametrize("factor", [1e-6, 1e6])
@pytest.mark.parametrize("kind", ["ridge", "lasso"])
def test_units_of_inputs_change_nothing(kind, factor):
    data = table(units=(1, 1, 1, 1, 1, 1))
    one = gradfit.fit(LINE, data, penalty=Penalty(kind, 0.2))
    other = gradfit.fit(
        LINE, data | {"x0": factor * data["x0"], "x1": data["x1"] + 1e9}, penalty=Penalty(kind, 0.2)
    )
    assert other.values["b0"] * factor == pytest.approx(one.values["b0"], rel=1e-6)
    assert other.values["b1"] == pytest.approx(one.values["b1"], rel=1e-5)


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_a_response_of_any_size_is_shrunk_alike(size):
    data = table()
    one, other = (
        gradfit.fit(LINE, data | {"y": scale * data["y"]}, penalty=Penalty("lasso", 0.5 * scale))
        for scale in (1.0, size)
    )
    assert [v / size for v in other.values.values()] == pytest.approx(list(one.values.values()), rel=1e-6)
    assert other.shrinkage.zero == one.shrinkage.zero != ()


# ---------------------------------------------------------------------------- nonlinear, bounded, robust, counts

DECAY = "y = a*exp(-x/tau) + c"


def decay():
    x = np.linspace(0, 5, 40)
    return {"x": x, "y": 3 * np.exp(-x / 1.3) + 0.5 + np.random.default_rng(3).normal(0, 0.05, 40)}


@pytest.mark.parametrize("kind", ["ridge", "lasso"])
def test_a_parameter_of_a_curve_is_drawn_to_its_centre(kind):
    data = decay()
    near = Penalty(kind, 0.01, parameters=["tau"], centre={"tau": 1.0})
    far = gradfit.fit(DECAY, data, penalty=dataclasses.replace(near, strength=1e6))
    assert far.values["tau"] == pytest.approx(1.0, abs=1e-6)
    assert kind == "ridge" or far.shrinkage.zero == ("tau",)
    free, result = gradfit.fit(DECAY, data), gradfit.fit(DECAY, data, penalty=near)
    assert 1 < result.values["tau"] < free.values["tau"]
    with_less = gradfit.fit(DECAY, data, start=result.values, penalty=near)
    assert with_less.loss == pytest.approx(result.loss, rel=1e-12)


def test_the_minimum_of_a_curve_with_a_lasso_is_one():
    data, penalty = decay(), Penalty("lasso", 0.02, parameters=["a", "c"])
    result = gradfit.fit(DECAY, data, penalty=penalty)
    x, y = data["x"], data["y"]

    def objective(a, tau, c):
        return np.mean((a * np.exp(-x / tau) + c - y) ** 2) + 0.02 * (abs(a) + abs(c))

    at = list(result.values.values())
    assert result.converged
    assert result.loss / 40 == pytest.approx(objective(*at), rel=1e-12)
    random = np.random.default_rng(0)
    assert all(objective(*(at + 1e-4 * random.normal(size=3))) >= objective(*at) for _ in range(50))


def test_bounds_hold():
    result = gradfit.fit(
        LINE, table(units=(1,) * 6), penalty=Penalty("lasso", 0.1), bounds={"b0": (0, 1), "b4": (0, None)}
    )
    assert result.values["b0"] == 1
    assert result.values["b4"] == 0


def test_a_robust_loss_is_of_the_data_alone():
    data = table(units=(1,) * 6)
    data["y"][3] += 100
    result = gradfit.fit(LINE, data, loss="huber:1", penalty=Penalty("ridge", 0.1))
    loss, r = gradfit.Loss("huber", 1.0), result.residuals
    b = standardised(result, data)
    assert result.loss == pytest.approx(loss.cost(r) + N * 0.05 * b @ b, rel=1e-10)
    assert result.values["b0"] == pytest.approx(1.9, abs=0.15)


def test_counts():
    x = np.random.default_rng(4).normal(size=80)
    y = np.random.default_rng(5).poisson(np.exp(1 + 0.4 * x))
    free, result = (
        gradfit.fit("y = exp(a*x + c)", {"x": x, "y": y}, loss="poisson", penalty=penalty)
        for penalty in (None, Penalty("ridge", 1.0, parameters=["a"]))
    )
    assert 0 < result.values["a"] < free.values["a"]
    assert result.loss == pytest.approx(result.deviance + 80 / 2 * result.values["a"] ** 2, rel=1e-10)


# ---------------------------------------------------------------------------- more parameters than rows


def test_more_parameters_than_rows():
    random = np.random.default_rng(6)
    Z = random.normal(size=(30, 50))
    y = 3 * Z[:, 0] - 2 * Z[:, 1] + random.normal(0, 0.3, 30)
    data = {f"x{j}": Z[:, j] for j in range(50)} | {"y": y}
    formula = "y = " + " + ".join(f"b{j}*x{j}" for j in range(50)) + " + c"
    lasso = gradfit.fit(formula, data, penalty=Penalty("lasso", rule="one-se"))
    assert {"b0", "b1"}.isdisjoint(lasso.shrinkage.zero)
    assert len(lasso.shrinkage.zero) > 35
    assert lasso.dof == 30 - (51 - len(lasso.shrinkage.zero))
    ridge = gradfit.fit(formula, data, penalty="ridge:0.1")
    assert ridge.converged
    assert 0 < ridge.dof < 30
    with pytest.raises(gradfit.DataError, match="30 rows"):
        gradfit.fit(formula, data)


# ---------------------------------------------------------------------------- uncertainty


def test_standard_errors_are_those_of_a_normal_prior():
    data = table()
    Z, _, spread = centred(data)
    prior = np.linalg.inv(Z.T @ Z + N / 2 * np.eye(6))
    known = gradfit.fit(LINE, data, penalty=Penalty("ridge", 1.0), sigma=0.5)
    errors = 0.5 * np.sqrt(np.diag(prior)) / spread
    assert [known.errors[name] for name in BETA] == pytest.approx(errors, rel=1e-9)
    found = gradfit.fit(LINE, data, penalty=Penalty("ridge", 1.0))
    effective = np.trace(Z @ prior @ Z.T) + 1
    assert found.shrinkage.effective == pytest.approx(effective, rel=1e-9)
    scatter = np.sqrt(found.rss / np.floor(N - effective))
    assert [found.errors[name] for name in BETA] == pytest.approx(2 * scatter * errors, rel=1e-9)


def test_what_is_set_to_zero_has_no_standard_error():
    result = gradfit.fit(LINE, table(), penalty=Penalty("lasso", 0.3))
    assert result.shrinkage.zero
    assert all(np.isnan(result.errors[name]) for name in result.shrinkage.zero)
    assert np.isfinite(result.errors["b0"])
    assert "conditional on the penalty" in result.how[0]
    assert [f.severity for f in result.findings if f.code == "penalised"] == ["info"]


# ---------------------------------------------------------------------------- cross-validation


def test_the_path_is_what_folds_say():
    data = table(n=50, seed=7)
    result = gradfit.fit(LINE, data, penalty="ridge", seed=3)
    path = result.path
    splits = gradfit.splitting.folds(50, 5, seed=3)
    losses = []
    for split in splits:
        part = {name: column[split.train] for name, column in data.items()}
        fitted = gradfit.fit(LINE, part, penalty=Penalty("ridge", float(path.strength[path.chosen])))
        held = {name: column[split.held] for name, column in data.items()}
        losses.append(np.mean((held["y"] - fitted.predict(held).value) ** 2))
    assert path.loss[path.chosen] == pytest.approx(np.mean(losses), rel=1e-9)
    assert path.stderr[path.chosen] == pytest.approx(np.std(losses, ddof=1) / np.sqrt(5), rel=1e-9)
    assert path.parameters[path.chosen] == pytest.approx(result.parameters, rel=1e-9)
    assert path.loss[path.chosen] == path.loss.min()
    assert (np.diff(path.strength) < 0).all()
    assert (np.diff(path.train) <= 1e-12).all()  # a weaker penalty fits better
    assert path.to_frame().height == len(path.strength)


def test_the_path_of_a_lasso_begins_where_nothing_is_left():
    path = gradfit.fit(LINE, table(), penalty="lasso").path
    inside = path.parameters[:, : len(BETA)]
    assert (inside[0] == 0).all()
    assert (inside[1] != 0).sum() >= 1


def test_one_standard_error_takes_a_stronger_penalty():
    best, one = (
        gradfit.fit(LINE, table(), penalty=Penalty("lasso", rule=rule)).path for rule in ("best", "one-se")
    )
    assert one.chosen < best.chosen == best.best == one.best
    assert one.loss[one.chosen] <= one.loss[one.best] + one.stderr[one.best]


def test_a_choice_of_strengths():
    result = gradfit.fit(LINE, table(), penalty=Penalty("lasso", [10, 0.01]))
    assert result.path.strength.tolist() == [10, 0.01]
    assert result.shrinkage.strength == 0.01


def test_held_out_rows_never_show_in_parameters():
    data = table(n=50)
    one = gradfit.fit(LINE, data, penalty="ridge:0.3", validation=0.2, seed=1)
    changed = data["y"].copy()
    changed[np.isin(np.arange(1, 51), one.data.rows, invert=True)] += 1000
    other = gradfit.fit(LINE, data | {"y": changed}, penalty="ridge:0.3", validation=0.2, seed=1)
    assert other.values == one.values


def test_validation_loss_leaves_the_penalty_out():
    data = table(n=50)
    one = gradfit.fit(LINE, data, penalty="ridge:0.3", validation=0.2, seed=1)
    held = np.isin(np.arange(1, 51), one.data.rows, invert=True)
    miss = data["y"][held] - one.predict({k: v[held] for k, v in data.items()}).value
    assert one.validation.loss == pytest.approx(np.mean(miss**2), rel=1e-9)


@pytest.mark.parametrize("kind", ["ridge", "lasso"])
def test_a_constant_response_leaves_nothing(kind):
    result = gradfit.fit(LINE, table() | {"y": np.full(N, 3.0)}, penalty=kind)
    assert result.values["c"] == pytest.approx(3)
    assert np.abs(standardised(result, table())).max() < 1e-12


# ---------------------------------------------------------------------------- training


def test_training_goes_to_the_same_minimum():
    data = table(units=(1,) * 6)
    lm = gradfit.fit(LINE, data, penalty="ridge:0.2")
    trained = gradfit.fit(LINE, data, penalty="ridge:0.2", solver="SGD", lr=0.1, epochs=500, start=[0] * 7)
    assert list(trained.values.values()) == pytest.approx(list(lm.values.values()), rel=1e-6)
    assert trained.loss == pytest.approx(lm.loss / N, rel=1e-9)
    scaled = gradfit.fit(
        LINE, data, penalty="ridge:0.2", solver="SGD", lr=0.3, epochs=500, start=[0] * 7, scale="auto"
    )
    assert list(scaled.values.values()) == pytest.approx(list(lm.values.values()), rel=1e-6)


def test_a_ridge_without_units_is_weight_decay():
    data = table(units=(1,) * 6)
    every = [*BETA, "c"]
    penalty = Penalty("ridge", 0.3, parameters=every, scale="none")
    asked = {"solver": "SGD", "lr": 0.05, "epochs": 40, "start": [1.0] * 7}
    one = gradfit.fit(LINE, data, penalty=penalty, **asked)
    other = gradfit.fit(LINE, data, weight_decay=0.3, **asked)
    assert list(one.values.values()) == pytest.approx(list(other.values.values()), rel=1e-12)


def test_the_penalty_is_what_torch_would_add():
    data = table(units=(1,) * 6)
    penalty = Penalty("elastic-net", 0.3, ratio=0.4, scale="none", parameters=BETA)
    result = gradfit.fit(LINE, data, penalty=penalty, solver="SGD", lr=0.05, epochs=1, start=[1.0] * 7)
    X = torch.tensor(np.column_stack([*(data[name] for name in COLUMNS), np.ones(N)]))
    w = torch.ones(7, dtype=torch.float64, requires_grad=True)
    b = w[:6]
    loss = ((X @ w - torch.tensor(data["y"])) ** 2).mean() + 0.3 * (0.4 * b.abs().sum() + 0.3 * (b * b).sum())
    loss.backward()
    assert list(result.values.values()) == pytest.approx((w - 0.05 * w.grad).tolist(), rel=1e-12)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"solver": "AdamW"}, "AdamW's weight_decay=0.01 is another thing"),
        ({"solver": "SGD", "weight_decay": 0.1}, "weight_decay=0.1 of SGD comes on top"),
    ],
)
def test_weight_decay_is_told_apart(asked, said):
    result = gradfit.fit(LINE, table(), penalty="lasso:0.1", epochs=2, lr=1e-3, start=[0] * 7, **asked)
    assert any(said in sentence for sentence in result.how)
    assert any("no parameter becomes exactly 0" in sentence for sentence in result.how)


# ---------------------------------------------------------------------------- saved, drawn, refused


def test_it_is_saved_with_its_path(tmp_path):
    result = gradfit.fit(LINE, table(), penalty="lasso")
    again = gradfit.load(result.save(tmp_path / "fit.json"))
    assert (again.dof, again.values, again.errors.keys()) == (result.dof, result.values, result.errors.keys())
    assert again.shrinkage.zero == result.shrinkage.zero
    assert again.path.to_frame().equals(result.path.to_frame())
    assert result.to_dict()["penalty"]["kind"] == "lasso"


def test_the_path_is_drawn():
    figure = gradfit.fit(LINE, table(), penalty="lasso").path.plot()
    words = " ".join(text.get_text() for text in figure.findobj(lambda item: hasattr(item, "get_text")))
    assert "strength" in words
    assert "rows held out" in words


@pytest.mark.parametrize(
    ("penalty", "said"),
    [
        ("ridg", "There is no penalty 'ridg'"),
        ("ridge:x", "is no number"),
        ("ridge:-1", "must be 0 or more"),
        (3, "is not understood"),
        (Penalty("ridge", 1.0, parameters=["q"]), "names q, which is no free parameter"),
        (Penalty("ridge", 1.0, centre={"q": 1}), "names q"),
        (Penalty("ridge", 1.0, scale={"b0": 0}), "must be positive for b0"),
        (Penalty("smooth", 1.0, parameters=["b0", "b1"]), "needs three different parameters"),
    ],
)
def test_a_penalty_that_makes_no_sense(penalty, said):
    with pytest.raises(gradfit.OptionError, match=said):
        gradfit.fit(LINE, table(), penalty=penalty)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"kind": "ridge", "strength": np.nan}, "must be 0 or more"),
        ({"kind": "ridge", "strength": [1.0]}, "must be 0 or more"),
        ({"kind": "elastic-net", "ratio": 2}, "between 0"),
        ({"kind": "ridge", "rule": "min"}, "no rule 'min'"),
        ({"kind": "ridge", "folds": 1}, "from 2 up"),
        ({"kind": "ridge", "parameters": "a"}, "must be a list"),
        ({"kind": "ridge", "scale": "standard"}, "is not understood"),
        ({"kind": "smooth", "centre": {"a": 1}}, "has no place"),
    ],
)
def test_settings_that_make_no_sense(settings, said):
    with pytest.raises(gradfit.OptionError, match=said):
        Penalty(**settings)


def test_few_rows_and_correlated_errors_have_no_folds():
    data = table(n=8)
    with pytest.raises(gradfit.DataError, match="8 rows cannot be cut into 5 folds"):
        gradfit.fit(LINE, data, penalty="lasso")
    with pytest.raises(gradfit.OptionError, match="correlated errors"):
        gradfit.fit(LINE, table(), penalty="lasso", sigma=np.eye(N))
    with pytest.raises(gradfit.OptionError, match="memory="):
        gradfit.fit(LINE, table(), penalty="lasso", memory="1GB")


def test_from_the_command_line(tmp_path, capsys):
    path = tmp_path / "data.csv"
    data = table()
    np.savetxt(path, np.column_stack(list(data.values())), delimiter=",", header=",".join(data), comments="")
    code = gradfit.cli.main(["fit", str(path), LINE, "--penalty", "lasso:2", "--json"])
    assert code == 0
    assert '"zero"' in capsys.readouterr().out


# ---------------------------------------------------------------------------- in the compiled loop

PENALTIES = {
    "ridge": "ridge:0.1",
    "lasso": "lasso:0.1",
    "elastic-net": "elastic-net:0.1",
    "smooth": "smooth:0.3",
    "some, with units": Penalty("ridge", 0.2, parameters=["b1", "b3"], centre={"b1": 1.0}, scale={"b3": 0.5}),
    "towards a value": Penalty("lasso", 0.2, parameters=["b1", "b3"], centre={"b1": 1.0}),
    "another order": Penalty("smooth", 0.3, parameters=["b5", "b0", "b2", "b4"]),
}
TRAININGS = {
    "SGD": {"solver": "SGD", "lr": 0.05},
    "batches": {"solver": "Adam", "lr": 0.02, "batch_size": 23},
    "standard units": {"solver": "SGD", "lr": 0.05, "scale": "auto"},
    "held out, bounded": {"solver": "Adam", "lr": 0.02, "validation": 0.25, "bounds": {"b0": (0, 1)}, "scale": "auto"},
    "robust, momentum": {"solver": "SGD", "lr": 0.01, "momentum": 0.9, "loss": "huber:1"},
}  # fmt: skip


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("penalty", PENALTIES)
def test_the_compiled_loop_has_the_numbers_of_torch(penalty, training):
    eager, compiled = (
        gradfit.fit(
            LINE, table(n=40, units=(1,) * 6), penalty=PENALTIES[penalty], start=[0.3] * 7, epochs=500, executor=executor,
            **TRAININGS[training],
        )
        for executor in ("numpy", "native")
    )  # fmt: skip
    assert compiled.executor == COMPILED
    assert compiled.parameters == pytest.approx(eager.parameters, rel=1e-10, abs=1e-10)
    assert compiled.loss == pytest.approx(eager.loss, rel=1e-10)
    assert compiled.history.loss == pytest.approx(eager.history.loss, rel=1e-10)
    assert (compiled.status, compiled.evaluations) == (eager.status, eager.evaluations)
    if "validation" in TRAININGS[training]:
        assert compiled.validation.loss == pytest.approx(eager.validation.loss, rel=1e-10)


def test_a_penalised_training_goes_on_from_its_checkpoint(tmp_path):
    options = {
        "penalty": "elastic-net:0.1",
        "solver": "Adam",
        "lr": 0.02,
        "start": [0.3] * 7,
        "executor": "native",
    }
    data, file = table(units=(1,) * 6), tmp_path / "half.safetensors"
    whole = gradfit.fit(LINE, data, epochs=300, **options)
    gradfit.fit(LINE, data, epochs=150, checkpoint=file, **options)
    assert gradfit.fit(LINE, data, epochs=300, resume=file, **options).values == whole.values
