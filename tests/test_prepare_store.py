from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from mococxr.images import read_image, resize_shorter
from mococxr.preparation.decode import chunk_size
from mococxr.preparation.prepare import run
from mococxr.store import Store
from mococxr.store.levels import shrink
from mococxr.studies.provenance import store_facts
from small_images import contents, settings, write_images

BAD = ("absent", "truncated", "empty", "text", "slender", "tiny", "folder", "link")
"""Images that cannot be read, by what is wrong with them."""


def write_bad_images(folder: Path) -> None:
    """Append the images of `BAD` to the table, in the middle and at the ends of chunks."""
    images = folder / "images"
    good = (images / "image0000.png").read_bytes()
    (images / "truncated.png").write_bytes(good[: len(good) // 2])
    (images / "empty.png").write_bytes(b"")
    (images / "text.png").write_text("no image")
    cv2.imwrite(str(images / "slender.png"), np.zeros((20, 20 * 20 + 1), np.uint8))
    cv2.imwrite(str(images / "tiny.png"), np.zeros((1, 1), np.uint8))
    (images / "folder.png").mkdir()
    outside = folder.parent / "outside.png"
    outside.write_bytes(good)
    (images / "link.png").symlink_to(outside)
    table = pl.read_csv(folder / "labels.csv", infer_schema=False)
    bad = table[: len(BAD)].with_columns(
        path=pl.Series([f"images/{name}.png" for name in BAD]), study_id=pl.Series(BAD)
    )
    bad = bad.with_columns(
        patient_id=pl.when(pl.col("study_id") == "link").then(pl.lit("gone")).otherwise("patient_id")
    )
    pl.concat([table[:31], bad[:4], table[31:], bad[4:]]).write_csv(folder / "labels.csv")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Store, str]:
    """Folder, store and console of one run over good and bad images, in two processes."""
    tmp_path = tmp_path_factory.mktemp("prepared")
    folder = tmp_path / "images"
    write_images(folder)
    write_bad_images(folder)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mococxr.console.error", said.append)
        store = run(settings(folder, tmp_path / "store", jobs=2))
    return folder, store, "\n".join(said)


def test_every_image_is_decoded_shrunk_and_stored_in_the_order_of_the_table(prepared):
    folder, store, _ = prepared
    table = pl.read_csv(folder / "labels.csv", infer_schema=False)
    readable = [path for path in table["path"] if Path(path).stem not in BAD]
    assert store.index["path"].to_list() == readable
    assert store.index["row"].to_list() == list(range(70))
    for i, path in enumerate(readable):
        image = resize_shorter(read_image(folder / path), 32)
        np.testing.assert_array_equal(store.pixels(i), image)
        assert store.index.select("height", "width").row(i) == image.shape
        assert store.index["sha256"][i] == hashlib.sha256((folder / path).read_bytes()).hexdigest()


def test_the_index_has_the_columns_of_the_contract(prepared):
    _, store, _ = prepared
    fixed = ["row", "path", "patient", "study", "view", "sex", "age", "height", "width", "sha256"]
    columns = [*fixed, "Effusion", "Rare", "remark"]
    assert store.index.columns == columns
    assert store.labels == ["Effusion", "Rare"]
    assert store.index["patient"][0] == "000"
    assert store.index.schema["Effusion"] == pl.Int8


def test_an_image_that_cannot_be_read_is_quarantined_with_the_reason(prepared):
    _, store, said = prepared
    quarantine = dict(pl.read_csv(store.path / "quarantine.csv").iter_rows())
    assert {Path(path).stem for path in quarantine} == set(BAD)
    words = {"absent": "no such file", "truncated": "truncated", "empty": "empty", "text": "not a PNG",
             "slender": "aspect ratio", "tiny": "too small", "folder": "a folder",
             "link": "leads out"}  # fmt: skip
    for name, word in words.items():
        assert word in quarantine[f"images/{name}.png"]
    assert said.splitlines()[-1].startswith(f"8 images in quarantine, listed in {store.path}/quarantine.csv")


def test_patients_without_a_readable_image_are_in_no_split_and_the_others_in_one(prepared):
    _, store, _ = prepared
    assert store.splits["patient"].to_list() == sorted(store.index["patient"].unique())
    counts = store.manifest["counts"]
    assert {name: counts["splits"][name]["patients"] for name in ("train", "val", "test")} == {
        "train": 17, "val": 3, "test": 15
    }  # fmt: skip
    rows = [store.rows_in(name) for name in ("train", "val", "test")]
    assert sorted(np.concatenate(rows).tolist()) == list(range(70))
    assert [len(r) for r in rows] == [counts["splits"][name]["images"] for name in ("train", "val", "test")]


def test_the_manifest_counts_and_its_hashes_hold(prepared):
    _, store, said = prepared
    manifest = store.manifest
    store.verify()
    assert set(manifest["hashes"]["files"]) == {
        *(f"pixels-{n:05d}.bin" for n in range(3)), "index.parquet", "splits.csv", "quarantine.csv",
    }  # fmt: skip
    counts = manifest["counts"]
    assert (counts["images"], counts["patients"], counts["quarantined"]) == (70, 35, 8)
    assert counts["labels"]["Rare"] == {"positive": 35, "negative": 35, "uncertain": 0, "blank": 0}
    assert counts["enlarged"] > 0
    assert f"{counts['enlarged']} images were smaller than 32 px" in said
    assert manifest["synthetic"] is False
    assert "jobs" not in manifest["settings"]


def test_the_contact_sheet_is_a_picture_of_many_images(prepared):
    _, store, _ = prepared
    sheet = cv2.imread(str(store.path / "contact.png"), cv2.IMREAD_GRAYSCALE)
    assert sheet.shape[0] > 1000
    assert sheet.shape[1] > 1400
    assert sheet.std() > 30


def test_nothing_else_is_left_behind(prepared):
    _, store, _ = prepared
    assert sorted(p.name for p in store.path.parent.iterdir()) == ["images", "outside.png", "store"]


def test_one_process_and_two_write_the_same_bytes(prepared):
    folder, store, _ = prepared
    other = run(settings(folder, store.path.parent / "images-one", jobs=1))
    left, right = contents(store.path), contents(other.path)
    left.pop("contact.png"), right.pop("contact.png")  # its title is the store's name
    assert left == right
    assert other.sha256 == store.sha256


def test_the_same_command_again_decodes_nothing(prepared, capsys, monkeypatch):
    folder, store, _ = prepared
    before = contents(store.path)
    monkeypatch.setattr("mococxr.preparation.prepare.decode_all", None)  # calling it would fail
    again = run(settings(folder, store.path, jobs=2))
    assert contents(store.path) == before
    assert again.sha256 == store.sha256
    said = capsys.readouterr().err.splitlines()
    assert any("was made from the same images and settings: nothing to do" in line for line in said)
    assert said[-1].startswith("8 images in quarantine")


def test_synthetic_images_are_known_by_their_names_and_a_chunk_is_a_pixel_file(tmp_path):
    folder = tmp_path / "images"
    table = write_images(folder, 100)
    for i, path in enumerate(table["path"]):
        (folder / path).rename(folder / path.replace("/image", "/synthetic-"))
        if 32 <= i < 64:
            (folder / path.replace("/image", "/synthetic-")).write_bytes(b"")
    table.with_columns(pl.col("path").str.replace("/image", "/synthetic-")).write_csv(folder / "labels.csv")
    store = run(settings(folder, tmp_path / "store", size=64))
    assert store.manifest["synthetic"] is True
    files = [(shard["file"], shard["first_row"], shard["images"]) for shard in store.manifest["shards"]]
    assert files == [("pixels-00000.bin", 0, 32), ("pixels-00002.bin", 32, 32), ("pixels-00003.bin", 64, 4)]
    for where in (store.path, store.path / "levels" / "32"):
        assert sorted(path.name for path in where.glob("*.bin")) == [name for name, _, _ in files]
    for i in (0, 31, 32, 63, 64, 67):
        image = resize_shorter(read_image(folder / store.index["path"][i]), 64)
        np.testing.assert_array_equal(store.pixels(i), image)
        np.testing.assert_array_equal(store.level(32).pixels(i), shrink(image, 2))
    assert json.loads((store.path / "manifest.json").read_text()) == store.manifest


def test_chunks_are_small_for_few_images_and_few_for_many():
    for images in (1, 100, 10_000, 224_000, 1_000_000):
        size = chunk_size(images)
        assert 32 <= size <= 4096
        assert images / size < 250


def test_a_split_file_wins_over_a_split_column_and_that_over_shares(tmp_path):
    folder = tmp_path / "images"
    table = write_images(folder, 12)
    halves = pl.Series([("train", "test")[int(p) % 2] for p in table["patient_id"]])
    table.with_columns(split=halves).write_csv(folder / "labels.csv")
    store = run(settings(folder, tmp_path / "column"))
    assert dict(store.splits.iter_rows()) == dict(zip(table["patient_id"], halves, strict=True))
    assert store.manifest["split_rule"] == "as stated by the dataset or its table"
    stated = pl.DataFrame({"patient": table["patient_id"], "split": ["val"] * 12})
    stated.write_csv(tmp_path / "mine.csv")
    store = run(settings(folder, tmp_path / "file", split_file=tmp_path / "mine.csv"))
    assert set(store.splits["split"]) == {"val"}
    assert store.manifest["split_rule"] == "as stated in mine.csv"


def test_what_is_no_image_of_its_own_is_not_called_unreadable(prepared, tmp_path):
    shutil.copytree(prepared[1].path, tmp_path / "store")
    (tmp_path / "store" / "quarantine.csv").write_text(
        'path,reason\na.png,"cut short, ends early"\nb.dcm,a report as text\n'
        "c.dcm,a second copy of an image: its instance identifier is in the archive already\n"
    )
    store = Store.open(tmp_path / "store")
    assert store.quarantine["unreadable"].to_list() == [True, False, False]
    counts = store_facts(store)
    assert (counts["unreadable"], counts["not_used"]) == (1, 2)
