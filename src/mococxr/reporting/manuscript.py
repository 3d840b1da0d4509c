"""Text for a manuscript: a methods and a results paragraph from recorded facts, the checklist items, a glossary.

Item numbers: TRIPOD+AI, Collins et al., BMJ 2024;385:e078378, table 2; CLAIM 2024, Tejani et al., Radiology:
Artificial Intelligence 2024;6(4):e240300, table 1. The names of the items are ours, shortened.
"""

from __future__ import annotations

from mococxr.pages import format as fmt
from mococxr.pages.render import Table
from mococxr.reporting.counts import labelled
from mococxr.reporting.headline import (
    MODES,
    arm_label,
    baseline_of,
    counted,
    headline_cells,
    headline_rows,
    interval_name,
    primary_words,
    verdicts,
    why_exploratory,
)
from mococxr.reporting.provenance import frames_words, sources_of
from mococxr.reporting.recipe import recipes
from mococxr.reporting.rows import saved_words
from mococxr.results import CELL_KEYS, PAIR_KEYS, Row, StudyResults

METHODS, RESULTS = "the methods paragraph", "the results paragraph"
TITLES = {
    "variance": "Uncertainty and its sources",
    "saved": "Label savings",
    "forecast": "How many more labels?",
    "comparisons": "All comparisons, corrected for multiple testing",
    "calibration": "Calibration and operating point",
    "subgroups": "Subgroup performance",
    "pretraining": "Pretraining",
    "planning": "Sample size for a future study",
    "numbers": "All numbers",
    "methods": "How to read this page",
    "glossary": "What the words mean",
    "data": "Data and split",
    "arms": "Arms",
    "settings": "Settings",
    "warnings": "Warnings",
    "repeat": "Versions and command",
    "manuscript": "Methods and results paragraphs",
}
"""The sections of the page: anchor -> heading; the checklist points to some of them."""
CITED = "TRIPOD+AI: BMJ 2024;385:e078378. CLAIM 2024: Radiology: Artificial Intelligence 2024;6(4):e240300."
GLOSSARY = (
    ("AUROC", "The chance that an image with the finding scores higher than one without it: 0.5 is chance level, 1 is "
     "perfect."),
    ("Arm", "One of the encoders that are compared. All arms get the same labels and the same test images."),
    ("Baseline", "What there is without pretraining on X-rays, fixed before the study: ImageNet weights, fed up to 288 "
     "pixels. Every arm is compared with it first."),
    ("Reference", "The arm that the others are compared with."),
    ("Encoder, features", "A network that turns an image into a list of numbers, its features."),
    ("Linear classifier", "The encoder stays as it is; only a weighted sum of its features is learned from labels."),
    ("Fine-tuning", "The whole network goes on learning from the labels."),
    ("Pretraining", "What the encoder learned before, without these labels."),
    ("Share of the labels", "How many of the labelled training patients the classifier may learn from."),
    ("Label subset", "Which patients those are, drawn at random; several subsets show how much the choice matters."),
    ("Interval", "A range that holds the true value in 95 of 100 studies like this, where 95 % stands beside it."),
    ("Over other test patients", "Main results would hold for other patients like these; other label subsets "
     "or pretraining runs are not included."),
    ("p", "How often chance alone would show a difference this large, were there none."),
    ("Average precision", "The mean share of true positives among the images scored highest; it falls where the finding "
     "is rare."),
    ("Partial AUROC", "The mean specificity at sensitivities from 0.9 to 1, scaled so that chance is 0.5: the part of the "
     "curve where a screening test works."),
    ("Calibration", "Whether 30 of 100 images with a predicted 30 % have the finding."),
    ("Undefined", "The data do not define the number; none was put in its place."),
)  # fmt: skip


def methods(study: StudyResults) -> str:
    """Data, split, encoders, training, statistics and software, from recorded facts only."""
    encoders = "; ".join(_encoder(study, arm) for arm in study.values("arm"))
    encoders = f"The encoders compared were {encoders}."
    parts = [*_data(study), encoders, *recipes(study), *_baseline(study), *_training(study)]
    parts += _statistics(study)
    return " ".join([*parts, f"Computed with mococxr {study.facts['version']}."])


