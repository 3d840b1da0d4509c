"""Did pretraining work: the verdict on each run of each arm, with reason, remedy and its curves."""

from __future__ import annotations

import math
from typing import Any

from mococxr.reporting.figures import Picture
from mococxr.reporting.section import CLOSER, Section
from mococxr.reporting.tables import Table
from mococxr.reporting.words import NOT_RECORDED, display, shown
from mococxr.results import Row
from mococxr.results import StudyResults as Study

NUMBERS = {
    "loss": ("Loss", 2),
    "contrast_accuracy": ("Finds its own view", 2),
    "effective_rank": ("Effective rank", 1),
    "feature_std": ("Spread of features", 2),
    "knn_auroc": ("kNN AUROC", 3),
}
"""Last value of a run -> its name on the page, and decimals."""
HEALTHY = "learning"


def runs_of(study: Study, arm: str) -> list[Row]:
    """The runs of an arm with their `health`; none where it is no run, or the folder only counts them."""
    recorded = study.fact("arms", arm, "runs")
    found = [run for run in recorded if isinstance(run, dict)] if isinstance(recorded, list) else []
    return [run for run in found if isinstance(run.get("health"), dict)]


def run_name(study: Study, arm: str, number: int) -> str:
    """`MoCo, run 2`, or the arm alone where it has one run."""
    return f"{display(study, arm)}, run {number + 1}" if len(runs_of(study, arm)) > 1 else display(study, arm)


def guessing(run: Row) -> float | None:
    """The loss of guessing, ln(K+1), where the run recorded K."""
    queue = run["health"].get("queue")
    return math.log(queue + 1) if isinstance(queue, int | float) and queue > 0 else None


def pretraining_section(study: Study, figures: list[Picture]) -> Section | None:
    """The health of all runs; None where none was recorded."""
    found = [(arm, i, run) for arm in study.arms for i, run in enumerate(runs_of(study, arm))]
    if not found:
        return None
    lines = [_sentence(study, arm, i, run) for arm, i, run in found]
    lines.append(
        "The loss starts near ln(K+1), which is guessing among K other images, and must fall below it; resting at "
        "log 2 would mean that an image meets its own copy among the others. Effective rank: how many "
        "directions the features fill; near 1 they have collapsed."
    )
    verdicts = [_of(run, "verdict") for _, _, run in found]
    good = sum(word == HEALTHY for word in verdicts)
    others = ", ".join(dict.fromkeys(shown(word) for word in verdicts if word != HEALTHY))
    return Section(
        "pretraining",
        "Did pretraining work?",
        lines,
        [("Last values", _table(study, found))],
        gist=f"{good} of {len(found)} runs: learning" + (f"; the others: {others}." if others else "."),
        group=CLOSER,
        figures=[picture for picture in figures if picture.metric == "pretraining"],
    )


def _of(run: Row, name: str) -> Any:
    return run["health"].get(name, run.get(name))


def _sentence(study: Study, arm: str, number: int, run: Row) -> str:
    parts = [f"{run_name(study, arm, number)}: {shown(_of(run, 'verdict'))}."]
    parts += [str(_of(run, name)).rstrip(".") + "." for name in ("reason", "remedy") if _of(run, name)]
    return " ".join(parts)


def last_value(run: Row, name: str) -> float | None:
    """The last known value of a measure of a run."""
    value = run["health"].get(name)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    known = [entry.get(name) for entry in log_of(run)]
    return next((float(v) for v in reversed(known) if isinstance(v, int | float)), None)


def log_of(run: Row) -> list[Row]:
    """The thinned log of a run."""
    recorded = run["health"].get("log")
    return [entry for entry in recorded if isinstance(entry, dict)] if isinstance(recorded, list) else []


def _table(study: Study, found: list[tuple[str, int, Row]]) -> Table:
    rows = []
    for arm, i, run in found:
        line = [run_name(study, arm, i), shown(_of(run, "verdict"))]
        guess = guessing(run)
        for name, (_, digits) in NUMBERS.items():
            value = last_value(run, name)
            text = "–" if value is None else f"{value:.{digits}f}"
            line.append(
                f"{text} (guessing {guess:.2f})" if name == "loss" and value is not None and guess else text
            )
        rows.append(line)
    note = "–: not measured. kNN AUROC: labels of validation images from their nearest neighbours, where there are any."
    return Table(["Run", "Verdict", *(title for title, _ in NUMBERS.values())], rows, 2, note)


def verdict_words(study: Study, arm: str) -> str:
    """The verdicts of an arm's runs, for the table of arms."""
    words = list(dict.fromkeys(shown(_of(run, "verdict")) for run in runs_of(study, arm)))
    if words:
        return "; ".join(words)
    recorded = study.fact("arms", arm, "verdict")
    return shown(recorded) if recorded else NOT_RECORDED
