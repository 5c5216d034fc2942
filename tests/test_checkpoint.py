"""Checkpoints: a run that was killed and goes on has the bits of one that was not, and a bad file is a sentence."""

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import gradfit
from gradfit.errors import GradfitError
from gradfit.training import COMPILED

RNG = np.random.default_rng(5)
X = np.sort(RNG.uniform(0, 4, 40))
DATA = {"x": X, "y": 3 * np.exp(-1.3 * X) + 0.5 + RNG.normal(0, 0.1, 40)}
MODEL, START = "y = a*exp(-b*x) + c", {"a": 1.0, "b": 1.0, "c": 0.0}


def fitted(**options):
    """A small training; where nothing is said it is one compiled loop."""
    chosen = {
        "executor": "native",
        "start": START,
        "solver": "Adam",
        "lr": 0.02,
        "epochs": 200,
        "validation": 0.25,
        **options,
    }
    return gradfit.fit(MODEL, DATA, **chosen)


def same_bits(one, other):
    """Everything that training leaves behind, to the bit."""
    assert one.executor == other.executor
    assert (one.status, one.message, one.iterations, one.evaluations) == (
        other.status,
        other.message,
        other.iterations,
        other.evaluations,
    )
    assert_array_equal(one.parameters, other.parameters)
    for name in ("step", "loss", "gradient", "parameters"):
        assert_array_equal(getattr(one.history, name), getattr(other.history, name))
    if one.validation is not None:
        for name in ("step", "train", "validation"):
            assert_array_equal(getattr(one.validation.history, name), getattr(other.validation.history, name))
        assert one.validation.best_values == other.validation.best_values


RUNS = {
    "Adam": {},
    "SGD": {"solver": "SGD", "momentum": 0.9, "nesterov": True, "lr": 0.005},
    "ASGD": {"solver": "ASGD", "lr": 0.01},
    "Rprop": {"solver": "Rprop"},
    "RMSprop": {"solver": "RMSprop", "centered": True, "momentum": 0.5},
    "LBFGS": {"solver": "LBFGS", "lr": 0.1, "epochs": 30, "max_iter": 2},
    "batches": {"batch_size": 7, "seed": 3, "epochs": 60},
    "decayed": {"scheduler": "ExponentialLR", "scheduler_settings": {"gamma": 0.99}},
    "plateau": {"scheduler": "ReduceLROnPlateau", "scheduler_settings": {"patience": 3, "threshold": 0.01}},
    "cyclic": {
        "scheduler": "OneCycleLR",
        "scheduler_settings": {"max_lr": 0.05, "total_steps": 100},
        "batch_size": 20,
        "epochs": 100,
    },
    "patience": {"patience": 20, "epochs": 1000, "lr": 0.1},
    "float32": {"dtype": "float32"},
    "bounds": {"bounds": {"b": (0.5, 1.2)}},
    "robust": {"loss": "huber", "validation": None},
    "scaled": {"scale": "auto"},
}


@pytest.mark.parametrize("executor", ["numpy", "native"])
@pytest.mark.parametrize("name", RUNS)
def test_a_run_in_two_parts_is_the_run_in_one(name, executor, tmp_path):
    options, file = {**RUNS[name], "executor": executor}, tmp_path / "run.ckpt"
    whole = fitted(**options)
    middle = min(87, whole.iterations // 2)
    first = fitted(**options, checkpoint=file, checkpoint_every=30, callback=lambda now: now.epoch == middle)
    assert first.iterations == middle
    same_bits(fitted(**options, resume=file), whole)
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("executor", ["numpy", "native"])
def test_a_finished_run_is_there_at_once_and_can_be_made_longer(executor, tmp_path):
    file = tmp_path / "run.ckpt"
    done = fitted(executor=executor, checkpoint=file)
    same_bits(fitted(executor=executor, resume=file), done)
    longer = fitted(executor=executor, resume=file, epochs=330, checkpoint=file)
    assert_array_equal(longer.parameters, fitted(executor=executor, epochs=330).parameters)
    assert longer.iterations == 330


KILLED = """
import sys, os, signal
sys.path.insert(0, {tests!r})
from test_checkpoint import fitted
def die(now):
    if now.epoch == 133:
        os.kill(os.getpid(), signal.SIGKILL)
fitted(executor={executor!r}, epochs=200, batch_size=20, checkpoint={file!r}, checkpoint_every=100, callback=die)
"""


@pytest.mark.parametrize("executor", ["numpy", "native"])
def test_kill_9_and_resume(executor, tmp_path):
    file = str(tmp_path / "run.ckpt")
    code = KILLED.format(tests=os.path.dirname(__file__), executor=executor, file=file)  # noqa: PTH120
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    again = fitted(executor=executor, epochs=200, batch_size=20, resume=file)
    same_bits(again, fitted(executor=executor, epochs=200, batch_size=20))


LOOPING = """
import sys
sys.path.insert(0, {tests!r})
from test_checkpoint import fitted
fitted(executor="native", epochs=4_000_000, checkpoint={file!r}, checkpoint_every=20_000)
"""


def test_the_loop_without_callbacks_is_killed_anywhere(tmp_path):
    file = tmp_path / "run.ckpt"
    code = LOOPING.format(tests=os.path.dirname(__file__), file=str(file))  # noqa: PTH120
    process = subprocess.Popen([sys.executable, "-c", code])
    while not file.exists() and process.poll() is None:
        time.sleep(0.02)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    again = fitted(executor="native", epochs=300_000, resume=file)
    assert again.executor == COMPILED
    assert_array_equal(again.parameters, fitted(executor="native", epochs=300_000).parameters)


# ---------------------------------------------------------------------------- files that cannot be gone on from


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    file = tmp_path_factory.mktemp("kept") / "run.ckpt"
    fitted(checkpoint=file, checkpoint_every=100)
    return file


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"lr": 0.01}, "lr is 0.02 there, and 0.01 here"),
        ({"solver": "SGD"}, "optimizer is Adam there, and SGD here"),
        ({"validation": 0.5}, "the data differs"),
        ({"validation": None}, "another training"),
        ({"start": {"a": 2.0, "b": 1.0, "c": 0.0}}, "start differs"),
        ({"bounds": {"a": (0, None)}}, "bounds differs"),
        ({"fixed": {"c": 0.5}, "start": {"a": 1.0, "b": 1.0}}, "another training"),
        ({"batch_size": 5}, "batch_size is None there, and 5 here"),
        ({"loss": "huber:0.1"}, "loss is squared there"),
        ({"dtype": "float32"}, "dtype is float64 there"),
        ({"amsgrad": True}, "its settings is|its settings are"),
        ({"patience": 5}, "patience"),
        ({"epochs": 150}, "after 200 epochs, and epochs=150 asks for fewer"),
        ({"scheduler": "ExponentialLR", "scheduler_settings": {"gamma": 0.9}}, "scheduler is None there"),
        ({"executor": "numpy"}, "made by the compiled loop"),
    ],
)
def test_a_checkpoint_of_another_training_is_a_sentence(kept, options, words):
    with pytest.raises(GradfitError, match=words):
        fitted(**{**options, "resume": kept})


