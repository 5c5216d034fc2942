"""Noise on the inputs and mixed rows in trainings: what is drawn, what it does, and how much is best."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import gradfit
import gradfit.cli
from gradfit.perturbing import spread
from gradfit.training import COMPILED

RNG = np.random.default_rng(0)
X = RNG.uniform(0, 10, 60)
DATA = {"x": X, "y": 2 * X + 1 + RNG.normal(0, 1, 60)}
LINE = "y = a*x + b"
SGD = {"start": [1, 0], "solver": "SGD", "lr": 0.02, "epochs": 200}
DECAY = {"scheduler": "ExponentialLR", "scheduler_settings": {"gamma": 0.985}, "scale": "auto", "lr": 0.3}


def fitted(data=DATA, formula=LINE, **options):
    return gradfit.fit(formula, data, **{**SGD, **options})


# ---------------------------------------------------------------------------- what it does


@pytest.mark.parametrize("size", [0.1, 0.5])
def test_noise_shrinks_a_slope_as_a_ridge_does(size):
    # E[(a (x + s ε) + b - y)²] is least at a/(1 + s²/var(x)): Bishop (1995)
    result = fitted(noise=size, **{**DECAY, "epochs": 400})
    plain = np.polyfit(X, DATA["y"], 1)[0]
    assert result.values["a"] == pytest.approx(plain / (1 + size**2), rel=0.02)
    assert result.converged
    assert result.verdict == "trust"


def test_mixing_rows_of_a_line_leaves_the_line():
    exact = {"x": X, "y": 2 * X + 1}
    result = fitted(exact, mixup=0.4, **{**DECAY, "scheduler_settings": {"gamma": 1.0}, "epochs": 300})
    assert list(result.values.values()) == pytest.approx([2, 1], rel=1e-6)


def test_only_the_named_column_has_noise():
    x, z = np.tile([-1.0, 1.0], 16), np.repeat([-1.0, 1.0], 16)
    result = fitted(
        {"x": x, "z": z, "y": 2 * x + 3 * z}, "y = a*x + b*z", start=[0, 0], noise={"z": 0.5}, **{**DECAY, "epochs": 500}
    )  # fmt: skip
    assert result.values["b"] == pytest.approx(3 / 1.25, rel=0.03)
    assert result.values["a"] == pytest.approx(2, rel=0.03)


def test_codes_of_classes_stay_as_they_are():
    data = {"x": X, "kind": np.where(X > 5, "late", "early"), "y": DATA["y"]}
    formula = 'y = a*x + where(kind == "late", b, c)'
    result = fitted(data, formula, start=[1, 0, 0], noise=0.2, mixup=0.2, epochs=20)
    assert np.isfinite(result.parameters).all()
    with pytest.raises(gradfit.OptionError, match="kind, which is no input of the model that is a number"):
        fitted(data, formula, start=[1, 0, 0], noise={"kind": 1})
    with pytest.raises(gradfit.OptionError, match="noise= changes inputs that are numbers"):
        fitted(data, 'y = where(kind == "late", b, c)', start=[0, 0], noise=0.1)


def test_a_penalty_and_noise_go_together():
    result = fitted(noise=0.1, penalty="ridge:0.1", epochs=50)
    assert result.shrinkage.strength == 0.1
    assert any("Each update saw noise of 0.100 standard deviations" in said for said in result.how)


# ---------------------------------------------------------------------------- what is drawn


def test_the_loop_is_the_one_that_a_hand_would_write():
    result = fitted(noise=0.3, seed=5, epochs=30)
    draw = torch.Generator().manual_seed(5)
    x, y = torch.tensor(X), torch.tensor(DATA["y"])
    w = torch.tensor([1.0, 0.0], dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.SGD([w], lr=0.02)
    for _ in range(30):
        optimizer.zero_grad()
        noisy = x + 0.3 * x.std(correction=0) * torch.randn(60, generator=draw, dtype=torch.float64)
        ((w[0] * noisy + w[1] - y) ** 2).mean().backward()
        optimizer.step()
    assert result.parameters.tolist() == pytest.approx(w.tolist(), rel=1e-12)


@pytest.mark.parametrize(
    "options", [{"noise": 0.2}, {"mixup": 0.5}, {"noise": 0.2, "mixup": 0.5, "batch_size": 16}]
)
def test_the_seed_decides_and_torch_is_left_alone(options):
    before = torch.get_rng_state().tolist()
    one, same, other = (fitted(epochs=20, seed=seed, executor="native", **options) for seed in (1, 1, 2))
    assert torch.get_rng_state().tolist() == before
    assert one.values == same.values != other.values
    assert one.executor != COMPILED
    assert "the compiled loop has no noise and mixes no rows" in one.how[-1]


def test_an_optimizer_that_looks_twice_sees_the_same_rows():
    result = fitted(solver="LBFGS", lr=1.0, epochs=1, noise=0.3, max_iter=20)
    draw = torch.Generator().manual_seed(0)
    noisy = X + 0.3 * X.std() * torch.randn(60, generator=draw, dtype=torch.float64).numpy()
    assert result.outcome.parameters == pytest.approx(np.polyfit(noisy, DATA["y"], 1), rel=1e-5)


def test_held_out_rows_are_never_perturbed():
    one = fitted(noise=0.5, validation=0.25, epochs=50)
    held = np.isin(np.arange(1, 61), one.data.rows, invert=True)
    miss = DATA["y"][held] - one.predict({"x": X[held]}).value
    assert one.validation.loss == pytest.approx(np.mean(miss**2), rel=1e-12)
    moved = {"x": np.where(held, X + 7, X), "y": np.where(held, 100.0, DATA["y"])}
    assert (
        fitted(moved, noise=0.5, validation=(np.flatnonzero(held) + 1).tolist(), epochs=50).values
        == one.values
    )


def test_a_checkpoint_goes_on_with_the_same_draws(tmp_path):
    options = {"noise": 0.2, "mixup": 0.3, "batch_size": 20, "seed": 3}
    whole, file = fitted(**options, epochs=40), tmp_path / "half.safetensors"
    fitted(**options, epochs=40, checkpoint=file, checkpoint_every=20, on_epoch=lambda now: now.epoch == 20)
    assert fitted(**options, epochs=40, resume=file).values == whole.values
    with pytest.raises(gradfit.OptionError, match="noise"):
        fitted(**{**options, "noise": 0.3}, epochs=40, resume=file)


@given(st.floats(-1e12, 1e12), st.floats(1e-6, 1e290))
def test_a_spread_in_any_unit(offset, unit):
    x = np.array([1.0, 2.0, 4.0, 8.0])
    assert spread(unit * x) == pytest.approx(unit * np.std(x), rel=1e-12)
    assert spread(np.full(5, offset)) == 0.0


# ---------------------------------------------------------------------------- how much


def test_strengths_are_tried_in_folds():
    result = fitted(noise="auto", epochs=60, scale="auto", lr=0.3)
    path = result.path
    assert path.chosen == np.argmin(path.loss)
    assert path.kind == "noise"
    splits = gradfit.splitting.folds(60, 5, seed=0)
    losses = []
    for split in splits:
        part = {name: column[split.train] for name, column in DATA.items()}
        a, b = fitted(part, noise=float(path.strength[0]), epochs=60, scale="auto", lr=0.3).parameters
        losses.append(np.mean((a * X[split.held] + b - DATA["y"][split.held]) ** 2))
    assert path.loss[0] == pytest.approx(np.mean(losses), rel=1e-9)
    assert path.strength[path.chosen] <= 0.1  # a line through sixty points needs none
    assert any("found by 5-fold cross-validation" in said for said in result.how)
    assert path.parameters[path.chosen] == pytest.approx(result.parameters, rel=1e-12)
    assert path.plot().get_axes()


def test_noise_that_leaves_the_domain_loses():
    data = {"x": np.linspace(0.3, 3, 40), "y": np.log(np.linspace(0.3, 3, 40))}
    asked = {"formula": "y = a*log(x) + b", "start": [0.5, 0.5], "solver": "Adam", "lr": 0.05, "epochs": 40}
    with pytest.raises(gradfit.ModelError, match="With noise on its inputs the model is not finite"):
        fitted(data, noise=1.0, **asked)
    path = fitted(data, noise="auto", **asked).path
    assert path.loss[0] == np.inf
    assert np.isfinite(path.loss[path.chosen])


# ---------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"noise": 0.1, "solver": "lm"}, "noise= needs an optimizer of torch"),
        ({"mixup": 0.1, "solver": "lm"}, "mixup= needs an optimizer of torch"),
        ({"noise": -0.1}, "noise=-0.1 must be 0 or more"),
        ({"noise": np.nan}, "noise=nan must be 0 or more"),
        ({"noise": True}, "noise=True must be 0 or more"),
        ({"noise": "much"}, "noise='much' must be 0 or more"),
        ({"noise": {"x": "auto"}}, "noise='auto' must be 0 or more"),
        ({"noise": {"z": 0.1}}, "noise= names z, which is no input"),
        ({"mixup": "auto"}, "mixup='auto' must be 0 or more"),
        ({"on_epoch": print, "solver": "lm"}, "on_epoch= is for trainings"),
        ({"on_epoch": print, "callback": print}, "callback= and on_epoch= were both given"),
    ],
)
def test_what_makes_no_sense(options, said):
    chosen = {"start": [1, 0], "solver": "SGD", **options}
    with pytest.raises(gradfit.OptionError, match=said):
        gradfit.fit(LINE, DATA, **chosen)


def test_few_rows_tell_no_strength():
    with pytest.raises(
        gradfit.DataError, match="9 rows cannot be cut into 5 folds to find the strength of the noise"
    ):
        fitted({name: column[:9] for name, column in DATA.items()}, noise="auto")


def test_a_model_without_inputs():
    with pytest.raises(
        gradfit.OptionError, match="noise= changes inputs that are numbers, and the model has none"
    ):
        fitted({"y": DATA["y"]}, "y = a", start=[1], noise=0.1)


@pytest.mark.parametrize("options", [{"noise": 0}, {"mixup": 0}, {"noise": {}}, {"noise": 0.0, "mixup": 0.0}])
def test_none_at_all_changes_nothing(options):
    assert fitted(**options).values == fitted().values


def test_a_constant_column_has_none():
    data = {"x": X, "k": np.full(60, 3.0), "y": DATA["y"]}
    assert (
        fitted(data, "y = a*x + b*k", noise={"k": 5.0}).values
        == fitted(data, "y = a*x + b*k", executor="numpy").values
    )


# ---------------------------------------------------------------------------- on_epoch


def test_on_epoch_stops_trainings_of_formulas_and_networks():
    seen = []
    result = fitted(on_epoch=lambda now: seen.append(now.epoch) or now.epoch == 7)
    assert seen == list(range(1, 8)) == list(range(1, result.iterations + 1))
    module = torch.nn.Sequential(torch.nn.Linear(1, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1))
    trained = gradfit.fit(
        module, DATA, inputs=["x"], target="y", epochs=50, on_epoch=lambda now: now.epoch == 5
    )
    assert len(trained.history.epoch) == 5


def test_on_the_command_line(tmp_path, capsys):
    file = tmp_path / "data.csv"
    np.savetxt(file, np.column_stack([X, DATA["y"]]), delimiter=",", header="x,y", comments="")
    told = ["--start", "1,0", "--solver", "SGD", "--lr", "0.02", "--epochs", "200"]
    code = gradfit.cli.main(
        ["fit", str(file), LINE, *told, "--noise", "x=0.1", "--mixup", "0.2", "--verbose", "--quiet"]
    )
    assert code in (0, 1)
    said = capsys.readouterr().err
    assert (
        "noise of 0.100 of x, in standard deviations, on the inputs and rows mixed with others, shares from Beta(0.2, 0.2)"
        in said
    )
    assert gradfit.cli.main(["fit", str(file), LINE, *told, "--noise", "much"]) == 2
    assert "--noise must be a number, and is 'much'" in capsys.readouterr().err
