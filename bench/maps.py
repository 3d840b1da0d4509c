"""Whether to believe maps of where a classifier looks, on real images of adults.

    python bench/maps.py --out runs/maps [--encoder mococxr-lite0@96 imagenet@224 mococxr-lite0@224] [--images 20]

Needs a folder (MOCOCXR_DATA) with `nih/`, and torchxrayvision, whose package has the boxes of NIH ChestX-ray14: 43 of
pneumonia are of these images. Classifiers of pneumonia are linear heads, cross-fitted in five folds by patient, so that none
has seen the patient whose map is drawn.

* Weights shuffled from the head down: the rank correlation that is left (at most .5 in the end).
* Mirrored images: the rank correlation with the mirrored map (at least .7).
* Insertion less deletion: against a smooth random map and against the map of another image.
* Pointing: whether the largest value lies in the box, beside the best fixed point of the other boxes (exact McNemar).

The first three are of --images images with pneumonia and without a box. Variants (which maps are added, how they are
smoothed) are chosen on one half of the boxes and judged on the other, both ways round; how many were tried is said.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from scipy.stats import binomtest
from sklearn.model_selection import StratifiedGroupKFold

import mococxr
from mococxr.encoders import Encoder, encoder_names, load_encoder
from mococxr.features import features
from mococxr.frames import to_frame
from mococxr.heads.classifier import Ensemble, EnsembleMember
from mococxr.heads.linear import solve_linear
from mococxr.heads.scaling import scaling_of
from mococxr.maps.checks import cascade, insertion_less_deletion, mirrored, rank_correlation
from mococxr.maps.class_map import class_maps
from mococxr.maps.contributions import contributions, spread
from mococxr.metrics import auroc
from mococxr.store import Store

DATA = Path(os.environ.get("MOCOCXR_DATA", Path(__file__).parents[2] / "shared" / "data"))
TARGET = "Pneumonia"
ENCODERS = ("mococxr-lite0@96", "imagenet@224", "mococxr-lite0@224")
BACKBONE = "tf_efficientnet_lite0"
FOLDS = 5
GRID = 128
"""Cells along a side of the image, in which a map points."""
ADDED = {"all maps": slice(None), "last two": slice(-2, None), "last": slice(-1, None)}
SMOOTHED = (0.0, 1 / 16, 1 / 8)
"""Standard deviation of a Gaussian, as a share of the side."""
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Fitted:
    """An encoder with cross-fitted heads: for each image the classifier that has not seen its patient."""

    encoder: Encoder
    size: int
    store: Store
    folds: NDArray[np.int64]
    members: list[EnsembleMember]
    auroc: float

    def frame(self, row: int) -> list[NDArray[np.uint8]]:
        return [np.ascontiguousarray(to_frame(self.store.level(self.size).pixels(row), self.size))]

    def ensemble(self, row: int) -> Ensemble:
        return Ensemble((self.encoder,), [self.members[self.folds[row]]])


def fitted(store: Store, name: str) -> Fitted:
    """The encoder with a head a fold; standardised by all images, as `fit` does it without labels."""
    ((text, size),) = [(each.text, each.size) for each in encoder_names(name)]
    encoder = load_encoder(text, backbone=BACKBONE, size=size, features="stages")
    size = size or encoder.size
    x = features(encoder, store, np.arange(len(store)), size=size, label=name)
    labels, patients = store.index[TARGET].to_numpy().astype(int), store.index["patient"].to_numpy()
    folds, scores, members = np.zeros(len(x), np.int64), np.zeros(len(x)), []
    splitter = StratifiedGroupKFold(FOLDS, shuffle=True, random_state=0)
    for number, (train, held) in enumerate(splitter.split(x, labels, patients)):
        head = solve_linear(x[train], labels[train], scaling_of(x), patients=patients[train])
        folds[held], scores[held] = number, head.logits(x[held])
        members.append(EnsembleMember(None, (head,)))
    return Fitted(encoder.eval(), size, store, folds, members, auroc(labels, scores))


def boxes(store: Store) -> dict[int, NDArray]:
    """Row -> left, top, width and height of its box, as shares of the side."""
    package = find_spec("torchxrayvision")
    if package is None or package.origin is None:
        raise SystemExit("The boxes are in torchxrayvision: pip install torchxrayvision.")
    table = pl.read_csv(
        Path(package.origin).parent / "data" / "BBox_List_2017.csv.gz",
        has_header=False, skip_rows=1, truncate_ragged_lines=True,
    )  # fmt: skip
    rows = {Path(path).stem: row for row, path in enumerate(store.index["path"])}
    return {
        rows[Path(name).stem]: np.array(sides) / 1024
        for name, finding, *sides in table.iter_rows()
        if finding == TARGET and Path(name).stem in rows
    }


# --- the pointing game


def inside(box: NDArray) -> NDArray[np.bool_]:
    """Cells (GRID, GRID) whose middle lies in the box."""
    middles = (np.arange(GRID) + 0.5) / GRID
    left, top, width, height = box
    across = (left <= middles) & (middles < left + width)
    return ((top <= middles) & (middles < top + height))[:, None] & across


def fixed_point_hits(hits_NGG: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the point that lies in most other boxes lies in this one, (N,); of several the nearest to their middle."""
    total, hits = hits_NGG.sum(axis=0), []
    for own_cells in hits_NGG:
        others = total - own_cells
        best = np.argwhere(others == others.max())
        nearest = best[((best - best.mean(axis=0)) ** 2).sum(axis=1).argmin()]
        hits.append(own_cells[tuple(nearest)])
    return np.array(hits)


