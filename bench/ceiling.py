"""Which share of full supervision few labels reach, beside a public network trained on some 78,000 labelled adults.

    python bench/ceiling.py runs/real/study2-0-adults-* [--csv ceiling.csv]

`nih/chexnet.csv` (MOCOCXR_DATA) has that network's scores of 219 of the adults, none of whom trained it. Those of
them that are test images of a study are judged by both: AUROC, and the share (ours - .5) / (theirs - .5), for every
arm, mode and fraction of the studies given. Over several studies (splits, seeds) AUROCs are means. Intervals come
from patients resampled once for all.

That network tells a finding from everything else in NIH; ours learned on these images, half of which have no finding: a
share above 1 says that the question is another one, and not that they know more.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr.files import write_csv
from real_images import DATA, RESAMPLES, weighted_auroc

SCORES = Path("nih") / "chexnet.csv"
KEYS = ("target", "arm", "mode", "fraction")
SHOWN: dict[str, Any] = {
    "tbl_rows": -1, "tbl_cols": -1, "tbl_width_chars": 200, "float_precision": 3, "tbl_formatting": "MARKDOWN",
    "tbl_hide_dataframe_shape": True, "tbl_hide_column_data_types": True,
}  # fmt: skip
"""How a table is printed, so that it may be put into a page as it is."""


def scored(folder: Path) -> Iterator[tuple[dict[str, Any], pl.DataFrame]]:
    """The trials of a study that gave a number, each with its scores of the test images."""
    for trial in pl.read_csv(folder / "trials.csv").filter(pl.col("status") == "done").iter_rows(named=True):
        yield trial, pl.read_parquet(folder / "predictions" / f"{trial['trial']}.parquet")


def resampled(patients: pl.Series) -> pl.DataFrame:
    """How often each patient counts in each resample, in the first once: (patient, weights of 1 + `RESAMPLES`)."""
    names = patients.unique().sort()
    counts = np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=RESAMPLES)
    return pl.DataFrame({"patient": names, "weights": np.vstack([np.ones_like(counts[:1]), counts]).T})


def aurocs(table: pl.DataFrame, column: str) -> NDArray:
    """AUROC of a column of scores in every resample: (1 + `RESAMPLES`,)."""
    return weighted_auroc(table["label"].to_numpy(), table[column].to_numpy(), table["weights"].to_numpy().T)


def interval(values: NDArray) -> tuple[float, float, float]:
    """The value of the data as they are, and the ends of its 95 % interval; NaN where too many resamples have none."""
    low, high = np.nanquantile(values[1:], [0.025, 0.975]) if np.isnan(values).mean() < 0.025 else (np.nan, np.nan)
    return float(values[0]), float(low), float(high)


def shares(folders: Sequence[Path], supervised: pl.DataFrame) -> pl.DataFrame:
    """A row for each arm, mode, target and fraction: AUROC of both, and the share with its interval.

    Args:
        supervised: `path` and a column of scores a finding.
    """
    findings = set(supervised.columns) - {"path"}
    studies = [
        [(trial, table.join(supervised.select("path", theirs=trial["target"]), on="path", maintain_order="left"))
         for trial, table in scored(folder) if trial["target"] in findings]
        for folder in folders
    ]  # fmt: skip
    weights = resampled(pl.concat(table["patient"] for study in studies for _, table in study))
    values: dict[tuple[Any, ...], list[list[NDArray]]] = defaultdict(list)
    images: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for study in studies:
        cells: dict[tuple[Any, ...], list[list[NDArray]]] = defaultdict(list)
        for trial, plain in study:
            table = plain.join(weights, on="patient", maintain_order="left")
            key = tuple(trial[name] for name in KEYS)
            cells[key].append([aurocs(table, "score"), aurocs(table, "theirs")])
            images[key] = [len(table), int((table["label"] == 1).sum())]
        for key, several in cells.items():
            values[key].append(np.mean(several, axis=0))  # over label subsets
    rows = []
    for key, several in values.items():
        ours, theirs = np.mean(several, axis=0)
        # no share of what is no better than chance
        share, low, high = interval((ours - 0.5) / np.where(theirs > 0.5, theirs - 0.5, np.nan))
        numbers = {"ours": ours[0], "theirs": theirs[0], "share": share, "low": low, "high": high}
        counts = {"studies": len(several), "images": images[key][0], "positives": images[key][1]}
        rows.append(dict(zip(KEYS, key, strict=True)) | numbers | counts)
    return pl.DataFrame(rows).sort(KEYS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", type=Path, nargs="+")
    parser.add_argument("--csv", type=Path, help="table to write")
    asked = parser.parse_args()
    table = shares(asked.studies, pl.read_csv(DATA / SCORES))
    with pl.Config(**SHOWN):
        print(table)
    if asked.csv:
        write_csv(asked.csv, table)


if __name__ == "__main__":
    main()
