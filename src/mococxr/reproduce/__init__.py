"""The paper's experiments, cell by cell, beside its published numbers (arXiv 2010.05352).

`cells` says what the paper has, `work` what is to be done of it, `data` reads tables and makes draws, `timing` and
`plan` say what it costs, `stages` does it by ordinary commands, `record` keeps `reproduce.json`, `page` shows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mococxr.config import ReproduceSettings

__all__ = ["run"]


def run(settings: ReproduceSettings) -> Path:
    """The command `reproduce` (see `reproduce.command`): returns the path of the page."""
    from mococxr.reproduce import command

    return command.run(settings)
