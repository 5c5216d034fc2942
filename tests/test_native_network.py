"""Networks trained by machine code: the numbers of a loop written in torch, whatever the layers, losses and optimizers."""

import copy
import os
import re
import signal
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from threading import Timer

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

from gradfit.errors import DataError
from gradfit.learn.jobs import Constant, Job, train_members, train_network
from gradfit.learn.loop import train_torch
from gradfit.learn.native import flat_parameters, put_back, train_native
from gradfit.learn.optimizer import choice_of
from gradfit.learn.task import Plan, Samples, Task
from gradfit.solve.patience import Patience
from gradfit.trace.network import network_of
from gradfit.trace.optimizer import trace_optimizer

LOSSES = {
    "mse": nn.functional.mse_loss, "mae": nn.functional.l1_loss, "huber": nn.functional.huber_loss, "bce": nn.functional.binary_cross_entropy_with_logits,
    "cross-entropy": nn.functional.cross_entropy, "poisson": nn.functional.poisson_nll_loss,
}  # fmt: skip
ACTIVATIONS = [
    nn.ReLU(), nn.LeakyReLU(0.2), nn.ELU(0.8), nn.CELU(0.7), nn.SELU(), nn.GELU(), nn.GELU("tanh"), nn.SiLU(), nn.Tanh(),
    nn.Sigmoid(), nn.Softplus(), nn.Softplus(2.0, 1.0), nn.Hardtanh(-0.5, 0.7), nn.ReLU6(), nn.Mish(), nn.Hardswish(),
    nn.Hardsigmoid(), nn.Softsign(), nn.Tanhshrink(), nn.LogSigmoid(), nn.Identity(),
]  # fmt: skip
SOLVERS = [
    ("SGD", {}), ("SGD", {"momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}), ("Adam", {}), ("Adam", {"amsgrad": True}),
    ("AdamW", {"weight_decay": 0.1}), ("RMSprop", {"centered": True, "momentum": 0.5}), ("Adagrad", {}), ("Adadelta", {}),
    ("NAdam", {}), ("RAdam", {}), ("Adamax", {}), ("ASGD", {}), ("Rprop", {}),
]  # fmt: skip


def dense(*sizes, activation=None, dtype=torch.float64, seed=1):
    """Dense layers with an activation between them."""
    torch.manual_seed(seed)
    layers = []
    for inputs, outputs in pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), copy.deepcopy(activation or nn.Tanh())]
    return nn.Sequential(*layers[:-1]).to(dtype)


def rows(module, loss, n, *, seed=0):
    """Inputs and targets of the kind that a loss is for."""
    draw = torch.Generator().manual_seed(seed)
    first = next(module.parameters())
    inputs = next(m.in_features for m in module.modules() if isinstance(m, nn.Linear))
    X = torch.randn(n, inputs, generator=draw, dtype=torch.float64)
    outputs = module(X[:2].to(first.dtype)).shape[1]
    z = torch.sin(2 * X.sum(1)) + 0.3 * torch.randn(n, generator=draw, dtype=torch.float64)
    if loss == "cross-entropy":
        return X.to(first.dtype), (2 * z).round().long().clamp(0, outputs - 1)
    Y = {"bce": (z > 0).double(), "poisson": torch.poisson(torch.exp(z), generator=draw)}.get(loss, z)
    return X.to(first.dtype), Y[:, None].expand(n, outputs).to(first.dtype).contiguous()


def task(
    module, loss="mse", solver="Adam", *, n=120, held=40, lr=0.01, options=None, epochs=100, batch=50, **plan
):
    """A training of a copy of a module."""
    module = copy.deepcopy(module)
    X, Y = rows(module, loss, n + held)
    plan = Plan(epochs, batch, precision="float64", seed=4, **plan)
    choice = choice_of(solver, lr, options or {}, module)
    kept = Samples((X[n:],), Y[n:]) if held else None
    return Task(module, Samples((X[:n],), Y[:n]), kept, LOSSES[loss], loss, choice, plan)


def vector(module):
    return torch.cat([p.detach().reshape(-1) for p in module.parameters()]).numpy()


