"""Which rows are held out: laws of every kind of split, and a sentence for each one that cannot be."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gradfit.errors import GradfitError
from gradfit.solve.patience import Patience, Watched
from gradfit.splitting import Ties, few_classes, folds, folds_of, held_out, is_other_data, split_of
from gradfit.table import read

TABLE = read(
    {
        "x": [3.0, 1.0, 2.0, 5.0, 4.0, 6.0],
        "y": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
        "plate": ["a", "a", "b", "b", "c", "c"],
        "day": [1.0, 1.0, 2.0, 2.0, 2.0, 3.0],
        "test": [0.0, 0.0, 0.0, 0.0, 0.0, 1.0],
        "part": ["train", "train", "val", "train", "Validation", "train"],
        "word": ["so", "so", "so", "so", "so", "so"],
        "none": [0.0] * 6,
        "every": [1.0] * 6,
        "gap": [1.0, None, 2.0, 2.0, 1.0, None],
    }
)


def parts(split, n):
    assert len(split.train) and len(split.held)
    assert sorted([*split.train, *split.held]) == list(range(n))
    return set(split.train.tolist()), set(split.held.tolist())


@given(n=st.integers(2, 400), share=st.floats(0.01, 0.99), seed=st.integers(0, 99))
def test_a_share_is_held_out_and_the_seed_decides_which(n, share, seed):
    wanted = round(n * share)
    if not 0 < wanted < n:
        with pytest.raises(GradfitError, match="none"):
            held_out(n, share, seed=seed)
        return
    split = held_out(n, share, seed=seed)
    parts(split, n)
    assert len(split.held) == wanted
    assert np.array_equal(split.held, held_out(n, share, seed=seed).held)


@given(
    codes=st.lists(st.integers(0, 9), min_size=2, max_size=120),
    share=st.floats(0.05, 0.9),
    seed=st.integers(0, 9),
)
def test_a_group_is_never_in_both_parts(codes, share, seed):
    groups = np.array(codes)
    ties = Ties(groups=groups, name="plate")
    if len(set(codes)) < 2:
        with pytest.raises(GradfitError, match="one group of plate"):
            held_out(len(codes), share, seed=seed, ties=ties)
        return
    split = held_out(len(codes), share, seed=seed, ties=ties)
    parts(split, len(codes))
    assert not set(groups[split.train]) & set(groups[split.held])


@given(times=st.lists(st.integers(0, 20), min_size=2, max_size=120), share=st.floats(0.05, 0.9))
def test_in_time_the_last_are_held_out_and_ties_stay_together(times, share):
    order = np.array(times, dtype=float)
    ties = Ties(order=order, name="day")
    if len(set(times)) < 2:
        with pytest.raises(GradfitError, match="same day"):
            held_out(len(times), share, ties=ties)
        return
    split = held_out(len(times), share, ties=ties)
    parts(split, len(times))
    assert order[split.train].max() < order[split.held].min()


@settings(max_examples=60)
@given(
    codes=st.lists(st.integers(0, 7), min_size=2, max_size=80),
    k=st.integers(2, 9),
    kind=st.sampled_from(["free", "groups", "order", "classes"]),
)
def test_folds_hold_each_row_out_once(codes, k, kind):
    values, n = np.array(codes, dtype=float), len(codes)
    ties = Ties(name="c") if kind == "free" else Ties(name="c", **{kind: values})
    room = {"groups": len(set(codes)), "order": len(set(codes)) - 1}.get(kind, n)
    if k > room:
        with pytest.raises(GradfitError, match=f"kfold={k}"):
            folds(n, k, ties=ties)
        return
    made = folds(n, k, ties=ties)
    assert len(made) == k
    held = np.concatenate([fold.held for fold in made])
    assert len(set(held.tolist())) == len(held)
    for fold in made:
        assert len(fold.train)
        assert len(fold.held)
        if kind == "order":
            assert values[fold.train].max() < values[fold.held].min()
        else:
            parts(fold, n)
        if kind == "groups":
            assert not set(values[fold.train]) & set(values[fold.held])
    if kind != "order":
        assert len(held) == n
    if kind in ("free", "classes"):
        sizes = [len(fold.held) for fold in made]
        assert max(sizes) - min(sizes) <= 1


@given(sizes=st.lists(st.integers(5, 40), min_size=2, max_size=5), seed=st.integers(0, 20))
def test_few_classes_keep_their_shares(sizes, seed):
    classes = np.repeat(np.arange(len(sizes)), sizes)
    assert few_classes(classes)
    held = classes[held_out(len(classes), 0.2, seed=seed, ties=Ties(classes=classes)).held]
    for kind, size in enumerate(sizes):
        assert abs(np.count_nonzero(held == kind) - 0.2 * size) < 1.5
    for fold in folds(len(classes), 4, seed=seed, ties=Ties(classes=classes)):
        for kind, size in enumerate(sizes):
            assert abs(np.count_nonzero(classes[fold.held] == kind) - size / 4) < 1.0


@pytest.mark.parametrize(
    ("values", "few"),
    [
        (np.array(["a", "b"] * 5, dtype=object), True),
        (np.array([True, False] * 5), True),
        (np.array([0.5, 1.0] * 10), False),
        (np.zeros(30), False),
        (np.arange(30.0) // 2, False),
        (np.arange(30.0) // 5, True),
    ],
)
def test_what_counts_as_few_classes(values, few):
    assert few_classes(values) is few


@pytest.mark.parametrize(
    ("validation", "options", "held"),
    [
        ("test", {}, [5]),
        ("part", {}, [2, 4]),
        ([6, 1], {}, [0, 5]),
        (np.array([6]), {}, [5]),
        ([False, True, False, False, False, True], {}, [1, 5]),
        (0.2, {"order": "day"}, [5]),
        (0.5, {"order": "day"}, [2, 3, 4, 5]),  # three of six would cut through day 2
        ([1, 2], {"groups": "plate"}, [0, 1]),
    ],
)
def test_rows_of_a_table(validation, options, held):
    assert split_of(TABLE, validation, **options).held.tolist() == held


def test_a_split_says_how_it_was_made():
    assert split_of(TABLE, 0.5, seed=3).sentence == "train 3, validation 3 rows (at random, seed 3)"
    assert split_of(TABLE, "test").sentence == "train 5, validation 1 rows (column test)"
    assert "whole groups of plate" in split_of(TABLE, 0.3, groups="plate").sentence
    assert "the last by day" in split_of(TABLE, 0.3, order="day").sentence


@pytest.mark.parametrize(
    ("validation", "options", "words"),
    [
        (0, {}, "not a share"),
        (1.0, {}, "not a share"),
        (float("nan"), {}, "not a share"),
        (20, {}, "not a share"),
        (0.01, {}, "holds out none"),
        (0.99, {}, "leaves none to train on"),
        ("none", {}, "holds out none"),
        ("every", {}, "holds out all 6 rows"),
        ("word", {}, 'holds "so"'),
        ("gap", {}, "empty in rows 2 and 6"),
        ("absent", {}, "no column absent"),
        ([7], {}, "no row 7 to hold out"),
        ([0], {}, "no row 0 to hold out"),
        ([], {}, "holds out none"),
        ([0.5, 0.5], {}, "not understood"),
        ([1, 2, 3, 4, 5, 6], {}, "all 6 rows"),
        ([True, False], {}, "2 truth values"),
        ([1], {"groups": "plate"}, "plate a has rows in both"),
        ([1], {"order": "day"}, "no place"),
        (0.2, {"groups": "plate", "order": "day"}, "not both"),
        (0.2, {"groups": "word"}, "one group of word"),
        (0.2, {"groups": "gap"}, "empty in rows 2 and 6"),
        (0.2, {"groups": "absent"}, "no column absent"),
        (0.2, {"order": "none"}, "same none"),
        (0.2, {"order": "gap"}, "no finite number|no number"),
        (0.2, {"order": "plate"}, "text"),
    ],
)
def test_a_split_that_cannot_be_is_a_sentence(validation, options, words):
    with pytest.raises(GradfitError, match=words):
        split_of(TABLE, validation, **options)


@pytest.mark.parametrize(
    ("k", "options", "words"),
    [
        (1, {}, "kfold=1 is not understood"),
        (2.5, {}, "not understood"),
        (True, {}, "not understood"),
        (7, {}, "more folds than 6 rows"),
        (4, {"groups": "plate"}, "more folds than 3 groups of plate"),
        (3, {"order": "day"}, "needs 4 different times"),
        (2, {"groups": "word"}, "1 group of word"),
    ],
)
def test_folds_that_cannot_be_are_a_sentence(k, options, words):
    with pytest.raises(GradfitError, match=words):
        folds_of(TABLE, k, **options)


def test_one_row_cannot_be_split():
    with pytest.raises(GradfitError, match="1 row cannot be split"):
        split_of(read({"x": [1.0]}), 0.5)
    with pytest.raises(GradfitError, match="1 row cannot be split"):
        folds(1, 2)


@pytest.mark.parametrize(
    ("validation", "other"),
    [(0.2, False), ("test", False), ([1, 2], False), (np.array([1]), False), (range(1, 3), False),
     ({"x": [1.0]}, True), ([{"x": 1.0}], True), (TABLE, True), (np.eye(3), True)],
)  # fmt: skip
def test_other_data_are_told_from_a_choice_of_rows(validation, other):
    assert is_other_data(TABLE, validation) is other


def test_a_file_is_other_data_unless_a_column_has_its_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("more.csv", "test"):
        (tmp_path / name).write_text("x,y\n1,2\n")
    assert is_other_data(TABLE, "more.csv")
    assert is_other_data(TABLE, tmp_path / "more.csv")
    assert not is_other_data(TABLE, "test")


# ---------------------------------------------------------------------------- patience


@given(
    losses=st.lists(st.floats(0, 9) | st.just(float("nan")), min_size=1, max_size=60), wait=st.integers(1, 9)
)
def test_patience_ends_after_so_many_epochs_without_progress(losses, wait):
    patience, seen, end = Patience(wait), Watched(), None
    for step, loss in enumerate(losses):
        seen = seen.told(step, loss, patience)
        if seen.ends(step, patience):
            end = step
            break
    upto = np.array(losses[: None if end is None else end + 1])
    if np.isfinite(upto).any():
        assert seen.best == np.nanmin(upto)
        assert seen.best_step == np.nanargmin(upto)
    else:
        assert seen.best_step == -1
    if end is not None:
        assert end - max(seen.best_step, 0) == wait


def test_progress_smaller_than_min_delta_is_kept_but_does_not_prolong_the_wait():
    patience, seen = Patience(3, min_delta=0.5), Watched()
    for step, loss in enumerate([2.0, 1.9, 1.8, 1.7]):
        seen = seen.told(step, loss, patience)
    assert (seen.best, seen.best_step) == (1.7, 3)
    assert seen.ends(3, patience)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"epochs": 0}, "patience is 0"),
        ({"epochs": 2.5}, "patience is 2.5"),
        ({"epochs": True}, "patience is True"),
        ({"min_delta": -1.0}, "min_delta is -1"),
        ({"min_delta": float("nan")}, "min_delta is nan"),
        ({"stop": "middle"}, "middle"),
    ],
)
def test_a_patience_out_of_range_is_a_sentence(settings, words):
    with pytest.raises(GradfitError, match=words):
        Patience(**settings)
