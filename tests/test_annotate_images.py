"""What the page shows: windows worked out from all bits of a file, the store's image where the file is gone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

import mococxr
from dicom_images import image as dicom_image
from mococxr.annotation import annotate
from mococxr.annotation.pictures import Pictures
from mococxr.errors import InputError
from mococxr.preparation.prepare import run as prepare
from mococxr.store import Store
from small_images import settings


def seen(data: bytes) -> np.ndarray:
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)


@pytest.fixture
def deep(tmp_path: Path) -> tuple[Store, Path]:
    """A store of one DICOM image of 12 bits whose window shows a part of them; under pseudonyms, as always with DICOM."""
    cells = np.linspace(0, 4095, 64 * 48).reshape(64, 48).astype(np.uint16)
    file = tmp_path / "archive" / "one.dcm"
    file.parent.mkdir()
    file.write_bytes(
        dicom_image(cells, BitsStored=12, WindowCenter=2000, WindowWidth=1001, PatientID="P", StudyInstanceUID="1.2")
    )
    how = {"format": "dicom", "split": (1.0, 0.0, 0.0), "size": 16}
    return prepare(settings(file.parent, tmp_path / "store", **how)), file


def test_a_window_is_worked_out_from_all_bits_of_the_file(deep: tuple[Store, Path]) -> None:
    store, file = deep
    picture = Pictures(store, None, annotate._lookup(store.path, None)).picture(0)
    cells = np.linspace(0, 4095, 64 * 48).reshape(64, 48).astype(np.uint16)
    assert np.array_equal(seen(picture.png(None, None)), mococxr.read_image(file))
    assert picture.bits == 16
    for low, high in ((0.0, 1.0), (0.4, 0.42), (-0.5, 2.0)):
        share = (np.round(cells / 4095 * 65535) / 65535 - low) / (high - low)
        assert np.array_equal(seen(picture.png((low, high), None)), np.floor(np.clip(share, 0, 1) * 255 + 0.5))
    low, high = picture.window  # the window of the header, found again
    assert abs(low * 4095 - 1500) < 4
    assert abs(high * 4095 - 2500) < 4
    assert min(seen(picture.png(picture.window, 20)).shape) == 20


def test_where_the_file_is_another_or_gone_the_store_s_image_is_shown(deep: tuple[Store, Path]) -> None:
    store, file = deep
    lookup = annotate._lookup(store.path, None)
    file.write_bytes(file.read_bytes() + b"\0\0")
    for pictures in (
        Pictures(store, None, lookup),
        Pictures(store, file.parent / "no", lookup),
        Pictures(store, None, file.with_name("gone")),
    ):
        picture = pictures.picture(0)
        assert np.array_equal(seen(picture.png(None, None)), store.pixels(0))
        assert picture.bits == 8
        assert np.array_equal(seen(picture.png((0.0, 1.0), None)), store.pixels(0))


def test_a_wrong_list_of_a_store_under_pseudonyms_is_refused_without_its_values(
    deep: tuple[Store, Path], tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text("path\nDOE^JOHN.dcm\n")
    with pytest.raises(InputError) as error:
        mococxr.annotate(deep[0].path, target=["Nodule"], next=tmp_path / "list.csv", browser=False)
    assert "DOE" not in f"{error.value.problem} {error.value.way_out}"
