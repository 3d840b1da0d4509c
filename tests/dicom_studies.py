"""Chest studies as an archive holds them: drawn images in DICOM files, whole and odd."""

from __future__ import annotations

from typing import Any

from dicom_images import BASELINE, CR, DX, image
from mococxr.gateway.findings import uid_of
from mococxr.synthetic.image import draw_synthetic

CT = "1.2.840.10008.5.1.4.1.1.2"
PRIVATE = "1.2.826.0.1.3680043.99"
"""As long as the UID of JPEG baseline, whose place it takes."""
NAMES = ("Müller^Jürgen", "山田^太郎", "Иванов^Иван", "محمد^علي", "Ναί^Όχι")


def chest(number: int, part: int = 0, view: str = "PA", **elements: Any) -> bytes:
    """The file of a drawn chest image: study `number`, image `part` of it."""
    drawn = draw_synthetic(5, 10 * number + part, size=96, view="lateral" if view == "LL" else "PA")
    about: dict[str, Any] = {
        "SOPClassUID": DX if number % 2 else CR, "Modality": "DX" if number % 2 else "CR",
        "SOPInstanceUID": uid_of(f"image {number} {part}"), "StudyInstanceUID": uid_of(f"study {number}"),
        "SeriesInstanceUID": uid_of(f"series {number} {part}"), "SeriesNumber": part + 1, "InstanceNumber": 1,
        "PatientID": f"P{number}", "PatientName": f"Test^{number}", "PatientBirthDate": "19500101", "PatientSex": "F",
        "StudyID": str(number), "StudyDate": "20260101", "StudyTime": "120000", "AccessionNumber": f"A{number}",
        "ReferringPhysicianName": "", "ViewPosition": view, "BodyPartExamined": "CHEST", "Manufacturer": "Maker",
        "ManufacturerModelName": "Model", "SpecificCharacterSet": "ISO_IR 192",
    }  # fmt: skip
    return image(drawn, **(about | elements))


def undecodable(number: int) -> bytes:
    """An image whose header is right and whose JPEG is none."""
    return _encapsulated(number, b"\xff\xd8 this is no JPEG \xff\xd9 ")


def private(number: int) -> bytes:
    """An image in a transfer syntax that only its maker knows."""
    return _encapsulated(number, b"only its maker knows ").replace(BASELINE.encode(), PRIVATE.encode(), 1)


def ct_slice(number: int, part: int) -> bytes:
    """A slice of a CT study."""
    return chest(number, part, SOPClassUID=CT, Modality="CT", ViewPosition=None)


def _encapsulated(number: int, frame: bytes) -> bytes:
    return chest(number, syntax=BASELINE, frame=frame + b"\0" * (len(frame) % 2))


def wrong_part(number: int, **elements: Any) -> bytes:
    """A frontal image that does not say which part of the body it shows."""
    return chest(number, BodyPartExamined=None, **elements)
