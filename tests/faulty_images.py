"""A folder of synthetic images with faults of every kind planted in it, and what was planted where."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import polars as pl

from mococxr.commands import run
from mococxr.store import Store
from mococxr.synthetic import write_synthetic

TEXTS = (
    "SMITH JOHN 19470312", "DOE^JANE 12345678", "MILLER ANN F 03/12/1961", "ID 99-1234-77  M  062Y",
    "ACC 20190412-0034 CHEST", "O'NEIL PATRICK 55821", "GARCIA MARIA 1958.11.02", "2019-04-12 14:22:08 ROOM 4",
)  # fmt: skip


def burn_in(image: np.ndarray, number: int) -> np.ndarray:
    """A name and a number along the upper or lower edge, the letters 2.5 to 3.5 % of the height."""
    words = TEXTS[number % len(TEXTS)]
    scale = image.shape[0] * (0.025 + 0.0025 * (number % 5)) / 21
    (width, height), _ = cv2.getTextSize(words, cv2.FONT_HERSHEY_SIMPLEX, scale, 1)
    left = (image.shape[1] - width) * (number % 4) // 4 + 3
    base = height + 5 if number % 2 else image.shape[0] - 7
    return cv2.putText(image.copy(), words, (left, base), cv2.FONT_HERSHEY_SIMPLEX, scale, 255, 1, cv2.LINE_AA)


CHANGES = {
    "inverted": lambda image, _: 255 - image,
    "blank": lambda image, number: np.full_like(image, 40 * number),
    "rotated": lambda image, number: np.rot90(image, (1, 2, 3)[number % 3]),
    "text": burn_in,
}


def plant(folder: Path, images: int, counts: dict[str, int], size: int) -> tuple[Store, dict[str, list[str]]]:
    """Synthetic images with faults, as a store (train and test, half each).

    Args:
        folder: to work in.
        images: synthetic images without copies.
        counts: how many of each of `CHANGES`; of `rescaled`, `recompressed` and `identical` copies of one
            patient; of `leaking` images, given to a second patient in the other split; of `torn` patients, who
            are put in both splits.
        size: height of the synthetic images; the store's size is their width.

    Returns:
        The store, and for each fault the paths that should be flagged (for `torn` the patients).
    """
    table = pl.read_csv(write_synthetic(folder / "images", images, size=size, seed=4, jobs=2), infer_schema=False)
    table = table.with_columns(split=_half(table["patient"]))
    rng = np.random.default_rng(1)
    rows = iter(rng.permutation(len(table)).tolist())
    planted: dict[str, list[str]] = {name: [] for name in counts}
    for fault in CHANGES:
        for number in range(counts.get(fault, 0)):
            path = table["path"][next(rows)]
            image = cv2.imread(str(folder / "images" / path), cv2.IMREAD_GRAYSCALE)
            cv2.imwrite(str(folder / "images" / path), CHANGES[fault](image, number))
            planted[fault].append(path)
    more = []
    for fault in ("rescaled", "recompressed", "identical", "leaking"):
        for number in range(counts.get(fault, 0)):
            row = table.row(next(rows), named=True)
            path = _copy(folder / "images", row["path"], fault, number)
            other = {"patient": f"{row['patient']}x", "split": {"train": "test", "test": "train"}[row["split"]]}
            more.append({**row, "path": path, **(other if fault == "leaking" else {})})
            planted[fault].append(path)
    pl.concat([table, pl.DataFrame(more, schema=table.schema)]).write_csv(folder / "images" / "labels.csv")
    width = round(size / 1.2)
    run("prepare", {"source": folder / "images", "out": folder / "store", "size": width, "jobs": 1})
    planted["torn"] = _tear(folder / "store", counts.get("torn", 0))
    return Store.open(folder / "store"), planted


def _half(patients: pl.Series) -> pl.Series:
    return pl.Series([("train", "test")[p % 2] for p in patients.rank("dense").to_list()])


def _copy(folder: Path, path: str, fault: str, number: int) -> str:
    """Write a copy of an image; returns its path."""
    image = cv2.imread(str(folder / path), cv2.IMREAD_GRAYSCALE)
    name = path.replace("synthetic-", f"synthetic-{fault}-")
    if fault == "rescaled":
        factor = 0.7 + 0.08 * (number % 10)
        cv2.imwrite(str(folder / name), cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA))
    elif fault == "recompressed":
        name = name.replace(".png", ".jpg")
        cv2.imwrite(str(folder / name), image, [cv2.IMWRITE_JPEG_QUALITY, 40 + 5 * (number % 10)])
    else:
        shutil.copy(folder / path, folder / name)
    return name


def _tear(store: Path, count: int) -> list[str]:
    """Put the first patients of splits.csv in the other split too, by hand as it were."""
    splits = pl.read_csv(store / "splits.csv", infer_schema=False)
    torn = splits.head(count).with_columns(split=pl.col("split").replace({"train": "test", "test": "train"}))
    pl.concat([splits, torn]).write_csv(store / "splits.csv")
    return torn["patient"].to_list()
