"""The arguments of a function: which of them are columns, and which are parameters."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from weakref import WeakKeyDictionary

import numpy as np

from gradfit.errors import ModelError

Function = Callable[..., object]


@dataclass(frozen=True)
class Signature:
    """The arguments of a function.

    Attributes
    ----------
    arguments : tuple of str
        Those that take a column or a parameter: without a default, or with a number.
    settings : tuple of str
        Those with another default (a text, None, an array), and those that a partial holds. They keep it.
    positional : tuple of str
        Those of the arguments and settings that can be given by position.
    starred : str
        The name after the star in f(x, *params), else empty.
    defaults : mapping of str to float
        The numbers among the defaults.
    """

    arguments: tuple[str, ...]
    settings: tuple[str, ...]
    positional: tuple[str, ...]
    starred: str
    defaults: Mapping[str, float]


def name_of(function: Function) -> str:
    """Return the name of a function for sentences.

    >>> name_of(np.sin), name_of(lambda x: x)
    ('sin', 'lambda')
    """
    if isinstance(function, partial):
        return name_of(function.func)
    return str(getattr(function, "__name__", type(function).__name__)).strip("<>")


_SIGNATURES: "WeakKeyDictionary[Function, Signature]" = WeakKeyDictionary()


def signature_of(function: Function) -> Signature:
    """Return the argument names of a function, and the numbers among their defaults.

    Raises
    ------
    ModelError
        If the function does not tell its arguments.

    Examples
    --------
    >>> signature_of(lambda x, a, b=2, *, kind="fast": x).arguments
    ('x', 'a', 'b')
    """
    try:
        known = _SIGNATURES.get(function)
        if known is None:
            known = _SIGNATURES[function] = _signature_of(function)
    except TypeError:  # cannot be hashed, or referred to weakly
        known = _signature_of(function)
    return known


def _signature_of(function: Function) -> Signature:
    """Return the argument names of a function.

    Raises
    ------
    ModelError
        If the function does not tell them.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ModelError(
            f"{name_of(function)} does not tell its arguments", remedy="Wrap it in a def with named ones"
        ) from error
    held = frozenset(function.keywords) if isinstance(function, partial) else frozenset[str]()
    by_position = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    single = [p for p in parameters if p.kind in (*by_position, inspect.Parameter.KEYWORD_ONLY)]
    arguments = tuple(p.name for p in single if p.name not in held and _takes_a_number(p.default))
    return Signature(
        arguments,
        tuple(p.name for p in single if p.name not in arguments),
        tuple(p.name for p in single if p.kind in by_position),
        next((p.name for p in parameters if p.kind is inspect.Parameter.VAR_POSITIONAL), ""),
        {p.name: float(p.default) for p in single if p.name in arguments and p.default is not p.empty},
    )


def _takes_a_number(default: object) -> bool:
    if default is inspect.Parameter.empty:
        return True
    return isinstance(default, int | float | np.number) and not isinstance(default, bool)


@dataclass(frozen=True)
class Names:
    """Which arguments of a function are columns and which are parameters.

    Attributes
    ----------
    inputs : tuple of str
        Columns.
    parameters : tuple of str
        What is to be fitted.
    order : tuple of int
        Argument i of the function is value order[i] of (*inputs, *parameters).
    by_name : tuple of (str, int)
        Arguments that are given by name, and which of these values they take.
    defaults : mapping of str to float
        Start values of parameters that the signature gives.
    notes : tuple of str
        How the names were understood.
    """

    inputs: tuple[str, ...]
    parameters: tuple[str, ...]
    order: tuple[int, ...]
    by_name: tuple[tuple[str, int], ...] = ()
    defaults: Mapping[str, float] | None = None
    notes: tuple[str, ...] = ()

    def call(self, function: Function, values: Sequence[object]) -> object:
        """Return function(...) for the values of (*inputs, *parameters)."""
        named = {name: values[i] for name, i in self.by_name}
        return function(*(values[i] for i in self.order), **named)


