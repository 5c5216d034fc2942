"""What has hurt the users of other tools while they trained, and slips that once ended in a traceback here."""

import re

import networks
import numpy as np
import pytest
import torch

import gradfit
from gradfit import GradfitError, OptionError
from gradfit.cli import main

WAVE = networks.wave()
X = np.linspace(0, 3, 40)
LINE = {"x": X, "y": 2 * X + 1 + np.random.default_rng(0).normal(0, 0.1, 40)}
SGD = {"start": [1, 0], "solver": "SGD", "lr": 0.05, "epochs": 20}
NETWORK = {"inputs": ["a", "b"], "target": "y", "executor": "tensor"}


# ---------------------------------------------------------------------------- the rate that is suggested


@pytest.mark.parametrize("solver", ["SGD", "Adam"])
def test_the_suggested_rate_depends_on_no_seed_and_comes_with_its_curve(solver):
    surveys = [
        gradfit.learning_rate("y = a*x + b", LINE, start=[1, 0], solver=solver, epochs=100, seed=seed)
        for seed in (0, 1, 99)
    ]
    assert len({survey.rate for survey in surveys}) == 1
    survey = surveys[0]
    assert survey.losses[np.argmin(abs(np.log(survey.rates / survey.rate)))] < survey.start_loss
    assert re.search(
        "by curvature: the largest stable step" if solver == "SGD" else "range test", survey.told
    )


@pytest.mark.parametrize("epochs", [1, 2])
def test_a_search_of_one_epoch_finds_a_rate_and_changes_nothing_outside(epochs):
    module = networks.dense().train()
    before = networks.dense()
    fits = [gradfit.fit(module, WAVE, **NETWORK, lr="auto", epochs=epochs) for _ in range(2)]
    assert networks.same_bits(module, before) and module.training
    assert networks.same_bits(fits[0].network, fits[1].network)
    assert all(p.grad is None for p in module.parameters())


# ---------------------------------------------------------------------------- the best state


@pytest.mark.parametrize("executor", ["tensor", "native"])
@pytest.mark.parametrize("validation", [None, 0.3])
@pytest.mark.parametrize(("solver", "lr"), [("Adam", 1e30), ("SGD", 30.0)])
def test_a_network_that_diverged_is_never_worse_than_its_start(solver, lr, validation, executor):
    asked = {**NETWORK, "executor": executor, "validation": validation}
    start = gradfit.fit(networks.dense(), WAVE, **asked, solver="SGD", lr=1e-30, epochs=1)
    result = gradfit.fit(networks.dense(), WAVE, **asked, solver=solver, lr=lr, epochs=40)
    assert result.ending == "diverged" and result.verdict == "no"
    assert result.loss <= start.loss * (1 + 1e-5)
    if validation:
        assert result.validation.loss <= start.validation.loss * (1 + 1e-5)


