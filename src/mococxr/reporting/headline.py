"""What stands on the first screen: for each target a sentence, its word, and over what it holds."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from mococxr.pages import format as fmt
from mococxr.pages.render import interval_bar
from mococxr.results import CELL_KEYS, PAIR_KEYS, Row, StudyResults

PROPER_NAMES = {"moco": "MoCo", "moco-cxr": "MoCo-CXR", "imagenet": "ImageNet", "medaug": "MedAug"}
UNITS = {"image": "images", "study": "studies", "patient": "patients"}
STATES = {"better": "gain", "worse": "loss", "no difference shown": "none"}
"""The verdict of `differences.csv` -> how it is drawn; all others are undefined."""


@dataclass(frozen=True)
class Mode:
    """A head mode in words: its name, what is done in it, what comes from an arm, and how it was trained.

    Args:
        whole: what comes from an arm in full; `short`: beside another arm in this mode.
    """

    name: str
    explained: str
    whole: str
    short: str
    trained: str


MODES = {
    "linear": Mode(
        "Linear classifier",
        "a linear classifier learns on top of an encoder that stays as it is",
        "a linear classifier on {} features",
        "{} features",
        "a linear classifier was trained on the features of each encoder",
    ),
    "finetune": Mode(
        "Fine-tuning",
        "fine-tuning changes the encoder too",
        "fine-tuning from {} weights",
        "{} weights",
        "each encoder was fine-tuned",
    ),
    "lpft": Mode(
        "Linear probe, then fine-tuning",
        "fine-tuning starts from the head of a linear probe and changes the encoder too",
        "a linear probe followed by fine-tuning from {} weights",
        "{} weights",
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
    proper = _proper(arm)
    same = [other for other in study.values("arm") if _proper(other) == proper]
    return proper if len(same) < 2 else arm  # arms `moco` and `MoCo` must stay apart


def _proper(arm: str) -> str:
    """`imagenet@288` -> `ImageNet 288 px`."""
    name, at, size = arm.partition("@")
    if at and size.isdigit() and name.lower() in PROPER_NAMES:
        return f"{PROPER_NAMES[name.lower()]} {size} px"
    return PROPER_NAMES.get(arm.lower(), arm)


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


def headline_rows(study: StudyResults, target: str) -> list[Row]:
    """The comparisons that the target's verdict is about, of one arm: with the baseline, then with the reference.

    The first is the primary one, or the nearest to it: same mode, same arm, its fraction or the smallest. None where
    nothing is compared.
    """
    rows, primary = study.rows("differences", target=target), study.facts["primary"]

    def distance(row: Row) -> tuple[bool, bool, bool, bool, float]:
        names = ("mode", "arm", "against", "fraction")
        # Tuples compare from the left: mode, arm, baseline, fraction, then the smallest.
        return (*(row[name] != primary[name] for name in names), row["fraction"])

    if not rows:
        return []
    first = min(rows, key=distance)
    cell = {name: first[name] for name in CELL_KEYS}
    return [first, *(row for row in study.rows("differences", **cell) if row != first)]


def headline_row(study: StudyResults, target: str, table: str = "differences") -> Row | None:
    """The row of a table of comparisons that is about the first of `headline_rows`."""
    rows = headline_rows(study, target)
    return of_row(study, rows[0], table) if rows else None


def of_row(study: StudyResults, row: Row, table: str) -> Row | None:
    """The row of another table about the same comparison."""
    return next(iter(study.rows(table, **{name: row[name] for name in PAIR_KEYS})), None)


def headline_cells(study: StudyResults, table: str, target: str) -> list[Row]:
    """Rows of the cells that the target's verdict compares: the arm, the baseline and the reference."""
    rows = headline_rows(study, target)
    if not rows:
        return study.rows(table, target=target)
    key = {name: rows[0][name] for name in ("target", "fraction")}
    sides = [(rows[0]["arm"], rows[0]["mode"]), *((row["against"], row["against_mode"]) for row in rows)]
    return [cell for arm, mode in sides for cell in study.rows(table, arm=arm, mode=mode, **key)]


def sides(study: StudyResults, row: Row) -> dict[str, Row]:
    """Arm -> its row of `cells.csv`, for the two that a comparison is of; empty where there is none."""
    modes = {row["arm"]: row["mode"], row["against"]: row["against_mode"]}
    return {arm: study.cell(arm, mode, row["target"], row["fraction"]) or {} for arm, mode in modes.items()}


def baseline_of(study: StudyResults) -> str | None:
    """The arm that every other is compared with first."""
    arm: str | None = study.facts["baseline"]["arm"]
    return arm


