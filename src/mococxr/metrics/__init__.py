"""Arrays in, numbers out: AUROC, average precision, DeLong, the patient-cluster bootstrap, paired
differences.

Opens no file and prints nothing. Wrong shapes and values are a `ValueError`; a number that the data do not
define is an `UndefinedError` with the reason, or a counted NaN replicate.
"""

from __future__ import annotations

from mococxr.metrics.area import Area, auroc_interval, clustered_covariance
from mococxr.metrics.bootstrap import (
    Interval,
    Resamples,
    bootstrap_auroc,
    bootstrap_average_precision,
    interval,
    jackknife_auroc,
    patient_resamples,
)
from mococxr.metrics.calibration import Bin, Calibration, brier, calibration, expected_calibration_error
from mococxr.metrics.calibrators import Calibrator, as_logits, fit_calibrator
from mococxr.metrics.delong import (
    Difference,
    Estimate,
    delong_covariance,
    delong_interval,
    delong_paired,
    delong_unpaired,
    delong_variance,
)
from mococxr.metrics.grouping import vote
from mococxr.metrics.multilabel import Multilabel, multilabel
from mococxr.metrics.operating import (
    OperatingPoint,
    PredictiveValues,
    operating_point,
    predictive_values,
    threshold_by_youden,
    threshold_for_sensitivity,
)
from mococxr.metrics.paired import (
    Cell,
    PairedDifference,
    Trials,
    bootstrap_p,
    cell,
    paired_differences,
    too_few,
    with_draws,
)
from mococxr.metrics.proportions import Number, wilson
from mococxr.metrics.ranking import auroc, average_precision
from mococxr.metrics.variance import VarianceSplit, variance_split

__all__ = [
    "Area",
    "Bin",
    "Calibration",
    "Calibrator",
    "Cell",
    "Difference",
    "Estimate",
    "Interval",
    "Multilabel",
    "Number",
    "OperatingPoint",
    "PairedDifference",
    "PredictiveValues",
    "Resamples",
    "Trials",
    "VarianceSplit",
    "as_logits",
    "auroc",
    "auroc_interval",
    "average_precision",
    "bootstrap_auroc",
    "bootstrap_average_precision",
    "bootstrap_p",
    "brier",
    "calibration",
    "cell",
    "clustered_covariance",
    "delong_covariance",
    "delong_interval",
    "delong_paired",
    "delong_unpaired",
    "delong_variance",
    "expected_calibration_error",
    "fit_calibrator",
    "interval",
    "jackknife_auroc",
    "multilabel",
    "operating_point",
    "paired_differences",
    "patient_resamples",
    "predictive_values",
    "threshold_by_youden",
    "threshold_for_sensitivity",
    "too_few",
    "variance_split",
    "vote",
    "wilson",
    "with_draws",
]
