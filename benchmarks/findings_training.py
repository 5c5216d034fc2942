"""Measures the findings about training: false alarms on healthy trainings, and sick ones found, named and mended.

    python benchmarks/findings_training.py                 # 600 healthy, 100 sick a row
    python benchmarks/findings_training.py 60 20           # fewer
    python benchmarks/findings_training.py --write         # and writes the table into docs/findings.md

Simulated curves of seven kinds, 20 to 200 rows, noise of 1 to 10 % of the range, starts within 20 % of the truth; SGD with and
without momentum, Adam and its kin, RMSprop, Adagrad. What is sick is known from how it was made and from the minimum that
Levenberg-Marquardt finds: a training has arrived when its sum of squares is within 0.03 confidence radii of that.
"""

import ast
import re
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np

import gradfit

PAGE = Path(__file__).parent.parent / "docs" / "findings.md"
CODES = ("lr-too-large", "lr-too-small", "gradient-scale", "not-converged")
EPOCHS = 3000
CURVES = {  # formula, typical parameters, range of x
    "line": ("y = a + b*x", {"a": 3, "b": 1.5}, (0, 4)),
    "decay": ("y = a*exp(-k*x) + c", {"a": 3, "k": 1.2, "c": 0.5}, (0, 4)),
    "peak": ("y = a*exp(-((x - m)/s)^2/2) + c", {"a": 2, "m": 0.4, "s": 1.1, "c": 0.4}, (-4, 4)),
    "logistic": ("y = a/(1 + exp(-k*(x - m)))", {"a": 4, "k": 1.5, "m": 0.6}, (-4, 4)),
    "wave": ("y = a*sin(f*x + p)", {"a": 1.5, "f": 2, "p": 0.5}, (0, 4)),
    "cubic": ("y = a + b*x + c*x^2 + d*x^3", {"a": 1, "b": 1, "c": -1, "d": 1.5}, (-1, 1)),
    "saturation": ("y = a*x/(h + x)", {"a": 4, "h": 1.5}, (0.1, 6)),
}
OPTIMIZERS = {
    "SGD": {},
    "momentum": {"solver": "SGD", "momentum": 0.9},
    "Nesterov": {"solver": "SGD", "momentum": 0.9, "nesterov": True},
    "Adam": {},
    "AdamW": {"weight_decay": 0.0},
    "NAdam": {},
    "RMSprop": {},
    "Adagrad": {},
}
FAMILY = ("SGD", "momentum", "Nesterov")


class Case:
    """One curve with noise, one optimizer."""

    def __init__(self, g, *, family=None, curve=None, stretch=1.0):
        name = curve or g.choice(list(CURVES))
        self.formula, typical, (low, high) = CURVES[name]
        n = int(np.exp(g.uniform(np.log(20), np.log(200))))
        truth = {key: value * g.uniform(0.8, 1.2) for key, value in typical.items()}
        x = np.linspace(low, high, n) * stretch
        if stretch != 1.0:
            truth = {key: value / stretch if key == "b" else value for key, value in truth.items()}
        clean = _curve(self.formula, truth, x)
        self.data = {"x": x, "y": clean + g.normal(0, g.uniform(0.01, 0.1) * np.ptp(clean), n)}
        self.start = {key: value * g.uniform(0.8, 1.2) for key, value in truth.items()}
        self.name = g.choice(family or list(OPTIMIZERS))
        best = gradfit.fit(self.formula, self.data, start=self.start)
        self.least, self.n, self.k = best.rss, n, len(truth)

    def fit(self, **given):
        settings = {"solver": self.name, "epochs": EPOCHS, **OPTIMIZERS[self.name], **given}
        with np.errstate(all="ignore"):
            return gradfit.fit(self.formula, self.data, start=self.start, executor="native", **settings)

    def offset(self, result):
        """Confidence radii from the minimum."""
        over = max(result.rss - self.least, 0) if np.isfinite(result.rss) else np.inf
        return float(np.sqrt(over / self.least * (self.n - self.k) / self.k))


def _curve(formula, truth, x):
    from gradfit.formula import parse

    return np.asarray(parse(formula).right.evaluate({**truth, "x": x}))


def codes(result):
    return [f.code for f in result.findings if f.code in CODES and f.severity != "info"]


def remedy(result):
    """The arguments that the first finding about training says."""
    told = next(f.remedy for f in result.findings if f.code in CODES and f.severity != "info")
    call = ast.parse(f"f({told})").body[0].value
    return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


def chosen(case, **given):
    """The rate that lr="auto" takes, where it arrives; else None."""
    result = case.fit(**{"lr": "auto", **given})
    return _rate(result) if case.offset(result) < 0.03 else None


def _rate(result):
    return float(re.search(r"lr=([^,]+),", result.solver)[1])


