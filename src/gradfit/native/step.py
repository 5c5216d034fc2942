"""An optimizer's step as a graph: new parameters and new state from the gradient, the learning rate and the old state."""

from dataclasses import dataclass

from gradfit.graph import Node

PARAMETER, GRADIENT, RATE, STATE = range(4)  # the inputs; of the state the first one


@dataclass(frozen=True, eq=False)
class Step:
    """One step of an optimizer, as operations on the vector of parameters and on single numbers.

    Beside the operations of a model's graph there are "single", rounding to a number of 32 bits (in which torch keeps
    counts and some products), and "total", the sum over the parameters, a single number.

    Attributes
    ----------
    nodes : tuple
        ("const", v), ("var", i) with i one of PARAMETER, GRADIENT, RATE or STATE + s, or (operation, id, ...).
    names : tuple of str
        Of the state.
    vector : tuple of bool
        Which of the state has a number for each parameter.
    first, later : tuple of int
        The nodes of the new parameters and the new state: in the first step, when there is no state, and after it.
    """

    nodes: tuple[Node, ...]
    names: tuple[str, ...]
    vector: tuple[bool, ...]
    first: tuple[int, ...]
    later: tuple[int, ...]