def test_a_checkpoint_of_another_model_is_a_sentence(kept):
    with pytest.raises(GradfitError, match=r"another training: model is y = a\*exp"):
        gradfit.fit(
            "y = a*exp(-b*x) + c + 0*a", DATA, start=START, solver="Adam", lr=0.02, epochs=200, resume=kept
        )


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.3, 0.5, 0.9, 0.999])
def test_a_torn_checkpoint_is_a_sentence(kept, share, tmp_path):
    torn, whole = tmp_path / "torn.ckpt", kept.read_bytes()
    torn.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(GradfitError, match=r"torn\.ckpt is torn or damaged"):
        fitted(resume=torn)


@pytest.mark.parametrize("place", [0.2, 0.5, 0.95])
def test_a_flipped_bit_is_noticed(kept, place, tmp_path):
    damaged, data = tmp_path / "damaged.ckpt", bytearray(kept.read_bytes())
    data[int(place * len(data))] ^= 4
    damaged.write_bytes(bytes(data))
    with pytest.raises(GradfitError, match=r"torn or damaged|another training|another version|no checkpoint"):
        fitted(resume=damaged)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"resume": "nowhere.ckpt"}, r"nowhere\.ckpt does not exist"),
        ({"resume": "."}, "no name of a file"),
        ({"resume": 5}, "no name of a file"),
        ({"checkpoint": "nowhere/run.ckpt"}, "no folder nowhere"),
        ({"checkpoint": ""}, "no name of a file"),
        ({"checkpoint_every": 10}, "there is no file"),
        ({"checkpoint": "run.ckpt", "checkpoint_every": 0}, "checkpoint_every is 0"),
        ({"checkpoint": "run.ckpt", "checkpoint_every": 1.5}, r"checkpoint_every is 1\.5"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(options, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(GradfitError, match=words):
        fitted(**options)
    assert not list(tmp_path.iterdir())


def test_any_other_file_is_no_checkpoint(tmp_path):
    from safetensors.numpy import save_file

    file = tmp_path / "weights.safetensors"
    save_file({"w": np.zeros(3)}, file)
    with pytest.raises(GradfitError, match="no checkpoint of gradfit"):
        fitted(resume=file)


@pytest.mark.parametrize("name", ["checkpoint", "checkpoint_every", "resume"])
def test_levenberg_marquardt_has_no_checkpoints(name):
    with pytest.raises(GradfitError, match=f"{name}= is for optimizers of torch"):
        gradfit.fit(MODEL, DATA, start=START, **{name: 5})


def test_a_full_disk_is_a_sentence(tmp_path):
    folder = tmp_path / "there"
    folder.mkdir()
    (folder / "run.ckpt").mkdir()  # a folder where the file should go
    with pytest.raises(GradfitError, match="could not be written"):
        fitted(checkpoint=folder / "run.ckpt", checkpoint_every=10)


class Odd:
    """No plain value."""


def test_an_optimizer_with_a_strange_state_is_a_sentence(tmp_path):
    import torch

    class Strange(torch.optim.SGD):
        def step(self, closure=None):
            self.state[self.param_groups[0]["params"][0]]["odd"] = Odd()
            return super().step(closure)

    with pytest.raises(GradfitError, match="cannot hold the state of Strange: there is a Odd in it"):
        fitted(solver=Strange, checkpoint=tmp_path / "run.ckpt", executor="numpy", epochs=20)
