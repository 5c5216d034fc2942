"""What a training in torch has gone through so far: its history, its best points, and what the held-out rows said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite, nan
from typing import Any

import numpy as np

from gradfit.solve.ending import HeldTrail, trail_row
from gradfit.solve.outcome import Array, Point, kept_steps
from gradfit.solve.patience import Patience, Watched
from gradfit.solve.snapshot import Arrays, Told


@dataclass(eq=False)  # filled from epoch to epoch
class Record:
    """The way of a training.

    Attributes
    ----------
    planned : int
        Epochs asked for.
    size : int
        k, the free parameters.
    patience : Patience or None
        What is asked of the held-out loss; None where nothing is held out.
    told : Told
        What the scheduler was told.
    rows : list of (2 + 2k,)
        The trail, with the losses of `held` beside it.
    last, best : (2 + 2k,) or None
        The last epoch, and the one with the lowest finite loss.
    seen : Watched
        Of the held-out loss, `now` at the present parameters and `before` at those before the last epoch; `chosen` (k,) are
        the best by it.
    """

    planned: int
    size: int
    patience: Patience | None
    told: Told
    rows: list[Array] = field(default_factory=list[Array])
    held: list[float] = field(default_factory=list[float])
    last: Array | None = None
    best: Array | None = None
    seen: Watched = field(default_factory=Watched)
    now: float = nan
    chosen: Array | None = None
    before: float = nan
    epochs: int = 0
    evaluations: int = 0

    def __post_init__(self) -> None:
        self._kept = set(map(int, kept_steps(self.planned)))

    def look(self, step: int, loss: float, parameters: Array) -> bool:
        """Take note of the held-out loss after `step` epochs; return whether patience has run out."""
        assert self.patience is not None  # noqa: S101  only asked where rows are held out
        self.now = loss
        before, self.seen = self.seen, self.seen.told(step, loss, self.patience)
        if self.seen.best_step != before.best_step:
            self.chosen = parameters
        return self.seen.ends(step, self.patience)

    def add(self, step: int, loss: float, gradient: Array, parameters: Array) -> None:
        """Take note of an epoch: the epochs before it, and loss, gradient and parameters before its update."""
        self.epochs, self.before = step + 1, self.now
        self.last = trail_row(step, loss, gradient, parameters)
        if not isfinite(loss):
            return
        if self.best is None or loss < self.best[1]:
            self.best = self.last
        if step in self._kept:
            self.rows.append(self.last)
            self.held.append(self.now)

    def close(self) -> None:
        """Add the last epoch to the trail, where it is not among those that the history keeps."""
        if self.last is not None and isfinite(self.last[1]) and int(self.last[0]) not in self._kept:
            self.rows.append(self.last)
            self.held.append(self.before)

    @property
    def trail(self) -> Array:
        """The history (m, 2 + 2k)."""
        return np.array(self.rows).reshape(len(self.rows), 2 + 2 * self.size)

    @property
    def best_point(self) -> Point | None:
        """The epoch with the lowest loss."""
        if self.best is None:
            return None
        k = self.size
        return int(self.best[0]), float(self.best[1]), self.best[2 : 2 + k], self.best[2 + k :]

    def held_trail(self, parameters: Array) -> HeldTrail | None:
        """Return what the held-out rows said, with the present parameters where nothing was best."""
        if self.patience is None:
            return None
        chosen = parameters if self.chosen is None else self.chosen
        return HeldTrail(np.array(self.held), self.now, self.seen, chosen, self.patience)

    # ------------------------------------------------------------------ as a snapshot

    def arrays(self) -> dict[str, Any]:
        """Return the arrays that `restore` takes."""
        present = {"last": self.last, "best": self.best, "chosen": self.chosen}
        return {
            "trail": self.trail,
            "held": np.array(self.held),
            "told": np.array(self.told.losses),
            **{name: values for name, values in present.items() if values is not None},
        }

    def facts(self) -> dict[str, object]:
        """Return the numbers that `restore` takes."""
        seen = self.seen
        return {
            "epochs": self.epochs,
            "evaluations": self.evaluations,
            "before": self.before,
            "seen": [seen.best, seen.best_step, seen.mark, seen.mark_step],
        }

    def restore(self, arrays: Arrays, facts: Mapping[str, Any]) -> None:
        """Go on from what `arrays` and `facts` returned."""
        self.rows, self.held = list(arrays["trail"]), arrays["held"].tolist()
        self.told.losses = arrays["told"].tolist()
        self.last, self.best, self.chosen = (arrays.get(name) for name in ("last", "best", "chosen"))
        self.epochs, self.evaluations, self.before = facts["epochs"], facts["evaluations"], facts["before"]
        best, best_step, mark, mark_step = facts["seen"]
        self.seen = Watched(best, best_step, mark, mark_step)
