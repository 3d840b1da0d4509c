"""Coverage-guided fuzzing of the film readers, on demand: `make fuzz`.

    python fuzz/films.py [SECONDS] [--without gdcm,openjpeg,jpeg_ls]

Changed films of every format and compression go through `films.decode_film` and `films.dicom.header`. Whatever is
raised other than FilmError, a native crash, 20 seconds for one film or 2 GiB of memory ends the run and leaves the
film in `fuzz/found/`. `--without` leaves native decoders out, to see past a crash that is known.
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
    from mococxr.images import decode_film, dicom

import cv2
import numpy as np

import dicom_films as written
from mococxr.errors import FilmError

MAX_PIXELS = 250_000


def seeds() -> list[bytes]:
    """One small film of every kind."""
    deep = np.random.default_rng(0).integers(0, 4096, (32, 36)).astype(np.uint16)
    small = (deep // 16).astype(np.uint8)
    colours = np.stack([small, small[::-1], small[:, ::-1]], -1)
    films = [bytes(cv2.imencode(kind, small)[1]) for kind in (".png", ".jpg", ".tif", ".bmp")]
    films += [bytes(cv2.imencode(kind, deep)[1]) for kind in (".png", ".tif")]
    window: dict[str, Any] = {"BitsStored": 12, "WindowCenter": "2000", "WindowWidth": "900"}
    ways = (written.EXPLICIT, written.IMPLICIT, written.BIG, written.DEFLATED, written.RLE, written.LOSSLESS)
    films += [written.film(deep, way, **window) for way in (*ways, written.LS, written.J2K_LOSSLESS)]
    films += [
        written.film(small, written.BASELINE),
        written.film(colours, written.RLE, SOPClassUID=written.SC),
    ]
    lut = written.tables(written.table(np.arange(4096), 0, 12, "NORMAL"))
    films.append(written.film(deep, BitsStored=12, VOILUTSequence=lut, PixelPaddingValue=5))
    return [*films, written.without_meta(films[6])]


def one(data: bytes) -> None:
    """One film: its header, then its pixels."""
    with suppress(FilmError):
        dicom.header(data)
    with suppress(FilmError):
        decode_film(data, max_pixels=MAX_PIXELS)


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
    for i, film in enumerate(SEEDS):
        (corpus / f"seed-{i:02}").write_bytes(film)
    for film in SEEDS:
        one(film)  # decoders that start slowly are started
    limits = ["-rss_limit_mb=2048", "-timeout=20", "-max_len=16384", f"-artifact_prefix={found}/"]
    atheris.Setup([sys.argv[0], f"-max_total_time={words[0] if words else 600}", *limits, str(corpus)], one)
    atheris.Fuzz()


SEEDS = seeds()  # before a decoder is left out: the writers need it
if __name__ == "__main__":
    main()
