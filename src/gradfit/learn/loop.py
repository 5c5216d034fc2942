"""The training loop in torch: what a careful hand-written one does, epoch by epoch."""

from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from math import inf, isfinite, nan
from typing import TYPE_CHECKING

import numpy as np

from gradfit._lazy import torch
from gradfit.errors import ModelError
from gradfit.learn.kept import Moment, put_back, rest, snapshot_of
from gradfit.learn.optimizer import rate_of
from gradfit.learn.task import Course, Ending, Epoch, GradientTrail, LossHistory, Samples, Task
from gradfit.notation import count
from gradfit.solve.optimizers import Schedule, needs_closure, schedule
from gradfit.solve.patience import Watched
from gradfit.solve.snapshot import NOT_KEPT, Keeping, Snapshot

if TYPE_CHECKING:
    from torch import Tensor, nn  # noqa: TID251  only the names of types
    from torch.optim import Optimizer  # noqa: TID251  only the names of types

_REFUSALS = (RuntimeError, ValueError, TypeError, IndexError)  # what torch raises for what it cannot do
LOOKED_AT = 100  # epochs at which the sizes of gradients are noted
SMALL = 3e7  # weights times rows of an update, which then takes a core a few milliseconds
WHOLE = 8192  # rows that are evaluated at once


def train_torch(task: Task, keeping: Keeping = NOT_KEPT) -> Course:
    """Return the way of a training that torch makes step by step; `task.module` is trained in place.

    Gradients are zeroed before each backward pass; rows held out are evaluated in eval mode and without a graph. All that
    is random comes from the plan's seed, and torch's own random state is as before afterwards.

    Raises
    ------
    ModelError
        If the loss is not finite before the first update, or the module cannot be evaluated.
    OptionError
        If the scheduler or one of its settings does not exist.
    """
    with ExitStack() as around:
        around.enter_context(torch.inference_mode(mode=False))
        around.enter_context(torch.enable_grad())
        around.enter_context(_own_random_state(task))
        around.enter_context(few_threads(task))
        return _Training(task, keeping).run()


@contextmanager
def own_random_state(seed: int) -> Generator[None]:
    """Draw from a seed inside what torch draws on the CPU, and leave its random state as it was."""
    with torch.random.fork_rng(devices=[]):
        _ = torch.manual_seed(seed)
        yield


@contextmanager
def _own_random_state(task: Task) -> Generator[None]:
    """Draw from the seed inside, on any device, with algorithms that repeat themselves."""
    devices = [torch.device(task.plan.device)] if task.plan.device.startswith("cuda") else []
    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    with torch.random.fork_rng(devices=devices):
        _ = torch.manual_seed(task.plan.seed)
        cudnn.deterministic, cudnn.benchmark = True, False
        try:
            yield
        finally:
            cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def few_threads(task: Task) -> Generator[None]:
    """Let one thread make small updates: several spend their time waiting for each other, long where cores are busy."""
    weights = sum(p.numel() for p in task.module.parameters())
    before = torch.get_num_threads()
    flat = all(p.ndim <= 2 for p in task.module.parameters())  # a convolution works more than it has weights
    small = (
        flat
        and before > 1
        and task.plan.device == "cpu"
        and weights * min(task.plan.batch_size, task.train.n) < SMALL
    )
    if small:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if small:
            torch.set_num_threads(before)


