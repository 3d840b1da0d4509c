"""One table measured, and two tables against each other: the difference of AUROC, what it says over patients, margins,
planning.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mococxr import metrics
from mococxr.errors import InputError, UndefinedError
from mococxr.evaluation.predictions import Floats, Rows, Table, paired
from mococxr.measure import comparison
from mococxr.measure.measures import ENDS, Block, Replicates, Resampling, or_reason, picked, quoted_auroc, replicated

if TYPE_CHECKING:
    from mococxr.settings import EvaluateSettings

RETRAINING = "The interval does not cover retraining either model."
NO_NUMBERS = {"low": None, "high": None, "z": None, "p": None}


def measured(rows: Rows, how: Resampling) -> tuple[Block, Replicates]:
    """What is measured on one table, and the replicates of the AUROC, which its comparison with another needs."""
    results = replicated(rows.labels, rows.scores, rows.patients, how)
    area = results.pop("auroc")
    delong = or_reason(
        lambda: picked(metrics.delong_interval(rows.labels, rows.scores, level=how.level), ENDS), dict.fromkeys(ENDS)
    )
    quoted = or_reason(
        lambda: quoted_auroc(rows.labels, rows.scores, rows.patients, how.level),
        {"value": area.value, "low": None, "high": None, "method": None},
    )
    block = {
        "predictions": rows.name,
        "n": int(rows.labels.size),
        "patients": rows.count,
        "positives": int((rows.labels == 1).sum()),
        "auroc": _primary(area.value, delong, area.ends(how), rows.clustered),
        "interval": quoted,
    }
    others = {name: {"value": other.value, **other.ends(how), "method": "bootstrap"} for name, other in results.items()}
    return {**block, **others}, area


def _primary(value: float, delong: Block, bootstrap: Block, clustered: bool) -> Block:
    """DeLong for one row a patient; otherwise the bootstrap, with DeLong by row beside it."""
    if clustered:
        # DeLong by row takes images of one patient for independent: too narrow.
        return {"value": value, **bootstrap, "method": "bootstrap", "delong": delong}
    return {"value": value, **delong, "method": "delong"}


@dataclass(frozen=True)
class Pair:
    """Two tables: the same rows by two classifiers, or (`unpaired`) rows of different patients."""

    first: Rows
    second: Rows
    unpaired: bool

    @property
    def too_few(self) -> str | None:
        """The sentence where a class has too few patients in one of the tables."""
        return self.first.too_few or (self.second.too_few if self.unpaired else None)

    def compare(self, level: float) -> metrics.Difference:
        """The difference over patients; errors as `clustered_paired`."""
        a, b = self.first, self.second
        if self.unpaired:
            return metrics.clustered_unpaired(a.labels, a.scores, a.patients, b.labels, b.scores, b.patients, level)
        return metrics.clustered_paired(a.labels, a.scores, b.scores, a.patients, level)

    def by_row(self, level: float) -> metrics.DeLong | None:
        """DeLong's test with every row for a patient; errors as `clustered_paired`."""
        a, b = self.first, self.second
        if self.unpaired:
            return metrics.delong_unpaired(a.labels, a.scores, b.labels, b.scores, level)
        return metrics.delong_paired(a.labels, a.scores, b.scores, level=level)


def make_pair(table: Table, rows: Rows, second: Table, settings: EvaluateSettings) -> Pair:
    """The second table beside the first."""
    if not settings.unpaired:
        moved = paired(table, second, settings.key)
        # Labels and patients of the first: `paired` has found them equal.
        return Pair(rows, dataclasses.replace(rows, name=str(moved.path), scores=moved.scores[table.known]), False)
    others = second.rows()
    shared = rows.shared_patients(others)  # Welch's variance leaves no room for a covariance
    if shared:
        raise InputError(
            f"{len(shared)} patients are in both {rows.name} and {others.name}, first {shared[0]!r}: --unpaired "
            "needs different patients.",
            "Leave --unpaired out if the rows pair; or leave these patients out of one table.",
        )
    return Pair(rows, others, True)


