"""The metrics, one row each, and what is said of one score column: intervals, warnings, averages over labels.

A metric that is added to `MEASURES` is measured by `evaluate` and `study`.

Letters: N rows, L labels, B replicates.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.metrics import Curve, Estimate, Measure, Resamples
from mococxr.metrics.checks import Floats

Block: TypeAlias = dict[str, Any]


@dataclass(frozen=True)
class Words:
    """A metric: its name in sentences, the prefix of its columns in a study's tables, how it is computed, and its value
    where scores are guessed (None: it depends on the share of positives).
    """

    name: str
    prefix: str
    measure: Measure
    chance: float | None

    def value(self, labels: ArrayLike, scores: ArrayLike) -> float:
        """The metric of one score column; errors as `metrics.auroc`."""
        return metrics.value_of(self.measure, labels, scores)


MEASURES = {
    "auroc": Words("AUROC", "", metrics.auroc_measure, 0.5),
    "average_precision": Words("average precision", "ap_", metrics.average_precision_measure, None),
    "partial_auroc": Words("partial AUROC (sensitivity 0.9 to 1)", "pauroc_", metrics.partial_auroc_measure, 0.5),
}


@dataclass(frozen=True)
class Resampling:
    """How patients are resampled and how replicates become an interval at `level` (`percentile` or `bca`)."""

    replicates: int = 2000
    seed: int = 0
    level: float = 0.95
    method: str = "percentile"
    stratified: bool = False

    def on(self, rows: int) -> Resampling:
        """The same with as many resamples as `MAX_ROWS` rows together allow, `MIN_REPLICATES` at the least."""
        return replace(self, replicates=min(self.replicates, max(MIN_REPLICATES, MAX_ROWS // rows)))


MIN_REPLICATES, MAX_ROWS = 200, 10_000_000
"""2,000 resamples of up to 5,000 rows. Of more rows fewer do: the interval is then so short that its second digit does
not depend on them."""

ENDS = ("variance", "low", "high")


def every(curve: Curve) -> Floats:
    """All of `MEASURES` of each weighting, (K, B)."""
    # Callers zip the K numbers with MEASURES, whose order this is.
    return np.stack([words.measure(curve) for words in MEASURES.values()])


def picked(result: object, names: Iterable[str]) -> Block:
    """Some fields of a result."""
    return {name: getattr(result, name) for name in names}


def or_reason(make: Callable[[], Block], empty: Block, reason: str | None = None) -> Block:
    """What `make` gives; where that is undefined, or a `reason` is known before, `empty` with the reason."""
    if reason is None:
        try:
            return make()
        except UndefinedError as error:
            reason = str(error)
    return {**empty, "reason": reason}


@dataclass(frozen=True)
class Replicates:
    """A number, its replicates (B,), and the number without each patient in turn (U,), where BCa needs it."""

    value: float
    values_B: Floats
    left_out_U: Floats | None = None

    def ends(self, how: Resampling) -> Block:
        """Variance of the defined replicates, and the ends of the interval."""

        def ends() -> Block:
            return picked(metrics.interval(self.values_B, self.value, how.level, how.method, self.left_out_U), ENDS)

        return or_reason(ends, dict.fromkeys(ENDS))


def replicated(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, how: Resampling) -> dict[str, Replicates]:
    """Every metric of one score column on the same resamples of the patients.

    Raises:
        UndefinedError: one class is absent.
    """
    y, ids, columns = np.asarray(labels), np.asarray(patients), np.asarray(scores)[None]
    # The jackknife costs as much as U resamples: only BCa needs it.
    left_out_KU = metrics.jackknife(y, columns, ids, every)[0] if how.method == "bca" else [None] * len(MEASURES)
    strata = np.isin(ids, ids[y == 1]) if how.stratified else None  # a patient with any positive row
    # All metrics at once: the rows are sorted once a column.
    values_KB = metrics.bootstrap(y, columns, ids, how.replicates, how.seed, strata, every)[0]
    values_K = metrics.values_of(every, y, columns[0])
    return {
        name: Replicates(float(value), values_B, left_out_U)
        for name, value, values_B, left_out_U in zip(MEASURES, values_K, values_KB, left_out_KU, strict=True)
    }


def quoted_auroc(labels: ArrayLike, scores: ArrayLike, patients: ArrayLike, level: float) -> Block:
    """The AUROC with the interval to quote (`metrics.auroc_interval`), and a warning where the patients are few.

    Args:
        labels, patients: shape (N,).
        scores: shape (N,), or (T, N) for the mean over trials.
        level: coverage.

    Raises:
        UndefinedError: a class has rows of fewer than two patients.
    """
    estimate = metrics.auroc_interval(labels, scores, patients, level)
    # The number stays, with the warning beside it.
    warning = metrics.too_few(labels, patients, consequence="the interval is only approximate")
    return {**estimate.block(), "warning": warning, "variance": estimate.variance}


def columns(blocks: Mapping[str, Any], names: Iterable[str]) -> Block:
    """`NAME, NAME_low, NAME_high` of each named block, as a table holds them."""
    return {
        name + suffix: blocks[name][end]
        for name in names
        for suffix, end in (("", "value"), ("_low", "low"), ("_high", "high"))
    }


def averages(
    labels_NL: Floats, scores_NL: Floats, patients: NDArray | None, how: Resampling
) -> dict[str, dict[str, Block]]:
    """`macro` (mean over the labels) and `micro` (all rows and labels in one list) of every metric.

    All labels are judged on the same resamples of the patients, with percentile intervals. A label of which one class
    is absent has no number; the macro average then has none either, with the reason (a mean over fewer labels would be
    another quantity).

    Args:
        labels_NL: 1, 0, or NaN where unknown (that row is left out of that label).
        scores_NL: finite.
        patients: patient of each row; None where each row is a patient of its own.
        how: replicates, seed and level are used.
    """
    ids = np.arange(len(labels_NL)) if patients is None else patients
    how = how.on(labels_NL.size)  # every label of a row costs as a row does
    # One draw for all labels, so that their mean has replicates.
    drawn = metrics.patient_resamples(ids, how.replicates, how.seed)
    # Rows and labels in one list: a row keeps its patient under every label.
    flat = replace(drawn, unit_N=np.repeat(drawn.unit_N, labels_NL.shape[1]))
    each = [_resampled(labels_NL[:, i], scores_NL[:, i], drawn, f"label {i}: ") for i in range(labels_NL.shape[1])]
    together = _resampled(labels_NL.ravel(), scores_NL.ravel(), flat)
    reasons = "; ".join(result for result in each if isinstance(result, str))
    blocks: dict[str, dict[str, Block]] = {"macro": {}, "micro": {}}
    for name in MEASURES:
        macro: Replicates | str = reasons
        if not reasons:
            of_name = [result[name] for result in each if not isinstance(result, str)]
            # A resample that one label does not define is undefined for the mean.
            values_B = np.array([result.values_B for result in of_name]).mean(axis=0)
            macro = Replicates(float(np.mean([result.value for result in of_name])), values_B)
        blocks["macro"][name] = _shown(macro, how)
        blocks["micro"][name] = _shown(together if isinstance(together, str) else together[name], how)
    return blocks


def _resampled(labels: Floats, scores: Floats, drawn: Resamples, prefix: str = "") -> dict[str, Replicates] | str:
    """Every metric of the rows with a known label, or the reason why there is none."""
    known = ~np.isnan(labels)
    try:
        values_KB = metrics.resampled(every, labels, scores[None], drawn, known)[0]
    except UndefinedError as error:
        return f"{prefix}{error}"
    values_K = metrics.values_of(every, labels[known], scores[known])
    return {
        name: Replicates(float(value), values_B)
        for name, value, values_B in zip(MEASURES, values_K, values_KB, strict=True)
    }


def _shown(result: Replicates | str, how: Resampling) -> Block:
    if isinstance(result, str):
        return Estimate(None, reason=result).block()
    return metrics.percentile_estimate(result.value, result.values_B, how.level).block()