def primary_words(study: StudyResults) -> str:
    """The primary comparison: `Pneumonia, linear, MoCo against ImageNet, 1 % of the labels`."""
    primary = study.facts["primary"]
    arms = pair_label(study, primary, " against ")
    return f"{primary['target']}, {primary['mode']}, {arms}, {fmt.percent(primary['fraction'])} of the labels"


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
    rows = headline_rows(study, target)
    if not rows:
        return Verdict(target, primary, "undefined", "Nothing compared", _alone(study, target), [])
    row, word = rows[0], rows[0]["verdict"]
    # No interval is shown where nothing may be concluded.
    over, missing = _over(study, row) if word in STATES else ([], "")
    sentence = f"{_opening(study, row)}{_finding(study, row)}"
    for other in rows[1:]:  # the baseline comes first, whatever an arm gains over another
        name, cell = arm_label(study, other["against"]), sides(study, other)[other["against"]]
        sentence += f" Against {name} ({fmt.number(cell.get('auroc'))}){_finding(study, other)}"
        if other["verdict"] in STATES:
            last = _over(study, other)[0][-1]
            over = [*over, replace(last, label=f"Against {name}, {last.label.lower()}")]
    chip = _chip(study, row, primary, missing)
    return Verdict(target, primary, STATES.get(word, "undefined"), chip, sentence, over, missing)


def _chip(study: StudyResults, row: Row, primary: bool, missing: str) -> str:
    """The verdict in a few words, with the baseline's name and what it does not hold over."""
    word = row["verdict"]
    chip = word.capitalize()
    if row["against"] == baseline_of(study) and word in STATES:
        chip += f" {'than' if word != 'no difference shown' else 'against'} {arm_label(study, row['against'])}"
    if word in ("better", "worse"):
        if not primary and row["p_holm"] is not None and row["p_holm"] >= 0.05:
            count = sum(other["p_holm"] is not None for other in study.differences)
            others = f"{count - 1} others" if study.facts.get("prespecified") else f"{count} comparisons"
            chip += (
                f", exploratory: {why}" if (why := why_exploratory(study)) else f", not after adjusting for {others}"
            )
        elif row["low_total"] is None:
            chip += ", over test patients only"
        elif missing and study.facts["arms"][row["arm"]]["kind"] == "run":
            chip += ", for this one pretraining" if "Other pretraining" in missing else ", for these two pretrainings"
    return chip


def _over(study: StudyResults, row: Row) -> tuple[list[Over], str]:
    """The intervals of a difference, by what they are over, and what is in none of them."""
    variance = of_row(study, row, "variance") or {}
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
    arm, against = (arm_label(study, row[name]) for name in ("arm", "against"))
    first, second = (fmt.number(cell.get("auroc")) for cell in sides(study, row).values())
    alike = row["mode"] == row["against_mode"]
    other = MODES[row["against_mode"]].short if alike else MODES[row["against_mode"]].whole
    mark = " (the baseline)" if row["against"] == baseline_of(study) else ""
    used = labels_used(study, row["target"], row["fraction"], row["mode"])
    return (
        f"With {used}, {MODES[row['mode']].whole.format(arm)} reaches AUROC {first} against {second} from "
        f"{other.format(against)}{mark}"
    )


def _finding(study: StudyResults, row: Row) -> str:
    """The end of the sentence."""
    if row["difference"] is None:
        undefined = [cell for cell in sides(study, row).values() if cell["auroc"] is None]
        reasons = dict.fromkeys(study.reason(*(cell[name] for name in CELL_KEYS)) for cell in undefined)
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


def mode_label(row: Row) -> str:
    """How the arm's head was trained, and that of the other where it was in another way."""
    name, other = MODES[row["mode"]].name, MODES[row["against_mode"]].name
    return name if name == other else f"{name} against {other.lower()}"


def differences(study: StudyResults, target: str) -> dict[str, Any] | None:
    """The paper's table of one target: a row for each comparison of two arms, a column for each fraction."""
    ends = [abs(row[end]) for row in study.differences for end in ("low", "high") if row[end] is not None]
    reach = 1.05 * max([*ends, 0.01])  # one scale for every table, 5 % longer than the longest interval
    fractions = study.fractions(target)
    pairs: dict[tuple[str, ...], Row] = {}
    for row in study.rows("differences", target=target):
        pairs.setdefault(tuple(row[name] for name in ("mode", "arm", "against")), row)
    rows = [
        {
            "mode": mode_label(row),
            "arms": pair_label(study, row),
            "cells": [_difference(study, study.difference(arm, against, mode, target, f), reach) for f in fractions],
        }
        for (mode, arm, against), row in pairs.items()
    ]
    heads = [fmt.percent(fraction) for fraction in fractions]
    return {"target": target, "fractions": heads, "rows": rows, "reach": fmt.number(reach, 2)} if rows else None


def _difference(study: StudyResults, row: Row | None, reach: float) -> dict[str, Any]:
    """`0.967 / 0.893`, `+0.074`, `(+0.050 to +0.098)`, `better`; `reason` where something is undefined."""
    if row is None:
        return {"pair": fmt.DASH, "parts": [fmt.DASH], "bar": None, "reason": ""}
    cells = sides(study, row)
    reasons = [
        f"{arm_label(study, arm)}: {study.reason(*(cell[name] for name in CELL_KEYS))}"
        for arm, cell in cells.items()
        if cell and cell["auroc"] is None
    ]
    pair = " / ".join(fmt.number(cell.get("auroc")) for cell in cells.values())
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
