"""How sure is a difference, and over what: patients, draws of labels, pretraining runs (`variance.csv`)."""

from __future__ import annotations

import math

from mococxr.reporting.findings import chosen
from mococxr.reporting.section import CLOSER, Bar, Part, Section
from mococxr.reporting.tables import COMPARED, Table, between, comparison_key, comparison_name, count
from mococxr.reporting.words import interval_name, labels_used, listed, mode_name, plain, signed
from mococxr.results import Row
from mococxr.results import StudyResults as Study

SOURCES = {
    "patients": "Test patients",
    "draws": "Draws of labels",
    "runs": "Pretraining runs",
    "rest": "Draw and run together",
    "interactions": "Patients together with draws or runs",
}
"""Column of `variance.csv` -> what would have to be exchanged."""
SPREADS = (("patients", "Patients"), ("draws", "Draws"), ("runs", "Runs"), ("rest", "Draw with run"))
"""Columns of the table of all comparisons."""
WHOLE = 99.5
"""From this share on, in per cent, a part is all there is."""


def doubt_section(study: Study) -> Section | None:
    """What makes the difference uncertain; None where the study did not measure it."""
    rows = study.rows("variance")
    if not rows:
        return None
    main = [row for target in study.targets if (row := of_target(study, target)) is not None]
    defined = [row for row in main if _whole(row) > 0]
    lines = [
        "Had the study been made again with other test patients, with other labelled images, or with another "
        "pretraining of the same kind, the difference would have come out otherwise. Each part of a bar is the "
        "share of that variance (in one trial) which comes from one of these.",
        "The interval over all of them together is wider than that over patients alone; only what was repeated "
        "can be in it.",
        *_words(main),
    ]
    head = [*COMPARED, "Difference, over all", "Draws × runs", *[title for _, title in SPREADS]]
    note = (
        "The last four columns: by how much one trial's difference varies (standard deviation, in AUROC) where only "
        "that is exchanged; – where there was one only, so that it cannot be told."
    )
    return Section(
        "doubt",
        "How sure is it, and over what?",
        lines,
        [("All comparisons (variance.csv)", Table(head, [_line(study, row) for row in rows], 2, note))],
        gist=_gist(defined),
        group=CLOSER,
        bars=[_bar(study, row) for row in defined],
    )


def _words(rows: list[Row]) -> list[str]:
    """What the study says of its own intervals, each sentence once, with the targets that it is about."""
    said: dict[str, list[str]] = {}
    for row in rows:
        if row.get("words"):
            said.setdefault(str(row["words"]), []).append(str(row["target"]))
    return [f"{listed(targets)}: {text}" if len(rows) > 1 else text for text, targets in said.items()]


def of_target(study: Study, target: str) -> Row | None:
    """The row of `variance.csv` about the comparison that the target's verdict is about."""
    row = chosen(study, target)
    if row is None:
        return None
    wanted = {name: row[name] for name in ("arm", "against", "mode", "target", "fraction")}
    return next(iter(study.rows("variance", **wanted)), None)


def _whole(row: Row) -> float:
    return sum(row.get(name) or 0.0 for name in SOURCES)


def _shares(row: Row) -> dict[str, float]:
    """Per cent of one trial's variance, by source; sources that were not measured are left out."""
    return {name: 100 * row[name] / _whole(row) for name in SOURCES if row.get(name) is not None}


def _gist(rows: list[Row]) -> str:
    if not rows:
        return "The data do not define it; the reasons stand inside."
    shares = _shares(rows[0])
    name = max(shares, key=lambda source: shares[source])
    alone = [SOURCES[source].lower() for source in ("draws", "runs") if rows[0].get(source) is None]
    text = f"Most of the doubt comes from the {SOURCES[name][0].lower() + SOURCES[name][1:]} ({shares[name]:.0f} %)"
    return f"{text}; {' and '.join(alone)} could not be judged, as there was one." if alone else f"{text}."


def _bar(study: Study, row: Row) -> Bar:
    shares = _shares(row)
    looks = {name: i + 1 for i, name in enumerate(SOURCES)}
    parts = [
        Part(
            SOURCES[name],
            round(share, 2),
            f"{share:.0f} %, ± {plain(math.sqrt(max(0.0, row[name])))}",
            looks[name],
        )
        for name, share in shares.items()
        if share >= 100 - WHOLE
    ]
    missing = [
        f"{SOURCES[name]}: one only, not measured" for name in ("draws", "runs") if row.get(name) is None
    ]
    where = f"{row['target']}, {mode_name(row['mode']).lower()}, {labels_used(study, row['target'], row['fraction'])}"
    over = between(row, "low", "high", signed)
    found = f"{signed(row['difference'])} ({interval_name(study)} over all of these: {over})" if over else ""
    return Bar(f"{comparison_name(study, row)}: {where}. {found}".rstrip(), parts, missing)


def _line(study: Study, row: Row) -> list[str]:
    over = between(row, "low", "high", signed)
    return [
        *comparison_key(study, row),
        f"{signed(row['difference'])} ({over})" if over else signed(row["difference"]),
        f"{count(row.get('count_draws'))} × {count(row.get('count_runs'))}",
        *("–" if row.get(name) is None else plain(math.sqrt(max(0.0, row[name]))) for name, _ in SPREADS),
    ]
