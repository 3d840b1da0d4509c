"""The same phantom person from the side, facing the left of the image."""

from __future__ import annotations

import numpy as np

from mococxr.synthetic.anatomy import Anatomy
from mococxr.synthetic.canvas import Canvas, arc, closed, cloud


def lateral_attenuation(
    canvas: Canvas,
    person: Anatomy,
    rng: np.random.Generator,
    severity: dict[str, float],
    breath: float,
    texture: float,
) -> np.ndarray:
    """Brightness of a lateral image before development, about 0..1, float32 (height, width).

    Args:
        canvas: pixels and pose.
        person: who it is.
        rng: the image's own chance, for mottle.
        severity: 0..1 each: `fluid` (behind the diaphragm), `heart`, `opacity`, `edema`, `bands`.
        breath: shift of the diaphragm in body units.
        texture: strength of the mottle.
    """
    base = person.base + breath
    air = _lungs(canvas, person, base) * (1 - 0.85 * _heart(canvas, base, severity["heart"]))
    air = air * (1 - _fluid(canvas, base, severity["fluid"]))
    air = air * (1 - _haze(canvas, -0.02, person.apex + 0.72, 0.40, 0.6 * severity["edema"]))
    air = air * (1 - _haze(canvas, 0.22, person.apex + 0.95, 0.24, 0.7 * severity["opacity"]))
    band = canvas.stroke([arc([(-0.25, base - 0.30), (0.1, base - 0.36), (0.4, base - 0.26)])], 0.04, 0.01)
    air = air * (1 - 0.7 * severity["bands"] * band)
    mottle = cloud(rng, canvas.height, canvas.width, 16)
    air = air * np.clip(1 - 0.08 * texture * mottle, 0, 1)
    tissue = _body(canvas, person)
    return tissue - (0.46 - 0.10 * person.fat) * air + _bones(canvas, person, base)


def _body(canvas: Canvas, person: Anatomy) -> np.ndarray:
    back = 0.74 + 0.10 * person.fat
    front = -0.62 - 0.10 * person.fat - 0.12 * person.breast
    outline = closed([
        (-0.20, -0.4), (-0.26, 0.15), (front, 0.80), (front, 1.40), (-0.62, 3.0),
        (0.70, 3.0), (back, 1.5), (back, 0.6), (0.34, 0.1), (0.26, -0.4),
    ])  # fmt: skip
    y = canvas.body[1]
    return canvas.fill(outline, blur=0.02) * (0.50 + 0.08 * person.fat + 0.10 * np.clip(y - 1.2, 0, 1))


def _lungs(canvas: Canvas, person: Anatomy, base: float) -> np.ndarray:
    a = person.apex
    outline = [
        (0.02, a - 0.05), (-0.20, a + 0.15), (-0.46, a + 0.50), (-0.52, base - 0.55), (-0.48, base - 0.16),
        (-0.20, base - 0.30), (0.15, base - 0.24), (0.42, base - 0.02), (0.56, base + 0.04),
        (0.62, base - 0.50), (0.60, a + 0.45), (0.34, a + 0.05),
    ]  # fmt: skip
    return canvas.fill(closed(outline), blur=0.008)


def _heart(canvas: Canvas, base: float, severity: float) -> np.ndarray:
    turn = np.linspace(0, 2 * np.pi, 32)
    wide, high = 0.27 + 0.14 * severity, 0.33 + 0.08 * severity
    x, y = -0.22 + 0.06 * severity, base - 0.46
    outline = np.stack([x + wide * np.cos(turn), y + high * np.sin(turn)], 1)
    return canvas.fill(outline, blur=0.02)


def _fluid(canvas: Canvas, base: float, severity: float) -> np.ndarray:
    """Fluid fills the angle behind the diaphragm first and climbs the back."""
    x, y = canvas.body
    if severity <= 0:
        return np.zeros_like(y)
    level = base - 0.62 * severity - 0.16 * np.clip((x - 0.1) / 0.5, 0, 1) ** 2
    return (0.8 + 0.15 * severity) / (1 + np.exp(np.clip((level - y) / 0.02, -30, 30)))


def _haze(canvas: Canvas, x0: float, y0: float, radius: float, strength: float) -> np.ndarray:
    x, y = canvas.body
    return strength * np.exp(-(np.square(x - x0) + np.square(y - y0)) / radius**2)


def _bones(canvas: Canvas, person: Anatomy, base: float) -> np.ndarray:
    spine = arc([(0.30, -0.4), (0.60, 0.7), (0.62, 1.5), (0.45, 2.8)], 20)
    sternum = arc([(-0.34, person.apex + 0.25), (-0.54, person.apex + 0.7), (-0.56, base - 0.5)])
    starts = person.apex + 0.1 + 0.17 * np.arange(8)
    ribs = [arc([(0.60, y), (0.1, y + 0.10), (-0.45, y + 0.42)]) for y in starts]
    column = 0.9 * canvas.stroke([spine], 0.17, 0.012) + 0.8 * canvas.stroke([sternum], 0.05, 0.01)
    return person.bone * (column + 0.5 * canvas.stroke(ribs, person.rib_width, 0.008))
