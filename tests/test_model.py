"""Models bound to columns: which names mean what, what is traced, what a wrong shape says, and how functions are called."""

import functools
import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit
from gradfit import DataError, FormulaError, Model, ModelError, OptionError, ShapeError
from gradfit.library import MODELS
from gradfit.model import bind_formula, bind_function, name_of, settle_names, signature_of

X = np.array([0.2, 0.5, 1.0, 1.7, 2.5, 3.1])
P = np.array([1.3, 0.7])


def bound(text, columns=("x", "y"), response=None, named=(), levels=()):
    return bind_formula(text, columns, response, frozenset(named), "data.csv", levels)


def function_model(function, columns=(X,), names=("x", "y"), start=None, response="y"):
    settled = settle_names(function, names, response, None if start is None else len(start))
    return bind_function(function, settled, list(columns), response, start)


# ---------------------------------------------------------------------------- formulas


@pytest.mark.parametrize(
    ("text", "columns", "response", "expected"),
    [
        ("y = a*x + b", ("x", "y"), None, ("y", ("x",), ("a", "b"))),
        ("a*x + b", ("x", "y"), None, ("y", ("x",), ("a", "b"))),
        ("a*x + b", ("x", "y", "z"), "z", ("z", ("x",), ("a", "b"))),
        ("y = b*u + a*x", ("x", "y", "u"), None, ("y", ("u", "x"), ("b", "a"))),
        ("log(y) = a*x", ("x", "y"), None, ("log(y)", ("x",), ("a",))),
        ("y = c", ("x", "y"), None, ("y", (), ("c",))),
        ("{my y} = a*{my x}", ("my x", "my y"), None, ("my y", ("my x",), ("a",))),
        ("y = a*exp(x)*e", ("x", "y"), None, ("y", ("x",), ("a",))),
        ("y = a*pi*x", ("x", "y"), None, ("y", ("x",), ("a",))),
        ("y = a*e", ("e", "y"), None, ("y", ("e",), ("a",))),  # a column named e is data
        ("y = gamma*x", ("x", "y"), None, ("y", ("x",), ("gamma",))),
        ("y = lambda*exp(-x/step)", ("x", "y"), None, ("y", ("x",), ("lambda", "step"))),
        ("y(x) = a*x", ("x", "y"), None, ("y", ("x",), ("a",))),
    ],
)
def test_names_of_a_formula(text, columns, response, expected):
    model = bound(text, columns, response)
    assert (model.response, model.inputs, model.parameters) == expected
    assert model.graph.parameters == model.parameters


def test_a_constant_is_a_parameter_when_it_is_given_a_start():
    assert bound("y = pi*x + e", named=["pi", "e"]).parameters == ("pi", "e")
    fixed = gradfit.fit("y = a*x + e", {"x": X, "y": 2 * X + math.e})
    assert fixed.values == pytest.approx({"a": 2})
    free = gradfit.fit("y = a*x + e", {"x": X, "y": 2 * X + 5}, start={"e": 1})
    assert free.values == pytest.approx({"a": 2, "e": 5})
    assert (
        "e was read as the constant 2.71828; to fit it, give it a start value" in bound("y = a*x + e").notes
    )


def test_a_parameter_that_is_a_column_but_for_its_case_is_noted():
    assert bound("y = a*x + b*X").notes == ("X was read as a parameter; the column is x",)


