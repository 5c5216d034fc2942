"""Learning rates: the largest stable step against NumPy and against runs, lr="auto", and tests that leave no trace."""

import json
import re

import numpy as np
import pytest
import torch
from command_line import LINE, THERMOMETER, flat, runner
from numpy.testing import assert_allclose, assert_array_equal
from objectives import OPTIMIZERS, T_C, T_U, T_UN

import gradfit
from gradfit.errors import OptionError
from gradfit.solve.curvature import EXACT, condition, extremes, extremes_by_products, hessian_product
from gradfit.solve.stability import Law, law_of, stable_step

RAW = {"t_u": np.array(T_U), "t_c": np.array(T_C)}
SCALED = {"t_un": np.array(T_UN), "t_c": np.array(T_C)}
DESIGN = np.column_stack([T_U, np.ones(11)])
HESSIAN = 2 / 11 * DESIGN.T @ DESIGN
X = np.linspace(0, 4, 40)
DECAY = {"x": X, "y": 3 * np.exp(-1.3 * X) + 0.5 + np.random.default_rng(1).normal(0, 0.05, 40)}
EXPONENTIAL, AT = "y = a*exp(-k*x) + c", {"a": 1.0, "k": 1.0, "c": 0.0}


def fitted(**options):
    return gradfit.fit("t_c = w*t_u + b", RAW, start=[1, 0], **options)


# ---------------------------------------------------------------------------- the limit


def test_the_reference_example():
    largest = extremes(HESSIAN).largest
    assert_allclose(largest, np.linalg.eigvalsh(HESSIAN)[-1], rtol=1e-14)
    assert round(largest) == 5883
    assert round(Law().limit(largest), 5) == 3.4e-4
    assert fitted(solver="SGD", lr=1e-2, epochs=5000).status == "diverged"
    assert fitted(solver="SGD", lr=1e-4, epochs=5000).status == "stalled"
    line = gradfit.fit("t_c = w*t_un + b", SCALED, start=[1, 0], solver="SGD", lr=1e-2, epochs=5000)
    assert line.converged


LAWS = {
    "SGD": {},
    "momentum": {"momentum": 0.9},
    "heavy": {"momentum": 0.99},
    "dampened": {"momentum": 0.8, "dampening": 0.5},
    "Nesterov": {"momentum": 0.9, "nesterov": True},
    "decay": {"weight_decay": 40.0},
}


@pytest.mark.parametrize("settings", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("share", [0.99, 1.01])
def test_runs_on_both_sides_of_the_limit(settings, share):
    largest = extremes(HESSIAN).largest
    law = law_of("SGD", settings)
    result = fitted(solver="SGD", lr=share * law.limit(largest), epochs=4000, **settings)
    assert (result.status == "diverged") == (share > 1)
    assert (law.shrinkage(np.array([share * law.limit(largest) * (largest + law.decay)]))[0] > 1) == (
        share > 1
    )


@pytest.mark.parametrize("share", [0.99, 1.01])
@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_adam_with_a_frozen_preconditioner(beta, share):
    divisor = np.array([3.0, 0.2])
    half = 1 / np.sqrt(divisor)
    largest = extremes(half[:, None] * HESSIAN * half).largest
    law = law_of("Adam", {"betas": (beta, 0.999)})
    rate, p, m = share * law.limit(largest), np.array([1.0, 0.0]), np.zeros(2)
    for _ in range(3000):
        m = beta * m + (1 - beta) * (HESSIAN @ p)
        p = p - rate * m / divisor
    assert (np.abs(p).max() > 1) == (share > 1)


@pytest.mark.parametrize("settings", LAWS.values(), ids=LAWS)
def test_the_forecast_of_epochs_is_what_a_run_takes(settings):
    law, curvature = law_of("SGD", settings), np.array([5.0, 0.3, 0.02])
    rate = 0.4 * law.limit(5.0)
    p, v, n = np.ones(3), np.zeros(3), 0
    gains = curvature / 2
    tolerance = 1e-9 * gains.sum()
    decay = settings.get("weight_decay", 0.0)
    beta, dampening = law.momentum, law.dampening
    while (gains * p**2).sum() > tolerance:
        g = (curvature + decay) * p
        v = beta * v + (1 - dampening) * g
        p = p - rate * (g + beta * v if law.nesterov else v)
        n += 1
    forecast = law.epochs(gains, curvature, rate, tolerance=tolerance)
    assert_allclose(forecast, n, rtol=0.35)
    assert law.epochs(gains, curvature, 1.1 * law.limit(5.0), tolerance=tolerance) == np.inf
    assert law.epochs(gains, curvature, rate, tolerance=gains.sum() * 1.01) == 0


def test_what_has_no_law():
    assert law_of("Rprop", {}) is None
    assert law_of("LBFGS", {}) is None
    assert Law().limit(-1.0) == np.inf


# ---------------------------------------------------------------------------- curvature by products


def _spectrum(size, seed=0):
    rng = np.random.default_rng(seed)
    directions = np.linalg.qr(rng.normal(size=(size, size)))[0]
    values = np.sort(rng.exponential(1.0, size)) * np.linspace(0.01, 3, size)
    return directions @ np.diag(values) @ directions.T


@pytest.mark.parametrize("size", [1, 5, EXACT, EXACT + 1, 400])
def test_products_find_the_largest_eigenvalue(size):
    H = _spectrum(size)
    found = extremes_by_products(lambda v: H @ v, size)
    values = np.linalg.eigvalsh(H)
    assert_allclose(found.largest, values[-1], rtol=1e-9 if size <= EXACT else 5e-3)
    assert found.largest <= values[-1] * (1 + 1e-9)
    assert_allclose(H @ found.direction, found.largest * found.direction, atol=0.1 * values[-1])
    assert found.products <= 60 or size <= EXACT


@pytest.mark.parametrize("H", [np.zeros((90, 90)), np.eye(90), -np.eye(90)], ids=["flat", "round", "down"])
def test_products_of_degenerate_operators(H):
    assert_allclose(extremes_by_products(lambda v: H @ v, 90).largest, H[0, 0], atol=1e-12)


def _network(dtype=torch.float64):
    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1)).to(dtype)
    x = torch.randn(30, 3, dtype=dtype)
    y = torch.sin(x.sum(1, keepdim=True))
    return net, lambda: ((net(x) - y) ** 2).mean()


