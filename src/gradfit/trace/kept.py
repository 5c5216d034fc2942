"""Graphs of formulas on disk: what an earlier process has traced is read, and torch is not imported for it.

Only formulas: what a Python function computes depends on globals, closures and libraries that its source does not show.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

from gradfit import store
from gradfit._version import __version__
from gradfit.formula import Expression
from gradfit.graph import Graph

KIND = "trace"
_DECIDING = ("graph.py", "native/step.py", "formula", "trace")  # the modules that decide what graph there is


def key_of_trace(expression: Expression, variables: tuple[str, ...], parameters: tuple[str, ...]) -> str:
    """Return the key of a formula's graph: the same for the same operations, however they are written."""
    return store.key_of(repr((expression.nodes, variables, parameters)), *VERSIONS)


def recalled(key: str, variables: tuple[str, ...], parameters: tuple[str, ...]) -> Graph | None:
    """Return the graph under this key; None if there is none, or it is not of these names."""
    data = store.load(KIND, key)
    if data is None:
        return None
    try:
        graph = Graph.from_dict(json.loads(data))
    except (ValueError, TypeError, RecursionError):
        return None  # whole, and yet no graph: it is traced again and replaced
    return graph if (graph.variables, graph.parameters) == (variables, parameters) else None


def keep(key: str, graph: Graph) -> None:
    """Save a graph for later processes."""
    store.save(KIND, key, json.dumps(graph.to_dict(), separators=(",", ":")).encode())


def _our_files() -> list[Path]:
    """Return our modules that decide; none where they are no files, as in an archive, which never changes."""
    home = Path(__file__).parents[1]
    return [file for name in _DECIDING for file in (*sorted((home / name).glob("*.py")), home / name)]


def _of_torch() -> list[Path]:
    """Return the file that holds torch's version, found without an import."""
    spec = find_spec("torch")
    return [Path(spec.origin).with_name("version.py")] if spec is not None and spec.origin else []


def _texts(files: list[Path]) -> Iterator[bytes]:
    for file in files:
        with suppress(OSError):  # a folder, or no file at all
            text = file.read_bytes()
            yield file.name.encode()
            yield text


#: what graphs depend on besides the formula; read now, as the files may be edited while this process runs the old code
VERSIONS = (__version__, *_texts(_our_files()), *_texts(_of_torch()))
