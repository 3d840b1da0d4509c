"""The command `prepare`."""

from __future__ import annotations

from mococxr.config import PrepareSettings
from mococxr.store.reader import Store


def run(settings: PrepareSettings) -> Store:
    """Decode every film of the source once and write a store."""
    raise NotImplementedError(settings)
