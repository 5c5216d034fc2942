"""Measures the findings about networks: false alarms on healthy trainings, and sick ones found, named and cured.

    python benchmarks/findings_networks.py                                  # 200 healthy, 100 sick a code; about 8 minutes
    python benchmarks/findings_networks.py --seeds 0 25 --only dead-units   # a part of it, with what was not cured
    python benchmarks/findings_networks.py --seeds 0 50 --keep a.jsonl      # in pieces: what was seen is appended to a file
    python benchmarks/findings_networks.py --from a.jsonl b.jsonl --write   # and the tables of all go into docs/findings.md

Random smooth functions of one to six inputs with noise, as numbers, two or three classes or counts; small dense networks,
nine optimizers, full batches and small ones. What is healthy and what is sick is not judged by the findings' own numbers but
by a thousand fresh rows and the function itself: the share learned is 1 where predictions are as good as the noise allows,
and 0 where saying the same for every row is as good. A sick training is one that has been made sick in a known way, and has
learned less than half of what its healthy twin learns. Cured: with the remedy pasted as it stands, no warning is left and at
least two thirds of the healthy twin's share are learned.
"""

import argparse
import ast
import json
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

import gradfit

PAGE = Path(__file__).parent.parent / "docs" / "findings.md"
FRESH = 1000
LEARNED, SICK_SHARE, CURED_SHARE = 0.7, 0.5, 0.67
ACTIVATIONS = ("Tanh", "ReLU", "GELU", "SiLU", "ELU", "LeakyReLU")
OPTIMIZERS = {  # rates that are usual for so small networks, lowest and highest
    "Adam": (3e-3, 2e-2, {}), "AdamW": (3e-3, 2e-2, {}), "NAdam": (3e-3, 2e-2, {}), "RAdam": (5e-3, 2e-2, {}),
    "RMSprop": (1e-3, 5e-3, {}), "Adagrad": (2e-2, 6e-2, {}), "SGD": (5e-2, 2e-1, {}),
    "momentum": (1e-2, 4e-2, {"solver": "SGD", "momentum": 0.9}),
    "Nesterov": (1e-2, 4e-2, {"solver": "SGD", "momentum": 0.9, "nesterov": True}),
}  # fmt: skip


@dataclass(frozen=True)
class Net:
    """A dense network, before it has weights."""

    inputs: int
    hidden: tuple[int, ...]
    outputs: int
    activation: str
    norm: str = ""
    last: str = ""
    seed: int = 0
    change: Callable[[torch.nn.Module], object] | None = None

    def made(self) -> torch.nn.Module:
        torch.manual_seed(self.seed)
        layers: list[torch.nn.Module] = []
        sizes = (self.inputs, *self.hidden)
        for a, b in zip(sizes, self.hidden, strict=False):
            layers += [torch.nn.Linear(a, b), getattr(torch.nn, self.activation)()]
            layers += [getattr(torch.nn, self.norm)(b)] if self.norm else []
        layers += [torch.nn.Linear(sizes[-1], self.outputs)]
        if self.last:
            layers += [getattr(torch.nn, self.last)(*((1,) if "Softmax" in self.last else ()))]
        module = torch.nn.Sequential(*layers)
        if self.change is not None:
            with torch.no_grad():
                self.change(module)
        return module


