"""One Open-i report in XML -> its number, its images and its MeSH headings; no other text leaves this file.

A report that declares a document type or an entity is refused before anything is expanded, and so is a large one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from xml.parsers import expat

from mococxr.errors import InputError

LARGEST = 1 << 20
"""Bytes; the largest real report has nine thousand."""
_NUMBER = "uId"
_IMAGE = "parentImage"
_HEADING = ["MeSH", "major"]


@dataclass
class Report:
    """What is taken from a report.

    Args:
        number: of the report, e.g. `CXR1`.
        images: the names of its images, without suffix.
        headings: as written, e.g. `Cardiomegaly/mild`.
    """

    number: str = ""
    images: list[str] = field(default_factory=list)
    headings: list[str] = field(default_factory=list)


class _Declared(Exception):
    """The file declares a document type."""


def read_report(path: Path) -> tuple[Report, bytes]:
    """Read one report; also returns the file's bytes, to be hashed.

    Raises:
        InputError: too large, not XML, with a document type, or without a number.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror}.", "Check its permissions.") from error
    if len(data) > LARGEST:
        raise InputError(
            f"{path} is larger than a report can be ({LARGEST:,} bytes).", "Restore or remove it."
        )
    report = Report()
    try:
        _parser(report).Parse(data, True)
    except _Declared as error:
        raise InputError(f"{path} declares a document type, which no report does.", "Remove it.") from error
    except (expat.ExpatError, ValueError, LookupError) as error:  # the last: an unknown coding
        raise InputError(f"{path} is not XML: {error}.", "Restore or remove it.") from error
    if not report.number:
        raise InputError(f"{path} is no report of Open-i: it has no uId.", "Give the folder of its reports.")
    return report, data


def _parser(report: Report) -> Any:
    """An expat parser that fills the report."""
    parser = expat.ParserCreate()
    open_tags: list[str] = []
    heading: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        open_tags.append(name)
        heading.clear()
        if name == _NUMBER and not report.number:
            report.number = attributes.get("id", "")
        elif name == _IMAGE and attributes.get("id"):
            report.images.append(attributes["id"])

    def end(_: str) -> None:
        if open_tags[-2:] == _HEADING:
            report.headings.append("".join(heading).strip())
        open_tags.pop()

    def text(part: str) -> None:
        if open_tags[-2:] == _HEADING:
            heading.append(part)

    def declared(*_: Any) -> None:
        raise _Declared

    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, text
    parser.StartDoctypeDeclHandler = declared
    return parser
