"""What is printed: no line too wide, numbers as in the result, nothing lost without colour or Unicode."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import gradfit
from gradfit.errors import DataError, FormulaError, GradfitError, OptionError
from gradfit.notation import fixed, interval_text, plus_minus, significant
from gradfit.shell import as_option, command_line, in_options
from gradfit.terminal.answer import failure, summary
from gradfit.terminal.drawing import data_plot, histogram_plot
from gradfit.terminal.text import cells, plain

ANSI = re.compile(r"\x1b\[[\d;]*m")
T_U = np.array([35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4])
T_C = np.array([0.5, 14, 15, 28, 11, 8, 3, -4, 6, 13, 21])


def waves(n=60, noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    x = np.linspace(0, 9, n)
    return {"x": x, "y": 2 * np.exp(-0.3 * x) + 1 + rng.normal(0, noise, n)}


def fits():
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0, 1, (2, 60))
    small = waves()
    long = {f"{'wide' * 6}_{i}": 0.1 * i for i in range(9)}
    polynomial = " + ".join(f"{name}*x**{i}" for i, name in enumerate(long))
    return {
        "line": lambda: gradfit.fit("t_c = w*t_u + b", {"t_u": T_U, "t_c": T_C}),
        "curve": lambda: gradfit.fit("y = a*exp(-k*x) + c", small, start={"a": 2, "k": 0.3, "c": 1}),
        "no input": lambda: gradfit.fit("y = c", {"y": rng.normal(12, 0.4, 20)}),
        "several inputs": lambda: gradfit.fit(
            "y = a*x + b*z + c", {"x": a, "z": b, "y": 3 * a - 2 * b + rng.normal(0, 0.1, 60)}
        ),
        "many rows": lambda: gradfit.fit("y = a*x + b", {"x": T_U.repeat(300), "y": rng.normal(0, 1, 3300)}),
        "undetermined": lambda: gradfit.fit("y = a*exp(-k*(x + t0)) + c", small, start={"a": 2, "k": 0.3, "t0": 0, "c": 1}),
        "no degrees of freedom": lambda: gradfit.fit("y = a*x + b", {"x": [1.0, 2.0], "y": [3.0, 4.0]}),
        "wrong model": lambda: gradfit.fit("y = a*x", {"x": small["x"], "y": 5 + small["x"] ** 2}),
        "on a bound": lambda: gradfit.fit("y = a*x + b", small, bounds={"a": (0, None)}),
        "fixed, tiny": lambda: gradfit.fit(
            "y = a*x + b", {"x": T_U * 1e9, "y": T_C * 1e-9}, fixed={"b": -1.73e-8}
        ),
        "far from zero": lambda: gradfit.fit("y = a*(x - 1e9) + b", {"x": T_U + 1e9, "y": T_C}),
        "long names": lambda: gradfit.fit(f"y = {polynomial}", small),
        "wide signs": lambda: gradfit.fit("{温度 °C} = größe*x + b", {"温度 °C": T_C, "x": T_U}),
        "signs that command": lambda: gradfit.fit("{y\x1b[31m\u202e} = a*x + b", {"y\x1b[31m\u202e": T_C, "x": T_U}),
    }  # fmt: skip


@pytest.fixture(scope="module", params=list(fits()))
def result(request):
    return fits()[request.param]()


@pytest.fixture(scope="module")
def line():
    return fits()["line"]()


COMMAND = 'gradfit fit examples/thermometer.csv "t_c = w*t_u + b"'
FILES = {"report": "a/rather/long/path/to/the/report/of/a/fit.html", "fit": "fit.json"}


# ---------------------------------------------------------------------------- laws


@pytest.mark.parametrize("width", [*range(30, 70, 7), 80, 99, 100, 120, 200])
def test_no_line_is_wider_than_the_page(result, width):
    for unicode in (True, False):
        text = summary(result, width=width, unicode=unicode, files=FILES, command=COMMAND)
        assert max(cells(line) for line in text.splitlines()) <= width


def test_without_colour_nothing_is_lost(result):
    colored = summary(result, color=True, files=FILES, command=COMMAND)
    bare = summary(result, files=FILES, command=COMMAND)
    assert ANSI.sub("", colored) == bare
    assert "\x1b" not in bare
    assert "\u202e" not in bare
    assert {int(code) for codes in re.findall(r"\x1b\[([\d;]*)m", colored) for code in codes.split(";")} <= {
        0, 1, 2, *range(30, 38), *range(90, 98),
    }  # fmt: skip


def test_without_unicode_all_is_ascii(result):
    text = summary(result, unicode=False, files=FILES, command=COMMAND)
    assert text.isascii()
    assert text.isprintable() or set(text) - {"\n"} <= {chr(i) for i in range(32, 127)}


def test_no_line_ends_in_blanks(result):
    for color in (True, False):
        lines = summary(result, color=color).splitlines()
        assert [
            line for line in lines if line != ANSI.sub("", line).rstrip() and ANSI.sub("", line).endswith(" ")
        ] == []


@settings(max_examples=40)
@given(
    slope=st.floats(-1e3, 1e3), up=st.integers(-145, 145), across=st.integers(-145, 145),
    offset=st.floats(-1e9, 1e9), width=st.integers(30, 140),
)  # fmt: skip
def test_any_size_of_numbers_fits_the_page(slope, up, across, offset, width):
    y = (slope * T_U + T_C) * 10.0**up
    result = gradfit.fit("y = a*x + b", {"x": (T_U + offset) * 10.0**across, "y": y})
    text = summary(result, width=width)
    assert max(cells(line) for line in text.splitlines()) <= width
    assert "nan" not in text


# ---------------------------------------------------------------------------- numbers


def test_the_numbers_are_those_of_the_result(line):
    text = summary(line, width=100)
    for parameter in line.params.values():
        value, error, _ = plus_minus(parameter.value, parameter.stderr)
        row = next(row for row in text.splitlines() if row.startswith(f"  {parameter.name} "))
        assert re.search(rf"{value} +± {error} ", row)
        assert interval_text(*parameter.interval(), parameter.value, parameter.stderr) in row
    assert f"scatter {significant(line.scatter)}" in text
    assert f"r² {fixed(line.r2, 3)}" in text
    assert f"correlation of w and b {fixed(line.correlation[0, 1], 2)}" in text
    assert "all 11 rows used" in text
    assert "11 rows, 9 degrees of freedom" in text.splitlines()[0]


def test_numbers_stand_below_each_other_at_their_points(line):
    rows = [row for row in summary(line).splitlines() if "±" in row and "s.e." not in row]
    assert len({row.index(".") for row in rows}) == 1
    assert len({row.index("±") for row in rows}) == 1


def test_powers_of_ten_keep_value_and_error_together():
    result = gradfit.fit("y = a*x + b", {"x": T_U, "y": T_C * 1e-9})
    text = summary(result)
    assert re.search(r"\(5\.37 +± 0\.36\)\u202f×\u202f10⁻¹⁰", text)
    assert "e-" not in text


@pytest.mark.parametrize("width", [80, 120])
def test_interval_bars_have_one_scale(line, width):
    rows = [row for row in summary(line, width=width).splitlines() if "├" in row and "±" in row]
    spans = [row.rindex("┤", row.index("●")) - row.index("├") for row in rows]
    share = [(p.interval()[1] - p.interval()[0]) / abs(p.value) for p in line.params.values()]
    assert spans[1] / spans[0] == pytest.approx(share[1] / share[0], rel=0.25)  # whole cells
    assert len({row.index("●") for row in rows}) == 1


def test_what_is_not_determined_has_no_number():
    text = summary(fits()["undetermined"]())
    rows = {row.split()[0]: row for row in text.splitlines() if "±" in row or "not determined" in row}
    assert rows["a"].split(maxsplit=1)[1].strip() == "not determined   any"
    assert rows["t0"].split(maxsplit=1)[1].strip() == "not determined   any"
    assert "±" in rows["k"]


def test_fixed_and_bound_parameters_say_so():
    assert re.search(r"b −1\.73\u202f×\u202f10⁻⁸ +fixed", summary(fits()["fixed, tiny"]()))
    assert re.search(r"a +0 +on its bound", summary(fits()["on a bound"]()))


# ---------------------------------------------------------------------------- verdicts, what to run, files


@pytest.mark.parametrize(
    ("name", "mark", "ascii_mark"),
    [("line", "✓ Trust   ", "+ Trust   "), ("wrong model", "▲ Caution   ", "! Caution   "), ("undetermined", "✕ No   ", "x No   ")],
)  # fmt: skip
def test_the_verdict_comes_first(name, mark, ascii_mark):
    result = fits()[name]()
    assert summary(result).startswith(mark)
    assert summary(result, unicode=False).startswith(ascii_mark)
    assert ("└" in summary(result)) == (name != "undetermined")  # no picture of what must not be used


def test_sentences_are_numbered_and_whole(result):
    text = summary(result, width=200)
    for i, sentence in enumerate(result.sentences, 1):
        assert f"  {i}  {sentence.split()[0]}" in text.replace("\x1b", "")
        assert all(word in text for word in re.sub(r"[\x00-\x1f\u202e]", " ", sentence).split())


def test_remedies_are_lines_to_run():
    result = fits()["undetermined"]()
    (value,) = re.findall(r'fixed=\{"t0": ([^}]+)\}', result.findings[0].remedy)
    run = f'gradfit fit d.csv "U = …" --fix t0={value}'
    assert f"     Run  {run}" in summary(result, command='gradfit fit d.csv "U = …"')
    assert f"     Run  gradfit fit … --fix t0={value}" in summary(
        result, command="gradfit fit " + "long " * 20
    )
    assert f'     Run  gradfit.fit(…, fixed={{"t0": {value}}})' in summary(result)


def test_a_remedy_without_an_option_is_told_in_its_own_words():
    rng = np.random.default_rng(0)
    x = np.linspace(-9, 9, 200)
    result = gradfit.fit("y = a*x + b", {"x": x, "y": x + rng.normal(0, np.exp(x / 3))})
    remedy = result.findings[0].remedy
    assert as_option(remedy) == ""
    assert f"     Try  {remedy}" in summary(result, command=COMMAND)


def test_the_exit_status_is_told_on_the_command_line_only():
    result = fits()["undetermined"]()
    assert "exit status 1: fitted, verdict No" in summary(result, command=COMMAND)
    assert "exit status" not in summary(result)
    assert "exit status" not in summary(fits()["line"](), command=COMMAND)


def test_what_was_written_is_listed(line):
    assert "  report  thermometer.html    fit  thermometer.json" in summary(
        line, files={"report": "thermometer.html", "fit": "thermometer.json"}
    )


def test_rows_that_were_left_out_are_told():
    y = T_C.copy()
    y[3] = np.nan
    result = gradfit.fit("y = a*x + b", {"x": T_U, "y": y}, missing="drop")
    text = summary(result)
    assert "10 of 11 rows, 8 degrees of freedom" in text
    assert "10 of 11 rows used" in text
    assert re.search(r"row 4\b|: 4\b|rows? \(?4\b", text)


# ---------------------------------------------------------------------------- the plot


def test_whole_rows_stand_between_ticks(result):
    lines = summary(result, width=90).splitlines()
    rows = [i for i, row in enumerate(lines) if re.match(r"  +\S.* ?┤", row) and "├" not in row]
    assert len(set(np.diff(rows))) <= 1


def test_a_point_stands_where_it_belongs():
    text = data_plot(np.array([0.0, 5.0, 10.0]), np.array([0.0, 10.0, 20.0]), width=60)
    lines = text.splitlines()
    rows = [i for i, row in enumerate(lines) if "●" in row]
    ticks = {row.split("┤")[0].strip(): i for i, row in enumerate(lines) if "┤" in row}
    assert rows == [ticks["20"], ticks["10"], ticks["0"]]
    columns = [lines[i].index("●") for i in reversed(rows)]
    assert columns[1] - columns[0] == pytest.approx(columns[2] - columns[1], abs=1)
    foot = next(row for row in lines if "└" in row)
    assert foot[columns[0]] == foot[columns[2]] == "┬"  # 0 and 10 have ticks


def test_many_points_become_a_density():
    rng = np.random.default_rng(0)
    text = data_plot(rng.normal(size=5000), rng.normal(size=5000), width=70)
    assert all(sign in text for sign in "·:●")
    assert "5 000 points" in text.replace("\u202f", " ")
    middle, edge = text.splitlines()[9], text.splitlines()[1]
    assert middle.count("●") > edge.count("●")


@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        ([1, 2, np.nan], [1, 2, 3], "2 points; 1 row without a number left out"),
        ([1, 1, 1], [2, 2, 2], "3 points"),
        ([np.nan], [1], "no numbers that can be drawn"),
        ([], [], "no numbers that can be drawn"),
        ([1, 2], [1e308, -1e308], "no numbers that can be drawn"),
        ([1e-300, 2e-300], [0, 1e300], "2 points"),
    ],
)
def test_odd_data_are_drawn_or_refused_in_words(x, y, said):
    text = data_plot(np.array(x, float), np.array(y, float), width=60)
    assert said in text
    assert max(cells(line) for line in text.splitlines()) <= 60


def test_a_histogram_counts_every_value():
    values = np.random.default_rng(0).normal(size=999)
    text = histogram_plot(np.append(values, np.nan), name="z", unit="V", width=60)
    counts = [int(row.split()[-1]) for row in text.splitlines() if "│" in row]
    assert sum(counts) == 999
    assert text.splitlines()[0].strip() == "z, V"
    assert "1 row without a number left out" in text
    assert max(cells(line) for line in text.splitlines()) <= 60
    assert "3.000 │" in histogram_plot(np.full(5, 3.0))


# ---------------------------------------------------------------------------- errors


def raised(*arguments, **options):
    with pytest.raises(GradfitError) as caught:
        gradfit.fit(*arguments, **options)
    return caught.value


def test_a_wrong_column_is_shown_with_the_line_to_run():
    error = raised("tc = w*t_u + b", {"t_u": T_U, "t_c": T_C})
    lines = failure(error, command='gradfit fit t.csv "tc = w*t_u + b"').splitlines()
    assert lines[0].startswith("✕ Not fitted   There is no column tc in ")
    place = lines.index("     tc = w*t_u + b")
    assert lines[place + 1] == "     ^^"
    assert "  Columns: t_u, t_c. Did you mean t_c?" in [re.sub(" and ", ", ", line) for line in lines]
    assert '  Run  gradfit fit t.csv "t_c = w*t_u + b"' in lines
    assert lines[-1] == "  exit status 2; nothing was written"


def test_missing_values_are_shown_with_the_option():
    error = raised("y = a*x + b", {"x": T_U, "y": np.where(T_C < 0, np.nan, T_C)})
    text = failure(error, command='gradfit fit t.csv "y = a*x + b"')
    assert 'Run  gradfit fit t.csv "y = a*x + b" --missing drop' in text
    assert "(--missing drop)" not in text
    assert re.search(r"8 +21\.8 +NaN", text)
    in_python = failure(error)
    assert 'missing="drop"' in in_python
    assert "exit status" not in in_python


@pytest.mark.parametrize(
    "error",
    [
        DataError("x" * 300, remedy="y" * 200, excerpt="z" * 200),
        OptionError("a\x1b[31mb", remedy='Use loss="huber" or loss="cauchy".'),
        FormulaError("long", excerpt=f"{'a + ' * 60}b\n{' ' * 200}^^^^", remedy="Did you mean a or b?"),
        GradfitError(""),
    ],
)
@pytest.mark.parametrize("width", [30, 80])
def test_any_error_fits_the_page(error, width):
    for unicode in (True, False):
        text = failure(error, command="gradfit fit x.csv", width=width, unicode=unicode)
        assert max(cells(line) for line in text.splitlines()) <= width
        assert "\x1b" not in text
        assert "Run" not in text  # none of them says exactly what to run


@pytest.mark.parametrize("place", [0, 37, 80, 195])
def test_the_caret_stays_below_its_place(place):
    formula = "".join(chr(97 + i % 26) for i in range(200))
    error = FormulaError("x", excerpt=f"{formula}\n{' ' * place}^")
    shown, caret = failure(error, width=60).splitlines()[2:4]
    assert shown[caret.index("^")] == formula[place]


# ---------------------------------------------------------------------------- options


@pytest.mark.parametrize(
    ("remedy", "option"),
    [
        ('loss="bisquare"', "--loss bisquare"),
        ("loss=Huber(scale=0.3)", "--loss huber:0.3"),
        ('fixed={"b": 1}', "--fix b=1"),
        ('fixed={"t0": 0, "b": -1.5e-05}', "--fix t0=0,b=-1.5e-05"),
        ("exclude=[24]", "--exclude 24"),
        ("exclude=[24, 31]", "--exclude 24,31"),
        ('missing="drop"', "--missing drop"),
        ('start="search"', "--start search"),
        ('start={"a": 1, "b": 2}', "--start a=1,b=2"),
        ('bounds={"b": (0, None)}', "--bounds b=0:"),
        ('bounds={"b": (None, 3.5)}', "--bounds b=:3.5"),
        ('bounds={"b": None}', "--bounds b=:"),
        ('weights="1/y**2"', '--weights "1/y**2"'),
        ('weights="1/{dose $}"', '--weights "1/{dose \\$}"'),
        ("max_iterations=1000", "--max-iterations 1000"),
        ('seed=3, start="search"', "--seed 3 --start search"),
        ("weights=1/sigma**2", ""),
        ("sigma=scatter  # an array with the standard deviation of each row", ""),
        ('model=model + "spline(x)"', ""),
        ("measure on to 36 s", ""),
        ("**x", ""),
        ("exclude=[]", ""),
        ("x=(", ""),
        ('__import__("os")', ""),
        ("", ""),
    ],
)
def test_remedies_become_options(remedy, option):
    assert as_option(remedy) == option


@given(st.text(max_size=60))
def test_no_text_is_too_odd_to_be_read_as_a_remedy(text):
    assert as_option(text) == "" or as_option(text).startswith("--")
    in_options(text)


def test_a_command_is_quoted_where_a_shell_would_read_it_otherwise():
    assert command_line(["gradfit", "fit", "a b.csv", 'y = a*x + "$b`'] ) == 'gradfit fit "a b.csv" "y = a*x + \\"\\$b\\`"'  # fmt: skip


@pytest.mark.parametrize(
    ("text", "ascii"),
    [
        ("(5.37 ± 0.36)\u202f×\u202f10⁻⁶\u202f°C", "(5.37 +- 0.36) x 10^-6 degC"),
        ("r² ≤ 2/λmax → µV·Ω", "r^2 <= 2/lambdamax -> uV*Ohm"),
        ("größe é 温", "grosse e ?"),
    ],
)
def test_signs_have_names_in_ascii(text, ascii):  # noqa: A002  it is what it holds
    assert plain(text) == ascii
