"""The report: whole, self-contained, escaped, and every number in it the result's."""

import re
import subprocess
import sys
from dataclasses import replace
from datetime import date
from functools import cache
from html.parser import HTMLParser
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from report_cases import FITS, NETWORKS, fitted, trained
from report_page import Page

import gradfit
from gradfit import notation
from gradfit.report import html, markup, write

DAY = date(2026, 11, 23)


@cache
def page(name: str) -> Page:
    return Page(text(name))


@cache
def text(name: str) -> str:
    return html(fitted(name) if name in FITS else trained(name), day=DAY)


@pytest.fixture(params=list(FITS))
def case(request) -> str:
    return request.param


@pytest.fixture(params=[*FITS, *NETWORKS])
def any_case(request) -> str:
    return request.param


# ---------------------------------------------------------------------------- the document


def test_document_is_whole_and_self_contained(any_case):
    document = page(any_case)
    assert text(any_case).startswith("<!doctype html>")
    assert document.attributes("html")[0]["lang"] == "en"
    assert len(document.all("h1")) == 1
    for _, attributes, _ in document.elements:
        assert not {"src", "onclick", "onload", "style"} & set(attributes)
        assert (attributes.get("href") or "#").startswith("#")
    assert not document.all("script")
    assert not re.search(r"@import|url\(|https?:", text(any_case))
    assert len(text(any_case)) < 1_000_000


def sections(name: str) -> list[str]:
    if name in NETWORKS:
        return [
            "Picture",
            "How well it does",
            "How it was trained",
            "Layers",
            "What was done to the data",
            "Reproduce",
        ]
    result = fitted(name)
    held = ["Held-out rows"] * (result.validation is not None or result.folds is not None)
    penalty = ["Penalty"] * (result.shrinkage is not None)
    found = ["How it was found", "What was done to the data", "Reproduce"]
    return ["Picture", "Parameters", "Residuals", *held, *penalty, *found]


def test_sections_stand_in_order_each_with_a_name_and_a_headline(any_case):
    document, result = page(any_case), trained(any_case) if any_case in NETWORKS else fitted(any_case)
    raised = any(f.severity != "info" for f in result.findings)
    assert document.all("h2") == ["Findings"] * raised + sections(any_case)
    leads = document.all("p", class_="lead")
    assert len(leads) == len(document.all("section")) == len(document.all("h2"))
    for lead in leads:
        assert re.match(r"\S.{12,}\.$", lead)
        assert "nan" not in lead.lower()


def test_links_lead_to_sections_and_ids_are_unique(any_case):
    ids = [attributes["id"] for _, attributes, _ in page(any_case).elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = {attributes["href"] for attributes in page(any_case).attributes("a")}
    assert targets <= {f"#{key}" for key in ids}


def test_headings_descend_by_one_level(any_case):
    levels = [int(name[1]) for name, _, _ in page(any_case).elements if re.fullmatch(r"h[1-6]", name)]
    assert levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))


def test_every_chart_says_its_message_and_every_header_cell_its_scope(any_case):
    for attributes in page(any_case).attributes("svg"):
        assert attributes.get("aria-hidden") == "true" or (
            attributes["role"] == "img" and attributes["aria-label"]
        )
    assert all(attributes.get("scope") in ("col", "row") for attributes in page(any_case).attributes("th"))


def test_coordinates_are_numbers(any_case):
    for name, attributes, _ in page(any_case).elements:
        for key in {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "r", "d", "width", "height"} & set(
            attributes
        ):
            assert not re.search(r"nan|inf|e[-+]\d", attributes[key] or ""), (name, key, attributes[key])


def test_no_python_number_reaches_the_reader(any_case):
    shown = re.sub(r"(?s)<(style|pre|code)\b.*?</\1>", "", text(any_case))
    plain = re.sub(r"<[^>]*>", " ", shown)
    assert not re.search(r"\d[eE][-+]?\d|\bnan\b|\bNaN\b|\binf\b|\bNone\b(?! of)|(?<!\w)-\d", plain)


def test_same_result_and_day_give_the_same_text(case):
    assert html(fitted(case), day=DAY) == text(case)


def test_verdict_formula_and_sentences_head_the_page():
    document = page("line")
    assert document.all("p", class_="word trust") == ["Trust"]
    assert document.all("h1") == ["tc = w\u2009tu + b"]
    said = [words for words in document.all("li") if words in [s.rstrip() for s in fitted("line").sentences]]
    plain = [
        sentence.replace("t_u", "tu").replace("p = ", "p\u00a0=\u00a0")
        for sentence in fitted("line").sentences
    ]
    assert document.all("li")[: len(plain)] == plain
    assert len(said) <= 3
    assert "gradfit 0.1.0 on 23 Nov 2026".replace("0.1.0", fitted("line").version) in text("line")


