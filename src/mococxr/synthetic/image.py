"""One synthetic image: shapes to attenuation, attenuation to grey."""

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
from mococxr.synthetic.anatomy import IMAGE_HEIGHT, IMAGE_WIDTH, Anatomy, Canvas, cloud, draw_anatomy, generator, soften
from mococxr.synthetic.parts import (
    atelectasis,
    bones,
    devices,
    edema,
    effusion,
    heart,
    lateral_attenuation,
    lungs,
    mediastinum,
    opacity,
    torso,
    vessels,
)
from mococxr.workers import cores

FINDINGS = ("effusion", "effusion_left", "effusion_right", "cardiomegaly", "opacity", "edema", "atelectasis")
"""Findings and their sides (the patient's). Plain `effusion` takes a side, or both, by chance."""
VIEWS = ("PA", "AP", "lateral")


def draw_synthetic(
    seed: int,
    index: int,
    *,
    size: int = 256,
    findings: Mapping[str, float] | None = None,
    patient: int | None = None,
    view: str = "PA",
    exposure: float = 1.0,
    pose: float = 1.0,
    noise: float = 1.0,
    texture: float = 1.0,
    gadgets: float = 1.0,
) -> np.ndarray:
    """Draw one synthetic chest image: a pure function of its arguments.

    Findings change only what they touch: everything else of the image depends on (seed, index, patient).

    Args:
        seed: 0 or more; names the whole collection.
        index: 0 or more; names the image.
        size: height in pixels, at least 32; the width is size / 1.2.
        findings: severity 0..1 by name (`FINDINGS`); none by default.
        patient: the person (`draw_anatomy(seed, patient)`); by default a person of its own for every image.
        view: `PA`; `AP`: a larger heart, wider mediastinum, less breath; `lateral`: from the side, without gadgets.
        exposure: spread of window and gamma, 1 as usual, 0 none.
        pose: spread of rotation, shift and scale, 1 as usual (about 4 degrees, 3 %, 4 %), 0 none.
        noise: grain, 1 as usual, 0 none.
        texture: strength of vessels and of the mottle of tissue, 1 as usual, 0 none.
        gadgets: chance factor of lines, pacemakers and ECG leads, 1 as usual, 0 none.

    Returns:
        uint8 (size, round(size / 1.2)), bones and fluid white.

    Raises:
        InputError: an unknown finding or view, a severity outside 0..1, a size under 32.
    """
    if size < 32:
        raise InputError(f"A synthetic image of {size} pixels is too small.", "Ask for 32 pixels or more.")
    if view not in VIEWS:
        raise InputError(f"Unknown view {view!r}.", f"Synthetic images are drawn as {', '.join(VIEWS)}.")
    for name, value in (findings or {}).items():
        if name not in FINDINGS:
            raise InputError(f"Unknown finding {name!r}.", f"Known findings: {', '.join(FINDINGS)}.")
        if not 0 <= value <= 1:
            raise InputError(f"Severity {value} of {name} is outside 0..1.", "Give a number from 0 to 1.")
    person = draw_anatomy(seed, index if patient is None else patient)
    # Two streams: what a finding draws must not move the rest of the image.
    rng, finding_rng = generator(seed, 1, index), generator(seed, 2, index)
    severity = _severity(findings or {}, finding_rng)
    breath = 0.04 * rng.standard_normal() - (0.04 if view == "AP" else 0.0)
    canvas = _canvas(rng, size, pose)
    if view == "lateral":
        grey = lateral_attenuation(canvas, person, rng, severity, breath, texture)
    else:
        grey = _attenuation(canvas, person, rng, finding_rng, severity, breath, view == "AP", texture)
        grey = devices(canvas, rng, grey, gadgets)
    return _develop(grey, rng, exposure, noise)


def _severity(findings: Mapping[str, float], chance: np.random.Generator) -> dict[str, float]:
    """Severity of each finding with plain `effusion` on its side; `chance` is the image's own."""
    side, second = chance.random(2)  # drawn in any case, so that later draws of the stream stay
    fluid = findings.get("effusion", 0.0)
    left = fluid if side < 0.45 else fluid * second * (side > 0.8)
    right = fluid if side >= 0.45 else fluid * second * (side < 0.1)
    return dict.fromkeys(FINDINGS, 0.0) | dict(findings) | {
        "effusion_left": max(left, findings.get("effusion_left", 0.0)),
        "effusion_right": max(right, findings.get("effusion_right", 0.0)),
    }  # fmt: skip


