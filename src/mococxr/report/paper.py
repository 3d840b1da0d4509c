"""Text for a paper: a methods and a results paragraph from recorded facts, and the checklist items that they answer.

Item numbers: TRIPOD+AI, Collins et al., BMJ 2024;385:e078378, table 2; CLAIM 2024, Tejani et al., Radiology:
Artificial Intelligence 2024;6(4):e240300, table 1. The names of the items are ours, shortened.
"""

from __future__ import annotations

from mococxr.report.comparisons import saved_words
from mococxr.report.findings import chosen, verdicts
from mococxr.report.pretraining import runs_of
from mococxr.report.section import PAPER, Section
from mococxr.report.study_folder import Row, Study
from mococxr.report.tables import Table, between, comparison_p
from mococxr.report.words import (
    display,
    films_and_patients,
    interval_name,
    mode_name,
    percent,
    plain,
    shown,
    signed,
    span,
)

METHODS, RESULTS = "the methods paragraph", "the results paragraph"
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


def _data(study: Study) -> list[str]:
    drawn = " The films are phantoms, drawn by a program." if study.phantom else ""
    parts = [f"Data: {shown(study.fact('store', 'source'))}, {films_and_patients(study, 'store')}.{drawn}"]
    quarantined = study.fact("store", "quarantined")
    if isinstance(quarantined, int) and quarantined:
        parts.append(f"{quarantined:,} further files could not be read and were left out.")
    named = (("train", "training"), ("val", "validation"), ("test", "test"))
    splits = [f"{word} {films_and_patients(study, 'store', 'splits', name)}" for name, word in named]
    rule = shown(study.fact("store", "split_rule"))
    parts.append(f"Partitions ({rule}; no patient in two of them): {'; '.join(splits)}.")
    if study.external:
        other = films_and_patients(study, "test_store", "splits", "test", kind="test films")
        source = shown(study.fact("test_store", "source"))
        parts.append(f"Judged on films of another source ({source}: {other}).")
    policy = f"uncertain labels: {shown(study.fact('uncertain'))}; blank labels: {shown(study.fact('blank'))}"
    return [*parts, f"Targets: {', '.join(study.targets)} ({policy})."]


def _encoders(study: Study) -> list[str]:
    parts = []
    for arm in study.arms:
        size, network = shown(study.fact("arms", arm, "size")), shown(study.fact("arms", arm, "timm"))
        text = f"{display(study, arm)}: {network} at {size} pixels"
        before = study.fact("arms", arm, "pretrained_on")
        if isinstance(before, dict):
            used = (
                f"{shown(before.get('films'))} unlabelled films of {shown(before.get('patients'))} patients"
            )
            start = shown(study.fact("arms", arm, "init"))
            text += (
                f", pretrained without labels on {used} ({shown(before.get('source'))}; started from {start})"
            )
        elif (published := study.fact("arms", arm, "trained_on")) and published != "no chest films":
            text += f", published weights trained on {shown(published)}"
        parts.append(text)
    return [f"Encoders: {'; '.join(parts)}."]


def _training(study: Study) -> list[str]:
    draws = span([float(n) for n in _draws(study)])
    fractions = sorted({row["fraction"] for row in study.cells})
    modes = " and ".join(mode_name(mode).lower() for mode in study.modes)
    text = (
        f"Classifiers ({modes}) were trained with {', '.join(percent(f) for f in fractions)} of the labelled training "
        f"patients, in {draws} draws of labels a fraction, the same draws for every encoder."
    )
    used = study.fact("validation_labels")
    return [
        text,
        *([f"Validation labels used in training: {shown(used)}."] if isinstance(used, dict) and used else []),
    ]


def _draws(study: Study) -> list[int]:
    """How many draws each target and fraction has."""
    keys = {(row["target"], row["fraction"]) for row in study.trials}
    return [len({row.get("draw") for row in study.trials_of(target=t, fraction=f)}) for t, f in sorted(keys)]


