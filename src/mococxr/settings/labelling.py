"""Settings of `next`, `label`, `retract`, `annotate` and `agreement`: labels of a store that grow."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.classifiers import EncoderSettings, KeepsFeatures
from mococxr.settings.fields import ENCODERS, SIZED, Seeded, setting, under
from mococxr.settings.preparation import STORE

_labels, _output, _design, _page = under("Labels", "Output", "Design", "Page")
# the keys of choosing.strategies.STRATEGIES, which this room may not import
Strategy = Literal["coverage", "uncertainty", "balanced", "random"]


@dataclass(frozen=True, kw_only=True)
class NextSettings(EncoderSettings, KeepsFeatures, Seeded):
    """List the unlabelled images to label next: `label` reads the list when it is filled in."""

    store: Path = setting(STORE, positional=True)
    target: tuple[str, ...] = setting("Finding that is to be labelled (repeatable); the store need not have it yet.")
    count: int = _design("Length of the list, one image a patient until patients run out.", 50, unit="images", low=1)
    by: Strategy = setting(
        "How images are chosen: for their neighbours (coverage), at the least margin (uncertainty), over all scores "
        "(balanced), or at random: on real images none of the others was better (docs/benchmarks.md).",
        "random",
        group="Design",
    )
    encoder: str | None = setting(
        f"Encoder: {ENCODERS}. {SIZED}. --by random needs none.", None, shown="none", group="Encoder"
    )
    model: Path | None = _design(
        "Model folder made by `fit`, whose scores tell margins.", None, shown="a linear head on the labels so far"
    )
    split: Literal["train+val", "test"] = _design("Patients to choose from; test takes --by random.", "train+val")
    random_share: float = _design(
        "Share of the list that is drawn at random, from which prevalence and calibration can be told.",
        0.2,
        low=0,
        high=1,
    )
    overlap: float = _design("Share of the list that two readers are to see.", 0.0, low=0, high=1)
    out: Path = _output("CSV list to write; an existing file is left alone.")


@dataclass(frozen=True, kw_only=True)
class LabelSettings:
    """Add labels to a store or change them, each with its date and reader; without a table, show how they stand."""

    store: Path = setting(STORE, positional=True)
    table: Path | None = setting(
        "Table of labels: path, and a column per finding (1, 0, -1 or words; blanks say nothing) or target and value; "
        "also reader, date, chosen_by, probability, note.",
        None,
        positional=True,
        table=True,
        group="Labels",
        shown="none: the labels are shown",
    )
    label: tuple[str, ...] = _labels(
        "Finding to read (repeatable); a name that the store does not have yet adds that finding.",
        (),
        shown="the store's findings",
    )
    reader: str | None = _labels("Who labelled, where the table does not say.", None, shown="not stated")
    chosen_by: str | None = _labels(
        "How the images were chosen, e.g. random, where the table does not say.", None, shown="not stated"
    )
    as_of: str | None = _labels(
        "Show the labels as they were: a date (UTC, that day included), or a number of label events.",
        None,
        shown="as they are now",
    )
    out: Path | None = _output("CSV file for the whole history of labels, one event per row.", None)


@dataclass(frozen=True, kw_only=True)
class RetractSettings:
    """Take labels of a store back: fit and study then know nothing of them; the history keeps that they were there."""

    store: Path = setting(STORE, positional=True)
    table: Path = setting(
        "Table as `label` takes it: each label in it is taken back, whatever its value; a list of images with --label.",
        positional=True,
        table=True,
    )
    label: tuple[str, ...] = _labels("Finding to take back (repeatable).", (), shown="the findings of the table")
    reader: str | None = _labels(
        "Take back what this reader said, and no more.", None, shown="what every reader and `prepare` said"
    )


@dataclass(frozen=True, kw_only=True)
class AnnotateSettings(Seeded):
    """Label images on a page in the browser, served to this machine alone; each answer goes into the store's history."""

    store: Path = setting(STORE, positional=True)
    target: tuple[str, ...] = _labels("Finding to ask for (repeatable); a name that the store does not have adds it.")
    next: Path | None = _labels(
        "List of images in the order in which they are shown: path; also chosen_by, probability, readers (2: shown to two).",
        None,
        table=True,
        shown="all images without these labels, in random order",
    )
    reader: str | None = _labels("Name that the page proposes to whoever opens it.", None)
    source: Path | None = setting(
        "Folder of the images' files, whose 12 or 16 bits are windowed; elsewhere the store's 8 bits are.",
        None,
        group="Images",
        shown="where `prepare` read them",
    )
    key: Path | None = setting(
        "Key of the store's pseudonyms, beside whose table the files are looked up.",
        None,
        group="Images",
        shown="STORE.key",
    )
    port: int = _page("Port of 127.0.0.1; 0 takes a free one.", 0, low=0, high=65535)
    tasks: Path | None = _output(
        "JSON file to write the list into as tasks for Label Studio, images inside; no page is served.", None
    )
    browser: bool = _page("Open the page in this machine's browser.", True)


@dataclass(frozen=True, kw_only=True)
class AgreementSettings(Seeded):
    """How far readers agree who labelled the same images (kappa), where they do not, and which label stands then."""

    store: Path = setting(STORE, positional=True)
    target: tuple[str, ...] = _labels("Finding to compare (repeatable).")
    resolve: str = _labels(
        "Label of an image on which readers disagree: uncertain, majority (else uncertain), or a reader's name; "
        "none changes nothing.",
        "uncertain",
    )
    out: Path | None = _output("CSV file for all disagreements, one image per row.", None)
