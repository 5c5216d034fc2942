"""Formulas: what is understood, what it evaluates to, and the sentence for everything else."""

import math

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from random_formulas import expressions

from gradfit.errors import FormulaError
from gradfit.formula import DEEPEST, FUNCTIONS, LONGEST, SLIPS, Formula, parse, parse_expression

VALUES = {"a": 1.7, "b": -0.6, "x": 2.3, "y": 0.4}

#: names of functions in Python's math module, where they differ
IN_MATH = {
    "abs": abs,
    "floor": lambda x: float(math.floor(x)),
    "ceil": lambda x: float(math.ceil(x)),
    "min": min,
    "max": max,
    "where": lambda c, a, b: a if c else b,
    "step": lambda x: 1.0 if x >= 0 else 0.0,
    "sign": lambda x: float(np.sign(x)),
    "voigt": lambda x, s, g: None,
}
PYTHON = {name: IN_MATH.get(name) or getattr(math, name) for name in FUNCTIONS if name != "voigt"}


def by_python(text: str, values: dict[str, float]) -> float:
    """What Python makes of the same text; NaN where it raises, or goes to complex numbers."""
    space = {"__builtins__": {}, **PYTHON, "pi": math.pi, "e": math.e, **values}
    try:
        value = eval(text, space)  # noqa: S307  Python itself is what precedence is compared with
    except (
        ArithmeticError,
        TypeError,
        ValueError,
    ):  # 1/0; a function of, or a comparison with, a complex number
        return math.nan
    return math.nan if isinstance(value, complex) else float(value)


# ---------------------------------------------------------------------------- meaning


NUMBERS = ["2", "0.5", ".25", "3.", "1e-3", "2E2", "pi"]
TEXTS = expressions([*"abxy", *NUMBERS], functions=["exp", "sqrt", "atan", "abs", "tanh", "floor"])


@settings(max_examples=400)
@given(TEXTS)
def test_precedence_is_pythons(text):
    expected = by_python(text, VALUES)
    assume(math.isfinite(expected))
    with np.errstate(all="ignore"):
        value = float(parse_expression(text).evaluate(VALUES))
    assert value == pytest.approx(expected, rel=1e-9, abs=1e-300)


CONDITIONS = st.recursive(
    st.sampled_from(["x > 1", "a <= b", "0 < x < 5", "y != 2", "a == a", "x >= 3 > b"]),
    lambda inner: st.one_of(
        st.builds("not {}".format, inner),
        st.builds("({})".format, inner),
        st.builds("{} and {}".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=150)
@given(CONDITIONS, st.lists(st.floats(-4, 6), min_size=4, max_size=4))
def test_conditions_are_pythons(text, numbers):
    values = dict(zip("abxy", numbers, strict=True))
    expected = by_python(text, values)
    assert bool(parse_expression(text).evaluate(values)) == expected
    symbols = text.replace(" and ", " & ").replace(" or ", " | ").replace("not ", "!")
    assert bool(parse_expression(symbols).evaluate(values)) == expected


@pytest.mark.parametrize("name", sorted(set(FUNCTIONS) - {"voigt"}))
def test_every_function_is_the_one_of_its_name(name):
    arguments = {
        "acosh": "1.8",
        "atan2": "0.3, -0.8",
        "where": "1 < 2, 5, 7",
        "pow": "1.4, 2.2",
        "min": "3, 2",
        "max": "3, 2",
    }
    text = f"{name}({arguments.get(name, '0.37')})"
    assert float(parse_expression(text).evaluate({})) == pytest.approx(by_python(text, {}), rel=1e-14)


def test_voigt_is_the_convolution():
    x = np.linspace(-40, 40, 80_001)
    normal = np.exp(-(x**2) / (2 * 0.7**2)) / (0.7 * math.sqrt(2 * math.pi))
    places = np.array([-1.5, 0.0, 0.4, 3.0])
    lorentz = 0.3 / math.pi / ((places[:, None] - x) ** 2 + 0.3**2)
    expected = (lorentz * normal).sum(axis=1) * (x[1] - x[0])
    given_ = parse_expression("voigt(x, -s, g)").evaluate(
        {"x": places, "s": -0.7, "g": -0.3}
    )  # widths count unsigned
    assert given_ == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(x > 1) + (x > 2)", [0.0, 1.0, 2.0]),  # truth values are 1 and 0 in sums, not an "or"
        ("(x > 1) - (x > 2)", [0.0, 1.0, 0.0]),
        ("-(x > 1)", [0.0, -1.0, -1.0]),
        ("exp(x > 1)", [1.0, math.e, math.e]),
        ("min(x, 2, 1.5)", [1.0, 1.5, 1.5]),
        ("where(x > 1 and x < 3, x, -1)", [-1.0, 2.0, -1.0]),
        ("where(x - 1, 5, 7)", [7.0, 5.0, 5.0]),
        ("(-8)**(1/3)*x", [math.nan] * 3),  # never a complex number
        ("x*x*1e200*1e200", [math.inf] * 3),
    ],
)
def test_columns(text, value):
    with np.errstate(all="ignore"):
        seen = parse_expression(text).evaluate({"x": np.array([1.0, 2.0, 3.0])})
    assert np.asarray(seen, float) == pytest.approx(value, nan_ok=True)


