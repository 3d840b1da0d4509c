"""What was found on each target: one sentence, its word, and over what it holds."""

from __future__ import annotations

from dataclasses import dataclass

from mococxr.reporting.words import (
    NOT_RECORDED,
    display,
    interval_name,
    labels_used,
    percent,
    plain,
    shown,
    signed,
)
from mococxr.results import Row
from mococxr.results import StudyResults as Study


@dataclass(frozen=True)
class Over:
    """A difference and its interval over some sources of doubt: `over other test patients`."""

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


def verdicts(study: Study) -> list[Verdict]:
    """One verdict a target, that of the primary comparison first."""
    return [_verdict(study, target) for target in study.targets]


STATES = {"better": "gain", "worse": "loss", "no difference shown": "none"}
"""The verdict of `differences.csv` -> how it is drawn; all others are undefined."""


def _side(low: float, high: float) -> str:
    """On which side of 0 the wider interval lies; the study judges the one over test patients only."""
    return "better" if low > 0 else "worse" if high < 0 else "no difference shown"


def _verdict(study: Study, target: str) -> Verdict:
    primary = study.fact("primary", "target") == target
    row = chosen(study, target)
    if row is None:
        return Verdict(target, primary, "undefined", "Nothing compared", _alone(study, target), [])
    word = row["verdict"]
    sentence = f"{_opening(study, row)}{_finding(study, row, word)}"
    over, missing = _over(study, row) if word in STATES else ([], "")
    chip = word.capitalize()
    if len(over) > 1 and over[-1].word != word:
        chip += ", over test patients only"
    return Verdict(target, primary, STATES.get(word, "undefined"), chip, sentence, over, missing)


def _over(study: Study, row: Row) -> tuple[list[Over], str]:
    """The intervals of a difference, by what they are over, and what is in none of them."""
    names = ("arm", "against", "mode", "target", "fraction")
    split = next(iter(study.rows("variance", **{name: row[name] for name in names})), {})
    found: list[Over] = []
    for label, ends in (
        ("Over other test patients", ("low", "high")),
        (_sources(split), ("low_draws", "high_draws")),
    ):
        low, high = (row.get(name) for name in ends)
        if row["difference"] is None or low is None or high is None:
            continue
        text = f"{signed(row['difference'])} ({signed(low)} to {signed(high)})"
        word = row["verdict"] if not found else _side(low, high)
        found.append(Over(label, text, (row["difference"], low, high), word))
    if len(found) < 2:
        return found, "Other labelled images, and another pretraining, are not in it."
    runs = split.get("count_runs") or 1
    if runs < 2:
        return found, "Another pretraining is not in them."
    return found, "Two pretraining runs tell little of what others would give." if runs == 2 else ""


def _sources(split: Row) -> str:
    """What the wider interval of a difference is over."""
    draws, runs = ((split.get(f"count_{name}") or 1) > 1 for name in ("draws", "runs"))
    parts = [
        "test patients",
        *(["draws of labels"] if draws or not split else []),
        *(["pretraining runs"] if runs else []),
    ]
    return "Over other " + (f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else parts[0])


def chosen(study: Study, target: str) -> Row | None:
    """The comparison of the verdict: the primary's mode, arm and fraction where this target has them."""
    recorded = study.fact("primary")
    primary = recorded if isinstance(recorded, dict) else {}
    rows = [row for row in study.differences if row["target"] == target]

    def distance(row: Row) -> tuple[bool, bool, bool, float]:
        return (
            row["mode"] != primary.get("mode", study.modes[0]),
            row["arm"] != primary.get("arm", rows[0]["arm"]),
            row["fraction"] != primary.get("fraction"),
            row["fraction"],
        )

    return min(rows, key=distance) if rows else None


def _opening(study: Study, row: Row) -> str:
    key = (row["mode"], row["target"], row["fraction"])
    ours, theirs = study.cell(row["arm"], *key), study.cell(row["against"], *key)
    values = [plain(cell["auroc"] if cell else None) for cell in (ours, theirs)]
    arm, against = display(study, row["arm"]), display(study, row["against"])
    subject = {
        "linear": f"a linear classifier on {arm} features reaches",
        "finetune": f"fine-tuning from {arm} weights reaches",
    }.get(row["mode"], f"{row['mode']} from {arm} reaches")
    noun = {"linear": " features", "finetune": " weights"}.get(row["mode"], "")
    return (
        f"With {labels_used(study, row['target'], row['fraction'])}, {subject} AUROC "
        f"{values[0]} against {values[1]} from {against}{noun}"
    )


def _finding(study: Study, row: Row, word: str) -> str:
    """The end of the sentence."""
    difference, low, high = row["difference"], row["low"], row["high"]
    if difference is None:
        reasons = [
            study.reason(arm, row["mode"], row["target"], row["fraction"])
            for arm in (row["arm"], row["against"])
        ]
        known = [reason for reason in reasons if reason != "reason not recorded"] or reasons
        return f": the comparison is undefined ({'; '.join(dict.fromkeys(known))})."
    if word == "too few":
        reason = str(row.get("reason") or row.get("words") or "too few test patients").rstrip(".")
        return f": {signed(difference)}. {reason[0].upper()}{reason[1:]}."
    if low is None or high is None:
        return f": {signed(difference)}, but no interval is defined, so nothing is shown either way."
    figures = f"{signed(difference)} ({interval_name(study)} {signed(low)} to {signed(high)})"
    if word == "better":
        return f": {figures}."
    if word == "worse":
        return f": {figures}, so {display(study, row['arm'])} did worse."
    return f": {figures}. The interval includes 0: no difference was shown."


def _alone(study: Study, target: str) -> str:
    """The sentence where no arm is compared with another."""
    defined = [row for row in study.cells if row["target"] == target and row["auroc"] is not None]
    if not defined:
        return "No cell of this target is defined; the reasons stand below."
    row = min(defined, key=lambda row: row["fraction"])
    within = (
        f" ({interval_name(study)} {plain(row['low'])} to {plain(row['high'])})"
        if row["low"] is not None and row["high"] is not None
        else ""
    )
    return (
        f"With {labels_used(study, target, row['fraction'])}, {display(study, row['arm'])} "
        f"({row['mode']}) reaches "
        f"AUROC {plain(row['auroc'])}{within}. There is no other arm to compare it with."
    )


def primary_words(study: Study) -> str:
    """The primary comparison: `Pneumonia, linear, MoCo, 1 % of the labels`."""
    primary = study.fact("primary")
    if not isinstance(primary, dict):
        return NOT_RECORDED
    fraction = primary.get("fraction")
    share = percent(fraction) if isinstance(fraction, int | float) else NOT_RECORDED
    arm = primary.get("arm")
    name = display(study, arm) if isinstance(arm, str) else NOT_RECORDED
    return f"{shown(primary.get('target'))}, {shown(primary.get('mode'))}, {name}, {share} of the labels"
