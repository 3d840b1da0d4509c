"""Settings of `prepare`, `inspect` and `views`: from images on disk to a store that was looked over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.fields import LARGEST_SEED, PAPER, OnExecutor, Seeded, WithJobs, setting

Format = Literal[
    "auto", "csv", "dicom", "folder", "chexpert", "nih", "shenzhen", "montgomery", "mimic", "vindr", "padchest", "rsna",
    "tbx11k", "openi", "brax", "xrv",
]  # fmt: skip
STORE = "A store made by `prepare`."


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(OnExecutor, WithJobs):
    """Read a folder of chest X-rays once: decode, downscale, split by patient, and write a store."""

    source: Path = setting(
        "A folder of images, or a CSV table that lists them; in Python also a torchxrayvision dataset.", positional=True
    )
    out: Path = setting("Store folder to create.")
    format: Format = setting("Layout of the source; auto detects it.", "auto", group="Images")
    labels: Path | None = setting("Label table, if it is not inside the source.", None, group="Labels")
    label: tuple[str, ...] = setting(
        "Label column (repeatable); any value other than 1, 0, -1 and blank is then an error.",
        (),
        shown="every column of 1, 0, -1 and blank",
        group="Labels",
    )
    size: int = setting(
        "Shorter side of a stored image.", 320, unit="px", low=16, high=4096, source=PAPER, group="Images"
    )
    depth: str = setting(
        "Mapping of 16-bit images to 8 bit: full (the declared range), or two percentiles of the image as LOW:HIGH, "
        "e.g. 0.5:99.5.",
        "full",
        group="Images",
    )
    voi: str = setting(
        "DICOM window or VOI table to apply: first, widest, none (the whole stored range), a number from 1, or "
        "name:TEXT.",
        "first",
        group="Images",
    )
    frames: Literal["first", "refuse"] = setting(
        "Multi-frame DICOM files: use the first frame, or exclude the file.", "first", group="Images"
    )
    max_pixels: int = setting(
        "Images with more pixels are excluded before they are decoded.",
        120_000_000,
        unit="pixels",
        low=1,
        group="Images",
    )
    split: tuple[float, float, float] = setting(
        "Fractions of patients for training, validation and test.", (0.5, 0.1, 0.4), low=0, high=1, group="Split"
    )
    split_file: Path | None = setting(
        "A given split instead of --split: a table `patient,split` (train, val, test), a JSON file with a list of "
        "images per split, or mednet:NAME from the installed mednet package, e.g. mednet:default.",
        None,
        group="Split",
    )
    split_seed: int = setting("Random seed of the split by --split.", 0, low=0, high=LARGEST_SEED, group="Split")
    patients_unknown: bool = setting(
        "Accept images without patient identifiers: each image then counts as its own patient, and the report says so.",
        False,
        group="Images",
    )
    pseudonymise: bool = setting(
        "Replace patient, study and image names by keyed hashes and keep only the labels of the table; always on for "
        "DICOM.",
        False,
        group="Privacy",
    )
    key: Path | None = setting(
        "Key file of the pseudonyms, created if absent; one key gives a patient the same pseudonym in every store.",
        None,
        shown="OUT.key beside the store",
        group="Privacy",
    )
    keep: tuple[str, ...] = setting(
        "A further column of the table to keep in a pseudonymised store (repeatable).", (), group="Privacy"
    )


@dataclass(frozen=True, kw_only=True)
class InspectSettings(WithJobs):
    """Check a store before training: unreadable, unusual, duplicate and leaking images, labels, shortcuts.

    Exit status 3 if a finding needs attention, 0 if none does.
    """

    store: Path = setting(STORE, positional=True)
    out: Path = setting("HTML page to write; NAME.json and flags.csv are written beside it.")
    against: Path | None = setting(
        "A second store that should share no patient and no image with the first, e.g. an external test set.",
        None,
        group="Comparison",
    )
    thumbnails: int = setting(
        "Images shown per finding; the table lists all of them.", 12, unit="images", low=0, group="Output"
    )


@dataclass(frozen=True, kw_only=True)
class ViewsSettings(Seeded):
    """Draw a sheet of augmented views as pretraining would see them, to check before a GPU hour is spent."""

    store: Path = setting(STORE, positional=True)
    out: Path = setting("PNG file to write.")
    preset: Literal["paper", "tuned"] = setting("Preset whose augmentation is shown.", "tuned", group="Augmentation")
    size: int | None = setting(
        "Side of a view.", None, unit="px", low=16, high=4096, shown="the preset's", group="Augmentation"
    )
    images: int = setting("Number of images to show, one per row.", 6, unit="images", low=1, group="Images")
