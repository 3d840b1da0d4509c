"""Which parts of the body are read, and what is said of those that are not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from dicom_images import described, image, saved, tables
from mococxr.classifier.saved import Model
from mococxr.errors import ImageError, InputError
from mococxr.images import Reading, decode, read_image
from mococxr.images.dicom import header, rejection_reason
from mococxr.images.grey_levels import FOR_PROCESSING, REMARKS
from mococxr.preparation import prepare
from mococxr.store import Store
from small_images import settings

pytestmark = pytest.mark.filterwarnings("ignore:(Invalid value|The value length)")
CELLS = np.arange(0, 4096, 4, dtype=np.uint16).reshape(32, 32)
CHEST = [
    "", "CHEST", "Thorax", "THORAX", "TORAX", "LUNG", "LUNGS", "CHEST_TO_ABDOMEN", "CHESTABDPELVIS", "NECKCHEST",
    "PORT CHEST", "NON GRID CHEST", "BRUSTKORB", "LUNGE", "POITRINE", "POUMONS", "PECHO", "PULMONES", "TORACE", "BORSTKAS",
    "TORSO", "WHOLEBODY", "WHOLE BODY", "HEART", "UNKNOWN", "N/A", "OTHER", "CHEST SPINE", "T?RAX",
]  # fmt: skip
OTHER = [
    "KNEE", "HAND", "ABDOMEN", "SKULL", "PELVIS", "TSPINE", "THORACIC SPINE", "THORACOLUMBAR", "BRUSTWIRBELSAEULE", "BWS",
    "RIB", "SHOULDER", "HIP", "FOOT", "KNIE", "MANO", "GENOU", "WHOLE LEG", "ABDOMEN PELVIS", "EXTREMITY", "BREAST", "X^DOE",
]  # fmt: skip


@pytest.mark.parametrize("part", CHEST)
def test_what_names_the_chest_or_nothing_is_read(part: str) -> None:
    data = image(CELLS, BitsStored=12, BodyPartExamined=part)
    assert rejection_reason(header(data)) is None
    assert read_image(data).shape == CELLS.shape


@pytest.mark.parametrize(
    "text", ["TÓRAX", "GÖĞÜS", "ГРУДНАЯ КЛЕТКА", "胸部", "PULMÃO", "Bröstkorg", "HRUDNÍK", "Θώρακας", "NGỰC"]
)
@pytest.mark.parametrize("coding", ["utf-8", "latin-1"])
def test_letters_that_are_not_ascii_do_not_hide_the_chest(text: str, coding: str) -> None:
    ds = described(CELLS, BitsStored=12)
    ds.SpecificCharacterSet = "ISO_IR 192" if coding == "utf-8" else "ISO_IR 100"
    try:
        value = text.encode(coding)
    except UnicodeEncodeError:
        pytest.skip("has no form in this coding")
    ds.PixelData = CELLS.tobytes()
    ds["PixelData"].VR = "OW"
    ds.add(RawDataElement(Tag("BodyPartExamined"), "CS", len(value), value + b" " * (len(value) % 2), 0, False, True))
    assert rejection_reason(header(saved(ds))) is None, header(saved(ds)).other_part


@pytest.mark.parametrize("part", OTHER)
def test_what_names_another_part_is_refused_unless_it_is_asked_for(part: str) -> None:
    data = image(CELLS, BitsStored=12, BodyPartExamined=part)
    reason = rejection_reason(header(data))
    assert reason is not None
    assert reason.startswith("another part of the body")
    assert "DOE" not in reason
    with pytest.raises(ImageError, match="another part of the body"):
        read_image(data)
    assert read_image(data, any_body_part=True).shape == CELLS.shape
    assert rejection_reason(header(image(CELLS, BodyPartExamined=part, Modality="MG")), True) == "another modality: MG"


@pytest.mark.parametrize(
    ("value", "meaning", "read"),
    [
        ("51185008", "Chest", True),
        ("T-D3000", "", True),
        ("72696002", "Knee", False),
        ("X", "Thorax", True),
        ("X", "", True),
    ],
)
def test_the_anatomic_region_counts_where_no_part_is_named(value: str, meaning: str, read: bool) -> None:
    region = Dataset()
    region.CodeValue, region.CodingSchemeDesignator, region.CodeMeaning = value, "SCT", meaning
    for part, expected in ((None, read), ("CHEST", True), ("KNEE", False)):
        elements = {} if part is None else {"BodyPartExamined": part}
        data = image(CELLS, BitsStored=12, AnatomicRegionSequence=tables(region), **elements)
        assert (rejection_reason(header(data)) is None) == expected


def archive(folder: Path) -> Path:
    """Chests of four patients and a knee of one of them, one FOR PROCESSING."""
    folder.mkdir()
    for i, part in enumerate(["CHEST", "", "THORAX", "LUNG", "KNEE"]):
        person = {"PatientID": f"P{i % 4}", "StudyInstanceUID": f"1.2.{i}", "SOPInstanceUID": f"1.2.3.{i}"}
        intent = {"PresentationIntentType": "FOR PROCESSING"} if i == 1 else {}
        data = image(CELLS, BitsStored=12, BodyPartExamined=part, **person, **intent)
        (folder / f"{i}.dcm").write_bytes(data)
    return folder


@pytest.mark.parametrize("form", ["dicom", "folder"])
def test_prepare_leaves_out_other_parts_and_says_how_they_are_read(
    tmp_path: Path, form: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = archive(tmp_path / "in")
    given: dict[str, Any] = {"format": form, "patients_unknown": form == "folder", "split": (1.0, 0.0, 0.0)}
    store = prepare.run(settings(source, tmp_path / "store", **given))
    spoken = " ".join(capsys.readouterr().err.split())
    assert len(store) == 4
    assert store.quarantine["reason"].to_list() == ["another part of the body: KNEE"]
    assert store.quarantine["unreadable"].to_list() == [False]
    assert "another part of the body: KNEE (1)" in spoken
    assert "--any-body-part reads those of other parts of the body (1)." in spoken
    assert f"1 image: {REMARKS[FOR_PROCESSING]}." in spoken
    assert store.manifest["counts"]["remarks"] == {FOR_PROCESSING: 1}
    every = prepare.run(settings(source, tmp_path / "every", any_body_part=True, **given))
    assert len(every) == 5
    assert "No image is in quarantine." in capsys.readouterr().err
    assert Store.open(tmp_path / "every").manifest["settings"]["any_body_part"] is True


def test_an_archive_of_knees_names_the_way_to_read_it(tmp_path: Path) -> None:
    source = archive(tmp_path / "in")
    for name in "0123":
        (source / f"{name}.dcm").unlink()
    with pytest.raises(InputError, match=r"KNEE \(1\)(.|\n)*--any-body-part reads"):
        prepare.run(settings(source, tmp_path / "store", format="dicom"))


def test_for_processing_is_remarked_and_read() -> None:
    found = decode(image(CELLS, BitsStored=12, PresentationIntentType="FOR PROCESSING"), Reading())
    assert found.remarks == (FOR_PROCESSING,)
    assert found.pixels.max() == 255


@pytest.mark.parametrize("stated", [True, False])
def test_a_model_reads_the_parts_that_its_store_did(stated: bool) -> None:
    how = {"depth": "full", "voi": "first", "frames": "first", "any_body_part": stated}
    assert Model({"preprocessing": how}, Path()).reading.any_body_part is stated
