"""explain(): one forward and one backward pass against torch's own, its sentences, its picture, and what is refused."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from command_line import LINE, THERMOMETER, Run, flat, runner
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import gradfit
from gradfit import DataError, ModelError, OptionError, ShapeError
from gradfit.explaining.folding import folded
from gradfit.explaining.values import LOSS, PARAMETER, Operation, Spread
from gradfit.figures import save
from gradfit.figures.graph import beside_their_use, places
from gradfit.terminal.text import cells

X = np.linspace(0.5, 5, 11)
LINE_DATA = {"x": X, "y": 2 * X - 1}


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    return runner(tmp_path, monkeypatch, capsys)


def network(*sizes: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for a, b in pairwise(sizes):
        layers += [nn.Linear(a, b), nn.Tanh()]
    return nn.Sequential(*layers[:-1])


def node(seen: gradfit.Explanation, text: str) -> Operation:
    return next(o for o in seen.operations if o.text == text)


# ---------------------------------------------------------------------------- the reference


@pytest.mark.parametrize(
    ("dtype", "gradient"), [("float32", [4517.2969, 82.6000]), ("float64", [4517.2964, 82.6000])]
)
def test_the_thermometer(dtype, gradient):
    seen = gradfit.explain(LINE, THERMOMETER, start=(1, 0), lr=[1e-2, 1e-4], dtype=dtype)
    assert [round(float(g), 4) for g in seen.gradient.values()] == gradient
    assert round(seen.ratio) == 55
    assert seen.loss == pytest.approx(1763.8845, abs=1e-3)
    assert [step.loss > seen.loss for step in seen.steps] == [True, False]
    assert seen.conditioning is not None
    assert 2 / seen.conditioning.largest_step == pytest.approx(5883.4, abs=0.1)
    for p in seen.parameters:
        assert [float(g) for g in p.passes] == pytest.approx(
            [k * float(p.gradient) for k in (1, 2, 3)], rel=1e-6
        )


def test_condition_before_and_after_scaling():
    table = gradfit.read(THERMOMETER)
    J = np.column_stack([table.columns["t_u"], np.ones(11)])
    scaled = J / np.linalg.norm(J, axis=0)
    seen = gradfit.explain(LINE, THERMOMETER, start=(1, 0)).conditioning
    assert (seen.before, seen.after) == pytest.approx((np.linalg.cond(J) ** 2, np.linalg.cond(scaled) ** 2))


def test_units_follow_from_the_columns():
    seen = gradfit.explain("V = a*exp(-t/tau)", {"t [s]": X, "V [mV]": X}, start=[1, 2])
    assert {p.name: (p.unit, p.gradient_unit) for p in seen.parameters} == {
        "a": ("mV", "mV"), "tau": ("s", "mV²/s"),
    }  # fmt: skip
    assert seen.loss_unit == "mV²"


# ---------------------------------------------------------------------------- against torch


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.floats(-2, 2), min_size=3, max_size=3),
    st.sampled_from(
        [
            ("y = a*exp(b*x) + c", lambda x, a, b, c: a * torch.exp(b * x) + c),
            ("y = a*sin(b*x + c)**2", lambda x, a, b, c: a * torch.sin(b * x + c) ** 2),
            ("y = (a - x)/(1 + b**2) - c*x**3", lambda x, a, b, c: (a - x) / (1 + b**2) - c * x**3),
        ]
    ),
)
def test_gradients_are_those_of_torch(start, case):
    formula, function = case
    seen = gradfit.explain(formula, LINE_DATA, start=start, lr=1e-3)
    leaves = [torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in start]
    value = function(torch.tensor(X), *leaves)
    value.retain_grad()
    residual = value - torch.tensor(LINE_DATA["y"])
    loss = (residual**2).mean()
    loss.backward()
    assert seen.loss == pytest.approx(loss.item(), rel=1e-12)
    assert [float(g) for g in seen.gradient.values()] == pytest.approx(
        [p.grad.item() for p in leaves], rel=1e-9, abs=1e-12
    )
    minus = next(o for o in seen.operations if o.text == "prediction − y")
    assert minus.gradient.norm == pytest.approx(torch.linalg.vector_norm(value.grad).item(), rel=1e-9)
    assert minus.value.low == pytest.approx(residual.min().item(), rel=1e-9, abs=1e-12)
    moved = [v - 1e-3 * p.grad.item() for v, p in zip(start, leaves, strict=True)]
    after = (
        (function(torch.tensor(X), *map(torch.tensor, moved)) - torch.tensor(LINE_DATA["y"])) ** 2
    ).mean()
    assert seen.steps[0].loss == pytest.approx(after.item(), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize(
    "model",
    [
        lambda x, a, b: a * np.exp(b * x),
        lambda x, a, b: a * torch.exp(b * x),
        lambda x, a, b: torch.exp(b * x).mul_(a) if isinstance(x, torch.Tensor) else a * np.exp(b * x),
        "y = a*exp(b*x)",
        gradfit.Model("y = a*exp(b*x)"),
    ],
    ids=["numpy", "torch", "in place", "formula", "model"],
)
def test_every_kind_of_model_says_the_same(model):
    seen = gradfit.explain(model, LINE_DATA, response="y", start=[2, 0.1])
    value = 2 * np.exp(0.1 * X)
    residual = value - LINE_DATA["y"]
    assert float(seen.gradient["a"]) == pytest.approx(np.mean(2 * residual * value / 2))
    assert float(seen.gradient["b"]) == pytest.approx(np.mean(2 * residual * value * X))
    exp = next(o for o in seen.operations if o.name == "exp")
    assert (exp.shape, exp.value.high) == ((11,), pytest.approx(np.exp(0.5)))


def test_a_module_layer_by_layer():
    module = network(1, 4, 1)
    seen = gradfit.explain(module, LINE_DATA, target="y", lr=0.1, dtype="float32")
    x, y = (torch.tensor(v, dtype=torch.float32).reshape(-1, 1) for v in LINE_DATA.values())
    loss = ((module(x) - y) ** 2).mean()
    gradients = torch.autograd.grad(loss, list(module.parameters()))
    assert seen.loss == pytest.approx(loss.item(), rel=1e-6)
    for (name, _), gradient in zip(module.named_parameters(), gradients, strict=True):
        assert seen.gradient[name] == pytest.approx(gradient.numpy(), rel=1e-4)
    assert [o.text for o in seen.operations if o.module] == ["Linear 0", "Tanh 1", "Linear 2"]
    assert node(seen, "Linear 0").shape == (11, 4)
    assert seen.operations[-1].kind == LOSS


def test_a_classifier_and_images():
    rng = np.random.default_rng(0)
    data = {"picture": rng.normal(size=(12, 1, 6, 6)), "kind": np.array(["a", "b", "c"] * 4)}
    module = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(32, 3))
    seen = gradfit.explain(module, data, target="kind", loss="cross-entropy")
    assert node(seen, "Conv2d 0").shape == (12, 2, 4, 4)
    assert seen.operations[-1].name == "cross_entropy"


def test_a_module_is_left_as_it_is():
    module = nn.Sequential(nn.Linear(1, 3), nn.BatchNorm1d(3), nn.Dropout(0.5), nn.Linear(3, 1))
    before = {name: value.clone() for name, value in module.state_dict().items()}
    state = torch.get_rng_state()
    one, two = (gradfit.explain(module, LINE_DATA, target="y") for _ in range(2))
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())
    assert torch.equal(torch.get_rng_state(), state)
    assert one.loss == two.loss  # dropout is drawn alike


def test_under_no_grad():
    with torch.inference_mode():
        assert float(gradfit.explain(LINE, THERMOMETER, start=(1, 0)).gradient["b"]) == pytest.approx(82.6)


# ---------------------------------------------------------------------------- where it starts


@pytest.mark.parametrize(
    ("model", "start", "words"),
    [
        ("y = a*x + b", None, "No start value was given for a and b: 1 was taken"),
        ("y = a*x + b", {"a": 3}, "No start value was given for b: 1 was taken"),
        ("y = a*x + b", [1, 2], "The start values are those given"),
        ("line", None, "the library model's own guess was taken"),
        (lambda x, a=2.0, b=3.0: a * x + b, None, "The function's own defaults"),
    ],
)
def test_the_start_is_told(model, start, words):
    assert words in gradfit.explain(model, LINE_DATA, start=start).start_from


# ---------------------------------------------------------------------------- what is wrong


def test_the_first_value_that_is_not_finite_is_named():
    seen = gradfit.explain("y = a*exp(k*x) + c", LINE_DATA, start=[1, 200, 0])
    assert seen.first_not_finite.text == "exp(k*x)"
    assert seen.first_not_finite.rows == (8, 9, 10, 11)
    assert seen.sentences == (
        "exp(k*x) is the first that is not finite, in rows 8, 9, 10 and 11: k*x is 100 to 1\u202f000. Start elsewhere",
    )
    assert (seen.steps, seen.conditioning, seen.finite) == ((), None, False)


def test_rows_are_those_of_the_file():
    data = {"x": [1, 2, 3, 4], "y": [1, 2, 3, 4]}
    seen = gradfit.explain("y = log(a*x - 5)", data, start=[2], where="x > 1")
    assert seen.first_not_finite.rows == (2,)


@pytest.mark.parametrize(
    ("model", "data", "dtype", "words"),
    [
        (
            "y = sqrt(a*x)",
            {"x": [0.0, 1.0], "y": [1.0, 2.0]},
            "float64",
            "the derivative of sqrt(a*x) is not",
        ),
        ("y = a*x", {"x": [1e300, 1.0], "y": [1.0, 2.0]}, "float32", "x does not fit into float32 in row 1"),
        (
            "y = a*x",
            {"x": [1e300, 1.0], "y": [1.0, 2.0]},
            "float64",
            "(prediction − y)**2 is the first that is not finite",
        ),
        ("y = a*x + b*0", LINE_DATA, "float64", "The gradient of b is zero: no step moves it from here"),
        (
            "y = a*x + b",
            {"x": X + 1e6, "y": X},
            "float64",
            "The gradient of a is 1.0\u202f×\u202f10⁶ times that of b",
        ),
    ],
)
def test_sentences(model, data, dtype, words):
    assert any(words in text for text in gradfit.explain(model, data, dtype=dtype).sentences)


class Ignores(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.level = nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.level.expand(len(x))


class Detached(nn.Linear):
    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002  torch's name
        return super().forward(input).detach()


@pytest.mark.parametrize(
    ("model", "told", "kind", "message"),
    [
        ("y = a*x", {"data": {"x": X, "y": np.where(X > 4, np.nan, X)}}, DataError, "have no number in y"),
        ("y = a*x", {"data": None}, DataError, "explain() needs data"),
        (lambda x: 2 * x, {}, ModelError, "has no parameter"),
        ("y = a*x", {"start": "search"}, OptionError, "a pass is made at one point"),
        ("y = a*x", {"start": {"k": 1}}, OptionError, "start= names k, which is no parameter"),
        ("y = a*x", {"lr": [0.1, 0]}, OptionError, "lr must be positive numbers, and has 0"),
        ("y = a*x", {"dtype": "float16"}, OptionError, "dtype is 'float16'"),
        ("y = a*x", {"loss": "wrong"}, OptionError, "loss='wrong' is not known here"),
        ("y = a*x", {"loss": lambda p, y: (p - y) ** 2}, ModelError, "returned shape (11,)"),
        ("y = a*x", {"inputs": ["x"]}, OptionError, "are for a torch.nn.Module"),
        (
            lambda x, a: np.array([float(v) * float(a) for v in x]),
            {},
            ModelError,
            "there is no backward pass",
        ),
        (lambda x, a: (a * x)[:, None], {}, ShapeError, "it must return (11,)"),
        (nn.Identity(), {"target": "y"}, ModelError, "Identity has no parameters that take a gradient"),
        (Ignores(), {"target": "y"}, ModelError, "Ignores ignores its input (x)"),
        (Detached(1, 1), {"target": "y"}, ModelError, "does not depend on weight and bias"),
        (nn.Linear(3, 1), {"target": "y"}, ModelError, "Linear fails on the data, x (11, 1)"),
        (nn.Linear(1, 2), {"target": "y"}, ShapeError, "Linear returned shape (11, 2) for 11 rows"),
        (nn.Linear(1, 1), {}, OptionError, "target= must name"),
        (nn.Linear(1, 1), {"target": "z"}, DataError, "no column z"),
        (nn.Linear(1, 1), {"target": "y", "inputs": ["y"]}, OptionError, "y is among inputs= and target="),
        (
            nn.Linear(1, 1),
            {"target": "y", "start": [1]},
            OptionError,
            "a module starts with the weights it has",
        ),
    ],
)
def test_refused_in_words(model, told, kind, message):
    with pytest.raises(kind) as caught:
        gradfit.explain(model, **{"data": LINE_DATA, **told})
    assert message in caught.value.message


# ---------------------------------------------------------------------------- text and picture


@pytest.mark.parametrize("width", [40, 80, 120])
def test_text_keeps_to_its_width(width):
    from gradfit.terminal.explaining import explanation_text

    for seen in (
        gradfit.explain(LINE, THERMOMETER, start=(1, 0)),
        gradfit.explain(network(1, 4, 1), LINE_DATA, target="y"),
    ):
        lines = explanation_text(seen, width=width).split("\n")
        assert max(map(cells, lines)) <= width
        assert explanation_text(seen, width=width, unicode=False).isascii()


def test_printed():
    text = str(gradfit.explain(LINE, THERMOMETER, start=(1, 0))).replace("\u202f", " ")
    assert "loss = mean((prediction − t_c)**2)   ()      1 764           1" in text
    assert "w           1 °C/(unit of t_u)   4 517.3    9 034.6    13 552     °C·(unit of t_u)" in text
    assert "The gradient of w is 55 times that of b" in text


def test_plain_numbers_are_json():
    for start in ([1, 0], [1e308, 1e308]):
        plain = gradfit.explain(LINE, THERMOMETER, start=start).to_dict()
        assert json.loads(json.dumps(plain, allow_nan=False))["model"] == LINE


def chain(length: int) -> tuple[Operation, ...]:
    ones = Spread(1.0, 1.0, 1.0)
    out = [
        Operation("a", PARAMETER, "a", "a", (), (), ones, ones),
        Operation("b", PARAMETER, "b", "b", (), (), ones, ones),
    ]
    for i in range(length):
        out.append(Operation("mul", "operation", "×", f"t{i}", (len(out) - 1, i % 2), (), ones, ones))
    return tuple(out)


@pytest.mark.parametrize("most", [8, 12, 30])
@pytest.mark.parametrize(
    "operations",
    [
        chain(5),
        chain(100),
        gradfit.explain(network(2, *[3] * 12, 1), {"u": X, "v": X, "y": X}, target="y").operations,
    ],
    ids=["short", "long", "deep"],
)
def test_folding_keeps_ends_and_order(operations, most):
    small = folded(operations, most)
    assert len(small) <= max(most, min(len(operations), most))
    assert small[-1].value == operations[-1].value
    for i, o in enumerate(small):
        assert all(j < i for j in o.operands)
    reached, todo = set(), [len(small) - 1]
    while todo:
        i = todo.pop()
        if i not in reached:
            reached.add(i)
            todo += small[i].operands
    assert len(reached) == len(small)


@pytest.mark.parametrize("operations", [chain(3), chain(12)])
def test_no_two_nodes_stand_on_one_place(operations):
    shown, again = beside_their_use(operations)
    at = places(shown)
    assert len(set(at)) == len(at)
    assert {shown[i].text for i in again} <= {"a", "b"}
    for i, o in enumerate(shown):
        assert all(at[j].column < at[i].column for j in o.operands)


@pytest.mark.parametrize(
    "explanation",
    [
        lambda: gradfit.explain(LINE, THERMOMETER, start=(1, 0)),
        lambda: gradfit.explain("y = a*exp(k*x)", LINE_DATA, start=[1, 500]),
        lambda: gradfit.explain(network(1, *[3] * 20, 1), LINE_DATA, target="y"),
        lambda: gradfit.explain("{a$b_c} = w*{x^2}", {"x^2": X, "a$b_c": X}, start=[1]),
    ],
    ids=["line", "not finite", "deep", "odd names"],
)
def test_the_picture_is_drawn(explanation, tmp_path):
    figure = explanation().plot()
    assert figure.get_figwidth() < 15
    assert save(figure, tmp_path / "pass.png").stat().st_size > 5000


# ---------------------------------------------------------------------------- command line


def test_command(run):
    words = [
        "explain",
        THERMOMETER,
        LINE,
        "--start",
        "w=1",
        "--start",
        "b=0",
        "--lr",
        "1e-2",
        "--lr",
        "1e-4",
        "--plot",
        "a.png",
    ]
    seen = run(*words)
    assert (seen.code, seen.err) == (0, "")
    assert (
        "One step with lr 0.01 makes the loss 3 300 times as large: the largest stable step is 0.00034"
        in flat(seen.out)
    )
    assert Path("a.png").stat().st_size > 5000
    assert "a.png is there already" in flat(run(*words).err)


def test_command_for_programs(run):
    seen = run(
        "explain",
        THERMOMETER,
        LINE,
        "--start",
        "w=1, b=0",
        "--dtype",
        "float32",
        "--lr",
        "1e-2,1e-4",
        "--json",
    )
    plain = json.loads(seen.out)
    assert round(plain["parameters"]["w"]["gradient"], 4) == 4517.2969
    assert [step["lr"] for step in plain["steps"]] == [0.01, 0.0001]


def test_command_on_what_overflows(run):
    Path("e.csv").write_text("x,y\n1,2\n900,3\n")
    seen = run("explain", "e.csv", "y = exp(k*x)")
    assert seen.code == 1
    assert "exp(k*x) is the first that is not finite, in row 2" in flat(seen.out)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--lr", "fast"], "--lr takes positive numbers, and 'fast' is none"),
        (["--lr", "0"], "--lr takes positive numbers, and '0' is none"),
        (["--plot", "a.gif"], "a figure is .png, .svg or .pdf"),
        (["--start", "v=1"], "start= names v, which is no parameter of the model"),
    ],
)
def test_command_that_refuses(run, words, message):
    seen = run("explain", THERMOMETER, LINE, *words)
    assert (seen.code, seen.out) == (2, "")
    assert message in flat(seen.err)
    assert "Not explained" in seen.err
