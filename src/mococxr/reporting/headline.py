"""What stands on the first screen: warnings, and for each target a sentence, its word, and over what it holds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mococxr.metrics.checks import TOO_FEW
from mococxr.pages import format as fmt
from mococxr.pages.render import Alert, interval_bar
from mococxr.results import PAIR_KEYS, Row, StudyResults

PROPER_NAMES = {"moco": "MoCo", "moco-cxr": "MoCo-CXR", "imagenet": "ImageNet", "medaug": "MedAug"}
UNITS = {"image": "images", "study": "studies", "patient": "patients"}
STATES = {"better": "gain", "worse": "loss", "no difference shown": "none"}
"""The verdict of `differences.csv` -> how it is drawn; all others are undefined."""
SEEN = {
    "TEST PATIENTS SEEN: ": "Test patients seen",
    "TEST IMAGES SEEN: ": "Test images seen",
    "TEST IMAGES MAY HAVE BEEN SEEN: ": "Test images may have been seen",
}
"""How a warning of `study` begins that must be known before any number, and the title that it gets."""


@dataclass(frozen=True)
class Mode:
    """A head mode in words: its name, what is done in it, what its arms reach, and how it was trained."""

    name: str
    explained: str
    reaches: str
    trained: str


MODES = {
    "linear": Mode(
        "Linear classifier",
        "a linear classifier learns on top of an encoder that stays as it is",
        "a linear classifier on {arm} features reaches AUROC {} against {} from {against} features",
        "a linear classifier was trained on the features of each encoder",
    ),
    "finetune": Mode(
        "Fine-tuning",
        "fine-tuning changes the encoder too",
        "fine-tuning from {arm} weights reaches AUROC {} against {} from {against} weights",
        "each encoder was fine-tuned",
    ),
    "lpft": Mode(
        "Linear probe, then fine-tuning",
        "fine-tuning starts from the head of a linear probe and changes the encoder too",
        "a linear probe followed by fine-tuning from {arm} weights reaches AUROC {} against {} from {against} weights",
        "each encoder was fine-tuned from the head of a linear probe",
    ),
}
"""The modes of `heads.MODES` in words; a test compares the names."""


@dataclass(frozen=True)
class Over:
    """A difference and its interval over some sources of variance: `over other test patients`."""

    label: str
    text: str
    interval: tuple[float, float, float]
    word: str


@dataclass(frozen=True)
class Verdict:
    """A sentence on one target. `state`: gain, loss, none, undefined; `over`: its intervals, the narrowest first."""

    target: str
    primary: bool
    state: str
    chip: str
    sentence: str
    over: list[Over]
    missing: str = ""


def arm_label(study: StudyResults, arm: str) -> str:
    """An arm's name as it is spelt in print (`moco` -> `MoCo`), unless that would make two arms one."""
    proper = PROPER_NAMES.get(arm.lower(), arm)
    same = [other for other in study.values("arm") if PROPER_NAMES.get(other.lower(), other) == proper]
    return proper if len(same) < 2 else arm  # arms `moco` and `MoCo` must stay apart


def pair_label(study: StudyResults, row: Row, against: str = " / ") -> str:
    """The arm and its reference: `MoCo / ImageNet`."""
    return arm_label(study, row["arm"]) + against + arm_label(study, row["against"])


def interval_name(study: StudyResults) -> str:
    """`95 % interval`, from the recorded level."""
    return f"{fmt.percent(study.facts['level'])} interval"


def labels_used(study: StudyResults, target: str, fraction: float, mode: str | None = None) -> str:
    """`1 % of the labels (34 images, 20 patients)`, with the validation labels that training in `mode` looked at."""
    trials = study.rows("trials", target=target, fraction=fraction)
    images, patients = (fmt.span([trial[f"train_{unit}"] for trial in trials]) for unit in ("images", "patients"))
    labels = "all labels" if fraction == 1 else f"{fmt.percent(fraction)} of the labels"
    used = f"{labels} ({images} images" + (f", {patients} patients)" if study.patients_known else ")")
    chosen = study.facts["validation_labels"].get(mode, 0)  # labels that chose a checkpoint count as labels used
    return used + (f" and {chosen:,} validation labels" if chosen else "")


