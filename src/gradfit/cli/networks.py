"""Networks on the command line: what gradfit fit prints and writes of them, and gradfit predict."""

import io
import json as json_text
from collections.abc import Mapping
from pathlib import Path

from gradfit._lazy import stage
from gradfit.cli.screen import Screen
from gradfit.cli.writing import figure_bytes
from gradfit.learn import NetworkResult
from gradfit.learn.prediction import NetworkPrediction
from gradfit.networks import network_bytes, summary, summary_dict
from gradfit.notation import count
from gradfit.outputs import write_whole
from gradfit.table import Table


def content(kind: str, result: NetworkResult, file: Path) -> bytes:
    """Return what goes into a file: the report, the figure, or the network itself."""
    if kind == "report":
        return stage("report").html(result).encode("utf-8", "backslashreplace")
    return figure_bytes(result.plot(), file.suffix) if kind == "figure" else network_bytes(result)


def answer(result: NetworkResult, command: str, files: Mapping[str, str], *, json: bool, quiet: bool) -> None:
    """Print the answer: as JSON, as text, or only a doubt."""
    screen = Screen.of("stdout")
    if json:
        told = {**summary_dict(result), "files": dict(files)}
        screen.write(json_text.dumps(told, indent=1, allow_nan=False))
    elif not quiet:
        text = summary(
            result,
            width=screen.width,
            color=screen.color,
            unicode=screen.unicode,
            files=files,
            command=command,
        )
        screen.write(text)
    elif result.verdict != "trust":
        Screen.of("stderr").write(" ".join([f"{result.verdict.capitalize()}:", *result.sentences[:1]]))


def predicted(result: NetworkResult, table: Table, files: Mapping[str, Path], *, json: bool) -> int:
    """Return the exit code, after predictions were printed or written."""
    made = result.predict(table)
    write_whole({path: _in_file(made, path.suffix.lower()) for path in files.values()})
    screen = Screen.of("stdout")
    if json:
        screen.write(_json(made))
    elif files:
        screen.write(f"{count(len(made), 'row')} written to {', '.join(map(str, files.values()))}")
    else:
        screen.write(made.to_frame().write_csv())
    return 0


def _json(made: NetworkPrediction) -> str:
    columns = made.to_frame().to_dict(as_series=False)
    plain = {
        name: [None if value != value else value for value in values] for name, values in columns.items()
    }
    return json_text.dumps(plain, allow_nan=False) + "\n"


def _in_file(made: NetworkPrediction, ending: str) -> bytes:
    if ending == ".json":
        return _json(made).encode()
    if ending == ".csv":
        return made.to_frame().write_csv().encode()
    held = io.BytesIO()
    made.to_frame().write_parquet(held)
    return held.getvalue()
