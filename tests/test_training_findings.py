"""Findings about trainings: the first cause, its number, and a remedy that mends it when it is pasted."""

import ast
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from objectives import T_C, T_U, T_UN

import gradfit
from gradfit.diagnose import Way
from gradfit.diagnose.about_training import BOTH, stopped
from gradfit.evidence import evidence_of
from gradfit.way import turning

RAW = {"t_u": np.array(T_U), "t_c": np.array(T_C)}
SCALED = {"t_un": np.array(T_UN), "t_c": np.array(T_C)}
TRAINING = ("lr-too-large", "lr-too-small", "gradient-scale", "not-converged")
LINE, SCALED_LINE = ("t_c = w*t_u + b", RAW), ("t_c = w*t_un + b", SCALED)


def fitted(problem, **options):
    return gradfit.fit(*problem, start=[1, 0], **options)


def about_training(result):
    return [f for f in result.findings if f.code in TRAINING]


def pasted(remedy):
    call = ast.parse(f"f({remedy})", mode="eval").body
    return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


SICK = {
    "beyond the limit": ("lr-too-large", LINE, {"solver": "SGD", "lr": 1e-2, "epochs": 5000}),
    "just beyond it": ("lr-too-large", LINE, {"solver": "SGD", "lr": 3.5e-4, "epochs": 5000}),
    "momentum": ("lr-too-large", SCALED_LINE, {"solver": "SGD", "lr": 0.08, "momentum": 0.9, "epochs": 2000}),
    "bouncing": ("lr-too-large", SCALED_LINE, {"solver": "RMSprop", "lr": 1.0, "epochs": 4000}),
    "slow": ("lr-too-small", SCALED_LINE, {"solver": "SGD", "lr": 1e-4, "epochs": 5000}),
    "slow Adam": ("lr-too-small", LINE, {"solver": "Adam", "lr": 1e-3, "epochs": 5000}),
    "unscaled": ("gradient-scale", LINE, {"solver": "SGD", "lr": 1e-4, "epochs": 5000}),
    "too few": ("not-converged", SCALED_LINE, {"solver": "SGD", "lr": 2.5e-2, "epochs": 600}),
}


@pytest.mark.parametrize("name", SICK)
def test_the_first_cause_and_its_remedy(name):
    code, problem, options = SICK[name]
    result = fitted(problem, **options)
    found = about_training(result)
    assert [f.code for f in found] == [code]
    assert found[0].severity in ("warning", "error")
    assert result.verdict == "no"
    after = fitted(problem, **{**options, **pasted(found[0].remedy)})
    assert about_training(after) == []
    assert after.converged
    assert_allclose(after.rss, gradfit.fit(*problem).rss, rtol=1e-3)


def test_the_sentences_of_the_reference_example():
    beyond = about_training(fitted(LINE, solver="SGD", lr=1e-2, epochs=5000))[0]
    assert beyond.message == (
        "lr=0.01 is 29 times the largest stable step of SGD here, 0.000340; the loss grew beyond all bounds."
    )
    stalled = fitted(LINE, solver="SGD", lr=1e-4, epochs=5000)
    assert stalled.status == "stalled"
    assert "the slowest direction needs about 300 000 epochs more" in stalled.message.replace("\u202f", " ")
    assert about_training(stalled)[0].remedy == 'lr="auto", scale="auto"'


def test_the_epochs_that_are_foreseen_are_enough_and_fewer_are_not():
    part = fitted(LINE, solver="SGD", lr=3e-4, epochs=20000)
    needed = about_training(part)[0].evidence["needed"]
    early, late = (
        fitted(LINE, solver="SGD", lr=3e-4, epochs=20000 + int(share * needed)) for share in (0.95, 1.05)
    )
    assert not early.converged
    assert late.converged


@pytest.mark.parametrize("lr", [1e-3, 1e-2, 2.5e-2])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_a_training_that_arrives_is_not_blamed(lr, momentum):
    result = fitted(SCALED_LINE, solver="SGD", lr=lr, momentum=momentum, epochs=60000)
    assert result.converged
    assert about_training(result) == []


def test_early_stopping_is_no_defect():
    out = np.arange(11) % 3 == 0
    data = {
        "t_un": SCALED["t_un"],
        "t_c": np.where(out, SCALED["t_un"], SCALED["t_c"]),
        "out": out.astype(float),
    }
    result = gradfit.fit(
        "t_c = w*t_un + b",
        data,
        start=[1, 0],
        solver="SGD",
        lr=1e-2,
        epochs=3000,
        validation="out",
        patience=5,
    )
    assert result.status == "early-stopped"
    assert about_training(result) == []


def test_a_training_without_trials_still_says_what_to_do():
    result = fitted(
        SCALED_LINE,
        solver="SGD",
        lr=1e-4,
        epochs=400,
        scheduler="ExponentialLR",
        scheduler_settings={"gamma": 0.99},
    )
    found = about_training(result)
    assert found[0].code == "lr-too-small"
    assert pasted(found[0].remedy)["lr"] < 0.04


def test_turning():
    way = np.zeros((9, 6))
    way[:, 0] = np.arange(9)
    way[:, 2:4] = [[(-1.0) ** i, 0.0] for i in range(9)]
    assert turning(way) == -1
    way[:, 2:4] = 1.0
    assert_allclose(turning(way), 1)
    way[:, 0] *= 10  # none of them follow each other
    assert turning(way) == 0
    assert turning(np.zeros((1, 4))) == 0


def _evidence(status="epochs-done"):
    return replace(evidence_of(gradfit.fit(*SCALED_LINE)), status=status, message="It stopped")


PLAIN = {"optimizer": "SGD", "rate": 0.1, "epochs": 100, "first": 9.0, "last": 1.0, "lowest": 1.0}


@pytest.mark.parametrize(
    ("numbers", "code", "remedy"),
    [
        ({"offset": 0.01}, None, None),
        ({"offset": 0.05, "needed": 40.0}, "not-converged", "epochs=151"),
        ({"offset": 2.0, "limit": 0.05, "turning": -0.9}, "lr-too-large", "lr=0.025"),
        ({"offset": 2.0, "limit": 0.105, "turning": 0.9}, "not-converged", BOTH),
        ({"offset": 2.0, "limit": 5.0}, "lr-too-small", "lr=2.5"),
        ({"offset": 2.0, "limit": 0.3, "conditions": (1e5, 3.0)}, "gradient-scale", BOTH),
        ({"offset": 2.0, "limit": 0.3, "conditions": (1e5, 3.0), "scaled": True}, "not-converged", BOTH),
        ({"offset": float("inf"), "last": float("inf"), "limit": 1.0}, "lr-too-small", "lr=0.5"),
        ({"offset": 2.0, "tried": {0.01: 0.0}, "cures": {"lr=0.01": 0.0}}, "lr-too-large", "lr=0.01"),
        ({"offset": 2.0, "tried": {1.0: 0.0}, "cures": {"lr=1": 0.0}}, "lr-too-small", "lr=1"),
    ],
)
def test_what_decides(numbers, code, remedy):
    found = stopped(_evidence(), Way(**{**PLAIN, **numbers}))
    assert (found and found.code, found and found.remedy) == (code, remedy)


def test_converged_is_never_blamed():
    assert stopped(_evidence("converged"), Way(**PLAIN, offset=0.02)) is None
