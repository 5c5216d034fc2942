"""Many fits of which some are hopeless: each gets a status, and the others are the same to the last bit."""

import numpy as np
import pytest

import gradfit
from gradfit.errors import DataError

DECAY = "y = a*exp(-t/tau) + c"
GAUSS = "y = a*exp(-0.5*((x - c)/w)**2) + b"
POINTS = 16
EVERY = 100  # one group of so many is bad


def rows_of(kind, t, y, random):
    """Return what becomes of the rows of a good group."""
    if kind == "one point":
        return t[:1], y[:1]
    if kind == "unsorted":
        order = random.permutation(len(t))
        return t[order], y[order]
    if kind == "each place twice":
        return np.repeat(t[::2], 2), np.repeat(y[::2], 2) + np.tile([0.01, -0.01], len(t) // 2)
    return {
        "all missing": (t, np.full_like(y, np.nan)),
        "no place": (np.full_like(t, np.nan), y),
        "constant": (t, np.full_like(y, 2.0)),
        "zeros": (t, np.zeros_like(y)),
        "one infinite": (t, np.where(t == t[3], np.inf, y)),
        "all infinite": (t, np.full_like(y, -np.inf)),
        "1e30": (t, 1e30 * y),
        "one place": (np.full_like(t, 2.0), y),
        "1e300 and back": (t, np.where(t == t[3], 1e300, y)),
    }[kind]


WANTED = {
    "one point": {"too-few-points"}, "unsorted": {"converged"}, "each place twice": {"converged"},
    "all missing": {"too-few-points"}, "no place": {"too-few-points"}, "constant": {"singular"}, "zeros": {"singular"},
    "one infinite": {"converged"}, "all infinite": {"too-few-points"}, "1e30": {"converged"}, "one place": {"singular"},
    "1e300 and back": {"converged", "singular", "max-iterations", "stalled"},
}  # fmt: skip


def table(groups, *, bad, seed=0):
    """Return a table of decays, and the kind of each group; every hundredth is bad, or is left out."""
    random = np.random.default_rng(seed)
    t = np.linspace(0, 10, POINTS)
    a, tau, c = (random.uniform(low, high, (groups, 1)) for low, high in ((2, 9), (1, 5), (-1, 1)))
    y = a * np.exp(-t / tau) + c + 0.05 * random.normal(size=(groups, POINTS))
    kinds = [list(WANTED)[i // EVERY % len(WANTED)] if i % EVERY == 7 else "" for i in range(groups)]
    keys, times, values = [], [], []
    for i, kind in enumerate(kinds):
        if kind and not bad:
            continue
        own = rows_of(kind, t, y[i], random) if kind else (t, y[i])
        keys.append(np.full(len(own[0]), i))
        times.append(own[0])
        values.append(own[1])
    return {"key": np.concatenate(keys), "t": np.concatenate(times), "y": np.concatenate(values)}, kinds


def bits(many):
    ends = many.ends
    return np.column_stack(
        [ends.parameters, ends.stderr, ends.rss, ends.iterations, ends.status, ends.points]
    )


@pytest.mark.parametrize(
    "start", [{"a": 5.0, "tau": 2.5, "c": 0.0}, {"tau": 2.5}], ids=["whole", "nonlinear"]
)
def test_one_in_a_hundred_of_many_groups_is_bad_and_no_other_one_notices(start):
    mixed, kinds = table(20_000, bad=True)
    pure, _ = table(20_000, bad=False)
    many = gradfit.fit_many(DECAY, mixed, by="key", start=start)
    alone = gradfit.fit_many(DECAY, pure, by="key", start=start)
    assert many.executor == alone.executor == "native"
    good = np.array([not kind for kind in kinds])
    assert len(many) == len(kinds)
    np.testing.assert_array_equal(bits(many)[good], bits(alone))
    assert alone.converged.all()
    for kind, status in WANTED.items():
        assert set(many.status[[k == kind for k in kinds]]) <= status, kind
    assert many.findings


def test_pixels_without_an_answer_spoil_no_start_of_others():
    """A start from the neighbour must not hand on what is no number, nor what is no answer."""
    random = np.random.default_rng(1)
    x = np.linspace(0, 10, 40)
    height, place = random.uniform(2, 60, (70, 60, 1)), random.uniform(1.5, 8.5, (70, 60, 1))
    y = height * np.exp(-0.5 * ((x - place) / 0.6) ** 2) + 1 + 0.05 * random.normal(size=(70, 60, 40))
    bad = random.random((70, 60)) < 0.1
    y[bad] = 0.05 * random.normal(size=(np.count_nonzero(bad), 40))
    y[::9, ::7] = np.nan
    lost = np.isnan(y[:, :, 0])
    many = gradfit.fit_many(GAUSS, {"x": x, "y": y}, axis=-1, executor="native")
    fine = ~bad & ~lost
    assert many.shape == (70, 60)
    assert many.converged[fine].all()
    assert np.abs(many.values["c"] - place[:, :, 0])[fine].max() < 0.2
    assert (many.status[lost] == "too-few-points").all()


def test_memory_that_will_not_do_is_named_before_anything_is_fitted(monkeypatch):
    x, y = np.linspace(0, 1, 10), np.zeros((2000, 10))
    rows = {"x": np.tile(x, 2000), "y": y.ravel(), "key": np.repeat(np.arange(2000), 10)}
    monkeypatch.setattr("gradfit.many.memory.free_bytes", lambda: 3e5)
    monkeypatch.setattr("gradfit.many.running.each", None)  # whoever fits all the same fails
    with pytest.raises(
        DataError, match=r"2.000 fits need about [\d.]+ MB of memory, and 0 MB are left"
    ) as told:
        gradfit.fit_many("y = a*x + b", {"x": x, "y": y})
    assert "`gradfit many`" in str(told.value)
    with pytest.raises(DataError, match=r"20.000 rows in groups need about 1 MB of memory"):
        gradfit.fit_many("y = a*x + b", rows, by="key")


def test_of_many_failures_the_first_are_tried_again_whatever_their_order(monkeypatch):
    """What failed is held in memory until the end, so its size has a limit."""
    t = np.linspace(0, 10, 20)
    y = 5 * np.exp(-t / np.linspace(2, 4, 400)[:, None]) + 1
    wild = {"a": 1.0, "tau": 1e-3, "c": 0.0}  # where the model is flat
    call = {"start": wild, "executor": "native"}
    whole = gradfit.fit_many(DECAY, {"t": t, "y": y}, **call)
    monkeypatch.setattr("gradfit.many.lost.NUMBERS", 20 * 50)
    monkeypatch.setattr("gradfit.many.running.TURN", 20 * 16)
    some = gradfit.fit_many(DECAY, {"t": t, "y": y}, **call)
    assert any("Of 400 fits that failed, the first 50 were tried again" in line for line in some.how)
    np.testing.assert_array_equal(bits(some)[:50], bits(whole)[:50])
