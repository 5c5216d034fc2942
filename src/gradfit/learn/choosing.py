"""Which way trainings go: as machine code where that can be and saves time, else through torch as it is."""

from collections.abc import Sequence
from dataclasses import replace

from gradfit.learn.loop import no_worse_than, train_torch, weights_of
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
    kept = any(keeping is not NOT_KEPT for keeping in keepings)
    watched = len(tasks) > 1 and any(task.callback is not None for task in tasks)
    apart = kept or watched  # who watches sees them one after the other
    courses: list[Course] = []
    starts = [weights_of(task.module) for task in tasks]
    for batch in [[task] for task in tasks] if apart else [tasks]:
        part = share * len(batch) / len(tasks)
        no = ["the compiled loop writes no checkpoints"] * len(batch)
        ways = no if kept else train_native_members(batch, executor, share=part)
        for task, way in zip(batch, ways, strict=True):
            courses.append(_by_torch(task, keepings[len(courses)], way) if isinstance(way, str) else way)
            if len(tasks) > 1 and courses[-1].ending == "interrupted":
                raise KeyboardInterrupt
    return [no_worse_than(*each) for each in zip(starts, tasks, courses, strict=True)]


def _by_torch(task: Task, keeping: Keeping, reason: str) -> Course:
    course = train_torch(task, keeping)
    return replace(course, how=f"{course.how}: {reason}")
