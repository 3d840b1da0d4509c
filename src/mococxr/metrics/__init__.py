"""Arrays in, numbers out: AUROC, average precision, DeLong, the bootstrap over patients, paired differences;
operating points, calibration, subgroups, several labels; margins, many tests, labels saved, planning; the variance by
its sources; verdicts in words. `docs/statistics.md` says what each is and when to use it.

Opens no file and prints nothing. Wrong shapes and values are a `ValueError`; a number that the data do not
define is an `UndefinedError` with the reason, or a counted NaN replicate.
"""

from __future__ import annotations

from mococxr.metrics.area import Area, auroc_interval, clustered_covariance, clustered_paired
from mococxr.metrics.bootstrap import (
    Interval,
    Resamples,
    bootstrap_auroc,
    bootstrap_average_precision,
    interval,
    jackknife_auroc,
    jackknife_average_precision,
    patient_resamples,
)
from mococxr.metrics.calibration import Bin, Calibration, brier, calibration, expected_calibration_error
from mococxr.metrics.calibrators import Calibrator, as_logits, at_prevalence, fit_calibrator
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
from mococxr.metrics.labels_saved import Labels, LabelsSaved, labels_saved
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
)
from mococxr.metrics.planning import (
    Plan,
    patients_needed,
    patients_needed_from,
    patients_needed_like,
    power_of,
)
from mococxr.metrics.proportions import Number, wilson
from mococxr.metrics.ranking import auroc, average_precision
from mococxr.metrics.several import MarginTest, benjamini_hochberg, equivalent, holm, non_inferior
from mococxr.metrics.subgroups import Gap, Group, Subgroups, subgroups
from mococxr.metrics.unpaired import clustered_unpaired
from mococxr.metrics.variance import VarianceSplit, split_difference, variance_split
from mococxr.metrics.verdict import Verdict, verdict

__all__ = [
    "Area",
    "Bin",
    "Calibration",
    "Calibrator",
    "Cell",
    "Difference",
    "Estimate",
    "Gap",
    "Group",
    "Interval",
    "Labels",
    "LabelsSaved",
    "MarginTest",
    "Multilabel",
    "Number",
    "OperatingPoint",
    "PairedDifference",
    "Plan",
    "PredictiveValues",
    "Resamples",
    "Subgroups",
    "Trials",
    "VarianceSplit",
    "Verdict",
    "as_logits",
    "at_prevalence",
    "auroc",
    "auroc_interval",
    "average_precision",
    "benjamini_hochberg",
    "bootstrap_auroc",
    "bootstrap_average_precision",
    "bootstrap_p",
    "brier",
    "calibration",
    "cell",
    "clustered_covariance",
    "clustered_paired",
    "clustered_unpaired",
    "delong_covariance",
    "delong_interval",
    "delong_paired",
    "delong_unpaired",
    "delong_variance",
    "equivalent",
    "expected_calibration_error",
    "fit_calibrator",
    "holm",
    "interval",
    "jackknife_auroc",
    "jackknife_average_precision",
    "labels_saved",
    "multilabel",
    "non_inferior",
    "operating_point",
    "paired_differences",
    "patient_resamples",
    "patients_needed",
    "patients_needed_from",
    "patients_needed_like",
    "power_of",
    "predictive_values",
    "split_difference",
    "subgroups",
    "threshold_by_youden",
    "threshold_for_sensitivity",
    "too_few",
    "variance_split",
    "verdict",
    "vote",
    "wilson",
]
