"""Images against other decoders (PIL, tifffile) and against arithmetic."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from mococxr.errors import ImageError, InputError
from mococxr.images import Reading, decode_image, read_image

GREY = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
DEEP = (np.arange(64 * 80).reshape(64, 80) * 12).astype(np.uint16)
NOISE = np.random.default_rng(0).integers(0, 255, (200, 200), dtype=np.uint8)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(array: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, **options)
    return stream.getvalue()


def packed_tiff(values: np.ndarray, bits: int, photometric: int = 1) -> bytes:
    """A grey TIFF whose samples take `bits` bits each, written by hand."""
    height, width = values.shape
    spread = ((values[..., None] >> np.arange(bits - 1, -1, -1)) & 1).astype(np.uint8)
    raw = np.packbits(spread.reshape(height, -1), axis=1).tobytes()
    tags = [(256, 3, width), (257, 3, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8 + 2 + 9 * 12 + 4), (277, 3, 1), (278, 3, height), (279, 4, len(raw))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", 0) + raw


def with_chunk(png: bytes, kind: bytes, body: bytes) -> bytes:
    """Put one chunk behind a PNG's header."""
    chunk = struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
    return png[:33] + chunk + png[33:]


def eighth(values: np.ndarray, top: int) -> np.ndarray:
    """0..top -> 0..255 in whole numbers, rounded half up."""
    return (values.astype(np.int64) * 510 + top) // (2 * top)


def test_a_big_tiff_whose_directory_lies_beyond_any_memory_is_cut_short() -> None:
    data = bytearray(tiff(DEEP, bigtiff=True))
    for offset in (2**63, 2**64 - 1, len(data) + 1):
        data[8:16] = struct.pack("<Q", offset)
        with pytest.raises(ImageError, match="truncated"):
            decode_image(bytes(data))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_an_eight_bit_image_comes_back_value_for_value(kind: str) -> None:
    assert np.array_equal(decode_image(saved(Image.fromarray(GREY), kind)), GREY)


def test_a_jpeg_agrees_with_another_decoder() -> None:
    data = saved(Image.fromarray(GREY), "JPEG", quality=90)
    other = np.asarray(Image.open(io.BytesIO(data))).astype(int)
    assert np.abs(decode_image(data) - other).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA"])
def test_every_kind_of_png_agrees_with_another_decoder(mode: str) -> None:
    image = Image.fromarray(GREY).convert(mode)
    assert np.array_equal(decode_image(saved(image, "PNG")), np.asarray(image.convert("L")))


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits", "tiff_adobe_deflate"])
def test_every_lossless_tiff_compression_is_read(compression: str | None) -> None:
    assert np.array_equal(decode_image(saved(Image.fromarray(GREY), "TIFF", compression=compression)), GREY)


def test_three_equal_channels_give_exactly_that_channel() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(4).reshape(32, 32)
    assert np.array_equal(decode_image(saved(Image.fromarray(np.stack([every] * 3, -1)), "PNG")), every)
    deep = tiff(np.stack([DEEP] * 3, -1), photometric="rgb")
    assert np.array_equal(decode_image(deep), eighth(DEEP, 65535))
    planes = tiff(np.stack([GREY] * 3), photometric="rgb", planarconfig="separate")
    assert np.array_equal(decode_image(planes), GREY)


def test_a_coloured_image_becomes_luma() -> None:
    colour = np.random.default_rng(1).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    other = np.asarray(Image.fromarray(colour).convert("L")).astype(int)
    assert np.abs(decode_image(saved(Image.fromarray(colour), "PNG")) - other).max() <= 1


def test_sixteen_bits_map_the_full_range_and_not_the_values_seen() -> None:
    for data in (saved(Image.fromarray(DEEP), "PNG"), tiff(DEEP), tiff(DEEP, bigtiff=True, byteorder=">")):
        assert np.array_equal(decode_image(data), eighth(DEEP, 65535))


def test_a_declared_twelve_bit_depth_is_honoured() -> None:
    twelve = DEEP >> 4
    declared = tiff(twelve, extratags=[(281, 3, 1, 4095, True)])
    assert np.array_equal(decode_image(declared), eighth(twelve, 4095))
    seen = tiff(twelve, extratags=[(281, 3, 1, int(twelve.max()), True)])
    assert np.array_equal(decode_image(seen), eighth(twelve, 4095))
    high = saved(Image.fromarray(twelve << 4), "PNG")
    assert np.array_equal(decode_image(with_chunk(high, b"sBIT", b"\x0c")), eighth(twelve, 4095))


def test_a_false_declaration_of_depth_does_not_burn_the_image_out() -> None:
    data = tiff(DEEP, extratags=[(281, 3, 1, 4095, True)])
    assert np.array_equal(decode_image(data), eighth(DEEP, 65535))


@pytest.mark.parametrize("bits", [8, 10, 12, 14])
@pytest.mark.parametrize("photometric", [0, 1])
def test_packed_samples_of_a_tiff_span_black_to_white(bits: int, photometric: int) -> None:
    top = 2**bits - 1
    values = np.arange(64 * 80).reshape(64, 80) % (top + 1)
    expected = eighth(values if photometric else top - values, top)
    assert np.array_equal(decode_image(packed_tiff(values, bits, photometric)), expected)


