"""What a classifier warns of: real images as they are, turned, inverted, cut and covered, and what is no such image.

    python bench/guard.py --out runs/guard [--encoder mococxr-lite0@96] [--split 0]

Needs a folder (MOCOCXR_DATA) with `nih/`, `pediatric/`, `odd/` and `splits.csv`, as bench/real_images.py does. A classifier
is fitted on the training patients of the adults; limits come from these alone. It is asked about their test images, about
changes of them, and about images of other kinds. Photographs are those of scikit-learn, matplotlib and, where installed,
scikit-image, and cuts from them; plots and pages of text are drawn. Prints the share with any warning, with the warning by
its own name, and where a bar was set whether it is met.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import polars as pl

import mococxr
from mococxr.files import write_csv
from mococxr.guard import guard

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.datasets import load_sample_images

DATA = Path(os.environ.get("MOCOCXR_DATA", Path(__file__).parents[2] / "shared" / "data"))
BARS = {
    "untouched": ("", 0.03), "inverted": (guard.INVERTED, 0.95), "turned by 90 degrees": (guard.TURNED, 0.95),
    "turned by 180 degrees": (guard.TURNED, 0.95), "photographs": (guard.UNLIKE, 0.9), "plots": (guard.UNLIKE, 0.9),
    "pages of text": (guard.UNLIKE, 0.9), "CT slices": (guard.UNLIKE, 0.8), "side views": (guard.LATERAL, 0.7),
}  # fmt: skip
"""Kind of image -> the warning by its own name, and the share with any warning to reach; of untouched ones, at most."""
NAMES = {"a window of 3/4": guard.CROPPED, "a window of 1/2": guard.CROPPED, "training images": guard.COPY}
WORDS = (
    "patient", "report", "admitted", "chest", "pain", "normal", "heart", "size", "effusion", "clear", "lungs", "dose",
)  # fmt: skip
PHOTOGRAPHS = (
    "coffee.png", "camera.png", "astronaut.png", "chelsea.png", "rocket.jpg", "retina.jpg", "coins.png", "horse.png",
    "brick.png", "grass.png", "motorcycle_left.png", "moon.png",
)  # fmt: skip
PLOTS: list[Callable[[Any, np.random.Generator], object]] = [
    lambda axes, rng: axes.plot(rng.normal(size=(60, 3)).cumsum(axis=0)),
    lambda axes, rng: axes.bar(range(8), rng.random(8)),
    lambda axes, rng: axes.scatter(*rng.normal(size=(2, 200))),
    lambda axes, rng: axes.imshow(cv2.GaussianBlur(rng.normal(size=(40, 40)), (0, 0), 3), cmap="gray"),
    lambda axes, rng: axes.hist(rng.normal(size=500), bins=30),
]
Image = np.ndarray


def photographs(rng: np.random.Generator, count: int = 100) -> list[Image]:
    """Grey photographs, and cuts from them until there are enough."""
    folders = [(Path(matplotlib.get_data_path()) / "sample_data", ("grace_hopper.jpg",))]
    if package := importlib.util.find_spec("skimage"):
        folders.append((Path(str(package.origin)).parent / "data", PHOTOGRAPHS))
    files = [folder / name for folder, names in folders for name in names]
    whole = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY) for image in load_sample_images().images]
    whole += [mococxr.read_image(file) for file in files if file.is_file()]
    cuts = [window(whole[rng.integers(len(whole))], rng.uniform(0.3, 0.9), rng) for _ in range(count - len(whole))]
    return whole + cuts


def window(image: Image, share: float, rng: np.random.Generator) -> Image:
    """A part of an image, of that share of its sides, anywhere."""
    height, width = (round(side * share) for side in image.shape)
    top, left = (int(rng.integers(side - part + 1)) for side, part in zip(image.shape, (height, width), strict=True))
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def plots(rng: np.random.Generator, count: int = 40) -> list[Image]:
    """Figures as matplotlib draws them, on white and on black."""
    drawn = []
    for i in range(count):
        with plt.style.context("dark_background" if i % 2 else "default"):
            figure, axes = plt.subplots(figsize=tuple(rng.uniform(4, 8, 2)))
            PLOTS[i % len(PLOTS)](axes, rng)
            axes.set_title(f"Figure {i}")
            file = io.BytesIO()
            figure.savefig(file, dpi=80)
            plt.close(figure)
        drawn.append(mococxr.read_image(file.getvalue()))
    return drawn


def pages(rng: np.random.Generator, count: int = 40) -> list[Image]:
    """Lines of words, black on white or white on black."""
    drawn = []
    for i in range(count):
        paper, ink = (20, 240) if i % 2 else (255, 0)
        page = np.full((900, 700), paper, np.uint8)
        for y in range(60, 860, int(rng.integers(22, 40))):
            line = " ".join(rng.choice(WORDS, int(rng.integers(3, 9))))
            cv2.putText(page, line, (40, y), int(rng.integers(4)), 0.6, ink, 1, cv2.LINE_AA)
        drawn.append(page)
    return drawn


def framed(image: Image) -> Image:
    """On white, as in a printed page."""
    across, down = (side // 4 for side in image.shape)
    return cv2.copyMakeBorder(image, across, across, down, down, cv2.BORDER_CONSTANT, value=255)


def named(image: Image) -> Image:
    """With a name and a number burned in."""
    return cv2.putText(image.copy(), "DOE JOHN 1957-03-12 ID 0049172", (8, 22), 0, 0.5, 255, 1, cv2.LINE_AA)


def kinds(test: list[Image], train: list[Image]) -> Iterable[tuple[str, list[Image]]]:
    """Every kind of image, by name."""
    rng = np.random.default_rng(0)
    yield "untouched", test
    yield "inverted", [255 - image for image in test]
    for quarters in (1, 2):
        yield f"turned by {90 * quarters} degrees", [np.ascontiguousarray(np.rot90(image, quarters)) for image in test]
    yield "photographs", photographs(rng)
    yield "plots", plots(rng)
    yield "pages of text", pages(rng)
    odd = pl.read_csv(DATA / "odd" / "labels.csv")
    for name, kind in (("CT slices", "ct"), ("side views", "lateral")):
        paths = odd.filter(pl.col("kind") == kind)["path"]
        yield name, [mococxr.read_image(DATA / "odd" / path) for path in paths]
    children = pl.read_csv(DATA / "pediatric" / "labels.csv", infer_schema=False)["path"]
    yield "children", [mococxr.read_image(DATA / "pediatric" / path) for path in children.gather_every(26)]
    for name, share in (("a window of 3/4", 0.75), ("a window of 1/2", 0.5)):
        yield name, [window(image, share, rng) for image in test]
    yield "framed in white", [framed(image) for image in test]
    yield "a name burned in", [named(image) for image in test]
    yield "64 px", [cv2.resize(image, (64, 64), interpolation=cv2.INTER_AREA) for image in test]
    yield "all black or grey", [np.full((320, 320), level, np.uint8) for level in (0, 90, 255)]
    yield "training images", [cv2.convertScaleAbs(image, alpha=0.9, beta=8) for image in train[:200]]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/guard"))
    parser.add_argument("--encoder", default="mococxr-lite0@96")
    parser.add_argument("--backbone", default=None)
    parser.add_argument("--split", type=int, default=0)
    asked = parser.parse_args()
    table = pl.read_csv(DATA / "splits.csv", infer_schema=False).filter(pl.col("set") == "nih")
    write_csv(asked.out / "split.csv", table.select(patient="patient_id", split=f"split{asked.split}"))
    place = asked.out / f"store{asked.split}"
    if not place.exists():
        mococxr.prepare(DATA / "nih", out=place, size=320, split_file=asked.out / "split.csv")
    model = asked.out / f"{asked.encoder.replace('/', '-')}-{asked.split}"
    if not (model / "model.json").exists():
        mococxr.fit(place, encoder=asked.encoder, backbone=asked.backbone, target="Effusion", out=model)
    classifier, store = mococxr.load_classifier(model), mococxr.Store.open(place)
    test, train = ([store.pixels(int(row)) for row in store.rows_in(split)] for split in ("test", "train"))
    print("| image | images | any warning | by its name | bar | most frequent |\n|---|---|---|---|---|---|")
    missed = 0
    for name, images in kinds(test, train):
        warnings = classifier.predict(images)["warning"].fill_null("").str.split("; ").to_list()
        words = Counter(word for each in warnings for word in each if word)
        share = np.mean([bool(each[0]) for each in warnings])
        word, bar = BARS.get(name, (NAMES.get(name, ""), None))
        by_name = f"{100 * words[word] / len(images):.0f} %" if word else ""
        missed += bar is not None and (share > bar if name == "untouched" else share < bar)
        limit = "" if bar is None else f"{'at most' if name == 'untouched' else 'at least'} {100 * bar:.0f} %"
        often = ", ".join(f"{word} {count}" for word, count in words.most_common(3))
        print(f"| {name} | {len(images)} | {100 * share:.1f} % | {by_name} | {limit} | {often} |", flush=True)
    return int(missed > 0)


if __name__ == "__main__":
    sys.exit(main())
