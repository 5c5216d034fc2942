"""Several networks trained at a time: folds, seeds, sizes and rates, each with the numbers that it has alone."""

import json
import os
import re
import signal
from dataclasses import replace
from threading import Timer

import numpy as np
import pytest
import torch
from command_line import runner
from numpy.testing import assert_array_equal
from torch import nn

import gradfit
from gradfit.growing.climb import Plan, climb
from gradfit.learn import fit_networks
from gradfit.learn.choosing import train, train_members
from gradfit.learn.optimizer import choice_of
from gradfit.learn.task import Plan as TrainingPlan
from gradfit.learn.task import Samples, Task
from gradfit.solve.snapshot import NOT_KEPT
from gradfit.splitting import folds

DRAW = np.random.default_rng(3)
X = DRAW.uniform(-2, 2, size=(90, 2))
DATA = {"a": X[:, 0], "b": X[:, 1], "y": np.sin(2 * X[:, 0]) + 0.5 * X[:, 1] + DRAW.normal(0, 0.1, 90)}
MODEL = "y ~ network(a, b, hidden=[6])"


def weights(result):
    return torch.cat([p.detach().reshape(-1) for p in result.network.parameters()]).numpy()


# ---------------------------------------------------------------------------- folds


@pytest.mark.parametrize("asked", [{}, {"batch_size": 16}, {"patience": 20, "epochs": 300}], ids=str)
def test_folds_have_the_losses_that_they_have_alone(asked):
    asked = {"epochs": 120, "executor": "native", "seed": 5} | asked
    together = gradfit.fit(MODEL, DATA, kfold=3, **asked)
    alone = [
        gradfit.fit(MODEL, DATA, validation=(split.held + 1).tolist(), **asked)
        for split in folds(90, 3, seed=5)
    ]
    assert together.executor == "native"
    assert sorted(together.validation.folds) == sorted(one.validation.loss for one in alone)
    assert f"for {int(np.median([one.best_epoch for one in alone]))} epochs" in together.how[0]


def test_what_only_torch_can_do_is_done_in_folds_too():
    scheduler = {"scheduler": "OneCycleLR", "scheduler_settings": {"max_lr": 0.1, "total_steps": 40}}
    seen = gradfit.fit(MODEL, DATA, kfold=2, epochs=40, executor="native", **scheduler)
    assert seen.executor == "torch"
    assert "the scheduler changes betas too" in " ".join(seen.how)
    assert np.isfinite(seen.validation.folds).all()


def test_a_callback_sees_the_folds_one_after_the_other():
    seen = []
    _ = gradfit.fit(
        MODEL, DATA, kfold=3, epochs=5, executor="native", callback=lambda now: seen.append(now.epoch)
    )
    assert seen[:15] == [1, 2, 3, 4, 5] * 3


# ---------------------------------------------------------------------------- when it pays


def test_all_the_work_decides_whether_to_compile():
    assert gradfit.fit(MODEL, DATA, epochs=200).executor == "torch"
    folded = gradfit.fit(MODEL, DATA, kfold=8, epochs=200)
    assert folded.executor == "native"
    short = gradfit.fit(MODEL, DATA, kfold=2, epochs=5)
    assert short.executor == "torch"
    spec = gradfit.network(hidden=[4])
    told = [{"target": "y", "epochs": 40, "seed": seed} for seed in range(3)]
    ways = {
        share: [made.executor for made in fit_networks([spec] * 3, DATA, told, share=share)]
        for share in (1, 0.05)
    }
    assert ways == {1: ["torch"] * 3, 0.05: ["native"] * 3}


# ---------------------------------------------------------------------------- seeds, sizes


def test_seeds_and_sizes_have_the_numbers_that_they_have_alone(monkeypatch):
    specs = [gradfit.network(hidden=hidden) for hidden in ([], [3], [7], [5, 4])]
    told = [{"target": "y", "epochs": 60, "seed": seed, "executor": "native"} for seed in range(4)]
    together = fit_networks(specs, DATA, told)
    alone = [gradfit.fit(spec, DATA, **one) for spec, one in zip(specs, told, strict=True)]
    monkeypatch.setattr("gradfit.learn.fit.NUMBERS", 2 * 90 * 3)  # memory for two at a time
    in_parts = fit_networks(specs, DATA, told)
    for members in (together, in_parts):
        for member, one in zip(members, alone, strict=True):
            assert member.executor == "native"
            assert_array_equal(weights(member), weights(one))
            assert_array_equal(member.trail.gradient, one.trail.gradient)
            assert (member.loss, member.k, member.settings["seed"]) == (one.loss, one.k, one.settings["seed"])


def task(epochs, seed=0):
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
    rows = Samples(
        (torch.as_tensor(X, dtype=torch.float32),), torch.as_tensor(DATA["y"], dtype=torch.float32)[:, None]
    )
    plan = TrainingPlan(epochs, 90)
    return Task(module, rows, None, nn.functional.mse_loss, "mse", choice_of("Adam", 0.01, {}, module), plan)