def _data(study: StudyResults) -> list[str]:
    store, facts = study.facts["store"], study.facts
    known = store["patients_known"]

    def of(counts: Row) -> str:
        """`301 images of 144 patients`."""
        # `counted` writes lists; here it stands in a sentence.
        text = counted(counts, known).replace(" images, ", " images of ")
        return text.replace("of patients unknown", "(patients unknown)")

    drawn = ", synthetic images drawn by a program" if study.synthetic else ""
    parts = [f"We used {of(store)} (source: {fmt.fact(store['source'])}){drawn}."]
    for name, why in (
        ("unreadable", "could not be read"),
        ("not_used", "are not images of their own (reports, localizers, second copies)"),
    ):
        if store[name]:
            parts.append(f"{store[name]:,} further files {why} and were left out.")
    named = (("train", "training"), ("val", "validation"), ("test", "test"))
    splits = "; ".join(f"{word}, {of(store['splits'][name])}" for name, word in named)
    # Claimed only where identifiers can show it.
    apart = ", so that no patient is in two parts" if study.patients_known else ""
    parts.append(f"They were divided ({fmt.fact(store['split_rule'])}){apart}: {splits}.")
    if study.external:
        parts.append(f"Classifiers were judged on another source, {fmt.fact(study.test_store['source'])}.")
    policy = f"uncertain labels: {facts['uncertain']}; blank labels: {facts['blank']}"
    word = "target was" if len(study.targets) == 1 else "targets were"
    parts.append(f"The {word} {fmt.join_words(study.targets)} ({policy}).")
    return [*parts, *labelled(study)]


def _encoder(study: StudyResults, arm: str) -> str:
    facts = study.facts["arms"][arm]
    text = f"{arm_label(study, arm)} ({frames_words(facts, 'pixels')}"
    images = facts["pretrained_on"]
    several = len(facts["parts"]) > 1
    text += f", {facts['encoder']}" if several else ""
    if images is not None:
        used = f"{fmt.fact(images['images'])} images of {fmt.fact(images['patients'])} patients"
        times = f" in {len(facts['runs'])} runs" if len(facts["runs"]) > 1 else ""
        start = f"{fmt.fact(facts['init'])} weights"
        by = f" by {facts['method']}" if facts.get("method") else ""
        text += ", the run" if several else ","
        text += f" pretrained{by} without labels on {used} of {sources_of(images)}{times}, from {start}"
    elif facts["kind"] in ("imagenet", "random") and not several:
        text += f", {facts['init']} weights"
    elif facts["trained_on"] and not several:
        text += f", published weights trained on {facts['trained_on']}"
    return f"{text})"


def _baseline(study: StudyResults) -> list[str]:
    arm = baseline_of(study)
    if arm is None:
        return []
    head = ", with a linear classifier alone" if study.added and study.modes != ["linear"] else ""
    text = f"{arm_label(study, arm)}, which never saw an X-ray, was the baseline, fixed in advance{head}"
    return [f"{text}: every other encoder was compared with it first."]


def _training(study: StudyResults) -> list[str]:
    how = " and ".join(MODES[mode].trained for mode in study.modes)
    shares = fmt.join_words([fmt.percent(fraction) for fraction in sorted(study.values("fraction"))])
    # Draws differ by fraction: at 1 there is one.
    trials = study.frames["trials"].group_by("target", "fraction").n_unique()
    text = (
        f"{fmt.first_upper(how)}, with {shares} of the labelled training patients and "
        f"{fmt.span(trials['draw'])} label subsets per share, the same for every encoder."
    )
    arms = study.facts["arms"].values()
    read = {part["features"] for arm in arms for part in arm["parts"] if part["size"]}
    if read == {"stages"}:
        text += (
            " Features were the means over the maps of an encoder's last four stages, beside those of its last layer."
        )
    elif read:
        text += (
            f" Features were those of the last layer{'' if read == {'last'} else ', or of the last four stages, too'}."
        )
    if on := study.facts.get("standardized_on"):
        text += (
            f" Features were standardised on {on['images']:,} of {on['training_images']:,} training images, whether they "
            "had a label or not."
        )
    # Labels that chose checkpoints are labels used.
    used = [f"{n:,} ({MODES[mode].name.lower()})" for mode, n in study.facts["validation_labels"].items()]
    return [text, f"Labels of validation images used in training: {fmt.join_words(used)}."]


