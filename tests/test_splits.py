from __future__ import annotations

import hashlib
import hmac

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mococxr.errors import InputError, UndefinedError
from mococxr.splits import SPLITS, explicit_split, hashed_split, sample_patients, stratified_split

PARTS = (0.5, 0.1, 0.4)


def test_a_patients_split_is_its_hash_under_the_seed_whoever_else_is_there():
    names = pl.Series(["Jörg", "", "007", *map(str, range(300))])
    split = dict(hashed_split(pl.concat([names, names]), PARTS, 3).iter_rows())
    assert list(split) == sorted(names)
    for name in names:
        at = int(hmac.new(b"mococxr split 3", name.encode(), hashlib.sha256).hexdigest()[:16], 16) / 2**64
        assert split[name] == ("train" if at < 0.5 else "val" if at < 0.6 else "test")
        assert hashed_split(pl.Series([name]), PARTS, 3).rows() == [(name, split[name])]


def test_hashed_shares_are_met_in_expectation_and_another_seed_is_another_split():
    names = pl.Series([f"P{i:05d}" for i in range(20_000)])
    drawn = [hashed_split(names, PARTS, seed)["split"] for seed in range(3)]
    for split in drawn:
        for name, share in zip(SPLITS, PARTS, strict=True):
            assert abs((split == name).mean() - share) < 4 * (share * (1 - share) / len(names)) ** 0.5
    agree = sum(share**2 for share in PARTS)
    assert abs((drawn[0] == drawn[1]).mean() - agree) < 4 * (agree * (1 - agree) / len(names)) ** 0.5
    assert set(hashed_split(names, (0.3, 0, 0.7), 0)["split"]) == {"train", "test"}
    assert set(hashed_split(names, (0.1 + 0.2, 0.7, 0), 0)["split"]) == {"train", "val"}


LABEL = st.sampled_from([1, 0, -1, None])


@st.composite
def images(draw: st.DrawFn, least: int = 3) -> pl.DataFrame:
    patients = draw(st.lists(st.text("abc0", min_size=1, max_size=4), min_size=least, max_size=60))
    patients += [f"only{i}" for i in range(least)]
    values = draw(st.lists(st.tuples(LABEL, LABEL), min_size=len(patients), max_size=len(patients)))
    return pl.DataFrame(
        {"patient": patients, "A": [v[0] for v in values], "B": [v[1] for v in values]},
        schema={"patient": pl.String, "A": pl.Int8, "B": pl.Int8},
    )


@st.composite
def shares(draw: st.DrawFn) -> tuple[float, float, float]:
    parts = draw(st.lists(st.integers(0, 10), min_size=3, max_size=3).filter(any))
    a, b, _ = (part / sum(parts) for part in parts)
    return a, b, max(0.0, 1 - a - b) if parts[2] else 0.0


@settings(max_examples=60, deadline=None)
@given(images(), shares(), st.integers(0, 5))
def test_every_patient_is_in_exactly_one_split_of_the_right_size(rows, parts, seed):
    split = stratified_split(rows, ["A", "B"], parts, seed)
    assert split["patient"].to_list() == sorted(set(rows["patient"]))
    sizes = dict(split.group_by("split").len().iter_rows())
    for name, share in zip(SPLITS, parts, strict=True):
        got, exact = sizes.get(name, 0), share * len(split)
        assert (got > 0) == (share > 0)
        assert abs(got - exact) < 1 or got == 1 or min(sizes.values()) == 1
    assert set(sizes) <= set(SPLITS)


