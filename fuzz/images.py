"""Fuzzing of the image readers, on demand: `make fuzz`.

    python fuzz/images.py [SECONDS] [--plain] [--seed N] [--without gdcm,openjpeg,jpeg_ls]

Changed images of every format and compression go through `images.decode` and `images.dicom.header`. Whatever is raised
other than ImageError, an answer that is no grey image, a native crash, a minute for one image or too much memory is a
finding, and leaves the image in `fuzz/found/`. With atheris (`pip install 'mococxr[fuzz]'`) the changes are guided by
coverage and the first finding ends the run. Without it, or by `--plain`, they are drawn at random, inputs that lead to an
answer not seen before are changed further, and the run goes on after a finding in a process of its own until its time is
over. `--without` leaves native decoders out, to see past a crash that is known.
"""

from __future__ import annotations

import argparse
import faulthandler
import hashlib
import io
import os
import re
import resource
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from contextlib import nullcontext, suppress
from pathlib import Path
from random import Random
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
try:
    import atheris
except ImportError:
    atheris = None
READERS = ["mococxr.images", "pydicom.filereader", "pydicom.sequence"]
with atheris.instrument_imports(include=READERS) if atheris else nullcontext():
    from mococxr.images import Reading, decode, dicom

import cv2
import numpy as np
import tifffile
from PIL import Image

import dicom_images as written
from mococxr.errors import ImageError

MAX_PIXELS = 250_000
LONGEST = 16_384
"""Bytes of an input."""
SECONDS, MEMORY = 60, 4 << 30
"""What one image may take; of memory the address space of the process."""
FOUND = HERE / "found"