def by_hand(one):
    """The parameters and the losses of the loop as one writes it."""
    module, plan = one.module, one.plan
    optimizer = one.choice.make([p for p in module.parameters() if p.requires_grad])
    shuffle = torch.Generator().manual_seed(plan.seed)
    losses, checks = [], []
    for _ in range(plan.epochs):
        n, total = one.train.n, 0.0
        order = torch.randperm(n, generator=shuffle) if plan.batch_size < n else torch.arange(n)
        for part in torch.split(order, plan.batch_size):
            optimizer.zero_grad()
            loss = one.loss(module(one.train.inputs[0][part]), one.train.target[part])
            loss.backward()
            if plan.clip is not None:
                nn.utils.clip_grad_norm_(module.parameters(), plan.clip)
            optimizer.step()
            total += loss.item() * len(part) / n
        losses.append(total)
        with torch.no_grad():
            checks += (
                [] if one.held is None else [one.loss(module(one.held.inputs[0]), one.held.target).item()]
            )
    return vector(module), losses, checks


def agree(make, *, relative=1e-10):
    """Both ways of a task end at the same parameters, after the same losses."""
    hand, code = make(), make()
    code = replace(code, plan=replace(code.plan, patience=Patience(stop="last")))
    parameters, losses, checks = by_hand(hand)
    course = train_native(code, "native")
    assert not isinstance(course, str), course
    assert course.executor == "native"
    assert course.ending == "epochs-done"
    assert np.abs(vector(code.module) - parameters).max() <= relative * np.abs(parameters).max()
    assert_allclose(course.history.train, losses, rtol=relative)
    if checks:
        assert_allclose(course.history.validation, checks, rtol=relative)


# ---------------------------------------------------------------------------- the same numbers


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_activations(activation):
    agree(lambda: task(dense(3, 10, 7, 2, activation=activation)))


@pytest.mark.parametrize(("solver", "options"), SOLVERS, ids=str)
def test_optimizers(solver, options):
    agree(lambda: task(dense(3, 9, 1), solver=solver, options=options))


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("outputs", [1, 3])
def test_losses(loss, outputs):
    agree(lambda: task(dense(3, 9, outputs), loss, epochs=40))


@pytest.mark.parametrize("batch", [1, 7, 64, 119, 120, 10**6])
def test_batches(batch):
    agree(lambda: task(dense(3, 9, 5, 1), batch=batch, epochs=12))


def test_many_chunks_in_an_update():
    agree(lambda: task(dense(2, 40, 40, 1), n=5000, batch=3500, epochs=4))


def test_clipped_gradients():
    agree(lambda: task(dense(3, 9, 1), solver="SGD", lr=0.5, clip=0.05))


@pytest.mark.parametrize(
    ("scheduler", "given"),
    [
        ("StepLR", {"step_size": 3}),
        ("CosineAnnealingLR", {"T_max": 30}),
        ("ReduceLROnPlateau", {"patience": 1}),
    ],
)
def test_schedulers(scheduler, given):
    make = lambda: task(dense(3, 9, 1), scheduler=scheduler, scheduler_settings=given, epochs=30)  # noqa: E731  made twice
    eager, code = make(), make()
    wanted, course = train_torch(eager), train_native(code, "native")
    assert_allclose(course.history.lr, wanted.history.lr)
    assert len(set(course.history.lr)) > 1
    assert_allclose(vector(code.module), vector(eager.module), rtol=1e-10)


@pytest.mark.parametrize("epochs", [1, 3])
def test_single_precision_in_steps(epochs):
    net = dense(3, 16, 1, dtype=torch.float32)
    agree(lambda: task(net, epochs=epochs, n=200, batch=200), relative=1e-5)


class Functional(nn.Module):
    """Layers used twice, activations by functions, an output without an axis of its own."""

    def __init__(self, seed=2):
        super().__init__()
        torch.manual_seed(seed)
        self.inner, self.twice, self.last = nn.Linear(3, 5), nn.Linear(5, 5, bias=False), nn.Linear(5, 1)

    def forward(self, x):
        x = nn.functional.leaky_relu(self.inner(x), 0.2)
        x = torch.sin(self.twice(nn.functional.elu(self.twice(x))))
        return self.last(x.view(len(x), 5))


def frozen(module, *names):
    for name, p in module.named_parameters():
        if name in names:
            _ = p.requires_grad_(False)
    return module