@dataclass(eq=False)
class _Training:
    """A training under way; all of it changes in place, as torch wants it."""

    task: Task
    keeping: Keeping
    optimizer: "Optimizer" = field(init=False)
    told: Schedule = field(init=False)
    shuffle: "torch.Generator" = field(init=False)
    epochs: list[Epoch] = field(default_factory=list[Epoch])
    seen: Watched = field(default_factory=Watched)
    best: "dict[str, Tensor]" = field(init=False)
    best_epoch: int = 0
    trail: "_Trail" = field(init=False)
    spreads: "list[Tensor]" = field(init=False)
    losses_told: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        task, plan = self.task, self.task.plan
        self.optimizer = task.choice.make([p for p in task.module.parameters() if p.requires_grad])
        self.told = schedule(
            plan.scheduler, settings=plan.scheduler_settings, optimizer=self.optimizer, epochs=plan.epochs
        )
        self.shuffle = torch.Generator(device="cpu").manual_seed(plan.seed)
        self.best = weights_of(task.module)
        self.trail = _Trail(task.module, plan.epochs)
        self.spreads = [_spread(part) for part in task.train.inputs]
        if self.keeping.resume is not None:
            self._go_on(self.keeping.resume)

    def _go_on(self, snapshot: Snapshot) -> None:
        """Take up a training where a snapshot was taken; a new scheduler is told again what the old one was."""
        told = snapshot.arrays["told"].tolist()
        if told and self.task.plan.scheduler is not None:
            rest(self.optimizer)
            for loss in told:
                _ = self.told.tell(loss)
        now = put_back(snapshot, self.task.module, self.optimizer, self.shuffle, device=self.task.plan.device)
        self.epochs, self.seen, self.best_epoch = list(now.epochs), now.seen, now.best_epoch
        self.best, self.losses_told = dict(now.best), list(now.told)

    def _save(self, done: int) -> None:
        if self.keeping.save is None or not self.keeping.due(done):
            return
        now = Moment(self.epochs, self.seen, self.best, self.best_epoch, tuple(self.losses_told))
        _ = self.keeping.save(
            snapshot_of(self.task.module, self.optimizer, self.shuffle, now, device=self.task.plan.device)
        )

    # ------------------------------------------------------------------ epochs

    def run(self) -> Course:
        """Return what the epochs have done; a Ctrl-C at any time ends them."""
        ending: Ending = "epochs-done"
        try:
            for number in range(len(self.epochs) + 1, self.task.plan.epochs + 1):
                now = self._epoch(number)
                self.epochs.append(now)
                if not isfinite(now.loss):
                    ending = "diverged"
                    break
                self._keep(now)
                self._save(number)
                if self.task.callback is not None and self.task.callback(now) is True:
                    ending = "stopped"
                    break
                if self.task.held is not None and self.seen.ends(number, self.task.plan.patience):
                    ending = "patience"
                    break
        except KeyboardInterrupt:
            ending = "interrupted"
        return self._course(ending if self._finite() else "diverged")

    def _finite(self) -> bool:
        return all(bool(torch.isfinite(p).all()) for p in self.task.module.parameters())

    def _keep(self, now: Epoch) -> None:
        """Note the state where it is the best so far: by validation, else by the loss that has been trained on."""
        measure = now.validation if self.task.held is not None else now.loss
        before = self.seen.best_step
        self.seen = self.seen.told(now.epoch, measure, self.task.plan.patience)
        if self.seen.best_step != before:
            _store(self.task.module, self.best)
            self.best_epoch = now.epoch

    def _course(self, ending: Ending) -> Course:
        task = self.task
        last = self.epochs[-1].epoch if self.epochs else 0
        held = task.held is not None and task.plan.patience.stop == "best"
        use_best = held or ending in ("diverged", "interrupted")
        if use_best:
            _restore(task.module, self.best)
        at = self.best_epoch if use_best else last
        way = f"Torch made each step on {task.plan.device}"
        state = {name: tensor.detach().cpu().clone() for name, tensor in task.module.state_dict().items()}
        return Course(ending, LossHistory.of(self.epochs), at, state, self.trail.done(), "torch", way)

    def _epoch(self, number: int) -> Epoch:
        task, lr = self.task, rate_of(self.optimizer)
        _ = task.module.train()
        loss = self._updates(number)
        validation = nan if task.held is None else mean_loss(task, task.held)
        watched = loss if task.held is None else validation
        self.losses_told.append(watched)
        _ = self.told.tell(watched)
        best = self.seen.best
        at = number if task.held is not None and validation < best else self.best_epoch
        return Epoch(number, task.plan.epochs, loss, validation, lr, at if task.held is not None else 0)

    def _updates(self, number: int) -> float:
        """Make the updates of an epoch; return the mean loss over them, each before its own."""
        task, size = self.task, self.task.plan.batch_size
        if size >= task.train.n:
            return self._update(task.train, number, first=True).item()
        order = torch.randperm(task.train.n, generator=self.shuffle).to(task.train.target.device)
        total: Tensor | float = 0.0
        for j, places in enumerate(torch.split(order, size)):
            loss = self._update(task.train.at(places), number, first=j == 0)
            total = total + loss * (len(places) / task.train.n)
        return float(total)

    def _update(self, batch: Samples, number: int, *, first: bool) -> "Tensor":
        """Make one update; return the loss before it, without a graph."""
        losses: list[Tensor] = []
        batch, mixed = self._changed(batch)

        def closure() -> "Tensor":
            self.optimizer.zero_grad()
            loss = self._loss(batch, mixed)
            if not losses and number == 1 and first:
                _check_first(loss, self.task, batch)
            losses.append(loss.detach())
            loss.backward()
            if first and len(losses) == 1:
                self.trail.note(number)
            if self.task.plan.clip is not None:
                torch.nn.utils.clip_grad_norm_(self.task.module.parameters(), self.task.plan.clip)
            return loss

        if needs_closure(self.optimizer):
            _ = self.optimizer.step(closure)  # pyright: ignore[reportCallIssue, reportArgumentType]  # a tensor is a number to LBFGS
        else:
            _ = closure()
            self.optimizer.step()
        return losses[0]

    def _loss(self, batch: Samples, mixed: "tuple[Tensor, float] | None") -> "Tensor":
        task = self.task
        with _precision(task):
            output = called(task, batch)
            loss = _cost(task, output, batch.target)
            if mixed is not None:
                other, share = mixed
                loss = share * loss + (1 - share) * _cost(task, output, other)
        return loss if task.penalty is None else loss + task.penalty(task.module)

    def _changed(self, batch: Samples) -> "tuple[Samples, tuple[Tensor, float] | None]":
        """Return a batch with noise on its inputs, and mixed with other rows: their targets, and the share of its own."""
        plan = self.task.plan
        inputs = batch.inputs
        if plan.noise:
            inputs = tuple(
                [_noisy(part, spread, plan.noise) for part, spread in zip(inputs, self.spreads, strict=True)]
            )
        if not plan.mixup:
            return Samples(inputs, batch.target), None
        share = float(torch.distributions.Beta(plan.mixup, plan.mixup).sample())
        order = torch.randperm(batch.n).to(batch.target.device)
        inputs = tuple(
            [
                share * part + (1 - share) * part[order] if part.is_floating_point() else part
                for part in inputs
            ]
        )
        return Samples(inputs, batch.target), (batch.target[order], share)


