"""Findings about networks: sick trainings get their code, healthy ones nothing but information."""

import networks
import numpy as np
import pytest
import torch

import gradfit

DATA = networks.wave(240)
FEW = {name: values[:60] for name, values in DATA.items()}
ASKED = {
    "inputs": ["a", "b"], "target": "y", "validation": 0.2, "solver": "Adam", "lr": 0.01, "epochs": 200, "executor": "tensor",
}  # fmt: skip
SIDES = np.where(DATA["y"] > 0, "up", "down")


def changed(module, change):
    with torch.no_grad():
        change(module)
    return module


def tower(activation, layers, units=16):
    inside = [part for _ in range(layers) for part in (lambda: torch.nn.Linear(units, units), activation)]
    return networks.sequential(
        lambda: torch.nn.Linear(2, units), activation, *inside, lambda: torch.nn.Linear(units, 1)
    )


def ended(*last):
    return networks.sequential(
        lambda: torch.nn.Linear(2, 16), torch.nn.Tanh, lambda: torch.nn.Linear(16, 1), *last
    )


def wider(factor):
    return lambda module: [p.mul_(factor) for p in module.parameters()]


def relu(units=32):
    return networks.dense(units=units, activation=torch.nn.ReLU)


SICK = {
    "rate far too large": ("lr-too-large", relu(), DATA, {"lr": 50.0, "solver": "SGD"}),
    "rate far too small": ("lr-too-small", relu(), DATA, {"lr": 1e-5, "solver": "SGD"}),
    "twelve sigmoid layers": ("vanishing-gradient", tower(torch.nn.Sigmoid, 12), DATA, {}),
    "weights far too large": ("exploding-gradient", changed(tower(torch.nn.ReLU, 8), wider(8)), DATA, {"solver": "SGD"}),
    "dead units": ("dead-units", changed(relu(), lambda m: m[0].bias.sub_(10)), DATA, {}),
    "saturated units": ("saturated-units", changed(networks.dense(units=32), lambda m: m[0].weight.mul_(1e4)), DATA, {}),
    "an offset": ("unscaled-data", networks.dense(units=32), {**DATA, "a": 1e4 * DATA["a"] + 1e6}, {}),
    "two scales": ("unscaled-data", networks.dense(units=32), {**DATA, "a": 1e5 * DATA["a"], "b": 1e5 * DATA["b"]}, {}),
    "a sigmoid before its logits": ("loss-mismatch", ended(torch.nn.Sigmoid), {**DATA, "y": SIDES}, {}),
    "a last layer that cannot reach": ("loss-mismatch", ended(torch.nn.ReLU), DATA, {}),
    "shuffled labels": ("no-signal", relu(64), {**DATA, "y": np.random.default_rng(0).permutation(DATA["y"])}, {}),
    "overfitting": ("overfitting", networks.dense(units=256), FEW, {"validation": 0.4, "epochs": 1500, "stop": "last"}),
    "the target among the inputs": ("leakage", networks.dense(inputs=3), {**DATA, "z": 3 * DATA["y"] + 1}, {"inputs": ["a", "b", "z"]}),
    "copied rows": ("leakage", networks.dense(), {name: np.tile(values[:120], 2) for name, values in DATA.items()}, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", SICK)
def test_sick_trainings_get_their_code(name):
    code, module, data, asked = SICK[name]
    result = gradfit.fit(module, data, **{**ASKED, **asked})
    assert code in [finding.code for finding in result.findings if finding.severity != "info"]
    assert result.verdict in ("caution", "no") and result.sentences[0] == result.findings[0].message
    for finding in result.findings:
        assert any(sign.isdigit() for sign in finding.message) and finding.evidence
    assert finding.code in {found.code for found in result.findings}


CURED = {
    "rate far too large": {"lr": 0.05, "solver": "SGD"},
    "rate far too small": {"lr": 0.1, "solver": "SGD"},
    "an offset": {"scale": "auto"},
    "two scales": {"scale": "auto"},
    "a sigmoid before its logits": {"loss": torch.nn.BCELoss()},
    "the target among the inputs": {"inputs": ["a", "b"], "model": networks.dense()},
}


@pytest.mark.parametrize("name", CURED)
def test_the_remedy_cures(name):
    code, module, data, asked = SICK[name]
    cure = dict(CURED[name])
    result = gradfit.fit(cure.pop("model", module), data, **{**ASKED, **asked, **cure})
    assert code not in [finding.code for finding in result.findings if finding.severity != "info"]
    measure = result.validation.metrics
    assert measure.get("r2", 0) > 0.3 or measure.get("accuracy", 0) > 0.8


HEALTHY = {
    "tanh": (networks.dense(units=32), DATA, {}),
    "ReLU, batches": (relu(), DATA, {"batch_size": 32, "epochs": 60}),
    "six layers": (tower(torch.nn.GELU, 5), DATA, {"lr": 0.003}),
    "classes": (networks.dense(units=16), {**DATA, "y": SIDES}, {"epochs": 60}),
    "counts": (networks.dense(units=16), {**DATA, "y": np.random.default_rng(2).poisson(np.exp(DATA["a"]))}, {"loss": "poisson"}),
    "scaled": (networks.dense(units=32), {"a": 1e3 * DATA["a"], "b": DATA["b"] + 40, "y": 1e5 * DATA["y"]}, {"scale": "auto"}),
    "no validation": (networks.dense(units=32), DATA, {"validation": None}),
}  # fmt: skip


@pytest.mark.parametrize("name", HEALTHY)
def test_healthy_trainings_are_trusted(name):
    module, data, asked = HEALTHY[name]
    result = gradfit.fit(module, data, **{**ASKED, **asked})
    assert [finding for finding in result.findings if finding.severity != "info"] == []
    assert result.verdict == "trust" and 1 <= len(result.sentences) <= 3