def _whole_hessian(net, loss):
    tensors = list(net.parameters())
    slopes = torch.cat([g.reshape(-1) for g in torch.autograd.grad(loss(), tensors, create_graph=True)])
    rows = [
        torch.cat(
            [
                g.reshape(-1)
                for g in torch.autograd.grad(s, tensors, retain_graph=True, materialize_grads=True)
            ]
        )
        for s in slopes
    ]
    return torch.stack(rows).numpy()


def test_products_with_the_hessian_of_a_network():
    net, loss = _network()
    H = _whole_hessian(net, loss)
    product = hessian_product(loss, list(net.parameters()))
    v = np.random.default_rng(0).normal(size=len(H))
    assert_allclose(product(v), H @ v, rtol=1e-10, atol=1e-12)
    assert all(p.grad is None for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "settings"),
    [("SGD", {}), ("SGD", {"momentum": 0.9, "nesterov": True}), ("Adam", {}), ("Adam", {"amsgrad": True}),
     ("RMSprop", {"centered": True}), ("Adagrad", {}), ("Adamax", {})],
)  # fmt: skip
def test_the_stable_step_of_a_network_under_its_optimizer(name, settings):
    net, loss = _network()
    optimizer = getattr(torch.optim, name)(net.parameters(), lr=1e-3, **settings)
    for _ in range(5):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
    kept = {k: v.clone() for k, v in net.state_dict().items()}
    found = stable_step(loss, optimizer)
    for k, v in net.state_dict().items():
        assert torch.equal(v, kept[k])
    H = _whole_hessian(net, loss)
    if found.law.adaptive:
        state = [optimizer.state[p] for p in net.parameters()]
        if name == "Adamax":
            parts = [s["exp_inf"] for s in state]
        elif name == "RMSprop":
            parts = [(s["square_avg"] - s["grad_avg"] ** 2).sqrt() + 1e-8 for s in state]
        elif name == "Adagrad":
            parts = [s["sum"].sqrt() + 1e-10 for s in state]
        else:
            seen = "max_exp_avg_sq" if "amsgrad" in settings else "exp_avg_sq"
            parts = [(s[seen] / (1 - 0.999**5)).sqrt() + 1e-8 for s in state]
        half = torch.cat([p.reshape(-1) for p in parts]).numpy() ** -0.5
        H = half[:, None] * H * half
    assert_allclose(found.limit, found.law.limit(np.linalg.eigvalsh(H)[-1]), rtol=1e-6)


