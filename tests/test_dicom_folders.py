"""A DICOM archive from folder to store: every good image right, every broken one named."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from archive_images import Archive, grey_image, image, write_archive
from mococxr.datasets import Dataset, dicom_scan, read_dataset
from mococxr.errors import InputError
from mococxr.preparation.decode import Chunk, decode_chunk
from mococxr.preparation.prepare import run
from mococxr.preparation.staging import staging_folder
from mococxr.settings import PrepareSettings
from mococxr.store import Store


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Archive]:
    root = tmp_path_factory.mktemp("archive") / "images"
    return root, write_archive(root, 200)


@pytest.fixture(autouse=True)
def decode_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Decode in this process, for speed."""

    def decode(chunks: list[Chunk], folder: Path, _: int, done: Callable[[int], None]) -> None:
        for chunk in chunks:
            done(decode_chunk(chunk, folder))

    monkeypatch.setattr("mococxr.preparation.prepare.decode_all", decode)


def prepare(root: Path, out: Path, **others: Any) -> Store:
    return run(PrepareSettings(**{"source": root, "out": out, "size": 40, "jobs": 1, **others}))


def real_names(key: Path) -> dict[str, str]:
    """Pseudonym of a file -> its path, from the look-up table."""
    table = pl.read_csv(Path(f"{key}.lookup.csv"), infer_schema=False)
    return dict(table.select("image", "real_path").iter_rows())


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four images of two patients, without headers worth a word."""
    root = tmp_path_factory.mktemp("small") / "images"
    rng = np.random.default_rng(1)
    for i in range(4):
        patient, study = i // 2, i // 2
        file = image(grey_image(rng, 48, 40), patient=f"ID{patient}", study=f"1.2.{study}", sop=f"1.3.{i}",
                    AccessionNumber=f"00{study}", StudyDate=f"202001{1 + 3 * i:02d}", InstanceNumber=9 - i)  # fmt: skip
        (root / f"p{patient}").mkdir(parents=True, exist_ok=True)
        file.save_as(root / f"p{patient}" / f"IM{i}", enforce_file_format=True)
    return root


def copy_of(small: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(small, tmp_path / "images"))


def test_every_good_image_is_right_and_every_broken_one_is_named(archive, tmp_path):
    root, written = archive
    store = prepare(root, tmp_path / "store")
    real = real_names(tmp_path / "store.key")
    assert {real[path] for path in store.index["path"]} == set(written.good)
    for i, path in enumerate(store.index["path"]):
        difference = np.abs(store.pixels(i).astype(int) - written.good[real[path]])
        assert difference.max() <= 1
    quarantine = pl.read_csv(store.path / "quarantine.csv")
    assert {real[path] for path in quarantine["path"]} == set(written.broken)
    assert quarantine["reason"].null_count() == 0
    for i, path in enumerate(store.index["path"]):
        facts = written.facts[real[path]]
        row = store.index.row(i, named=True)
        assert (row["view"], row["sex"], row["device"]) == (facts.ViewPosition, facts.PatientSex, "Maker Model 1")
        assert row["age"] == int(facts.PatientAge[:3])


def test_a_stopped_archive_goes_on_where_it_was_and_ends_in_the_same_store(archive, tmp_path, monkeypatch, capsys):
    root, _ = archive

    class Killed(BaseException):
        pass

    def decode_two(chunks: list[Chunk], folder: Path, _: int, done: Callable[[int], None]) -> None:
        for chunk in chunks[:2]:
            done(decode_chunk(chunk, folder))
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("mococxr.preparation.prepare.decode_all", decode_two)
        with pytest.raises(Killed):
            prepare(root, tmp_path / "store")
    assert (tmp_path / "store.key").is_file(), "without its key the run could not be taken up"
    assert staging_folder(tmp_path / "store").is_dir()
    store = prepare(root, tmp_path / "store")
    assert "resuming: 64 images already done" in capsys.readouterr().err
    whole = prepare(root, tmp_path / "whole", key=tmp_path / "store.key")
    assert store.sha256 == whole.sha256
    assert prepare(root, tmp_path / "store").sha256 == store.sha256
    assert "nothing to do" in capsys.readouterr().err


@pytest.mark.slow
def test_headers_read_in_processes_say_the_same_in_the_same_order(archive, monkeypatch):
    root, _ = archive
    here = read_dataset(root, format="dicom")
    monkeypatch.setattr("mococxr.datasets.dicom_scan.FEW", 0)
    there = read_dataset(root, format="dicom", jobs=2)
    assert here.rows.equals(there.rows)
    assert here.rejected.equals(there.rejected)


def test_a_header_longer_than_what_is_read_first_is_read_whole(small, tmp_path, monkeypatch):
    root = copy_of(small, tmp_path)
    short = read_dataset(root, format="dicom")
    for size in (200, 400, 700):
        monkeypatch.setattr("mococxr.datasets.dicom_scan.PREFIX", size)
        assert read_dataset(root, format="dicom").rows.equals(short.rows)


def test_a_file_that_comes_in_small_pieces_is_not_taken_for_a_short_one(small, monkeypatch):
    """As on some network file systems, where a read may give less than was asked for."""

    class Slow(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            return super().readinto(memoryview(buffer)[:100])

        def read(self, size: int = -1) -> bytes:
            return super().read(min(size, 100) if size > 0 else size)

    def open_slowly(path: str, mode: str, buffering: int = -1) -> Any:
        assert mode == "rb"
        return io.BufferedReader(Slow(path)) if buffering else Slow(path)

    paths = sorted(str(path.relative_to(small)) for path in small.rglob("*") if path.is_file())
    before = dicom_scan.read_block(small, paths)
    monkeypatch.setattr(dicom_scan, "PREFIX", 700)
    monkeypatch.setattr(dicom_scan, "open", open_slowly, raising=False)
    assert dicom_scan.read_block(small, paths) == before
    assert len(before) == 4
    assert not any(row["reason"] for row in before)


def test_what_is_not_an_image_is_counted_or_listed_with_its_reason(small, tmp_path):
    root = copy_of(small, tmp_path)
    shutil.copy(root / "p0" / "IM0", root / "z copy")
    for name in ("DICOMDIR", "notes.txt", "report.XML", "images.zip", "p1/.hidden"):
        (root / name).write_bytes((root / "p0" / "IM0").read_bytes())
    (root / ".git").mkdir()
    (root / ".git" / "IM9").write_bytes((root / "p0" / "IM0").read_bytes())
    (root / "junk").write_bytes(b"junk" * 100)
    (root / "empty").write_bytes(b"")
    os.mkfifo(root / "pipe")
    (root / "out").symlink_to(tmp_path)
    (tmp_path / "elsewhere").write_bytes((root / "p0" / "IM0").read_bytes())
    (root / "link").symlink_to(tmp_path / "elsewhere")
    grey = np.zeros((40, 40), np.uint8)
    image(grey, sop="1.9.1", Modality="CT").save_as(root / "ct", enforce_file_format=True)
    image(grey, sop="1.9.2", ImageType=["DERIVED", "SECONDARY", "LOCALIZER"]).save_as(root / "scout.dcm")
    image(grey, sop="1.9.3", patient="").save_as(root / "nobody.dcm", enforce_file_format=True)
    dataset = read_dataset(root)
    assert dataset.name == "dicom"
    assert len(dataset.rows) == 4
    reasons = dict(dataset.rejected.iter_rows())
    words = {"z copy": "second copy", "junk": "not a DICOM", "empty": "empty file", "pipe": "not a regular file",
             "link": "leads out", "ct": "another modality: CT", "scout.dcm": "localizer",
             "nobody.dcm": "no patient"}  # fmt: skip
    assert set(reasons) == set(words)
    for name, word in words.items():
        assert word in reasons[name]
    said = "\n".join(dataset.notes)
    for kind in ("DICOMDIR 1", ".txt 1", ".xml 1", ".zip 1", "hidden files 1", "hidden folders 1"):
        assert kind in said
    assert "links to folders 1" in said
    known = read_dataset(root, patients_unknown=True)
    assert len(known.rows) == 5
    assert not known.patients_known


@pytest.mark.parametrize("cut", ["0 cut", "z cut"])
def test_of_two_files_of_one_image_the_longer_is_read(small, tmp_path, cut):
    root = copy_of(small, tmp_path)
    (root / cut).write_bytes((root / "p0" / "IM0").read_bytes()[:-400])
    dataset = read_dataset(root)
    assert "p0/IM0" in dataset.rows["path"]
    assert dict(dataset.rejected.iter_rows()).keys() == {cut}
    assert any("4 of 5 files are images; 1 are not: a second copy" in note for note in dataset.notes)


def test_a_word_that_is_no_modality_is_not_quoted(small, tmp_path):
    root = copy_of(small, tmp_path)
    for name, modality in (("ct", "CT"), ("person", "QUIMBY")):
        strange = image(np.zeros((40, 40), np.uint8), sop=f"1.9.{name == 'ct':d}", Modality=modality)
        strange.save_as(root / name, enforce_file_format=True)
    reasons = dict(read_dataset(root).rejected.iter_rows())
    assert reasons == {"ct": "another modality: CT", "person": "another modality: unknown"}


def test_days_count_from_the_first_study_and_images_are_numbered_in_their_study(small):
    rows = read_dataset(small).rows
    assert rows["day"].to_list() == [0, 3, 0, 3]
    assert rows["acquisition"].to_list() == [2, 1, 2, 1] or rows["acquisition"].to_list() == [1, 2, 1, 2]
    dates = [text for name in rows.columns for text in rows[name].cast(pl.String) if text and "2020" in text]
    assert not dates


LABELS = [
    ("path", ["p0/IM0", "p0/IM1", "p1/IM2", "none"], [1, 0, 1, None]),
    ("SOPInstanceUID", ["1.3.0", "1.3.1", "1.3.2", "none"], [1, 0, 1, None]),
    ("Accession Number", ["000", "001", "none"], [1, 1, 0, 0]),
    ("study_instance_uid", ["1.2.0", "1.2.1"], [1, 1, 0, 0]),
    ("PatientID", ["ID0", "ID1"], [1, 1, 0, 0]),
]


@pytest.mark.parametrize(("column", "keys", "labels"), LABELS)
def test_labels_are_found_by_the_keys_of_report_systems(small, tmp_path, column, keys, labels):
    values = [1, 0, 1, -1] if len(keys) == 4 else [1, 0, -1][: len(keys)]
    pl.DataFrame({column: keys, "Effusion": values, "remark": ["a"] * len(keys)}).write_csv(tmp_path / "l.csv")
    dataset = read_dataset(small, labels=tmp_path / "l.csv")
    assert dataset.name == "dicom"
    assert dataset.labels == ("Effusion",)
    assert dataset.rows["Effusion"].to_list() == labels
    missing = labels.count(None)
    assert any(f"of 4 images {4 - missing} have a row, {missing} none" in note for note in dataset.notes)
    assert any(f"{'1' if 'none' in keys else '0'} rows have no image" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"number": ["1"], "Effusion": [1]}, "no column by which an image is found"),
        ({"PatientID": ["DOE", "ROE"], "Effusion": [1, 0]}, "No row of"),
        ({"PatientID": ["ID0", "ID0"], "Effusion": [1, 0]}, "By PatientID 1 rows of the label table contradict"),
    ],
)
def test_a_label_table_that_does_not_fit_is_refused_without_quoting_it(small, tmp_path, table, says):
    pl.DataFrame(table).write_csv(tmp_path / "l.csv")
    with pytest.raises(InputError, match=says) as caught:
        read_dataset(small, format="dicom", labels=tmp_path / "l.csv")
    assert not any(value in str(caught.value) for value in ("DOE", "ROE", "ID0"))


def test_a_split_file_with_real_or_with_hashed_patients_is_taken(small, tmp_path):
    pl.DataFrame({"patient": ["ID0", "ID1"], "split": ["train", "test"]}).write_csv(tmp_path / "real.csv")
    store = prepare(small, tmp_path / "store", split_file=tmp_path / "real.csv")
    real = dict(
        pl.read_csv(tmp_path / "store.key.lookup.csv", infer_schema=False).select("patient", "real_patient").rows()
    )
    assert {real[p]: s for p, s in store.splits.iter_rows()} == {"ID0": "train", "ID1": "test"}
    store.splits.write_csv(tmp_path / "hashed.csv")
    again = prepare(small, tmp_path / "two", split_file=tmp_path / "hashed.csv", key=tmp_path / "store.key")
    assert again.splits.equals(store.splits)


def test_an_archive_without_images_is_refused_with_the_reasons(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a").write_bytes(b"junk")
    with pytest.raises(InputError, match=r"no image: not a DICOM file \(1\)"):
        prepare(tmp_path / "images", tmp_path / "store", format="dicom")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["images"]


def test_an_archive_without_a_whole_image_is_refused_with_the_reasons(small, tmp_path):
    root = copy_of(small, tmp_path)
    for file in root.rglob("IM*"):
        file.write_bytes(file.read_bytes()[:-400])
    with pytest.raises(InputError, match=r"None of the 4 images can be read: truncated.*\([1-4]\)") as caught:
        prepare(root, tmp_path / "store", jobs=1, split=(1, 0, 0))
    assert "table" not in str(caught.value)


def test_a_key_that_is_none_is_refused_before_any_header_is_read(small, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mococxr.preparation.prepare.read_dataset", lambda *_, **__: pytest.fail("the archive was read")
    )
    (tmp_path / "key").write_text("no key")
    with pytest.raises(InputError, match="is not a key"):
        prepare(small, tmp_path / "store", key=tmp_path / "key")
    with pytest.raises(InputError, match="inside the store"):
        prepare(small, tmp_path / "store", key=tmp_path / "store" / "key")


def test_a_store_under_another_key_is_called_that(small, tmp_path):
    prepare(small, tmp_path / "store", split=(1, 0, 0))
    with pytest.raises(InputError, match="under another key"):
        prepare(small, tmp_path / "store", split=(1, 0, 0), key=tmp_path / "other")


def test_a_table_of_the_dataset_holds_nothing_of_the_header_but_what_is_named(small):
    dataset: Dataset = read_dataset(small)
    fixed = ["path", "patient", "study", "view", "sex", "age", "split"]
    assert dataset.rows.columns == [*fixed, "laterality", "device", "acquisition", "day"]
    assert json.dumps(dataset.notes).count("ID0") == 0