def seeds() -> list[bytes]:
    """One small image of every kind."""
    deep = np.random.default_rng(0).integers(0, 4096, (32, 36)).astype(np.uint16)
    small = (deep // 16).astype(np.uint8)
    colours = np.stack([small, small[::-1], small[:, ::-1]], -1)
    return [*files(small, deep, colours), *archives(small, deep, colours)]


def files(small: np.ndarray, deep: np.ndarray, colours: np.ndarray) -> list[bytes]:
    """PNG, JPEG, TIFF, BMP, WebP and JPEG 2000."""
    images = [bytes(cv2.imencode(kind, small)[1]) for kind in (".png", ".jpg", ".tif", ".bmp")]
    images += [bytes(cv2.imencode(kind, deep)[1]) for kind in (".png", ".tif")]
    exif = Image.Exif()
    exif[0x112] = 6
    grey, colour = Image.fromarray(small), Image.fromarray(colours)
    ways: list[tuple[Image.Image, str, dict[str, Any]]] = [
        (colour, "JPEG", {"progressive": True, "exif": exif}), (colour.convert("CMYK"), "JPEG", {}),
        (colour.convert("P"), "PNG", {"exif": exif}), (grey.convert("1"), "TIFF", {"compression": "group4"}),
        (colour, "WEBP", {"lossless": True, "exif": exif}), (colour.convert("RGBA"), "WEBP", {}), (grey, "WEBP", {}),
        (grey, "JPEG2000", {}), (colour, "JPEG2000", {"no_jp2": True}), (Image.fromarray(deep), "JPEG2000", {}),
    ]  # fmt: skip
    for image, kind, options in ways:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        images.append(stream.getvalue())
    turned = [(274, "H", 1, 6, True), (281, "H", 1, 4095, True)]
    for array, how in (
        (small, {"tile": (16, 16)}), (deep, {"tile": (16, 16), "byteorder": ">"}), (deep, {"bigtiff": True}),
        (colours, {"photometric": "rgb", "tile": (16, 16), "compression": "deflate"}),
    ):  # fmt: skip
        stream = io.BytesIO()
        tifffile.imwrite(stream, array, metadata=None, extratags=turned, **how)  # type: ignore[arg-type]
        images.append(stream.getvalue())
    text = b"Raw profile type exif\0\0" + zlib.compress(b"\nexif\n 8\n" + exif.tobytes().hex().encode())
    chunk = struct.pack(">I4s", len(text), b"zTXt") + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    images.append(images[0][:33] + chunk + images[0][33:])
    rows = np.pad(small[::-1], ((0, 0), (0, -small.shape[1] % 4)))
    palette = b"".join(bytes([i] * 3) for i in range(256))
    sides = struct.pack("<IHHHH", 12, small.shape[1], small.shape[0], 1, 8)
    images.append(b"BM" + struct.pack("<IHHI", 26 + 768 + rows.size, 0, 0, 26 + 768) + sides + palette + rows.tobytes())
    return images


def archives(small: np.ndarray, deep: np.ndarray, colours: np.ndarray) -> list[bytes]:
    """DICOM in every transfer syntax that the writers here have."""
    window: dict[str, Any] = {"BitsStored": 12, "WindowCenter": ["2000", "9000"], "WindowWidth": ["900", "9"]}
    ways = [written.EXPLICIT, written.IMPLICIT, written.BIG, written.DEFLATED, written.RLE, written.LOSSLESS]
    ways += [written.LOSSLESS_FIRST, written.LS, written.LS_NEAR, written.J2K_LOSSLESS, written.J2K]
    images = [written.image(deep, way, **window) for way in ways]
    images += [written.image(small, written.BASELINE), written.image(colours, written.RLE, SOPClassUID=written.SC)]
    lut = written.tables(written.table(np.arange(4096), 0, 12, "NORMAL"))
    more = {"PixelPaddingValue": 5, "PixelPaddingRangeLimit": 9, "LargestImagePixelValue": 4095, "RescaleSlope": "2"}
    more |= {"BodyPartExamined": "CHEST", "PixelSpacing": ["0.2", "0.1"], "PhotometricInterpretation": "MONOCHROME1"}
    images.append(written.image(deep, BitsStored=12, VOILUTSequence=lut, ModalityLUTSequence=lut, **more))
    images.append(written.image(deep.astype(np.int16) - 2048, NumberOfFrames=1, **more))
    palette = {f"{name}PaletteColorLookupTableDescriptor": [256, 0, 16] for name in ("Red", "Green", "Blue")}
    palette |= {f"{name}PaletteColorLookupTableData": bytes(512) for name in ("Red", "Green", "Blue")}
    images.append(written.image(small, PhotometricInterpretation="PALETTE COLOR", SOPClassUID=written.SC, **palette))
    return [*images, written.without_meta(images[0])]


def one(data: bytes) -> str:
    """One image: its header, then its pixels; returns what came of it, in words without numbers."""
    with suppress(ImageError):
        dicom.header(data)
    try:
        image = decode(data, Reading(max_pixels=MAX_PIXELS))
    except ImageError as error:
        return re.sub(r"\d[\d,.]*", "N", str(error))
    assert image.pixels.dtype == np.uint8, image.pixels.dtype
    assert image.pixels.ndim == 2, image.pixels.shape
    assert 0 < image.pixels.size <= MAX_PIXELS, image.pixels.shape
    return f"read: {' '.join(image.remarks)} {image.pixels.size.bit_length()} {int(image.pixels.mean()) >> 5}"


# --- without atheris: changes at random


def change(data: bytes, others: list[bytes], random: Random) -> bytes:
    """Some changes, one upon the other."""
    changed = bytearray(data)
    for _ in range(random.choice((1, 1, 2, 3, 5, 9))):
        random.choice(CHANGES)(changed, others, random)
    if changed[:4] == b"\x89PNG" and random.random() < 0.8:
        mend_sums(changed)
    return bytes(changed[:LONGEST])


def position(data: bytearray, random: Random) -> int:
    """A place in the data, mostly in the header."""
    end = len(data) if random.random() < 0.4 else min(len(data), 1024)
    return random.randrange(end) if end else 0


def flip(data: bytearray, _: list[bytes], random: Random) -> None:
    """One bit."""
    if data:
        data[position(data, random)] ^= 1 << random.randrange(8)


def number(data: bytearray, _: list[bytes], random: Random) -> None:
    """A number of 1, 2, 4 or 8 bytes that decoders stumble over."""
    form = random.choice("BHIQ")
    bits = 8 * struct.calcsize(form)
    value = random.choice(
        (0, 1, 2, 7, 255, 256, 1 << 15, 1 << 16, 1 << 31, -1, -2, 0xFFD9, 0xFFDA, random.getrandbits(bits))
    )
    packed = struct.pack(random.choice("<>") + form, value & ((1 << bits) - 1))
    at = position(data, random)
    data[at : at + len(packed)] = packed


def nudge(data: bytearray, _: list[bytes], random: Random) -> None:
    """A byte a little more or less."""
    if data:
        at = position(data, random)
        data[at] = (data[at] + random.randrange(-9, 10)) % 256


def cut(data: bytearray, _: list[bytes], random: Random) -> None:
    """A stretch away, or all from a place on."""
    at = position(data, random)
    del data[at : at + random.choice((1, 2, 4, 12, 100, LONGEST))]


def repeat(data: bytearray, _: list[bytes], random: Random) -> None:
    """A stretch again."""
    at, size = position(data, random), random.choice((1, 4, 12, 100, 1000))
    data[at:at] = data[at : at + size] * random.choice((1, 1, 3))


def splice(data: bytearray, others: list[bytes], random: Random) -> None:
    """A stretch of another input."""
    other = random.choice(others)
    at, start, size = position(data, random), random.randrange(len(other) or 1), random.choice((2, 8, 32, 200, 4000))
    data[at : at + (size if random.random() < 0.5 else 0)] = other[start : start + size]


def mend_sums(data: bytearray) -> None:
    """The checksums of a PNG's chunks, without which a decoder looks no further."""
    at = 8
    while at + 12 <= len(data):
        end = at + 8 + struct.unpack_from(">I", data, at)[0]
        if end + 4 > len(data):
            break
        struct.pack_into(">I", data, end, zlib.crc32(data[at + 4 : end]))
        at = end + 4


CHANGES: tuple[Callable[[bytearray, list[bytes], Random], None], ...] = (
    flip,
    number,
    number,
    nudge,
    cut,
    repeat,
    splice,
)


def work(until: float, seed: int) -> None:
    """Change and read until the time is over; the image being read lies in `found/last`, and the counts are said."""
    limit = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, limit))
    random, known = Random(seed), set[str]()
    pool, done = list(SEEDS), 0
    last = os.open(FOUND / "last", os.O_RDWR | os.O_CREAT)
    while time.time() < until:
        data = change(random.choice(pool if random.random() < 0.7 else SEEDS), pool, random)
        os.ftruncate(last, 0)
        os.pwrite(last, data, 0)
        faulthandler.dump_traceback_later(SECONDS, exit=True)
        try:
            answer = one(data)
        finally:
            faulthandler.cancel_dump_traceback_later()
        done += 1
        if answer not in known:
            known.add(answer)
            pool.append(data)
        if done % 500 == 0:
            (FOUND / "count").write_text(f"{done} {len(known)}")
    (FOUND / "count").write_text(f"{done} {len(known)}")
    os.unlink(FOUND / "last")


