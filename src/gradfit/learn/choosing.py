"""Which way trainings go: as machine code where that can be and saves time, else through torch as it is."""

from collections.abc import Sequence
from dataclasses import replace

from gradfit.learn.loop import train_torch
from gradfit.learn.native import train_native_members
from gradfit.learn.task import Course, Task
from gradfit.solve.snapshot import NOT_KEPT, Keeping


def train(task: Task, executor: str, keeping: Keeping) -> Course:
    """Return the way of a training, which says what made it, and why.

    Parameters
    ----------
    executor : str
        "native" compiles whatever can be, "auto" where it saves time; with "tensor" torch makes each step.
    keeping : Keeping
        What becomes of the states on the way; only torch's loop writes them down.
    """
    return train_members([task], executor, [keeping])[0]


def train_members(
    tasks: Sequence[Task], executor: str, keepings: Sequence[Keeping], *, share: float = 1.0
) -> list[Course]:
    """Return the ways of several trainings: folds, seeds, sizes, rates. Machine code has them on all cores at a time.

    Parameters
    ----------
    share : float
        Of all that is to be trained in this way: whether it saves time to compile is decided by the whole.

    Raises
    ------
    KeyboardInterrupt
        At Ctrl-C, if they are several: those that are done are of no use without the others.
    """
    reason = "the compiled loop writes no checkpoints"
    if all(keeping is NOT_KEPT for keeping in keepings):
        watched = len(tasks) > 1 and any(task.callback is not None for task in tasks)
        batches = [[task] for task in tasks] if watched else [tasks]  # one after the other, for those who watch
        share /= len(batches)
        made = [way for batch in batches for way in train_native_members(batch, executor, share=share)]
    else:
        made: list[Course | str] = [reason] * len(tasks)
    courses: list[Course] = []
    for task, keeping, way in zip(tasks, keepings, made, strict=True):
        courses.append(_by_torch(task, keeping, way) if isinstance(way, str) else way)
        if len(tasks) > 1 and courses[-1].ending == "interrupted":
            raise KeyboardInterrupt
    return courses


def _by_torch(task: Task, keeping: Keeping, reason: str) -> Course:
    course = train_torch(task, keeping)
    return replace(course, how=f"{course.how}: {reason}")
