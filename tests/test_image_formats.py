"""TIFF in tiles, bitmaps of OS/2, WebP and JPEG 2000 against other decoders; orientations wherever a file says one."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageOps

from mococxr.errors import ImageError
from mococxr.images import SUFFIXES, Reading, decode_image, read_image
from mococxr.preparation import prepare
from small_images import settings

GREY = np.add.outer(np.arange(64) * 2, np.arange(80)).astype(np.uint8)
DEEP = np.add.outer(np.arange(64) * 700, np.arange(80) * 250).astype(np.uint16)
COLOURS = np.stack([GREY, 255 - GREY, GREY[::-1]], -1)
LUMA = np.asarray(Image.fromarray(COLOURS).convert("L")).astype(int)


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def tiff(array: np.ndarray, orientation: int, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, array, metadata=None, extratags=[(274, "H", 1, orientation, True)], **options)
    return stream.getvalue()


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """By Pillow."""
    exif = Image.Exif()
    exif[0x112] = orientation
    image = Image.fromarray(array)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(saved(image, "PNG", exif=exif))))
    return np.asarray(turned)


TILED: dict[str, dict[str, Any]] = {
    "tiles": {"tile": (32, 32)},
    "one tile": {"tile": (64, 96)},
    "tiles, deflate, big endian": {"tile": (16, 48), "compression": "deflate", "byteorder": ">"},
    "tiles, big": {"tile": (32, 32), "bigtiff": True},
    "strips": {"rowsperstrip": 10},
}


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("way", TILED)
def test_a_tiff_in_tiles_is_turned_as_a_whole(way: str, orientation: int) -> None:
    expected = upright(GREY, orientation)
    assert np.array_equal(decode_image(tiff(GREY, orientation, **TILED[way])), expected)
    assert np.array_equal(decode_image(tiff(255 - GREY, orientation, photometric="miniswhite", **TILED[way])), expected)
    deep = decode_image(tiff(GREY.astype(np.uint16) * 257, orientation, **TILED[way]))
    assert np.array_equal(deep, expected)
    colours = decode_image(tiff(COLOURS, orientation, photometric="rgb", **TILED[way]))
    assert np.abs(colours - upright(LUMA.astype(np.uint8), orientation).astype(int)).max() <= 1


def test_an_orientation_that_is_none_or_said_twice_turns_nothing_twice() -> None:
    for orientation in (0, 9):
        assert np.array_equal(decode_image(tiff(GREY, orientation, tile=(32, 32))), GREY)
    data = bytearray(tiff(GREY, 3, tile=(32, 32)))
    start = struct.unpack_from("<I", data, 4)[0]
    entries = [start + 2 + 12 * i for i in range(struct.unpack_from("<H", data, start)[0])]
    spare = next(at for at in entries if struct.unpack_from("<H", data, at)[0] in (305, 306, 282, 296))
    turned = next(at for at in entries if struct.unpack_from("<H", data, at)[0] == 274)
    data[spare : spare + 12] = data[turned : turned + 12]
    assert np.array_equal(decode_image(bytes(data)), GREY[::-1, ::-1])


def os2(bits: int, head: int = 12) -> bytes:
    """A bitmap with the header of OS/2 1 (12 bytes) or 2 (16, 64), bottom row first; its index is grey i."""
    height, width = GREY.shape
    levels = 1 << min(bits, 8)
    pixels = GREY[::-1].astype(int) * levels // 256
    if bits == 24:
        raw = np.repeat(GREY[::-1, :, None], 3, -1).reshape(height, -1)
    else:
        spread = (pixels[..., None] >> np.arange(bits - 1, -1, -1)) & 1
        raw = np.packbits(spread.reshape(height, -1).astype(np.uint8), axis=1)
    raw = np.pad(raw, ((0, 0), (0, -raw.shape[1] % 4)))
    step = 3 if head == 12 else 4
    palette = b"".join(bytes([i * 255 // (levels - 1)] * 3 + [0])[:step] for i in range(levels)) if bits < 24 else b""
    sides = struct.pack("<IHHHH" if head == 12 else "<IiiHH", head, width, height, 1, bits)
    offset = 14 + head + len(palette)
    return (
        b"BM"
        + struct.pack("<IHHI", offset + raw.size, 0, 0, offset)
        + sides.ljust(head, b"\0")
        + palette
        + raw.tobytes()
    )


@pytest.mark.parametrize("bits", [1, 4, 8, 24])
def test_bitmaps_of_os2_agree_with_another_decoder(bits: int) -> None:
    for head in (12, 64):
        data = os2(bits, head)
        other = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
        assert other.shape == GREY.shape
        assert np.array_equal(decode_image(data), other)
    with pytest.raises(ImageError, match="truncated"):
        decode_image(os2(bits)[:-1])


def test_a_bitmap_of_the_short_header_of_os2_is_refused_for_what_it_is() -> None:
    with pytest.raises(ImageError, match="a header of 16 bytes"):
        decode_image(os2(8, 16))


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def profile(orientation: int) -> bytes:
    """An Exif block as ImageMagick writes it into a text chunk."""
    exif = Image.Exif()
    exif[0x112] = orientation
    block = exif.tobytes()
    return b"\nexif\n%8d\n" % len(block) + block.hex().encode()


def xmp(orientation: int, form: str) -> bytes:
    return b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description ' + form.encode() % orientation + b"</x:xmpmeta>"


TEXTS = {
    "packed profile": lambda n: chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(profile(n))),
    "profile": lambda n: chunk(b"tEXt", b"Raw profile type exif\0" + profile(n)),
    "APP1": lambda n: chunk(b"zTXt", b"Raw profile type APP1\0\0" + zlib.compress(profile(n))),
    "international": lambda n: chunk(b"iTXt", b"Raw profile type exif\0\0\0\0\0" + profile(n)),
    "XMP": lambda n: chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + xmp(n, 'tiff:Orientation="%d"/>')),
    "XMP, element": lambda n: chunk(
        b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(xmp(n, "><tiff:Orientation>%d</tiff:Orientation>"))
    ),
}


@pytest.mark.parametrize("way", TEXTS)
@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_png_says_its_orientation_in_its_texts_too(way: str, orientation: int) -> None:
    plain = saved(Image.fromarray(GREY), "PNG")
    told = plain[:33] + TEXTS[way](orientation) + plain[33:]
    assert np.array_equal(decode_image(told), upright(GREY, orientation))
    exif = Image.Exif()
    exif[0x112] = 2
    both = saved(Image.fromarray(GREY), "PNG", exif=exif)
    assert np.array_equal(decode_image(both[:33] + TEXTS[way](orientation) + both[33:]), GREY[:, ::-1])
    for junk in (b"", b"\0", b"exif 1 zz", bytes(300)):
        odd = plain[:33] + chunk(b"zTXt", b"Raw profile type exif\0\0" + junk) + plain[33:]
        assert np.array_equal(decode_image(odd), GREY)


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_webp_agrees_with_another_decoder(mode: str, lossless: bool) -> None:
    data = saved(Image.fromarray(COLOURS).convert(mode), "WEBP", lossless=lossless, quality=90)
    other = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").convert("L")).astype(int)
    assert np.abs(decode_image(data) - other).max() <= 1


def test_a_webp_is_turned_and_laid_over_black() -> None:
    exif = Image.Exif()
    for orientation in range(1, 9):
        exif[0x112] = orientation
        data = saved(Image.fromarray(GREY), "WEBP", lossless=True, exif=exif)
        assert np.array_equal(decode_image(data), upright(GREY, orientation))
    alpha = np.full_like(GREY, 255)
    alpha[:, 40:] = 128
    data = saved(Image.fromarray(np.dstack([GREY] * 3 + [alpha])), "WEBP", lossless=True, exact=True)
    assert np.array_equal(decode_image(data), (GREY.astype(int) * alpha + 127) // 255)


def test_a_webp_that_moves_is_cut_short_or_is_none_is_refused() -> None:
    still = Image.fromarray(GREY)
    moving = saved(still, "WEBP", save_all=True, append_images=[Image.fromarray(255 - GREY)])
    whole = saved(still, "WEBP", lossless=True)
    for data, reason in (
        (moving, "animated WebP"),
        (whole[:-2], "truncated"),
        (whole[:24], "truncated"),
        (b"RIFF" + struct.pack("<I", 30) + b"WAVEfmt " + bytes(40), "another RIFF file"),
        (b"RIFF" + struct.pack("<I", 40) + b"WEBPJUNK" + bytes(40), "does not begin with a picture"),
    ):
        with pytest.raises(ImageError, match=reason):
            decode_image(data)
    with pytest.raises(ImageError, match="80 x 64 pixels: over the limit"):
        decode_image(whole, Reading(max_pixels=5_000))


@pytest.mark.parametrize("bare", [True, False], ids=["codestream", "file"])
def test_jpeg_2000_agrees_with_another_decoder(bare: bool) -> None:
    for mode in ("L", "RGB", "RGBA"):
        data = saved(Image.fromarray(COLOURS).convert(mode), "JPEG2000", no_jp2=bare)
        other = np.asarray(Image.open(io.BytesIO(data)).convert("RGB").convert("L")).astype(int)
        assert np.abs(decode_image(data) - other).max() <= 1
    data = saved(Image.fromarray(DEEP), "JPEG2000", no_jp2=bare)
    assert np.array_equal(decode_image(data), (DEEP.astype(np.int64) * 510 + 65535) // (2 * 65535))
    lossy = saved(Image.fromarray(GREY), "JPEG2000", no_jp2=bare, quality_mode="rates", quality_layers=[8])
    assert np.abs(decode_image(lossy) - np.asarray(Image.open(io.BytesIO(lossy))).astype(int)).max() <= 1


@pytest.mark.parametrize("bits", [9, 10, 12, 14, 15])
def test_jpeg_2000_spans_the_bits_that_it_declares(bits: int) -> None:
    openjpeg = pytest.importorskip("openjpeg.utils", reason="no writer of JPEG 2000 of any depth")
    top = (1 << bits) - 1
    values = (DEEP.astype(np.int64) * top // DEEP.max()).astype(np.uint16)
    for form in (0, 1):
        data = bytes(openjpeg.encode_array(values, bits, 2, codec_format=form))
        assert np.array_equal(decode_image(data), (values.astype(np.int64) * 510 + top) // (2 * top))
        signed = bytes(openjpeg.encode_array(values.astype(np.int16) // 2, bits, 2, codec_format=form))
        with pytest.raises(ImageError, match="signed samples"):
            decode_image(signed)


def test_jpeg_2000_that_is_cut_short_or_of_a_kind_not_read_is_refused() -> None:
    plain, bare = (saved(Image.fromarray(GREY), "JPEG2000", no_jp2=bare) for bare in (False, True))
    start = plain.index(b"jp2c") - 4
    two = plain[:start] + (struct.pack(">I", len(plain) - start) + plain[start + 4 :]) * 2
    grey_and_alpha = saved(Image.fromarray(GREY).convert("LA"), "JPEG2000")
    coarse = bytearray(bare)
    coarse[42] = 3
    header = plain.index(b"jp2h") - 4
    size = struct.unpack_from(">I", plain, header)[0]
    palette = plain[:header] + struct.pack(">I", size + 12) + plain[header + 4 : header + size]
    palette += struct.pack(">I", 12) + b"pclr" + bytes(4) + plain[header + size :]
    for data, reason in (
        (plain[:-40], "truncated"), (bare[:-40], "truncated"), (bare[:60], "truncated"), (plain[:100], "truncated"),
        (two, "2 images"), (grey_and_alpha, "2 components"), (bytes(coarse), "4 bits"), (palette, "palette"),
        (plain[:start], "0 images"),
    ):  # fmt: skip
        with pytest.raises(ImageError, match=reason):
            decode_image(data)
    stream = io.BytesIO()
    still = Image.fromarray(np.tile(GREY, (4, 4)))
    still.save(stream, "JPEG2000", no_jp2=True, tile_size=(64, 64))
    tiles = stream.getvalue()
    assert np.array_equal(decode_image(tiles), np.asarray(still))
    half = tiles.index(b"\xff\x90", len(tiles) // 2)
    for damaged in (tiles[:half] + b"\xff\xd9", tiles[:half] + tiles[half + 50 :], bare[:-60] + b"\xff\xd9"):
        with pytest.raises(ImageError, match="truncated"):
            decode_image(damaged)
    huge = bytearray(bare)
    huge[8:16] = struct.pack(">II", 60_000, 60_000)
    with pytest.raises(ImageError, match=r"over the limit|more tiles|truncated"):
        decode_image(bytes(huge))


def test_random_damage_of_these_formats_ends_in_an_image_or_a_reason() -> None:
    random = np.random.default_rng(3)
    still = Image.fromarray(GREY)
    files = [saved(still, "WEBP", lossless=True), saved(still, "WEBP"), saved(still, "JPEG2000"), os2(8)]
    files += [saved(still, "JPEG2000", no_jp2=True), tiff(GREY, 6, tile=(32, 32))]
    for data in files:
        for _ in range(60):
            broken = bytearray(data)
            for place in random.integers(0, min(len(broken), 200), 3):
                broken[place] = random.integers(256)
            with suppress(ImageError):
                assert decode_image(bytes(broken)).dtype == np.uint8


def test_these_files_are_seen_in_a_folder_and_read_by_content(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    still = Image.fromarray(GREY)
    kinds = {".webp": saved(still, "WEBP", lossless=True), ".gif": saved(still, "GIF"), ".png": saved(still, "PNG")}
    kinds |= {end: saved(still, "JPEG2000", no_jp2=end in (".j2k", ".j2c")) for end in (".jp2", ".j2k", ".j2c", ".jpx")}
    kinds[".JPG"] = kinds[".webp"]
    for end, data in kinds.items():
        (tmp_path / "in" / f"image{end}").write_bytes(data)
        assert (end.lower() in SUFFIXES) == (end != ".gif")
    assert np.array_equal(read_image(tmp_path / "in/image.JPG"), GREY)
    given: dict[str, Any] = {"format": "folder", "patients_unknown": True, "split": (1.0, 0.0, 0.0), "size": 64}
    store = prepare.run(settings(tmp_path / "in", tmp_path / "store", **given))
    assert len(store) == 7
    assert all(np.array_equal(store.pixels(i), GREY) for i in range(len(store)))
    assert "Not opened: .gif 1." in capsys.readouterr().err