def run_plain(seconds: float, seed: int, options: list[str]) -> int:
    """Run `work` in processes until the time is over, and keep what each died of; returns the number of findings."""
    until, total, answers, found = time.time() + seconds, 0, 0, 0
    while time.time() < until - 1:
        (FOUND / "count").write_text("0 0")
        command = [sys.executable, __file__, "--until", str(until), "--seed", str(seed), *options]
        ended = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace")
        done, known = map(int, (FOUND / "count").read_text().split())
        total, answers, seed = total + done, max(answers, known), seed + 1
        if ended.returncode:
            found += 1
            data = (FOUND / "last").read_bytes() if (FOUND / "last").exists() else b""
            name = hashlib.sha256(data).hexdigest()[:12]
            (FOUND / f"finding-{name}").write_bytes(data)
            (FOUND / f"finding-{name}.txt").write_text(f"exit status {ended.returncode}\n{ended.stderr}")
            print(f"finding-{name}: exit status {ended.returncode}: {ended.stderr.strip()[-300:]}", flush=True)  # noqa: T201
    print(f"{total:,} images read (to the last 500 before a finding), {answers} answers, {found} findings")  # noqa: T201
    return found


def run_guided(seconds: int) -> None:
    """Fuzz by coverage; ends the process."""
    corpus = HERE / "corpus"
    corpus.mkdir(exist_ok=True)
    for i, image in enumerate(SEEDS):
        (corpus / f"seed-{i:02}").write_bytes(image)
    limits = ["-rss_limit_mb=2048", f"-timeout={SECONDS}", f"-max_len={LONGEST}", f"-artifact_prefix={FOUND}/"]
    atheris.Setup([sys.argv[0], f"-max_total_time={seconds}", *limits, str(corpus)], one)
    atheris.Fuzz()


def main() -> None:
    """Fuzz for the seconds asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("seconds", nargs="?", type=int, default=600)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--without", default="")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)
    given = parser.parse_args()
    for module in filter(None, given.without.split(",")):
        sys.modules[module] = None  # type: ignore[assignment]
    FOUND.mkdir(exist_ok=True)
    if given.until is None and (given.plain or atheris is None):
        sys.exit(run_plain(given.seconds, given.seed, ["--without", given.without]) > 0)
    for image in SEEDS:
        one(image)  # decoders that start slowly are started
    if given.until is not None:
        work(given.until, given.seed)
    else:
        run_guided(given.seconds)


SEEDS = seeds()  # before a decoder is left out: the writers need it
if __name__ == "__main__":
    main()
