"""Broken and hostile DICOM files end in an image or in a reason: no crash, no hang, no flood of memory."""

from __future__ import annotations

import struct
import sys
import time
import tracemalloc
import zlib
from contextlib import suppress
from typing import Any

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dicom_images import (
    BASELINE,
    BIG,
    DEFLATED,
    DX,
    EXPLICIT,
    EXTENDED,
    IMPLICIT,
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
    without_meta,
)  # fmt: skip
from mococxr.errors import ImageError
from mococxr.images import Reading, decode_image
from mococxr.images.dicom import header

DEEP = np.random.default_rng(3).integers(0, 4096, (32, 40)).astype(np.uint16)
SMALL = (DEEP // 16).astype(np.uint8)
GREY = np.floor(DEEP / 4095 * 255 + 0.5).astype(np.uint8)
SYNTAXES = (EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE, LOSSLESS, LS, J2K_LOSSLESS)


def refused(data: bytes, **options: Any) -> str:
    """The reason, and that it came soon."""
    begun = time.monotonic()
    with pytest.raises(ImageError) as caught:
        decode_image(data, Reading(**options))
    assert time.monotonic() - begun < 20
    return str(caught.value)


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, BIG])
def test_a_file_without_preamble_and_meta_header_is_read(syntax: str) -> None:
    data = image(DEEP, syntax, BitsStored=12)
    for bare in (without_meta(data), data[128:]):
        assert np.array_equal(decode_image(bare), GREY)
        assert header(bare).modality == "DX"


@pytest.mark.parametrize("syntax", [EXPLICIT, IMPLICIT, RLE, LOSSLESS, LS, J2K_LOSSLESS])
@pytest.mark.parametrize("said", [None, EXPLICIT, IMPLICIT, RLE, BASELINE, "1.2.3"])
def test_a_missing_or_wrong_transfer_syntax_is_seen_through(syntax: str, said: str | None) -> None:
    ds = described(DEEP, BitsStored=12)
    if syntax in (EXPLICIT, IMPLICIT):
        ds.PixelData = DEEP.tobytes()
        ds["PixelData"].VR = "OW"
    else:
        ds.PixelData = pydicom.encaps.encapsulate([encoded(DEEP, syntax, ds)])
        ds["PixelData"].VR = "OB"
    data = saved(ds, syntax)
    length = struct.unpack_from("<I", data, 140)[0]
    meta = b"" if said is None else said.encode() + b"\0" * (len(said) % 2)
    element = b"\2\0\x10\0UI" + struct.pack("<H", len(meta)) + meta if said else b""
    group = b"\2\0\0\0UL\4\0" + struct.pack("<I", len(element))
    assert np.array_equal(decode_image(data[:132] + group + element + data[144 + length :]), GREY)


@pytest.mark.parametrize(
    "left_out",
    ["PhotometricInterpretation", "SamplesPerPixel", "BitsAllocated", "HighBit", "PixelRepresentation", "Modality"],
)
def test_what_is_missing_is_concluded_where_it_is_certain(left_out: str) -> None:
    assert np.array_equal(decode_image(image(DEEP, **{"BitsStored": 12, left_out: None})), GREY)


@pytest.mark.parametrize("share", [0.3, 0.6, 0.9, 0.99])
@pytest.mark.parametrize("syntax", [*SYNTAXES, BASELINE, EXTENDED])
def test_a_truncated_image_is_never_filled_up(syntax: str, share: float) -> None:
    cells = SMALL if syntax == BASELINE else DEEP
    data = image(cells, syntax, BitsStored=8 if syntax == BASELINE else 12)
    if syntax == DEFLATED:
        data = data[:400] + data[400 : int(len(data) * share)] if share > 0.5 else data[:500]
    assert refused(data[: int(len(data) * share)] if syntax != DEFLATED else data)


@pytest.mark.parametrize("syntax", [RLE, LOSSLESS, LS, J2K_LOSSLESS, BASELINE, EXTENDED])
def test_a_compressed_frame_that_ends_early_in_a_whole_file_is_never_filled_up(syntax: str) -> None:
    cells = SMALL if syntax == BASELINE else DEEP
    frame = encoded(cells, syntax, described(cells, BitsStored=8 if syntax == BASELINE else 12))
    for share in (0.4, 0.8, 0.97):
        assert refused(image(cells, syntax, frame[: int(len(frame) * share)], BitsStored=8))
    if syntax != RLE:  # a stream without its end marker
        assert "truncated" in refused(image(cells, syntax, frame.rstrip(b"\0")[:-2], BitsStored=8))


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"Rows": None}, "no image size"),
        ({"Rows": 33}, "truncated: 2,560 of 2,640 bytes"),
        ({"Rows": 65535, "Columns": 65535}, "over the limit"),
        ({"Rows": 8}, "too small"),
        ({"BitsAllocated": 32, "BitsStored": 32}, "32 bits a sample"),
        ({"BitsAllocated": 1, "BitsStored": 1}, "1 bits a sample"),
        ({"BitsStored": 12, "HighBit": 5}, "contradicts itself"),
        ({"BitsStored": 17, "HighBit": 16}, "contradicts itself"),
        ({"SamplesPerPixel": 4}, "4 samples"),
        ({"SamplesPerPixel": 3}, "3 samples a pixel of the kind MONOCHROME2"),
        ({"PhotometricInterpretation": "CMYK", "SamplesPerPixel": 4}, "CMYK"),
        ({"VOILUTSequence": tables(table(np.arange(16), 0, 12))}, None),
        ({"RescaleSlope": "1e300"}, "rescale"),
    ],
)
def test_contradictions_are_refused_with_their_reason(elements: dict[str, Any], reason: str | None) -> None:
    if reason is None:
        assert decode_image(image(DEEP, **elements)).shape == DEEP.shape
    else:
        assert reason in refused(image(DEEP, **elements))


