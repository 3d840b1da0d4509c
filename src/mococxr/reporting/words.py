"""Numbers, names and recorded facts in words, the same for HTML and Markdown."""

from __future__ import annotations

import re
from typing import Any

from mococxr.results import StudyResults as Study

NOT_RECORDED = "not recorded"
UNDEFINED = "undefined"

PROPER_NAMES = {"moco": "MoCo", "moco-cxr": "MoCo-CXR", "imagenet": "ImageNet", "medaug": "MedAug"}
MODE_NAMES: dict[str, str] = {"linear": "Linear classifier", "finetune": "Fine-tuning"}


def plain(value: float | None, digits: int = 3) -> str:
    """`0.9666` -> `0.967`; None -> `undefined`."""
    if value is None:
        return UNDEFINED
    rounded = round(value, digits) + 0.0
    return f"{rounded:.{digits}f}".replace("-", "−")


def signed(value: float | None, digits: int = 3) -> str:
    """`0.074` -> `+0.074`, with a true minus sign; what rounds to nothing gets a digit more, then has no sign.

    So an interval that leaves out 0 is not printed as one that ends at it.
    """
    digits += value is not None and round(value, digits) == 0 != round(value, digits + 1)
    text = plain(value, digits)
    return f"+{text}" if value is not None and round(value, digits) > 0 else text


def threshold(value: float | None) -> str:
    """A threshold on a score, which may be very small: `0.130`, `5.7e-07`."""
    return plain(value) if value is None or value == 0 or abs(value) >= 0.001 else f"{value:.2g}"


def percent(fraction: float) -> str:
    """`0.0625` -> `6.25 %`."""
    return f"{100 * fraction:.6g} %"


def shown(value: Any) -> str:
    """Any recorded fact as text; None -> `not recorded`."""
    if value is None or value in ("", [], {}):
        return NOT_RECORDED
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if value.is_integer() else f"{value:g}"
    if isinstance(value, dict):
        return "; ".join(f"{name}: {shown(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(shown(item) for item in value)
    return str(value)


def moment(value: Any) -> str:
    """`2026-05-04T10:00:00Z` -> `2026-05-04 10:00 UTC`; any other text as it stands."""
    found = re.fullmatch(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(?::\d\d(?:\.\d+)?)?(Z|\+00:00)?", str(value or ""))
    if not found:
        return shown(value)
    return f"{found[1]} {found[2]}" + (" UTC" if found[3] else "")


def span(values: list[float | None], dash: str = " to ") -> str:
    """The count that the draws have in common, or their smallest and largest: `34`, `31 to 36`."""
    known = [value for value in values if value is not None]
    if not known:
        return NOT_RECORDED
    low, high = round(min(known)), round(max(known))
    return f"{low:,}" if low == high else f"{low:,}{dash}{high:,}"


def p_value(p: float | None) -> str:
    """A p-value; one that rounds to nothing is given as a bound."""
    if p is None:
        return UNDEFINED
    return "< 0.001" if p < 0.0005 else f"{p:.3f}"


def mode_name(mode: str) -> str:
    """`linear` -> `Linear classifier`; an unknown mode as it stands."""
    return MODE_NAMES.get(mode, mode)


def display(study: Study, arm: str) -> str:
    """An arm's name as it is spelt in print (`moco` -> `MoCo`), unless that would make two arms one."""
    proper = PROPER_NAMES.get(arm.lower(), arm)
    twins = [other for other in study.arms if PROPER_NAMES.get(other.lower(), other) == proper]
    return proper if len(twins) < 2 else arm


def interval_name(study: Study) -> str:
    """`95 % interval`, from the recorded level."""
    level = study.fact("level")
    return f"{percent(level)} interval" if isinstance(level, int | float) else "interval (level not recorded)"


def labels_used(study: Study, target: str, fraction: float) -> str:
    """`1 % of the labels (34 images, 20 patients)`."""
    trials = study.rows("trials", target=target, fraction=fraction)
    images = span([trial["train_images"] for trial in trials])
    patients = span([trial["train_patients"] for trial in trials])
    share = "all labels" if fraction == 1 else f"{percent(fraction)} of the labels"
    if images == NOT_RECORDED:
        return share
    counted = patients != NOT_RECORDED and study.patients_known
    return f"{share} ({images} images" + (f", {patients} patients)" if counted else ")")


def subtitle(study: Study) -> str:
    """Where the images that train come from, and where those that are judged, should that be elsewhere."""
    source = study.fact("store", "source") or study.fact("store", "path_name")
    if source is None and study.fact("store", "images") is None:
        return "The data are not recorded."
    kind = "phantom images (drawn by a program)" if study.phantom else "images"
    text = f"{shown(source)}: {images_and_patients(study, 'store', kind=kind)}."
    if study.external:
        text += f" Judged on another store, {shown(study.fact('test_store', 'source'))}: {judged(study)}."
    return text


def images_and_patients(study: Study, *place: str, kind: str = "images") -> str:
    """Images and patients at a place among the facts: `169 images, 59 patients`."""
    images, patients = shown(study.fact(*place, "images")), shown(study.fact(*place, "patients"))
    known = study.fact(place[0], "patients_known") is not False
    return f"{images} {kind}, " + (f"{patients} patients" if known else "patients unknown")


def judged(study: Study) -> str:
    """The test images that have a label and were scored, by target: `512 images, 309 patients`."""
    counts = {target: _judged(study, target) for target in study.targets}
    if len(set(counts.values())) == 1:
        return counts[study.targets[0]]
    return "; ".join(f"{target}: {count}" for target, count in counts.items())


def _judged(study: Study, target: str) -> str:
    images, patients = (
        shown(study.fact("targets", target, f"test_{unit}")) for unit in ("images", "patients")
    )
    return f"{images} images, " + (f"{patients} patients" if study.patients_known else "patients unknown")


UNITS = {"image": "images", "study": "studies", "patient": "patients"}


def units(study: Study) -> str:
    """What a score belongs to, and what is counted in the test: `images`, `studies` or `patients`."""
    return UNITS.get(str(study.fact("unit")), "images")


def listed(names: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
