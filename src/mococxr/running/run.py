"""The command `run`: look at a folder, write a plan, do it stage by stage, and end with one page and one model."""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mococxr import commands, console
from mococxr.encoders import quoted
from mococxr.errors import InputError
from mococxr.files import LOCK, lock, write_json
from mococxr.running import folder
from mococxr.running.facts import Facts, facts_of, facts_of_store, read_source
from mococxr.running.pace import Pace, measure, published_weights
from mococxr.running.page import write_page
from mococxr.running.plan import SIZE, STAGES, Plan, make_plan, minutes, read_budget
from mococxr.settings import RunSettings
from mococxr.store import Store

_RUN = re.compile(r"(?<![^=+])run(?=$|[@+])")
"""The word that stands for the pretrained encoder of the folder, in an arm or the name of an encoder."""


def run(settings: RunSettings) -> Path:
    """Plan, and unless `plan` do it; what an earlier call has done is not done again.

    Returns:
        The page, or with `plan` the plan.

    Raises:
        InputError: bad input, a folder of something else or of another plan, a plan that was edited into nonsense.
        RunError: a stage stopped on the way; the same command goes on from there.
    """
    s, out = settings, settings.out
    read_budget(s.budget)
    folder.claim_folder(s)
    out.mkdir(parents=True, exist_ok=True)
    busy = InputError(f"Another run works in {out}.", "Wait for it, or name another --out.")
    with lock(out / LOCK, busy):
        record = folder.read_record(out)
        if record is not None:
            folder.check_asked(s, record)
        record = _labels_came(s, record) if record else _plan(s)
        plan = folder.read_plan(out, record)
        _show(plan, record, s)
        if s.plan:
            console.say("  Edit it as you like. The same command without --plan does it.")
            return out / folder.PLAN
        for stage in STAGES:
            if plan.stages[stage].do:
                _do(stage, plan, record, s)
        return _close(plan, record, s)


def _plan(s: RunSettings) -> dict[str, Any]:
    """Look at the source and at the machine, and write the plan."""
    dataset = read_source(s)
    facts = facts_of(dataset, s)
    pace = measure(dataset, s, SIZE)
    published = published_weights(dataset)
    plan = make_plan(facts, pace, published, s)
    folder.save_plan(s, plan, facts, dataclasses.asdict(pace) | {"published": published})
    return _read(s.out)


def _labels_came(s: RunSettings, record: dict[str, Any]) -> dict[str, Any]:
    """Plan anew where the first plan had no labels to go by, and the store has some now."""
    before = Facts(**record["facts"] | {"notes": tuple(record["facts"]["notes"])})
    store = s.out / "store"
    if before.labelled or not (store / "manifest.json").is_file():
        return record
    facts = facts_of_store(Store.open(store), before, s)
    if not facts.labelled:
        return record
    console.say(f"{store} has labels of {facts.target} now: planned anew.")
    pace = dict(record["pace"])
    published = str(pace.pop("published"))
    of_pace = Pace(**pace | {"unreadable": tuple(pace["unreadable"])})
    plan = make_plan(facts, of_pace, published, s)
    kept = folder.read_plan(s.out, record).stages
    stages = plan.stages | {name: kept[name] for name in ("prepare", "inspect")}  # these are done
    folder.save_plan(s, dataclasses.replace(plan, stages=stages), facts, record["pace"])
    return _read(s.out)


def _read(out: Path) -> dict[str, Any]:
    record = folder.read_record(out)
    assert record is not None  # it was written just now
    return record