@pytest.mark.parametrize(
    ("text", "columns", "response", "message", "remedy"),
    [
        ("z = a*x", ("x", "y"), None, "There is no column z in data.csv", "Columns: x, y."),
        ("tmp = a*x", ("x", "temp"), None, "There is no column tmp in data.csv", "Did you mean temp?"),
        ("y = a*y", ("x", "y"), None, "y stands on both sides of 'y = a*y'", ""),
        ("log(y) = a*x + y", ("x", "y"), None, "y stands on both sides", ""),
        (
            "y = 2*x",
            ("x", "y"),
            None,
            "'y = 2*x' has nothing to fit: no name in it is a parameter. x are columns.",
            "Add one",
        ),
        ("y = 2", ("x", "y"), None, "has nothing to fit", "Add one, as in y = a*x + b"),
        (
            "y = a*tme + b",
            ("time", "y"),
            None,
            "uses no column of data.csv, so a, tme, b cannot be told apart",
            "Did you mean time?",
        ),
        ("y = tme", ("time", "y"), None, "uses no column of data.csv", "Did you mean time?"),
        ("2 = a*x", ("x", "y"), None, "The left side of '2 = a*x' holds no column", ""),
        (
            "y = a*x",
            ("x", "y", "z"),
            "z",
            "response= names z, and the left side of 'y = a*x' does not",
            "Leave one of them out",
        ),
        (
            "a*x",
            ("x", "y", "z"),
            None,
            "does not say what was observed, and y, z could be the response",
            'Write "y = ..."',
        ),
        ("a*x*y", ("x", "y"), None, "no column is left to be the response", 'response="y"'),
        ("a*x", ("x", "y"), "q", "There is no column q in data.csv", "Known: x, y"),
    ],
)
def test_formulas_that_do_not_fit_the_columns(text, columns, response, message, remedy):
    with pytest.raises((FormulaError, DataError)) as caught:
        bound(text, columns, response)
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_the_place_of_a_missing_column_is_shown():
    with pytest.raises(FormulaError) as caught:
        bound("zz = a*x")
    assert caught.value.excerpt == "zz = a*x\n^^"


# ---------------------------------------------------------------------------- text in a model

CONC = np.array([0.02, 0.02, 0.06, 0.06, 0.11, 0.11, 0.22, 0.22, 0.56, 0.56, 1.10, 1.10])
STATE = np.array(["treated", "untreated"] * 6, dtype=object)
TREATED = (STATE == "treated").astype(float)
RATE = (160 + 50 * TREATED) * CONC / (0.05 + CONC)
LEVELS = (("state", ("treated", "untreated")),)
TEXT_MODEL = 'rate = (Vm + dV*(state == "treated"))*conc/(K + conc)'


def test_text_is_compared_by_its_code():
    model = bound(TEXT_MODEL, ("conc", "state", "rate"), levels=LEVELS)
    assert (model.inputs, model.parameters) == (("state", "conc"), ("Vm", "dV", "K"))
    value, jacobian = model.kernel().value_jacobian([1 - TREATED, CONC], np.array([160, 50, 0.05]))
    assert value == pytest.approx(RATE)
    assert jacobian[:, 1] == pytest.approx(TREATED * CONC / (0.05 + CONC))
    assert model.expression.first_failure({"state": 0.0, "conc": 0.0, "K": 0.0, "Vm": 1.0, "dV": 1.0}) == (
        "div(0, 0) is not a number"
    )


def test_a_level_that_no_row_has_gets_the_nearest():
    with pytest.raises(FormulaError) as caught:
        bound(TEXT_MODEL.replace('"treated"', '"Treated"'), ("conc", "state", "rate"), levels=LEVELS)
    assert caught.value.message == 'No row of state is "Treated"'
    assert caught.value.remedy == 'state holds "treated", "untreated". Did you mean "treated"?'


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'rate = a*conc*(stat == "treated")',
            "stat is compared with a piece of text, and is no column of data.csv",
        ),
        (
            'rate = a*state*(state == "treated")',
            "state is compared with a piece of text, and computed with as a number",
        ),
    ],
)
def test_text_where_there_is_none(text, words):
    with pytest.raises(FormulaError) as caught:
        bound(text, ("conc", "state", "rate"), levels=LEVELS)
    assert words in caught.value.message


def test_a_model_with_text_can_be_called():
    model = Model(TEXT_MODEL, inputs=("conc", "state"))
    assert model.parameters == ("Vm", "dV", "K")
    assert model(conc=CONC, state=STATE, Vm=160, dV=50, K=0.05) == pytest.approx(RATE)


# ---------------------------------------------------------------------------- signatures


def _plain(x, a, b):
    return a * x + b


def _defaults(x, a=2.0, b=3):
    return a * x + b


def _keyword_only(x, a, *, b=0.5):
    return a * x + b


def _required_keyword(x, a, *, b):
    return a * x + b


def _settings(x, a, kind="line", unit=(), table=None, b=1.0):
    assert (kind, unit, table) == ("line", (), None)
    return a * x + b


def _starred(x, *params):
    return params[0] * x + params[1]


def _starred_more(x, a, *rest, b=2.0):
    return a * x + rest[0] * x**2 + b


def _positional_only(x, a, b, /):
    return a * x + b


class Line:
    def __init__(self, offset=0.0):
        self.offset = offset

    def __call__(self, x, a, b):
        return a * x + b + self.offset

    def value(self, x, a, b):
        return a * x + b + self.offset