@dataclass(frozen=True)
class Case:
    """A network, data, and how it is trained."""

    net: Net
    train: dict[str, Any]
    held: dict[str, Any]
    fresh: dict[str, Any]
    best: float  # loss of the function itself on fresh rows
    least: float  # loss there of saying the same for every row
    kind: str
    told: dict[str, Any] = field(default_factory=dict)

    def fit(self, **given: Any) -> Any:
        told = {**self.told, **given}
        model = told.pop("model", None)
        names = told.pop("inputs", [name for name in self.train if name != "y"])
        start = {"inputs": names, "target": "y"} if told.get("inputs") is None else {}
        with np.errstate(all="ignore"):
            return gradfit.fit(self.net.made() if model is None else model, self.train, **start, **told)

    def share(self, result: Any) -> float:
        """The share learned, of what fresh rows can show."""
        if result.ending == "diverged":
            return -1.0
        return (self.least - self.risk(result)) / (self.least - self.best)

    def risk(self, result: Any) -> float:
        """The loss of fresh rows."""
        found = result.predict({name: self.fresh[name] for name in result.inputs})
        y = self.fresh["y"]
        with np.errstate(all="ignore"):
            if self.kind == "numbers":
                return float(np.mean((found.value - y) ** 2))
            if self.kind == "counts":
                return float(np.mean(found.value - y * np.log(np.maximum(found.value, 1e-30))))
            codes = np.searchsorted(sorted(set(self.train["y"].tolist())), y)
            return float(np.mean(-np.log(np.maximum(found.probabilities[np.arange(len(y)), codes], 1e-30))))


# ---------------------------------------------------------------------- data
def teacher(g: np.random.Generator, d: int, outputs: int) -> Callable[[np.ndarray], np.ndarray]:
    """A random smooth function (n, outputs), of mean 0 and spread 1 about."""
    w, b, a = g.normal(size=(d, 4)) * 1.3 / d**0.5, g.normal(size=4) * 0.7, g.normal(size=(4, outputs))
    line = g.normal(size=(d, outputs)) * g.choice([0.0, 0.5, 1.0])

    def raw(x: np.ndarray) -> np.ndarray:
        return np.tanh(x @ w + b) @ a + x @ line

    some = raw(g.normal(size=(4000, d)))
    return lambda x: (raw(x) - some.mean(axis=0)) / some.std(axis=0)


