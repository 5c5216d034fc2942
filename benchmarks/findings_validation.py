"""Measures the findings on held-out rows: overfitting and leakage, found and cured, and false alarms on healthy splits.

    python benchmarks/findings_validation.py                # 400 healthy, 200 sick a row: about 3 minutes
    python benchmarks/findings_validation.py 40 20          # fewer
    python benchmarks/findings_validation.py --write        # and writes the table into docs/findings.md

Everything is fitted by `gradfit.fit` with rows held out. What overfits is judged by 2,000 fresh rows: the risk is the mean squared
error there, and a fit is sick when its risk is more than 1.3 times the lowest, of polynomials with fewer terms or of earlier
epochs. Cured: with the remedy pasted as it stands the code is gone, and at least two thirds of what was too much of the risk.
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
NOISE = {
    "normal": lambda g, n: g.normal(size=n),
    "uniform": lambda g, n: g.uniform(-(3**0.5), 3**0.5, n),
    "laplace": lambda g, n: g.laplace(size=n) / 2**0.5,
    "t6": lambda g, n: g.standard_t(6, n) / 1.5**0.5,
}
WAVES = "y = p0 + " + " + ".join(f"p{i}*cos({i}*x) + q{i}*sin({i}*x)" for i in range(1, 9))
ZERO = {"p0": 0.0} | {name: 0.0 for i in range(1, 9) for name in (f"p{i}", f"q{i}")}
TRAINED = {"start": ZERO, "solver": "SGD", "lr": 0.1, "epochs": 3000, "executor": "native"}


def drawn(g, n, *, sigma, kind, steps=False):
    x = g.uniform(-1, 1, n)
    y = np.sin(3 * x) + sigma * NOISE[kind](g, n)
    return {"x": np.round(x, 1), "y": np.round(y, 2)} if steps else {"x": x, "y": y}


def tables(g, n, m, sigma, **how):
    kind = str(g.choice(list(NOISE)))
    return [drawn(g, rows, sigma=sigma, kind=kind, **how) for rows in (n, m, 2000)]


def power(terms):
    return "y = " + " + ".join(["c0", "c1*x", *(f"c{i}*x**{i}" for i in range(2, terms))])


def risk(result, fresh):
    return float(np.mean((np.asarray(result.predict({"x": fresh["x"]}).value) - fresh["y"]) ** 2))


def codes(result):
    return [finding.code for finding in result.findings if finding.severity != "info"]


def pasted(result, code):
    told = next(finding.remedy for finding in result.findings if finding.code == code)
    call = ast.parse(f"f({told})").body[0].value
    return {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}


# ---------------------------------------------------------------------- (formula, arguments, fresh rows, lowest risk)
def direct(g, terms=None):
    n = 30 if terms is None else int(g.integers(30, 101))
    k = int(g.integers(18, 26)) if terms is None else min(int(n * g.uniform(*terms)), 25)
    train, held, fresh = tables(g, n, int(g.integers(10, 61)), g.uniform(0.1, 0.5))
    lowest = np.inf
    for m in range(2, min(k, 14)):
        c = np.polynomial.Chebyshev.fit(train["x"], train["y"], m - 1)
        lowest = min(lowest, float(np.mean((fresh["y"] - c(fresh["x"])) ** 2)))
    return power(k), {"data": train, "validation": held}, fresh, lowest


def trained(g):
    train, held, fresh = tables(g, int(g.integers(20, 50)), int(g.integers(60, 301)), g.uniform(0.3, 0.7))
    told = {"data": train, "validation": held, **TRAINED}
    history = gradfit.fit(WAVES, **told).history
    some = history.parameters[:: max(1, len(history.parameters) // 100)]
    names = [
        np.ones(2000),
        *(part for i in range(1, 9) for part in (np.cos(i * fresh["x"]), np.sin(i * fresh["x"]))),
    ]
    lowest = min(float(np.mean((fresh["y"] - np.column_stack(names) @ p) ** 2)) for p in some)
    return WAVES, told, fresh, lowest


def healthy_fit(g):
    """A fit of the right size: by Levenberg-Marquardt, by training, with gridded and rounded data, any kind of split."""
    way = int(g.integers(4))
    n = int(np.exp(g.uniform(np.log(20), np.log(400))))
    if way == 3:
        n = int(g.integers(400, 800))
    train, held, fresh = tables(g, n, max(n // 4, 5), g.uniform(0.05, 0.5), steps=way == 1)
    told = {"data": train, "validation": held}
    if g.random() < 0.5:
        told = {
            "data": {name: np.concatenate([train[name], held[name]]) for name in train},
            "validation": 0.2,
            "seed": int(g.integers(99)),
        }
    if way == 3:
        return WAVES, {**told, **TRAINED}, fresh
    if way == 2:
        return power(int(g.integers(4, 6)) if n >= 40 else 4), told, fresh
    return "y = a*sin(b*x) + c", {**told, "start": [1, 2.8, 0]}, fresh


def leaking(g):
    """Held-out rows of which some are in training too: copied as they are, or with a last digit that differs."""
    train, held, _ = tables(
        g, int(g.integers(100, 401)), int(g.integers(40, 101)), g.uniform(0.1, 0.4), steps=g.random() < 0.3
    )
    m = len(held["x"])
    share = g.uniform(0.3, 1.0) if len(np.unique(train["x"])) < 30 else g.uniform(0.15, 1.0)
    chosen = g.permutation(len(train["x"]))[: int(share * m)]
    last = g.choice([0.0, 1e-9])
    for name in ("x", "y"):
        held[name][: len(chosen)] = train[name][chosen[:m]] * (1 + last)
    both = {name: np.concatenate([train[name], held[name]]) for name in ("x", "y")}
    both["held"] = np.repeat([0.0, 1.0], [len(train["x"]), m])
    told = {"data": both, "validation": "held"} if g.random() < 0.5 else {"data": train, "validation": held}
    return "y = a*sin(b*x) + c", {**told, "start": [1, 2.8, 0]}


# ---------------------------------------------------------------------- counted
def interval(bad, n):
    z, p = 1.96, bad / n
    middle, half = p + z * z / 2 / n, z * np.sqrt(p * (1 - p) / n + z * z / 4 / n / n)
    return f"{max(0.0, 100 * (middle - half) / (1 + z * z / n)):.1f} to {100 * (middle + half) / (1 + z * z / n):.1f} %"


def blamed(n):
    g, alarms, others, bad = np.random.default_rng([2026, 10]), Counter(), Counter(), 0
    for _ in range(n):
        formula, told, _ = healthy_fit(g)
        found = codes(gradfit.fit(formula, **told))
        bad += bool({"overfitting", "leakage"} & set(found))
        alarms.update({"overfitting", "leakage"} & set(found))
        others.update(set(found) - {"overfitting", "leakage"})
    each = ", ".join(f"{code} {m}" for code, m in alarms.most_common()) or "none"
    rest = ", ".join(f"{code} {m}" for code, m in others.most_common()) or "none"
    return (
        f"Of {n} healthy fits with rows held out **{bad} were blamed for them: {bad / n:.1%}** (95 % interval {interval(bad, n)}; "
        f"{each}). Other codes on the same fits: {rest}."
    )


BANDS = ((1.3, 2), (2, 5), (5, np.inf))
KINDS = {
    "18 to 25 terms on 30 rows": lambda g: direct(g),
    "terms for 0.3 to 0.7 of 30 to 100 rows, 25 at most": lambda g: direct(g, (0.3, 0.7)),
    "training past its best epoch": trained,
}


def overfitted(kind, n, seed):
    g, seen = np.random.default_rng([2026, 11, seed]), []
    while len(seen) < n:
        formula, told, fresh, lowest = kind(g)
        result = gradfit.fit(formula, **told)
        before = risk(result, fresh)
        if not before > 1.3 * lowest:
            continue
        found, cured = "overfitting" in codes(result), False
        if found:
            after = gradfit.fit(formula, **{**told, **pasted(result, "overfitting")})
            cured = "overfitting" not in codes(after) and risk(after, fresh) - lowest < (before - lowest) / 3
        seen.append((before / lowest, found, cured, bool(codes(result))))
    return np.array(seen)


def leaked(n):
    g, found, cured = np.random.default_rng([2026, 12]), 0, 0
    for _ in range(n):
        formula, told = leaking(g)
        result = gradfit.fit(formula, **told)
        if "leakage" in codes(result):
            found += 1
            cured += "leakage" not in codes(gradfit.fit(formula, **{**told, **pasted(result, "leakage")}))
    return f"| leakage: copies of rows | {n} | {found / n:.0%} | {cured / max(found, 1):.0%} | |"


def table(healthy, sick):
    bands = " | ".join(
        f"{low:g} to {high:g}" if np.isfinite(high) else f"above {low:g}" for low, high in BANDS
    )
    rows = [
        blamed(healthy), "",
        f"| sick in this way | fits | found | cured of those | found, by risk over the lowest: {bands} |",
        "|---|--:|--:|--:|" + "--:|" * len(BANDS),
    ]  # fmt: skip
    for i, (name, kind) in enumerate(KINDS.items()):
        seen = overfitted(kind, sick, i)
        inside = [(seen[:, 0] >= low) & (seen[:, 0] < high) for low, high in BANDS]
        parts = " | ".join(
            f"{np.mean(seen[part, 1]):.0%} of {part.sum()}" if part.any() else "" for part in inside
        )
        found = seen[:, 1].sum()
        rows.append(
            f"| overfitting: {name} | {sick} | {found / sick:.0%} | {seen[:, 2].sum() / max(found, 1):.0%} | {parts} |"
        )
        print(rows[-1], flush=True)
    rows.append(leaked(sick) + " |" * (len(BANDS) - 1))
    return rows


if __name__ == "__main__":
    began = time.time()
    counts = [int(a) for a in sys.argv[1:] if a.isdigit()]
    lines = table(*(counts or (400, 200)))
    print("\n".join(lines))
    print(f"{time.time() - began:.0f} s")
    if "--write" in sys.argv:
        page = PAGE.read_text()
        text = "\n".join(
            [
                "<!-- validation: written by benchmarks/findings_validation.py -->",
                *lines,
                "<!-- end validation -->",
            ]
        )
        PAGE.write_text(
            re.sub(r"<!-- validation:.*?<!-- end validation -->", lambda _: text, page, flags=re.DOTALL)
        )
