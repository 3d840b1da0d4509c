"""The parts of a synthetic image: each takes the canvas and the person and gives a float32 mask."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mococxr.synthetic.anatomy import Anatomy, Canvas, arc, closed, cloud


def torso(canvas: Canvas, person: Anatomy) -> np.ndarray:
    """Soft tissue of neck, shoulders, arms and trunk: brightness before lungs and bones."""
    s, c, fat = person.shoulder, person.chest + 0.09 + 0.10 * person.fat, person.fat
    right = [(0.17, -0.4), (0.19, 0.12), (0.34, 0.27), (s - 0.1, 0.36), (s + 0.25, 0.62), (s + 0.3, 1.2)]
    flank = [(c + 0.14, 1.0), (c + 0.02, 1.3), (c + 0.02, 2.0), (c + 0.06, 3.0)]
    half = right + flank
    outline = closed([*half, *[(-x, y) for x, y in reversed(half)]])
    body = canvas.fill(outline, blur=0.02)
    x, y = canvas.body
    depth = np.clip(1 - np.square(x / (1.15 * c)), 0, 1)
    thick = 0.38 + 0.08 * fat + (0.18 + 0.04 * fat) * depth + 0.10 * np.clip(y - 1.2, 0, 1)
    if person.breast:
        thick = thick + person.breast * _breasts(x, y, person)
    return body * thick


def _breasts(x: np.ndarray, y: np.ndarray, person: Anatomy) -> np.ndarray:
    across = (np.abs(x) - 0.62 * person.chest) / (0.52 * person.chest)
    down = (y - person.base + 0.22) / 0.42
    inside = np.clip(1 - np.square(across) - np.square(down), 0, 1)
    return 0.17 * np.sqrt(inside)


def lungs(canvas: Canvas, person: Anatomy, breath: float) -> np.ndarray:
    """Both lungs with their diaphragm domes; on the right of the image is the patient's left."""
    c, a, b = person.chest, person.apex, person.base + breath
    outlines = []
    for side, dome in ((1, person.dome_left), (-1, person.dome_right)):
        points = [
            (0.05, a + 0.50), (0.14, a + 0.10), (0.24, a - 0.05), (0.44, a - 0.03), (0.77 * c, a + 0.20),
            (0.93 * c, a + 0.60), (1.02 * c, b - 0.45), (1.04 * c, b - 0.05), (1.02 * c, b + 0.05),
            (0.93 * c, b - 0.02), (0.76 * c, b - dome), (0.48 * c, b - dome - 0.06), (0.25 * c, b - dome),
            (0.06, b - dome + 0.08),
        ]  # fmt: skip
        outlines.append(closed([(side * x, y) for x, y in points]))
    return canvas.fill(*outlines, blur=0.008)


def heart(canvas: Canvas, person: Anatomy, severity: float, breath: float, magnified: bool) -> np.ndarray:
    """The heart: its width is the cardiothoracic ratio times the inner width of the thorax."""
    ratio = (person.heart_ratio + 0.20 * severity) * (1.08 if magnified else 1.0)
    w = ratio * 2 * person.chest / 0.92
    low = person.base + breath - 0.5 * (person.dome_left + person.dome_right) + 0.10
    top = low - 0.66 - 0.10 * severity
    points = [
        (-0.10, top - 0.10), (-0.30 * w, top + 0.22), (-0.37 * w, top + 0.42), (-0.31 * w, low + 0.02),
        (0.20 * w, low + 0.08), (0.55 * w, low + 0.06), (0.66 * w, low - person.heart_tilt),
        (0.52 * w, top + 0.34), (0.32 * w, top + 0.12), (0.14, top - 0.10),
    ]  # fmt: skip
    return canvas.fill(closed(points), blur=0.014)


def mediastinum(canvas: Canvas, person: Anatomy, magnified: bool) -> np.ndarray:
    """The upper mediastinum with the aortic knob, from the neck to the diaphragm."""
    m, a = person.mediastinum * (1.08 if magnified else 1.0), person.apex
    column = closed([(-0.8 * m, -0.5), (-m, a + 0.4), (-m, a + 1.6), (0.9 * m, a + 1.6), (m, a + 0.4), (0.8 * m, -0.5)])
    t = np.linspace(0, 2 * np.pi, 24)
    knob = np.stack([0.8 * m + person.knob * np.cos(t), a + 0.42 + 1.2 * person.knob * np.sin(t)], 1)
    return canvas.fill(column, knob, blur=0.012)


def effusion(canvas: Canvas, person: Anatomy, side: int, severity: float, breath: float) -> np.ndarray:
    """Fluid at one base: blunts the angle when slight, then a meniscus that climbs the lateral wall."""
    if severity <= 0:
        return np.zeros((canvas.height, canvas.width), np.float32)
    c, floor = person.chest, person.base + breath
    x = np.linspace(0.0, 1.12, 24) * c
    level = floor + 0.02 - 0.62 * severity
    rise = (0.07 + 0.16 * severity) * np.clip(x / c, 0, 1) ** 4
    top = np.stack([side * x, level - rise], 1)
    bottom = np.array([[side * 1.12 * c, floor + 0.4], [0.0, floor + 0.4]])
    return (0.78 + 0.16 * severity) * canvas.fill(np.concatenate([top, bottom]), blur=0.030)


