"""Maps on the page of an evaluation: a picture beside each image of the gallery, and what the maps of this model passed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mococxr.features import pick_device
from mococxr.maps.checks import mirrored, randomised
from mococxr.maps.class_map import class_maps, method_of
from mococxr.maps.overlay import overlay
from mococxr.pages.pictures import picture
from mococxr.store import Store

if TYPE_CHECKING:
    from mococxr.evaluation.models import Judged
    from mococxr.settings import EvaluateSettings

CHECKED = 8
"""Images whose maps are checked."""
LEAST, MOST = 0.7, 0.5
"""Rank correlation that the maps of mirrored images must reach, and that shuffled weights may leave."""
WORDS = {
    "contributions": "Maps: parts of the logit, which sum to it; orange speaks for the finding, blue against it.",
    "rollout": "Maps: relevance for the finding by gradient rollout of attention, in orange.",
    "occlusion": "Maps: by how much the logit falls where the image is covered; orange speaks for the finding.",
}
WARNING = "A map shows what the score is made of. It does not show where the finding is."
MEASURED = (
    "Measured on real images of adults, with parts of the logit: the largest value lay in the box that a radiologist drew "
    "around pneumonia in 6 of 43 images, a point that never moves in 20 (docs/benchmarks.md)."
)


def draw_looks(
    judged: Judged, store: Store, rows: Sequence[int], settings: EvaluateSettings
) -> tuple[dict[int, str], list[str]]:
    """Row -> its picture with the map; and sentences on what the maps are and what they passed on some of these images."""
    model, target, device = judged.answers.model, judged.answers.position, pick_device(settings.device)
    ensemble, crop_mode = model.ensemble, model.record["preprocessing"]["crop_mode"]
    method = method_of(ensemble.encoders)
    images = {row: store.pixels(row) for row in rows}
    frames = [model.frames_of(image) for image in images.values()]
    values = [drawn.values for drawn in class_maps(ensemble, frames, device, method, target)]
    pictures = {
        row: picture(overlay(image, drawn, crop_mode))
        for (row, image), drawn in zip(images.items(), values, strict=True)
    }
    words = [WORDS[method], WARNING, MEASURED]
    if method != "occlusion":  # hundreds of passes an image
        some = slice(0, CHECKED)
        words += check_words(
            mirrored(ensemble, frames[some], values[some], device, target),
            randomised(ensemble, frames[some], values[some], device, target, settings.seed),
        )
    return pictures, words


def check_words(mirror: NDArray[np.float64], shuffle: NDArray[np.float64]) -> list[str]:
    """What two checks say, a sentence each.

    >>> check_words(np.array([0.9, 0.8, 0.95]), np.array([0.1, 0.7, 0.6]))[1]
    'With all weights shuffled: 0.60 (median) with the map as it was; at most 0.5 was to be left: failed.'
    """
    verdicts = {True: "passed", False: "failed"}
    kept, left = float(np.median(mirror)), float(np.median(shuffle))
    return [
        f"Of {len(mirror)} images, mirrored: rank correlation {kept:.2f} (median) with the mirrored map; at least {LEAST} "
        f"was to be reached: {verdicts[kept >= LEAST]}.",
        f"With all weights shuffled: {left:.2f} (median) with the map as it was; at most {MOST} was to be left: "
        f"{verdicts[left <= MOST]}.",
    ]
