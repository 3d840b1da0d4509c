"""The tables about arms: what each encoder is, what it was trained on, what an image costs, source and target."""

from __future__ import annotations

from typing import Any

from mococxr.reporting.banners import seen_splits
from mococxr.reporting.pretraining import verdict_words
from mococxr.reporting.tables import Table
from mococxr.reporting.words import NOT_RECORDED, display, shown
from mococxr.results import StudyResults as Study

HEAD = ["Arm", "Encoder", "Trained on", "An image costs", "Pretraining"]


def arm_table(study: Study) -> Table:
    """What each encoder is."""
    devices = {study.fact("arms", arm, "device") for arm in study.arms} - {None}
    note = (
        f"An image costs: one forward pass at the arm's own size, measured on {' and '.join(sorted(devices))} when "
        "the study ended."
    )
    rows = [_arm_row(study, arm) for arm in study.arms]
    return Table(HEAD, rows, len(HEAD), note if devices else "")


def _arm_row(study: Study, arm: str) -> list[str]:
    facts = study.fact("arms", arm)
    if not isinstance(facts, dict):
        facts = {}
    kind = facts.get("kind")
    is_run = kind in ("run", None)
    return [
        display(study, arm) + (" (reference)" if arm == study.reference else ""),
        _encoder(facts, is_run or kind in ("imagenet", "random")),
        _trained_on(study, arm, facts, is_run),
        _cost(facts),
        _runs(study, arm, facts) if is_run or facts.get("verdict") else "–",
    ]


def _encoder(facts: dict[str, Any], started: bool) -> str:
    """`runs/moco: resnet18 at 96 px, started from imagenet`."""
    size = facts.get("size")
    at = f"{size} px" if isinstance(size, int) else shown(size)
    name = shown(facts.get("encoder") or facts.get("kind"))
    start = f", started from {shown(facts.get('init'))}" if started else ""
    return f"{name}: {shown(facts.get('timm'))} at {at}{start}"


def _runs(study: Study, arm: str, facts: dict[str, Any]) -> str:
    """`2 runs: learning`."""
    recorded = facts.get("runs")
    number = len(recorded) if isinstance(recorded, list) else recorded
    text = "1 run" if number == 1 else f"{shown(number)} runs"
    return f"{text}: {verdict_words(study, arm)}" if number is not None else verdict_words(study, arm)


def _trained_on(study: Study, arm: str, facts: dict[str, Any], is_run: bool) -> str:
    """The images of a run, and before them those behind the weights that it started from."""
    published = facts.get("trained_on")
    if not is_run:
        return shown(published or "no chest images")
    before = f"; its start: {published}" if published and published != "no chest images" else ""
    return _pretraining(study, arm) + before


def _cost(facts: dict[str, Any]) -> str:
    seconds, weights = facts.get("seconds_per_image"), facts.get("parameters")
    if not isinstance(seconds, int | float) or not isinstance(weights, int):
        return NOT_RECORDED
    time = f"{seconds:.2g} s" if seconds >= 1 else f"{1000 * seconds:.2g} ms"
    return f"{time}, {weights / 1e6:,.1f} million weights"


def _pretraining(study: Study, arm: str) -> str:
    before = study.fact("arms", arm, "pretrained_on")
    if not isinstance(before, dict):
        return NOT_RECORDED
    seen = seen_splits(study, arm)
    parts = [f"{shown(before.get('images'))} images", f"{shown(before.get('patients'))} patients"]
    parts.append(
        f"split: {shown(before.get('splits'))}" + (f" (saw {' and '.join(seen)} patients)" if seen else "")
    )
    seconds = study.fact("arms", arm, "seconds")
    if isinstance(seconds, int | float):
        parts.append(f"{seconds / 60:,.0f} min")
    return f"{shown(before.get('source'))}: {', '.join(parts)}"


def transfer_table(study: Study) -> Table:
    """Source and target of each run, and the test images that are in both."""
    compared = study.fact("images_in_both")
    target = study.fact("test_store", "source") or study.fact("store", "source")
    rows = []
    runs = [(arm, run["run"]) for arm in study.arms for run in study.fact("arms", arm, "runs") or []]
    for arm, run in runs if compared else ():
        if f"{arm}/{run}" not in compared:
            continue
        found = compared[f"{arm}/{run}"]
        counts = (
            [shown(found.get(name)) for name in ("test_images", "same", "alike")]
            if found
            else ["not checked"] * 3
        )
        source = shown(study.fact("arms", arm, "pretrained_on", "source"))
        rows.append([display(study, arm), run, source, shown(target), *counts])
    head = [
        "Arm",
        "Run",
        "Pretrained on",
        "Tested on",
        "Test images",
        "Also in the run",
        "Look like one of its images",
    ]
    note = "By SHA-256 of the file, and by fingerprint. Where there are any, they are listed in copies.csv."
    return Table(head, rows, 4, note)
