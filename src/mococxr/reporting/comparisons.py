"""All comparisons with their number taken into account, labels saved, and the patients that another study needs."""

from __future__ import annotations

from typing import Any

from mococxr.reporting.findings import chosen, primary_words
from mococxr.reporting.section import CLOSER, Section
from mococxr.reporting.tables import COMPARED, Table, between, comparison_key, count
from mococxr.reporting.words import NOT_RECORDED, display, p_value, plain, shown, signed
from mococxr.results import Row
from mococxr.results import StudyResults as Study

FEW = "too few"
"""The verdict of `differences.csv` where no test is made."""
VERDICTS = ("better", "worse", "no difference shown", FEW, "undefined")


def comparisons_section(study: Study) -> Section | None:
    """Every row of `differences.csv` and `across.csv`; None where no arm is compared."""
    if not study.differences:
        return None
    tables = [("Comparisons (differences.csv)", _comparisons(study, study.differences))]
    if study.across:
        caption = "Linear classifiers against fine-tuning of the reference (across.csv)"
        tables.append((caption, _comparisons(study, study.across)))
    verdicts = [row["verdict"] for row in study.differences if row.get("verdict")]
    counts = [f"{verdicts.count(word)} {word}" for word in VERDICTS if word in verdicts]
    return Section(
        "comparisons",
        "All comparisons, and their number taken into account",
        _lines(study),
        tables,
        gist=f"{len(study.differences)} comparisons"
        + (f": {', '.join(counts)}" if counts else "")
        + f"{_left(study)}.",
        group=CLOSER,
    )


def _left(study: Study) -> str:
    """How many of the differences that were shown are left when their number is taken into account."""
    sure = [row for row in study.differences if row.get("verdict") in ("better", "worse")]
    if not sure or any(row.get("p_holm") is None for row in sure):
        return ""
    left = sum(row["p_holm"] < 0.05 for row in sure)
    return (
        f"; {left} of these {len(sure)} differences are left when their number is taken into account (Holm)"
    )


def _lines(study: Study) -> list[str]:
    rows = [*study.differences, *study.across]
    known = [row for row in rows if row["p"] is not None]
    lines = []
    if (tests := study.fact("tests")) is not None:
        lines += [shown(tests["words"]) if isinstance(tests, dict) and tests.get("words") else shown(tests)]
    if any(row.get("p_holm") is not None for row in known):
        lines.append(
            "Among many comparisons some look like a difference by chance. p (Holm): below 0.05, no such find is "
            "expected among all of them; p (BH, Benjamini-Hochberg): below 0.05, about one in twenty of the finds is."
        )
    elif len(known) > 1:
        lines.append(
            f"{len(known)} comparisons stand here, without correction for their number; some intervals can be "
            f"expected to miss 0 by chance. The primary comparison is {primary_words(study)}."
        )
    margins = {row["margin"] for row in rows if row.get("margin") is not None}
    for margin in sorted(margins):
        lines.append(
            f"Margin, named beforehand: {plain(margin)} AUROC. p (not worse): that the arm is worse by more than "
            "the margin; p (equal): that it differs by more than the margin, either way."
        )
    return lines + few_lines(study)


def few_lines(study: Study) -> list[str]:
    """Why comparisons were not tested, each reason once, with how many it concerns."""
    reasons: dict[str, int] = {}
    for row in study.differences:
        if row.get("verdict") == FEW:
            reason = str(row.get("reason") or row.get("words") or "reason not recorded")
            reasons[reason] = reasons.get(reason, 0) + 1
    return [
        f"Too little data in {number} of {len(study.differences)}: {text}" for text, number in reasons.items()
    ]


def _comparisons(study: Study, rows: list[Row]) -> Table:
    adjusted = {"p_holm": "p (Holm)", "p_bh": "p (BH)"}
    margins = {"p_noninferior": "p (not worse)", "p_equivalent": "p (equal)"}
    further = {
        name: title
        for name, title in (adjusted | margins).items()
        if any(row.get(name) is not None for row in rows)
    }
    judged = any(row.get("verdict") for row in rows)
    lines = []
    for row in rows:
        over = between(row, "low", "high", signed)
        line = [*comparison_key(study, row)]
        line += [f"{signed(row['difference'])} ({over})" if over else signed(row["difference"])]
        line += [
            p_value(row["p"]),
            *("–" if row.get(n) is None else p_value(row[n]) for n in further),
        ]
        lines.append(line + ([row.get("verdict") or NOT_RECORDED] if judged else []))
    methods = list(dict.fromkeys(row.get("method") or NOT_RECORDED for row in rows))
    head = [*COMPARED, "Difference", "p", *further.values(), *(["Verdict"] if judged else [])]
    return Table(head, lines, 2, f"Method: {'; '.join(methods)}.")


