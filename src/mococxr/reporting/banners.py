"""What must be known before a number is read: phantom images, unknown patients, leaks, few patients, gaps."""

from __future__ import annotations

from dataclasses import dataclass

from mococxr.reporting.words import display, shown
from mococxr.results import StudyResults as Study

SEEN = {
    "TEST PATIENTS SEEN: ": "Test patients seen",
    "TEST IMAGES SEEN: ": "Test images seen",
    "TEST IMAGES MAY HAVE BEEN SEEN: ": "Test images may have been seen",
}
"""How a warning of `study` begins that must be known before any number, and the title that it gets."""
FEW_PATIENTS = 10
"""Fewer positive or negative test patients than this raise a banner."""


@dataclass(frozen=True)
class Banner:
    """Something that must be known before any number is read."""

    title: str
    text: str


def banners(study: Study) -> list[Banner]:
    """What stands in red on the first screen; empty when there is nothing to warn of."""
    found = []
    if study.phantom:
        found.append(
            Banner(
                "Phantom images",
                "Every image here was drawn by a program. This page demonstrates the method; it "
                "proves nothing.",
            )
        )
    if not study.patients_known:
        found.append(
            Banner(
                "Patients unknown",
                "The images carry no patient identifiers, so images of one patient may stand in both training "
                "and test, scores may be too high, and intervals too narrow.",
            )
        )
    found += [*_leak_banners(study), *_few_banners(study)]
    if cells := study.undefined_cells:
        found.append(
            Banner(
                f"{len(cells)} of {len(study.cells)} cells {'is' if len(cells) == 1 else 'are'} undefined",
                "The data do not define a number there; none was put in its place. "
                "The reasons stand under Warnings.",
            )
        )
    return found


def seen_splits(study: Study, arm: str) -> list[str]:
    """Which of val and test the pretraining of an arm saw, where its images are those of this study.

    Test patients of the training store count only where they are judged: not where another store is.
    """
    before = study.fact("arms", arm, "pretrained_on")
    if not isinstance(before, dict):
        return []
    source, ours = before.get("source"), study.fact("store", "source")
    if source is not None and ours is not None and source != ours:
        return []
    splits = before.get("splits")
    names = splits if isinstance(splits, list) else str(splits or "").replace(",", "+").split("+")
    words = {str(name).strip().lower() for name in names}
    seen = [("val", "validation"), *([] if study.external else [("test", "test")])]
    return [word for short, word in seen if words & {short, word, "all"}]


def _leak_banners(study: Study) -> list[Banner]:
    recorded = study.fact("warnings")
    texts = [str(text) for text in recorded] if isinstance(recorded, list) else []
    found = [
        Banner(title, text.removeprefix(mark))
        for text in texts
        for mark, title in SEEN.items()
        if text.startswith(mark)
    ]
    for arm in study.arms:
        if seen := seen_splits(study, arm):
            found.append(
                Banner(
                    f"{display(study, arm)}: pretraining saw {' and '.join(seen)} patients",
                    f"The pretraining of this arm used images (not labels) of {' and '.join(seen)} "
                    "patients of this study. Its gain may not carry over to patients that it never saw.",
                )
            )
    return found


def _few_banners(study: Study) -> list[Banner]:
    found = []
    for target in study.targets:
        few = []
        for word in ("positive", "negative"):
            count = study.fact("targets", target, f"test_{word}_patients")
            if count is None:
                count = study.fact("targets", target, f"test_{word}s")
            if isinstance(count, int | float) and count < FEW_PATIENTS:
                few.append(f"{shown(count)} {word}")
        if few:
            found.append(
                Banner(
                    f"{target}: few test patients",
                    f"The test set holds {' and '.join(few)} patients for this target, fewer than "
                    f"{FEW_PATIENTS}: the numbers are rough whatever their interval says.",
                )
            )
    return found
