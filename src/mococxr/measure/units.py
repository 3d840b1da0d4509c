"""Images of one study or patient judged as one unit, and whether the number of images tells of the finding.

Letters: N images, G units, T trials.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray
from scipy.special import stdtr


def join_units(
    images: pl.DataFrame, scores: NDArray[np.float64], unit: str, how: str
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray]:
    """Labels (G,), scores (G,) or (T, G) and patients (G,) of the units.

    Args:
        images: `patient, study, label`, one row an image; a study counts within its patient only.
        scores: (N,) or (T, N).
        unit: `image`, `study` or `patient`.
        how: `max` (the paper's, over the views of a study) or `mean` over the images of a unit; a unit is positive where
            any image is.
    """
    labels, patients = images["label"].to_numpy().astype(np.int64), images["patient"].to_numpy()
    if unit == "image":
        return labels, scores, patients
    _, first, group = np.unique(unit_numbers(images, unit), return_index=True, return_inverse=True)
    order = np.argsort(group, kind="stable")  # the images of a unit side by side, for reduceat
    counts = np.bincount(group)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    if how == "max":
        joined = np.maximum.reduceat(scores[..., order], starts, axis=-1)
    else:
        joined = np.add.reduceat(scores[..., order], starts, axis=-1) / counts
    # All images of a unit have one patient, that of the first.
    return np.maximum.reduceat(labels[order], starts), joined, patients[first]


def unit_values(images: pl.DataFrame, values: pl.Series, unit: str) -> pl.Series:
    """The value of each unit, in the order of `join_units`: null where its images have several, or none is known."""
    if unit == "image":
        return values
    table = pl.DataFrame({"unit": unit_numbers(images, unit), "value": values})
    known = pl.col("value").drop_nulls()
    single = pl.when(known.n_unique() == 1).then(known.first())  # views of one patient may differ in device or view
    return table.group_by("unit").agg(single.alias("value")).sort("unit")["value"]


def unit_numbers(images: pl.DataFrame, unit: str) -> NDArray[np.int64]:
    """The unit of each image, numbered from 1: images in their order, others in that of patient and study."""
    if unit == "image":
        return np.arange(1, images.height + 1)
    # A study's number may occur under several patients.
    names = ["patient"] if unit == "patient" else ["patient", "study"]
    return images.select(pl.struct(names).rank("dense")).to_series().to_numpy().astype(np.int64)


DIFFERENT = 1.1
"""Ratio of the mean numbers of images from which on they are worth a remark."""


def images_by_class(labels: NDArray, patients: NDArray) -> tuple[float, float] | None:
    """Mean number of images of the patients with a positive image and of the others; None unless these differ.

    They differ where Welch's t test at 5 % says so and one is a tenth larger: then a number over images weighs the classes'
    patients otherwise than one over patients does.

    Args:
        labels: 1 or 0, of the images, (N,).
        patients: patient of each image, numbered from 0, (N,).
    """
    images_U = np.bincount(patients)
    sick_U = np.bincount(patients, weights=labels == 1) > 0
    # A number that no image has is no patient.
    groups = images_U[sick_U & (images_U > 0)], images_U[~sick_U & (images_U > 0)]
    if min(group.size for group in groups) < 2:  # no variance of the mean
        return None
    means, errors = [float(g.mean()) for g in groups], [float(g.var(ddof=1)) / g.size for g in groups]
    if max(means) < DIFFERENT * min(means):
        return None
    if sum(errors) > 0:  # else no class has any spread: there is nothing to test
        df = sum(errors) ** 2 / sum(error**2 / (g.size - 1) for error, g in zip(errors, groups, strict=True))
        if 2 * stdtr(df, -abs(means[0] - means[1]) / np.sqrt(sum(errors))) >= 0.05:
            return None
    return means[0], means[1]
