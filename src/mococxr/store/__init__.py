"""Films decoded once: `run` makes a store out of a cohort, `Store` reads it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mococxr.store.pixels import Level
from mococxr.store.reader import Store

if TYPE_CHECKING:
    from mococxr.config import PrepareSettings

__all__ = ["Level", "Store", "run"]


def run(settings: PrepareSettings) -> Store:
    """The command `prepare`: decode every film of the source once and write a store (see `store.prepare`)."""
    from mococxr.store.prepare import run as prepare

    return prepare(settings)
