"""A store, read: the images of `prepare` as memory-mapped pixels with their index, labels and splits."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cached_property
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from mococxr import files
from mococxr.errors import InputError
from mococxr.store import label_history
from mococxr.store.levels import Image, Level, ShrunkLevel, halving, level_folder

FORMAT = 1
"""The version of the folder's layout; a reader refuses every other one."""

SPLITS = ("train", "val", "test")
NO_IMAGE = (
    "a localizer", "a screenshot", "a report", "another modality", "another part of the body", "not a radiograph",
    "a secondary capture of",
    "a scanned document", "a drawing", "a synthetic image", "a video still", "no pixel data (",
    "a second copy of an image",
)  # fmt: skip
"""How the reasons begin for which a DICOM object is no image of its own; all other reasons name a damaged file."""
_AGAIN = "Restore the file, or prepare the store again."


class Store:
    """Images that were decoded once. Make one by `Store.open(path)`; it can be sent to other processes.

    Attributes:
        path: the folder.
        manifest: versions, settings, hashes and counts, as `prepare` wrote them.
        sha256: hash of the manifest, which holds the hashes of all that `prepare` wrote; labels that came later leave it.
        label_events: how many events of the history of labels this store shows, whatever is added while it is open.
    """

    def __init__(self, path: Path, manifest: dict[str, Any], sha256: str, label_events: int = 0) -> None:
        self.path, self.manifest, self.sha256, self.label_events = path, manifest, sha256, label_events
        self._levels: dict[int, Level] = {1: self._read_level(1)}  # at once, so that a damaged store cannot be opened

    @classmethod
    def open(cls, path: Path | str, labels_as_of: str | None = None) -> Store:
        """Open a store made by `prepare`.

        Args:
            labels_as_of: the labels as they were at a date (UTC, that day included), or after so many label events; 0 is
                as `prepare` wrote them, None is now.

        Raises:
            InputError: there is none, a file is missing or damaged, a version with another format wrote it, or there is
                no such moment.
        """
        path = Path(path)
        _check_is_store(path)
        manifest = files.read_json(path / "manifest.json")
        _check_format(path, manifest)
        events = label_history.event_at(path, labels_as_of)
        return cls(path, manifest, files.sha256_file(path / "manifest.json"), events)

    def __reduce__(self) -> tuple[Callable[[Path, str], Store], tuple[Path, str]]:
        # opened again where it arrives, with the same labels: neither tables nor pixels travel
        return Store.open, (self.path, str(self.label_events))

    def __len__(self) -> int:
        return int(self.manifest["counts"]["images"])

    def _described(self) -> dict[str, str]:
        """What a person wants to know of a store first."""
        patients = f"{self.index['patient'].n_unique():,}" if self.patients_known else "unknown"
        splits = ", ".join(f"{name} {len(self.rows_in(name)):,}" for name in ("train", "val", "test"))
        labels = ", ".join(self.labels[:8]) + (f" and {len(self.labels) - 8} more" if len(self.labels) > 8 else "")
        side = f"{self.manifest['size']} px"
        facts = {"images": f"{len(self):,}", "patients": patients, "splits": splits, "labels": labels or "none"}
        return facts | {"shorter side": side, "source": str(self.source)}

    def __repr__(self) -> str:
        facts = "; ".join(f"{name}: {value}" for name, value in self._described().items())
        return f"Store {self.path.name} ({facts})"

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        facts = {"store": self.path.name, **self._described()}
        rows = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in facts.items())
        return f"<table>{rows}</table>"

    def pixels(self, i: int) -> Image:
        """Image `i` as stored, uint8 (H, W): a read-only view of the file, nothing is copied."""
        return self._levels[1].pixels(i)

    def level(self, target: int) -> Level:
        """The images at the smallest halving whose shorter side is still at least `target` pixels.

        That is at most twice the target, or the images as stored where they are not larger than that. `prepare`
        writes the halvings, as exact area averages; images smaller than those are shrunk as they are read.
        """
        factor = halving(self._levels[1].shorter, target)
        if factor not in self._levels:
            written = factor in self.manifest["levels"]
            self._levels[factor] = self._read_level(factor) if written else ShrunkLevel(self._levels[1], factor)
        return self._levels[factor]

    @cached_property
    def index(self) -> pl.DataFrame:
        """One row an image, in row order.

        Columns: `row, path, patient, study, view, sex, age, height, width, sha256`, the labels (1, 0, -1 or
        null) as they stand, the other columns of the table; findings that were added later come last.
        """
        return self._with_labels(self._rows(pl.read_parquet))

    def columns(self, *names: str) -> pl.DataFrame:
        """Some columns of the index, in row order: read from the file and not kept, unless the index is."""
        if "index" in self.__dict__:  # where cached_property keeps it, once it was read
            return self.index.select(names)
        if self.label_events and set(names) & set(self.labels):  # a label may have changed since `prepare`
            return self.index.select(names)
        return self._rows(lambda file: pl.read_parquet(file, columns=list(names)))

    def _rows(self, read: Callable[[Path], pl.DataFrame]) -> pl.DataFrame:
        """The index as it is in the file, without rows that were added after this store was opened."""
        return _read(self.path / "index.parquet", read).head(len(self))

    def _with_labels(self, table: pl.DataFrame) -> pl.DataFrame:
        """The index with the labels that stand.

        Raises:
            InputError: the history has images that the index lacks.
        """
        if not self.label_events:
            return table
        stray = self._standing.join(table.select("path"), on="path", how="anti")
        if len(stray):
            raise InputError(
                f"{self.path / label_history.FILE} is of another store: {len(stray):,} of its labels are of no image here.",
                "Put back the file that belongs to this store, or remove it.",
            )
        for name in self.labels:
            new = self._standing.filter(pl.col("target") == name).select("path", "value", touched=True)
            both = table.select("path").join(new, on="path", how="left", maintain_order="left")
            before = table[name] if name in table.columns else pl.lit(None, pl.Int8)
            labels = pl.when(both["touched"].fill_null(False)).then(both["value"]).otherwise(before)
            table = table.with_columns(labels.alias(name))
        return table

    @cached_property
    def history(self) -> pl.DataFrame:
        """The label events that this store shows, see `label_history.EVENTS`."""
        return label_history.read_history(self.path, self.label_events)

    @cached_property
    def _standing(self) -> pl.DataFrame:
        return label_history.current(self.history)

    @cached_property
    def splits(self) -> pl.DataFrame:
        """`patient, split` with train, val or test, one row a patient."""
        # as text: patient 007 is not patient 7
        return _read(
            self.path / "splits.csv", lambda file: pl.read_csv(file, infer_schema=False).select("patient", "split")
        )

    @cached_property
    def quarantine(self) -> pl.DataFrame:
        """`path, reason, unreadable`: what `prepare` left out; reports, localizers and second copies can be read."""
        table = _read(self.path / "quarantine.csv", lambda file: pl.read_csv(file, infer_schema=False))
        unreadable = [not reason.startswith(NO_IMAGE) for reason in table["reason"]]
        return table.select("path", "reason", unreadable=pl.Series(unreadable, dtype=pl.Boolean))

    @property
    def images_sha256(self) -> str:
        """Hash of what pretraining sees: pixels, patients, studies and splits; other labels leave it as it is."""
        return str(self.manifest["hashes"]["images"])

    @property
    def images_before(self) -> list[str]:
        """`images_sha256` before each addition of images, the latest first; rows are added behind and never change."""
        return [str(addition["images_before"]) for addition in reversed(self.manifest.get("added", []))]

    @property
    def labels(self) -> list[str]:
        """The names of the label columns: those of `prepare`, then those that were added later, in that order."""
        added = self.history["target"].unique(maintain_order=True).to_list() if self.label_events else []
        return list(dict.fromkeys([*self.manifest["labels"], *added]))

    @cached_property
    def label_state(self) -> dict[str, Any]:
        """Which labels this store shows: `sha256` of all of them, `events` so far, and when the last was entered."""
        digest = hashlib.sha256()
        for name in sorted(self.labels):
            values = self.index[name].cast(pl.Int8).fill_null(-128)
            values = values.set(self.taken_back(name), -127)  # no blank: a policy for blanks does not reach it
            digest.update(name.encode() + b"\0" + values.to_numpy().tobytes())
        last = self.history["entered"][-1] if self.label_events else None
        return {"sha256": digest.hexdigest(), "events": self.label_events, "last": last}

    def taken_back(self, name: str) -> pl.Series:
        """True for each row whose label of that name was there and was taken back: nothing is known of it."""
        if not self.label_events:
            return pl.repeat(False, len(self), dtype=pl.Boolean, eager=True)
        gone = self._standing.filter((pl.col("target") == name) & pl.col("value").is_null())
        return self.index["path"].is_in(gone["path"].implode())

    def chosen(self, name: str) -> pl.DataFrame:
        """`chosen_by, probability` of each row: how an image was chosen to be labelled; null for labels of `prepare`.

        Args:
            name: of the label; null throughout for any other column.
        """
        known = [name] if name in self.manifest["labels"] else []
        rows = self._rows(lambda file: pl.read_parquet(file, columns=["path", *known]))
        first = label_history.first_choice(self.history).filter(pl.col("target") == name)
        both = rows.join(first, on="path", how="left", maintain_order="left")
        brought = pl.col(name).is_not_null() & pl.col("taken").is_null() if known else pl.lit(False)
        return both.select(pl.when(~brought).then(pl.col(column)) for column in ("chosen_by", "probability"))

    @property
    def source(self) -> str:
        """What the patients' names belong to: stores of one source share patients."""
        return str(self.manifest["source"])

    @property
    def patients_known(self) -> bool:
        """False where each image counts as a patient of its own because nobody knows better."""
        return bool(self.manifest["patients_known"])

    @property
    def blank(self) -> str:
        """What a blank label means unless a study says otherwise: `unknown` or `negative`."""
        return str(self.manifest["blank"])

    def blank_of(self, label: str) -> str:
        """The same for one label: in a finding that was added later nobody has said anything by leaving it blank."""
        return self.blank if label in self.manifest["labels"] else "unknown"

    def rows_in(self, *splits: str) -> npt.NDArray[np.int64]:
        """The rows, in order, of the images whose patient is in one of these splits.

        Raises:
            ValueError: a name is none of train, val and test.
        """
        if unknown := set(splits) - set(SPLITS):
            raise ValueError(f"no such split: {sorted(unknown)}; there are {SPLITS}")
        chosen = self.splits.filter(pl.col("split").is_in(splits))["patient"]
        patients = self.columns("patient")["patient"]
        return patients.is_in(chosen.implode()).arg_true().to_numpy().astype(np.int64)

    def verify(self) -> None:
        """Read every byte and compare it with the manifest's hashes.

        Raises:
            InputError: a file is not what `prepare` wrote.
        """
        for name, sha256 in self.manifest["hashes"]["files"].items():
            if files.sha256_file(self.path / name) != sha256:
                raise InputError(f"{self.path / name} is not what was written.", _AGAIN)

    def _read_level(self, factor: int) -> Level:
        sizes = self.columns("height", "width")
        if len(sizes) != len(self):
            raise InputError(
                f"{self.path / 'index.parquet'} has {len(sizes):,} rows and the manifest {len(self):,}.", _AGAIN
            )
        # the rest is cut off, as `shrink` does
        heights, widths = (sizes[name].cast(pl.Int32).to_numpy() // factor for name in ("height", "width"))
        stored = int(self.manifest["size"])
        folder = level_folder(self.path, stored, factor)
        return Level(folder, heights, widths, self.manifest["shards"], stored // factor)


def _check_is_store(path: Path) -> None:
    if not path.exists():
        raise InputError(f"There is no store at {path}.", f"Make one: mococxr prepare SOURCE --out {path}")
    if not (path / "manifest.json").is_file():
        raise InputError(f"{path} is not a store: it has no manifest.json.", "Name a folder that `prepare` has made.")
    for name in ("index.parquet", "splits.csv"):
        if not (path / name).is_file():
            raise InputError(f"{path / name} is missing.", _AGAIN)


def _check_format(path: Path, manifest: Any) -> None:
    keys = ("format", "counts", "labels", "shards", "levels", "size", "source", "patients_known", "blank", "hashes")
    absent = [key for key in keys if not isinstance(manifest, dict) or key not in manifest]
    if absent:
        raise InputError(f"{path / 'manifest.json'} lacks {', '.join(absent)}.", _AGAIN)
    if manifest["format"] != FORMAT:
        raise InputError(
            f"{path} has store format {manifest['format']} (written by mococxr {manifest.get('mococxr')}); "
            f"this version reads format {FORMAT}.",
            "Use the version that wrote it, or prepare the store again.",
        )


def _read(file: Path, reader: Callable[[Path], pl.DataFrame]) -> pl.DataFrame:
    try:
        return reader(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise InputError(f"{file} cannot be read: {error}.", _AGAIN) from error