def condition(study: StudyResults, row: Row) -> str:
    """How a cell was trained: `linear classifier, 1 % of the labels (34 images, 20 patients)`."""
    return f"{MODES[row['mode']].name.lower()}, {labels_used(study, row['target'], row['fraction'], row['mode'])}"


def units(study: StudyResults) -> str:
    """What a score belongs to, and what is counted in the test: `images`, `studies` or `patients`."""
    return UNITS[study.facts["unit"]]


def counted(facts: Row, patients_known: bool, kind: str = "images") -> str:
    """`169 images, 59 patients`."""
    patients = f"{fmt.fact(facts['patients'])} patients" if patients_known else "patients unknown"
    return f"{fmt.fact(facts['images'])} {kind}, {patients}"


def judged(study: StudyResults) -> str:
    """The test images that have a label and were scored, by target: `512 images, 309 patients`."""
    texts = {}
    for target in study.targets:
        facts = study.facts["targets"][target]
        counts = {"images": facts["test_images"], "patients": facts["test_patients"]}
        texts[target] = counted(counts, study.patients_known)
    if len(set(texts.values())) == 1:
        return texts[study.targets[0]]
    return "; ".join(f"{target}: {text}" for target, text in texts.items())


def subtitle(study: StudyResults) -> str:
    """Where the training images come from, and the test images, should that be elsewhere."""
    store = study.facts["store"]
    kind = "synthetic images (drawn by a program)" if study.synthetic else "images"
    text = f"{fmt.fact(store['source'])}: {counted(store, store['patients_known'], kind)}."
    if study.external:
        text += f" Judged on another store, {fmt.fact(study.test_store['source'])}: {judged(study)}."
    return text


def headline_row(study: StudyResults, target: str, table: str = "differences") -> Row | None:
    """The row of a table of comparisons that the target's verdict is about; None where nothing is compared.

    That is the primary comparison, or the one nearest to it: same mode, same arm, its fraction or the smallest.
    """
    rows = study.rows("differences", target=target)
    if not rows:
        return None
    primary = study.facts["primary"]

    def distance(row: Row) -> tuple[bool, bool, bool, float]:
        names = ("mode", "arm", "fraction")
        # Tuples compare from the left: mode, arm, fraction, then the smallest.
        return (*(row[name] != primary[name] for name in names), row["fraction"])

    row = min(rows, key=distance)
    return next(iter(study.rows(table, **{name: row[name] for name in PAIR_KEYS})), None)


def headline_cells(study: StudyResults, table: str, target: str) -> list[Row]:
    """Rows of the cells that the target's verdict compares: the arm and its reference, at one mode and fraction."""
    row = headline_row(study, target)
    if row is None:
        return study.rows(table, target=target)
    key = {name: row[name] for name in ("mode", "target", "fraction")}
    return [cell for arm in (row["arm"], row["against"]) for cell in study.rows(table, arm=arm, **key)]


def primary_words(study: StudyResults) -> str:
    """The primary comparison: `Pneumonia, linear, MoCo, 1 % of the labels`."""
    primary = study.facts["primary"]
    arm = arm_label(study, primary["arm"])
    return f"{primary['target']}, {primary['mode']}, {arm}, {fmt.percent(primary['fraction'])} of the labels"


def why_exploratory(study: StudyResults) -> str:
    """Why nothing but the primary comparison can be shown, where it was named in advance and is not shown itself."""
    if not study.facts.get("prespecified"):
        return ""
    row = next(row for row in study.differences if study.facts["primary"].items() <= row.items())
    if row["p_holm"] is None:  # too few patients, or no interval
        return "the primary comparison was not tested"
    return "the primary comparison shows no difference" if row["p_holm"] >= 0.05 else ""


def verdicts(study: StudyResults) -> list[Verdict]:
    """One verdict for each target, that of the primary comparison first."""
    return [_verdict(study, target) for target in study.targets]


