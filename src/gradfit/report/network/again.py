"""How the training of a network is written down again: as a shell command and as Python."""

from collections.abc import Mapping
from pathlib import PurePath

from gradfit.errors import FormulaError
from gradfit.learn import NetworkResult, network_formula
from gradfit.report.commands import argument, call, is_file, literal
from gradfit.saved.plain import given
from gradfit.shell import as_option, quoted

MODULE = "module"  # what a module of the caller's is called
_NARROW = 60  # characters that fit beside a figure
_APART = (
    "inputs",
    "target",
    "response",
    "level",
    "memory",
    "threads",
)  # said otherwise, or of no use to a network
_USUAL: Mapping[str, object] = {
    "scale": "none",
    "stop": "best",
    "min_delta": 0.0,
    "loss": "auto",
    "device": "auto",
}


def settings_of(result: NetworkResult, more: Mapping[str, object]) -> dict[str, object]:
    """Return the arguments that were given and are not the defaults, with others put over them."""
    told = {
        name: value
        for name, value in given(result.settings).items()
        if name not in _APART and not (isinstance(value, str | float) and _USUAL.get(name) == value)
    }
    return told | dict(more)


def is_formula(result: NetworkResult) -> bool:
    """Return whether its formula says all of the network."""
    if result.spec is None:
        return False
    try:
        return network_formula(result.formula) is not None
    except FormulaError:
        return False


def shell(result: NetworkResult, more: Mapping[str, object]) -> str:
    """Return the command line; empty where the training cannot be written as one.

    Parameters
    ----------
    more : mapping of str to object
        Arguments that are put over those that were given.
    """
    if not is_file(result.source) or not is_formula(result):
        return ""
    options = [as_option(f"{key}={argument(key, value)}") for key, value in settings_of(result, more).items()]
    if not all(options):
        return ""
    line = f"gradfit fit {quoted(result.source)} {quoted(result.formula)}"
    whole = " ".join([line, *options])
    return f"{line} \\\n    {' '.join(options)}" if options and len(whole) > _NARROW else whole


def python(result: NetworkResult, more: Mapping[str, object]) -> str:
    """Return the call of `gradfit.fit`.

    Parameters
    ----------
    more : mapping of str to object
        Arguments that are put over those that were given.
    """
    written = is_formula(result)
    data = literal(result.source) if is_file(result.source) else "data"
    model = MODULE if result.spec is None else f"gf.{result.spec.text}"
    names = [f"inputs={literal(result.inputs)}", f"target={literal(_target(result))}"]
    words = [literal(result.formula) if written else model, data, *([] if written else names)]
    told = (f"{key}={argument(key, value)}" for key, value in settings_of(result, more).items())
    return call("result = gf.fit", [*words, *told])


def program(result: NetworkResult) -> str:
    """Return the call with what goes before and after it."""
    notes = [] if is_file(result.source) else [f"# data: the {result.source} of this fit"]
    if result.spec is None:
        notes.append(f"# {MODULE}: the {type(result.network).__name__} with the weights it began with")
    stem = (PurePath(result.source).stem if is_file(result.source) else "") or "network"
    tail = f"result.report({literal(stem + '.html')})"
    return "\n".join(["import gradfit as gf", "", *notes, python(result, {}), tail])


def _target(result: NetworkResult) -> object:
    names = result.target.names
    return names[0] if len(names) == 1 else list(names)
