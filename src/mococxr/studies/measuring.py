"""All the numbers of a study, target by target, and the tables that hold them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.measure.comparison import adjust
from mococxr.results import TABLES
from mococxr.results import Row as Record
from mococxr.store import Store
from mococxr.studies import comparisons
from mococxr.studies.groups import of_units, subgroup_rows
from mococxr.studies.operating import operating_rows
from mococxr.studies.results import Judging, Key, Measured, cell_row, measure

Rows = list[Record]


@dataclass(frozen=True)
class Asked:
    """What is compared with what: arms, modes and targets by name, in the order given."""

    arms: Sequence[str]
    reference: str
    modes: Sequence[str]
    targets: Sequence[str]
    fractions: Sequence[float]

    def keys(self, target: str) -> list[Key]:
        """The cells of a target."""
        return [(a, m, target, f) for m, a, f in product(self.modes, self.arms, sorted(self.fractions))]


@dataclass(frozen=True)
class Numbers:
    """Rows of every table by its name, the most undefined resamples of a cell, and facts for study.json."""

    tables: dict[str, Rows]
    undefined_resamples: int = 0
    facts: dict[str, Any] = field(default_factory=dict)


def measure_study(
    out: Path,
    records: Sequence[Record],
    asked: Asked,
    how: Judging,
    tested: Store,
    groups: Mapping[str, pl.Series],
) -> Numbers:
    """Judge all trials.

    Args:
        records: of all trials; each gets its numbers here.
        tested: the store of the test images.
        groups: column -> group of each of its images.
    """
    tables: dict[str, Rows] = {name: [] for name in TABLES}
    lost, pilots = 0, {}
    for target in asked.targets:
        measured = measure(out, [record for record in records if record["target"] == target], how)
        lost = max(lost, _add_target(tables, out, target, measured, asked, tested, groups))
        pilots[target] = measured
    for name in ("differences", "across"):
        adjust(tables[name])
    tables["trials"] = [record | {"trial": record["id"]} for record in records]
    primary = _primary(tables["cells"], asked.arms, asked.reference)
    planned = {}
    if primary is not None:
        planned = {
            target: comparisons.planning(
                (primary["arm"], primary["mode"], target, primary["fraction"]),
                asked.reference,
                measured,
                asked.fractions,
            )
            for target, measured in pilots.items()
        }
    said = {"primary": primary, "planning": planned, "tests": _tests(tables)}
    return Numbers(tables, lost, said)


def _add_target(
    tables: dict[str, Rows], out: Path, target: str, measured: Measured, asked: Asked, tested: Store,
    groups: Mapping[str, pl.Series],
) -> int:  # fmt: skip
    """Add the rows of one target to the tables; the most undefined resamples of a cell."""
    own = target.partition("=")[0] if "=" in target else None  # its groups would be of one class each
    lost = 0
    units = of_units({name: one for name, one in groups.items() if name != own}, tested, measured)
    for key in asked.keys(target):
        row, undefined = cell_row(key, measured)
        lost = max(lost, undefined)
        tables["cells"].append(row)
        calibrated, curve, elsewhere = operating_rows(out, key, measured)
        tables["calibration"].append(calibrated)
        tables["reliability"] += curve
        tables["prevalence"] += elsewhere
        tables["subgroups"] += subgroup_rows(key, measured, units)
        if key[0] != asked.reference:
            _add_comparison(tables, key, measured, asked)
    return lost


def _add_comparison(tables: dict[str, Rows], key: Key, measured: Measured, asked: Asked) -> None:
    tables["differences"].append(comparisons.difference_row(key, asked.reference, measured))
    tables["variance"].append(comparisons.variance_row(key, asked.reference, measured))
    tables["labels_saved"].append(comparisons.saved_row(key, asked.reference, measured, asked.fractions))
    # A head on frozen features against full fine-tuning of the reference: the paper's own comparison across modes.
    if key[1] == "linear" and "finetune" in asked.modes:
        tables["across"].append(comparisons.difference_row(key, asked.reference, measured, "finetune"))


def _tests(tables: dict[str, Rows]) -> dict[str, Any]:
    """How many comparisons were tested, and what that was taken into account by."""
    counts = {
        name: sum(row.get("p") is not None for row in tables[name]) for name in ("differences", "across")
    }
    few = sum(row.get("verdict") == "too few" for name in counts for row in tables[name])
    words = (
        f"{counts['differences']:,} comparisons were tested (differences.csv)"
        + (f", and {counts['across']:,} between modes (across.csv)" if counts["across"] else "")
        + ". p_holm (Holm) and p_bh (Benjamini-Hochberg) take into account how many there are in the file."
        + (f" {few:,} more were not tested: too few patients of a class." if few else "")
    )
    return {"differences": counts["differences"], "across": counts["across"], "too_few": few, "words": words}


def _primary(cells: Sequence[Record], arms: Sequence[str], reference: str) -> Record | None:
    """The comparison of the verdict, by rule and not by result.

    The first target and mode, the first arm that is not the reference, the smallest fraction that is defined.
    """
    others = [name for name in arms if name != reference]
    if not cells or not others:
        return None
    first = {"target": cells[0]["target"], "mode": cells[0]["mode"], "arm": others[0]}
    rows = [cell for cell in cells if first.items() <= cell.items()]
    fractions = [cell["fraction"] for cell in rows if cell.get("auroc") is not None]
    fraction = min(fractions or [cell["fraction"] for cell in rows])
    return {"target": first["target"], "mode": first["mode"], "fraction": fraction, "arm": others[0]}
