"""What growing has shown: the ladder, the size that was chosen and why, and its fit."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gradfit._lazy import polars, stage
from gradfit.diagnose import Finding
from gradfit.growing.climb import Climb
from gradfit.growing.ladder import Rung
from gradfit.notation import listing, significant

if TYPE_CHECKING:
    from matplotlib.figure import Figure  # noqa: TID251  only the name of a type


@dataclass(frozen=True, eq=False)
class GrowResult:
    """A ladder of models that was climbed, and the one that was chosen.

    Attributes
    ----------
    text : str
        What was asked for, as "y ~ polynomial(x)".
    kind, response : str
        Of the ladder; what is predicted.
    inputs : tuple of str
        Columns.
    chosen : FitResult
        The chosen size, fitted to all rows. (A network's result for a network.)
    splits : str
        How rows were held out.
    seeds, rows : int
        How many seeds; rows in all.
    rule : str
        "one-se": the smallest model within one standard error of the best; "best": the best.
    told : str
        What the parameters of the chosen model are.
    """

    text: str
    kind: str
    response: str
    inputs: tuple[str, ...]
    climb: Climb
    chosen: Any
    splits: str
    seeds: int
    rows: int
    rule: str
    told: str

    @property
    def rungs(self) -> tuple[Rung, ...]:
        """The ladder, by size."""
        return self.climb.rungs

    @property
    def rung(self) -> Rung:
        """The rung that was chosen."""
        return self.climb.rungs[self.climb.chosen]

    @property
    def best(self) -> Rung:
        """The rung of the lowest validation loss."""
        return self.climb.rungs[self.climb.best]

    @property
    def size(self) -> int:
        """The size that was chosen: a degree, a number of terms or of hidden units."""
        return self.rung.size

    @property
    def sentence(self) -> str:
        """Why this size, with the numbers."""
        rung, best = self.rung, self.best
        loss = significant(rung.validation, 3)
        lowest = f"{significant(best.validation, 3)} ± {significant(best.stderr)}"
        if self.climb.ended == "exact" or best.validation == 0:
            return f"With {rung.label} nothing is left: the loss on rows that were held out is {loss}, which is rounding"
        if rung is best:
            told = f"With {rung.label} the loss on rows that were held out is lowest, {lowest}"
            if self.rule == "one-se" and self.climb.chosen > 0:
                told += ", and no smaller model comes within one standard error of that"
            return told + self._after()
        return (
            f"With {rung.label} the loss on rows that were held out is {loss}, within one standard error of the lowest, "
            f"{lowest} with {best.label}{': no smaller model comes so near' if self.climb.chosen else ''}{self._after()}"
        )

    def _after(self) -> str:
        """Return what the sizes beyond show."""
        last = self.rungs[-1]
        if last.size <= self.best.size or last.validation <= self.best.validation + self.best.stderr:
            return ""
        up, down = significant(last.validation, 3), significant(last.train, 3)
        return f"; up to {last.label} it rose to {up}, while the loss on rows that were fitted fell to {down}"

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What to know about the ladder, then the findings of the chosen fit."""
        own: list[Finding] = []
        rung, best, first = self.rung, self.best, self.rungs[0]
        numbers = {"size": float(best.size), "validation": best.validation, "stderr": best.stderr}
        if self.climb.ended == "sizes" and self._still_growing:
            told = f"The largest size that was tried, {best.label}, has the lowest validation loss: a larger one may be better"
            sizes = (
                f"{2 * best.size}" if self.kind == "network" else f"range({first.size}, {2 * best.size + 1})"
            )
            remedy = f"sizes={sizes}" if self._more else ""
            own.append(Finding("still-growing", "warning", told, remedy, numbers))
        if rung is first and len(self.rungs) > 1 and self.kind != "network":
            told = (
                f"With {first.label} it goes as well as with anything larger: {listing(self.inputs)} tells nothing of "
                f"{self.response} that these {self.rows} rows can show"
            )
            own.append(Finding("nothing-to-find", "warning", told, "", numbers))
        return (*own, *tuple(getattr(self.chosen, "findings", ())))

    @property
    def _still_growing(self) -> bool:
        """Whether the largest size is the best, and no smaller one within one standard error of it."""
        *smaller, last = self.rungs
        near = any(r.validation <= last.validation + last.stderr for r in smaller)
        return bool(smaller) and last is self.best and not near

    @property
    def _more(self) -> bool:
        return self.best.parameters * 2 < self.rows

    @property
    def values(self) -> dict[str, float]:
        """Parameters of the chosen fit by name."""
        return self.chosen.values

    def predict(self, data: object = None) -> Any:
        """Return the chosen model at new inputs, as its own `predict` does."""
        return self.chosen.predict(data)

    def to_frame(self) -> "polars.DataFrame":
        """Return the ladder as a Polars data frame, a row for each size."""
        columns: dict[str, object] = {
            "size": [r.size for r in self.rungs],
            "label": [r.label for r in self.rungs],
            "parameters": [r.parameters for r in self.rungs],
            "train": [r.train for r in self.rungs],
            "validation": [r.validation for r in self.rungs],
            "stderr": [r.stderr for r in self.rungs],
            "best": [i == self.climb.best for i in range(len(self.rungs))],
            "chosen": [i == self.climb.chosen for i in range(len(self.rungs))],
        }
        return polars.DataFrame(columns)

    def plot(self, path: str | Path | None = None, *, force: bool = False) -> "Figure":
        """Return a figure of both losses against the number of parameters, with their spread; with `path` it is written too."""
        figure = stage("figures.path").ladder_figure(self)
        if path is not None:
            stage("figures.sheet").save(figure, path, force=force)
        return figure

    def summary(self, width: int = 80) -> str:
        """Return the ladder and the choice as text for a terminal."""
        return stage("terminal.growing").summary(self, width=width)

    def __str__(self) -> str:
        return self.summary()

    def __repr__(self) -> str:
        return f"<{self.text}: {self.rung.label} of {len(self.rungs)} sizes>"