def _canvas(rng: np.random.Generator, height: int, pose: float) -> Canvas:
    width = round(height * IMAGE_WIDTH / IMAGE_HEIGHT)
    turn, shift_x, shift_y, scale = pose * np.clip(rng.standard_normal(4), -2, 2)
    angle, zoom = np.deg2rad(4.0 * turn), 1 + 0.04 * scale
    spin = zoom * width / IMAGE_WIDTH * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.array([0.0, IMAGE_HEIGHT / 2])
    target = np.array([width * (0.5 + 0.03 * shift_x), height * (0.5 + 0.025 * shift_y)])
    return Canvas(height, width, np.column_stack([spin, target - spin @ middle]))


def _attenuation(
    canvas: Canvas,
    person: Anatomy,
    rng: np.random.Generator,
    finding_rng: np.random.Generator,
    severity: Mapping[str, float],
    breath: float,
    magnified: bool,
    texture: float,
) -> np.ndarray:
    """Brightness before development, about 0 (air outside) to 1 (bone behind the heart), float32."""
    tissue = torso(canvas, person)
    chest = lungs(canvas, person, breath)
    dense = np.maximum(
        heart(canvas, person, severity["cardiomegaly"], breath, magnified), mediastinum(canvas, person, magnified)
    )
    air = chest * (1 - 0.93 * dense)
    # 1: the patient's left, which is the right of the image
    air = air * (1 - effusion(canvas, person, 1, severity["effusion_left"], breath))
    air = air * (1 - effusion(canvas, person, -1, severity["effusion_right"], breath))
    air = air * (1 - opacity(canvas, person, finding_rng, severity["opacity"]))
    air = air * (1 - edema(canvas, person, severity["edema"]))
    air = air * (1 - atelectasis(canvas, person, finding_rng, severity["atelectasis"]))
    branches = vessels(canvas, person, rng) * texture
    mottle = texture * (
        0.5 * cloud(rng, canvas.height, canvas.width, 9) + 0.5 * cloud(rng, canvas.height, canvas.width, 24)
    )
    air = air * np.clip(1 - 0.30 * branches - 0.06 * mottle, 0, 1)
    grey = tissue - (0.50 - 0.10 * person.fat) * air + 0.05 * dense * chest
    return grey + bones(canvas, person) * (0.55 + 0.45 * np.clip(tissue * 2, 0, 1))


def _develop(grey: np.ndarray, rng: np.random.Generator, exposure: float, noise: float) -> np.ndarray:
    """Window, gamma and grain: attenuation to uint8."""
    z = exposure * np.clip(rng.standard_normal(4), -2, 2)
    tilt = np.linspace(-0.5, 0.5, grey.shape[1], dtype=np.float32)[None, :]
    low, high = 0.0 + 0.03 * z[0], 0.92 + 0.05 * z[1]
    level = np.clip((grey + 0.03 * z[3] * tilt - low) / (high - low), 0, 1) ** np.float32(np.exp(0.13 * z[2]))
    fine = grey.shape[0] / 256  # grain per pixel grows with the resolution: images shrunk to one size match
    grain = rng.standard_normal(grey.shape, dtype=np.float32)
    speckle = np.float32(0.6) * grain + np.float32(1.2) * soften(grain, fine)
    level = level + np.float32(0.022 * noise * fine) * speckle * (np.float32(0.4) + level)
    return cv2.convertScaleAbs(np.clip(level, 0, 1), alpha=255)


NOTE = "Synthetic image drawn by mococxr: not a patient, not for medical use."
"""The text that every synthetic image's PNG carries under the keyword `synthetic`."""

COLUMNS = {
    **dict.fromkeys(("path", "patient", "study", "view", "sex"), pl.String),
    **dict.fromkeys(("age", "Effusion", "Cardiomegaly"), pl.Int64),
}


