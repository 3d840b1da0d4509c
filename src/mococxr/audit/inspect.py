"""The command `inspect`: a store looked over before anything is trained on it, as one page and two tables.

`pose`, `text` and `measure` look at images, `copies` compares them, `flags` says what is wrong, `counts` counts,
`page` lays out. Nothing here changes a store.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mococxr import console, files
from mococxr.errors import InputError
from mococxr.settings import InspectSettings
from mococxr.workers import cores

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Dossier", "run"]


@dataclass(frozen=True)
class Dossier:
    """What `inspect` found.

    Args:
        page: where the page lies; the facts lie beside it as JSON, the flags as `flags.csv`.
        facts: the content of the JSON file.
        flags: `row, path, patient, flag, reason, other`, a row for each flag of each image.
    """

    page: Path
    facts: dict[str, Any]
    flags: pl.DataFrame

    @property
    def exit_status(self) -> int:
        """3 where a finding needs attention, else 0."""
        return int(self.facts["exit_status"])


def run(settings: InspectSettings) -> Dossier:
    """Look at every image of a store, write the page, the facts and the flags, and say what was found.

    Raises:
        InputError: no store, the same store twice, a place that cannot be written to; nothing was written.
    """
    from mococxr.audit.facts import gather
    from mococxr.audit.page import to_html
    from mococxr.store import Store

    out = Path(os.path.abspath(settings.out))
    places = {"page": out, "facts": out.with_suffix(".json"), "flags": out.with_name("flags.csv")}
    _check(settings, places)
    store = Store.open(settings.store)
    other = Store.open(settings.against) if settings.against is not None else None
    if other is not None and other.sha256 == store.sha256:
        raise InputError("--against names the same store.", "Name another one, or leave it out.")
    found = gather(store, other, settings.jobs or cores())
    html = to_html(found, store, other, settings.thumbnails)
    files.write_csv(places["flags"], found.flags)
    files.write_json(places["facts"], found.facts)
    files.atomic_write(out, html)
    _say(found.facts)
    console.say(f"Page: {out}; every flag: {places['flags']}; the numbers: {places['facts']}")
    return Dossier(out, found.facts, found.flags)


def _check(settings: InspectSettings, places: dict[str, Path]) -> None:
    if places["page"] == places["facts"]:
        raise InputError(
            f"--out {settings.out} is the name of the JSON file.", "Name a page, e.g. dossier.html."
        )
    for place in places.values():
        files.check_place(place)


def _say(facts: dict[str, Any]) -> None:
    """The verdict and the findings, on standard output."""
    console.result(facts["verdict"])
    for one in facts["findings"]:
        mark = "!" if one["attention"] else " "
        console.result(f"{mark} {one['count']:>7,}  {one['flag']:<24} {one['what']}")