def _verdict(study: StudyResults, target: str) -> Verdict:
    primary = bool(study.facts["primary"]) and study.facts["primary"]["target"] == target
    row = headline_row(study, target)
    if row is None:
        return Verdict(target, primary, "undefined", "Nothing compared", _alone(study, target), [])
    word = row["verdict"]
    # No interval is shown where nothing may be concluded.
    over, missing = _over(study, row) if word in STATES else ([], "")
    chip = word.capitalize()
    if word in ("better", "worse"):
        if not primary and row["p_holm"] is not None and row["p_holm"] >= 0.05:
            count = sum(other["p_holm"] is not None for other in study.differences)
            others = f"{count - 1} others" if study.facts.get("prespecified") else f"{count} comparisons"
            chip += (
                f", exploratory: {why}" if (why := why_exploratory(study)) else f", not after adjusting for {others}"
            )
        elif len(over) == 1:
            chip += ", over test patients only"
        elif missing and study.facts["arms"][row["arm"]]["kind"] == "run":
            chip += ", for this one pretraining" if "Other pretraining" in missing else ", for these two pretrainings"
    sentence = f"{_opening(study, row)}{_finding(study, row)}"
    return Verdict(target, primary, STATES.get(word, "undefined"), chip, sentence, over, missing)


def _over(study: StudyResults, row: Row) -> tuple[list[Over], str]:
    """The intervals of a difference, by what they are over, and what is in none of them."""
    variance = headline_row(study, row["target"], "variance") or {}
    draws, runs = (variance.get(f"count_{name}") or 1 for name in ("draws", "runs"))
    sources = ["test patients", *["label subsets"] * (draws > 1), *["pretraining runs"] * (runs > 1)]
    intervals = [("Over other test patients", "low", "high")]
    if row["low_total"] is not None and row["high_total"] is not None:
        intervals.append((f"Over other {fmt.join_words(sources)}", "low_total", "high_total"))
    over = []
    for label, low, high in intervals:
        word = "better" if row[low] > 0 else "worse" if row[high] < 0 else "no difference shown"
        text = fmt.interval(row, "difference", sign=True, ends=(low, high))
        over.append(Over(label, text, (row["difference"], row[low], row[high]), word))
    if len(over) < 2:  # one draw and one run
        return over, "Label subsets and pretraining runs are not included."
    if runs < 2:
        return over, "Other pretraining runs are not included."
    return over, "Two runs are too few to estimate run-to-run variance." if runs == 2 else ""


def _opening(study: StudyResults, row: Row) -> str:
    arms = {name: arm_label(study, row[name]) for name in ("arm", "against")}
    cells = [study.cell(row[name], row["mode"], row["target"], row["fraction"]) for name in arms]
    values = (fmt.number(cell["auroc"] if cell else None) for cell in cells)
    reached = MODES[row["mode"]].reaches.format(*values, **arms)
    return f"With {labels_used(study, row['target'], row['fraction'], row['mode'])}, {reached}"


def _finding(study: StudyResults, row: Row) -> str:
    """The end of the sentence."""
    if row["difference"] is None:
        key = (row["mode"], row["target"], row["fraction"])
        undefined = [arm for arm in (row["arm"], row["against"]) if study.cell(arm, *key)["auroc"] is None]  # type: ignore[index]
        reasons = dict.fromkeys(study.reason(arm, *key) for arm in undefined)
        return f": the comparison is undefined ({'; '.join(reasons)})."
    if row["verdict"] == "too few":
        return f": {fmt.signed(row['difference'])}. {fmt.first_upper(str(row['reason']).rstrip('.'))}."
    if row["low"] is None or row["high"] is None:
        return f": {fmt.signed(row['difference'])}, but no interval is defined, so nothing is shown either way."
    ends = ("low", "high") if row["low_total"] is None else ("low_total", "high_total")
    limits = fmt.between(row, *ends, fmt.signed)
    numbers = f"{fmt.signed(row['difference'])} ({interval_name(study)} {limits})"
    if row["verdict"] == "better":
        return f": {numbers}."
    if row["verdict"] == "worse":
        return f": {numbers}, so {arm_label(study, row['arm'])} did worse."
    return f": {numbers}. The interval includes 0: no difference was shown."