@pytest.mark.parametrize(
    "module",
    [
        Functional().double(),
        frozen(dense(3, 6, 5, 1), "0.bias", "2.weight"),
        frozen(dense(3, 6, 5, 1), "0.weight", "0.bias", "2.weight"),
        nn.Sequential(nn.Flatten(), nn.Sequential(nn.Linear(3, 4), nn.ReLU(inplace=True)), nn.Identity(), nn.Linear(4, 1)).double(),
        nn.Sequential(nn.Linear(3, 2), nn.Sigmoid()).double(),
        nn.Sequential(nn.Linear(3, 4, bias=False), nn.Tanh(), nn.Linear(4, 2, bias=False)).double(),
    ],
    ids=["shared", "frozen", "frozen below", "nested", "activation at the end", "no biases"],
)  # fmt: skip
def test_modules_as_people_write_them(module):
    agree(lambda: task(module, solver="AdamW", options={"weight_decay": 0.1}))


@given(
    sizes=st.lists(st.integers(1, 21), min_size=2, max_size=5),
    n=st.integers(1, 70),
    loss=st.sampled_from(["mse", "bce", "cross-entropy"]),
)
@settings(max_examples=40)
def test_one_step_follows_the_gradient_of_autograd(sizes, n, loss):
    one = task(dense(*sizes), loss, "SGD", n=n, held=0, lr=1.0, epochs=1, batch=n)
    start = vector(one.module)
    one.loss(one.module(one.train.inputs[0]), one.train.target).backward()
    wanted = torch.cat([p.grad.reshape(-1) for p in one.module.parameters()]).numpy()
    assert not isinstance(train_native(one, "native"), str)
    assert_allclose(start - vector(one.module), wanted, rtol=1e-9, atol=1e-13)


# ---------------------------------------------------------------------------- threads and members


def job(module, loss="mse", n=900, **given):
    """A training as the machine code takes it, and its start."""
    X, Y = rows(module, loss, n)
    network = network_of(module, X.shape[1], loss)
    step = trace_optimizer(lambda leaf: torch.optim.Adam([leaf], lr=0.01), 3)
    given = {"epochs": 20, "rates": lambda: Constant(0.01)} | given
    return Job(network, step, X.numpy(), Y.numpy(), **given), flat_parameters(network, module)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("batch", [None, 700])
def test_bits_do_not_depend_on_threads(dtype, batch):
    module = dense(2, 60, 60, 1, dtype=dtype)
    X, Y = (t.numpy() for t in rows(module, "mse", 50, seed=3))
    one, start = job(module, batch_size=batch, held=(X, Y))
    alone, shared = (train_network(one, start, threads=threads) for threads in (1, 2))
    assert_array_equal(alone.last, shared.last)
    assert_array_equal(alone.train, shared.train)
    assert_array_equal(alone.validation, shared.validation)


def test_members_have_the_numbers_that_they_have_alone():
    modules = [dense(2, *hidden, 1, seed=seed) for seed, hidden in enumerate([(8,), (8,), (5, 6), (12, 3)])]
    jobs, starts = zip(*[job(module, n=100, batch_size=32) for module in modules], strict=True)
    together = train_members(jobs, starts, threads=2)
    for one, start, member in zip(jobs, starts, together, strict=True):
        assert_array_equal(member.last, train_network(one, start).last)
        assert member.epochs == 20
    assert not np.array_equal(together[0].last, together[1].last)


def test_other_sizes_and_depths_compile_nothing():
    one, start = job(dense(2, 8, 1))
    _ = train_network(one, start)
    kept = lambda: {str(p) for p in Path(os.environ["GRADFIT_CACHE"]).rglob("*") if "native" in str(p)}  # noqa: E731
    before = kept()
    assert before
    for sizes in [(2, 3, 1), (5, 17, 18, 19, 4), (1, 1, 1)]:
        other, start = job(dense(*sizes))
        assert train_network(other, start).epochs == 20
    assert kept() == before


# ---------------------------------------------------------------------------- weights, validation, ends