def _statistics(study: StudyResults) -> list[str]:
    how = f" ({cells})" if (cells := _methods_of(study.cells)) else ""
    parts = [
        f"The area under the ROC curve (AUROC) was measured by {study.facts['unit']} on the test part and averaged over "
        f"label subsets, with {interval_name(study)}s{how}: DeLong's variance over patients (Obuchowski 1997), joined with "
        "the score interval (Newcombe 2006). Average precision and partial AUROC have percentiles of "
        f"{study.facts['replicates']:,} resamples of the test patients."
    ]
    if study.differences:
        how = f" ({pairs})" if (pairs := _methods_of(study.differences)) else ""
        parts.append(f"Encoders were compared on the same test patients and the same label subsets{how}.")
    if study.facts.get("prespecified"):  # the order of tests is part of the method (gatekeeping)
        parts.append(
            f"The primary comparison, named in advance ({primary_words(study)}), was tested first at a two-sided level of "
            "0.05; the others only where it was significant, with P values adjusted by Holm over them (serial gatekeeping)."
        )
    elif any(row["p_holm"] is not None for row in study.differences):
        parts.append("P values were adjusted for the number of comparisons (Holm; Benjamini-Hochberg).")
    if study.rows("variance"):
        parts.append("The variance of differences was split into test patients, label subsets and pretraining runs.")
    if study.frames["calibration"]["sensitivity"].count():
        parts.append(
            "For the first label subset and pretraining run, thresholds were chosen on validation images alone "
            f"({fmt.span(study.frames['calibration']['n_validation'].drop_nulls())} validation labels) and judged on test "
            "images, with Wilson's intervals over patients."
        )
    if study.frames["calibration"]["brier"].count():
        parts.append(
            "Probabilities were calibrated on validation images (Platt) and judged on test images by Brier score, expected "
            "calibration error, observed by expected positives, a restricted cubic spline of the logits, and net benefit "
            "(Vickers and Elkin 2006)."
        )
    if kinds := list(dict.fromkeys(row["attribute"] for row in study.rows("subgroups"))):
        parts.append(f"AUROC was also measured in groups by {fmt.join_words(kinds)}.")
    return parts


def _methods_of(rows: list[Row]) -> str:
    return "; ".join(dict.fromkeys(row["method"] for row in rows if row["method"]))


def results(study: StudyResults) -> str:
    """The finding on each target, then how it holds up."""
    parts = []
    for verdict in verdicts(study):
        parts.append(f"{verdict.target}: {verdict.sentence}")
        rows = headline_rows(study, verdict.target)
        if not rows:
            continue
        parts += _areas(study, verdict.target)
        for row in rows:
            if row["p"] is not None:
                against = f"Against {arm_label(study, row['against'])}: " if len(rows) > 1 else ""
                parts.append(against + _tested(study, row))
        parts += _further(study, rows[0])
    for target in study.targets:
        positive, negative = (study.facts["targets"][target][f"test_{word}s"] for word in ("positive", "negative"))
        parts.append(f"Test images of {target}: {positive:,} positive, {negative:,} negative.")
    undefined = sum(row["auroc"] is None for row in study.cells)
    if undefined:
        parts.append(f"{undefined} of {len(study.cells)} cells are undefined and left out.")
    return " ".join(parts)


def _areas(study: StudyResults, target: str) -> list[str]:
    """The AUROC of the arms that the verdict compares, with their intervals."""
    texts = [
        f"{arm_label(study, cell['arm'])} {fmt.interval(cell, 'auroc')}"
        for cell in headline_cells(study, "cells", target)
        if cell["low"] is not None
    ]
    return [f"AUROC with {interval_name(study)}: {', '.join(texts)}."] if texts else []


def _tested(study: StudyResults, row: Row) -> str:
    total = row["p_total"] is not None
    over = (
        "label subsets and pretraining runs too"
        if total
        else "test patients, the trained classifiers taken as they are"
    )
    adjusted = f"; {fmt.p_value(row['p_holm'])} adjusted by Holm" if row["p_holm"] is not None else ""
    if study.facts.get("prespecified"):
        first = study.facts["primary"].items() <= row.items()
        adjusted = "; the primary comparison, not adjusted" if first else f"{adjusted} behind the primary comparison"
        adjusted += f" (exploratory: {why})" if not first and (why := why_exploratory(study)) else ""
    return f"p {_equals(row['p_total'] if total else row['p'])} over {over}{adjusted}."


def _equals(p: float) -> str:
    text = fmt.p_value(p)
    return text if text.startswith("<") else f"= {text}"


def _further(study: StudyResults, row: Row) -> list[str]:
    """Labels saved, all sources of variance, calibration and subgroups of one comparison."""
    pair = {name: row[name] for name in PAIR_KEYS}
    cell = {name: row[name] for name in CELL_KEYS}
    arm = arm_label(study, row["arm"])
    parts = []
    for variance in study.rows("variance", **pair):
        if over := fmt.between(variance, "low", "high", fmt.signed):
            used = f"{fmt.fact(variance['count_draws'])} subsets, {fmt.fact(variance['count_runs'])} pretraining runs"
            difference = fmt.signed(variance["difference"])
            parts.append(f"Over patients, label subsets and runs together ({used}): {difference} ({over}).")
    parts += [saved_words(study, saved) for saved in study.rows("labels_saved", **pair) if saved["words"]]
    for point in headline_cells(study, "calibration", row["target"]):
        texts = [f"Brier score {fmt.interval(point, 'brier')}"] if point["brier"] is not None else []
        if point["sensitivity"] is not None and point["specificity"] is not None:
            rates = (
                f"sensitivity {fmt.interval(point, 'sensitivity')} and specificity {fmt.interval(point, 'specificity')}"
            )
            chosen = f"(chosen on {fmt.count(point['n_validation'])} validation labels)"
            texts.append(f"{rates} at threshold {fmt.threshold(point['threshold'])} {chosen}")
        parts += [f"{arm_label(study, point['arm'])}: {'; '.join(texts)}."] if texts else []
    for group in study.rows("subgroups", **cell):
        if group["flagged"]:
            adjusted = ""
            if group["p_holm"] is not None:
                adjusted = f"; p {_equals(group['p_holm'])} adjusted by Holm for the gaps"
            over = fmt.between(group, "gap_low", "gap_high", fmt.signed)
            parts.append(
                f"In {group['attribute']} {group['group']} the AUROC of {arm} differed from that in "
                f"{group['against_group']} by {fmt.signed(group['gap'])} ({over}){adjusted}."
            )
    return parts


