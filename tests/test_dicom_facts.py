"""What a DICOM header says, which objects are images, and that nothing else leaves."""

from __future__ import annotations

import ast
import dataclasses
import datetime
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pydicom
import pytest
from pydicom.dataset import Dataset

from dicom_images import BIG, CR, DEFLATED, DX, EXPLICIT, IMPLICIT, RLE, SC, described, image, saved, table, tables
from mococxr.errors import ImageError
from mococxr.images import decode_image
from mococxr.images.dicom import header, rejection_reason

CELLS = np.arange(0, 4096, 4, dtype=np.uint16).reshape(32, 32)
PERSON = {
    "PatientID": "P-0815",
    "PatientName": "Planted^Name",
    "PatientBirthDate": "19700315",
    "PatientSex": "F",
    "StudyInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2.3.4",
    "SOPInstanceUID": "1.2.3.4.5",
    "StudyDate": "20200314",
    "AcquisitionDate": "20200401",
    "ViewPosition": "PA",
    "ImageLaterality": "R",
    "Manufacturer": "Maker",
    "ManufacturerModelName": "Model 7",
    "BurnedInAnnotation": "NO",
    "ImageType": ["ORIGINAL", "PRIMARY"],
    "StudyDescription": "planted words",
    "ReferringPhysicianName": "Planted^Doctor",
    "InstitutionName": "Planted Hospital",
}


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE])
def test_the_facts_of_an_image_in_every_syntax(syntax: str) -> None:
    found = header(image(CELLS, syntax, BitsStored=12, **PERSON, AccessionNumber="A1", InstanceNumber=2))
    assert dataclasses.asdict(found) == {
        "patient": "P-0815", "study": "1.2.3", "sop": "1.2.3.4.5", "view": "PA",
        "laterality": "R", "acquired": datetime.date(2020, 4, 1), "study_date": datetime.date(2020, 3, 14),
        "manufacturer": "Maker", "model": "Model 7", "sex": "F", "age": 49.0, "modality": "DX", "sop_class": DX,
        "image_type": ("ORIGINAL", "PRIMARY"), "conversion": None, "burned_in": False, "rows": 32, "columns": 32,
        "pixels": True,
        "accession": "A1", "instance": 2, "time": None, "other_part": None, "for_processing": False,
    }  # fmt: skip


def test_names_free_text_and_private_elements_do_not_leave_the_header() -> None:
    ds = described(CELLS, **PERSON, SeriesDescription="CHEST planted AP")
    ds.private_block(0x0011, "PLANTED", create=True).add_new(1, "LO", "planted")
    told = repr(header(saved(ds))).lower()
    assert "planted" not in told
    assert "1970" not in told


@pytest.mark.parametrize(
    ("stated", "years"),
    [("045Y", 45), ("006M", 0.5), ("026W", 26 * 7 / 365.25), ("003D", 3 / 365.25), ("45", 49), ("", 49), ("0Y", 0)],
)
def test_age_is_the_one_stated_else_from_birth_to_study(stated: str, years: float) -> None:
    ds = described(CELLS, **PERSON)
    ds.add(pydicom.dataelem.RawDataElement(pydicom.tag.Tag(0x00101010), "AS", 4, stated.encode(), 0, False, True))
    assert header(saved(ds)).age == pytest.approx(years)


def code(value: str) -> Any:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "SCT", "words"
    return tables(item)


@pytest.mark.parametrize(
    ("elements", "view"),
    [
        ({"ViewPosition": "AP"}, "AP"),
        ({"ViewPosition": "LL"}, "Lateral"),
        ({"ViewPosition": "LARGE LATERAL"}, "Lateral"),
        ({"ViewCodeSequence": code("272479007")}, "PA"),
        ({"ViewCodeSequence": code("399173006"), "SeriesDescription": "PA"}, "Lateral"),
        ({"SeriesDescription": "W033 Chest PA"}, "PA"),
        ({"SeriesDescription": "Thorax a.p. liegend"}, "AP"),
        ({"SeriesDescription": "CHEST PA AND LATERAL"}, None),
        ({"SeriesDescription": "CAPTURE"}, None),
        ({"SeriesDescription": "PA/AP", "PatientOrientation": ["L", "F"]}, "Frontal"),
        ({"PatientOrientation": ["A", "F"]}, "Lateral"),
        ({"ViewPosition": "YES"}, None),
        ({}, None),
    ],
)
def test_the_view_is_given_where_it_is_sure(elements: dict[str, Any], view: str | None) -> None:
    assert header(image(CELLS, **elements)).view == view