def test_weights_count_rows_and_leave_rows_out():
    module = dense(3, 7, 1)
    plain, start = job(module, n=40)
    twice = np.arange(40) % 4 != 0
    copies = np.repeat(np.arange(40), np.where(twice, 2, 0))
    X, Y = plain.X.copy(), plain.Y.copy()
    X[~twice], Y[~twice] = 1e6, np.nan
    weighted = replace(plain, X=X, Y=Y, weights=np.where(twice, 40 / twice.sum(), 0.0))
    doubled = replace(plain, X=plain.X[copies], Y=plain.Y[copies])
    a, b = (train_network(one, start) for one in (weighted, doubled))
    assert_allclose(a.last, b.last, rtol=1e-9)
    assert_allclose(a.train, b.train, rtol=1e-9)


def test_patience_ends_it_and_the_best_weights_come_back():
    make = lambda: task(dense(3, 40, 1), lr=0.05, epochs=300, patience=Patience(7, min_delta=1e-3))  # noqa: E731  made twice
    eager, code = make(), make()
    wanted, course = train_torch(eager), train_native(code, "native")
    assert (course.ending, course.best_epoch) == ("patience", wanted.best_epoch)
    assert len(course.history.epoch) == len(wanted.history.epoch) < 300
    assert_allclose(vector(code.module), vector(eager.module), rtol=1e-9)
    assert course.history.validation[course.best_epoch - 1] == course.history.validation.min()
    assert_allclose(course.trail.gradient, wanted.trail.gradient, rtol=1e-5)
    assert_allclose(course.trail.weight, wanted.trail.weight, rtol=1e-5)
    assert course.trail.layers == wanted.trail.layers


def test_validation_has_no_part_in_training():
    one, start = job(dense(3, 7, 1))
    other = replace(one, held=(one.X[:5], one.Y[:5] * 1e3))
    assert_array_equal(train_network(one, start).last, train_network(other, start).last)


def test_a_loss_that_is_no_number_is_never_progress():
    one, start = job(dense(3, 7, 1), held=(np.full((4, 3), np.nan), np.zeros((4, 1))), patience=Patience(5))
    trained = train_network(one, start)
    assert (trained.ending, trained.best_epoch, trained.epochs) == ("patience", 0, 5)
    assert_array_equal(trained.best, start)


def test_a_run_that_diverges_keeps_its_best():
    one, start = job(dense(3, 7, 1, activation=nn.ReLU()), rates=lambda: Constant(1e200))
    trained = train_network(one, start)
    assert trained.ending == "diverged"
    assert trained.epochs < 20
    assert np.isfinite(trained.best).all()


def test_a_callback_sees_every_epoch_and_stops():
    seen = []
    one, start = job(dense(3, 7, 1))
    trained = train_network(one, start, callback=lambda now: seen.append(now) or now.epochs == 4)
    assert [now.epochs for now in seen] == [1, 2, 3, 4]
    assert [now.loss for now in seen] == trained.train.tolist()
    assert trained.ending == "stopped"


def test_an_interrupt_leaves_what_was_done():
    def tell(now):
        if now.epochs == 3:
            raise KeyboardInterrupt

    one, start = job(dense(3, 7, 1))
    trained = train_network(one, start, callback=tell)
    assert (trained.ending, trained.epochs) == ("interrupted", 3)
    assert_array_equal(trained.last, train_network(replace(one, epochs=3), start).last)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_interrupt_at_any_time_tells_what_was_done(threads):
    one, start = job(dense(2, 60, 60, 1), epochs=10**6)
    timer = Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    trained = train_network(one, start, threads=threads)
    timer.join()
    assert trained.ending == "interrupted"
    assert 0 < trained.epochs < 10**6
    assert trained.best_epoch <= trained.epochs
    again = train_network(replace(one, epochs=trained.epochs), start)
    assert_array_equal(again.train, trained.train)
    assert_array_equal(again.last, trained.last)


# ---------------------------------------------------------------------------- which way


class Branch(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x):
        return x + self.inner(x)


class Looks(Branch):
    def forward(self, x):
        return self.inner(x) if x[0, 0].item() > 0 else x


