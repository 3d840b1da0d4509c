"""Write constraints.txt, the versions in the environment that ran the tests: `make constraints`.

Only what a user of the package may install is in it, extras too, and not what tests and builds need.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OURS = {"test", "bench", "docs", "fuzz"}
"""Extras for work on the package, which are not pinned."""
HEAD = """\
# The versions with which the tests of this commit passed (Python {}, Linux): pip install -c constraints.txt '.[dicom]'
# Made by `make constraints` from .venv after `make setup`, `make test` and `make slow`; not by hand.
"""


def needed(name: str, extras: tuple[str, ...] = ()) -> dict[str, str]:
    """Distribution -> version of everything that a distribution needs here, itself left out."""
    versions: dict[str, str] = {}
    waiting = [(name, extras)]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            installed = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        versions[canonicalize_name(name)] = installed.version
        for line in installed.requires or ():
            requirement = Requirement(line)
            marker = requirement.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in ("", *extras)):
                waiting.append((canonicalize_name(requirement.name), tuple(sorted(requirement.extras))))
    return versions


def text() -> str:
    """The file's text."""
    extras = set(distribution("mococxr").metadata.get_all("Provides-Extra") or ()) - OURS
    versions = needed("mococxr", tuple(sorted(extras)))
    del versions["mococxr"]
    lines = [f"{name}=={version.partition('+')[0]}" for name, version in sorted(versions.items())]
    return HEAD.format(".".join(map(str, sys.version_info[:2]))) + "\n".join(lines) + "\n"


if __name__ == "__main__":
    (ROOT / "constraints.txt").write_text(text(), encoding="utf-8")
