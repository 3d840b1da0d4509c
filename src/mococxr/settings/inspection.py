"""Settings of `inspect`: a look at a store before anything is trained on it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mococxr.settings.fields import setting


@dataclass(frozen=True, kw_only=True)
class InspectSettings:
    """Look a store over before training: unreadable, odd, copied and leaking images, labels, shortcuts.

    Exit status 3 where a finding needs attention, 0 where none does.
    """

    store: Path = setting("A store made by `prepare`.", positional=True)
    out: Path = setting("The page to write; NAME.json and flags.csv go beside it.")
    against: Path | None = setting(
        "A second store that should share no patient and no image with the first, e.g. the test set of another "
        "hospital.",
        None,
        group="Comparison",
    )
    thumbnails: int = setting(
        "Images shown of each finding; the rest is in the table.", 12, unit="images", group="Run"
    )
    jobs: int | None = setting("Processes that look at images.", None, shown="one a core", group="Run")
