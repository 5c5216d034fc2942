"""The fit of a network, from data and a module to a result: rows, split, encoding, module, training, measures."""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from gradfit._lazy import torch
from gradfit.errors import ModelError, OptionError
from gradfit.learn.asked import Asked, asked_of, device_of
from gradfit.learn.build import built, copied, dtype_of, is_module
from gradfit.learn.choosing import train_members
from gradfit.learn.encoding import Encoding, encoding_of
from gradfit.learn.findings import examined
from gradfit.learn.kept import keeping
from gradfit.learn.loop import few_threads, mean_loss, own_random_state, sentence
from gradfit.learn.optimizer import choice_of
from gradfit.learn.parts import Columns, Shares, columns_of, folds, gathered, parts_of, shares_of, usable
from gradfit.learn.rate import with_rate
from gradfit.learn.result import Held, NetworkResult, Part, measured, no_values
from gradfit.learn.rows import Rows, rows_of
from gradfit.learn.shapes import output_shape, target_shape
from gradfit.learn.shrinking import shrinking
from gradfit.learn.spec import NetworkFormula, NetworkSpec, network_formula
from gradfit.learn.target import Criterion, Target, target_of
from gradfit.learn.task import Choice, Course, Plan, Samples, Task
from gradfit.notation import count, listing

if TYPE_CHECKING:
    from torch import nn  # noqa: TID251  only the names of types

FULL = 1024  # rows up to which all are used for each update
BATCH = 128
EPOCHS = 1000
UPDATES = 20_000  # at most, where the number of epochs is ours to choose
ENOUGH = 2  # rows to find out what a module returns
NUMBERS = 50_000_000  # of rows, in trainings that are made at a time: half a gigabyte of them
RATE = 0.01  # of the networks built here, whose numbers are standardised


@dataclass(frozen=True, eq=False)
class Model:
    """What is to be trained.

    Attributes
    ----------
    spec : NetworkSpec, optional
        Of a network to be built.
    given : torch.nn.Module, optional
        The caller's own.
    named : Columns
        The columns that a formula names.
    text : str
        The formula, or nothing.
    """

    spec: NetworkSpec | None
    given: "nn.Module | None"
    named: Columns
    text: str


def is_network(model: object) -> bool:
    """Whether `fit` should train a network: for a module, a network(), or a formula with one."""
    if isinstance(model, str):
        return "~" in model and network_formula(model) is not None
    return isinstance(model, NetworkSpec | NetworkFormula) or is_module(model)


def _model_of(model: Any) -> Model:
    if isinstance(model, type):
        raise OptionError(
            f"{model.__name__} is a class", remedy=f"Give an instance of it: {model.__name__}(...)"
        )
    if is_module(model):
        return Model(None, model, Columns((), ()), "")
    if isinstance(model, NetworkSpec):
        return Model(model, None, Columns((), ()), "")
    formula = model if isinstance(model, NetworkFormula) else network_formula(model)
    assert formula is not None  # noqa: S101  is_network has looked
    return Model(formula.spec, None, Columns(formula.inputs, formula.targets), formula.text)


def fit_network(model: object, data: object, told: Mapping[str, Any]) -> NetworkResult:
    """Return a trained network: losses, measures, predictions, findings and a verdict.

    A module that is handed over is copied, and the copy is trained; the given one stays as it is, bit for bit.

    Parameters
    ----------
    model : torch.nn.Module, NetworkSpec, NetworkFormula or str
        A module of the caller's, or network(), alone or in a formula.
    data : path, mapping of arrays or tensors, data frame, folder of images
        Whatever `gradfit.read` takes, and arrays with more axes.
    told : mapping of str to object
        The arguments of `fit`.

    Raises
    ------
    GradfitError
        If data, module, loss and options do not go together; the sentence says which.
    """
    asked, kind = asked_of(told), _model_of(model)
    with own_random_state(asked.seed), torch.inference_mode(mode=False), torch.enable_grad():
        given = _given(kind, data, asked, told)
        return _trained([given])[0] if asked.kfold is None else _by_folds(given)


