"""Any torchxrayvision dataset object: its images written out once, without loss, beside a table that lists them.

    mococxr.prepare(dataset, format="xrv", out="store")

The images are what the object gives, its `transform` included, turned back from -1024..1024 into 8 bits where they
came from 8 bits and into 16 where not. From its table come `patientid`, `view`, `age_years`, `sex_male`, `sex_female`;
from `pathologies` and `labels` the labels: 1, 0, nan as blank, anything between as uncertain.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import polars as pl

from mococxr import console, files
from mococxr.datasets import own
from mococxr.datasets.dataset import Reader, Request, Rows, unreserved
from mococxr.errors import InputError, Shown, message

TABLE = "xrv.csv"
"""The table that stands beside the images."""
_HOW = 'From Python: dataset = torchxrayvision.datasets.NIH_Dataset("images")\n'
_HOW += '               mococxr.prepare(dataset, format="xrv", out="store")'
_RANGE = 1024.0


def _find(request: Request) -> Path | None:
    """The table in a folder that `on_disk` wrote."""
    path = request.root / TABLE
    return path if path.is_file() else None


def _read(request: Request) -> Rows:
    """Read what `on_disk` wrote.

    Raises:
        InputError: the source is another folder; the text shows how a dataset object is given.
    """
    table = _find(request)
    if table is None:
        raise InputError(
            "--format xrv is for dataset objects of torchxrayvision; {source} is not one.",
            _HOW,
            source=Shown(request.source),
        )
    return own.read_own(Request(request.root, table, request.label, request.patients_unknown))


def on_disk(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of `prepare` with a dataset object as `source` -> the same with the folder it was written to.

    The folder is `OUT.images`, beside the store. Images that are there from an earlier call are kept if the table is
    the same. An image that the object cannot give is left for `prepare` to put into quarantine.

    Raises:
        InputError: no dataset, no `out`, random augmentation, or images outside -1024..1024.
    """
    dataset, out = settings.get("source"), settings.get("out")
    if not all(hasattr(dataset, name) for name in ("pathologies", "labels", "csv", "__getitem__")):
        raise InputError(
            "{kind} is neither a path nor a dataset of torchxrayvision.", _HOW, kind=Shown(type(dataset).__name__)
        )
    if settings.get("format", "xrv") not in ("xrv", "auto") or out is None:
        raise InputError("A dataset object is prepared with format='xrv' and an `out`.", _HOW)
    if getattr(dataset, "data_aug", None) is not None:
        raise InputError("The dataset has data_aug: its images would differ each time.", "Make it without.")
    folder = Path(f"{os.fspath(out)}.images")
    table = _table(dataset)
    old = folder / TABLE
    if not (old.is_file() and old.read_bytes() == table.write_csv().encode()):
        if folder.is_dir() and any(folder.iterdir()) and not old.is_file():
            raise InputError(
                "{folder} is there already and holds something else.", "Name another out.", folder=Shown(folder)
            )
        (folder / "images").mkdir(parents=True, exist_ok=True)
        for image in (folder / "images").glob("*.png"):
            image.unlink()  # of another dataset: their numbers would be taken for these
        files.write_csv(old, table)
    failed = [
        f"image {number}: {reason}"
        for number, name in enumerate(table["path"])
        if not (folder / name).is_file() and (reason := _write(folder / name, dataset, number))
    ]
    if failed:  # `prepare` knows only that the file is not there
        text = "The dataset object could not give {count:,} images, e.g. {example}"
        note = message(text, count=len(failed), example=failed[0])
        console.warn(note.redacted if settings.get("pseudonymise") else note)
    return {**settings, "source": folder, "format": "xrv"}


def _table(dataset: Any) -> pl.DataFrame:
    """The table of images: path, patient, view, sex, age where they are known, and the labels."""
    values = np.asarray(dataset.labels, np.float64)
    count, names = len(dataset), [str(name) for name in dataset.pathologies]
    if values.shape != (count, len(names)) or len(dataset.csv) != count:
        raise InputError(
            "The dataset has {count:,} images, {count_2:,} rows and labels of shape {shape}.",
            "Take one whose table and labels have a row for each image.",
            count=count,
            count_2=len(dataset.csv),
            shape=values.shape,
        )
    facts: dict[str, list[Any]] = {"path": [f"images/{number:07d}.png" for number in range(count)]}
    for column, name in (("patientid", "patient"), ("view", "view"), ("age_years", "age")):
        if column in dataset.csv:
            # NaN alone is not itself.
            facts[name] = [None if value != value else str(value) for value in dataset.csv[column]]
    if "sex_male" in dataset.csv and "sex_female" in dataset.csv:
        pairs = zip(dataset.csv["sex_male"], dataset.csv["sex_female"], strict=True)
        facts["sex"] = ["M" if male and not female else "F" if female and not male else None for male, female in pairs]
    table = pl.DataFrame(facts)
    new = unreserved([*table.columns, *names])
    for name, value in zip(names, values.T, strict=True):
        sure = np.isin(value, (0, 1, -1))
        label = pl.Series(np.where(sure, value, -1), nan_to_null=True).cast(pl.Int8)
        known = pl.Series(~np.isnan(value))
        table = table.with_columns(pl.select(pl.when(known).then(label)).to_series().alias(new.get(name, name)))
    return table


def _write(path: Path, dataset: Any, number: int) -> str:
    """One image as a grey PNG of 8 or 16 bits; returns why it could not be written, or nothing."""
    try:
        image = np.asarray(dataset[number]["img"], np.float64)
    except Exception as error:  # whatever the dataset object raises
        return f"{type(error).__name__}: {error}"
    image = image.reshape(image.shape[-2:]) if image.ndim == 2 or image.shape[0] == 1 else image.mean(axis=0)
    if not np.isfinite(image).all() or np.abs(image).max() > _RANGE * 1.001:  # room for rounding in float32
        low, high = float(image.min()), float(image.max())
        raise InputError(
            "Image {number} of the dataset has values from {low:g} to {high:g}.",
            "They must lie in -1024..1024.",
            number=number,
            low=low,
            high=high,
        )
    files.atomic_write(path, cv2.imencode(".png", _grey(image))[1].tobytes())
    return ""


def _grey(image: npt.NDArray[np.float64]) -> npt.NDArray[Any]:
    """-1024..1024 -> uint8 where all values are 8-bit ones, else uint16."""
    share = (image / _RANGE + 1) / 2
    eight = share * 255
    if np.abs(eight - np.rint(eight)).max() < 1e-3:  # 8 bits scaled to -1024..1024 come back to within float32
        return np.rint(eight).clip(0, 255).astype(np.uint8)
    return np.rint(share * 65535).clip(0, 65535).astype(np.uint16)  # a transform gives values between those of 8 bits


READER = Reader("xrv", _find, _read)
