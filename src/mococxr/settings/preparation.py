"""Settings of `prepare` and `views`: from images on disk to a store, and what a view of it looks like."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.fields import setting

Format = Literal[
    "auto", "csv", "dicom", "folder", "chexpert", "nih", "shenzhen", "montgomery", "mimic", "vindr", "padchest", "rsna",
    "tbx11k", "openi", "brax", "xrv",
]  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class PrepareSettings:
    """Read a folder of images once: decode, shrink, split by patient, and write a store."""

    source: Path = setting(
        "A folder of images, or a CSV table that lists them; in Python a torchxrayvision data set too.",
        positional=True,
    )
    out: Path = setting("The store to make.")
    format: Format = setting("How the source is laid out; auto looks.", "auto", group="Images")
    labels: Path | None = setting("The label table, where it is not inside the source.", None, group="Images")
    label: tuple[str, ...] = setting(
        "A label column (repeatable); any value in it other than 1, 0, -1 and blank is then an error.",
        (),
        shown="every column of 1, 0, -1 and blank",
        group="Labels",
    )
    size: int = setting(
        "Shorter side of a stored image.", 320, unit="px", source="arXiv 2010.05352", group="Images"
    )
    depth: str = setting(
        "How 16-bit images become 8-bit: the full declared range, or the range between two percentiles of the "
        "image as LOW:HIGH, e.g. 0.5:99.5.",
        "full",
        group="Images",
    )
    voi: str = setting(
        "Which window or table of a DICOM file is applied: first, widest, none (the whole stored range), a "
        "number from 1, or name:TEXT.",
        "first",
        group="Images",
    )
    frames: Literal["first", "refuse"] = setting(
        "What becomes of a DICOM file of several frames: its first is the image, or it is refused.",
        "first",
        group="Images",
    )
    max_pixels: int = setting(
        "An image with more pixels than this is refused before it is decoded.",
        120_000_000,
        unit="pixels",
        group="Images",
    )
    split: tuple[float, float, float] = setting(
        "Shares of the patients for training, validation and test.",
        (0.5, 0.1, 0.4),
        group="Split",
    )
    split_file: Path | None = setting(
        "A split that wins over shares: a table `patient,split` (train, val, test), a JSON file of lists of images "
        "by split, or mednet:NAME for one of the installed mednet's, e.g. mednet:default.",
        None,
        group="Split",
    )
    split_seed: int = setting("Seed of the split by shares.", 0, group="Split")
    patients_unknown: bool = setting(
        "Go on without patient ids: each image then counts as a patient of its own, and the report says so.",
        False,
        group="Images",
    )
    pseudonymise: bool = setting(
        "Replace patients, studies and images by keyed hashes, and keep nothing of a table but its labels; "
        "always so with DICOM.",
        False,
        group="Privacy",
    )
    key: Path | None = setting(
        "The key of the pseudonyms; made if it is not there. One key gives one person one pseudonym in all "
        "stores.",
        None,
        shown="OUT.key beside the store",
        group="Privacy",
    )
    keep: tuple[str, ...] = setting(
        "A column of the table, neither label nor fixed, to take over into a store of pseudonyms (repeatable).",
        (),
        group="Privacy",
    )
    jobs: int | None = setting("Processes that decode images.", None, shown="one a core", group="Run")
    executor: Literal["local", "ray"] = setting(
        "Where images are decoded: on this machine, or over a Ray cluster that shares its file system.",
        "local",
        group="Run",
    )


@dataclass(frozen=True, kw_only=True)
class ViewsSettings:
    """Draw a sheet of the views that pretraining would see, to look at before a GPU hour is spent."""

    store: Path = setting("A store made by `prepare`.", positional=True)
    out: Path = setting("The PNG to write.")
    preset: Literal["paper", "tuned"] = setting("The recipe of views.", "tuned", group="Images")
    size: int | None = setting("Side of a view.", None, unit="px", shown="the preset's", group="Images")
    images: int = setting("How many images to show, one a row.", 6, unit="images", group="Images")
    seed: int = setting("Seed of images and views.", 0, group="Run")