@pytest.mark.parametrize(
    ("function", "columns", "start", "inputs", "parameters", "defaults"),
    [
        (_plain, ("x", "y"), None, ("x",), ("a", "b"), {}),
        (_defaults, ("x", "y"), None, ("x",), ("a", "b"), {"a": 2.0, "b": 3.0}),
        (_keyword_only, ("x", "y"), None, ("x",), ("a", "b"), {"b": 0.5}),
        (_required_keyword, ("x", "y"), None, ("x",), ("a", "b"), {}),
        (_settings, ("x", "y"), None, ("x",), ("a", "b"), {"b": 1.0}),
        (_starred, ("x", "y"), 2, ("x",), ("p0", "p1"), {}),
        (_starred, ("x", "y"), ["slope", "level"], ("x",), ("slope", "level"), {}),
        (_starred_more, ("x", "y"), 3, ("x",), ("a", "b", "p0"), {"b": 2.0}),
        (_positional_only, ("x", "y"), None, ("x",), ("a", "b"), {}),
        (Line(), ("x", "y"), None, ("x",), ("a", "b"), {}),
        (Line().value, ("x", "y"), None, ("x",), ("a", "b"), {}),
        (functools.partial(_plain, b=2.0), ("x", "y"), None, ("x",), ("a",), {}),
        (functools.partial(_settings, kind="line"), ("x", "y"), None, ("x",), ("a", "b"), {"b": 1.0}),
        (functools.partial(_plain, X), ("a", "y"), None, ("a",), ("b",), {}),
        (lambda b, x, a: a * x + b, ("x", "y"), None, ("x",), ("b", "a"), {}),
        (lambda u, a, v: u * a + v, ("u", "v", "y"), None, ("u", "v"), ("a",), {}),
        (lambda t, a: a * t, ("x", "y"), None, ("x",), ("a",), {}),  # as SciPy has it, the first is the data
        (
            lambda t, a: a * t,
            ("y", "x"),
            None,
            ("x",),
            ("a",),
            {},
        ),  # y is what is observed, wherever it stands
        (lambda t, a: a * t, ("time", "signal"), None, ("time",), ("a",), {}),
        (lambda x, a, b=True: a * x + b, ("x", "y"), None, ("x",), ("a",), {}),
        (lambda *p: p[0] * p[1], ("x", "y"), 1, ("x",), ("p0",), {}),
        (lambda x, a, t=None: a * x + t, ("x", "t", "y"), None, ("x", "t"), ("a",), {}),
    ],
)
def test_names_of_a_function(function, columns, start, inputs, parameters, defaults):
    names = settle_names(function, columns, "y" if columns[-1] == "y" and len(columns) > 2 else None, start)
    assert (names.inputs, names.parameters, names.defaults) == (inputs, parameters, defaults)
    columns = {name: X + k for k, name in enumerate(inputs)}
    values = {name: 1.5 + k for k, name in enumerate(parameters)}
    seen = names.call(function, [*columns.values(), *values.values()])
    assert seen == pytest.approx(_by_signature(function, columns, values))


def _by_signature(function, columns, values):
    """The same call as a person would write it."""
    given_ = {**columns, **values}
    parameters = inspect.signature(function).parameters
    first = [next(iter(columns.values()))] if not set(columns) & set(parameters) else []
    if any(p.kind is p.VAR_POSITIONAL for p in parameters.values()):
        named = {
            n: v
            for n, v in given_.items()
            if n in parameters and parameters[n].kind is parameters[n].KEYWORD_ONLY
        }
        fixed = [given_[n] for n in parameters if n in given_ and n not in named]
        rest = [v for n, v in values.items() if n not in parameters]
        return function(*(fixed if set(columns) & set(parameters) else first), *rest, **named)
    if any(p.kind is p.POSITIONAL_ONLY for p in parameters.values()):
        return function(*given_.values())
    names = [n for n in parameters if n in given_]
    if first:
        return function(first[0], **values)
    return function(**{n: given_[n] for n in names})


