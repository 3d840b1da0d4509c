"""`mococxr evaluate`: measure a table of labels and scores, alone or against a second on the same films."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mococxr import files, journal, metrics
from mococxr.errors import InputError
from mococxr.evaluate.numbers import measure
from mococxr.evaluate.tables import kept, pair, read

if TYPE_CHECKING:
    from mococxr.config import EvaluateSettings


def run(settings: EvaluateSettings) -> None:
    """Evaluate, print a small table, and write the numbers where `--json` says."""
    found = evaluate(
        settings.predictions,
        against=settings.against,
        label=settings.label,
        score=settings.score,
        patient=settings.patient,
        key=settings.key,
        replicates=settings.replicates,
        seed=settings.seed,
        level=settings.level,
    )
    if settings.json:
        files.write_json(settings.json, found)
    journal.result(summary(found))
    for note in found["notes"]:
        journal.warn(note)


def evaluate(
    predictions: Path,
    *,
    label: str,
    score: str,
    against: Path | None = None,
    patient: str | None = None,
    key: str | None = None,
    replicates: int = 2000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Any]:
    """AUROC and average precision of a table, with intervals, and the paired difference to a second table.

    The AUROC and its difference are judged by DeLong where every patient has one row, else by the
    patient-cluster bootstrap with DeLong beside it. Without `patient` each row is a patient of its own.

    Args:
        predictions: table (.csv or .parquet), one row a film, study or patient.
        label: column that holds 1 or 0; rows with blank or -1 are left out and counted.
        score: column that holds the score, higher for more likely 1.
        against: second table with the same columns; the difference is `predictions` less `against`.
        patient: column that names the patient.
        key: column by which the rows of the two tables pair; by position without it.
        replicates: bootstrap resamples of the patients.
        seed: of the resamples.
        level: confidence level of every interval, between 0 and 1.

    Returns:
        what `--json` writes (docs/contract.md); None stands where the data define no number, with a `reason`.

    Raises:
        InputError: a table, column, row or setting that cannot be used.
    """
    if not (0 < level < 1 and replicates >= 1 and seed >= 0):
        raise InputError(
            f"Level {level}, replicates {replicates} and seed {seed} cannot be used.",
            "Give a level between 0 and 1, at least one replicate, and a seed of 0 or more.",
        )
    tables = [read(predictions, label, score, patient, key)]
    if against is not None:
        tables.append(pair(tables[0], read(against, label, score, patient, key), label, key))
    labels, patients, scores_KN = kept(tables, label)
    settings = {"replicates": replicates, "seed": seed, "level": level, "method": "percentile"}
    found: dict[str, Any] = {
        "label": label,
        "score": score,
        "level": level,
        "left_out": {
            "blank": int(np.isnan(tables[0].labels).sum()),
            "uncertain": int((tables[0].labels == -1).sum()),
        },
        "patients_assumed": patient is None,
        "paired_by": (key or "position") if against is not None else None,
        "too_few": metrics.too_few(labels, patients),
        **measure([str(table.path) for table in tables], labels, patients, scores_KN, settings),
    }
    return {**found, "notes": _notes(found)}


def _notes(found: dict[str, Any]) -> list[str]:
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


def summary(found: dict[str, Any]) -> str:
    """The small table that the command prints."""
    lines = [
        f"{found['n']} rows of {found['patients']} patients, {found['positives']} rows positive",
        f"{'':28}{'value':>8}  {100 * found['level']:g} % interval",
        _line("AUROC", found["auroc"]),
        _line("average precision", found["average_precision"]),
    ]
    if found["against"]:
        lines += [
            _line("AUROC, against", found["against"]["auroc"]),
            _line("average precision, against", found["against"]["average_precision"]),
            _line("AUROC difference", found["difference"]),
        ]
        p = found["difference"]["p"]
        if p is not None and not found["too_few"]:
            lines[-1] += f", p {p:.2g}"
    return "\n".join(lines)


def _line(name: str, block: dict[str, Any]) -> str:
    if block["low"] is None:
        return f"{name:28}{block['value']:8.3f}  not defined: {block['reason']}"
    return f"{name:28}{block['value']:8.3f}  {block['low']:.3f} to {block['high']:.3f} by {block['method']}"