CT, GSPS = "1.2.840.10008.5.1.4.1.1.2", "1.2.840.10008.5.1.4.1.1.11.1"


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({}, None),
        ({"SOPClassUID": CR, "Modality": "CR"}, None),
        ({"SOPClassUID": SC, "Modality": "CR", "ConversionType": "WSD"}, None),
        ({"SOPClassUID": SC, "Modality": "OT", "ConversionType": "DF"}, None),
        ({"SOPClassUID": SC, "Modality": None}, None),
        ({"Modality": None}, None),
        ({"SOPClassUID": None}, None),
        ({"SOPClassUID": None, "Modality": None}, None),
        ({"SOPClassUID": CT, "Modality": "CT"}, "not a radiograph: CT Image"),
        ({"SOPClassUID": CT, "Modality": "DX"}, "not a radiograph: CT Image"),
        ({"SOPClassUID": None, "Modality": "MG"}, "another modality: MG"),
        ({"SOPClassUID": None, "Modality": "J DOE"}, "another modality: unknown"),
        ({"SOPClassUID": SC, "Modality": "CT"}, "a secondary capture of another modality: CT"),
        ({"SOPClassUID": SC, "Modality": "OT", "ConversionType": "SD"}, "a scanned document"),
        ({"SOPClassUID": SC, "Modality": "OT", "ImageType": ["DERIVED", "SECONDARY", "SCREEN SAVE"]}, "a screenshot"),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "a localizer"),
    ],
)
def test_which_objects_are_images(elements: dict[str, Any], reason: str | None) -> None:
    data = image(CELLS, BitsStored=12, **elements)
    assert rejection_reason(header(data)) == reason
    if reason is None:
        assert decode_image(data).shape == (32, 32)
    else:
        with pytest.raises(ImageError, match=reason):
            decode_image(data)


def test_an_object_without_pixels_is_named_by_its_kind() -> None:
    ds = Dataset()
    ds.SOPClassUID, ds.Modality = GSPS, "PR"
    assert rejection_reason(header(saved(ds))) == "no pixel data (Grayscale Softcopy Presentation State)"
    ds.SOPClassUID = DX
    assert rejection_reason(header(saved(ds))) == "no pixel data"


def mixes() -> set[tuple[str, ...]]:
    """The combinations of header elements that decide grey, of 7,469 real chest images (a published table)."""
    names = ["Photometric Interpretation", "Presentation LUT Shape", "Bits Stored", "Rescale Slope"]
    names += ["Rescale Intercept", "LUT Descriptor", "Window Center", "Window Width", "Pixel Aspect Ratio"]
    where = importlib.util.find_spec("torchxrayvision")
    if where is None or where.origin is None:
        pytest.skip("the table of real headers comes with torchxrayvision")
    packed = Path(where.origin).parent / "data" / "nlmcxr_dicom_metadata.csv.gz"
    rows = pl.read_csv(packed.read_bytes(), columns=names, infer_schema=False).fill_null("").to_dicts()
    assert len(rows) == 7469
    assert sum(row["Photometric Interpretation"] == "MONOCHROME1" for row in rows) == 3584
    found = set()
    for row in rows:
        window = "several" if "[" in row["Window Center"] else "one" if row["Window Center"] else ""
        found.add((*(row[name] for name in names[:5]), "table" if row[names[5]] else "", window, row[names[8]]))
    return found


def test_every_mix_of_headers_that_real_chest_images_have_gives_the_same_image() -> None:
    every = mixes()
    for photometric, shape, stored, slope, intercept, has_table, window, aspect in sorted(every):
        bits = int(stored)
        levels = 1 << bits
        ramp = CELLS >> 12 - bits if bits < 12 else CELLS << bits - 12
        cells = (levels - 1 - ramp).astype(np.uint16) if photometric == "MONOCHROME1" else ramp.astype(np.uint16)
        elements: dict[str, Any] = {"PhotometricInterpretation": photometric, "BitsStored": bits}
        if shape:
            elements["PresentationLUTShape"] = shape
        if slope:
            elements |= {"RescaleSlope": slope, "RescaleIntercept": intercept}
        if has_table:
            elements["VOILUTSequence"] = tables(table(np.arange(levels), 0, 16))
        if window:
            many = 2 if window == "several" else 1
            elements |= {"WindowCenter": [str(levels / 2)] * many, "WindowWidth": [str(levels)] * many}
        if aspect:
            elements["PixelAspectRatio"] = ast.literal_eval(aspect)
        found = decode_image(image(cells, **elements)).astype(int)
        assert np.abs(found - np.floor(CELLS / 4095 * 255 + 0.5)).max() <= (bits != 12)
    assert len(every) > 10
