"""Several labels of one table: macro and micro averages, and the differences adjusted for their number."""

from __future__ import annotations

import numpy as np

from mococxr import metrics
from mococxr.evaluation.numbers import Block, Bootstrap
from mococxr.evaluation.predictions import Table


def averages(tables: list[Table], how: Bootstrap) -> dict[str, Block]:
    """`macro` (mean over the labels) and `micro` (all rows and labels in one list) of AUROC and average precision.

    All labels are judged on the same percentile resamples of the patients; a row without a label is left out of that
    label.
    """
    labels_NL = np.stack([np.where(table.judged, table.labels, np.nan) for table in tables], axis=1)
    scores_NL = np.stack([np.where(table.judged, table.scores, 0.0) for table in tables], axis=1)
    first = tables[0]
    ids = None if first.patients is None else first.patients
    found: dict[str, Block] = {"macro": {}, "micro": {}}
    for measure in ("auroc", "average_precision"):
        both = metrics.multilabel(
            labels_NL, scores_NL, measure, ids, replicates=how.replicates, seed=how.seed, level=how.level
        )
        found["macro"][measure] = both.macro.block()
        found["micro"][measure] = both.micro.block()
    return found


def adjust(blocks: list[Block]) -> None:
    """Put `p_holm` and `p_bh` beside the p of each label's comparison: adjusted for the labels that have one."""
    compared = [block["comparison"] for block in blocks if block["comparison"]]
    given = [np.nan if one["p"] is None else one["p"] for one in compared]
    for name, adjusted in (("p_holm", metrics.holm(given)), ("p_bh", metrics.benjamini_hochberg(given))):
        for one, p in zip(compared, adjusted, strict=True):
            one[name] = None if np.isnan(p) else float(p)
