"""All the numbers of a study, target by target, and the tables that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from mococxr import metrics
from mococxr.errors import InputError, UndefinedError
from mococxr.measure import operating
from mococxr.measure.comparison import adjust
from mococxr.measure.measures import Block, columns
from mococxr.measure.subgroups import MAX_GROUPS, as_groups, subgroup_blocks
from mococxr.results import TABLES
from mococxr.results import Row as Record
from mococxr.settings import StudySettings, nearest
from mococxr.store import Store
from mococxr.studies import comparisons
from mococxr.studies.cells import LEVEL, Key, Measured, cell_names, cell_row, join_units, measure, unit_values
from mococxr.studies.design import Design
from mococxr.studies.trial import validation_path

Rows = list[Record]
ACROSS = {"linear": "finetune"}
"""Mode of an arm -> mode of the reference in `across_modes.csv`: the paper's frozen features against fine-tuning."""


def measure_study(
    out: Path, records: Sequence[Record], design: Design, how: StudySettings, groups: Mapping[str, pl.Series]
) -> tuple[dict[str, Rows], Record]:
    """Judge all trials.

    Args:
        records: of all trials; each gets its numbers here.
        groups: column -> group of each image of the store of the test images.

    Returns:
        Rows of every table by its name, and facts for study.json.
    """
    tables: dict[str, Rows] = {name: [] for name in TABLES}
    lost, pilots = 0, {}
    for target in design.targets:
        measured = measure(out, [record for record in records if record["target"] == target], how)
        lost = max(lost, _add_target(tables, out, target, measured, design, groups))
        pilots[target] = measured
    for name in ("differences", "across_modes"):
        adjust(tables[name])
    tables["trials"] = [record | {"trial": record["id"]} for record in records]
    primary = _primary(tables["cells"], [arm.name for arm in design.arms], design.reference)
    planned = {}
    if primary is not None:
        planned = {
            target: comparisons.planning(
                (primary["arm"], primary["mode"], target, primary["fraction"]),
                design.reference,
                measured,
                design.fractions,
            )
            for target, measured in pilots.items()
        }
    facts = {"undefined_resamples": lost, "primary": primary, "planning": planned, "tests": _tests(tables)}
    return tables, facts


def _add_target(
    tables: dict[str, Rows], out: Path, target: str, measured: Measured, design: Design, groups: Mapping[str, pl.Series]
) -> int:
    """Add the rows of one target to the tables; the most undefined resamples of a cell."""
    asked_column = target.partition("=")[0] if "=" in target else None  # its groups would be of one class each
    lost, thresholds = 0, dict[Key, float | None]()
    units = of_units(
        {name: values for name, values in groups.items() if name != asked_column}, design.test.store, measured
    )
    arms = [arm.name for arm in design.arms]
    for mode, arm, fraction in product(design.modes, arms, sorted(design.fractions)):
        key = (arm, mode, target, fraction)
        row, undefined = cell_row(key, measured)
        lost = max(lost, undefined)
        tables["cells"].append(row)
        calibrated, curve, elsewhere = operating_rows(out, key, measured)
        tables["calibration"].append(calibrated)
        tables["reliability"] += curve
        tables["prevalence"] += elsewhere
        tables["subgroups"] += subgroup_rows(key, measured, units)
        thresholds[key] = calibrated.get("threshold")
        if arm != design.reference:
            tables["differences"].append(comparisons.difference_row(key, design.reference, measured))
            tables["variance"].append(comparisons.variance_row(key, design.reference, measured))
            tables["labels_saved"].append(comparisons.saved_row(key, design.reference, measured, design.fractions))
            if (other := ACROSS.get(mode)) in design.modes:
                tables["across_modes"].append(comparisons.difference_row(key, design.reference, measured, other))
    for key in thresholds:
        if key[0] != design.reference:
            tables["threshold_differences"] += threshold_rows(key, design.reference, measured, thresholds)
    return lost


