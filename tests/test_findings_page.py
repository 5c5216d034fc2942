"""The page on findings has a section for each code that the source can raise, and no other; and its tables are there."""

import ast
import re
from itertools import chain
from pathlib import Path

import pytest

import gradfit
from gradfit.solve.lockstep.batch import CONVERGED, STATUS

PAGE = (Path(__file__).parent.parent / "docs" / "findings.md").read_text()
SECTIONS = re.split(r"^### ", PAGE, flags=re.MULTILINE)[1:]


def constants(node):
    return {
        one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)
    }


def codes_of(function):
    """Return the codes of the findings that a function makes: constants, and those of the variable it names them by."""
    made = [
        call
        for call in ast.walk(function)
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "Finding" and call.args
    ]
    named = {call.args[0].id for call in made if isinstance(call.args[0], ast.Name)}
    out = set(
        chain.from_iterable(
            constants(call.args[0]) for call in made if isinstance(call.args[0], ast.Constant)
        )
    )
    for one in ast.walk(function):
        if isinstance(one, ast.Assign):
            names = {
                name.id for target in one.targets for name in ast.walk(target) if isinstance(name, ast.Name)
            }
            out |= {text for text in constants(one.value) if "-" in text} if names & named else set()
    return out


def raised():
    out = {f"many-{status}" for status in STATUS if status != STATUS[CONVERGED]}
    for file in Path(gradfit.__file__).parent.rglob("*.py"):
        tree = ast.parse(file.read_text())
        out |= set(
            chain.from_iterable(codes_of(one) for one in ast.walk(tree) if isinstance(one, ast.FunctionDef))
        )
    return out


def documented():
    heads = [section.partition("\n")[0] for section in SECTIONS]
    return [code for head in heads for code in re.findall(r"`([a-z0-9-]+)`", head)]


def test_each_code_has_its_section_and_no_other():
    assert sorted(documented()) == sorted(raised())


NAMED = [section for section in SECTIONS if section.startswith("`") and not section.startswith("`many-")]


@pytest.mark.parametrize("section", NAMED, ids=lambda section: section.partition("\n")[0])
def test_a_section_says_how_bad_it_is_and_shows_it(section):
    assert "```python" in section
    assert re.search(r"\b(info|warnings?|error|raised)\b", section, re.IGNORECASE)


@pytest.mark.parametrize("name", ["healthy", "training", "validation", "networks", "sick", "search", "power"])
def test_the_tables_are_measured(name):
    table = re.search(
        rf"<!-- {name}: written by benchmarks/[a-z_]+\.py -->\n(.*?)<!-- end {name} -->", PAGE, re.DOTALL
    )
    assert table is not None
    assert re.search(r"\d ?%", table[1])
