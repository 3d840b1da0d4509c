"""What a DICOM header says about an image: who, when, how, with what. No pixel is decoded.

Only these facts leave the header; names, free text and private elements are never read. Patient, study, series
and instance identify a person: whoever stores them replaces them first.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from typing import Any

from pydicom.uid import UID_dictionary

from mococxr.errors import ImageError
from mococxr.images.dicom.body_part import other_part
from mococxr.images.dicom.elements import DicomFile, Elements, read_file

_TEXTS = {
    "patient": "PatientID",
    "study": "StudyInstanceUID",
    "sop": "SOPInstanceUID",
    "accession": "AccessionNumber",
    "time": "AcquisitionTime",
    "sop_class": "SOPClassUID",
    "manufacturer": "Manufacturer",
    "model": "ManufacturerModelName",
}
KEYWORDS = [
    *_TEXTS.values(),
    "Modality", "ConversionType", "Rows", "Columns", "InstanceNumber", "ImageType", "BurnedInAnnotation", "StudyDate",
    "AcquisitionDate", "ContentDate", "PatientBirthDate", "PatientSex", "PatientAge", "ViewPosition", "SeriesDescription",
    "ViewCodeSequence", "PatientOrientation", "Laterality", "ImageLaterality", "PresentationIntentType",
    "BodyPartExamined", "AnatomicRegionSequence",
]  # fmt: skip

_VIEWS = {"PA": "PA", "AP": "AP", "FRONTAL": "Frontal", "LL": "Lateral", "RL": "Lateral", "LAT": "Lateral"}
_VIEWS |= {"LATERAL": "Lateral", "LARGE LATERAL": "Lateral", "LLAT": "Lateral", "RLAT": "Lateral"}
_VIEWS |= {"LLD": "Decubitus", "RLD": "Decubitus", "RLO": "Oblique", "LLO": "Oblique"}
_VIEWS |= {"RAO": "Oblique", "LAO": "Oblique", "RPO": "Oblique", "LPO": "Oblique"}
# SNOMED CT; with R- the SNOMED RT codes of older files.
_CODES = {"399348003": "AP", "R-10206": "AP", "272479007": "PA", "R-10214": "PA", "R-40888": "PA"}
_CODES |= {"399033003": "Frontal", "R-10202": "Frontal", "399067008": "Lateral"}
_CODES |= {"399173006": "Lateral", "R-10236": "Lateral", "399198007": "Lateral", "R-10232": "Lateral"}
_WORDS = {
    "PA": re.compile(r"\bp\.?a\.?(?![a-z])", re.I),
    "AP": re.compile(r"\ba\.?p\.?(?![a-z])", re.I),
    "Lateral": re.compile(r"\b(lat|lateral|ll|seitlich|profil)\b", re.I),
}


@dataclass(frozen=True)
class Metadata:
    """The facts of one image; None where the file does not say.

    Args:
        patient: patient ID. study, sop: unique identifiers of study and instance.
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
        other_part: where the header names another part of the body than the chest, that (`body_part.other_part`).
        for_processing: PresentationIntentType says FOR PROCESSING.
        rows, columns: of the image.
        pixels: whether pixel data follow the header.
    """

    patient: str | None
    study: str | None
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
    other_part: str | None
    for_processing: bool
    rows: int | None
    columns: int | None
    pixels: bool


def header(data: bytes) -> Metadata:
    """Read the facts of an image from the bytes of its file (its pixels are neither decoded nor copied).

    Raises:
        ImageError: not a DICOM file, or one whose header cannot be read.
    """
    facts = metadata_of(read_file(data, KEYWORDS))
    if facts.modality is None and facts.sop_class is None and facts.rows is None and not facts.pixels:
        raise ImageError("not a DICOM file, or one without a header")
    return facts


def metadata_of(file: DicomFile) -> Metadata:
    """The facts, from a file read with at least `KEYWORDS`."""
    elements = file.elements
    texts: dict[str, Any] = {name: elements.text(keyword) for name, keyword in _TEXTS.items()}
    studied = _date(elements, "StudyDate")
    side = elements.code("ImageLaterality") or elements.code("Laterality")  # of the image, else of the series
    return Metadata(
        **texts,
        modality=elements.code("Modality") or None,
        conversion=elements.code("ConversionType") or None,
        rows=elements.integer("Rows"),
        columns=elements.integer("Columns"),
        instance=elements.integer("InstanceNumber", "IS"),
        view=_view(elements),
        laterality=side if side in ("L", "R", "B", "U") else None,
        acquired=_date(elements, "AcquisitionDate") or _date(elements, "ContentDate") or studied,
        study_date=studied,
        sex={"M": "M", "F": "F"}.get(elements.code("PatientSex")),
        age=_age(elements, studied),
        image_type=tuple(part.upper() for part in elements.texts("ImageType")),
        burned_in={"YES": True, "NO": False}.get(elements.code("BurnedInAnnotation")),
        other_part=other_part(elements),
        for_processing=elements.code("PresentationIntentType") == "FOR PROCESSING",
        pixels=file.pixels is not None,
    )


def _date(elements: Elements, keyword: str) -> datetime.date | None:
    """A date of the form 20260131 (or 2026.01.31, as before 1993), or None."""
    digits = (elements.text(keyword) or "").replace(".", "")[:8]
    try:
        return datetime.datetime.strptime(digits, "%Y%m%d").date()
    except ValueError:
        return None


def _age(elements: Elements, studied: datetime.date | None) -> float | None:
    """Years: PatientAge (`045Y`, `006M`, `012W`, `003D`), else from birth to study."""
    stated = re.fullmatch(r"0*(\d{1,3})([YMWD])", elements.code("PatientAge"))
    if stated:
        return int(stated[1]) / {"Y": 1, "M": 12, "W": 365.25 / 7, "D": 365.25}[stated[2]]  # VR AS, PS3.5 6.2
    born = _date(elements, "PatientBirthDate")
    if born is None or studied is None or born > studied:
        return None
    # Whole years: one less where the birthday is still to come.
    return (studied.year - born.year) - ((studied.month, studied.day) < (born.month, born.day))


def _view(elements: Elements) -> str | None:
    """The view where it is sure: stated, coded, described by exactly one word, or by the image's directions."""
    stated = _VIEWS.get(elements.code("ViewPosition"))
    if stated:
        return stated
    coded = {_CODES.get(item.text("CodeValue") or "") for item in elements.items("ViewCodeSequence")} - {None}
    if len(coded) == 1:  # two codes that disagree say nothing
        return coded.pop()
    words = elements.text("SeriesDescription") or ""
    described = [view for view, pattern in _WORDS.items() if pattern.search(words)]
    if len(described) == 1:  # "PA and lateral" names the study, not this image
        return described[0]
    across = elements.texts("PatientOrientation")[:1]  # rows point there (PS3.3 C.7.6.1.1.1): left or right is frontal
    return {"L": "Frontal", "R": "Frontal", "A": "Lateral", "P": "Lateral"}.get(across[0]) if across else None