# ---------------------------------------------------------------------------- slips and spellings


@pytest.mark.parametrize(
    ("typed", "meant", "note"),
    [
        ("x^2", "x**2", "^ was read as **, a power"),
        ("2x", "2*x", "2x was read as 2*x"),
        ("2(x + 1)", "2*(x + 1)", "2( was read as 2*("),
        ("2x^2", "2*x**2", "^ was read as **, a power"),
        ("3e", "3*e", "3e was read as 3*e"),
        ("2e3x", "2*e3x", "2e3x was read as 2*e3x"),
        ("x²", "x**2", ""),
        ("x⁻¹²", "x**(-12)", ""),
        ("−x", "-x", ""),
        ("x·a × b ÷ 2", "x*a*b/2", ""),
        ("x ≤ 1", "x <= 1", ""),
        ("x ≥ 1", "x >= 1", ""),
        ("x ≠ 1", "x != 1", ""),
        ("x <> 1", "x != 1", ""),
        ("2*π*x", "2*pi*x", ""),
        ("ln(x)", "log(x)", "ln was read as log"),
        ("arctan2(x, a)", "atan2(x, a)", "arctan2 was read as atan2"),
        ("Exp(x)", "exp(x)", "Exp was read as exp"),
        ("{ x }", "x", ""),
        ("`x`", "x", ""),
        ("a\n  *x", "a*x", ""),
        ("\ta*\u00a0x", "a*x", ""),
    ],
)
def test_slips_are_understood(typed, meant, note):
    one, other = parse_expression(typed), parse_expression(meant)
    assert [node for node in one.nodes if node[0] != "pos"] == [
        node for node in other.nodes if node[0] != "pos"
    ]
    assert note in one.notes or (not note and not one.notes)


def test_every_slip_leads_to_a_function():
    assert set(SLIPS.values()) <= set(FUNCTIONS)
    assert not set(SLIPS) & set(FUNCTIONS)


@pytest.mark.parametrize(
    ("text", "left", "note"),
    [
        ("y = a*x", "y", None),
        ("y(x) = a*x", "y", "y(x) was read as y"),
        ("f(x, t) = a*x", "f", "f(x,t) was read as f"),
        ("{my column} = a*{its cause} + b", "my column", None),
        ("a*x", None, None),
    ],
)
def test_left_sides(text, left, note):
    formula = parse(text)
    assert (formula.left.names[0] if formula.left else None) == left
    assert list(formula.notes) == ([note] if note else [])


def test_a_left_side_may_be_a_function():
    left = parse("log(y)/2 = a*x").left
    assert left is not None
    assert float(left.evaluate({"y": math.e})) == 0.5


@pytest.mark.parametrize("name", ["lambda", "gamma", "step", "max", "e", "pi", "E", "_", "ψ", "x₁"])
def test_names_that_may_be_parameters(name):
    assert parse(f"y = {name}*x").right.names == (name, "x")


