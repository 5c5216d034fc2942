"""Many fits in torch, on any device: it takes as many at a time as its memory holds, and the others wait."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradfit._lazy import torch
from gradfit.errors import OptionError
from gradfit.graph import Graph
from gradfit.solve.lockstep.batch import NON_FINITE, Array, Batch, Cost, Ends, Kernel, Settings
from gradfit.solve.lockstep.numpy import hopeless
from gradfit.solve.lockstep.tensor.points import Model
from gradfit.solve.lockstep.tensor.walk import Task, Walk

Indices = NDArray[np.int64]

PROCESSOR = 64e6  # bytes that fits under way may take on a processor: more only leave the cache
MOST = 2**26  # points of all fits under way: more do not make a device any faster
DTYPES = ("float64", "float32")
_KINDS = ("cpu", "cuda")


def solve(
    kernel: Kernel | Graph,
    batch: Batch,
    start: Array,
    *,
    free: Indices,
    lower: Array,
    upper: Array,
    loss: Cost,
    settings: Settings,
    device: str = "auto",
    dtype: str = "float64",
) -> Ends:
    """Return where each fit ended: see `gradfit.solve.lockstep.batch.Solve`.

    On a processor the bits of a fit depend neither on the other fits nor on the number of threads; on a GPU its last
    digits do, as the order of sums follows from the number of fits under way.

    Parameters
    ----------
    kernel, batch, start, free, lower, upper, loss, settings
        As for every executor; of the kernel its graph is used.
    device : str
        "cpu", "cuda", "cuda:1", ...; "auto": "cuda" where there is one. It must know float64, which Apple's "mps" does not.
    dtype : str
        In which the model is evaluated at the points: "float64" or "float32". Sums over points, steps and parameters have
        float64 in any case. With "float32" the parameters of half the fits are within 2e-7 of y's ratio to its noise,
        in standard errors (2e-5 where y is 100 times its noise), of 99 in 100 within ten times that; robust losses have
        more exceptions. Data without noise give six digits. Where y is above 10,000 times its noise, or squares leave
        1e-38 to 1e38, take "float64".

    Raises
    ------
    OptionError
        If the model has no graph, or the device or the precision is not there.
    """
    graph = kernel if isinstance(kernel, Graph) else getattr(kernel, "graph", None)
    if graph is None:
        raise OptionError(
            "The tensor executor of many fits needs a model that can be traced, and this one is evaluated as a whole",
            remedy='executor="numpy" takes it',
        )
    with torch.inference_mode(), _threads(settings.threads):
        model = Model(graph, free.tolist(), device=known_device(device), dtype=known_dtype(dtype))
        return _Queue.of(Task.of(model, lower, upper, loss, settings), batch, start, loss).run()


def known_device(name: str) -> str:
    """Return the device that a name stands for.

    Raises
    ------
    OptionError
        If it is not there, has no float64, or is of another kind.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        if device.type in _KINDS:
            torch.zeros(1, device=device)
    except (RuntimeError, AssertionError) as error:  # torch was built without it, or there is none
        raise OptionError(
            f"The device {name!r} is not there", remedy='device="auto" takes the GPU where there is one'
        ) from error
    if device.type == "mps":
        raise OptionError(f"The device {name!r} has no float64, which fits need", remedy='Use device="cpu"')
    if device.type not in _KINDS:
        raise OptionError(f"Many fits are made on {' or '.join(_KINDS)}, and {name!r} was asked for")
    return name


def known_dtype(name: str) -> "torch.dtype":
    """Return the precision that a name stands for.

    Raises
    ------
    OptionError
        If it is not one of float64 and float32.
    """
    if name not in DTYPES:
        raise OptionError(f"Many fits are made in {' or '.join(DTYPES)}, and {name!r} was asked for")
    return torch.float64 if name == "float64" else torch.float32


@contextmanager
def _threads(most: int | None) -> Generator[None]:
    before = torch.get_num_threads()
    if most is not None and most < before:
        torch.set_num_threads(most)
    try:
        yield
    finally:
        if most is not None and most < before:
            torch.set_num_threads(before)


# ---------------------------------------------------------------------------- fits that wait


@dataclass(eq=False)  # what waits gets shorter
class _Queue:
    """Fits that wait for room on the device."""

    task: "Task"
    batch: Batch
    start: Array
    loss: Cost
    ends: Ends
    waiting: Indices
    room: int  # fits at a time

    @classmethod
    def of(cls, task: "Task", batch: Batch, start: Array, loss: Cost) -> "_Queue":
        """Return all fits that have a chance; the ends of the others are written."""
        m = len(batch.y)
        start = np.broadcast_to(start, (m, start.shape[1]))
        ends = Ends.blank(m, start.shape[1])
        ends.points[:] = batch.points()
        fixed = np.setdiff1d(np.arange(start.shape[1]), task.model.free)
        ends.parameters[:, fixed] = start[:, fixed]
        lost = hopeless(batch, ends.points, len(task.model.free), loss)
        ends.status[:] = np.where(lost >= 0, lost, NON_FINITE)
        return cls(task, batch, start, loss, ends, np.flatnonzero(lost < 0), _room(task, batch))

    def run(self) -> Ends:
        """Return where all fits ended."""
        walk: Walk | None = None
        while len(self.waiting) or walk is not None:
            try:
                walk = self._filled(walk)
                walk = walk.turn(self.ends)
            except torch.OutOfMemoryError as error:
                self._make_smaller(walk, error)
                walk = None
        return self.ends

    def _filled(self, walk: "Walk | None") -> "Walk":
        under_way = 0 if walk is None else len(walk.fit)
        if walk is not None and (not len(self.waiting) or 4 * under_way > 3 * self.room):
            return walk
        more, rest = np.split(self.waiting, [self.room - under_way])
        fresh = self.task.begun(self.batch.rows(more), self.start[more], self.loss.rows(more), more)
        joined = fresh if walk is None else walk.joined(fresh)
        self.waiting = rest
        return joined

    def _make_smaller(self, walk: "Walk | None", error: Exception) -> None:
        """Let the fits under way begin again, half as many at a time.

        Raises
        ------
        OptionError
            If it was one at a time.
        """
        if self.room == 1:
            raise OptionError(
                f"One fit of {self.batch.y.shape[1]} points does not fit into the memory of {self.task.model.device}",
                remedy='Use device="cpu"',
            ) from error
        again = self.waiting[:0] if walk is None else walk.fit.cpu().numpy()
        self.waiting, self.room = np.concatenate([again, self.waiting]), max(1, self.room // 2)
        torch.cuda.empty_cache()


def _room(task: Task, batch: Batch) -> int:
    """Return how many fits the device takes at a time."""
    n = max(batch.y.shape[1], 1)
    own = 1 + sum(c.ndim == 2 for c in batch.columns) + (batch.weight is not None and batch.weight.ndim == 2)
    each = (
        (3 * own + task.model.width()) * task.model.dtype.itemsize * n
    )  # 3: fits that come and go are copied
    each += 8 * 4 * (len(task.free) + 2) ** 2
    space = PROCESSOR
    if task.model.device != "cpu":
        device = torch.device(task.model.device)
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        space = 0.8 * (torch.cuda.mem_get_info(device)[0] + unused)
    return max(1, int(min(space // each, MOST // n)))