@pytest.mark.parametrize(
    ("function", "columns", "response", "start", "words"),
    [
        (_starred, ("x", "y"), None, None, "starred(x, *params) takes any number of parameters"),
        (lambda *p: p[0], ("x", "y"), None, None, "lambda(*p) takes any number of parameters"),
        (
            lambda x, y: x * y,
            ("x", "y"),
            None,
            None,
            "lambda(x, y) has no parameters: all its arguments are columns",
        ),
        (lambda x: x, ("x", "y"), None, None, "lambda(x) has no parameters"),
        (
            lambda x, y, a: a * x * y,
            ("x", "y"),
            "y",
            None,
            "y is the observed column and an argument of lambda(x, y, a)",
        ),
        (
            lambda t, a: a * t,
            ("u", "v", "y"),
            None,
            None,
            "No argument of lambda(t, a) is named like a column, and u, v could be meant by t",
        ),
        (
            lambda t, a: a * t,
            ("y",),
            None,
            None,
            "No argument of lambda(t, a) is named like a column, and no column could be",
        ),
        (lambda: 1, ("x", "y"), None, None, "lambda() has no parameters"),
        (
            lambda x, kind="a", *p: x,
            ("x", "y"),
            None,
            2,
            "kind of lambda(x) stands before *p and keeps its default",
        ),
        (dict.fromkeys, ("x", "y"), None, None, "fromkeys"),
        (min, ("x", "y"), None, None, "min does not tell its arguments"),
    ],
)
def test_functions_that_do_not_fit_the_columns(function, columns, response, start, words):
    with pytest.raises(ModelError) as caught:
        settle_names(function, columns, response, start)
    assert words in caught.value.message.replace("_starred", "starred")


def test_names_of_functions():
    assert name_of(_plain) == "_plain"
    assert name_of(functools.partial(functools.partial(_plain, a=1), b=2)) == "_plain"
    assert name_of(Line()) == "Line"
    assert name_of(Line().value) == "value"
    assert name_of(lambda x: x) == "lambda"
    assert signature_of(np.vectorize(_plain, signature="(n),(),()->(n)")).starred == "args"


@pytest.mark.parametrize(
    ("function", "start"),
    [
        (_plain, None),
        (_keyword_only, None),
        (_required_keyword, None),
        (_settings, None),
        (_starred, [1.0, 1.0]),
        (_starred, {"slope": 1.0, "level": 1.0}),
        (_positional_only, None),
        (Line(), None),
        (Line().value, None),
        (lambda b, x, a: a * x + b, None),
        (lambda t, a, b: a * t + b, None),
        (lambda *p: p[1] * p[0] + p[2], [1.0, 1.0]),
        (lambda x, p0, p1: p0 * x + p1, (1, 1)),
        (lambda x, a, b: torch.add(a * x, b), None),
        (lambda x, *p: torch.stack([p[0] * x, p[1] + 0 * x]).sum(0), [1.0, 1.0]),
    ],
)
def test_every_kind_of_function_is_fitted(function, start):
    result = gradfit.fit(function, {"x": X, "y": 2 * X - 1}, start=start)
    assert sorted(result.values.values()) == pytest.approx([-1, 2], rel=1e-8)


# ---------------------------------------------------------------------------- what is traced, and what is not

POINTWISE = {
    "numpy": lambda x, a, b: a * np.exp(-b * x),
    "torch": lambda x, a, b: a * torch.exp(-b * x),
    "asarray": lambda x, a, b: a * np.exp(-b * np.asarray(x)),
    "list of terms": lambda x, a, b: np.sum([a * np.exp(-k * b * x) for k in (1, 2)], axis=0),
    "integer of a parameter": lambda x, a, b: a * x**2 + b,
}

OTHERS = "the value at a row depends on other rows"
ON_COLUMNS = "tensor (autograd on whole columns)"
DIFFERENCES = "numpy (derivatives by differences)"


def _torch_mask(x, a, b):
    y = torch.zeros_like(x)
    y[x < 1] = a * x[x < 1]
    y[x >= 1] = b
    return y


def _loop(x, a, b):
    return np.array([a * math.exp(-b * v) for v in x])


def _scan(x, a, b):
    out = [a]
    for v in x[1:]:
        out.append(out[-1] * 0.5 + b * v)
    return np.array(out)


class Detached(torch.autograd.Function):
    @staticmethod
    def forward(_ctx, x):
        return 3 * x

    @staticmethod
    def backward(_ctx, g):
        return 5 * g  # wrong


