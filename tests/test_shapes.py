"""shapes(): the broadcasting rule held against NumPy's, its pictures, and what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from command_line import Run, flat, runner
from hypothesis import given
from hypothesis import strategies as st

import gradfit
from gradfit import FormulaError, GradfitError, OptionError, ShapeError
from gradfit.broadcasting import Operand, join, memory

SIZES = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@pytest.fixture
def run(tmp_path, monkeypatch, capsys) -> Run:
    return runner(tmp_path, monkeypatch, capsys)


def text(shape: tuple[int, ...]) -> str:
    return repr(shape)


# ---------------------------------------------------------------------------- laws


@given(st.lists(SIZES, min_size=1, max_size=4))
def test_joined_as_numpy_joins(shapes):
    try:
        wanted = np.broadcast_shapes(*shapes)
    except ValueError:
        with pytest.raises(ShapeError, match="cannot be joined"):
            gradfit.shapes(" * ".join(map(text, shapes)) if len(shapes) > 1 else "(2,) * (3,)")
        return
    seen = gradfit.shapes(" * ".join(map(text, shapes)))
    assert seen.shape == wanted
    assert gradfit.shapes(*shapes).shape == wanted
    assert seen.bytes == 8 * np.prod(wanted, dtype=int)


@given(SIZES, SIZES)
def test_multiplied_as_numpy_multiplies(a, b):
    try:
        wanted = np.matmul(np.zeros(a), np.zeros(b)).shape
    except ValueError:
        with pytest.raises(ShapeError):
            gradfit.shapes(f"{text(a)} @ {text(b)}")
        return
    assert gradfit.shapes(f"{text(a)} @ {text(b)}").shape == wanted


@given(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4), st.data())
def test_repeats_make_the_result(sizes, draw):
    parts = [tuple(draw.draw(st.sampled_from([1, size])) for size in sizes) for _ in range(3)]
    step = join([Operand(f"x{i}", part) for i, part in enumerate(parts)])
    assert [n * np.prod(part, dtype=int) for n, part in zip(step.repeats, parts, strict=True)] == [
        np.prod(step.result, dtype=int)
    ] * 3


@given(st.text(alphabet="()[],.:*+-@ 0123456789TNonesumxq=", max_size=24))
def test_any_text_is_read_or_refused_in_words(words):
    try:
        said = str(gradfit.shapes(words))
    except GradfitError as error:
        said = error.message
    assert said


# ---------------------------------------------------------------------------- expressions


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        ("(3,1) * (1,3) * (2,1,1)", (2, 3, 3)),
        ("(5,3) @ (3,2)", (5, 2)),
        ("(11,) * () + ()", (11,)),
        ("(3) * 2", (3,)),
        ("1.5*(3,1)", (3, 1)),
        ("(3,1)*(1,3)@(3,2)", (3, 2)),
        ("((11,1) - (11,)).mean()", ()),
        ("mean((11,1) - (11,), 0)", (11,)),
        ("np.sum((5,3), axis=0)", (3,)),
        ("(5,3).sum(dim=1, keepdim=True) + (5,3)", (5, 3)),
        ("(5,3,2).sum(dim=(0, -1))", (3,)),
        ("torch.exp(-(3,1)) ** 2", (3, 1)),
        ("(5,3).T", (3, 5)),
        ("(7,5,3).mT @ (5,2)", (7, 3, 2)),
        ("(5,3).transpose(0, 1)", (3, 5)),
        ("(5,3,2).permute(2,0,1)", (2, 5, 3)),
        ("(5,1).squeeze(-1) - (5,)", (5,)),
        ("(5,).unsqueeze(1) - (5,)", (5, 5)),
        ("(5,3)[:, None] * (4,1)", (5, 4, 3)),
        ("(5,3)[..., 0]", (5,)),
        ("(5,3).reshape(-1)", (15,)),
        ("(5,3).view(3, -1)", (3, 5)),
        ("(5,2,3).flatten(1)", (5, 6)),
        ("(1,3).expand(5, -1)", (5, 3)),
        ("torch.Size([3, 1]) * [1, 3]", (3, 3)),
        ("(3,1), (1,3)", (3, 3)),
        ("(0,3) * (1,3)", (0, 3)),
        ("()", ()),
    ],
)
def test_expressions(words, shape):
    assert gradfit.shapes(words).shape == shape


@pytest.mark.parametrize(
    ("operands", "shape"),
    [
        ((np.zeros((3, 1)), torch.zeros(1, 4)), (3, 4)),
        ((torch.Size([2, 1]), 3.0), (2, 1)),
        (((3, 1), (1, 3)), (3, 3)),
        ((np.zeros(4),), (4,)),
    ],
)
def test_arrays_tensors_and_tuples(operands, shape):
    assert gradfit.shapes(*operands).shape == shape


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("float64", 72), ("float32", 36), (torch.float16, 18), (np.complex128, 144), (bool, 9)],
)
def test_memory_by_dtype(dtype, size):
    assert gradfit.shapes("(3,1) * (1,3)", dtype=dtype).bytes == size


def test_memory_in_words():
    assert memory(999) == "999\u202fbytes"
    assert memory(1000) == "1.00\u202fkB"
    seen = str(gradfit.shapes("(1000000,1) * (1,1000000)")).replace("\u202f", " ")
    assert "1 000 000 000 000 values of float64: 8.00 TB" in seen


def test_the_picture():
    assert str(gradfit.shapes("(3,1) * (1,3) * (2,1,1)")).split("\n")[2:12] == [
        "  (3, 1)          3   1",
        "  (1, 3)          1   3",
        "  (2, 1, 1)   2   1   1",
        "  ---------------------",
        "  result      2   3   3   (2, 3, 3)",
        "",
        "  dimension -1   1, 3, 1 make 3: the 1 of (3, 1) and (2, 1, 1) is repeated",
        "  dimension -2   3, 1, 1 make 3: the 1 of (1, 3) and (2, 1, 1) is repeated",
        "  dimension -3   none, none, 2 make 2: missing in (3, 1) and (1, 3): put in front as 1, then repeated",
        "  repeated  (3, 1) 6 times, (1, 3) 6 times and (2, 1, 1) 9 times",
    ]


def test_an_unwanted_table_is_told_with_its_cure():
    (step,) = gradfit.shapes("(11,1) - (11,)").steps
    assert step.notes == (
        "Each value of (11, 1) meets each of (11,): 121 values. To pair (11, 1) with (11,) one by one, end (11, 1) with "
        ".squeeze(-1)",
    )


# ---------------------------------------------------------------------------- refused


@pytest.mark.parametrize(
    ("words", "message", "place", "remedy"),
    [
        (
            "(3,2) * (4,2)",
            "dimension -2, counted from the back, has 3 in one and 4 in the other",
            9,
            "must be equal",
        ),
        ("(3,) + (3,2)", "dimension -1", 13, "End (3,) with .unsqueeze(-1), or [:, None], to make it (3, 1)"),
        ("(2,3) + (3,2)", "dimension -1", 13, "Turn (2, 3) over with .T, to make it (3, 2)"),
        (
            "(5,3) @ (2,3)",
            "3 in its last dimension, the second 2 in its first",
            9,
            "Turn (2, 3) over with .T",
        ),
    ],
)
def test_what_does_not_join_names_the_dimension(words, message, place, remedy):
    with pytest.raises(ShapeError) as caught:
        gradfit.shapes(words)
    assert message in caught.value.message
    assert caught.value.excerpt.split("\n")[-1].index("^") == place
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("words", "kind", "message"),
    [
        ("", FormulaError, "A shape is missing here"),
        ("(3,1", FormulaError, "')' is missing here"),
        ("(3,1) * x", FormulaError, "x is no shape"),
        ("(3,1) *", FormulaError, "A shape is missing here"),
        ("(3,-1) * 2", FormulaError, "whole numbers from 0 up"),
        ("(3,1) § 2", FormulaError, "'§' is not understood here"),
        ("(3,1).foo()", FormulaError, ".foo is not known"),
        ("(99999999999999999999,)", FormulaError, "No size is as large as this"),
        ("(" * 5000, FormulaError, "Too many brackets"),
        ("() @ (3,)", ShapeError, "() has no dimension, and @ sums over one"),
        ("(5,3).reshape(4)", ShapeError, "15 values do not make (4,)"),
        ("(5,3).squeeze(4)", ShapeError, "it has 2 dimensions"),
        ("(5,3).sum(2)", ShapeError, "(5, 3) has no dimension 2"),
        ("(5,3)[0, 0, 0]", ShapeError, "no more than 2 dimensions"),
    ],
)
def test_refused_in_words(words, kind, message):
    with pytest.raises(kind) as caught:
        gradfit.shapes(words)
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("operands", "dtype", "message"),
    [
        ((), "float64", "shapes() needs shapes"),
        (([1.0, 2.0], (3,)), "float64", "Operand 1, a list, has no shape"),
        (((3, -1), (3,)), "float64", "Operand 1, (3, -1), is no shape"),
        (("(3,1)", (3,)), "float64", "Operand 1, a str, has no shape"),
        (((3,), (3,)), "float8", "There is no dtype 'float8'"),
    ],
)
def test_operands_without_a_shape(operands, dtype, message):
    with pytest.raises(OptionError) as caught:
        gradfit.shapes(*operands, dtype=dtype)
    assert message in caught.value.message


# ---------------------------------------------------------------------------- command line


def test_command(run):
    seen = run("shapes", "(3,1) * (1,3) * (2,1,1)")
    assert (seen.code, seen.err) == (0, "")
    assert "(2, 3, 3)" in seen.out
    assert "18 values of float64: 144 bytes" in flat(seen.out)


def test_command_for_programs(run):
    seen = json.loads(run("shapes", "(3,1) * (1,3)", "--dtype", "float32", "--json").out)
    assert (seen["shape"], seen["bytes"]) == ([3, 3], 36)
    assert seen["steps"][0]["repeats"] == [3, 3]


def test_command_that_refuses(run):
    seen = run("shapes", "(3,2) + (4,)")
    assert (seen.code, seen.out) == (2, "")
    assert "Not joined" in seen.err
    assert "dimension -1, counted from the back, has 2 in one and 4 in the other" in flat(seen.err)


def test_it_starts_without_numpy():
    code = "import sys; from gradfit.cli import main; main(['shapes', '(3,1) * (1,3)']); sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0