def _alone(study: StudyResults, target: str) -> str:
    """The sentence where no arm is compared with another."""
    defined = [row for row in study.rows("cells", target=target) if row["auroc"] is not None]
    if not defined:
        return "No cell of this target is defined; the reasons are listed below."
    row = min(defined, key=lambda row: row["fraction"])  # few labels are what the study is about
    limits = fmt.between(row, "low", "high")
    within = f" ({interval_name(study)} {limits})" if limits else ""
    used = labels_used(study, target, row["fraction"], row["mode"])
    return (
        f"With {used}, {arm_label(study, row['arm'])} ({row['mode']}) reaches "
        f"AUROC {fmt.number(row['auroc'])}{within}. There is no other arm to compare it with."
    )


def differences(study: StudyResults, target: str) -> dict[str, Any] | None:
    """The paper's table of one target: a row for each comparison of two arms, a column for each fraction."""
    ends = [abs(row[end]) for row in study.differences for end in ("low", "high") if row[end] is not None]
    reach = 1.05 * max([*ends, 0.01])  # one scale for every table, 5 % longer than the longest interval
    fractions = study.fractions(target)
    pairs = dict.fromkeys((row["mode"], row["arm"], row["against"]) for row in study.rows("differences", target=target))
    rows = [
        {
            "mode": MODES[mode].name,
            "arms": pair_label(study, {"arm": arm, "against": against}),
            "cells": [_difference(study, study.difference(arm, against, mode, target, f), reach) for f in fractions],
        }
        for mode, arm, against in pairs
    ]
    heads = [fmt.percent(fraction) for fraction in fractions]
    return {"target": target, "fractions": heads, "rows": rows, "reach": fmt.number(reach, 2)} if rows else None


def _difference(study: StudyResults, row: Row | None, reach: float) -> dict[str, Any]:
    """`0.967 / 0.893`, `+0.074`, `(+0.050 to +0.098)`, `better`; `reason` where something is undefined."""
    if row is None:
        return {"pair": fmt.DASH, "parts": [fmt.DASH], "bar": None, "reason": ""}
    key = (row["mode"], row["target"], row["fraction"])
    areas = {row[name]: (study.cell(row[name], *key) or {}).get("auroc") for name in ("arm", "against")}
    reasons = [f"{arm_label(study, arm)}: {study.reason(arm, *key)}" for arm, area in areas.items() if area is None]
    pair = " / ".join(fmt.number(area) for area in areas.values())
    if row["difference"] is None:
        return {"pair": pair, "parts": [pair, fmt.UNDEFINED], "bar": None, "reason": "; ".join(reasons)}
    limits = fmt.between(row, "low", "high", fmt.signed)
    if row["verdict"] in ("too few", "undefined"):
        reasons.append(row["reason"] or row["words"] or "")
    bar = None
    if limits:
        state = "none" if reasons else ""
        bar = interval_bar(row["low"], row["difference"], row["high"], 0.0, (-reach, reach), state)
    difference, within, word = fmt.signed(row["difference"]), f"({limits or 'interval undefined'})", row["verdict"]
    if word in ("better", "worse") and row["p_holm"] is not None and row["p_holm"] >= 0.05:
        word += ", not after Holm"
    return {
        "pair": pair, "difference": difference, "within": within, "word": word, "bar": bar,
        "state": bar.state if bar else "none", "reason": "; ".join(filter(None, reasons)),
        "parts": [pair, difference, within, word],
    }  # fmt: skip


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
    yield from _leaks(study)
    yield from _few(study)
    if undefined := sum(row["auroc"] is None for row in study.cells):
        yield Alert(
            f"{undefined} of {len(study.cells)} cells {'is' if undefined == 1 else 'are'} undefined",
            "The data do not define a number there; none was put in its place. The reasons are listed under Warnings.",
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
