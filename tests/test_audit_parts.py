"""The parts of `inspect`: how an image lies, text, copies, counts, each against a slow way or a plain case."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from faulty_images import burn_in
from mococxr.audit import labels as counts
from mococxr.audit import measure as look
from mococxr.audit.flags import Pair, copies_within, groups
from mococxr.guard import pose, text
from mococxr.near_duplicates import fingerprints
from mococxr.store.reader import NO_IMAGE
from mococxr.synthetic import draw_synthetic


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """80 synthetic images, 320 by 267."""
    return [draw_synthetic(11, i, size=320) for i in range(80)]


def evened(images: list[np.ndarray]) -> list[np.ndarray]:
    return [pose.equalise(pose.shrink(image)) for image in images]


@pytest.mark.parametrize("shown", [80, 20], ids=["learnt from images", "synthetic images' word alone"])
def test_an_image_in_any_pose_is_recognised(images: list[np.ndarray], shown: int) -> None:
    model = pose.learn(evened(images[:shown]), range(shown), frontal=True)
    assert model is not None
    assert (model.means is None) == (shown < pose.ENOUGH), "too few images do not say what a chest is"
    for quarters, sign in pose.POSES:
        turned = [np.rot90(image if sign > 0 else 255 - image, quarters) for image in images]
        said = {pose.verdict(model.fits(image, row)) for row, image in enumerate(evened(turned))}
        assert said == {(quarters, sign < 0)}


def test_a_picture_in_few_greys_is_narrow_and_not_blank(images: list[np.ndarray]) -> None:
    def verdict(image: np.ndarray) -> tuple[bool, bool]:
        row = dict(zip(look._SCHEMA, look._measure(image.astype(np.uint8), 0, None), strict=True))
        return row["blank"], row["narrow"]

    for image in images[:5]:
        assert verdict(image) == (False, False)
        for bits in range(10, 15):
            few = image.astype(int) >> 16 - bits
            assert verdict(few)[1], bits
            assert verdict(255 - few)[1], bits
        assert verdict(image // 3 + 60) == (False, False)
    noise = np.random.default_rng(0).integers(0, 3, (320, 260))
    assert verdict(noise) == verdict(np.full((320, 260), 200)) == (True, False)


def test_the_template_that_is_shipped_is_the_one_of_48_synthetic_images() -> None:
    drawn = [pose.equalise(pose.shrink(draw_synthetic(0, i, size=72))) for i in range(48)]
    assert np.allclose(pose._first_template(), pose._fit(np.stack(drawn)), atol=1e-5)


def test_a_store_half_of_which_is_inverted_is_not_learnt_upside_down(images: list[np.ndarray]) -> None:
    half = [255 - image if i % 2 else image for i, image in enumerate(images)]
    model = pose.learn(evened(half), range(80), frontal=True)
    assert model is not None
    said = [pose.verdict(model.fits(image, row)) for row, image in enumerate(evened(half))]
    assert said == [(0, bool(i % 2)) for i in range(80)]


def test_lateral_images_are_judged_only_where_there_are_enough(images: list[np.ndarray]) -> None:
    assert pose.learn(evened(images[:20]), range(20), frontal=False) is None
    assert pose.learn(evened(images), range(80), frontal=False) is not None


@pytest.mark.parametrize("rows", [range(0, 160, 2), range(1, 320, 4), [*range(10), *range(11, 151, 2)]])
def test_images_that_stand_in_every_second_row_are_learnt_from_too(images: list[np.ndarray], rows: Any) -> None:
    model = pose.learn(evened(images), rows, frontal=True)
    assert model is not None
    assert model.means is not None
    said = [pose.verdict(model.fits(np.rot90(image), row)) for image, row in zip(evened(images), rows, strict=True)]
    assert set(said) == {(1, False)}


def test_what_is_no_chest_is_hardly_explained(images: list[np.ndarray]) -> None:
    model = pose.learn(evened(images), range(80), frontal=True)
    assert model is not None
    rng = np.random.default_rng(0)
    x, y = np.meshgrid(np.arange(240), np.arange(300))
    strange = {
        "noise": rng.integers(0, 256, (300, 240), np.uint8),
        "stripes": ((x // 20 % 2) * 200).astype(np.uint8),
        "a disc": (((x - 150) ** 2 + (y - 100) ** 2 < 3600) * 220).astype(np.uint8),
        "writing": cv2.putText(np.zeros((300, 240), np.uint8), "ABC", (5, 180), 0, 3, 255, 8),
    }
    explained = {name: model.explained(pose.equalise(pose.shrink(image)), 0) for name, image in strange.items()}
    assert max(explained.values()) < pose.EXPLAINED
    upright = [model.explained(image, row) for row, image in enumerate(evened(images))]
    turned = [model.explained(np.rot90(image), row) for row, image in enumerate(evened(images))]
    assert min(upright) > pose.EXPLAINED
    assert np.allclose(upright, turned), "the best pose counts"


def test_a_side_marker_is_no_text_and_a_name_is(images: list[np.ndarray]) -> None:
    plain = [text.text_strokes(image) for image in images]
    assert max(every for _, every in plain if every is not None) < text.WORD
    marked = [cv2.putText(image.copy(), "L", (230, 30), 0, 0.8, 255, 2, cv2.LINE_AA) for image in images[:20]]
    assert max(text.text_strokes(image)[1] for image in marked) < text.WORD  # type: ignore[index]
    named = [text.text_strokes(burn_in(image, number)) for number, image in enumerate(images[:40])]
    assert sum(longest >= text.LONG_LINE for longest, _ in named) >= 37


def test_a_large_image_is_read_as_its_shrunken_self_and_a_small_one_is_not_judged(images: list[np.ndarray]) -> None:
    large = cv2.resize(burn_in(images[0], 1), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    longest, _ = text.text_strokes(large) or (0, 0)
    assert longest >= text.LONG_LINE
    assert text.text_strokes(cv2.resize(images[0], (200, 240))) is None


def test_chains_of_copies_are_one_group() -> None:
    pairs = [Pair(4, 9, True), Pair(1, 2, False), Pair(2, 7, False), Pair(3, 9, False)]
    assert groups(pairs) == [[1, 2, 7], [3, 4, 9]]
    assert groups([]) == []


def test_copies_are_paired_once_and_blank_images_by_their_bytes_only(images: list[np.ndarray]) -> None:
    grey = np.full((320, 267), 90, np.uint8)
    shrunk = cv2.resize(images[1], None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)
    stored = [images[0], images[1], images[0], shrunk, grey, grey + 1, grey, images[0]]
    hashes = ["a", "b", "a", "c", "g", "h", "g", "a"]
    store: Any = SimpleNamespace(index=pl.DataFrame({"sha256": hashes}), pixels=stored.__getitem__)
    blank = np.array([image.std() == 0 for image in stored])
    found = copies_within(store, fingerprints(stored), blank)
    assert found == [Pair(0, 2, True), Pair(0, 7, True), Pair(1, 3, False), Pair(4, 6, True)]


def test_a_mirrored_copy_is_one_and_an_image_is_no_copy_of_its_own_mirror_image(images: list[np.ndarray]) -> None:
    stored = [*images[:6], cv2.resize(images[4], None, fx=0.8, fy=0.8)[:, ::-1]]
    store: Any = SimpleNamespace(index=pl.DataFrame({"sha256": list("abcdefg")}), pixels=stored.__getitem__)
    pairs = copies_within(store, fingerprints(stored), np.zeros(7, dtype=bool))
    assert pairs == [Pair(4, 6, False, mirrored=True)]


def store_of(table: dict[str, list[Any]], labels: list[str], **manifest: Any) -> Any:
    index = pl.DataFrame(table, schema_overrides=dict.fromkeys(labels, pl.Int8))
    splits = pl.DataFrame({"patient": ["p", "q", "q"], "split": ["train", "test", "train"]})
    none = pl.repeat(False, len(index), eager=True)  # no label was taken back
    manifest = {"metadata": [], **manifest}
    return SimpleNamespace(index=index, labels=labels, splits=splits, manifest=manifest, taken_back=lambda _: none)


def test_labels_are_counted_as_each_policy_counts_them() -> None:
    values = [1, 1, 0, -1, None, None, None, 0]
    table = counts.label_table(store_of({"A": values}, ["A"]))["A"]
    assert [table[name] for name in ("positive", "negative", "uncertain", "blank")] == [2, 2, 1, 3]
    for (uncertain, blank), one in zip(counts.POLICIES, table["policies"].values(), strict=True):
        meant = {-1: {"ignore": None, "zeros": 0, "ones": 1}[uncertain], None: {"negative": 0}.get(blank)}
        known = [v for v in (meant.get(value, value) for value in values) if v is not None]
        assert (one["known"], one["share"]) == (len(known), pytest.approx(sum(known) / len(known)))
    nothing = counts.label_table(store_of({"A": [None, None]}, ["A"]))["A"]["policies"]
    assert nothing["ignore, unknown"]["share"] is None, "an undefined share stays undefined"


def test_labels_together_are_counted_as_by_hand() -> None:
    table = {"A": [1, 1, 0, None, 1], "B": [1, 0, 1, 1, -1], "C": [0, 0, 0, 0, 0]}
    found = counts.together(store_of(table, ["A", "B", "C"]))
    for a in table:
        for b in table:
            assert found[a][b] == sum(x == 1 and y == 1 for x, y in zip(table[a], table[b], strict=True))


def test_a_column_that_goes_with_a_label_is_warned_of_with_its_auroc() -> None:
    rng = np.random.default_rng(2)
    view = rng.choice(["AP", "PA"], 400)
    ill = (rng.random(400) < np.where(view == "AP", 0.7, 0.3)).astype(int)
    other = rng.integers(0, 2, 400)
    sex = [None if i % 5 == 0 else "FM"[i % 2] for i in range(400)]
    store = store_of({"ill": ill, "other": other}, ["ill", "other"])
    found = counts.shortcuts(store, pl.DataFrame({"view": view, "sex": sex, "split": view}))
    assert [(one.label, one.column) for one in found if one.warns] == [("ill", "view")]
    assert found[0].auroc == pytest.approx(roc_auc_score(ill, view == "AP"))
    assert {one.column for one in found} == {"view", "sex"}, "the split is no property of an image"
    assert found[0].rates == [
        (name, pytest.approx(ill[view == name].mean()), int((view == name).sum())) for name in ("AP", "PA")
    ]
    rare = (np.arange(2000) % 80 == 0).astype(int)
    sites = pl.DataFrame({"site": rng.choice(list("abcdefgh"), 2000)})
    chance = counts.shortcuts(store_of({"ill": rare}, ["ill"]), sites)
    assert chance[0].auroc > 0.6
    assert not chance[0].warns, "25 images over eight sites are told by chance"
    few = counts.shortcuts(store_of({"ill": [1] * 3 + [0] * 3}, ["ill"]), pl.DataFrame({"view": list("aaabbb")}))
    assert few[0].auroc == 1
    assert not few[0].warns, "three images prove nothing"


def test_columns_of_few_values_are_counted_and_others_are_not() -> None:
    table = {
        "patient": ["p", "q", "r", "p"], "view": ["AP", None, "PA", "AP"], "sex": [None] * 4,
        "age": [0.5, 41.0, None, 80.0], "device": ["x", "x", "y", None], "note": [f"n{i}" for i in range(4)],
        "Ill": [1, 0, 1, 0],
    }  # fmt: skip
    store = store_of(table, ["Ill"], metadata=["device"])
    found = counts.count(counts.columns(store, pl.Series([True, False, None, False])))
    assert found == {
        "split": {"train": 2, "none": 1, "test+train": 1},
        "view": {"AP": 2, "PA": 1, "not known": 1},
        "age": {"0 to 1": 1, "40 to 59": 1, "80 and over": 1, "not known": 1},
        "device": {"x": 2, "y": 1, "not known": 1},
        "burned-in words": {"no": 2, "yes": 1, "not known": 1},
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_few_real_images_are_called_odd_and_every_identical_pair_is_found(real_data: Path, tmp_path: Path) -> None:
    from mococxr.commands import run

    for name, identical in (("nih", 1), ("pediatric", 24)):
        store = run("prepare", {"source": real_data / name, "out": tmp_path / name, "jobs": 2})
        audit = run("inspect", {"store": store.path, "out": tmp_path / f"{name}.d" / "audit.html", "jobs": 2})
        odd = ["inverted", "blank", "narrow", "rotated", "not-chest", "text"]
        flagged = audit.flags.filter(pl.col("flag").is_in(odd))["path"].n_unique()
        assert flagged <= 0.02 * len(store)
        twice = store.index.filter(pl.col("sha256").is_duplicated())
        found = audit.flags.filter(pl.col("flag") == "identical")["path"]
        assert set(found) == set(twice["path"])
        assert twice["sha256"].n_unique() == identical
        assert not len(audit.flags.filter(pl.col("flag").is_in(["copy", "copy-across-patients"])))


def test_a_dicom_object_that_is_not_an_image_is_a_note_and_one_without_pixels_is_not() -> None:
    from mococxr.datasets import dicom
    from mococxr.images.dicom import metadata

    reasons = {why for why in metadata._CONVERSIONS.values()} | {
        dicom.COPY,
        "a localizer",
        "a screenshot",
        "a report as a picture",
    }
    assert all(reason.startswith(NO_IMAGE) for reason in reasons)
    assert not "no pixel data".startswith(NO_IMAGE)