def compared(
    pair: Pair, replicates: Replicates, bootstrap: Block, settings: EvaluateSettings, how: Resampling
) -> Block:
    """The blocks about two tables; the bootstrap's own `difference` is put into `bootstrap`."""
    other = dataclasses.replace(how, seed=how.seed + 1) if pair.unpaired else how  # independent resamples
    against, others = measured(pair.second, other)
    value = replicates.value - others.value
    counted = _by_bootstrap(pair, replicates, others, how)
    clustered = pair.first.clustered or (pair.unpaired and pair.second.clustered)
    by_row = or_reason(lambda: _plain(pair.by_row(how.level), (*NO_NUMBERS, "variance", "covariance")), NO_NUMBERS)
    difference = _primary(value, by_row, counted, clustered)
    quoted, result = _quoted(pair, value, how.level)
    if pair.too_few:  # a p from a few patients would be quoted: it is nowhere
        for block in (difference, difference.get("delong"), quoted, counted):
            if block is not None:
                block.update(p=None, reason=block.get("reason") or pair.too_few)
    bootstrap["difference"] = counted
    paired_by = None if pair.unpaired else settings.key or "position"
    blocks = {"paired_by": paired_by, "too_few": pair.too_few, "against": against}
    blocks |= {"difference": difference, "comparison": quoted}
    reason, variance, first = pair.too_few or quoted.get("reason"), quoted["variance"], pair.first
    if (margin := settings.margin) is not None:
        empty: Block = {"margin": margin, "noninferior": None, "equivalent": None}
        low = against["interval"]["low"]  # is the reference better than a guess? (assay sensitivity)
        blocks["margin"] = or_reason(
            lambda: comparison.margin_block(result, margin, low, how.level),  # type: ignore[arg-type]
            empty,
            reason or (None if result else "the difference has no interval"),
        )
    if not pair.unpaired:  # planning is for a paired study
        target = settings.target_difference
        empty = {"difference": target, "power": None, "patients": None, "words": None}
        blocks["planning"] = or_reason(
            lambda: comparison.planning_block(variance, first.labels, first.patients, target), empty, reason
        )
    return blocks


def _by_bootstrap(pair: Pair, first: Replicates, second: Replicates, how: Resampling) -> Block:
    """Ends, p by counting, and z = difference / standard deviation of its replicates."""
    difference = Replicates(first.value - second.value, first.values_B - second.values_B, left_out(pair, first, second))
    ends = difference.ends(how)
    z = difference.value / float(np.sqrt(ends["variance"])) if ends["variance"] else None
    p = metrics.bootstrap_p(difference.values_B) if ends["low"] is not None else None
    return {"value": difference.value, **ends, "z": z, "p": p}


def left_out(pair: Pair, first: Replicates, second: Replicates) -> Floats | None:
    """The difference without each patient in turn, which BCa needs; unpaired, each patient is in one table only."""
    a, b = first.left_out_U, second.left_out_U
    if a is None or b is None:
        return None
    # A patient of one table leaves the other as it is.
    return np.concatenate([a - second.value, first.value - b]) if pair.unpaired else a - b


def _plain(result: metrics.DeLong | None, names: Iterable[str]) -> Block:
    """DeLong's own numbers, as other programs print them."""
    if result is None:
        raise UndefinedError("the difference has no variance: each column separates the classes fully")
    return picked(result, names)


def _quoted(pair: Pair, value: float, level: float) -> tuple[Block, metrics.Difference | None]:
    """The comparison to quote, over patients, and its verdict in words; beside it DeLong's own test."""
    method = "DeLong joined with MOVER over patients" + (", unpaired" if pair.unpaired else "")
    plain = (*NO_NUMBERS, "variance", "covariance", "df")
    try:
        result = pair.compare(level)
    except UndefinedError as error:
        numbers = dict.fromkeys((*ENDS[1:], "p", "variance", "delong"))
        return {"value": value, **numbers, "method": method, "verdict": "undefined",
                "words": f"No verdict: {error}.", "reason": str(error)}, None  # fmt: skip
    # The table that has too few is the one to be named.
    rows = pair.second if pair.unpaired and pair.second.too_few else pair.first
    # Two tables of scores hold no label subsets and no runs.
    verdict = comparison.verdict(result, rows.labels, rows.patients, sources=comparison.SOURCES[:1])
    words = verdict.sentence if verdict.word == "too few" else f"{verdict.sentence} {RETRAINING}"
    numbers = picked(result, (*ENDS[1:], "p", "variance"))
    numbers["delong"] = or_reason(lambda: _plain(result.delong, plain), dict.fromkeys(plain))
    return {"value": value, **numbers, "method": method, "verdict": verdict.word, "words": words}, result
