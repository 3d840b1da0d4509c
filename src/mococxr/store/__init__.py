"""Images decoded once: memory-mapped pixels, index, splits, manifest."""

from mococxr.store.pixels import Level
from mococxr.store.reader import Store
from mococxr.store.soon import Soon

__all__ = ["Level", "Soon", "Store"]
