"""fit() of networks: torch's numbers step by step, seeds, validation, what is left untouched."""

import copy

import networks
import numpy as np
import pytest
import torch

import gradfit
from gradfit import DataError, OptionError

DATA = networks.wave()
X = torch.tensor(np.column_stack([DATA["a"], DATA["b"]]))
TORCH = {"inputs": ["a", "b"], "target": "y", "executor": "tensor"}


# ---------------------------------------------------------------------------- a hand-written loop

WAYS = {
    "SGD, all rows": {"solver": "SGD", "lr": 0.05, "momentum": 0.9},
    "Adam, batches": {"solver": "Adam", "lr": 0.01, "batch_size": 32},
    "AdamW, clipped": {"solver": "AdamW", "lr": 0.02, "weight_decay": 0.1, "clip": 0.05, "batch_size": 50},
    "RMSprop, schedule": {
        "solver": torch.optim.RMSprop, "lr": 0.01, "scheduler": "StepLR", "scheduler_settings": {"step_size": 3, "gamma": 0.5},
    },
    "LBFGS": {"solver": "LBFGS", "lr": 0.5},
}  # fmt: skip


def by_hand(module, x, y, way, *, epochs, seed):
    """Train as a careful person writes it; return the losses."""
    own = {name: way[name] for name in ("lr", "momentum", "weight_decay") if name in way}
    kind = getattr(torch.optim, way["solver"]) if isinstance(way["solver"], str) else way["solver"]
    optimizer = kind(module.parameters(), **own)
    schedule = (
        torch.optim.lr_scheduler.StepLR(optimizer, **way["scheduler_settings"])
        if "scheduler" in way
        else None
    )
    shuffle, losses = torch.Generator().manual_seed(seed), []
    for _ in range(epochs):
        module.train()
        size = way.get("batch_size", len(y))
        batches = (
            torch.split(torch.randperm(len(y), generator=shuffle), size)
            if size < len(y)
            else [torch.arange(len(y))]
        )
        total = 0.0
        for rows in batches:
            first = []

            def closure(rows=rows, first=first):
                optimizer.zero_grad()
                loss = torch.nn.functional.mse_loss(module(x[rows]), y[rows])
                loss.backward()
                first.append(loss.item())
                if "clip" in way:
                    torch.nn.utils.clip_grad_norm_(module.parameters(), way["clip"])
                return loss

            if kind is torch.optim.LBFGS:
                optimizer.step(closure)
            else:
                closure()
                optimizer.step()
            total += first[0] * len(rows) / len(y)
        if schedule is not None:
            schedule.step()
        losses.append(total)
    return losses


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("name", WAYS)
def test_numbers_of_a_hand_written_loop(name, dtype):
    module, way = networks.dense().to(dtype), WAYS[name]
    result = gradfit.fit(module, DATA, **TORCH, **way, epochs=12, seed=3)
    own = copy.deepcopy(module)
    losses = by_hand(own, X.to(dtype), torch.tensor(DATA["y"], dtype=dtype)[:, None], way, epochs=12, seed=3)
    assert networks.same_bits(own, result.network)
    np.testing.assert_allclose(result.history.train, losses, rtol=1e-6)


def test_the_module_that_was_given_stays_as_it_is():
    module = networks.dense().eval()
    before, grads = copy.deepcopy(module), [p.grad for p in module.parameters()]
    result = gradfit.fit(module, DATA, **TORCH, epochs=5)
    assert networks.same_bits(module, before) and not module.training
    assert [p.grad for p in module.parameters()] == grads
    assert not networks.same_bits(result.module, before) and result.module is not module


def test_equal_seeds_give_equal_bits_and_torch_keeps_its_own_random_state():
    state = torch.get_rng_state()
    asked = {"epochs": 8, "batch_size": 16, "noise": 0.1, "mixup": 0.3, "validation": 0.2}
    formula = "y ~ network(a, b, hidden=[8, 8], dropout=0.2)"
    one, same, other = (gradfit.fit(formula, DATA, seed=seed, **asked) for seed in (4, 4, 5))
    assert torch.equal(torch.get_rng_state(), state)
    assert networks.same_bits(one.network, same.network) and not networks.same_bits(
        one.network, other.network
    )
    np.testing.assert_array_equal(one.history.validation, same.history.validation)


@pytest.mark.parametrize("off", [torch.no_grad, torch.inference_mode])
def test_a_caller_may_have_switched_gradients_off(off):
    with off():
        result = gradfit.fit("y ~ network(a, b, hidden=[4])", DATA, epochs=3, validation=0.2, batch_size=20)
        assert result.findings == () or result.verdict in ("trust", "caution")
    assert result.history.train[-1] < result.history.train[0]


@pytest.mark.parametrize(
    ("asked", "changes"),
    [
        ({"noise": 0.2}, True),
        ({"mixup": 0.4}, True),
        ({"penalty": "lasso:0.1"}, True),
        ({"noise": 0.0}, False),
    ],
)
def test_what_is_done_against_overfitting_changes_the_training(asked, changes):
    plain, told = (gradfit.fit(networks.dense(), DATA, **TORCH, epochs=4, **more) for more in ({}, asked))
    assert networks.same_bits(plain.network, told.network) is not changes


