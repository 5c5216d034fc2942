"""A ladder of networks: one hidden layer that grows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gradfit.growing.ladder import Array
from gradfit.growing.request import Request
from gradfit.learn import NetworkResult, network
from gradfit.notation import count
from gradfit.splitting import Split
from gradfit.table import Table

SIZES = (1, 2, 4, 8, 16, 32, 64)


def _plain(text: str) -> Any:
    """Return a number, or a text without its quotes."""
    try:
        return float(text)
    except ValueError:
        return text.strip("\"'")


@dataclass(frozen=True, eq=False)
class Networks:
    """Networks by the units of their hidden layer.

    Attributes
    ----------
    request : Request
        Target, inputs and settings, such as activation="relu".
    table : Table
        The rows.
    fit : callable
        `gradfit.fit`, with what all sizes share.
    """

    request: Request
    table: Table
    fit: Callable[..., Any]
    sizes: Sequence[int] = SIZES
    patience: int = 2
    seeds: int = 2
    overfull: bool = True
    known: dict[int, int] = field(default_factory=dict[int, int])

    def label(self, size: int) -> str:
        """Return the number of hidden units."""
        return count(size, "hidden unit")

    def parameters(self, size: int) -> int:
        """Return how many weights there are, as the last training counted them."""
        return self.known.get(size, size * (len(self.request.inputs) + 2) + 1)

    def shown(self, size: int, split: Split, seed: int) -> tuple[Array, Array]:
        """Return the mean losses, of one number each, on rows that were trained on and held out; after the last epoch."""
        rows = self.table.rows
        unused = np.setdiff1d(np.arange(self.table.n), np.concatenate([split.train, split.held]))
        exclude = rows[unused].tolist() or None
        made = self._fitted(size, seed, validation=rows[split.held].tolist(), stop="last", exclude=exclude)
        assert made.validation is not None  # noqa: S101  rows were held out
        return np.array([made.loss]), np.array([made.validation.loss])

    def refitted(self, size: int, seed: int) -> NetworkResult:
        """Return a network of a size, trained on all rows."""
        return self._fitted(size, seed)

    def _fitted(self, size: int, seed: int, **more: object) -> NetworkResult:
        settings: Mapping[str, Any] = self.request.settings
        spec = network(hidden=[size], **{name: _plain(value) for name, value in settings.items()})
        made: NetworkResult = self.fit(
            spec, self.table, inputs=list(self.request.inputs), target=self.request.left, seed=seed, **more
        )
        self.known[size] = made.k
        return made

    def told(self, size: int) -> str:
        """Return what the network is."""
        return f"{count(size, 'hidden unit')} in one layer, all rows used; predict with it"