def test_white_is_zero_is_inverted_at_eight_and_at_sixteen_bits() -> None:
    assert np.array_equal(decode_image(tiff(GREY, photometric="miniswhite")), 255 - GREY)
    deep = tiff(DEEP, photometric="miniswhite", tile=(16, 16), compression="deflate")
    assert np.array_equal(decode_image(deep), eighth(65535 - DEEP.astype(int), 65535))
    declared = tiff(DEEP >> 4, photometric="miniswhite", extratags=[(281, 3, 1, 4095, True)])
    assert np.array_equal(decode_image(declared), eighth(4095 - (DEEP.astype(int) >> 4), 4095))


def test_bilevel_tiffs_agree_with_another_decoder() -> None:
    image = Image.fromarray(GREY).convert("1")
    for compression in (None, "group4"):
        data = saved(image, "TIFF", compression=compression)
        assert np.array_equal(decode_image(data), np.asarray(image.convert("L")))


def test_a_percentile_window_stretches_deep_images_only() -> None:
    low, high = np.percentile(DEEP, [0.5, 99.5])
    expected = np.clip((DEEP - low) / (high - low), 0, 1) * 255
    assert np.abs(decode_image(tiff(DEEP), Reading(depth="0.5:99.5")) - expected).max() <= 0.5
    assert np.array_equal(decode_image(saved(Image.fromarray(GREY), "PNG"), Reading(depth="0.5:99.5")), GREY)
    flat = np.full((32, 32), 32768, np.uint16)
    assert decode_image(tiff(flat), Reading(depth="0.5:99.5")).max() == 128


@pytest.mark.parametrize("text", ["", "half", "5", "90:10", "-1:50", "0:101", "nan:5", "0:nan"])
def test_a_window_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="depth"):
        decode_image(tiff(DEEP), Reading(depth=text))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_on_its_side_is_read_upright(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x112] = orientation
    for kind in ("PNG", "TIFF", "JPEG"):
        data = saved(Image.fromarray(GREY), kind, exif=exif)
        other = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data)))).astype(int)
        image = decode_image(data)
        assert image.shape == other.shape
        assert np.abs(image - other).max() <= (kind == "JPEG")
    other = decode_image(saved(Image.fromarray(GREY), "TIFF", exif=exif))
    deep = decode_image(tiff(GREY.astype(np.uint16) * 257, extratags=[(274, 3, 1, orientation, True)]))
    assert np.array_equal(deep, other)


