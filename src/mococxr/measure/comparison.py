"""A comparison in words: what is better, by how much, and over what, or why nothing is said; many comparisons at once;
margins; the patients that a next study needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mococxr import metrics
from mococxr.errors import UndefinedError
from mococxr.measure.measures import Block
from mococxr.metrics import Difference

SOURCES = ("test patients", "label subsets", "pretraining runs")
"""What a difference may vary by."""


@dataclass(frozen=True)
class Verdict:
    """`word`: better, worse, no difference shown, or too few; `p` is None where no test is made."""

    word: str
    sentence: str
    p: float | None


def verdict(
    result: Difference,
    labels: ArrayLike,
    patients: ArrayLike,
    wider: Difference | None = None,
    wider_over: Sequence[str] = SOURCES,
    sources: Sequence[str] = SOURCES,
) -> Verdict:
    """The sentence beside a difference of AUROC over test patients.

    Args:
        result: the difference with its interval and p over test patients.
        labels, patients: of the test rows, for the count of patients of each class.
        wider: the same over more sources, `wider_over`: where there is one, it gives word and p, since an interval over
            patients alone leaves 0 out in up to half of all studies without a difference (`docs/statistics.md`).
        sources: all that such a number varies by, of `SOURCES`: for two tables of scores the test patients alone.
    """
    few = metrics.too_few(labels, patients)  # before all else: a p from a few patients would be quoted
    if few is not None:
        return Verdict("too few", few, None)
    leading, covered = (result, SOURCES[:1]) if wider is None else (wider, wider_over)
    word = _word(leading)
    numbers = f"{result.difference:+.3f} ({leading.low:+.3f} to {leading.high:+.3f})"
    sentence = f"{word.capitalize()} over other {_listed(covered)}: {numbers}."
    if wider is not None:
        second = _word(result)
        alone = "the same" if second == word else second
        sentence += f" Over other {SOURCES[0]} alone: {alone} ({result.low:+.3f} to {result.high:+.3f})."
    if missing := [source for source in sources if source not in covered]:
        sentence += f" It says nothing about other {_listed(missing, 'or')}."
    return Verdict(word, sentence, leading.p)


def _word(result: Difference) -> str:
    return "better" if result.low > 0 else "worse" if result.high < 0 else "no difference shown"


def _listed(names: Sequence[str], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last


def adjust(rows: Sequence[Block], primary: Block | None = None) -> None:
    """Put `p_holm` and `p_bh` beside the leading p of each row (`p_total`, or else `p`), for all rows that have one.

    Args:
        primary: the row that was named in advance, one of the rows or not: its `p_holm` is its p, and the others are behind
            it (`metrics.gatekeeping`). None: Holm's over all rows.
    """
    leading = [np.nan if (p := leading_p(row)) is None else p for row in rows]
    # The primary is tested first, alone: it is none of the further ones.
    further = [np.nan if row is primary else p for row, p in zip(rows, leading, strict=True)]
    by_holm = metrics.holm(leading) if primary is None else metrics.gatekeeping(leading_p(primary), further)
    for name, adjusted in (("p_holm", by_holm), ("p_bh", metrics.benjamini_hochberg(leading))):  # p_bh: no gate
        for row, p in zip(rows, adjusted, strict=True):
            row[name] = None if np.isnan(p) else float(p)
            if name == "p_holm" and row is primary:
                row[name] = leading_p(row)


def leading_p(row: Block) -> float | None:
    """The p of the verdict: over all sources where there is one, else over patients."""
    return row.get("p") if row.get("p_total") is None else row["p_total"]


def margin_block(difference: Difference, margin: float, reference_low: float | None, level: float = 0.95) -> Block:
    """Non-inferiority and equivalence (two one-sided tests) of a difference against a margin fixed in advance.

    Args:
        reference_low: lower limit of the AUROC of what the difference is against.

    Raises:
        UndefinedError: the reference may be guessing, and not worse than a guess shows nothing (assay sensitivity, ICH
            E10).
    """
    if reference_low is None or reference_low <= 0.5:  # assay sensitivity (ICH E10, 1.5)
        raise UndefinedError("the reference is not shown to be better than chance, and the margin would show nothing")
    alpha = 1 - level
    # One-sided at 2.5 %: the lower end of the 95 % interval.
    inferior = metrics.non_inferior(difference, margin, alpha=alpha / 2)
    same = metrics.equivalent(difference, margin, alpha=alpha)  # two one-sided tests at 5 %: the 90 % interval
    return {"margin": margin, "noninferior": dataclasses.asdict(inferior), "equivalent": dataclasses.asdict(same)}


def margin_words(block: Block) -> str:
    """What is shown against the margin, each test with its p and the one-sided level that it is held against."""
    tests = (("Non-inferiority", block["noninferior"]), ("equivalence", block["equivalent"]))
    texts = (
        f"{name}: {test['conclusion']} (one-sided p {test['p']:.2g}, alpha {(1 - test['level']) / 2:.3g})"
        for name, test in tests
    )
    return "; ".join(texts)


def planning_block(variance: float | None, labels: NDArray, patients: NDArray, difference: float) -> Block:
    """Patients like these that a next paired study needs to see `difference`, from the variance measured on them.

    Raises:
        UndefinedError: there is no variance to plan with.
    """
    count, positives = np.unique(patients).size, int(np.unique(patients[labels == 1]).size)
    if not variance:
        raise UndefinedError("the difference has no variance to plan with")
    # Where every patient has a positive image, one counts as negative: the total does not depend on it.
    plan = metrics.patients_needed(variance, count, min(positives, count - 1), difference)
    words = f"{plan.words} It is assumed that they are like the {count:,} patients of this one."
    return {**dataclasses.asdict(plan), "words": words}
