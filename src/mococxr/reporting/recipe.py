"""How each encoder was pretrained, in a sentence for the methods paragraph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from mococxr.pages import format as fmt
from mococxr.reporting.headline import arm_label
from mococxr.results import Row, StudyResults

OPTIMISERS = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD"}
SCHEDULES = {"cosine": "cosine schedule", "step": "step schedule", "constant": "constant"}
KEPT = {
    "last": "the last weights",
    "knn": "the checkpoint of the best kNN AUROC",
    "rank": "the checkpoint of the best effective rank",
}


def recipes(study: StudyResults) -> list[str]:
    """A sentence for each recipe of pretraining, with the arms that share it; what is not recorded is said."""
    of_recipe: dict[str, list[str]] = {}
    missing: list[str] = []
    for arm in study.values("arm"):
        runs = study.facts["arms"][arm]["runs"]
        known = [run["recipe"] for run in runs if run.get("recipe")]
        if runs and not known and study.facts["arms"][arm]["pretrained_on"]:
            missing.append(arm_label(study, arm))
        for text in dict.fromkeys(_sentence(recipe) for recipe in known):
            of_recipe.setdefault(text, []).append(arm_label(study, arm))
    lines = [f"Pretraining of {fmt.join_words(arms)}: {text}." for text, arms in of_recipe.items()]
    if missing:
        lines.append(f"How {fmt.join_words(missing)} was pretrained is not recorded.")
    return lines


def _sentence(recipe: Row) -> str:
    """`momentum contrast (MoCo v2), 12 epochs at 96 pixels (1,275 steps of 32 images), AdamW (learning rate 0.0005, ...`."""
    parts = [recipe["method"], _length(recipe), _optimiser(recipe), *_contrast(recipe), _views(recipe)]
    if recipe.get("auxiliary"):
        parts.append(f"beside it, {fmt.join_words(recipe['auxiliary'])} of each image was predicted")
    kept = KEPT[recipe.get("select", "last")]
    kept += f", averaged with a decay of {fmt.plain(recipe['ema'])} a step" if recipe.get("ema") else ""
    return "; ".join([*filter(None, parts), f"kept: {kept}"])


def _length(recipe: Row) -> str:
    phases = [
        f"{phase['epochs']:,} epoch{'' if phase['epochs'] == 1 else 's'} of views of {phase['size']} pixels"
        + (f" (learning rate {fmt.plain(phase['lr'])})" if phase.get("lr") else "")
        for phase in recipe["phases"]
    ]
    steps = f", {recipe['steps']:,} steps of {recipe['batch']:,} images" if recipe.get("steps") else ""
    return ", then ".join(phases) + steps


def _optimiser(recipe: Row) -> str:
    details = [SCHEDULES[recipe["schedule"]]]
    alone = len(recipe["phases"]) == 1 and recipe["phases"][0].get("lr")  # the phase has said its rate
    if not alone:
        details.insert(0, f"learning rate {fmt.plain(recipe['lr'])}")
    if recipe["schedule"] == "step" and recipe.get("milestones"):
        details[-1] += f" with a tenth after {fmt.join_words([fmt.percent(part) for part in recipe['milestones']])}"
    if recipe.get("warmup"):
        details.append(f"linear warm-up over {fmt.percent(recipe['warmup'])} of the steps")
    if "weight_decay" in recipe:
        details.append(f"weight decay {fmt.plain(recipe['weight_decay'])}")
    return f"{OPTIMISERS[recipe['optimizer']]} ({', '.join(details)})"


def _contrast(recipe: Row) -> list[str]:
    """What the method reads of queue, momentum, temperature, head and pairs."""
    forms: dict[str, Callable[[Any], str]] = {
        "queue": lambda value: f"queue of {value:,} keys",
        "momentum": lambda value: f"momentum {fmt.plain(value)}",
        "temperature": lambda value: f"temperature {fmt.plain(value)}",
        "head": lambda value: f"{value} projection" + (f" to {recipe['dim']:,} dimensions" if "dim" in recipe else ""),
    }
    details = [form(recipe[name]) for name, form in forms.items() if recipe.get(name) is not None]
    if recipe.get("positives") == "study":
        details.append("positive pairs of two images of a study")
    if recipe.get("negatives_from", "image") != "image":
        details.append(f"no negatives of the same {recipe['negatives_from']}")
    return [", ".join(details)] if details else []


def _views(recipe: Row) -> str:
    details: list[Any] = []
    if crop := recipe.get("crop"):
        area = f"{100 * crop[0]:g} to {100 * crop[1]:g} %" if crop[0] < crop[1] else fmt.percent(crop[0])
        details.append(f"crops of {area} of the area")
    if recipe.get("rotation"):
        details.append(f"rotation by up to {fmt.plain(recipe['rotation'])} degrees")
    if recipe.get("flip"):
        details.append(f"horizontal flips with probability {fmt.plain(recipe['flip'])}")
    details += [f"{name} by ±{fmt.percent(recipe[name])}" for name in ("brightness", "contrast") if recipe.get(name)]
    return f"random {', '.join(details)}" if details else ""
