"""A fit from a file."""

import json
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike, fspath
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from gradfit._version import __version__
from gradfit.beginning import Starts
from gradfit.diagnose import Check, Diagnosis, Finding
from gradfit.diagnose.evidence import Severity
from gradfit.errors import DataError, FormulaError
from gradfit.formula import CONSTANTS, parse
from gradfit.graph import BINARY, COMPARE, LEAVES, LOGIC, UNARY, Graph, operands
from gradfit.loss import LOSSES, Loss
from gradfit.model import BoundModel
from gradfit.networks import is_network_file, load_network
from gradfit.prepare import Data, Parameters
from gradfit.result import FitResult
from gradfit.saved.held import folds_again, validation_again
from gradfit.saved.json_parts import Part, is_list, is_object
from gradfit.saved.plain import setting_again
from gradfit.saved.recalled import AT_ROWS, AbsentData, Kept, Recalled, SavedResult
from gradfit.saved.shrunk import penalty_again
from gradfit.saved.writing import FORMAT, SCHEMA
from gradfit.solve.outcome import Outcome, Point, Status
from gradfit.uncertainty import Uncertainty

Array = NDArray[np.float64]


def load(path: str | PathLike[str], *, module: object = None) -> FitResult:
    """Return a fit that `save` wrote: the same numbers, findings and predictions, to the last digit.

    A formula, or a function that was traced, predicts without torch and without the function; of one that was not traced
    there are the numbers, and `predict` says that it needs the function. A network comes back as a `NetworkResult`.

    Parameters
    ----------
    module : torch.nn.Module, optional
        For the file of a module of the caller's own: an instance with the same layers, of which a copy gets the weights.

    Raises
    ------
    DataError
        If there is no such file, or it is no saved fit, is damaged, or was written by a newer gradfit.
    """
    file = fspath(path)
    if is_network_file(file):
        return load_network(file, module)  # pyright: ignore[reportReturnType]  # a NetworkResult, as the docstring says
    whole = Part(_json(file), file)
    if not is_object(whole.value) or whole.value.get("format") != FORMAT:
        raise DataError(
            f"{file} is no saved fit", remedy="Make one: gradfit fit ... --save fit.json, or result.save(...)"
        )
    schema = whole["schema"].whole(1)
    if schema > SCHEMA:
        raise DataError(
            f"{file} was written by a newer gradfit: it has schema {schema}, and gradfit {__version__} reads up to {SCHEMA}",
            remedy="Run: pip install --upgrade gradfit",
        )
    return _result(whole)


