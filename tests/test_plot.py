"""Figures: they show what the result holds, keep to the sheet, and change nothing outside themselves."""

import json
import subprocess
import sys
from itertools import combinations

import matplotlib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, PolyCollection
from matplotlib.figure import Figure
from matplotlib.text import Text
from scipy import stats

import gradfit
from gradfit.errors import DataError, OptionError
from gradfit.figures import data_figure, fit_figure, models_figure, save
from gradfit.figures.data import rank_correlation
from gradfit.figures.text import formula
from gradfit.library import MODELS
from gradfit.notation import plus_minus
from gradfit.table import read

T_U = np.array([35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4])
T_C = np.array([0.5, 14, 15, 28, 11, 8, 3, -4, 6, 13, 21])


def decay(n, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.uniform(0, 10, n)
    return {"x": x, "y": 5 * np.exp(-0.4 * x) + 1 + rng.normal(0, 0.3, n)}


LONG = "response_with_a_very_long_name_" * 3
DAYS = np.arange("2020-01-01", "2020-01-12", dtype="datetime64[D]")
START = {"a": 5, "k": 0.4, "c": 1}
FITS = {
    "line": lambda: gradfit.fit("t_c = w*t_u + b", {"t_u": T_U, "t_c": T_C}),
    "curve": lambda: gradfit.fit("y = a*exp(-k*x) + c", decay(60), start=START),
    "many rows": lambda: gradfit.fit("y = a*exp(-k*x) + c", decay(5000), start=START),
    "no input": lambda: gradfit.fit("y = c", {"y": T_C}),
    "several inputs": lambda: gradfit.fit("y = a*x + b*z", {"x": T_U, "z": np.cos(T_U), "y": T_C}),
    "with sigma": lambda: gradfit.fit("y = a*x + b", {"x": T_U, "y": T_C}, sigma=0.5 + 0.01 * T_U),
    "undetermined": lambda: gradfit.fit("y = a*exp(-k*(x + t0)) + c", decay(60), start={**START, "t0": 0}),
    "no degrees of freedom": lambda: gradfit.fit("y = a*x + b", {"x": [1.0, 2.0], "y": [3.0, 4.0]}),
    "small, far from zero": lambda: gradfit.fit("y = a*(x - 1e9) + b", {"x": T_U + 1e9, "y": T_C * 1e-9}),
    "odd names": lambda: gradfit.fit("{cost $} = {rate %}*a_long_name + b", {"cost $": T_C, "rate %": T_U}),
    "long names": lambda: gradfit.fit(f"{LONG} = rate*{LONG}x + b", {f"{LONG}x": T_U, LONG: T_C}),
    "dates": lambda: gradfit.fit("y = a*day + b", {"day": DAYS, "y": T_C}),
    "function": lambda: gradfit.fit(lambda t, rate, size: size * np.exp(-rate * t), {"t": T_U, "y": np.exp(-T_U / 40)}),
}  # fmt: skip


@pytest.fixture(scope="module", params=list(FITS))
def result(request):
    return FITS[request.param]()


@pytest.fixture(scope="module")
def line():
    return FITS["line"]()


def words(figure):
    """The heading first, then all else."""
    others = [text for text in figure.findobj(Text) if text.get_visible() and text not in figure.texts]
    return [text.get_text() for text in (*figure.texts, *others) if text.get_text()]


def points(axes):
    return next(one for one in axes.lines if one.get_marker() == "o")


# ---------------------------------------------------------------------------- what is drawn


def test_a_fit_shows_readings_curve_bands_and_residuals(line):
    upper, lower = fit_figure(line).axes
    np.testing.assert_array_equal(points(upper).get_xydata(), np.column_stack([T_U, T_C]))
    np.testing.assert_array_equal(points(lower).get_ydata(), line.residuals)
    curve = next(one for one in upper.lines if one.get_label() == "line")
    expected = line.predict({"t_u": curve.get_xdata()})
    np.testing.assert_allclose(curve.get_ydata(), expected.value)
    assert curve.get_xdata()[[0, -1]].tolist() == [21.8, 81.9]  # ends where the data end
    bands = [one for one in upper.collections if isinstance(one, FillBetweenPolyCollection)]
    tops = sorted(band.get_paths()[0].vertices[:, 1].max() for band in bands)
    np.testing.assert_allclose(tops, [expected.confidence[1].max(), expected.prediction[1].max()])
    stems = next(one for one in upper.collections if type(one) is LineCollection)
    assert len(stems.get_segments()) == 11


def test_the_heading_holds_what_the_result_says(line):
    said = words(fit_figure(line))
    assert said[0] == "Eleven readings lie within 2.7 of a straight line"
    (value, error, _), (offset, spread, _) = (plus_minus(p.value, p.stderr) for p in line.params.values())
    filled = rf"$t_\mathrm{{c}} = ({value} \pm {error})\,t_\mathrm{{u}} - ({offset[1:]} \pm {spread})$"
    assert any(filled in text for text in said)
    assert any(text.endswith("11 rows, scatter 1.9.  Verdict: Trust") for text in said)
    assert {"line\n± 2.7", "95\u00a0% of new\nreadings, ± 5.1", "residual,\n± 2 s.d. in grey"} <= set(said)


def test_units_stand_on_axes_and_in_words(tmp_path):
    rows = "\n".join(f"{x},{y}" for x, y in zip(T_U, T_C, strict=True))
    (tmp_path / "t.csv").write_text(f"t_u,t_c [°C]\n{rows}\n", encoding="utf-8")
    said = words(fit_figure(gradfit.fit("t_c = w*t_u + b", tmp_path / "t.csv")))
    assert said[0] == "Eleven readings lie within 2.7\u00a0°C of a straight line"
    assert {
        r"$t_\mathrm{c}$, °C",
        r"$t_\mathrm{u}$",
        "line\n± 2.7\u00a0°C",
        "residual, °C,\n± 2 s.d. in grey",
    } <= set(said)


def test_dates_name_the_day_they_are_counted_from():
    assert "day, days since 2020-01-01" in words(fit_figure(FITS["dates"]()))


def test_many_readings_become_hexagons_and_ribbons():
    result = FITS["many rows"]()
    upper, lower = fit_figure(result).axes
    hexagons = next(one for one in upper.collections if type(one) is PolyCollection)
    assert hexagons.get_array().sum() == result.n
    assert not [one for axes in (upper, lower) for one in axes.lines if one.get_marker() == "o"]
    middle = lower.lines[-1]
    assert len(middle.get_xdata()) == 40
    assert abs(np.mean(middle.get_ydata())) < 0.1


def test_a_doubt_stands_under_the_headline():
    result = FITS["undetermined"]()
    said = " ".join(words(fit_figure(result)))
    assert "Verdict: No" in said
    assert "cannot be told apart" in said
    assert "not determined" in said


def test_several_inputs_are_observed_against_fitted():
    result = FITS["several inputs"]()
    upper, _ = fit_figure(result).axes
    np.testing.assert_array_equal(points(upper).get_xdata(), result.fitted)
    np.testing.assert_array_equal(points(upper).get_ydata(), T_C)
    assert {"fitted y", "observed y", "fitted\n= observed"} <= set(words(upper.figure))


def test_without_input_readings_stand_in_their_order():
    upper, _ = fit_figure(FITS["no input"]()).axes
    np.testing.assert_array_equal(points(upper).get_xdata(), np.arange(1, 12))
    assert all(label.get_text().isdigit() for label in upper.get_xticklabels())


def test_known_errors_make_residuals_in_sigmas():
    result = FITS["with sigma"]()
    _, lower = fit_figure(result).axes
    np.testing.assert_allclose(points(lower).get_ydata(), result.weighted_residuals)
    assert any(text.startswith("residual / sigma") for text in words(lower.figure))


def test_given_axes_are_drawn_on_and_returned(line):
    own = Figure().subplots()
    assert line.plot(ax=own) is own
    assert len(own.figure.axes) == 1
    assert not own.figure.texts
    np.testing.assert_array_equal(points(own).get_ydata(), T_C)


# ---------------------------------------------------------------------------- the sheet


def boxes(figure):
    figure.canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    return [(text.get_text(), text.get_window_extent()) for text in texts]


def test_no_words_leave_the_sheet_or_cover_each_other(result):
    figure = fit_figure(result)
    width, height = figure.canvas.get_width_height()
    placed = boxes(figure)
    outside = [
        said
        for said, box in placed
        if box.x0 < -1 or box.y0 < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    assert outside == []
    beside = [(text.get_text(), text.get_window_extent()) for axes in figure.axes for text in axes.texts]
    covered = [(a, b) for (a, one), (b, other) in combinations(beside, 2) if one.overlaps(other)]
    assert covered == []


def test_nothing_of_the_style_stays(line):
    before = dict(matplotlib.rcParams)
    with matplotlib.rc_context({"axes.facecolor": "red", "text.usetex": False, "lines.linewidth": 9}):
        inside = dict(matplotlib.rcParams)
        figure = fit_figure(line)
        assert dict(matplotlib.rcParams) == inside
    assert dict(matplotlib.rcParams) == before
    assert matplotlib.colors.to_hex(figure.axes[0].get_facecolor()) == "#fcfcfa"


def test_pyplot_stays_out(tmp_path):
    code = f"""
import sys, json, gradfit
loaded = "matplotlib" in sys.modules
r = gradfit.fit("y = a*x + b", {{"x": [1, 2, 3, 4.0], "y": [1, 2, 3.5, 4]}})
from gradfit.figures import save
save(r.plot(), {str(tmp_path / "p.png")!r})
print(json.dumps([loaded, "matplotlib.pyplot" in sys.modules]))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [False, False]
    assert (tmp_path / "p.png").stat().st_size > 10_000


def test_a_notebook_shows_the_figure(line):
    assert fit_figure(line)._repr_png_().startswith(b"\x89PNG")


# ---------------------------------------------------------------------------- saving


@pytest.mark.parametrize(("name", "begins"), [("p.png", b"\x89PNG"), ("p.SVG", b"<?xml"), ("p.pdf", b"%PDF")])
def test_a_figure_is_saved_by_the_end_of_its_name(line, tmp_path, name, begins):
    path = save(fit_figure(line), tmp_path / name)
    first = path.read_bytes()
    assert first.startswith(begins)
    assert [p.name for p in tmp_path.iterdir()] == [name]
    assert save(fit_figure(line), path, force=True).read_bytes() == first


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("there.png", "is there already and was not overwritten"),
        ("p.jpg", "ends in '.jpg'"),
        ("p", "has no ending"),
        ("no/folder/p.png", "There is no folder"),
        (f"{'p' * 300}.png", "cannot be written"),
    ],
)
def test_a_figure_is_not_saved_and_nothing_is_left(line, tmp_path, name, said):
    (tmp_path / "there.png").write_text("mine")
    with pytest.raises(OptionError, match=said) as caught:
        save(fit_figure(line), tmp_path / name)
    assert caught.value.remedy
    assert [p.name for p in tmp_path.iterdir()] == ["there.png"]
    assert (tmp_path / "there.png").read_text() == "mine"


# ---------------------------------------------------------------------------- data alone


def table(**columns):
    return read(columns)


def test_two_columns_are_a_scatter():
    figure = data_figure(table(t_u=T_U, t_c=np.where(T_C < 0, np.nan, T_C)), "t_u", "t_c")
    (axes,) = figure.axes
    assert len(points(axes).get_xdata()) == 10
    said = words(figure)
    rank = stats.spearmanr(T_U[T_C >= 0], T_C[T_C >= 0]).statistic
    assert said[0] == f"t_c rises with t_u (rank correlation {rank:.2f})"
    assert "10 of 11 rows; the others have no number in t_u or t_c" in said[1]


def test_one_column_is_a_histogram_of_all_its_values():
    figure = data_figure(table(x=np.random.default_rng(0).normal(size=500)), "x")
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == 500
    assert words(figure)[0].startswith("x runs from −")


def test_no_name_is_every_pair_of_at_most_six_columns():
    rng = np.random.default_rng(0)
    columns = {f"c{i}": rng.normal(size=50) for i in range(8)}
    figure = data_figure(table(**columns, kind=["a", "b"] * 25, c9=columns["c1"] ** 3))
    assert len(figure.axes) == 36
    assert "the first 6 of 9 numeric columns; name two to see others; 1 column of text" in " ".join(
        words(figure)[:3]
    )
    assert words(figure)[0].startswith("No two columns clearly rise or fall together")
    pair = data_figure(table(a=columns["c1"], b=-columns["c1"]))
    assert words(pair)[0] == "a and b go together most (rank correlation −1.00)"


def test_many_rows_are_hexagons_in_every_figure():
    data = table(**decay(3000))
    for figure in (data_figure(data, "x", "y"), data_figure(data)):
        counts = [one.get_array().sum() for axes in figure.axes for one in axes.collections]
        assert counts
        assert set(counts) == {3000}


def test_text_is_shown_by_its_levels():
    kinds = ["b", "a", "b", "c", "b", "a"] * 5
    data = table(kind=kinds, v=np.arange(30.0), other=["x", "y", "z"] * 10)
    strips = data_figure(data, "kind", "v")
    assert [label.get_text() for label in strips.axes[0].get_xticklabels()] == ["b", "a", "c"]
    assert sum(len(one.get_xdata()) for one in strips.axes[0].lines) == 30
    assert words(data_figure(data, "v", "kind"))[0] == words(strips)[0]
    bars = data_figure(data, "kind")
    assert [bar.get_height() for bar in bars.axes[0].patches] == [15, 10, 5]
    numbers = [
        int(text.get_text())
        for text in data_figure(data, "kind", "other").axes[0].texts
        if text.get_text().isdigit()
    ]
    assert sum(numbers) == 30
    many = data_figure(table(kind=[f"k{i}" for i in range(40)]), "kind")
    assert "the 12 most frequent of 40 levels" in " ".join(words(many)[:3])


@pytest.mark.parametrize(
    ("columns", "names", "said"),
    [
        ({"x": T_U, "y": T_C}, ("x", "t"), "There is no column t"),
        ({"x": T_U, "y": T_C * np.nan}, ("x", "y"), "y in arrays holds nothing that can be drawn"),
        ({"x": [1, np.nan], "y": [np.nan, 1]}, ("x", "y"), "No row of arrays has a number in x and in y"),
        ({"x": [np.nan, np.nan]}, (), "holds nothing that can be drawn"),
    ],
)
def test_what_cannot_be_drawn_is_said(columns, names, said):
    with pytest.raises(DataError, match=said):
        data_figure(table(**columns), *names)


@pytest.mark.parametrize(
    "values",
    [
        [1.0], [2.0, 2.0, 2.0], [0.0, 0.0], [1e300, -1e300, 0.0], [1e308, 1.0, 2.0], [5e-324, 0.0, 1e-320],
        [1e9, 1e9 + 1e-6, 1e9 + 2e-6], [1.0, np.inf, 3.0],
    ],
)  # fmt: skip
def test_odd_numbers_are_drawn(values):
    other = np.arange(float(len(values)))
    for names in (("v",), ("v", "w"), ()):
        figure = data_figure(table(v=np.array(values), w=other), *names)
        figure.canvas.draw()
        assert figure.axes


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(0, 9), st.floats(-5, 5)), min_size=3, max_size=40))
def test_the_rank_correlation_is_spearmans(pairs):
    x, y = np.array(pairs, float).T
    ours = rank_correlation(x, y)
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert ours == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-9)
    else:
        assert np.isnan(ours)


# ---------------------------------------------------------------------------- the library, formulas


def test_each_model_has_its_curve():
    figure = models_figure(MODELS.values())
    drawn = [axes for axes in figure.axes if len(axes.lines) == 2]
    assert len(drawn) == len(MODELS)
    assert set(MODELS) <= set(words(figure))
    for axes, model in zip(drawn, MODELS.values(), strict=True):
        assert axes.get_xlim() == model.span
        assert np.ptp(axes.lines[-1].get_ydata()) > 0
    figure.canvas.draw()


@pytest.mark.parametrize(
    ("text", "values", "expected"),
    [
        ("y = a - (b - c*x)", {}, r"$y = a - (b - c\,x)$"),
        ("y = a - b", {"b": ("−1.0", "0.1", "")}, r"$y = a + (1.0 \pm 0.1)$"),
        ("y = b*x", {"b": ("−1.0", "0.1", " × 10⁻⁶")}, r"$y = -(1.0 \pm 0.1) \times 10^{-6}\,x$"),
        ("y = x**b", {"b": ("2.0", "0.1", "")}, r"$y = {x}^{(2.0 \pm 0.1)}$"),
        ("y = a/(b*x)", {}, r"$y = a/(b\,x)$"),
        ("y = -x^2", {}, r"$y = -{x}^{2}$"),
        ("y = (-x)^2", {}, r"$y = {(-x)}^{2}$"),
        ("y = a*exp(-x/tau_1) + pi", {}, r"$y = a\,\mathrm{e}^{-x/\tau_\mathrm{1}} + \pi$"),
        ("decay(t, a, k)", {}, ""),
        ("y = {a $}*x", {}, ""),
        ("y = " + "+".join(f"a{i}*x**{i}" for i in range(40)), {}, ""),
    ],
)
def test_formulas_are_typeset(text, values, expected):
    assert formula(text, values) == expected


@pytest.mark.parametrize("model", MODELS.values(), ids=list(MODELS))
def test_matplotlib_can_read_every_typeset_formula(model):
    figure = Figure()
    figure.text(0, 0, formula(model.formula))
    figure.canvas.draw()