def _statistics(study: Study) -> list[str]:
    unit, methods = shown(study.fact("unit")), _methods_of(study.differences)
    cells = _methods_of(study.cells)
    first = (
        f"The area under the ROC curve (AUROC) was measured by {unit} on the test partition, mean over draws"
    )
    parts = [f"{first}, with {interval_name(study)}s" + (f" ({cells})." if cells else ".")]
    if study.differences:
        how = f" ({methods})" if methods else ""
        parts.append(f"Encoders were compared on the same test patients and the same draws{how}.")
    if any(row.get("p_holm") is not None for row in study.differences):
        parts.append("P values were adjusted for the number of comparisons (Holm; Benjamini-Hochberg).")
    if study.rows("variance"):
        parts.append(
            "The variance of differences was split into test patients, draws of labels and pretraining runs."
        )
    if study.rows("calibration"):
        parts.append(
            "Probabilities were calibrated (Platt) and thresholds chosen on validation films alone, and both judged "
            "on test films by Brier score, expected calibration error, sensitivity, specificity and predictive values."
        )
    if study.rows("subgroups"):
        kinds = ", ".join(dict.fromkeys(str(row["attribute"]) for row in study.rows("subgroups")))
        parts.append(f"AUROC and its gap were also measured by {kinds}.")
    return parts


def _methods_of(rows: list[Row]) -> str:
    return "; ".join(dict.fromkeys(str(row["method"]) for row in rows if row.get("method")))


def _software(study: Study) -> str:
    version = study.fact("version")
    named = version if isinstance(version, dict) else {"mococxr": version}
    return f"Software: {', '.join(f'{name} {shown(value)}' for name, value in named.items())}."


def results_paragraph(study: Study) -> str:
    """The finding on each target, then how it holds up."""
    parts = [f"{verdict.target}: {verdict.sentence}" for verdict in verdicts(study)]
    for target in study.targets:
        row = chosen(study, target)
        if row is not None and row["p"] is not None:
            holm = (
                f", adjusted by Holm {comparison_p(study, row, 'p_holm')}"
                if row.get("p_holm") is not None
                else ""
            )
            parts.append(f"{target}: p {comparison_p(study, row)}{holm}.")
        if row is not None:
            parts += _further(study, row)
    for target in study.targets:
        positive, negative = (
            study.fact("targets", target, f"test_{word}s") for word in ("positive", "negative")
        )
        if positive is not None:
            parts.append(f"Test films of {target}: {shown(positive)} positive, {shown(negative)} negative.")
    undefined = len(study.undefined_cells)
    if undefined:
        parts.append(f"{undefined} of {len(study.cells)} cells are undefined and left out.")
    return " ".join(parts)


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
        if found.get("brier") is not None:
            brier, point = plain(found["brier"]), [found.get("sensitivity"), found.get("specificity")]
            ending = (
                f"; sensitivity {plain(point[0])} and specificity {plain(point[1])} at threshold "
                f"{plain(found.get('threshold'))}"
                if None not in point
                else ""
            )
            parts.append(f"{display(study, row['arm'])}: Brier score {brier}{ending}.")
    flagged = [one for one in study.rows("subgroups", arm=row["arm"], **key) if one.get("flagged")]
    for one in flagged:
        over = between(one, "gap_low", "gap_high", signed)
        parts.append(f"Gap in {one['attribute']} {one['group']}: {signed(one.get('gap'))} ({over}).")
    return parts


def checklist(study: Study) -> Table:
    """Items answered, with where: only those whose facts this study holds."""
    calibrated, grouped = bool(study.rows("calibration")), bool(study.rows("subgroups"))
    planned = isinstance(study.fact("planning"), dict)
    runs = any(runs_of(study, arm) or study.fact("arms", arm, "pretrained_on") for arm in study.arms)
    items = [
        ("5a", "7", "Where the data come from", METHODS, True),
        ("7", "9", "Preparation of the films, and what was left out", METHODS, True),
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
        ("15", "–", "Probability, threshold and how it was found", METHODS, calibrated),
        ("16", "33", "Judged on films of another source", METHODS, study.external),
        ("–", "32", "Judged on films of the same source", METHODS, not study.external),
        ("–", "23", "Software and its version", METHODS, True),
        ("18f", "–", "The command that repeats the analysis", "Versions, and how to repeat it", True),
        (
            "–",
            "30",
            "Spread over draws and runs",
            "How sure is it, and over what?",
            bool(study.rows("variance")),
        ),
        ("20a", "35", "Numbers of films and patients", METHODS, True),
        ("21", "–", "Positives and negatives in each analysis", "Data and split", True),
        ("23a", "37", "Performance with intervals", RESULTS, True),
        ("–", "38", "Diagnostic performance at a threshold", RESULTS, calibrated),
        ("23a", "–", "Performance in groups of patients", "Does it serve every group alike?", grouped),
    ]
    rows = [[tripod, claim, what, where] for tripod, claim, what, where, here in items if here]
    return Table(["TRIPOD+AI", "CLAIM 2024", "What it asks, in short", "Answered in"], rows, 4, CITED)