def _tests(tables: dict[str, Rows]) -> dict[str, Any]:
    """How many comparisons were tested, and what that was taken into account by."""
    counts = {name: sum(row.get("p") is not None for row in tables[name]) for name in ("differences", "across_modes")}
    few = sum(row.get("verdict") == "too few" for name in counts for row in tables[name])
    words = (
        f"{counts['differences']:,} comparisons were tested (differences.csv)"
        + (f", and {counts['across_modes']:,} between modes (across_modes.csv)" if counts["across_modes"] else "")
        + ". p_holm (Holm) and p_bh (Benjamini-Hochberg) take into account how many there are in the file."
        + (f" {few:,} more were not tested: too few patients of a class." if few else "")
    )
    return {**counts, "too_few": few, "words": words}


def _primary(cells: Sequence[Record], arms: Sequence[str], reference: str) -> Record | None:
    """The comparison of the verdict, by rule: first target, mode and arm, and the smallest fraction with a number."""
    others = [name for name in arms if name != reference]
    if not cells or not others:
        return None
    first = {"target": cells[0]["target"], "mode": cells[0]["mode"], "arm": others[0]}
    rows = [cell for cell in cells if first.items() <= cell.items()]
    fractions = [cell["fraction"] for cell in rows if cell.get("auroc") is not None]
    fraction = min(fractions or [cell["fraction"] for cell in rows])
    return {"target": first["target"], "mode": first["mode"], "fraction": fraction, "arm": others[0]}


USUAL = ("sex", "age", "view", "device", "source", "hospital")
"""Columns that are looked at where nobody names others, and where the test images have two known values or more."""


def attributes(store: Store, names: Sequence[str]) -> dict[str, pl.Series]:
    """Column -> group of each image of the store, as text; null where it is not known.

    Args:
        store: of the test images.
        names: columns; none for those of `USUAL` that the store has and that have at least two values.

    Raises:
        InputError: a column that the store lacks, that has no value, or that has more than 20 values.
    """
    index = store.index
    test = pl.Series(store.rows_in("test"))
    series_of = {}
    for name in names or [name for name in USUAL if name in index.columns]:
        if name not in index.columns:
            raise InputError(f"--subgroup {name}: {store.path} has no such column.", nearest(name, index.columns))
        groups = as_groups(index[name])
        count = groups.gather(test).drop_nulls().n_unique()
        if names and not 1 <= count <= MAX_GROUPS:
            raise InputError(
                f"--subgroup {name}: the test images have {count:,} values of it.",
                f"A column of groups has 1 to {MAX_GROUPS}.",
            )
        if names or 2 <= count <= MAX_GROUPS:
            series_of[name] = groups
    return series_of


def of_units(groups: Mapping[str, pl.Series], store: Store, measured: Measured) -> dict[str, pl.Series]:
    """Column -> group of each unit that is judged; a unit whose images differ (views of a patient) is in none."""
    if measured.images is None:
        return {}
    row_of = store.index.select("path", "row")
    rows = measured.images.select("path").join(row_of, on="path", how="left", maintain_order="left")["row"]
    return {
        name: unit_values(measured.images, values.gather(rows), measured.how.unit) for name, values in groups.items()
    }


def subgroup_rows(key: Key, measured: Measured, groups: Mapping[str, pl.Series]) -> list[Record]:
    """Rows of `subgroups.csv` about one cell, of the mean over its trials; `p_holm` over all gaps of the cell."""
    if not measured.members(key):
        return []
    blocks = subgroup_blocks(
        groups, measured.labels, measured.scores(key), measured.patients, measured.resampling,
        measured.how.group_minimum,
    )  # fmt: skip
    return [
        cell_names(key) | {"attribute": block["column"]} | _row(group, block)
        for block in blocks
        for group in block["groups"]
    ]


def _row(group: Block, block: Block) -> Record:
    gap: Record = next((gap for gap in block["gaps"] if gap["group"] == group["name"]), {})
    area = group["auroc"]
    row: Record = {"group": group["name"], "n": group["rows"], "against_group": block["against"]}
    row |= {name: group[name] for name in ("patients", "positives")}
    row |= {"auroc": area["value"], "low": area["low"], "high": area["high"]}
    row["reason"] = area.get("reason") or gap.get("reason")
    if gap.get("p") is not None:
        row |= {"gap": gap["difference"], "gap_low": gap["low"], "gap_high": gap["high"]}
        row |= {"p_holm": gap["p_holm"], "flagged": int(gap["flagged"])}
    return row


