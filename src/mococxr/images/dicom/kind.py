"""Which DICOM objects are images: CR, DX and secondary captures of them; for all others the reason why not."""

from __future__ import annotations

import re

from pydicom.uid import UID_dictionary

from mococxr.images.dicom.metadata import Header

_STORAGE = "1.2.840.10008.5.1.4.1.1."
_IMAGES = {f"{_STORAGE}1", f"{_STORAGE}1.1", f"{_STORAGE}1.1.1"}
_CAPTURES = {f"{_STORAGE}{end}" for end in ("7", "7.1", "7.2", "7.3", "7.4")}
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
_CONVERSIONS = {
    "SD": "a scanned document",
    "DRW": "a drawing",
    "SYN": "a synthetic image",
    "DV": "a video still",
}


def not_an_image(header: Header) -> str | None:
    """Why an object is no image for this project, or None where it is one.

    Images are CR and DX (radiographs of other names: RG), secondary captures of them or of no stated modality,
    and images that state neither modality nor kind. What is burned into the pixels is no reason here
    (`Header.burned_in` says so).
    """
    kind = header.sop_class
    if not header.pixels:
        return (
            f"no pixel data ({_name(kind)})" if kind and kind not in _IMAGES | _CAPTURES else "no pixel data"
        )
    types = set(header.image_type)
    if types & _LOCALIZERS:
        return "a localizer"
    if types & _SCREENS:
        return "a screenshot"
    if types & _DERIVED:
        return "a report as a picture"
    if kind in _IMAGES or kind is None:
        allowed = _IMAGE_MODALITIES if kind is None else _CAPTURE_MODALITIES
        if header.modality and header.modality not in allowed:
            return f"another modality: {_short(header.modality)}"
        return None
    if kind not in _CAPTURES:
        return f"not a radiograph: {_name(kind)}"
    if header.modality and header.modality not in _CAPTURE_MODALITIES:
        return f"a secondary capture of another modality: {_short(header.modality)}"
    return _CONVERSIONS.get(header.conversion or "")


def _name(kind: str) -> str:
    """The standard's name of a kind of object."""
    entry = UID_dictionary.get(kind)
    return entry[0].removesuffix(" Storage") if entry else "a private or unknown kind of object"


def _short(modality: str) -> str:
    """A modality as it may stand in a list: a code of the standard; anything else may be a name."""
    return modality if modality in _MODALITIES else "unknown"
