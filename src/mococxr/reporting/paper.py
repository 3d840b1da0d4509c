"""Text for a paper: a methods and a results paragraph from recorded facts, and the checklist items that they answer.

Item numbers: TRIPOD+AI, Collins et al., BMJ 2024;385:e078378, table 2; CLAIM 2024, Tejani et al., Radiology:
Artificial Intelligence 2024;6(4):e240300, table 1. The names of the items are ours, shortened.
"""

from __future__ import annotations

from mococxr.reporting.comparisons import saved_words
from mococxr.reporting.findings import chosen, verdicts
from mococxr.reporting.pretraining import runs_of
from mococxr.reporting.section import PAPER, Section
from mococxr.reporting.tables import Table, between
from mococxr.reporting.words import (
    display,
    images_and_patients,
    interval_name,
    judged,
    listed,
    mode_name,
    p_value,
    percent,
    plain,
    shown,
    signed,
    span,
    threshold,
)
from mococxr.results import Row
from mococxr.results import StudyResults as Study

METHODS, RESULTS = "the methods paragraph", "the results paragraph"
THRESHOLD = "Can the probabilities be believed, and what happens at the threshold?"
CITED = "TRIPOD+AI: BMJ 2024;385:e078378. CLAIM 2024: Radiology: Artificial Intelligence 2024;6(4):e240300."


def paper_section(study: Study) -> Section:
    """The paragraphs, and the items of TRIPOD+AI and CLAIM that they answer."""
    return Section(
        "paper",
        "Methods and results, ready to paste",
        [
            "Every fact in these paragraphs stands in the study's files; “not recorded” marks what they lack. What a "
            "program cannot know (who was eligible, how labels were made, ethics, funding) is yours to write.",
        ],
        [("Checklist items that they answer, at least in part", checklist(study))],
        gist="Two paragraphs from this study's own files, and the checklist items that they answer.",
        group=PAPER,
        pages=[("Methods", methods_paragraph(study)), ("Results", results_paragraph(study))],
    )


def methods_paragraph(study: Study) -> str:
    """Data, split, encoders, training, statistics and software, from recorded facts only."""
    return " ".join(
        [*_data(study), *_encoders(study), *_training(study), *_statistics(study), _software(study)]
    )


def _counted(study: Study, *place: str) -> str:
    """`301 images of 144 patients`."""
    return (
        images_and_patients(study, *place)
        .replace(" images, ", " images of ")
        .replace("of patients unknown", "(patients unknown)")
    )


def _data(study: Study) -> list[str]:
    drawn = ", phantoms drawn by a program" if study.phantom else ""
    parts = [f"We used {_counted(study, 'store')} (source: {shown(study.fact('store', 'source'))}){drawn}."]
    for name, why in (("unreadable", "could not be read"), ("not_used", "are no image of their own")):
        if count := study.fact("store", name):
            parts.append(f"{count:,} further files {why} and were left out.")
    named = (("train", "training"), ("val", "validation"), ("test", "test"))
    splits = [f"{word}, {_counted(study, 'store', 'splits', name)}" for name, word in named]
    apart = ", so that no patient is in two parts" if study.patients_known else ""
    parts.append(
        f"They were divided ({shown(study.fact('store', 'split_rule'))}){apart}: {'; '.join(splits)}."
    )
    if study.external:
        source = shown(study.fact("test_store", "source"))
        parts.append(f"Classifiers were judged on another source, {source}.")
    policy = f"uncertain labels: {shown(study.fact('uncertain'))}; blank labels: {shown(study.fact('blank'))}"
    word = "target was" if len(study.targets) == 1 else "targets were"
    parts.append(f"The {word} {listed(study.targets)} ({policy}).")
    return [*parts, f"Test images with a label, all of them scored: {judged(study)}."]


def _encoders(study: Study) -> list[str]:
    return [f"The encoders compared were {'; '.join(_encoder(study, arm) for arm in study.arms)}."]


def _encoder(study: Study, arm: str) -> str:
    kind, network = study.fact("arms", arm, "kind"), shown(study.fact("arms", arm, "timm"))
    text = f"{display(study, arm)} ({network} at {shown(study.fact('arms', arm, 'size'))} pixels"
    before, published = (study.fact("arms", arm, name) for name in ("pretrained_on", "trained_on"))
    start = f"{shown(study.fact('arms', arm, 'init'))} weights"
    if isinstance(before, dict):
        used = f"{shown(before.get('images'))} images of {shown(before.get('patients'))} patients"
        runs = study.fact("arms", arm, "runs")
        count = len(runs) if isinstance(runs, list) else runs
        times = f" in {count} runs" if isinstance(count, int) and count > 1 else ""
        text += f", pretrained without labels on {used} of {shown(before.get('source'))}{times}, from {start}"
    elif kind in ("imagenet", "random"):
        text += f", {start}"
    elif published:
        text += f", published weights trained on {shown(published)}"
    return f"{text})"