# ---------------------------------------------------------------------------- numbers


def parameter_rows(name: str) -> dict[str, list[str]]:
    head = next(i for i, row in enumerate(page(name).rows()) if row and row[0] == "Parameter")
    rows = page(name).rows()[head + 1 : head + 1 + len(fitted(name).params)]
    return dict(zip(fitted(name).params, rows, strict=True))


def test_table_of_parameters_holds_the_result(case):
    result = fitted(case)
    for name, cells in parameter_rows(case).items():
        p = result.params[name]
        if p.fixed:
            assert "fixed" in cells
        elif not p.determined:
            assert cells[1] == "not determined"
            assert "any" in cells
        elif np.isfinite(p.stderr) and case != "exact":
            value, error, power = notation.plus_minus(p.value, p.stderr)
            both = f"{value}\u00a0±\u00a0{error}"
            assert cells[1] == (f"({both}){power}" if power else both)
            assert notation.interval_text(*p.interval(), p.value, p.stderr) in cells


def test_numbers_behind_the_picture_are_the_rows(case):
    result = fitted(case)
    head = next(i for i, row in enumerate(page(case).rows()) if "leverage" in row)
    shown = page(case).rows()[head + 1 : head + 1 + min(result.n, 200)]
    assert [row[0] for row in shown] == [str(row) for row in result.data.rows[:200]]
    leverage = page(case).rows()[head].index("leverage")
    for row, h in zip(shown, result.leverage, strict=False):
        assert row[leverage] == notation.fixed(float(h), 2)


def test_residuals_in_the_table_have_the_decimals_of_the_scatter():
    result = fitted("line")
    head = next(i for i, row in enumerate(page("line").rows()) if "leverage" in row)
    column = page("line").rows()[head].index("residual, °C")
    cells = [row[column] for row in page("line").rows()[head + 1 : head + 12]]
    assert cells == [notation.fixed(float(r), 1, plus=True) for r in result.residuals]


def test_long_tables_are_cut_and_say_so():
    assert "The first 200 of 20\u202f000 rows" in text("20 000 rows")
    assert "The first 200" not in text("line")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("line", "Eleven rows lie on a straight line, within 2.7\u202f°C."),
        (
            "line",
            "w is 0.537\u00a0±\u00a00.036\u202f°C per unit of tu and b is −17.3\u00a0±\u00a01.9\u202f°C.",
        ),
        ("line", "What the line leaves over looks like noise."),
        ("line", "One linear solve gives the minimum."),
        ("line", "Nothing was dropped, filled or clipped."),
        ("unidentifiable", "Only k and c have values; a and t0 are not determined."),
        ("outlier", "36 rows look like noise; row 24 does not."),
        ("pattern", "What the line leaves over follows a pattern."),
        ("spread", "The scatter is not the same everywhere."),
        ("exact", "The line passes through every row."),
        ("exact", "a is 3 and b is 1, without an error."),
        ("all fixed", "All two parameters were given, not fitted."),
        ("all fixed", "Nothing was searched for: every parameter is given."),
        ("two rows", "Two rows for two parameters leave nothing to judge the fit by."),
        ("one place", "Neither of the two parameters is determined by these rows."),
        ("descent", "After 400 epochs the loss is"),
        ("no input", "60 rows lie on one level"),
    ],
)
def test_headlines_say_what_the_numbers_say(name, words):
    assert any(words in lead for lead in page(name).all("p", class_="lead")), page(name).all(
        "p", class_="lead"
    )


def test_dropped_rows_are_counted():
    columns = {"x": [1.0, 2.0, 3.0, 4.0, 5.0, np.nan], "y": [1.1, 1.9, 3.2, 3.9, 5.1, 6.0]}
    document = Page(html(gradfit.fit("y = a*x + b", columns, missing="drop"), day=DAY))
    assert "One of six rows was left out." in document.all("p", class_="lead")


def test_findings_have_a_title_what_was_seen_and_a_command():
    result, document = fitted("outlier"), page("outlier")
    raised = [f for f in result.findings if f.severity != "info"]
    titles = [words for words in document.all("h3") if re.match(r"\d", words)]
    assert len(titles) == len(raised)
    assert "One row pulls the fit." in " ".join(titles)
    for finding in raised:
        assert finding.message in [words.replace("\u00a0", " ") for words in document.all("dd")]
    assert any('loss="bisquare"' in code for code in document.all("pre"))


def test_flagged_row_stands_out_in_shape_and_words_not_only_colour():
    assert page("outlier").all("text").count("row 24") >= 3


def test_noted_findings_are_not_raised():
    assert "Noted, not raised" in page("line").all("h3")
    assert "Findings" not in page("line").all("h2")


