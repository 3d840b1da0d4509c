"""The person behind a phantom image: what stays the same from image to image.

Lengths are in body units: an image is 2 wide and 2.4 high, x is 0 in the midline and grows towards the right
of the image (the patient's left), y is 0 at the upper edge and grows downwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IMAGE_WIDTH = 2.0
IMAGE_HEIGHT = 2.4


@dataclass(frozen=True)
class Anatomy:
    """One phantom person. Lengths in body units (an image is 2 by 2.4), angles in radians."""

    sex: str
    """`F` or `M`: women are smaller on average, with a narrower thorax and breast shadows."""
    age: int
    """Years. With age the aortic knob grows and bone fades."""
    chest: float
    """Inner half width of the thorax at its widest."""
    shoulder: float
    """Half width of the body at the shoulders."""
    apex: float
    """y of the lung apices."""
    base: float
    """y of the costophrenic angles."""
    dome_right: float
    """Height of the right diaphragm dome above the angle; the left one is a little lower."""
    dome_left: float
    heart_ratio: float
    """Cardiothoracic ratio without any finding."""
    heart_tilt: float
    """Height of the apex of the heart above its lowest point."""
    mediastinum: float
    """Half width of the upper mediastinum."""
    knob: float
    """Radius of the aortic knob."""
    rib_drop: float
    """How far a posterior rib falls from the spine to the lateral wall."""
    rib_width: float
    bone: float
    """Brightness of bone."""
    fat: float
    """Soft tissue over the thorax: 0 slim, 1 heavy."""
    breast: float
    """Strength of the breast shadows."""
    clavicle: float
    """Slope of the clavicles."""
    vessels: float
    """Strength of the vascular markings."""
    bend: float
    """Sideways bend of the spine."""


def generator(seed: int, kind: int, number: int) -> np.random.Generator:
    """The random stream number `number` of one kind (0 person, 1 image, 2 finding, 3 table) under one seed."""
    return np.random.default_rng(np.random.SeedSequence([seed, kind, number]))


def draw_anatomy(seed: int, patient: int) -> Anatomy:
    """Draw one phantom person: a pure function of (seed, patient), both at least 0."""
    rng = generator(seed, 0, patient)
    female = bool(rng.random() < 0.5)
    age = int(np.clip(rng.normal(56, 17), 18, 95))
    z = np.clip(rng.standard_normal(18), -2, 2)
    small = 0.03 if female else 0.0
    apex = 0.36 + 0.035 * z[2]
    dome = 0.17 + 0.03 * z[4]
    return Anatomy(
        sex="F" if female else "M",
        age=age,
        chest=0.75 - small + 0.035 * z[0],
        shoulder=0.99 - small + 0.04 * z[1],
        apex=apex,
        base=apex + 1.46 - small + 0.07 * z[3],
        dome_right=dome,
        dome_left=dome - 0.03 + 0.015 * z[5],
        heart_ratio=0.43 + 0.01 * female + 0.0005 * (age - 56) + 0.022 * z[6],
        heart_tilt=0.10 + 0.03 * z[7],
        mediastinum=0.15 + 0.015 * z[8],
        knob=0.075 + 0.0006 * (age - 56) + 0.012 * z[9],
        rib_drop=0.26 + 0.06 * z[10],
        rib_width=0.052 + 0.006 * z[11],
        bone=0.125 - 0.0007 * (age - 56) + 0.015 * z[12],
        fat=float(np.clip(0.45 + 0.22 * z[13], 0, 1)),
        breast=float(max(0.0, 0.55 + 0.25 * z[14])) if female else 0.0,
        clavicle=0.16 + 0.08 * z[15],
        vessels=1.0 + 0.25 * z[16],
        bend=0.02 * z[17],
    )
