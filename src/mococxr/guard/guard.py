"""The guard of a classifier: what its training images look like, and warnings of images that do not look so.

It is learned without labels. Each detector gives a number, larger for a stranger image; training images are judged by what
images of other patients taught, and the limits are set so that all warnings together meet `SHARE` of them.

N  images    D  length of a feature
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from mococxr.guard import pose
from mococxr.guard.distance import KEPT, Reference
from mococxr.guard.shape import part_of, sideways, windows_of
from mococxr.guard.text import LONG_LINE, MUCH_TEXT, text_strokes
from mococxr.near_duplicates import candidate_pairs, fingerprints, mirrored

UNLIKE = "not like the training images"
INVERTED, TURNED, LATERAL, CROPPED = "inverted", "turned", "lateral", "cropped"
SMALL, BLANK, LETTERED, COPY = "too small", "blank", "lettered", "copy of a training image"
WARNINGS = (UNLIKE, INVERTED, TURNED, LATERAL, CROPPED, SMALL, BLANK, LETTERED, COPY)
"""Every warning, in the order in which those of an image are written."""
REFUSED = (UNLIKE, INVERTED, TURNED, LATERAL, CROPPED, SMALL, BLANK)
"""Those under which a score means nothing. Letters may stand on any image, and a copy's score is right, but no test."""
FRONT, SIDE = "Frontal", "Lateral"
"""Views, as a store has them."""

SHARE = 0.02
"""Training images that are warned of, at most."""
EXAMINED = 2000
"""Training images that the detectors learn from, at most."""
OFTEN = 0.05
"""Share of side views among training images from which they are no reason for a warning."""
COPIED = 16
"""Bits of 256 by which the fingerprint of a copy may differ; 99 % of the worst kind do not differ by more, and two real
images that are no copies by 46 at least."""

DETECTORS = ("distance", "chest", "lateral", "cropped", "lettered")
"""Those with limits that are learned: features, share that is no chest, side view, part of a chest, letters."""
_LEAST = {"lettered": 0.999}  # letters as of a name, as `inspect` counts them, are told of at the earliest

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Glance:
    """What is kept of an image's pixels.

    Args:
        evened: (24, 24), see `pose`; None of an image without a picture.
        letters: strokes of letters in units of what may be a name, 1 and more; NaN where the image is too small to say.
        prints: fingerprints of the image and of its mirror image, (2, 32).
        shorter: its shorter side as it was read, px; None where nobody knows.
    """

    evened: pose.Floats | None
    letters: float
    prints: Bytes
    shorter: int | None = None


def glance(image: Bytes, shorter: int | None = None) -> Glance:
    """Look at an image (H, W) uint8, its shorter side as that of the training images in their store."""
    small = pose.shrink(image)
    blank = small.std() < pose.FLAT
    strokes = text_strokes(image)
    letters = float("nan") if strokes is None else max(strokes[0] / LONG_LINE, strokes[1] / MUCH_TEXT)
    prints = fingerprints([image])
    prints = np.concatenate([prints, mirrored(prints)])
    return Glance(None if blank else pose.equalise(small), letters, prints, shorter)


