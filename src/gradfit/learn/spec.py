"""network(): the usual network for the columns of a table, as a value; and the formula that asks for one."""

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from numbers import Real

from gradfit.errors import FormulaError, OptionError
from gradfit.model import nearest

#: name -> class of torch.nn
ACTIVATIONS: Mapping[str, str] = {
    "tanh": "Tanh", "relu": "ReLU", "gelu": "GELU", "silu": "SiLU", "sigmoid": "Sigmoid", "softplus": "Softplus",
    "elu": "ELU", "leaky_relu": "LeakyReLU", "identity": "Identity",
}  # fmt: skip
CATEGORIES = ("auto", "one-hot", "embedded")
MOST = 1_000_000  # units of a layer
_SETTINGS = ("hidden", "activation", "dropout", "categories")


@dataclass(frozen=True)
class NetworkSpec:
    """A network of dense layers, before it knows its columns.

    Attributes
    ----------
    hidden : tuple of int
        Units of each hidden layer; none makes a linear model.
    activation : str
        After each hidden layer.
    dropout : float
        Share of hidden units left out in each step of training.
    categories : str
        How columns of text come in: "one-hot", "embedded", or "auto", which embeds those of more than 8 levels.
    """

    hidden: tuple[int, ...] = (64, 64)
    activation: str = "tanh"
    dropout: float = 0.0
    categories: str = "auto"

    @property
    def text(self) -> str:
        """The call that makes it."""
        parts = [f"hidden={list(self.hidden)}", f'activation="{self.activation}"']
        parts += [f"dropout={self.dropout:g}"] if self.dropout else []
        parts += [f'categories="{self.categories}"'] if self.categories != "auto" else []
        return f"network({', '.join(parts)})"


def network(
    *,
    hidden: object = (64, 64),
    activation: str = "tanh",
    dropout: float = 0.0,
    categories: str = "auto",
) -> NetworkSpec:
    """Return the usual network of dense layers, for `fit`, which builds it for the columns of a table.

    Inside, numbers are standardised with the mean and standard deviation of the training rows, and text becomes one-hot
    columns or an embedding; predictions come back in the unit of the target.

    Parameters
    ----------
    hidden : sequence of int, or int
        Units of the hidden layers.
    activation : str
        "tanh", "relu", "gelu", "silu", "sigmoid", "softplus", "elu", "leaky_relu" or "identity".
    dropout : float
        Share of hidden units left out in each step, from 0 to below 1.
    categories : {"auto", "one-hot", "embedded"}
        How columns of text come in.

    Raises
    ------
    OptionError
        If one of them makes no sense.

    Examples
    --------
    >>> network(hidden=[16], activation="relu").text
    'network(hidden=[16], activation="relu")'
    """
    sizes: tuple[object, ...] = tuple(hidden) if isinstance(hidden, Sequence) else (hidden,)
    whole = [size for size in sizes if isinstance(size, int) and type(size) is not bool and 0 < size <= MOST]
    if len(whole) < len(sizes):
        raise OptionError(
            f"hidden is {hidden!r}",
            remedy=f"Give the units of each hidden layer, {MOST:,} at most: hidden=[64, 64]",
        )
    if activation not in ACTIVATIONS:
        raise OptionError(
            f"There is no activation {activation!r}", remedy=nearest(activation, tuple(ACTIVATIONS))
        )
    if not isinstance(dropout, Real) or not 0 <= dropout < 1:
        raise OptionError(
            f"dropout is {dropout!r}", remedy="Give a share from 0 to below 1, such as dropout=0.1"
        )
    if categories not in CATEGORIES:
        raise OptionError(f"categories is {categories!r}", remedy=nearest(categories, CATEGORIES))
    return NetworkSpec(tuple(whole), activation, float(dropout), categories)


# ---------------------------------------------------------------------------- the formula


@dataclass(frozen=True)
class NetworkFormula:
    """What "y ~ network(x1, x2, hidden=[32])" says.

    Attributes
    ----------
    targets, inputs : tuple of str
        Columns; no inputs stand for all the others.
    spec : NetworkSpec
        The network.
    text : str
        As it was written.
    """

    targets: tuple[str, ...]
    inputs: tuple[str, ...]
    spec: NetworkSpec
    text: str


_CALL = re.compile(r"(?P<left>[^~]*)~\s*network\s*(?:\((?P<inside>.*)\))?\s*", re.DOTALL)


def network_formula(model: object) -> NetworkFormula | None:
    """Return what a formula with network() says, None for any other model.

    Raises
    ------
    FormulaError
        If it begins so and cannot be understood.

    Examples
    --------
    >>> network_formula("y ~ network(x1, x2, hidden=[16])").inputs
    ('x1', 'x2')
    >>> network_formula("y = a*x + b") is None
    True
    """
    found = _CALL.fullmatch(model.strip()) if isinstance(model, str) and "~" in model else None
    if found is None or not isinstance(model, str):
        return None
    targets = tuple([_name(part, model) for part in _parted(found["left"])])
    if not targets:
        raise FormulaError("Nothing stands before the ~", excerpt=model, remedy='Write "y ~ network(x1, x2)"')
    inputs, settings = list[str](), dict[str, object]()
    for part in _parted(found["inside"] or ""):
        name, equals, value = part.partition("=")
        if equals:
            settings[_setting(name.strip(), model)] = _literal(name.strip(), value.strip(), model)
        elif part != ".":
            inputs.append(_name(part, model))
    both = set(targets) & set(inputs)
    if both:
        raise FormulaError(
            f"{both.pop()} stands on both sides of the ~", excerpt=model, remedy="Leave one out"
        )
    return NetworkFormula(targets, tuple(inputs), network(**settings), model.strip())  # pyright: ignore[reportArgumentType]  # checked there


def _parted(text: str) -> list[str]:
    """Return the parts between commas that stand in no bracket."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part.strip() for part in parts if part.strip()]


def _name(part: str, text: str) -> str:
    inside = part[1:-1].strip() if part[:1] == "{" and part[-1:] == "}" else part
    if not inside or (inside == part and not part.isidentifier()):
        raise FormulaError(
            f"{part!r} is no name of a column",
            excerpt=text,
            remedy="In a network stand columns as they are; put a name with spaces in braces: {dose rate}",
        )
    return inside


def _setting(name: str, text: str) -> str:
    if name not in _SETTINGS:
        raise FormulaError(f"network() has no {name!r}", excerpt=text, remedy=nearest(name, _SETTINGS))
    return name


def _literal(name: str, value: str, text: str) -> object:
    if value in ACTIVATIONS or value in CATEGORIES:
        return value
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise FormulaError(
            f"{name} is {value}, which is no value",
            excerpt=text,
            remedy='Write hidden=[64, 64], activation="tanh"',
        ) from error
