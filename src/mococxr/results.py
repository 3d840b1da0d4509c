"""The tables of a study, declared once: what each column holds, how a table is written, how a folder is read back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from mococxr.errors import InputError
from mococxr.files import read_json, write_csv

Row = dict[str, Any]
UNDEFINED = "undefined: "
"""How the `status` of a trial that gave no number begins; the reason follows."""
AGAIN = "Run `mococxr study --config {study}/settings.yaml` again: trials that are done are skipped."


@dataclass(frozen=True)
class Column:
    """A column: its type, what it holds (as docs/contract.md says), and whether it is a key.

    Keys are never blank and name each row once; other values are blank where the data do not define them.
    """

    dtype: type[pl.DataType]
    words: str
    key: bool = False


Columns = dict[str, Column]


def _columns(dtype: type[pl.DataType], key: bool = False, /, **words: str) -> Columns:
    return {name: Column(dtype, what, key) for name, what in words.items()}


_text, _number, _count = (partial(_columns, dtype) for dtype in (pl.String, pl.Float64, pl.Int64))


def _interval(**words: str) -> Columns:
    """Each number with the ends of its interval."""
    ends = {"": "", "_low": ", lower limit", "_high": ", upper limit"}
    return _number(**{name + end: what + text for name, what in words.items() for end, text in ends.items()})


_ARM = _columns(pl.String, True, arm="name of the encoder")
_CONDITION = _columns(pl.String, True, mode="how the head is trained", target="label that is predicted") | _columns(
    pl.Float64, True, fraction="share of the labelled training patients"
)
_CELL = _ARM | _CONDITION
_PAIR = _ARM | _columns(pl.String, True, against="reference arm") | _CONDITION
CELL_KEYS, PAIR_KEYS = tuple(_CELL), tuple(_PAIR)
_REASON = _text(reason="why a number of the row is blank")
_DIFFERENCE = (
    _PAIR
    | _number(
        difference="AUROC of the arm less that of the reference",
        low="lower limit over test patients",
        high="upper limit over test patients",
        p="over test patients, belongs to low and high; blank with fewer than 10 patients of a class",
    )
    | _text(method="how low, high and p were computed")
    | _number(
        low_total="lower limit over test patients, draws of labels and pretraining runs together",
        high_total="upper limit of the same; blank with one draw and one run",
        p_total="p over the same; where it stands, the verdict rests on it",
        ap_difference="difference of average precision",
        ap_low="its lower bootstrap limit",
        ap_high="its upper bootstrap limit",
        pauroc_difference="difference of partial AUROC (sensitivity 0.9 to 1)",
        pauroc_low="its lower bootstrap limit",
        pauroc_high="its upper bootstrap limit",
    )
    | _REASON
    | _number(
        low_bootstrap="lower limit, percentiles over resampled test patients",
        high_bootstrap="upper limit of the same",
        p_bootstrap="p of the same resamples",
        p_holm="p_total (or else p) by Holm, over the rows of the file",
        p_bh="the same by Benjamini-Hochberg",
        margin="--margin",
        p_noninferior="p that the arm is worse by the margin or more",
        p_equivalent="p that the two differ by the margin or more",
    )
    | _text(
        margin_words="what is shown against the margin and at which level, or why nothing is",
        verdict="better, worse, no difference shown, too few, undefined",
        words="the verdict in a sentence",
    )
)

TABLES: Mapping[str, Columns] = {
    "trials": (
        _columns(pl.String, True, trial="name of the trial's files")
        | _ARM
        | _text(run="pretraining run of the arm")
        | _CONDITION
        | _count(
            draw="number of the draw of labels",
            train_images="labelled training images",
            train_patients="their patients",
            train_positives="those that are positive",
        )
        | _number(
            auroc="AUROC of the trial",
            average_precision="average precision of the trial",
            partial_auroc="partial AUROC of the trial (sensitivity 0.9 to 1)",
        )
        | _text(status="done, or undefined and why")
        | _number(seconds="time taken")
    ),
    "flow": (
        _columns(pl.String, True, target="label that is predicted", split="train, val, test", label="its value, or all")
        | _count(images="images", patients="their patients", studies="their studies, where known")
        | _count(restricted="left out by --where", uncertain="as uncertain", unlabelled="as nothing is known")
        | _number(age_median="median age in years, where known", age_q1="lower quartile", age_q3="upper quartile")
        | _text(sex="images by sex", view="images by view", device="images by device")
    ),
    "cells": (
        _CELL
        | _number(
            auroc="mean AUROC over the trials",
            low="lower limit over test patients",
            high="upper limit over test patients",
            draw_sd="standard deviation over the draws of labels",
        )
        | _count(n_units="units that are judged", positives="those that are positive")
        | _number(
            average_precision="mean average precision",
            ap_low="its lower bootstrap limit",
            ap_high="its upper bootstrap limit",
            partial_auroc="mean partial AUROC (sensitivity 0.9 to 1)",
            pauroc_low="its lower bootstrap limit",
            pauroc_high="its upper bootstrap limit",
        )
        | _count(draws="draws of labels that gave a number")
        | _REASON
        | _text(method="how low and high were computed")
        | _number(
            low_bootstrap="lower limit, percentiles over resampled test patients",
            high_bootstrap="upper limit of the same",
        )
        | _count(
            patients="test patients",
            positive_patients="those with a positive unit",
            negative_patients="those with a negative unit",
        )
        | _text(warning="why low and high may be off")
    ),
    "differences": _DIFFERENCE,
    "across_modes": _DIFFERENCE | _columns(pl.String, True, against_mode="how the reference's head is trained"),
    "variance": (
        _PAIR
        | _number(
            difference="AUROC of the arm less that of the reference",
            patients="variance of one trial's difference over test patients",
            draws="over draws of labels; blank with one",
            runs="over pretraining runs; blank with one",
            draw_x_run="over draws and runs together",
            patient_interactions="of these with the test patients",
            standard_error="of the difference, over all of them",
            df="degrees of freedom; blank where infinite",
            low="lower limit of the difference",
            high="upper limit of the difference",
        )
        | _count(count_draws="draws of labels", count_runs="pretraining runs")
        | _text(words="what the interval leaves out")
        | _REASON
    ),
    "labels_saved": (
        _PAIR
        | _number(train_images="labelled images of the arm")
        | _text(
            reference_images="images with which the reference reaches the same: a number, at most N or more than N",
            low="lower limit of the same",
            high="upper limit of the same",
        )
        | _number(
            factor="reference_images by train_images",
            factor_low="lower limit of the same",
            factor_high="upper limit of the same",
        )
        | _text(words="the saving in a sentence")
        | _REASON
    ),
    "calibration": (
        _CELL
        | _count(draw="the draw that is judged: the first")
        | _text(method="how scores become probabilities")
        | _count(n_validation="validation units that chose both", validation_positives="those positive")
        | _interval(brier="Brier score on the test units", ece="expected calibration error")
        | _number(ece_if_perfect="expected ECE of perfect probabilities on as many units")
        | _interval(slope="calibration slope", intercept="calibration intercept")
        | _number(threshold="of the score", wanted_sensitivity="--sensitivity")
        | _interval(
            sensitivity="at the threshold, on the test units",
            specificity="specificity",
            ppv="positive predictive value",
            npv="negative predictive value",
        )
        | _number(prevalence="share of positive test units")
        | _REASON
    ),
    "threshold_differences": (
        _PAIR
        | _columns(pl.String, True, rate="sensitivity or specificity, each arm at its own threshold")
        | _number(
            difference="rate of the arm less that of the reference",
            low="its lower limit over test patients",
            high="its upper limit",
            p="over test patients; blank with fewer than 10 patients of a class",
        )
        | _count(only_arm="test units that the arm alone calls right", only_reference="the reference alone")
        | _text(method="how p, low and high were computed")
        | _REASON
    ),
    "reliability": (
        _CELL
        | _columns(pl.Int64, True, bin="number of the bin, from 0")
        | _number(
            mean_probability="mean predicted probability",
            observed="observed share of positives",
            low="its lower limit",
            high="its upper limit",
        )
        | _count(count="test units in the bin")
    ),
    "prevalence": (
        _CELL
        | _columns(pl.Float64, True, prevalence="share of positives where the classifier is used")
        | _interval(ppv="positive predictive value there", npv="negative predictive value there")
        | _REASON
    ),
    "subgroups": (
        _CELL
        | _columns(pl.String, True, attribute="column of the store", group="its value")
        | _count(n="test units of the group", patients="their patients", positives="positive patients")
        | _number(auroc="mean AUROC over the trials", low="its lower limit", high="its upper limit")
        | _text(against_group="group that it is compared with: the largest")
        | _interval(gap="AUROC less that of the other group")
        | _number(p_holm="p of the gap by Holm, over the gaps of the cell")
        | _count(flagged="1 where the gap's interval leaves out 0")
        | _REASON
    ),
}
"""File name without `.csv` -> columns in order."""


def write_tables(folder: Path, tables: Mapping[str, Iterable[Row]]) -> None:
    """Write every table of a study; what a row does not have is blank."""
    for name, columns in TABLES.items():
        rows = [{column: row.get(column) for column in columns} for row in tables[name]]
        schema = {column: kind.dtype for column, kind in columns.items()}
        write_csv(folder / f"{name}.csv", pl.DataFrame(rows, schema=schema))


def read_table(path: Path, name: str) -> pl.DataFrame:
    """A table of a study with the types of its columns.

    Raises:
        InputError: it is missing or damaged, lacks a column, or holds a value of another type (row and column named).
    """
    again = AGAIN.format(study=path.parent)
    try:
        text = pl.read_csv(path, infer_schema=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"{path} is not a CSV table: {problem}.", again) from error
    columns = TABLES[name]
    missing = [column for column in columns if column not in text.columns]
    if missing:
        raise InputError(f"{path} has no column {missing[0]}.", again)
    table = pl.DataFrame([_typed(path, text[column], kind) for column, kind in columns.items()])
    keys = [column for column, kind in columns.items() if kind.key]
    first = table.select(pl.struct(keys).is_first_distinct()).to_series()
    for row in (~first).arg_true():
        raise InputError(f"{path}, row {row + 1}, repeats an earlier one.", again)
    return table


def _typed(path: Path, texts: pl.Series, column: Column) -> pl.Series:
    again = AGAIN.format(study=path.parent)
    values = texts.cast(column.dtype, strict=False)
    for row in (values.is_null() & texts.is_not_null()).arg_true():
        raise InputError(f"{path}, row {row + 1}: {texts.name} is {texts[row]!r}, not a number.", again)
    for row in values.is_null().arg_true() if column.key else ():
        raise InputError(f"{path}, row {row + 1}: {texts.name} is blank.", again)
    return values


@dataclass(frozen=True)
class StudyResults:
    """What a study folder says. A number that is blank in a file is null: undefined, never invented.

    Args:
        path: the folder.
        frames: the tables of `TABLES`, by name.
        facts: the content of study.json.
        settings_text: the content of settings.yaml.
    """

    path: Path
    frames: Mapping[str, pl.DataFrame]
    facts: dict[str, Any]
    settings_text: str

    @cached_property
    def _rows(self) -> dict[str, list[Row]]:
        return {name: frame.to_dicts() for name, frame in self.frames.items()}

    def rows(self, table: str, **keys: Any) -> list[Row]:
        """The rows of a table whose columns have the values of `keys`."""
        return [row for row in self._rows[table] if all(row[name] == value for name, value in keys.items())]

    @property
    def cells(self) -> list[Row]:
        """The rows of `cells.csv`."""
        return self._rows["cells"]

    @property
    def differences(self) -> list[Row]:
        """The rows of `differences.csv`."""
        return self._rows["differences"]

    def cell(self, arm: str, mode: str, target: str, fraction: float) -> Row | None:
        """The row of `cells.csv`, or None."""
        return next(iter(self.rows("cells", arm=arm, mode=mode, target=target, fraction=fraction)), None)

    def difference(self, arm: str, against: str, mode: str, target: str, fraction: float) -> Row | None:
        """The row of `differences.csv`, or None."""
        keys = {"mode": mode, "target": target, "fraction": fraction}
        return next(iter(self.rows("differences", arm=arm, against=against, **keys)), None)

    @property
    def external(self) -> bool:
        """Whether the test images are those of another store."""
        return self.facts["test_store"] is not None

    @property
    def test_store(self) -> Row:
        """Facts of the store whose test images are judged."""
        return self.facts["test_store"] or self.facts["store"]

    @property
    def patients_known(self) -> bool:
        """False where a store was made without patient identifiers."""
        return all(store["patients_known"] for store in (self.facts["store"], self.test_store))

    @property
    def synthetic(self) -> bool:
        """Whether images that train or are judged were drawn by a program."""
        return any(store["synthetic"] for store in (self.facts["store"], self.test_store))

    def values(self, column: str) -> list[Any]:
        """The different values of a column of `cells.csv`, in order of first appearance."""
        return self.frames["cells"][column].unique(maintain_order=True).to_list()

    @property
    def targets(self) -> list[str]:
        """Targets, that of the primary comparison first."""
        primary = (self.facts["primary"] or {}).get("target")
        return sorted(self.values("target"), key=lambda target: target != primary)

    def fractions(self, target: str) -> list[float]:
        """Label fractions of one target, ascending."""
        return sorted({row["fraction"] for row in self.rows("cells", target=target)})

    def reason(self, arm: str, mode: str, target: str, fraction: float) -> str:
        """Why a cell is undefined; empty where it is not."""
        cell = {"arm": arm, "mode": mode, "target": target, "fraction": fraction}
        lost = [entry["reason"] for entry in self.facts["undefined"] if cell.items() <= entry.items()]
        lost = lost or [row["reason"] for row in self.rows("cells", **cell) if row["reason"]]
        return "; ".join(dict.fromkeys(lost))


def read_results(folder: Path | str) -> StudyResults:
    """Read the folder of a finished study.

    Raises:
        InputError: it is not such a folder, or a file is missing, damaged or lacks a column (named).
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"{path} is not a folder.", "Name the folder that `mococxr study --out` wrote.")
    facts, settings = path / "study.json", path / "settings.yaml"
    for file in (facts, settings, *(path / f"{name}.csv" for name in TABLES)):
        if not file.is_file():
            raise InputError(f"{file} is missing: the study is not finished.", AGAIN.format(study=path))
    frames = {name: read_table(path / f"{name}.csv", name) for name in TABLES}
    if not len(frames["cells"]):
        raise InputError(f"{path / 'cells.csv'} has no rows.", AGAIN.format(study=path))
    return StudyResults(path, frames, read_json(facts), settings.read_text(encoding="utf-8"))