def test_no_stable_step_is_told_where_there_is_none():
    net, loss = _network()
    assert stable_step(loss, torch.optim.Adam(net.parameters())) is None  # no averages yet
    assert stable_step(loss, torch.optim.Rprop(net.parameters())) is None
    bad = torch.nn.Parameter(torch.tensor([1.0]))
    nothing = stable_step(lambda: bad.sum() * float("nan") * bad.sum(), torch.optim.SGD([bad]))
    assert nothing is None


def test_condition_numbers():
    assert_allclose(condition(DESIGN), np.linalg.cond(DESIGN) ** 2, rtol=1e-10)
    assert condition(np.zeros((4, 2))) == np.inf
    assert condition(np.ones((4, 2))) == np.inf
    assert condition(np.full((3, 1), np.nan)) == np.inf
    assert_allclose(condition(1e200 * DESIGN), condition(DESIGN))


# ---------------------------------------------------------------------------- lr="auto"


def test_auto_by_curvature_says_why():
    result = fitted(solver="SGD", lr="auto", epochs=20)
    told = " ".join(result.how)
    assert (
        "was chosen by curvature: the largest stable step is 0.000340 = 2/λ, with λ = 5 883"
        in told.replace("\u202f", " ")
    )
    chosen = float(re.search(r"lr=([\d.e-]+)", told)[1])
    assert chosen < 3.4e-4
    assert result.solver.startswith(f"SGD(lr={chosen:.3g}"[:8])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_auto_for_every_optimizer(name):
    epochs = {"LBFGS": 3, "Muon": 20, "SparseAdam": 20}.get(name, 400)
    result = gradfit.fit("t_c = w*t_un + b", SCALED, start=[1, 0], solver=name, lr="auto", epochs=epochs)
    again = gradfit.fit("t_c = w*t_un + b", SCALED, start=[1, 0], solver=name, lr="auto", epochs=epochs)
    assert result.values == again.values
    assert "was chosen by" in " ".join(result.how)
    assert result.loss < 20 if name not in ("Adafactor", "ASGD", "Muon", "SparseAdam") else result.loss < 100


@pytest.mark.parametrize("name", ["SGD", "Adam", "Rprop"])
@pytest.mark.parametrize("problem", ["line", "decay"])
def test_auto_is_never_much_slower_than_the_best_of_a_grid(name, problem):
    model, data, start = (
        ("t_c = w*t_un + b", SCALED, [1, 0]) if problem == "line" else (EXPONENTIAL, DECAY, AT)
    )
    best = gradfit.fit(model, data, start=start)
    level = best.rss / best.n * (1 + 0.03**2 * best.k / best.dof)

    def arrival(lr):
        way = gradfit.fit(model, data, start=start, solver=name, lr=lr, epochs=2000).history
        above = np.flatnonzero(~(way.loss <= level))
        return way.step[above[-1] + 1] if above[-1] + 1 < len(way.step) else np.inf

    best = min(arrival(lr) for lr in 10.0 ** np.arange(-4, 1.1, 0.5))
    assert np.isfinite(best)
    assert arrival("auto") <= 3 * best


def test_a_range_test_leaves_no_trace():
    net_before = torch.get_rng_state()
    numpy_before = np.random.get_state()[1].copy()  # noqa: NPY002  the global state is what must not change
    leaf = torch.zeros(3, requires_grad=True)
    mine = torch.optim.Adam([leaf], lr=0.3)
    held = {"optimizer": mine, "groups": {k: v for k, v in mine.param_groups[0].items() if k != "params"}}
    first = gradfit.fit(EXPONENTIAL, DECAY, start=AT, solver=mine, lr="auto", epochs=60)
    assert torch.equal(torch.get_rng_state(), net_before)
    assert_array_equal(np.random.get_state()[1], numpy_before)  # noqa: NPY002  see above
    assert {k: v for k, v in mine.param_groups[0].items() if k != "params"} == held["groups"]
    assert not mine.state
    assert torch.equal(leaf, torch.zeros(3))
    rate = float(re.search(r"lr=([\d.e+-]+)", first.solver)[1])
    told = gradfit.fit(EXPONENTIAL, DECAY, start=AT, solver="Adam", lr=rate, epochs=60)
    assert_allclose(list(told.values.values()), list(first.values.values()), rtol=1e-2)


def test_auto_with_batches_bounds_and_schedules():
    result = gradfit.fit(
        EXPONENTIAL, DECAY, start=AT, solver="SGD", lr="auto", epochs=200, batch_size=8, momentum=0.5,
        bounds={"k": (0.1, 1.2)}, scheduler="ExponentialLR", scheduler_settings={"gamma": 0.99},
    )  # fmt: skip
    assert result.values["k"] <= 1.2
    assert result.loss < 0.1


