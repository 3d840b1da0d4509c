"""The one page that a run ends with: the answer in a sentence, and where everything else lies."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mococxr.files import atomic_write, read_json
from mococxr.pages import format as fmt
from mococxr.pages.render import Alert, render, tabulate
from mococxr.results import read_table
from mococxr.running.plan import ENOUGH, Plan, minutes
from mococxr.settings import RunSettings

PAGE = "index.html"
SPLITS = {"train": "Training images", "val": "Validation images", "test": "Test images"}
LINKS = (
    ("evaluation/evaluation.html", "Evaluation", "how good the model is on the test images, and where it is wrong"),
    ("study/report.html", "Report", "encoders compared at several label fractions, with methods ready to paste"),
    ("dossier.html", "Dossier", "the images looked over: unreadable, unusual, copies, leaks, shortcuts"),
    ("store/contact.png", "Contact sheet", "a sample of the images as they are stored"),
    ("plan.yaml", "Plan", "what was done with which settings; edit it and give the command again"),
)
"""File, its name and what it shows; those that are not there are left out."""


def write_page(plan: Plan, record: Mapping[str, Any], s: RunSettings) -> tuple[Path, str]:
    """Write the page; returns its path and the answer in one sentence."""
    out, facts = s.out, record["facts"]
    answer = answer_of(out, plan, facts)
    manifest = read_json(out / "store/manifest.json") if (out / "store/manifest.json").is_file() else {}
    html = render(
        "running/page.html.j2",
        title=f"{facts['target'] or 'Images'}: result",
        heading=facts["target"] or out.resolve().name,
        eyebrow="MoCo-CXR · result",
        lead=f"{facts['images']:,} images"
        + (f" of {facts['patients']:,} patients" if facts["patients_known"] else ", patients not known"),
        alerts=_alerts(record, manifest),
        facts=[
            ("Labels", ", ".join(f"{n:,} {name}" for name, n in facts["labels"].items() if n) or "none"),
            *((words, f"{facts['splits'][name]['images']:,}") for name, words in SPLITS.items()),
        ],
        answer=answer,
        beside=_beside(out),
        audit=_audit(out),
        links=[link for link in LINKS if (out / link[0]).is_file()],
        stages=tabulate(
            _rows(plan, record),
            {"Stage": "stage", "What": "why", "Expected": "expected", "Took": "took"},
            text=4,
            note=plan.cut,
        ),
        use=_use(out),
    )
    atomic_write(out / PAGE, html)
    return out / PAGE, answer


def answer_of(out: Path, plan: Plan, facts: Mapping[str, Any]) -> str:
    """How good the model is, with interval, or why nobody can say."""
    if not (plan.stages["evaluate"].do and (out / "evaluation/evaluation.json").is_file()):
        return f"No answer yet. {plan.stages['evaluate'].why}"
    block = read_json(out / "evaluation/evaluation.json")["models"][0]
    unknown = "" if facts["patients_known"] else " (patients are not known: that may be too good)"
    patients = f" of {block['patients']:,} patients" if facts["patients_known"] else ""
    text = (
        f"On {block['n']:,} test images{patients}, from which nothing was learned, the model tells "
        f"{facts['target']} with an AUROC of {fmt.interval(block['interval'], 'value')}{unknown}"
    )
    if point := block["operating_point"]:
        sensitivity, specificity = (fmt.share_interval(point[name], "value") for name in ("sensitivity", "specificity"))
        text += f"; at its threshold sensitivity is {sensitivity} and specificity {specificity}"
    test = facts["splits"]["test"]
    fewest = min(test["positive_patients"], test["negative_patients"])
    few = f" With {fewest} test patients of a class that says little." if fewest < ENOUGH else ""
    return f"{text}. Intervals are 95 %.{few}"


def _alerts(record: Mapping[str, Any], manifest: Mapping[str, Any]) -> list[Alert]:
    alerts = [Alert("Warning", text) for text in record["warnings"]]
    if manifest.get("synthetic"):
        alerts.insert(0, Alert("Synthetic images", "They were drawn by a program: the numbers are no evidence."))
    return alerts


def _beside(out: Path) -> str:
    """What the study says first: the encoder beside ImageNet without pretraining."""
    facts = out / "study/study.json"
    primary = read_json(facts)["primary"] if facts.is_file() else None
    if not primary:
        return ""
    rows = read_table(out / "study/differences.csv", "differences").iter_rows(named=True)
    cell = {name: primary[name] for name in ("arm", "against", "target", "mode", "fraction")}
    row = next((row for row in rows if cell.items() <= row.items()), None)
    if row is None:
        return ""
    return f"{row['arm']} beside {row['against']}, {fmt.percent(row['fraction'])} of the labels: {row['words']}"


def _audit(out: Path) -> str:
    facts = out / "dossier.json"
    return str(read_json(facts)["verdict"]) if facts.is_file() else ""


def _rows(plan: Plan, record: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name, stage in plan.stages.items():
        done = record["done"].get(name)
        took = minutes(done["seconds"]) if done and stage.do else fmt.DASH
        expected = minutes(stage.seconds) if stage.do else "left out"
        rows.append({"stage": name, "why": stage.why or fmt.DASH, "expected": expected, "took": took})
    return rows


def _use(out: Path) -> str:
    """Lines that use the model."""
    if not (out / "model/model.json").is_file():
        return ""
    return "\n".join([
        f"mococxr predict {out / 'model'} NEW-IMAGES --out scores.csv",
        f'mococxr.load_classifier("{out / "model"}").predict(["new.dcm"])  # Python',
    ])  # fmt: skip
