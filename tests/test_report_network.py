"""The report of a network: every number in it the result's, and how it was made written down so that it can be made again."""

import ast
import re
from functools import cache

import command_line
import numpy as np
import pytest
from report_cases import EVIL, NETWORKS, mixed, trained, waves
from report_page import Page

import gradfit
from gradfit.networks.sentences import MEASURES
from gradfit.notation import fixed, significant
from gradfit.report import html
from gradfit.report.contours import level_lines


@cache
def page(name: str) -> Page:
    return Page(html(trained(name)))


def table(name: str, first: str) -> list[list[str]]:
    """Return the rows below the head that begins with a cell, up to the next head."""
    rows = page(name).rows()
    start = next(i for i, row in enumerate(rows) if row and row[0] == first)
    return rows[start : start + 120]


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    return command_line.runner(tmp_path, monkeypatch, capsys)


# ---------------------------------------------------------------------------- numbers


@pytest.mark.parametrize("name", NETWORKS)
def test_verdict_sentences_and_facts_head_the_page(name):
    result, document = trained(name), page(name)
    assert document.all("p", class_=f"word {result.verdict}") == [result.verdict.capitalize()]
    facts = dict(zip(document.all("dt"), document.all("dd"), strict=True))
    assert facts["Rows trained"] == f"{fixed(result.n, 0)} of {fixed(result.n_read, 0)}"
    assert facts["Parameters"] == fixed(result.k, 0)
    assert len(document.all("ol", class_="said")) == bool(result.sentences)


@pytest.mark.parametrize(
    "name", ["numbers", "three classes", "counts, embedded", "folds of a network", "nothing held out"]
)
def test_measures_stand_side_by_side(name):
    result, rows = trained(name), {row[0]: row[1:] for row in table(name, "Measure")}
    held = result.validation
    assert list(rows)[1 : 1 + len(result.metrics)] == [MEASURES[measure] for measure in result.metrics]
    loss = rows[f"loss ({result.loss_name})"]
    assert loss[0] == significant(result.loss, 3)
    assert len(loss) == 1 + (held is not None)
    if held is not None and not held.folds:
        assert loss[1] == significant(held.loss, 3)
    assert rows["rows"][0] == fixed(result.n, 0)


def test_confusion_is_that_of_the_result():
    result, rows = trained("three classes"), table("three classes", "kind is \\ said")
    assert rows[0][1:] == list(result.target.levels)
    for level, row, counts in zip(result.target.levels, rows[1:], result.confusion, strict=False):
        assert row == [level, *(str(count) for count in counts)]


def test_many_classes_are_a_map_with_the_mistakes_that_are_made_most():
    result, document = trained("fifty classes"), page("fifty classes")
    counts = result.confusion
    assert "kind is \\ said" not in [row[0] for row in document.rows() if row]
    squares = sum(
        (a.get("d") or "").count("z")
        for a in document.attributes("path")
        if re.match("yes|not", a.get("class") or "")
    )
    assert squares == 2 * np.count_nonzero(counts)  # for wide and for narrow screens
    wrong = counts - np.diag(np.diag(counts))
    assert table("fifty classes", "It is")[1][2] == str(wrong.max())
    by_class = table("fifty classes", "Class")
    assert [int(row[1].replace("\u202f", "")) for row in by_class[1:51]] == counts.sum(axis=1).tolist()


def test_predictions_in_the_table_are_those_of_the_rows_held_out():
    result, rows = trained("curve"), table("curve", "Row")
    predicted = result.predict(result.held.rows).value
    assert [row[0] for row in rows[1 : 1 + len(predicted)]] == [
        str(row) for row in result.held.rows.table.rows
    ]
    assert [row[3] for row in rows[1 : 1 + len(predicted)]] == [significant(float(v), 4) for v in predicted]


def test_held_out_rows_are_open_and_rows_trained_on_filled():
    classes = [a.get("class") for a in page("curve").attributes("circle")]
    result = trained("curve")
    assert classes.count("dot open") == 2 * result.held.n  # once for wide, once for narrow screens
    assert classes.count("dot") >= 2 * result.n


def test_the_kept_epoch_is_a_ring_and_a_number():
    result, document = trained("numbers"), page("numbers")
    rings = [a for a in document.attributes("circle") if a.get("class") == "ring"]
    assert len(rings) == 2
    assert document.all("text").count(f"epoch {result.best_epoch}") == 2
    assert not [a for a in page("nothing held out").attributes("circle") if a.get("class") == "ring"]


@pytest.mark.parametrize("name", ["numbers", "counts, embedded", "images"])
def test_layers_add_up_to_all_parameters(name):
    rows = table(name, "Layer")
    layers = [row for row in rows[1:] if len(row) == 5]
    own = [int(row[3].replace("\u202f", "")) for row in layers if row[3] != "none"]
    assert sum(own) == trained(name).k