def test_rows_that_are_not_finite_are_left_out_of_the_drawings_and_counted():
    result = fitted("outlier")
    y = result.data.y.copy()
    y[3] = np.nan
    broken = html(replace(result, data=replace(result.data, y=y)), day=DAY)
    document = Page(broken)
    assert "1 row is not finite and not drawn." in broken
    assert not any("nan" in (a.get("d") or "") for a in document.attributes("path"))


def test_points_of_many_rows_are_counted_not_drawn():
    dots = [a for a in page("20 000 rows").attributes("circle") if a.get("class", "").startswith("dot")]
    assert len(dots) < 60
    assert len([a for a in page("line").attributes("circle") if a.get("class") == "dot"]) > 50


# ---------------------------------------------------------------------------- escaping


def test_names_are_text_wherever_they_stand():
    document = page("evil names")
    assert not document.all("script")
    assert document.all("h1")[0].startswith('a&b "c" = w · <script>')
    assert text("evil names").count("</style>") == 1


NAMES = st.text(
    st.characters(exclude_characters="{}`\r\n\0", exclude_categories=["Cs"]), min_size=1, max_size=12
)


@given(x=NAMES, y=NAMES, unit=st.text(max_size=6))
@settings(max_examples=25, deadline=None)
def test_any_names_make_a_page_that_parses(x, y, unit):
    result = fitted("line")
    model = replace(result.model, text=f"{y} = w*{x} + b", response=y, inputs=(x,))
    columns = {x: result.data.columns["t_u"]}
    data = replace(result.data, columns=columns, units={x: unit, y: unit}, source=f"{x}.csv")
    if x != y:
        assert not Page(html(replace(result, model=model, data=data), day=DAY)).all("script")


@given(st.text())
def test_text_survives_as_text(words):
    parsed: list[str] = []
    parser = HTMLParser()
    parser.handle_data = parsed.append
    parser.feed(markup.tag("p", words, title=words))
    parser.close()
    kept = re.sub("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]", "\ufffd", words)
    assert "".join(parsed) == kept


# ---------------------------------------------------------------------------- the file


def test_file_is_written_whole(tmp_path):
    path = write(fitted("line"), tmp_path / "a b.html")
    assert path == tmp_path / "a b.html"
    Page(path.read_text(encoding="utf-8"))
    assert [file.name for file in tmp_path.iterdir()] == ["a b.html"]


def test_existing_file_is_kept_unless_forced(tmp_path):
    path = tmp_path / "r.html"
    path.write_text("mine")
    with pytest.raises(
        gradfit.OptionError, match=r"r\.html is there already and was not overwritten\nName .*--force"
    ):
        write(fitted("line"), path)
    assert path.read_text() == "mine"
    write(fitted("line"), path, force=True)
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_missing_folder_is_said(tmp_path):
    with pytest.raises(
        gradfit.OptionError, match=r"There is no folder .*nowhere to write r\.html to\nMake it first: mkdir"
    ):
        write(fitted("line"), tmp_path / "nowhere" / "r.html")


def test_notebook_shows_the_answer_and_styles_nothing_else():
    piece = fitted("line")._repr_html_()
    document = Page(piece)
    assert "0.537\u00a0±\u00a00.036" in document.all("td")
    assert document.all("b") == ["Trust"]
    rules = re.findall(r"([^{}]+)\{", document.all("style")[0])
    assert all(part.strip().startswith(".gradfit") for rule in rules for part in rule.split(","))


def test_report_needs_neither_torch_nor_matplotlib():
    code = (
        "import sys, gradfit; from gradfit.report import html\n"
        "result = gradfit.fit('y = a*x + b', {'x': [1, 2, 3, 4, 5, 6], 'y': [1.1, 2.3, 2.9, 4.2, 4.8, 6.1]})\n"
        "before = set(sys.modules); html(result)\n"
        "print([m for m in ('torch', 'matplotlib', 'scipy.stats') if m in sys.modules and m not in before])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# ---------------------------------------------------------------------------- colours


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear_ = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
    return 0.2126 * linear_[0] + 0.7152 * linear_[1] + 0.0722 * linear_[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("ink", 4.5),
        ("ink-2", 4.5),
        ("ink-3", 4.5),
        ("fit", 4.5),
        ("second", 4.5),
        ("trust", 4.5),
        ("caution", 4.5),
        ("no", 4.5),
        ("control", 3.0),
    ],
)
@pytest.mark.parametrize("ground", ["paper", "sunken"])
def test_colours_reach_the_contrast_of_wcag(scheme, name, least, ground):
    blocks = re.findall(r":root\{([^}]*)\}", text("line"))
    colours = dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})", blocks[0 if scheme == "light" else 1]))
    high, low = sorted((luminance(colours[name]), luminance(colours[ground])), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= least