NOT_TRACED = {
    "mean": (lambda x, a, b: a * (x - x.mean()) + b, "np.mean joins rows", ON_COLUMNS),
    "torch mean": (lambda x, a, b: a * (x - torch.mean(x)) + b, OTHERS, ON_COLUMNS),
    "largest": (lambda x, a, b: a * x / x.max() + b, "np.max joins rows", ON_COLUMNS),
    "torch largest": (lambda x, a, b: a * x / torch.amax(x) + b, "", ON_COLUMNS),
    "sorted": (lambda x, a, b: a * torch.sort(x)[0] + b, "", ON_COLUMNS),
    "rows": (lambda x, a, b: a * x / len(x) + b, "the model asks for the number of rows", ON_COLUMNS),
    "size": (lambda x, a, b: a * x / x.size + b, OTHERS, ON_COLUMNS),
    "sum of all": (lambda x, a, b: np.sum([a * x, b * x]) + 0 * x, OTHERS, DIFFERENCES),
    "cumsum": (lambda x, a, b: np.cumsum(a * x) + b, "np.cumsum joins rows", ON_COLUMNS),
    "reversed": (lambda x, a, b: a * x[::-1] + b, "the model picks rows by position", DIFFERENCES),
    "first row": (lambda x, a, b: a * (x - x[0]) + b, "the model picks rows by position", ON_COLUMNS),
    "outer": (
        lambda x, a, b: (a * np.exp(-b * x[:, None] * [[1, 2]])).sum(axis=1),
        "picks rows by position",
        DIFFERENCES,
    ),
    "interp": (
        lambda x, a, b: a * np.interp(x, [0, 1, 4], [0, 1, 2]) + b,
        "np.interp has no counterpart",
        DIFFERENCES,
    ),
    "convolve": (
        lambda x, a, b: a * np.convolve(x, [1, 1], "same") + b,
        "np.convolve has no counterpart",
        DIFFERENCES,
    ),
    "math of a parameter": (lambda x, a, b: a * x * math.exp(b), "float() or a math function", DIFFERENCES),
    "if": (lambda x, a, b: a * x + (b if b > 0 else 0), "the model asks `if` of a value", DIFFERENCES),
    "torch if": (
        lambda x, a, b: a * torch.exp(x) + (b if b > 0 else 0),
        "the model looks at a value",
        ON_COLUMNS,
    ),
    "torch mask": (_torch_mask, "", ON_COLUMNS),
    "loop": (_loop, "", DIFFERENCES),
    "scan": (_scan, "", DIFFERENCES),
    "float32": (lambda x, a, b: a * torch.exp(-b * x.float()), "it rounds to float32", DIFFERENCES),
    "detached": (
        lambda x, a, b: a.detach() * x + b * torch.exp(-x),
        "the derivatives that torch gives",
        DIFFERENCES,
    ),
    "wrong derivative": (
        lambda x, a, b: a * x + Detached.apply(b),
        "the derivatives that torch gives",
        DIFFERENCES,
    ),
    "no grad": (
        torch.no_grad()(lambda x, a, b: a * x + b * x**2 + torch.zeros(())),
        "the derivatives that torch gives",
        DIFFERENCES,
    ),
    "vectorize": (lambda x, a, b: np.vectorize(lambda v: a * math.exp(-b * v))(x), "", DIFFERENCES),
}


@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_functions_are_traced(name):
    function = POINTWISE[name]
    model = function_model(function)
    assert (model.fallback, model.graph is None) == ("", False)
    value, jacobian = model.kernel().value_jacobian([X], P)
    expected = model.function(X, *P)
    assert value == pytest.approx(expected, rel=1e-13)
    by_torch = model.on_torch()(torch.tensor(X), *torch.tensor(P))
    assert by_torch.numpy() == pytest.approx(expected, rel=1e-13)
    assert jacobian.shape == (6, 2)


@pytest.mark.parametrize("name", NOT_TRACED)
def test_what_is_not_traced_falls_back_by_name(name):
    function, reason, kernel = NOT_TRACED[name]
    for start in (None, P):
        model = function_model(function, start=start)
        assert model.graph is None
        assert reason in model.fallback
        assert model.kernel().name == kernel
        value, jacobian = model.kernel().value_jacobian([X], P)
        expected = model.function(X, *P)
        assert value == pytest.approx(expected, rel=1e-7 if name == "float32" else 1e-12)
        if name != "float32":
            for j in range(2):
                step = np.where(np.arange(2) == j, 1e-5, 0.0)
                slope = (model.function(X, *(P + step)) - model.function(X, *(P - step))) / 2e-5
                assert jacobian[:, j] == pytest.approx(slope, rel=1e-6, abs=1e-7)