def test_what_was_done_to_the_columns():
    seen = {row[0]: row[2] for row in table("numbers", "Column")[1:5]}
    mean, spread = (
        float(part["a"][0]) for part in (trained("numbers").encoding.mean, trained("numbers").encoding.spread)
    )
    assert seen["a"] == f"standardised: less {significant(mean, 3)}, over {significant(spread, 3)}"
    assert seen["c"] == "one-hot: 3 columns of 0 and 1"
    assert table("counts, embedded", "Column")[1][2] == "4 numbers for each level, which are learned"


# ---------------------------------------------------------------------------- headlines, findings


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("nothing held out", "Every row was trained on: nothing is known of new ones."),
        ("nothing held out", "After 60 epochs the training loss is"),
        ("overflow", "The loss overflowed in epoch"),
        ("overflow", "The training overflowed"),
        ("one epoch of a network", "The held-out loss was lowest at the last epoch, 1."),
        ("folds of a network", "4 folds, each held out once."),
        ("overfitted", "The network of epoch 1\u202f500 was kept; the held-out loss was lowest at epoch"),
        ("three classes", "held out are told right"),
        ("numbers", "40 of 160 rows were held out: at random, seed 0."),
        ("numbers", "Three layers hold 4\u202f609 parameters, 38 for each row trained on."),
        ("200 000 rows", "95 in 100 of the 50\u202f000 rows held out lie within"),
    ],
)  # fmt: skip
def test_headlines_say_what_the_numbers_say(name, words):
    leads = page(name).all("p", class_="lead")
    assert any(words in lead for lead in leads), leads


@pytest.mark.parametrize("name", ["overflow", "no learning", "overfitted"])
def test_findings_have_a_title_what_was_seen_and_what_to_do(name):
    result, document = trained(name), page(name)
    raised = [finding for finding in result.findings if finding.severity != "info"]
    assert raised
    assert len([words for words in document.all("h3") if re.match(r"\d", words)]) == len(raised)
    seen = [words.replace("\u00a0", " ") for words in document.all("dd")]
    assert all(finding.message in seen for finding in raised)
    assert document.all("dt").count("What to do") == sum(bool(finding.remedy) for finding in raised)


def test_a_loss_that_overflows_leaves_the_picture_and_says_so():
    assert "held out grows" in page("overflow").all("text")


# ---------------------------------------------------------------------------- again


def test_the_python_of_the_page_trains_the_same_network():
    result = trained("curve")
    (code,) = [words for words in page("curve").all("pre") if words.startswith("import")]
    call = ast.parse(code).body[1].value
    formula, settings = call.args[0].value, {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    again = gradfit.fit(formula, waves(), **settings)
    np.testing.assert_array_equal(again.history.train, result.history.train)


def test_a_network_that_was_loaded_has_a_page_without_its_rows(tmp_path):
    result = trained("numbers")
    loaded = gradfit.load(result.save(tmp_path / "net.safetensors"))
    document = Page(html(loaded))
    assert "A loaded network holds no rows; there is nothing to draw." in document.all("p", class_="lead")
    assert {"Layers", "How it was trained"} <= set(document.all("h2"))


def test_the_command_line_writes_the_page(run, tmp_path):
    columns = mixed(80)
    rows = [",".join(map(str, row)) for row in zip(*columns.values(), strict=True)]
    (tmp_path / "data.csv").write_text("\n".join([",".join(columns), *rows]))
    formula = "y ~ network(a, b, c, hidden=[8])"
    told = run("fit", "data.csv", formula, "--epochs", "20", "--validation", "0.25", "--report", "net.html")
    assert told.code == 0 and "net.html" in told.out
    document = Page((tmp_path / "net.html").read_text(encoding="utf-8"))
    assert any(
        f'gradfit fit data.csv "{formula}"' in code and "--validation 0.25" in code
        for code in document.all("pre")
    )
    assert not document.all("script")


def test_names_of_columns_and_classes_are_text():
    assert f'{EVIL} ≈ network(a&b "c")' in page("evil columns").all("h1")
    for name in ("evil columns", "evil classes"):
        assert not page(name).all("script")
        assert html(trained(name)).count("</style>") == 1


# ---------------------------------------------------------------------------- level lines


@pytest.mark.parametrize("level", [0.1, 0.5, 0.9])
def test_level_lines_of_a_cone_are_rings_of_that_radius(level):
    grid = np.linspace(-1, 1, 41)
    x, y = np.meshgrid(grid, grid)
    (line,) = level_lines(grid, grid, np.hypot(x, y), level)
    assert line[0][0] == line[0][-1] and line[1][0] == line[1][-1]
    np.testing.assert_allclose(np.hypot(*line), level, atol=2e-3)


def test_level_lines_cross_no_cell_without_a_number():
    grid = np.linspace(0, 1, 11)
    heights = np.add.outer(grid, np.zeros(11))
    heights[:, 5] = np.nan
    lines = level_lines(grid, grid, heights, 0.45)
    assert len(lines) == 2
    assert all((xs <= 0.4).all() or (xs >= 0.6).all() for xs, _ in lines)
    assert level_lines(grid, grid, heights, 7.0) == []
