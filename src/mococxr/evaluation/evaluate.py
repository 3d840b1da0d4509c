"""`mococxr evaluate`: measure a table of labels and scores, alone or against a second one."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from mococxr import console, files, metrics
from mococxr.errors import InputError
from mococxr.evaluation import operating
from mococxr.evaluation.comparing import Pair, compare, margin_block, planning_block
from mococxr.evaluation.groups import subgroup_blocks
from mococxr.evaluation.numbers import Block, Bootstrap, Rows, bootstrap_ends, measure
from mococxr.evaluation.predictions import Table, kept, pair, read
from mococxr.evaluation.several import adjust, averages
from mococxr.evaluation.summary import summary

if TYPE_CHECKING:
    from mococxr.settings import EvaluateSettings


def run(settings: EvaluateSettings) -> dict[str, Any]:
    """Evaluate, print a small table, and write the numbers where `--json` says.

    Returns:
        what `--json` writes (docs/contract.md); None stands where the data define no number, with a `reason`. Of
        several labels: `labels`, a block each, and `macro` and `micro`.

    Raises:
        InputError: a table, column, row or setting that cannot be used; nothing was written.
    """
    _check(settings)
    how = Bootstrap(settings.replicates, settings.seed, settings.level, settings.bootstrap, settings.stratify)
    tables = [
        read(settings.predictions, label, score, settings.patient, settings.key, settings.subgroup)
        for label, score in zip(settings.label, settings.score, strict=True)
    ]
    blocks = [_one(table, score, settings, how) for table, score in zip(tables, settings.score, strict=True)]
    found = blocks[0]
    if len(blocks) > 1:
        adjust(blocks)
        notes = list(dict.fromkeys(note for block in blocks for note in block["notes"]))
        found = {"labels": blocks, **averages(tables, how), "notes": notes}
    if settings.json:
        files.write_json(settings.json, found)
    console.result(summary(found))
    for note in found["notes"]:
        console.warn(note)
    return found


def _check(settings: EvaluateSettings) -> None:
    """Refuse settings that cannot be, before any table is read."""
    if len(settings.label) != len(settings.score) or not settings.label:
        raise InputError(
            f"{len(settings.label)} labels and {len(settings.score)} scores cannot be matched.",
            "Give --label and --score as often as each other, in the same order.",
        )
    if settings.against is None and (settings.unpaired or settings.margin is not None):
        name = "--unpaired" if settings.unpaired else f"--margin {settings.margin:g}"
        raise InputError(f"{name} compares two tables, and there is one.", "Give the second by --against.")
    if settings.unpaired and settings.key is not None:
        raise InputError(
            f"--unpaired says that no rows pair, --key {settings.key} that they do.", "Leave one out."
        )
    operating.checked(settings.threshold, settings.calibrate, settings.validation, settings.prevalence)


def _one(table: Table, score: str, settings: EvaluateSettings, how: Bootstrap) -> Block:
    """Everything about one label."""
    rows = kept(table)
    first, areas = measure(rows, how)
    bootstrap: Block = {
        **{name: getattr(how, name) for name in ("replicates", "seed", "level", "method", "stratified")},
        "undefined": int(np.isnan(areas.found_B).sum()),
        "auroc": bootstrap_ends(areas, how),
    }
    found: Block = {
        "label": table.label,
        "score": score,
        "level": how.level,
        "left_out": {
            "blank": int(np.isnan(table.labels).sum()),
            "uncertain": int((table.labels == -1).sum()),
        },
        "patients_assumed": settings.patient is None,
        "paired_by": None,
        "too_few": metrics.too_few(rows.labels, rows.patients, consequence="the interval is a rough one"),
        **first,
        **dict.fromkeys(("against", "difference", "comparison", "margin", "planning")),
        "bootstrap": bootstrap,
    }
    if settings.against is not None:
        both = _pair(table, rows, score, settings)
        other = how if not both.unpaired else dataclasses.replace(how, seed=how.seed + 1)
        second, theirs = measure(both.theirs, other)
        found["paired_by"] = None if both.unpaired else (settings.key or "position")
        found["too_few"] = both.too_few
        found["against"] = second
        found["difference"], found["comparison"], bootstrap["difference"] = compare(
            both, (areas, theirs), how
        )
        if settings.margin is not None:
            found["margin"] = margin_block(both, found["comparison"], settings.margin, how.level)
        if not both.unpaired:
            found["planning"] = planning_block(both, found["comparison"], settings.plan_for)
    more, notes = _learned(table, rows, score, settings, how)
    return {**found, **more, "notes": [*_notes(found), *notes]}


def _pair(table: Table, rows: Rows, score: str, settings: EvaluateSettings) -> Pair:
    """The second table beside the first."""
    assert settings.against is not None
    second = read(settings.against, table.label, score, settings.patient, settings.key)
    if not settings.unpaired:
        moved = pair(table, second, settings.key)
        return Pair(
            rows, dataclasses.replace(rows, name=str(moved.path), scores=moved.scores[table.judged]), False
        )
    theirs = kept(second)
    both = np.intersect1d(rows.patients, theirs.patients) if settings.patient is not None else np.empty(0)
    if both.size:
        raise InputError(
            f"{both.size} patients stand in {rows.name} and {theirs.name}, first {str(both[0])!r}: --unpaired "
            "needs different patients.",
            "Leave --unpaired out where the rows pair; or leave these patients out of one table.",
        )
    return Pair(rows, theirs, True)


def _learned(
    table: Table, rows: Rows, score: str, settings: EvaluateSettings, how: Bootstrap
) -> tuple[Block, list[str]]:
    """Threshold, calibration and subgroups, and what must be said of the validation table."""
    rule = operating.checked(settings.threshold, settings.calibrate, settings.validation, settings.prevalence)
    validation, note = None, None
    if settings.validation is not None:
        validation = kept(read(settings.validation, table.label, score, settings.patient, None))
        note = operating.apart(rows, validation, settings.patient is not None)
    point = calibration = None
    if rule is not None:
        point = operating.operating_block(rule, rows, validation, settings.prevalence, how)
    if settings.calibration or settings.calibrate != "none":
        calibration = operating.calibration_block(settings.calibrate, rows, validation, how, score)
    groups = subgroup_blocks(table, rows, how)
    more = {"operating_point": point, "calibration": calibration, "subgroups": groups}
    return more, [note] if note else []


def _notes(found: Block) -> list[str]:
    """What a reader must know besides the numbers, one sentence each."""
    notes = []
    if found["patients_assumed"]:
        notes.append("No --patient was given: each row was taken for a patient of its own.")
    blank, uncertain = found["left_out"].values()
    if blank or uncertain:
        notes.append(f"Rows left out: {blank} without a label, {uncertain} uncertain (-1).")
    bootstrap = found["bootstrap"]
    if bootstrap["undefined"]:
        of = f"{bootstrap['undefined']} of {bootstrap['replicates']}"
        notes.append(f"{of} resamples held one class only; they were left out.")
    return [*notes, found["too_few"]] if found["too_few"] else notes