def test_auto_where_nothing_can_be_learned():
    flat = {"x": np.linspace(0, 1, 8), "y": np.zeros(8)}
    result = gradfit.fit("y = a*x", flat, start=[0], solver="SGD", lr="auto", epochs=5)
    assert result.values == {"a": 0.0}


@pytest.mark.parametrize("lr", ["fast", -1, 0, float("nan"), float("inf"), True, [0.1]])
def test_a_rate_that_is_none(lr):
    with pytest.raises(OptionError, match=r'lr is .*\nGive a positive number, such as lr=0.01, or "auto"'):
        fitted(solver="SGD", lr=lr, epochs=2)


def test_auto_is_for_optimizers_of_torch():
    with pytest.raises(OptionError, match="lr= is a setting of torch's optimizers"):
        fitted(lr="auto")


# ---------------------------------------------------------------------------- learning_rate, gradfit lr


def test_a_survey_is_what_auto_takes():
    survey = gradfit.learning_rate("t_c = w*t_u + b", RAW, start=[1, 0], epochs=200)
    assert_allclose(survey.limit, 2 / np.linalg.eigvalsh(HESSIAN)[-1], rtol=1e-10)
    assert_allclose(survey.start_loss, 1763.8845, rtol=1e-6)
    result = fitted(solver="SGD", lr="auto", epochs=200)
    assert f"lr={survey.rate:.3g}" in result.how[0]
    assert np.all(np.diff(survey.rates) > 0)
    assert np.isinf(survey.losses[survey.rates > 1.3 * survey.limit]).all()
    assert np.isfinite(survey.losses[survey.rates < survey.limit]).all()
    scaled = gradfit.learning_rate("t_c = w*t_u + b", RAW, start=[1, 0], epochs=200, scale="auto")
    assert_allclose(scaled.limit, 1.0, rtol=1e-9)


def test_a_survey_without_a_start_begins_at_ones():
    survey = gradfit.learning_rate(EXPONENTIAL, DECAY, solver="Adam", epochs=30)
    assert_allclose(survey.start_loss, np.mean((np.exp(-X) + 1 - DECAY["y"]) ** 2))


def test_the_figure_of_a_survey():
    survey = gradfit.learning_rate("t_c = w*t_u + b", RAW, start=[1, 0], epochs=100)
    figure = survey.plot()
    words = " ".join(text.get_text() for text in figure.findobj() if hasattr(text, "get_text"))
    assert "SGD should take lr=" in words
    assert "stable up to 0.000340" in words
    assert "× diverged" in words


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"solver": "lm"}, "Levenberg-Marquardt has no learning rate|setting of torch's optimizers"),
        ({"lr": 0.1}, "lr= is what is looked for"),
        ({"fixed": {"w": 1, "b": 0}, "start": None}, "Every parameter is fixed"),
        ({"solver": "Adem"}, "no optimizer 'Adem'"),
    ],
)
def test_a_survey_of_nothing(options, told):
    with pytest.raises(OptionError, match=told):
        gradfit.learning_rate("t_c = w*t_u + b", RAW, **{"start": [1, 0], "epochs": 5, **options})


def test_the_command(tmp_path, monkeypatch, capsys):
    run = runner(tmp_path, monkeypatch, capsys)
    seen = run("lr", THERMOMETER, LINE, "--start", "1,0", "--epochs", "100", "--plot", "lr.png")
    assert seen.code == 0
    assert "the largest stable step is 0.000340 = 2/λ, with λ = 5 883" in flat(seen.out)
    assert "--solver SGD --lr 0.000" in seen.out
    assert (tmp_path / "lr.png").read_bytes()[:4] == b"\x89PNG"
    again = run("lr", THERMOMETER, LINE, "--start", "1,0", "--epochs", "100", "--plot", "lr.png")
    assert again.code == 2
    plain = json.loads(run("lr", THERMOMETER, LINE, "--start", "1,0", "--epochs", "50", "--json").out)
    assert plain["lr"] < plain["stable_limit"]
    assert None in plain["losses"]
    fit = run(
        "fit",
        THERMOMETER,
        LINE,
        "--start",
        "1,0",
        "--solver",
        "SGD",
        "--lr",
        "auto",
        "--scale",
        "auto",
        "--epochs",
        "99",
    )
    assert fit.code == 0
    wrong = run("fit", THERMOMETER, LINE, "--start", "1,0", "--solver", "SGD", "--lr", "quick")
    assert wrong.code == 2
    assert "--lr must be a number" in flat(wrong.err)