class Counts(Branch):
    def forward(self, x):
        y = self.inner(x)
        return y if len(x) == 3 else torch.tanh(y)


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1)), "batch_norm mixes rows"),
        (nn.Sequential(nn.Linear(3, 4), nn.Dropout(0.1), nn.Linear(4, 1)), "dropout is random"),
        (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Linear(4, 1)), "it calls layer_norm, which the compiled loop has not"),
        (nn.Sequential(nn.Linear(3, 4), nn.Softmax(-1)), "softmax is no activation of single numbers"),
        (nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Tanh()), "tanh does not follow a dense layer"),
        (nn.Sequential(nn.Linear(2, 4)), "it cannot be called with one tensor of rows"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(3, 1)), "a layer's weights are computed"),
        (nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 1).double()), "it cannot be called with one tensor of rows"),
        (nn.Linear(3, 2, dtype=torch.bfloat16), "all float32 or all float64"),
        (frozen(nn.Sequential(nn.Linear(3, 1)), "0.weight", "0.bias"), "none of its parameters is trained"),
        (Branch(), "its layers branch: add takes an earlier value"),
        (Looks(), "it calls __getitem__, which the compiled loop has not"),
        (Counts(), "what it computes depends on the number of rows"),
        (nn.LSTM(3, 2), "what it returns is not the output of a dense layer"),
        (nn.Tanh(), "tanh does not follow a dense layer"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else "",
)  # fmt: skip
def test_what_is_no_row_of_dense_layers_says_why(module, reason):
    found = network_of(module, 3, "mse")
    assert isinstance(found, str)
    assert reason in found


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"solver": "Adafactor"}, "Adafactor looks at all numbers of a tensor at once"),
        ({"solver": "LBFGS"}, "LBFGS computes the loss several times in each step"),
        ({"noise": 0.1}, "the compiled loop has no noise and mixes no rows"),
        ({"scheduler": "OneCycleLR", "scheduler_settings": {"max_lr": 0.1, "total_steps": 100}}, "the scheduler changes betas too"),
    ],
    ids=["sums", "closure", "noise", "momentum"],
)  # fmt: skip
def test_what_only_torch_can_says_why_and_touches_nothing(change, reason):
    one = task(dense(3, 4, 1), **change)
    before = vector(one.module)
    assert train_native(one, "native") == reason
    assert_array_equal(vector(one.module), before)


def test_short_trainings_do_not_wait_for_a_compiler():
    one = task(dense(3, 4, 1), epochs=10, batch=1000)
    assert train_native(one, "auto") == "10 updates would take longer to compile"
    assert train_native(one, "torch") == 'executor="torch" was asked for'


def test_looking_at_a_module_leaves_it_as_it_was():
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    _ = module[1].eval()
    before, modes = copy.deepcopy(module.state_dict()), [part.training for part in module.modules()]
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    assert isinstance(network_of(module, 3, "mse"), str)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert [part.training for part in module.modules()] == modes
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
    assert all(p.grad is None for p in module.parameters())


def test_parameters_go_out_and_back():
    module = frozen(dense(3, 5, 4, 2), "0.weight")
    network = network_of(module, 3, "mse")
    before = copy.deepcopy(module.state_dict())
    flat = flat_parameters(network, module)
    put_back(network, module, flat + 1)
    assert all(torch.equal(tensor, before[name] + 1) for name, tensor in module.state_dict().items())


def test_a_start_of_another_length_is_refused():
    one, start = job(dense(3, 4, 1), n=5)
    with pytest.raises(
        DataError, match=re.escape("The start has shape (20,), and the network 21 parameters")
    ):
        _ = train_network(one, start[:20])


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"X": np.zeros((5, 2))}, "The inputs have shape (5, 2), and the network takes (n, 3)"),
        (
            {"X": np.zeros((0, 3)), "Y": np.zeros(0)},
            "The inputs have shape (0, 3), and the network takes (n, 3)",
        ),
        ({"Y": np.zeros((4, 1))}, "The targets have shape (4, 1), and the network gives (5, 1)"),
        ({"Y": np.array([0, 1, 2, 3, 1])}, "The targets hold numbers that are no class"),
        ({"weights": np.ones(3)}, "The weights have shape (3,) for 5 rows"),
        (
            {"held": (np.zeros((2, 3)), np.zeros(3))},
            "The held targets have shape (3,), and the network gives (2, 1)",
        ),
    ],
)
def test_rows_of_another_form_are_refused(change, sentence):
    with pytest.raises(DataError, match=re.escape(sentence)):
        _ = replace(job(dense(3, 4, 3), "cross-entropy", n=5)[0], **change)
