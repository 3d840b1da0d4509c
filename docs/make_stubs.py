"""Write src/mococxr/__init__.pyi, the signatures that editors and type checkers read, from the settings: `make docs`."""

from __future__ import annotations

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import mococxr
from mococxr import commands
from mococxr.settings import COMMANDS

STUB = Path(mococxr.__file__).with_suffix(".pyi")
HEAD = '''"""Written by docs/make_stubs.py from the settings; do not edit."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from mococxr.audit.inspect import Audit
from mococxr.classifier.saved import Model
from mococxr.encoders import Encoder
from mococxr.errors import ImageError as ImageError
from mococxr.errors import InputError as InputError
from mococxr.errors import RunError as RunError
from mococxr.errors import UndefinedError as UndefinedError
from mococxr.features import Features as Features
from mococxr.features import Images as Images
from mococxr.gateway.pacs import Outcome
from mococxr.monitoring.drift import Drifts
from mococxr.results import StudyResults
from mococxr.store import Store as Store

__version__: str

class Frame(Protocol):
    """A data frame of polars or pandas."""

    @property
    def columns(self) -> Any: ...

def read_image(
    source: str | PathLike[str] | bytes,
    *,
    depth: str = "full",
    voi: str | None = None,
    frames: str = "refuse",
    any_body_part: bool = False,
) -> NDArray[np.uint8]: ...
def load_encoder(
    source: str | PathLike[str], *, backbone: str | None = None, size: int | None = None, features: str = "last"
) -> Encoder: ...
def load_classifier(folder: str | PathLike[str]) -> Model: ...
def read_results(folder: str | PathLike[str]) -> StudyResults: ...
'''


def text_of(signature: inspect.Signature) -> str:
    """A signature as source text; its annotations are text already."""
    words = []
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and "*" not in words:
            words.append("*")
        default = parameter.default
        shown = repr(str(default) if isinstance(default, Path) else default)
        words.append(
            f"{parameter.name}: {parameter.annotation}" + ("" if default is parameter.empty else f" = {shown}")
        )
    return f"({', '.join(words)}) -> {signature.return_annotation}"


def _wrapped(line: str) -> str:
    indent = " " * (4 + len(line) - len(line.lstrip()))
    return textwrap.fill(line.strip(), 110, initial_indent=indent, subsequent_indent=f"{indent}    ")


def stub() -> str:
    """The text of the stub, laid out by ruff."""
    parts = [HEAD]
    for command in COMMANDS:
        function = getattr(mococxr, commands.PYTHON_NAMES.get(command, command))
        doc = "\n".join(map(_wrapped, function.__doc__.splitlines())).lstrip()
        parts.append(f'def {function.__name__}{text_of(inspect.signature(function))}:\n    """{doc}\n    """\n')
    ruff = [sys.executable, "-m", "ruff", "format", "--stdin-filename", str(STUB), "-"]
    return subprocess.run(ruff, input="".join(parts), capture_output=True, text=True, check=True).stdout


if __name__ == "__main__":
    STUB.write_text(stub(), encoding="utf-8")
