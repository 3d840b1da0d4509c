"""Transfer on real images: pretrained on one hospital's images, studied on the other's, beside the baseline of a study.

    python bench/transfer.py --out runs/transfer [--split 1] [--ways children-to-adults adults-to-children]

Needs the folder of `bench/real_images.py` (MOCOCXR_DATA). Pretraining sees the training patients of one set only; the
study of the other has today's defaults: stages, standardised on unlabelled images, and `imagenet@288` (224 px for the
children) as its baseline. Everything goes through the ordinary commands, and what is done is not done again. About
ten minutes on two cores; with --out of `bench/real_images.py` the stores and the features of the baseline are there
already.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import polars as pl

import mococxr
from real_images import prepare, pretrain, quoted

SIZES = ["96:6", "160:1:2e-4"]
SIZE = 224
"""Side of the frames that the studied encoder is shown, px."""
WAYS = {"children-to-adults": ("pediatric", "nih"), "adults-to-children": ("nih", "pediatric")}
"""Name -> set that is pretrained on, set that is studied."""
STUDIES: dict[str, dict[str, Any]] = {
    "nih": {"target": ["Effusion", "Pneumonia", "Atelectasis", "sex=M"], "fraction": [0.05, 0.2, 1.0]},
    "pediatric": {"target": ["Bacterial"], "where": ["Pneumonia=1"], "fraction": [0.01, 0.2, 1.0]},
}


def transfer(out: Path, stores: dict[str, Path], way: str, split: int) -> Path:
    """Pretrain on one set and study the other; the folder of the study."""
    source, target = WAYS[way]
    run = pretrain(out, [stores[source]], f"{split}-{source}", split, {"transfer": SIZES})
    folder = out / f"transfer{split}-{way}"
    if not (folder / "report.html").is_file():
        arm = f"moco={quoted(run)}@{SIZE}"
        mococxr.study(stores[target], arm=arm, draws=10, out=folder, feature_cache=out / "features", **STUDIES[target])
    return folder


def lines(folder: Path) -> list[str]:
    """What each arm gains over the baseline, a line a target and fraction."""
    study = mococxr.read_results(folder)
    rows = study.frames["differences"].filter(pl.col("against") == study.facts["baseline"]["arm"])
    return [
        f"{row['target']:12} {row['fraction']:5.0%}  {row['against']} -> {row['arm']}  {row['difference']:+.3f}"
        + ("" if row["low"] is None else f" ({row['low']:+.3f}, {row['high']:+.3f})")
        for row in rows.iter_rows(named=True)
        if row["difference"] is not None
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--split", type=int, default=1)
    parser.add_argument("--ways", choices=list(WAYS), nargs="+", default=list(WAYS))
    asked = parser.parse_args()
    stores = prepare(asked.out, asked.split)
    for way in asked.ways:
        print(f"\n{way}, split {asked.split}", *lines(transfer(asked.out, stores, way, asked.split)), sep="\n")


if __name__ == "__main__":
    main()
