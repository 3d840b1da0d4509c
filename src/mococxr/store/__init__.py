"""Films decoded once: `prepare.run` makes a store out of a cohort, `Store` reads it.

The names are imported when they are first asked for: a decoding process needs neither, and starts faster.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mococxr.store.pixels import Level
    from mococxr.store.prepare import run
    from mococxr.store.reader import Store
    from mococxr.store.soon import Soon

_PLACES = {"Level": "pixels", "Soon": "soon", "Store": "reader", "run": "prepare"}

__all__ = ["Level", "Soon", "Store", "run"]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
