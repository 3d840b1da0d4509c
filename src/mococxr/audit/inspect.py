"""The command `inspect`: a store looked over before anything is trained on it, as one page and two tables.

`measure` and `pose` look at images, `flags` says what is wrong and compares copies, `labels` counts, `page` lays out.
Nothing here changes a store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import console, files
from mococxr.audit import labels
from mococxr.audit import measure as measuring
from mococxr.audit.flags import ERROR, INFO, KINDS, Flagger, copies_across, copies_within, to_frame
from mococxr.audit.page import to_html
from mococxr.errors import InputError
from mococxr.guard import pose, text
from mococxr.settings import InspectSettings
from mococxr.store import Store
from mococxr.workers import cores

SHORTCUT = "Report results within one value of the column too (--where COLUMN=VALUE), or balance it before training."
_PATIENTS = ("patient-in-two-splits", "patient-in-both-stores", "no-split")
"""Findings that are counted in patients."""


@dataclass(frozen=True)
class Audit:
    """What `inspect` found.

    Args:
        page: where the page lies; the facts lie beside it as JSON, the flags as `flags.csv`.
        facts: the content of the JSON file.
        flags: `row, path, patient, flag, reason, other`, a row for each flag of each image.
    """

    page: Path
    facts: dict[str, Any]
    flags: pl.DataFrame

    @property
    def exit_status(self) -> int:
        """3 where a finding is an error, else 0."""
        return int(self.facts["exit_status"])


def run(settings: InspectSettings) -> Audit:
    """Look at every image of a store, write the page, the facts and the flags, and say what was found.

    Raises:
        InputError: no store, the same store twice, a place that cannot be written to; nothing was written.
    """
    out = Path(os.path.abspath(settings.out))
    paths = {"page": out, "facts": out.with_suffix(".json"), "flags": out.with_name("flags.csv")}
    _check(settings, paths)
    store = Store.open(settings.store)
    other = Store.open(settings.against) if settings.against is not None else None
    if other is not None and other.sha256 == store.sha256:
        raise InputError("--against names the same store.", "Name another one, or leave it out.")
    facts, flags = gather(store, other, settings.jobs or cores())
    html = to_html(facts, flags, store, other, settings.thumbnails)
    files.write_csv(paths["flags"], flags)
    files.write_json(paths["facts"], facts)
    files.atomic_write(out, html)
    _say(facts)
    console.say(f"Page: {out}; every flag: {paths['flags']}; the numbers: {paths['facts']}")
    return Audit(out, facts, flags)


def gather(store: Store, other: Store | None, jobs: int) -> tuple[dict[str, Any], pl.DataFrame]:
    """Look at the images, compare them, count, and draw the conclusions.

    Args:
        store: the store.
        other: one that should share nothing with it, or None.
        jobs: processes.

    Returns:
        The content of the JSON file, and the flags.
    """
    flagger = Flagger(store)
    measured = measuring.measure(store, jobs)
    copies = copies_within(store, measured.prints, measured.table["blank"].to_numpy())
    rows = [*flagger.quarantined(), *flagger.splitting(), *flagger.looks(measured), *flagger.copied(copies)]
    if other is not None:
        rows += flagger.shared(other, copies_across(store, measured.prints, other, measuring.only_prints(other)))
    flags = to_frame(rows)
    words = measured.table["strokes"] >= text.WORD
    columns = labels.columns(store, words if words.any() else None)
    shortcuts = labels.shortcuts(store, columns)
    findings = _findings(flags, sum(shortcut.warns for shortcut in shortcuts))
    errors = [finding for finding in findings if finding["severity"] == ERROR]
    facts = {
        "verdict": _verdict(errors, len(store)),
        "exit_status": 3 if errors else 0,
        "store": _about(store, flagger),
        "against": None if other is None else _about(other, Flagger(other)),
        "findings": findings,
        "not_judged": _not_judged(store, measured.unjudged),
        "counts": labels.count(columns),
        "labels": labels.label_table(store),
        "labels_together": labels.together(store),
        "shortcuts": [
            {"label": shortcut.label, "column": shortcut.column, "auroc": shortcut.auroc, "warns": shortcut.warns,
             "enough": shortcut.enough,
             "rates": [{"value": value, "positive": rate, "images": n} for value, rate, n in shortcut.rates]}
            for shortcut in shortcuts
        ],
        "pixels": labels.pixel_table(measured.table.select(measuring.STATISTICS)),
    }  # fmt: skip
    return facts, flags


def _about(store: Store, flagger: Flagger) -> dict[str, Any]:
    """A store's name, size and provenance."""
    changed = [
        name
        # tables that an owner may have edited, as findings advise
        for name in ("index.parquet", "splits.csv", "quarantine.csv")
        if files.sha256_file(store.path / name) != store.manifest["hashes"]["files"][name]
    ]
    return {
        "name": store.path.name,
        "sha256": store.sha256,
        "source": store.source,
        "reader": store.manifest["reader"],
        "synthetic": bool(store.manifest["synthetic"]),
        "images": len(store),
        "patients": len(set(flagger.patients)) if store.patients_known else None,
        "quarantined": len(flagger.quarantined()),
        "size": store.manifest["size"],
        "split_rule": store.manifest["split_rule"],
        "blank": store.blank,
        "changed_since_prepare": changed,
    }


