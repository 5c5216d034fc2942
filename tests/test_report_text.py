"""What a report makes of formulas, units and arguments: typeset text, NumPy code, commands that run again."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import LINE, THERMOMETER, fitted

import gradfit
from gradfit.report import commands, mathtext, units


@pytest.mark.parametrize(
    ("formula", "set_as"),
    [
        ("y = a*exp(-k*x)", "y = a\u2009e^{−k\u2009x}"),
        ("y = x**2 - -b", "y = x^{2} + b"),
        ("y = a - (b - c)", "y = a − (b − c)"),
        ("y = (a + b)*c", "y = (a + b)\u2009c"),
        ("y = (-a)**2", "y = (−a)^{2}"),
        ("y = rate*time", "y = rate · time"),
        ("y = 2*3*x", "y = 2 · 3\u2009x"),
        ("y = abs(x)", "y = |x|"),
        ("y = log10(x_0)", "y = log_{10}(x_{0})"),
        ("log(y) = a", "log(y) = a"),
        ("y = 1e-5*a", "y = 10^{−5}\u2009a"),
        ("y = 0 < x and x < 1", "y = 0 < x and x < 1"),
        ("model(x, a)", "model(x, a)"),
    ],
)
def test_formula_is_typeset(formula, set_as):
    words = mathtext.Typeset(formula, "y").html()
    words = re.sub(r"</su[bp]>", "}", words.replace("<sup>", "^{").replace("<sub>", "_{"))
    assert re.sub(r"<[^>]+>", "", words.replace("&lt;", "\0")).replace("\0", "<") == set_as


def test_fraction_is_stacked_once():
    words = mathtext.Typeset("y = a/(b + c/d)", "y").html()
    assert words.count('class="frac"') == 1
    assert "<i>c</i>\u2009/\u2009<i>d</i>" in words


LEAVES = st.sampled_from(["a", "b", "x", "2", "0.5"])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from(["+", "-", "*", "/"]), inner).map(
            lambda t: f"({t[0]} {t[1]} {t[2]})"
        ),
        inner.map(lambda t: f"(-{t})"),
        st.tuples(st.sampled_from(["exp", "sin", "abs", "tanh"]), inner).map(lambda t: f"{t[0]}({t[1]})"),
        inner.map(lambda t: f"({t})**2"),
    ),
    max_leaves=8,
)
VALUES = {"a": 0.7, "b": -1.3, "x": 0.4}


@given(TREES)
@settings(max_examples=150, deadline=None)
def test_numpy_code_and_typeset_text_mean_the_formula(tree):
    expression = gradfit.formula.parse_expression(tree)
    with np.errstate(all="ignore"):
        value = float(expression.evaluate(VALUES))
        code = commands.numpy_code(expression, {}).replace("np.", "")
        again = float(gradfit.formula.parse_expression(code).evaluate(VALUES))
    assert again == pytest.approx(value, rel=1e-12, nan_ok=True)
    words = mathtext.Typeset(tree, "y").html()
    read = (
        float(gradfit.formula.parse_expression(linear(words)).evaluate(VALUES)) if "|" not in words else value
    )
    if np.isfinite(value) and abs(value) < 1e100:
        assert read == pytest.approx(value, rel=1e-9)


def linear(words: str) -> str:
    """Return typeset HTML as a formula again: juxtaposition is a product, stacks are quotients, e raised is exp."""
    words = re.sub(r"</?i>", "", words).removeprefix("y = ")
    words = words.replace(' class="frac"', "").replace("<span><span>", "((").replace("</span><span>", ")/(")
    words = words.replace("</span></span>", "))")
    words = words.replace("e<sup>", "2.718281828459045**(").replace("<sup>", "**(").replace("</sup>", ")")
    words = words.replace("·", "*").replace("−", "-")
    return re.sub(r"\u2009(?=[^/])(?<!/\u2009)", "*", words).replace("\u2009", "")


@pytest.mark.parametrize(
    ("formula", "columns", "response", "found"),
    [
        ("w*t_u + b", {"t_u": ""}, "°C", {"w": "°C per unit of t_u", "b": "°C"}),
        ("a*exp(-k*(t + t0)) + c", {"t": "s"}, "V", {"a": "V", "k": "1/s", "t0": "s", "c": "V"}),
        ("0.5*g*t**2 + v*t", {"t": "s"}, "m", {"g": "m/s²", "v": "m/s"}),
        ("vmax*s/(km + s)", {"s": "mM"}, "µmol/min", {"vmax": "µmol/min", "km": "mM"}),
        ("a*sin(2*pi*f*t + p)", {"t": "s"}, "V", {"a": "V", "f": "1/s"}),
        ("top/(1 + (ec50/d)**h)", {"d": "nM"}, "%", {"top": "%", "ec50": "nM"}),
        ("a*x**b", {"x": "m"}, "V", {}),
        ("a*x + a", {"x": "m"}, "V", {}),
        ("a*sqrt(x)", {"x": "m"}, "V", {}),
        ("a*x", {"x": "m"}, "", {}),
        ("a*x", {"x": ""}, "", {}),
        ("exp(-k*x)*a", {"x": "m"}, "", {"k": "1/m"}),
    ],
)
def test_units_follow_from_the_formula_or_are_left_blank(formula, columns, response, found):
    expression = gradfit.formula.parse_expression(formula)
    names = [name for name in expression.names if name not in columns and name != "pi"]
    assert units.parameter_units(expression, columns, response, names) == found


@pytest.mark.parametrize(
    ("remedy", "arguments"),
    [
        ('loss="bisquare"', {"loss": "bisquare"}),
        ('fixed={"b": 1}', {"fixed": {"b": 1}}),
        ('bounds={"c": (None, 2)}', {"bounds": {"c": (None, 2)}}),
        ("sigma=scatter  # an array", None),
        ("measure longer", None),
        ("", None),
        ("a=1) or f(", None),
    ],
)
def test_remedies_become_arguments_where_they_are_code(remedy, arguments):
    assert commands.remedy_arguments(remedy) == arguments


def test_commands_repeat_the_fit():
    settings_ = {
        "bounds": {"w": (0, None)},
        "start": {"w": 1, "b": 0},
        "loss": "huber",
        "exclude": [3, 7],
        "level": 0.9,
    }
    result = gradfit.fit("t_c = w*t_u + b", THERMOMETER, **settings_)
    assert commands.settings_of(result) == settings_
    line = " ".join(commands.shell(result, settings_).replace("\\\n", "").split())
    assert line == (
        f'gradfit fit {THERMOMETER} "t_c = w*t_u + b" '
        "--bounds w=0: --start w=1,b=0 --loss huber --exclude 3,7 --level 0.9"
    )
    scope: dict[str, object] = {"gf": gradfit}
    exec(compile(commands.python(result, settings_), "report", "exec"), scope)  # noqa: S102  what is printed must run
    assert scope["result"].values == result.values


def test_optimizer_settings_are_written_as_the_command_takes_them():
    settings_ = {"solver": "SGD", "lr": 1e-4, "epochs": 3, "momentum": 0.9}
    result = gradfit.fit("t_c = w*t_u + b", THERMOMETER, start={"w": 1, "b": 0}, **settings_)
    line = commands.shell(result, commands.settings_of(result))
    assert line.endswith("--start w=1,b=0 --solver SGD --lr 0.0001 --epochs 3 --set momentum=0.9")


def test_what_no_shell_can_say_is_left_to_python():
    result = gradfit.fit("y = a*x + b", LINE, sigma=np.full(60, 2.0))
    assert commands.shell(result, commands.settings_of(result)) == ""
    assert (
        commands.python(result, commands.settings_of(result))
        == 'result = gf.fit("y = a*x + b", data, sigma=sigma)'
    )


@pytest.mark.parametrize(
    "name", ["line", "several inputs", "no input", "sigma", "weights", "one fixed", "decades", "20 000 rows"]
)
def test_scipy_program_prints_the_same_numbers(name):
    result = fitted(name)
    program = commands.scipy_twin(result)
    scope: dict[str, object] = {"result": result, "print": lambda *_: None}
    exec(compile(program, "twin", "exec"), scope)  # noqa: S102  the program that the report prints must run
    free = [p for p in result.params.values() if not p.fixed]
    assert scope["p"] == pytest.approx([p.value for p in free], rel=1e-4)
    assert np.sqrt(np.diag(scope["cov"])) == pytest.approx([p.stderr for p in free], rel=1e-3)


@pytest.mark.parametrize("name", ["robust", "unidentifiable", "function", "two rows", "all fixed"])
def test_no_scipy_program_where_scipy_has_no_such_fit(name):
    assert commands.scipy_twin(fitted(name)) == ""
