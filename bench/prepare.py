"""Speed of `prepare` against the least that must be done: decode, one area resize, one SHA-256; on one core.

    python bench/prepare.py [--images 240] [--rounds 3] [--folder DIR]

Both sides read the same files, in turn, in one run. Processor time is what is compared, of the parent and its one
decoding process together, since other work on the machine does not change it; wall time stands beside it. What a
run costs before its first image (processes, imports, tables) is measured on few images and stated apart: the
ratio is that of the images. The bar is 0.85, against the libraries' bare decode (OpenCV; pydicom's pixel array),
and for DICOM also against `images.decode_image`, which is what makes a grey image of an array.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stderr
from pathlib import Path

import cv2
import numpy as np
import pydicom

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))
from archive_images import ROOT, grey_image, mixed_image
from mococxr.images import decode_image
from mococxr.preparation.prepare import run
from mococxr.settings import PrepareSettings

SIZE = 320
FEW = 48


def write_rasters(folder: Path, images: int, suffix: str, side: int) -> None:
    """Images as PNG or JPEG: a few pictures, each under many names (another name costs no room)."""
    rng = np.random.default_rng(0)
    for i in range(images):
        if i >= 32:
            os.link(folder / f"image{i % 32:05d}{suffix}", folder / f"image{i:05d}{suffix}")
            continue
        grey = grey_image(rng, side, side - 64)
        noise = rng.normal(0, 3, grey.shape)
        cv2.imwrite(str(folder / f"image{i:05d}{suffix}"), np.clip(grey + noise, 0, 255).astype(np.uint8))


def write_dicom(folder: Path, images: int, side: int) -> None:
    """DICOM images of the published header mix; a few pictures, each image its own file."""
    rng = np.random.default_rng(0)
    pictures = [grey_image(rng, side, side - side // 6) for _ in range(16)]
    for i in range(images):
        facts = {"patient": f"P{i // 2}", "study": f"{ROOT}2.{i}", "sop": f"{ROOT}3.{i}"}
        mixed_image(pictures[i % 16], rng, **facts).save_as(folder / f"f{i:05d}", enforce_file_format=True)


def shrink(image: np.ndarray) -> None:
    height, width = image.shape[:2]
    scale = SIZE / min(height, width)
    cv2.resize(image, (round(width * scale), round(height * scale)), interpolation=cv2.INTER_AREA)


def by_opencv(file: Path) -> None:
    data = file.read_bytes()
    shrink(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))
    hashlib.sha256(data).hexdigest()


def by_pydicom(file: Path) -> None:
    data = file.read_bytes()
    shrink(pydicom.dcmread(pydicom.filebase.DicomBytesIO(data)).pixel_array)
    hashlib.sha256(data).hexdigest()


def by_images(file: Path) -> None:
    data = file.read_bytes()
    shrink(decode_image(data))
    hashlib.sha256(data).hexdigest()


def spent() -> float:
    """Processor seconds of this process and its children that have ended."""
    mine, theirs = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return mine.ru_utime + mine.ru_stime + theirs.ru_utime + theirs.ru_stime


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """(processor seconds, wall seconds) of a piece of work."""
    cpu, wall = spent(), time.perf_counter()
    work()
    return spent() - cpu, time.perf_counter() - wall


def prepare(folder: Path, out: Path) -> None:
    """Prepare in one process, quietly, into a fresh store."""
    unknown = "dicom" not in folder.name
    with open(os.devnull, "w") as devnull, redirect_stderr(devnull):
        run(PrepareSettings(source=folder, out=out, size=SIZE, jobs=1, patients_unknown=unknown))
    shutil.rmtree(out)


def compare(name: str, folder: Path, bare: dict[str, Callable[[Path], None]], rounds: int) -> None:
    files = sorted(folder.iterdir())
    few = folder.parent / f"few-{name}"
    few.mkdir()
    for file in files[:FEW]:
        os.link(file, few / file.name)
    out = folder.parent / "store"
    for work in bare.values():
        work(files[0])
    walls, ratios = [], {what: [] for what in bare}
    starts = []
    for _ in range(rounds):
        start, start_wall = measured(lambda: prepare(few, out))
        whole, whole_wall = measured(lambda: prepare(folder, out))
        ours = (whole - start) / (len(files) - FEW)
        starts.append(start)
        for what, work in bare.items():
            theirs, _ = measured(lambda work=work: [work(file) for file in files])
            ratios[what].append(theirs / len(files) / ours)
        walls.append((len(files) - FEW) / (whole_wall - start_wall))
    told = ", ".join(f"{statistics.median(values):.2f} x {what}" for what, values in ratios.items())
    print(
        f"{name}: {told} (bar 0.85); {statistics.median(walls):.1f} images/s by the clock, "
        f"{statistics.median(starts):.1f} s of processor before the first image and after the last"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=240)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=None, help="where images are written; a temporary one")
    given = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(dir=given.folder) as top:
        for name, side in ((".png", 1024), (".jpg", 1024), ("dicom", 1536)):
            folder = Path(top) / name.strip(".")
            folder.mkdir()
            if name == "dicom":
                write_dicom(folder, given.images, side)
                compare(name, folder, {"pydicom": by_pydicom, "decode_image": by_images}, given.rounds)
            else:
                write_rasters(folder, 5 * given.images, name, side)
                compare(name, folder, {"OpenCV": by_opencv}, given.rounds)
            shutil.rmtree(folder)


if __name__ == "__main__":
    main()
