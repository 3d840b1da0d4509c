"""The folder of a run: plan.yaml for people, result.json for programs, and which stages are done."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from mococxr.errors import InputError
from mococxr.files import atomic_write, claim, read_json, sha256_file, write_json
from mococxr.running.facts import Facts
from mococxr.running.plan import STAGES, Plan, Stage, minutes
from mococxr.settings import COMMANDS, RunSettings, from_yaml, typed
from mococxr.settings.fields import convert, flag
from mococxr.store import Store
from mococxr.version import VERSION

PLAN, RECORD = "plan.yaml", "result.json"
MARKERS = {
    "prepare": "store/manifest.json", "inspect": "dossier.html", "pretrain": "run/run.json", "study": "study/report.html",
    "fit": "model/model.json", "evaluate": "evaluation/evaluation.html",
}  # fmt: skip
"""Stage -> the file that its command writes last."""
MADE_FROM = {"inspect": ("prepare",), "pretrain": ("prepare",), "study": ("prepare", "pretrain"),
             "fit": ("prepare", "pretrain"), "evaluate": ("prepare", "fit")}  # fmt: skip
LABELLED = ("study", "fit", "evaluate")
"""Stages that read labels, which may grow."""
ASKED = ("source", "target", "budget", "format", "labels", "label_key", "patients_unknown", "key", "seed")
"""Settings that the plan follows from."""
HEAD = """\
# The plan of `mococxr run`. Give the same command again and it goes on from here.
# You may change it: `do: false` leaves a stage out, and `settings` takes any setting of the stage's command
# (mococxr COMMAND --help). In `arm` and `encoder` the word run is the pretrained encoder of this folder.
# A stage that is done stays as it is: delete its folder and those made from it to have it done anew.
"""


def claim_folder(s: RunSettings) -> None:
    """Refuse an output folder that holds something else."""
    claim(s.out, RECORD, "the folder of a run")


def asked_of(s: RunSettings) -> dict[str, Any]:
    """The settings that a plan follows from, as plain values."""
    values = {name: getattr(s, name) for name in ASKED}
    return {name: str(value) if isinstance(value, Path) else value for name, value in values.items()}


def check_asked(s: RunSettings, record: Mapping[str, Any]) -> None:
    """Refuse a folder that was planned otherwise; a target may be named later.

    Raises:
        InputError: with the settings that differ.
    """
    before = record["asked"]
    differ = [
        f"{flag(name)} {before[name]}" if name != "source" else str(before[name])
        for name, value in asked_of(s).items()
        if before[name] != value and not (name == "target" and before[name] is None)
    ]
    if differ:
        raise InputError(
            f"{s.out} was planned with {', '.join(differ)}.",
            f"Repeat those settings, edit {s.out / PLAN}, or name another --out.",
        )


def read_record(out: Path) -> dict[str, Any] | None:
    """What `result.json` says; None where there is no plan yet."""
    return dict(read_json(out / RECORD)) if (out / RECORD).is_file() and (out / PLAN).is_file() else None


def save_plan(s: RunSettings, plan: Plan, facts: Facts, pace: Mapping[str, Any]) -> None:
    """Write the plan for people, and the facts for who goes on."""
    before = read_json(s.out / RECORD) if (s.out / RECORD).is_file() else {}
    record = {
        "version": VERSION,
        "created": before.get("created") or now(),
        "asked": asked_of(s),
        "facts": dataclasses.asdict(facts),
        "pace": dict(pace),
        "expected_seconds": {name: round(stage.seconds, 1) for name, stage in plan.stages.items()},
        "warnings": list(plan.warnings),
        "timing": list(plan.timing),
        "cut": plan.cut,
        "done": before.get("done", {}),
    }
    write_json(s.out / RECORD, record)
    atomic_write(s.out / PLAN, _as_yaml(s, plan, facts))


def _as_yaml(s: RunSettings, plan: Plan, facts: Facts) -> str:
    summary = {
        "source": str(s.source),
        "recognised": facts.recognised,
        "images": facts.images,
        "patients": facts.patients if facts.patients_known else "not known",
        "target": facts.target,
        "labels": facts.labels or facts.findings or "none",
        "splits": facts.splits,
        "expected": f"{minutes(plan.seconds)} of {s.budget}",
        "warnings": [*plan.warnings, *plan.timing, *([plan.cut] if plan.cut else [])],
    }
    stages = {
        name: {"do": stage.do, "why": stage.why, "expected": minutes(stage.seconds), "settings": stage.settings}
        if stage.do
        else {"do": False, "why": stage.why}
        for name, stage in plan.stages.items()
    }
    how: dict[str, Any] = {"sort_keys": False, "allow_unicode": True, "width": 100}
    return "\n".join([HEAD, yaml.safe_dump({"about": summary}, **how), yaml.safe_dump({"stages": stages}, **how)])


def read_plan(out: Path, record: Mapping[str, Any]) -> Plan:
    """The plan as it stands in the file.

    Raises:
        InputError: the file has another form, an unknown stage or setting, or a value of the wrong type.
    """
    path = out / PLAN
    stages = from_yaml(path).get("stages")
    if not isinstance(stages, dict):
        raise InputError(f"{path} has no `stages`.", "Undo the change, or delete the file to plan anew.")
    if unknown := [name for name in stages if name not in STAGES]:
        raise InputError(f"{path}: there is no stage {unknown[0]!r}.", f"Stages are {', '.join(STAGES)}.")
    expected = record["expected_seconds"]
    read = {name: _stage(path, name, stages.get(name) or {}, expected.get(name, 0.0)) for name in STAGES}
    return Plan(read, tuple(record["warnings"]), str(record["cut"]), tuple(record["timing"]))


def _stage(path: Path, name: str, content: Any, seconds: float) -> Stage:
    if not isinstance(content, dict) or (extra := set(content) - {"do", "why", "expected", "settings"}):
        what = f"has no setting {sorted(extra)[0]!r}" if isinstance(content, dict) else "is no table"
        raise InputError(f"{path}: the stage {name} {what}.", "It holds do, why, expected and settings.")
    settings = content.get("settings") or {}
    try:
        do = convert(content.get("do", "false"), bool, "do")
        values = typed(COMMANDS[name], {key.replace("-", "_"): value for key, value in settings.items()})
    except InputError as error:
        raise InputError(f"{path}, stage {name}: {error.problem}", str(error.way_out)) from error
    return Stage(do, str(content.get("why") or ""), seconds if do else 0.0, values)


def is_done(out: Path, stage: str, settings: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Whether a stage was done with these settings, from what its sources are now.

    Raises:
        InputError: it was done with others, or from others.
    """
    before = record["done"].get(stage)
    if before is None or not (out / MARKERS[stage]).is_file():  # stopped on the way: the command itself goes on
        return False
    if before["settings"] != plain(settings):
        names = sorted(name for name in {**before["settings"], **plain(settings)}
                       if before["settings"].get(name) != plain(settings).get(name))  # fmt: skip
        raise _otherwise(out, stage, f"with another {' and '.join(map(flag, names))} than {PLAN} has now")
    if before["made_from"] != made_from(out, stage):
        raise _otherwise(out, stage, "from other images, labels or encoders than there are now")
    return True


