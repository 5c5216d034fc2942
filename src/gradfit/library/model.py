"""LibraryModel: a formula, what its parameters mean, and a guess of their start values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gradfit.library.curve import Array

GROUPS = (
    "lines and polynomials",
    "decay and growth",
    "peaks",
    "sigmoids and dose response",
    "kinetics and physics",
    "oscillations",
    "steps",
)


@dataclass(frozen=True)
class LibraryModel:
    """A ready-made model of y as a function of x.

    Attributes
    ----------
    name : str
        Under which `find` returns it.
    formula : str
        In the columns y and x; the other names are parameters.
    title : str
        The name that people use.
    about : str
        When to use it.
    meaning : Mapping
        parameter -> what it is, with its unit in terms of those of x and y.
    group : str
        One of GROUPS.
    example : Mapping
        parameter -> a typical value.
    span : (float, float)
        The range of x that shows the example.
    guess : Callable
        (x (n,), y (n,)) -> start values, finite for any data.
    """

    name: str
    formula: str
    title: str
    about: str
    meaning: Mapping[str, str]
    group: str
    example: Mapping[str, float]
    span: tuple[float, float]
    guess: Callable[[Array, Array], dict[str, float]]
