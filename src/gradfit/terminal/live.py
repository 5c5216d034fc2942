"""A training as it goes, on one line of a terminal: epoch, both losses, learning rate, and the fall of the loss as a sparkline."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, isfinite, log10, nan
from typing import Protocol

from gradfit.notation import significant

TICKS = "▁▂▃▄▅▆▇█"
PLAIN = "_.-=*#"  # where a terminal shows ASCII alone
SPARK = 24  # columns of the sparkline at most
MOST = 240  # losses that are kept for it
REFRESH = 0.1  # seconds
LIMIT_EVERY = 1.0  # seconds between two looks at the curvature
CLEAR = "\r\x1b[2K"


class Now(Protocol):
    """What an epoch tells, of a formula and of a network alike."""

    @property
    def epoch(self) -> int:
        """Its number, from 1."""
        ...

    @property
    def epochs(self) -> int:
        """How many there will be."""
        ...

    @property
    def loss(self) -> float:
        """On the rows that are trained on."""
        ...

    @property
    def validation(self) -> float:
        """On the rows held out; NaN without any."""
        ...

    @property
    def lr(self) -> float:
        """The learning rate; NaN where it is not known."""
        ...


@dataclass(eq=False)
class LiveLine:
    """A callback that keeps one line of a terminal up to date, ten times a second at most.

    Attributes
    ----------
    write : callable
        Takes text that goes to the terminal as it is.
    width : int
        Columns.
    unicode : bool
        Whether the terminal shows signs beyond ASCII.
    clock : callable
        The time in seconds.
    every_epoch : bool
        False: a compiled loop need not stop for it at each epoch.
    """

    write: Callable[[str], None]
    width: int = 80
    unicode: bool = True
    clock: Callable[[], float] = time.monotonic
    every_epoch: bool = False
    _losses: list[float] = field(default_factory=list[float])
    _stride: int = 1
    _began: float = nan
    _drawn: float = -inf
    _looked: float = -inf
    _limit: float = nan
    _best: tuple[float, int] = (inf, 0)

    @property
    def columns(self) -> int:
        """Of the sparkline."""
        return max(min(SPARK, self.width // 7), 2)

    def __call__(self, now: Now) -> None:
        """Note an epoch, and draw the line when it is time."""
        moment = self.clock()
        if not isfinite(self._began):
            self._began = moment
        if now.epoch % self._stride == 0 or not self._losses:
            self._note(now.loss)
        if now.validation < self._best[0]:
            self._best = now.validation, now.epoch
        if moment - self._drawn >= REFRESH or now.epoch == now.epochs:
            self._drawn = moment
            self.write(f"{CLEAR}{self.line(now, moment)}")

    def clear(self) -> None:
        """Take the line away."""
        if self._drawn > -inf:
            self.write(CLEAR)

    def line(self, now: Now, moment: float) -> str:
        """Return the line of an epoch, cut to the width."""
        parts = [f"epoch {now.epoch:,} of {now.epochs:,}", f"loss {self._number(now.loss)}"]
        if isfinite(now.validation):
            best = (
                ""
                if self._best[1] == now.epoch
                else f" (best {self._number(self._best[0])} at {self._best[1]:,})"
            )
            parts.append(f"validation {self._number(now.validation)}{best}")
        if isfinite(now.lr):
            parts.append(f"lr {now.lr:.3g}{self._share(now, moment)}")
        left = (moment - self._began) / max(now.epoch, 1) * (now.epochs - now.epoch)
        if left >= 2:
            parts.append(f"{left:.0f} s left" if left < 120 else f"{left / 60:.0f} min left")
        spark, room = self.sparkline(), self.width - 1
        mark = " · " if self.unicode else " | "
        while len(parts) > 2 and len(mark.join(parts)) + len(spark) + 3 > room:
            _ = parts.pop()
        return f"{spark}  {mark.join(parts)}"[:room]

    def sparkline(self) -> str:
        """Return the losses so far as signs, on a logarithmic scale; the newest at the right."""
        ticks = TICKS if self.unicode else PLAIN
        heights = [log10(loss) if 0 < loss < inf else nan for loss in self._sampled()]
        finite = [h for h in heights if isfinite(h)]
        if not finite:
            return " " * len(heights)
        low, high = min(finite), max(finite)
        span = high - low
        last = len(ticks) - 1
        return "".join(
            "!" if not isfinite(h) else ticks[round((h - low) / span * last) if span > 1e-9 else 0]
            for h in heights
        ).rjust(self.columns)

    def _number(self, value: float) -> str:
        return significant(value, 4) if self.unicode else f"{value:.4g}"

    def _note(self, loss: float) -> None:
        self._losses.append(loss)
        if len(self._losses) > MOST:
            self._losses = self._losses[::2]
            self._stride *= 2

    def _sampled(self) -> list[float]:
        losses = self._losses
        if len(losses) <= self.columns:
            return losses
        return [losses[round(i * (len(losses) - 1) / (self.columns - 1))] for i in range(self.columns)]

    def _share(self, now: Now, moment: float) -> str:
        """Return how the learning rate stands to the largest stable one, where that is known."""
        limit: Callable[[], float] | None = getattr(now, "largest_stable", None)
        if limit is None:
            return ""
        if moment - self._looked >= LIMIT_EVERY:
            self._looked, self._limit = moment, limit()
        if not 0 < self._limit < inf:
            return ""
        return f", {now.lr / self._limit:.2g} of the largest stable"