def test_a_fallback_is_told_by_the_result():
    result = gradfit.fit(lambda x, a, b: a * (x - x.mean()) + b, {"x": X, "y": 2 * X}, start=[1, 1])
    assert result.values == pytest.approx({"a": 2, "b": 2 * X.mean()})
    assert any("np.mean joins rows" in sentence and ON_COLUMNS in sentence for sentence in result.how)
    assert result.executor == ON_COLUMNS


def test_torch_optimizers_say_when_they_cannot():
    with pytest.raises(ModelError) as caught:
        gradfit.fit(NOT_TRACED["interp"][0], {"x": X, "y": X}, start=[1, 1], solver="SGD", lr=0.01, epochs=2)
    assert "can only be evaluated, not differentiated by torch" in caught.value.message
    assert "np.interp has no counterpart" in caught.value.message


@pytest.mark.parametrize("column", [np.full(6, 2.5), np.zeros(6)])
def test_a_constant_column_does_not_hide_that_rows_are_joined(column):
    """x - mean(x) is 0 here, and a trace says so; new data would be predicted wrongly."""
    model = function_model(lambda x, a, b: a * (x - torch.mean(x)) + b, columns=[column], start=P)
    assert model.fallback == OTHERS


def test_whole_numbers_do_not_hide_rounding():
    def rounding(x, a, b):
        return a * torch.trunc(x) + b + 0 * x.to(torch.int64)

    model = function_model(rounding, columns=[np.arange(6.0)], start=P)
    assert model.kernel().value([X], P) == pytest.approx(1.3 * np.trunc(X) + 0.7)


def test_a_trace_follows_the_state_of_its_function():
    line = Line()
    first = function_model(line)
    assert first.kernel().value([X], P) == pytest.approx(1.3 * X + 0.7)
    line.offset = 5.0
    second = function_model(line)
    assert second.graph is not None
    assert second.kernel().value([X], P) == pytest.approx(1.3 * X + 5.7)
    assert first.kernel().value([X], P) == pytest.approx(1.3 * X + 0.7)


def test_columns_are_not_written_to():
    def writing(x, a, b):
        x -= x[0]
        return a * x + b

    data = {"x": X.copy(), "y": 2 * X}
    for options in ({}, {"solver": "SGD", "lr": 0.01, "epochs": 3}):
        result = gradfit.fit(writing, data, start=[1, 1], **options)
        assert np.array_equal(result.data.columns["x"], X)
        assert np.array_equal(data["x"], X)
    assert gradfit.fit(writing, data, start=[1, 1]).values == pytest.approx({"a": 2, "b": 0.4})


def test_bounds_reach_functions_that_are_only_evaluated():
    seen = []

    def watched(x, a, b):
        seen.append((float(a), float(b)))
        return a * np.interp(x, X, X**2) + math.sqrt(b)

    model = function_model(watched, start=np.array([1.0, 0.0]))
    seen.clear()
    kernel = model.kernel(lower=np.zeros(2), upper=np.array([1.0, 1.0]))
    kernel.value_jacobian([X], np.array([1.0, 0.0]))
    assert 0 <= np.min(seen) <= np.max(seen) <= 1


# ---------------------------------------------------------------------------- shapes and values


@pytest.mark.parametrize(
    ("function", "shape", "joined", "remedy"),
    [
        (lambda x, a: (a * x)[:, None], "(6, 1)", "(6, 6)", "End the model with .squeeze(-1)"),
        (lambda x, a: (a * x)[None, :], "(1, 6)", "(1, 6)", "End the model with .squeeze(0)"),
        (lambda x, a: a * x * x[:, None], "(6, 6)", "(6, 6)", "Return one value a row"),
        (lambda x, a: (a * x)[:1], "(1,)", "(6,)", "Return a number, or one value a row"),
        (lambda x, a: (a * x)[:3], "(3,)", None, "Return one value a row"),
        (lambda x, a: (a * x)[:0], "(0,)", None, "Return one value a row"),
        (lambda x, a: (a * x)[:, None, None], "(6, 1, 1)", "(6, 1, 6)", "End the model with .squeeze(-1)"),
        (lambda x, a: torch.exp(a * x).unsqueeze(-1), "(6, 1)", "(6, 6)", "End the model with .squeeze(-1)"),
        (lambda x, a: [a * x, a * x], "(2, 6)", "(2, 6)", "Return one value a row"),
    ],
)
def test_a_wrong_shape_is_aligned_with_the_data(function, shape, joined, remedy):
    with pytest.raises(ShapeError) as caught:
        gradfit.fit(function, {"x": X, "y": X}, start=[1])
    message, *lines = str(caught.value).split("\n")
    assert f"lambda(x, a) returned shape {shape} for 6 rows; it must return (6,)" in message
    assert caught.value.remedy == remedy
    excerpt = lines[:-1]
    assert excerpt[0].split()[1:] == shape.strip("()").replace(",", " ").split()
    assert excerpt[1].rindex("6") == len(excerpt[0].rstrip()) - 1  # from the back
    if not joined:
        assert excerpt[2].index("^") == len(excerpt[0].rstrip()) - 1
        return
    assert f"Against y it would silently broadcast to {joined}" in message
    assert excerpt[3].split("(")[0].split() == ["joined", *joined.strip("()").replace(",", " ").split()]