def _training(study: Study) -> list[str]:
    ways = {
        "linear": "a linear classifier was trained on the features of each encoder",
        "finetune": "each encoder was fine-tuned",
    }
    how = " and ".join(ways.get(mode, mode) for mode in study.modes)
    shares = listed([percent(f) for f in sorted({row["fraction"] for row in study.cells})])
    text = (
        f"{how[0].upper()}{how[1:]}, with {shares} of the labelled training patients and {span(_draws(study))} "
        "draws of labels a share, the same for every encoder."
    )
    used = study.fact("validation_labels")
    if not isinstance(used, dict) or not used:
        return [text]
    counts = listed([f"{shown(count)} ({mode_name(mode).lower()})" for mode, count in used.items()])
    return [text, f"Labels of validation images used in training: {counts}."]


def _draws(study: Study) -> list[float | None]:
    """How many draws each target and share has."""
    keys = {(row["target"], row["fraction"]) for row in study.trials}
    return [
        len({row.get("draw") for row in study.rows("trials", target=t, fraction=f)}) for t, f in sorted(keys)
    ]


def _statistics(study: Study) -> list[str]:
    unit, methods, cells = shown(study.fact("unit")), _methods_of(study.differences), _methods_of(study.cells)
    how = f" ({cells})" if cells else ""
    parts = [
        f"The area under the ROC curve (AUROC) was measured by {unit} on the test part and averaged over draws, with "
        f"{interval_name(study)}s{how}."
    ]
    if study.differences:
        how = f" ({methods})" if methods else ""
        parts.append(f"Encoders were compared on the same test patients and the same draws{how}.")
    if any(row.get("p_holm") is not None for row in study.differences):
        parts.append("P values were adjusted for the number of comparisons (Holm; Benjamini-Hochberg).")
    if study.rows("variance"):
        parts.append(
            "The variance of differences was split into test patients, draws of labels and pretraining runs."
        )
    point = any(row.get("sensitivity") is not None for row in study.rows("calibration"))
    if point:
        parts.append(
            "For the first draw and pretraining run, thresholds were chosen on validation images alone and judged on "
            "test images."
        )
    if any(row.get("brier") is not None for row in study.rows("calibration")):
        parts.append(
            "Probabilities were calibrated on validation images (Platt) and judged on test images by Brier score and "
            "expected calibration error."
        )
    if study.rows("subgroups"):
        kinds = listed(list(dict.fromkeys(str(row["attribute"]) for row in study.rows("subgroups"))))
        parts.append(f"AUROC was also measured in groups by {kinds}.")
    return parts


def _methods_of(rows: list[Row]) -> str:
    return "; ".join(dict.fromkeys(str(row["method"]) for row in rows if row.get("method")))


def _software(study: Study) -> str:
    version = study.fact("version")
    named = version if isinstance(version, dict) else {"mococxr": version}
    return f"Computed with {', '.join(f'{name} {shown(value)}' for name, value in named.items())}."


def results_paragraph(study: Study) -> str:
    """The finding on each target, then how it holds up."""
    parts = []
    for verdict in verdicts(study):
        parts.append(f"{verdict.target}: {verdict.sentence}")
        row = chosen(study, verdict.target)
        parts += [*_tested(row), *_further(study, row)] if row is not None else []
    for target in study.targets:
        positive, negative = (
            study.fact("targets", target, f"test_{word}s") for word in ("positive", "negative")
        )
        if positive is not None:
            parts.append(f"Test images of {target}: {shown(positive)} positive, {shown(negative)} negative.")
    undefined = len(study.undefined_cells)
    if undefined:
        parts.append(f"{undefined} of {len(study.cells)} cells are undefined and left out.")
    return " ".join(parts)


def _tested(row: Row) -> list[str]:
    """`p = 0.012; 0.036 adjusted by Holm.`, where there was a test."""
    if row["p"] is None:
        return []
    p, holm = p_value(row["p"]), row.get("p_holm")
    adjusted = f"; {p_value(holm)} adjusted by Holm" if holm is not None else ""
    return [f"p {_equals(p)}{adjusted}."]


