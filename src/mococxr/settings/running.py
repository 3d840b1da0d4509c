"""Settings of `run`, `doctor` and `info`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mococxr.settings.fields import OnDevice, Seeded, WithJobs, setting, under
from mococxr.settings.preparation import Format

_images, _labels, _privacy, _execution = under("Images", "Labels", "Privacy", "Execution")


@dataclass(frozen=True, kw_only=True)
class RunSettings(OnDevice, WithJobs, Seeded):
    """Go from a folder of chest X-rays to a classifier and its numbers: plan, prepare, pretrain, study, fit, evaluate.

    The plan is written first, to OUT/plan.yaml, and may be edited; the same command goes on from it, also after a stop.
    """

    source: Path = setting("A folder of images, or a table that lists them, as `prepare` takes it.", positional=True)
    out: Path = setting("Folder to create, or to go on in.")
    target: str | None = _labels(
        "Label to predict: a column, COLUMN=VALUE, or COLUMN~FINDING of a column of lists.",
        None,
        shown="the only label that there is",
    )
    budget: str = _execution(
        "Time that the plan is fitted to: 90m, 2h, 1h30m. It keeps to it by fewer epochs and smaller images.", "20m"
    )
    plan: bool = _execution("Stop when the plan is written and shown.", False)
    format: Format = setting("Layout of the source; auto detects it.", "auto", group="Images")
    labels: Path | None = _labels("Label table, if it is not inside the source.", None, table=True)
    label_key: str | None = _labels(
        "Column of the label table that finds the images of a DICOM archive.", None, shown="as in `prepare`"
    )
    patients_unknown: bool = _images(
        "Accept images without patient identifiers; each then counts as a patient, and the answer says so.", False
    )
    key: Path | None = _privacy("Key file of the pseudonyms of a DICOM archive.", None, shown="OUT/store.key")


@dataclass(frozen=True, kw_only=True)
class DoctorSettings:
    """Say what this machine has for the work, what is missing, and what to change.

    Exit status 3 if something should be changed, 0 if not.
    """

    folder: Path = setting("Folder on the disk that is to be worked on.", Path(), positional=True, group="Execution")


@dataclass(frozen=True, kw_only=True)
class InfoSettings:
    """Say what a folder or file is that a command made: from what, with which settings, key numbers, next command."""

    path: Path = setting("A store, run, model, study, result, export, page, list or table.", positional=True)
