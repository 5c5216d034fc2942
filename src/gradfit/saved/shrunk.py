"""The penalty of a fit, to a file and back."""

from gradfit.result import FitResult
from gradfit.saved.json_parts import Part, is_object
from gradfit.saved.plain import exact, exact_rows, finite, finite_rows
from gradfit.shrinkage import PenaltyPath, Shrinkage

_NUMBERS = ("strength", "loss", "stderr", "train", "effective")  # of a path, one for each strength


def penalty_parts(result: FitResult) -> dict[str, object]:
    """Return what a saved fit holds of its penalty; nothing where there was none."""
    kept = result.shrinkage
    if kept is None:
        return {}
    path = kept.path
    part: dict[str, object] = {
        "kind": kept.kind,
        "strength": exact(kept.strength),
        "names": list(kept.names),
        "zero": list(kept.zero),
        "text": kept.text,
        "effective": exact(kept.effective),
        "value": exact(kept.value),
        "rest": kept.rest,
    }
    if path is not None:
        part["path"] = {
            **{name: exact_rows(getattr(path, name)) for name in _NUMBERS},
            "parameters": exact_rows(path.parameters),
            "scale": exact_rows(path.scale),
            "names": list(path.names),
            "best": path.best,
            "chosen": path.chosen,
            "folds": path.folds,
            "rule": path.rule,
        }
    return {"penalty": part}


def penalty_summary(result: FitResult) -> dict[str, object]:
    """Return the same for `--json`, null for what is no finite number."""
    kept = result.shrinkage
    if kept is None:
        return {}
    part: dict[str, object] = {
        "kind": kept.kind,
        "strength": finite(kept.strength),
        "names": list(kept.names),
        "zero": list(kept.zero),
        "effective_parameters": finite(kept.effective),
    }
    if kept.path is not None:
        part["path"] = {name: finite_rows(getattr(kept.path, name)) for name in _NUMBERS}
    return {"penalty": part}


def penalty_again(whole: Part, free: int) -> Shrinkage | None:
    """Return the penalty that a file holds, None where it holds none.

    Parameters
    ----------
    free : int
        Number of free parameters.
    """
    if not is_object(whole.value) or "penalty" not in whole.value:
        return None
    part = whole["penalty"]
    kind = part["kind"].text()
    path = _path(part["path"], kind, free) if is_object(part.value) and "path" in part.value else None
    return Shrinkage(
        kind, part["strength"].number(), part["names"].texts(), part["zero"].texts(), part["text"].text(),
        part["effective"].number(), part["value"].number(), path, part["rest"].text(),
    )  # fmt: skip


def _path(part: Part, kind: str, free: int) -> PenaltyPath:
    strength = part["strength"].numbers(-1)
    m = len(strength)
    places = {name: part[name].whole() for name in ("best", "chosen")}
    for name, place in places.items():
        if place >= m:
            raise part[name].damaged(f"below {m}")
    return PenaltyPath(
        kind=kind,
        strength=strength,
        loss=part["loss"].numbers(m),
        stderr=part["stderr"].numbers(m),
        train=part["train"].numbers(m),
        parameters=part["parameters"].numbers(m, free),
        scale=part["scale"].numbers(free),
        names=part["names"].texts(),
        effective=part["effective"].numbers(m),
        best=places["best"],
        chosen=places["chosen"],
        folds=part["folds"].whole(),
        rule=part["rule"].text(),
    )
