"""Two tables against each other: the difference of AUROC, what it says over patients, margins, planning."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.evaluation.numbers import Block, Bootstrap, Floats, Replicates, Rows, bootstrap_ends, chosen
from mococxr.metrics import Difference, MarginTest
from mococxr.metrics.verdict import SOURCES

TAKEN = "Both are taken as they stand: made or trained again, they may differ."
NO_NUMBERS = {"low": None, "high": None, "z": None, "p": None}


@dataclass(frozen=True)
class Pair:
    """Two tables: the same rows by two classifiers, or (`unpaired`) rows of different patients."""

    ours: Rows
    theirs: Rows
    unpaired: bool

    @property
    def too_few(self) -> str | None:
        """The sentence where a class has too few patients in one of the tables."""
        return self.ours.too_few or (self.theirs.too_few if self.unpaired else None)


def compare(pair: Pair, areas: tuple[Replicates, Replicates], how: Bootstrap) -> tuple[Block, Block, Block]:
    """The blocks `difference` (as the contract has it), `comparison` (to quote) and that of the bootstrap.

    Where a class has too few patients, no p is given anywhere, and `reason` says so.
    """
    value = areas[0].value - areas[1].value
    bootstrap = _bootstrap(pair, value, areas, how)
    clustered = pair.ours.clustered or (pair.unpaired and pair.theirs.clustered)
    difference = chosen(value, _delong(pair, how.level), bootstrap, clustered)
    comparison = _quoted(pair, value, how.level)
    if pair.too_few:
        for block in (difference, difference.get("delong"), comparison, bootstrap):
            if block is not None:
                block.update(p=None, reason=block.get("reason") or pair.too_few)
    return difference, comparison, bootstrap


def _bootstrap(pair: Pair, value: float, areas: tuple[Replicates, Replicates], how: Bootstrap) -> Block:
    """Ends, p by counting, and z = difference / standard deviation of its replicates."""
    ours, theirs = areas
    differences = Replicates(value, ours.found_B - theirs.found_B, left_out(pair, ours, theirs))
    ends = bootstrap_ends(differences, how)
    z = value / float(np.sqrt(ends["variance"])) if ends["variance"] else None
    p = metrics.bootstrap_p(differences.found_B) if ends["low"] is not None else None
    return {"value": value, **ends, "z": z, "p": p}


def left_out(pair: Pair, ours: Replicates, theirs: Replicates) -> Floats | None:
    """The difference without each patient in turn, which BCa needs; unpaired, each stands in one table only."""
    a, b = ours.left_out_U, theirs.left_out_U
    if a is None or b is None:
        return None
    return np.concatenate([a - theirs.value, ours.value - b]) if pair.unpaired else a - b


def _delong(pair: Pair, level: float) -> Block:
    """DeLong's test with every row for a patient."""
    a, b = pair.ours, pair.theirs
    try:
        if pair.unpaired:
            found = metrics.delong_unpaired(a.labels, a.scores, b.labels, b.scores, level)
        else:
            found = metrics.delong_paired(a.labels, a.scores, b.scores, level)
    except UndefinedError as error:
        return {**NO_NUMBERS, "reason": str(error)}
    return {name: getattr(found, name) for name in ("low", "high", "z", "p", "variance", "covariance")}


def _over_patients(pair: Pair, level: float) -> Difference:
    a, b = pair.ours, pair.theirs
    if pair.unpaired:
        return metrics.clustered_unpaired(
            a.labels, a.scores, a.patients, b.labels, b.scores, b.patients, level
        )
    return metrics.clustered_paired(a.labels, a.scores, b.scores, a.patients, level)


def _quoted(pair: Pair, value: float, level: float) -> Block:
    """The comparison to quote: DeLong over patients, and its verdict in words."""
    method = "DeLong over patients" + (", unpaired" if pair.unpaired else "")
    try:
        found = _over_patients(pair, level)
    except UndefinedError as error:
        return {"value": value, **NO_NUMBERS, "variance": None, "method": method, "verdict": "undefined",
                "words": f"No verdict: {error}.", "reason": str(error)}  # fmt: skip
    rows = pair.ours if pair.theirs.too_few is None or not pair.unpaired else pair.theirs
    about = (found.difference, found.low, found.high, found.p, rows.labels, rows.patients)
    said = metrics.verdict(*about, sources=SOURCES[:1])
    words = said.sentence if said.word == "too few" else f"{said.sentence} {TAKEN}"
    numbers = {name: getattr(found, name) for name in ("low", "high", "z", "p", "variance")}
    return {"value": value, **numbers, "method": method, "verdict": said.word, "words": words}


def margin_block(pair: Pair, comparison: Block, margin: float, level: float) -> Block:
    """Equivalence (two one-sided tests) and non-inferiority of the first table against a margin named beforehand."""
    if pair.too_few or not comparison["variance"]:
        reason = pair.too_few or comparison.get("reason") or "the difference has no variance"
        return {"margin": margin, "noninferior": None, "equivalent": None, "reason": reason}
    alpha = 1 - level
    value, variance = comparison["value"], comparison["variance"]
    lesser = metrics.non_inferior(value, margin, variance=variance, alpha=alpha / 2)
    same = metrics.equivalent(value, margin, variance=variance, alpha=alpha)
    return {"margin": margin, "noninferior": _tested(lesser), "equivalent": _tested(same)}


def _tested(found: MarginTest) -> Block:
    return {name: value for name, value in dataclasses.asdict(found).items() if name != "margin"}


def planning_block(pair: Pair, comparison: Block, difference: float) -> Block:
    """Patients like these that a next paired study needs to see `difference`, from the variance found here."""
    empty = {"difference": difference, "power": None, "patients": None, "words": None}
    positives = int(np.unique(pair.ours.patients[pair.ours.labels == 1]).size)
    if pair.too_few or not comparison["variance"] or positives == pair.ours.count:
        reason = pair.too_few or comparison.get("reason") or "the difference has no variance to plan with"
        return {**empty, "reason": reason}
    plan = metrics.patients_needed_like(comparison["variance"], pair.ours.count, positives, difference)
    words = f"{plan.words} They are taken to be like the {pair.ours.count:,} patients here."
    return {**dataclasses.asdict(plan), "words": words}
