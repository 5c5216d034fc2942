"""Which way a training goes: as machine code where that can be and saves time, else through torch as it is."""

from dataclasses import replace

from gradfit.learn.loop import train_torch
from gradfit.learn.native import train_native
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
    reason = "the compiled loop writes no checkpoints"
    if keeping is NOT_KEPT:
        course = train_native(task, executor)
        if isinstance(course, Course):
            return course
        reason = course
    course = train_torch(task, keeping)
    return replace(course, how=f"{course.how}: {reason}")
