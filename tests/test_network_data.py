"""Networks: what goes in, what is predicted, which loss belongs to it, and a sentence for everything that does not go together."""

import networks
import numpy as np
import pytest
import torch
from matplotlib.image import imsave

import gradfit
from gradfit import GradfitError
from gradfit.learn.prediction import NetworkPrediction

DATA = networks.wave()
CLASSES = np.where(DATA["a"] > 0, np.where(DATA["b"] > 0, "ne", "se"), "west")
SIDES = np.where(DATA["a"] > 0, "east", "west")
COUNTS = np.random.default_rng(1).poisson(np.exp(DATA["a"]))
SHORT = {"epochs": 3, "executor": "tensor"}


# ---------------------------------------------------------------------------- targets and losses

TARGETS = {
    "numbers": (DATA["y"], 1, "mse", "rmse"),
    "words": (CLASSES, 3, "cross-entropy", "accuracy"),
    "two words": (SIDES, 1, "bce", "accuracy"),
    "two words, two outputs": (SIDES, 2, "cross-entropy", "accuracy"),
    "truth": (DATA["a"] > 0, 1, "bce", "accuracy"),
    "0 and 1": ((DATA["a"] > 0) * 1.0, 1, "bce", "accuracy"),
    "class numbers": ((DATA["a"] > 0) + 2 * (DATA["b"] > 0), 4, "cross-entropy", "accuracy"),
    "numbers of classes, one output": ((DATA["a"] > 0) + 2 * (DATA["b"] > 0), 1, "mse", "rmse"),
}


@pytest.mark.parametrize("name", TARGETS)
def test_the_loss_is_chosen_by_the_target_and_said(name):
    values, outputs, loss, measure = TARGETS[name]
    result = gradfit.fit(
        networks.dense(outputs=outputs), {**DATA, "z": values}, inputs=["a", "b"], target="z", **SHORT
    )
    assert result.loss_name == loss and measure in result.metrics
    assert any("The loss was chosen" in sentence for sentence in result.how)


LOSSES = [
    ("mse", torch.nn.functional.mse_loss, DATA["y"]), ("mae", torch.nn.functional.l1_loss, DATA["y"]),
    ("huber", torch.nn.functional.huber_loss, DATA["y"]), ("poisson", torch.nn.functional.poisson_nll_loss, COUNTS),
    ("bce-with-logits", torch.nn.functional.binary_cross_entropy_with_logits, (DATA["a"] > 0) * 1.0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "function", "values"), LOSSES, ids=[name for name, *_ in LOSSES])
def test_losses_by_name_are_those_of_torch(name, function, values):
    module = networks.dense()
    result = gradfit.fit(module, {**DATA, "z": values}, inputs=["a", "b"], target="z", loss=name, **SHORT)
    x = torch.tensor(np.column_stack([DATA["a"], DATA["b"]]), dtype=torch.float32)
    expected = function(module(x), torch.tensor(values, dtype=torch.float32)[:, None])
    assert result.history.train[0] == pytest.approx(expected.item(), rel=1e-6)
    own = gradfit.fit(module, {**DATA, "z": values}, inputs=["a", "b"], target="z", loss=function, **SHORT)
    assert networks.same_bits(own.network, result.network)


def test_classes_keep_their_names_shares_and_probabilities():
    result = gradfit.fit(
        "where ~ network(a, b, hidden=[16])", {**DATA, "where": CLASSES}, validation=0.25, epochs=150
    )
    made = result.predict({"a": [2.0, -2.0], "b": [2.0, 0.0]})
    assert made.value.tolist() == ["ne", "west"] and made.levels == ("ne", "se", "west")
    np.testing.assert_allclose(made.probabilities.sum(axis=1), 1)
    assert list(made.to_frame().columns) == ["where", "p(ne)", "p(se)", "p(west)"]
    shares = [np.mean(part.target.values == 2) for part in (result.train, result.held)]
    assert shares[0] == pytest.approx(shares[1], abs=0.02)
    assert result.confusion.sum() == 30 and np.trace(result.confusion) / 30 == pytest.approx(
        result.validation.metrics["accuracy"]
    )
    own = made.probabilities[np.arange(2), [0, 2]]
    assert result.metrics["accuracy"] > 0.9 and own.min() > 0.5


