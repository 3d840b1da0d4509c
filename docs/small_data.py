"""The small synthetic data on which the blocks of README and pages run, under the names that pages use.

What a user brings is always there (`BROUGHT`); what commands make is there where a page asks for it
(`<!-- starts with: store run -->`). Commands have small settings here (`SETTINGS`) unless the line states others: they are
those of `--config`, so that a line does what it does for a user, on fewer and smaller images and for fewer epochs.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
import yaml
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from mococxr.synthetic import write_chexpert, write_synthetic

SETTINGS: dict[str, dict[str, Any]] = {
    "prepare": {"size": 64, "jobs": 1},
    "pretrain": {"size": 32, "batch": 16, "epochs": 1, "device": "cpu"},
    "study": {"replicates": 200, "draws": 2, "jobs": 1, "device": "cpu"},
    "evaluate": {"replicates": 200},
    "embed": {"device": "cpu"},
    "fit": {"onnx": False, "device": "cpu"},
}
"""Command -> settings that keep it to seconds."""
MADE: dict[str, str] = {
    "store": "mococxr prepare images --out store",
    "store-b": "mococxr prepare hospital-b --out store-b",
    "run": "mococxr pretrain store --out run",
    "run2": "mococxr pretrain store --out run2 --seed 1",
    "model": "mococxr fit store --encoder run --target TB --out model",
    "model-b": "mococxr fit store --encoder mococxr-lite0 --target TB --out model-b",
    "study": "mococxr study store --target TB --arm imagenet --arm moco=run --fraction 0.2 1 --out study",
}
"""What a page may start with -> how it is made, each from those before it."""
_FROM = {
    "run": ("store",),
    "run2": ("store",),
    "model": ("store", "run"),
    "model-b": ("store",),
    "study": ("store", "run"),
}
_ROOT = "1.2.826.0.1.3680043.8.498."


def write_settings(folder: Path) -> None:
    """A file for `--config` for each command of `SETTINGS`."""
    folder.mkdir(parents=True)
    for command, values in SETTINGS.items():
        (folder / f"{command}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")


def write_brought(folder: Path) -> None:
    """Images, an archive, tables: what users bring."""
    _images(folder / "images", 200, seed=0)
    _images(folder / "hospital-b", 100, seed=1, first_patient=5000)
    _images(folder / "grown", 230, seed=0)
    write_synthetic(folder / "new-images", 6, seed=9, size=80, jobs=1)
    write_chexpert(folder / "synthetic-chexpert", images=60, size=64)
    _archive(folder)
    _tables(folder)


def make(names: list[str], folder: Path, environment: dict[str, str]) -> None:
    """Make these of `MADE`, and what they are made from, in a folder that has what users bring."""
    for name in MADE:
        if (folder / name).exists() or not any(name in (asked, *_FROM.get(asked, ())) for asked in names):
            continue
        done = subprocess.run(
            MADE[name], shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"$ {MADE[name]}\n{done.stdout}{done.stderr}")


def copy(names: list[str], source: Path, folder: Path) -> None:
    """What users bring, and the named things that commands made."""
    skipped = set(MADE) - set(names)
    shutil.copytree(source, folder, ignore=lambda at, _: skipped if Path(at) == source else [])


def _images(folder: Path, images: int, *, seed: int, first_patient: int = 0) -> None:
    """Drawn images with a table whose findings are TB, Effusion and Cardiomegaly; two thirds have labels."""
    table = write_synthetic(folder, images, seed=seed, size=80, images_per_patient=2, labelled=0.67, jobs=1)
    frame = pl.read_csv(table)
    if first_patient:
        frame = frame.with_columns(patient="hospital-b-" + pl.col("patient").cast(pl.String))
    frame.with_columns(TB=pl.col("Effusion")).write_csv(table)


def _archive(folder: Path) -> None:
    """A folder of DICOM files as an archive exports them, and a table of labels by accession number."""
    frame, archive = pl.read_csv(folder / "images/labels.csv").head(80), folder / "archive"
    archive.mkdir()
    for number, (path, patient) in enumerate(frame.select("path", "patient").iter_rows()):
        grey = cv2.imread(str(folder / "images" / path), cv2.IMREAD_GRAYSCALE)
        _dicom(grey, f"A{number:04}", str(patient), number).save_as(
            archive / f"IM{number:05}", enforce_file_format=True
        )
    shutil.copy(archive / "IM00003", folder / "new.dcm")
    labels = frame.with_columns(AccessionNumber=pl.Series([f"A{i:04}" for i in range(len(frame))]))
    labels.filter(pl.col("TB").is_not_null()).select("AccessionNumber", "TB").write_csv(folder / "labels.csv")


def _dicom(grey: np.ndarray, accession: str, patient: str, number: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = f"{_ROOT}1.{number}"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.PatientID, data.PatientName, data.AccessionNumber = f"HOSP-{patient}", "Doe^Jane", accession
    data.StudyInstanceUID, data.SeriesInstanceUID = f"{_ROOT}2.{number}", f"{_ROOT}3.{number}"
    data.Modality, data.BodyPartExamined, data.ViewPosition = "CR", "CHEST", "PA"
    data.Rows, data.Columns = grey.shape
    data.SamplesPerPixel, data.PixelRepresentation, data.PhotometricInterpretation = 1, 0, "MONOCHROME2"
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 12, 11
    data.PixelData = (np.uint16(grey) * 16 + np.uint16(grey) // 16).tobytes()
    return data


def _tables(folder: Path) -> None:
    """Labels that came later, and tables of scores of two models and two readers."""
    frame = pl.read_csv(folder / "images/labels.csv")
    later = frame.filter(pl.col("TB").is_null()).select("path").head(12)
    later.with_columns(TB=pl.Series([i % 2 for i in range(len(later))])).write_csv(folder / "more.csv")
    frame.select(pl.col("patient").unique(maintain_order=True)).with_columns(
        split=pl.Series(["train", "val", "test", "train", "test"] * 1000).head(frame["patient"].n_unique())
    ).write_csv(folder / "patients.csv")
    rng = np.random.default_rng(0)
    test, validation = rng.integers(0, 2, (2, 160))
    for name, quality, label in (("ours", 1.5, test), ("theirs", 1.0, test), ("val", 1.5, validation)):
        score = 1 / (1 + np.exp(-(quality * (label - 0.5) * 2 + rng.normal(size=160))))
        readers = {f"reader_{r}": np.where(rng.random(160) < 0.85, label, 1 - label) for r in "ab"}
        pl.DataFrame(
            {
                "path": [f"{i}.png" for i in range(160)], "patient": [f"P{i // 2}" for i in range(160)],
                "sex": ["M" if i % 3 else "F" for i in range(160)], "TB": label, "score": score.round(4), **readers,
            }
        ).write_csv(folder / f"{name}.csv")  # fmt: skip
