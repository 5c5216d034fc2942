"""Steps of optimizers on disk: what an earlier process has traced and tried is read, and torch is not imported for it."""

import json
from dataclasses import dataclass
from typing import Any

from gradfit import store
from gradfit.native.step import Step
from gradfit.trace.kept import KIND, VERSIONS


@dataclass(frozen=True, eq=False)
class KnownStep:
    """A traced optimizer of torch.optim.

    Attributes
    ----------
    title : str
        Its name with the learning rate, for sentences.
    rate : float
        The learning rate.
    step : Step
        What it does.
    """

    title: str
    rate: float
    step: Step


def key_of_step(chosen: str) -> str:
    """Return the key of an optimizer; the text says its name, its settings and the number of parameters."""
    return store.key_of(f"step {chosen}", *VERSIONS)


def recalled_step(key: str) -> KnownStep | None:
    """Return the step under this key, None if there is none."""
    data = store.load(KIND, key)
    if data is None:
        return None
    try:
        plain: dict[str, Any] = json.loads(data)
        step = Step(
            nodes=tuple(tuple(node) for node in plain["nodes"]),
            names=tuple(plain["names"]),
            vector=tuple(plain["vector"]),
            first=tuple(plain["first"]),
            later=tuple(plain["later"]),
        )
        return KnownStep(str(plain["title"]), float(plain["rate"]), step)
    except (ValueError, TypeError, KeyError):
        return None  # whole, and yet no step: it is traced again and replaced


def keep_step(key: str, known: KnownStep) -> None:
    """Save a step for later processes."""
    step = known.step
    plain = {
        "title": known.title, "rate": known.rate, "nodes": step.nodes, "names": step.names, "vector": step.vector,
        "first": step.first, "later": step.later,
    }  # fmt: skip
    store.save(KIND, key, json.dumps(plain, separators=(",", ":")).encode())
