"""A STUDY folder read whole, or refused with the name of the file at fault."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mococxr.errors import InputError
from mococxr.reporting.table_files import AGAIN, Row, read_facts, read_table, read_text, refuse_twins

CELL_KEYS = ("arm", "mode", "target", "fraction")
CELL_NUMBERS = ("auroc", "low", "high", "draw_sd", "n_test", "positives")
CELL_EXTRAS = (
    "average_precision", "ap_low", "ap_high", "draws", "patients", "low_bootstrap", "high_bootstrap",
)  # fmt: skip
DIFFERENCE_KEYS = ("arm", "against", "mode", "target", "fraction")
DIFFERENCE_NUMBERS = ("difference", "low", "high", "p")
DIFFERENCE_EXTRAS = (
    "low_draws", "high_draws", "low_bootstrap", "high_bootstrap", "p_bootstrap", "p_holm", "p_bh", "margin",
    "p_noninferior", "p_equivalent", "ap_difference", "ap_low", "ap_high",
)  # fmt: skip
ACROSS_KEYS = (*DIFFERENCE_KEYS, "against_mode")
TRIAL_KEYS = ("arm", "mode", "target", "fraction")
TRIAL_NUMBERS = ("train_images", "train_patients", "train_positives", "auroc")


def _with_ends(*names: str) -> tuple[str, ...]:
    return tuple(name + end for name in names for end in ("", "_low", "_high"))


FURTHER: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "variance": (
        DIFFERENCE_KEYS,
        ("difference", "patients", "draws", "runs", "rest", "interactions", "standard_error", "df", "low", "high",
         "count_draws", "count_runs"),
    ),
    "labels_saved": (DIFFERENCE_KEYS, ("train_images", "factor", "factor_low", "factor_high")),
    "calibration": (
        CELL_KEYS,
        (*_with_ends("brier", "ece", "sensitivity", "specificity", "ppv", "npv"), "validation_images",
         "validation_positives", "ece_if_perfect", "slope", "intercept", "threshold", "wanted_sensitivity",
         "prevalence"),
    ),
    "reliability": (CELL_KEYS, ("mean_probability", "share", "low", "high", "n")),
    "prevalence": (CELL_KEYS, ("prevalence", *_with_ends("ppv", "npv"))),
    "subgroups": (
        (*CELL_KEYS, "attribute", "group"),
        ("n", "patients", "positives", "auroc", "low", "high", *_with_ends("gap"), "p_holm", "flagged"),
    ),
}  # fmt: skip
"""Tables that a study may hold beside the three that it must: name -> keys, columns of numbers."""


@dataclass(frozen=True)
class Study:
    """What a STUDY folder says. Numbers that are blank in a file are None here: undefined, never invented."""

    path: Path
    cells: list[Row]
    differences: list[Row]
    trials: list[Row]
    facts: dict[str, Any]
    settings_text: str
    across: list[Row] = field(default_factory=list)
    """Differences between modes, where the study wrote `across.csv`."""
    further: dict[str, list[Row]] = field(default_factory=dict)
    """Rows of the tables of `FURTHER` that are there."""

    def rows(self, table: str, **wanted: Any) -> list[Row]:
        """The rows of a further table that agree with all of `wanted`; none where the study has no such table."""
        found = self.further.get(table, [])
        return [row for row in found if all(row.get(name) == value for name, value in wanted.items())]

    def has(self, table: str) -> bool:
        """Whether the folder holds a further table (it may have no rows)."""
        return table in self.further

    def fact(self, *names: str) -> Any:
        """A recorded fact by its path in `study.json` (`fact("store", "images")`); None when absent."""
        found: Any = self.facts
        for name in names:
            if not isinstance(found, dict):
                return None
            found = found.get(name)
        return found

    @property
    def patients_known(self) -> bool:
        """False where a store was made without patient identifiers."""
        return not any(self.fact(name, "patients_known") is False for name in ("store", "test_store"))

    @property
    def phantom(self) -> bool:
        """Whether images that train or are judged were drawn by a program."""
        return any(self.fact(name, "phantom") is True for name in ("store", "test_store"))

    @property
    def external(self) -> bool:
        """Whether the test images are those of another store."""
        return isinstance(self.fact("test_store"), dict)

    @property
    def tested(self) -> str:
        """The name of the facts about the store whose test images are judged."""
        return "test_store" if self.external else "store"

    def values(self, column: str) -> list[str]:
        """The different values of a column of `cells.csv`, in order of first appearance."""
        return list(dict.fromkeys(row[column] for row in self.cells))

    @property
    def targets(self) -> list[str]:
        """Targets, that of the primary comparison first."""
        primary = self.fact("primary", "target")
        return sorted(self.values("target"), key=lambda target: target != primary)

    @property
    def modes(self) -> list[str]:
        """Modes in order of appearance."""
        return self.values("mode")

    @property
    def arms(self) -> list[str]:
        """Arms in order of appearance."""
        return self.values("arm")

    @property
    def reference(self) -> str | None:
        """The arm that the others are compared with; None when no arm is compared."""
        named = self.fact("reference")
        if isinstance(named, str):
            return named
        return next((row["against"] for row in self.differences), None)

    def fractions(self, target: str) -> list[float]:
        """Label fractions of one target, ascending."""
        return sorted({row["fraction"] for row in self.cells if row["target"] == target})

    def cell(self, arm: str, mode: str, target: str, fraction: float) -> Row | None:
        """The row of `cells.csv`, or None."""
        return _find(self.cells, arm=arm, mode=mode, target=target, fraction=fraction)

    def difference(self, arm: str, against: str, mode: str, target: str, fraction: float) -> Row | None:
        """The row of `differences.csv`, or None."""
        wanted = {"mode": mode, "target": target, "fraction": fraction}
        return _find(self.differences, arm=arm, against=against, **wanted)

    def trials_of(self, **wanted: Any) -> list[Row]:
        """The rows of `trials.csv` that agree with all of `wanted`."""
        return [row for row in self.trials if all(row[name] == value for name, value in wanted.items())]

    def reason(self, arm: str, mode: str, target: str, fraction: float) -> str:
        """Why a cell is undefined, as `study` wrote it down."""
        wanted = {"arm": arm, "mode": mode, "target": target, "fraction": fraction}
        reasons = [
            str(row.get("reason")) for row in self.undefined if _agrees(row, wanted) and row.get("reason")
        ]
        if not reasons:
            statuses = [
                str(row.get("status") or "").removeprefix("undefined: ") for row in self.trials_of(**wanted)
            ]
            reasons = [text for text in statuses if text.lower() not in ("", "done", "ok", "undefined")]
        return "; ".join(dict.fromkeys(reasons)) or "reason not recorded"

    @property
    def undefined(self) -> list[Row]:
        """The entries of `undefined` in `study.json`."""
        recorded = self.fact("undefined")
        return [row for row in recorded if isinstance(row, dict)] if isinstance(recorded, list) else []

    @property
    def undefined_cells(self) -> list[Row]:
        """The rows of `cells.csv` without a number."""
        return [row for row in self.cells if row["auroc"] is None]


def _agrees(row: Row, wanted: Row) -> bool:
    """True where the keys that `row` has agree with `wanted` (an entry may speak of several cells)."""
    return all(row.get(name) in (None, value) for name, value in wanted.items())


def _find(rows: list[Row], **wanted: Any) -> Row | None:
    return next((row for row in rows if all(row[name] == value for name, value in wanted.items())), None)


def read_study(path: Path) -> Study:
    """Read the files that `study` left.

    Raises:
        InputError: the folder or one of its files is missing, not readable, or not what the contract says.
    """
    if not path.is_dir():
        raise InputError(f"{path} is not a folder.", "Name the STUDY folder that `mococxr study --out` made.")
    cells = read_table(path / "cells.csv", CELL_KEYS, CELL_NUMBERS, CELL_EXTRAS)
    if not cells:
        raise InputError(f"{path / 'cells.csv'} holds no cell.", AGAIN.format(study=path))
    refuse_twins(path / "cells.csv", cells, CELL_KEYS)
    differences = read_table(path / "differences.csv", DIFFERENCE_KEYS, DIFFERENCE_NUMBERS, DIFFERENCE_EXTRAS)
    across = []
    if (path / "across.csv").is_file():
        across = read_table(path / "across.csv", ACROSS_KEYS, DIFFERENCE_NUMBERS, DIFFERENCE_EXTRAS)
    refuse_twins(path / "differences.csv", differences, DIFFERENCE_KEYS)
    trials = read_table(path / "trials.csv", TRIAL_KEYS, TRIAL_NUMBERS)
    facts = read_facts(path / "study.json")
    further = {
        name: read_table(path / f"{name}.csv", keys, (), numbers)
        for name, (keys, numbers) in FURTHER.items()
        if (path / f"{name}.csv").is_file()
    }
    settings = read_text(path / "settings.yaml")
    return Study(path, cells, differences, trials, facts, settings, across, further)
