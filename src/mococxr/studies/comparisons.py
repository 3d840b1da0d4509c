"""Two arms in one cell: difference, test, interval by its sources, verdict, labels saved, patients needed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mococxr.errors import UndefinedError
from mococxr.measure.comparison import SOURCES, margin_block, margin_words, planning_block, verdict
from mococxr.measure.measures import MEASURES, quoted_auroc
from mococxr.metrics import (
    Difference,
    VarianceSplit,
    clustered_paired,
    labels_saved,
    paired_differences,
    paired_replicates,
    split_difference,
    too_few,
)
from mococxr.results import Row as Record
from mococxr.studies.cells import LEVEL, Key, Measured, pair_names

METHOD = "DeLong joined with MOVER over test patients, of the mean over draws"
WANTED = 0.03
"""The difference of AUROC for which `planning` counts patients."""
NEAR_CHANCE = 0.6
"""AUROC below which no patients are counted: near guessing, draws disagree, so that their mean looks surer over
patients than that of classifiers that work, and the count is too low."""
GUESSING = f"an AUROC of {NEAR_CHANCE:g}, and nearer to guessing the count would be too low"


def difference_row(key: Key, other: Key, measured: Measured) -> Record:
    """A row of `differences.csv` or `across_modes.csv`: one cell less another of the same target and fraction."""
    row = pair_names(key, other) | {"method": METHOD}
    try:
        row.update(_by_bootstrap(measured, key, other))
    except UndefinedError as error:
        reason = _why_not(measured, (key, other), error)
        return row | {"reason": reason, "verdict": "undefined", "words": f"Undefined: {reason}."}
    few = too_few(measured.labels, measured.patients)
    try:
        tested = _over_patients(measured, key, other)
    except UndefinedError as error:
        reason = few or f"no test: {error}"
        word = "too few" if few else "undefined"
        return row | {"reason": reason, "verdict": word, "words": few or f"Undefined: {error}."}
    row.update(low=tested.low, high=tested.high)
    split, total = _over_all(measured, key, other, tested)
    if total is not None:
        row.update(low_total=total.low, high_total=total.high)
    if few is not None:
        return row | {"reason": few, "verdict": "too few", "words": few}
    row |= {"p": tested.p, "p_total": total.p if total is not None else None}
    return row | _judged(tested, split, total, measured) | _against_margin(tested, other, measured)


def _over_all(
    measured: Measured, key: Key, other: Key, tested: Difference
) -> tuple[VarianceSplit | None, Difference | None]:
    """The difference over draws and runs too, where one of them was repeated; never surer than over patients alone."""
    trials = measured.trials(key), measured.trials(other)
    try:
        split = split_difference(*trials, LEVEL, tested.variance or 0.0)  # no less than DeLong's variance over patients
    except UndefinedError:
        return None, None
    if split.count_draws * split.count_runs == 1:
        return None, None  # one trial says nothing beyond the patients
    return split, Difference(tested.difference, *_widened(split, tested), max(split.p, tested.p))


def _widened(split: VarianceSplit, tested: Difference) -> tuple[float, float]:
    """The interval over all sources, no narrower than that over patients, which is made in another way."""
    return min(split.low, tested.low), max(split.high, tested.high)


def _by_bootstrap(measured: Measured, key: Key, other: Key) -> Record:
    """The difference, with the paper's interval and p: percentiles over resampled test patients."""
    row: Record = {}
    for name, words in MEASURES.items():
        ours, theirs = measured.trials(key, name), measured.trials(other, name)
        row[f"{words.prefix}difference"] = paired_replicates(ours, theirs)[0]
        try:
            result = paired_differences(ours, theirs, LEVEL)
        except UndefinedError as error:
            row["reason"] = f"no bootstrap interval: {error}"
            continue
        suffix = "_bootstrap" if name == "auroc" else ""  # its own low, high and p are over patients, by formula
        row |= {f"{words.prefix}low{suffix}": result.low, f"{words.prefix}high{suffix}": result.high}
        # No p at all with fewer than 10 patients of a class.
        if name == "auroc" and not too_few(measured.labels, measured.patients):
            row["p_bootstrap"] = result.p
    return row


def _over_patients(measured: Measured, key: Key, other: Key) -> Difference:
    draws = sorted({*measured.trials(key).draws} & {*measured.trials(other).draws}, key=str)
    if not draws:
        raise UndefinedError("the arms have no label subset in common")
    # Common subsets only: the others have no partner.
    scores = [measured.scores(cell, draws) for cell in (key, other)]  # type: ignore[arg-type]
    return clustered_paired(measured.labels, scores[0], scores[1], measured.patients, LEVEL)


def _judged(
    difference: Difference, split: VarianceSplit | None, total: Difference | None, measured: Measured
) -> Record:
    """Verdict and words, by the interval over most sources."""
    over, few = [SOURCES[0]], tuple[str, ...]()
    if split is not None:
        few = split.few
        # A source that was not repeated is not in the interval.
        over += [name for name, n in zip(SOURCES[1:], (split.count_draws, split.count_runs), strict=True) if n > 1]
    sentence = verdict(difference, measured.labels, measured.patients, total, over)
    row: Record = {"verdict": sentence.word, "words": " ".join([sentence.sentence, *few])}
    return row


def _against_margin(difference: Difference, other: Key, measured: Measured) -> Record:
    """The tests against `--margin`, in numbers and words, where there is one."""
    margin = measured.how.margin
    if margin is None:
        return {}
    try:
        low = quoted_auroc(measured.labels, measured.scores(other), measured.patients, LEVEL)["low"]
        block = margin_block(difference, margin, low, LEVEL)
    except UndefinedError as error:
        return {"margin": margin, "margin_words": f"Not judged: {error}."}
    tests = {f"p_{name}": block[name]["p"] for name in ("noninferior", "equivalent")}
    return {"margin": margin, "margin_words": f"{margin_words(block)}.", **tests}