def test_the_excerpt():
    with pytest.raises(ShapeError) as caught:
        gradfit.fit(lambda x, a: (a * x)[:, None], {"x": np.arange(12.0), "y": np.arange(12.0)}, start=[1])
    assert caught.value.excerpt == (
        "model    12    1\n"
        "y             12\n"
        "----------------\n"
        "joined   12   12   (12, 12)\n"
        "\n"
        "dimension -1   1, 12 make 12: the 1 of model is repeated\n"
        "dimension -2   12, none make 12: missing in y: put in front as 1, then repeated\n"
        "repeated  model 12 times and y 12 times"
    )


@pytest.mark.parametrize(
    "wrap",
    [
        list,
        tuple,
        lambda v: v.astype(object),
        lambda v: np.float32(v).astype(np.float64) * 0 + v,
        lambda v: [float(u) for u in v],
        torch.as_tensor,
        lambda v: __import__("pandas").Series(v, index=range(5, 11)),
    ],
    ids=["list", "tuple", "objects", "float32", "floats", "tensor", "series"],
)
def test_values_of_any_kind(wrap):
    result = gradfit.fit(lambda x, a, b: wrap(a * x + b), {"x": X, "y": 3 * X - 2}, start=[1, 1])
    assert result.values == pytest.approx({"a": 3, "b": -2}, rel=1e-8)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x, a: None, "lambda(x, a) returned None, not numbers"),
        (lambda x, a: "text", "lambda(x, a) returned a str, not numbers"),
        (lambda x, a: {"y": a * x}, "lambda(x, a) returned a dict, not numbers"),
        (lambda x, a: [a * x, 1], "lambda(x, a) returned a list, not numbers"),
        (lambda x, a: a * x + 1j, "lambda(x, a) returned complex numbers"),
        (lambda x, a: a * x[7], "fails on the data: IndexError"),
        (lambda x, a: a * x @ np.ones((2, 2)), "fails on the data: ValueError"),
        (lambda x, a: a * unknown, "fails on the data: NameError: name 'unknown' is not defined"),  # noqa: F821
        (lambda x, a: 1 / 0, "fails on the data: ZeroDivisionError: division by zero"),
        (lambda x, a: torch.exp(a * x) @ torch.ones(2, 2), "fails on the data: RuntimeError"),
        (lambda x, a: torch.nothing(x), "has no attribute 'nothing'"),
        (lambda x, a: math.exp(x) * a, "fails on the data: TypeError: only"),
    ],
)
def test_what_is_no_value(function, words):
    with pytest.raises(ModelError) as caught:
        gradfit.fit(function, {"x": X, "y": X}, start=[1])
    assert words in caught.value.message


def test_a_failing_assertion_is_told():
    def checked(x, a):
        assert a > 100, "a is small"
        return a * x

    with pytest.raises(ModelError, match="fails on the data: AssertionError: a is small"):
        gradfit.fit(checked, {"x": X, "y": X}, start=[1])


def test_one_number_is_a_constant_model():
    assert gradfit.fit(lambda x, a: a, {"x": X, "y": X}, start=[1]).values["a"] == pytest.approx(X.mean())


# ---------------------------------------------------------------------------- gradfit.Model


def test_models_are_values():
    assert Model("y = a*x") == Model("y = a*x")
    assert len({Model("y = a*x"), Model("y = a*x"), Model(_plain)}) == 2
    with pytest.raises(AttributeError):
        Model("y = a*x").definition = "y = b*x"


