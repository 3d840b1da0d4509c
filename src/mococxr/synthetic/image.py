"""One phantom image: shapes to attenuation, attenuation to grey."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np

from mococxr.errors import InputError
from mococxr.synthetic.anatomy import IMAGE_HEIGHT, IMAGE_WIDTH, Anatomy, draw_anatomy, generator
from mococxr.synthetic.canvas import Canvas, cloud, soften
from mococxr.synthetic.lateral import lateral_attenuation
from mococxr.synthetic.parts import (
    atelectasis,
    bones,
    devices,
    edema,
    effusion,
    heart,
    lungs,
    mediastinum,
    opacity,
    torso,
    vessels,
)

FINDINGS = (
    "effusion",
    "effusion_left",
    "effusion_right",
    "cardiomegaly",
    "opacity",
    "edema",
    "atelectasis",
)
"""Findings and their sides (the patient's). Plain `effusion` takes a side, or both, by chance."""
VIEWS = ("PA", "AP", "lateral")


@dataclass(frozen=True)
class _Severity:
    left: float
    right: float
    heart: float
    opacity: float
    edema: float
    atelectasis: float


def draw_phantom(
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
    _check(size, findings or {}, view)
    person = draw_anatomy(seed, index if patient is None else patient)
    rng, own = generator(seed, 1, index), generator(seed, 2, index)
    severity = _severity(findings or {}, own)
    breath = 0.04 * rng.standard_normal() - (0.04 if view == "AP" else 0.0)
    canvas = _canvas(rng, size, pose)
    if view == "lateral":
        grey = lateral_attenuation(canvas, person, rng, _from_the_side(severity), breath, texture)
    else:
        grey = _attenuation(canvas, person, rng, own, severity, breath, view == "AP", texture)
        grey = devices(canvas, rng, grey, gadgets)
    return _develop(grey, rng, exposure, noise)


def _check(size: int, findings: Mapping[str, float], view: str) -> None:
    if size < 32:
        raise InputError(f"A phantom of {size} pixels is too small.", "Ask for 32 pixels or more.")
    if view not in VIEWS:
        raise InputError(f"Unknown view {view!r}.", f"Phantoms are drawn as {', '.join(VIEWS)}.")
    for name, value in findings.items():
        if name not in FINDINGS:
            raise InputError(f"Unknown finding {name!r}.", f"Known findings: {', '.join(FINDINGS)}.")
        if not 0 <= value <= 1:
            raise InputError(f"Severity {value} of {name} is outside 0..1.", "Give a number from 0 to 1.")


def _severity(findings: Mapping[str, float], own: np.random.Generator) -> _Severity:
    side, second = own.random(2)
    fluid = findings.get("effusion", 0.0)
    left = fluid if side < 0.45 else fluid * second * (side > 0.8)
    right = fluid if side >= 0.45 else fluid * second * (side < 0.1)
    return _Severity(
        left=max(left, findings.get("effusion_left", 0.0)),
        right=max(right, findings.get("effusion_right", 0.0)),
        heart=findings.get("cardiomegaly", 0.0),
        opacity=findings.get("opacity", 0.0),
        edema=findings.get("edema", 0.0),
        atelectasis=findings.get("atelectasis", 0.0),
    )


def _from_the_side(severity: _Severity) -> dict[str, float]:
    return {
        "fluid": max(severity.left, severity.right),
        "heart": severity.heart,
        "opacity": severity.opacity,
        "edema": severity.edema,
        "bands": severity.atelectasis,
    }


def _canvas(rng: np.random.Generator, height: int, pose: float) -> Canvas:
    width = round(height * IMAGE_WIDTH / IMAGE_HEIGHT)
    turn, shift_x, shift_y, scale = pose * np.clip(rng.standard_normal(4), -2, 2)
    angle, zoom = np.deg2rad(4.0 * turn), 1 + 0.04 * scale
    spin = (
        zoom
        * width
        / IMAGE_WIDTH
        * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    )
    middle = np.array([0.0, IMAGE_HEIGHT / 2])
    target = np.array([width * (0.5 + 0.03 * shift_x), height * (0.5 + 0.025 * shift_y)])
    return Canvas(height, width, np.column_stack([spin, target - spin @ middle]))


def _attenuation(
    canvas: Canvas,
    person: Anatomy,
    rng: np.random.Generator,
    own: np.random.Generator,
    severity: _Severity,
    breath: float,
    magnified: bool,
    texture: float,
) -> np.ndarray:
    """Brightness before development, about 0 (air outside) to 1 (bone behind the heart), float32."""
    tissue = torso(canvas, person)
    chest = lungs(canvas, person, breath)
    dense = np.maximum(
        heart(canvas, person, severity.heart, breath, magnified), mediastinum(canvas, person, magnified)
    )
    air = chest * (1 - 0.93 * dense)
    air = air * (1 - effusion(canvas, person, 1, severity.left, breath))
    air = air * (1 - effusion(canvas, person, -1, severity.right, breath))
    air = air * (1 - opacity(canvas, person, own, severity.opacity))
    air = air * (1 - edema(canvas, person, severity.edema))
    air = air * (1 - atelectasis(canvas, person, own, severity.atelectasis))
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