def fit_networks(
    models: Sequence[object], data: object, told: Sequence[Mapping[str, Any]], *, share: float = 1.0
) -> list[NetworkResult]:
    """Return several networks trained on the same data, on all cores; each has the numbers that it has alone.

    Parameters
    ----------
    models, data, told
        As in `fit_network`, with arguments for each model.
    share : float
        Of all that is to be trained with the same code: whether it saves time to compile is decided by the whole.

    Raises
    ------
    GradfitError
        As there.
    KeyboardInterrupt
        At Ctrl-C, if they are several.
    """
    made: list[NetworkResult] = []
    with own_random_state(0), torch.inference_mode(mode=False), torch.enable_grad():
        for part in _parts(len(models), rows_of(data)):
            given = [
                _given(_model_of(m), data, asked_of(t), t)
                for m, t in zip(models[part], told[part], strict=True)
            ]
            made += _trained(given, share=share * len(given) / len(models))
    return made


def _parts(members: int, rows: Rows) -> Iterator[slice]:
    """Yield which members are trained at a time: as many as there is memory for."""
    several = max(1, NUMBERS // max(1, rows.n * len(rows.names)))
    yield from (slice(first, first + several) for first in range(0, members, several))


@dataclass(frozen=True, eq=False)
class Given:
    """What is to be trained, on which rows, and what was asked.

    Attributes
    ----------
    kind : Model
        The model.
    shares : Shares
        The rows.
    columns : Columns
        What goes in, and what is to be predicted.
    asked : Asked
        The checked arguments, and `told` as they were given.
    n_read : int
        Rows that were read.
    """

    kind: Model
    shares: Shares
    columns: Columns
    asked: Asked
    told: Mapping[str, Any]
    n_read: int


def _given(kind: Model, data: object, asked: Asked, told: Mapping[str, Any]) -> Given:
    rows = gathered(data, asked)
    n_read = rows.n
    columns = columns_of(rows, asked, kind.named)
    rows = usable(rows, columns, asked.missing)
    return Given(kind, shares_of(rows, columns, asked), columns, asked, told, n_read)


# ---------------------------------------------------------------------------- made ready


@dataclass(frozen=True, eq=False)
class Ready:
    """A training that can begin.

    Attributes
    ----------
    task : Task
        The training.
    encoding : Encoding
        From columns to tensors.
    criterion : Criterion
        The loss.
    train, held : Part
        The rows.
    how : tuple of str
        What was chosen.
    """

    task: Task
    encoding: Encoding
    criterion: Criterion
    train: Part
    held: Part | None
    how: tuple[str, ...]


def _ready(given: Given) -> Ready:
    """Return the training of some rows, made ready."""
    kind, shares, columns, asked = given.kind, given.shares, given.columns, given.asked
    device, precision = device_of(asked.device), asked.precision or asked.dtype
    network, encoding, target, criterion = _network(kind, shares, columns, asked)
    title = type(kind.given).__name__ if kind.given is not None else "The network"
    held_rows = parts_of(shares, target)
    dtype = dtype_of(network)
    shape = output_shape(
        network, encoding.tensors(held_rows[0].rows.keep(np.arange(held_rows[0].n) < ENOUGH), dtype)
    )
    wanted = target_shape(shape, target, title)
    samples = [
        None if part is None else _samples(part, encoding, wanted, dtype).to(device) for part in held_rows
    ]
    train_samples = samples[0]
    assert train_samples is not None  # noqa: S101  parts_of has a training part
    network = network.to(device)
    choice, told = _choice(asked, kind, network)
    plan, planned = _plan(asked, train_samples.n, device, precision or str(dtype).removeprefix("torch."))
    task = Task(
        network,
        train_samples,
        samples[1],
        criterion.function,
        criterion.name,
        choice,
        plan,
        asked.callback,
        shrinking(asked.penalty),
    )
    said = [
        criterion.why and f"The loss was chosen: {criterion.why}",
        told,
        planned,
        plan.patience.longer_than(plan.epochs),
    ]
    return Ready(task, encoding, criterion, *held_rows, tuple([one for one in said if one]))


def _network(
    kind: Model, shares: Shares, columns: Columns, asked: Asked
) -> "tuple[nn.Module, Encoding, Target, Criterion]":
    """Return the module to train, with what belongs to it: the encoding of its inputs, its target and its loss."""
    rows, precision = shares.rows, asked.precision or asked.dtype
    if kind.spec is not None:
        target, criterion = target_of(rows, columns.targets, asked.loss, None)
        encoding = encoding_of(
            rows, columns.inputs, target, shares.train, scale=True, categories=kind.spec.categories,
            flat=True,
        )  # fmt: skip
        outputs = len(target.levels) if target.aim == "classes" else int(np.prod(target.values.shape[1:]))
        dtype = torch.float64 if precision == "float64" else torch.float32
        return built(kind.spec, encoding, outputs, seed=asked.seed, dtype=dtype), encoding, target, criterion
    assert kind.given is not None  # noqa: S101  one of the two is there
    network = copied(kind.given).to("cpu")
    if precision is not None:
        network = network.to(torch.float64 if precision == "float64" else torch.float32)
    shape, whole = _tried(network, shares, columns)
    target, criterion = target_of(rows, columns.targets, asked.loss, shape[0] if shape else 1)
    encoding = encoding_of(
        rows, columns.inputs, target, shares.train, scale=asked.scale == "auto", categories="one-hot", flat=False,
        whole=whole,
    )  # fmt: skip
    return network, encoding, target, criterion


def _tried(network: "nn.Module", shares: Shares, columns: Columns) -> tuple[tuple[int, ...], frozenset[str]]:
    """Return the shape of a row's output, and the inputs that the caller's module wants as whole numbers.

    Raises
    ------
    ModelError
        If it can be called neither with numbers nor with whole numbers, where the columns hold such.
    """
    rows = shares.rows.keep(np.arange(shares.rows.n) < ENOUGH)
    plain = Target(columns.targets, "counts", (), np.zeros(shares.rows.n))
    integral = frozenset([name for name in columns.inputs if _integral(shares.rows.column(name))])
    embeds = any(isinstance(layer, torch.nn.Embedding | torch.nn.EmbeddingBag) for layer in network.modules())
    ways = [integral, frozenset[str]()] if embeds else [frozenset[str](), integral]
    first: ModelError | None = None
    for whole in ways if integral else [frozenset[str]()]:
        encoding = encoding_of(
            shares.rows,
            columns.inputs,
            plain,
            shares.train,
            scale=False,
            categories="one-hot",
            flat=False,
            whole=whole,
        )
        try:
            return output_shape(network, encoding.tensors(rows, dtype_of(network))), whole
        except ModelError as refused:
            first = first or refused
    raise first or ModelError("The module cannot be called")


def _integral(values: "np.ndarray[Any, np.dtype[Any]]") -> bool:
    return values.dtype.kind in "iu" or bool((values == np.rint(values)).all())


def _samples(part: Part, encoding: Encoding, shape: tuple[int, ...], dtype: "torch.dtype") -> Samples:
    places = np.arange(part.n)
    target = encoding.target_tensor(part.target, places, dtype)
    return Samples(encoding.tensors(part.rows, dtype), target.reshape(part.n, *shape))


def _choice(asked: Asked, kind: Model, network: "nn.Module") -> tuple[Choice, str]:
    """Return the optimizer, and a sentence where it was not asked for."""
    default = isinstance(asked.solver, str) and asked.solver.lower() == "lm"
    lr = asked.lr if isinstance(asked.lr, int | float) else None
    if lr is None and default and kind.spec is not None:
        lr = RATE
    choice = choice_of("Adam" if default else asked.solver, lr, asked.settings, network)
    told = f"The optimizer was chosen: {choice.name} with lr {choice.lr:g}" if default else ""
    decay = float(choice.settings.get("weight_decay", 0.0) or 0.0)  # pyright: ignore[reportArgumentType]  # the optimizer has taken it
    if decay and choice.of_torch:
        decoupled = choice.name in ("AdamW", "Muon") or bool(choice.settings.get("decoupled_weight_decay"))
        kind_of = "decoupled from the gradient" if decoupled else "an L2 term in the gradient"
        told = " ".join([told, f"weight_decay={decay:g} of {choice.name} is {kind_of}"]).strip()
    return choice, told


def _plan(asked: Asked, n: int, device: str, precision: str) -> tuple[Plan, str]:
    """Return how to train, and a sentence on what was chosen."""
    size = n if n <= FULL else BATCH
    size = min(int(asked.batch_size), n) if asked.batch_size is not None else size
    updates = -(-n // size)
    epochs = int(asked.epochs) if asked.epochs is not None else max(10, min(EPOCHS, UPDATES // updates))
    plan = Plan(
        epochs, size, asked.scheduler, asked.scheduler_settings, asked.clip, asked.noise or 0.0, asked.mixup or 0.0,
        asked.waiting, precision, device, asked.seed,
    )  # fmt: skip
    rows = "all rows at once" if size >= n else f"batches of {count(size, 'row')}"
    chosen = [f"{count(epochs, 'epoch')}"] if asked.epochs is None else []
    chosen += [rows] if asked.batch_size is None else []
    return plan, f"Training was planned with {listing(chosen)}" if chosen else ""


# ---------------------------------------------------------------------------- trained


def _trained(given: Sequence[Given], *, share: float = 1.0) -> list[NetworkResult]:
    """Return the results of trainings that are asked for in the same way."""
    ready = [_ready(one) for one in given]
    began, asked = time.perf_counter(), given[0].asked
    rated = [with_rate(one.task, asked.executor) if asked.lr == "auto" else (one.task, "") for one in ready]
    tasks = [task for task, _ in rated]
    keepings = [keeping(task, one.asked) for task, one in zip(tasks, given, strict=True)]
    courses = train_members(tasks, asked.executor, keepings, share=share)
    seconds = (time.perf_counter() - began) / len(given)
    with few_threads(tasks[0]):
        return [
            _result(
                one, replace(made, task=task, how=(*made.how, *([found] if found else []))), course, seconds
            )
            for one, made, (task, found), course in zip(given, ready, rated, courses, strict=True)
        ]


def _result(given: Given, ready: Ready, course: Course, seconds: float) -> NetworkResult:
    """Return the result of a training."""
    task, shares = ready.task, given.shares
    loss = mean_loss(task, task.train)
    held_loss = None if task.held is None else mean_loss(task, task.held)
    notes = (*ready.how, course.how, *ready.train.rows.table.notes)
    result = NetworkResult(
        network=task.module.to("cpu").eval(), spec=given.kind.spec, formula=_title(given.kind, ready), encoding=ready.encoding,
        target=no_values(ready.train.target), loss_name=ready.criterion.name, plain=ready.criterion.plain, history=course.history,
        best_epoch=course.best_epoch, ending=course.ending, message=sentence(course, task.plan.epochs), loss=loss,
        metrics={}, validation=None, solver=task.choice.name, device=task.plan.device, executor=course.executor,
        how=notes, n=ready.train.n, n_read=given.n_read, source=shares.rows.source, seconds=seconds, settings=given.told,
        trail=course.trail, examine=examined(task), train=ready.train, held=ready.held,
    )  # fmt: skip
    validation = None
    if ready.held is not None and held_loss is not None:
        validation = Held(ready.held.n, held_loss, measured(result, ready.held), shares.how)
    return replace(result, metrics=measured(result, ready.train), validation=validation)


def _title(kind: Model, ready: Ready) -> str:
    if kind.text:
        return kind.text
    inputs = ", ".join(ready.encoding.names)
    if kind.spec is not None:
        return f"{', '.join(ready.train.target.names)} ~ {kind.spec.text.replace('network(', f'network({inputs}, ')}"
    return f"{', '.join(ready.train.target.names)} ~ {type(kind.given).__name__}({inputs})"


def _by_folds(given: Given) -> NetworkResult:
    """Return the network trained on all rows for as many epochs as were best in the folds, with the folds' losses."""
    shares = given.shares
    splits = folds(shares.rows, given.columns, given.asked)
    parts = [Shares(shares.rows, split.train, split.held, None, split.how) for split in splits]
    made: list[NetworkResult] = []
    for part in _parts(len(parts), shares.rows):
        some = [replace(given, shares=one) for one in parts[part]]
        made += _trained(some, share=len(some) / (len(parts) + 1))  # and once more on all rows
    losses = np.array([fold.validation.loss for fold in made if fold.validation is not None])
    best = max(1, int(np.median([fold.best_epoch for fold in made])))
    whole = replace(given.asked, kfold=None, validation=None, patience=None, epochs=best)
    if all(fold.executor == "native" for fold in made):
        whole = replace(whole, executor="native")  # the code is there
    every = Shares(shares.rows, np.arange(shares.rows.n), shares.held, None, "")
    result = _trained([replace(given, shares=every, asked=whole)])[0]
    metrics = {
        name: float(np.mean([fold.validation.metrics[name] for fold in made if fold.validation is not None]))
        for name in result.metrics
    }
    stderr = float(losses.std(ddof=1) / np.sqrt(len(losses)))
    how = f"{len(made)} folds, each held out once"
    held = Held(result.n, float(losses.mean()), metrics, how, tuple(losses.tolist()), stderr)
    said = f"Trained on all rows for {count(best, 'epoch')}, the median of the folds' best"
    return replace(result, validation=held, how=(said, *result.how))
