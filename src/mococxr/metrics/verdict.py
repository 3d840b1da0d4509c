"""A comparison in words: what is higher, by how much, and over what; or why nothing is said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from numpy.typing import ArrayLike

from mococxr.metrics.paired import TOO_FEW, too_few

SOURCES = ("test patients", "label draws", "pretraining runs")


@dataclass(frozen=True)
class Verdict:
    """`word`: higher, lower, not shown, or too few; `p` is None where no test is made."""

    word: str
    sentence: str
    p: float | None


def verdict(
    difference: float,
    low: float,
    high: float,
    p: float | None,
    labels: ArrayLike,
    patients: ArrayLike,
    over: Sequence[str] = SOURCES[:1],
    minimum: int = TOO_FEW,
) -> Verdict:
    """The sentence that stands beside a difference of AUROC.

    Args:
        difference, low, high: with its interval.
        p: of the test; None where there is none.
        labels, patients: of the test rows, for the count of patients of each class.
        over: the sources of variance that the interval holds, of `SOURCES`; the others are named as missing.
        minimum: patients of each class below which no verdict is given and p is dropped.
    """
    few = too_few(labels, patients, minimum)
    if few is not None:
        return Verdict("too few", few, None)
    numbers = f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"
    held = f"over other {' and '.join(over)}"
    missing = [source for source in SOURCES if source not in over]
    rest = f" It says nothing about other {' or '.join(missing)}." if missing else ""
    if low > 0 or high < 0:
        word = "higher" if low > 0 else "lower"
        return Verdict(word, f"{word.capitalize()}, {held}: {numbers}.{rest}", p)
    return Verdict("not shown", f"No difference is shown {held}: {numbers}.{rest}", p)
