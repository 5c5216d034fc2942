"""What the tests of first-order training make small, and the loop that a careful person writes for it."""

import inspect

import numpy as np
import torch

torch.set_num_threads(1)  # two test processes on two cores: threads for tensors of eleven numbers only wait

T_C = [0.5, 14.0, 15.0, 28.0, 11.0, 8.0, 3.0, -4.0, 6.0, 13.0, 21.0]
T_U = [35.7, 55.9, 58.2, 81.9, 56.3, 48.9, 33.9, 21.8, 48.4, 60.4, 68.4]

T_UN = [0.1 * t for t in T_U]

OPTIMIZERS = sorted(
    name
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, torch.optim.Optimizer) and kind is not torch.optim.Optimizer
)
RICH = {
    "ASGD": {"lambd": 1e-3, "t0": 5.0, "weight_decay": 0.01},
    "Adadelta": {"rho": 0.8, "weight_decay": 0.01},
    "Adafactor": {"beta2_decay": -0.7, "weight_decay": 0.01},
    "Adagrad": {"lr_decay": 0.01, "initial_accumulator_value": 0.1},
    "Adam": {"betas": (0.8, 0.99), "amsgrad": True, "weight_decay": 0.01},
    "AdamW": {"amsgrad": True, "foreach": True},
    "Adamax": {"betas": (0.8, 0.99), "weight_decay": 0.01},
    "LBFGS": {"max_iter": 5, "line_search_fn": "strong_wolfe"},
    "Muon": {"momentum": 0.8, "nesterov": False, "weight_decay": 0.0},
    "NAdam": {"momentum_decay": 0.01, "decoupled_weight_decay": True, "weight_decay": 0.01},
    "RAdam": {"betas": (0.8, 0.99), "weight_decay": 0.01},
    "RMSprop": {"momentum": 0.5, "centered": True},
    "Rprop": {"etas": (0.4, 1.3)},
    "SGD": {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01},
    "SparseAdam": {"betas": (0.8, 0.99)},
}


class Line:
    """Mean squared error of w*x + b."""

    def __init__(self, x=T_UN, y=T_C):
        self.x, self.y = torch.tensor(np.asarray(x)), torch.tensor(np.asarray(y, dtype=np.float64))
        self.rows = len(self.x)

    def loss(self, parameters, rows):
        x, y = self.x.to(parameters.dtype), self.y.to(parameters.dtype)
        if rows is not None:
            x, y = x[rows], y[rows]
        w, b = parameters
        return ((w * x + b - y) ** 2).mean()


class Smooth:
    """Any differentiable function of the parameters, as if it were a loss over `rows` observations."""

    def __init__(self, function, rows=100):
        self.function, self.rows = function, rows

    def loss(self, parameters, _rows):
        return self.function(parameters)


def by_hand(name, dtype, *, epochs, batch=None, schedule=None, given=None):
    """Losses and parameters before each update and after the last one, of a loop as one writes it."""
    line = Line()
    leaf = torch.tensor([1.0, 0.0], dtype=dtype)
    leaf = (leaf[:, None] if name == "Muon" else leaf).requires_grad_()
    optimizer = getattr(torch.optim, name)([leaf], **(given or {"lr": 0.01}))
    scheduler = schedule(optimizer) if schedule else None
    order = torch.Generator().manual_seed(0)
    losses, gradients, way = [], [], []

    def forward(rows):
        optimizer.zero_grad()
        loss = line.loss(leaf.flatten(), rows)
        loss.backward()
        seen.append((loss.item(), leaf.grad.flatten().tolist()))
        if name == "SparseAdam":
            leaf.grad = leaf.grad.to_sparse()
        return loss

    for _ in range(epochs):
        way.append(leaf.flatten().tolist())
        batches = torch.randperm(line.rows, generator=order).split(batch) if batch else [None]
        loss, gradient = 0.0, np.zeros(2)
        for rows in batches:
            seen = []
            if name == "LBFGS":
                optimizer.step(lambda rows=rows: forward(rows))
            else:
                forward(rows)
                optimizer.step()
            share = 1 if rows is None else len(rows) / line.rows
            loss, gradient = loss + share * seen[0][0], gradient + share * np.array(seen[0][1])
        losses.append(loss)
        gradients.append(gradient)
        if scheduler:
            scheduler.step(*[loss][: isinstance(scheduler, torch.optim.lr_scheduler.ReduceLROnPlateau)])
    return np.array(losses), np.array(gradients), np.array([*way, leaf.flatten().tolist()])
