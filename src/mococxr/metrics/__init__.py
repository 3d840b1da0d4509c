"""Arrays in, numbers out: AUROC, average precision, DeLong, the bootstrap over patients, paired differences;
operating points, calibration, subgroups; margins, many tests, labels saved, planning; the variance by its sources.
`docs/statistics.md` says what each is and when to use it.

Opens no file and prints nothing. Wrong shapes and values are a `ValueError`; a number that the data do not
define is an `UndefinedError` with the reason, or a counted NaN replicate.
"""

from mococxr.metrics.agreement import kappa
from mococxr.metrics.auroc import auroc_interval, delong_interval
from mococxr.metrics.auroc_difference import (
    DeLong,
    Difference,
    clustered_paired,
    clustered_unpaired,
    delong_paired,
    delong_unpaired,
)
from mococxr.metrics.calibration import (
    Bin,
    Calibration,
    Calibrator,
    as_logits,
    at_prevalence,
    calibration,
    fit_calibrator,
    platt_intervals,
)
from mococxr.metrics.checks import too_few
from mococxr.metrics.curves import BandedCurve, precision_recall_curve, roc_curve
from mococxr.metrics.decision_curve import NetBenefit, net_benefit
from mococxr.metrics.differences import (
    MarginTest,
    Plan,
    Trials,
    benjamini_hochberg,
    bootstrap_p,
    cell,
    equivalent,
    gatekeeping,
    holm,
    non_inferior,
    paired_differences,
    paired_replicates,
    patients_needed,
)
from mococxr.metrics.forecast import Forecast, curve_points, forecast, images_for_width
from mococxr.metrics.intervals import (
    Estimate,
    Resamples,
    bootstrap,
    interval,
    jackknife,
    patient_resamples,
    percentile_estimate,
    resampled,
)
from mococxr.metrics.labels_saved import Labels, LabelsSaved, labels_saved
from mococxr.metrics.observed_expected import observed_expected
from mococxr.metrics.operating import (
    OperatingPoint,
    PredictiveValues,
    operating_point,
    predictive_values,
    threshold_by_youden,
    threshold_for_sensitivity,
)
from mococxr.metrics.paired_shares import ShareDifference, paired_shares
from mococxr.metrics.proportions import proportion, wilson
from mococxr.metrics.ranking import (
    Curve,
    Measure,
    auroc,
    auroc_measure,
    average_precision,
    average_precision_measure,
    partial_auroc,
    partial_auroc_measure,
    value_of,
    values_of,
)
from mococxr.metrics.readers import at_reader_specificity
from mococxr.metrics.smooth_calibration import SmoothPoint, smooth_calibration
from mococxr.metrics.subgroups import Gap, Group, Subgroups, age_bands, subgroups
from mococxr.metrics.variance import VarianceSplit, split_difference, variance_split