def mean_loss(task: Task, samples: Samples) -> float:
    """Return the mean loss of the module as it is, in eval mode and without a graph; it is in train mode as before after."""
    was = task.module.training
    _ = task.module.eval()
    try:
        with torch.no_grad(), _precision(task):
            if samples.n <= WHOLE:
                return float(_cost(task, called(task, samples), samples.target))
            total = 0.0
            for first in range(0, samples.n, WHOLE):
                part = samples.at(slice(first, first + WHOLE))
                total += float(_cost(task, called(task, part), part.target)) * part.n / samples.n
            return total
    finally:
        _ = task.module.train(was)


def called(task: Task, batch: Samples) -> "Tensor":
    """Return the module's output for some rows.

    Raises
    ------
    ModelError
        If torch refuses them: a batch of one row before a BatchNorm, a code without an embedding.
    """
    try:
        return task.module(*batch.inputs)
    except _REFUSALS as refused:
        sized = batch.n > 1 and "memory" not in str(refused)
        raise ModelError(
            f"{type(task.module).__name__} fails on {count(batch.n, 'row')}: {str(refused).splitlines()[0][:200]}",
            remedy="Look at the sizes of its layers" if sized else "Give another batch_size=",
        ) from refused


def _cost(task: Task, output: "Tensor", target: "Tensor") -> "Tensor":
    """Return the loss of an output.

    Raises
    ------
    ModelError
        If torch refuses it.
    """
    try:
        found: object = task.loss(output, target)
    except _REFUSALS as refused:
        shapes = f"{tuple(output.shape)} and the target {tuple(target.shape)}"
        raise ModelError(
            f"The loss {task.loss_name} fails on the output {shapes}: {(str(refused).splitlines() or [''])[0][:200]}",
            remedy="Give a loss for this output and target",
        ) from refused
    if not isinstance(found, torch.Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]  # it may be the caller's
        raise ModelError(
            f"The loss {task.loss_name} returns {type(found).__name__}, and must return a tensor of one number",
            remedy="Compute it from the output with torch functions, without item()",
        )
    return found


def _precision(task: Task) -> AbstractContextManager[object]:
    if task.plan.precision != "mixed":
        return nullcontext()
    return torch.autocast(task.plan.device.partition(":")[0], dtype=torch.bfloat16)


def _noisy(part: "Tensor", spread: "Tensor", size: float) -> "Tensor":
    return part + size * spread * torch.randn_like(part) if part.is_floating_point() else part


def _spread(part: "Tensor") -> "Tensor":
    """Return the standard deviation by column; of images over all their numbers."""
    if not part.is_floating_point():
        return part.new_zeros(())
    return part.std(dim=0, correction=0) if part.ndim <= 2 else part.std(correction=0)


def _check_first(loss: "Tensor", task: Task, batch: Samples) -> None:
    """Check the very first loss, which no update has touched.

    Raises
    ------
    ModelError
        If it is no scalar, has no graph, or is not finite; then with the first layer that is not.
    """
    if loss.ndim:
        raise ModelError(
            f"The loss {task.loss_name} returns shape {tuple(loss.shape)}, and must be one number",
            remedy="Return its mean over the rows",
        )
    if not loss.requires_grad:
        raise ModelError(
            f"The loss {task.loss_name} does not depend on the parameters in a way that torch can differentiate",
            remedy="Compute it from the output with torch functions, without detach() and item()",
        )
    if isfinite(loss.item()):
        return
    where = _first_not_finite(task.module, batch)
    raise ModelError(
        f"The loss is {loss.item()} before the first update: {where}",
        remedy="Look at the first weights and at the loss for such outputs",
    )


