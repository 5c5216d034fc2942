"""What was tried is the cause: remedies of networks as they stand, freedom of direct fits, copies and their twins."""

import ast

import networks
import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose

import gradfit
from gradfit.diagnose.held import freedom, twins

DRAW = np.random.default_rng(5)
DATA = networks.wave(240)
ASKED = {
    "inputs": ["a", "b"], "target": "y", "validation": 0.25, "solver": "Adam", "lr": 0.02, "epochs": 120, "executor": "native",
}  # fmt: skip


def pasted(remedy):
    """Return the arguments that a remedy says."""
    call = ast.parse(f"f({remedy})", mode="eval").body
    names = {"torch": torch, "gradfit": gradfit}
    told = {one.arg: compile(ast.Expression(one.value), "remedy", "eval") for one in call.keywords}
    return {name: eval(value, names) for name, value in told.items()}  # noqa: S307  our own remedies, as a user pastes them


def alarms(result):
    return [finding for finding in result.findings if finding.severity != "info"]


def relu(change=None):
    module = networks.dense(units=16, activation=torch.nn.ReLU)
    if change is not None:
        with torch.no_grad():
            change(module)
    return module


def deep(change):
    layers = [part for _ in range(5) for part in (lambda: torch.nn.Linear(16, 16), torch.nn.ReLU)]
    module = networks.sequential(
        lambda: torch.nn.Linear(2, 16), torch.nn.ReLU, *layers, lambda: torch.nn.Linear(16, 1)
    )
    with torch.no_grad():
        change(module)
    return module


def wider(module):
    for p in module.parameters():
        p.mul_(5)


