"""Is this surely a frontal chest X-ray? By its header; whoever is in doubt gets a reason and no report."""

from __future__ import annotations

from pydicom.dataset import Dataset

from mococxr.images.dicom import Metadata, rejection_reason
from mococxr.images.dicom.body_part import says_chest
from mococxr.images.dicom.metadata import CAPTURES

FRONT = "Frontal"
FRONTAL = ("PA", "AP", FRONT)
VIEW_UNKNOWN = "the view is not stated"
"""The reason that the look of an image may take away (`Answer.view`)."""
RADIOGRAPHS = ("CR", "DX", "RG", "OT", "SC", "")
"""Modalities of images that are fetched; others, as CT, are passed by."""
_PLACES = (
    "BodyPartExamined",
    "ProtocolName",
    "SeriesDescription",
    "StudyDescription",
    "PerformedProcedureStepDescription",
)


def reason_against(facts: Metadata, head: Dataset, any_body_part: bool = False) -> str | None:
    """Why an image gets no report, or None where its header says that it is a frontal chest X-ray.

    Args:
        facts: of its header.
        head: its header, whose descriptions may name the chest where BodyPartExamined does not.
        any_body_part: the model was trained on other parts of the body, too.
    """
    if reason := rejection_reason(facts, any_body_part):
        return reason
    if facts.sop_class in CAPTURES:
        return "a secondary capture: not surely an image as it was taken"
    if facts.for_processing:
        return "raw values of the detector (FOR PROCESSING)"
    if facts.view is None:
        return VIEW_UNKNOWN
    if facts.view not in FRONTAL:
        return f"view: {facts.view}"
    if not any_body_part and not _names_chest(head):
        return "the part of the body is not stated"
    return None


def _names_chest(head: Dataset) -> bool:
    regions = head.get("AnatomicRegionSequence") or []
    texts = [head.get(keyword) for keyword in _PLACES] + [item.get("CodeMeaning") for item in regions]
    return any(says_chest(str(text)) for text in texts if text)
