"""The columns of every table that a study writes; a number that the data do not define is blank, with a `reason`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl

Record = dict[str, Any]
Schema = dict[str, Any]
S, F, N = pl.String, pl.Float64, pl.Int64


def _of(kind: Any, names: str) -> Schema:
    return dict.fromkeys(names.split(), kind)


def _ends(names: str) -> Schema:
    return {name + end: F for name in names.split() for end in ("", "_low", "_high")}


_CELL = _of(S, "arm mode target") | {"fraction": F}
_PAIR = _of(S, "arm against mode target") | {"fraction": F}

TRIALS = (
    _of(S, "trial arm run mode target")
    | {"fraction": F}
    | _of(N, "draw train_films train_patients train_positives")
    | _of(F, "auroc average_precision")
    | {"status": S, "seconds": F}
)
CELLS = (
    _CELL
    | _of(F, "auroc low high draw_sd")
    | _of(N, "n_test positives")
    | _of(F, "average_precision ap_low ap_high")
    | {"draws": N, "reason": S, "method": S}
    | _of(F, "low_bootstrap high_bootstrap")
    | _of(N, "patients positive_patients negative_patients")
    | {"warning": S}
)
DIFFERENCES = (
    _PAIR
    | _of(F, "difference low high p")
    | {"method": S}
    | _of(F, "low_draws high_draws ap_difference ap_low ap_high")
    | {"reason": S}
    | _of(F, "low_bootstrap high_bootstrap p_bootstrap p_holm p_bh margin p_noninferior p_equivalent")
    | _of(S, "verdict words")
)
ACROSS = {**DIFFERENCES, "against_mode": S}
VARIANCE = (
    _PAIR
    | _of(F, "difference patients draws runs rest interactions standard_error df low high")
    | _of(N, "count_draws count_runs")
    | _of(S, "words reason")
)
LABELS_SAVED = (
    _PAIR
    | {"train_films": F}
    | _of(S, "equals_films low high")
    | _of(F, "factor factor_low factor_high")
    | _of(S, "words reason")
)
CALIBRATION = (
    _CELL
    | {"draw": N, "method": S}
    | _of(N, "validation_films validation_positives")
    | _ends("brier ece")
    | {"ece_if_perfect": F}
    | _ends("slope intercept")
    | _of(F, "threshold wanted_sensitivity")
    | _ends("sensitivity specificity ppv npv")
    | {"prevalence": F, "reason": S}
)
RELIABILITY = _CELL | {"bin": N} | _of(F, "mean_probability share low high") | {"n": N}
PREVALENCE = _CELL | {"prevalence": F} | _ends("ppv npv") | {"reason": S}
SUBGROUPS = (
    _CELL
    | _of(S, "attribute group")
    | _of(N, "n patients positives")
    | _of(F, "auroc low high")
    | {"against_group": S}
    | _ends("gap")
    | {"p_holm": F, "flagged": N, "reason": S}
)
TABLES: Mapping[str, Schema] = {
    "trials": TRIALS, "cells": CELLS, "differences": DIFFERENCES, "across": ACROSS, "variance": VARIANCE,
    "labels_saved": LABELS_SAVED, "calibration": CALIBRATION, "reliability": RELIABILITY, "prevalence": PREVALENCE,
    "subgroups": SUBGROUPS,
}  # fmt: skip
"""File name without `.csv` -> columns."""


def table(rows: Iterable[Record], schema: Schema) -> pl.DataFrame:
    """Rows as a frame with exactly the schema's columns; absent numbers are null."""
    return pl.DataFrame([{name: row.get(name) for name in schema} for row in rows], schema=schema)
