"""What must be known before any number of a study is read."""

from __future__ import annotations

from collections.abc import Iterator

from mococxr.metrics.checks import TOO_FEW
from mococxr.pages import format as fmt
from mococxr.pages.render import Alert
from mococxr.reporting.headline import arm_label
from mococxr.results import StudyResults

SEEN = {
    "TEST PATIENTS SEEN: ": "Test patients seen",
    "TEST IMAGES SEEN: ": "Test images seen",
    "TEST IMAGES MAY HAVE BEEN SEEN: ": "Test images may have been seen",
    "TARGET SEEN: ": "Target seen in pretraining",
}
"""How a warning of `study` begins that must be known before any number, and the title that it gets."""


def alerts(study: StudyResults) -> list[Alert]:
    """What must be known before any number is read; empty when there is nothing to warn of."""
    return list(_alerts(study))


def _alerts(study: StudyResults) -> Iterator[Alert]:
    if study.synthetic:
        text = "Every image here was drawn by a program. This page demonstrates the method; it proves nothing."
        yield Alert("Synthetic images", text)
    if not study.patients_known:
        yield Alert(
            "Patients unknown",
            "The images carry no patient identifiers, so images of one patient may be in both training and test, "
            "scores may be too high, and intervals too narrow.",
        )
    yield from _no_baseline(study)
    yield from _leaks(study)
    yield from _few(study)
    if undefined := sum(row["auroc"] is None for row in study.cells):
        yield Alert(
            f"{undefined} of {len(study.cells)} cells {'is' if undefined == 1 else 'are'} undefined",
            "The data do not define a number there; none was put in its place. The reasons are listed under Warnings.",
        )


def _no_baseline(study: StudyResults) -> Iterator[Alert]:
    baseline = study.facts["baseline"]
    if baseline["arm"] is None and study.facts["settings"].get("baseline"):  # asked for, and not to be had
        yield Alert(
            "No baseline",
            f"{fmt.first_upper(baseline['reason'])}. Without it a gain over another arm may be a gain over a weak one.",
        )


def seen_splits(study: StudyResults, arm: str) -> list[str]:
    """Which of validation and test the pretraining of an arm saw, where its images are those of this study.

    Test patients of the training store count only where they are judged: not where another store is.
    """
    pretrained_on = study.facts["arms"][arm]["pretrained_on"]
    # Names of splits of other stores mean other patients.
    if pretrained_on is None or pretrained_on["source"] != study.facts["store"]["source"]:
        return []
    splits = pretrained_on["splits"]
    names = splits if isinstance(splits, list) else str(splits).replace(",", "+").split("+")
    tested = [] if study.external else [("test", "test")]
    return [word for name, word in [("val", "validation"), *tested] if {name, "all"} & {*map(str.strip, names)}]


def _leaks(study: StudyResults) -> Iterator[Alert]:
    for text in study.facts["warnings"]:
        for mark, title in SEEN.items():
            if text.startswith(mark):  # studies/provenance.py writes these marks: the two must agree
                yield Alert(title, text.removeprefix(mark))
    for arm in study.values("arm"):
        if seen := " and ".join(seen_splits(study, arm)):
            yield Alert(
                f"{arm_label(study, arm)}: pretraining saw {seen} patients",
                f"The pretraining of this arm used images (not labels) of {seen} patients of this study. Its gain may "
                "not carry over to patients that it never saw.",
            )


def _few(study: StudyResults) -> Iterator[Alert]:
    for target in study.targets:
        counts = {word: study.facts["targets"][target][f"test_{word}_patients"] for word in ("positive", "negative")}
        few = [f"{count:,} {word}" for word, count in counts.items() if count < TOO_FEW]
        if few:
            yield Alert(
                f"{target}: few test patients",
                f"The test set holds {' and '.join(few)} patients for this target, fewer than {TOO_FEW}: the "
                "numbers are rough whatever their interval says.",
            )