def opacity(canvas: Canvas, person: Anatomy, rng: np.random.Generator, severity: float) -> np.ndarray:
    """A patchy consolidation in one lung; place and form by the image's own chance."""
    if severity <= 0:
        return np.zeros((canvas.height, canvas.width), np.float32)
    side = 1 if rng.random() < 0.5 else -1
    across, down = rng.uniform(0.40, 0.75), rng.uniform(0.30, 0.78)
    radius = (0.10 + 0.20 * severity) * rng.uniform(0.85, 1.2, 2)
    x, y = canvas.body
    centre_y = person.apex + down * (person.base - person.apex)
    distance = np.square((x - side * across * person.chest) / radius[0]) + np.square((y - centre_y) / radius[1])
    ragged = distance + 0.45 * cloud(rng, canvas.height, canvas.width, 14)
    return (0.35 + 0.4 * severity) / (1 + np.exp(np.clip(4 * (ragged - 1), -30, 30)))


def edema(canvas: Canvas, person: Anatomy, severity: float) -> np.ndarray:
    """Haze around both hila that thins towards the wall, as fluid in the lungs makes it."""
    x, y = canvas.body
    down = (y - person.apex - 0.78) / 0.55
    across = (np.abs(x) - 0.30) / 0.30
    return 0.62 * severity * np.exp(-np.square(across) - np.square(down))


def atelectasis(canvas: Canvas, person: Anatomy, rng: np.random.Generator, severity: float) -> np.ndarray:
    """Plates of collapsed lung above one diaphragm; side and slope by the image's own chance."""
    if severity <= 0:
        return np.zeros((canvas.height, canvas.width), np.float32)
    side = 1 if rng.random() < 0.5 else -1
    slopes = rng.uniform(-0.10, 0.14, 2)
    low, reach = person.base - person.dome_right - 0.16, 0.86 * person.chest
    plates = [
        arc([(side * 0.30 * reach, y), (side * 0.65 * reach, y + slope / 2), (side * reach, y + slope)])
        for y, slope in zip((low, low - 0.20), slopes, strict=True)
    ]
    first, second = (canvas.stroke([plate], 0.025 + 0.075 * severity, 0.008) for plate in plates)
    return (0.55 + 0.30 * severity) * np.maximum(first, second * severity)


def vessels(canvas: Canvas, person: Anatomy, rng: np.random.Generator) -> np.ndarray:
    """Branching vessels that fan out from both hila and thin towards the wall."""
    wide, fine = [], []
    for side in (1, -1):
        root = np.array([side * (person.mediastinum + 0.02), person.apex + 0.68])
        for angle in np.linspace(-1.25, 1.35, 8) + 0.12 * rng.standard_normal(8):
            reach = rng.uniform(0.32, 0.48)
            way = np.array([side * np.cos(angle), 1.25 * np.sin(angle)])
            sag = np.array([0.0, 0.06 * rng.standard_normal()])
            middle, end = root + 0.5 * reach * way + sag, root + reach * way
            wide.append(arc([root, (root + middle) / 2, middle], 6))
            fine.append(arc([middle, (middle + end) / 2 - sag, end + 0.1 * way], 6))
            twig = end + 0.16 * rng.standard_normal(2) + 0.08 * way
            fine.append(arc([middle, (middle + twig) / 2, twig], 6))
    hilum = [
        arc([(s * 0.15, person.apex + 0.56), (s * 0.21, person.apex + 0.68), (s * 0.16, person.apex + 0.84)])
        for s in (1, -1)
    ]
    markings = 0.9 * canvas.stroke(wide, 0.024, 0.012) + 0.6 * canvas.stroke(fine, 0.012, 0.010)
    return person.vessels * (markings + 0.8 * canvas.stroke(hilum, 0.09, 0.03))


