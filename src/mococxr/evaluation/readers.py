"""The model at its threshold beside each reader, on the rows that the reader read."""

from __future__ import annotations

import numpy as np

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.evaluation.predictions import Floats, Rows
from mococxr.measure import operating
from mococxr.measure.measures import Block, Resampling

SHARES = ("sensitivity", "specificity")


def reader_block(name: str, rows: Rows, reads: Floats, threshold: float, how: Resampling) -> Block:
    """Sensitivity and specificity of reader and model, their paired difference, and the model at the reader's specificity.

    Args:
        name: of the reader.
        rows: those of the model.
        reads: 1, 0, or else not read, of these rows.
        threshold: of the model's score.
    """
    read = np.isin(reads, (0, 1))  # model and reader on the same rows: those that were read
    labels, scores, calls, patients = rows.labels[read], rows.scores[read], reads[read], rows.patients[read]
    block: Block = {"reader": name, "n": int(read.sum()), "left_out": int((~read).sum())}
    empty: Block = dict.fromkeys(("model", "difference", "at_reader_specificity"))
    try:
        reader, model = (
            metrics.operating_point(labels, values, cut, patients, how.level)
            for values, cut in ((calls, 0.5), (scores, threshold))  # a call is 0 or 1: 0.5 divides them
        )
    except UndefinedError as error:
        return {**block, **dict.fromkeys(SHARES), **empty, "reason": str(error)}
    block |= {share: getattr(reader, share).block() for share in SHARES}
    block["model"] = {share: getattr(model, share).block() for share in SHARES}
    block["difference"] = operating.paired_blocks(labels, (scores, calls), (threshold, 0.5), patients, how.level)
    at, less = metrics.at_reader_specificity(labels, scores, calls, patients, how.replicates, how.seed, how.level)
    block["at_reader_specificity"] = {"sensitivity": at.block(), "difference": less.block()}
    return block
