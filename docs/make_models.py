"""Writes docs/models.md, the list of the model library; run it after a change: python docs/make_models.py."""

from pathlib import Path

from gradfit.library import GROUPS, MODELS, LibraryModel

PAGE = Path(__file__).with_name("models.md")

_HEAD = """# The model library

Ready-made models of `y` as a function of `x`. Each finds its own start values from the data: from any order of the
rows, either sign, noise, and any units. A parameter's unit stands in brackets.
"""


def page() -> str:
    """Return the page."""
    parts = [_HEAD]
    for group in GROUPS:
        parts.append(f"## {group[0].upper()}{group[1:]}\n")
        parts += [section(model) for model in MODELS.values() if model.group == group]
    return "\n".join(parts)


def section(model: LibraryModel) -> str:
    """Return what the page says about one model."""
    rows = [f"| `{name}` | {said} | {model.example[name]:g} |" for name, said in model.meaning.items()]
    low, high = model.span
    return "\n".join(
        [
            f"### {model.name}",
            f"{model.title}. {model.about}\n",
            f"    {model.formula}\n",
            f"| parameter | what it is | example, x from {low:g} to {high:g} |",
            "| --- | --- | --- |",
            *rows,
            "",
        ]
    )


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
