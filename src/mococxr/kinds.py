"""What a folder or file is that a command made: each room declares how its own is recognised, in a `kind.py` of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

Content = Mapping[str, Any]


@dataclass(frozen=True)
class About:
    """What is known of one thing that a command made.

    Args:
        numbers: name -> number or words, the most telling first.
        made_from: the same of its sources.
        settings: those that made it, where they were kept.
        version: of mococxr.
        created: ISO 8601, UTC; None where nothing but the date of the file says it.
        next: the command that one would give now, with `{path}` for the folder.
    """

    numbers: Mapping[str, Any]
    made_from: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    version: str | None = None
    created: str | None = None
    next: str = ""


@dataclass(frozen=True)
class Kind:
    """One kind of folder or file.

    Args:
        name: what it is called.
        made_by: the command.
        marker: the JSON file in the folder by which it is known and which is written last; empty for the kind of a file.
        keys: that this JSON has.
        read: what is known, from the folder or file and the content of the marker.
        fits: for files: whether it is one.
        begun: a file by which one that is not finished is known.
    """

    name: str
    made_by: str
    marker: str
    keys: frozenset[str]
    read: Callable[[Path, Content], About]
    fits: Callable[[Path], bool] | None = None
    begun: str = ""

    def content(self, path: Path) -> Content | None:
        """The marker's content; None where the path is not of this kind."""
        if self.fits is not None:
            return {} if path.is_file() and self.fits(path) else None
        file = path / self.marker
        if not file.is_file():
            return None
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return content if isinstance(content, dict) and self.keys <= content.keys() else None


def columns_of(path: Path) -> list[str]:
    """The columns of a CSV file, by its first line; none of any other file."""
    if path.suffix != ".csv":
        return []
    with open(path, encoding="utf-8", errors="replace") as file:
        return file.readline().rstrip("\r\n").split(",")
