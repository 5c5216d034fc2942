"""The code that watches the loss over held-out rows: its lowest value, where it was, and whether patience has run out."""

from collections.abc import Mapping

from gradfit.native.code import Code
from gradfit.native.values import Cell, Lanes, Truth

WATCHED = ("now", "before", "best", "best_step", "mark", "mark_step")  # then patience and the least progress


class Watch:
    """What is known of the held-out loss, as `solve.patience.Watched` keeps it."""

    def __init__(self, code: Code, places: Mapping[str, int], width: int, parameters: Cell) -> None:
        self._code, self._parameters = code, parameters
        first = places["watch"]
        at = {name: first + i for i, name in enumerate(WATCHED)}
        made = {name: code.cell(code.load("state", place)) for name, place in at.items()}
        self.now, self.before, self.best, self.best_step, self.mark, self.mark_step = (
            made[name] for name in WATCHED
        )
        self._patience, self._delta = (code.load("state", first + len(WATCHED) + i) for i in range(2))
        self.chosen = code.cell(code.load("state", places["chosen"], lanes=width))
        self.cells = {place: made[name] for name, place in at.items()} | {places["chosen"]: self.chosen}

    def look(self, number: Lanes, loss: Lanes) -> Truth:
        """Write the loss after `number` epochs down; return whether patience has run out. NaN is less than nothing."""
        at, parameters = self._code.at, self._parameters
        self.now.set(loss)
        better = loss < self.best.get()
        progress = loss < self.mark.get() - self._delta
        for told, mine, now in (
            (better, self.best_step, number.raw),
            (better, self.chosen, parameters.integer()),
            (better, self.best, loss.raw),
            (progress, self.mark_step, number.raw),
            (progress, self.mark, loss.raw),
        ):
            mine.put(at.select(told.raw, now, mine.integer()))
        return number - self.mark_step.get() >= self._patience