def _otherwise(out: Path, stage: str, how: str) -> InputError:
    later = [stage, *(name for name, sources in MADE_FROM.items() if stage in sources)]
    folders = [str(out / MARKERS[name].split("/")[0]) for name in later if (out / MARKERS[name]).exists()]
    return InputError(
        f"{folders[0]} was made {how}.",
        f"Delete {' and '.join(folders)} to have that done anew, undo the change, or name another --out.",
    )


def note_done(out: Path, stage: str, settings: Mapping[str, Any], record: dict[str, Any], seconds: float) -> None:
    """Keep with which settings, from what and how fast a stage was done."""
    before = record["done"].get(stage, {}).get("seconds", 0.0)
    record["done"][stage] = {
        "finished": now(),
        "seconds": round(before + seconds, 1),
        "settings": plain(settings),
        "made_from": made_from(out, stage),
    }
    write_json(out / RECORD, record)


def made_from(out: Path, stage: str) -> dict[str, str]:
    """Hashes of what a stage is made from; "" where that is not there."""
    sources = {name: out / MARKERS[name] for name in MADE_FROM.get(stage, ())}
    hashes = {name: sha256_file(file) if file.is_file() else "" for name, file in sources.items()}
    if stage in LABELLED and (out / MARKERS["prepare"]).is_file():
        hashes["labels"] = Store.open(out / "store").label_state["sha256"]
    return hashes


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings as JSON holds them."""
    return {
        name: [*map(_plain, value)] if isinstance(value, tuple | list) else _plain(value)
        for name, value in settings.items()
    }


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def now() -> str:
    """UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