@settings(max_examples=25, deadline=None)
@given(images(), st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_split_does_not_depend_on_the_order_of_the_rows(rows, seed, random):
    order = list(range(len(rows)))
    random.shuffle(order)
    assert stratified_split(rows, ["A", "B"], (0.5, 0.1, 0.4), seed).equals(
        stratified_split(rows[order], ["B", "A"], (0.5, 0.1, 0.4), seed)
    )


def test_exact_shares_are_exact():
    rows = pl.DataFrame({"patient": [f"p{i}" for i in range(1000)], "A": [i % 3 == 0 for i in range(1000)]})
    sizes = dict(
        stratified_split(rows.cast({"A": pl.Int8}), ["A"], (0.5, 0.1, 0.4), 0)
        .group_by("split").len().iter_rows()
    )  # fmt: skip
    assert sizes == {"train": 500, "val": 100, "test": 400}


def test_rare_and_common_findings_are_spread_evenly_for_every_seed():
    rng = np.random.default_rng(0)
    n = 2000
    rows = pl.DataFrame(
        {"patient": [f"p{i:04d}" for i in range(n)], "rare": rng.random(n) < 0.01,
         "some": rng.random(n) < 0.1,
         "common": rng.random(n) < 0.5}
    ).cast({"rare": pl.Int8, "some": pl.Int8, "common": pl.Int8})  # fmt: skip
    for seed in range(5):
        split = stratified_split(rows, ["common", "rare", "some"], (0.5, 0.1, 0.4), seed)
        joined = rows.join(split, on="patient")
        for label, slack in (("rare", 2), ("some", 5), ("common", 10)):
            for name, share in zip(SPLITS, (0.5, 0.1, 0.4), strict=True):
                got = joined.filter(split=name)[label].sum()
                assert abs(got - share * rows[label].sum()) <= slack, (seed, label, name)


def test_another_seed_gives_another_split_even_where_no_two_patients_are_alike():
    rows = pl.DataFrame({"patient": [f"p{i}" for i in range(64)]}).with_columns(
        *[pl.Series(f"l{b}", [(i >> b) & 1 for i in range(64)], dtype=pl.Int8) for b in range(6)]
    )
    labels = [f"l{b}" for b in range(6)]
    several = {tuple(stratified_split(rows, labels, (0.5, 0.1, 0.4), seed)["split"]) for seed in range(8)}
    assert len(several) == 8


@pytest.mark.parametrize("parts", [(0.5, 0.5, 0.5), (-0.1, 0.6, 0.5), (0.5, 0.1, 0.1), (float("nan"), 0.5, 0.5)])
def test_impossible_shares_are_refused(parts):
    with pytest.raises(InputError, match="--split"):
        stratified_split(pl.DataFrame({"patient": ["a", "b", "c"]}), [], parts, 0)


def test_a_split_with_a_share_gets_a_patient_or_an_error():
    rows = pl.DataFrame({"patient": list("abc")})
    assert set(stratified_split(rows, [], (0.98, 0.01, 0.01), 0)["split"]) == set(SPLITS)
    with pytest.raises(InputError, match="2 patients cannot fill 3 splits"):
        stratified_split(rows[:2], [], (0.5, 0.1, 0.4), 0)
    assert set(stratified_split(rows[:2], [], (0.5, 0, 0.5), 0)["split"]) == {"train", "test"}


def given_table(*pairs: tuple[str | None, str | None]) -> pl.DataFrame:
    return pl.DataFrame(pairs, schema={"patient": pl.String, "split": pl.String}, orient="row")


def test_a_stated_split_is_taken_as_it_is():
    table = given_table(("b", "test"), ("a", "train"), (None, "test"), ("a", "train"), ("c", "val"), ("x", "val"))
    split, new, unused = explicit_split(table, pl.Series(["a", "b", "c", "a"]), "s.csv")
    assert dict(split.iter_rows()) == {"a": "train", "b": "test", "c": "val"}
    assert (new, unused) == (0, 1)
    rest = given_table(("a", "test"), ("b", "train"), ("new", "val"))
    split, new, unused = explicit_split(table, pl.Series(["a", "b", "new"]), "s.csv", rest)
    assert dict(split.iter_rows()) == {"a": "train", "b": "test", "new": "val"}
    assert (new, unused) == (1, 2)


@pytest.mark.parametrize(
    ("pairs", "culprit"),
    [
        ([("a", "train"), (None, "test"), ("a", "test")], r"patient 'a' is in test and train \(rows 1, 3\)"),
        ([("a", "train"), ("b", None)], "no split for 1 patients, e.g. 'b'"),
    ],
)
def test_a_stated_split_that_is_wrong_is_refused_with_the_culprit(pairs, culprit):
    with pytest.raises(InputError, match=culprit):
        explicit_split(given_table(*pairs), pl.Series(["a", "b"]), "s.csv")


@st.composite
def labelled(draw: st.DrawFn) -> pl.DataFrame:
    rows = draw(st.lists(st.tuples(st.text("abcd", min_size=1), st.sampled_from([0, 1])), max_size=60))
    rows = [("positive", 1), ("negative", 0), *rows]
    return pl.DataFrame(rows, schema={"patient": pl.String, "label": pl.Int8}, orient="row")


@settings(max_examples=60, deadline=None)
@given(labelled(), st.floats(0.001, 1), st.floats(0.001, 1), st.integers(0, 20), st.integers(0, 3))
def test_draws_are_nested_have_both_classes_and_the_exact_size(table, one, two, number, seed):
    few, many = (sample_patients(table, f, number, seed) for f in sorted((one, two)))
    assert many[: len(few)] == few
    patients = table.group_by("patient").agg(pl.col("label").max())
    for drawn, fraction in ((few, min(one, two)), (many, max(one, two))):
        assert len(set(drawn)) == len(drawn) == max(2, round(fraction * len(patients)))
        assert set(patients.filter(pl.col("patient").is_in(drawn))["label"]) == {0, 1}


@settings(max_examples=25, deadline=None)
@given(labelled(), st.randoms(use_true_random=False))
def test_a_draw_does_not_depend_on_the_order_of_the_rows(table, random):
    order = list(range(len(table)))
    random.shuffle(order)
    assert sample_patients(table, 0.3, 1, 0) == sample_patients(table[order], 0.3, 1, 0)


def test_draws_and_seeds_differ_and_all_labels_are_all_patients():
    table = pl.DataFrame({"patient": [f"p{i}" for i in range(200)], "label": [int(i < 20) for i in range(200)]})
    draws = {tuple(sample_patients(table, 0.1, number, seed)) for number in range(5) for seed in range(2)}
    assert len(draws) == 10
    assert sorted(sample_patients(table, 1, 3, 0)) == sorted(table["patient"])


@pytest.mark.parametrize(("labels", "lacking"), [([0, 0], "positive"), ([1, 1], "negative"), ([], "positive")])
def test_one_class_is_an_undefined_draw_with_the_reason(labels, lacking):
    table = pl.DataFrame(
        {"patient": [f"p{i}" for i in range(len(labels))], "label": labels},
        schema={"patient": pl.String, "label": pl.Int8},
    )
    with pytest.raises(UndefinedError, match=f"is {lacking}"):
        sample_patients(table, 0.5, 0, 0)