# ---------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("y = np.exp(x)", 6, "A dot has no meaning here: write exp(x), not np.exp(x)"),
        ("y = x.mean()", 5, "A dot has no meaning here"),
        ("y = x[0]", 5, "Square brackets have no meaning in a formula"),
        ("y = lambda x: x", 12, "names with signs in them stand in braces"),
        ("y = 'text'", 4, "A piece of text is not compared with a column"),
        ('y = a*"b"', 4, "A piece of text is not compared with a column"),
        ('y = a*("b" == "b")', 7, "Write a column, == or !=, and the text"),
        ('y = a*(s < "b")', 7, "Write a column, == or !=, and the text"),
        ("y = __import__('os')", 4, "__import__ is not a function that formulas know"),
        ("y = expp(x)", 4, "Did you mean exp(...)?"),
        ("y = a(x + 1)", 4, "For a product write a*(...)"),
        ("y = sin x", 4, "sin is a function here and stands without its argument"),
        ("y = sin*x", 4, "or give the parameter another name"),
        ("y = log + a", 4, "log is a function here"),
        ("y = ln*x", 4, "ln is a function here"),
        ("y = a x", 6, "Between two names or numbers write the operation, as in a*x"),
        ("y = (a)(x)", 7, "Between two names or numbers write the operation"),
        ("y = a*x +", 9, "Something is missing at the end"),
        ("y = a*/x", 6, "Two signs stand side by side: * /"),
        ("y = a//x", 6, "Two signs stand side by side: / /"),
        ("y = (a*x", 4, "A bracket is not closed"),
        ("y = exp(a*x", 4, "The bracket of exp( is not closed"),
        ("y = a*x)", 7, "This bracket closes nothing"),
        ("y = exp(a, x)", 4, "exp takes 1 argument, and 2 stand in"),
        ("y = where(x)", 4, "where takes 3 arguments, and 1 stands in"),
        ("y = max(x)", 4, "max takes 2 arguments, and 1 stands in"),
        ("y = exp()", 4, "exp takes 1 argument, and 0 stand in"),
        ("y = 0,5*x", 5, "the decimal mark is a point"),
        ("y = x % 2", 6, "for a remainder write x - m*floor(x/m)"),
        ("y = n!", 5, "for a factorial write gamma(n + 1)"),
        ("y = |x|", 4, "For the absolute value write abs(x)"),
        ("y = √x", 4, "Write sqrt(x)"),
        ("y = a*x; b", 7, "One formula at a time"),
        ("y = a*x # slope", 8, "Names with blanks or signs in them stand in braces: {my column}"),
        ("y = 'a", 4, "ends with the quotation mark that it begins with"),
        ("y = {a", 4, "A name in braces ends with }"),
        ("y = {}", 4, "No name stands in the braces"),
        ("y = 1e999*x", 4, "1e999 is too large for a number of 64 bits"),
        ("y = a*1e-999", 6, "1e-999 is too small for a number of 64 bits"),
        ("y = x⁻", 5, "Write the power out, as in x**2"),
        ("y = a = x", 6, 'A formula has one "="'),
        ("y == a*x", 2, "Between the response and the model stands one ="),
        ("y ~ x", 2, 'Write "=" instead of "~", and name every parameter'),
        ("= a*x", 0, "Nothing stands before the ="),
        ("y =", 2, "Nothing stands after the ="),
        ("y = if a", 4, "cannot be understood at 'if'"),
        ("y = a and", 9, "cannot be understood at its end"),
        ("y = \0", 4, r"cannot be understood at '\x00'"),
        ("y = a\n +* x", 8, "Two signs stand side by side: + *"),
    ],
)
def test_refusals_point_at_the_place(text, place, words):
    with pytest.raises(FormulaError) as caught:
        parse(text)
    assert words in str(caught.value)
    line, caret = caught.value.excerpt.split("\n")
    assert len(line) == len(text)
    assert caret.index("^") == place


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_nothing_is_refused(text):
    with pytest.raises(FormulaError, match="The formula is empty"):
        parse(text)


@pytest.mark.parametrize("opening", ["(", "-", "exp(", "not ", "2**", "max(1, "])
def test_depth_is_refused_with_its_place(opening):
    deep = opening * 5000 + "x"
    with pytest.raises(FormulaError, match=f"nests more than {DEEPEST} brackets or signs") as caught:
        parse_expression(deep[: LONGEST - 1])
    line, caret = caught.value.excerpt.split("\n")
    assert len(line) == 100
    assert caret.index("^") == 40
    closing = ")" * (DEEPEST - 1) if "(" in opening else ""
    parse_expression(opening * (DEEPEST - 1) + "x" + closing)


def test_length():
    longest = "x" + "+x" * (LONGEST // 2 - 1)
    assert len(longest) == LONGEST - 1
    assert float(parse_expression(longest).evaluate({"x": 1.0})) == LONGEST // 2
    with pytest.raises(
        FormulaError, match="A formula of 20001 characters is refused; at most 20000 are read"
    ):
        parse(longest + "++")


def test_a_long_formula_is_cut_around_the_place():
    text = "y = " + "a*x + " * 100 + "§ + b"
    with pytest.raises(FormulaError) as caught:
        parse(text)
    line, caret = caught.value.excerpt.split("\n")
    assert line[caret.index("^")] == "§"
    assert len(line) <= 100


PIECES = st.sampled_from(
    [
        *"abxy.,;:()[]{}=<>!~&|%^*/+-−√²⁻π'\"`\\\0\n ",
        "and ",
        "or ",
        "not ",
        "exp(",
        "where(",
        "1e3",
        "1e",
        "**",
        "2",
        "e",
        "≤",
    ]
)


@settings(max_examples=1500)
@given(st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=25).map("".join)))
@example("٣*x")
@example("x\ud800")
@example("\u200bx")
def test_any_text_is_a_formula_or_a_sentence(text):
    outcome = read(text)
    if isinstance(outcome, FormulaError):
        assert outcome.message
        assert outcome.excerpt.count("\n") == bool(outcome.excerpt)
        return
    for expression in filter(None, (outcome.left, outcome.right)):
        assert len(expression.nodes) == len(expression.spans)
        for i, node in enumerate(expression.nodes):
            assert node[0] in ("const", "name", "text") or all(0 <= j < i for j in node[1:])
        for start, stop in expression.spans:
            assert 0 <= start < stop <= len(text)


