"""What the page is made of below its first screen: sections that fold out, each with its answer in one line."""

from __future__ import annotations

from dataclasses import dataclass, field

from mococxr.reporting.figures import Picture
from mococxr.reporting.tables import Table

CLOSER, MADE, PAPER = "A closer look", "How it was made", "For a paper"
"""The groups of sections, in order."""


@dataclass(frozen=True)
class Part:
    """One part of a bar: `share` of its width in per cent, `text` its size in words, `look` its colour and hatching."""

    label: str
    share: float
    text: str
    look: int


@dataclass(frozen=True)
class Bar:
    """A whole and its parts. Parts that could not be measured have no share and say so in `missing`."""

    caption: str
    parts: list[Part]
    missing: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """A heading with its answer (`gist`), then whatever backs it. `folded` sections begin closed.

    Args:
        key: the anchor on the page.
        lines: points; facts: name and value; tables: caption and table; pages: title and text to paste.
    """

    key: str
    title: str
    lines: list[str] = field(default_factory=list)
    tables: list[tuple[str, Table]] = field(default_factory=list)
    code: str = ""
    folded: bool = True
    facts: list[tuple[str, str]] = field(default_factory=list)
    gist: str = ""
    group: str = MADE
    bars: list[Bar] = field(default_factory=list)
    figures: list[Picture] = field(default_factory=list)
    pages: list[tuple[str, str]] = field(default_factory=list)
