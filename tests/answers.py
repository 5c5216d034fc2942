"""Problems with certified or independently computed answers, as tables of cases."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from gradfit import Table, read

DATA = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Nist:
    """One NIST StRD problem; refined values are the certified optimum in 60-digit arithmetic."""

    name: str
    formula: str
    params: tuple[str, ...]
    starts: tuple[dict[str, float], ...]
    values: tuple[float, ...]
    errors: tuple[float, ...]
    rss: float
    linear: bool

    @property
    def path(self) -> Path:
        return DATA / "nist" / f"{self.name}.csv"


def _nist() -> tuple[Nist, ...]:
    problems = json.loads((DATA / "nist" / "problems.json").read_text())["problems"]
    return tuple(
        Nist(
            p["name"],
            p["formula"],
            tuple(p["params"]),
            tuple(dict(zip(p["params"], p[key], strict=True)) for key in ("start1", "start2") if p.get(key)),
            tuple(p["refined"]),
            tuple(p["refined_sd"]),
            p["refined_rss"],
            p["kind"] == "linear",
        )
        for p in problems
    )


NIST = _nist()


def digits(values, certified) -> float:
    """Least number of correct digits, at most 15 (NIST's log relative error)."""
    values, certified = np.asarray(values, float), np.asarray(certified, float)
    scale = np.where(certified != 0, np.abs(certified), 1.0)
    error = np.abs(values - certified) / scale
    return float(np.min(-np.log10(np.clip(error, 1e-15, None))))


@dataclass(frozen=True)
class Real:
    """One fit of a measured data set, with the answer of Newton's method in 40 digits."""

    name: str
    formula: str
    file: str
    start: dict[str, float]
    params: dict[str, float]
    errors: dict[str, float]
    sigma: str | None
    rows: dict
    derived: dict

    def table(self) -> Table:
        table = read(DATA / "real" / self.file)
        for name, rule in self.derived.items():
            text = np.array([str(v) for v in table.columns[rule["column"]]])
            table = table.with_column(name, (text == str(rule["equals"])).astype(float))
        for column, rule in self.rows.items():
            table = table.keep(_chosen(table.columns[column], rule))
        return table


def _chosen(values, rule):
    if not isinstance(rule, dict):
        text = np.array([str(v) for v in values])
        return text == str(rule) if values.dtype == object else values == rule
    mask = np.ones(len(values), dtype=bool)
    if "min" in rule:
        mask &= values >= rule["min"]
    if "max" in rule:
        mask &= values <= rule["max"]
    if "not" in rule:
        mask &= values != rule["not"]
    return mask


def _real() -> tuple[Real, ...]:
    cases = []
    for p in json.loads((DATA / "real" / "answers.json").read_text())["problems"]:
        plain = p["loss"] == "squared" or p["loss"].startswith("weighted")
        if (
            not plain
            or p.get("group")
            or p.get("responses")
            or "voigt(" in p["formula"]
            or "reconvolve" in p["formula"]
        ):
            continue
        sigma = p["loss"].split(":")[1].strip() if p["loss"].startswith("weighted") else None
        cases.append(
            Real(
                p["name"],
                p["formula"],
                p["file"],
                p["start"],
                p["params"],
                p["stderr"],
                sigma,
                p["where"] or {},
                p.get("derived") or {},
            )
        )
    return tuple(cases)


REAL = _real()
