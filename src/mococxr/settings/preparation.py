"""Settings of `prepare`, `inspect` and `views`: from images on disk to a store that was looked over."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.fields import LARGEST_SEED, PAPER, OnExecutor, Seeded, WithJobs, setting, under

Format = Literal[  # the readers of `datasets`, which this room may not import
    "auto", "csv", "dicom", "folder", "chexpert", "nih", "shenzhen", "montgomery", "mimic", "vindr", "padchest", "rsna",
    "tbx11k", "openi", "brax", "xrv",
]  # fmt: skip
_images, _labels, _split, _privacy = under("Images", "Labels", "Split", "Privacy")
_comparison, _augmentation, _output = under("Comparison", "Augmentation", "Output")
STORE = "A store made by `prepare`."


@dataclass(frozen=True, kw_only=True)
class PrepareSettings(OnExecutor, WithJobs):
    """Read a folder of chest X-rays once: decode, downscale, split by patient, and write a store."""

    source: Path = setting(
        "A folder of images, or a table that lists them; in Python also a torchxrayvision dataset.", positional=True
    )
    out: Path = setting("Store folder to create, or to add to (--add).")
    add: bool = setting(
        "Add the new images of the source to the store at --out, with its settings; old images keep their rows, and "
        "patients their splits.",
        False,
        group="Images",
    )
    format: Format = setting("Layout of the source; auto detects it.", "auto", group="Images")
    labels: Path | None = _labels("Label table, if it is not inside the source.", None, table=True)
    label: tuple[str, ...] = _labels(
        "Label column (repeatable), of 1, 0, -1 and blank, or of yes and no, positive and negative.",
        (),
        shown="every column of 1, 0, -1 and blank",
    )
    label_key: str | None = _labels(
        "Column of the label table that finds the images of a DICOM archive.",
        None,
        shown="the first of path, SOPInstanceUID, AccessionNumber, StudyInstanceUID, PatientID that does",
    )
    size: int = _images("Shorter side of a stored image.", 320, unit="px", low=16, high=4096, source=PAPER)
    depth: str = _images(
        "Mapping of 16 to 8 bit: full (the declared range), or percentiles of the image as LOW:HIGH.", "full"
    )
    voi: str = _images(
        "DICOM window or VOI table: first, widest, none (the whole stored range), a number from 1, or name:TEXT.",
        "first",
    )
    frames: Literal["first", "refuse"] = _images("Multi-frame DICOM: use the first frame, or exclude.", "first")
    any_body_part: bool = _images("DICOM: read images of other body parts than the chest, too.", False)
    max_pixels: int = _images("Images with more pixels are excluded.", 120_000_000, unit="pixels", low=1)
    split: tuple[float, float, float] = _split(
        "Fractions of patients for training, validation and test: each patient's split by a hash of its identifier and "
        "--split-seed, so that it stays whatever images and labels are added.",
        (0.5, 0.1, 0.4),
        low=0,
        high=1,
    )
    split_file: Path | None = _split(
        "Split to use instead of --split: a table `patient,split` (train, val, test), such as an earlier store's splits.csv "
        "(patients whom it does not name are split by --split), a JSON file with a list of images per split, or mednet:NAME "
        "(e.g. mednet:default) from the installed mednet package.",
        None,
        table=True,
    )
    split_seed: int = _split("Random seed of the split by --split.", 0, low=0, high=LARGEST_SEED)
    stratify: bool = _split(
        "Stratify the split by label, in exact fractions; patients may then move when images or labels change.", False
    )
    patients_unknown: bool = _images(
        "Accept images without patient identifiers; each then counts as a patient, and reports say so.", False
    )
    pseudonymise: bool = _privacy(
        "Replace patient, study and image names by keyed hashes and drop other metadata; always for DICOM.", False
    )
    key: Path | None = _privacy(
        "Key file of the pseudonyms, created if absent; stores under one key share pseudonyms.", None, shown="OUT.key"
    )
    keep: tuple[str, ...] = _privacy("A further column of the table to keep in a pseudonymised store (repeatable).", ())


@dataclass(frozen=True, kw_only=True)
class InspectSettings(WithJobs):
    """Check a store before training: unreadable, unusual, duplicate and leaking images, labels, shortcuts.

    Exit status 3 if a finding needs attention, 0 if none does.
    """

    store: Path = setting(STORE, positional=True)
    out: Path = setting("HTML page to write; NAME.json and flags.csv are written beside it.")
    against: Path | None = _comparison(
        "A second store that should share no patient and no image, e.g. an external test set.", None
    )
    thumbnails: int = _output("Images shown per finding; flags.csv lists all.", 12, unit="images", low=0)


@dataclass(frozen=True, kw_only=True)
class ViewsSettings(Seeded):
    """Draw a sheet of augmented views as pretraining would see them."""

    store: Path = setting(STORE, positional=True)
    out: Path = setting("PNG file to write.")
    preset: Literal["paper", "tuned"] = _augmentation("Preset whose augmentation is shown.", "tuned")
    size: int | None = _augmentation("Side of a view.", None, unit="px", low=16, high=4096, shown="the preset's")
    images: int = _images("Number of images to show, one per row.", 6, low=1)