# ---------------------------------------------------------------------- trainings of each kind; None: not what was wanted
def healthy(g):
    case = Case(g)
    scale = str(g.choice(["auto", "none"]))
    lr = "auto"
    if g.random() < 0.5:
        rate = chosen(case, scale=scale)
        if rate is None:
            return None
        lr = rate * g.uniform(0.4, 1.0)
    result = case.fit(lr=lr, scale=scale)
    return (case, result) if case.offset(result) < 0.03 else None


def too_large(g):
    case = Case(g, family=FAMILY if g.random() < 0.5 else None)
    rate = chosen(case)
    if rate is None:
        return None
    factor = g.uniform(2, 10) if case.name in FAMILY else 10 ** g.uniform(1, 2.5)
    result = case.fit(lr=rate * factor)
    if (
        result.converged
    ):  # thrown into another minimum: that is found as underfitting, and no rate leads out of it
        return None
    return (case, result) if case.offset(result) > 0.2 else None


def too_small(g):
    case = Case(g)
    rate = chosen(case)
    if rate is None:
        return None
    result = case.fit(lr=rate / 10 ** g.uniform(1.5, 4))
    return (case, result) if case.offset(result) > 0.2 else None


def unscaled(g):
    case = Case(g, family=FAMILY, curve=g.choice(["line", "line"]), stretch=10 ** g.uniform(1.7, 4))
    result = case.fit(lr="auto")
    return (case, result) if case.offset(result) > 0.2 else None


def cut_short(g):
    case = Case(g)
    rate = chosen(case)
    if rate is None:
        return None
    way = case.fit(lr=rate).history
    there = np.flatnonzero(way.loss * case.n <= case.least * (1 + 0.2**2 * case.k / (case.n - case.k)))
    epochs = int(way.step[there[0]] * g.uniform(0.1, 0.4)) if len(there) else 0
    if epochs < 5 or chosen(case, epochs=epochs) is not None:  # another rate would do
        return None
    result = case.fit(lr=rate, epochs=epochs)
    return (case, result) if case.offset(result) > 0.2 else None


SICK = {
    "lr-too-large": too_large,
    "lr-too-small": too_small,
    "gradient-scale": unscaled,
    "not-converged": cut_short,
}


def drawn(kind, g):
    while True:
        made = kind(g)
        if made is not None:
            return made


def table(healthy_count, sick_count):
    g = np.random.default_rng(0)
    alarms = Counter()
    for _ in range(healthy_count):
        _, result = drawn(healthy, g)
        alarms.update(codes(result)[:1])
    blamed = sum(alarms.values())
    rows = [
        f"Of {healthy_count} healthy trainings {blamed} had a warning or an error of these codes ({100 * blamed / healthy_count:.1f} %).",
        "",
        "| sick in this way | any code | this code | mended | raised instead |",
        "|---|--:|--:|--:|---|",
    ]
    for code, kind in SICK.items():
        found, named, mended, instead = 0, 0, 0, Counter()
        for _ in range(sick_count):
            case, result = drawn(kind, g)
            seen = codes(result)
            found += bool(seen)
            named += code in seen
            instead.update(c for c in seen if c != code)
            if not seen:
                if "-v" in sys.argv:
                    print(
                        code,
                        "missed",
                        case.name,
                        case.formula,
                        result.solver,
                        result.message,
                        result.findings,
                        case.offset(result),
                    )
                continue
            settings = {"lr": _rate(result), "epochs": result.iterations, **remedy(result)}
            after = case.fit(**settings)
            good = case.offset(after) < 0.1 and not codes(after)
            mended += good
            if (not good or code not in seen) and "-v" in sys.argv:
                print(
                    code,
                    seen,
                    case.name,
                    case.formula,
                    result.solver,
                    result.findings[0].message,
                    "|",
                    result.findings[0].remedy,
                    "->",
                    codes(after),
                    f"{case.offset(result):.2g} {case.offset(after):.2g}",
                )
        others = ", ".join(f"{c} {100 * m / sick_count:.0f} %" for c, m in instead.most_common())
        rows.append(
            f"| {code} | {100 * found / sick_count:.0f} % | {100 * named / sick_count:.0f} % | {100 * mended / max(found, 1):.0f} % | {others} |"
        )
    return rows


if __name__ == "__main__":
    began = time.time()
    counts = [int(a) for a in sys.argv[1:] if a.isdigit()]
    lines = table(*(counts or (600, 100)))
    print("\n".join(lines))
    print(f"{time.time() - began:.0f} s")
    if "--write" in sys.argv:
        page = PAGE.read_text()
        text = "\n".join(
            ["<!-- training: written by benchmarks/findings_training.py -->", *lines, "<!-- end training -->"]
        )
        PAGE.write_text(re.sub(r"<!-- training:.*?<!-- end training -->", lambda _: text, page, flags=re.S))