def checklist(study: StudyResults) -> Table:
    """Items answered, with where: only those whose facts this study holds."""
    calibrated = bool(study.frames["calibration"]["sensitivity"].count())
    grouped = bool(study.frames["subgroups"]["auroc"].count())
    runs = any(arm["runs"] for arm in study.facts["arms"].values())
    items = [
        ("5a", "7", "Where the data come from", METHODS, True),
        ("7", "9", "Preparation of the images, and what was left out", METHODS, True),
        (
            "10",
            "21",
            "Test patients for a next study (that of this one is yours to give)",
            TITLES["planning"],
            bool(study.facts["planning"]),
        ),
        ("11", "12", "Uncertain and blank labels", METHODS, True),
        ("12a", "19", "How the data were divided", METHODS, True),
        ("12a", "20", "No patient in two partitions", METHODS, study.patients_known),
        ("12c", "22", "Kind of model", TITLES["arms"], True),
        ("–", "24", "What the weights started from", METHODS, runs),
        ("12c", "25", "How it was trained", TITLES["settings"], True),
        ("12e", "28", "Measures of performance", METHODS, True),
        ("12e", "29", "Significance and uncertainty", METHODS, True),
        ("15", "–", "What is put out, and how the threshold was found", METHODS, calibrated),
        ("16", "33", "Judged on images of another source", METHODS, study.external),
        ("–", "32", "Judged on images of the same source", METHODS, not study.external),
        ("–", "23", "Software and its version", METHODS, True),
        ("18f", "–", "The command that repeats the analysis", TITLES["repeat"], True),
        ("–", "30", "Spread over label subsets and runs", TITLES["variance"], bool(study.rows("variance"))),
        (
            "20a",
            "35",
            "Flow of images and patients by split, left out and why",
            TITLES["data"],
            bool(study.rows("flow")),
        ),
        ("20b", "36", "Age, sex and views by split and label", TITLES["data"], bool(study.rows("flow"))),
        ("21", "–", "Positives and negatives in each analysis", TITLES["data"], True),
        ("23a", "37", "Performance with intervals", RESULTS, True),
        ("–", "38", "Diagnostic performance at a threshold", TITLES["calibration"], calibrated),
        ("–", "39", "The most certain errors (errors.csv)", TITLES["calibration"], bool(study.rows("errors"))),
        ("23a", "–", "Performance in groups of patients", TITLES["subgroups"], grouped),
    ]
    rows = [list(item[:4]) for item in items if item[4]]  # only what this study answers
    return Table(["TRIPOD+AI", "CLAIM 2024", "What it asks, in short", "Answered in"], rows, 4, CITED)


def reading(study: StudyResults) -> list[str]:
    """How the numbers are made, and what they do not contain."""
    cases = "patients" if study.patients_known else "images (patients are unknown)"
    how = _methods_of(study.cells) or f"bootstrap over test {cases}, {study.facts['replicates']:,} resamples"
    lines = [
        "AUROC is the chance that a random positive case scores higher than a random negative one: 0.5 is chance level, "
        "1 is perfect. It is measured on test patients only.",
        f"Intervals: {interval_name(study)} by {how}. The AUROC of every label subset is computed and averaged.",
        "Differences are paired: both arms are measured on the same test patients, with the same label subsets. An "
        "interval that includes 0 means that no difference was shown, not that there is none.",
        "What the intervals over test patients do not contain: what another label subset would change (the "
        "standard deviation over subsets is given apart), what another pretraining of the same arm would change, and any "
        "change of hospital, scanner or labeller.",
        "A number that the data do not define (one class only, no test image) is called undefined and left out; it is "
        "never replaced.",
    ]
    if len(study.differences) > 1:
        chosen = "named in advance" if study.facts.get("prespecified") else "chosen by rule and not by result"
        lines.append(f"The primary comparison, {chosen}, is {primary_words(study)}.")
    return lines