NOISY = {**DATA, "y": DATA["y"] + 0.7 * DRAW.normal(size=240)}
FAILED = {
    "rate too large": ("lr-too-large", relu(), DATA, {"lr": 8.0}),
    "rate too small": ("lr-too-small", relu(), DATA, {"lr": 1e-5}),
    "first weights too large": ("exploding-gradient", deep(wider), DATA, {}),
    "dead from the start": ("dead-units", relu(lambda m: m[0].bias.sub_(15)), DATA, {}),
    "one row a batch": ("batch-noise", relu(), NOISY, {"solver": "SGD", "momentum": 0.9, "lr": 0.03, "batch_size": 1, "epochs": 20, "stop": "last"}),
    "other units": ("unscaled-data", relu(), {**DATA, "a": 1e5 * DATA["a"]}, {}),
    "a last layer out of reach": ("loss-mismatch", networks.sequential(lambda: torch.nn.Linear(2, 16), torch.nn.Tanh, lambda: torch.nn.Linear(16, 1), torch.nn.ReLU), DATA, {}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILED)
def test_the_cause_is_named_and_its_remedy_cures_as_it_stands(name):
    code, module, data, changed = FAILED[name]
    told = {**ASKED, **changed}
    result = gradfit.fit(module, data, **told)
    first = alarms(result)[0]
    assert first.code == code
    cure = pasted(first.remedy)
    again = gradfit.fit(cure.pop("model", module), data, **{**told, **cure})
    assert alarms(again) == []
    assert again.validation.metrics["r2"] > result.validation.metrics["r2"] + 0.2


def test_a_cause_does_not_hang_on_the_clock():
    told = {**ASKED, "lr": 1e-5}
    findings = [gradfit.fit(relu(), DATA, **told).findings for _ in range(2)]
    assert findings[0] == findings[1]


def test_long_trainings_are_not_made_again():
    result = gradfit.fit(
        relu(), DATA, **{**ASKED, "lr": 1e-6, "epochs": 35, "batch_size": 8, "executor": "tensor"}
    )
    (finding,) = [one for one in alarms(result) if one.code == "lr-too-small"]
    assert "tried" not in finding.evidence


def test_a_module_of_its_own_is_examined_too():
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inside = relu(lambda m: m[0].bias.sub_(15))
            self.offset = torch.nn.Parameter(torch.zeros(1))

        def forward(self, x):
            return self.inside(x) + self.offset

    found = alarms(gradfit.fit(Own(), DATA, **{**ASKED, "executor": "tensor"}))
    assert found[0].code == "dead-units"


# ---------------------------------------------------------------------------- rows held out


def test_freedom_is_the_variance_of_predictions():
    """Of a straight line it is 1/n + (x - mean)²/Sxx; rows in training count as if they had been left out."""
    x, z = np.linspace(-1, 1, 20), np.array([0.0, 0.5, 1.0])
    J, held = (np.column_stack([np.ones_like(t), t]) for t in (x, z))
    leverage = 1 / 20 + z**2 / np.sum(x**2)
    own = 1 / 20 + x**2 / np.sum(x**2)
    each = np.sort(np.append(own / (1 - own), leverage))[:-1]
    residuals = np.random.default_rng(2).normal(size=20)
    residuals -= J @ np.linalg.lstsq(J, residuals, rcond=None)[0]
    spread, missed = freedom(J, residuals, held, np.zeros(3))
    assert_allclose(spread, each.mean(), rtol=1e-12)
    assert missed > 0
    assert_allclose(
        freedom(J * [1e9, 1e-9], residuals, held * [1e9, 1e-9], np.zeros(3)), (spread, missed), rtol=1e-9
    )
    assert freedom(J[:, :0], residuals, held[:, :0], np.zeros(3)) == (0.0, 0.0)


def polynomial(terms):
    return "y = c0 + " + " + ".join(f"c{i}*x**{i}" for i in range(1, terms))


def test_too_many_terms_are_named_from_few_rows_and_the_penalty_cures():
    for seed in range(10):
        draw = np.random.default_rng(seed)
        train, held = (
            {"x": (x := draw.uniform(-1, 1, n)), "y": np.sin(3 * x) + 0.2 * draw.normal(size=n)}
            for n in (30, 12)
        )
        found = [
            one
            for one in alarms(gradfit.fit(polynomial(20), train, validation=held))
            if one.code == "overfitting"
        ]
        assert len(found) == 1
        cured = gradfit.fit(polynomial(20), train, validation=held, **pasted(found[0].remedy))
        assert "overfitting" not in [one.code for one in alarms(cured)]
        lean = gradfit.fit(polynomial(5), train, validation=held)
        assert "overfitting" not in [one.code for one in alarms(lean)]


def test_twins_are_the_rows_that_were_copied():
    rows = np.random.default_rng(3).normal(size=(50, 3))
    assert twins(rows, rows[[4, 9, 31]]).tolist() == [4, 9, 31]
    assert twins(rows, rows[[4, 9]] * (1 + 1e-10)).tolist() == [4, 9]


def test_copies_in_a_table_of_their_own_are_taken_out_of_the_training():
    x = np.linspace(0, 4, 60)
    train = {"x": x, "y": 3 * np.exp(-x) + 0.1 * np.random.default_rng(4).normal(size=60)}
    held = {name: values[10:22].copy() for name, values in train.items()}
    told = {"start": [2, 1], "validation": held}
    (finding,) = [
        one for one in gradfit.fit("y = a*exp(-b*x)", train, **told).findings if one.code == "leakage"
    ]
    assert pasted(finding.remedy) == {"exclude": list(range(11, 23))}
    again = gradfit.fit("y = a*exp(-b*x)", train, **told, **pasted(finding.remedy))
    assert "leakage" not in [one.code for one in again.findings]


CLASSES = np.where(DATA["y"] > 0, "up", "down")


@pytest.mark.parametrize("target", [DATA["y"], CLASSES], ids=["numbers", "classes"])
def test_copied_rows_of_a_network_are_kept_together_by_the_remedy(target):
    data = {name: np.tile(values[:120], 2) for name, values in {**DATA, "y": target}.items()}
    told = {**ASKED, "validation": 0.2, "epochs": 30}
    (finding,) = [
        one for one in gradfit.fit(networks.dense(), data, **told).findings if one.code == "leakage"
    ]
    assert set(pasted(finding.remedy)) == {"groups"}
    again = gradfit.fit(networks.dense(), data, **told, **pasted(finding.remedy))
    assert "leakage" not in [one.code for one in again.findings]


def test_classes_on_a_grid_are_no_leakage():
    for seed in range(5):
        draw = np.random.default_rng(seed)
        a, b = draw.integers(0, 4, 300).astype(float), draw.integers(0, 3, 300).astype(float)
        data = {"a": a, "b": b, "y": np.where(a + b + draw.normal(size=300) > 3, "up", "down")}
        found = gradfit.fit(networks.dense(), data, **{**ASKED, "epochs": 30}).findings
        assert "leakage" not in [one.code for one in found]


def test_an_early_stop_is_said_and_nothing_else_of_its_parameters():
    draw = np.random.default_rng(1)
    x = np.linspace(-1, 1, 34)
    data = {"x": x, "y": np.sin(3 * x) + 0.5 * draw.normal(size=34)}
    told = {"start": [0] * 9, "solver": "Adam", "lr": 0.1, "epochs": 2000, "validation": 0.4, "patience": 30}
    codes = {one.code for one in gradfit.fit(polynomial(9), data, **told).findings}
    assert "early-stopped" in codes
    assert "strong-correlation" not in codes