def _show(plan: Plan, record: Mapping[str, Any], s: RunSettings) -> None:
    """The plan on the terminal."""
    facts, out = record["facts"], s.out
    labels = ", ".join(f"{count:,} {name}" for name, count in facts["labels"].items() if count)
    splits = ", ".join(f"{name} {part['images']:,}" for name, part in facts["splits"].items())
    console.say()
    for line in (
        facts["recognised"],
        f"{facts['images']:,} images of {facts['patients']:,} patients" * facts["patients_known"]
        or f"{facts['images']:,} images; patients are not known",
        f"Target {facts['target']}: {labels}" if facts["labels"] else "",
        f"Splits by {'patient' if facts['patients_known'] else 'image'}, in images: {splits}",
    ):
        if line:
            console.say(console.wrapped(line, "  "))
    for text in (*plan.warnings, *plan.timing, plan.cut):
        if text:
            console.warn(console.wrapped(text, " " * 9).lstrip())
    console.say()
    for name, stage in plan.stages.items():
        state = minutes(stage.seconds) if stage.do else "left out"
        console.say(f"  {name:<9} {state}")
        console.say(console.wrapped(stage.why, " " * 12))
    console.say(f"\n  {minutes(plan.seconds)} in all, as far as can be told (--budget {s.budget}).")
    console.say(f"  Plan: {out / folder.PLAN}")


def _do(stage: str, plan: Plan, record: dict[str, Any], s: RunSettings) -> None:
    """One stage as the command that a user would type, unless it is done."""
    out, settings = s.out, plan.stages[stage].settings
    if folder.is_done(out, stage, settings, record):
        console.say(f"\n{stage}: done already ({out / folder.MARKERS[stage]}).")
        return
    begun = time.perf_counter()
    try:
        commands.say_and_run(stage, **(_folders(stage, s) | _named_run(settings, out)))
    finally:
        if (out / folder.MARKERS[stage]).is_file():
            folder.note_done(out, stage, settings, record, time.perf_counter() - begun)


def _folders(stage: str, s: RunSettings) -> dict[str, Any]:
    """The folders of a stage: what it reads and what it makes."""
    out, store = s.out, s.out / "store"
    run_folder = out / "run"
    folders: dict[str, dict[str, Any]] = {
        "prepare": {"source": s.source, "out": store},
        "inspect": {"store": store, "out": out / "dossier.html"},
        "pretrain": {
            "stores": [store], "out": run_folder, "save_every": 50,
            "resume": (run_folder / "settings.yaml").is_file() or None,
        },
        "study": {"store": store, "out": out / "study", "feature_cache": out / "features"},
        "fit": {"store": store, "out": out / "model", "feature_cache": out / "features"},
        "evaluate": {"predictions": [out / "model", store], "out": out / "evaluation"},
    }  # fmt: skip
    return folders[stage]


def _named_run(settings: Mapping[str, Any], out: Path) -> dict[str, Any]:
    """The settings with the folder of the run in place of the word `run`."""
    path = quoted(out / "run")

    def named(text: str) -> str:
        return _RUN.sub(lambda _: path, text)

    arms = {"arm": tuple(map(named, settings["arm"]))} if "arm" in settings else {}
    encoder = {"encoder": named(settings["encoder"])} if "encoder" in settings else {}
    return {**settings, **arms, **encoder}


def _close(plan: Plan, record: Mapping[str, Any], s: RunSettings) -> Path:
    """The page, the answer, and what to do next."""
    page, answer = write_page(plan, record, s)
    write_json(s.out / folder.RECORD, {**record, "answer": answer})
    console.say()
    console.result(answer)
    console.result(f"Page: {page}")
    model, store = s.out / "model", s.out / "store"
    if (model / "model.json").is_file():
        console.say(f"Next: mococxr predict {model} NEW-IMAGES --out scores.csv")
        return page
    finding = s.target or next(iter(record["facts"]["findings"]), "FINDING")
    if record["facts"]["findings"] and s.target is None:
        console.say(f"Next: give the same command with --target, e.g. --target {finding!r}")
        return page
    listed = s.out / "next.csv"
    console.say(f"Next: mococxr next {store} --target {finding} --count 50 --out {listed}")
    console.say(f"      mococxr annotate {store} --target {finding} --next {listed}")
    console.say("      then give the same command again: it goes on with the new labels")
    return page
