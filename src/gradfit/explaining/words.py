"""What a forward and a backward pass say, as sentences and as plain numbers."""

from collections.abc import Sequence
from math import isfinite, isnan

import numpy as np

from gradfit.explaining.values import PARAMETER, Explanation, Operation, RateStep, Spread
from gradfit.notation import count, exact, listing, percent, significant

UNEVEN = 10.0  # ratio of gradient sizes from which one learning rate no longer suits all parameters
STIFF = 1e3  # condition number from which plain gradient descent crawls: about as many steps
BARELY = 0.01  # share of the loss that a step must take off to be called one


def sentences(e: Explanation) -> tuple[str, ...]:
    """Return what there is to see, what matters most first."""
    found = [*_not_finite(e), *_unused(e), *_uneven(e), *_stiff(e), *_rates(e), *_adding_up(e)]
    return tuple(found)


def _not_finite(e: Explanation) -> list[str]:
    bad = e.first_not_finite
    if bad is not None:
        places = f"in {_rows(bad.rows)}" if bad.rows else f"at {count(bad.value.lost, 'place')}"
        if not bad.operands:
            return [f'{bad.name} does not fit into {e.dtype} {places}: give dtype="float64", or another unit']
        given = [e.operations[i] for i in bad.operands if e.operations[i].kind != PARAMETER]
        seen = [
            f"{o.text} is {range_text(o.value)}" for o in given or [e.operations[i] for i in bad.operands]
        ]
        return [f"{bad.text} is the first that is not finite, {places}: {listing(seen)}. Start elsewhere"]
    bad = e.first_gradient_not_finite
    if bad is not None:
        return [
            f"The loss is finite, but the derivative of {bad.text} is not: begin elsewhere, or write it another way"
        ]
    return []


def _rows(rows: tuple[int, ...]) -> str:
    return ("row " if len(rows) == 1 else "rows ") + listing([str(row) for row in rows], most=6)


def _unused(e: Explanation) -> list[str]:
    idle = [p.name for p in e.parameters if not np.any(p.gradient) and np.isfinite(p.gradient).all()]
    if not idle or not e.finite:
        return []
    if len(idle) == len(e.parameters):
        return [
            "Every gradient is zero: this is a minimum, a maximum or a flat place, and no step leads away from it"
        ]
    one = len(idle) == 1
    return [
        f"The gradient of {listing(idle, most=4)} is zero: no step moves {'it' if one else 'them'} from here"
    ]


def _uneven(e: Explanation) -> list[str]:
    if not e.ratio >= UNEVEN or max(p.size for p in e.parameters) < 1e-10 * abs(e.loss):
        return []
    sized = sorted((p for p in e.parameters if p.size > 0), key=lambda p: p.size)
    low, high = sized[0], sized[-1]
    return [
        f"The gradient of {high.name} is {significant(e.ratio)} times that of {low.name}: one learning rate does not suit both"
    ]


def _stiff(e: Explanation) -> list[str]:
    c = e.conditioning
    if c is None or not c.before >= STIFF:
        return []
    what = "J'J" if c.matrix == "J'J" else "the Hessian"
    if not isfinite(c.before):
        return [
            f"The condition number of {what} is infinite: some parameters, or sums of them, hardly matter here"
        ]
    said = f"The condition number of {what} is {significant(c.before)}: plain gradient descent needs about as many steps"
    if c.after < c.before / 2:
        said += f". With every parameter in its own unit of curvature it is {significant(c.after)}"
    return [said]


def _rates(e: Explanation) -> list[str]:
    return [text for step in e.steps if (text := _rate(e, step))]


def _rate(e: Explanation, step: RateStep) -> str:
    limit = e.conditioning.largest_step if e.conditioning else float("nan")
    over = f": the largest stable step is {significant(limit)}" if step.lr > limit else ""
    if not isfinite(step.loss):
        return f"After one step with lr {exact(step.lr)} the loss is not finite{over}"
    if step.loss > e.loss:
        times = (
            f"{significant(step.loss / e.loss)} times as large" if e.loss > 0 else significant(step.loss, 4)
        )
        return f"One step with lr {exact(step.lr)} makes the loss {times}{over}"
    if e.loss - step.loss < BARELY * abs(e.loss):
        share = percent((e.loss - step.loss) / abs(e.loss)) if e.loss else "nothing"
        return f"One step with lr {exact(step.lr)} takes {share} off the loss"
    return (
        f"lr {exact(step.lr)} lowers the loss in its first step, and will not stay stable{over}"
        if over
        else ""
    )