def _json(file: str) -> object:
    try:
        data = Path(file).read_bytes()
    except FileNotFoundError:
        raise DataError(
            f"There is no file {file}", remedy="Make one: gradfit fit ... --save fit.json"
        ) from None
    except (OSError, ValueError) as refused:
        why = refused.strerror if isinstance(refused, OSError) and refused.strerror else str(refused)
        raise DataError(f"{file} cannot be opened: {why}", remedy="Give the name of a saved fit") from None
    if not data.strip():
        raise DataError(f"{file} is empty", remedy="Save the fit again")
    try:
        return json.loads(data.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        like = data.lstrip()[:1] == b"{"
        what = "is cut short or damaged" if like else "is no saved fit"
        remedy = (
            "Save the fit again"
            if like
            else "A saved fit is the JSON file that gradfit fit ... --save fit.json writes"
        )
        raise DataError(f"{file} {what}: {_first_line(error)}", remedy=remedy) from error


def _first_line(error: Exception) -> str:
    return (
        "it is nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0][:100]
    )


def _result(whole: Part) -> FitResult:
    model = _model(whole)
    settled, values = _parameters(whole, model)
    free = settled.free
    k = len(model.parameters)
    covariance = whole["covariance"].numbers(k, k)
    loss = _loss(whole["loss"])
    data, rows = _data(whole["data"], model, counts=loss.counts)
    level = whole["level"].number()
    if not 0 < level < 1:
        raise whole["level"].damaged("between 0 and 1")
    kept = Kept(
        numbers={
            name: whole["uncertainty"][name].number()
            for name in ("rss", "r2", "log_likelihood", "scatter", "reading")
        }
        | {"dispersion": whole["statistics"]["dispersion"].number() if loss.counts else float("nan")},
        rows=rows,
        uncertainty=_uncertainty(whole["uncertainty"], covariance[np.ix_(free, free)]),
        sentences=whole["sentences"].texts(),
        level=level,
        data_hash=whole["data"]["sha256"].text(),
        versions={name: part.text() for name, part in whole["versions"].items()},
        validation=validation_again(whole),
    )
    return SavedResult(
        model=model, data=data, settled=settled, outcome=_outcome(whole["outcome"], values[free]), loss_used=loss,
        starts=_starts(whole["starts"]), solver=whole["solver"].text(), executor=whole["executor"].text(),
        how=whole["how"].texts(), level=level, seconds=whole["seconds"].number(), settings=_settings(whole["settings"]),
        examine=Recalled(Diagnosis(_findings(whole["findings"]), _checks(whole["checks"]))),
        version=whole["versions"]["gradfit"].text(), kept=kept, folds=folds_again(whole), shrinkage=penalty_again(whole, len(free)),
    )  # fmt: skip


# ---------------------------------------------------------------------------- model


def _model(whole: Part) -> BoundModel:
    part = whole["model"]
    text, inputs, parameters = whole["formula"].text(), part["inputs"].texts(), part["parameters"].texts()
    if not parameters or len(set(inputs + parameters)) < len(inputs + parameters):
        raise part["parameters"].damaged("names, each once")
    graph = None if part["graph"].value is None else _graph(part["graph"], inputs, parameters)
    bound = BoundModel(
        text, part["response"].text(), None, inputs, parameters, graph,
        defaults={name: value.number() for name, value in part["defaults"].items()},
        notes=part["notes"].texts(), fallback=part["fallback"].text(),
    )  # fmt: skip
    return _with_expression(bound, whole["formula"]) if part["kind"].text() == "formula" else bound


def _with_expression(bound: BoundModel, text: Part) -> BoundModel:
    try:
        formula = parse(bound.text)
    except FormulaError as error:
        raise text.damaged("a formula") from error
    names = set(formula.right.names) - set(CONSTANTS)
    if bound.graph is None or names != {*bound.inputs, *bound.parameters} - set(CONSTANTS):
        raise text.damaged(f"a formula of {', '.join((*bound.inputs, *bound.parameters))}")
    left = formula.left if formula.left is not None and len(formula.left.nodes) > 1 else None
    return BoundModel(
        bound.text, bound.response, left, bound.inputs, bound.parameters, bound.graph, expression=formula.right,
        defaults=bound.defaults, notes=bound.notes, fallback=bound.fallback,
    )  # fmt: skip


def _graph(part: Part, inputs: tuple[str, ...], parameters: tuple[str, ...]) -> Graph:
    if not is_object(part.value):
        raise part.damaged("a graph")
    try:
        graph = Graph.from_dict(part.value)
    except (KeyError, ValueError, TypeError, IndexError, OverflowError) as error:
        raise DataError(
            f"{part.file} is damaged: {part.place}: {error}", remedy="Save the fit again"
        ) from error
    ends = (graph.value, *graph.scale, *graph.core)
    whole = all(0 <= i < len(graph.nodes) for i in ends) and len(graph.scale) == len(graph.core) == len(
        parameters
    )
    if not whole or (graph.variables, graph.parameters) != (inputs, parameters) or not _runs(graph):
        raise DataError(
            f"{part.file} is damaged: {part.place} is no graph of {', '.join(parameters)}",
            remedy="Save the fit again",
        )
    return graph


def _runs(graph: Graph) -> bool:
    """Whether each operation has as many operands as it needs, truth values where it wants them, and leaves exist."""
    truth: list[bool] = []
    room = {"var": len(graph.variables), "par": len(graph.parameters)}
    for node in graph.nodes:
        name, ids = str(node[0]), operands(node)
        if name in LEAVES:
            place = node[1] if name in room else 0
            good = isinstance(place, int) and 0 <= place < room.get(name, 1)
        else:
            wanted = _wanted(name)
            good = len(ids) == len(wanted) and all(
                truth[i] == want for i, want in zip(ids, wanted, strict=True)
            )
        if not good:
            return False
        truth.append(name in COMPARE or name in LOGIC or (name == "const" and isinstance(node[1], bool)))
    return not any(truth[i] for i in (graph.value, *graph.scale, *graph.core))


def _wanted(name: str) -> tuple[bool, ...]:
    """Return for each operand of an operation whether it is a truth value."""
    if name == "where":
        return (True, False, False)
    if name in LOGIC:
        return (True,) if name == "not" else (True, True)
    return (False,) if name in UNARY else (False, False) if name in BINARY or name in COMPARE else ()


# ---------------------------------------------------------------------------- numbers


def _parameters(whole: Part, model: BoundModel) -> tuple[Parameters, Array]:
    parts = list(whole["parameters"])
    if tuple(part["name"].text() for part in parts) != model.parameters:
        raise whole["parameters"].damaged(f"a list of {', '.join(model.parameters)}")
    values = np.array([part["value"].number() for part in parts])
    start = np.array([part["start"].number() for part in parts])
    fixed = np.array([part["fixed"].truth() for part in parts])
    bounds = np.array([part["bounds"].numbers(2) for part in parts])
    start[fixed] = values[fixed]
    return Parameters(
        start, bounds[:, 0], bounds[:, 1], np.flatnonzero(~fixed), whole["model"]["held"].texts()
    ), values


def _uncertainty(part: Part, covariance: Array) -> Uncertainty:
    f = len(covariance)
    half = part["half"].numbers(f, -1)
    return Uncertainty(
        covariance=covariance,
        stderr=part["stderr"].numbers(f),
        determined=part["determined"].numbers(f).astype(bool),
        scatter=part["unit_scatter"].number(),
        half=half,
        nothing=part["nothing"].numbers(f, -1),
        scale=part["scale"].numbers(f),
    )


_STATUSES: Mapping[str, Status] = {name: name for name in get_args(Status)}


def _outcome(part: Part, parameters: Array) -> Outcome:
    status = _STATUSES.get(part["status"].text())
    if status is None:
        raise part["status"].damaged(f"one of {', '.join(get_args(Status))}")
    return Outcome(
        parameters=parameters,
        loss=part["loss"].number(),
        status=status,
        message=part["message"].text(),
        iterations=part["iterations"].whole(),
        evaluations=part["evaluations"].whole(),
        points=_points(part["history"], len(parameters)),
    )


def _points(part: Part, free: int) -> tuple[Point, ...]:
    loss = part["loss"].numbers(-1)
    if not len(loss):
        return ()
    step, gradient = part["step"].wholes(len(loss)), part["gradient"].numbers(len(loss), free)
    parameters = part["parameters"].numbers(len(loss), free)
    return tuple(zip(step.tolist(), loss.tolist(), gradient, parameters, strict=True))


def _data(part: Part, model: BoundModel, *, counts: bool) -> tuple[Data, Mapping[str, Array]]:
    n, missing = part["rows_used"].whole(), part["missing"].text()
    known = Data(
        columns={}, y=np.empty(0), rows=np.empty(0, np.int64), sigma=None, absolute=part["absolute"].truth(), cholesky=None,
        units={name: unit.text() for name, unit in part["units"].items()}, source=part["source"].text(),
        n_read=part["rows_read"].whole(), notes=part["notes"].texts(), left_out=part["left_out"].texts(),
        origins={name: since.text() for name, since in part["origins"].items()},
        categories={name: levels.texts() for name, levels in part["categories"].items()}, counts=counts,
    )  # fmt: skip
    if missing:
        return AbsentData.of(known, n, unit=part["unit"].number(), why=missing), {}
    columns = {name: values.numbers(n) for name, values in part["columns"].items()}
    if tuple(columns) != model.inputs:
        raise part["columns"].damaged(f"the columns {', '.join(model.inputs)}")
    sigma = None if part["sigma"].value is None else part["sigma"].numbers(n)
    cholesky = _cholesky(part["cholesky"], n)
    data = replace(
        known,
        columns=columns,
        y=part["y"].numbers(n),
        rows=part["rows"].wholes(n),
        sigma=sigma,
        cholesky=cholesky,
    )
    return data, {name: part[name].numbers(n) for name in AT_ROWS}


def _cholesky(part: Part, n: int) -> Array | None:
    if part.value is None:
        return None
    lower = part.numbers(n * (n + 1) // 2)
    whole = np.zeros((n, n))
    whole[np.tril_indices(n)] = lower
    return whole


# ---------------------------------------------------------------------------- words


def _loss(part: Part) -> Loss:
    name = part["name"].text()
    if name not in LOSSES:
        raise part["name"].damaged(f"one of {', '.join(LOSSES)}")
    return Loss(name, None if part["scale"].value is None else part["scale"].number())


def _starts(part: Part) -> Starts:
    numbers = {name: part[name].whole() for name in ("tried", "refined", "reached")}
    return Starts(part["source"].text(), losses=tuple(part["losses"].numbers(-1).tolist()), **numbers)


def _settings(part: Part) -> Mapping[str, object]:
    try:
        return {name: setting_again(value.value) for name, value in part.items()}
    except (ValueError, TypeError, OverflowError) as error:
        raise part.damaged("arguments of fit") from error


_SEVERITIES: Mapping[str, Severity] = {name: name for name in get_args(Severity)}


def _findings(part: Part) -> tuple[Finding, ...]:
    found: list[Finding] = []
    for one in part:
        severity = _SEVERITIES.get(one["severity"].text())
        if severity is None:
            raise one["severity"].damaged("info, warning or error")
        facts = {name: _fact(fact.value) for name, fact in one["evidence"].items()}
        found.append(
            Finding(one["code"].text(), severity, one["message"].text(), one["remedy"].text(), facts)
        )
    return tuple(found)


def _fact(value: object) -> Any:  # a number or a text, or a tuple of either
    if is_list(value):
        return tuple(_fact(part) for part in value)
    if value in ("inf", "-inf") or value is None:
        return float("nan" if value is None else str(value))
    return value


def _checks(part: Part) -> tuple[Check, ...]:
    return tuple(
        Check(
            c["name"].text(), c["statistic"].text(), c["p"].number(), c["alarm"].number(), c["raised"].truth()
        )
        for c in part
    )
