"""Networks: saved and loaded, printed, drawn, and on the command line."""

import json

import command_line
import networks
import numpy as np
import pytest
import torch

import gradfit
from gradfit import DataError, OptionError

DATA = {**networks.wave(80), "kind": np.array(["u", "v"] * 40)}
FORMULA = "y ~ network(a, kind, hidden=[8])"
FITS = {
    "numbers": (FORMULA, {}),
    "classes": ("kind ~ network(a, y)", {}),
    "embedded": ("y ~ network(kind, a, categories=embedded, dropout=0.1)", {}),
    "double": ("y ~ network(a)", {"precision": "float64"}),
    "folds": ("y ~ network(a, hidden=[4])", {"validation": None, "kfold": 3}),
}


@pytest.mark.parametrize("name", FITS)
def test_saved_and_loaded_to_the_last_digit(name, tmp_path):
    formula, asked = FITS[name]
    result = gradfit.fit(formula, DATA, **{"validation": 0.2, "epochs": 5, **asked})
    file = result.save(tmp_path / "net.safetensors")
    loaded = gradfit.load(file)
    assert networks.same_bits(loaded.network, result.network)
    made, again = result.predict(DATA), loaded.predict(DATA)
    np.testing.assert_array_equal(made.output, again.output)
    np.testing.assert_array_equal(made.value, again.value)
    assert (loaded.findings, loaded.verdict, loaded.metrics) == (
        result.findings,
        result.verdict,
        result.metrics,
    )
    np.testing.assert_array_equal(loaded.history.validation, result.history.validation)
    assert set(str(loaded).splitlines()) <= set(str(result).splitlines())
    with pytest.raises(OptionError, match="is there already"):
        result.save(file)
    with pytest.raises(DataError, match="A loaded fit holds no rows"):
        loaded.predict()


def test_a_module_of_the_users_needs_an_instance(tmp_path):
    result = gradfit.fit(networks.dense(), DATA, inputs=["a", "b"], target="y", epochs=3, scale="auto")
    file = result.save(tmp_path / "net.safetensors")
    with pytest.raises(DataError, match="holds the weights of Sequential, and not its code"):
        gradfit.load(file)
    with pytest.raises(DataError, match="belongs to another module than Sequential"):
        gradfit.load(file, module=networks.dense(units=9))
    fresh = networks.dense(seed=5)
    loaded = gradfit.load(file, module=fresh)
    np.testing.assert_array_equal(loaded.predict(DATA).value, result.predict(DATA).value)
    assert not networks.same_bits(fresh, loaded.network)


@pytest.mark.parametrize("cut", [20, 300, -40])
def test_a_torn_file(cut, tmp_path):
    file = gradfit.fit(FORMULA, DATA, epochs=2).save(tmp_path / "net.safetensors")
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match="damaged"):
        gradfit.load(file)


def test_the_module_as_torch_uses_it():
    result = gradfit.fit(FORMULA, DATA, epochs=5)
    columns = torch.tensor(np.column_stack([DATA["a"], DATA["kind"] == "u", DATA["kind"] == "v"]))
    np.testing.assert_allclose(
        result.module(columns).detach().numpy()[:, 0], result.predict().value, rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("name", FITS)
@pytest.mark.parametrize(("width", "unicode"), [(80, True), (30, False), (44, True)])
def test_text(name, width, unicode):
    formula, asked = FITS[name]
    result = gradfit.fit(formula, DATA, **{"validation": 0.2, "epochs": 5, **asked})
    text = (
        result.summary(width=width)
        if unicode
        else gradfit.networks.summary(result, width=width, unicode=False)
    )
    assert max(len(line) for line in text.splitlines()) <= width
    assert unicode or text.isascii()
    assert "trained on" in text and ("folds" in text if name == "folds" else "held out" in text)


FIGURES = {
    **FITS,
    "one input, many rows": ("y ~ network(a)", {"data": networks.wave(2500)}),
    "two targets": ("y, b ~ network(a)", {}),
}


@pytest.mark.parametrize("name", FIGURES)
def test_figures(name, tmp_path):
    formula, asked = FIGURES[name]
    asked = {"validation": 0.2, "epochs": 5, "data": DATA, **asked}
    result = gradfit.fit(formula, **asked)
    figure = result.plot()
    figure.savefig(tmp_path / "network.png")
    assert len(figure.axes) == 2 and (tmp_path / "network.png").stat().st_size > 5000
    loaded = gradfit.load(result.save(tmp_path / "net.safetensors")).plot()
    assert len(loaded.axes) == 1


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    lines = [f"{a},{kind},{y}" for a, kind, y in zip(DATA["a"], DATA["kind"], DATA["y"], strict=True)]
    (tmp_path / "data.csv").write_text("\n".join(["a,kind,y", *lines]))
    return command_line.runner(tmp_path, monkeypatch, capsys)


def test_command_line(run, tmp_path):
    seen = run(
        "fit",
        "data.csv",
        FORMULA,
        "--epochs",
        "20",
        "--validation",
        "0.2",
        "--save",
        "net.safetensors",
        "--plot",
        "net.png",
    )
    assert seen.code == 0 and "Held out: 16 rows" in seen.out and (tmp_path / "net.png").exists()
    told = run("fit", "data.csv", FORMULA, "--epochs", "20", "--validation", "0.2", "--json")
    answer = json.loads(told.out)
    assert answer["validation"]["rows"] == 16 and len(answer["history"]["train"]) == 20
    predicted = run("predict", "net.safetensors", "data.csv")
    result = gradfit.fit(FORMULA, DATA, epochs=20, validation=0.2)
    values = [float(line) for line in predicted.out.splitlines()[1:]]
    np.testing.assert_allclose(values, result.predict(DATA).value, rtol=1e-6)


SLIPS = [
    (("fit", "data.csv", "y ~ network(nope)"), "There is no column nope"),
    (("fit", "data.csv", FORMULA, "--start", "a=1"), "A network has no start values by name"),
    (("fit", "data.csv", FORMULA, "--set", "momentun=1"), "Adam has no setting 'momentun'"),
]


@pytest.mark.parametrize(("words", "sentence"), SLIPS)
def test_slips_on_the_command_line(run, words, sentence):
    seen = run(*words)
    assert seen.code == 2 and sentence in " ".join(seen.err.split())