def settle_names(
    function: Function, columns: Sequence[str], response: str | None, starts: Sequence[str] | int | None
) -> Names:
    """Return the names of a function's columns and parameters.

    Arguments named like columns are data, the rest are parameters. Where none is, the first is, as SciPy has it.
    `starts` gives the names, or the number, of the parameters of f(x, *params). The answer is kept with the function.

    Raises
    ------
    ModelError
        If the number of parameters cannot be known, no column is left for the first argument, or an argument is the
        response.
    """
    starts = starts if starts is None or isinstance(starts, int) else tuple(starts)
    try:
        known = _NAMES.setdefault(function, {})
    except TypeError:  # cannot be hashed, or referred to weakly
        known = dict[object, Names]()
    key = tuple(columns), response, starts
    if key not in known:
        known[key] = _settled_names(function, columns, response, starts)
    return known[key]


_NAMES: "WeakKeyDictionary[Function, dict[object, Names]]" = WeakKeyDictionary()


def _settled_names(
    function: Function, columns: Sequence[str], response: str | None, starts: Sequence[str] | int | None
) -> Names:
    signature = signature_of(function)
    arguments = [*signature.arguments, *(s for s in signature.settings if s in columns)]
    text = f"{name_of(function)}({', '.join(arguments)})"
    if response is not None and response in arguments:
        raise ModelError(
            f"{response} is the observed column and an argument of {text}",
            remedy="A model does not see what it is to predict: give the argument another name",
        )
    data = [a for a in arguments if a in columns]
    renamed: dict[str, str] = {}
    if not data:
        first = arguments[0] if arguments else signature.starred
        renamed[first] = _only_input(columns, response, text, first)
        data = [first]
    more = _starred(text, signature, [a for a in arguments if a not in data], starts)
    parameters = [*(a for a in arguments if a not in data), *more]
    if not parameters:
        raise ModelError(
            f"{text} has no parameters: all its arguments are columns",
            remedy="Arguments that are to be fitted have names that no column has",
        )
    notes = tuple(f"{a} of {name_of(function)} is the column {c}" for a, c in renamed.items() if a != c)
    order, by_name = _ways_in(text, signature, [*data, *parameters], more)
    defaults = {name: number for name, number in signature.defaults.items() if name in parameters}
    return Names(tuple(renamed.get(a, a) for a in data), tuple(parameters), order, by_name, defaults, notes)


def _only_input(columns: Sequence[str], response: str | None, text: str, first: str) -> str:
    """Return the column that the first argument means, where no argument is named like one.

    Raises
    ------
    ModelError
        If several could be meant.
    """
    observed = response or ("y" if "y" in columns else columns[-1] if len(columns) > 1 else None)
    others = [c for c in columns if c != observed]
    if len(others) != 1:
        raise ModelError(
            f"No argument of {text} is named like a column, and {', '.join(others) or 'no column'} could be meant by "
            f"{first or 'the first'}",
            remedy=f"Name the arguments that are data like their columns: {', '.join(columns)}",
        )
    return others[0]


def _starred(
    text: str, signature: Signature, known: Sequence[str], starts: Sequence[str] | int | None
) -> list[str]:
    """Return names for the parameters of f(x, *params) beside the `known` ones.

    Raises
    ------
    ModelError
        If no start values tell how many there are.
    """
    if not signature.starred:
        return []
    if starts is None:
        raise ModelError(
            f"{text[:-1]}, *{signature.starred}) takes any number of parameters".replace("(, ", "("),
            remedy="Give start values, as many as it has parameters",
        )
    if isinstance(starts, int):
        return [f"p{i}" for i in range(starts - len(known))]
    return [s for s in starts if s not in known]


def _ways_in(
    text: str, signature: Signature, values: Sequence[str], starred: Sequence[str]
) -> tuple[tuple[int, ...], tuple[tuple[str, int], ...]]:
    """Return which value each positional argument takes, and which are given by name.

    After an argument that keeps its default the others are given by name.

    Raises
    ------
    ModelError
        If one behind the star would have to skip such an argument.
    """
    place = {name: i for i, name in enumerate(values)}
    order: list[int] = []
    for name in signature.positional:
        if name not in place:
            break
        order.append(place[name])
    by_position = set(signature.positional[: len(order)]) | set(starred)
    if starred and len(order) < len(signature.positional):
        skipped = signature.positional[len(order)]
        raise ModelError(f"{skipped} of {text} stands before *{signature.starred} and keeps its default")
    if not signature.arguments and starred:  # f(*args): the first of them is the data
        order.append(0)
        by_position.add(values[0])
    order += [place[name] for name in starred]
    return tuple(order), tuple((name, i) for name, i in place.items() if name not in by_position)
