"""How a DICOM value becomes grey: against pydicom's functions, against arithmetic, and against other files."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pydicom
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate
from pydicom.pixels import apply_modality_lut, apply_windowing

from dicom_images import (
    BASELINE,
    BIG,
    EXPLICIT,
    J2K_LOSSLESS,
    LOSSLESS,
    LS,
    RLE,
    SC,
    described,
    encoded,
    image,
    saved,
    table,
    tables,
)  # fmt: skip
from mococxr.errors import ImageError, InputError
from mococxr.images import Reading, decode_image
from mococxr.images.grey_levels import Voi, parse_voi

DEEP = np.random.default_rng(1).integers(0, 4096, (32, 40)).astype(np.uint16)
COLOURS = np.random.default_rng(2).integers(0, 256, (32, 40, 3)).astype(np.uint8)
LUMA = cv2.cvtColor(COLOURS, cv2.COLOR_RGB2GRAY)


def eighth(grey: np.ndarray) -> np.ndarray:
    """0..1 -> 0..255, rounded."""
    return np.floor(np.clip(grey, 0, 1) * 255 + 0.5).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["LINEAR", "LINEAR_EXACT", "SIGMOID"]),
    st.floats(-3000, 6000),
    st.floats(1.5, 9000),
    st.booleans(),
    st.sampled_from([(1.0, 0.0), (0.5, -200.0), (2.0, 100.0)]),
)
def test_windows_are_those_of_the_standard_as_pydicom_has_them(
    function: str, center: float, width: float, signed: bool, scale: tuple[float, float]
) -> None:
    cells = (DEEP.astype(np.int16) - 2048 * signed).astype(np.int16 if signed else np.uint16)
    elements: dict[str, Any] = {"BitsStored": 12, "WindowCenter": f"{center:.6g}", "WindowWidth": f"{width:.6g}"}
    elements |= {"VOILUTFunction": function, "RescaleSlope": scale[0], "RescaleIntercept": scale[1]}
    elements |= {"PixelRepresentation": int(signed)}
    ds = described(cells, **elements)
    ours = decode_image(image(cells, **elements)).astype(int)
    lowest = -2048 * signed
    low, high = (end * scale[0] + scale[1] for end in (lowest, lowest + 4095))
    with np.errstate(over="ignore"):
        theirs = eighth((apply_windowing(apply_modality_lut(cells, ds), ds) - low) / (high - low))
    assume(np.ptp(np.quantile(theirs, (0.01, 0.99))) > 34)  # else it shows nothing, and is not used
    assert np.abs(ours - theirs).max() <= 1


def test_a_window_of_width_one_is_a_threshold_and_one_below_is_none() -> None:
    cells = np.tile(np.arange(0, 4096, 64, dtype=np.uint16), (16, 1))
    split = decode_image(image(cells, BitsStored=12, WindowCenter="2048.5", WindowWidth="1"))
    assert np.array_equal(split, np.where(cells > 2048, 255, 0))
    for width in ("0", "-5", "0.5", ""):
        found = decode_image(image(cells, BitsStored=12, WindowCenter="100", WindowWidth=width))
        assert np.array_equal(found, eighth(cells / 4095))


OFFERS: dict[str, Any] = {
    "BitsStored": 12,
    "WindowCenter": ["1000", "2048", "500"],
    "WindowWidth": ["500", "4096", "100"],
    "WindowCenterWidthExplanation": ["NARROW", "WIDE", "BONE"],
    "VOILUTSequence": tables(table(np.arange(4096)[::-1], 0, 12, "NEGATIVE"), table(np.arange(4096) // 2, 0, 12)),
}


def windowed(center: float, width: float) -> np.ndarray:
    return eighth((DEEP - (center - 0.5)) / (width - 1) + 0.5)


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("first", eighth(1 - DEEP / 4095)),
        ("widest", windowed(2048, 4096)),
        ("none", eighth(DEEP / 4095)),
        ("1", eighth(1 - DEEP / 4095)),
        ("3", windowed(1000, 500)),
        ("5", windowed(500, 100)),
        ("6", eighth(1 - DEEP / 4095)),
        ("name:bone", windowed(500, 100)),
        ("name:Negative", eighth(1 - DEEP / 4095)),
        ("name:unheard of", eighth(1 - DEEP / 4095)),
    ],
)
def test_which_window_or_table_is_taken_is_a_setting(choice: str, expected: np.ndarray) -> None:
    assert np.array_equal(decode_image(image(DEEP, **OFFERS), Reading(voi=choice)), expected)


@pytest.mark.parametrize("choice", ["first", "widest", "none", "2", "name:bone"])
def test_an_image_that_offers_nothing_is_read_over_its_whole_range_whatever_is_asked(choice: str) -> None:
    assert np.array_equal(decode_image(image(DEEP, BitsStored=12), Reading(voi=choice)), eighth(DEEP / 4095))


def test_the_forms_of_the_window_setting() -> None:
    assert parse_voi("name: Bone ") == Voi("name", name="bone")
    assert parse_voi("12") == Voi("number", number=12)
    with pytest.raises(InputError, match="12345678"):
        parse_voi("12345678")
    for wrong in ("", "0", "-1", "second", "name:", "1.5"):
        with pytest.raises(InputError, match="window"):
            parse_voi(wrong)
    with pytest.raises(InputError, match="frames"):
        decode_image(image(DEEP), Reading(frames="all"))


def test_a_table_said_to_have_sixteen_bits_but_of_twelve_still_reaches_white() -> None:
    data = image(DEEP, BitsStored=12, VOILUTSequence=tables(table(np.arange(4096), 0, 16)))
    assert np.array_equal(decode_image(data), eighth(DEEP / 4095))


def test_values_outside_a_table_take_its_first_and_last_entry() -> None:
    data = image(DEEP, BitsStored=12, VOILUTSequence=tables(table(np.arange(256), 1000, 8)))
    assert np.array_equal(decode_image(data), np.clip(DEEP.astype(int) - 1000, 0, 255))


def test_a_negative_slope_turns_the_scale_and_a_slope_of_zero_is_none() -> None:
    down = image(DEEP, BitsStored=12, RescaleSlope=-1, RescaleIntercept=4095)
    assert np.array_equal(decode_image(down), eighth(1 - DEEP / 4095))
    for slope in ("0", "nan", "inf"):
        data = image(DEEP, BitsStored=12)
        ds = pydicom.dcmread(pydicom.filebase.DicomBytesIO(data))
        ds.add(pydicom.dataelem.RawDataElement(pydicom.tag.Tag(0x00281053), "DS", 4, slope.encode(), 0, False, True))
        assert np.array_equal(decode_image(saved(ds)), eighth(DEEP / 4095))


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_padding_is_black_and_does_not_count_for_percentiles(photometric: str) -> None:
    cells = DEEP.copy() // 4 + 1000
    cells[:, :10] = 4000
    cells[:5] = 3990
    bare = image(cells[5:, 10:], BitsStored=12, PhotometricInterpretation=photometric)
    padded = image(
        cells, BitsStored=12, PhotometricInterpretation=photometric, PixelPaddingValue=4000,
        PixelPaddingRangeLimit=3990,
    )  # fmt: skip
    for depth in ("full", "0.5:99.5"):
        found = decode_image(padded, Reading(depth=depth))
        assert found[:5].max() == found[:, :10].max() == 0
        assert np.array_equal(found[5:, 10:], decode_image(bare, Reading(depth=depth)))


def test_percentiles_stretch_an_image_alike_whichever_end_is_white() -> None:
    dark = (DEEP // 8 + 300).astype(np.uint16)
    for syntax in (EXPLICIT, RLE):
        plain = image(dark, syntax, BitsStored=12)
        turned = image(4095 - dark, syntax, BitsStored=12, PhotometricInterpretation="MONOCHROME1")
        found = decode_image(plain, Reading(depth="0.5:99.5"))
        low, high = np.percentile(dark, (0.5, 99.5))
        assert np.abs(found.astype(int) - eighth((dark - low) / (high - low))).max() <= 1
        assert np.array_equal(found, decode_image(turned, Reading(depth="0.5:99.5")))


def test_eight_bits_stay_as_they_are() -> None:
    grey = (DEEP // 16).astype(np.uint8)
    for syntax in (EXPLICIT, RLE, LOSSLESS, LS, J2K_LOSSLESS):
        assert np.array_equal(decode_image(image(grey, syntax), Reading(depth="0.5:99.5")), grey)
    assert np.abs(decode_image(image(grey, BASELINE)).astype(int) - grey).max() <= 12
    smooth = np.tile(np.arange(40, dtype=np.uint8) * 6, (32, 1))
    assert np.abs(decode_image(image(smooth, BASELINE)).astype(int) - smooth).max() <= 2


def test_values_that_stand_high_in_their_cells_are_taken_down() -> None:
    high = image((DEEP << 4) | 7, BitsStored=12, HighBit=15)
    assert np.array_equal(decode_image(high), eighth(DEEP / 4095))


def test_colours_become_luma_however_they_are_stored() -> None:
    about = {"SOPClassUID": SC, "Modality": "OT"}
    planes = np.ascontiguousarray(COLOURS.transpose(2, 0, 1)).reshape(COLOURS.shape)
    assert np.array_equal(decode_image(image(COLOURS, **about)), LUMA)
    assert np.array_equal(decode_image(image(planes, PlanarConfiguration=1, **about)), LUMA)
    for syntax in (RLE, LS, LOSSLESS, J2K_LOSSLESS):
        assert np.array_equal(decode_image(image(COLOURS, syntax, **about)), LUMA), syntax
    for said in ("YBR_RCT", "YBR_FULL"):  # a stream that turns its colours itself gives red, green, blue
        found = decode_image(image(COLOURS, J2K_LOSSLESS, PhotometricInterpretation=said, **about))
        assert np.array_equal(found, LUMA), said
    halves = np.stack([LUMA[:, ::2], LUMA[:, 1::2], LUMA[:, ::2], LUMA[:, ::2]], -1)
    data = image(COLOURS, PhotometricInterpretation="YBR_FULL", **about)
    assert np.array_equal(decode_image(data), COLOURS[..., 0])
    ds = described(COLOURS, PhotometricInterpretation="YBR_FULL_422", **about)
    ds.PixelData = halves.tobytes()
    ds["PixelData"].VR = "OB"
    assert np.array_equal(decode_image(saved(ds)), LUMA)


@pytest.mark.parametrize("bits", [8, 10])
def test_a_stream_of_fewer_bits_than_declared_spans_its_own_and_keeps_the_sign(bits: int) -> None:
    small = (DEEP >> 12 - bits).astype(np.uint16)
    stream = encoded(small if bits > 8 else small.astype(np.uint8), J2K_LOSSLESS, described(small, BitsStored=bits))
    for declared in (12, 16):
        found = decode_image(image(small, J2K_LOSSLESS, stream, BitsStored=declared))
        assert np.array_equal(found, eighth(small / ((1 << bits) - 1)))
    below = (small.astype(np.int16) - (1 << bits - 1)).astype(np.int16 if bits > 8 else np.int8)
    stream = encoded(below, J2K_LOSSLESS, described(below, BitsStored=bits))
    found = decode_image(image(small, J2K_LOSSLESS, stream, BitsStored=12, PixelRepresentation=1))
    assert np.array_equal(found, eighth(small / ((1 << bits) - 1)))
    windowed = {"BitsStored": 12, "PixelRepresentation": 1, "WindowCenter": "0", "WindowWidth": "200"}
    found = decode_image(image(small, J2K_LOSSLESS, stream, **windowed))
    assert np.array_equal(found, eighth((below + 0.5) / 199 + 0.5))


def test_a_palette_becomes_the_luma_of_its_colours() -> None:
    cells = (DEEP % 200).astype(np.uint8)
    palette = COLOURS.reshape(-1, 3)[:200]
    elements: dict[str, Any] = {"PhotometricInterpretation": "PALETTE COLOR", "SOPClassUID": SC}
    for i, name in enumerate(("Red", "Green", "Blue")):
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [200, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = (palette[:, i].astype("<u2") * 257).tobytes()
    found = decode_image(image(cells, **elements)).astype(int)
    assert np.abs(found - cv2.cvtColor(palette[cells], cv2.COLOR_RGB2GRAY)).max() <= 1
    with pytest.raises(ImageError, match="palette"):
        decode_image(image(cells, PhotometricInterpretation="PALETTE COLOR", SOPClassUID=SC))


def test_a_jpeg_of_red_green_and_blue_that_does_not_say_so_is_told() -> None:
    smooth = cv2.resize(COLOURS[:3, :5], (40, 32), interpolation=cv2.INTER_LINEAR)
    frame = bytes(cv2.imencode(".jpg", smooth[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1])
    luma = cv2.cvtColor(smooth, cv2.COLOR_RGB2GRAY).astype(int)
    ybr = image(smooth, BASELINE, frame, PhotometricInterpretation="YBR_FULL_422", SOPClassUID=SC)
    assert np.abs(decode_image(ybr) - luma).max() <= 4
    bare = frame[:2] + frame[20:]  # without its JFIF marker, and what are colours read as they are
    found = decode_image(image(smooth, BASELINE, bare, PhotometricInterpretation="RGB", SOPClassUID=SC)).astype(int)
    assert np.abs(found - luma).max() > 20


@pytest.mark.parametrize("offsets", [True, False])
def test_of_several_frames_the_first_is_the_image_or_the_file_is_refused(offsets: bool) -> None:
    frames = [DEEP, DEEP[::-1].copy(), DEEP[:, ::-1].copy()]
    plain = described(DEEP, BitsStored=12, NumberOfFrames=3)
    plain.PixelData = b"".join(frame.tobytes() for frame in frames)
    plain["PixelData"].VR = "OW"
    files = [saved(plain)]
    for pieces in (1, 2) if offsets else (1,):
        packed = described(DEEP, BitsStored=12, NumberOfFrames=3)
        streams = [encoded(frame, LS, packed) for frame in frames]
        packed.PixelData = encapsulate(streams, fragments_per_frame=pieces, has_bot=offsets)
        packed["PixelData"].VR = "OB"
        files.append(saved(packed, LS))
    for data in files:
        assert np.array_equal(decode_image(data), eighth(DEEP / 4095))
        with pytest.raises(ImageError, match="3 frames"):
            decode_image(data, Reading(frames="refuse"))


@pytest.mark.parametrize("name", ["PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"])
def test_pixels_that_are_not_square_are_made_square(name: str) -> None:
    smooth = cv2.resize(DEEP[:6, :10], (80, 48), interpolation=cv2.INTER_CUBIC)
    smooth = np.clip(smooth, 0, 4095).astype(np.uint16)
    plain = decode_image(image(smooth, BitsStored=12))
    tall = decode_image(image(smooth, BitsStored=12, **{name: ["0.2", "0.1"]}))
    assert np.array_equal(tall, cv2.resize(plain, (40, 48), interpolation=cv2.INTER_AREA))
    assert decode_image(image(smooth, BitsStored=12, **{name: ["0.15", "0.2"]})).shape == (36, 80)
    assert np.array_equal(decode_image(image(smooth, BitsStored=12, **{name: ["0.1001", "0.1"]})), plain)
    assert decode_image(image(smooth, BitsStored=12, PixelAspectRatio=["2", "1"])).shape == (48, 40)
    with pytest.raises(ImageError, match="implausible pixel aspect ratio"):
        decode_image(image(smooth, BitsStored=12, **{name: ["10", "0.1"]}))


def test_the_spacing_of_the_pixels_wins_over_that_of_the_detector() -> None:
    data = image(DEEP, PixelSpacing=["0.2", "0.2"], ImagerPixelSpacing=["0.2", "0.1"], PixelAspectRatio=["1", "2"])
    assert decode_image(data).shape == DEEP.shape


def test_eight_bits_in_words_of_the_other_byte_order() -> None:
    grey = (DEEP // 16).astype(np.uint8)
    ds = described(grey)
    ds.PixelData = grey.view(np.uint16).byteswap().tobytes()
    ds["PixelData"].VR = "OW"
    assert np.array_equal(decode_image(saved(ds, BIG)), grey)
