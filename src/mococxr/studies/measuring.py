"""All the numbers of a study, target by target, and the tables that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.errors import InputError
from mococxr.heads.targets import column_of
from mococxr.measure.comparison import adjust
from mococxr.measure.measures import Block, columns
from mococxr.measure.subgroups import MAX_GROUPS, USUAL, as_groups, subgroup_blocks
from mococxr.measure.units import unit_values
from mococxr.results import TABLES
from mococxr.results import Row as Record
from mococxr.settings import StudySettings, nearest
from mococxr.store import Store
from mococxr.studies import comparisons
from mococxr.studies.cells import Key, Measured, cell_names, cell_row, measure
from mococxr.studies.design import Design
from mococxr.studies.forecasting import forecast_rows, learning_curve
from mococxr.studies.operating import (
    Classifier,
    classifiers_of,
    decision_row,
    error_rows,
    operating_rows,
    threshold_rows,
)

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
    lost, planned, primary = 0, dict[str, Record](), design.primary
    learned: list[Record] = []
    for target in design.targets:  # none is kept: the scores and replicates of all may not fit
        measured = measure(out, [record for record in records if record["target"] == target], how)
        lost = max(lost, _add_target(tables, out, target, measured, design, groups))
        conditions = [(arm.name, mode, target, 1.0) for mode, arm in design.conditions]
        learned += [learning_curve(condition, measured, design.fractions) for condition in conditions]
        # Without --primary by a rule: the comparison must not be chosen by its result.
        primary = primary or _primary(tables["cells"], design)
        if primary is not None:
            key = (primary["arm"], primary["mode"], target, primary["fraction"])
            other = (*design.compared(*key[:2])[0], *key[2:])  # the baseline, or else the reference
            planned[target] = comparisons.planning(key, other, measured, design.fractions)
    gate = None
    if design.primary is not None:
        gate = next(row for row in tables["differences"] if design.primary.items() <= row.items())
    for name in ("differences", "across_modes"):
        adjust(tables[name], gate)  # each file is a family of its own
    # Only now: measuring has put numbers and status into the records.
    tables["trials"] = [record | {"trial": record["id"]} for record in records]
    facts: Record = {
        "undefined_resamples": lost,
        "primary": primary,
        "prespecified": gate is not None,
        "planning": planned,
    }
    facts["tests"] = _tests(tables, gate is not None)
    facts["learning_curves"] = learned
    tables["forecast"] = [row for curve in learned for row in forecast_rows(curve)]
    return tables, facts


def _add_target(
    tables: dict[str, Rows], out: Path, target: str, measured: Measured, design: Design, groups: Mapping[str, pl.Series]
) -> int:
    """Add the rows of one target to the tables; the most undefined resamples of a cell."""
    asked_column = column_of(design.test.store, target)  # its groups would be of one class each
    lost, classifiers = 0, dict[Key, Classifier]()
    units = of_units(
        {name: values for name, values in groups.items() if name != asked_column}, design.test.store, measured
    )
    for (mode, arm), fraction in product(design.conditions, sorted(design.fractions)):
        key = (arm.name, mode, target, fraction)
        row, undefined = cell_row(key, measured)
        lost = max(lost, undefined)  # the same resamples in every cell: a sum would count them again
        tables["cells"].append(row)
        every = classifiers_of(out, key, measured)
        classifier = classifiers[key] = every[0]  # threshold and calibration belong to one classifier, not to a mean
        tables["decisions"].append(decision_row(key, every, measured))
        tables["errors"] += error_rows(key, classifier, measured)
        for name, rows in operating_rows(key, classifier, measured).items():
            tables[name] += rows
        groups_of, rates_of = subgroup_rows(key, measured, units, classifier)
        tables["subgroups"] += groups_of
        tables["subgroup_rates"] += rates_of
        for other in _compared(design, key):
            tables["differences"].append(comparisons.difference_row(key, other, measured))
            tables["variance"].append(comparisons.variance_row(key, other, measured))
            tables["labels_saved"].append(comparisons.saved_row(key, other, measured, design.fractions))
        by_gradient = ACROSS.get(mode)
        if by_gradient in design.modes and arm.name not in (design.reference, design.added):
            other = (design.reference, by_gradient, target, fraction)
            tables["across_modes"].append(comparisons.difference_row(key, other, measured))
    for key in classifiers:  # a second pass: both arms of a pair have their thresholds now
        for other in _compared(design, key):
            tables["threshold_differences"] += threshold_rows(key, other, measured, classifiers)
    return lost


def _compared(design: Design, key: Key) -> list[Key]:
    """The cells that one is compared with: the baseline's, then the reference's."""
    return [(arm, mode, *key[2:]) for arm, mode in design.compared(*key[:2])]


GATED = (
    "The primary comparison, named in advance (--primary), is tested first, with its p as it is; p_holm of the others is by "
    "Holm over them, and never below the primary's p (serial gatekeeping). "
)


def _tests(tables: dict[str, Rows], gated: bool) -> dict[str, Any]:
    """How many comparisons were tested, and what that was taken into account by."""
    counts = {name: sum(row.get("p") is not None for row in tables[name]) for name in ("differences", "across_modes")}
    few = sum(row.get("verdict") == "too few" for name in counts for row in tables[name])
    words = (
        f"{counts['differences']:,} comparisons were tested (differences.csv)"
        + (f", and {counts['across_modes']:,} between modes (across_modes.csv)" if counts["across_modes"] else "")
        + ". "
        + (GATED if gated else "")
        + f"{'p_bh' if gated else 'p_holm (Holm) and p_bh'} (Benjamini-Hochberg) "
        + f"take{'s' if gated else ''} into account how many there are in the file."
        + (f" {few:,} more were not tested: too few patients of a class." if few else "")
    )
    return {**counts, "too_few": few, "words": words}


def _primary(cells: Sequence[Record], design: Design) -> Record | None:
    """The comparison of the verdict, by rule: first target, mode and arm, and the smallest fraction with a number."""
    if not cells or not design.candidates:
        return None
    first = {"target": cells[0]["target"], "mode": cells[0]["mode"], "arm": design.candidates[0]}
    rows = [cell for cell in cells if first.items() <= cell.items()]
    fractions = [cell["fraction"] for cell in rows if cell.get("auroc") is not None]
    fraction = min(fractions or [cell["fraction"] for cell in rows])
    return first | {"fraction": fraction, "against": design.against}


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
        count = groups.gather(test).drop_nulls().n_unique()  # of the test images: others are not judged
        if names and not 1 <= count <= MAX_GROUPS:  # only what was asked for is refused; the usual columns are left out
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


def subgroup_rows(
    key: Key, measured: Measured, groups: Mapping[str, pl.Series], classifier: Classifier
) -> tuple[list[Record], list[Record]]:
    """Rows of `subgroups.csv` about one cell, of the mean over its trials, and of `subgroup_rates.csv`, of its classifier;
    `p_holm` over all gaps of the cell.
    """
    if not measured.members(key):
        return [], []
    blocks = subgroup_blocks(
        groups, measured.labels, measured.scores(key), measured.patients, measured.resampling,
        measured.how.group_minimum, classifier.called, classifier.probabilities,
    )  # fmt: skip
    areas, rates = list[Record](), list[Record]()
    for block in blocks:
        for group in block["groups"]:
            names = cell_names(key) | {"attribute": block["column"], "group": group["name"]}
            names["against_group"] = block["against"]
            sizes = {"n": group["rows"], "patients": group["patients"], "positives": group["positives"]}
            area = _row(group["auroc"], "auroc", _gap(block["gaps"], group))
            areas.append(names | sizes | area | {"low": area["auroc_low"], "high": area["auroc_high"]})
            rates += [
                names | {"rate": rate} | _row(group[rate], "value", _gap(gaps, group))
                for rate, gaps in block["rate_gaps"].items()
            ]
    return areas, rates


def _gap(gaps: list[Block], group: Block) -> Block:
    return next((gap for gap in gaps if gap["group"] == group["name"]), {})


def _row(number: Block, name: str, gap: Block) -> Record:
    row = columns({name: number}, [name]) | {"reason": number.get("reason") or gap.get("reason")}
    if gap.get("p") is not None:
        row |= {"gap": gap["difference"], "gap_low": gap["low"], "gap_high": gap["high"]}
        row |= {"p_holm": gap["p_holm"], "flagged": int(gap["flagged"])}
    return row