def test_a_validation_loss_that_is_nan_is_no_progress_of_a_network():
    class Root(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = networks.sequential(lambda: torch.nn.Linear(1, 1))

        def forward(self, x):
            return self.line(x) + torch.sqrt(1 - x)  # NaN beyond 1, where rows are held out

    data = {"x": [0.0, 0.2, 0.4, 0.6, 3.0, 4.0], "y": [1.0, 0.9, 0.8, 0.6, 0.0, 0.0]}
    result = gradfit.fit(
        Root(), data, inputs=["x"], target="y", validation=[5, 6], patience=3, epochs=50, lr=0.01, executor="tensor"
    )  # fmt: skip
    assert np.isnan(result.history.validation).all()
    assert len(result.history.epoch) == 3 and result.best_epoch == 0
    assert result.verdict != "trust"


# ---------------------------------------------------------------------------- going on


def test_early_stopping_remembers_its_best_value_when_it_goes_on(tmp_path):
    few = networks.wave(30)
    asked = {**NETWORK, "validation": 0.4, "patience": 25, "solver": "Adam", "lr": 0.05}
    whole = gradfit.fit(networks.dense(units=32), few, **asked, epochs=500)
    assert whole.ending == "patience"
    file = tmp_path / "run.ckpt"
    cut = whole.best_epoch + 10  # while it waits
    gradfit.fit(networks.dense(units=32), few, **asked, epochs=cut, checkpoint=file, checkpoint_every=1)
    resumed = gradfit.fit(networks.dense(units=32), few, **asked, epochs=500, resume=file)
    assert (resumed.ending, resumed.best_epoch) == ("patience", whole.best_epoch)
    assert len(resumed.history.epoch) == len(whole.history.epoch)
    assert networks.same_bits(resumed.network, whole.network)


# ---------------------------------------------------------------------------- the split


def test_no_split_is_hidden():
    formula = gradfit.fit("y = a*x + b", LINE, **SGD, validation=0.2)
    assert formula.how[0] == "Rows: train 32, validation 8 rows (at random, seed 0)"
    network = gradfit.fit(networks.dense(), WAVE, **NETWORK, validation=0.2, epochs=2, seed=7)
    assert (network.n, network.validation.n, network.validation.how) == (96, 24, "at random, seed 7")
    plain = gradfit.fit(networks.dense(), WAVE, **NETWORK, epochs=2)
    assert (plain.n, plain.validation) == (120, None)


# ---------------------------------------------------------------------------- types


@pytest.mark.parametrize("kind", [bool, np.uint8, np.int64, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_a_target_of_any_type_suits_every_loss(kind, precision):
    codes = (WAVE["y"] > 0).astype(kind)
    data = {"a": WAVE["a"].astype(np.float32), "b": WAVE["b"], "y": codes}
    made = {
        loss: gradfit.fit(networks.dense(outputs=width), data, **NETWORK, loss=loss, precision=precision, epochs=1)
        for loss, width in (("mse", 1), ("bce", 1), ("cross-entropy", 2), ("poisson", 1))
    }  # fmt: skip
    assert all(np.isfinite(result.loss) for result in made.values())


# ---------------------------------------------------------------------------- slips


SLIPS = {
    "groups as a list": ({"validation": 0.2, "groups": [1, 2]}, "groups= is .* must be the name of a column"),
    "order as a number": ({"validation": 0.2, "order": 3}, "order= is 3, and must be the name of a column"),
    "min_delta in words": ({"validation": 0.2, "patience": 3, "min_delta": "small"}, "min_delta is 'small'"),
    "no seed": ({"seed": None}, "seed is None"),
    "a seed in words": ({"seed": "one"}, "seed is 'one'"),
    "a seed of 70 bits": ({"seed": 2**70}, "seed is 1180591620717411303424"),
    "a callback that is none": ({"callback": 3}, "callback= is 3, which cannot be called"),
    "epochs beyond counting": ({"epochs": 1e300}, r"epochs is 1e\+300"),
    "a column of numbers as flags": ({"validation": "x"}, "x holds .*, and says not which rows to hold out"),
    "a file that is not there": (
        {"validation": "later.csv"},
        "no column later.csv in arrays, and no file of that name",
    ),
    "all rows": ({"validation": [True] * 40}, "leaves none to train on"),
    "no rows": ({"validation": []}, "holds out none"),
    "too few flags": ({"validation": [True] * 3}, "has 3 truth values"),
    "a row that is none": ({"validation": [41]}, "There is no row 41"),
    "a folder as checkpoint": ({"checkpoint": "."}, "checkpoint='.' is no name of a file"),
}


@pytest.mark.parametrize("slip", SLIPS)
def test_a_slip_of_a_training_is_a_sentence(slip):
    asked, sentence = SLIPS[slip]
    with pytest.raises(GradfitError, match=sentence) as raised:
        gradfit.fit("y = a*x + b", LINE, **{**SGD, **asked})
    assert raised.value.remedy


class Complex(torch.nn.Module):
    """Returns complex numbers."""

    def __init__(self):
        super().__init__()
        self.line = networks.sequential(lambda: torch.nn.Linear(2, 1))

    def forward(self, x):
        y = self.line(x)
        return torch.complex(y, y)


NETWORK_SLIPS = {
    "complex": (Complex, {}, "Complex returns complex numbers"),
    "meta": (lambda: torch.nn.Linear(2, 1, device="meta"), {}, "weight is on the device meta"),
    "target as a number": (networks.dense, {"target": 3}, "target= is 3, and names no columns"),
    "no inputs": (networks.dense, {"inputs": []}, r"inputs= is \[\], and names no columns"),
    "a set of inputs": (networks.dense, {"inputs": {"a", "b"}}, "inputs= is .* and names no columns in an order"),
    "an input twice": (networks.dense, {"inputs": ["a", "a"]}, "inputs= names a twice"),
    "a loss that is a float": (networks.dense, {"loss": lambda f, y: 1.0}, "returns float, and must return a tensor"),
    "a loss in words": (networks.dense, {"loss": lambda f, y: "low"}, "returns str, and must return a tensor"),
    "a callback that is none": (networks.dense, {"callback": 3}, "callback= is 3, which cannot be called"),
    "a seed of 70 bits": (networks.dense, {"seed": 2**70}, "seed is 1180591620717411303424"),
    "groups as a list": (networks.dense, {"validation": 0.2, "groups": [1]}, "groups= is .* must be the name of a column"),
}  # fmt: skip


@pytest.mark.parametrize("slip", NETWORK_SLIPS)
def test_a_slip_of_a_network_is_a_sentence(slip):
    make, asked, sentence = NETWORK_SLIPS[slip]
    with pytest.raises(GradfitError, match=sentence) as raised:
        gradfit.fit(make(), WAVE, **{**NETWORK, "epochs": 2, **asked})
    assert raised.value.remedy


def test_a_module_that_draws_in_eval_mode_leaves_the_random_state_of_torch():
    class Restless(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = networks.sequential(lambda: torch.nn.Linear(2, 1))

        def forward(self, x):
            return self.line(torch.nn.functional.dropout(x, 0.3))  # which is on unless training= is given

    before = torch.get_rng_state()
    fits = [gradfit.fit(Restless(), WAVE, **NETWORK, epochs=3, validation=0.2, lr="auto") for _ in range(2)]
    for result in fits:
        assert result.findings is not None and len(result.predict()) == result.n
    assert torch.equal(torch.get_rng_state(), before)
    assert fits[0].loss == fits[1].loss


@pytest.mark.parametrize("size", [1e-320, 1e300])
def test_numbers_at_the_ends_of_the_range(size):
    data = {"x": X * size, "y": LINE["y"] * size}
    result = gradfit.fit("y = a*x + b", data, **SGD)
    assert np.isfinite(result.parameters).all() and result.findings is not None
    survey = gradfit.learning_rate("y = a*x + b", data, start=[1, 0], epochs=20)
    assert survey.rate > 0
    start = survey.to_dict()["start_loss"]
    assert start is None or np.isfinite(start)


def test_an_input_far_out_of_range_has_no_finite_scatter_and_no_warning():
    result = gradfit.fit("y = a*x + b", {"x": X * 1e300, "y": LINE["y"]}, **SGD)
    assert result.findings is not None and str(result)


def test_a_network_on_the_largest_doubles():
    data = {**WAVE, "y": np.where(WAVE["a"] > 0, 1.7e308, -1.7e308)}
    with pytest.raises(GradfitError, match=r"y holds .* too large for float32"):
        gradfit.fit("y ~ network(a, b, hidden=[4])", data, epochs=2)
    half = {**WAVE, "y": data["y"] / 2}
    result = gradfit.fit("y ~ network(a, b, hidden=[4])", half, epochs=2)
    assert result.findings is not None and np.isfinite(result.loss)


def test_a_survey_of_levenberg_marquardt():
    with pytest.raises(OptionError, match="Levenberg-Marquardt has no learning rate"):
        gradfit.learning_rate("y = a*x + b", LINE, solver="lm", epochs=5)


@pytest.mark.parametrize("folder", ["taken", "taken/under"])
def test_a_folder_that_tensorboard_cannot_write(folder, tmp_path):
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(OptionError, match=r"TensorBoard's folder .* cannot be written"):
        gradfit.TensorBoard(tmp_path / folder)


def test_a_name_of_a_file_that_is_none():
    result = gradfit.fit("y = a*x + b", LINE, **SGD)
    for write in (result.save, result.animate):
        with pytest.raises(OptionError, match="3"):
            write(3)


def test_the_model_comes_first_when_it_grows_as_in_fit():
    with pytest.raises(GradfitError, match="dict is no text, and does not say what to grow") as raised:
        gradfit.grow(LINE, "y ~ polynomial(x)")
    assert len(str(raised.value)) < 200


def test_ctrl_c_in_a_command_is_said(tmp_path, monkeypatch, capfd):
    def stopped(*_arguments, **_options):
        raise KeyboardInterrupt

    file = tmp_path / "line.csv"
    file.write_text("x,y\n0,1\n1,3\n2,5\n")
    monkeypatch.setattr("gradfit.cli.rates.learning_rate", stopped)
    assert main(["lr", str(file), "y = a*x + b"]) == 130
    assert "Interrupted before there was a result; nothing was written" in capfd.readouterr().err


def test_the_line_to_run_says_each_option_once(tmp_path, capfd):
    file = tmp_path / "line.csv"
    file.write_text("x,y\n0,1\n1,3\n2,5\n")
    assert main(["fit", str(file), "y = a*x", "--kfold", "9", "--seed", "1"]) == 2
    said = " ".join(capfd.readouterr().err.split())
    assert said.count("--kfold 3") == 2 and "--kfold 9" not in said  # in the remedy and in the line


def test_a_layer_that_no_memory_holds():
    with pytest.raises(OptionError, match="hidden is"):
        gradfit.fit("y ~ network(a, b, hidden=[99999999999])", WAVE, epochs=1)