def _findings(flags: pl.DataFrame, shortcuts: int) -> list[dict[str, Any]]:
    """What was found, in the order of `KINDS`; nothing where there is none of a kind."""
    findings: list[dict[str, Any]] = []
    for kind in KINDS:
        rows = flags.filter(pl.col("flag") == kind.flag)
        if len(rows):
            # files in quarantine have none
            patients = rows["patient"].n_unique() if rows["patient"].null_count() == 0 else None
            counted = patients if kind.flag in _PATIENTS else len(rows)
            findings.append(
                {"flag": kind.flag, "severity": kind.severity, "count": counted, "images": len(rows),
                 "patients": patients, "what": kind.what, "do": kind.do}
            )  # fmt: skip
    if shortcuts:
        findings.append(
            {"flag": "shortcut", "severity": INFO, "count": shortcuts, "images": None, "patients": None,
             "what": f"labels that a column alone tells with an AUROC of {labels.WARN:.2f} or more", "do": SHORTCUT}
        )  # fmt: skip
    return findings


def _verdict(errors: list[dict[str, Any]], images: int) -> str:
    if not errors:
        return f"Nothing in these {images:,} images needs attention."
    named = [f"{error['what'].split(':')[0].split(' (')[0]} ({error['count']:,})" for error in errors]
    more = f" and {len(named) - 4} more" if len(named) > 4 else ""
    noun = "finding needs" if len(named) == 1 else "findings need"
    return f"{len(named)} {noun} attention before training: {', '.join(named[:4])}{more}."


def _not_judged(store: Store, unjudged: dict[str, int]) -> list[str]:
    """What could not be looked at, and why, in sentences."""
    lines = []
    if unjudged["pose"]:
        lines.append(
            f"Pose and inversion of {unjudged['pose']:,} lateral images: fewer than {pose.ENOUGH} to learn from."
        )
    if unjudged["chest"]:
        lines.append(
            f"Whether {unjudged['chest']:,} images show a chest: fewer than {pose.ENOUGH} of their view to learn from."
        )
    if unjudged["text"]:
        lines.append(
            f"Burned-in text on {unjudged['text']:,} images: their shorter side is under {text.TEXT_LEAST} px. Prepare "
            f"with --size {text.TEXT_SIDE} to have it looked for."
        )
    if not store.patients_known:
        lines.append("Patients in several splits: patients are not known, each image counts as one.")
    return lines


def _check(settings: InspectSettings, paths: dict[str, Path]) -> None:
    if paths["page"] == paths["facts"]:
        raise InputError(f"--out {settings.out} is the name of the JSON file.", "Name a page, e.g. audit.html.")
    for path in paths.values():
        files.check_place(path)


def _say(facts: dict[str, Any]) -> None:
    """The verdict and the findings, on standard output."""
    console.result(facts["verdict"])
    for finding in facts["findings"]:
        mark = "!" if finding["severity"] == ERROR else " "
        console.result(f"{mark} {finding['count']:>7,}  {finding['flag']:<24} {finding['what']}")