def test_a_lasso_makes_weights_small():
    free, held = (
        gradfit.fit(networks.dense(), DATA, **TORCH, solver="Adam", lr=0.01, epochs=150, penalty=penalty)
        for penalty in (None, "lasso:0.05")
    )
    sizes = [
        sum(float(p.detach().abs().sum()) for p in r.network.parameters() if p.ndim > 1) for r in (free, held)
    ]
    assert sizes[1] < 0.5 * sizes[0]


# ---------------------------------------------------------------------------- validation


def test_rows_held_out_are_never_trained_on_and_have_no_graph():
    flags, seen = np.arange(120) % 4 == 0, []

    class Watcher(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.line = torch.nn.Linear(2, 1)

        def forward(self, x):
            seen.append((self.training, torch.is_grad_enabled()))
            return self.line(x)

    module = Watcher()
    other = {**DATA, "y": np.where(flags, 1e3, DATA["y"]), "held": flags}
    asked = {**TORCH, "validation": "held", "epochs": 6, "stop": "last"}
    result = gradfit.fit(module, {**DATA, "held": flags}, **asked)
    assert (True, True) in seen and (False, False) in seen and (True, False) not in seen
    changed = gradfit.fit(module, other, **asked)
    assert networks.same_bits(result.network, changed.network)
    assert result.validation.n == 30 and result.n == 90
    assert changed.validation.loss > 1e5 > result.validation.loss


def test_standardising_uses_the_training_rows_alone_and_answers_in_the_users_units():
    data = {
        "x": np.r_[np.arange(50.0), 1e6],
        "y": np.r_[3e4 * np.arange(50.0) + 7e6, 0],
        "held": np.arange(51) == 50,
    }
    result = gradfit.fit(
        "y ~ network(x, hidden=[], activation=identity)",
        data,
        validation="held",
        epochs=400,
        lr=0.05,
        stop="last",
    )
    assert result.encoding.mean["x"] == pytest.approx(24.5)
    assert result.predict({"x": [10.0, 20.0]}).value == pytest.approx([7.3e6, 7.6e6], rel=1e-3)
    assert result.module(torch.tensor([[10.0]])).item() == pytest.approx(7.3e6, rel=1e-3)


@pytest.mark.parametrize(("stop", "kept"), [("best", "the lowest"), ("last", "the last")])
def test_best_and_last_state(stop, kept):
    states = []
    result = gradfit.fit(
        networks.dense(units=32), networks.wave(30), **TORCH, validation=0.4, solver="Adam", lr=0.05, epochs=150, stop=stop,
        callback=lambda epoch: states.append(epoch) and None,
    )  # fmt: skip
    lowest = int(np.argmin(result.history.validation)) + 1
    assert result.best_epoch == (lowest if kept == "the lowest" else 150)
    assert result.validation.loss == pytest.approx(result.history.validation[result.best_epoch - 1], rel=1e-5)
    assert [epoch.epoch for epoch in states] == list(range(1, 151)) and states[-1].best_epoch == lowest


def test_patience_ends_a_run_and_a_callback_can_too():
    asked = {**TORCH, "validation": 0.4, "solver": "Adam", "lr": 0.05, "epochs": 500}
    waited = gradfit.fit(networks.dense(units=32), networks.wave(30), **asked, patience=15)
    assert waited.ending == "patience" and len(waited.history.epoch) == waited.best_epoch + 15
    stopped = gradfit.fit(networks.dense(), DATA, **asked, callback=lambda epoch: epoch.epoch == 7)
    assert stopped.ending == "stopped" and len(stopped.history.epoch) == 7


def test_ctrl_c_keeps_the_best_state():
    def interrupt(epoch):
        if epoch.epoch == 9:
            raise KeyboardInterrupt

    result = gradfit.fit(networks.dense(), DATA, **TORCH, validation=0.2, epochs=50, callback=interrupt)
    assert result.ending == "interrupted" and result.best_epoch == 1 + int(
        np.argmin(result.history.validation)
    )
    assert np.isfinite(result.predict().value).all()


def test_folds():
    result = gradfit.fit("y ~ network(a, b, hidden=[8])", DATA, kfold=3, epochs=60)
    assert len(result.validation.folds) == 3 and result.validation.stderr > 0
    assert result.n == 120 and result.validation.loss == pytest.approx(np.mean(result.validation.folds))


@pytest.mark.parametrize(("column", "asked"), [("g", {"groups": "g"}), ("t", {"order": "t"})])
def test_groups_stay_together_and_time_goes_on(column, asked):
    data = {**DATA, "g": np.arange(120) // 10, "t": np.arange(120)[::-1]}
    result = gradfit.fit(networks.dense(), data, **TORCH, validation=0.25, epochs=2, **asked)
    held, own = (set(part.rows.column(column).tolist()) for part in (result.held, result.train))
    assert not held & own and (column == "g" or min(held) > max(own))


def test_a_checkpoint_goes_on_to_the_same_bits(tmp_path):
    file = tmp_path / "run.ckpt"
    asked = {
        "solver": "AdamW", "lr": 0.01, "batch_size": 32, "scheduler": "ReduceLROnPlateau", "seed": 3, "validation": 0.2,
        "noise": 0.05, "mixup": 0.2, "scheduler_settings": {"patience": 1},
    }  # fmt: skip
    formula = "y ~ network(a, b, hidden=[8], dropout=0.1)"
    whole = gradfit.fit(formula, DATA, epochs=24, **asked)
    gradfit.fit(formula, DATA, epochs=12, checkpoint=file, checkpoint_every=4, **asked)
    resumed = gradfit.fit(formula, DATA, epochs=24, resume=file, **asked)
    assert networks.same_bits(whole.network, resumed.network) and whole.best_epoch == resumed.best_epoch
    np.testing.assert_array_equal(whole.history.validation, resumed.history.validation)
    with pytest.raises(OptionError, match=r"belongs to another training: lr is 0\.01 there, and 0\.02 here"):
        gradfit.fit(formula, DATA, epochs=24, resume=file, **{**asked, "lr": 0.02})
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(DataError, match="torn or damaged"):
        gradfit.fit(formula, DATA, epochs=24, resume=file, **asked)


# ---------------------------------------------------------------------------- devices, rates, ways


@pytest.mark.parametrize(
    ("precision", "dtype"), [("float64", torch.float64), ("float32", torch.float32), ("mixed", torch.float32)]
)
def test_precisions(precision, dtype):
    result = gradfit.fit(
        networks.dense(), DATA, **TORCH, solver="Adam", lr=0.02, epochs=150, precision=precision
    )
    assert next(result.network.parameters()).dtype == dtype and result.metrics["r2"] > 0.8


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
@pytest.mark.parametrize("precision", ["float32", "mixed"])
def test_on_a_gpu(precision):
    asked = {
        "solver": "Adam",
        "lr": 0.02,
        "epochs": 100,
        "validation": 0.2,
        "batch_size": 32,
        "precision": precision,
    }
    one, same = (gradfit.fit(networks.dense(), DATA, **TORCH, device="cuda", **asked) for _ in range(2))
    assert one.device.startswith("cuda") and networks.same_bits(one.network, same.network)
    assert next(one.module.parameters()).device.type == "cpu" and one.metrics["r2"] > 0.8


def test_lr_auto_leaves_no_trace_and_learns():
    module, state = networks.dense(), torch.get_rng_state()
    before = copy.deepcopy(module)
    result = gradfit.fit(module, DATA, **TORCH, solver="Adam", lr="auto", epochs=200)
    assert networks.same_bits(module, before) and torch.equal(torch.get_rng_state(), state)
    assert result.metrics["r2"] > 0.9 and any("range test" in sentence for sentence in result.how)


def test_the_result_says_which_way_it_went():
    asked = {"inputs": ["a", "b"], "target": "y", "epochs": 3}
    short = gradfit.fit(networks.dense(), DATA, **asked)
    assert short.executor == "torch" and "would take longer to compile" in " ".join(short.how)
    batched = networks.sequential(
        lambda: torch.nn.Linear(2, 4), lambda: torch.nn.BatchNorm1d(4), lambda: torch.nn.Linear(4, 1)
    )
    mixing = gradfit.fit(batched, DATA, **asked, executor="native")
    assert mixing.executor == "torch" and "batch_norm" in " ".join(mixing.how)


def test_the_native_way_agrees_with_torch():
    asked = {
        "inputs": ["a", "b"],
        "target": "y",
        "epochs": 50,
        "solver": "Adam",
        "lr": 0.02,
        "precision": "float64",
        "validation": 0.2,
    }
    native, torchs = (
        gradfit.fit(networks.dense(), DATA, **asked, executor=way) for way in ("native", "tensor")
    )
    assert native.executor == "native"
    np.testing.assert_allclose(native.history.train, torchs.history.train, rtol=1e-9)
    np.testing.assert_allclose(native.history.validation, torchs.history.validation, rtol=1e-9)
    np.testing.assert_allclose(native.predict(DATA).value, torchs.predict(DATA).value, rtol=1e-7, atol=1e-9)


def test_batch_norm_is_in_eval_mode_for_validation_and_afterwards():
    module = networks.sequential(
        lambda: torch.nn.Linear(2, 8),
        lambda: torch.nn.BatchNorm1d(8),
        torch.nn.ReLU,
        lambda: torch.nn.Linear(8, 1),
    )
    result = gradfit.fit(
        module, DATA, **TORCH, validation=0.2, epochs=30, stop="last", solver="Adam", lr=0.02
    )
    assert not result.module.training and int(result.module[1].num_batches_tracked) == 30
    one, many = (
        result.predict({"a": [0.5], "b": [1.0]}).value,
        result.predict({"a": [0.5, 9], "b": [1.0, 9]}).value,
    )
    assert one[0] == pytest.approx(many[0])
