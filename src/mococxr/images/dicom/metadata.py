"""What a DICOM header says about an image: who, when, how, with what. No pixel is decoded.

Only these facts leave the header; names, free text and private elements are never read. Patient, study, series
and instance identify a person: whoever stores them replaces them first.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from pydicom.dataset import Dataset

from mococxr.errors import ImageError
from mococxr.images.dicom.elements import Elements, integer, items, read_elements, text, texts

_TEXTS = {
    "patient": 0x00100020,
    "study": 0x0020000D,
    "series": 0x0020000E,
    "sop": 0x00080018,
    "accession": 0x00080050,
    "time": 0x00080032,
    "sop_class": 0x00080016,
    "modality": 0x00080060,
    "manufacturer": 0x00080070,
    "model": 0x00081090,
    "photometric": 0x00280004,
    "conversion": 0x00080064,
}
_NUMBERS = {"rows": 0x00280010, "columns": 0x00280011, "bits": 0x00280101, "samples": 0x00280002}
_INSTANCE = 0x00200013
_FRAMES, _IMAGE_TYPE, _BURNED_IN = 0x00280008, 0x00080008, 0x00280301
_STUDY_DATE, _ACQUISITION_DATE, _CONTENT_DATE, _BIRTH_DATE = 0x00080020, 0x00080022, 0x00080023, 0x00100030
_SEX, _AGE = 0x00100040, 0x00101010
_VIEW, _DESCRIPTION, _VIEW_CODES, _ORIENTATION = 0x00185101, 0x0008103E, 0x00540220, 0x00200020
_LATERALITY, _IMAGE_LATERALITY = 0x00200060, 0x00200062
_CODE = 0x00080100
TAGS = [
    *_TEXTS.values(),
    *_NUMBERS.values(),
    _FRAMES,
    _IMAGE_TYPE,
    _BURNED_IN,
    _STUDY_DATE,
    _ACQUISITION_DATE,
]
TAGS += [_CONTENT_DATE, _BIRTH_DATE, _SEX, _AGE, _VIEW, _DESCRIPTION, _VIEW_CODES, _ORIENTATION]
TAGS += [_LATERALITY, _IMAGE_LATERALITY, _INSTANCE]

_VIEWS = {"PA": "PA", "AP": "AP", "FRONTAL": "Frontal", "LL": "Lateral", "RL": "Lateral", "LAT": "Lateral"}
_VIEWS |= {"LATERAL": "Lateral", "LARGE LATERAL": "Lateral", "LLAT": "Lateral", "RLAT": "Lateral"}
_VIEWS |= {"LLD": "Decubitus", "RLD": "Decubitus", "RLO": "Oblique", "LLO": "Oblique"}
_VIEWS |= {"RAO": "Oblique", "LAO": "Oblique", "RPO": "Oblique", "LPO": "Oblique"}
_CODES = {"399348003": "AP", "R-10206": "AP", "272479007": "PA", "R-10214": "PA", "R-40888": "PA"}
_CODES |= {"399033003": "Frontal", "R-10202": "Frontal", "399067008": "Lateral"}
_CODES |= {"399173006": "Lateral", "R-10236": "Lateral", "399198007": "Lateral", "R-10232": "Lateral"}
_WORDS = {
    "PA": re.compile(r"\bp\.?a\.?(?![a-z])", re.I),
    "AP": re.compile(r"\ba\.?p\.?(?![a-z])", re.I),
    "Lateral": re.compile(r"\b(lat|lateral|ll|seitlich|profil)\b", re.I),
}


@dataclass(frozen=True)
class Header:
    """The facts of one image; None where the file does not say.

    Args:
        patient: patient ID. study, series, sop: unique identifiers of study, series and instance.
        accession: the number of the request, by which reports are found.
        view: `PA`, `AP`, `Frontal` (one of the two), `Lateral`, `Oblique`, `Decubitus`.
        laterality: `L`, `R`, `B` or `U`.
        acquired: the day the image was taken, else the day of its content. study_date: the day of the study.
        time, instance: when on that day, as stored, and the number in the series: the order of images.
        manufacturer, model: the device.
        sex: `M` or `F`. age: years at the study.
        modality: as stored, upper case. sop_class: unique identifier of the kind of object.
        image_type: the parts of ImageType, upper case. conversion: ConversionType of a secondary capture.
        burned_in: BurnedInAnnotation: True for YES, False for NO.
        rows, columns, bits (stored), samples (a pixel), frames: of the image.
        photometric: PhotometricInterpretation, upper case.
        syntax: unique identifier of the transfer syntax.
        pixels: whether pixel data follow the header.
    """

    patient: str | None
    study: str | None
    series: str | None
    sop: str | None
    accession: str | None
    view: str | None
    laterality: str | None
    acquired: datetime.date | None
    study_date: datetime.date | None
    time: str | None
    instance: int | None
    manufacturer: str | None
    model: str | None
    sex: str | None
    age: float | None
    modality: str | None
    sop_class: str | None
    image_type: tuple[str, ...]
    conversion: str | None
    burned_in: bool | None
    rows: int | None
    columns: int | None
    bits: int | None
    samples: int | None
    frames: int
    photometric: str | None
    syntax: str | None
    pixels: bool


def header(data: bytes) -> Header:
    """Read the facts of an image from the bytes of its file (its pixels are neither decoded nor copied).

    Raises:
        ImageError: not a DICOM file, or one whose header cannot be read.
    """
    found = header_of(read_elements(data, TAGS))
    if found.modality is None and found.sop_class is None and found.rows is None and not found.pixels:
        raise ImageError("not a DICOM file, or one without a header")
    return found


def header_of(elements: Elements) -> Header:
    """The facts, from elements that hold at least `TAGS`."""
    data = elements.data
    facts: dict[str, Any] = {name: text(data, tag) for name, tag in _TEXTS.items()}
    facts |= {name: integer(data, tag) for name, tag in _NUMBERS.items()}
    facts["instance"] = integer(data, _INSTANCE, "IS")
    for name in ("modality", "photometric", "conversion"):
        facts[name] = facts[name].upper() if facts[name] else None
    studied = _date(data, _STUDY_DATE)
    side = (text(data, _IMAGE_LATERALITY) or text(data, _LATERALITY) or "").upper()
    frames = text(data, _FRAMES)
    return Header(
        **facts,
        view=_view(data),
        laterality=side if side in ("L", "R", "B", "U") else None,
        acquired=_date(data, _ACQUISITION_DATE) or _date(data, _CONTENT_DATE) or studied,
        study_date=studied,
        sex={"M": "M", "F": "F"}.get((text(data, _SEX) or "").upper()),
        age=_age(data, studied),
        image_type=tuple(part.upper() for part in texts(data, _IMAGE_TYPE)),
        burned_in={"YES": True, "NO": False}.get((text(data, _BURNED_IN) or "").upper()),
        frames=int(frames) if frames and frames.isdecimal() and 1 <= len(frames) <= 9 else 1,
        syntax=elements.syntax,
        pixels=elements.pixels is not None,
    )


def _date(data: Dataset, tag: int) -> datetime.date | None:
    """A date of the form 20260131 (or 2026.01.31, as before 1993), or None."""
    digits = (text(data, tag) or "").replace(".", "")[:8]
    try:
        return datetime.datetime.strptime(digits, "%Y%m%d").date()
    except ValueError:
        return None


def _age(data: Dataset, studied: datetime.date | None) -> float | None:
    """Years: PatientAge (`045Y`, `006M`, `012W`, `003D`), else from birth to study."""
    stated = re.fullmatch(r"0*(\d{1,3})([YMWD])", (text(data, _AGE) or "").upper())
    if stated:
        return int(stated[1]) / {"Y": 1, "M": 12, "W": 365.25 / 7, "D": 365.25}[stated[2]]
    born = _date(data, _BIRTH_DATE)
    if born is None or studied is None or born > studied:
        return None
    return (studied.year - born.year) - ((studied.month, studied.day) < (born.month, born.day))


def _view(data: Dataset) -> str | None:
    """The view where it is sure: stated, coded, described by exactly one word, or by the image's directions."""
    stated = _VIEWS.get((text(data, _VIEW) or "").upper())
    if stated:
        return stated
    coded = {_CODES.get(text(item, _CODE) or "") for item in items(data, _VIEW_CODES)} - {None}
    if len(coded) == 1:
        return coded.pop()
    words = text(data, _DESCRIPTION) or ""
    described = [view for view, pattern in _WORDS.items() if pattern.search(words)]
    if len(described) == 1:
        return described[0]
    across = texts(data, _ORIENTATION)[:1]
    return {"L": "Frontal", "R": "Frontal", "A": "Lateral", "P": "Lateral"}.get(across[0]) if across else None