def test_probabilities_and_expected_counts_of_losses_without_logits():
    ended = networks.sequential(lambda: torch.nn.Linear(2, 1), torch.nn.Sigmoid)
    chance = gradfit.fit(
        ended, {**DATA, "z": SIDES}, inputs=["a", "b"], target="z", loss=torch.nn.BCELoss(), **SHORT
    )
    made = chance.predict()
    np.testing.assert_allclose(made.probabilities[:, 1], made.output[:, 0])
    plain = networks.sequential(lambda: torch.nn.Linear(2, 1), torch.nn.Softplus)
    loss = torch.nn.PoissonNLLLoss(log_input=False)
    counts = gradfit.fit(
        plain, {**DATA, "z": COUNTS}, inputs=["a", "b"], target="z", loss=loss, **SHORT
    ).predict()
    np.testing.assert_array_equal(counts.value, counts.output[:, 0])
    logs = gradfit.fit(
        networks.dense(), {**DATA, "z": COUNTS}, inputs=["a", "b"], target="z", loss="poisson", **SHORT
    ).predict()
    np.testing.assert_allclose(logs.value, np.exp(logs.output[:, 0]))


def test_several_targets():
    data = {**DATA, "z": 100 * DATA["a"] + 5000}
    result = gradfit.fit("y, z ~ network(a, b, hidden=[16])", data, epochs=300)
    made = result.predict()
    assert made.value.shape == (120, 2) and list(made.to_frame().columns) == ["y", "z"]
    assert np.abs(made.value[:, 1] - data["z"]).max() < 50
    module = gradfit.fit(
        networks.dense(outputs=2), data, inputs=["a", "b"], target=["y", "z"], scale="auto", **SHORT
    )
    assert module.predict().value[:, 1].mean() == pytest.approx(5000, rel=0.05)


# ---------------------------------------------------------------------------- inputs


def test_text_is_one_hot_or_embedded():
    draw = np.random.default_rng(0)
    few, many = draw.integers(0, 3, 120), draw.integers(0, 12, 120)
    data = {
        **DATA,
        "few": np.array(["u", "v", "w"])[few],
        "many": np.array([f"k{i:02}" for i in range(12)])[many],
        "z": few + many / 3.0,
    }
    result = gradfit.fit("z ~ network(few, many, a, hidden=[16])", data, epochs=200, lr=0.03)
    assert result.encoding.embedded == ("many",) and set(result.encoding.levels) == {"few", "many"}
    assert result.metrics["r2"] > 0.95
    one_hot = gradfit.fit("z ~ network(few, many, categories=one-hot)", data, epochs=2)
    assert one_hot.encoding.embedded == () and one_hot.encoding.width == 15
    with pytest.raises(GradfitError, match='few holds "x", which is not one of its levels'):
        result.predict({"few": ["x"], "many": ["k01"], "a": [0.0]})


def test_images_as_an_array_and_as_a_folder(tmp_path):
    draw = np.random.default_rng(0)
    images = draw.uniform(0, 0.3, (40, 1, 6, 6)).astype(np.float32)
    bright = np.arange(40) % 2 == 0
    images[bright] += 0.6
    module = networks.sequential(
        lambda: torch.nn.Conv2d(1, 2, 3), torch.nn.Tanh, torch.nn.Flatten, lambda: torch.nn.Linear(32, 1)
    )
    words = np.where(bright, "day", "night")
    asked = {
        "inputs": ["pixels"],
        "target": "when",
        "validation": 0.25,
        "solver": "Adam",
        "lr": 0.02,
        "epochs": 40,
    }
    result = gradfit.fit(module, {"pixels": images, "when": words}, **asked)
    assert (
        result.validation.metrics["accuracy"] == 1
        and result.predict(images[:3]).value.tolist() == words[:3].tolist()
    )
    for i in range(40):
        folder = tmp_path / words[i]
        folder.mkdir(exist_ok=True)
        imsave(folder / f"{i}.png", np.repeat(images[i, 0][:, :, None], 3, axis=2))
    coloured = networks.sequential(torch.nn.Flatten, lambda: torch.nn.Linear(4 * 36, 1))
    read = gradfit.fit(coloured, tmp_path, validation=0.25, solver="Adam", lr=0.02, epochs=40)
    assert read.inputs == ("image",) and read.response == "class" and read.validation.metrics["accuracy"] == 1


