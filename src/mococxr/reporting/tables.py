"""The tables of a study that a manuscript may take, by file name: `tables/NAME.tex` and `tables/NAME.csv`."""

from __future__ import annotations

from typing import Any

from mococxr.pages import format as fmt
from mococxr.pages.render import Table
from mococxr.reporting import counts, headline, provenance, rows
from mococxr.results import StudyResults


def manuscript_tables(study: StudyResults, calibration: dict[str, Any]) -> dict[str, tuple[str, Table]]:
    """File name without suffix -> caption and table.

    Args:
        calibration: the section of the page of that name.
    """
    level = headline.interval_name(study)
    tables = {
        "labelled": ("Images and patients with a label, by target and split", counts.table(study)),
        "performance": (f"AUROC ({level}) by labelled fraction of the training set", _performance(study)),
        "cells": ("All measures of every arm", rows.cells(study)),
        "arms": ("Encoders", provenance.arms(study)),
    }
    if study.differences:
        caption = f"Difference in AUROC ({level} over test patients) by labelled fraction of the training set"
        tables["differences"] = (caption, _differences(study))
        tables["comparisons"] = ("All comparisons", rows.comparisons(study, "differences"))
        tables["variance"] = ("Sources of uncertainty", rows.variance(study)["table"])
        tables["labels-saved"] = ("Labels that the other arm needs", rows.saved(study)["table"])
    if study.rows("flow"):
        named = provenance.data(study)["tables"]
        tables["flow"], tables["characteristics"] = named[-2:]
    tables |= {f"calibration-{i + 1}": table for i, table in enumerate(calibration["tables"])}
    return tables | (_subgroups(study) if study.rows("subgroups") else {})


def _subgroups(study: StudyResults) -> dict[str, tuple[str, Table]]:
    """AUROC of the subgroups of all cells in one table, and their rates in another."""
    joined: dict[tuple[str, ...], Table] = {}
    for caption, table in rows.subgroups(study)["tables"]:
        cell = caption.removesuffix(rows.AT_THRESHOLD)
        whole = joined.setdefault(tuple(table.head), Table(["Cell", *table.head], [], table.text + 1, table.note))
        whole.rows.extend([cell, *row] for row in table.rows)
    names = {"subgroups": "AUROC of subgroups", "subgroup-rates": "Rates of subgroups at the threshold"}
    return {name: (names[name], table) for name, table in zip(names, joined.values(), strict=False)}


def _fractions(study: StudyResults) -> list[float]:
    return sorted(study.values("fraction"))


def _performance(study: StudyResults) -> Table:
    """A row for each target, mode and arm; a column for each fraction of the labels."""
    fractions = _fractions(study)
    keys = dict.fromkeys((row["target"], row["mode"], row["arm"]) for row in study.cells)
    body = []
    for target, mode, arm in keys:
        cells = [study.cell(arm, mode, target, fraction) for fraction in fractions]
        texts = [fmt.interval(cell, "auroc") if cell else fmt.DASH for cell in cells]
        body.append([target, headline.MODES[mode].name, headline.arm_label(study, arm), *texts])
    return Table(["Target", "Classifier", "Arm", *map(fmt.percent, fractions)], body, 3)


def _differences(study: StudyResults) -> Table:
    """The same of the differences; an asterisk where the interval leaves 0 out."""
    fractions = _fractions(study)
    keys = dict.fromkeys((row["target"], row["mode"], row["arm"], row["against"]) for row in study.differences)
    body = []
    for target, mode, arm, against in keys:
        several = [study.difference(arm, against, mode, target, fraction) for fraction in fractions]
        known = next(row for row in several if row)
        texts = [
            fmt.DASH if row is None or row["difference"] is None
            else fmt.interval(row, "difference", sign=True) + ("*" if row["verdict"] in ("better", "worse") else "")
            for row in several
        ]  # fmt: skip
        body.append([target, headline.mode_label(known), headline.pair_label(study, known, " − "), *texts])
    note = "*: better or worse, over all that was repeated; not adjusted for the number of comparisons."
    return Table(["Target", "Classifier", "Arms", *map(fmt.percent, fractions)], body, 3, note)