def pointed(maps: Sequence[NDArray], hits_NGG: NDArray[np.bool_], smoothed: float) -> NDArray[np.bool_]:
    """Whether the largest value of each map (GRID, GRID), smoothed, lies in its box, (N,)."""
    hits = []
    for values, cells in zip(maps, hits_NGG, strict=True):
        smooth = cv2.GaussianBlur(values, (0, 0), smoothed * GRID) if smoothed else values
        hits.append(cells[np.unravel_index(smooth.argmax(), smooth.shape)])
    return np.array(hits)


def variants(model: Fitted, rows: Sequence[int], hits_NGG: NDArray[np.bool_]) -> dict[tuple[str, float], NDArray]:
    """Which maps are added and how they are smoothed -> hits (N,)."""
    grids = []
    for row in rows:
        head = model.members[model.folds[row]].head
        image = torch.from_numpy(model.frame(row)[0])[None, None]
        grids.append(contributions(model.encoder, image, head.folded_margin()[0][0], torch.from_numpy(head.mean)))
    hits = {}
    for name, some in ADDED.items():
        maps = [sum(spread(grid, (GRID, GRID))[0] for grid in each[some]) for each in grids]
        hits |= {(name, smoothed): pointed(maps, hits_NGG, smoothed) for smoothed in SMOOTHED}
    return hits


def chosen_hits(hits: dict[tuple[str, ...], NDArray]) -> NDArray:
    """Hits (N,) of the variant that was best on the other half of the boxes."""
    names, table = list(hits), np.array(list(hits.values()))
    half, chosen = np.arange(table.shape[1]) % 2, np.empty(table.shape[1], bool)
    for side in (0, 1):
        best = table[:, half != side].mean(axis=1).argmax()
        chosen[half == side] = table[best, half == side]
        print(f"  chosen on the boxes of half {2 - side}: {', '.join(map(str, names[best]))}")
    return chosen


def mcnemar(first: NDArray, second: NDArray) -> str:
    """Hits of each, and the exact p of the difference."""
    gained, lost = int((first & ~second).sum()), int((second & ~first).sum())
    p = binomtest(gained, gained + lost).pvalue if gained + lost else 1.0
    hits = f"{int(first.sum())} of {len(first)}, the fixed point {int(second.sum())}"
    return f"{hits}; p {p:.2f} ({gained} gained, {lost} lost)"


# --- the other checks


def other_checks(model: Fitted, rows: Sequence[int]) -> None:
    rng, maps = np.random.default_rng(0), {}
    mirror, gaps, left = [], [], {}
    for row in rows:
        frames, ensemble = model.frame(row), model.ensemble(row)
        maps[row] = class_maps(ensemble, [frames], CPU)[0].values
        mirror += mirrored(ensemble, [frames], [maps[row]], CPU).tolist()
        for name, maker in cascade(ensemble, [frames], CPU):
            left.setdefault(name, []).append(rank_correlation(maker()[0], maps[row]))
    for row, other in zip(rows, [*rows[1:], rows[0]], strict=True):
        noise = cv2.resize(rng.normal(size=(7, 7)), maps[row].shape[::-1], interpolation=cv2.INTER_LINEAR)
        three = [maps[row], noise, maps[other]]
        gaps.append(insertion_less_deletion(model.ensemble(row), [model.frame(row)] * 3, three, CPU))
    median = {name: float(np.median(values)) for name, values in left.items()}
    last = list(median)[-1]
    most = max(list(median.values())[1:])
    print(f"  shuffled, head alone: {median['head']:.2f}; all: {median[last]:.2f}; most on the way {most:.2f}")
    print(f"  mirrored: {np.median(mirror):.2f}, the lowest tenth {np.quantile(mirror, 0.1):.2f}")
    table = np.array(gaps)
    for at, name in ((1, "a random map"), (2, "another image's map")):
        better = int((table[:, 0] > table[:, at]).sum())
        p = binomtest(better, len(table)).pvalue
        print(f"  insertion less deletion: {table[:, 0].mean():+.2f} of the logit, {name} {table[:, at].mean():+.2f}; "
              f"better in {better} of {len(table)} (p {p:.3f})")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/maps"))
    parser.add_argument("--encoder", nargs="+", default=list(ENCODERS))
    parser.add_argument("--images", type=int, default=20)
    asked = parser.parse_args()
    if not (asked.out / "store").exists():
        mococxr.prepare(DATA / "nih", out=asked.out / "store", size=320, split=(1.0, 0.0, 0.0))
    store = Store.open(asked.out / "store")
    boxed = boxes(store)
    hits_NGG = np.array([inside(box) for box in boxed.values()])
    fixed = fixed_point_hits(hits_NGG)
    print(
        f"{len(boxed)} boxes, {hits_NGG.mean():.1%} of the image; the best point of all lies in {hits_NGG.sum(axis=0).max()}"
    )
    positive = np.flatnonzero(store.index[TARGET].to_numpy() == 1)
    free = np.random.default_rng(0).permutation(np.setdiff1d(positive, list(boxed)))[: asked.images].tolist()
    every: dict[tuple[str, ...], NDArray] = {}
    for name in asked.encoder:
        model = fitted(store, name)
        print(f"\n{name}: AUROC {model.auroc:.3f}, cross-fitted")
        hits = variants(model, list(boxed), hits_NGG)
        for (added, smoothed), each in hits.items():
            print(f"  pointing, {added}, smoothed {smoothed:.3f}: {mcnemar(each, fixed)}")
        every |= {(name, added, f"{smoothed:.3f}"): each for (added, smoothed), each in hits.items()}
        other_checks(model, free)
    print(f"\n{len(every)} variants; each box by the variant that was best on the other half:")
    print(f"  {mcnemar(chosen_hits(every), fixed)}")


if __name__ == "__main__":
    main()