def saved_section(study: Study) -> Section | None:
    """How many labels the reference needs to reach what an arm reaches; None where it was not measured."""
    rows = study.rows("labels_saved")
    if not rows:
        return None
    head = [*COMPARED, "Images with labels", "The reference needs", "Interval", "Times as many"]
    lines = [
        [
            *comparison_key(study, row), count(row["train_images"]),
            images(row.get("equals_images")), f"{images(row.get('low'))} to {images(row.get('high'))}", _times(row),
        ]
        for row in rows
    ]  # fmt: skip
    points = [
        "Read off the reference's own curve, straight between the measured numbers of labels (on their logarithm) and "
        "never beyond them: outside them it says “at most” the fewest or “more than” the most. The interval is over "
        "other test patients; draws of labels and pretraining runs are averaged, and others are not in it.",
        *(
            f"{row['target']}: {saved_words(study, row)}"
            for target in study.targets
            for row in _mine(study, target)
        ),
    ]
    return Section(
        "saved",
        "How many labels does it save?",
        points,
        [("All arms and fractions (labels_saved.csv)", Table(head, lines, 2))],
        gist=next((saved_words(study, row) for row in _mine(study, study.targets[0])), _why_not(study)),
        group=CLOSER,
    )


def _mine(study: Study, target: str) -> list[Row]:
    """The row of `labels_saved.csv` of the target's verdict, where it has words."""
    row = chosen(study, target)
    names = ("arm", "against", "mode", "target", "fraction")
    found = study.rows("labels_saved", **{name: row[name] for name in names}) if row else []
    return [one for one in found if one.get("words")][:1]


def saved_words(study: Study, row: Row) -> str:
    """The study's sentence with the names of the arms in it."""
    arm, against = display(study, row["arm"]), display(study, row["against"])
    text = str(row["words"]).replace("What the arm reaches", f"What {arm} reaches")
    text = text.replace("takes the reference ", f"takes {against} ")
    return text.replace("The reference does not reach it", f"{against} does not reach what {arm} reaches")


def _why_not(study: Study) -> str:
    row = chosen(study, study.targets[0])
    names = ("arm", "against", "mode", "target", "fraction")
    found = study.rows("labels_saved", **{name: row[name] for name in names}) if row else []
    return f"Not defined: {shown(found[0].get('reason'))}." if found else "See the table."


def images(value: Any) -> str:
    """A number of images, or the bound that stands in its place; – where there is none."""
    text = str(value or "").strip()
    try:
        return f"{float(text.replace(',', '')):,.0f}"
    except ValueError:
        return text or "–"


def _times(row: Row) -> str:
    if row.get("factor") is None:
        return "–"
    low, high = row.get("factor_low"), row.get("factor_high")
    ends = f" ({low:,.1f} to {high:,.1f})" if low is not None and high is not None else ""
    return f"{row['factor']:,.1f}{ends}"


def planning_section(study: Study) -> Section | None:
    """How many test patients would show a difference of interest; None where it was not worked out."""
    planned = study.fact("planning")
    if not isinstance(planned, dict) or not planned:
        return None
    found = {target: one for target, one in planned.items() if isinstance(one, dict)}
    lines = [f"{target}: {shown(one.get('words') or one.get('reason'))}" for target, one in found.items()]
    positive = [study.fact("targets", target, "test_positive_patients") for target in found]
    negative = [study.fact("targets", target, "test_negative_patients") for target in found]
    rows = [
        [
            target,
            shown(one.get("difference")),
            shown(one.get("power")),
            shown(one.get("patients")),
            shown(p),
            shown(n),
        ]
        for (target, one), p, n in zip(found.items(), positive, negative, strict=True)
    ]
    head = [
        "Target",
        "Difference to see",
        "Power",
        "Test patients needed",
        "This study: positive",
        "negative",
    ]
    return Section(
        "planning",
        "How many test patients would be enough?",
        lines,
        [("", Table(head, rows, 1))],
        gist=lines[0] if lines else "",
        group=CLOSER,
    )
