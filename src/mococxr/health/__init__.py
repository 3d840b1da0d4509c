"""Is pretraining learning? Measures of a contrastive run, and one verdict in plain words: `docs/health.md`.

Opens no file and prints nothing.
"""

from mococxr.health.measures import (
    alignment,
    contrast_accuracy,
    effective_rank,
    feature_std,
    gradient_norm,
    relative_distance,
    tied,
    uniformity,
    weight_sample,
)
from mococxr.health.words import WARM_FILLS, WARM_STEPS, verdict

__all__ = [
    "WARM_FILLS",
    "WARM_STEPS",
    "alignment",
    "contrast_accuracy",
    "effective_rank",
    "feature_std",
    "gradient_norm",
    "relative_distance",
    "tied",
    "uniformity",
    "verdict",
    "weight_sample",
]
