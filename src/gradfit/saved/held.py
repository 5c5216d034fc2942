"""What held-out rows said of a fit, to a file and back."""

from typing import get_args

from gradfit.result import FitResult
from gradfit.saved.json_parts import Part, is_object
from gradfit.saved.plain import exact, exact_rows, finite, finite_rows
from gradfit.validation import Folds, LossHistory, Validation, Word

LONGEST = 100_000  # residuals of held-out rows that a saved fit holds


def held_parts(result: FitResult) -> dict[str, object]:
    """Return what a saved fit holds of validation and cross-validation; nothing where there was none."""
    parts: dict[str, object] = {}
    seen, folds = result.validation, result.folds
    if seen is not None:
        parts["validation"] = {
            "loss": exact(seen.loss),
            "train_loss": exact(seen.train_loss),
            "rows": seen.rows,
            "train_rows": seen.train_rows,
            "split": seen.split,
            "residuals": exact_rows(seen.residuals if len(seen.residuals) <= LONGEST else seen.residuals[:0]),
            "history": {
                "step": exact_rows(seen.history.step),
                "train": exact_rows(seen.history.train),
                "validation": exact_rows(seen.history.validation),
            },
            "best_step": exact(seen.best_step),
            "best_values": {name: exact(value) for name, value in seen.best_values.items()},
            "last_values": {name: exact(value) for name, value in seen.last_values.items()},
            "stopped": seen.stopped,
            "verdict": seen.verdict,
            "sentence": seen.sentence,
        }
    if folds is not None:
        parts["folds"] = {
            "losses": exact_rows(folds.losses),
            "train_losses": exact_rows(folds.train_losses),
            "rows": list(folds.rows),
            "how": folds.how,
        }
    return parts


def held_summary(result: FitResult) -> dict[str, object]:
    """Return the same for `--json`, without what is long."""
    parts: dict[str, object] = {}
    seen, folds = result.validation, result.folds
    if seen is not None:
        parts["validation"] = {
            "loss": finite(seen.loss),
            "train_loss": finite(seen.train_loss),
            "rows": seen.rows,
            "train_rows": seen.train_rows,
            "split": seen.split,
            "best_step": seen.best_step,
            "stopped": seen.stopped,
            "verdict": seen.verdict,
            "sentence": seen.sentence,
        }
    if folds is not None:
        parts["folds"] = {
            "losses": finite_rows(folds.losses),
            "mean": finite(folds.mean),
            "stderr": finite(folds.stderr),
            "how": folds.how,
        }
    return parts


def validation_again(whole: Part) -> Validation | None:
    """Return the validation that a file holds, None where it holds none."""
    if not is_object(whole.value) or "validation" not in whole.value:
        return None
    part = whole["validation"]
    verdict = {str(word): word for word in get_args(Word)}.get(part["verdict"].text())
    if verdict is None:
        raise part["verdict"].damaged(f"one of {', '.join(get_args(Word))}")
    way = part["history"]
    train = way["train"].numbers(-1)
    return Validation(
        loss=part["loss"].number(),
        train_loss=part["train_loss"].number(),
        rows=part["rows"].whole(),
        train_rows=part["train_rows"].whole(),
        split=part["split"].text(),
        residuals=part["residuals"].numbers(-1),
        history=LossHistory(way["step"].wholes(len(train)), train, way["validation"].numbers(len(train))),
        best_step=int(part["best_step"].number()),
        best_values={name: value.number() for name, value in part["best_values"].items()},
        last_values={name: value.number() for name, value in part["last_values"].items()},
        stopped=part["stopped"].truth(),
        verdict=verdict,
        sentence=part["sentence"].text(),
    )


def folds_again(whole: Part) -> Folds | None:
    """Return the cross-validation that a file holds, None where it holds none."""
    if not is_object(whole.value) or "folds" not in whole.value:
        return None
    part = whole["folds"]
    losses = part["losses"].numbers(-1)
    rows = tuple(int(n) for n in part["rows"].wholes(len(losses)))
    return Folds(losses, part["train_losses"].numbers(len(losses)), rows, part["how"].text())
