"""A folder of small random images with a label table: what the tests of the store are made of."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import polars as pl

from mococxr.preparation.prepare import run as prepare
from mococxr.settings import PrepareSettings, make


def image_path(i: int) -> str:
    """Path of an image of such a folder, as its table and a store's index have it."""
    return f"images/image{i:04d}.png"


def write_images(folder: Path, images: int = 70, *, seed: int = 0, per_patient: int = 2) -> pl.DataFrame:
    """`folder/images/*.png` of random shape and content, and `folder/labels.csv`; returns the table."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(images):
        shape = rng.integers(24, 60, 2).tolist()
        name = image_path(i)
        cv2.imwrite(str(folder / name), rng.integers(0, 256, shape, dtype=np.uint8))
        patient = f"{i // per_patient:03d}"
        rows.append((name, patient, f"s{i}", ("PA", "AP")[i % 2], "M", i % 90, i // 2 % 3 % 2, i % 2, "note"))
    names = ["path", "patient_id", "study_id", "view", "sex", "age", "Effusion", "Rare", "remark"]
    table = pl.DataFrame(rows, schema=names, orient="row")
    table.write_csv(folder / "labels.csv")
    return table


def settings(folder: Path, out: Path, **others: object) -> PrepareSettings:
    """Settings of `prepare` for such a folder: shorter side 32 px, one process."""
    return make(PrepareSettings, {"source": folder, "out": out, "size": 32, "jobs": 1, **others})


def small_prepared(folder: Path, images: int, **others: object) -> Path:
    """A store of such a folder, two images a patient, in three splits; labels Effusion and Rare."""
    write_images(folder / "images", images)
    return prepare(settings(folder / "images", folder / "store", split=(0.4, 0.3, 0.3), **others)).path


def contents(folder: Path) -> dict[str, bytes]:
    """File name -> bytes, of every file below a folder."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}
