"""How the study was made: data and split, arms, settings, warnings, versions, and all its numbers."""

from __future__ import annotations

from typing import Any

import yaml

from mococxr.reporting.arms import arm_table, transfer_table
from mococxr.reporting.figures import Picture
from mococxr.reporting.section import CLOSER, Section
from mococxr.reporting.tables import (
    Table,
    budget_table,
    cell_table,
    split_table,
    target_table,
    undefined_table,
)
from mococxr.reporting.words import NOT_RECORDED, display, judged, moment, shown, subtitle
from mococxr.results import StudyResults as Study


def numbers_section(study: Study, figures: list[Picture]) -> Section:
    """Every cell, and the curves of average precision."""
    return Section(
        "numbers",
        "All numbers",
        tables=[("Cells (cells.csv)", cell_table(study))],
        gist="Every arm, mode, target and share of the labels; average precision too, where it was measured.",
        group=CLOSER,
        figures=[picture for picture in figures if picture.metric == "average_precision"],
    )


def data_section(study: Study) -> Section:
    """Where the images come from, how they were divided, and how many labels there are."""
    known = study.fact("store", "patients_known")
    facts = [
        ("Source", shown(study.fact("store", "source"))),
        ("Store", shown(study.fact("store", "path_name"))),
        *([("Test images", _test_store(study))] if study.external else []),
        ("Phantom images", shown(study.fact("store", "phantom"))),
        ("Patient identifiers", NOT_RECORDED if known is None else "known" if known else "unknown"),
        ("Files that could not be read", shown(study.fact("store", "unreadable"))),
        ("Files that are no image of their own, not used", shown(study.fact("store", "not_used"))),
        ("Split", shown(study.fact("store", "split_rule"))),
        ("Rows restricted to", shown(study.fact("settings", "where") or "no restriction")),
        ("Unit of the test", shown(study.fact("unit"))),
        ("Vote over the images of a unit", shown(study.fact("vote"))),
        ("Uncertain labels (-1)", shown(study.fact("uncertain"))),
        ("Blank labels", shown(study.fact("blank"))),
        ("Validation labels used", shown(study.fact("validation_labels"))),
    ]
    tables = [
        ("Splits", split_table(study)),
        ("Targets (images, unless patients are named)", target_table(study)),
        ("Labels at each fraction", budget_table(study)),
    ]
    gist = f"{subtitle(study)} Test, with a label: {judged(study)}."
    return Section("data", "Data and split", tables=tables, facts=facts, gist=gist)


def _test_store(study: Study) -> str:
    source, name, rule = (study.fact("test_store", word) for word in ("source", "path_name", "split_rule"))
    return f"those of another store: {shown(source)} (store {shown(name)}; split: {shown(rule)})"


def arms_section(study: Study) -> Section:
    """What each encoder is, and the images in both source and target."""
    transfer = transfer_table(study)
    tables = [("", arm_table(study)), *([("Images of source and target", transfer)] if transfer.rows else [])]
    gist = f"What each encoder is: {', '.join(display(study, arm) for arm in study.arms)}."
    return Section("arms", "Arms", tables=tables, gist=gist)


def settings_section(study: Study) -> Section:
    """The settings of the study, as they were given."""
    text = study.settings_text
    if not text.strip() and (recorded := study.fact("settings")):
        text = yaml.safe_dump(recorded, sort_keys=False, allow_unicode=True)
    lines = [] if text.strip() else [f"Settings: {NOT_RECORDED}"]
    return Section("settings", "Settings", lines, code=text, gist="settings.yaml, as it was given.")


def warnings_section(study: Study) -> Section:
    """What to be wary of, and every undefined number with its reason."""
    recorded = study.fact("warnings")
    lines = [shown(line) for line in recorded] if isinstance(recorded, list) else []
    resamples = study.fact("undefined_resamples")
    if resamples is None:
        lines.append(f"Undefined resamples of the bootstrap: {NOT_RECORDED}.")
    elif resamples:
        lines.append(f"Undefined resamples of the bootstrap, counted and left out: {shown(resamples)}.")
    undefined = undefined_table(study)
    if not lines and not undefined.rows:
        lines = ["None."]
    tables: list[tuple[str, Table]] = [("Undefined, and why", undefined)] if undefined.rows else []
    found = len([line for line in lines if line != "None."]) + len(undefined.rows)
    gist = "None." if not found else f"{found} {'entry' if found == 1 else 'entries'}."
    return Section("warnings", "Warnings", lines, tables, gist=gist, folded=not found)


def repeat_section(study: Study) -> Section:
    """Versions, and the command that repeats the study."""
    version: Any = study.fact("version")
    versions = version if isinstance(version, dict) else {"mococxr": version}
    lines = [f"{name} {shown(value)}" for name, value in versions.items()]
    lines.append(f"Study made: {moment(study.fact('created'))}")
    lines.append("This command repeats the study in its folder; trials that are done are skipped:")
    code = "mococxr study --config settings.yaml"
    return Section("repeat", "Versions, and how to repeat it", lines, code=code, gist=f"{lines[0]}.")
