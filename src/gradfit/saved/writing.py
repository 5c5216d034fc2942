"""A fit to a file."""

import json
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path

import numpy as np

from gradfit.notation import count
from gradfit.outputs import target, write_whole
from gradfit.prepare import Data
from gradfit.result import FitResult
from gradfit.saved.held import held_parts
from gradfit.saved.plain import exact, exact_rows, given, setting
from gradfit.saved.recalled import AbsentData
from gradfit.saved.shrunk import penalty_parts
from gradfit.saved.summary import checks, findings, statistics, versions

FORMAT, SCHEMA = "gradfit fit", 1
LONGEST = 100_000  # rows that a saved fit holds
WIDEST = 1_000  # rows with correlated errors, whose covariance has that many squared


def save(result: FitResult, path: str | PathLike[str], *, force: bool = False) -> Path:
    """Write a fit for `gradfit.load`, and return its path; the file is written whole or not at all.

    The file is JSON: parameters, uncertainties and findings for any program to read, and the traced model, so that
    loading and predicting need neither torch nor the code of a traced function. Up to 100,000 rows are kept in it;
    beyond that a loaded fit has its numbers and predicts, and says that the rows are missing.

    Parameters
    ----------
    result : FitResult
        What `gradfit.fit` returned.
    path : str or path
        Where it goes; its folder must be there.
    force : bool
        Whether a file of that name may be replaced.

    Raises
    ------
    OptionError
        If the file is there already and `force` is not given, or it cannot be written.
    """
    file = target(path, force=force)
    write_whole({file: saved_text(result).encode()})
    return Path(fspath(path))


def saved_text(result: FitResult) -> str:
    """Return what `save` writes: a line of JSON for each subject."""
    parts = {
        "format": FORMAT,
        "schema": SCHEMA,
        "versions": dict(versions(result)),
        "formula": result.formula,
        "verdict": result.verdict,
        "sentences": list(result.sentences),
        "level": result.level,
        "parameters": _parameters(result),
        "covariance": exact_rows(result.covariance),
        "statistics": statistics(result),
        "findings": findings(result, lossless=True),
        "checks": checks(result),
        "loss": {"name": result.loss_used.name, "scale": result.loss_used.scale},
        "solver": result.solver,
        "executor": result.executor,
        "how": list(result.how),
        "seconds": exact(result.seconds),
        "starts": {
            "source": result.starts.source,
            "tried": result.starts.tried,
            "refined": result.starts.refined,
            "reached": result.starts.reached,
            "losses": exact_rows(result.starts.losses),
        },
        "settings": {name: setting(value, lossless=True) for name, value in given(result.settings).items()},
        "model": _model(result),
        "uncertainty": _uncertainty(result),
        "outcome": _outcome(result),
        "data": _data(result),
        **held_parts(result),
        **penalty_parts(result),
    }
    lines = (
        f" {json.dumps(name)}: {json.dumps(part, ensure_ascii=False, allow_nan=False)}"
        for name, part in parts.items()
    )
    whole = "{\n" + ",\n".join(lines) + "\n}\n"
    return whole.encode(
        "utf-8", "backslashreplace"
    ).decode()  # the name of a file may be no Unicode: \\udcff is JSON


def _parameters(result: FitResult) -> list[dict[str, object]]:
    starts = result.settled.start.tolist()
    return [
        {
            "name": p.name,
            "value": exact(p.value),
            "stderr": exact(p.stderr),
            "fixed": p.fixed,
            "bounds": [exact(end) for end in p.bounds],
            "start": exact(start),
        }
        for p, start in zip(result.params.values(), starts, strict=True)
    ]


def _model(result: FitResult) -> dict[str, object]:
    model = result.model
    return {
        "kind": "formula" if model.expression is not None else "function",
        "response": model.response,
        "inputs": list(model.inputs),
        "parameters": list(model.parameters),
        "defaults": {name: exact(value) for name, value in model.defaults.items()},
        "notes": list(model.notes),
        "fallback": model.fallback,
        "held": list(result.settled.notes),
        "graph": None if model.graph is None else model.graph.to_dict(),
    }


def _uncertainty(result: FitResult) -> dict[str, object]:
    known = result._uncertainty  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # a result's inside, written down
    return {
        "rss": exact(result.rss),
        "r2": exact(result.r2),
        "log_likelihood": exact(result.log_likelihood),
        "scatter": exact(result.scatter),
        "reading": exact(result._reading()),  # noqa: SLF001  # pyright: ignore[reportPrivateUsage]  # as above
        "unit_scatter": exact(known.scatter),
        "stderr": exact_rows(known.stderr),
        "determined": exact_rows(known.determined),
        "half": exact_rows(known.half),
        "nothing": exact_rows(known.nothing),
        "scale": exact_rows(known.scale),
    }


def _outcome(result: FitResult) -> dict[str, object]:
    outcome = result.outcome
    return {
        "loss": exact(outcome.loss),
        "status": outcome.status,
        "message": outcome.message,
        "iterations": outcome.iterations,
        "evaluations": outcome.evaluations,
        "history": {
            "step": exact_rows(outcome.history.step),
            "loss": exact_rows(outcome.history.loss),
            "gradient": exact_rows(outcome.history.gradient),
            "parameters": exact_rows(outcome.history.parameters),
        },
    }


def _data(result: FitResult) -> dict[str, object]:
    data = result.data
    return {
        "source": data.source,
        "rows_read": data.n_read,
        "rows_used": result.n,
        "left_out": list(data.left_out),
        "notes": list(data.notes),
        "units": dict(data.units),
        "origins": dict(data.origins),
        "categories": {name: list(levels) for name, levels in data.categories.items()},
        "absolute": data.absolute,
        "unit": data.unit,
        "sha256": result.data_hash,
        "missing": _missing(result),
        **({} if _missing(result) else _rows(data, result)),
    }


def _missing(result: FitResult) -> str:
    """Return why the rows are not in the file, empty where they are."""
    if isinstance(result.data, AbsentData):
        return str(result.data.__dict__["why"])
    most = LONGEST if result.data.cholesky is None else WIDEST
    if result.data.n <= most:
        return ""
    return f"The {count(result.n, 'row')} of this fit are not in its file, which holds up to {count(most, 'row')}"


def _rows(data: Data, result: FitResult) -> Mapping[str, object]:
    return {
        "rows": exact_rows(data.rows),
        "columns": {name: exact_rows(values) for name, values in data.columns.items()},
        "y": exact_rows(data.y),
        "sigma": None if data.sigma is None else exact_rows(data.sigma),
        "cholesky": None if data.cholesky is None else exact_rows(data.cholesky[np.tril_indices(data.n)]),
        "fitted": exact_rows(result.fitted),
        "weighted_residuals": exact_rows(result.weighted_residuals),
        "leverage": exact_rows(result.leverage),
    }