@dataclass(frozen=True)
class Guard:
    """What was learned of the training images of a classifier.

    Args:
        model: how they lie and what a chest looks like.
        reference: their features.
        prints: fingerprints of training images, (M, 32).
        limits: of each of `DETECTORS`, above which it warns; None where it was never judged.
        smallest: shorter side under which an image is too small, px.
        laterals: whether side views are among them.
    """

    model: pose.Model
    reference: Reference
    prints: Bytes
    limits: Mapping[str, float | None]
    smallest: int
    laterals: bool

    def judge(
        self, glances: Sequence[Glance], features: npt.NDArray[np.floating]
    ) -> list[tuple[str | None, tuple[str, ...]]]:
        """View and warnings of each image.

        Args:
            glances: N.
            features: (N, D), as the classifier's first checkpoint reads the images.

        Returns:
            `FRONT`, `SIDE`, or None where it cannot be said; and some of `WARNINGS`, in their order.
        """
        if not glances:
            return []
        distances = self.reference.distances(features)
        prints = np.concatenate([each.prints for each in glances])
        copies = set((candidate_pairs(prints, self.prints, COPIED)[:, 0] // 2).tolist())
        return [self._judge(each, float(distances[i]), i in copies) for i, each in enumerate(glances)]

    def _judge(self, image: Glance, distance: float, copy: bool) -> tuple[str | None, tuple[str, ...]]:
        if image.evened is None:
            return None, (BLANK,)
        quarters, inverted = pose.verdict(self.model.fits(image.evened))
        scores = {"distance": distance, "lettered": image.letters, **self._shape(image.evened)}
        above = {name for name in DETECTORS if _above(scores[name], self.limits[name])}
        lies_otherwise = quarters > 0 or inverted
        side = "lateral" in above and not lies_otherwise
        usual = side and self.laterals  # a side view among side views: the mean chest says nothing of it
        strange = "distance" in above or ("chest" in above and not usual)
        words = {
            UNLIKE: strange,
            INVERTED: inverted and not usual,
            TURNED: quarters > 0,
            LATERAL: side and not usual,
            CROPPED: "cropped" in above and not lies_otherwise and not side,
            SMALL: image.shorter is not None and image.shorter < self.smallest,
            LETTERED: "lettered" in above,
            COPY: copy,
        }
        view = SIDE if side else None if strange and not lies_otherwise else FRONT
        return view, tuple(word for word in WARNINGS if words.get(word))

    def _shape(self, evened: pose.Floats) -> dict[str, float]:
        return shape_scores(self.model, evened, self._windows)

    @cached_property
    def _windows(self) -> pose.Floats | None:
        chest = self.model.chest()
        return None if chest is None else windows_of(chest)


def _above(score: float, limit: float | None) -> bool:
    return limit is not None and score > limit  # NaN is not


def shape_scores(
    model: pose.Model, evened: pose.Floats, windows: pose.Floats | None, row: int | None = None
) -> dict[str, float]:
    """`chest`, `lateral` and `cropped` of an evened image; NaN where the store was too small to learn from."""
    chest = model.chest(row)
    if chest is None or windows is None:
        return dict.fromkeys(("chest", "lateral", "cropped"), float("nan"))
    return {
        "chest": 1 - model.explained(evened, row),
        "lateral": sideways(evened, chest),
        "cropped": part_of(evened, windows, chest),
    }


def learn(
    glances: Sequence[Glance], features: npt.NDArray[np.floating], patients: npt.NDArray[np.int64],
    lateral: npt.NDArray[np.bool_], prints: Bytes, smallest: int,
) -> tuple[Guard, float]:  # fmt: skip
    """Learn from training images, in a random order.

    Args:
        glances: N, at least `pose.ENOUGH` of them with a picture that is no side view.
        features: (N, D).
        patients: a number for each, (N,).
        lateral: those known to be side views, (N,).
        prints: fingerprints of all training images that copies are looked for among, (M, 32).
        smallest: see `Guard`.

    Returns:
        The guard, and the share of these images that it warns of.
    """
    frontal = [i for i, each in enumerate(glances) if each.evened is not None and not lateral[i]]
    model = pose.learn([_evened(glances[i]) for i in frontal], patients[frontal].tolist(), frontal=True)
    assert model is not None  # of frontal images there is one always
    reference = Reference.of(features)
    scores = _scores(glances, frontal, model, patients)
    kept = min(KEPT, len(glances))
    scores[:, 0] = reference.distances(features, patients[:, None] == patients[None, :kept])
    fixed = np.array([_lies_otherwise(model, glances[i], int(patients[i])) for i in range(len(glances))])
    limits = limits_of(scores, [_LEAST.get(name, -np.inf) for name in DETECTORS], fixed)
    warned = fixed | (scores > limits).any(axis=1)
    kept_limits = {
        name: float(limit) if np.isfinite(limit) else None for name, limit in zip(DETECTORS, limits, strict=True)
    }
    laterals = bool(lateral.mean() >= OFTEN)
    return Guard(model, reference, prints, kept_limits, smallest, laterals), float(warned.mean())


def _evened(image: Glance) -> pose.Floats:
    assert image.evened is not None
    return image.evened


def _lies_otherwise(model: pose.Model, image: Glance, patient: int) -> bool:
    """Whether an image is blank, turned or inverted: what has a limit of its own."""
    return image.evened is None or pose.verdict(model.fits(image.evened, patient)) != (0, False)


def _scores(
    glances: Sequence[Glance], frontal: Iterable[int], model: pose.Model, patients: npt.NDArray[np.int64]
) -> Floats:
    """What the detectors of pixels say of each image, (N, 5); NaN where they do not judge, and of distances."""
    scores = np.full((len(glances), len(DETECTORS)), np.nan)
    scores[:, DETECTORS.index("lettered")] = [each.letters for each in glances]
    windows: dict[int, Any] = {}
    for i in frontal:
        patient = int(patients[i])
        chest, half = model.chest(patient), int(pose.half_of(patient))
        if half not in windows:
            windows[half] = None if chest is None else windows_of(chest)
        for name, score in shape_scores(model, _evened(glances[i]), windows[half], patient).items():
            scores[i, DETECTORS.index(name)] = score
    return scores


def limits_of(scores: Floats, least: Sequence[float], fixed: npt.NDArray[np.bool_], share: float = SHARE) -> Floats:
    """A limit a detector: each lies above equally many images, as many as all together may warn of.

    Args:
        scores: (N, detectors), larger for stranger images; NaN where not judged.
        least: the lowest limit of each detector.
        fixed: images that are warned of whatever the limits, (N,).
        share: of the images that may be warned of in all.

    Returns:
        (detectors,); infinite for a detector that judged none.
    """
    judged = np.where(np.isnan(scores), -np.inf, scores)
    ordered = -np.sort(-judged, axis=0)

    def limits(many: int) -> Floats:
        at = np.maximum(ordered[many], least)
        return np.where(np.isfinite(ordered[0]), at, np.inf)

    for many in range(int(share * len(scores)), 0, -1):
        if (fixed | (judged > limits(many)).any(axis=1)).mean() <= share:
            return limits(many)
    return limits(0)


# --- what lies on disk


def arrays_of(guard: Guard) -> dict[str, npt.NDArray[Any]]:
    """The numbers of a guard, by name."""
    parts = {
        "templates": guard.model.templates, "means": guard.model.means, "directions": guard.model.directions,
        "feature_mean": guard.reference.mean, "feature_scale": guard.reference.scale, "features": guard.reference.kept,
        "prints": guard.prints,
    }  # fmt: skip
    return {name: np.ascontiguousarray(part) for name, part in parts.items() if part is not None}


def facts_of(guard: Guard) -> dict[str, Any]:
    """The rest of a guard, for `model.json`."""
    return {"limits": dict(guard.limits), "smallest": guard.smallest, "laterals": guard.laterals}


def guard_of(arrays: Mapping[str, npt.NDArray[Any]], facts: Mapping[str, Any]) -> Guard:
    """A guard of `arrays_of` and `facts_of`."""
    model = pose.Model(arrays["templates"], arrays.get("means"), arrays.get("directions"))
    reference = Reference(arrays["feature_mean"], arrays["feature_scale"], arrays["features"])
    return Guard(model, reference, arrays["prints"], facts["limits"], facts["smallest"], facts["laterals"])
