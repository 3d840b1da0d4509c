"""Transfer on real images: pretrained on one hospital's images, studied on another's, against the ImageNet start.

    python bench/transfer.py --out runs/transfer [--split 0] [--source pediatric --target nih]

Needs the folder of `bench/real_images.py` (MOCOCXR_DATA). Pretraining sees the training patients of the source set
only; the study is on the other set, linear (10 draws) and end-to-end (5 draws, 12 epochs of AdamW 1e-4, last
weights kept). Everything goes through the ordinary commands, and what is done is not done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

import mococxr
from real_images import prepare

STUDIES = {
    # set studied: targets, where, fractions of the linear study, fractions end-to-end
    "nih": (["Effusion", "Pneumonia", "sex=M"], [], [0.05, 0.2, 1.0], [0.2]),
    "pediatric": (["Bacterial"], ["Pneumonia=1"], [0.01, 0.05, 0.2, 1.0], [0.05]),
}
GRADIENT = {"epochs": 12, "checkpoints": 0, "optimizer": "adamw", "lr": 1e-4, "draws": 5}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/transfer"))
    parser.add_argument("--split", type=int, default=0)
    parser.add_argument("--source", choices=list(STUDIES), default="pediatric")
    parser.add_argument("--target", choices=list(STUDIES), default="nih")
    parser.add_argument("--jobs", type=int, default=None)
    options = parser.parse_args()
    out: Path = options.out
    out.mkdir(parents=True, exist_ok=True)
    stores = prepare(out, options.split)
    run = out / f"moco{options.split}-{options.source}"
    mococxr.pretrain([stores[options.source]], out=run, seed=options.split, resume=run.exists())
    targets, where, linear, finetune = STUDIES[options.target]
    name = f"{options.source}-to-{options.target}{options.split}"
    common = {"target": targets, "where": where, "arm": ["imagenet", f"moco={run}"], "jobs": options.jobs}
    folders = [out / f"linear-{name}", out / f"finetune-{name}"]
    store = stores[options.target]
    mococxr.study(store, **common, out=folders[0], fraction=linear, draws=10)
    mococxr.study(store, **common, out=folders[1], fraction=finetune, mode="finetune", **GRADIENT)
    for folder in folders:
        table = pl.read_csv(folder / "differences.csv").filter(pl.col("against") == "imagenet")
        for row in table.iter_rows(named=True):
            print(
                f"{row['mode']:9} {row['target']:10} {row['fraction']:5.0%}  "
                f"{row['difference']:+.3f} ({row['low']:+.3f}, {row['high']:+.3f})"
            )


if __name__ == "__main__":
    main()
