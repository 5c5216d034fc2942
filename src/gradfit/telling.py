"""What a callback is told of each epoch: in the user's units, with the learning rate and the largest stable one."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from gradfit.scaling import Scaling
from gradfit.solve.descent import Progress
from gradfit.solve.outcome import Array


@dataclass(frozen=True, eq=False)
class Telling:
    """A callback with what it is told beside the numbers of the loop.

    Attributes
    ----------
    callback : callable
        The user's.
    scale : Scaling or None
        The units that the loop works in.
    limit : callable or None
        Returns the largest stable learning rate at parameters in the user's units; it costs a Hessian.
    """

    callback: Callable[[Progress], object]
    scale: Scaling | None
    limit: Callable[[Array], float] | None

    @property
    def every_epoch(self) -> bool:
        """Whether the callback wants each epoch; else some each second are enough, and no loop waits for it."""
        return bool(getattr(self.callback, "every_epoch", True))

    def __call__(self, now: Progress) -> object:
        """Return what the callback answers."""
        if self.scale is not None:
            held = now.validation * self.scale.unit**2
            now = replace(self.scale.progress(now), validation=held)
        limit, at = self.limit, now.parameters
        if limit is not None:
            now = replace(now, largest_stable=lambda: limit(at))
        return self.callback(now)