def write_synthetic(
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
    **look: float,
) -> Path:
    """Write `folder/images/synthetic-*.png` and then `folder/labels.csv`; equal arguments give equal files.

    Args:
        folder: made if absent.
        images: number of images, at least 1.
        seed: names the collection; another seed gives other people.
        size: height of an image in pixels (see `draw_synthetic`).
        images_per_patient: a patient has 1 to this many images, each its own study; findings wander a little.
        labelled: share of the patients whose labels are filled in; the others' stay blank.
        label_noise: share of labels that are turned round.
        prevalence: share of patients with each finding.
        subtle: 1 spreads severity evenly; larger makes more of the positive cases slight.
        jobs: threads; by default one a core.
        look: exposure, pose, noise, texture, gadgets (see `draw_synthetic`).

    Returns:
        The path of the table.

    Raises:
        InputError: a number out of range, or a folder that cannot be written to.
    """
    for name, count in (("images", images), ("images_per_patient", images_per_patient)):
        if count < 1:
            raise InputError(f"{name} is {count}.", "Give a whole number of 1 or more.")
    for name, share in (("labelled", labelled), ("label_noise", label_noise), ("prevalence", prevalence)):
        if not 0 <= share <= 1:
            raise InputError(f"{name} is {share}.", "Give a share from 0 to 1.")
    if subtle <= 0:
        raise InputError(f"subtle is {subtle}.", "Give a number above 0.")
    rows = _plan(images, seed, images_per_patient, labelled, label_noise, prevalence, subtle)
    write_images(Path(folder), seed, {row["path"]: row["drawn"] | {"size": size} | look for row in rows}, jobs)
    table = Path(folder) / "labels.csv"
    write_csv(table, pl.DataFrame([{name: row[name] for name in COLUMNS} for row in rows], schema=COLUMNS))
    return table


def _plan(
    images: int, seed: int, most: int, labelled: float, label_noise: float, prevalence: float, subtle: float
) -> list[dict[str, Any]]:
    """One row an image: the table's columns, and `drawn`, arguments of `draw_synthetic`."""
    rows: list[dict[str, Any]] = []
    patient = 0
    while len(rows) < images:
        rng = generator(seed, 3, patient)  # a stream each: more images change none of those before
        person = draw_anatomy(seed, patient)
        known = rng.random() < labelled
        ill = rng.random(2) < prevalence
        core = np.where(ill, 0.08 + 0.92 * rng.random(2) ** subtle, 0.0)
        for number in range(min(int(rng.integers(1, most + 1)), images - len(rows))):
            severity = np.where(ill, np.clip(core * np.exp(0.25 * rng.standard_normal(2)), 0.05, 1), 0.0)
            label = np.where(rng.random(2) < label_noise, ~ill, ill).astype(int).tolist()
            cloudy = float(rng.random() ** 2) if rng.random() < 0.25 else 0.0  # an opacity that no column tells of
            name, view = f"synthetic-{patient + 1:06d}", "AP" if rng.random() < 0.35 else "PA"
            findings = {"effusion": severity[0], "cardiomegaly": severity[1], "opacity": cloudy}
            rows.append({
                "path": f"images/{name}-{number + 1}.png", "patient": name, "study": f"{name}-{number + 1}",
                "view": view, "sex": person.sex, "age": person.age,
                "Effusion": label[0] if known else None, "Cardiomegaly": label[1] if known else None,
                "drawn": {"index": len(rows), "patient": patient, "view": view, "findings": findings},
            })  # fmt: skip
        patient += 1
    return rows


def write_images(folder: Path, seed: int, images: Mapping[str, Mapping[str, Any]], jobs: int | None) -> None:
    """Draw images and write them, PNG or JPEG; each says within the file that nobody was X-rayed.

    Args:
        images: path below the folder -> arguments of `draw_synthetic`.
        jobs: threads; None is one a core.

    Raises:
        InputError: the folder cannot be written to.
    """

    def write(path: str) -> None:
        image = draw_synthetic(seed, **images[path])
        if path.endswith(".png"):
            data = cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
            # a tEXt chunk after the signature (8 bytes) and IHDR (25)
            text = b"tEXtsynthetic\0" + NOTE.encode()
            # the length leaves out the four letters of the type
            chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
            data = data[:33] + chunk + data[33:]
        else:
            data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()
            # a comment segment after the start marker (2 bytes); its length counts its own two bytes
            data = data[:2] + b"\xff\xfe" + (len(NOTE) + 2).to_bytes(2, "big") + NOTE.encode() + data[2:]
        (folder / path).write_bytes(data)

    try:
        for parent in {(folder / path).parent for path in images}:
            parent.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(jobs or cores()) as pool:
            list(pool.map(write, images))
    except OSError as error:
        raise InputError(f"Cannot write images to {folder}: {error.strerror}.", "Name another folder.") from error
