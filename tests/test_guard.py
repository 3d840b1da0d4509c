"""The guard of a classifier: what it learns of training images, and what it warns of."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import pytest
from sklearn.neighbors import NearestNeighbors

import mococxr
from mococxr.classifier.guarding import guard_words, learn_guard
from mococxr.classifier.saved import load_model
from mococxr.commands import run
from mococxr.errors import InputError
from mococxr.files import write_json
from mococxr.guard import guard as guarding
from mococxr.guard import pose
from mococxr.guard.distance import Reference
from mococxr.guard.guard import (
    BLANK,
    COPY,
    INVERTED,
    LATERAL,
    REFUSED,
    SMALL,
    TURNED,
    UNLIKE,
    WARNINGS,
    Guard,
    arrays_of,
    facts_of,
    glance,
    guard_of,
    learn,
    limits_of,
)
from mococxr.guard.shape import part_of, sideways, windows_of
from mococxr.near_duplicates import fingerprints
from mococxr.store import Store
from mococxr.synthetic import draw_synthetic
from small_store import BACKBONE

PATIENTS = 60


def features_of(images: list[np.ndarray]) -> np.ndarray:
    """What stands for an encoder: the image at 8 x 8."""
    return np.stack([cv2.resize(image, (8, 8), interpolation=cv2.INTER_AREA).ravel() for image in images]).astype(
        np.float32
    )


@pytest.fixture(scope="module")
def images() -> list[np.ndarray]:
    """120 synthetic images, two a patient, 160 by 133."""
    return [draw_synthetic(3, i, size=160, patient=i // 2) for i in range(2 * PATIENTS)]


def learned(images: list[np.ndarray], lateral: np.ndarray | None = None) -> tuple[Guard, float]:
    lateral = np.zeros(len(images), bool) if lateral is None else lateral
    patients = np.arange(len(images)) // 2
    return learn([glance(i) for i in images], features_of(images), patients, lateral, fingerprints(images[:20]), 96)


@pytest.fixture(scope="module")
def guard(images: list[np.ndarray]) -> Guard:
    return learned(images)[0]


def warned(guard: Guard, images: list[np.ndarray], **about: Any) -> list[tuple[str | None, tuple[str, ...]]]:
    return guard.judge([glance(image, **about) for image in images], features_of(images))


@pytest.fixture(scope="module")
def fresh() -> list[np.ndarray]:
    """Images of other patients."""
    return [draw_synthetic(4, i, size=160) for i in range(60)]


def share(answers: list[tuple[str | None, tuple[str, ...]]], word: str) -> float:
    return float(np.mean([word in warnings for _, warnings in answers]))


def test_each_fault_is_called_by_its_name_and_few_other_images_are_called_anything(guard, fresh) -> None:
    assert np.mean([bool(warnings) for _, warnings in warned(guard, fresh)]) <= 0.1
    assert {view for view, warnings in warned(guard, fresh) if not warnings} == {"Frontal"}
    faults = {
        INVERTED: [255 - image for image in fresh],
        TURNED: [np.ascontiguousarray(np.rot90(image, 1 + i % 3)) for i, image in enumerate(fresh)],
        LATERAL: [draw_synthetic(5, i, size=160, view="lateral") for i in range(60)],
        BLANK: [np.full((160, 133), level, np.uint8) for level in range(0, 240, 4)],
        UNLIKE: list(np.random.default_rng(0).integers(0, 256, (60, 160, 133), np.uint8)),
    }
    for word, strange in faults.items():
        assert share(warned(guard, strange), word) >= 0.7, word
    assert share(warned(guard, fresh, shorter=95), SMALL) == 1
    assert share(warned(guard, fresh, shorter=96), SMALL) == 0


def test_a_window_of_the_mean_chest_is_a_part_of_it_and_all_of_it_is_none(guard) -> None:
    chest = guard.model.chest()
    assert chest is not None
    windows = windows_of(chest)
    for side, top, left in ((12, 0, 12), (14, 10, 5), (19, 5, 0)):
        part = cv2.resize(np.ascontiguousarray(chest[top : top + side, left : left + side]), (24, 24), interpolation=2)
        assert part_of(part, windows, chest) > 0.2
    assert part_of(chest, windows, chest) < 0
    assert sideways(chest, chest) < -0.3


def test_a_side_view_is_named_as_its_view(guard) -> None:
    sides = [draw_synthetic(5, i, size=160, view="lateral") for i in range(20)]
    answers = warned(guard, sides)
    assert {view for view, warnings in answers if LATERAL in warnings} == {"Lateral"}


def test_side_views_among_the_training_images_are_no_reason_for_a_warning(images) -> None:
    sides = [draw_synthetic(5, i, size=160, patient=900 + i // 2, view="lateral") for i in range(40)]
    both, _ = learned(images + sides, np.arange(len(images) + 40) >= len(images))
    assert both.laterals
    answers = warned(both, [draw_synthetic(6, i, size=160, view="lateral") for i in range(40)])
    assert share(answers, LATERAL) == 0
    assert np.mean([view == "Lateral" for view, _ in answers]) >= 0.7
    assert np.mean([bool(warnings) for _, warnings in answers]) <= 0.2


def test_a_copy_is_known_stored_otherwise_and_mirrored_and_a_stranger_is_none(guard, images, fresh) -> None:
    copies = [cv2.convertScaleAbs(cv2.resize(image, None, fx=1.4, fy=1.4), alpha=0.9, beta=12) for image in images[:20]]
    assert share(warned(guard, copies), COPY) == 1
    assert share(warned(guard, [np.ascontiguousarray(image[:, ::-1]) for image in copies]), COPY) == 1
    assert share(warned(guard, fresh), COPY) == 0


def test_all_warnings_together_meet_two_percent_of_the_training_images(images) -> None:
    assert learned(images)[1] <= guarding.SHARE
    scores = np.random.default_rng(0).normal(size=(1000, 4))
    scores[:, 3] = np.nan
    fixed = np.arange(1000) < 5
    limits = limits_of(scores, [-np.inf] * 4, fixed)
    hit = scores > limits
    assert np.isinf(limits[3]), "what judged nothing warns of nothing"
    assert len(set(hit[:, :3].sum(axis=0))) == 1, "each detector has its part"
    assert (hit.any(axis=1) | fixed).mean() <= 0.02
    assert (hit.any(axis=1) | fixed).mean() >= 0.017
    assert (limits_of(scores, [9.0] * 4, fixed)[:3] == 9).all(), "none warns below its least limit"
    assert not (scores > limits_of(scores, [-np.inf] * 4, np.arange(1000) < 50)).any(), "the fixed ones used it up"


def test_the_distance_is_that_of_scikit_learns_nearest_neighbours() -> None:
    rng = np.random.default_rng(0)
    train, new = rng.normal(3, 2, (70, 12)), rng.normal(3, 2, (9, 12))
    standard = lambda values: (values - train.mean(axis=0)) / train.std(axis=0)  # noqa: E731
    expected = (
        NearestNeighbors(n_neighbors=5, metric="cosine").fit(standard(train)).kneighbors(standard(new))[0].mean(axis=1)
    )
    reference = Reference.of(train)
    np.testing.assert_allclose(reference.distances(new), expected, atol=2e-3)  # they are kept in half precision
    alone = reference.distances(train, np.eye(70, dtype=bool))
    neighbours = NearestNeighbors(n_neighbors=6, metric="cosine").fit(standard(train)).kneighbors(standard(train))[0]
    np.testing.assert_allclose(alone, neighbours[:, 1:].mean(axis=1), atol=2e-3)


def test_a_guard_is_the_same_from_its_file(guard, fresh, tmp_path) -> None:
    from safetensors.numpy import load_file, save_file

    save_file(arrays_of(guard), tmp_path / "guard.safetensors")
    again = guard_of(load_file(tmp_path / "guard.safetensors"), facts_of(guard))
    strange = [*fresh[:5], 255 - fresh[5], fresh[6][:60]]
    assert warned(again, strange) == warned(guard, strange)


# --- with a model


@pytest.fixture(scope="module")
def model(images: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store]:
    folder = tmp_path_factory.mktemp("guarded")
    (folder / "images").mkdir()
    for i, image in enumerate(images):
        cv2.imwrite(str(folder / "images" / f"{i}.png"), image)
    rows = {"path": [f"{i}.png" for i in range(len(images))], "patient": [f"p{i // 2}" for i in range(len(images))]}
    pl.DataFrame(rows | {"Finding": [i // 2 % 3 == 0 for i in range(len(images))]}).cast(
        {"Finding": pl.Int8}
    ).write_csv(folder / "images" / "labels.csv")
    run(
        "prepare",
        {"source": folder / "images", "out": folder / "store", "size": 120, "jobs": 1, "split": (0.8, 0, 0.2)},
    )
    how = {"encoder": "random", "backbone": BACKBONE, "size": 32, "device": "cpu", "jobs": 1}
    run("fit", {"store": folder / "store", "target": "Finding", "out": folder / "model", **how})
    return folder / "model", Store.open(folder / "store")


def test_predict_warns_in_files_and_arrays_alike_and_says_how_many_and_where(model, fresh, tmp_path, capsys) -> None:
    folder, _ = model
    strange = [fresh[0], 255 - fresh[1], np.ascontiguousarray(np.rot90(fresh[2])), np.full((160, 133), 9, np.uint8)]
    for i, image in enumerate(strange):
        cv2.imwrite(str(tmp_path / f"{i}.png"), image)
    files = [tmp_path / f"{i}.png" for i in range(4)]
    table = mococxr.load_classifier(folder).predict(strange)
    assert INVERTED in (table["warning"][1] or "").split("; ")
    assert TURNED in (table["warning"][2] or "").split("; ")
    assert table["warning"][3] == BLANK
    assert table["view"].to_list()[1:] == ["Frontal", "Frontal", None]
    mococxr.predict(folder, files, out=tmp_path / "a.csv", device="cpu")
    said = capsys.readouterr().err
    assert "inverted (row 2" in said
    assert "--refuse leaves them blank" in said
    written = pl.read_csv(tmp_path / "a.csv")
    assert written.select("view", "warning").equals(table.select("view", "warning"))
    assert written["score"].null_count() == 0


def test_refused_images_have_no_numbers_and_all_others_have_theirs(model, fresh, tmp_path, capsys) -> None:
    folder, store = model
    classifier = mococxr.load_classifier(folder)
    strange = [255 - fresh[1], *(store.pixels(int(row)) for row in store.rows_in("train")[:5]), *fresh[:5]]
    free, refused = classifier.predict(strange), classifier.predict(strange, refuse=True)
    doubted = [bool({*(words or "").split("; ")} & {*REFUSED}) for words in free["warning"]]
    assert doubted[0]
    assert not all(doubted)
    assert share([(None, tuple(words.split("; "))) for words in free["warning"][1:6]], COPY) == 1
    for name in ("score", "decision", "calibrated"):
        expected = [None if no else value for no, value in zip(doubted, free[name], strict=True)]
        assert refused[name].to_list() == expected
    assert refused.select("view", "warning").equals(free.select("view", "warning"))
    run(
        "predict", {"model": folder, "images": [store.path], "out": tmp_path / "s.csv", "refuse": True, "device": "cpu"}
    )
    assert COPY in capsys.readouterr().err
    warnings = pl.read_csv(tmp_path / "s.csv")["warning"].drop_nulls().str.split("; ").explode()
    assert set(WARNINGS) >= set(warnings)


def test_a_guard_of_another_model_is_refused_and_a_model_without_has_blank_columns(model, fresh, tmp_path) -> None:
    folder = Path(shutil.copytree(model[0], tmp_path / "model"))
    (folder / "guard.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=r"guard\.safetensors"):
        load_model(folder)
    record = {name: value for name, value in load_model(model[0]).record.items() if name != "guard"}
    write_json(folder / "model.json", record)
    table = load_model(folder).predict(fresh[:2], refuse=True)
    assert table["score"].null_count() == 0
    assert table["view"].null_count() == table["warning"].null_count() == 2


def test_too_few_training_images_teach_no_guard_and_the_reason_is_kept(model, monkeypatch) -> None:
    monkeypatch.setattr(pose, "ENOUGH", 1000)
    guard, facts = learn_guard(model[1], lambda rows: np.zeros((len(rows), 2), np.float32), 32)
    assert guard is None
    assert str(len(model[1].rows_in("train"))) in facts["reason"]
    assert facts["reason"] in guard_words(facts)