def test_alpha_is_laid_over_black_only_where_it_says_something() -> None:
    alpha = np.full_like(GREY, 128)
    alpha[:, :40] = 255
    expected = (GREY.astype(int) * alpha + 127) // 255
    for bottom, wanted in ((alpha, expected), (alpha * 0, GREY), (alpha * 0 + 255, GREY)):
        image = saved(Image.fromarray(np.dstack([GREY, GREY, GREY, bottom])), "PNG")
        assert np.array_equal(decode_image(image), wanted)
    straight = np.stack([GREY, GREY, GREY, alpha], -1)
    data = tiff(straight, photometric="rgb", extrasamples=["unassalpha"])
    assert np.abs(decode_image(data).astype(int) - expected).max() <= 1
    wide = np.stack([GREY, GREY, GREY, alpha], -1).astype(np.uint16) * 257
    data = tiff(wide, photometric="rgb", extrasamples=["unassalpha"])
    assert np.abs(decode_image(data).astype(int) - expected).max() <= 1
    done = np.stack([GREY // 2, GREY // 2, GREY // 2, alpha], -1)
    data = tiff(done, photometric="rgb", extrasamples=["assocalpha"])
    assert np.array_equal(decode_image(data), GREY // 2)


def test_the_suffix_does_not_decide(tmp_path: Path) -> None:
    path = tmp_path / "image.jpg"
    path.write_bytes(saved(Image.fromarray(GREY), "PNG"))
    assert np.array_equal(read_image(path), GREY)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "BMP"])
@pytest.mark.parametrize("share", [0.0005, 0.02, 0.3, 0.6, 0.9, 0.99, 0.9999])
def test_a_truncated_image_is_an_error_and_not_half_grey(
    kind: str, options: dict, share: float, capfd: pytest.CaptureFixture[str]
) -> None:
    data = saved(Image.fromarray(NOISE), kind, **(options if kind == "JPEG" else {}))
    with pytest.raises(ImageError, match=r"truncated|cannot be decoded|not a PNG"):
        decode_image(data[: int(len(data) * share)])
    assert capfd.readouterr() == ("", "")


def test_an_image_damaged_inside_is_an_error_and_says_nothing_on_the_console(capfd: pytest.CaptureFixture[str]) -> None:
    jpeg, png = saved(Image.fromarray(NOISE), "JPEG"), saved(Image.fromarray(NOISE), "PNG")
    half = len(jpeg) // 2
    for data in (jpeg[:half] + b"\xff\xd9", jpeg[:half] + bytes(40) + jpeg[half + 40 :]):
        with pytest.raises(ImageError, match="damaged or truncated JPEG"):
            decode_image(data)
    with pytest.raises(ImageError, match="cannot be decoded"):
        decode_image(png[:9000] + bytes(40) + png[9040:])
    assert capfd.readouterr() == ("", "")


def test_a_huge_image_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mococxr.images.raster.cv2.imdecode", lambda *_: pytest.fail("it was decoded"))
    bomb = bytearray(saved(Image.fromarray(GREY), "PNG"))
    bomb[16:24] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(ImageError, match=r"60,000 x 60,000 pixels: over the limit of 120,000,000"):
        decode_image(bytes(bomb))
    for kind in ("JPEG", "TIFF", "BMP"):
        with pytest.raises(ImageError, match="80 x 64 pixels: over the limit of 5,000"):
            decode_image(saved(Image.fromarray(GREY), kind), Reading(max_pixels=5_000))


def test_the_reason_of_a_decoder_holds_neither_clock_nor_line() -> None:
    reasons = set()
    for _ in range(2):
        with pytest.raises(ImageError) as error:
            decode_image(saved(Image.fromarray(GREY), "TIFF", compression="lzma"))
        reasons.add(str(error.value))
    assert len(reasons) == 1
    assert "WARN" not in reasons.pop()


BAD = {
    "empty": (b"", "empty file"),
    "text": (b"these are words\n" * 20, "looks like text"),
    "zip": (b"PK\x03\x04" + bytes(300), "a zip archive: unpack it"),
    "gzip": (b"\x1f\x8b\x08" + bytes(300), "a gzip archive: unpack it"),
    "tar": (b"image.dcm" + bytes(248) + b"ustar\0" + bytes(300), "a tar archive: unpack it"),
    "gif": (saved(Image.fromarray(GREY), "GIF"), "looks like GIF"),
    "dicom": (bytes(128) + b"DICM" + bytes(100), "no pixel data"),
    "dicom that is a TIFF too": (b"II*\0" + bytes(124) + b"DICM", "without a header|no pixel data"),
    "magic and text": (b"\x89PNG\r\n\x1a\n" + b"words" * 30, "truncated|damaged|too small|over the limit"),
    "one pixel": (saved(Image.new("L", (1, 1)), "PNG"), "1 x 1 pixels: too small"),
    "no height": (saved(Image.new("L", (300, 15)), "TIFF"), "300 x 15 pixels: too small"),
    "float": (tiff(np.full((32, 32), np.nan, np.float32)), "floating-point"),
    "signed": (tiff(DEEP.astype(np.int16)), "signed"),
    "32 bits": (tiff(DEEP.astype(np.uint32)), "32 bits"),
    "pages": (tiff(np.stack([GREY, GREY]), photometric="minisblack"), "TIFF of 2 pages"),
    "planes": (tiff(np.stack([DEEP] * 3), photometric="rgb", planarconfig="separate"), "plane by plane"),
    "grey and alpha, deep": (
        tiff(np.stack([DEEP] * 2, -1), photometric="minisblack", planarconfig="contig"),
        "neither grey nor RGB",
    ),
    "4 bits": (packed_tiff(GREY % 16, 4), "cannot be decoded"),
    "no directory": (b"II*\0" + struct.pack("<I", 0) + bytes(40), "without an image"),
    "directory outside": (b"II*\0" + struct.pack("<I", 90_000) + bytes(40), "truncated"),
    "png of chunks": (
        saved(Image.fromarray(GREY), "PNG")[:33] + (struct.pack(">I", 0) + b"teXt" + bytes(4)) * 60_000,
        "more chunks",
    ),
    "jpeg of segments": (b"\xff\xd8" + b"\xff\xe1\0\2" * 60_000, "more segments"),
    "jpeg of fill": (b"\xff\xd8" + b"\xff" * 60_000, "more segments"),
    "tiff of entries": (b"II*\0" + struct.pack("<IH", 8, 5000) + bytes(12 * 5000 + 4), "more entries"),
    "tiff of values": (b"II*\0" + struct.pack("<IHHHII", 8, 1, 273, 1, 1 << 20, 0) + bytes(1 << 20), "more values"),
    "jpeg of nothing": (b"\xff\xd8\xff\xd9" + bytes(60), "damaged|truncated|too small"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_image_is_refused_with_its_reason(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    data, reason = BAD[name]
    with pytest.raises(ImageError, match=reason):
        decode_image(data)
    assert capfd.readouterr() == ("", "")


def test_random_damage_ends_in_an_image_or_a_reason() -> None:
    random = np.random.default_rng(3)
    images = [saved(Image.fromarray(GREY), kind) for kind in ("PNG", "JPEG", "TIFF", "BMP")]
    for data in images:
        for _ in range(100):
            broken = bytearray(data[: random.integers(1, len(data) + 1)])
            for place in random.integers(0, min(len(broken), 200), 3):
                broken[place] = random.integers(256)
            with suppress(ImageError):
                assert decode_image(bytes(broken)).dtype == np.uint8