def _adding_up(e: Explanation) -> list[str]:
    if not e.finite or not any(np.any(p.gradient) for p in e.parameters):
        return []
    p = max(e.parameters, key=lambda p: p.size)
    what = p.name if p.gradient.ndim == 0 else f"the size for {p.name}"
    sizes = [float(np.sqrt(np.mean(g**2))) if g.ndim else float(g) for g in p.passes]
    return [
        f"Gradients add up until they are zeroed: of {what} {', '.join(significant(s, 5) for s in sizes)} after one, two and "
        "three passes"
    ]


def range_text(spread: Spread | None, digits: int = 3) -> str:
    r"""Return a range for a table: one number where there is one, and how many are not finite.

    >>> range_text(Spread(21.8, 81.9, 180.0)), range_text(Spread(1.0, 1.0, 1.0)), range_text(Spread(0.0, 1.0, 1.0, 2))
    ('21.8 to 81.9', '1', '0 to 1.00, 2 not finite')
    """
    if spread is None:
        return ""
    lost = f"{spread.lost} not finite" if spread.lost else ""
    if isnan(spread.low):
        return "not finite" if spread.lost == 1 else lost or "none"
    if spread.low == spread.high:
        value = (
            exact(spread.low) if spread.low == round(spread.low, 2) else significant(spread.low, digits + 1)
        )
        return f"{value}, {lost}" if lost else value
    ends = f"{significant(spread.low, digits)} to {significant(spread.high, digits)}"
    return f"{ends}, {lost}" if lost else ends


# ---------------------------------------------------------------------------- plain numbers


def plain(e: Explanation) -> dict[str, object]:
    """Return everything as plain numbers and text; what is not finite is None."""
    c = e.conditioning
    return {
        "model": e.model,
        "source": e.source,
        "rows": e.rows,
        "dtype": e.dtype,
        "start_from": e.start_from,
        "loss": _number(e.loss),
        "loss_name": e.loss_name,
        "loss_unit": e.loss_unit,
        "operations": [_operation(o) for o in e.operations],
        "parameters": {
            p.name: {
                "value": _array(p.value),
                "gradient": _array(p.gradient),
                "after_passes": [_array(g) for g in p.passes],
                "unit": p.unit,
                "gradient_unit": p.gradient_unit,
            }
            for p in e.parameters
        },
        "gradient_ratio": _number(e.ratio),
        "steps": [
            {"lr": s.lr, "loss": _number(s.loss), "values": {name: _array(v) for name, v in s.values.items()}}
            for s in e.steps
        ],
        "conditioning": None
        if c is None
        else {
            "matrix": c.matrix,
            "before": _number(c.before),
            "after_scaling": _number(c.after),
            "largest_stable_step": _number(c.largest_step),
        },
        "sentences": list(e.sentences),
    }


def _operation(o: Operation) -> dict[str, object]:
    return {
        "name": o.name,
        "kind": o.kind,
        "text": o.text,
        "operands": list(o.operands),
        "shape": list(o.shape),
        "value": _spread(o.value),
        "gradient": None if o.gradient is None else _spread(o.gradient),
        "module": o.module,
        "rows_not_finite": list(o.rows),
    }


def _spread(s: Spread) -> dict[str, object]:
    return {"low": _number(s.low), "high": _number(s.high), "norm": _number(s.norm), "not_finite": s.lost}


def _number(value: float) -> float | None:
    return float(value) if isfinite(value) else None


def _array(values: object) -> object:
    array = np.asarray(values, dtype=np.float64)
    return np.where(np.isfinite(array), array, None).tolist()  # pyright: ignore[reportCallIssue, reportArgumentType]  # an array of objects


def given(value: float) -> str:
    """Return a number that somebody gave in full, and one that was worked out with four digits.

    >>> given(0.25), given(2.0000000001), given(0.70710678)
    ('0.25', '2', '0.7071')
    """
    near = float(f"{value:.4g}")
    return exact(near) if abs(near - value) <= 1e-6 * abs(value) else significant(value, 4)


def receives(operations: Sequence[Operation]) -> list[bool]:
    """Return for each operation whether a parameter goes into it, so that a gradient should come back."""
    out: list[bool] = []
    for o in operations:
        out.append(o.kind == PARAMETER or any(out[i] for i in o.operands))
    return out


def start_text(e: Explanation, most: int = 6) -> str:
    """Return where the pass was made: "w = 1, b = 0"; of a module how many numbers its weights are."""
    if all(p.value.ndim == 0 for p in e.parameters):
        told = [f"{p.name} = {given(float(p.value))}" for p in e.parameters]
        return ", ".join(told[:most]) + (f" and {len(told) - most} more" if len(told) > most else "")
    size = sum(p.value.size for p in e.parameters)
    tensors = sum(o.kind == PARAMETER for o in e.operations)
    return f"{count(size, 'number')} in {count(tensors, 'tensor')} of weights"
