"""Images decoded once: memory-mapped pixels, index, splits, manifest."""

from mococxr.store.levels import Level
from mococxr.store.reader import Store

__all__ = ["Level", "Store"]