def test_a_table_shorter_than_it_says_is_refused() -> None:
    item = table(np.arange(4096), 0, 12)
    item["LUTData"].value = item["LUTData"].value[:1000]
    assert "shorter" in refused(image(DEEP, VOILUTSequence=tables(item)))
    assert "shorter" in refused(image(DEEP, ModalityLUTSequence=tables(item)), voi="none")
    del item[0x00283002]
    assert "descriptor" in refused(image(DEEP, VOILUTSequence=tables(item)))


@pytest.mark.parametrize("syntax", [LOSSLESS, LS, J2K_LOSSLESS, BASELINE])
def test_a_stream_of_another_size_than_the_header_is_not_decoded(syntax: str) -> None:
    cells = SMALL if syntax == BASELINE else DEEP
    frame = encoded(cells, syntax, described(cells, BitsStored=12))
    assert "the compressed image has 40 x 32" in refused(image(cells, syntax, frame, Rows=33, BitsStored=8))


@pytest.mark.parametrize(("module", "syntax"), [("gdcm", LOSSLESS), ("jpeg_ls", LS), ("openjpeg", J2K_LOSSLESS)])
def test_a_decoder_that_is_not_installed_is_named_with_the_way_out(
    module: str, syntax: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = image(DEEP, syntax, BitsStored=12)
    monkeypatch.setitem(sys.modules, module, None)
    assert "pip install 'mococxr[dicom]'" in refused(data)


def test_a_decoder_that_crashes_takes_the_image_with_it_and_nothing_else() -> None:
    pytest.importorskip("gdcm")
    good = image(DEEP, LOSSLESS, BitsStored=12)
    assert np.array_equal(decode_image(good), GREY)
    frame = encoded(DEEP, LOSSLESS, described(DEEP, BitsStored=12))
    at = frame.index(b"\xff\xda")  # two bytes between its segments end the process that GDCM runs in
    assert "the decoder crashed on it" in refused(image(DEEP, LOSSLESS, frame[:at] + b"\xe4\x97" + frame[at:]))
    assert np.array_equal(decode_image(good), GREY)


def test_video_and_unknown_compressions_are_refused_by_name() -> None:
    ds = described(DEEP)
    ds.PixelData = pydicom.encaps.encapsulate([b"\0\0\1\xb3" + bytes(200)])
    ds["PixelData"].VR = "OB"
    assert "MPEG" in refused(saved(ds, "1.2.840.10008.1.2.4.100"))
    assert "no decoder here reads" in refused(saved(ds, RLE))


def element(tag: int, kind: bytes, value: bytes, length: int | None = None) -> bytes:
    """One explicit little-endian element, its length a lie where one is given."""
    head = struct.pack("<HH", tag >> 16, tag & 0xFFFF) + kind
    size = len(value) if length is None else length
    long = kind in (b"OB", b"OW", b"SQ", b"UN", b"UT")
    return head + (struct.pack("<HI", 0, size) if long else struct.pack("<H", size & 0xFFFF)) + value


ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\0\xe0", b"\xfe\xff\x0d\xe0\0\0\0\0", b"\xfe\xff\xdd\xe0\0\0\0\0"
OPEN = struct.pack("<I", 0xFFFFFFFF)
SEQUENCE = element(0x00081140, b"SQ", b"", 0xFFFFFFFF)
HEAD = bytes(128) + b"DICM" + element(0x00020010, b"UI", EXPLICIT.encode() + b"\0")
HEAD += element(0x00080016, b"UI", DX.encode() + b"\0")
HOSTILE = {
    "nested 20,000 deep": HEAD + (SEQUENCE + ITEM + OPEN) * 20_000,
    "many empty items": HEAD + SEQUENCE + (ITEM + bytes(4)) * 150_000 + SEQUENCE_END,
    "many empty elements": HEAD + element(0x00091001, b"LO", b"") * 150_000,
    "many table items": HEAD + element(0x00283010, b"SQ", (ITEM + bytes(4)) * 150_000),
    "a sequence that never ends": HEAD + SEQUENCE + ITEM + OPEN,
    "a length of four gigabytes": HEAD + element(0x00091001, b"OB", b"abc", 0xFFFFFFF0),
    "pixels of four gigabytes": HEAD + element(0x7FE00010, b"OW", b"abc", 0xFFFFFFF0),
    "no pixels": HEAD,
    "no element": HEAD[:132],
    "an unknown representation": HEAD + element(0x00280002, b"U\0", b"") + element(0x00280010, b"ZZ", b""),
    "half a tag": HEAD + b"\x10",
    "fragments without end": image(DEEP, RLE)[:-8] + (ITEM + bytes(4)) * 150_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_structure_is_refused_soon(name: str) -> None:
    assert refused(HOSTILE[name])


def test_a_deflated_bomb_is_not_blown_up() -> None:
    plain = without_meta(image(DEEP, EXPLICIT, BitsStored=12))
    meta = image(DEEP, DEFLATED)
    meta = meta[: 144 + struct.unpack_from("<I", meta, 140)[0]]
    packer = zlib.compressobj(9, wbits=-15)
    zeros = element(0x00091001, b"OB", b"", 80_000_000)
    bomb = meta + packer.compress(plain[:100] + zeros)
    for _ in range(8):
        bomb += packer.compress(bytes(10_000_000))
    bomb += packer.flush()
    tracemalloc.start()
    try:
        assert refused(bomb, max_pixels=1_000_000)
        assert tracemalloc.get_traced_memory()[1] < 60 << 20
    finally:
        tracemalloc.stop()


def test_a_deflated_image_of_the_largest_size_is_read_whole() -> None:
    colours = np.full((1500, 1500, 3), 0xFFFF, np.uint16)  # more than 4 bytes a pixel and 4 MiB
    grey = decode_image(image(colours, DEFLATED, SOPClassUID=SC), Reading(max_pixels=1500 * 1500))
    assert np.array_equal(grey, np.full((1500, 1500), 255))


def test_a_run_length_bomb_stops_at_the_size_declared() -> None:
    frame = struct.pack("<16I", 2, 64, 64 + 2_000_000, *[0] * 13) + b"\x81\0" * 2_000_000
    assert decode_image(image(DEEP, RLE, frame)).max() == 0


def test_a_jpeg_2000_of_more_tiles_than_can_be_is_refused() -> None:
    frame = bytearray(encoded(DEEP, J2K_LOSSLESS, described(DEEP, BitsStored=12)))
    frame[24:32] = struct.pack(">II", 0, 1)
    assert "JPEG 2000" in refused(image(DEEP, J2K_LOSSLESS, bytes(frame)))


def test_damage_in_a_compressed_frame_is_a_reason_or_an_image_and_says_nothing_elsewhere(
    capfd: pytest.CaptureFixture[str],
) -> None:
    generator = np.random.default_rng(0)
    for syntax in (RLE, LS, J2K_LOSSLESS, BASELINE):
        cells = SMALL if syntax == BASELINE else DEEP
        frame = encoded(cells, syntax, described(cells, BitsStored=12))
        for _ in range(30):
            broken = bytearray(frame)
            for at in generator.integers(2, len(frame), 4):
                broken[at] = generator.integers(256)
            ends_in_image_or_reason(image(cells, syntax, bytes(broken), BitsStored=8))
    assert capfd.readouterr() == ("", "")


def ends_in_image_or_reason(data: bytes) -> None:
    """Decoding and reading the header raise nothing but ImageError."""
    for read in (header, lambda data: decode_image(data, Reading(max_pixels=1_000_000))):
        with suppress(ImageError):
            read(data)


SEEDS = [
    image(DEEP, syntax, BitsStored=12, WindowCenter="2000", WindowWidth="900")
    for syntax in (EXPLICIT, IMPLICIT, BIG, DEFLATED, RLE, LS, J2K_LOSSLESS)
]
SEEDS.append(image(DEEP, BitsStored=12, VOILUTSequence=tables(table(np.arange(4096), 0, 12)), NumberOfFrames=1))


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(SEEDS), st.data())
def test_any_change_of_a_few_bytes_ends_in_an_image_or_a_reason(seed: bytes, data: st.DataObject) -> None:
    broken = bytearray(seed)
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(128, min(len(seed) - 1, 1200)))
        kind = data.draw(st.sampled_from(["byte", "word", "drop", "repeat"]))
        if kind == "byte":
            broken[place : place + 1] = bytes([data.draw(st.integers(0, 255))])
        elif kind == "word":
            broken[place : place + 4] = data.draw(st.sampled_from([b"\xff" * 4, bytes(4), b"\xfe\xff\0\xe0", OPEN]))
        elif kind == "drop":
            del broken[place : place + data.draw(st.integers(1, 40))]
        else:
            broken[place:place] = broken[place : place + data.draw(st.integers(1, 40))]
    ends_in_image_or_reason(bytes(broken))