def read(text: str) -> Formula | FormulaError:
    try:
        return parse(text)
    except FormulaError as error:
        return error


@settings(max_examples=300)
@given(st.lists(PIECES, max_size=25).map("".join))
def test_what_is_understood_has_a_value(text):
    try:
        expression = parse_expression(text)
    except FormulaError:
        return
    values = {
        name: np.array(["u", "v"], object) if name in expression.compared else np.array([0.5, -2.0])
        for name in expression.names
    }
    if set(expression.compared) & expression.computed:
        return
    with np.errstate(all="ignore"):
        value = np.asarray(expression.evaluate(values))
    assert value.dtype.kind in "fb"
    assert value.shape in ((), (2,))


# ---------------------------------------------------------------------------- evaluation


def test_an_unknown_name_gets_the_nearest_one():
    with pytest.raises(FormulaError) as caught:
        parse_expression("1/tme").evaluate({"time": 1.0, "y": 2.0})
    assert (
        str(caught.value) == "'1/tme' uses tme, which is not among time, y. Did you mean time?\n1/tme\n  ^^^"
    )


@pytest.mark.parametrize(
    ("text", "values", "failure"),
    [
        ("a*log(x - 1)", {"a": 2.0, "x": 0.7}, "log(-0.3) is not a number"),
        ("a/x", {"a": 2.0, "x": 0.0}, "div(2, 0) overflows"),
        ("exp(a*x)", {"a": 1e3, "x": 1.0}, "exp(1000) overflows"),
        ("x**0.5", {"x": -4.0}, "pow(-4, 0.5) is not a number"),
        ("a*x", {"a": 2.0, "x": 1.0}, ""),
    ],
)
def test_the_first_failure_is_named(text, values, failure):
    assert parse_expression(text).first_failure(values) == failure


# ---------------------------------------------------------------------------- text

STATES = np.array(["treated", "untreated", None, "treated"], dtype=object)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('state == "treated"', [True, False, False, True]),
        ("state != 'treated'", [False, True, True, False]),
        ('"treated" == state', [True, False, False, True]),
        ('state == "treated" and x > 1', [False, False, False, True]),
        ('x*(state == "treated")', [1.0, 0.0, 0.0, 2.0]),
        ('state == ""', [False] * 4),
    ],
)
def test_text_is_compared(text, expected):
    values = {"state": STATES, "x": np.array([1.0, 2.0, 0.5, 2.0])}
    assert list(parse_expression(text).evaluate(values)) == expected
    plain = values | {"state": np.array(["treated", "untreated", "x", "treated"])}
    assert list(parse_expression(text).evaluate(plain)) == expected


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("state > 3", "state holds text, and 'state > 3' computes with it"),
        ("x + state", "state holds text"),
        ("state", "state holds text"),
        ('x == "high"', 'x holds numbers, and is compared with the text "high"'),
        ("day > 3", "day holds dates"),
    ],
)
def test_text_is_no_number(text, words):
    day = np.array(["2024-01-01"] * 4, dtype="datetime64[D]")
    with pytest.raises(FormulaError) as caught:
        parse_expression(text).evaluate({"state": STATES, "x": np.ones(4), "day": day})
    assert words in str(caught.value)


def test_codes_stand_for_text():
    levels = {"s": ("a", "b", "c"), "g": ("c", "a")}
    text = 'x*(s == "c") + 10*(g != "c") + 100*("a" == s)'
    plain, coded = parse_expression(text), parse_expression(text).coded(levels)
    values = {
        "x": np.arange(6.0),
        "s": np.array(list("abcabc"), object),
        "g": np.array(list("acacac"), object),
    }
    codes = {name: np.array([float(levels[name].index(v)) for v in values[name]]) for name in levels}
    assert coded.evaluate(values | codes).tolist() == plain.evaluate(values).tolist()
    assert not coded.compared
    for i, node in enumerate(coded.nodes):
        assert node[0] in ("const", "name") or all(0 <= j < i for j in node[1:])
    assert plain.compared == {"s": ("c", "a"), "g": ("c",)}
    assert plain.computed == {"x"}


def test_an_unknown_level_gets_the_nearest_one():
    with pytest.raises(FormulaError) as caught:
        parse_expression('s == "treatd"').coded({"s": ("treated", "untreated")})
    assert str(caught.value) == (
        'No row of s is "treatd"\ns == "treatd"\n^^^^^^^^^^^^^\n'
        's holds "treated", "untreated". Did you mean "treated"?'
    )
