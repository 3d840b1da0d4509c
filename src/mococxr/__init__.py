"""MoCo-CXR: from a folder of chest images, most of them unlabelled, to a classifier that needs few labels.

Every command of the command line is a function here with the same name and settings:

    import mococxr

    mococxr.prepare("images", out="store")
    mococxr.pretrain("store", out="run")
    mococxr.study("store", target="TB", arm=["moco=run", "imagenet"], out="study")

`import` is a word of the language, so that command is `mococxr.import_checkpoint("moco-cxr", file, out="run")`.
Beside them stand `Store` (the images of a store), `load_encoder` (an encoder as a torch module), the errors.
Nothing heavy is imported before it is used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from mococxr import commands as _commands
from mococxr.errors import ImageError, InputError, RunError, UndefinedError
from mococxr.version import VERSION as __version__

if TYPE_CHECKING:
    from mococxr.encoders import load_encoder
    from mococxr.store import Store

_ALIASES = {"import_checkpoint": "import"}
"""Another name for a command whose own is a word of the language, so that it cannot be written after a dot."""
_OBJECTS = {"Store": "mococxr.store", "load_encoder": "mococxr.encoders"}

__all__ = [
    "ImageError",
    "InputError",
    "RunError",
    "Store",
    "UndefinedError",
    "__version__",
    "import_checkpoint",
    "load_encoder",
    *_commands.ENTRIES,
]


def __getattr__(name: str) -> Any:
    """A public name, imported when it is first asked for."""
    if name in _OBJECTS:
        return getattr(importlib.import_module(_OBJECTS[name]), name)
    if name in _ALIASES:
        return _commands.function(_ALIASES[name])
    if name not in _commands.ENTRIES:
        raise AttributeError(f"module 'mococxr' has no attribute {name!r}")
    return _commands.function(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
