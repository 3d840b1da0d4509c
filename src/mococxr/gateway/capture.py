"""Findings of one image -> a picture of it with the findings written under it: a DICOM secondary capture."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from mococxr.gateway.structured_report import MAKER, RESEARCH, Report, about, fixed

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

SHORTER = 1024
"""Shorter side of the picture at most, px."""
SERIES = 9172
_LINE = 26
"""Height of a line of text, px."""
_FONT, _SCALE = cv2.FONT_HERSHEY_SIMPLEX, 0.6


def secondary_capture(report: Report, image: NDArray[np.uint8]) -> Dataset:
    """The picture as an object of its own series.

    Args:
        report: what is written; no name of a patient is.
        image: (H, W) uint8, as the model was shown it.
    """
    from highdicom import UID
    from highdicom.sc import SCImage

    made = SCImage.from_ref_dataset(
        report.head,
        pixel_array=picture(report, image),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        series_instance_uid=UID(report.uid("capture series")),
        sop_instance_uid=UID(report.uid("capture")),
        series_number=SERIES,
        patient_orientation=("L", "F"),
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **about(report, f"{report.algorithm.name} (research use only)"),
    )
    made.BodyPartExamined = "CHEST"  # or Laterality would have to be there
    made.DateOfSecondaryCapture, made.TimeOfSecondaryCapture = made.SeriesDate, made.SeriesTime
    made.PatientOrientation = report.head.get(
        "PatientOrientation", ""
    )  # highdicom wants one; no more than the image says
    if burned_in := report.head.get("BurnedInAnnotation"):
        made.BurnedInAnnotation = burned_in
    return fixed(made, report.at)


def picture(report: Report, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The image, at most `SHORTER` px, above its findings in words; (H, W, 3) uint8."""
    factor = min(1.0, SHORTER / min(image.shape))
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if factor < 1 else image
    lines = [f"{MAKER}: {RESEARCH}".upper(), *(finding.in_words for finding in report.findings)]
    if report.warning:
        lines.append(f"Warning: {report.warning}")
    lines.append(f"{report.algorithm.name}, model {report.algorithm.version}, {report.at[:16].replace('T', ' ')}")
    words = [line.encode("ascii", "replace").decode() for line in lines]  # the font has no other letters
    widest = max(cv2.getTextSize(line, _FONT, _SCALE, 1)[0][0] for line in words) + 20
    width = max(small.shape[1], widest)
    left = (width - small.shape[1]) // 2
    page = np.zeros((small.shape[0] + _LINE * len(words) + 12, width, 3), np.uint8)
    page[: small.shape[0], left : left + small.shape[1]] = small[..., None]
    for number, line in enumerate(words, 1):
        corner = (10, small.shape[0] + _LINE * number - 4)
        cv2.putText(
            page, line, corner, _FONT, _SCALE, (255, 255, 0) if number == 1 else (255, 255, 255), 1, cv2.LINE_AA
        )
    return page
