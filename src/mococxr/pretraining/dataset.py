"""The images of a pretraining run: rows of one or more stores, the order of an epoch, the other images of a study."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from mococxr import tables
from mococxr.augment import uniforms
from mococxr.errors import InputError
from mococxr.store import Level, Store

SPLITS = {"train": ("train",), "train+val": ("train", "val"), "all": ("train", "val", "test")}


@dataclass(frozen=True)
class PretrainSet:
    """N images under one numbering, 0..N-1.

    Args:
        levels: side of a view -> the pixels that it is cut from, one level a store.
        store_N: which store an image is in.
        row_N: its row there.
        study_N: a number shared by the images of one study; unknown studies are their image's own.
        patient_N: a number shared by the images of one patient.
        patients: frame (source, patient), one row a patient.
        unknown_excluded: names on the list of patients to leave out that no store knows.
        leaks: images whose file is, byte for byte, an image of a patient whom a store keeps out.
    """

    levels: Mapping[int, tuple[Level, ...]]
    store_N: NDArray[np.int64]
    row_N: NDArray[np.int64]
    study_N: NDArray[np.int64]
    patient_N: NDArray[np.int64]
    patients: pl.DataFrame
    unknown_excluded: int = 0
    leaks: int = 0

    def __len__(self) -> int:
        return len(self.row_N)

    @cached_property
    def by_store(self) -> list[NDArray[np.int64]]:
        """The images of each store."""
        return [np.flatnonzero(self.store_N == i) for i in range(max(map(len, self.levels.values()), default=0))]

    @property
    def warnings(self) -> list[str]:
        """What a run over these images is to be warned of."""
        sentences = []
        if self.unknown_excluded:
            sentences.append(f"{self.unknown_excluded} patients on the list to leave out are in no store.")
        if self.leaks:
            sentences.append(
                f"{self.leaks:,} of the images are held out under the name of another patient (validation or test of a "
                "store here): `mococxr inspect STORE [--against STORE2]` lists them."
            )
        for size, levels in self.levels.items():
            sentences += [
                f"Views of {size} px are enlarged from images of {level.shorter} px in {level.folder}."
                for level in levels
                if level.shorter < size
            ]
        return sentences

    @cached_property
    def studies(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """The images in the order of their studies, the study at each of these places, and the place of each image."""
        by_study = np.argsort(self.study_N, kind="stable")
        position_of = np.empty_like(by_study)
        position_of[by_study] = np.arange(len(self))
        return by_study, self.study_N[by_study], position_of

    def groups(self, images: NDArray[np.int64], kind: str) -> NDArray[np.int64]:
        """A number shared by the images of one `image`, `study` or `patient`."""
        return {"image": images, "study": self.study_N[images], "patient": self.patient_N[images]}[kind]

    def pixels(self, image: int, size: int) -> NDArray[np.uint8]:
        """One image for views of this side, (H, W) uint8."""
        return self.levels[size][self.store_N[image]].pixels(int(self.row_N[image]))


def gather_images(
    stores: Sequence[Store], sizes: Iterable[int], pretrain_on: str, exclude: Path | None = None
) -> PretrainSet:
    """The images that a run may see.

    Args:
        sizes: sides of the views, px; images come from a level at most twice as large.
        pretrain_on: train, train+val or all.
        exclude: a list of patients to leave out, one a line.

    Raises:
        InputError: no image is left.
    """
    excluded = read_patients(exclude) if exclude else set()
    kept_out = held_out(stores, pretrain_on)
    out = kept_out.vstack(listed(stores, excluded))
    images = pl.concat(_images_of(store, i, pretrain_on, out) for i, store in enumerate(stores))
    if images.is_empty():
        raise InputError(
            f"No image is left to pretrain on (--pretrain-on {pretrain_on}, {len(excluded)} patients excluded).",
            "Prepare with a larger training share, or exclude fewer patients.",
        )
    alone = pl.when(pl.col("study").is_null()).then(pl.int_range(pl.len()))
    # Numbers in the place of names first: a struct of names is copied whole to be ranked.
    names = (pl.col("source", "patient", "study").rank("dense"), alone.alias("alone"))
    groups = images.select(names).select(pl.struct(pl.all()).rank("dense").cast(pl.Int64)).to_series()
    named = pl.Series(sorted(excluded), dtype=pl.String)  # an empty list has no type by itself
    known = pl.concat(store.splits["patient"] for store in stores)
    return PretrainSet(
        levels={size: tuple(store.level(size) for store in stores) for size in sizes},
        store_N=images["store"].to_numpy(),
        row_N=images["row"].cast(pl.Int64).to_numpy(),
        study_N=groups.to_numpy(),
        patient_N=images.select(pl.struct("source", "patient").rank("dense").cast(pl.Int64)).to_series().to_numpy(),
        patients=images.select("source", "patient").unique().sort("source", "patient"),
        unknown_excluded=len(named.filter(~named.is_in(known.implode()))),
        leaks=_leaks(stores, images, kept_out),
    )


def count_by_store(dataset: PretrainSet, stores: Sequence[Store]) -> list[dict[str, Any]]:
    """Images and patients of each store; patients are null where nobody knows them."""
    return [
        {
            "store": store.path.name,
            "source": store.source,
            "images": len(images),
            "patients": len(np.unique(dataset.patient_N[images])) if store.patients_known else None,
        }
        for store, images in zip(stores, dataset.by_store, strict=True)
    ]


def _images_of(store: Store, number: int, pretrain_on: str, out: pl.DataFrame) -> pl.DataFrame:
    """The rows of one store that may be seen, without patients who are out: (row, patient, study, store, source)."""
    may = store.splits.filter(
        pl.col("split").is_in(SPLITS[pretrain_on]), ~pl.col("patient").is_in(names_in(out, store).implode())
    )["patient"]
    return (
        store.columns("row", "patient", "study")
        .filter(pl.col("patient").is_in(may.implode()))
        .with_columns(store=pl.lit(number, dtype=pl.Int64), source=pl.lit(store.source))
    )


def held_out(stores: Sequence[Store], pretrain_on: str) -> pl.DataFrame:
    """Patients whom one of the stores keeps out of pretraining: another store of their source may not let them in."""
    return pl.concat(
        store.splits.filter(~pl.col("split").is_in(SPLITS[pretrain_on])).select("patient", source=pl.lit(store.source))
        for store in stores
    )


def listed(stores: Sequence[Store], names: set[str]) -> pl.DataFrame:
    """Patients of these names, whatever store knows them: (patient, source)."""
    sources = pl.DataFrame({"source": sorted({store.source for store in stores})})
    return pl.DataFrame({"patient": sorted(names)}, schema={"patient": pl.String}).join(sources, how="cross")


def _leaks(stores: Sequence[Store], images: pl.DataFrame, held_out: pl.DataFrame) -> int:
    """How many of the images (store, row) have the very file of a patient who is kept out (source, patient).

    Files are told by 64 bits of a hash of their `sha256`: on a large store the digests themselves are most of what a
    run would hold.
    """
    rows = {
        i: store.columns("row", "sha256").select("row", file=pl.col("sha256").hash()) for i, store in enumerate(stores)
    }
    kept_out = pl.concat(
        rows[i].filter(store.columns("patient")["patient"].is_in(names_in(held_out, store).implode())).select("file")
        for i, store in enumerate(stores)
    )["file"].unique()
    seen = (rows[i].join(images.filter(store=i), on="row", how="semi") for i in rows)
    return sum(int(part["file"].is_in(kept_out.implode()).sum()) for part in seen)


def names_in(patients: pl.DataFrame, store: Store) -> pl.Series:
    """The patients (source, patient) whom a store may know."""
    return patients.filter(source=store.source)["patient"]


def read_patients(path: Path) -> set[str]:
    """Patients listed one a line (further columns are left out), or a table with a column `patient`.

    Raises:
        InputError: the file cannot be read or lists nobody.
    """
    columns = tables.header(path)
    column = tables.first_names(columns, {"patient": ("patient", "patient_id", "subject_id")})
    try:
        patients = tables.read_table(path, may_be_empty=True)[column["patient"]] if column else _before_commas(path)
    except InputError:
        if len(columns) > 1:
            raise
        patients = _before_commas(path)[1:]  # a list under a heading, whose lines say more than the heading names
    names = set(tables.identifiers(patients).drop_nulls())
    if not names:
        raise InputError(f"{path} lists no patient.", "Write one patient per line, or leave --exclude-patients out.")
    return names


def _before_commas(path: Path) -> pl.Series:
    return pl.Series([line.split(",")[0].strip('" ') for line in tables.read_lines(path)], dtype=pl.String)


def largest_queue(images: int, batch: int) -> int:
    """The most keys that a queue may hold: with more, an image would meet its own last key among the negatives."""
    return images // batch * batch - batch


def free_queue(images: int, batch: int) -> int:
    """The most keys with which an image may come again after half an epoch, so that the order stays nearly a plain shuffle;
    at least a batch of them.

    Measured: two images of a batch meet again in the next epoch at most 1.3 times as often as in a plain shuffle; 2 times at
    three quarters of an epoch, 4 times at nine tenths, and in nearly every epoch with `largest_queue`.
    """
    return min(largest_queue(images, batch), max(batch, images // batch * batch // 2 - batch + 1))


class SpacedShuffle:
    """Random orders in which an image comes again only after `min_gap` others.

    A plain reshuffle lets an image that closed one epoch open the next, while its own key still stands in the queue as
    a negative. Here place j of an epoch is drawn from the images whose last place lies at least `min_gap` back; with
    `min_gap` far below N that is a plain shuffle but for the border. A batch meets the K keys before its first image, so
    that its last image needs `min_gap` = K + batch - 1.

    Args:
        images: N.
        used: images of an order that are used; the rest of an epoch (less than a batch) is left out.
        min_gap: other images between two places of one image; at most `used` - 1.
        seed: of the run.
    """

    def __init__(self, images: int, used: int, min_gap: int, seed: int) -> None:
        self.images, self.used, self.min_gap, self.seed = images, used, min(min_gap, used - 1), seed
        self._epoch = -1
        self._order = np.empty(0, dtype=np.int64)

    def epoch(self, epoch: int) -> NDArray[np.int64]:
        """The images of one epoch, (used,). Epochs are best asked for in turn."""
        if epoch < self._epoch:
            self._epoch = -1  # each order follows from the one before: begin again
        while self._epoch < epoch:
            self._epoch += 1
            # 0x0DE5 is of these draws alone: no other use of the seed gives the same
            draws = np.random.default_rng((self.seed, self._epoch, 0x0DE5)).random(self.images)
            if self._epoch == 0:
                self._order = np.argsort(draws, kind="stable")
            else:
                self._order = self._next(self._order, draws)
        return self._order[: self.used]

    def _next(self, last: NDArray[np.int64], draws: NDArray[np.float64]) -> NDArray[np.int64]:
        # Images left out of the last epoch's tail were not enqueued: they are free at once, with the early ones.
        used, waiting = self.used, self.min_gap
        free = np.concatenate([last[: used - waiting], last[used:]])
        held, order, left = last[used - waiting : used], np.empty_like(last), len(free)
        # Through memory views a million images cost half a second and no list of a million numbers.
        slots, waits, places = free.data, held.data, order.data
        for position, draw in enumerate(draws.data):
            pick = int(draw * left)
            places[position] = slots[pick]
            slots[pick] = slots[left - 1]  # a draw without replacement in constant time (Fisher and Yates)
            if position < waiting:
                slots[left - 1] = waits[position]  # its gap is over with this place: it may be drawn from the next on
            else:
                left -= 1
        return order


def study_partners(dataset: PretrainSet, images: NDArray[np.int64], seed: int, epoch: int) -> NDArray[np.int64]:
    """For each image another image of its study, drawn anew each epoch; an image alone in its study is its own mate.

    Source: MedAug (Vu et al. 2021, arXiv 2102.10663): positives from the same study.
    """
    by_study, sorted_study, position_of = dataset.studies
    first = np.searchsorted(sorted_study, dataset.study_N[images], side="left")
    count = np.searchsorted(sorted_study, dataset.study_N[images], side="right") - first
    position = position_of[images] - first
    step = 1 + np.floor(uniforms(seed, epoch, images, side=2)[:, 0] * (count - 1)).astype(np.int64)  # sides 0, 1: views
    return by_study[first + (position + step) % count]