def _first_not_finite(module: "nn.Module", batch: Samples) -> str:
    """Return where numbers first stop being finite: a weight, the output of a layer, or the loss itself."""
    for name, p in module.named_parameters():
        if not bool(p.isfinite().all()):
            return f"the weight {name} is not finite"
    found: list[str] = []

    def hook(name: str) -> "object":
        def look(_module: object, _inputs: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and not bool(output.isfinite().all()):
                found.append(name)

        return look

    hooks = [layer.register_forward_hook(hook(name)) for name, layer in module.named_modules() if name]  # pyright: ignore[reportArgumentType]  # a hook that returns nothing
    try:
        with torch.no_grad():
            module(*batch.inputs)
    finally:
        for one in hooks:
            one.remove()
    return (
        f"layer {found[0]} is the first whose output is not finite"
        if found
        else "the output is finite, the loss of it is not"
    )


# ---------------------------------------------------------------------------- states


def weights_of(module: "nn.Module") -> "dict[str, Tensor]":
    """Return a copy of all numbers of a module."""
    return {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}


def no_worse_than(start: "dict[str, Tensor]", task: Task, course: Course) -> Course:
    """Return the course of a training, which keeps its start where it diverged without coming below it.

    What an epoch's updates have done to the loss is seen one epoch later, when nothing may be left to see.
    """
    if course.ending != "diverged":
        return course
    rows = task.train if task.held is None else task.held
    kept = mean_loss(task, rows)
    _restore(task.module, start)
    if kept > mean_loss(task, rows) or not isfinite(kept):
        state = {name: tensor.cpu() for name, tensor in start.items()}
        return replace(course, best_epoch=0, state=state)
    _restore(task.module, course.state)
    return course


def _store(module: "nn.Module", kept: "dict[str, Tensor]") -> None:
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            _ = kept[name].copy_(tensor)


def _restore(module: "nn.Module", kept: "Mapping[str, Tensor]") -> None:
    _ = module.load_state_dict(kept)


class _Trail:
    """Notes the sizes of weights and gradients at some epochs, evenly on a log axis and at the end."""

    def __init__(self, module: "nn.Module", epochs: int) -> None:
        named = [(name, p) for name, p in module.named_parameters() if p.requires_grad and p.ndim > 1]
        self.named: list[tuple[str, nn.Parameter]] = named
        even = np.linspace(1, epochs, LOOKED_AT // 2)
        log = np.geomspace(1, max(epochs, 1), LOOKED_AT // 2)
        self.when: set[int] = {int(e) for e in np.rint(np.concatenate([even, log]))}
        self.rows: list[tuple[int, list[float], list[float]]] = []

    def note(self, epoch: int) -> None:
        """Note the sizes, between the backward pass and the step."""
        if epoch not in self.when or not self.named:
            return
        gradients = [_size(p.grad) for _, p in self.named]
        self.rows.append((epoch, gradients, [_size(p) for _, p in self.named]))

    def done(self) -> GradientTrail:
        """Return what was noted."""
        m, layers = len(self.rows), len(self.named)
        return GradientTrail(
            tuple([name for name, _ in self.named]),
            np.array([row[0] for row in self.rows], dtype=np.int64),
            np.array([row[1] for row in self.rows], dtype=np.float64).reshape(m, layers),
            np.array([row[2] for row in self.rows], dtype=np.float64).reshape(m, layers),
        )


def _size(tensor: "Tensor | None") -> float:
    """Return the root mean square of a tensor."""
    if tensor is None:
        return 0.0
    found = float(torch.linalg.vector_norm(tensor.detach().float()))
    return found / max(tensor.numel(), 1) ** 0.5 if found < inf else inf


def sentence(course: Course, planned: int) -> str:
    """Return why a training ended."""
    done = len(course.history.epoch)
    kept = f"; kept: epoch {course.best_epoch}" if course.best_epoch != done else ""
    words = {
        "epochs-done": f"All {count(done, 'epoch')} were done{kept}",
        "patience": f"Stopped after {count(done, 'epoch')}, as the validation loss no longer fell{kept}",
        "stopped": f"The callback stopped after {count(done, 'epoch')}{kept}",
        "interrupted": f"Interrupted after {count(done, 'epoch')} of {planned}{kept}",
        "diverged": f"The loss overflowed in epoch {done}{kept}",
    }
    return words[course.ending]
