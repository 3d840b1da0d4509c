"""What `predict` says of the warnings of its images."""

from __future__ import annotations

from collections.abc import Sequence

from mococxr.classifier.saved import Verdict
from mococxr.guard.guard import REFUSED, WARNINGS

NAMED = 5
"""Rows that are named of each warning."""


def warning_words(verdicts: Sequence[Verdict], out: object, refuse: bool) -> list[str]:
    """How many images have a warning, how many of each kind, and in which rows."""
    rows: dict[str, list[int]] = {word: [] for word in WARNINGS}
    for number, (_, warnings) in enumerate(verdicts, 1):
        for word in warnings:
            rows[word].append(number)
    warned = sum(bool(warnings) for _, warnings in verdicts)
    if not warned:
        return []
    share = f"{warned:,} of {len(verdicts):,} images ({100 * warned / len(verdicts):.1f} %)"
    lines = [f"{share} have a warning, see the columns view and warning of {out}:"]
    for word, numbers in rows.items():
        if numbers:
            more = ", ..." if len(numbers) > NAMED else ""
            where = "row" if len(numbers) == 1 else "rows"
            lines.append(f"  {len(numbers):>7,}  {word} ({where} {', '.join(map(str, numbers[:NAMED]))}{more})")
    meant = sum(bool({*warnings} & {*REFUSED}) for _, warnings in verdicts)
    if meant and refuse:
        lines.append(f"Scores and decisions of {meant:,} of them are left blank (--refuse).")
    elif meant:
        lines.append(f"The scores of {meant:,} of them mean nothing: --refuse leaves them blank.")
    return lines