def _why_not(measured: Measured, cells: Sequence[Key], error: UndefinedError) -> str:
    """Why two cells have no difference: what the first of them without a number says, else the error."""
    reasons = [measured.reason(cell) for cell in cells if not measured.members(cell)]
    return reasons[0] if reasons else str(error)


def variance_row(key: Key, other: Key, measured: Measured) -> Record:
    """A row of `variance.csv`: where the variance of one trial's difference comes from."""
    row = pair_names(key, other)
    try:
        tested = _over_patients(measured, key, other)
        split = split_difference(measured.trials(key), measured.trials(other), LEVEL, tested.variance or 0.0)
    except UndefinedError as error:
        return row | {"reason": _why_not(measured, (key, other), error)}
    names = (
        "patients", "draws", "runs", "draw_x_run", "patient_interactions", "standard_error", "count_draws",
        "count_runs",
    )  # fmt: skip
    row.update({name: getattr(split, name) for name in names})
    row["low"], row["high"] = _widened(split, tested)
    if split.count_draws * split.count_runs == 1:
        row["patient_interactions"] = None  # one trial cannot tell it from the patients
    row["df"] = split.df if np.isfinite(split.df) else None  # CSV has no infinity
    return row | {"difference": split.value, "words": " ".join(split.words)}


def saved_row(key: Key, other: Key, measured: Measured, fractions: Sequence[float]) -> Record:
    """A row of `labels_saved.csv`: the images that the other arm needs to reach what the arm reaches with its own."""
    row = pair_names(key, other)
    few = too_few(measured.labels, measured.patients, consequence="no saving of labels is computed")
    curve = [(*other[:3], fraction) for fraction in sorted(fractions)]
    curve = [cell for cell in curve if measured.members(cell)]  # a fraction without a number is no point of the curve
    if not measured.members(key) or few is not None or len(curve) < 2:
        short = f"arm {other[0]} has {len(curve)} fraction with a number, and a curve needs two"
        return row | {"reason": measured.reason(key) if not measured.members(key) else few or short}
    images = images_of(measured, key)
    points, replicates_FB = zip(*(measured.trials(cell).mean() for cell in curve), strict=True)
    value, replicates = measured.trials(key).mean()
    counts = [images_of(measured, cell) for cell in curve]
    row["train_images"] = images
    if value < NEAR_CHANCE or max(points) < NEAR_CHANCE:
        return row | {"reason": f"an AUROC below {NEAR_CHANCE:g}: near guessing there is no saving to speak of"}
    if (np.diff(counts) <= 0).any():
        return row | {"reason": "two fractions have as many training images: there is no curve between them"}
    try:
        saved = labels_saved(images, value, replicates, counts, points, np.stack(replicates_FB), LEVEL)
    except UndefinedError as error:
        return row | {"reason": str(error)}
    ends = {"reference_images": saved.needed, "low": saved.low, "high": saved.high}
    row.update({name: f"{end.count:.6g}" if end.side == "exactly" else str(end) for name, end in ends.items()})
    factors = {"factor": saved.needed, "factor_low": saved.low, "factor_high": saved.high}
    # A bound (at most N, more than N) gives no ratio.
    row.update({name: end.count / images for name, end in factors.items() if end.side == "exactly"})
    return row | {"words": saved.words}


def images_of(measured: Measured, key: Key) -> float:
    """Labels that a cell was made with, the mean over its draws: those it trained on and those that chose checkpoints."""
    records = [measured.done[i] for i in measured.members(key)]
    return float(np.mean([record["train_images"] + record["validation_images"] for record in records]))


def planning(key: Key, other: Key, measured: Measured, fractions: Sequence[float]) -> Record:
    """How many test patients like these show a difference of 0.03, from the variance found in a cell that tells it.

    That is the cell of `key`, or the next larger of the `fractions` where both arms are away from guessing.
    """
    empty = {"difference": WANTED, "power": 0.8, "patients": None}
    few = too_few(measured.labels, measured.patients, consequence="no number of patients is computed")
    if few is not None and measured.labels.size:  # without a trial the reason below says more
        return empty | {"words": few}
    pair = _telling(key, other, measured, fractions)
    if pair is None:
        return empty | {"words": f"No number of patients: at no share of the labels do both arms reach {GUESSING}."}
    lost = [measured.reason(cell) for cell in pair if not measured.members(cell)]
    try:
        if lost:
            raise UndefinedError(lost[0])
        tested = _over_patients(measured, *pair)
        plan = planning_block(tested.variance, measured.labels, measured.patients, WANTED)
    except UndefinedError as error:
        return empty | {"words": f"Undefined: {error}."}
    words = [f"{plan['words']} Label subsets and pretraining runs are assumed to be as many."]
    if pair[0] != key:
        words.append(
            f"Worked out at {100 * pair[0][3]:g} % of the labels, the least with which both arms reach {GUESSING}."
        )
    return empty | {"patients": plan["patients"], "words": " ".join(words)}


def _telling(key: Key, other: Key, measured: Measured, fractions: Sequence[float]) -> tuple[Key, Key] | None:
    """The cells of both arms to plan from; those of `key` where one of them has no number; None: all near guessing."""
    # With fewer labels arms are nearer to guessing.
    for fraction in sorted(share for share in fractions if share >= key[3]):
        pair = (*key[:3], fraction), (*other[:3], fraction)
        if not all(measured.members(cell) for cell in pair):
            if fraction == key[3]:
                return pair
        elif min(measured.trials(cell).mean()[0] for cell in pair) >= NEAR_CHANCE:
            return pair
    return None
