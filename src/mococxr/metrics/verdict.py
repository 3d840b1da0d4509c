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
    wider: tuple[float, float] | None = None,
    wider_over: Sequence[str] = SOURCES,
    sources: Sequence[str] = SOURCES,
) -> Verdict:
    """The sentence that stands beside a difference of AUROC.

    Args:
        difference, low, high: with its interval.
        p: of the test; None where there is none.
        labels, patients: of the test rows, for the count of patients of each class.
        over: the sources of variance that the interval holds, of `SOURCES`; the others are named as missing.
        minimum: patients of each class below which no verdict is given and p is dropped.
        wider: a second interval, over more sources, `wider_over`; it makes no other verdict, but is said.
        sources: all that such a number varies by, of `SOURCES`: for two tables of scores the test patients alone.
    """
    few = too_few(labels, patients, minimum)
    if few is not None:
        return Verdict("too few", few, None)
    numbers = f"{difference:+.3f} ({low:+.3f} to {high:+.3f})"
    held = f"over other {_listed(over)}"
    told = {*over, *(wider_over if wider is not None else ())}
    missing = [source for source in sources if source not in told]
    rest = f" It says nothing about other {_listed(missing, 'or')}." if missing else ""
    word = _word(low, high)
    if wider is not None:
        rest = f" {_also(word, wider, wider_over)}{rest}"
    if word != "not shown":
        return Verdict(word, f"{word.capitalize()}, {held}: {numbers}.{rest}", p)
    return Verdict(word, f"No difference is shown {held}: {numbers}.{rest}", p)


def _word(low: float, high: float) -> str:
    return "higher" if low > 0 else "lower" if high < 0 else "not shown"


def _also(word: str, wider: tuple[float, float], over: Sequence[str]) -> str:
    """What the second interval says, beside the `word` of the first."""
    sources, ends = f"over other {_listed(over)}", f"({wider[0]:+.3f} to {wider[1]:+.3f})"
    second = _word(*wider)
    if second == word:
        return f"Nor {sources} {ends}." if word == "not shown" else f"So it is {sources} {ends}."
    return f"{'No difference is shown' if second == 'not shown' else second.capitalize()} {sources} {ends}."


def _listed(names: Sequence[str], word: str = "and") -> str:
    """`a`, `a and b`, `a, b and c`."""
    *first, last = names
    return f"{', '.join(first)} {word} {last}" if first else last
