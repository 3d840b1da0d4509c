"""Settings of `evaluate`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mococxr.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """Measure any table of predictions: AUROC, differences, thresholds, calibration, subgroups, with intervals."""

    predictions: Path = setting("A table (CSV or Parquet) of labels and scores.", positional=True)
    against: Path | None = setting(
        "A second table on the same images, to compare with.", None, group="Comparison"
    )
    unpaired: bool = setting(
        "The second table is of other patients, not of the same images.", False, group="Comparison"
    )
    margin: float | None = setting(
        "Difference of AUROC that would matter: tests of equivalence and of non-inferiority against it.",
        None,
        group="Comparison",
    )
    plan_for: float = setting(
        "Difference of AUROC for which the patients of a next study are worked out.", 0.03, group="Comparison"
    )
    label: tuple[str, ...] = setting("The column that holds 1 or 0 (repeatable).", single=True)
    score: tuple[str, ...] = setting(
        "The column that holds the score, one a label (repeatable).", single=True
    )
    patient: str | None = setting(
        "The column that names the patient.", None, shown="each row its own patient", group="Columns"
    )
    key: str | None = setting(
        "The column by which rows of two tables pair.", None, shown="by position", group="Columns"
    )
    subgroup: tuple[str, ...] = setting(
        "A column of groups, each measured and held against the largest (repeatable); a column age makes bands.",
        (),
        group="Columns",
    )
    validation: Path | None = setting(
        "A table like the first, of other patients, that --threshold and --calibrate learn from.",
        None,
        group="Operating point",
    )
    threshold: str | None = setting(
        "A score from which on a row counts as positive; or youden or sensitivity=SHARE, chosen on --validation.",
        None,
        group="Operating point",
    )
    prevalence: float | None = setting(
        "With --threshold: PPV and NPV also where this share of patients has the finding.",
        None,
        group="Operating point",
    )
    calibration: bool = setting(
        "Judge the scores as probabilities: Brier, calibration error, slope, intercept, reliability curve.",
        False,
        group="Operating point",
    )
    calibrate: Literal["none", "platt", "isotonic", "temperature"] = setting(
        "Calibrate on --validation first; implies --calibration.", "none", group="Operating point"
    )
    json: Path | None = setting("Where to write the numbers in full precision.", None, group="Run")
    replicates: int = setting("Bootstrap resamples of the patients.", 2000, group="Bootstrap")
    bootstrap: Literal["percentile", "bca"] = setting(
        "How resamples become an interval.", "percentile", group="Bootstrap"
    )
    stratify: bool = setting(
        "Resample patients with and without the finding apart.", False, group="Bootstrap"
    )
    level: float = setting("Confidence level of the intervals.", 0.95, group="Bootstrap")
    seed: int = setting("Seed of the resamples.", 0, group="Run")