def _equals(p: str) -> str:
    return p if p.startswith("<") else f"= {p}"


def _further(study: Study, row: Row) -> list[str]:
    """Labels saved, all sources of doubt, calibration and subgroups of one comparison."""
    key = {name: row[name] for name in ("mode", "target", "fraction")}
    parts = []
    for found in study.rows("variance", arm=row["arm"], against=row["against"], **key)[:1]:
        if over := between(found, "low", "high", signed):
            used = (
                f"{shown(found.get('count_draws'))} draws, {shown(found.get('count_runs'))} pretraining runs"
            )
            parts.append(
                f"Over patients, draws and runs together ({used}): {signed(found['difference'])} ({over})."
            )
    for found in study.rows("labels_saved", arm=row["arm"], against=row["against"], **key)[:1]:
        parts += [saved_words(study, found)] if found.get("words") else []
    for found in study.rows("calibration", arm=row["arm"], **key)[:1]:
        said = [f"Brier score {plain(found['brier'])}"] if found.get("brier") is not None else []
        if found.get("sensitivity") is not None and found.get("specificity") is not None:
            point = f"sensitivity {plain(found['sensitivity'])} and specificity {plain(found['specificity'])}"
            said.append(f"{point} at threshold {threshold(found.get('threshold'))}")
        parts += [f"{display(study, row['arm'])}: {'; '.join(said)}."] if said else []
    flagged = [one for one in study.rows("subgroups", arm=row["arm"], **key) if one.get("flagged")]
    for one in flagged:
        over = between(one, "gap_low", "gap_high", signed)
        name, held = f"{one['attribute']} {one['group']}", one.get("against_group")
        holm = one.get("p_holm")
        adjusted = "" if holm is None else f"; p {_equals(p_value(holm))} adjusted by Holm for the gaps"
        parts.append(
            f"In {name} the AUROC of {display(study, row['arm'])} differed from that in {held or 'the largest group'} "
            f"by {signed(one.get('gap'))} ({over}){adjusted}."
        )
    return parts


def checklist(study: Study) -> Table:
    """Items answered, with where: only those whose facts this study holds."""
    calibrated = any(row.get("sensitivity") is not None for row in study.rows("calibration"))
    grouped = any(row.get("auroc") is not None for row in study.rows("subgroups"))
    planned = isinstance(study.fact("planning"), dict)
    runs = any(runs_of(study, arm) or study.fact("arms", arm, "pretrained_on") for arm in study.arms)
    items = [
        ("5a", "7", "Where the data come from", METHODS, True),
        ("7", "9", "Preparation of the images, and what was left out", METHODS, True),
        (
            "10",
            "21",
            "Whether the test set is large enough",
            "How many test patients would be enough?",
            planned,
        ),
        ("11", "12", "Uncertain and blank labels", METHODS, True),
        ("12a", "19", "How the data were divided", METHODS, True),
        ("12a", "20", "No patient in two partitions", METHODS, study.patients_known),
        ("12c", "22", "Kind of model", "Arms", True),
        ("–", "24", "What the weights started from", METHODS, runs),
        ("12c", "25", "How it was trained", "Settings", True),
        ("12e", "28", "Measures of performance", METHODS, True),
        ("12e", "29", "Significance and uncertainty", METHODS, True),
        ("15", "–", "What is put out, and how the threshold was found", METHODS, calibrated),
        ("16", "33", "Judged on images of another source", METHODS, study.external),
        ("–", "32", "Judged on images of the same source", METHODS, not study.external),
        ("–", "23", "Software and its version", METHODS, True),
        ("18f", "–", "The command that repeats the analysis", "Versions, and how to repeat it", True),
        (
            "–",
            "30",
            "Spread over draws and runs",
            "How sure is it, and over what?",
            bool(study.rows("variance")),
        ),
        ("20a", "35", "Numbers of images and patients", METHODS, True),
        ("21", "–", "Positives and negatives in each analysis", "Data and split", True),
        ("23a", "37", "Performance with intervals", RESULTS, True),
        ("–", "38", "Diagnostic performance at a threshold", THRESHOLD, calibrated),
        ("23a", "–", "Performance in groups of patients", "Does it serve every group alike?", grouped),
    ]
    rows = [[tripod, claim, what, where] for tripod, claim, what, where, here in items if here]
    return Table(["TRIPOD+AI", "CLAIM 2024", "What it asks, in short", "Answered in"], rows, 4, CITED)
