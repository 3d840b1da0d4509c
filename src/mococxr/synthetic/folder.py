"""A folder of phantom images with a label table in the project's own csv format."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl

from mococxr.errors import InputError
from mococxr.files import write_csv
from mococxr.synthetic.anatomy import draw_anatomy, generator
from mococxr.synthetic.image import draw_phantom
from mococxr.workers import cores

NOTE = "Synthetic phantom drawn by mococxr: not a patient, not for medical use."
"""The text that every phantom's PNG carries under the keyword `phantom`."""

COLUMNS = {
    **dict.fromkeys(("path", "patient", "study", "view", "sex"), pl.String),
    **dict.fromkeys(("age", "Effusion", "Cardiomegaly"), pl.Int64),
}


def write_phantoms(
    folder: Path,
    images: int,
    *,
    seed: int = 0,
    size: int = 256,
    images_per_patient: int = 3,
    labelled: float = 1.0,
    label_noise: float = 0.05,
    prevalence: float = 0.4,
    subtle: float = 1.0,
    jobs: int | None = None,
    exposure: float = 1.0,
    pose: float = 1.0,
    noise: float = 1.0,
    texture: float = 1.0,
    gadgets: float = 1.0,
) -> Path:
    """Write `folder/images/phantom-*.png` and then `folder/labels.csv`; equal arguments give equal files.

    Args:
        folder: made if absent.
        images: number of images, at least 1.
        seed: names the collection; another seed gives other people.
        size: height of an image in pixels (see `draw_phantom`).
        images_per_patient: a patient has 1 to this many images, each its own study; findings wander a little.
        labelled: share of the patients whose labels are filled in; the others' stay blank.
        label_noise: share of labels that are turned round.
        prevalence: share of patients with each finding.
        subtle: 1 spreads severity evenly; larger makes more of the positive cases slight.
        jobs: threads; by default one a core.
        exposure, pose, noise, texture, gadgets: spread of what is no finding (see `draw_phantom`).

    Returns:
        The path of the table.

    Raises:
        InputError: a number out of range, or a folder that cannot be written to.
    """
    _check(images, images_per_patient, labelled, label_noise, prevalence, subtle)
    rows = _plan(images, seed, images_per_patient, labelled, label_noise, prevalence, subtle)
    look = {"exposure": exposure, "pose": pose, "noise": noise, "texture": texture, "gadgets": gadgets}
    pixels = Path(folder) / "images"
    try:
        pixels.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(jobs or cores()) as pool:
            list(pool.map(lambda row: _write_image(Path(folder), row, seed, size, look), rows))
    except OSError as error:
        raise InputError(
            f"Cannot write images to {pixels}: {error.strerror}.", "Name another folder."
        ) from error
    table = Path(folder) / "labels.csv"
    write_csv(table, pl.DataFrame([{name: row[name] for name in COLUMNS} for row in rows], schema=COLUMNS))
    return table


def _check(
    images: int,
    images_per_patient: int,
    labelled: float,
    label_noise: float,
    prevalence: float,
    subtle: float,
) -> None:
    for name, count in (("images", images), ("images_per_patient", images_per_patient)):
        if count < 1:
            raise InputError(f"{name} is {count}.", "Give a whole number of 1 or more.")
    for name, share in (("labelled", labelled), ("label_noise", label_noise), ("prevalence", prevalence)):
        if not 0 <= share <= 1:
            raise InputError(f"{name} is {share}.", "Give a share from 0 to 1.")
    if subtle <= 0:
        raise InputError(f"subtle is {subtle}.", "Give a number above 0.")


def _plan(
    images: int, seed: int, most: int, labelled: float, label_noise: float, prevalence: float, subtle: float
) -> list[dict[str, Any]]:
    """One row an image: the table's columns, and what the drawing needs."""
    rows: list[dict[str, Any]] = []
    patient = 0
    while len(rows) < images:
        rng = generator(seed, 3, patient)
        person = draw_anatomy(seed, patient)
        known = rng.random() < labelled
        ill = rng.random(2) < prevalence
        core = np.where(ill, 0.08 + 0.92 * rng.random(2) ** subtle, 0.0)
        for number in range(min(int(rng.integers(1, most + 1)), images - len(rows))):
            severity = np.where(ill, np.clip(core * np.exp(0.25 * rng.standard_normal(2)), 0.05, 1), 0.0)
            label = np.where(rng.random(2) < label_noise, ~ill, ill).astype(int).tolist()
            cloudy = float(rng.random() ** 2) if rng.random() < 0.25 else 0.0
            name = f"phantom-{patient + 1:06d}"
            rows.append({
                "path": f"images/{name}-{number + 1}.png", "patient": name, "study": f"{name}-{number + 1}",
                "view": "AP" if rng.random() < 0.35 else "PA", "sex": person.sex, "age": person.age,
                "Effusion": label[0] if known else None, "Cardiomegaly": label[1] if known else None,
                "index": len(rows), "number": patient,
                "findings": {"effusion": severity[0], "cardiomegaly": severity[1], "opacity": cloudy},
            })  # fmt: skip
        patient += 1
    return rows


def _write_image(
    folder: Path, row: Mapping[str, Any], seed: int, size: int, look: Mapping[str, float]
) -> None:
    image = draw_phantom(
        seed,
        row["index"],
        size=size,
        findings=row["findings"],
        patient=row["number"],
        view=row["view"],
        **look,
    )
    data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
    (folder / row["path"]).write_bytes(with_text(data, "phantom", NOTE))


def with_text(png: bytes, keyword: str, text: str) -> bytes:
    """Put a tEXt chunk after the header of a PNG (signature 8 bytes, IHDR 25)."""
    body = b"tEXt" + keyword.encode("latin-1") + b"\0" + text.encode("latin-1")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return png[:33] + chunk + png[33:]
