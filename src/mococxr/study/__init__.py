"""The experiment: arms x modes x targets x label fractions x draws, one trial each, and what they show.

`plan` says which trials there are, `trial` does one, `executors` says where, `folder` keeps them, `results` and
`comparisons` turn predictions into cells and differences, `facts` writes down what the report must say about data
and arms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from mococxr.config import StudySettings

__all__ = ["run"]


def run(settings: StudySettings) -> Path:
    """The command `study` (see `study.command`): returns the path of the report."""
    from mococxr.study import command

    return command.run(settings)