@pytest.mark.parametrize(
    ("definition", "inputs", "parameters"),
    [
        ("y = a*exp(-x/tau) + c", None, ("a", "tau", "c")),
        ("y = a*(x - x0)**2", None, ("a", "x0")),
        ("y = a*x1 + b*x2", None, ("a", "b")),
        ("y = a*t", None, ("a",)),
        ("a*x", None, ("a",)),
        ("y = a*u", ("u",), ("a",)),
        (_plain, None, ("a", "b")),
        (_settings, None, ("a", "b")),
        ("gaussian", None, ("a", "x0", "sigma", "c")),
    ],
)
def test_parameters_of_a_model(definition, inputs, parameters):
    assert Model(definition, inputs=inputs).parameters == parameters


def test_every_library_model_can_be_called():
    for name, entry in MODELS.items():
        model = Model(name)
        assert set(model.parameters) == set(entry.example)
        x = np.linspace(*entry.span, 5)
        value = model(x=x, **entry.example)
        assert value.shape == (5,)
        assert np.array_equal(value, model(x, *(entry.example[p] for p in model.parameters)), equal_nan=True)


def test_models_are_called_by_name_and_by_place():
    decay = Model("y = a*exp(-x/tau)")
    assert decay([0, 1], 2, 1) == pytest.approx(decay(x=[0, 1], a=2, tau=1))
    assert decay([0, 1], tau=1, a=2) == pytest.approx([2, 2 / math.e])
    assert Model(_plain)([1, 2] * np.ones(2), 2, b=1) == pytest.approx([3, 5])
    assert Model(lambda x, a: a * torch.exp(x))([0.0, 1.0], 2) == pytest.approx([2, 2 * math.e])
    assert float(decay(0, 2.5, 1)) == 2.5
    assert decay(np.array([1]), 2, 0).tolist() == [0.0]  # no warning


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m(1, 2, 3, 4), "4 values are given, and 'y = a*exp(-x/tau)' takes 3: x, a, tau"),
        (lambda m: m(1, x=2), "x is given twice, by its place and by its name"),
        (lambda m: m(x=1, a=2, tua=3), "tua stands nowhere in 'y = a*exp(-x/tau)'"),
        (lambda m: m(x=1, a=2), "uses tau, which is not among x, a"),
    ],
)
def test_wrong_calls_of_a_model(call, words):
    with pytest.raises((OptionError, FormulaError)) as caught:
        call(Model("y = a*exp(-x/tau)"))
    assert words in caught.value.message


@pytest.mark.parametrize(
    ("definition", "error", "words"),
    [
        (5, OptionError, "A model is a formula or a function, and int is neither"),
        ("y = a**", FormulaError, "Something is missing at the end"),
        ("gausian", OptionError, "The library has no model 'gausian'"),
    ],
)
def test_what_is_no_model(definition, error, words):
    with pytest.raises(error) as caught:
        Model(definition)
    assert words in str(caught.value)


def test_inputs_must_be_known_without_a_table():
    with pytest.raises(ModelError) as caught:
        _ = Model("y = a*dose").parameters
    assert caught.value.remedy == "Say so: Model('y = a*dose', inputs=(\"a\",))"


def test_a_model_fits_and_guesses():
    model = Model("y = a*exp(-x/tau)")
    data = {"x": X, "y": 3 * np.exp(-X / 0.8)}
    assert model.fit(data).values == pytest.approx({"a": 3, "tau": 0.8})
    assert model.guess(data) == pytest.approx({"a": 3, "tau": 0.8}, rel=1e-3)
    assert model.fit(data, fixed={"tau": 0.8}).values["a"] == pytest.approx(3)


@settings(max_examples=30)
@given(st.lists(st.floats(-1e6, 1e6), min_size=3, max_size=8), st.floats(-10, 10), st.floats(-10, 10))
def test_a_formula_and_its_function_are_one_model(x, a, b):
    x = np.array(x)
    formula = bound("y = a*x + b*tanh(x)").kernel()
    function = function_model(lambda x, a, b: a * x + b * np.tanh(x), columns=[x]).kernel()
    for seen, expected in zip(
        function.value_jacobian([x], np.array([a, b])),
        formula.value_jacobian([x], np.array([a, b])),
        strict=True,
    ):
        assert seen == pytest.approx(expected, rel=1e-14, abs=1e-300)