def test_tensors_vectors_whole_numbers_and_several_arguments():
    draw = np.random.default_rng(0)
    vectors, codes = torch.tensor(draw.normal(size=(60, 3))), draw.integers(0, 5, 60)

    class Two(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.table = torch.nn.Embedding(5, 2)
            self.line = torch.nn.Linear(5, 1)

        def forward(self, vector, code):
            return self.line(torch.cat([vector, self.table(code)[:, 0]], dim=1))[:, 0]

    data = {"v": vectors, "c": codes[:, None], "y": vectors.sum(dim=1).numpy() + codes}
    result = gradfit.fit(Two(), data, inputs=["v", "c"], target="y", solver="Adam", lr=0.05, epochs=200)
    assert result.metrics["r2"] > 0.98 and result.encoding.whole == {"c"}
    flat = gradfit.fit("y ~ network(v, hidden=[])", data, epochs=2)
    assert flat.encoding.width == 3


def test_missing_numbers_and_words_are_refused_or_dropped():
    data = {**DATA, "a": np.where(np.arange(120) == 4, np.nan, DATA["a"]), "g": [None, *["u", "v"] * 59, "u"]}
    with pytest.raises(GradfitError, match="row 5"):
        gradfit.fit("y ~ network(a, b)", data, **SHORT)
    result = gradfit.fit("y ~ network(a, b, g)", data, missing="drop", **SHORT)
    assert result.n == 118 and result.n_read == 120
    holes = np.ones((20, 2, 2))
    holes[3, 0, 0] = np.nan
    with pytest.raises(GradfitError, match="image has no finite number in 1 row of 20 rows"):
        gradfit.fit("y ~ network(image)", {"image": holes, "y": np.arange(20.0)}, **SHORT)
    assert (
        gradfit.fit("y ~ network(image)", {"image": holes, "y": np.arange(20.0)}, missing="drop", **SHORT).n
        == 19
    )


@pytest.mark.parametrize("scale", [1e-12, 1e9, 1e150])
@pytest.mark.parametrize("offset", [0.0, 1e9])
def test_units_do_not_matter_inside(scale, offset):
    plain = gradfit.fit("y ~ network(a, b, hidden=[8])", DATA, epochs=60, precision="float64")
    moved = {"a": scale * DATA["a"], "b": DATA["b"] + offset, "y": scale * DATA["y"]}
    result = gradfit.fit("y ~ network(a, b, hidden=[8])", moved, epochs=60, precision="float64")
    np.testing.assert_allclose(result.predict().value, scale * plain.predict().value, atol=1e-3 * scale)


# ---------------------------------------------------------------------------- a sentence for each mistake


class Returns(torch.nn.Module):
    """A line, and what is made of its output."""

    def __init__(self, change, outputs=1):
        super().__init__()
        self.line = torch.nn.Linear(2, outputs)
        self.change = change

    def forward(self, x):
        return self.change(self.line(x), x)


def deep():
    module = networks.dense()
    with torch.no_grad():
        module[2].weight[0, 0] = torch.nan
    return module


FROZEN = networks.dense().requires_grad_(False)
MISTAKES = {
    "no parameters": (torch.nn.Tanh(), {}, "Tanh has no parameters: there is nothing to train"),
    "frozen": (FROZEN, {}, "Sequential has only parameters that are frozen"),
    "lazy": (torch.nn.Sequential(torch.nn.LazyLinear(1)), {}, "layers without a shape yet"),
    "ignores its input": (Returns(lambda y, x: y.detach() * 0 + torch.ones(len(y), 1, requires_grad=True)), {}, "ignores its input"),
    "detached": (Returns(lambda y, x: y.detach()), {}, "does not depend on its parameters"),
    "a tuple": (Returns(lambda y, x: (y, y)), {}, "Returns returns tuple"),
    "a scalar": (Returns(lambda y, x: y.mean()), {}, r"returns shape \(\) for 2 rows"),
    "too wide": (Returns(lambda y, x: y, 3), {}, r"returns shape \('n', 3\) and y holds 1 number a row"),
    "all pairs": (Returns(lambda y, x: y - y.T), {}, "and y holds 1 number a row"),
    "too few classes": (networks.dense(outputs=2), {"target": "where"}, r"where has 3 classes: it must return \('n', 3\)"),
    "other inputs": (networks.dense(inputs=3), {}, "cannot be called with"),
    "a class": (torch.nn.Linear, {}, "Linear is a class"),
    "one row left over": (
        networks.sequential(lambda: torch.nn.Linear(2, 4), lambda: torch.nn.BatchNorm1d(4), lambda: torch.nn.Linear(4, 1)),
        {"batch_size": 7}, "Sequential fails on 1 row",
    ),
    "a code without an embedding": (
        networks.sequential(lambda: torch.nn.Embedding(3, 2), torch.nn.Flatten, lambda: torch.nn.Linear(2, 1)),
        {"inputs": ["code"]}, "index out of range",
    ),
    "a loss that fails": (networks.dense(), {"loss": lambda f, y: torch.nn.functional.mse_loss(f @ f, y)}, "The loss <lambda> fails"),
    "no such column": (networks.dense(), {"inputs": ["a", "bb"]}, "There is no column bb"),
    "no target": (networks.dense(), {"inputs": ["a"], "target": None, "rename": "z"}, "It was not said which column is to be predicted"),
    "on both sides": (networks.dense(), {"inputs": ["a", "y"]}, "y is an input and the target"),
    "NaN weights": (deep(), {}, "The loss is nan before the first update: the weight 2.weight is not finite"),
    "one class": (networks.dense(), {"target": "one"}, "one holds one class only, same"),
    "words as numbers": (networks.dense(), {"target": "where", "loss": "mse"}, "where is text, and its loss is for numbers"),
    "numbers as classes": (networks.dense(outputs=9), {"loss": "cross-entropy"}, "is for classes, and y holds 120 different values"),
    "three as two": (networks.dense(), {"target": "where", "loss": "bce"}, "is for two classes, and where holds 3"),
    "no counts": (networks.dense(), {"loss": "poisson"}, "is for counts, and y holds"),
    "no such loss": (networks.dense(), {"loss": "msee"}, "There is no loss 'msee'"),
    "loss by row": (networks.dense(), {"loss": lambda f, y: (f - y) ** 2}, r"returns shape \(120, 1\), and must be one number"),
    "loss without a graph": (networks.dense(), {"loss": lambda f, y: ((f - y) ** 2).mean().detach()}, "does not depend on the parameters"),
    "bounds": (networks.dense(), {"bounds": {"a": (0, 1)}}, "A network has no bounds"),
    "no such optimizer": (networks.dense(), {"solver": "Adm"}, "There is no optimizer 'Adm'"),
    "no such setting": (networks.dense(), {"solver": "SGD", "lr": 0.1, "momentun": 0.9}, "SGD has no setting 'momentun'"),
    "matrices only": (networks.dense(), {"solver": "Muon", "lr": 0.1}, "Muon cannot train this module"),
    "no such device": (networks.dense(), {"device": "gpu"}, "There is no device 'gpu' here"),
    "no such precision": (networks.dense(), {"precision": "half"}, "precision is 'half'"),
    "negative rate": (networks.dense(), {"lr": -1}, "lr is -1"),
    "clip": (networks.dense(), {"clip": 0}, "clip is 0"),
    "no epochs": (networks.dense(), {"epochs": 0}, "epochs is 0"),
    "patience alone": (networks.dense(), {"patience": 5}, "patience"),
    "nothing held out": (networks.dense(), {"validation": 0.001}, "holds out none"),
    "all held out": (networks.dense(), {"validation": 0.999}, "leaves none to train on"),
    "too large": (networks.dense(), {"inputs": ["a", "huge"]}, "too large for float32"),
}  # fmt: skip


@pytest.mark.parametrize("name", MISTAKES)
def test_a_sentence_for_each_mistake(name):
    module, asked, sentence = MISTAKES[name]
    data = {
        **DATA,
        "where": CLASSES,
        "one": ["same"] * 120,
        "huge": np.full(120, 1e300),
        "code": np.arange(120) % 5,
    }
    asked = dict(asked)
    if "rename" in asked:
        data[asked.pop("rename")] = data.pop("y")
    with pytest.raises(GradfitError, match=sentence) as raised:
        gradfit.fit(
            module, data, **{"inputs": ["a", "b"], "target": "y", "epochs": 3, "executor": "tensor", **asked}
        )
    assert raised.value.remedy


FORMULAS = {
    "y ~ network(a, b, hiden=[3])": "network() has no 'hiden'",
    "y ~ network(a, hidden=[0])": "hidden is [0]",
    "y ~ network(a, activation=tan)": "activation is tan, which is no value",
    'y ~ network(a, activation="tan")': "There is no activation 'tan'",
    "y ~ network(a, dropout=1.5)": "dropout is 1.5",
    "y ~ network(log(a))": "'log(a)' is no name of a column",
    "y ~ network(y, a)": "y stands on both sides",
    "~ network(a)": "Nothing stands before the ~",
    "y ~ network(nope)": "There is no column nope",
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_a_sentence_for_each_slip_in_a_formula(formula):
    with pytest.raises(GradfitError) as raised:
        gradfit.fit(formula, DATA, **SHORT)
    assert FORMULAS[formula] in str(raised.value)


EMPTY = {"a": [], "b": [], "y": []}
ROWS = {
    "no rows": (EMPTY, "no rows"),
    "nothing": (None, "fit() needs data"),
    "one row": ({"a": [1.0], "b": [1.0], "y": [2.0]}, None),
    "constant column": ({**DATA, "a": np.ones(120)}, None),
    "constant target": ({**DATA, "y": np.full(120, 3.5)}, None),
    "unequal": ({"x": np.ones((4, 2)), "y": np.ones(5)}, "differ in their first axis"),
    "no numbers": ({"x": np.array([["u", "v"]] * 4), "y": np.ones(4)}, "are no numbers"),
}


@pytest.mark.parametrize("name", ROWS)
def test_few_and_odd_rows(name):
    data, sentence = ROWS[name]
    if sentence is not None:
        with pytest.raises(GradfitError) as raised:
            gradfit.fit("y ~ network(hidden=[4])", data, epochs=2)
        assert sentence in str(raised.value)
        return
    result = gradfit.fit("y ~ network(a, b, hidden=[4])", data, epochs=60)
    made = result.predict()
    assert isinstance(made, NetworkPrediction) and np.isfinite(made.value).all()
    assert str(result) and result.verdict in ("trust", "caution")
