"""The model card: `README.md` with the front matter of the Hugging Face hub, made of what the folders record.

Nothing of it names a patient, an image or a place on a machine. What nobody recorded is said to be unknown.
"""

from __future__ import annotations

from typing import Any

import yaml

from mococxr.exporting.artifact import Subject
from mococxr.exporting.license import starting_licence
from mococxr.exporting.operating import operating, uses
from mococxr.exporting.usage import usage

Facts = dict[str, Any]
PAPER = "arXiv 2010.05352"


def card(subject: Subject, facts: Facts, study: Facts | None) -> str:
    """The whole card.

    Args:
        facts: what `export.json` says.
        study: what a study measured (`evidence.measured`), or None.
    """
    sections = {
        "How to load it": usage(subject, facts),
        "What goes in": _preprocessing(facts),
        "Training images": _pretraining(subject),
        "Labels": _labels(subject),
        "From the score to a probability and a decision": operating(subject),
        "What was measured": _evidence(subject, study),
        "Limits": _limits(subject),
        "Licence of what it started from": starting_licence(
            subject.origin.get("run") or {}, subject.spec.architecture
        ),
        "Hashes (SHA-256)": _hashes(facts),
    }
    body = "\n\n".join(f"## {title}\n\n{text}" for title, text in sections.items() if text)
    return f"---\n{_front(subject, facts, study)}---\n\n# {title(subject)}\n\n{_summary(subject, facts)}\n\n{body}\n"


def phantom(subject: Subject) -> bool:
    """Whether any of its training saw synthetic images only."""
    run = subject.origin.get("run") or {}
    return bool(run.get("phantom")) or bool(subject.model and subject.model.about["store"]["phantom"])


def title(subject: Subject) -> str:
    """What it is, in a line."""
    what = (
        f"Classifier of chest images: {subject.model.about['target']}"
        if subject.model
        else "Encoder of chest images"
    )
    return f"{what} ({subject.spec.architecture}, {subject.size} px)" + (
        ", PHANTOM" if phantom(subject) else ""
    )


def _front(subject: Subject, facts: Facts, study: Facts | None) -> str:
    tags = [
        "medical",
        "radiology",
        "chest-x-ray",
        "moco",
        facts["to"],
        *(["phantom"] if phantom(subject) else []),
    ]
    front: Facts = {
        "library_name": facts["to"],
        "pipeline_tag": "image-classification" if subject.model else "image-feature-extraction",
        "license": "other",
        "license_name": "see-licence-of-what-it-started-from",
        "tags": tags,
    }
    if study:
        front["model-index"] = [
            {"name": title(subject), "results": [_result(study, c) for c in study["cells"]]}
        ]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _result(study: Facts, cell: Facts) -> Facts:
    source = str(study["test"]["source"])
    name = f"AUROC {cell['target']}, {cell['mode']}, {100 * cell['fraction']:g} % of the labels"
    value = {"type": "roc_auc", "value": round(cell["auroc"], 4), "name": name}
    return {
        "task": {"type": "image-classification"},
        "dataset": {"name": source, "type": source},
        "metrics": [value],
    }


def _summary(subject: Subject, facts: Facts) -> str:
    lines = []
    if phantom(subject):
        lines.append(
            "**Trained on phantoms: synthetic images drawn by a program. It knows nothing of real images.**\n"
        )
    if subject.model:
        several = "" if subject.members == 1 else f", the mean of {subject.members} checkpoints"
        out = (
            "one logit, whose sigmoid is the raw score" if facts["to"] != "onnx" else "the raw score (0 to 1)"
        )
        lines.append(f"Out comes {out} of `{subject.model.about['target']}`{several}.")
    else:
        lines.append(f"Out come {subject.spec.feature_dim:,} features of an image, to fit a classifier on.")
    lines.append(
        f"Written by mococxr {facts['version']} for {facts['to']}, loaded back and compared with its source: "
    )
    lines.append(f"largest difference {facts['difference']:.2g}.")
    return "\n".join(lines)


def _preprocessing(facts: Facts) -> str:
    how = facts["preprocessing"]
    area = "shrunk by area averages (not bilinear, which aliases), enlarged bilinearly"
    first = (
        f"1. The image as one grey image of 8 bits, upright, air dark (MONOCHROME1 inverted).\n"
        f"2. The shorter side to {how['size']} px, {area}"
        + (f", by way of {how['store_size']} px as in training" if how["store_size"] else "")
        + (
            "; then the centred square."
            if how["frame"] == "centre"
            else "; all of the image is kept, the longer side a multiple of 32."
        )
    )
    numbers = (
        " ".join(f"{v:g}" for v in dict.fromkeys(how["mean"])),
        " ".join(f"{v:g}" for v in dict.fromkeys(how["std"])),
    )
    if facts["to"] == "onnx":
        return (
            f"{first}\n3. The graph does the rest: uint8 in, divided by 255, mean {numbers[0]}, std {numbers[1]}, "
            f"grey into {how['channels']} channels.\n\nResizing is left outside the graph: ONNX's Resize has no area "
            "average that is OpenCV's, and another resampling gives other numbers. The function above does it."
        )
    return f"{first}\n3. Grey into {how['channels']} channels, 0 to 1, then mean {numbers[0]} and std {numbers[1]}."


