"""Coverage-guided fuzzing of the image readers, on demand: `make fuzz`.

    python fuzz/images.py [SECONDS] [--without gdcm,openjpeg,jpeg_ls]

Changed images of every format and compression go through `images.decode_image` and `images.dicom.header`. Whatever is
raised other than ImageError, a native crash, 20 seconds for one image or 2 GiB of memory ends the run and leaves the
image in `fuzz/found/`. `--without` leaves native decoders out, to see past a crash that is known.
"""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import atheris

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests"))
with atheris.instrument_imports(include=["mococxr.images", "pydicom.filereader", "pydicom.sequence"]):
    from mococxr.images import Reading, decode_image, dicom

import cv2
import numpy as np

import dicom_images as written
from mococxr.errors import ImageError

MAX_PIXELS = 250_000


def seeds() -> list[bytes]:
    """One small image of every kind."""
    deep = np.random.default_rng(0).integers(0, 4096, (32, 36)).astype(np.uint16)
    small = (deep // 16).astype(np.uint8)
    colours = np.stack([small, small[::-1], small[:, ::-1]], -1)
    images = [bytes(cv2.imencode(kind, small)[1]) for kind in (".png", ".jpg", ".tif", ".bmp")]
    images += [bytes(cv2.imencode(kind, deep)[1]) for kind in (".png", ".tif")]
    window: dict[str, Any] = {"BitsStored": 12, "WindowCenter": "2000", "WindowWidth": "900"}
    ways = (written.EXPLICIT, written.IMPLICIT, written.BIG, written.DEFLATED, written.RLE, written.LOSSLESS)
    images += [written.image(deep, way, **window) for way in (*ways, written.LS, written.J2K_LOSSLESS)]
    images += [written.image(small, written.BASELINE), written.image(colours, written.RLE, SOPClassUID=written.SC)]
    lut = written.tables(written.table(np.arange(4096), 0, 12, "NORMAL"))
    images.append(written.image(deep, BitsStored=12, VOILUTSequence=lut, PixelPaddingValue=5))
    return [*images, written.without_meta(images[6])]


def one(data: bytes) -> None:
    """One image: its header, then its pixels."""
    with suppress(ImageError):
        dicom.header(data)
    with suppress(ImageError):
        decode_image(data, Reading(max_pixels=MAX_PIXELS))


def main() -> None:
    """Write the seeds and fuzz for the seconds asked for (600)."""
    words = sys.argv[1:]
    if "--without" in words:
        at = words.index("--without")
        for module in words[at + 1].split(","):
            sys.modules[module] = None  # type: ignore[assignment]
        del words[at : at + 2]
    corpus, found = HERE / "corpus", HERE / "found"
    corpus.mkdir(exist_ok=True)
    found.mkdir(exist_ok=True)
    for i, image in enumerate(SEEDS):
        (corpus / f"seed-{i:02}").write_bytes(image)
    for image in SEEDS:
        one(image)  # decoders that start slowly are started
    limits = ["-rss_limit_mb=2048", "-timeout=20", "-max_len=16384", f"-artifact_prefix={found}/"]
    atheris.Setup([sys.argv[0], f"-max_total_time={words[0] if words else 600}", *limits, str(corpus)], one)
    atheris.Fuzz()


SEEDS = seeds()  # before a decoder is left out: the writers need it
if __name__ == "__main__":
    main()