def bones(canvas: Canvas, person: Anatomy) -> np.ndarray:
    """Ribs, clavicles, spine and scapulae: brightness to add."""
    c, a, rib = person.chest, person.apex, person.rib_width
    back, front = [], []
    for k in range(9):
        y, reach = a - 0.02 + 0.163 * k, c * min(1.0, 0.66 + 0.12 * k)
        for s in (1, -1):
            lift, drop = 0.10 + 0.01 * k, person.rib_drop * (0.55 + 0.08 * k)
            wall = (s * 1.03 * reach, y + drop)
            back.append(arc([(s * 0.07, y), (s * 0.5 * reach, y - lift), (s * reach, y + 0.1 * drop), wall]))
            if 1 <= k <= 6:
                front.append(arc([wall, (s * 0.9 * reach, y + drop + 0.2), (s * 0.42 * reach, y + drop + 0.28)]))
    cage = canvas.stroke(back, rib, 0.006) - 0.45 * canvas.stroke(back, 0.55 * rib, 0.006)
    cage = cage + 0.45 * canvas.stroke(front, 1.15 * rib, 0.010)
    up = person.clavicle
    collar = [
        arc([(s * 0.09, a + 0.16), (s * 0.3, a + 0.17 - 0.3 * up), (s * 0.5, a + 0.10 - up), (s * 0.86, a + 0.06 - up)])
        for s in (1, -1)
    ]
    collars = canvas.stroke(collar, 0.062, 0.006) - 0.35 * canvas.stroke(collar, 0.034, 0.006)
    blade = [
        closed([(s * (c + out), a + down) for out, down in ((0.03, 0.12), (0.20, 0.10), (0.10, 0.75), (-0.02, 0.55))])
        for s in (1, -1)
    ]
    return person.bone * (cage + 1.3 * collars + 0.6 * canvas.fill(*blade, blur=0.01) + _spine(canvas, person))


def _spine(canvas: Canvas, person: Anatomy) -> np.ndarray:
    line = arc([(0.0, -0.4), (person.bend, 0.8), (-person.bend, 1.6), (0.0, 2.8)], 20)
    gaps = [np.array([[-0.07, y], [0.07, y]]) for y in np.arange(0.05, 2.4, 0.135)]
    trachea = np.array([[0.01, -0.4], [0.01, person.apex + 0.52]])
    column = 0.8 * canvas.stroke([line], 0.15, 0.012) - 0.25 * canvas.stroke(gaps, 0.018, 0.006)
    return column - 1.1 * canvas.stroke([trachea], 0.085, 0.012)


def devices(canvas: Canvas, rng: np.random.Generator, grey: np.ndarray, chance: float) -> np.ndarray:
    """Lay a central line, a pacemaker and ECG leads over the image, each with its own chance."""
    line, pace, leads = rng.random(3) < chance * np.array([0.20, 0.06, 0.30])
    j = 0.04 * rng.standard_normal((12, 2))
    if line:
        path = arc([(-0.55, 0.40) + j[0], (-0.35, 0.42) + j[1], (-0.10, 0.55), (-0.11, 1.12) + j[2]], 20)
        grey = grey + 0.22 * canvas.stroke([path], 0.014, 0.004)
    if pace:
        x, y = np.array([0.58, 0.66]) + j[3]
        can = closed([(x - 0.13, y - 0.11), (x + 0.13, y - 0.11), (x + 0.12, y + 0.12), (x - 0.12, y + 0.12)])
        wire = arc([(x, y - 0.08), (0.20, 0.30), (-0.20, 0.75), (0.16, 1.62) + j[4]], 24)
        grey = np.maximum(grey, 0.95 * canvas.fill(can, blur=0.004))  # metal: what lies behind does not add to it
        grey = grey + 0.25 * canvas.stroke([wire], 0.013, 0.003)
    if leads:
        spots = np.array([[-0.55, 0.55], [0.55, 0.52], [0.62, 1.55]]) + 2 * j[5:8]
        ends = spots + np.stack([0.2 * spots[:, 0], np.full(3, 1.2)], 1)
        wires = [arc([p, p + 6 * q, end], 16) for p, q, end in zip(spots, j[8:11], ends, strict=True)]
        grey = grey + 0.13 * canvas.stroke(wires, 0.011, 0.003)
        # a round dot is a line of no length
        grey = grey + 0.20 * canvas.stroke([np.stack([p, p + 1e-3]) for p in spots], 0.055, 0.004)
    return grey


def lateral_attenuation(
    canvas: Canvas,
    person: Anatomy,
    rng: np.random.Generator,
    severity: Mapping[str, float],
    breath: float,
    texture: float,
) -> np.ndarray:
    """Brightness of a lateral image before development, about 0..1, float32 (height, width).

    Args:
        canvas: pixels and pose.
        person: who it is.
        rng: the image's own chance, for mottle.
        severity: 0..1 of each finding; fluid lies behind the diaphragm, whatever its side.
        breath: shift of the diaphragm in body units.
        texture: strength of the mottle.
    """
    base = person.base + breath
    air = _lungs(canvas, person, base) * (1 - 0.85 * _heart(canvas, base, severity["cardiomegaly"]))
    air = air * (1 - _fluid(canvas, base, max(severity["effusion_left"], severity["effusion_right"])))
    air = air * (1 - _haze(canvas, -0.02, person.apex + 0.72, 0.40, 0.6 * severity["edema"]))
    air = air * (1 - _haze(canvas, 0.22, person.apex + 0.95, 0.24, 0.7 * severity["opacity"]))
    band = canvas.stroke([arc([(-0.25, base - 0.30), (0.1, base - 0.36), (0.4, base - 0.26)])], 0.04, 0.01)
    air = air * (1 - 0.7 * severity["atelectasis"] * band)
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