def _pretraining(subject: Subject) -> str:
    run, recipe = subject.origin.get("run") or {}, subject.origin.get("recipe") or {}
    on = run.get("pretrained_on")
    lines = []
    if isinstance(on, dict):
        names = on.get("source")
        source = ", ".join(map(str, names)) if isinstance(names, list) else names
        lines.append(
            f"* Pretrained without labels on: {source}{_counts(on)}, split: {on.get('splits') or 'unknown'}."
        )
    elif run.get("kind") == "imported":
        lines.append("* Which images the imported checkpoint saw is not recorded in it: unknown.")
    else:
        lines.append("* Not pretrained on chest images by mococxr, or not recorded.")
    if imported := run.get("checkpoint"):
        lines.append(
            f"* Imported from a checkpoint of MoCo ({imported['architecture']}, epoch "
            f"{imported['epoch'] or 'unknown'}, SHA-256 {imported['sha256']})."
        )
    lines.append(f"* Started from: {run.get('init') or 'unknown'}.")
    if recipe:
        shown = ", ".join(f"{name} {_plain(value)}" for name, value in recipe.items())
        lines.append(f"* Momentum contrast (MoCo, {PAPER}): {shown}.")
    if run.get("verdict"):
        lines.append(f"* Verdict of the run on itself: {run['verdict']}.")
    lines.append(f"* Phantoms (synthetic images): {_phantom_word(subject)}.")
    return "\n".join(lines)


def _phantom_word(subject: Subject) -> str:
    if phantom(subject):
        return "yes"
    run = subject.origin.get("run") or {}
    never = run.get("kind") != "imported" and subject.origin.get("sha256") is None
    return "no" if never or run.get("phantom") is False else "unknown"


def _counts(on: Facts) -> str:
    counted = [f"{on[name]:,} {name}" for name in ("images", "patients") if on.get(name)]
    return f" ({', '.join(counted)})" if counted else " (numbers of images and patients unknown)"


def _plain(value: Any) -> str:
    return " to ".join(map(str, value)) if isinstance(value, list) else str(value)


def _labels(subject: Subject) -> str:
    if not subject.model:
        return "None were used: this is an encoder."
    about = subject.model.about
    t, store = about["training"], about["store"]
    return (
        f"* Target `{about['target']}`, {about['mode']}, on {store['source']}: {t['images']:,} labelled images of "
        f"{t['patients']:,} patients, {t['positives']:,} positive, {t['negatives']:,} negative"
        + (f", {t['uncertain']:,} uncertain as a class of their own" if t["uncertain"] else "")
        + f"; {100 * t['fraction']:g} % of the training patients' labels (draw {t['draw']}).\n"
        f"* {uses(subject)}; no test label was read.\n"
        "* Splits are made between patients."
    )


def _evidence(subject: Subject, study: Facts | None) -> str:
    if not study:
        return "Nothing was given to this card. Judge it on images of your own hospital: `mococxr evaluate`."
    test = study["test"]
    rows = [
        f"| {c['target']} | {c['mode']} | {100 * c['fraction']:g} % | {c['auroc']:.3f} ({_number(c['low'])}, "
        f"{_number(c['high'])}) | {c['n_test']:,} | {c['positives']:,} |"
        for c in study["cells"]
    ]
    what = "classifiers fitted in the same way, over draws of labels, not this very one" if subject.model else (
        "classifiers fitted on this encoder, over draws of labels"
    )  # fmt: skip
    return "\n".join(
        [
            f"Arm `{study['arm']}` of a study on test images of {test['source']}: {what}. AUROC with its 95 % interval",
            "over other test patients; other draws of labels, pretraining runs and hospitals are not in it.",
            "",
            "| target | mode | labels | AUROC (95 % interval) | test units | positive |",
            "|---|---|---|---|---|---|",
            *rows,
        ]
    )


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _limits(subject: Subject) -> str:
    lines = [
        "* For research. It is not a medical device, and nobody has shown that it is safe for patients.",
        "* It will be worse on images of other hospitals, machines, views and ages than those it was trained on.",
        "* It may read the machine, the marker or the position instead of the disease.",
    ]
    if subject.model:
        lines.append("* Its score is not calibrated for your share of positives.")
    return "\n".join(lines)


def _hashes(facts: Facts) -> str:
    rows = [f"* `{name}`: {digest}" for name, digest in facts["files_sha256"].items()]
    return "\n".join([*rows, f"* made from weights: {facts['made_from_sha256']}"])