# --- which objects are chest images: CR, DX and secondary captures of them

_STORAGE = "1.2.840.10008.5.1.4.1.1."
RADIOGRAPHS = {f"{_STORAGE}1", f"{_STORAGE}1.1", f"{_STORAGE}1.1.1"}  # CR, DX for presentation, DX for processing
# Secondary captures: of one frame; of several with 1, 8, 16 bits and in colour.
CAPTURES = {f"{_STORAGE}{end}" for end in ("7", "7.1", "7.2", "7.3", "7.4")}
_IMAGE_MODALITIES = {"CR", "DX", "RG"}
_CAPTURE_MODALITIES = {*_IMAGE_MODALITIES, "OT", "SC"}
_LOCALIZERS = {"LOCALIZER", "SCOUT"}
_SCREENS = {"SCREEN SAVE", "SCREENSAVE", "SCREENSHOT", "SCREEN CAPTURE"}
_DERIVED = {"REPORT", "DOSE REPORT", "DOSE_INFO", "PRESENTATION"}
_MODALITIES = frozenset(
    re.findall(
        r"\S+",
        "AR ASMT AU BDUS BI BMD CD CR CT CTPROTOCOL DD DG DMS DOC DS DX EC ECG EEG EMG EOG EPS ES FA FID GM HC HD IO "
        "IOL IVOCT IVUS KER KO LEN LP LS M3D MA MG MR MS NM OAM OCT OP OPM OPR OPT OPTBSV OPTENF OPV OSS OT PA PLAN "
        "POS PR PT PX REG RESP RF RG RTDOSE RTIMAGE RTINTENT RTPLAN RTRAD RTRECORD RTSEGANN RTSTRUCT RWV SC SEG SM "
        "SMR SR SRF ST STAIN TEXTUREMAP TG US VA VF XA XAPROTOCOL XC",
    )
)
"""The defined terms of PS3.3 C.7.3.1.1.1, and retired ones that archives still hold."""
OTHER_PART = "another part of the body"
"""How the reason begins for which an image of another part is left out."""
_CONVERSIONS = {"SD": "a scanned document", "DRW": "a drawing", "SYN": "a synthetic image", "DV": "a video still"}


def rejection_reason(facts: Metadata, any_body_part: bool = False) -> str | None:
    """Why an object is no image for this project, or None where it is one.

    Images are CR and DX (radiographs of other names: RG), secondary captures of them or of no stated modality,
    and images that state neither modality nor kind; of the chest, or of any part of the body where that is asked for.
    What is burned into the pixels is no reason here (`Metadata.burned_in` says so).
    """
    reason = _kind_reason(facts)
    if reason is None and not any_body_part and facts.other_part:
        return f"{OTHER_PART}: {facts.other_part}"
    return reason


def _kind_reason(facts: Metadata) -> str | None:
    """Why an object is of no kind that is read."""
    kind = facts.sop_class
    if not facts.pixels:
        return f"no pixel data ({_name(kind)})" if kind and kind not in RADIOGRAPHS | CAPTURES else "no pixel data"
    types = set(facts.image_type)
    if types & _LOCALIZERS:
        return "a localizer"
    if types & _SCREENS:
        return "a screenshot"
    if types & _DERIVED:
        return "a report as a picture"
    if kind in RADIOGRAPHS or kind is None:
        allowed = _IMAGE_MODALITIES if kind is None else _CAPTURE_MODALITIES
        if facts.modality and facts.modality not in allowed:
            return f"another modality: {_short(facts.modality)}"
        return None
    if kind not in CAPTURES:
        return f"not a radiograph: {_name(kind)}"
    if facts.modality and facts.modality not in _CAPTURE_MODALITIES:
        return f"a secondary capture of another modality: {_short(facts.modality)}"
    return _CONVERSIONS.get(facts.conversion or "")


def _name(kind: str) -> str:
    """The standard's name of a kind of object."""
    entry = UID_dictionary.get(kind)
    return entry[0].removesuffix(" Storage") if entry else "a private or unknown kind of object"


def _short(modality: str) -> str:
    """A modality as it may stand in a list: a code of the standard; anything else may be a name."""
    return modality if modality in _MODALITIES else "unknown"
