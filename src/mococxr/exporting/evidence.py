"""What a study measured of the encoder or the classifier that is exported: the rows for its model card."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from mococxr.errors import InputError
from mococxr.exporting.artifact import Subject
from mococxr.results import read_results

Facts = dict[str, Any]


def measured(folder: Path, arm: str | None, subject: Subject) -> Facts:
    """The cells of a study that are about this encoder; of a classifier, those of its target and mode.

    Args:
        folder: the study.
        arm: its arm; None takes the arm whose encoder files have this encoder's hash.

    Returns:
        `arm`, `test` (facts of the test images) and `cells` (rows of cells.csv that have a number).

    Raises:
        InputError: no study, no such arm, or no cell with a number.
    """
    study = read_results(folder)
    arms: dict[str, Facts] = study.facts["arms"]
    chosen = arm or _arm(arms, subject)
    if chosen not in arms:
        raise InputError(
            f"No arm of {folder} is {'this encoder' if arm is None else repr(arm)}.",
            f"Name it with --arm: {', '.join(arms)}.",
        )
    cells = study.frames["cells"].filter(pl.col("arm") == chosen, pl.col("auroc").is_not_null())
    if subject.model:
        about = subject.model.about
        cells = cells.filter(pl.col("target") == about["target"], pl.col("mode") == about["mode"])
    if not len(cells):
        raise InputError(
            f"{folder} has no number for the arm {chosen} that is about this.", "Leave --study out."
        )
    return {"arm": chosen, "test": study.test_store, "cells": cells.to_dicts()}


def _arm(arms: dict[str, Facts], subject: Subject) -> str | None:
    """The one arm whose files have the hash of this encoder."""
    wanted = subject.origin.get("sha256")
    found = [name for name, facts in arms.items() if wanted and wanted in str(facts.get("files_sha256"))]
    return found[0] if len(found) == 1 else None
