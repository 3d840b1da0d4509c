"""Headers that leave the grey scale in doubt: what is certain is read right, and the rest is remarked."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

from dicom_images import BASELINE, EXTENDED, J2K_LOSSLESS, LOSSLESS, LS, described, encoded, image, table, tables
from mococxr.images import Reading, decode, decode_image
from mococxr.images.grey_levels import FEWER_BITS, NARROW, REMARKS, WINDOW_MISSES
from mococxr.preparation import prepare
from small_images import settings

LINES, COLUMNS = np.mgrid[:48, :64]
TWELVE = ((LINES * 64 + COLUMNS) * 4 // 3).astype(np.uint16)  # 0 to 4095, evenly
SIXTEEN = TWELVE * 16 + 15


def eighth(values: np.ndarray, top: float) -> np.ndarray:
    return np.floor(np.clip(values / top, 0, 1) * 255 + 0.5).astype(np.uint8)


def png(values: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", values)[1])


def tiff(values: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **options)
    return stream.getvalue()


MISSES: dict[str, dict[str, Any]] = {
    "below": {"WindowCenter": "-1000", "WindowWidth": "500"},
    "above": {"WindowCenter": "37000", "WindowWidth": "9000"},
    "a threshold at the end": {"WindowCenter": "0", "WindowWidth": "1"},
    "wide": {"WindowCenter": "30000", "WindowWidth": "60000"},
    "exact": {"WindowCenter": "9000", "WindowWidth": "10", "VOILUTFunction": "LINEAR_EXACT"},
    "sigmoid": {"WindowCenter": "90000", "WindowWidth": "100", "VOILUTFunction": "SIGMOID"},
    "before rescale": {"RescaleSlope": 0.1, "RescaleIntercept": 0, "WindowCenter": "2048", "WindowWidth": "500"},
    "a table of other values": {"VOILUTSequence": tables(table(np.arange(4096), 30000, 12))},
    "two of them": {"WindowCenter": ["-1000", "9000"], "WindowWidth": ["500", "10"]},
}


@pytest.mark.parametrize("case", MISSES)
@pytest.mark.parametrize("turned", [False, True])
def test_a_window_that_shows_nothing_gives_way_to_the_declared_range(case: str, turned: bool) -> None:
    kind = "MONOCHROME1" if turned else "MONOCHROME2"
    found = decode(image(TWELVE, BitsStored=12, PhotometricInterpretation=kind, **MISSES[case]))
    whole = eighth(TWELVE, 4095)
    assert np.abs(found.pixels - (255.0 - whole if turned else whole)).max() <= 1
    assert found.remarks == (WINDOW_MISSES,)


@pytest.mark.parametrize("voi", ["first", "1", "name:off"])
def test_of_several_windows_the_next_that_shows_something_is_used(voi: str) -> None:
    names = {"WindowCenterWidthExplanation": ["OFF", "FAR", "BONE"]}
    data = image(TWELVE, BitsStored=12, WindowCenter=["-9000", "9000", "1000"], WindowWidth=["9", "9", "801"], **names)
    found = decode(data, Reading(voi=voi))
    assert np.array_equal(found.pixels, eighth(TWELVE - 599.5, 800))
    assert found.remarks == (WINDOW_MISSES,)
    assert decode(data, Reading(voi="3")).remarks == decode(data, Reading(voi="none")).remarks == ()


def test_a_window_that_shows_something_stays_whatever_it_cuts_off() -> None:
    hard = decode(image(TWELVE, BitsStored=12, WindowCenter="4000", WindowWidth="100"))
    assert hard.remarks == ()
    assert (hard.pixels == 0).mean() > 0.95
    damaged = tables(table(np.arange(4096), 0, 12))
    damaged[0].LUTData = bytes(100)
    with pytest.raises(Exception, match="shorter"):
        decode(image(TWELVE, BitsStored=12, VOILUTSequence=damaged))


def test_an_empty_exposure_stays_dark_or_light_and_is_not_stretched() -> None:
    noise = np.random.default_rng(0).integers(0, 12, (48, 64)).astype(np.uint16)
    for values, window in ((noise, ("3000", "500")), (4095 - noise, ("1000", "500"))):
        found = decode(image(values, BitsStored=12, WindowCenter=window[0], WindowWidth=window[1]))
        assert np.ptp(found.pixels) == 0
        assert found.remarks == (NARROW,)
        assert found.pixels.max() == 255 * (values.max() > 2000)


PADS = {
    "-2000 as US": (63536, 12, None),
    "all ones of 16": (65535, 12, None),
    "one bit above": (2096 + 4096, 12, None),
    "in the bits": (2096, 12, 2096),
    "of 8 bits": (300, 8, None),
}


@pytest.mark.parametrize("case", PADS)
def test_a_padding_value_that_cannot_occur_pads_nothing(case: str) -> None:
    value, bits, padded = PADS[case]
    cells = TWELVE if bits == 12 else (TWELVE >> 4).astype(np.uint8)
    found = decode_image(image(cells, BitsStored=bits, PixelPaddingValue=value))
    plain = decode_image(image(cells, BitsStored=bits))
    assert np.array_equal(found, np.where(cells == padded, 0, plain))


def test_a_signed_padding_value_is_read_in_the_stored_bits_or_in_sixteen() -> None:
    cells = TWELVE.astype(np.int16) - 2048
    plain = decode_image(image(cells, BitsStored=12))
    for value, padded in ((-2000, -2000), (-9000, None), (1000, 1000)):
        found = decode_image(image(cells, BitsStored=12, PixelPaddingValue=value))
        assert np.array_equal(found, np.where(cells == padded, 0, plain))
    outside = {"PixelPaddingValue": 100, "PixelPaddingRangeLimit": 63536}
    found = decode_image(image(TWELVE, BitsStored=12, **outside))
    assert np.array_equal(found, np.where(TWELVE == 100, 0, eighth(TWELVE, 4095)))


def empty_item(**elements: Any) -> Any:
    item = table(np.arange(4), 0, 8)
    item.add_new(0x00283002, "US", elements.get("descriptor"))
    item.add_new(0x00283006, "OW", elements.get("data", b""))
    return item


@pytest.mark.parametrize("sequence", ["ModalityLUTSequence", "VOILUTSequence"])
@pytest.mark.parametrize("window", [{}, {"WindowCenter": "2048", "WindowWidth": "2000"}])
def test_an_item_without_descriptor_and_data_is_no_table(sequence: str, window: dict[str, str]) -> None:
    plain = decode_image(image(TWELVE, BitsStored=12, **window))
    for item in (empty_item(), empty_item(descriptor=[0, 0, 0])):
        assert np.array_equal(decode_image(image(TWELVE, BitsStored=12, **window, **{sequence: tables(item)})), plain)
    both = tables(empty_item(), table(np.arange(4096)[::-1], 0, 12))
    assert np.array_equal(decode_image(image(TWELVE, BitsStored=12, VOILUTSequence=both)), eighth(4095 - TWELVE, 4095))
    with pytest.raises(Exception, match="without a descriptor"):
        decode(image(TWELVE, BitsStored=12, **{sequence: tables(empty_item(data=bytes(64)))}))


@pytest.mark.parametrize("bits", range(9, 16))
def test_values_of_fewer_bits_than_declared_stay_dark_and_are_remarked(bits: int) -> None:
    low = (SIXTEEN >> 16 - bits).astype(np.uint16)
    ways = (
        png(low),
        tiff(low),
        image(low),
        image(low, LOSSLESS),
        image(low, J2K_LOSSLESS),
        png(np.stack([low] * 3, -1)),
    )
    for data in ways:
        found = decode(data)
        assert np.abs(found.pixels - low / 257).max() <= 0.5
        assert found.remarks == (NARROW,)
        stretched = decode(data, Reading(depth="0.5:99.5"))
        assert stretched.remarks == ()
        assert np.ptp(stretched.pixels) == 255
    light = decode(image(low, PhotometricInterpretation="MONOCHROME1"))
    assert light.remarks == (NARROW,)
    assert light.pixels.max() == 255
    signed = decode(image(low.astype(np.int16)))
    assert signed.remarks == (NARROW,)


def test_markers_do_not_hide_a_narrow_image_and_a_dark_one_of_eight_bits_is_none() -> None:
    marked = TWELVE.copy()
    marked[:1, :20] = 65535
    assert decode(png(marked)).remarks == (NARROW,)
    assert decode(png((TWELVE >> 8).astype(np.uint8))).remarks == ()
    assert decode(png(SIXTEEN)).remarks == decode(image(TWELVE, BitsStored=12)).remarks == ()
    windowed = image(TWELVE, WindowCenter="2048", WindowWidth="4096")
    assert decode(windowed).remarks == ()
    assert np.array_equal(decode_image(windowed), eighth(TWELVE, 4095))


def test_what_a_header_says_of_the_depth_is_used_where_it_is_certain() -> None:
    for top, bits in ((4095, 12), (1023, 10), (32767, 15)):
        values = (SIXTEEN >> 16 - bits).astype(np.uint16)
        found = decode(image(values, LargestImagePixelValue=top))
        assert np.array_equal(found.pixels, eighth(values, top))
        assert found.remarks == ()
    padded = TWELVE.copy()
    padded[:4] = 65535
    found = decode_image(image(padded, LargestImagePixelValue=4095, PixelPaddingValue=65535))
    assert np.array_equal(found, np.where(padded == 65535, 0, eighth(TWELVE, 4095)))
    seen = decode(
        image(np.minimum(TWELVE, 4087), LargestImagePixelValue=4087)
    )  # the largest seen says nothing of the depth
    assert seen.pixels.max() == 16
    assert seen.remarks == (NARROW,)
    false = decode_image(image(SIXTEEN, LargestImagePixelValue=4095))
    assert np.array_equal(false, eighth(SIXTEEN, 65535))


@pytest.mark.parametrize("syntax", [J2K_LOSSLESS, LS, BASELINE, EXTENDED])
def test_a_stream_says_its_own_depth(syntax: str) -> None:
    cells, bits = (TWELVE, 12) if syntax != BASELINE else ((TWELVE >> 4).astype(np.uint8), 8)
    stream = encoded(cells, syntax, described(cells, BitsStored=bits))
    found = decode(image(TWELVE, syntax, stream))
    assert np.abs(found.pixels - eighth(cells, (1 << bits) - 1).astype(float)).max() <= {BASELINE: 3, EXTENDED: 1}.get(
        syntax, 0
    )
    assert found.remarks == (FEWER_BITS,)


@pytest.mark.parametrize("syntax", [J2K_LOSSLESS, LS, LOSSLESS])
def test_padding_behind_a_stream_is_tolerated(syntax: str) -> None:
    stream = encoded(TWELVE, syntax, described(TWELVE, BitsStored=12))
    for filling in (b"\0", bytes(70), bytes(5001), b"\xff" * 100, b" " * 90):
        assert np.array_equal(
            decode_image(image(TWELVE, syntax, stream + filling, BitsStored=12)), eighth(TWELVE, 4095)
        )
    with pytest.raises(Exception, match="truncated"):
        decode_image(image(TWELVE, syntax, stream[:-2] + bytes(90), BitsStored=12))


@pytest.mark.parametrize("zeros", [1, 2, 3, 50])
def test_zeros_before_the_end_of_a_jpeg_ls_stream_are_tolerated(zeros: int) -> None:
    for cells in (TWELVE, np.random.default_rng(0).integers(0, 4096, (48, 64)).astype(np.uint16)):
        stream = encoded(cells, LS, described(cells, BitsStored=12))
        padded = stream[:-2] + bytes(zeros) + stream[-2:]
        assert np.array_equal(decode_image(image(cells, LS, padded, BitsStored=12)), eighth(cells, 4095))


def test_prepare_counts_and_says_what_is_in_doubt(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "in").mkdir()
    for i in range(2):
        (tmp_path / f"in/{i}.dcm").write_bytes(image(TWELVE, BitsStored=12, WindowCenter="-9000", WindowWidth="9"))
        (tmp_path / f"in/{i}.png").write_bytes(png(SIXTEEN))
    (tmp_path / "in/low.png").write_bytes(png(TWELVE))
    given: dict[str, Any] = {"format": "folder", "patients_unknown": True, "split": (1.0, 0.0, 0.0)}
    store = prepare.run(settings(tmp_path / "in", tmp_path / "store", **given))
    assert store.manifest["counts"]["remarks"] == {NARROW: 1, WINDOW_MISSES: 2}
    spoken = " ".join(capsys.readouterr().err.split())
    assert f"1 image: {REMARKS[NARROW]}." in spoken
    assert f"2 images: {REMARKS[WINDOW_MISSES]}." in spoken
    assert "--depth 0.5:99.5" in spoken