def threshold_rows(
    key: Key, reference: str, measured: Measured, thresholds: Mapping[Key, float | None]
) -> list[Record]:
    """Rows of `threshold_differences.csv`: the arm of `key` less the reference, of the classifiers whose thresholds
    `calibration.csv` has.
    """
    other = (reference, *key[1:])
    names = cell_names(key) | {"against": reference}
    values, firsts = (thresholds[key], thresholds[other]), [measured.first(cell) for cell in (key, other)]
    if values[0] is None or values[1] is None:
        reason = "an arm has no threshold (calibration.csv says why)"
        return [names | {"rate": rate, "reason": reason} for rate in RATES[:2]]
    scores = [measured.scores_TG[measured.done.index(first)] for first in firsts if first is not None]
    blocks = operating.paired_blocks(
        measured.labels, (scores[0], scores[1]), (values[0], values[1]), measured.patients, LEVEL
    )
    renamed = {"value": "difference", "only_a": "only_arm", "only_b": "only_reference"}
    return [
        names | {"rate": rate} | {renamed.get(name, name): value for name, value in block.items()}
        for rate, block in blocks.items()
    ]


METHOD = "platt"
PREVALENCES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)
"""Shares of positives for which `prevalence.csv` has the predictive values."""
RATES = ("sensitivity", "specificity", "ppv", "npv")


def operating_rows(out: Path, key: Key, measured: Measured) -> tuple[Record, Rows, Rows]:
    """A row of `calibration.csv`, and the rows of `reliability.csv` and `prevalence.csv`, of the cell's first draw."""
    how = measured.how
    row = cell_names(key) | {"method": METHOD, "wanted_sensitivity": how.sensitivity}
    first = measured.first(key)
    if first is None:
        return row | {"reason": measured.reason(key)}, [], []
    row.update(draw=first["draw"], prevalence=float(measured.labels.mean()))
    path = validation_path(out, first["id"])
    if not path.is_file():
        return row | {"reason": "there are no validation images with a label and a score"}, [], []
    images = pl.read_parquet(path)
    labels, scores, patients = join_units(images, images["score"].to_numpy(), how.unit, how.aggregate)
    row.update(n_validation=int(labels.size), validation_positives=int(labels.sum()))
    nothing = "neither calibration nor threshold is chosen"
    few = metrics.too_few(labels, patients, consequence=nothing, split="validation")
    if few is not None:
        return row | {"reason": few}, [], []
    tested = measured.labels, measured.scores_TG[measured.done.index(first)], measured.patients
    rule = operating.ThresholdRule("sensitivity", sensitivity=how.sensitivity)
    threshold = operating.choose_threshold(rule, labels, scores, patients)
    blocks, point = operating.point_block(threshold, *tested, measured.resampling)
    row |= {"threshold": threshold} | columns(blocks, RATES)
    row["reason"] = operating.why_undefined(blocks, RATES)
    prevalence = [
        cell_names(key) | {"prevalence": block["prevalence"]} | columns(block, ("ppv", "npv"))
        | {"reason": operating.why_undefined(block, ("ppv", "npv"))}
        for block in operating.predictive_blocks(point, PREVALENCES)
    ]  # fmt: skip
    try:
        calibrator = metrics.fit_calibrator(METHOD, labels, metrics.as_logits(scores), patients)
        probabilities = calibrator.apply(metrics.as_logits(tested[1]))
        block = operating.calibration_block(tested[0], probabilities, tested[2], measured.resampling)
    except UndefinedError as error:
        return row | {"reason": f"no calibration: {error}"}, [], prevalence
    row |= {"ece_if_perfect": block["ece_if_perfect"]} | columns(block, operating.CALIBRATION)
    curve = [
        cell_names(key)
        | {"bin": i, "mean_probability": point["mean_probability"], "observed": point["value"], "count": point["rows"]}
        | {"low": point["low"], "high": point["high"]}
        for i, point in enumerate(block["curve"])
    ]
    return row, curve, prevalence