def data(g: np.random.Generator, kind: str, n: int, *, noise: float | None = None, rows: int = FRESH):
    """(train, held, fresh, best loss, loss of a constant)."""
    d = int(g.integers(1, 7))
    f = teacher(g, d, 3 if kind == "three classes" else 1)
    sigma = g.uniform(0.05, 0.4) if noise is None else noise
    steep = g.uniform(2.5, 6)

    def drawn(m: int) -> tuple[dict[str, Any], np.ndarray]:
        x = 2.2 * np.tanh(g.normal(size=(m, d)) / 2)  # no row far out, where networks say anything
        t = f(x)
        table = {f"x{j}": x[:, j] for j in range(d)}
        if kind == "numbers":
            return {**table, "y": t[:, 0] + sigma * g.normal(size=m)}, t[:, 0]
        if kind == "counts":
            mean = np.exp(1.2 + 0.8 * np.clip(t[:, 0], -3, 2.5))
            return {**table, "y": g.poisson(mean).astype(float)}, mean
        p = np.stack([-t[:, 0], t[:, 0]], axis=1) * steep / 2 if kind == "two classes" else t * steep / 2
        p = np.exp(p - p.max(axis=1, keepdims=True))
        p = p / p.sum(axis=1, keepdims=True)
        codes = (g.random((m, 1)) > np.cumsum(p, axis=1)).sum(axis=1).clip(0, p.shape[1] - 1)
        return {**table, "y": np.array(["a", "b", "c"])[codes]}, p

    (train, _), (held, _), (fresh, truth) = drawn(n), drawn(max(n // 4, 30)), drawn(rows)
    y = fresh["y"]
    if kind == "numbers":
        return train, held, fresh, sigma**2, float(np.var(y))
    if kind == "counts":
        return (
            train,
            held,
            fresh,
            float(np.mean(truth - y * np.log(truth))),
            float(np.mean(y.mean() - y * np.log(y.mean()))),
        )
    codes = np.searchsorted(["a", "b", "c"], y)
    shares = np.bincount(codes) / len(y)
    own = float(np.mean(-np.log(truth[np.arange(len(y)), codes])))
    return train, held, fresh, own, float(-np.sum(shares * np.log(np.maximum(shares, 1e-30))))


KINDS = ("numbers", "numbers", "numbers", "two classes", "three classes", "counts")


def case(g: np.random.Generator, kind: str | None = None, **wanted: Any) -> Case:
    """A network that should learn: torch's own initial weights, a usual rate, enough epochs."""
    kind = kind or str(g.choice(KINDS))
    n = wanted.get("n") or int(np.exp(g.uniform(np.log(150), np.log(500))))
    train, held, fresh, best, least = data(g, kind, n, noise=wanted.get("noise"))
    inputs, outputs = len(train) - 1, 3 if kind == "three classes" else 1
    depth = int(wanted.get("depth") or g.choice([1, 1, 2, 3]))
    hidden = tuple(int(g.choice([8, 16, 32])) for _ in range(depth))
    activation = wanted.get("activation") or str(
        g.choice(ACTIVATIONS if depth > 1 else (*ACTIVATIONS, "Sigmoid"))
    )
    norm = (
        str(g.choice(["LayerNorm", "BatchNorm1d"]))
        if depth > 1 and g.random() < wanted.get("norms", 0.08)
        else ""
    )
    name = wanted.get("optimizer") or str(g.choice(list(OPTIMIZERS)))
    low, high, settings = OPTIMIZERS[name]
    batch = wanted.get("batch", int(g.choice([n, 32, 64])))
    if batch >= n and name in ("SGD", "Adagrad"):
        low, high = high, 1.5 * high
    told: dict[str, Any] = {
        "solver": name, **settings, "lr": float(np.exp(g.uniform(np.log(low), np.log(high)))), "batch_size": min(batch, n),
        "epochs": int(g.integers(300, 600)) if batch >= n else int(g.integers(60, 120)), "validation": held,
        "executor": "native",
    }  # fmt: skip
    told |= {"loss": "poisson"} if kind == "counts" else {}
    net = Net(inputs, hidden, outputs, activation, norm, seed=int(g.integers(10**6)))
    return Case(net, train, held, fresh, best, least, kind, told)


def twin(g: np.random.Generator, **wanted: Any) -> tuple[Case, float]:
    """A case that learns, with the share it learns."""
    while True:
        c = case(g, **wanted)
        got = c.share(c.fit())
        if got > LEARNED:
            return c, got


# ---------------------------------------------------------------------- healthy
def healthy(g: np.random.Generator) -> tuple[Case, Any] | None:
    c = case(g)
    way = g.integers(8)
    if way == 0:
        c = replace(c, told={**c.told, "stop": "last"})
    if way == 1 and c.kind == "numbers":
        tables = ({**t, "x0": 40 + 7 * t["x0"], "y": 1e3 * t["y"] - 500} for t in (c.train, c.held, c.fresh))
        train, held, fresh = tables
        told = {**c.told, "validation": held, "scale": "auto"}
        c = replace(c, train=train, held=held, fresh=fresh, best=1e6 * c.best, least=1e6 * c.least, told=told)
    if way == 2:
        c = replace(
            c,
            told={
                **c.told,
                "scheduler": "CosineAnnealingLR",
                "scheduler_settings": {"T_max": c.told["epochs"]},
            },
        )
    if way == 3:
        c = replace(c, told={**c.told, "validation": None})
    if way == 4:
        c = replace(c, told={**c.told, "patience": 30})
    result = c.fit()
    if c.share(result) < LEARNED or (
        c.risk(result) - c.best > 0.7 * (result.loss - c.best) + 0.35 * c.best and _gap(c, result)
    ):
        return None
    if c.told.get("stop") == "last" or way == 3:
        path = c.fit(validation=c.fresh, stop="last").history.validation
        if path[-len(path) // 10 :].mean() > 1.05 * path.min():
            return None
    return c, result


def _gap(c: Case, result: Any) -> bool:
    """Whether fresh rows are missed much worse than those trained on: that is overfitting, and no false alarm."""
    return c.kind == "numbers" and c.risk(result) > 1.7 * result.loss


# ---------------------------------------------------------------------- sick: (case, share of the twin) or None
Sick = tuple[Case, float] | None


def made_sick(c: Case, share: float, most: float = SICK_SHARE) -> Sick:
    try:
        return (c, share) if c.share(c.fit()) < most * share else None
    except gradfit.ModelError:  # refused in a sentence: the very first loss is no number
        return None


def told(c: Case, **given: Any) -> Case:
    return replace(c, told={**c.told, **given})


def rate_too_large(g):
    c, share = twin(g)
    factor = 10 ** g.uniform(1, 2.5)
    return made_sick(told(c, lr=c.told["lr"] * factor), share)


def rate_too_small(g):
    c, share = twin(g)
    return made_sick(told(c, lr=c.told["lr"] / 10 ** g.uniform(1.5, 4)), share)


def exploding(g):
    c, share = twin(g, activation=str(g.choice(["ReLU", "LeakyReLU", "ELU"])), depth=3, norms=0)
    hidden = tuple(int(g.choice([32, 64])) for _ in range(g.integers(4, 9)))
    factor = g.uniform(4, 10)

    def change(m):
        for layer in m:
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(factor)

    return made_sick(replace(c, net=replace(c.net, hidden=hidden, change=change)), share)


def vanishing(g):
    c, share = twin(g, depth=int(g.choice([1, 2])), norms=0)
    activation = str(g.choice(["Sigmoid", "Tanh"]))
    small = g.uniform(0.1, 0.4)

    def change(m):
        for layer in m:
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(small)

    net = replace(c.net, hidden=(16,) * int(g.integers(8, 14)), activation=activation)
    return made_sick(replace(c, net=net if activation == "Sigmoid" else replace(net, change=change)), share)


def dead(g):
    c, share = twin(g, activation="ReLU", norms=0)
    off = g.uniform(4, 20)

    def change(m):
        first = m[0] if g.random() < 0.5 or len(m) < 4 else m[2]
        first.bias.sub_(off * float(first.weight.norm(dim=1).max()))

    seed = int(g.integers(10**6))

    def again(m):  # the same layer each time the network is made
        nonlocal g
        g = np.random.default_rng(seed)
        change(m)

    return made_sick(replace(c, net=replace(c.net, change=again)), share)


def saturated(g):
    c, share = twin(g, activation=str(g.choice(["Tanh", "Sigmoid"])), depth=1, norms=0)
    factor, bias = 10 ** g.uniform(1.5, 4), g.random() < 0.5

    def change(m):
        m[0].weight.mul_(factor)
        if bias:
            m[0].bias.add_(torch.sign(m[0].bias) * factor * 2)

    return made_sick(replace(c, net=replace(c.net, change=change)), share)


def unscaled(g):
    c, share = twin(g, kind="numbers")
    way = g.integers(3)
    factor, off, scale = 10 ** g.uniform(2.5, 6), 10 ** g.uniform(2, 5), 10 ** g.uniform(3, 6)

    def other(t):
        if way == 0:
            return {**t, "x0": factor * t["x0"]}
        if way == 1:
            return {**t, "x0": off + t["x0"]}
        return {**t, "y": scale * t["y"]}

    train, held, fresh = (other(t) for t in (c.train, c.held, c.fresh))
    more = scale**2 if way == 2 else 1.0
    sick = replace(c, train=train, held=held, fresh=fresh, best=more * c.best, least=more * c.least)
    return made_sick(told(sick, validation=held), share)


def mismatch(g):
    way = int(g.integers(4))
    kind = ("two classes", "three classes", "numbers", "three classes")[way]
    c, share = twin(g, kind=kind)
    if way < 2:
        c = replace(c, net=replace(c.net, last=("Sigmoid", "Softmax")[way]))
    elif way == 2:
        c = replace(c, net=replace(c.net, last=str(g.choice(["ReLU", "Sigmoid", "Softplus", "Tanh"]))))
    else:
        c = told(c, loss=torch.nn.NLLLoss())
    return made_sick(c, share, 0.9)


def shuffled(g):
    c, share = twin(g, n=int(g.integers(250, 600)))
    for table in (c.train, c.held):
        table["y"] = g.permutation(table["y"])
    return c, share


def noisy_batches(g):
    optimizer = str(g.choice(["SGD", "Adam", "RMSprop", "momentum", "AdamW", "NAdam"]))
    c = case(
        g,
        kind="numbers",
        optimizer=optimizer,
        noise=g.uniform(0.7, 1.2),
        norms=0,
        n=int(g.integers(120, 300)),
    )
    small = told(
        c, batch_size=int(g.choice([1, 2])), lr=c.told["lr"] * g.uniform(0.5, 2), epochs=30, stop="last"
    )
    sick = small.fit()
    if sick.ending == "diverged":
        return None
    large = told(small, batch_size=8 * small.told["batch_size"])
    share = large.share(large.fit())
    return (small, share) if share > 0.6 and small.share(sick) < SICK_SHARE * share else None


def overfitted(g):
    kind = str(g.choice(["numbers", "numbers", "two classes"]))
    c = case(
        g,
        kind,
        n=int(g.integers(80, 160)),
        depth=2,
        noise=g.uniform(0.4, 0.8),
        optimizer=str(g.choice(["Adam", "AdamW", "NAdam"])),
        norms=0,
    )
    c = replace(c, net=replace(c.net, hidden=(64, 64)))
    c = told(c, stop="last", epochs=400, batch_size=32)
    path = c.fit(validation=c.fresh).history.validation
    if path.min() > c.least - 0.3 * (c.least - c.best) or np.median(path[-40:]) < 1.3 * path.min():
        return None
    return c, (c.least - path.min()) / (c.least - c.best)


SICK: dict[str, Callable[[np.random.Generator], Sick]] = {
    "lr-too-large": rate_too_large, "lr-too-small": rate_too_small, "exploding-gradient": exploding,
    "vanishing-gradient": vanishing, "dead-units": dead, "saturated-units": saturated, "unscaled-data": unscaled,
    "loss-mismatch": mismatch, "no-signal": shuffled, "batch-noise": noisy_batches, "overfitting": overfitted,
}  # fmt: skip


# ---------------------------------------------------------------------- found, and cured
def pasted(remedy: str) -> dict[str, Any] | None:
    """The arguments that a remedy says; None where it says none."""
    try:
        call = ast.parse(f"f({remedy})", mode="eval").body
    except SyntaxError:
        return None
    assert isinstance(call, ast.Call)
    if call.args or not call.keywords:
        return None
    names = {"torch": torch, "gradfit": gradfit}
    return {k.arg: eval(compile(ast.Expression(k.value), "remedy", "eval"), names) for k in call.keywords}  # noqa: S307


def alarms(result: Any) -> list[Any]:
    return [finding for finding in result.findings if finding.severity != "info"]


def one(name: str, seed: int) -> dict[str, Any]:
    """What is seen of one training: codes raised, and whether the remedy cured."""
    g = np.random.default_rng([2026, [*SICK, "healthy"].index(name), seed])
    while True:
        made = healthy(g) if name == "healthy" else SICK[name](g)
        if made is not None:
            break
    if name == "healthy":
        c, result = made
        found = alarms(result)
        return {"name": name, "seed": seed, "found": [f.code for f in found], "said": [f.message for f in found],
                "kind": str(c.net), "info": [f.code for f in result.findings if f.severity == "info"]}  # fmt: skip
    c, share = made
    result = c.fit()
    began = time.perf_counter()
    found = alarms(result)
    seconds = time.perf_counter() - began
    first = found[0] if found else None
    out = {"name": name, "seed": seed, "found": [f.code for f in found], "share": c.share(result), "twin": share,
           "said": [f"{f.message} [{f.remedy}]" for f in found], "kind": str(c.net), "seconds": seconds,
           "told": {k: v for k, v in c.told.items() if isinstance(v, int | float | str)}}  # fmt: skip
    remedy = pasted(first.remedy) if first else None
    if remedy is None:
        return {**out, "cured": False, "after": None}
    try:
        again = c.fit(**remedy)
    except gradfit.GradfitError as refused:
        return {**out, "cured": False, "after": [type(refused).__name__]}
    left = [f.code for f in alarms(again)]
    return {
        **out,
        "cured": bool(not left and c.share(again) > CURED_SHARE * share),
        "after": left,
        "share_after": c.share(again),
    }


# ---------------------------------------------------------------------- tables
def interval(bad: int, n: int) -> str:
    """Wilson's 95 % interval in per cent."""
    z, p = 1.96, bad / n
    middle, half = p + z * z / 2 / n, z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    return f"{100 * (middle - half) / (1 + z * z / n):.1f} to {100 * (middle + half) / (1 + z * z / n):.1f} %"


def tables(seen: list[dict[str, Any]]) -> list[str]:
    well = [s for s in seen if s["name"] == "healthy"]
    bad = [s for s in well if s["found"]]
    lines = []
    if well:
        each = (
            ", ".join(f"{c} {m}" for c, m in Counter(c for s in bad for c in s["found"]).most_common())
            or "none"
        )
        noted = (
            ", ".join(f"{c} {m}" for c, m in Counter(c for s in well for c in s["info"]).most_common())
            or "none"
        )
        lines += [
            f"Of {len(well)} healthy trainings **{len(bad)} had a warning or an error: {len(bad) / len(well):.1%}** "
            f"(95 % interval {interval(len(bad), len(well))}). By code: {each}. `info` in the same: {noted}.",
            "",
        ]
    lines += [
        "| sick in this way | trainings | any code | this code | cured | raised instead |",
        "|---|--:|--:|--:|--:|---|",
    ]
    for name in SICK:
        rows = [s for s in seen if s["name"] == name]
        if not rows:
            continue
        n = len(rows)
        others = Counter(c for s in rows if name not in s["found"] for c in s["found"])
        instead = ", ".join(f"{c} {100 * m / n:.0f} %" for c, m in others.most_common())
        cured = "—" if name == "no-signal" else f"{sum(s['cured'] for s in rows) / n:.0%}"
        found, this = sum(bool(s["found"]) for s in rows), sum(name in s["found"] for s in rows)
        lines.append(f"| {name} | {n} | {found / n:.0%} | {this / n:.0%} | {cured} | {instead} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--seeds", type=int, nargs=2, default=(0, 100), help="of these; twice as many healthy ones"
    )
    parser.add_argument("--only", nargs="*", default=None)
    parser.add_argument("--keep", type=Path, help="file to append what is seen to")
    parser.add_argument("--from", dest="files", type=Path, nargs="*", help="read what was seen from files")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/findings.md")
    parser.add_argument("-v", action="store_true", help="show what was missed")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    seen = [json.loads(line) for file in chosen.files or () for line in file.read_text().splitlines()]
    for name in () if chosen.files else chosen.only or [*SICK, "healthy"]:
        began = time.perf_counter()
        low, high = (2 * s for s in chosen.seeds) if name == "healthy" else chosen.seeds
        for seed in range(low, high):
            seen.append(one(name, seed))
            if chosen.keep:
                with chosen.keep.open("a") as file:
                    file.write(json.dumps(seen[-1]) + "\n")
        print(f"[{name}: {time.perf_counter() - began:.0f} s]", flush=True)
    if chosen.v:
        for s in seen:
            if (
                bool(s["found"]) == (s["name"] == "healthy")
                or s["name"] not in [*s["found"], "healthy"]
                or not s.get("cured", True)
            ):
                print(json.dumps(s, ensure_ascii=False))
    lines = tables(seen)
    print("\n".join(lines))
    if chosen.write:
        text = "\n".join(
            ["<!-- networks: written by benchmarks/findings_networks.py -->", *lines, "<!-- end networks -->"]
        )
        page = PAGE.read_text()
        PAGE.write_text(
            re.sub(r"<!-- networks:.*?<!-- end networks -->", lambda _: text, page, flags=re.DOTALL)
        )


if __name__ == "__main__":
    main()