@pytest.mark.parametrize("executor", ["native", "tensor"])
def test_an_interrupt_ends_all(executor):
    timer = Timer(0.4, lambda: os.kill(os.getpid(), signal.SIGINT))
    _ = train(task(2), executor, NOT_KEPT)
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        _ = train_members([task(10**7, seed) for seed in range(4)], executor, [NOT_KEPT] * 4)
    timer.join()


def test_one_that_is_nan_goes_through_torch_and_says_why():
    good, bad = task(50), task(50)
    broken = replace(bad, train=Samples(bad.train.inputs, torch.full_like(bad.train.target, torch.nan)))
    with pytest.raises(gradfit.ModelError, match="before the first update"):
        _ = train_members([good, broken], "native", [NOT_KEPT] * 2)


# ---------------------------------------------------------------------------- rates


def test_rates_are_tried_as_machine_code():
    seen = gradfit.fit(MODEL, DATA, lr="auto", epochs=400, executor="native")
    usual = gradfit.fit(MODEL, DATA, epochs=400, executor="native")
    assert seen.loss < 1.05 * usual.loss
    told = re.sub("\u202f", "", " ".join(seen.how))
    assert (
        "trials from copies of the start, the last of 400 epochs each" in told
    )  # torch has time for a sixth of that


# ---------------------------------------------------------------------------- the ladder


def grown(y, noise=0.1, **asked):
    r = np.random.default_rng(8)
    x = r.uniform(-2, 2, size=(160, 2))
    data = {"a": x[:, 0], "b": x[:, 1], "y": y(x[:, 0], x[:, 1]) + r.normal(0, noise, 160)}
    return gradfit.grow("y ~ network(a, b)", data, **{"seeds": 1, "kfold": 4} | asked), data


def test_a_line_needs_no_hidden_layer():
    seen, _ = grown(lambda a, _: a)
    assert (seen.size, seen.rung.label, seen.rung.parameters) == (0, "linear", 3)
    assert seen.told.startswith("No hidden layer")
    assert [r.size for r in seen.rungs][:4] == [0, 1, 2, 4]
    assert np.asarray(seen.predict({"a": [1.0], "b": [0.5]}).value) == pytest.approx([1.0], abs=0.05)
    assert (seen.chosen.n, seen.rows) == (160, 160)


@pytest.mark.parametrize("y", [lambda a, _: np.sin(3 * a), lambda a, b: a * b], ids=["wave", "product"])
def test_what_bends_needs_some_units(y):
    seen, data = grown(y)
    assert 3 <= seen.size <= 16
    assert seen.best.validation < 0.15 * seen.rungs[0].validation
    assert seen.chosen.k == seen.rung.parameters
    assert seen.chosen.n == 160
    miss = np.asarray(seen.predict(data).value) - data["y"]
    assert np.sqrt(np.mean(miss**2)) < 0.2


def test_more_units_than_usual_are_reached_by_doubling():
    seen, _ = grown(lambda a, _: a, sizes=128, patience=20, epochs=20, kfold=2)
    assert {0, 1, 2, 4, 8, 16, 32, 64, 128} <= {r.size for r in seen.rungs}


def test_sizes_that_are_looked_at_in_any_case_are_planned_together():
    asked = []

    class Steps:
        sizes, patience, seeds, overfull = tuple(range(1, 10)), 2, 1, True

        def label(self, size):
            return f"size {size}"

        def parameters(self, size):
            return size

        def shown(self, sizes, dealt, planned):
            asked.append((list(sizes), planned))
            for size in sizes:
                yield [[(np.ones(3), np.full(3, 1.0 + abs(size - 3))) for _ in splits] for _, splits in dealt]

    way = climb(Steps(), Steps.sizes, Plan([(0, folds(40, 2, seed=0))], 2, "one-se", 1.0))
    assert asked == [([1, 2, 3], 9), ([4, 5], 9)]
    assert way.rungs[way.chosen].size == 3
    assert way.ended == "overfits"


def test_a_ladder_from_the_command_line(tmp_path, monkeypatch, capsys):
    run = runner(tmp_path, monkeypatch, capsys)
    table = np.column_stack([X, DATA["y"]])
    np.savetxt(tmp_path / "d.csv", table, delimiter=",", header="a,b,y", comments="")
    ladder = ("grow", "d.csv", "y ~ network(a, b)", "--sizes", "0,4", "--kfold", "2")
    seen = run(*ladder, "--save", "n.safetensors")
    assert seen.code == 0
    assert "4 hidden units" in seen.out
    told = json.loads(run(*ladder, "--json").out)
    sizes = {r["size"]: r["parameters"] for r in told["rungs"]}
    assert (sizes[0], sizes[4]) == (3, 17)
    assert gradfit.load(tmp_path / "n.safetensors").k == sizes[told["size"]]
    assert told["chosen"]["executor"] == "native"
