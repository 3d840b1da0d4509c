"""Is pretraining learning? Measures of a contrastive run, and one verdict in plain words: `docs/health.md`.

Opens no file and prints nothing.
"""

from mococxr.pretraining.diagnostics.judge import Run, Verdict, judge, not_finite
from mococxr.pretraining.diagnostics.measures import (
    alignment,
    contrast_accuracy,
    effective_rank,
    feature_std,
    gradient_norm,
    knn_scores,
    pair_auroc,
    relative_distance,
    tied,
    uniformity,
    view_change,
    weight_sample,
)

__all__ = [
    "Run",
    "Verdict",
    "alignment",
    "contrast_accuracy",
    "effective_rank",
    "feature_std",
    "gradient_norm",
    "judge",
    "knn_scores",
    "not_finite",
    "pair_auroc",
    "relative_distance",
    "tied",
    "uniformity",
    "view_change",
    "weight_sample",
]
